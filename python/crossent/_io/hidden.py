"""Rows of logits that are a product: hidden states in files, and the output matrix that makes logits of them."""

from __future__ import annotations

import re
import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossent._io.arrays import Pieces, check_pieces
from crossent._io.describe import describe
from crossent._io.dtypes import is_floating, is_untyped
from crossent._io.format import ARRAYS, ArrayFormat, Content, Holder, HolderFormat, LogitsOptions
from crossent._io.formats import format_of
from crossent._io.opening import paths_of
from crossent._io.raw import RAW_DTYPES, RAW_TARGET_DTYPES, Raw, suffix_dtype
from crossent._io.source import OptionError, Source, Stored, UnreadableError, dtype_text
from crossent._linear import LinearLogits
from crossent.blocks import MEMORY, Block

# What models call their output matrix, the likeliest first; where it is tied to the embedding, it has that one's name.
_USUAL = [
    re.compile(pattern)
    for pattern in (
        r"(^|\.)(lm_head|embed_out|output)\.weight$",
        r"(^|[._])(embed_tokens|wte|word_embeddings|embeddings?)\.weight$",
    )
]


@dataclass(frozen=True)
class Head:
    """What makes logits of hidden states h, as the user names it: softcap(scale (W h + b))."""

    weight: str
    """The file of the output matrix W, which has a row for each class."""

    bias: str | None = None
    """The file of b."""

    softcap: float | None = None
    scale: float = 1.0
    option: str = "--head"
    """The option that names the matrix; that of the bias is named after it."""


class HiddenSource(Source):
    """The logits of stored hidden states, a block of which is computed when it is requested."""

    def __init__(
        self, name: str, hidden: Sequence[Stored], head: Head, weight: Stored, bias: Stored | None
    ) -> None:
        first = hidden[0]
        self.name = first.name if len(hidden) == 1 else name
        self.format, self.paths = first.format, tuple(stored.path for stored in hidden)
        self.hidden_dtype, self.hidden_bytes = first.dtype, sum(stored.nbytes for stored in hidden)
        self.head, self.weight, self.bias = head, weight, bias
        matrix: Any = weight  # read part by part, and no array that type checkers know
        self._logits = LinearLogits(
            _joined(hidden),
            matrix,
            None if bias is None else bias.load(),
            softcap=head.softcap,
            scale=head.scale,
            block_bytes=sys.maxsize,  # what there is, is known when the rows are requested
        )
        self.dtype = self._logits.dtype
        self.shape = (*self._logits.row_shape, self._logits.classes)
        self.axis = len(self.shape) - 1

    @property
    def width(self) -> int:
        """How many numbers a hidden state has."""
        return self.weight.shape[1]

    def row_blocks(self, memory: int | None = None, start: int = 0) -> Generator[Block, None, None]:
        """Yield the rows in blocks.

        The output matrix is read into memory once where it takes no more than half of it, else piece by piece for each
        block: never by a memory map, so that a file that is cut short meanwhile is an error.
        """
        self._check_compressed(MEMORY if memory is None else memory)
        yield from self._logits.row_blocks(MEMORY if memory is None else memory, start)

    def _memory_to_keep(self) -> int:
        """Return about how much memory is needed for the output matrix to be read once, and kept."""
        return 5 * self.weight.size * max(self.weight.dtype.itemsize, self.dtype.itemsize) // 2

    def _check_compressed(self, memory: int) -> None:
        """Raise where the output matrix would be decompressed again and again."""
        if self.weight.is_compressed and self._memory_to_keep() > memory:
            raise OptionError(
                f"{self.weight.name} is compressed, and would have to be decompressed again for each block of rows; "
                f"save it with numpy.savez, which does not compress, or pass --memory {_size(self._memory_to_keep())}"
            )

    def in_words(self, memory: int, files: int = 1) -> str:
        """Return how many rows there are, and how many bytes the hidden states and the output matrix take."""
        kept, again = files * self._memory_to_keep(), ""
        if kept > memory:
            again = f"; the matrix is read for each block of rows, and once with --memory {_size(kept)}"
        return (
            f"{self.rows:,} rows of {self.width:,} numbers, {self.hidden_dtype}, {self.hidden_bytes / 1e6:,.1f} MB; "
            f"{self.classes:,} classes, {self.weight.dtype}, {self.weight.nbytes / 1e6:,.1f} MB{again}"
        )

    def provenance(self) -> dict[str, Any]:
        """Return where the numbers come from, the output matrix too."""
        hidden = {"hidden_size": self.width, "hidden_dtype": str(self.hidden_dtype)}
        return super().provenance() | hidden | self.head_told()

    def head_told(self) -> dict[str, Any]:
        """Return what makes logits of the hidden states, for a result that names its source."""
        return {
            "head": self.weight.name,
            "head_dtype": str(self.weight.dtype),
            "head_bias": None if self.bias is None else self.bias.name,
            "softcap": self.head.softcap,
            "scale": self.head.scale,
        }


