"""Ctrl-C ends a long call: KeyboardInterrupt within about a second."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")

# Minutes of work over a few megabytes: every row is the same memory. A shell starts background jobs with SIGINT
# ignored, and Python then leaves it so. Call after call is read from stdin.
CHILD = """
import signal, sys
import numpy as np
import crossent
signal.signal(signal.SIGINT, signal.default_int_handler)
rows, classes = 2_000_000, 262_144
x = np.broadcast_to(np.zeros(classes, np.float32), (rows, classes))
t = np.broadcast_to(np.int64(0), (rows,))
none = np.zeros((2**40, 0), np.float32)
ignored, masked = np.broadcast_to(np.int64(-100), (2**40,)), np.broadcast_to(False, (2**40,))
for line in sys.stdin:
    call = compile(line, "call", "eval")
    try:
        print("started", flush=True)
        eval(call)
        print("finished", flush=True)
    except KeyboardInterrupt:
        crossent.cross_entropy(x[:8], t[:8])  # later calls work
        print("interrupted", flush=True)
"""

CALLS = {
    "cross_entropy": "crossent.cross_entropy(x, t)",
    "columns": "crossent.cross_entropy(np.broadcast_to(x[0, :, None, None], (1, classes, 2000, 1000)), "
    "np.broadcast_to(np.int64(0), (1, 2000, 1000)))",
    "logsumexp": "crossent.logsumexp(x, 1)",
    "one long row": "crossent.logsumexp(x)",
    # More segments than memory holds results of.
    "one endless row": "crossent.cross_entropy(np.broadcast_to(np.float32(1), (2**58,)), 3)",
    "one endless row of probabilities": "crossent.cross_entropy(np.broadcast_to(np.float32(1), (2**58,)), "
    "np.broadcast_to(np.float32(1), (2**58,)))",
    "a teacher": "crossent.kl_div_topk(np.broadcast_to(np.float32(1), (2**26, 1000)), "
    "np.broadcast_to(np.int64(1), (2**26, 1)), np.broadcast_to(np.float32(-1), (2**26, 1)))",
    "one number beside many": "crossent.kl_div(np.float32(-1), np.broadcast_to(np.float32(0.5), (10**12,)))",
    **{f"no classes: {name}": f"crossent.{call}" for name, call in {
        # There are targets or a mask to look at, of rows that are all left out.
        "cross_entropy": "cross_entropy(none, ignored)",
        "cross_entropy_and_grad": "cross_entropy_and_grad(none, ignored)",
        "nll_loss_and_grad": "nll_loss_and_grad(none, ignored, reduction='sum')",
        "probabilities": "cross_entropy_and_grad(none, none, where=masked)",
        "Scorer": "Scorer().update(none, ignored)",
        "compare": "compare(none, none, where=masked)",
        "fit_temperature": "fit_temperature(none, ignored)",
    }.items()},
    # The first rows do not decide, and the last one never comes.
    "all ignored": "crossent.cross_entropy_and_grad(np.broadcast_to(x[0, :3], (2**40, 3)), ignored)",
    "weights of zero": "crossent.cross_entropy(np.broadcast_to(x[0, :3], (2**40, 3)), "
    "np.broadcast_to(np.int64(0), (2**40,)), np.zeros(3, x.dtype), label_smoothing=0.5)",
}  # fmt: skip


class Children:
    """For each number of threads a process that makes the calls; another takes over where one was lost."""

    def __init__(self) -> None:
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def of(self, threads: str) -> subprocess.Popen[bytes]:
        if threads not in self.running:
            self.running[threads] = subprocess.Popen(
                [sys.executable, "-c", CHILD],
                env={**os.environ, "CROSSENT_NUM_THREADS": threads},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
            )
        return self.running[threads]

    def end(self, threads: str) -> None:
        child = self.running.pop(threads)
        child.kill()
        child.communicate()


@pytest.fixture(scope="module")
def children() -> Iterator[Children]:
    children = Children()
    yield children
    for threads in list(children.running):
        children.end(threads)


def _line(child: subprocess.Popen[bytes]) -> str:
    """What the process says next; nothing where it says nothing for half a minute, or has ended."""
    assert child.stdout is not None
    ready, _, _ = select.select([child.stdout], [], [], 30)
    return child.stdout.readline().decode().strip() if ready else ""


def _interrupted(call: str, threads: str, children: Children) -> float:
    """How many seconds a call goes on after the signal."""
    child = children.of(threads)
    assert child.stdin is not None
    said = ""
    try:
        child.stdin.write(f"{call}\n".encode())
        assert _line(child) == "started"
        time.sleep(0.1)
        sent = time.monotonic()
        child.send_signal(signal.SIGINT)
        said = _line(child)
        waited = time.monotonic() - sent
    finally:
        if said != "interrupted":
            children.end(threads)
    assert said == "interrupted"
    return waited


@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("key", CALLS)
def test_an_interrupt_ends_a_long_call(key: str, threads: str, children: Children) -> None:
    # About a second. Other programs may take the cores for seconds, but not again and again.
    assert any(_interrupted(CALLS[key], threads, children) < 2.5 for _ in range(3))
