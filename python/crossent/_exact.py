"""Sums without rounding, as Python integers: the same for any order and any grouping of the terms.

The sums of batches merge here, and are kept as text; the compiled code adds up the rows of each. For those who use the
crate from Rust, `src/scoring/figures.rs` makes figures of sums as well: tests hold them to the bits of these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossent import _core

# Every float64 is a whole number of these: 2**-1074.
_SHIFT = 1074


@dataclass(frozen=True, slots=True)
class ExactSum:
    """A sum of float64 numbers: the finite ones in units of 2**-1074, and how many were +inf, -inf and nan."""

    units: int = 0
    plus: int = 0
    minus: int = 0
    nan: int = 0

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> ExactSum:
        """Add up an array."""
        values = np.ascontiguousarray(values, dtype=np.float64).reshape(-1)
        return cls.from_core(_core.exact_sums(values, [0, values.size])[0])

    @classmethod
    def of_integer(cls, value: int) -> ExactSum:
        """Make a sum of one integer of any size."""
        return cls(int(value) << _SHIFT)

    @classmethod
    def from_core(cls, sum: tuple[bytes, tuple[int, int, int]]) -> ExactSum:
        """Read a sum that the compiled code made."""
        units, specials = sum
        return cls(int.from_bytes(units, "little", signed=True), *specials)

    def __add__(self, other: ExactSum) -> ExactSum:
        return ExactSum(
            self.units + other.units,
            self.plus + other.plus,
            self.minus + other.minus,
            self.nan + other.nan,
        )

    @property
    def is_finite(self) -> bool:
        """Whether all terms were."""
        return not (self.plus or self.minus or self.nan)

    def over(self, count: int) -> float:
        """Return the sum over `count`, rounded once; nan for a count of 0."""
        if count == 0 or self.nan or (self.plus and self.minus):
            return math.nan
        if self.plus or self.minus:
            return math.inf if self.plus else -math.inf
        return quotient(self.units, count << _SHIFT)

    def over_sum(self, other: ExactSum) -> float:
        """Return the sum over one of finite terms, rounded once; nan over a sum of 0."""
        if not self.is_finite:
            return self.over(1)
        return quotient(self.units, other.units) if other.units else math.nan

    def __float__(self) -> float:
        return self.over(1)

    def to_json(self) -> list[Any]:
        """Return what JSON can hold, with every bit."""
        return [hex(self.units), self.plus, self.minus, self.nan]

    @classmethod
    def from_json(cls, parts: list[Any]) -> ExactSum:
        """Undo :meth:`to_json`."""
        units, plus, minus, nan = parts
        return cls(int(units, 16), whole(plus), whole(minus), whole(nan))


def quotient(a: int, b: int) -> float:
    """Return a / b of integers of any size, rounded once; infinite where it is too large for a float."""
    try:
        return a / b
    except OverflowError:
        return math.inf if (a < 0) == (b < 0) else -math.inf


def covariance(products: ExactSum, a: ExactSum, b: ExactSum, count: int) -> tuple[int, int]:
    """Return n sum(a b) - sum(a) sum(b), and the divisor that makes the sample covariance of it."""
    return count * (products.units << _SHIFT) - a.units * b.units, (count * (count - 1)) << (2 * _SHIFT)


def standard_error(squares: ExactSum, sum: ExactSum, count: int) -> float:
    """Return the sample standard deviation (n - 1) over the root of n; nan for less than two terms."""
    if count < 2 or not (squares.is_finite and sum.is_finite):
        return math.nan
    above, below = covariance(squares, sum, sum, count)
    return math.sqrt(quotient(max(above, 0), below * count))


def exp(x: float) -> float:
    """Return e**x; infinite where it is too large for a float."""
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def whole(value: Any) -> int:
    """Return a non-negative integer unchanged, or raise."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"not a count: {value!r}")
    return value
