"""Zarr: folders as inputs, and chunks that are not there, for which the library gives the fill value in silence."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crossent import _cli as cli
from crossent._io import open_logits
from steps import before_block
from test_cli import assert_close, error, figures, made, reference
from test_files import Array, Capture, score

zarr: Any = pytest.importorskip("zarr")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Array, Array]:
    """The current folder, with the targets in a file, and the arrays."""
    monkeypatch.chdir(tmp_path)
    logits, target = made((200, 13))
    np.save("t.npy", target)
    return logits, target


def saved(array: Array, name: str = "x.zarr", **options: Any) -> Any:
    return zarr.create_array(Path(name), data=array, **{"chunks": (20, 13), "overwrite": True, **options})


@pytest.mark.parametrize("version", [2, 3])
def test_an_array_without_a_group(data: tuple[Array, Array], capsys: Capture, version: int) -> None:
    logits, target = data
    saved(logits, zarr_format=version)
    saved(target, "t.zarr", chunks=(30,), zarr_format=version, config={"write_empty_chunks": True})
    assert score("x.zarr", "t.zarr") == 0
    content = figures(capsys)
    assert_close(content, reference(logits, target))
    assert (content["logits"], content["format"]) == ("x.zarr", "zarr, compressed")
    assert score("x.zarr/", "t.npy") == 0
    capsys.readouterr()
    assert score("x.zarr:x", "t.npy") == 2
    assert "x.zarr holds no named arrays; leave :x out" in error(capsys)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("codec", ["zstd", "blosc", "gzip"])
def test_codecs_and_orders(data: tuple[Array, Array], capsys: Capture, codec: str, order: str) -> None:
    logits, target = data
    compressors: dict[str, Any] = {
        "zstd": zarr.codecs.ZstdCodec(level=3, checksum=True),
        "blosc": zarr.codecs.BloscCodec(cname="lz4"),
        "gzip": zarr.codecs.GzipCodec(),
    }
    filters = [zarr.codecs.TransposeCodec(order=(1, 0))] if order == "F" else None
    saved(logits, compressors=compressors[codec], filters=filters)
    assert score("x.zarr", "t.npy", "--memory", "1") == 0
    assert_close(figures(capsys), reference(logits, target))


@pytest.mark.parametrize("version", [2, 3])
def test_a_chunk_that_is_not_there(data: tuple[Array, Array], capsys: Capture, version: int) -> None:
    """It was lost, or never written, or holds the fill value alone: the files are the same for all three."""
    logits, _ = data
    lost = "3.0" if version == 2 else "c/3/0"
    saved(logits, zarr_format=version)
    (Path("x.zarr") / lost).unlink()
    started = zarr.create_array(
        Path("part.zarr"), shape=(200, 13), dtype="f4", chunks=(20, 13), zarr_format=version
    )
    started[:60] = logits[:60]
    logits[60:80] = 0
    saved(logits, "zero.zarr", zarr_format=version)
    assert np.array_equal(zarr.open_array("part.zarr")[60:], np.zeros((140, 13)))  # in silence
    for name, missing in (("x.zarr", 1), ("part.zarr", 7), ("zero.zarr", 1)):
        for arguments in ((name, "t.npy"), ("t.npy", name)):
            assert score(*arguments) == 1
        message = capsys.readouterr().err
        assert (
            f"{name} lacks {missing} of its 10 chunks, the first of them {lost}: they were lost, or"
            in message
        )
        call = "zarr.config.set({'array.write_empty_chunks': True})"
        assert call in message
        assert cli.main(["info", name]) == 1
        assert f"{name} lacks {missing} of its 10 chunks" in capsys.readouterr().err
        with eval(call, {"zarr": zarr}):
            saved(logits, name, zarr_format=version)
        assert score(name, "t.npy") == 0
        capsys.readouterr()


@pytest.mark.parametrize("location", ["start", "end"])
def test_chunks_that_a_shard_lacks(data: tuple[Array, Array], capsys: Capture, location: str) -> None:
    logits, target = data
    started = zarr.create_array(
        Path("x.zarr"), shape=(200, 13), dtype="f4", chunks=(10, 5), shards=(40, 15), compressors=None,
        serializer="auto",
    ) if location == "end" else sharded_at_start()  # fmt: skip
    started[:30] = logits[:30]
    for begin in range(40, 200, 40):
        started[begin : begin + 40] = logits[begin : begin + 40]
    assert score("x.zarr", "t.npy") == 1
    assert "x.zarr lacks chunks in its shard c/0/0" in error(capsys)
    started[:] = logits
    assert score("x.zarr", "t.npy", "--memory", "1") == 0
    assert_close(figures(capsys), reference(logits, target))
    shard = Path("x.zarr/c/2/0")
    shard.write_bytes(shard.read_bytes()[:30])
    assert score("x.zarr", "t.npy") == 1
    assert "x.zarr" in error(capsys)
    shard.unlink()
    assert score("x.zarr", "t.npy") == 1
    assert "x.zarr lacks 1 of its 5 chunks, the first of them c/2/0" in error(capsys)


def sharded_at_start() -> Any:
    """An array whose shards begin with their index."""
    made = zarr.create_array(
        Path("x.zarr"), shape=(200, 13), dtype="f4", chunks=(10, 5), shards=(40, 15), compressors=None
    )
    path = Path("x.zarr/zarr.json")
    told = json.loads(path.read_text())
    told["codecs"][0]["configuration"]["index_location"] = "start"
    path.write_text(json.dumps(told))
    del made
    return zarr.open_array("x.zarr", mode="r+")


@pytest.mark.parametrize("compressed", [True, False])
def test_a_chunk_that_is_damaged(data: tuple[Array, Array], capsys: Capture, compressed: bool) -> None:
    saved(data[0], **({} if compressed else {"compressors": None}))
    chunk = Path("x.zarr/c/4/0")
    whole = chunk.read_bytes()
    for content in (b"", whole[:-1], whole[:20], whole + b"more", bytes(len(whole) // 2)):
        if compressed and content == whole + b"more":
            continue  # the codec ends before it
        chunk.write_bytes(content)
        assert score("x.zarr", "t.npy", "--memory", "1") == 1
        assert "x.zarr is damaged: it cannot be read from row " in error(capsys)


@pytest.mark.parametrize("what", ["lost", "replaced"])
def test_a_store_that_changes_while_it_is_read(
    data: tuple[Array, Array], capsys: Capture, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    logits, target = made((5000, 40))
    np.save("t.npy", target)
    saved(logits, chunks=(100, 40))

    def change() -> None:
        if what == "lost":
            Path("x.zarr/c/49/0").unlink()
        else:  # written anew, as by the same script that runs once more
            saved(logits * 2, chunks=(50, 40))

    before_block(1, change, monkeypatch.setattr)
    assert score("x.zarr", "t.npy", "--memory", "100K") == 1
    text = "x.zarr lost the chunk c/49/0" if what == "lost" else "x.zarr was replaced by another file"
    assert text in error(capsys)


def test_metadata_that_are_damaged(data: tuple[Array, Array], capsys: Capture) -> None:
    group = zarr.open_group("g.zarr", mode="w")
    group.create_array("x", data=data[0], chunks=(20, 13))
    group.create_array("bad", data=data[0], chunks=(20, 13))
    path = Path("g.zarr/bad/zarr.json")
    whole = path.read_text()
    for content, text in (
        (whole.replace('"float32"', '"bfloat16"'), "g.zarr:bad has metadata that zarr cannot read ("),
        (whole.replace('"zstd"', '"unknown"'), "g.zarr:bad has metadata that zarr cannot read ("),
        (whole.replace('"shape"', '"form"'), "g.zarr:bad has metadata that zarr cannot read ("),
    ):
        assert content != whole
        path.write_text(content)
        assert score("g.zarr:bad", "t.npy") == 1
        assert text in error(capsys)
        assert score("g.zarr:x", "t.npy") == 0
        assert cli.main(["info", "g.zarr"]) == 0
        assert "looks like    logits" in capsys.readouterr().out
    path.write_text(whole[:50])
    assert score("g.zarr:x", "t.npy") == 1
    assert "g.zarr is damaged: its bad/zarr.json cannot be read" in error(capsys)
    Path("two.zarr").mkdir()
    Path("two.zarr/.zarray").write_text("{}")
    assert score("two.zarr", "t.npy") == 1
    assert "two.zarr has metadata that zarr cannot read" in error(capsys)


def test_what_is_no_array_of_numbers(data: tuple[Array, Array], capsys: Capture) -> None:
    group = zarr.open_group("x.zarr", mode="w", zarr_format=2)
    group.create_array("x", data=data[0], chunks=(20, 13))
    group.create_array("text", data=np.array(["a", "b"]))
    packed = group.create_array("packed", data=data[0], chunks=(200, 13))
    packed.attrs["add_offset"] = 3
    group.create_array("bool", data=np.ones((3, 2), bool))
    for key, text in (
        ("text", "holds <U1; expected logits"),
        ("packed", "has the attribute add_offset, so that its numbers stand for others"),
        ("bool", "holds bool; expected logits"),
    ):
        assert score(f"x.zarr:{key}", "t.npy") == 1
        assert f"x.zarr:{key} {text}" in error(capsys)
    assert score("x.zarr", "t.npy") == 0
    three = zarr.open_group("y.zarr", mode="w")
    three.create_array("text", shape=(2,), dtype=str)[:] = ["a", "b"]
    assert score("y.zarr:text", "t.npy") == 1
    assert "y.zarr:text holds text or objects, and no plain numbers" in capsys.readouterr().err


def test_pickles_are_never_loaded(data: tuple[Array, Array], capsys: Capture, tmp_path: Path) -> None:
    """A codec of version 2 would load them, whatever dtype the array is said to have."""

    class Touch:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    saved(data[0], zarr_format=2, chunks=(200, 13), compressors=None)
    told = json.loads(Path("x.zarr/.zarray").read_text())
    told["filters"] = [{"id": "pickle", "protocol": 5}]
    Path("x.zarr/.zarray").write_text(json.dumps(told))
    Path("x.zarr/0.0").write_bytes(pickle.dumps(Touch()))
    for arguments in (["score", "x.zarr", "t.npy"], ["info", "x.zarr"]):
        assert cli.main(arguments) == 1
        assert "x.zarr" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


def test_zip_archives(data: tuple[Array, Array], capsys: Capture) -> None:
    """Of a store, or of the folder that it is in."""
    logits, target = data
    saved(logits)
    with zipfile.ZipFile("inside.zip", "w") as inside, zipfile.ZipFile("around.zarr.zip", "w") as around:
        for path in sorted(Path("x.zarr").rglob("*")):
            if path.is_file():
                inside.write(path, path.relative_to("x.zarr"))
                around.write(path, path)
    for name in ("inside.zip", "around.zarr.zip", "around.zarr.zip:x.zarr"):
        assert score(name, "t.npy") == 0
        assert_close(figures(capsys), reference(logits, target))
    whole = Path("inside.zip").read_bytes()
    Path("inside.zip").write_bytes(whole[: len(whole) // 2])
    assert score("inside.zip", "t.npy") == 1
    assert "inside.zip is truncated or damaged" in error(capsys)
    shutil.copy("around.zarr.zip", "named.npz")
    assert score("named.npz", "t.npy") == 1
    assert "named.npz is a Zarr store in a zip archive; give it a name that ends with .zip" in error(capsys)


def test_folders_that_are_no_stores(data: object, capsys: Capture) -> None:
    Path("empty.zarr").mkdir()
    assert score("empty.zarr", "t.npy") == 1
    assert "empty.zarr is a folder named as a Zarr store, and it has no metadata of one" in error(capsys)
    zarr.open_group("group.zarr", mode="w")
    assert score("group.zarr", "t.npy") == 2
    assert "group.zarr has no arrays of floating numbers (it is empty)" in error(capsys)


def test_outputs_do_not_go_into_an_input(data: tuple[Array, Array], capsys: Capture) -> None:
    saved(data[0])
    before = sorted(Path("x.zarr").rglob("*"))
    for option, name in (
        ("--resume", "x.zarr/c/0/0"),
        ("--resume", "x.zarr/state.json"),
        ("--per-row", "x.zarr/new.npy"),
        ("--per-row", "x.zarr/c/../more.npy"),
    ):
        assert score("x.zarr", "t.npy", option, name) == 2
        assert f"{option} {name} is inside of the input x.zarr, and would change it" in error(capsys)
    assert score("x.zarr", "t.npy", "--per-row", "x.zarr") in (1, 2)
    assert sorted(Path("x.zarr").rglob("*")) == before
    assert score("x.zarr", "t.npy", "--per-row", "x.zarr.npy") == 0


def test_a_state_knows_a_store_again(data: tuple[Array, Array], capsys: Capture) -> None:
    logits, _ = data
    saved(logits, compressors=None)
    arguments = ("x.zarr", "t.npy", "--resume", "s.json")
    assert score(*arguments) == 0
    told = json.loads(Path("s.json").read_text())["inputs"][0]["files"][0]
    assert told["bytes"] == sum(path.stat().st_size for path in Path("x.zarr").rglob("*") if path.is_file())
    assert score(*arguments) == 0  # its result, from the state
    capsys.readouterr()
    Path("x.zarr/c/7/0").write_bytes(bytes(20 * 13 * 4))  # of the same length
    assert score(*arguments) == 1
    assert "s.json cannot be resumed: x.zarr was a file of" in error(capsys)
    saved(logits, compressors=None)
    assert score(*arguments) == 0
    Path("x.zarr/more").write_bytes(b"a")
    assert score(*arguments) == 1


def test_datasets_of_version_2_with_slashes_and_blocks_from_any_row_on(data: tuple[Array, Array]) -> None:
    logits, _ = data
    saved(logits, zarr_format=2, chunk_key_encoding={"name": "v2", "separator": "/"})
    assert Path("x.zarr/3/0").is_file()
    for start in (0, 1, 19, 20, 21, 199, 200):
        at = start
        for block in open_logits("x.zarr").row_blocks(3000, start):
            assert np.array_equal(block.values, logits[at : at + block.rows])
            at += block.rows
        assert at == 200


@pytest.mark.parametrize("version", [2, 3])
def test_arrays_without_a_group(data: tuple[Array, Array], capsys: Capture, version: Any) -> None:
    """Some libraries write arrays into a folder, and no metadata of the folder itself."""
    logits, target = data
    for name, array in (("x", logits), ("t", target)):
        zarr.create_array(
            f"bare.zarr/{name}", data=array, zarr_format=version, config={"write_empty_chunks": True}
        )
    for name in ("zarr.json", ".zgroup"):
        Path("bare.zarr", name).unlink(missing_ok=True)
    assert score("bare.zarr") == 0
    own = figures(capsys)
    assert score("bare.zarr:x", "bare.zarr:t") == 0
    assert figures(capsys)["mean"] == own["mean"]
    assert own["count"] == target.size
    Path("empty.zarr/x").mkdir(parents=True)
    assert score("empty.zarr") == 1
    assert "a folder named as a Zarr store, and it has no metadata of one" in error(capsys)
