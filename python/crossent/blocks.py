"""Logits in blocks of rows: a protocol for logits that need not fit into memory.

`score`, `Scorer.update`, `compare`, `Comparer.update` and `fit_temperature` take a `RowBlocks` wherever they take an
array of logits. Files are read in this way on the command line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["ArrayBlocks", "Block", "RowBlocks", "cut_rows", "rows_per_block"]

Index: TypeAlias = tuple[slice, ...]

BLOCK_BYTES = 16 << 20
"""The most bytes of a block: a larger one has left the cache before it is scored, and is read from memory twice."""

MEMORY = 64 << 20
"""How many bytes the blocks that are alive at one time take, about, unless the caller says otherwise."""

# What scoring needs for each row besides its logits: its target, loss, prediction, flags and their sums.
_BYTES_PER_ROW = 64


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows of logits, and their place among all rows.

    Parameters
    ----------
    index : tuple of slice
        The position of the rows: for each axis of the rows a slice with a start and a stop, and no step. It takes the
        targets of the rows out of an array of all targets.
    values : numpy.ndarray of shape (..., C)
        The logits: an axis for each slice of `index`, of its length, and the classes along the last axis. float16,
        bfloat16, float32 or float64, of any memory layout.
    target : numpy.ndarray of int, optional
        The targets of the rows, where the same source gives these too.
    clamped : numpy.ndarray of bool, optional
        Where the source gives the target a smaller loss than it had, because it stores none larger.

    See Also
    --------
    RowBlocks : Gives them.

    Examples
    --------
    >>> import numpy as np
    >>> from crossent.blocks import Block
    >>> Block((slice(0, 2), slice(3, 6)), np.zeros((2, 3, 10))).rows
    6
    """

    index: Index
    values: NDArray[Any]
    target: NDArray[Any] | None = None
    clamped: NDArray[np.bool_] | None = None

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return math.prod(cut.stop - cut.start for cut in self.index)


class RowBlocks(Protocol):
    """Rows of logits that come a block at a time: from a file, a product of matrices, an array in pieces.

    An object needs no base class, only these members. A block is computed or read when it is requested, so that the
    whole, which may be larger than memory, never exists.

    See Also
    --------
    ArrayBlocks : An array as blocks of rows.
    crossent.LinearLogits : A product of matrices as blocks of rows.
    cut_rows : Cuts the rows into the indices of blocks.

    Notes
    -----
    Results do not depend on how the rows are cut into blocks, as long as the numbers of a row do not. Products of
    matrices in floating point may: a library for them may round a row of a small block in another way than one of a
    large block. Blocks of one fixed size, with the last one filled up, avoid that, and `crossent.LinearLogits` does so.

    Examples
    --------
    Logits that are the product of hidden states and an output matrix, of which no more than a block is there at a
    time:

    >>> import numpy as np
    >>> import crossent
    >>> from crossent.blocks import Block, cut_rows, rows_per_block
    >>> class Product:
    ...     def __init__(self, hidden, weight):
    ...         self.hidden, self.weight = hidden, weight
    ...         self.row_shape, self.classes = hidden.shape[:-1], len(weight)
    ...         self.dtype = hidden.dtype
    ...     def row_blocks(self, memory=None, start=0):
    ...         most = rows_per_block(memory, self.classes * self.dtype.itemsize)
    ...         for index in cut_rows(self.row_shape, most, start=start):
    ...             yield Block(index, self.hidden[index] @ self.weight.T)
    >>> rng = np.random.default_rng(0)
    >>> hidden, weight = rng.normal(size=(3, 100, 8)), rng.normal(size=(50, 8))
    >>> target = rng.integers(50, size=(3, 100))
    >>> scorer = crossent.Scorer()
    >>> scorer.update(Product(hidden, weight), target)
    >>> scorer.result().count, round(scorer.result().mean, 4)
    (300, 6.9621)
    """

    @property
    def row_shape(self) -> tuple[int | None, ...]:
        """The shape of the rows, which is that of the logits without the class axis, and that of the targets.

        The first length is None where only reading to the end shows it.
        """

    @property
    def classes(self) -> int:
        """The number of classes."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the blocks, but for the byte order."""

    def row_blocks(self, memory: int | None = None, start: int = 0) -> Iterator[Block]:
        """Yield all rows once, in blocks; each call begins anew.

        Parameters
        ----------
        memory : int, optional
            About how many bytes all that is alive at one time may take. A block may be read while the one before is
            scored, so that there are two: see `rows_per_block`. By default the object decides.
        start : int, default 0
            How many rows to leave out from the beginning, to continue after an interruption.

        Yields
        ------
        Block
            Some rows. Its arrays are valid until the next block but one is requested, so that two buffers are enough.
            The order of the rows does not depend on `memory`.
        """


