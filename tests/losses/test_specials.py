"""Infinities, nans, empty shapes, ignored rows and ranks: torch's answers, and where crossent means to differ."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest

import crossent
import reference
from arrays import BFLOAT16, DTYPES, HALVES, INTEGERS, Array, DType, loss_dtype, name

INF, NAN = np.inf, np.nan

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=name)
every_reduction = pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
mistakes_allowed = pytest.mark.filterwarnings("ignore::crossent.LikelyMistakeWarning")

# ---- rows that are not finite ---------------------------------------------------------------------------

# (row, logsumexp, log_softmax, softmax, cross entropy of target 0)
ROWS: dict[str, tuple[list[float], float, list[float], list[float], float]] = {
    "one -inf": (
        [-INF, 0, 1], 1.3132616875, [-INF, -1.3132616875, -0.3132616875], [0, 0.2689414214, 0.7310585786], INF
    ),
    "all -inf": ([-INF, -INF, -INF], -INF, [NAN] * 3, [NAN] * 3, NAN),
    "one inf": ([INF, 0, 1], INF, [NAN] * 3, [NAN] * 3, NAN),
    "inf elsewhere": ([0, 1, INF], INF, [NAN] * 3, [NAN] * 3, NAN),
    "two inf": ([INF, INF, 1], INF, [NAN] * 3, [NAN] * 3, NAN),
    "inf and -inf": ([INF, -INF, 1], INF, [NAN] * 3, [NAN] * 3, NAN),
    "nan first": ([NAN, 0, 1], NAN, [NAN] * 3, [NAN] * 3, NAN),
    "nan last": ([0, 1, NAN], NAN, [NAN] * 3, [NAN] * 3, NAN),
    "nan and inf": ([0, INF, NAN], NAN, [NAN] * 3, [NAN] * 3, NAN),
    "nan and -inf": ([-INF, -INF, NAN], NAN, [NAN] * 3, [NAN] * 3, NAN),
    "negative nan": ([0, -NAN, 1], NAN, [NAN] * 3, [NAN] * 3, NAN),
}  # fmt: skip


def _placed(row: list[float], width: int, at: int, dtype: DType) -> Array:
    """The row's three logits among masked classes, `at` being the place of the first."""
    wide = np.full(width, -INF)
    wide[at : at + 3] = row
    return wide.astype(dtype)


def _as_rows(row: Array) -> list[tuple[Array, int, tuple[int, ...]]]:
    """The row alone, in batches, and along strided class axes: (array, class axis, the row's place)."""
    calm = np.zeros_like(row)
    rows = np.stack([calm, row, calm, row, calm])
    image = np.zeros((2, row.size, 3, 3), row.dtype)
    image[1, :, 2, 1] = row
    return [
        (row, 0, ()),
        (rows, 1, (3,)),
        (np.asfortranarray(rows), 1, (3,)),
        (np.ascontiguousarray(rows.T), 0, (3,)),
        (np.ascontiguousarray(rows[::-1, ::-1])[::-1, ::-1], 1, (3,)),
        (image, 1, (1, 2, 1)),
    ]


@pytest.mark.parametrize(("width", "at"), [(3, 0), (5, 1), (17, 14), (64, 30), (1030, 1027), (5000, 511)])
@pytest.mark.parametrize("key", ROWS)
@every_dtype
def test_nonfinite_rows_give_torchs_answer_anywhere(dtype: DType, key: str, width: int, at: int) -> None:
    row, total, log_p, p, _ = ROWS[key]
    rtol = 4 * float(np.finfo(np.float64).eps) if dtype == np.float64 else 1e-2 if dtype in HALVES else 1e-6
    rtol = max(rtol, 1e-9)  # the digits of the table
    dead = np.isnan(log_p[0])
    for x, axis, place in _as_rows(_placed(row, width, at, dtype)):
        actual = np.moveaxis(crossent.log_softmax(x, axis), axis, -1)[place].astype(np.float64)
        np.testing.assert_allclose(actual[at : at + 3], log_p, rtol=rtol)
        np.testing.assert_array_equal(np.delete(actual, range(at, at + 3)), NAN if dead else -INF)
        actual = np.moveaxis(crossent.softmax(x, axis), axis, -1)[place].astype(np.float64)
        np.testing.assert_allclose(actual[at : at + 3], p, rtol=rtol)
        np.testing.assert_array_equal(np.delete(actual, range(at, at + 3)), NAN if dead else 0)
        sums = np.asarray(crossent.logsumexp(x, axis))
        np.testing.assert_allclose(sums[place].astype(np.float64), total, rtol=rtol)


