"""What a format is: how its files are recognised, and how they are opened.

A format is a file of this package that defines one subclass of `Format`, and a line in `formats.py`. Nothing else
names it: files are opened, described and searched for targets through the methods here.
"""

from __future__ import annotations

import abc
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np

from crossent._io.arrays import ArraySource
from crossent._io.dtypes import as_bfloat16, is_floating, is_untyped
from crossent._io.kinds import ReadKind
from crossent._io.names import meant
from crossent._io.source import OptionError, Source, Stored, UnreadableError, dtype_text


@dataclass(frozen=True)
class LogitsOptions:
    """What the user says about files of logits."""

    dtype: str | None = None
    classes: int | None = None
    values: str | None = None
    axis: int = -1
    label: str | None = None
    columns: str | None = None
    strip_prefix: str | None = None
    like: Source | None = None
    """Rows that these are compared with: a table puts its classes into the order of theirs."""

    labels: bool = True
    """Whether the labels of a table are read; they are not where the targets are in another file."""

    ignored: int | None = None


ARRAYS = ".npy, .npz, .safetensors, HDF5, Zarr or a file of torch.save"
"""The kinds of files that hold arrays, each with a dtype and a shape."""

Content = Source | Stored | UnreadableError
"""Something in a file: rows, an array, or an array that cannot be read."""


class Format(abc.ABC):
    """A format of files that hold logits, targets or both."""

    name: ClassVar[str]
    """What results call it: the `format` of its sources and arrays."""

    kind: ClassVar[ReadKind]
    """How its files are recognised."""

    row: ClassVar[str | None] = None
    """What a row of its files stands for, where that is always the same: "token"."""

    def begins(self, path: str, start: bytes) -> bool:
        """Return whether a file whose name decides no format is of this one, by its first bytes."""
        del path
        return start.startswith(self.kind.starts)

    def is_folder(self, path: str) -> bool:
        """Return whether a folder is one input of this format."""
        del path
        return False

    def check(self, path: str) -> None:
        """Raise where a file with a name of this format cannot be one, before it is opened."""
        del path

    @abc.abstractmethod
    def open_logits(self, path: str, key: str | None, options: LogitsOptions) -> Source:
        """Open rows of logits, log-probabilities or probabilities, of which none is read yet.

        Options and a `key` that the format has no use for are refused: `refuse` does so.
        """

    def settle(self, sources: Sequence[Source], options: LogitsOptions) -> None:
        """Decide what concerns all of the files of a pattern together, such as the columns of tables."""
        del sources, options

    def open_targets(self, path: str, key: str | None, dtype: str | None) -> Stored:
        """Find the class indices in a file; files that hold them beside their rows have none to give."""
        del key, dtype
        raise OptionError(
            f"{path} holds its own targets beside its rows; give it alone to score those, or class indices as "
            f"{ARRAYS}, CSV, Parquet, Arrow or raw numbers"
        )

    @abc.abstractmethod
    def contents(self, path: str, key: str | None, options: LogitsOptions) -> Sequence[Content]:
        """Open everything in a file, or what `key` names, whatever it is. Options count where they apply.

        Of several arrays, those that cannot be read are given as the errors that say why.
        """

    def beside(self, path: str, key: str | None) -> dict[str, Stored | UnreadableError]:
        """Return the arrays beside the logits, by their names, without that of `key`."""
        del path, key
        return {}


