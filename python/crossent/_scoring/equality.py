"""When two results are equal: where all of their numbers are, and nan is nan."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any


class Result:
    """The base of frozen dataclasses of numbers, some of which are nan where there is nothing to compute.

    Python takes one nan for equal to another only where both are the same object: results that come from another
    process, or that are computed twice, would differ.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(map(_are_equal, _values(self), _values(other)))

    def __hash__(self) -> int:
        return hash(tuple(map(_without_nan, _values(self))))


def _values(result: Any) -> list[Any]:
    return [getattr(result, field.name) for field in fields(result)]


def _are_equal(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_are_equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_are_equal(one[key], other[key]) for key in one)
    return bool(one == other)


def _without_nan(value: Any) -> Any:
    """Return a value with the same hash for every nan."""
    if isinstance(value, float) and math.isnan(value):
        return None
    return tuple(map(_without_nan, value)) if isinstance(value, tuple) else value
