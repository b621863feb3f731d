"""Results of 32 MiB and more are written past the caches, by whole lines: they have the numbers of small ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes  # noqa: F401  # it makes bfloat16 a dtype
import numpy as np
import pytest

import crossent
from crossent import sharded
from crossent.boosting import softmax_grad_hess

# Shapes, dtypes and orders: lines of 64 bytes begin and end anywhere among the rows.
CASES: list[tuple[tuple[int, ...], str, str]] = [
    ((3, 21, 371, 401), "float32", "C"),
    ((1, 150, 231, 263), "float32", "C"),
    ((5, 3, 1117, 1009), "float16", "C"),
    *(((2_100_001, 2), "float64", order) for order in "CF"),
    *(((1_000_003, 9), "float32", order) for order in "CF"),
    *(((3_000_001, 3), "float32", order) for order in "CF"),
    ((1201, 7001), "float32", "C"),
    ((2103, 2003), "float64", "C"),
    ((2811, 6001), "float16", "C"),
    ((2711, 6301), "bfloat16", "C"),
    ((75_011, 113), "float32", "C"),
    ((61, 140_003), "float32", "C"),
]
BLOCK = 100_000  # elements whose results are far too small to be written past the caches


def problem(shape: tuple[int, ...], dtype: str, order: Any) -> tuple[Any, Any]:
    rng = np.random.default_rng(11)
    x = np.asarray(rng.standard_normal(shape, dtype=np.float32) * 3, np.dtype(dtype), order=order)
    target = rng.integers(shape[1], size=(shape[0], *shape[2:]))
    target[::7] = -100
    return x, target


def guarded(x: Any, offset: int) -> tuple[Any, Callable[[], bool]]:
    """An array like x, `offset` elements behind a line's beginning, and whether what is around it is untouched."""
    memory = np.full(x.size + 64, 7, x.dtype)
    inner = memory[offset : offset + x.size]
    out = inner.reshape(x.shape, order="F" if x.flags.f_contiguous and not x.flags.c_contiguous else "C")
    return out, lambda: bool((memory[:offset] == 7).all() and (memory[offset + x.size :] == 7).all())


def blocks(x: Any) -> Iterator[Any]:
    """Indices of a few rows at a time: the first, the last and some between."""
    if x.ndim == 2:
        rows, step = len(x), max(1, BLOCK // x.shape[1])
        starts = [0, *range(step * 3 + 1, rows - step, rows // 5), rows - step]
        yield from (np.s_[start : start + step] for start in starts)
        return
    step = max(1, BLOCK // (x.shape[1] * x.shape[3]))
    for image in (0, len(x) - 1):
        for start in (0, x.shape[2] // 2, x.shape[2] - step):
            yield np.s_[image : image + 1, :, start : start + step]


def without_classes(index: Any) -> Any:
    return (index[0], index[2]) if isinstance(index, tuple) else index


@pytest.mark.parametrize("offset", [0, 5])
@pytest.mark.parametrize(("shape", "dtype", "order"), CASES, ids=str)
def test_large_results_are_those_of_their_blocks(
    shape: tuple[int, ...], dtype: str, order: str, offset: int
) -> None:
    x, t = problem(shape, dtype, order)
    assert x.nbytes >= 1 << 25
    functions: list[tuple[Callable[..., Any], Callable[..., Any]]] = [
        (
            lambda out: crossent.softmax(x, 1, out=out),
            lambda x, t: crossent.softmax(x, 1),
        ),
        (
            lambda out: crossent.cross_entropy_and_grad(x, t, reduction="sum", grad_out=out)[1],
            lambda x, t: crossent.cross_entropy_and_grad(x, t, reduction="sum")[1],
        ),
    ]
    if len(shape) == 2 and order == "C":
        smooth = {"reduction": "sum", "label_smoothing": 0.1}
        functions += [
            (
                lambda out: crossent.log_softmax(x, 1, out=out),
                lambda x, t: crossent.log_softmax(x, 1),
            ),
            (
                lambda out: crossent.cross_entropy_and_grad(x, t, **smooth, grad_out=out)[1],
                lambda x, t: crossent.cross_entropy_and_grad(x, t, **smooth)[1],
            ),
        ]
    if len(shape) > 2 or order == "F":
        whole = sharded.partial(x, t, start=0, axis=1)

        def of_shards(x: Any, t: Any) -> Any:
            return sharded.gradient(x, t, sharded.partial(x, t, start=0, axis=1), start=0, axis=1)

        functions.append(
            (lambda out: sharded.gradient(x, t, whole, start=0, axis=1, grad_out=out), of_shards)
        )
    for write, of_block in functions:
        out, untouched = guarded(x, offset)
        found = write(out)
        assert untouched()
        for index in blocks(x):
            expected = of_block(
                np.ascontiguousarray(x[index]), np.ascontiguousarray(t[without_classes(index)])
            )
            assert np.array_equal(found[index], expected), index


@pytest.mark.parametrize("classes", [2, 1500])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_large_results_may_take_the_place_of_the_logits(dtype: str, classes: int) -> None:
    x, t = problem(((1 << 25) // (np.dtype(dtype).itemsize * classes) + 1, classes), dtype, "C")
    assert x.nbytes >= 1 << 25
    for write in (
        lambda x, out: crossent.log_softmax(x, 1, out=out),
        lambda x, out: crossent.cross_entropy_and_grad(x, t, grad_out=out)[1],
    ):
        expected = write(x, np.empty_like(x))
        inner, untouched = guarded(x, 3)
        inner[:] = x
        assert write(inner, inner) is inner
        assert np.array_equal(inner, expected)
        assert untouched()


@pytest.mark.parametrize(
    ("shape", "order"), [((1_000_003, 5), "C"), ((1_000_003, 5), "F"), ((1801, 2503), "C")]
)
def test_large_gradients_and_hessians_are_those_of_their_blocks(shape: tuple[int, int], order: Any) -> None:
    x, t = problem(shape, "float64", order)
    t = np.maximum(t, 0)
    (grad, first), (hess, second) = guarded(x, 3), guarded(x, 6)
    softmax_grad_hess(x, t, grad_out=grad, hess_out=hess)
    assert first()
    assert second()
    for index in blocks(x):
        expected = softmax_grad_hess(np.ascontiguousarray(x[index]), t[index])
        assert np.array_equal(grad[index], expected[0]), index
        assert np.array_equal(hess[index], expected[1]), index