class ArrayFormat(Format):
    """A format of files that hold arrays; logits and targets are found in the same way."""

    @abc.abstractmethod
    def find(
        self, path: str, key: str | None, dtype: str | None, classes: int | None = None, *, floats: bool
    ) -> Stored:
        """Find the array in a file that is `key`, or the only one of floating numbers, or of integers."""

    def open_logits(self, path: str, key: str | None, options: LogitsOptions) -> Source:
        """Open an array as rows of logits."""
        refuse_table_options(path, options)
        stored = self.find(path, key, options.dtype, options.classes, floats=True)
        _check_logits(stored)
        return ArraySource(stored, options.axis, options.values or "logits")

    def open_targets(self, path: str, key: str | None, dtype: str | None) -> Stored:
        """Find an array of integers."""
        stored = self.find(path, key, dtype, floats=False)
        if stored.dtype.kind not in "iu":
            raise ValueError(
                f"{stored.name} holds {dtype_text(stored.dtype)}; expected integer class indices; if all of them are "
                "whole numbers, save them as int64"
            )
        return stored


class Holder(Protocol):
    """A file that holds arrays by names."""

    path: str

    @property
    def names(self) -> list[str]:
        """The names of its arrays, in its order."""

    def find(self, key: str, /) -> Stored:
        """Find an array, which is checked but not read."""


AnyHolder = TypeVar("AnyHolder", bound=Holder)


class HolderFormat(ArrayFormat, Generic[AnyHolder]):
    """A format of files that hold any number of arrays, each with a name."""

    tells_dtypes: ClassVar[bool]
    """Whether a file names the dtype of each array, bfloat16 too, so that none is to be given."""

    @abc.abstractmethod
    def holder(self, path: str) -> AnyHolder:
        """Open a file, and read what it says of its arrays."""

    def find(
        self, path: str, key: str | None, dtype: str | None, classes: int | None = None, *, floats: bool
    ) -> Stored:
        """Find the array that is `key`, or the only one that fits."""
        del classes
        holder = self.holder(path)
        chosen = _choose(holder, key, floats=floats, untyped=floats and untyped_name(dtype) == "bfloat16")
        if self.tells_dtypes or not floats:
            refuse(path, None, {"--dtype" if floats else "--target-dtype": dtype})
        return typed(holder.find(chosen), dtype)

    def contents(self, path: str, key: str | None, options: LogitsOptions) -> Sequence[Content]:
        """Find all arrays."""
        holder = self.holder(path)
        if key is not None:
            return [typed_if_untyped(holder.find(_known_key(path, holder.names, key)), options, alone=True)]
        found = list[Content]()
        for each in holder.names:
            try:
                found.append(typed_if_untyped(holder.find(each), options, alone=len(holder.names) == 1))
            except UnreadableError as error:
                found.append(error)
        return found

    def beside(self, path: str, key: str | None) -> dict[str, Stored | UnreadableError]:
        """Find the other arrays."""
        holder = self.holder(path)
        found: dict[str, Stored | UnreadableError] = {}
        for each in holder.names:
            if each != key:
                try:
                    found[each] = holder.find(each)
                except ValueError as error:
                    found[each] = (
                        error if isinstance(error, UnreadableError) else UnreadableError(path, str(error))
                    )
        return found


def refuse(path: str, key: str | None, options: dict[str, Any]) -> None:
    """Raise for a key or an option that a file has no use for."""
    given = [option for option, value in options.items() if value is not None]
    if given:
        raise OptionError(f"{given[0]} does not apply to {path}; leave it out")
    if key is not None:
        raise OptionError(f"{path} holds no named arrays; leave :{key} out")


def refuse_table_options(path: str, options: LogitsOptions) -> None:
    """Raise for an option that only tables have a use for."""
    named = {"--label": options.label, "--columns": options.columns, "--strip-prefix": options.strip_prefix}
    refuse(path, None, named)


def untyped_name(dtype: str | None) -> str | None:
    """Return the dtype for elements without a type, as `as_bfloat16` names it."""
    return "bfloat16" if dtype == "bf16" else dtype


def typed(stored: Stored, dtype: str | None) -> Stored:
    """Read the elements of an array as bfloat16, where the user says that they are that."""
    name = untyped_name(dtype)
    if name is not None:
        stored.dtype = as_bfloat16(stored.name, stored.dtype, name)
    return stored