@pytest.mark.parametrize("width", [3, 10, 100, 101, 1030, 5000])
@pytest.mark.parametrize("key", ROWS)
@every_dtype
def test_losses_of_nonfinite_rows_are_torchs(dtype: DType, key: str, width: int) -> None:
    row, _, log_p, _, loss = ROWS[key]
    x = np.stack([np.zeros(width, dtype), _placed(row, width, 0, dtype)])
    for view, axis in ((x, 1), (np.asfortranarray(x), 1), (np.ascontiguousarray(x.T), 0)):
        losses = crossent.cross_entropy(view, [1, 0], reduction="none", axis=axis)
        np.testing.assert_allclose(losses, [math.log(width), loss], rtol=1e-6)
        losses = crossent.cross_entropy(view, [1, 2], reduction="none", axis=axis)
        np.testing.assert_allclose(losses, [math.log(width), -log_p[2]], rtol=1e-6)


@pytest.mark.parametrize("dtype", [BFLOAT16, np.dtype(np.float32), np.dtype(np.float64)], ids=name)
def test_logits_near_the_largest_float_do_not_overflow_before_they_must(dtype: DType) -> None:
    x = np.array([1e38, -1e38, 3e38]).astype(dtype)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(np.float64(crossent.logsumexp(x)), wide[2], rtol=1e-7)
    differences = wide - wide[2]
    expected = differences if dtype == np.float64 else [differences[0], -INF, 0.0]
    np.testing.assert_allclose(crossent.log_softmax(x).astype(np.float64), expected, rtol=1e-2)
    np.testing.assert_array_equal(crossent.softmax(x).astype(np.float64), [0, 0, 1])
    np.testing.assert_allclose(crossent.cross_entropy(x, 0), -differences[0], rtol=1e-6)
    assert crossent.cross_entropy(x, 2) == 0
    in_float64 = crossent.cross_entropy(x, 1, dtype=np.float64)
    np.testing.assert_allclose(in_float64, -differences[1], rtol=1e-12)


@every_dtype
def test_log_sigmoid_of_special_values(dtype: DType) -> None:
    x = np.array([-INF, -200, 0, 200, INF, NAN]).astype(dtype)
    actual = crossent.log_sigmoid(x).astype(np.float64)
    rtol = 1e-15 if dtype == np.float64 else 1e-2 if dtype in HALVES else 1e-7
    np.testing.assert_allclose(actual[[0, 1, 2, 4, 5]], [-INF, -200, -math.log(2), 0, NAN], rtol=rtol)
    tiny = -math.exp(-200) if dtype == np.float64 else 0.0
    np.testing.assert_allclose(actual[3], tiny, rtol=1e-12, atol=1e-60 if dtype == BFLOAT16 else 0)


