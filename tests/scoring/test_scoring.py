"""`score` against its definition: every column over dtypes, layouts, axes, masks and shifts; sequences; errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import crossent
import reference
from arrays import DTYPES, INTEGERS, SAME_VALUES, WIDTHS, Array, DType, logits, loss_dtype, name
from exact import logsumexp
from ulp import ulp_error

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=name)

COLUMNS = (
    "nll",
    "logsumexp",
    "entropy",
    "prediction",
    "rank",
    "counted",
    "correct",
    "top_ids",
    "top_log_probs",
)


def _rng(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


def _bits(scores: crossent.Scores) -> list[bytes]:
    return [np.ascontiguousarray(getattr(scores, column)).tobytes() for column in COLUMNS]


def _check(scores: crossent.Scores, expected: dict[str, Array], dtype: DType, ulp: float = 8.0) -> None:
    """Every column: exact where it is a count or a class, else within a few ULP of the result's dtype."""
    result = loss_dtype(dtype)
    for column in COLUMNS:
        actual, want = getattr(scores, column), expected[column]
        assert actual.shape == want.shape, column
        if column in ("prediction", "rank", "counted", "correct", "top_ids"):
            np.testing.assert_array_equal(actual, want, err_msg=column)
            continue
        assert actual.dtype == result, column
        # Where the maximum and the logarithm cancel, logsumexp is as accurate as its parts.
        scale = 1.0 if column == "logsumexp" else 0.0
        info = np.finfo(result)
        with np.errstate(over="ignore"):
            want = want.astype(result)
        np.testing.assert_allclose(
            actual,
            want,
            rtol=ulp * float(info.eps),
            atol=ulp * float(info.eps) * scale + float(info.smallest_normal),
            err_msg=column,
        )


def _data(width: int, dtype: DType, rows: int = 70) -> tuple[Array, Array, Array]:
    rng = _rng(width, dtype.itemsize)
    x = logits(rng, (rows, width), dtype)
    t = rng.integers(0, width, rows)
    t[::7] = -100
    return x, t, rng.random(rows) < 0.8


# ---- columns --------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*has one class only")
@every_dtype
@pytest.mark.parametrize("width", WIDTHS)
def test_every_column_is_that_of_the_definition_in_every_layout(width: int, dtype: DType) -> None:
    x, t, where = _data(width, dtype)
    top_k = min(4, width)
    for mask in (None, where):
        expected = reference.score(x, t, where=mask, top_k=top_k)
        first = crossent.score(x, t, where=mask, top_k=top_k)
        _check(first, expected, dtype)
        for layout in SAME_VALUES.values():
            assert _bits(crossent.score(layout(x), t, where=mask, top_k=top_k)) == _bits(first)
        transposed = crossent.score(np.ascontiguousarray(x.T), t, where=mask, axis=0, top_k=top_k)
        assert _bits(transposed) == _bits(first)


@pytest.mark.parametrize("axis", range(-4, 4))
def test_any_axis_holds_the_classes(axis: int) -> None:
    rng = _rng(5)
    for shape in ((3, 5, 4, 6), (3, 70, 4, 70)):
        x = rng.standard_normal(shape).astype(np.float32)
        rows = np.moveaxis(x, axis, -1).shape[:-1]
        t = rng.integers(0, x.shape[axis], rows)
        scores = crossent.score(x, t, axis=axis, top_k=2)
        _check(scores, reference.score(x, t, axis=axis, top_k=2), np.dtype(np.float32))
        assert _bits(scores) == _bits(crossent.score(np.moveaxis(x, axis, -1), t, top_k=2))


@every_dtype
@pytest.mark.parametrize("width", [10, 65, 5000])
def test_the_nll_has_the_bits_of_cross_entropy(width: int, dtype: DType) -> None:
    x, t, where = _data(width, dtype)
    scores = crossent.score(x, t, where=where)
    expected = crossent.cross_entropy(x, t, where=where, reduction="none")
    assert scores.nll.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", INTEGERS, ids=name)
def test_targets_of_any_integer_dtype(dtype: DType) -> None:
    x, _, _ = _data(100, np.dtype(np.float32))
    t = (np.arange(70) % 90).astype(dtype)
    _check(
        crossent.score(x, t, ignore_index=3, top_k=1), reference.score(x, t, ignore_index=3, top_k=1), x.dtype
    )


