"""Tables in CSV: the first line names the columns; commas, semicolons or tabs stand between them."""

from __future__ import annotations

import csv
import itertools
import re
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from crossent._io.cells import Kind, first_number, flaw, is_number, kind_of
from crossent._io.columns import Column
from crossent._io.kinds import ReadKind, is_text, not_of_kind, tells_kind
from crossent._io.labels import LabelError
from crossent._io.source import open_regular, start_of
from crossent._io.table import SAMPLE_CELLS, SAMPLE_ROWS, TableFormat, TableSource
from crossent.blocks import Block, rows_per_block

_CELL_BYTES = 128  # a cell as a Python string, beside its number
_LABEL_BYTES = 4 << 20  # of rows at a time, where the labels alone are read

_LONGEST = csv.field_size_limit()


class CsvSource(TableSource):
    """A table in CSV."""

    format = "csv"
    dtype = np.dtype(np.float64)
    certain_types = False

    def __init__(self, path: str, values: str) -> None:
        super().__init__(path, values)
        file, _ = open_regular(path)
        file.close()
        with self._open() as text:
            reader, self._header = self._start(text)
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
        with self._open() as text:
            reader, _ = self._start(text)
            done = 0
            while rows := self._rows(reader, count, done):
                yield [row[place] for row in rows]
                done += len(rows)

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
        count = rows_per_block(memory, _CELL_BYTES * (len(self._header) + 1))
        with self._open() as text:
            reader, _ = self._start(text)
            done = 0
            while rows := self._rows(reader, count, done):
                begin = max(start - done, 0)
                if begin < len(rows):
                    yield self._block(rows[begin:], done + begin)
                done += len(rows)
        self.shape = (done, self.classes)

    def _block(self, rows: list[list[str]], start: int) -> Block:
        values = self._numbers(rows, start)
        for name, place in self._watched_places:
            self._check_text([row[place] for row in rows], name, start)
        target = None
        if self._label_place is not None:
            place = self._label_place
            try:
                target = self._labels.of_texts([row[place] for row in rows], start)
            except LabelError as error:
                raise ValueError(f"{self.name}: {error}") from None
        return Block((slice(start, start + len(rows)),), values, target)

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

    def _open(self) -> TextIO:
        return Path(self.name).open(newline="", encoding="utf-8-sig")

    def _start(self, text: TextIO) -> tuple[Any, list[str]]:
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
        reader = csv.reader(text, delimiter=self._separator, strict=True)
        (header,) = self._read(reader, 1)
        return reader, [name.strip() for name in header]

    def _rows(self, reader: Any, count: int, done: int = 0) -> list[list[str]]:
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
            return f"it begins with #, as a comment ({_shortened(row[0])}); CSV has no comments, so remove such lines"
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

    def _read(self, reader: Any, count: int) -> list[list[str]]:
        """Read lines that are not empty."""
        try:
            return list(itertools.islice(filter(None, reader), count))
        except UnicodeDecodeError as error:
            raise self._not_text(error) from error
        except csv.Error as error:
            if "field limit" in str(error):
                raise ValueError(
                    f"{self.name}: line {reader.line_num} has a cell of more than {_LONGEST:,} characters, which is "
                    'neither a name nor a number; a quote (") before it may have no end'
                ) from error
            raise ValueError(
                f"{self.name}: line {reader.line_num} is damaged ({error}); write or copy the file again"
            ) from error

    def _not_text(self, error: UnicodeDecodeError) -> ValueError:
        return ValueError(f"{self.name} is not text in UTF-8 ({error.reason}); save it as CSV in UTF-8")


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


def _count_up(header: list[str]) -> bool:
    """Return whether names are those that pandas gives: 0, 1, 2; or, of other programs, 1, 2, 3."""
    texts = set(header)
    return len(header) > 1 and any(texts == {str(i + first) for i in range(len(header))} for first in (0, 1))


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}...")
