"""Threads change how long a call takes and nothing else."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import crossent
from arrays import DTYPES, DType, logits, name, probabilities
from crossent import _core


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = crossent.get_num_threads()
    yield
    crossent.set_num_threads(before)


def _bits(x: Any) -> bytes:
    return np.ascontiguousarray(x).tobytes()


def _calls(dtype: DType) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Calls large enough to be shared out, of every kind and shape of work."""
    rng = np.random.default_rng(0)
    for shape in (
        (200_003, 3),
        (20_011, 65),
        (1_009, 1030),
        (7, 200_000),
        (3, 21, 127, 131),
        (2, 1000, 17, 19),
    ):
        x = logits(rng, shape, dtype)
        rows = shape[:1] + shape[2:]
        t = rng.integers(0, shape[1], rows)
        t[0] = -100
        key = "x".join(map(str, shape))
        loss = functools.partial(crossent.cross_entropy, x, t)
        yield f"mean {key}", loss
        yield f"none {key}", functools.partial(loss, reduction="none")
        yield f"sum {key}", functools.partial(loss, reduction="sum", label_smoothing=0.1)
        yield f"nll {key}", functools.partial(crossent.nll_loss, -np.abs(x), t)
        yield f"logsumexp {key}", functools.partial(crossent.logsumexp, x, 1)
        yield f"all {key}", functools.partial(crossent.logsumexp, x)
        yield f"log_softmax {key}", functools.partial(crossent.log_softmax, x, 1)
    x = logits(rng, (20_011, 65), dtype)
    p = probabilities(rng, (20_011, 65), 1, dtype)
    yield "probabilities", lambda: crossent.cross_entropy(x, p)
    yield "fortran", lambda: crossent.cross_entropy(np.asfortranarray(x), p)
    yield "softmax", lambda: crossent.softmax(x)
    yield "softmax of columns", lambda: crossent.softmax(x, 0)
    yield "log_sigmoid", lambda: crossent.log_sigmoid(x)


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_threads_do_not_change_bits(dtype: DType) -> None:
    for key, call in _calls(dtype):
        crossent.set_num_threads(1)
        expected = _bits(call())
        for threads in (2, 3, 8):
            crossent.set_num_threads(threads)
            assert _bits(call()) == expected, (key, threads)


def test_repeated_calls_have_the_same_bits() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((5_003, 257)).astype(np.float32)
    t = rng.integers(0, 257, 5_003)
    crossent.set_num_threads(8)
    assert len({_bits(crossent.cross_entropy(x, t)) for _ in range(20)}) == 1


def test_the_number_set_is_the_number_told() -> None:
    for n in (1, 2, 3, 8, np.int64(4)):
        crossent.set_num_threads(n)
        assert crossent.get_num_threads() == n
        assert _core.build_info()["threads"] == n


@pytest.mark.parametrize("n", [0, -1, -(2**40)])
def test_there_is_at_least_one_thread(n: int) -> None:
    before = crossent.get_num_threads()
    with pytest.raises((ValueError, OverflowError)):
        crossent.set_num_threads(n)
    assert crossent.get_num_threads() == before


def test_the_number_of_threads_is_a_sensible_integer() -> None:
    before = crossent.get_num_threads()
    for wrong in (1.5, 2.0, "2", None, [2]):
        with pytest.raises(TypeError):
            crossent.set_num_threads(wrong)
    for huge in (2**31, 2**63, 10**30):
        with pytest.raises(ValueError, match="out of range"):
            crossent.set_num_threads(huge)
    assert crossent.get_num_threads() == before


def _told(**environment: str) -> str:
    code = "import crossent; print(crossent.get_num_threads())"
    env = {key: value for key, value in os.environ.items() if key != "CROSSENT_NUM_THREADS"}
    run = subprocess.run(
        [sys.executable, "-c", code], env={**env, **environment}, capture_output=True, text=True, check=True
    )
    return run.stdout.strip()