class ArrayBlocks:
    """An array of logits as blocks of rows, which are views of it.

    Parameters
    ----------
    array : numpy.ndarray
        The logits.
    axis : int, default -1
        Their class axis.

    See Also
    --------
    RowBlocks : The protocol.

    Examples
    --------
    >>> import numpy as np
    >>> from crossent.blocks import ArrayBlocks
    >>> blocks = ArrayBlocks(np.zeros((4, 10, 25), np.float32), axis=1)
    >>> blocks.row_shape, blocks.classes
    ((4, 25), 10)
    >>> [block.values.shape for block in blocks.row_blocks(memory=9000)]
    [(1, 25, 10), (1, 25, 10), (1, 25, 10), (1, 25, 10)]
    """

    def __init__(self, array: NDArray[Any], axis: int = -1) -> None:
        self._rows = np.moveaxis(array, axis, -1)
        self.row_shape: tuple[int, ...] = self._rows.shape[:-1]
        self.classes: int = self._rows.shape[-1]
        self.dtype: np.dtype[Any] = array.dtype

    def row_blocks(self, memory: int | None = None, start: int = 0) -> Iterator[Block]:
        """Yield the rows in C order; by default in one block, since a view takes no memory.

        Parameters
        ----------
        memory, start
            As for `RowBlocks`.

        Yields
        ------
        Block
            Views of some rows.
        """
        most = math.prod(self.row_shape)
        if memory is not None:
            most = rows_per_block(memory, self.classes * self.dtype.itemsize)
        for index in cut_rows(self.row_shape, most, start=start):
            yield self.at(index)

    def at(self, index: Index) -> Block:
        """Return the rows at an index.

        Parameters
        ----------
        index : tuple of slice
            A slice for each axis of the rows.

        Returns
        -------
        Block
            Views of these rows.
        """
        place: Any = (*index, ...)  # of an array without axes of rows, an array too
        return Block(index, self._rows[place])


def rows_per_block(memory: int | None, row_bytes: int) -> int:
    """Return how many rows a block may have, so that all that is alive at one time takes about `memory` bytes.

    There are two blocks at a time: one is scored while the next is read. ::

        min(memory / 2 / (2 row_bytes + 64), 16 MiB / row_bytes), and at least 1

    Parameters
    ----------
    memory : int or None
        The bytes; None for 64 MiB.
    row_bytes : int
        How many bytes the logits of a row take.

    Returns
    -------
    int
        The number of rows: 1 at least, whatever a row takes.

    Examples
    --------
    >>> from crossent.blocks import rows_per_block
    >>> rows_per_block(None, 50257 * 4), rows_per_block(1 << 20, 50257 * 4)
    (83, 1)
    """
    memory = MEMORY if memory is None else memory
    rows = memory // 2 // (2 * row_bytes + _BYTES_PER_ROW)
    return max(min(rows, BLOCK_BYTES // max(row_bytes, 1)), 1)


def cut_rows(row_shape: Sequence[int], most: int, *, start: int = 0) -> Iterator[Index]:
    """Cut rows into the indices of blocks that follow each other in C order.

    Parameters
    ----------
    row_shape : sequence of int
        The shape of the rows.
    most : int
        How many rows a block may have.
    start : int, default 0
        How many rows to leave out from the beginning.

    Yields
    ------
    tuple of slice
        For each axis a slice with a start and a stop. Each row is in one block.

    Examples
    --------
    >>> from crossent.blocks import cut_rows
    >>> list(cut_rows((2, 5), 3, start=7))
    [(slice(1, 2, None), slice(2, 5, None))]
    """
    yield from cut_along(range(len(row_shape)), row_shape, most, start=start)


def cut_along(
    axes: Sequence[int],
    row_shape: Sequence[int],
    most: int,
    *,
    start: int = 0,
    at_least: Callable[[int, int], int] = lambda _axis, _rows: 1,
) -> Iterator[Index]:
    """Cut rows as `cut_rows` does, in the order of `axes`: the one along which neighbours lie farthest apart first.

    An axis that is not among them is never cut, even if a block is then larger than `most`. `at_least` gives how many
    positions of an axis a block has, even if it is then larger, from the axis and the number of rows at each
    position.
    """
    index = [slice(0, length) for length in row_shape]

    def cut(depth: int, rows: int, skip: int) -> Iterator[Index]:
        if skip == 0 and (depth == len(axes) or rows <= most):
            yield tuple(index)
            return
        axis = axes[depth]
        length = row_shape[axis]
        inner = rows // length
        first, skip = divmod(skip, inner)
        if skip:
            index[axis] = slice(first, first + 1)
            yield from cut(depth + 1, inner, skip)
            first += 1
        step = max(most // inner, at_least(axis, inner), 1)
        for begin in range(first, length, step):
            index[axis] = slice(begin, min(begin + step, length))
            yield from cut(depth + 1, inner, 0) if step == 1 else iter((tuple(index),))
        index[axis] = slice(0, length)

    rows = math.prod(row_shape)
    if start < 0:
        raise ValueError(f"start must not be negative: got {start}")
    if start < rows:
        yield from cut(0, rows, start)
