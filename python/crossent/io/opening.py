"""From what the user writes to a source: patterns, names of arrays in files, and the kind of each file."""

from __future__ import annotations

import functools
import glob
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossent.interop import float_name
from crossent.io.arrays import ArraySource, Pieces, Shards
from crossent.io.llama import MAGIC, LlamaSource, open_llama
from crossent.io.npy import find_npy, likely_kind
from crossent.io.npz import find_npz, members
from crossent.io.raw import (
    RAW_DTYPES,
    RAW_TARGET_DTYPES,
    find_raw_logits,
    find_raw_targets,
    suffix_dtype,
)
from crossent.io.source import OptionError, Source, Stored, TargetArray, open_regular
from crossent.io.tables import CsvSource, ParquetSource, TableSource
from crossent.io.tensors import find_tensor, tensors

__all__ = ["RAW_DTYPES", "RAW_TARGET_DTYPES", "open_logits", "open_targets"]

_SUFFIXES = {
    ".npy": "npy", ".npz": "npz", ".safetensors": "safetensors", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet",
    ".pq": "parquet",
}  # fmt: skip
_STARTS = {b"\x93NUMPY": "npy", b"PK\x03\x04": "npz", MAGIC: "llama", b"PAR1": "parquet"}


@dataclass(frozen=True)
class LogitsOptions:
    """What the user says about files of logits."""

    dtype: str | None = None
    classes: int | None = None
    values: str | None = None
    axis: int = -1
    label: str | None = None
    columns: str | None = None


def open_logits(
    name: str,
    *,
    dtype: str | None = None,
    classes: int | None = None,
    values: str | None = None,
    axis: int = -1,
    label: str | None = None,
    columns: str | None = None,
) -> Source:
    """Open a file of logits, of log-probabilities or of probabilities, or several by a pattern.

    Parameters
    ----------
    name
        The file; `FILE:KEY` for one of several arrays in it; or a pattern such as `logits-*.npy`, whose files
        are read one after the other in natural order (2 before 10).
    dtype
        For raw numbers, their dtype (`f32`); for `.npy` and `.npz`, "bfloat16" to read elements without a type as that.
    classes
        For raw numbers, how many make a row; elsewhere, how many there should be.
    values
        What the numbers are, if not what is usual for the kind of file: probabilities in tables, log-probabilities in
        llama.cpp's files, logits in all others.
    axis
        The class axis.
    label, columns
        For tables: the column of labels, and patterns for those of the classes, with commas between them.

    Returns
    -------
    Source
        The rows, of which none is read yet.

    Raises
    ------
    OSError
        If a file cannot be opened.
    OptionError
        If a file needs other options; a ValueError.
    ValueError
        If a file is damaged, or holds what cannot be scored.
    """
    options = LogitsOptions(dtype, classes, values, axis, label, columns)
    sources = [_open_one(path, key, options) for path, key in paths_of(name)]
    source = sources[0] if len(sources) == 1 else Shards(name, sources)
    if source.classes == 0:
        raise ValueError(f"{name} has no classes: shape {source.shape}, class axis {source.axis}")
    if classes is not None and source.classes != classes:
        raise OptionError(f"{name} has {source.classes} classes, not {classes}; leave --classes out")
    return source


def open_targets(name: str, *, dtype: str | None = None) -> TargetArray:
    """Open a file of class numbers, or several by a pattern, as `open_logits` does.

    Parameters
    ----------
    name
        As for `open_logits`.
    dtype
        For raw numbers, their dtype (`i64`).

    Returns
    -------
    TargetArray
        The class numbers: mapped, or decompressed into memory where the file is compressed.

    Raises
    ------
    OSError
        If a file cannot be opened.
    OptionError
        If a file needs other options; a ValueError.
    ValueError
        If a file is damaged, or holds no class numbers.
    """
    found = [_find_targets(path, key, dtype) for path, key in paths_of(name)]
    if len(found) == 1:
        return found[0].array()
    first = found[0]
    for other in found:
        if other.ndim == 0 or (other.shape[1:], other.dtype) != (first.shape[1:], first.dtype):
            raise ValueError(
                f"{other.name} has shape {other.shape} of {other.dtype}, but {first.name} has {first.shape} of "
                f"{first.dtype}; files that are read as one array have one dtype, and differ in their first length; "
                "make the pattern narrower"
            )
    return Pieces([stored.array() for stored in found])


