"""What must hold for any input: drawn shapes and values, with infinities, nans and huge numbers among them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import crossent
import reference
from arrays import SAME_VALUES, Array

# Rows of one class, and of log-probabilities that are none, are drawn too.
pytestmark = pytest.mark.filterwarnings("ignore::crossent.LikelyMistakeWarning")

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
SMOOTHING = st.sampled_from([0.0, 0.1, 0.75, 1.0])
REDUCTION = st.sampled_from(["none", "mean", "sum"])
# Vectors of every width, whole and with a rest, and rows of more than one block.
WIDTH = st.one_of(st.integers(1, 70), st.sampled_from([100, 1030]))

calm = st.floats(-30, 30, width=32)
wild = st.one_of(
    calm,
    st.floats(allow_nan=True, allow_infinity=True, width=32),
    st.sampled_from(
        [math.inf, -math.inf, math.nan, *np.array([3e38, -3e38, 1e-40], "f4").tolist(), 0.0, -0.0]
    ),
)
eighths = st.integers(-(2**13), 2**13).map(lambda n: n / 8)


@st.composite
def rows(draw: st.DrawFn, elements: st.SearchStrategy[float] = calm, least: int = 1) -> Array:
    """A batch of rows in float32 or float64; most numbers of wide rows are the same."""
    dtype = draw(st.sampled_from([FLOAT32, FLOAT64]))
    shape = draw(st.integers(1, 6)), max(least, draw(WIDTH))
    return draw(hnp.arrays(dtype, shape, elements=elements, fill=elements))


@st.composite
def labelled(
    draw: st.DrawFn, elements: st.SearchStrategy[float] = calm, least: int = 1
) -> tuple[Array, Array]:
    """Rows and a target for each of them."""
    x = draw(rows(elements, least))
    return x, draw(hnp.arrays(np.int64, len(x), elements=st.integers(0, x.shape[1] - 1)))


def _rng(x: Array) -> np.random.Generator:
    """Further numbers, which need not shrink."""
    return np.random.default_rng(x.shape)


def _weight(x: Array) -> Array:
    return _rng(x).uniform(0.25, 1.25, x.shape[1:])


def _near(actual: Any, expected: Any, dtype: Any, *, scale: float = 1.0, ulp: float = 8.0) -> None:
    """Within a few units in the last place of each number, or of `scale` times the smallest normal one."""
    info = np.finfo(dtype)
    with np.errstate(over="ignore"):
        expected = np.asarray(expected, np.float64).astype(dtype)
    np.testing.assert_allclose(
        np.asarray(actual), expected, rtol=ulp * float(info.eps), atol=float(info.smallest_normal) * scale
    )


# ---- the reference, wherever the numbers lie ------------------------------------------------------------


@given(labelled(wild), SMOOTHING, st.booleans(), st.booleans())
def test_a_loss_is_the_references_for_any_numbers(
    drawn: tuple[Array, Array], smoothing: float, weighted: bool, soft: bool
) -> None:
    x, t = drawn
    weight = _rng(x).choice([0.0, 0.5, 2.0], x.shape[1]) if weighted else None
    target = (
        np.eye(x.shape[1])[t] * 0.75 + 0.25 * _rng(x).dirichlet(np.ones(x.shape[1]), len(x)) if soft else t
    )
    options: dict[str, Any] = {"reduction": "none", "label_smoothing": smoothing}
    expected = reference.cross_entropy(x, target, weight, **options)
    for view in (x, np.asfortranarray(x)):
        _near(crossent.cross_entropy(view, target, weight, **options), expected, x.dtype, ulp=16)
    plain = crossent.nll_loss(x, t, weight, reduction="none")
    _near(plain, reference.nll_loss(x, t, weight, reduction="none"), x.dtype)


@given(rows(wild))
def test_rows_are_the_references_for_any_numbers(x: Array) -> None:
    for view in (x, np.asfortranarray(x)):
        _near(crossent.log_softmax(view), reference.log_softmax(x), x.dtype)
        _near(crossent.softmax(view), reference.softmax(x), x.dtype)
        _near(crossent.log_sigmoid(view), reference.log_sigmoid(x), x.dtype)
    # Where the largest logit and the logarithm cancel, in units of the logit.
    expected = reference.logsumexp(x, 1)
    largest = np.abs(x.max(axis=1, initial=1.0, where=np.isfinite(x)).astype(np.float64))
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.abs(crossent.logsumexp(x, 1).astype(np.float64) - expected.astype(x.dtype))
    finite = np.isfinite(expected.astype(x.dtype))
    assert (off[finite] <= 8 * np.finfo(x.dtype).eps * np.maximum(largest, np.abs(expected))[finite]).all()
    np.testing.assert_array_equal(crossent.logsumexp(x, 1)[~finite], expected[~finite].astype(x.dtype))


@given(
    hnp.array_shapes(min_dims=1, max_dims=5, min_side=0, max_side=6),
    st.data(),
    SMOOTHING,
    REDUCTION,
)
def test_any_shape_and_axis_and_mask_give_the_references_loss(
    shape: tuple[int, ...], data: st.DataObject, smoothing: float, reduction: str
) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    assume(shape[axis] > 0)
    rng = np.random.default_rng(shape)
    x = rng.standard_normal(shape) * 3
    losses = tuple(map(int, np.delete(shape, axis)))
    t = np.asarray(rng.integers(0, shape[axis], losses))
    where = np.asarray(data.draw(hnp.arrays(bool, losses)))
    p = np.moveaxis(rng.dirichlet(np.ones(shape[axis]), losses), -1, axis)
    for target in (t, p):
        options: dict[str, Any] = {
            "axis": axis,
            "reduction": reduction,
            "label_smoothing": smoothing,
            "where": where,
        }
        actual = crossent.cross_entropy(x, target, **options)
        expected = reference.cross_entropy(x, target, **options)
        assert np.shape(actual) == np.shape(expected)
        np.testing.assert_allclose(actual, expected, rtol=1e-13)


# ---- what changes nothing -------------------------------------------------------------------------------


@given(labelled(eighths), st.integers(-(2**20), 2**20), SMOOTHING)
def test_a_constant_added_to_the_logits_changes_nothing(
    drawn: tuple[Array, Array], constant: int, smoothing: float
) -> None:
    x, t = drawn[0].astype(np.float64), drawn[1]
    assert np.array_equal((x + constant) - constant, x)
    options: dict[str, Any] = {"reduction": "none", "label_smoothing": smoothing}
    loss, gradient = crossent.cross_entropy_and_grad(x, t, **options)
    moved_loss, moved = crossent.cross_entropy_and_grad(x + constant, t, **options)
    _near(moved_loss, loss, FLOAT64)
    np.testing.assert_allclose(moved, gradient, rtol=1e-13, atol=1e-15)
    _near(crossent.log_softmax(x + constant), crossent.log_softmax(x), FLOAT64)
    np.testing.assert_allclose(
        crossent.logsumexp(x + constant, 1) - constant, crossent.logsumexp(x, 1), atol=1e-9
    )


@given(labelled(), st.randoms(use_true_random=False), SMOOTHING)
def test_the_order_of_the_classes_does_not_matter(
    drawn: tuple[Array, Array], random: Any, smoothing: float
) -> None:
    x, t = drawn
    order = np.array(random.sample(range(x.shape[1]), x.shape[1]))
    weight = _weight(x)
    place = np.argsort(order)
    for reduction in ("none", "mean"):
        options: dict[str, Any] = {"reduction": reduction, "label_smoothing": smoothing}
        loss, gradient = crossent.cross_entropy_and_grad(x, t, weight, **options)
        other, moved = crossent.cross_entropy_and_grad(x[:, order], place[t], weight[order], **options)
        _near(other, loss, x.dtype)
        eps = float(np.finfo(x.dtype).eps)
        np.testing.assert_allclose(moved[:, place], gradient, rtol=32 * eps, atol=4 * eps)


@given(labelled(wild), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_change_a_bit(drawn: tuple[Array, Array], random: Any) -> None:
    x, t = drawn
    order = np.array(random.sample(range(len(x)), len(x)))
    loss, gradient = crossent.cross_entropy_and_grad(x, t, reduction="none")
    other, moved = crossent.cross_entropy_and_grad(x[order], t[order], reduction="none")
    assert other.tobytes() == loss[order].tobytes()
    np.testing.assert_array_equal(moved, gradient[order])


@given(labelled(wild), st.sampled_from(list(SAME_VALUES)), SMOOTHING, REDUCTION)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_a_layout_does_not_change_a_bit(
    drawn: tuple[Array, Array], layout: str, smoothing: float, reduction: str
) -> None:
    x, t = drawn
    lay = SAME_VALUES[layout]
    options: dict[str, Any] = {"reduction": reduction, "label_smoothing": smoothing}
    loss, gradient = crossent.cross_entropy_and_grad(x, t, **options)
    other, moved = crossent.cross_entropy_and_grad(lay(x), lay(t), **options)
    np.testing.assert_array_equal(other, loss)
    np.testing.assert_array_equal(moved, gradient)
    p = np.abs(np.nan_to_num(x, nan=0.5, posinf=1, neginf=0)).clip(0, 1)
    for key in ("binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div"):
        twin = getattr(crossent, f"{key}_and_grad")
        first = p if key == "binary_cross_entropy" else x
        loss, gradient = twin(first, p, reduction=reduction)
        other, moved = twin(lay(first), lay(p), reduction=reduction)
        np.testing.assert_array_equal(other, loss)
        np.testing.assert_array_equal(moved, gradient)


@given(labelled(wild), st.data(), SMOOTHING, REDUCTION)
def test_what_an_ignored_row_holds_changes_nothing_and_its_gradient_is_0(
    drawn: tuple[Array, Array], data: st.DataObject, smoothing: float, reduction: str
) -> None:
    garbage, t = drawn
    x = np.nan_to_num(garbage, nan=1, posinf=2, neginf=-2).clip(-50, 50)
    counted = data.draw(hnp.arrays(bool, len(x)))
    options: dict[str, Any] = {"reduction": reduction, "label_smoothing": smoothing}
    loss, gradient = crossent.cross_entropy_and_grad(x, np.where(counted, t, -100), **options)
    spoilt = np.where(counted[:, np.newaxis], x, garbage)
    for masked in (
        crossent.cross_entropy_and_grad(spoilt, np.where(counted, t, -100), **options),
        crossent.cross_entropy_and_grad(spoilt, np.where(counted, t, 10**9), where=counted, **options),
    ):
        np.testing.assert_array_equal(masked[0], loss)
        np.testing.assert_array_equal(masked[1], gradient)
    assert not gradient[~counted].any()
    if reduction == "none":
        assert not loss[~counted].any()


# ---- how results go together ----------------------------------------------------------------------------


@given(labelled(), st.booleans(), SMOOTHING)
def test_a_mean_is_the_sum_over_the_weights(
    drawn: tuple[Array, Array], weighted: bool, smoothing: float
) -> None:
    x, t = drawn[0].astype(np.float64), drawn[1]
    weight = _weight(x) if weighted else None
    divisor = len(t) if weight is None else weight[t].sum()
    options: dict[str, Any] = {"label_smoothing": smoothing}
    mean, gradient = crossent.cross_entropy_and_grad(x, t, weight, **options)
    total, whole = crossent.cross_entropy_and_grad(x, t, weight, reduction="sum", **options)
    each = crossent.cross_entropy(x, t, weight, reduction="none", **options)
    _near(mean, total / divisor, FLOAT64)
    _near(total, math.fsum(each), FLOAT64)
    np.testing.assert_allclose(gradient, whole / divisor, rtol=1e-13, atol=2e-16)  # shares cancel
    parts = [crossent.cross_entropy(x[i:], t[i:], weight, reduction="sum", **options) for i in range(2)]
    _near(parts[0], parts[1] + each[0], FLOAT64)


@given(labelled(least=2))
def test_a_gradient_sums_to_0_and_has_one_negative_entry(drawn: tuple[Array, Array]) -> None:
    x, t = drawn[0].astype(np.float64), drawn[1]
    gradient = crossent.cross_entropy_and_grad(x, t, reduction="sum")[1]
    np.testing.assert_allclose([math.fsum(row) for row in gradient], 0.0, atol=1e-15)
    at = np.arange(len(t))
    # To the digits of the smallest share, not of 1.
    others = gradient.copy()
    others[at, t] = 0
    _near(gradient[at, t], [-math.fsum(row) for row in others], FLOAT64)
    assert (others >= 0).all()
    assert (gradient[at, t] <= 0).all()


@given(labelled(), SMOOTHING, st.floats(-4, 4), st.booleans())
def test_a_gradient_is_linear_in_grad_output(
    drawn: tuple[Array, Array], smoothing: float, factor: float, weighted: bool
) -> None:
    x, t = drawn[0].astype(np.float64), drawn[1]
    weight = _weight(x) if weighted else None
    upstream = _rng(x).standard_normal(len(x))
    options: dict[str, Any] = {"reduction": "none", "label_smoothing": smoothing}
    ones = crossent.cross_entropy_and_grad(x, t, weight, **options)[1]
    scaled = crossent.cross_entropy_and_grad(x, t, weight, grad_output=upstream, **options)[1]
    np.testing.assert_allclose(scaled, upstream[:, np.newaxis] * ones, rtol=1e-12, atol=4e-15)
    doubled = crossent.cross_entropy_and_grad(x, t, weight, grad_output=2 * upstream, **options)[1]
    np.testing.assert_allclose(doubled, 2 * scaled, rtol=1e-15, atol=1e-300)
    for reduction in ("mean", "sum"):
        options["reduction"] = reduction
        once = crossent.cross_entropy_and_grad(x, t, weight, **options)[1]
        times = crossent.cross_entropy_and_grad(x, t, weight, grad_output=factor, **options)[1]
        np.testing.assert_allclose(times, factor * once, rtol=1e-12, atol=4e-15)


@given(labelled(), st.booleans(), SMOOTHING, REDUCTION)
def test_probabilities_of_0_and_1_are_indices(
    drawn: tuple[Array, Array], smoothed_by_hand: bool, smoothing: float, reduction: str
) -> None:
    x, t = drawn[0].astype(np.float64), drawn[1]
    classes = x.shape[1]
    p = np.eye(classes)[t]
    options: dict[str, Any] = {"reduction": reduction, "label_smoothing": smoothing}
    loss, gradient = crossent.cross_entropy_and_grad(x, t, **options)
    if smoothed_by_hand:
        p = (1 - smoothing) * p + smoothing / classes
        options["label_smoothing"] = 0.0
    soft_loss, soft = crossent.cross_entropy_and_grad(x, p, **options)
    np.testing.assert_allclose(soft_loss, loss, rtol=1e-13, atol=1e-300)
    np.testing.assert_allclose(soft, gradient, rtol=1e-12, atol=1e-15)


@given(labelled(), st.floats(0, 1))
def test_smoothing_mixes_the_loss_with_the_even_one(drawn: tuple[Array, Array], smoothing: float) -> None:
    x, t = drawn[0].astype(np.float64), drawn[1]
    plain, even, mixed = (
        crossent.cross_entropy(x, t, reduction="none", label_smoothing=e) for e in (0.0, 1.0, smoothing)
    )
    np.testing.assert_allclose(mixed, (1 - smoothing) * plain + smoothing * even, rtol=1e-13, atol=1e-300)


@given(labelled())
def test_a_loss_is_minus_log_softmax_and_lies_between_its_bounds(drawn: tuple[Array, Array]) -> None:
    x, t = drawn[0].astype(np.float64), drawn[1]
    log_p = crossent.log_softmax(x)
    loss = crossent.cross_entropy(x, t, reduction="none")
    _near(crossent.nll_loss(log_p, t, reduction="none"), loss, FLOAT64)
    _near(crossent.softmax(x), np.exp(log_p), FLOAT64, ulp=256)
    np.testing.assert_allclose(crossent.softmax(x).sum(axis=1), 1.0, rtol=1e-14)
    np.testing.assert_allclose(crossent.logsumexp(log_p, 1), 0.0, atol=1e-13)
    np.testing.assert_allclose(log_p + crossent.logsumexp(x, 1)[:, np.newaxis], x, rtol=1e-14, atol=1e-13)
    own = x[np.arange(len(t)), t]
    slack = 1e-12
    assert (loss >= 0).all()
    assert (loss >= x.max(axis=1) - own - slack).all()
    assert (loss <= x.max(axis=1) - own + math.log(x.shape[1]) + slack).all()


@given(labelled())
def test_the_gradient_of_nll_loss_is_minus_the_weight_at_the_target(drawn: tuple[Array, Array]) -> None:
    x, t = drawn
    weight = _weight(x)
    expected = np.zeros(x.shape)
    expected[np.arange(len(t)), t] = -weight[t]
    gradient = crossent.nll_loss_and_grad(x, t, weight, reduction="sum")[1]
    np.testing.assert_array_equal(gradient, expected.astype(x.dtype))
    _near(crossent.nll_loss_and_grad(x, t, weight)[1], expected / weight[t].sum(), x.dtype)


# ---- losses of single elements --------------------------------------------------------------------------


@given(
    hnp.arrays(FLOAT64, hnp.array_shapes(max_dims=3, min_side=0, max_side=7), elements=calm), st.booleans()
)
def test_a_binary_loss_of_logits_is_the_loss_of_two_classes(x: Array, soft: bool) -> None:
    rng = _rng(x)
    t = rng.random(x.shape) if soft else (rng.random(x.shape) < 0.5).astype(np.float64)
    loss, gradient = crossent.binary_cross_entropy_with_logits_and_grad(x, t, reduction="none")
    pair = np.stack([np.zeros_like(x), x], axis=-1)
    target = np.stack([1 - t, t], axis=-1) if soft else t.astype(np.int64)
    both, slope = crossent.cross_entropy_and_grad(pair, target, axis=-1, reduction="none")
    np.testing.assert_allclose(loss, both, rtol=1e-14, atol=1e-300)
    np.testing.assert_allclose(gradient, slope[..., 1], rtol=1e-13, atol=1e-16)
    np.testing.assert_allclose(
        crossent.binary_cross_entropy_with_logits(-x, 1 - t, reduction="none"), loss, rtol=1e-13
    )


@given(
    hnp.arrays(FLOAT64, (7,), elements=st.floats(-20, 20)),
    hnp.arrays(FLOAT64, (7,), elements=st.floats(0, 1)),
)
def test_a_binary_loss_of_probabilities_is_that_of_their_logits(x: Array, t: Array) -> None:
    p = np.exp(crossent.log_sigmoid(x))
    loss = crossent.binary_cross_entropy(p, t, reduction="none")
    # What 1 - p has lost is lost.
    slack = 4e-16 * np.exp(np.abs(x))
    expected = crossent.binary_cross_entropy_with_logits(x, t, reduction="none")
    assert (np.abs(loss - expected) <= 1e-14 * expected + slack).all()
    _near(crossent.binary_cross_entropy(p, t, clamp=None, reduction="none"), loss, FLOAT64)


@given(rows(), st.floats(0.1, 3))
def test_a_divergence_of_distributions_is_at_least_0_and_0_for_the_same(x: Array, sharper: float) -> None:
    x = x.astype(np.float64)
    log_q, log_p = crossent.log_softmax(x), crossent.log_softmax(np.roll(x, 1, axis=1) * sharper)
    p = np.exp(log_p)
    for target, log_target in ((p, False), (log_p, True)):
        options: dict[str, Any] = {"log_target": log_target, "reduction": "none"}
        assert (crossent.kl_div(log_q, target, **options).sum(axis=1) >= -1e-13).all()
        np.testing.assert_allclose(crossent.kl_div(log_p, target, **options), 0.0, atol=1e-14)
    # The loss of p under q is the entropy of p and the divergence.
    cross = crossent.cross_entropy(x, p, reduction="sum")
    entropy = -(p * log_p).sum()
    divergence = crossent.kl_div(log_q, p, reduction="sum")
    np.testing.assert_allclose(divergence + entropy, cross, rtol=1e-11, atol=1e-12)


@pytest.mark.filterwarnings("ignore:.*kl_div takes log-probabilities")
@given(hnp.arrays(FLOAT64, (2, 5), elements=wild), hnp.arrays(FLOAT64, (2, 5), elements=wild), st.booleans())
def test_likelihoods_and_divergences_are_the_references_for_any_numbers(
    x: Array, t: Array, option: bool
) -> None:
    with np.errstate(all="ignore"):
        for key, options in (
            ("kl_div", {"log_target": option}),
            ("poisson_nll_loss", {"full": option}),
            ("poisson_nll_loss", {"full": option, "log_input": False}),
            ("gaussian_nll_loss", {"full": option, "var": 0.5}),
            ("binary_cross_entropy_with_logits", {}),
        ):
            expected = getattr(reference, key)(x, t, reduction="none", **options)
            got = getattr(crossent, key)(x, t, reduction="none", **options)
            np.testing.assert_array_equal(np.isnan(got), np.isnan(expected), err_msg=key)
            # In units of the larger of the terms that cancel.
            size = np.maximum(np.abs(expected), np.nan_to_num(np.abs(x * t) + np.abs(t) + np.abs(x), nan=1.0))
            off = np.abs(got - expected)
            near = (got == expected) | np.isnan(expected) | (off <= 1e-12 * size)
            assert near.all(), key


@given(hnp.arrays(FLOAT64, (6,), elements=calm), hnp.arrays(FLOAT64, (6,), elements=calm))
def test_likelihoods_know_their_symmetries(x: Array, t: Array) -> None:
    gaussian = crossent.gaussian_nll_loss(x, t, 0.7, reduction="none")
    np.testing.assert_array_equal(crossent.gaussian_nll_loss(t, x, 0.7, reduction="none"), gaussian)
    np.testing.assert_array_equal(crossent.gaussian_nll_loss(-x, -t, 0.7, reduction="none"), gaussian)
    counts, rate = np.abs(t).round(), x.clip(-5, 5)
    by_logarithm = crossent.poisson_nll_loss(rate, counts, reduction="none", full=True)
    by_rate = crossent.poisson_nll_loss(
        np.exp(rate), counts, log_input=False, eps=0.0, reduction="none", full=True
    )
    np.testing.assert_allclose(by_rate, by_logarithm, rtol=1e-12, atol=1e-12)
