"""Opening files together with their targets, and checking these before the long read begins."""

from __future__ import annotations

import argparse
import contextlib
import re
from collections.abc import Generator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossent import _core
from crossent._cli.options import heads_of
from crossent._cli.output import DataError, say
from crossent._io import (
    Head,
    HiddenSource,
    OptionError,
    Source,
    TargetArray,
    axes_in_memory,
    integers_in,
    log_blocks,
    open_hidden,
    open_logits,
    open_targets,
    others_in,
    paths_of,
    read_ahead,
)
from crossent._scoring.side_by_side import Chunk, numbers_of
from crossent.blocks import BLOCK_BYTES, Block

# What arrays of integers beside logits are called that are no targets.
_NO_TARGETS = re.compile(
    r"(?:^|[^a-z])(?:preds?|predictions?|predicted|argmax|ids?|idx|index|indices|input_ids|masks?|lengths?|positions?|"
    r"steps?|epochs?|seeds?)$",
    re.IGNORECASE,
)


def open_source(options: argparse.Namespace, name: str, like: Source | None = None) -> Source:
    """Open a file of logits, or of hidden states, with the options of the command.

    `like` are rows that it is compared with.
    """
    heads = heads_of(options)
    head = heads[0 if like is None else 1]
    if head is not None:
        beside_logits = getattr(options, "other", None) is not None and None in heads
        return _open_hidden(options, name, head, beside_logits=beside_logits)
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


def _open_hidden(options: argparse.Namespace, name: str, head: Head, *, beside_logits: bool) -> HiddenSource:
    """Open hidden states; `beside_logits`, which other options may apply to, where a command compares the two."""
    for option in ("values", "label", "columns", "strip_prefix"):
        if not beside_logits and getattr(options, option) is not None:
            raise OptionError(
                f"--{option.replace('_', '-')} does not apply to hidden states, which {head.option} makes logits of; "
                "leave it out"
            )
    source = open_hidden(
        name,
        head,
        dtype=options.dtype,
        classes=options.classes,
        dtype_elsewhere=getattr(options, "other", None) is not None,
    )
    if options.axis not in (-1, source.axis):
        raise OptionError(
            f"--axis {options.axis} does not apply to hidden states, whose numbers lie along the last axis; leave it "
            "out"
        )
    return source


def what_is_read(source: Source) -> str:
    """Name what the file of a source holds, as results do."""
    return "hidden" if isinstance(source, HiddenSource) else "logits"


def source_notes(*sources: Source) -> list[str]:
    """Return how files were understood: which columns of tables are classes, where the user did not say it."""
    return list(dict.fromkeys(note for source in sources for note in source.notes))


def say_notes(*sources: Source) -> None:
    """Print how files were understood on stderr."""
    for note in source_notes(*sources):
        say(f"note: {note}")


def read_rows(
    source: Source, targets: Targets | None, memory: int, start: int = 0
) -> Generator[Rows, None, None]:
    """Yield the rows of a source in blocks, all but the first `start`, with their targets.

    A thread reads the next block meanwhile. Probabilities are given as their logarithms.
    """
    with contextlib.closing(read_ahead(log_blocks(source, memory, start))) as blocks:
        for block in blocks:
            yield Rows(source, block, block.target if targets is None else targets.of(block))