@pytest.mark.parametrize("width", [7, 100, 101, 3000])
def test_ties_are_broken_by_the_first(width: int) -> None:
    rng = _rng(width)
    for dtype in DTYPES:
        x = rng.integers(-2, 3, (80, width)).astype(dtype)
        t = rng.integers(0, width, 80)
        k = min(7, width)
        _check(crossent.score(x, t, top_k=k), reference.score(x, t, top_k=k), dtype)


@pytest.mark.filterwarnings("ignore:.*has one class only")
def test_top_k_may_be_every_class() -> None:
    for width in (1, 30, 300, 2500):
        x, t, _ = _data(width, np.dtype(np.float32), rows=5)
        _check(crossent.score(x, t, top_k=width), reference.score(x, t, top_k=width), x.dtype)


@pytest.mark.parametrize("width", [2, 10, 500])
def test_top_log_probs_have_the_bits_of_log_softmax(width: int) -> None:
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        x, _, _ = _data(width, dtype)
        scores = crossent.score(x, np.zeros(len(x), np.int64), top_k=width)
        assert scores.top_ids is not None
        assert scores.top_log_probs is not None
        expected = np.take_along_axis(crossent.log_softmax(x, 1), scores.top_ids, 1)
        assert scores.top_log_probs.tobytes() == expected.tobytes()


def test_without_top_k_there_are_no_such_arrays() -> None:
    scores = crossent.score(np.zeros((2, 3)), [0, 1])
    assert scores.top_ids is None
    assert scores.top_log_probs is None


def test_a_single_row_gives_arrays_without_dimensions() -> None:
    x = np.array([1.0, 3.0, 2.0])
    for target in (1, np.array(1), np.array([1])):
        scores = crossent.score(x, target, top_k=2)
        assert scores.nll.shape == ()
        assert scores.prediction == 1
        assert scores.rank == 1
        assert scores.top_ids is not None
        assert scores.top_ids.tolist() == [1, 2]


# ---- special values -------------------------------------------------------------------------------------

INF, NAN = math.inf, math.nan
SPECIAL = [
    [0.0, 1.0, 2.0, 3.0],
    [-INF, 0.0, 1.0, -INF],
    [-INF, -INF, -INF, -INF],
    [INF, 0.0, 1.0, 2.0],
    [INF, INF, 1.0, -INF],
    [NAN, 0.0, 1.0, 2.0],
    [0.0, NAN, INF, NAN],
    [-INF, NAN, -INF, -INF],
    [3e38, -3e38, 1e38, 3e38],
    [-0.0, 0.0, -0.0, 0.0],
    [-3e38, -3e38, -3e38, -3e38],
    [1e-40, -1e-40, 0.0, 1e-30],
    [0.0, 60.0, 0.0, -200.0],
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [4, 100, 101, 2100])
def test_rows_that_are_not_finite_follow_log_softmax(dtype: Any, width: int) -> None:
    rows = np.array(SPECIAL)
    for fill in (-INF, -100.0):
        for at in (0, width - 4):
            x = np.full((len(rows), width), fill)
            x[:, at : at + 4] = rows
            x = x.astype(dtype)
            for column in range(4):
                t = np.full(len(rows), at + column)
                scores = crossent.score(x, t, top_k=4)
                _check(scores, reference.score(x, t, top_k=4), np.dtype(dtype), ulp=16)
                np.testing.assert_array_equal(scores.prediction, x.argmax(axis=1))


def test_an_ignored_row_may_hold_anything() -> None:
    x = np.array([[NAN, 1.0], [2.0, 1.0], [INF, INF]])
    for scores in (
        crossent.score(x, [-100, 0, 7], ignore_index=-100, where=[True, True, False], top_k=2),
        crossent.score(np.repeat(x, 60, axis=1), [-100, 0, 7000], where=[True, True, False], top_k=2),
    ):
        assert scores.nll.tolist()[::2] == [0.0, 0.0]
        assert scores.counted.tolist() == [False, True, False]
        assert scores.count == 1
        assert math.isfinite(scores.log_likelihood)
        assert scores.top_ids is not None
        assert scores.top_ids[0].tolist() == [-1, -1]


