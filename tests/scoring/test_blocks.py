"""Logits in blocks of rows: all that takes an array takes them, with the same bits however they are cut."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

import crossent
from crossent._arguments import FirstBlocks
from crossent.blocks import ArrayBlocks, Block, cut_along, cut_rows, rows_per_block

Array = npt.NDArray[Any]
DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]


class Cut:
    """The rows of an array in blocks of `most` rows, along its axes in some order."""

    def __init__(self, array: Array, most: int, order: str = "C", *, length: bool = True) -> None:
        self.array, self.most = array, most
        self.row_shape: tuple[int | None, ...] = array.shape[:-1]
        axes = range(array.ndim - 1)
        self.axes = list(axes if order == "C" else reversed(axes))
        if not length:
            self.row_shape = (None, *self.row_shape[1:])
        self.classes, self.dtype = array.shape[-1], array.dtype
        self.reads = 0

    def row_blocks(self, memory: int | None = None, start: int = 0) -> Iterator[Block]:
        del memory
        self.reads += 1
        for index in cut_along(self.axes, self.array.shape[:-1], self.most, start=start):
            yield Block(index, self.array[index].copy())


def made(shape: tuple[int, ...] = (6, 35, 11), dtype: npt.DTypeLike = np.float32) -> tuple[Array, Array]:
    rng = np.random.default_rng(3)
    target = rng.integers(shape[-1], size=shape[:-1])
    target[rng.random(target.shape) < 0.2] = -100
    return (3 * rng.standard_normal(shape)).astype(dtype), target


def cuts(array: Array) -> list[Cut]:
    """Blocks of single rows, of parts of an axis, across axes, and of all rows."""
    sizes = [(1, "C", True), (7, "F", False), (36, "C", False), (8, "F", True), (1000, "C", True)]
    return [Cut(array, most, order, length=length) for most, order, length in sizes]


def probabilities(logits: Array) -> Array:
    return np.asarray(crossent.softmax(logits.astype(np.float64))).astype(logits.dtype)


def given(logits: Array, values: str) -> Array:
    """What is passed with `values=`."""
    if values == "log_probs":
        return np.asarray(crossent.log_softmax(logits))
    return probabilities(logits) if values == "probs" else logits


@pytest.mark.parametrize("values", ["logits", "log_probs", "probs"])
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_scorer(dtype: npt.DTypeLike, values: Any) -> None:
    logits, target = made(dtype=dtype)
    logits = given(logits, values)
    where = np.arange(target.size).reshape(target.shape) % 9 > 0
    for options in ({}, {"where": where}, {"units": np.abs(target)}, {"shift": 1, "where": where}):
        expected = crossent.Scorer(values=values)
        expected.update(logits, target, **options)
        for rows in cuts(logits):
            scorer = crossent.Scorer(values=values)
            scorer.update(rows, target, **options)
            assert scorer.to_json() == expected.to_json()
            assert rows.reads == 1


@pytest.mark.parametrize("shift", [0, 1, 40])
def test_positions(shift: int) -> None:
    logits, target = made()
    for positions in (None, np.arange(target.size).reshape(target.shape) % 50):
        expected = crossent.Scorer(by_position=True)
        expected.update(logits, target, positions=positions, shift=shift)
        for rows in cuts(logits):
            scorer = crossent.Scorer(by_position=True)
            scorer.update(rows, target, positions=positions, shift=shift)
            assert scorer.to_json() == expected.to_json()


@pytest.mark.parametrize("values", ["logits", "log_probs", "probs"])
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_score(dtype: npt.DTypeLike, values: Any) -> None:
    logits, target = made(dtype=dtype)
    logits = given(logits, values)
    for options in ({}, {"top_k": 3}, {"shift": 2}):
        expected = crossent.score(logits, target, values=values, **options)
        for rows in cuts(logits):
            scores = crossent.score(rows, target, values=values, **options)
            for name in expected.__dataclass_fields__:
                one, other = getattr(scores, name), getattr(expected, name)
                assert (one is None) == (other is None)
                if one is not None:
                    assert one.dtype == other.dtype
                    np.testing.assert_array_equal(one, other, err_msg=name)


@pytest.mark.parametrize("values", ["logits", "log_probs", "probs"])
@pytest.mark.parametrize("labelled", [True, False])
def test_comparisons(labelled: bool, values: Any) -> None:
    logits, labels = made()
    other = given((logits + np.roll(logits, 1, -1) / 8).astype(np.float64), values)
    logits, target = given(logits, values), labels if labelled else None
    where = np.arange(labels.size).reshape(labels.shape) % 5 > 0
    for options in ({}, {"where": where, "shift": 1}):
        expected = crossent.compare(logits, other, target, values=values, **options)
        for p, q in (
            (Cut(logits, 7), other),
            (logits, Cut(other, 9)),
            (Cut(logits, 7), Cut(other, 100)),
            (Cut(logits, 1), Cut(other, 8)),
            (Cut(logits, 8, "F"), Cut(other, 11, "F")),
            (Cut(logits, 7, length=not labelled), Cut(other, 5, length=False)),
        ):
            assert crossent.compare(p, q, target, values=values, **options) == expected
            comparer = crossent.Comparer(values=values)
            comparer.update(p, q, target, **options)
            assert comparer.result() == expected


@pytest.mark.parametrize("values", ["logits", "log_probs", "probs"])
def test_temperature(values: Any) -> None:
    logits, target = made()
    logits[np.arange(6)[:, np.newaxis], np.arange(35), np.where(target < 0, 0, target)] += 2
    logits = given(logits, values)
    expected = crossent.fit_temperature(logits, target, values=values)
    for rows in cuts(logits):
        assert crossent.fit_temperature(rows, target, values=values) == expected
        assert rows.reads == expected.iterations
        assert crossent.fit_temperature([(rows, target)], values=values) == expected
    with pytest.raises(TypeError, match="target is missing: got Cut alone"):
        crossent.fit_temperature(Cut(logits, 5))


def test_rows_of_no_axes_and_no_rows() -> None:
    row = np.array([0.5, 2.0, 1.0])
    assert crossent.score(Cut(row, 1), 1).nll == crossent.score(row, 1).nll
    for shape in ((0, 3), (4, 0, 3)):
        empty, target = np.zeros(shape, np.float32), np.zeros(shape[:-1], np.int64)
        for values in ("logits", "probs"):
            scores = crossent.score(Cut(empty, 5), target, values=values)
            assert scores.nll.shape == shape[:-1]
            assert scores.nll.dtype == np.float32
            scorer = crossent.Scorer()
            scorer.update(Cut(empty, 5), target, values=values)
            assert (scorer.rows, scorer.result().classes) == (0, 3)
            assert crossent.compare(Cut(empty, 1), Cut(empty, 2), target).count == 0


def test_the_first_row_that_is_not_finite_is_named_by_its_number() -> None:
    logits, target = made()
    target[:] = 0
    logits[4, 3], logits[2, 30] = np.nan, np.inf
    for rows in (logits, *cuts(logits)):
        scorer = crossent.Scorer()
        scorer.update(logits[:1], target[:1])
        scorer.update(rows, target)
        assert scorer.result().first_nonfinite == 35 + 2 * 35 + 30


# ---- what does not fit ---------------------------------------------------------------------------------------


def test_errors_name_rows_among_all_and_add_nothing() -> None:
    logits, target = made()
    wrong = target.copy()
    wrong[4, 20] = 11
    probs = probabilities(logits)
    probs[5, 34, 2] = np.nan
    scorer, comparer = crossent.Scorer(), crossent.Comparer()
    for rows in (logits, Cut(logits, 7)):
        with pytest.raises(IndexError, match=r"target\[4, 20\]"):
            scorer.update(rows, wrong)
        with pytest.raises(IndexError, match=r"target\[4, 20\]"):
            comparer.update(rows, Cut(logits, 7), wrong)
        with pytest.raises(ValueError, match=r"got target of shape \(5, 35\), expected \(6, 35\)"):
            scorer.update(rows, target[1:])
    for rows in (probs, Cut(probs, 7)):
        with pytest.raises(ValueError, match=r"no probability: got nan for class 2 of row \[5, 34\]"):
            scorer.update(rows, np.zeros_like(target), values="probs")
    assert scorer.rows == comparer.rows == 0


class Narrow(Cut):
    """Blocks that lack a class."""

    def row_blocks(self, memory: int | None = None, start: int = 0) -> Iterator[Block]:
        for block in super().row_blocks(memory, start):
            yield Block(block.index, block.values[..., 1:])


def test_blocks_that_are_not_what_they_should_be() -> None:
    logits, target = made()
    with pytest.raises(
        ValueError, match=r"a block of logits has the wrong shape: got \(1, 1, 10\), expected \(1, 1, 11\)"
    ):
        crossent.score(Narrow(logits, 1), target)
    text = r"a block of other_logits has the wrong shape: got \(6, 35, 10\), expected \(6, 35, 11\)"
    for rows in (logits, Cut(logits, 5)):
        with pytest.raises(ValueError, match=text):
            crossent.compare(rows, Narrow(logits, 1000), target)
    logits, target = made((9, 11))
    short = Cut(logits, 2)
    short.row_shape = (12,)
    with pytest.raises(ValueError, match=r"the blocks of logits have 9 rows, expected 12 of shape \(12,\)"):
        crossent.score(short, np.zeros(12, np.int64))
    with pytest.raises(ValueError, match="axis does not apply to blocks of rows"):
        crossent.score(Cut(logits, 2), target, axis=0)
    assert crossent.score(Cut(logits, 2), target, axis=1).count == crossent.score(logits, target).count
    with pytest.raises(ValueError, match="logits does not say how many rows it has"):
        crossent.compare(Cut(logits, 2, length=False), logits)
    with pytest.raises(
        ValueError, match=r"other_logits has the wrong shape: got \(9, 10\), expected \(9, 11\)"
    ):
        crossent.compare(Cut(logits, 2), Cut(logits[:, 1:], 2))
    with pytest.raises(
        ValueError, match=r"other_logits has the wrong shape: got \(8, 11\), expected \(9, 11\)"
    ):
        crossent.compare(Cut(logits, 2), logits[1:])
    wide, target = made()
    with pytest.raises(ValueError, match="give their rows in different orders"):
        crossent.compare(Cut(wide, 5), Cut(wide, 5, "F"), target)
    with pytest.raises(ValueError, match="shift needs an axis of positions"):
        crossent.score(Cut(logits[0], 1), 0, shift=1)


def test_likely_mistakes_are_told_at_the_callers_line() -> None:
    logits, target = made()
    rows = Cut(probabilities(logits), 7)
    calls = [
        lambda: crossent.score(rows, target),
        lambda: crossent.Scorer().update(rows, target),
        lambda: crossent.compare(rows, logits, target),
        lambda: crossent.compare(logits, rows),
        lambda: crossent.compare(rows, Cut(logits, 5)),
    ]
    for call in calls:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            call()
        (warning,) = seen
        assert warning.filename == __file__
        assert "looks like probabilities" in str(warning.message)
    short = Cut(0.5 * probabilities(logits), 7)
    with pytest.warns(
        crossent.LikelyMistakeWarning, match=r"of row \[0, \d+\] of logits add up to 0.5"
    ) as told:
        crossent.score(short, target, values="probs")
    assert len(told) == 1


# ---- cuts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (7,), (3, 5), (4, 1, 6), (2, 0)])
@pytest.mark.parametrize("most", [1, 2, 4, 6, 100])
def test_cuts_hold_each_row_once_in_one_order(shape: tuple[int, ...], most: int) -> None:
    numbers = np.arange(int(np.prod(shape))).reshape(shape)
    for start in range(numbers.size + 2):
        parts = [np.asarray(numbers[index]).reshape(-1) for index in cut_rows(shape, most, start=start)]
        assert all(0 < part.size <= most for part in parts)
        assert np.concatenate([[], *parts]).tolist() == list(range(start, numbers.size))


def test_rows_in_a_block() -> None:
    assert rows_per_block(0, 1 << 40) == 1
    assert rows_per_block(1 << 40, 4000) == (16 << 20) // 4000
    assert rows_per_block(None, 4000) == rows_per_block(64 << 20, 4000)
    for memory in (10_000, 1 << 20):
        assert 4 * 100 * rows_per_block(memory, 100) <= memory


def test_an_array_as_blocks() -> None:
    array = np.arange(120.0).reshape(4, 5, 6)
    for axis in (0, 1, 2, -1):
        rows = np.moveaxis(array, axis, -1)
        blocks = ArrayBlocks(array, axis)
        assert (*blocks.row_shape, blocks.classes) == rows.shape
        (whole,) = blocks.row_blocks()
        assert np.shares_memory(whole.values, array)
        assert np.array_equal(whole.values, rows)
        for start in (0, 3, 7):
            found = [block.values.reshape(-1, blocks.classes) for block in blocks.row_blocks(500, start)]
            assert np.array_equal(np.concatenate(found), rows.reshape(-1, blocks.classes)[start:])


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_first_rows_from_any_row_on(order: str) -> None:
    array = np.arange(120.0).reshape(3, 10, 4)
    numbers = np.arange(21).reshape(3, 7)
    for most in (1, 3, 25):
        blocks = FirstBlocks(Cut(array, most, order), 7, 10, "logits")
        in_order = np.concatenate(
            [numbers[block.index].reshape(-1, order="C") for block in blocks.row_blocks()]
        )
        assert sorted(in_order) == list(range(21))
        for start in range(22):
            found = list(blocks.row_blocks(start=start))
            rows = [numbers[block.index].reshape(-1) for block in found]
            assert np.concatenate([[], *rows]).tolist() == in_order[start:].tolist()
            assert all(np.array_equal(block.values, array[:, :7][block.index]) for block in found)


# ---- sources that are not what they say -------------------------------------------------------------------


class Odd(Cut):
    """Blocks made by hand, of an array whose shape or dtype may be told otherwise."""

    def __init__(
        self,
        array: Array,
        blocks: Any = None,
        shape: tuple[int | None, ...] | None = None,
        dtype: npt.DTypeLike | None = None,
    ) -> None:
        super().__init__(array, 3)
        self._given = blocks
        self.row_shape = self.row_shape if shape is None else shape
        self.dtype = self.dtype if dtype is None else np.dtype(dtype)

    def row_blocks(self, memory: int | None = None, start: int = 0) -> Iterator[Block]:
        if self._given is None:
            return super().row_blocks(memory, start)
        return iter([Block(index, values) for index, values in self._given])


X, T = made((10, 6), np.float64)
TWICE = np.concatenate([X, X])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: crossent.compare(Odd(X), Odd(TWICE, shape=(None,))), "other_logits have more rows"),
        (lambda: crossent.compare(Odd(TWICE, shape=(None,)), Odd(X), T), "of logits have more rows"),
        (lambda: crossent.compare(Odd(X), Odd(X[:7], shape=(None,))), "have 7 rows, expected 10"),
        (lambda: crossent.compare(Odd(X), Odd(TWICE, shape=(10,)), T, shift=1), "other_logits has more rows"),
        (lambda: crossent.score(Odd(X, shape=(None,)), T[:5]), "more rows than there should be"),
        (lambda: crossent.score(Odd(X, shape=(None,)), T[:5], shift=1), "logits has more rows than target"),
        (lambda: crossent.score(Odd(X[:9], shape=(None,)), T, shift=1), "lack rows: got 9 rows"),
        (lambda: crossent.score(Odd(X, [((slice(0, 5),), X[:5])] * 2), T), r"give a row twice: .*\[0:5\]"),
        (
            lambda: crossent.score(Odd(X, [((slice(i, i + 5),), X[:5]) for i in (0, 7)]), T),
            r"more rows than there should be: got a block at \[7:12\]",
        ),
        (lambda: crossent.score(Odd(X, [((slice(0, 5),), X[:5])]), T), "have 5 rows, expected 10"),
        (lambda: crossent.score(Odd(X, [((slice(None),), X)]), T), "an invalid index"),
        (lambda: crossent.score(Odd(X, [((0,), X)]), T), "an invalid index"),
        (lambda: crossent.score(Odd(X, [((slice(0, 10, 2),), X[::2])]), T), "an invalid index"),
        (lambda: crossent.score(Odd(X, [((slice(0, 9),), X)]), T), "has the wrong shape"),
        (lambda: crossent.score(Odd(X.reshape(2, 5, 6), shape=(2, None)), T.reshape(2, 5)), "not the first"),
        (lambda: crossent.score(Odd(X.reshape(2, 5, 6)), T.reshape(2, 5), axis=1, shift=1), "axis does not"),
        (lambda: list(cut_rows((2, 5), 3, start=-1)), "start must not be negative"),
    ],
)
def test_a_source_that_is_not_what_it_says_is_refused(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize(
    ("blocks", "dtype", "words"),
    [
        (None, np.float32, "wrong dtype: got float64, expected float32"),
        ([((slice(0, 10),), X.tolist())], None, "values that are not a numpy.ndarray: got list"),
    ],
)
def test_numbers_that_are_not_those_that_were_promised_are_refused(
    blocks: Any, dtype: npt.DTypeLike | None, words: str
) -> None:
    with pytest.raises(TypeError, match=words):
        crossent.score(Odd(X, blocks, dtype=dtype), T)


def test_blocks_in_either_byte_order_have_the_results_of_their_array() -> None:
    swapped = X.astype(">f8")
    for values in ("logits", "probs"):
        rows = swapped if values == "logits" else probabilities(X).astype(">f8")
        scores, expected = (crossent.score(each, T, values=values) for each in (Cut(rows, 3), rows))
        assert scores.nll.dtype == expected.nll.dtype == np.float64
        np.testing.assert_array_equal(scores.nll, expected.nll)


def test_probabilities_are_noticed_in_the_first_block_with_a_row_that_counts() -> None:
    target = np.where(np.arange(10) < 3, -100, T.clip(0))
    with pytest.warns(crossent.LikelyMistakeWarning):
        crossent.score(Cut(probabilities(X), 3), target)


def test_the_length_of_the_other_logits_may_come_from_the_target_or_the_logits() -> None:
    expected = crossent.compare(X, X[::-1], T, shift=1)
    for logits in (X, Cut(X, 3), Odd(X, shape=(None,))):
        assert crossent.compare(logits, Odd(X[::-1], shape=(None,)), T, shift=1) == expected
    assert crossent.compare(X, Odd(X[::-1], shape=(None,)), shift=1) == crossent.compare(X, X[::-1], shift=1)


def test_nothing_of_a_batch_that_fails_is_kept() -> None:
    def failing() -> Iterator[Any]:
        yield (slice(0, 5),), X[:5]
        raise RuntimeError("no more")

    class Failing(Odd):
        def row_blocks(self, memory: int | None = None, start: int = 0) -> Iterator[Block]:
            return (Block(index, values) for index, values in failing())

    scorer = crossent.Scorer()
    with pytest.raises(RuntimeError, match="no more"):
        scorer.update(Failing(X), T)
    assert scorer.rows == 0
