"""From what the user writes to a source: patterns, names of arrays in files, and the kind of each file."""

from __future__ import annotations

import contextlib
import functools
import glob
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from crossent._interop import float_name
from crossent._io.arrays import ArraySource, Pieces, Shards
from crossent._io.columns import Asked
from crossent._io.csv_table import CsvSource
from crossent._io.kinds import START_BYTES, foreign, foreign_text, is_text, not_of_kind, tells_kind
from crossent._io.llama import MAGIC, LlamaSource, open_llama
from crossent._io.npy import find_npy, is_untyped
from crossent._io.npz import Archive
from crossent._io.parquet_table import ParquetSource
from crossent._io.raw import (
    RAW_DTYPES,
    RAW_TARGET_DTYPES,
    find_raw_logits,
    find_raw_targets,
    suffix_dtype,
)
from crossent._io.source import (
    OptionError,
    Source,
    Stored,
    TargetArray,
    UnreadableError,
    check_regular,
    dtype_text,
    open_regular,
)
from crossent._io.table import TableOptions, TableSource, take_columns
from crossent._io.tensors import Tensors

__all__ = ["RAW_DTYPES", "RAW_TARGET_DTYPES", "open_logits", "open_targets"]

_SUFFIXES = {
    ".npy": "npy", ".npz": "npz", ".safetensors": "safetensors", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet",
    ".pq": "parquet",
}  # fmt: skip
_STARTS = {b"\x93NUMPY": "npy", b"PK\x03\x04": "npz", MAGIC: "llama", b"PAR1": "parquet"}

# Class numbers that take no more than this together are read at once.
_FEW_BYTES = 8 << 20
# What is known as text by its bytes alone has as many as this.
_TEXT_BYTES = 32


@dataclass(frozen=True)
class LogitsOptions:
    """What the user says about files of logits."""

    dtype: str | None = None
    classes: int | None = None
    values: str | None = None
    axis: int = -1
    label: str | None = None
    columns: str | None = None
    strip_prefix: str | None = None
    like: Source | None = None
    labels: bool = True
    ignored: int | None = None

    def table(self) -> TableOptions:
        """Give those about tables."""
        return TableOptions(
            Asked(self.label, self.columns, self.strip_prefix, self.ignored), self.like, self.labels
        )


