"""The formats that are read, in the order in which they are tried."""

from __future__ import annotations

import os
from pathlib import Path

from crossent._io.arrow_table import Arrow
from crossent._io.csv_table import Csv
from crossent._io.format import Format
from crossent._io.hdf5 import Hdf5
from crossent._io.kinds import READ, foreign, foreign_text
from crossent._io.llama import Llama
from crossent._io.npy import Npy
from crossent._io.npz import Npz
from crossent._io.parquet_table import Parquet
from crossent._io.raw import Raw
from crossent._io.source import check_regular, start_of
from crossent._io.tensors import Safetensors
from crossent._io.torch_file import Torch
from crossent._io.zarr_store import Zarr

_FORMATS: list[Format] = []


def register(format: Format) -> None:
    """Add a format. Of two that recognise the same name or first bytes, the one that was added first is taken."""
    _FORMATS.append(format)
    READ.append(format.kind)


# Zip archives are an .npz unless they are something else. What nothing says to be of another kind may be raw numbers,
# and so these come last.
_RAW = Raw()
for _format in (Npy(), Torch(), Zarr(), Npz(), Safetensors(), Hdf5(), Csv(), Parquet(), Arrow(), Llama()):
    register(_format)


def format_of(path: str) -> Format:
    """Return the format of a file by its name, else by its first bytes; a kind that is not read raises by name."""
    if os.path.isdir(path):  # noqa: PTH112  the name is the user's text
        for format in _FORMATS:
            if format.is_folder(path):
                return format
    check_regular(path)
    suffix = Path(path).suffix.lower()
    for format in _FORMATS:
        if suffix in format.kind.suffixes:
            format.check(path)
            return format
    start = start_of(path)
    for format in (*_FORMATS, _RAW):
        if format.begins(path, start):
            return format
    other = foreign(path, start)
    assert other is not None  # else they would be raw numbers
    raise ValueError(f"{path} is {foreign_text(path, other)}")


def row_of(name: str | None) -> str | None:
    """Return what a row of files of a format stands for, where that is always the same."""
    return next((format.row for format in _FORMATS if format.name == name), None)
