"""The histogram of the loss and the means by position: their numbers, and the same bits for any batches."""

from __future__ import annotations

import itertools
import json
import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import crossent
from arrays import DTYPES, Array, DType, logits, name
from crossent._scoring import distribution
from crossent._scoring.scorer import report_of_losses

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=name)


def _scorer(*batches: tuple[Any, ...], **options: Any) -> crossent.Scorer:
    scorer = crossent.Scorer(by_position=True)
    for x, t in batches:
        scorer.update(x, t, **options)
    return scorer


def _texts(dtype: DType | None = None, width: int = 9) -> tuple[Array, Array]:
    dtype = dtype or np.dtype(np.float64)
    rng = np.random.default_rng((width, dtype.itemsize))
    x, t = logits(rng, (40, 70, width), dtype), rng.integers(0, width, (40, 70))
    t[rng.random(t.shape) < 0.2] = -100
    return x, t


def _histogram(nll: Any) -> crossent.LossHistogram:
    losses = np.asarray(nll)
    return report_of_losses(losses, np.ones(losses.shape, bool)).loss_histogram


# ---- the histogram --------------------------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize("width", [2, 100, 101, 1030])
def test_the_histogram_is_numpys(width: int, dtype: DType) -> None:
    rng = np.random.default_rng(width)
    x, t = logits(rng, (700, width), dtype), rng.integers(0, width, 700)
    t[::9] = -100
    scorer = crossent.Scorer()
    scorer.update(x, t)
    histogram = scorer.result().loss_histogram
    scores = crossent.score(x.astype(np.float64), t)
    edges = np.arange(32 * 32 + 1) / 32
    expected = np.histogram(scores.nll[scores.counted], edges)[0]
    assert histogram.counts == tuple(np.trim_zeros(expected, "b"))
    np.testing.assert_array_equal(histogram.edges, edges[: len(histogram.counts) + 1])
    assert histogram.above == np.count_nonzero(scores.nll >= 32)
    assert histogram.total == scores.count


def test_losses_on_an_edge_in_the_tail_and_beyond() -> None:
    # Sure of the other class by k nats, with nothing left to round: a loss of exactly k, an edge.
    gaps = [800.0, 50.0, 40.0, 1e300]
    x = np.array([[0.0, gap] for gap in gaps] + [[800.0, 0.0], [0.0, -np.inf], [np.nan, 0.0], [-np.inf, 0.0]])
    scorer = crossent.Scorer()
    scorer.update(x, [0] * len(x))
    histogram = scorer.result().loss_histogram
    assert histogram.above == 4
    assert histogram.not_finite == 2  # nan, and a target that has no probability
    assert histogram.counts == (2,)
    assert histogram.total == len(x)
    with pytest.warns(crossent.LikelyMistakeWarning, match="has one class only"):
        on_an_edge = crossent.score(np.zeros((3, 1)), [0, 0, 0])
    assert _histogram(on_an_edge.nll).counts == (3,)
    found = _histogram(
        [0.03125, np.nextafter(0.03125, 0), -1e-4, 31.99, 32.0, 1e308, math.inf, -math.inf, math.nan]
    )
    assert (found.counts[0], found.counts[1], found.counts[1023], len(found.counts)) == (2, 1, 1, 1024)
    assert (found.above, found.not_finite) == (2, 3)


