"""Tables in Arrow's IPC files (Feather, version 2) and streams, with the columns that Parquet may have; by pyarrow."""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossent._io.arrow_parts import Body, read_part
from crossent._io.kinds import ARROW_CONTINUATION, ARROW_SUFFIXES, ReadKind, not_of_kind
from crossent._io.parquet_table import ParquetSource
from crossent._io.source import (
    FileIdentity,
    OptionError,
    identity,
    missing_package,
    one_line,
    open_regular,
    start_of,
)
from crossent._io.table import TableFormat
from crossent.blocks import MEMORY, Block

_MAGIC = b"ARROW1"
_KIND = ReadKind(
    "an Arrow file",
    "give it a name that ends with .arrow",
    (_MAGIC,),
    write="write it with pyarrow.feather",
)
_AGAIN = "write or copy it again"
# What a batch may take whatever the memory is, and what the first one may take when a table is opened.
_LEAST_BYTES, _MOST_AT_FIRST = 4 << 20, 1 << 30


class ArrowSource(ParquetSource):
    """A table in an IPC file or stream of Arrow."""

    format = "arrow"

    def __init__(self, path: str, values: str) -> None:
        self._layout = _Layout(path)
        self._most = _MOST_AT_FIRST
        super().__init__(path, values)

    def _open(self) -> _Opened:
        return _Opened(self._layout, self._most)

    def row_blocks(self, memory: int | None = None, start: int = 0) -> Generator[Block, None, None]:
        """Yield the rows in blocks; of compressed batches, a whole one is in memory."""
        memory = MEMORY if memory is None else memory
        self._most = max(memory // 2, _LEAST_BYTES)
        return super().row_blocks(memory, start)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Where a batch of rows lies, and what its header says."""

    num_rows: int
    body: Body
    is_compressed: bool
    bytes: int


class _Layout:
    """The batches of a file, of which the headers are read: those of Flatbuffers, by the specification of Arrow."""

    def __init__(self, path: str) -> None:
        self.path = path
        file, self.size = open_regular(path)
        with file:
            self.identity: FileIdentity = identity(file)
            start = file.read(8)
            self.is_stream = not start.startswith(_MAGIC)
            if self.is_stream and not start.startswith(ARROW_CONTINUATION):
                raise ValueError(not_of_kind(path, _KIND, start_of(path)))
            self._file, self.is_big_endian = file, False
            try:
                places = self._of_stream() if self.is_stream else self._of_file()
                self.batches = [found for place in places if (found := self._batch(*place)) is not None]
            except (struct.error, ValueError, IndexError, OverflowError) as error:
                if isinstance(error, _TruncatedError):
                    raise ValueError(
                        f"{path} is truncated: {error}, and the file has {self.size}; {_AGAIN}"
                    ) from None
                raise ValueError(
                    f"{path} is truncated or damaged: its list of batches cannot be read ({one_line(error)}); {_AGAIN}"
                ) from error
            del self._file

    def _of_file(self) -> Iterator[tuple[int, int]]:
        """Yield the places of the batches and of their bodies, by the table at the end of a file."""
        if self._bytes(max(self.size - len(_MAGIC), 0), len(_MAGIC)) != _MAGIC or self.size < 20:
            raise _TruncatedError("its table of contents is at its end, and none is found there")
        (length,) = struct.unpack("<i", self._bytes(self.size - 10, 4))
        footer = _root(self._bytes(self.size - 10 - length, length))
        self.is_big_endian = footer.table(1).number(0, "<h") != 0
        for at in footer.structs(3, 24):
            offset, header, body = struct.unpack_from("<qi4xq", footer.content, at)
            if offset + header + body > self.size:
                raise _TruncatedError(f"a batch ends at byte {offset + header + body}")
            yield offset, offset + header

    def _of_stream(self) -> Iterator[tuple[int, int]]:
        """Yield the places of the messages of a stream and of their bodies."""
        at = 0
        while True:
            start = self._bytes(at, 8) if at + 8 <= self.size else b""
            if not start.startswith(ARROW_CONTINUATION):
                raise _TruncatedError(f"it has no mark of its end at byte {at}")
            (length,) = struct.unpack("<i", start[4:])
            if length == 0:
                return
            body = self._header(at)[0].number(3, "<q")
            if at + 8 + length + body > self.size:
                raise _TruncatedError(f"a part ends at byte {at + 8 + length + body}")
            yield at, at + 8 + length
            at += 8 + length + body

    def _batch(self, at: int, body: int) -> _Batch | None:
        """Read the header of a message: what a batch of rows holds, or none for another message."""
        message, kind = self._header(at)
        if kind in (4, 5):
            raise ValueError("it holds a tensor and no table; save it with numpy.save")
        if kind == 1:
            self.is_big_endian = message.table(2).number(0, "<h") != 0
        if kind != 3:
            return None
        header = message.table(2)
        nodes = [struct.unpack_from("<qq", header.content, each) for each in header.structs(1, 16)]
        buffers = [struct.unpack_from("<qq", header.content, each) for each in header.structs(2, 16)]
        total = message.number(3, "<q")
        if any(offset < 0 or length < 0 or offset + length > total for offset, length in buffers):
            raise ValueError("a batch has data outside of it")
        return _Batch(
            header.number(0, "<q"),
            Body(body, tuple(nodes), tuple(buffers)),
            header.field(3) is not None,
            total,
        )

    def _header(self, at: int) -> tuple[_Table, int]:
        mark, length = struct.unpack("<Ii", self._bytes(at, 8))
        if mark != 0xFFFFFFFF or length <= 0:
            raise ValueError("a message does not begin as one since version 0.15")
        message = _root(self._bytes(at + 8, length))
        return message, message.number(1, "<B")

    def _bytes(self, at: int, count: int) -> bytes:
        if at < 0 or count < 0 or at + count > self.size:
            raise _TruncatedError(f"its headers end at byte {at + count}")
        self._file.seek(at)
        content = self._file.read(count)
        if len(content) < count:
            raise _TruncatedError(f"its headers end at byte {at + count}")
        return content


class _TruncatedError(ValueError):
    """A file that ends too early."""


class _Table:
    """A table of Flatbuffers."""

    def __init__(self, content: bytes, at: int) -> None:
        self.content, self._at = content, at
        self._fields = at - struct.unpack_from("<i", content, at)[0]
        (self._length,) = struct.unpack_from("<H", content, self._fields)

    def field(self, number: int) -> int | None:
        """Return the place of a field, none where it has its default."""
        if 4 + 2 * number >= self._length:
            return None
        (offset,) = struct.unpack_from("<H", self.content, self._fields + 4 + 2 * number)
        return self._at + offset if offset else None

    def number(self, number: int, form: str) -> int:
        """Return a field that is a number."""
        at = self.field(number)
        return 0 if at is None else int(struct.unpack_from(form, self.content, at)[0])

    def _follow(self, number: int) -> int | None:
        at = self.field(number)
        return None if at is None else at + int(struct.unpack_from("<I", self.content, at)[0])

    def table(self, number: int) -> _Table:
        """Return a field that is a table."""
        at = self._follow(number)
        if at is None:
            raise ValueError("a message has no header")
        return _Table(self.content, at)

    def structs(self, number: int, size: int) -> range:
        """Return the places of the structures in a field that is a list of them."""
        at = self._follow(number)
        if at is None:
            return range(0)
        (count,) = struct.unpack_from("<I", self.content, at)
        if at + 4 + count * size > len(self.content):
            raise ValueError("a list is longer than its message")
        return range(at + 4, at + 4 + count * size, size)


def _root(content: bytes) -> _Table:
    return _Table(content, struct.unpack_from("<I", content)[0])


class _Opened:
    """A file that is open, with what `pyarrow.parquet.ParquetFile` has: its schema, and its rows in batches."""

    def __init__(self, layout: _Layout, most: int) -> None:
        try:
            import pyarrow as pa
        except ImportError as error:
            raise missing_package(f"reading {layout.path}", "pyarrow") from error
        self._layout, self._most = layout, most
        self._file, size = open_regular(layout.path, layout.identity, buffering=0)
        try:
            if size < layout.size:
                raise ValueError(f"it had {layout.size} bytes, and has {size}")
            self.schema_arrow = self._reader(None).schema
            assert self.schema_arrow.names is not None  # they are read here, with their errors
        except (pa.ArrowException, OSError, ValueError) as error:
            self._file.close()
            raise ValueError(
                f"{layout.path} is truncated or damaged: its schema cannot be read ({one_line(error)}); {_AGAIN}"
            ) from error

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def metadata(self) -> _Opened:
        """What tells the numbers of rows: the file itself."""
        return self

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return sum(batch.num_rows for batch in self._layout.batches)

    @property
    def num_row_groups(self) -> int:
        """How many batches there are."""
        return len(self._layout.batches)

    def row_group(self, number: int) -> _Batch:
        """Return what is known of a batch."""
        return self._layout.batches[number]

    def iter_batches(
        self,
        *,
        batch_size: int,
        columns: Sequence[str],
        row_groups: Sequence[int] | None = None,
        use_threads: bool = False,
    ) -> Iterator[Any]:
        """Yield rows of some columns, `batch_size` at most; of a batch that is not compressed, no more are read."""
        del use_threads
        groups = range(self.num_row_groups) if row_groups is None else row_groups
        names = list(self.schema_arrow.names)
        wanted = [names.index(name) for name in columns]
        whole = _Whole(self, wanted)
        for group in groups:
            batch = self._layout.batches[group]
            for start in range(0, batch.num_rows, batch_size):
                stop = min(start + batch_size, batch.num_rows)
                part = None
                if not (batch.is_compressed or self._layout.is_big_endian):
                    part = read_part(self._file, batch.body, self.schema_arrow, wanted, start, stop)
                if part is None:
                    part = whole.read(group).slice(start, stop - start)
                else:
                    part.validate(full=True)  # what is damaged may lead outside of its memory
                yield part

    def check_size(self, number: int, columns: Sequence[int]) -> None:
        """Raise where a batch that is read as a whole takes more memory than there is."""
        batch = self._layout.batches[number]
        each = sum(_row_bytes(self.schema_arrow.field(column).type) for column in columns)
        size = batch.num_rows * each
        if size > self._most:
            rows = max(self._most // max(each, 1), 1)
            raise OptionError(
                f"{self._layout.path} has batches of {batch.num_rows} rows, of which one takes {size} bytes and has to "
                f"be in memory as a whole; write it in batches of {rows} rows at most, as with "
                f"pyarrow.feather.write_feather(..., chunksize={rows})"
                + ("" if self._most == _MOST_AT_FIRST else f", or pass --memory {6 * size // (1 << 20) + 1}M")
            )

    def _reader(self, columns: Sequence[int] | None) -> Any:
        import pyarrow as pa

        options = pa.ipc.IpcReadOptions(included_fields=columns, use_threads=False)
        self._file.seek(0)
        source = pa.PythonFile(self._file, mode="r")
        opened = pa.ipc.open_stream if self._layout.is_stream else pa.ipc.open_file
        return opened(source, options=options)


class _Whole:
    """Batches that are read as a whole, one at a time and in their order."""

    def __init__(self, opened: _Opened, columns: list[int]) -> None:
        self._opened, self._columns = opened, columns
        self._reader: Any = None
        self._next = 0
        self._kept: tuple[int, Any] | None = None

    def read(self, number: int) -> Any:
        """Return a batch."""
        if self._kept is not None and self._kept[0] == number:
            return self._kept[1]
        self._kept = None
        self._opened.check_size(number, self._columns)
        if self._reader is None:
            self._reader = self._opened._reader(sorted(self._columns))
        if not self._opened._layout.is_stream:
            batch = self._reader.get_batch(number)
        else:
            while self._next <= number:
                batch = next(self._reader, None)
                if batch is None:
                    raise ValueError(f"it ends before batch {number}")
                self._next += 1
        if batch.num_rows != self._opened._layout.batches[number].num_rows:
            raise ValueError(f"batch {number} has {batch.num_rows} rows")
        batch.validate(full=True)
        self._kept = number, batch
        return batch


def _row_bytes(kind: Any) -> int:
    """Return about how many bytes a value of a type takes."""
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType):
        return _row_bytes(kind.storage_type)
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size) * _row_bytes(kind.value_type)
    try:
        return int(kind.bit_width + 7) // 8
    except ValueError:  # of a length of its own
        return 8


class Arrow(TableFormat):
    """Tables of Apache Arrow: IPC files, of which Feather is one, and IPC streams."""

    name = "arrow"
    kind = _KIND

    def begins(self, path: str, start: bytes) -> bool:
        """Return whether a file begins as one of Arrow; a stream does so with bytes that others may begin with."""
        is_named = Path(path).suffix.lower() in ARROW_SUFFIXES
        return start.startswith(_MAGIC) or (is_named and start.startswith(ARROW_CONTINUATION))

    def table(self, path: str, values: str) -> ArrowSource:
        """Read the headers of the batches."""
        return ArrowSource(path, values)
