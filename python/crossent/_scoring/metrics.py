"""Scores of classifiers with scikit-learn's names and semantics."""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from crossent import _core
from crossent._exact import ExactSum, quotient
from crossent._interop import ArrayInput, as_array, as_labels, float_name

# The distances from 1 to the next larger number.
_EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}
_NO_ROWS = "there are no rows: got an empty y_true, expected one label or more"


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
        If a row does not sum to 1, if `labels` are not in ascending order, if columns are taken by their names in
        another order than that of `labels`, or by names that are numbers or begin with a prefix, or if they are not
        taken by their names and one is named as the label of another.

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
    ...     ["spam", "ham", "ham", "spam"],
    ...     [[0.1, 0.9], [0.9, 0.1], [0.8, 0.2], [0.35, 0.65]],
    ... )
    >>> round(loss, 5)
    0.21616
    """
    probabilities = as_probabilities(y_proba)
    rows, columns = probabilities.shape
    least = least_probability(eps, probabilities.dtype)
    labels_of_rows = labels_of(y_true)
    refuse_swapped(labels_of_rows, probabilities)
    weight = None if sample_weight is None else as_weights(sample_weight)
    check_sizes(rows, len(labels_of_rows), None if weight is None else len(weight))
    if rows == 0:
        raise ValueError(_NO_ROWS)
    names = column_names(y_proba, columns)
    given = None if labels is None else as_labels(labels, "labels")
    found = columns_of_labels(given, columns, names, column_names(y_true, columns))
    if found is None:
        found = columns_of_classes(classes_of(labels_of_rows), columns, names)
    codes = found.codes(labels_of_rows)
    for warning in found.warnings:
        warnings.warn(warning, UserWarning, stacklevel=2)
    sums, not_normalised = loss_sums(probabilities, codes, weight, least)
    if not_normalised is not None:
        warnings.warn(not_normalised, UserWarning, stacklevel=2)
    return sums.loss(normalize)


@dataclass(frozen=True, slots=True)
class LossSums:
    """The sums of some rows: of weighted losses, of weights, and whether a weight is not 0."""

    rows: int = 0
    total: ExactSum = field(default_factory=ExactSum)
    weights: ExactSum = field(default_factory=ExactSum)
    weighted: bool = False

    def __add__(self, other: LossSums) -> LossSums:
        return LossSums(
            self.rows + other.rows,
            self.total + other.total,
            self.weights + other.weights,
            self.weighted or other.weighted,
        )

    def loss(self, normalize: bool) -> float:
        """Return the loss of all rows, or raise where they have none."""
        if self.rows == 0:
            raise ValueError(_NO_ROWS)
        if not self.weighted:
            raise ValueError("sample_weight holds nothing but zeros, expected a weight that counts")
        return _mean(self.total, self.weights) if normalize else float(self.total)


def loss_sums(
    probabilities: NDArray[Any], codes: NDArray[np.int64], weight: NDArray[np.float64] | None, least: float
) -> tuple[LossSums, str | None]:
    """Add up the losses of some rows, and say which row is the first that does not sum to 1."""
    tolerance = math.sqrt(eps_of(probabilities.dtype))
    loss, total, improper, not_normalised = _core.log_loss(probabilities, codes, weight, least, tolerance)
    if improper is not None:
        row = np.asarray(probabilities[improper], dtype=np.float64)
        wrong = int(np.flatnonzero(~((row >= 0) & (row <= 1)))[0])
        raise ValueError(
            f"y_proba holds a number that is no probability: got y_proba[{improper}, {wrong}] = {row[wrong]:g}, "
            f"expected 0 to 1; {_no_probability(float(row[wrong]))}"
        )
    warning = (
        None
        if not_normalised is None
        else "The y_prob values do not sum to one. Make sure to pass probabilities (the first such row is "
        f"{not_normalised})."
    )
    weighted = len(probabilities) > 0 if weight is None else bool(weight.any())
    return LossSums(len(codes), ExactSum.from_core(loss), ExactSum.from_core(total), weighted), warning


def check_sizes(rows: int, labels: int, weights: int | None) -> None:
    """Raise where the arguments have different numbers of rows."""
    sizes = [rows, labels, *([] if weights is None else [weights])]
    if len(set(sizes)) > 1:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: got {sizes} for y_proba, y_true"
            f"{'' if weights is None else ' and sample_weight'}, expected the same"
        )


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


def as_probabilities(y_proba: ArrayInput) -> NDArray[Any]:
    """Return the probabilities with an axis of columns, or raise where they are none."""
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


def eps_of(dtype: np.dtype[Any]) -> float:
    """Return the distance from 1 to the next larger number of a dtype."""
    return _EPS[float_name(dtype) or "float64"]


def least_probability(eps: float | Literal["auto"], dtype: np.dtype[Any]) -> float:
    """Return the number that `eps` stands for, with probabilities of a dtype."""
    if isinstance(eps, str):
        if eps != "auto":
            raise ValueError(f"eps is not understood: got {eps!r}, expected 'auto' or a number from 0 to 0.5")
        return eps_of(dtype)
    if not 0.0 <= float(eps) <= 0.5:
        raise ValueError(f"eps is out of range: got {eps}, expected 'auto' or a number from 0 to 0.5")
    return float(eps)


def as_weights(sample_weight: ArrayInput) -> NDArray[np.float64]:
    """Return the weights of rows, or raise where they are no finite numbers."""
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
    return array


def labels_of(y_true: ArrayInput) -> NDArray[Any]:
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


def column_names(frame: Any, columns: int) -> list[str] | None:
    """Return the names of a frame's columns as text, if each column has one of its own."""
    library = next((str(cls.__module__).partition(".")[0] for cls in type(frame).__mro__), "")
    if library not in ("pandas", "polars", "pyarrow", "dask", "dask_expr"):
        return None
    names = getattr(frame, "column_names", None)  # of PyArrow
    if names is None:
        names = getattr(frame, "columns", None)
    if names is None or columns < 2:
        return None
    told = [as_name(name) for name in names]
    return told if len(set(told)) == len(told) == columns else None


