"""Class indices in a column of a table, for rows of logits that are in another file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from crossent._io.cells import NO_NUMBER, flaw, integer, is_missing, is_number
from crossent._io.labels import LabelError, Labels, listed, shortened
from crossent._io.names import LABELS, meant
from crossent._io.source import OptionError, Stored
from crossent.blocks import Index

# Those that take no more are in memory from the start; of others a part is read when it is requested.
_MOST_BYTES = 16 << 20

_INT64 = np.iinfo(np.int64)


class Indices(Labels):
    """Class indices in text: integers alone, as in arrays, since nothing here names the classes."""

    def __init__(self) -> None:
        super().__init__((), 0)

    def _class_of(self, label: str) -> int:
        number = integer(label)
        if number is None:
            raise LabelError(self._wrong(label))
        if not _INT64.min <= number <= _INT64.max:
            raise LabelError(f"{shortened(label)}, which is outside int64; expected class indices")
        return number

    def _wrong(self, label: str) -> str:
        if is_missing(label):
            return super()._wrong(label)
        shown = shortened(repr(label))
        if is_number(label):
            return (
                f"{shown}, which is no integer; expected class indices; if all of them are whole numbers, write them "
                "as integers"
            )
        what = flaw(label)
        if what != NO_NUMBER:
            return f"{shown}, {what}"
        return (
            f"{shown}, which is no class index; targets beside the logits are the numbers of classes, from 0 on; "
            "names of classes can be labels in a table that has a column for each class"
        )


class HasColumns(Protocol):
    """A table, as far as its targets go."""

    name: str
    format: str

    @property
    def names(self) -> list[str]:
        """The names of all columns."""

    def indices_type(self, column: str) -> np.dtype[Any]:
        """Return the dtype of the integers in a column; one that cannot hold class indices raises."""

    def indices(self, column: str, start: int = 0) -> Iterator[NDArray[Any]]:
        """Yield the integers in a column in order, all but the first `start`."""


class TableTargets(Stored):
    """The integers in one column of a table."""

    def __init__(self, table: HasColumns, column: str) -> None:
        """Read the column to its end, so that its length is known and each cell is checked."""
        name = table.name if len(table.names) == 1 else f"{table.name}:{column}"
        dtype = table.indices_type(column)
        self._table, self._column = table, column
        parts: list[NDArray[Any]] = []
        rows, few = 0, True
        for part in table.indices(column):
            rows += len(part)
            few = few and rows * dtype.itemsize <= _MOST_BYTES
            parts.append(part)
            if not few:
                parts.clear()
        super().__init__(name, table.name, table.format, (rows,), dtype, fortran=False)
        self._all = np.concatenate([np.empty(0, dtype), *parts]) if few else None
        self._parts: Iterator[NDArray[Any]] | None = None
        self._part, self._at = np.empty(0, dtype), 0
        """What is left of the part that was read last, and the number of its first row."""

    def blocks(
        self, axis: int | None, block_bytes: int, start: int = 0, *, memory: int = 0
    ) -> Iterator[tuple[Index, NDArray[Any]]]:
        """Yield the integers in blocks."""
        del axis, memory
        step = max(block_bytes // self.dtype.itemsize, 1)
        for at in range(start, self.shape[0], step):
            index = (slice(at, min(at + step, self.shape[0])),)
            yield index, self[index]

    def __getitem__(self, index: Index, /) -> NDArray[Any]:
        """Return a part: those after the last one are read on, for those before it the table is read again."""
        if self._all is not None:
            return self._all[index]
        begin, end, _ = (index[0] if index else slice(None)).indices(self.shape[0])
        if begin < self._at:
            self.release()
        if self._parts is None:
            self._parts, self._at = self._table.indices(self._column, begin), begin
        found = np.empty(max(end - begin, 0), self.dtype)
        at = begin
        while at < end:
            more = self._part[at - self._at :][: end - at]
            found[at - begin :][: len(more)] = more
            at += len(more)
            if at < end:
                self._at += len(self._part)
                self._part = self._next(self._parts)
        self._part, self._at = self._part[at - self._at :], at
        return found

    def _next(self, parts: Iterator[NDArray[Any]]) -> NDArray[Any]:
        part = next(parts, None)
        if part is None:
            raise ValueError(f"{self.name} was changed while it was read; leave it as it is until the end")
        return part

    def release(self) -> None:
        """Begin anew at the next part."""
        self._parts = None
        self._part, self._at = self._part[:0], 0


def target_column(table: HasColumns, column: str | None) -> str:
    """Find the column of the class indices: the one named, the only one, or the only one with a usual name."""
    names = table.names
    if column is not None:
        if column not in names:
            raise OptionError(
                f"{table.name} has no column {column!r}; it has {listed(names)}{meant(column, names)}"
            )
        return column
    found = [name for name in names if name.lower() in LABELS] if len(names) > 1 else names
    if len(found) == 1:
        return found[0]
    usual = (
        f"{len(found)} of them may hold the targets"
        if found
        else "none is named as targets usually are, such as label"
    )
    raise OptionError(
        f"{table.name} has the columns {listed(names)}, and {usual}; name the right one, as in "
        f"{table.name}:{(found or names)[0]}"
    )