@pytest.mark.parametrize("gap", [1e-3, 1.0, 15.0, 40.0, 80.0])
@pytest.mark.parametrize("width", [2, 64, 1500])
def test_the_entropy_of_a_sure_row_keeps_its_digits(gap: float, width: int) -> None:
    import mpmath

    for dtype, ulp in ((np.float32, 4), (np.float64, 16)):
        row = np.full(width, -gap, dtype)
        row[width // 2] = 0.0
        row[0] -= dtype(0.25)
        with mpmath.workdps(60):
            lse = logsumexp(row)
            exact = mpmath.fsum(mpmath.exp(x - lse) * (lse - x) for x in map(mpmath.mpf, row.tolist()))
            found = crossent.score(row, 0).entropy
            assert ulp_error(np.asarray(found), [exact]).max() <= ulp, (dtype, found, exact)


wild = st.one_of(
    st.floats(-30, 30, width=32),
    st.sampled_from([INF, -INF, NAN, *np.array([3e38, -3e38, 1e-40], "f4").tolist(), 0.0, -0.0, 1.0, 2.0]),
)


@pytest.mark.filterwarnings("ignore::crossent.LikelyMistakeWarning")
@given(st.data())
def test_scores_are_the_definitions_for_any_numbers_and_shapes(data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=5))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    classes = data.draw(st.sampled_from([1, 2, 5, 100, 101, 1100]))
    full = list(shape)
    full[axis] = classes
    dtype: Any = data.draw(st.sampled_from([np.float32, np.float64]))
    x = data.draw(hnp.arrays(dtype, tuple(full), elements=wild, fill=wild))
    rows = np.moveaxis(x, axis, -1).shape[:-1]
    t = data.draw(hnp.arrays(np.int64, rows, elements=st.one_of(st.integers(0, classes - 1), st.just(-100))))
    where = data.draw(st.one_of(st.none(), hnp.arrays(np.bool_, rows)))
    top_k = data.draw(st.integers(0, min(classes, 4)))
    expected = reference.score(x, t, where=where, axis=axis, top_k=top_k)
    scores = crossent.score(x, t, where=where, axis=axis, top_k=top_k)
    if top_k == 0:
        assert scores.top_ids is None
    info = np.finfo(dtype)
    finite = np.abs(x[np.isfinite(x)].astype(np.float64)).max(initial=1.0)
    for column in COLUMNS[: None if top_k else -2]:
        actual, want = getattr(scores, column), expected[column]
        if actual.dtype.kind in "ib":
            np.testing.assert_array_equal(actual, want, err_msg=column)
        else:
            with np.errstate(over="ignore"):
                want = want.astype(dtype)
            atol = 16 * float(info.eps) * finite if column == "logsumexp" else float(info.smallest_normal)
            np.testing.assert_allclose(actual, want, rtol=32 * float(info.eps), atol=atol, err_msg=column)


# ---- the same bits --------------------------------------------------------------------------------------


@every_dtype
def test_batches_and_threads_do_not_change_the_bits(dtype: DType) -> None:
    threads = crossent.get_num_threads()
    try:
        for width in (3, 100, 101, 3000):
            x, t, where = _data(width, dtype, rows=200)
            whole = crossent.score(x, t, where=where, top_k=2)
            for count in (1, 2, 5):
                crossent.set_num_threads(count)
                assert _bits(crossent.score(x, t, where=where, top_k=2)) == _bits(whole)
            for at in range(0, 200, 33):
                part = slice(at, at + 33)
                scores = crossent.score(x[part], t[part], where=where[part], top_k=2)
                for column in COLUMNS:
                    assert getattr(scores, column).tobytes() == getattr(whole, column)[part].tobytes()
    finally:
        crossent.set_num_threads(threads)


# ---- shift ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [1, 2, 5, 9])
def test_shift_scores_a_position_against_a_later_target(shift: int) -> None:
    rng = _rng(9)
    for width in (6, 90):
        x = rng.standard_normal((3, 5, width)).astype(np.float32)
        t = rng.integers(0, width, (3, 5))
        where = rng.random((3, 5)) < 0.7
        for ignore_index in (-100, 2):
            options: dict[str, Any] = {"ignore_index": ignore_index, "top_k": 2}
            got = crossent.score(x, t, where=where, shift=shift, **options)
            left = max(5 - shift, 0)
            want = crossent.score(x[:, :left], t[:, shift:], where=where[:, shift:], **options)
            assert got.nll.shape == (3, left)
            assert _bits(got) == _bits(want)
        classes_first = np.moveaxis(x, -1, 1)  # the axis before the classes is the first one
        got = crossent.score(classes_first, t, axis=1, shift=1)
        want = crossent.score(classes_first[:-1], t[1:], axis=1)
        assert got.nll.tobytes() == want.nll.tobytes()


