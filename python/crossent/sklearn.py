"""Scorers for scikit-learn's cross-validation and searches: log loss and calibration error.

They take the classes of the estimator and not those of the fold, so that a fold may lack a class, and read the logits
of `decision_function` where there are any. Needs scikit-learn: ``pip install 'crossent[sklearn]'``.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from crossent import _core
from crossent._arguments import as_count
from crossent._exact import ExactSum
from crossent._interop import as_array, as_labels, float_name
from crossent._rows import softmax
from crossent._scoring.metrics import eps_of
from crossent._scoring.rows import score_rows
from crossent._scoring.values import tell

try:
    import sklearn
    from sklearn.utils.metadata_routing import MetadataRequest
except ImportError as _error:
    raise ImportError("crossent.sklearn needs scikit-learn: pip install 'crossent[sklearn]'") from _error

__all__ = [
    "ExpectedCalibrationErrorScorer",
    "NegLogLossScorer",
    "expected_calibration_error_scorer",
    "neg_log_loss_scorer",
]

_Self = TypeVar("_Self", bound="_Scorer")


class _Scorer:
    """What scikit-learn takes for a scorer: called with an estimator, it gives a number that is larger for better."""

    # Whether metadata routing hands over weights; None: it raises where it is given any.
    _sample_weight: bool | str | None = None

    def __call__(self, estimator: Any, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Score a fitted classifier.

        Parameters
        ----------
        estimator : object
            A fitted classifier of one output: with `classes_`, and with `decision_function`, `predict_proba` or both.
        X : array-like
            What the estimator takes: N rows.
        y : array-like of shape (N,)
            The true labels: numbers, strings or booleans. Those that the estimator has not seen are allowed.
        sample_weight : array-like of shape (N,), optional
            A weight for each row: finite numbers of at least 0.

        Returns
        -------
        float
            The score: 0 or less, the larger the better.

        Raises
        ------
        TypeError
            If the estimator is no fitted classifier, or labels or weights are of another kind than expected.
        ValueError
            If shapes do not fit each other, there are no rows, a weight is negative or none is above 0, or the
            estimator gives numbers that are no logits or probabilities.

        Warns
        -----
        LikelyMistakeWarning
            If probabilities do not sum to 1, or decisions that are read as logits look like probabilities.
        """
        outputs = _outputs(estimator, X)
        codes = _codes(y, outputs.classes)
        rows = len(outputs.values)
        if len(codes) != rows:
            raise ValueError(f"X and y are of different lengths: got {rows} rows and {len(codes)} labels")
        if rows == 0:
            raise ValueError("there are no rows: got an empty y, expected one label or more")
        weight = _weights(sample_weight, rows)
        active = weight > 0.0
        if not active.all():
            outputs = outputs._replace(values=outputs.values[active])
            codes, weight = codes[active], weight[active]
        return -self._loss(outputs, codes, weight)

    def _loss(self, outputs: _Outputs, codes: NDArray[np.int64], weight: NDArray[np.float64]) -> float:
        raise NotImplementedError

    def set_score_request(self: _Self, *, sample_weight: bool | str | None) -> _Self:
        """Say whether scikit-learn's metadata routing hands over weights of rows.

        Parameters
        ----------
        sample_weight : bool, str or None
            True to be given `sample_weight`, False for not, or the name under which weights are passed. None: it is an
            error to pass any.

        Returns
        -------
        scorer
            A new scorer; this one stays as it is.

        Raises
        ------
        RuntimeError
            If metadata routing is off.
        """
        if not sklearn.get_config()["enable_metadata_routing"]:
            raise RuntimeError(
                "set_score_request needs metadata routing, which is off: use "
                "sklearn.set_config(enable_metadata_routing=True)"
            )
        scorer = copy.copy(self)
        object.__setattr__(scorer, "_sample_weight", sample_weight)
        scorer.get_metadata_routing()  # raises where the argument is none of these
        return scorer

    def get_metadata_routing(self) -> Any:
        """Return what metadata routing is asked for, as scikit-learn requires.

        Returns
        -------
        sklearn.utils.metadata_routing.MetadataRequest
            The request.
        """
        request = MetadataRequest(owner=type(self).__name__)
        request.score.add_request(param="sample_weight", alias=self._sample_weight)
        return request

    def _accept_sample_weight(self) -> bool:
        """Tell searches and several scorers at once, without metadata routing, that there may be weights."""
        return True


