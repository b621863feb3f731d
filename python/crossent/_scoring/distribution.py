"""The distribution of the loss: a histogram of fixed bins, and means by position in groups that widen with it."""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossent import _core
from crossent._exact import ExactSum, standard_error, whole
from crossent._scoring.equality import Result

# Powers of two, so that the edges are exact.
BINS_PER_NAT = _core.BINS_PER_NAT
LAST_EDGE = _core.LOSS_BINS // BINS_PER_NAT
_BINS = _core.LOSS_BINS

# Positions below the first have a group each; from there on, each doubling has as many groups as the second.
_SINGLE = 16
_PER_DOUBLING = 8
# Every position is a float64.
_MOST = 2**53


@dataclass(frozen=True, slots=True)
class LossHistogram:
    """The numbers of rows by their negative log-likelihood.

    Attributes
    ----------
    counts : tuple of int
        Rows in bins of 1/32 nat: bin i holds i / 32 <= nll < (i + 1) / 32. The first bin also holds losses below 0,
        which rounded log-probabilities can give. The list ends with the last bin that is not empty, and at 32 nats.
    above : int
        Rows of 32 nats or more, but finite: a probability below 1.3e-14.
    not_finite : int
        Rows whose negative log-likelihood is nan or infinite.

    See Also
    --------
    Report : Holds it.
    """

    counts: tuple[int, ...]
    above: int
    not_finite: int

    @property
    def edges(self) -> NDArray[np.float64]:
        """The ends of the bins in nats, one more than there are counts."""
        return np.arange(len(self.counts) + 1, dtype=np.float64) / BINS_PER_NAT

    @property
    def total(self) -> int:
        """The number of rows."""
        return sum(self.counts) + self.above + self.not_finite

    def quantile(self, share: float) -> float:
        """Give a bound that a share of the rows stays below.

        Parameters
        ----------
        share : float
            From 0 to 1.

        Returns
        -------
        float
            The end of the first bin, in nats, such that at least this share of the rows lies below it: at most a
            32nd of a nat above the quantile. Infinite where that is above 32 nats, nan for no rows.

        Raises
        ------
        ValueError
            If `share` is not from 0 to 1.
        """
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"share is out of range: got {share}, expected 0 to 1")
        if not self.total:
            return np.nan
        # In integers, of the share as it is written: 0.07 is 7 hundredths, though no float is.
        exact = Fraction(str(share))
        below = 0
        for number, count in enumerate(self.counts, 1):
            below += count
            if below * exact.denominator >= exact.numerator * self.total:
                return number / BINS_PER_NAT
        return np.inf


@dataclass(frozen=True, eq=False, slots=True)
class PositionGroup(Result):
    """The rows at some positions that follow each other.

    Attributes
    ----------
    first, last : int
        The positions, both included, counted from 0.
    count : int
        How many rows there are.
    mean : float
        Their mean negative log-likelihood in nats; nan for none.
    standard_error : float
        Of that mean: the sample standard deviation (n - 1) over the root of n; nan for less than two rows.

    See Also
    --------
    Report : Holds the groups.
    """

    first: int
    last: int
    count: int
    mean: float
    standard_error: float


def histogram(counts: NDArray[np.int64], not_finite: int) -> LossHistogram:
    """Make a histogram of the counts of all bins, of which the last has no upper end."""
    used = int(np.flatnonzero(counts[:-1]).max(initial=-1)) + 1
    return LossHistogram(tuple(counts[:used].tolist()), int(counts[-1]), not_finite)


def counts_to_json(counts: NDArray[np.int64]) -> list[Any]:
    """Return the counts but the last up to the last that is not 0, and that last one."""
    short = histogram(counts, 0)
    return [list(short.counts), short.above]


def counts_from_json(parts: Any) -> NDArray[np.int64]:
    """Undo :func:`counts_to_json`."""
    short, above = parts
    if len(short) > _BINS:
        raise ValueError(f"the histogram has {len(short)} bins, expected at most {_BINS}")
    counts = np.zeros(_BINS + 1, dtype=np.int64)
    counts[: len(short)] = [whole(count) for count in short]
    counts[-1] = whole(above)
    return counts