def test_the_variable_sets_the_number_at_the_start() -> None:
    assert _told(CROSSENT_NUM_THREADS="3") == "3"
    assert _told(CROSSENT_NUM_THREADS="1") == "1"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_variable_that_is_no_number_of_threads_is_named() -> None:
    # A variable is read at the first call of a process.
    code = """
import os, sys
import numpy, crossent
for variable, text in zip(*[iter(map(os.fsencode, sys.argv[1:]))] * 2):
    sys.stdout.flush()
    if not os.fork():
        os.environb[variable] = text
        try:
            crossent.cross_entropy(numpy.zeros((2, 3)), [0, 1])
        except ValueError as error:
            print(error, flush=True)
        os._exit(0)
    os.wait()
"""
    texts = ("many", "0", "-1", "1.5", "4097", "1e3", "9" * 30)
    asked: list[tuple[str, str | bytes]] = [("CROSSENT_NUM_THREADS", text) for text in (*texts, b"\xff")]
    asked.append(("CROSSENT_ISA", b"\xff"))
    run = subprocess.run(
        [sys.executable, "-c", code, *(part for pair in asked for part in pair)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for (variable, text), said in zip(asked, run.stdout.splitlines(), strict=True):
        assert said.startswith(variable)
        assert isinstance(text, bytes) or f'"{text}"' in said
    assert _told(CROSSENT_NUM_THREADS="") == _told()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit on threads is Linux's")
def test_where_no_thread_can_be_started_the_caller_works_alone() -> None:
    code = """
import resource, numpy, crossent
x, t = numpy.ones((4096, 256), numpy.float32), numpy.zeros(4096, int)
one = crossent.cross_entropy(x, t)
crossent.set_num_threads(64)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (40 << 20), used + (40 << 20)))
assert crossent.cross_entropy(x, t) == one
print("same")
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "same\n"), run.stderr


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="the system cannot tell the usable processors"
)
def test_the_default_is_the_processors_that_may_be_used() -> None:
    assert 1 <= int(_told()) <= len(os.sched_getaffinity(0))


def test_calls_from_many_python_threads_at_once() -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((3_001, 129)).astype(np.float32)
    t = rng.integers(0, 129, 3_001)
    image = rng.standard_normal((2, 21, 64, 65)).astype(np.float32)
    labels = rng.integers(0, 21, (2, 64, 65))

    def work() -> tuple[bytes, ...]:
        return (
            _bits(crossent.cross_entropy(x, t)),
            _bits(crossent.cross_entropy(image, labels, reduction="none")),
            _bits(crossent.log_softmax(x)),
            _bits(crossent.logsumexp(x, 0)),
        )

    expected = work()
    results: list[tuple[bytes, ...]] = []
    errors: list[BaseException] = []
    start = threading.Barrier(8)

    def run(number: int) -> None:
        try:
            start.wait()
            for turn in range(5):
                if number == 0:
                    crossent.set_num_threads(1 + turn % 4)
                results.append(work())
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    assert not errors
    assert len(results) == 40
    assert set(results) == {expected}


def test_other_python_threads_run_during_a_call() -> None:
    crossent.set_num_threads(1)
    x = np.broadcast_to(np.linspace(0, 1, 65_536, dtype=np.float32), (8_000, 65_536))
    t = np.zeros(8_000, np.int64)
    ticks = 0
    done = threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not done.wait(0.001):
            ticks += 1

    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        before = ticks
        crossent.cross_entropy(x, t)
        during = ticks - before
    finally:
        done.set()
        ticker.join()
    assert during >= 3


def test_targets_changed_by_another_thread_give_a_value_or_a_clean_error() -> None:
    rows = 50_000
    x = np.zeros((rows, 16), np.float32)
    t = np.zeros(rows, np.int64)
    done = threading.Event()

    def spoil() -> None:
        while not done.is_set():
            t[::97] = 2**62
            t[::97] = 0
            t[::89] = -(2**62)
            t[::89] = 0

    spoiler = threading.Thread(target=spoil)
    spoiler.start()
    outcomes = set()
    try:
        for _ in range(100):
            try:
                loss = crossent.cross_entropy(x, t)
                assert loss == pytest.approx(np.log(16))
                outcomes.add("value")
            except IndexError:
                outcomes.add("error")
    finally:
        done.set()
        spoiler.join()
    assert outcomes <= {"value", "error"}
    assert outcomes


@pytest.mark.parametrize("rows", [1, 3, 100, 129])
@pytest.mark.parametrize("classes", [1030, 1500, 30_000, 70_000])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_rows_that_are_taken_together_are_added_as_if_they_were_not(
    rows: int, classes: int, reduction: str
) -> None:
    # A thread takes more of the rows whose classes lie apart in memory, and with other neighbours.
    x = logits(np.random.default_rng(rows), (rows, classes), np.dtype(np.float16))
    t = np.arange(rows) % classes
    t[rows // 2 : rows // 2 + rows // 10] = -100
    weight = np.linspace(0.3, 7, classes)
    crossent.set_num_threads(1)
    expected = _bits(crossent.cross_entropy(x, t, weight, reduction=reduction))
    for threads in (1, 2, 3, 16):
        crossent.set_num_threads(threads)
        assert _bits(crossent.cross_entropy(np.asfortranarray(x), t, weight, reduction=reduction)) == expected
