"""Names of files and of arrays may hold anything: what is printed of them is escaped, and JSON is exact."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from crossent import _cli as cli
from crossent._cli.output import printable
from test_cli import assert_close, figures, made, posix, reference
from test_files import Capture, score
from test_strange_files import arrays, folder, npy, zipped

__all__ = ["folder"]

ESCAPES = "\x1b[31m\x1b]0;title\x07\r\n\x9b2J\u202e\u2028"


def test_printable() -> None:
    assert printable("x.npy: \u00b1 caf\u00e9 \u4e2d 1,000") == "x.npy: \u00b1 caf\u00e9 \u4e2d 1,000"
    assert printable("a\\b\x1b\n\x07\x7f\x9b\u202e\udcff") == "a\\b\\x1b\\n\\x07\\x7f\\x9b\\u202e\\udcff"


def is_clean(text: str) -> bool:
    return all(character.isprintable() or character == "\n" for character in text)


def test_names_of_arrays_with_escapes(folder: Path, capsys: Capture) -> None:
    logits, target = made((20, 3))
    key = f"logits{ESCAPES}"
    zipped("a.npz", **{key: npy(logits), f"second{ESCAPES}": npy(logits), "t": npy(target)})
    safetensors.numpy.save_file(
        {key: logits, f"second{ESCAPES}": logits, "t": target}, folder / "a.safetensors"
    )
    zipped("o.npz", **{key: npy(np.array([{}], object)), f"damaged{ESCAPES}": b"", "t": npy(target)})
    zipped("twice.npz", **{key: npy(target), f"second{ESCAPES}": npy(target)})
    for arguments in (
        ["info", "a.npz"],
        ["info", "a.safetensors"],
        ["info", "o.npz"],
        ["info", "o.npz", "x.npy"],
        ["score", "a.npz", "t.npy"],
        ["score", "a.safetensors", "t.npy"],
        ["score", "a.npz:none", "t.npy"],
        ["score", f"a.npz:{key}", "x.npy"],
        ["score", f"o.npz:{key}", "t.npy"],
        ["score", "o.npz", "t.npy"],
        ["score", "x.npy", "twice.npz"],
        ["score", f"a.npz:{ESCAPES}", "t.npy"],
        ["compare", "x.npy", f"a.npz:{ESCAPES}"],
        ["merge", f"state{ESCAPES}"],
        ["plot", f"state{ESCAPES}.json", "--kind", "histogram", "-o", "x.png"],
        ["calibrate", f"a.npz:{ESCAPES}", "t.npy"],
    ):
        cli.main(arguments)
        captured = capsys.readouterr()
        assert is_clean(captured.out + captured.err), arguments
        assert captured.err.count("\n") <= 1
    assert f"a.npz:{key}" in arrays(capsys, "a.npz")  # JSON is exact
    assert f"a.safetensors:{key}" in arrays(capsys, "a.safetensors")
    assert score(f"a.npz:{key}", "a.npz:t") == 0
    content = figures(capsys)
    assert content["logits"] == f"a.npz:{key}"
    assert_close(content, reference(logits, target))


@posix
def test_names_of_files_with_escapes(folder: Path, capsys: Capture) -> None:
    name = "x\x1b[31m\n\x9b\udcff.npy"
    (folder / name).write_bytes((folder / "x.npy").read_bytes())
    (folder / f"d{name}").write_bytes(b"\x93NUMPY")
    os.mkfifo(f"p{name}")
    (folder / f"f{name}").mkdir()
    for arguments in (
        ["info", name],
        ["info", f"d{name}", name],
        ["score", f"d{name}", "t.npy"],
        ["score", f"p{name}", "t.npy"],
        ["score", f"f{name}", "t.npy"],
        ["score", f"n{name}", "t.npy"],
        ["score", "x.npy", name],
        ["score", name, "x.npy"],
        ["merge", name],
    ):
        cli.main(arguments)
        captured = capsys.readouterr()
        assert is_clean(captured.out + captured.err), arguments
        assert captured.err.count("\n") <= 1
    with pytest.raises(SystemExit):
        cli.main(["score", "a", "b", "c\x1b[31m\n"])
    assert "\x1b" not in capsys.readouterr().err
    assert score(name, "t.npy") == 0
    assert figures(capsys)["logits"] == name
    assert score(name, "t.npy", "--values", "probs") == 1
    assert "which is no probability" in capsys.readouterr().err


def test_names_that_the_output_cannot_encode(folder: Path) -> None:
    members = {"\u4e2d\u6587": npy(np.zeros((3, 2)))}
    zipped("a.npz", **members)
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    for arguments in (["info", "a.npz"], ["score", "x.npy", "t.npy"]):
        command = [sys.executable, "-m", "crossent", *arguments]
        done = subprocess.run(command, capture_output=True, check=False, timeout=600, env=environment)
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"\\u4e2d\\u6587" in done.stdout or b"\\xb1" in done.stdout