def test_shift_takes_tensors_and_lists() -> None:
    torch = pytest.importorskip("torch")
    x, t = torch.randn(2, 4, 5), torch.randint(0, 5, (2, 4))
    want = crossent.score(x.numpy()[:, :-1], t.numpy()[:, 1:])
    assert crossent.score(x, t, shift=1).nll.tobytes() == want.nll.tobytes()
    assert crossent.score(x, t.tolist(), shift=1, where=(t > 0).tolist()).nll.shape == (2, 3)


# ---- sums and sequences ---------------------------------------------------------------------------------


def test_properties_are_the_sums_of_the_columns() -> None:
    x, t, where = _data(50, np.dtype(np.float32), rows=999)
    scores = crossent.score(x, t, where=where)
    counted = where & (t != -100)
    assert scores.count == counted.sum()
    assert scores.log_likelihood == -math.fsum(scores.nll.tolist())
    assert scores.mean == pytest.approx(-scores.log_likelihood / scores.count, rel=1e-15)
    assert scores.perplexity == pytest.approx(math.exp(scores.mean), rel=1e-15)
    assert scores.accuracy == (x.argmax(axis=1) == t)[counted].mean()
    assert scores.is_greedy is False
    assert crossent.score(x, x.argmax(axis=1)).is_greedy is True
    summary = scores.summary()
    assert summary["ignored"] == 999 - scores.count
    assert summary["mean"] == scores.mean
    assert f"{scores.mean:.6g}" in repr(scores)


def test_nothing_counted_has_no_mean() -> None:
    for scores in (
        crossent.score(np.zeros((2, 3)), [-100, -100]),
        crossent.score(np.zeros((0, 3)), np.zeros(0, int)),
    ):
        assert scores.count == 0
        assert scores.log_likelihood == 0.0
        assert math.isnan(scores.mean)
        assert math.isnan(scores.perplexity)
        assert math.isnan(scores.accuracy)
        assert scores.is_greedy


def _harness(log_probs: Array, continuation: list[int]) -> tuple[float, bool]:
    """lm-evaluation-harness: the sum of the continuation's log-probabilities, and whether each is the largest."""
    greedy = log_probs.argmax(axis=-1)
    picked = log_probs[np.arange(len(continuation)), continuation]
    return float(picked.sum()), bool((greedy == continuation).all())


def test_sequences_are_the_loglikelihood_requests_of_lm_evaluation_harness() -> None:
    rng = _rng(11)
    lengths = [3, 0, 1, 7, 4]
    rows = sum(lengths)
    x = rng.standard_normal((rows, 40)) * 4
    t = rng.integers(0, 40, rows)
    for greedy in (0, 3):  # the sequences that the model would have written itself
        start = sum(lengths[:greedy])
        stretch = slice(start, start + lengths[greedy])
        t[stretch] = x[stretch].argmax(axis=1)
    log_p = reference.log_softmax(x)
    scores = crossent.score(x, t)
    ends = np.cumsum([0, *lengths])
    ids = np.repeat([4, 9, -1, 2, 7], lengths)
    in_order = scores.by_sequence(lengths=lengths)
    for i, length in enumerate(lengths):
        likelihood, greedy_too = _harness(log_p[ends[i] : ends[i + 1]], t[ends[i] : ends[i + 1]].tolist())
        assert in_order.log_likelihood[i] == pytest.approx(likelihood, rel=1e-14)
        assert in_order.is_greedy[i] == greedy_too
        assert in_order.count[i] == length
    by_ends = scores.by_sequence(cu_seqlens=ends)
    assert by_ends.log_likelihood.tobytes() == in_order.log_likelihood.tobytes()
    shuffled = rng.permutation(rows)
    mixed = crossent.score(x[shuffled], t[shuffled]).by_sequence(segment_ids=ids[shuffled])
    assert mixed.ids.tolist() == [-1, 2, 4, 7]  # 9 has no row
    order = [2, 3, 0, 4]
    assert mixed.log_likelihood.tolist() == in_order.log_likelihood[order].tolist()
    assert mixed.is_greedy.tolist() == in_order.is_greedy[order].tolist()