@dataclass(frozen=True)
class NegLogLossScorer(_Scorer):
    """The negative log loss of a classifier, as a scorer; `neg_log_loss_scorer` is one.

    For rows with weights w and true classes t, and the classifier's probabilities p, ::

        score = sum_n w[n] log(p[n, t[n]]) / sum_n w[n]

    with p = softmax(decision_function(X)) where these are the probabilities of `predict_proba`, or where there is no
    `predict_proba`, such as of a support vector machine; else with those of `predict_proba`.

    See Also
    --------
    ExpectedCalibrationErrorScorer : The calibration error, as a scorer.
    crossent.log_loss : The log loss of probabilities.

    Notes
    -----
    The score is in nats: minus ``torch.nn.functional.cross_entropy`` of the logits. It is that of scikit-learn's
    ``"neg_log_loss"`` for ordinary rows, and differs in four respects:

    - A fold may lack classes: the columns are those of ``estimator.classes_``.
    - Rows of a class that was not among those that the estimator was fitted on have a probability of 0.
    - A loss of logits is exact, however large: it is not that of a probability that was rounded. Probabilities are
      clipped to the range from eps to 1 - eps, as in `crossent.log_loss`; eps is the distance from 1 to the next number
      of the dtype of what the estimator returns. For a probability of 0 the loss is -log(eps), 36.04 for float64.
    - Classifiers without `predict_proba` are scored too.

    One-dimensional decisions z for two classes are the logits (0, z). Whether softmax and `predict_proba` agree is
    checked on each call. They do not for more than two classes where a classifier decides on each class alone
    (``OneVsRestClassifier``, ``SGDClassifier``).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from crossent.sklearn import neg_log_loss_scorer
    >>> iris = load_iris()
    >>> X, y = iris.data, iris.target_names[iris.target]
    >>> model = make_pipeline(StandardScaler(), LogisticRegression())
    >>> cross_val_score(model, X, y, scoring=neg_log_loss_scorer).round(3).tolist()
    [-0.156, -0.113, -0.197, -0.18, -0.105]
    """

    def _loss(self, outputs: _Outputs, codes: NDArray[np.int64], weight: NDArray[np.float64]) -> float:
        values, seen = outputs.values, codes >= 0
        eps = eps_of(values.dtype)
        losses = np.full(len(codes), -np.log(eps))
        if not outputs.are_logits:
            own = values[seen, codes[seen]].astype(np.float64)
            losses[seen] = -np.log(np.clip(own, eps, 1.0 - eps))
        elif seen.any():
            nll = score_rows(
                values[seen], codes[seen], -1, None, -1, 0, "logits", [], keep_unrounded=True
            )._losses()
            losses[seen] = np.where(np.isposinf(nll), -np.log(eps), nll)
        return ExactSum.of(weight * losses).over_sum(ExactSum.of(weight))


@dataclass(frozen=True)
class ExpectedCalibrationErrorScorer(_Scorer):
    """The negative expected calibration error of a classifier, as a scorer; `expected_calibration_error_scorer` is one.

    For rows with weights w, the largest probability c (the confidence) and a 1 where the prediction is the true class
    and else a 0 (right), ::

        score = -sum_b |sum_(n in bin b) w[n] (right[n] - c[n])| / sum_n w[n]

    over bins b of the confidence, equally wide and closed on the right.

    Parameters
    ----------
    bins : int, default 15
        The number of bins.

    See Also
    --------
    NegLogLossScorer : The log loss, as a scorer, with probabilities of the same origin.
    crossent.Scorer : Its report has the calibration error and the bins.

    Notes
    -----
    The torch equivalent is ``torchmetrics.functional.calibration_error(..., norm="l1")``, negated: searches take the
    largest score for the best. Probabilities of `predict_proba` are taken as they are, those of logits in float64. The
    prediction is the class with the largest, the first of ties. Rows of a class that the estimator has not seen are
    wrong, whatever it predicts.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from crossent.sklearn import (
    ...     ExpectedCalibrationErrorScorer,
    ...     expected_calibration_error_scorer,
    ... )
    >>> X, y = load_iris(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), LogisticRegression())
    >>> cross_val_score(
    ...     model, X, y, scoring=expected_calibration_error_scorer
    ... ).round(3).tolist()
    [-0.102, -0.099, -0.131, -0.116, -0.095]
    >>> cross_val_score(
    ...     model, X, y, scoring=ExpectedCalibrationErrorScorer(bins=5)
    ... ).round(3).tolist()
    [-0.084, -0.099, -0.131, -0.076, -0.095]
    """

    bins: int = 15

    def __post_init__(self) -> None:
        if as_count(self.bins, "bins") == 0:
            raise ValueError("bins is out of range: got 0, expected 1 or more")

    def _loss(self, outputs: _Outputs, codes: NDArray[np.int64], weight: NDArray[np.float64]) -> float:
        probabilities = outputs.probabilities()
        confidence, prediction = probabilities.max(axis=1), probabilities.argmax(axis=1)
        # The first bin whose upper end is not below the confidence.
        bins = np.searchsorted(np.arange(1, self.bins) / self.bins, confidence, side="left")
        order = np.argsort(bins, kind="stable")
        ends = np.searchsorted(bins[order], np.arange(self.bins + 1))
        gaps = weight * ((prediction == codes) - confidence)
        sums = [ExactSum.from_core(sum) for sum in _core.exact_sums(gaps[order], ends.tolist())]
        return ExactSum.of(np.abs([float(sum) for sum in sums])).over_sum(ExactSum.of(weight))