def open_hidden(
    name: str,
    head: Head,
    *,
    dtype: str | None = None,
    classes: int | None = None,
    dtype_elsewhere: bool = False,
) -> HiddenSource:
    """Open a file of hidden states, or several by a pattern, as the logits that an output matrix makes of them.

    Parameters
    ----------
    name
        The files, as for `open_logits`: hidden states along the last axis.
    head
        The output matrix, and what belongs to it.
    dtype
        For raw hidden states, their dtype (`f16`); "bfloat16" or "bf16" to read elements without a type as that.
    classes
        How many classes there should be.
    dtype_elsewhere
        Whether the dtype may be meant for other files alone.

    Returns
    -------
    HiddenSource
        The rows of logits, of which none is computed yet.

    Raises
    ------
    OSError
        If a file cannot be opened.
    OptionError
        If a file needs other options; a ValueError.
    ValueError
        If a file is damaged, or if the hidden states and the output matrix do not fit each other.
    """
    paths = paths_of(name)
    is_raw = any(isinstance(format_of(path), Raw) for path, _ in paths)
    hidden = [] if is_raw else _hidden(paths, dtype, None)
    weight = _weight(head, dtype, hidden[0] if hidden else None)
    if is_raw:
        hidden = _hidden(paths, dtype, weight.shape[1])
    bias = None if head.bias is None else _bias(head, dtype, weight)
    if classes is not None and weight.shape[0] != classes:
        raise OptionError(f"{weight.name} has {weight.shape[0]} classes, not {classes}; leave --classes out")
    applies = is_raw or any(map(_is_told_bfloat16, (*hidden, weight, bias)))
    if dtype is not None and not applies and not dtype_elsewhere:
        raise OptionError(f"--dtype does not apply to {name} or {weight.name}; leave it out")
    return HiddenSource(name, hidden, head, weight, bias)


def describe_hidden(
    name: str, head: Head, *, dtype: str | None = None
) -> tuple[list[dict[str, Any]], HiddenSource | None]:
    """Describe the arrays of a file as `describe` does, those of hidden states as such, and open these if it has any.

    What is described of hidden states has `hidden_size` in place of `classes`.
    """
    (path, _), *_ = paths_of(name)
    source = None
    if isinstance(format_of(path), Raw) and suffix_dtype(path) not in RAW_TARGET_DTYPES:
        source = open_hidden(name, head, dtype=dtype)
        arrays = describe(name, dtype=dtype, classes=source.width)
    else:
        arrays = describe(name, dtype=dtype)
        if any(told["classes"] is not None for told in arrays):
            source = open_hidden(name, head, dtype=dtype)
    for told in arrays:
        if source is not None and told["name"] == source.name:
            told |= {"classes": None, "hidden_size": source.width, "guess": "hidden states"}
    return arrays, source


def _size(memory: int) -> str:
    """Write a number of bytes as `--memory` takes it, rounded up."""
    return f"{-(-memory // (1 << 30))}G" if memory > 4 << 30 else f"{-(-memory // (1 << 20))}M"


# Hidden states


def _hidden(paths: Sequence[tuple[str, str | None]], dtype: str | None, width: int | None) -> list[Stored]:
    """Find the hidden states in files; the `width` is that of raw ones, whose files do not say it."""
    found = [_hidden_in(path, key, dtype, width) for path, key in paths]
    check_pieces(found, 2)
    return found


