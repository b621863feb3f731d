"""Arrays in chunks that a library reads and decompresses: read in bands of whole chunks, each chunk once."""

from __future__ import annotations

import abc
import contextlib
import itertools
import math
import weakref
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from crossent._io.layout import cut_array
from crossent._io.source import OPEN_FILES, OptionError, Recent, Stored
from crossent.blocks import Index

# What a band of chunks may take whatever the memory is. Of the memory it may take three eighths; and of probabilities,
# of which the logarithms are in memory too, the rows are read with a third of it.
_LEAST_BYTES = 4 << 20
# Of an array of which parts are asked for, the chunks around the last part are kept up to this length.
_KEPT_BYTES = 64 << 20
_KEPT = Recent(_KEPT_BYTES)


class Reader(Protocol):
    """An array that is open."""

    dtype: np.dtype[Any]
    """That of the elements as they are stored."""

    def read(self, index: Index, out: NDArray[Any], /) -> None:
        """Read a part, a slice without a step for each axis, into an array in C order."""

    def close(self) -> None:
        """Close its file."""


class Chunked(Stored):
    """An array that is stored in chunks."""

    def __init__(
        self,
        name: str,
        path: str,
        kind: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        *,
        chunks: tuple[int, ...],
        whole_chunks: bool,
    ) -> None:
        """Take the lengths of a chunk, and whether one is read as a whole for any part of it."""
        super().__init__(name, path, kind, shape, dtype, fortran=False)
        self._whole_chunks = whole_chunks
        self._chunks = chunks
        self._kept: Reader | None = None
        self._band: tuple[slice, NDArray[Any]] | None = None

    @abc.abstractmethod
    def open(self) -> Reader:
        """Open the array: the same one as when it was found, or this raises."""

    def blocks(
        self, axis: int | None, block_bytes: int, start: int = 0, *, memory: int = 0
    ) -> Iterator[tuple[Index, NDArray[Any]]]:
        """Yield blocks of whole rows; each is good until the next block but one is asked for.

        A band of chunks is in memory, and is cut where it is larger than a block.
        """
        if self.size == 0:
            return
        before = turn = 0
        buffers = [np.empty(0, np.uint8)] * 2
        with contextlib.closing(self.open()) as reader:
            for band in self._bands(axis, block_bytes, max(memory * 3 // 8, 2 * block_bytes, _LEAST_BYTES)):
                lengths = [cut.stop - cut.start for cut in band]
                rows = math.prod(lengths) // (1 if axis is None else lengths[axis])
                if before + rows > start:
                    if buffers[turn].nbytes < math.prod(lengths) * reader.dtype.itemsize:
                        buffers[turn] = np.empty(math.prod(lengths) * reader.dtype.itemsize, np.uint8)
                    values = np.ndarray(lengths, reader.dtype, buffers[turn])
                    reader.read(band, values)
                    values, turn = self._typed(values), 1 - turn
                    skip = max(start - before, 0)
                    for index in cut_array(
                        values, axis, block_bytes=block_bytes, start=skip, most_bytes=values.nbytes
                    ):
                        place = (
                            slice(cut.start + inside.start, cut.start + inside.stop)
                            for cut, inside in zip(band, index, strict=True)
                        )
                        yield tuple(place), values[index]
                before += rows

    def _bands(self, axis: int | None, block_bytes: int, most: int) -> Iterator[Index]:
        """Yield the parts that are read at one time, in C order of the rows: whole chunks, as many as make a block."""
        index = [slice(0, length) for length in self.shape]
        rows = [a for a in range(self.ndim) if a != axis]
        if not rows:
            yield tuple(index)
            return
        inner = self.nbytes // self.shape[rows[0]]  # the bytes at each position of the axis that is cut
        depth = 0
        while depth + 1 < len(rows) and self._chunks[rows[depth]] == 1 and inner > block_bytes:
            depth += 1
            inner //= self.shape[rows[depth]]
        cut = rows[depth]
        length, least = self.shape[cut], min(self._chunks[cut], self.shape[cut])
        if least * inner > most and self._whole_chunks:
            one_row = least == 1 and depth + 1 == len(rows)
            if not one_row:
                raise OptionError(
                    f"{self.name} is stored in chunks of shape {self._chunks}, which are read as a whole; those with "
                    f"its first rows take {least * inner} bytes, which all have to be in memory; pass --memory "
                    f"{8 * least * inner // (1 << 20) + 1}M, or write it with chunks of fewer rows"
                )
        elif least * inner > most:
            least = 1
        step = least * max(block_bytes // (least * inner), 1)
        for places in itertools.product(*(range(self.shape[a]) for a in rows[:depth])):
            for a, place in zip(rows, places, strict=False):
                index[a] = slice(place, place + 1)
            for begin in range(0, length, step):
                index[cut] = slice(begin, min(begin + step, length))
                yield tuple(index)

    def __getitem__(self, index: Index, /) -> NDArray[Any]:
        """Read a part. The chunks around it along the first axis are kept for the next one, unless they are long."""
        whole = tuple(
            slice(*cut.indices(length)[:2])
            for cut, length in zip(
                (*index, *[slice(None)] * (self.ndim - len(index))), self.shape, strict=True
            )
        )
        if self.ndim == 0 or self.size == 0:
            return self._read(self._opened(), whole)
        first, chunk, each = whole[0], self._chunks[0], self.nbytes // self.shape[0]
        if self._band is None or not self._band[0].start <= first.start <= first.stop <= self._band[0].stop:
            band = slice(first.start // chunk * chunk, min(-(-first.stop // chunk) * chunk, self.shape[0]))
            if (band.stop - band.start) * each > _KEPT_BYTES:
                return self._read(self._opened(), whole)
            values = self._read(self._opened(), (band, *(slice(0, length) for length in self.shape[1:])))
            self._band = band, values
            _KEPT.add(self, values.nbytes)
        band, values = self._band
        return values[(slice(first.start - band.start, first.stop - band.start), *whole[1:])]

    def load(self) -> NDArray[Any]:
        """Return the whole array in memory, and keep no file open."""
        with contextlib.closing(self.open()) as reader:
            return self._read(reader, tuple(slice(0, length) for length in self.shape))

    def _read(self, reader: Reader, index: Index) -> NDArray[Any]:
        out = np.empty([cut.stop - cut.start for cut in index], reader.dtype)
        reader.read(index, out)
        return self._typed(out)

    def _opened(self) -> Reader:
        if self._kept is None:
            self._kept = self.open()
            weakref.finalize(self, self._kept.close)
            OPEN_FILES.add(self, 1)
        return self._kept

    def release(self) -> None:
        """Forget the chunks that are kept, and close the file that was kept open."""
        kept, self._kept, self._band = self._kept, None, None
        if kept is not None:
            kept.close()

    def _typed(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return elements that the user says to be bfloat16 as that."""
        return values if values.dtype == self.dtype else values.view(self.dtype)