neg_log_loss_scorer: NegLogLossScorer = NegLogLossScorer()
"""The negative log loss, as a scorer: see `NegLogLossScorer`."""

expected_calibration_error_scorer: ExpectedCalibrationErrorScorer = ExpectedCalibrationErrorScorer()
"""The negative expected calibration error in 15 bins, as a scorer: see `ExpectedCalibrationErrorScorer`."""


class _Outputs(NamedTuple):
    """What an estimator says of rows: a number for each row and class."""

    values: NDArray[Any]
    are_logits: bool
    classes: list[Any]

    def probabilities(self) -> NDArray[np.float64]:
        values = self.values.astype(np.float64)
        return softmax(values) if self.are_logits else values


def _outputs(estimator: Any, X: Any) -> _Outputs:
    """Return the logits of an estimator, or its probabilities where they are not those of its logits."""
    classes = _classes(estimator)
    name = type(estimator).__name__
    has_logits, has_probabilities = (
        callable(getattr(estimator, method, None)) for method in ("decision_function", "predict_proba")
    )
    if not (has_logits or has_probabilities):
        raise TypeError(
            f"the estimator gives neither logits nor probabilities: got {name}, expected one with decision_function or "
            "predict_proba"
        )
    logits = _logits(estimator.decision_function(X), len(classes)) if has_logits else None
    if not has_probabilities:
        return _Outputs(_only_logits(estimator, logits, len(classes)), True, classes)
    probabilities = _probabilities(estimator.predict_proba(X), len(classes), name)
    if logits is not None and _agree(logits, probabilities):
        return _Outputs(logits, True, classes)
    return _Outputs(probabilities, False, classes)


def _classes(estimator: Any) -> list[Any]:
    """Return the labels that an estimator was fitted on, one for each column of its results."""
    classes = getattr(estimator, "classes_", None)
    if classes is None:
        raise TypeError(
            f"the estimator has no classes_: got {type(estimator).__name__}, expected a fitted classifier"
        )
    several = isinstance(classes, list | tuple) and any(np.ndim(each) for each in classes)
    if several or np.ndim(classes) != 1:
        raise ValueError(
            f"the estimator has several outputs: got {type(estimator).__name__} with classes_ for each of them, "
            "expected a classifier of one output; score each output by itself"
        )
    labels: list[Any] = np.asarray(classes).tolist()
    return labels


def _logits(decisions: Any, classes: int) -> NDArray[Any] | None:
    """Return decisions as logits with a column for each class; None where they have other columns."""
    array = _floating(decisions, "decision_function(X)")
    if array.ndim == 2 and array.shape[1] == 1 and classes == 2:
        array = array[:, 0]
    if array.ndim == 1 and classes <= 2:
        return np.stack((np.zeros_like(array), array), axis=1)[:, :classes]
    return array if array.ndim == 2 and array.shape[1] == classes else None


def _only_logits(estimator: Any, logits: NDArray[Any] | None, classes: int) -> NDArray[Any]:
    """Return the logits of an estimator without probabilities, or raise where they are none."""
    name = type(estimator).__name__
    params = getattr(estimator, "best_estimator_", estimator)
    params = params.get_params() if hasattr(params, "get_params") else {}
    pairwise = classes > 2 and any(
        key.rpartition("__")[2] == "decision_function_shape" and value == "ovo"
        for key, value in params.items()
    )
    if logits is None or pairwise:
        raise ValueError(
            f"decision_function(X) of {name} has no number for each of the {classes} classes; "
            'is decision_function_shape "ovo"? use "ovr"'
        )
    wrong = np.isnan(logits) | np.isposinf(logits) | np.isneginf(logits).all(axis=1, keepdims=True)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ValueError(
            f"decision_function(X) of {name} holds a number that is no logit: got {logits[row, column]:g} for row "
            f"{row}, expected finite numbers"
        )
    mistakes: list[str] = []
    if classes > 1 and len(logits):
        score_rows(logits, logits.argmax(axis=1), -1, None, -1, 0, "logits", mistakes, keep_unrounded=False)
    tell([f"decision_function(X) of {name}: {mistake}" for mistake in mistakes], stacklevel=5)
    return logits


