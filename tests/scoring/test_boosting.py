"""Objectives for boosters: they train what the built-in ones train, and compute what their definitions say."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import mpmath
import numpy as np
import pytest

import crossent
from arrays import SAME_VALUES, Array
from crossent import _core, boosting
from crossent.boosting import init_score, lightgbm_objective, softmax_grad_hess, xgboost_objective
from crossing import crossed

lightgbm = pytest.importorskip("lightgbm")
xgboost = pytest.importorskip("xgboost")
datasets = pytest.importorskip("sklearn.datasets")

NAN, INF = np.nan, np.inf
NAMES = ("digits", "wine", "iris", "breast_cancer")
pytestmark = pytest.mark.filterwarnings("ignore:Cannot compute class probabilities or labels")

every_dataset = pytest.mark.parametrize("name", NAMES)
weighted_or_not = pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = crossent.get_num_threads()
    yield
    crossent.set_num_threads(before)


def data(name: str, weighted: bool = False) -> tuple[Array, Array, Array | None, int]:
    """Features, labels, weights and the number of classes."""
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    x, y = x[:700], y[:700]
    weight = np.random.default_rng(3).uniform(0.2, 2.0, len(y)) if weighted else None
    return x, y, weight, int(y.max()) + 1


LIGHT = {
    "num_leaves": 7,
    "min_child_samples": 5,
    "verbose": -1,
    "deterministic": True,
    "force_row_wise": True,
}


def light(**options: Any) -> Any:
    return lightgbm.LGBMClassifier(**{"n_estimators": 6, "n_jobs": 1, **LIGHT, **options})


def extreme(**options: Any) -> Any:
    return xgboost.XGBClassifier(**{"n_estimators": 6, "max_depth": 3, "n_jobs": 1, **options})


def furthest(a: Any, b: Any) -> float:
    assert np.shape(a) == np.shape(b)
    return float(np.abs(np.asarray(a, np.float64) - b).max())


# ---- what is trained --------------------------------------------------------------------------------------


@every_dataset
@weighted_or_not
def test_lightgbm_trains_what_its_own_objectives_train(name: str, weighted: bool) -> None:
    x, y, weight, classes = data(name, weighted)
    built_in = light(boost_from_average=False).fit(x, y, sample_weight=weight)
    expected = built_in.predict(x, raw_score=True)
    assert np.abs(expected).max() > 0.3
    own = light(objective=lightgbm_objective()).fit(x, y, sample_weight=weight)
    assert furthest(own.predict(x, raw_score=True), expected) <= 1e-6
    # What the guide says: raw scores, whatever is asked for.
    assert furthest(own.predict_proba(x), expected) <= 1e-6
    # The native interface.
    many = {"num_class": classes} if classes > 2 else {}
    options = {**LIGHT, **many, "num_threads": 1, "objective": lightgbm_objective()}
    native = lightgbm.train(options, lightgbm.Dataset(x, y, weight=weight), 6)
    assert furthest(native.predict(x, raw_score=True), expected) <= 1e-6


@every_dataset
@weighted_or_not
def test_lightgbm_starts_where_its_own_objectives_start(name: str, weighted: bool) -> None:
    x, y, weight, classes = data(name, weighted)
    start = init_score(y, num_class=classes, weight=weight)
    built_in = light().fit(x, y, sample_weight=weight)
    own = light(objective=lightgbm_objective()).fit(x, y, sample_weight=weight, init_score=start)
    expected = built_in.predict(x, raw_score=True)
    scores = own.predict(x, raw_score=True) + start[0]
    assert furthest(scores, expected) <= 1e-6
    if classes > 2:
        assert furthest(crossent.softmax(scores, 1), built_in.predict_proba(x)) <= 1e-6


@pytest.mark.parametrize("classes", [2, 4])
def test_a_class_without_rows_starts_as_with_lightgbms_own_objectives(classes: int) -> None:
    x, y, _, _ = data("wine")
    y = np.where(y == 2, 3, y) if classes > 2 else np.zeros_like(y)
    options = {**LIGHT, "num_threads": 1, **({"num_class": 4} if classes > 2 else {})}
    built_in = {**options, "objective": "multiclass" if classes > 2 else "binary"}
    expected = lightgbm.train(built_in, lightgbm.Dataset(x, y), 6).predict(x, raw_score=True)
    start = init_score(y, num_class=classes)
    own = {**options, "objective": lightgbm_objective()}
    model = lightgbm.train(own, lightgbm.Dataset(x, y, init_score=start), 6)
    assert furthest(model.predict(x) + start[0], expected) <= 1e-6


@every_dataset
@weighted_or_not
def test_xgboost_trains_what_its_own_objectives_train(name: str, weighted: bool) -> None:
    x, y, weight, classes = data(name, weighted)
    built_in = extreme(base_score=0.5).fit(x, y, sample_weight=weight)
    own = extreme(base_score=0.5, objective=xgboost_objective()).fit(x, y, sample_weight=weight)
    expected = built_in.predict(x, output_margin=True)
    assert np.abs(expected).max() > 0.3
    assert furthest(own.predict(x, output_margin=True), expected) <= 1e-3
    assert furthest(own.predict_proba(x), built_in.predict_proba(x)) <= 1e-3
    # The native interface, where two classes start from a margin of 0.
    matrix = xgboost.DMatrix(x, y, weight=weight)
    options = {"max_depth": 3, "nthread": 1, "base_score": 0.5 if classes > 2 else 0.0}
    many = {"num_class": classes} if classes > 2 else {}
    native = xgboost.train({**options, **many}, matrix, 6, obj=xgboost_objective())
    assert furthest(native.predict(matrix, output_margin=True), expected) <= 1e-3


@every_dataset
@weighted_or_not
def test_xgboost_starts_where_its_own_objectives_start(name: str, weighted: bool) -> None:
    x, y, weight, classes = data(name, weighted)
    start = init_score(y, num_class=classes, weight=weight)
    built_in = extreme().fit(x, y, sample_weight=weight)
    own = extreme(objective=xgboost_objective()).fit(x, y, sample_weight=weight, base_margin=start)
    expected = built_in.predict_proba(x)
    assert furthest(own.predict_proba(x, base_margin=start), expected) <= 1e-5


@pytest.mark.parametrize("options", [
    {"class_weight": {0: 0.5, 1: 3.0}}, {"label_smoothing": 0.2}, {"focal_gamma": 2.0}, {"focal_gamma": 0.5},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("name", ["wine", "breast_cancer"])
def test_options_train_models_that_know_their_classes(name: str, options: dict[str, Any]) -> None:
    x, y, _, classes = data(name)
    scores = (
        light(n_estimators=15, objective=lightgbm_objective(**options)).fit(x, y).predict(x, raw_score=True)
    )
    margins = extreme(n_estimators=15, objective=xgboost_objective(**options)).fit(x, y)
    margins = margins.predict(x, output_margin=True)
    plain = light(n_estimators=15, objective=lightgbm_objective()).fit(x, y).predict(x, raw_score=True)
    for found in (scores, margins):
        assert np.isfinite(found).all()
        assert ((found.argmax(1) if classes > 2 else found > 0) == y).mean() > 0.95
    assert furthest(scores, plain) > 1e-3


def test_class_weights_are_row_weights() -> None:
    x, y, _, _ = data("wine")
    class_weight = np.array([0.5, 2.0, 1.0])
    by_rows = light(objective=lightgbm_objective()).fit(x, y, sample_weight=class_weight[y])
    expected = by_rows.predict(x, raw_score=True)
    for given in (
        class_weight,
        class_weight.tolist(),
        {0: 0.5, 1: 2},
        {1.0: np.float32(2), np.float32(0): 0.5},
    ):
        own = light(objective=lightgbm_objective(class_weight=given)).fit(x, y)
        assert furthest(own.predict(x, raw_score=True), expected) <= 1e-5


@pytest.mark.parametrize("weighted", [False, True])
def test_balanced_classes_are_those_of_scikit_learn(weighted: bool) -> None:
    x, y, weight, _ = data("wine", weighted)
    names = np.array(["white", "red", "pink"])[y]
    expected = light(boost_from_average=False, class_weight="balanced").fit(x, names, sample_weight=weight)
    own = light(objective=lightgbm_objective(class_weight="balanced")).fit(x, names, sample_weight=weight)
    assert furthest(own.predict(x, raw_score=True), expected.predict(x, raw_score=True)) <= 1e-5
    sample_weight = pytest.importorskip("sklearn.utils.class_weight").compute_sample_weight
    x, y, weight, _ = data("breast_cancer", weighted)
    by_class = sample_weight("balanced", y) * (1 if weight is None else weight)
    # The other methods choose their bins by weights of rows, and not by those of classes.
    options = {"base_score": 0.5, "tree_method": "exact"}
    by_rows = extreme(**options).fit(x, y, sample_weight=by_class)
    own = extreme(**options, objective=xgboost_objective(class_weight="balanced"))
    own.fit(x, y, sample_weight=weight)
    assert furthest(own.predict(x, output_margin=True), by_rows.predict(x, output_margin=True)) <= 1e-3


def test_balanced_classes_may_lack_rows() -> None:
    x, y = np.random.default_rng(5).standard_normal((6, 5)), np.array([1, 1, 1, 4, 4, 2], np.float32)
    given = [1.0, 6 / (3 * 3), 6 / 3, 1.0, 6 / (3 * 2)]
    for make in (lightgbm_objective, xgboost_objective):
        expected = make(class_weight=given, label_smoothing=0.3)(y, x)
        assert np.array_equal(make(class_weight="balanced", label_smoothing=0.3)(y, x), expected)
        assert make(class_weight="balanced")(y[:0], x[:0])[0].shape == (0, 5)


def test_early_stopping_is_that_of_the_built_in_objectives() -> None:
    x, y, _, _ = data("wine")
    stops = {"early_stopping_rounds": 3, "eval_metric": "mlogloss", "n_estimators": 100, "base_score": 0.5}
    found = [
        extreme(**stops, **own)
        .fit(x[::2], y[::2], eval_set=[(x[1::2], y[1::2])], verbose=False)
        .best_iteration
        for own in ({"objective": xgboost_objective()}, {})
    ]
    assert found[0] == found[1] < 90

    parameters = {**LIGHT, "num_class": 3, "num_threads": 1, "metric": "multi_logloss"}
    options = {"num_boost_round": 100, "callbacks": [lightgbm.early_stopping(3, verbose=False)]}
    found = []
    for own in (
        {"objective": lightgbm_objective()},
        {"objective": "multiclass", "boost_from_average": False},
    ):
        training = lightgbm.Dataset(x[::2], y[::2])
        held_out = lightgbm.Dataset(x[1::2], y[1::2], reference=training)

        def mean(scores: Array, dataset: Any, raw: bool = "boost_from_average" not in own) -> Any:
            if raw:
                return "mean", crossent.cross_entropy(scores, dataset.get_label().astype(int)), False
            return "mean", crossent.log_loss(dataset.get_label().astype(int), scores), False

        model = lightgbm.train(
            {**parameters, "metric": "None", **own}, training, valid_sets=[held_out], feval=mean, **options
        )
        found.append(model.best_iteration)
    assert found[0] == found[1] < 90


@pytest.mark.parametrize("booster", ["dart", "gblinear"])
def test_xgboosts_other_boosters_take_the_objectives(booster: str) -> None:
    x, y, _, _ = data("iris")
    matrix = xgboost.DMatrix(x, y)
    options = {
        "booster": booster,
        "num_class": 3,
        "objective": "multi:softprob",
        "base_score": 0.5,
        "nthread": 1,
    }
    options |= {"rate_drop": 0.3, "seed": 1} if booster == "dart" else {"updater": "coord_descent"}
    expected = xgboost.train(options, matrix, 8).predict(matrix, output_margin=True)
    own = xgboost.train(options, matrix, 8, obj=xgboost_objective()).predict(matrix, output_margin=True)
    assert furthest(own, expected) <= 1e-3


def test_two_classes_may_have_a_score_each() -> None:
    x, y, _, _ = data("breast_cancer")
    parameters = {**LIGHT, "num_class": 2, "num_threads": 1}
    built_in = lightgbm.train(
        {**parameters, "objective": "multiclass", "boost_from_average": False}, lightgbm.Dataset(x, y), 5
    )
    own = lightgbm.train({**parameters, "objective": lightgbm_objective()}, lightgbm.Dataset(x, y), 5)
    assert furthest(own.predict(x), built_in.predict(x, raw_score=True)) <= 1e-6
    matrix = xgboost.DMatrix(x, y)
    options = {"num_class": 2, "objective": "multi:softprob", "base_score": 0.5, "nthread": 1}
    expected = xgboost.train(options, matrix, 5).predict(matrix, output_margin=True)
    found = xgboost.train(options, matrix, 5, obj=xgboost_objective()).predict(matrix, output_margin=True)
    assert furthest(found, expected) <= 1e-3


def test_a_class_weight_of_1_is_scale_pos_weight() -> None:
    x, y, _, _ = data("breast_cancer")
    built_in = light(boost_from_average=False, scale_pos_weight=3.0).fit(x, y)
    own = light(objective=lightgbm_objective(class_weight={1: 3.0})).fit(x, y)
    assert furthest(own.predict(x, raw_score=True), built_in.predict(x, raw_score=True)) <= 1e-6
    built_in = extreme(base_score=0.5, scale_pos_weight=3.0).fit(x, y)
    own = extreme(base_score=0.5, objective=xgboost_objective(class_weight={1: 3.0})).fit(x, y)
    assert furthest(own.predict(x, output_margin=True), built_in.predict(x, output_margin=True)) <= 1e-3


def test_cross_validation_takes_the_objectives() -> None:
    x, y, weight, _ = data("wine", True)
    matrix = xgboost.DMatrix(x, y, weight=weight)
    own = xgboost.cv(
        {"num_class": 3, "nthread": 1, "base_score": 0.5, "objective": "multi:softprob"},
        matrix, 3, nfold=2, obj=xgboost_objective(), metrics="mlogloss", as_pandas=False,
    )  # fmt: skip
    built_in = xgboost.cv(
        {"num_class": 3, "nthread": 1, "base_score": 0.5, "objective": "multi:softprob"},
        matrix, 3, nfold=2, metrics="mlogloss", as_pandas=False,
    )  # fmt: skip
    np.testing.assert_allclose(own["train-mlogloss-mean"], built_in["train-mlogloss-mean"], rtol=1e-5)
    options = {**LIGHT, "num_class": 3, "num_threads": 1, "metric": "multi_logloss"}
    folds = lightgbm.cv(
        {**options, "objective": lightgbm_objective()}, lightgbm.Dataset(x, y, weight=weight), 3, nfold=2
    )
    assert folds["valid multi_logloss-mean"][-1] > 0
    model_selection = pytest.importorskip("sklearn.model_selection")
    found = model_selection.cross_val_score(
        extreme(objective=xgboost_objective(label_smoothing=0.1)), x, y, cv=2, n_jobs=1
    )
    assert found.mean() > 0.8


# ---- what is computed -------------------------------------------------------------------------------------


def definition(
    x: Array, y: Array, weight: Any, class_weight: Any, smoothing: float, gamma: float, kind: str
) -> Any:
    """Gradient and Hessian as the equations say, in the longest floating-point type."""
    single = x.ndim == 1
    x = x.astype(np.longdouble)
    if single:
        x = np.stack([np.zeros_like(x), x], 1)
    rows, classes = x.shape
    e = np.exp(x - x.max(1, keepdims=True))
    p = e / e.sum(1, keepdims=True)
    target = np.eye(classes)[np.asarray(y, int)]
    w = np.ones(classes) if class_weight is None else np.asarray(class_weight)
    if gamma:
        own = (p * target).sum(1, keepdims=True)
        miss, nll = (p * (1 - target)).sum(1, keepdims=True), -np.log(own)
        first = miss**gamma * (1 + gamma * own * nll / miss)
        second = gamma * miss ** (gamma - 1) * (2 * own - own * nll * (1 - gamma * own) / miss)
        of_target = (w * target).sum(1, keepdims=True)
        g = of_target * first * (p - target)
        h = of_target * (first * p * (1 - p) + second * (p - target) ** 2)
    else:
        q = w * ((1 - smoothing) * target + smoothing / classes)
        s = q.sum(1, keepdims=True)
        g, h = s * p - q, s * p * (1 - p)
    each = np.ones(rows) if weight is None else np.asarray(weight, np.float64)
    many = {"diagonal": 1, "lightgbm": classes / (classes - 1), "xgboost": 2}[kind]
    g, h = g * each[:, None], h * each[:, None] * (1 if single else many)
    least = 1e-16 * (each * w[np.asarray(y, int)] if single else np.ones(rows))[:, None]
    if kind == "xgboost" or (gamma and kind == "lightgbm"):
        h = np.maximum(h, least)
    return (g[:, 1], h[:, 1]) if single else (g, h)


SHAPES = ((70,), (64, 2), (70, 3), (130, 10), (65, 17), (20, 100), (20, 101), (5, 1500))
COMBINATIONS = crossed(
    SHAPES,
    (np.float32, np.float64),
    tuple(SAME_VALUES),
    ("diagonal", "lightgbm", "xgboost"),
    (None, "weights"),
    (None, "class weights"),
    ((0.0, 0.0), (0.1, 0.0), (1.0, 0.0), (0.0, 2.0), (0.0, 0.5), (0.0, 1.0), (0.0, 3.7)),
    (1, 3),
    more=150,
)


@pytest.mark.parametrize("start", range(0, len(COMBINATIONS), 30))
def test_results_are_those_of_the_definition(start: int) -> None:
    for at, case in enumerate(COMBINATIONS[start : start + 30]):
        shape, dtype, layout, kind, weighted, by_class, (smoothing, gamma), threads = case
        rng = np.random.default_rng(start + at)
        classes = shape[1] if len(shape) > 1 else 2
        x = SAME_VALUES[layout](np.asarray(rng.standard_normal(shape) * 4, dtype))
        y = rng.integers(0, classes, shape[0])
        weight: Any = rng.uniform(0, 2, shape[0]) * (rng.random(shape[0]) < 0.9) if weighted else None
        class_weight = rng.uniform(0, 2, classes) if by_class else None
        crossent.set_num_threads(threads)
        options = {"class_weight": class_weight, "label_smoothing": smoothing, "focal_gamma": gamma}
        if kind == "diagonal":
            labels = (y, weight, class_weight)
            grad, hess = _core.softmax_gradient_hessian(x, *labels, smoothing, gamma, kind, None, None)
        elif kind == "lightgbm":
            grad, hess = lightgbm_objective(**options)(y.astype(np.float32), x, weight)
        else:
            grad, hess = xgboost_objective(**options)(y.astype(np.float32), x, sample_weight=weight)
        g, h = definition(x, y, weight, class_weight, smoothing, gamma, kind)
        bound = 3e-15 if dtype is np.float64 else 1e-6
        for found, expected in ((grad, g), (hess, h)):
            assert found.dtype == dtype, case
            assert found.shape == shape, case
            assert np.abs(found - expected).max() <= bound * max(np.abs(expected).max(), 1e-300), case
        if x.ndim == 2 and x.flags.f_contiguous and not x.flags.c_contiguous:
            assert grad.flags.f_contiguous, case
            assert hess.flags.f_contiguous, case


def test_focal_hessian_is_the_derivative_of_the_gradient() -> None:
    """The diagonal, by differences of the loss in 60 digits."""
    rng = np.random.default_rng(8)
    x, y = rng.standard_normal((6, 4)) * 3, rng.integers(0, 4, 6)
    x[0] = (9.0, -1.0, 0.0, 2.0)  # a sure row
    y[0] = 0
    with mpmath.workdps(60):
        for gamma in (0.3, 1.0, 2.0, 4.5):
            grad, hess = _core.softmax_gradient_hessian(x, y, None, None, 0.0, gamma, "diagonal", None, None)
            assert (hess < 0).any()
            assert (lightgbm_objective(focal_gamma=gamma)(y, x)[1] >= 1e-16).all()
            for n, c in np.ndindex(x.shape):

                def loss(z: Any, n: int = n, c: int = c, gamma: float = gamma) -> Any:
                    row = [mpmath.mpf(v) for v in x[n]]
                    row[c] = z
                    e = [mpmath.exp(v) for v in row]
                    p = e[y[n]] / sum(e)
                    return -((1 - p) ** mpmath.mpf(gamma)) * mpmath.log(p)

                first, second = (float(mpmath.diff(loss, x[n, c], order)) for order in (1, 2))
                assert abs(grad[n, c] - first) <= 1e-13 * abs(first)
                assert abs(hess[n, c] - second) <= 1e-12 * max(abs(second), 1e-3 * abs(first))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("single", [True, False])
def test_focal_gradients_are_finite_wherever_scores_are(dtype: Any, single: bool) -> None:
    distances = np.array(
        [0, 1e-8, 1, 5, 20, 40, 80, 87, 88, 100, 103, 104, 200, 700, 708, 740, 745, 1000, 1e38]
    )
    far = np.concatenate([distances, -distances]).astype(dtype)
    x = far if single else np.stack([np.zeros_like(far), far, np.full_like(far, -1)], 1)
    for gamma in (1e-9, 1e-3, 0.01, 0.3, 1.0, 1.5, 50.0):
        for label in range(2 if single else 3):
            y = np.full(len(far), label)
            for objective in (lightgbm_objective(focal_gamma=gamma), xgboost_objective(focal_gamma=gamma)):
                for weight in (None, np.full(len(far), 1e6)):
                    grad, hess = objective(y, x, weight)
                    assert np.isfinite(grad).all()
                    assert np.isfinite(hess).all()
                    assert (hess > 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [1, 2, 5, 300])
@pytest.mark.parametrize("distance", [1.0, 20.0, 60.0])
def test_sure_rows_keep_their_digits(dtype: Any, classes: int, distance: float) -> None:
    """Each entry to its own last digits, 1 - p of a sure class too. One class stands for a single score."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal((6, classes)).astype(dtype)
    x[:3, -1] += dtype(distance)
    x[3:, 0] -= dtype(distance)
    y = np.array([0, 1, 1, 0, 1, 1]) * (max(classes, 2) - 1)
    grad, hess = softmax_grad_hess(x[:, 0] if classes == 1 else x, y, hessian="diagonal")
    bound = 16 * np.finfo(dtype).eps
    with mpmath.workdps(60):
        for n in range(6):
            row = [mpmath.mpf(0)] * (classes == 1) + [mpmath.mpf(float(v)) for v in x[n]]
            e = [mpmath.exp(v) for v in row]
            total = sum(e)
            for c in range(len(row)):
                if classes == 1 and c == 0:
                    continue
                p, miss = e[c] / total, (total - e[c]) / total  # in 60 digits
                at = (n,) if classes == 1 else (n, c)
                for found, expected in ((grad[at], -miss if y[n] == c else p), (hess[at], p * miss)):
                    assert abs(float(found) - expected) <= bound * abs(expected), (n, c)


