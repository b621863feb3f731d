"""Logits are read where they lie: no copy of them, and no array of their size, is ever made."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import crossent
from arrays import DTYPES, LAYOUTS, DType, logits, name

on_linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")

MEGABYTE = 1 << 20
LIMIT = 16 * MEGABYTE

# 256 MB of logits; `peak` is the most memory that the process has held so far.
PROLOGUE = """
import numpy as np
import crossent

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

def grown(call):
    before = peak()
    result = call()
    print(peak() - before)
    return result

small = np.zeros((64, 1024), np.float32)
crossent.cross_entropy(small, np.zeros(64, np.int64))  # the threads have started
crossent.cross_entropy(small.T, np.zeros(64, np.int64), axis=0)
"""


def _growth(code: str) -> list[int]:
    run = subprocess.run([sys.executable, "-c", PROLOGUE + code], capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr
    return [int(line) for line in run.stdout.split()]


@on_linux
def test_the_mean_over_256_megabytes_needs_less_than_16() -> None:
    growth = _growth("""
rows, classes = 65_536, 1024
x = np.full((rows, classes), -0.25, np.float32)
t = np.zeros(rows, np.int64)
w = np.ones(classes, np.float32)
where = np.ones(rows, bool)
grown(lambda: crossent.cross_entropy(x, t))
grown(lambda: crossent.cross_entropy(x, t, w, label_smoothing=0.1, where=where))
grown(lambda: crossent.nll_loss(x, t))
grown(lambda: crossent.cross_entropy(x.reshape(16, 1024, 64, 64), t.reshape(16, 64, 64)))
grown(lambda: crossent.cross_entropy(x.reshape(classes, rows), t, axis=0))
grown(lambda: crossent.cross_entropy(x[::-1, ::-1], t))
grown(lambda: crossent.cross_entropy(x[::2], t[::2]))
grown(lambda: crossent.cross_entropy(x[:, ::2], t))
grown(lambda: crossent.cross_entropy(x, x))
grown(lambda: crossent.logsumexp(x, 1))
grown(lambda: crossent.logsumexp(x, 0))
grown(lambda: crossent.logsumexp(x))
grown(lambda: crossent.score(x[::2], t[::2], top_k=1))
scorer, comparer = crossent.Scorer(), crossent.Comparer()
grown(lambda: scorer.update(x, t, where=where))
grown(lambda: scorer.update(x.reshape(classes, rows), t, axis=0))
grown(lambda: comparer.update(x[:4096], x[-4096:], t[:4096]))
grown(lambda: crossent.Scorer().update(x.reshape(16, 4096, classes), t.reshape(16, 4096), shift=1))
""")
    assert len(growth) == 17
    assert max(growth) < LIMIT


@on_linux
@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_broadcast_rows_are_not_written_out(dtype: DType) -> None:
    growth = _growth(f"""
import ml_dtypes
rows, classes = 4096, 65_536
row = np.zeros(classes, np.dtype({name(dtype)!r}))
x = np.broadcast_to(row, (rows, classes))
t = np.zeros(rows, np.int64)
grown(lambda: crossent.cross_entropy(x, t))
grown(lambda: crossent.cross_entropy(x, t, reduction="none"))
grown(lambda: crossent.cross_entropy(x.T, t, axis=0))
grown(lambda: crossent.nll_loss(x, t))
""")
    assert len(growth) == 4
    assert max(growth) < LIMIT


@on_linux
def test_the_measure_sees_a_copy() -> None:
    growth = _growth("""
