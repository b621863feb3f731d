"""`--per-row`: the three kinds of file hold what `score` gives, however the rows lie and the run is interrupted."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import crossent
from crossent import _cli as cli
from crossent._cli.per_row import PerRow
from test_cli import DTYPES, Array, Files, error, files, made
from test_cli_resume import SMALL, stop_after

__all__ = ["files"]

Capture = pytest.CaptureFixture[str]
COLUMNS = ["nll", "logsumexp", "entropy", "prediction", "rank", "counted", "correct"]
KINDS = ["npy", "csv", "parquet"]


def read(path: Path) -> dict[str, Array]:
    """The columns of a file."""
    if path.suffix == ".npy":
        array = np.load(path)
        assert array.dtype.names is not None
        return {name: array[name] for name in array.dtype.names}
    if path.suffix == ".csv":
        table = np.genfromtxt(path, delimiter=",", names=True, dtype=None, encoding="utf-8")
        return {name: table[name] for name in table.dtype.names or ()}
    pq = pytest.importorskip("pyarrow.parquet")
    table = pq.read_table(path)
    return {name: table[name].to_numpy() for name in table.column_names}


def assert_right(path: Path, logits: Array, target: Array, axis: int = -1) -> None:
    scores = crossent.score(logits, target, axis=axis)
    columns = read(path)
    rows = columns.pop("row", np.arange(target.size))
    if path.suffix == ".npy":
        assert columns["nll"].shape == target.shape
    assert list(columns) == COLUMNS
    assert sorted(rows.tolist()) == list(range(target.size))
    for name, values in columns.items():
        expected = getattr(scores, name).reshape(-1)[rows]
        if path.suffix == ".csv":  # digits enough for this dtype
            values = values.astype(expected.dtype)
        else:
            assert values.dtype == expected.dtype
        np.testing.assert_array_equal(values.reshape(-1), expected, err_msg=name)


def columns_of(kind: str) -> list[str]:
    return ["--per-row-columns", ",".join(COLUMNS)] if kind == "npy" else []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_kind_and_dtype(files: Files, tmp_path: Path, capsys: Capture, kind: str, dtype: Any) -> None:
    logits, target = made((700, 20), dtype=dtype)
    target[::7] = -100
    logits[5, 3], logits[6, target[6]] = np.nan, -np.inf
    files.save(logits, target)
    out = tmp_path / f"rows.{kind}"
    options = ["--dtype", "bf16"] if dtype.name == "bfloat16" else []
    assert files.score("--json", *options) == 0
    whole = capsys.readouterr().out
    assert files.score("--json", "--per-row", str(out), *columns_of(kind), *options, *SMALL) == 0
    assert capsys.readouterr().out == whole
    assert_right(out, logits, target)
    assert {p.name for p in tmp_path.iterdir()} == {"logits.npy", "targets.npy", out.name}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("shape", "axis"), [((4, 25, 11), 2), ((4, 11, 25), 1), ((11, 4, 25), 0), ((2, 5, 7, 9), 1)]
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_order_of_rows(
    files: Files, tmp_path: Path, kind: str, shape: Any, axis: int, order: Any
) -> None:
    logits, target = made(shape, axis)
    files.save(np.asarray(logits, order=order), target)
    out = tmp_path / f"rows.{kind}"
    options = ["--axis", str(axis), "--memory", "4K", *columns_of(kind)]
    assert files.score("--per-row", str(out), *options) == 0
    assert_right(out, logits, target, axis)


@pytest.mark.parametrize("classes", [2, 3, 64, 1500, 140_000])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_width_in_one_read(
    files: Files, tmp_path: Path, capsys: Capture, classes: int, order: Any
) -> None:
    logits, target = made((3 if classes > 10_000 else 300, classes), dtype=np.dtype(np.float16))
    files.save(np.asarray(logits, order=order), target)
    out = tmp_path / "rows.npy"
    assert files.score("--json") == 0
    whole = capsys.readouterr().out
    assert files.score("--json", "--per-row", str(out), *columns_of("npy")) == 0
    assert capsys.readouterr().out == whole
    assert_right(out, logits, target)


def test_losses_alone(files: Files, tmp_path: Path) -> None:
    logits, target = made((6, 50, 8))
    files.save(logits, target)
    out = tmp_path / "nll.npy"
    assert files.score("--per-row", str(out)) == 0
    np.testing.assert_array_equal(np.load(out, mmap_mode="r"), crossent.score(logits, target).nll)
    out = tmp_path / "chosen.csv"
    assert files.score("--per-row", str(out), "--per-row-columns", "rank,nll") == 0
    assert out.read_text().splitlines()[0] == "row,rank,nll"


def test_log_probabilities_are_not_normalised_anew(tmp_path: Path) -> None:
    table, out = tmp_path / "p.csv", tmp_path / "nll.npy"
    table.write_text("a,b,label\n0.5,0.485,0\n0.5,0.5,1\n")
    assert cli.main(["score", str(table), "--per-row", str(out)]) == 0
    np.testing.assert_array_equal(np.load(out), np.log([2.0, 2.0]))


def test_no_rows(files: Files, tmp_path: Path, capsys: Capture) -> None:
    files.save(np.empty((0, 5), np.float32), np.empty(0, np.int64))
    for kind in KINDS:
        out = tmp_path / f"rows.{kind}"
        assert files.score("--per-row", str(out)) == 1
        assert "no row was counted" in capsys.readouterr().err
        assert out.exists()
    assert np.load(tmp_path / "rows.npy").shape == (0,)


@pytest.mark.parametrize("kind", KINDS)
def test_resumed(
    files: Files, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    logits, target = made((3000, 20))
    files.save(logits, target)
    out, state = tmp_path / f"rows.{kind}", tmp_path / "state.json"
    options = ["--per-row", str(out), "--resume", str(state), *columns_of(kind), *SMALL]
    with monkeypatch.context() as patch:
        stop_after(patch, 9)
        assert files.score(*options) == 130
    rows = json.loads(state.read_text())["rows"]
    part = tmp_path / f"rows.partial.{kind}"
    assert f"crossent: the rows so far are in {part}\n" in capsys.readouterr().err
    assert not out.exists()
    assert_right(part, logits[:rows], target[:rows])
    assert files.score(*options) == 0
    assert_right(out, logits, target)
    assert not (tmp_path / f"rows.{kind}.unfinished").exists()


def test_a_file_that_is_gone(files: Files, tmp_path: Path, capsys: Capture) -> None:
    files.save(*made((30, 20)))
    out, state = tmp_path / "rows.csv", tmp_path / "state.json"
    options = ["--per-row", str(out), "--resume", str(state)]
    assert files.score(*options) == 0
    assert files.score(*options) == 0
    out.unlink()
    capsys.readouterr()
    assert files.score(*options) == 1
    assert error(capsys) == (
        f"crossent: error: {state} is of a run that is complete, but its {out} is gone; name another state and "
        f"another file to begin anew; `crossent merge {state}` prints the result\n"
    )


def test_interrupted_without_a_state(
    files: Files, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, target = made((3000, 20))
    files.save(logits, target)
    stop_after(monkeypatch, 9)
    assert files.score("--per-row", str(tmp_path / "rows.npy"), *SMALL) == 130
    nll = np.load(tmp_path / "rows.partial.npy")
    np.testing.assert_array_equal(nll, crossent.score(logits[: nll.size], target[: nll.size]).nll)
    assert f"crossent: interrupted: {nll.size} of 3000 rows scored" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.unfinished"))


class Stopped:
    def __init__(self, files: Files, folder: Path, logits: Array, target: Array) -> None:
        self.logits, self.target, self.rows = logits, target, 0
        self.out, self.state = folder / "rows.csv", folder / "state.json"
        self.unfinished, self.part = folder / "rows.csv.unfinished", folder / "rows.partial.csv"
        self.options = ["--per-row", str(self.out), "--resume", str(self.state), *SMALL]


@pytest.fixture
def stopped(files: Files, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> Stopped:
    """A run that was interrupted after some blocks, with its state and its rows so far."""
    logits, target = made((3000, 20))
    files.save(logits, target)
    run = Stopped(files, tmp_path, logits, target)
    with monkeypatch.context() as patch:
        stop_after(patch, 9)
        assert files.score(*run.options) == 130
    capsys.readouterr()
    run.rows = json.loads(run.state.read_text())["rows"]
    return run


RECORD = 38  # bytes: a position, three float32, two int64 and two booleans


@pytest.mark.parametrize(
    "left", ["nothing", "no byte", "a part of the header", "some rows", "half a row less"]
)
def test_rows_that_are_lost(files: Files, stopped: Stopped, capsys: Capture, left: str) -> None:
    content = stopped.unfinished.read_bytes()
    header = content.index(b"\n") + 1
    kept, rows = {
        "nothing": (0, 0), "no byte": (0, 0), "a part of the header": (header - 9, 0),
        "some rows": (header + 7 * RECORD + 5, 7),
        "half a row less": (header + stopped.rows * RECORD - 19, stopped.rows - 1),
    }[left]  # fmt: skip
    stopped.unfinished.write_bytes(content[:kept])
    if left == "nothing":
        stopped.unfinished.unlink()
    before = stopped.state.read_bytes()
    assert files.score(*stopped.options) == 1
    assert error(capsys) == (
        f"crossent: error: {stopped.unfinished} has {rows} of the {stopped.rows} rows that were scored before; begin "
        "anew with another state\n"
    )
    assert stopped.state.read_bytes() == before
    assert stopped.part.exists()
    assert not list(stopped.state.parent.glob("*.lock"))


def test_rows_beyond_the_state_are_cut(files: Files, stopped: Stopped) -> None:
    with stopped.unfinished.open("ab") as file:
        file.write(b"x" * (3 * RECORD + 5))
    assert files.score(*stopped.options) == 0
    assert_right(stopped.out, stopped.logits, stopped.target)


def test_rows_of_another_run_are_not_taken(
    files: Files, stopped: Stopped, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many records of the right length are there, but of other logits."""
    np.save(tmp_path / "x.npy", stopped.logits[::-1])
    options = ["--per-row", str(tmp_path / "x.csv"), "--resume", str(tmp_path / "x.json"), *SMALL]
    with monkeypatch.context() as patch:
        stop_after(patch, 12)
        assert cli.main(["score", str(tmp_path / "x.npy"), files.targets, *options]) == 130
    capsys.readouterr()
    (tmp_path / "x.csv.unfinished").replace(stopped.unfinished)
    assert files.score(*stopped.options) == 1
    assert error(capsys) == (
        f"crossent: error: {stopped.unfinished} has 0 of the {stopped.rows} rows that were scored before, and rows of "
        "another run instead; begin anew with another state\n"
    )


