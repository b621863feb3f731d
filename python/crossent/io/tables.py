"""Tables with one row for each example: a column of labels, and a column for each class (or one column of lists).

CSV by the csv module, Parquet by pyarrow.
"""

from __future__ import annotations

import abc
import csv
import fnmatch
import itertools
import os
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from crossent.interop import as_array
from crossent.io.blocks import rows_per_block
from crossent.io.source import Block, OptionError, Source, missing_package, open_regular

LABELS = ("label", "labels", "target", "targets", "y_true", "y", "class")
"""The names of a column of labels that are known without `--label`."""

# Each column of Parquet is read through a buffer of this size, beside the page that it is at.
_PARQUET_BUFFER = 1 << 16
_CELL_BYTES = 128  # a cell of CSV as a Python string, beside its number


class TableSource(Source, abc.ABC):
    """The rows of a table."""

    axis = 1

    def __init__(self, path: str, values: str, label: str | None, columns: str | None) -> None:
        self.name, self.paths, self.values = path, (path,), values
        self._label_option, self._columns_option = label, columns
        self._label: str | None = None
        self._names: list[str] = []  # of the classes, where each has a column

    def _choose(self, names: Sequence[str], *numeric: Sequence[str]) -> list[str]:
        """Find the column of labels, and return those of the classes: the first numeric ones or those asked for."""
        if self._label_option is not None:
            if self._label_option not in names:
                raise OptionError(
                    f"{self.name} has no column {self._label_option!r}; it has {_listed(names)}"
                )
            self._label = self._label_option
        else:
            self._label = next((name for name in names if name.lower() in LABELS), None)
        self.has_targets = self._label is not None
        if self._columns_option is None:
            kinds = [[name for name in kind if name != self._label] for kind in numeric]
            chosen = next((kind for kind in kinds if kind), [])
        else:
            patterns = self._columns_option.split(",")
            chosen = [
                name
                for name in names
                if name != self._label and any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
            ]
        if not chosen:
            raise OptionError(
                f"{self.name} has no columns of numbers for the classes; it has {_listed(names)}; name them with "
                "--columns, such as 'p_*'"
            )
        return chosen

    def _classes_of(self, labels: NDArray[Any] | list[Any], start: int) -> NDArray[np.int64]:
        """Turn labels into class numbers.

        Where all columns of classes have numbers for names, or labels are no numbers, they name columns, with what all
        these names begin with or without.
        """
        array = np.asarray(labels)
        numbers = array if array.dtype.kind in "iu" else None
        if numbers is None and array.dtype.kind in "UT":
            try:
                numbers = array.astype(np.int64)
            except ValueError:
                numbers = None
        short = _without_prefix(self._names)
        numbered = bool(short) and all(name.lstrip("-").isdecimal() for name in short)
        if numbers is not None and not numbered:
            return numbers.astype(np.int64)
        keys: dict[Any, int] = (
            {int(name): i for i, name in enumerate(short)}
            if numbers is not None
            else {name: i for names in (short, self._names) for i, name in enumerate(names)}
        )
        found = np.empty(len(array), np.int64)
        for row, value in enumerate((array if numbers is None else numbers).tolist()):
            place = keys.get(value, value if numbers is not None and value < 0 else None)
            if place is None:
                raise ValueError(
                    f"{self.name}: the label of row {start + row} is {value!r}, which no column of a class is "
                    f"named; they are {_listed(self._names)}; check --label and --columns"
                )
            found[row] = place
        return found


