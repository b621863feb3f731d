"""The command line: results, files, errors and exit codes, and the blocks that a file is scored in."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from children import environment
from crossent import __version__, _core
from crossent import _cli as cli
from crossent._cli import reading
from crossent._cli.output import warnings_told
from crossent._io import open_npy
from crossent._io.layout import cut_array
from crossent.blocks import BLOCK_BYTES
from steps import before_block, raises

Array = npt.NDArray[Any]

DTYPES = [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16), np.dtype(np.float32), np.dtype(np.float64)]


def reference(logits: Array, target: Array, *, axis: int = -1, ignore_index: int = -100) -> dict[str, float]:
    """The figures from their definitions, in float64."""
    rows = np.moveaxis(np.asarray(logits, dtype=np.float64), axis, -1)
    rows = rows.reshape(-1, rows.shape[-1])
    classes = target.reshape(-1).astype(np.int64)
    counted = classes != ignore_index
    rows, classes = rows[counted], classes[counted]
    top = rows.max(axis=1)
    nll = top + np.log(np.exp(rows - top[:, np.newaxis]).sum(axis=1)) - rows[np.arange(len(rows)), classes]
    mean = math.fsum(nll) / len(nll)
    return {
        "count": len(rows),
        "ignored": int((~counted).sum()),
        "mean": mean,
        "bits_per_token": mean / math.log(2),
        "perplexity": math.exp(mean),
        "accuracy": float(np.mean(rows.argmax(axis=1) == classes)),
    }


def made(shape: tuple[int, ...], axis: int = -1, dtype: npt.DTypeLike = np.float32) -> tuple[Array, Array]:
    rng = np.random.default_rng(7)
    logits = (rng.standard_normal(shape) * 3).astype(dtype)
    rows = shape[:axis] + shape[axis:][1:]
    return logits, rng.integers(shape[axis], size=rows)


class Files:
    """A folder of the test's own, with the names that the command is given."""

    def __init__(self, folder: Path) -> None:
        self.logits, self.targets = str(folder / "logits.npy"), str(folder / "targets.npy")

    def save(self, logits: npt.ArrayLike, target: npt.ArrayLike) -> None:
        np.save(self.logits, logits)
        np.save(self.targets, target)

    def score(self, *arguments: str) -> int:
        return cli.main(["score", self.logits, self.targets, *arguments])


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def figures(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What `--json` printed, which is all of stdout."""
    content = json.loads(capsys.readouterr().out)
    assert isinstance(content, dict)
    return content


def error(capsys: pytest.CaptureFixture[str]) -> str:
    """The line of an error; stdout is empty."""
    captured = capsys.readouterr()
    assert captured.out == ""
    return error_line(captured.err)


def error_line(err: str) -> str:
    """The one line of an error on stderr, after the result of the rows before it, if there were any."""
    *before, last = err.splitlines(keepends=True)
    assert last.startswith("crossent: error: ")
    assert last.endswith("\n")
    assert not before or before[0].startswith("crossent: stopped by an error: ")
    assert not any(line.startswith("crossent: error: ") for line in before)
    return last


def assert_close(content: dict[str, Any], expected: dict[str, float]) -> None:
    for name, value in expected.items():
        assert content[name] == pytest.approx(value, rel=1e-6), name


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "crossent", *arguments]
    return subprocess.run(command, text=True, capture_output=True, check=False, timeout=600, **options)


# ---- results ----------------------------------------------------------------------------------------------


def test_table(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    logits = np.zeros((1000, 4), dtype=np.float32)
    target = np.arange(1000) % 4
    target[:8] = -100
    files.save(logits, target)
    assert files.score() == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.splitlines() == [
        "rows counted          992",
        "rows ignored          8",
        "mean NLL              1.38629 ± 0 nats (standard error)",
        "perplexity            4 (95 %: 4 to 4)",
        "bits per row          2",
        "accuracy              0.25",
        "mean reciprocal rank  0.520833",
        "mean entropy          1.38629 nats",
        "calibration error     0 (15 bins)",
        "Brier score           0.75",
    ]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("order", ["C", "F"])
def test_dtypes_and_orders(files: Files, capsys: pytest.CaptureFixture[str], dtype: Any, order: Any) -> None:
    logits, target = made((300, 17), dtype=dtype)
    files.save(np.asarray(logits, order=order), target)
    options = ["--dtype", "bfloat16"] if dtype == ml_dtypes.bfloat16 else []
    assert files.score("--json", *options) == 0
    content = figures(capsys)
    assert_close(content, reference(logits, target))
    assert content["dtype"] == dtype.name


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i4", ">i8"])
def test_target_dtypes(files: Files, capsys: pytest.CaptureFixture[str], dtype: str) -> None:
    logits, target = made((100, 20))
    files.save(logits, target.astype(dtype))
    assert files.score("--json", "--ignore-index", "3") == 0
    assert_close(figures(capsys), reference(logits, target, ignore_index=3))


def test_byte_swapped_logits(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    logits, target = made((100, 20))
    files.save(logits.astype(">f4"), target)
    assert files.score("--json") == 0
    assert_close(figures(capsys), reference(logits, target))


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((4, 25, 11), -1),
        ((4, 25, 11), 2),
        ((4, 11, 25), 1),
        ((11, 4, 25), 0),
        ((11, 40), 0),
        ((2, 5, 7, 9), 1),
    ],
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_axes(files: Files, capsys: pytest.CaptureFixture[str], shape: Any, axis: int, order: Any) -> None:
    logits, target = made(shape, axis)
    files.save(np.asarray(logits, order=order), target)
    assert files.score("--json", "--axis", str(axis)) == 0
    content = figures(capsys)
    assert_close(content, reference(logits, target, axis=axis))
    assert content["shape"] == list(shape)
    assert content["axis"] == axis % len(shape)


def test_one_row(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    logits, _ = made((9, 5))
    for target in (np.int64(3), np.array([3])):
        files.save(logits[0], target)
        assert files.score("--json") == 0
        assert_close(figures(capsys), reference(logits[:1], np.array([3])))


def test_json_says_where_it_comes_from(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    files.save(*made((30, 5)))
    assert files.score("--json", "--ignore-index", "255") == 0
    content = figures(capsys)
    expected = {
        "version": __version__,
        "isa": _core.build_info()["isa"],
        "threads": _core.get_num_threads(),
        "logits": files.logits,
        "targets": files.targets,
        "shape": [30, 5],
        "dtype": "float32",
        "axis": 1,
        "ignore_index": 255,
        "complete": True,
        "nonfinite": 0,
        "notes": [],
    }
    assert {name: content[name] for name in expected} == expected
    page = (Path(__file__).parents[2] / "docs" / "command_line.md").read_text(encoding="utf-8")
    assert set(content) <= set(re.findall(r"`(\w+)`", page))


def test_ignored_rows_may_hold_anything(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    logits, target = made((50, 6))
    target[10:20] = -100
    expected = reference(logits, target)
    logits[10:20] = np.nan
    files.save(logits, target)
    assert files.score("--json") == 0
    assert_close(figures(capsys), expected)


@pytest.mark.parametrize(("value", "name"), [(np.nan, "nan"), (-np.inf, "inf")])
def test_not_finite(files: Files, capsys: pytest.CaptureFixture[str], value: float, name: str) -> None:
    logits, target = made((5, 10, 6))
    logits[3, 7, target[3, 7]] = value
    files.save(logits, target)
    assert files.score("--json") == 0
    captured = capsys.readouterr()
    content = json.loads(captured.out)
    assert content["mean"] is None
    assert content["perplexity"] is None
    assert content["nonfinite"] == 1
    assert content["first_nonfinite_row"] == [3, 7]
    assert f"mean is {name}, written as null" in content["notes"]
    assert "row [3, 7]" in captured.err
    assert files.score() == 0
    assert name in capsys.readouterr().out


def test_perplexity_out_of_range(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    files.save(np.array([[0.0, 1e308]] * 3), np.zeros(3, dtype=np.int64))
    assert files.score("--json") == 0
    content = figures(capsys)
    assert content["mean"] == 1e308
    assert content["perplexity"] is None


@pytest.mark.parametrize("rows", [0, 20])
def test_nothing_counted(files: Files, capsys: pytest.CaptureFixture[str], rows: int) -> None:
    files.save(np.zeros((rows, 3), dtype=np.float32), np.full(rows, -100))
    assert files.score("--json") == 1
    captured = capsys.readouterr()
    content = json.loads(captured.out)
    assert (content["count"], content["ignored"], content["mean"]) == (0, rows, None)
    assert "crossent: error: no row was counted" in captured.err
    assert files.score() == 1
    assert "nan" in capsys.readouterr().out


# ---- blocks and exact sums --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "axis"), [((4000, 7), 1), ((3, 1000, 40), 2), ((6, 5, 30, 31), 1), ((9, 3000), 0)]
)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("block_bytes", [1, 1000, 30_000, 1 << 30])
def test_blocks_hold_each_row_once(shape: tuple[int, ...], axis: int, order: Any, block_bytes: int) -> None:
    array = np.zeros(shape, dtype=np.int32, order=order)
    blocks = list(cut_array(array, axis, block_bytes=block_bytes))
    for index in blocks:
        block = array[index]
        assert block.shape[axis] == shape[axis]
        assert np.shares_memory(block, array)
        block += 1
    assert (array == 1).all()
    if block_bytes >= array.nbytes:
        assert len(blocks) == 1
    elif order == "C" and axis == array.ndim - 1:
        assert max(array[index].nbytes for index in blocks) <= max(
            block_bytes, 4096 + array.itemsize * shape[axis]
        )


def test_no_blocks_of_nothing() -> None:
    assert list(cut_array(np.zeros((0, 5)), 1)) == []


@pytest.mark.parametrize("order", ["C", "F"])
def test_same_bits_for_any_block_size(files: Files, capsys: pytest.CaptureFixture[str], order: Any) -> None:
    logits, target = made((50, 60, 33))
    target[::7] = -100
    files.save(np.asarray(logits, order=order), target)
    results = set()
    for memory in ("4", "20K", "300K", "64M"):
        assert files.score("--json", "--memory", memory) == 0
        results.add(capsys.readouterr().out)
    assert len(results) == 1
    assert_close(json.loads(results.pop()), reference(logits, target))


@pytest.mark.parametrize("order", ["C", "F"])
def test_file_of_several_blocks(files: Files, capsys: pytest.CaptureFixture[str], order: Any) -> None:
    logits, target = made((90_000, 100))
    assert logits.nbytes > 2 * BLOCK_BYTES
    files.save(np.asarray(logits, order=order), target)
    assert files.score("--json") == 0
    assert_close(figures(capsys), reference(logits, target))


# ---- bad data: exit code 1 --------------------------------------------------------------------------------


def test_missing_file(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert files.score() == 1
    assert f"{files.logits}: No such file" in error(capsys)


def test_folder_instead_of_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["score", str(tmp_path), str(tmp_path)]) == 1
    assert str(tmp_path) in error(capsys)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "it is empty"),
        (b"0.1,0.2\n", "not a .npy file"),
        (b"PK\x03\x04 and so on", "zip archive"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x93NUMPY", "damaged .npy header"),
        (b"\x93NUMPY\x01\x00\x76\x00{'descr': ", "damaged .npy header"),
        (b"\x93NUMPY\x09\x00\x76\x00", "damaged .npy header"),
    ],
)
def test_not_npy(files: Files, capsys: pytest.CaptureFixture[str], content: bytes, text: str) -> None:
    Path(files.logits).write_bytes(content)
    assert files.score() == 1
    message = error(capsys)
    assert files.logits in message
    assert text in message


def test_wrong_length(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    files.save(*made((100, 10)))
    path = Path(files.logits)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert files.score() == 1
    assert "truncated" in error(capsys)
    path.write_bytes(whole + whole)
    assert files.score() == 1
    assert "several arrays" in error(capsys)


@pytest.mark.parametrize(
    ("logits", "target", "text"),
    [
        (
            np.zeros((5, 3), dtype=np.int64),
            np.zeros(5, dtype=np.int64),
            "holds int64; expected logits of float16",
        ),
        (np.zeros(5, dtype=np.int64), np.zeros((5, 3), dtype=np.float32), "look swapped"),
        (np.zeros((5, 3), dtype=np.complex64), np.zeros(5, dtype=np.int64), "holds complex64"),
        (np.zeros((5, 3)), np.zeros(5), "holds float64; expected integer class indices"),
        (np.zeros((5, 3)), np.zeros(5, dtype=bool), "holds bool; expected integer class indices"),
        (np.array([[None]]), np.zeros(1, dtype=np.int64), "holds dtype object"),
        (np.float32(1), np.int64(0), "a single number"),
        (np.zeros((5, 0)), np.zeros(5, dtype=np.int64), "has no classes"),
        (np.zeros((5, 3)), np.zeros(4, dtype=np.int64), "has shape (4,); expected (5,)"),
        (np.zeros((5, 3)), np.zeros(3, dtype=np.int64), "with --axis 0 they would fit"),
        (np.zeros((2, 9, 3)), np.zeros((2, 3), dtype=np.int64), "with --axis 1 they would fit"),
    ],
)
def test_arrays_that_do_not_fit(
    files: Files, capsys: pytest.CaptureFixture[str], logits: Array, target: Array, text: str
) -> None:
    files.save(logits, target)
    assert files.score() == 1
    assert text in error(capsys)


def test_untyped_elements(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    logits, target = made((10, 3), dtype=ml_dtypes.bfloat16)
    files.save(logits, target)
    assert files.score() == 1
    assert "pass --dtype bfloat16" in error(capsys)
    files.save(logits.astype(np.float32), target)
    assert files.score("--dtype", "bf16") == 1
    assert "which is not bfloat16" in error(capsys)
    with pytest.raises(ValueError, match="as float8; expected bfloat16"):
        open_npy(files.logits, dtype="float8")


@pytest.mark.parametrize("value", [7, 255, -1])
@pytest.mark.parametrize("shape", [(4000,), (40, 100)])
def test_target_out_of_range(
    files: Files, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, value: int, shape: Any
) -> None:
    logits, target = made((*shape, 7))
    place = (3210,) if len(shape) == 1 else (32, 10)
    target[0] = -100
    target[place] = target.reshape(-1)[-1:] = value
    files.save(logits, target)
    for block_bytes in (BLOCK_BYTES, 8000):
        monkeypatch.setattr(reading, "BLOCK_BYTES", block_bytes)
        assert files.score() == 1
        message = error(capsys)
        assert f"{files.targets}: target[{', '.join(map(str, place))}] is {value}" in message
        assert f"--ignore-index {value}" in message
    assert files.score("--json", "--ignore-index", str(value)) == (0 if (target != -100).all() else 1)


def labels_said(capsys: pytest.CaptureFixture[str], files: Files, target: npt.ArrayLike, classes: int) -> str:
    target = np.asarray(target)
    files.save(np.random.default_rng(1).normal(size=(*target.shape, classes)), target)
    assert files.score() == 1
    return error(capsys)


@pytest.mark.parametrize("block_bytes", [BLOCK_BYTES, 16])
@pytest.mark.parametrize("dtype", ["int64", "uint8", "int32"])
def test_labels_from_one_are_not_left_out(
    files: Files,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    block_bytes: int,
    dtype: str,
) -> None:
    monkeypatch.setattr(reading, "BLOCK_BYTES", block_bytes)
    message = labels_said(capsys, files, np.array([3, 1, 2, 3, 1, 2], dtype), 3)
    assert "target[0] is 3" in message
    assert "save targets - 1 instead" in message
    assert "--ignore-index" not in message
    # The last one is what shows that they are counted from 0.
    message = labels_said(capsys, files, np.array([3, 1, 2, 3, 1, 0], dtype), 3)
    assert "targets - 1" not in message
    assert "--ignore-index 3" in message


@pytest.mark.parametrize(
    ("target", "classes", "text"),
    [
        ([1, -100, 2, 2], 2, "save targets - 1 instead, with --ignore-index -101"),
        ([-1, 1, 1, -1], 2, "save (targets + 1) // 2 instead"),
        ([-1, 0, 1, 0], 3, "save targets + 1 instead"),
        ([0, -1, 2, 1], 3, "pass --ignore-index -1"),
        ([0, 255, 20, 1], 21, "pass --ignore-index 255"),
        ([0, 50, 20, 31], 21, "which takes 51 classes"),
        (np.array([3, -15280], np.int16), 50257, "numpy.asarray(targets).view(numpy.uint16)"),
        (np.array([0, 2**64 - 100], np.uint64), 3, "numpy.asarray(targets).astype(numpy.int64)"),
        ([0, 1, 1, 0], 1, "numpy.concatenate([numpy.zeros_like(z), z], axis=-1)"),
    ],
)
def test_advice_on_targets_that_name_no_class(
    files: Files, capsys: pytest.CaptureFixture[str], target: Any, classes: int, text: str
) -> None:
    assert text in labels_said(capsys, files, target, classes)


def test_labels_from_one_in_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "table.csv"
    rows = [f"0.25,0.25,0.5,{1 + i % 3}" for i in range(3000)]
    table.write_text("\n".join(["a,b,c,label", *rows]))
    for memory in ("64M", "4K"):
        assert cli.main(["score", str(table), "--memory", memory]) == 1
        message = capsys.readouterr().err
        assert "targets - 1" in message
        assert "--ignore-index 3" not in message


def test_a_transposed_target_is_to_be_transposed(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    logits, target = made((4, 6, 9))
    files.save(logits, target.T)
    assert files.score() == 1
    message = error(capsys)
    assert "use numpy.asarray(array).transpose(1, 0), and save that" in message
    assert "reshape" not in message
    files.save(np.zeros((4, 5, 4, 4), np.float32), np.zeros((4, 5, 4), int))
    assert files.score("--axis", "0") == 1
    assert "with --axis 2 or 3 they would fit" in error(capsys)


# ---- logits and targets in one file ------------------------------------------------------------------------


def save_together(path: Path, **arrays: Array) -> str:
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        pytest.importorskip("safetensors.numpy").save_file(arrays, path)
    return str(path)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_file_of_logits_and_labels_is_named_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    logits, labels = made((40, 5))
    labels[::2] = logits[::2].argmax(axis=1)  # better than chance, for a temperature to exist
    path = save_together(tmp_path / f"run{suffix}", logits=logits, labels=labels)
    for names in ([path], [f"{path}:logits"], [path, path], [f"{path}:logits", f"{path}:labels"]):
        assert cli.main(["score", *names, "--json"]) == 0
        content = figures(capsys)
        assert_close(content, reference(logits, labels))
        assert content["targets"] in (path, f"{path}:labels")
    assert cli.main(["calibrate", path, "--json"]) == 0
    assert figures(capsys)["count"] == 40
    assert cli.main(["compare", path, path, "--json"]) == 0
    content = figures(capsys)
    assert content["nll_mean"] == pytest.approx(reference(logits, labels)["mean"])
    assert content["targets"] == f"{path}:labels"


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_shards_of_logits_and_labels_are_named_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    logits, labels = made((40, 5))
    for shard in range(4):
        part = slice(10 * shard, 10 * shard + 10)
        save_together(tmp_path / f"run-{shard}{suffix}", logits=logits[part], labels=labels[part])
    assert cli.main(["score", str(tmp_path / f"run-*{suffix}"), "--json"]) == 0
    assert_close(figures(capsys), reference(logits, labels))


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_several_arrays_of_integers_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    logits, labels = made((40, 5))
    path = save_together(tmp_path / f"run{suffix}", logits=logits, labels=labels, ids=labels + 1)
    for command in (["score", path], ["score", f"{path}:logits"], ["calibrate", path]):
        assert cli.main(command) == 2
        message = error(capsys)
        for key in ("labels", "ids"):
            assert f"{path}:logits {path}:{key}" in message
    assert cli.main(["compare", path, path]) == 2
    assert f"{path}:logits {path} {path}:labels" in error(capsys)
    # The divergences alone, where the logits are named and targets are not.
    assert cli.main(["compare", f"{path}:logits", path, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["targets"] is None
    assert "arrays of integers (" in captured.err
    path = save_together(tmp_path / f"alone{suffix}", logits=logits)
    assert cli.main(["score", path]) == 2
    assert f"{path}:logits holds no targets; give a file" in error(capsys)
    assert cli.main(["compare", path, path]) == 0


# ---- bad usage: exit code 2 -------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["", "score", "compare", "calibrate", "plot", "merge", "info"])
def test_no_line_of_the_help_is_wider_than_a_terminal(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        cli.main([*command.split(), "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 10
    assert [line for line in lines if len(line) > 80] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["rank"],
        ["score"],
        ["score", "a.npy", "b.npy", "--top"],
        ["score", "a.npy", "b.npy", "--axis", "x"],
        ["score", "a.npy", "b.npy", "--ignore-index", str(2**63)],
        ["score", "a.npy", "b.npy", "--ignore-index", "pad"],
        ["score", "a.npy", "b.npy", "--dtype", "int8"],
        ["score", "a.npy", "b.npy", "--top-k", "1,0"],
        ["score", "a.npy", "b.npy", "--top-k", "5,5"],
        ["score", "a.npy", "b.npy", "--bins", "-1"],
        ["score", "a.npy", "b.npy", "--save-every", "-1"],
        ["score", "a.npy", "b.npy", "--save-every", "often"],
        ["score", "a.npy", "b.npy", "--bytes", "1", "--words", "1"],
        ["compare", "a.npy"],
        ["calibrate"],
        ["merge"],
    ],
)
def test_bad_usage(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "crossent: error: " in captured.err


def usage(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    """The usage that bad usage prints, and the last line, which says what is wrong."""
    with pytest.raises(SystemExit) as stop:
        cli.main(list(arguments))
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    *lines, last = captured.err.splitlines()
    assert last.startswith("crossent: error: ")
    return "\n".join(lines), last


FILES = {
    "score": ["l.npy", "t.npy"],
    "compare": ["l.npy", "q.npy", "t.npy"],
    "calibrate": ["l.npy", "t.npy"],
    "plot": ["l.npy", "t.npy", "--kind", "histogram", "-o", "a.png"],
    "info": ["l.npy"],
    "merge": ["0.json", "1.json"],
}


@pytest.mark.parametrize("command", FILES)
@pytest.mark.parametrize("option", ["--jsn", "--JSON", "-json", "--js", "--json_", "--jsno=1"])
def test_an_unknown_option_names_the_nearest(
    capsys: pytest.CaptureFixture[str], command: str, option: str
) -> None:
    files = FILES[command]
    for arguments in ([option, *files], [*files, option]):
        synopsis, last = usage(capsys, command, *arguments)
        assert synopsis.startswith(f"usage: crossent {command} ")
        if command == "plot":  # which has none
            assert "crossent: error: crossent plot has no option" in last or "unknown option" in last
        else:
            assert f"unknown option {option.partition('=')[0]}; did you mean --json?" in last
        assert last.endswith(f"see crossent {command} --help")


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (["score", "--ignore_index", "-1"], "--ignore-index"),
        (["score", "--ignoreindex=3"], "--ignore-index"),
        (["score", "--ignore", "3"], "--ignore-index"),
        (["score", "--topk", "3"], "--top-k"),
        (["score", "--per_row", "a.csv"], "--per-row"),
        (["score", "--noprogress"], "--no-progress"),
        (["plot", "l.npy", "--kin", "histogram"], "--kind"),
        (["plot", "l.npy", "--kind", "histogram", "-output", "a.png"], "--output"),
        (["merge", "--savestate", "a.json"], "--save-state"),
        (["--versoin"], "--version"),
    ],
)
def test_options_that_are_misspelt(
    capsys: pytest.CaptureFixture[str], arguments: list[str], nearest: str
) -> None:
    # Before what else is missing.
    assert f"did you mean {nearest}?" in usage(capsys, *arguments)[1]


def test_an_option_of_another_command_is_named_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    _, last = usage(capsys, "compare", "l.npy", "q.npy", "--top-k", "5")
    assert "crossent compare has no option --top-k; crossent score has --top-k" in last
    _, last = usage(capsys, "score", "l.npy", "t.npy", "--zzz")
    assert "unknown option --zzz; see crossent score --help" in last


def test_an_option_before_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--json", "compare"], ["--json", "compare", "a", "b"]):
        _, last = usage(capsys, *arguments)
        assert "--json goes after the command: crossent compare ... --json" in last
    _, last = usage(capsys, "--ignore-index", "-1", "score", "a", "b")
    assert "--ignore-index goes after the command: crossent score ... --ignore-index" in last


def test_a_value_that_begins_with_a_dash(capsys: pytest.CaptureFixture[str], files: Files) -> None:
    _, last = usage(capsys, "score", "l.csv", "--label", "-x")
    assert "write --label=-x" in last
    files.save(*made((10, 3)))
    assert files.score("--ignore-index", "-1", "--axis", "-1", "--json") == 0


@pytest.mark.parametrize(
    ("command", "nearest"),
    [("scroe", "score"), ("Score", "score"), ("calib", "calibrate"), ("cmpare", "compare")],
)
def test_an_unknown_command_names_the_nearest(
    capsys: pytest.CaptureFixture[str], command: str, nearest: str
) -> None:
    synopsis, last = usage(capsys, command, "l.npy", "t.npy", "--json")
    assert synopsis.startswith("usage: crossent ")
    assert f"{command!r} is not a command; did you mean {nearest}?" in last


def test_a_file_in_the_place_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("logits.npy", "run.npz:logits", "folder/logits"):
        assert f"as in crossent score {name}" in usage(capsys, name, "t.npy")[1]
    assert "there are score, compare, calibrate, plot, info, merge" in usage(capsys, "rank")[1]


def test_the_bare_command_prints_its_help() -> None:
    bare, asked = run(), run("--help")
    assert (bare.returncode, bare.stdout, bare.stderr) == (0, asked.stdout, "")
    assert "crossent score logits.npy targets.npy" in bare.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["score", "-"],
        ["score", "-", "t.npy"],
        ["score", "l.npy", "-"],
        ["score", "l.npy", "t.npy", "--bytes", "-"],
        ["compare", "-", "q.npy"],
        ["compare", "l.npy", "-"],
        ["compare", "l.npy", "q.npy", "-"],
        ["calibrate", "-"],
        ["plot", "l.npy", "--kind", "comparison", "--other", "-", "-o", "a.png"],
        ["info", "l.npy", "-"],
        ["merge", "-", "1.json"],
    ],
)
def test_standard_input_is_refused_with_the_reason(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    last = usage(capsys, *arguments)[1]
    assert "- (standard input) cannot be read: files are read in blocks, at any position" in last
    assert "write it to a file" in last


@pytest.mark.parametrize(
    "arguments",
    [
        ["score", "l.npy", "t.npy", "--per-row", "-"],
        ["score", "l.npy", "t.npy", "--resume", "-"],
        ["compare", "l.npy", "q.npy", "--resume=-"],
        ["plot", "l.npy", "--kind", "histogram", "-o", "-"],
        ["merge", "0.json", "--save-state", "-"],
    ],
)
def test_standard_output_is_refused_with_the_reason(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert "- (standard output) cannot be written" in usage(capsys, *arguments)[1]


def test_an_empty_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert "the name is empty" in usage(capsys, "score", "", "t.npy")[1]


@pytest.mark.parametrize("command", FILES)
def test_every_command_takes_no_progress(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    logits, target = made((50, 5))
    target[::2] = logits[::2].argmax(axis=1)  # better than chance, for a temperature to exist
    files.save(logits, target)
    names = {
        "l.npy": files.logits,
        "q.npy": files.logits,
        "t.npy": files.targets,
        "a.png": str(tmp_path / "a.png"),
    }
    if command == "plot":
        pytest.importorskip("matplotlib")
    if command == "merge":
        for name in FILES["merge"]:
            files.save(made((50, 5))[0] + int(name[0]), made((50, 5))[1])
            assert files.score("--resume", str(tmp_path / name)) == 0
            names[name] = str(tmp_path / name)
    arguments = [names.get(argument, argument) for argument in FILES[command]]
    assert cli.main([command, *arguments, "--no-progress"]) == 0
    capsys.readouterr()


def test_targets_are_missing(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    files.save(*made((10, 3)))
    assert cli.main(["score", files.logits]) == 2
    assert f"{files.logits} holds no targets; give a file of class indices after it" in error(capsys)


@pytest.mark.parametrize("axis", ["2", "-3"])
def test_axis_out_of_range(files: Files, capsys: pytest.CaptureFixture[str], axis: str) -> None:
    files.save(*made((10, 3)))
    assert files.score("--axis", axis) == 2
    assert f"--axis {axis} is out of range" in error(capsys)


# ---- the process: streams, signals, the terminal ----------------------------------------------------------


def test_module_and_help() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert "crossent score logits.npy targets.npy" in done.stdout
    # Each command stands in one line with what it does.
    assert re.search(r"^ +calibrate +find the temperature", done.stdout, re.MULTILINE)
    assert done.stderr == ""
    done = run("score", "--help")
    assert done.returncode == 0
    assert "--ignore-index" in done.stdout
    isa = _core.build_info()["isa"]
    for name in ("--version", "-V"):
        done = run(name)
        assert (done.stdout, done.stderr) == (f"crossent {__version__} ({isa})\n", "")


def test_the_version_of_an_instruction_set_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSENT_ISA", "avx3")
    done = run("--version")
    assert (done.returncode, done.stdout) == (1, "")
    assert "CROSSENT_ISA names no instruction set of this machine: got 'avx3'" in done.stderr


def test_module_scores(files: Files) -> None:
    logits, target = made((200, 9))
    files.save(logits, target)
    done = run("score", files.logits, files.targets, "--json", "--no-progress")
    assert (done.returncode, done.stderr) == (0, "")
    assert_close(json.loads(done.stdout), reference(logits, target))
    done = run("score", files.logits, "nowhere.npy")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr


def test_unexpected_error(
    files: Files, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files.save(*made((10, 3)))
    before_block(1, raises(RuntimeError("it failed")), monkeypatch.setattr)
    assert files.score() == 1
    assert "unexpected RuntimeError: it failed" in error(capsys)


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_interrupted(
    files: Files,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
) -> None:
    logits, target = made((90_000, 100))
    files.save(logits, target)
    before_block(2, raises(KeyboardInterrupt()), monkeypatch.setattr)
    assert files.score(*arguments) == 130
    captured = capsys.readouterr()
    assert captured.out == ""
    first, _, result = captured.err.partition("\n")
    result, _, last = result.rstrip().rpartition("\n")
    assert last == (
        "crossent: it starts from the beginning next time; with --resume STATE.json it would go on"
    )
    found = re.fullmatch(r"crossent: interrupted: (\d+) of 90000 rows scored; the result so far:", first)
    assert found is not None
    rows = int(found[1])
    assert 0 < rows < 90_000
    if arguments:
        content = json.loads(result)
        assert content["complete"] is False
        assert_close(content, reference(logits[:rows], target[:rows]))
    else:
        assert f"{rows:,}" in result


posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals and terminals")

# A shell starts background jobs with SIGINT ignored, and Python then leaves it so.
SLOW = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
import steps
from crossent import _cli as cli
steps.before_block({block}, steps.wait)
sys.exit(cli.main(sys.argv[1:]))
"""


def interrupt(arguments: list[str], number: signal.Signals, block: int = 8) -> tuple[int, str]:
    """Send a signal to the command while it is at a block; returns its exit code and what it said."""
    command = [sys.executable, "-c", SLOW.format(block=block), *arguments]
    with subprocess.Popen(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert out == ""
    assert "Traceback" not in err
    return process.returncode, err


@posix
def test_control_c(files: Files) -> None:
    files.save(*made((90_000, 100)))
    code, err = interrupt(["score", files.logits, files.targets], signal.SIGINT, block=2)
    assert code == 130
    assert err.startswith("crossent: interrupted: ")
    assert "perplexity" in err


@posix
@pytest.mark.parametrize("arguments", [("--help",), ("score", "logits.npy", "targets.npy")])
def test_closed_pipe(files: Files, arguments: tuple[str, ...]) -> None:
    files.save(*made((20, 3)))
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "crossent", *arguments]
    folder = Path(files.logits).parent
    done = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, cwd=folder, check=False, timeout=600
    )
    os.close(writer)
    if "--help" in arguments:
        assert done.stderr == b""
    else:  # Whoever was to read the result is gone, and it is not to be lost.
        assert (
            b"the result could not be printed on stdout\ncrossent: the result is:\nrows counted"
            in done.stderr
        )
    assert done.returncode in (0, 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk(files: Files) -> None:
    files.save(*made((20, 3)))
    command = [sys.executable, "-m", "crossent", "score", files.logits, files.targets]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=600
        )
    assert done.returncode == 1
    first, second, *table = done.stderr.splitlines()
    assert first.startswith("crossent: error: reading or writing failed: No space left on device")
    assert second == "crossent: the result is:"
    assert table == run("score", files.logits, files.targets).stdout.splitlines()


