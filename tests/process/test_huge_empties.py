"""Arrays without elements, of more rows than anyone can count: a call with nothing to do takes no time.

NumPy makes them without memory. All calls are made in one other process, which ends itself if one of them hangs.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import pytest

SECONDS = 20.0  # for one call, on a busy machine; each needs about a millisecond

HEAD = """
import faulthandler, json, sys, time, warnings
import numpy as np
import crossent

warnings.simplefilter("ignore")
if sys.platform == "linux":
    import resource
    with open("/proc/self/statm") as file:
        limit = int(file.read().split()[0]) * resource.getpagesize() + (6 << 30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)

def repeated(value, *shape):
    return np.broadcast_to(value, shape)

def form(result):
    if isinstance(result, np.ndarray) and result.ndim:
        return list(result.shape)
    return repr(float(result) if isinstance(result, float | np.generic) else result)

def counted(scorer, *arguments):
    scorer.update(*arguments)
    return scorer.result().count

ignored, first = np.int64(-100), np.int64(0)
results = {}
for name, call in json.load(sys.stdin).items():
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    started = time.perf_counter()
    try:
        result = eval(call)
        found = [form(r) for r in (result if isinstance(result, tuple) else (result,))]
    except Exception as error:
        found = [type(error).__name__, str(error)]
    results[name] = (found, time.perf_counter() - started)
    print(name, file=sys.stderr, flush=True)