@pytest.mark.parametrize("state", [None, "other.json"])
def test_the_rows_of_a_run_that_can_go_on_are_kept(
    files: Files, stopped: Stopped, capsys: Capture, tmp_path: Path, state: str | None
) -> None:
    """Another run with the same name for its rows would take them from the first."""
    content = stopped.unfinished.read_bytes()
    options = ["--per-row", str(stopped.out), *([] if state is None else ["--resume", str(tmp_path / state)])]
    assert files.score(*options) == 1
    assert error(capsys) == (
        f"crossent: error: {stopped.unfinished} holds {stopped.rows} rows of another run, which goes on with --resume "
        f"{stopped.state}; complete that, give --per-row another name, or remove {stopped.unfinished} to give its rows "
        "up\n"
    )
    assert stopped.unfinished.read_bytes() == content
    assert files.score(*stopped.options) == 0
    assert_right(stopped.out, stopped.logits, stopped.target)
    assert files.score(*options) == 0


def test_the_rows_of_a_run_that_moved_are_kept(
    files: Files, stopped: Stopped, capsys: Capture, tmp_path: Path
) -> None:
    folder = tmp_path / "moved"
    folder.mkdir()
    for path in (stopped.unfinished, stopped.state):
        path.rename(folder / path.name)
    assert files.score("--per-row", str(folder / "rows.csv")) == 1
    assert f"goes on with --resume {folder / 'state.json'}" in error(capsys)


