"""Files of `torch.save`: what torch says is in them, and the numbers, which are read without it."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crossent import _cli as cli
from crossent._io import open_logits, open_targets
from test_cli import assert_close, error, figures, made, reference
from test_files import Array, Capture, score

torch: Any = pytest.importorskip("torch")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Array, Array]:
    """The current folder, with the targets in a file, and the arrays."""
    monkeypatch.chdir(tmp_path)
    logits, target = made((200, 13))
    np.save("t.npy", target)
    return logits, target


def numbers(name: str) -> Array:
    """All rows of a file."""
    blocks = [np.array(block.values, np.float64) for block in open_logits(name).row_blocks(5000)]
    return np.concatenate([block.reshape(-1, block.shape[-1]) for block in blocks])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_every_dtype_of_logits(data: tuple[Array, Array], dtype: str) -> None:
    rows = torch.from_numpy(data[0]).to(getattr(torch, dtype))
    torch.save(rows, "x.pt")
    assert np.array_equal(numbers("x.pt"), rows.to(torch.float64).numpy())


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_every_dtype_of_targets(data: tuple[Array, Array], dtype: str) -> None:
    torch.save(torch.from_numpy(data[1]).to(getattr(torch, dtype)), "t.pt")
    found = open_targets("t.pt")
    assert found.dtype == dtype
    assert np.array_equal(found[(slice(0, 200),)], data[1])


def test_names_of_nested_tensors(data: tuple[Array, Array], capsys: Capture) -> None:
    logits, target = torch.from_numpy(data[0]), torch.from_numpy(data[1])
    torch.save(
        {
            "epoch": 7,
            "state_dict": {
                "lm_head.weight": torch.nn.Parameter(logits),
                "bias": torch.zeros(3, dtype=torch.float16),
            },
            "hidden": [torch.ones(4, 5), (logits,)],
            3: target,
            "name": "a run",
        },
        "x.ckpt",
    )
    assert cli.main(["info", "x.ckpt", "--json"]) == 0
    shapes = {told["name"]: tuple(told["shape"]) for told in figures(capsys)["arrays"]}
    assert shapes == {
        "x.ckpt:state_dict.lm_head.weight": (200, 13),
        "x.ckpt:state_dict.bias": (3,),
        "x.ckpt:hidden.0": (4, 5),
        "x.ckpt:hidden.1.0": (200, 13),
        "x.ckpt:3": (200,),
    }
    assert score("x.ckpt:state_dict.lm_head.weight", "x.ckpt:3") == 0
    assert_close(figures(capsys), reference(*data))
    assert np.array_equal(numbers("x.ckpt:hidden.1.0"), data[0].astype(np.float64))  # of the same storage
    torch.save({"a.b": logits, "a": {"b": logits}, "c": logits}, "twice.pt")
    assert score("twice.pt:a.b", "t.npy") == 1
    assert "twice.pt:a.b is in the file more than once" in error(capsys)


def test_views(data: tuple[Array, Array], capsys: Capture) -> None:
    """Those without gaps are read from where they lie in their storage; the others are told."""
    rows = torch.arange(24 * 10 * 6, dtype=torch.float32).reshape(24, 10, 6)
    views = {
        "rows": rows[3:9],
        "one": rows[5],
        "row": rows[5, 2],
        "transposed": rows.transpose(0, 1),
        "permuted": rows.permute(2, 0, 1),
        "reversed": rows.permute(2, 1, 0)[:, :, 4:],
        "single": rows[4:5].transpose(0, 2),
    }
    torch.save(views, "x.pt")
    for name, view in views.items():
        shape = (-1, view.shape[-1])
        found = np.zeros(view.shape)
        found = found[np.newaxis] if view.ndim == 1 else found
        for block in open_logits(f"x.pt:{name}").row_blocks(300):
            found[block.index] = block.values
        assert np.array_equal(found.reshape(shape), view.reshape(shape).numpy())
    torch.save({"x": rows[:, :3], "y": rows[..., ::2], "z": torch.ones(1, 4).expand(5, 4)}, "gaps.pt")
    for name in "xyz":
        assert score(f"gaps.pt:{name}", "t.npy") == 1
        message = error(capsys)
        assert f"gaps.pt:{name} is a view of a larger tensor, of shape" in message
        assert "save it with .clone()" in message
    torch.save({"x": rows[:, :3].clone()}, "cloned.pt")
    assert np.array_equal(numbers("cloned.pt"), rows[:, :3].reshape(-1, 6).numpy())


def test_tensors_that_are_no_plain_numbers(data: tuple[Array, Array], capsys: Capture) -> None:
    torch.save(
        {
            "x": torch.from_numpy(data[0]),
            "sparse": torch.eye(3).to_sparse(),
            "complex": torch.zeros(3, 2, dtype=torch.complex64),
            "conj": torch.zeros(3, 2, dtype=torch.complex64).conj(),
            "float8": torch.zeros(3, 2, dtype=torch.float8_e4m3fn),
            "bool": torch.zeros(3, 2, dtype=torch.bool),
            "empty": torch.zeros(0, 4),
            "number": torch.tensor(3.0),
            "meta": torch.zeros(3, 2, device="meta"),
        },
        "x.pt",
    )
    for name, text in (
        ("sparse", "is a tensor of the kind sparse_coo"),
        ("complex", "holds complex64; expected"),
        ("conj", "is a view that stands for other numbers"),
        ("float8", "holds float8_e4m3fn; expected"),
        ("bool", "holds bool; expected logits"),
        ("number", "holds a single number"),
        ("meta", "is on the device 'meta', where tensors have no numbers"),
    ):
        assert score(f"x.pt:{name}", "t.npy") == 1
        assert f"x.pt:{name} {text}" in error(capsys)
    assert cli.main(["info", "x.pt", "--json"]) == 0
    told = {each["name"]: each for each in figures(capsys)["arrays"]}
    assert [name for name, each in told.items() if "error" in each] == [
        "x.pt:sparse", "x.pt:complex", "x.pt:conj", "x.pt:float8", "x.pt:meta",
    ]  # fmt: skip
    assert told["x.pt:empty"]["shape"] == [0, 4]
    torch.save({"epoch": 3}, "none.pt")
    assert score("none.pt", "t.npy") == 2
    assert "none.pt has no arrays of floating numbers (it is empty)" in error(capsys)


def test_other_files_of_torch(data: tuple[Array, Array], capsys: Capture) -> None:
    rows = torch.from_numpy(data[0])
    torch.save(rows, "old.pt", _use_new_zipfile_serialization=False)
    assert score("old.pt", "t.npy") == 1
    message = error(capsys)
    assert "old.pt is a file of torch.save in its old format" in message
    assert "safetensors.torch.save_file" in message
    call = message[message.index("torch.save(torch.load(") : message.index(", or save its tensor")]
    eval(call, {"torch": torch})
    assert score("logits.pt", "t.npy") == 0
    capsys.readouterr()

    torch.save(rows, "big.pt")
    with zipfile.ZipFile("big.pt") as archive, zipfile.ZipFile("swapped.pt", "w") as other:
        for info in archive.infolist():
            content = archive.read(info)
            other.writestr(info.filename, b"big" if info.filename.endswith("byteorder") else content)
    assert score("swapped.pt", "t.npy") == 1
    assert "swapped.pt was written in the byte order 'big'; expected 'little'" in error(capsys)
    with (
        zipfile.ZipFile("big.pt") as archive,
        zipfile.ZipFile("packed.pt", "w", zipfile.ZIP_DEFLATED) as other,
    ):
        for info in archive.infolist():
            other.writestr(info.filename, archive.read(info))
    assert score("packed.pt", "t.npy") == 1
    assert "packed.pt is a compressed archive, which torch.save does not write" in error(capsys)
    Path("big.pt").rename("named.npz")
    assert score("named.npz", "t.npy") == 1
    assert "named.npz was written by torch.save; give it a name that ends with .pt" in error(capsys)
    Path("named.npz").rename("pytorch_model.bin")
    assert score("pytorch_model.bin", "t.npy") == 0
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(torch.nn.Linear(3, 4), torch.zeros(2, 3)), "script.pt")
    for command in (["score", "script.pt", "t.npy"], ["info", "script.pt"]):
        assert cli.main(command) == 1
        assert "script.pt was written by torch.jit.save, and holds a model and no logits" in error(capsys)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_nested_tensor(data: tuple[Array, Array], capsys: Capture) -> None:
    rows = torch.from_numpy(data[0])
    torch.save({"x": torch.nested.nested_tensor([rows[:3], rows[:4]]), "y": rows}, "x.pt")
    assert score("x.pt:x", "t.npy") == 1
    assert "x.pt:x is a nested tensor; save it as one of a single shape" in error(capsys)
    assert score("x.pt", "t.npy") == 0
    capsys.readouterr()
    assert cli.main(["info", "x.pt"]) == 0
    assert "cannot be read: it is a nested tensor" in capsys.readouterr().out


def test_code_is_never_run(data: tuple[Array, Array], capsys: Capture, tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"x": torch.from_numpy(data[0]), "y": Touch()}, "x.pt")
    torch.save({"x": torch.from_numpy(data[0]), "y": data[0]}, "numpy.pt")
    torch.save(torch.nn.Linear(3, 4), "module.pt")
    for name in ("x.pt", "numpy.pt", "module.pt"):
        for arguments in (["score", name, "t.npy"], ["score", "t.npy", name], ["info", name]):
            assert cli.main(arguments) in (1, 2)
        message = capsys.readouterr().err
        assert f"{name} holds more than tensors (" in message
        assert "save its tensors alone with torch.save or safetensors.torch.save_file" in message
    assert not (tmp_path / "ran").exists()


def test_a_table_of_contents_that_does_not_fit_the_tensors(
    data: tuple[Array, Array], capsys: Capture
) -> None:
    """The numbers are found by the distances between all of the data; those of another file do not fit."""
    torch.save({"x": torch.ones(40, 8), "y": torch.zeros(3)}, "x.pt")
    with zipfile.ZipFile("x.pt") as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile("more.pt", "w") as other:
        for name, content in members.items():
            other.writestr(name, content)
        other.writestr("x/data/7", bytes(64))
    with zipfile.ZipFile("moved.pt", "w") as other:  # the same in another order
        for name, content in sorted(members.items(), reverse=True):
            other.writestr(name, content)
    assert score("more.pt:x", "t.npy") == 1
    assert "more.pt is damaged: its table of contents has 3 arrays of data" in error(capsys)
    code = cli.main(["info", "moved.pt", "--json"])
    captured = capsys.readouterr()
    if code == 0:
        first = {told["name"]: told["first_values"] for told in json.loads(captured.out)["arrays"]}
        assert first == {"moved.pt:x": [1.0] * 6, "moved.pt:y": [0.0] * 3}
    else:
        assert "moved.pt" in captured.err


def test_a_torch_that_runs_code_of_files_is_refused(
    data: tuple[Array, Array], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, target = data
    torch.save(torch.from_numpy(logits), "x.pt")
    np.save("t.npy", target)
    for version in ("2.5.1+cpu", "1.13.0", "2.5.0a0"):
        monkeypatch.setattr(torch, "__version__", version)
        assert cli.main(["score", "x.pt", "t.npy"]) == 1
        message = error(capsys)
        assert version in message
        assert "pip install 'torch>=2.6'" in message
    for version in ("2.6.0", "2.10.0", "3.0.0"):
        monkeypatch.setattr(torch, "__version__", version)
        assert cli.main(["score", "x.pt", "t.npy"]) == 0


def test_torch_is_imported_for_its_files_alone(data: tuple[Array, Array]) -> None:
    """A pickle in an old format is told without torch, and so is what it takes to read a new one."""
    buffer = io.BytesIO()
    pickle.dump([1], buffer)
    Path("p.pt").write_bytes(buffer.getvalue())
    torch.save(torch.zeros(3, 2), "x.pt")
    script = (
        "import sys; sys.modules['torch'] = None; from crossent import _cli as cli; "
        "sys.exit(sum(cli.main(['info', name]) for name in sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, "p.pt", "x.pt"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, env=os.environ)
    assert done.returncode == 2
    told = done.stderr.splitlines()
    assert "p.pt is a pickle" in told[0]
    assert (
        "x.pt was written by torch.save, and reading it needs the package torch; pip install torch, or"
        in told[1]
    )
    assert "safetensors.torch.save_file" in told[1]
