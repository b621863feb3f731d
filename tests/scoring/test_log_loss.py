"""`log_loss` beside live scikit-learn: its own test cases, its options crossed, its errors and warnings."""

from __future__ import annotations

import itertools
import re
import tracemalloc
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import crossent
from arrays import DTYPES, SAME_VALUES, Array, DType, name

metrics = pytest.importorskip("sklearn.metrics")

# Where scikit-learn takes logarithms in the dtype of the probabilities.
TOLERANCE = {"float64": 1e-14, "float32": 2e-6, "float16": 4e-3}


def _agree(*arguments: Any, tolerance: float = 1e-14, **options: Any) -> float:
    actual = crossent.log_loss(*arguments, **options)
    assert type(actual) is float
    assert actual == pytest.approx(float(metrics.log_loss(*arguments, **options)), rel=tolerance)
    return actual


# ---- scikit-learn's own cases (sklearn/metrics/tests/test_classification.py) ----------------------------


def test_its_cases_of_labels_and_shapes() -> None:
    p = [[0.5, 0.5], [0.1, 0.9], [0.01, 0.99], [0.9, 0.1], [0.75, 0.25], [0.001, 0.999]]
    loss = _agree(["no", "no", "no", "yes", "yes", "yes"], np.array(p))
    assert loss == pytest.approx(1.8817971, rel=1e-6)
    y, p = [1, 0, 2], [[0.2, 0.7, 0.1], [0.6, 0.2, 0.2], [0.6, 0.1, 0.3]]
    assert _agree(y, p, normalize=True) == pytest.approx(0.6904911, rel=1e-6)
    assert _agree(y * 2, p * 2, normalize=False) == pytest.approx(0.6904911 * 6, rel=1e-6)
    ham = ["ham", "spam", "spam", "ham"]
    p = [[0.3, 0.7], [0.6, 0.4], [0.4, 0.6], [0.7, 0.3]]
    assert _agree(ham, p) == pytest.approx(0.7469410, rel=1e-6)
    assert _agree([2, 2], np.array([[0.1, 0.9], [0.1, 0.9]]), labels=[1, 2]) == pytest.approx(-np.log(0.9))
    score = np.array([[0.1, 0.8, 0.1], [0.1, 0.2, 0.7], [0.1, 0.4, 0.5]])
    assert _agree([1, 2, 2], score[:, :2] / score[:, :2].sum(axis=1, keepdims=True), labels=[1, 2]) > 0
    _agree([1, 2, 2], score, labels=[1, 2, 3])