def as_name(label: Any) -> str:
    """Write a label as the name of a column has it: 1.0, which pandas makes of 1, as 1."""
    if isinstance(label, float | np.floating) and float(label).is_integer():
        return str(int(label))
    return str(label)


def without_prefix(names: Sequence[str]) -> list[str]:
    """Take off what all names begin with, up to a sign that ends a word."""
    length = max((os.path.commonprefix(list(names)).rfind(sign) + 1 for sign in "_.:- "), default=0)  # noqa: RUF071
    return [name[length:] for name in names]


def _by_name(
    classes: NDArray[Any], given: NDArray[Any] | None, names: list[str] | None
) -> tuple[list[int] | None, str | None]:
    """Return the column of each class, where the columns are named as the classes; else nothing.

    And a warning where the names and something else disagree on the order, or names may mean something else.
    """
    wanted = [as_name(label) for label in classes.tolist()]
    if names is None or len(names) != len(wanted):
        return None, None
    matched = names
    if set(names) != set(wanted):
        matched = without_prefix(names)
        if set(matched) != set(wanted):
            return None, _partly_named(wanted, names, matched)
    places = [matched.index(label) for label in wanted]
    order = None if given is None else [as_name(label) for label in given.tolist()]
    in_order = places == list(range(len(places)))
    if order is not None and order != matched:
        why = f"labels= has the order {order[:10]}"
    elif in_order:
        return places, None
    elif matched is not names:
        why = "their names have a prefix"
    elif all(name.lstrip("-").isdecimal() for name in names):
        why = "their names are numbers"
    else:
        return places, None
    return places, (
        f"The columns of y_proba are taken by their names, {names[:10]}, though {why}. To be sure, pass them in "
        f"the order of the labels, {wanted[:10]}."
    )


