"""A forked child computes, though its parent's threads did not come along.

Each test runs in a process of its own: those that other tests are in may have imported what no fork is safe after.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import crossent
from children import environment

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")

SECONDS = 20


def alone(test: Callable[[], None]) -> Callable[[], None]:
    """Have a test pass in a process that has imported nothing but this file."""
    # Python warns of forking a process with threads: that is what is tested here.
    options = ["-W", "ignore::DeprecationWarning", "-W", "error::RuntimeWarning"]
    code = f"import test_fork; test_fork.{test.__name__}.__wrapped__()"

    @functools.wraps(test)
    def outside() -> None:
        run = subprocess.run(
            [sys.executable, *options, "-c", code],
            env=environment(Path(__file__).parent),
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert (run.returncode, run.stderr) == (0, ""), run.stderr

    return outside


def _work(seed: int) -> bytes:
    """Enough rows to be shared out among threads."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((4_001, 301)).astype(np.float32)
    t = rng.integers(0, 301, 4_001)
    return crossent.cross_entropy(x, t).tobytes() + crossent.log_softmax(x).tobytes()[:4096]


def _in_child(work: Callable[[], bool]) -> int:
    """The child's exit status: 0 if `work` is true in it; an alarm ends a child that hangs."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(SECONDS)
            status = 0 if work() else 3
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@alone
def test_a_child_computes_after_its_parent_used_threads() -> None:
    before = crossent.get_num_threads()
    crossent.set_num_threads(4)
    try:
        expected = _work(0)
        for _ in range(3):
            assert _in_child(lambda: _work(0) == expected) == 0
        assert _work(0) == expected, "the parent still computes"
    finally:
        crossent.set_num_threads(before)


@alone
def test_a_grandchild_computes() -> None:
    expected = _work(1)
    assert _in_child(lambda: _work(1) == expected and _in_child(lambda: _work(1) == expected) == 0) == 0


@alone
def test_a_child_keeps_the_number_of_threads_and_may_change_it() -> None:
    before = crossent.get_num_threads()
    crossent.set_num_threads(3)
    try:
        expected = _work(2)

        def change() -> bool:
            kept = crossent.get_num_threads() == 3
            crossent.set_num_threads(2)
            return kept and _work(2) == expected and crossent.get_num_threads() == 2

        assert _in_child(change) == 0
        assert crossent.get_num_threads() == 3
    finally:
        crossent.set_num_threads(before)


@alone
def test_a_fork_during_a_call_of_another_thread_leaves_both_working() -> None:
    crossent.set_num_threads(4)
    x = np.broadcast_to(np.linspace(0, 1, 4096, dtype=np.float32), (2000, 4096))
    t = np.zeros(2000, np.int64)
    expected = crossent.cross_entropy(x, t)
    stop, calls = threading.Event(), 0

    def work() -> None:
        nonlocal calls
        while not stop.is_set():
            assert crossent.cross_entropy(x, t) == expected
            calls += 1

    thread = threading.Thread(target=work)
    thread.start()
    while not calls:
        time.sleep(0.01)
    failed = [_in_child(lambda: bool(crossent.cross_entropy(x, t) == expected)) for _ in range(10)]
    stop.set()
    thread.join()
    assert failed == [0] * 10
    assert calls > 1


@alone
def test_a_pool_of_forked_workers_computes() -> None:
    expected = [_work(seed) for seed in range(6)]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        results = pool.map_async(_work, range(6)).get(timeout=60)
    assert results == expected


@alone
def test_an_alarm_ends_a_child_that_hangs() -> None:
    """The tests above can fail: the harness reports a child that does not come back."""

    def hang() -> bool:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        time.sleep(60)
        return True

    assert _in_child(hang) == -signal.SIGALRM
    assert _in_child(lambda: False) == 3
