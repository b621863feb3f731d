"""The ruler: how far a floating-point result lies from the right one, in units in the last place."""

from __future__ import annotations

from collections.abc import Iterable

import ml_dtypes
import mpmath
import numpy as np
from numpy.typing import ArrayLike, NDArray

from arrays import Array, DType


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
    return Exact(actual.dtype, exact, scale).errors(actual)


class Exact:
    """Exact numbers, ready to measure results of a dtype against, as often as one likes.

    A number is (high + low) 2^exponent, with high and low from float64: 106 bits.
    """

    def __init__(
        self, dtype: DType, exact: Iterable[mpmath.mpf], scale: Iterable[mpmath.mpf] | None = None
    ) -> None:
        numbers = list(exact)
        scales = numbers if scale is None else list(scale)
        if len(numbers) != len(scales):
            raise ValueError(f"different lengths: {len(numbers)} and {len(scales)}")
        info = ml_dtypes.finfo(dtype)
        self.dtype = np.dtype(dtype)
        with mpmath.workdps(60):
            largest = mpmath.mpf(float(info.max)) + mpmath.ldexp(1, int(info.maxexp) - int(info.nmant) - 2)
            finite = [_within(number, largest) for number in numbers]
            parts = [_mantissa_and_exponent(number) for number in finite]
            high = [float(mantissa) for mantissa, _ in parts]
            low = [float(part[0] - h) if np.isfinite(h) else 0.0 for part, h in zip(parts, high, strict=True)]
            units = [_unit(size, info) for size in scales]
        self.high, self.low = np.array(high, np.float64), np.array(low, np.float64)
        self.exponent = np.array([exponent for _, exponent in parts], np.int64)
        self.unit = np.array(units, np.int64)

    def errors(self, actual: Array) -> NDArray[np.float64]:
        if actual.dtype != self.dtype:
            raise TypeError(f"different dtypes: {actual.dtype} and {self.dtype}")
        if actual.shape != self.high.shape:
            raise ValueError(f"different lengths: {actual.shape} and {self.high.shape}")
        wide = actual.astype(np.float64)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            # Scaling is exact, and so is the first difference where the two are near each other.
            apart = np.abs((np.ldexp(wide, -self.exponent) - self.high) - self.low)
            steps = np.ldexp(apart, self.exponent - self.unit)
        same = (wide == self.high) | (np.isnan(wide) & np.isnan(self.high))
        both = np.isfinite(wide) & np.isfinite(self.high)
        return np.where(both, steps, np.where(same, 0.0, np.inf))


def _within(number: mpmath.mpf, largest: mpmath.mpf) -> mpmath.mpf:
    """The number, or the infinity that it is rounded to."""
    return number if not abs(number) >= largest else mpmath.inf * mpmath.sign(number)


def _mantissa_and_exponent(number: mpmath.mpf) -> tuple[mpmath.mpf, int]:
    if not abs(number) < mpmath.inf:
        return number, 0
    mantissa, exponent = mpmath.frexp(number)
    # Far below half the smallest subnormal number of any dtype, it is as good as 0.
    return (mantissa, int(exponent)) if exponent > -1200 else (mpmath.mpf(0), 0)


def _unit(size: mpmath.mpf, info: ml_dtypes.finfo) -> int:
    """The exponent of a unit in the last place of a number of this size."""
    exponent = _mantissa_and_exponent(size)[1] - 1 if size != 0 else int(info.minexp)
    return max(exponent, int(info.minexp)) - int(info.nmant)
