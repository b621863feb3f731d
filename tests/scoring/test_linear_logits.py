"""Logits that are a product, wherever logits are taken: the results are those of the array that they stand for."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import crossent
import reference
from arrays import DTYPES, Array, DType
from blas import needs_equal_rows
from crossent import LinearLogits
from crossent._io.npy import find_npy
from crossent._linear import convert


class Read:
    """An array that is read when a part is requested, as one in a file is."""

    def __init__(self, array: Array) -> None:
        self._array = array
        self.shape, self.dtype = array.shape, array.dtype
        self.most = 0

    def __getitem__(self, index: Any) -> Array:
        assert isinstance(index, tuple)
        assert all(isinstance(cut, slice) and cut.step in (None, 1) for cut in index)
        part = self._array[index]
        self.most = max(self.most, part.size)
        return part


def model(
    shape: tuple[int, ...] = (3, 110), features: int = 24, classes: int = 201, dtype: Any = np.float32
) -> tuple[Array, Array, Array]:
    """Hidden states, a matrix and targets."""
    rng = np.random.default_rng(4)
    hidden = rng.normal(size=(*shape, features)).astype(dtype)
    weight = (rng.normal(size=(classes, features)) * 0.5).astype(dtype)
    target = rng.integers(classes, size=shape)
    target[rng.random(shape) < 0.1] = -100
    return hidden, weight, target


# Blocks of 64 rows, of some, and of all.
BLOCK_BYTES = (0, 400_000, None)


@pytest.mark.parametrize("block_bytes", BLOCK_BYTES)
@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("values", ["logits", "log_probs"])
def test_scores_are_those_of_the_array(block_bytes: int | None, shift: int, values: Any) -> None:
    hidden, weight, target = model()
    where = np.random.default_rng(1).random(target.shape) < 0.8
    bias = np.zeros(201, np.float32) if values == "logits" else np.full(201, -50.0, np.float32)
    logits = LinearLogits(hidden, weight, bias, block_bytes=block_bytes)
    whole = np.asarray(logits)
    options: Any = {"where": where, "shift": shift, "values": values}
    one, other = (crossent.score(x, target, top_k=4, **options) for x in (logits, whole))
    np.testing.assert_array_equal(one.counted, other.counted)
    for name in ("nll", "logsumexp", "entropy", "prediction", "rank", "correct", "top_ids", "top_log_probs"):
        np.testing.assert_array_equal(getattr(one, name)[one.counted], getattr(other, name)[one.counted])
    reports = []
    for x in (logits, whole):
        scorer = crossent.Scorer(by_position=True)
        scorer.update(x, target, **options)
        reports.append(scorer.result())
    assert reports[0] == reports[1]


def test_values_of_a_product_may_be_probabilities() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(5), (2, 90))
    target = np.zeros((2, 90), int)
    one, other = (crossent.score(x, target, values="probs") for x in (LinearLogits(p, np.eye(5)), p))
    np.testing.assert_array_equal(one.nll, other.nll)


@needs_equal_rows
@pytest.mark.parametrize("shift", [0, 1])
def test_comparisons_are_those_of_the_arrays(shift: int) -> None:
    hidden, weight, target = model()
    p = LinearLogits(hidden, weight, block_bytes=300_000)
    q = LinearLogits(hidden, weight.round(1), softcap=20.0, block_bytes=0)
    whole, other = np.asarray(p), np.asarray(q)
    for given in (target, None):
        want = crossent.compare(whole, other, given, shift=shift)
        for one, two in ((p, q), (p, other), (whole, q)):
            assert crossent.compare(one, two, given, shift=shift) == want
    comparer = crossent.Comparer()
    comparer.update(p[:2], q[:2], target[:2])
    comparer.update(p[2:], q[2:], target[2:])
    assert comparer.result() == crossent.compare(whole, other, target)
    assert crossent.compare(p, p, target).kl_max == 0


@needs_equal_rows
def test_temperatures_are_those_of_the_array() -> None:
    hidden, weight, target = model()
    logits = LinearLogits(hidden, weight, scale=0.5, block_bytes=200_000)
    assert crossent.fit_temperature(logits, target) == crossent.fit_temperature(np.asarray(logits), target)
    batches: Any = [(logits[:1], target[:1]), (logits[1:], target[1:])]
    assert crossent.fit_temperature(batches) == crossent.fit_temperature(logits, target)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (200,), (2, 3, 50), (0,), (2, 0)])
@pytest.mark.parametrize(("features", "classes"), [(8, 50), (300, 131), (1, 1), (0, 3)])
def test_the_logits_are_those_of_the_definition(
    shape: tuple[int, ...], features: int, classes: int, dtype: DType
) -> None:
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(*shape, features)).astype(dtype)
    weight, bias = (rng.normal(size=s).astype(dtype) for s in ((classes, features), (classes,)))
    for options in ({}, {"softcap": 5.0}, {"scale": 0.25}, {"softcap": 5.0, "scale": -2.0}):
        want = reference.linear_logits(hidden, weight, bias, **options)
        for block_bytes in (None, 0):
            for source in (hidden, Read(hidden)):
                x = LinearLogits(source, weight, bias, **options, block_bytes=block_bytes)
                got = np.asarray(x)
                assert (x.shape, x.ndim, x.dtype) == (want.shape, want.ndim, got.dtype)
                assert got.dtype == (np.float64 if dtype == np.float64 else np.float32)
                np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-11 if dtype == np.float64 else 2e-4)


def test_every_number_of_float16_is_converted_exactly() -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(-1, 64)
    out = np.empty((1 << 10, 70), np.float32)[:, 3:67]
    for half in (every, every.T.copy().T, every[np.isfinite(every).all(axis=1)], every[::-1]):
        convert(half, out[: len(half)])
        np.testing.assert_array_equal(out[: len(half)], half.astype(np.float32))
        assert (np.signbit(out[: len(half)]) == np.signbit(half)).all()


@needs_equal_rows
def test_rows_have_the_same_bits_in_blocks_of_any_size() -> None:
    for dtype in (np.float32, np.float64):
        hidden, weight, _ = model((400,), 300, 203, dtype)
        want = np.asarray(LinearLogits(hidden, weight))
        for block_bytes in (0, 10**6, 2 * 10**6):
            for order in ("C", "F"):
                x = LinearLogits(hidden, np.asarray(weight, order=order), block_bytes=block_bytes)
                np.testing.assert_array_equal(np.asarray(x), want)
            for memory, start in ((1, 0), (1, 64), (None, 1), (10**6, 333), (None, 399), (None, 400)):
                rows = [np.empty((0, 203))]
                rows += [block.values.copy() for block in x.row_blocks(memory, start)]
                np.testing.assert_array_equal(np.concatenate(rows), want[start:])


def test_a_run_that_is_continued_has_the_same_bits_on_any_machine() -> None:
    hidden, weight, _ = model((400,), 300, 203)
    x = LinearLogits(hidden, weight)
    for memory in (1, 10**6, None):
        want = np.concatenate([block.values.copy() for block in x.row_blocks(memory)])
        for start in (1, 64, 333, 399):
            rows = [block.values.copy() for block in x.row_blocks(memory, start)]
            np.testing.assert_array_equal(np.concatenate(rows), want[start:])


def test_blocks_are_valid_until_the_next_but_one() -> None:
    hidden, weight, _ = model((5, 100))
    x = LinearLogits(hidden, weight, block_bytes=0)
    want = np.asarray(x)
    before = None
    count = 0
    for block in x.row_blocks():
        for each in (before, block):
            if each is not None:
                np.testing.assert_array_equal(each.values, want[each.index])
        before = block
        count += block.rows
    assert count == 500


INDICES: tuple[Any, ...] = (
    1,
    -1,
    np.int64(0),
    slice(1, 3),
    slice(None),
    ...,
    (0, 5),
    (slice(1, None), slice(10, 60)),
    (..., slice(3, 9), slice(None)),
    (slice(None), -2),
    (2, slice(50, 40)),
    (slice(0, 2), ...),
)


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_slices_are_those_of_the_array(index: Any) -> None:
    hidden, weight, _ = model()
    want = np.asarray(LinearLogits(hidden, weight))[index]
    for source in (hidden, Read(hidden)):
        part = LinearLogits(source, weight)[index]
        assert part.shape == want.shape
        np.testing.assert_allclose(np.asarray(part), want, rtol=1e-5, atol=1e-5)
        if part.ndim > 1:
            np.testing.assert_allclose(np.asarray(part[1:]), want[1:], rtol=1e-5, atol=1e-5)
            assert len(part) == len(want)
    stepped = LinearLogits(hidden[::-2], weight)
    np.testing.assert_array_equal(np.asarray(LinearLogits(hidden, weight)[::-2]), np.asarray(stepped))


def test_wrong_indices_are_refused() -> None:
    hidden, weight, _ = model()
    x = LinearLogits(hidden, weight)
    for wrong, error in (
        ([0, 1], TypeError),
        (np.ones(3, bool), TypeError),
        (True, TypeError),
        (None, TypeError),
        (3, IndexError),
        ((0, 110), IndexError),
        ((0, 0, 0), IndexError),
        ((..., slice(3)), IndexError),
        ((..., ...), IndexError),
        ((0, 0, slice(None), 0), IndexError),
    ):
        with pytest.raises(error):
            x[wrong]
    with pytest.raises(ValueError, match="without a step"):
        LinearLogits(Read(hidden), weight)[::2]
    rows: Any = x
    assert [row.shape for row in rows] == [(110, 201)] * 3


def test_an_array_that_is_read_is_read_a_block_at_a_time() -> None:
    hidden, weight, target = model((1000,))
    source = Read(hidden)
    matrix = Read(weight)
    scores = crossent.score(LinearLogits(source, matrix, block_bytes=0), target)
    assert source.most == 64 * 24
    assert matrix.most <= 64 * 24
    np.testing.assert_allclose(
        scores.nll, crossent.score(hidden @ weight.T, target).nll, rtol=1e-4, atol=1e-5
    )
    source.most = 0
    # Rows between ignored ones are read one by one, if need be.
    crossent.linear_cross_entropy(source, weight, np.where(np.arange(1000) % 3, target, -100))
    assert 0 < source.most <= 2 * 24
    gradient = crossent.linear_cross_entropy_and_grad(source, weight, target)[1].input
    np.testing.assert_array_equal(
        gradient, crossent.linear_cross_entropy_and_grad(hidden, weight, target)[1].input
    )


@needs_equal_rows
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_in_a_file_is_read_a_block_at_a_time(order: Any, tmp_path: Path) -> None:
    hidden, weight, target = model()
    for name, array in (("hidden.npy", hidden), ("weight.npy", weight)):
        np.save(tmp_path / name, np.asarray(array, order=order))
    stored, matrix = (find_npy(str(tmp_path / name)) for name in ("hidden.npy", "weight.npy"))
    logits: Any = LinearLogits(stored, matrix, block_bytes=0)
    want = crossent.score(LinearLogits(hidden, weight, block_bytes=0), target, shift=1)
    np.testing.assert_array_equal(crossent.score(logits, target, shift=1).nll, want.nll)
    np.testing.assert_array_equal(
        np.asarray(logits[1:, 5:9]), np.asarray(LinearLogits(hidden[1:, 5:9], weight))
    )


def test_an_array_that_is_read_wrongly_is_refused() -> None:
    class Short(Read):
        def __getitem__(self, index: tuple[slice, ...]) -> Array:
            return super().__getitem__(index)[:-1]

    class Lists(Read):
        def __getitem__(self, index: tuple[slice, ...]) -> Any:
            return super().__getitem__(index).astype(str)

    hidden, weight, target = model((70,))
    with pytest.raises(ValueError, match=r"a part of input has the wrong shape: got \(69, 24\)"):
        crossent.score(LinearLogits(Short(hidden), weight), target)
    with pytest.raises(TypeError, match=r"a part of linear_weight"):
        crossent.score(LinearLogits(hidden, Lists(weight)), target)
    with pytest.raises(TypeError, match="input must be floating: got dtype int64"):
        LinearLogits(Read(np.zeros((3, 24), np.int64)), weight)


def test_nothing_else_takes_a_product_for_an_array() -> None:
    hidden, weight, target = model((6,))
    x: Any = LinearLogits(hidden, weight)
    for call in (
        lambda: crossent.cross_entropy_and_grad(x, target),
        lambda: crossent.nll_loss(x, target),
        lambda: crossent.focal_loss(x, target),
        lambda: crossent.softmax(x),
        lambda: crossent.logsumexp(x),
        lambda: crossent.log_loss(target, x),
        lambda: crossent.kl_div(x, x),
        lambda: crossent.binary_cross_entropy_with_logits(x, x),
    ):
        with pytest.raises(TypeError, match="for gradients use linear_cross_entropy_and_grad"):
            call()
    with pytest.raises(TypeError, match="input is a product that is not computed yet"):
        LinearLogits(x, weight)
    with pytest.raises(ValueError, match="axis does not apply"):
        crossent.cross_entropy(x, target, axis=0)
    with pytest.raises(ValueError, match="axis does not apply"):
        crossent.score(x, target, axis=0)
    with pytest.raises(TypeError, match="cross_entropy of a LinearLogits takes no class probabilities"):
        crossent.cross_entropy(x, np.zeros((6, 201)))


def test_it_can_be_printed_pickled_and_converted() -> None:
    hidden, weight, _ = model()
    x = LinearLogits(hidden, weight, np.zeros(201), softcap=30.0, scale=0.5)
    assert repr(x) == (
        "LinearLogits(shape=(3, 110, 201), dtype=float64, features=24, bias, scale=0.5, softcap=30)"
    )
    np.testing.assert_array_equal(np.asarray(pickle.loads(pickle.dumps(x))), np.asarray(x))
    assert np.asarray(x, dtype=np.float16).dtype == np.float16
    with pytest.raises(ValueError, match="cannot be an array without a copy"):
        x.__array__(copy=False)


def test_nothing_is_written_to_stderr_by_numbers_that_overflow() -> None:
    hidden = np.array([[3e38, 3e38], [np.inf, -np.inf], [np.nan, 1.0], [1.0, 2.0]], np.float32)
    weight = np.array([[3e38, 3e38], [1.0, 1.0], [0.0, 1.0]], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = LinearLogits(hidden, weight, softcap=30.0, scale=1e30)
        np.asarray(x)
        scores = crossent.score(x, [0, 0, 0, 0])
    assert np.isnan(scores.nll[1:3]).all()
    assert scores.nll[3] == pytest.approx(np.log(2) + np.log1p(0.5), rel=1e-6)