x = np.broadcast_to(np.float32(1), (8 << 20,))
grown(lambda: x + 1)
""")
    assert growth[0] > LIMIT


# What NumPy allocates is traced; 4 MB of logits leave no doubt.
SHAPE = (1024, 1024)


def _traced(call: object) -> int:
    assert callable(call)
    call()
    tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        call()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_no_layout_is_copied_by_numpy(dtype: DType, layout: str) -> None:
    x = LAYOUTS[layout](logits(np.random.default_rng(0), SHAPE, dtype))
    log_p = LAYOUTS[layout](-np.abs(logits(np.random.default_rng(0), SHAPE, dtype)))
    t = np.zeros(SHAPE[0], np.int64)
    w = np.ones(SHAPE[1], dtype)
    out = np.empty(SHAPE, dtype)
    sums = np.empty(SHAPE[0], dtype)
    half = np.full(SHAPE, 0.5, dtype)
    calls = {
        "mean": lambda: crossent.cross_entropy(x, t, w, label_smoothing=0.1),
        "none": lambda: crossent.cross_entropy(x, t, reduction="none"),
        "probabilities": lambda: crossent.cross_entropy(x, half),
        "nll": lambda: crossent.nll_loss(log_p, t),
        "log_softmax": lambda: crossent.log_softmax(x, out=out),
        "softmax": lambda: crossent.softmax(x, out=out),
        "log_sigmoid": lambda: crossent.log_sigmoid(x, out=out),
        "logsumexp": lambda: crossent.logsumexp(x, 1, out=sums),
        "all": lambda: crossent.logsumexp(x),
        "factors": lambda: crossent.logsumexp(x, 1, b=w, out=sums),
        "factors of all": lambda: crossent.logsumexp(x, b=np.int8(2), return_sign=True),
        "softmax over all": lambda: crossent.softmax(x, None, out=out),
    }
    for key, call in calls.items():
        assert _traced(call) < 64 * 1024, key


@pytest.mark.filterwarnings("ignore:.*kl_div takes log-probabilities")
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_gradients_and_losses_of_elements_are_not_copied_by_numpy(dtype: DType, in_place: bool) -> None:
    x = np.full(SHAPE, 0.5, dtype)
    t = np.zeros(SHAPE[0], np.int64)
    log_p, p = np.full(SHAPE, -0.5, dtype), np.full(SHAPE, 0.5, dtype)
    losses = np.empty(SHAPE, np.float64)
    grad = x if in_place else np.empty(SHAPE, dtype)
    calls = {
        "rows": lambda: crossent.cross_entropy_and_grad(x, t, grad_out=grad),
        "nll": lambda: crossent.nll_loss_and_grad(log_p, t, grad_out=log_p if in_place else grad),
        "probabilities": lambda: crossent.binary_cross_entropy_and_grad(p, p, reduction="sum", grad_out=grad),
        "logits": lambda: crossent.binary_cross_entropy_with_logits_and_grad(
            x, p, reduction="none", dtype="f8", out=losses, grad_out=grad
        ),
        "divergence": lambda: crossent.kl_div_and_grad(x, p, grad_out=grad),
        "gaussian": lambda: crossent.gaussian_nll_loss(x, p, 0.5),
        "poisson": lambda: crossent.poisson_nll_loss(x, p, reduction="none", dtype="f8", out=losses),
    }
    for key, call in calls.items():
        assert _traced(call) < 64 * 1024, key


def test_the_trace_sees_a_copy() -> None:
    x = np.ones(SHAPE, np.float32)
    assert _traced(lambda: x.copy()) >= x.nbytes


def test_nothing_is_left_behind() -> None:
    x = np.zeros((64, 64), np.float32)
    t = np.zeros(64, np.int64)

    def many() -> None:
        for _ in range(2_000):
            crossent.cross_entropy(x, t)
            crossent.log_softmax(x)
            crossent.logsumexp(x, 1)
            with pytest.raises(IndexError):
                crossent.cross_entropy(x, t + 64)

    many()
    tracemalloc.start()
    try:
        many()
        before, _ = tracemalloc.get_traced_memory()
        many()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 16 * 1024
    references = sys.getrefcount(x), sys.getrefcount(t)
    many()
    assert (sys.getrefcount(x), sys.getrefcount(t)) == references
