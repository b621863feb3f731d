"""Kinds of files, recognised by name and first bytes: those that are read, and those that are refused by name."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

START_BYTES = 512
"""How much of a file's beginning decides its kind."""

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5")
TORCH_SUFFIXES = (".pt", ".pth", ".ckpt")
ARROW_CONTINUATION = b"\xff\xff\xff\xff"
ARROW_SUFFIXES = (".arrow", ".arrows", ".feather", ".ipc")
ZARR_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
"""The names of files of a Zarr store that hold no chunks."""

# Names of kinds that are read, though by their first bytes alone.
_BY_CONTENT = {*HDF5_SUFFIXES, *ARROW_SUFFIXES, *TORCH_SUFFIXES, ".zarr"}

_WEIGHTS = "holds the weights of a model, and no logits; run the model, and save its logits with numpy.save"
_ARRAY = "open it in Python, and save the array with numpy.save"
_TABLE = "open it in Python, and save the table as Parquet or CSV"


@dataclass(frozen=True, slots=True)
class Kind:
    """How files of a kind are recognised, and what to do where another kind is expected."""

    what: str
    """Its name, with an article."""

    fix: str
    """What to do with such a file; `{}` stands for its name."""

    starts: tuple[bytes, ...] = ()
    """What its files begin with."""

    suffixes: tuple[str, ...] = ()
    """What their names end with."""

    at: int = 0
    """Where `starts` stand."""


@dataclass(frozen=True)
class ReadKind(Kind):
    """A kind of file that is read: a format."""

    write: str = ""
    """How to write such a file."""

    looks_like: str | None = None
    """What a file with such a beginning may be, where that is not certain."""

    hints: tuple[bytes, ...] = ()
    """Shorter beginnings, which are enough for a guess at what a file under another name is, but not to read it."""


READ: list[ReadKind] = []
"""The kinds that are read, in the order in which their formats are registered."""


