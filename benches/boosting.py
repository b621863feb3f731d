"""Time training with LightGBM's own objective beside training with others: `python benches/boosting.py [--rows N]`.

LightGBM is trained on rows of 10 classes with its built-in objective, with that of `crossent.boosting` and with the
formula in NumPy, on trees of 31 leaves, and on stumps of a single feature, where little but the objective takes time.
The raw scores are compared before any clock starts. The objectives take turns in each round, and times are medians for
one round of boosting, which makes 10 trees.

What the built-in objective takes itself cannot be timed from outside. It follows from the stumps, whose trees cost the
same under either objective:

    built-in = its round - (the other round - the call of the other objective - copies that the call needs)

The copies are those that LightGBM makes for any objective in Python: of the scores, and of gradient and Hessian to
float32.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from machine import THREADS, other_work

# isort: split
import lightgbm
import numpy as np
from numpy.typing import NDArray

import crossent
from crossent.boosting import lightgbm_objective

Array = NDArray[Any]
Objective = Callable[[Array, Any], tuple[Array, Array]]

CLASSES = 10
ROUNDS_OF_BOOSTING = 3
TREES: dict[str, dict[str, Any]] = {
    "31 leaves, 10 features": {"num_leaves": 31},
    "stumps, 1 feature": {"num_leaves": 2},
}


def by_numpy(scores: Array, data: Any) -> tuple[Array, Array]:
    """The formula as it is usually written."""
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    hessian = CLASSES / (CLASSES - 1) * p * (1 - p)
    p[np.arange(len(p)), data.get_label().astype(np.int64)] -= 1
    return p, hessian


class Timed:
    """An objective that notes how long it takes."""

    def __init__(self, objective: Objective) -> None:
        self.objective, self.seconds = objective, [0.0]

    def __call__(self, scores: Array, data: Any) -> tuple[Array, Array]:
        start = time.perf_counter()
        result = self.objective(scores, data)
        self.seconds.append(time.perf_counter() - start)
        return result


def booster(data: Any, trees: dict[str, Any], objective: Any) -> Any:
    options = {
        "verbose": -1,
        "num_class": CLASSES,
        "num_threads": THREADS,
        "boost_from_average": False,
        **trees,
    }
    return lightgbm.Booster({**options, "objective": "multiclass" if objective is None else "none"}, data)


def update(booster: Any, objective: Objective | None) -> float:
    """One round of boosting; its seconds."""
    start = time.perf_counter()
    booster.update(fobj=objective) if objective else booster.update()
    return time.perf_counter() - start


def made(rows: int, features: int, values: int) -> Any:
    rng = np.random.default_rng(0)
    x = rng.integers(0, values, (rows, features)).astype(np.float32)
    y = (x.sum(axis=1) + rng.integers(0, 4, rows)).astype(int) % CLASSES
    return lightgbm.Dataset(x, y, params={"verbose": -1, "num_threads": THREADS}).construct()


def main() -> int:
    parser = argparse.ArgumentParser(description="Time training with LightGBM's objective and with others.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows (default 1,000,000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of measuring (default 5)")
    options = parser.parse_args()
    crossent.set_num_threads(THREADS)
    objectives: dict[str, Objective | None] = {
        "LightGBM": None, "crossent": lightgbm_objective(), "numpy": by_numpy,
    }  # fmt: skip

    small = made(20_000, 10, 200)
    found = []
    for objective in objectives.values():
        model = booster(small, {"num_leaves": 31}, objective)
        for _ in range(5):
            update(model, objective)
        found.append(model.predict(np.arange(200.0).repeat(10).reshape(200, 10), raw_score=True))
    if not all(np.abs(scores - found[0]).max() <= 1e-6 for scores in found):
        print("WRONG: the objectives train different models", file=sys.stderr)
        return 1

    print(f"{options.rows:,} rows, {CLASSES} classes, {THREADS} threads, lightgbm {lightgbm.__version__}")
    if other_work() is not None:
        print("other work is running: these times are not to be relied on")
    print(f"{'':24}{'objective':12}{'round':>10}{'call':>10}{'share':>8}")
    for name, trees in TREES.items():
        data = made(options.rows, 10, 200) if trees["num_leaves"] > 2 else made(options.rows, 1, 2)
        rounds: dict[str, list[float]] = {key: [] for key in objectives}
        timed = {key: objective and Timed(objective) for key, objective in objectives.items()}
        for turn in range(options.rounds + 1):
            for key, objective in timed.items():
                model = booster(data, trees, objective)
                update(model, objective)  # first touches
                if objective:
                    objective.seconds.clear()
                seconds = [update(model, objective) for _ in range(ROUNDS_OF_BOOSTING)]
                if turn:
                    rounds[key].append(statistics.median(seconds))
        scores, copies = np.zeros((options.rows, CLASSES), order="F"), []
        for _ in range(options.rounds):
            start = time.perf_counter()
            (
                scores.ravel(order="F").astype(np.float32),
                scores.ravel(order="F").astype(np.float32),
                scores.copy(order="F"),
            )
            copies.append(time.perf_counter() - start)
        whole = {key: statistics.median(seconds) for key, seconds in rounds.items()}
        calls = {key: statistics.median(each.seconds) for key, each in timed.items() if each}
        if trees["num_leaves"] == 2:
            trees_alone = whole["crossent"] - calls["crossent"] - statistics.median(copies)
            calls["LightGBM"] = whole["LightGBM"] - trees_alone
        for key, total in whole.items():
            call = calls.get(key)
            shown = f"{call * 1e3:7.1f} ms{call / total:8.1%}" if call is not None else ""
            print(f"{name:24}{key:12}{total * 1e3:7.1f} ms{shown}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
