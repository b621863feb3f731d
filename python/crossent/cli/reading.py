"""Opening files together with their targets, and checking these before the long read begins."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossent.cli.output import DataError
from crossent.io import BLOCK_BYTES, OptionError, Source, TargetArray, open_targets


def open_checked_targets(source: Source, options: argparse.Namespace) -> TargetArray | None:
    """Open the targets and check their shape and values; None where they come with the blocks."""
    if options.targets is None:
        if not source.has_targets and source.targets is None:
            raise OptionError(f"{source.name} holds no targets; give a file of class numbers after it")
        if source.targets is not None:
            _check_targets(source.targets, source, source.name, options.ignore_index)
        return source.targets
    target = open_targets(options.targets, dtype=options.target_dtype)
    if source.row_shape == (1,) and target.shape == () and isinstance(target, np.ndarray):
        target = target.reshape(1)
    expected = source.row_shape
    if len(target.shape) != len(expected) or any(
        length not in (None, own) for length, own in zip(expected, target.shape, strict=True)
    ):
        shape = source.shape
        fitting = [a for a in range(len(shape)) if _without(shape, a) == target.shape]
        fix = (
            f"with --axis {fitting[0]} they would fit"
            if fitting
            else "check that both come from the same run"
        )
        raise DataError(
            f"{options.targets} has shape {target.shape}; expected {expected}, the shape {shape} of "
            f"{options.logits} less the class axis {source.axis}; {fix}"
        )
    _check_targets(target, source, options.targets, options.ignore_index)
    return target


def _without(shape: tuple[Any, ...], axis: int) -> tuple[Any, ...]:
    return shape[:axis] + shape[axis + 1 :]


def _check_targets(target: TargetArray, source: Source, name: str, ignore_index: int) -> None:
    """Raise for the first target that names no class, before the long read of the logits begins."""
    length = target.shape[0]
    step = max(1, BLOCK_BYTES * length // max(target.size * target.dtype.itemsize, 1))
    for start in range(0, length, step):
        check_block(target[(slice(start, start + step),)], start, source.classes, name, ignore_index)


def check_block(block: NDArray[Any], start: int, classes: int, name: str, ignored: int) -> None:
    """Raise for the first target of a block that names no class; `start` positions of its first axis come before."""
    if block.size == 0 or (block.min() >= 0 and block.max() < classes):
        return
    wrong = ((block < 0) | (block >= classes)) & (block != ignored)
    if wrong.any():
        first, *rest = (int(i) for i in np.unravel_index(int(wrong.argmax()), wrong.shape))
        value = int(block[(first, *rest)])
        place = ", ".join(map(str, (start + first, *rest)))
        raise DataError(
            f"{name}: target[{place}] is {value}, but the logits have {classes} classes "
            f"(0 to {classes - 1}) and the ignore index is {ignored}; likely a vocabulary of another size or a "
            f"padding id; to leave such rows out pass --ignore-index {value}"
        )
