"""Logits that are a product of hidden states and an output matrix, of which no more than a block exists at a time.

The product is NumPy's. What is done to make the bits of a row independent of how it is batched:

* Rows are cut at multiples of one number of rows from row 0 on, so that a row stands at the same place of the same
  product in every run, and each product has a multiple of 64 rows, the last one filled up with zeros.
* The classes of a product are a multiple of 64 too: OpenBLAS computes the rest of its tiles with other kernels, whose
  place depends on the shape and the threads.
* Where the sum over the features is long enough to be cut, their number is a multiple of 64 as well: with several
  threads OpenBLAS cuts an odd number in another place than with one.

With its kernels for AVX-512 a row then has the same bits in blocks of any size and on any number of threads. Those for
Haswell take 12 rows at a time in float32, and sum the terms of the rest in another order.
"""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from crossent import _core
from crossent._arguments import as_count
from crossent._interop import ArrayInput, as_array, float_name, is_lazy
from crossent.blocks import BLOCK_BYTES, Block, Index

__all__ = ["LinearLogits", "Product"]

BLOCK = 128 << 20
"""How many bytes blocks of logits and all other buffers take, unless the caller says otherwise."""

UNIT = 64
"""Rows, classes and features of a product are multiples of this."""

_ENOUGH_ROWS = 1024
"""Rows of a block beyond which a product becomes hardly faster."""

_WHOLE_SUM = 256
"""The most features whose sum no BLAS library cuts into parts."""

_MOST_INDICES = 32
"""The most arrays of indices that NumPy takes at a time."""

_GATHERED = 1 << 18
"""How many features of rows that do not follow each other are copied at a time."""

_CACHED = 1 << 16
"""How many logits are changed at a time: they stay in the cache."""


