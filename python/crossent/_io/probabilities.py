"""The blocks of a source as they are scored: a look at what they hold, and probabilities to log-probabilities."""

from __future__ import annotations

import math
import warnings
from collections.abc import Generator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossent import _core
from crossent._arguments import Values
from crossent._exceptions import LikelyMistakeWarning
from crossent._io.source import Source
from crossent.blocks import Block


def scored_as(source: Source) -> Values:
    """Return what the numbers of `log_blocks` are for the functions that score them."""
    return "logits" if source.values == "logits" else "log_probs"


def log_blocks(source: Source, memory: int, start: int = 0) -> Generator[Block, None, None]:
    """Yield the blocks of a source with probabilities turned into their logarithms; other values as they are.

    Warns where the first rows look like something else than what they are read as.
    """
    if source.values == "probs":
        yield from _logarithms(source, memory, start)
        return
    first = True
    for block in source.row_blocks(memory, start):
        if first and source.targets is None:  # llama.cpp's files say themselves what they hold
            _look(source, block)
        first = False
        yield block


def _look(source: Source, block: Block) -> None:
    if source.classes == 1:
        told = (
            "there is one class only, and its probability is always 1; is the class axis right (--axis)? for yes or no "
            "save two columns, 0 and the logit"
        )
        warnings.warn(f"{source.name}: {told}", LikelyMistakeWarning, stacklevel=4)
        return
    found, has_positive = _core.likely_values(block.values, "logits")
    if found != "probabilities" and (source.values == "logits" or not has_positive):
        return
    what = "log-probabilities" if source.values == "log-probs" else "logits"
    if found == "probabilities":
        told = (
            f"the rows look like probabilities (from 0 to 1, adding up to 1), and are read as {what}; for "
            "probabilities pass --values probs"
        )
    else:
        told = (
            "the rows hold positive numbers, and log-probabilities have none; for logits pass --values logits"
        )
    warnings.warn(f"{source.name}: {told}", LikelyMistakeWarning, stacklevel=4)


def _logarithms(source: Source, memory: int, start: int) -> Generator[Block, None, None]:
    told = False
    for block in source.row_blocks(memory // 3, start):
        # The logarithms lie in memory in the order of the rows in the file.
        order = axes_in_memory(block.values)
        rows = block.values.transpose(*order, -1)
        logs, (number, total) = _core.log_of_probabilities(rows, None, -100, None, -1, "logits")
        if number is not None:
            row, column, value = number
            raise ValueError(
                f"{source.name}: row {_row(block, rows, order, row)} has {value:g} for class {column}, which is no "
                f"probability; {_cause(source, block, value)}"
            )
        if total is not None and not told:
            row, value = total
            warnings.warn(
                f"{source.name}: the probabilities of row {_row(block, rows, order, row)} add up to "
                f"{value:g}, not 1; a column may be missing, or one too many be taken for a class",
                LikelyMistakeWarning,
                stacklevel=3,
            )
            told = True
        yield replace(block, values=logs.transpose(np.argsort([*order, len(order)])))


def axes_in_memory(values: NDArray[Any]) -> list[int]:
    """List the axes of the rows of a block, that along which neighbours lie farthest from each other first."""
    return sorted(range(values.ndim - 1), key=lambda axis: -abs(values.strides[axis]))


def _cause(source: Source, block: Block, value: float) -> str:
    """Explain why a number may be no probability, and the fix."""
    if math.isnan(value):
        return "its row cannot be scored: leave it out of the file, or find out why the model gave none"
    improper = ~((block.values >= 0) & (block.values <= _core.MOST_PROBABILITY))
    return source.likely_cause(block.values, improper)


def _row(block: Block, rows: NDArray[Any], order: list[int], number: int) -> str:
    """Name a row by its place in the array of targets."""
    place = [0] * len(order)
    for axis, at in zip(order, np.unravel_index(number, rows.shape[:-1]), strict=True):
        place[axis] = int(at) + block.index[axis].start
    return ", ".join(map(str, place))