def test_gradients_have_the_bits_of_the_loss() -> None:
    rng = np.random.default_rng(5)
    for dtype in (np.float32, np.float64):
        for classes in (2, 10, 64, 150):
            x, y = (rng.standard_normal((100, classes)) * 4).astype(dtype), rng.integers(0, classes, 100)
            weight, class_weight = rng.uniform(0, 2, 100), rng.uniform(0, 2, classes)
            grad, _ = softmax_grad_hess(x, y)
            assert np.array_equal(grad, crossent.cross_entropy_and_grad(x, y, reduction="sum")[1])
            options = {"reduction": "none", "grad_output": weight}
            found, _ = lightgbm_objective(class_weight=class_weight, label_smoothing=0.2)(y, x, weight)
            expected = crossent.cross_entropy_and_grad(x, y, class_weight, label_smoothing=0.2, **options)[1]
            assert np.array_equal(found, expected)
            found, _ = xgboost_objective(class_weight=class_weight, focal_gamma=1.5)(y, x, weight)
            expected = crossent.focal_loss_and_grad(x, y, class_weight, gamma=1.5, **options)[1]
            assert np.array_equal(found, expected)


def test_bits_do_not_depend_on_layouts_threads_or_batches() -> None:
    rng = np.random.default_rng(6)
    for shape in ((20_000,), (20_000, 7), (3000, 120)):
        x = rng.standard_normal(shape) * 3
        y, weight = rng.integers(0, 2, shape[0]), rng.uniform(0, 2, shape[0])
        crossent.set_num_threads(1)
        grad, hess = softmax_grad_hess(x, y, weight=weight)
        for threads, (_, layout) in zip((2, 3, 4, 2, 3, 4), SAME_VALUES.items(), strict=True):
            crossent.set_num_threads(threads)
            out = layout(np.zeros(shape)) if layout(x).flags.writeable else np.zeros(shape)
            other = np.asfortranarray(np.zeros(shape))
            found = softmax_grad_hess(
                layout(x), layout(y), weight=layout(weight), grad_out=out, hess_out=other
            )
            assert found[0] is out
            assert found[1] is other
            assert np.array_equal(out, grad)
            assert np.array_equal(other, hess)
        part = softmax_grad_hess(x[777:1999], y[777:1999], weight=weight[777:1999])
        assert np.array_equal(part[0], grad[777:1999])
        assert np.array_equal(part[1], hess[777:1999])


