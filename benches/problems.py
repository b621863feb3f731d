"""What is computed in a benchmark: arrays of many kinds, and the right answers for them in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import ml_dtypes
import numpy as np
from machine import THREADS
from numpy.typing import NDArray

Array = NDArray[Any]
Make = Callable[[np.random.Generator], "Problem"]

BINARY = ("binary_cross_entropy", "binary_cross_entropy_with_logits")
LINEAR = ("linear loss", "linear gradient", "linear score")
OWN = ("crossent", "one thread")  # contenders that are this build of crossent
WRITING = ("gradient", "boosting", "softmax", "log_softmax")  # kinds with a result of the logits' size
OF_ROWS = ("softmax", "log_softmax", "logsumexp")


@dataclass
class Problem:
    """One case's arrays.

    `kind` is the function: cross_entropy, gradient (with the loss), boosting (gradient and Hessian), score, one of
    `OF_ROWS` or of `BINARY`, or one of `LINEAR`, where `x` holds hidden states.
    """

    kind: str
    x: Array
    target: Array | None = None  # class indices or, of x's shape, probabilities
    weight: Array | None = None
    smoothing: float = 0.0
    out: Array | None = None  # receives the result, where the library can do that
    matrix: Array | None = None  # what hidden states are multiplied by, a row for each class
    threads: int = THREADS

    @property
    def axis(self) -> int:
        return 1

    @property
    def nbytes(self) -> int:
        """The bytes that are read and written."""
        results = self.out if self.out is not None else self.x if self.kind in WRITING else None
        arrays = (self.x, self.target, self.matrix, results)
        return sum(array.nbytes for array in arrays if array is not None)

    @property
    def soft(self) -> bool:
        return self.target is not None and self.target.shape == self.x.shape

    @property
    def plain(self) -> bool:
        """Cross entropy by class indices, without weights or smoothing."""
        return self.kind == "cross_entropy" and not self.soft and self.weight is None and not self.smoothing

    def as_plain(self) -> Problem:
        """Cross entropy of the same logits by class indices."""
        assert self.target is not None
        target = self.target.argmax(axis=self.axis) if self.soft else self.target
        return Problem("cross_entropy", self.x, target, threads=self.threads)


# ---- the arrays -------------------------------------------------------------------------------------------


def normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: str = "float32") -> Array:
    if dtype == "float64":
        return rng.standard_normal(shape)
    x = rng.standard_normal(shape, dtype=np.float32)
    if dtype == "bfloat16":
        return x.astype(ml_dtypes.bfloat16)
    return x.astype(dtype, copy=False)


def classes(*shape: int, dtype: str = "float32") -> Make:
    """Cross entropy of logits of this shape, by class indices."""

    def make(rng: np.random.Generator) -> Problem:
        x = normal(rng, shape, dtype)
        return Problem("cross_entropy", x, rng.integers(shape[1], size=(shape[0], *shape[2:])))

    return make


def weighted(rng: np.random.Generator) -> Problem:
    problem = classes(4096, 1000)(rng)
    problem.weight = rng.random(1000, dtype=np.float32) + np.float32(0.5)
    problem.smoothing = 0.1
    return problem


def probabilities(rng: np.random.Generator) -> Problem:
    p = rng.random((4096, 1000), dtype=np.float32)
    return Problem("cross_entropy", normal(rng, p.shape), p / p.sum(axis=1, keepdims=True))


def of_rows(kind: str, *shape: int, out: bool = False) -> Make:
    """One of `OF_ROWS`, along the classes."""

    def make(rng: np.random.Generator) -> Problem:
        x = normal(rng, shape)
        return Problem(kind, x, out=np.zeros_like(x) if out else None)

    return make


def gradient(*shape: int, out: bool = False) -> Make:
    """Cross entropy and its gradient, by class indices."""

    def make(rng: np.random.Generator) -> Problem:
        problem = classes(*shape)(rng)
        problem.kind = "gradient"
        problem.out = np.zeros_like(problem.x) if out else None
        return problem

    return make


def boosting(dtype: str, order: Literal["C", "F"]) -> Make:
    """Gradient and Hessian of the scores of a booster's training."""

    def make(rng: np.random.Generator) -> Problem:
        x = np.asarray(normal(rng, (1_000_000, 10), dtype), order=order)
        return Problem("boosting", x, rng.integers(10, size=len(x)))

    return make


