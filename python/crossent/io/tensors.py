"""The format `.safetensors`: named tensors in one file, bfloat16 among them."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

from crossent.io.mapped import Mapped, check_length
from crossent.io.npy import bfloat16, likely_kind
from crossent.io.source import missing_package, open_regular

_DTYPES = {
    "F16": "<f2", "F32": "<f4", "F64": "<f8", "I8": "i1", "U8": "u1", "I16": "<i2", "U16": "<u2",
    "I32": "<i4", "U32": "<u4", "I64": "<i8", "U64": "<u8", "BOOL": "?",
}  # fmt: skip


def tensors(path: str) -> dict[str, Any]:
    """Read the header of a file: by name, what it says of each tensor.

    The package safetensors checks the file; the header is then read once more for where the tensors lie, so
    that they can be read in place and in blocks.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise missing_package(f"reading {path}", "safetensors") from error
    file, size = open_regular(path)
    with file:
        start = file.read(8)
        try:
            with safe_open(path, framework="np") as opened:
                names = list(opened.keys())
        except SafetensorError as error:
            raise ValueError(_what_is_wrong(path, start, size, error)) from error
        (length,) = struct.unpack("<Q", start)
        header = json.loads(file.read(length))
    for name in names:
        header[name]["offset"] = 8 + length + header[name]["data_offsets"][0]
    return {name: header[name] for name in names}


def find_tensor(name: str, path: str, key: str) -> Mapped:
    """Find a tensor of a file, which is checked but not read."""
    entry = tensors(path)[key]
    stored = entry["dtype"]
    if stored == "BF16":
        dtype = bfloat16(f"reading bfloat16 from {name}")
    elif stored in _DTYPES:
        dtype = np.dtype(_DTYPES[stored])
    else:
        raise ValueError(
            f"{name} holds {stored}; expected F16, BF16, F32 or F64 for logits, integers for targets; save it as "
            "one of those"
        )
    array = Mapped(name, path, "safetensors", tuple(entry["shape"]), dtype, offset=entry["offset"])
    file, size = open_regular(path)
    file.close()
    return check_length(array, size, exact=False)


def _what_is_wrong(path: str, start: bytes, size: int, error: Exception) -> str:
    if len(start) < 8:
        return f"{path} is not a .safetensors file: it has {size} bytes, and the length of its header alone takes 8"
    (length,) = struct.unpack("<Q", start)
    if start[:2] == b"PK" or start.startswith((b"\x89HDF", b"\x93NUMPY")):
        return f"{path} is not a .safetensors file{likely_kind(start)}; write it with safetensors"
    if length > size - 8:
        return (
            f"{path} is truncated, or not a .safetensors file: its header would take {length} bytes, the file "
            f"has {size}; write or copy it again"
        )
    return (
        f"{path} is truncated or damaged: it has {size} bytes, which its header does not fit ({error}); write or "
        "copy it again"
    )
