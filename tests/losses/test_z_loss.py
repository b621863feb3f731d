"""The z-loss: its definition, torch's gradients, class weights and means, limits, errors."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest

import crossent
import reference
from arrays import DTYPES, DType
from crossing import crossed

REDUCTIONS = ("mean", "sum", "none")
SHAPES: list[tuple[tuple[int, ...], int]] = [
    ((70, 7), 1),
    ((9, 300), 1),
    ((5, 1500), 1),
    ((3, 2, 5), 1),
    ((12, 40), 0),
    ((8,), 0),
]


def problem(shape: tuple[int, ...], axis: int, seed: int) -> tuple[Any, Any, Any, Any]:
    """Logits, targets with ignored rows among them, class weights with a 0 among them, and a mask."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) * 4 + 2
    t = rng.integers(0, shape[axis], shape[:axis] + shape[axis + 1 :])
    t = np.where(rng.random(t.shape) < 0.2, -100, t)
    weight = rng.random(shape[axis])
    weight[rng.integers(shape[axis])] = 0.0
    where = rng.random(t.shape) < 0.8
    if not (where & (t != -100)).any():
        t, where = np.zeros_like(t), np.ones_like(where)
    return x, t, weight, where


@pytest.mark.parametrize(
    ("shape_axis", "reduction", "kind", "smoothing", "weighted", "masked", "z"),
    crossed(
        SHAPES,
        REDUCTIONS,
        ("indices", "probabilities"),
        (0.0, 0.1),
        (False, True),
        (False, True),
        (1e-4, 0.5),
        more=40,
    ),
)
def test_values_and_gradients_are_those_of_torch(
    shape_axis: Any, reduction: str, kind: str, smoothing: float, weighted: bool, masked: bool, z: float
) -> None:
    torch = pytest.importorskip("torch")
    (shape, axis), rng = shape_axis, np.random.default_rng(3)
    x, t, weight, where = problem(shape, axis, 11)
    if kind == "probabilities":
        t = crossent.softmax(rng.standard_normal(shape), axis)
    options: dict[str, Any] = {"label_smoothing": smoothing, "axis": axis, "reduction": reduction}
    options |= {"weight": weight} if weighted else {}
    options |= {"where": where} if masked else {}
    # By the definition, in torch: rows in front, the classes last.
    leaf = torch.tensor(x, requires_grad=True)
    rows = torch.movedim(leaf, axis, -1).reshape(-1, shape[axis])
    w: Any = torch.tensor(weight) if weighted else None
    counted = torch.tensor(where.reshape(-1)) if masked else torch.ones(len(rows), dtype=torch.bool)
    if kind == "indices":
        target = torch.tensor(t.reshape(-1))
        counted = counted & (target != -100)
        kept = torch.where(counted, target, -100)
    else:
        kept = torch.tensor(np.moveaxis(t, axis, -1).reshape(rows.shape))
    ce = torch.nn.functional.cross_entropy(rows, kept, w, label_smoothing=smoothing, reduction="none")
    ce = torch.where(counted, ce, 0.0)
    squares = torch.where(counted, z * torch.logsumexp(rows, -1) ** 2, 0.0)
    divisor: Any = w[kept.clamp(min=0)][counted].sum() if weighted and kind == "indices" else counted.sum()
    upstream: Any = 1.5
    if reduction == "none":
        upstream = np.linspace(-1, 2, len(rows)).reshape(np.shape(where))
        loss = (ce + squares).reshape(np.shape(where))
        loss.backward(torch.tensor(upstream))
    else:
        loss = ce.sum() + squares.sum()
        if reduction == "mean":
            loss = ce.sum() / divisor + squares.sum() / counted.sum()
        (upstream * loss).backward()
    got, grad = crossent.cross_entropy_and_grad(x, t, **options, z_loss=z, grad_output=upstream)
    np.testing.assert_allclose(got, loss.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(grad, leaf.grad.numpy(), rtol=1e-10, atol=1e-13)
    np.testing.assert_array_equal(crossent.cross_entropy(x, t, **options, z_loss=z), got)
    np.testing.assert_allclose(reference.cross_entropy(x, t, **options, z_loss=z), got, rtol=1e-12)
    over = x.copy()
    _, again = crossent.cross_entropy_and_grad(
        over, t, **options, z_loss=z, grad_output=upstream, grad_out=over
    )
    np.testing.assert_array_equal(again, grad)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("classes", [2, 13, 200, 1500])
def test_narrow_dtypes_are_read_as_they_are(dtype: DType, classes: int) -> None:
    x, t, *_ = problem((40, classes), 1, classes)
    x = x.astype(dtype)
    want = reference.cross_entropy(x.astype(np.float64), t, z_loss=0.25, reduction="none")
    got = crossent.cross_entropy(x, t, z_loss=0.25, reduction="none", dtype=np.float64)
    np.testing.assert_allclose(got, want, rtol=1e-13 if x.dtype == np.float64 else 2e-6)


def test_ignored_rows_have_none() -> None:
    x, t, weight, _ = problem((70, 9), 1, 3)
    t[0] = -100
    spoilt = x.copy()
    spoilt[t == -100] = np.nan
    for w in (None, weight):
        for reduction in REDUCTIONS:
            options: dict[str, Any] = {"weight": w, "reduction": reduction, "z_loss": 0.5}
            loss, grad = crossent.cross_entropy_and_grad(spoilt, t, **options)
            want, want_grad = crossent.cross_entropy_and_grad(x, t, **options)
            np.testing.assert_array_equal(loss, want)
            np.testing.assert_array_equal(grad, want_grad)
            assert not grad[t == -100].any()


def test_a_mean_without_weight_is_nan_and_one_without_rows_warns() -> None:
    x, t = np.array([[1.0, 2.0], [0.5, 0.0]]), np.array([1, 1])
    assert np.isnan(crossent.cross_entropy(x, t, [1.0, 0.0], z_loss=0.5))
    with pytest.warns(crossent.LikelyMistakeWarning):
        assert np.isnan(crossent.cross_entropy(x, [-100, -100], z_loss=0.5))


def test_zero_changes_no_bit_and_threads_and_layouts_neither() -> None:
    before = crossent.get_num_threads()
    for classes in (2, 5, 70, 400):
        x, t, weight, _ = problem((3000, classes), 1, 8)
        x = x.astype(np.float32)
        plain = crossent.cross_entropy_and_grad(x, t, weight)
        for one, other in zip(plain, crossent.cross_entropy_and_grad(x, t, weight, z_loss=0.0), strict=True):
            np.testing.assert_array_equal(one, other)
        try:
            results = []
            for threads in (1, 2):
                crossent.set_num_threads(threads)
                results += [
                    crossent.cross_entropy_and_grad(given, t, weight, z_loss=0.1)
                    for given in (x, np.asfortranarray(x))
                ]
        finally:
            crossent.set_num_threads(before)
        for loss, grad in results[1:]:
            assert loss == results[0][0]
            np.testing.assert_array_equal(grad, results[0][1])


def test_digits_of_a_small_log_sum_exp_are_kept() -> None:
    # exp(a) + exp(b) is 1 + 6e-9: the log-sum-exp is the difference of two numbers that are a billion times larger.
    x = np.array([[np.log(0.75), np.log(0.25) + 8e-9]])
    with mpmath.workdps(60):
        lse = mpmath.log(sum(mpmath.exp(mpmath.mpf(float(each))) for each in x[0]))
        want = (lse - mpmath.mpf(float(x[0, 0]))) + 1e16 * lse**2
        got = crossent.cross_entropy(x, [0], z_loss=1e16)
        assert abs(got - want) / want < 1e-9  # 2e-8 without the low part of the logarithm


def test_a_small_factor_of_a_large_square_is_finite() -> None:
    loss = crossent.cross_entropy(np.array([[1e200, 0.0, 0.0]]), [0], z_loss=1e-300)
    np.testing.assert_allclose(loss, 1e100, rtol=1e-15)


def test_infinite_logits_are_those_of_the_log_sum_exp() -> None:
    x = np.array([[0.0, np.inf], [-np.inf, 1.0], [-np.inf, -np.inf], [np.nan, 0.0]])
    losses = crossent.cross_entropy(x, [1, 1, 0, 0], z_loss=0.5, reduction="none")
    assert np.isnan(losses[[0, 2, 3]]).all()
    assert losses[1] == 0.5


@pytest.mark.parametrize("z", [-1.0, np.nan, np.inf, -np.inf])
def test_values_out_of_range_are_refused(z: float) -> None:
    with pytest.raises(ValueError, match="z_loss is out of range"):
        crossent.cross_entropy([[0.0, 1.0]], [0], z_loss=z)
    with pytest.raises(ValueError, match="z_loss is out of range"):
        crossent.cross_entropy_and_grad([[0.0, 1.0]], [0], z_loss=z)


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(TypeError, match="z_loss must be a number"):
        crossent.cross_entropy([[0.0, 1.0]], [0], z_loss="0.1")
