"""The format `.safetensors`: named tensors in one file, bfloat16 among them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossent._io.dtypes import bfloat16
from crossent._io.format import HolderFormat
from crossent._io.kinds import START_BYTES, ReadKind, not_of_kind, tells_kind
from crossent._io.mapped import Mapped
from crossent._io.source import UnreadableError, check_shape, identity, open_regular

_DTYPES = {
    "F16": "<f2", "F32": "<f4", "F64": "<f8", "I8": "i1", "U8": "u1", "I16": "<i2", "U16": "<u2",
    "I32": "<i4", "U32": "<u4", "I64": "<i8", "U64": "<u8", "BOOL": "?",
}  # fmt: skip
_KIND = ReadKind(
    "a .safetensors file",
    "give it a name that ends with .safetensors",
    suffixes=(".safetensors",),
    write="write it with safetensors",
)

# A file begins with the length of its header, and that with a brace. Of a file whose name does not show its format,
# no longer header is taken for one.
_LIKELY_HEADER_BYTES = 1 << 27
# The format's own limit.
_MOST_HEADER_BYTES = 100_000_000
_AGAIN = "write or copy it again"


@dataclass(frozen=True, slots=True)
class _Entry:
    """What the header says of a tensor."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Tensors:
    """The tensors of a file, of which the header is read and checked."""

    def __init__(self, path: str) -> None:
        self.path = path
        file, size = open_regular(path)
        with file:
            self._identity = identity(file)
            start = file.read(START_BYTES)
            length = _header_length(path, start, size)
            file.seek(8)
            self._entries = _entries(path, file.read(length))
        self._offset = 8 + length
        _check_whole(path, list(self._entries.values()), size - self._offset)

    @property
    def names(self) -> list[str]:
        """The names of the tensors, in the order of the header."""
        return list(self._entries)

    def find(self, key: str, /) -> Mapped:
        """Find a tensor, which is checked but not read."""
        name, entry = f"{self.path}:{key}", self._entries[key]
        dtype = _dtype(name, entry)
        check_shape(name, entry.shape, dtype)
        nbytes = math.prod(entry.shape) * dtype.itemsize
        if nbytes != entry.end - entry.begin:
            raise UnreadableError(
                name,
                f"is damaged: shape {entry.shape} of {entry.dtype} takes {nbytes} bytes, but it has "
                f"{entry.end - entry.begin}; {_AGAIN}",
                dtype=entry.dtype,
                shape=entry.shape,
            )
        offset = self._offset + entry.begin
        return Mapped(name, self.path, "safetensors", entry.shape, dtype, offset=offset, file=self._identity)


def _dtype(name: str, entry: _Entry) -> np.dtype[Any]:
    if entry.dtype == "BF16":
        try:
            return bfloat16(f"{name} holds bfloat16, which")
        except ValueError as error:
            what = str(error).removeprefix(f"{name} ")
            raise UnreadableError(name, what, dtype=entry.dtype, shape=entry.shape) from error
    if entry.dtype not in _DTYPES:
        raise UnreadableError(
            name,
            f"holds {entry.dtype}; expected F16, BF16, F32 or F64 for logits, integers for targets; save it as "
            "one of those",
            dtype=entry.dtype,
            shape=entry.shape,
        )
    return np.dtype(_DTYPES[entry.dtype])


def _header_length(path: str, start: bytes, size: int) -> int:
    if len(start) < 8:
        raise ValueError(
            f"{path} is not a .safetensors file: it has {size} bytes, and the length of its header alone takes 8"
        )
    length = int.from_bytes(start[:8], "little")
    if length <= min(size - 8, _MOST_HEADER_BYTES):
        return length
    if tells_kind(start):
        raise ValueError(not_of_kind(path, _KIND, start))
    if length > size - 8:
        raise ValueError(
            f"{path} is truncated, or not a .safetensors file: its header would take {length} bytes, the file "
            f"has {size}; {_AGAIN}"
        )
    raise ValueError(
        f"{path} has a header of {length} bytes; expected at most {_MOST_HEADER_BYTES}, as the format allows; save "
        "the logits in a file of their own"
    )


def _entries(path: str, header: bytes) -> dict[str, _Entry]:
    """Read the header: by name, what it says of each tensor."""
    try:
        told = json.loads(header.decode("utf-8"), object_pairs_hook=_without_doubles)
        if not isinstance(told, dict):
            raise TypeError("it is not an object of JSON")
        told.pop("__metadata__", None)
        return {name: _entry(entry) for name, entry in told.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = f"it does not hold {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            f"{path} is truncated or damaged: its header is not that of a .safetensors file ({reason[:200]}); {_AGAIN}"
        ) from error


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it holds one tensor twice")
    return found


def _entry(told: dict[str, Any]) -> _Entry:
    shape, (begin, end) = told["shape"], told["data_offsets"]
    if not isinstance(told["dtype"], str):
        raise TypeError(f"a dtype is {told['dtype']!r}")
    for number in (*shape, begin, end):
        if type(number) is not int or number < 0:
            raise ValueError(f"a length or an offset is {number!r}")
    return _Entry(told["dtype"], tuple(shape), begin, end)


def _check_whole(path: str, entries: list[_Entry], size: int) -> None:
    """Raise unless the tensors fill the data of the file, one after the other, as the format demands."""
    at = 0
    for entry in sorted(entries, key=lambda entry: (entry.begin, entry.end)):
        if entry.begin != at or entry.end < at:
            raise ValueError(
                f"{path} is damaged: its header gives data from byte {entry.begin} to {entry.end}, expected "
                f"them from byte {at} on; {_AGAIN}"
            )
        at = entry.end
    if at != size:
        what = "truncated" if at > size else "damaged"
        raise ValueError(
            f"{path} is {what}: its header gives {at} bytes of data, and it has {size}; {_AGAIN}"
        )


class Safetensors(HolderFormat[Tensors]):
    """Files of Hugging Face's safetensors."""

    name = "safetensors"
    kind = _KIND
    tells_dtypes = True

    def begins(self, path: str, start: bytes) -> bool:
        """Return whether a file begins with a header of JSON after a likely length of it."""
        del path
        return start[8:9] == b"{" and int.from_bytes(start[:8], "little") < _LIKELY_HEADER_BYTES

    def holder(self, path: str) -> Tensors:
        """Read the header."""
        return Tensors(path)