def test_lines_are_sequences_of_their_lengths() -> None:
    rng = _rng(12)
    x = rng.standard_normal((2, 3, 6, 8))
    t = rng.integers(0, 8, (2, 3, 6))
    t[0, 0, 2] = -100
    scores = crossent.score(x, t)
    whole = scores.by_sequence()
    assert whole.log_likelihood.shape == (2, 3)
    np.testing.assert_allclose(whole.log_likelihood, -scores.nll.sum(axis=-1), rtol=1e-14)
    assert whole.count.tolist() == [[5, 6, 6], [6, 6, 6]]
    lengths = np.array([[0, 1, 2], [3, 4, 6]])
    some = scores.by_sequence(lengths=lengths)
    inside = np.arange(6) < lengths[..., np.newaxis]
    np.testing.assert_allclose(some.log_likelihood, -(scores.nll * inside).sum(axis=-1), rtol=1e-14)
    np.testing.assert_array_equal(some.count, (scores.counted & inside).sum(axis=-1))
    np.testing.assert_array_equal(some.is_greedy, ((scores.correct | ~scores.counted) | ~inside).all(axis=-1))
    assert math.isnan(some.mean[0, 0])
    np.testing.assert_allclose(some.perplexity[1], np.exp(some.mean[1]))


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"lengths": [1, 2]}, ValueError, "got 3, expected a sum of 4"),
        ({"lengths": [5, -1]}, ValueError, "negative"),
        ({"lengths": [1.0, 3.0]}, TypeError, "integers"),
        ({"cu_seqlens": [1, 4]}, ValueError, "expected 0 at the start"),
        ({"cu_seqlens": [0, 3, 2, 4]}, ValueError, "negative"),
        ({"cu_seqlens": []}, ValueError, ""),
        ({"segment_ids": [1, 2]}, ValueError, "shape"),
        ({"segment_ids": [1, 1, 1, 1], "lengths": [4]}, TypeError, "2 times"),
    ],
)
def test_sequences_that_do_not_fit_are_refused(options: Any, error: type[Exception], text: str) -> None:
    scores = crossent.score(np.zeros((4, 3)), [0, 1, 2, 0])
    if options == {"cu_seqlens": []}:
        with pytest.raises((ValueError, IndexError)):
            scores.by_sequence(**options)
        return
    with pytest.raises(error, match=text):
        scores.by_sequence(**options)


def test_lengths_of_lines_are_checked() -> None:
    scores = crossent.score(np.zeros((2, 4, 3)), np.zeros((2, 4), int))
    for lengths in ([1, 5], [-1, 1], [1], [[1, 2]]):
        with pytest.raises(ValueError, match="lengths"):
            scores.by_sequence(lengths=lengths)


# ---- errors ---------------------------------------------------------------------------------------------

