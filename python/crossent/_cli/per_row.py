"""`--per-row`: the scores of single rows, in a file that takes no more memory than a block.

Rows are appended to an unfinished file of records beside the file asked for, which is written from them in the end.
So an interrupted run loses none of them, and may go on.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossent._cli.files import is_unchanged, names_taken, naming, target_of, whole
from crossent._cli.output import DataError
from crossent._cli.reading import Rows
from crossent._io import OptionError
from crossent._scoring.rows import Scores

COLUMNS = ("nll", "logsumexp", "entropy", "prediction", "rank", "counted", "correct")
"""What there is to write of a row."""

SUFFIXES = (".npy", ".parquet", ".csv")
"""The kinds of file."""

_AT_ONCE = 1 << 16  # records
_FORMAT = "crossent.rows 1"
_LONGEST_LINE = 1 << 16
_DTYPES = {"prediction": "<i8", "rank": "<i8", "counted": "?", "correct": "?"}


def chosen_columns(path: str, columns: str | None) -> list[str]:
    """Return the columns asked for: all of them, but for `.npy` the losses alone."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise OptionError(
            f"--per-row {path}: the name must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, which decides the "
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

    def __init__(
        self, path: str, columns: Sequence[str], dtype: np.dtype[Any], run: str, state: str | None, start: int
    ) -> None:
        """Begin the records of a run, or go on with those after `start` rows; `state` is the file it is kept in."""
        self.path, self.columns = path, list(columns)
        self._suffix = Path(path).suffix.lower()
        if self._suffix == ".parquet":
            _pyarrow(path)
        real = "<f8" if dtype.newbyteorder("=") == np.float64 else "<f4"
        self._dtype = np.dtype([("row", "<i8"), *((name, _DTYPES.get(name, real)) for name in columns)])
        self.unfinished = unfinished_of(path)
        try:
            there = _Header.read(self.unfinished)
            if start:
                self._go_on(there, run, start)
            else:
                self._begin(there, run, state)
        except OSError as error:
            raise naming(error, str(self.unfinished)) from error

    def _begin(self, there: _Header | None, run: str, state: str | None) -> None:
        if there is not None:
            there.check_abandoned(run, self.path)
        header = _Header(run, None if state is None else os.path.abspath(target_of(state)))  # noqa: PTH100
        # Without a buffer, a full disk is noticed where a block is written, and leaves nothing to be written later.
        self._file = self.unfinished.open("wb+", buffering=0)
        self._start = self._end = 0
        try:
            _write_all(self._file, header.line())
        except BaseException:
            self.close(keep=False)
            raise
        self._start = self._end = self._file.tell()

    def _go_on(self, there: _Header | None, run: str, start: int) -> None:
        size = self.unfinished.stat().st_size if there is not None else 0
        own = there is not None and there.run == run
        found = (size - there.length) // self._dtype.itemsize if there is not None and own else 0
        if there is None or found < start:
            other = there is not None and there.run not in ("", run)
            raise DataError(
                f"{self.unfinished} has {found} of the {start} rows that were scored before"
                f"{', and rows of another run instead' if other else ''}; begin anew with another state"
            )
        self._file = self.unfinished.open("rb+", buffering=0)
        self._start = there.length
        self._end = self._start + start * self._dtype.itemsize
        self._cut()

    def records(self, rows: Rows, scores: Scores) -> NDArray[Any]:
        """Make the records of some rows."""
        places = rows.places()
        records = np.empty(places.size, self._dtype)
        records["row"] = places
        for name in self.columns:
            records[name] = getattr(scores, name).reshape(-1)
        return records

    def append(self, records: NDArray[Any]) -> None:
        """Add the records of a block, or none of them."""
        try:
            _write_all(self._file, records.view(np.uint8).data)
        except BaseException as error:
            with contextlib.suppress(OSError):
                self._cut()
            if isinstance(error, OSError):
                raise naming(error, str(self.unfinished)) from error
            raise
        self._end += records.nbytes

    def _cut(self) -> None:
        """Remove what stands behind the last block, such as a part of one."""
        self._file.truncate(self._end)
        self._file.seek(self._end)

    def sync(self) -> None:
        """Put the records on the disk, where a state that counts them must find them."""
        if not self._file.closed:
            os.fsync(self._file.fileno())

    def close(self, *, keep: bool) -> None:
        """Leave the unfinished file as it is, or remove it where nothing will go on from it."""
        own = self.is_there()
        self._file.close()
        if own and not keep:
            with contextlib.suppress(OSError):
                self.unfinished.unlink(missing_ok=True)

    def is_there(self) -> bool:
        """Return whether the unfinished file still has its name, so that a later run finds it."""
        try:
            now = self.unfinished.lstat()
            own = os.fstat(self._file.fileno())
        except (OSError, ValueError):
            return False
        return (now.st_dev, now.st_ino) == (own.st_dev, own.st_ino)

    def finish(self, shape: tuple[int, ...]) -> None:
        """Write the file asked for, of the rows of an array of targets of this shape."""
        self._write(self.path, shape)

    def write_part(self, rows: int, own: dict[str, Any] | None, shape: tuple[int, ...] | None) -> str:
        """Write the first rows to a file of another name, and return it.

        Of earlier files of this kind only this run's `own` is replaced: others may be all that is left of a run.
        """
        self._end = min(self._end, self._start + rows * self._dtype.itemsize)
        self._cut()
        part = own["path"] if own is not None and is_unchanged(own) else _free_part(self.path)
        self._write(part, shape)
        return part

    def _write(self, path: str, shape: tuple[int, ...] | None) -> None:
        writer = {".npy": self._write_npy, ".csv": self._write_csv, ".parquet": self._write_parquet}
        with whole(path) as temporary:
            writer[self._suffix](temporary, shape)

    def _chunks(self) -> Iterator[NDArray[Any]]:
        """Read the records by the open file: its name may be gone."""
        self._file.seek(self._start)
        left = self._end - self._start
        while left:
            content = _read_all(self._file, min(left, _AT_ONCE * self._dtype.itemsize))
            left -= len(content)
            yield np.frombuffer(content, self._dtype)

    def _write_npy(self, temporary: Path, shape: tuple[int, ...] | None) -> None:
        """Write one array of the shape of the targets, or of the rows in the order in which they were read."""
        rows = (self._end - self._start) // self._dtype.itemsize
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
        # Arrow takes some names, such as those with a colon, for addresses: it is given the file.
        with temporary.open("wb") as file, parquet.ParquetWriter(file, schema) as writer:
            for chunk in self._chunks():
                arrays = [pyarrow.array(np.ascontiguousarray(chunk[name])) for name in names]
                writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))