_PICKLE = (
    "which can run code when it is loaded, and is never loaded here; if you trust it, load it in Python, and save the "
    "array with numpy.save"
)
FOREIGN = (
    Kind(
        "named as an HDF5 file, and does not begin as one",
        "write or copy it again",
        (),
        HDF5_SUFFIXES,
    ),
    Kind(
        "a MATLAB file (HDF5)",
        "save its array: numpy.save('logits.npy', h5py.File({})['NAME'][:].T)",
        (b"MATLAB 7.3",),
    ),
    Kind(
        "a MATLAB file",
        "save its array: numpy.save('logits.npy', scipy.io.loadmat({})['NAME'])",
        (b"MATLAB 5.0",),
        (".mat",),
    ),
    Kind("a NetCDF file", _ARRAY, (b"CDF\x01", b"CDF\x02", b"CDF\x05"), (".nc", ".nc4", ".cdf")),
    Kind(
        "a Feather file of version 1",
        "save it anew: pyarrow.feather.write_feather(pyarrow.feather.read_table({}), 'logits.feather')",
        (b"FEA1",),
    ),
    Kind(
        "an Arrow stream",
        "give it a name that ends with .arrows",
        (ARROW_CONTINUATION,),  # only under a name of another kind: see `foreign`
    ),
    Kind(
        "named as an Arrow file, and does not begin as one",
        "write or copy it again",
        (),
        ARROW_SUFFIXES,
    ),
    Kind("an ORC file", "save it as Parquet with pyarrow.orc.read_table({})", (b"ORC",), (".orc",)),
    Kind("an Avro file", _TABLE, (b"Obj\x01",), (".avro",)),
    Kind("an SQLite database", _TABLE, (b"SQLite format 3\0",), (".sqlite", ".sqlite3", ".db")),
    Kind(
        "an Excel workbook",
        "save its sheet as CSV: pandas.read_excel({}).to_csv('logits.csv', index=False)",
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",),
        (".xls", ".xlsx", ".xlsm", ".ods"),
    ),
    Kind("a file of R", _ARRAY, (), (".rds", ".rda", ".rdata")),
    Kind("a TFRecord file", _ARRAY, (), (".tfrecord", ".tfrecords")),
    Kind("a GGUF file", _WEIGHTS, (b"GGUF",), (".gguf", ".ggml")),
    Kind("an ONNX file", _WEIGHTS, (), (".onnx",)),
    Kind(
        "a file of torch.save in its old format",
        "which has to be loaded as a whole, and is not read here; if you trust it, load it and save it anew: "
        "torch.save(torch.load({}, weights_only=True), 'logits.pt'), or save its tensor with "
        "safetensors.torch.save_file",
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19",),
    ),
    Kind(
        "named as a file of torch.save, and does not begin as one",
        "save its tensor with torch.save or safetensors.torch.save_file",
        (),
        TORCH_SUFFIXES,
    ),
    Kind(
        "a pickle",
        _PICKLE,
        (b"\x80\x02", b"\x80\x03", b"\x80\x04\x95", b"\x80\x05\x95"),
        (".pkl", ".pickle", ".p", ".pck", ".dill", ".joblib", ".cloudpickle"),
    ),
    Kind(
        "compressed by gzip", "decompress it first: gzip -dc {} > FILE", (b"\x1f\x8b\x08",), (".gz", ".gzip")
    ),
    Kind("compressed by bzip2", "decompress it first: bzip2 -dc {} > FILE", (b"BZh",), (".bz2",)),
    Kind("compressed by xz", "decompress it first: xz -dc {} > FILE", (b"\xfd7zXZ\0",), (".xz", ".lzma")),
    Kind(
        "compressed by zstd",
        "decompress it first: zstd -dc {} > FILE",
        (b"\x28\xb5\x2f\xfd",),
        (".zst", ".zstd"),
    ),
    Kind("compressed by lz4", "decompress it first: lz4 -dc {} > FILE", (b"\x04\x22\x4d\x18",), (".lz4",)),
    Kind("an archive", "unpack it first", (b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07"), (".7z", ".rar")),
    Kind("a tar archive", "unpack it first: tar -xf {}", (b"ustar",), (".tar", ".tgz"), at=257),
    Kind(
        "a pointer of Git LFS, and not the file itself",
        "fetch that: git lfs pull",
        (b"version https://git-lfs",),
    ),
    Kind(
        "a web page, perhaps the answer of a server that did not give the file",
        "download it again",
        (b"<!DOCTYPE", b"<!doctype", b"<html", b"<HTML", b"<?xml"),
        (".html", ".htm", ".xml"),
    ),
    Kind(
        "the state of a run",
        "`crossent merge` and `crossent plot` take those; give the logits themselves",
        (b'{"format": "crossent.run', b'{\n "format": "crossent.run'),
    ),
    Kind(
        "JSON",
        "save its rows with numpy.save, or as CSV with a first line that names the columns",
        (),
        (".json", ".jsonl", ".ndjson"),
    ),
    Kind("Python source", "run it, if it writes the logits", (), (".py", ".ipynb")),
)
# Raw numbers may begin with so few bytes, or with these, by chance: they tell a kind only where the name does so too.
_SURE_BYTES, _BY_CHANCE = 4, ARROW_CONTINUATION


def foreign(path: str, start: bytes) -> Kind | None:
    """Return the kind of a file that is not read here, by its first bytes or by its name."""
    suffix = Path(path).suffix.lower()
    named = next((kind for kind in FOREIGN if suffix in kind.suffixes), None)
    found = _by_start(start)
    if found is None:
        return named
    kind, magic = found
    sure = len(magic) >= _SURE_BYTES and magic != _BY_CHANCE
    return kind if sure or named is not None else None


def foreign_text(path: str, kind: Kind) -> str:
    """Return what a file is, and how to convert it."""
    joint = ", " if kind.fix.startswith("which") else " and " if kind.fix.startswith("holds") else "; "
    return f"{kind.what}{joint}{kind.fix.format(repr(path))}"


def not_of_kind(path: str, expected: ReadKind, start: bytes) -> str:
    """Return the text for a file that is not of the kind that its name says: what it may be instead, and the fix."""
    told = f"{path} is not {expected.what}"
    if not start:
        return f"{told} (it is empty); {expected.write}"
    own = _read_by_start(start)
    if own is not None:
        return f"{told} (it looks like {own.looks_like or own.what}); {own.fix}"
    found = _by_start(start)
    if found is not None:
        return f"{told}: it is {foreign_text(path, found[0])}"
    return f"{told}{' (it looks like text)' if is_text(start) else ''}; {expected.write}"


def tells_kind(start: bytes) -> bool:
    """Return whether what a file begins with decides its kind, of those that are read and those that are not."""
    return _read_by_start(start) is not None or _by_start(start) is not None


def _read_by_start(start: bytes) -> ReadKind | None:
    return next((kind for kind in READ if start.startswith((*kind.starts, *kind.hints))), None)


def _by_start(start: bytes) -> tuple[Kind, bytes] | None:
    return next(
        ((kind, magic) for kind in FOREIGN for magic in kind.starts if start.startswith(magic, kind.at)),
        None,
    )


_IN_ARCHIVES = {
    ("/data.pkl",): "was written by torch.save; give it a name that ends with .pt",
    (
        ".zarray",
        ".zgroup",
        "zarr.json",
    ): "is a Zarr store in a zip archive; give it a name that ends with .zip",
    ("xl/workbook.xml",): (
        "is an Excel workbook, which is not read here; save its sheet as CSV: "
        "pandas.read_excel({}).to_csv('logits.csv', index=False)"
    ),
}
"""What zip archives of other programs are, by the endings of names in them."""


def foreign_archive(path: str, members: Sequence[str]) -> str | None:
    """Return what a zip archive is that another program wrote, by the names in it, and how to convert it."""
    for endings, text in _IN_ARCHIVES.items():
        if any(member.endswith(endings) for member in members):
            return f"{path} {text.format(repr(path))}"
    return None


def is_text(start: bytes) -> bool:
    """Return whether all of it can be printed, as text of numbers or JSON can."""
    return bool(start) and all(32 <= byte < 127 or byte in b"\t\n\r" for byte in start)


# Folders


def folder_kind(path: str) -> str:
    """Return what a folder is, and what to pass instead."""
    try:
        with os.scandir(path) as entries:
            names = [entry.name for entry in itertools.islice(entries, 1000)]
    except OSError:
        names = []
    if Path(path).suffix.lower() == ".zarr":
        return "a folder named as a Zarr store, and it has no metadata of one; write or copy it again"
    if "state.json" in names and "dataset_info.json" in names:
        return (
            "a folder of the package datasets, which is not read here; save it as Parquet: "
            f"datasets.load_from_disk({path!r}).to_parquet('logits.parquet')"
        )
    suffixes = [Path(name).suffix for name in sorted(names)]
    known = {suffix for kind in READ for suffix in kind.suffixes} | _BY_CONTENT
    read = next((suffix for suffix in suffixes if suffix in known), ".npy")
    return (
        f"a folder; give a file in it, or all of them by a pattern such as {str(Path(path) / f'*{read}')!r}"
    )
