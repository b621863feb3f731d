"""cross_entropy_and_grad and nll_loss_and_grad: against torch's autograd, finite differences and their own losses."""

from __future__ import annotations

import itertools
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray

import crossent
import exact
from arrays import BFLOAT16, DTYPES, Array, DType, name, row_shape
from optional import HAS_TORCH, torch
from oracle import loss_and_gradient
from ulp import ulp_error

SHAPES = [(5,), (7, 3), (130, 10), (9, 64), (9, 65), (3, 1500), (2, 5, 3, 70), (3, 70, 4), (4, 1025)]
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
# Of the larger of p and q, whose difference an entry is: the digits that cancel are those of the logits.
TOLERANCE = {"float32": 2e-6, "float64": 1e-12}


def _targets(rng: np.random.Generator, shape: tuple[int, ...], kind: str, dtype: DType) -> Array:
    classes = shape[1] if len(shape) > 1 else shape[0]
    rows = row_shape(shape)
    if kind == "indices":
        target = rng.integers(0, classes, rows)
        return np.asarray(target)
    p = rng.dirichlet(np.ones(classes), rows).astype(dtype)
    return np.moveaxis(p, -1, 1) if len(shape) > 1 else p


def _layouts(x: Array) -> list[Array]:
    apart = np.zeros((2 * x.shape[0], *x.shape[1:]), x.dtype)[::2]
    apart[...] = x
    return [x, np.asfortranarray(x), apart, x[::-1].copy()[::-1]]


def _by_torch(
    x: Array, target: Array, weight: Array | None, upstream: Any, log_p: bool = False, **options: Any
) -> NDArray[np.float64]:
    """The gradient by torch's autograd, in float64."""
    key = "nll_loss" if log_p else "cross_entropy"
    return loss_and_gradient(key, x, target, weight, upstream=upstream, **options)[1]


def _close(actual: Array, expected: NDArray[np.float64], dtype: DType) -> None:
    """Relative to each entry, but for those that cancel to less than a thousandth of the largest."""
    assert actual.dtype == dtype
    scale = np.maximum(np.abs(expected), 0.02 * np.abs(expected).max(initial=0))
    error = np.abs(actual - expected)
    assert (error <= TOLERANCE[dtype.name] * scale).all()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("kind", ["indices", "probabilities"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=name)
def test_the_gradient_is_that_of_autograd(
    dtype: DType, shape: tuple[int, ...], kind: str, reduction: str
) -> None:
    rng = np.random.default_rng(len(shape) * 100 + shape[-1])
    classes = shape[1] if len(shape) > 1 else shape[0]
    x = (rng.standard_normal(shape) * 3).astype(dtype)
    weights = [None, (rng.random(classes) + 0.2).astype(dtype)]
    ignored = [-100, 0] if kind == "indices" else [-100]
    for weight, smoothing, ignore in itertools.product(weights, (0.0, 0.1, 1.0), ignored):
        target = _targets(rng, shape, kind, dtype)
        if kind == "indices" and target.ndim:
            target.flat[0] = ignore
        elif kind == "indices" and ignore == 0:
            continue
        upstream = rng.standard_normal(row_shape(shape)) if reduction == "none" else -1.75
        options: dict[str, Any] = {
            "ignore_index": ignore,
            "label_smoothing": smoothing,
            "reduction": reduction,
        }
        if weight is not None and kind == "indices" and (target == ignore).all():
            continue
        expected = _by_torch(x, target, weight, upstream, **options)
        plain = crossent.cross_entropy(x, target, weight, **options)
        first = None
        for layout in _layouts(x):
            loss, grad = crossent.cross_entropy_and_grad(
                layout, target, weight, grad_output=upstream, **options
            )
            _close(grad, expected, dtype)
            assert np.array_equal(loss, plain)
            first = grad if first is None else first
            assert first.tobytes() == grad.tobytes()
            own = layout.copy(order="K")
            _, same = crossent.cross_entropy_and_grad(
                own, target, weight, grad_output=upstream, grad_out=own, **options
            )
            assert same is own
            assert np.array_equal(own, grad)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=name)
