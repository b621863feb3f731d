"""Files that are damaged, hostile, of other kinds or no files: a right number, or one line that names them."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import socket
import struct
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from arrays import MOST_AXES
from children import environment
from crossent import _cli as cli
from crossent import _core
from crossent._io import open_logits, open_npy, open_targets
from steps import before_block
from test_cli import assert_close, error, error_line, figures, made, posix, reference
from test_cli_memory import WATCHED
from test_files import ARRAYS, Capture, Writer, kind, path_of, score, write_npy, write_npz

METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
on_linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (20, 3), }"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with twenty rows of three classes in `x.npy` and `t.npy`."""
    monkeypatch.chdir(tmp_path)
    write_npy(tmp_path, *made((20, 3)))
    return tmp_path


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def with_header(header: str, version: int = 1, *, data: bytes | None = None) -> bytes:
    """A .npy file of any header, before the numbers of `x.npy`."""
    text = header.encode("utf-8" if version == 3 else "latin-1")
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return (
        b"\x93NUMPY"
        + bytes([version, 0])
        + length
        + text
        + (made((20, 3))[0].tobytes() if data is None else data)
    )


def zipped(path: str | Path, method: int = zipfile.ZIP_STORED, **members: bytes) -> str:
    """An archive of members, whose names get their suffix."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return str(path)


def with_bytes(path: str | Path, changes: dict[int, int], after: bytes = b"PK\x01\x02") -> None:
    """Set bytes of a file, counted from a signature."""
    content = bytearray(Path(path).read_bytes())
    at = content.index(after)
    for place, value in changes.items():
        content[at + place] = value
    Path(path).write_bytes(content)


def arrays(capsys: Capture, *names: str, code: int = 0) -> dict[str, dict[str, Any]]:
    """What `info --json` tells, by name."""
    assert cli.main(["info", "--json", *names]) == code
    return {told["name"]: told for told in json.loads(capsys.readouterr().out)["arrays"]}


# ---- the header of .npy --------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("order", ["C", "F"])
def test_versions_of_npy(folder: Path, capsys: Capture, version: int, order: Any) -> None:
    logits, target = made((20, 3))
    content = io.BytesIO()
    np.lib.format.write_array(content, np.asarray(logits, order=order), version=(version, 0))
    (folder / "v.npy").write_bytes(content.getvalue())
    zipped("v.npz", x=content.getvalue())
    zipped("c.npz", zipfile.ZIP_DEFLATED, x=content.getvalue())
    for name in ("v.npy", "v.npz", "c.npz"):
        assert score(name, "t.npy") == 0
        assert_close(figures(capsys), reference(logits, target))
    assert np.array_equal(open_npy("v.npy"), np.load("v.npy"))


def test_fields_with_names_in_unicode(folder: Path, capsys: Capture) -> None:
    """NumPy writes version 3 where the name of a field asks for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.save("r.npy", np.zeros(4, [("\u03b2", "f4"), ("n", "i8")]))
    assert arrays(capsys, "r.npy")["r.npy"]["guess"] == "records with the fields \u03b2, n"
    assert score("r.npy", "t.npy") == 1
    assert "r.npy holds records with the fields \u03b2, n; expected logits" in error(capsys)


def test_headers_that_numpy_reads_too(folder: Path, capsys: Capture) -> None:
    logits, target = made((20, 3))
    for header, version in (
        (HEADER.replace("20, 3", "20L, 3L"), 1),  # of Python 2
        (HEADER + " " * 9_000 + "\n", 1),
        (HEADER + " " * 90_000 + "\n", 2),  # padded, so that it can be rewritten in place
        ("{'shape': (20, 3), 'fortran_order': False, 'descr': 'f4'}", 1),
    ):
        (folder / "h.npy").write_bytes(with_header(header, version))
        assert score("h.npy", "t.npy") == 0
        assert_close(figures(capsys), reference(logits, target))


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (HEADER.replace("20", "-20"), "no array has the shape (-20, 3)"),
        (HEADER.replace("20", "20.0"), "no array has the shape (20.0, 3)"),
        (HEADER.replace("(20, 3)", "[20, 3]"), "does not hold a dtype, an order and a shape"),
        (HEADER.replace("20", str(2**70)), "which none can have"),
        (HEADER.replace("20, 3", f"{2**40}, {2**40}"), "which none can have"),
        (HEADER.replace("20, 3", f"0, {2**63}"), "which none can have"),
        (HEADER.replace("20, 3", f"{2**62}, 0, 8"), "which none can have"),
        (HEADER.replace("20, 3", ", ".join(["1"] * 71)), "has 71 axes; expected at most"),
        (HEADER.replace("20", str(2**40)), "is truncated: shape (1099511627776, 3)"),
        (HEADER.replace("<f4", "<q9"), "has a dtype that NumPy does not know here, '<q9'"),
        (HEADER.replace("<f4", "|O"), "holds dtype object, which is pickled Python objects"),
        (HEADER.replace("'<f4'", "('<f4', (3,))"), "holds elements that are arrays themselves"),
        (HEADER.replace("'<f4'", "[('a', '<f4'), ('b', '|O')]"), "holds dtype object"),
        (HEADER.replace("<f4", "<c8").replace("20", "10"), "holds complex64; expected logits"),
        (HEADER.replace("<f4", "<M8[s]").replace("20", "10"), "holds datetime64[s]; expected logits"),
        (HEADER.replace("False", "1"), "damaged .npy header"),
        (HEADER.replace("descr", "dtype"), "does not hold 'descr'"),
        (HEADER + "#" * 20_000, "a .npy header of 20,060 characters; expected at most 10,000"),
        ("(" * 300, "damaged .npy header"),
        ("-" * 9_000 + "1", "damaged .npy header"),
        ("\0" + HEADER, "damaged .npy header"),
        ("[1, 2]", "damaged .npy header"),
        ("__import__('os').system('touch ran')", "damaged .npy header"),
    ],
)
def test_headers_that_nothing_can_be_read_by(folder: Path, capsys: Capture, header: str, text: str) -> None:
    content = with_header(header)
    (folder / "h.npy").write_bytes(content)
    zipped("h.npz", zipfile.ZIP_DEFLATED, h=content)
    for name in ("h.npy", "h.npz"):
        assert score(name, "t.npy") == 1
        message = error(capsys)
        assert name in message
        assert text in message or (name == "h.npz" and "its member of the archive has" in message)
        assert cli.main(["info", name]) in (0, 1)
        captured = capsys.readouterr()
        assert name in captured.err + captured.out
        assert "Traceback" not in captured.err
    assert not (folder / "ran").exists()


def test_a_header_longer_than_any(folder: Path, capsys: Capture) -> None:
    for length in (10_001, 1 << 20, (1 << 32) - 1):
        (folder / "h.npy").write_bytes(b"\x93NUMPY\x02\x00" + struct.pack("<I", length) + b"{" * 20_000)
        assert score("h.npy", "t.npy") == 1
        assert "h.npy has a" in error(capsys)


