"""The format `.npy`: one array, with a header that tells its shape and dtype."""

from __future__ import annotations

import os
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from crossent.io.mapped import Mapped, check_length
from crossent.io.source import missing_package, open_regular

_HEADER_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def open_npy(path: str | os.PathLike[str], *, dtype: str | None = None) -> NDArray[Any]:
    """Map a `.npy` file into memory, read-only.

    Nothing but the header is read, so the file may be larger than memory.

    Parameters
    ----------
    path
        The file, written by `numpy.save`, version 1 or 2 of the format, C or Fortran order.
    dtype
        "bfloat16" to read two-byte elements without a type of their own as bfloat16: `numpy.save` writes
        bfloat16 arrays so. Needs the package ml_dtypes.

    Returns
    -------
    numpy.ndarray
        A plain array over the mapped file.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is not a `.npy` file, if its length and its header disagree, or if it cannot be read as `dtype`.
    """
    return find_npy(os.fspath(path), dtype=dtype).array()


def find_npy(path: str, *, dtype: str | None = None) -> Mapped:
    """Find the array of a `.npy` file, which is checked but not read."""
    file, size = open_regular(path)
    with file:
        start = file.read(len(npy.MAGIC_PREFIX))
        if start != npy.MAGIC_PREFIX:
            raise ValueError(
                f"{path} is not a .npy file{likely_kind(start)}; write one array with numpy.save"
            )
        file.seek(0)
        shape, fortran, stored = read_header(file, path)
        array = Mapped(path, path, "npy", shape, stored, offset=file.tell(), fortran=fortran)
    check_length(array, size)
    if dtype is not None:
        array.dtype = as_bfloat16(path, stored, dtype)
    return array


def read_header(file: BinaryIO | Any, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of a `.npy` file: the shape, whether it is in Fortran order, and the dtype."""
    try:
        version = npy.read_magic(file)
        if version not in _HEADER_READERS:
            raise ValueError(f"version {version[0]}.{version[1]} of the format is not supported")
        shape, fortran, stored = _HEADER_READERS[version](file)
    except Exception as error:  # numpy lets several classes through for a damaged header
        raise ValueError(
            f"{name} has a damaged .npy header ({error}); write it again with numpy.save"
        ) from error
    if stored.hasobject or any(length < 0 for length in shape):
        raise ValueError(
            f"{name} holds dtype {stored} in shape {shape}, not plain numbers; save it as numbers"
        )
    return shape, fortran, stored


def likely_kind(start: bytes) -> str:
    """Say what a file that begins so may be instead."""
    if not start:
        return " (it is empty)"
    if start.startswith(b"PK"):
        return " (it looks like a zip archive, such as .npz or .pt)"
    if start.startswith(b"\x89HDF"):
        return " (it looks like HDF5)"
    return ""


def as_bfloat16(name: str, stored: np.dtype[Any], dtype: str) -> np.dtype[Any]:
    """Give the dtype bfloat16, if elements of the dtype `stored` can be read so."""
    if dtype != "bfloat16":
        raise ValueError(
            f"cannot read {name}, which holds {stored}, as {dtype}; expected bfloat16; other dtypes a file tells itself"
        )
    if stored.itemsize != 2 or stored.kind not in "Vu":
        raise ValueError(f"{name} holds {stored}, which is not bfloat16; leave the dtype out")
    return bfloat16("reading bfloat16")


def bfloat16(what: str) -> np.dtype[Any]:
    """NumPy's dtype bfloat16, which is the package ml_dtypes'."""
    try:
        import ml_dtypes
    except ImportError as error:
        raise missing_package(what, "ml_dtypes") from error
    found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return found
