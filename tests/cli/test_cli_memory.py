"""The commands on files larger than the memory they may take: at most 192 MB that belong to the process alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from test_cli import posix

pytestmark = [
    posix,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc"),
]

# Runs the command, and prints the most anonymous memory that a look every other millisecond has seen.
WATCHED = """
import sys, threading
from crossent import _cli as cli

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))

most, done = 0, threading.Event()
def watch():
    global most
    while not done.wait(0.002):
        most = max(most, anonymous())

thread = threading.Thread(target=watch)
thread.start()
code = cli.main(sys.argv[1:])
done.set()
thread.join()
print(most, file=sys.stderr)
sys.exit(code)
"""

LIMIT = 192 << 20


def run(*arguments: str, limit: int = LIMIT) -> str:
    command = [sys.executable, "-c", WATCHED, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    assert int(done.stderr.split()[-1]) < limit
    return done.stdout


def sparse(path: Path, dtype: str, shape: tuple[int, ...]) -> str:
    """A file of zeros that takes no room on the disk."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + np.dtype(dtype).itemsize * int(np.prod(shape)))
    return str(path)


def test_score(tmp_path: Path) -> None:
    rows, classes = 1_500, 50_257  # 300 megabytes
    logits = sparse(tmp_path / "x.npy", "<f4", (rows, classes))
    targets = sparse(tmp_path / "t.npy", "<i8", (rows,))
    state, out = str(tmp_path / "state.json"), tmp_path / "nll.npy"
    told = json.loads(run("score", logits, targets, "--json", "--resume", state, "--per-row", str(out)))
    assert told["count"] == rows
    assert told["mean"] == pytest.approx(np.log(classes), rel=1e-7)
    assert told["accuracy"] == 1.0
    assert json.loads(Path(state).read_text())["complete"] is True
    assert np.load(out).shape == (rows,)


@pytest.mark.parametrize("suffix", ["npy", "csv", "parquet"])
def test_many_short_rows(tmp_path: Path, suffix: str) -> None:
    """The scores of the rows are twenty times as large as the logits."""
    rows = 200_000
    logits = sparse(tmp_path / "x.npy", "<f2", (rows, 2))
    targets = sparse(tmp_path / "t.npy", "|i1", (rows,))
    columns: list[str] = []
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    elif suffix == "npy":
        columns = ["--per-row-columns", "nll,rank,prediction,entropy"]
    out = tmp_path / f"rows.{suffix}"
    run("score", logits, targets, "--per-row", str(out), *columns, "--memory", "16M")
    assert out.stat().st_size > 1_000_000


def test_compare(tmp_path: Path) -> None:
    rows, classes = 900, 50_257  # 270 megabytes
    names = [
        sparse(tmp_path / f"{name}.npy", dtype, (rows, classes))
        for name, dtype in (("x", "<f4"), ("y", "<f2"))
    ]
    told: dict[str, Any] = json.loads(
        run("compare", *names, sparse(tmp_path / "t.npy", "<i4", (rows,)), "--json")
    )
    assert (told["count"], told["kl_mean"], told["correlation"]) == (rows, 0.0, None)


def test_calibrate(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows, classes = 560_000, 200  # 220 megabytes, of zeros but for a few
    sparse(tmp_path / "x.npy", "<f2", (rows, classes))
    logits = np.load(tmp_path / "x.npy", mmap_mode="r+")
    logits[:3000] = rng.normal(size=(3000, classes))
    logits.flush()
    target = np.zeros(rows, np.int64)
    target[:3000] = np.where(
        rng.random(3000) < 0.3, logits[:3000].argmax(axis=1), rng.integers(classes, size=3000)
    )
    np.save(tmp_path / "t.npy", target)
    files = str(tmp_path / "x.npy"), str(tmp_path / "t.npy")
    told = json.loads(run("calibrate", *files, "--json", limit=256 << 20))
    assert told["nll_after"] < told["nll_before"]
