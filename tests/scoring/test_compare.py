"""`compare` and `Comparer`: divergences by their definitions and to sixty digits, llama.cpp's table, the same bits."""

from __future__ import annotations

import itertools
import json
import math
import pickle
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import crossent
import exact
import reference
from arrays import DTYPES, SAME_VALUES, Array, DType, logits, name

FLOAT32 = np.dtype(np.float32)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=name)


def _models(width: int, dtype: DType = FLOAT32, rows: int = 150) -> tuple[Array, Array, Array, Array]:
    rng = np.random.default_rng((width, dtype.itemsize))
    x = logits(rng, (rows, width), dtype)
    y = (x.astype(np.float64) + rng.normal(size=x.shape) * 0.1).astype(np.float16)
    t = np.where(rng.random(rows) < 0.5, x.astype(np.float64).argmax(axis=1), rng.integers(0, width, rows))
    t[::9] = -100
    return x, y, t, rng.random(rows) < 0.8


class LlamaCpp:
    """The table of llama.cpp's perplexity tool, as its source computes it: sums in double, row after row."""

    def __init__(self, base: Array, other: Array, target: Array) -> None:
        rows = np.arange(len(target))
        log_p, log_q = reference.log_softmax(base), reference.log_softmax(other)
        self.n = len(target)
        self.nll, self.base_nll = -log_q[rows, target], -log_p[rows, target]
        self.kld = reference.divergences(base, other)[0]
        self.p_diff = np.exp(-self.nll) - np.exp(-self.base_nll)
        self.same = (base.astype(np.float64).argmax(axis=1) == other.astype(np.float64).argmax(axis=1)).mean()

    def mean_and_uncertainty(self, values: Array) -> tuple[float, float]:
        mean = values.sum() / self.n
        variance = (values**2).sum() / self.n - mean * mean
        return mean, math.sqrt(variance / (self.n - 1)) if variance > 0 else 0.0

    def covariance(self, a: Array, b: Array) -> float:
        return ((a * b).sum() / self.n - a.sum() * b.sum() / self.n / self.n) / (self.n - 1)

    def log_ratio(self) -> tuple[float, float]:
        (a, se_a), (b, se_b) = self.mean_and_uncertainty(self.nll), self.mean_and_uncertainty(self.base_nll)
        return a - b, math.sqrt(se_a**2 + se_b**2 - 2 * self.covariance(self.nll, self.base_nll))

    def correlation(self) -> float:
        (_, se_a), (_, se_b) = self.mean_and_uncertainty(self.nll), self.mean_and_uncertainty(self.base_nll)
        return self.covariance(self.nll, self.base_nll) / se_a / se_b

    def rms_p_diff(self) -> tuple[float, float]:
        mean, error = self.mean_and_uncertainty(self.p_diff**2)
        return math.sqrt(mean), 0.5 / math.sqrt(mean) * error

    def same_top(self) -> tuple[float, float]:
        return self.same, math.sqrt(self.same * (1 - self.same) / (self.n - 1))


# ---- the numbers ----------------------------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize("width", [2, 10, 100, 101, 1030])
def test_every_figure_is_that_of_llama_cpps_table(width: int, dtype: DType) -> None:
    x, y, t, where = _models(width, dtype)
    keep = where & (t != -100)
    table = LlamaCpp(x[keep], y[keep], t[keep])
    got = crossent.compare(x, y, t, where=where)
    near = lambda v: pytest.approx(v, rel=1e-9, abs=1e-13)  # noqa: E731
    assert (got.count, got.ignored) == (table.n, 150 - table.n)
    assert (got.kl_mean, got.kl_standard_error) == near(table.mean_and_uncertainty(table.kld))
    assert float(got) == got.kl_mean
    assert got.kl_max == near(table.kld.max())
    for key, value in got.kl_percentiles.items():
        assert value == near(reference.percentile(table.kld, key / 100))
    assert list(got.kl_percentiles) == [1, 5, 10, 50, 90, 95, 99, 99.9]
    assert (got.same_top, got.same_top_standard_error) == near(table.same_top())
    assert (got.log_perplexity_ratio, got.log_perplexity_ratio_standard_error) == near(table.log_ratio())
    assert got.correlation == near(table.correlation())
    rms = (got.target_probability_rms_difference, got.target_probability_rms_difference_standard_error)
    assert rms == near(table.rms_p_diff())
    mean = (got.target_probability_mean_difference, got.target_probability_mean_difference_standard_error)
    assert mean == near(table.mean_and_uncertainty(table.p_diff))
    assert (got.nll_mean, got.other_nll_mean) == near((table.base_nll.mean(), table.nll.mean()))
    _, reverse, shannon = reference.divergences(x[keep], y[keep])
    assert got.reverse_kl_mean == near(reverse.mean())
    assert got.jensen_shannon_mean == near(shannon.mean())
    bare = crossent.compare(x, y, where=keep)
    assert (bare.kl_mean, bare.kl_percentiles, bare.same_top) == (
        got.kl_mean,
        got.kl_percentiles,
        got.same_top,
    )
    assert bare.correlation is None
    assert bare.log_perplexity_ratio is None


