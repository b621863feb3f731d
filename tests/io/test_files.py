"""Files of every kind: written by the library that people use, cut short, of a wrong shape, larger than memory."""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import struct
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy

from crossent import _cli as cli
from crossent._cli.options import memory as parse_bytes
from crossent._io import (
    Source,
    formats,
    kinds,
    log_blocks,
    open_logits,
    open_targets,
    read_ahead,
)
from crossent._io.format import Content, Format, LogitsOptions, refuse
from crossent._io.opening import natural
from crossent.blocks import Block
from steps import before_block
from test_cli import DTYPES, assert_close, error, figures, made, reference

Array = npt.NDArray[Any]
Capture = pytest.CaptureFixture[str]

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def score(*arguments: str | Path) -> int:
    return cli.main(["score", *map(str, arguments), "--json"])


# ---- writers: each puts logits and targets into a folder, and gives the arguments that score them -------------


def write_npy(folder: Path, logits: Array, target: Array) -> list[str]:
    np.save(folder / "x.npy", logits)
    np.save(folder / "t.npy", target)
    typed = ["--dtype", "bf16"] if logits.dtype == BFLOAT16 else []
    return [str(folder / "x.npy"), str(folder / "t.npy"), *typed]


def write_npz(folder: Path, logits: Array, target: Array) -> list[str]:
    np.savez(folder / "x.npz", first=np.zeros(3, "S1"), logits=logits, labels=target)
    typed = ["--dtype", "bf16"] if logits.dtype == BFLOAT16 else []
    return [f"{folder / 'x.npz'}:logits", str(folder / "x.npz"), *typed]


def write_compressed(folder: Path, logits: Array, target: Array) -> list[str]:
    np.savez_compressed(folder / "x.npz", logits=logits, labels=target)
    typed = ["--dtype", "bf16"] if logits.dtype == BFLOAT16 else []
    return [f"{folder / 'x.npz'}:logits", str(folder / "x.npz"), *typed]


def write_safetensors(folder: Path, logits: Array, target: Array) -> list[str]:
    safetensors.numpy.save_file(
        {"labels": np.ascontiguousarray(target), "scores": np.ascontiguousarray(logits)},
        folder / "x.safetensors",
    )
    return [str(folder / "x.safetensors")] * 2


def write_torch(folder: Path, logits: Array, target: Array) -> list[str]:
    """Write by torch, as models are saved; the name ends so that only the first bytes tell the kind."""
    torch = pytest.importorskip("torch")
    tensors = pytest.importorskip("safetensors.torch")
    rows = torch.from_numpy(np.ascontiguousarray(logits.astype(np.float64)))
    rows = rows.to(getattr(torch, str(logits.dtype)))
    tensors.save_file({"x": rows}, folder / "x.data")
    tensors.save_file({"t": torch.from_numpy(np.ascontiguousarray(target))}, folder / "t.data")
    return [str(folder / "x.data"), str(folder / "t.data")]


def write_raw(folder: Path, logits: Array, target: Array) -> list[str]:
    logits.tofile(folder / "x.bin")
    target.astype("<i4").tofile(folder / "t.bin")
    options = ["--dtype", str(logits.dtype), "--classes", str(logits.shape[-1]), "--target-dtype", "i32"]
    return [str(folder / "x.bin"), str(folder / "t.bin"), *options]


