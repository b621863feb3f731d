"""Losses that are a function of the target's probability: their definitions, torch's gradients, limits, errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import crossent
import reference
from arrays import DTYPES, DType

Loss = Callable[..., Any]

# The function, its definition, the name of its option and values of it.
LOSSES: dict[str, tuple[Loss, Loss, Loss, str, tuple[float, ...]]] = {
    "focal_loss": (
        crossent.focal_loss,
        crossent.focal_loss_and_grad,
        reference.focal_loss,
        "gamma",
        (0.0, 0.5, 1.0, 2.0, 2.5, 3.0, 7.0),
    ),
    "poly_loss": (
        crossent.poly_loss,
        crossent.poly_loss_and_grad,
        reference.poly_loss,
        "epsilon",
        (-1.0, 0.0, 1.0, 6.0),
    ),
}
CASES = [(name, value) for name, (*_, values) in LOSSES.items() for value in values]


def rows(shape: tuple[int, ...], axis: int, seed: int, dtype: Any = np.float64) -> tuple[Any, Any, Any, Any]:
    """Logits, targets with ignored rows among them, class weights with a 0 among them, and a mask."""
    rng = np.random.default_rng(seed)
    classes = shape[axis]
    x = (rng.standard_normal(shape) * 4).astype(dtype)
    t = rng.integers(0, classes, shape[:axis] + shape[axis + 1 :])
    t[rng.random(t.shape) < 0.2] = -100
    weight = rng.random(classes)
    weight[rng.integers(classes)] = 0.0
    return x, t, weight, rng.random(t.shape) < 0.8


@pytest.mark.parametrize(("name", "value"), CASES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("shape", "axis"), [((70, 7), 1), ((3, 5, 40), 1), ((9, 300), 1), ((6, 11), 0)])
def test_values_are_those_of_the_definition(
    name: str, value: float, reduction: str, shape: tuple[int, ...], axis: int
) -> None:
    loss, _, definition, option, _ = LOSSES[name]
    x, t, weight, where = rows(shape, axis, 5)
    for given in ({}, {"weight": weight}, {"where": where}, {"weight": weight, "where": where}):
        options = {option: value, "reduction": reduction, "axis": axis, **given}
        got = loss(x, t, **options)
        np.testing.assert_allclose(got, definition(x, t, **options), rtol=1e-13, atol=0)


@pytest.mark.parametrize(("name", "value"), CASES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_narrow_dtypes_are_read_as_they_are(name: str, value: float, dtype: DType) -> None:
    loss, _, definition, option, _ = LOSSES[name]
    for classes in (2, 13, 200, 1500):
        x, t, *_ = rows((40, classes), 1, classes, dtype)
        want = definition(x.astype(np.float64), t, **{option: value}, reduction="none")
        got = loss(x, t, **{option: value}, reduction="none", dtype=np.float64)
        np.testing.assert_allclose(got, want, rtol=1e-13 if x.dtype == np.float64 else 2e-6, atol=1e-18)


@pytest.mark.parametrize(("name", "value"), CASES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gradients_are_those_of_torch(name: str, value: float, reduction: str) -> None:
    torch = pytest.importorskip("torch")
    _, and_grad, _, option, _ = LOSSES[name]
    for shape in ((50, 7), (20, 150), (4, 5, 9)):
        x, t, weight, where = rows(shape, 1, 11)
        leaf = torch.tensor(x, requires_grad=True)
        kept = torch.tensor(np.where(where, t, -100))
        ce = torch.nn.functional.cross_entropy(leaf, kept, reduction="none")
        p = torch.exp(-ce)
        each = (1 - p) ** value * ce if name == "focal_loss" else ce + value * (1 - p)
        counted = kept != -100
        w = torch.where(counted, torch.tensor(weight)[kept.clamp(min=0)], 0.0)
        losses = w * each
        upstream = np.linspace(-1, 2, t.size).reshape(t.shape) if reduction == "none" else 1.5
        if reduction == "none":
            (losses * torch.tensor(upstream)).sum().backward()
        else:
            ((losses.sum() / (w.sum() if reduction == "mean" else 1)) * upstream).backward()
        want = np.where(np.isnan(leaf.grad.numpy()), 0.0, leaf.grad.numpy())
        options = {option: value, "reduction": reduction, "where": where, "grad_output": upstream}
        loss, grad = and_grad(x, t, weight, **options)
        np.testing.assert_allclose(grad, want, rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(
            loss, LOSSES[name][0](x, t, weight, **{option: value}, reduction=reduction, where=where), rtol=0
        )
        over = x.copy()
        _, again = and_grad(over, t, weight, **options, grad_out=over)
        assert again is over
        np.testing.assert_array_equal(over, grad)


@pytest.mark.parametrize(("name", "value"), CASES)
def test_ignored_rows_have_no_effect(name: str, value: float) -> None:
    loss, and_grad, _, option, _ = LOSSES[name]
    x, t, *_ = rows((70, 9), 1, 3)
    spoilt = x.copy()
    spoilt[t == -100] = np.nan
    losses, grad = and_grad(spoilt, t, **{option: value}, reduction="none")
    assert np.isfinite(losses).all()
    assert np.isfinite(grad).all()
    assert not losses[t == -100].any()
    assert not grad[t == -100].any()
    np.testing.assert_array_equal(losses, loss(x, t, **{option: value}, reduction="none"))


@pytest.mark.parametrize(("name", "value"), CASES)
def test_limits_are_reached(name: str, value: float) -> None:
    _, and_grad, _, option, _ = LOSSES[name]
    x = np.array([[900.0, 0.0], [0.0, np.inf], [0.0, -np.inf], [-np.inf, 0.0], [np.nan, 0.0]])
    losses, grad = and_grad(x, np.zeros(5, int), **{option: value}, reduction="none")
    assert losses[0] == losses[2] == 0
    assert np.isnan(losses[1])
    assert losses[3] == np.inf
    assert np.isnan(losses[4])
    np.testing.assert_array_equal(grad[[0, 2]], 0)
    np.testing.assert_array_equal(grad[3], LOSS_OF_IMPOSSIBLE[name] * np.array([-1.0, 1.0]))


# The slope where the target has no probability.
LOSS_OF_IMPOSSIBLE = {"focal_loss": 1.0, "poly_loss": 1.0}


@pytest.mark.parametrize(("name", "value"), CASES)
def test_threads_and_layouts_change_no_bit(name: str, value: float) -> None:
    _, and_grad, _, option, _ = LOSSES[name]
    for classes in (5, 70, 400):
        x, t, *_ = rows((3000, classes), 1, 8, np.float32)
        before = crossent.get_num_threads()
        try:
            results = []
            for threads in (1, 2):
                crossent.set_num_threads(threads)
                results += [and_grad(given, t, **{option: value}) for given in (x, np.asfortranarray(x))]
        finally:
            crossent.set_num_threads(before)
        for loss, grad in results[1:]:
            assert loss == results[0][0]
            np.testing.assert_array_equal(grad, results[0][1])


@pytest.mark.parametrize("name", LOSSES)
def test_mistakes_are_told(name: str) -> None:
    loss, _, _, option, _ = LOSSES[name]
    x, t = np.zeros((3, 4)), np.zeros(3, int)
    with pytest.raises(TypeError, match=rf"{name} takes class indices"):
        loss(x, np.full((3, 4), 0.25))
    with pytest.raises(ValueError, match=rf"{option} is out of range: got nan"):
        loss(x, t, **{option: np.nan})
    with pytest.raises(IndexError, match="out of bounds"):
        loss(x, t + 4)
    with pytest.raises(ValueError, match="weight"):
        loss(x, t, np.ones(3))
    with pytest.raises(TypeError, match=f"{option} must be a number"):
        loss(x, t, **{option: "2"})


def test_a_negative_gamma_is_refused() -> None:
    with pytest.raises(ValueError, match="gamma is out of range: got -1"):
        crossent.focal_loss(np.zeros((3, 4)), np.zeros(3, int), gamma=-1.0)


@pytest.mark.parametrize("name", LOSSES)
def test_an_option_of_0_makes_it_the_cross_entropy(name: str) -> None:
    loss, and_grad, _, option, _ = LOSSES[name]
    for dtype in DTYPES:
        for classes in (2, 3, 20, 150, 1500):
            x, t, weight, _ = rows((70, classes), 1, classes, dtype)
            for w in (None, weight):
                for reduction in ("mean", "sum", "none"):
                    want, slope = crossent.cross_entropy_and_grad(x, t, w, reduction=reduction)
                    got, grad = and_grad(x, t, w, **{option: 0.0}, reduction=reduction)
                    np.testing.assert_array_equal(got, want)
                    np.testing.assert_array_equal(loss(x, t, w, **{option: 0.0}, reduction=reduction), want)
                    np.testing.assert_array_equal(grad, slope)


@pytest.mark.parametrize("epsilon", [-1.0, -0.9, -0.6, -0.5])
def test_poly_loss_keeps_its_digits_where_terms_cancel(epsilon: float) -> None:
    mpmath = pytest.importorskip("mpmath")
    gap = np.array([0.5, 1.0, 1.9, 2.0, 5.0, 12.0, 20.0, 40.0])
    x = np.stack([gap, np.zeros(gap.size)], axis=1)
    got, grad = crossent.poly_loss_and_grad(x, np.zeros(gap.size, int), epsilon=epsilon, reduction="none")
    with mpmath.workdps(60):
        miss = [1 / (1 + mpmath.exp(mpmath.mpf(d))) for d in gap]
        want = [float(-mpmath.log1p(-m) + mpmath.mpf(epsilon) * m) for m in miss]
        slope = [float((1 + mpmath.mpf(epsilon) * (1 - m)) * m) for m in miss]
    np.testing.assert_allclose(got, want, rtol=2e-15)
    np.testing.assert_allclose(grad[:, 1], slope, rtol=2e-15)


def test_confident_rows_keep_their_digits() -> None:
    gap = np.array([20.0, 40.0, 300.0])
    x = np.stack([gap, np.zeros(3)], axis=1)
    got = crossent.focal_loss(x, np.zeros(3, int), gamma=1.0, reduction="none")
    np.testing.assert_allclose(got, np.exp(-gap) * np.log1p(np.exp(-gap)) / (1 + np.exp(-gap)), rtol=1e-14)


def test_poly_loss_is_that_of_optax() -> None:
    """By the definition of `optax.losses.poly_loss_cross_entropy`, whose labels are distributions."""
    rng = np.random.default_rng(21)
    x, t = rng.standard_normal((40, 11)) * 3, rng.integers(11, size=40)
    labels = np.eye(11)[t]
    for epsilon in (-1.0, 0.5, 2.0):
        p = np.exp(x - x.max(axis=-1, keepdims=True))
        p /= p.sum(axis=-1, keepdims=True)
        one_minus_pt = np.sum(labels * (1.0 - p), axis=-1)
        cross_entropy = -np.sum(labels * np.log(p), axis=-1)
        expected = cross_entropy + epsilon * one_minus_pt
        got = crossent.poly_loss(x, t, epsilon=epsilon, reduction="none")
        np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-13)