def _to_sixty_digits(x: Array, y: Array) -> tuple[mpmath.mpf, mpmath.mpf, mpmath.mpf]:
    with mpmath.workdps(60):
        log_p, log_q = exact.log_softmax(x, range(len(x))), exact.log_softmax(y, range(len(y)))
        p, q = [mpmath.exp(v) for v in log_p], [mpmath.exp(v) for v in log_q]
        log_m = [mpmath.log((a + b) / 2) for a, b in zip(p, q, strict=True)]

        def kl(a: Any, log_a: Any, log_b: Any) -> mpmath.mpf:
            return mpmath.fsum(w * (u - v) for w, u, v in zip(a, log_a, log_b, strict=True))

        return kl(p, log_p, log_q), kl(q, log_q, log_p), (kl(p, log_p, log_m) + kl(q, log_q, log_m)) / 2


@pytest.mark.parametrize("step", [1e-12, 1e-9, 1e-5, 1e-2, 0.05, 1.0, 40.0])
@pytest.mark.parametrize("width", [2, 9, 300])
def test_divergences_keep_their_digits_however_near_the_models_are(step: float, width: int) -> None:
    rng = np.random.default_rng(width)
    x = rng.normal(size=width) * 4
    y = x + rng.normal(size=width) * step
    got = crossent.compare(x[np.newaxis], y[np.newaxis])
    # The difference of the logits is exact; that of the two logarithms, which is as small, is not.
    relative = 1e-13 + 1e-15 / step
    for found, truth in zip(
        (got.kl_mean, got.reverse_kl_mean, got.jensen_shannon_mean), _to_sixty_digits(x, y), strict=True
    ):
        assert found == pytest.approx(float(truth), rel=relative)


@pytest.mark.filterwarnings("ignore:.*has one class only")
def test_equal_logits_are_no_distance_apart() -> None:
    for width in (1, 5, 64, 3000):
        x, _, t, _ = _models(width)
        got = crossent.compare(x, x.astype(np.float64), t)
        assert (got.kl_mean, got.kl_max, got.reverse_kl_mean, got.jensen_shannon_mean) == (0, 0, 0, 0)
        assert (got.same_top, got.log_perplexity_ratio) == (1.0, 0.0)
        assert got.log_perplexity_ratio_standard_error == 0.0
        assert got.target_probability_rms_difference == 0.0
        assert got.target_probability_rms_difference_standard_error == 0.0
        if width > 1:
            assert got.correlation == 1.0
        else:
            assert math.isnan(got.correlation or 0.0)  # a loss of 0 everywhere does not vary


def test_a_class_that_one_model_excludes_is_infinitely_far() -> None:
    inf = math.inf
    x, y = np.array([[0.0, 0.0, -inf]]), np.array([[0.0, -inf, -inf]])
    there, back = crossent.compare(x, y), crossent.compare(y, x)
    assert (there.kl_mean, there.kl_max) == (inf, inf)
    assert back.kl_mean == pytest.approx(math.log(2), rel=1e-15)
    assert there.reverse_kl_mean == back.kl_mean
    assert there.jensen_shannon_mean == back.jensen_shannon_mean
    far = crossent.compare(np.array([[0.0, -5000.0]]), np.array([[-5000.0, 0.0]]))
    assert far.kl_mean == 5000.0
    assert far.jensen_shannon_mean == pytest.approx(math.log(2), rel=1e-15)
    both = crossent.compare(np.vstack([x, x, x]), np.vstack([y, x, x]))
    assert both.kl_percentiles[50] == 0.0
    assert both.kl_percentiles[99] == inf
    assert math.isnan(both.kl_standard_error)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_row_without_a_softmax_makes_the_mean_nan(bad: float) -> None:
    x = np.zeros((3, 70))
    y = x.copy()
    y[1, 4] = bad
    for pair in ((x, y), (y, x)):
        got = crossent.compare(*pair, [0, 0, 0])
        for value in (
            got.kl_mean,
            got.kl_max,
            got.reverse_kl_mean,
            got.jensen_shannon_mean,
            got.kl_percentiles[50],
        ):
            assert math.isnan(value)
        ignored = crossent.compare(*pair, [0, -100, 0])
        assert ignored.kl_max == 0.0
        assert ignored.count == 2