@pytest.mark.parametrize("order", ["C", "F"])
def test_nothing_of_the_size_of_the_scores_is_made_besides_the_results(order: Any) -> None:
    x = np.asarray(np.random.default_rng(0).standard_normal((100_000, 20)), order=order)
    y, weight = np.arange(100_000) % 20, np.ones(100_000)
    objective = lightgbm_objective(class_weight=np.ones(20), label_smoothing=0.1)
    outputs = np.empty_like(x), np.empty_like(x)
    for call, allowed in (
        (lambda: softmax_grad_hess(x, y, weight=weight, grad_out=outputs[0], hess_out=outputs[1]), 0),
        (lambda: objective(y.astype(np.float32), x, weight), 2 * x.nbytes),
    ):
        call()
        tracemalloc.start()
        try:
            result = call()
            assert tracemalloc.get_traced_memory()[1] < allowed + x.nbytes // 4
        finally:
            tracemalloc.stop()
        assert result[0].strides == x.strides


def test_any_labels_that_are_whole_are_taken() -> None:
    x = np.random.default_rng(1).standard_normal((4, 2))
    expected = softmax_grad_hess(x, np.array([0, 1, 1, 0]))[0]
    for dtype in ("?", "i1", "u1", "i2", "i4", "u8", "f2", "f4", "f8", ">f4", ml_dtypes.bfloat16):
        assert np.array_equal(softmax_grad_hess(x, np.array([0, 1, 1, 0]).astype(dtype))[0], expected), dtype
    assert np.array_equal(softmax_grad_hess(x.tolist(), [0, 1.0, 1, 0])[0], expected)
    assert np.array_equal(softmax_grad_hess(x, [-0.0, 1.0, 1.0, 0.0])[0], expected)