def test_a_quantile_is_found_in_whole_rows() -> None:
    for rows in (1, 3, 7, 100, 1000):
        histogram = crossent.LossHistogram((1,) * rows, 0, 0)
        for percent in range(1, 101):
            wanted = -(-percent * rows // 100)  # rows that make up this share, rounded up
            assert histogram.quantile(percent / 100) == wanted / 32, (rows, percent)
            assert histogram.quantile(np.float64(percent) / 100) == wanted / 32
    assert crossent.LossHistogram((1,) * 1000, 0, 0).quantile(0.999) == 999 / 32
    assert (
        crossent.LossHistogram((10**18, 1), 0, 0).quantile(1) == 2 / 32
    )  # more rows than a float tells apart


def test_quantiles_are_ends_of_bins() -> None:
    histogram = crossent.LossHistogram((5, 0, 4), 1, 0)
    assert histogram.quantile(0.0) == 1 / 32
    assert histogram.quantile(0.5) == 1 / 32
    assert histogram.quantile(0.51) == 3 / 32
    assert histogram.quantile(0.9) == 3 / 32
    assert histogram.quantile(0.91) == math.inf
    assert math.isnan(crossent.LossHistogram((), 0, 0).quantile(0.5))
    assert crossent.LossHistogram((), 0, 3).quantile(0.5) == math.inf
    for share in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="0 to 1"):
            histogram.quantile(share)


@given(st.lists(st.floats(0, 40), min_size=1, max_size=50), st.floats(0.01, 1))
def test_a_quantile_bounds_its_share(nll: list[float], share: float) -> None:
    values = np.array(nll)
    histogram = _histogram(values)
    bound = histogram.quantile(share)
    least = np.quantile(values, share, method="inverted_cdf")
    if bound < math.inf:
        assert np.count_nonzero(values < bound) >= share * len(values) * (1 - 1e-12)
        assert bound <= least + 1 / 32 + 1e-9
    else:
        assert least >= 32 - 1e-9


# ---- positions ------------------------------------------------------------------------------------------


def test_groups_are_single_positions_and_then_eighths_of_doublings() -> None:
    firsts = [distribution.first_of(i) for i in range(400)]
    assert firsts[:17] == list(range(17))
    assert firsts[16:33] == [16, 18, 20, 22, 24, 26, 28, 30, 32, 36, 40, 44, 48, 52, 56, 60, 64]
    positions = np.arange(5000)
    expected = np.searchsorted(firsts, positions, side="right") - 1
    np.testing.assert_array_equal(distribution.group_of(positions), expected)
    for i, first in enumerate(firsts):
        if first < 2**53:
            assert distribution.group_of(np.array([first])) == [i]
        if 0 < first <= 2**53:
            assert distribution.group_of(np.array([first - 1])) == [i - 1]


@every_dtype
@pytest.mark.parametrize("width", [9, 65, 200])
def test_means_by_position_are_those_of_the_rows(width: int, dtype: DType) -> None:
    x, t = _texts(dtype, width)
    scores = crossent.score(x.astype(np.float64), t)
    groups = _scorer((x, t)).result().position_groups
    assert [group.first for group in groups] == [distribution.first_of(i) for i in range(len(groups))]
    assert groups[-1].first <= 69 <= groups[-1].last
    for group in groups:
        part = np.s_[:, group.first : group.last + 1]
        nll = scores.nll[part][scores.counted[part]]
        assert group.count == nll.size
        assert group.mean == pytest.approx(nll.mean(), rel=1e-6)
        assert group.standard_error == pytest.approx(nll.std(ddof=1) / math.sqrt(nll.size), rel=1e-6)


def test_batches_merging_threads_and_axes_do_not_change_a_bit() -> None:
    x, t = _texts()
    whole = _scorer((x, t))
    parts = [slice(a, b) for a, b in itertools.pairwise([0, 1, 1, 17, 40])]
    assert _scorer(*((x[p], t[p]) for p in parts)).result() == whole.result()
    merged = crossent.Scorer(by_position=True)
    for p in reversed(parts):
        merged.merge(_scorer((x[p], t[p])))
    assert merged.to_json() == whole.to_json()
    turned = _scorer((np.moveaxis(x, -1, 1), t), axis=1)
    assert turned.to_json() == whole.to_json()
    threads = crossent.get_num_threads()
    try:
        crossent.set_num_threads(3)
        assert _scorer((x, t)).to_json() == whole.to_json()
    finally:
        crossent.set_num_threads(threads)
    # Cut along the positions, with their numbers.
    halves = crossent.Scorer(by_position=True)
    for p in (slice(0, 31), slice(31, 70)):
        halves.update(x[:, p], t[:, p], positions=np.arange(70)[p])
    assert halves.to_json() == whole.to_json()
    # Packed into one line.
    packed = crossent.Scorer(by_position=True)
    packed.update(x.reshape(-1, 9), t.reshape(-1), positions=np.tile(np.arange(70, dtype=np.uint8), 40))
    assert packed.to_json() == whole.to_json()


