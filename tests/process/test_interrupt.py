"""Ctrl-C ends a long call: KeyboardInterrupt within about a second."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")

# Minutes of work over a few megabytes: every row is the same memory. A shell starts background jobs with SIGINT
# ignored, and Python then leaves it so.
LONG = """
import signal, sys
import numpy as np
import crossent
signal.signal(signal.SIGINT, signal.default_int_handler)
rows, classes = 2_000_000, 262_144
x = np.broadcast_to(np.zeros(classes, np.{dtype}), (rows, classes))
t = np.broadcast_to(np.int64(0), (rows,))
none = np.zeros((2**40, 0), np.{dtype})
ignored, masked = np.broadcast_to(np.int64(-100), (2**40,)), np.broadcast_to(False, (2**40,))
crossent.cross_entropy(x[:8], t[:8])
print("ready", flush=True)
try:
    {call}
except KeyboardInterrupt:
    crossent.cross_entropy(x[:8], t[:8])  # later calls work
    print("interrupted", flush=True)
    sys.exit(0)
print("finished", flush=True)
sys.exit(1)
"""

CALLS = {
    "cross_entropy": "crossent.cross_entropy(x, t)",
    "columns": "crossent.cross_entropy(np.broadcast_to(x[0, :, None, None], (1, classes, 2000, 1000)), "
    "np.broadcast_to(np.int64(0), (1, 2000, 1000)))",
    "logsumexp": "crossent.logsumexp(x, 1)",
    "one long row": "crossent.logsumexp(x)",
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


@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("key", CALLS)
def test_an_interrupt_ends_a_long_call(key: str, threads: str) -> None:
    code = LONG.format(dtype="float32", call=CALLS[key])
    env = {**os.environ, "CROSSENT_NUM_THREADS": threads}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline().strip() == "ready"
            time.sleep(0.7)
            sent = time.monotonic()
            child.send_signal(signal.SIGINT)
            out, err = child.communicate(timeout=30)
            waited = time.monotonic() - sent
        finally:
            child.kill()
    assert out.strip() == "interrupted", err
    assert waited < 2.5  # about a second, on a busy machine too
