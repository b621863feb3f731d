"""The losses of rows with a target class, or a distribution over the classes: values and gradients."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from crossent import _core
from crossent._arguments import Reduction
from crossent._interop import ArrayInput
from crossent._linear import LinearLogits
from crossent._losses.linear import loss_of_linear_logits

# Each function hands its arguments on by position: they are checked once, in the compiled code.


@overload
def cross_entropy(
    input: ArrayInput | LinearLogits,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    ignore_index: int = -100,
    reduction: Literal["mean", "sum"] = "mean",
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    axis: int | None = None,
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    out: None = None,
) -> np.floating[Any]: ...
@overload
def cross_entropy(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    ignore_index: int = -100,
    reduction: Literal["none"],
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    axis: int | None = None,
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[np.floating[Any]] | None = None,
) -> NDArray[np.floating[Any]]: ...
def cross_entropy(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    axis: int | None = None,
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    """Compute the cross entropy between logits and their targets.

    For a row x of C logits, with w the class weights (all 1 without `weight`) and e the label smoothing, ::

        log_p = x - log(sum_c exp(x[c]))

        loss = -(1 - e) w[t] log_p[t] - e/C sum_c w[c] log_p[c]       target t, a class index
        loss = -sum_c w[c] ((1 - e) p[c] + e/C) log_p[c]              target p, class probabilities

    "mean" divides the sum of the losses by the sum of w[t] over the counted rows (their number, without
    `weight`) where the targets are class indices, and by the number of counted rows where they are
    probabilities. A z-loss of z adds z log(sum_c exp(x[c]))² to the loss of each counted row, which has no class
    weight: "mean" divides its sum by the number of counted rows.

    Parameters
    ----------
    input : array-like of shape (C,), (N, C) or (N, C, d1, ..., dk), or LinearLogits
        Logits: unnormalised scores, float16, bfloat16, float32 or float64. With `axis`, the classes may lie
        along any axis. A logit of -inf is a class of probability 0. Logits that are a product have their classes along
        the last axis, and go with class indices.
    target : array-like
        Class indices from 0 to C - 1, of any integer dtype and of the shape of `input` without its class
        axis: (), (N,) or (N, d1, ..., dk). Or class probabilities: floating, of the shape of `input`. They
        are taken as they are, and need not sum to 1.
    weight : array-like of shape (C,), optional
        A factor for each class.
    ignore_index : int, default -100
        The target that marks a row as ignored: it has no effect, its loss is 0, and it does not count in the
        mean. Any integer that int64 holds. Not for targets of class probabilities; they have `where`.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the rows are reduced: to their weighted mean, to their sum, or not at all.
    label_smoothing : float, default 0.0
        From 0 to 1: how much of the target is spread evenly over all classes.
    z_loss : float, default 0.0
        At least 0: the factor of the squared log-sum-exp, which keeps the logits of a model in training from drifting
        (PaLM uses 1e-4).
    axis : int, optional
        The class axis of `input`; by default 1, and 0 for an `input` of one dimension. No axis costs a copy.
    where : array-like of bool, or of integers 0 and 1, optional
        A mask of the rows, of the shape of `input` without its class axis. The rows it leaves out are
        ignored.
    dtype : dtype, optional
        The dtype of the result; by default float64 for a float64 `input`, else float32.
    out : numpy.ndarray, optional
        With "none", the array that receives the losses and is returned.

    Returns
    -------
    numpy.floating or numpy.ndarray
        The loss in nats. A NumPy scalar for "mean" and "sum"; for "none" the losses of the rows, of the
        shape of `input` without its class axis.

    Raises
    ------
    IndexError
        If a target is not a class and not `ignore_index`; the text names the first such row. Or if `axis`
        is out of range.
    TypeError
        If an argument cannot be read as an array, or has a dtype that does not fit; integer logits too.
    ValueError
        If shapes do not fit each other, or if `reduction`, `label_smoothing` or `z_loss` is not one of those
        allowed.
    OverflowError
        If int64 does not hold `ignore_index`.

    Warns
    -----
    LikelyMistakeWarning
        If `input` looks like probabilities, if there is one class only, or if a mean counts no row.

    See Also
    --------
    nll_loss : The loss of log-probabilities.
    linear_cross_entropy : The loss of logits that are a product, and never exist whole.
    log_softmax : The log-probabilities that the logits stand for.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.cross_entropy``. What differs:

    * Sums are taken in float64 for every dtype, and the losses of float16 and bfloat16 logits come back as
      float32: nothing overflows, and nothing is lost in a long sum.
    * A confident row keeps all its digits: the loss of the logits [17, 0] is 4.14e-8 in float32, not 0.
    * Weight 0 or probability 0 contributes nothing at an infinite logit; torch gives nan.
    * A label smoothing that is negative or nan raises; torch takes it as 0.
    * Targets may have any integer dtype, not int64 alone. A target out of range is named with its row.
    * `z_loss`, `axis`, `where`, `dtype` and `out` are additions; everything after `weight` is keyword-only.

    A mean over no rows is nan, as in torch, with a warning. The result has the same bits for any memory
    layout, class axis, row batching and number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> logits = np.array(
    ...     [[0.0500, -0.6461, 0.9130, -0.0553], [-0.3201, 1.5033, 0.2070, 1.8456]]
    ... )
    >>> targets = np.array([0, 0])
    >>> round(float(crossent.cross_entropy(logits, targets)), 4)
    2.2152
    >>> crossent.cross_entropy(logits, targets, reduction="none").round(4).tolist()
    [1.5621, 2.8683]

    The second row is padding:

    >>> round(float(crossent.cross_entropy(logits, np.array([0, -100]))), 4)
    1.5621

    The targets are probabilities:

    >>> probabilities = np.array([[0.7, 0.1, 0.1, 0.1], [0.0, 0.5, 0.0, 0.5]])
    >>> round(float(crossent.cross_entropy(logits, probabilities)), 4)
    1.2149
    """
    if isinstance(input, LinearLogits):
        loss = loss_of_linear_logits(
            input, target, weight, ignore_index, reduction, label_smoothing, z_loss, axis, where, dtype, out
        )
        loss.warn_of_misuse()
        return loss.value()
    return _core.cross_entropy(
        input, target, weight, ignore_index, reduction, label_smoothing, z_loss, axis, where, dtype, out
    )


@overload
def cross_entropy_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    ignore_index: int = -100,
    reduction: Literal["mean", "sum"] = "mean",
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
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
    z_loss: float = 0.0,
    axis: int | None = None,
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[np.floating[Any]] | None = None,
    grad_output: ArrayInput | None = None,
    grad_out: NDArray[Any] | None = None,
) -> tuple[NDArray[np.floating[Any]], NDArray[Any]]: ...
def cross_entropy_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
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

        d loss / d x[c] = g (p[c] sum(q) - q[c]) / D + g 2 z lse p[c] / N

    where g is `grad_output`, z the z-loss, lse the log-sum-exp of the row, D what the reduction divides by and N the
    number of counted rows for "mean"; both are 1 for "sum" and "none". The entry of a target's class
    is formed from 1 - p[t] without cancellation: a confident, correct row keeps its digits.

    Parameters
    ----------
    input, target, weight, ignore_index, reduction, label_smoothing, z_loss, axis, where, dtype, out
        As for `cross_entropy`.
    grad_output : array-like, optional
        The upstream gradient, which multiplies the result, as in ``loss.backward(grad_output)``: a number, or with
        "none" also one for each loss, in their shape. By default 1.
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

    >>> loss, grad = crossent.cross_entropy_and_grad(
    ...     logits, np.array([2, 0]), grad_out=grad
    ... )
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
        z_loss,
        axis,
        where,
        dtype,
        out,
        grad_output,
        grad_out,
    )


@overload
def focal_loss(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: Literal["mean", "sum"] = "mean",
    axis: int | None = None,
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    out: None = None,
) -> np.floating[Any]: ...
@overload
def focal_loss(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: Literal["none"],
    axis: int | None = None,
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[np.floating[Any]] | None = None,
) -> NDArray[np.floating[Any]]: ...
def focal_loss(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    axis: int | None = None,
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    """Compute the focal loss of logits: a cross entropy in which confident rows count less.

    For a row x of C logits with target t and class weights w (all 1 without `weight`), ::

        p = softmax(x)[t]

        loss = -w[t] (1 - p)**gamma log(p)

    With gamma = 0 it is the cross entropy. "mean" divides the sum of the losses by the sum of w[t] over the counted
    rows: their number, without `weight`.

    Parameters
    ----------
    input : array-like of shape (C,), (N, C) or (N, C, d1, ..., dk)
        Logits: unnormalised scores, float16, bfloat16, float32 or float64. With `axis`, the classes may lie
        along any axis.
    target : array-like
        Class indices from 0 to C - 1, of any integer dtype and of the shape of `input` without its class
        axis: (), (N,) or (N, d1, ..., dk).
    weight : array-like of shape (C,), optional
        A factor for each class.
    gamma : float, default 2.0
        How fast the loss of a row vanishes as its target becomes certain; at least 0.
    ignore_index, reduction, axis, where, dtype, out
        As for `cross_entropy`.

    Returns
    -------
    numpy.floating or numpy.ndarray
        The loss in nats. A NumPy scalar for "mean" and "sum"; for "none" the losses of the rows, of the
        shape of `input` without its class axis.

    Raises
    ------
    IndexError
        If a target is not a class and not `ignore_index`; the text names the first such row. Or if `axis`
        is out of range.
    TypeError
        If an argument cannot be read as an array, or has a dtype that does not fit; class probabilities too.
    ValueError
        If shapes do not fit each other, if `gamma` is negative or not finite, or if `reduction` is not one of
        those allowed.
    OverflowError
        If int64 does not hold `ignore_index`.

    Warns
    -----
    LikelyMistakeWarning
        As `cross_entropy`.

    See Also
    --------
    cross_entropy : The loss with gamma = 0, also of class probabilities.

    Notes
    -----
    T.-Y. Lin et al., "Focal Loss for Dense Object Detection", 2017.

    The torch equivalent is ``torch.nn.functional.cross_entropy`` of each row times ``(1 - p) ** gamma``. Here 1 - p is
    the sum of the other classes' probabilities, and keeps its digits where p is near 1.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> logits = np.array([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]])
    >>> targets = np.array([0, 2])
    >>> crossent.focal_loss(logits, targets, reduction="none").round(4).tolist()
    [0.0111, 4.9907]
    >>> crossent.cross_entropy(logits, targets, reduction="none").round(4).tolist()
    [0.2413, 5.055]
    """
    return _core.focal_loss(input, target, weight, gamma, ignore_index, reduction, axis, where, dtype, out)


@overload
def focal_loss_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    gamma: float = 2.0,
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
def focal_loss_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: Literal["none"],
    axis: int | None = None,
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[np.floating[Any]] | None = None,
    grad_output: ArrayInput | None = None,
    grad_out: NDArray[Any] | None = None,
) -> tuple[NDArray[np.floating[Any]], NDArray[Any]]: ...
def focal_loss_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    axis: int | None = None,
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
    grad_output: ArrayInput | None = None,
    grad_out: NDArray[Any] | None = None,
) -> tuple[Any, NDArray[Any]]:
    """Compute the focal loss of logits and its gradient with respect to them.

    For a row x of C logits with target t, p = softmax(x) and w the class weights, ::

        s = (1 - p[t])**gamma - gamma p[t] (1 - p[t])**(gamma - 1) log(p[t])

        d loss / d x[c] = g w[t] s (p[c] - (c == t)) / D

    where g is `grad_output` and D what the reduction divides by: 1 for "sum" and "none".

    Parameters
    ----------
    input, target, weight, gamma, ignore_index, reduction, axis, where, dtype, out
        As for `focal_loss`.
    grad_output : array-like, optional
        What the gradient is multiplied by, as in ``loss.backward(grad_output)``: a number, or with "none" also one
        for each loss, in their shape. By default 1.
    grad_out : numpy.ndarray, optional
        An array of the shape and dtype of `input` that receives the gradient and is returned. It may be `input`
        itself, which is then overwritten.

    Returns
    -------
    loss : numpy.floating or numpy.ndarray
        The loss in nats, as `focal_loss` returns it.
    grad : numpy.ndarray
        The gradient, of the shape and dtype of `input`; 0 in ignored rows.

    Raises
    ------
    IndexError, TypeError, ValueError, OverflowError
        As `focal_loss`. Besides, `ValueError` if `grad_output` or `grad_out` has another shape, or if `grad_out`
        cannot be written to or shares memory with `out`; and `TypeError` if it has another dtype. Nothing has
        been written then.

    Warns
    -----
    LikelyMistakeWarning
        As `focal_loss`.

    See Also
    --------
    focal_loss : The loss alone.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.cross_entropy`` of each row, times ``(1 - p) ** gamma``, followed by
    ``backward``. What an ignored row holds has no effect: its gradient is 0.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> logits = np.array([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]])
    >>> loss, grad = crossent.focal_loss_and_grad(logits, np.array([0, 2]))
    >>> round(float(loss), 4)
    2.5009
    >>> grad.round(4).tolist()
    [[-0.0136, 0.0025, 0.0112], [0.0248, 0.4976, -0.5223]]
    """
    return _core.focal_loss_and_grad(
        input, target, weight, gamma, ignore_index, reduction, axis, where, dtype, out, grad_output, grad_out
    )


@overload
def nll_loss(
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
) -> np.floating[Any]: ...
@overload
def nll_loss(
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
) -> NDArray[np.floating[Any]]: ...
def nll_loss(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    axis: int | None = None,
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    """Compute the negative log-likelihood of targets under given log-probabilities.

    For a row x of C log-probabilities, its target t and the class weights w (all 1 without `weight`), ::

        loss = -w[t] x[t]

    "mean" divides the sum of the losses by the sum of w[t] over the counted rows: their number, without
    `weight`.

    Parameters
    ----------
    input : array-like of shape (C,), (N, C) or (N, C, d1, ..., dk)
        Log-probabilities in nats, float16, bfloat16, float32 or float64. They are taken as they are, and
        not normalised. With `axis`, the classes may lie along any axis.
    target : array-like
        Class indices from 0 to C - 1, of any integer dtype and of the shape of `input` without its class
        axis: (), (N,) or (N, d1, ..., dk).
    weight : array-like of shape (C,), optional
        A factor for each class.
    ignore_index : int, default -100
        The target that marks a row as ignored: it has no effect, its loss is 0, and it does not count in the
        mean. Any integer that int64 holds.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the rows are reduced: to their weighted mean, to their sum, or not at all.
    axis : int, optional
        The class axis of `input`; by default 1, and 0 for an `input` of one dimension. No axis costs a copy.
    where : array-like of bool, or of integers 0 and 1, optional
        A mask of the rows, of the shape of `target`. The rows it leaves out are ignored.
    dtype : dtype, optional
        The dtype of the result; by default float64 for a float64 `input`, else float32.
    out : numpy.ndarray, optional
        With "none", the array that receives the losses and is returned.

    Returns
    -------
    numpy.floating or numpy.ndarray
        The loss in nats. A NumPy scalar for "mean" and "sum"; for "none" the losses of the rows, of the
        shape of `input` without its class axis.

    Raises
    ------
    IndexError
        If a target is not a class and not `ignore_index`; the text names the first such row. Or if `axis`
        is out of range.
    TypeError
        If an argument cannot be read as an array, or has a dtype that does not fit.
    ValueError
        If shapes do not fit each other, or if `reduction` is not one of those allowed.
    OverflowError
        If int64 does not hold `ignore_index`.

    Warns
    -----
    LikelyMistakeWarning
        If `input` looks like probabilities or has a positive value, if there is one class only, or if a mean
        counts no row.

    See Also
    --------
    cross_entropy : The loss of logits, in one pass and with more digits.
    log_softmax : Log-probabilities from logits.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.nll_loss``. What differs:

    * Sums are taken in float64 for every dtype, and the losses of float16 and bfloat16 input come back as
      float32.
    * Weight 0 contributes nothing at a log-probability of -inf; torch gives nan.
    * Targets may have any integer dtype, not int64 alone. A target out of range is named with its row.
    * `axis`, `where`, `dtype` and `out` are additions; everything after `weight` is keyword-only.

    A mean over no rows is nan, as in torch, with a warning.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> log_probabilities = np.log([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]])
    >>> targets = np.array([0, 2])
    >>> round(float(crossent.nll_loss(log_probabilities, targets)), 4)
    0.5249
    >>> losses = crossent.nll_loss(log_probabilities, targets, reduction="none")
    >>> losses.round(4).tolist()
    [0.6931, 0.3567]
    """
    return _core.nll_loss(input, target, weight, ignore_index, reduction, axis, where, dtype, out)


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
def nll_loss_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
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
        The upstream gradient, which multiplies the result, as in ``loss.backward(grad_output)``: a number, or with
        "none" also one for each loss, in their shape. By default 1.
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
    cross_entropy_and_grad : The loss of logits and its gradient.

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


@overload
def poly_loss(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    epsilon: float = 1.0,
    ignore_index: int = -100,
    reduction: Literal["mean", "sum"] = "mean",
    axis: int | None = None,
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    out: None = None,
) -> np.floating[Any]: ...
@overload
def poly_loss(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    epsilon: float = 1.0,
    ignore_index: int = -100,
    reduction: Literal["none"],
    axis: int | None = None,
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[np.floating[Any]] | None = None,
) -> NDArray[np.floating[Any]]: ...
def poly_loss(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    epsilon: float = 1.0,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    axis: int | None = None,
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    """Compute the poly loss of logits: a cross entropy whose first polynomial term is weighted anew.

    For a row x of C logits with target t and class weights w (all 1 without `weight`), ::

        p = softmax(x)[t]

        loss = w[t] (-log(p) + epsilon (1 - p))

    ``-log(p)`` is the sum of ``(1 - p)**j / j`` over j = 1, 2, ...: the first term counts 1 + epsilon times. With
    epsilon = 0 it is the cross entropy. "mean" divides the sum of the losses by the sum of w[t] over the counted
    rows: their number, without `weight`.

    Parameters
    ----------
    input : array-like of shape (C,), (N, C) or (N, C, d1, ..., dk)
        Logits: unnormalised scores, float16, bfloat16, float32 or float64. With `axis`, the classes may lie
        along any axis.
    target : array-like
        Class indices from 0 to C - 1, of any integer dtype and of the shape of `input` without its class
        axis: (), (N,) or (N, d1, ..., dk).
    weight : array-like of shape (C,), optional
        A factor for each class.
    epsilon : float, default 1.0
        What is added to the weight of the first term. It may be negative.
    ignore_index, reduction, axis, where, dtype, out
        As for `cross_entropy`.

    Returns
    -------
    numpy.floating or numpy.ndarray
        The loss in nats. A NumPy scalar for "mean" and "sum"; for "none" the losses of the rows, of the
        shape of `input` without its class axis.

    Raises
    ------
    IndexError
        If a target is not a class and not `ignore_index`; the text names the first such row. Or if `axis`
        is out of range.
    TypeError
        If an argument cannot be read as an array, or has a dtype that does not fit; class probabilities too.
    ValueError
        If shapes do not fit each other, if `epsilon` is not finite, or if `reduction` is not one of
        those allowed.
    OverflowError
        If int64 does not hold `ignore_index`.

    Warns
    -----
    LikelyMistakeWarning
        As `cross_entropy`.

    See Also
    --------
    cross_entropy : The loss with epsilon = 0, also of class probabilities.

    Notes
    -----
    Leng et al., "PolyLoss: A Polynomial Expansion Perspective of Classification Loss Functions", 2022.

    The torch equivalent is ``torch.nn.functional.cross_entropy`` of each row plus ``epsilon * (1 - p)``; optax has
    ``poly_loss_cross_entropy``. Here 1 - p is the sum of the other classes' probabilities, and keeps its digits where p
    is near 1.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> logits = np.array([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]])
    >>> targets = np.array([0, 2])
    >>> crossent.poly_loss(logits, targets, reduction="none").round(4).tolist()
    [0.4557, 6.0486]
    >>> crossent.cross_entropy(logits, targets, reduction="none").round(4).tolist()
    [0.2413, 5.055]
    """
    return _core.poly_loss(input, target, weight, epsilon, ignore_index, reduction, axis, where, dtype, out)


@overload
def poly_loss_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    epsilon: float = 1.0,
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
def poly_loss_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    epsilon: float = 1.0,
    ignore_index: int = -100,
    reduction: Literal["none"],
    axis: int | None = None,
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[np.floating[Any]] | None = None,
    grad_output: ArrayInput | None = None,
    grad_out: NDArray[Any] | None = None,
) -> tuple[NDArray[np.floating[Any]], NDArray[Any]]: ...
def poly_loss_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None = None,
    *,
    epsilon: float = 1.0,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    axis: int | None = None,
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
    grad_output: ArrayInput | None = None,
    grad_out: NDArray[Any] | None = None,
) -> tuple[Any, NDArray[Any]]:
    """Compute the poly loss of logits and its gradient with respect to them.

    For a row x of C logits with target t, p = softmax(x) and w the class weights, ::

        d loss / d x[c] = g w[t] (1 + epsilon p[t]) (p[c] - (c == t)) / D

    where g is `grad_output` and D what the reduction divides by: 1 for "sum" and "none".

    Parameters
    ----------
    input, target, weight, epsilon, ignore_index, reduction, axis, where, dtype, out
        As for `poly_loss`.
    grad_output : array-like, optional
        What the gradient is multiplied by, as in ``loss.backward(grad_output)``: a number, or with "none" also one
        for each loss, in their shape. By default 1.
    grad_out : numpy.ndarray, optional
        An array of the shape and dtype of `input` that receives the gradient and is returned. It may be `input`
        itself, which is then overwritten.

    Returns
    -------
    loss : numpy.floating or numpy.ndarray
        The loss in nats, as `poly_loss` returns it.
    grad : numpy.ndarray
        The gradient, of the shape and dtype of `input`; 0 in ignored rows.

    Raises
    ------
    IndexError, TypeError, ValueError, OverflowError
        As `poly_loss`. Besides, `ValueError` if `grad_output` or `grad_out` has another shape, or if `grad_out`
        cannot be written to or shares memory with `out`; and `TypeError` if it has another dtype. Nothing has
        been written then.

    Warns
    -----
    LikelyMistakeWarning
        As `poly_loss`.

    See Also
    --------
    poly_loss : The loss alone.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.cross_entropy`` of each row, plus ``epsilon * (1 - p)``, followed by
    ``backward``. What an ignored row holds has no effect: its gradient is 0.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> logits = np.array([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]])
    >>> loss, grad = crossent.poly_loss_and_grad(logits, np.array([0, 2]))
    >>> round(float(loss), 4)
    3.2522
    >>> grad.round(4).tolist()
    [[-0.1914, 0.0349, 0.1565], [0.0237, 0.4763, -0.5]]
    """
    return _core.poly_loss_and_grad(
        input,
        target,
        weight,
        epsilon,
        ignore_index,
        reduction,
        axis,
        where,
        dtype,
        out,
        grad_output,
        grad_out,
    )
