"""Pickles that name the modules of 0.1.0 can be read: of every public class and function, and of objects with state."""

from __future__ import annotations

import base64
import importlib
import json
import pickle
import warnings
import zlib
from typing import Any

import numpy as np
import pytest

import crossent

# By the module that each name was in.
NAMES = {
    "comparing": "Comparer Comparison compare",
    "distribution": "LossHistogram PositionGroup",
    "exceptions": "LikelyMistakeWarning",
    "gradients": "cross_entropy_and_grad nll_loss_and_grad",
    "losses": "cross_entropy nll_loss",
    "metrics": "log_loss",
    "modules": "BCELoss BCEWithLogitsLoss CrossEntropyLoss LogSoftmax NLLLoss Softmax",
    "pointwise": "binary_cross_entropy binary_cross_entropy_and_grad binary_cross_entropy_with_logits "
    "binary_cross_entropy_with_logits_and_grad gaussian_nll_loss kl_div kl_div_and_grad poisson_nll_loss",
    "report": "CalibrationBin Report Scorer",
    "rows": "log_sigmoid log_softmax logsumexp softmax",
    "scoring": "Scores SequenceScores score",
    "settings": "get_num_threads set_num_threads show_versions",
    "temperature": "Temperature fit_temperature",
}

# What pickle.dumps(objects, 4) gave before the classes moved, for the objects that `made` makes; compressed.
PICKLED = (
    "eNrtWn+MFFcd373ft3A/Kr8qQjyPmkAsMDO7O7Mj7e2VExZYuJA7jl4hZPtm5s3tcLs7y8wsd0dL2qaBluaFikxrMNWo0bZpNRGNRqo9aI1J"
    "ra25GGkaahSLNCRSi2LEag1+38zs7N7dbg//M97OXm5nvu/7/c57n/f9ft/3+94+3PDU60zAuQ7bq0mTKesGNmzSIhW0jKXlTJs0j2ALWZZh"
    "n7RJh2zopolz1joD53XDsknToCsBja2qoWdT+009Zx+1B+zhOzoDgQe6Vd3IIqv7813dvqwr0sV139nVrY3k4CGl5RQ8DkxrWYYBqqXnU6Pw"
    "uJe9s4vbBwRDHzPhOQK3sl7IUX1h594wsEyfOFeKynCeTE7PqVpOszAQqVJVM0wrVU7NFTIZypjJULluZhzLmIuxKieyLI5Emfl9wfQw7t8+"
    "F6SUeaCADKx4YHGCwgjRKBsBvIBdVBGKxCIix8aUcGSeowVmbuj5CQ8pgZMVUWBYHFV5hquZVRlQ4L5a3tBllEkZKDfqASZGy68aYGWAeT6Y"
    "woahG0X7QgqLeFFREOYZVq7BVYJLgjWMorTXpVG0yjmA5WNaYPVh3RYOieEIVriYioV5ji8zEyXOR4nHMUlRVFVmoipTQ6mEErXEAiQdpuew"
    "7Ly3oeoem9ZMSx8xULbMbf0/dvrjnPT588fu8/DL66ZmaboX9jzPZBHLh4WIhMNyjK9lIGX2RtFBiGMjKKwoDB/mMKMwsigiMcrybC24uwgp"
    "nCxHEOKREo3icM1+ptsPJ3B8NMIILBuNibIiYcj2McIxWRC4eV0JOQufnEFQ95teyX4QZQrOQ3dGH6Er4mH7iD1gkxZZz+YR3UpIN5BP+HsF"
    "LlXLjQBHX5HjpJ1ucbYYhPYqWwxF1o/bZKiyp2CiLE65WwnOYyHrRlKaZwuywHOyyIhcTJFrPlDuA5jhJByJ8bGIJDGSzMmSFBUENapGIvMc"
    "GV7go+EojomKKgs1q5mGDSuhGCNiReIVWIBr2PgLb7eFjBFs+aHH2ZnkGE7hI5ISjtUW4BkLsLMVyUmqElZkUWIFhuUiYRzlhVi0Bg+WmFiY"
    "wbzKSGxMqhnPTONhYywSwuEIE0NCFIm8CPUAy3BQK9WMB+ARwgpiYliKYC4iR2UByiOGVzAv1uCBFQyiDsfwUSGC5drO63RsBIbhUZTjFIEX"
    "uRowJWDkCCtEOIREenKm8GGZlWKqhBR2XmLiHJghOU0ruHtKV3hwNDnB7dws7hwrEWk5p2iqig2ck906stT4hXuELQOZrX3W7pki1arOJu8c"
    "O91Imgbc25P2mkdsehje6FSFdrKeNLsFpGIng6TZOQgtZO1Eb9szO3sGVv2CNGQxytmJ+PWXn/gN/+pR0m5aKKcgwzukgZY/D2y4P/7lcRLK"
    "YyOfweOaNQHyCybWnlryVY0sKlGhRrWwAb0FoT+sbvlVfvPPE73Rm1v+mldHjtqkXYK+p4AdCtRRTN/50aEfZ9ePnyBtfgvdZ4aGKxqz7+mR"
    "YdLo7DvD21a4x/ykBclywUAy9CB+eci5SLtz4J7yW2D4yaDfnKzzbwtkIR1syjvfBBWXuvvOPzv4Ilns0Gcc59F+XDoeu3RcJMvxeB7LFlZS"
    "0KhJBqJ7lD5Abz2//sxLvx4lneWN9OzGXg1T095Xom7Ucu4U7bNXJwLelYhPuTfJQOKhf3i04g2W0us9/iJbIn7x1vgvFvmvePwUla3PaYnr"
    "FxPxa7P5rxT5vTYK3Z++eeOha8vO+cqwZNlkgWRoMFnO7y1g/H8c36x/64EXSav/8wQ7GSAdM36yYPeT9oxumil/j9wmS/w9DwWIhiYVKEo2"
    "adsO5C0+XxGy1cmA/wmW3Vd6/l/+BMEx4RtLpKO44Z0aMfRC3rTTd5O2nR4tQUn+4F3JRPzCUiF56TWpfMY3eRxB+MCc/fO+Y7vOv/DTRPzG"
    "N96++O33dmEJvK/Z28mCkFCQvN/KmDbYbHEGKMXZqnJ/FWOWYkk9RA2bLM0VsvmJdSnauC5byFgaMgw0YZOF1HH0HMxfQaYRiDQ6nPBKGkco"
    "y0kY7hG7LyjZj0Hcov1sOGKnd5NGxZrIYypSp0bsY4+7rfUkeJfd39+/7SZczr9kwLKlY32dL52e6jn2fqKXDnvl1bU9NpBJKwRFCGngoXZ6"
    "KD1M35TeU/4eKiksXd5blHz1d6FeR7K5GAiqy11cNhRPTv2+h8rt5pvijlwoD+FUkx1TrSyaInVarDSgtFxpOF3FAFDnfd/0ruKz87IGJxRV"
    "fs2DoCToMdcHpl/BciXNzmoAa0DV7kpsOf4PVsS/IRgMBIv6nN8uVdF3nPIGirw0PGuKWYk3GTzqjuKWoGijmmC2UxCkper6PEuZ/NTpf7/s"
    "WcoklQezbzXxgYKz9trpHaR90HuaafDt9CUZbRRntLSuV0KtzkVNnXOSO6EDvcLSC2fhe8+x+0LnaE/SK6pqnNtsOoMzsHK9QDMhhGCsTFTv"
    "bfkcp5+spLsu6GqrrzxfVM+kO6ZZNgbo1sOaZ/+3ywlpLa0H6fj/a5xvdMK77UfqqrGchLxDA/pLxHQHCfWVHov2mV4B87eSpnOjmZSXvsl/"
    "/+LBt377WXIbkGZlcMXGdmiELEuGuKdlwODdTKk4m8nG0m2odMuVbvck4mN/++7e9Ib7k6lE/ND1vqbzG3+ZlBPxw8OPPfnhlp8keoc/PAXX"
    "V4Dy7qOv5ZixAmmifQS78LW4FDQO/Tr8l7e/v3GbQFqKxxa2byxkWZE2azi+og4DH8SGiVMlGNCGxz9avussWbQf52BVS5lplIMMpNi8Md/0"
    "tYlLy0gLzYNLie/5E+88R9p1Kw1JTXnL0w2Les4cJIudmFNKc51czk6cffRnaM2J24fIqkrts2ehyN45W1X8g9ODU0dW/ot8+hbUfOn1p3q+"
    "00GWlLGWigro1tfffWPqnesBckdFhtkKv6fcbT5yQSTerq0TXZGkZaickxeXa4/fJT782OYTAcLOzT37Va5wkHymgrCRNae/acuBscs7flhP"
    "mDmZZ78o5sg2kDUVZMvkZjhDIn7mlGu/vsnP6R6frOgpyUR80+e6sHX1HHWanR/sWHlj1ZvUaQbb+Fd+1JKgTrNrcnLsyvDzZU4z1LX1zR+8"
    "MFmoiE9Zt6f701zMjqsNub0hC5yVO+NUI9Tubt7c/97VVyB4L7BwFuBAVgFyerLYTwunkRfsKnvyl8tpoonexstvPKtNvU9C1JUkrLpFQtHN"
    "WikVqVAoUmdfcWb5odRuGtBICGoEt0qCHLUJetTm9MGv1spS1ayuFDJO9tpHSZtcDlozlDrVNIa1kXSlDKX+Vtfu212Ar8U9pHvdrxY3e1xY"
    "fjBrb3sG5EgrJIYFNzH0CmvSkUEShpic1SG+0Pzar+NIAxrXTCiLvDS4ny6hNNXe3woLK2nu37698pD653x3Pa3xK+qXwLU8/Rv7NlXTX2Ec"
    "jVA/ZPPTtYVAW8rdk/CU3gZK79Ws9HaHWE19CKqeVNX5Cd7q/LRMm49KfS51tdnUVYu6gjf4Qe/R652HVTJggifQcD6dPQTjqSzh9AeEmseQ"
    "kXPKp0W+meJxGeddgyaLt9N0cmIH5DpoFN/rMUPl0wKrTpeFxy1nT6ew7j+t4rYg"
)