def test_no_rows_and_one_row() -> None:
    empty = crossent.Comparer().result()
    assert empty.count == 0
    for value in (empty.kl_mean, empty.kl_max, empty.same_top, empty.kl_percentiles[50]):
        assert math.isnan(value)
    assert empty.correlation is None
    one = crossent.compare(np.zeros((1, 3)), np.ones((1, 3)) * [0, 1, 2], [1])
    assert one.kl_percentiles[99.9] == one.kl_max == one.kl_mean
    assert math.isnan(one.kl_standard_error)
    none = crossent.compare(np.zeros((1, 3)), np.zeros((1, 3)), [-100])
    assert math.isnan(none.nll_mean or 0.0)
    for comparison in (empty, one, none):
        assert repr(comparison)


@pytest.mark.filterwarnings("ignore::crossent.LikelyMistakeWarning")
@given(st.data())
def test_divergences_are_never_negative_and_mean_what_they_say(data: st.DataObject) -> None:
    width = data.draw(st.sampled_from([1, 2, 7, 8, 65]))
    numbers = st.one_of(st.floats(-40, 40), st.just(-math.inf), st.sampled_from([0.0, 1.0, 1.0 + 2**-50]))
    x = data.draw(hnp.arrays(np.float64, (3, width), elements=numbers, fill=numbers))
    y = data.draw(hnp.arrays(np.float64, (3, width), elements=numbers, fill=numbers))
    expected = reference.divergences(x, y)
    for i in range(3):
        got = crossent.compare(x[i : i + 1], y[i : i + 1])
        found = (got.kl_mean, got.reverse_kl_mean, got.jensen_shannon_mean)
        for value, column in zip(found, expected, strict=True):
            want = float(column[i])
            assert math.isnan(value) or value >= 0
            if np.isneginf(x[i]).all() or np.isneginf(y[i]).all():
                assert math.isnan(value)
            else:
                assert value == pytest.approx(max(want, 0.0), rel=1e-11, abs=1e-14)


# ---- the same bits --------------------------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize("width", [3, 65, 700])
def test_batches_order_threads_and_layouts_do_not_change_a_bit(width: int, dtype: DType) -> None:
    x, y, t, where = _models(width, dtype)
    expected = crossent.compare(x, y, t, where=where)
    rng = np.random.default_rng(width)
    threads = crossent.get_num_threads()
    try:
        for count in (1, 3):
            crossent.set_num_threads(count)
            for first, second in itertools.product(SAME_VALUES.values(), repeat=2):
                assert crossent.compare(first(x), second(y), t, where=where) == expected
            assert crossent.compare(x.T, np.ascontiguousarray(y.T), t, where=where, axis=0) == expected
            ends = [0, *sorted(rng.integers(0, 150, 6).tolist()), 150]
            parts = [slice(a, b) for a, b in itertools.pairwise(ends)]
            whole = crossent.Comparer()
            for i in rng.permutation(len(parts)):
                p = parts[i]
                part = crossent.Comparer()
                part.update(x[p], y[p], t[p], where=where[p])
                assert whole.merge(part) is whole
            assert whole.result() == expected
    finally:
        crossent.set_num_threads(threads)


def test_shift_compares_a_position_with_a_later_target() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 3, 6, 20))
    t, where = rng.integers(0, 20, (3, 6)), rng.random((3, 6)) < 0.7
    got = crossent.compare(x, y, t, where=where, shift=2)
    assert got == crossent.compare(x[:, :-2], y[:, :-2], t[:, 2:], where=where[:, 2:])
    assert crossent.compare(x, y, shift=2) == crossent.compare(x[:, :-2], y[:, :-2])


