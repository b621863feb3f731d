"""Parts of batches of Arrow: some rows of some columns, of which no other bytes are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossent._io.mapped import fill


class Body(NamedTuple):
    """Where the data of a batch lie."""

    offset: int
    """Where they begin in the file."""

    nodes: tuple[tuple[int, int], ...]
    """The length and the number of missing values of each array, those inside of lists too."""

    buffers: tuple[tuple[int, int], ...]
    """The place of each buffer from the beginning on, and its length."""


class _UnknownError(Exception):
    """An array whose buffers are laid out in another way."""


def read_part(file: BinaryIO, body: Body, schema: Any, columns: Sequence[int], start: int, stop: int) -> Any:
    """Read the rows from `start` to `stop` of some columns of a batch that is not compressed.

    Returns nothing where a type is laid out in a way that is not known here.
    """
    import pyarrow as pa

    reader = _Reader(file, body)
    arrays = {}
    try:
        for number, field in enumerate(schema):
            if number in columns:
                arrays[field.name] = reader.array(field.type, start, stop)
            else:
                reader.skip(field.type)
    except _UnknownError:
        return None
    except StopIteration:
        raise ValueError("a batch has fewer arrays than its schema") from None
    return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))


class _Reader:
    """The arrays of a batch, one after the other in the order of their buffers."""

    def __init__(self, file: BinaryIO, body: Body) -> None:
        self._file, self._body = file, body
        self._nodes, self._buffers = iter(body.nodes), iter(body.buffers)

    def skip(self, kind: Any) -> None:
        """Pass over an array."""
        kind = _storage(kind)
        next(self._nodes)
        for _ in range(_count(kind)):
            next(self._buffers)
        for child in _children(kind):
            self.skip(child)

    def array(self, kind: Any, start: int, stop: int) -> Any:
        """Read the elements from `start` to `stop` of an array."""
        import pyarrow as pa

        storage = _storage(kind)
        first = start // 8 * 8  # bits come in bytes
        length, missing = next(self._nodes)
        if not start <= stop <= length:
            raise ValueError(f"an array of a batch has {length} elements, expected {stop}")
        buffers = [next(self._buffers) for _ in range(_count(storage))]
        valid = self._bytes(buffers[0], first // 8, -(-stop // 8)) if missing and buffers[0][1] else None
        children = []
        kept: list[Any] = [valid]
        if pa.types.is_fixed_size_list(storage):
            size = storage.list_size
            children = [self.array(storage.value_type, first * size, stop * size)]
        elif _is_list(storage) or _is_text(storage):
            wide = pa.types.is_large_list(storage) or pa.types.is_large_string(storage)
            dtype = np.dtype("<i8" if wide else "<i4")
            ends: NDArray[Any] = np.frombuffer(
                self._bytes(buffers[1], first * dtype.itemsize, (stop + 1) * dtype.itemsize)
                if buffers[1][1]
                else bytes((stop - first + 1) * dtype.itemsize),
                dtype,
            )
            begin, end = int(ends[0]), int(ends[-1])
            if begin < 0 or (np.diff(ends) < 0).any():
                raise ValueError("an array of a batch has elements of negative length")
            kept.append(pa.py_buffer((ends - dtype.type(begin)).tobytes()))
            if _is_text(storage):
                kept.append(self._bytes(buffers[2], begin, end))
            else:
                children = [self.array(storage.value_type, begin, end)]
        elif not pa.types.is_primitive(storage) and not pa.types.is_decimal(storage):
            raise _UnknownError
        else:
            width = storage.bit_width
            kept.append(self._bytes(buffers[1], first * width // 8, -(-stop * width // 8)))
        made = pa.Array.from_buffers(
            storage,
            stop - first,
            [None if each is None else pa.py_buffer(each) for each in kept],
            children=children,
        ).slice(start - first)
        return made if storage is kind else pa.ExtensionArray.from_storage(kind, made)

    def _bytes(self, buffer: tuple[int, int], start: int, stop: int) -> NDArray[np.uint8]:
        """Read bytes of a buffer."""
        offset, length = buffer
        if stop > length:
            raise ValueError(f"a buffer of a batch has {length} bytes, expected {stop}")
        content = np.empty(stop - start, np.uint8)
        if fill(self._file, content, self._body.offset + offset + start) < content.nbytes:
            raise ValueError("the file became shorter while it was read")
        return content


def _storage(kind: Any) -> Any:
    import pyarrow as pa

    return _storage(kind.storage_type) if isinstance(kind, pa.BaseExtensionType) else kind


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _children(kind: Any) -> list[Any]:
    """Return the types of what an array holds inside."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return [kind.field(number).type for number in range(kind.num_fields)]
    return [kind.value_type] if _is_list(kind) else []


def _count(kind: Any) -> int:
    """Return how many buffers an array has, without those inside of lists."""
    import pyarrow as pa

    if pa.types.is_null(kind):
        return 0
    if pa.types.is_fixed_size_list(kind) or pa.types.is_struct(kind):
        return 1
    if _is_text(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return 3
    if _is_list(kind) or pa.types.is_primitive(kind) or pa.types.is_decimal(kind):
        return 2
    raise _UnknownError
