"""Sources of logits made of stored arrays and of other sources; targets from several files."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossent._io.source import OptionError, Source, Stored, TargetArray
from crossent.blocks import MEMORY, Block, Index, rows_per_block


class ArraySource(Source):
    """The rows of one stored array."""

    def __init__(self, stored: Stored, axis: int, values: str = "logits") -> None:
        if not -stored.ndim <= axis < stored.ndim:
            raise OptionError(f"--axis {axis} is out of range for logits of shape {stored.shape}")
        self.name, self.format, self.dtype, self.values = stored.name, stored.format, stored.dtype, values
        self.paths = (stored.path,)
        self._stored, self._alone = stored, stored.ndim == 1
        self.shape = (1, *stored.shape) if self._alone else stored.shape
        self.axis = 1 if self._alone else axis % stored.ndim

    def row_blocks(self, memory: int | None = None, start: int = 0) -> Generator[Block, None, None]:
        """Yield the rows in blocks, in the order in which they lie in the file."""
        memory = MEMORY if memory is None else memory
        if self._alone:
            if start == 0:
                for _, row in self._stored.blocks(0, memory):
                    yield Block((slice(0, 1),), row[np.newaxis])
            return
        row_bytes = self.classes * self.dtype.itemsize
        block_bytes = rows_per_block(memory, row_bytes) * row_bytes
        for index, values in self._stored.blocks(self.axis, block_bytes, start, memory=memory):
            yield Block((*index[: self.axis], *index[self.axis + 1 :]), np.moveaxis(values, self.axis, -1))


class Shards(Source):
    """Several sources, one after the other along their first axis."""

    def __init__(self, name: str, sources: Sequence[Source]) -> None:
        first = sources[0]
        for other in sources[1:]:
            self._check(first, other)
        self.name, self.format, self.dtype = name, first.format, first.dtype
        self.axis, self.values, self.has_targets = first.axis, first.values, first.has_targets
        self.paths = tuple(path for source in sources for path in source.paths)
        lengths = [source.shape[0] for source in sources]
        known = [length for length in lengths if length is not None]
        self.shape = (sum(known) if len(known) == len(lengths) else None, *first.shape[1:])
        if all(source.targets is not None for source in sources):
            self.targets = Pieces([source.targets for source in sources if source.targets is not None])
        self.columns, self.label, self.notes = first.columns, first.label, first.notes
        self._sources = sources

    def likely_cause(self, values: NDArray[Any], wrong: NDArray[np.bool_]) -> str:
        """Return what the first source returns: all have the same columns."""
        return self._sources[0].likely_cause(values, wrong)

    @staticmethod
    def _check(first: Source, other: Source) -> None:
        if first.axis == 0:
            raise OptionError(
                f"--axis 0 is the axis along which files follow each other; {first.name} and {other.name} cannot "
                "be read as one array so"
            )
        ours = (first.shape[1:], first.dtype, first.format.partition(",")[0])
        theirs = (other.shape[1:], other.dtype, other.format.partition(",")[0])
        if ours == theirs:
            return
        told = [f"{source.name} has shape {source.shape} of {source.dtype}" for source in (first, other)]
        raise ValueError(
            f"{told[1]}, but {told[0]}; files that are read as one array have one dtype and differ in their "
            "first length alone; make the pattern narrower"
        )

    def row_blocks(self, memory: int | None = None, start: int = 0) -> Generator[Block, None, None]:
        """Yield the blocks of one source after the other."""
        before = first = 0  # rows, and positions along the first axis
        for source in self._sources:
            rows = source.rows
            if rows is None or start < before + rows:
                for block in source.row_blocks(memory, max(start - before, 0)):
                    head, *rest = block.index
                    yield replace(block, index=(slice(first + head.start, first + head.stop), *rest))
            length = source.row_shape[0]  # a source that had to read its end to know it has done so
            assert length is not None
            assert source.rows is not None
            before, first = before + source.rows, first + length
        self.shape = (first, *self.shape[1:])


def check_pieces(found: Sequence[Stored], ndim: int) -> None:
    """Check that arrays of several files can be put together along their first axis, and have `ndim` dimensions."""
    first = found[0]
    for other in (*found[1:], first) if len(found) > 1 else ():
        if other.ndim < ndim or (other.shape[1:], other.dtype) != (first.shape[1:], first.dtype):
            raise ValueError(
                f"{other.name} has shape {other.shape} of {other.dtype}, but {first.name} has {first.shape} of "
                f"{first.dtype}; files that are read as one array have one dtype, and differ in their first length; "
                "make the pattern narrower"
            )


class Pieces:
    """Arrays of targets that follow each other along their first axis, put together a block at a time."""

    def __init__(self, arrays: Sequence[TargetArray]) -> None:
        self._arrays = arrays
        self._ends = np.cumsum([array.shape[0] for array in arrays])
        self.dtype: np.dtype[Any] = arrays[0].dtype
        self.shape: tuple[int, ...] = (int(self._ends[-1]), *arrays[0].shape[1:])
        self.size = int(np.prod(self.shape))

    def __getitem__(self, index: Index, /) -> NDArray[Any]:
        begin, end, _ = index[0].indices(self.shape[0])
        found = []
        at = int(np.searchsorted(self._ends, begin, side="right"))
        while begin < end:
            before = int(self._ends[at - 1]) if at else 0
            stop = min(end, int(self._ends[at]))
            found.append(self._arrays[at][(slice(begin - before, stop - before), *index[1:])])
            begin, at = stop, at + 1
        if len(found) == 1:
            return found[0]
        return np.concatenate(found) if found else np.empty((0, *self.shape[1:]), self.dtype)[index]