def test_many_small_updates_are_kept_in_few_blocks() -> None:
    x, y, t, _ = _models(5)
    comparer = crossent.Comparer()
    for _ in range(5):
        for i in range(150):
            comparer.update(x[i : i + 1], y[i : i + 1], t[i : i + 1])
    assert len(comparer._tally.each) <= 12
    assert comparer.result().kl_mean == crossent.compare(x, y, t).kl_mean


# ---- storing, showing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("with_target", [True, False])
def test_text_and_pickle_keep_every_bit(with_target: bool) -> None:
    x, y, t, where = _models(30)
    comparer = crossent.Comparer(ignore_index=3)
    t[t == -100] = 3
    comparer.update(x, y, t if with_target else None, where=where)
    for copy in (
        crossent.Comparer.from_json(comparer.to_json()),
        pickle.loads(pickle.dumps(comparer)),
    ):
        assert copy.result() == comparer.result()
        assert copy.ignore_index == 3
        copy.merge(comparer)
        assert copy.result().count == 2 * comparer.result().count
    assert crossent.Comparer.from_json(crossent.Comparer().to_json()).result().count == 0


@pytest.mark.parametrize("damage", ["", "{}", "null", "cut", "format", "each", "short", "sums", "targets"])
def test_damaged_text_is_refused(damage: str) -> None:
    x, y, t, _ = _models(4)
    comparer = crossent.Comparer()
    comparer.update(x, y, t)
    text = comparer.to_json()
    state = json.loads(text)
    if damage == "cut":
        text = text[:-5]
    elif damage in ("format", "sums", "targets"):
        state[damage] = {"format": "x", "sums": [], "targets": [["0x0", 0, 0, 0]]}[damage]
        text = json.dumps(state)
    elif damage in ("each", "short"):
        state["each"] = "?" if damage == "each" else state["each"][:32]
        text = json.dumps(state)
    else:
        text = damage
    with pytest.raises(ValueError, match="not that of a comparer"):
        crossent.Comparer.from_json(text)


@pytest.mark.parametrize("rows", [1, 2, 3, 11, 101, 1001, 1002, 4001])
def test_percentiles_at_a_row_are_that_row(rows: int) -> None:
    # KL of the row [0, 0] to [0, g] falls with its number; q - p of class 0 rises.
    far = np.linspace(3, 0.001, rows)
    x, y = np.zeros((rows, 2)), np.stack([np.zeros(rows), far], axis=1)
    got = crossent.compare(x, y, np.zeros(rows, int))
    kl = np.sort([crossent.compare(x[i : i + 1], y[i : i + 1]).kl_mean for i in range(rows)])
    differences = np.sort(1 / (1 + np.exp(far)) - 0.5)
    found = got.target_probability_difference_percentiles
    assert found is not None
    assert list(found) == [0.1, 1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9]
    assert list(got.kl_percentiles) == [1, 5, 10, 50, 90, 95, 99, 99.9]
    for values, percentiles in ((kl, got.kl_percentiles), (differences, found)):
        for percent, value in percentiles.items():
            position = Fraction(str(percent)) * (rows - 1) / 100
            below, part = int(position), position % 1
            if part == 0 and values is kl:
                assert value == values[below], percent
            above = values[min(below + 1, rows - 1)]
            expected = float(1 - part) * values[below] + float(part) * above
            assert value == pytest.approx(expected, rel=1e-9, abs=1e-15), percent
    assert (got.kl_min, got.kl_max) == (kl[0], kl[-1])
    assert got.target_probability_difference_min == pytest.approx(differences[0], rel=1e-12)
    assert got.target_probability_difference_max == pytest.approx(differences[-1], rel=1e-12)