def open_logits(
    name: str,
    *,
    dtype: str | None = None,
    classes: int | None = None,
    values: str | None = None,
    axis: int = -1,
    label: str | None = None,
    columns: str | None = None,
    strip_prefix: str | None = None,
    like: Source | None = None,
    labels: bool = True,
    ignored: int | None = None,
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
    strip_prefix
        For tables: what the columns of the classes begin with, and labels do not.
    like
        For tables: rows that these are compared with; the classes are put into the order of theirs, by their names.
    labels
        For tables: whether the labels are read; false where the targets are in another file.
    ignored
        For tables: the label of rows to leave out, where it is not negative.

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
    options = LogitsOptions(dtype, classes, values, axis, label, columns, strip_prefix, like, labels, ignored)
    sources = [_open_one(path, key, options) for path, key in paths_of(name)]
    take_columns([source for source in sources if isinstance(source, TableSource)], options.table())
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
        The class numbers: in memory where they are few, else read from the file as they are asked for.

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
        return _few_in_memory(found)[0]
    first = found[0]
    for other in found:
        if other.ndim == 0 or (other.shape[1:], other.dtype) != (first.shape[1:], first.dtype):
            raise ValueError(
                f"{other.name} has shape {other.shape} of {other.dtype}, but {first.name} has {first.shape} of "
                f"{first.dtype}; files that are read as one array have one dtype, and differ in their first length; "
                "make the pattern narrower"
            )
    return Pieces(_few_in_memory(found))


def _few_in_memory(found: list[Stored]) -> list[TargetArray]:
    """Read class numbers, as far as they are few together."""
    left, arrays = _FEW_BYTES, list[TargetArray]()
    for stored in found:
        few = stored.nbytes <= left
        left -= stored.nbytes if few else 0
        arrays.append(stored.load() if few else stored)
    return arrays


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
    """Tell the kind of a file by its name, else by its first bytes; kinds that are not read are told in an error."""
    check_regular(path)
    known = _SUFFIXES.get(Path(path).suffix.lower())
    if known in ("csv", "parquet"):
        _check_table(path, known)
    if known is not None:
        return known
    start = _start_of(path)
    for magic, kind in _STARTS.items():
        if start.startswith(magic):
            return kind
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 27:
        return "safetensors"
    other = foreign(path, start) if suffix_dtype(path) is None else None
    if other is not None:
        raise ValueError(f"{path} is {foreign_text(path, other)}")
    return "raw"


def _check_table(path: str, kind: str) -> None:
    """Raise for a file that is no table, whatever its name."""
    start = _start_of(path)
    if kind == "parquet":
        wrong, what, fix = not start.startswith(b"PAR1"), "a Parquet file", "write it with pyarrow or pandas"
    else:
        # The first words of a table may be those that other files begin with.
        wrong = not is_text(start) or start.startswith((b"<", b"version https://git-lfs"))
        what, fix = "a CSV file", "write it as text in UTF-8"
    if wrong and tells_kind(start):
        raise ValueError(not_of_kind(path, what, start, fix))


def _start_of(path: str) -> bytes:
    file, _ = open_regular(path)
    with file:
        return file.read(START_BYTES)


# Opening one file


def _open_one(path: str, key: str | None, options: LogitsOptions) -> Source:
    kind = kind_of(path)
    if kind in ("csv", "parquet"):
        _refuse(path, key, {"--dtype": options.dtype})
        table = CsvSource if kind == "csv" else ParquetSource
        source: TableSource = table(path, options.values or "probs")
        if options.axis not in (-1, 1):
            raise OptionError(f"{path} is a table; leave --axis out")
        return source
    named = {"--label": options.label, "--columns": options.columns, "--strip-prefix": options.strip_prefix}
    _refuse(path, None, named)
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
    if kind == "npz":
        archive = Archive(path)
        untyped = floats and _untyped(dtype) == "bfloat16"
        chosen = _choose(archive, key, floats=floats, untyped=untyped)
        return archive.find(chosen, dtype=_untyped(dtype))
    if kind == "safetensors":
        tensors = Tensors(path)
        chosen = _choose(tensors, key, floats=floats)
        _refuse(path, None, {"--dtype" if floats else "--target-dtype": dtype})
        return tensors.find(chosen)
    _refuse(path, key, {})
    if kind == "npy":
        return find_npy(path, dtype=_untyped(dtype))
    _check_raw(
        path, floats=floats, told=not (classes is None and dtype is None and suffix_dtype(path) is None)
    )
    return find_raw_logits(path, dtype, classes) if floats else find_raw_targets(path, dtype)


def _named(path: str, key: str) -> str:
    return f"{path}:{key}"


def _untyped(dtype: str | None) -> str | None:
    """Give the dtype for elements without a type, as `find_npy` names it."""
    return "bfloat16" if dtype == "bf16" else dtype


def _check_raw(path: str, *, floats: bool, told: bool) -> None:
    """Raise for what cannot be raw numbers, whether or not options say that it is."""
    start = _start_of(path)
    if not start and not told:
        raise ValueError(f"{path} is not a file that can be read (it is empty); write it with numpy.save")
    # Each byte of text is one of a hundred: so many numbers are not all of these by chance.
    if is_text(start) and len(start) >= _TEXT_BYTES and (floats or not told):
        name, dtype = ("logits", "float32") if floats else ("targets", "int64")
        raise OptionError(
            f"{path} is of no kind that its name or its first bytes tell, and it is text, not raw numbers; give a "
            "table, whose first line names its columns, a name that ends with .csv; save other text with "
            f"numpy.save('{name}.npy', numpy.loadtxt({path!r}, '{dtype}'))"
        )


def _choose(holder: Archive | Tensors, key: str | None, *, floats: bool, untyped: bool = False) -> str:
    """Choose an array of a file: the one named, or the only one that fits among those that can be read."""
    path, names = holder.path, holder.names
    if key is not None:
        return _known_key(path, names, key)
    if len(names) == 1:
        return names[0]
    fitting, unreadable = [], []
    for name in names:
        try:
            dtype = holder.find(name).dtype
        except UnreadableError as error:
            unreadable.append(error)
            continue
        if (is_floating(dtype) or (untyped and is_untyped(dtype))) if floats else dtype.kind in "iu":
            fitting.append(name)
    if len(fitting) == 1:
        return fitting[0]
    what = "of floating numbers" if floats else "of integers"
    if unreadable and not fitting:
        raise ValueError(f"{path} has no array {what} that can be read: {unreadable[0]}")
    raise OptionError(
        f"{path} has {len(fitting) or 'no'} arrays {what} ({_listed(fitting or names) or 'it is empty'}); name "
        f"the one to read, as in {_named(path, (fitting or names or ['KEY'])[0])}"
    )


def _known_key(path: str, names: list[str], key: str) -> str:
    """Check that there is an array of a name; that of an archive's member may be given whole."""
    if key in names:
        return key
    short = key.removesuffix(".npy")
    if short in names:
        return short
    raise OptionError(f"{path} has no array {key!r}; it has {_listed(names) or 'none'}")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def is_floating(dtype: np.dtype[Any]) -> bool:
    """Whether logits can have this dtype."""
    return float_name(dtype) is not None


def _check_logits(stored: Stored) -> None:
    dtype = stored.dtype
    if is_untyped(dtype):
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
            f"{stored.name} holds {dtype_text(dtype)}; expected logits of float16, float32, float64 or bfloat16; {fix}"
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
            f"{stored.name} holds {dtype_text(stored.dtype)}; expected integer class numbers; if all of them are "
            "whole numbers, save them as int64"
        )
    return stored


