"""Shards of a vocabulary: merged sums have the losses and gradients of whole rows, in any order, with all digits."""

from __future__ import annotations

import dataclasses
import itertools
import pickle
from typing import Any

import mpmath
import numpy as np
import pytest

import crossent
from arrays import DTYPES, DType
from crossent import sharded
from crossing import crossed

INF, NAN = np.inf, np.nan
CUTS = ((0, 4, 9), (0, 1, 2, 9), (0, 0, 9, 9), (0, 9))


def problem(rows: tuple[int, ...], classes: int, seed: int, dtype: Any = np.float64) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((*rows, classes)) * 4).astype(dtype)
    t = rng.integers(classes, size=rows)
    return x, np.where(rng.random(rows) < 0.1, -100, t)


def shards(x: Any, t: Any, cuts: Any, axis: int = -1) -> list[sharded.Partial]:
    rows = np.moveaxis(x, axis, -1)
    return [
        sharded.partial(np.moveaxis(rows[..., a:b], -1, axis), t, start=a, axis=axis)
        for a, b in itertools.pairwise(cuts)
    ]


def merged(parts: list[sharded.Partial]) -> sharded.Partial:
    first, *others = parts
    for other in others:
        first = first.merge(other)
    return first


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("classes", [2, 3, 9, 100, 101, 3000])
def test_merged_losses_are_those_of_whole_rows(dtype: DType, classes: int) -> None:
    x, t = problem((70,), classes, 3, dtype)
    cuts = sorted({0, classes // 3, classes // 2, classes})
    whole = merged(shards(x, t, cuts))
    rtol = 1e-14 if x.dtype == np.float64 else 3e-7
    losses = crossent.cross_entropy(x, t, reduction="none", dtype=np.float64)
    np.testing.assert_allclose(whole.nll(), losses, rtol=rtol)
    np.testing.assert_allclose(whole.logsumexp, crossent.logsumexp(x.astype(np.float64), -1), rtol=rtol)
    assert whole.shards == ((0, classes),)
    upstream = np.linspace(-1, 2, 70)
    _, grad = crossent.cross_entropy_and_grad(x, t, reduction="none", grad_output=upstream)
    for a, b in itertools.pairwise(cuts):
        own = sharded.gradient(x[:, a:b], t, whole, start=a, grad_output=upstream)
        assert own.dtype == x.dtype
        eps = float(np.finfo(np.float16).eps) if x.dtype.itemsize == 2 else np.finfo(x.dtype).eps
        eps = 2.0**-7 if x.dtype.name == "bfloat16" else eps
        np.testing.assert_allclose(
            own.astype(np.float64), grad[:, a:b].astype(np.float64), rtol=8 * eps, atol=eps**2
        )
        assert not own[t == -100].any()


@pytest.mark.parametrize(
    ("rows", "classes", "axis", "cut", "in_place"),
    crossed([(50,), (3, 4), ()], (5, 9, 120, 1400), (-1, 0), (1, 2, 3), (False, True), more=20),
)
def test_any_axis_and_layout(
    rows: tuple[int, ...], classes: int, axis: int, cut: int, in_place: bool
) -> None:
    x, t = problem(rows, classes, 7)
    x = np.moveaxis(x, -1, axis)
    cuts = [0, *sorted({cut, classes // 2}), classes]
    whole = merged(shards(x, t, cuts, axis))
    class_axis = axis % x.ndim
    losses, grad = crossent.cross_entropy_and_grad(x, t, axis=class_axis, reduction="none")
    np.testing.assert_allclose(whole.nll(), losses, rtol=1e-13)
    for a, b in itertools.pairwise(cuts):
        index = (*(slice(None),) * class_axis, slice(a, b))
        own = x[index].copy(order="F") if in_place else x[index]
        got = sharded.gradient(own, t, whole, start=a, axis=axis, grad_out=own if in_place else None)
        np.testing.assert_allclose(got, grad[index], rtol=1e-12, atol=1e-18)
        assert (got is own) == in_place


@pytest.mark.parametrize("cuts", CUTS)
def test_the_order_of_merging_changes_last_bits_at_most(cuts: Any) -> None:
    x, t = problem((200,), 9, 1)
    x[:20, ::3] = x[:20, :1]  # the same largest logit in several shards
    x[20:30] = np.round(x[20:30])
    parts = shards(x, t, cuts)
    losses = [merged(list(order)).nll() for order in itertools.permutations(parts)]
    for other in losses[1:]:
        np.testing.assert_allclose(other, losses[0], rtol=1e-15 * 4)
    for a, b in itertools.permutations(parts, 2):
        one, same = a.merge(b), b.merge(a)
        for name in ("maximum", "rest", "target_logit", "target"):
            np.testing.assert_array_equal(getattr(one, name), getattr(same, name))


def test_sure_rows_keep_their_digits() -> None:
    x = np.array([[0.0, 1.0, 40.0, 2.0], [700.0, -3.0, 0.0, 1.0], [0.5, 1.0, -2.0, 90.0]])
    t = np.array([2, 0, 3])
    for cuts in ((0, 2, 4), (0, 1, 2, 3, 4)):
        whole = merged(shards(x, t, cuts))
        grads = [sharded.gradient(x[:, a:b], t, whole, start=a) for a, b in itertools.pairwise(cuts)]
        for row, (target, loss, grad) in enumerate(
            zip(t, whole.nll(), np.concatenate(grads, axis=1), strict=True)
        ):
            with mpmath.workdps(400):
                e = [mpmath.exp(mpmath.mpf(float(v))) for v in x[row]]
                others = mpmath.fsum(e) - e[target]
                want = mpmath.log1p(others / e[target])
                assert abs(loss - want) / want < 1e-15
                for c in range(4):
                    slope = -others / mpmath.fsum(e) if c == target else e[c] / mpmath.fsum(e)
                    assert abs(grad[c] - slope) / abs(slope) < 4e-16 or abs(slope) < 1e-300


def test_what_is_not_finite_is_as_in_whole_rows() -> None:
    x = np.array(
        [
            [-INF, -INF, 1.0, 2.0],
            [0.0, 1.0, -INF, -INF],
            [-INF, -INF, -INF, -INF],
            [0.0, INF, 1.0, 2.0],
            [0.0, 1.0, NAN, 2.0],
            [INF, 0.0, INF, 0.0],
            [-INF, 3.0, -INF, -INF],
        ]
    )
    for target in range(4):
        t = np.full(7, target)
        whole = merged(shards(x, t, (0, 2, 4)))
        losses, grad = crossent.cross_entropy_and_grad(x, t, reduction="none")
        np.testing.assert_allclose(whole.nll(), losses, rtol=1e-15)
        np.testing.assert_allclose(whole.logsumexp, crossent.logsumexp(x, 1), rtol=1e-15)
        for a in (0, 2):
            own = sharded.gradient(x[:, a : a + 2], t, whole, start=a)
            np.testing.assert_allclose(own, grad[:, a : a + 2], rtol=1e-14)


def test_ignored_rows_have_no_effect() -> None:
    x, t = problem((40,), 9, 5)
    x[t == -100] = NAN
    whole = merged(shards(x, t, (0, 4, 9)))
    assert np.isfinite(whole.nll()).all()
    grad = sharded.gradient(x[:, :4], t, whole, start=0)
    assert np.isfinite(grad).all()
    assert not grad[t == -100].any()


def test_shards_of_different_dtypes_merge() -> None:
    x, t = problem((30,), 300, 9)
    left, right = x[:, :150].astype(np.float32), x[:, 150:]
    whole = sharded.partial(left, t, start=0).merge(sharded.partial(right, t, start=150))
    together = np.concatenate([left.astype(np.float64), right], axis=1)
    _, grad = crossent.cross_entropy_and_grad(together, t, reduction="sum")
    np.testing.assert_allclose(sharded.gradient(left, t, whole, start=0), grad[:, :150], rtol=1e-5)
    np.testing.assert_allclose(sharded.gradient(right, t, whole, start=150), grad[:, 150:], rtol=3e-7)


@pytest.mark.parametrize("given", [(0, 2), (1, 2), (0, 1)])
def test_a_missing_shard_is_an_error(given: tuple[int, int]) -> None:
    x, t = problem((8,), 9, 6)
    parts = [
        sharded.partial(x[:, a:b], np.minimum(t, 8), start=a, classes=9) for a, b in ((0, 3), (3, 6), (6, 9))
    ]
    kept = np.concatenate([np.arange(3 * i, 3 * i + 3) for i in given])
    ours = [dataclasses.replace(part, target=np.full(8, kept[0])) for part in parts]
    lacking = ours[given[0]].merge(ours[given[1]])
    with pytest.raises(
        ValueError, match=r"a shard is missing: got the classes .*, expected all 0 to 8; merge"
    ):
        lacking.nll()
    if given != (0, 1):  # without the number of classes nobody knows of a last one
        with pytest.raises(
            ValueError, match=r"a shard is missing: got the classes .*, expected all from 0 on"
        ):
            dataclasses.replace(lacking, classes=None).nll()


def test_shards_far_beyond_each_others_range_merge() -> None:
    t = np.array([2, 0, 1])
    left = np.array([[0.0, 1.0], [-INF, -INF], [1e9, 1e9 - 64]], np.float32)
    right = np.array([[1e300, 0.0], [-1e300, -1e300], [1e9 + 33, 0.0]])
    whole = sharded.partial(left, t, start=0).merge(sharded.partial(right, t, start=2))
    together = np.concatenate([left.astype(np.float64), right], axis=1)
    losses, grad = crossent.cross_entropy_and_grad(together, t, reduction="none")
    np.testing.assert_allclose(whole.nll(), losses, rtol=1e-14)
    np.testing.assert_allclose(sharded.gradient(left, t, whole, start=0), grad[:, :2], rtol=1e-6, atol=1e-38)
    np.testing.assert_allclose(sharded.gradient(right, t, whole, start=2), grad[:, 2:], rtol=1e-12)


def test_logits_near_the_ends_of_float64_warn_of_nothing() -> None:
    x, t = np.array([[1.7e308, -1.7e308, 0.0]]), np.array([1])
    whole = merged(shards(x, t, (0, 1, 3)))
    np.testing.assert_array_equal(whole.nll(), crossent.cross_entropy(x, t, reduction="none"))


def test_partial_sums_pass_between_processes() -> None:
    x, t = problem((3, 5), 9, 2)
    parts = shards(x, t, (0, 4, 9))
    empty = sharded.partial(np.zeros((3, 5, 0)), t, start=4)
    assert len({len(part.to_array()) for part in (*parts, empty)}) == 1
    for part in (*parts, merged(parts), empty, sharded.partial(x, t, start=0, classes=9)):
        for same in (sharded.Partial.from_array(part.to_array()), pickle.loads(pickle.dumps(part))):
            assert repr(same) == repr(part)
            for name in ("maximum", "rest", "target_logit", "target", "shards"):
                np.testing.assert_array_equal(getattr(same, name), getattr(part, name))
    # What an all-reduce makes of two of them is none.
    array = parts[0].to_array()
    mean, odd = (array + parts[1].to_array()) / 2, array.copy()
    odd[-1] = 0.5
    for bad in (
        array[:-1],
        array[1:],
        array.astype(np.float32),
        array[:1],
        np.array([]),
        array[np.newaxis],
        array * NAN,
        mean,
        odd,
    ):
        with pytest.raises(ValueError, match="not one that Partial"):
            sharded.Partial.from_array(bad)


def test_threads_change_no_bit() -> None:
    x, t = problem((900,), 500, 4, np.float32)
    before = crossent.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            crossent.set_num_threads(threads)
            for own in (x, np.asfortranarray(x)):
                part = sharded.partial(own[:, :200], t, start=0)
                whole = part.merge(sharded.partial(own[:, 200:], t, start=200))
                results.append((part.rest, whole.nll(), sharded.gradient(own[:, :200], t, whole, start=0)))
    finally:
        crossent.set_num_threads(before)
    for other in results[1:]:
        for one, same in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, same)


X, T = problem((6,), 9, 8)
LEFT, RIGHT = shards(X, T, (0, 4, 9))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: LEFT.merge(LEFT),
            ValueError,
            "both partial sums have the classes 0 to 3; merge each shard once",
        ),
        (lambda: LEFT.merge(sharded.partial(X[:, 3:], T, start=3)), ValueError, "the classes 3 to 3"),
        (lambda: LEFT.merge(3), TypeError, "merges with a Partial: got int"),
        (lambda: LEFT.merge(sharded.partial(X[:2, 4:], T[:2], start=4)), ValueError, "of different rows"),
        (lambda: LEFT.merge(sharded.partial(X[:, 4:], T + 1, start=4)), ValueError, "have different targets"),
        (
            lambda: LEFT.nll(),
            IndexError,
            r"expected one of the merged classes, 0 to 3, or ignore_index=-100; merge",
        ),
        (
            lambda: LEFT.merge(RIGHT).nll(ignore_index=1),
            IndexError,
            "target is out of range: got target.* = -100",
        ),
        (lambda: sharded.partial(X, T[:3], start=0), ValueError, r"target has the wrong shape: got \(3,\)"),
        (lambda: sharded.partial(X, T * 0.5, start=0), TypeError, "target"),
        (lambda: sharded.partial(X, T, start=-1), ValueError, "start is out of range"),
        (lambda: sharded.partial(X, T, start=0.5), TypeError, "start must be an integer"),
        (lambda: sharded.partial(X.astype(int), T, start=0), TypeError, "logits_shard must be floating"),
        (lambda: sharded.partial(1.0, 0, start=0), ValueError, "no axis of classes"),
        (lambda: sharded.partial(X, T, start=0, axis=2), IndexError, "axis is out of range"),
        (
            lambda: sharded.gradient(X[:, :4], T, LEFT, start=0),
            IndexError,
            "merge the partial sums of all shards",
        ),
        (
            lambda: sharded.gradient(X[:, :4], T, RIGHT, start=0),
            ValueError,
            "merged lacks classes of the shard",
        ),
        (
            lambda: sharded.gradient(X[:, :4], T[::-1], LEFT.merge(RIGHT), start=0),
            ValueError,
            "targets are not those",
        ),
        (lambda: sharded.gradient(X[:, :4], T, 3, start=0), TypeError, "merged must be a Partial"),
        (
            lambda: sharded.gradient(X[:, :4], T, LEFT.merge(RIGHT), start=0, grad_output=np.ones(3)),
            ValueError,
            "grad_output has the wrong shape",
        ),
        (
            lambda: sharded.gradient(X[:, :4], T, LEFT.merge(RIGHT), start=0, grad_out=np.ones((6, 5))),
            ValueError,
            "grad_out has the wrong shape",
        ),
    ],
)
def test_mistakes_are_named(call: Any, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        call()