def test_no_rows_have_no_gradients() -> None:
    for shape in ((0,), (0, 3)):
        grad, hess = softmax_grad_hess(np.zeros(shape), np.zeros(0))
        assert grad.shape == hess.shape == shape
    assert init_score([], num_class=3).shape == (0, 3)
    assert init_score([], num_class=2).shape == (0,)


def test_rows_that_are_not_finite_stand_out() -> None:
    x = np.zeros((4, 3), np.float32)
    x[0, 1], x[1, 2], x[2, 0] = NAN, INF, -INF
    for objective in (lightgbm_objective(), xgboost_objective(), lightgbm_objective(focal_gamma=2.0)):
        grad, hess = objective(np.array([0, 1, 2, 0]), x)
        for found in (grad, hess):
            assert np.isnan(found[:2]).all()
            assert np.isfinite(found[2:]).all()
        assert grad[2, 0] == 0
    grad, hess = softmax_grad_hess(np.array([NAN, INF, -INF, INF]), np.array([0, 1, 0, 0]))
    assert np.array_equal(grad, [NAN, 0, 0, 1], equal_nan=True)
    assert np.array_equal(hess, [NAN, 0, 0, 0], equal_nan=True)


# ---- starts -----------------------------------------------------------------------------------------------


def test_starts_are_logarithms_of_priors() -> None:
    y = np.array([0, 2, 2, 1, 2, 0])
    weight = np.array([1.0, 2.0, 0.0, 3.0, 4.0, 0.0])
    scores = init_score(y, num_class=4)
    assert scores.shape == (6, 4)
    assert scores.dtype == np.float64
    assert scores.flags.f_contiguous
    np.testing.assert_allclose(scores[3], np.log([2 / 6, 1 / 6, 3 / 6, 1e-15]), rtol=1e-14)
    np.testing.assert_allclose(
        init_score(y.astype(np.float32), num_class=3, weight=weight)[5], np.log([0.1, 0.3, 0.6]), rtol=1e-14
    )
    binary = init_score(y > 0, num_class=2, weight=weight)
    assert binary.shape == (6,)
    np.testing.assert_allclose(binary, np.log(0.9 / 0.1), rtol=1e-14)
    np.testing.assert_allclose(init_score(np.ones(3), num_class=2), np.log(1e15), rtol=1e-4)
    for scale in (5e-324, 1e-200, 5e307):
        of_weights = init_score(np.array([0, 1, 2, 2]), num_class=3, weight=np.full(4, scale))
        np.testing.assert_allclose(of_weights[0], np.log([1 / 4, 1 / 4, 1 / 2]), rtol=1e-14)
    np.testing.assert_allclose(init_score(np.zeros(3), num_class=2), np.log(1e-15), rtol=1e-14)


