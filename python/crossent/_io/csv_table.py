"""Tables in CSV: the first line names the columns; commas, semicolons or tabs stand between them."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, BinaryIO, TextIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crossent._io.cells import Kind, first_number, flaw, is_number, kind_of
from crossent._io.columns import Column
from crossent._io.csv_arrow import (
    COLUMN_BYTES,
    LEAST_BLOCK,
    LEAST_BYTES,
    MOST_BLOCK,
    NotPlainError,
    read_batches,
)
from crossent._io.kinds import ReadKind, is_text, not_of_kind, tells_kind
from crossent._io.labels import LabelError, Labels, shortened
from crossent._io.source import identity, open_regular, start_of
from crossent._io.table import SAMPLE_CELLS, SAMPLE_ROWS, TableFormat, TableSource
from crossent._io.table_targets import Indices
from crossent.blocks import MEMORY, Block, rows_per_block

_CELL_BYTES = 128  # a cell as a Python string, beside its number
_LABEL_BYTES = 4 << 20  # of rows at a time, where the labels alone are read

_LONGEST = csv.field_size_limit()

_Part: TypeAlias = tuple[NDArray[Any] | None, ...]
"""What is read of some rows: arrays with an element or a row for each."""


class CsvSource(TableSource):
    """A table in CSV."""

    format = "csv"
    dtype = np.dtype(np.float64)
    certain_types = False

    def __init__(self, path: str, values: str) -> None:
        super().__init__(path, values)
        file, self._bytes = open_regular(path)
        self._identity = identity(file)
        with _text_of(file) as text:
            reader, self._header = self._start(text)
            self._header_lines: int = reader.lines.line_num
            self._check_header(self._header)
            count = min(SAMPLE_ROWS, max(SAMPLE_CELLS // len(self._header), 1))
            self._sample = self._rows(reader, count)
        self.has_rows = bool(self._sample)
        self._places_of = {name: place for place, name in enumerate(self._header)}
        cells = zip(*self._sample, strict=True) if self._sample else [()] * len(self._header)
        self.header = [self._column(name, each) for name, each in zip(self._header, cells, strict=True)]
        self.shape = (None, 0)

    def _column(self, name: str, cells: tuple[str, ...]) -> Column:
        """Return what a column holds, by the first rows; where there are none, it may hold numbers."""
        if not cells:
            return Column(name, Kind.REAL)
        kind, wrong = kind_of(cells)
        return Column(name, kind, None if wrong is None else self._bad_cell(cells.index(wrong), wrong, name))

    def _check_header(self, header: list[str]) -> None:
        if header[0].startswith("#") and header[0] != "#":
            raise ValueError(
                f"{self.name}: the first line begins with #, as a comment; CSV has none: remove the line, or the "
                "# alone if the line names the columns (numpy.savetxt writes no # with comments='')"
            )
        if len(header) <= 2 and header[0].lower() == "sep=":
            raise ValueError(
                f"{self.name}: the first line declares the separator to a spreadsheet, and names no columns; remove it"
            )
        if len(header) == 1 and is_number(header[0]):
            raise ValueError(
                f"{self.name}: the first line holds the number {shortened(header[0])}, not the name of the column; add "
                "a line such as label before it; if pandas wrote it as a name, write label in its place"
            )
        if all(is_number(name) for name in header) and not _count_up(header):
            raise ValueError(
                f"{self.name}: the first line holds numbers, not the names of the columns; add a line such as "
                "label,p_0,p_1"
            )
        if len(set(header)) < len(header):
            twice = next(name for name, times in Counter(header).items() if times > 1)
            raise ValueError(
                f"{self.name}: two columns have one name in the first line, {twice!r}; rename or remove one"
            )

    def first_labels(self, label: str) -> list[str]:
        """Return the labels of the first rows."""
        place = self._places_of[label]
        return [row[place] for row in self._sample]

    def first_numbers(self, names: Sequence[str]) -> NDArray[np.float64]:
        """Return the numbers of some columns in the first rows."""
        places = [self._places_of[name] for name in names]
        cells = [[row[i] if is_number(row[i]) else "nan" for i in places] for row in self._sample]
        return np.array(cells, np.float64).reshape(len(cells), len(places))

    def all_labels(self, label: str) -> Iterator[list[str]]:
        """Read the file for its labels alone."""
        place = self._places_of[label]
        count = rows_per_block(_LABEL_BYTES, _CELL_BYTES * len(self._header))
        walk = self._walk(
            [],
            [place],
            lambda batch, _: (np.array(batch.column(0).to_pylist(), object),),
            lambda rows, _: (np.array([row[place] for row in rows], object),),
            count=count,
        )
        for _, (texts,) in walk:
            assert texts is not None
            yield texts.tolist()

    def indices_type(self, column: str) -> np.dtype[Any]:
        """Return int64; whether all cells are integers is seen when they are read."""
        del column
        return np.dtype(np.int64)

    def indices(self, column: str, start: int = 0) -> Iterator[NDArray[Any]]:
        """Read one column, whose cells are integers."""
        place, labels = self._places_of[column], Indices()
        rows = self._walk(
            [],
            [place],
            lambda batch, at: (_codes(labels, batch.column(0), at),),
            lambda rows, at: (self._targets(labels, [row[place] for row in rows], at),),
            count=rows_per_block(_LABEL_BYTES, _CELL_BYTES * len(self._header)),
            start=start,
        )
        yield from (codes for _, (codes,) in rows if codes is not None)

    def _take(self) -> int:
        places = [self._places_of[name] for name in self.columns]
        first, last = places[0], places[-1] + 1
        together = places == list(range(first, last))
        self._places = places
        self._part = slice(first, last) if together else None
        self._label_place = None if self.label is None else self._places_of[self.label]
        self._watched_places = [(name, self._places_of[name]) for name in self._watched]
        return len(places)

    def row_blocks(self, memory: int | None = None, start: int = 0) -> Generator[Block, None, None]:
        """Yield the rows in blocks; the first `start` are read too, and left out."""
        texts = [place for _, place in self._watched_places]
        if self._label_place is not None:
            texts.append(self._label_place)
        walk = self._walk(
            self._places,
            texts,
            self._block_of_batch,
            self._block,
            count=rows_per_block(memory, _CELL_BYTES * (len(self._header) + 1)),
            start=start,
            memory=memory,
        )
        for at, (values, target) in walk:
            assert values is not None
            yield Block((slice(at, at + len(values)),), values, target)
        self.shape = (self._walked, self.classes)

    def _walk(
        self,
        numbers: Sequence[int],
        texts: Sequence[int],
        of_batch: Callable[[Any, int], _Part],
        of_rows: Callable[[list[list[str]], int], _Part],
        *,
        count: int,
        start: int = 0,
        memory: int | None = None,
    ) -> Iterator[tuple[int, _Part]]:
        """Yield what is made of all rows but the first `start`, each time with the number of the first row.

        The columns of `numbers` and `texts` are read by pyarrow, as far as it reads what the csv module does; from
        there on by that, which passes over the rows before. Either way there are `count` rows at a time.
        """
        file, _ = open_regular(self.name, self._identity)
        with file:
            given = 0
            try:
                batches = self._batches(file, numbers, texts, MEMORY if memory is None else memory)
                for at, part in _in_blocks(self._parts(batches, of_batch, start), count):
                    yield at, part
                    given = at + _length(part)
                return
            except NotPlainError:
                file.seek(0)
            with _text_of(file) as text:
                reader, _ = self._start(text)
                at = 0
                while rows := self._rows(reader, count, at):
                    begin = max(start - at, 0)
                    if begin < len(rows) and at >= given:
                        yield at + begin, of_rows(rows[begin:], at + begin)
                    at += len(rows)
        if at < given:
            raise ValueError(f"{self.name} was changed while it was read; leave it as it is until the end")
        self._walked = at

    def _parts(
        self, batches: Iterator[Any], of_batch: Callable[[Any, int], _Part], start: int
    ) -> Iterator[tuple[int, _Part]]:
        """Yield what is made of the batches, without the first `start` rows."""
        done = 0
        for batch in batches:
            begin = max(start - done, 0)
            if begin < batch.num_rows:
                yield done + begin, of_batch(batch.slice(begin), done + begin)
            done += batch.num_rows
        self._walked = done

    def _batches(
        self, file: BinaryIO, numbers: Sequence[int], texts: Sequence[int], memory: int
    ) -> Iterator[Any]:
        block_bytes = min(max(memory // 16, LEAST_BLOCK), MOST_BLOCK)
        if self._bytes < LEAST_BYTES or block_bytes < COLUMN_BYTES * len(self._header):
            raise NotPlainError
        yield from read_batches(
            file,
            header_lines=self._header_lines,
            separator=self._separator,
            width=len(self._header),
            numbers=numbers,
            texts=texts,
            block_bytes=block_bytes,
            longest_cell=_LONGEST,
        )

    def _block_of_batch(self, batch: Any, start: int) -> _Part:
        """Return the rows of a batch: of the classes, the columns that hold no numbers, and perhaps the labels."""
        values = np.empty((batch.num_rows, self.classes))
        for place in range(self.classes):
            values[:, place] = np.from_dlpack(batch.column(place))  # to_numpy() would import pandas
        for place in range(self.classes, self.classes + len(self._watched_places)):
            if first_number(batch.column(place).to_pylist()) is not None:
                raise NotPlainError
        target = None
        if self._label_place is not None:
            target = _codes(self._labels, batch.column(batch.num_columns - 1), start)
        return values, target

    def _block(self, rows: list[list[str]], start: int) -> _Part:
        values = self._numbers(rows, start)
        for name, place in self._watched_places:
            self._check_text([row[place] for row in rows], name, start)
        target = None
        if self._label_place is not None:
            place = self._label_place
            target = self._targets(self._labels, [row[place] for row in rows], start)
        return values, target

    def _targets(self, labels: Labels, texts: list[str], start: int) -> NDArray[np.int64]:
        try:
            return labels.of_texts(texts, start)
        except LabelError as error:
            raise ValueError(f"{self.name}: {error}") from None

    def _numbers(self, rows: list[list[str]], start: int) -> NDArray[np.float64]:
        part = self._part
        cells = [row[part] for row in rows] if part else [[row[i] for i in self._places] for row in rows]
        # Python takes 1_0 and the digits of all scripts for numbers, and so does NumPy.
        text = "".join(map("".join, cells))
        if text.isascii() and "_" not in text:
            try:
                return np.array(cells, np.float64)
            except ValueError:
                pass
        for at, row in enumerate(cells):
            for name, cell in zip(self.columns, row, strict=True):
                if not is_number(cell):
                    bad = sum(not all(map(is_number, each)) for each in cells[at:])
                    more = f" ({bad} of {len(cells)} checked rows have such cells)" if bad > 1 else ""
                    raise ValueError(f"{self.name}: {self._bad_cell(start + at, cell, name)}{more}")
        return np.array(cells, np.float64)

    def _check_text(self, cells: list[str], name: str, start: int) -> None:
        """Raise for a number in a column that was left out because it holds none."""
        at = first_number(cells)
        if at is not None:
            rest = (
                ",".join(self.columns)
                if len(self.columns) < 5
                else f"{self.columns[0]},{self.columns[1]},..."
            )
            raise ValueError(
                f"{self.name}: row {start + at} has the number {cells[at].strip()} in the column {name!r}, whose cells "
                f"before are none; if it is no class, name those that are with --columns ({rest})"
            )

    @staticmethod
    def _bad_cell(row: int, cell: str, name: str) -> str:
        if not cell.strip():
            return f"row {row} has no value in the column {name!r}; fill it, or drop such rows"
        return f"row {row} has {cell!r} in the column {name!r}, {flaw(cell)}"

    def _start(self, text: TextIO) -> tuple[_Reader, list[str]]:
        """Find the separator, and read the names of the columns."""
        try:
            line = text.readline()
        except UnicodeDecodeError as error:
            raise self._not_text(error) from error
        if not line.strip():
            if line and text.read(_LONGEST).strip():
                raise ValueError(
                    f"{self.name} begins with an empty line; remove it, so that the first names the columns"
                )
            raise ValueError(f"{self.name} is empty; its first line should name the columns")
        # Names hold commas more often than tabs.
        signs = "\t,;" if self.name.lower().endswith(".tsv") else ",;\t"
        bare = re.sub('"[^"]*(?:"|$)', "", line)
        self._separator = "\t" if signs[0] == "\t" and "\t" in bare else max(signs, key=bare.count)
        text.seek(0)
        reader = _Reader(csv.reader(text, delimiter=self._separator, strict=True))
        (header,) = self._read(reader, 1)
        if len(header) == 1:
            reader.rows = _with_empty_lines(reader.lines)
        return reader, [name.strip() for name in header]

    def _rows(self, reader: _Reader, count: int, done: int = 0) -> list[list[str]]:
        rows = self._read(reader, count)
        expected = len(self._header)
        if set(map(len, rows)) <= {expected}:
            return rows
        at = next(at for at, row in enumerate(rows) if len(row) != expected)
        raise ValueError(
            f"{self.name}: row {done + at} has {len(rows[at])} cells, expected {expected} as in the first line; "
            f"{self._why_other_length(rows[at], done + at)}"
        )

    def _why_other_length(self, row: list[str], place: int) -> str:
        if row[0].lstrip().startswith("#"):
            return f"it begins with #, as a comment ({shortened(row[0])!r}); CSV has no comments, so remove such lines"
        expected = len(self._header)
        if place == 0 and len(row) == expected + 1:
            return (
                "the rows begin or end with one more than the first line names; write the names of all columns (R's "
                "write.csv with row.names = FALSE), or no separator at the end of a row"
            )
        if len(row) > expected and self._separator == ",":
            return "a comma inside of a cell, such as a decimal comma, needs quotes around the cell"
        if len(row) > expected:
            return "a separator inside of a cell needs quotes around the cell"
        return "the file is truncated there or damaged; write or copy it again"

    def _read(self, reader: _Reader, count: int) -> list[list[str]]:
        """Read some rows."""
        try:
            return list(itertools.islice(reader.rows, count))
        except UnicodeDecodeError as error:
            raise self._not_text(error) from error
        except csv.Error as error:
            if "field limit" in str(error):
                raise ValueError(
                    f"{self.name}: line {reader.lines.line_num} has a cell of more than {_LONGEST:,} characters, which "
                    'is neither a name nor a number; a quote (") before it may have no end'
                ) from error
            raise ValueError(
                f"{self.name}: line {reader.lines.line_num} is damaged ({error}); write or copy the file again"
            ) from error

    def _not_text(self, error: UnicodeDecodeError) -> ValueError:
        return ValueError(f"{self.name} is not text in UTF-8 ({error.reason}); save it as CSV in UTF-8")


class _Reader:
    """The lines of a file, by the csv module, and those of them that are rows: all that are not empty."""

    def __init__(self, lines: Any) -> None:
        self.lines = lines
        self.rows: Iterator[list[str]] = filter(None, lines)


def _with_empty_lines(lines: Iterator[list[str]]) -> Iterator[list[str]]:
    """Take empty lines of a file with one column for empty cells, except at its end."""
    empty = 0
    for line in lines:
        if not line:
            empty += 1
            continue
        for _ in range(empty):
            yield [""]
        empty = 0
        yield line


class Csv(TableFormat):
    """Tables in text."""

    name = "csv"
    kind = ReadKind(
        "a CSV file",
        "give it a name that ends with .csv",
        suffixes=(".csv", ".tsv"),
        write="write it as text in UTF-8",
    )

    def check(self, path: str) -> None:
        """Raise where a file is of a kind that is no text, or is text of another kind."""
        start = start_of(path)
        # The first words of a table may be those that other files begin with.
        is_other = not is_text(start) or start.startswith((b"<", b"version https://git-lfs"))
        if is_other and tells_kind(start):
            raise ValueError(not_of_kind(path, self.kind, start))

    def table(self, path: str, values: str) -> CsvSource:
        """Read the first line, and some rows."""
        return CsvSource(path, values)


def _text_of(file: BinaryIO) -> TextIO:
    return io.TextIOWrapper(file, newline="", encoding="utf-8-sig")


def _codes(labels: Labels, column: Any, start: int) -> NDArray[np.int64]:
    """Return the classes of a column of pyarrow's; where one has none, the csv module gets to it and names its row."""
    encoded = column.dictionary_encode()
    try:
        codes = labels.of_texts(encoded.dictionary.to_pylist(), start)
    except LabelError:
        raise NotPlainError from None
    found: NDArray[np.int64] = codes[np.from_dlpack(encoded.indices)]
    return found