def _hidden_in(path: str, key: str | None, dtype: str | None, width: int | None) -> Stored:
    format = format_of(path)
    if not isinstance(format, ArrayFormat):
        raise OptionError(
            f"{path} is {format.kind.what}, which holds no hidden states; --head goes with those in "
            f"{ARRAYS}, or raw numbers"
        )
    if isinstance(format, Raw):
        suffix = suffix_dtype(path)
        if suffix in RAW_DTYPES and dtype in RAW_DTYPES and RAW_DTYPES[suffix] != RAW_DTYPES[dtype]:
            if RAW_DTYPES[dtype] != "bfloat16":
                raise OptionError(
                    f"--dtype {dtype} contradicts the suffix of {path}; leave it out, or rename the file"
                )
            dtype = None  # it is said of an output matrix without a type
        if dtype is None and suffix not in RAW_DTYPES:
            raise OptionError(
                f"{path} is of no kind that its name or its first bytes show; if it holds raw hidden states, row after "
                "row, pass --dtype (such as f16)"
            )
        return format.find(path, key, dtype, width, floats=True)
    found = format.contents(path, key, LogitsOptions(dtype))
    if len(found) > 1:
        floats = [each for each in found if isinstance(each, Stored) and _may_be_floats(each)]
        # Where there are more or none, this raises, and says which there are.
        found = floats if len(floats) == 1 else [format.find(path, key, None, floats=True)]
    stored = _readable(found[0], "hidden states")
    if stored.ndim == 0:
        raise ValueError(f"{stored.name} holds a single number; expected rows of hidden states")
    return stored


def _joined(hidden: Sequence[Stored]) -> Any:
    """Return the hidden states of all files as one array, of which slices are read."""
    if len(hidden) > 1:
        return Pieces(hidden)
    (only,) = hidden
    return only.load()[np.newaxis] if only.ndim == 1 else only


# The output matrix


def _weight(head: Head, dtype: str | None, hidden: Stored | None) -> Stored:
    """Find the output matrix, and check that it fits the hidden states."""
    found = _arrays(head.weight, head.option, dtype)
    width = None if hidden is None else hidden.shape[-1]
    stored = found[0] if len(found) == 1 else _only(found, 2)
    if stored is None:
        raise OptionError(_which(head, found, width))
    weight = _readable(stored, "an output matrix")
    if weight.ndim != 2:
        raise ValueError(
            f"{weight.name} has shape {weight.shape}; expected an output matrix, with a row for each class and a "
            f"column for each number of a hidden state{'' if width is None else f': (classes, {width})'}"
        )
    if hidden is not None and weight.shape[1] != width:
        fix = "check that both come from the same model"
        if weight.shape[0] == width:
            fix = (
                f"if {hidden.name} holds logits already, leave {head.option} out for it; if it holds hidden states, "
                f"{weight.name} looks transposed: save its transpose, which has a row for each class"
            )
        raise ValueError(
            f"{weight.name} has shape {weight.shape}, and {hidden.name} has hidden states of {width} numbers, shape "
            f"{hidden.shape}; expected an output matrix of shape (classes, {width}); {fix}"
        )
    if hidden is not None and weight.name == hidden.name:
        raise OptionError(
            f"{weight.name} is given as hidden states and as their output matrix; name the matrix with {head.option}"
        )
    if 0 in weight.shape:
        raise ValueError(
            f"{weight.name} has shape {weight.shape}, with no numbers in it; check how it was written"
        )
    return weight


def _bias(head: Head, dtype: str | None, weight: Stored) -> Stored:
    """Find the bias, and check that it has a number for each class."""
    assert head.bias is not None
    option = f"{head.option}-bias"
    found = _arrays(head.bias, option, dtype)
    stored = found[0] if len(found) == 1 else _only(found, 1)
    if stored is None:
        names = [each for each in found if each.shape == weight.shape[:1]] or found
        raise OptionError(
            f"{head.bias} has {len(found)} arrays ({_listed(names)}); name the bias, as in {option} {names[0].name}"
        )
    bias = _readable(stored, "a bias")
    if bias.shape != weight.shape[:1]:
        raise ValueError(
            f"{bias.name} has shape {bias.shape}; expected {weight.shape[:1]}, a number for each of the classes of "
            f"{weight.name}, which has shape {weight.shape}"
        )
    return bias