class Lazy(Protocol):
    """An array that is read when a part is requested: its parts are NumPy arrays."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""

    @property
    def dtype(self) -> Any:
        """The dtype of its parts."""

    def __getitem__(self, index: Any, /) -> Any: ...


Matrix: TypeAlias = NDArray[Any] | Lazy


def up(count: int) -> int:
    """Return the next multiple of `UNIT`."""
    return -(-count // UNIT) * UNIT


@dataclass(frozen=True, slots=True)
class Plan:
    """How a product is cut, so that its buffers fit into a number of bytes."""

    rows: int
    """The rows of a block: a multiple of `UNIT`."""

    classes: int
    """How many classes of the matrix are converted at a time; 0 where it is read in place."""


class Product:
    """The product of rows and a matrix, its arguments checked, computed into the caller's buffers."""

    def __init__(
        self,
        input: object,
        linear_weight: object,
        linear_bias: object,
        *,
        softcap: float | None,
        scale: float = 1.0,
        pad: bool = False,
    ) -> None:
        self.input = _matrix(input, "input")
        self.weight = _matrix(linear_weight, "linear_weight")
        bias = None if linear_bias is None else _as_floats(linear_bias, "linear_bias")
        if not self.input.shape:
            raise ValueError("input has no axis of features: got shape (), expected (..., features)")
        if len(self.weight.shape) != 2:
            raise ValueError(
                f"linear_weight has the wrong shape: got {tuple(self.weight.shape)}, expected (classes, features), a "
                "row of weights for each class"
            )
        self.classes, self.features = map(int, self.weight.shape)
        if self.input.shape[-1] != self.features:
            raise ValueError(_misfit(self.input.shape, self.weight.shape))
        if bias is not None and bias.shape != (self.classes,):
            raise ValueError(
                f"linear_bias has the wrong shape: got {bias.shape}, expected {(self.classes,)}, a number for each "
                "class, a row of linear_weight"
            )
        self.softcap = None if softcap is None else as_number(softcap, "softcap")
        if self.softcap is not None and not 0.0 < self.softcap < math.inf:
            raise ValueError(f"softcap is out of range: got {softcap}, expected a positive number or None")
        self.scale = as_number(scale, "scale")
        if not math.isfinite(self.scale):
            raise ValueError(f"scale is out of range: got {scale}, expected a finite number")
        given = [self.input, self.weight, *([] if bias is None else [bias])]
        is_double = any(float_name(np.dtype(each.dtype).newbyteorder("=")) == "float64" for each in given)
        self.dtype: np.dtype[Any] = np.dtype(np.float64 if is_double else np.float32)
        # What the product's dtype does not hold would be 0 or infinite in it.
        for key, value in (("softcap", self.softcap), ("scale", self.scale or None)):
            limits = np.finfo(self.dtype)
            if value is not None and not limits.tiny <= abs(value) <= limits.max:
                raise ValueError(
                    f"{key} is out of range: got {value:g}, expected a number that {self.dtype} holds, the dtype of "
                    "the product"
                )
        self.bias = None if bias is None else bias.astype(self.dtype, copy=False)
        # Zeros in place of the features that lack do not change a sum. Where the features are no sum but a side of a
        # product, as in gradients, `pad` says so.
        self.padded = up(self.features) if pad or self.features > _WHOLE_SUM else self.features
        self._in_place = (
            isinstance(self.weight, np.ndarray)
            and self.weight.dtype == self.dtype
            and self.padded == self.features
            and _is_blas_matrix(self.weight)
        )

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of the rows."""
        return tuple(map(int, self.input.shape[:-1]))

    @property
    def rows(self) -> int:
        """The number of rows."""
        return math.prod(self.row_shape)

    def plan(self, budget: int, *, buffers: int = 1, hidden: int = 1) -> Plan:
        """Cut the product so that its buffers take about `budget` bytes.

        `buffers` is how many numbers a block has for each logit, and `hidden` how many for each feature of its rows.
        How many rows a block has does not depend on how many there are.
        """
        size = self.dtype.itemsize
        classes, row, weights = 0, up(self.classes) * size, self.padded * size
        left = budget - UNIT * weights
        if not self._in_place:
            classes = max(up(self.classes), UNIT)
            if classes * weights > budget // 2:
                classes = max(budget // 8 // max(weights, 1) // UNIT * UNIT, UNIT)
            left = budget - classes * weights
        rows = left // max(buffers * row + hidden * weights, 1) // UNIT * UNIT
        enough = max(_ENOUGH_ROWS, BLOCK_BYTES // max(row, 1) // UNIT * UNIT)
        return Plan(max(min(rows, enough), UNIT), classes)

    def operands(self, plan: Plan) -> Operands:
        """Return the matrix as what rows are multiplied with."""
        return Operands(self, plan.classes)

    def buffer(self, rows: int) -> NDArray[Any]:
        """Return a buffer for the logits of some rows."""
        return _core.empty((rows, up(self.classes)), self.dtype)

    def hidden_buffer(self, rows: int) -> NDArray[Any]:
        """Return a buffer for the hidden states of some rows."""
        return np.empty((rows, self.padded), self.dtype)

    def read(self, begin: int, end: int, hidden: NDArray[Any]) -> NDArray[Any]:
        """Read rows into a buffer, and return the part of it that they fill, with zeros up to a multiple of `UNIT`."""
        at = 0
        with np.errstate(all="ignore"):
            for index in flat_range(self.row_shape, begin, end):
                count = math.prod(cut.stop - cut.start for cut in index)
                part = _part(self.input, index, "input").reshape(count, self.features)
                convert(part, hidden[at : at + count, : self.features])
                at += count
        return self._filled_up(hidden, at)

    def gather(self, numbers: NDArray[np.int64], hidden: NDArray[Any]) -> NDArray[Any]:
        """Read rows by their ascending numbers into a buffer, as `read` does."""
        first, last = int(numbers[0]), int(numbers[-1])
        if last - first + 1 == numbers.size:
            return self.read(first, last + 1, hidden)
        if isinstance(self.input, np.ndarray) and self.input.ndim <= _MOST_INDICES:
            # Indexing makes a copy: some rows at a time.
            step = max(_GATHERED // max(self.features, 1), 1)
            with np.errstate(all="ignore"):
                for at in range(0, numbers.size, step):
                    some = numbers[at : at + step]
                    part = self.input[np.unravel_index(some, self.row_shape)]
                    convert(part, hidden[at : at + some.size, : self.features])
            return self._filled_up(hidden, numbers.size)
        # Rows that follow each other are read at once.
        starts = np.flatnonzero(np.diff(numbers, prepend=first - 2) != 1)
        for begin, end in zip(starts, [*starts[1:], numbers.size], strict=True):
            self.read(int(numbers[begin]), int(numbers[end - 1]) + 1, hidden[begin:])
        return self._filled_up(hidden, numbers.size)

    def _filled_up(self, hidden: NDArray[Any], count: int) -> NDArray[Any]:
        whole = hidden[: up(count)]
        whole[count:] = 0.0
        whole[:, self.features :] = 0.0
        return whole

    def logits(self, hidden: NDArray[Any], count: int, operands: Operands, out: NDArray[Any]) -> NDArray[Any]:
        """Compute the logits of rows that were read into a buffer of their own, into a part of another."""
        with np.errstate(all="ignore"):
            for first, matrix in operands:
                np.matmul(hidden, matrix.T, out=out[: len(hidden), first : first + len(matrix)])
            x = out[:count, : self.classes]
            self._finish(x)
        return x

    def _finish(self, x: NDArray[Any]) -> None:
        """Add the bias, scale, and cap, some logits at a time."""
        if self.bias is None and self.scale == 1.0 and self.softcap is None:
            return
        width = max(min(self.classes, _CACHED), 1)
        height = max(_CACHED // width, 1)
        for row in range(0, len(x), height):
            for column in range(0, self.classes, width):
                part = x[row : row + height, column : column + width]
                if self.bias is not None:
                    part += self.bias[column : column + width]
                if self.scale != 1.0:
                    part *= self.dtype.type(self.scale)
                if self.softcap is not None:
                    cap(part, self.softcap)


class Operands:
    """The matrix, classes by features, in pieces of a multiple of `UNIT` classes, of the dtype of the product.

    Iteration yields the first class of a piece and the piece. It is in place, or valid until the next one.
    """

    def __init__(self, product: Product, classes: int) -> None:
        self._product, self._step = product, classes
        weight = product.weight
        size, features = product.classes, product.features
        if not classes:
            assert isinstance(weight, np.ndarray)
            whole = size // UNIT * UNIT
            self._pieces = [(0, weight[:whole])] if whole else []
            if whole < size:
                last = np.zeros((UNIT, features), product.dtype)
                last[: size - whole] = weight[whole:]
                self._pieces.append((whole, last))
            return
        self._buffer = _core.empty((min(classes, up(size)), product.padded), product.dtype)
        self._buffer[:, features:] = 0.0
        self._pieces = []
        if classes >= size:
            self._pieces = [(0, self._filled(0, size))]

    def __iter__(self) -> Iterator[tuple[int, NDArray[Any]]]:
        if self._pieces or not self._step:
            yield from self._pieces
            return
        for first in range(0, self._product.classes, self._step):
            yield first, self._filled(first, min(self._step, self._product.classes - first))

    def _filled(self, first: int, count: int) -> NDArray[Any]:
        weight, features = self._product.weight, self._product.features
        with np.errstate(all="ignore"):
            part = _part(weight, (slice(first, first + count),), "linear_weight")
            convert(part, self._buffer[:count, :features])
        piece = self._buffer[: up(count)]
        piece[count:] = 0.0
        return piece


def convert(values: NDArray[Any], out: NDArray[Any]) -> None:
    """Copy a matrix into one of another dtype. NumPy takes two to three times as long for float16 to float32.

    The bits of a number of float16, shifted by the 13 that the significand gains, are as float32 that number over
    2^112, the difference of the exponents' biases. The product is exact, for subnormal numbers too. Infinities and nan
    are left to NumPy.
    """
    if values.dtype != np.float16 or out.dtype != np.float32:
        out[...] = values
        return
    height = max(_CACHED // max(values.shape[1], 1), 1)
    for row in range(0, len(values), height):
        half, to = values[row : row + height].view(np.int16), out[row : row + height]
        if half.size and (half & 0x7FFF).max() >= 0x7C00:
            to[...] = values[row : row + height]
            continue
        bits = half.astype(np.int32)
        bits <<= 13
        bits &= -0x70002000  # the sign, and what lies from bit 13 to 27
        np.multiply(bits.view(np.float32), np.float32(2.0**112), out=to)


def cap(x: NDArray[Any], softcap: float) -> None:
    """Replace x by c tanh(x / c). -inf stays: it is a class that is masked out."""
    c = x.dtype.type(softcap)
    masked = None
    if x.size and not x.min() > -np.inf:
        masked = np.isneginf(x)
    x /= c
    np.tanh(x, out=x)
    x *= c
    if masked is not None:
        x[masked] = -np.inf


def as_number(value: object, name: str) -> float:
    """Return an argument as a float, or raise."""
    if isinstance(value, bool | np.bool_ | str | bytes):
        raise TypeError(f"{name} must be a number: got {value!r}")
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number: got {type(value).__name__}") from None
    except OverflowError:
        raise ValueError(f"{name} is out of range: got {value}, expected one that float64 holds") from None


def flat_range(shape: tuple[int, ...], begin: int, end: int) -> Iterator[Index]:
    """Yield the indices of the rows from `begin` up to `end` in C order, as slices for each axis."""
    if begin >= end:
        return
    if len(shape) < 2:
        yield (slice(begin, end),) * len(shape)
        return
    inner = math.prod(shape[1:])
    (first, skip), (last, rest) = divmod(begin, inner), divmod(end, inner)
    if first == last:
        for index in flat_range(shape[1:], skip, rest):
            yield (slice(first, first + 1), *index)
        return
    if skip:
        for index in flat_range(shape[1:], skip, inner):
            yield (slice(first, first + 1), *index)
        first += 1
    if first < last:
        yield (slice(first, last), *(slice(0, length) for length in shape[1:]))
    for index in flat_range(shape[1:], 0, rest):
        yield (slice(last, last + 1), *index)


def _as_floats(values: object, name: str) -> NDArray[Any]:
    array = as_array(values, name)
    _check_floating(array.dtype, name)
    return array


def _check_floating(dtype: np.dtype[Any], name: str) -> None:
    if float_name(dtype.newbyteorder("=")) is None:
        # It raises, with a fix that depends on the dtype.
        _core.check_targets(np.empty((0, 1), dtype), None, -100, None, -1, name)
        raise TypeError(
            f"{name} must be floating: got dtype {dtype}, expected float16, bfloat16, float32 or float64"
        )


def _matrix(values: object, name: str) -> Matrix:
    """Return an array-like as an array, and one that is read part by part as it is."""
    if not is_lazy(values):
        return _as_floats(values, name)
    lazy: Any = values
    _check_floating(np.dtype(lazy.dtype), name)
    return LazyRows(lazy, tuple(map(int, lazy.shape)), np.dtype(lazy.dtype))


def _part(matrix: Matrix, index: Index, name: str) -> NDArray[Any]:
    """Return a part of a matrix; that of one which is read must have the shape that it ought to have."""
    if isinstance(matrix, np.ndarray):
        place: Any = (*index, ...)
        return np.asarray(matrix[place])
    part = _as_floats(matrix[index], f"a part of {name}")
    expected = (*(cut.stop - cut.start for cut in index), *matrix.shape[len(index) :])
    if part.shape != expected:
        raise ValueError(f"a part of {name} has the wrong shape: got {part.shape}, expected {expected}")
    return part


def _misfit(input: tuple[int, ...], weight: tuple[int, ...]) -> str:
    """Say how the shapes of the two matrices do not fit each other."""
    fix = "; are they of one model?"
    if weight[0] == input[-1]:
        fix = "; it looks transposed: pass linear_weight.T"
    elif len(input) > 1 and input[-2] == weight[1]:
        fix = "; the features of input do not lie along its last axis: pass numpy.swapaxes(input, -1, -2)"
    return (
        f"linear_weight does not fit input: got shape {tuple(weight)}, expected (classes, {input[-1]}), with as many "
        f"features as input of shape {tuple(input)}{fix}"
    )


def _is_blas_matrix(matrix: NDArray[Any]) -> bool:
    """Return whether BLAS can read a matrix where it lies; NumPy copies others whole."""
    size = matrix.itemsize
    for length, step, other in (
        (matrix.shape[1], matrix.strides[1], matrix.strides[0]),
        (matrix.shape[0], matrix.strides[0], matrix.strides[1]),
    ):
        if step == size and other % size == 0 and length * size <= other < 2**31 * size:
            return True
    return False


class LazyRows:
    """Some rows of an array that is read part by part; axes of which one position is left are gone."""

    def __init__(self, base: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._base, self._starts, self._kept = base, [0] * len(shape), list(range(len(shape)))
        self.shape, self.dtype = shape, dtype

    def __getitem__(self, index: Index, /) -> Any:
        """Return the part at an index, a slice with a start and a stop for each of the first axes."""
        cuts = [slice(start, start + 1) for start in self._starts]
        for axis, cut in zip(self._kept, [*index, *map(slice, self.shape[len(index) :])], strict=True):
            begin = self._starts[axis]
            cuts[axis] = slice(begin + (cut.start or 0), begin + cut.stop)
        # The last axes, which are whole, are not named.
        part = self._base[tuple(cuts[:-1])]
        if isinstance(part, np.ndarray) and part.ndim == len(cuts) and len(self._kept) < len(cuts):
            gone = tuple(axis for axis in range(len(cuts)) if axis not in self._kept)
            part = part.squeeze(gone)
        return part

    def cut(self, items: tuple[Any, ...]) -> LazyRows:
        """Return some of the rows: an integer or a slice without a step for each axis but the last."""
        rows = copy.copy(self)
        rows._starts, rows._kept = list(self._starts), list(self._kept)
        shape = list(self.shape)
        for axis, item in enumerate(items):
            start = item
            if isinstance(item, slice):
                start, stop, step = item.indices(self.shape[axis])
                if step != 1:
                    raise ValueError(f"rows that are read from a file are cut without a step: got {step}")
                shape[axis] = max(stop - start, 0)
            else:
                rows._kept.remove(self._kept[axis])
            rows._starts[self._kept[axis]] += start
        kept = [axis for axis, item in enumerate(items) if isinstance(item, slice)]
        rows.shape = (*(shape[axis] for axis in kept), self.shape[-1])
        return rows


class LinearLogits:
    """Logits that are a product of hidden states and an output matrix, and never exist whole.

    For a row h of D features, ::

        y = scale (W h + b)

        x = y                       without softcap
        x = softcap tanh(y / softcap)

    It stands for an array of shape (..., V): `score`, `Scorer.update`, `compare`, `Comparer.update`, `fit_temperature`
    and `cross_entropy` take it wherever they take logits. Its rows are computed in blocks, when they are requested.

    Parameters
    ----------
    input : array-like of shape (..., D)
        The hidden states: what a model multiplies by its output matrix. float16, bfloat16, float32 or float64. Or an
        array that is read part by part: any object with a `shape`, a `dtype` and slices that are NumPy arrays, such as
        a dataset of h5py.
    linear_weight : array-like of shape (V, D)
        The output matrix, a row for each class, as ``torch.nn.Linear`` and checkpoints hold it. Any of these dtypes,
        and any memory layout.
    linear_bias : array-like of shape (V,), optional
        A number for each class. -inf makes it a class of probability 0.
    softcap : float, optional
        The number c of ``c tanh(y / c)``, as `final_logit_softcapping` of Gemma. A logit of -inf stays -inf.
    scale : float, default 1.0
        A factor of the logits, before the softcap, as `logit_scale` of Cohere.
    block_bytes : int, optional
        About how many bytes the blocks and all other buffers may take; by default 128 MiB. A block has 64 rows at
        least. Buffers of 32 MiB and more are kept for the next call.

    Raises
    ------
    TypeError
        If an argument cannot be read as an array, or has a dtype that is not floating; if `softcap` or `scale` is no
        number.
    ValueError
        If shapes do not fit each other, or if a number is out of range.

    See Also
    --------
    linear_cross_entropy_and_grad : The loss of such logits, and its gradients.
    crossent.blocks.RowBlocks : The protocol that it follows.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.linear``, whose result exists whole.

    The product is NumPy's, by its BLAS library. Half precisions are converted to float32 on the way: at once where the
    matrix fits into half of `block_bytes`, else some classes at a time. Slices such as ``x[3:7]`` or ``x[0, :100]`` are
    `LinearLogits` of some rows; ``numpy.asarray(x)`` makes them all.

    A row has the same bits in every run with the same `block_bytes` and number of BLAS threads, also in one that is
    continued at any row. With NumPy's OpenBLAS on a processor with AVX-512 it has them for any `block_bytes` and number
    of threads; on others float32 may differ in the last bit.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> rng = np.random.default_rng(0)
    >>> hidden, weight = rng.normal(size=(3, 100, 8)), rng.normal(size=(50, 8))
    >>> target = rng.integers(50, size=(3, 100))
    >>> logits = crossent.LinearLogits(hidden, weight)
    >>> logits.shape
    (3, 100, 50)
    >>> scores = crossent.score(logits, target)
    >>> scores.count, round(scores.mean, 4)
    (300, 6.9621)
    >>> np.allclose(np.asarray(logits[0, :5]), hidden[0, :5] @ weight.T, 0, 1e-13)
    True
    """

    def __init__(
        self,
        input: ArrayInput,
        linear_weight: ArrayInput,
        linear_bias: ArrayInput | None = None,
        *,
        softcap: float | None = None,
        scale: float = 1.0,
        block_bytes: int | None = None,
    ) -> None:
        self._product = Product(input, linear_weight, linear_bias, softcap=softcap, scale=scale)
        self._block_bytes = as_block_bytes(block_bytes)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the logits: that of the hidden states, with the classes along the last axis."""
        return (*self.row_shape, self.classes)

    @property
    def ndim(self) -> int:
        """The number of axes of the logits."""
        return len(self.shape)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of the rows, which is that of the targets."""
        return self._product.row_shape

    @property
    def classes(self) -> int:
        """The number of classes."""
        return self._product.classes

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the product and the logits: float64 if one of the arrays is of float64, else float32."""
        return self._product.dtype

    @property
    def block_bytes(self) -> int:
        """About how many bytes the blocks and all other buffers may take."""
        return self._block_bytes

    def row_blocks(self, memory: int | None = None, start: int = 0) -> Iterator[Block]:
        """Yield the rows in C order, in blocks that are computed when they are requested.

        Parameters
        ----------
        memory : int, optional
            About how many bytes all that is alive at one time may take, where that is less than `block_bytes`. A block
            has 64 rows at least.
        start : int, default 0
            How many rows to leave out from the beginning. The first block is computed from its beginning all the same,
            so that the rows have the bits that they have without `start`.

        Returns
        -------
        iterator of Block
            The blocks, each valid until the next one but one is requested.
        """
        return self._blocks(memory, start, buffers=2)

    def row_blocks_in_turn(self, memory: int | None = None, start: int = 0) -> Iterator[Block]:
        """Yield what `row_blocks` does, but valid until the next block is requested: larger blocks, from one buffer.

        Parameters
        ----------
        memory, start
            As for `row_blocks`.

        Returns
        -------
        iterator of Block
            The blocks.
        """
        return self._blocks(memory, start, buffers=1)

    def _blocks(self, memory: int | None, start: int, *, buffers: int) -> Iterator[Block]:
        if start < 0:
            raise ValueError(f"start must not be negative: got {start}")
        product = self._product
        budget = self._block_bytes if memory is None else min(self._block_bytes, memory)
        plan, rows = product.plan(budget, buffers=buffers), product.rows
        firsts = range(start // plan.rows * plan.rows, rows if start < rows else 0, plan.rows)
        if not firsts:
            return
        most = min(plan.rows, up(rows))
        operands, hidden = product.operands(plan), product.hidden_buffer(most)
        each = [product.buffer(most) for _ in firsts[:buffers]]
        for number, begin in enumerate(firsts):
            end = min(begin + plan.rows, rows)
            x = product.logits(
                product.read(begin, end, hidden), end - begin, operands, each[number % len(each)]
            )
            at = max(start - begin, 0)
            for index in flat_range(product.row_shape, begin + at, end):
                lengths = [cut.stop - cut.start for cut in index]
                count = math.prod(lengths)
                yield Block(index, x[at : at + count].reshape(*lengths, product.classes))
                at += count

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any, /) -> Self:
        items = list(index) if isinstance(index, tuple) else [index]
        dots = [at for at, item in enumerate(items) if item is Ellipsis]
        if len(dots) > 1:
            raise IndexError("an index can have one ellipsis only: got ...")
        if dots:
            items[dots[0] : dots[0] + 1] = [slice(None)] * (self.ndim - len(items) + 1)
        if len(items) > self.ndim:
            raise IndexError(f"too many indices: got {len(items)}, expected at most {self.ndim - 1}")
        if len(items) == self.ndim:
            last = items.pop()
            if not (isinstance(last, slice) and last.indices(self.classes) == (0, self.classes, 1)):
                raise IndexError(
                    "the classes of a LinearLogits cannot be cut: give the rows alone, and cut linear_weight and "
                    "linear_bias"
                )
        items = [
            item if isinstance(item, slice) else _position(item, length)
            for item, length in zip(items, self.row_shape[: len(items)], strict=True)
        ]
        cut = copy.copy(self)
        cut._product = copy.copy(self._product)
        rows = self._product.input
        if isinstance(rows, LazyRows):
            items += [slice(None)] * (len(self.row_shape) - len(items))
            cut._product.input = rows.cut(tuple(items))
        else:
            cut._product.input = rows[(*items, ...)]
        return cut

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("a LinearLogits cannot be an array without a copy: its logits are computed")
        logits = np.empty(self.shape, self.dtype if dtype is None else dtype)
        with np.errstate(all="ignore"):
            for block in self.row_blocks_in_turn():
                place: Any = (*block.index, ...)
                logits[place] = block.values
        return logits

    def __repr__(self) -> str:
        product = self._product
        told = [f"shape={self.shape}", f"dtype={self.dtype}", f"features={product.features}"]
        told += ["bias"] if product.bias is not None else []
        told += [f"scale={product.scale:g}"] if product.scale != 1.0 else []
        told += [f"softcap={product.softcap:g}"] if product.softcap is not None else []
        return f"LinearLogits({', '.join(told)})"


def as_block_bytes(block_bytes: int | None) -> int:
    """Return `block_bytes`, or what it is by default, or raise."""
    return BLOCK if block_bytes is None else as_count(block_bytes, "block_bytes")


def _position(item: Any, length: int) -> int:
    """Return an integer of an index, not negative, or raise."""
    try:
        choice: Any = "" if isinstance(item, bool | np.bool_) else item
        at = operator.index(choice)
    except TypeError:
        raise TypeError(
            "the rows of a LinearLogits are chosen by integers, slices and an ellipsis: got "
            f"{type(item).__name__}; choose the rows of input, and make a LinearLogits of these"
        ) from None
    if not -length <= at < length:
        raise IndexError(f"index {at} is out of bounds for an axis of length {length}")
    return at % length
