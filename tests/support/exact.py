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


@functools.lru_cache(maxsize=2048)
def _split_bytes(row: bytes) -> tuple[mpmath.mpf, mpmath.mpf]:
    values, counts = np.unique(np.frombuffer(row), return_counts=True)  # equal logits are summed at once
    largest = mpmath.mpf(float(values[-1]))
    rest = mpmath.mpf(int(counts[-1]) - 1)
    for value, count in zip(values[:-1], counts[:-1], strict=True):
        rest += int(count) * mpmath.exp(mpmath.mpf(float(value)) - largest)
    return largest, rest


_exp = functools.lru_cache(maxsize=65536)(mpmath.exp)
_log1p = functools.lru_cache(maxsize=2048)(mpmath.log1p)


def log_softmax(row: Array, at: Iterable[int]) -> list[mpmath.mpf]:
    """log softmax(row)[i] for each i of `at`."""
    with mpmath.workdps(DIGITS):
        largest, rest = _split(row)
        log1p_rest = _log1p(rest)
        return [(mpmath.mpf(float(row[i])) - largest) - log1p_rest for i in at]


def softmax(row: Array, at: Iterable[int]) -> list[mpmath.mpf]:
    """softmax(row)[i] for each i of `at`."""
    with mpmath.workdps(DIGITS):
        largest, rest = _split(row)
        return [_exp(mpmath.mpf(float(row[i])) - largest) / (1 + rest) for i in at]


def miss(row: Array, i: int) -> mpmath.mpf:
    """1 - softmax(row)[i]."""
    with mpmath.workdps(DIGITS):
        largest, rest = _split(row)
        at = mpmath.mpf(float(row[i]))
        return rest / (1 + rest) if at == largest else 1 - _exp(at - largest) / (1 + rest)


def logsumexp(row: Array) -> mpmath.mpf:
    with mpmath.workdps(DIGITS):
        largest, rest = _split(row)
        return largest + _log1p(rest)


def log_sigmoid(x: float) -> mpmath.mpf:
    with mpmath.workdps(DIGITS):
        return -mpmath.log1p(mpmath.exp(-mpmath.mpf(float(x))))