def _arrays(name: str, option: str, dtype: str | None) -> list[Content]:
    """List the arrays that a name may mean; of the files of a sharded model, those that hold the one it names."""
    found: list[Content] = []
    paths = paths_of(name)
    for path, key in paths:
        format = format_of(path)
        if not isinstance(format, ArrayFormat) or isinstance(format, Raw):
            raise OptionError(f"{option} {path} is {format.kind.what}; expected an array in {ARRAYS}")
        if len(paths) > 1 and key is not None and isinstance(format, HolderFormat):
            # Of the files of one large model, one holds the array.
            holder: Holder = format.holder(path)
            found += [holder.find(key)] if key in holder.names else []
        else:
            found += format.contents(path, key, LogitsOptions(dtype))
    if not found:
        which = f"of that name is in any of the {len(paths)} files" if len(paths) > 1 else "is in the file"
        raise OptionError(f"{option} {name}: no array {which}; check the name")
    return found


def _only(found: Sequence[Content], axes: int) -> Content | None:
    """Return the only array of floating numbers with so many axes, if it is the only one."""
    fitting = [
        each for each in found if isinstance(each, Stored) and each.ndim == axes and _may_be_floats(each)
    ]
    return fitting[0] if len(fitting) == 1 else None


def _which(head: Head, found: Sequence[Content], width: int | None) -> str:
    """Return the error for several arrays, with those that fit, the likeliest first."""
    matrices = [
        each for each in found if isinstance(each, Stored) and each.ndim == 2 and _may_be_floats(each)
    ]
    fitting = [each for each in matrices if width in (None, each.shape[1])]
    count = f"{head.weight} has {len(found)} arrays"
    if not fitting:
        of = "" if width is None else f" of {width} columns, as the hidden states need"
        listed = f": {_listed(matrices)}" if matrices else ""
        return (
            f"{count}, and none is a matrix of floating numbers{of}{listed}; name the output matrix, as {head.option} "
            "FILE:KEY"
        )
    fitting.sort(key=lambda each: (_rank(each.name), -each.shape[0]))
    return (
        f"{count}, of which {len(fitting)} may be the output matrix ({_listed(fitting)}); name it, as in "
        f"{head.option} {fitting[0].name}"
    )


def _rank(name: str) -> int:
    """Return how likely an array is the output matrix by its name; 0 is the likeliest."""
    key = name.rpartition(":")[2]
    return next((rank for rank, usual in enumerate(_USUAL) if usual.search(key)), len(_USUAL))


def _listed(found: Sequence[Content]) -> str:
    told = [
        each.name.rpartition(":")[2] + ("" if each.shape is None else f" {' x '.join(map(str, each.shape))}")
        for each in found[:6]
    ]
    return ", ".join(told) + (f" and {len(found) - 6} more" if len(found) > 6 else "")


def _is_told_bfloat16(stored: Stored | None) -> bool:
    """Return whether the user had to say that an array is bfloat16, since its file does not."""
    if stored is None or stored.dtype.name != "bfloat16":
        return False
    format = format_of(stored.path)
    return not (isinstance(format, HolderFormat) and format.tells_dtypes)


def _may_be_floats(stored: Stored) -> bool:
    return is_floating(stored.dtype) or is_untyped(stored.dtype)


def _readable(found: Content, what: str) -> Stored:
    """Return an array of floating numbers, or raise."""
    if isinstance(found, UnreadableError):
        raise found
    assert isinstance(found, Stored)
    if is_untyped(found.dtype):
        raise ValueError(
            f"{found.name} holds two-byte elements without a type ({found.dtype}), as numpy.save writes bfloat16; if "
            "that is what they are, pass --dtype bf16"
        )
    if not is_floating(found.dtype):
        raise ValueError(
            f"{found.name} holds {dtype_text(found.dtype)}; expected {what} of float16, float32, float64 or bfloat16; "
            "check which file is which, and save quantised numbers as those that they stand for"
        )
    return found
