"""The judges judged: the ULP ruler, the float64 reference and the mpmath rows agree with each other and with torch."""

import mpmath
import numpy as np
import pytest

import exact
import reference
from arrays import DTYPES, HALVES, DType, name
from ulp import ulp_distance, ulp_error

torch = pytest.importorskip("torch")
F = torch.nn.functional


# ---- the ruler ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_a_wrong_answer_near_zero_is_far_away(dtype: DType) -> None:
    assert ulp_distance(dtype.type(1), dtype.type(0)) > 1_000
    assert ulp_distance(dtype.type(0), dtype.type(1)) > 1_000


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_neighbours_are_one_apart(dtype: DType) -> None:
    integers = np.dtype(f"i{dtype.itemsize}")
    one = np.array([1, 2, 0.75], dtype)
    after = (one.view(integers) + 1).view(dtype)
    np.testing.assert_array_equal(ulp_distance(after, one), [1, 1, 1])
    np.testing.assert_array_equal(ulp_distance(-one, -after), [1, 1, 1])


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_the_steps_across_zero_are_counted(dtype: DType) -> None:
    integers = np.dtype(f"i{dtype.itemsize}")
    smallest = np.array([1], integers).view(dtype)
    assert ulp_distance(smallest, -smallest) == 2
    assert ulp_distance(np.array([0.0], dtype), np.array([-0.0], dtype)) == 0
    one = np.array([1.0], dtype)
    assert ulp_distance(one, -one) == 2 * ulp_distance(one, np.array([0.0], dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_nan_and_infinity_match_only_themselves(dtype: DType) -> None:
    values = np.array([np.nan, np.inf, -np.inf, 1.0], dtype)
    for i, actual in enumerate(values):
        for j, expected in enumerate(values):
            assert ulp_distance(actual, expected) == (0 if i == j else np.inf)


def test_the_ruler_refuses_to_compare_unlike_things() -> None:
    with pytest.raises(TypeError):
        ulp_distance(np.float32(1), np.float64(1))
    with pytest.raises(ValueError):
        ulp_distance(np.ones(3), np.ones(1))
    with pytest.raises(ValueError):
        ulp_error(np.ones(3), [mpmath.mpf(1)])


def test_the_error_against_exact_numbers_has_fractions() -> None:
    third = mpmath.mpf(1) / 3
    assert 0 < ulp_error(np.float32(1 / 3), [third])[0] <= 0.5
    assert 0.5 <= ulp_error(np.nextafter(np.float32(1 / 3), np.float32(1)), [third])[0] <= 1.5
    assert ulp_error(np.float64(1), [mpmath.mpf(0)])[0] > 1e9
    assert ulp_error(np.float64(0), [mpmath.mpf(1)])[0] > 1e9
    assert ulp_error(np.float64(np.nan), [mpmath.mpf(1)])[0] == np.inf
    assert ulp_error(np.float64(np.inf), [mpmath.mpf(1)])[0] == np.inf
    assert ulp_error(np.float32(np.inf), [mpmath.mpf(4e38)])[0] == 0
    assert ulp_error(np.float32(3.4e38), [mpmath.mpf(4e38)])[0] == np.inf
    assert ulp_error(np.float32(-np.inf), [mpmath.mpf(4e38)])[0] == np.inf
    assert ulp_error(np.float64(np.nan), [mpmath.nan])[0] == 0


# ---- the reference against sixty digits -----------------------------------------------------------------

ROWS = {
    "ordinary": np.random.default_rng(1).standard_normal(1000) * 5,
    "confident": np.r_[46.0, np.random.default_rng(2).standard_normal(100)],
    "far offset": 1e6 + np.arange(5.0),
    "equal": np.zeros(1000),
    "wide range": np.array([-3e38, 1e-30, 700.0, -700.0]),
    "two of nearly one value": np.array([1.0, 1.0 - 2**-50, 0.3]),
}


@pytest.mark.parametrize("key", ROWS)
def test_the_reference_is_right_to_three_ulp(key: str) -> None:
    row = ROWS[key]
    at = range(len(row))
    assert ulp_error(reference.log_softmax(row), exact.log_softmax(row, at)).max() <= 3
    assert ulp_error(reference.softmax(row), exact.softmax(row, at)).max() <= 3
    assert ulp_error(reference.logsumexp(row), [exact.logsumexp(row)]).max() <= 3


def test_the_reference_keeps_a_loss_of_1e_300() -> None:
    row = np.array([0.0, -690.0])
    assert reference.cross_entropy(row, 0) == pytest.approx(float(mpmath.exp(-690)), rel=1e-15)


def test_the_reference_log_sigmoid_is_right_to_three_ulp() -> None:
    x = np.r_[-3e38, -745.0, -20.0, -1.0, -1e-30, 0.0, 1e-30, 1.0, 20.0, 700.0]
    assert ulp_error(reference.log_sigmoid(x), [exact.log_sigmoid(v) for v in x]).max() <= 3


# ---- the reference against torch ------------------------------------------------------------------------


def test_the_reference_agrees_with_torch_on_class_indices() -> None:
    rng = np.random.default_rng(3)
    for shape in [(7,), (5, 7), (2, 7, 3), (2, 7, 3, 4)]:
        x = rng.standard_normal(shape)
        axis = min(1, x.ndim - 1)
        rows = shape[:axis] + shape[axis + 1 :]
        t = rng.integers(0, 7, rows)
        if rows:
            t.flat[0] = 2
        w = rng.random(7)
        for weight in (None, w):
            for smoothing in (0.0, 0.3, 1.0):
                for reduction in ("none", "mean", "sum"):
                    args = {"ignore_index": 2, "reduction": reduction, "label_smoothing": smoothing}
                    expected = F.cross_entropy(
                        torch.tensor(x),
                        torch.tensor(t),
                        None if weight is None else torch.tensor(weight),
                        **args,
                    )
                    actual = reference.cross_entropy(x, t, weight, **args)
                    np.testing.assert_allclose(actual, expected.numpy(), rtol=1e-12)


def test_the_reference_agrees_with_torch_on_probabilities() -> None:
    rng = np.random.default_rng(4)
    for shape in [(7,), (5, 7), (2, 7, 3), (2, 7, 3, 4)]:
        x, p, w = rng.standard_normal(shape), rng.random(shape), rng.random(7)
        for weight in (None, w):
            for smoothing in (0.0, 0.3, 1.0):
                for reduction in ("none", "mean", "sum"):
                    args = {"reduction": reduction, "label_smoothing": smoothing}
                    expected = F.cross_entropy(
                        torch.tensor(x),
                        torch.tensor(p),
                        None if weight is None else torch.tensor(weight),
                        **args,
                    )
                    actual = reference.cross_entropy(x, p, weight, **args)
                    np.testing.assert_allclose(actual, expected.numpy(), rtol=1e-12)


def test_the_reference_agrees_with_torch_on_rows() -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((3, 4, 5))
    t = torch.tensor(x)
    for axis in range(-3, 3):
        np.testing.assert_allclose(reference.log_softmax(x, axis), t.log_softmax(axis).numpy(), rtol=1e-12)
        np.testing.assert_allclose(reference.softmax(x, axis), t.softmax(axis).numpy(), rtol=1e-12)
    for axes in [0, -1, (0, 2), (2, 0, 1), None]:
        dims = (0, 1, 2) if axes is None else axes
        for keep in (False, True):
            expected = torch.logsumexp(t, dims, keepdim=keep).numpy()
            np.testing.assert_allclose(reference.logsumexp(x, axes, keepdims=keep), expected, rtol=1e-12)
    np.testing.assert_allclose(reference.log_sigmoid(x), F.logsigmoid(t).numpy(), rtol=1e-12)


def test_the_reference_leaves_out_rows_where_told() -> None:
    x = np.random.default_rng(6).standard_normal((4, 3))
    x[1] = np.nan
    t = np.array([0, 99, 2, 1])
    where = np.array([True, False, True, True])
    kept = reference.cross_entropy(x[where], t[where])
    assert reference.cross_entropy(x, t, where=where) == pytest.approx(float(kept), rel=1e-15)
    assert reference.nll_loss(x, t, where=where, reduction="none")[1] == 0
    p = np.full((4, 3), 1 / 3)
    p[1] = np.nan
    kept = reference.cross_entropy(x[where], p[where])
    assert reference.cross_entropy(x, p, where=where) == pytest.approx(float(kept), rel=1e-15)


def test_the_reference_drops_what_has_no_weight() -> None:
    assert reference.cross_entropy([-np.inf, 0.0, 1.0], 0, [0.0, 1.0, 1.0], reduction="sum") == 0
    loss = reference.cross_entropy([-np.inf, 0.0, 1.0], [0.0, 0.5, 0.5])
    assert loss == pytest.approx(reference.cross_entropy([0.0, 1.0], [0.5, 0.5]), rel=1e-15)
    assert np.isnan(reference.cross_entropy([np.nan, 0.0, 1.0], 0, [0.0, 1.0, 1.0], reduction="sum"))


def test_the_half_precision_types_are_two_bytes() -> None:
    assert [dtype.itemsize for dtype in HALVES] == [2, 2]
