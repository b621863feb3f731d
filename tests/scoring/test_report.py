"""`Scorer` and its `Report`: the numbers by their definitions and their peers' formulas; the same bits in any order."""

from __future__ import annotations

import itertools
import json
import math
import pickle
import threading
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import crossent
import reference
from arrays import DTYPES, SAME_VALUES, Array, DType, logits, name
from crossent import _core
from crossent._exact import ExactSum

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=name)


def _data(width: int, dtype: DType, rows: int = 500) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng((width, dtype.itemsize))
    x = logits(rng, (rows, width), dtype)
    # Better than chance, as models are.
    t = np.where(rng.random(rows) < 0.5, x.astype(np.float64).argmax(axis=1), rng.integers(0, width, rows))
    t[::7] = -100
    return x, t, rng.random(rows) < 0.8


def _report(*batches: tuple[Any, ...], **options: Any) -> crossent.Report:
    scorer = crossent.Scorer(**options)
    for x, t, *where in batches:
        scorer.update(x, t, where=where[0] if where else None)
    return scorer.result()


# ---- the numbers ----------------------------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize("width", [2, 10, 100, 101, 1030])
def test_every_figure_is_that_of_the_definition(width: int, dtype: DType) -> None:
    x, t, where = _data(width, dtype)
    columns = reference.score(x, t, where=where)
    counted = columns["counted"]
    n = int(counted.sum())
    report = _report((x, t, where), top_k=(1, 2, 5), bins=10)
    near = pytest.approx if dtype == np.float64 else (lambda v: pytest.approx(v, rel=3e-7, abs=1e-8))
    assert (report.count, report.ignored) == (n, 500 - n)
    nll = columns["nll"][counted]
    assert report.nll_sum == near(nll.sum())
    assert report.mean == near(nll.mean())
    assert float(report) == report.mean
    assert report.standard_error == near(nll.std(ddof=1) / math.sqrt(n))
    assert report.perplexity == near(math.exp(nll.mean()))
    low, high = report.perplexity_interval
    assert math.log(high / low) == pytest.approx(2 * 1.959963984540054 * report.standard_error)
    assert math.sqrt(low * high) == pytest.approx(report.perplexity)
    assert report.bits_per_token == near(nll.mean() / math.log(2))
    assert (report.bits_per_unit, report.units) == (None, None)
    assert report.accuracy == columns["correct"][counted].mean()
    assert report.top_k_accuracy == {k: (columns["place"][counted] <= k).mean() for k in (1, 2, 5)}
    assert report.top_k_accuracy[1] == report.accuracy
    assert report.mean_entropy == near(columns["entropy"][counted].mean())
    assert report.mean_reciprocal_rank == near((1 / columns["rank"][counted]).mean())
    assert report.brier_score == near(columns["squared_error"][counted].mean())
    sizes, error = reference.calibration(columns, 10)
    assert [b.count for b in report.calibration_bins] == sizes
    assert report.expected_calibration_error == near(error)
    for i, b in enumerate(report.calibration_bins):
        assert (b.lower, b.upper) == (i / 10, (i + 1) / 10)
        assert math.isnan(b.accuracy) == (b.count == 0)
        assert b.count == 0 or b.lower < b.confidence <= b.upper
    assert (report.nonfinite, report.first_nonfinite) == (0, None)


def test_the_perplexity_and_its_error_are_llama_cpps() -> None:
    x, t, _ = _data(300, np.dtype(np.float32))
    keep = t != -100
    nll = [float(v) for v in reference.cross_entropy(x[keep], t[keep], reduction="none")]
    report = _report((x, t))
    # llama.cpp: nll and nll2 summed in double, then the error of the mean, and the perplexity times that.
    count, total, squares = len(nll), sum(nll), sum(v * v for v in nll)
    mean = total / count
    error = math.sqrt((squares / count - mean * mean) / (count - 1))
    assert report.perplexity == pytest.approx(math.exp(mean), rel=1e-6)
    assert report.standard_error == pytest.approx(error, rel=1e-6)


