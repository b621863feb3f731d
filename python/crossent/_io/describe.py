"""What is in a file: kind, shape, dtype, first values, and a guess at what they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossent import _core
from crossent._io.arrays import ArraySource
from crossent._io.dtypes import is_floating, is_untyped
from crossent._io.format import Content, LogitsOptions
from crossent._io.formats import format_of
from crossent._io.opening import paths_of
from crossent._io.source import OptionError, Stored, UnreadableError, dtype_text, files_of

_LOOK_BYTES = 4 << 20
_FIRST = 6
_UNSEEN = {
    "guess": "not checked: it is compressed, and each row is spread over all of it",
    "first_values": [],
    "checked_rows": 0,
    "not_finite": 0,
}


def describe(
    name: str,
    *,
    dtype: str | None = None,
    classes: int | None = None,
    axis: int = -1,
    label: str | None = None,
    columns: str | None = None,
    strip_prefix: str | None = None,
) -> list[dict[str, Any]]:
    """Describe the arrays of a file (or of the files that a pattern matches) from their first block.

    Parameters
    ----------
    name
        The file, `FILE:KEY` for one of its arrays, or a pattern.
    dtype, classes
        For raw numbers, their dtype and how many make a row.
    axis
        The class axis.
    label, columns, strip_prefix
        For tables, which columns are what.

    Returns
    -------
    list of dict
        For each array: `name`, `format`, `dtype`, `shape`, `rows`, `classes`, `file_bytes`, `array_bytes`, `guess`,
        `first_values`, `checked_rows`, `not_finite`; for integers `minimum` and `maximum` of what was looked at; for
        tables `columns` and `label`, those taken, and `notes`. An array that cannot be read, beside others in its
        file, has `error`, which says why.

    Raises
    ------
    OSError
        If a file cannot be opened.
    ValueError
        If a file is damaged or of no known kind.
    """
    options = LogitsOptions(dtype, classes, None, axis, label, columns, strip_prefix)
    told = []
    for path, key in paths_of(name):
        found = format_of(path).contents(path, key, options)
        for each in found:
            try:
                told.append(_described(each, path, axis))
            except ValueError as error:
                if len(found) == 1:
                    raise
                told.append(_unreadable(each, error, path))
    return told


def _unreadable(found: Content, error: ValueError, path: str) -> dict[str, Any]:
    """Describe what is known of an array that cannot be read, and why."""
    shape = None if found.shape is None else list(found.shape)
    return {
        "name": found.name,
        "format": format_of(path).name,
        "dtype": None if found.dtype is None else str(found.dtype),
        "shape": shape,
        "rows": None,
        "classes": None,
        "file_bytes": sum(files_of(path).values()),
        "array_bytes": None,
        "guess": f"cannot be read: it {str(error).removeprefix(f'{found.name} ')}",
        "first_values": [],
        "checked_rows": 0,
        "not_finite": 0,
        "error": str(error),
    }


def _described(found: Content, path: str, axis: int) -> dict[str, Any]:
    if isinstance(found, UnreadableError):
        return _unreadable(found, found, path)
    told: dict[str, Any] = {"name": found.name, "format": found.format, "dtype": str(found.dtype)}
    told |= {"shape": list(found.shape), "rows": None, "classes": None}
    told |= {"file_bytes": sum(files_of(path).values()), "array_bytes": None}
    is_array = isinstance(found, Stored)
    if isinstance(found, Stored):
        told["array_bytes"] = found.nbytes
        if is_floating(found.dtype) and found.ndim:
            found = ArraySource(found, axis)
        else:
            return told | _plain(found)
    told |= {"rows": found.rows, "classes": found.classes}
    if found.columns:
        told |= {"columns": list(found.columns), "label": found.label, "notes": list(found.notes)}
    try:
        block = next(found.row_blocks(_LOOK_BYTES), None)
    except OptionError:  # more memory would help, and a look is not worth it
        return told | _UNSEEN
    if block is None:
        return told | {"guess": "no rows", "first_values": [], "checked_rows": 0, "not_finite": 0}
    told |= _looked_at(block.values.reshape(-1, found.classes))
    if is_array:
        return told
    beside = "with their labels" if found.has_targets or found.targets is not None else "without labels"
    return told | {"guess": f"{told['guess']}, {beside}"}


def _plain(stored: Stored) -> dict[str, Any]:
    """Integers, numbers without an axis, or elements that are no numbers."""
    told: dict[str, Any] = {"guess": "no numbers", "first_values": [], "checked_rows": 0, "not_finite": 0}
    if stored.dtype.names is not None:
        return told | {"guess": dtype_text(stored.dtype)}
    if is_untyped(stored.dtype):
        return told | {"guess": "bfloat16 without its name; pass --dtype bfloat16"}
    if stored.dtype.kind not in "iuf":
        return told
    blocks = stored.blocks(None, _LOOK_BYTES) if stored.ndim else iter([((), stored.load())])
    values = next((block for _, block in blocks), None)
    if values is None:
        return told | {"guess": "nothing"}
    values = values.reshape(-1)
    told |= {"first_values": values[:_FIRST].tolist(), "checked_rows": values.size, "guess": "one number"}
    if stored.dtype.kind in "iu":
        least, most = int(values.min()), int(values.max())
        told |= {"minimum": least, "maximum": most}
        if stored.ndim:
            told["guess"] = "class indices" if least >= -100 else "integers"
    return told


def _looked_at(rows: NDArray[Any]) -> dict[str, Any]:
    """Describe rows of floating numbers, with the classes along the last axis."""
    first = [float(value) for value in rows[0, :_FIRST]] if rows.size else []
    finite = np.isfinite(rows).all(axis=1) if rows.size else np.ones(len(rows), bool)
    return {
        "guess": _core.likely_values(rows, "logits")[0],
        "first_values": first,
        "checked_rows": len(rows),
        "not_finite": int(np.count_nonzero(~finite)),
    }