# ---- pickles ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lightgbm_objective, xgboost_objective])
def test_objectives_are_pickled_and_copied(make: Any) -> None:
    base = pytest.importorskip("sklearn.base")
    joblib = pytest.importorskip("joblib")
    x, y = np.random.default_rng(2).standard_normal((9, 3)), np.arange(9) % 3
    options: list[dict[str, Any]] = [
        {}, {"class_weight": {1: 2.0}}, {"class_weight": np.array([1.0, 2, 3])}, {"focal_gamma": 2},
        {"label_smoothing": 0.25}, {"class_weight": "balanced"},
    ]  # fmt: skip
    for each in options:
        objective = make(**each)
        expected = objective(y, x)
        stream = io.BytesIO()
        joblib.dump(objective, stream)
        stream.seek(0)
        others = [pickle.loads(pickle.dumps(objective, protocol)) for protocol in range(2, 6)]
        for other in (*others, copy.deepcopy(objective), joblib.load(stream)):
            assert repr(other) == repr(objective)
            assert np.array_equal(other(y, x), expected)
    estimator = (light if make is lightgbm_objective else extreme)(objective=make(focal_gamma=1.0))
    clone = base.clone(estimator)
    assert clone.get_params()["objective"].focal_gamma == 1.0
    with pytest.raises(AttributeError):
        make().focal_gamma = 3.0