def test_texts_of_several_lengths_have_the_groups_of_the_longest() -> None:
    x, t = _texts()
    long, short = _scorer((x, t)), _scorer((x[:, :3], t[:, :3]))
    assert len(short.result().position_groups) == 3
    both = [_scorer((x, t), (x[:, :3], t[:, :3])), long.merge(short)]
    assert both[0].to_json() == both[1].to_json()
    groups = both[0].result().position_groups
    assert groups[0].count == 2 * np.count_nonzero(t[:, 0] != -100)


def test_with_shift_a_row_has_the_position_of_its_logits() -> None:
    x, t = _texts()
    numbers = np.random.default_rng(0).permuted(np.tile(np.arange(70), (40, 1)), axis=1)
    for positions in (None, numbers, np.arange(70), np.int64(5)):
        shifted, plain = crossent.Scorer(by_position=True), crossent.Scorer(by_position=True)
        shifted.update(x, t, positions=positions, shift=2)
        own = None if positions is None else np.broadcast_to(positions, t.shape)[:, :-2]
        plain.update(x[:, :-2], t[:, 2:], positions=own)
        assert shifted.to_json() == plain.to_json()


def test_rows_that_are_not_finite_stay_in_their_group() -> None:
    x, t = _texts()
    t[:] = 0
    x[3, 1, 0], x[4, 2, 1] = -np.inf, np.nan
    groups = _scorer((x, t)).result().position_groups
    assert (groups[1].mean, groups[1].count) == (math.inf, 40)
    assert math.isnan(groups[1].standard_error)
    assert math.isnan(groups[2].mean)
    assert all(math.isfinite(group.mean) for group in (groups[0], *groups[3:]))


def test_positions_are_only_there_if_asked_for() -> None:
    x, t = _texts()
    scorer = crossent.Scorer()
    scorer.update(x, t)
    assert not scorer.by_position
    assert scorer.result().position_groups == ()
    with pytest.raises(ValueError, match="by_position=True"):
        scorer.update(x, t, positions=np.arange(70))
    with pytest.raises(ValueError, match="differ"):
        scorer.merge(crossent.Scorer(by_position=True))
    empty = crossent.Scorer(by_position=True)
    empty.update(x[:0], t[:0])
    assert empty.result().position_groups == ()


# More axes than NumPy's iterators take, where arrays have so many: not before NumPy 2.
MANY = 32 if np.__version__.startswith("1.") else 33


@pytest.mark.parametrize(
    ("rows", "positions", "error", "text"),
    [
        ((5,), None, ValueError, r"target\[numpy.newaxis\]"),
        ((2, 5), [[0, 1, 2, 3]], ValueError, "wrong shape"),
        ((2, 5), [0.5] * 5, TypeError, "integers"),
        ((2, 5), [0, 1, 2, 3, -1], ValueError, "got -1 to 3"),
        ((2, 5), [0, 1, 2, 3, 2**53], ValueError, "out of range"),
        ((2, 5), np.zeros((1, 2, 5), dtype=int), ValueError, "wrong shape"),
        ((2, 5), np.zeros((1,) * MANY, dtype=int), ValueError, "wrong shape"),
        ((2, 5), "abc", TypeError, "positions"),
    ],
)
def test_positions_that_do_not_fit_are_refused_and_add_nothing(
    rows: tuple[int, ...], positions: Any, error: type[Exception], text: str
) -> None:
    scorer = crossent.Scorer(by_position=True)
    before = scorer.to_json()
    with pytest.raises(error, match=text):
        scorer.update(np.zeros((*rows, 3)), np.zeros(rows, dtype=int), positions=positions)
    assert scorer.to_json() == before
    with pytest.raises(TypeError, match="must be a bool"):
        crossent.Scorer(by_position=positions if positions is not None else 1)