def test_arrays_without_elements(folder: Path, capsys: Capture) -> None:
    for shape, code, text in (
        ((0, 3), 1, "no row was counted"),
        ((20, 0), 1, "no classes"),
        ((0, 2**40), 1, "no row was counted"),
        ((2**40, 0), 1, "no classes"),
    ):
        with (folder / "e.npy").open("wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "<f4", "fortran_order": shape[0] == 0, "shape": shape}
            )
        np.save("n.npy", np.zeros(shape[0] if shape[0] < 100 else 0, np.int64))
        assert score("e.npy", "n.npy") == code
        assert text in capsys.readouterr().err
        assert arrays(capsys, "e.npy")["e.npy"]["guess"] == "no rows"


@pytest.mark.parametrize("descr", [">f4", ">f8", ">f2"])
def test_other_byte_orders_and_the_flag_of_fortran(folder: Path, capsys: Capture, descr: str) -> None:
    logits, target = made((20, 3))
    np.save("b.npy", np.asfortranarray(logits.astype(descr)))
    np.save("s.npy", target.astype(">i4"))
    assert score("b.npy", "s.npy", "--memory", "1") == 0
    assert_close(figures(capsys), reference(logits.astype(descr), target))
    # One axis lies alike in both orders.
    header = HEADER.replace("False", "True").replace("20, 3", "20,").replace("<f4", "<i8")
    (folder / "f.npy").write_bytes(with_header(header, data=target.astype("<i8").tobytes()))
    assert score("x.npy", "f.npy") == 0
    assert_close(figures(capsys), reference(logits, target))


@pytest.mark.parametrize("order", ["C", "F"])
def test_as_many_axes_as_numpy_has(folder: Path, capsys: Capture, order: Any) -> None:
    logits, target = made((20, 3))
    shape = (20, *(1,) * (MOST_AXES - 2), 3)
    np.save("a.npy", np.asarray(logits.reshape(shape), order=order))
    np.save("b.npy", np.asarray(target.reshape(shape[:-1]), order=order))
    for memory in ("1", "64M"):
        assert score("a.npy", "b.npy", "--memory", memory) == 0
        assert_close(figures(capsys), reference(logits, target))
    assert arrays(capsys, "a.npy")["a.npy"]["rows"] == 20


def test_one_number_that_is_compressed(folder: Path, capsys: Capture) -> None:
    logits, _ = made((1, 5))
    np.savez_compressed("t.npz", t=np.int64(3))
    np.save("x.npy", logits[0])
    assert score("x.npy", "t.npz") == 0
    assert_close(figures(capsys), reference(logits, np.array([3])))


def test_info_of_a_compressed_array_in_fortran_order(folder: Path, capsys: Capture) -> None:
    np.savez_compressed("f.npz", f=np.zeros((1 << 18, 8), np.float32, order="F"), t=np.arange(9))
    told = arrays(capsys, "f.npz")
    assert told["f.npz:f"]["shape"] == [1 << 18, 8]
    assert told["f.npz:f"]["guess"] == "not checked: it is compressed, and each row is spread over all of it"
    assert told["f.npz:t"]["maximum"] == 8
    assert cli.main(["info", "f.npz:f"]) == 0
    assert "not checked" in capsys.readouterr().out


def test_a_name_of_another_kind_and_arrays_in_the_file(folder: Path, capsys: Capture) -> None:
    """What is read is known by its first bytes, where the name tells no kind that is read."""
    logits, target = made((20, 3))
    safetensors.numpy.save_file({"x": logits}, folder / "x.pt")
    zipped("x.ckpt", x=npy(logits))
    (folder / "x.h5").write_bytes(npy(logits))
    for name in ("x.pt", "x.ckpt", "x.h5"):
        assert score(name, "t.npy") == 0
        assert_close(figures(capsys), reference(logits, target))


# ---- arrays that cannot be read, beside others ---------------------------------------------------------------


def unreadable() -> Iterator[tuple[str, bytes, str]]:
    """Members of archives that cannot be read, or hold no numbers, and what is told of each."""
    yield "objects", npy(np.array([{}, 1], object)), "pickled Python objects"
    yield "ragged", npy(np.array([[1], [2, 3]], object)), "pickled Python objects"
    yield "records", npy(np.zeros(3, [("a", "<f4"), ("b", "<i4")])), "records with the fields a, b"
    yield "unknown", with_header(HEADER.replace("<f4", "<q9")), "a dtype that NumPy does not know here"
    yield "damaged", b"\x93NUMPY\x01\x00\x76\x00{'descr'", "damaged .npy header"
    yield "nothing", b"", "damaged .npy header"
    yield "short", npy(np.zeros((5, 2)))[:-3], "but its member of the archive has"
    yield "long", npy(np.zeros((5, 2))) + b"\0", "but its member of the archive has"
    yield "later", with_header(HEADER, 9), "version 9.0 of the format"
    yield "axes", with_header(HEADER.replace("20, 3", ", ".join(["1"] * 71))), "has 71 axes"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", list(unreadable()), ids=lambda case: case[0])