@pytest.mark.parametrize("name", ["wine", "breast_cancer"])
def test_trained_models_are_pickled_with_their_objectives(name: str) -> None:
    x, y, _, _ = data(name)
    for estimator in (
        light(objective=lightgbm_objective(class_weight={1: 2.0})),
        extreme(objective=xgboost_objective(label_smoothing=0.1)),
    ):
        estimator.fit(x, y)
        other = pickle.loads(pickle.dumps(estimator))
        assert np.array_equal(other.predict_proba(x), estimator.predict_proba(x))
        assert np.array_equal(other.fit(x, y).predict_proba(x), estimator.predict_proba(x))


# ---- what is refused --------------------------------------------------------------------------------------

SCORES, LABELS = np.zeros((4, 3)), np.array([0, 1, 2, 0])

REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "a label between classes": ({"y": [0, 1, 1.5, 0]}, ValueError, r"not whole: got y\[2\] = 1.5"),
    "a missing label": ({"y": [0, NAN, 1, 0]}, ValueError, r"not whole: got y\[1\] = nan"),
    "an infinite label": ({"y": [0, INF, 1, 0]}, ValueError, r"not whole: got y\[1\] = inf"),
    "a huge float": ({"y": [0, 1e30, 1, 0]}, ValueError, r"y\[1\] = 1e\+30"),
    "2^63 as a float": ({"y": [0, 2.0**63, 1, 0]}, ValueError, r"y\[1\] = 9.22"),
    "a label beyond": ({"y": [0, 1, 3, 0]}, ValueError, r"got y\[2\] = 3, expected 0 to 2; .*num_class"),
    "a negative label": ({"y": [0, -1, 2, 0]}, ValueError, r"got y\[1\] = -1, expected 0 to 2; labels are"),
    "a label to ignore": ({"y": [0, -100, 2, 0]}, ValueError, r"got y\[1\] = -100"),
    "the least integer": ({"y": [0, -(2**63), 2, 0]}, ValueError, r"got y\[1\] = -9223372036854775808"),
    "the largest integer": ({"y": np.array([0, 2**64 - 1, 2, 0], np.uint64)}, ValueError, r"y\[1\] = 1844674"),
    "text": ({"y": ["a", "b", "c", "a"]}, TypeError, "LabelEncoder"),
    "complex labels": ({"y": np.zeros(4, complex)}, TypeError, "y must hold numbers of classes"),
    "fewer labels": ({"y": [0, 1]}, ValueError, r"y has the wrong shape: got \(2,\), expected \(4,\)"),
    "a column of labels": ({"y": LABELS[:, None]}, ValueError, "ravel"),
    "one-hot labels": ({"y": np.eye(4, 3)}, ValueError, r"y has the wrong shape: got \(4, 3\)"),
    "integer scores": ({"raw": np.zeros((4, 3), int)}, TypeError, "float32 or float64: got dtype int64; use"),
    "half scores": ({"raw": np.zeros((4, 3), "f2")}, TypeError, "raw must be float32 or float64: got dtype float16"),
    "complex scores": ({"raw": np.zeros((4, 3), complex)}, TypeError, "float32 or float64: got dtype complex128$"),
    "one class": ({"raw": np.zeros((4, 1))}, ValueError, "ravel"),
    "no classes": ({"raw": np.zeros((4, 0))}, ValueError, r"got \(4, 0\)"),
    "three dimensions": ({"raw": np.zeros((4, 3, 2))}, ValueError, r"got \(4, 3, 2\), expected \(N, K\)"),
    "a number": ({"raw": np.float64(3)}, ValueError, r"got \(\)"),
    "a masked array": ({"raw": np.ma.masked_array(SCORES)}, TypeError, "mask"),
    "a negative weight": ({"weight": [1, -1, 1, 1]}, ValueError, r"weight\[1\] = -1.* at least 0"),
    "a nan weight": ({"weight": [1, 1, NAN, 1]}, ValueError, r"weight\[2\] = nan"),
    "an infinite weight": ({"weight": [1, 1, INF, 1]}, ValueError, r"weight\[2\] = inf"),
    "fewer weights": ({"weight": [1, 1]}, ValueError, r"weight has the wrong shape: got \(2,\), expected \(4,\)"),
    "no weights": ({"weight": []}, ValueError, r"weight has the wrong shape: got \(0,\)"),
    "text for weights": ({"weight": ["a"] * 4}, TypeError, "weight must hold real numbers"),
    "an unknown Hessian": ({"hessian": "exact"}, ValueError, "got 'exact', expected 'lightgbm', 'xgboost' or"),
    "no Hessian": ({"hessian": None}, TypeError, "hessian must be a string"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_bad_arguments_are_named_before_anything_is_written(case: str) -> None:
    given, error, text = REFUSED[case]
    arguments = {"raw": SCORES, "y": LABELS, **given}
    outputs: dict[str, Any] = {}
    raw = np.asarray(arguments["raw"])
    if raw.dtype == np.float64 and raw.ndim:
        outputs = {name: np.full(raw.shape, 7.0) for name in ("grad_out", "hess_out")}
    with pytest.raises(error, match=text):
        softmax_grad_hess(**arguments, **outputs)
    for out in outputs.values():
        assert (out == 7).all()


def test_bad_outputs_are_refused_before_anything_is_written() -> None:
    both = np.full((4, 6), 7.0)
    raw, good, other = np.zeros((4, 3)), both[:, :3].copy(), both[:, 3:].copy()
    frozen = good.copy()
    frozen.flags.writeable = False
    for outputs, error, text in (
        ({"grad_out": good.astype(np.float32)}, TypeError, "grad_out has the wrong dtype: got float32"),
        ({"hess_out": good.astype(np.float32)}, TypeError, "hess_out has the wrong dtype"),
        ({"hess_out": good.T}, ValueError, "hess_out has the wrong shape"),
        ({"grad_out": good.tolist()}, TypeError, "grad_out must be a numpy.ndarray"),
        ({"grad_out": frozen}, ValueError, "grad_out is read-only"),
        ({"grad_out": np.broadcast_to(good[:1], (4, 3))}, ValueError, "grad_out"),
        ({"grad_out": good, "hess_out": good}, ValueError, "grad_out and hess_out share memory"),
        ({"grad_out": both[:, :3], "hess_out": both[:, 2:5]}, ValueError, "grad_out and hess_out share"),
        ({"grad_out": raw, "hess_out": other}, ValueError, "grad_out and raw share memory"),
        ({"grad_out": good, "hess_out": raw}, ValueError, "hess_out and raw share memory"),
    ):  # fmt: skip
        with pytest.raises(error, match=text):
            softmax_grad_hess(raw, LABELS, **outputs)
    assert (both == 7).all()
    assert (good == 7).all()
    assert (raw == 0).all()


def test_arrays_may_lie_between_each_others_elements() -> None:
    rng = np.random.default_rng(7)
    x, y = rng.standard_normal((500, 7)), rng.integers(0, 7, 500)
    grad, hess = softmax_grad_hess(x, y)
    three = np.zeros((500, 7, 3))
    three[..., 0] = x
    side_by_side = np.asfortranarray(np.zeros((500, 21)))
    side_by_side[:, :7] = x
    for at, (given, *outputs) in enumerate((
        (three[..., 0], three[..., 2], three[..., 1]),
        (side_by_side[:, :7], side_by_side[:, 14:], side_by_side[:, 7:14]),
    )):  # fmt: skip
        crossent.set_num_threads(1 + at)
        found = softmax_grad_hess(given, y, grad_out=outputs[0], hess_out=outputs[1])
        for out, expected, same in zip(outputs, (grad, hess), found, strict=True):
            assert same is out
            assert np.array_equal(out, expected)
        assert np.array_equal(given, x)


def test_outputs_may_lie_over_labels_and_weights() -> None:
    rng = np.random.default_rng(3)
    x, weight, y = rng.standard_normal(8), rng.uniform(0, 2, 8), rng.integers(0, 2, 8)
    grad, hess = softmax_grad_hess(x, y, weight=weight)
    memory = y.copy()
    found = softmax_grad_hess(x, memory, weight=weight, grad_out=weight, hess_out=memory.view(np.float64))
    assert np.array_equal(found[0], grad)
    assert np.array_equal(found[1], hess)


@pytest.mark.parametrize(("options", "error", "text"), [
    ({"label_smoothing": -0.1}, ValueError, "label_smoothing must be between 0.0 and 1.0: got -0.1"),
    ({"label_smoothing": 1.1}, ValueError, "label_smoothing must be between"),
    ({"label_smoothing": NAN}, ValueError, "label_smoothing must be between"),
    ({"label_smoothing": "0.1"}, TypeError, "label_smoothing must be a number"),
    ({"focal_gamma": -1}, ValueError, "focal_gamma is out of range: got -1.0"),
    ({"focal_gamma": NAN}, ValueError, "focal_gamma is out of range"),
    ({"focal_gamma": INF}, ValueError, "focal_gamma is out of range"),
    ({"focal_gamma": None}, TypeError, "focal_gamma must be a number"),
    ({"focal_gamma": 2.0, "label_smoothing": 0.1}, ValueError, "exclude each other"),
    ({"class_weight": "even"}, ValueError, "class_weight is not understood: got 'even', expected 'balanced', a"),
    ({"class_weight": [1, -1]}, ValueError, "class_weight is negative or not finite"),
    ({"class_weight": [1, NAN]}, ValueError, "class_weight is negative or not finite"),
    ({"class_weight": {0: INF}}, ValueError, "class_weight is negative or not finite"),
    ({"class_weight": {"a": 1.0}}, TypeError, "must be an integer: got 'a'; LGBMClassifier numbers"),
    ({"class_weight": {1.5: 1.0}}, TypeError, "a key of class_weight must be an integer: got float"),
    ({"class_weight": {True: 1.0}}, TypeError, "a key of class_weight must be an integer: got True"),
    ({"class_weight": {NAN: 1.0}}, TypeError, "a key of class_weight must be an integer: got float"),
    ({"class_weight": {-1: 1.0}}, ValueError, "a key of class_weight is no class: got -1"),
    ({"class_weight": {0: "1"}}, TypeError, "a weight in class_weight must be a number: got '1'"),
    ({"class_weight": [[1.0, 2.0]]}, ValueError, r"class_weight has the wrong shape: got \(1, 2\)"),
    ({"class_weight": 2.0}, ValueError, r"class_weight has the wrong shape: got \(\)"),
], ids=str)  # fmt: skip
def test_bad_options_are_refused_where_an_objective_is_made(options: Any, error: Any, text: str) -> None:
    for make in (lightgbm_objective, xgboost_objective):
        with pytest.raises(error, match=text):
            make(**options)


def test_class_weights_that_do_not_fit_the_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="class_weight has the wrong length: got 2, expected 3"):
        lightgbm_objective(class_weight=[1, 2])(LABELS, SCORES)
    with pytest.raises(ValueError, match="a key that is no class: got 7, expected 0 to 2"):
        lightgbm_objective(class_weight={7: 1.0})(LABELS, SCORES)