@every_dtype
def test_perplexities_are_compared_with_their_errors(dtype: DType) -> None:
    x, y, t, where = _models(40, dtype)
    got = crossent.compare(x, y, t, where=where)
    counted = (t != -100) & where
    a = -reference.log_softmax(x)[np.arange(len(t)), np.maximum(t, 0)][counted]
    b = -reference.log_softmax(y)[np.arange(len(t)), np.maximum(t, 0)][counted]
    n = int(counted.sum())
    p, q = math.exp(a.mean()), math.exp(b.mean())
    covariance = np.cov(a, b) / n
    assert got.perplexity_ratio == pytest.approx(q / p, rel=1e-9)
    assert got.perplexity_difference == pytest.approx(q - p, rel=1e-6)
    # The error of a function of means: its gradient, times their covariance, times its gradient.
    for gradient, error in (
        ((-q / p, q / p), got.perplexity_ratio_standard_error),
        ((-p, q), got.perplexity_difference_standard_error),
    ):
        assert error == pytest.approx(math.sqrt(gradient @ covariance @ np.array(gradient)), rel=1e-6)


def test_a_model_is_no_distance_from_itself_with_no_error() -> None:
    x, _, t, _ = _models(40)
    got = crossent.compare(x, x, t)
    assert (got.perplexity_ratio, got.perplexity_ratio_standard_error) == (1.0, 0.0)
    assert (got.perplexity_difference, got.perplexity_difference_standard_error) == (0.0, 0.0)
    assert got.target_probability_rms_difference_standard_error == 0.0
    assert got.target_probability_difference_min == got.target_probability_difference_max == 0.0
    assert (got.kl_min, got.kl_max) == (0.0, 0.0)
    one = crossent.compare(x[:1], x[:1], np.zeros(1, int))
    assert math.isnan(one.target_probability_rms_difference_standard_error or 0.0)


def test_rows_with_a_nan_have_no_prediction_in_common() -> None:
    x = np.array([[0.0, 2.0], [math.nan, 2.0], [math.nan, math.nan]])
    assert crossent.compare(x, x).same_top == 1 / 3
    assert crossent.compare(x[:1], x[1:2]).same_top == 0.0


def test_a_comparison_is_frozen_and_readable() -> None:
    x, y, t, _ = _models(30)
    comparison = crossent.compare(x, y, t)
    with pytest.raises(AttributeError):
        comparison.kl_mean = 0.0  # type: ignore[misc]
    for part in (
        "mean KL(P || Q)",
        "percentile 99.9",
        "same prediction",
        "ln(PPL(Q) / PPL(P))",
        "correlation",
    ):
        assert part in repr(comparison)
        assert part in comparison._repr_html_().replace("&amp;", "&")
    assert "correlation" not in repr(crossent.compare(x, y))
    assert (
        json.loads(json.dumps(comparison.to_dict()))["kl_percentiles"]["99.9"]
        == comparison.kl_percentiles[99.9]
    )


# ---- errors ---------------------------------------------------------------------------------------------

X, T = np.zeros((3, 4)), np.array([0, 1, 2])


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((X, X[:2]), {}, ValueError, r"other_logits has the wrong shape: got \(2, 4\), expected \(3, 4\)"),
        ((X, X, [0, 4, 1]), {}, IndexError, r"target\[1\] = 4"),
        ((X, X, X), {}, TypeError, "compare takes class indices"),
        ((X, X, T[:2]), {}, ValueError, "target"),
        ((X, X), {"axis": 3}, IndexError, "axis"),
        ((X, X), {"where": [True]}, ValueError, "where"),
        ((X, X.astype(int)), {}, TypeError, "other_logits must be floating"),
        ((X, X), {"shift": -1}, ValueError, "shift"),
        ((X, X), {"shift": 1, "axis": 0}, ValueError, "positions"),
        ((1.0, 1.0), {}, ValueError, "class axis"),
        ((X, X, T), {"ignore_index": 2**63}, OverflowError, "int64"),
    ],
)
def test_errors_name_what_is_wrong(arguments: Any, options: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        crossent.compare(*arguments, **options)


def test_an_update_that_raises_adds_nothing() -> None:
    comparer = crossent.Comparer()
    comparer.update(X, X, T)
    before = comparer.to_json()
    for arguments in ((X, X, [0, 9, 0]), (X, X), (X, X[:1], T)):
        with pytest.raises((ValueError, IndexError)):
            comparer.update(*arguments)
        assert comparer.to_json() == before
    with pytest.raises(TypeError, match="comparer"):
        comparer.merge(crossent.Scorer())
    other = crossent.Comparer()
    other.update(X, X)
    with pytest.raises(ValueError, match="some rows only"):
        comparer.merge(other)
