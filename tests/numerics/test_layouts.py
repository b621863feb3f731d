"""Where the numbers lie in memory, which axis holds the classes, and how rows are batched: the bits do not change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import crossent
from arrays import DTYPES, SAME_VALUES, WIDTHS, Array, DType, logits, name, probabilities

pytestmark = pytest.mark.filterwarnings("ignore::crossent.LikelyMistakeWarning")

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=name)
every_width = pytest.mark.parametrize("width", WIDTHS)


def _bits(x: Any) -> bytes:
    return np.ascontiguousarray(x).tobytes()


def _row_count(width: int) -> int:
    return 24 if width > 500 else 120


Loss = Callable[..., Any]


def _losses(width: int, rng: np.random.Generator) -> Iterator[tuple[str, Loss]]:
    """Each of them takes logits, indices, probabilities, the class axis and a reduction."""
    w = rng.random(width).astype(np.float32)

    def indices(x: Array, t: Array, p: Array, axis: int, reduction: str) -> Any:
        return crossent.cross_entropy(x, t, axis=axis, reduction=reduction)

    def smoothed(x: Array, t: Array, p: Array, axis: int, reduction: str) -> Any:
        return crossent.cross_entropy(x, t, w, axis=axis, reduction=reduction, label_smoothing=0.1)

    def soft(x: Array, t: Array, p: Array, axis: int, reduction: str) -> Any:
        return crossent.cross_entropy(x, p, axis=axis, reduction=reduction)

    def soft_smoothed(x: Array, t: Array, p: Array, axis: int, reduction: str) -> Any:
        return crossent.cross_entropy(x, p, w, axis=axis, reduction=reduction, label_smoothing=0.1)

    def nll(x: Array, t: Array, p: Array, axis: int, reduction: str) -> Any:
        return crossent.nll_loss(x, t, w, axis=axis, reduction=reduction)

    for function in (indices, smoothed, soft, soft_smoothed, nll):
        yield function.__name__, function


def _data(width: int, dtype: DType) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(width)
    rows = _row_count(width)
    x = logits(rng, (rows, width), dtype)
    t = rng.integers(0, width, rows)
    t[::7] = -100
    return x, t, probabilities(rng, (rows, width), 1, dtype)


def _shapes(x: Array) -> Iterator[tuple[str, Array, int]]:
    """The rows of (N, C) as images and along every class axis, in C and other orders; and the class axis."""
    rows, width = x.shape
    image = x.reshape(2, rows // 6, 3, width)
    yield "image", np.ascontiguousarray(np.moveaxis(image, -1, 1)), 1
    yield "image, classes last in memory", np.moveaxis(np.ascontiguousarray(image), -1, 1), 1
    yield "sequence", np.ascontiguousarray(np.moveaxis(x.reshape(rows // 4, 4, width), -1, 1)), 1
    for axis in range(4):
        yield f"class axis {axis}", np.ascontiguousarray(np.moveaxis(image, -1, axis)), axis
    yield "transposed", np.ascontiguousarray(x.T), 0
    yield "one image row", np.ascontiguousarray(x.T)[np.newaxis], 1


@every_width
@every_dtype
def test_a_layout_does_not_change_the_bits_of_a_loss(dtype: DType, width: int) -> None:
    x, t, p = _data(width, dtype)
    for label, loss in _losses(width, np.random.default_rng(0)):
        for reduction in ("none", "mean", "sum"):
            expected = _bits(loss(x, t, p, 1, reduction))
            for key, layout in SAME_VALUES.items():
                assert _bits(loss(layout(x), layout(t), layout(p), 1, reduction)) == expected, (label, key)


@every_width
@every_dtype
def test_a_class_axis_does_not_change_the_bits_of_a_loss(dtype: DType, width: int) -> None:
    x, t, p = _data(width, dtype)
    for label, loss in _losses(width, np.random.default_rng(0)):
        for reduction in ("none", "mean", "sum"):
            expected = _bits(loss(x, t, p, 1, reduction))
            for (key, view, axis), (_, soft, _) in zip(_shapes(x), _shapes(p), strict=True):
                targets = t.reshape(np.delete(view.shape, axis))
                assert _bits(loss(view, targets, soft, axis, reduction)) == expected, (label, key)


@every_width
@every_dtype
def test_a_row_alone_has_the_bits_of_the_row_in_a_batch(dtype: DType, width: int) -> None:
    x, t, p = _data(width, dtype)
    for label, loss in _losses(width, np.random.default_rng(0)):
        whole = loss(x, t, p, 1, "none")
        for batch in (1, 5, 8):
            parts = [
                loss(x[i : i + batch], t[i : i + batch], p[i : i + batch], 1, "none")
                for i in range(0, len(x), batch)
            ]
            assert _bits(np.concatenate(parts)) == _bits(whole), (label, batch)
        alone = [loss(x[i], t[i], p[i], 0, "none") for i in range(len(x))]
        assert _bits(np.array(alone)) == _bits(whole), label
        for batch in (1, 5):  # columns, each at another place in its vectors
            parts = [
                loss(x.T[:, i : i + batch], t[i : i + batch], p.T[:, i : i + batch], 0, "none")
                for i in range(0, len(x), batch)
            ]
            assert _bits(np.concatenate(parts)) == _bits(whole), (label, batch)


@every_dtype
def test_a_broadcast_row_has_the_bits_of_its_copies(dtype: DType) -> None:
    for width in WIDTHS:
        x, t, p = _data(width, dtype)
        for label, loss in _losses(width, np.random.default_rng(0)):
            views = [np.broadcast_to(a[3], a.shape) for a in (x, p)]
            copies = [np.ascontiguousarray(view) for view in views]
            for reduction in ("none", "mean", "sum"):
                expected = _bits(loss(copies[0], t, copies[1], 1, reduction))
                assert _bits(loss(views[0], t, views[1], 1, reduction)) == expected, label
            same_logit = np.broadcast_to(x[:, :1], x.shape)
            expected = _bits(loss(np.ascontiguousarray(same_logit), t, p, 1, "none"))
            assert _bits(loss(same_logit, t, p, 1, "none")) == expected, label


@every_width
@every_dtype
def test_a_layout_does_not_change_the_bits_of_rows(dtype: DType, width: int) -> None:
    x, _, _ = _data(width, dtype)
    for function in (crossent.log_softmax, crossent.softmax):
        expected = function(x, 1)
        for key, layout in SAME_VALUES.items():
            assert _bits(function(layout(x), 1)) == _bits(expected), key
        for key, view, axis in _shapes(x):
            rows = np.moveaxis(function(view, axis), axis, -1)
            assert _bits(rows) == _bits(expected), key
        alone = np.stack([function(row) for row in x])
        assert _bits(alone) == _bits(expected)
    sums = crossent.logsumexp(x, 1)
    for key, layout in SAME_VALUES.items():
        assert _bits(crossent.logsumexp(layout(x), 1)) == _bits(sums), key
    for key, view, axis in _shapes(x):
        assert _bits(crossent.logsumexp(view, axis)) == _bits(sums), key
    assert _bits(np.array([crossent.logsumexp(row) for row in x])) == _bits(sums)
    signs = crossent.log_sigmoid(x)
    for key, layout in SAME_VALUES.items():
        assert _bits(crossent.log_sigmoid(layout(x))) == _bits(signs), key
    assert _bits(np.stack([crossent.log_sigmoid(row) for row in x])) == _bits(signs)


@every_dtype
def test_summing_over_several_axes_has_the_bits_of_summing_over_one(dtype: DType) -> None:
    x = logits(np.random.default_rng(1), (3, 4, 5, 26), dtype)
    expected = _bits(crossent.logsumexp(x.reshape(3, 4, 130), 2))
    # Axes that do not follow each other in memory are summed one after the other, in float64: for float64
    # input that is one rounding more.
    for layout in SAME_VALUES.values():
        for axes in ((2, 3), (-1, -2)):
            sums = crossent.logsumexp(layout(x), axes)
            if dtype == np.float64:
                np.testing.assert_array_max_ulp(sums, crossent.logsumexp(x.reshape(3, 4, 130), 2), 2)
            else:
                assert _bits(sums) == expected


@every_dtype
def test_targets_and_weights_of_any_layout(dtype: DType) -> None:
    x, t, p = _data(65, dtype)
    w = np.linspace(0.5, 1.5, 65).astype(dtype)
    where = t >= 0
    expected = _bits(crossent.cross_entropy(x, t, w, where=where))
    expected_soft = _bits(crossent.cross_entropy(x, p, w, where=where))
    for key, layout in SAME_VALUES.items():
        indices, masks = layout(t), layout(where)
        assert _bits(crossent.cross_entropy(x, indices, layout(w), where=masks)) == expected, key
        assert _bits(crossent.cross_entropy(x, layout(p), layout(w), where=masks)) == expected_soft, key
    one_target = np.broadcast_to(t[1], t.shape)
    assert _bits(crossent.cross_entropy(x, one_target)) == _bits(crossent.cross_entropy(x, one_target.copy()))


@every_dtype
def test_the_address_of_the_first_number_does_not_change_the_bits(dtype: DType) -> None:
    for width in (2, 10, 65, 1030):
        x, t, _ = _data(width, dtype)
        expected = _bits(crossent.cross_entropy(x, t, reduction="none"))
        rows = _bits(crossent.log_softmax(x))
        for shift in range(1, 17):
            buffer = np.empty(x.size + shift, dtype)
            moved = buffer[shift:].reshape(x.shape)
            moved[...] = x
            assert _bits(crossent.cross_entropy(moved, t, reduction="none")) == expected
            assert _bits(crossent.log_softmax(moved)) == rows
