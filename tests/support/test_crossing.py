"""Fewer combinations than all of them still meet every pair of values."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from crossing import crossed, pairwise

OPTIONS: list[tuple[Sequence[Any], ...]] = [
    (range(3), range(5)),
    ("ab", "cde", "fg"),
    tuple(range(n) for n in (3, 3, 3, 3, 4, 4, 12, 7)),
    tuple(range(2) for _ in range(20)),
    (range(7), range(1), range(2)),
]


def _pairs(rows: Sequence[Sequence[Any]]) -> set[tuple[int, Any, int, Any]]:
    places = itertools.combinations(range(len(rows[0])), 2)
    return {(i, row[i], j, row[j]) for i, j in places for row in rows}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_pair_is_met(options: tuple[Sequence[Any], ...], seed: int) -> None:
    wanted = {
        (i, a, j, b)
        for (i, one), (j, two) in itertools.combinations(enumerate(options), 2)
        for a, b in itertools.product(one, two)
    }
    rows = pairwise(*options, seed=seed)
    assert _pairs(rows) == wanted
    assert all(value in values for row in rows for value, values in zip(row, options, strict=True))
    assert rows == pairwise(*options, seed=seed)


def test_few_combinations_do() -> None:
    assert len(pairwise(range(3), range(5))) == 15
    assert len(pairwise(*OPTIONS[2])) <= 1.3 * 12 * 7  # of 54 432
    assert len(pairwise(*OPTIONS[3])) <= 16  # of a million


def test_the_others_are_new() -> None:
    options = OPTIONS[2]
    few = pairwise(*options, seed=5)
    rows = crossed(*options, more=100, seed=5)
    assert rows[: len(few)] == few
    assert len(set(rows)) == len(rows) == len(few) + 100
    assert rows == crossed(*options, more=100, seed=5)


def test_all_of_them_are_enough() -> None:
    assert sorted(crossed("ab", "cde", more=99)) == sorted(itertools.product("ab", "cde"))
