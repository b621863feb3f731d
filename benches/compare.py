"""Time crossent beside torch, SciPy, JAX, ONNX Runtime, Numba and plain NumPy, after checking every answer.

    python benches/compare.py [--case TEXT] [--rounds N] [--json FILE] [--markdown]

All contenders get the same arrays and the same number of threads. They run one after the other in each round, in
an order that changes from round to round; the first round is dropped, and ratios are medians of the rounds' own
ratios. Each answer is first compared with one computed in float64: beyond the tolerances below the run fails. The
"limit" is the least time in which the bytes can be read (or, with `out=`, read and written) at all: the fastest of
several plain sums (copies) over the same memory; for scores of a product it is NumPy's product alone, and for gradient
and Hessian two copies of the scores. Contenders that are not installed are listed as absent.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import importlib
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
THREADS = int(os.environ.get("CROSSENT_NUM_THREADS", CORES))
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = str(THREADS)  # read by the libraries when they are imported
os.environ["JAX_PLATFORMS"] = "cpu"

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

import crossent  # noqa: E402
from crossent import _core  # noqa: E402
from crossent.boosting import softmax_grad_hess  # noqa: E402

Array = NDArray[Any]
Call = Callable[[], Any]

SEED = 0
PAUSE_SECONDS = 0.003  # between two contenders: lets the other library's threads stop spinning
SAMPLE_SECONDS = 0.02  # a sample repeats short calls until it takes this long
SLOW_SECONDS = 0.3  # what takes longer for one call takes part in the first rounds only
SLOW_ROUNDS = 3
LIMITS = ("read", "copy", "product")
FASTEST = "the fastest peer"


class Absent(Exception):
    """A contender that is not installed, or cannot do a case."""


# ---- what is computed -------------------------------------------------------------------------------------


@dataclass
class Problem:
    """One case's arrays.

    `kind` is the function: cross_entropy, gradient (with the loss), boosting (gradient and Hessian), log_softmax,
    logsumexp, score, a binary cross-entropy, or one of `LINEAR`, where `x` holds hidden states.
    """

    kind: str
    x: Array
    target: Array | None = None  # class indices or, of x's shape, probabilities
    weight: Array | None = None
    smoothing: float = 0.0
    out: Array | None = None  # receives the result, where the library can do that
    matrix: Array | None = None  # what hidden states are multiplied by, a row for each class

    @property
    def axis(self) -> int:
        return 1

    @property
    def soft(self) -> bool:
        return self.target is not None and self.target.shape == self.x.shape

    @property
    def plain(self) -> bool:
        """Cross entropy by class indices, without weights or smoothing."""
        return self.kind == "cross_entropy" and not self.soft and self.weight is None and not self.smoothing


@dataclass(frozen=True)
class Case:
    """A problem and what is aimed at: how many times faster than torch, how near to the limit."""

    name: str
    make: Callable[[np.random.Generator], Problem]
    against_torch: float | None = None
    against_peer: tuple[str, float] | None = None  # (`FASTEST` or a name, times faster)
    against_limit: float | None = None
    limit: str = "read"
    microseconds: float | None = None


def normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: str = "float32") -> Array:
    if dtype == "float64":
        return rng.standard_normal(shape)
    x = rng.standard_normal(shape, dtype=np.float32)
    if dtype == "bfloat16":
        return x.astype(load("ml_dtypes").bfloat16)
    return x.astype(dtype, copy=False)


def classes(*shape: int, dtype: str = "float32") -> Callable[[np.random.Generator], Problem]:
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


def rowwise(kind: str, *, out: bool = False) -> Callable[[np.random.Generator], Problem]:
    def make(rng: np.random.Generator) -> Problem:
        x = normal(rng, (1024, 50257))
        return Problem(kind, x, out=np.zeros_like(x) if out else None)

    return make


def gradient(*shape: int, out: bool = False) -> Callable[[np.random.Generator], Problem]:
    """Cross entropy and its gradient, by class indices."""

    def make(rng: np.random.Generator) -> Problem:
        problem = classes(*shape)(rng)
        problem.kind = "gradient"
        problem.out = np.zeros_like(problem.x) if out else None
        return problem

    return make


def boosting(dtype: str, order: Literal["C", "F"]) -> Callable[[np.random.Generator], Problem]:
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


BINARY = ("binary_cross_entropy", "binary_cross_entropy_with_logits")


def binary(kind: str) -> Callable[[np.random.Generator], Problem]:
    """Ten million elements, each with a target of 0 or 1."""

    def make(rng: np.random.Generator) -> Problem:
        shape = (10_000_000, 1)
        x = normal(rng, shape) if kind == BINARY[1] else rng.random(shape, dtype=np.float32)
        target = (rng.random(shape) < 0.3).astype(np.float32)
        return Problem(kind, x.clip(1e-6, 1 - 1e-6) if kind == BINARY[0] else x, target)

    return make


LINEAR = ("linear loss", "linear gradient", "linear score")


def linear(kind: str, rows: int, features: int, size: int) -> Callable[[np.random.Generator], Problem]:
    """Hidden states and a matrix, whose product are the logits."""

    def make(rng: np.random.Generator) -> Problem:
        matrix = normal(rng, (size, features)) * np.float32(2 / features**0.5)
        return Problem(kind, normal(rng, (rows, features)), rng.integers(size, size=rows), matrix=matrix)

    return make


CASES = [
    Case("cross_entropy f32 (4096, 1000)", classes(4096, 1000), 8),
    Case("cross_entropy f32 (1024, 50257)", classes(1024, 50257), 12, None, 1.3),
    Case("cross_entropy f32 (256, 128256)", classes(256, 128256), 12, None, 1.3),
    Case("cross_entropy f32 (1e6, 10)", classes(1_000_000, 10), 12, (FASTEST, 5), 2),
    Case("cross_entropy f32 (5e6, 2)", classes(5_000_000, 2), 25, None, 2),
    Case("cross_entropy bf16 (1024, 50258)", classes(1024, 50258, dtype="bfloat16"), 12, None, 2),
    Case("cross_entropy f16 (1024, 50258)", classes(1024, 50258, dtype="float16"), 12, None, 2),
    Case("cross_entropy f64 (512, 50257)", classes(512, 50257, dtype="float64"), 8, None, 2),
    Case("cross_entropy f32 (8, 21, 512, 512)", classes(8, 21, 512, 512), 25, None, 1.5),
    Case("cross_entropy f32 (2, 150, 256, 512)", classes(2, 150, 256, 512)),
    Case("weights + smoothing f32 (4096, 1000)", weighted, 6),
    Case("probability targets f32 (4096, 1000)", probabilities, 5),
    Case("loss and gradient f32 (1024, 50257)", gradient(1024, 50257), 6, ("jax", 3)),
    Case(
        "loss and gradient, grad_out=, f32 (1024, 50257)",
        gradient(1024, 50257, out=True),
        against_limit=2.5,
        limit="copy",
    ),
    Case("loss and gradient f32 (8, 21, 512, 512)", gradient(8, 21, 512, 512), 6),
    Case(
        "loss and gradient, grad_out=, f32 (8, 21, 512, 512)",
        gradient(8, 21, 512, 512, out=True),
        against_limit=2.5,
        limit="copy",
    ),
    Case(
        "gradient and Hessian f64 F (1e6, 10)",
        boosting("float64", "F"),
        against_peer=("numpy", 3),
        against_limit=3,
        limit="copy",
    ),
    Case(
        "gradient and Hessian f32 C (1e6, 10)",
        boosting("float32", "C"),
        against_peer=("numpy", 5),
        against_limit=3,
        limit="copy",
    ),
    Case("binary_cross_entropy_with_logits f32 1e7", binary(BINARY[1]), 12, None, 2),
    Case("binary_cross_entropy f32 1e7", binary(BINARY[0]), 15, None, 2),
    Case("log_softmax f32 (1024, 50257)", rowwise("log_softmax"), 3),
    Case(
        "log_softmax, out=, f32 (1024, 50257)",
        rowwise("log_softmax", out=True),
        against_peer=("onnxruntime", 1),
        against_limit=1.5,
        limit="copy",
    ),
    Case("logsumexp f32 (1024, 50257)", rowwise("logsumexp"), 12, None, 1.3),
    Case("score f32 (1024, 50257)", scores, 30, None, 2),
    Case("linear_cross_entropy f32 (512, 768, 50257)", linear(LINEAR[0], 512, 768, 50257), 1),
    Case("linear_cross_entropy f32 (4096, 384, 30522)", linear(LINEAR[0], 4096, 384, 30522), 1),
    Case("linear loss and gradients f32 (512, 768, 50257)", linear(LINEAR[1], 512, 768, 50257), 0.9),
    Case("linear loss and gradients f32 (4096, 384, 30522)", linear(LINEAR[1], 4096, 384, 30522), 0.9),
    Case(
        "score of LinearLogits f32 (512, 768, 50257)",
        linear(LINEAR[2], 512, 768, 50257),
        against_limit=1.15,
        limit="product",
    ),
    Case(
        "score of LinearLogits f32 (4096, 384, 30522)",
        linear(LINEAR[2], 4096, 384, 30522),
        against_limit=1.15,
        limit="product",
    ),
    Case("a call: cross_entropy f32 (8, 10)", classes(8, 10), microseconds=1.5),
]


# ---- the right answers ------------------------------------------------------------------------------------


def tolerance(contender: str, problem: Problem) -> float:
    """The error allowed, relative to max(1, |answer|). Peers round as they like; crossent may not."""
    if problem.kind in LINEAR:
        return 1e-3 if problem.kind == LINEAR[2] else 1e-5  # a rank changes with the last bit of a logit
    if problem.x.dtype == np.float64:
        return 1e-13 if contender == "crossent" else 1e-10
    if contender == "crossent":
        return 5e-7
    return 1e-4 if problem.x.dtype == np.float32 else 2e-2


def float64_chunks(problem: Problem) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Some rows of logits at a time."""
    x, matrix = problem.x, problem.matrix
    wide = None if matrix is None else matrix.T.astype(np.float64)
    size = x.size if matrix is None else len(x) * len(matrix)
    step = max(1, (1 << 22) * len(x) // size)
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
            return -np.mean(t * np.log(x) + (1 - t) * np.log1p(-x), keepdims=True)
        return np.mean(np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x))), keepdims=True)
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


