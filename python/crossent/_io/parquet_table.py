"""Tables in Parquet, with a column for each class, or one column of lists or of tensors; by pyarrow."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossent._interop import as_array
from crossent._io.cells import Kind, is_missing, is_number
from crossent._io.columns import Column
from crossent._io.kinds import ReadKind, not_of_kind, tells_kind
from crossent._io.labels import LabelError
from crossent._io.source import (
    FileIdentity,
    OptionError,
    identity,
    missing_package,
    one_line,
    open_regular,
    start_of,
)
from crossent._io.table import SAMPLE_CELLS, SAMPLE_ROWS, TableFormat, TableSource
from crossent.blocks import MEMORY, Block, rows_per_block

# Each column is read through a buffer of this size, beside the page that it is at.
_BUFFER = 1 << 16
# How many rows of a single column are read at a time.
_ROWS = 1 << 16


class ParquetSource(TableSource):
    """A table in Parquet."""

    format = "parquet"
    certain_types = True

    def __init__(self, path: str, values: str) -> None:
        super().__init__(path, values)
        known, _ = open_regular(path)
        with known:
            self._identity = identity(known)
        with self._open() as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
            names = schema.names
            twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
            if twice is not None:
                raise ValueError(f"{path}: two columns have one name, {twice!r}; rename or remove one")
            self._types = {field.name: _plain_type(field.type) for field in schema}
            self.has_rows, self.shape = rows > 0, (rows, 0)
            self.header = [self._column(file, field.name, str(field.type)) for field in schema]

    def _open(self) -> Any:
        """Open the file."""
        return _parquet(self.name, self._identity)

    def _column(self, file: Any, name: str, shown: str) -> Column:
        """Return what a column holds: by its type, and where that is text, by the first rows."""
        kind = _kind(self._types[name])
        if _is_string(self._types[name]):
            cells = [cell for cell in self._first_texts(file, name) if not is_missing(cell)]
            if cells and all(map(is_number, cells)):
                flaw = f"the column {name!r} holds {shown} such as {cells[0]!r}; write its numbers as float64"
                return Column(name, Kind.MIXED, flaw, shown)
        return Column(name, kind, None, shown)

    def first_labels(self, label: str) -> list[str]:
        """Return the labels of the first rows, where they are text."""
        if not _is_string(self._types[label]):
            return []
        with self._open() as file:
            return self._first_texts(file, label)

    def first_numbers(self, names: Sequence[str]) -> NDArray[np.float64]:
        """Return the numbers of some columns in the first rows."""
        count = min(SAMPLE_ROWS, max(SAMPLE_CELLS // len(names), 1), self.shape[0] or 0)
        numbers = np.full((count, len(names)), np.nan)
        with self._open() as file:
            batch = self._next(file.iter_batches(batch_size=count, columns=list(names), use_threads=False), 0)
        for place, name in enumerate(names):
            if _kind(self._types[name]).is_numeric:
                column = as_array(_numeric(batch.column(name)).cast("float64").fill_null(np.nan), name)
                numbers[: len(column), place] = column
        return numbers

    def all_labels(self, label: str) -> Iterator[list[str]]:
        """Read the column of labels."""
        if not _is_string(self._types[label]):
            raise ValueError(
                f"{self.name}: the column {label!r} holds {self._types[label]}, and text in the files beside it"
            )
        with self._open() as file:
            for _, batch in self._batches(file, [label], _ROWS):
                yield _texts(batch.column(label))

    def indices_type(self, column: str) -> np.dtype[Any]:
        """Return the dtype of a column of integers."""
        kind = self._types[column]
        if not _types().is_integer(kind):
            fix = "names of classes can be labels in a table that has a column for each class"
            if _kind(kind).is_numeric:
                fix = "if all of them are whole numbers, save them as int64"
            raise ValueError(
                f"{self.name}: the column {column!r} holds {kind}; expected integer class indices; {fix}"
            )
        return _dtype(kind)

    def indices(self, column: str, start: int = 0) -> Iterator[NDArray[Any]]:
        """Read one column of integers."""
        with self._open() as file:
            for at, batch in self._batches(file, [column], _ROWS, start):
                cells = _numeric(batch.column(column))
                self._check_values(cells, column, at, "drop such rows, or write the ignore index there")
                yield as_array(cells, column)

    def _batches(
        self, file: Any, names: Sequence[str], count: int, start: int = 0
    ) -> Iterator[tuple[int, Any]]:
        """Yield some columns, `count` rows at a time, each with the number of the first row.

        Groups of rows that lie before `start` are not read.
        """
        groups = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
        ends = np.cumsum([0, *groups])
        first = int(np.searchsorted(ends, start, side="right")) - 1
        done = int(ends[first])
        batches = file.iter_batches(
            batch_size=count, row_groups=range(first, len(groups)), columns=list(names), use_threads=False
        )
        while done < ends[-1]:
            batch = self._next(batches, done)
            begin = max(start - done, 0)
            if begin < batch.num_rows:
                yield done + begin, batch.slice(begin)
            done += batch.num_rows

    def _first_texts(self, file: Any, name: str) -> list[str]:
        if file.metadata.num_rows == 0:
            return []
        batch = self._next(file.iter_batches(batch_size=SAMPLE_ROWS, columns=[name], use_threads=False), 0)
        return _texts(batch.column(name))

    @property
    def _is_list(self) -> bool:
        return len(self.columns) == 1 and _kind(self._types[self.columns[0]]) is Kind.LIST

    def _take(self) -> int:
        elements = [self._types[name] for name in self.columns]
        classes = len(self.columns)
        if self._is_list:
            (kind,) = elements
            classes = (
                kind.list_size if _types().is_fixed_size_list(kind) else self._first_length(self.columns[0])
            )
            elements = [_plain_type(kind.value_type)]
        for name, kind in zip(self.columns, elements, strict=True):
            if not _kind(kind).is_numeric:
                raise ValueError(
                    f"{self.name}: the column {name!r} holds {kind}; expected numbers for a class; choose others with "
                    "--columns"
                )
        self.dtype = np.result_type(*map(_dtype, elements), np.float16)
        return classes

    def _first_length(self, name: str) -> int:
        """Return the length of the first list, which is that of all."""
        if self.shape[0] == 0:
            raise ValueError(
                f"{self.name} has no rows, so its column of lists {name!r} has no classes; check how it was written"
            )
        with self._open() as file:
            batch = self._next(file.iter_batches(batch_size=1, columns=[name]), 0)
        lengths: list[int | None] = _storage(batch.column(name)).value_lengths().to_pylist()
        return lengths[0] or 0

    def row_blocks(self, memory: int | None = None, start: int = 0) -> Generator[Block, None, None]:
        """Yield the rows in blocks; groups of rows that lie before `start` are not read."""
        memory = MEMORY if memory is None else memory
        count = rows_per_block(memory // 2, 2 * self.classes * self.dtype.itemsize)
        wanted = list(self.columns) if self.label is None else [*self.columns, self.label]
        with self._open() as file:
            for at, batch in self._batches(file, wanted, count, start):
                yield self._block(batch, at)

    def _next(self, batches: Iterator[Any], done: int) -> Any:
        try:
            return next(batches)
        except OptionError:
            raise
        except _broken() as error:
            raise ValueError(
                f"{self.name} is damaged: it cannot be read after row {done} of {self.shape[0]} "
                f"({'it ends there' if isinstance(error, StopIteration) else one_line(error)}); write or copy it again"
            ) from error

    def _block(self, batch: Any, start: int) -> Block:
        if self._is_list:
            values = self._lists(batch.column(self.columns[0]), start)
        else:
            values = np.empty((batch.num_rows, self.classes), self.dtype)
            for place, name in enumerate(self.columns):
                values[:, place] = self._numbers(batch.column(name), name, start)
        target = None
        if self.label is not None:
            target = self._targets(batch.column(self.label), self.label, start)
        return Block((slice(start, start + batch.num_rows),), values, target)

    def _numbers(self, column: Any, name: str, start: int) -> NDArray[Any]:
        self._check_values(column, name, start, "fill it, or drop such rows")
        return as_array(_numeric(column), name)

    def _check_values(self, column: Any, name: str, start: int, fix: str) -> None:
        """Raise where a row has no value."""
        missing = column.null_count
        if missing:
            row = start + column.is_null().to_pylist().index(True)
            more = f" ({missing} of {len(column)} checked rows have none)" if missing > 1 else ""
            raise ValueError(f"{self.name}: row {row} has no value in the column {name!r}{more}; {fix}")

    def _lists(self, column: Any, start: int) -> NDArray[Any]:
        name = self.columns[0]
        column = _storage(column)
        self._check_values(column, name, start, "fill it, or drop such rows")
        lengths = as_array(column.value_lengths(), name)
        wrong = np.flatnonzero(lengths != self.classes)
        if wrong.size:
            raise ValueError(
                f"{self.name}: row {start + int(wrong[0])} has a list of {int(lengths[wrong[0]])} in the column "
                f"{name!r}, expected {self.classes} as in row 0"
            )
        flat = column.flatten()
        if flat.null_count:
            row = start + flat.is_null().to_pylist().index(True) // self.classes
            raise ValueError(f"{self.name}: row {row} has a list with a missing value in the column {name!r}")
        values: NDArray[Any] = as_array(_numeric(flat), name)
        return values.astype(self.dtype, copy=False).reshape(len(lengths), self.classes)

    def _targets(self, column: Any, name: str, start: int) -> NDArray[np.int64]:
        """Return the classes of labels: integers, whole numbers of another type, or text."""
        self._check_values(column, name, start, "drop such rows, or write the ignore index there")
        types, kind = _types(), self._types[name]
        try:
            if types.is_integer(kind):
                return self._labels.of_numbers(as_array(_numeric(column), name), start)
            if types.is_floating(kind):
                return self._labels.of_numbers(self._whole(column, name, start), start)
            if types.is_decimal(kind) or types.is_boolean(kind) or _is_string(kind):
                return self._labels.of_texts(_texts(column), start)
        except LabelError as error:
            raise ValueError(f"{self.name}: {error}") from None
        raise ValueError(
            f"{self.name}: the column {name!r} holds {column.type}; expected class indices or names of columns"
        )

    def _whole(self, column: Any, name: str, start: int) -> NDArray[np.int64]:
        """Turn whole numbers of a floating type into integers; pandas makes them of integers with gaps."""
        numbers = as_array(_numeric(column), name).astype(np.float64)
        wrong = np.flatnonzero(~((np.rint(numbers) == numbers) & (np.abs(numbers) < 2.0**63)))
        if wrong.size:
            at = int(wrong[0])
            value = float(numbers[at])
            fix = "drop the row, or write the ignore index there" if np.isnan(value) else "check --label"
            raise ValueError(
                f"{self.name}: the column {name!r} holds {column.type}; expected class indices or names of columns, "
                f"and the label of row {start + at} is {value!r}; {fix}"
            )
        return numbers.astype(np.int64)


class Parquet(TableFormat):
    """Tables of Apache Parquet."""

    name = "parquet"
    kind = ReadKind(
        "a Parquet file",
        "give it a name that ends with .parquet",
        (b"PAR1",),
        (".parquet", ".pq"),
        write="write it with pyarrow or pandas",
    )

    def check(self, path: str) -> None:
        """Raise where a file begins as one of another kind."""
        start = start_of(path)
        if not start.startswith(self.kind.starts) and tells_kind(start):
            raise ValueError(not_of_kind(path, self.kind, start))

    def table(self, path: str, values: str) -> ParquetSource:
        """Read the table of contents."""
        return ParquetSource(path, values)


def _parquet(path: str, known: FileIdentity) -> Any:
    """Open a file, so that no more of it than a batch is in memory; where it is `known`, no other of its name."""
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise missing_package(f"reading {path}", "pyarrow") from error
    file, size = open_regular(path, known)
    file.close()
    try:
        opened = pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER)
        assert opened.schema_arrow.names is not None  # they are read here, with their errors
    except _broken() as error:
        raise ValueError(
            f"{path} is truncated or not a Parquet file: its table of contents is at its end, and none is found "
            f"in the {size} bytes ({one_line(error)}); write or copy it again"
        ) from error
    return opened


def _broken() -> tuple[type[Exception], ...]:
    """List the errors of pyarrow at damaged files."""
    import pyarrow as pa

    return (pa.ArrowException, OSError, ValueError, StopIteration)


def _types() -> Any:
    import pyarrow as pa

    return pa.types


def _plain_type(kind: Any) -> Any:
    """Return the type of the values that a column holds, whatever they are wrapped in."""
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType):
        return _plain_type(kind.storage_type)
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _kind(kind: Any) -> Kind:
    types = _types()
    if types.is_floating(kind):
        return Kind.REAL
    if types.is_integer(kind):
        return Kind.INTEGER
    if types.is_decimal(kind):
        return Kind.DECIMAL
    if types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind):
        return Kind.LIST if _kind(_plain_type(kind.value_type)) is not Kind.TEXT else Kind.TEXT
    return Kind.EMPTY if types.is_null(kind) else Kind.TEXT


def _is_string(kind: Any) -> bool:
    types = _types()
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _dtype(kind: Any) -> np.dtype[Any]:
    """Return the dtype in which numbers of a type are kept."""
    if _types().is_decimal(kind):
        return np.dtype(np.float64)
    # `to_pandas_dtype` imports pandas where pyarrow is older than 25.
    name = str(kind)
    return np.dtype({"halffloat": "float16", "float": "float32", "double": "float64"}.get(name, name))


def _storage(column: Any) -> Any:
    return getattr(column, "storage", column)


def _numeric(column: Any) -> Any:
    """Take numbers out of what they are wrapped in, and turn decimal ones into float64."""
    column = _storage(column)
    if _types().is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast("float64") if _types().is_decimal(column.type) else column


def _texts(column: Any) -> list[str]:
    """Return the values of a column as text; nothing for a missing one."""
    return ["" if value is None else str(value) for value in column.to_pylist()]
