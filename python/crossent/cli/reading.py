"""Opening files together with their targets, and checking these before the long read begins."""

from __future__ import annotations

import argparse
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossent.cli.output import DataError, say
from crossent.io import (
    BLOCK_BYTES,
    Block,
    OptionError,
    Source,
    TargetArray,
    open_logits,
    open_targets,
)


def open_source(options: argparse.Namespace, name: str, like: Source | None = None) -> Source:
    """Open a file of logits with the options of the command; `like` are rows that it is compared with."""
    return open_logits(
        name,
        dtype=options.dtype,
        classes=options.classes,
        values=options.values,
        axis=options.axis,
        label=options.label,
        columns=options.columns,
        strip_prefix=options.strip_prefix,
        like=like,
        labels=options.targets is None,
        ignored=options.ignore_index,
    )


def source_notes(*sources: Source) -> list[str]:
    """Tell how files were understood: which columns of tables are classes, where the user did not say it."""
    return list(dict.fromkeys(note for source in sources for note in source.notes))


def say_notes(*sources: Source) -> None:
    """Tell it on stderr."""
    for note in source_notes(*sources):
        say(f"note: {note}")


class Rows:
    """The rows of a block in the order in which they lie in the file, which does not depend on the blocks."""

    def __init__(self, source: Source, block: Block) -> None:
        values = np.moveaxis(block.values, source.axis, -1)
        axes = range(values.ndim - 1)
        order = sorted(axes, key=lambda axis: -abs(values.strides[axis]))
        self.values = values.transpose(*order, values.ndim - 1)
        """The logits, with the class axis at the end."""
        self._order, self._index, self._shape = order, block.index, source.row_shape

    def beside(self, array: NDArray[Any]) -> NDArray[Any]:
        """Give an array of the shape of the block's rows in their order."""
        return array.transpose(self._order)

    def places(self) -> NDArray[np.int64]:
        """Give the numbers of the rows as they stand in the array of targets, in C order."""
        places = np.zeros(tuple(part.stop - part.start for part in self._index), np.int64)
        for axis, part in enumerate(self._index):
            lengths = [length for length in self._shape[axis + 1 :] if length is not None]
            numbers = np.arange(part.start, part.stop) * math.prod(lengths)
            places += numbers.reshape(-1, *(1,) * (len(self._index) - axis - 1))
        return places.transpose(self._order).reshape(-1)

    def place(self, number: int) -> list[int]:
        """Give the place of a row in the array of targets, by its number in the block."""
        inside = np.unravel_index(number, self.values.shape[:-1])
        place = [0] * len(inside)
        for axis, at in zip(self._order, inside, strict=True):
            place[axis] = int(at) + self._index[axis].start
        return place


class Targets:
    """The targets of a source: of a file of their own, of the same file, or of each block."""

    def __init__(self, source: Source, options: argparse.Namespace) -> None:
        """Open the targets, and check their shape and values where they are known before the rows."""
        self._source, self._ignored = source, options.ignore_index
        self.name = options.targets or source.name
        self._array = _open_targets(source, options)

    def of(self, block: Block) -> NDArray[Any]:
        """Give the targets of a block."""
        if self._array is None:
            assert block.target is not None
            check_block(block.target, block.start, self._source.classes, self.name, self._ignored)
            return block.target
        own = self._array[block.index]
        if own.size != block.rows:
            raise DataError(self._other_length(self._array))
        return own

    def check_end(self) -> None:
        """Raise where there are more targets than rows, once all rows have been read."""
        if self._array is not None and self._source.rows != self._array.size:
            raise DataError(self._other_length(self._array))

    def _other_length(self, array: TargetArray) -> str:
        rows = "more" if self._source.rows is None else self._source.rows
        return (
            f"there are {array.size} targets, but {self._source.name} has {rows} rows; check that both come from "
            "the same run"
        )


def _open_targets(source: Source, options: argparse.Namespace) -> TargetArray | None:
    if options.targets is None:
        if not source.has_targets and source.targets is None:
            column = ", or name the column of labels with --label" if source.columns else ""
            raise OptionError(
                f"{source.name} holds no targets; give a file of class numbers after it{column}"
            )
        if source.targets is not None:
            _check_targets(source.targets, source, source.name, options.ignore_index)
        return source.targets
    target = open_beside(source, options.targets, options.target_dtype)
    _check_targets(target, source, options.targets, options.ignore_index)
    return target


def open_beside(source: Source, name: str, dtype: str | None = None) -> TargetArray:
    """Open integers that stand beside the rows of a source: one for each."""
    target = open_targets(name, dtype=dtype)
    if source.row_shape == (1,) and target.shape == () and isinstance(target, np.ndarray):
        target = target.reshape(1)
    expected = source.row_shape
    if len(target.shape) != len(expected) or any(
        length not in (None, own) for length, own in zip(expected, target.shape, strict=True)
    ):
        shape = source.shape
        fitting = [a for a in range(len(shape)) if _without(shape, a) == target.shape]
        fix = (
            f"with --axis {fitting[0]} they would fit"
            if fitting
            else "check that both come from the same run"
        )
        raise DataError(
            f"{name} has shape {target.shape}; expected {expected}, the shape {shape} of "
            f"{source.name} less the class axis {source.axis}; {fix}"
        )
    return target


def _without(shape: tuple[Any, ...], axis: int) -> tuple[Any, ...]:
    return shape[:axis] + shape[axis + 1 :]


def _check_targets(target: TargetArray, source: Source, name: str, ignore_index: int) -> None:
    """Raise for the first target that names no class, before the long read of the logits begins."""
    length = target.shape[0]
    step = max(1, BLOCK_BYTES * length // max(target.size * target.dtype.itemsize, 1))
    for start in range(0, length, step):
        check_block(target[(slice(start, start + step),)], start, source.classes, name, ignore_index)


def check_block(block: NDArray[Any], start: int, classes: int, name: str, ignored: int) -> None:
    """Raise for the first target of a block that names no class; `start` positions of its first axis come before."""
    if block.size == 0 or (block.min() >= 0 and block.max() < classes):
        return
    wrong = ((block < 0) | (block >= classes)) & (block != ignored)
    if wrong.any():
        first, *rest = (int(i) for i in np.unravel_index(int(wrong.argmax()), wrong.shape))
        value = int(block[(first, *rest)])
        place = ", ".join(map(str, (start + first, *rest)))
        raise DataError(
            f"{name}: target[{place}] is {value}, but the logits have {classes} classes "
            f"(0 to {classes - 1}) and the ignore index is {ignored}; likely a vocabulary of another size or a "
            f"padding id; to leave such rows out pass --ignore-index {value}"
        )