@every_dtype
def test_sums_of_scores_are_those_of_a_scorer(dtype: DType) -> None:
    x, t = _texts(dtype)
    x[0, 5:8, 0] = np.nan, np.inf, -np.inf
    t[0, 7] = 0  # a loss of +inf
    scores, expected = crossent.score(x, t), _scorer((x, t)).result()
    found = report_of_losses(scores._losses(), scores.counted)
    assert (found.count, found.nonfinite) == (expected.count, expected.nonfinite)
    assert found.loss_histogram.not_finite == found.nonfinite > 0
    assert found.loss_histogram == expected.loss_histogram
    assert repr(found.position_groups) == repr(expected.position_groups)
    # The losses of narrower logits are float32 where users see them.
    rounded = report_of_losses(scores.nll, scores.counted)
    for one, other in zip(rounded.position_groups, expected.position_groups, strict=True):
        assert (one.first, one.last, one.count) == (other.first, other.last, other.count)
        assert one.mean == pytest.approx(other.mean, rel=1e-7, nan_ok=True)
        assert one.standard_error == pytest.approx(other.standard_error, rel=1e-6, nan_ok=True)


def test_losses_without_an_axis_are_at_position_0() -> None:
    for nll, count in ((np.float64(0.5), 1), (np.zeros(0), 0), (np.zeros((2, 0)), 0)):
        losses = np.asarray(nll)
        groups = report_of_losses(losses, np.ones(losses.shape, bool)).position_groups
        assert [(group.first, group.last, group.count) for group in groups] == [(0, 0, 1)] * count


# ---- storing --------------------------------------------------------------------------------------------


def test_text_and_pickle_keep_everything() -> None:
    x, t = _texts()
    x[0, 0] = [0.0, *[100.0] * 8]
    t[0, 0] = 0
    x[0, 1] = np.nan
    scorer = _scorer((x, t))
    assert scorer.result().loss_histogram.above == 1
    for copy in (crossent.Scorer.from_json(scorer.to_json()), pickle.loads(pickle.dumps(scorer))):
        assert copy.by_position
        assert repr(copy.result().position_groups) == repr(scorer.result().position_groups)
        assert copy.result().loss_histogram == scorer.result().loss_histogram
        copy.update(x, t)
        scorer_of_both = _scorer((x, t), (x, t))
        assert copy.to_json() == scorer_of_both.to_json()
    fields = json.loads(json.dumps(scorer.result().to_dict()))
    assert sum(fields["loss_histogram"]["counts"]) + 2 == scorer.result().count
    assert fields["position_groups"][16]["last"] == 17


def test_text_of_the_version_before_is_refused() -> None:
    state = json.loads(crossent.Scorer().to_json())
    del state["histogram"], state["positions"]
    state["format"] = "crossent.Scorer 1"
    with pytest.raises(ValueError, match=r"another version.*score the rows again"):
        crossent.Scorer.from_json(json.dumps(state))


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("histogram", [[], 0], "another number of rows"),
        ("histogram", [[1] * 1025, 0], "bins"),
        ("histogram", [[-1], 5], "count"),
        ("histogram", [[4.0], 0], "count"),
        ("histogram", [[2**70], 0], ""),
        ("histogram", None, ""),
        ("positions", [], "positions have another number"),
        ("positions", [[4, ["0x0", 0, 0, 0]]], ""),
        ("positions", 3, ""),
    ],
)
def test_damaged_text_is_refused(field: str, value: object, text: str) -> None:
    scorer = _scorer((np.zeros((2, 2, 3)), np.zeros((2, 2), dtype=int)))
    state = json.loads(scorer.to_json())
    state[field] = value
    with pytest.raises(ValueError, match=rf"not that of a scorer.*{text}"):
        crossent.Scorer.from_json(json.dumps(state))
