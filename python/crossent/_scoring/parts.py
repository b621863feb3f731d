"""Rows in parts, with what stands beside them: an array at once, blocks of rows block by block.

What is scored may be logits, log-probabilities or probabilities, of an array or of a `RowBlocks`. The functions that
score see parts alone, which the compiled code takes as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crossent import _core
from crossent._arguments import (
    Logits,
    Values,
    block_dtype,
    blocks_in_turn,
    checked_block,
    has_row_blocks,
    stand_in,
    with_last_axis,
)
from crossent._interop import ArrayInput, as_array
from crossent._scoring.side_by_side import Chunk, Chunks, numbers_of
from crossent._scoring.values import look
from crossent.blocks import ArrayBlocks, Block, Index, RowBlocks

# Numbers in a part of an array, whose logarithms are taken at once: 8 MiB of float64.
_PART = 1 << 20

Places: TypeAlias = Index | NDArray[np.int64]
"""Where some rows stand among all: a slice for each axis, or their numbers in C order."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows, or all of them."""

    rows: NDArray[Any]
    """Logits or log-probabilities."""

    axis: int
    """Their class axis."""

    log_probs: bool
    """Whether they are log-probabilities."""

    target: Any
    where: Any
    places: Places | None = None
    """Where the rows stand among all; None where they are all."""

    row_shape: tuple[int, ...] = ()
    """The shape of all rows, where there are places."""

    def place(self, row: int) -> tuple[int, ...]:
        """Return the place among all rows of one of these, by its number among these."""
        if isinstance(self.places, tuple):
            inside = np.unravel_index(row, self.rows.shape[:-1])
            return tuple(int(at) + cut.start for at, cut in zip(inside, self.places, strict=True))
        assert self.places is not None
        return tuple(map(int, np.unravel_index(self.places[row], self.row_shape)))

    def number(self, row: int) -> int:
        """Return the number among all rows, in C order, of one of these."""
        return row if self.places is None else int(np.ravel_multi_index(self.place(row), self.row_shape))

    def active(self, ignore_index: int) -> NDArray[np.bool_]:
        """Return which of the rows count."""
        return _core.active_rows(self.rows, self.target, ignore_index, self.where, self.axis, "logits")

    def of_rows(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the elements that belong to these rows, of an array with one for each of all rows in C order."""
        if self.places is None:
            return array
        return np.ascontiguousarray(_at(self.places, array.reshape(self.row_shape))).reshape(-1)


def parts(
    logits: Logits,
    target: ArrayInput | None,
    where: ArrayInput | None,
    axis: int,
    ignore_index: int,
    values: Values,
    mistakes: list[str] | None,
) -> Iterator[Part]:
    """Yield the rows in parts: an array of logits or log-probabilities as one.

    Probabilities become their logarithms, as float64; those of ignored rows become 0. Where the rows do not come in
    one part, all targets are checked before the first. Where there is a list for `mistakes`, what the first rows look
    like goes there when the caller asks for the second part: arguments that do not fit have raised by then.
    """
    if values != "probs" and not has_row_blocks(logits):
        rows = as_array(logits, "logits")
        yield Part(rows, axis, values == "log_probs", target, where)
        if mistakes is not None:
            look(rows, target, ignore_index, where, axis, values, mistakes)
        return
    beside = _Beside(logits, target, where, axis, ignore_index, values)
    first = True
    for block in beside.blocks(beside.logits):
        part = beside.part(block.index, block.values)
        if values == "probs":
            yield _logarithms(part, ignore_index, mistakes, "logits")
            continue
        yield part
        if first and mistakes is not None and part.active(ignore_index).any():
            look(part.rows, part.target, ignore_index, part.where, -1, values, mistakes)
            first = False


def pairs(
    logits: Logits,
    other_logits: Logits,
    target: ArrayInput | None,
    where: ArrayInput | None,
    axis: int,
    ignore_index: int,
    values: Values,
    mistakes: list[str],
) -> Iterator[tuple[Part, Part]]:
    """Yield the rows of two models in parts, as `parts` does: the same rows of both."""
    names = ("logits", "other_logits")
    if values != "probs" and not (has_row_blocks(logits) or has_row_blocks(other_logits)):
        both = [
            Part(as_array(rows, name), axis, values == "log_probs", target, where)
            for rows, name in zip((logits, other_logits), names, strict=True)
        ]
        yield both[0], both[1]
        for part, name in zip(both, names, strict=True):
            look(part.rows, target, ignore_index, where, axis, values, mistakes, name)
        return
    beside = _Beside(logits, target, where, axis, ignore_index, values)
    other = beside.like(other_logits, axis)
    first = True
    for places, p, q in _side_by_side(beside, other):
        both = [beside.part(places, rows) for rows in (p, q)]
        if values == "probs":
            both = [
                _logarithms(part, ignore_index, mistakes, name)
                for part, name in zip(both, names, strict=True)
            ]
        yield both[0], both[1]
        if first and both[0].active(ignore_index).any():
            for part, name in zip(both, names, strict=True):
                look(part.rows, part.target, ignore_index, part.where, -1, values, mistakes, name)
            first = False


def _slices(index: Index) -> str:
    return "[" + ", ".join(f"{cut.start}:{cut.stop}" for cut in index) + "]"


class _Beside:
    """Rows that come in blocks, and what stands beside them, checked before the first block."""

    def __init__(
        self,
        logits: Logits,
        target: ArrayInput | None,
        where: ArrayInput | None,
        axis: int,
        ignore_index: int,
        values: Values,
    ) -> None:
        self._target = None if target is None else as_array(target, "target")
        self._where = None if where is None else as_array(where, "where")
        self._log_probs, self._probs = values != "logits", values == "probs"
        name = "logits"
        if has_row_blocks(logits):
            self.logits = with_last_axis(logits, axis, name)
            rows = stand_in(logits, (self._target, self._where), name)
            _core.check_targets(rows, target, ignore_index, where, -1, name)
            self.row_shape: tuple[int, ...] = rows.shape[:-1]
        else:
            rows = as_array(logits, name)
            _core.check_targets(rows, target, ignore_index, where, axis, name)
            self.logits = ArrayBlocks(rows, axis)
            self.row_shape = self.logits.row_shape
        self.shape, self.classes = rows.shape, self.logits.classes

    def like(self, other: Logits, axis: int) -> RowBlocks:
        """Return the rows of another model, or raise where they are not of the shape of these."""
        if has_row_blocks(other):
            blocks = with_last_axis(other, axis, "other_logits")
            check_same_shape((*blocks.row_shape, blocks.classes), (*self.row_shape, self.classes))
            return blocks
        array = as_array(other, "other_logits")
        check_same_shape(array.shape, self.shape)
        return ArrayBlocks(array, axis)

    def memory(self, blocks: RowBlocks) -> int | None:
        """Return how much memory blocks may take: views of an array take none, but their logarithms do."""
        return 4 * _PART * block_dtype(blocks).itemsize if self._probs else None

    def blocks(self, blocks: RowBlocks, name: str = "logits") -> Iterator[Block]:
        """Yield the blocks, and check that each row comes once; at least one block, if of no rows."""
        done, expected = 0, math.prod(self.row_shape)
        came = np.zeros(self.row_shape, bool)
        for block in blocks_in_turn(blocks, self.memory(blocks)):
            checked_block(block, blocks, name)
            if any(cut.stop > length for cut, length in zip(block.index, self.row_shape, strict=True)):
                raise ValueError(
                    f"the blocks of {name} have more rows than there should be: got a block at "
                    f"{_slices(block.index)}, expected rows of shape {self.row_shape}"
                )
            place: Any = (*block.index, ...)
            if came[place].any():
                raise ValueError(
                    f"the blocks of {name} give a row twice: got it again at {_slices(block.index)}"
                )
            came[place] = True
            yield block
            done += block.rows
        if done != expected:
            raise ValueError(
                f"the blocks of {name} have {done} rows, expected {expected} of shape {self.row_shape}"
            )
        if expected == 0:
            index = tuple(slice(0, length) for length in self.row_shape)
            yield Block(index, np.empty((*self.row_shape, self.classes), block_dtype(blocks)))

    def part(self, places: Places, rows: NDArray[Any]) -> Part:
        """Return some rows with what stands beside them."""
        target = None if self._target is None else _at(places, self._target)
        where = None if self._where is None else _at(places, self._where)
        return Part(rows, -1, self._log_probs, target, where, places, self.row_shape)


def check_same_shape(got: tuple[int | None, ...], expected: tuple[int, ...]) -> None:
    """Raise where the other model's rows are not of the shape of the first one's."""
    if len(got) != len(expected) or any(a not in (None, b) for a, b in zip(got, expected, strict=True)):
        raise ValueError(f"other_logits has the wrong shape: got {got}, expected {expected}")


def _at(places: Places, array: NDArray[Any]) -> NDArray[Any]:
    """Return the elements of an array of the shape of the rows that stand at some places."""
    if isinstance(places, tuple):
        index: Any = (*places, ...)  # of an array without axes, an array too
        return np.asarray(array[index])
    return array.reshape(-1)[places]


def _side_by_side(beside: _Beside, theirs: RowBlocks) -> Iterator[tuple[Places, NDArray[Any], NDArray[Any]]]:
    """Yield the same rows of two models; an array is cut as the blocks of the other are."""
    ours = beside.logits
    if isinstance(theirs, ArrayBlocks):
        for block in beside.blocks(ours):
            yield block.index, block.values, theirs.at(block.index).values
    elif isinstance(ours, ArrayBlocks):
        for block in beside.blocks(theirs, "other_logits"):
            yield block.index, ours.at(block.index).values, block.values
    else:
        one, other = Chunks(_chunks(beside, ours, "logits")), Chunks(_chunks(beside, theirs, "other_logits"))
        while (count := min(one.left(), other.left())) > 0:
            p, q = one.take(count), other.take(count)
            if (p.places != q.places).any():
                raise ValueError("logits and other_logits give their rows in different orders")
            yield p.places, p.values, q.values
        for chunks, name in ((one, "logits"), (other, "other_logits")):
            if chunks.left():
                raise ValueError(f"{name} has more rows than the other: {chunks.left()} are left")


def _chunks(beside: _Beside, blocks: RowBlocks, name: str) -> Iterator[Chunk]:
    for block in beside.blocks(blocks, name):
        rows = block.values.reshape(block.rows, beside.classes)
        yield Chunk(rows, numbers_of(block.index, beside.row_shape).reshape(-1))


def _logarithms(part: Part, ignore_index: int, mistakes: list[str] | None, name: str) -> Part:
    """Return a part of probabilities with their logarithms, or raise for the first number that is no probability."""
    logs, (number, total) = _core.log_of_probabilities(
        part.rows, part.target, ignore_index, part.where, -1, name
    )
    if number is not None:
        row, column, value = number
        raise ValueError(
            f"{name} holds a number that is no probability: got {value:g} for class {column} of row "
            f'[{_named(part, row)}], expected 0 to 1; for logits pass values="logits", for log-probabilities '
            'values="log_probs"'
        )
    if total is not None and mistakes is not None and not mistakes:
        row, value = total
        mistakes.append(
            f"the probabilities of row [{_named(part, row)}] of {name} add up to {value:g}, not 1; is a class "
            "missing?"
        )
    return replace(part, rows=logs)


def _named(part: Part, row: int) -> str:
    return ", ".join(map(str, part.place(row)))
