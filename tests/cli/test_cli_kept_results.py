"""No result that was computed is lost: where a last write fails, where an error ends a run, where stdout is full."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import crossent
from crossent import _cli as cli
from crossent._cli.per_row import PerRow
from crossent._cli.state import State
from steps import before_block, blocks_of, raises
from test_cli import Array, Files, error, files, made, posix
from test_cli_per_row import KINDS, assert_right, columns_of, read
from test_cli_resume import SMALL

__all__ = ["files"]

Capture = pytest.CaptureFixture[str]


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


@pytest.fixture
def whole(files: Files, data: object, capsys: Capture) -> dict[str, Any]:
    """The right figures, of a run that writes nothing."""
    assert files.score("--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert isinstance(content, dict)
    return content


# ---- the last write -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_in_place_of_the_rows(
    files: Files, data: tuple[Array, Array], whole: object, out: Path, capsys: Capture,
    monkeypatch: pytest.MonkeyPatch, kind: str,
) -> None:  # fmt: skip
    """Without a state the rows go to a file beside it, whole and in the shape of the targets."""
    rows = out / f"rows.{kind}"
    before_block(3, rows.mkdir, monkeypatch.setattr)
    assert files.score("--json", "--per-row", str(rows), *columns_of(kind), *SMALL) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out) == whole
    part = out / f"rows.partial.{kind}"
    assert captured.err == (
        f"crossent: error: {rows} could not be written: Is a directory; all of its rows are in {part}\n"
    )
    assert names(out) == sorted([rows.name, part.name])
    assert_right(part, *data)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_in_place_of_the_rows_of_a_run_that_goes_on(
    files: Files, data: tuple[Array, Array], whole: object, out: Path, capsys: Capture,
    monkeypatch: pytest.MonkeyPatch, kind: str,
) -> None:  # fmt: skip
    rows = out / f"rows.{kind}"
    arguments = [
        "--json",
        "--per-row",
        str(rows),
        *columns_of(kind),
        "--resume",
        str(out / "state.json"),
        *SMALL,
    ]
    with monkeypatch.context() as patch:
        before_block(3, rows.mkdir, patch.setattr)
        assert files.score(*arguments) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out) == whole
    command = " ".join(["crossent", "score", files.logits, files.targets, *arguments])
    assert captured.err == (
        f"crossent: error: {rows} could not be written: Is a directory; its rows are kept in {rows}.unfinished: move "
        f"away what is there, and go on from row 3000 with the same command: {command}\n"
    )
    assert names(out) == sorted([rows.name, f"{rows.name}.unfinished", "state.json"])
    rows.rmdir()
    before_block(1, raises(AssertionError("rows are read again")), monkeypatch.setattr)
    assert files.score(*arguments) == 0
    assert json.loads(capsys.readouterr().out) == whole
    assert names(out) == sorted([rows.name, "state.json"])
    assert_right(rows, *data)


@pytest.mark.parametrize("command", ["score", "compare"])
def test_a_folder_in_place_of_the_state(
    files: Files, data: tuple[Array, Array], tmp_path: Path, out: Path, capsys: Capture,
    monkeypatch: pytest.MonkeyPatch, command: str,
) -> None:  # fmt: skip
    inputs = [files.logits, files.targets]
    if command == "compare":
        np.save(tmp_path / "other.npy", data[0].astype(np.float16))
        inputs.insert(1, str(tmp_path / "other.npy"))
    assert cli.main([command, *inputs, "--json"]) == 0
    result = capsys.readouterr().out
    state = out / "state.json"
    before_block(3, state.mkdir, monkeypatch.setattr)
    arguments = [command, *inputs, "--json", "--resume", str(state), *SMALL]
    assert cli.main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == result
    assert captured.err == (
        f"crossent: error: {state} could not be written: Is a directory; the result is complete, but its state is not "
        f"kept: move away what is there, and run it from the beginning: crossent {' '.join(arguments)}\n"
    )
    assert names(out) == ["state.json"]


@pytest.mark.parametrize("resume", [True, False])
def test_a_folder_that_is_removed(
    files: Files,
    data: object,
    whole: object,
    out: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    resume: bool,
) -> None:
    arguments = ["--json", "--per-row", str(out / "rows.csv"), *SMALL]
    if resume:
        arguments += ["--resume", str(out / "state.json"), "--save-every", "0"]
    before_block(5, lambda: shutil.rmtree(out), monkeypatch.setattr)
    assert files.score(*arguments) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out) == whole
    last = captured.err.splitlines()[-1]
    assert last == (
        f"crossent: error: {out / 'rows.csv'} could not be written: No such file or directory, nor another file beside "
        "it: No such file or directory; the result is complete, but its single rows are lost: make its folder again, "
        "and run the command again"
    )
    assert not out.exists()


@posix
def test_the_folder_of_the_rows_is_removed_and_made_again(
    files: Files, data: tuple[Array, Array], whole: object, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are still there by their open file."""

    def again() -> None:
        shutil.rmtree(out)
        out.mkdir()

    before_block(5, again, monkeypatch.setattr)
    assert files.score("--per-row", str(out / "rows.csv"), *SMALL) == 0
    assert_right(out / "rows.csv", *data)
    assert names(out) == ["rows.csv"]


