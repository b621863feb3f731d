"""The ruler: how far a floating-point result lies from the right one, in units in the last place."""

from __future__ import annotations

from collections.abc import Iterable

import ml_dtypes
import mpmath
import numpy as np
from numpy.typing import ArrayLike, NDArray

from arrays import Array


def ulp_distance(actual: ArrayLike, expected: ArrayLike) -> NDArray[np.float64]:
    """How many steps from one representable number to the next lead from `expected` to `actual`.

    Both must have the same dtype and shape. Two nans, and -0.0 and 0.0, are 0 apart; a nan, or an infinity,
    against anything else is infinitely far.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    if actual.dtype != expected.dtype:
        raise TypeError(f"different dtypes: {actual.dtype} and {expected.dtype}")
    if actual.shape != expected.shape:
        raise ValueError(f"different shapes: {actual.shape} and {expected.shape}")
    a, e = _position(actual), _position(expected)
    # The difference of two int64 may need 64 bits without a sign: modular arithmetic gives it exactly.
    low, high = np.minimum(a, e).astype(np.uint64), np.maximum(a, e).astype(np.uint64)
    with np.errstate(over="ignore"):
        steps = (high - low).astype(np.float64)
    wide_a, wide_e = actual.astype(np.float64), expected.astype(np.float64)
    both_nan = np.isnan(wide_a) & np.isnan(wide_e)
    finite = np.isfinite(wide_a) & np.isfinite(wide_e)
    return np.where(finite, steps, np.where(both_nan | (wide_a == wide_e), 0.0, np.inf))


def _position(x: Array) -> NDArray[np.int64]:
    """The place of each number among all numbers of its dtype, 0 for zero."""
    width = 8 * x.dtype.itemsize
    bits = np.ascontiguousarray(x).view(f"i{x.dtype.itemsize}").reshape(x.shape).astype(np.int64)
    magnitude = bits & np.int64((1 << (width - 1)) - 1)
    return np.where(bits < 0, -magnitude, magnitude)


def ulp_error(
    actual: ArrayLike, exact: Iterable[mpmath.mpf], scale: Iterable[mpmath.mpf] | None = None
) -> NDArray[np.float64]:
    """|actual - exact| in units in the last place of `exact` (or of `scale`) in actual's dtype.

    `exact` holds mpmath numbers. Where `exact` is beyond the dtype's range, `actual` must be that infinity.
    """
    actual = np.atleast_1d(np.asarray(actual))
    exact = list(exact)
    scales = exact if scale is None else list(scale)
    if not (actual.shape == (len(exact),) == (len(scales),)):
        raise ValueError(f"different lengths: {actual.shape}, {len(exact)} and {len(scales)}")
    info = ml_dtypes.finfo(actual.dtype)
    triples = zip(actual, exact, scales, strict=True)
    return np.array([_error(float(a), e, s, info) for a, e, s in triples], dtype=np.float64)


def _error(actual: float, exact: mpmath.mpf, scale: mpmath.mpf, info: ml_dtypes.finfo) -> float:
    with mpmath.workdps(60):
        half_step_above_max = mpmath.ldexp(1, int(info.maxexp) - int(info.nmant) - 2)
        if mpmath.isnan(exact):
            return 0.0 if np.isnan(actual) else np.inf
        if mpmath.isinf(exact) or abs(exact) >= mpmath.mpf(float(info.max)) + half_step_above_max:
            return 0.0 if np.isinf(actual) and (actual > 0) == (exact > 0) else np.inf
        if not np.isfinite(actual):
            return np.inf
        exponent = int(info.minexp) if scale == 0 else max(int(mpmath.frexp(scale)[1]) - 1, int(info.minexp))
        return float(abs(mpmath.mpf(actual) - exact) / mpmath.ldexp(1, exponent - int(info.nmant)))
