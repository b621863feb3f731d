"""From what the user writes to rows and targets: patterns, and the names of arrays in files."""

from __future__ import annotations

import glob
import os
import re

from crossent._io.arrays import Pieces, Shards, check_pieces
from crossent._io.format import LogitsOptions
from crossent._io.formats import format_of
from crossent._io.source import OptionError, Source, Stored, TargetArray, dtype_text

# Class indices that take no more than this together are read at once.
_FEW_BYTES = 8 << 20


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
        For raw numbers, their dtype (`f32`); where a file has no name for it, "bfloat16" to read elements as that.
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
    opened = [(format_of(path), path, key) for path, key in paths_of(name)]
    sources = [format.open_logits(path, key, options) for format, path, key in opened]
    for format in dict.fromkeys(format for format, _, _ in opened):
        format.settle(
            [source for (own, _, _), source in zip(opened, sources, strict=True) if own is format], options
        )
    source = sources[0] if len(sources) == 1 else Shards(name, sources)
    if source.classes == 0:
        raise ValueError(f"{name} has no classes: shape {source.shape}, class axis {source.axis}")
    if classes is not None and source.classes != classes:
        raise OptionError(f"{name} has {source.classes} classes, not {classes}; leave --classes out")
    return source


def open_targets(name: str, *, dtype: str | None = None) -> TargetArray:
    """Open a file of class indices, or several by a pattern, as `open_logits` does.

    Parameters
    ----------
    name
        As for `open_logits`.
    dtype
        For raw numbers, their dtype (`i64`).

    Returns
    -------
    TargetArray
        The class indices: in memory where they are few, else read from the file as they are requested.

    Raises
    ------
    OSError
        If a file cannot be opened.
    OptionError
        If a file needs other options; a ValueError.
    ValueError
        If a file is damaged, or holds no class indices.
    """
    found = [format_of(path).open_targets(path, key, dtype) for path, key in paths_of(name)]
    if len(found) == 1:
        return _few_in_memory(found)[0]
    check_pieces(found, 1)
    return Pieces(_few_in_memory(found))


def _few_in_memory(found: list[Stored]) -> list[TargetArray]:
    """Read class indices, as far as they are few together."""
    left, arrays = _FEW_BYTES, list[TargetArray]()
    for stored in found:
        few = stored.nbytes <= left
        left -= stored.nbytes if few else 0
        arrays.append(stored.load() if few else stored)
    return arrays


# Names


def paths_of(name: str) -> list[tuple[str, str | None]]:
    """List the files that a name means, and the array in each, if it names one."""
    for path, key in _split(name):
        if os.path.lexists(path):
            return [(path, key)]
        if glob.has_magic(path):
            found = sorted(glob.glob(path, recursive=True), key=natural)  # noqa: PTH207  a whole path is the pattern
            if found:
                return [(each, key) for each in found]
    if glob.has_magic(name):
        raise ValueError(f"{name} matches no file; check the folder and the pattern")
    return [(name, None)]  # opening it shows what is wrong


def _split(name: str) -> list[tuple[str, str | None]]:
    """List the ways to read a name: as it is, or as FILE:KEY, cut at any of its colons."""
    cuts = [match.start() for match in re.finditer(":", name)]
    return [(name, None), *((name[:at], name[at + 1 :]) for at in cuts if at and at + 1 < len(name))]


def natural(path: str) -> list[tuple[int, str]]:
    """Return a key that sorts numbers in names by their value: logits-2 before logits-10."""
    parts = re.split(r"(\d+)", path)
    return [(int(part), part) if part.isdecimal() else (-1, part) for part in parts]


def integers_in(name: str, shape: tuple[int | None, ...]) -> tuple[str, list[str]]:
    """Name the arrays of integers that lie beside logits in a file of several arrays.

    Where some have the shape of the rows, these alone; of several files the first length may be another.

    Parameters
    ----------
    name
        The file, FILE:KEY, or a pattern, of whose files the first is checked.
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
    beside = format_of(path).beside(path, key)
    found = {
        each: own.shape for each, own in beside.items() if isinstance(own, Stored) and own.dtype.kind in "iu"
    }
    same = slice(None if len(paths) == 1 else 1, None)
    fitting = [each for each, own in found.items() if len(own) == len(shape) and own[same] == shape[same]]
    return file, fitting or list(found)


def others_in(name: str) -> list[str]:
    """Describe the arrays beside logits by their names and dtypes; `name` is as for `integers_in`."""
    path, key = paths_of(name)[0]
    beside = format_of(path).beside(path, key)
    return [
        f"{each} of {dtype_text(own.dtype)}" if isinstance(own, Stored) else f"{each}, which cannot be read"
        for each, own in beside.items()
    ]
