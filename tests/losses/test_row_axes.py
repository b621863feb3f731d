"""Rows along several axes, and sums of exponentials with factors of both signs: against SciPy, mpmath and edges."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from scipy import special

import crossent
import reference
from arrays import BFLOAT16, DTYPES, SAME_VALUES, Array, DType, name
from levels import FUSED, Call, results_at_levels
from ulp import ulp_error

INF, NAN = np.inf, np.nan
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
SHAPE = (3, 4, 5, 2)
ALL_AXES = [
    None, *(c for n in range(5) for c in itertools.combinations(range(4), n)), -2, (-1, 0), (3, 1, 0), (-2, -3),
]  # fmt: skip
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=name)
FUNCTIONS: dict[str, tuple[Callable[..., Array], Callable[..., Array]]] = {
    "softmax": (crossent.softmax, special.softmax),
    "log_softmax": (crossent.log_softmax, special.log_softmax),
}


def _x(dtype: Any = np.float64, shape: tuple[int, ...] = SHAPE, scale: float = 4.0) -> Array:
    return (np.random.default_rng(0).standard_normal(shape) * scale).astype(dtype)


def _as_one_row(function: Callable[..., Array], x: Array, axes: Any) -> Array:
    """The function of a copy in which the axes are one, the last."""
    axes = range(x.ndim) if axes is None else [axes] if isinstance(axes, int) else axes
    axes = sorted(a % x.ndim for a in axes)
    order = [a for a in range(x.ndim) if a not in axes] + axes
    moved = x.transpose(order)
    rows = np.ascontiguousarray(moved.reshape(*moved.shape[: x.ndim - len(axes)], -1))
    return function(rows).reshape(moved.shape).transpose(np.argsort(order))


# ---- softmax and log_softmax along several axes ---------------------------------------------------------


@pytest.mark.parametrize("key", FUNCTIONS)
@pytest.mark.parametrize("axes", ALL_AXES, ids=str)
def test_several_axes_are_scipys(key: str, axes: Any) -> None:
    ours, theirs = FUNCTIONS[key]
    x = _x()
    np.testing.assert_allclose(ours(x, axes), theirs(x, axes), rtol=1e-13, atol=1e-15)


@every_dtype
@pytest.mark.parametrize("layout", SAME_VALUES)
@pytest.mark.parametrize("key", FUNCTIONS)
def test_several_axes_have_the_bits_of_one(key: str, layout: str, dtype: DType) -> None:
    function = FUNCTIONS[key][0]
    for shape in (SHAPE, (2, 67, 3), (5, 130), (1, 7, 1), (2, 3, 1, 1, 5, 2)):
        x = _x(dtype, shape)
        for axes in (None, (), (0, 1), (0, len(shape) - 1), tuple(range(1, len(shape)))):
            expected = _as_one_row(function, x, axes)
            got = function(SAME_VALUES[layout](x), axes)
            assert got.dtype == dtype
            assert got.shape == shape
            assert got.tobytes() == np.ascontiguousarray(expected).tobytes(), (shape, axes)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("key", FUNCTIONS)
def test_large_rows_along_several_axes_have_the_bits_of_one(key: str, threads: int) -> None:
    function, before = FUNCTIONS[key][0], crossent.get_num_threads()
    x = _x(np.float32, (40, 501, 33))
    try:
        crossent.set_num_threads(threads)
        for axes in (None, (0, 2), (0, 1), (1, 2)):
            for array in (x, np.asfortranarray(x), x[::-1, ::2]):
                np.testing.assert_array_equal(function(array, axes), _as_one_row(function, array, axes))
    finally:
        crossent.set_num_threads(before)


@pytest.mark.parametrize("key", FUNCTIONS)
def test_results_go_to_arrays_of_any_layout_and_over_the_input(key: str) -> None:
    function = FUNCTIONS[key][0]
    x = _x(np.float32)
    for axes in (None, (0, 2), (1, 2), (3, 0), ()):
        expected = function(x, axes)
        wide = np.zeros((3, 8, 5, 4), np.float32)
        outs = (np.zeros_like(x), np.zeros(SHAPE[::-1], np.float32).T, wide[:, ::2, ::-1, 1:3])
        for out in outs:
            assert function(x, axes, out=out) is out
            np.testing.assert_array_equal(out, expected)
        assert not wide[:, 1::2].any()
        for place in (x.copy(), np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2]):
            assert function(place, axes, out=place) is place
            np.testing.assert_array_equal(place, expected)
        shared = np.zeros(x.size + 7, np.float32)
        shared[:-7] = x.ravel()
        out = shared[7:].reshape(SHAPE)
        function(shared[:-7].reshape(SHAPE), axes, out=out)
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("key", FUNCTIONS)
def test_rows_of_one_element_or_none(key: str) -> None:
    function = FUNCTIONS[key][0]
    one = 1.0 if key == "softmax" else 0.0
    np.testing.assert_array_equal(function(np.array([3.0, INF, -INF, NAN]), ()), [one, NAN, NAN, NAN])
    for axes in (None, (), 0, -1, (0,), (-1,)):
        assert function(np.float32(5), axes) == one
    for shape in ((0,), (0, 3), (3, 0, 2)):
        all_axes: list[Any] = [None, (), (0, len(shape) - 1) if len(shape) > 1 else 0]
        for some in all_axes:
            assert function(np.zeros(shape), some).shape == shape
    rows = np.array([[[-INF, 0.0], [1.0, -INF]], [[INF, 0.0], [0.0, 0.0]], [[-INF, -INF], [-INF, -INF]]])
    got = function(rows, (1, 2))
    assert np.isnan(got[1:]).all()
    np.testing.assert_array_equal(got[0], function(rows[0].ravel()).reshape(2, 2))


@pytest.mark.parametrize("key", FUNCTIONS)
def test_axes_that_do_not_fit_are_refused(key: str) -> None:
    function = FUNCTIONS[key][0]
    x, out = _x(), np.full(SHAPE, 7.0)
    twice: Any
    for twice in ((0, 0), (1, -3), (2, 0, 2)):
        with pytest.raises(ValueError, match="axis names a dimension twice"):
            function(x, twice, out=out)
    for beyond in ((0, 4), (-5,), 4, (0, 2**70)):
        with pytest.raises(IndexError, match="axis is out of range"):
            function(x, beyond, out=out)
    wrong: list[Any] = [[0, 1], (0.0, 1), (True,), "0", 1.0, (None,), np.array([0, 1])]
    for axes in wrong:
        with pytest.raises(TypeError, match="axis must be an integer"):
            function(x, axes, out=out)
    with pytest.raises(IndexError, match="axis is out of range"):
        function(1.0, (1,))
    assert (out == 7).all()


def test_objects_hold_several_axes() -> None:
    x = _x()
    for axes in (None, (0, 2), ()):
        np.testing.assert_array_equal(crossent.Softmax(axes)(x), crossent.softmax(x, axes))
        np.testing.assert_array_equal(crossent.LogSoftmax(axes)(x), crossent.log_softmax(x, axes))


# ---- sums with factors ----------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", ALL_AXES, ids=str)
@pytest.mark.parametrize("keepdims", [False, True])
def test_sums_with_factors_are_scipys(axes: Any, keepdims: bool) -> None:
    x, rng = _x(), np.random.default_rng(1)
    for b in (
        rng.standard_normal(SHAPE),
        rng.random(SHAPE),
        rng.integers(-1, 2, (5, 1)),
        rng.random((4, 1, 2)),
        -2.5,
    ):
        options: dict[str, Any] = {"axis": axes, "b": b, "keepdims": keepdims}
        if axes == ():  # SciPy's squeeze needs an axis
            with np.errstate(divide="ignore"):
                expected = np.log(np.abs(b * np.exp(x))), np.sign(b * np.exp(x))
        else:
            expected = special.logsumexp(x, return_sign=True, **options)
        got = crossent.logsumexp(x, return_sign=True, **options)
        for mine, theirs in zip(got, expected, strict=True):
            assert np.shape(mine) == np.shape(theirs)
            np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-13)
        alone = crossent.logsumexp(x, **options)
        np.testing.assert_array_equal(alone, np.where(got[1] < 0, NAN, got[0]))


def test_each_is_broadcast_to_the_other() -> None:
    b = np.arange(-3.0, 9.0).reshape(3, 4)
    np.testing.assert_allclose(
        crossent.logsumexp(0.5, axis=1, b=b, return_sign=True),
        special.logsumexp(0.5, axis=1, b=b, return_sign=True),
    )
    x = np.array([[1.0], [2.0], [3.0]])
    got = crossent.logsumexp(x, axis=0, b=[1, 2, -3, 0], return_sign=True)
    np.testing.assert_allclose(
        got, special.logsumexp(x, axis=0, b=[[1, 2, -3, 0]], return_sign=True), rtol=1e-15
    )
    assert crossent.logsumexp(2.0, b=-0.5, return_sign=True) == (2 - np.log(2), -1)
    assert crossent.logsumexp(2.0, 0, b=3).dtype == FLOAT64
    with pytest.raises(ValueError, match=r"b does not fit the input: got \(2,\), expected \(3, 4\)"):
        crossent.logsumexp(b, b=[1, 2])


@every_dtype
def test_factors_of_any_dtype_leave_the_dtype_of_x(dtype: DType) -> None:
    x = _x(dtype)
    b = np.random.default_rng(2).integers(0, 5, SHAPE)
    wide = reference.logsumexp(x, (1, 3), b=b)
    for kind in (*DTYPES, np.dtype(bool), np.dtype(np.int8), np.dtype(np.uint64), np.dtype(">f4")):
        own = b > 0 if kind.kind == "b" else b
        expected = reference.logsumexp(x, (1, 3), b=own) if kind.kind == "b" else wide
        got, sign = crossent.logsumexp(x, (1, 3), b=own.astype(kind), return_sign=True)
        assert got.dtype == sign.dtype == dtype
        tolerance = {"float64": 1e-14, "float32": 1e-7, "float16": 1e-3, "bfloat16": 8e-3}[dtype.name]
        np.testing.assert_allclose(got.astype(float), expected, rtol=tolerance)
        assert (sign.astype(float) == 1).all()
    assert crossent.logsumexp([1, 2, 3], b=[1, 0, 2]).dtype == FLOAT64


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=name)
def test_sums_keep_their_digits_at_every_instruction_set(dtype: DType) -> None:
    rng = np.random.default_rng(3)
    x = (rng.standard_normal((200, 37)) * rng.choice([0.1, 1, 30, 300], (200, 1))).astype(dtype)
    b = np.exp(rng.standard_normal((200, 37)) * rng.choice([0.1, 3, 12], (200, 1)))
    b = (b * rng.choice([1, 1, 1, -1], (200, 37))).astype(dtype)
    exact, signs, scale = [], [], []
    with mpmath.workdps(400):
        for row, factors in zip(x, b, strict=True):
            terms = [mpmath.mpf(float(f)) * mpmath.exp(float(v)) for v, f in zip(row, factors, strict=True)]
            total = mpmath.fsum(terms)
            exact.append(mpmath.log(abs(total)))
            signs.append(float(mpmath.sign(total)))
            # What terms of both signs cancel is lost, and the result is a sum of two numbers.
            lost = mpmath.fsum(map(abs, terms)) / abs(total)
            largest = max(abs(float(v)) for v in row)
            scale.append(max(abs(exact[-1]), lost, mpmath.mpf(largest)))
    calls: list[Call] = [("logsumexp", (x, 1), {"b": b, "return_sign": True})]
    found = results_at_levels(calls)
    for level, ((log, sign),) in found.items():
        np.testing.assert_array_equal(sign, signs)
        assert ulp_error(log, exact, scale).max() <= (2.0 if dtype == FLOAT64 else 0.51), level
        if level in FUSED:
            assert log.tobytes() == found[FUSED[0]][0][0].tobytes()


def test_sizes_that_neither_x_nor_b_shows_alone_do_not_overflow() -> None:
    for x, b in ((744.5, 5e-324), (-709.5, 1.7e308), (5000.0, 1e-300), (-5000.0, -1e300)):
        log, sign = crossent.logsumexp(np.array([x, x, 0.0]), b=[b, b, 0], return_sign=True)
        assert log == pytest.approx(x + np.log(abs(b)) + np.log(2), rel=1e-15, abs=1e-13)
        assert sign == np.sign(b)
    assert crossent.logsumexp(np.array([0.0, 0.0]), b=[1.7e308, 1.7e308]) == pytest.approx(
        np.log(3.4) + 308 * np.log(10)
    )
    # A difference of neighbours: log(exp(x) - exp(y)) = y + log(expm1(x - y)).
    near = np.array([1000.0, np.nextafter(1000.0, 0)])
    step = near[0] - near[1]
    assert crossent.logsumexp(near, b=[1, -1]) == pytest.approx(near[1] + np.log(np.expm1(step)), rel=1e-15)
    # A small second term beside 1.
    assert crossent.logsumexp(np.array([0.0, -50.0]), b=[1, -2]) == pytest.approx(-2 * np.exp(-50), rel=1e-15)


def test_specials_are_scipys_and_factors_of_0_leave_out() -> None:
    values = (-INF, -1.0, 0.0, 2.0, INF, NAN)
    factors = (-INF, -1.0, 0.0, 1.0, INF, NAN)
    pairs = list(itertools.product(itertools.product(values, repeat=2), itertools.product(factors, repeat=2)))
    x, b = (np.array([pair[i] for pair in pairs]) for i in (0, 1))
    log, sign = crossent.logsumexp(x, 1, b=b, return_sign=True)
    with np.errstate(all="ignore"):
        terms = np.where(b == 0, 0.0, b * np.exp(x))
        total = terms.sum(axis=1)
        np.testing.assert_allclose(log, np.log(np.abs(total)), rtol=1e-15)
        np.testing.assert_array_equal(sign, np.sign(total))
        theirs, their_sign = special.logsumexp(x, 1, b=b, return_sign=True)
    # SciPy gives nan where all that is left is -inf, though a factor of 0 leaves out there too.
    other = ~((log == theirs) | np.isclose(log, theirs) | (np.isnan(log) & np.isnan(theirs)))
    assert ((b[other] == 0) & ~np.isfinite(x[other])).any(axis=1).all()
    same = ~other
    np.testing.assert_array_equal(sign[same], their_sign[same])


def test_sums_of_nothing_are_minus_infinity_of_sign_0() -> None:
    x = np.array([1.0, INF, NAN])
    assert crossent.logsumexp(x, b=[0, 0, 0], return_sign=True) == (-INF, 0)
    assert crossent.logsumexp(x, b=0.0) == -INF
    assert crossent.logsumexp(np.array([3.0, 3.0]), b=[1, -1], return_sign=True) == (-INF, 0)
    for shape, axes in (((0,), None), ((2, 0), 1), ((0, 2), 0), ((2, 0, 3), (1, 2))):
        log, sign = crossent.logsumexp(np.zeros(shape), axes, b=1, return_sign=True)
        assert np.shape(log) == np.zeros(shape).sum(axis=axes).shape
        assert (np.asarray(log) == -INF).all()
        assert (np.asarray(sign) == 0).all()
    assert crossent.logsumexp(np.zeros((2, 0)), 0, b=1).shape == (0,)


def test_signs_without_factors() -> None:
    x = np.array([[1.0, 2.0], [-INF, -INF], [INF, 0.0], [NAN, 0.0]])
    log, sign = crossent.logsumexp(x, 1, return_sign=True)
    np.testing.assert_array_equal(log, crossent.logsumexp(x, 1))
    np.testing.assert_array_equal(sign, [1, 0, 1, NAN])
    log, sign = crossent.logsumexp(x[:1].astype(BFLOAT16), return_sign=True)
    assert (sign, sign.dtype, log.dtype) == (1, BFLOAT16, BFLOAT16)
    kept = crossent.logsumexp(x, 0, keepdims=True, return_sign=True)
    assert [part.shape for part in kept] == [(1, 2), (1, 2)]


@every_dtype
def test_factors_and_results_of_any_layout_have_the_same_bits(dtype: DType) -> None:
    x = _x(dtype, (6, 130, 5))
    b = np.random.default_rng(4).standard_normal((6, 130, 5)).astype(dtype)
    for axes in (None, 0, 1, (0, 2), (1, 2), ()):
        expected = crossent.logsumexp(x, axes, b=b, return_sign=True)
        for layout in SAME_VALUES.values():
            got = crossent.logsumexp(layout(x), axes, b=layout(b), return_sign=True)
            for mine, right in zip(got, expected, strict=True):
                assert np.asarray(mine).tobytes() == np.asarray(right).tobytes()
        out = np.zeros((*np.shape(expected[0]), 2), dtype)[..., ::-1][..., 0]
        got = crossent.logsumexp(x, axes, b=b, return_sign=True, out=out)
        assert got[0] is out
        np.testing.assert_array_equal(out, expected[0])
        np.testing.assert_array_equal(got[1], expected[1])
    for k in (0, 1):  # the result may overwrite either
        own = [x.copy(), b.copy()]
        crossent.logsumexp(own[0], (), b=own[1], out=own[k])
        assert own[k].tobytes() == crossent.logsumexp(x, (), b=b).tobytes()


def test_long_sums_have_the_same_bits_on_any_number_of_threads() -> None:
    before = crossent.get_num_threads()
    rng = np.random.default_rng(5)
    x, b = rng.standard_normal((3, 300_000)).astype(np.float32) * 9, rng.standard_normal(300_000)
    x[1] -= 5000
    x[1, 299_999] = 0
    found = []
    try:
        for threads in (1, 2, 3):
            crossent.set_num_threads(threads)
            found.append(crossent.logsumexp(x, 1, b=b, return_sign=True))
            np.testing.assert_array_equal(
                crossent.logsumexp(x.T, 0, b=b[:, np.newaxis], return_sign=True), found[0]
            )
    finally:
        crossent.set_num_threads(before)
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])
    np.testing.assert_allclose(found[0], reference.logsumexp(x, 1, b=b, return_sign=True), rtol=1e-6)


def test_wrong_arguments_are_named() -> None:
    x, out = _x(), np.full((), 7.0)
    with pytest.raises(TypeError, match="b must hold real numbers: got dtype complex128"):
        crossent.logsumexp(x, b=1j, out=out)
    with pytest.raises(TypeError, match="b is no array: got 'a'"):
        crossent.logsumexp(x, b="a", out=out)
    with pytest.raises(TypeError, match="b must hold real numbers"):
        crossent.logsumexp(x, b=["a"], out=out)
    with pytest.raises(TypeError, match="x must be floating"):
        crossent.logsumexp(x.astype(complex), b=1.0, out=out)
    with pytest.raises(TypeError, match="return_sign must be True or False: got <class 'int'>"):
        crossent.logsumexp(x, return_sign=1, out=out)
    with pytest.raises(ValueError, match="axis names a dimension twice"):
        crossent.logsumexp(x, (1, 1), b=1.0)
    with pytest.raises(IndexError, match="axis is out of range: got 4"):
        crossent.logsumexp(x, 4, b=1.0)
    with pytest.raises(ValueError, match="out has the wrong shape"):
        crossent.logsumexp(x, 0, b=1.0, out=out)
    assert out == 7
