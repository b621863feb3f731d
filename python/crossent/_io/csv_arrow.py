"""Read CSV with the streaming reader of pyarrow: several times as fast as the csv module, with the same results.

What a file means is defined by the csv module, and by the rules for its cells. Here are read blocks of bytes in which
nothing stands that pyarrow may take in another way; of anything else `NotPlainError` says that the csv module has to
read it. So all numbers are those of the one reader, and all messages come from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

LEAST_BYTES = 2 << 20
"""The size of a file from which on reading it by pyarrow saves more time than importing pyarrow takes."""

LEAST_BLOCK, MOST_BLOCK = 1 << 16, 4 << 20
"""How many bytes are read at a time."""

COLUMN_BYTES = 800
"""What each column of a block has at least: with fewer, what pyarrow does for a column takes longer than its cells."""

_QUOTE, _NEWLINE, _RETURN = b'"\n\r'
_BOM = b"\xef\xbb\xbf"
_EMPTY_LINE = re.compile(rb"^\r?\n", re.MULTILINE)
# The standard of C++ has it as a spelling of nan, and float() does not.
_ODD_NAN = re.compile(rb"nan\(", re.IGNORECASE)


class NotPlainError(Exception):
    """Text that the csv module has to read."""


def read_batches(
    file: BinaryIO,
    *,
    header_lines: int,
    separator: str,
    width: int,
    numbers: Sequence[int],
    texts: Sequence[int],
    block_bytes: int,
    longest_cell: int,
) -> Iterator[Any]:
    """Yield the rows in batches of pyarrow, until all are read or `NotPlainError` is raised.

    Parameters
    ----------
    file
        The file, at its beginning.
    header_lines
        How many lines name the columns.
    separator
        What stands between two cells.
    width
        The number of columns.
    numbers, texts
        The places of the columns that are read, as float64 and as text. A batch has the first, then the others.
    block_bytes
        How many bytes are read at a time, about.
    longest_cell
        How many characters the csv module allows for a cell.
    """
    try:
        import pyarrow as pa
        import pyarrow.csv as pacsv
    except ImportError:
        raise NotPlainError from None
    if len({*numbers, *texts}) < len(numbers) + len(texts):
        raise NotPlainError  # a column is read as both
    names = [str(place) for place in range(width)]
    types = {names[place]: pa.float64() for place in numbers} | {names[place]: pa.string() for place in texts}
    parse = pacsv.ParseOptions(delimiter=separator)
    convert = pacsv.ConvertOptions(
        column_types=types, include_columns=list(types), null_values=[], check_utf8=False
    )
    for text in _records(file, header_lines, block_bytes):
        _check_plain(text, separator.encode(), longest_cell)
        if width == 1 and _EMPTY_LINE.search(text):
            raise NotPlainError  # which is an empty cell there, except at the end
        if text.isspace() and not text.strip(b"\r\n"):
            continue  # empty lines alone are an error to pyarrow
        read = pacsv.ReadOptions(use_threads=False, column_names=names, block_size=len(text) + 1)
        try:
            (batch,) = pacsv.open_csv(
                pa.BufferReader(text), read_options=read, parse_options=parse, convert_options=convert
            )
        except (pa.ArrowException, ValueError, OSError):
            raise NotPlainError from None
        if any(batch.column(at).null_count for at in range(batch.num_columns)):
            raise NotPlainError
        yield batch


def _records(file: BinaryIO, header_lines: int, block_bytes: int) -> Iterator[bytes]:
    """Yield the text after the names of the columns, cut where rows end."""
    if b"\r" in b"".join(file.readline() for _ in range(header_lines)).replace(b"\r\n", b""):
        raise NotPlainError  # which ends a line too
    rest = b""
    while more := file.read(block_bytes):
        text = rest + more
        end = _end_of_rows(text)
        rest = text[end:]
        if end:
            yield text[:end]
        elif b'"' in text and len(text) > 4 * block_bytes:
            raise NotPlainError  # a quote without an end, most likely
    if rest:
        yield rest + b"\n"


def _end_of_rows(text: bytes) -> int:
    """Return where the last whole row ends: after a line's end that is not within quotes."""
    end = text.rfind(b"\n") + 1
    if b'"' not in text:
        return end
    quotes = _places_of_quotes(text)
    while end:
        before = int(np.searchsorted(quotes, end))
        if before % 2 == 0:
            break
        end = text.rfind(b"\n", 0, int(quotes[before - 1])) + 1
    return end


def _check_plain(text: bytes, separator: bytes, longest_cell: int) -> None:
    """Raise for what the csv module and pyarrow may read in different ways."""
    if text.startswith(_BOM) or b"\0" in text or (b"(" in text and _ODD_NAN.search(text)):
        raise NotPlainError
    if b"\r" in text and text.count(b"\r") != text.count(b"\r\n"):
        raise NotPlainError
    if not text.isascii():
        try:
            text.decode("utf-8")
        except UnicodeDecodeError:
            raise NotPlainError from None
    if b'"' in text:
        _check_quotes(text, separator, longest_cell)
    # A cell that is too long takes all of one of these parts at least.
    part = longest_cell // 2
    for begin in range(0, len(text) - part, part):
        if text.find(separator, begin, begin + part) < 0 and text.find(b"\n", begin, begin + part) < 0:
            raise NotPlainError


def _check_quotes(text: bytes, separator: bytes, longest_cell: int) -> None:
    """Raise unless quotes stand around whole cells alone, or twice within such a cell."""
    codes, places = np.frombuffer(text, np.uint8), _places_of_quotes(text)
    if len(places) % 2:
        raise NotPlainError
    opening, closing = places[::2], places[1::2]
    before = np.where(opening == 0, _NEWLINE, codes[opening - 1])
    after = codes[np.minimum(closing + 1, len(codes) - 1)]
    is_twice = opening[1:] == closing[:-1] + 1
    begins, ends = (_is_one_of(each, separator[0], _NEWLINE) for each in (before, after))
    begins[1:] |= is_twice
    ends[:-1] |= is_twice
    if not (begins.all() and (ends | (after == _RETURN)).all()):
        raise NotPlainError
    first = np.flatnonzero(np.concatenate([[True], ~is_twice]))
    last = np.append(first[1:], len(opening)) - 1
    if (closing[last] - opening[first]).max() > longest_cell:
        raise NotPlainError


def _places_of_quotes(text: bytes) -> NDArray[np.intp]:
    return np.flatnonzero(np.frombuffer(text, np.uint8) == _QUOTE)


def _is_one_of(codes: NDArray[Any], one: int, other: int) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (codes == one) | (codes == other)
    return found
