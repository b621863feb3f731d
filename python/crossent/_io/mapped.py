"""Arrays that lie in a file as in memory: `.npy`, stored `.npz`, `.safetensors`, raw numbers and others."""

from __future__ import annotations

import weakref
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossent import _core
from crossent._io.layout import PAGE_BYTES, cut_array
from crossent._io.source import (
    OPEN_FILES,
    FileIdentity,
    Stored,
    UnreadableError,
    contiguous_strides,
    open_regular,
)
from crossent.blocks import Index

# Pieces of the file that lie as near to each other as this are read together with what lies between them.
_NEAR_BYTES = PAGE_BYTES
_SCRATCH_BYTES = 1 << 20
# What a block may take whatever the memory is, since pieces of some bytes each take long to read.
_LEAST_BYTES = 256 << 10
# Up to this length, a checksum is tested before the array is used: to read it then takes no time.
_CHECKED_BYTES = 4 << 20


BAD_CHECKSUM = "Bad CRC-32: the data do not have the checksum that was written with them"


class Checksum(NamedTuple):
    """The CRC-32 of a range of a file."""

    offset: int
    length: int
    crc: int


class Mapped(Stored):
    """An array at an offset of a file.

    Its parts are read into memory: that stays bounded, and a file that shrinks or a disk that fails is an error, where
    access to a memory map would end the process.
    """

    def __init__(
        self,
        name: str,
        path: str,
        kind: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        *,
        offset: int,
        file: FileIdentity,
        fortran: bool = False,
        checksum: Checksum | None = None,
    ) -> None:
        super().__init__(name, path, kind, shape, dtype, fortran=fortran)
        self.offset, self._identity, self._checksum = offset, file, checksum
        self._kept: BinaryIO | None = None

    def mapped(self) -> NDArray[Any]:
        """Map the whole array, read-only."""
        if self.nbytes == 0:
            return np.empty(self.shape, dtype=self.dtype)
        order: Literal["F", "C"] = "F" if self.fortran else "C"
        with self._open() as file:
            mapped = np.memmap(
                file, dtype=self.dtype, mode="r", offset=self.offset, shape=self.shape, order=order
            )
        return np.asarray(mapped)

    def blocks(
        self, axis: int | None, block_bytes: int, start: int = 0, *, memory: int = 0
    ) -> Iterator[tuple[Index, NDArray[Any]]]:
        """Yield blocks of whole rows; each is good until the next block but one is asked for.

        Where rows lie side by side, a block has at least one page of them, if two such blocks fit in three quarters of
        the memory.
        """
        most = max(memory * 3 // 8, block_bytes, _LEAST_BYTES)
        indices = cut_array(self.layout(), axis, block_bytes=block_bytes, start=start, most_bytes=most)
        buffers: list[NDArray[np.uint8]] = [np.empty(0, np.uint8)] * 2
        with self._open() as file:
            self._check_sum(file)
            for turn, index in enumerate(indices):
                part = Part(self, index)
                if buffers[turn % 2].nbytes < part.nbytes:
                    buffers[turn % 2] = np.empty(part.nbytes, np.uint8)
                yield index, self._read(file, part, buffers[turn % 2])

    def __getitem__(self, index: Index, /) -> NDArray[Any]:
        """Read a part. The file stays open from the first one on, and so another of its name is not read."""
        if self._kept is None:
            self._kept = self._open()
            weakref.finalize(self, self._kept.close)
            OPEN_FILES.add(self, 1)
            self._check_sum(self._kept)
        part = Part(self, index)
        return self._read(self._kept, part, np.empty(part.nbytes, np.uint8))

    def release(self) -> None:
        """Close the file that was kept open."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _open(self) -> BinaryIO:
        return open_regular(self.path, self._identity, buffering=0)[0]

    def _read(self, file: BinaryIO, part: Part, buffer: NDArray[np.uint8]) -> NDArray[Any]:
        """Read a part into a buffer, in the order of its axes in the file."""
        out = buffer[: part.nbytes]
        if part.nbytes == 0:
            pass
        elif part.count == 1:
            self._fill(file, out, next(part.offsets()))
        elif part.step <= _NEAR_BYTES:
            self._read_near(file, part, out)
        else:
            firsts = [self.offset + first for first in part.offsets()]
            if not _read_pieces(file, out, part, firsts):
                self._read_one_by_one(file, out.reshape(-1, part.run), part)
        return np.ndarray(part.shape, self.dtype, buffer, strides=part.strides)

    def _read_near(self, file: BinaryIO, part: Part, out: NDArray[np.uint8]) -> None:
        """Read pieces that lie near to each other, many at once with what lies between them."""
        pieces = out.view(f"V{part.run}")
        each = max(_SCRATCH_BYTES // part.step, 1)
        scratch = np.empty((each - 1) * part.step + part.run, np.uint8)
        done = 0
        for first in part.offsets():
            for at in range(0, part.count, each):
                here = min(each, part.count - at)
                span = scratch[: (here - 1) * part.step + part.run]
                self._fill(file, span, first + at * part.step)
                pieces[done : done + here] = np.ndarray((here,), pieces.dtype, span, strides=(part.step,))
                done += here

    def _read_one_by_one(self, file: BinaryIO, pieces: NDArray[np.uint8], part: Part) -> None:
        """Read pieces of which the system gave less than was asked for: the rest of them, or an error."""
        at = 0
        for first in part.offsets():
            for number in range(part.count):
                self._fill(file, pieces[at], first + number * part.step)
                at += 1

    def _fill(self, file: BinaryIO, buffer: NDArray[np.uint8], start: int) -> None:
        """Read the bytes of the array from `start` on until the buffer is full."""
        done = fill(file, buffer, self.offset + start)
        if done < buffer.nbytes:
            raise ValueError(
                f"{self.name} became shorter while it was read: it ends at byte {self.offset + start + done}, in "
                f"{self.place(start + done)}; wait until it is written, and start again"
            )

    def _check_sum(self, file: BinaryIO) -> None:
        """Test the checksum of a short array, once."""
        told = self._checksum
        if told is None or told.length > _CHECKED_BYTES:
            return
        content = np.empty(told.length, np.uint8)
        if fill(file, content, told.offset) == told.length and zlib.crc32(content.data) != told.crc:
            raise UnreadableError(self.name, f"is damaged ({BAD_CHECKSUM}); write or copy it again")
        self._checksum = None


class Part:
    """Where a part of an array lies in its file: ranges of one length, at offsets from the array's beginning.

    There is a group of `count` ranges, `step` bytes apart, at each of the offsets.
    """

    def __init__(self, stored: Stored, index: Index) -> None:
        bounds = [
            cut.indices(length)[:2]
            for cut, length in zip(
                (*index, *[slice(None)] * (stored.ndim - len(index))), stored.shape, strict=True
            )
        ]
        self.shape = tuple(max(stop - start, 0) for start, stop in bounds)
        order, itemsize = stored.slowest_first(), stored.dtype.itemsize
        self.strides = contiguous_strides(self.shape, itemsize, order)
        self.nbytes = int(np.prod(self.shape, dtype=object)) * itemsize
        inside = contiguous_strides(stored.shape, itemsize, order)
        self._first = sum(start * step for (start, _), step in zip(bounds, inside, strict=True))
        self.run = itemsize
        while order:
            axis = order.pop()
            self.run *= self.shape[axis]
            if self.shape[axis] != stored.shape[axis]:
                break
        apart = [(self.shape[axis], inside[axis]) for axis in order if self.shape[axis] != 1]
        self.count, self.step = apart.pop() if apart else (1, self.run)
        self._outer = apart

    def offsets(self) -> Iterator[int]:
        """Yield the offset of each group, in the order of the file."""
        offsets = np.array([self._first], np.int64)
        for length, step in self._outer:
            offsets = (offsets[:, np.newaxis] + np.arange(length) * step).reshape(-1)
        return map(int, offsets)


def fill(file: BinaryIO, buffer: NDArray[np.uint8], at: int) -> int:
    """Read from a place of an unbuffered file on until the buffer is full or the file ends, and say how much it was."""
    file.seek(at)
    done = 0
    while done < buffer.nbytes:
        got = file.readinto(buffer[done:].data)  # type: ignore[attr-defined]
        if not got:
            break
        done += got
    return done


def _read_pieces(file: BinaryIO, out: NDArray[np.uint8], part: Part, firsts: list[int]) -> bool:
    """Read the pieces of a part, and say whether all are whole."""
    # Windows has no call that reads at a place, and reads them one by one.
    read = getattr(_core, "read_pieces", None)
    return read is not None and bool(read(file.fileno(), out, part.run, part.count, part.step, firsts))


def check_length(stored: Mapped, size: int, *, exact: bool = True) -> Mapped:
    """Raise unless the file, of `size` bytes, holds the array, and nothing after it where that is `exact`."""
    end = stored.offset + stored.nbytes
    if size < end:
        raise UnreadableError(
            stored.name,
            f"is truncated: shape {stored.shape} of {stored.dtype} takes {end} bytes, the file has "
            f"{size} and ends in {stored.place(max(size - stored.offset, 0))}; write or copy it again",
        )
    if exact and size > end:
        raise UnreadableError(
            stored.name,
            f"has {size - end} bytes after its array of shape {stored.shape}: perhaps several "
            "arrays were saved to one file; save one array a file",
        )
    return stored
