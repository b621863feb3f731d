"""The least time in which the bytes of a problem can be moved at all: plain sums and copies, without crossent."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from machine import THREADS
from peers import Absent, Call, load
from problems import LINEAR, WRITING, Array, Problem

LIMITS = ("read", "copy", "product")  # what the names of the calls begin with


def limit_calls(problem: Problem, pool: ThreadPoolExecutor) -> dict[str, Call]:
    """Several ways to do it with all threads, of which the fastest is the limit.

    Logits and targets are read; where there is a result of the logits' size, these are copied, once for each such
    result. Of products, the limit is NumPy's product alone; with gradients, as many again as there are gradients.
    """
    if problem.matrix is not None:
        return {"product, NumPy": products(problem.x, problem.matrix, problem.kind == LINEAR[1])}

    def in_threads(work: Callable[..., object], *arrays: Array) -> Call:
        first, *others = zip(*(np.array_split(array, THREADS) for array in arrays), strict=True)

        def call() -> None:
            waiting = [pool.submit(work, *pieces) for pieces in others]
            work(*first)
            for each in waiting:
                each.result()

        return call

    logits = problem.x.ravel(order="K")
    targets = np.empty(0, np.uint64) if problem.target is None else words(problem.target)
    if problem.kind in WRITING:
        results = [problem.out.reshape(-1) if problem.out is not None else np.zeros_like(logits)]
        if problem.kind == "boosting":
            results.append(np.zeros_like(logits))

        def copy(logits: Array, targets: Array, *results: Array) -> None:
            np.add.reduce(targets)
            for result in results:
                np.copyto(result, logits)

        return {"copy, NumPy": in_threads(copy, logits, targets, *results)}
    together = np.concatenate((words(logits), targets))
    calls = {"read, NumPy integer sum": in_threads(np.add.reduce, together)}
    with contextlib.suppress(Absent):
        calls["read, Numba integer sum"] = read_by_numba(together)
    return calls


def words(array: Array) -> Array:
    """The bytes of an array, eight at a time."""
    bytes_ = array.reshape(-1).view(np.uint8)
    return bytes_[: bytes_.nbytes // 8 * 8].view(np.uint64)


def products(states: Array, matrix: Array, gradients: bool) -> Call:
    step = 1024  # rows at a time
    logits = np.empty((step, len(matrix)), np.float32)
    of_states, of_matrix = np.empty_like(states), np.empty_like(matrix)

    def call() -> None:
        for start in range(0, len(states), step):
            here = slice(start, start + step)
            rows = states[here]
            some = np.matmul(rows, matrix.T, out=logits[: len(rows)])
            if gradients:
                np.matmul(some, matrix, out=of_states[here])
                np.matmul(some.T, rows, out=of_matrix)

    return call


def read_by_numba(together: Array) -> Call:
    numba = load("numba")
    numba.set_num_threads(THREADS)
    prange, pieces, length = numba.prange, 4 * THREADS, len(together)

    def add(together: Any, sums: Any) -> None:
        for piece in prange(pieces):
            total = np.uint64(0)
            for i in range(piece * length // pieces, (piece + 1) * length // pieces):
                total += together[i]
            sums[piece] = total

    compiled, sums = numba.njit(parallel=True)(add), np.zeros(pieces, dtype=np.uint64)
    return lambda: compiled(together, sums)
