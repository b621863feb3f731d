"""How an array that lies in a file is cut into blocks of rows that are read in few pieces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from crossent.blocks import BLOCK_BYTES, Index, cut_along

PAGE_BYTES = 4096
"""How much of a file the system reads at least, and so the least that is worth a call of its own."""


def cut_array(
    array: NDArray[Any],
    axis: int | None,
    *,
    block_bytes: int = BLOCK_BYTES,
    start: int = 0,
    in_one_piece: bool = False,
    most_bytes: int | None = None,
) -> Iterator[Index]:
    """Cut an array into blocks of whole rows, where a row runs along `axis` (not negative).

    Yields one index for each block, a slice for every axis: `array[index]` is a view of about `block_bytes` bytes,
    and all of them together hold each row once. The cuts run along the axes with the largest strides, so that a block
    is near to one range of the file; where the rows lie side by side (`axis` is not the fastest), a block
    takes at least one page of them, though it be larger, up to `most_bytes`. Without an axis, each element is a row.

    The blocks follow each other in one order of the rows, whatever `block_bytes` is: `start` leaves out as many rows
    from its beginning. Blocks `in_one_piece` are cut along the axes slower than the rows alone, and may be larger.
    """
    if array.size == 0:
        return
    rows = [a for a in range(array.ndim) if a != axis]
    slowest = sorted(range(array.ndim), key=lambda a: -abs(array.strides[a]))
    if axis is not None:
        at = slowest.index(axis)
        slowest = slowest[:at] + ([] if in_one_piece else slowest[at + 1 :])
    row_bytes = array.itemsize * (1 if axis is None else array.shape[axis])

    def page(place: int, inner: int) -> int:
        count = 1 if in_one_piece else PAGE_BYTES // max(abs(array.strides[rows[place]]), 1)
        return count if most_bytes is None else min(count, most_bytes // (inner * row_bytes))

    cuts = cut_along(
        [rows.index(a) for a in slowest],
        [array.shape[a] for a in rows],
        block_bytes // row_bytes,
        start=start,
        at_least=page,
    )
    for index in cuts:
        yield index if axis is None else (*index[:axis], slice(0, array.shape[axis]), *index[axis:])
