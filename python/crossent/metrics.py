"""Scores of classifiers with scikit-learn's names and semantics."""

from __future__ import annotations

import contextlib
import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossent import _core
from crossent._exact import ExactSum, quotient
from crossent.interop import ArrayInput, as_array, float_name

# The distances from 1 to the next larger number.
_EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}


def log_loss(
    y_true: ArrayInput,
    y_proba: ArrayInput,
    *,
    labels: ArrayInput | None = None,
    sample_weight: ArrayInput | None = None,
    normalize: bool = True,
    eps: float | str = "auto",
) -> float:
    """Compute the log loss of a classifier's probabilities.

    For rows of probabilities p with weights w and the label of row n in column t[n], ::

        loss = -sum_n w[n] log(min(max(p[n, t[n]], eps), 1 - eps)) / sum_n w[n]

    Parameters
    ----------
    y_true : array-like of shape (N,), or (N, C) with a single 1 in each row
        The right labels: numbers, strings or booleans; or an indicator of the right column.
    y_proba : array-like of shape (N, C) or (N,)
        Probabilities, float16, bfloat16, float32 or float64, as `predict_proba` gives them: one column for each
        label in ascending order. Of shape (N,) or (N, 1), those of the larger of two labels.
    labels : array-like of shape (C,), optional
        All labels; by default those that occur in `y_true`.
    sample_weight : array-like of shape (N,), optional
        A weight for each row.
    normalize : bool, default True
        Divide by the sum of the weights. If false, the weighted losses are only added up.
    eps : float or "auto", default "auto"
        Probabilities count as at least `eps` and at most 1 - `eps`. "auto" is the distance from 1 to the next
        number of the dtype of `y_proba`; 0 takes them as they are.

    Returns
    -------
    float
        The loss in nats: one number, without a shape.

    Raises
    ------
    TypeError
        If an argument cannot be read as an array, or has a dtype that does not fit.
    ValueError
        If a number is no probability, shapes or numbers of labels do not fit each other, there are less than
        two labels, or the weights sum to 0.

    Warns
    -----
    UserWarning
        If a row does not sum to 1, or if `labels` are not in ascending order.

    See Also
    --------
    cross_entropy : From logits, with more digits.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.nll_loss(p.clamp(eps, 1 - eps).log(), t)``. This is scikit-learn's
    ``sklearn.metrics.log_loss``, which makes an indicator of the labels, clips a copy and takes all its logarithms.
    Here the probabilities are read once, in any layout, and nothing of their size is made. Logarithms and sums are
    those of float64 for every dtype. What differs: an indicator must have a single 1 in each row.

    Examples
    --------
    >>> import crossent
    >>> loss = crossent.log_loss(
    ...     ["spam", "ham", "ham", "spam"], [[0.1, 0.9], [0.9, 0.1], [0.8, 0.2], [0.35, 0.65]]
    ... )
    >>> round(loss, 5)
    0.21616
    """
    probabilities = _probabilities(y_proba)
    least = _least(eps, probabilities)
    rows, columns = probabilities.shape
    labels_of_rows = _labels(y_true)
    weight = None if sample_weight is None else _weights(sample_weight)
    sizes = [rows, len(labels_of_rows), *([] if weight is None else [len(weight)])]
    if len(set(sizes)) > 1:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: got {sizes} for y_proba, y_true"
            f"{'' if weight is None else ' and sample_weight'}, expected the same"
        )
    if rows == 0:
        raise ValueError("there are no rows: got an empty y_true, expected one label or more")
    tolerance = math.sqrt(_eps_of(probabilities))
    given = None if labels is None else _read(labels, "labels")
    try:
        codes = _codes(labels_of_rows, given, columns)
    except TypeError as error:
        got = str(labels_of_rows.dtype) + ("" if given is None else f" and {given.dtype}")
        with_labels = "" if given is None else " and those of labels"
        raise TypeError(
            f"the labels of y_true{with_labels} cannot be sorted: got dtype {got}, expected numbers, strings or "
            f"booleans ({error})"
        ) from error
    loss, total, improper, not_normalised = _core.log_loss(probabilities, codes, weight, least, tolerance)
    if improper is not None:
        row = np.asarray(probabilities[improper], dtype=np.float64)
        wrong = int(np.flatnonzero(~((row >= 0) & (row <= 1)))[0])
        raise ValueError(
            f"y_proba holds a number that is no probability: got y_proba[{improper}, {wrong}] = {row[wrong]:g}, "
            "expected 0 to 1; logits? use softmax first, or cross_entropy"
        )
    if not_normalised is not None:
        warnings.warn(
            "The y_prob values do not sum to one. Make sure to pass probabilities (the first such row is "
            f"{not_normalised}).",
            UserWarning,
            stacklevel=2,
        )
    if not normalize:
        return float(ExactSum.from_core(loss))
    return _mean(ExactSum.from_core(loss), ExactSum.from_core(total))