def test_a_member_that_cannot_be_read_blocks_no_other(
    folder: Path, capsys: Capture, case: tuple[str, bytes, str], method: int
) -> None:
    name, content, text = case
    logits, target = made((20, 3))
    zipped("a.npz", method, **{name: content, "logits": npy(logits), "labels": npy(target)})
    assert score("a.npz", "a.npz") == 0
    assert_close(figures(capsys), reference(logits, target))
    assert score("a.npz:logits", "a.npz:labels") == 0
    assert_close(figures(capsys), reference(logits, target))
    assert score(f"a.npz:{name}", "a.npz:labels") == 1
    message = error(capsys)
    assert message.startswith(f"crossent: error: a.npz:{name} ")
    assert text in message
    told = arrays(capsys, "a.npz")
    assert list(told) == [f"a.npz:{key}" for key in (name, "logits", "labels")]
    assert (told["a.npz:logits"]["shape"], told["a.npz:logits"]["guess"]) == ([20, 3], "logits")
    assert told["a.npz:labels"]["maximum"] == target.max()
    assert text in told[f"a.npz:{name}"]["guess"]
    assert cli.main(["info", "a.npz"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert text in captured.out


def test_nothing_but_arrays_that_cannot_be_read(folder: Path, capsys: Capture) -> None:
    zipped("a.npz", o=npy(np.array([{}], object)), p=npy(np.array([{}], object)))
    assert score("a.npz", "t.npy") == 1
    assert "a.npz has no array of floating numbers that can be read: a.npz:o holds dtype object" in error(
        capsys
    )
    assert cli.main(["info", "a.npz", "x.npy"]) == 1
    captured = capsys.readouterr()
    assert captured.err == (
        "crossent: error: a.npz holds nothing that can be read: a.npz:o holds dtype object, which is pickled Python "
        "objects and not plain numbers; they are never loaded, since that can run code; if you trust it, load it in "
        "Python with allow_pickle=True, and save it as numbers\n"
    )
    assert [line.split()[1] for line in captured.out.splitlines() if line.startswith("name")] == [
        "a.npz:o", "a.npz:p", "x.npy",
    ]  # fmt: skip
    zipped("empty.npz")
    assert cli.main(["info", "empty.npz"]) == 1
    assert "empty.npz holds nothing that can be read: it has no arrays" in capsys.readouterr().err


def test_objects_are_never_loaded(folder: Path, capsys: Capture) -> None:
    class Touch:
        def __reduce__(self) -> Any:
            return Path.touch, (folder / "ran",)

    array = np.empty(1, object)
    array[0] = Touch()
    np.save("o.npy", array, allow_pickle=True)
    zipped("o.npz", o=npy(array))
    for name in ("o.npy", "o.npz", "o.pkl", "o.pickle", "o.pt", "o.joblib", "o"):
        path = folder / name
        if not path.exists():
            path.write_bytes(pickle.dumps(Touch()))
        for arguments in (
            ["score", name, "t.npy"],
            ["score", "x.npy", name],
            ["info", name],
            ["merge", name],
        ):
            assert cli.main(arguments) in (1, 2)
            assert name in capsys.readouterr().err
    assert not (folder / "ran").exists()


def test_a_file_of_a_pattern_that_cannot_be_read(folder: Path, capsys: Capture) -> None:
    (folder / "y.npy").write_bytes(b"\x93NUMPY")
    assert cli.main(["info", "[xyt].npy"]) == 1
    captured = capsys.readouterr()
    assert captured.out.count("name  ") == 2
    assert captured.err.count("crossent: error: y.npy has a damaged .npy header") == 1


def safetensors_file(path: Path, header: bytes | dict[str, Any], data: bytes) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F4", "C64", "of the future"])
def test_a_tensor_of_a_dtype_that_is_not_read_blocks_no_other(
    folder: Path, capsys: Capture, dtype: str
) -> None:
    logits, target = made((20, 3))
    header = {
        "__metadata__": {"format": "pt"},
        "strange": {"dtype": dtype, "shape": [2, 4], "data_offsets": [0, 8]},
        "logits": {"dtype": "F32", "shape": [20, 3], "data_offsets": [8, 248]},
        "labels": {"dtype": "I64", "shape": [20], "data_offsets": [248, 408]},
    }
    safetensors_file(folder / "s.safetensors", header, bytes(8) + logits.tobytes() + target.tobytes())
    assert score("s.safetensors", "s.safetensors") == 0
    assert_close(figures(capsys), reference(logits, target))
    told = arrays(capsys, "s.safetensors")
    assert list(told) == [f"s.safetensors:{key}" for key in ("strange", "logits", "labels")]
    strange = told["s.safetensors:strange"]
    assert (strange["dtype"], strange["shape"], strange["format"]) == (dtype, [2, 4], "safetensors")
    assert f"holds {dtype}; expected" in strange["guess"]
    assert score("s.safetensors:strange", "s.safetensors:labels") == 1
    assert f"s.safetensors:strange holds {dtype}; expected F16" in error(capsys)


def test_bfloat16_without_its_package_blocks_no_other(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, target = made((20, 3))
    content = {"b": np.zeros((2, 2), ml_dtypes.bfloat16), "x": logits, "t": target}
    safetensors.numpy.save_file(content, folder / "s.safetensors")
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    assert score("s.safetensors", "s.safetensors") == 0
    assert_close(figures(capsys), reference(logits, target))
    assert arrays(capsys, "s.safetensors")["s.safetensors:b"]["dtype"] == "BF16"


@pytest.mark.parametrize(
    ("entry", "data", "text"),
    [
        ({}, 239, "is truncated: its header gives 240 bytes of data, and it has 239"),
        ({}, 241, "is damaged: its header gives 240 bytes of data, and it has 241"),
        ({"shape": [20, 4]}, 240, "s.safetensors:x is damaged: shape (20, 4) of F32 takes 320 bytes"),
        ({"shape": [-20, 3]}, 240, "a length or an offset is -20"),
        ({"shape": [20.0, 3]}, 240, "a length or an offset is 20.0"),
        ({"shape": [True, 3]}, 240, "a length or an offset is True"),
        ({"shape": [2**70, 0], "data_offsets": [0, 0]}, 0, "which none can have"),
        ({"shape": [1] * 71, "data_offsets": [0, 4]}, 4, "s.safetensors:x has 71 axes"),
        ({"data_offsets": [4, 244]}, 244, "data from byte 4 to 244, expected them from byte 0 on"),
        ({"data_offsets": [240, 0]}, 240, "is damaged"),
        ({"data_offsets": [0]}, 240, "its header is not that of a .safetensors file"),
        ({"dtype": 4}, 240, "its header is not that of a .safetensors file"),
        ({"shape": 5}, 240, "its header is not that of a .safetensors file"),
    ],
)
def test_damaged_entries_of_safetensors(
    folder: Path, capsys: Capture, entry: dict[str, Any], data: int, text: str
) -> None:
    whole = {"dtype": "F32", "shape": [20, 3], "data_offsets": [0, 240]} | entry
    safetensors_file(folder / "s.safetensors", {"x": whole}, bytes(data))
    assert score("s.safetensors", "t.npy") == 1
    assert text in error(capsys)


def test_damaged_headers_of_safetensors(folder: Path, capsys: Capture) -> None:
    logits, target = made((20, 3))
    entry = b'"x": {"dtype": "F32", "shape": [20, 3], "data_offsets": [0, 240]}'
    for header in (
        b"[1, 2]",
        b"{" * 1000,
        b"[" * 100_000,
        b'{"x": 5}',
        b"\xff\xfe{}",
        b"null",
        b"{%s, %s}" % (entry, entry),
        b'{"x": {"dtype": "F32", "shape": [' + b"9" * 5000 + b'], "data_offsets": [0, 240]}}',
    ):
        safetensors_file(folder / "s.safetensors", header, logits.tobytes())
        assert score("s.safetensors", "t.npy") == 1
        assert "s.safetensors is truncated or damaged: its header is not" in error(capsys)
    safetensors_file(folder / "s.safetensors", b"{%s}" % entry + b" " * 1_000_000, logits.tobytes())
    assert score("s.safetensors", "t.npy") == 0
    assert_close(figures(capsys), reference(logits, target))
    with (folder / "s.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", 100_000_001) + b"{")
        file.truncate(200_000_000)
    assert score("s.safetensors", "t.npy") == 1
    assert "a header of 100000001 bytes; expected at most 100000000" in error(capsys)


# ---- archives ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("memory", ["1", "64M"])
def test_methods_of_zip(folder: Path, capsys: Capture, method: int, memory: str) -> None:
    logits, target = made((900, 40))
    zipped("a.npz", method, x=npy(logits), t=npy(target))
    assert score("a.npz", "a.npz", "--memory", memory) == 0
    assert_close(figures(capsys), reference(logits, target))


@pytest.mark.parametrize("method", METHODS)
def test_a_wrong_checksum_is_no_damaged_header(folder: Path, capsys: Capture, method: int) -> None:
    logits, target = made((20, 3))
    zipped("a.npz", method, x=npy(logits), y=npy(target))
    with_bytes("a.npz", {16: 1, 17: 2, 18: 3, 19: 4})
    assert score("a.npz:x", "t.npy") == 1
    message = error(capsys)
    assert message.startswith("crossent: error: a.npz:x is damaged")
    assert "checksum" in message
    assert "header" not in message
    told = arrays(capsys, "a.npz")
    assert "checksum" in told["a.npz:x"]["guess"]
    assert told["a.npz:y"]["guess"] == "class indices"
    assert score("x.npy", "a.npz:y") == 0
    assert_close(figures(capsys), reference(logits, target))


def test_changed_data_of_targets_in_an_archive(folder: Path, capsys: Capture) -> None:
    zipped("a.npz", t=npy(np.zeros(20, np.int64)))
    content = (folder / "a.npz").read_bytes()
    at = content.index(b"\n") + 1 + 8 * 7
    (folder / "a.npz").write_bytes(content[:at] + b"\x01" + content[at + 1 :])
    assert score("x.npy", "a.npz") == 1
    assert "a.npz:t is damaged (Bad CRC-32" in error(capsys)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({8: 1}, "is encrypted"),
        ({10: 9}, "is compressed by Deflate64, which is not read here"),
        ({10: 93}, "is compressed by zstd, which is not read here"),
        ({10: 55}, "is compressed by method 55 of zip, which is not read here"),
        ({45: 7}, "the archive has no such data where it says"),
    ],
)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_that_are_not_read(
    folder: Path, capsys: Capture, changes: dict[int, int], text: str, method: int
) -> None:
    logits, target = made((20, 3))
    zipped("a.npz", method, a=npy(logits * 2), x=npy(logits), t=npy(target))
    with_bytes("a.npz", changes)
    assert score("a.npz:a", "a.npz:t") == 1
    message = error(capsys)
    assert message.startswith("crossent: error: a.npz:a ")
    assert text in message
    assert score("a.npz", "a.npz") == 0
    assert_close(figures(capsys), reference(logits, target))
    assert text in arrays(capsys, "a.npz")["a.npz:a"]["guess"]


