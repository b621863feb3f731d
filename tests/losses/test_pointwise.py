"""The losses of single elements: values, gradients, edges, errors, layouts, threads and instruction sets."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import mpmath
import numpy as np
import pytest

import crossent
import reference
from arrays import BFLOAT16, DTYPES, INTEGERS, SAME_VALUES, Array, DType, loss_dtype, name
from levels import FUSED, Call, results, results_at_levels
from optional import F, torch
from ulp import ulp_distance, ulp_error

INF, NAN = np.inf, np.nan
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
REDUCTIONS = ("none", "mean", "sum")
IN_FLOAT32 = ("binary_cross_entropy", "binary_cross_entropy_with_logits")
WITH_GRADIENT = ("binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div")

# The formulas hold for any numbers, and are tested with such as no log-probability has.
pytestmark = pytest.mark.filterwarnings("ignore:.*kl_div takes log-probabilities")


def _probabilities(rng: np.random.Generator, shape: tuple[int, ...], dtype: DType) -> Array:
    return rng.random(shape).astype(dtype)


def _logits(rng: np.random.Generator, shape: tuple[int, ...], dtype: DType) -> Array:
    return (rng.standard_normal(shape) * 4).astype(dtype)


# Each loss with the options that are crossed: name, a maker of its input, a maker of its target, options.
def _cases() -> Iterator[tuple[str, Any, Any, dict[str, Any]]]:
    yield "binary_cross_entropy", _probabilities, _probabilities, {}
    yield "binary_cross_entropy", _probabilities, _probabilities, {"clamp": None}
    yield "binary_cross_entropy_with_logits", _logits, _probabilities, {}
    yield "sigmoid_focal_loss", _logits, _probabilities, {}
    yield "sigmoid_focal_loss", _logits, _probabilities, {"alpha": -1, "gamma": 0.75}
    yield "kl_div", _logits, _probabilities, {}
    yield "kl_div", _logits, _logits, {"log_target": True}
    for full in (False, True):
        yield "poisson_nll_loss", _logits, lambda *a: 9 * _probabilities(*a), {"full": full}
        yield (
            "poisson_nll_loss",
            _probabilities,
            lambda *a: 9 * _probabilities(*a),
            {"full": full, "log_input": False},
        )
        yield "gaussian_nll_loss", _logits, _logits, {"full": full, "var": 0.7}


CASES = list(_cases())
CASE_IDS = [f"{key}-{'-'.join(options)}" for key, _, _, options in CASES]


def _tensor(x: Any) -> Any:
    x = np.asarray(x)
    return (
        torch.from_numpy(x.astype(np.float32)).bfloat16()
        if x.dtype == BFLOAT16
        else torch.from_numpy(x.copy())
    )


@pytest.mark.parametrize(("key", "make_input", "make_target", "options"), CASES, ids=CASE_IDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=name)
@pytest.mark.parametrize("layout", SAME_VALUES)
def test_values_are_the_references_in_every_layout(
    key: str, make_input: Any, make_target: Any, options: dict[str, Any], dtype: DType, layout: str
) -> None:
    rng = np.random.default_rng(1)
    for shape in ((), (1,), (7,), (3, 5), (513,), (4, 1030), (3, 21, 17)):
        x, t = make_input(rng, shape, dtype), np.asarray(make_target(rng, shape, dtype), dtype)
        lay = SAME_VALUES[layout] if shape else (lambda a: a)
        loss = getattr(crossent, key)
        exact = getattr(reference, key)(x, t, reduction="none", **options)
        got = np.asarray(loss(lay(x), lay(t), reduction="none", **options))
        assert got.dtype == loss_dtype(dtype)
        assert got.shape == shape
        # What cannot cancel is computed in the precision of its arguments.
        narrow = 3.6e-7 if key in IN_FLOAT32 else 1.2e-7
        scale = 1e-14 if dtype == FLOAT64 else narrow
        np.testing.assert_allclose(got, exact, rtol=scale, atol=4e-15)
        for reduction in ("mean", "sum"):
            plain = loss(np.ascontiguousarray(x), np.ascontiguousarray(t), reduction=reduction, **options)
            assert loss(lay(x), lay(t), reduction=reduction, **options).tobytes() == plain.tobytes()
            expected = getattr(reference, key)(x, t, reduction=reduction, **options)
            np.testing.assert_allclose(plain, expected, rtol=10 * scale, atol=1e-13)
            assert plain.dtype == loss_dtype(dtype)


def _torch(key: str) -> Callable[..., Any]:
    return getattr(F, key)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=name)
@pytest.mark.parametrize("weight_shape", [None, (), (5,), (3, 1), (3, 5)])
@pytest.mark.parametrize("pos_shape", [None, (5,), (3, 5)])
@pytest.mark.parametrize("key", ["binary_cross_entropy", "binary_cross_entropy_with_logits"])
def test_weights_agree_with_torch_and_gradients_with_autograd(
    key: str, pos_shape: Any, weight_shape: Any, dtype: DType, reduction: str
) -> None:
    rng = np.random.default_rng(2)
    make = _logits if key.endswith("logits") else _probabilities
    x, t = make(rng, (3, 5), dtype), _probabilities(rng, (3, 5), dtype)
    options: dict[str, Any] = {}
    if weight_shape is not None:
        options["weight"] = rng.random(weight_shape).astype(dtype) if weight_shape else np.asarray(1.5, dtype)
    if pos_shape is not None and key.endswith("logits"):
        options["pos_weight"] = (3 * rng.random(pos_shape)).astype(dtype)
    upstream = rng.random((3, 5)).astype(dtype) if reduction == "none" else np.asarray(0.3, dtype)
    tensor = _tensor(x).requires_grad_()
    tensors = {option: _tensor(value) for option, value in options.items()}
    expected = _torch(key)(tensor, _tensor(t), reduction=reduction, **tensors)
    expected.backward(_tensor(upstream))
    loss, gradient = getattr(crossent, key + "_and_grad")(
        x, t, reduction=reduction, grad_output=upstream, **options
    )
    rtol = 1e-13 if dtype == FLOAT64 else 3e-6
    np.testing.assert_allclose(loss, expected.detach().numpy(), rtol=rtol)
    np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=rtol, atol=rtol)
    assert gradient.dtype == dtype
    plain = getattr(crossent, key)(x, t, reduction=reduction, **options)
    assert np.asarray(plain).tobytes() == np.asarray(loss).tobytes()


@pytest.mark.filterwarnings("ignore:reduction:UserWarning")
@pytest.mark.parametrize("reduction", [*REDUCTIONS, "batchmean"])
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=name)
@pytest.mark.parametrize("log_target", [False, True])
def test_divergence_agrees_with_torch(log_target: bool, dtype: DType, reduction: str) -> None:
    rng = np.random.default_rng(3)
    x = crossent.log_softmax(_logits(rng, (4, 6), dtype))
    t = crossent.log_softmax(_logits(rng, (4, 6), dtype))
    t = t if log_target else np.exp(t)
    tensor = _tensor(x).requires_grad_()
    expected = F.kl_div(tensor, _tensor(t), reduction=reduction, log_target=log_target)
    expected.backward(torch.ones_like(expected))
    loss, gradient = crossent.kl_div_and_grad(x, t, reduction=reduction, log_target=log_target)
    rtol = 1e-13 if dtype == FLOAT64 else 3e-6
    np.testing.assert_allclose(loss, expected.detach().numpy(), rtol=rtol, atol=rtol)
    np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=rtol)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=name)
def test_likelihoods_agree_with_torch(dtype: DType, full: bool, reduction: str) -> None:
    rng = np.random.default_rng(4)
    x, t = _logits(rng, (4, 6), dtype), rng.integers(0, 9, (4, 6)).astype(dtype)
    rtol = 1e-12 if dtype == FLOAT64 else 1e-5
    for shape in ((4, 6), (4, 1), (4,), None):
        var: Any = 0.5 if shape is None else rng.random(shape).astype(dtype)
        theirs = var if shape is None else _tensor(var)
        expected = F.gaussian_nll_loss(_tensor(x), _tensor(t), theirs, full=full, reduction=reduction)
        got = crossent.gaussian_nll_loss(x, t, var, full=full, reduction=reduction)
        np.testing.assert_allclose(got, expected.numpy(), rtol=rtol, atol=rtol)
    for log_input in (False, True):
        options: Any = {"log_input": log_input, "full": full, "reduction": reduction}
        rates = x if log_input else np.abs(x)
        expected = F.poisson_nll_loss(_tensor(rates), _tensor(t), **options)
        np.testing.assert_allclose(
            crossent.poisson_nll_loss(rates, t, **options), expected.numpy(), rtol=rtol, atol=rtol
        )


def _rounded_at_most(
    actual: Array, exact: list[mpmath.mpf], scale: list[mpmath.mpf] | None = None, *, float32: float = 0.51
) -> None:
    limit = 4.0 if actual.dtype == FLOAT64 else float32
    assert ulp_error(actual, exact, scale).max() <= limit


def _digits_of_logits(dtype: DType) -> Iterator[tuple[Call, list[mpmath.mpf]]]:
    """Calls over a grid of logits, and their exact results."""
    x = np.concatenate([np.linspace(-90, 90, 721), [-700, 700, 1e-30, -1e-30, 0, 36.7, -36.7]]).astype(dtype)
    for t, q in itertools.product((0.0, 1.0, 0.25), (1.0, 3.5)):
        options = {"pos_weight": np.asarray(q, dtype), "reduction": "none"}
        with mpmath.workdps(400):
            exact = [
                q * t * mpmath.log1p(mpmath.exp(-mpmath.mpf(float(v))))
                + (1 - t) * mpmath.log1p(mpmath.exp(mpmath.mpf(float(v))))
                for v in x
            ]
        yield ("binary_cross_entropy_with_logits", (x, np.full_like(x, t)), options), exact


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=name)
def test_logits_keep_their_digits_at_every_instruction_set(dtype: DType) -> None:
    calls, exact = zip(*_digits_of_logits(dtype), strict=True)
    for level, found in results_at_levels(calls).items():
        for got, numbers in zip(found, exact, strict=True):
            assert got.dtype == dtype, level
            _rounded_at_most(got, numbers, float32=3.0)


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=name)
def test_probabilities_keep_their_digits_at_both_ends(dtype: DType) -> None:
    tiny = np.ldexp(1.0, -np.arange(1, 120 if dtype == FLOAT32 else 1000, 7))
    p = np.concatenate([np.linspace(1e-3, 1 - 1e-3, 500), tiny, 1 - np.ldexp(1.0, -np.arange(1, 24))]).astype(
        dtype
    )
    for t in (0.0, 1.0, 0.25):
        got = crossent.binary_cross_entropy(p, np.full_like(p, t), reduction="none", clamp=None)
        with mpmath.workdps(400):
            exact = [
                -(t * mpmath.log(mpmath.mpf(float(v))) + (1 - t) * mpmath.log1p(-mpmath.mpf(float(v))))
                for v in p
            ]
        _rounded_at_most(got, exact, float32=3.0)


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=name)
def test_divergences_and_rates_keep_their_digits(dtype: DType) -> None:
    rng = np.random.default_rng(5)
    x, t = (-5 * rng.random(300)).astype(dtype), rng.random(300).astype(dtype)
    with mpmath.workdps(60):
        pairs = [(mpmath.mpf(float(a)), mpmath.mpf(float(b))) for a, b in zip(x, t, strict=True)]
        terms = [(b * mpmath.log(b), b * a) for a, b in pairs]
        exact = [a - b for a, b in terms]
        scale = [max(abs(a), abs(b)) for a, b in terms]
        rates = [mpmath.exp(a) - b * a for a, b in pairs]
        logs = [mpmath.exp(a) * (a + b) for a, b in pairs]
    _rounded_at_most(crossent.kl_div(x, t, reduction="none"), exact, scale)
    _rounded_at_most(crossent.poisson_nll_loss(x, t, reduction="none"), rates)
    _rounded_at_most(
        crossent.kl_div(-t, x, reduction="none", log_target=True), logs, [max(abs(v), 1) for v in logs]
    )


def test_the_exponential_has_the_whole_range() -> None:
    x = np.array([709.7, 709.8, -708.5, -744.0, -746.0, INF, -INF])
    with mpmath.workdps(60):
        exact = [mpmath.exp(v) for v in x[:5]]
    got = crossent.poisson_nll_loss(x[:5], np.zeros(5), reduction="none")
    assert ulp_error(got, exact).max() <= 2


# The largest relative error in float32, in that of torch.
@pytest.mark.parametrize(
    ("key", "share"), [("binary_cross_entropy", 1.1), ("binary_cross_entropy_with_logits", 0.7)]
)
def test_float32_is_as_near_to_the_truth_as_torch_or_nearer(key: str, share: float) -> None:
    rng = np.random.default_rng(10)
    make = _logits if key.endswith("logits") else _probabilities
    x, t = make(rng, (100_000,), FLOAT32), (rng.random(100_000) < 0.5).astype(np.float32)
    exact = getattr(reference, key)(x, t, reduction="none")
    ours = np.abs(getattr(crossent, key)(x, t, reduction="none") / exact - 1).max()
    theirs = np.abs(_torch(key)(_tensor(x), _tensor(t), reduction="none").numpy() / exact - 1).max()
    assert ours < 3.6e-7
    assert ours <= share * theirs


@pytest.mark.filterwarnings("ignore:reduction:UserWarning")
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    ("input", "target"), [((3, 1), (3, 4)), ((), (3, 4)), ((4,), (3, 4)), ((3, 4), (4,)), ((2, 1, 4), (3, 1))]
)
def test_input_and_target_are_broadcast_to_each_other(
    input: tuple[int, ...], target: tuple[int, ...], reduction: str
) -> None:
    rng = np.random.default_rng(11)
    x, t = -rng.random(input), np.asarray(rng.random(target))
    for key, options in (
        ("kl_div", {}),
        ("kl_div", {"log_target": True}),
        ("poisson_nll_loss", {"full": True}),
        ("gaussian_nll_loss", {"var": 0.5}),
        ("gaussian_nll_loss", {"var": rng.random(input)}),
    ):
        theirs = {k: _tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
        expected = _torch(key)(_tensor(x), _tensor(t), reduction=reduction, **theirs)
        got = getattr(crossent, key)(x, t, reduction=reduction, **options)
        assert np.shape(got) == tuple(expected.shape)
        np.testing.assert_allclose(got, expected.numpy(), rtol=1e-13)
    expected = F.kl_div(_tensor(x), _tensor(t), reduction="batchmean")
    np.testing.assert_allclose(crossent.kl_div(x, t, reduction="batchmean"), expected.numpy(), rtol=1e-13)


# ---- edges ----------------------------------------------------------------------------------------------


def test_infinite_logits_give_their_limits() -> None:
    x, t = np.array([-INF, -INF, INF, INF, -INF, NAN]), np.array([0, 1, 0, 1, 0.5, 0])
    got, gradient = crossent.binary_cross_entropy_with_logits_and_grad(x, t, reduction="none")
    np.testing.assert_array_equal(got, [0, INF, INF, 0, INF, NAN])
    np.testing.assert_array_equal(gradient, [0, -1, 1, 0, -0.5, NAN])
    loss = crossent.binary_cross_entropy_with_logits
    np.testing.assert_array_equal(loss(x, t, pos_weight=0.0, reduction="none"), [0, 0, INF, 0, 0, NAN])
    np.testing.assert_array_equal(loss(x, t, 0.0, reduction="none"), [0, 0, 0, 0, 0, NAN])


def test_the_clamp_is_torchs_and_can_be_left_out() -> None:
    p, t = np.array([0.0, 1.0, 0.0, 1.0, 1e-60, 0.0]), np.array([0.0, 1, 1, 0, 1, 0.5])
    loss = crossent.binary_cross_entropy
    np.testing.assert_array_equal(loss(p, t, reduction="none"), [0, 0, 100, 100, 100, 50])
    exact = loss(p, t, reduction="none", clamp=None)
    np.testing.assert_array_equal(exact[[0, 1, 2, 3, 5]], [0, 0, INF, INF, INF])
    assert exact[4] == pytest.approx(138.15510557964274)
    np.testing.assert_array_equal(loss(p, t, 0.0, reduction="none", clamp=None), 0)
    assert loss(p, t, clamp=-3, reduction="sum") == pytest.approx(10.5)
    x = torch.tensor([0.0, 1.0, 0.0, 1.0, 1e-13]).double().requires_grad_()
    F.binary_cross_entropy(x, torch.tensor([0.0, 1, 1, 0, 1]).double(), reduction="sum").backward()
    gradient = crossent.binary_cross_entropy_and_grad(x, t[:5], reduction="sum")[1]
    np.testing.assert_allclose(gradient, x.grad)


def test_the_divergence_of_nothing_is_nothing() -> None:
    x, t = np.array([-INF, INF, -INF, NAN, 1.0, 1.0]), np.array([0.0, 0.0, 0.5, 0.0, -0.5, NAN])
    got = crossent.kl_div(x, t, reduction="none")
    np.testing.assert_array_equal(got, [0, 0, INF, NAN, NAN, NAN])
    x, t = np.array([-INF, 1.0, NAN, -INF]), np.array([-INF, -INF, -INF, -1.0])
    got = crossent.kl_div(x, t, reduction="none", log_target=True)
    np.testing.assert_array_equal(got, [0, 0, NAN, INF])
    assert np.signbit(crossent.kl_div_and_grad(np.zeros(1), np.ones(1))[1]).all()


def test_infinite_targets_are_not_torchs() -> None:
    x, t = np.array([1.0, -1.0]), np.array([INF, INF])
    logits = F.binary_cross_entropy_with_logits(_tensor(x), _tensor(t), reduction="none")
    np.testing.assert_array_equal(logits, [-INF, INF])
    assert np.isnan(crossent.binary_cross_entropy_with_logits(x, t, reduction="none")).all()
    np.testing.assert_array_equal(F.kl_div(_tensor(x), _tensor(t), reduction="none"), [NAN, INF])
    np.testing.assert_array_equal(crossent.kl_div(x, t, reduction="none"), [INF, INF])


def test_likelihoods_have_torchs_specials() -> None:
    values = [-INF, -2.0, -0.0, 0.0, 0.5, 1.0, 2.0, 1e300, INF, NAN]
    x, t = (a.ravel() for a in np.meshgrid(values, values))
    for full, log_input in itertools.product((False, True), repeat=2):
        options: Any = {"full": full, "log_input": log_input, "reduction": "none"}
        expected = F.poisson_nll_loss(torch.from_numpy(x), torch.from_numpy(t), **options)
        # torch rounds 1 + 1e-8.
        rtol = 1e-13 if log_input else 1e-8
        np.testing.assert_allclose(crossent.poisson_nll_loss(x, t, **options), expected, rtol=rtol)
    for var in (0.0, 1e-9, 3.0, INF, NAN):
        v = np.full_like(x, var)
        expected = F.gaussian_nll_loss(_tensor(x), _tensor(t), _tensor(v), reduction="none")
        got = crossent.gaussian_nll_loss(x, t, v, reduction="none")
        np.testing.assert_allclose(got, expected, rtol=1e-13)
    assert crossent.gaussian_nll_loss(np.ones(1), np.zeros(1), 0.0) == pytest.approx(499993.0922)


def test_what_rounding_took_from_a_large_difference_does_not_turn_the_loss() -> None:
    rng = np.random.default_rng(0)
    x, t = (10.0 ** rng.uniform(150, 180, 2000) * rng.choice([-1, 1], 2000) for _ in range(2))
    with np.errstate(over="ignore"):
        expected = (np.log(2.0) + (x - t) ** 2 / 2) / 2
    got = crossent.gaussian_nll_loss(x, t, np.full(2000, 2.0), reduction="none")
    assert np.isinf(expected).sum() > 1000
    np.testing.assert_allclose(got, expected, rtol=1e-13)


@pytest.mark.parametrize(("key", "make_input", "make_target", "options"), CASES, ids=CASE_IDS)
def test_empty_arrays(key: str, make_input: Any, make_target: Any, options: dict[str, Any]) -> None:
    x = np.zeros((0, 3), np.float32)
    loss = getattr(crossent, key)
    with pytest.warns(crossent.LikelyMistakeWarning, match="empty batch"):
        assert np.isnan(loss(x, x, reduction="mean", **options))
    assert loss(x, x, reduction="sum", **options) == 0
    assert loss(x, x, reduction="none", **options).shape == (0, 3)
    if key == "kl_div":
        with pytest.warns(crossent.LikelyMistakeWarning, match="empty batch"):
            assert np.isnan(loss(x, x, reduction="batchmean", **options))
        assert loss(x.T, x.T, reduction="batchmean", **options) == 0


def test_every_dtype_of_target_and_result() -> None:
    x = np.array([0.25, 0.5, 0.75], np.float32)
    t = np.array([0, 1, 1])
    for loss in (crossent.binary_cross_entropy, crossent.binary_cross_entropy_with_logits):
        expected = loss(x, t.astype(np.float32))
        for dtype in (*INTEGERS, *DTYPES, np.dtype(bool)):
            # A float64 argument makes the loss be computed in float64.
            rel = 3e-7 if dtype == FLOAT64 else 0.0
            assert loss(x, t.astype(dtype)) == pytest.approx(expected, rel=rel, abs=0)
            weighted = loss(x, t.astype(dtype), t.astype(dtype))
            assert weighted == pytest.approx(loss(x, t, [0.0, 1.0, 1.0]), rel=rel, abs=0)
        assert loss(x.tolist(), t.tolist()).dtype == np.float64
        for dtype in DTYPES:
            assert loss(x, t, dtype=dtype).dtype == dtype
            assert loss(x, t, dtype=dtype, reduction="none").dtype == dtype
            assert loss(x.astype(dtype), t).dtype == loss_dtype(dtype)
    assert crossent.poisson_nll_loss(x, t) == crossent.poisson_nll_loss(x, t.astype(np.float32))


@pytest.mark.parametrize("key", WITH_GRADIENT)
@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_gradients_are_rounded_once(key: str, dtype: DType) -> None:
    rng = np.random.default_rng(6)
    x, t = _probabilities(rng, (700,), dtype), _probabilities(rng, (700,), dtype)
    wide = getattr(crossent, key + "_and_grad")(x.astype(float), t.astype(float), reduction="sum")[1]
    gradient = getattr(crossent, key + "_and_grad")(x, t, reduction="sum")[1]
    assert gradient.dtype == dtype
    assert ulp_distance(gradient, wide.astype(dtype)).max() <= (0 if dtype != BFLOAT16 else 1)


# ---- memory ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", WITH_GRADIENT)
@pytest.mark.parametrize("layout", ["C", "fortran", "negative", "stepped"])
def test_the_gradient_may_overwrite_the_input(key: str, layout: str) -> None:
    rng = np.random.default_rng(7)
    x, t = (_probabilities(rng, (37, 61), FLOAT32) for _ in range(2))
    function = getattr(crossent, key + "_and_grad")
    losses, gradient = function(x, t, reduction="none")
    place, out = SAME_VALUES[layout](x.copy()), np.empty((37, 61), np.float32)
    got = function(place, t, reduction="none", out=out, grad_out=place)
    assert got[0] is out
    assert got[1] is place
    np.testing.assert_array_equal(out, losses)
    np.testing.assert_array_equal(place, gradient)
    both = x.copy()
    expected = function(x, x)
    assert function(both, both, grad_out=both)[0] == expected[0]
    np.testing.assert_array_equal(both, expected[1])
    long = np.concatenate([x.ravel(), np.zeros(5, np.float32)])
    expected = function(x.ravel(), t.ravel())
    got = function(long[:-5], t.ravel(), grad_out=long[5:])
    assert got[0] == expected[0]
    np.testing.assert_array_equal(long[5:], expected[1])
    with pytest.raises(ValueError, match="share memory"):
        function(x, t, reduction="none", out=both, grad_out=both)


def test_results_may_overwrite_arguments() -> None:
    rng = np.random.default_rng(8)
    x, t = (_probabilities(rng, (1100,), FLOAT32) for _ in range(2))
    expected = crossent.binary_cross_entropy(x, t, reduction="none")
    for k in (0, 1):
        arguments = [x.copy(), t.copy()]
        crossent.binary_cross_entropy(*arguments, reduction="none", out=arguments[k])
        np.testing.assert_array_equal(arguments[k], expected)


def _raises_untouched(
    error: type[Exception], match: str, call: Callable[..., Any], *arguments: Any, **options: Any
) -> None:
    out, grad = np.full((2, 3), 7.0), np.full((2, 3), 7.0)
    with pytest.raises(error, match=match):
        call(*arguments, reduction="none", out=out, **options)
    assert (out == 7).all()
    twin = getattr(crossent, f"{call.__name__}_and_grad", None)
    if twin is not None:
        with pytest.raises(error, match=match):
            twin(*arguments, grad_out=grad, **options)
        assert (grad == 7).all()
    with pytest.raises(error, match=match):
        call(*arguments, **options)


def test_errors_name_what_is_wrong_and_write_nothing() -> None:
    ok, row = np.full((2, 3), 0.5), np.full(3, 0.5)
    for value in (1.5, -1e-9, NAN, INF):
        bad = ok.copy()
        bad[1, 0] = bad[1, 2] = value
        bce = crossent.binary_cross_entropy
        _raises_untouched(ValueError, r"all elements of input should be .* input\[1, 0\] = ", bce, bad, ok)
        _raises_untouched(ValueError, r"all elements of target should be .* target\[1, 0\] = ", bce, ok, bad)
        crossent.binary_cross_entropy_with_logits(ok, bad)
    for loss in (crossent.binary_cross_entropy, crossent.binary_cross_entropy_with_logits):
        _raises_untouched(
            ValueError, r"target has the wrong shape: got \(3,\), expected \(2, 3\)", loss, ok, row
        )
        _raises_untouched(ValueError, r"weight does not fit .* \(5, 2, 3\)", loss, ok, ok, np.ones((5, 2, 3)))
        _raises_untouched(TypeError, "look swapped", loss, ok.astype(int), ok)
        _raises_untouched(TypeError, "look swapped", loss, ok.astype(bool), ok)
        _raises_untouched(TypeError, "input must be floating", loss, ok.astype(complex), ok)
        _raises_untouched(TypeError, "target must hold real numbers", loss, ok, ok.astype(complex))
    for clamp in (0.5, NAN):
        _raises_untouched(
            ValueError, "clamp is out of range", crossent.binary_cross_entropy, ok, ok, clamp=clamp
        )
    _raises_untouched(TypeError, "clamp must be a number", crossent.binary_cross_entropy, ok, ok, clamp="-1")
    _raises_untouched(TypeError, "log_target must be True or False", crossent.kl_div, ok, ok, log_target=1)
    logits = crossent.binary_cross_entropy_with_logits
    _raises_untouched(ValueError, "pos_weight does not fit", logits, ok, ok, pos_weight=np.ones(2))
    _raises_untouched(ValueError, "target does not fit", crossent.kl_div, ok, np.ones((2, 2)))
    _raises_untouched(TypeError, "input must be floating", crossent.kl_div, ok.astype(int), ok)
    with pytest.raises(ValueError, match="target does not fit"):
        crossent.kl_div_and_grad(ok, np.ones((4, 2, 3)))
    gaussian = crossent.gaussian_nll_loss
    for shape in ((3,), (1, 1), (2, 3, 1), (1,)):
        _raises_untouched(ValueError, "var is of incorrect size", gaussian, ok, ok, np.ones(shape))
    _raises_untouched(
        ValueError, r"var has negative entry/entries: got var\[1\] = -1", gaussian, ok, ok, np.array([1, -1])
    )
    _raises_untouched(ValueError, r"var has negative entry/entries", gaussian, ok, ok, -0.5)
    for option, expected in {"full": "True or False", "eps": "a number"}.items():
        match = f"{option} must be {expected}"
        _raises_untouched(TypeError, match, gaussian, ok, ok, ok, **{option: None})
        _raises_untouched(TypeError, match, crossent.poisson_nll_loss, ok, ok, **{option: None})
    _raises_untouched(TypeError, "log_input must be True", crossent.poisson_nll_loss, ok, ok, log_input="no")
    crossent.kl_div(ok, row)
    with pytest.raises(ValueError, match="avg is not a valid value for reduction"):
        crossent.kl_div(ok, ok, reduction="avg")
    with pytest.raises(ValueError, match="batchmean is not a valid value"):
        logits(ok, ok, reduction="batchmean")
    with pytest.raises(TypeError, match="reduction must be a string"):
        logits(ok, ok, reduction=None)
    with pytest.raises(ValueError, match="out receives"):
        logits(ok, ok, out=np.ones(()))
    twin = crossent.binary_cross_entropy_with_logits_and_grad
    with pytest.raises(TypeError, match="grad_output must hold real numbers"):
        twin(ok, ok, grad_output=True)
    with pytest.raises(ValueError, match="eps is out of range: got nan"):
        gaussian(ok, ok, 1.0, eps=NAN)
    assert isinstance(twin(np.float64(1), np.float64(1))[1], np.ndarray)
    for options in ({"grad_output": ok}, {"reduction": "none", "grad_output": row}):
        with pytest.raises(ValueError, match="grad_output has the wrong shape"):
            twin(ok, ok, **options)
    with pytest.raises(TypeError, match="grad_out has the wrong dtype"):
        twin(ok, ok, grad_out=ok.astype(np.float32))
    with pytest.raises(ValueError, match="grad_out has the wrong shape"):
        twin(ok, ok, grad_out=row)
    with pytest.raises(ValueError, match="grad_out is read-only"):
        twin(ok, ok, grad_out=SAME_VALUES["read_only"](ok))


# ---- threads and instruction sets -----------------------------------------------------------------------


def _calls(shape: tuple[int, int]) -> Iterator[Call]:
    rng = np.random.default_rng(9)
    for dtype in DTYPES:
        for key, make_input, make_target, options in CASES:
            x, t = make_input(rng, shape, dtype), np.asarray(make_target(rng, shape, dtype), dtype)
            yield key, (x, t), options
            if key in WITH_GRADIENT:
                yield f"{key}_and_grad", (x, t.T.copy().T), {"reduction": "none", **options}


def _bits(results: list[Any]) -> list[bytes]:
    parts = [result if isinstance(result, tuple) else (result,) for result in results]
    return [np.ascontiguousarray(part).tobytes() for result in parts for part in result]


def test_threads_do_not_change_bits() -> None:
    before, calls = crossent.get_num_threads(), list(_calls((401, 503)))
    try:
        found = []
        for threads in (1, 2, 3):
            crossent.set_num_threads(threads)
            found.append(_bits(results(calls)))
    finally:
        crossent.set_num_threads(before)
    assert found[0] == found[1] == found[2]


def test_instruction_sets_with_fused_multiply_add_have_the_same_bits() -> None:
    found = results_at_levels(_calls((101, 103)))
    for level in FUSED:
        assert _bits(found[level]) == _bits(found[FUSED[0]]), level
