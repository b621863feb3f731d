"""Arguments that several functions take: each is checked in one place, with one error text."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, Literal, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray

from crossent import _core
from crossent._interop import ArrayInput, as_array, float_name
from crossent.blocks import Block, RowBlocks, cut_rows

# What becomes of losses. Only literals: a misspelt one is an error for type checkers, and a ValueError when it runs.
# (Unions, because stubtest does not know a single `Literal` of several again.)
Reduction: TypeAlias = Literal["mean"] | Literal["sum"] | Literal["none"]

Values: TypeAlias = Literal["logits"] | Literal["log_probs"] | Literal["probs"]
_VALUES = ("logits", "log_probs", "probs")


def checked_values(values: str) -> Values:
    """Return `values`, or raise where it is not one of the known ones."""
    if values not in _VALUES:
        raise ValueError(
            f"values is not understood: got {values!r}, expected 'logits', 'log_probs' or 'probs'"
        )
    return values  # type: ignore[return-value]


def chosen_values(values: str, log_probs: bool | None) -> Values:
    """Return `values`, or its value for the deprecated `log_probs` of a public function."""
    if log_probs is None:
        return checked_values(values)
    if not isinstance(log_probs, bool | np.bool_):
        raise TypeError(f"log_probs must be True or False: got {type(log_probs).__name__}")
    if values not in ("logits", "log_probs" if log_probs else "logits"):
        raise TypeError(
            f"values and log_probs contradict each other: got values={values!r}; leave log_probs out"
        )
    warnings.warn('log_probs is deprecated: use values="log_probs"', DeprecationWarning, stacklevel=3)
    return "log_probs" if log_probs else "logits"


def as_integer(value: int, name: str) -> int:
    """Return an integer that is no truth value, or raise."""
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be an integer: got {value!r}")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer: got {type(value).__name__}") from None


def as_count(value: int, name: str) -> int:
    """Return an integer from 0 on that int64 holds, or raise."""
    number = as_integer(value, name)
    if not 0 <= number < 2**63:
        raise ValueError(f"{name} is out of range: got {number}, expected 0 or more")
    return number


def as_ignore_index(value: int) -> int:
    """Return `ignore_index` as an integer that int64 holds, or raise."""
    number = as_integer(value, "ignore_index")
    if not -(2**63) <= number < 2**63:
        raise OverflowError(f"ignore_index is out of range: got {number}, expected one that int64 holds")
    return number


def as_integers(values: ArrayInput, name: str) -> NDArray[np.int64]:
    """Return an argument as int64, or raise where it holds anything but integers."""
    array = as_array(values, name)
    if array.size == 0 and array.dtype.kind == "f":  # an empty list
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        whole = array.dtype.kind == "f" and bool((array % 1 == 0).all())
        fix = f"; use numpy.asarray({name}, dtype=numpy.int64)" if whole else ""
        raise TypeError(f"{name} must hold integers: got dtype {array.dtype}{fix}")
    if array.dtype == np.uint64 and array.size and array.max() >= 2**63:
        raise ValueError(f"{name} is out of range: got {int(array.max())}, expected numbers that int64 holds")
    return array.astype(np.int64)


Logits: TypeAlias = ArrayInput | RowBlocks
"""What functions that score take as logits."""


def has_row_blocks(logits: object) -> TypeGuard[RowBlocks]:
    """Return whether logits come in blocks of rows. A class says so, and never an object that makes up attributes."""
    return callable(getattr(type(logits), "row_blocks", None))


def stand_in(
    blocks: RowBlocks, beside: Iterable[NDArray[Any] | None], name: str, length: int | None = None
) -> NDArray[Any]:
    """Return an array of the shape and the dtype of the logits, all of whose elements are one: to check arguments with.

    Where the first length is not known, it is that of the arrays beside the logits, else `length`.
    """
    if None in blocks.row_shape[1:]:
        raise ValueError(
            f"{name}.row_shape has an unknown length that is not the first: got {blocks.row_shape}"
        )
    lengths = [array.shape[0] for array in beside if array is not None and array.ndim]
    length = lengths[0] if lengths else length
    shape = [length if known is None else known for known in (*blocks.row_shape, blocks.classes)]
    known = [length for length in shape if length is not None]
    if len(known) < len(shape):
        raise ValueError(
            f"{name} does not say how many rows it has: pass target or where, of the shape of its rows"
        )
    return np.broadcast_to(np.zeros((), block_dtype(blocks)), known)


def block_dtype(blocks: RowBlocks) -> np.dtype[Any]:
    """Return the dtype of the blocks in native byte order."""
    return np.dtype(blocks.dtype).newbyteorder("=")


def with_last_axis(blocks: RowBlocks, axis: int, name: str) -> RowBlocks:
    """Return blocks of rows as they are, or raise for a class axis, which they have none of."""
    if operator.index(axis) not in (-1, len(blocks.row_shape)):
        raise ValueError(
            f"axis does not apply to blocks of rows, which have their classes along the last axis: got {axis} for "
            f"{name}, expected -1"
        )
    return blocks


def blocks_in_turn(blocks: RowBlocks, memory: int | None) -> Iterator[Block]:
    """Return the blocks for a caller that needs none when it requests the next: a product has larger ones then."""
    if hasattr(type(blocks), "row_blocks_in_turn"):
        in_turn: Any = blocks
        blocks_of: Iterator[Block] = in_turn.row_blocks_in_turn(memory)
        return blocks_of
    return blocks.row_blocks(memory)


class FirstBlocks:
    """Blocks of rows of which only the first along the last axis of the rows are given, `length` of `whole`."""

    def __init__(self, blocks: RowBlocks, length: int, whole: int, name: str) -> None:
        self._blocks, self._length, self._whole, self._name = blocks, length, whole, name
        self.row_shape = (*blocks.row_shape[:-1], length)
        self.classes, self.dtype = blocks.classes, blocks.dtype

    def row_blocks(self, memory: int | None = None, start: int = 0) -> Iterator[Block]:
        """Yield the rows that are left."""
        return self._left(self._blocks.row_blocks(memory), start)

    def row_blocks_in_turn(self, memory: int | None = None, start: int = 0) -> Iterator[Block]:
        """Yield the rows that are left, in blocks that are valid until the next one."""
        return self._left(blocks_in_turn(self._blocks, memory), start)

    def _left(self, blocks: Iterator[Block], start: int) -> Iterator[Block]:
        given = kept = 0
        for block in blocks:
            *before, last = checked_block(block, self._blocks, self._name).index
            given += block.rows
            if last.stop > self._whole:
                raise ValueError(
                    f"{self._name} has more rows than target or where: got a block of rows up to {last.stop}, expected "
                    f"{self._whole} along the axis before the classes"
                )
            left = range(last.start, min(last.stop, self._length))
            if not left:
                continue
            whole = Block((*before, slice(left.start, left.stop)), block.values[..., : len(left), :])
            kept += whole.rows
            yield from _without_first(whole, start)
            start = max(start - whole.rows, 0)
        if given * self._length != kept * self._whole:
            raise ValueError(
                f"the blocks of {self._name} lack rows: got {given} rows, expected {self._whole} along the axis before "
                "the classes, as target or where have"
            )


def checked_block(block: Block, blocks: RowBlocks, name: str) -> Block:
    """Return a block, or raise where it is not made as `Block` says, or not of what its source says."""
    index: Any = block.index  # of any class: the source is not ours
    values: Any = block.values
    if not (
        isinstance(index, tuple)
        and len(index) == len(blocks.row_shape)
        and all(isinstance(cut, slice) and cut.step in (None, 1) for cut in index)
        and all(isinstance(end, int | np.integer) for cut in index for end in (cut.start, cut.stop))
        and all(0 <= cut.start <= cut.stop for cut in index)
    ):
        raise ValueError(
            f"a block of {name} has an invalid index: got {index!r}, expected a tuple of {len(blocks.row_shape)} "
            "slices with a start and a stop, one for each axis of the rows"
        )
    if not isinstance(values, np.ndarray):
        raise TypeError(
            f"a block of {name} has values that are not a numpy.ndarray: got {type(values).__name__}"
        )
    expected = (*(cut.stop - cut.start for cut in index), blocks.classes)
    if values.shape != expected:
        raise ValueError(
            f"a block of {name} has the wrong shape: got {values.shape}, expected {expected}, the lengths of its index "
            "and the classes"
        )
    if values.dtype.newbyteorder("=") != block_dtype(blocks):
        raise TypeError(
            f"a block of {name} has the wrong dtype: got {values.dtype}, expected {block_dtype(blocks)}, as "
            f"{name}.dtype says"
        )
    return block


def _without_first(block: Block, start: int) -> Iterator[Block]:
    """Yield a block without its first rows, in as many blocks as that takes."""
    lengths = [cut.stop - cut.start for cut in block.index]
    for index in cut_rows(lengths, block.rows, start=start):
        place = tuple(
            slice(own.start + cut.start, own.start + cut.stop)
            for own, cut in zip(block.index, index, strict=True)
        )
        yield Block(place, block.values[index])


def class_axis(x: NDArray[Any], axis: int, name: str) -> int:
    """Return the axis of the classes, counted from the first, or raise where an array does not have it."""
    index = as_integer(axis, "axis")
    if x.ndim == 0:
        raise ValueError(f"{name} has no axis of classes: got shape (), expected at least one dimension")
    at = index + (x.ndim if index < 0 else 0)
    if not 0 <= at < x.ndim:
        raise IndexError(
            f"axis is out of range: got {axis}, expected {-x.ndim} to {x.ndim - 1} for {name} of {x.ndim} dimensions"
        )
    return at


def as_upstream(grad_output: ArrayInput | None, rows: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the upstream gradient, a number or one for each of `rows`, as float64; without it, 1."""
    if grad_output is None:
        return np.ones(())
    upstream = as_array(grad_output, "grad_output")
    if upstream.dtype.kind not in "iu" and float_name(upstream.dtype) is None:
        raise TypeError(
            f"grad_output must hold real numbers: got dtype {upstream.dtype}, expected float16, bfloat16, float32, "
            "float64 or an integer dtype"
        )
    if upstream.shape not in ((), rows):
        each = f", or {rows}, one number for each row" if rows else ""
        raise ValueError(f"grad_output has the wrong shape: got {upstream.shape}, expected (){each}")
    return upstream.astype(np.float64)


