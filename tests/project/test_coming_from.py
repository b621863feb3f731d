"""The pages for people who come from another library: what they show of it is what it prints.

`test_readme.py` runs our blocks. The blocks of a library that may be absent are directives (`{code-block} python`), and
run here where it is installed. So do the pairs of calls in tables that no block shows.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import crossent
from arrays import Array
from crossent import _cli as cli
from test_readme import COMING_FROM, ROOT, differences

FOLDER = ROOT / "docs" / "coming_from"
LLAMA = ROOT / "tests" / "io" / "data" / "llama"
THERE = re.compile(r"^```\{code-block\} python\n.*?^```\n\n(?:```text\n.*?^```\n)?", re.DOTALL | re.MULTILINE)


def _page(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def test_every_page_is_in_the_index() -> None:
    names = {page.stem for page in COMING_FROM} - {"index"}
    toctree = _page("index").partition("{toctree}")[2].split()
    assert len(names) >= 6
    assert names <= set(toctree)
    assert all(f"({name}.md)" in _page("index") for name in names)


# ---- libraries that may be absent -----------------------------------------------------------------------


@pytest.mark.parametrize("library", ["optax", "torchmetrics"])
def test_the_library_prints_what_its_page_says(library: str, tmp_path: Path) -> None:
    pytest.importorskip(library)
    found = THERE.findall(_page(library))
    assert len(found) >= 5
    blocks = "\n".join(block.replace("```{code-block} python", "```python") for block in found)
    wrong = differences(library, blocks, tmp_path)
    assert not wrong, "\n".join(wrong)


def _close(theirs: Any, ours: Any, rtol: float = 1e-6) -> None:
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=rtol, atol=rtol)


@pytest.fixture
def rows() -> tuple[Array, Array, Array]:
    """Logits of 6 rows and 4 classes, their probabilities, and targets."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 4)).astype(np.float32)
    return x, crossent.softmax(x), rng.integers(4, size=6)


def test_other_calls_of_jax_and_optax(rows: tuple[Array, Array, Array]) -> None:
    jax, losses = pytest.importorskip("jax"), pytest.importorskip("optax.losses")
    x, p, t = rows
    b = np.array([1, -2, 0, 3], np.float32)
    _close(jax.nn.softmax(x), crossent.softmax(x))
    _close(jax.nn.log_softmax(x), crossent.log_softmax(x))
    theirs, ours = (
        f(x, axis=1, b=b, keepdims=True, return_sign=True) for f in (jax.nn.logsumexp, crossent.logsumexp)
    )
    _close(theirs[0], ours[0])
    _close(theirs[1], ours[1])
    _close(jax.nn.log_sigmoid(x), crossent.log_sigmoid(x))
    _close(jax.nn.softplus(x), -crossent.log_sigmoid(-x))
    _close(
        losses.softmax_cross_entropy_with_integer_labels(x.T, t, axis=0),
        crossent.cross_entropy(x.T, t, axis=0, reduction="none"),
    )
    flat = losses.softmax_cross_entropy_with_integer_labels(x.reshape(2, 3, 4), t[:2], axis=(1, 2))
    _close(flat, crossent.cross_entropy(x.reshape(2, 12), t[:2], reduction="none"))
    _close(losses.safe_softmax_cross_entropy(x, p), crossent.cross_entropy(x, p, reduction="none"))
    log_q = crossent.log_softmax(-x)
    _close(losses.kl_divergence(log_q, p).mean(), crossent.kl_div(log_q, p, reduction="batchmean"))
    upstream = np.linspace(0, 1, 6, dtype=np.float32)
    _, pull = jax.vjp(lambda x: losses.softmax_cross_entropy_with_integer_labels(x, t), x)
    _close(
        pull(upstream)[0],
        crossent.cross_entropy_and_grad(x, t, reduction="none", grad_output=upstream)[1],
    )
    labels = np.broadcast_to(np.ones(4, np.float32), x.shape)
    _close(
        losses.sigmoid_binary_cross_entropy(x, jax.numpy.ones(4)),
        crossent.binary_cross_entropy_with_logits(x, labels, reduction="none"),
    )


