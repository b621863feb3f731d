"""Scores of classifiers with scikit-learn's names and semantics."""

from __future__ import annotations

import math
import os
import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from crossent import _core
from crossent._exact import ExactSum, quotient
from crossent._interop import ArrayInput, as_array, as_labels, float_name

# The distances from 1 to the next larger number.
_EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}


def log_loss(
    y_true: ArrayInput,
    y_proba: ArrayInput,
    *,
    labels: ArrayInput | None = None,
    sample_weight: ArrayInput | None = None,
    normalize: bool = True,
    eps: float | Literal["auto"] = "auto",
) -> float:
    """Compute the log loss of a classifier's probabilities.

    For rows of probabilities p with weights w and the label of row n in column t[n], ::

        loss = -sum_n w[n] log(min(max(p[n, t[n]], eps), 1 - eps)) / sum_n w[n]

    Parameters
    ----------
    y_true : array-like of shape (N,), or (N, C) with a single 1 in each row
        The true labels: numbers, strings or booleans; or an indicator of the true label's column.
    y_proba : array-like of shape (N, C) or (N,)
        Probabilities, float16, bfloat16, float32 or float64, as `predict_proba` gives them: one column for each label
        in ascending order. Of shape (N,) or (N, 1), those of the larger of two labels. Where it is a frame of pandas,
        polars or PyArrow whose columns are named exactly as the labels, or are so without a prefix such as ``p_``
        that all share, the names assign the columns to the labels, in any order.
    labels : array-like of shape (C,), optional
        All labels; by default those that occur in `y_true`.
    sample_weight : array-like of shape (N,), optional
        A weight for each row.
    normalize : bool, default True
        Divide by the sum of the weights. If false, the weighted losses are only added up.
    eps : float or "auto", default "auto"
        Probabilities are clipped to the range from `eps` to 1 - `eps`. "auto" is the distance from 1 to the next
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
        If a row does not sum to 1, if `labels` are not in ascending order, or if columns are taken by their names in
        another order than that of `labels`, or by names that are numbers or begin with a prefix.

    See Also
    --------
    cross_entropy : From logits, with more digits.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.nll_loss(p.clamp(eps, 1 - eps).log(), t)``. This is scikit-learn's
    ``sklearn.metrics.log_loss``, which makes an indicator of the labels, clips a copy and takes all its logarithms.
    Here the probabilities are read once, in any layout, without an array of their size. Logarithms and sums are those
    of float64 for every dtype. What differs: an indicator must have a single 1 in each row.

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
    _refuse_swapped(labels_of_rows, probabilities)
    weight = None if sample_weight is None else _weights(sample_weight)
    sizes = [rows, len(labels_of_rows), *([] if weight is None else [len(weight)])]
    if len(set(sizes)) > 1:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: got {sizes} for y_proba, y_true"
            f"{'' if weight is None else ' and sample_weight'}, expected the same"
        )
    if rows == 0:
        raise ValueError("there are no rows: got an empty y_true, expected one label or more")
    tolerance = math.sqrt(eps_of(probabilities))
    given = None if labels is None else as_labels(labels, "labels")
    try:
        codes = _codes(labels_of_rows, given, columns, _names(y_proba, columns), _names(y_true, columns))
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
            f"expected 0 to 1; {_no_probability(float(row[wrong]))}"
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


def _no_probability(value: float) -> str:
    """Suggest a fix for a number that is no probability."""
    if math.isnan(value):
        return "find out where nan comes from"
    if -1e-3 <= value <= 1 + 1e-3:
        return "a rounding? use numpy.clip(y_proba, 0, 1)"
    return "logits? use softmax first, or cross_entropy"


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


def eps_of(probabilities: NDArray[Any]) -> float:
    """Return the distance from 1 to the next larger number of the dtype of an array."""
    return _EPS[float_name(probabilities.dtype) or "float64"]


def _least(eps: float | Literal["auto"], probabilities: NDArray[Any]) -> float:
    if isinstance(eps, str):
        if eps != "auto":
            raise ValueError(f"eps is not understood: got {eps!r}, expected 'auto' or a number from 0 to 0.5")
        return eps_of(probabilities)
    if not 0.0 <= float(eps) <= 0.5:
        raise ValueError(f"eps is out of range: got {eps}, expected 'auto' or a number from 0 to 0.5")
    return float(eps)


def _weights(sample_weight: ArrayInput) -> NDArray[np.float64]:
    array = as_array(sample_weight, "sample_weight")
    if array.dtype.kind not in "iubf":
        raise TypeError(f"sample_weight must be numbers: got dtype {array.dtype}, expected a real one")
    array = array.astype(np.float64)
    if array.ndim != 1:
        hint = _core.shape_hint("sample_weight", array.shape, [array.size])
        raise ValueError(
            f"sample_weight has the wrong shape: got {array.shape}, expected (N,){f'; {hint}' if hint else ''}"
        )
    if not np.isfinite(array).all():
        raise ValueError("sample_weight holds nan or an infinity, expected finite weights")
    if array.size and not array.any():
        raise ValueError("sample_weight holds nothing but zeros, expected a weight that counts")
    return array


def _labels(y_true: ArrayInput) -> NDArray[Any]:
    """Return the label of each row; of an indicator, the number of its column."""
    array = as_labels(y_true, "y_true")
    if array.ndim == 2 and array.shape[1] == 1:
        return array[:, 0]
    if array.ndim == 2 and array.dtype.kind in "iubf":
        ones = array == 1
        if ((array == 0) | ones).all() and (ones.sum(axis=1) == 1).all():
            return np.asarray(ones.argmax(axis=1))
        raise ValueError(
            "y_true holds no labels: got two dimensions, expected one label for each row, or an indicator with a "
            "single 1 in each; y_true comes first and y_proba second; for a distribution in each row use cross_entropy"
        )
    if array.ndim != 1:
        raise ValueError(
            f"y_true has the wrong shape: got {array.shape}, expected (N,), one label for each row"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(
            "y_true holds nan or an infinity, expected labels; leave rows whose label is missing out of all arguments"
        )
    return array


def _names(frame: Any, columns: int) -> list[str] | None:
    """Return the names of a frame's columns as text, if each column has one of its own."""
    library = next((str(cls.__module__).partition(".")[0] for cls in type(frame).__mro__), "")
    if library not in ("pandas", "polars", "pyarrow"):
        return None
    names = getattr(frame, "column_names", None)  # of PyArrow
    if names is None:
        names = getattr(frame, "columns", None)
    if names is None or columns < 2:
        return None
    told = [_as_name(name) for name in names]
    return told if len(set(told)) == len(told) == columns else None