def _in_blocks(parts: Iterator[tuple[int, _Part]], count: int) -> Iterator[tuple[int, _Part]]:
    """Cut parts that follow each other anew, wherever the number of a row is a multiple of `count`."""
    first, held = 0, None
    for at, part in parts:
        end = at + _length(part)
        for begin in (at, *range(at - at % count + count, end, count)):
            stop = min(begin - begin % count + count, end)
            block = _cut(part, slice(begin - at, stop - at))
            if held is None:
                first, held = begin, block
            else:
                held = tuple(map(_joined, held, block))
            if stop % count == 0:
                yield first, held
                held = None
        if held is not None:
            held = tuple(map(_copy, held))  # so that it does not keep the whole part in memory
    if held is not None:
        yield first, held


def _length(part: _Part) -> int:
    return next(len(each) for each in part if each is not None)


def _cut(part: _Part, where: slice) -> _Part:
    return tuple(None if each is None else each[where] for each in part)


def _joined(one: NDArray[Any] | None, other: NDArray[Any] | None) -> NDArray[Any] | None:
    return None if one is None or other is None else np.concatenate([one, other])


def _copy(one: NDArray[Any] | None) -> NDArray[Any] | None:
    return None if one is None else one.copy()


def _count_up(header: list[str]) -> bool:
    """Return whether names are those that pandas gives: 0, 1, 2; or, of other programs, 1, 2, 3."""
    texts = set(header)
    return len(header) > 1 and any(texts == {str(i + first) for i in range(len(header))} for first in (0, 1))