LONG = """
import sys
from crossent import _cli as cli
from crossent._cli import progress

progress.DELAY = 0.0  # all work is long
sys.exit(cli.main(sys.argv[1:]))
"""


def on_terminal(*arguments: str, long: bool = True) -> tuple[int, str, str]:
    """Run the command with a terminal for stderr; returns the exit code, stdout and what the terminal got."""
    import pty
    import termios

    terminal, slave = pty.openpty()
    termios.tcsetwinsize(slave, (25, 120))
    command = [sys.executable, *(["-c", LONG] if long else ["-m", "crossent"]), *arguments]
    env = {**os.environ, "TQDM_MININTERVAL": "0"}  # draw the bar for every block
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=slave, env=env) as process:
        os.close(slave)
        seen = b""
        try:
            while chunk := os.read(terminal, 1 << 16):
                seen += chunk
        except OSError:  # the end, on Linux
            pass
        out, _ = process.communicate(timeout=60)
    os.close(terminal)
    return process.returncode, out.decode(), seen.decode()


@posix
def test_progress_bar(files: Files) -> None:
    logits, target = made((90_000, 100))
    files.save(logits, target)
    code, out, seen = on_terminal("score", files.logits, files.targets, "--json")
    assert code == 0
    assert_close(json.loads(out), reference(logits, target))
    assert "90,000 rows of 100 classes, float32, 36.0 MB" in seen
    assert " rows/s" in seen
    code, _, nothing = on_terminal("score", files.logits, files.targets, "--no-progress")
    assert (code, nothing) == (0, "")
    pytest.importorskip("tqdm", minversion="4.66")  # which reads TQDM_MININTERVAL
    assert re.search(r"perplexity \d", seen)


def test_what_libraries_say_of_their_future_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings_told():
        warnings.simplefilter("always")
        warnings.warn("use another name", DeprecationWarning, stacklevel=1)
        warnings.warn("soon another name", PendingDeprecationWarning, stacklevel=1)
        for _ in range(2):
            warnings.warn("few rows", UserWarning, stacklevel=1)
    assert capsys.readouterr() == ("", "crossent: note: few rows\n")


def test_tqdm_only_for_the_bar(files: Files) -> None:
    files.save(*made((20, 3)))
    script = "import sys; from crossent import _cli as cli; cli.main(sys.argv[1:]); sys.exit('tqdm' in sys.modules)"
    command = [sys.executable, "-c", script, "score", files.logits, files.targets]
    assert subprocess.run(command, capture_output=True, check=False, timeout=600).returncode == 0