def test_bits_per_byte_and_word_perplexity_are_those_of_lm_evaluation_harness() -> None:
    x, t, _ = _data(50, np.dtype(np.float64))
    rng = np.random.default_rng(1)
    bytes_of, words_of = rng.integers(1, 9, len(t)), rng.integers(0, 2, len(t))
    keep = t != -100
    items = -reference.cross_entropy(x[keep], t[keep], reduction="none")
    for units in (bytes_of, words_of):
        scorer = crossent.Scorer()
        scorer.update(x, t, units=units)
        report = scorer.result()
        # weighted_mean of (log-likelihood, units), then its negative exponential, or over ln 2.
        weighted = items.sum() / units[keep].sum()
        assert report.units == units[keep].sum()
        assert report.bits_per_unit == pytest.approx(-weighted / math.log(2), rel=1e-14)
        assert report.bits_per_unit is not None
        assert 2.0**report.bits_per_unit == pytest.approx(math.exp(-weighted), rel=1e-13)
        assert report.perplexity == pytest.approx(math.exp(-items.mean()), rel=1e-14)


def test_confidences_on_an_edge_belong_to_the_bin_below() -> None:
    # Probabilities of exactly 1/2 and 1, and just above a half.
    x = np.array([[0.0, 0.0], [800.0, 0.0], [0.0, 1e-9]])
    report = _report((x, [0, 0, 1]), bins=4)
    assert [b.count for b in report.calibration_bins] == [0, 1, 1, 1]
    assert report.calibration_bins[3].confidence == 1.0
    assert report.calibration_bins[1].confidence == 0.5
    assert [b.count for b in _report((x, [0, 0, 1]), bins=1).calibration_bins] == [3]
    assert _report((x, [0, 0, 1]), bins=0).calibration_bins == ()
    assert math.isnan(_report((x, [0, 0, 1]), bins=0).expected_calibration_error)


def test_equal_logits_have_no_spread() -> None:
    for width, dtype in itertools.product((7, 200), (np.float32, np.float64)):
        report = _report((np.full((100, width), 1.7, dtype), np.arange(100) % width))
        rel = 1e-15 if dtype == np.float64 else 1e-9
        assert report.mean == pytest.approx(math.log(width), rel=rel)
        assert report.standard_error == 0.0
        assert report.mean_entropy == pytest.approx(math.log(width), rel=1e-7)
        assert report.brier_score == pytest.approx(1 - 1 / width, rel=1e-6)
        # Of ties the first comes first.
        ranks = 1 + np.arange(100) % width
        assert report.mean_reciprocal_rank == pytest.approx((1 / ranks).mean(), rel=1e-15)
        assert report.accuracy == (ranks == 1).mean()
        assert report.top_k_accuracy[5] == (np.arange(100) % width < 5).mean()


def test_the_brier_score_of_sure_rows_keeps_its_digits() -> None:
    for width in (2, 90):
        x = np.full((1, width), -30.0, np.float32)
        x[0, 1] = 0.0
        miss = 1 - 1 / (1 + (width - 1) * math.exp(-30))
        miss = (width - 1) * math.exp(-30) / (1 + (width - 1) * math.exp(-30))
        others = (width - 1) * (math.exp(-30) / (1 + (width - 1) * math.exp(-30))) ** 2
        assert _report((x, [1])).brier_score == pytest.approx(miss**2 + others, rel=1e-5)
        assert _report((x, [0])).brier_score == pytest.approx(2.0, rel=1e-5)