X, T = np.zeros((3, 4)), np.array([0, 1, 2])


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((X, [0, 4, 9]), {}, IndexError, r"target\[1\] = 4"),
        ((X, T), {"axis": 2}, IndexError, "axis"),
        ((X, T), {"axis": 1.0}, TypeError, "axis"),
        ((X, T), {"top_k": 5}, ValueError, "top_k is out of range: got 5"),
        ((X, T), {"top_k": -1}, ValueError, "top_k"),
        ((X, T), {"top_k": 1.5}, TypeError, "top_k"),
        ((X, T), {"shift": -1}, ValueError, "shift"),
        ((X, T), {"shift": True}, TypeError, "shift"),
        ((X, T), {"shift": 1, "axis": 0}, ValueError, "positions"),
        ((X, T), {"shift": 1, "axis": 5}, IndexError, "axis"),
        ((X, T[:2]), {"shift": 1}, ValueError, "shift= does the shifting"),
        ((X, T[:2]), {}, ValueError, "target"),
        ((X, X), {}, TypeError, "score takes class indices"),
        ((X, T.astype(float)), {}, TypeError, "score takes class indices"),
        ((X.astype(int), T), {}, TypeError, "floating"),
        ((X, T), {"where": [1, 0, 2]}, ValueError, r"where\[2\] = 2"),
        ((X, T), {"where": [1.0, 0.0, 1.0]}, TypeError, "where"),
        ((X, T), {"where": [True, False]}, ValueError, "where"),
        ((X, T), {"ignore_index": 2**63}, OverflowError, "int"),
        ((1.0, 0), {}, ValueError, "class axis"),
        ((np.zeros((3, 0)), T), {}, IndexError, "no class"),
    ],
)
def test_errors_name_what_is_wrong(arguments: Any, options: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        crossent.score(*arguments, **options)


def test_the_first_bad_target_is_found_before_the_long_work() -> None:
    x = np.broadcast_to(np.float32(0), (10**6, 50_000))
    t = np.zeros(10**6, np.int64)
    t[-2:] = 50_000
    with pytest.raises(IndexError, match="999998"):
        crossent.score(x, t)


def test_scores_are_frozen() -> None:
    scores = crossent.score(X, T)
    with pytest.raises(AttributeError):
        scores.nll = scores.entropy  # type: ignore[misc]


# ---- ranks ----------------------------------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize("classes", [2, 10, 100, 101, 3000, 140_000])
def test_a_constant_model_is_not_perfect(classes: int, dtype: DType) -> None:
    targets = np.unique(np.array([0, 1, classes // 2, classes - 1]))
    for level in (0.0, -3.5, 2.0, -INF):
        x = np.full((len(targets), classes), level, dtype)
        for axis, rows in ((-1, x), (0, np.ascontiguousarray(x.T))):
            scores = crossent.score(rows, targets, axis=axis)
            np.testing.assert_array_equal(scores.rank, 1 + targets)
            np.testing.assert_array_equal(scores.correct, targets == 0)
            assert not scores.prediction.any()
            scorer = crossent.Scorer(top_k=(1, 2))
            scorer.update(rows, targets, axis=axis)
            report = scorer.result()
            assert report.mean_reciprocal_rank == pytest.approx((1 / (1 + targets)).mean(), rel=1e-15)
            assert report.accuracy == report.top_k_accuracy[1] == (targets == 0).mean()
            assert report.top_k_accuracy[2] == (targets < 2).mean()


@every_dtype
@pytest.mark.parametrize("width", [3, 100, 101, 1030])
def test_rank_top_k_and_prediction_order_the_classes_alike(width: int, dtype: DType) -> None:
    rng = _rng(width, 9)
    x = rng.integers(-2, 3, (60, width)).astype(dtype)
    x[::5, :: max(width // 7, 1)] = INF
    order = np.argsort(-x.astype(np.float64), axis=1, kind="stable")
    t = rng.integers(0, width, 60)
    scores = crossent.score(x, t, top_k=width)
    assert scores.top_ids is not None
    np.testing.assert_array_equal(scores.top_ids, order)
    np.testing.assert_array_equal(scores.top_ids[np.arange(60), scores.rank - 1], t)
    np.testing.assert_array_equal(scores.prediction, order[:, 0])
    np.testing.assert_array_equal(scores.correct, scores.rank == 1)


@every_dtype
@pytest.mark.parametrize("width", [1, 4, 100, 101, 1030])
@pytest.mark.filterwarnings("ignore:.*has one class only")
def test_a_row_with_a_nan_finds_no_class(width: int, dtype: DType) -> None:
    x = np.zeros((3, width), dtype)
    x[0], x[1, width // 2] = NAN, NAN
    for target in {0, width // 2, width - 1}:
        scores = crossent.score(x, [target] * 3)
        assert scores.rank.tolist() == [width, width, 1 + target]
        assert scores.correct.tolist() == [False, False, target == 0]
        scorer = crossent.Scorer(top_k=(1, width + 1))
        scorer.update(x, [target] * 3)
        report = scorer.result()
        assert report.nonfinite == 2
        assert report.accuracy == (target == 0) / 3
        assert report.top_k_accuracy[width + 1] == 1 / 3
        assert report.mean_reciprocal_rank == pytest.approx((2 / width + 1 / (1 + target)) / 3, rel=1e-15)