class CsvSource(TableSource):
    """A table in CSV: the first line names the columns; commas, semicolons or tabs stand between them."""

    format = "csv"
    dtype = np.dtype(np.float64)

    def __init__(self, path: str, values: str, label: str | None, columns: str | None) -> None:
        super().__init__(path, values, label, columns)
        file, _ = open_regular(path)
        file.close()
        with self._open() as text:
            reader, header = self._start(text)
            first = self._rows(reader, header, 1)
        if all(_is_number(name) for name in header):
            raise ValueError(
                f"{path}: the first line holds numbers, not the names of the columns; add a line such as "
                "label,p_0,p_1"
            )
        if len(set(header)) < len(header):
            raise ValueError(
                f"{path}: two columns have one name in the first line, {_listed(header)}; rename one"
            )
        numeric = [name for i, name in enumerate(header) if not first or _is_number(first[0][i])]
        self._names = self._choose(header, numeric)
        self._places = [header.index(name) for name in self._names]
        self._label_place = None if self._label is None else header.index(self._label)
        self.shape = (None, len(self._names))

    def blocks(self, memory: int, start: int = 0) -> Generator[Block, None, None]:
        """Give the rows in blocks; the first `start` are read too, and left out."""
        count = rows_per_block(memory, _CELL_BYTES * (len(self._names) + 1))
        with self._open() as text:
            reader, header = self._start(text)
            done = 0
            while rows := self._rows(reader, header, count, done):
                begin = max(start - done, 0)
                if begin < len(rows):
                    yield self._block(rows[begin:], done + begin)
                done += len(rows)
        self.shape = (done, len(self._names))

    def _block(self, rows: list[list[str]], start: int) -> Block:
        try:
            values = np.array([[row[i] for i in self._places] for row in rows], np.float64)
        except ValueError:
            place, name, cell = next(
                (start + at, name, row[i])
                for at, row in enumerate(rows)
                for name, i in zip(self._names, self._places, strict=True)
                if not _is_number(row[i])
            )
            raise ValueError(
                f"{self.name}: row {place} has {cell!r} in the column {name!r}, which is no number; the file may be "
                "damaged, or --columns names too many"
            ) from None
        target = None
        if self._label_place is not None:
            target = self._classes_of([row[self._label_place].strip() for row in rows], start)
        return Block(start, len(rows), (slice(start, start + len(rows)),), values, target)

    def _open(self) -> TextIO:
        return Path(self.name).open(newline="", encoding="utf-8-sig")

    def _start(self, text: TextIO) -> tuple[Any, list[str]]:
        """Find the separator, and read the names of the columns."""
        try:
            line = text.readline()
        except UnicodeDecodeError as error:
            raise self._not_text(error) from error
        if not line.strip():
            raise ValueError(f"{self.name} is empty; its first line should name the columns")
        separator = max(",;\t", key=line.count)
        (header,) = csv.reader([line], delimiter=separator)
        return csv.reader(text, delimiter=separator, strict=True), [name.strip() for name in header]

    def _rows(self, reader: Any, header: list[str], count: int, done: int = 0) -> list[list[str]]:
        try:
            rows = [row for row in itertools.islice(reader, count) if row]
        except UnicodeDecodeError as error:
            raise self._not_text(error) from error
        except csv.Error as error:
            raise ValueError(
                f"{self.name}: line {reader.line_num + 1} is damaged ({error}); write or copy the file again"
            ) from error
        for at, row in enumerate(rows):
            if len(row) != len(header):
                raise ValueError(
                    f"{self.name}: row {done + at} has {len(row)} cells, expected {len(header)} as in the first "
                    "line; the file is truncated there or damaged; write or copy it again"
                )
        return rows

    def _not_text(self, error: UnicodeDecodeError) -> ValueError:
        return ValueError(f"{self.name} is not text in UTF-8 ({error.reason}); save it as CSV in UTF-8")