def test_properties_of_lzma(folder: Path, capsys: Capture) -> None:
    """They tell how much memory the data take: no more than 64 MiB is given."""
    begin = 30 + len("x.npy")
    for changes, text in (
        ({5: 0, 6: 0, 7: 0, 8: 0x80}, "its dictionary would take 2147483648 bytes of memory"),
        ({4: 0xFF}, "is damaged"),
        ({2: 3}, "its properties have 3 bytes, expected 5"),
    ):
        zipped("a.npz", zipfile.ZIP_LZMA, x=npy(made((20, 3))[0]))
        with_bytes("a.npz", {begin + place: value for place, value in changes.items()}, b"PK\x03\x04")
        assert score("a.npz", "t.npy") == 1
        message = error(capsys)
        assert message.startswith("crossent: error: a.npz:x is damaged")
        assert text in message


def test_names_of_members(folder: Path, capsys: Capture) -> None:
    logits, target = made((20, 3))
    with zipfile.ZipFile("a.npz", "w") as archive:
        archive.mkdir("d") if hasattr(archive, "mkdir") else archive.writestr("d/", b"")
        archive.writestr("readme.txt", "no array")
        archive.writestr("d/x.npy", npy(logits))
        archive.writestr("bare", npy(target))
        archive.writestr("both", npy(target + 1))
        archive.writestr("both.npy", npy(target * 0))
        archive.writestr(".npy", npy(target * 0 + 1))
    found = np.load("a.npz")
    assert list(arrays(capsys, "a.npz")) == [
        f"a.npz:{key}" for key in ("d/x", "bare", "both", "both.npy", ".npy")
    ]
    for key in ("bare", "both.npy", ".npy"):
        assert np.array_equal(open_targets(f"a.npz:{key}")[(slice(None),)], found[key])
        assert score("a.npz:d/x", f"a.npz:{key}") == 0
        assert_close(figures(capsys), reference(logits, found[key]))
    assert score("a.npz:d/x.npy", "t.npy") == 0
    assert_close(figures(capsys), reference(logits, target))


