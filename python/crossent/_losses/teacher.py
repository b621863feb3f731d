"""The divergence of logits from a teacher of which the largest probabilities are known: value and gradient."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from crossent import _core
from crossent._interop import ArrayInput

_Reduction: TypeAlias = Literal["batchmean"] | Literal["sum"] | Literal["none"]


@overload
def kl_div_topk(
    input: ArrayInput,
    teacher_ids: ArrayInput,
    teacher_log_probs: ArrayInput,
    *,
    tail: bool = True,
    reduction: Literal["batchmean", "sum"] = "batchmean",
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    out: None = None,
) -> np.floating[Any]: ...
@overload
def kl_div_topk(
    input: ArrayInput,
    teacher_ids: ArrayInput,
    teacher_log_probs: ArrayInput,
    *,
    tail: bool = True,
    reduction: Literal["none"],
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[np.floating[Any]] | None = None,
) -> NDArray[np.floating[Any]]: ...
def kl_div_topk(
    input: ArrayInput,
    teacher_ids: ArrayInput,
    teacher_log_probs: ArrayInput,
    *,
    tail: bool = True,
    reduction: _Reduction = "batchmean",
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    """Compute how far the softmax of logits is from a teacher's, of which the k largest probabilities are stored.

    For a row of V logits, q = softmax(row), and the teacher's probabilities p of the classes i[0], ..., i[k-1], ::

        loss = sum_j p[j] (log(p[j]) - log(q[i[j]])) + p_T (log(p_T) - log(q_T))

    where p_T = 1 - sum_j p[j] and q_T = 1 - sum_j q[i[j]] are the probabilities of all other classes together, the
    tail. This is the Kullback-Leibler divergence KL(teacher || student) of the k + 1 probabilities: it is never
    negative, and 0 only where they agree. It is at most the divergence over all V classes.

    Parameters
    ----------
    input : array-like of shape (N, V), (V,) or (..., V)
        The student's logits, float16, bfloat16, float32 or float64, with the classes along the last axis.
    teacher_ids : array-like of int, of shape (N, k)
        Classes of each row, all different: those with the largest probabilities, in any order.
    teacher_log_probs : array-like of shape (N, k)
        The logarithms of the teacher's probabilities of these classes, in nats; -inf for a probability of 0. They are
        log-probabilities over all V classes, not normalised over the k.
    tail : bool, default True
        Whether the other classes have the rest of the teacher's probability. With False the tail's term is left out:
        the loss may then be negative, and has its minimum where the student gives the k classes all probability.
    reduction : {"batchmean", "sum", "none"}, default "batchmean"
        How the losses of the rows are reduced: to their mean over the counted rows, to their sum, or not at all.
    where : array-like of bool, or of integers 0 and 1, optional
        A mask of the rows, of shape (N,). The rows it leaves out do not count, their loss is 0, and what they hold has
        no effect.
    dtype : dtype, optional
        The dtype of the result; by default float64 for a float64 `input`, else float32.
    out : numpy.ndarray, optional
        With "none", the array that receives the losses and is returned.

    Returns
    -------
    numpy.floating or numpy.ndarray
        The loss in nats: a NumPy scalar, or with "none" the losses of the rows, of shape (N,).

    Raises
    ------
    IndexError
        If an id is not a class.
    TypeError
        If an argument cannot be read as an array, or has a dtype that does not fit.
    ValueError
        If shapes do not fit each other; if an id is twice in a row; if a log-probability is nan, or positive by more
        than rounding makes it (0.05); if the probabilities of a row add up to more than 1.05, or those of all V
        classes, where no tail is left, to less than 0.95; or if `reduction` is none of those allowed.

    Warns
    -----
    LikelyMistakeWarning
        If `input` looks like probabilities, if there is one class only, or if "batchmean" counts no row.

    See Also
    --------
    kl_div_topk_and_grad : The loss and its gradient.
    kl_div : The divergence of distributions that are known whole.
    compare : All divergences of two models' logits.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.kl_div`` of the k + 1 log-probabilities, with
    ``reduction="batchmean"`` and ``log_target=True``. There log(q_T) = log(1 - sum q) is -inf where the student is sure
    of the k classes; here the tail is summed without them, and the loss has all digits. Each row is computed in
    float64, whatever its dtype.

    "batchmean" divides by the number of rows that count, whatever axes they lie along.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> teacher = np.array([[4.0, 2.0, 0.0, -1.0, -1.0]])
    >>> student = np.array([[3.0, 2.0, 1.0, 0.0, -2.0]])
    >>> scores = crossent.score(teacher, [0], top_k=2)
    >>> ids, log_probs = scores.top_ids, scores.top_log_probs
    >>> round(float(crossent.kl_div_topk(student, ids, log_probs)), 4)
    0.1251
    >>> round(crossent.compare(teacher, student).kl_mean, 4)  # over all classes
    0.1311
    """
    return _core.kl_div_topk(input, teacher_ids, teacher_log_probs, tail, reduction, where, dtype, out)


@overload
def kl_div_topk_and_grad(
    input: ArrayInput,
    teacher_ids: ArrayInput,
    teacher_log_probs: ArrayInput,
    *,
    tail: bool = True,
    reduction: Literal["batchmean", "sum"] = "batchmean",
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    out: None = None,
    grad_output: ArrayInput | None = None,
    grad_out: NDArray[Any] | None = None,
) -> tuple[np.floating[Any], NDArray[Any]]: ...
@overload
def kl_div_topk_and_grad(
    input: ArrayInput,
    teacher_ids: ArrayInput,
    teacher_log_probs: ArrayInput,
    *,
    tail: bool = True,
    reduction: Literal["none"],
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[np.floating[Any]] | None = None,
    grad_output: ArrayInput | None = None,
    grad_out: NDArray[Any] | None = None,
) -> tuple[NDArray[np.floating[Any]], NDArray[Any]]: ...
def kl_div_topk_and_grad(
    input: ArrayInput,
    teacher_ids: ArrayInput,
    teacher_log_probs: ArrayInput,
    *,
    tail: bool = True,
    reduction: _Reduction = "batchmean",
    where: ArrayInput | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
    grad_output: ArrayInput | None = None,
    grad_out: NDArray[Any] | None = None,
) -> tuple[Any, NDArray[Any]]:
    """Compute the divergence from a teacher's k largest probabilities and its gradient with respect to the logits.

    For a row x with q = softmax(x), and the teacher's p of the k classes i[0], ..., i[k-1], ::

        d loss / d x[i[j]] = g (q[i[j]] - p[j]) / D
        d loss / d x[c] = g (q_T - p_T) (q[c] / q_T) / D                 c in the tail
        d loss / d x[c] = g (q[c] sum(p) - p[j] (c == i[j])) / D         without the tail's term

    where g is `grad_output` and D what the reduction divides by: 1 for "sum" and "none".

    Parameters
    ----------
    input, teacher_ids, teacher_log_probs, tail, reduction, where, dtype, out
        As for `kl_div_topk`.
    grad_output : array-like, optional
        The upstream gradient, which multiplies the result, as in ``loss.backward(grad_output)``: a number, or with
        "none" also one for each loss, in their shape. By default 1.
    grad_out : numpy.ndarray, optional
        An array of the shape and dtype of `input` that receives the gradient and is returned. It may be `input`
        itself, which is then overwritten.

    Returns
    -------
    loss : numpy.floating or numpy.ndarray
        The loss in nats, as `kl_div_topk` returns it.
    grad : numpy.ndarray
        The gradient, of the shape and dtype of `input`; 0 in the rows that `where` leaves out.

    Raises
    ------
    IndexError, TypeError, ValueError
        As `kl_div_topk`. Besides, `ValueError` if `grad_output` or `grad_out` has another shape, or if `grad_out`
        cannot be written to or shares memory with `out`; and `TypeError` if it has another dtype. Nothing has
        been written then.

    Warns
    -----
    LikelyMistakeWarning
        As `kl_div_topk`.

    See Also
    --------
    kl_div_topk : The loss alone.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.kl_div`` of the k + 1 log-probabilities followed by ``backward``.

    Examples
    --------
    A student that learns from what a server returned of the teacher, the two largest log-probabilities of each row:

    >>> import numpy as np
    >>> import crossent
    >>> ids, log_probs = np.array([[1, 3]]), np.log([[0.6, 0.3]])
    >>> student = np.zeros((1, 5))
    >>> for _ in range(300):
    ...     loss, grad = crossent.kl_div_topk_and_grad(student, ids, log_probs)
    ...     student -= grad
    >>> crossent.softmax(student).round(3).tolist()
    [[0.033, 0.6, 0.033, 0.3, 0.033]]
    """
    return _core.kl_div_topk_and_grad(
        input,
        teacher_ids,
        teacher_log_probs,
        tail,
        reduction,
        where,
        dtype,
        out,
        grad_output,
        grad_out,
    )