# Names


def paths_of(name: str) -> list[tuple[str, str | None]]:
    """List the files that a name means, and the array in each, if it tells one."""
    for path, key in _split(name):
        if os.path.lexists(path):
            return [(path, key)]
        if glob.has_magic(path):
            found = sorted(glob.glob(path, recursive=True), key=natural)  # noqa: PTH207  a whole path is the pattern
            if found:
                return [(each, key) for each in found]
    if glob.has_magic(name):
        raise ValueError(f"{name} matches no file; check the folder and the pattern")
    return [(name, None)]  # opening it tells what is wrong


def _split(name: str) -> list[tuple[str, str | None]]:
    """List the ways to read a name: as it is, or as FILE:KEY, cut at any of its colons."""
    cuts = [match.start() for match in re.finditer(":", name)]
    return [(name, None), *((name[:at], name[at + 1 :]) for at in cuts if at and at + 1 < len(name))]


def natural(path: str) -> list[tuple[int, str]]:
    """Give a key that sorts numbers in names by their value: logits-2 before logits-10."""
    parts = re.split(r"(\d+)", path)
    return [(int(part), part) if part.isdecimal() else (-1, part) for part in parts]


def kind_of(path: str) -> str:
    """Tell the kind of a file by its name, else by its first bytes."""
    known = _SUFFIXES.get(Path(path).suffix.lower())
    if known is not None:
        return known
    file, _ = open_regular(path)
    with file:
        start = file.read(16)
    for magic, kind in _STARTS.items():
        if start.startswith(magic):
            return kind
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 27:
        return "safetensors"
    return "raw"


# Opening one file


def _open_one(path: str, key: str | None, options: LogitsOptions) -> Source:
    kind = kind_of(path)
    if kind in ("csv", "parquet"):
        _refuse(path, key, {"--dtype": options.dtype})
        table = CsvSource if kind == "csv" else ParquetSource
        source: TableSource = table(path, options.values or "probs", options.label, options.columns)
        if options.axis not in (-1, 1):
            raise OptionError(f"{path} is a table; leave --axis out")
        return source
    _refuse(path, None, {"--label": options.label, "--columns": options.columns})
    if kind == "llama":
        _refuse(path, key, {"--dtype": options.dtype, "--values": options.values})
        return open_llama(path, options.axis)
    stored = find_stored(path, key, options.dtype, options.classes, floats=True)
    _check_logits(stored)
    return ArraySource(stored, options.axis, options.values or "logits")


def _refuse(path: str, key: str | None, options: dict[str, Any]) -> None:
    """Raise for a key or an option that a file has no use for."""
    given = [option for option, value in options.items() if value is not None]
    if given:
        raise OptionError(f"{given[0]} does not apply to {path}; leave it out")
    if key is not None:
        raise OptionError(f"{path} holds no named arrays; leave :{key} out")


def find_stored(
    path: str, key: str | None, dtype: str | None, classes: int | None = None, *, floats: bool
) -> Stored:
    """Find the array in a file that is `key`, or the only one of floating numbers, or of integers."""
    kind = kind_of(path)
    if kind in ("npz", "safetensors"):
        finder: Callable[[str], Stored] = (
            (lambda each: find_npz(_named(path, each), path, each, dtype=None))
            if kind == "npz"
            else (lambda each: find_tensor(_named(path, each), path, each))
        )
        names = members(path) if kind == "npz" else list(tensors(path))
        chosen = _choose(path, names, key, finder, floats=floats)
        if kind == "safetensors":
            _refuse(path, None, {"--dtype" if floats else "--target-dtype": dtype})
            return finder(chosen)
        return find_npz(_named(path, chosen), path, chosen, dtype=_untyped(dtype))
    _refuse(path, key, {})
    if kind == "npy":
        return find_npy(path, dtype=_untyped(dtype))
    if classes is None and dtype is None and suffix_dtype(path) is None:
        _check_known(path)
    return find_raw_logits(path, dtype, classes) if floats else find_raw_targets(path, dtype)


def _named(path: str, key: str) -> str:
    return f"{path}:{key}"


def _untyped(dtype: str | None) -> str | None:
    """Give the dtype for elements without a type, as `find_npy` names it."""
    return "bfloat16" if dtype == "bf16" else dtype


