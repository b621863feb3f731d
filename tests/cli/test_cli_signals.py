"""Signals: the first ends a run in good order, a second at once, and what is told then is true."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import crossent
from children import environment
from steps import blocks_of
from test_cli import Array, Files, files, made, posix

__all__ = ["files"]
pytestmark = posix

SMALL = ("--memory", "50K")

# Waits before a function, the n-th time that it is called. A shell starts background jobs with SIGINT ignored, and
# Python then leaves it so.
WAITING = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
import steps
from crossent import _cli as cli
from crossent._cli import output, reading, running
from crossent._cli.per_row import PerRow
from crossent._cli.state import State
running._SHARE = 1e9  # `--save-every 0` writes the state after each block, whatever that takes
steps.before_call({owner}, "{name}", {call}, lambda: steps.wait({seconds}))
{before}
sys.exit(cli.main(sys.argv[1:]))
"""

# Sends the process a signal in its eighth block.
INTERRUPTED = "steps.before_block(8, lambda: signal.raise_signal(signal.Signals({number})))"

BLOCK = ("reading", "Rows", 8)
WRITE = ("State", "write")
ROWS = ("PerRow", "_write")


class Waiting:
    """A command that waits somewhere."""

    def __init__(
        self,
        arguments: Sequence[str],
        owner: str,
        name: str,
        call: int,
        seconds: float = 60,
        before: str = "",
    ) -> None:
        code = WAITING.format(owner=owner, name=name, call=call, seconds=seconds, before=before)
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            env=environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.wait()

    def wait(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "waiting\n"

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        try:
            out, err = self.process.communicate(timeout=120)
        finally:
            self.process.kill()
        assert "Traceback" not in err
        return self.process.returncode, out, err


@pytest.fixture
def data(files: Files) -> tuple[Array, Array]:
    logits, target = made((3000, 20))
    files.save(logits, target)
    return logits, target


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP] if os.name == "posix" else []
)
def test_the_first_signal_ends_in_good_order(
    files: Files, data: object, out: Path, number: signal.Signals
) -> None:
    arguments = ["score", files.logits, files.targets, "--resume", str(out / "s.json"), *SMALL]
    arguments += ["--per-row", str(out / "r.csv")]
    waiting = Waiting(arguments, *BLOCK)
    waiting.send(number)
    code, _, err = waiting.end()
    assert code == 128 + number
    assert err.startswith("crossent: interrupted: ")
    assert names(out) == ["r.csv.unfinished", "r.partial.csv", "s.json"]


@pytest.mark.parametrize(
    ("first", "second"),
    [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT), (signal.SIGINT, signal.SIGHUP)]
    if os.name == "posix"
    else [],
)
@pytest.mark.parametrize("saved", [False, True])
def test_a_second_signal_while_the_state_is_written(
    files: Files, data: object, out: Path, first: signal.Signals, second: signal.Signals, saved: bool
) -> None:
    """It ends at once, and tells what is on the disk: the state of before, if there is one."""
    state = out / "s.json"
    arguments = [
        "score",
        files.logits,
        files.targets,
        "--resume",
        str(state),
        *SMALL,
        "--per-row",
        str(out / "r.csv"),
    ]
    arguments += ["--save-every", "0" if saved else "1000"]
    if saved:  # it waits in the ninth writing, between two blocks
        waiting = Waiting(arguments, *WRITE, call=9)
        waiting.send(first)
    else:  # it waits in the first, which the first signal brings
        waiting = Waiting(arguments, *WRITE, call=1, before=INTERRUPTED.format(number=int(first)))
    time.sleep(0.3)  # two signals at once would be one
    waiting.send(second)
    begun = time.monotonic()
    found, out_text, err = waiting.end()
    assert time.monotonic() - begun < 10
    assert (found, out_text) == (128 + second, "")
    command = " ".join(["crossent", *arguments])
    last = err.splitlines()[-1]
    if saved:
        rows = json.loads(state.read_text())["rows"]
        assert last == (
            f"crossent: ended at once by {second.name}; next time go on from row {rows} with the same command: "
            f"{command}"
        )
        assert names(out) == ["r.csv.unfinished", "s.json"]
    else:
        assert err.startswith("crossent: interrupted: ")
        assert (
            last
            == f"crossent: ended at once by {second.name}; next time run it from the beginning: {command}"
        )
        assert names(out) == []


@pytest.mark.parametrize("resume", [True, False])
def test_a_second_signal_while_the_rows_are_written_in_the_end(
    files: Files, data: object, out: Path, resume: bool
) -> None:
    """All rows are scored: the result is told."""
    arguments = ["score", files.logits, files.targets, "--per-row", str(out / "r.csv"), *SMALL]
    if resume:
        arguments += ["--resume", str(out / "s.json"), "--save-every", "0"]
    waiting = Waiting(arguments, *ROWS, call=1)
    waiting.send(signal.SIGINT)
    time.sleep(0.3)
    waiting.send(signal.SIGINT)
    code, out_text, err = waiting.end()
    assert (code, out_text) == (130, "")
    first, second, third, *table = err.splitlines()
    assert first == ("crossent: SIGINT: the last files are being written; a second signal ends this at once")
    assert second.startswith("crossent: ended at once by SIGINT; next time ")
    assert third == "crossent: all rows were scored; the result is:"
    assert table[0].split() == ["rows", "counted", "3,000"]
    if resume:
        assert "go on from row 3000 with the same command" in second
        assert names(out) == ["r.csv.unfinished", "s.json"]
    else:
        assert names(out) == []


