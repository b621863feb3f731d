"""What the first rows of a table add up to: of probabilities, that tells the classes from all other columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

_CLOSE = 0.02
"""How far from 1 the sum of rounded probabilities may lie."""

_NEARLY_ALL = 0.95
_ROUNDING = 1e-6


class Sums:
    """The first rows of a table, whose `values` are probabilities or their logarithms."""

    def __init__(self, read: Callable[[Sequence[str]], NDArray[np.float64]], values: str) -> None:
        self._read, self._values = read, values
        self._known: dict[str, NDArray[np.float64]] = {}

    def has_fractions(self, name: str) -> bool:
        """Return whether a column has a number that is no whole one, in the first rows."""
        cells = self._read([name])
        cells = cells[np.isfinite(cells)]
        return bool((cells != np.rint(cells)).any())

    def first_that_adds_up(self, sets: Sequence[Sequence[str]]) -> int | None:
        """Find the set of columns whose rows add up to 1.

        It is the first that does, unless a later one comes much closer: one that leaves out a rare class adds up
        nearly, and so does one with a column of small numbers too many.
        """
        if self._values == "logits":
            return None
        self._look_at(sorted({name for each in sets for name in each} - set(self._known)))
        distances = [self._distance(each) for each in sets]
        least = min(distances, default=np.inf)
        if least > _CLOSE:
            return None
        return next(at for at, each in enumerate(distances) if each <= 2 * max(least, _ROUNDING))

    def _look_at(self, names: Sequence[str]) -> None:
        if names:
            cells = self._read(names)
            if self._values == "log-probs":
                with np.errstate(over="ignore"):  # of a column that holds something else
                    cells = np.exp(cells)
            self._known.update(zip(names, cells.T, strict=True))

    def _distance(self, names: Sequence[str]) -> float:
        """Return how far from 1 the rows are on average; infinity where they are no probabilities."""
        if len(names) < 2:
            return float("inf")
        cells = np.stack([self._known[name] for name in names], axis=1)
        cells = cells[~np.isnan(cells).any(axis=1)]
        if not len(cells) or cells.min() < 0 or cells.max() > 1 + _CLOSE:
            return float("inf")
        apart = np.abs(cells.sum(axis=1) - 1)
        close = apart <= _CLOSE
        return float(apart[close].mean()) if close.mean() >= _NEARLY_ALL else float("inf")
