"""Two models' blocks of rows side by side: the rows that both have at hand, whatever blocks they come in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossent.blocks import Index


def numbers_of(index: Index, row_shape: Sequence[int | None]) -> NDArray[np.int64]:
    """Return the numbers of the rows at an index among all, in C order, as an array of the shape of these rows."""
    numbers = np.zeros(tuple(cut.stop - cut.start for cut in index), np.int64)
    for axis, cut in enumerate(index):
        # The first length alone may be unknown.
        inner = math.prod(length for length in row_shape[axis + 1 :] if length is not None)
        here = np.arange(cut.start, cut.stop) * inner
        numbers += here.reshape(-1, *(1,) * (len(index) - axis - 1))
    return numbers


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows that follow each other, in one dimension."""

    values: NDArray[Any]
    """The logits, of two dimensions."""

    places: NDArray[np.int64]
    """The numbers of the rows among all, in C order of the targets."""

    target: NDArray[Any] | None = None
    clamped: NDArray[np.bool_] | None = None
    """Where a file stores a smaller loss of the target than it was."""

    def cut(self, part: slice) -> Chunk:
        """Return some of the rows."""
        return Chunk(
            self.values[part],
            self.places[part],
            None if self.target is None else self.target[part],
            None if self.clamped is None else self.clamped[part],
        )


class Chunks:
    """Chunks of rows, of which any number is taken at a time, within a chunk."""

    def __init__(self, chunks: Iterator[Chunk]) -> None:
        self._chunks = chunks
        self._chunk: Chunk | None = None
        self._at = self._end = 0

    def left(self) -> int:
        """Return how many rows are at hand; 0 at the end."""
        while self._at == self._end:
            self._chunk = next(self._chunks, None)
            if self._chunk is None:
                return 0
            self._at, self._end = 0, len(self._chunk.values)
        return self._end - self._at

    def take(self, count: int) -> Chunk:
        """Return the next rows, no more than there are at hand."""
        assert self._chunk is not None
        part = slice(self._at, self._at + count)
        self._at += count
        return self._chunk.cut(part)