def _as_name(label: Any) -> str:
    """Write a label as the name of a column has it: 1.0, which pandas makes of 1, as 1."""
    if isinstance(label, float | np.floating) and float(label).is_integer():
        return str(int(label))
    return str(label)


def _by_name(classes: NDArray[Any], given: NDArray[Any] | None, names: list[str] | None) -> list[int] | None:
    """Return the column of each class, where the columns are named as the classes; else nothing.

    Warns where the names and something else disagree on the order, or names may mean something else.
    """
    wanted = [_as_name(label) for label in classes.tolist()]
    if names is None or len(names) != len(wanted):
        return None
    matched = names
    if set(names) != set(wanted):
        length = max((os.path.commonprefix(names).rfind(sign) + 1 for sign in "_.:- "), default=0)  # noqa: RUF071
        matched = [name[length:] for name in names]
        if set(matched) != set(wanted):
            return None
    places = [matched.index(label) for label in wanted]
    order = None if given is None else [_as_name(label) for label in given.tolist()]
    in_order = places == list(range(len(places)))
    if order is not None and order != matched:
        why = f"labels= has the order {order[:10]}"
    elif in_order:
        return places
    elif matched is not names:
        why = "their names have a prefix"
    elif all(name.lstrip("-").isdecimal() for name in names):
        why = "their names are numbers"
    else:
        return places
    warnings.warn(
        f"The columns of y_proba are taken by their names, {names[:10]}, though {why}. To be sure, pass them in "
        f"the order of the labels, {wanted[:10]}.",
        UserWarning,
        stacklevel=4,
    )
    return places


def _refuse_swapped(labels: NDArray[Any], probabilities: NDArray[Any]) -> None:
    """Raise where the labels are probabilities, and these 0 and 1: two probabilities would pass as two labels."""
    if labels.dtype.kind != "f" or probabilities.shape[1] != 1 or not _are_fractions(labels):
        return
    if ((probabilities == 0) | (probabilities == 1)).all():
        raise ValueError(
            f"y_true and y_proba look swapped: got {labels.tolist()[:10]} in y_true and 0 and 1 in y_proba, expected "
            "labels first, probabilities second"
        )


def _are_fractions(labels: NDArray[Any]) -> bool:
    """Whether labels are numbers from 0 to 1, and not all whole."""
    return labels.dtype.kind == "f" and bool(
        ((labels >= 0) & (labels <= 1)).all() and (labels % 1 != 0).any()
    )


def _codes(
    y_true: NDArray[Any],
    given: NDArray[Any] | None,
    columns: int,
    names: list[str] | None,
    indicator: list[str] | None,
) -> NDArray[np.int64]:
    """Return the column of each row's label; `names` are those of columns, `indicator` those of an indicator's."""
    if indicator is not None and names is not None and given is None and set(indicator) == set(names):
        places = np.array([names.index(name) for name in indicator], np.int64)
        return np.take(places, y_true)
    if given is None:
        classes, codes = np.unique(y_true, return_inverse=True)
    else:
        classes = np.unique(given)
        known = np.isin(y_true, classes)
        if not known.all():
            strangers = set(y_true[~known].tolist())
            raise ValueError(
                f"y_true contains values {strangers} not belonging to the passed labels {given.tolist()}."
            )
        codes = np.searchsorted(classes, y_true)
    _check_number(classes, given, columns)
    codes = np.ascontiguousarray(codes.reshape(-1), dtype=np.int64)
    by_name = _by_name(classes, given, names)
    if by_name is not None:
        return np.take(np.array(by_name, np.int64), codes)
    if given is not None and (given.shape != classes.shape or not np.array_equal(given, classes)):
        warnings.warn(
            f"Labels passed were {given.tolist()}. But this function assumes labels are ordered "
            f"lexicographically. Pass the ordered labels={classes.tolist()} and ensure that the columns of y_prob "
            "correspond to this ordering.",
            UserWarning,
            stacklevel=3,
        )
    return codes


def _check_number(classes: NDArray[Any], given: NDArray[Any] | None, columns: int) -> None:
    """Raise unless there are two labels or more, and one for each column."""
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
        if _are_fractions(classes):
            fix = "; are these probabilities? y_true comes first and y_proba second"
        raise ValueError(
            f"the numbers of labels and columns differ: got {len(classes)} labels in {source} "
            f"({classes.tolist()[:10]}) and {max(columns, 2)} columns in y_proba, expected the same{fix}"
        )