print(json.dumps(results))
"""

N = 2**40
# What a call gives: the shape of an array, a number, or an error.
CALLS: dict[str, tuple[str, list[Any]]] = {
    # Elements, one by one: there are none.
    **{
        f"{name}, {shape}": (f"crossent.{name}(zeros{shape})", [list(shape)])
        for name in ("softmax", "log_softmax", "log_sigmoid")
        for shape in ((N, 0), (0, N), (N, 0, 2**20), (0, 2**60), (2**30, 0, 2**15, 2**15))
    },
    **{
        f"softmax, axis {axis}": (f"crossent.softmax(zeros({N}, 0, 2**20), {axis})", [[N, 0, 2**20]])
        for axis in (0, 1, 2)
    },
    "softmax to out": (f"crossent.softmax(zeros({N}, 0), out=zeros({N}, 0))", [[N, 0]]),
    "softmax in place": (f"(lambda x: crossent.softmax(x, out=x))(zeros({N}, 0))", [[N, 0]]),
    "an object": (f"crossent.Softmax(axis=0)(zeros(0, {N}))", [[0, N]]),
    # logsumexp writes a number for each row that is left: of none, minus infinity.
    "logsumexp of all": (f"crossent.logsumexp(zeros({N}, 0))", ["-inf"]),
    "logsumexp of both axes": (f"crossent.logsumexp(zeros({N}, 0), (0, 1))", ["-inf"]),
    "logsumexp of the long axis": (f"crossent.logsumexp(zeros({N}, 0), 0)", [[0]]),
    "logsumexp, long axes around": (f"crossent.logsumexp(zeros({N}, 0, 2**20), (0, 2))", [[0]]),
    "logsumexp, axes kept": (f"crossent.logsumexp(zeros({N}, 0, 5), 0, keepdims=True)", [[1, 0, 5]]),
    "logsumexp of few": (f"crossent.logsumexp(zeros({N}, 0, 5), (0, 1))", [[5]]),
    "logsumexp with factors": (f"crossent.logsumexp(zeros({N}, 0), b=1, return_sign=True)", ["-inf", "0.0"]),
    "logsumexp with factors, long axes around": (
        f"crossent.logsumexp(zeros({N}, 0, 2**20), (0, 2), b=zeros(2**20))", [[0]]
    ),
    "logsumexp with factors of rows without classes": (
        f"crossent.logsumexp(zeros({N}, 0), 1, b=1)", ["MemoryError"]
    ),
    "softmax over axes around": (f"crossent.softmax(zeros({N}, 0, 2**20), (0, 2))", [[N, 0, 2**20]]),
    "softmax over all": (f"crossent.log_softmax(zeros({N}, 0), None)", [[N, 0]]),
    "logsumexp of rows without classes": (f"crossent.logsumexp(zeros({N}, 0), 1)", ["MemoryError"]),
    "logsumexp of no axis": (f"crossent.logsumexp(zeros({N}, 0), ())", [[N, 0]]),
    # A loss over no rows: a sum of 0, a mean of nan.
    **{
        f"{name}, no rows, {reduction}": (
            f"crossent.{name}(zeros(0, {N}), repeated(first, 0), reduction='{reduction}')",
            [result, *([[0, N]] if name.endswith("grad") else [])],
        )
        for name in ("cross_entropy", "nll_loss", "cross_entropy_and_grad", "nll_loss_and_grad")
        for reduction, result in (("mean", "nan"), ("sum", "0.0"), ("none", [0]))
    },
    "smoothing, no rows": (
        f"crossent.cross_entropy(zeros(0, {N}), repeated(first, 0), label_smoothing=0.1, reduction='sum')",
        ["0.0"],
    ),
    "pixels, no rows": (
        f"crossent.cross_entropy_and_grad(zeros({N}, 3, 0), repeated(first, {N}, 0), reduction='sum')",
        ["0.0", [N, 3, 0]],
    ),
    # Rows without classes: the first target is no class; where none is given, each row is a sum of nothing.
    **{
        f"{name}, no classes": (f"crossent.{name}(zeros({N}, 0), repeated(first, {N}))", ["IndexError"])
        for name in (
            "cross_entropy", "nll_loss", "cross_entropy_and_grad", "nll_loss_and_grad", "fit_temperature",
            "Scorer().update",
        )
    },
    **{
        f"probabilities, no classes, {reduction}": (
            f"crossent.cross_entropy(zeros({N}, 0), zeros({N}, 0), reduction='{reduction}')", ["0.0"]
        )
        for reduction in ("mean", "sum")
    },
    "probabilities and their gradient, no classes": (
        f"crossent.cross_entropy_and_grad(zeros({N}, 0), zeros({N}, 0))", ["0.0", [N, 0]]
    ),
    "losses of rows without classes": (
        f"crossent.cross_entropy(zeros({N}, 0), zeros({N}, 0), reduction='none')", ["MemoryError"]
    ),
    # More rows than can be read: the first of them is wrong.
    "the first of many targets": (
        f"crossent.cross_entropy(repeated(np.float32(1), {N}, 3), repeated(np.int64(5), {N}))", ["IndexError"]
    ),
    "the first of many targets, with threads": (
        "crossent.cross_entropy_and_grad(repeated(np.float32(1), 5, 3, 2**20), repeated(np.uint8(7), 5, 2**20))",
        ["IndexError"],
    ),
    "the first of many probabilities": (
        f"crossent.binary_cross_entropy(repeated(np.float32(2), {N}), repeated(first, {N}))", ["ValueError"]
    ),
    "the first of many variances": (
        f"crossent.gaussian_nll_loss(*[repeated(np.float32(-1), {N})] * 3)", ["ValueError"]
    ),
    # Single elements.
    **{
        f"{name}, {reduction}": (
            f"crossent.{name}(zeros({N}, 0), zeros({N}, 0), reduction='{reduction}')",
            [result, *([[N, 0]] if name.endswith("grad") else [])],
        )
        for name in (
            "binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div", "poisson_nll_loss",
            "binary_cross_entropy_and_grad", "binary_cross_entropy_with_logits_and_grad", "kl_div_and_grad",
            "sigmoid_focal_loss_and_grad",
        )
        for reduction, result in (("mean", "nan"), ("sum", "0.0"), ("none", [N, 0]))
    },
    "gaussian_nll_loss": (f"crossent.gaussian_nll_loss(zeros(0, {N}), zeros(0, {N}), 1.0)", ["nan"]),
    "kl_div, broadcast": (
        f"crossent.kl_div(repeated(np.float32(-1), {N}, 1, 1), zeros(1, 0, 2**20), reduction='none')",
        [[N, 0, 2**20]],
    ),
    "kl_div, beyond all shapes": (
        f"crossent.kl_div(repeated(np.float32(-1), {N}, 1), repeated(first, 1, {N}))", ["MemoryError"]
    ),
    # Scores.
    "score": (f"crossent.score(zeros(0, {N}), repeated(first, 0)).count", ["0"]),
    "score, columns": (f"crossent.score(zeros({N}, 0, 3), repeated(first, {N}, 0)).nll", [[N, 0]]),
    "score, columns without memory": (
        f"crossent.score(zeros({N}, 0), repeated(ignored, {N}))", ["MemoryError"]
    ),
    "score, shifted": (f"crossent.score(zeros({N}, 0, 3), repeated(first, {N}, 0), shift=1).nll", [[N, 0]]),
    "by_sequence": (
        f"crossent.score(zeros(0, {N}, 3), repeated(first, 0, {N})).by_sequence().log_likelihood", [[0]]
    ),
    "Scorer": (f"counted(crossent.Scorer(), zeros({N}, 0, 3), repeated(first, {N}, 0))", ["0"]),
    "Scorer, by position": (
        f"counted(crossent.Scorer(by_position=True), zeros(0, {N}, 3), repeated(first, 0, {N}))", ["0"]
    ),
    "Scorer, a group for each row": (
        f"counted(crossent.Scorer(by_position=True), repeated(np.float32(1), 1, {N}, 3), repeated(first, 1, {N}))",
        ["MemoryError"],
    ),
    "compare": (f"crossent.compare(zeros(0, {N}), zeros(0, {N})).count", ["0"]),
    "compare, targets": (f"crossent.compare(*[zeros({N}, 0, 3)] * 2, repeated(first, {N}, 0)).count", ["0"]),
    "Comparer": (f"crossent.Comparer().update(zeros(0, {N}), zeros(0, {N}))", ["None"]),
    "fit_temperature": (f"crossent.fit_temperature(zeros(0, {N}), repeated(first, 0))", ["ValueError"]),
    "log_loss": (f"crossent.log_loss(repeated(first, 0), zeros(0, {N}))", ["ValueError"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def results() -> dict[str, tuple[list[Any], float]]:
    code = HEAD.replace("SECONDS", str(SECONDS))
    calls = json.dumps({name: call for name, (call, _) in CALLS.items()})
    run = subprocess.run(
        [sys.executable, "-c", code], input=calls, capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, f"the call after the last of these did not end:\n{run.stderr[-3000:]}"
    found: dict[str, tuple[list[Any], float]] = json.loads(run.stdout)
    return found


@pytest.mark.parametrize("name", CALLS)
def test_nothing_to_do_takes_no_time(name: str, results: dict[str, tuple[list[Any], float]]) -> None:
    _, expected = CALLS[name]
    got, seconds = results[name]
    if str(expected[0]).endswith("Error"):
        assert got[0] == expected[0]
        assert got[1]
    else:
        assert len(got) == len(expected)
        for value, right in zip(got, expected, strict=True):
            assert value == right
            if right == "0.0":
                assert math.copysign(1.0, float(value)) == 1.0
    assert seconds < 5.0