def scores(rng: np.random.Generator) -> Problem:
    """Loss, logsumexp, entropy, prediction and rank of every row."""
    problem = classes(1024, 50257)(rng)
    problem.kind = "score"
    return problem


def binary(kind: str) -> Make:
    """Ten million elements, each with a target of 0 or 1."""

    def make(rng: np.random.Generator) -> Problem:
        shape = (10_000_000, 1)
        x = normal(rng, shape) if kind == BINARY[1] else rng.random(shape, dtype=np.float32)
        target = (rng.random(shape) < 0.3).astype(np.float32)
        return Problem(kind, x.clip(1e-6, 1 - 1e-6) if kind == BINARY[0] else x, target)

    return make


def linear(kind: str, rows: int, features: int, size: int) -> Make:
    """Hidden states and a matrix, whose product are the logits."""

    def make(rng: np.random.Generator) -> Problem:
        matrix = normal(rng, (size, features)) * np.float32(2 / features**0.5)
        return Problem(kind, normal(rng, (rows, features)), rng.integers(size, size=rows), matrix=matrix)

    return make


# ---- the right answers ------------------------------------------------------------------------------------


def tolerance(contender: str, problem: Problem) -> float:
    """The error allowed, relative to max(1, |answer|). Peers round as they like; crossent may not."""
    if problem.kind in LINEAR:
        return 1e-3 if problem.kind == LINEAR[2] else 1e-5  # a rank changes with the last bit of a logit
    if problem.x.dtype == np.float64:
        return 1e-13 if contender in OWN else 1e-10
    if contender in OWN:
        return 5e-7
    return 1e-4 if problem.x.dtype == np.float32 else 2e-2


def float64_chunks(problem: Problem) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Some rows of logits at a time."""
    x, matrix = problem.x, problem.matrix
    wide = None if matrix is None else matrix.T.astype(np.float64)
    size = x.size if matrix is None else len(x) * len(matrix)
    step = max(1, (1 << 18) * len(x) // size)
    for start in range(0, len(x), step):
        here = slice(start, start + step)
        rows = x[here].astype(np.float64)
        yield here, rows if wide is None else rows @ wide


def reference(problem: Problem) -> Array:
    """The loss, every row's logsumexp, or the columns of its score, in float64."""
    axis, target = problem.axis, problem.target
    if problem.kind in BINARY:
        assert target is not None
        x, t = problem.x.astype(np.float64), target.astype(np.float64)
        if problem.kind == BINARY[0]:
            losses = -t * np.log(x) - (1 - t) * np.log1p(-x)
        else:
            losses = np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x)))
        return np.full((1, 1), losses.mean())
    if problem.kind in ("score", LINEAR[2]):
        return reference_scores(problem)
    if problem.kind == "boosting":
        return reference_boosting(problem)
    lse = np.empty(
        problem.x.shape[:1] if problem.matrix is not None else problem.x.shape[:1] + problem.x.shape[2:]
    )
    total = divisor = 0.0
    size = problem.x.shape[axis] if problem.matrix is None else len(problem.matrix)
    weight = np.ones(size) if problem.weight is None else problem.weight.astype(np.float64)
    smoothing = problem.smoothing
    for here, x in float64_chunks(problem):
        top = x.max(axis=axis, keepdims=True)
        rows = top + np.log(np.exp(x - top).sum(axis=axis, keepdims=True))
        lse[here] = rows.squeeze(axis)
        if target is None:
            continue
        if problem.soft:
            total += float((target[here] * (rows - x)).sum())
            divisor += len(x)
            continue
        chosen = np.expand_dims(target[here], axis)
        loss = (rows - np.take_along_axis(x, chosen, axis)) * weight[chosen] * (1 - smoothing)
        if smoothing:
            loss += ((rows - x) * weight).sum(axis=axis, keepdims=True) * (smoothing / x.shape[axis])
        total += float(loss.sum())
        divisor += float(weight[chosen].sum())
    if problem.kind == LINEAR[1]:
        return reference_gradients(problem, lse)
    return lse if target is None or problem.kind == "gradient" else np.float64(total / divisor) + np.zeros(())


