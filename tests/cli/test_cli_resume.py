"""Runs that are interrupted and resumed: the same bits as those of a run in one piece."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crossent import __version__, _core
from crossent import _cli as cli
from crossent._cli.state import State
from steps import before_block, raises
from test_cli import Array, Files, error, files, interrupt, made, posix

__all__ = ["files"]

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def data(files: Files) -> tuple[Array, Array]:
    logits, target = made((3000, 20))
    files.save(logits, target)
    return logits, target


def stop_after(monkeypatch: pytest.MonkeyPatch, blocks: int) -> None:
    """Have Ctrl-C pressed once in a later block."""
    before_block(blocks + 1, raises(KeyboardInterrupt()), monkeypatch.setattr)


SMALL = ("--memory", "50K")  # some twenty blocks


@pytest.mark.parametrize("blocks", [0, 1, 7])
def test_the_same_bits(
    files: Files, data: object, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, blocks: int
) -> None:
    assert files.score("--json") == 0
    whole = capsys.readouterr().out
    state = str(tmp_path / "state.json")
    arguments = ("--json", "--resume", state, *SMALL)
    stop_after(monkeypatch, blocks)
    assert files.score(*arguments) == 130
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    rows = json.loads(Path(state).read_text())["rows"]
    assert lines[0] == f"crossent: interrupted: {rows} of 3000 rows scored; the result so far:"
    assert lines[-1] == "crossent: to go on: " + " ".join(
        ["crossent", "score", files.logits, files.targets, *arguments]
    )
    partial = json.loads("\n".join(lines[1:-1]))
    assert partial["complete"] is False
    assert partial["count"] + partial["ignored"] == rows
    assert (rows > 0) == (blocks > 0)
    assert files.score(*arguments) == 0
    assert capsys.readouterr().out == whole


def test_a_state_of_a_complete_run_gives_its_result(files: Files, data: object, tmp_path: Path, capsys: Capture,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    state = str(tmp_path / "state.json")
    assert files.score("--resume", state, "--json") == 0
    first = capsys.readouterr()
    assert first.err == ""

    before_block(1, raises(AssertionError("it is read again")), monkeypatch.setattr)
    assert files.score("--resume", state, "--json") == 0
    again = capsys.readouterr()
    assert again.out == first.out
    assert again.err == f"crossent: note: {state} is of a run that is complete; this is its result\n"
    assert not Path(f"{state}.tmp").exists()


def test_a_table_of_unknown_length(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, target = made((400, 3))
    lines = [
        ",".join(map(repr, [*row, label]))
        for row, label in zip(logits.tolist(), target.tolist(), strict=True)
    ]
    table = tmp_path / "x.csv"
    table.write_text("\n".join(["a,b,c,label", *lines]))
    state = str(tmp_path / "state.json")
    command = ["score", str(table), "--values", "logits", "--json"]
    assert cli.main(command) == 0
    whole = capsys.readouterr().out
    command += ["--resume", state, "--memory", "40K"]
    stop_after(monkeypatch, 2)
    assert cli.main(command) == 130
    assert 0 < json.loads(Path(state).read_text())["rows"] < 400
    assert "rows scored; the result so far" in capsys.readouterr().err
    assert cli.main(command) == 0
    assert capsys.readouterr().out == whole
    assert cli.main(command) == 0
    assert capsys.readouterr().out == whole


@pytest.mark.parametrize("axis", [0, 1])
def test_any_order_of_rows(
    files: Files, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, axis: int
) -> None:
    logits, target = made((30, 40, 50), axis)
    logits[np.nonzero(logits > 9)] = np.nan
    files.save(np.asfortranarray(logits), target)
    options = ["--json", "--axis", str(axis), "--memory", "30K"]
    assert files.score(*options) == 0
    whole = capsys.readouterr().out
    assert json.loads(whole)["nonfinite"] > 0
    stop_after(monkeypatch, 5)
    options += ["--resume", str(tmp_path / "state.json")]
    assert files.score(*options) == 130
    assert files.score(*options) == 0
    assert capsys.readouterr().out == whole


def test_a_number_of_units_counts_once(
    files: Files, data: object, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--json", "--bytes", "9000"]
    assert files.score(*options) == 0
    whole = json.loads(capsys.readouterr().out)
    assert (whole["units"], whole["unit"]) == (9000.0, "byte")
    assert whole["bits_per_unit"] == pytest.approx(whole["nll_sum"] / np.log(2) / 9000)
    stop_after(monkeypatch, 3)
    options += ["--resume", str(tmp_path / "state.json"), *SMALL]
    assert files.score(*options) == 130
    assert '"units": null' in capsys.readouterr().err
    assert files.score(*options) == 0
    assert json.loads(capsys.readouterr().out) == whole


# ---- what cannot be resumed ---------------------------------------------------------------------------------


@pytest.fixture
def stopped(
    files: Files, data: object, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> str:
    state = str(tmp_path / "state.json")
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        assert files.score("--resume", state, *SMALL) == 130
    capsys.readouterr()
    return state


END = "; run the command that began it, or name another state to begin anew\n"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--ignore-index", "3"), "--ignore-index was -100, and is 3"),
        (("--top-k", "1"), "--top-k was 1,5, and is 1"),
        (("--bins", "10"), "--bins was 15, and is 10"),
        (("--values", "log-probs"), "--values was not given, and is log-probs"),
        (("--words", "7"), "--words was not given, and is 7"),
        (("--per-row", "out.npy"), "--per-row was not given, and is out.npy with nll"),
    ],
)
def test_other_options(
    files: Files, stopped: str, capsys: Capture, options: tuple[str, ...], text: str
) -> None:
    assert files.score("--resume", stopped, *options) == 1
    assert error(capsys) == f"crossent: error: {stopped} cannot be resumed: {text}{END}"


def test_other_memory_and_threads_do_not_matter(files: Files, stopped: str, capsys: Capture) -> None:
    assert files.score("--json") == 0
    whole = capsys.readouterr().out
    assert files.score("--json", "--resume", stopped, "--memory", "1M") == 0
    assert capsys.readouterr().out == whole


def test_other_files(files: Files, stopped: str, data: tuple[Array, Array], capsys: Capture) -> None:
    logits, target = data
    logits[2900, 3] += 1
    np.save(files.logits, logits)
    assert files.score("--resume", stopped) == 1
    assert error(capsys) == (
        f"crossent: error: {stopped} cannot be resumed: {files.logits} was a file of 240128 bytes, and is one of "
        f"other content{END}"
    )
    np.save(files.logits, logits[:2000])
    np.save(files.targets, target[:2000])
    assert files.score("--resume", stopped) == 1
    assert "was a file of 240128 bytes, and is one of 160128" in error(capsys)
    np.save(files.targets + ".npy", target[:2000])
    assert cli.main(["score", files.logits, files.targets + ".npy", "--resume", stopped]) == 1
    assert "was a file of 240128 bytes" in error(capsys)


def test_another_name(
    files: Files, stopped: str, data: tuple[Array, Array], capsys: Capture, tmp_path: Path
) -> None:
    other = str(tmp_path / "other.npy")
    np.save(other, data[1])
    assert cli.main(["score", files.logits, other, "--resume", stopped]) == 1
    assert f"targets was {files.targets}, and is {other}" in error(capsys)
    assert cli.main(["compare", files.logits, files.logits, "--resume", stopped]) == 1
    assert "the command was score, and is compare" in error(capsys)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"version": "0.0.0"}, f"crossent's version was 0.0.0, and is {__version__}"),
        ({"isa": "abacus"}, f"the instruction set was abacus, and is {_core.build_info()['isa']}"),
    ],
)
def test_another_program(
    files: Files, stopped: str, capsys: Capture, change: dict[str, str], text: str
) -> None:
    state = Path(stopped)
    state.write_text(json.dumps(json.loads(state.read_text()) | change))
    assert files.score("--resume", stopped) == 1
    assert text in error(capsys)


NOT_STATES: dict[bytes, str] = {
    b"": "it is empty",
    b"{}": "it has no format",
    b"[]": "it is not a JSON object",
    b"\x00\x01": "it is not a JSON object",
    b"\x93NUMPY\x01\x00": "it is not a JSON object",
    b'{"format": 3}': "its format is 3, expected 'crossent.run 1'",
    b'{"name": "another program"}': "it has no format",
    b'{"a": "\xff"}': "it is not JSON: 'utf-8' codec",
    b'{"a": 1': "it is not JSON: Expecting ',' delimiter",
    b'{"a":' * 100_000: "it is not JSON: maximum recursion depth",
}


@pytest.mark.parametrize("command", ["score", "merge", "merge second"])
@pytest.mark.parametrize("content", NOT_STATES, ids=lambda content: repr(content[:20]))
def test_not_a_state(
    files: Files, stopped: str, tmp_path: Path, capsys: Capture, content: bytes, command: str
) -> None:
    state = tmp_path / "another.json"
    state.write_bytes(content)
    commands = {
        "score": ["score", files.logits, files.targets, "--resume", str(state)],
        "merge": ["merge", str(state)],
        "merge second": ["merge", stopped, str(state)],
    }
    assert cli.main(commands[command]) == 1
    said = error(capsys)
    assert said.startswith(
        f"crossent: error: {state} is not the state of a run, as `crossent score --resume` writes it: "
        f"{NOT_STATES[content]}"
    )
    assert said.endswith("; name another file\n")
    assert state.read_bytes() == content


@pytest.mark.parametrize("command", ["resume", "merge"])
def test_a_folder_is_no_state(
    files: Files, data: object, tmp_path: Path, capsys: Capture, command: str
) -> None:
    if command == "merge":
        assert cli.main(["merge", str(tmp_path)]) == 1
        assert f"{tmp_path} is a folder" in error(capsys)
    else:
        assert files.score("--resume", str(tmp_path)) == 1
        assert f"--resume {tmp_path} is a folder, expected the name of a file" in error(capsys)


DAMAGE: dict[str, tuple[Callable[[Any], object], str]] = {
    "a field is missing": (lambda state: state.pop("rows") and None, "it has no field 'rows'"),
    "the sums are missing": (lambda state: state.pop("sums") and None, "it has no field 'sums'"),
    "rows": (lambda state: state.update(rows="12"), "its field 'rows' is '12', expected a count"),
    "fewer than no rows": (lambda state: state.update(rows=-1), "its field 'rows' is -1, expected a count"),
    "half a row": (lambda state: state.update(rows=0.5), "its field 'rows' is 0.5, expected a count"),
    "other rows": (lambda state: state.update(rows=7), "rows, and its field 'rows' is 7"),
    "complete": (lambda state: state.update(complete=1), "its field 'complete' is 1, expected true or false"),
    "command": (lambda state: state.update(command="plot"), "its field 'command' is 'plot', expected score or"),
    "command of no text": (lambda state: state.update(command=[]), "its field 'command' is [], expected score"),
    "no inputs": (lambda state: state.update(inputs=[]), "its field 'inputs' is [], expected a list of inputs"),
    "inputs": (lambda state: state.update(inputs=[{"name": 3}]), "its field 'inputs' is [{'name': 3}], expected"),
    "files": (lambda state: state["inputs"][0]["files"][0].pop("bytes") and None, "its field 'inputs' is [{"),
    "options": (lambda state: state.update(options=None), "its field 'options' is None, expected an object"),
    "version": (lambda state: state.update(version=1), "its field 'version' is 1, expected a text"),
    "clamped": (lambda state: state.update(clamped="many"), "its field 'clamped' is 'many', expected a count"),
    "a place": (lambda state: state.update(first_nonfinite_row=[-1]), "its field 'first_nonfinite_row' is [-1]"),
    "per_row": (lambda state: state.update(per_row={"path": 1}), "its field 'per_row' is {'path': 1}, expected"),
    "runs": (lambda state: state.update(runs=[1]), "its field 'runs' is [1], expected a list of the inputs"),
    "sums": (lambda state: state.update(sums=[]), "its field 'sums' is [], expected an object"),
    "empty sums": (lambda state: state.update(sums={}), "its sums cannot be read: the text is not that of a scorer"),
    "count": (lambda state: state["sums"].update(count=-1), "its sums cannot be read: the text is not that of"),
    "sums that are none": (lambda state: state["sums"].update(bins=None), "its sums cannot be read: "),
    "other bins": (lambda state: state["options"].update(bins=3), "its sums have 15 bins, and its options give 3"),
    "other top-k": (
        lambda state: state["options"].update({"top-k": [2]}),
        "its sums were made with --top-k 1,5, and its options give 2",
    ),
    "ignore index": (
        lambda state: state["options"].update({"ignore-index": 3}),
        "its sums were made with --ignore-index -100, and its options give 3",
    ),
}  # fmt: skip


@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize("key", DAMAGE)
def test_a_damaged_state_is_named_with_the_field(
    files: Files, stopped: str, tmp_path: Path, capsys: Capture, key: str, position: int
) -> None:
    change, text = DAMAGE[key]
    content = json.loads(Path(stopped).read_text())
    change(content)
    damaged = tmp_path / "damaged.json"
    damaged.write_text(json.dumps(content))
    states = [stopped]
    states.insert(position, str(damaged))
    assert cli.main(["merge", *states]) == 1
    said = error(capsys)
    assert said.startswith(f"crossent: error: {damaged} is damaged: ")
    assert text in said
    Path(stopped).write_text(json.dumps(content))
    assert files.score("--resume", stopped) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"crossent: error: {stopped} ")


@pytest.mark.parametrize("part", [0.2, 0.5, 0.999])
def test_a_state_that_was_cut(files: Files, stopped: str, capsys: Capture, part: float) -> None:
    text = Path(stopped).read_bytes()
    Path(stopped).write_bytes(text[: int(len(text) * part)])
    for arguments in (["merge", stopped], ["score", files.logits, files.targets, "--resume", stopped]):
        assert cli.main(arguments) == 1
        assert error(capsys) == (
            f"crossent: error: {stopped} is damaged: it ends early; restore it, or name another state to begin anew\n"
        )


def test_a_state_of_a_later_version(files: Files, stopped: str, capsys: Capture) -> None:
    content = json.loads(Path(stopped).read_text()) | {"colour": "red", "version": "99.0"}
    Path(stopped).write_text(json.dumps(content))
    assert files.score("--resume", stopped) == 1
    assert error(capsys) == (
        f"crossent: error: {stopped} has a field 'colour', which crossent {__version__} does not write; read it with "
        "the version that wrote it, '99.0'\n"
    )


def test_a_state_is_no_input(files: Files, data: object, capsys: Capture) -> None:
    before = Path(files.targets).read_bytes()
    assert files.score("--resume", files.targets) == 2
    assert error(capsys) == (
        f"crossent: error: --resume {files.targets} is the input {files.targets}, and would overwrite it; name another "
        "file\n"
    )
    assert Path(files.targets).read_bytes() == before


def test_a_state_that_cannot_be_written(
    files: Files, data: object, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the way it is told once; in the end it is an error, but the result is there."""
    assert files.score("--json") == 0
    whole = capsys.readouterr().out
    state = str(tmp_path / "state.json")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(State, "write", full)
    arguments = ("--json", "--resume", state, "--save-every", "0", *SMALL)
    assert files.score(*arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == whole
    command = " ".join(["crossent", "score", files.logits, files.targets, *arguments])
    assert captured.err.splitlines() == [
        f"crossent: warning: {state} could not be written: No space left on device; the run goes on without",
        (
            f"crossent: error: {state} could not be written: No space left on device; the result is complete, but its "
            f"state is not kept: make room on the disk, and run it from the beginning: {command}"
        ),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logits.npy", "targets.npy"]


def test_a_folder_that_is_not_there(files: Files, data: object, tmp_path: Path, capsys: Capture) -> None:
    state = tmp_path / "nowhere" / "state.json"
    assert files.score("--resume", str(state)) == 1
    assert f"--resume {state}: {state.parent} is not a folder in which it can be written; make it" in error(
        capsys
    )


# ---- signals --------------------------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (getattr(signal, "SIGKILL", signal.SIGTERM), -9)],
)
@pytest.mark.parametrize("command", ["score", "compare"])
def test_signals(
    files: Files, data: tuple[Array, Array], tmp_path: Path, capsys: Capture, number: signal.Signals, code: int,
    command: str,
) -> None:  # fmt: skip
    other = str(tmp_path / "other.npy")
    np.save(other, data[0].astype(np.float16))
    state = str(tmp_path / "state.json")
    names = [files.logits, *([other] if command == "compare" else []), files.targets]
    assert cli.main([command, *names, "--json"]) == 0
    whole = capsys.readouterr().out
    arguments = [command, *names, "--json", "--resume", state, "--save-every", "0", *SMALL]
    found, said = interrupt(arguments, number)
    assert found == code
    rows = json.loads(Path(state).read_text())["rows"]
    assert 0 < rows < 3000
    if code > 0:
        assert said.startswith(
            f"crossent: interrupted: {rows} of 3000 rows {command}d; the result so far:\n{{"
        )
        assert said.rstrip().endswith(f"to go on: crossent {' '.join(arguments)}")
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out == whole


@posix
def test_killed_at_any_time(files: Files, data: object, tmp_path: Path, capsys: Capture) -> None:
    """Killed again and again after ever longer, until it is through."""
    assert files.score("--json", "--per-row", str(tmp_path / "whole.csv")) == 0
    whole = capsys.readouterr().out
    state, rows = str(tmp_path / "state.json"), str(tmp_path / "rows.csv")
    arguments = ["score", files.logits, files.targets, "--json", "--resume", state, "--save-every", "0"]
    arguments += ["--memory", "6K", "--per-row", rows]
    command = [sys.executable, "-m", "crossent", *arguments]
    patience, killed, reached = 0.1, 0, set()
    while True:
        with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            try:
                out, err = process.communicate(timeout=patience)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                killed, patience = killed + 1, patience * 1.25
                if Path(state).exists():
                    reached.add(json.loads(Path(state).read_text())["rows"])
                continue
        break
    assert (process.returncode, out) == (0, whole), err
    assert killed > 1
    assert Path(rows).read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "logits.npy", "rows.csv", "state.json", "targets.npy", "whole.csv"
    ]  # fmt: skip