@every_dtype
def test_a_nan_anywhere_reaches_the_result(dtype: DType) -> None:
    for width in (1, 2, 7, 8, 9, 33, 64, 130, 1025):
        for at in {0, width // 2, width - 1}:
            x = np.linspace(-1, 1, 3 * width).reshape(3, width).astype(dtype)
            x[1, at] = NAN
            expected = np.array([False, True, False])
            for view in (x, np.asfortranarray(x)):
                np.testing.assert_array_equal(np.isnan(crossent.logsumexp(view, 1)), expected)
                for rows in (crossent.log_softmax(view), crossent.softmax(view)):
                    np.testing.assert_array_equal(np.isnan(rows), np.repeat(expected[:, None], width, 1))


@every_dtype
def test_one_bad_row_spoils_no_other(dtype: DType) -> None:
    rng = np.random.default_rng(0)
    good = rng.standard_normal((9, 33)).astype(dtype)
    bad = good.copy()
    bad[4] = [INF, NAN, -INF] * 11
    others = np.arange(9) != 4
    for change in (np.asarray, np.asfortranarray):
        for function in (crossent.log_softmax, crossent.softmax):
            np.testing.assert_array_equal(function(change(bad))[others], function(change(good))[others])
        args = {"reduction": "none"}
        t = np.arange(9)
        np.testing.assert_array_equal(
            crossent.cross_entropy(change(bad), t, **args)[others],
            crossent.cross_entropy(change(good), t, **args)[others],
        )


@every_dtype
def test_smoothing_makes_a_masked_class_infinitely_dear(dtype: DType) -> None:
    x = np.array([[-INF, 0, 1]]).astype(dtype)
    assert crossent.cross_entropy(x, [1]) < 2
    assert crossent.cross_entropy(x, [1], label_smoothing=0.1) == INF
    assert crossent.cross_entropy(x, [1], label_smoothing=1.0) == INF


# ---- deviation 1: a loss of half-precision logits is float32, summed wide -------------------------------


@pytest.mark.parametrize("dtype", HALVES, ids=name)
def test_a_half_precision_loss_is_float32(dtype: DType) -> None:
    x = np.linspace(-2, 2, 12).reshape(4, 3).astype(dtype)
    t = np.array([0, 1, 2, 0])
    for reduction in ("none", "mean", "sum"):
        for loss in (
            crossent.cross_entropy(x, t, reduction=reduction),
            crossent.cross_entropy(x, crossent.softmax(x), reduction=reduction),
            crossent.nll_loss(crossent.log_softmax(x), t, reduction=reduction),
        ):
            assert loss.dtype == np.float32
    for rows in (
        crossent.log_softmax(x),
        crossent.softmax(x),
        crossent.log_sigmoid(x),
        crossent.logsumexp(x, axis=1),
    ):
        assert rows.dtype == dtype


def test_a_wide_float16_vocabulary_does_not_overflow() -> None:
    x = (np.random.default_rng(0).standard_normal((2, 256_000)) * 0.3).astype(np.float16)
    t = np.array([17, 255_999])
    losses = crossent.cross_entropy(x, t, reduction="none")
    np.testing.assert_allclose(losses, reference.cross_entropy(x, t, reduction="none"), rtol=1e-6)
    assert np.isfinite(crossent.cross_entropy(x, t))


def test_float16_log_softmax_of_many_zeros_is_the_same_along_any_axis() -> None:
    x = np.zeros((2, 70_000), np.float16)
    expected = np.float16(-math.log(70_000))
    np.testing.assert_array_equal(crossent.log_softmax(x, 1), expected)
    np.testing.assert_array_equal(crossent.log_softmax(np.ascontiguousarray(x.T), 0), expected)


@pytest.mark.parametrize("dtype", HALVES, ids=name)
def test_a_long_half_precision_batch_is_summed_wide(dtype: DType) -> None:
    for rows, value in ((100_000, 1.0), (60_000, 2.0)):
        log_p = np.full((rows, 2), -value).astype(dtype)
        t = np.zeros(rows, np.int64)
        assert crossent.nll_loss(log_p, t) == value
        assert crossent.nll_loss(log_p, t, reduction="sum") == rows * value


def test_a_bfloat16_loss_is_not_rounded_to_bfloat16() -> None:
    x = np.array([0.0, 36.25]).astype(BFLOAT16)
    assert crossent.cross_entropy(x, 0) == np.float32(36.25)
    x = np.array([-0.1, 36.25]).astype(BFLOAT16)
    np.testing.assert_allclose(crossent.cross_entropy(x, 0), 36.25 - float(x[0]), rtol=1e-7)


# ---- deviation 2: confident rows keep their digits ------------------------------------------------------


@pytest.mark.parametrize("gap", [5, 10, 15, 17, 20, 40, 80, 87])
@pytest.mark.parametrize("width", [2, 3, 65, 1030])
@every_dtype
def test_a_confident_row_keeps_its_digits(dtype: DType, width: int, gap: float) -> None:
    x = np.full((3, width), -INF).astype(dtype)
    x[:, -2:] = [-gap, 0]
    expected = math.log1p(math.exp(-gap))
    rtol = 1e-14 if dtype == np.float64 else 5e-7
    for view in (x, np.asfortranarray(x)):
        losses = crossent.cross_entropy(view, [width - 1] * 3, reduction="none")
        np.testing.assert_allclose(losses, [expected] * 3, rtol=rtol)


@pytest.mark.parametrize("gap", [40, 400, 700])
def test_a_float64_loss_of_1e_300_is_not_zero(gap: float) -> None:
    np.testing.assert_allclose(crossent.cross_entropy([0.0, -gap], 0), math.exp(-gap), rtol=1e-14)


# ---- deviation 3: an ignored row is never read ----------------------------------------------------------


@pytest.mark.parametrize("garbage", [NAN, INF, -INF])
@every_reduction
@every_dtype
def test_an_ignored_row_is_never_read(dtype: DType, reduction: str, garbage: float) -> None:
    rng = np.random.default_rng(1)
    for width in (2, 10, 65, 1030):
        x = rng.standard_normal((6, width)).astype(dtype)
        spoilt = x.copy()
        spoilt[[1, 4]] = garbage
        t = np.array([0, -100, 1, 1, -100, 0])
        where = t >= 0
        p = rng.random((6, width)).astype(dtype)
        spoilt_p = p.copy()
        spoilt_p[[1, 4]] = garbage
        anything = np.where(where, t, 10**6)  # out of range, but left out
        args = {"reduction": reduction}
        for change in (np.asarray, np.asfortranarray):
            clean, dirty = change(x), change(spoilt)
            for smoothing in (0.0, 0.1):
                more = {**args, "label_smoothing": smoothing}
                expected = crossent.cross_entropy(clean, t, **more)
                assert np.isfinite(expected).all()
                np.testing.assert_array_equal(crossent.cross_entropy(dirty, t, **more), expected)
                masked = crossent.cross_entropy(dirty, anything, where=where, **more)
                np.testing.assert_array_equal(masked, expected)
                expected = crossent.cross_entropy(clean, change(p), where=where, **more)
                masked = crossent.cross_entropy(dirty, change(spoilt_p), where=where, **more)
                np.testing.assert_array_equal(masked, expected)
            log_p = -np.abs(clean)
            dirty = np.where(where[:, None], log_p, np.array(garbage, dtype))
            np.testing.assert_array_equal(
                crossent.nll_loss(change(dirty), t, **args), crossent.nll_loss(log_p, t, **args)
            )
        if reduction == "none":
            np.testing.assert_array_equal(crossent.cross_entropy(spoilt, t, **args)[[1, 4]], 0)


# ---- deviation 4: 0 * inf = 0 ---------------------------------------------------------------------------


@pytest.mark.parametrize("width", [3, 65, 1030])
@every_dtype
def test_what_has_no_weight_costs_nothing_at_an_infinite_logit(dtype: DType, width: int) -> None:
    x = np.zeros((2, width), dtype)
    x[:, 0] = -INF
    w = np.ones(width, dtype)
    w[0] = 0
    for view in (x, np.asfortranarray(x)):
        np.testing.assert_array_equal(crossent.cross_entropy(view, [0, 0], w, reduction="none"), [0, 0])
        np.testing.assert_allclose(crossent.cross_entropy(view, [0, 1], w), math.log(width - 1), rtol=1e-6)
        np.testing.assert_array_equal(crossent.nll_loss(view, [0, 0], w, reduction="none"), [0, 0])
        p = np.full((2, width), 1 / (width - 1))
        p[:, 0] = 0
        losses = crossent.cross_entropy(view, p, reduction="none")
        np.testing.assert_allclose(losses, [math.log(width - 1)] * 2, rtol=1e-6)
        p[:, 0] = 0.5
        assert crossent.cross_entropy(view, p) == INF
        np.testing.assert_allclose(
            crossent.cross_entropy(view, p, w, reduction="none"), [math.log(width - 1)] * 2, rtol=1e-6
        )
        smoothed = crossent.cross_entropy(view, [1, 1], w, reduction="none", label_smoothing=0.1)
        expected = reference.cross_entropy(x, [1, 1], w, reduction="none", label_smoothing=0.1)
        assert np.isfinite(expected).all()
        np.testing.assert_allclose(smoothed, expected, rtol=1e-6)


@every_dtype
def test_a_weight_of_zero_does_not_hide_a_nan(dtype: DType) -> None:
    w = np.array([0, 1, 1], dtype)
    for row in ([NAN, 0, 1], [INF, 0, 1], [-INF, -INF, -INF]):
        x = np.array([row]).astype(dtype)
        assert np.isnan(crossent.cross_entropy(x, [0], w, reduction="sum"))
        assert np.isnan(crossent.cross_entropy(x, np.array([[0.0, 0.5, 0.5]]), reduction="sum"))
    assert np.isnan(crossent.nll_loss(np.array([[NAN, -1, -1]]).astype(dtype), [0], w, reduction="sum"))


def test_selected_weights_that_sum_to_zero_give_torchs_quotient() -> None:
    x = np.array([[1.0, 2.0, 3.0], [0.0, -1.0, 4.0]])
    assert np.isnan(crossent.cross_entropy(x, [0, 0], [0.0, 1.0, 1.0]))
    assert np.isnan(crossent.cross_entropy(x, [0, 0], [0.0, 1.0, 1.0], label_smoothing=0.1))
    assert crossent.cross_entropy(x, [0, 2], [1.0, 1.0, -1.0]) == INF
    assert crossent.cross_entropy(x, [0, 2], [-1.0, 1.0, 1.0]) == -INF


# ---- deviations 6 to 11 ---------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [-0.1, -1e-300, 1.0000001, 1.5, NAN, INF, -INF])
def test_smoothing_outside_zero_to_one_is_an_error(smoothing: float) -> None:
    with pytest.raises(ValueError, match="label_smoothing"):
        crossent.cross_entropy([[0.0, 1.0]], [0], label_smoothing=smoothing)


@pytest.mark.parametrize("dtype", INTEGERS, ids=name)
def test_targets_of_every_integer_dtype(dtype: DType) -> None:
    rng = np.random.default_rng(2)
    for shape in ((7,), (5, 7), (5, 7, 4), (5, 7, 2, 3)):
        x = rng.standard_normal(shape).astype(np.float32)
        rows = shape[:1] + shape[2:] if len(shape) > 1 else ()
        t = rng.integers(0, 7, rows)
        for function in (crossent.cross_entropy, crossent.nll_loss):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", crossent.LikelyMistakeWarning)
                expected = function(x, t, reduction="none")
                np.testing.assert_array_equal(function(x, t.astype(dtype), reduction="none"), expected)


def test_an_unsigned_target_never_wraps_into_ignore_index() -> None:
    x = np.zeros((1, 3))
    for target in (np.uint8(156), np.uint16(65436), np.uint32(2**32 - 100), np.uint64(2**64 - 100)):
        with pytest.raises(IndexError, match=str(int(target))):
            crossent.cross_entropy(x, np.array([target]))
    t = np.array([255, 1], np.uint8)
    losses = crossent.cross_entropy(np.zeros((2, 3)), t, ignore_index=255, reduction="none")
    np.testing.assert_allclose(losses, [0, math.log(3)])
    t = np.array([-100, 1], np.int8)
    losses = crossent.cross_entropy(np.zeros((2, 3)), t, reduction="none")
    np.testing.assert_allclose(losses, [0, math.log(3)])


@pytest.mark.parametrize("ignore_index", [-(2**63), -(2**31) - 1, 2**32, 2**63 - 1])
def test_ignore_index_is_any_int64(ignore_index: int) -> None:
    t = np.array([1, ignore_index, 2])
    losses = crossent.cross_entropy(np.zeros((3, 3)), t, ignore_index=ignore_index, reduction="none")
    np.testing.assert_allclose(losses, [math.log(3), 0, math.log(3)])
    small = crossent.cross_entropy(np.zeros((1, 3)), np.array([0], np.int8), ignore_index=ignore_index)
    np.testing.assert_allclose(small, math.log(3))


def test_probabilities_go_with_a_negative_ignore_index_only() -> None:
    x = np.array([[0.3, -1.0], [2.0, 0.1]])
    p = np.array([[0.5, 0.5], [1.0, 0.0]])
    expected = crossent.cross_entropy(x, p)
    for ignore_index in (-100, -1, -(2**63)):
        assert crossent.cross_entropy(x, p, ignore_index=ignore_index) == expected
    for ignore_index in (0, 1, 2**63 - 1):
        with pytest.raises(ValueError, match="ignore_index"):
            crossent.cross_entropy(x, p, ignore_index=ignore_index)


@every_dtype
def test_where_leaves_out_rows(dtype: DType) -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((4, 9, 3)).astype(dtype)
    t = rng.integers(0, 9, (4, 3))
    p = rng.random((4, 9, 3)).astype(dtype)
    where = rng.random((4, 3)) < 0.5
    w = rng.random(9)
    rtol = 1e-12 if dtype == np.float64 else 1e-6
    for target in (t, p):
        for reduction in ("none", "mean", "sum"):
            for weight in (None, w):
                args: dict[str, Any] = {"reduction": reduction, "where": where, "label_smoothing": 0.2}
                actual = crossent.cross_entropy(x, target, weight, **args)
                expected = reference.cross_entropy(x, target, weight, **args)
                np.testing.assert_allclose(actual, expected, rtol=rtol)
    for reduction in ("none", "mean", "sum"):
        actual = crossent.nll_loss(-np.abs(x), t, w, reduction=reduction, where=where)
        expected = reference.nll_loss(-np.abs(x), t, w, reduction=reduction, where=where)
        np.testing.assert_allclose(actual, expected, rtol=rtol)
    t[0, 0] = -100
    both = crossent.cross_entropy(x, t, where=where)
    np.testing.assert_allclose(both, reference.cross_entropy(x, t, where=where), rtol=rtol)
    layout = np.broadcast_to(where[:, :1], (4, 3))
    actual = crossent.cross_entropy(x, p, where=layout)
    np.testing.assert_allclose(actual, reference.cross_entropy(x, p, where=layout), rtol=rtol)


@pytest.mark.parametrize("axis", range(-4, 4))
@every_dtype
def test_the_class_axis_may_be_any(dtype: DType, axis: int) -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_normal((3, 4, 5, 6)).astype(dtype)
    rows = np.delete(x.shape, axis)
    t = rng.integers(0, x.shape[axis], tuple(rows))
    p = rng.random(x.shape).astype(dtype)
    rtol = 1e-12 if dtype == np.float64 else 1e-6
    for target in (t, p):
        actual = crossent.cross_entropy(x, target, axis=axis, reduction="none")
        assert actual.shape == tuple(rows)
        expected = reference.cross_entropy(x, target, axis=axis, reduction="none")
        np.testing.assert_allclose(actual, expected, rtol=rtol)
    actual = crossent.nll_loss(-np.abs(x), t, axis=axis, reduction="none")
    np.testing.assert_allclose(
        actual, reference.nll_loss(-np.abs(x), t, axis=axis, reduction="none"), rtol=rtol
    )


# ---- ranks ----------------------------------------------------------------------------------------------


@every_reduction
@every_dtype
def test_one_row_gives_a_scalar(dtype: DType, reduction: str) -> None:
    x = np.array([1.0, 2.0, 3.0]).astype(dtype)
    expected = reference.cross_entropy(x, 2)
    targets: list[Any] = [2, np.int32(2), np.array(2), np.array([2]), [2], crossent.softmax(x.astype(float))]
    for target in targets:
        loss = crossent.cross_entropy(x, target, reduction=reduction)
        assert np.shape(loss) == ()
        assert loss.dtype == loss_dtype(dtype)
        if np.ndim(target) < 2 and np.size(target) == 1:
            np.testing.assert_allclose(float(loss), expected, rtol=1e-6)
    log_p = np.array([-1.0, -2.0, -3.0]).astype(dtype)
    for target in (2, np.array([2])):
        loss = crossent.nll_loss(log_p, target, reduction=reduction)
        assert np.shape(loss) == ()
        assert loss == 3


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@every_dtype
def test_reductions_are_numpy_scalars(dtype: DType, reduction: str) -> None:
    x = np.zeros((2, 3), dtype)
    for loss in (
        crossent.cross_entropy(x, [0, 1], reduction=reduction),
        crossent.nll_loss(x, [0, 1], reduction=reduction),
    ):
        assert isinstance(loss, np.floating)
        assert loss.dtype == loss_dtype(dtype)


def test_the_axis_of_a_single_number() -> None:
    for axis in (-1, 0):
        assert crossent.log_softmax(np.float64(3.0), axis) == 0
        assert crossent.softmax(np.float32(-3.0), axis) == 1
        assert np.shape(crossent.softmax(np.float32(1.0), axis)) == ()
    assert crossent.logsumexp(np.float64(3.0)) == 3
    assert crossent.log_sigmoid(np.float64(0.0)) == -math.log(2)


def test_many_axes() -> None:
    x = np.random.default_rng(5).standard_normal((2, 3, 1, 2, 1, 2, 1, 2))
    t = np.zeros((2, 1, 2, 1, 2, 1, 2), np.int64)
    actual = crossent.cross_entropy(x, t, reduction="none")
    np.testing.assert_allclose(actual, reference.cross_entropy(x, t, reduction="none"), rtol=1e-12)


# ---- empty shapes ---------------------------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 2), (2, 3, 0), (2, 3, 0, 4), (0, 3, 0)])
def test_no_rows_sum_to_zero_and_have_no_mean(shape: tuple[int, ...], dtype: DType) -> None:
    x = np.zeros(shape, dtype)
    rows = shape[:1] + shape[2:]
    t = np.zeros(rows, np.int64)
    for call in (
        lambda reduction: crossent.cross_entropy(x, t, reduction=reduction),
        lambda reduction: crossent.cross_entropy(x, t, label_smoothing=0.1, reduction=reduction),
        lambda reduction: crossent.cross_entropy(x, np.zeros(shape), reduction=reduction),
        lambda reduction: crossent.nll_loss(x, t, reduction=reduction),
    ):
        none = call("none")
        assert none.shape == rows
        assert none.dtype == loss_dtype(dtype)
        assert call("sum") == 0
        with pytest.warns(crossent.LikelyMistakeWarning) as caught:
            assert np.isnan(call("mean"))
        _assert_one_warning(caught)


def _assert_one_warning(caught: Any) -> None:
    assert len(caught) == 1
    assert issubclass(caught[0].category, RuntimeWarning)
    assert issubclass(caught[0].category, crossent.LikelyMistakeWarning)
    assert caught[0].filename == __file__, "the warning names the line of the caller"


@every_dtype
def test_a_mean_over_ignored_rows_alone_is_nan_with_one_warning(dtype: DType) -> None:
    x = np.ones((4, 3), dtype)
    t = np.full(4, -100)
    nobody = np.zeros(4, bool)
    for call in (
        lambda: crossent.cross_entropy(x, t),
        lambda: crossent.cross_entropy(x, t, label_smoothing=0.1),
        lambda: crossent.cross_entropy(x, t, [1.0, 2.0, 3.0]),
        lambda: crossent.cross_entropy(x, [0, 1, 2, 0], where=nobody),
        lambda: crossent.cross_entropy(x, np.ones((4, 3)), where=nobody),
        lambda: crossent.cross_entropy(np.ones(3, dtype), -100),
        lambda: crossent.nll_loss(-x, t),
        lambda: crossent.nll_loss(-x, [0, 1, 2, 0], where=nobody),
    ):
        with pytest.warns(crossent.LikelyMistakeWarning) as caught:
            loss = call()
        assert np.isnan(loss)
        assert loss.dtype == loss_dtype(dtype)
        _assert_one_warning(caught)


@mistakes_allowed
@every_dtype
def test_ignored_rows_alone_sum_to_zero(dtype: DType) -> None:
    x = np.full((4, 3), NAN).astype(dtype)
    t = np.full(4, -100)
    for function in (crossent.cross_entropy, crossent.nll_loss):
        np.testing.assert_array_equal(function(x, t, reduction="none"), np.zeros(4))
        assert function(x, t, reduction="sum") == 0


@mistakes_allowed
@every_dtype
def test_no_classes(dtype: DType) -> None:
    x = np.zeros((2, 0), dtype)
    for function in (crossent.cross_entropy, crossent.nll_loss):
        with pytest.raises(IndexError):
            function(x, [0, 0])
        assert np.isnan(function(x, [-100, -100]))
        assert function(x, [-100, -100], reduction="sum") == 0
        np.testing.assert_array_equal(function(x, [-100, -100], reduction="none"), [0, 0])
        assert np.isnan(function(np.zeros((0, 0), dtype), np.zeros(0, int)))


@every_dtype
def test_rows_of_empty_arrays(dtype: DType) -> None:
    for shape in ((0,), (0, 3), (3, 0), (2, 0, 3)):
        x = np.zeros(shape, dtype)
        for axis in range(len(shape)):
            for function in (crossent.log_softmax, crossent.softmax):
                rows = function(x, axis)
                assert rows.shape == shape
                assert rows.dtype == dtype
            sums = crossent.logsumexp(x, axis)
            assert sums.shape == tuple(np.delete(shape, axis))
            np.testing.assert_array_equal(sums.astype(float), -INF)
        assert crossent.logsumexp(x) == -INF
        assert crossent.log_sigmoid(x).shape == shape


# ---- rows of integers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*INTEGERS, np.dtype(bool)], ids=name)
def test_logsumexp_takes_integers(dtype: DType) -> None:
    x = np.array([[0, 1, 1], [1, 0, 0]], dtype)
    sums = crossent.logsumexp(x, axis=1)
    assert sums.dtype == np.float64
    np.testing.assert_allclose(sums, reference.logsumexp(x, 1), rtol=1e-14)
    np.testing.assert_allclose(
        crossent.logsumexp([[1, 2], [3, 4]]), reference.logsumexp([1, 2, 3, 4]), rtol=1e-14
    )


# ---- the results' dtype ---------------------------------------------------------------------------------


@pytest.mark.parametrize("result", [*DTYPES, "float16", "float64", np.float32], ids=str)
@every_reduction
@every_dtype
def test_dtype_overrides_the_results_dtype(dtype: DType, reduction: str, result: Any) -> None:
    x = np.linspace(-2, 2, 12).reshape(4, 3).astype(dtype)
    t = np.array([0, 1, 2, 0])
    p = reference.softmax(x[::-1].astype(float))
    log_p = -np.abs(x)
    args: dict[str, Any] = {"reduction": reduction, "dtype": result}
    result = np.dtype(result)
    rtol = {"float64": 1e-12, "float32": 1e-6, "float16": 1e-3, "bfloat16": 8e-3}[result.name]
    rtol = rtol if dtype == np.float64 else max(rtol, 1e-6)
    plain = {"reduction": reduction}
    for actual, expected in (
        (crossent.cross_entropy(x, t, **args), reference.cross_entropy(x, t, **plain)),
        (crossent.cross_entropy(x, p, **args), reference.cross_entropy(x, p, **plain)),
        (crossent.nll_loss(log_p, t, **args), reference.nll_loss(log_p, t, **plain)),
    ):
        assert actual.dtype == result
        np.testing.assert_allclose(np.asarray(actual, float), expected, rtol=rtol)


@pytest.mark.parametrize("target_dtype", DTYPES, ids=name)
@every_dtype
def test_the_targets_dtype_does_not_change_the_results(dtype: DType, target_dtype: DType) -> None:
    x = np.linspace(-2, 2, 12).reshape(4, 3).astype(dtype)
    p = np.full((4, 3), 0.25).astype(target_dtype)
    for reduction in ("none", "mean", "sum"):
        loss = crossent.cross_entropy(x, p, np.ones(3, target_dtype), reduction=reduction)
        assert loss.dtype == loss_dtype(dtype)


# ---- likely mistakes are named --------------------------------------------------------------------------


def _ordinary(rows: int = 6, classes: int = 5) -> tuple[Array, Array]:
    rng = np.random.default_rng(6)
    return rng.standard_normal((rows, classes)) * 2, rng.integers(0, classes, rows)


@every_dtype
def test_probabilities_given_as_logits_are_warned_of(dtype: DType) -> None:
    x, t = _ordinary()
    with pytest.warns(crossent.LikelyMistakeWarning) as caught:
        crossent.cross_entropy(crossent.softmax(x.astype(dtype)), t)
    assert caught[0].filename == __file__


@every_dtype
def test_probabilities_given_as_log_probabilities_are_warned_of(dtype: DType) -> None:
    x, t = _ordinary()
    with pytest.warns(crossent.LikelyMistakeWarning) as caught:
        crossent.nll_loss(crossent.softmax(x.astype(dtype)), t)
    assert caught[0].filename == __file__


@every_dtype
def test_a_positive_log_probability_is_warned_of(dtype: DType) -> None:
    x, t = _ordinary()
    log_p = crossent.log_softmax(x).astype(dtype)
    log_p[0, t[0]] = 0.5
    with pytest.warns(crossent.LikelyMistakeWarning):
        crossent.nll_loss(log_p, t)


@every_dtype
def test_one_class_only_is_warned_of(dtype: DType) -> None:
    x = np.array([[0.3], [-2.0], [1.0]]).astype(dtype)
    with pytest.warns(crossent.LikelyMistakeWarning):
        assert crossent.cross_entropy(x, np.array([[0.0], [1.0], [1.0]]).astype(dtype)) == 0
    with pytest.warns(crossent.LikelyMistakeWarning):
        assert crossent.cross_entropy(x, [0, 0, 0]) == 0
    with pytest.warns(crossent.LikelyMistakeWarning), pytest.raises(IndexError):
        crossent.cross_entropy(x, [0, 0, 0])
        crossent.cross_entropy(x, [0, 1, 0])


@every_dtype
def test_ordinary_arguments_are_not_warned_of(dtype: DType) -> None:
    x, t = _ordinary()
    x = x.astype(dtype)
    log_p = crossent.log_softmax(x)
    p = crossent.softmax(x)
    t_with_ignored = t.copy()
    t_with_ignored[:3] = -100
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        crossent.cross_entropy(x, t)
        crossent.cross_entropy(x, p)
        crossent.cross_entropy(log_p, t)
        crossent.nll_loss(log_p, t)
        crossent.cross_entropy(x, t_with_ignored)
        crossent.cross_entropy(np.zeros((3, 4), dtype), [0, 1, 2])
        crossent.nll_loss(np.zeros((3, 4), dtype), [0, 1, 2])
        crossent.cross_entropy(np.array([[-INF, 0.0]]).astype(dtype), [0])
        crossent.cross_entropy(np.array([[NAN, 0.0]]).astype(dtype), [0])
        crossent.cross_entropy(x[:0], t[:0], reduction="sum")
        crossent.logsumexp(x)
        crossent.log_sigmoid(x)


def test_the_warning_is_a_user_warning() -> None:
    assert issubclass(crossent.LikelyMistakeWarning, UserWarning)


def test_a_far_runner_up_in_another_block_is_not_lost() -> None:
    for base in (40000.0, -40000.0):
        for gap in (650.0, 699.5, 705.0):
            x = np.full((1, 2048), -INF)
            x[0, 0] = base
            x[0, -1] = base + gap
            loss = crossent.cross_entropy(x, [2047])
            np.testing.assert_allclose(loss, np.exp(-gap), rtol=1e-12)


# ---- a single number ------------------------------------------------------------------------------------


def _number_outputs(dtype: DType) -> tuple[Array, ...]:
    """Outputs of no dimensions."""
    return np.empty((), dtype), np.empty(3, dtype)[1, ...]


@pytest.mark.parametrize("axis", [0, -1, (0,), (-1,), (), None])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_the_log_sum_exp_of_a_number_is_the_number(dtype: DType, keepdims: bool, axis: Any) -> None:
    for value in (1.5, -np.inf, np.inf, np.nan, -0.0):
        x = np.array(value, dtype)
        for given in (x, x[()]):
            got = crossent.logsumexp(given, axis, keepdims=keepdims)
            assert np.shape(got) == ()
            assert got.dtype == dtype
            np.testing.assert_array_equal(np.float64(got), np.float64(value))
        for out in _number_outputs(dtype):
            assert crossent.logsumexp(x, axis, keepdims=keepdims, out=out) is out
            np.testing.assert_array_equal(np.float64(out), np.float64(value))


@pytest.mark.parametrize("axis", [1, -2, 5, (0, 1), (1,), 2**70])
def test_a_number_has_no_other_axis(axis: Any) -> None:
    out = np.full((), 7, np.float32)
    with pytest.raises(IndexError, match="axis is out of range: got"):
        crossent.logsumexp(np.float32(1.5), axis, out=out)
    if not isinstance(axis, tuple):
        for function in (crossent.softmax, crossent.log_softmax):
            with pytest.raises(IndexError, match="axis is out of range: got"):
                function(np.float32(1.5), axis, out=out)
    if axis in (1, -2, 5):
        with pytest.raises(IndexError, match="expected -1 or 0 for an array of 0 dimensions"):
            crossent.softmax(np.float32(1.5), axis)
    assert out == 7


def test_a_number_has_each_axis_once() -> None:
    for axis in ((0, -1), (0, 0), (-1, -1, 0)):
        with pytest.raises(ValueError, match="axis names a dimension twice"):
            crossent.logsumexp(np.float32(1.5), axis)


@pytest.mark.parametrize("axis", [0, -1])
def test_a_number_is_a_row_of_one_class(axis: int) -> None:
    x = np.array(2.5, np.float32)
    assert crossent.softmax(x, axis) == 1
    assert crossent.log_softmax(x, axis) == 0
    assert crossent.Softmax(axis)(x) == 1
    for scores in (crossent.cross_entropy, crossent.nll_loss, crossent.score):
        with pytest.raises(ValueError, match="input has no class axis"):
            scores(x, 0, axis=axis)
