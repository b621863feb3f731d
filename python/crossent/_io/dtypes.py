"""The dtypes of stored numbers: which can be logits, and bfloat16, which files of NumPy cannot name."""

from __future__ import annotations

from typing import Any

import numpy as np

from crossent._interop import float_name
from crossent._io.source import dtype_text, missing_package


def is_floating(dtype: np.dtype[Any]) -> bool:
    """Return whether logits can have this dtype."""
    return float_name(dtype) is not None


def is_untyped(dtype: np.dtype[Any]) -> bool:
    """Return whether elements have two bytes and no type, as bfloat16 has in files of NumPy."""
    return dtype.kind == "V" and dtype.itemsize == 2 and dtype.names is None and dtype.name != "bfloat16"


def bfloat16(what: str) -> np.dtype[Any]:
    """NumPy's dtype bfloat16, which is the package ml_dtypes'."""
    try:
        import ml_dtypes
    except ImportError as error:
        raise missing_package(what, "ml_dtypes") from error
    found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return found


def as_bfloat16(name: str, stored: np.dtype[Any], dtype: str) -> np.dtype[Any]:
    """Return the dtype bfloat16, if elements of the dtype `stored` can be read so."""
    if dtype != "bfloat16":
        raise ValueError(
            f"cannot read {name}, which holds {dtype_text(stored)}, as {dtype}; expected bfloat16; a file declares "
            "other dtypes itself"
        )
    is_uint16 = stored.kind == "u" and stored.itemsize == 2 and stored.isnative
    if not is_untyped(stored) and not is_uint16:
        raise ValueError(f"{name} holds {dtype_text(stored)}, which is not bfloat16; leave the dtype out")
    return bfloat16("reading bfloat16")
