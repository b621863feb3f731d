"""Rows to sixty digits, by mpmath: the truth that the accuracy tests measure against. Finite maxima only."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import mpmath
import numpy as np

from arrays import Array

DIGITS = 60


def _split(row: Array) -> tuple[mpmath.mpf, mpmath.mpf]:
    """The largest logit, and the sum of exp(x - largest) over all the others."""
    return _split_bytes(np.asarray(row).astype(np.float64).tobytes())


@functools.lru_cache(maxsize=64)
def _split_bytes(row: bytes) -> tuple[mpmath.mpf, mpmath.mpf]:
    values, counts = np.unique(np.frombuffer(row), return_counts=True)  # equal logits are summed at once
    largest = mpmath.mpf(float(values[-1]))
    rest = mpmath.mpf(int(counts[-1]) - 1)
    for value, count in zip(values[:-1], counts[:-1], strict=True):
        rest += int(count) * mpmath.exp(mpmath.mpf(float(value)) - largest)
    return largest, rest


def log_softmax(row: Array, at: Iterable[int]) -> list[mpmath.mpf]:
    """log softmax(row)[i] for each i of `at`."""
    with mpmath.workdps(DIGITS):
        largest, rest = _split(row)
        return [(mpmath.mpf(float(row[i])) - largest) - mpmath.log1p(rest) for i in at]


def softmax(row: Array, at: Iterable[int]) -> list[mpmath.mpf]:
    """softmax(row)[i] for each i of `at`."""
    with mpmath.workdps(DIGITS):
        largest, rest = _split(row)
        return [mpmath.exp(mpmath.mpf(float(row[i])) - largest) / (1 + rest) for i in at]


def logsumexp(row: Array) -> mpmath.mpf:
    with mpmath.workdps(DIGITS):
        largest, rest = _split(row)
        return largest + mpmath.log1p(rest)


def log_sigmoid(x: float) -> mpmath.mpf:
    with mpmath.workdps(DIGITS):
        return -mpmath.log1p(mpmath.exp(-mpmath.mpf(float(x))))
