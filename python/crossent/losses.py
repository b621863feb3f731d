"""The losses: torch's names, order and defaults over the compiled functions."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from crossent import _core
from crossent.interop import ArrayInput

# Each function only hands its arguments on, by position: they are checked once, in the compiled code.


@overload
def cross_entropy(
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
    axis: int | None = None,
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[np.floating[Any]] | None = None,
) -> NDArray[np.floating[Any]]: ...
@overload
def cross_entropy(
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
) -> Any: ...
def cross_entropy(
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
) -> Any:
    """Compute the cross entropy between logits and their targets.

    For a row x of C logits, with w the class weights (all 1 without `weight`) and e the label smoothing, ::

        log_p = x - log(sum_c exp(x[c]))

        loss = -(1 - e) w[t] log_p[t] - e/C sum_c w[c] log_p[c]       target t, a class index
        loss = -sum_c w[c] ((1 - e) p[c] + e/C) log_p[c]              target p, class probabilities

    "mean" divides the sum of the losses by the sum of w[t] over the counted rows (their number, without
    `weight`) where the targets are class indices, and by the number of counted rows where they are
    probabilities.

    Parameters
    ----------
    input : array-like of shape (C,), (N, C) or (N, C, d1, ..., dk)
        Logits: unnormalised scores, float16, bfloat16, float32 or float64. With `axis`, the classes may lie
        along any axis. A logit of -inf is a class of probability 0.
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
        What becomes of the losses of the rows: their weighted mean, their sum, or nothing.
    label_smoothing : float, default 0.0
        From 0 to 1: how much of the target is spread evenly over all classes.
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
        If shapes do not fit each other, or if `reduction` or `label_smoothing` is not one of those allowed.
    OverflowError
        If int64 does not hold `ignore_index`.

    Warns
    -----
    LikelyMistakeWarning
        If `input` looks like probabilities, if there is one class only, or if a mean counts no row.

    See Also
    --------
    nll_loss : The same for log-probabilities.
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
    * `axis`, `where`, `dtype` and `out` are additions; everything after `weight` is keyword-only.

    A mean over no rows is nan, as in torch, with a warning. The result has the same bits for any memory
    layout, class axis, row batching and number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> logits = np.array([[0.0500, -0.6461, 0.9130, -0.0553], [-0.3201, 1.5033, 0.2070, 1.8456]])
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
    return _core.cross_entropy(
        input, target, weight, ignore_index, reduction, label_smoothing, axis, where, dtype, out
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
@overload
def nll_loss(
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
) -> Any: ...
def nll_loss(
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
        What becomes of the losses of the rows: their weighted mean, their sum, or nothing.
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
    cross_entropy : The same from logits, in one pass and with more digits.
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
    >>> crossent.nll_loss(log_probabilities, targets, reduction="none").round(4).tolist()
    [0.6931, 0.3567]
    """
    return _core.nll_loss(input, target, weight, ignore_index, reduction, axis, where, dtype, out)
