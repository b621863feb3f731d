"""Files of kinds that are not read here: what they are, and how to make of them what is read."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from pathlib import Path

START_BYTES = 512
"""How much of a file's beginning tells its kind."""

_WEIGHTS = (
    "holds the weights of a model, and no logits; run the model, and save what it gives with numpy.save"
)
_ARRAY = "open it in Python, and save the array with numpy.save"
_TABLE = "open it in Python, and save the table as Parquet or CSV"


@dataclass(frozen=True, slots=True)
class Foreign:
    """A kind of file that is not read here."""

    what: str
    """Its name, with an article."""

    fix: str
    """What to do instead; `{}` stands for the file."""

    starts: tuple[bytes, ...] = ()
    """What its files begin with."""

    suffixes: tuple[str, ...] = ()
    """What their names end with."""

    at: int = 0
    """Where `starts` stand."""


_PICKLE = (
    "which can run code when it is loaded, and is never loaded here; if you trust it, load it in Python, and save the "
    "array with numpy.save"
)
_FOREIGN = (
    Foreign(
        "an HDF5 file",
        "save its array: numpy.save('logits.npy', h5py.File({})['NAME'][:])",
        (b"\x89HDF\r\n\x1a\n",),
        (".h5", ".hdf5", ".hdf", ".he5"),
    ),
    Foreign(
        "a MATLAB file (HDF5)",
        "save its array: numpy.save('logits.npy', h5py.File({})['NAME'][:].T)",
        (b"MATLAB 7.3",),
    ),
    Foreign(
        "a MATLAB file",
        "save its array: numpy.save('logits.npy', scipy.io.loadmat({})['NAME'])",
        (b"MATLAB 5.0",),
        (".mat",),
    ),
    Foreign("a NetCDF file", _ARRAY, (b"CDF\x01", b"CDF\x02", b"CDF\x05"), (".nc", ".nc4", ".cdf")),
    Foreign(
        "an Arrow file",
        "save it as Parquet: pyarrow.parquet.write_table(pyarrow.feather.read_table({}), 'logits.parquet')",
        (b"ARROW1", b"FEA1"),
        (".feather", ".ipc"),
    ),
    Foreign(
        "an Arrow stream",
        "save it as Parquet: pyarrow.parquet.write_table(pyarrow.ipc.open_stream(pyarrow.memory_map({})).read_all(), "
        "'logits.parquet')",
        (b"\xff\xff\xff\xff",),  # only under a name of Arrow's: see `foreign`
        (".arrow", ".arrows"),
    ),
    Foreign("an ORC file", "save it as Parquet with pyarrow.orc.read_table({})", (b"ORC",), (".orc",)),
    Foreign("an Avro file", _TABLE, (b"Obj\x01",), (".avro",)),
    Foreign("an SQLite database", _TABLE, (b"SQLite format 3\0",), (".sqlite", ".sqlite3", ".db")),
    Foreign(
        "an Excel workbook",
        "save its sheet as CSV: pandas.read_excel({}).to_csv('logits.csv', index=False)",
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",),
        (".xls", ".xlsx", ".xlsm", ".ods"),
    ),
    Foreign("a file of R", _ARRAY, (), (".rds", ".rda", ".rdata")),
    Foreign("a TFRecord file", _ARRAY, (), (".tfrecord", ".tfrecords")),
    Foreign("a GGUF file", _WEIGHTS, (b"GGUF",), (".gguf", ".ggml")),
    Foreign("an ONNX file", _WEIGHTS, (), (".onnx",)),
    Foreign(
        "a file of torch.save",
        "which can run code when it is loaded, and is never loaded here; save the tensor with "
        "safetensors.torch.save_file, or its .numpy() with numpy.save",
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19",),
        (".pt", ".pth", ".ckpt"),
    ),
    Foreign(
        "a pickle",
        _PICKLE,
        (b"\x80\x02", b"\x80\x03", b"\x80\x04\x95", b"\x80\x05\x95"),
        (".pkl", ".pickle", ".p", ".pck", ".dill", ".joblib", ".cloudpickle"),
    ),
    Foreign(
        "compressed by gzip", "decompress it first: gzip -dc {} > FILE", (b"\x1f\x8b\x08",), (".gz", ".gzip")
    ),
    Foreign("compressed by bzip2", "decompress it first: bzip2 -dc {} > FILE", (b"BZh",), (".bz2",)),
    Foreign("compressed by xz", "decompress it first: xz -dc {} > FILE", (b"\xfd7zXZ\0",), (".xz", ".lzma")),
    Foreign(
        "compressed by zstd",
        "decompress it first: zstd -dc {} > FILE",
        (b"\x28\xb5\x2f\xfd",),
        (".zst", ".zstd"),
    ),
    Foreign("compressed by lz4", "decompress it first: lz4 -dc {} > FILE", (b"\x04\x22\x4d\x18",), (".lz4",)),
    Foreign("an archive", "unpack it first", (b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07"), (".7z", ".rar")),
    Foreign("a tar archive", "unpack it first: tar -xf {}", (b"ustar",), (".tar", ".tgz"), at=257),
    Foreign(
        "a pointer of Git LFS, and not the file itself",
        "fetch that: git lfs pull",
        (b"version https://git-lfs",),
    ),
    Foreign(
        "a web page, perhaps the answer of a server that did not give the file",
        "download it again",
        (b"<!DOCTYPE", b"<!doctype", b"<html", b"<HTML", b"<?xml"),
        (".html", ".htm", ".xml"),
    ),
    Foreign(
        "the state of a run",
        "`crossent merge` and `crossent plot` take those; give the logits themselves",
        (b'{"format": "crossent.run', b'{\n "format": "crossent.run'),
    ),
    Foreign(
        "JSON",
        "save its rows with numpy.save, or as CSV with a first line that names the columns",
        (),
        (".json", ".jsonl", ".ndjson"),
    ),
    Foreign("Python source", "run it, if it writes the logits", (), (".py", ".ipynb")),
)
# Raw numbers may begin with so few bytes, or with these, by chance: they tell a kind only where the name does so too.
_SURE_BYTES, _BY_CHANCE = 4, b"\xff\xff\xff\xff"

_OWN = {
    b"\x93NUMPY": ("a .npy file", "give it a name that ends with .npy"),
    b"PK": ("a zip archive, such as .npz or .pt", "if it is an .npz, give it a name that ends so"),
    b"PAR1": ("a Parquet file", "give it a name that ends with .parquet"),
    b"_logits_": ("llama.cpp's logits", "give it a name that ends with .kld"),
}


def foreign(path: str, start: bytes) -> Foreign | None:
    """Tell the kind of a file that is not read here, by its first bytes or by its name."""
    suffix = Path(path).suffix.lower()
    named = next((kind for kind in _FOREIGN if suffix in kind.suffixes), None)
    found = _by_start(start)
    if found is None:
        return named
    kind, magic = found
    sure = len(magic) >= _SURE_BYTES and magic != _BY_CHANCE
    return kind if sure or named is not None else None


def foreign_text(path: str, kind: Foreign) -> str:
    """Say what a file is, and what to do instead."""
    joint = ", " if kind.fix.startswith("which") else " and " if kind.fix.startswith("holds") else "; "
    return f"{kind.what}{joint}{kind.fix.format(repr(path))}"


def not_of_kind(path: str, expected: str, start: bytes, fix: str) -> str:
    """Say that a file is not of the kind that its name tells, what it may be instead, and what to do."""
    told = f"{path} is not {expected}"
    if not start:
        return f"{told} (it is empty); {fix}"
    own = next((own for magic, own in _OWN.items() if start.startswith(magic)), None)
    if own is not None:
        return f"{told} (it looks like {own[0]}); {own[1]}"
    found = _by_start(start)
    if found is not None:
        return f"{told}: it is {foreign_text(path, found[0])}"
    return f"{told}{' (it looks like text)' if is_text(start) else ''}; {fix}"


def tells_kind(start: bytes) -> bool:
    """Whether what a file begins with tells its kind, of those that are read and those that are not."""
    return start.startswith(tuple(_OWN)) or _by_start(start) is not None


def _by_start(start: bytes) -> tuple[Foreign, bytes] | None:
    return next(
        ((kind, magic) for kind in _FOREIGN for magic in kind.starts if start.startswith(magic, kind.at)),
        None,
    )


def is_text(start: bytes) -> bool:
    """Whether all of it can be printed, as text of numbers or JSON can."""
    return bool(start) and all(32 <= byte < 127 or byte in b"\t\n\r" for byte in start)


# Folders


def folder_kind(path: str) -> str:
    """Say what a folder is, and what to give instead."""
    try:
        with os.scandir(path) as entries:
            names = [entry.name for entry in itertools.islice(entries, 1000)]
    except OSError:
        names = []
    markers = {"zarr.json", ".zarray", ".zgroup", ".zmetadata"}
    if markers & set(names) or Path(path).suffix.lower() == ".zarr":
        one = ".zarray" in names or _is_array(Path(path) / "zarr.json")
        part = "[:]" if one else "['NAME'][:]"
        return (
            f"a Zarr {'array' if one else 'group'}, a folder that is not read here; save its array: "
            f"numpy.save('logits.npy', zarr.open({path!r}){part})"
        )
    if "state.json" in names and "dataset_info.json" in names:
        return (
            "a folder of the package datasets, which is not read here; save it as Parquet: "
            f"datasets.load_from_disk({path!r}).to_parquet('logits.parquet')"
        )
    suffixes = [Path(name).suffix for name in sorted(names)]
    read = next((suffix for suffix in suffixes if suffix in _READ), ".npy")
    return (
        f"a folder; give a file in it, or all of them by a pattern such as {str(Path(path) / f'*{read}')!r}"
    )


_READ = (".npy", ".npz", ".safetensors", ".parquet", ".csv", ".tsv")


def _is_array(path: Path) -> bool:
    """Whether Zarr's description says that it is one of an array."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return b'"array"' in file.read(1 << 16)
    except OSError:
        return False