def test_mistaken_calls_of_an_objective_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got \(4,\), expected \(12,\).*the shape \(N, K\)$"):
        lightgbm_objective()(LABELS, SCORES.ravel())
    matrix = xgboost.DMatrix(SCORES, LABELS)
    with pytest.raises(TypeError, match="weights of rows are those of the training data"):
        xgboost_objective()(SCORES, matrix, np.ones(4))


@pytest.mark.parametrize(("arguments", "error", "text"), [
    ({"y": [0, 1], "num_class": 1}, ValueError, "num_class is out of range: got 1, expected 2 to 2147483647"),
    ({"y": [0, 1], "num_class": 2**31}, ValueError, "num_class is out of range: got 2147483648, expected 2 to"),
    ({"y": [], "num_class": 10**30}, ValueError, "num_class is out of range"),
    ({"y": [0, 1], "num_class": 2.0}, TypeError, "num_class must be an integer"),
    ({"y": [0, 2], "num_class": 2}, ValueError, r"got y\[1\] = 2, expected 0 to 1"),
    ({"y": [0.5], "num_class": 2}, ValueError, "not whole"),
    ({"y": [[0]], "num_class": 2}, ValueError, r"y has the wrong shape: got \(1, 1\)"),
    ({"y": [0, 1], "num_class": 2, "weight": [1, -1]}, ValueError, r"weight\[1\] = -1"),
    ({"y": [0, 1], "num_class": 2, "weight": [NAN, 1]}, ValueError, r"weight\[0\] = nan"),
    ({"y": [0, 1], "num_class": 2, "weight": [0, 0]}, ValueError, "the weights of all rows are 0"),
    ({"y": [0, 1], "num_class": 2, "weight": [1]}, ValueError, "weight has the wrong shape"),
], ids=str)  # fmt: skip
def test_bad_arguments_of_a_start_are_refused(arguments: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        init_score(**arguments)


def test_a_missing_num_class_is_named_in_training() -> None:
    x, y, _, _ = data("wine")
    with pytest.raises(ValueError, match=r"got y\[\d+\] = 2, expected 0 to 1.*num_class"):
        lightgbm.train({**LIGHT, "objective": lightgbm_objective()}, lightgbm.Dataset(x, y), 1)


def test_the_libraries_are_not_imported() -> None:
    code = "import sys, crossent.boosting; print({'lightgbm', 'xgboost', 'sklearn'} & set(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert run.stdout.strip() == "set()"


def test_everything_public_is_named() -> None:
    of_module = [
        name
        for name, thing in vars(boosting).items()
        if getattr(thing, "__module__", "") == boosting.__name__
    ]
    assert set(boosting.__all__) == {name for name in of_module if not name.startswith("_")} - {"Dataset"}
