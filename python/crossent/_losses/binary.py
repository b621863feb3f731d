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
    >>> p = np.array([0.9, 0.0])
    >>> losses = crossent.binary_cross_entropy(p, [1, 1], reduction="none")
    >>> losses.round(4).tolist()
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
    >>> p = np.array([0.9, 0.2])
    >>> loss, gradient = crossent.binary_cross_entropy_and_grad(p, [1, 0])
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
    >>> loss = crossent.binary_cross_entropy_with_logits(logits, [1, 0, 1])
    >>> round(float(loss), 4)
    0.1467
    >>> losses = crossent.binary_cross_entropy_with_logits(
    ...     logits, [1, 0, 1], reduction="none"
    ... )
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
    >>> loss, gradient = crossent.binary_cross_entropy_with_logits_and_grad(
    ...     np.array([2.0, -1.0]), [1, 0]
    ... )
    >>> round(float(loss), 4)
    0.2201
    >>> gradient.round(4).tolist()
    [-0.0596, 0.1345]
    """
    return _core.binary_cross_entropy_with_logits_and_grad(
        input, target, weight, pos_weight, reduction, dtype, out, grad_output, grad_out
    )


@overload
def sigmoid_focal_loss(
    input: ArrayInput,
    target: ArrayInput,
    *,
    alpha: float = 0.25,
    gamma: float = 2.0,
    reduction: Literal["none"] = "none",
    dtype: DTypeLike | None = None,
    out: NDArray[_Loss] | None = None,
) -> _Losses: ...
@overload
def sigmoid_focal_loss(
    input: ArrayInput,
    target: ArrayInput,
    *,
    alpha: float = 0.25,
    gamma: float = 2.0,
    reduction: Literal["mean", "sum"],
    dtype: DTypeLike | None = None,
    out: None = None,
) -> _Loss: ...
def sigmoid_focal_loss(
    input: ArrayInput,
    target: ArrayInput,
    *,
    alpha: float = 0.25,
    gamma: float = 2.0,
    reduction: Reduction = "none",
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    """Compute the focal loss of logits: a binary cross entropy in which sure elements count less.

    For the logit x of each element and its target t, with the probability p = 1 / (1 + exp(-x)), ::

        ce = -(t log(p) + (1 - t) log(1 - p))
        p_t = t p + (1 - t) (1 - p)
        loss = (alpha t + (1 - alpha) (1 - t)) (1 - p_t)**gamma ce

    without the probabilities: a confident element keeps all its digits (Lin et al. 2017).

    Parameters
    ----------
    input : array-like
        Logits of any shape, float16, bfloat16, float32 or float64.
    target : array-like
        The target probabilities, of the shape of `input`, of any floating, integer or boolean dtype: 0 or 1 for
        a plain yes or no. They are not checked.
    alpha : float, default 0.25
        The weight of positives, from 0 to 1; that of negatives is 1 - alpha. With -1 all have the weight 1.
    gamma : float, default 2
        How much less an element counts whose target is probable; finite and at least 0. With 0 it is the binary cross
        entropy.
    reduction : {"none", "mean", "sum"}, default "none"
        How the losses of the elements are reduced: not at all, to their mean (by their number), or to their sum.
    dtype : dtype, optional
        The dtype of the loss; by default float64 for a float64 `input`, else float32.
    out : numpy.ndarray, optional
        With "none", the array that receives the losses and is returned.

    Returns
    -------
    numpy.ndarray or numpy.floating
        The loss in nats: the losses of the elements, of the shape of `input`, or with "mean" and "sum" a NumPy scalar.

    Raises
    ------
    TypeError
        If an argument cannot be read as an array, or has a dtype that does not fit; integer `input` too.
    ValueError
        If shapes do not fit each other, if `alpha` is neither from 0 to 1 nor -1, if `gamma` is negative or not finite,
        or if `reduction` is not one of those allowed.

    Warns
    -----
    LikelyMistakeWarning
        If the mean is over no elements.

    See Also
    --------
    focal_loss : The focal loss of classes.
    binary_cross_entropy_with_logits : The loss with ``gamma=0, alpha=-1``.
    sigmoid_focal_loss_and_grad : The loss and its gradient.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.binary_cross_entropy_with_logits`` with the two factors above, which
    is ``torchvision.ops.sigmoid_focal_loss``; defaults and reduction are those of the latter, and its `inputs` and
    `targets` are `input` and `target` here. What differs:

    * All is computed in float64 and rounded once, and 1 - p_t is summed, not subtracted: torchvision loses all digits
      of an element that is confident and right.
    * At an infinite logit the loss is its limit: 0 where the target agrees, else inf; torchvision gives nan for the
      former. A weight of 0 makes even an infinite loss 0.
    * Targets may be integers or booleans. `dtype` and `out` are additions; everything after `target` is keyword-only.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> logits = np.array([2.0, -1.0, 20.0])
    >>> losses = crossent.sigmoid_focal_loss(logits, [1, 0, 1])
    >>> [f"{loss:.4g}" for loss in losses]
    ['0.0004509', '0.01699', '2.189e-27']
    >>> loss = crossent.sigmoid_focal_loss(
    ...     logits, [1, 0, 1], alpha=-1, gamma=0, reduction="mean"
    ... )
    >>> round(float(loss), 4)
    0.1467
    """
    return _core.sigmoid_focal_loss(input, target, alpha, gamma, reduction, dtype, out)


@overload
def sigmoid_focal_loss_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    *,
    alpha: float = 0.25,
    gamma: float = 2.0,
    reduction: Literal["none"] = "none",
    dtype: DTypeLike | None = None,
    out: NDArray[_Loss] | None = None,
    grad_output: ArrayInput | None = None,
    grad_out: NDArray[Any] | None = None,
) -> tuple[_Losses, NDArray[Any]]: ...
@overload
def sigmoid_focal_loss_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    *,
    alpha: float = 0.25,
    gamma: float = 2.0,
    reduction: Literal["mean", "sum"],
    dtype: DTypeLike | None = None,
    out: None = None,
    grad_output: ArrayInput | None = None,
    grad_out: NDArray[Any] | None = None,
) -> tuple[_Loss, NDArray[Any]]: ...
def sigmoid_focal_loss_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    *,
    alpha: float = 0.25,
    gamma: float = 2.0,
    reduction: Reduction = "none",
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
    grad_output: ArrayInput | None = None,
    grad_out: NDArray[Any] | None = None,
) -> tuple[Any, NDArray[Any]]:
    """Compute the focal loss of logits and its gradient.

    For the logit x of each element and its target t, with the probability p = 1 / (1 + exp(-x)), the weight
    a = alpha t + (1 - alpha) (1 - t), and ce and p_t as for `sigmoid_focal_loss`, ::

        loss = a (1 - p_t)**gamma ce

        d loss / d x = a (1 - p_t)**gamma (p - t + gamma (1 - 2 t) p (1 - p) ce / (1 - p_t))

    Both come from one pass over the arrays. "mean" divides the gradient by the number of elements.

    Parameters
    ----------
    input : array-like
        Logits of any shape, float16, bfloat16, float32 or float64.
    target : array-like
        The target probabilities, of the shape of `input`, of any floating, integer or boolean dtype: 0 or 1 for
        a plain yes or no. They are not checked.
    alpha : float, default 0.25
        The weight of positives, from 0 to 1; that of negatives is 1 - alpha. With -1 all have the weight 1.
    gamma : float, default 2
        How much less an element counts whose target is probable; finite and at least 0.
    reduction : {"none", "mean", "sum"}, default "none"
        How the losses of the elements are reduced: not at all, to their mean (by their number), or to their sum.
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
    loss : numpy.ndarray or numpy.floating
        The loss in nats, as from `sigmoid_focal_loss`.
    gradient : numpy.ndarray
        Its gradient with respect to `input`, of the shape and dtype of `input`, rounded once.

    Raises
    ------
    TypeError
        If an argument cannot be read as an array, or has a dtype that does not fit; integer `input` too.
    ValueError
        If shapes do not fit each other, if `alpha` is neither from 0 to 1 nor -1, if `gamma` is negative or not finite,
        or if `reduction` is not one of those allowed.

    Warns
    -----
    LikelyMistakeWarning
        If the mean is over no elements.

    See Also
    --------
    sigmoid_focal_loss : The loss alone.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.binary_cross_entropy_with_logits`` with the factors of the loss, as in
    ``torchvision.ops.sigmoid_focal_loss``, followed by ``backward``. Where `gamma` is between 0 and 1 and an element is
    so sure that its p_t is 1, that gives nan; here the gradient is the limit.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> losses, gradient = crossent.sigmoid_focal_loss_and_grad(
    ...     np.array([2.0, -1.0]), [1, 0]
    ... )
    >>> losses.round(4).tolist()
    [0.0005, 0.017]
    >>> gradient.round(4).tolist()
    [-0.0012, 0.0394]
    """
    return _core.sigmoid_focal_loss_and_grad(
        input, target, alpha, gamma, reduction, dtype, out, grad_output, grad_out
    )