class Rows:
    """The rows of a block in the order in which they lie in the file, which does not depend on the blocks."""

    def __init__(self, source: Source, block: Block, target: NDArray[Any] | None) -> None:
        self._order, self._shape = axes_in_memory(block.values), source.row_shape
        self.index, self.count = block.index, block.rows
        self.values = block.values.transpose(*self._order, -1)
        """The logits, with the classes along the last axis."""
        self.any_target = None if target is None else self.beside(target)
        """The targets, if there are any."""
        self.clamped = None if block.clamped is None else self.beside(block.clamped)
        """Where the file stores a smaller loss of the target than it was."""

    @property
    def target(self) -> NDArray[Any]:
        """The targets, where the command needs some."""
        assert self.any_target is not None
        return self.any_target

    def chunk(self) -> Chunk:
        """Return the rows in one dimension."""
        flat = [None if array is None else array.reshape(-1) for array in (self.any_target, self.clamped)]
        return Chunk(self.values.reshape(self.count, self.values.shape[-1]), self.places(), *flat)

    def beside(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return an array of the shape of the block's rows in their order."""
        return array.transpose(self._order)

    def places(self) -> NDArray[np.int64]:
        """Return the numbers of the rows as they stand in the array of targets, in C order."""
        return self.beside(numbers_of(self.index, self._shape)).reshape(-1)

    def place(self, number: int) -> list[int]:
        """Return the place of a row in the array of targets, by its number in the block."""
        inside = np.unravel_index(number, self.values.shape[:-1])
        place = [0] * len(inside)
        for axis, at in zip(self._order, inside, strict=True):
            place[axis] = int(at) + self.index[axis].start
        return place


class Targets:
    """The targets of a source: of a file of their own, of the same file, or of each block."""

    def __init__(self, source: Source, options: argparse.Namespace) -> None:
        """Open the targets, and check their shape and values where they are known before the rows."""
        self._source, self._ignored = source, options.ignore_index
        self.name = options.targets or source.name
        self._array: TargetArray | None = None
        self._seen = Seen(source.classes, options.ignore_index)
        if options.targets is not None:
            self._open(options.targets, options.target_dtype)
        elif (source.has_targets or source.targets is not None) and options.target_dtype is not None:
            raise OptionError(f"--target-dtype does not apply to {source.name}; leave it out")
        elif source.has_targets:  # with its blocks
            return
        elif source.targets is not None:
            _check_targets(source.targets, source, source.name, options.ignore_index)
            self._array = source.targets
        else:
            self._open(self._beside_logits(options), options.target_dtype)

    @classmethod
    def if_any(cls, source: Source, options: argparse.Namespace, name: str) -> Targets | None:
        """Open the targets of a source, which the user calls `name`, if there are any."""
        if options.targets is None and not source.has_targets and source.targets is None:
            file, keys = integers_in(source.name, source.row_shape)
            if not keys:
                return None
            # A command that names the logits of such a file, and no targets, may want none.
            named_alone = len(keys) > 1 and paths_of(name)[0][1] is not None
            if named_alone or (len(keys) == 1 and _NO_TARGETS.search(keys[0])):
                say(
                    f"note: {file} holds arrays of integers ({', '.join(keys)}), and none is taken for targets unless "
                    "it is named"
                )
                return None
        return cls(source, options)

    def _open(self, name: str, dtype: str | None) -> None:
        self.name = name
        self._array = open_beside(self._source, name, dtype)
        _check_targets(self._array, self._source, name, self._ignored)

    def _beside_logits(self, options: argparse.Namespace) -> str:
        """Name the only array of integers in the file of the logits."""
        source = self._source
        file, keys = integers_in(source.name, source.row_shape)
        if not keys:
            fix = "; give a file of class indices after it"
            if source.columns:
                fix += ", or name the column of labels with --label"
            elif others := others_in(source.name):
                more = f" and {len(others) - 8} more" if len(others) > 8 else ""
                fix += f"; beside it are {', '.join(others[:8])}{more}, and class indices are integers"
            raise OptionError(f"{source.name} holds no targets{fix}")
        if len(keys) > 1:
            logits = source.name if options.command != "compare" else f"{source.name} {options.other}"
            ways = " or ".join(f"{logits} {file}:{key}" for key in keys)
            raise OptionError(
                f"{file} has {len(keys)} arrays of integers ({', '.join(keys)}); name that of the targets too, as in "
                f"{ways}"
            )
        name = f"{file}:{keys[0]}"
        if _NO_TARGETS.search(keys[0]):
            raise OptionError(
                f"{file} holds {keys[0]!r} beside its logits, which may be no targets; if they are, name them: "
                f"{source.name} {name}"
            )
        say(f"note: the targets are {name}")
        return name

    def of(self, block: Block) -> NDArray[Any]:
        """Return the targets of a block."""
        if self._array is None:
            assert block.target is not None
            check_block(block.target, block.index[0].start, self.name, self._seen)
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
        is_hidden = isinstance(source, HiddenSource)  # whose axis cannot be chosen
        fitting = [str(a) for a in range(len(shape)) if not is_hidden and _without(shape, a) == target.shape]
        known = [length for length in expected if length is not None]
        hint = _core.shape_hint("array", target.shape, known) if len(known) == len(expected) else None
        fixes = [f"with --axis {' or '.join(fitting)} they would fit"] if fitting else []
        fixes += [f"{hint}, and save that"] if hint else []
        fix = "; or ".join(fixes) or "check that both come from the same run"
        raise DataError(
            f"{name} has shape {target.shape}; expected {expected}, the shape {shape} of "
            f"{'the logits of ' if is_hidden else ''}{source.name} less the class axis {source.axis}; {fix}"
        )
    return target


def _without(shape: tuple[Any, ...], axis: int) -> tuple[Any, ...]:
    return shape[:axis] + shape[axis + 1 :]


class Seen:
    """What targets there are: of those that count the least and the largest class, and of the others likewise."""

    def __init__(self, classes: int, ignored: int) -> None:
        self.classes, self.ignored = classes, ignored
        self._inside: tuple[int, int] | None = None
        self._outside: tuple[int, int] | None = None
        self._has_ignored = False

    def add(self, block: NDArray[Any]) -> int | None:
        """Take note of a block; returns the number of the first of its targets that names no class, if one does."""
        inside, outside, has_ignored, first = _core.targets_found(block, self.classes, self.ignored)
        self._inside = _wider(self._inside, inside)
        self._outside = _wider(self._outside, outside)
        self._has_ignored |= has_ignored
        return first

    def hint(self, value: int, dtype: np.dtype[Any]) -> str:
        """Return the fix for a target that names no class."""
        return _core.out_of_range_hint(
            value,
            self.classes,
            self.ignored,
            self._inside,
            self._outside or (value, value),
            self._has_ignored,
            8 * dtype.itemsize,
            dtype.kind == "i",
        )


def _wider(one: tuple[int, int] | None, other: tuple[int, int] | None) -> tuple[int, int] | None:
    if one is None or other is None:
        return one or other
    return min(one[0], other[0]), max(one[1], other[1])


def _check_targets(target: TargetArray, source: Source, name: str, ignore_index: int) -> None:
    """Raise for the first target that names no class, before the long read of the logits begins."""
    length = target.shape[0]
    step = max(1, BLOCK_BYTES * length // max(target.size * target.dtype.itemsize, 1))
    seen = Seen(source.classes, ignore_index)
    starts = iter(range(0, length, step))
    for start in starts:
        block = target[(slice(start, start + step),)]
        wrong = seen.add(block)
        if wrong is not None:
            for later in starts:  # the other targets show what is wrong with this one
                seen.add(target[(slice(later, later + step),)])
            raise _no_class(block, wrong, start, name, seen)


def check_block(block: NDArray[Any], start: int, name: str, seen: Seen) -> None:
    """Raise for the first target of a block that names no class; `start` positions of its first axis come before."""
    wrong = seen.add(block)
    if wrong is not None:
        raise _no_class(block, wrong, start, name, seen)


def _no_class(block: NDArray[Any], wrong: int, start: int, name: str, seen: Seen) -> DataError:
    first, *rest = (int(i) for i in np.unravel_index(wrong, block.shape))
    value = int(block[(first, *rest)])
    place = ", ".join(map(str, (start + first, *rest)))
    return DataError(
        f"{name}: target[{place}] is {value}, but the logits have {seen.classes} classes (0 to {seen.classes - 1}) and "
        f"the ignore index is {seen.ignored}; {seen.hint(value, block.dtype)}"
    )
