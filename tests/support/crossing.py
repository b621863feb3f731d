"""Combinations of options, where all of them are too many: each value of one option meets each value of every other.

A fault that needs one or two options to show is met by them; one that needs three has the random combinations, and
the fuzzer, which draws anew for every option.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

Combination = tuple[Any, ...]


def pairwise(*options: Sequence[Any], seed: int = 0) -> list[Combination]:
    """Combinations in which every pair of values of two options occurs; few of them, found greedily."""
    rng = np.random.default_rng(seed)
    sizes = [len(values) for values in options]
    # missing[i][j][a, b]: value a of option i and value b of option j have not met.
    missing = [[np.full((a, b), i != j) for j, b in enumerate(sizes)] for i, a in enumerate(sizes)]
    rows = []
    for i, j in itertools.combinations(range(len(sizes)), 2):
        for a, b in np.argwhere(missing[i][j]):
            if not missing[i][j][a, b]:
                continue  # another pair's combination has met it since
            chosen = {i: int(a), j: int(b)}
            for k in rng.permutation([k for k in range(len(sizes)) if k not in chosen]).tolist():
                gains = sum(missing[k][other][:, at].astype(int) for other, at in chosen.items())
                chosen[k] = int(rng.choice(np.flatnonzero(gains == np.max(gains))))
            for one, two in itertools.permutations(chosen, 2):
                missing[one][two][chosen[one], chosen[two]] = False
            rows.append(tuple(options[k][chosen[k]] for k in range(len(sizes))))
    return rows


def crossed(*options: Sequence[Any], more: int, seed: int = 0) -> list[Combination]:
    """The combinations of `pairwise`, and `more` others at random; none of them twice."""
    rows = {repr(row): row for row in pairwise(*options, seed=seed)}
    every = int(np.prod([len(values) for values in options]))
    wanted = min(len(rows) + more, every)
    rng = np.random.default_rng([seed, 1])
    while len(rows) < wanted:
        row = tuple(values[int(rng.integers(len(values)))] for values in options)
        rows.setdefault(repr(row), row)
    return list(rows.values())
