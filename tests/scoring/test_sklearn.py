"""The scorers for scikit-learn, against its own log loss, `Scorer` and definitions in float64."""

from __future__ import annotations

import importlib
import pickle
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import crossent
from arrays import Array

sklearn = pytest.importorskip("sklearn")

from sklearn import (  # noqa: E402
    base,
    datasets,
    discriminant_analysis,
    dummy,
    ensemble,
    linear_model,
    metrics,
    model_selection,
    multiclass,
    pipeline,
    preprocessing,
    svm,
    tree,
)

from crossent.sklearn import (  # noqa: E402
    ExpectedCalibrationErrorScorer,
    NegLogLossScorer,
    expected_calibration_error_scorer,
    neg_log_loss_scorer,
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small products take longer on several threads."""
    threadpoolctl = pytest.importorskip("threadpoolctl")
    with threadpoolctl.threadpool_limits(1):
        yield


SCORERS = [neg_log_loss_scorer, expected_calibration_error_scorer]
LOSS_OF_0 = -np.log(2.0**-52)


def _iris(kind: str = "int", classes: int = 3) -> tuple[Array, Any]:
    X, y = datasets.load_iris(return_X_y=True)
    X = preprocessing.scale(X)
    X, y = X[y >= 3 - classes], y[y >= 3 - classes]
    names = np.array(["setosa", "versicolor", "virginica"])
    if kind == "str":
        y = names[y]
    elif kind == "object":
        y = names[y].astype(object)
    elif kind == "from 7":
        y = y + 7
    return X, y


def _regression(**options: Any) -> Any:
    return linear_model.LogisticRegression(max_iter=1000, **options)


class Stub:
    """A classifier whose rows are what it says of them."""

    def __init__(self, classes: Any, decision: Any = None, proba: Any = None) -> None:
        self.classes_ = classes
        if decision is not None:
            self.decision_function = lambda _: np.asarray(decision)
        if proba is not None:
            self.predict_proba = lambda _: np.asarray(proba)


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    result: Array = e / e.sum(axis=1, keepdims=True)
    return result


def _log_loss(p: Array, y: Any, classes: Any, weight: Any = None) -> float:
    """The definition: the clipped probability of the row's class, of 0 where there is no column for it."""
    columns = {c: k for k, c in enumerate(np.asarray(classes).tolist())}
    own = [row[columns[label]] if label in columns else 0.0 for row, label in zip(p, list(y), strict=True)]
    losses = -np.log(np.clip(own, 2.0**-52, 1 - 2.0**-52))
    return float(np.average(losses, weights=weight))


def _calibration_error(p: Array, y: Any, classes: Any, bins: int, weight: Any = None) -> float:
    """The definition: bin by bin, closed on the right."""
    confidence, predicted = p.max(axis=1), np.asarray(classes)[p.argmax(axis=1)]
    right, weight = predicted == np.asarray(y), np.ones(len(p)) if weight is None else np.asarray(weight)
    total = 0.0
    for b in range(bins):
        inside = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        if weight[inside].sum() > 0:
            accuracy, mean = (
                np.average(each[inside], weights=weight[inside]) for each in (right, confidence)
            )
            total += weight[inside].sum() * abs(accuracy - mean)
    return float(total / weight.sum())


# ---- the value ------------------------------------------------------------------------------------------

MODELS = {
    "regression": _regression(),
    "in a pipeline": pipeline.make_pipeline(preprocessing.StandardScaler(), _regression()),
    "one against the rest": multiclass.OneVsRestClassifier(_regression()),
    "discriminant analysis": discriminant_analysis.LinearDiscriminantAnalysis(),
    "boosting": ensemble.GradientBoostingClassifier(n_estimators=3, random_state=0),
    "forest": ensemble.RandomForestClassifier(10, max_depth=3, random_state=0),
    "in a search": model_selection.GridSearchCV(_regression(), {"C": [0.1, 1.0]}, cv=2),
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", ["int", "str", "object", "from 7"])
def test_ordinary_rows_have_the_log_loss_of_scikit_learn(model: str, classes: int, kind: str) -> None:
    X, y = _iris(kind, classes)
    fitted = base.clone(MODELS[model]).fit(X[::2], y[::2])
    expected = metrics.get_scorer("neg_log_loss")(fitted, X[1::2], y[1::2])
    assert neg_log_loss_scorer(fitted, X[1::2], y[1::2]) == pytest.approx(expected, rel=1e-9)
    p = fitted.predict_proba(X[1::2])
    for bins in (1, 5, 10, 15):
        error = _calibration_error(p, y[1::2], fitted.classes_, bins)
        scorer = ExpectedCalibrationErrorScorer(bins=bins)
        # A forest's confidences are tenths of sums, which lie on the ends of bins.
        assert scorer(fitted, X[1::2], y[1::2]) == pytest.approx(-error, rel=1e-9, abs=1e-14)


def test_the_calibration_error_is_that_of_a_report() -> None:
    X, y = _iris()
    fitted = _regression(C=0.01).fit(X, y)
    scorer = crossent.Scorer(bins=15)
    scorer.update(fitted.decision_function(X), y)
    report = scorer.result()
    found = expected_calibration_error_scorer(fitted, X, y)
    assert found == pytest.approx(-report.expected_calibration_error, rel=1e-12)
    assert neg_log_loss_scorer(fitted, X, y) == pytest.approx(-report.mean, rel=1e-12)


@pytest.mark.parametrize("model", [svm.LinearSVC(), svm.SVC(), linear_model.RidgeClassifier()])
@pytest.mark.parametrize("classes", [2, 3])
def test_decisions_are_logits_where_there_are_no_probabilities(model: Any, classes: int) -> None:
    X, y = _iris("str", classes)
    fitted = base.clone(model).fit(X, y)
    decisions = fitted.decision_function(X)
    logits = np.stack((np.zeros(len(X)), decisions), axis=1) if classes == 2 else decisions
    p = _softmax(logits)
    assert not hasattr(fitted, "predict_proba")
    assert neg_log_loss_scorer(fitted, X, y) == pytest.approx(-_log_loss(p, y, fitted.classes_), rel=1e-12)
    error = _calibration_error(p, y, fitted.classes_, 15)
    assert expected_calibration_error_scorer(fitted, X, y) == pytest.approx(-error, rel=1e-12)


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_decisions_for_two_classes_are_the_logits_of_the_second(shape: tuple[int, ...]) -> None:
    z = np.array([3.0, -1.0])
    found = neg_log_loss_scorer(Stub(["a", "b"], z.reshape(shape)), [0, 0], ["b", "b"])
    assert found == pytest.approx(-np.mean(np.log1p(np.exp(-z))), rel=1e-14)
    found = neg_log_loss_scorer(Stub(["a", "b"], z.reshape(shape)), [0, 0], ["a", "a"])
    assert found == pytest.approx(-np.mean(np.log1p(np.exp(z))), rel=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_loss_of_logits_is_exact_where_probabilities_are_rounded(dtype: Any) -> None:
    x = np.array([[100.0, 0.0, 0.0], [0.0, 200.0, 0.0]], dtype)
    both = Stub([0, 1, 2], x, _softmax(x))
    assert neg_log_loss_scorer(both, [0, 0], [1, 0]) == pytest.approx(-150.0, rel=1e-12)
    assert neg_log_loss_scorer(both, [0, 0], [0, 1]) == pytest.approx(-1e-44, rel=1e2, abs=1e-40)
    assert neg_log_loss_scorer(both, [0, 0], [0, 1]) < 0.0  # and not 0, or 2e-16
    eps = np.finfo(dtype).eps
    alone = Stub([0, 1, 2], proba=_softmax(x))
    assert neg_log_loss_scorer(alone, [0, 0], [1, 0]) == pytest.approx(np.log(float(eps)), rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probabilities_are_taken_where_they_are_not_those_of_the_decisions(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3)).astype(dtype) * 5
    sigmoid = 1 / (1 + np.exp(-x))
    p = sigmoid / sigmoid.sum(axis=1, keepdims=True)
    y = rng.integers(0, 3, 40)
    found = neg_log_loss_scorer(Stub([0, 1, 2], x, p), x, y)
    assert found == pytest.approx(-_log_loss(p.astype(np.float64), y, [0, 1, 2]), rel=1e-12)
    assert found == pytest.approx(neg_log_loss_scorer(Stub([0, 1, 2], proba=p), x, y), rel=1e-15)
    of_logits = neg_log_loss_scorer(Stub([0, 1, 2], x, _softmax(x)), x, y)
    assert of_logits == pytest.approx(-float(crossent.cross_entropy(x, y, dtype=np.float64)), rel=1e-12)
    assert abs(of_logits - found) > 0.1
    # Tiny probabilities that differ are told apart, though all are nearly 0 or 1.
    sure = np.array([[0.0, 30.0], [0.0, 40.0]])
    other = np.array([[1e-7, 1 - 1e-7]] * 2)
    found = neg_log_loss_scorer(Stub([0, 1], sure, other), sure, [0, 0])
    assert found == pytest.approx(np.log(1e-7), rel=1e-9)


def test_numbers_of_other_shapes_than_one_for_each_class_are_no_logits() -> None:
    X, y = _iris()
    pairwise = svm.SVC(decision_function_shape="ovo").fit(X, y)
    assert pairwise.decision_function(X).shape == (150, 3)  # which looks as if it were for classes
    in_pipeline = pipeline.make_pipeline(svm.SVC(decision_function_shape="ovo")).fit(X, y)
    searched = model_selection.GridSearchCV(
        svm.SVC(), {"decision_function_shape": ["ovo"]}, scoring="accuracy", cv=2
    ).fit(X, y)
    for fitted in (pairwise, in_pipeline, searched, Stub([0, 1, 2, 3], np.zeros((150, 6)))):
        with pytest.raises(
            ValueError, match=r'no number for each of the . classes; is decision_function_shape "ovo"'
        ):
            neg_log_loss_scorer(fitted, X, y)
    assert neg_log_loss_scorer(svm.SVC(decision_function_shape="ovo").fit(X[50:], y[50:]), X[50:], y[50:]) < 0
    with_probabilities = Stub([0, 1, 2, 3], np.zeros((2, 6)), np.full((2, 4), 0.25))
    assert neg_log_loss_scorer(with_probabilities, [0, 0], [1, 2]) == pytest.approx(-np.log(4))


# ---- folds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["int", "str", "from 7"])
@pytest.mark.parametrize("model", ["regression", "forest"])
def test_folds_without_a_class_are_scored(kind: str, model: str) -> None:
    X, y = _iris(kind)
    halves = [
        (np.arange(0, 150, 2), np.arange(1, 100, 2)),  # the class 2 is not among the rows that are scored
        (np.arange(50, 150, 2), np.arange(1, 150, 2)),  # the class 0 is not among those of the fit
        (np.arange(50, 150), np.arange(50)),  # no row that is scored is of a class of the fit
    ]
    found = model_selection.cross_validate(
        MODELS[model],
        X,
        y,
        cv=halves,
        scoring={"loss": neg_log_loss_scorer, "error": expected_calibration_error_scorer},
        error_score="raise",
        return_estimator=True,
    )
    for at, (_, test) in enumerate(halves):
        fitted = found["estimator"][at]
        p = fitted.predict_proba(X[test])
        expected = -_log_loss(p, y[test], fitted.classes_)
        assert found["test_loss"][at] == pytest.approx(expected, rel=1e-9)
        error = -_calibration_error(p, y[test], fitted.classes_, 15)
        assert found["test_error"][at] == pytest.approx(error, rel=1e-9)
    assert found["test_loss"][2] == pytest.approx(-LOSS_OF_0, rel=1e-15)
    assert -1 < found["test_loss"][0] < 0  # where the classes of the fold would give another number


def test_columns_are_not_taken_for_the_classes_of_a_fold() -> None:
    """Where as many classes are missing from the fit as from the fold, scikit-learn gives a wrong number."""
    X, y = datasets.load_wine(return_X_y=True)
    X, y = preprocessing.scale(X), np.where(np.arange(178) % 4 == 3, 3, y)
    fitted = _regression().fit(X[y != 0], y[y != 0])
    fold = np.flatnonzero(y != 1)
    p = fitted.predict_proba(X[fold])
    expected = -_log_loss(p, y[fold], [1, 2, 3])
    assert neg_log_loss_scorer(fitted, X[fold], y[fold]) == pytest.approx(expected, rel=1e-9)
    naive = metrics.make_scorer(metrics.log_loss, response_method="predict_proba", greater_is_better=False)
    assert abs(naive(fitted, X[fold], y[fold]) - expected) > 1.0
    # Of the rows whose class is among those of the fit alone:
    seen = fold[y[fold] != 0]
    expected = -_log_loss(fitted.predict_proba(X[seen]), y[seen], [1, 2, 3])
    assert neg_log_loss_scorer(fitted, X[seen], y[seen]) == pytest.approx(expected, rel=1e-9)


def test_scikit_learn_has_no_score_for_a_fold_without_a_class() -> None:
    """As the guide says."""
    X, y = datasets.load_wine(return_X_y=True)
    model = pipeline.make_pipeline(preprocessing.StandardScaler(), _regression())
    cv = model_selection.KFold(4, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        theirs = model_selection.cross_val_score(model, X[:134], y[:134], cv=cv, scoring="neg_log_loss")
    ours = model_selection.cross_val_score(model, X[:134], y[:134], cv=cv, scoring=neg_log_loss_scorer)
    assert np.isnan(theirs).tolist() == [False, True, False, False]
    np.testing.assert_allclose(ours[[0, 2, 3]], theirs[[0, 2, 3]], rtol=1e-12)
    assert np.isfinite(ours).all()


def test_an_estimator_of_one_class() -> None:
    X = np.zeros((3, 1))
    for fitted in (
        dummy.DummyClassifier().fit(X, ["a"] * 3),
        tree.DecisionTreeClassifier().fit(X, ["a"] * 3),
        Stub(["a"], np.zeros(3)),
        Stub(["a"], np.zeros((3, 1))),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert neg_log_loss_scorer(fitted, X, ["a"] * 3) == pytest.approx(0.0, abs=1e-15)
            assert neg_log_loss_scorer(fitted, X, ["a", "b", "a"]) == pytest.approx(-LOSS_OF_0 / 3)
            assert expected_calibration_error_scorer(fitted, X, ["a", "b", "a"]) == pytest.approx(-1 / 3)


def test_minus_infinity_is_a_probability_of_0() -> None:
    x = np.array([[0.0, -np.inf, 0.0]])
    assert neg_log_loss_scorer(Stub([0, 1, 2], x), x, [1]) == pytest.approx(-LOSS_OF_0)
    assert neg_log_loss_scorer(Stub([0, 1, 2], x), x, [2]) == pytest.approx(-np.log(2))


def test_frames_and_series() -> None:
    pandas = pytest.importorskip("pandas")
    X, y = _iris("str")
    frame = pandas.DataFrame(X, columns=list("abcd"))
    expected = model_selection.cross_val_score(_regression(), X, y, scoring=neg_log_loss_scorer)
    for labels in (
        y.tolist(),
        pandas.Series(y),
        pandas.Series(y, dtype="category"),
        pandas.Series(y, dtype="string"),
        pandas.DataFrame({"y": y}),
    ):
        fitted = _regression().fit(frame, y)
        assert neg_log_loss_scorer(fitted, frame, labels) == neg_log_loss_scorer(fitted, frame, y)
    series = pandas.Series(y, index=np.arange(150) + 7)
    frame.index = series.index
    found = model_selection.cross_val_score(_regression(), frame, series, scoring=neg_log_loss_scorer)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_booleans_and_whole_floats_are_labels() -> None:
    X, y = _iris("int", 2)
    fitted = _regression().fit(X, y == 2)
    expected = neg_log_loss_scorer(_regression().fit(X, y), X, y)
    assert neg_log_loss_scorer(fitted, X, y == 2) == pytest.approx(expected, rel=1e-12)
    assert neg_log_loss_scorer(fitted, X, (y == 2).astype(float)) == pytest.approx(expected, rel=1e-12)


# ---- searches, weights, routing -------------------------------------------------------------------------


@pytest.mark.parametrize("scorer", SCORERS)
def test_a_search_finds_the_least_loss(scorer: Any) -> None:
    X, y = _iris("str")
    cv = model_selection.StratifiedKFold(3, shuffle=True, random_state=0)
    grid = {"C": [1e-3, 1.0, 1e3]}
    search = model_selection.GridSearchCV(_regression(), grid, scoring=scorer, cv=cv).fit(X, y)
    losses = []
    for c in grid["C"]:
        folds = []
        for train, test in cv.split(X, y):
            fitted = _regression(C=c).fit(X[train], y[train])
            p = fitted.predict_proba(X[test])
            loss = (
                _log_loss(p, y[test], fitted.classes_)
                if scorer is neg_log_loss_scorer
                else _calibration_error(p, y[test], fitted.classes_, 15)
            )
            folds.append(loss)
        losses.append(np.mean(folds))
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], -np.array(losses), rtol=1e-6)
    assert search.best_params_["C"] == grid["C"][int(np.argmin(losses))]
    assert search.score(X, y) == scorer(search, X, y)


def test_the_path_of_a_regression_is_scored() -> None:
    X, y = _iris()
    fitted = linear_model.LogisticRegressionCV(
        Cs=[1e-3, 1.0], cv=3, scoring=neg_log_loss_scorer, max_iter=1000
    )
    peer = linear_model.LogisticRegressionCV(Cs=[1e-3, 1.0], cv=3, scoring="neg_log_loss", max_iter=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        fitted.fit(X, y)
        peer.fit(X, y)
    assert np.all(fitted.C_ == peer.C_)


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize("model", ["regression", "forest"])
def test_a_weight_counts_as_that_many_rows(scorer: Any, model: str) -> None:
    X, y = _iris("str")
    fitted = base.clone(MODELS[model]).fit(X[::3], y[::3])
    times = np.arange(150) % 4
    repeated = scorer(fitted, np.repeat(X, times, axis=0), np.repeat(y, times))
    for weight in (times, times.tolist(), times * 0.125, times.astype(np.float32), times.astype(np.uint8)):
        assert scorer(fitted, X, y, weight) == pytest.approx(repeated, rel=1e-12)
        assert scorer(fitted, X, y, sample_weight=weight) == pytest.approx(repeated, rel=1e-12)
    p = fitted.predict_proba(X)
    loss = _log_loss(p, y, fitted.classes_, times)
    error = _calibration_error(p, y, fitted.classes_, 15, times)
    expected = loss if scorer is neg_log_loss_scorer else error
    assert repeated == pytest.approx(-expected, rel=1e-9)
    assert scorer(fitted, X, y) == pytest.approx(scorer(fitted, X, y, np.full(150, 0.3)), rel=1e-12)


def test_nothing_in_a_row_of_weight_0_matters() -> None:
    x = np.array([[0.0, 1.0], [0.0, -np.inf], [0.0, 3.0]])
    found = neg_log_loss_scorer(Stub([0, 1], x), x, [1, 1, 5], [2.0, 0.0, 0.0])
    assert found == pytest.approx(-np.log1p(np.exp(-1.0)), rel=1e-14)


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize("factor", [1e308, 5e-324, 2.0**-1060])
def test_weights_at_the_ends_of_float64_are_weights(scorer: Any, factor: float) -> None:
    X, y = _iris("int")
    fitted = _regression().fit(X, y)
    expected = pytest.approx(scorer(fitted, X, y), rel=1e-15)  # whose products are rounded elsewhere
    assert scorer(fitted, X, y, np.full(len(y), factor)) == expected


def test_searches_with_weights_score_with_weights() -> None:
    X, y = _iris()
    weight = np.where(y == 1, 5.0, 0.5)
    cv = model_selection.KFold(2, shuffle=True, random_state=0)
    for scoring, key in ((neg_log_loss_scorer, "score"), ({"loss": neg_log_loss_scorer}, "loss")):
        search = model_selection.GridSearchCV(
            _regression(), {"C": [1.0]}, scoring=scoring, cv=cv, refit=False
        )
        search.fit(X, y, sample_weight=weight)
        for at, (train, test) in enumerate(cv.split(X)):
            fitted = _regression().fit(X[train], y[train], weight[train])
            weighted = neg_log_loss_scorer(fitted, X[test], y[test], weight[test])
            found = search.cv_results_[f"split{at}_test_{key}"][0]
            if _gives_weights_to_scorers():
                assert found == pytest.approx(weighted, rel=1e-9)
            assert found != pytest.approx(_log_loss(fitted.predict_proba(X[test]), y[test], [0, 1, 2]))


def _gives_weights_to_scorers() -> bool:
    return tuple(int(part) for part in sklearn.__version__.split(".")[:2]) >= (1, 7)


@pytest.fixture
def routing() -> Iterator[None]:
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.mark.usefixtures("routing")
@pytest.mark.parametrize("scorer", SCORERS)
def test_routing_hands_over_weights_where_it_is_asked_to(scorer: Any) -> None:
    X, y = _iris("str")
    weight = np.where(y == "virginica", 5.0, 0.5)
    model = _regression().set_fit_request(sample_weight=False)

    def scores(scorer: Any, **params: Any) -> list[float]:
        found = model_selection.cross_val_score(
            model, X, y, scoring=scorer, cv=cv, params=params, error_score="raise"
        )
        result: list[float] = found.tolist()
        return result

    cv = model_selection.KFold(2, shuffle=True, random_state=0)
    weighted, plain = [], []
    for train, test in cv.split(X):
        fitted = _regression().fit(X[train], y[train])
        weighted.append(scorer(fitted, X[test], y[test], weight[test]))
        plain.append(scorer(fitted, X[test], y[test]))
    asking = scorer.set_score_request(sample_weight=True)
    assert scores(asking, sample_weight=weight) == pytest.approx(weighted)
    assert scores({"one": asking}["one"], sample_weight=weight) == pytest.approx(weighted)
    assert scores(scorer.set_score_request(sample_weight="w"), w=weight) == pytest.approx(weighted)
    declining = scorer.set_score_request(sample_weight=False)
    with pytest.raises(TypeError, match="not routed"):  # neither to the model, nor to the scorer
        scores(declining, sample_weight=weight)
    with pytest.raises(ValueError, match="sample_weight"):  # UnsetMetadataPassedError
        scores(scorer, sample_weight=weight)
    assert scores(pickle.loads(pickle.dumps(asking)), sample_weight=weight) == pytest.approx(weighted)
    several = model_selection.cross_validate(
        model, X, y, scoring={"a": asking, "b": declining}, cv=cv, params={"sample_weight": weight}
    )
    assert several["test_a"].tolist() == pytest.approx(weighted)
    assert several["test_b"].tolist() == pytest.approx(plain)
    with pytest.raises(ValueError, match="sample_weight"):
        scorer.set_score_request(sample_weight=3)


def test_requests_need_routing() -> None:
    with pytest.raises(RuntimeError, match="enable_metadata_routing=True"):
        neg_log_loss_scorer.set_score_request(sample_weight=True)


@pytest.mark.parametrize("scorer", [*SCORERS, ExpectedCalibrationErrorScorer(bins=4)])
def test_scorers_are_values(scorer: Any) -> None:
    assert pickle.loads(pickle.dumps(scorer)) == scorer
    assert base.clone(scorer, safe=False) == scorer
    assert metrics.check_scoring(_regression(), scoring=scorer) is scorer
    assert eval(repr(scorer)) == scorer
    assert NegLogLossScorer() == neg_log_loss_scorer
    assert len(set(SCORERS)) == 2


# ---- temperatures ---------------------------------------------------------------------------------------


def _temperature(model: Any, X: Array, y: Array) -> float:
    calibration = pytest.importorskip("sklearn.calibration")
    frozen = pytest.importorskip("sklearn.frozen")
    calibrated = calibration.CalibratedClassifierCV(frozen.FrozenEstimator(model), method="temperature")
    if not hasattr(calibration, "_TemperatureScaling"):
        pytest.skip("scikit-learn has no temperature before 1.8")
    return float(1 / calibrated.fit(X, y).calibrated_classifiers_[0].calibrators[0].beta_)


def test_the_temperatures_of_scikit_learn_are_the_same_and_twice_as_large_for_two_classes() -> None:
    X, y = _iris()
    model = _regression(C=0.01).fit(X[::2], y[::2])
    found = crossent.fit_temperature(model.decision_function(X), y).temperature
    assert _temperature(model, X, y) == pytest.approx(found, rel=1e-6)
    X, y = _iris("int", 2)
    y = y - 1  # scikit-learn 1.9 takes integers for numbers of columns here
    model = _regression(C=0.01).fit(X[::2], y[::2])
    z = model.decision_function(X)
    found = crossent.fit_temperature(np.stack((0 * z, z), axis=1), y).temperature
    theirs = _temperature(model, X, y)
    assert theirs == pytest.approx(2 * found, rel=1e-6)
    assert crossent.fit_temperature(np.stack((-z, z), axis=1), y).temperature == pytest.approx(
        theirs, rel=1e-6
    )
    # From probabilities, there is no factor.
    forest = ensemble.RandomForestClassifier(10, max_depth=1, random_state=0).fit(X, y)
    p = forest.predict_proba(X)
    assert ((p > 0) & (p < 1)).all()
    found = crossent.fit_temperature(p, y, values="probs").temperature
    assert _temperature(forest, X, y) == pytest.approx(found, rel=1e-6)


# ---- errors ---------------------------------------------------------------------------------------------

HALF = np.full((2, 2), 0.5)


@pytest.mark.parametrize(
    ("estimator", "y", "weight", "error", "text"),
    [
        (
            _regression(),
            [0, 1],
            None,
            TypeError,
            "no classes_: got LogisticRegression, expected a fitted classifier",
        ),
        (linear_model.LinearRegression(), [0, 1], None, TypeError, "no classes_"),
        (Stub([0, 1]), [0, 1], None, TypeError, "neither logits nor probabilities"),
        (Stub([[0, 1], [0, 1]], proba=HALF), [0, 1], None, ValueError, "several outputs"),
        (
            Stub([np.array([0, 1]), np.array([0, 1, 2])], proba=HALF),
            [0, 1],
            None,
            ValueError,
            "several outputs",
        ),
        (
            Stub([0, 1], proba=HALF),
            [[0, 1], [1, 0]],
            None,
            ValueError,
            r"y has the wrong shape: got \(2, 2\)",
        ),
        (Stub([0, 1], proba=HALF), [0, 1, 1], None, ValueError, "got 2 rows and 3 labels"),
        (Stub([0, 1], proba=HALF), [0.0, np.nan], None, ValueError, "y holds nan"),
        (Stub([0, 1], proba=HALF), ["a", None], None, TypeError, "y"),
        (
            Stub([0, 1], proba=HALF),
            ["0", "1"],
            None,
            TypeError,
            r"another kind.*got \['0', '1'\], expected.*\[0, 1\]",
        ),
        (Stub(["0", "1"], proba=HALF), [0, 1], None, TypeError, "another kind"),
        (Stub([0, 1], proba=np.zeros((0, 2))), [], None, ValueError, "there are no rows"),
        (
            Stub([0, 1, 2], proba=HALF),
            [0, 1],
            None,
            ValueError,
            r"predict_proba.*got \(2, 2\), expected \(N, 3\)",
        ),
        (Stub([0, 1], proba=[0.5, 0.5]), [0, 1], None, ValueError, r"predict_proba.*got \(2,\)"),
        (Stub([0, 1], proba=HALF - 1), [0, 1], None, ValueError, "no probability: got -0.5 for row 0"),
        (Stub([0, 1], proba=HALF * np.nan), [0, 1], None, ValueError, "no probability: got nan for row 0"),
        (Stub([0, 1], proba=HALF.astype(complex)), [0, 1], None, TypeError, "predict_proba"),
        (Stub([0, 1], [0.0, np.nan]), [0, 1], None, ValueError, "no logit: got nan for row 1"),
        (Stub([0, 1], [np.inf, 0.0]), [0, 1], None, ValueError, "no logit: got inf for row 0"),
        (Stub([0, 1], [[0.0, 1.0], [-np.inf, -np.inf]]), [0, 1], None, ValueError, "got -inf for row 1"),
        (Stub([0, 1], proba=HALF), [0, 1], [1.0], ValueError, r"sample_weight.*got \(1,\), expected \(2,\)"),
        (Stub([0, 1], proba=HALF), [0, 1], [1.0, -1.0], ValueError, "at least 0"),
        (Stub([0, 1], proba=HALF), [0, 1], [1.0, np.nan], ValueError, "finite"),
        (Stub([0, 1], proba=HALF), [0, 1], [0.0, 0.0], ValueError, "nothing but zeros"),
        (Stub([0, 1], proba=HALF), [0, 1], ["1", "1"], TypeError, "sample_weight"),
    ],
)
@pytest.mark.parametrize("scorer", SCORERS)
def test_what_cannot_be_scored_is_refused(
    scorer: Any, estimator: Any, y: Any, weight: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        scorer(estimator, HALF, y, weight)


@pytest.mark.parametrize(
    ("bins", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)]
)
def test_bins_are_counted(bins: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="bins"):
        ExpectedCalibrationErrorScorer(bins)


def test_decisions_that_look_like_probabilities_are_told() -> None:
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    with pytest.warns(crossent.LikelyMistakeWarning, match="decision_function.*looks like probabilities"):
        neg_log_loss_scorer(Stub([0, 1], p), p, [0, 1, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        neg_log_loss_scorer(Stub([0, 1], p, p), p, [0, 1, 0])


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "crossent.sklearn")
    for name in [name for name in sys.modules if name.partition(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(
        ImportError, match=r"crossent.sklearn needs scikit-learn: pip install 'crossent\[sklearn\]'"
    ):
        importlib.import_module("crossent.sklearn")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_probabilities_that_do_not_sum_to_1_are_warned_of(dtype: Any) -> None:
    proba = np.random.default_rng(0).dirichlet(np.ones(3), 8).astype(dtype)
    labels = np.arange(8) % 3
    for scorer in SCORERS:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            expected = scorer(Stub([0, 1, 2], proba=proba), proba, labels)
        wrong = proba.copy()
        wrong[3] *= dtype(0.8)
        with pytest.warns(
            crossent.LikelyMistakeWarning, match=r"not sum to 1: got 0\.[78].* row 3;"
        ) as caught:
            assert scorer(Stub([0, 1, 2], proba=wrong), proba, labels) != expected
        assert [each.filename for each in caught] == [__file__]
