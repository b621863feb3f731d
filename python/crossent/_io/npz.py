"""The format `.npz`: a zip archive of `.npy` files, stored or compressed."""

from __future__ import annotations

import weakref
import zipfile
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from crossent._io.format import HolderFormat
from crossent._io.kinds import ReadKind, foreign_archive
from crossent._io.layout import cut_array
from crossent._io.mapped import Checksum, Mapped, Part, check_length
from crossent._io.npy import MAGIC, Header, read_header
from crossent._io.source import (
    OPEN_FILES,
    FileIdentity,
    OptionError,
    Recent,
    Stored,
    UnreadableError,
    identity,
    open_regular,
)
from crossent._io.zipped import SIGNATURE, DamagedError, Member, data_offset, table_of_contents
from crossent.blocks import Index

_KIND = ReadKind(
    "a .npz file",
    "if it is an .npz, give it a name that ends so",
    (SIGNATURE,),
    (".npz",),
    write="write arrays with numpy.savez",
    looks_like="a zip archive, such as .npz or .pt",
    hints=(b"PK",),
)

_CHUNK = 1 << 20
# Up to this length, an array of which parts are asked for is decompressed into memory as a whole, and once.
_WHOLE_BYTES = 64 << 20
_WHOLE = Recent(_WHOLE_BYTES)


