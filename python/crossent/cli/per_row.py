"""`--per-row`: the scores of single rows, in a file that takes no more memory than a block.

Rows are appended to an unfinished file of records beside the file asked for, which is written from them in the end.
So an interrupted run loses none of them, and may go on.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossent.cli.files import replace
from crossent.cli.output import DataError
from crossent.cli.reading import Rows
from crossent.io import OptionError
from crossent.scoring import Scores

COLUMNS = ("nll", "logsumexp", "entropy", "prediction", "rank", "counted", "correct")
"""What there is to write of a row."""

SUFFIXES = (".npy", ".parquet", ".csv")
"""The kinds of file."""

_AT_ONCE = 1 << 16  # records
_DTYPES = {"prediction": "<i8", "rank": "<i8", "counted": "?", "correct": "?"}


def chosen_columns(path: str, columns: str | None) -> list[str]:
    """Return the columns asked for: all of them, but for `.npy` the losses alone."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise OptionError(
            f"--per-row {path}: the name must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, which tells the "
            "kind of file"
        )
    if columns is None:
        return ["nll"] if suffix == ".npy" else list(COLUMNS)
    names = columns.split(",")
    unknown = [name for name in names if name not in COLUMNS]
    if unknown or len(set(names)) < len(names):
        raise OptionError(
            f"--per-row-columns {columns}: expected different ones of {', '.join(COLUMNS)}, with commas between them"
        )
    return names


class PerRow:
    """The file of single rows while it is being written."""

    def __init__(self, path: str, columns: Sequence[str], dtype: np.dtype[Any], start: int) -> None:
        """Begin with the rows from `start` on; those before it are in the unfinished file already."""
        self.path, self.columns = path, list(columns)
        self._suffix = Path(path).suffix.lower()
        if self._suffix == ".parquet":
            _pyarrow(path)
        real = "<f8" if dtype == np.float64 else "<f4"
        self._dtype = np.dtype([("row", "<i8"), *((name, _DTYPES.get(name, real)) for name in columns)])
        self.unfinished = Path(f"{path}.unfinished")
        length = start * self._dtype.itemsize
        there = self.unfinished.stat().st_size if start and self.unfinished.exists() else 0
        if there < length:
            raise DataError(
                f"{self.unfinished} has {there // self._dtype.itemsize} of the {start} rows that were scored before; "
                "begin anew with another state"
            )
        self._file = self.unfinished.open("r+b" if start else "wb")
        self._file.truncate(length)
        self._file.seek(length)

    def records(self, rows: Rows, scores: Scores) -> NDArray[Any]:
        """Make the records of some rows."""
        places = rows.places()
        records = np.empty(places.size, self._dtype)
        records["row"] = places
        for name in self.columns:
            records[name] = getattr(scores, name).reshape(-1)
        return records

    def append(self, records: NDArray[Any]) -> None:
        """Add the records of a block."""
        self._file.write(records.data)

    def flush(self) -> None:
        """Hand everything to the system, so that the end of the process does not lose it."""
        if not self._file.closed:
            self._file.flush()

    def close(self) -> None:
        """Leave the unfinished file as it is."""
        self._file.close()

    def finish(self, shape: tuple[int, ...]) -> None:
        """Write the file asked for, of the rows of an array of targets of this shape."""
        self._file.close()
        self._write(self.path, shape)

    def remove_unfinished(self) -> None:
        """Remove the records, once the file is there and nothing will go on from them."""
        self.unfinished.unlink(missing_ok=True)

    def write_part(self, rows: int) -> str:
        """Write the first rows to a file of another name, and return it."""
        self._file.truncate(rows * self._dtype.itemsize)
        self._file.close()
        path = Path(self.path)
        part = str(path.with_name(f"{path.stem}.partial{path.suffix}"))
        self._write(part, None)
        return part

    def _write(self, path: str, shape: tuple[int, ...] | None) -> None:
        temporary = Path(f"{path}.tmp")
        writer = {".npy": self._write_npy, ".csv": self._write_csv, ".parquet": self._write_parquet}
        try:
            writer[self._suffix](temporary, shape)
            replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _chunks(self) -> Iterator[NDArray[Any]]:
        with self.unfinished.open("rb") as file:
            while content := file.read(_AT_ONCE * self._dtype.itemsize):
                yield np.frombuffer(content, self._dtype)

    def _write_npy(self, temporary: Path, shape: tuple[int, ...] | None) -> None:
        """Write one array of the shape of the targets, or of the rows in the order in which they were read."""
        rows = self.unfinished.stat().st_size // self._dtype.itemsize
        dtype = np.dtype([(name, self._dtype[name]) for name in self.columns])
        if len(self.columns) == 1:
            dtype = self._dtype[self.columns[0]]
        with temporary.open("wb+") as file:
            told = {
                "descr": np.lib.format.dtype_to_descr(dtype),
                "fortran_order": False,
                "shape": (rows,) if shape is None else shape,
            }
            np.lib.format.write_array_header_1_0(file, told)
            start = file.tell()
            # Room on the disk is taken before it is mapped: where there is none, this fails in good order.
            for at in range(0, rows, _AT_ONCE):
                file.write(bytes(dtype.itemsize * min(_AT_ONCE, rows - at)))
            file.flush()
            if rows == 0:
                return
            array = np.memmap(file, dtype, "r+", start, (rows,))
        at = 0
        for chunk in self._chunks():
            places: Any = slice(at, at + chunk.size) if shape is None else chunk["row"]
            if len(self.columns) == 1:
                array[places] = chunk[self.columns[0]]
            else:
                part = np.empty(chunk.size, dtype)
                for name in self.columns:
                    part[name] = chunk[name]
                array[places] = part
            at += chunk.size
        array.flush()

    def _write_csv(self, temporary: Path, _shape: object) -> None:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["row", *self.columns])
            for chunk in self._chunks():
                texts = [_texts(chunk[name]) for name in ("row", *self.columns)]
                writer.writerows(zip(*texts, strict=True))

    def _write_parquet(self, temporary: Path, _shape: object) -> None:
        pyarrow, parquet = _pyarrow(self.path)
        names = ["row", *self.columns]
        schema = pyarrow.schema([(name, pyarrow.from_numpy_dtype(self._dtype[name])) for name in names])
        with parquet.ParquetWriter(temporary, schema) as writer:
            for chunk in self._chunks():
                arrays = [pyarrow.array(np.ascontiguousarray(chunk[name])) for name in names]
                writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))


def _texts(values: NDArray[Any]) -> list[str]:
    """Write numbers with as many digits as tell them from all others of their dtype."""
    if values.dtype == bool:
        return ["true" if value else "false" for value in values.tolist()]
    return [str(text) for text in values.astype(str).tolist()]


def _pyarrow(path: str) -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise OptionError(f"--per-row {path} needs the package pyarrow; pip install crossent[io]") from None
    return pyarrow, pyarrow.parquet
