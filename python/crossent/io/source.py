"""What all readers share: a source of blocks of rows, an array stored in a file, and the texts of errors."""

from __future__ import annotations

import abc
import math
import os
import stat
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

VALUES = ("logits", "log-probs", "probs")
"""What the numbers of a file can be."""

Index: TypeAlias = tuple[slice, ...]


class OptionError(ValueError):
    """A file that needs other options than those given; the file itself may be all right."""


class TargetArray(Protocol):
    """Class numbers, in memory or in files: `targets[index]` gives those of a block."""

    @property
    def shape(self) -> tuple[int, ...]:
        """One length for each axis of the rows."""

    @property
    def size(self) -> int:
        """How many there are."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype that they are stored with."""

    def __getitem__(self, index: Index, /) -> NDArray[Any]: ...


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows of a source. Its arrays are good until the next block but one is asked for."""

    start: int
    """How many rows of the source come before it: where to begin again after the blocks before it."""

    rows: int
    """How many rows it holds."""

    index: Index
    """Where its rows stand in the array of targets: a start and a stop for each axis."""

    values: NDArray[Any]
    """Logits, log-probabilities or probabilities, with the class axis of the source."""

    target: NDArray[Any] | None = None
    """The targets, where the file holds them too."""

    clamped: NDArray[np.bool_] | None = None
    """Where the file gives the target less of a loss than it had, because it stores no larger one."""


class Source(abc.ABC):
    """Rows of logits, log-probabilities or probabilities in a file, or in several."""

    name: str
    """What the user calls it."""

    format: str
    """The kind of file."""

    paths: tuple[str, ...]
    """The files, in order."""

    shape: tuple[int | None, ...]
    """The shape of the whole; the first length is None where only reading to the end would tell it."""

    dtype: np.dtype[Any]
    """The dtype of its blocks, but for their byte order."""

    axis: int
    """The class axis, not negative."""

    values: str = "logits"
    """What the numbers are."""

    targets: TargetArray | None = None
    """The targets, where the file holds them and tells them before its rows."""

    has_targets: bool = False
    """Whether the blocks come with their targets."""

    columns: tuple[str, ...] = ()
    """In a table, the columns of the classes."""

    label: str | None = None
    """In a table, the column of the labels, where they are read."""

    notes: tuple[str, ...] = ()
    """What to tell about how the file was understood."""

    @abc.abstractmethod
    def blocks(self, memory: int, start: int = 0) -> Generator[Block, None, None]:
        """Give the rows in blocks, all but the first `start`, within about `memory` bytes.

        The order of the rows does not depend on `memory`.
        """

    @property
    def classes(self) -> int:
        """The number of classes."""
        classes = self.shape[self.axis]
        assert classes is not None
        return classes

    @property
    def row_shape(self) -> tuple[int | None, ...]:
        """The shape without the class axis, which is that of the targets."""
        return self.shape[: self.axis] + self.shape[self.axis + 1 :]

    @property
    def rows(self) -> int | None:
        """The number of rows, if it is known before reading them."""
        lengths = [length for length in self.row_shape if length is not None]
        return math.prod(lengths) if len(lengths) == len(self.row_shape) else None

    def provenance(self) -> dict[str, Any]:
        """Tell where the numbers come from, for a result that names its source."""
        told: dict[str, Any] = {
            "format": self.format,
            "shape": list(self.shape),
            "dtype": str(self.dtype),
            "axis": self.axis,
            "values": self.values,
        }
        if self.columns:
            told |= {"columns": list(self.columns), "label": self.label}
        return told if len(self.paths) == 1 else told | {"files": list(self.paths)}

    def likely_cause(self, values: NDArray[Any], wrong: NDArray[np.bool_]) -> str:
        """Say why some `values` of a block may be no probabilities, and what to do; `wrong` are those that are none."""
        del values, wrong
        return "if these are logits or log-probabilities, pass --values logits or --values log-probs"


class Stored(abc.ABC):
    """One array in a file."""

    def __init__(
        self, name: str, path: str, kind: str, shape: tuple[int, ...], dtype: np.dtype[Any], *, fortran: bool
    ) -> None:
        self.name, self.path, self.format = name, path, kind
        self.shape, self.dtype, self.fortran = shape, dtype, fortran

    @abc.abstractmethod
    def blocks(
        self, axis: int | None, block_bytes: int, start: int = 0, *, memory: int = 0
    ) -> Iterator[tuple[Index, NDArray[Any]]]:
        """Give blocks of whole rows and where they stand, as `row_blocks` cuts them.

        Where a block cannot be cut as small as that, it may take a quarter of `memory`.
        """

    @abc.abstractmethod
    def array(self) -> NDArray[Any]:
        """Give the whole array."""

    @property
    def size(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes the elements take."""
        return self.size * self.dtype.itemsize

    @property
    def ndim(self) -> int:
        """How many axes it has."""
        return len(self.shape)

    def place(self, element_bytes: int) -> str:
        """Name the row (along the slowest axis) in which a byte of the array's data lies."""
        length = (self.shape[-1] if self.fortran else self.shape[0]) if self.shape else 1
        axis = "column" if self.fortran and self.ndim > 1 else "row"
        return f"{axis} {element_bytes // max(self.nbytes // max(length, 1), 1)} of {length}"


def open_regular(path: str) -> tuple[BinaryIO, int]:
    """Open a file, and give its length too; pipes and devices have none, and are refused."""
    file = Path(path).open("rb")  # noqa: SIM115  the caller closes it
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        file.close()
        raise ValueError(
            f"{path} is not a regular file, and only those can be read here; copy it to one first"
        )
    return file, status.st_size


def missing_package(what: str, package: str) -> ValueError:
    """Make the error for a file that needs a package that is not there."""
    return ValueError(f"{what} needs the package {package}; pip install crossent[io]")
