"""The dtypes, widths and memory layouts that the tests cross, and data to fill them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

# ml_dtypes' numbers are unknown to NumPy's type hints, hence Any.
DType = np.dtype[Any]
Array = npt.NDArray[Any]

BFLOAT16: DType = np.dtype(ml_dtypes.bfloat16)
HALVES: tuple[DType, ...] = (np.dtype(np.float16), BFLOAT16)
DTYPES: tuple[DType, ...] = (*HALVES, np.dtype(np.float32), np.dtype(np.float64))
INTEGERS: tuple[DType, ...] = tuple(np.dtype(c) for c in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"))

MOST_AXES = 64 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32

# Narrow, around the vector widths, and across the blocks of wide rows.
WIDTHS = (1, 2, 3, 10, 21, 64, 65, 100, 101, 1000, 1030, 5000)


def name(dtype: DType) -> str:
    return np.dtype(dtype).name


def loss_dtype(dtype: DType) -> DType:
    """The dtype of a loss: float64 for float64 logits, else float32."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def row_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the targets of logits of this shape, whose classes lie along the default axis."""
    return shape[:1] + shape[2:] if len(shape) > 1 else ()


def logits(rng: np.random.Generator, shape: tuple[int, ...], dtype: DType, scale: float = 3.0) -> Array:
    return (rng.standard_normal(shape) * scale).astype(dtype)


def probabilities(rng: np.random.Generator, shape: tuple[int, ...], axis: int, dtype: DType) -> Array:
    p = rng.random(shape)
    return (p / p.sum(axis=axis, keepdims=True)).astype(dtype)


# ---- layouts: each takes an array and gives one of the same shape, laid out differently -----------------
# All keep the values, except `broadcast`, which repeats the first entry of the first axis.


def _c(x: Array) -> Array:
    return np.ascontiguousarray(x).reshape(x.shape)


def _fortran(x: Array) -> Array:
    return np.asfortranarray(x)


def _transposed(x: Array) -> Array:
    """The first axis is the fastest but one in memory, the last the slowest."""
    order = tuple(np.roll(np.arange(x.ndim), 1))
    return np.ascontiguousarray(x.transpose(order)).transpose(tuple(np.argsort(order)))


def _negative(x: Array) -> Array:
    flipped = (slice(None, None, -1),) * x.ndim
    return np.ascontiguousarray(x[flipped]).reshape(x.shape)[flipped]


def _stepped(x: Array) -> Array:
    """Every axis skips: a view into a larger array of nan (-1 where there is none)."""
    gap = np.array(-1 if x.dtype.kind in "iub" else np.nan).astype(x.dtype)
    large = np.full(tuple(3 * n + 1 for n in x.shape), gap)
    view = large[tuple(slice(1, 3 * n + 1, 3) for n in x.shape)]
    view[...] = x
    return view


def _broadcast(x: Array) -> Array:
    return np.broadcast_to(x[:1], x.shape)


def _read_only(x: Array) -> Array:
    x = x.copy()
    x.flags.writeable = False
    return x


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "C": _c,
    "fortran": _fortran,
    "transposed": _transposed,
    "negative": _negative,
    "stepped": _stepped,
    "broadcast": _broadcast,
    "read_only": _read_only,
}
SAME_VALUES = {key: layout for key, layout in LAYOUTS.items() if key != "broadcast"}