def error_of(answer: Any, problem: Problem, expected: Array) -> float:
    """The largest error of an answer, relative to max(1, |answer|)."""
    found = np.asarray(answer)
    if problem.kind == LINEAR[1]:
        return float(np.abs(found - expected).max() / np.abs(expected).max())
    if problem.kind == "gradient":
        return error_of_gradient(found, problem, expected)
    if problem.kind != "log_softmax":
        return float(np.max(np.abs(found.astype(np.float64) - expected) / np.maximum(1, np.abs(expected))))
    worst = 0.0
    for here, x in float64_chunks(problem):
        right = x - expected[here, np.newaxis]
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


# ---- the contenders: each gives a call for a problem, or raises Absent ------------------------------------


def load(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise Absent(f"{module.partition('.')[0]} is not installed") from error


def by_crossent(problem: Problem) -> Call:
    x, target, weight, out = problem.x, problem.target, problem.weight, problem.out
    if problem.kind == "log_softmax":
        return lambda: crossent.log_softmax(x, 1, out=out)
    if problem.kind == "logsumexp":
        return lambda: crossent.logsumexp(x, 1)
    assert target is not None
    if problem.matrix is not None:
        return linear_by_crossent(problem, x, problem.matrix, target)
    if problem.kind in BINARY:
        binary_loss = getattr(crossent, problem.kind)
        return lambda: binary_loss(x, target)
    if problem.kind == "score":

        def columns() -> tuple[Array, ...]:
            scores = crossent.score(x, target)
            return scores.nll, scores.logsumexp, scores.entropy, scores.prediction, scores.rank

        return columns
    if problem.kind == "gradient":
        return lambda: crossent.cross_entropy_and_grad(x, target, grad_out=out)[1]
    if problem.kind == "boosting":
        return lambda: softmax_grad_hess(x, target)
    if problem.plain or problem.soft:
        return lambda: crossent.cross_entropy(x, target)
    return lambda: crossent.cross_entropy(x, target, weight, label_smoothing=problem.smoothing)


def linear_by_crossent(problem: Problem, x: Array, matrix: Array, target: Array) -> Call:
    if problem.kind == LINEAR[0]:
        return lambda: crossent.linear_cross_entropy(x, matrix, target)
    if problem.kind == LINEAR[1]:
        return lambda: crossent.linear_cross_entropy_and_grad(x, matrix, target)[1][:2]
    logits = crossent.LinearLogits(x, matrix)

    def columns() -> tuple[Array, ...]:
        scores = crossent.score(logits, target)
        return scores.nll, scores.logsumexp, scores.entropy, scores.prediction, scores.rank

    return columns


def by_torch(problem: Problem) -> Call:
    torch = load("torch")
    torch.set_num_threads(THREADS)

    def tensor(array: Array) -> Any:
        if array.dtype.name == "bfloat16":
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)

    x = tensor(problem.x)
    if problem.kind == "log_softmax":
        if problem.out is None:
            return lambda: torch.log_softmax(x, 1)
        out = tensor(problem.out)
        return lambda: torch._log_softmax(x, 1, False, out=out)
    if problem.kind == "logsumexp":
        return lambda: torch.logsumexp(x, 1)
    assert problem.target is not None
    target = tensor(problem.target)
    if problem.matrix is not None:
        matrix, functions = tensor(problem.matrix), torch.nn.functional
        if problem.kind == LINEAR[0]:
            return lambda: functions.cross_entropy(functions.linear(x, matrix), target)
        leaves = x.requires_grad_(), matrix.requires_grad_()

        def gradients() -> Any:
            for leaf in leaves:
                leaf.grad = None
            functions.cross_entropy(functions.linear(*leaves), target).backward()
            return tuple(leaf.grad for leaf in leaves)

        return gradients
    weight = None if problem.weight is None else tensor(problem.weight)
    if problem.kind in BINARY:
        binary_loss = getattr(torch.nn.functional, problem.kind)
        return lambda: binary_loss(x, target)
    if problem.kind == "score":

        def columns() -> tuple[Any, ...]:
            log_probs = torch.log_softmax(x, 1)
            own = x.gather(1, target[:, None])
            nll = -log_probs.gather(1, target[:, None])[:, 0]
            entropy = -(log_probs.exp() * log_probs).sum(1)
            return nll, torch.logsumexp(x, 1), entropy, x.argmax(1), 1 + (x > own).sum(1)

        return columns
    loss, smoothing = torch.nn.functional.cross_entropy, problem.smoothing
    if problem.kind == "gradient":
        leaf = x.requires_grad_()

        def backward() -> Any:
            leaf.grad = None
            loss(leaf, target).backward()
            return leaf.grad

        return backward
    if weight is None:
        return lambda: loss(x, target)
    return lambda: loss(x, target, weight, label_smoothing=smoothing)


