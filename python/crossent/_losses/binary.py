"""The losses of single elements with targets from 0 to 1: values and gradients."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from crossent import _core
from crossent._arguments import Reduction
from crossent._interop import ArrayInput

_Loss: TypeAlias = np.floating[Any]
_Losses: TypeAlias = NDArray[np.floating[Any]]

# Each function hands its arguments on by position: they are checked once, in the compiled code.


@overload
def binary_cross_entropy(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    reduction: Literal["mean", "sum"] = "mean",
    clamp: float | None = -100.0,
    dtype: DTypeLike | None = None,
    out: None = None,
) -> _Loss: ...
@overload
def binary_cross_entropy(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    reduction: Literal["none"],
    clamp: float | None = -100.0,
    dtype: DTypeLike | None = None,
    out: NDArray[_Loss] | None = None,
) -> _Losses: ...
def binary_cross_entropy(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    reduction: Reduction = "mean",
    clamp: float | None = -100.0,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    """Compute the binary cross entropy of probabilities.

    For the probability p of each element, its target t and weight w (1 without `weight`), ::

        loss = -w (t max(log(p), clamp) + (1 - t) max(log(1 - p), clamp))

    Parameters
    ----------
    input : array-like
        Probabilities from 0 to 1 of any shape, float16, bfloat16, float32 or float64.
    target : array-like
        The target probabilities, of the shape of `input`, of any floating, integer or boolean dtype: 0 or 1 for
        a plain yes or no.
    weight : array-like, optional
        A factor for each element, of a shape that broadcasts to that of `input`.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the elements are reduced: to their mean (by their number, whatever the weights), to their
        sum, or not at all.
    clamp : float or None, default -100.0
        The lower bound of each logarithm, so that a single wrong probability of 0 or 1 does not make the loss
        infinite. None gives the exact loss.
    dtype : dtype, optional
        The dtype of the loss; by default float64 for a float64 `input`, else float32.
    out : numpy.ndarray, optional
        With "none", the array that receives the losses and is returned.

    Returns
    -------
    numpy.floating or numpy.ndarray
        The loss in nats: a NumPy scalar, or with "none" the losses of the elements, of the shape of `input`.

    Raises
    ------
    TypeError
        If an argument cannot be read as an array, or has a dtype that does not fit; integer `input` too.
    ValueError
        If an element of `input` or `target` is not from 0 to 1 (the text names the first), if shapes do not fit
        each other, or if `reduction` or `clamp` is not one of those allowed.

    Warns
    -----
    LikelyMistakeWarning
        If the mean is over no elements.

    See Also
    --------
    binary_cross_entropy_with_logits : The loss of logits, which keep digits that probabilities have lost.
    binary_cross_entropy_and_grad : The loss and its gradient.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.binary_cross_entropy``. What differs:

    * Sums are taken in float64 for every dtype, and the losses of float16 and bfloat16 input come back as
      float32.
    * ``clamp=None`` gives the exact value; torch always clamps at -100.
    * Targets may be integers or booleans, or floats of another dtype than `input`.
    * An element out of range is named with its position.
    * `clamp`, `dtype` and `out` are additions; everything after `weight` is keyword-only.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> round(float(crossent.binary_cross_entropy(np.array([0.9, 0.2]), [1, 0])), 4)
    0.1643
    >>> crossent.binary_cross_entropy(np.array([0.9, 0.0]), [1, 1], reduction="none").round(4).tolist()
    [0.1054, 100.0]
    """
    return _core.binary_cross_entropy(input, target, weight, reduction, clamp, dtype, out)


@overload
def binary_cross_entropy_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    reduction: Literal["mean", "sum"] = "mean",
    clamp: float | None = -100.0,
    dtype: DTypeLike | None = None,
    out: None = None,
    grad_output: ArrayInput | None = None,
    grad_out: NDArray[Any] | None = None,
) -> tuple[_Loss, NDArray[Any]]: ...
@overload
def binary_cross_entropy_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    reduction: Literal["none"],
    clamp: float | None = -100.0,
    dtype: DTypeLike | None = None,
    out: NDArray[_Loss] | None = None,
    grad_output: ArrayInput | None = None,
    grad_out: NDArray[Any] | None = None,
) -> tuple[_Losses, NDArray[Any]]: ...
def binary_cross_entropy_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    reduction: Reduction = "mean",
    clamp: float | None = -100.0,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
    grad_output: ArrayInput | None = None,
    grad_out: NDArray[Any] | None = None,
) -> tuple[Any, NDArray[Any]]:
    """Compute the binary cross entropy of probabilities and its gradient.

    For the probability p of each element, its target t and weight w (1 without `weight`), ::

        loss = -w (t max(log(p), clamp) + (1 - t) max(log(1 - p), clamp))

        d loss / d p = w (p - t) / max(p (1 - p), 1e-12)

    Both come from one pass over the arrays. "mean" divides the gradient by the number of elements.

    Parameters
    ----------
    input : array-like
        Probabilities from 0 to 1 of any shape, float16, bfloat16, float32 or float64.
    target : array-like
        The target probabilities, of the shape of `input`, of any floating, integer or boolean dtype: 0 or 1 for
        a plain yes or no.
    weight : array-like, optional
        A factor for each element, of a shape that broadcasts to that of `input`.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the elements are reduced: to their mean (by their number, whatever the weights), to their
        sum, or not at all.
    clamp : float or None, default -100.0
        The lower bound of each logarithm, so that a single wrong probability of 0 or 1 does not make the loss
        infinite. None gives the exact loss.
    dtype : dtype, optional
        The dtype of the loss; by default float64 for a float64 `input`, else float32.
    out : numpy.ndarray, optional
        With "none", the array that receives the losses and is returned.
    grad_output : array-like, optional
        The upstream gradient, which multiplies the result, as in ``loss.backward(grad_output)``: a number or, with
        "none", an array of the shape of `input`. 1 by default.
    grad_out : numpy.ndarray, optional
        The array that receives the gradient, of the shape and dtype of `input`. It may be `input` itself,
        which is then overwritten.

    Returns
    -------
    loss : numpy.floating or numpy.ndarray
        The loss in nats, as from `binary_cross_entropy`.
    gradient : numpy.ndarray
        Its gradient with respect to `input`, of the shape and dtype of `input`, rounded once.

    Raises
    ------
    TypeError
        If an argument cannot be read as an array, or has a dtype that does not fit; integer `input` too.
    ValueError
        If an element of `input` or `target` is not from 0 to 1 (the text names the first), if shapes do not fit
        each other, or if `reduction` or `clamp` is not one of those allowed.

    Warns
    -----
    LikelyMistakeWarning
        If the mean is over no elements.

    See Also
    --------
    binary_cross_entropy : The loss alone.
    binary_cross_entropy_with_logits_and_grad : The loss of logits and its gradient.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.binary_cross_entropy`` followed by ``backward``. As there, `clamp`
    does not affect the gradient, and its denominator is at least 1e-12.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> loss, gradient = crossent.binary_cross_entropy_and_grad(np.array([0.9, 0.2]), [1, 0])
    >>> round(float(loss), 4)
    0.1643
    >>> gradient.round(4).tolist()
    [-0.5556, 0.625]
    """
    return _core.binary_cross_entropy_and_grad(
        input, target, weight, reduction, clamp, dtype, out, grad_output, grad_out
    )


@overload
def binary_cross_entropy_with_logits(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    pos_weight: ArrayInput | None = None,
    reduction: Literal["mean", "sum"] = "mean",
    dtype: DTypeLike | None = None,
    out: None = None,
) -> _Loss: ...
@overload
def binary_cross_entropy_with_logits(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    pos_weight: ArrayInput | None = None,
    reduction: Literal["none"],
    dtype: DTypeLike | None = None,
    out: NDArray[_Loss] | None = None,
) -> _Losses: ...
def binary_cross_entropy_with_logits(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    pos_weight: ArrayInput | None = None,
    reduction: Reduction = "mean",
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    """Compute the binary cross entropy of logits.

    For the logit x of each element, its target t, its weight w and positive weight q (1 without `weight` and
    `pos_weight`), with the probability p = 1 / (1 + exp(-x)), ::

        loss = -w (q t log(p) + (1 - t) log(1 - p))

    without the probabilities: a confident element keeps all its digits.

    Parameters
    ----------
    input : array-like
        Logits of any shape, float16, bfloat16, float32 or float64.
    target : array-like
        The target probabilities, of the shape of `input`, of any floating, integer or boolean dtype: 0 or 1 for
        a plain yes or no. They are not checked.
    weight : array-like, optional
        A factor for each element, of a shape that broadcasts to that of `input`.
    pos_weight : array-like, optional
        A factor for the term of `target`, of a shape that broadcasts to that of `input`: above 1, a missed
        positive costs more than a false one.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the elements are reduced: to their mean (by their number, whatever the weights), to their
        sum, or not at all.
    dtype : dtype, optional
        The dtype of the loss; by default float64 for a float64 `input`, else float32.
    out : numpy.ndarray, optional
        With "none", the array that receives the losses and is returned.

    Returns
    -------
    numpy.floating or numpy.ndarray
        The loss in nats: a NumPy scalar, or with "none" the losses of the elements, of the shape of `input`.

    Raises
    ------
    TypeError
        If an argument cannot be read as an array, or has a dtype that does not fit; integer `input` too.
    ValueError
        If shapes do not fit each other, or if `reduction` is not one of those allowed.

    Warns
    -----
    LikelyMistakeWarning
        If the mean is over no elements.

    See Also
    --------
    binary_cross_entropy : The loss of probabilities.
    binary_cross_entropy_with_logits_and_grad : The loss and its gradient.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.binary_cross_entropy_with_logits``. What differs:

    * Sums are taken in float64 for every dtype, and the losses of float16 and bfloat16 input come back as
      float32.
    * At an infinite logit the loss is its limit: 0 where the target agrees, else inf; torch gives nan.
    * A weight of 0 makes even an infinite loss 0.
    * Targets may be integers or booleans.
    * `dtype` and `out` are additions; everything after `weight` is keyword-only.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> logits = np.array([2.0, -1.0, 20.0])
    >>> round(float(crossent.binary_cross_entropy_with_logits(logits, [1, 0, 1])), 4)
    0.1467
    >>> losses = crossent.binary_cross_entropy_with_logits(logits, [1, 0, 1], reduction="none")
    >>> [f"{loss:.4g}" for loss in losses]
    ['0.1269', '0.3133', '2.061e-09']
    """
    return _core.binary_cross_entropy_with_logits(input, target, weight, pos_weight, reduction, dtype, out)


@overload
def binary_cross_entropy_with_logits_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    pos_weight: ArrayInput | None = None,
    reduction: Literal["mean", "sum"] = "mean",
    dtype: DTypeLike | None = None,
    out: None = None,
    grad_output: ArrayInput | None = None,
    grad_out: NDArray[Any] | None = None,
) -> tuple[_Loss, NDArray[Any]]: ...
@overload
def binary_cross_entropy_with_logits_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    pos_weight: ArrayInput | None = None,
    reduction: Literal["none"],
    dtype: DTypeLike | None = None,
    out: NDArray[_Loss] | None = None,
    grad_output: ArrayInput | None = None,
    grad_out: NDArray[Any] | None = None,
) -> tuple[_Losses, NDArray[Any]]: ...
def binary_cross_entropy_with_logits_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    pos_weight: ArrayInput | None = None,
    reduction: Reduction = "mean",
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
    grad_output: ArrayInput | None = None,
    grad_out: NDArray[Any] | None = None,
) -> tuple[Any, NDArray[Any]]:
    """Compute the binary cross entropy of logits and its gradient.

    For the logit x of each element, its target t, its weight w and positive weight q (1 without `weight` and
    `pos_weight`), with the probability p = 1 / (1 + exp(-x)), ::

        loss = -w (q t log(p) + (1 - t) log(1 - p))

        d loss / d x = w ((1 - t) p - q t (1 - p))

    Both come from one pass over the arrays. "mean" divides the gradient by the number of elements.

    Parameters
    ----------
    input : array-like
        Logits of any shape, float16, bfloat16, float32 or float64.
    target : array-like
        The target probabilities, of the shape of `input`, of any floating, integer or boolean dtype: 0 or 1 for
        a plain yes or no. They are not checked.
    weight : array-like, optional
        A factor for each element, of a shape that broadcasts to that of `input`.
    pos_weight : array-like, optional
        A factor for the term of `target`, of a shape that broadcasts to that of `input`: above 1, a missed
        positive costs more than a false one.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the elements are reduced: to their mean (by their number, whatever the weights), to their
        sum, or not at all.
    dtype : dtype, optional
        The dtype of the loss; by default float64 for a float64 `input`, else float32.
    out : numpy.ndarray, optional
        With "none", the array that receives the losses and is returned.
    grad_output : array-like, optional
        The upstream gradient, which multiplies the result, as in ``loss.backward(grad_output)``: a number or, with
        "none", an array of the shape of `input`. 1 by default.
    grad_out : numpy.ndarray, optional
        The array that receives the gradient, of the shape and dtype of `input`. It may be `input` itself,
        which is then overwritten.

    Returns
    -------
    loss : numpy.floating or numpy.ndarray
        The loss in nats, as from `binary_cross_entropy_with_logits`.
    gradient : numpy.ndarray
        Its gradient with respect to `input`, of the shape and dtype of `input`, rounded once.

    Raises
    ------
    TypeError
        If an argument cannot be read as an array, or has a dtype that does not fit; integer `input` too.
    ValueError
        If shapes do not fit each other, or if `reduction` is not one of those allowed.

    Warns
    -----
    LikelyMistakeWarning
        If the mean is over no elements.

    See Also
    --------
    binary_cross_entropy_with_logits : The loss alone.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.binary_cross_entropy_with_logits`` followed by ``backward``.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> loss, gradient = crossent.binary_cross_entropy_with_logits_and_grad(np.array([2.0, -1.0]), [1, 0])
    >>> round(float(loss), 4)
    0.2201
    >>> gradient.round(4).tolist()
    [-0.0596, 0.1345]
    """
    return _core.binary_cross_entropy_with_logits_and_grad(
        input, target, weight, pos_weight, reduction, dtype, out, grad_output, grad_out
    )