def test_other_calls_of_torchmetrics(rows: tuple[Array, Array, Array]) -> None:
    torch, torchmetrics = pytest.importorskip("torch"), pytest.importorskip("torchmetrics")
    classification, text = torchmetrics.classification, torchmetrics.text
    x, _, t = rows
    t[t == 0] = 1
    x[2] = [3, 0, 0, 0]  # so that class 0 is predicted, and never a target
    for average in ("micro", "macro"):
        metrics = [classification.MulticlassAccuracy(4, average=average) for _ in range(2)]
        for metric, part in zip(metrics, (slice(0, 2), slice(2, 6)), strict=True):
            metric.update(torch.tensor(x[part]), torch.tensor(t[part]))
        metrics[0].merge_state(metrics[1])
        scores = crossent.score(x, t)
        recall = np.nan_to_num(scores.by_class().recall)
        ours = scores.accuracy if average == "micro" else recall.mean()
        _close(metrics[0].compute(), ours)
    z, second = x[:, 0], (t > 1).astype(int)
    _close(
        classification.BinaryAccuracy()(torch.tensor(z), torch.tensor(second)),
        crossent.score(np.stack([0 * z, z], axis=1), second).accuracy,
    )
    mean = torchmetrics.MeanMetric()
    mean.update(torch.nn.functional.cross_entropy(torch.tensor(x), torch.tensor(t), reduction="none"))
    _close(mean.compute(), crossent.score(x, t).mean)

    # What the page says of differences: bins, logits in [0, 1], probabilities that do not add up to 1.
    p = np.array([[0.5, 0.25, 0.25]] * 4, np.float32)  # 0.5 is an edge of ten bins
    scorer = crossent.Scorer(bins=10)
    scorer.update(p, [0, 0, 1, 0], values="probs")
    assert [at for at, b in enumerate(scorer.result().calibration_bins) if b.count] == [4]
    low = np.array([[0.9, 0.2], [0.1, 0.6]], np.float32)
    as_probabilities = classification.MulticlassCalibrationError(2)(torch.tensor(low), torch.tensor([0, 1]))
    _close(as_probabilities, 0.25)  # the mean of 1 - 0.9 and 1 - 0.6
    with pytest.warns(crossent.LikelyMistakeWarning):
        halved = crossent.compare(p / 2, p[:, ::-1], values="probs").kl_mean
    theirs = torchmetrics.KLDivergence()(torch.tensor(p / 2), torch.tensor(p[:, ::-1].copy()))
    _close(theirs, halved)
    with pytest.raises(IndexError):
        text.Perplexity()(torch.tensor(x[None]), torch.tensor(np.full((1, 6), -100)))


# ---- torch, SciPy, scikit-learn -------------------------------------------------------------------------


def test_other_calls_of_torch(rows: tuple[Array, Array, Array]) -> None:
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x, p, t = (torch.from_numpy(a) for a in rows)
    yes = (p > 0.3).float()
    _close(functional.multilabel_soft_margin_loss(x, yes), crossent.binary_cross_entropy_with_logits(x, yes))
    y = x.reshape(2, 3, 4)
    _close(functional.softmax(y.flatten(1), dim=1).view_as(y), crossent.softmax(y, axis=(1, 2)))
    _close(torch.logsumexp(x, dim=(0, 1)), crossent.logsumexp(x))
    _close(functional.logsigmoid(x), crossent.log_sigmoid(x))
    for theirs, ours in (
        (torch.nn.NLLLoss(), crossent.NLLLoss()),
        (torch.nn.Softmax(dim=1), crossent.Softmax(axis=1)),
        (torch.nn.LogSoftmax(dim=0), crossent.LogSoftmax(axis=0)),
    ):
        arguments = (torch.log(p), t) if isinstance(ours, crossent.NLLLoss) else (x,)
        _close(theirs(*arguments), ours(*arguments))
    _close(torch.nn.BCELoss()(p, yes), crossent.BCELoss()(p, yes))
    top = torch.log_softmax(x, 1).topk(2)
    scores = crossent.score(x, t, top_k=2)
    _close(top.values, scores.top_log_probs)
    _close(top.indices, scores.top_ids)
    if hasattr(functional, "linear_cross_entropy"):  # new in torch 2.13
        h, w = x[:, :3], torch.from_numpy(rows[1][:5, :3].copy())
        _close(functional.linear_cross_entropy(h, w, t), crossent.linear_cross_entropy(h, w, t))


def test_other_calls_of_scipy() -> None:
    special, stats = pytest.importorskip("scipy.special"), pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    p = crossent.softmax(rng.normal(size=(5, 3)))
    q = crossent.softmax(rng.normal(size=(5, 3)))
    x, t, zeros = rng.normal(size=(5, 3)), rng.random((5, 3)), np.zeros(5, int)
    _close(special.rel_entr(p, q).sum(1).mean(), crossent.kl_div(np.log(q), p, reduction="batchmean"), 1e-13)
    _close(special.expit(x), np.exp(crossent.log_sigmoid(x)), 1e-13)
    _close(special.entr(p).sum(1), crossent.score(p, zeros, values="probs").entropy, 1e-13)
    _close(
        special.xlogy(t, p) + special.xlog1py(1 - t, -p),
        -crossent.binary_cross_entropy(p, t, reduction="none", clamp=None),
        1e-13,
    )
    # What the page says of differences.
    single = np.zeros(3, np.float32)
    assert special.logsumexp(single, b=np.ones(3)).dtype == np.float64
    assert crossent.logsumexp(single, b=np.ones(3)).dtype == np.float32
    assert special.softmax(np.arange(3)).dtype == np.float64
    with pytest.raises(TypeError):
        crossent.softmax(np.arange(3))
    with np.errstate(all="ignore"):
        infinite = np.array([np.inf, 0.0])
        np.testing.assert_array_equal(special.log_softmax(infinite), [np.nan, -np.inf])
        np.testing.assert_array_equal(crossent.log_softmax(infinite), [np.nan, np.nan])
        if np.lib.NumpyVersion(pytest.importorskip("scipy").__version__) >= "1.15.0":
            assert np.isnan(special.logsumexp([-np.inf, np.inf], b=[1, 0]))
        assert crossent.logsumexp([-np.inf, np.inf], b=[1, 0]) == -np.inf
    assert crossent.logsumexp(np.zeros((2, 0)), axis=1, return_sign=True)[1].tolist() == [0, 0]
    counts = np.array([[1.0, 3.0]])
    _close(stats.entropy(counts, axis=1), crossent.score(counts / 4, [0], values="probs").entropy)