def by_jax(problem: Problem) -> Call:
    jax, optax = load("jax"), load("optax")
    jax.config.update("jax_enable_x64", True)
    x = jax.numpy.asarray(problem.x)
    if problem.kind in BINARY:
        numpy, labels = jax.numpy, jax.numpy.asarray(problem.target)

        def binary_loss(x: Any, t: Any) -> Any:
            if problem.kind == BINARY[1]:
                return optax.losses.sigmoid_binary_cross_entropy(x, t).mean()
            return -(t * numpy.log(x) + (1 - t) * numpy.log1p(-x)).mean()

        compiled_loss = jax.jit(binary_loss)
        return lambda: compiled_loss(x, labels).block_until_ready()
    if problem.kind not in ("cross_entropy", "gradient"):
        run = jax.jit(
            {"log_softmax": jax.nn.log_softmax, "logsumexp": jax.nn.logsumexp}[problem.kind], static_argnums=1
        )
        return lambda: run(x, 1).block_until_ready()
    assert problem.target is not None
    target = jax.numpy.asarray(problem.target if problem.soft else problem.target.astype(np.int32))
    smoothing, weight = problem.smoothing, problem.weight

    def loss(x: Any, target: Any) -> Any:
        if problem.soft:
            return optax.losses.softmax_cross_entropy(x, target).mean()
        if weight is None:
            return optax.losses.softmax_cross_entropy_with_integer_labels(x, target, axis=1).mean()
        w = jax.numpy.asarray(weight)
        log_p = jax.nn.log_softmax(x, 1)
        chosen = jax.numpy.take_along_axis(log_p, target[:, None], 1)[:, 0] * w[target]
        smooth = (log_p * w).sum(1) / x.shape[1]
        return -((1 - smoothing) * chosen + smoothing * smooth).sum() / w[target].sum()

    if problem.kind == "gradient":
        both = jax.jit(jax.value_and_grad(loss))
        return lambda: both(x, target)[1].block_until_ready()
    compiled = jax.jit(loss)
    return lambda: compiled(x, target).block_until_ready()