def test_its_cases_of_errors() -> None:
    cases: list[tuple[Any, ...]] = [
        ([1, 0, 2], [[0.3, 0.7], [0.6, 0.4], [0.4, 0.6]], {}, "number"),
        (
            ["a", "b", "c"],
            [[0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [0.1, 0.1, 0.8]],
            {"labels": ["a", "c", "d"]},
            "y_true contains values {'b'} not belonging to the passed labels ['a', 'c', 'd'].",
        ),
        (
            [2, 2],
            [[0.2, 0.8], [0.6, 0.4]],
            {},
            "y_true contains only one label (2). Please provide the list of all expected class labels explicitly",
        ),
        (
            [2, 2],
            [[0.2, 0.8], [0.6, 0.4], [0.7, 0.3]],
            {},
            "Found input variables with inconsistent numbers of samples",
        ),
        ([0, 0], [0.5, 0.5], {"labels": [0]}, "The labels array needs to contain at least two labels"),
    ]
    for y, p, options, text in cases:
        with pytest.raises(ValueError, match=re.escape(text)):
            crossent.log_loss(y, p, **options)
        with pytest.raises(ValueError):
            metrics.log_loss(y, p, **options)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_its_case_of_the_clipping(dtype: Any) -> None:
    y, p = np.array([0, 1], dtype=dtype), np.array([1, 0], dtype=dtype)
    assert _agree(y, p, tolerance=TOLERANCE[np.dtype(dtype).name]) == pytest.approx(
        -np.log(np.finfo(dtype).eps), rel=1e-2
    )
    # The figures of the three dtypes.
    assert (
        round(crossent.log_loss([1, 0], np.zeros(2, dtype), normalize=False), 2)
        == {
            "float64": 36.04,
            "float32": 15.94,
            "float16": 6.93,
        }[np.dtype(dtype).name]
    )


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_its_case_of_rows_that_are_not_probabilities(dtype: Any) -> None:
    p = np.array([[0.2, 0.7], [0.6, 0.3], [0.4, 0.7], [0.8, 0.3]], dtype=dtype)
    with pytest.warns(UserWarning, match="The y_prob values do not sum to one"):
        crossent.log_loss([0, 1, 1, 0], p)


@pytest.mark.parametrize(
    ("y_true", "y_proba"),
    [
        ([0, 1, 0], [0, 1, 0]),
        ([0, 1, 0], [[1, 0], [0, 1], [1, 0]]),
        ([0, 1, 2], [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    ],
)
def test_its_case_of_perfect_predictions(y_true: Any, y_proba: Any) -> None:
    assert _agree(y_true, y_proba) == pytest.approx(0)
    assert crossent.log_loss(y_true, y_proba, eps=0) == 0.0


def test_its_case_of_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    y = pandas.Series(["ham", "spam", "spam", "ham"])
    p = pandas.DataFrame([[0.3, 0.7], [0.6, 0.4], [0.4, 0.6], [0.7, 0.3]])
    assert _agree(y, p) == pytest.approx(0.7469410, rel=1e-6)


def test_its_case_of_labels_out_of_order() -> None:
    y, p = ["eggs", "spam", "ham"], [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    labels = ["spam", "eggs", "ham"]
    text = re.escape(
        "Labels passed were ['spam', 'eggs', 'ham']. But this function assumes labels are ordered"
    )
    with pytest.warns(UserWarning, match=text) as caught:
        actual = crossent.log_loss(y, p, labels=labels)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match=text):
        assert actual == pytest.approx(metrics.log_loss(y, p, labels=labels), rel=1e-14)


# ---- frames whose columns have names --------------------------------------------------------------------

FRAME_P = np.random.default_rng(8).dirichlet([1.0, 1.0, 1.0], 6)
ANIMALS = ["cat", "dog", "owl"]
FRAME_Y = ["cat", "dog", "owl", "owl", "cat", "dog"]
FRAME_LOSS = -np.log(FRAME_P[np.arange(6), [0, 1, 2, 2, 0, 1]]).mean()


def _frames(names: list[Any], order: list[int]) -> Iterator[Any]:
    """A frame of each library, with its columns in another order."""
    pandas, polars, pyarrow = map(pytest.importorskip, ("pandas", "polars", "pyarrow"))
    columns = {str(names[i]): FRAME_P[:, i] for i in order}
    yield pandas.DataFrame(columns)
    yield pandas.DataFrame(FRAME_P, columns=names).iloc[:, order]
    yield polars.DataFrame(columns)
    yield pyarrow.table(columns)
    yield pyarrow.RecordBatch.from_pydict(columns)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
@pytest.mark.parametrize("options", [{}, {"sample_weight": [1, 1, 1, 1, 1, 1]}, {"labels": "as the columns"}])
def test_columns_named_as_the_labels_are_taken_by_name(order: list[int], options: Any) -> None:
    if "labels" in options:
        options = {"labels": [ANIMALS[i] for i in order]}
    for frame in _frames(ANIMALS, list(order)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert crossent.log_loss(FRAME_Y, frame, **options) == pytest.approx(FRAME_LOSS, rel=1e-14)


@pytest.mark.parametrize(
    ("names", "y", "order", "options", "why"),
    [
        (ANIMALS, FRAME_Y, [2, 0, 1], {"labels": ANIMALS}, "labels= has the order"),
        (ANIMALS, FRAME_Y, [0, 1, 2], {"labels": ["owl", "dog", "cat"]}, "labels= has the order"),
        ([0, 1, 2], [0, 1, 2, 2, 0, 1], [1, 2, 0], {}, "their names are numbers"),
        ([0, 1, 2], [0.0, 1.0, 2.0, 2.0, 0.0, 1.0], [1, 2, 0], {}, "their names are numbers"),
        (["p_cat", "p_dog", "p_owl"], FRAME_Y, [1, 0, 2], {}, "their names have a prefix"),
    ],
)
def test_names_that_something_speaks_against_are_told(
    names: list[Any], y: Any, order: list[int], options: Any, why: str
) -> None:
    for frame in _frames(names, order):
        with pytest.warns(UserWarning, match=why) as caught:
            assert crossent.log_loss(y, frame, **options) == pytest.approx(FRAME_LOSS, rel=1e-14)
        assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.filterwarnings("error")
def test_other_names_of_columns_tell_nothing() -> None:
    for names in (["a", "b", "c"], ["cat", "dog", "cow"], [0, 1, 2]):
        for frame in _frames(names, [0, 1, 2]):
            assert crossent.log_loss(FRAME_Y, frame) == pytest.approx(FRAME_LOSS, rel=1e-14)
    (first, *_) = _frames([0, 1, 2], [0, 1, 2])
    assert crossent.log_loss([1, 2, 3, 3, 1, 2], first) == pytest.approx(FRAME_LOSS, rel=1e-14)


def test_a_column_named_as_the_label_of_another_is_told() -> None:
    for names in (["dog", "cat", "cow"], ["p_cow", "p_cat", "p_dog"]):
        for frame in _frames(names, [0, 1, 2]):
            with pytest.warns(
                UserWarning, match=r"though that named '(p_)?\w+' stands for '\w+' then"
            ) as caught:
                assert crossent.log_loss(FRAME_Y, frame) == pytest.approx(FRAME_LOSS, rel=1e-14)
            assert len(caught) == 1


def test_an_indicator_with_named_columns() -> None:
    pandas = pytest.importorskip("pandas")
    indicator = pandas.DataFrame({name: [int(y == name) for y in FRAME_Y] for name in ANIMALS})
    for order in itertools.permutations(ANIMALS):
        for frame in _frames(ANIMALS, [2, 0, 1]):
            assert crossent.log_loss(indicator[list(order)], frame) == pytest.approx(FRAME_LOSS, rel=1e-14)


# ---- its options crossed --------------------------------------------------------------------------------


def _probabilities(rng: np.random.Generator, rows: int, classes: int, dtype: Any) -> Array:
    return rng.dirichlet(np.full(classes, 0.4), rows).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(
    ("classes", "labelled"),
    [
        *((classes, kind) for classes in (2, 3, 40) for kind in ("no", "numbers", "strings")),
        (2, "booleans"),
        (3, "indicator"),  # scikit-learn takes two columns for two labels of each row
        (40, "indicator"),
    ],
)
@pytest.mark.filterwarnings("ignore:The y_prob values:UserWarning")
def test_options_crossed(dtype: Any, classes: int, weighted: bool, normalize: bool, labelled: str) -> None:
    rng = np.random.default_rng(classes)
    p = _probabilities(rng, 200, classes, dtype)
    codes = np.r_[np.arange(classes), rng.integers(0, classes, 200 - classes)]
    y: Any = codes * 3 - 7
    options: dict[str, Any] = {"normalize": normalize}
    if labelled == "numbers":
        options["labels"] = np.arange(classes) * 3 - 7
    elif labelled == "strings":
        y = np.array([f"{c:03}" for c in codes])
    elif labelled == "booleans":
        y = codes.astype(bool)
    elif labelled == "indicator":
        y = np.eye(classes, dtype=int)[codes]
    if weighted:
        options["sample_weight"] = rng.random(200)
    tolerance = TOLERANCE[np.dtype(dtype).name] * 10
    expected = _agree(y, p, tolerance=tolerance, **options)
    for layout in SAME_VALUES.values():
        assert crossent.log_loss(y, layout(p), **options) == expected
    if classes == 2 and labelled == "no":
        single = _agree(y, p[:, 1], tolerance=tolerance, **options)
        assert single == crossent.log_loss(y, p[:, 1:], **options)


@given(st.data())
def test_any_batch_agrees(data: st.DataObject) -> None:
    classes = data.draw(st.integers(2, 6))
    rows = data.draw(st.integers(1, 30))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    p = _probabilities(rng, rows, classes, np.float64)
    p[rng.random(rows) < 0.2] = np.eye(classes)[0]  # certain, and perhaps wrong
    y = rng.integers(0, classes, rows)
    weight = rng.integers(0, 3, rows) if data.draw(st.booleans()) else None
    if weight is not None and weight.sum() == 0:
        weight[0] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _agree(y, p, labels=range(classes), sample_weight=weight, tolerance=1e-13)


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_threads_and_order_do_not_change_a_bit(dtype: DType) -> None:
    rng = np.random.default_rng(3)
    p = _probabilities(rng, 60_000, 4, np.float32).astype(dtype)
    y = rng.integers(0, 4, len(p))
    order = rng.permutation(len(p))
    threads = crossent.get_num_threads()
    losses = []
    try:
        for count in (1, 3):
            crossent.set_num_threads(count)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                losses += [crossent.log_loss(y, p), crossent.log_loss(y[order], p[order])]
    finally:
        crossent.set_num_threads(threads)
    assert len(set(losses)) == 1


def test_eps_may_be_given() -> None:
    y, p = [0, 1], np.array([[0.0, 1.0], [0.25, 0.75]])
    assert crossent.log_loss(y, p, eps=1e-3, normalize=False) == pytest.approx(-np.log(1e-3) - np.log(0.75))
    assert crossent.log_loss(y, p, eps=0) == np.inf
    assert crossent.log_loss(y, p, eps=0, sample_weight=[0, 1]) == pytest.approx(-np.log(0.75))
    assert crossent.log_loss(y, p, eps="auto") == crossent.log_loss(y, p, eps=2.0**-52)


def test_nothing_of_the_size_of_the_probabilities_is_made() -> None:
    p = np.full((200_000, 50), 0.02)
    y = np.arange(200_000) % 50
    crossent.log_loss(y[:100], p[:100])
    tracemalloc.start()
    crossent.log_loss(y, p)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < p.nbytes / 5


# ---- errors ---------------------------------------------------------------------------------------------

P, Y = np.array([[0.5, 0.5], [0.25, 0.75]]), [0, 1]


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((Y, P * [[1], [2]]), {}, ValueError, r"y_proba\[1, 1\] = 1.5"),
        ((Y, P - 0.5), {}, ValueError, r"y_proba\[1, 0\] = -0.25"),
        ((Y, P * np.nan), {}, ValueError, r"y_proba\[0, 0\] = nan"),
        ((Y, [0.5, 2.0]), {}, ValueError, r"y_proba\[1, 0\] = 2"),
        ((Y, P[..., np.newaxis]), {}, ValueError, "y_proba has the wrong shape"),
        ((Y, P.astype(complex)), {}, TypeError, "y_proba must be floating"),
        ((P, P), {}, ValueError, "y_true holds no labels"),
        (([[0, 1, 1], [1, 0, 0]], np.full((2, 3), 1 / 3)), {}, ValueError, "a single 1"),
        (([[[0]]], P), {}, ValueError, "y_true has the wrong shape"),
        (([0.0, np.nan], P), {}, ValueError, "y_true holds nan"),
        (([], np.zeros((0, 2))), {}, ValueError, "no rows"),
        ((Y, np.zeros((2, 0))), {}, ValueError, "no column"),
        ((Y, P), {"sample_weight": [0, 0]}, ValueError, "nothing but zeros"),
        ((Y, P), {"sample_weight": [0, 0], "normalize": False}, ValueError, "nothing but zeros"),
        ((Y, P), {"sample_weight": [1, -1]}, ValueError, "weights sum to 0"),
        ((Y, P), {"sample_weight": [1]}, ValueError, "inconsistent numbers"),
        ((Y, P), {"sample_weight": [[1], [1]]}, ValueError, "sample_weight has the wrong shape"),
        ((Y, P), {"sample_weight": [1, np.nan]}, ValueError, "finite"),
        ((Y, P), {"sample_weight": ["a", "b"]}, TypeError, "sample_weight"),
        ((Y, P), {"eps": "small"}, ValueError, "eps"),
        ((Y, P), {"eps": 0.6}, ValueError, "eps"),
        ((Y, P), {"eps": -1.0}, ValueError, "eps"),
        (([0, 1, 2], np.full((3, 2), 0.5)), {}, ValueError, "got 3 labels in y_true"),
        ((Y, np.full((2, 3), 1 / 3)), {}, ValueError, "name all of them with labels="),
    ],
)
def test_errors_name_what_is_wrong(arguments: Any, options: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        crossent.log_loss(*arguments, **options)
