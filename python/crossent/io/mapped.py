"""Arrays that lie in a file as in memory: `.npy`, stored `.npz`, `.safetensors` and raw numbers."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from crossent.io.blocks import PAGE_BYTES, row_blocks
from crossent.io.source import Index, Stored


class Mapped(Stored):
    """An array at an offset of a file.

    Its blocks are read into two buffers by turns: memory stays bounded, and a file that shrinks or a disk that fails is
    an error, where access to a memory map would end the process. Blocks that are no single piece of the file
    (those of rows that lie side by side) are views of a memory map.
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
        fortran: bool = False,
    ) -> None:
        super().__init__(name, path, kind, shape, dtype, fortran=fortran)
        self.offset = offset

    def array(self) -> NDArray[Any]:
        """Map the whole array, read-only."""
        if self.nbytes == 0:
            return np.empty(self.shape, dtype=self.dtype)
        order: Literal["F", "C"] = "F" if self.fortran else "C"
        mapped = np.memmap(
            self.path, dtype=self.dtype, mode="r", offset=self.offset, shape=self.shape, order=order
        )
        return np.asarray(mapped)

    def blocks(
        self,
        axis: int | None,
        block_bytes: int,
        start: int = 0,
        *,
        memory: int = 0,  # noqa: ARG002
    ) -> Iterator[tuple[Index, NDArray[Any]]]:
        """Give blocks of whole rows; each is good until the next block but one is asked for."""
        array = self.array()
        origin = array.__array_interface__["data"][0]
        order = sorted(range(array.ndim), key=lambda a: -abs(array.strides[a]))
        buffers: list[NDArray[np.uint8]] = [np.empty(0, np.uint8)] * 2
        with Path(self.path).open("rb", buffering=0) as file:
            for turn, index in enumerate(row_blocks(array, axis, block_bytes=block_bytes, start=start)):
                view = array[index]
                if not view.transpose(order).flags.c_contiguous:
                    _touch(view)
                    yield index, view
                    continue
                if buffers[turn % 2].nbytes < view.nbytes:
                    buffers[turn % 2] = np.empty(view.nbytes, np.uint8)
                buffer = buffers[turn % 2][: view.nbytes]
                self._fill(file, buffer, view.__array_interface__["data"][0] - origin)
                yield index, np.ndarray(view.shape, view.dtype, buffer, strides=view.strides)

    def _fill(self, file: io.RawIOBase, buffer: NDArray[np.uint8], start: int) -> None:
        """Read the bytes of the array from `start` on until the buffer is full."""
        file.seek(self.offset + start)
        done = 0
        while done < buffer.nbytes:
            got = file.readinto(buffer[done:].data)
            if not got:
                raise ValueError(
                    f"{self.name} became shorter while it was read: it ends at byte {self.offset + start + done}, in "
                    f"{self.place(start + done)}; wait until it is written, and start again"
                )
            done += got


def _touch(view: NDArray[Any]) -> None:
    """Have the pages of a memory map read from the disk, and entered into the page table, in this thread."""
    fastest = min(range(view.ndim), key=lambda a: abs(view.strides[a]))
    step = max(PAGE_BYTES // max(abs(view.strides[fastest]), 1), 1)
    pages = view[(slice(None),) * fastest + (slice(None, None, step),)]
    np.bitwise_or.reduce(pages.view(f"u{view.itemsize}"), axis=None)


def check_length(stored: Mapped, size: int, *, exact: bool = True) -> Mapped:
    """Raise unless the file, of `size` bytes, holds the array, and nothing after it where that is `exact`."""
    end = stored.offset + stored.nbytes
    if size < end:
        raise ValueError(
            f"{stored.name} is truncated: shape {stored.shape} of {stored.dtype} takes {end} bytes, the file has "
            f"{size} and ends in {stored.place(max(size - stored.offset, 0))}; write or copy it again"
        )
    if exact and size > end:
        raise ValueError(
            f"{stored.name} has {size - end} bytes after its array of shape {stored.shape}: perhaps several "
            "arrays were saved to one file; save one array a file"
        )
    return stored