@dataclass(frozen=True)
class _Header:
    """The first line of an unfinished file: which run it is of, and where the state of that run is kept."""

    run: str
    state: str | None
    length: int = 0

    def line(self) -> bytes:
        told = {"format": _FORMAT, "run": self.run, "state": self.state}
        return json.dumps(told).encode() + b"\n"

    @classmethod
    def read(cls, unfinished: Path) -> _Header | None:
        """Read the header of a file; None where there is no file, and one of no run where it has not got that far."""
        try:
            with unfinished.open("rb") as file:
                line = file.readline(_LONGEST_LINE)
        except FileNotFoundError:
            return None
        if not line.strip(b"\0"):
            return cls("", None)
        try:
            told = json.loads(line)
            if told["format"] != _FORMAT or not line.endswith(b"\n"):
                raise ValueError
            return cls(str(told["run"]), told["state"], len(line))
        except (ValueError, TypeError, KeyError, RecursionError):
            begins = json.dumps({"format": _FORMAT})[:-1].encode()
            is_cut = line.startswith(begins) or begins.startswith(line)
            return cls("", None) if is_cut else cls("", None, -1)

    def check_abandoned(self, run: str, path: str) -> None:
        """Raise where the records are needed by a state that some run may go on from."""
        unfinished = unfinished_of(path)
        if self.length < 0:
            raise DataError(
                f"{unfinished} is there, and crossent did not write it, but keeps rows under that name until {path} is "
                "complete; move it away, or give --per-row another name"
            )
        if self.state is None or self.run == run:
            return
        beside = unfinished.absolute().parent / Path(self.state).name
        for state in (Path(self.state), beside):
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
                told = json.loads(state.read_bytes())
                if not told["complete"] and told["per_row"]["run"] == self.run:
                    raise DataError(
                        f"{unfinished} holds {told['rows']} rows of another run, which goes on with --resume {state}; "
                        f"complete that, give --per-row another name, or remove {unfinished} to give its rows up"
                    )


def unfinished_of(path: str) -> Path:
    """Return the name under which rows are kept until the file is complete."""
    return Path(f"{target_of(path)}.unfinished")


def remove_records(path: str, run: str) -> None:
    """Remove the unfinished file of a run that is complete, if it was killed before it could."""
    unfinished = unfinished_of(path)
    with contextlib.suppress(OSError):
        there = _Header.read(unfinished)
        if there is not None and there.run == run:
            unfinished.unlink()


def per_row_names(path: str) -> list[str]:
    """List all names that are taken while the file of single rows is written."""
    part = _part_of(path, 1)
    return [*names_taken(path), str(unfinished_of(path)), part, f"{part}.tmp"]


def _part_of(path: str, number: int) -> str:
    whole = Path(target_of(path))
    more = "" if number == 1 else f"-{number}"
    return str(whole.with_name(f"{whole.stem}.partial{more}{whole.suffix}"))


def _free_part(path: str) -> str:
    numbers = itertools.count(1)
    names = (_part_of(path, number) for number in numbers)
    return next(name for name in names if not (os.path.lexists(name) or os.path.lexists(f"{name}.tmp")))


def _write_all(file: FileIO, content: bytes | memoryview) -> None:
    """Write to a file without a buffer, which may take a part only."""
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]


def _read_all(file: FileIO, length: int) -> bytes:
    """Read that much of a file without a buffer, which may give a part only."""
    parts = []
    while length:
        part = file.read(length)
        if not part:
            raise OSError("its end is missing")
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


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
        raise OptionError(f"--per-row {path} needs the package pyarrow; pip install 'crossent[io]'") from None
    return pyarrow, pyarrow.parquet