def test_a_member_that_is_listed_twice(folder: Path, capsys: Capture) -> None:
    logits, target = made((20, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile("a.npz", "w") as archive:
            for name, array in (("x", logits), ("t", target), ("x", logits * 2)):
                archive.writestr(f"{name}.npy", npy(array))
    assert score("a.npz:x", "a.npz:t") == 1
    assert "a.npz:x is in the archive more than once, and either may be meant" in error(capsys)
    assert score("x.npy", "a.npz") == 0
    assert_close(figures(capsys), reference(logits, target))


def test_large_archives_and_what_comes_before(folder: Path, capsys: Capture) -> None:
    logits, target = made((20, 3))
    with zipfile.ZipFile("a.npz", "w") as archive, archive.open("x.npy", "w", force_zip64=True) as member:
        member.write(npy(logits))
    assert score("a.npz", "t.npy") == 0
    assert_close(figures(capsys), reference(logits, target))
    (folder / "b.npz").write_bytes(b"#!/bin/sh\n" + (folder / "a.npz").read_bytes())
    assert score("b.npz", "t.npy") == 0
    assert_close(figures(capsys), reference(logits, target))


def bomb(path: str, method: int, shape: tuple[int, ...], descr: str) -> str:
    """A member of zeros, which is a thousandth of its size, or much less, however little work is put into it."""
    header = (
        HEADER.replace("20, 3", ", ".join(map(str, (*shape, "")))).replace("<f4", descr).replace(", )", ",)")
    )
    zeros = bytes(1 << 20)
    with (
        zipfile.ZipFile(path, "w", method, compresslevel=1) as archive,
        archive.open("x.npy", "w", force_zip64=True) as member,
    ):
        member.write(with_header(header, data=b""))
        for _ in range(int(np.prod(shape)) * np.dtype(descr).itemsize >> 20):
            member.write(zeros)
    return path


@on_linux
@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_little_memory_is_enough_for_much_compressed(folder: Path, method: int) -> None:
    """72 megabytes of logits and as much of targets, which is more than is kept whole, in a few kilobytes."""
    made_of = (("x.npz", method, (9 << 20, 4), "<f2"), ("t.npz", method, (9 << 20,), "<i8"))
    with ThreadPoolExecutor() as pool:
        logits, targets = pool.map(lambda given: bomb(*given), made_of)
    assert Path(logits).stat().st_size < 1_000_000
    printed, most = memory_of("score", logits, targets, "--memory", "16M")
    assert "mean NLL              1.38629" in printed
    assert most < 48 << 20  # LZMA has a dictionary of 8 MiB for each


def memory_of(*arguments: str) -> tuple[str, int]:
    """What a command prints, and the most memory that it takes beside what a small one before it took."""
    begun = "cli.main(['score', 'x.npy', 't.npy'])\nbefore, most = anonymous(), 0\n"
    watched = WATCHED.replace("code = cli.main", f"{begun}code = cli.main").replace(
        "print(most", "print(most - before"
    )
    command = [sys.executable, "-c", watched, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout, int(done.stderr.split()[-1])


@pytest.mark.parametrize("method", METHODS)
def test_a_header_that_tells_of_more_than_there_is(folder: Path, capsys: Capture, method: int) -> None:
    logits, _ = made((20, 3))
    for shape in ("1125899906842624, 3", "21, 3", "2305843009213693952, 3", "19, 3"):
        zipped("a.npz", method, x=with_header(HEADER.replace("20, 3", shape)))
        assert score("a.npz", "t.npy") == 1
        assert "a.npz:x" in error(capsys)
        assert score("x.npy", "a.npz:x") == 1
        assert "a.npz:x" in error(capsys)
    # The table of contents tells of as much as the header does, and the data are not there.
    header = with_header(HEADER.replace("20, 3", "1000, 3"), data=b"")
    zipped("a.npz", method, x=header + logits.tobytes())
    size = len(header) + 12_000
    with_bytes("a.npz", dict(zip(range(24, 28), struct.pack("<I", size), strict=True)))
    if method == zipfile.ZIP_STORED:
        with_bytes("a.npz", dict(zip(range(20, 24), struct.pack("<I", size), strict=True)))
    np.save("many.npy", np.zeros(1000, np.int64))
    assert score("a.npz", "many.npy") == 1
    assert "a.npz:x is" in error(capsys)


# ---- files that change while they are read -------------------------------------------------------------------


SHRINKING = """
import os, sys
import steps
from crossent import _cli as cli
from crossent._io import opening
opening._FEW_BYTES //= 10  # so that a tenth of the rows is enough
steps.before_block(1, lambda: os.truncate(sys.argv[1], int(sys.argv[2])))
sys.exit(cli.main(["score", *sys.argv[3:]]))
"""


def shrink(path: Path, length: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Score in a process of its own, which a memory map of a file that shrinks would end."""
    command = [sys.executable, "-c", SHRINKING, str(path), str(length), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=600, env=environment()
    )


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("writer", ARRAYS, ids=kind)
def test_logits_that_shrink(tmp_path: Path, writer: Writer, order: Any) -> None:
    logits, target = made((60_000, 20))
    arguments = writer(tmp_path, np.asarray(logits, order=order), target)
    path = path_of(arguments[0])
    memory = "256K" if kind(writer) != "compressed" or order == "C" else "64M"
    done = shrink(path, path.stat().st_size // 3, *arguments, "--memory", memory)
    assert done.returncode == (0 if memory == "64M" else 1), done.stderr  # that is in memory as a whole
    if memory != "64M":
        assert str(path) in error_line(done.stderr)
        assert "became shorter" in done.stderr or kind(writer) == "compressed"


@pytest.mark.parametrize(
    ("writer", "rows"),
    [*((writer, 150_000) for writer in ARRAYS), (write_npy, 60_000), (write_npz, 60_000)],
    ids=lambda value: value if isinstance(value, int) else kind(value),
)
def test_targets_that_shrink(tmp_path: Path, writer: Writer, rows: int) -> None:
    """They are few enough to be in memory, or they are told to be shorter."""
    logits, target = made((rows, 2))
    (tmp_path / "t").mkdir()
    _, targets, *options = writer(tmp_path / "t", logits, target)
    x, *_ = write_npy(tmp_path, logits, target)
    name = {"safetensors": f"{targets}:labels", "npz": f"{targets}:labels", "compressed": f"{targets}:labels"}
    given = name.get(kind(writer), targets)
    typed = options[4:] if kind(writer) == "raw" else []
    done = shrink(
        path_of(targets), path_of(targets).stat().st_size // 3, x, given, "--memory", "256K", *typed
    )
    # Those of the others take 4 bytes each, or are kept once they are decompressed.
    in_memory = rows == 60_000 or kind(writer) in ("compressed", "raw", "zarr", "chunked")
    assert done.returncode == (0 if in_memory else 1)
    if in_memory:
        assert f"{rows:,}" in done.stdout
    else:
        assert "became shorter while it was read: it ends at byte" in done.stderr
        assert targets in error_line(done.stderr)


def test_long_targets_that_shrink_are_told(tmp_path: Path) -> None:
    logits, target = made((120_000, 2))
    x, t, *_ = write_npy(tmp_path, logits, target)
    done = shrink(Path(t), 128 + 8 * 50_000 + 3, x, t, "--memory", "256K")
    assert done.returncode == 1
    assert (
        f"{t} became shorter while it was read: it ends at byte 400131, in row 50000 of 120000" in done.stderr
    )


@pytest.mark.parametrize("writer", ARRAYS, ids=kind)
def test_files_that_are_replaced_while_they_are_read(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, writer: Writer
) -> None:
    """Rows of two files are never mixed: those of the first one count, or the other is told."""
    logits, target = made((200_000, 4))
    (tmp_path / "other").mkdir()
    others = writer(tmp_path / "other", logits[::-1].copy() * 9, target[::-1].copy())
    arguments = writer(tmp_path, logits, target)

    def replace() -> None:
        for mine, other in zip(arguments[:2], others[:2], strict=True):
            if path_of(other).exists():
                os.replace(path_of(other), path_of(mine))  # noqa: PTH105

    before_block(1, replace, monkeypatch.setattr)
    monkeypatch.setattr("crossent._io.opening._FEW_BYTES", 0)
    code = score(*arguments, "--memory", "256K")
    if code == 0:
        assert_close(figures(capsys), reference(logits, target))
    else:
        assert "was replaced by another file while it was read" in error(capsys)


def test_a_file_replaced_between_opening_and_reading(folder: Path) -> None:
    for name in ("x.npy", "x.npz"):
        if name == "x.npz":
            np.savez_compressed(name, x=made((20, 3))[0])
        source = open_logits(name)
        (folder / "new").write_bytes((folder / name).read_bytes())
        os.replace("new", name)  # noqa: PTH105
        with pytest.raises(ValueError, match="was replaced by another file"):
            next(source.row_blocks(1 << 20))


def test_a_file_that_grows_is_read_as_it_was(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, target = made((60_000, 8))
    arguments = write_npy(folder, logits, target)

    def grow() -> None:
        for name in arguments[:2]:
            with Path(name).open("ab") as file:
                file.write(bytes(1000))

    before_block(1, grow, monkeypatch.setattr)
    assert score(*arguments, "--memory", "256K") == 0
    assert_close(figures(capsys), reference(logits, target))


# ---- rows that lie side by side, and targets that are read in parts -------------------------------------------


@pytest.mark.parametrize(
    "shape", [(700, 900), (40, 30, 50), (9, 8, 7, 6), (1, 5000, 3), (5000, 1), (3, 1, 4, 1, 5)]
)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("writer", [write_npy, write_npz], ids=kind)
def test_parts_of_any_layout(tmp_path: Path, shape: tuple[int, ...], order: Any, writer: Writer) -> None:
    rng = np.random.default_rng(3)
    for dtype in ("<f2", ">f4", "<f8"):
        logits = np.asarray(rng.standard_normal(shape).astype(dtype), order=order)
        path, *_ = writer(tmp_path, logits, np.zeros(2, np.int64))
        for axis in range(len(shape)):
            source = open_logits(path, axis=axis)
            for memory in (1, 30_000, 1 << 20, 1 << 30):
                seen = np.zeros(np.delete(shape, axis), int)
                for block in source.row_blocks(memory):
                    assert np.array_equal(block.values, np.moveaxis(logits, axis, -1)[block.index])
                    seen[block.index] += 1
                assert (seen == 1).all()


def test_pieces_that_are_read_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where some are not whole at first, and where the system lacks the call for pieces."""
    logits, _ = made((3000, 50))
    np.save(tmp_path / "f.npy", np.asfortranarray(logits))
    monkeypatch.setattr("crossent._io.mapped._read_pieces", lambda *_: False)
    found = [block.values.copy() for block in open_logits(str(tmp_path / "f.npy")).row_blocks(300_000)]
    assert len(found) > 1
    assert np.array_equal(np.concatenate(found), logits)


@posix
def test_pieces_are_read_where_they_lie(tmp_path: Path) -> None:
    content = np.arange(100_000, dtype=np.uint32)
    content.tofile(tmp_path / "x")
    with (tmp_path / "x").open("rb", buffering=0) as file:
        out = np.zeros(6 * 8, np.uint8)
        assert _core.read_pieces(file.fileno(), out, 8, 3, 400, [4, 200_000])
        places = np.add.outer([1, 50_000], [0, 100, 200])[..., np.newaxis] + [0, 1]
        assert np.array_equal(out.view(np.uint32), content[places].reshape(-1))
        assert not _core.read_pieces(file.fileno(), out, 8, 6, 400, [399_000])
        for length, count, firsts in ((0, 3, [0]), (8, 3, [0]), (8, 2**62, [0, 1])):
            with pytest.raises(ValueError, match="do not fill the buffer"):
                _core.read_pieces(file.fileno(), out, length, count, 400, firsts)
    with pytest.raises(OSError, match="descriptor"):
        _core.read_pieces(10_000, out, 8, 6, 400, [0])


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(100_000,), (3, 50_000), (350, 400), (60, 25, 75), (60, 1, 25, 75)])
@pytest.mark.parametrize("writer", ["npy", "npz", "compressed", "safetensors", "raw"])
def test_long_targets_are_read_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], order: Any, writer: str
) -> None:
    monkeypatch.setattr("crossent._io.opening._FEW_BYTES", 0)
    rng = np.random.default_rng(3)
    target = np.asarray(rng.integers(1000, size=shape), order=order)
    path = str(tmp_path / f"t.{writer}")
    if writer == "npy":
        np.save(path, target)
    elif writer == "npz":
        np.savez(path, t=target)
    elif writer == "compressed":
        path += ".npz"
        np.savez_compressed(path, t=target)
    elif writer == "safetensors":
        safetensors.numpy.save_file({"t": np.ascontiguousarray(target)}, path)
    else:
        target = target.reshape(-1)
        path += ".i64"
        target.tofile(path)
    found = open_targets(path)
    assert (found.shape, found.size, found.dtype) == (target.shape, target.size, target.dtype)
    for turn in range(60):
        bounds = [np.sort(rng.integers(length + 1, size=2)) for length in target.shape]
        index = tuple(slice(int(a), int(b) if turn % 7 else None) for a, b in bounds)
        index = index[: len(index) - turn % 2]
        assert np.array_equal(found[index], target[index])


