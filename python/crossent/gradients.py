"""The losses with their gradients: one call, and one reading of the input from memory."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from crossent import _core
from crossent.interop import ArrayInput

__all__ = ["cross_entropy_and_grad", "nll_loss_and_grad"]


@overload
def cross_entropy_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    ignore_index: int = -100,
    reduction: Literal["mean", "sum"] = "mean",
    label_smoothing: float = 0.0,
    axis: int | None = None,
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    out: None = None,
    grad_output: ArrayInput | None = None,
    grad_out: NDArray[Any] | None = None,
) -> tuple[np.floating[Any], NDArray[Any]]: ...
@overload
def cross_entropy_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    ignore_index: int = -100,
    reduction: Literal["none"],
    label_smoothing: float = 0.0,
    axis: int | None = None,
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[np.floating[Any]] | None = None,
    grad_output: ArrayInput | None = None,
    grad_out: NDArray[Any] | None = None,
) -> tuple[NDArray[np.floating[Any]], NDArray[Any]]: ...
@overload
def cross_entropy_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    ignore_index: int = -100,
    reduction: str,
    label_smoothing: float = 0.0,
    axis: int | None = None,
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
    grad_output: ArrayInput | None = None,
    grad_out: NDArray[Any] | None = None,
) -> tuple[Any, NDArray[Any]]: ...
def cross_entropy_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    axis: int | None = None,
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
    grad_output: ArrayInput | None = None,
    grad_out: NDArray[Any] | None = None,
) -> tuple[Any, NDArray[Any]]:
    """Compute the cross entropy of logits and its gradient with respect to them.

    For a row x of C logits, p = softmax(x) and q the weights of its log-probabilities in the loss, ::

        q[c] = (1 - e) w[t] (c == t) + e/C w[c]         target t, a class index
        q[c] = w[c] ((1 - e) p_target[c] + e/C)         target p_target, class probabilities

        d loss / d x[c] = g (p[c] sum(q) - q[c]) / D

    where g is `grad_output` and D what the reduction divides by: 1 for "sum" and "none". The entry of a target's class
    is formed from 1 - p[t] without cancellation: a row that is sure and right keeps its digits.

    Parameters
    ----------
    input, target, weight, ignore_index, reduction, label_smoothing, axis, where, dtype, out
        As for `cross_entropy`.
    grad_output : array-like, optional
        What the gradient is multiplied by, as in ``loss.backward(grad_output)``: a number, or with "none" also one
        for each loss, in their shape. By default 1.
    grad_out : numpy.ndarray, optional
        An array of the shape and dtype of `input` that receives the gradient and is returned. It may be `input`
        itself, which is then overwritten.

    Returns
    -------
    loss : numpy.floating or numpy.ndarray
        The loss in nats, as `cross_entropy` returns it.
    grad : numpy.ndarray
        The gradient, of the shape and dtype of `input`; 0 in ignored rows.

    Raises
    ------
    IndexError, TypeError, ValueError, OverflowError
        As `cross_entropy`. Besides, `ValueError` if `grad_output` or `grad_out` has another shape, or if `grad_out`
        cannot be written to or shares memory with `out`; and `TypeError` if it has another dtype. Nothing has
        been written then.

    Warns
    -----
    LikelyMistakeWarning
        As `cross_entropy`.

    See Also
    --------
    cross_entropy : The loss alone.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.cross_entropy`` followed by ``backward``. What an ignored
    row holds has no effect: its gradient is 0; torch gives nan where it holds nan or an infinity. If every row
    is ignored the gradient is 0; if the weights of the counted rows sum to 0 it is nan, as in torch.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> logits = np.array([[1.0, 2.0, 3.0], [0.0, -1.0, 4.0]])
    >>> loss, grad = crossent.cross_entropy_and_grad(logits, np.array([2, 0]))
    >>> round(float(loss), 4)
    2.2162
    >>> grad.round(4).tolist()
    [[0.045, 0.1224, -0.1674], [-0.4911, 0.0033, 0.4878]]

    A step of gradient descent, with the gradient in an array that is used again:

    >>> loss, grad = crossent.cross_entropy_and_grad(logits, np.array([2, 0]), grad_out=grad)
    >>> logits -= 0.5 * grad
    >>> round(float(crossent.cross_entropy(logits, np.array([2, 0]))), 4)
    1.9565
    """
    return _core.cross_entropy_and_grad(
        input,
        target,
        weight,
        ignore_index,
        reduction,
        label_smoothing,
        axis,
        where,
        dtype,
        out,
        grad_output,
        grad_out,
    )


@overload
def nll_loss_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    ignore_index: int = -100,
    reduction: Literal["mean", "sum"] = "mean",
    axis: int | None = None,
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    out: None = None,
    grad_output: ArrayInput | None = None,
    grad_out: NDArray[Any] | None = None,
) -> tuple[np.floating[Any], NDArray[Any]]: ...
@overload
def nll_loss_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    ignore_index: int = -100,
    reduction: Literal["none"],
    axis: int | None = None,
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[np.floating[Any]] | None = None,
    grad_output: ArrayInput | None = None,
    grad_out: NDArray[Any] | None = None,
) -> tuple[NDArray[np.floating[Any]], NDArray[Any]]: ...
@overload
def nll_loss_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    ignore_index: int = -100,
    reduction: str,
    axis: int | None = None,
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
    grad_output: ArrayInput | None = None,
    grad_out: NDArray[Any] | None = None,
) -> tuple[Any, NDArray[Any]]: ...
def nll_loss_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    axis: int | None = None,
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
    grad_output: ArrayInput | None = None,
    grad_out: NDArray[Any] | None = None,
) -> tuple[Any, NDArray[Any]]:
    """Compute the negative log-likelihood of log-probabilities and its gradient with respect to them.

    For a row x of log-probabilities with target t and class weights w, ::

        d loss / d x[c] = -g w[t] (c == t) / D

    where g is `grad_output` and D what the reduction divides by: 1 for "sum" and "none".

    Parameters
    ----------
    input, target, weight, ignore_index, reduction, axis, where, dtype, out
        As for `nll_loss`.
    grad_output : array-like, optional
        What the gradient is multiplied by, as in ``loss.backward(grad_output)``: a number, or with "none" also one
        for each loss, in their shape. By default 1.
    grad_out : numpy.ndarray, optional
        An array of the shape and dtype of `input` that receives the gradient and is returned. It may be `input`
        itself, which is then overwritten.

    Returns
    -------
    loss : numpy.floating or numpy.ndarray
        The loss in nats, as `nll_loss` returns it.
    grad : numpy.ndarray
        The gradient, of the shape and dtype of `input`; 0 in ignored rows.

    Raises
    ------
    IndexError, TypeError, ValueError, OverflowError
        As `nll_loss`. Besides, `ValueError` if `grad_output` or `grad_out` has another shape, or if `grad_out`
        cannot be written to or shares memory with `out`; and `TypeError` if it has another dtype. Nothing has
        been written then.

    Warns
    -----
    LikelyMistakeWarning
        As `nll_loss`.

    See Also
    --------
    nll_loss : The loss alone.
    cross_entropy_and_grad : The same for logits.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.nll_loss`` followed by ``backward``.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> log_p = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
    >>> loss, grad = crossent.nll_loss_and_grad(log_p, np.array([0, 2]))
    >>> round(float(loss), 4)
    0.4581
    >>> grad.tolist()
    [[-0.5, 0.0, 0.0], [0.0, 0.0, -0.5]]
    """
    return _core.nll_loss_and_grad(
        input, target, weight, ignore_index, reduction, axis, where, dtype, out, grad_output, grad_out
    )