def empty_counts() -> NDArray[np.int64]:
    """Return the counts of no rows."""
    return np.zeros(_BINS + 1, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class GroupSums:
    """The sums of the rows of a group."""

    count: int = 0
    nll: ExactSum = field(default_factory=ExactSum)
    nll_squared: ExactSum = field(default_factory=ExactSum)

    def __add__(self, other: "GroupSums") -> "GroupSums":
        return GroupSums(self.count + other.count, self.nll + other.nll, self.nll_squared + other.nll_squared)

    def to_json(self) -> list[Any]:
        """Return what JSON can hold, with every bit."""
        return [self.count, self.nll.to_json(), self.nll_squared.to_json()]

    @classmethod
    def from_json(cls, parts: Any) -> "GroupSums":
        """Undo :meth:`to_json`."""
        count, nll, nll_squared = parts
        return cls(whole(count), ExactSum.from_json(nll), ExactSum.from_json(nll_squared))


def group_of(positions: NDArray[np.int64]) -> NDArray[np.uint16]:
    """Return the group of each position: one for each below 16, then 8 for each doubling."""
    # frexp: p = m 2**e with 1/2 <= m < 1, so that the highest bit of p is that of 2**(e - 1).
    doubling = np.frexp(np.maximum(positions, _SINGLE).astype(np.float64))[1].astype(np.int64) - 1
    start = _SINGLE.bit_length() - 1
    shift = doubling - (_PER_DOUBLING.bit_length() - 1)
    within = (positions >> shift) - _PER_DOUBLING
    groups = _SINGLE + (doubling - start) * _PER_DOUBLING + within
    return np.where(positions < _SINGLE, positions, groups).astype(np.uint16)


def first_of(group: int) -> int:
    """Return the first position of a group."""
    if group < _SINGLE:
        return group
    doublings, within = divmod(group - _SINGLE, _PER_DOUBLING)
    return (_PER_DOUBLING + within) * (_SINGLE // _PER_DOUBLING) << doublings


def position_groups(sums: tuple[GroupSums, ...]) -> tuple[PositionGroup, ...]:
    """Make the groups of a report."""
    return tuple(
        PositionGroup(
            first_of(i),
            first_of(i + 1) - 1,
            s.count,
            s.nll.over(s.count),
            standard_error(s.nll_squared, s.nll, s.count),
        )
        for i, s in enumerate(sums)
    )


def check_positions(positions: Any, shape: tuple[int, ...]) -> None:
    """Raise where positions are missing, or are no integers for rows of this shape; only shape and dtype are asked."""
    if positions is None and len(shape) < 2:
        raise ValueError(
            f"positions are missing: got targets of shape {shape}, expected (..., positions) with an axis of texts "
            "before that of positions, or positions= with one number for each target; a single text is "
            "target[numpy.newaxis], and so its logits"
        )
    if positions is not None:
        if positions.dtype.kind not in "iu":
            raise TypeError(f"positions must hold integers: got dtype {positions.dtype}")
        if not _broadcasts_to(positions.shape, shape):
            raise ValueError(
                f"positions has the wrong shape: got {positions.shape}, expected {shape}, that of target, or one that "
                "broadcasts to it"
            )


def row_groups(positions: NDArray[Any] | None, shape: tuple[int, ...]) -> NDArray[np.uint16]:
    """Return the group of each row of an array of this shape, in the order of its elements.

    Without positions they are those along the last axis.
    """
    check_positions(positions, shape)
    # Allocated first: without memory for it, nothing is computed.
    groups = np.empty(shape, np.uint16)
    if groups.size and positions is None:
        groups[...] = group_of(np.arange(shape[-1]))
    elif groups.size and positions is not None:
        if not (positions.min() >= 0 and positions.max() < _MOST):
            raise ValueError(
                f"positions is out of range: got {int(positions.min())} to {int(positions.max())}, expected numbers "
                f"from 0 to {_MOST - 1}"
            )
        groups[...] = group_of(positions.astype(np.int64))
    return groups.reshape(-1)


def _broadcasts_to(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether an array of one shape broadcasts to another; `numpy.broadcast_shapes` takes 32 axes at most."""
    own = (1,) * (len(other) - len(shape)) + shape
    return len(own) == len(other) and all(n in (1, m) for n, m in zip(own, other, strict=True))