def _mean(loss: ExactSum, total: ExactSum) -> float:
    if total.is_finite and total.units == 0:
        raise ValueError("the weights sum to 0: got sample_weight of both signs, expected a sum above 0")
    if loss.is_finite and total.is_finite:
        return quotient(loss.units, total.units)
    return float(loss) / float(total)


def _probabilities(y_proba: ArrayInput) -> NDArray[Any]:
    array = as_array(y_proba, "y_proba")
    if array.dtype.kind in "iub":
        array = array.astype(np.float64)
    if array.ndim == 1:
        array = array[:, np.newaxis]
    if array.ndim != 2:
        raise ValueError(f"y_proba has the wrong shape: got {array.shape}, expected (N, C) or (N,)")
    if float_name(array.dtype) is None:
        raise TypeError(f"y_proba must be floating: got dtype {array.dtype}")
    if array.shape[1] == 0:
        raise ValueError(f"y_proba has no column: got shape {array.shape}, expected one for each label")
    return array


def _eps_of(probabilities: NDArray[Any]) -> float:
    return _EPS[float_name(probabilities.dtype) or "float64"]


def _least(eps: float | str, probabilities: NDArray[Any]) -> float:
    if isinstance(eps, str):
        if eps != "auto":
            raise ValueError(f"eps is not understood: got {eps!r}, expected 'auto' or a number from 0 to 0.5")
        return _eps_of(probabilities)
    if not 0.0 <= float(eps) <= 0.5:
        raise ValueError(f"eps is out of range: got {eps}, expected 'auto' or a number from 0 to 0.5")
    return float(eps)


def _weights(sample_weight: ArrayInput) -> NDArray[np.float64]:
    array = as_array(sample_weight, "sample_weight")
    if array.dtype.kind not in "iubf":
        raise TypeError(f"sample_weight must be numbers: got dtype {array.dtype}")
    array = array.astype(np.float64)
    if array.ndim != 1:
        raise ValueError(f"sample_weight has the wrong shape: got {array.shape}, expected (N,)")
    if not np.isfinite(array).all():
        raise ValueError("sample_weight holds nan or an infinity, expected finite weights")
    if array.size and not array.any():
        raise ValueError("sample_weight holds nothing but zeros, expected a weight that counts")
    return array


def _read(labels: ArrayInput, name: str) -> NDArray[Any]:
    """Return labels as an array; they may be Python objects too, as strings often are."""
    try:
        return as_array(labels, name)
    except TypeError:
        with contextlib.suppress(Exception):
            array = np.asarray(labels)
            if array.dtype.hasobject and not isinstance(labels, np.ma.MaskedArray):
                return array
        raise


def _labels(y_true: ArrayInput) -> NDArray[Any]:
    """Return the label of each row; of an indicator, the number of its column."""
    array = _read(y_true, "y_true")
    if array.ndim == 2 and array.shape[1] == 1:
        return array[:, 0]
    if array.ndim == 2 and array.dtype.kind in "iubf":
        ones = array == 1
        if ((array == 0) | ones).all() and (ones.sum(axis=1) == 1).all():
            return np.asarray(ones.argmax(axis=1))
        raise ValueError(
            "y_true holds no labels: got two dimensions, expected one label for each row, or an indicator with a "
            "single 1 in each; for a distribution in each row use cross_entropy"
        )
    if array.ndim != 1:
        raise ValueError(
            f"y_true has the wrong shape: got {array.shape}, expected (N,), one label for each row"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("y_true holds nan or an infinity, expected labels")
    return array


def _codes(y_true: NDArray[Any], given: NDArray[Any] | None, columns: int) -> NDArray[np.int64]:
    """Return the column of each row's label."""
    if given is None:
        classes, codes = np.unique(y_true, return_inverse=True)
    else:
        classes = np.unique(given)
        if given.shape != classes.shape or not np.array_equal(given, classes):
            warnings.warn(
                f"Labels passed were {given.tolist()}. But this function assumes labels are ordered "
                f"lexicographically. Pass the ordered labels={classes.tolist()} and ensure that the columns of y_prob "
                "correspond to this ordering.",
                UserWarning,
                stacklevel=3,
            )
        known = np.isin(y_true, classes)
        if not known.all():
            strangers = set(y_true[~known].tolist())
            raise ValueError(
                f"y_true contains values {strangers} not belonging to the passed labels {given.tolist()}."
            )
        codes = np.searchsorted(classes, y_true)
    if len(classes) < 2:
        if given is None:
            raise ValueError(
                f"y_true contains only one label ({classes[0]}). Please provide the list of all expected class labels "
                "explicitly through the labels argument."
            )
        raise ValueError(f"The labels array needs to contain at least two labels, got {classes}.")
    if len(classes) != max(columns, 2):
        source = "y_true" if given is None else "labels"
        fix = "; name all of them with labels=" if given is None else ""
        raise ValueError(
            f"the numbers of labels and columns differ: got {len(classes)} labels in {source} "
            f"({classes.tolist()[:10]}) and {max(columns, 2)} columns in y_proba, expected the same{fix}"
        )
    return np.ascontiguousarray(codes.reshape(-1), dtype=np.int64)
