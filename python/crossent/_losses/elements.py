"""The losses of single elements with other targets: values and gradients."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from crossent import _core
from crossent._arguments import Reduction
from crossent._interop import ArrayInput

_Loss: TypeAlias = np.floating[Any]
_Losses: TypeAlias = NDArray[np.floating[Any]]
_KlReduction: TypeAlias = Reduction | Literal["batchmean"]

# Each function hands its arguments on by position: they are checked once, in the compiled code.


@overload
def kl_div(
    input: ArrayInput,
    target: ArrayInput,
    *,
    reduction: Literal["mean", "sum", "batchmean"] = "mean",
    log_target: bool = False,
    dtype: DTypeLike | None = None,
    out: None = None,
) -> _Loss: ...
@overload
def kl_div(
    input: ArrayInput,
    target: ArrayInput,
    *,
    reduction: Literal["none"],
    log_target: bool = False,
    dtype: DTypeLike | None = None,
    out: NDArray[_Loss] | None = None,
) -> _Losses: ...
def kl_div(
    input: ArrayInput,
    target: ArrayInput,
    *,
    reduction: _KlReduction = "mean",
    log_target: bool = False,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    """Compute the Kullback-Leibler divergence, element by element.

    For the log-probability x of each element and its target t, ::

        loss = t (log(t) - x)
        loss = exp(t) (t - x)       with log_target

    The sum over a distribution is its divergence KL(target || input); over a batch of shape (N, C), the mean of
    the divergences is therefore "batchmean".

    Parameters
    ----------
    input : array-like
        Log-probabilities of any shape, float16, bfloat16, float32 or float64.
    target : array-like
        The target probabilities, or with `log_target` their logarithms, of a shape that broadcasts with that of
        `input`.
    reduction : {"mean", "sum", "none", "batchmean"}, default "mean"
        How the losses of the elements are reduced: to their mean (by their number), to their sum, or not at all.
        "batchmean" divides the sum by the length of the first dimension of `input`.
    log_target : bool, default False
        Whether `target` holds log-probabilities.
    dtype : dtype, optional
        The dtype of the loss; by default float64 for a float64 `input`, else float32.
    out : numpy.ndarray, optional
        With "none", the array that receives the losses and is returned.

    Returns
    -------
    numpy.floating or numpy.ndarray
        The loss in nats: a NumPy scalar, or with "none" the losses of the elements, of the shape that
        `input` and `target` broadcast to.

    Raises
    ------
    TypeError
        If an argument cannot be read as an array, or has a dtype that does not fit; integer `input` too.
    ValueError
        If shapes do not fit each other, or if `reduction` is not one of those allowed.

    Warns
    -----
    LikelyMistakeWarning
        If `input` holds positive numbers, which no log-probability is, or if the mean is over no elements.

    See Also
    --------
    kl_div_and_grad : The loss and its gradient.
    log_softmax : Log-probabilities from logits.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.kl_div``. What differs:

    * Sums are taken in float64 for every dtype, and the losses of float16 and bfloat16 input come back as
      float32.
    * A target of probability 0 contributes nothing at an infinite `input`; torch gives nan.
    * There is no warning that "mean" is not the mean of the divergences.
    * `dtype` and `out` are additions; everything after `target` is keyword-only.

    A negative target gives nan without `log_target`, as in torch.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> model = np.log([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]])
    >>> truth = np.array([[0.7, 0.2, 0.1], [0.0, 0.3, 0.7]])
    >>> round(float(crossent.kl_div(model, truth, reduction="batchmean")), 4)
    0.1105
    >>> terms = crossent.kl_div(model, truth, reduction="none")
    >>> terms.sum(axis=1).round(4).tolist()
    [0.0993, 0.1216]
    """
    return _core.kl_div(input, target, reduction, log_target, dtype, out)


@overload
def kl_div_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    *,
    reduction: Literal["mean", "sum", "batchmean"] = "mean",
    log_target: bool = False,
    dtype: DTypeLike | None = None,
    out: None = None,
    grad_output: ArrayInput | None = None,
    grad_out: NDArray[Any] | None = None,
) -> tuple[_Loss, NDArray[Any]]: ...
@overload
def kl_div_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    *,
    reduction: Literal["none"],
    log_target: bool = False,
    dtype: DTypeLike | None = None,
    out: NDArray[_Loss] | None = None,
    grad_output: ArrayInput | None = None,
    grad_out: NDArray[Any] | None = None,
) -> tuple[_Losses, NDArray[Any]]: ...
def kl_div_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    *,
    reduction: _KlReduction = "mean",
    log_target: bool = False,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
    grad_output: ArrayInput | None = None,
    grad_out: NDArray[Any] | None = None,
) -> tuple[Any, NDArray[Any]]:
    """Compute the Kullback-Leibler divergence and its gradient, element by element.

    For the log-probability x of each element and its target t, ::

        loss = t (log(t) - x)
        loss = exp(t) (t - x)       with log_target

        d loss / d x = -t
        d loss / d x = -exp(t)      with log_target

    Both come from one pass over the arrays. "mean" divides the gradient by the number of elements, "batchmean" by
    the length of the first dimension.

    Parameters
    ----------
    input : array-like
        Log-probabilities of any shape, float16, bfloat16, float32 or float64.
    target : array-like
        The target probabilities, or with `log_target` their logarithms, of a shape that broadcasts to that of
        `input`.
    reduction : {"mean", "sum", "none", "batchmean"}, default "mean"
        How the losses of the elements are reduced: to their mean (by their number), to their sum, or not at all.
        "batchmean" divides the sum by the length of the first dimension of `input`.
    log_target : bool, default False
        Whether `target` holds log-probabilities.
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
        The loss in nats, as from `kl_div`.
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
        If `input` holds positive numbers, which no log-probability is, or if the mean is over no elements.

    See Also
    --------
    kl_div : The loss alone.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.kl_div`` followed by ``backward``.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> model = np.log([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]])
    >>> truth = np.array([[0.7, 0.2, 0.1], [0.0, 0.3, 0.7]])
    >>> loss, gradient = crossent.kl_div_and_grad(
    ...     model, truth, reduction="batchmean"
    ... )
    >>> round(float(loss), 4)
    0.1105
    >>> gradient.tolist()
    [[-0.35, -0.1, -0.05], [-0.0, -0.15, -0.35]]
    """
    return _core.kl_div_and_grad(input, target, reduction, log_target, dtype, out, grad_output, grad_out)


@overload
def gaussian_nll_loss(
    input: ArrayInput,
    target: ArrayInput,
    var: ArrayInput,
    *,
    full: bool = False,
    eps: float = 1e-6,
    reduction: Literal["mean", "sum"] = "mean",
    dtype: DTypeLike | None = None,
    out: None = None,
) -> _Loss: ...
@overload
def gaussian_nll_loss(
    input: ArrayInput,
    target: ArrayInput,
    var: ArrayInput,
    *,
    full: bool = False,
    eps: float = 1e-6,
    reduction: Literal["none"],
    dtype: DTypeLike | None = None,
    out: NDArray[_Loss] | None = None,
) -> _Losses: ...
def gaussian_nll_loss(
    input: ArrayInput,
    target: ArrayInput,
    var: ArrayInput,
    *,
    full: bool = False,
    eps: float = 1e-6,
    reduction: Reduction = "mean",
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    """Compute the Gaussian negative log-likelihood.

    For the expectation x of each element, its target t and variance v, ::

        loss = (log(max(v, eps)) + (x - t)^2 / max(v, eps)) / 2      (+ log(2 pi) / 2 with `full`)

    Parameters
    ----------
    input : array-like
        Expectations of any shape, float16, bfloat16, float32 or float64.
    target : array-like
        Observed values, of any floating, integer or boolean dtype, of a shape that broadcasts with that of
        `input`.
    var : array-like
        Variances: one number, or of the shape of `input`, of that shape without its last dimension, or with 1 in
        the place of one dimension.
    full : bool, default False
        Whether the constant log(2 pi) / 2 is added.
    eps : float, default 1e-6
        The least variance.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the elements are reduced: to their mean (by their number), to their sum, or not at all.
    dtype : dtype, optional
        The dtype of the loss; by default float64 for a float64 `input`, else float32.
    out : numpy.ndarray, optional
        With "none", the array that receives the losses and is returned.

    Returns
    -------
    numpy.floating or numpy.ndarray
        The loss in nats: a NumPy scalar, or with "none" the losses of the elements, of the shape that
        `input` and `target` broadcast to.

    Raises
    ------
    TypeError
        If an argument cannot be read as an array, or has a dtype that does not fit; integer `input` too.
    ValueError
        If a variance is negative (the text names the first), if shapes do not fit each other, or if `reduction`
        is not one of those allowed.

    Warns
    -----
    LikelyMistakeWarning
        If the mean is over no elements.

    See Also
    --------
    poisson_nll_loss : The likelihood of counts.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.gaussian_nll_loss``. What differs:

    * Sums are taken in float64 for every dtype, and the losses of float16 and bfloat16 input come back as
      float32.
    * A negative variance is named with its position.
    * `var` may be one number for an `input` of any shape; torch takes such a tensor for one dimension only.
    * `input` must be floating; torch takes integers.
    * `dtype` and `out` are additions; everything after `var` is keyword-only.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> expected = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> observed = np.array([[1.5, 2.0], [2.0, 4.5]])
    >>> round(float(crossent.gaussian_nll_loss(expected, observed, 0.5)), 4)
    0.0284
    >>> losses = crossent.gaussian_nll_loss(
    ...     expected, observed, [1.0, 4.0], reduction="none"
    ... )
    >>> losses.round(4).tolist()
    [[0.125, 0.0], [0.8181, 0.7244]]
    """
    return _core.gaussian_nll_loss(input, target, var, full, eps, reduction, dtype, out)


@overload
def poisson_nll_loss(
    input: ArrayInput,
    target: ArrayInput,
    *,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: Literal["mean", "sum"] = "mean",
    dtype: DTypeLike | None = None,
    out: None = None,
) -> _Loss: ...
@overload
def poisson_nll_loss(
    input: ArrayInput,
    target: ArrayInput,
    *,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: Literal["none"],
    dtype: DTypeLike | None = None,
    out: NDArray[_Loss] | None = None,
) -> _Losses: ...
def poisson_nll_loss(
    input: ArrayInput,
    target: ArrayInput,
    *,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: Reduction = "mean",
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    """Compute the Poisson negative log-likelihood.

    For the rate of each element, given as its logarithm x, or as itself without `log_input`, and its target t, ::

        loss = exp(x) - t x                   (+ t log(t) - t + log(2 pi t) / 2 with `full`, where t > 1)
        loss = x - t log(x + eps)             without `log_input`

    Parameters
    ----------
    input : array-like
        Rates or their logarithms, of any shape, float16, bfloat16, float32 or float64.
    target : array-like
        Counts, of any floating, integer or boolean dtype, of a shape that broadcasts with that of
        `input`.
    log_input : bool, default True
        Whether `input` holds logarithms.
    full : bool, default False
        Whether Stirling's approximation of log(t!) is added.
    eps : float, default 1e-8
        Added to a rate before its logarithm is taken.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the elements are reduced: to their mean (by their number), to their sum, or not at all.
    dtype : dtype, optional
        The dtype of the loss; by default float64 for a float64 `input`, else float32.
    out : numpy.ndarray, optional
        With "none", the array that receives the losses and is returned.

    Returns
    -------
    numpy.floating or numpy.ndarray
        The loss in nats: a NumPy scalar, or with "none" the losses of the elements, of the shape that
        `input` and `target` broadcast to.

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
    gaussian_nll_loss : The likelihood of measurements.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.poisson_nll_loss``. What differs:

    * Sums are taken in float64 for every dtype, and the losses of float16 and bfloat16 input come back as
      float32.
    * `input` must be floating; torch takes integers.
    * `dtype` and `out` are additions; everything after `target` is keyword-only.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> log_rates = np.array([0.0, 1.0, 2.0])
    >>> round(float(crossent.poisson_nll_loss(log_rates, [1, 2, 8])), 4)
    -2.2976
    >>> rates = np.array([1.0, 3.0])
    >>> loss = crossent.poisson_nll_loss(rates, [1, 2], log_input=False)
    >>> round(float(loss), 4)
    0.9014
    """
    return _core.poisson_nll_loss(input, target, log_input, full, eps, reduction, dtype, out)
