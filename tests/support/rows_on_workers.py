"""Logits that the processes of a cluster make themselves: a module of their own, which they import quickly."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

ROWS, BLOCK, CLASSES = 1200, 30, 50


def rows_at(start: int) -> Array:
    """The block of rows from `start` on."""
    return (np.random.default_rng(start).normal(size=(BLOCK, CLASSES)) * 2).astype(np.float32)


def logits_of_block(start: Array, pause: float = 0.0) -> Array:
    """The block whose start is given, after a pause."""
    time.sleep(pause)
    return rows_at(int(start[0, 0]))
