"""What all readers share: a source of blocks of rows, an array stored in a file, and the texts of errors."""

from __future__ import annotations

import abc
import math
import os
import stat
import sys
import weakref
from collections import deque
from collections.abc import Container, Generator, Iterator
from typing import Any, BinaryIO, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crossent._io.kinds import START_BYTES, folder_kind
from crossent.blocks import Block, Index

VALUES = ("logits", "log-probs", "probs")
"""What the numbers of a file can be."""

FileIdentity: TypeAlias = tuple[int, int]
"""What distinguishes a file from another that has taken its name since."""

_SPECIAL = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


# The most axes of an array.
_MOST_AXES = 64 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32


class OptionError(ValueError):
    """A file that needs other options than those given; the file itself may be all right."""


class UnreadableError(ValueError):
    """An array that cannot be read; the other arrays of its file may be all right."""

    def __init__(
        self, name: str, what: str, *, dtype: str | None = None, shape: tuple[int, ...] | None = None
    ) -> None:
        """Take what is wrong with the array, and what is known of it all the same."""
        super().__init__(f"{name} {what}")
        self.name, self.what, self.dtype, self.shape = name, what, dtype, shape


class TargetArray(Protocol):
    """Class indices, in memory or in files: `targets[index]` gives those of a block."""

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


class Source(abc.ABC):
    """Rows of logits, log-probabilities or probabilities in a file, or in several.

    It is a `RowBlocks` that knows where its numbers are from. The commands know files by these members alone.
    """

    name: str
    """What the user calls it."""

    format: str
    """The kind of file."""

    paths: tuple[str, ...]
    """The files, in order."""

    shape: tuple[int | None, ...]
    """The shape of the whole; the first length is None where only reading to the end shows it."""

    dtype: np.dtype[Any]
    """The dtype of its blocks, but for their byte order."""

    axis: int
    """The class axis in the file, not negative. In the blocks it is the last."""

    values: str = "logits"
    """What the numbers are."""

    targets: TargetArray | None = None
    """The targets, where the file holds them before its rows."""

    has_targets: bool = False
    """Whether the blocks come with their targets."""

    columns: tuple[str, ...] = ()
    """In a table, the columns of the classes."""

    label: str | None = None
    """In a table, the column of the labels, where they are read."""

    notes: tuple[str, ...] = ()
    """What to tell about how the file was understood."""

    @abc.abstractmethod
    def row_blocks(self, memory: int | None = None, start: int = 0) -> Generator[Block, None, None]:
        """Yield the rows in blocks, as `RowBlocks` says."""

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

    def in_words(self, memory: int, files: int = 1) -> str:
        """Return how many rows of how many numbers there are, and how many bytes they take.

        `memory` is how much there is for so many `files`.
        """
        del memory, files
        rows = self.rows
        size = "" if rows is None else f", {rows * self.classes * self.dtype.itemsize / 1e6:,.1f} MB"
        return f"{'' if rows is None else f'{rows:,} '}rows of {self.classes:,} classes, {self.dtype}{size}"

    def provenance(self) -> dict[str, Any]:
        """Return where the numbers come from, for a result that names its source."""
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
        """Explain why `values` of a block may be no probabilities, and the fix; `wrong` are those that are none."""
        del values, wrong
        return "if these are logits or log-probabilities, pass --values logits or --values log-probs"


class Stored(abc.ABC):
    """One array in a file. It gives its parts as a `TargetArray` does, each read when it is requested."""

    is_compressed: bool = False
    """Whether all that lies before a part has to be decompressed for it."""

    def __init__(
        self, name: str, path: str, kind: str, shape: tuple[int, ...], dtype: np.dtype[Any], *, fortran: bool
    ) -> None:
        self.name, self.path, self.format = name, path, kind
        self.shape, self.dtype, self.fortran = shape, dtype, fortran

    @abc.abstractmethod
    def blocks(
        self, axis: int | None, block_bytes: int, start: int = 0, *, memory: int = 0
    ) -> Iterator[tuple[Index, NDArray[Any]]]:
        """Yield blocks of whole rows and where they stand, as `cut_array` cuts them.

        Where a block cannot be cut as small as that, it may take a part of `memory`.
        """

    @abc.abstractmethod
    def __getitem__(self, index: Index, /) -> NDArray[Any]:
        """Return a part in memory: a slice without a step for each of the first axes."""

    def load(self) -> NDArray[Any]:
        """Return the whole array in memory."""
        return self[()]

    @abc.abstractmethod
    def release(self) -> None:
        """Let go of what is kept for the next part: it is had again where it is needed."""

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

    def layout(self) -> NDArray[Any]:
        """Stand in for the array: the same shape and order, but all elements are one, and none may be read."""
        strides = contiguous_strides(self.shape, self.dtype.itemsize, self.slowest_first())
        return np.lib.stride_tricks.as_strided(np.empty(1, self.dtype), self.shape, strides, writeable=False)

    def slowest_first(self) -> list[int]:
        """List the axes, that along which neighbours lie farthest from each other first."""
        axes = range(self.ndim)
        return list(reversed(axes) if self.fortran else axes)


