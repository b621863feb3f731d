"""Blocks of rows: how an array is cut into them, and how large they may be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

BLOCK_BYTES = 16 << 20
"""How much of an array one block of `row_blocks` holds, about."""

MEMORY = 64 << 20
"""How much memory reading and scoring may take together, about, unless the caller says otherwise."""

PAGE_BYTES = 4096
"""How much of a file the system reads at least, and so the least that is worth a call of its own."""

# What scoring needs for each row besides its logits: its target, loss, prediction, flags and their sums.
_BYTES_PER_ROW = 64
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgt]?)(?:i?b)?", re.IGNORECASE)


def parse_bytes(text: str) -> int:
    """Read a number of bytes: 4096, 64K, 256M, 1.5G or 1GiB; the units are powers of 1024."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a number of bytes; write it as 256M or 1G")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def rows_per_block(memory: int, row_bytes: int) -> int:
    """How many rows fit in a block, so that all that is alive at once takes about `memory` bytes.

    There are two blocks at a time: one is scored while the other is read. At least one row, whatever it takes; and no
    more than `BLOCK_BYTES`, since a block that has left the cache before it is scored is read from memory once more.
    """
    rows = memory // 2 // (2 * row_bytes + _BYTES_PER_ROW)
    return max(min(rows, BLOCK_BYTES // max(row_bytes, 1)), 1)


def row_blocks(
    array: NDArray[Any],
    axis: int | None,
    *,
    block_bytes: int = BLOCK_BYTES,
    start: int = 0,
    in_one_piece: bool = False,
    most_bytes: int | None = None,
) -> Iterator[tuple[slice, ...]]:
    """Cut an array into blocks of whole rows, where a row runs along `axis` (not negative).

    Yields one index for each block, a slice for every axis: `array[index]` is a view of about `block_bytes` bytes,
    and all of them together hold each row once. The cuts run along the axes with the largest strides, so that a block
    is near to one stretch of the file; where the rows lie side by side (`axis` is not the fastest), a block
    takes at least one page of them, though it be larger, up to `most_bytes`. Without an axis, each element is a row.

    The blocks follow each other in one order of the rows, whatever `block_bytes` is: `start` leaves out as many rows
    from its beginning. Blocks `in_one_piece` are cut along the axes slower than the rows alone, and may be larger.
    """
    order = sorted(range(array.ndim), key=lambda a: -abs(array.strides[a]))
    if axis is not None:
        order = order[: order.index(axis)] + ([] if in_one_piece else order[order.index(axis) + 1 :])
    index = [slice(None)] * array.ndim

    def cut(depth: int, nbytes: int, rows: int, skip: int) -> Iterator[tuple[slice, ...]]:
        if skip == 0 and (depth == len(order) or nbytes <= block_bytes):
            yield tuple(index)
            return
        here = order[depth]
        length = array.shape[here]
        each, inner = nbytes // length, rows // length
        first, skip = divmod(skip, inner)
        if skip:
            index[here] = slice(first, first + 1)
            yield from cut(depth + 1, each, inner, skip)
            first += 1
        page = 1 if in_one_piece else PAGE_BYTES // max(abs(array.strides[here]), 1)
        if most_bytes is not None:
            page = min(page, most_bytes // max(each, 1))
        step = max(block_bytes // max(each, 1), page, 1)
        for begin in range(first, length, step):
            end = min(begin + step, length)
            index[here] = slice(begin, end)
            yield from cut(depth + 1, each, inner, 0) if step == 1 else iter((tuple(index),))
        index[here] = slice(None)

    rows = array.size if axis is None else array.size // max(array.shape[axis], 1)
    if array.size and start < rows:
        yield from cut(0, array.nbytes, rows, start)