class ParquetSource(TableSource):
    """A table in Parquet, with a column for each class, or one column of lists or of tensors."""

    format = "parquet"

    def __init__(self, path: str, values: str, label: str | None, columns: str | None) -> None:
        super().__init__(path, values, label, columns)
        with _parquet(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
            self.shape = (rows, 0)
            import pyarrow as pa

            lists = [field.name for field in schema if _is_list(pa, _storage(pa, field.type))]
            floats = [field.name for field in schema if pa.types.is_floating(field.type)]
            chosen = self._choose(schema.names, floats, lists)
            types = [_storage(pa, schema.field(name).type) for name in chosen]
            if len(chosen) == 1 and _is_list(pa, types[0]):
                (kind,) = types
                classes = (
                    kind.list_size
                    if pa.types.is_fixed_size_list(kind)
                    else self._first_length(file, chosen[0])
                )
                element = kind.value_type
            else:
                self._names = chosen
                classes, element = len(chosen), None
            self._columns = chosen
        elements = types if element is None else [element]
        for name, kind in zip(chosen, elements, strict=False):
            if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
                raise ValueError(
                    f"{path}: the column {name!r} holds {kind}; expected numbers for a class; choose others with "
                    "--columns"
                )
        dtypes = [np.dtype(kind.to_pandas_dtype()) for kind in elements]
        self.dtype = np.result_type(*dtypes, np.float16)
        self.shape = (rows, classes)

    def blocks(self, memory: int, start: int = 0) -> Generator[Block, None, None]:
        """Give the rows in blocks; groups of rows that lie before `start` are not read."""
        count = rows_per_block(memory // 2, 2 * self.classes * self.dtype.itemsize)
        wanted = self._columns if self._label is None else [*self._columns, self._label]
        with _parquet(self.name) as file:
            groups = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
            ends = np.cumsum([0, *groups])
            first = int(np.searchsorted(ends, start, side="right")) - 1
            done = int(ends[first])
            batches = file.iter_batches(
                batch_size=count, row_groups=range(first, len(groups)), columns=wanted, use_threads=False
            )
            while done < ends[-1]:
                batch = self._next(batches, done)
                begin, rows = max(start - done, 0), batch.num_rows
                if begin < rows:
                    yield self._block(batch.slice(begin), done + begin)
                done += rows

    def _next(self, batches: Iterator[Any], done: int) -> Any:
        try:
            return next(batches)
        except _broken() as error:
            raise ValueError(
                f"{self.name} is damaged: it cannot be read after row {done} of {self.shape[0]} "
                f"({_one_line(error) or 'it ends there'}); write or copy it again"
            ) from error

    def _block(self, batch: Any, start: int) -> Block:
        if self._names:
            columns = [self._numbers(batch.column(name), name, start) for name in self._names]
            values = np.empty((batch.num_rows, self.classes), self.dtype)
            for place, column in enumerate(columns):
                values[:, place] = column
        else:
            values = self._lists(batch.column(self._columns[0]), start)
        target = None
        if self._label is not None:
            target = self._labels(batch.column(self._label), start)
        return Block(start, batch.num_rows, (slice(start, start + batch.num_rows),), values, target)

    def _numbers(self, column: Any, name: str, start: int) -> NDArray[Any]:
        if column.null_count:
            row = start + column.is_null().to_pylist().index(True)
            raise ValueError(
                f"{self.name}: row {row} has no value in the column {name!r}; fill or drop such rows first"
            )
        return as_array(column, name)

    def _lists(self, column: Any, start: int) -> NDArray[Any]:
        name = self._columns[0]
        column = getattr(column, "storage", column)
        if column.null_count:
            self._numbers(column, name, start)
        lengths = column.value_lengths().to_numpy(zero_copy_only=False)
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
        return as_array(flat, name).reshape(len(lengths), self.classes)

    def _labels(self, column: Any, start: int) -> NDArray[np.int64]:
        assert self._label is not None
        if column.null_count:
            self._numbers(column, self._label, start)
        array = column.to_numpy(zero_copy_only=False)
        if array.dtype.kind not in "iuOU":
            raise ValueError(
                f"{self.name}: the column {self._label!r} holds {column.type}; expected class numbers or names "
                "of columns"
            )
        return self._classes_of(array if array.dtype.kind in "iu" else array.tolist(), start)

    def _first_length(self, file: Any, name: str) -> int:
        if file.metadata.num_rows == 0:
            return 0
        batch = self._next(file.iter_batches(batch_size=1, columns=[name]), 0)
        lengths: list[int | None] = batch.column(name).value_lengths().to_pylist()
        return lengths[0] or 0


def _parquet(path: str) -> Any:
    """Open a Parquet file, so that no more of it than a batch is in memory."""
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise missing_package(f"reading {path}", "pyarrow") from error
    file, size = open_regular(path)
    file.close()
    try:
        opened = pq.ParquetFile(path, pre_buffer=False, buffer_size=_PARQUET_BUFFER)
        assert opened.schema_arrow is not None  # it is read here, with its errors
    except _broken() as error:
        raise ValueError(
            f"{path} is truncated or not a Parquet file: its table of contents is at its end, and none is found "
            f"in the {size} bytes ({_one_line(error)}); write or copy it again"
        ) from error
    return opened


def _broken() -> tuple[type[Exception], ...]:
    """List the errors of pyarrow at damaged files."""
    import pyarrow as pa

    return (pa.ArrowException, OSError, ValueError, StopIteration)


def _storage(pa: Any, kind: Any) -> Any:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _is_list(pa: Any, kind: Any) -> bool:
    return bool(pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _without_prefix(names: Sequence[str]) -> list[str]:
    """Take off what all names begin with, up to a sign that ends a word: cat and dog for p_cat and p_dog."""
    prefix = os.path.commonprefix(list(names)) if len(names) > 1 else ""  # noqa: RUF071  characters are meant
    length = max((prefix.rfind(sign) + 1 for sign in "_.:- "), default=0)
    return [name[length:] for name in names]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:8]))
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown
