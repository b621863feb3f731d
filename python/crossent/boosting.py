"""Objectives for LightGBM and XGBoost: gradient and Hessian of the cross-entropy in one pass, with more options.

`lightgbm_objective` and `xgboost_objective` make objectives for training, of two classes or more, with class weights,
label smoothing or the focal loss. Without options they train what the built-in objectives train. `softmax_grad_hess`
is what they compute, and `init_score` what LightGBM's built-in objectives start from. Neither library is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crossent import _core
from crossent._arguments import as_integer
from crossent._interop import ArrayInput, as_array, float_name

__all__ = [
    "LightGBMObjective",
    "XGBoostObjective",
    "init_score",
    "lightgbm_objective",
    "softmax_grad_hess",
    "xgboost_objective",
]

Hessian: TypeAlias = Literal["lightgbm"] | Literal["xgboost"] | Literal["diagonal"]

ClassWeight: TypeAlias = Mapping[int, float] | ArrayInput | Literal["balanced"]

# As an objective keeps them.
_ClassWeight: TypeAlias = dict[int, float] | tuple[float, ...] | Literal["balanced"] | None

# LightGBM's bound of a prior, which keeps the logarithm of a class without rows finite.
_LEAST_PRIOR = 1e-15

# What the libraries keep the number of classes in: int32.
_MOST_CLASSES = 2**31 - 1


class Dataset(Protocol):
    """What training data of both libraries have: `lightgbm.Dataset` and `xgboost.DMatrix`."""

    def get_label(self) -> Any:
        """Return the label of each row."""

    def get_weight(self) -> Any:
        """Return the weight of each row; none, or an empty array, if rows have none."""


def softmax_grad_hess(
    raw: ArrayInput,
    y: ArrayInput,
    *,
    weight: ArrayInput | None = None,
    hessian: Hessian = "lightgbm",
    grad_out: NDArray[Any] | None = None,
    hess_out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Compute the gradient and the diagonal of the Hessian of the sum of the rows' cross-entropies.

    ::

        p = softmax(raw[n])
        grad[n, c] = weight[n] (p[c] - (c == y[n]))
        hess[n, c] = weight[n] k p[c] (1 - p[c])

    with k of `hessian`. For scores of shape (N,), ::

        p = 1 / (1 + exp(-raw[n])),      grad[n] = weight[n] (p - y[n]),      hess[n] = weight[n] p (1 - p)

    Parameters
    ----------
    raw : array_like of float32 or float64
        Scores before any softmax, of shape (N, K) for K classes, at least two, or (N,) for two classes: those of class
        1. Any memory layout is read in place.
    y : array_like
        The class of each row, from 0 to K - 1, of shape (N,): integers, booleans, or whole floats.
    weight : array_like, optional
        A finite factor of at least 0 for each row.
    hessian : {'lightgbm', 'xgboost', 'diagonal'}
        'diagonal' stands for the second derivatives: k = 1. 'lightgbm' has k = K / (K - 1), 'xgboost' has k = 2 and at
        least 1e-16 for every entry, as these libraries' own objectives. For scores of shape (N,) all have k = 1, and
        'xgboost' at least 1e-16 weight[n].
    grad_out, hess_out : numpy.ndarray, optional
        Where to write the results: two arrays of raw's shape and dtype, in any memory layout, that share no memory
        with it or each other.

    Returns
    -------
    grad, hess : numpy.ndarray
        Of raw's shape and dtype, and in Fortran order if raw is. Nothing else of that size is made.

    Raises
    ------
    TypeError
        If `raw` is neither float32 nor float64, if `y` holds no numbers, or if an output has another dtype.
    ValueError
        If shapes do not fit, if a label is not whole or no class, if a weight is negative or not finite, or if an
        output shares memory with `raw` or the other output. Nothing has been written then.

    See Also
    --------
    lightgbm_objective, xgboost_objective : Objectives for training, with more options.
    crossent.cross_entropy_and_grad : The loss with the same gradient, for ``reduction="sum"``.

    Notes
    -----
    The gradient has the bits of `cross_entropy_and_grad`. Both results keep their digits where p is close to 1: 1 - p
    is summed from the other classes. They have the same bits for any memory layout and number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> from crossent.boosting import softmax_grad_hess
    >>> raw = np.array([[2.0, -1.0, 0.5], [0.0, 40.0, 0.0]])
    >>> grad, hess = softmax_grad_hess(raw, np.array([0, 1]))
    >>> grad
    array([[-2.14402965e-01,  3.91125733e-02,  1.75290392e-01],
           [ 4.24835426e-18, -8.49670851e-18,  4.24835426e-18]])
    >>> hess
    array([[2.52651501e-01, 5.63741698e-02, 2.16845506e-01],
           [6.37253138e-18, 1.27450628e-17, 6.37253138e-18]])
    """
    return _grad_hess(raw, y, weight, None, 0.0, 0.0, hessian, grad_out, hess_out)


def init_score(y: ArrayInput, *, num_class: int, weight: ArrayInput | None = None) -> NDArray[np.float64]:
    """Compute the scores that LightGBM's built-in objectives start from: the logarithms of the class priors.

    ::

        prior[c] = sum of the weights of the rows of class c / sum of all weights
        score[n, c] = log(max(prior[c], 1e-15))

    and for two classes score[n] = log(prior[1] / (1 - prior[1])), with prior[1] from 1e-15 to 1 - 1e-15.

    Parameters
    ----------
    y : array_like
        The class of each row, from 0 to ``num_class - 1``, of shape (N,): integers, booleans, or whole floats.
    num_class : int
        How many classes there are, at least 2. For 2 the scores are single ones, for the objective of two classes.
    weight : array_like, optional
        A finite factor of at least 0 for each row, not 0 for all.

    Returns
    -------
    numpy.ndarray of float64
        Of shape (N, num_class) in Fortran order, or (N,) for two classes, for ``init_score=`` of LightGBM. All rows are
        equal.

    Raises
    ------
    TypeError
        If `num_class` is no integer, or if `y` or `weight` holds no numbers.
    ValueError
        If shapes do not fit, if `num_class` is out of range, if a label is not whole or no class, if a weight is
        negative or not finite, or if all are 0.

    See Also
    --------
    lightgbm_objective : The objective that these scores are for.

    Notes
    -----
    LightGBM adds these scores with its built-in objectives (``boost_from_average``), and not with others. Predictions
    of a model that was trained with ``init_score=`` lack it: add a row of it to raw scores before the softmax.

    Examples
    --------
    >>> import numpy as np
    >>> from crossent.boosting import init_score
    >>> init_score(np.array([0, 1, 1, 2]), num_class=3)[0]
    array([-1.38629436, -0.69314718, -1.38629436])
    >>> init_score(np.array([0, 1, 1, 1]), num_class=2)
    array([1.09861229, 1.09861229, 1.09861229, 1.09861229])
    """
    classes = as_integer(num_class, "num_class")
    if not 2 <= classes <= _MOST_CLASSES:
        raise ValueError(f"num_class is out of range: got {classes}, expected 2 to {_MOST_CLASSES}")
    array = as_array(y, "y")
    if array.ndim != 1:
        raise ValueError(f"y has the wrong shape: got {array.shape}, expected (N,)")
    labels = _labels(array, len(array), classes, None)
    weights = None if weight is None else _weights(weight, len(array))
    if weights is not None:
        wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
        if len(wrong):
            raise ValueError(
                f"a weight is negative or not finite: got weight[{wrong[0]}] = {weights[wrong[0]]}, expected a finite "
                "number of at least 0"
            )
    if weights is not None and len(weights):
        if not weights.any():
            raise ValueError("the weights of all rows are 0: expected one that is not")
        weights = np.ldexp(weights, -int(np.frexp(weights.max())[1]))  # their sum is finite
    # Of the classes up to the last that has rows: num_class may be a mistake, and large.
    sums = np.bincount(labels, weights).astype(np.float64)
    prior = sums / sums.sum()
    if classes == 2:
        positive = min(max(float(prior[1:].sum()), _LEAST_PRIOR), 1 - _LEAST_PRIOR)
        return np.full(len(array), np.log(positive / (1 - positive)))
    scores = np.full((len(array), classes), np.log(_LEAST_PRIOR), order="F")
    scores[:, : len(prior)] = np.log(np.maximum(prior, _LEAST_PRIOR))
    return scores


def lightgbm_objective(
    *, class_weight: ClassWeight | None = None, label_smoothing: float = 0.0, focal_gamma: float = 0.0
) -> LightGBMObjective:
    """Make an objective for LightGBM: cross-entropy of two classes or more, with options.

    With class weights w and label smoothing e, the loss of a row of class t is that of `crossent.cross_entropy`, ::

        sum_c q[c] (lse(x) - x[c]),      q[c] = (1 - e) w[t] (c == t) + e / K w[c]
        grad[c] = s p[c] - q[c],      hess[c] = s k p[c] (1 - p[c]),      s = sum_c q[c],      k = K / (K - 1)

    and with a focal gamma that of `crossent.focal_loss`, w[t] m^gamma nll with nll = -log p[t] and m = 1 - p[t]: ::

        grad[c] = w[t] f' (p[c] - (c == t)),      hess[c] = w[t] k (f' p[c] (1 - p[c]) + f'' (p[c] - (c == t))^2)
        f'  = m^gamma (1 + gamma p[t] nll / m)
        f'' = gamma m^(gamma - 1) (2 p[t] - p[t] nll (1 - gamma p[t]) / m)

    The focal loss is not convex. Where its second derivative is below 1e-16, the Hessian is 1e-16, since a tree divides
    by sums of it. Single scores x, for two classes, have the logits 0 and x, and k = 1.

    Parameters
    ----------
    class_weight : mapping, array_like or 'balanced', optional
        A finite factor of at least 0 for each class: an array of K, or a mapping from classes, where those that it
        lacks weigh 1. It multiplies the weights of the rows. 'balanced' stands for scikit-learn's weights: the number
        of rows, over that of classes which have rows, over that of the class's rows. Weights of rows do not enter it.
    label_smoothing : float
        How much of the target is spread evenly over all classes, from 0 to 1.
    focal_gamma : float
        The focusing parameter of the focal loss, at least 0; 0 gives cross-entropy. It excludes label smoothing.

    Returns
    -------
    LightGBMObjective
        An object to call and to pickle, for ``objective=`` of ``LGBMClassifier`` and in the parameters of
        ``lightgbm.train``.

    Raises
    ------
    TypeError
        If an option is no number, if class weights are no mapping and no array, or if a key is no integer.
    ValueError
        If an option is out of range, or if both smoothing and a focal gamma are given.

    See Also
    --------
    xgboost_objective : The same for XGBoost.
    init_score : What the built-in objectives start from.

    Notes
    -----
    Without options a model has the raw scores of LightGBM's ``multiclass`` or ``binary`` with
    ``boost_from_average=False``, or of the default with `init_score`. Where all rows of a class weigh 0, or there are
    none, only `init_score` gives the built-in scores, which hold log(1e-15) for it either way. ``predict_proba`` and
    ``predict`` of a model with any objective of one's own return raw scores: take `crossent.softmax` of them. Labels
    are 0 to K - 1; ``LGBMClassifier`` encodes others itself, and class weights are those of the codes.

    Examples
    --------
    >>> import numpy as np
    >>> from crossent.boosting import lightgbm_objective
    >>> objective = lightgbm_objective(class_weight={2: 2.0})
    >>> objective
    LightGBMObjective(class_weight={2: 2.0}, label_smoothing=0.0, focal_gamma=0.0)
    >>> scores = np.zeros((2, 3), order="F")
    >>> labels = np.array([0.0, 2.0], np.float32)
    >>> grad, hess = objective(labels, scores)
    >>> grad.round(4)
    array([[-0.6667,  0.3333,  0.3333],
           [ 0.6667,  0.6667, -1.3333]])
    """
    return LightGBMObjective(*_options(class_weight, label_smoothing, focal_gamma))


def xgboost_objective(
    *, class_weight: ClassWeight | None = None, label_smoothing: float = 0.0, focal_gamma: float = 0.0
) -> XGBoostObjective:
    """Make an objective for XGBoost: cross-entropy of two classes or more, with options.

    The losses are those of `lightgbm_objective`, and so are their gradients. XGBoost's Hessian has k = 2 for more than
    single scores, and entries of at least 1e-16.

    Parameters
    ----------
    class_weight : mapping, array_like or 'balanced', optional
        A finite factor of at least 0 for each class: an array of K, or a mapping from classes, where those that it
        lacks weigh 1. It multiplies the weights of the rows. 'balanced' stands for scikit-learn's weights: the number
        of rows, over that of classes which have rows, over that of the class's rows. Weights of rows do not enter it.
    label_smoothing : float
        How much of the target is spread evenly over all classes, from 0 to 1.
    focal_gamma : float
        The focusing parameter of the focal loss, at least 0; 0 gives cross-entropy. It excludes label smoothing.

    Returns
    -------
    XGBoostObjective
        An object to call and to pickle, for ``objective=`` of ``XGBClassifier`` and ``obj=`` of ``xgboost.train``.

    Raises
    ------
    TypeError
        If an option is no number, if class weights are no mapping and no array, or if a key is no integer.
    ValueError
        If an option is out of range, or if both smoothing and a focal gamma are given.

    See Also
    --------
    lightgbm_objective : The same for LightGBM.

    Notes
    -----
    Without options a model has the margins of XGBoost's ``multi:softprob`` or ``binary:logistic`` that starts from the
    same ``base_score``. XGBoost bins features by quantiles, into which weights of rows enter (unless its
    ``tree_method`` is "exact"), but class weights do not, nor does its ``scale_pos_weight``.

    Examples
    --------
    >>> import numpy as np
    >>> from crossent.boosting import xgboost_objective
    >>> objective = xgboost_objective(focal_gamma=2.0)
    >>> grad, hess = objective(
    ...     np.array([1.0, 0.0]),
    ...     np.array([0.0, 3.0]),
    ...     sample_weight=np.array([2.0, 1.0]),
    ... )
    >>> grad.round(4), hess.round(4)
    (array([-0.5966,  1.1267]), array([0.7983, 0.    ]))
    """
    return XGBoostObjective(*_options(class_weight, label_smoothing, focal_gamma))


@dataclass(frozen=True, eq=False)
class _Objective:
    class_weight: _ClassWeight
    label_smoothing: float
    focal_gamma: float

    def _of(
        self, y_true: Any, y_pred: Any, weight: Any, hessian: Hessian
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        if callable(getattr(y_pred, "get_label", None)):
            # The native interface: the scores, and the training data.
            if weight is not None:
                raise TypeError(
                    "weights of rows are those of the training data: got a third argument beside it"
                )
            y_true, y_pred, weight = y_pred.get_label(), y_true, y_pred.get_weight()
            if weight is not None and len(weight) == 0:
                weight = None
        return _grad_hess(
            y_pred, y_true, weight, self.class_weight, self.label_smoothing, self.focal_gamma, hessian
        )


class LightGBMObjective(_Objective):
    """An objective for LightGBM with its options, from `lightgbm_objective`.

    Called as ``objective(y_true, y_pred, weight=None)``, which is LightGBM's scikit-learn interface, or as
    ``objective(scores, dataset)`` with a ``lightgbm.Dataset``, which is its native one, it returns gradient and
    Hessian.

    Parameters
    ----------
    class_weight : dict, tuple of float, 'balanced' or None
        The weights of the classes.
    label_smoothing : float
        How much of the target is spread evenly over all classes.
    focal_gamma : float
        The focusing parameter of the focal loss; 0 stands for cross-entropy.
    """

    def __call__(
        self, y_true: ArrayInput, y_pred: ArrayInput | Dataset, weight: ArrayInput | None = None
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Compute the gradient and the Hessian's diagonal.

        Parameters
        ----------
        y_true : array-like of shape (N,)
            The labels; in the native interface the scores.
        y_pred : array-like of shape (N, C) or (N,)
            The scores; in the native interface the ``lightgbm.Dataset``.
        weight : array-like of shape (N,), optional
            A weight for each row; in the native interface those of the training data.

        Returns
        -------
        gradient, hessian : numpy.ndarray
            Of the scores' shape, dtype and order.
        """
        return self._of(y_true, y_pred, weight, "lightgbm")


class XGBoostObjective(_Objective):
    """An objective for XGBoost with its options, from `xgboost_objective`.

    Called as ``objective(y_true, y_pred, sample_weight=None)``, which is XGBoost's scikit-learn interface, or as
    ``objective(scores, matrix)`` with a ``xgboost.DMatrix``, which is its native one, it returns gradient and Hessian.

    Parameters
    ----------
    class_weight : dict, tuple of float, 'balanced' or None
        The weights of the classes.
    label_smoothing : float
        How much of the target is spread evenly over all classes.
    focal_gamma : float
        The focusing parameter of the focal loss; 0 stands for cross-entropy.
    """

    def __call__(
        self, y_true: ArrayInput, y_pred: ArrayInput | Dataset, sample_weight: ArrayInput | None = None
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Compute the gradient and the Hessian's diagonal.

        Parameters
        ----------
        y_true : array-like of shape (N,)
            The labels; in the native interface the scores.
        y_pred : array-like of shape (N, C) or (N,)
            The scores; in the native interface the ``xgboost.DMatrix``.
        sample_weight : array-like of shape (N,), optional
            A weight for each row; in the native interface those of the training data.

        Returns
        -------
        gradient, hessian : numpy.ndarray
            Of the scores' shape, dtype and order.
        """
        return self._of(y_true, y_pred, sample_weight, "xgboost")


def _options(
    class_weight: ClassWeight | None, label_smoothing: float, focal_gamma: float
) -> tuple[_ClassWeight, float, float]:
    """Check the options of an objective, which are used much later."""
    smoothing, gamma = _number(label_smoothing, "label_smoothing"), _number(focal_gamma, "focal_gamma")
    if not 0 <= smoothing <= 1:
        raise ValueError(f"label_smoothing must be between 0.0 and 1.0: got {smoothing}")
    if not 0 <= gamma < np.inf:
        raise ValueError(f"focal_gamma is out of range: got {gamma}, expected a finite number of at least 0")
    if smoothing and gamma:
        raise ValueError(
            f"label_smoothing and focal_gamma exclude each other: got {smoothing} and {gamma}; the focal loss is a "
            "function of one class's probability"
        )
    if class_weight is None:
        return None, smoothing, gamma
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(
                f"class_weight is not understood: got {class_weight!r}, expected 'balanced', a mapping or an array"
            )
        return "balanced", smoothing, gamma
    if isinstance(class_weight, Mapping):
        keys = [_class(key) for key in class_weight]
        weights = np.array([_number(value, "a weight in class_weight") for value in class_weight.values()])
        checked: _ClassWeight = dict(zip(keys, weights.tolist(), strict=True))
    else:
        weights = _real(class_weight, "class_weight")
        if weights.ndim != 1:
            raise ValueError(f"class_weight has the wrong shape: got {weights.shape}, expected (K,)")
        checked = tuple(weights.tolist())
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError(
            f"class_weight is negative or not finite: got {class_weight}, expected finite numbers of at least 0"
        )
    return checked, smoothing, gamma


def _class(key: Any) -> int:
    """Return a key of class weights as an integer; labels may be whole floats, and so may keys."""
    name = "a key of class_weight"
    if isinstance(key, str):
        raise TypeError(
            f"{name} must be an integer: got {key!r}; LGBMClassifier numbers labels in the order of its classes_"
        )
    number = int(key) if isinstance(key, float | np.floating) and key.is_integer() else as_integer(key, name)
    if number < 0:
        raise ValueError(f"{name} is no class: got {number}, expected 0 or more")
    return number


def _number(value: Any, name: str) -> float:
    array = np.asarray(value)
    if array.ndim or array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be a number: got {value!r}")
    return float(array)


def _grad_hess(
    raw: ArrayInput,
    y: ArrayInput,
    weight: ArrayInput | None,
    class_weight: _ClassWeight,
    label_smoothing: float,
    focal_gamma: float,
    hessian: str,
    grad_out: NDArray[Any] | None = None,
    hess_out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    scores = as_array(raw, "raw")
    if float_name(scores.dtype) not in ("float32", "float64"):
        fix = "; use numpy.asarray(raw, dtype=numpy.float64)" if scores.dtype.kind in "iuf" else ""
        raise TypeError(f"raw must be float32 or float64: got dtype {scores.dtype}{fix}")
    if scores.ndim not in (1, 2) or (scores.ndim == 2 and scores.shape[1] < 2):
        single = "; use numpy.ravel(raw) for two classes" if scores.ndim == 2 else ""
        raise ValueError(
            f"raw has the wrong shape: got {scores.shape}, expected (N, K) for K classes, at least 2, or (N,) for two "
            f"classes{single}"
        )
    if not isinstance(hessian, str):
        raise TypeError(f"hessian must be a string: got {type(hessian).__name__}")
    rows = scores.shape[0]
    classes = scores.shape[1] if scores.ndim == 2 else 2
    labels = _labels(as_array(y, "y"), rows, classes, scores.shape)
    weights = None if weight is None else _weights(weight, rows)
    of_classes = None if class_weight is None else _of_classes(class_weight, labels, classes)
    return _core.softmax_gradient_hessian(
        scores, labels, weights, of_classes, label_smoothing, focal_gamma, hessian, grad_out, hess_out
    )


def _labels(
    y: NDArray[Any], rows: int, classes: int, scores: tuple[int, ...] | None
) -> NDArray[np.integer[Any]]:
    """Return labels as integers from 0 to `classes` - 1, or raise. `scores` is the shape of the scores, for errors."""
    if y.shape != (rows,):
        fix = "; use numpy.ravel(y)" if y.size == rows else ""
        if scores == (rows,) and 1 < y.size < rows and rows % y.size == 0:
            fix = f"; the scores have shape {scores}, for two classes: for K they need the shape (N, K)"
        raise ValueError(
            f"y has the wrong shape: got {y.shape}, expected ({rows},), one label for each row{fix}"
        )
    if y.dtype.kind == "b":
        labels = y.view(np.uint8)
    elif y.dtype.kind in "iu":
        labels = y
    elif float_name(y.dtype) is not None:
        with np.errstate(invalid="ignore"):
            labels = y.astype(np.int64)
        differing = labels != y
        if differing.any():
            at = int(differing.argmax())
            raise ValueError(
                f"y has a label that is not whole: got y[{at}] = {y[at]}, expected a class from 0 on"
            )
    else:
        raise TypeError(
            f"y must hold numbers of classes: got dtype {y.dtype}; use sklearn.preprocessing.LabelEncoder, or "
            "numpy.unique(y, return_inverse=True)"
        )
    if rows and (labels.min() < 0 or labels.max() >= classes):
        at = int(((labels < 0) | (labels >= classes)).argmax())
        fix = "labels are counted from 0: numpy.unique(y, return_inverse=True) numbers them"
        if scores is not None and labels[at] > 0:
            fix = f"the scores have shape {scores}: is num_class missing? Else {fix}"
        raise ValueError(
            f"y has a label that is no class: got y[{at}] = {labels[at]}, expected 0 to {classes - 1}; {fix}"
        )
    return labels


def _weights(weight: ArrayInput, rows: int) -> NDArray[np.float64]:
    array = _real(weight, "weight")
    if array.shape != (rows,):
        fix = "; use numpy.ravel(weight)" if array.size == rows else ""
        raise ValueError(
            f"weight has the wrong shape: got {array.shape}, expected ({rows},), one for each row{fix}"
        )
    return array


def _real(values: ArrayInput, name: str) -> NDArray[np.float64]:
    array = as_array(values, name)
    if array.dtype.kind not in "biu" and float_name(array.dtype) is None:
        raise TypeError(f"{name} must hold real numbers: got dtype {array.dtype}")
    return array.astype(np.float64)


def _of_classes(
    class_weight: dict[int, float] | tuple[float, ...] | Literal["balanced"],
    labels: NDArray[np.integer[Any]],
    classes: int,
) -> NDArray[np.float64]:
    """Return one weight for each class."""
    weights = np.ones(classes)
    if class_weight == "balanced":
        counts = np.bincount(labels, minlength=classes)
        found = counts > 0
        weights[found] = len(labels) / (np.count_nonzero(found) * counts[found])
        return weights
    if isinstance(class_weight, dict):
        beyond = [key for key in class_weight if key >= classes]
        if beyond:
            raise ValueError(
                f"class_weight has a key that is no class: got {beyond[0]}, expected 0 to {classes - 1}"
            )
        weights[list(class_weight)] = list(class_weight.values())
        return weights
    if len(class_weight) != classes:
        raise ValueError(
            f"class_weight has the wrong length: got {len(class_weight)}, expected {classes}, one for each class"
        )
    return np.array(class_weight)
