"""Probabilities to log-probabilities, block by block, with a look at whether they are probabilities at all."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from dataclasses import replace

import numpy as np

from crossent.exceptions import LikelyMistakeWarning
from crossent.io.source import Block, Source

# How far above 1 a probability may be for rounding, and how far its row's sum from 1 before it is told.
_ROUNDING = 2.0**-8
_SUM = 0.02


def log_blocks(source: Source, memory: int, start: int = 0) -> Generator[Block, None, None]:
    """Give the blocks of a source with probabilities turned into their logarithms; other values as they are."""
    if source.values != "probs":
        yield from source.blocks(memory, start)
        return
    told = False
    for block in source.blocks(memory // 3, start):
        values = block.values
        if values.dtype not in (np.float32, np.float64):
            values = values.astype(np.float32)
        wrong = (values < 0) | (values > 1 + _ROUNDING)
        if wrong.any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise ValueError(
                f"{source.name}: row {_row(source, block, place)} has {values[place]:g} for class "
                f"{place[source.axis]}, which is no probability; {source.likely_cause(values, wrong)}"
            )
        sums = values.sum(axis=source.axis, keepdims=True, dtype=np.float64)
        off = np.abs(sums - 1) > _SUM
        if off.any() and not told:
            place = tuple(int(i) for i in np.argwhere(off)[0])
            warnings.warn(
                f"{source.name}: the probabilities of row {_row(source, block, place)} add up to "
                f"{sums[place]:g}, not 1; a column may be missing, or one too many be taken for a class",
                LikelyMistakeWarning,
                stacklevel=2,
            )
            told = True
        with np.errstate(divide="ignore"):
            yield replace(block, values=np.log(values))


def _row(source: Source, block: Block, place: tuple[int, ...]) -> str:
    inside = place[: source.axis] + place[source.axis + 1 :]
    return ", ".join(str(i + s.start) for i, s in zip(inside, block.index, strict=True))