@pytest.mark.parametrize("gone", ["the state is removed", "the run is complete", "there was no state"])
def test_rows_that_no_run_needs_are_replaced(
    files: Files, stopped: Stopped, capsys: Capture, tmp_path: Path, gone: str
) -> None:
    content = stopped.unfinished.read_bytes()
    if gone == "the state is removed":
        stopped.state.unlink()
    elif gone == "the run is complete":
        assert files.score(*stopped.options) == 0
        stopped.unfinished.write_bytes(content)
    else:
        header, _, rest = content.partition(b"\n")
        stopped.unfinished.write_bytes(
            json.dumps(json.loads(header) | {"state": None}).encode() + b"\n" + rest
        )
    assert files.score("--per-row", str(stopped.out)) == 0
    assert_right(stopped.out, stopped.logits, stopped.target)
    assert not stopped.unfinished.exists()


@pytest.mark.parametrize("content", [b"mine", b"mine\n", b"\x00\x01\x02" * 50, b"{}\n", b'{"format": "x"}\n'])
def test_another_file_of_the_name_of_the_rows_so_far_stays(
    files: Files, tmp_path: Path, capsys: Capture, content: bytes
) -> None:
    files.save(*made((30, 20)))
    mine = tmp_path / "rows.csv.unfinished"
    mine.write_bytes(content)
    assert files.score("--per-row", str(tmp_path / "rows.csv")) == 1
    assert f"{mine} is there, and crossent did not write it" in error(capsys)
    assert mine.read_bytes() == content