def typed_if_untyped(stored: Stored, options: LogitsOptions, *, alone: bool = False) -> Stored:
    """Read the elements of an array as bfloat16, where they have no type and the options say so.

    An array that is meant `alone` may also have integers of 16 bits instead, as formats without that dtype do.
    """
    is_untagged = is_untyped(stored.dtype) or (alone and stored.dtype == np.uint16)
    return typed(stored, "bfloat16") if is_untagged and untyped_name(options.dtype) == "bfloat16" else stored


def _choose(holder: Holder, key: str | None, *, floats: bool, untyped: bool = False) -> str:
    """Choose an array of a file: the one named, or the only one that fits among those that can be read."""
    path, names = holder.path, holder.names
    if key is not None:
        return _known_key(path, names, key)
    if len(names) == 1:
        return names[0]
    fitting, unreadable, others = [], [], []
    for name in names:
        try:
            dtype = holder.find(name).dtype
        except UnreadableError as error:
            unreadable.append(error)
            continue
        if (is_floating(dtype) or (untyped and is_untyped(dtype))) if floats else dtype.kind in "iu":
            fitting.append(name)
        else:
            others.append(f"{name} of {dtype_text(dtype)}")
    if len(fitting) == 1:
        return fitting[0]
    what = "of floating numbers" if floats else "of integers"
    if not names:
        raise OptionError(f"{path} has no arrays {what} (it is empty); check how it was written")
    if unreadable and not fitting:
        raise ValueError(f"{path} has no array {what} that can be read: {unreadable[0]}")
    if not fitting:
        fix = (
            "save logits as float16, float32, float64 or bfloat16; if an array holds the bits of bfloat16, name it, "
            "and pass --dtype bf16"
            if floats
            else "save class indices as int64"
        )
        raise OptionError(f"{path} has no arrays {what}; it has {_listed(others)}; {fix}")
    raise OptionError(
        f"{path} has {len(fitting)} arrays {what} ({_listed(fitting)}); name the one to read, as in {path}:{fitting[0]}"
    )


def _known_key(path: str, names: list[str], key: str) -> str:
    """Check that there is an array of a name; that of an archive's member or of a group's may be given whole."""
    if names == [""]:
        refuse(path, key, {})
    for each in (key, key.removesuffix(".npy"), key.strip("/")):
        if each in names:
            return each
    inside = [name for name in names if name.startswith((f"{key.strip('/')}/", f"{key}."))]
    if inside:
        raise OptionError(
            f"{path} has no array {key!r}; those that begin so are {_listed(inside)}; name one of them, as in "
            f"{path}:{inside[0]}"
        )
    raise OptionError(f"{path} has no array {key!r}; it has {_listed(names) or 'none'}{_meant(key, names)}")


def _meant(key: str, names: list[str]) -> str:
    """Ask whether an array was meant that has the name that was given in a group, or nearly that name."""
    ends = [repr(name) for name in names if re.split(r"[/.]", name)[-1].casefold() == key.casefold()]
    return f"; did you mean {' or '.join(ends[:3])}?" if ends else meant(key, names)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _check_logits(stored: Stored) -> None:
    dtype = stored.dtype
    if is_untyped(dtype):
        raise ValueError(
            f"{stored.name} holds two-byte elements without a type ({dtype}), as numpy.save writes bfloat16; if "
            "that is what they are, pass --dtype bfloat16"
        )
    if not is_floating(dtype):
        fix = (
            "if they are targets, the two files look swapped; else save logits as one of those"
            if dtype.kind in "iu"
            else "save them as one of those"
        )
        raise ValueError(
            f"{stored.name} holds {dtype_text(dtype)}; expected logits of float16, float32, float64 or bfloat16; {fix}"
        )
    if stored.ndim == 0:
        raise ValueError(
            f"{stored.name} holds a single number; expected rows of logits, shape (rows, classes)"
        )
