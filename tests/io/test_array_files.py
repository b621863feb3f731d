"""HDF5, Zarr and files of torch: each writer of arrays against each command, with the figures of `.npy` as judge."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crossent import _cli as cli
from crossent._io import OptionError, formats, open_logits, open_targets
from crossent._io.chunked import Chunked, Reader
from crossent.blocks import Index, cut_rows
from steps import before_block, raises
from test_cli import error, figures, made, posix
from test_cli_memory import run as run_watched
from test_files import BFLOAT16, Array, Capture, score, torch_tensor

Save = Callable[[Path, dict[str, Array]], str]
"""Writes arrays by their names to a file or a folder, and gives its name."""

MEMORY = "300K"  # some ten blocks of the arrays here


def hdf5(folder: Path, arrays: dict[str, Array], **options: Any) -> str:
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "x.h5", "w") as file:
        for name, array in arrays.items():
            given = options if array.size and array.ndim else {}
            file.create_dataset(name, data=array, **given)
    return str(folder / "x.h5")


def hdf5_gzip(folder: Path, arrays: dict[str, Array]) -> str:
    return hdf5(folder, arrays, chunks=True, compression="gzip", shuffle=True)


def hdf5_lzf(folder: Path, arrays: dict[str, Array]) -> str:
    return hdf5(folder, arrays, chunks=True, compression="lzf", fletcher32=True)


def hdf5_plain_chunks(folder: Path, arrays: dict[str, Array]) -> str:
    return hdf5(folder, arrays, chunks=True)


def zarr_store(folder: Path, arrays: dict[str, Array], name: str = "x.zarr", **options: Any) -> str:
    zarr = pytest.importorskip("zarr")
    version = options.pop("zarr_format", 3)
    with zarr.config.set({"array.write_empty_chunks": True}):
        group = zarr.open_group(folder / name, mode="w", zarr_format=version)
        for key, array in arrays.items():
            chunks = tuple(max(min(length, 6), length // 40 * 4, 1) for length in array.shape)
            shards = (
                tuple(2 * chunk for chunk in chunks)
                if options.get("shards") and array.size and array.ndim
                else None
            )
            given = {**options, "shards": shards} if version == 3 else options
            group.create_array(key, data=array, chunks=chunks, **given)
    return str(folder / name)


def zarr_2(folder: Path, arrays: dict[str, Array]) -> str:
    return zarr_store(folder, arrays, zarr_format=2, order="F")


def zarr_shards(folder: Path, arrays: dict[str, Array]) -> str:
    return zarr_store(folder, arrays, shards=True)


def zarr_plain(folder: Path, arrays: dict[str, Array]) -> str:
    return zarr_store(folder, arrays, compressors=None)


def torch_file(folder: Path, arrays: dict[str, Array]) -> str:
    torch = pytest.importorskip("torch")
    torch.save({name: torch_tensor(array) for name, array in arrays.items()}, folder / "x.pt")
    return str(folder / "x.pt")


SAVES: list[Save] = [
    hdf5, hdf5_gzip, hdf5_lzf, hdf5_plain_chunks, zarr_store, zarr_2, zarr_shards, zarr_plain, torch_file,
]  # fmt: skip
every = pytest.mark.parametrize("save", SAVES, ids=lambda save: save.__name__)
ORIGIN = ("dtype", "files", "reference", "other", "inputs", "format", "logits", "targets")


def result(capsys: Capture, *arguments: str) -> dict[str, Any]:
    """The figures of a command, without where they come from."""
    assert cli.main([*arguments, "--json"]) == 0
    content = figures(capsys)
    return {name: value for name, value in content.items() if name not in ORIGIN}


def npy(folder: Path, arrays: dict[str, Array]) -> list[str]:
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return [str(folder / f"{name}.npy") for name in arrays]


@every
@pytest.mark.parametrize("dtype", [np.float32, ">f8", np.float16], ids=str)
def test_the_figures_of_npy_to_the_bit(tmp_path: Path, capsys: Capture, save: Save, dtype: Any) -> None:
    if save is torch_file and dtype == ">f8":
        pytest.skip("torch has no such tensors")
    logits, target = made((2000, 37), dtype=dtype)
    target[::9] = -100
    expected = result(capsys, "score", *npy(tmp_path, {"x": logits, "t": target}))
    path = save(tmp_path, {"x": logits, "t": target, "more": np.zeros(3, "f4")})
    own = result(capsys, "score", f"{path}:x", f"{path}:t")
    assert own == expected
    assert result(capsys, "score", f"{path}:x") == expected  # the only integers
    assert result(capsys, "score", f"{path}:x", "--memory", MEMORY) == expected


@every
def test_many_axes_and_any_class_axis(tmp_path: Path, save: Save) -> None:
    logits, _ = made((9, 14, 11))
    path = save(tmp_path, {"x": logits})
    for axis, memory, start in itertools.product((0, 1, 2), (1, 3000, 1 << 20), (0, 1, 57)):
        source = open_logits(path, axis=axis)
        rows = np.moveaxis(logits, axis, -1)
        seen = np.zeros(rows.shape[:-1], int)
        for block in source.row_blocks(memory, start):
            assert np.array_equal(block.values, rows[block.index])
            seen[block.index] += 1
        assert seen.max() == 1
        assert seen.sum() == seen.size - start


@every
def test_bfloat16(tmp_path: Path, capsys: Capture, save: Save) -> None:
    """Formats without that dtype keep its bits as integers."""
    logits, target = made((300, 20), dtype=BFLOAT16)
    expected = result(capsys, "score", *npy(tmp_path, {"x": logits, "t": target}), "--dtype", "bf16")
    typed = [] if save is torch_file else ["--dtype", "bf16"]
    stored = logits if save is torch_file else logits.view(np.uint16)
    path = save(tmp_path, {"x": stored, "t": target})
    assert result(capsys, "score", f"{path}:x", f"{path}:t", *typed) == expected
    assert cli.main(["info", f"{path}:x", *typed]) == 0
    assert "bfloat16" in capsys.readouterr().out


@every
def test_info(tmp_path: Path, capsys: Capture, save: Save) -> None:
    logits, target = made((300, 20))
    arrays = {"x": logits, "t": target, "wrong": np.zeros((3, 4), bool), "scalar": np.array(2.5)}
    path = save(tmp_path, arrays)
    assert cli.main(["info", path, "--json"]) == 0
    told = {array["name"]: array for array in figures(capsys)["arrays"]}
    assert {name.removeprefix(f"{path}:"): tuple(array["shape"]) for name, array in told.items()} == {
        name: array.shape for name, array in arrays.items()
    }
    x, t = told[f"{path}:x"], told[f"{path}:t"]
    assert (x["dtype"], x["rows"], x["classes"], x["checked_rows"]) == ("float32", 300, 20, 300)
    assert x["first_values"] == [float(value) for value in logits[0, :6]]
    assert (t["dtype"], t["guess"], t["maximum"]) == ("int64", "class indices", 19)
    assert told[f"{path}:scalar"]["first_values"] == [2.5]
    assert x["file_bytes"] == sum(file.stat().st_size for file in all_files(Path(path)))


def all_files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


@every
def test_resume(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, save: Save) -> None:
    """A run goes on where it was interrupted, and not where the file is another one meanwhile."""
    logits, target = made((3000, 40))
    path = save(tmp_path, {"x": logits, "t": target})
    rows, state = tmp_path / "rows.npy", tmp_path / "state.json"
    expected = result(capsys, "score", f"{path}:x", f"{path}:t", "--per-row", str(rows))
    losses = np.load(rows)
    arguments = [
        "score", f"{path}:x", f"{path}:t", "--json", "--memory", MEMORY, "--resume", str(state), "--per-row",
        str(tmp_path / "again.npy"),
    ]  # fmt: skip
    with monkeypatch.context() as patch:
        before_block(4, raises(KeyboardInterrupt()), patch.setattr)
        assert cli.main(arguments) == 130
    assert 0 < json.loads(state.read_text())["rows"] < 3000
    kept = state.read_bytes()
    capsys.readouterr()
    assert cli.main(arguments) == 0
    content = figures(capsys)
    assert {name: content[name] for name in expected if name != "per_row"} == {
        name: value for name, value in expected.items() if name != "per_row"
    }
    assert np.array_equal(np.load(tmp_path / "again.npy"), losses)

    state.write_bytes(kept)
    save(tmp_path, {"x": logits[::-1], "t": target})
    assert cli.main(arguments) == 1
    assert f"{path} was a file of" in error(capsys)


@every
def test_wrong_shapes_and_kinds(tmp_path: Path, capsys: Capture, save: Save) -> None:
    logits, target = made((30, 5))
    arrays = {
        "x": logits, "short": target[:20], "t": target, "bool": np.zeros((30, 5), bool), "scalar": np.array(1.0),
        "complex": np.zeros((30, 5), np.complex64), "none": np.zeros((30, 0), np.float32),
    }  # fmt: skip
    path = save(tmp_path, arrays)
    for key, targets, text in (
        ("x", "short", "has shape (20,); expected (30,)"),
        ("t", "t", "holds int64; expected logits of float16, float32, float64 or bfloat16"),
        ("x", "x", "holds float32; expected integer class indices"),
        ("bool", "t", "holds bool; expected"),
        ("complex", "t", "holds complex64; expected"),
        ("scalar", "t", "holds a single number; expected rows of logits"),
        ("none", "t", "has no classes"),
    ):
        assert score(f"{path}:{key}", f"{path}:{targets}") == 1
        message = error(capsys)
        assert text in message
        assert path in message
    assert score(path) == 2
    assert f"{path} has 3 arrays of floating numbers (" in error(capsys)
    assert score(f"{path}:y", f"{path}:t") == 2
    assert f"{path} has no array 'y'; it has " in error(capsys)
    assert score(f"{path}:x", f"{path}:t", "--label", "a") == 2
    assert "--label does not apply" in error(capsys)
    assert score(f"{path}:x", f"{path}:t", "--axis", "2") == 2
    assert "--axis 2 is out of range" in error(capsys)


@every
def test_names_that_no_array_has(tmp_path: Path, capsys: Capture, save: Save) -> None:
    logits, target = made((30, 5))
    path = save(tmp_path, {"logits": logits, "targets": target})
    for key, name in (
        ("logit", "logits"),
        ("Logits", "logits"),
        ("target", "targets"),
        ("valid/logits", "logits"),
    ):
        assert score(f"{path}:{key}", f"{path}:targets") == 2
        assert f"{path} has no array '{key}'; it has " in (message := error(capsys))
        assert message.endswith(f"; did you mean '{name}'?\n")
    assert score(f"{path}:zzz") == 2
    assert "did you mean" not in error(capsys)


@every
def test_files_without_integers(tmp_path: Path, capsys: Capture, save: Save) -> None:
    """What is in the file is told, since targets may be in it with another dtype."""
    logits, target = made((30, 5))
    path = save(tmp_path, {"x": logits, "labels": target.astype(np.float32), "mask": target > 2})
    for command in ("score", "calibrate"):
        assert cli.main([command, f"{path}:x"]) == 2
        message = error(capsys)
        assert f"{path}:x holds no targets; give a file of class indices after it; beside it are " in message
        assert "labels of float32" in message
        assert "mask of bool, and class indices are integers" in message
    path = save(tmp_path, {"x": (9 * logits).astype(np.int8), "t": target})
    assert score(path) == 2
    assert f"{path} has no arrays of floating numbers; it has " in (message := error(capsys))
    assert "x of int8" in message
    assert "save logits as float16, float32, float64 or bfloat16" in message


@every
def test_a_dtype_for_targets_beside_their_logits(tmp_path: Path, capsys: Capture, save: Save) -> None:
    logits, target = made((30, 5))
    path = save(tmp_path, {"x": logits, "t": target})
    for arguments in ([path], [f"{path}:x"], [f"{path}:x", f"{path}:t"]):
        assert score(*arguments, "--target-dtype", "i8") == 2
        assert f"--target-dtype does not apply to {path}; leave it out" in capsys.readouterr().err


def test_names_of_groups(tmp_path: Path, capsys: Capture) -> None:
    h5py, torch = pytest.importorskip("h5py"), pytest.importorskip("torch")
    logits, target = made((30, 5))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for part in ("train", "val"):
            file[f"{part}/x"], file[f"{part}/t"] = logits, target
    torch.save({part: {"x": torch.zeros(3, 5)} for part in ("train", "val")}, tmp_path / "x.pt")
    for name, key, rest in (
        ("x.h5", "val", "; those that begin so are val/t, val/x; name one of them, as in {}:val/t"),
        ("x.h5", "/val/", "; those that begin so are val/t, val/x; name one of them, as in {}:val/t"),
        ("x.pt", "val", "; those that begin so are val.x; name one of them, as in {}:val.x"),
        ("x.h5", "x", "; it has train/t, train/x, val/t, val/x; did you mean 'train/x' or 'val/x'?"),
    ):
        path = str(tmp_path / name)
        assert score(f"{path}:{key}") == 2
        assert error(capsys).endswith(f"{path} has no array '{key}'{rest.format(path)}\n")


@every
def test_compare_calibrate_and_patterns(tmp_path: Path, capsys: Capture, save: Save) -> None:
    logits, target = made((300, 12))
    other = (logits + np.linspace(-1, 1, 12)).astype(np.float32)
    x, t, y = npy(tmp_path, {"x": logits, "t": target, "y": other})
    path = save(tmp_path, {"x": logits, "t": target})
    assert result(capsys, "compare", f"{path}:x", y, f"{path}:t") == result(capsys, "compare", x, y, t)
    assert result(capsys, "calibrate", f"{path}:x", t) == result(capsys, "calibrate", x, t)
    expected = result(capsys, "score", x, t)
    names = []
    for number, cut in enumerate((slice(0, 100), slice(100, 101), slice(101, 300))):
        folder = tmp_path / f"part-{number}"
        folder.mkdir()
        names.append(save(folder, {"x": logits[cut], "t": target[cut]}))
    pattern = str(tmp_path / "part-*" / Path(path).name)
    assert result(capsys, "score", f"{pattern}:x", f"{pattern}:t") == expected


@every
def test_hidden_states_and_their_head(tmp_path: Path, capsys: Capture, save: Save) -> None:
    rng = np.random.default_rng(1)
    arrays = {
        "hidden": rng.normal(size=(200, 16)).astype(np.float32),
        "weight": rng.normal(size=(50, 16)).astype(np.float32),
        "bias": rng.normal(size=50).astype(np.float32),
        "t": rng.integers(50, size=200),
    }
    hidden, weight, bias, t = npy(tmp_path, arrays)
    expected = result(capsys, "score", hidden, t, "--head", weight, "--head-bias", bias)
    path = save(tmp_path, arrays)
    own = [f"{path}:hidden", f"{path}:t", "--head", f"{path}:weight", "--head-bias", f"{path}:bias"]
    told = result(capsys, "score", *own)
    for name in ("mean", "accuracy", "count", "mean_entropy"):
        assert told.get(name) == expected.get(name)


@every
def test_targets_that_do_not_fit_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: Save
) -> None:
    _, target = made((5000, 8))
    monkeypatch.setattr("crossent._io.opening._FEW_BYTES", 0)
    path = save(tmp_path, {"t": target})
    found = open_targets(path)
    for cut in cut_rows((5000,), 300):
        assert np.array_equal(found[cut], target[cut])
    assert np.array_equal(found[(slice(4990, 5000),)], target[4990:])
    assert np.array_equal(found[(slice(0, 3),)], target[:3])  # back, after what was read last


@every
def test_another_file_of_the_name(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, save: Save
) -> None:
    """Rows of two files are never mixed."""
    logits, target = made((20_000, 10))
    (tmp_path / "other").mkdir()
    other = save(tmp_path / "other", {"x": logits[::-1] * 9, "t": target})
    path = save(tmp_path, {"x": logits, "t": target})
    expected = result(capsys, "score", f"{path}:x", f"{path}:t")

    def replace() -> None:
        os.rename(path, f"{path}.old")  # noqa: PTH104
        os.rename(other, path)  # noqa: PTH104

    before_block(1, replace, monkeypatch.setattr)
    code = score(f"{path}:x", f"{path}:t", "--memory", MEMORY)
    if code == 0:
        content = figures(capsys)
        assert {name: content[name] for name in expected} == expected
    else:
        assert f"{path} was replaced by another file while it was read" in error(capsys)


@pytest.mark.parametrize(
    ("package", "save", "fix"),
    [
        ("h5py", hdf5, "needs the package h5py; pip install 'crossent[io]'"),
        ("zarr", zarr_store, "needs the package zarr; pip install 'crossent[io]'"),
        (
            "torch",
            torch_file,
            "needs the package torch; pip install torch, or save the tensor with safetensors.torch.",
        ),
    ],
)
def test_missing_packages(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, package: str, save: Save, fix: str
) -> None:
    logits, target = made((20, 3))
    path = save(tmp_path, {"x": logits, "t": target})
    monkeypatch.setitem(sys.modules, package, None)
    assert score(f"{path}:x", f"{path}:t") == 1
    message = error(capsys)
    assert path in message
    assert fix in message


def test_nothing_is_imported_that_a_file_does_not_need(tmp_path: Path) -> None:
    arguments = npy(tmp_path, dict(zip("xt", made((20, 3)), strict=True)))
    script = (
        "import sys; from crossent import _cli as cli; cli.main(sys.argv[1:]); "
        "sys.exit(any(name in sys.modules for name in ('h5py', 'zarr', 'pyarrow', 'torch')))"
    )
    command = [sys.executable, "-c", script, "score", *arguments]
    assert subprocess.run(command, capture_output=True, check=False, timeout=600).returncode == 0


# ---- chunks -------------------------------------------------------------------------------------------------


class Counting(Chunked):
    """An array in memory that counts how often each chunk is read."""

    def __init__(self, array: Array, chunks: tuple[int, ...]) -> None:
        super().__init__("a", "a", "test", array.shape, array.dtype, chunks=chunks, whole_chunks=True)
        self.array = array
        self.reads = np.zeros(
            [-(-length // chunk) for length, chunk in zip(array.shape, chunks, strict=True)], int
        )
        self.most = 0

    def open(self) -> Reader:
        return self

    def read(self, index: Index, out: Array) -> None:
        touched = tuple(
            slice(cut.start // chunk, -(-cut.stop // chunk))
            for cut, chunk in zip(index, self._chunks, strict=True)
        )
        self.reads[touched] += 1
        self.most = max(self.most, self.array[index].nbytes)
        out[...] = self.array[index]

    def close(self) -> None:
        pass


@pytest.mark.parametrize("axis", [None, 0, 1, 2])
def test_each_chunk_is_read_once_and_every_row_comes_in_order(axis: int | None) -> None:
    rng = np.random.default_rng(4)
    for _ in range(150):
        shape = tuple(map(int, rng.integers(1, 14, size=3)))
        chunks = tuple(map(int, rng.integers(1, 9, size=3)))
        array = rng.normal(size=shape)
        stored = Counting(array, chunks)
        rows = array.size // (1 if axis is None else shape[axis])
        start, size = int(rng.integers(rows)), int(rng.integers(8, 3000))
        at = start
        kept = [a for a in range(3) if a != axis]
        numbers = np.arange(rows).reshape([shape[a] for a in kept])
        for index, values in stored.blocks(axis, size, start):
            assert np.array_equal(values, array[index])
            places = numbers[tuple(index[a] for a in kept)].reshape(-1)
            assert np.array_equal(places, np.arange(at, at + places.size))
            at += places.size
        assert at == rows
        assert stored.reads.max() == 1


def test_a_band_of_chunks_that_is_larger_than_the_memory() -> None:
    array = np.zeros((4000, 1000))
    stored = Counting(array, (2000, 50))  # 16 MB that all first rows need
    with pytest.raises(
        OptionError,
        match=r"stored in chunks of shape \(2000, 50\), which are read as a whole.*take 16000000 bytes",
    ) as told:
        list(stored.blocks(1, 1 << 20, memory=16 << 20))
    memory = int(str(told.value).partition("--memory ")[2].partition("M")[0]) << 20
    assert math.prod(next(values for _, values in stored.blocks(1, 1 << 20, memory=memory)).shape) > 0
    assert stored.most == 16_000_000
    one_row = Counting(np.zeros((3, 1_000_000)), (1, 1000))
    assert len(list(one_row.blocks(1, 1000))) == 3  # a row has to be there, whatever it takes


@posix
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize("name", ["hdf5", "zarr", "torch"])
def test_files_larger_than_the_memory(tmp_path: Path, name: str) -> None:
    rows, classes = 2400, 20_000  # 192 megabytes of zeros, which compress well
    target = np.zeros(rows, np.int64)
    np.save(tmp_path / "t.npy", target)
    path = tmp_path / "x"
    if name == "hdf5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            x = file.create_dataset(
                "x", (rows, classes), "f4", chunks=(50, 5000), compression="gzip", compression_opts=1
            )
            for at in range(0, rows, 400):
                x[at : at + 400] = np.zeros((400, classes), "f4")
        limit = 150 << 20
    elif name == "zarr":
        zarr = pytest.importorskip("zarr")
        with zarr.config.set({"array.write_empty_chunks": True}):
            x = zarr.create_array(path, shape=(rows, classes), dtype="f4", chunks=(50, 5000))
            for at in range(0, rows, 400):
                x[at : at + 400] = np.zeros((400, classes), "f4")
        limit = 180 << 20
    else:
        torch = pytest.importorskip("torch")
        torch.save({"x": torch.zeros(rows, classes)}, path)
        limit = 280 << 20  # most of it torch itself
    told = json.loads(run_watched("score", str(path), str(tmp_path / "t.npy"), "--json", limit=limit))
    assert told["count"] == rows
    assert told["mean"] == pytest.approx(np.log(classes), rel=1e-7)


def test_formats_are_found_by_their_content(tmp_path: Path) -> None:
    arrays = {"x": made((20, 3))[0]}
    saves: Sequence[tuple[Save, str]] = [(hdf5, "hdf5"), (zarr_store, "zarr"), (torch_file, "torch")]
    for save, name in saves:
        path = Path(save(tmp_path, arrays))
        for other in ("plain", "data.bin", "x.ckpt"):
            path = path.rename(tmp_path / other)
            assert formats.format_of(str(path)).name == name
        path.rename(tmp_path / f"done-{name}")
