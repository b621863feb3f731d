"""Adding up what the blocks of a file give."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossent import _core
from crossent.cli.output import DataError
from crossent.cli.reading import check_block
from crossent.io import MEMORY, Block, Source, TargetArray, log_blocks, read_ahead


class ExactSum:
    """A sum of float64 numbers without rounding: the same bits for any order and any grouping.

    The finite part is one integer that counts units of 2**-1126, of which every float64 is a multiple.
    """

    _SCALE = 1126  # frexp gives m * 2**e with e >= -1073, and m * 2**53 is an integer
    _CHUNK = 1 << 16  # at most 2**16 terms below 2**27 a bin: a float64 bin stays exact

    def __init__(self) -> None:
        self._units = 0
        self._special = 0.0

    def add(self, values: NDArray[np.float64]) -> None:
        """Add every number of a 1-D array."""
        units = 0
        finite = np.isfinite(values)
        if not finite.all():
            with np.errstate(invalid="ignore"):
                self._special += float(values[~finite].sum())
            values = values[finite]
        for start in range(0, values.size, self._CHUNK):
            fraction, exponent = np.frexp(values[start : start + self._CHUNK])
            whole = np.ldexp(fraction, 53).astype(np.int64)
            lowest = int(exponent.min())
            shift = exponent - lowest
            high = np.bincount(shift, weights=whole >> 27)
            low = np.bincount(shift, weights=whole & (2**27 - 1))
            for power, (more, less) in enumerate(zip(high.tolist(), low.tolist(), strict=True)):
                units += ((int(more) << 27) + int(less)) << (power + lowest + self._SCALE - 53)
        self._units += units

    def mean(self, count: int) -> float:
        """Return the sum over `count`, rounded once; nan for no numbers."""
        if count == 0:
            return math.nan
        if self._special != 0.0:
            return self._special
        return self._units / (count << self._SCALE)


@dataclass
class Tally:
    """What has been scored so far."""

    nll: ExactSum = field(default_factory=ExactSum)
    rows: int = 0
    count: int = 0
    correct: int = 0
    not_finite: int = 0
    first_not_finite: tuple[int, ...] | None = None
    clamped: int | None = None

    def add(
        self, block: Block, target: NDArray[Any], axis: int, ignore_index: int, *, log_probs: bool
    ) -> None:
        """Score a block of rows."""
        nll, prediction, counted = _core.score_rows(block.values, target, ignore_index, axis)
        if log_probs:
            nll = _negated(block.values, target, counted, axis)
        nll, counted = nll.reshape(-1), counted.reshape(-1)
        right = (prediction.reshape(-1) == target.reshape(-1)) & counted
        wild = np.flatnonzero(~np.isfinite(nll) & counted)
        if wild.size and self.first_not_finite is None:
            inside = np.unravel_index(int(wild[0]), target.shape)
            self.first_not_finite = tuple(int(i) + s.start for i, s in zip(inside, block.index, strict=True))
        count, correct = int(np.count_nonzero(counted)), int(np.count_nonzero(right))
        clamped = None if block.clamped is None else int(np.count_nonzero(block.clamped & counted))
        self.nll.add(nll)
        self.rows += block.rows
        self.count += count
        self.correct += correct
        self.not_finite += wild.size
        if clamped is not None:
            self.clamped = (self.clamped or 0) + clamped

    @property
    def mean(self) -> float:
        """Mean negative log-likelihood of the counted rows, in nats."""
        return self.nll.mean(self.count)

    @property
    def perplexity(self) -> float:
        """exp(mean)."""
        try:
            return math.exp(self.mean)
        except OverflowError:
            return math.inf

    @property
    def accuracy(self) -> float:
        """Share of the counted rows whose largest logit is the target's."""
        return self.correct / self.count if self.count else math.nan

    def figures(self) -> dict[str, int | float]:
        """Return the figures by their names in the JSON object."""
        return {
            "count": self.count,
            "ignored": self.rows - self.count,
            "mean": self.mean,
            "mean_bits": self.mean / math.log(2.0),
            "perplexity": self.perplexity,
            "accuracy": self.accuracy,
        }


def _negated(
    log_probs: NDArray[Any], target: NDArray[Any], counted: NDArray[np.bool_], axis: int
) -> NDArray[np.float64]:
    """Give the loss of rows that are log-probabilities: minus the target's; 0 for rows that are not counted."""
    places = np.expand_dims(np.where(counted, target, 0).astype(np.intp), axis)
    own = np.take_along_axis(log_probs, places, axis).squeeze(axis).astype(np.float64)
    return np.where(counted, 0.0 - own, 0.0)


def score_blocks(
    tally: Tally, source: Source, target: TargetArray | None, ignore_index: int, memory: int = MEMORY
) -> Iterator[int]:
    """Score a source in blocks of rows and add each to the tally; yields each block's number of rows."""
    with contextlib.closing(read_ahead(log_blocks(source, memory))) as blocks:
        for block in blocks:
            if target is not None:
                own = target[block.index]
                if own.size != block.rows:
                    raise DataError(_other_length(source, target))
            else:
                assert block.target is not None
                own = block.target
                check_block(own, block.start, source.classes, source.name, ignore_index)
            tally.add(block, own, source.axis, ignore_index, log_probs=source.values != "logits")
            yield block.rows
    if target is not None and source.rows != target.size:
        raise DataError(_other_length(source, target))


def _other_length(source: Source, target: TargetArray) -> str:
    rows = "more" if source.rows is None else source.rows
    return f"there are {target.size} targets, but {source.name} has {rows} rows; check that both come from the same run"