def by_onnxruntime(problem: Problem) -> Call:
    ort, onnx = load("onnxruntime"), load("onnx")
    if problem.x.dtype not in (np.float32, np.float64) or problem.soft or problem.smoothing:
        raise Absent("no operator for it")
    if problem.kind == "gradient":
        raise Absent("no gradients")
    if problem.kind in BINARY:
        raise Absent("no operator for it")
    float_type = onnx.helper.np_dtype_to_tensor_dtype(problem.x.dtype)
    operators: dict[str, tuple[str, dict[str, Any]]] = {
        "cross_entropy": ("SoftmaxCrossEntropyLoss", {"reduction": "mean"}),
        "log_softmax": ("LogSoftmax", {"axis": 1}),
        "logsumexp": ("ReduceLogSumExp", {"axes": [1], "keepdims": 0}),
    }
    operator, attributes = operators[problem.kind]
    feeds = {"x": problem.x}
    inputs = [onnx.helper.make_tensor_value_info("x", float_type, problem.x.shape)]
    if problem.target is not None:
        feeds["target"] = problem.target
        inputs.append(
            onnx.helper.make_tensor_value_info("target", onnx.TensorProto.INT64, problem.target.shape)
        )
    outputs = [onnx.helper.make_tensor_value_info("y", float_type, None)]
    node = onnx.helper.make_node(operator, list(feeds), ["y"], **attributes)
    graph = onnx.helper.make_graph([node], "case", inputs, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = THREADS
    settings.log_severity_level = 4
    try:
        session = ort.InferenceSession(
            model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its own class for an operator that this dtype lacks
        raise Absent("no operator for it") from error
    if problem.out is None:
        return lambda: session.run(None, feeds)[0]
    out, binding = problem.out, session.io_binding()
    binding.bind_cpu_input("x", problem.x)
    binding.bind_output("y", "cpu", 0, np.float32, out.shape, out.ctypes.data)

    def run() -> Array:
        session.run_with_iobinding(binding)
        return out

    return run


def by_scipy(problem: Problem) -> Call:
    special = load("scipy.special")
    x, target, out = problem.x, problem.target, problem.out
    if problem.kind == "logsumexp":
        return lambda: special.logsumexp(x, axis=1)
    if out is not None:
        raise Absent("no out=")
    if problem.kind == "log_softmax":
        return lambda: special.log_softmax(x, axis=1)
    if problem.kind in BINARY:
        assert target is not None
        if problem.kind == BINARY[1]:
            return lambda: -(special.log_expit(x) - x * (1 - target)).mean(dtype=np.float64)
        return lambda: -(special.xlogy(target, x) + special.xlog1py(1 - target, -x)).mean(dtype=np.float64)
    if not problem.plain or target is None or x.dtype.itemsize == 2:
        raise Absent("left to NumPy")
    chosen = np.expand_dims(target, 1)
    return lambda: -np.take_along_axis(special.log_softmax(x, axis=1), chosen, 1).mean()


def by_numpy(problem: Problem) -> Call:
    stored, target, weight, smoothing = problem.x, problem.target, problem.weight, problem.smoothing
    if problem.out is not None:
        raise Absent("no out=")
    if problem.kind == "gradient":
        raise Absent("no gradients")

    if problem.kind in BINARY:
        assert target is not None
        t = target
        if problem.kind == BINARY[1]:
            return lambda: np.mean(
                np.maximum(stored, 0) - stored * t + np.log1p(np.exp(-np.abs(stored))), dtype=np.float64
            )
        return lambda: -np.mean(t * np.log(stored) + (1 - t) * np.log1p(-stored), dtype=np.float64)

    if problem.kind == "boosting":
        rows, many = np.arange(len(stored)), stored.shape[1] / (stored.shape[1] - 1)

        def gradient_and_hessian() -> tuple[Array, Array]:
            p = np.exp(stored - stored.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            hessian = many * p * (1 - p)
            p[rows, target] -= 1
            return p, hessian

        return gradient_and_hessian

    def log_softmax() -> Any:
        x = stored.astype(np.float32) if stored.dtype.itemsize == 2 else stored
        shifted = x - x.max(axis=1, keepdims=True)
        shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return shifted

    def logsumexp() -> Any:
        top = stored.max(axis=1, keepdims=True)
        return (top + np.log(np.exp(stored - top).sum(axis=1, keepdims=True)))[:, 0]

    def loss() -> Any:
        assert target is not None
        log_p = log_softmax()
        if problem.soft:
            return -(target * log_p).sum() / len(log_p)
        chosen = np.take_along_axis(log_p, np.expand_dims(target, 1), 1)
        if weight is None:
            return -chosen.mean(dtype=np.float64)
        each = (1 - smoothing) * chosen[:, 0] * weight[target] + smoothing * (log_p @ weight) / log_p.shape[1]
        return -each.sum() / weight[target].sum()

    return {"log_softmax": log_softmax, "logsumexp": logsumexp, "cross_entropy": loss}[problem.kind]


def by_numba(problem: Problem) -> Call:
    """A loop per row, written for Numba as one would by hand."""
    numba = load("numba")
    x, target = problem.x, problem.target
    if x.ndim != 2 or x.dtype.itemsize == 2 or not (problem.plain or problem.kind == "logsumexp"):
        raise Absent("no loop was written for it")
    numba.set_num_threads(THREADS)
    exp, log, prange = np.exp, np.log, numba.prange

    def rows(x: Any, out: Any) -> None:
        for i in prange(x.shape[0]):
            top = x[i, 0]
            for j in range(1, x.shape[1]):
                top = max(top, x[i, j])
            rest = 0.0
            for j in range(x.shape[1]):
                rest += exp(x[i, j] - top)
            out[i] = top + log(rest)

    compiled = numba.njit(parallel=True, fastmath=True)(rows)
    lse = np.empty(len(x))

    def logsumexp() -> Array:
        compiled(x, lse)
        return lse

    if target is None:
        return logsumexp
    chosen = np.expand_dims(target, 1)
    return lambda: (logsumexp() - np.take_along_axis(x, chosen, 1)[:, 0]).mean()


CONTENDERS: dict[str, Callable[[Problem], Call]] = {
    "crossent": by_crossent,
    "torch": by_torch,
    "jax": by_jax,
    "onnxruntime": by_onnxruntime,
    "numba": by_numba,
    "scipy": by_scipy,
    "numpy": by_numpy,
}
PACKAGES = ("numpy", "torch", "jax", "optax", "onnxruntime", "onnx", "numba", "scipy", "ml_dtypes")


# ---- the limits: sums and copies of the same bytes, without crossent --------------------------------------


def limit_calls(problem: Problem, limit: str, pool: ThreadPoolExecutor) -> dict[str, Call]:
    """Several ways to read, or to copy, the bytes with all threads; the fastest one is the limit.

    What is read are the logits and the targets, what is copied the logits, once for each result.
    """
    flat = problem.x.ravel(order="K")
    if problem.matrix is not None:
        states, matrix = problem.x, problem.matrix
        step = 512
        logits = np.empty((step, len(matrix)), np.float32)

        def product() -> None:
            for start in range(0, len(states), step):
                np.matmul(states[start : start + step], matrix.T, out=logits)

        return {"product, NumPy": product}

    def in_threads(work: Callable[..., Any], *arrays: Array) -> Call:
        pieces = [np.array_split(array, THREADS) for array in arrays]
        return lambda: list(pool.map(work, *pieces))

    if problem.kind == "boosting":

        def twice(from_scores: Array, *results: Array) -> None:
            for result in results:
                np.copyto(result, from_scores)

        return {"copy twice, NumPy": in_threads(twice, flat, np.zeros_like(flat), np.zeros_like(flat))}
    if limit == "copy":
        assert problem.out is not None
        return {"copy, NumPy": in_threads(np.copyto, problem.out.reshape(-1), flat)}
    parts = [array.reshape(-1).view(np.uint8) for array in (flat, problem.target) if array is not None]
    together = np.concatenate(parts)
    words = together[: together.nbytes // 8 * 8].view(np.uint64)
    calls = {"read, NumPy integer sum": in_threads(np.add.reduce, words)}
    try:
        numba = load("numba")
    except Absent:
        return calls
    numba.set_num_threads(THREADS)
    prange, pieces, length = numba.prange, 4 * THREADS, len(words)

    def add(words: Any, sums: Any) -> None:
        for piece in prange(pieces):
            total = np.uint64(0)
            for i in range(piece * length // pieces, (piece + 1) * length // pieces):
                total += words[i]
            sums[piece] = total

    compiled, sums = numba.njit(parallel=True)(add), np.zeros(pieces, dtype=np.uint64)
    calls["read, Numba integer sum"] = lambda: compiled(words, sums)
    return calls


# ---- timing -----------------------------------------------------------------------------------------------


@dataclass
class Result:
    """What one case gave: seconds a call, by contender and round; nan in rounds that it sat out."""

    case: Case
    seconds: dict[str, list[float]] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)

    def median(self, name: str) -> float | None:
        times = [t for t in self.seconds.get(name, ()) if t == t]
        return statistics.median(times) if times else None

    def ratio(self, name: str | None) -> float | None:
        """How many times longer than crossent it took: the median of the rounds' ratios."""
        if name not in self.seconds or "crossent" not in self.seconds:
            return None
        pairs = zip(self.seconds[name], self.seconds["crossent"], strict=True)
        return statistics.median(other / own for other, own in pairs if other == other)

    def fastest(self, names: list[str]) -> str | None:
        times = {name: time for name in names if (time := self.median(name)) is not None}
        return min(times, key=lambda name: times[name]) if times else None

    @property
    def peer(self) -> str | None:
        """The fastest contender besides crossent and torch."""
        return self.fastest([name for name in CONTENDERS if name not in ("crossent", "torch")])

    @property
    def limit(self) -> str | None:
        return self.fastest([name for name in self.seconds if name.startswith(LIMITS)])

    @property
    def over_limit(self) -> float | None:
        """How many times longer than the limit crossent took."""
        ratio = self.ratio(self.limit)
        return None if ratio is None else 1 / ratio

    def goals(self) -> list[tuple[str, bool | None]]:
        """Every target of the case in words, and whether it was reached (None: not measured)."""
        case, goals = self.case, []
        if case.against_torch is not None:
            ratio = self.ratio("torch")
            goals.append(
                (f"{case.against_torch:g}x torch", None if ratio is None else ratio >= case.against_torch)
            )
        if case.against_peer is not None:
            name, times = case.against_peer
            ratio = self.ratio(self.fastest(["torch", self.peer or ""]) if name == FASTEST else name)
            text = f"not behind {name}" if times == 1 else f"{times:g}x {name}"
            goals.append((text, None if ratio is None else ratio >= times))
        if case.against_limit is not None:
            over = self.over_limit
            goals.append(
                (f"{case.against_limit:g}x the limit", None if over is None else over <= case.against_limit)
            )
        if case.microseconds is not None:
            own = self.median("crossent")
            goals.append(
                (f"{case.microseconds:g} us", None if own is None else own * 1e6 <= case.microseconds)
            )
        return goals


def seconds_of(call: Call, number: int) -> float:
    start = time.perf_counter()
    for _ in range(number):
        call()
    return (time.perf_counter() - start) / number


def measure(case: Case, rounds: int, pool: ThreadPoolExecutor) -> Result:
    """Check the answers of all contenders for a case, then time them in rounds."""
    result = Result(case)
    problem = case.make(np.random.default_rng(SEED))
    expected = reference(problem)
    calls: dict[str, Call] = {}
    for name, contender in CONTENDERS.items():
        try:
            if problem.kind in ("score", *LINEAR) and name not in ("crossent", "torch"):
                raise Absent("no such function")
            if problem.kind == "boosting" and name not in ("crossent", "numpy"):
                raise Absent("no such function")
            if problem.kind == LINEAR[2] and name == "torch":
                raise Absent("left to the case of an array")
            call = contender(problem)
        except Absent as reason:
            result.absent[name] = str(reason)
            continue
        if problem.out is not None:
            problem.out.fill(0)
        result.errors[name] = error_of(as_array(call()), problem, expected)
        if not result.errors[name] <= tolerance(name, problem):
            result.wrong.append(name)
            continue
        calls[name] = call
    if case.against_limit is not None:
        calls |= limit_calls(problem, case.limit, pool)

    numbers = dict.fromkeys(calls, 0)
    for name, call in calls.items():  # the round that is dropped: first touches, compilation
        call()
        once = seconds_of(call, 1)
        numbers[name] = max(1, min(100_000, round(SAMPLE_SECONDS / once)))
        result.seconds[name] = []
    slow = {name for name, call in calls.items() if numbers[name] == 1 and seconds_of(call, 1) > SLOW_SECONDS}
    gc.collect()
    gc.disable()
    names = list(calls)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if name in slow and turn >= SLOW_ROUNDS and name != "crossent":
                result.seconds[name].append(float("nan"))
                continue
            time.sleep(PAUSE_SECONDS)
            result.seconds[name].append(seconds_of(calls[name], numbers[name]))
    gc.enable()
    return result


def as_array(answer: Any) -> Array:
    if isinstance(answer, tuple) and len({column.shape for column in answer}) > 1:
        return np.concatenate([as_array(part) for part in answer])  # gradients
    if isinstance(answer, tuple):
        return np.stack([as_array(column).astype(np.float64) for column in answer])
    if type(answer).__module__ == "torch":
        answer = answer.float() if answer.dtype.is_floating_point and answer.dtype.itemsize == 2 else answer
    return np.asarray(answer)


# ---- reports ----------------------------------------------------------------------------------------------


def cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def circumstances() -> dict[str, Any]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "absent"
    build = _core.build_info()
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": cpu_model(),
        "cores": CORES,
        "threads": THREADS,
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "crossent": f"{build['version']} ({build['profile']}, {build['isa']})",
        "versions": versions,
    }


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1e6:.2f} us" if seconds < 1e-4 else f"{seconds * 1e3:.2f} ms"


def times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.1f}x" if ratio >= 10 else f"{ratio:.2f}x"


COLUMNS = (
    "case",
    "crossent",
    "torch",
    "torch / crossent",
    "fastest other",
    "other / crossent",
    "crossent / limit",
)


def row_of(result: Result) -> list[str]:
    peer = result.peer
    goals = [
        f"{text}: {'yes' if met else 'not measured' if met is None else 'NO'}" for text, met in result.goals()
    ]
    return [
        result.case.name,
        duration(result.median("crossent")),
        duration(result.median("torch")),
        times(result.ratio("torch")),
        "-" if peer is None else f"{peer} {duration(result.median(peer))}",
        times(result.ratio(peer)),
        times(result.over_limit),
        "; ".join(goals) + ("; WRONG: " + ", ".join(result.wrong) if result.wrong else ""),
    ]


def table_lines(rows: list[list[str]], *, markdown: bool) -> Iterator[str]:
    header = [*COLUMNS, "targets"]
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    left = (0, 4, 7)
    for number, row in enumerate([header, *rows]):
        cells = [
            c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        yield "| " + " | ".join(cells) + " |" if markdown else "  ".join(cells).rstrip()
        if number == 0 and markdown:
            yield "|" + "|".join(" --- " if i in left else " ---: " for i in range(len(widths))) + "|"


def json_of(result: Result) -> dict[str, Any]:
    return {
        "case": result.case.name,
        "seconds": {n: [t for t in times if t == t] for n, times in result.seconds.items()},
        "median_seconds": {name: result.median(name) for name in result.seconds},
        "ratio_to_crossent": {name: result.ratio(name) for name in result.seconds},
        "limit": result.limit,
        "crossent_over_limit": result.over_limit,
        "largest_error": result.errors,
        "wrong": result.wrong,
        "absent": result.absent,
        "targets": [{"target": text, "reached": met} for text, met in result.goals()],
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Time crossent beside its peers, after checking every answer."
    )
    parser.add_argument("--case", default="", metavar="TEXT", help="only the cases whose name contains TEXT")
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds a case (default 9)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample to FILE")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    options = parser.parse_args()
    cases = [case for case in CASES if options.case in case.name]
    if not cases or options.rounds < 1:
        parser.error(f"no case contains {options.case!r}" if not cases else "--rounds must be at least 1")

    crossent.set_num_threads(THREADS)
    about = circumstances()
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    bullet = "- " if options.markdown else ""
    print(f"{bullet}{about['date']}, {about['cpu']}, {CORES} cores, {THREADS} threads, {about['system']}")
    print(f"{bullet}crossent {about['crossent']}; {versions}")
    if _core.build_info()["profile"] != "release":
        print(f"{bullet}crossent is a debug build: its times mean nothing")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > 0.5:
        print(f"{bullet}other work is running (load {load:.1f}): these times are not to be relied on")
    print(flush=True)

    results = []
    with ThreadPoolExecutor(THREADS) as pool:
        for number, case in enumerate(cases, start=1):
            print(f"[{number}/{len(cases)}] {case.name}", file=sys.stderr, flush=True)
            try:
                results.append(measure(case, options.rounds, pool))
            except Absent as reason:
                print(f"  left out: {reason}", file=sys.stderr)
    print("\n".join(table_lines([row_of(result) for result in results], markdown=options.markdown)))
    if options.json:
        content = {**about, "cases": [json_of(result) for result in results]}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    for result in results:
        for name in result.wrong:
            print(f"WRONG: {name}, {result.case.name}: error {result.errors[name]:.2e}", file=sys.stderr)
    return 1 if any(result.wrong for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