def test_what_a_complete_run_had_no_time_to_remove(files: Files, stopped: Stopped) -> None:
    """It was killed after its state was written."""
    unfinished, part = stopped.unfinished.read_bytes(), stopped.part.read_bytes()
    assert files.score(*stopped.options) == 0
    assert not stopped.unfinished.exists()
    assert not stopped.part.exists()
    stopped.unfinished.write_bytes(unfinished)
    stopped.part.write_bytes(part)
    assert files.score(*stopped.options) == 0
    assert not stopped.unfinished.exists()
    assert not stopped.part.exists()
    assert_right(stopped.out, stopped.logits, stopped.target)


# ---- the rows so far ------------------------------------------------------------------------------------------


def test_the_rows_so_far_do_not_outlive_their_completion(files: Files, stopped: Stopped) -> None:
    assert stopped.part.exists()
    assert files.score(*stopped.options) == 0
    assert {path.name for path in stopped.out.parent.iterdir()} == {
        "logits.npy", "targets.npy", "rows.csv", "state.json",
    }  # fmt: skip


def test_the_rows_so_far_are_replaced_by_later_ones_of_the_same_run(
    files: Files, stopped: Stopped, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        assert files.score(*stopped.options) == 130
    later = json.loads(stopped.state.read_text())["rows"]
    assert stopped.rows < later < 3000
    assert_right(stopped.part, stopped.logits[:later], stopped.target[:later])
    assert not list(stopped.out.parent.glob("*partial-2*"))
    assert files.score(*stopped.options) == 0
    assert not stopped.part.exists()


@pytest.mark.parametrize("resume", [True, False])
def test_other_rows_so_far_stay(
    files: Files, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, resume: bool
) -> None:
    """They may be all that is left of a run; so there are two then."""
    files.save(*made((3000, 20)))
    mine = tmp_path / "rows.partial.csv"
    mine.write_text("mine")
    options = ["--per-row", str(tmp_path / "rows.csv"), *SMALL]
    options += ["--resume", str(tmp_path / "state.json")] if resume else []
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        assert files.score(*options) == 130
    assert mine.read_text() == "mine"
    second = tmp_path / "rows.partial-2.csv"
    assert f"crossent: the rows so far are in {second}\n" in capsys.readouterr().err
    assert second.exists()
    assert files.score(*options) == 0
    assert mine.read_text() == "mine"
    assert second.exists() != resume


def test_rows_so_far_that_were_changed_stay(
    files: Files, stopped: Stopped, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped.part.write_text("mine")
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        assert files.score(*stopped.options) == 130
    assert stopped.part.read_text() == "mine"
    assert files.score(*stopped.options) == 0
    assert stopped.part.read_text() == "mine"
    assert not (stopped.part.parent / "rows.partial-2.csv").exists()


@pytest.mark.parametrize("change", ["longer", "shorter", "a digit", "a folder"])
def test_a_complete_run_whose_rows_were_changed(
    files: Files, stopped: Stopped, capsys: Capture, change: str
) -> None:
    """The command promises the rows of the run in that file, and does not overwrite what somebody made of it."""
    assert files.score(*stopped.options) == 0
    capsys.readouterr()
    content = stopped.out.read_bytes()
    changed = {
        "longer": content + b"more\n", "shorter": content[:-9], "a digit": content.replace(b"17", b"71", 1),
        "a folder": content,
    }[change]  # fmt: skip
    if change == "a folder":
        stopped.out.unlink()
        stopped.out.mkdir()
    else:
        stopped.out.write_bytes(changed)
    assert files.score(*stopped.options) == 1
    said = error(capsys)
    if change == "a folder":
        assert f"--per-row {stopped.out} is a folder" in said
        return
    assert said == (
        f"crossent: error: {stopped.state} is of a run that is complete, but its {stopped.out} has been changed since; "
        f"name another state and another file to begin anew; `crossent merge {stopped.state}` prints the result\n"
    )
    assert stopped.out.read_bytes() == changed
    assert cli.main(["merge", str(stopped.state)]) == 0


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (["--per-row", "rows.txt"], 2, "--per-row rows.txt: the name must end in .npy, .parquet or .csv"),
        (
            ["--per-row", "rows.csv", "--per-row-columns", "nll,loss"],
            2,
            "--per-row-columns nll,loss: expected",
        ),
        (
            ["--per-row", "rows.csv", "--per-row-columns", "nll,nll"],
            2,
            "--per-row-columns nll,nll: expected different",
        ),
        (["--per-row-columns", "nll"], 2, "--per-row-columns goes with --per-row OUT"),
        (["--per-row", "nowhere/rows.csv"], 1, "nowhere is not a folder in which it can be written; make it"),
        (["--per-row", "logits.npy"], 2, "--per-row logits.npy is the input "),
        (["--per-row", "rows.csv", "--resume", "rows.csv"], 2, "--resume and --per-row both name rows.csv"),
    ],
)
def test_names_that_cannot_be(
    files: Files, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, options: list[str],
    code: int, text: str,
) -> None:  # fmt: skip
    files.save(*made((10, 3)))
    monkeypatch.chdir(tmp_path)
    before = Path(files.logits).read_bytes()
    assert files.score(*options) == code
    assert text in error(capsys)
    assert {p.name for p in tmp_path.iterdir()} == {"logits.npy", "targets.npy"}
    assert Path(files.logits).read_bytes() == before


