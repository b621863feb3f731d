"""Members of zip archives: where their bytes lie, and decompressing them without more memory than is asked for."""

from __future__ import annotations

import struct
import zipfile
import zlib
from typing import Any, BinaryIO, Protocol

from crossent._io.kinds import START_BYTES, ReadKind, not_of_kind
from crossent._io.mapped import BAD_CHECKSUM
from crossent._io.source import UnreadableError

SIGNATURE = b"PK\x03\x04"
"""What a member begins with, and so does an archive that has one."""

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, length of the name, length of the extra field
_ENCRYPTED, _UTF8 = 1 << 0, 1 << 11
_METHODS = {9: "Deflate64", 20: "zstd", 93: "zstd", 94: "MP3", 95: "xz", 97: "WavPack", 98: "PPMd"}
_PROPERTIES = struct.Struct("<BI")  # of LZMA: lc, lp and pb in one byte; the size of the dictionary
_INPUT = 1 << 16
# The dictionary of LZMA is in memory beside the data.
_MOST_DICTIONARY = 64 << 20
# What zipfile lets through for damaged archives; OSError where it seeks to a place that cannot be.
BROKEN_ARCHIVE = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, struct.error, OSError, ValueError,
    OverflowError, MemoryError,
)  # fmt: skip
"""The errors of archives that cannot be opened."""


class DamagedError(Exception):
    """Data of a member that cannot be decompressed: the reason."""


def table_of_contents(file: BinaryIO, path: str, size: int, kind: ReadKind) -> list[zipfile.ZipInfo]:
    """List the members of an archive; an error says that the file is none of a kind."""
    start = file.read(START_BYTES)
    file.seek(0)
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.infolist()
    except BROKEN_ARCHIVE as error:
        if start.startswith(SIGNATURE):
            raise ValueError(
                f"{path} is truncated or damaged: a zip archive has its table of contents at the end, and none "
                f"is found in the {size} bytes of the file; write or copy it again"
            ) from error
        raise ValueError(not_of_kind(path, kind, start)) from error


def data_offset(file: BinaryIO, info: zipfile.ZipInfo, name: str) -> int:
    """Where the bytes of a member begin: the table of contents names its header, and that has a length of its own."""
    if info.flag_bits & _ENCRYPTED:
        raise UnreadableError(name, "is encrypted; write the archive without a password")
    if info.compress_type not in (zipfile.ZIP_STORED, *_DECOMPRESSORS):
        method = _METHODS.get(info.compress_type, f"method {info.compress_type} of zip")
        raise UnreadableError(
            name, f"is compressed by {method}, which is not read here; write it with numpy.savez_compressed"
        )
    try:
        file.seek(info.header_offset)
        header = file.read(_LOCAL_HEADER.size)
        signature, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        own = file.read(name_length).decode("utf-8" if info.flag_bits & _UTF8 else "cp437")
    except (struct.error, OSError, ValueError):
        signature = b""
    if signature != SIGNATURE or own != info.orig_filename:
        raise UnreadableError(
            name, "is damaged: the archive has no such data where it says; write or copy it again"
        )
    return int(info.header_offset + _LOCAL_HEADER.size + name_length + extra_length)


class Member:
    """The bytes of a member, read from its beginning on and decompressed."""

    def __init__(self, file: BinaryIO, info: zipfile.ZipInfo, offset: int) -> None:
        """Read the member whose stored bytes begin at an offset of the file, which must not be moved meanwhile."""
        self._file, self._info = file, info
        file.seek(offset)
        self._left, self._made, self._crc = info.compress_size, 0, 0
        self._decompressor: _Decompressor | None = None

    def read(self, count: int, /) -> bytes:
        """Return the next bytes, `count` at most, and none at the end alone."""
        count = min(count, self._info.file_size - self._made)
        if count <= 0:
            return b""
        content = (
            self.stored_bytes(count)
            if self._info.compress_type == zipfile.ZIP_STORED
            else self._decompressed(count)
        )
        self._made += len(content)
        self._crc = zlib.crc32(content, self._crc)
        if self._made == self._info.file_size and self._crc != self._info.CRC:
            raise DamagedError(BAD_CHECKSUM)
        return content

    def stored_bytes(self, count: int) -> bytes:
        """Return the next bytes as they are stored, `count` at most; that there are none is an error."""
        content = self._file.read(min(count, self._left))
        if not content:
            raise DamagedError("it ends too early")
        self._left -= len(content)
        return content

    def _decompressed(self, count: int) -> bytes:
        content = b""
        if self._decompressor is None:
            self._decompressor = _DECOMPRESSORS[self._info.compress_type](self)
        while not content:
            if self._decompressor.eof:
                raise DamagedError("it ends too early")
            more = self.stored_bytes(_INPUT) if self._decompressor.needs_input else b""
            try:
                content = self._decompressor.decompress(more, count)
            except Exception as error:  # each decompressor has errors of its own
                raise DamagedError(str(error)) from error
        return content


class _Decompressor(Protocol):
    """What Python's decompressors have in common."""

    @property
    def eof(self) -> bool:
        """Whether the compressed data have come to their end."""

    @property
    def needs_input(self) -> bool:
        """Whether there is nothing to give without more compressed data."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Take some compressed data, and give so many bytes at most."""


class _Inflate:
    """zlib's decompressor, with the interface of the others."""

    def __init__(self, _: Member) -> None:
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    def decompress(self, data: bytes, max_length: int) -> bytes:
        content = self._inflate.decompress(self._inflate.unconsumed_tail + data, max_length)
        self.needs_input = len(content) < max_length
        return content


def _bunzip(_: Member) -> _Decompressor:
    import bz2

    return bz2.BZ2Decompressor()


def _unlzma(member: Member) -> _Decompressor:
    """Read the properties that come before the data, and set up a decompressor for them."""
    import lzma

    _, length = struct.unpack("<HH", _all_of(member, 4))
    properties = _all_of(member, length)
    if length != _PROPERTIES.size:
        raise DamagedError(f"its properties have {length} bytes, expected {_PROPERTIES.size}")
    coded, dictionary = _PROPERTIES.unpack(properties)
    if dictionary > _MOST_DICTIONARY:
        raise DamagedError(f"its dictionary would take {dictionary} bytes of memory")
    rest, lc = divmod(coded, 9)
    pb, lp = divmod(rest, 5)
    chain = [{"id": lzma.FILTER_LZMA1, "lc": lc, "lp": lp, "pb": pb, "dict_size": dictionary}]
    try:
        return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=chain)
    except (lzma.LZMAError, ValueError) as error:
        raise DamagedError(str(error)) from error


def _all_of(member: Member, count: int) -> bytes:
    content = b""
    while len(content) < count:
        content += member.stored_bytes(count - len(content))
    return content


_DECOMPRESSORS: dict[int, Any] = {
    zipfile.ZIP_DEFLATED: _Inflate,
    zipfile.ZIP_BZIP2: _bunzip,
    zipfile.ZIP_LZMA: _unlzma,
}
