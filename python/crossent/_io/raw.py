"""Raw numbers: a file of nothing but elements, row after row, as C programs write them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossent._io.dtypes import bfloat16
from crossent._io.format import ArrayFormat, Content, LogitsOptions, refuse
from crossent._io.kinds import ReadKind, foreign, is_text
from crossent._io.mapped import Mapped
from crossent._io.source import OptionError, Stored, identity, open_regular, start_of

RAW_DTYPES = {
    "float16": "<f2", "f16": "<f2", "bfloat16": "bfloat16", "bf16": "bfloat16",
    "float32": "<f4", "f32": "<f4", "float64": "<f8", "f64": "<f8",
}  # fmt: skip
"""The names of `--dtype`; the byte order is little-endian."""

RAW_TARGET_DTYPES = {
    "int8": "i1", "i8": "i1", "uint8": "u1", "u8": "u1", "int16": "<i2", "i16": "<i2", "uint16": "<u2", "u16": "<u2",
    "int32": "<i4", "i32": "<i4", "uint32": "<u4", "u32": "<u4", "int64": "<i8", "i64": "<i8", "uint64": "<u8",
    "u64": "<u8",
}  # fmt: skip
"""The names of `--target-dtype`."""


# What is known as text by its bytes alone has as many as this.
_TEXT_BYTES = 32


class Raw(ArrayFormat):
    """Files of elements alone: all those that are of no other kind."""

    name = "raw"
    kind = ReadKind(
        "raw numbers",
        "pass --dtype and --classes",
        suffixes=tuple(f".{name}" for name in (*RAW_DTYPES, *RAW_TARGET_DTYPES)),
    )

    def begins(self, path: str, start: bytes) -> bool:
        """Return whether nothing says that a file is of another kind."""
        return suffix_dtype(path) is not None or foreign(path, start) is None

    def find(
        self, path: str, key: str | None, dtype: str | None, classes: int | None = None, *, floats: bool
    ) -> Stored:
        """Find the numbers of a file, as the options or its name describe them."""
        refuse(path, key, {})
        told = not (classes is None and dtype is None and suffix_dtype(path) is None)
        _check_no_text(path, floats=floats, told=told)
        return find_raw_logits(path, dtype, classes) if floats else find_raw_targets(path, dtype)

    def contents(self, path: str, key: str | None, options: LogitsOptions) -> Sequence[Content]:
        """Find the numbers of a file; those are integers where its name says so."""
        refuse(path, key, {})
        if options.dtype is None and suffix_dtype(path) in RAW_TARGET_DTYPES:
            return [find_raw_targets(path, None)]
        return [self.find(path, None, options.dtype, options.classes, floats=True)]


def _check_no_text(path: str, *, floats: bool, told: bool) -> None:
    """Raise for what cannot be raw numbers, whether or not options say that it is."""
    start = start_of(path)
    if not start and not told:
        raise ValueError(f"{path} is not a file that can be read (it is empty); write it with numpy.save")
    # Each byte of text is one of a hundred: so many numbers are not all of these by chance.
    if is_text(start) and len(start) >= _TEXT_BYTES and (floats or not told):
        name, dtype = ("logits", "float32") if floats else ("targets", "int64")
        raise OptionError(
            f"{path} is of no kind that its name or its first bytes show, and it is text, not raw numbers; give a "
            "table, whose first line names its columns, a name that ends with .csv; save other text with "
            f"numpy.save('{name}.npy', numpy.loadtxt({path!r}, '{dtype}'))"
        )


def suffix_dtype(path: str) -> str | None:
    """Return the dtype that a name such as `logits.f32` tells, or None."""
    suffix = Path(path).suffix.removeprefix(".").lower()
    return suffix if suffix in RAW_DTYPES or suffix in RAW_TARGET_DTYPES else None


def find_raw_logits(path: str, dtype: str | None, classes: int | None) -> Mapped:
    """Find the rows of a raw file, `classes` elements each."""
    dtype = dtype or suffix_dtype(path)
    if dtype not in RAW_DTYPES or classes is None:
        raise OptionError(
            f"{path} is of no kind that its name or its first bytes show; if it holds raw numbers, row after "
            f"row, pass --dtype (such as f32) and --classes (how many a row has)"
        )
    return _find(path, _dtype(RAW_DTYPES[dtype], path), (classes,))


def find_raw_targets(path: str, dtype: str | None) -> Mapped:
    """Find the class indices of a raw file."""
    dtype = dtype or suffix_dtype(path)
    if dtype not in RAW_TARGET_DTYPES:
        raise OptionError(
            f"{path} is of no kind that its name or its first bytes show; if it holds raw class indices, pass "
            "--target-dtype (such as i64)"
        )
    return _find(path, np.dtype(RAW_TARGET_DTYPES[dtype]), ())


def _dtype(name: str, path: str) -> np.dtype[Any]:
    return bfloat16(f"reading bfloat16 from {path}") if name == "bfloat16" else np.dtype(name)


def _find(path: str, dtype: np.dtype[Any], row: tuple[int, ...]) -> Mapped:
    file, size = open_regular(path)
    with file:
        known = identity(file)
    row_bytes = dtype.itemsize * (row[0] if row else 1)
    rows, rest = divmod(size, row_bytes)
    if rest:
        what = f"rows of {row[0]} {dtype}" if row else f"numbers of {dtype}"
        raise ValueError(
            f"{path} has {size} bytes: {rows} {what}, {row_bytes} bytes each, and {rest} bytes more; it is "
            f"truncated, or the options do not describe it"
        )
    return Mapped(path, path, "raw", (rows, *row), dtype, offset=0, file=known)