class Recent:
    """Arrays that keep something for their next part: those used longest ago let go of it where it becomes too much."""

    def __init__(self, most: int) -> None:
        self._most, self._total = most, 0
        self._kept: deque[tuple[weakref.ref[Stored], int]] = deque()

    def add(self, stored: Stored, size: int) -> None:
        """Take note that an array keeps something of a size from now on."""
        self._kept.append((weakref.ref(stored), size))
        self._total += size
        while self._total > self._most and len(self._kept) > 1:
            oldest, size = self._kept.popleft()
            self._total -= size
            if (other := oldest()) is not None and other is not stored:
                other.release()


OPEN_FILES = Recent(64)
"""Arrays whose files are open; a process cannot have any number of these."""


def dtype_text(dtype: np.dtype[Any]) -> str:
    """Name a dtype in an error."""
    if dtype.names is None:
        return str(dtype)
    shown = ", ".join(dtype.names[:8]) + (", ..." if len(dtype.names) > 8 else "")
    return f"records with the fields {shown}"


def contiguous_strides(shape: tuple[int, ...], itemsize: int, slowest_first: list[int]) -> list[int]:
    """Return the strides of an array without gaps whose axes lie in this order."""
    strides, step = [0] * len(shape), itemsize
    for axis in reversed(slowest_first):
        strides[axis], step = step, step * max(shape[axis], 1)
    return strides


def check_shape(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise for a shape that no array can have."""
    if len(shape) > _MOST_AXES:
        raise UnreadableError(
            name, f"has {len(shape)} axes; expected at most {_MOST_AXES}, as NumPy allows; reshape it first"
        )
    # An axis of length 0 does not make the others shorter: NumPy counts them all the same.
    nbytes = math.prod(max(length, 1) for length in shape) * max(dtype.itemsize, 1)
    if any(length < 0 for length in shape) or nbytes > sys.maxsize:
        raise UnreadableError(
            name,
            f"has a damaged header: it gives an array of shape {shape}, which none can have; write it again",
        )


def check_regular(path: str) -> None:
    """Raise unless a name is that of a regular file. Nothing is opened, since opening a pipe may wait for ever."""
    try:
        status = os.stat(path)  # noqa: PTH116  the name is the user's text
    except ValueError as error:  # A NUL, or what the system's encoding lacks.
        raise ValueError(f"{path!r} cannot be the name of a file ({error}); check it") from None
    _check_mode(path, status.st_mode)


def open_regular(
    path: str, known: FileIdentity | None = None, *, buffering: int = -1
) -> tuple[BinaryIO, int]:
    """Open a file, and give its length too; pipes, devices and folders are refused.

    Where the file was opened before, `known` is what `identity` gave then; another file of that name is refused.
    """
    check_regular(path)
    file: BinaryIO = open(path, "rb", buffering, opener=_without_waiting)  # noqa: SIM115  the caller closes it
    status = os.fstat(file.fileno())
    try:
        _check_mode(path, status.st_mode)
        if known is not None and identity(file) != known:
            raise replaced(path)
    except ValueError:
        file.close()
        raise
    return file, status.st_size


def replaced(path: str) -> ValueError:
    """Make the error for a file that is not the one that was opened before."""
    return ValueError(
        f"{path} was replaced by another file while it was read; leave it as it is until the end, and start again"
    )


def became_shorter(path: str, before: int, now: int) -> ValueError:
    """Make the error for a file that has fewer bytes than when it was opened."""
    return ValueError(
        f"{path} became shorter while it was read: it had {before} bytes, and has {now}; wait until it is written, and "
        "start again"
    )


def files_of(path: str) -> dict[str, int]:
    """List the files of an input with their sizes: those of a folder by their names in it, or a file alone."""
    if not os.path.isdir(path):  # noqa: PTH112  the name is the user's text
        return {"": os.stat(path).st_size}  # noqa: PTH116
    found = {}
    for folder, _, names in os.walk(path):
        below = os.path.relpath(folder, path)
        for name in names:
            whole = os.path.join(folder, name)  # noqa: PTH118
            key = name if below == "." else f"{below}/{name}".replace(os.sep, "/")
            found[key] = os.stat(whole).st_size  # noqa: PTH116
    return dict(sorted(found.items()))


def start_of(path: str) -> bytes:
    """Return as much of a file's beginning as shows its kind."""
    file, _ = open_regular(path)
    with file:
        return file.read(START_BYTES)


def identity(file: BinaryIO) -> FileIdentity:
    """Return what identifies the open file."""
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe that has taken its place since it was checked does not make this wait."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _check_mode(path: str, mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode):
        raise ValueError(f"{path} is {folder_kind(path)}")
    what = next((what for test, what in _SPECIAL if test(mode)), "no regular file")
    raise ValueError(
        f"{path} is {what}, and only regular files can be read here, since they are read at any position; copy "
        "its content to a file first"
    )


def check_not_packed(name: str, attributes: Container[str], **told: Any) -> None:
    """Raise for numbers that stand for others by the conventions of NetCDF."""
    for attribute in ("scale_factor", "add_offset"):
        if attribute in attributes:
            raise UnreadableError(
                name,
                f"has the attribute {attribute}, so that its numbers stand for others; save those that they stand for",
                **told,
            )


def one_line(error: Exception) -> str:
    """Return what an error of a library says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def missing_package(what: str, package: str) -> ValueError:
    """Make the error for a file that needs a package that is not there."""
    return ValueError(f"{what} needs the package {package}; pip install 'crossent[io]'")
