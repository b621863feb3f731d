"""The row functions: softmax and its relatives, along any axis."""

from __future__ import annotations

from typing import Any, Literal, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from crossent import _core
from crossent._interop import ArrayInput

_Float = TypeVar("_Float", bound=np.floating[Any])

# Each function only hands its arguments on, by position: they are checked once, in the compiled code.


@overload
def log_softmax(
    x: NDArray[_Float], axis: int | tuple[int, ...] | None = -1, *, out: NDArray[_Float] | None = None
) -> NDArray[_Float]: ...
@overload
def log_softmax(
    x: ArrayInput, axis: int | tuple[int, ...] | None = -1, *, out: NDArray[Any] | None = None
) -> NDArray[Any]: ...
def log_softmax(
    x: ArrayInput, axis: int | tuple[int, ...] | None = -1, *, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Compute the logarithm of softmax, the log-probabilities that logits stand for.

    For each row x of C logits along `axis`, or over several axes, ::

        log_softmax(x)[i] = x[i] - log(sum_c exp(x[c]))

    Parameters
    ----------
    x : array-like
        Logits of any shape, float16, bfloat16, float32 or float64.
    axis : int, tuple of int or None, default -1
        The axis of the classes, or several that make up one row; None for all. A single number has the axes 0 and -1.
    out : numpy.ndarray, optional
        An array of the shape and dtype of `x` that receives the result and is returned.

    Returns
    -------
    numpy.ndarray
        Log-probabilities in nats, of the shape and dtype of `x`.

    Raises
    ------
    TypeError
        If `x` cannot be read as an array or has no floating dtype, or if `out` has another dtype.
    ValueError
        If an axis is given twice, or if `out` has another shape or cannot be written to.
    IndexError
        If an axis is out of range.

    See Also
    --------
    softmax : The probabilities.
    cross_entropy : The loss, without the array of log-probabilities in between.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.log_softmax(x, dim=axis)``; there `dim` has no default worth
    relying on. Several axes, and None for all, are SciPy's. float16 and bfloat16 are widened inside and rounded at the
    end. A row that holds nan or +inf, or nothing but -inf, gives a row of nan, as in torch. Several axes that do not
    follow each other in memory are copied once.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> x = np.array([[1.0, 2.0, 3.0], [0.0, -1.0, 4.0]])
    >>> crossent.log_softmax(x).round(4).tolist()
    [[-2.4076, -1.4076, -0.4076], [-4.0247, -5.0247, -0.0247]]
    """
    return _core.log_softmax(x, axis, out)


@overload
def softmax(
    x: NDArray[_Float], axis: int | tuple[int, ...] | None = -1, *, out: NDArray[_Float] | None = None
) -> NDArray[_Float]: ...
@overload
def softmax(
    x: ArrayInput, axis: int | tuple[int, ...] | None = -1, *, out: NDArray[Any] | None = None
) -> NDArray[Any]: ...
def softmax(
    x: ArrayInput, axis: int | tuple[int, ...] | None = -1, *, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Compute softmax, the probabilities that logits stand for.

    For each row x of C logits along `axis`, or over several axes, ::

        softmax(x)[i] = exp(x[i]) / sum_c exp(x[c])

    Parameters
    ----------
    x : array-like
        Logits of any shape, float16, bfloat16, float32 or float64.
    axis : int, tuple of int or None, default -1
        The axis of the classes, or several that make up one row; None for all. A single number has the axes 0 and -1.
    out : numpy.ndarray, optional
        An array of the shape and dtype of `x` that receives the result and is returned.

    Returns
    -------
    numpy.ndarray
        Probabilities from 0 to 1, of the shape and dtype of `x`; each row sums to 1 but for rounding.

    Raises
    ------
    TypeError
        If `x` cannot be read as an array or has no floating dtype, or if `out` has another dtype.
    ValueError
        If an axis is given twice, or if `out` has another shape or cannot be written to.
    IndexError
        If an axis is out of range.

    See Also
    --------
    log_softmax : The logarithms, which do not underflow.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.softmax(x, dim=axis)``; there `dim` has no default worth
    relying on. Several axes, and None for all, are SciPy's. float16 and bfloat16 are widened inside and rounded at the
    end. A row that holds nan or +inf, or nothing but -inf, gives a row of nan, as in torch. Several axes that do not
    follow each other in memory are copied once.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> x = np.array([[1.0, 2.0, 3.0], [0.0, -1.0, 4.0]])
    >>> crossent.softmax(x).round(4).tolist()
    [[0.09, 0.2447, 0.6652], [0.0179, 0.0066, 0.9756]]
    >>> crossent.softmax(x, axis=0).round(4).tolist()
    [[0.7311, 0.9526, 0.2689], [0.2689, 0.0474, 0.7311]]
    """
    return _core.softmax(x, axis, out)


@overload
def logsumexp(
    x: NDArray[_Float],
    axis: None = None,
    *,
    b: None = None,
    keepdims: Literal[False] = False,
    return_sign: Literal[False] = False,
    out: None = None,
) -> _Float: ...
@overload
def logsumexp(
    x: NDArray[_Float],
    axis: int | tuple[int, ...] | None = None,
    *,
    b: ArrayInput | None = None,
    keepdims: Literal[True],
    return_sign: Literal[False] = False,
    out: NDArray[_Float] | None = None,
) -> NDArray[_Float]: ...
@overload
def logsumexp(
    x: ArrayInput,
    axis: int | tuple[int, ...] | None = None,
    *,
    b: ArrayInput | None = None,
    keepdims: bool = False,
    return_sign: Literal[True],
    out: NDArray[Any] | None = None,
) -> tuple[Any, Any]: ...
@overload
def logsumexp(
    x: ArrayInput,
    axis: int | tuple[int, ...] | None = None,
    *,
    b: ArrayInput | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
    out: NDArray[Any] | None = None,
) -> Any: ...
def logsumexp(
    x: ArrayInput,
    axis: int | tuple[int, ...] | None = None,
    *,
    b: ArrayInput | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
    out: NDArray[Any] | None = None,
) -> Any:
    """Compute the logarithm of the sum of exponentials.

    Over the axes given, with m the largest element, ::

        logsumexp(x) = log(sum_c exp(x[c])) = m + log(sum_c exp(x[c] - m))

        logsumexp(x, b=b) = log(sum_c b[c] exp(x[c]))

    Parameters
    ----------
    x : array-like
        Values of any shape, float16, bfloat16, float32 or float64. Integers and booleans are summed as float64.
    axis : int, tuple of int or None, default None
        The axes to sum over; None for all, as in NumPy's reductions. A single number has the axes 0 and -1.
    b : array-like, optional
        Factors of the exponentials, of any sign and any real dtype. `x` and `b` are broadcast to each other, and `axis`
        counts the axes of that shape. Where a factor is 0, the element adds nothing, even if it is infinite or nan.
    keepdims : bool, default False
        Whether the axes summed over stay in the result, with length 1.
    return_sign : bool, default False
        Whether the sign of the sum is returned too: the result is then the logarithm of its magnitude.
    out : numpy.ndarray, optional
        An array of the result's shape and dtype that receives the result (not the sign) and is returned.

    Returns
    -------
    result : numpy.floating or numpy.ndarray
        The result in nats, in the dtype of `x`: an array, or a NumPy scalar where no axis is left. Without
        `return_sign`, nan where the sum is negative.
    sign : numpy.floating or numpy.ndarray
        With `return_sign`, in the same form: 1, -1, 0 where the sum is 0 (and the result -inf), or nan.

    Raises
    ------
    TypeError
        If `x` or `b` cannot be read as an array of real numbers, or if `out` has another dtype.
    ValueError
        If an axis is given twice, if `b` does not fit `x`, or if `out` has another shape or cannot be written to.
    IndexError
        If an axis is out of range.

    See Also
    --------
    log_softmax : ``x - logsumexp(x)`` for each row, with more digits.

    Notes
    -----
    The torch equivalent is ``torch.logsumexp(x, dim=axis, keepdim=keepdims)``, where `dim` is required; `b` and
    `return_sign` are those of ``scipy.special.logsumexp``, for real numbers. The sum of nothing is 0, and its logarithm
    -inf; nan gives nan.

    With `b`, the sum is formed in float64 relative to its largest term b exp(x), however large or small x and b are
    alone, and its rounding errors are kept: it loses no more digits than terms of both signs cancel. No axis is copied
    into another place, and `b` is not repeated in memory.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> x = np.array([[1.0, 2.0, 3.0], [0.0, -1.0, 4.0]])
    >>> round(float(crossent.logsumexp(x)), 4)
    4.4562
    >>> crossent.logsumexp(x, axis=1).round(4).tolist()
    [3.4076, 4.0247]
    >>> round(float(crossent.logsumexp(np.array([1000.0, 1000.0]))), 4)
    1000.6931
    >>> difference, sign = crossent.logsumexp(
    ...     np.array([1000.0, 1001.0]), b=[1, -1], return_sign=True
    ... )
    >>> round(float(difference), 4), float(sign)
    (1000.5413, -1.0)
    """
    return _core.logsumexp(x, axis, b, keepdims, return_sign, out)


@overload
def log_sigmoid(x: NDArray[_Float], *, out: NDArray[_Float] | None = None) -> NDArray[_Float]: ...
@overload
def log_sigmoid(x: ArrayInput, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
def log_sigmoid(x: ArrayInput, *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Compute the logarithm of the logistic function, element by element.

    For each element, ::

        log_sigmoid(x) = log(1 / (1 + exp(-x))) = -log(1 + exp(-x))

    Parameters
    ----------
    x : array-like
        Values of any shape, float16, bfloat16, float32 or float64.
    out : numpy.ndarray, optional
        An array of the shape and dtype of `x` that receives the result and is returned.

    Returns
    -------
    numpy.ndarray
        Log-probabilities in nats, of the shape and dtype of `x`.

    Raises
    ------
    TypeError
        If `x` cannot be read as an array or has no floating dtype, or if `out` has another dtype.
    ValueError
        If `out` has another shape or cannot be written to.

    See Also
    --------
    log_softmax : Log-probabilities of any number of classes.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.logsigmoid(x)``. Nothing overflows, and all digits are kept
    on both sides: log_sigmoid(-200) is -200 and log_sigmoid(40) is -4.25e-18. The limits at -inf and +inf are
    -inf and 0; nan gives nan.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> crossent.log_sigmoid(np.array([-1000.0, -1.0, 0.0, 2.0])).round(4).tolist()
    [-1000.0, -1.3133, -0.6931, -0.1269]
    """
    return _core.log_sigmoid(x, out)
