"""Rows of logits, log-probabilities or probabilities: a check that they look like it, and logarithms in parts."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossent import _core
from crossent._arguments import Values
from crossent._exceptions import LikelyMistakeWarning
from crossent._interop import ArrayInput, as_array

# Numbers in a part of an array, whose logarithms are taken at once: 8 MiB of float64.
_PART = 1 << 20


def look(
    rows: ArrayInput,
    target: ArrayInput | None,
    ignore_index: int,
    where: ArrayInput | None,
    axis: int,
    values: Values,
    mistakes: list[str],
    name: str = "logits",
) -> None:
    """Add a text to `mistakes` where the first rows look like something other than `values`."""
    if values == "probs":
        return  # Every probability is checked.
    log_probs = values == "log_probs"
    found = _core.likely_mistake(rows, target, ignore_index, where, axis, log_probs, name)
    if found == "one class":
        mistakes.append(
            f"{name} has one class only, and its probability is always 1; is the class axis right (axis=)?"
        )
    elif found == "positive":
        mistakes.append(
            f'{name} holds positive numbers, and log-probabilities have none; for logits pass values="logits"'
        )
    elif found is not None:
        what = "log-probabilities" if log_probs else "logits"
        mistakes.append(
            f"{name} looks like probabilities (from 0 to 1, rows summing to 1), and is read as {what}; for "
            'probabilities pass values="probs"'
        )


def tell(mistakes: Sequence[str], stacklevel: int = 3) -> None:
    """Warn of likely mistakes, at the line that called the public function that calls this one."""
    for mistake in mistakes:
        warnings.warn(mistake, LikelyMistakeWarning, stacklevel=stacklevel)


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of an array, with their classes along the last axis, their targets and their mask."""

    index: tuple[slice, ...]
    """The place of the part among the rows."""

    rows: NDArray[Any]
    target: NDArray[Any] | None
    where: NDArray[Any] | None


def parts(
    rows: NDArray[Any], target: ArrayInput | None, where: ArrayInput | None, axis: int
) -> Iterator[Part]:
    """Cut an array into parts of about a million numbers, in the order of its rows.

    The index of a part has a slice for each axis of the rows. There is at least one part.
    """
    rows = np.moveaxis(rows, axis, -1)
    beside = None if target is None else as_array(target, "target")
    mask = None if where is None else as_array(where, "where")
    for index in _cuts(rows.shape[:-1], max(_PART // max(rows.shape[-1], 1), 1)):
        at: Any = (*index, ...)  # with the ellipsis, an array without axes gives an array and no scalar
        yield Part(
            index, rows[at], None if beside is None else beside[at], None if mask is None else mask[at]
        )


def _cuts(shape: tuple[int, ...], most: int) -> Iterator[tuple[slice, ...]]:
    """Cut an array into parts of about `most` elements that follow each other in C order."""
    inner = math.prod(shape[1:])
    if not shape or inner * shape[0] <= most:
        yield (slice(None),) * len(shape)
    elif len(shape) == 1 or inner <= most:
        step = max(most // inner, 1)
        for start in range(0, shape[0], step):
            yield (slice(start, start + step), *(slice(None),) * (len(shape) - 1))
    else:
        for start in range(shape[0]):
            for rest in _cuts(shape[1:], most):
                yield (slice(start, start + 1), *rest)


def log_parts(
    probabilities: ArrayInput,
    target: ArrayInput | None,
    ignore_index: int,
    where: ArrayInput | None,
    axis: int,
    mistakes: list[str],
    name: str = "logits",
) -> Iterator[Part]:
    """Yield the logarithms of probabilities in parts, as float64; those of ignored rows are 0.

    All targets are checked before the first part, and the probabilities of a part before it is yielded.
    """
    rows = as_array(probabilities, name)
    _core.check_targets(rows, target, ignore_index, where, axis, name)
    for part in parts(rows, target, where, axis):
        yield replace(part, rows=_logarithms(part, ignore_index, mistakes, name))


def _logarithms(part: Part, ignore_index: int, mistakes: list[str], name: str) -> NDArray[np.float64]:
    """Return the logarithms of a part, or raise for the first number that is no probability."""
    logs, (number, total) = _core.log_of_probabilities(
        part.rows, part.target, ignore_index, part.where, -1, name
    )
    if number is not None:
        row, column, value = number
        raise ValueError(
            f"{name} holds a number that is no probability: got {value:g} for class {column} of row "
            f'[{_place(part, row)}], expected 0 to 1; for logits pass values="logits", for log-probabilities '
            'values="log_probs"'
        )
    if total is not None and not mistakes:
        row, value = total
        mistakes.append(
            f"the probabilities of row [{_place(part, row)}] of {name} add up to {value:g}, not 1; is a class "
            "missing?"
        )
    return logs


def _place(part: Part, row: int) -> str:
    """Name a row of a part by its place among all rows."""
    inside = np.unravel_index(row, part.rows.shape[:-1])
    return ", ".join(str(int(i) + (cut.start or 0)) for i, cut in zip(inside, part.index, strict=True))