def _probabilities(proba: Any, classes: int, name: str) -> NDArray[Any]:
    """Return probabilities with a column for each class, or raise for the first row that has none."""
    array = _floating(proba, "predict_proba(X)")
    if array.ndim != 2 or array.shape[1] != classes:
        raise ValueError(
            f"predict_proba(X) of {name} has the wrong shape: got {array.shape}, expected (N, {classes}), a column for "
            "each of classes_"
        )
    wrong = ~((array >= 0.0) & (array <= 1.0))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ValueError(
            f"predict_proba(X) of {name} holds a number that is no probability: got {array[row, column]:g} for row "
            f"{row}, expected 0 to 1"
        )
    sums = array.astype(np.float64).sum(axis=1)
    apart = np.flatnonzero(np.abs(sums - 1.0) > np.sqrt(eps_of(array.dtype)))
    if apart.size:
        row = apart[0]
        got = f"got {sums[row]:g} for row {row}"
        tell([f"predict_proba(X) of {name} does not sum to 1: {got}; are these probabilities?"], stacklevel=5)
    return array


def _floating(values: Any, name: str) -> NDArray[Any]:
    array = as_array(values, name)
    if array.dtype.kind in "iub":
        return array.astype(np.float64)
    if float_name(array.dtype) is None:
        raise TypeError(f"{name} must be floating: got dtype {array.dtype}")
    return array


# Softmax of decisions and predict_proba agree up to their roundings: relative ones of a small probability, whose logits
# are large, and absolute ones of 1 - p.
_RELATIVE, _ABSOLUTE_IN_EPS = 1e-4, 64.0


def _agree(logits: NDArray[Any], probabilities: NDArray[Any]) -> bool:
    """Whether probabilities are the softmax of logits."""
    if logits.shape != probabilities.shape or not np.isfinite(logits).all():
        return False
    absolute = _ABSOLUTE_IN_EPS * max(eps_of(logits.dtype), eps_of(probabilities.dtype))
    of_logits = softmax(logits.astype(np.float64))
    return bool(np.allclose(probabilities, of_logits, rtol=_RELATIVE, atol=absolute))


def _codes(y: Any, classes: list[Any]) -> NDArray[np.int64]:
    """Return the column of each label; -1 for one that the estimator has not seen."""
    if hasattr(y, "iloc") and np.ndim(y) == 2 and y.shape[1] == 1:
        y = y.iloc[:, 0]  # a frame of pandas, of one column
    labels = as_labels(y, "y")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise ValueError(
            f"y has the wrong shape: got {labels.shape}, expected (N,), one label for each row; score each of several "
            "outputs by itself"
        )
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise ValueError("y holds nan or an infinity, expected labels")
    listed: list[Any] = labels.tolist()
    columns = {label: column for column, label in enumerate(classes)}
    codes = np.array([columns.get(label, -1) for label in listed], dtype=np.int64)
    if listed and _are_text(listed).isdisjoint(_are_text(classes)):
        raise TypeError(
            f"the labels of y are of another kind than those of the estimator: got {listed[:3]}, expected "
            f"some like {classes[:3]}"
        )
    return codes


def _are_text(labels: list[Any]) -> set[bool]:
    """Return whether labels are strings: of a mixture, both."""
    return {issubclass(kind, str) for kind in set(map(type, labels))}


def _weights(sample_weight: Any, rows: int) -> NDArray[np.float64]:
    """Return a weight for each row, of which some are above 0."""
    if sample_weight is None:
        return np.ones(rows)
    array = as_array(sample_weight, "sample_weight")
    if array.dtype.kind not in "iubf":
        raise TypeError(f"sample_weight must be numbers: got dtype {array.dtype}, expected a real one")
    if array.shape != (rows,):
        hint = _core.shape_hint("sample_weight", array.shape, (rows,))
        raise ValueError(
            f"sample_weight has the wrong shape: got {array.shape}, expected ({rows},){f'; {hint}' if hint else ''}"
        )
    weight = array.astype(np.float64)
    if not (np.isfinite(weight).all() and (weight >= 0.0).all()):
        raise ValueError(
            "sample_weight holds a number that is no weight: expected finite numbers of at least 0"
        )
    if not weight.any():
        raise ValueError("sample_weight holds nothing but zeros, expected a weight that counts")
    # Only their ratios count: the products with losses stay in the range of float64.
    return np.ldexp(weight, -int(np.frexp(weight.max())[1]))
