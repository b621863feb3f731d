"""Readers for arrays on disk: memory maps that are checked before use, and their rows in blocks."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

BLOCK_BYTES = 16 << 20
"""How much of an array one block of `row_blocks` holds, about."""

_PAGE_BYTES = 4096
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
    name = os.fspath(path)
    with Path(name).open("rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(
                f"{name} is not a regular file, and only those can be mapped; copy it to one first"
            )
        start = file.read(len(npy.MAGIC_PREFIX))
        if start != npy.MAGIC_PREFIX:
            raise ValueError(
                f"{name} is not a .npy file{_likely_kind(start)}; write one array with numpy.save"
            )
        file.seek(0)
        try:
            version = npy.read_magic(file)
            if version not in _HEADER_READERS:
                raise ValueError(f"version {version[0]}.{version[1]} of the format is not supported")
            shape, fortran_order, stored = _HEADER_READERS[version](file)
        except Exception as error:  # numpy lets several classes through for a damaged header
            raise ValueError(
                f"{name} has a damaged .npy header ({error}); write it again with numpy.save"
            ) from error
        if stored.hasobject or any(length < 0 for length in shape):
            raise ValueError(
                f"{name} holds dtype {stored} in shape {shape}, not plain numbers; save it as numbers"
            )
        offset = file.tell()
        _check_length(name, shape, stored, offset, status.st_size)
        array: NDArray[Any]
        if status.st_size == offset:
            array = np.empty(shape, dtype=stored)
        else:
            order: Literal["F", "C"] = "F" if fortran_order else "C"
            array = np.asarray(
                np.memmap(file, dtype=stored, mode="r", offset=offset, shape=shape, order=order)
            )
    return array if dtype is None else _viewed(name, array, dtype)


def _likely_kind(start: bytes) -> str:
    if not start:
        return " (it is empty)"
    if start.startswith(b"PK"):
        return " (it looks like a zip archive, such as .npz or .pt)"
    if start.startswith(b"\x89HDF"):
        return " (it looks like HDF5)"
    return ""


def _check_length(name: str, shape: tuple[int, ...], stored: np.dtype[Any], offset: int, size: int) -> None:
    elements = 1
    for length in shape:
        elements *= length
    expected = offset + elements * stored.itemsize
    if size < expected:
        raise ValueError(
            f"{name} is truncated: shape {shape} of {stored} takes {expected} bytes, the file has {size}; "
            "write or copy it again"
        )
    if size > expected:
        raise ValueError(
            f"{name} has {size - expected} bytes after its array of shape {shape}: perhaps several arrays were saved "
            "to one file; save one array a file"
        )


def _viewed(name: str, array: NDArray[Any], dtype: str) -> NDArray[Any]:
    if dtype != "bfloat16":
        raise ValueError(f"cannot read a .npy file as {dtype}; expected bfloat16")
    if array.dtype.itemsize != 2 or array.dtype.kind not in "Vu":
        raise ValueError(f"{name} holds {array.dtype}, which is not bfloat16; leave the dtype out")
    try:
        import ml_dtypes
    except ImportError as error:
        raise ValueError("reading bfloat16 needs the package ml_dtypes; pip install ml_dtypes") from error
    return array.view(ml_dtypes.bfloat16)


def row_blocks(
    array: NDArray[Any], axis: int, *, block_bytes: int = BLOCK_BYTES
) -> Iterator[tuple[slice, ...]]:
    """Cut an array into blocks of whole rows, where a row runs along `axis` (not negative).

    Yields one index for each block, a slice for every axis: `array[index]` is a view of about `block_bytes` bytes,
    and all of them together hold each row once. The cuts run along the axes with the largest strides, so that a block
    is near to one stretch of the file; where the rows lie side by side (`axis` is not the fastest), a block
    takes at least one memory page of them, though it be larger.
    """
    order = sorted((a for a in range(array.ndim) if a != axis), key=lambda a: -abs(array.strides[a]))
    index = [slice(None)] * array.ndim

    def cut(depth: int, nbytes: int) -> Iterator[tuple[slice, ...]]:
        if depth == len(order) or nbytes <= block_bytes:
            yield tuple(index)
            return
        here = order[depth]
        length = array.shape[here]
        each = nbytes // length
        page = _PAGE_BYTES // max(abs(array.strides[here]), 1)
        step = max(block_bytes // each, page, 1)
        for start in range(0, length, step):
            stop = min(start + step, length)
            index[here] = slice(start, stop)
            yield from cut(depth + 1, each) if step == 1 else iter((tuple(index),))
        index[here] = slice(None)

    if array.size:
        yield from cut(0, array.nbytes)
