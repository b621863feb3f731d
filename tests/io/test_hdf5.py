"""HDF5: links, layouts and dtypes, and what the library would read in silence though it is not there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from children import environment
from crossent import _cli as cli
from crossent._io import open_logits
from crossent._io.mapped import Mapped
from steps import before_block
from test_cli import assert_close, error, figures, made, posix, reference
from test_files import BFLOAT16, Array, Capture, score

h5py: Any = pytest.importorskip("h5py")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Array, Array]:
    """The current folder, with the targets in a file, and the arrays."""
    monkeypatch.chdir(tmp_path)
    logits, target = made((200, 13))
    np.save("t.npy", target)
    return logits, target


def written(write: Callable[[Any], object], **options: Any) -> None:
    with h5py.File("x.h5", "w", **options) as file:
        write(file)


LAYOUTS: dict[str, Callable[[Any, Array], object]] = {
    "in one piece": lambda file, x: file.create_dataset("x", data=x),
    "compact": lambda file, x: compact(file, x[:40]),
    "big-endian": lambda file, x: file.create_dataset("x", data=x.astype(">f4")),
    "in chunks": lambda file, x: file.create_dataset("x", data=x, chunks=(7, 5)),
    "one chunk": lambda file, x: file.create_dataset("x", data=x, chunks=x.shape, compression="gzip"),
    "resizable": lambda file, x: file.create_dataset("x", data=x, maxshape=(None, None), compression=1),
    "fletcher": lambda file, x: file.create_dataset("x", data=x, chunks=(50, 13), fletcher32=True),
    "a float of 24 bits": lambda file, x: odd_float(file, x),
}


def compact(file: Any, array: Array) -> None:
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple(array.shape)
    kind = h5py.h5t.py_create(array.dtype)
    h5py.h5d.create(file.id, b"x", kind, space, dcpl=plan).write(h5py.h5s.ALL, h5py.h5s.ALL, array)


def odd_float(file: Any, array: Array) -> None:
    """Numbers of a type that NumPy lacks, which the library converts to float32 when it reads them."""
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(31, 23, 8, 0, 23)
    kind.set_offset(0)
    kind.set_order(h5py.h5t.ORDER_BE)
    space = h5py.h5s.create_simple(array.shape)
    data = h5py.h5d.create(file.id, b"x", kind, space)
    data.write(h5py.h5s.ALL, h5py.h5s.ALL, array)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(data: tuple[Array, Array], capsys: Capture, layout: str) -> None:
    logits, target = data
    written(lambda file: LAYOUTS[layout](file, logits))
    rows = 40 if layout == "compact" else 200
    np.save("t.npy", target[:rows])
    assert score("x.h5", "t.npy") == 0
    assert_close(figures(capsys), reference(logits[:rows], target[:rows]))


def test_bfloat16_of_hdf5(data: tuple[Array, Array], capsys: Capture) -> None:
    """A type of 16 bits that NumPy does not have under that name is read as float32, which holds its numbers."""
    logits = data[0].astype(BFLOAT16)
    kind = h5py.h5t.IEEE_F16LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_ebias(127)

    def write(file: Any) -> None:
        stored = h5py.h5d.create(file.id, b"x", kind, h5py.h5s.create_simple(logits.shape))
        stored.write(h5py.h5s.ALL, h5py.h5s.ALL, logits.astype(np.float32))

    written(write)
    assert score("x.h5", "t.npy") == 0
    assert_close(figures(capsys), reference(logits.astype(np.float32), data[1]))


def test_a_user_block(data: tuple[Array, Array], capsys: Capture) -> None:
    """Other bytes come first, and the library counts from their end on."""
    written(lambda file: file.create_dataset("x", data=data[0]), userblock_size=512)
    stored = h5py.File("x.h5")["x"].id.get_offset()
    content = Path("x.h5").read_bytes()
    assert content[stored : stored + data[0].nbytes] == data[0].tobytes()
    assert score("x.h5", "t.npy") == 1  # it does not begin as one
    assert "x.h5 is named as an HDF5 file, and does not begin as one" in error(capsys)


def test_datasets_in_one_piece_are_read_without_the_library(data: tuple[Array, Array]) -> None:
    written(lambda file: file.create_dataset("x", data=data[0]))
    stored: Any = open_logits("x.h5")
    assert isinstance(stored._stored, Mapped)


def test_groups_and_links(data: tuple[Array, Array], capsys: Capture) -> None:
    logits, target = data

    def write(file: Any) -> None:
        group = file.create_group("run/1")
        group["logits"] = logits
        group["labels"] = target
        group["up"] = file  # a circle
        file["soft"] = h5py.SoftLink("/run/1/logits")
        group["beside"] = h5py.SoftLink("labels")
        file["chain"] = h5py.SoftLink("soft")
        file["nowhere"] = h5py.SoftLink("/run/2/logits")
        file["round"] = h5py.SoftLink("/round")
        file["outside"] = h5py.ExternalLink("other.h5", "/x")
        file["through"] = h5py.SoftLink("/outside/y")
        file["group"] = h5py.SoftLink("/run")

    written(write)
    expected = None
    for key, targets in (
        ("run/1/logits", "run/1/labels"),
        ("/soft", "run/1/beside"),
        ("chain", "/run/1/labels"),
    ):
        assert score(f"x.h5:{key}", f"x.h5:{targets}") == 0
        content = figures(capsys)
        expected = expected or content["mean"]
        assert content["mean"] == expected
    for key, text in (
        ("nowhere", "is a link to /run/2/logits, which leads nowhere"),
        ("round", "is a link to /round, which leads nowhere"),
        ("outside", "is a link to /x in other.h5; give that file"),
        ("through", "is a link to /x in other.h5; give that file"),
    ):
        assert score(f"x.h5:{key}", "t.npy") == 1
        assert f"x.h5:{key} {text}" in error(capsys)
    assert cli.main(["info", "x.h5", "--json"]) == 0
    names = [told["name"] for told in figures(capsys)["arrays"]]
    kept = [
        "run/1/logits",
        "run/1/labels",
        "run/1/beside",
        "soft",
        "chain",
        "nowhere",
        "round",
        "outside",
        "through",
    ]
    assert sorted(names) == sorted(f"x.h5:{key}" for key in kept)


def test_numbers_that_are_not_there(data: tuple[Array, Array], capsys: Capture) -> None:
    """The library makes zeros, or other fill values, of what was never written or is elsewhere."""
    logits, _ = data

    def write(file: Any) -> None:
        file.create_dataset("never", (200, 13), "f4")
        file.create_dataset("no chunk", (200, 13), "f4", chunks=(10, 13))
        file.create_dataset("some", (200, 13), "f4", chunks=(10, 13), compression="gzip")[:55] = logits[:55]
        layout = h5py.VirtualLayout((200, 13), "f4")
        layout[:100] = h5py.VirtualSource("gone.h5", "x", (100, 13))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("external", (200, 13), "f4", external=[("gone.bin", 0, h5py.h5f.UNLIMITED)])
        packed = file.create_dataset("packed", data=logits)
        packed.attrs["scale_factor"] = 0.5

    written(write)
    for key, text in (
        ("never", "was made, and never written"),
        ("no chunk", "is not written as a whole: 20 of its 20 chunks are missing"),
        ("some", "is not written as a whole: 14 of its 20 chunks are missing"),
        ("virtual", "is a virtual dataset, whose numbers are in others"),
        ("external", "has its numbers in another file, gone.bin"),
        ("packed", "has the attribute scale_factor, so that its numbers stand for others"),
    ):
        assert score(f"x.h5:{key}", "t.npy") == 1
        assert f"x.h5:{key} {text}" in error(capsys)
    assert cli.main(["info", "x.h5"]) == 1
    assert capsys.readouterr().out.count("cannot be read") == 6


def test_what_is_no_array_of_numbers(data: tuple[Array, Array], capsys: Capture) -> None:
    def write(file: Any) -> None:
        file["x"] = data[0]
        file["text"] = ["a", "b"]
        file["bytes"] = np.array([b"a", b"b"])
        file["empty"] = h5py.Empty("f4")
        file["fields"] = np.zeros(3, [("x", "f4"), ("y", "i4")])
        file.create_dataset("varying", (3,), h5py.vlen_dtype(np.float32))
        file.create_dataset("arrays", (3,), np.dtype("(2,)f4"))
        file["enum"] = np.zeros(3, bool)
        file["strange"] = np.zeros(3, "V7")

    written(write)
    for key, text in (
        ("text", "holds text, and no plain numbers"),
        ("bytes", "holds |S1; expected logits"),
        ("empty", "is an empty dataset without a shape"),
        ("fields", "holds records with the fields x, y; expected logits"),
        ("varying", "holds elements of varying length or references"),
        ("arrays", "holds elements that are arrays themselves"),
        ("enum", "holds bool; expected logits"),
        ("strange", "holds |V7; expected logits"),
    ):
        assert score(f"x.h5:{key}", "t.npy") == 1
        assert f"x.h5:{key} {text}" in error(capsys)
    assert score("x.h5", "t.npy") == 0  # the only one of floating numbers
    capsys.readouterr()
    assert cli.main(["info", "x.h5"]) == 0
    assert capsys.readouterr().out.count("name  ") == 9


def test_a_filter_that_is_not_there(data: tuple[Array, Array], capsys: Capture) -> None:
    """Plugins compress in other ways; here one is said to have been used, and left the data as they were."""

    def write(file: Any) -> None:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((200, 13))
        plan.set_filter(32099, h5py.h5z.FLAG_OPTIONAL, ())
        stored = h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((200, 13)), plan)
        stored.write_direct_chunk((0, 0), data[0].tobytes())

    written(write)
    assert score("x.h5", "t.npy") == 1
    message = error(capsys)
    assert "x.h5:x needs the filter 32099 of HDF5" in message
    assert "HDF5_PLUGIN_PATH" in message


WRITER = """
import sys, h5py
file = h5py.File(sys.argv[1], "r+")
file["more"] = [1.0]
file.flush()
print("open", flush=True)
sys.stdin.read()
"""


@posix
def test_a_file_that_is_open_for_writing(data: tuple[Array, Array], capsys: Capture) -> None:
    written(lambda file: file.create_dataset("x", data=data[0], chunks=(10, 13)))
    command = [sys.executable, "-c", WRITER, "x.h5"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "open\n"
        code = score("x.h5:x", "t.npy")
        process.stdin.close()
        process.wait(timeout=60)
    assert code == 1
    assert "x.h5 is open for writing elsewhere, or was not closed by what wrote it" in error(capsys)
    assert score("x.h5:x", "t.npy") == 0


@pytest.mark.parametrize("options", [{}, {"chunks": (10, 13)}, {"chunks": (10, 13), "compression": "gzip"}])
def test_a_file_that_is_cut(data: tuple[Array, Array], capsys: Capture, options: dict[str, Any]) -> None:
    written(lambda file: file.create_dataset("x", data=data[0], **options))
    whole = Path("x.h5").read_bytes()
    for length in (9, 100, 2100, len(whole) // 2, len(whole) - 1):
        Path("x.h5").write_bytes(whole[:length])
        assert score("x.h5", "t.npy") == 1
        assert f"x.h5 is truncated or damaged: it has {length} bytes" in error(capsys)


@pytest.mark.parametrize("options", [{}, {"chunks": (100, 40)}, {"chunks": (100, 40), "compression": "gzip"}])
def test_a_file_that_is_cut_while_it_is_read(
    data: tuple[Array, Array], capsys: Capture, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    """The library makes zeros of what lies after the end."""
    logits, target = made((5000, 40))
    np.save("t.npy", target)
    written(lambda file: file.create_dataset("x", data=logits, **options))
    length = Path("x.h5").stat().st_size
    before_block(1, lambda: os.truncate("x.h5", length // 2), monkeypatch.setattr)
    assert score("x.h5", "t.npy", "--memory", "100K") == 1
    message = error(capsys)
    assert "x.h5" in message
    assert "became shorter while it was read" in message


def test_compressed_data_that_are_damaged(data: tuple[Array, Array], capsys: Capture) -> None:
    written(lambda file: file.create_dataset("x", data=data[0], chunks=(50, 13), fletcher32=True))
    with h5py.File("x.h5") as file:
        place = file["x"].id.get_chunk_info(2).byte_offset
    content = bytearray(Path("x.h5").read_bytes())
    content[place + 7] ^= 255
    Path("x.h5").write_bytes(content)
    assert score("x.h5", "t.npy", "--memory", "1") == 1
    assert "x.h5:x is damaged: it cannot be read from row" in error(capsys)


INTERRUPTED = """
import sys, time, h5py, steps
from h5py._objects import phil
from crossent import _cli as cli

