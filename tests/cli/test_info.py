"""`crossent info`: what is in a file, told without reading more than its first rows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from crossent import _cli as cli
from test_cli import DTYPES, error, made
from test_files import (
    ARRAYS,
    EVERY,
    Capture,
    Writer,
    kind,
    log_softmax,
    path_of,
    probabilities,
    write_npy,
    write_raw,
)


def info(capsys: Capture, *arguments: str | Path, code: int = 0) -> list[dict[str, Any]]:
    """What `--json` tells of each array."""
    assert cli.main(["info", "--json", *map(str, arguments)]) == code
    arrays = json.loads(capsys.readouterr().out)["arrays"]
    assert isinstance(arrays, list)
    return arrays


def one(capsys: Capture, *arguments: str | Path) -> dict[str, Any]:
    (told,) = info(capsys, *arguments)
    return told


def test_a_card(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "x.npy"
    logits = np.zeros((1500, 4), np.float32)
    logits[0] = [1.5, -2, np.inf, 0.25]
    logits[7, 3] = np.nan
    np.save(path, logits)
    assert cli.main(["info", str(path)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.splitlines() == [
        f"name          {path}",
        "format        npy",
        "dtype         float32",
        "shape         1500 x 4",
        "rows          1,500",
        "classes       4",
        "file size     24,128 bytes (23.6 KiB)",
        "first values  1.5  -2  inf  0.25",
        "not finite    2 of the first 1,500 rows",
        "looks like    logits",
    ]
    assert one(capsys, path) == {
        "name": str(path),
        "format": "npy",
        "dtype": "float32",
        "shape": [1500, 4],
        "rows": 1500,
        "classes": 4,
        "file_bytes": 24128,
        "array_bytes": 24000,
        "guess": "logits",
        "first_values": [1.5, -2, None, 0.25],
        "checked_rows": 1500,
        "not_finite": 2,
    }


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("writer", ARRAYS, ids=kind)
def test_arrays(tmp_path: Path, capsys: Capture, writer: Writer, dtype: Any) -> None:
    logits, target = made((300, 17), dtype=dtype)
    name, _, *options = writer(tmp_path, logits, target)
    told = one(capsys, name if writer is not ARRAYS[3] else f"{name}:scores", *options[:4])
    assert (told["dtype"], told["shape"], told["rows"], told["classes"]) == (dtype.name, [300, 17], 300, 17)
    assert told["first_values"] == [float(value) for value in logits[0, :6]]
    assert (told["guess"], told["not_finite"], told["checked_rows"]) == ("logits", 0, 300)
    assert told["file_bytes"] == path_of(name).stat().st_size


@pytest.mark.parametrize("writer", EVERY, ids=kind)
def test_every_kind_has_a_card(tmp_path: Path, capsys: Capture, writer: Writer) -> None:
    name, *rest = writer(tmp_path, *made((50, 6)))
    options = [word for word in rest if word in ("--classes", "6", "--dtype", "float32")]
    assert cli.main(["info", name, *options]) == 0
    captured = capsys.readouterr()
    notes = captured.err.splitlines()  # which columns of a table are classes
    assert len(notes) == (Path(name).suffix in (".csv", ".parquet", ".feather", ".arrow", ".arrows"))
    assert all(note.startswith(f"crossent: note: {name}: the classes are ") for note in notes)
    assert "looks like" in captured.out
    for line in captured.out.splitlines():
        assert line == "" or line[13] == " " != line[14]


def test_guesses(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "x.npy"
    logits, target = made((300, 5000))
    p = probabilities(logits)
    one_hot = np.eye(7)[np.arange(40) % 7]
    for array, guess in (
        (logits, "logits"),
        (-np.abs(logits), "logits"),
        (np.abs(logits), "logits"),
        (np.abs(logits) / 1e5, "logits"),
        (np.full((20, 3), np.nan), "no finite rows"),
        (np.zeros((20, 1)), "one class only"),
        (np.zeros((0, 5)), "no rows"),
        (np.zeros((5, 0)), "no rows"),
        (one_hot, "probabilities"),
        (target, "class indices"),
        (np.where(target < 9, -100, target), "class indices"),
        (target.reshape(3, 100), "class indices"),
        (target - 5000, "integers"),
        (np.zeros(0, np.int64), "nothing"),
        (np.int64(3), "one number"),
        (np.float64(3), "one number"),
        (np.zeros(5, bool), "no numbers"),
        (np.zeros(5, "S3"), "no numbers"),
        (logits.astype(ml_dtypes.bfloat16), "bfloat16 without its name; pass --dtype bfloat16"),
    ):
        np.save(path, array)
        assert one(capsys, path)["guess"] == guess
    for dtype in (np.float16, np.float32, np.float64):
        np.save(path, p.astype(dtype))
        assert one(capsys, path)["guess"] == "probabilities"
        np.save(path, log_softmax(logits.astype(np.float64)).astype(dtype))
        assert one(capsys, path)["guess"] == "log-probabilities"
    np.save(path, p.T)
    assert one(capsys, path, "--axis", "0")["guess"] == "probabilities"


def test_integers(tmp_path: Path, capsys: Capture) -> None:
    np.save(tmp_path / "t.npy", np.array([3, -100, 7], ">i2"))
    told = one(capsys, tmp_path / "t.npy")
    assert (told["first_values"], told["minimum"], told["maximum"]) == ([3, -100, 7], -100, 7)
    assert cli.main(["info", str(tmp_path / "t.npy")]) == 0
    assert "range         -100 to 7" in capsys.readouterr().out
    np.array([3, 4], np.uint8).tofile(tmp_path / "t.u8")
    assert one(capsys, tmp_path / "t.u8")["first_values"] == [3, 4]


@pytest.mark.parametrize("order", ["C", "F"])
def test_nothing_but_the_beginning_is_read(tmp_path: Path, capsys: Capture, order: Any) -> None:
    path = tmp_path / "x.npy"
    with path.open("wb") as file:
        told = {"descr": "<f4", "fortran_order": order == "F", "shape": (1 << 30, 1 << 6)}
        np.lib.format.write_array_header_1_0(file, told)
        file.truncate(file.tell() + (1 << 38))  # 256 GiB, which take no room
    told = one(capsys, path)
    assert told["array_bytes"] == 1 << 38
    assert 0 < told["checked_rows"] <= 1 << 16


def test_several_arrays(tmp_path: Path, capsys: Capture) -> None:
    np.savez(tmp_path / "x.npz", a=np.zeros((3, 2)), b=np.arange(3), c=np.zeros((2, 2), ml_dtypes.bfloat16))
    names = [f"{tmp_path / 'x.npz'}:{key}" for key in "abc"]
    assert [told["name"] for told in info(capsys, tmp_path / "x.npz")] == names
    assert one(capsys, names[2], "--dtype", "bf16")["dtype"] == "bfloat16"
    assert [told["dtype"] for told in info(capsys, tmp_path / "x.npz", "--dtype", "bf16")][:2] == [
        "float64",
        "int64",
    ]
    for at in (10, 2):
        np.save(tmp_path / f"x-{at}.npy", np.zeros((at, 2)))
    assert [told["rows"] for told in info(capsys, tmp_path / "x-*.npy")] == [2, 10]
    assert cli.main(["info", *names[:2]]) == 0
    assert capsys.readouterr().out.count("\n\n") == 1
    assert cli.main(["info", f"{tmp_path / 'x.npz'}:d"]) == 2
    assert "has no array 'd'; it has a, b, c" in error(capsys)


def test_files_that_cannot_be_read(tmp_path: Path, capsys: Capture) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 2)))
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY")
    (tmp_path / "what.bin").write_bytes(b"what is this?")
    assert cli.main(["info", str(tmp_path / "bad.npy")]) == 1
    assert "bad.npy has a damaged .npy header" in error(capsys)
    assert cli.main(["info", str(tmp_path / "nowhere.npy")]) == 1
    assert "nowhere.npy: No such file" in error(capsys)
    assert cli.main(["info", str(tmp_path / "what.bin")]) == 2
    assert "pass --dtype" in error(capsys)
    names = [str(tmp_path / name) for name in ("bad.npy", "x.npy", "nowhere.npy")]
    assert cli.main(["info", *names]) == 1
    captured = capsys.readouterr()
    assert "2 of" not in captured.out
    assert captured.out.startswith(f"name          {names[1]}")
    assert captured.err.count("crossent: error: ") == 2
    assert "nowhere.npy: No such file" in captured.err
    names[2] = str(tmp_path / "what.bin")
    assert cli.main(["info", *names]) == 2
    capsys.readouterr()
    assert cli.main(["info", str(tmp_path / "x.npy"), "--axis", "2"]) == 2
    assert "--axis 2 is out of range" in error(capsys)


def test_hidden_states(tmp_path: Path, capsys: Capture) -> None:
    hidden, head = str(tmp_path / "hidden.npy"), str(tmp_path / "head.npy")
    states = np.zeros((4096, 8), np.float16)
    states[3, 1] = np.inf
    np.save(hidden, states)
    np.save(head, np.zeros((1000, 8), np.float32))
    np.save(tmp_path / "bias.npy", np.zeros(1000, np.float64))
    np.save(tmp_path / "t.npy", np.arange(4096) % 1000)
    assert cli.main(["info", hidden, str(tmp_path / "t.npy"), "--head", head]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    first, targets, product = captured.out.split("\n\n")
    assert first.splitlines() == [
        f"name          {hidden}",
        "format        npy",
        "dtype         float16",
        "shape         4096 x 8",
        "rows          4,096",
        "hidden size   8",
        "file size     65,664 bytes (64.1 KiB)",
        "first values  0  0  0  0  0  0",
        "not finite    1 of the first 4,096 rows",
        "looks like    hidden states",
    ]
    assert "looks like    class indices" in targets
    assert product.splitlines() == [
        f"head          {head}",
        "dtype         float32",
        "shape         1000 x 8",
        "classes       1,000",
        "head size     32,000 bytes (31.2 KiB)",
        "hidden states 4,096 of 8 numbers: 65,536 bytes (64.0 KiB)",
        "their logits  4,096 x 1,000 float32 would be 16,384,000 bytes (15.6 MiB)",
    ]
    bias = ["--head-bias", str(tmp_path / "bias.npy")]
    assert cli.main(["info", hidden, "--head", head, *bias, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    (told,) = content["arrays"]
    assert (told["classes"], told["hidden_size"], told["guess"]) == (None, 8, "hidden states")
    assert content["product"] == {
        "head": head,
        "head_dtype": "float32",
        "head_bias": bias[1],
        "head_shape": [1000, 8],
        "head_bytes": 32000,
        "hidden_size": 8,
        "hidden_bytes": 65536,
        "rows": 4096,
        "classes": 1000,
        "logits_dtype": "float64",
        "logits_bytes": 32768000,
    }


def test_hidden_states_in_several_files(tmp_path: Path, capsys: Capture) -> None:
    np.savez(tmp_path / "head.npz", w=np.zeros((50, 6), np.float32))
    head = ["--head", str(tmp_path / "head.npz")]
    for at in (10, 2):
        np.zeros((at, 6), np.float32).tofile(tmp_path / f"x-{at}.f32")
    assert cli.main(["info", str(tmp_path / "x-*.f32"), *head, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [told["shape"] for told in content["arrays"]] == [[2, 6], [10, 6]]
    assert (content["product"]["rows"], content["product"]["logits_bytes"]) == (12, 12 * 50 * 4)
    assert content["product"]["head"] == f"{tmp_path / 'head.npz'}:w"


def test_hidden_states_that_do_not_fit(tmp_path: Path, capsys: Capture) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 5)))
    np.save(tmp_path / "head.npy", np.zeros((50, 6)))
    command = ["info", str(tmp_path / "x.npy")]
    head = ["--head", str(tmp_path / "head.npy")]
    assert cli.main([*command, *head]) == 1
    assert "has shape (50, 6), and" in error(capsys)
    for more in (["--axis", "0"], ["--classes", "5"], ["--label", "x"]):
        assert cli.main([*command, *head, *more]) == 2
        assert f"{more[0]} does not apply to hidden states" in error(capsys)
    assert cli.main([*command, "--head-bias", "x.npy"]) == 2
    assert "--head-bias goes with --head FILE" in error(capsys)
    with pytest.raises(SystemExit):
        cli.main([*command, *head, "--softcap", "3"])
    capsys.readouterr()


@pytest.mark.parametrize("arguments", [[], ["x.npy", "--memory", "3"], ["x.npy", "--dtype", "i8"]])
def test_bad_usage(capsys: Capture, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["info", *arguments])
    assert stop.value.code == 2
    assert capsys.readouterr().out == ""


def test_the_command(tmp_path: Path) -> None:
    x, _, *options = write_raw(tmp_path, *made((20, 3)))
    y, *_ = write_npy(tmp_path, *made((20, 3)))
    command = [sys.executable, "-m", "crossent", "info", x, y, *options[:4]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("20 x 3") == 2