def test_the_gradient_of_nll_loss_is_that_of_autograd(
    dtype: DType, shape: tuple[int, ...], reduction: str
) -> None:
    rng = np.random.default_rng(shape[-1])
    classes = shape[1] if len(shape) > 1 else shape[0]
    log_p = crossent.log_softmax(rng.standard_normal(shape).astype(dtype), 1 if len(shape) > 1 else 0)
    for weight in (None, (rng.random(classes) + 0.2).astype(dtype)):
        target = _targets(rng, shape, "indices", dtype)
        if target.ndim:
            target.flat[0] = -100
        upstream = rng.standard_normal(row_shape(shape)) if reduction == "none" else 0.5
        expected = _by_torch(log_p, target, weight, upstream, log_p=True, reduction=reduction)
        plain = crossent.nll_loss(log_p, target, weight, reduction=reduction)
        for layout in _layouts(log_p):
            loss, grad = crossent.nll_loss_and_grad(
                layout, target, weight, reduction=reduction, grad_output=upstream
            )
            _close(grad, expected, dtype)
            np.testing.assert_allclose(loss, plain, rtol=1e-15 if dtype == FLOAT64 else 1e-7)
            own = layout.copy(order="K")
            crossent.nll_loss_and_grad(
                own, target, weight, reduction=reduction, grad_output=upstream, grad_out=own
            )
            assert np.array_equal(own, grad)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("kind", ["indices", "probabilities"])
@pytest.mark.parametrize("width", [4, 66])
def test_the_gradient_is_the_slope_of_the_loss(width: int, kind: str, smoothing: float) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((5, width))
    target = _targets(rng, x.shape, kind, FLOAT64)
    weight = rng.random(width)
    options = {"label_smoothing": smoothing}
    _, grad = crossent.cross_entropy_and_grad(x, target, weight, **options)
    for _ in range(40):
        direction = rng.standard_normal(x.shape)
        step = 1e-5
        up = crossent.cross_entropy(x + step * direction, target, weight, **options)
        down = crossent.cross_entropy(x - step * direction, target, weight, **options)
        np.testing.assert_allclose((up - down) / (2 * step), (grad * direction).sum(), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=name)
@pytest.mark.parametrize("width", [2, 10, 100, 101, 1030])
def test_a_row_that_is_sure_and_right_keeps_its_digits(width: int, dtype: DType) -> None:
    """The target's entry is p - 1; torch's own is 0 or a handful of units in the last place of 1."""
    rng = np.random.default_rng(2)
    gaps = (5.0, 12.0, 17.0, 25.0, 40.0, 80.0)
    x = rng.standard_normal((len(gaps), width)).astype(dtype)
    target = rng.integers(0, width, len(gaps))
    x[np.arange(len(gaps)), target] = np.array(gaps, dtype) + dtype.type(4)
    _, grad = crossent.cross_entropy_and_grad(x, target, reduction="sum")
    _, columns = crossent.cross_entropy_and_grad(np.asfortranarray(x), target, reduction="sum")
    assert grad.tobytes() == columns.tobytes()
    for row, t, entries in zip(x, target, grad, strict=True):
        with mpmath.workdps(exact.DIGITS):
            p = exact.softmax(row, range(width))
            p[t] = -mpmath.fsum(p[:t] + p[t + 1 :])
        normal = np.array([abs(v) >= float(np.finfo(dtype).smallest_normal) for v in p])
        assert ulp_error(entries, p)[normal].max() <= 4


@pytest.mark.parametrize("weight", [0.0, 1e-12, 1.0])
@pytest.mark.parametrize("gap", [2.0, 20.0, 200.0])
@pytest.mark.parametrize("width", [2, 64, 70])
def test_a_smoothed_target_of_little_weight_and_probability_keeps_its_digits(
    width: int, gap: float, weight: float
) -> None:
    """From 1 - p it would be the difference of two numbers of about 1."""
    x, w, smoothing = np.zeros((1, width)), np.ones(width), 0.25
    x[0, 1], w[0] = gap, weight
    _, grad = crossent.cross_entropy_and_grad(x, [0], w, label_smoothing=smoothing, reduction="sum")
    with mpmath.workdps(exact.DIGITS):
        p, own, share = exact.softmax(x[0], [0])[0], mpmath.mpf(0.75) * weight, mpmath.mpf(0.25) / width
        scale = own + share * mpmath.fsum(float(value) for value in w)
        terms = (scale * p, own + share * weight)
        assert abs(mpmath.mpf(float(grad[0, 0])) - (terms[0] - terms[1])) <= 1e-13 * max(terms)


