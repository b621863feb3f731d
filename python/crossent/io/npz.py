"""The format `.npz`: a zip archive of `.npy` files, stored or compressed."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from crossent.io.blocks import row_blocks
from crossent.io.mapped import Mapped, check_length
from crossent.io.npy import as_bfloat16, likely_kind, read_header
from crossent.io.source import Index, OptionError, Stored, open_regular

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, length of the name, length of the extra field
_CHUNK = 1 << 20
# What zipfile lets through for damaged archives; OSError where it seeks to a place that cannot be.
BROKEN = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, struct.error, OSError, UnicodeError,
)  # fmt: skip


class Compressed(Stored):
    """A compressed member of an archive, which can only be read from its beginning on."""

    def __init__(
        self,
        name: str,
        path: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        *,
        member: str,
        offset: int,
        fortran: bool,
    ) -> None:
        super().__init__(name, path, "npz, compressed", shape, dtype, fortran=fortran)
        self.member, self.offset = member, offset

    def array(self) -> NDArray[Any]:
        """Decompress the whole array into memory."""
        array = np.empty(self.shape, self.dtype, order="F" if self.fortran else "C")
        with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as file:
            self._skip(file, self.offset)
            self._fill(file, array.reshape(-1, order="A").view(np.uint8).data, 0)
        return array

    def blocks(
        self, axis: int | None, block_bytes: int, start: int = 0, *, memory: int = 0
    ) -> Iterator[tuple[Index, NDArray[Any]]]:
        """Decompress block after block; each is good until the next block but one is asked for."""
        layout = self._layout()
        origin = layout.__array_interface__["data"][0]
        indices = row_blocks(layout, axis, block_bytes=block_bytes, start=start, in_one_piece=True)
        buffers: list[NDArray[np.uint8]] = [np.empty(0, np.uint8)] * 2
        with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as file:
            at = -self.offset
            for turn, index in enumerate(indices):
                view = layout[index]
                if (
                    view.nbytes > max(2 * block_bytes, memory // 4)
                    and axis is not None
                    and view.size > view.shape[axis]
                ):
                    raise OptionError(
                        f"{self.name} is compressed, and its rows lie across {view.nbytes} bytes that would have "
                        "to be in memory together; save it with numpy.savez, which does not compress, or pass "
                        f"--memory {4 * view.nbytes // (1 << 20) + 1}M"
                    )
                if buffers[turn % 2].nbytes < view.nbytes:
                    buffers[turn % 2] = np.empty(view.nbytes, np.uint8)
                buffer = buffers[turn % 2][: view.nbytes]
                begin = view.__array_interface__["data"][0] - origin
                self._skip(file, begin - at)
                self._fill(file, buffer.data, begin)
                at = begin + view.nbytes
                yield index, np.ndarray(view.shape, view.dtype, buffer, strides=view.strides)

    def _layout(self) -> NDArray[Any]:
        """Stand in for the array: the same shape and order, but all elements are one."""
        strides, step = [0] * self.ndim, self.dtype.itemsize
        for a in range(self.ndim) if self.fortran else reversed(range(self.ndim)):
            strides[a], step = step, step * max(self.shape[a], 1)
        return np.lib.stride_tricks.as_strided(np.empty(1, self.dtype), self.shape, strides, writeable=False)

    def _skip(self, file: IO[bytes], count: int) -> None:
        """Decompress so many bytes and forget them."""
        while count > 0:
            count -= len(self._read(file, min(count, _CHUNK), 0))

    def _fill(self, file: IO[bytes], buffer: memoryview, start: int) -> None:
        """Decompress the bytes of the array from `start` on, until the buffer is full."""
        done = 0
        while done < len(buffer):
            chunk = self._read(file, min(len(buffer) - done, _CHUNK), start + done)
            buffer[done : done + len(chunk)] = chunk
            done += len(chunk)

    def _read(self, file: IO[bytes], count: int, at: int) -> bytes:
        try:
            chunk = file.read(count)
        except BROKEN as error:
            raise ValueError(
                f"{self.name} is damaged: it cannot be decompressed at byte {at} of the array, in {self.place(at)} "
                f"({str(error) or 'it ends too early'}); write or copy it again"
            ) from error
        if not chunk:
            raise ValueError(
                f"{self.name} is truncated: its data end at byte {at} of the array, in {self.place(at)}; write "
                "or copy it again"
            )
        return chunk


def members(path: str) -> list[str]:
    """Name the arrays of an archive, in its order."""
    with _archive(path) as archive:
        names = archive.namelist()
    if any(name.endswith("/data.pkl") for name in names):
        raise ValueError(
            f"{path} was written by torch.save, whose files can run code when they are loaded; save the tensor with "
            "safetensors.torch.save_file, or its .numpy() with numpy.save"
        )
    return [name.removesuffix(".npy") for name in names if name.endswith(".npy")]


def find_npz(name: str, path: str, key: str, *, dtype: str | None = None) -> Stored:
    """Find an array of an archive, which is checked but not read."""
    with _archive(path) as archive:
        try:
            info = archive.getinfo(f"{key}.npy")
            with archive.open(info) as member:
                shape, fortran, stored = read_header(member, name)
                offset = member.tell()
        except BROKEN as error:
            raise ValueError(f"{name} is damaged ({error}); write or copy the archive again") from error
        array: Stored
        if info.compress_type == zipfile.ZIP_STORED:
            file, size = open_regular(path)
            with file:
                begin = _data_offset(file, info, name)
            array = Mapped(name, path, "npz", shape, stored, offset=begin + offset, fortran=fortran)
            check_length(array, size, exact=False)
        else:
            array = Compressed(
                name, path, shape, stored, member=info.filename, offset=offset, fortran=fortran
            )
        if offset + array.nbytes != info.file_size:
            raise ValueError(
                f"{name} is damaged: shape {shape} of {stored} takes {offset + array.nbytes} bytes, but its "
                f"member of the archive has {info.file_size}; write it again with numpy.savez"
            )
    if dtype is not None:
        array.dtype = as_bfloat16(name, stored, dtype)
    return array


def _archive(path: str) -> zipfile.ZipFile:
    file, size = open_regular(path)
    with file:
        start = file.read(8)
    try:
        archive = zipfile.ZipFile(path)
    except BROKEN as error:
        if start.startswith(b"PK\x03\x04"):
            raise ValueError(
                f"{path} is truncated or damaged: a zip archive has its table of contents at the end, and none "
                f"is found in the {size} bytes of the file; write or copy it again"
            ) from error
        raise ValueError(
            f"{path} is not a .npz file{likely_kind(start)}; write arrays with numpy.savez"
        ) from error
    return archive


def _data_offset(file: BinaryIO, info: zipfile.ZipInfo, name: str) -> int:
    """Where the bytes of a member begin: the table of contents names its header, and that has a length of its own."""
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER.size)
    if len(header) != _LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04") or info.flag_bits & 1:
        raise ValueError(
            f"{name} is damaged: the archive has no such data where it says; write or copy it again"
        )
    _, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    return int(info.header_offset + _LOCAL_HEADER.size + name_length + extra_length)