close = h5py.File.close

def slow(file):
    with phil:  # the library's own lock
        for _ in range(100):
            time.sleep(0.01)
        close(file)

steps.before_block(2, lambda: setattr(h5py.File, "close", slow) or steps.raises(KeyboardInterrupt())())
sys.exit(cli.main(sys.argv[1:]))
"""


def test_the_process_ends_when_the_thread_that_reads_has_ended(data: object) -> None:
    """The library would wait for its own lock, which the thread would hold for ever if it were stopped meanwhile."""
    logits, target = made((2000, 40))
    np.save("t.npy", target)
    written(lambda file: file.create_dataset("x", data=logits, chunks=(100, 40), compression="gzip"))
    command = [
        sys.executable,
        "-c",
        INTERRUPTED,
        "score",
        "x.h5",
        "t.npy",
        "--memory",
        "50K",
        "--no-progress",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment())
    assert done.returncode == 130, done.stderr
    assert "interrupted: " in done.stderr


def test_no_datasets(data: object, capsys: Capture) -> None:
    written(lambda file: file.create_group("a"))
    assert score("x.h5", "t.npy") == 2
    assert "x.h5 has no arrays of floating numbers (it is empty)" in error(capsys)


def test_an_hdf5_file_of_matlab_is_refused(data: object, capsys: Capture) -> None:
    """Its axes are in the other order."""
    Path("m.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n" + bytes(100))
    assert score("m.mat", "t.npy") == 1
    assert "a MATLAB file (HDF5)" in error(capsys)