def write_hdf5(folder: Path, logits: Array, target: Array) -> list[str]:
    """Write datasets in one piece each, which are read without the library."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "x.h5", "w") as file:
        file["text"] = ["a", "b"]
        file["logits"], file["labels"] = logits, target
    typed = ["--dtype", "bf16"] if logits.dtype == BFLOAT16 else []
    return [f"{folder / 'x.h5'}:logits", str(folder / "x.h5"), *typed]


def write_chunked(folder: Path, logits: Array, target: Array) -> list[str]:
    """Write datasets of HDF5 in chunks that are compressed, and do not divide the array."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "x.h5", "w") as file:
        for name, array in (("logits", logits), ("labels", target)):
            chunks = tuple(max(min(length, 7), length // 5) for length in array.shape)
            options = {"chunks": chunks, "compression": "gzip"} if array.size else {}
            file.create_dataset(name, data=array, **options)
    typed = ["--dtype", "bf16"] if logits.dtype == BFLOAT16 else []
    return [f"{folder / 'x.h5'}:logits", str(folder / "x.h5"), *typed]


def write_zarr(folder: Path, logits: Array, target: Array) -> list[str]:
    """Write a store of Zarr in a zip archive; what it has no dtype for goes as integers of the same size."""
    zarr = pytest.importorskip("zarr")
    is_bfloat16 = logits.dtype == BFLOAT16
    store = zarr.storage.ZipStore(folder / "x.zip", mode="w")
    with zarr.config.set({"array.write_empty_chunks": True}):
        group = zarr.open_group(store, mode="w")
        for name, array in (
            ("logits", logits.view(np.uint16) if is_bfloat16 else logits),
            ("labels", target),
        ):
            chunks = tuple(max(min(length, 7), length // 5, 1) for length in array.shape)
            group.create_array(name, data=array, chunks=chunks)
    store.close()
    typed = ["--dtype", "bf16"] if is_bfloat16 else []
    return [f"{folder / 'x.zip'}:logits", f"{folder / 'x.zip'}:labels", *typed]


def write_pt(folder: Path, logits: Array, target: Array) -> list[str]:
    torch = pytest.importorskip("torch")
    tensors = {"labels": torch.from_numpy(np.ascontiguousarray(target)), "logits": torch_tensor(logits)}
    torch.save({"epoch": 3, "run": tensors}, folder / "x.pt")
    return [f"{folder / 'x.pt'}:run.logits", str(folder / "x.pt")]


def torch_tensor(array: Array) -> Any:
    """Return a tensor of the same numbers, dtype and order of axes."""
    torch = pytest.importorskip("torch")
    if array.dtype != BFLOAT16:
        return torch.from_numpy(array.copy(order="K"))
    return torch.from_numpy(array.view(np.int16).copy(order="K")).view(torch.bfloat16)


Writer = Callable[[Path, Array, Array], list[str]]
ARRAYS: list[Writer] = [
    write_npy, write_npz, write_compressed, write_safetensors, write_torch, write_raw, write_hdf5, write_chunked,
    write_zarr, write_pt,
]  # fmt: skip


def path_of(name: str) -> Path:
    """Return the file that a name means, without the name of an array in it."""
    return Path(name.removesuffix(":logits").removesuffix(":labels").removesuffix(":run.logits"))


def log_softmax(logits: Array) -> Array:
    top = logits.max(axis=-1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))


def llama_bytes(logits: Array, tokens: Array, context: int) -> bytes:
    """Write logits as llama.cpp's perplexity.cpp does (its function log_softmax with 16 bits), a row at a time."""
    chunks, vocabulary = len(tokens) // context, logits.shape[-1]
    parts = [struct.pack("<8s3i", b"_logits_", context, vocabulary, chunks), tokens.astype("<i4").tobytes()]
    for row in logits.reshape(-1, vocabulary).astype(np.float32):
        most = row.max()
        least = max(row.min(), most - np.float32(16))
        log_sum = np.float32(np.log(np.exp((row - most).astype(np.float64)).sum()))
        scale = np.float32((most - least) / np.float32(65535))
        stored = np.zeros(2 * ((vocabulary + 1) // 2), "<u2")
        if scale:
            steps = np.rint((row - least) / scale)
            stored[:vocabulary] = np.where(row > least, steps, 0)
        parts += [struct.pack("<2f", scale, least - most - log_sum), stored.tobytes()]
    return b"".join(parts)


def llama_file(
    folder: Path, *, context: int = 16, vocabulary: int = 33, chunks: int = 5, wide: bool = False
) -> tuple[Path, Array, Array]:
    """A file, the logits of its rows, and their targets."""
    rng = np.random.default_rng(5)
    each = context - 1 - context // 2
    logits = rng.standard_normal((chunks * each, vocabulary)).astype(np.float32) * (9 if wide else 1)
    tokens = rng.integers(vocabulary, size=chunks * context)
    path = folder / "base.kld"
    path.write_bytes(llama_bytes(logits, tokens, context))
    return path, logits, tokens.reshape(chunks, context)[:, context // 2 + 1 :].reshape(-1)


def write_llama(folder: Path, logits: Array, target: Array) -> list[str]:
    """Write rows as chunks of one row each: with a context of 3, token 2 is predicted by row 0."""
    tokens = np.zeros((len(target), 3), np.int32)
    tokens[:, 2] = target
    path = folder / "base.kld"
    path.write_bytes(llama_bytes(logits, tokens.reshape(-1), 3))
    return [str(path)]


def probabilities(logits: Array) -> Array:
    return np.exp(log_softmax(logits.astype(np.float64)))


def write_csv(folder: Path, logits: Array, target: Array) -> list[str]:
    with (folder / "x.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", *(f"p_{i}" for i in range(logits.shape[-1])), "label"])
        for at, (row, label) in enumerate(zip(probabilities(logits), target, strict=True)):
            writer.writerow([f"row {at}, quoted", *map(repr, row.tolist()), int(label)])
    return [str(folder / "x.csv")]


def write_parquet(folder: Path, logits: Array, target: Array) -> list[str]:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"label": target} | {f"p_{i}": column for i, column in enumerate(probabilities(logits).T)}
    pq.write_table(pa.table(columns), folder / "x.parquet", row_group_size=70)
    return [str(folder / "x.parquet")]


def write_lists(folder: Path, logits: Array, target: Array) -> list[str]:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    values = pa.array(probabilities(logits).astype(np.float32).reshape(-1))
    lists = pa.FixedSizeListArray.from_arrays(values, logits.shape[-1])
    table = pa.table({"id": np.arange(len(target)), "probs": lists, "target": target})
    pq.write_table(table, folder / "x.parquet", row_group_size=70)
    return [str(folder / "x.parquet")]


def write_feather(folder: Path, logits: Array, target: Array) -> list[str]:
    """Write a table as pandas does: compressed."""
    pa, feather = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.feather")
    columns = {"label": target} | {f"p_{i}": column for i, column in enumerate(probabilities(logits).T)}
    feather.write_feather(pa.table(columns), str(folder / "x.feather"), chunksize=70)
    return [str(folder / "x.feather")]


def write_arrow(folder: Path, logits: Array, target: Array, *, stream: bool = False) -> list[str]:
    """Write a column of lists beside others, in two batches of different lengths."""
    pa = pytest.importorskip("pyarrow")
    values = pa.array(probabilities(logits).astype(np.float32).reshape(-1))
    lists = pa.FixedSizeListArray.from_arrays(values, logits.shape[-1])
    names = pa.array([f"row {i}" for i in range(len(target))])
    table = pa.table({"name": names, "probs": lists, "target": target})
    path = folder / ("x.arrows" if stream else "x.arrow")
    writer = pa.ipc.new_stream if stream else pa.ipc.new_file
    with pa.OSFile(str(path), "wb") as sink, writer(sink, table.schema) as out:
        out.write_table(table.slice(0, 70))
        out.write_table(table.slice(70))
    return [str(path)]


def write_arrow_stream(folder: Path, logits: Array, target: Array) -> list[str]:
    return write_arrow(folder, logits, target, stream=True)


EVERY: list[Writer] = [
    *ARRAYS, write_llama, write_csv, write_parquet, write_lists, write_feather, write_arrow, write_arrow_stream,
]  # fmt: skip


def kind(writer: Writer) -> str:
    return writer.__name__.removeprefix("write_")


# ---- round trips --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("writer", ARRAYS, ids=kind)
def test_arrays(tmp_path: Path, capsys: Capture, writer: Writer, dtype: Any) -> None:
    logits, target = made((300, 17), dtype=dtype)
    target[::9] = -100
    assert score(*writer(tmp_path, logits, target)) == 0
    content = figures(capsys)
    assert_close(content, reference(logits, target))
    assert (content["dtype"], content["shape"], content["values"]) == (dtype.name, [300, 17], "logits")


@pytest.mark.parametrize("writer", EVERY, ids=kind)
def test_small_memory_gives_the_same_bits(tmp_path: Path, capsys: Capture, writer: Writer) -> None:
    logits, target = made((200, 11))
    arguments = writer(tmp_path, logits, target)
    results = []
    for memory in ("1", "4K", "64K", "1G"):
        assert score(*arguments, "--memory", memory) == 0
        content = figures(capsys)
        results.append([content[name] for name in ("count", "mean", "accuracy", "shape")])
    assert all(result == results[0] for result in results)
    assert results[0][1] == pytest.approx(reference(logits, target)["mean"], abs=2e-4)


@pytest.mark.parametrize("writer", EVERY, ids=kind)
def test_blocks_from_any_row_on(tmp_path: Path, writer: Writer) -> None:
    logits, target = made((150, 6))
    name, *rest = writer(tmp_path, logits, target)
    options: dict[str, Any] = {}
    if "--dtype" in rest:
        options["dtype"] = rest[rest.index("--dtype") + 1]
    if "--classes" in rest:
        options["classes"] = int(rest[rest.index("--classes") + 1])
    source = open_logits(name, **options)
    whole = np.concatenate([block.values.copy() for block in source.row_blocks(1 << 20)])
    for memory in (1, 5000, 1 << 20):
        for start in (0, 1, 69, 70, 71, 149, 150, 151):
            at = start
            for block in source.row_blocks(memory, start):
                assert block.index == (slice(at, at + block.rows),)
                assert np.array_equal(block.values, whole[at : at + block.rows])
                at += block.rows
            assert at == max(start, 150)
    assert source.rows == 150


@pytest.mark.parametrize("shape", [(30, 5, 7, 4), (3, 50, 6)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("writer", [write_npy, write_npz, write_compressed], ids=kind)
def test_blocks_of_any_layout(tmp_path: Path, shape: Any, order: Any, axis: int, writer: Writer) -> None:
    logits, target = made(shape, axis % len(shape))
    name, targets, *_ = writer(tmp_path, np.asarray(logits, order=order), target)
    source, classes = open_logits(name, axis=axis), open_targets(targets)
    rows = np.moveaxis(logits, axis, -1)
    for memory in (1 << 20, 8000 if writer is not write_compressed else 1 << 20):
        at, seen = 0, np.zeros(target.shape, int)
        places: dict[int, list[int]] = {}
        for block in source.row_blocks(memory):
            places[at] = [cut.start for cut in block.index]
            at += block.rows
            assert np.array_equal(block.values, rows[block.index])
            assert np.array_equal(classes[block.index], target[block.index])
            seen[block.index] += 1
        assert (seen == 1).all()
        for begin, place in places.items():
            first = next(source.row_blocks(memory, begin))
            assert [cut.start for cut in first.index] == place


def test_rows_in_the_middle_of_a_block_can_be_the_start(tmp_path: Path) -> None:
    logits, _ = made((4, 6, 5, 3))
    np.save(tmp_path / "x.npy", logits)
    source = open_logits(str(tmp_path / "x.npy"))
    rows = logits.reshape(-1, 3)
    for start in range(len(rows) + 1):
        found = [block.values.reshape(-1, 3).copy() for block in source.row_blocks(1 << 20, start)]
        assert np.array_equal(np.concatenate([np.empty((0, 3)), *found]), rows[start:])


def test_names_of_arrays(tmp_path: Path, capsys: Capture) -> None:
    logits, target = made((50, 4))
    path = tmp_path / "run:1.npz"  # a colon of its own
    np.savez(path, a=logits, b=logits[::-1], t=target, u=target)
    assert score(f"{path}:a", f"{path}:t") == 0
    assert_close(figures(capsys), reference(logits, target))
    assert score(path, f"{path}:t") == 2
    message = error(capsys)
    assert "has 2 arrays of floating numbers (a, b); name the one to read" in message
    assert f"{path}:a" in message
    assert score(f"{path}:c", f"{path}:t") == 2
    assert "has no array 'c'; it has a, b, t, u" in error(capsys)
    assert score(f"{path}:a", path) == 2
    assert "has 2 arrays of integers (t, u)" in error(capsys)
    np.save(tmp_path / "x.npy", logits)
    assert score(f"{tmp_path / 'x.npy'}:a", f"{path}:t") == 2
    assert "holds no named arrays; leave :a out" in error(capsys)


@pytest.mark.parametrize("dtype", ["i1", "u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8"])
def test_targets_of_any_dtype(tmp_path: Path, capsys: Capture, dtype: str) -> None:
    logits, target = made((100, 20))
    target = target.astype(dtype)
    np.save(tmp_path / "x.npy", logits)
    np.savez_compressed(tmp_path / "t.npz", target)
    safetensors.numpy.save_file({"t": target}, tmp_path / "t.safetensors")
    name = {"u": "u", "i": "i"}[target.dtype.kind] + str(8 * target.itemsize)
    target.tofile(tmp_path / f"t.{name}")
    for file in ("t.npz", "t.safetensors", f"t.{name}"):
        assert score(tmp_path / "x.npy", tmp_path / file, "--ignore-index", "3") == 0
        assert_close(figures(capsys), reference(logits, target, ignore_index=3))


def test_names_of_raw_files_tell_their_dtype(tmp_path: Path, capsys: Capture) -> None:
    logits, target = made((100, 20))
    logits.tofile(tmp_path / "x.f32")
    target.tofile(tmp_path / "t.i64")
    assert score(tmp_path / "x.f32", tmp_path / "t.i64", "--classes", "20") == 0
    assert_close(figures(capsys), reference(logits, target))


def test_one_row_and_one_number(tmp_path: Path, capsys: Capture) -> None:
    logits, _ = made((2, 5))
    np.savez(tmp_path / "x.npz", x=logits[0])
    np.savez(tmp_path / "t.npz", t=np.int64(3))
    assert score(tmp_path / "x.npz", tmp_path / "t.npz") == 0
    assert_close(figures(capsys), reference(logits[:1], np.array([3])))
    (block,) = open_logits(str(tmp_path / "x.npz")).row_blocks(1)
    assert block.values.shape == (1, 5)
    assert list(open_logits(str(tmp_path / "x.npz")).row_blocks(1, 1)) == []


# ---- several files ------------------------------------------------------------------------------------------


@pytest.fixture
def shards(tmp_path: Path) -> tuple[Path, Array, Array]:
    """Twelve files, whose order by name is not that of their numbers."""
    logits, target = made((12 * 7, 9))
    for at in range(12):
        np.save(tmp_path / f"logits-{at}.npy", logits[7 * at : 7 * at + 7])
        np.savez_compressed(tmp_path / f"targets-{at}.npz", target[7 * at : 7 * at + 7])
    np.save(tmp_path / "targets.npy", target)
    return tmp_path, logits, target


@pytest.mark.parametrize("targets", ["targets.npy", "targets-*.npz"])
@pytest.mark.parametrize("memory", ["1", "1K", "1M"])
def test_shards(shards: tuple[Path, Array, Array], capsys: Capture, targets: str, memory: str) -> None:
    folder, logits, target = shards
    assert score(folder / "logits-*.npy", folder / targets, "--memory", memory) == 0
    content = figures(capsys)
    assert_close(content, reference(logits, target))
    assert content["shape"] == [84, 9]
    assert content["files"] == [str(folder / f"logits-{at}.npy") for at in range(12)]


def test_shards_from_any_row_on(shards: tuple[Path, Array, Array]) -> None:
    folder, logits, target = shards
    source, targets = open_logits(str(folder / "logits-*.npy")), open_targets(str(folder / "targets-*.npz"))
    for start in (0, 3, 7, 8, 70, 83, 84, 90):
        at = start
        for block in source.row_blocks(1500, start):
            assert block.index[0].start == at
            assert np.array_equal(block.values, logits[block.index])
            assert np.array_equal(targets[block.index], target[block.index])
            at += block.rows
        assert at == max(start, 84)
    for begin in range(0, 84, 5):
        assert np.array_equal(targets[(slice(begin, begin + 20),)], target[begin : begin + 20])
    assert targets[(slice(90, 99),)].shape == (0,)


def test_shards_of_tables(tmp_path: Path, capsys: Capture) -> None:
    logits, target = made((60, 4))
    for at in range(3):
        folder = tmp_path / f"part-{at}"
        folder.mkdir()
        write_csv(folder, logits[20 * at : 20 * at + 20], target[20 * at : 20 * at + 20])
    assert score(tmp_path / "part-*" / "x.csv", "--memory", "1K") == 0
    content = figures(capsys)
    assert_close(content, reference(logits, target))
    assert content["shape"] == [60, 4]
    source = open_logits(str(tmp_path / "part-*" / "x.csv"))
    assert source.rows is None
    assert sum(block.rows for block in source.row_blocks(1000, 45)) == 15
    assert source.shape == (60, 4)


def test_shards_of_llama_files(tmp_path: Path, capsys: Capture) -> None:
    expected = 0.0
    for at in range(2):
        folder = tmp_path / f"{at}"
        folder.mkdir()
        _, logits, target = llama_file(folder, chunks=at + 1)
        expected += -float(log_softmax(logits)[np.arange(len(target)), target].sum())
    assert score(tmp_path / "*" / "base.kld") == 0
    content = figures(capsys)
    assert content["count"] == 3 * 7
    assert content["mean"] == pytest.approx(expected / 21, abs=1e-4)


def test_shards_that_do_not_fit(shards: tuple[Path, Array, Array], capsys: Capture) -> None:
    folder, logits, _ = shards
    pattern, targets = folder / "logits-*.npy", folder / "targets.npy"
    assert score(pattern, targets, "--axis", "0") == 2
    assert "along which files follow each other" in error(capsys)
    for wrong in (logits[:7, :8], logits[:7].astype(np.float64)):
        np.save(folder / "logits-5.npy", wrong)
        assert score(pattern, targets) == 1
        message = error(capsys)
        assert "logits-5.npy has shape" in message
        assert "logits-0.npy has shape (7, 9) of float32" in message
    np.save(folder / "logits-5.npy", logits[:6])
    assert score(pattern, targets) == 1
    assert "has shape (84,); expected (83,)" in error(capsys)
    np.savez(folder / "targets-3.npz", np.zeros((7, 2), np.int64))
    assert score(folder / "logits-0.npy", folder / "targets-*.npz") == 1
    assert "targets-3.npz:arr_0 has shape (7, 2) of int64, but" in error(capsys)
    np.savez(folder / "targets-3.npz", np.zeros(7, np.uint64))
    assert score(folder / "logits-0.npy", folder / "targets-*.npz") == 1
    assert "targets-3.npz:arr_0 has shape (7,) of uint64, but" in error(capsys)


def test_a_pattern_that_matches_nothing(tmp_path: Path, capsys: Capture) -> None:
    assert score(tmp_path / "logits-*.npy", tmp_path / "t.npy") == 1
    assert f"{tmp_path / 'logits-*.npy'} matches no file; check the folder and the pattern" in error(capsys)
    with pytest.raises(SystemExit) as stop:
        score("a-1.npy", "a-2.npy", "a-3.npy", "t.npy")
    assert stop.value.code == 2
    assert "quote a pattern" in capsys.readouterr().err


def test_a_name_that_looks_like_a_pattern(tmp_path: Path, capsys: Capture) -> None:
    logits, target = made((20, 3))
    np.save(tmp_path / "x[1].npy", logits)
    np.save(tmp_path / "t.npy", target)
    assert score(tmp_path / "x[1].npy", tmp_path / "t.npy") == 0
    assert_close(figures(capsys), reference(logits, target))


def test_natural_order() -> None:
    names = ["a-10.npy", "a-2.npy", "b-1.npy", "a-02.npy", "a.npy", "a-2-x.npy", "10", "9", "a²"]
    assert sorted(names, key=natural) == [
        "9", "10", "a-02.npy", "a-2-x.npy", "a-2.npy", "a-10.npy", "a.npy", "a²", "b-1.npy",
    ]  # fmt: skip


# ---- llama.cpp ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vocabulary", [32, 33])
@pytest.mark.parametrize("context", [3, 16, 17])
def test_llama(tmp_path: Path, capsys: Capture, vocabulary: int, context: int) -> None:
    path, logits, target = llama_file(tmp_path, vocabulary=vocabulary, context=context)
    assert score(path) == 0
    content = figures(capsys)
    expected = reference(logits, target)
    assert content["mean"] == pytest.approx(
        expected["mean"], abs=1.3e-4
    )  # half a step of 16 bits over 16 nats
    assert content["accuracy"] == expected["accuracy"]
    assert content["count"] == len(target)
    assert (content["clamped"], content["format"], content["values"]) == (0, "llama.cpp", "log-probs")
    (block,) = open_logits(str(path)).row_blocks(1 << 20)
    assert np.abs(block.values - log_softmax(logits.astype(np.float64))).max() < 1.3e-4


def test_llama_tells_what_was_clamped(tmp_path: Path, capsys: Capture) -> None:
    path, logits, target = llama_file(tmp_path, wide=True, chunks=50)
    clamped = logits[np.arange(len(target)), target] <= logits.max(axis=1) - 16
    assert 20 < clamped.sum() < len(target)
    assert score(path) == 0
    captured = capsys.readouterr()
    content = json.loads(captured.out)
    assert content["clamped"] == clamped.sum()
    assert (
        f"{clamped.sum()} of {len(target)} counted targets of {path} are stored as 16 nats below"
        in captured.err
    )
    ignored = str(target[clamped][0])
    assert score(path, "--ignore-index", ignored) == 0
    assert figures(capsys)["clamped"] == (clamped & (target != int(ignored))).sum()


def test_llama_with_a_constant_row(tmp_path: Path, capsys: Capture) -> None:
    arguments = write_llama(tmp_path, np.ones((3, 8), np.float32), np.array([1, 2, 3]))
    assert score(*arguments) == 0
    content = figures(capsys)
    assert content["mean"] == pytest.approx(np.log(8), rel=1e-6)
    assert content["clamped"] == 0


def test_llama_with_targets_of_its_own(tmp_path: Path, capsys: Capture) -> None:
    path, logits, target = llama_file(tmp_path)
    np.save(tmp_path / "t.npy", target[::-1])
    assert score(path, tmp_path / "t.npy") == 0
    assert figures(capsys)["mean"] == pytest.approx(reference(logits, target[::-1])["mean"], abs=1.3e-4)


def test_llama_options(tmp_path: Path, capsys: Capture) -> None:
    path, *_ = llama_file(tmp_path)
    for option, value in (("--dtype", "f32"), ("--values", "logits"), ("--axis", "0"), ("--label", "y")):
        assert score(path, option, value) == 2
        assert option in error(capsys)


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (struct.pack("<3i", 1, 33, 5), "a context of 1 tokens"),
        (struct.pack("<3i", 16, 0, 5), "0 classes"),
        (struct.pack("<3i", 16, 33, -1), "-1 chunks"),
        (struct.pack(">3i", 160, 200, 129), "of the other byte order"),
        (struct.pack("<3i", 1 << 30, 33, 1 << 30), "is truncated"),
        (struct.pack("<3i", 16, 33, 4), "is damaged: 4 chunks of 7 rows"),
    ],
)
def test_llama_header(tmp_path: Path, capsys: Capture, header: bytes, text: str) -> None:
    path, *_ = llama_file(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:8] + header + content[20:])
    assert score(path) == 1
    assert text in error(capsys)


def test_llama_token_out_of_range(tmp_path: Path, capsys: Capture) -> None:
    path, *_ = llama_file(tmp_path)
    content = bytearray(path.read_bytes())
    content[20 + 4 * 9 : 24 + 4 * 9] = struct.pack("<i", 33)
    path.write_bytes(content)
    assert score(path) == 1
    assert f"{path}: target[0] is 33" in error(capsys)


# ---- tables -------------------------------------------------------------------------------------------------


def write_text(folder: Path, text: str) -> str:
    path = folder / "x.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_csv_dialects(tmp_path: Path, capsys: Capture, separator: str, ending: str, start: str) -> None:
    lines = [["y", "cat", "dog"], ["dog", "0.25", "0.75"], ["cat", "0.5", "0.5"], ["dog", "1e0", "0"]]
    text = start + ending.join(separator.join(line) for line in lines) + ending
    path = tmp_path / "x.csv"
    path.write_bytes(text.encode())
    assert score(path) == 0
    captured = capsys.readouterr()
    content = json.loads(captured.out)
    assert (content["count"], content["accuracy"], content["mean"]) == (3, 2 / 3, None)
    assert content["nonfinite"] == 1
    assert "row [2]" in captured.err


def test_csv_labels_and_columns(tmp_path: Path, capsys: Capture) -> None:
    path = write_text(tmp_path, "id,5,7,truth,weight\n1,0.25,0.75,7,3\n2,0.5,0.5,5,4\n\n3,0.5,0.5,-100,1\n")
    assert score(path, "--label", "truth", "--columns", "5,7") == 0
    content = figures(capsys)
    assert (content["count"], content["ignored"]) == (2, 1)
    assert content["mean"] == pytest.approx(-(np.log(0.75) + np.log(0.5)) / 2)
    assert score(path, "--label", "truth", "--columns", "q_*") == 2
    assert "no columns of numbers for the classes; it has 'id', '5', '7'" in error(capsys)
    assert score(path, "--label", "why", "--columns", "5,7") == 2
    assert "has no column 'why'" in error(capsys)
    assert score(path, "--columns", "5,7") == 2
    assert "holds no targets" in error(capsys)
    assert score(path, "--label", "id", "--columns", "5,7") == 1
    assert "the label of row 0 is 1, which no column of a class is named; they are '5', '7'" in error(capsys)


def test_csv_labels_that_are_parts_of_names(tmp_path: Path, capsys: Capture) -> None:
    for names, labels in (
        ("p_cat,p_car", "cat,car,p_car"),
        ("prob.cat.1,prob.cat.2", "1,2,2"),
        ("5,7", "5,7,7"),
        ("p-0,p-1", "0,1,1"),
        ("cat,car", "cat,car,car"),
    ):
        rows = "".join(f"0.5,0.5,{label}\n" for label in labels.split(","))
        assert score(write_text(tmp_path, f"{names},y\n{rows}")) == 0
        content = figures(capsys)
        assert (content["count"], content["accuracy"]) == (3, 1 / 3)
    assert score(write_text(tmp_path, "p_1,p_2,y\n0.5,0.5,0\n")) == 1
    assert "the label of row 0 is 0, which no column of a class is named; they are 'p_1', 'p_2'" in error(
        capsys
    )


def test_tables_of_logits(tmp_path: Path, capsys: Capture) -> None:
    path = write_text(tmp_path, "label,a,b,c\n0,1.5,-2,0\nb,0,0,0\n".replace("\nb", "\n1"))
    assert score(path, "--values", "logits") == 0
    expected = reference(np.array([[1.5, -2, 0], [0, 0, 0]]), np.array([0, 1]))
    assert_close(figures(capsys), expected)
    assert score(path) == 1
    message = error(capsys)
    assert "row 0 has 1.5 for class 0, which is no probability" in message
    assert "--values logits" in message
    path = write_text(tmp_path, "label,a,b\n0,-0.5,-0.9327521295671886\n")
    assert score(path, "--values", "log-probs") == 0
    assert figures(capsys)["mean"] == 0.5


def test_a_table_with_targets_in_another_file(tmp_path: Path, capsys: Capture) -> None:
    logits, target = made((50, 4))
    (path,) = write_csv(tmp_path, logits, target)
    np.save(tmp_path / "t.npy", target[::-1])
    assert score(path, tmp_path / "t.npy", "--memory", "2K") == 0
    assert_close(figures(capsys), reference(logits, target[::-1]))
    for wrong in (target[:49], np.append(target, 0)):
        np.save(tmp_path / "t.npy", wrong)
        assert score(path, tmp_path / "t.npy", "--memory", "2K") == 1
        assert f"there are {len(wrong)} targets, but" in error(capsys)


def test_probabilities_that_do_not_add_up(tmp_path: Path, capsys: Capture) -> None:
    path = write_text(tmp_path, "label,a,b\n0,0.25,0.75\n1,0.25,0.25\n1,0.1,0.1\n")
    assert score(path) == 0
    captured = capsys.readouterr()
    assert "the probabilities of row 1 add up to 0.5, not 1" in captured.err
    assert captured.err.count("add up") == 1


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_probabilities_in_arrays(tmp_path: Path, capsys: Capture, dtype: Any) -> None:
    logits, target = made((300, 17))
    p = probabilities(logits).astype(dtype)
    arguments = write_npy(tmp_path, p, target)
    assert score(*arguments, "--values", "probs") == 0
    content = figures(capsys)
    expected = -np.log(p.astype(np.float64)[np.arange(300), target]).mean()
    assert content["mean"] == pytest.approx(expected, rel=1e-6)
    np.save(tmp_path / "x.npy", np.log(np.maximum(p.astype(np.float64), 1e-30)).astype(np.float32).T)
    assert score(*arguments[:2], "--values", "log-probs", "--axis", "0") == 0
    assert figures(capsys)["mean"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "is empty"),
        ("\n1,2\n", "begins with an empty line; remove it"),
        ("0,0.5,0.5\n1,0.5,0.5\n", "the first line holds numbers"),
        ("label,a,a\n0,0.5,0.5\n", "two columns have one name"),
        ("label,a,b\n0,0.5,0.5\n1,0.5\n", "row 1 has 2 cells, expected 3"),
        ("label,a,b\n0,0.5,0.5\n1,0.5,half\n", "row 1 has 'half' in the column 'b'"),
        ("label,a,b\n0,0.5,0.5\n2,0.5,0.5\n", "target[1] is 2, but the logits have 2 classes"),
        ("label,a,b\na,0.5,0.5\nc,0.5,0.5\n", "the label of row 1 is 'c'"),
        ("label,a,b\n0,nan,0.5\n0,-1,0.5\n", "row 0 has nan for class 0"),
        ('label,a,b\n0,0.5,0.5\n"1,0.5,0.5\n', "is damaged"),
        ("label,name\n0,x\n", "no columns of numbers"),
    ],
)
def test_wrong_csv(tmp_path: Path, capsys: Capture, text: str, wrong: str) -> None:
    assert score(write_text(tmp_path, text)) in (1, 2)
    captured = capsys.readouterr()
    assert wrong in captured.err
    assert "x.csv" in captured.err
    assert captured.err.count("\n") == 1


def test_csv_without_rows(tmp_path: Path, capsys: Capture) -> None:
    path = write_text(tmp_path, "label,a,b\n")
    assert score(path) == 1
    captured = capsys.readouterr()
    assert (json.loads(captured.out)["count"], json.loads(captured.out)["shape"]) == (0, [0, 2])
    assert "no row was counted" in captured.err


def test_csv_that_is_no_text(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "x.csv"
    for content in (b"label,a\xff\n", b"label,a,b\n0,0.5,0.5\n" + b"\xff\xfe\n"):
        path.write_bytes(content)
        assert score(path) == 1
        assert "is not text in UTF-8" in error(capsys)


def parquet(folder: Path, **columns: Any) -> str:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table(columns), folder / "x.parquet")
    return str(folder / "x.parquet")


def test_parquet_dtypes(tmp_path: Path, capsys: Capture) -> None:
    pa = pytest.importorskip("pyarrow")
    p = np.array([[0.25, 0.75], [0.5, 0.5]])
    expected = pytest.approx(-(np.log(0.75) + np.log(0.5)) / 2)
    for dtype in (np.float16, np.float32, np.float64):
        values = [row.astype(dtype) for row in p]
        for lists in (pa.list_(pa.from_numpy_dtype(dtype)), pa.large_list(pa.from_numpy_dtype(dtype))):
            path = parquet(tmp_path, y=["b", "a"], a=p[:, 0].astype(dtype), b=p[:, 1].astype(dtype))
            assert score(path) == 0
            content = figures(capsys)
            assert (content["dtype"], content["mean"]) == (np.dtype(dtype).name, expected)
            path = parquet(tmp_path, y=pa.array([1, 0], pa.int8()), p=pa.array(values, lists))
            assert score(path) == 0
            content = figures(capsys)
            assert (content["dtype"], content["mean"]) == (np.dtype(dtype).name, expected)
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(p)
    assert score(parquet(tmp_path, y=[1, 0], p=tensors)) == 0
    assert figures(capsys)["mean"] == expected
    names = pa.array(["b", "a"]).dictionary_encode()
    assert score(parquet(tmp_path, y=names, a=p[:, 0], b=p[:, 1])) == 0
    assert figures(capsys)["mean"] == expected
    path = parquet(tmp_path, y=[1, 0], a=[1, 2], b=[2, 2])
    assert score(path, "--columns", "a,b", "--values", "logits") == 0
    assert_close(figures(capsys), reference(np.array([[1.0, 2.0], [2.0, 2.0]]), np.array([1, 0])))


def test_wrong_parquet(tmp_path: Path, capsys: Capture) -> None:
    pa = pytest.importorskip("pyarrow")
    half = [0.5, 0.5]
    cases = [
        ({"y": [0, None], "a": half, "b": half}, "row 1 has no value in the column 'y'"),
        ({"y": [0, 1], "a": half, "b": [0.5, None]}, "row 1 has no value in the column 'b'"),
        ({"y": [0, 1], "p": [half, None]}, "row 1 has no value in the column 'p'"),
        ({"y": [0, 1], "p": [half, [1.0]]}, "row 1 has a list of 1 in the column 'p', expected 2"),
        ({"y": [0, 1], "p": [half, [0.5, None]]}, "row 1 has a list with a missing value in the column 'p'"),
        ({"y": [0, 2], "p": [half, half]}, "target[1] is 2"),
        ({"y": half, "p": [half, half]}, "the column 'y' holds double; expected class indices"),
        ({"y": [0, 1], "p": [["a", "b"]] * 2}, "no columns of numbers for the classes; it has 'p' (list<"),
        ({"y": [0, 1], "n": ["a", "b"]}, "no columns of numbers"),
        ({"y": pa.array([], pa.int64()), "p": pa.array([], pa.list_(pa.float32()))}, "has no classes"),
        ({"y": pa.array([], pa.int64()), "a": pa.array([], pa.float32())}, "no row was counted"),
    ]
    for columns, wrong in cases:
        assert score(parquet(tmp_path, **columns)) in (1, 2), wrong
        captured = capsys.readouterr()
        assert wrong in captured.err
        assert "x.parquet" in captured.err


def test_damaged_parquet(tmp_path: Path, capsys: Capture) -> None:
    logits, target = made((3000, 11))
    (path,) = write_parquet(tmp_path, logits, target)
    content = bytearray(Path(path).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 20_000] = bytes(20_000)
    Path(path).write_bytes(content)
    assert score(path, "--memory", "64K") == 1
    message = error(capsys)
    assert "is damaged: it cannot be read after row" in message
    assert " of 3000 " in message


def test_tables_and_options(tmp_path: Path, capsys: Capture) -> None:
    logits, target = made((20, 4))
    (path,) = write_csv(tmp_path, logits, target)
    np.save(tmp_path / "x.npy", logits)
    np.save(tmp_path / "t.npy", target)
    for arguments in (
        [path, "--dtype", "f32"],
        [path, "--axis", "0"],
        [path, "--target-dtype", "i64"],
        [f"{path}:key"],
        [path, "--classes", "5"],
        [tmp_path / "x.npy", path, "--target-dtype", "i64"],
        [tmp_path / "x.npy", tmp_path / "t.npy", "--columns", "a"],
        [tmp_path / "x.npy", tmp_path / "t.npy", "--classes", "5"],
    ):
        assert score(*arguments) == 2
        error(capsys)


# ---- damaged files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("writer", EVERY, ids=kind)
def test_truncated(tmp_path: Path, capsys: Capture, writer: Writer) -> None:
    logits, target = made((210, 11))
    arguments = writer(tmp_path, logits, target)
    path = path_of(arguments[0])
    whole = path.read_bytes()
    length = len(whole)
    for cut in (0, 1, 4, 7, 8, 9, 21, 60, 127, 128, 129, length // 3, length // 2, length - 30, length - 3):
        path.write_bytes(whole[:cut])
        assert score(*arguments) in (1, 2), cut
        message = error(capsys)
        assert str(path) in message, cut
        assert "please report it" not in message, cut
    path.write_bytes(whole)
    assert score(*arguments) == 0


@pytest.mark.parametrize("writer", EVERY, ids=kind)
def test_damaged_anywhere(tmp_path: Path, capsys: Capture, writer: Writer) -> None:
    """Whatever bytes a file holds: a result, or an error that names it, and never one that was not foreseen."""
    rng = np.random.default_rng(11)
    arguments = writer(tmp_path, *made((60, 7)))
    path = path_of(arguments[0])
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    described = [arguments[0], *(word for word in arguments[2:6] if "target" not in word)]
    for turn in range(40):
        content = whole[: rng.integers(len(whole))].copy() if turn % 4 == 0 else whole.copy()
        edge = min(len(content), 300 if turn % 2 else len(content))
        for place in rng.integers(edge, size=rng.integers(1, 9)) if edge else ():
            content[-place - 1 if turn % 3 == 0 else place] = rng.integers(256)
        path.write_bytes(content.tobytes())
        for command in (["score", *arguments], ["info", *described]):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                code = cli.main(command)
            told = capsys.readouterr().err
            assert code in (0, 1, 2)
            assert "please report it" not in told
            assert code == 0 or str(path) in told, told


def test_how_far_a_truncated_file_goes(tmp_path: Path, capsys: Capture) -> None:
    logits, target = made((100, 10))
    for writer, row in (
        (write_npy, "row 49 of 100"),
        (write_raw, "49 rows of 10 float32"),
        (write_llama, "49 of 100"),
    ):
        arguments = writer(tmp_path, logits, target)
        path = Path(arguments[0])
        whole = path.read_bytes()
        row_bytes = 28 if writer is write_llama else 40
        path.write_bytes(whole[: len(whole) - 51 * row_bytes + 9])
        assert score(*arguments) == 1
        message = error(capsys)
        assert "truncated" in message
        assert row in message


def test_a_file_that_shrinks_while_it_is_read(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, target = made((50_000, 10))
    arguments = write_npy(tmp_path, logits, target)
    before_block(1, lambda: os.truncate(arguments[0], 128 + 40 * 45_000 + 13), monkeypatch.setattr)
    assert score(*arguments, "--memory", "256K") == 1
    message = error(capsys)
    assert (
        f"became shorter while it was read: it ends at byte {128 + 40 * 45_000 + 13}, in row 45000 of 50000"
        in message
    )


def test_damaged_compressed_data(tmp_path: Path, capsys: Capture) -> None:
    rng = np.random.default_rng(0)
    logits = rng.integers(4, size=(50_000, 10)).astype(np.float32)  # can be compressed
    target = np.zeros(50_000, np.int64)
    arguments = write_compressed(tmp_path, logits, target)
    path = tmp_path / "x.npz"
    content = bytearray(path.read_bytes())
    content[40_000:40_020] = b"\xff" * 20
    path.write_bytes(content)
    assert score(*arguments, "--memory", "1M") == 1
    message = error(capsys)
    assert f"{path}:logits is damaged: it cannot be decompressed at byte " in message
    assert " of 50000 " in message


def test_a_wrong_checksum(tmp_path: Path, capsys: Capture) -> None:
    """The data decompress, but are not those that were written: told at the end, before any result."""
    logits, target = made((500, 10))
    arguments = write_compressed(tmp_path, logits, target)
    content = bytearray((tmp_path / "x.npz").read_bytes())
    for signature, place in ((b"PK\x01\x02", 16), (b"PK\x03\x04", 14)):
        at = content.index(signature) + place
        content[at : at + 4] = b"\x01\x02\x03\x04"
    (tmp_path / "x.npz").write_bytes(content)
    assert score(*arguments) == 1
    assert "Bad CRC-32" in error(capsys)


def test_members_of_archives_that_do_not_fit(tmp_path: Path, capsys: Capture) -> None:
    import zipfile

    np.save(tmp_path / "x.npy", made((20, 3))[0])
    whole = (tmp_path / "x.npy").read_bytes()
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        for content, text in (
            (whole[:-4], "is damaged: shape (20, 3)"),
            (whole + b"more", "is damaged: shape (20, 3)"),
            (whole[:20], "damaged .npy header"),
            (b"", "damaged .npy header"),
        ):
            with zipfile.ZipFile(tmp_path / "x.npz", "w", method) as archive:
                archive.writestr("x.npy", content)
            assert score(tmp_path / "x.npz", tmp_path / "x.npz") == 1
            assert text in error(capsys)
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", whole)
    np.save(tmp_path / "t.npy", np.zeros(20, np.int64))
    assert score(tmp_path / "x.npz", tmp_path / "t.npy") == 0
    capsys.readouterr()
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", whole)
    content = (tmp_path / "x.npz").read_bytes()
    for start, text in ((b"no zip archive", "is damaged"), (b"PK\x03\x04" + b"\xff" * 26, "is damaged")):
        (tmp_path / "x.npz").write_bytes(start + content[len(start) :])
        assert score(tmp_path / "x.npz", tmp_path / "t.npy") == 1
        assert text in error(capsys)
    (tmp_path / "x.npz").write_bytes(b"no zip archive")
    assert score(tmp_path / "x.npz", tmp_path / "t.npy") == 1
    assert "is not a .npz file" in error(capsys)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    assert score(tmp_path / "x.npz", tmp_path / "t.npy") == 2
    assert "has no arrays of floating numbers (it is empty)" in error(capsys)


def test_safetensors_header(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "x.safetensors"
    for content, text in (
        (b"", "it has 0 bytes"),
        (b"PK\x03\x04" + bytes(50), "it looks like a zip archive"),
        (struct.pack("<Q", 1000) + b"{}", "its header would take 1000 bytes"),
        (struct.pack("<Q", 4) + b"{no}", "truncated or damaged"),
        (struct.pack("<Q", 2) + b"{}", "has no arrays of floating numbers"),
        (safetensors.numpy.save({"x": np.zeros((3, 2), bool)}), "holds bool; expected logits"),
        (safetensors.numpy.save({"x": np.zeros((3, 2), ml_dtypes.float8_e4m3fn)}), "holds F8_E4M3; expected"),
    ):
        path.write_bytes(content)
        assert score(path, path) in (1, 2)
        assert text in error(capsys)


@pytest.mark.parametrize("writer", [write_npz, write_compressed, write_safetensors, write_torch], ids=kind)
def test_wrong_shapes_and_dtypes(tmp_path: Path, capsys: Capture, writer: Writer) -> None:
    logits, target = made((20, 3))
    for wrong, text in (
        (target[:19], "has shape (19,); expected (20,)"),
        (target[:3], "with --axis 0 they would fit"),
    ):
        assert score(*writer(tmp_path, logits, wrong)) == 1
        assert text in error(capsys)
    arguments = writer(tmp_path, logits, target)
    first = arguments[0].removesuffix(":logits")
    names = {"x.npz": ("logits", "labels"), "x.safetensors": ("scores", "labels"), "x.data": ("x", "t")}
    one, other = names[Path(first).name]
    second = arguments[1]
    assert score(f"{second}:{other}", f"{second}:{other}") == 1
    assert "holds int64; expected logits" in error(capsys)
    assert score(f"{first}:{one}", f"{first}:{one}") == 1
    assert "holds float32; expected integer class indices" in error(capsys)


def test_raw_files_and_options(tmp_path: Path, capsys: Capture) -> None:
    logits, target = made((20, 3))
    x, t, *options = write_raw(tmp_path, logits, target)
    assert score(x, t) == 2
    assert "pass --dtype (such as f32) and --classes" in error(capsys)
    assert score(x, t, "--dtype", "f32") == 2
    assert "--classes" in error(capsys)
    assert score(x, t, "--dtype", "f32", "--classes", "3") == 2
    assert "pass --target-dtype" in error(capsys)
    assert score(x, t, *options[:2], "--classes", "7", *options[4:]) == 1
    assert "has 240 bytes: 8 rows of 7 float32, 28 bytes each, and 16 bytes more" in error(capsys)
    assert score(x, t, *options[:4], "--target-dtype", "i64") == 1
    assert "has shape (10,); expected (20,)" in error(capsys)
    Path(t).write_bytes(b"123")
    assert score(x, t, *options) == 1
    assert "has 3 bytes: 0 numbers of int32" in error(capsys)
    for text in ("0", "-1", "x"):
        with pytest.raises(SystemExit):
            score(x, t, "--classes", text)
    capsys.readouterr()


@pytest.mark.parametrize("writer", [*ARRAYS, write_llama, write_parquet], ids=kind)
def test_no_rows(tmp_path: Path, capsys: Capture, writer: Writer) -> None:
    arguments = writer(tmp_path, np.zeros((0, 5), np.float32), np.zeros(0, np.int64))
    assert score(*arguments) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["count"] == 0
    assert "no row was counted" in captured.err


def test_an_array_in_fortran_order_compressed(tmp_path: Path, capsys: Capture) -> None:
    """All rows lie across the whole array, so it has to be in memory: told, if that is more than was allowed."""
    logits, target = made((5000, 10))
    arguments = write_compressed(tmp_path, np.asfortranarray(logits), target)
    assert score(*arguments) == 0
    assert_close(figures(capsys), reference(logits, target))
    assert score(*arguments, "--memory", "64K") == 2
    message = error(capsys)
    assert "save it with numpy.savez, which does not compress, or pass --memory 1M" in message
    assert score(*arguments, "--memory", "1M") == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_are_refused(tmp_path: Path, capsys: Capture) -> None:
    for name in ("x.npy", "x.npz", "x.safetensors", "x.bin", "x.csv", "x.parquet"):
        path = tmp_path / name
        os.mkfifo(path)
        holder = os.open(path, os.O_RDWR)  # so that opening it to read does not wait
        assert score(path, path, "--dtype", "f32", "--classes", "3") in (1, 2)
        assert str(path) in error(capsys)
        os.close(holder)


# ---- packages that are not there ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("package", "writer"),
    [
        ("ml_dtypes", write_safetensors),
        ("pyarrow", write_parquet),
        ("ml_dtypes", write_raw),
    ],
)
def test_missing_packages(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, package: str, writer: Writer
) -> None:
    logits, target = made((20, 3), dtype=ml_dtypes.bfloat16)
    arguments = writer(tmp_path, logits, target)
    monkeypatch.setitem(sys.modules, package, None)
    assert score(*arguments) == 1
    message = error(capsys)
    assert f"needs the package {package}; pip install 'crossent[io]'" in message
    assert arguments[0] in message


@pytest.mark.parametrize("writer", [write_npy, write_npz, write_safetensors, write_raw], ids=kind)
def test_nothing_is_imported_that_a_file_does_not_need(tmp_path: Path, writer: Writer) -> None:
    arguments = writer(tmp_path, *made((20, 3)))
    script = (
        "import sys; from crossent import _cli as cli; cli.main(sys.argv[1:]); "
        "sys.exit(any(name in sys.modules for name in ('ml_dtypes', 'safetensors', 'pyarrow', 'tqdm')))"
    )
    command = [sys.executable, "-c", script, "score", *arguments]
    assert subprocess.run(command, capture_output=True, check=False, timeout=600).returncode == 0


# ---- memory and reading ahead -------------------------------------------------------------------------------


def test_sizes() -> None:
    for text, expected in (
        ("0", 0), ("4096", 4096), ("64k", 1 << 16), ("64 KB", 1 << 16), ("1.5M", 3 << 19), ("1GiB", 1 << 30),
        ("2T", 2 << 40),
    ):  # fmt: skip
        assert parse_bytes(text) == expected
    for text in ("", "M", "-1", "1X", "1,5M", "1 M B"):
        with pytest.raises(argparse.ArgumentTypeError, match="is not a number of bytes"):
            parse_bytes(text)
    with pytest.raises(SystemExit):
        score("x.npy", "t.npy", "--memory", "much")


LARGE = """
import sys
from crossent import _cli as cli
from crossent._cli import reading

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))

rows, most = reading.Rows, 0
def watched(*arguments):
    global most
    most = max(most, anonymous())
    return rows(*arguments)

cli.main(["score", *sys.argv[1:3]])  # a small one: the threads have started
before = anonymous()
reading.Rows = watched
code = cli.main(["score", *sys.argv[3:]])
print(most - before)
sys.exit(code)
"""

on_linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")


@on_linux
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_file_larger_than_the_memory_that_is_allowed(tmp_path: Path, order: str) -> None:
    """200 megabytes of zeros, which take no room on the disk, within 64 MB of memory of the process's own."""
    shape = (2_000, 50_257) if order == "C" else (700_000, 150)
    path, targets = tmp_path / "x.npy", tmp_path / "t.npy"
    with path.open("wb") as file:
        told = {"descr": "<f2", "fortran_order": order == "F", "shape": shape}
        np.lib.format.write_array_header_1_0(file, told)
        file.truncate(file.tell() + 2 * shape[0] * shape[1])
    np.save(targets, np.zeros(shape[0], np.uint8))
    (tmp_path / "small").mkdir()
    small = write_npy(tmp_path / "small", *made((3000, 100)))
    command = [sys.executable, "-c", LARGE, *small, str(path), str(targets)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    assert f"{shape[0]:,}" in done.stdout
    assert int(done.stdout.split()[-1]) < 64 << 20


@on_linux
@pytest.mark.parametrize("kind", ["narrow", "compressed", "llama", "lists"])
def test_little_memory_is_enough(tmp_path: Path, kind: str) -> None:
    """Forty megabytes and more within 16: rows of two numbers, and rows that have to be unpacked."""
    arguments: list[str] = []
    if kind == "narrow":
        arguments = write_npy(tmp_path, np.zeros((10_000_000, 2), np.float16), np.zeros(10_000_000, np.int8))
    elif kind == "compressed":
        arguments = write_compressed(tmp_path, np.zeros((400, 50_000), np.float16), np.zeros(400, np.int64))
    elif kind == "llama":
        rows, vocabulary = 400, 50_000
        header = struct.pack("<8s3i", b"_logits_", 3, vocabulary, rows) + bytes(12 * rows)
        (tmp_path / "base.kld").write_bytes(header)
        os.truncate(tmp_path / "base.kld", len(header) + rows * (8 + 2 * vocabulary))
        arguments = [str(tmp_path / "base.kld")]
    else:
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        values = pa.array(np.full(30_000_000, 0.01, np.float32))
        lists = pa.FixedSizeListArray.from_arrays(values, 100)
        pq.write_table(pa.table({"label": np.zeros(300_000, np.int8), "p": lists}), tmp_path / "x.parquet")
        arguments = [str(tmp_path / "x.parquet")]
    (tmp_path / "small").mkdir()
    writer = write_lists if kind == "lists" else write_npy
    small = [*writer(tmp_path / "small", *made((3000, 100))), "--no-progress"][:2]  # a table needs no targets
    command = [sys.executable, "-c", LARGE, *small, *arguments, "--memory", "16M"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < (16 << 20 if kind != "lists" else 64 << 20)


def test_reading_ahead_overlaps() -> None:
    """The second item is made while the first is held, and the third only when the second is asked for."""
    made: list[int] = []
    second = threading.Event()

    def items() -> Generator[int, None, None]:
        for at in range(5):
            made.append(at)
            if at == 1:
                second.set()
            yield at

    ahead = read_ahead(items())
    assert next(ahead) == 0
    assert second.wait(10)
    assert made == [0, 1]
    assert list(ahead) == [1, 2, 3, 4]


def test_reading_ahead_hands_on_errors() -> None:
    def items() -> Generator[int, None, None]:
        yield 1
        raise OSError(5, "the disk failed", "x.npy")

    seen = []
    with pytest.raises(OSError, match="the disk failed"):
        for item in read_ahead(items()):
            seen.append(item)  # noqa: PERF402
    assert seen == [1]


def test_reading_ahead_stops_when_the_caller_does() -> None:
    closed = threading.Event()

    def items() -> Generator[int, None, None]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    ahead = read_ahead(items())
    next(ahead)
    ahead.close()
    assert closed.wait(10)


def test_sources_and_their_blocks(tmp_path: Path) -> None:
    (path,) = write_csv(tmp_path, *made((20, 3)))
    source = open_logits(path)
    assert isinstance(source, Source)
    assert source.provenance() == {
        "format": "csv", "shape": [None, 3], "dtype": "float64", "axis": 1, "values": "probs",
        "columns": ["p_0", "p_1", "p_2"], "label": "label",
    }  # fmt: skip
    (block,) = log_blocks(source, 1 << 20)
    assert block.target is not None
    assert block.values.max() < 0
    assert source.provenance()["shape"] == [20, 3]


# ---- logits and targets in one file ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
@pytest.mark.parametrize(
    "name", ["preds", "input_ids", "y_pred", "predictions", "idx", "attention_mask", "step"]
)
def test_integers_that_may_be_no_targets_are_not_taken_for_them(
    tmp_path: Path, capsys: Capture, kind: str, name: str
) -> None:
    logits, target = made((40, 3))
    path = str(tmp_path / f"run.{kind}")

    def save(**arrays: Array) -> None:
        if kind == "npz":
            np.savez(path, **arrays)
        else:
            safetensors.numpy.save_file(arrays, path)

    save(logits=logits, **{name: target})
    assert cli.main(["score", path]) == 2
    message = error(capsys)
    assert f"holds '{name}' beside its logits, which may be no targets" in message
    named = message.rstrip().rpartition("name them: ")[2].split()
    assert cli.main(["score", *named, "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)["mean"]
    # Beside targets of the shape of the rows, what has another is no candidate.
    save(logits=logits, labels=target, step=np.arange(1), lengths=np.arange(5))
    assert cli.main(["score", path, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["mean"] == expected
    assert captured.err == f"crossent: note: the targets are {path}:labels\n"
    other = str(tmp_path / "other.npy")
    np.save(other, logits * 2)
    save(logits=logits, **{name: target})
    assert cli.main(["compare", path, other, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["nll_mean"] is None
    assert "none is taken for targets" in captured.err


def test_one_class_is_told(tmp_path: Path, capsys: Capture) -> None:
    np.save(tmp_path / "x.npy", np.zeros((5, 1), np.float32))
    np.save(tmp_path / "t.npy", np.zeros(5, np.int64))
    x, t = str(tmp_path / "x.npy"), str(tmp_path / "t.npy")
    for command in (["score", x, t], ["compare", x, x, t], ["compare", x, x]):
        assert cli.main(command) == 0
        assert "there is one class only" in capsys.readouterr().err


# ---- a format of one's own -----------------------------------------------------------------------------------


class ToySource(Source):
    """Rows of two float32 logits, each with its target before it, after four bytes that tell the format."""

    format = "toy"
    axis, dtype, has_targets = 1, np.dtype("<f4"), True

    def __init__(self, path: str) -> None:
        self.name, self.paths = path, (path,)
        self._rows = np.fromfile(path, [("target", "<i4"), ("logits", "<f4", 2)], offset=4)
        self.shape = (len(self._rows), 2)

    def row_blocks(self, memory: int | None = None, start: int = 0) -> Generator[Block, None, None]:
        del memory
        for at in range(start, len(self._rows), 7):
            rows = self._rows[at : at + 7]
            yield Block((slice(at, at + len(rows)),), rows["logits"], rows["target"])


class Toy(Format):
    """What a file of its own under `io` would hold."""

    name, row = "toy", "token"
    kind = kinds.ReadKind("a toy", "give it a name that ends with .toy", (b"TOY1",), (".toy",))

    def open_logits(self, path: str, key: str | None, options: LogitsOptions) -> Source:
        refuse(path, key, {"--dtype": options.dtype})
        return ToySource(path)

    def contents(self, path: str, key: str | None, options: LogitsOptions) -> list[Content]:
        return [self.open_logits(path, key, options)]


def toy_rows() -> tuple[Array, Array]:
    """Rows of which the model gets three quarters right, so that a temperature is best."""
    logits, _ = made((20, 2))
    return logits, (logits.argmax(axis=1) + (np.arange(20) % 4 == 0)) % 2


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of files of a format that is registered for one test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kinds, "READ", [*kinds.READ])
    monkeypatch.setattr(formats, "READ", kinds.READ)
    monkeypatch.setattr(formats, "_FORMATS", [*formats._FORMATS])
    formats.register(Toy())
    rows = np.zeros(20, [("target", "<i4"), ("logits", "<f4", 2)])
    rows["logits"], rows["target"] = toy_rows()
    for number in range(2):
        Path(f"{number}.toy").write_bytes(b"TOY1" + rows.tobytes())
    return tmp_path


def test_a_format_is_registered_and_read_by_every_command(toys: Path, capsys: Capture) -> None:
    assert score("0.toy") == 0
    assert_close(figures(capsys), reference(*toy_rows()))
    assert cli.main(["score", "0.toy"]) == 0
    assert "bits per token" in capsys.readouterr().out
    assert score("*.toy", "--memory", "1K", "--per-row", "nll.npy") == 0
    told = figures(capsys)
    assert (told["count"], told["format"], told["files"]) == (40, "toy", ["0.toy", "1.toy"])
    assert np.load("nll.npy").shape == (40,)
    assert cli.main(["compare", "0.toy", "1.toy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kl_mean"] == 0.0
    assert cli.main(["calibrate", "0.toy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["count"] == 20
    assert cli.main(["info", "0.toy", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["arrays"]
    assert (found["format"], found["shape"], found["guess"]) == ("toy", [20, 2], "logits, with their labels")


def test_a_format_is_known_by_its_first_bytes_and_told_under_other_names(toys: Path, capsys: Capture) -> None:
    (toys / "0.toy").rename("rows.data")
    assert score("rows.data") == 0
    assert figures(capsys)["count"] == 20
    assert score("rows.data:key") == 2
    assert "rows.data holds no named arrays; leave :key out" in error(capsys)
    (toys / "rows.data").rename("rows.npy")
    assert score("rows.npy", "1.toy") == 1
    assert "rows.npy is not a .npy file (it looks like a toy); give it a name that ends with .toy" in error(
        capsys
    )
    assert score("1.toy", "1.toy") == 2
    assert "1.toy holds its own targets beside its rows" in error(capsys)
    assert score(".", "1.toy") == 1
    assert "such as '*.toy'" in error(capsys)


def test_a_format_is_named_by_its_own_file_and_the_list_of_formats_alone() -> None:
    folder = Path(formats.__file__).parent
    own = {
        "arrow_table",
        "csv_table",
        "hdf5",
        "llama",
        "npz",
        "parquet_table",
        "tensors",
        "torch_file",
        "zarr_store",
    }
    imported = re.compile(rf"\b({'|'.join(own)}) import ")
    naming = {path.stem for path in folder.glob("*.py") if imported.search(path.read_text(encoding="utf-8"))}
    assert naming == {"formats", "arrow_table"}  # Arrow's tables are read as those of Parquet