def _check_known(path: str) -> None:
    file, size = open_regular(path)
    with file:
        told = likely_kind(file.read(16))
    if size == 0 or told:
        raise ValueError(f"{path} is not a file that can be read{told}; write it with numpy.save")


def _choose(
    path: str, names: list[str], key: str | None, finder: Callable[[str], Stored], *, floats: bool
) -> str:
    if key is not None:
        return _known_key(path, names, key)
    if len(names) == 1:
        return names[0]
    fitting = [
        name
        for name, stored in ((name, finder(name)) for name in names)
        if (is_floating(stored.dtype) if floats else stored.dtype.kind in "iu")
    ]
    if len(fitting) == 1:
        return fitting[0]
    what = "of floating numbers" if floats else "of integers"
    raise OptionError(
        f"{path} has {len(fitting) or 'no'} arrays {what} ({', '.join(fitting or names) or 'it is empty'}); name "
        f"the one to read, as in {_named(path, (fitting or names or ['KEY'])[0])}"
    )


def _known_key(path: str, names: list[str], key: str) -> str:
    if key not in names:
        raise OptionError(f"{path} has no array {key!r}; it has {', '.join(names) or 'none'}")
    return key


def is_floating(dtype: np.dtype[Any]) -> bool:
    """Whether logits can have this dtype."""
    return float_name(dtype) is not None


def _check_logits(stored: Stored) -> None:
    dtype = stored.dtype
    if dtype.kind == "V" and dtype.itemsize == 2 and not is_floating(dtype):
        raise ValueError(
            f"{stored.name} holds two-byte elements without a type ({dtype}), as numpy.save writes bfloat16; if "
            "that is what they are, pass --dtype bfloat16"
        )
    if not is_floating(dtype):
        fix = (
            "if they are targets, the two files look swapped; else save logits as one of those"
            if dtype.kind in "iu"
            else "save them as one of those"
        )
        raise ValueError(
            f"{stored.name} holds {dtype}; expected logits of float16, float32, float64 or bfloat16; {fix}"
        )
    if stored.ndim == 0:
        raise ValueError(
            f"{stored.name} holds a single number; expected rows of logits, shape (rows, classes)"
        )


def _find_targets(path: str, key: str | None, dtype: str | None) -> Stored:
    kind = kind_of(path)
    if kind in ("llama", "csv", "parquet"):
        raise OptionError(
            f"{path} holds its own targets beside its rows; give it alone to score those, or class numbers as "
            ".npy, .npz, .safetensors or raw numbers"
        )
    stored = find_stored(path, key, dtype, floats=False)
    if stored.dtype.kind not in "iu":
        raise ValueError(
            f"{stored.name} holds {stored.dtype}; expected integer class numbers; save them as int64"
        )
    return stored


def stored_in(path: str, key: str | None, options: LogitsOptions) -> list[Source | Stored]:
    """Open everything that a file holds, or what `key` names, whatever it is. Options count where they apply."""
    kind = kind_of(path)
    if kind in ("npz", "safetensors"):
        names = members(path) if kind == "npz" else list(tensors(path))
        if key is not None:
            names = [_known_key(path, names, key)]
        if kind == "safetensors":
            return [find_tensor(_named(path, each), path, each) for each in names]
        finders = [functools.partial(find_npz, _named(path, each), path, each) for each in names]
        return [_typed(find, options) for find in finders]
    _refuse(path, key, {})
    if kind == "npy":
        return [_typed(functools.partial(find_npy, path), options)]
    if kind == "llama":
        return [LlamaSource(path)]
    if kind in ("csv", "parquet"):
        return [_open_one(path, None, LogitsOptions())]
    if options.dtype is None and suffix_dtype(path) in RAW_TARGET_DTYPES:
        return [find_raw_targets(path, None)]
    return [find_stored(path, None, options.dtype, options.classes, floats=True)]


def _typed(find: Callable[..., Stored], options: LogitsOptions) -> Stored:
    """Find an array, and again as bfloat16 if its elements have no type and the options say that they are that."""
    stored = find()
    untyped = stored.dtype.kind == "V" and stored.dtype.itemsize == 2
    return find(dtype="bfloat16") if untyped and _untyped(options.dtype) == "bfloat16" else stored
