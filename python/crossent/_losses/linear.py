"""The cross entropy of logits that are a product and never exist whole: its value and its gradients."""

import math
import operator
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from crossent import _core
from crossent._arguments import Reduction, as_ignore_index, as_upstream
from crossent._exact import ExactSum
from crossent._interop import ArrayInput, as_array, float_name
from crossent._linear import UNIT, LinearLogits, Operands, Plan, Product, as_block_bytes, up

# How many bytes of the gradient of the matrix are computed at a time, at most: they stay in the cache.
_PIECE = 8 << 20

# How many logits the gradient of the softcap takes at a time.
_CACHED = 1 << 16


class LinearGradients(NamedTuple):
    """The gradients that `linear_cross_entropy_and_grad` gives.

    Attributes
    ----------
    input : numpy.ndarray
        The gradient with respect to `input`, of its shape and dtype.
    linear_weight : numpy.ndarray
        That with respect to `linear_weight`, of its shape and dtype.
    linear_bias : numpy.ndarray, optional
        That with respect to `linear_bias`; None where there is none.

    See Also
    --------
    linear_cross_entropy_and_grad : Makes it.
    """

    input: NDArray[Any]
    linear_weight: NDArray[Any]
    linear_bias: NDArray[Any] | None = None


class LinearLoss:
    """A cross entropy of logits that are a product: its arguments checked, and then its numbers block by block."""

    def __init__(
        self,
        product: Product,
        target: ArrayInput,
        weight: ArrayInput | None,
        ignore_index: int,
        reduction: str,
        label_smoothing: float,
        z_loss: float,
        where: ArrayInput | None,
        dtype: DTypeLike | None,
        block_bytes: int,
        name: str,
        out: NDArray[Any] | None = None,
    ) -> None:
        self._product, self._budget, self._reduction = product, block_bytes, reduction
        classes, row_shape = product.classes, product.row_shape
        # Everything that does not depend on the rows is checked with none.
        none = np.empty((0, classes), product.dtype), np.empty(0, np.int64)
        unreduced = "sum" if reduction == "mean" else reduction
        options: Any = weight, ignore_index, unreduced, label_smoothing, z_loss, 1, None, dtype, None
        self._dtype: np.dtype[Any] = np.asarray(_core.cross_entropy(*none, *options)).dtype
        self._out = out
        if out is not None:
            self._check_out(out)
        given = as_array(target, "target")
        if given.size == 0 and given.dtype == np.float64 and given.shape == row_shape:  # an empty list
            given = given.astype(np.int64)
        if float_name(given.dtype) is not None or given.dtype.kind == "b":
            raise TypeError(_refused_target(given, (*row_shape, classes), name))
        if given.shape not in (row_shape, (1,) if row_shape == () else row_shape):
            hint = _core.shape_hint("target", given.shape, row_shape)
            raise ValueError(
                f"target has the wrong shape: got {given.shape}, expected {row_shape}, that of input without its last "
                f"axis{f'; {hint}' if hint else ''}"
            )
        rows = np.broadcast_to(np.zeros((), product.dtype), (*row_shape, classes))
        _core.check_targets(rows, given, ignore_index, where, -1, "input")
        if row_shape == ():
            given = given.reshape(())
        active = _core.active_rows(rows, given, ignore_index, where, -1, "input")
        self._numbers = np.flatnonzero(active).astype(np.int64, copy=False)
        self._target = given.reshape(-1)
        self._weight = None if weight is None else as_array(weight, "weight")
        self._ignore_index = as_ignore_index(ignore_index)
        self._smoothing, self._z = float(label_smoothing), float(z_loss)
        self._divisor = self._find_divisor()

    def _check_out(self, out: NDArray[Any]) -> None:
        if self._reduction != "none":
            raise ValueError(
                "out receives per-row losses only: got reduction 'mean' or 'sum', expected reduction='none'"
            )
        if not isinstance(out, np.ndarray):
            raise TypeError(f"out must be a numpy.ndarray: got {type(out).__name__}")
        if out.shape != self._product.row_shape:
            raise ValueError(f"out has the wrong shape: got {out.shape}, expected {self._product.row_shape}")
        if out.dtype != self._dtype:
            raise TypeError(
                f"out has the wrong dtype: got {out.dtype}, expected {self._dtype}, the dtype of the result"
            )
        if not out.flags.writeable:
            raise ValueError("out cannot be written to: it is read-only")

    def _find_divisor(self) -> float:
        """Return what the mean divides by, and make the weights such that the z-loss has the same divisor."""
        count = self._numbers.size
        if self._reduction != "mean" or self._weight is None:
            return float(count) if self._reduction == "mean" else 1.0
        of_rows = self._weight.astype(np.float64)[self._target[self._numbers]]
        divisor = float(ExactSum.of(of_rows))
        if divisor == 0.0 and self._smoothing > 0.0 and not of_rows.any():
            return math.nan  # torch divides the term of the smoothing separately
        if divisor == 0.0 or not math.isfinite(divisor):
            self._z = 0.0  # The quotient is not finite without it either.
        if self._z == 0.0:
            return divisor
        self._weight = self._weight.astype(np.float64) * (count / divisor)
        return float(count)

    def warn_of_misuse(self) -> None:
        """Make small calls of the compiled function, which warns as this one would."""
        options = None, -100, "mean", 0.0, 0.0, 1, None, None, None
        if self._reduction == "mean" and not self._numbers.size:
            target = np.full(min(self._product.rows, 1), -100)
            _core.cross_entropy(np.zeros((target.size, 2)), target, *options)
        if self._product.classes == 1 and self._numbers.size:
            _core.cross_entropy(np.zeros((1, 1)), np.zeros(1, np.int64), *options)

    def _blocks(
        self, plan: Plan, operands: Operands, buffer: NDArray[Any], hidden: NDArray[Any]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]]:
        """Yield the numbers of the rows of a block, its hidden states and its logits, the latter after a row of zeros.

        Rows that do not count are left out: what they hold has no effect.
        """
        for begin in range(0, self._numbers.size, plan.rows):
            numbers = self._numbers[begin : begin + plan.rows]
            states = self._product.gather(numbers, hidden)
            self._product.logits(states, numbers.size, operands, buffer[1:])
            buffer[0] = 0.0
            yield numbers, states, buffer[: numbers.size + 1, : self._product.classes]

    def _targets_of(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """Return the targets of rows after one of the row of zeros, that no block looks like probabilities."""
        targets = np.empty(numbers.size + 1, self._target.dtype)
        targets[0] = 1 if self._ignore_index == 0 else 0
        targets[1:] = self._target[numbers]
        return targets

    def value(self) -> Any:
        """Compute the loss."""
        product = self._product
        plan = product.plan(self._budget)
        most = min(plan.rows, up(self._numbers.size))
        buffer, hidden = product.buffer(most + 1), product.hidden_buffer(most)
        losses = _Losses(self)
        for numbers, _, x in self._blocks(plan, product.operands(plan), buffer, hidden):
            if product.classes == 1:
                losses.add(numbers, self._of_one_class(x[1:, 0]))
                continue
            own = _core.cross_entropy(x, self._targets_of(numbers), *self._options())
            losses.add(numbers, own[1:])
        return losses.result()

    def _options(self) -> Any:
        return (
            self._weight,
            self._ignore_index,
            "none",
            self._smoothing,
            self._z,
            1,
            None,
            np.float64,
            None,
        )

    def _of_one_class(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Return the losses of rows with one class: 0, but for the z-loss."""
        x = x.astype(np.float64)
        with np.errstate(all="ignore"):
            return np.asarray((x - x) + self._z * x * x if self._z else x - x)

    def value_and_gradients(
        self, upstream: NDArray[np.float64], bias_dtype: np.dtype[Any] | None
    ) -> tuple[Any, LinearGradients]:
        """Compute the loss and its gradients."""
        product = self._product
        features, classes, padded = product.features, product.classes, product.padded
        step = max(min(_PIECE, self._budget // 8) // (padded * product.dtype.itemsize or 1) // UNIT, 1) * UNIT
        step = min(step, up(classes))
        plan = product.plan(
            self._budget - step * padded * product.dtype.itemsize,
            buffers=1 if product.softcap is None else 2,
            hidden=2,
        )
        most = min(plan.rows, up(self._numbers.size))
        buffer, hidden = product.buffer(most + 1), product.hidden_buffer(most)
        slopes = buffer if product.softcap is None else product.buffer(most + 1)
        back = np.empty((padded, most), product.dtype)
        back_piece = np.empty_like(back) if 0 < plan.classes < classes or classes % UNIT else None
        piece = np.empty((step, padded), product.dtype)
        of_input = _core.empty((product.rows, features), _dtype_of(product.input))
        if self._numbers.size < product.rows:
            of_input[...] = 0
        of_weight = _core.empty((classes, features), product.dtype)
        if not self._numbers.size:
            of_weight[...] = 0
        of_bias = np.zeros(classes, np.float64)
        losses, operands = _Losses(self), product.operands(plan)
        for number, (numbers, states, x) in enumerate(self._blocks(plan, operands, buffer, hidden)):
            count = numbers.size
            g = slopes[: count + 1, :classes]
            own = upstream if upstream.ndim == 0 else upstream[numbers]
            losses.add(numbers, self._slopes(x, numbers, own, g))
            # What is beyond the classes and the rows of the block comes into the products as zeros.
            whole = slopes[1 : len(states) + 1]
            whole[count:] = 0.0
            whole[:, classes:] = 0.0
            with np.errstate(all="ignore"):
                if bias_dtype is not None:
                    of_bias += g[1:].sum(axis=0)
                to_states = back[:, : len(states)]
                for first, matrix in operands:
                    columns = whole[:, first : first + len(matrix)]
                    if first == 0:
                        np.matmul(matrix.T, columns.T, out=to_states)
                    else:
                        assert back_piece is not None
                        to_states += np.matmul(matrix.T, columns.T, out=back_piece[:, : len(states)])
                of_input[numbers] = _rounded(to_states[:features, :count].T, of_input.dtype)
                _add_products(of_weight, whole.T, states, piece, begin=number == 0)
        gradients = LinearGradients(
            of_input.reshape(*product.row_shape, features),
            _rounded(of_weight, _dtype_of(product.weight)),
            None if bias_dtype is None else _rounded(of_bias, bias_dtype),
        )
        return losses.result(), gradients

    def _slopes(
        self, x: NDArray[Any], numbers: NDArray[np.int64], upstream: NDArray[Any], g: NDArray[Any]
    ) -> NDArray[np.float64]:
        """Write the gradient of the rows of a block with respect to their sums of products, and return their losses."""
        product = self._product
        factor = np.zeros(numbers.size + 1)
        factor[1:] = upstream
        if product.classes == 1:
            own = self._of_one_class(x[1:, 0])
            with np.errstate(all="ignore"):
                slope = 2.0 * self._z * x[:, 0].astype(np.float64) if self._z else x[:, 0] - x[:, 0]
                g[:, 0] = factor * slope
        else:
            arguments: Any = (*self._options(), factor, g)
            losses, _ = _core.cross_entropy_and_grad(x, self._targets_of(numbers), *arguments)
            own = losses[1:]
        if product.softcap is not None:
            self._through_softcap(x[1:], g[1:], product.softcap)
        return own

    @staticmethod
    def _through_softcap(x: NDArray[Any], g: NDArray[Any], softcap: float) -> None:
        """Multiply the gradient with respect to x = c tanh(y / c) by 1 - (x / c)^2, which is 0 for x = -inf."""
        c = x.dtype.type(softcap)
        width = min(x.shape[1], _CACHED)
        height = max(_CACHED // max(width, 1), 1)
        with np.errstate(all="ignore"):
            for row in range(0, len(x), height):
                for column in range(0, x.shape[1], width):
                    place = slice(row, row + height), slice(column, column + width)
                    slope = x[place] / c
                    other = 1.0 + slope
                    np.subtract(1.0, slope, out=slope)
                    slope *= other
                    if slope.size and not slope.min() > -np.inf:
                        slope[np.isneginf(x[place])] = 0.0
                    g[place] *= slope

    def upstream(self, grad_output: ArrayInput | None) -> NDArray[np.float64]:
        """Return what multiplies the gradient of a row's loss: a number, or one for each row."""
        upstream = as_upstream(grad_output, self._product.row_shape if self._reduction == "none" else ())
        upstream = upstream.reshape(-1) if upstream.ndim else upstream
        with np.errstate(all="ignore"):
            return upstream if self._reduction != "mean" else np.asarray(upstream / self._divisor)


def _add_products(
    total: NDArray[Any], slopes: NDArray[Any], states: NDArray[Any], piece: NDArray[Any], *, begin: bool
) -> None:
    """Add the product of the slopes and the states of a block to a total, or put it there, some classes at a time.

    The two may be longer than the total, as blocks are.
    """
    classes, features = total.shape
    for first in range(0, classes, len(piece)):
        part = slopes[first : first + len(piece)]
        place = total[first : first + len(piece)]
        if begin and place.shape == (len(part), states.shape[1]):
            np.matmul(part, states, out=place)
            continue
        found = np.matmul(part, states, out=piece[: len(part)])[: len(place), :features]
        if begin:
            place[...] = found
        else:
            place += found


def loss_of_linear_logits(
    logits: LinearLogits,
    target: ArrayInput,
    weight: ArrayInput | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
    z_loss: float,
    axis: int | None,
    where: ArrayInput | None,
    dtype: DTypeLike | None,
    out: NDArray[Any] | None,
) -> LinearLoss:
    """Check the arguments of `cross_entropy` for logits that are a product."""
    if axis is not None and operator.index(axis) not in (-1, logits.ndim - 1):
        raise ValueError(
            f"axis does not apply to a LinearLogits, which has its classes along the last axis: got {axis}, expected -1"
        )
    return LinearLoss(
        logits._product,
        target,
        weight,
        ignore_index,
        reduction,
        label_smoothing,
        z_loss,
        where,
        dtype,
        logits.block_bytes,
        "cross_entropy of a LinearLogits",
        out,
    )


class _Losses:
    """The losses of the rows, as the reduction keeps them."""

    def __init__(self, loss: LinearLoss) -> None:
        self._loss, self._sum = loss, ExactSum()
        self._each: NDArray[Any] | None = None
        if loss._reduction == "none":
            self._each = np.zeros(loss._product.rows, loss._dtype)

    def add(self, numbers: NDArray[np.int64], losses: NDArray[np.float64]) -> None:
        """Take the losses of some rows."""
        if self._each is None:
            self._sum += ExactSum.of(losses)
        else:
            self._each[numbers] = _rounded(losses, self._each.dtype)

    def result(self) -> Any:
        """Return the loss."""
        loss = self._loss
        if self._each is not None:
            each = self._each.reshape(loss._product.row_shape)
            if loss._out is None:
                return each if each.ndim else each[()]
            loss._out[...] = each
            return loss._out
        if loss._reduction == "mean" and not loss._numbers.size:
            total = math.nan
        elif loss._reduction == "mean" and loss._weight is None:
            total = self._sum.over(loss._numbers.size)
        else:
            with np.errstate(all="ignore"):
                total = float(np.float64(float(self._sum)) / np.float64(loss._divisor))
        return _rounded(np.asarray(total), loss._dtype)[()]


def _dtype_of(matrix: Any) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(matrix.dtype)
    return dtype.newbyteorder("=")


def _rounded(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return numbers of another dtype, rounded once."""
    with np.errstate(all="ignore"):
        if values.dtype == np.float64 and float_name(dtype) == "bfloat16":
            # It is made from float32, where the last bit has to tell what was dropped.
            short = values.astype(np.float32)
            bits = short.view(np.int32)
            again = short.astype(np.float64)
            bits -= np.abs(again) > np.abs(values)
            bits |= (again != values) & ~np.isnan(values)
            values = short
        return values.astype(dtype, copy=False)


def _refused_target(target: NDArray[Any], logits: tuple[int, ...], name: str) -> str:
    """Say why a floating target is refused."""
    fix = "use numpy.asarray(target, dtype=numpy.int64)"
    if target.dtype.kind == "b":
        fix = f"if False is class 0 and True class 1, {fix}"
    if target.shape == logits:
        fix = "class probabilities go to cross_entropy with the logits of some rows at a time, as numpy.asarray(x[:64])"
        fix += " of a LinearLogits x"
    return (
        f"target must hold integers, as class indices: got dtype {target.dtype} and shape {target.shape}, expected an "
        f"integer dtype and shape {logits[:-1]}, since {name} takes no class probabilities; {fix}"
    )


@overload
def linear_cross_entropy(
    input: ArrayInput,
    linear_weight: ArrayInput,
    target: ArrayInput,
    *,
    linear_bias: ArrayInput | None = None,
    weight: ArrayInput | None = None,
    ignore_index: int = -100,
    reduction: Literal["mean", "sum"] = "mean",
    label_smoothing: float = 0.0,
    softcap: float | None = None,
    z_loss: float = 0.0,
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    block_bytes: int | None = None,
) -> np.floating[Any]: ...
@overload
def linear_cross_entropy(
    input: ArrayInput,
    linear_weight: ArrayInput,
    target: ArrayInput,
    *,
    linear_bias: ArrayInput | None = None,
    weight: ArrayInput | None = None,
    ignore_index: int = -100,
    reduction: Literal["none"],
    label_smoothing: float = 0.0,
    softcap: float | None = None,
    z_loss: float = 0.0,
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    block_bytes: int | None = None,
) -> NDArray[np.floating[Any]]: ...
def linear_cross_entropy(
    input: ArrayInput,
    linear_weight: ArrayInput,
    target: ArrayInput,
    *,
    linear_bias: ArrayInput | None = None,
    weight: ArrayInput | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
    softcap: float | None = None,
    z_loss: float = 0.0,
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    block_bytes: int | None = None,
) -> Any:
    """Compute the cross entropy of hidden states times an output matrix, without an array of all logits.

    For a row h of D features with target t, ::

        y = W h + b
        x = y                       without softcap
        x = c tanh(y / c)           with softcap c

        loss = cross_entropy(x, t)

    with the class weights, the label smoothing and the z-loss of `cross_entropy`. Logits exist for some rows at a time.

    Parameters
    ----------
    input : array-like of shape (D,), (N, D) or (..., D)
        Hidden states, float16, bfloat16, float32 or float64; or an array that is read part by part, as for
        `LinearLogits`.
    linear_weight : array-like of shape (V, D)
        The output matrix, a row for each class. Any of these dtypes, and any memory layout.
    target : array-like of int
        Class indices from 0 to V - 1, of any integer dtype and of the shape of `input` without its last axis.
    linear_bias : array-like of shape (V,), optional
        A number for each class. -inf makes it a class of probability 0.
    weight : array-like of shape (V,), optional
        A factor for each class, in the loss.
    ignore_index, reduction, label_smoothing
        As for `cross_entropy`.
    softcap : float, optional
        The number c of ``c tanh(y / c)``, as `final_logit_softcapping` of Gemma. A logit of -inf stays -inf.
    z_loss : float, default 0.0
        As for `cross_entropy`: how much of the squared log-sum-exp is added to the loss of a row.
    where : array-like of bool, or of integers 0 and 1, optional
        A mask of the rows, of the shape of `target`. The rows it leaves out are ignored.
    dtype : dtype, optional
        The dtype of the result; by default float64 if one of the arrays of the product is of float64, else float32.
    block_bytes : int, optional
        About how many bytes the logits and all other buffers may take; by default 128 MiB. There are logits of 64 rows
        at least. Buffers of 32 MiB and more are kept for the next call.

    Returns
    -------
    numpy.floating or numpy.ndarray
        The loss in nats. A NumPy scalar for "mean" and "sum"; for "none" the losses of the rows, of the shape of
        `target`.

    Raises
    ------
    IndexError
        If a target is not a class and not `ignore_index`; the text names the first such row.
    TypeError
        If an argument cannot be read as an array, or has a dtype that does not fit; class probabilities as targets too.
    ValueError
        If shapes do not fit each other, or if an option is not one of those allowed.
    OverflowError
        If int64 does not hold `ignore_index`.

    Warns
    -----
    LikelyMistakeWarning
        If there is one class only, or if a mean counts no row.

    See Also
    --------
    linear_cross_entropy_and_grad : The loss and its gradients.
    LinearLogits : Such logits for `score`, `compare` and `fit_temperature`.
    cross_entropy : The loss of logits.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.linear_cross_entropy``. What differs:

    * `softcap`, `z_loss`, `where` and `dtype` are additions, and `block_bytes` stands in place of torch's `options`.
    * `input` may have any number of axes before that of the features; torch takes (D,) and (N, D).
    * Class probabilities and weights of more than two axes are not for this function.
    * Rows that are ignored are left out of the products: what they hold has no effect.

    The products are NumPy's, in float32, or in float64 if one of the arrays is of float64. Half precisions are
    converted on the way. Losses are added up exactly, in float64. The result has the same bits for any number of this
    package's threads; what `LinearLogits` says of blocks and of the threads of BLAS holds here too.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> rng = np.random.default_rng(0)
    >>> hidden, weight = rng.normal(size=(6, 8)), rng.normal(size=(50, 8))
    >>> target = np.array([3, 1, 4, 1, 5, -100])
    >>> round(float(crossent.linear_cross_entropy(hidden, weight, target)), 4)
    5.4141
    >>> round(float(crossent.cross_entropy(hidden @ weight.T, target)), 4)
    5.4141
    """
    loss = LinearLoss(
        Product(input, linear_weight, linear_bias, softcap=softcap),
        target,
        weight,
        ignore_index,
        reduction,
        label_smoothing,
        z_loss,
        where,
        dtype,
        as_block_bytes(block_bytes),
        "linear_cross_entropy",
    )
    loss.warn_of_misuse()
    return loss.value()


@overload
def linear_cross_entropy_and_grad(
    input: ArrayInput,
    linear_weight: ArrayInput,
    target: ArrayInput,
    *,
    linear_bias: ArrayInput | None = None,
    weight: ArrayInput | None = None,
    ignore_index: int = -100,
    reduction: Literal["mean", "sum"] = "mean",
    label_smoothing: float = 0.0,
    softcap: float | None = None,
    z_loss: float = 0.0,
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    block_bytes: int | None = None,
    grad_output: ArrayInput | None = None,
) -> tuple[np.floating[Any], LinearGradients]: ...
@overload
def linear_cross_entropy_and_grad(
    input: ArrayInput,
    linear_weight: ArrayInput,
    target: ArrayInput,
    *,
    linear_bias: ArrayInput | None = None,
    weight: ArrayInput | None = None,
    ignore_index: int = -100,
    reduction: Literal["none"],
    label_smoothing: float = 0.0,
    softcap: float | None = None,
    z_loss: float = 0.0,
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    block_bytes: int | None = None,
    grad_output: ArrayInput | None = None,
) -> tuple[NDArray[np.floating[Any]], LinearGradients]: ...
def linear_cross_entropy_and_grad(
    input: ArrayInput,
    linear_weight: ArrayInput,
    target: ArrayInput,
    *,
    linear_bias: ArrayInput | None = None,
    weight: ArrayInput | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
    softcap: float | None = None,
    z_loss: float = 0.0,
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    block_bytes: int | None = None,
    grad_output: ArrayInput | None = None,
) -> tuple[Any, LinearGradients]:
    """Compute the cross entropy of hidden states times an output matrix, and its gradients.

    With H the rows of `input`, W the matrix, X = cap(Y) the logits and G the gradient of `cross_entropy` with respect
    to them, ::

        dY = G (1 - (X / c)**2)     with softcap c; else dY = G

        d loss / dH = dY W
        d loss / dW = dY^T H
        d loss / db = sum over the rows of dY

    Parameters
    ----------
    input, linear_weight, target, linear_bias, weight, ignore_index, reduction, label_smoothing, softcap, z_loss, where
        As for `linear_cross_entropy`.
    dtype, block_bytes
        As for `linear_cross_entropy`. The gradients are not among what `block_bytes` limits.
    grad_output : array-like, optional
        The upstream gradient, which multiplies the result, as in ``loss.backward(grad_output)``: a number, or with
        "none" also one for each loss, in their shape. By default 1.

    Returns
    -------
    loss : numpy.floating or numpy.ndarray
        The loss in nats, as `linear_cross_entropy` returns it.
    gradients : LinearGradients
        The gradients with respect to `input`, `linear_weight` and `linear_bias`, each of the shape and dtype of its
        argument; 0 in the rows of `input` that are ignored. The last is None where there is no bias.

    Raises
    ------
    IndexError, TypeError, ValueError, OverflowError
        As `linear_cross_entropy`. Besides, `ValueError` if `grad_output` has another shape.

    Warns
    -----
    LikelyMistakeWarning
        As `linear_cross_entropy`.

    See Also
    --------
    linear_cross_entropy : The loss alone.
    cross_entropy_and_grad : The loss of logits and its gradient with respect to them.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.linear_cross_entropy`` followed by ``backward``.

    No term is dropped, however small. The gradient of the matrix is added up in the dtype of the product and rounded
    once, so that for a matrix of half precision there is one of float32 besides. Rows that are ignored may hold nan.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> rng = np.random.default_rng(0)
    >>> hidden, weight = rng.normal(size=(6, 8)), rng.normal(size=(50, 8))
    >>> target = np.array([3, 1, 4, 1, 5, -100])
    >>> loss, gradients = crossent.linear_cross_entropy_and_grad(
    ...     hidden, weight, target
    ... )
    >>> (
    ...     round(float(loss), 4),
    ...     gradients.input.shape,
    ...     gradients.linear_weight.shape,
    ...     gradients.linear_bias,
    ... )
    (5.4141, (6, 8), (50, 8), None)

    A step of gradient descent:

    >>> weight -= 0.1 * gradients.linear_weight
    >>> float(crossent.linear_cross_entropy(hidden, weight, target)) < float(loss)
    True
    """
    bias = None if linear_bias is None else as_array(linear_bias, "linear_bias")
    loss = LinearLoss(
        Product(input, linear_weight, bias, softcap=softcap, pad=True),
        target,
        weight,
        ignore_index,
        reduction,
        label_smoothing,
        z_loss,
        where,
        dtype,
        as_block_bytes(block_bytes),
        "linear_cross_entropy_and_grad",
    )
    upstream = loss.upstream(grad_output)
    loss.warn_of_misuse()
    return loss.value_and_gradients(upstream, None if bias is None else bias.dtype)
