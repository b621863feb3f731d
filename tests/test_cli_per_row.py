"""`--per-row`: the three kinds of file hold what `score` gives, however the rows lie and the run is interrupted."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import crossent
from crossent import _core, cli
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
        f"crossent: error: {state} is of a run that is complete, but its {out} is gone; name another state to begin "
        "anew\n"
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


def test_rows_that_are_lost(
    files: Files, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.save(*made((3000, 20)))
    out, state = tmp_path / "rows.csv", tmp_path / "state.json"
    options = ["--per-row", str(out), "--resume", str(state), *SMALL]
    with monkeypatch.context() as patch:
        stop_after(patch, 9)
        assert files.score(*options) == 130
    capsys.readouterr()
    rows = json.loads(state.read_text())["rows"]
    Path(f"{out}.unfinished").unlink()
    assert files.score(*options) == 1
    assert error(capsys) == (
        f"crossent: error: {out}.unfinished has 0 of the {rows} rows that were scored before; begin anew with another "
        "state\n"
    )


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
    assert "needs the package pyarrow; pip install crossent[io]" in error(capsys)


def test_an_error_leaves_the_file_of_before(
    files: Files, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.save(*made((3000, 20)))
    out = tmp_path / "rows.csv"
    out.write_text("of before")

    def fail(*_: object) -> None:
        raise OSError(5, "the disk failed")

    monkeypatch.setattr(_core, "score", fail)
    assert files.score("--per-row", str(out)) == 1
    assert "the disk failed" in error(capsys)
    assert out.read_text() == "of before"


def test_a_total_of_units_is_counted_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", np.zeros((24, 3), np.float32))
    np.save(tmp_path / "t.npy", np.zeros(24, np.int64))
    command = ["score", str(tmp_path / "x.npy"), str(tmp_path / "t.npy"), "--bytes", "100", "--json"]
    assert cli.main(command) == 0
    expected = json.loads(capsys.readouterr().out)
    (tmp_path / "rows.csv.tmp").mkdir()  # so that the last step fails, and is done again
    command += ["--resume", str(tmp_path / "state.json"), "--per-row", str(tmp_path / "rows.csv")]
    assert cli.main(command) == 1
    (tmp_path / "rows.csv.tmp").rmdir()
    capsys.readouterr()
    assert cli.main(command) == 0
    assert json.loads(capsys.readouterr().out)["units"] == expected["units"] == 100