def made() -> dict[str, Any]:
    """Make the objects of the pickle."""
    x = np.array([[2.0, 1.0, 0.0], [0.5, 0.0, 3.0], [1.0, 1.0, 1.0], [0.0, -1.0, 2.0]], np.float32)
    t = np.array([0, 1, -100, 2])
    scorer = crossent.Scorer(top_k=(1, 2), bins=4, by_position=True)
    scorer.update(x.reshape(2, 2, 3), t.reshape(2, 2), units=[[1, 2], [3, 4]])
    comparer = crossent.Comparer()
    comparer.update(x, x.round(0), t)
    report, scores = scorer.result(), crossent.score(x, t, top_k=1)
    return {
        "scorer": scorer,
        "comparer": comparer,
        "report": report,
        "scores": scores,
        "sequences": scores.by_sequence(lengths=[1, 3]),
        "bin": report.calibration_bins[-1],
        "histogram": report.loss_histogram,
        "group": report.position_groups[0],
        "comparison": comparer.result(),
        "temperature": crossent.fit_temperature(x, t),
        "cross_entropy": crossent.CrossEntropyLoss([1.0, 2.0, 3.0], label_smoothing=0.25),
        "nll": crossent.NLLLoss(reduction="sum"),
        "bce": crossent.BCELoss(clamp=None),
        "bce_logits": crossent.BCEWithLogitsLoss(pos_weight=[3.0]),
        "softmax": crossent.Softmax(0),
        "log_softmax": crossent.LogSoftmax(),
        "warning": crossent.LikelyMistakeWarning("the text"),
    }