def test_a_link_to_an_input(files: Files, tmp_path: Path, capsys: Capture) -> None:
    files.save(*made((10, 3)))
    link = tmp_path / "link.npy"
    link.symlink_to(files.targets)
    assert files.score("--per-row", str(link)) == 2
    assert f"--per-row {link} is the input {files.targets}, and would overwrite it" in error(capsys)


def test_parquet_needs_its_package(
    files: Files, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.save(*made((10, 3)))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert files.score("--per-row", str(tmp_path / "rows.parquet")) == 2
    assert "needs the package pyarrow; pip install 'crossent[io]'" in error(capsys)


def test_an_error_leaves_the_file_of_before(
    files: Files, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.save(*made((3000, 20)))
    out = tmp_path / "rows.csv"
    out.write_text("of before")

    def fail(*_: object) -> None:
        raise OSError(5, "the disk failed")

    monkeypatch.setattr(PerRow, "append", fail)
    assert files.score("--per-row", str(out)) == 1
    assert "the disk failed" in error(capsys)
    assert out.read_text() == "of before"


def test_a_total_of_units_is_counted_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "x.npy", np.zeros((24, 3), np.float32))
    np.save(tmp_path / "t.npy", np.zeros(24, np.int64))
    command = ["score", str(tmp_path / "x.npy"), str(tmp_path / "t.npy"), "--bytes", "100", "--json"]
    assert cli.main(command) == 0
    expected = json.loads(capsys.readouterr().out)
    command += ["--resume", str(tmp_path / "state.json"), "--per-row", str(tmp_path / "rows.csv")]

    def fail(*_: object) -> None:
        raise OSError(5, "the disk failed")

    with monkeypatch.context() as patch:  # the last step fails, and is done again
        patch.setattr(PerRow, "_write_csv", fail)
        assert cli.main(command) == 1
    assert json.loads(capsys.readouterr().out)["units"] == expected["units"] == 100
    assert cli.main(command) == 0
    assert json.loads(capsys.readouterr().out)["units"] == expected["units"] == 100