def reference_gradients(problem: Problem, lse: Array) -> Array:
    """The mean's gradients with respect to the hidden states and the matrix, one after the other."""
    assert problem.matrix is not None
    assert problem.target is not None
    states, matrix = problem.x.astype(np.float64), problem.matrix.astype(np.float64)
    of_states, of_matrix = np.empty_like(states), np.zeros_like(matrix)
    for here, x in float64_chunks(problem):
        slope = np.exp(x - lse[here, np.newaxis])
        slope[np.arange(len(x)), problem.target[here]] -= 1
        slope /= len(states)
        of_states[here] = slope @ matrix
        of_matrix += slope.T @ states[here]
    return np.concatenate((of_states, of_matrix))


def reference_boosting(problem: Problem) -> Array:
    """Gradient and Hessian, as LightGBM's objective has them."""
    assert problem.target is not None
    both = np.empty((2, *problem.x.shape))
    many = problem.x.shape[1] / (problem.x.shape[1] - 1)
    for here, x in float64_chunks(problem):
        p = np.exp(x - x.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        both[:, here] = p, many * p * (1 - p)
    both[0, np.arange(len(problem.x)), problem.target] -= 1
    return both


def reference_scores(problem: Problem) -> Array:
    columns = np.empty((5, len(problem.x)))
    for here, x in float64_chunks(problem):
        top = x.max(axis=1, keepdims=True)
        lse = top + np.log(np.exp(x - top).sum(axis=1, keepdims=True))
        assert problem.target is not None
        own = np.take_along_axis(x, problem.target[here, np.newaxis], 1)
        entropy = (np.exp(x - lse) * (lse - x)).sum(axis=1)
        rank = 1 + (x > own).sum(axis=1)
        columns[:, here] = (lse - own)[:, 0], lse[:, 0], entropy, x.argmax(axis=1), rank
    return columns


def as_array(answer: Any) -> Array:
    if isinstance(answer, tuple) and len({column.shape for column in answer}) > 1:
        return np.concatenate([as_array(part) for part in answer])  # gradients
    if isinstance(answer, tuple):
        return np.stack([as_array(column).astype(np.float64) for column in answer])
    if type(answer).__module__ == "torch":
        answer = answer.float() if answer.dtype.is_floating_point and answer.dtype.itemsize == 2 else answer
    return np.asarray(answer)


def error_of(answer: Any, problem: Problem, expected: Array) -> float:
    """The largest error of an answer, relative to max(1, |answer|)."""
    found = np.asarray(answer)
    if problem.kind == LINEAR[1]:
        return float(np.abs(found - expected).max() / np.abs(expected).max())
    if problem.kind == "gradient":
        return error_of_gradient(found, problem, expected)
    if problem.kind not in ("softmax", "log_softmax"):
        return float(np.max(np.abs(found.astype(np.float64) - expected) / np.maximum(1, np.abs(expected))))
    worst = 0.0
    for here, x in float64_chunks(problem):
        right = x - expected[here, np.newaxis]
        if problem.kind == "softmax":
            np.exp(right, out=right)
        worst = max(worst, float(np.max(np.abs(found[here] - right) / np.maximum(1, np.abs(right)))))
    return worst


def error_of_gradient(found: Array, problem: Problem, lse: Array) -> float:
    """The largest error of the gradient of the rows' sum."""
    assert problem.target is not None
    worst = 0.0
    for here, x in float64_chunks(problem):
        right = np.exp(x - np.expand_dims(lse[here], 1))
        chosen = np.expand_dims(problem.target[here], 1)
        np.put_along_axis(right, chosen, np.take_along_axis(right, chosen, 1) - 1, 1)
        worst = max(worst, float(np.max(np.abs(found[here] * float(problem.target.size) - right))))
    return worst