def shifted(
    logits: Logits,
    target: ArrayInput | None,
    where: ArrayInput | None,
    axis: int,
    shift: int,
    name: str = "logits",
    lengths_of: Iterable[Logits | None] = (),
) -> tuple[NDArray[Any] | FirstBlocks, NDArray[Any] | None, NDArray[Any] | None]:
    """Return views in which position i of the logits goes with position i + `shift` of the target and the mask.

    The positions lie along the axis before the classes. Blocks that do not say how many rows they have get the
    length of the target, of the mask or of an array among `lengths_of`.
    """
    beside = [
        None if each is None else as_array(each, key) for each, key in ((target, "target"), (where, "where"))
    ]
    if has_row_blocks(logits):
        logits = with_last_axis(logits, axis, name)
        others = [
            None if each is None or has_row_blocks(each) else as_array(each, "target") for each in lengths_of
        ]
        # The first length matters where the positions lie along the first axis.
        x = stand_in(logits, (*beside, *others), name, 0 if len(logits.row_shape) > 1 else None)
    else:
        x = as_array(logits, name)
    at = class_axis(x, axis, name)
    if at == 0:
        raise ValueError(
            f"shift needs an axis of positions before the class axis: got {name} of shape {x.shape} with classes along "
            f"axis {at}, expected for example (batch, positions, classes)"
        )
    rows = x.shape[:at] + x.shape[at + 1 :]
    before, after = (slice(None),) * (at - 1), max(x.shape[at - 1] - shift, 0)

    def tail(array: NDArray[Any] | None, name: str) -> NDArray[Any] | None:
        if array is not None and array.shape != rows:
            raise ValueError(
                f"{name} has the wrong shape: got {array.shape}, expected {rows}, that of the logits without the class "
                f"axis; {_shape_fix(name, array.shape, x.shape, at)}"
            )
        return None if array is None else array[(*before, slice(shift, None))]

    later = tail(beside[0], "target"), tail(beside[1], "where")
    if has_row_blocks(logits):
        return FirstBlocks(logits, after, x.shape[at - 1], name), *later
    return x[(*before, slice(0, after))], *later


def _shape_fix(name: str, got: tuple[int, ...], logits: tuple[int, ...], axis: int) -> str:
    """Suggest a fix for an array whose shape is not that of the logits without their class axis."""
    fitting = [f"axis={a}" for a in range(len(logits)) if logits[:a] + logits[a + 1 :] == got]
    if fitting:
        return f"with {' or '.join(fitting)} it would fit: pass the one along which the classes lie"
    hint = _core.shape_hint(name, got, logits[:axis] + logits[axis + 1 :])
    return hint or "shift= does the shifting, so pass both unshifted"