def test_every_public_name_is_found_by_the_module_it_was_in() -> None:
    found = set()
    for module, names in NAMES.items():
        for name in names.split():
            # A pickle of protocol 0 that holds a global name and nothing else.
            assert pickle.loads(f"ccrossent.{module}\n{name}\n.".encode()) is getattr(crossent, name)
            found.add(name)
    # Those added since have never been in another module.
    added = {
        "ClassScores",
        "FocalLoss",
        "PolyLoss",
        "LinearGradients",
        "LinearLogits",
        "NothingCountedWarning",
    } | {
        "kl_div_topk",
        "kl_div_topk_and_grad",
        "focal_loss",
        "focal_loss_and_grad",
        "linear_cross_entropy",
        "linear_cross_entropy_and_grad",
        "poly_loss",
        "poly_loss_and_grad",
    }
    added |= {"sigmoid_focal_loss", "sigmoid_focal_loss_and_grad"}
    assert found >= set(crossent.__all__) - added - {"__version__"}


@pytest.mark.skipif(np.__version__.startswith("1."), reason="NumPy 2 wrote the arrays, and names its modules")
def test_objects_are_read_as_they_were_written() -> None:
    data = zlib.decompress(base64.b64decode(PICKLED))
    assert b"crossent.report" in data
    assert b"crossent.modules" in data
    objects, expected = pickle.loads(data), made()
    assert list(objects) == list(expected)
    for name, thing in objects.items():
        assert type(thing) is type(expected[name]), name
        assert repr(thing) == repr(expected[name]), name
        assert b"crossent\n" in pickle.dumps(thing, 0)
        if hasattr(thing, "to_json"):
            # The last places of sums are those of the version that wrote them.
            text = thing.to_json()
            assert type(thing).from_json(text).to_json() == text
            assert json.loads(text).keys() == json.loads(expected[name].to_json()).keys()
    with pytest.raises(ValueError, match="read-only"):
        objects["cross_entropy"].weight[0] = 5.0


@pytest.mark.parametrize("module", ["crossent.exceptions", "crossent"])
def test_warning_filters_may_use_either_name(module: str) -> None:
    category = importlib.import_module(module).LikelyMistakeWarning
    with warnings.catch_warnings():
        warnings.simplefilter("error", category)
        with pytest.raises(crossent.LikelyMistakeWarning):
            crossent.cross_entropy([[0.5, 0.5]], [0])


def test_an_old_module_has_its_names_only() -> None:
    report = importlib.import_module("crossent.report")
    assert report.Scorer is crossent.Scorer
    assert not hasattr(report, "softmax")
    assert not hasattr(crossent, "report")