def test_rows_that_are_not_finite_are_counted_and_named() -> None:
    for width in (3, 80):
        x = np.zeros((6, width))
        x[2, 0] = -np.inf
        x[4, 1] = np.nan
        report = _report((x[:3], [0, 1, 0]), (x[3:], [0, 1, 2]))
        assert (report.nonfinite, report.first_nonfinite) == (2, 2)
        assert math.isnan(report.mean)
        assert math.isnan(report.standard_error)
        assert "rows not finite" in repr(report)
        report = _report((x[:3], [0, 1, 0]))
        assert (report.mean, report.perplexity) == (math.inf, math.inf)
        assert math.isnan(report.standard_error)
        ignored = _report((x, [0, 1, -100, 0, -100, 0]))
        assert (ignored.nonfinite, ignored.first_nonfinite) == (0, None)
        assert math.isfinite(ignored.mean)


def test_no_rows_and_one_row() -> None:
    empty = crossent.Scorer().result()
    assert empty.count == 0
    assert empty.nll_sum == 0.0
    for value in (empty.mean, empty.perplexity, empty.accuracy, empty.standard_error, empty.brier_score):
        assert math.isnan(value)
    one = _report((np.zeros((1, 4)), [2]))
    assert one.mean == pytest.approx(math.log(4))
    assert math.isnan(one.standard_error)
    assert dict(empty._lines())["mean NLL"] == "nan nats"
    # The standard error of one row is not known, and nothing is said of it.
    lines = dict(one._lines())
    assert (lines["mean NLL"], lines["perplexity"]) == ("1.38629 nats", "4")
    comparison = repr(crossent.compare(np.zeros((1, 4)), 3 * np.eye(4)[:1], [2]))
    for word in ("nan", "±", "standard error"):
        assert word not in repr(one)
        assert word not in comparison.replace("correlation of NLL      nan", "")


def test_a_perplexity_beyond_the_floats_is_infinite() -> None:
    report = _report((np.array([[0.0, -1e5], [0.0, -1e5]]), [1, 1]))
    assert report.mean == 1e5
    assert report.perplexity == math.inf


# ---- the same bits --------------------------------------------------------------------------------------


def _cut(rng: np.random.Generator, rows: int) -> list[slice]:
    ends = [0, *sorted(rng.integers(0, rows + 1, 5).tolist()), rows]
    return [slice(a, b) for a, b in itertools.pairwise(ends)]


@every_dtype
@pytest.mark.parametrize("width", [3, 100, 101, 1500])
def test_batches_order_threads_and_layouts_do_not_change_a_bit(width: int, dtype: DType) -> None:
    x, t, where = _data(width, dtype)
    x[5], x[300] = -np.inf, np.nan  # these sums are exact too
    t[5] = t[300] = -100
    expected = _report((x, t, where))
    rng = np.random.default_rng(width)
    threads = crossent.get_num_threads()
    try:
        for count in (1, 3):
            crossent.set_num_threads(count)
            for layout in SAME_VALUES.values():
                assert _report((layout(x), t, where)) == expected
            parts = _cut(rng, 500)
            assert _report(*((x[p], t[p], where[p]) for p in parts)) == expected
            scorers = [crossent.Scorer() for _ in parts]
            for scorer, p in zip(scorers, parts, strict=True):
                scorer.update(x[p], t[p], where=where[p])
            order = rng.permutation(len(parts))
            whole = crossent.Scorer()
            for i in order:
                assert whole.merge(scorers[i]) is whole
            assert whole.result() == expected
            turned = crossent.Scorer()
            turned.update(np.ascontiguousarray(x.T), t, where=where, axis=0)
            assert turned.result() == expected
    finally:
        crossent.set_num_threads(threads)


def test_shift_is_that_of_score() -> None:
    rng = np.random.default_rng(4)
    x, t = rng.standard_normal((3, 6, 9)), rng.integers(0, 9, (3, 6))
    where, units = rng.random((3, 6)) < 0.7, rng.integers(1, 5, (3, 6))
    shifted, plain = crossent.Scorer(), crossent.Scorer()
    shifted.update(x, t, where=where, units=units, shift=1)
    plain.update(x[:, :-1], t[:, 1:], where=where[:, 1:], units=units[:, 1:])
    assert shifted.result() == plain.result()
    assert plain.result().units == units[:, 1:][where[:, 1:]].sum()