def test_long_compressed_targets_are_read_forward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossent._io.npz._WHOLE_BYTES", 1 << 20)
    monkeypatch.setattr("crossent._io.opening._FEW_BYTES", 0)
    target = np.random.default_rng(0).integers(9, size=(300_000, 2))
    np.savez_compressed(tmp_path / "t.npz", target)
    found = open_targets(str(tmp_path / "t.npz"))
    for start in (0, 5, 100_000, 99_999, 250_000, 3):
        index = (slice(start, start + 40_000),)
        assert np.array_equal(found[index], target[index])
    apart = (slice(5, 900), slice(1, 2))
    assert np.array_equal(found[apart], target[apart])
    assert np.array_equal(found[(slice(7, 8),)], target[7:8])


@posix
@pytest.mark.parametrize("compressed", [False, True])
def test_more_files_of_targets_than_a_process_may_open(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, compressed: bool
) -> None:
    """And more than may be in memory at once."""
    import resource

    logits, target = made((150 * 20, 3))
    np.save("x.npy", logits)
    for at in range(150):
        part = target[20 * at : 20 * at + 20]
        save = np.savez_compressed if compressed else np.savez
        save(f"t-{at}.npz", part)
    monkeypatch.setattr("crossent._io.opening._FEW_BYTES", 1000)
    monkeypatch.setattr("crossent._io.npz._WHOLE._most", 1000)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len(list(Path("/dev/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 90, hard))
    try:
        assert score("x.npy", "t-*.npz") == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert_close(figures(capsys), reference(logits, target))


@on_linux
@pytest.mark.parametrize("shape", [(2_000, 50_257), (30_000, 5_000)])
def test_rows_side_by_side_stay_within_the_memory(folder: Path, shape: tuple[int, int]) -> None:
    """Two and three hundred megabytes of rows of which no whole ones lie in one place."""
    with (folder / "f.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": True, "shape": shape})
        file.truncate(file.tell() + 2 * shape[0] * shape[1])
    np.save("n.npy", np.zeros(shape[0], np.int64))
    printed, most = memory_of("score", "f.npy", "n.npy")
    assert f"{shape[0]:,}" in printed
    assert most < 64 << 20


# ---- what is no file -----------------------------------------------------------------------------------------


SPECIAL = ("p.npy", "p.npz", "p.csv", "p.tsv", "p.parquet", "p.safetensors", "p.f32", "p.json", "p")
COMMANDS = [
    ["score", "{}", "t.npy"],
    ["score", "{}"],
    ["score", "x.npy", "{}"],
    ["score", "x.npy", "t.npy", "--bytes", "{}"],
    ["score", "x.npy", "t.npy", "--words", "{}"],
    ["score", "x.npy", "t.npy", "--resume", "{}"],
    ["score", "{}:key", "t.npy"],
    ["score", "{}*", "t.npy"],
    ["score", "{}", "t.npy", "--dtype", "f32", "--classes", "3"],
    ["compare", "{}", "x.npy"],
    ["compare", "x.npy", "{}"],
    ["compare", "x.npy", "x.npy", "{}"],
    ["calibrate", "{}"],
    ["calibrate", "x.npy", "{}"],
    ["info", "{}"],
    ["info", "x.npy", "{}"],
    ["merge", "{}"],
    ["merge", "{}", "{}"],
]


@posix
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_pipe_that_nobody_writes_to_hangs_no_command(
    folder: Path, capsys: Capture, arguments: list[str]
) -> None:
    for name in SPECIAL:
        if not (folder / name).exists():
            os.mkfifo(name)
        assert cli.main([word.format(name) for word in arguments]) == 1
        message = capsys.readouterr().err
        text = f"crossent: error: {name} is a pipe, and only regular files can be read here"
        if "--resume" in arguments:
            text = f"crossent: error: --resume {name}: {name} is there, and is no regular file"
        assert text in message
        assert message.count("\n") == 1
        (folder / name).unlink()


@posix
@pytest.mark.parametrize("name", SPECIAL)
def test_sockets_and_devices(folder: Path, capsys: Capture, name: str) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        for arguments in (
            ["score", name, "t.npy"],
            ["score", "x.npy", name],
            ["info", name],
            ["merge", name],
        ):
            assert cli.main(arguments) == 1
            assert f"{name} is a socket" in error(capsys)
    for device in ("/dev/zero", "/dev/null"):
        (folder / name).unlink()
        (folder / name).symlink_to(device)
        for arguments in (
            ["score", name, "t.npy"],
            ["score", "x.npy", name],
            ["info", name],
            ["merge", name],
        ):
            assert cli.main(arguments) == 1
            assert f"{name} is a device" in error(capsys)


@posix
def test_a_pipe_that_takes_the_place_of_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking first is not enough: the file may be another when it is opened."""
    os.mkfifo("p.npy")
    status, regular = os.stat, os.stat("x.npy")  # noqa: PTH116
    monkeypatch.setattr(os, "stat", lambda path, **more: regular if path == "p.npy" else status(path, **more))
    with pytest.raises(ValueError, match=r"p\.npy is a pipe"):
        open_npy("p.npy")


def test_names_that_cannot_be_opened(folder: Path, capsys: Capture) -> None:
    (folder / "loop.npy").symlink_to("loop.npy")
    (folder / "dangling.npy").symlink_to("nowhere.npy")
    for name, text in (
        ("loop.npy", "loop.npy: Too many levels of symbolic links"),
        ("dangling.npy", "dangling.npy: No such file"),
        ("n" * 300 + ".npy", "File name too long"),
        ("a\0b.npy", "cannot be the name of a file"),
        ("x.npy/y.npy", "x.npy/y.npy: Not a directory"),
        ("x\udcff.npy", "No such file"),
        ("x\ud800.npy", "cannot be the name of a file"),
    ):
        for arguments in (
            ["score", name, "t.npy"],
            ["score", "x.npy", name],
            ["info", name],
            ["merge", name],
        ):
            assert cli.main(arguments) == 1
            assert text in error(capsys)


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read everything")
def test_permission_denied(folder: Path, capsys: Capture) -> None:
    (folder / "x.npy").chmod(0)
    assert score("x.npy", "t.npy") == 1
    assert "x.npy: Permission denied; check the path and its permissions" in error(capsys)


def test_folders(folder: Path, capsys: Capture) -> None:
    for name in ("d", "d.npy", "d.npz", "d.csv", "d.parquet", "d.safetensors", "d.f32"):
        (folder / name).mkdir()
        for arguments in (
            ["score", name, "t.npy"],
            ["score", "x.npy", name],
            ["info", name],
            ["merge", name],
        ):
            assert cli.main(arguments) == 1
            assert f"{name} is a folder; give a file in it, or all of them by a pattern" in error(capsys)
    (folder / "hub").mkdir()
    for name in ("state.json", "dataset_info.json", "data-00000-of-00001.arrow"):
        (folder / "hub" / name).touch()
    assert score("hub", "t.npy") == 1
    assert "datasets.load_from_disk('hub').to_parquet('logits.parquet')" in error(capsys)
    np.savez(folder / "d" / "a-1.npz", made((20, 3))[0])
    assert score("d", "t.npy") == 1
    assert f"such as {str(Path('d') / '*.npz')!r}" in error(capsys)
    assert score("d/*.npz", "t.npy") == 0


# ---- files of other kinds ------------------------------------------------------------------------------------


def arrow(path: Path, *, stream: bool = False) -> None:
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"a": [0.25, 0.5], "b": [0.75, 0.5], "label": [1, 0]})
    writer = pa.ipc.new_stream if stream else pa.ipc.new_file
    with pa.OSFile(str(path), "wb") as sink, writer(sink, table.schema) as out:
        out.write_table(table)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "name", ["a.arrow", "a.feather", "a.ipc", "a.bin", "a", "a.npy", "a.parquet", "a.csv"]
)
def test_arrow_by_any_name(folder: Path, capsys: Capture, name: str, stream: bool) -> None:
    """The first bytes of a file tell that it is one. Those of a stream may be numbers, so that its name has to."""
    arrow(folder / name, stream=stream)
    code = score(name)
    if name in ("a.arrow", "a.feather", "a.ipc") or (name in ("a.bin", "a") and not stream):
        assert code == 0
        assert figures(capsys)["mean"] == pytest.approx(-(np.log(0.75) + np.log(0.5)) / 2)
        return
    assert code in (1, 2)
    message = error(capsys)
    assert name in message
    if name not in ("a.bin", "a"):
        assert ("it is an Arrow stream; give it a name that ends with .arrows" in message) == stream
        assert ("(it looks like an Arrow file); give it a name that ends with .arrow" in message) != stream


OTHERS: dict[str, tuple[bytes, str]] = {
    "h.h5": (b"\x00" * 100, "named as an HDF5 file, and does not begin as one"),
    "a.arrow": (b"\x00" * 100, "named as an Arrow file, and does not begin as one"),
    "t.pt": (b"\x00" * 100, "named as a file of torch.save, and does not begin as one"),
    "f.feather": (b"FEA1" + bytes(100), "a Feather file of version 1; save it anew"),
    "m.mat": (b"MATLAB 5.0 MAT-file" + bytes(100), "scipy.io.loadmat('m.mat')"),
    "m73.mat": (b"MATLAB 7.3 MAT-file" + bytes(100), "h5py.File('m73.mat')"),
    "n.nc": (b"CDF\x01" + bytes(100), "a NetCDF file"),
    "p.pkl": (
        pickle.dumps(np.zeros(3)),
        "a pickle, which can run code when it is loaded, and is never loaded",
    ),
    "q.pickle": (pickle.dumps(np.zeros(3), protocol=0), "a pickle, which can run code"),
    "j.joblib": (b"\x80\x03" + bytes(50), "a pickle, which can run code"),
    "old.pt": (
        b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + bytes(50),
        "a file of torch.save in its old format, which has to be loaded as a whole",
    ),
    "x.npy.gz": (gzip.compress(npy(np.zeros(3))), "compressed by gzip; decompress it first"),
    "x.csv.gz": (gzip.compress(b"label,a,b\n0,0.5,0.5\n"), "compressed by gzip; decompress it first"),
    "x.npy.bz2": (b"BZh9" + bytes(50), "compressed by bzip2; decompress it first"),
    "x.npy.xz": (b"\xfd7zXZ\0" + bytes(50), "compressed by xz; decompress it first"),
    "x.npy.zst": (b"\x28\xb5\x2f\xfd" + bytes(50), "compressed by zstd; decompress it first"),
    "m.gguf": (b"GGUF" + bytes(50), "holds the weights of a model, and no logits"),
    "m.onnx": (b"\x08\x07" + bytes(50), "holds the weights of a model, and no logits"),
    "e.xlsx": (b"PK\x05\x06" + bytes(18), "an Excel workbook; save its sheet as CSV"),
    "e.xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(50), "an Excel workbook; save its sheet as CSV"),
    "d.sqlite": (b"SQLite format 3\0" + bytes(50), "an SQLite database"),
    "a.tar": (bytes(257) + b"ustar" + bytes(250), "a tar archive; unpack it first"),
    "j.json": (b"[[1, 2], [3, 4]]", "JSON; save its rows"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a pointer of Git LFS"),
    "web": (b"<!DOCTYPE html>\n<html>404</html>", "a web page"),
    "r.rds": (b"X\n" + bytes(50), "a file of R"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_files_of_other_kinds(folder: Path, capsys: Capture, name: str) -> None:
    content, text = OTHERS[name]
    (folder / name).write_bytes(content)
    for arguments in (
        ["score", name, "t.npy"],
        ["score", "x.npy", name],
        ["info", name],
        ["score", name, "t.npy", "--dtype", "f32", "--classes", "2"],  # would read it as raw numbers
    ):
        assert cli.main(arguments) == 1
        message = error(capsys)
        assert f"{name} is " in message
        assert text in message


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors", ".parquet", ".csv"])
@pytest.mark.parametrize(
    "name", ["f.feather", "x.npy.gz", "m.gguf", "lfs", "web", "p.pkl", "m.mat", "x.npy.xz"]
)
def test_other_kinds_under_names_of_ours(folder: Path, capsys: Capture, name: str, suffix: str) -> None:
    content, text = OTHERS[name]
    path = f"wrong{suffix}"
    (folder / path).write_bytes(content)
    assert score(path, "t.npy") == 1
    message = error(capsys)
    assert f"{path} is not a" in message
    assert text.replace(repr(name), repr(path)) in message


def test_our_kinds_under_other_names_of_ours(folder: Path, capsys: Capture) -> None:
    zipped("z", x=npy(np.zeros(3)))
    for own, content, text in (
        (
            ".npy",
            (folder / "x.npy").read_bytes(),
            "(it looks like a .npy file); give it a name that ends with .npy",
        ),
        (".npz", (folder / "z").read_bytes(), "(it looks like a zip archive, such as .npz or .pt)"),
        (".parquet", b"PAR1" + b"\xff" * 50, "(it looks like a Parquet file)"),
        (
            ".h5",
            b"\x89HDF\r\n\x1a\n" + bytes(50),
            "(it looks like an HDF5 file); give it a name that ends with .h5",
        ),
        (".kld", b"_logits_" + b"\xff" * 50, "(it looks like llama.cpp's logits)"),
    ):
        for suffix in (".npy", ".npz", ".safetensors", ".parquet", ".csv"):
            if suffix != own:
                (folder / f"w{suffix}").write_bytes(content)
                assert score(f"w{suffix}", "t.npy") == 1
                message = error(capsys)
                assert f"w{suffix} is not a" in message
                assert text in message


def test_text_is_not_raw_numbers(folder: Path, capsys: Capture) -> None:
    logits, target = made((20, 4))
    np.savetxt("x.txt", logits)
    np.savetxt("t.txt", target, "%d")
    for arguments, call in (
        (["x.txt", "t.npy"], "numpy.save('logits.npy', numpy.loadtxt('x.txt', 'float32'))"),
        (["x.npy", "t.txt"], "numpy.save('targets.npy', numpy.loadtxt('t.txt', 'int64'))"),
        (["x.txt", "t.npy", "--dtype", "f32", "--classes", "1"], "numpy.loadtxt('x.txt', 'float32')"),
    ):
        assert score(*arguments) == 2
        message = error(capsys)
        assert "it is text, not raw numbers" in message
        assert call in message
    (folder / "classes.bin").write_bytes(bytes(range(40, 60)) * 2)  # numbers of one byte, all of them letters
    np.save("x.npy", np.zeros((40, 100), np.float32))
    assert score("x.npy", "classes.bin", "--target-dtype", "u8") == 0
    assert figures(capsys)["count"] == 40


def test_raw_numbers_that_begin_as_other_files_do(folder: Path, capsys: Capture) -> None:
    """A few bytes may be there by chance, and a name that ends with the dtype leaves no doubt."""
    logits, _ = made((20, 3))
    for start in (b"\x1f\x8b\x08\x00", b"\x80\x02ab", b"BZhx", b"\xff\xff\xff\x7e", b"ORC."):
        content = start + logits.tobytes()[4:]
        rows = np.frombuffer(content, "<f4").reshape(20, 3)
        (folder / "r.bin").write_bytes(content)
        (folder / "r.f32").write_bytes(content)
        for name, dtype in (("r.bin", "f32"), ("r.f32", None)):
            (block,) = open_logits(name, dtype=dtype, classes=3).row_blocks(1 << 20)
            assert np.array_equal(block.values, rows, equal_nan=True)
    (folder / "g.f32").write_bytes(b"GGUF" + logits.tobytes()[4:])
    assert score("g.f32", "t.npy", "--classes", "3") == 0
