"""Rust's figures of sums are Python's: the unit tests of `src/scoring/figures.rs` expect what the package gives.

Both make the same rows from whole numbers. Each figure here must stand in that file, digit by digit. Those that are
exponentials are left out: C libraries round them differently.
"""

import base64
import json
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np

import crossent

RUST = (Path(__file__).parents[2] / "src" / "scoring" / "figures.rs").read_text(encoding="utf-8")
ROWS = 1000


def number(i: int) -> float:
    return (i * 2_654_435_761 % 2**32) / 2**32


NLL = [4.0 * number(i) for i in range(ROWS)]
OTHER = [4.0 * number(i) + (number(i + 7) - 0.5) * 0.25 for i in range(ROWS)]
DIFFERENCE = [(number(i + 3) - 0.5) / 64.0 for i in range(ROWS)]


def exact(terms: Iterable[Fraction | float]) -> list[str | int]:
    """A sum as the texts of scorers and comparers hold it."""
    units = sum(map(Fraction, terms), Fraction()) * 2**1074
    assert units.denominator == 1
    return [hex(int(units)), 0, 0, 0]


def products(a: list[float], b: list[float]) -> list[str | int]:
    return exact(Fraction(x) * Fraction(y) for x, y in zip(a, b, strict=True))


def as_text(values: list[float]) -> str:
    return base64.b64encode(np.array(values, dtype="<f8").tobytes()).decode()


def test_figures_of_scores() -> None:
    state = json.loads(crossent.Scorer(bins=3).to_json())
    bins = [(3, 1, [0.1, 0.2, 0.3]), (0, 0, []), (4, 3, [0.6, 0.7, 0.55, 0.65])]
    state |= {
        "rows": ROWS,
        "count": ROWS,
        "nll": exact(NLL),
        "nll_squared": products(NLL, NLL),
        "bins": [[count, correct, exact(confidence)] for count, correct, confidence in bins],
        "histogram": [[ROWS], 0],
    }
    report = crossent.Scorer.from_json(json.dumps(state)).result()
    figures = [
        report.mean,
        report.standard_error,
        report.bits_per_token,
        report.expected_calibration_error,
    ]
    assert [figure for figure in figures if repr(figure) not in RUST] == []


def test_figures_of_comparisons() -> None:
    state = json.loads(crossent.Comparer().to_json())
    squares = [x * x for x in DIFFERENCE]
    state |= {
        "rows": ROWS,
        "count": ROWS,
        "same_top": 789,
        "targets": [
            exact(NLL),
            products(NLL, NLL),
            exact(OTHER),
            products(OTHER, OTHER),
            products(NLL, OTHER),
            exact(DIFFERENCE),
            exact(squares),
            products(squares, squares),
        ],
        "each": as_text(NLL),
        "differences": as_text(DIFFERENCE),
    }
    state["sums"][0] = exact(NLL)
    found = crossent.Comparer.from_json(json.dumps(state)).result()
    figures = [
        found.kl_mean,
        found.same_top_standard_error,
        found.kl_min,
        found.kl_percentiles[50],
        found.kl_percentiles[99.9],
        found.kl_max,
        found.other_nll_mean,
        found.log_perplexity_ratio,
        found.log_perplexity_ratio_standard_error,
        found.target_probability_mean_difference,
        found.target_probability_mean_difference_standard_error,
        found.target_probability_rms_difference,
        found.target_probability_rms_difference_standard_error,
        found.correlation,
    ]
    assert [figure for figure in figures if repr(figure) not in RUST] == []