def test_updates_from_many_threads_all_arrive() -> None:
    x, t, _ = _data(20, np.dtype(np.float32))
    scorer = crossent.Scorer()

    def work() -> None:
        for _ in range(20):
            scorer.update(x, t)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert scorer.result().count == 80 * (t != -100).sum()


numbers = st.floats(allow_nan=False, allow_infinity=False)


@given(hnp.arrays(np.float64, st.integers(0, 40), elements=numbers))
def test_exact_sums_are_exact(values: Array) -> None:
    found = ExactSum.of(values)
    exact = sum(map(Fraction, values.tolist()), Fraction())
    assert Fraction(found.units, 2**1074) == exact
    try:
        assert float(found) == float(exact)
    except OverflowError:
        assert abs(float(found)) == math.inf
    half = len(values) // 2
    assert ExactSum.of(values[half:]) + ExactSum.of(values[:half]) == found
    assert ExactSum.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_exact_sums_keep_infinities_apart() -> None:
    for values, expected in (
        ([1.0, math.inf], math.inf),
        ([-math.inf, 2.0], -math.inf),
        ([math.inf, -math.inf], math.nan),
        ([math.nan, math.inf], math.nan),
    ):
        np.testing.assert_equal(float(ExactSum.of(np.array(values))), expected)


def test_stretches_that_do_not_fit_are_refused() -> None:
    for offsets in ([0, 5], [2, 1]):
        with pytest.raises(ValueError, match="offsets"):
            _core.exact_sums(np.zeros(3), offsets)
    assert _core.exact_sums(np.zeros(3), []) == []


# ---- storing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("units", [None, 3.25, "each"])
def test_text_and_pickle_keep_every_bit(units: Any) -> None:
    x, t, where = _data(30, np.dtype(np.float32))
    x[3, 0] = np.inf
    scorer = crossent.Scorer(ignore_index=7, top_k=(1, 3), bins=4)
    t[t == -100] = 7
    scorer.update(x, t, where=where, units=np.arange(500) * 0.1 if units == "each" else units)
    for copy in (
        crossent.Scorer.from_json(scorer.to_json()),
        crossent.Scorer.from_json(scorer.to_json().encode()),
        pickle.loads(pickle.dumps(scorer)),
    ):
        assert repr(copy.result()) == repr(scorer.result())
        assert copy.to_json() == scorer.to_json()
        assert (copy.ignore_index, copy.top_k, copy.bins) == (7, (1, 3), 4)
        copy.update(x[:9], t[:9], units=None if units is None else 1)
        assert copy.result().count > scorer.result().count
    json.loads(scorer.to_json())  # nothing that JSON lacks


@pytest.mark.parametrize("damage", ["", "[]", "{}", "null", "cut", "format", "rows", "units", "top"])
def test_damaged_text_is_refused(damage: str) -> None:
    text = crossent.Scorer().to_json()
    if damage == "cut":
        text = text[:-9]
    elif damage in ("format", "rows", "top"):
        state = json.loads(text)
        state[damage] = {"format": "crossent.Scorer 9", "rows": -1, "top": [1]}[damage]
        text = json.dumps(state)
    elif damage == "units":
        text = text.replace("0x0", "0y0")
    else:
        text = damage
    with pytest.raises(ValueError, match="not that of a scorer"):
        crossent.Scorer.from_json(text)