class Compressed(Stored):
    """A compressed member of an archive, which can only be read from its beginning on."""

    is_compressed = True

    def __init__(
        self, name: str, path: str, header: Header, info: zipfile.ZipInfo, *, offset: int, file: FileIdentity
    ) -> None:
        super().__init__(name, path, "npz, compressed", header.shape, header.dtype, fortran=header.fortran)
        self._info, self._offset, self._identity, self._before = info, offset, file, header.length
        self._whole: NDArray[Any] | None = None
        self._stream: _Stream | None = None

    def __getitem__(self, index: Index, /) -> NDArray[Any]:
        """Return a part: of the whole array in memory, or of a long array the next part of it."""
        part = Part(self, index)
        if self._whole is None and self.nbytes > _WHOLE_BYTES and part.count == 1:
            begin = next(part.offsets())
            if self._stream is None or begin < self._stream.at:
                self._stream = self._open()
                OPEN_FILES.add(self, 1)
            buffer = np.empty(part.nbytes, np.uint8)
            self._stream.fill(buffer.data, begin)
            return np.ndarray(part.shape, self.dtype, buffer, strides=part.strides)
        if self._whole is None:
            try:
                whole = np.empty(self.shape, self.dtype, order="F" if self.fortran else "C")
            except MemoryError:
                raise ValueError(
                    f"{self.name} is compressed, and has to be in memory as a whole, {self.nbytes} bytes, which there "
                    "are not; save it with numpy.savez, which does not compress"
                ) from None
            self._open().fill(whole.reshape(-1, order="A").view(np.uint8).data, 0)
            self._whole = whole
            _WHOLE.add(self, self.nbytes)
        return np.asarray(self._whole[index])

    def release(self) -> None:
        """Forget the whole array, and close the file that was kept open."""
        self._whole = self._stream = None

    def blocks(
        self, axis: int | None, block_bytes: int, start: int = 0, *, memory: int = 0
    ) -> Iterator[tuple[Index, NDArray[Any]]]:
        """Decompress block after block; each is good until the next block but one is asked for."""
        layout = self.layout()
        origin = layout.__array_interface__["data"][0]
        indices = cut_array(layout, axis, block_bytes=block_bytes, start=start, in_one_piece=True)
        buffers: list[NDArray[np.uint8]] = [np.empty(0, np.uint8)] * 2
        stream = self._open()
        for turn, index in enumerate(indices):
            view = layout[index]
            if (
                view.nbytes > max(2 * block_bytes, memory // 4)
                and axis is not None
                and view.size > view.shape[axis]
            ):
                raise OptionError(
                    f"{self.name} is compressed, and its rows are spread over {view.nbytes} bytes, which would all "
                    "have to be in memory; save it with numpy.savez, which does not compress, or pass "
                    f"--memory {4 * view.nbytes // (1 << 20) + 1}M"
                )
            if buffers[turn % 2].nbytes < view.nbytes:
                buffers[turn % 2] = np.empty(view.nbytes, np.uint8)
            buffer = buffers[turn % 2][: view.nbytes]
            stream.fill(buffer.data, view.__array_interface__["data"][0] - origin)
            yield index, np.ndarray(view.shape, view.dtype, buffer, strides=view.strides)

    def _open(self) -> _Stream:
        file, _ = open_regular(self.path, self._identity)
        return _Stream(self, file, Member(file, self._info, self._offset), self._before)


class _Stream:
    """The bytes of a compressed array, from its beginning on."""

    def __init__(self, stored: Stored, file: BinaryIO, member: Member, before: int) -> None:
        self._name, self._place, self._member = stored.name, stored.place, member
        weakref.finalize(self, file.close)
        self.at = -before
        """The place of the next byte, counted from the first of the array."""

    def fill(self, buffer: memoryview, begin: int) -> None:
        """Decompress up to the byte `begin` of the array, and from there on until the buffer is full."""
        while self.at < begin:
            self._read(begin - self.at)
        done = 0
        while done < len(buffer):
            chunk = self._read(len(buffer) - done)
            buffer[done : done + len(chunk)] = chunk
            done += len(chunk)

    def _read(self, count: int) -> bytes:
        at = max(self.at, 0)
        try:
            chunk = self._member.read(min(count, _CHUNK))
        except DamagedError as error:
            raise ValueError(
                f"{self._name} is damaged: it cannot be decompressed at byte {at} of the array, in {self._place(at)} "
                f"({error}); write or copy it again"
            ) from error
        if not chunk:
            raise ValueError(
                f"{self._name} is truncated: its data end at byte {at} of the array, in {self._place(at)}; write "
                "or copy it again"
            )
        self.at += len(chunk)
        return chunk


class Archive:
    """The arrays of an archive, of which the table of contents is read."""

    def __init__(self, path: str) -> None:
        self.path = path
        file, self._size = open_regular(path)
        with file:
            self._identity = identity(file)
            members = table_of_contents(file, path, self._size, _KIND)
            other = foreign_archive(path, [info.filename for info in members])
            if other is not None:
                raise ValueError(other)
            arrays = [info for info in members if _is_array(file, info)]
        count = Counter(info.filename for info in arrays)
        self._members: dict[str, zipfile.ZipInfo] = {}
        self._twice = set()
        for info in arrays:
            name = info.filename.removesuffix(".npy")
            if not name or (name in count and name != info.filename):
                name = info.filename
            self._members[name] = info
            if count[info.filename] > 1:
                self._twice.add(name)

    @property
    def names(self) -> list[str]:
        """The names of its arrays, in its order."""
        return list(self._members)

    def find(self, key: str, /) -> Stored:
        """Find an array, which is checked but not read."""
        name, info = f"{self.path}:{key}", self._members[key]
        if key in self._twice:
            raise UnreadableError(
                name, "is in the archive more than once, and either may be meant; write the archive again"
            )
        file, _ = open_regular(self.path, self._identity)
        with file:
            offset = data_offset(file, info, name)
            try:
                header = read_header(Member(file, info, offset), name)
            except DamagedError as error:
                raise UnreadableError(name, f"is damaged ({error}); write or copy it again") from error
            if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
                raise UnreadableError(
                    name,
                    f"is damaged: it is not compressed, but takes {info.compress_size} bytes for {info.file_size}; "
                    "write or copy it again",
                )
        array: Stored
        if info.compress_type == zipfile.ZIP_STORED:
            array = Mapped(
                name, self.path, "npz", header.shape, header.dtype,
                offset=offset + header.length, file=self._identity, fortran=header.fortran,
                checksum=Checksum(offset, info.file_size, info.CRC),
            )  # fmt: skip
            check_length(array, self._size, exact=False)
        else:
            array = Compressed(name, self.path, header, info, offset=offset, file=self._identity)
        if header.length + array.nbytes != info.file_size:
            raise UnreadableError(
                name,
                f"is damaged: shape {header.shape} of {header.dtype} takes {header.length + array.nbytes} bytes, but "
                f"its member of the archive has {info.file_size}; write it again with numpy.savez",
            )
        return array


def _is_array(file: BinaryIO, info: zipfile.ZipInfo) -> bool:
    """Return whether a member is an array: by its name, or by how it begins, as `numpy.load` does."""
    if info.filename.endswith(".npy"):
        return True
    try:
        start = Member(file, info, data_offset(file, info, info.filename)).read(len(MAGIC))
    except (DamagedError, UnreadableError):
        return False
    return start == MAGIC


class Npz(HolderFormat[Archive]):
    """Files of `numpy.savez` and `numpy.savez_compressed`."""

    name = "npz"
    kind = _KIND
    tells_dtypes = False

    def holder(self, path: str) -> Archive:
        """Read the table of contents."""
        return Archive(path)
