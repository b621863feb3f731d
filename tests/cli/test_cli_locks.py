"""A job that is started twice: one process writes a state or a file of single rows at a time."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from children import environment
from crossent import _cli as cli
from crossent._cli import locking
from crossent._cli.output import DataError
from test_cli import Array, Files, error, files, made, posix

__all__ = ["files"]

Capture = pytest.CaptureFixture[str]
SMALL = ("--memory", "50K")

# Waits in the middle of its rows until it is told to go on.
PAUSED = """
import sys
import steps
from crossent import _cli as cli
steps.before_block(5, steps.wait_to_go_on)
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture
def data(files: Files) -> tuple[Array, Array]:
    logits, target = made((3000, 20))
    files.save(logits, target)
    return logits, target


@contextlib.contextmanager
def paused(arguments: list[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Start the command, and give it while it waits in the middle of its rows."""
    command = [sys.executable, "-c", PAUSED, *arguments]
    with subprocess.Popen(
        command,
        cwd=folder,
        text=True,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "waiting\n"
            yield process
        finally:
            process.kill()


SECOND: dict[str, list[str]] = {
    "the same": ["--resume", "state.json", "--per-row", "rows.csv"],
    "the state": ["--resume", "state.json", "--per-row", "other.csv"],
    "the rows": ["--resume", "other.json", "--per-row", "rows.csv"],
    "the rows without a state": ["--per-row", "rows.csv"],
    "the state without rows": ["--resume", "state.json"],
    "another spelling": ["--resume", ".//here/./state.json"],
    "a whole path": ["--per-row", "{folder}/rows.csv"],
    "by a link to the folder": ["--per-row", "here/rows.csv"],
    "by a link to the file": ["--resume", "link.json"],
}


def test_a_second_process_is_told_of_the_first(
    files: Files, data: tuple[Array, Array], tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "here").symlink_to(tmp_path, target_is_directory=True)
    common = ["score", "logits.npy", "targets.npy", *SMALL]
    first = [*common, "--resume", "state.json", "--per-row", "rows.csv", "--save-every", "0"]
    with paused(first, tmp_path) as process, contextlib.chdir(tmp_path):
        (tmp_path / "link.json").symlink_to("state.json")
        before = {path.name for path in tmp_path.iterdir()}
        for key, options in SECOND.items():
            assert cli.main([*common, *(part.format(folder=tmp_path) for part in options)]) == 1, key
            captured = capsys.readouterr()
            assert captured.out == "", key
            assert captured.err.startswith("crossent: error: --"), key
            assert f"(process {process.pid} on {socket.gethostname()}, since " in captured.err, key
            assert "is writing it; wait for that, or name another file\n" in captured.err, key
            assert {path.name for path in tmp_path.iterdir()} == before, key
        _, err = process.communicate("go on\n", timeout=60)
    assert (process.returncode, err) == (0, "")
    rows = np.loadtxt(tmp_path / "rows.csv", delimiter=",", skiprows=1, usecols=0)
    np.testing.assert_array_equal(rows, np.arange(3000))
    names = {"logits.npy", "targets.npy", "state.json", "rows.csv", "here", "link.json"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_a_second_comparison_is_told_of_the_first(
    files: Files, data: tuple[Array, Array], tmp_path: Path, capsys: Capture
) -> None:
    np.save(tmp_path / "other.npy", data[0].astype(np.float16))
    arguments = ["compare", "logits.npy", "other.npy", "targets.npy", "--resume", "state.json", *SMALL]
    with paused(arguments, tmp_path) as process, contextlib.chdir(tmp_path):
        assert cli.main(arguments) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert f"--resume state.json: another run (process {process.pid} on " in captured.err
        _, err = process.communicate("go on\n", timeout=60)
    assert (process.returncode, err) == (0, "")


def test_a_state_is_not_merged_into_one_that_is_written(
    files: Files, data: tuple[Array, Array], tmp_path: Path, capsys: Capture
) -> None:
    done = str(tmp_path / "done.json")
    assert files.score("--resume", done) == 0
    printed = capsys.readouterr().out
    with paused(
        ["score", "logits.npy", "targets.npy", "--resume", "state.json", *SMALL], tmp_path
    ) as process:
        assert cli.main(["merge", done, "--save-state", str(tmp_path / "state.json")]) == 1
        captured = capsys.readouterr()
        assert captured.out == printed
        assert f"another run (process {process.pid} on " in captured.err
        process.communicate("go on\n", timeout=60)
    assert process.returncode == 0


def test_two_that_start_at_once(files: Files, data: tuple[Array, Array], tmp_path: Path) -> None:
    """Whichever comes first, a process that ends with code 0 leaves the right rows and state."""
    arguments = ["score", "logits.npy", "targets.npy", "--json", "--memory", "12K", "--save-every", "0"]
    assert subprocess.run(
        [sys.executable, "-m", "crossent", *arguments, "--per-row", "whole.csv"], cwd=tmp_path, check=False,
        capture_output=True,
    ).returncode == 0  # fmt: skip
    whole = (tmp_path / "whole.csv").read_bytes()
    for trial in range(4):
        outputs = ["--per-row", f"rows{trial}.csv"]
        if trial % 2:
            outputs += ["--resume", f"state{trial}.json"]
        command = [sys.executable, "-m", "crossent", *arguments, *outputs]
        both = [
            subprocess.Popen(command, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for _ in range(2)
        ]
        said = [process.communicate(timeout=60) for process in both]
        codes = [process.returncode for process in both]
        assert 0 in codes
        assert (tmp_path / f"rows{trial}.csv").read_bytes() == whole
        for code, (out, err) in zip(codes, said, strict=True):
            assert (code, bool(out), "is writing it" in err) in ((0, True, False), (1, False, True)), err
    assert not [path.name for path in tmp_path.iterdir() if path.suffix in (".lock", ".unfinished", ".tmp")]


@posix
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM] if os.name == "posix" else [])
def test_the_lock_of_a_dead_process_is_taken_over(
    files: Files, data: tuple[Array, Array], tmp_path: Path, number: signal.Signals
) -> None:
    arguments = [
        "score",
        "logits.npy",
        "targets.npy",
        "--resume",
        "state.json",
        "--per-row",
        "rows.csv",
        *SMALL,
    ]
    arguments += ["--save-every", "0"]
    with paused(arguments, tmp_path) as process:
        process.send_signal(number)
        process.communicate(timeout=60)
    locks = sorted(path.name for path in tmp_path.glob("*.lock"))
    assert locks == (["rows.csv.lock", "state.json.lock"] if number == signal.SIGKILL else [])
    if locks:  # what it may have been writing when it died
        (tmp_path / "state.json.tmp").write_text("{")
        (tmp_path / "rows.csv.tmp").write_text("row,nll")
    command = [sys.executable, "-m", "crossent", *arguments]
    done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "logits.npy", "rows.csv", "state.json", "targets.npy",
    ]  # fmt: skip


def holder(**told: object) -> str:
    """The text of a lock whose holder is this very process, but for what is `told`."""
    own: dict[str, object] = {
        "format": "crossent.lock 1", "process": os.getpid(), "host": socket.gethostname(), "boot": locking._boot(),
        "since": "2020-02-02 02:02:02 +0000", "command": "crossent score x.npy t.npy",
    }  # fmt: skip
    return json.dumps(own | told)


def test_a_process_id_that_was_given_anew_does_not_matter(
    files: Files, data: object, tmp_path: Path, capsys: Capture
) -> None:
    """The process of that id lives, but has not the lock: before a reboot, or after its end."""
    lock = tmp_path / "state.json.lock"
    for told in ({}, {"boot": "another"}, {"process": 2**31 - 1}, {"host": "another, such as a container's"}):
        if "host" in told and not locking._boot():
            continue
        lock.write_text(holder(**told))
        assert files.score("--resume", str(tmp_path / "state.json")) == 0
        assert not lock.exists()


def test_a_lock_of_another_host_is_named(files: Files, data: object, tmp_path: Path, capsys: Capture) -> None:
    state = tmp_path / "state.json"
    lock = tmp_path / "state.json.lock"
    text = holder(process=4711, host="elsewhere", boot="another")
    lock.write_text(text)
    assert files.score("--resume", str(state)) == 1
    assert error(capsys) == (
        f"crossent: error: --resume {state}: {lock} says that another run (process 4711 on elsewhere, since 2020-02-02 "
        f"02:02:02 +0000: crossent score x.npy t.npy) is writing it, and from {socket.gethostname()} it cannot be seen "
        f"whether it still is; if it has ended, remove {lock} and start this again\n"
    )
    assert lock.read_text() == text
    lock.unlink()
    assert files.score("--resume", str(state)) == 0


@pytest.mark.parametrize("content", ["my own notes", "[]", "{}", '{"format": 1}'])
def test_another_file_of_the_name_of_a_lock_stays(
    files: Files, data: object, tmp_path: Path, capsys: Capture, content: str
) -> None:
    lock = tmp_path / "rows.npy.lock"
    lock.write_text(content)
    assert files.score("--per-row", str(tmp_path / "rows.npy")) == 1
    assert f"{lock}, the file of its lock, holds something else; move it away" in error(capsys)
    assert lock.read_text() == content
    lock.unlink()
    lock.mkdir()
    assert files.score("--per-row", str(tmp_path / "rows.npy")) == 1
    assert f"{lock} is there, and is no regular file" in error(capsys)


def test_an_empty_lock_is_taken(files: Files, data: object, tmp_path: Path) -> None:
    (tmp_path / "rows.npy.lock").touch()
    assert files.score("--per-row", str(tmp_path / "rows.npy")) == 0
    assert not (tmp_path / "rows.npy.lock").exists()


@posix
def test_a_lock_that_is_removed_meanwhile_is_no_lock(
    files: Files, data: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A holder removes the file of its lock; whoever has opened it before must take the next one."""
    import fcntl

    lock, real, calls = tmp_path / "rows.npy.lock", fcntl.flock, []

    def flock(file: int, how: int) -> None:
        real(file, how)
        calls.append(os.fstat(file).st_ino)
        if len(calls) == 1:
            lock.unlink()

    monkeypatch.setattr(fcntl, "flock", flock)
    taken = locking.Lock(str(tmp_path / "rows.npy"), "--per-row", ["score"])
    assert len(calls) == 2
    assert lock.stat().st_ino == calls[1]
    with pytest.raises(DataError, match="another run"):
        locking.Lock(str(tmp_path / "rows.npy"), "--per-row", ["score"])
    assert lock.exists()
    taken.close()
    assert not lock.exists()


@posix
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(
    files: Files, data: object, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The text alone tells then: of a process that is dead, or that cannot be known."""
    import fcntl

    def flock(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    state, lock = tmp_path / "state.json", tmp_path / "state.json.lock"
    assert files.score("--resume", str(state)) == 0
    assert not lock.exists()
    state.unlink()
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    for text in (holder(process=dead.pid), holder(boot="another")):
        lock.write_text(text)
        assert files.score("--resume", str(state)) == 0
        assert not lock.exists()
        state.unlink()
    for text in (holder(), holder(host="elsewhere"), ""):
        lock.write_text(text)
        capsys.readouterr()
        assert files.score("--resume", str(state)) == 1
        assert f"if it has ended, remove {lock} and start this again" in error(capsys)
        assert lock.read_text() == text


def test_temporary_files_of_others_stay(files: Files, data: object, tmp_path: Path, capsys: Capture) -> None:
    """Without a lock that tells of a dead process, such a file is somebody's."""
    for option, name in (("--resume", "state.json"), ("--per-row", "rows.csv")):
        mine = tmp_path / f"{name}.tmp"
        mine.write_text("mine")
        assert files.score(option, str(tmp_path / name)) == 1
        assert f"{option} {tmp_path / name} is written by way of {mine}, which is there already" in error(
            capsys
        )
        assert mine.read_text() == "mine"
        mine.unlink()
    assert {path.name for path in tmp_path.iterdir()} == {"logits.npy", "targets.npy"}


def test_a_complete_run_can_be_shown_from_a_folder_that_cannot_be_written(
    files: Files, data: object, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    assert files.score("--resume", str(folder / "state.json")) == 0
    first = capsys.readouterr().out
    monkeypatch.setattr(os, "access", lambda *_: False)  # what root would not see of a folder's permissions
    before = list(folder.iterdir())
    assert files.score("--resume", str(folder / "state.json")) == 0
    assert capsys.readouterr().out == first
    assert list(folder.iterdir()) == before
    assert files.score("--resume", str(folder / "other.json")) == 1
    assert "is not a folder in which it can be written" in error(capsys)