def test_a_report_is_frozen_and_readable() -> None:
    x, t, where = _data(30, np.dtype(np.float32))
    scorer = crossent.Scorer()
    scorer.update(x, t, where=where, units=1000)
    report = scorer.result()
    with pytest.raises(AttributeError):
        report.mean = 0.0  # type: ignore[misc]
    text, html = repr(report), report._repr_html_()
    for part in (
        "rows counted",
        "perplexity",
        "bits per unit",
        "top-5 accuracy",
        "Brier",
        f"{report.mean:.6g}",
    ):
        assert part in text
        assert part in html
    assert html.count("<tr>") == html.count("</tr>") > 8
    assert json.loads(json.dumps(report.to_dict()))["mean"] == report.mean
    assert "rows counted" in repr(report)
    assert "343 of 500" in repr(scorer) or "of 500 rows" in repr(scorer)


# ---- errors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"top_k": 5}, TypeError, "sequence"),
        ({"top_k": (0, 1)}, ValueError, "from 1 on"),
        ({"top_k": (2, 2)}, ValueError, "different"),
        ({"top_k": (1.5,)}, TypeError, "integers"),
        ({"bins": -1}, ValueError, "bins"),
        ({"bins": 10**6}, ValueError, "bins"),
        ({"bins": True}, TypeError, "bins"),
        ({"ignore_index": 1.5}, TypeError, ""),
        ({"ignore_index": True}, TypeError, "ignore_index"),
        ({"ignore_index": 2**63}, OverflowError, "int64"),
    ],
)
def test_options_that_cannot_be_are_refused(options: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text or None):
        crossent.Scorer(**options)


X, T = np.zeros((3, 4)), np.array([0, 1, 2])


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((X, [0, 9, 1]), {}, IndexError, r"target\[1\] = 9"),
        ((X, X), {}, TypeError, "class indices"),
        ((X, T), {"where": [True]}, ValueError, "where"),
        ((X, T), {"units": -1}, ValueError, "units"),
        ((X, T), {"units": [1, 2, math.nan]}, ValueError, "units"),
        ((X, T), {"units": [1, 2]}, ValueError, "units has the wrong shape"),
        ((X, T), {"units": "x"}, TypeError, "units"),
        ((X, T), {}, ValueError, "some rows only"),
        ((X, T), {"shift": 1, "axis": 0, "units": 1}, ValueError, "positions"),
    ],
)
def test_an_update_that_raises_adds_nothing(
    arguments: Any, options: Any, error: type[Exception], text: str
) -> None:
    scorer = crossent.Scorer()
    scorer.update(X, T, units=10)
    before = scorer.to_json()
    with pytest.raises(error, match=text):
        scorer.update(*arguments, **options)
    assert scorer.to_json() == before


def test_scorers_that_differ_do_not_merge() -> None:
    with pytest.raises(ValueError, match="differ"):
        crossent.Scorer().merge(crossent.Scorer(bins=3))
    with pytest.raises(TypeError, match="scorer"):
        crossent.Scorer().merge(3)
    with_units, without = crossent.Scorer(), crossent.Scorer()
    with_units.update(X, T, units=3)
    without.update(X, T)
    with pytest.raises(ValueError, match="some rows only"):
        without.merge(with_units)
    assert crossent.Scorer().merge(with_units).result() == with_units.result()
    assert with_units.merge(crossent.Scorer()).result().units == 3.0
    count = with_units.result().count
    assert with_units.merge(with_units).result().count == 2 * count


# ---- rows that are log-probabilities ----------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize("width", [2, 10, 100, 101, 1030])
def test_log_probabilities_are_taken_as_they_are(width: int, dtype: DType) -> None:
    x, t, where = _data(width, dtype)
    x[3, max(t[3], 0)] = -np.inf
    rounded = crossent.log_softmax(x.astype(np.float32)).astype(dtype)
    scorer = crossent.Scorer()
    scorer.update(rounded, t, where=where, values="log_probs")
    scores = crossent.score(rounded, t, where=where, values="log_probs")
    wide = rounded.astype(np.float64)
    counted = (t != -100) & where
    expected = 0.0 - wide[np.arange(len(t)), np.where(counted, t, 0)]
    assert np.array_equal(scores.nll[counted].astype(np.float64), expected[counted])
    assert not scores.nll[~counted].any()
    with np.errstate(invalid="ignore"):
        assert scorer.result().nll_sum == math.fsum(expected[counted])
    own = _report((rounded, t, where)).to_dict()
    told = scorer.result().to_dict()
    for key in (
        "accuracy",
        "mean_entropy",
        "mean_reciprocal_rank",
        "brier_score",
        "expected_calibration_error",
    ):
        assert told[key] == own[key], key


