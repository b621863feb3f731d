"""The contenders of the benchmarks: each gives a call that computes a problem, or raises `Absent`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from machine import THREADS
from problems import BINARY, LINEAR, OF_ROWS, Array, Problem

Call = Callable[[], Any]


class Absent(Exception):
    """A contender that is not installed, or cannot do a case."""


def load(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise Absent(f"{module.partition('.')[0]} is not installed") from error


def by_crossent(problem: Problem, crossent: ModuleType) -> Call:
    """A call of this package, or of another build of it."""
    x, target, weight, out = problem.x, problem.target, problem.weight, problem.out
    if problem.kind == "logsumexp":
        return lambda: crossent.logsumexp(x, 1)
    if problem.kind in OF_ROWS:
        function = getattr(crossent, problem.kind)
        return lambda: function(x, 1, out=out)
    assert target is not None
    if problem.matrix is not None:
        return linear_by_crossent(problem, x, problem.matrix, target, crossent)
    if problem.kind in BINARY:
        binary_loss = getattr(crossent, problem.kind)
        return lambda: binary_loss(x, target)
    if problem.kind == "score":
        return lambda: score_columns(crossent.score(x, target))
    if problem.kind == "gradient":
        return lambda: crossent.cross_entropy_and_grad(x, target, grad_out=out)[1]
    if problem.kind == "boosting":
        return lambda: crossent.boosting.softmax_grad_hess(x, target)
    if problem.plain or problem.soft:
        return lambda: crossent.cross_entropy(x, target)
    return lambda: crossent.cross_entropy(x, target, weight, label_smoothing=problem.smoothing)


def linear_by_crossent(
    problem: Problem, x: Array, matrix: Array, target: Array, crossent: ModuleType
) -> Call:
    if problem.kind == LINEAR[0]:
        return lambda: crossent.linear_cross_entropy(x, matrix, target)
    if problem.kind == LINEAR[1]:
        return lambda: crossent.linear_cross_entropy_and_grad(x, matrix, target)[1][:2]
    logits = crossent.LinearLogits(x, matrix)
    return lambda: score_columns(crossent.score(logits, target))


def score_columns(scores: Any) -> tuple[Array, ...]:
    return scores.nll, scores.logsumexp, scores.entropy, scores.prediction, scores.rank


def by_torch(problem: Problem) -> Call:
    torch = load("torch")
    torch.set_num_threads(problem.threads)

    def tensor(array: Array) -> Any:
        if array.dtype.name == "bfloat16":
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)

    x = tensor(problem.x)
    if problem.kind == "logsumexp":
        return lambda: torch.logsumexp(x, 1)
    if problem.kind in OF_ROWS:
        out = None if problem.out is None else tensor(problem.out)
        function = getattr(torch, f"_{problem.kind}")
        return lambda: function(x, 1, False) if out is None else function(x, 1, False, out=out)
    if problem.kind in ("boosting", LINEAR[2]):
        raise Absent("no such function")
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
    jax = load("jax")
    if problem.threads != THREADS:
        raise Absent("its number of threads is set for the whole process")
    if problem.kind in ("score", "boosting", *LINEAR):
        raise Absent("no such function")
    jax.config.update("jax_enable_x64", True)
    x = jax.numpy.asarray(problem.x)
    if problem.kind in BINARY:
        numpy, nn, labels = jax.numpy, jax.nn, jax.numpy.asarray(problem.target)

        def binary_loss(x: Any, t: Any) -> Any:
            if problem.kind == BINARY[1]:
                return -(t * nn.log_sigmoid(x) + (1 - t) * nn.log_sigmoid(-x)).mean()
            return -(t * numpy.log(x) + (1 - t) * numpy.log1p(-x)).mean()

        compiled_loss = jax.jit(binary_loss)
        return lambda: compiled_loss(x, labels).block_until_ready()
    if problem.kind in OF_ROWS:
        run = jax.jit(getattr(jax.nn, problem.kind), static_argnums=1)
        return lambda: run(x, 1).block_until_ready()
    assert problem.target is not None
    target = jax.numpy.asarray(problem.target if problem.soft else problem.target.astype(np.int32))
    smoothing, weight = problem.smoothing, problem.weight

    def loss(x: Any, target: Any) -> Any:
        if problem.soft:
            return -(target * jax.nn.log_softmax(x, 1)).sum(1).mean()
        if weight is None:
            chosen = jax.numpy.take_along_axis(x, jax.numpy.expand_dims(target, 1), 1)
            return (jax.nn.logsumexp(x, 1, keepdims=True) - chosen).mean()
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
    float_type = onnx.helper.np_dtype_to_tensor_dtype(problem.x.dtype)
    operators: dict[str, tuple[str, dict[str, Any]]] = {
        "cross_entropy": ("SoftmaxCrossEntropyLoss", {"reduction": "mean"}),
        "softmax": ("Softmax", {"axis": 1}),
        "log_softmax": ("LogSoftmax", {"axis": 1}),
        "logsumexp": ("ReduceLogSumExp", {"axes": [1], "keepdims": 0}),
    }
    known = problem.kind in operators and problem.x.dtype in (np.float32, np.float64)
    if not known or problem.soft or problem.smoothing:
        raise Absent("no operator for it")
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
    settings.intra_op_num_threads = problem.threads
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
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
    if problem.kind in OF_ROWS:
        function = getattr(special, problem.kind)
        return lambda: function(x, axis=1)
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
    if problem.kind in ("gradient", "score", *LINEAR):
        raise Absent("no such function")

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
        shifted = np.subtract(x, x.max(axis=1, keepdims=True), out=problem.out)
        shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return shifted

    def softmax() -> Any:
        p = np.subtract(stored, stored.max(axis=1, keepdims=True), out=problem.out)
        np.exp(p, out=p)
        p /= p.sum(axis=1, keepdims=True)
        return p

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

    functions: dict[str, Call] = {
        "softmax": softmax,
        "log_softmax": log_softmax,
        "logsumexp": logsumexp,
        "cross_entropy": loss,
    }
    return functions[problem.kind]


def by_numba(problem: Problem) -> Call:
    """A loop per row, written for Numba as one would by hand."""
    numba = load("numba")
    x, target = problem.x, problem.target
    if x.ndim != 2 or x.dtype.itemsize == 2 or not (problem.plain or problem.kind == "logsumexp"):
        raise Absent("no loop was written for it")
    numba.set_num_threads(problem.threads)
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


PEERS: dict[str, Callable[[Problem], Call]] = {
    "torch": by_torch,
    "jax": by_jax,
    "onnxruntime": by_onnxruntime,
    "numba": by_numba,
    "scipy": by_scipy,
    "numpy": by_numpy,
}
PACKAGES = ("numpy", "torch", "jax", "onnxruntime", "onnx", "numba", "scipy", "ml_dtypes")