@pytest.mark.parametrize("width", [10, 70])
@pytest.mark.parametrize(
    ("dtype", "upstream", "off", "at"),
    [
        (np.float32, 1e22, 1e21, -9e21),
        (np.float32, 3e38, 3e37, -2.7e38),
        (np.float32, 1e-30, 1e-31, -9e-31),
        (np.float32, 1e300, np.inf, -np.inf),
        (np.float16, 1e300, np.inf, -np.inf),
        (np.float64, 1e39, 1e38, -9e38),
        (np.float64, 1e300, 1e299, -9e299),
        (np.float64, np.inf, np.inf, -np.inf),
    ],
)
def test_an_upstream_gradient_of_any_size_overflows_only_where_the_result_does(
    width: int, dtype: Any, upstream: float, off: float, at: float
) -> None:
    x = np.full((1, width), -np.inf, dtype)
    x[0, :10] = 0
    _, grad = crossent.cross_entropy_and_grad(x, [0], reduction="sum", grad_output=upstream)
    np.testing.assert_allclose(grad[0, 1:10], dtype(off), rtol=1e-6)
    np.testing.assert_allclose(grad[0, 0], dtype(at), rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
@pytest.mark.parametrize("width", [3, 64, 70, 1500])
def test_a_gradient_has_the_dtype_of_the_input_and_is_rounded_once(width: int, dtype: DType) -> None:
    rng = np.random.default_rng(3)
    x = (rng.standard_normal((70, width)) * 2).astype(dtype)
    target = rng.integers(0, width, 70)
    probabilities = rng.dirichlet(np.ones(width), 70)
    for given in (target, probabilities):
        loss, grad = crossent.cross_entropy_and_grad(x, given, reduction="sum")
        assert grad.dtype == dtype
        assert loss.dtype == (np.float64 if dtype == FLOAT64 else np.float32)
        _, wide = crossent.cross_entropy_and_grad(x.astype(np.float64), given, reduction="sum")
        step = {"float64": 1e-12, "float32": 1e-6, "float16": 5e-4, "bfloat16": 4e-3}[dtype.name]
        floor = 1e-7 if dtype != np.float16 else 3e-8
        assert (np.abs(grad.astype(np.float64) - wide) <= 1.01 * step * np.abs(wide) + floor).all()


def test_ignored_rows_are_not_read_and_get_zeros() -> None:
    for width in (3, 100, 101, 1500):
        x = np.zeros((130, width), np.float32)
        x[::3] = np.nan
        x[1::6] = np.inf
        target = np.zeros(130, int)
        target[::3] = -100
        where = np.ones(130, bool)
        where[1::6] = False
        for layout in (x, np.asfortranarray(x)):
            for function, options in (
                (crossent.cross_entropy_and_grad, {"label_smoothing": 0.1}),
                (crossent.cross_entropy_and_grad, {}),
                (crossent.nll_loss_and_grad, {}),
            ):
                loss, grad = function(layout, target, where=where, **options)
                assert np.isfinite(loss)
                assert np.isfinite(grad).all()
                assert not grad[::3].any()
                assert not grad[1::6].any()
                assert grad[2].any()
        probabilities = np.full((130, width), 1 / width)
        for layout in (x, np.asfortranarray(x)):
            mask = where & (target == 0)
            loss, grad = crossent.cross_entropy_and_grad(layout, probabilities, where=mask)
            assert np.isfinite(loss)
            assert not grad[~mask].any()


def test_all_ignored_gives_zeros_and_no_weight_gives_nan() -> None:
    x = np.ones((3, 4))
    with pytest.warns(crossent.LikelyMistakeWarning):
        loss, grad = crossent.cross_entropy_and_grad(x, [-100] * 3)
    assert np.isnan(loss)
    assert not grad.any()
    loss, grad = crossent.cross_entropy_and_grad(x, [0, 0, 0], [0.0, 1.0, 1.0, 1.0])
    expected = _by_torch(x, np.zeros(3, int), np.array([0.0, 1.0, 1.0, 1.0]), 1.0)
    assert np.isnan(loss)
    np.testing.assert_array_equal(np.isnan(grad), np.isnan(expected))
    with pytest.warns(crossent.LikelyMistakeWarning):
        loss, grad = crossent.cross_entropy_and_grad(np.zeros((0, 4)), np.zeros(0, int))
    assert np.isnan(loss)
    assert grad.shape == (0, 4)


@pytest.mark.parametrize("width", [3, 70])
def test_infinities_and_nans_are_those_of_autograd(width: int) -> None:
    special: list[list[float]] = [
        [-np.inf, 0, 1], [np.inf, 0, 1], [-np.inf] * 3, [np.nan, 0, 1], [1e38, -1e38, 3e38], [0, -np.inf, 0],
        [np.inf, np.inf, 1], [0, 0, 0],
    ]  # fmt: skip
    x = np.full((len(special), width), -np.inf, np.float32)
    x[:, :3] = special
    for t in (0, 1, 2):
        target = np.full(len(special), t)
        _, grad = crossent.cross_entropy_and_grad(x, target, reduction="sum")
        expected = _by_torch(x, target, None, 1.0, reduction="sum")
        np.testing.assert_array_equal(np.isnan(grad), np.isnan(expected))
        np.testing.assert_allclose(grad, expected, rtol=2e-6, atol=1e-30)


@pytest.mark.parametrize("width", [10, 1500])
def test_the_same_bits_on_any_number_of_threads(width: int) -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_normal((400_000 // width, width)).astype(np.float32)
    target = rng.integers(0, width, len(x))
    weight = rng.random(width)
    before = crossent.get_num_threads()
    results = set()
    try:
        for threads in (1, 2, 3, 7):
            crossent.set_num_threads(threads)
            loss, grad = crossent.cross_entropy_and_grad(x, target, weight, label_smoothing=0.1)
            results.add((loss.tobytes(), grad.tobytes()))
    finally:
        crossent.set_num_threads(before)
    assert len(results) == 1


# ---- arguments ------------------------------------------------------------------------------------------

X = np.array([[1.0, 2.0, 3.0], [0.0, -1.0, 4.0]])
T = np.array([2, 0])
BOTH = pytest.mark.parametrize("call", [crossent.cross_entropy_and_grad, crossent.nll_loss_and_grad])


@BOTH
def test_arguments_that_do_not_fit_are_named_and_nothing_is_written(call: Any) -> None:
    log_p = crossent.log_softmax(X)
    grad = np.full((2, 3), 7.0)
    out = np.full(2, 7.0)
    read_only = np.zeros((2, 3))
    read_only.flags.writeable = False
    shared = np.zeros(6)
    cases: list[tuple[type[Exception], str, tuple[Any, ...], dict[str, Any]]] = [
        (ValueError, "grad_out", (log_p, T), {"grad_out": np.zeros((3, 2))}),
        (TypeError, "grad_out", (log_p, T), {"grad_out": np.zeros((2, 3), np.float32)}),
        (TypeError, "grad_out", (log_p, T), {"grad_out": [[0.0] * 3] * 2}),
        (ValueError, "grad_out", (log_p, T), {"grad_out": read_only}),
        (ValueError, "grad_out", (log_p, T), {"grad_out": np.broadcast_to(np.zeros(3), (2, 3))}),
        (ValueError, "grad_output", (log_p, T), {"grad_output": [1.0, 2.0], "grad_out": grad}),
        (ValueError, "grad_output", (log_p, T), {"reduction": "none", "grad_output": [1.0], "grad_out": grad}),
        (ValueError, "grad_output", (log_p, T), {"reduction": "none", "grad_output": log_p, "grad_out": grad}),
        (TypeError, "grad_output", (log_p, T), {"grad_output": "1", "grad_out": grad}),
        (TypeError, "grad_output", (log_p, T), {"grad_output": 1j, "grad_out": grad}),
        (IndexError, "Target 3", (log_p, [0, 3]), {"grad_out": grad}),
        (IndexError, "Target 3", (log_p, [0, 3]), {"grad_out": grad, "reduction": "none", "out": out}),
        (IndexError, "Target 3", (log_p, [0, 3]), {"grad_out": grad, "reduction": "sum"}),
        (ValueError, "out", (log_p, T), {"grad_out": grad, "out": out}),
        (ValueError, "share", (log_p, T), {
            "grad_out": shared.reshape(2, 3), "out": shared[:2], "reduction": "none"}),
    ]  # fmt: skip
    for error, text, args, options in cases:
        with pytest.raises(error, match=text):
            call(*args, **options)
        assert (grad == 7).all()
        assert (out == 7).all()


@BOTH
def test_an_output_that_overlaps_arguments_gets_the_right_numbers(call: Any) -> None:
    memory = np.zeros((5, 4))
    memory[:4] = crossent.log_softmax(np.random.default_rng(6).standard_normal((4, 4)))
    target = np.array([0, 1, 2, 3])
    expected = call(memory[:4].copy(), target)[1]
    _, grad = call(memory[:4], target, grad_out=memory[1:])  # shifted by a row
    assert np.array_equal(grad, expected)
    memory[:4] = crossent.log_softmax(np.random.default_rng(6).standard_normal((4, 4)))
    loss, _ = call(memory[:4].copy(), target, reduction="none")
    flat = memory.reshape(-1)
    _, other = call(memory[:4].copy(), target, reduction="none")
    got, grad = call(memory[:4], target, reduction="none", out=flat[:4])
    assert np.array_equal(got, loss)
    assert np.array_equal(grad, other)


@BOTH
def test_a_row_alone(call: Any) -> None:
    log_p = crossent.log_softmax(X[0])
    loss, grad = call(log_p, 2, reduction="none")
    assert np.ndim(loss) == 0
    assert grad.shape == (3,)
    rows, grads = call(log_p[np.newaxis], [2], reduction="none")
    assert rows[0] == loss
    assert np.array_equal(grads[0], grad)
    _, transposed = call(np.stack([log_p, log_p], 1), [2, 2], axis=0, reduction="sum")
    assert np.array_equal(transposed[:, 1], grad)


def test_grad_output_may_be_of_any_real_dtype_and_layout() -> None:
    upstream = np.array([0.5, -2.0])
    expected = crossent.cross_entropy_and_grad(X, T, reduction="none", grad_output=upstream)[1]
    for given in (
        upstream.astype(np.float16), upstream.astype(BFLOAT16), [0.5, -2.0], upstream[::-1].copy()[::-1],
        *([torch.tensor(upstream)] if HAS_TORCH else []),
    ):  # fmt: skip
        grad = crossent.cross_entropy_and_grad(X, T, reduction="none", grad_output=given)[1]
        assert np.array_equal(grad, expected)
    for wrong in (True, ["1"], 1j):
        with pytest.raises(TypeError, match=r"grad_output must hold real numbers.* or an integer dtype"):
            crossent.cross_entropy_and_grad(X, T, grad_output=wrong)
    twice = crossent.cross_entropy_and_grad(X, T, reduction="none", grad_output=2)[1]
    once = crossent.cross_entropy_and_grad(X, T, reduction="none")[1]
    assert np.array_equal(twice, 2 * once)


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=name)
def test_the_loss_and_its_gradient_divide_by_the_same_number(dtype: DType) -> None:
    """Weights that cancel, so that what is kept of their sum decides: 1 in float64."""
    x = crossent.log_softmax(np.random.default_rng(1).standard_normal((3, 3)).astype(dtype))
    w = np.array([1e16, -1e16, 1.0])
    for key in ("cross_entropy", "nll_loss"):
        mean, gradient = getattr(crossent, f"{key}_and_grad")(x, np.arange(3), w)
        whole, of_sum = getattr(crossent, f"{key}_and_grad")(x, np.arange(3), w, reduction="sum")
        if dtype == FLOAT64:
            assert mean == whole
            np.testing.assert_array_equal(gradient, of_sum)
        else:
            assert np.isfinite(mean) == np.isfinite(gradient).all()