def integers_in(name: str, shape: tuple[int | None, ...]) -> tuple[str, list[str]]:
    """Name the arrays of integers that lie beside logits in an `.npz` or `.safetensors` file.

    Where some have the shape of the rows, these alone; of several files the first length may be another.

    Parameters
    ----------
    name
        The file, FILE:KEY, or a pattern, of whose files the first is looked at.
    shape
        The shape of the rows.

    Returns
    -------
    tuple of str and list of str
        The file or the pattern without a key; and the keys, none for other kinds of files.
    """
    paths = paths_of(name)
    path, key = paths[0]
    file = name if key is None else name[: -len(key) - 1]
    kind = kind_of(path)
    if kind not in ("npz", "safetensors"):
        return file, []
    holder = Archive(path) if kind == "npz" else Tensors(path)
    found: dict[str, tuple[int, ...]] = {}
    for each in holder.names:
        with contextlib.suppress(ValueError):  # an array that cannot be read is none of them
            stored = holder.find(each)
            if each != key and stored.dtype.kind in "iu":
                found[each] = stored.shape
    same = slice(None if len(paths) == 1 else 1, None)
    fitting = [each for each, own in found.items() if len(own) == len(shape) and own[same] == shape[same]]
    return file, fitting or list(found)


def stored_in(path: str, key: str | None, options: LogitsOptions) -> list[Source | Stored | UnreadableError]:
    """Open everything that a file holds, or what `key` names, whatever it is. Options count where they apply.

    Of several arrays, those that cannot be read are given as the errors that say why.
    """
    kind = kind_of(path)
    if kind in ("npz", "safetensors"):
        holder = Archive(path) if kind == "npz" else Tensors(path)
        if key is not None:
            return [_typed(functools.partial(holder.find, _known_key(path, holder.names, key)), options)]
        return [_found(functools.partial(holder.find, each), options) for each in holder.names]
    _refuse(path, key, {})
    if kind == "npy":
        return [_typed(functools.partial(find_npy, path), options)]
    if kind == "llama":
        return [LlamaSource(path)]
    if kind in ("csv", "parquet"):
        source = _open_one(path, None, replace(options, dtype=None, axis=-1))
        assert isinstance(source, TableSource)
        take_columns([source], options.table())
        return [source]
    if options.dtype is None and suffix_dtype(path) in RAW_TARGET_DTYPES:
        return [find_raw_targets(path, None)]
    return [find_stored(path, None, options.dtype, options.classes, floats=True)]


def _found(find: Callable[..., Stored], options: LogitsOptions) -> Stored | UnreadableError:
    try:
        return _typed(find, options)
    except UnreadableError as error:
        return error


def _typed(find: Callable[..., Stored], options: LogitsOptions) -> Stored:
    """Find an array, and again as bfloat16 if its elements have no type and the options say that they are that."""
    stored = find()
    untyped = is_untyped(stored.dtype) and _untyped(options.dtype) == "bfloat16"
    return find(dtype="bfloat16") if untyped else stored