def test_one_signal_in_the_end_changes_nothing(files: Files, data: object, out: Path) -> None:
    arguments = ["score", files.logits, files.targets, "--per-row", str(out / "r.csv"), *SMALL]
    waiting = Waiting(arguments, *ROWS, call=1, seconds=1)
    waiting.send(signal.SIGINT)
    code, out_text, err = waiting.end()
    assert code == 0
    assert out_text.startswith("rows counted          3,000\n")
    assert err == "crossent: SIGINT: the last files are being written; a second signal ends this at once\n"
    assert names(out) == ["r.csv"]


def test_a_second_signal_while_the_result_is_printed(files: Files, data: object, out: Path) -> None:
    state = out / "s.json"
    arguments = ["score", files.logits, files.targets, "--resume", str(state)]
    waiting = Waiting(arguments, "running", "print_result", call=1)
    waiting.send(signal.SIGINT)
    time.sleep(0.3)
    waiting.send(signal.SIGTERM)
    code, _, err = waiting.end()
    assert code == 143
    assert err.splitlines()[-1] == (
        f"crossent: ended at once by SIGTERM; {state} holds the result, and the same command prints it: "
        f"crossent {' '.join(arguments)}"
    )


def test_a_signal_that_is_sent_twice_at_once_is_one(files: Files, data: object, out: Path) -> None:
    """As `timeout` sends it: to the process, and to its group."""
    state = out / "s.json"
    arguments = ["score", files.logits, files.targets, "--resume", str(state), *SMALL]
    for pair in ((signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM, signal.SIGHUP)):
        waiting = Waiting(arguments, *BLOCK)
        for number in pair:
            waiting.send(number)
        code, _, err = waiting.end()
        assert code in {128 + number for number in pair}
        assert err.splitlines()[-1] == f"crossent: to go on: crossent {' '.join(arguments)}"
        assert json.loads(state.read_text())["rows"] > 0
        state.unlink()


def test_a_signal_before_the_first_row(files: Files, data: object, out: Path) -> None:
    state, rows = out / "s.json", out / "r.csv"
    arguments = ["score", files.logits, files.targets, "--resume", str(state), "--per-row", str(rows), *SMALL]
    waiting = Waiting(arguments, "running", "PerRow", call=1)
    waiting.send(signal.SIGINT)
    code, _, err = waiting.end()
    assert (code, err) == (130, "crossent: interrupted before the first row was scored\n")
    assert names(out) == []


def test_an_ignored_signal_stays_ignored(files: Files, data: object, out: Path) -> None:
    """As `nohup` has it for SIGHUP."""
    arguments = ["score", files.logits, files.targets, *SMALL]
    waiting = Waiting(arguments, *BLOCK, seconds=0.5, before="signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    waiting.send(signal.SIGHUP)
    code, out_text, err = waiting.end()
    assert (code, err) == (0, "")
    assert out_text.startswith("rows counted          3,000\n")


def test_a_second_signal_during_calibrate(files: Files, data: object) -> None:
    names = [files.logits, files.targets, *SMALL]
    waiting = Waiting(["calibrate", *names], "reading", "Rows", call=blocks_of("score", *names) + 3)
    waiting.send(signal.SIGTERM)
    code, _, err = waiting.end()
    assert code == 143
    assert err.startswith(f"crossent: interrupted while {files.logits} was read for the second time; ")


def test_killed_between_the_rows_and_the_state(files: Files, data: tuple[Array, Array], out: Path) -> None:
    """The records of rows that the state does not count are cut, and written again."""
    state, rows = out / "s.json", out / "r.csv"
    arguments = ["score", files.logits, files.targets, "--resume", str(state), "--per-row", str(rows), *SMALL]
    waiting = Waiting([*arguments, "--save-every", "0"], *WRITE, call=5)
    waiting.process.kill()
    waiting.process.communicate()
    counted = json.loads(state.read_text())["rows"]
    header, _, records = (out / "r.csv.unfinished").read_bytes().partition(b"\n")
    assert json.loads(header)["format"] == "crossent.rows 1"
    assert len(records) > counted * 38
    assert len(records) % 38 == 0
    done = subprocess.run(
        [sys.executable, "-m", "crossent", *arguments], capture_output=True, check=False, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    table = np.genfromtxt(rows, delimiter=",", names=True, usecols=("row", "nll"))
    np.testing.assert_array_equal(table["row"], np.arange(3000))
    np.testing.assert_array_equal(table["nll"].astype(np.float32), crossent.score(*data).nll)
    assert names(out) == ["r.csv", "s.json"]
