"""The judges judged: the ULP ruler, the float64 reference and the mpmath rows agree with each other and with torch."""

import ml_dtypes
import mpmath
import numpy as np
import pytest

import exact
import reference
from arrays import DTYPES, HALVES, DType, name
from optional import F, torch
from ulp import ulp_distance, ulp_error

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


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_an_exact_number_between_two_others_is_a_part_of_a_unit_from_each(dtype: DType) -> None:
    """Also in the subnormal range, where the unit no longer shrinks, and on both sides of a power of two."""
    info = ml_dtypes.finfo(dtype)
    digits = int(info.nmant)
    below = (1 - 2.0 ** -(digits + 1), 1 - 2.0**-digits)  # a unit is half as large below 1
    pairs = [(1.0, 1 + 2.0**-digits), (-1.0, -1 - 2.0**-digits), below, (1.5, 1.5 + 2.0**-digits)]
    with mpmath.workdps(60):
        tiny = mpmath.ldexp(1, int(info.minexp) - digits)
        normal = mpmath.ldexp(1, int(info.minexp))
        exact_pairs = [(mpmath.mpf(a), mpmath.mpf(b)) for a, b in pairs]
        exact_pairs += [(k * tiny, (k + 1) * tiny) for k in (0, 1, 5, -6)]
        exact_pairs += [(normal - tiny, normal), (normal, normal + tiny)]
        for a, b in exact_pairs:
            for part in (mpmath.mpf(0), mpmath.mpf(1) / 4, mpmath.mpf(1) / 3, mpmath.mpf(1) / 2):
                number = a + (b - a) * part
                results = np.array([float(a), float(b)]).astype(dtype)
                assert [mpmath.mpf(float(result)) for result in results] == [a, b]
                errors = ulp_error(results, [number, number])
                assert errors == pytest.approx([float(part), float(1 - part)], abs=1e-12)


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_a_sign_an_infinity_and_a_nan_are_never_near(dtype: DType) -> None:
    one, zero, largest = mpmath.mpf(1), mpmath.mpf(0), mpmath.mpf(float(ml_dtypes.finfo(dtype).max))
    digits = int(ml_dtypes.finfo(dtype).nmant)
    numbers = np.array([-1.0, 0.0, np.inf, -np.inf, np.nan]).astype(dtype)
    assert ulp_error(numbers, [one] * 5).tolist() == [2.0 ** (digits + 1), 2.0**digits, *[np.inf] * 3]
    assert ulp_error(numbers, [mpmath.inf] * 5).tolist() == [np.inf, np.inf, 0, np.inf, np.inf]
    assert ulp_error(numbers, [mpmath.nan] * 5).tolist() == [*[np.inf] * 4, 0]
    assert (ulp_error(numbers, [zero] * 5)[[0, 2, 3, 4]] > 1e3).all()
    # What rounds to the largest number is no infinity, what is half a unit above it is.
    unit = mpmath.ldexp(1, int(mpmath.frexp(largest)[1]) - 1 - digits)
    at_end = np.array([float(largest), np.inf]).astype(dtype)
    with mpmath.workdps(exact.DIGITS):
        assert ulp_error(at_end, [largest + unit / 4] * 2).tolist() == [0.25, np.inf]
        assert ulp_error(at_end, [largest + unit / 2] * 2).tolist() == [np.inf, 0]


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_the_ruler_counts_the_steps_of_random_numbers(dtype: DType) -> None:
    """Against the distance in representable numbers, within one power of two."""
    rng = np.random.default_rng(0)
    integers = np.dtype(f"u{dtype.itemsize}")
    digits = int(ml_dtypes.finfo(dtype).nmant)
    exponents = rng.integers(0, 2 ** (8 * dtype.itemsize - 1 - digits) - 1, 300)
    mantissas = rng.integers(0, 2**digits - 9, 300)
    bits = (exponents << digits) + mantissas
    steps = rng.integers(0, 9, 300)
    one, other = bits.astype(integers).view(dtype), (bits + steps).astype(integers).view(dtype)
    np.testing.assert_array_equal(ulp_distance(one, other), steps)
    np.testing.assert_array_equal(ulp_error(other, [mpmath.mpf(float(x)) for x in one]), steps)


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
