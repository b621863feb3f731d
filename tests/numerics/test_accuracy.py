"""The largest error in units in the last place, against sixty digits, on rows chosen to be hard.

The bounds are part of the contract: a kernel that exceeds one fails here. They hold over the normal range of
each dtype, for results that overflow to an infinity, and for subnormal results.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

import crossent
import exact
import reference
from arrays import BFLOAT16, DTYPES, HALVES, Array, DType, loss_dtype, name
from crossing import crossed
from ulp import ulp_distance, ulp_error

MAX_ULP = {"float32": 4.0, "float64": 4.0}
MAX_ULP_HALF = 1.0  # of half-precision results against the correctly rounded ones

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
full_precision = pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=name)


def _distinct(rng: np.random.Generator, size: int, scale: float = 1.0, distinct: int = 997) -> Array:
    """Many random logits of few values, so that the exact sum is cheap."""
    return rng.choice(rng.standard_normal(distinct) * scale, size)


def _normal_row(width: int) -> Array:
    return np.random.default_rng(width).standard_normal(width) * 3


def _dominated_row(gap: float) -> Array:
    return np.r_[np.random.default_rng(5).standard_normal(999), gap + 3.0]


def _rows() -> dict[str, Callable[[], Array]]:
    """In float64; each is rounded to the dtype under test first."""

    def rng(seed: int) -> np.random.Generator:
        return np.random.default_rng(seed)

    rows: dict[str, Callable[[], Array]] = {
        "magnitude 1e-30": lambda: np.array([1e-30, -1e-30, 2e-30, 0.0]),
        "magnitude 1e4": lambda: np.array([1e4, 1e4 - 1, -1e4, 9.9e3, 1e4 - 30]),
        "magnitude 3e38": lambda: np.array([1e38, -1e38, 3e38]),
        "two at 3e38": lambda: np.array([3e38, 3e38, -3e38]),
        "all at -3e38": lambda: np.full(5, -3e38),
        "every magnitude": lambda: np.r_[10.0 ** np.arange(-30, 38), -(10.0 ** np.arange(-30, 38))],
        "offset 1e6": lambda: 1e6 + np.array([0.0, 0.25, 1.5, -3.0, -20.0]),
        "offset -1e6": lambda: -1e6 + np.array([0.0, 0.25, 1.5, -3.0, -20.0]),
        "tiny gaps": lambda: 1 + np.arange(10) * 2.0**-23,
        "tinier gaps": lambda: 1 + np.arange(10) * 2.0**-52,
        "equal pair": lambda: np.array([0.1, 0.1]),
        "a million equal": lambda: np.full(1_000_000, 0.3),
        "a million": lambda: _distinct(rng(1), 1_000_000),
        "a million, far apart": lambda: _distinct(rng(2), 1_000_000, 30.0),
        "subnormal logits": lambda: np.array([1e-40, -1e-40, 3e-45, 1e-310, -5e-324, 0.0]),
        "masked": lambda: np.where(np.arange(130) % 2, -np.inf, np.sin(np.arange(130.0)) * 4),
        "all masked but one": lambda: np.where(np.arange(70) == 66, 2.5, -np.inf),
        "all masked but two": lambda: np.where(np.arange(70) < 68, -np.inf, [0.5] * 69 + [-9.5]),
        "one class": lambda: np.array([7.0]),
        "the largest last": lambda: np.linspace(-40, 3, 1025),
        "the largest first": lambda: np.linspace(3, -40, 1025),
        "rising in blocks": lambda: np.repeat(np.arange(0.0, 40.0, 0.5), 64),
        "a cliff in the middle": lambda: np.r_[np.full(2000, -60.0), 5.0, np.full(2000, -60.5)],
    }
    for width in (2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 100, 101, 1000, 1030, 5000):
        rows[f"ordinary, {width} classes"] = functools.partial(_normal_row, width)
    for gap in (1, 7, 12, 16, 17, 20, 25, 37, 40, 46, 60, 80, 86, 300, 700):
        rows[f"pair, gap {gap}"] = functools.partial(np.array, [0.0, -float(gap)])
    for gap in (10, 20, 46, 80):
        rows[f"dominant by {gap}"] = functools.partial(_dominated_row, gap)
    rows["target 18 above 128,256"] = lambda: np.r_[18.0, _distinct(rng(3), 128_255)]
    return rows


ROWS = _rows()
every_row = pytest.mark.parametrize("key", ROWS)


def _row(key: str, dtype: DType) -> Array:
    with np.errstate(over="ignore", under="ignore"):
        return ROWS[key]().astype(dtype)


def _places(row: Array) -> list[int]:
    """All classes of a narrow row; else the ends, the extremes, and some in between."""
    if row.size <= 130:
        return list(range(row.size))
    some = np.random.default_rng(0).integers(0, row.size, 30)
    return sorted({0, row.size - 1, int(row.argmax()), int(row.argmin()), *map(int, some)})


def _normal(values: list[Any], dtype: DType) -> Array:
    """Which of the exact values are 0 or at least the smallest normal number."""
    tiny = float(np.finfo(dtype).smallest_normal)
    return np.array([value == 0 or mpmath.isinf(value) or abs(value) >= tiny for value in values])


def _check(actual: Array, values: list[Any], dtype: DType) -> None:
    normal = _normal(values, dtype)
    assert actual.dtype == dtype
    errors = ulp_error(actual, values)
    assert errors[normal].max(initial=0) <= MAX_ULP[dtype.name]


@every_row
@full_precision
def test_log_softmax(dtype: DType, key: str) -> None:
    row = _row(key, dtype)
    at = _places(row)
    _check(crossent.log_softmax(row)[at], exact.log_softmax(row, at), dtype)
    if row.size <= 5000:
        columns = np.repeat(row[:, np.newaxis], 3, axis=1)
        _check(crossent.log_softmax(columns, 0)[at, 1], exact.log_softmax(row, at), dtype)


@every_row
@full_precision
def test_softmax(dtype: DType, key: str) -> None:
    row = _row(key, dtype)
    at = _places(row)
    _check(crossent.softmax(row)[at], exact.softmax(row, at), dtype)
    if row.size <= 5000:
        columns = np.repeat(row[:, np.newaxis], 3, axis=1)
        _check(crossent.softmax(columns, 0)[at, 1], exact.softmax(row, at), dtype)


@every_row
@full_precision
def test_logsumexp(dtype: DType, key: str) -> None:
    """In units of the larger of the result and the largest logit: near 0 the two halves of it cancel."""
    row = _row(key, dtype)
    value = exact.logsumexp(row)
    scale = max(abs(value), abs(mpmath.mpf(float(row.max()))))
    for actual in (crossent.logsumexp(row), crossent.logsumexp(np.repeat(row[:, None], 2, 1), 0)[1]):
        assert actual.dtype == dtype
        assert ulp_error(actual, [value], [scale]).max() <= MAX_ULP[dtype.name]


@every_row
@full_precision
def test_cross_entropy(dtype: DType, key: str) -> None:
    row = _row(key, dtype)
    at = _places(row)
    if row.size == 1:  # a batch of one class is warned of
        return
    rows = np.broadcast_to(row, (len(at), row.size))
    values = [-value for value in exact.log_softmax(row, at)]
    _check(crossent.cross_entropy(rows, at, reduction="none"), values, dtype)
    if row.size <= 5000:
        columns = np.asfortranarray(rows)
        _check(crossent.cross_entropy(columns, at, reduction="none"), values, dtype)


@pytest.mark.parametrize("width", [2, 3, 7, 30, 100])
@full_precision
def test_many_ordinary_rows(dtype: DType, width: int) -> None:
    """Rows like those of a classifier: no extreme, but many of them, so that roundings add up somewhere."""
    rng = np.random.default_rng(width)
    count = 6_000 // width
    x = (rng.standard_normal((count, width)) * rng.choice([0.1, 1.0, 4.0], (count, 1))).astype(dtype)
    x += rng.choice(np.array([0.0, 3.0, -100.0], dtype), (count, 1))
    target = rng.integers(0, width, count)
    values = [exact.log_softmax(row, [t])[0] for row, t in zip(x, target, strict=True)]
    _check(crossent.cross_entropy(x, target, reduction="none"), [-value for value in values], dtype)
    _check(crossent.log_softmax(x)[np.arange(count), target], values, dtype)
    values = [exact.softmax(row, [t])[0] for row, t in zip(x, target, strict=True)]
    _check(crossent.softmax(x)[np.arange(count), target], values, dtype)


@pytest.mark.parametrize("width", [3, 30, 100])
@full_precision
def test_many_ordinary_rows_with_probabilities_and_smoothing(dtype: DType, width: int) -> None:
    rng = np.random.default_rng(width)
    count = 3_000 // width
    x = (rng.standard_normal((count, width)) * 3).astype(dtype)
    q = rng.dirichlet(np.ones(width), count).astype(dtype)
    target = rng.integers(0, width, count)
    probabilities, smoothed = [], []
    with mpmath.workdps(exact.DIGITS):
        share = mpmath.mpf(0.1)
        for row, weights, t in zip(x, q, target, strict=True):
            log_p = exact.log_softmax(row, range(width))
            probabilities.append(-sum(mpmath.mpf(float(w)) * v for w, v in zip(weights, log_p, strict=True)))
            smoothed.append(-(1 - share) * log_p[t] - share / width * sum(log_p))
    _check(crossent.cross_entropy(x, q, reduction="none"), probabilities, dtype)
    losses = crossent.cross_entropy(x, target, reduction="none", label_smoothing=0.1)
    _check(losses, smoothed, dtype)


def test_sums_over_a_million_classes_lose_nothing() -> None:
    """Weights, probabilities and their products are summed with what each addition rounds away."""
    width = 1_000_000
    x = _distinct(np.random.default_rng(8), width)[np.newaxis]
    weight = np.full(width, 0.1)
    log_p = exact.log_softmax(x[0], range(997))
    with mpmath.workdps(exact.DIGITS):
        values, counts = np.unique(x[0], return_counts=True)
        first = {v: i for i, v in reversed(list(enumerate(x[0])))}
        at = exact.log_softmax(x[0], [first[v] for v in values])
        total = sum(int(n) * v for n, v in zip(counts, at, strict=True))
        tenth, e = mpmath.mpf(0.1), mpmath.mpf(0.1)
        smoothed = -(1 - e) * tenth * log_p[3] - e / width * tenth * total
        even = -mpmath.mpf(1 / width) * total
    loss = crossent.cross_entropy(x, [3], weight, label_smoothing=0.1, reduction="sum")
    assert ulp_error(loss, [smoothed])[0] <= MAX_ULP["float64"]
    loss = crossent.cross_entropy(x, np.full((1, width), 1 / width), reduction="sum")
    assert ulp_error(loss, [even])[0] <= MAX_ULP["float64"]


@every_row
def test_a_float64_loss_of_float32_logits_has_float64_sums(key: str) -> None:
    """dtype= widens the result; the terms of float32 rows may carry float32 exponentials."""
    row = _row(key, FLOAT32)
    if row.size == 1:
        return
    at = _places(row)
    rows = np.broadcast_to(row, (len(at), row.size))
    losses = crossent.cross_entropy(rows, at, reduction="none", dtype=np.float64)
    values = [-value for value in exact.log_softmax(row, at)]
    normal = _normal(values, FLOAT32)
    in_float32_ulp = ulp_error(losses, values) * 2.0**-29
    assert in_float32_ulp[normal].max(initial=0) <= MAX_ULP["float32"]


@full_precision
def test_a_dominant_class_keeps_a_loss_of_1e_20(dtype: DType) -> None:
    for width in (2, 3, 10, 65, 1000, 5000):
        row = np.full(width, -46.0 - np.log(width)).astype(dtype)
        row[width // 2] = 0
        value = -exact.log_softmax(row, [width // 2])[0]
        assert 1e-21 < value < 2e-20
        rows = np.stack([row, row])
        for view in (rows, np.asfortranarray(rows)):
            losses = crossent.cross_entropy(view, [width // 2] * 2, reduction="none")
            _check(losses, [value, value], dtype)


@full_precision
def test_the_mean_of_many_rows(dtype: DType) -> None:
    rng = np.random.default_rng(4)
    logits = (rng.standard_normal((211, 7)) * 4).astype(dtype)
    target = rng.integers(0, 7, 211)
    with mpmath.workdps(exact.DIGITS):
        values = [-exact.log_softmax(row, [t])[0] for row, t in zip(logits, target, strict=True)]
        once = sum(values)
        times = 97
        for reduction, value in (("mean", once / 211), ("sum", once * times)):
            loss = crossent.cross_entropy(
                np.tile(logits, (times, 1)), np.tile(target, times), reduction=reduction
            )
            _check(np.atleast_1d(loss), [value], dtype)


@full_precision
def test_nll_loss(dtype: DType) -> None:
    rng = np.random.default_rng(5)
    log_p = -np.exp(rng.standard_normal((20_001, 3)) * 5).astype(dtype)
    target = rng.integers(0, 3, 20_001)
    weight = rng.random(3).astype(dtype) + dtype.type(0.5)
    picked = -log_p[np.arange(20_001), target]
    with mpmath.workdps(exact.DIGITS):
        exact_picked = [mpmath.mpf(float(v)) for v in picked]
        exact_weights = [mpmath.mpf(float(v)) for v in weight[target]]
        total = sum(exact_picked)
        weighted = sum(p * w for p, w in zip(exact_picked, exact_weights, strict=True))
        np.testing.assert_array_equal(crossent.nll_loss(log_p, target, reduction="none"), picked)
        cases = [
            (None, "sum", total),
            (None, "mean", total / 20_001),
            (weight, "sum", weighted),
            (weight, "mean", weighted / sum(exact_weights)),
        ]
        for given, reduction, value in cases:
            loss = crossent.nll_loss(log_p, target, given, reduction=reduction)
            _check(np.atleast_1d(loss), [value], dtype)


SIGMOID = np.r_[
    0.0, 10.0 ** np.arange(-30, 39, 0.5), 3e38, np.linspace(0.1, 30, 300), 17, 37, 60, 80, 87, 100, 300, 700
]  # fmt: skip


@full_precision
def test_log_sigmoid(dtype: DType) -> None:
    with np.errstate(over="ignore"):
        x = np.r_[SIGMOID, -SIGMOID].astype(dtype)
    x = x[np.isfinite(x)]
    _check(crossent.log_sigmoid(x), [exact.log_sigmoid(v) for v in x], dtype)


# ---- weights, smoothing and probabilities, against the float64 reference --------------------------------


@pytest.mark.parametrize("offset", [0.0, 1e3, -1e6])
@pytest.mark.parametrize("width", [2, 10, 65, 1030])
@full_precision
def test_weights_smoothing_and_probabilities(dtype: DType, width: int, offset: float) -> None:
    rng = np.random.default_rng(6)
    x = (rng.standard_normal((50, width)) * 3 + offset).astype(dtype)
    t = rng.integers(0, width, 50)
    w = rng.random(width).astype(dtype)
    p = rng.random((50, width)).astype(dtype)
    for target in (t, p):
        for weight in (None, w):
            for smoothing in (0.0, 0.1, 0.9):
                args: dict[str, Any] = {"reduction": "none", "label_smoothing": smoothing}
                actual = crossent.cross_entropy(x, target, weight, **args)
                expected = reference.cross_entropy(x, target, weight, **args)
                if dtype == FLOAT32:
                    assert ulp_distance(actual, expected.astype(dtype)).max() <= MAX_ULP["float32"]
                else:  # sums of up to 1,030 terms, here and in the reference
                    np.testing.assert_allclose(actual, expected, rtol=1e-14)


# ---- rows that nobody listed ----------------------------------------------------------------------------


def _exact_loss(row: Array, q: list[Any]) -> Any:
    """sum q (-log softmax), where a q of 0 adds nothing."""
    log_p = exact.log_softmax(row, range(row.size))
    return mpmath.fsum(a * -b for a, b in zip(q, log_p, strict=True) if a != 0)


def _index_target(width: int, t: int, weight: Array | None, smoothing: float) -> list[Any]:
    """The q of a class number."""
    w = [mpmath.mpf(1 if weight is None else float(weight[i])) for i in range(width)]
    share = mpmath.mpf(smoothing) / width
    return [share * w[i] + (1 - mpmath.mpf(smoothing)) * w[i] * (i == t) for i in range(width)]


@pytest.mark.parametrize(
    ("width", "gap", "smoothing"),
    crossed([2, 4, 64, 70, 1500], [0.0, 3.0, 8.0, 40.0, 700.0], [0.0, 1e-7, 0.1, 1.0], more=10),
)
@full_precision
def test_uneven_weights_cost_a_gradient_no_digits(
    dtype: DType, width: int, gap: float, smoothing: float
) -> None:
    """The target's entry is p sum(q) - q: where its weight is small beside the others', the digits of p count."""
    row = np.cos(np.arange(width)).astype(dtype)
    row[0] += dtype.type(gap)
    weight = np.where(np.arange(width) % 2, 1e-3, 1e3).astype(dtype)
    p = exact.softmax(row, range(width))
    for t in (0, 1):
        loss, grad = crossent.cross_entropy_and_grad(
            row[np.newaxis], [t], weight, reduction="sum", label_smoothing=smoothing
        )
        with mpmath.workdps(exact.DIGITS):
            q = _index_target(width, t, weight, smoothing)
            total = mpmath.fsum(q)
            _check(loss.reshape(1), [_exact_loss(row, q)], dtype)
            entries = [total * a - b for a, b in zip(p, q, strict=True)]
            scales = [max(total * a, b) for a, b in zip(p, q, strict=True)]
        assert ulp_error(grad[0], entries, scales).max() <= MAX_ULP[dtype.name]


@pytest.mark.parametrize("width", [3, 64, 70, 1500])
@pytest.mark.parametrize("upstream", [1e-300, 1e-45, 1e38, 1e60, 1e90, 1e300, -1e300, np.inf])
@full_precision
def test_a_class_that_is_masked_has_a_gradient_of_zero_whatever_is_upstream(
    dtype: DType, upstream: float, width: int
) -> None:
    row = np.where(np.arange(width) % 2, -np.inf, 1.0).astype(dtype)
    _, grad = crossent.cross_entropy_and_grad(row[np.newaxis], [0], reduction="sum", grad_output=upstream)
    if np.isfinite(upstream):
        assert not grad[0, 1::2].any()
    assert not np.isnan(grad[0, ::2]).any()


@pytest.mark.parametrize("width", [2, 3, 100, 101, 1500])
@full_precision
def test_a_target_that_is_masked_has_an_infinite_loss_and_a_finite_gradient(dtype: DType, width: int) -> None:
    row = np.r_[np.linspace(-3, 3, width - 1), -np.inf].astype(dtype)
    for smoothing in (0.0, 1e-7, 1.0):
        loss, grad = crossent.cross_entropy_and_grad(
            row[np.newaxis], [width - 1], reduction="sum", label_smoothing=smoothing
        )
        assert loss == np.inf
        q = _index_target(width, width - 1, None, smoothing)
        p = exact.softmax(row, range(width))
        entries = [a - b for a, b in zip(p, q, strict=True)]
        scales = [max(a, b) for a, b in zip(p, q, strict=True)]
        assert ulp_error(grad[0], entries, scales).max() <= MAX_ULP[dtype.name]
    # Without a part in the target, a masked class adds nothing.
    q = np.r_[np.full(width - 1, 1 / (width - 1)), 0.0]
    assert np.isfinite(crossent.cross_entropy(row[np.newaxis], q[np.newaxis]))


@pytest.mark.parametrize("width", [2, 3, 5, 10, 30, 64, 65, 100, 101, 1000])
def test_half_a_million_logits_of_float32(width: int) -> None:
    """More rows than mpmath can follow: against float64, whose own error is 1e-8 units of float32."""
    rng = np.random.default_rng(width)
    count = 500_000 // width
    x = (rng.standard_normal((count, width)) * rng.choice([0.1, 1.0, 4.0, 20.0], (count, 1))).astype(
        np.float32
    )
    target = np.where(np.arange(count) % 2, x.argmax(1), rng.integers(0, width, count))
    log_p, rows = reference.log_softmax(x), np.arange(count)
    p = np.exp(log_p)
    limit = 3.0

    def within(actual: Array, expected: Array) -> None:
        unit = np.ldexp(1.0, np.maximum(np.frexp(expected)[1] - 1, -126) - 23)
        assert (np.abs(actual - expected) <= limit * unit).all()

    within(crossent.log_softmax(x), log_p)
    within(crossent.softmax(x), p)
    within(crossent.cross_entropy(x, target, reduction="none"), -log_p[rows, target])
    _, grad = crossent.cross_entropy_and_grad(x, target, reduction="sum")
    p[rows, target] = np.expm1(log_p[rows, target])
    within(grad, p)


# ---- subnormal results ----------------------------------------------------------------------------------


@full_precision
def test_results_fade_out_through_the_subnormal_numbers(dtype: DType) -> None:
    """Below the smallest normal number the error is counted in steps of the smallest subnormal one."""
    gaps = np.arange(87.5, 105, 0.5) if dtype == FLOAT32 else np.arange(708.5, 746, 0.5)
    for gap in gaps:
        row = np.array([0.0, -gap]).astype(dtype)
        p, log_p, loss = crossent.softmax(row), crossent.log_softmax(row), crossent.cross_entropy(row, 0)
        value = exact.softmax(row, [1])[0]
        assert ulp_error(p[1], [value])[0] <= MAX_ULP[dtype.name]
        value = exact.log_softmax(row, [0])[0]
        assert ulp_error(log_p[0], [value])[0] <= MAX_ULP[dtype.name]
        assert ulp_error(loss, [-value])[0] <= MAX_ULP[dtype.name]
    x = gaps.astype(dtype)
    errors = ulp_error(crossent.log_sigmoid(x), [exact.log_sigmoid(v) for v in x])
    assert errors.max() <= MAX_ULP[dtype.name]


# ---- where a factor or a sum is beyond the range of numbers, and the loss is not ------------------------


def _divergence_terms() -> tuple[Array, Array]:
    """Log-probabilities t and x for which exp(t) is subnormal, 0 or infinite as a float64."""
    rng = np.random.default_rng(11)
    faded = -np.r_[rng.uniform(700, 760, 800), rng.uniform(740, 1470, 800), 745.1, 745.2, 708.4, 1500.0, 1e6]
    far = -(
        10.0 ** np.r_[rng.uniform(0, 308, 800), rng.uniform(295, 308.2, 800), 20.0, 300.0, 1.0, 308.0, 308.0]
    )
    large = np.r_[rng.uniform(705, 712, 100), 709.9, 720.0]
    near = large + np.r_[rng.uniform(-1, 1, 100) * 10.0 ** rng.uniform(-12, 0, 100), 1e-5, -1e-10]
    return np.r_[faded, large], np.r_[far, near]


@pytest.mark.filterwarnings("ignore:.*kl_div takes log-probabilities")
def test_a_divergence_keeps_its_digits_where_the_probability_has_none() -> None:
    """exp(t) (t - x) with t near -745, where exp(t) is a subnormal number or 0, but times 1e300 is neither."""
    t, x = _divergence_terms()
    with mpmath.workdps(exact.DIGITS):
        pairs = [(mpmath.mpf(a), mpmath.mpf(b)) for a, b in zip(t.tolist(), x.tolist(), strict=True)]
        values = [mpmath.exp(a) * (a - b) for a, b in pairs]
        scales = [mpmath.exp(a) * max(abs(a), abs(b)) for a, b in pairs]
        slopes = [-mpmath.exp(a) for a, _ in pairs]
    losses, grad = crossent.kl_div_and_grad(x, t, reduction="none", log_target=True)
    assert ulp_error(losses, values, scales).max() <= 2.5
    assert ulp_error(grad, slopes).max() <= 1.5
    for isolated in (0, 900, 1650):  # whatever else is in its vector
        assert crossent.kl_div(x[isolated], t[isolated], log_target=True) == losses[isolated]


@pytest.mark.parametrize("dtype", [FLOAT32, *HALVES], ids=name)
def test_a_divergence_of_narrow_numbers_is_rounded_once(dtype: DType) -> None:
    rng = np.random.default_rng(12)
    t = -rng.uniform(80, 130, 500).astype(dtype)
    x = -(10.0 ** rng.uniform(0, 4.5, 500)).astype(dtype)
    with mpmath.workdps(exact.DIGITS):
        pairs = [(mpmath.mpf(float(a)), mpmath.mpf(float(b))) for a, b in zip(t, x, strict=True)]
        values = [mpmath.exp(a) * (a - b) for a, b in pairs]
        slopes = [-mpmath.exp(a) for a, _ in pairs]
    losses, grad = crossent.kl_div_and_grad(x, t, reduction="none", log_target=True)
    assert ulp_error(losses, values).max() <= 0.51
    assert ulp_error(grad, slopes).max() <= 0.51


@pytest.mark.filterwarnings("ignore:.*kl_div takes log-probabilities")
def test_a_target_of_log_probability_is_nothing_at_minus_infinity_alone() -> None:
    t = np.array([-np.inf, -np.inf, -1e6, -1e300, -746.0, -np.inf])
    x = np.array([-np.inf, 1.0, -np.inf, -np.inf, -np.inf, np.nan])
    expected = [0.0, 0.0, np.inf, np.inf, np.inf, np.nan]
    np.testing.assert_array_equal(crossent.kl_div(x, t, reduction="none", log_target=True), expected)


def _far_rows(width: int) -> Array:
    rng = np.random.default_rng(width)
    rows = rng.choice([1.0, -1.0, 0.5, -0.25, 0.0, 1e-300], (4, width)) * 1.7e308
    rows[1] = rng.uniform(-1, 1, width) * 1.797e308
    rows[2, :] = 0.9e308
    rows[2, 0] = -0.9e308
    return rows


@pytest.mark.parametrize(
    ("width", "smoothing", "weighted", "soft"),
    crossed([2, 3, 64, 100, 101, 1500], [0.0, 0.125, 1.0], [False, True], [False, True], more=10),
)
def test_a_loss_is_finite_where_the_distances_that_it_is_the_mean_of_are_not(
    width: int, smoothing: float, weighted: bool, soft: bool
) -> None:
    """Logits near the largest float64: differences of two, and their sums over the classes, exceed it."""
    x = _far_rows(width)
    rng = np.random.default_rng(3)
    t = np.array([0, width - 1, 1, width // 2])
    p = rng.dirichlet(np.ones(width), 4)
    w = rng.uniform(0.01, 0.4, width) if weighted else None
    target = p if soft else t
    values, entries, scales = [], [], []
    with mpmath.workdps(exact.DIGITS):
        for row, hot, even in zip(x, t, p, strict=True):
            q = _index_target(width, int(hot), w, smoothing)
            if soft:
                e, of = mpmath.mpf(smoothing), np.ones(width) if w is None else w
                q = [
                    mpmath.mpf(b) * (mpmath.mpf(a) * (1 - e) + e / width)
                    for a, b in zip(even, of, strict=True)
                ]
            values.append(_exact_loss(row, q))
            share = exact.softmax(row, range(width))
            total = mpmath.fsum(q)
            entries += [total * a - b for a, b in zip(share, q, strict=True)]
            scales += [max(total * a, b) for a, b in zip(share, q, strict=True)]
    for view in (x, np.asfortranarray(x)):
        losses, grad = crossent.cross_entropy_and_grad(
            view, target, w, reduction="none", label_smoothing=smoothing
        )
        _check(losses, values, FLOAT64)
        assert ulp_error(grad.reshape(-1), entries, scales).max() <= MAX_ULP["float64"]


def test_a_masked_class_and_an_infinite_weight_cost_what_they_did_near_the_largest_number() -> None:
    x = np.array([[1.7e308, -1.7e308, -np.inf], [1.7e308, -1.7e308, 0.0], [np.inf, -1.7e308, 0.0]])
    losses = crossent.cross_entropy(x, [0, 0, 0], label_smoothing=0.1, reduction="none")
    assert losses[0] == np.inf
    assert losses[1] == pytest.approx(0.1 / 3 * 2 * 1.7e308 + 0.1 / 3 * 1.7e308, rel=1e-15)
    assert np.isnan(losses[2])
    assert crossent.cross_entropy(x[1:2], [1], np.array([1.0, np.inf, 1.0]), reduction="none")[0] == np.inf
    # float32 rows are summed in float64.
    narrow = np.array([[3.4e38, -3.4e38, -3.4e38]], np.float32)
    loss = crossent.cross_entropy(narrow, [0], label_smoothing=0.5, reduction="none", dtype="f8")[0]
    top = float(narrow[0, 0])
    assert loss == pytest.approx(0.5 / 3 * 2 * 2 * top, rel=1e-15)


# ---- half precision -------------------------------------------------------------------------------------


def _half_rows(dtype: DType) -> list[Array]:
    rng = np.random.default_rng(7)
    largest = 6e4 if dtype == np.float16 else 3e38
    rows = [rng.standard_normal((20, width)) * 3 for width in (1, 2, 3, 8, 17, 65, 1030, 5000)]
    rows += [
        np.array([[0.0, -g] for g in (1, 5, 7, 9, 11, 16, 20, 80)]),
        np.array([[largest, -largest, 0.0], [-largest, -largest, -largest], [largest, largest, largest / 2]]),
        np.array([[1e-7, -1e-7, 6e-8], [1e-5, 0.0, -1e-5]]),
        np.zeros((1, 100_000)),
        np.where(np.arange(130) % 3, -np.inf, rng.standard_normal((3, 130))),
    ]
    with np.errstate(over="ignore"):
        return [row.astype(dtype) for row in rows]


@pytest.mark.parametrize("dtype", HALVES, ids=name)
def test_half_precision_rows_are_rounded_once(dtype: DType) -> None:
    for rows in _half_rows(dtype):
        for x, axis in ((rows, 1), (np.ascontiguousarray(rows.T), 0)):
            for actual, expected in (
                (crossent.log_softmax(x, axis), reference.log_softmax(x, axis)),
                (crossent.softmax(x, axis), reference.softmax(x, axis)),
                (crossent.logsumexp(x, axis), reference.logsumexp(x, axis)),
                (crossent.log_sigmoid(x), reference.log_sigmoid(x)),
            ):
                with np.errstate(over="ignore", under="ignore"):
                    assert ulp_distance(actual, expected.astype(dtype)).max() <= MAX_ULP_HALF


@pytest.mark.parametrize("width", [3, 100])
def test_nearly_all_of_log_softmax_of_float16_is_the_nearest_number(width: int) -> None:
    """All but those that lie within the float32 exponentials' error of the middle between two float16."""
    rng = np.random.default_rng(width)
    x = (rng.standard_normal((900_000 // width, width)) * 4).astype(np.float16)
    expected = reference.log_softmax(x, 1).astype(np.float16)
    for view in (x, np.asfortranarray(x)):
        actual = crossent.log_softmax(view, 1)
        assert ulp_distance(actual, expected).max() <= 1
        assert (actual != expected).mean() < 2e-5


@pytest.mark.parametrize("dtype", HALVES, ids=name)
def test_half_precision_losses_are_float32_right(dtype: DType) -> None:
    for x in _half_rows(dtype):
        if x.shape[1] == 1:
            continue
        t = np.arange(len(x)) % x.shape[1]
        for view in (x, np.asfortranarray(x)):
            losses = crossent.cross_entropy(view, t, reduction="none")
            with np.errstate(over="ignore"):
                expected = reference.cross_entropy(x, t, reduction="none").astype(np.float32)
            assert ulp_distance(losses, expected).max() <= MAX_ULP["float32"]


@pytest.mark.filterwarnings("ignore:.*kl_div takes log-probabilities")
@pytest.mark.parametrize("dtype", HALVES, ids=name)
def test_losses_of_half_precision_have_the_bits_of_the_same_numbers_in_float32(dtype: DType) -> None:
    rng = np.random.default_rng(9)
    for rows in _half_rows(dtype):
        if rows.shape[1] == 1:
            continue
        rows[np.isinf(rows)] = -np.inf
        single, t = rows.astype(np.float32), np.arange(len(rows)) % rows.shape[1]
        soft = rng.dirichlet(np.ones(rows.shape[1]), len(rows)).astype(dtype)
        for half, full in ((rows, single), (np.asfortranarray(rows), np.asfortranarray(single))):
            for reduction in ("none", "mean", "sum"):
                options: dict[str, Any] = {"reduction": reduction}
                calls: list[tuple[Any, Any, dict[str, Any]]] = [
                    (crossent.cross_entropy, t, options),
                    (crossent.cross_entropy, t, {**options, "label_smoothing": 0.1}),
                    (crossent.cross_entropy, soft, options),
                    (crossent.nll_loss, t, options),
                ]
                for function, target, given in calls:
                    same = target if target is t else target.astype(np.float32)
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore", crossent.LikelyMistakeWarning)
                        loss, expected = function(half, target, **given), function(full, same, **given)
                    assert loss.dtype == np.float32
                    assert loss.tobytes() == expected.tobytes()
    x = (rng.standard_normal(4000) * 4).astype(dtype)
    p, t = rng.random(4000).astype(dtype), rng.random(4000).astype(dtype)
    for function, *arguments in (
        (crossent.binary_cross_entropy_with_logits, x, t),
        (crossent.binary_cross_entropy, p, t),
        (crossent.kl_div, x, p),
        (crossent.gaussian_nll_loss, x, t, p),
        (crossent.poisson_nll_loss, x, p),
    ):
        loss = function(*arguments, reduction="none")
        expected = function(*(numbers.astype(np.float32) for numbers in arguments), reduction="none")
        assert loss.dtype == np.float32
        assert loss.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", HALVES, ids=name)
def test_every_half_precision_number_has_its_log_sigmoid(dtype: DType) -> None:
    x = np.arange(65_536, dtype=np.uint16).view(dtype)
    with np.errstate(all="ignore"):
        expected = reference.log_sigmoid(x).astype(dtype)
    assert ulp_distance(crossent.log_sigmoid(x), expected).max() <= MAX_ULP_HALF


def test_the_loss_dtypes_are_the_ones_bounded_here() -> None:
    assert {loss_dtype(dtype).name for dtype in DTYPES} == set(MAX_ULP)
    assert BFLOAT16 in HALVES