LIMITED = """
import resource, sys
from crossent import _cli as cli
resource.setrlimit(resource.RLIMIT_FSIZE, ({bytes}, {bytes}))
sys.exit(cli.main(sys.argv[1:]))
"""


def limited(size: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command with no room for larger files."""
    command = [sys.executable, "-c", LIMITED.format(bytes=size), *arguments]
    return subprocess.run(command, text=True, capture_output=True, check=False, timeout=600)


@posix
def test_no_room_for_the_rows_in_the_end(files: Files, data: object, whole: object, out: Path) -> None:
    """The records, of 38 bytes a row, are written; the text of more bytes a row is not."""
    rows = out / "rows.csv"
    rows.write_text("of an earlier run")
    arguments = ["score", files.logits, files.targets, "--json", "--per-row", str(rows)]
    done = limited(118_000, *arguments)
    assert done.returncode == 1
    assert json.loads(done.stdout) == whole
    assert done.stderr == (
        f"crossent: error: {rows} could not be written: File too large, nor another file beside it: File too large; "
        "the result is complete, but its single rows are lost: raise the limit on sizes of files, and run the command "
        "again\n"
    )
    assert names(out) == ["rows.csv"]
    assert rows.read_text() == "of an earlier run"
    done = limited(118_000, *arguments, "--resume", str(out / "state.json"))
    assert json.loads(done.stdout) == whole
    assert (
        f"its rows are kept in {rows}.unfinished: raise the limit on sizes of files, and go on "
        in done.stderr
    )
    assert names(out) == ["rows.csv", "rows.csv.unfinished", "state.json"]
    assert cli.main([*arguments, "--resume", str(out / "state.json")]) == 0
    assert names(out) == ["rows.csv", "state.json"]


# ---- an error in the middle -----------------------------------------------------------------------------------

ERRORS: dict[str, tuple[BaseException, str]] = {
    "memory": (MemoryError(), "not enough memory for one block of rows"),
    "reading": (OSError(5, "Input/output error", "x.npy"), "x.npy: Input/output error; check the path"),
    "a damaged block": (ValueError("x.npy is damaged"), "x.npy is damaged"),
    "a mistake of ours": (RuntimeError("oh"), "unexpected RuntimeError: oh; please report it"),
}


@pytest.mark.parametrize("command", ["score", "compare"])
@pytest.mark.parametrize("key", ERRORS)
def test_an_error_in_the_middle_leaves_the_result_so_far(
    files: Files, data: tuple[Array, Array], tmp_path: Path, out: Path, capsys: Capture,
    monkeypatch: pytest.MonkeyPatch, key: str, command: str,
) -> None:  # fmt: skip
    raised, text = ERRORS[key]
    inputs = [files.logits, files.targets]
    if command == "compare":
        np.save(tmp_path / "other.npy", data[0].astype(np.float16))
        inputs.insert(1, str(tmp_path / "other.npy"))
    assert cli.main([command, *inputs, "--json"]) == 0
    result = capsys.readouterr().out
    state = out / "state.json"
    arguments = [command, *inputs, "--json", *SMALL]
    for resume in ([], ["--resume", str(state)]):
        with monkeypatch.context() as patch:
            before_block(5, raises(raised), patch.setattr)
            assert cli.main([*arguments, *resume]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        first, _, rest = captured.err.partition("\n")
        figures, _, last = rest.rstrip().rpartition("\n")
        assert last.startswith(f"crossent: error: {text}")
        if resume:
            figures, _, way = figures.rpartition("\n")
            told = " ".join(["crossent", *arguments, *resume])
            assert way == (
                f"crossent: {state} holds it: `crossent merge {state}` prints it, and as long as the files that are "
                f"read stay the same, this goes on from there: {told}"
            )
        so_far = json.loads(figures)
        rows = so_far["count"] + so_far["ignored"]
        assert 0 < rows < 3000
        assert first == f"crossent: stopped by an error: {rows} of 3000 rows {command}d; the result so far:"
        assert so_far["complete"] is False
        assert names(out) == (["state.json"] if resume else [])
    assert json.loads(state.read_text())["rows"] == rows
    assert cli.main([*arguments, *resume]) == 0
    assert capsys.readouterr().out == result


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("resume", [True, False])
def test_an_error_in_the_middle_leaves_the_rows_so_far(
    files: Files, data: tuple[Array, Array], out: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, kind: str,
    resume: bool,
) -> None:  # fmt: skip
    logits, target = data
    rows, part, state = out / f"rows.{kind}", out / f"rows.partial.{kind}", out / "state.json"
    arguments = [
        "--per-row",
        str(rows),
        *columns_of(kind),
        *SMALL,
        *(["--resume", str(state)] if resume else []),
    ]
    with monkeypatch.context() as patch:
        before_block(5, raises(OSError(5, "Input/output error")), patch.setattr)
        assert files.score(*arguments) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[-2] == f"crossent: the rows so far are in {part}"
    count = read(part)["nll"].size
    assert 0 < count < 3000
    assert_right(part, logits[:count], target[:count])
    assert names(out) == sorted([part.name, *([f"{rows.name}.unfinished", "state.json"] if resume else [])])
    assert files.score(*arguments) == 0
    assert_right(rows, logits, target)
    assert names(out) == sorted([rows.name, *(["state.json"] if resume else [part.name])])


def test_a_bad_row_of_a_table(tmp_path: Path, capsys: Capture) -> None:
    """A target that is known only when its row is read."""
    logits, target = made((3000, 3))
    lines = [
        ",".join(map(repr, [*row, label]))
        for row, label in zip(logits.tolist(), target.tolist(), strict=True)
    ]
    lines[2000] = lines[2000][:-1] + "7"
    table = tmp_path / "x.csv"
    table.write_text("\n".join(["a,b,c,label", *lines]))
    assert (
        cli.main(
            ["score", str(table), "--values", "logits", "--columns", "a,b,c", "--json", "--memory", "40K"]
        )
        == 1
    )
    captured = capsys.readouterr()
    assert captured.out == ""
    first, _, rest = captured.err.partition("\n")
    figures, _, last = rest.rstrip().rpartition("\n")
    so_far = json.loads(figures)
    rows = so_far["count"]
    assert 0 < rows <= 2000
    assert first.startswith(f"crossent: stopped by an error: {rows}")
    assert last.startswith("crossent: error: ")
    assert "7" in last
    assert so_far["mean"] == pytest.approx(crossent.cross_entropy(logits[:rows], target[:rows]), rel=1e-6)


@posix
def test_no_room_for_the_rows_in_the_middle(
    files: Files, data: tuple[Array, Array], out: Path, capsys: Capture
) -> None:
    """The block that does not fit is not counted, and nothing of it stays behind."""
    rows, state = out / "rows.csv", out / "state.json"
    arguments = ["score", files.logits, files.targets, "--json", "--per-row", str(rows), *SMALL]
    done = limited(60_000, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("crossent: stopped by an error: ")
    assert done.stderr.endswith(
        f"crossent: error: {rows}.unfinished: File too large; raise the limit on sizes of files\n"
    )
    assert (
        f"crossent: warning: the rows so far could not be written beside {rows}: File too large"
        in done.stderr
    )
    assert names(out) == []
    done = limited(60_000, *arguments, "--resume", str(state))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"they stay in {rows}.unfinished for the run to go on" in done.stderr
    assert names(out) == ["rows.csv.unfinished", "state.json"]
    assert 0 < json.loads(state.read_text())["rows"] < 3000
    assert cli.main([*arguments, "--resume", str(state)]) == 0
    assert_right(rows, *data)
    assert names(out) == ["rows.csv", "state.json"]


@pytest.mark.parametrize("resume", [True, False])
def test_ctrl_c_with_a_full_disk(
    files: Files, data: object, out: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, resume: bool
) -> None:
    """The result so far is told all the same, and what is told of the rest is true."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(State, "write", full)
    monkeypatch.setattr(PerRow, "_write", full)
    before_block(5, raises(KeyboardInterrupt()), monkeypatch.setattr)
    rows, state = out / "rows.csv", out / "state.json"
    arguments = ["--per-row", str(rows), *(["--resume", str(state)] if resume else []), *SMALL]
    assert files.score(*arguments) == 130
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("crossent: interrupted: ")
    command = " ".join(["crossent", "score", files.logits, files.targets, *arguments])
    if resume:
        assert said[-2] == (
            f"crossent: warning: {state} could not be written: No space left on device; make room on the disk, and run "
            f"it from the beginning: {command}"
        )
    assert said[-1] == (
        f"crossent: warning: the rows so far could not be written beside {rows}: No space left on device; they are lost"
    )
    assert names(out) == []


# ---- calibrate ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", ["fit", "after"])
@pytest.mark.parametrize(
    ("raised", "code"), [(OSError(5, "Input/output error"), 1), (KeyboardInterrupt(), 130)]
)
def test_calibrate_tells_what_it_knows(
    files: Files,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    read: str,
    raised: BaseException,
    code: int,
) -> None:
    rng = np.random.default_rng(5)
    logits = (rng.standard_normal((2000, 6)) * 2).astype(np.float32)
    target = (logits / 2 + rng.gumbel(size=logits.shape)).argmax(axis=1)
    files.save(logits, target)
    expected = crossent.fit_temperature(logits, target)
    # Each read is one block.
    number = 2 if read == "fit" else blocks_of("calibrate", files.logits, files.targets)
    capsys.readouterr()
    before_block(number, raises(raised), monkeypatch.setattr)
    assert cli.main(["calibrate", files.logits, files.targets]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    figures = dict(
        line.split("  ", 1) for line in captured.err.splitlines() if not line.startswith("crossent")
    )
    assert f"{expected.nll_before:.6g} before" in figures["mean NLL"]
    assert ("temperature" in figures) == (read == "after")
    if read == "after":
        assert float(figures["temperature"]) == pytest.approx(expected.temperature, rel=1e-5)
    assert captured.err.startswith(
        "crossent: stopped by an error" if code == 1 else "crossent: interrupted while "
    )
    assert "error: reading or writing failed: Input/output error" in captured.err or code == 130


# ---- merge ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["no folder", "a folder", "full", "in the end"])
def test_merge_prints_what_it_cannot_save(
    files: Files,
    data: object,
    tmp_path: Path,
    out: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    state = str(tmp_path / "state.json")
    assert files.score("--resume", state) == 0
    printed = capsys.readouterr().out
    merged = out / "merged.json"
    if how == "no folder":
        merged = out / "nowhere" / "merged.json"
    elif how == "a folder":
        merged.mkdir()
    else:

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(*((Path, "write_text") if how == "full" else (os, "replace")), full)
    before = names(out)
    assert cli.main(["merge", state, "--save-state", str(merged)]) == 1
    captured = capsys.readouterr()
    assert captured.out == printed
    assert captured.err.startswith(f"crossent: error: --save-state {merged}")
    assert "the result is complete, but its state is not kept" in captured.err
    assert names(out) == before


# ---- stdout ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", ["score", "compare", "calibrate", "merge"])
@pytest.mark.parametrize("stdout", ["full", "closed"])
def test_stdout_takes_nothing(
    files: Files, data: object, tmp_path: Path, capsys: Capture, command: str, stdout: str
) -> None:
    """A run with a state names it; the others tell their result on stderr."""
    state = str(tmp_path / "state.json")
    arguments = {
        "score": ["score", files.logits, files.targets, "--resume", state],
        "compare": ["compare", files.logits, files.logits, files.targets, "--resume", state],
        "calibrate": ["calibrate", files.logits, files.targets],
        "merge": ["merge", state],
    }[command]
    if command == "merge":
        assert files.score("--resume", state) == 0
        capsys.readouterr()
    if stdout == "full":
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "crossent", *arguments], stdout=full, stderr=subprocess.PIPE, text=True,
                check=False,
            )  # fmt: skip
    else:
        line = f'exec "$0" -m crossent {" ".join(arguments)} >&-'
        done = subprocess.run(
            ["/bin/sh", "-c", line, sys.executable], stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    first, *rest = done.stderr.splitlines()
    assert first.startswith("crossent: error: reading or writing failed: ")
    assert first.endswith("; the result could not be printed on stdout")
    assert cli.main(arguments) == 0
    printed = capsys.readouterr()
    if command in ("score", "compare"):
        assert rest == [
            f"crossent: {state} holds all of it; the same command prints it: crossent {' '.join(arguments)}"
        ]
        assert "is of a run that is complete" in printed.err
    else:
        assert rest == ["crossent: the result is:", *printed.out.splitlines()]


@pytest.mark.parametrize("encoding", ["ascii", "iso8859-5", "utf-8"])
def test_an_encoding_that_lacks_a_sign(files: Files, data: object, capsys: Capture, encoding: str) -> None:
    assert files.score() == 0
    printed = capsys.readouterr().out
    assert "±" in printed
    done = subprocess.run(
        [sys.executable, "-m", "crossent", "score", files.logits, files.targets], capture_output=True, check=False,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode(encoding) == printed.replace("±", "±" if encoding == "utf-8" else "\\xb1")


def test_a_result_that_cannot_be_told(
    files: Files, data: object, out: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state is on the disk by then, and tells it another time."""
    arguments = ["--resume", str(out / "state.json"), "--json"]
    with monkeypatch.context() as patch:
        patch.setattr(crossent.Scorer, "result", raises(MemoryError()))
        assert files.score(*arguments) == 1
    assert "not enough memory" in error(capsys)
    assert json.loads((out / "state.json").read_text())["complete"] is True
    assert files.score(*arguments) == 0
    assert json.loads(capsys.readouterr().out)["count"] == 3000


# ---- names that cannot be -------------------------------------------------------------------------------------


def test_names_that_fail_before_the_run(
    files: Files, data: object, out: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_block(1, raises(AssertionError("rows are read")), monkeypatch.setattr)
    (out / "dangling.csv").symlink_to(out / "nowhere" / "rows.csv")
    (out / "full.csv").symlink_to("/dev/full")
    (out / "folder.csv").mkdir()
    (out / "taken.csv.unfinished").mkdir()
    (out / "taken2.csv.tmp").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(out / "pipe.csv")
    before = names(out)
    long = "x" * 240 + ".csv"
    for option, name, text in (
        ("--per-row", "dangling.csv", "which is not there; make that file, or name another"),
        ("--per-row", "full.csv", "/dev/full is there, and is no regular file"),
        ("--per-row", "folder.csv", "is a folder, expected the name of a file"),
        ("--per-row", "taken.csv", "taken.csv.unfinished is there, and is no regular file"),
        ("--per-row", "taken2.csv", "taken2.csv.tmp is there, and is no regular file"),
        ("--per-row", "pipe.csv", "pipe.csv is there, and is no regular file"),
        (
            "--per-row",
            long,
            " beside it cannot be written: File name too long; give a shorter name",
        ),
        ("--resume", "dangling.csv", "which is not there; make that file, or name another"),
        ("--resume", "full.csv", "/dev/full is there, and is no regular file"),
        ("--resume", "folder.csv", "is a folder, expected the name of a file"),
        ("--resume", "y" * 254, "beside it cannot be written: File name too long"),
        ("--resume", "/dev/full", "is there, and is no regular file"),
        ("--resume", "/dev/stdout", " is "),
    ):
        if name == "pipe.csv" and not (out / name).exists():
            continue
        assert files.score(option, str(out / name)) in (1, 2), name
        said = error(capsys)
        assert said.startswith(f"crossent: error: {option} {out / name}"), name
        assert text in said, name
        assert names(out) == before


def test_a_file_that_may_not_be_written(
    files: Files, data: object, out: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = out / "rows.csv"
    rows.write_text("mine")
    real = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path) != rows and real(path, mode)
    )  # as root sees none
    assert files.score("--per-row", str(rows)) == 1
    assert f"--per-row {rows}: you may not write to the file that is there" in error(capsys)
    assert rows.read_text() == "mine"


@posix
def test_no_room_for_a_state_is_found_before_the_run(files: Files, data: object, out: Path) -> None:
    done = limited(100, "score", files.logits, files.targets, "--resume", str(out / "state.json"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "File too large; raise the limit on sizes of files" in done.stderr
    assert names(out) == []


@pytest.mark.parametrize(
    ("names_of", "text"),
    [
        (("rows.csv.lock", "rows.csv"), "would write to the same names beside them"),
        (("rows.csv.unfinished", "rows.csv"), "would write to the same names beside them"),
        (("rows.csv.tmp", "rows.csv"), "would write to the same names beside them"),
        (("rows.partial.csv", "rows.csv"), "would write to the same names beside them"),
        (("./rows.csv", "rows.csv"), "--resume and --per-row both name ./rows.csv"),
        (("here/rows.csv", "rows.csv"), "--resume and --per-row both name here/rows.csv"),
    ],
)
def test_two_outputs_that_meet(
    files: Files, data: object, out: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch,
    names_of: tuple[str, str], text: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(out)
    Path("here").symlink_to(out, target_is_directory=True)
    assert files.score("--resume", names_of[0], "--per-row", names_of[1]) == 2
    assert text in error(capsys)
    assert names(out) == ["here"]


@pytest.mark.parametrize("link", ["hard", "symbolic", "none"])
@pytest.mark.parametrize(
    ("option", "name", "taken"),
    [
        ("--per-row", "rows.npy", "rows.npy"),
        ("--per-row", "rows.npy", "rows.npy.unfinished"),
        ("--per-row", "rows.npy", "rows.npy.tmp"),
        ("--per-row", "rows.npy", "rows.npy.lock"),
        ("--per-row", "rows.npy", "rows.partial.npy"),
        ("--resume", "state.npy", "state.npy"),
        ("--resume", "state.npy", "state.npy.tmp"),
        ("--resume", "state.npy", "state.npy.lock"),
    ],
)
def test_no_input_is_overwritten_by_any_name(
    files: Files,
    data: tuple[Array, Array],
    out: Path,
    capsys: Capture,
    link: str,
    option: str,
    name: str,
    taken: str,
) -> None:
    targets = Path(files.targets)
    if link == "none":
        targets = targets.rename(out / taken)
    elif link == "hard":
        os.link(targets, out / taken)
    else:
        (out / taken).symlink_to(targets)
    before = targets.read_bytes()
    with targets.open("rb") as file:
        np.testing.assert_array_equal(np.load(file), data[1])
    assert cli.main(["score", files.logits, str(targets), option, str(out / name)]) == 2
    said = error(capsys)
    assert f"is the input {targets}" in said
    assert said.startswith(f"crossent: error: {option} {out / name} is ")
    assert targets.read_bytes() == before
    assert names(out) == [taken]


@posix
@pytest.mark.parametrize(
    "name", ["s3:rows.parquet", "a b:c?d#e.parquet", os.fsdecode(b"\xff\xfe.parquet"), "x:y.csv"]
)
def test_any_name_that_the_system_takes(
    files: Files, data: tuple[Array, Array], out: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Arrow takes some names for addresses, and others it cannot write as UTF-8."""
    monkeypatch.chdir(out)
    assert files.score("--per-row", name) == 0
    good = out / f"good{Path(name).suffix}"
    (out / name).rename(good)
    assert_right(good, *data)


def test_a_link_is_written_through(
    files: Files, data: tuple[Array, Array], tmp_path: Path, out: Path
) -> None:
    """The file it names may be on a larger disk: it is written there, and the link stays."""
    (out / "rows.csv").write_text("of before")
    link, state = tmp_path / "rows.csv", tmp_path / "state.json"
    link.symlink_to(out / "rows.csv")
    assert files.score("--per-row", str(link), "--resume", str(state)) == 0
    assert link.is_symlink()
    assert_right(out / "rows.csv", *data)
    assert names(out) == ["rows.csv"]
    assert names(tmp_path) == ["logits.npy", "out", "rows.csv", "state.json", "targets.npy"]
