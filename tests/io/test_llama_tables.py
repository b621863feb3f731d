"""llama.cpp's own table of two of its files, against ours of the same files."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import crossent
from crossent import _cli as cli
from crossent._io import log_blocks, open_logits

DATA = Path(__file__).parent / "data" / "llama"
# log-probabilities are stored in steps of 2.4e-4, and the table has six digits.
STORED = 2e-4

Capture = pytest.CaptureFixture[str]


def _theirs(pair: str) -> dict[str, tuple[float, float]]:
    """The numbers of the table by their names, with their errors."""
    found = {}
    for line in (DATA / f"{pair}.table.txt").read_text(encoding="utf-8").splitlines():
        match = re.fullmatch(r"(.+?)\s*: +(-?[\d.]+)( ±\s+([\d.]+))?( ?%)?", line)
        if match:
            scale = 100.0 if match[5] else 1.0
            key = " ".join(match[1].split())
            found[key] = (float(match[2]) / scale, float(match[4] or "nan") / scale)
    assert len(found) == 34
    return found


def _names(pair: str) -> list[str]:
    return [str(DATA / f"{pair}-{model}.kld") for model in "pq"]


def _compared(pair: str, capsys: Capture) -> tuple[dict[str, Any], str]:
    assert cli.main(["compare", *_names(pair), "--json"]) == 0
    captured = capsys.readouterr()
    return json.loads(captured.out), captured.err


def test_our_table_of_unclamped_files_is_that_of_llama_cpp(capsys: Capture) -> None:
    ours, told = _compared("plain", capsys)
    theirs = _theirs("plain")
    assert told == ""
    assert (ours["clamped"], ours["other_clamped"]) == (0, 0)
    pairs = {
        "Mean PPL(Q)/PPL(base)": (ours["perplexity_ratio"], ours["perplexity_ratio_standard_error"]),
        "Mean PPL(Q)-PPL(base)": (
            ours["perplexity_difference"],
            ours["perplexity_difference_standard_error"],
        ),
        "Mean ln(PPL(Q)/PPL(base))": (
            ours["log_perplexity_ratio"],
            ours["log_perplexity_ratio_standard_error"],
        ),
        "Cor(ln(PPL(Q)), ln(PPL(base)))": (ours["correlation"], math.nan),
        "Mean KLD": (ours["kl_mean"], ours["kl_standard_error"]),
        "Maximum KLD": (ours["kl_max"], math.nan),
        "Median KLD": (ours["kl_percentiles"]["50"], math.nan),
        "Minimum KLD": (ours["kl_min"], math.nan),
        "Mean Δp": (
            ours["target_probability_mean_difference"],
            ours["target_probability_mean_difference_standard_error"],
        ),
        "RMS Δp": (
            ours["target_probability_rms_difference"],
            ours["target_probability_rms_difference_standard_error"],
        ),
        "Maximum Δp": (ours["target_probability_difference_max"], math.nan),
        "Minimum Δp": (ours["target_probability_difference_min"], math.nan),
        "Same top p": (ours["same_top"], ours["same_top_standard_error"]),
    }
    for percent in ("99.9", "99", "95", "90", "10", "5", "1"):
        named = f"{float(percent):.1f}%"
        pairs[f"{named} KLD"] = (ours["kl_percentiles"][percent], math.nan)
    for percent in ("99.9", "99", "95", "90", "75", "25", "10", "5", "1", "0.1"):
        named = f"{float(percent):.1f}%"
        pairs[f"{named} Δp"] = (ours["target_probability_difference_percentiles"][percent], math.nan)
    for key, (value, error) in pairs.items():
        wanted, wanted_error = theirs[key]
        assert value == pytest.approx(wanted, rel=STORED, abs=STORED), key
        if not math.isnan(wanted_error):
            assert error == pytest.approx(wanted_error, rel=1e-2, abs=1e-5), key


def test_clamped_targets_are_counted_and_told(capsys: Capture) -> None:
    ours, told = _compared("clamped", capsys)
    theirs = _theirs("clamped")
    assert (ours["clamped"], ours["other_clamped"]) == (4, 5)
    assert told.count("note: 4 of 186 counted targets of ") == 1
    assert "and 5 of 186 counted targets of " in told
    assert "the sign of ln(PPL(Q) / PPL(P))" in told
    for model, count in (("p", 4), ("q", 5)):
        assert cli.main(["score", str(DATA / f"clamped-{model}.kld"), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["clamped"] == count
    # What stays right: divergences, predictions and differences of probabilities.
    assert ours["kl_mean"] == pytest.approx(theirs["Mean KLD"][0], rel=STORED)
    assert ours["kl_percentiles"]["99"] == pytest.approx(theirs["99.0% KLD"][0], rel=STORED)
    assert ours["same_top"] == pytest.approx(theirs["Same top p"][0], abs=1e-5)
    assert ours["target_probability_rms_difference"] == pytest.approx(theirs["RMS Δp"][0], abs=1e-5)
    # What does not: the true ln(PPL(Q) / PPL(P)), by llama.cpp's estimates from logits in full precision.
    true = math.log(51648.1502 / 49498.5695)
    assert abs(ours["log_perplexity_ratio"] - true) > 5e-3


def test_clamped_targets_that_are_ignored_or_resumed_are_counted_once(
    tmp_path: Path, capsys: Capture
) -> None:
    p, q = _names("clamped")
    source = open_logits(p)
    clamped = np.concatenate(
        [block.clamped for block in log_blocks(source, 1 << 26) if block.clamped is not None]
    )
    assert source.targets is not None
    targets = np.asarray(source.targets[(slice(None),)])
    ignored = int(targets[clamped][0])
    state = str(tmp_path / "state.json")
    arguments = ["compare", p, q, "--json", "--memory", "1", "--ignore-index", str(ignored)]
    assert cli.main([*arguments, "--resume", state]) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["clamped"] == int((clamped & (targets != ignored)).sum()) < 4
    assert cli.main([*arguments, "--resume", state]) == 0
    assert json.loads(capsys.readouterr().out)["clamped"] == first["clamped"]
    assert cli.main(["merge", state, "--json"]) == 0
    merged = json.loads(capsys.readouterr().out)
    assert (merged["clamped"], merged["other_clamped"]) == (first["clamped"], first["other_clamped"])


def test_rows_of_llama_cpp_are_tokens(capsys: Capture, tmp_path: Path) -> None:
    name = _names("plain")[0]
    assert cli.main(["score", name]) == 0
    assert "bits per token" in capsys.readouterr().out
    state = str(tmp_path / "state.json")
    assert cli.main(["score", name, "--resume", state]) == 0
    capsys.readouterr()
    assert cli.main(["merge", state]) == 0
    assert "bits per token" in capsys.readouterr().out


def test_the_library_agrees_with_the_files() -> None:
    p, q = (
        np.concatenate([block.values.copy() for block in log_blocks(open_logits(name), 1 << 26)])
        for name in _names("plain")
    )
    targets = open_logits(_names("plain")[0]).targets
    assert targets is not None
    comparison = crossent.compare(p, q, targets[(slice(None),)], values="log_probs")
    assert comparison.kl_mean == pytest.approx(_theirs("plain")["Mean KLD"][0], rel=STORED)