def test_other_calls_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    extmath, special = pytest.importorskip("sklearn.utils.extmath"), pytest.importorskip("scipy.special")
    rng = np.random.default_rng(0)
    z, t = rng.normal(size=(50, 3)), rng.integers(3, size=50)
    _close(extmath.softmax(z), crossent.softmax(z), 1e-13)
    recall = crossent.score(z, t).by_class().recall
    _close(metrics.recall_score(t, z.argmax(1), average=None), recall, 1e-13)
    rate, n = np.exp(z[:, 0]), rng.poisson(2, size=50)
    ours = 2 * crossent.poisson_nll_loss(rate, n, log_input=False, eps=0)
    _close(metrics.mean_poisson_deviance(n, rate), ours + 2 * np.mean(special.xlogy(n, n) - n), 1e-12)
    weights = 1 + np.arange(50) % 3
    _close(
        metrics.log_loss(t, crossent.softmax(z), sample_weight=weights),
        np.average(crossent.score(z, t).nll, weights=weights),
        1e-12,
    )
    # What the page says of ties: which of three classes is found in a row of equal numbers.
    equal = np.zeros((1, 3))
    theirs = [metrics.top_k_accuracy_score([c], equal, k=1, labels=[0, 1, 2]) for c in range(3)]
    assert theirs == [0, 0, 1]
    assert [crossent.score(equal, [c]).accuracy for c in range(3)] == [1, 0, 0]


# ---- llama.cpp ------------------------------------------------------------------------------------------

FIGURE = re.compile(r"`([^`]+)`")


def test_the_table_of_llama_cpp_names_each_figure(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", str(LLAMA / "plain-p.kld"), str(LLAMA / "plain-q.kld"), "--json"]) == 0
    ours: dict[str, Any] = json.loads(capsys.readouterr().out)
    printed = {}
    for line in (LLAMA / "plain.table.txt").read_text(encoding="utf-8").splitlines():
        match = re.fullmatch(r"(.+?)\s*: +(-?[\d.]+)(?: ±\s+([\d.]+))?( ?%)?", line)
        if match:
            printed[" ".join(match[1].split())] = (float(match[2]), float(match[3] or "nan"), bool(match[4]))

    table = _page("llama_cpp").partition("## Each figure of the table")[2].partition("\n\n`0.1% KLD`")[0]
    checked = set()
    for line in table.splitlines():
        if not line.startswith("| `") or "--kl-divergence" in line:
            continue
        names, cell = line.strip("|").split("|")
        field = FIGURE.findall(cell)[0]
        error = {"kl_mean": "kl"}.get(field, field) + "_standard_error"
        for name in FIGURE.findall(names):
            value, uncertainty, per_cent = printed[name]
            assert per_cent == ("in %" in names), name
            scale = 100.0 if per_cent else 1.0
            found = _figure(field, name, ours)
            assert scale * found == pytest.approx(value, rel=2e-4, abs=2e-4 * scale), name
            assert ("±" in names or "nll" in field) == (not math.isnan(uncertainty)), name
            if "±" in names:
                assert scale * ours[error] == pytest.approx(uncertainty, rel=1e-2, abs=1e-5 * scale), name
            checked.add(name)
    assert set(printed) - checked == {"0.1% KLD"}


def _figure(field: str, name: str, figures: dict[str, Any]) -> float:
    functions: dict[str, Callable[[str], float]] = {"exp": lambda inner: math.exp(figures[inner])}
    if match := re.fullmatch(r"(\w+)\((\w+)\)", field):
        return functions[match[1]](match[2])
    if match := re.fullmatch(r"(\w+)\[(\d+)\]", field):
        return float(figures[match[1]][match[2]])
    value = figures[field]
    return float(value[f"{float(name.split('%')[0]):g}"] if isinstance(value, dict) else value)


def test_the_uncertainty_of_a_perplexity_is_that_of_llama_cpp(capsys: pytest.CaptureFixture[str]) -> None:
    for model, name in (("p", "Mean PPL(base)"), ("q", "Mean PPL(Q)")):
        assert cli.main(["score", str(LLAMA / f"plain-{model}.kld"), "--json"]) == 0
        ours = json.loads(capsys.readouterr().out)
        table = (LLAMA / "plain.table.txt").read_text(encoding="utf-8")
        match = re.search(rf"^{re.escape(name)} +: +([\d.]+) ± +([\d.]+)$", table, re.MULTILINE)
        assert match is not None
        assert ours["perplexity"] == pytest.approx(float(match[1]), rel=2e-4)
        assert ours["perplexity"] * ours["standard_error"] == pytest.approx(float(match[2]), rel=1e-3)
