"""The focal loss of logits: torchvision's formula, its gradient, digits at both ends, limits and errors."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest

import crossent
import reference
from arrays import BFLOAT16, DTYPES, Array, DType, loss_dtype, name
from levels import FUSED, Call, results_at_levels
from optional import F, torch
from ulp import ulp_error

INF, NAN = np.inf, np.nan
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
GAMMAS = (0.0, 0.5, 1.0, 2.0, 2.5, 3.0, 4.0, 5.0)


def torchvisions(
    input: Any, target: Any, *, alpha: float = 0.25, gamma: float = 2.0, reduction: str = "none"
) -> Any:
    """`torchvision.ops.sigmoid_focal_loss`, as it is written there."""
    p = torch.sigmoid(input)
    ce = F.binary_cross_entropy_with_logits(input, target, reduction="none")
    p_t = p * target + (1 - p) * (1 - target)
    loss = ce * ((1 - p_t) ** gamma)
    if alpha >= 0:
        loss = (alpha * target + (1 - alpha) * (1 - target)) * loss
    return {"none": loss, "mean": loss.mean(), "sum": loss.sum()}[reduction]


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("alpha", [0.25, 0.0, 1.0, -1])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_it_is_torchvisions_and_its_gradient_autograds(gamma: float, alpha: float, reduction: str) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((7, 31)) * 4
    for t in (rng.random(x.shape), (rng.random(x.shape) < 0.3).astype(float)):
        upstream = rng.random(x.shape) if reduction == "none" else np.asarray(0.3)
        tensor = torch.from_numpy(x.copy()).requires_grad_()
        options: Any = {"alpha": alpha, "gamma": gamma, "reduction": reduction}
        expected = torchvisions(tensor, torch.from_numpy(t), **options)
        expected.backward(torch.from_numpy(upstream))
        loss, gradient = crossent.sigmoid_focal_loss_and_grad(x, t, grad_output=upstream, **options)
        np.testing.assert_allclose(loss, expected.detach().numpy(), rtol=1e-10)
        np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-9, atol=1e-13)
        alone = crossent.sigmoid_focal_loss(x, t, **options)
        assert np.asarray(alone).tobytes() == np.asarray(loss).tobytes()


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_gradients_are_those_of_the_definition_rounded_once(dtype: DType) -> None:
    rng = np.random.default_rng(2)
    x = (rng.standard_normal(700) * 6).astype(dtype)
    for gamma in GAMMAS:
        for t in (rng.random(700).astype(dtype), rng.random(700) < 0.5):
            loss, gradient = crossent.sigmoid_focal_loss_and_grad(x, t, gamma=gamma)
            assert gradient.dtype == dtype
            assert loss.dtype == loss_dtype(dtype)
            wide = crossent.sigmoid_focal_loss_and_grad(x.astype(float), np.asarray(t, float), gamma=gamma)
            np.testing.assert_array_equal(loss, wide[0].astype(loss.dtype))
            if dtype != BFLOAT16:
                np.testing.assert_array_equal(gradient, wide[1].astype(dtype))
            slope = reference.sigmoid_focal_slope(reference.widen(x), reference.widen(t), 0.25, gamma)
            np.testing.assert_allclose(wide[1], slope, rtol=1e-10, atol=1e-15)


def _exact(x: Array, t: float, alpha: float, gamma: float) -> tuple[list[mpmath.mpf], list[mpmath.mpf]]:
    """Losses and gradients of logits of one target, 0 or 1, to more digits than a float64 has."""
    losses, slopes = [], []
    with mpmath.workdps(400):
        for number in x:
            z = mpmath.mpf(float(number)) * (1 if t == 0 else -1)  # larger is worse
            miss, sure = 1 / (1 + mpmath.exp(-z)), 1 / (1 + mpmath.exp(z))
            ce = mpmath.log1p(mpmath.exp(z))
            weight = 1 if alpha < 0 else (mpmath.mpf(alpha) if t else 1 - mpmath.mpf(alpha))
            power = miss ** mpmath.mpf(gamma)
            losses.append(weight * power * ce)
            slopes.append(weight * power * (miss + gamma * sure * ce) * (1 if t == 0 else -1))
    return losses, slopes


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=name)
def test_sure_elements_keep_their_digits_at_every_instruction_set(dtype: DType) -> None:
    x = np.concatenate([np.linspace(-30, 30, 121), [-90, 90, 1e-30, 0, 36.7, -36.7, 200, -200]]).astype(dtype)
    calls: list[Call] = []
    exact = []
    for gamma in GAMMAS:
        for t, alpha in ((0.0, 0.25), (1.0, 0.25), (1.0, -1.0)):
            arguments = (x, np.full_like(x, t)), {"alpha": alpha, "gamma": gamma}
            calls.append(("sigmoid_focal_loss_and_grad", *arguments))
            exact.append(_exact(x, t, alpha, gamma))
    found = results_at_levels(calls)
    for level, results in found.items():
        for (_, _, options), got, numbers in zip(calls, results, exact, strict=True):
            for mine, truth in zip(got, numbers, strict=True):
                assert mine.dtype == dtype
                # Beyond the smallest normal number there are no more digits.
                tiny = float(np.finfo(dtype).tiny)
                normal = [i for i, number in enumerate(truth) if abs(number) > tiny]
                limit = 4.0 + 2 * options["gamma"] if dtype == FLOAT64 else 0.51
                worst = ulp_error(mine[normal], [truth[i] for i in normal]).max()
                assert worst <= limit, (level, options, worst)
        if level in FUSED:
            for got, best in zip(results, found[FUSED[0]], strict=True):
                assert [part.tobytes() for part in got] == [part.tobytes() for part in best]


def test_soft_targets_keep_their_digits() -> None:
    x, t = np.linspace(-40, 40, 161), np.array([1e-300, 1e-9, 0.25, 0.5, 1 - 2**-53])[:, np.newaxis]
    x, t = (np.ascontiguousarray(a) for a in np.broadcast_arrays(x, t))
    for gamma in (0.5, 2.0, 2.5):
        got = crossent.sigmoid_focal_loss(x, t, alpha=-1, gamma=gamma)
        with mpmath.workdps(400):
            exact = []
            for number, target in zip(x.ravel(), t.ravel(), strict=True):
                z, q = mpmath.mpf(float(number)), mpmath.mpf(float(target))
                s, rest = 1 / (1 + mpmath.exp(-z)), 1 / (1 + mpmath.exp(z))
                ce = q * mpmath.log1p(mpmath.exp(-z)) + (1 - q) * mpmath.log1p(mpmath.exp(z))
                exact.append(((1 - q) * s + q * rest) ** mpmath.mpf(gamma) * ce)
        assert ulp_error(got.ravel(), exact).max() <= 12


def test_without_focus_and_weights_it_is_the_binary_cross_entropy() -> None:
    rng = np.random.default_rng(3)
    x, t = rng.standard_normal(1000) * 9, rng.random(1000)
    got = crossent.sigmoid_focal_loss_and_grad(x, t, alpha=-1, gamma=0, reduction="mean")
    expected = crossent.binary_cross_entropy_with_logits_and_grad(x, t)
    assert got[0] == expected[0]
    np.testing.assert_array_equal(got[1], expected[1])
    half = crossent.sigmoid_focal_loss(x, t, alpha=0.5)
    np.testing.assert_array_equal(2 * half, crossent.sigmoid_focal_loss(x, t, alpha=-1))


@pytest.mark.parametrize("gamma", [0.25, 1, 2, 2.5])
def test_infinite_logits_and_sure_elements_give_their_limits(gamma: float) -> None:
    x, t = np.array([-INF, -INF, INF, INF, -INF, NAN, 800, -800]), np.array([0, 1, 0, 1, 0.5, 0, 1, 0])
    got, gradient = crossent.sigmoid_focal_loss_and_grad(x, t, alpha=-1, gamma=gamma)
    np.testing.assert_array_equal(got, [0, INF, INF, 0, INF, NAN, 0, 0])
    np.testing.assert_allclose(gradient, [0, -1, 1, 0, -(0.5 ** (1 + gamma)), NAN, 0, 0], rtol=1e-15)
    # A weight of 0 makes an infinite loss vanish.
    np.testing.assert_array_equal(
        crossent.sigmoid_focal_loss(x[:4], t[:4], alpha=0, gamma=gamma), [0, 0, INF, 0]
    )
    np.testing.assert_array_equal(
        crossent.sigmoid_focal_loss(x[:4], t[:4], alpha=1, gamma=gamma), [0, INF, 0, 0]
    )


def test_extreme_powers_have_their_limits() -> None:
    x = np.array([-700.0, -1.0, 0.0, 1.0, 700.0])
    for gamma in (1e3, 1e20, 1.7e308):
        got, gradient = crossent.sigmoid_focal_loss_and_grad(x, np.zeros(5), alpha=-1, gamma=gamma)
        assert got[-1] == 700.0
        # The second term is gamma ce (1 - p), which is small unless gamma is as large as exp(700).
        assert gradient[-1] == pytest.approx(1.0 + gamma * (700 * np.exp(-700)), rel=1e-12)
        assert np.isfinite(got).all()
        assert (got[:3] < 1e-299).all()
    np.testing.assert_allclose(
        crossent.sigmoid_focal_loss(x, np.ones(5), gamma=5e-324),
        crossent.sigmoid_focal_loss(x, np.ones(5), gamma=0),
    )


def test_the_gradient_may_overwrite_the_input() -> None:
    rng = np.random.default_rng(4)
    x, t = rng.standard_normal((37, 61)).astype(np.float32), rng.random((37, 61)) < 0.2
    losses, gradient = crossent.sigmoid_focal_loss_and_grad(x, t)
    for place in (x.copy(), np.asfortranarray(x)):
        out = np.empty_like(x)
        got = crossent.sigmoid_focal_loss_and_grad(place, t, out=out, grad_out=place)
        assert got[0] is out
        assert got[1] is place
        np.testing.assert_array_equal(out, losses)
        np.testing.assert_array_equal(place, gradient)


def test_errors_name_what_is_wrong() -> None:
    ok = np.full((2, 3), 0.5)
    for loss in (crossent.sigmoid_focal_loss, crossent.sigmoid_focal_loss_and_grad):
        for alpha in (1.5, -0.5, -2, NAN, INF):
            with pytest.raises(
                ValueError, match=r"alpha is out of range: got .*, expected a number from 0 to 1, or -1"
            ):
                loss(ok, ok, alpha=alpha)
        for gamma in (-1, NAN, INF):
            with pytest.raises(
                ValueError, match=r"gamma is out of range: got .*, expected a finite number of at"
            ):
                loss(ok, ok, gamma=gamma)
        for option in ("alpha", "gamma"):
            with pytest.raises(TypeError, match=f"{option} must be a number"):
                loss(ok, ok, **{option: None})
        with pytest.raises(ValueError, match="target has the wrong shape"):
            loss(ok, np.ones(3))
        with pytest.raises(ValueError, match="batchmean is not a valid value for reduction"):
            loss(ok, ok, reduction="batchmean")
        with pytest.raises(ValueError, match="out receives"):
            loss(ok, ok, reduction="mean", out=np.ones(()))
        with pytest.raises(TypeError, match="input must be floating"):
            loss(ok.astype(int), ok.astype(int))
    # Targets are not checked, as in torchvision.
    beyond = np.array([[-0.5, 1.5, 2.0]])
    theirs = torchvisions(torch.full((1, 3), 0.5).double(), torch.from_numpy(beyond))
    np.testing.assert_allclose(crossent.sigmoid_focal_loss(ok[:1], beyond), theirs, rtol=1e-12)