def _partly_named(wanted: list[str], names: list[str], short: list[str]) -> str | None:
    """Return a warning where a column is named as the label of another one; numbers may mean anything."""
    if all(name.lstrip("-").isdecimal() for name in short):
        return None
    for told in (names, short):
        for name, label in zip(told, wanted, strict=True):
            if name != label and name in wanted:
                return (
                    f"The columns of y_proba are taken in the order of the labels, {wanted[:10]}, though that named "
                    f"{names[told.index(name)]!r} stands for {label!r} then. Name all of them as the labels, or pass "
                    "them as an array in that order."
                )
    return None


def refuse_swapped(labels: NDArray[Any], probabilities: NDArray[Any]) -> None:
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


@dataclass(frozen=True, eq=False)
class LabelColumns:
    """Which column each label stands for."""

    classes: NDArray[Any] | None
    """The labels in ascending order; None where rows have the number of an indicator's column."""

    places: NDArray[np.int64] | None
    """The column of each of them; None where they have the same order."""

    given: NDArray[Any] | None = None
    """The labels as the caller gave them, which may lack some that occur."""

    warnings: tuple[str, ...] = ()

    def codes(self, labels: NDArray[Any]) -> NDArray[np.int64]:
        """Return the column of each row's label, or raise for one that stands for none."""
        codes = labels
        if self.classes is not None:
            with _sorting(labels, "y_true", self.given):
                if self.given is not None:
                    known = np.isin(labels, self.classes)
                    if not known.all():
                        strangers = set(labels[~known].tolist())
                        raise ValueError(
                            f"y_true contains values {strangers} not belonging to the passed labels "
                            f"{self.given.tolist()}."
                        )
                codes = np.searchsorted(self.classes, labels)
        codes = np.ascontiguousarray(codes.reshape(-1), dtype=np.int64)
        return codes if self.places is None else np.take(self.places, codes)


@contextlib.contextmanager
def _sorting(labels: NDArray[Any], name: str, given: NDArray[Any] | None = None) -> Iterator[None]:
    """Say of which labels the order is not known, where something raises for that."""
    try:
        yield
    except TypeError as error:
        got = str(labels.dtype) + ("" if given is None else f" and {given.dtype}")
        both = "" if given is None else " together with those of labels"
        raise TypeError(
            f"{name} holds labels that cannot be sorted{both}: got dtype {got}, expected "
            f"numbers, strings or booleans ({error})"
        ) from error


def classes_of(labels: NDArray[Any]) -> NDArray[Any]:
    """Return the labels that occur, each once, in ascending order."""
    with _sorting(labels, "y_true"):
        return np.unique(labels)


def columns_of_classes(classes: NDArray[Any], columns: int, names: list[str] | None) -> LabelColumns:
    """Return the columns of all labels that occur; `names` are those of the columns."""
    _check_number(classes, None, columns)
    places, warning = _by_name(classes, None, names)
    return _label_columns(classes, places, None, warning)


def columns_of_labels(
    given: NDArray[Any] | None, columns: int, names: list[str] | None, indicator: list[str] | None
) -> LabelColumns | None:
    """Return the columns of labels that are known before any row is: those given, or those of an indicator.

    `names` are those of the columns, and `indicator` those of the columns of an indicator.
    """
    if given is None:
        if indicator is None or names is None or set(indicator) != set(names):
            return None
        return _label_columns(None, [names.index(name) for name in indicator], None, None)
    with _sorting(given, "labels"):
        classes = np.unique(given)
    _check_number(classes, given, columns)
    places, warning = _by_name(classes, given, names)
    if places is None and (given.shape != classes.shape or not np.array_equal(given, classes)):
        warning = (
            f"Labels passed were {given.tolist()}. But this function assumes labels are ordered "
            f"lexicographically. Pass the ordered labels={classes.tolist()} and ensure that the columns of y_prob "
            "correspond to this ordering."
        )
    return _label_columns(classes, places, given, warning)


def _label_columns(
    classes: NDArray[Any] | None, places: list[int] | None, given: NDArray[Any] | None, warning: str | None
) -> LabelColumns:
    columns = None if places is None else np.array(places, np.int64)
    return LabelColumns(classes, columns, given, () if warning is None else (warning,))


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
