"""The format `.npy`: one array, with a header that holds its shape and dtype."""

from __future__ import annotations

import ast
import os
import re
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from crossent._io.dtypes import as_bfloat16
from crossent._io.format import ArrayFormat, Content, LogitsOptions, refuse, typed, typed_if_untyped
from crossent._io.kinds import START_BYTES, ReadKind, not_of_kind
from crossent._io.mapped import Mapped, check_length
from crossent._io.source import Stored, UnreadableError, check_shape, identity, open_regular

MAGIC = npy.MAGIC_PREFIX

_KIND = ReadKind(
    "a .npy file",
    "give it a name that ends with .npy",
    (MAGIC,),
    (".npy",),
    write="write one array with numpy.save",
)

# By the version of the format, the number of bytes that hold the header's length, and its encoding.
_VERSIONS = {(1, 0): (2, "latin-1"), (2, 0): (4, "latin-1"), (3, 0): (4, "utf-8")}
# A header is evaluated as Python's literals, which takes much memory for long ones: NumPy reads no longer one either.
_MOST_CHARACTERS = 10_000
# It may be padded, so that it can be rewritten in place.
_MOST_BYTES = 1 << 20


class Npy(ArrayFormat):
    """Files of `numpy.save`."""

    name = "npy"
    kind = _KIND

    def find(
        self, path: str, key: str | None, dtype: str | None, classes: int | None = None, *, floats: bool
    ) -> Stored:
        """Find the array of a file."""
        del classes
        refuse(path, key, {} if floats else {"--target-dtype": dtype})
        return typed(find_npy(path), dtype)

    def contents(self, path: str, key: str | None, options: LogitsOptions) -> Sequence[Content]:
        """Find the array of a file."""
        refuse(path, key, {})
        return [typed_if_untyped(find_npy(path), options, alone=True)]


class Readable(Protocol):
    """A file, or a member of an archive."""

    def read(self, count: int, /) -> bytes:
        """Return the next bytes, fewer only at the end."""


class Header(NamedTuple):
    """The content of the header of a `.npy` file."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    length: int
    """How many bytes come before the array."""


def open_npy(path: str | os.PathLike[str], *, dtype: str | None = None) -> NDArray[Any]:
    """Map a `.npy` file into memory, read-only.

    Nothing but the header is read, so the file may be larger than memory.

    Parameters
    ----------
    path
        The file, written by `numpy.save`, version 1, 2 or 3 of the format, C or Fortran order.
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
    array = find_npy(os.fspath(path))
    if dtype is not None:
        array.dtype = as_bfloat16(array.name, array.dtype, dtype)
    return array.mapped()


def find_npy(path: str) -> Mapped:
    """Find the array of a `.npy` file, which is checked but not read."""
    file, size = open_regular(path)
    with file:
        start = file.read(START_BYTES)
        if not start.startswith(MAGIC):
            raise ValueError(not_of_kind(path, _KIND, start))
        file.seek(0)
        header = read_header(file, path)
        array = Mapped(
            path, path, "npy", header.shape, header.dtype,
            offset=header.length, file=identity(file), fortran=header.fortran,
        )  # fmt: skip
    return check_length(array, size)


def read_header(file: Readable, name: str) -> Header:
    """Read the header of a `.npy` file."""
    start = _exactly(file, len(MAGIC) + 2, name)
    if not start.startswith(MAGIC):
        raise _damaged(name, "it does not begin as one")
    version = (start[-2], start[-1])
    if version not in _VERSIONS:
        raise _damaged(
            name, f"it is of version {version[0]}.{version[1]} of the format, expected 1.0, 2.0 or 3.0"
        )
    width, encoding = _VERSIONS[version]
    length = int.from_bytes(_exactly(file, width, name), "little")
    if length > _MOST_BYTES:
        raise _too_long(name, length)
    try:
        text = _exactly(file, length, name).decode(encoding).strip()
    except UnicodeDecodeError as error:
        raise _damaged(name, str(error)) from error
    if len(text) > _MOST_CHARACTERS:
        raise _too_long(name, len(text))
    shape, fortran, dtype = _parsed(text, name)
    _check_plain(name, shape, dtype)
    return Header(shape, fortran, dtype, len(start) + width + length)


def _exactly(file: Readable, count: int, name: str) -> bytes:
    content = b""
    while len(content) < count:
        more = file.read(count - len(content))
        if not more:
            raise _damaged(name, f"it ends after {len(content)} of {count} bytes")
        content += more
    return content


def _parsed(text: str, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the shape, the order and the dtype of a header's text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Python's parser and of NumPy, at damaged headers
        try:
            told = _literal(text)
            descr, fortran, shape = told["descr"], told["fortran_order"], told["shape"]
            if len(told) != 3 or not isinstance(fortran, bool) or not isinstance(shape, tuple):
                raise ValueError("it does not hold a dtype, an order and a shape")
            if not all(isinstance(length, int) and length >= 0 for length in shape):
                raise ValueError(f"no array has the shape {_short(shape)}")
        except Exception as error:  # of the parser, by the damage: half a dozen classes
            raise _damaged(name, _reason(error)) from error
        try:
            dtype = npy.descr_to_dtype(descr)
        except Exception as error:  # NumPy lets several classes through
            raise UnreadableError(
                name,
                f"has a dtype that NumPy does not know here, {_short(descr)}; save it as float32, float64 or integers",
                dtype=descr if isinstance(descr, str) else _short(descr),
                shape=shape,
            ) from error
    return shape, fortran, dtype


def _literal(text: str) -> dict[str, Any]:
    try:
        found = ast.literal_eval(text)
    except SyntaxError:
        found = ast.literal_eval(re.sub(r"(?<=\d)L\b", "", text))  # Python 2 wrote (3L, 4L)
    if not isinstance(found, dict):
        raise ValueError("it is no dict")
    return found


def _check_plain(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise unless the elements are plain ones, in a shape that an array can have."""
    if dtype.hasobject:
        raise UnreadableError(
            name,
            "holds dtype object, which is pickled Python objects and not plain numbers; they are never loaded, since "
            "that can run code; if you trust it, load it in Python with allow_pickle=True, and save it as numbers",
            dtype="object",
            shape=shape,
        )
    if dtype.subdtype is not None:
        raise UnreadableError(
            name,
            f"holds elements that are arrays themselves ({_short(dtype)}); save it as one array of numbers",
            dtype=_short(dtype),
            shape=shape,
        )
    check_shape(name, shape, dtype)


def _damaged(name: str, reason: str) -> UnreadableError:
    return UnreadableError(name, f"has a damaged .npy header ({reason}); write it again with numpy.save")


def _too_long(name: str, length: int) -> UnreadableError:
    return UnreadableError(
        name,
        f"has a .npy header of {length:,} characters; expected at most {_MOST_CHARACTERS:,}, as NumPy reads; only "
        "records of very many fields have so long a one; save each field as an array of its own",
    )


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it does not hold {error}"
    if "<ast." in str(error):
        return "it is not a literal of Python"
    return _short(" ".join(str(error).split()) or type(error).__name__, text=True)


def _short(value: object, *, text: bool = False) -> str:
    shown = str(value) if text else repr(value)
    return shown if len(shown) <= 200 else f"{shown[:200]}..."