def test_the_number_of_rows_is_known() -> None:
    x = np.zeros((7, 3))
    scorer, comparer = crossent.Scorer(), crossent.Comparer()
    scorer.update(x, [0, 1, -100, 0, 0, 0, 0])
    comparer.update(x, x)
    assert (scorer.rows, comparer.rows) == (7, 7)


# ---- what the lines are called ------------------------------------------------------------------------------


def test_lines_say_what_rows_are_and_leave_out_what_says_nothing() -> None:
    x, t = np.eye(4)[np.arange(40) % 4] * 3, np.arange(40) % 4
    scorer = crossent.Scorer(top_k=(1, 2, 3, 4, 5))
    scorer.update(x, t)
    lines = dict(scorer.result()._lines())
    assert "bits per row" in lines
    assert "bits per token" not in lines
    assert [name for name in lines if name.startswith("top-")] == ["top-2 accuracy", "top-3 accuracy"]
    assert scorer.result().classes == 4
    assert scorer.result().top_k_accuracy[5] == 1.0
    assert repr(scorer.result()).count("standard error") == repr(scorer.result()).count("±") == 1
    of_text = crossent.Scorer()
    of_text.update(x, t, units=t + 1)
    assert "bits per token" in dict(of_text.result()._lines())
    # Batches of fewer classes do not hide what the others tell; a text without the number shows all.
    scorer.update(np.zeros((1, 9)), [3])
    assert "top-5 accuracy" in dict(scorer.result()._lines())
    state = json.loads(scorer.to_json())
    assert state.pop("classes") == 9
    del state["values"]
    old = crossent.Scorer.from_json(json.dumps(state)).result()
    assert (old.classes, old.mean) == (0, scorer.result().mean)
    assert "top-5 accuracy" in dict(old._lines())
    comparison = repr(crossent.compare(x, x + 0.1, t))
    assert comparison.count("standard error") == 1


class TestEquality:
    """Figures that are nan, as those of an empty bin, do not make results of the same rows differ."""

    @pytest.mark.parametrize("logit", [0.5, np.nan])
    def test_results_from_elsewhere_are_equal(self, logit: float) -> None:
        x, t = np.array([[logit, 0.0, 2.0], [1.0, 0.0, 0.0]]), np.array([0, 1])
        scorer = crossent.Scorer(by_position=True)
        scorer.update(x, t, positions=np.array([0, 5]))
        for make in (scorer.result, lambda: crossent.compare(x, 2 * x, t), lambda: crossent.compare(x, x)):
            one, two = make(), make()
            assert one == two
            assert pickle.loads(pickle.dumps(one)) == two
            assert one != object()
        bins = scorer.result().calibration_bins
        assert math.isnan(bins[0].accuracy)
        assert len({bins[0], pickle.loads(pickle.dumps(bins[0])), *bins}) == len(bins)

    def test_results_of_other_rows_differ(self) -> None:
        x, t = np.array([[0.5, 0.0, 2.0], [1.0, 0.0, 0.0]]), np.array([0, 1])
        one, two = crossent.Scorer(), crossent.Scorer()
        one.update(x, t)
        two.update(x, t[::-1])
        assert one.result() != two.result()
        assert one.result() != crossent.Scorer(bins=14).result()
        assert crossent.compare(x, 2 * x, t) != crossent.compare(x, 2 * x)
