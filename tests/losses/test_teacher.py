"""The divergence from a teacher's largest probabilities: its definition, torch's gradients, digits, limits, errors."""

from __future__ import annotations

import warnings
from typing import Any

import mpmath
import numpy as np
import pytest

import crossent
import reference
from arrays import DTYPES, HALVES, DType
from crossing import crossed

REDUCTIONS = ("batchmean", "sum", "none")


def problem(shape: tuple[int, ...], k: int, seed: int) -> tuple[Any, Any, Any, Any]:
    """A student's logits, a teacher's k largest log-probabilities and their classes, and a mask."""
    rng = np.random.default_rng(seed)
    x, teacher = rng.standard_normal((2, *shape)) * 3
    ids = np.argsort(-teacher, axis=-1)[..., :k]
    log_p = np.take_along_axis(crossent.log_softmax(teacher), ids, axis=-1)
    return x, ids, log_p, rng.random(shape[:-1]) < 0.8


@pytest.mark.parametrize(
    ("shape", "k", "tail", "reduction", "masked"),
    crossed(
        [(40, 7), (9, 300), (5, 1500), (3, 4, 20), (8,)],
        (0, 1, 3, 7),
        (True, False),
        REDUCTIONS,
        (False, True),
        more=30,
    ),
)
def test_values_and_gradients_are_those_of_torch(
    shape: tuple[int, ...], k: int, tail: bool, reduction: str, masked: bool
) -> None:
    torch = pytest.importorskip("torch")
    x, ids, log_p, where = problem(shape, k, 3)
    options: dict[str, Any] = {"tail": tail, "reduction": reduction}
    options |= {"where": where} if masked and where.any() else {}
    leaf = torch.tensor(x, requires_grad=True)
    log_q = torch.log_softmax(leaf, -1)
    known = torch.gather(log_q, -1, torch.tensor(ids))
    p, lp = torch.tensor(np.exp(log_p)), torch.tensor(log_p)
    each = (p * (lp - known)).sum(-1)
    if tail and k < shape[-1]:
        hidden = torch.scatter(log_q, -1, torch.tensor(ids), -torch.inf)
        p_tail = 1 - p.sum(-1)
        each = each + p_tail * (torch.log(p_tail) - torch.logsumexp(hidden, -1))
    counted = torch.tensor(np.asarray(options.get("where", np.ones(shape[:-1], bool))))
    each = torch.where(counted, each, 0.0)
    upstream: Any = 1.5
    if reduction == "none":
        upstream = np.linspace(-1, 2, each.numel()).reshape(each.shape)
        loss = each
        (each * torch.tensor(upstream)).sum().backward()
    else:
        loss = each.sum() / (counted.sum() if reduction == "batchmean" else 1)
        (upstream * loss).backward()
    got, grad = crossent.kl_div_topk_and_grad(x, ids, log_p, **options, grad_output=upstream)
    np.testing.assert_allclose(got, loss.detach().numpy(), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(grad, leaf.grad.numpy(), rtol=1e-10, atol=1e-13)
    np.testing.assert_array_equal(crossent.kl_div_topk(x, ids, log_p, **options), got)
    np.testing.assert_allclose(reference.kl_div_topk(x, ids, log_p, **options), got, rtol=1e-11, atol=1e-13)
    over = x.copy()
    _, again = crossent.kl_div_topk_and_grad(over, ids, log_p, **options, grad_output=upstream, grad_out=over)
    assert again is over
    np.testing.assert_array_equal(over, grad)


def test_all_classes_give_the_divergence_of_torch() -> None:
    torch = pytest.importorskip("torch")
    x, ids, log_p, _ = problem((30, 12), 12, 5)
    whole = np.empty((30, 12))
    np.put_along_axis(whole, ids, log_p, axis=-1)
    expected = torch.nn.functional.kl_div(
        torch.log_softmax(torch.tensor(x), -1), torch.tensor(whole), reduction="batchmean", log_target=True
    )
    for tail in (True, False):
        np.testing.assert_allclose(crossent.kl_div_topk(x, ids, log_p, tail=tail), expected, rtol=1e-12)
    np.testing.assert_allclose(crossent.compare(whole, x).kl_mean, expected, rtol=1e-12)


def exact(row: Any, ids: Any, log_p: Any) -> tuple[Any, list[Any]]:
    """The loss and its gradient in 400 digits."""
    with mpmath.workdps(400):
        e = [mpmath.exp(mpmath.mpf(float(x))) for x in row]
        total, p = mpmath.fsum(e), [mpmath.exp(mpmath.mpf(float(x))) for x in log_p]
        tail = mpmath.fsum(each for c, each in enumerate(e) if c not in set(ids.tolist()))
        p_tail = 1 - mpmath.fsum(p)
        loss = p_tail * (mpmath.log(p_tail) - mpmath.log(tail / total))
        loss += mpmath.fsum(
            a * (mpmath.log(a) - mpmath.log(e[c] / total)) for a, c in zip(p, ids, strict=True)
        )
        grad = [each / total - p_tail * each / tail for each in e]
        for a, c in zip(p, ids, strict=True):
            grad[c] = e[c] / total - a
        return loss, grad


def test_sure_rows_keep_all_digits() -> None:
    # A student that is sure of the first class by 5 to 700 nats, and teachers that are as sure, more, or less.
    rng = np.random.default_rng(8)
    worst_loss = worst_grad = 0.0
    for margin in (5.0, 20.0, 40.0, 80.0, 300.0, 700.0):
        for missing in (0.5, 1e-3, 1e-9, 1e-15):
            row = rng.standard_normal(40)
            row[3] = row.max() + margin
            ids = np.array([3, 10, 11])
            log_p = np.array([np.log1p(-missing), np.log(missing / 3), np.log(missing / 4)])
            loss, grad = crossent.kl_div_topk_and_grad(row, ids, log_p)
            want, want_grad = exact(row, ids, log_p)
            worst_loss = max(worst_loss, float(abs(loss - want) / abs(want)))
            # The teacher's log-probability of the first class is rounded: its miss has that error, and no other.
            for c in range(40):
                if abs(want_grad[c]) > 1e-290:
                    worst_grad = max(worst_grad, float(abs(grad[c] - want_grad[c]) / abs(want_grad[c])))
    assert worst_loss < 1e-13
    assert worst_grad < 1e-12


@pytest.mark.parametrize("p", [1e-20, 1e-12, 1e-3, 0.3, 0.7])
def test_without_a_tail_small_probabilities_keep_their_digits(p: float) -> None:
    row, log_p = np.array([0.5, 0.0, -0.25]), np.array([np.log(p)])
    loss, grad = crossent.kl_div_topk_and_grad(row, [0], log_p, tail=False)
    q = crossent.softmax(row)
    p = np.exp(log_p[0])
    np.testing.assert_allclose(loss, p * (log_p[0] - np.log(q[0])), rtol=1e-14)
    np.testing.assert_allclose(grad, p * q - np.array([p, 0.0, 0.0]), rtol=1e-14)


def test_nothing_known_is_no_distance() -> None:
    ids, log_p = np.zeros((2, 0), int), np.zeros((2, 0))
    for tail in (True, False):
        loss, grad = crossent.kl_div_topk_and_grad(np.array([[0.0, 1.0], [3.0, 1.0]]), ids, log_p, tail=tail)
        assert loss == 0.0
        assert not grad.any()


def test_likely_mistakes_are_named() -> None:
    p = crossent.softmax(np.random.default_rng(0).standard_normal((20, 5)))
    ids, log_p = np.zeros((20, 1), int), np.full((20, 1), -1.0)
    with pytest.warns(crossent.LikelyMistakeWarning, match="looks like probabilities"):
        crossent.kl_div_topk(p, ids, log_p)
    with pytest.warns(crossent.LikelyMistakeWarning, match="one class only"):
        crossent.kl_div_topk(np.zeros((3, 1)), np.zeros((3, 0), int), np.zeros((3, 0)))
    out = np.full(20, 7.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(crossent.LikelyMistakeWarning):
            crossent.kl_div_topk(p, ids, log_p, reduction="none", out=out)
    assert (out == 7.0).all()


def test_two_models_that_agree_are_at_no_distance() -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_normal((50, 200)) * 5
    scores = crossent.score(x, np.zeros(50, int), top_k=8)
    loss, grad = crossent.kl_div_topk_and_grad(x, scores.top_ids, scores.top_log_probs, reduction="none")
    assert (loss >= 0).all()
    assert loss.max() < 1e-28
    assert abs(grad).max() < 1e-15
    # To second order the divergence of models at a distance of 1e-7 is 1e-14.
    near = x + 1e-7 * rng.standard_normal(x.shape)
    losses = crossent.kl_div_topk(near, scores.top_ids, scores.top_log_probs, reduction="none")
    for row, ids, log_p, loss in zip(near[:5], scores.top_ids, scores.top_log_probs, losses, strict=False):
        np.testing.assert_allclose(loss, float(exact(row, ids, log_p)[0]), rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("log_dtype", DTYPES, ids=str)
def test_dtypes_are_read_as_they_are(dtype: DType, log_dtype: DType) -> None:
    x, ids, log_p, _ = problem((20, 130), 4, 6)
    x, log_p = x.astype(dtype), log_p.astype(log_dtype)
    want = reference.kl_div_topk(x.astype(np.float64), ids, log_p.astype(np.float64), reduction="none")
    for layout in (x, np.asfortranarray(x), x[::-1][::-1]):
        got = crossent.kl_div_topk(layout, ids.astype(np.uint16), log_p, reduction="none", dtype=np.float64)
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-13)
    loss, grad = crossent.kl_div_topk_and_grad(x, ids, log_p)
    assert loss.dtype == (np.float64 if x.dtype == np.float64 else np.float32)
    assert grad.dtype == x.dtype
    _, wide = crossent.kl_div_topk_and_grad(x.astype(np.float64), ids, log_p)
    tolerance = 2e-3 if dtype in HALVES else 1e-6
    np.testing.assert_allclose(grad.astype(np.float64), wide, rtol=8 * tolerance, atol=tolerance / 50)


def test_rows_left_out_have_no_effect() -> None:
    x, ids, log_p, where = problem((70, 9), 3, 3)
    x[~where], log_p[~where], ids[~where] = np.nan, 7.0, 99
    for reduction in REDUCTIONS:
        loss, grad = crossent.kl_div_topk_and_grad(x, ids, log_p, where=where, reduction=reduction)
        assert np.isfinite(loss).all()
        assert not grad[~where].any()
        kept, kept_grad = crossent.kl_div_topk_and_grad(
            x[where], ids[where], log_p[where], reduction=reduction
        )
        np.testing.assert_array_equal(grad[where], kept_grad)
        np.testing.assert_allclose(loss[where] if reduction == "none" else loss, kept, rtol=1e-14)
    with pytest.warns(crossent.LikelyMistakeWarning):
        assert np.isnan(crossent.kl_div_topk(x, ids, log_p, where=np.zeros(70, bool)))


def test_limits() -> None:
    inf = np.inf
    ids, log_p = np.array([[0, 1]]), np.log([[0.5, 0.25]])
    # The student excludes what the teacher allows.
    assert crossent.kl_div_topk(np.array([[0.0, -inf, 0.0]]), ids, log_p) == inf
    assert crossent.kl_div_topk(np.array([[0.0, 1.0, -inf]]), ids, log_p) == inf
    for bad in ([[0.0, 1.0, inf]], [[np.nan, 0.0, 0.0]], [[-inf] * 3], [[0.0, 0.0, np.nan]]):
        loss, grad = crossent.kl_div_topk_and_grad(np.array(bad), ids, log_p)
        assert np.isnan(loss)
        assert np.isnan(grad).all()
    # A class that the teacher excludes counts as one of probability 0.
    loss, grad = crossent.kl_div_topk_and_grad(np.array([[0.0, 0.0, 0.0]]), ids, np.array([[0.0, -inf]]))
    np.testing.assert_allclose(loss, np.log(3.0), rtol=1e-15)
    np.testing.assert_allclose(grad, [[-2 / 3, 1 / 3, 1 / 3]], rtol=1e-14)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (
            {"teacher_ids": [[0, 5], [0, 1]]},
            IndexError,
            r"out of bounds: got teacher_ids\[0, 1\] = 5, expected 0 to 2 \(3 classes\)",
        ),
        ({"teacher_ids": [[0, 1], [-1, 1]]}, IndexError, r"teacher_ids\[1, 0\] = -1"),
        ({"teacher_ids": [[0, 1], [2, 2]]}, ValueError, r"given twice: got teacher_ids\[1, 1\] = 2"),
        ({"teacher_ids": [[0.0, 1.0], [0.0, 1.0]]}, TypeError, "teacher_ids must hold integers"),
        (
            {"teacher_ids": [0, 1]},
            ValueError,
            r"teacher_ids has the wrong shape: got \(2,\), expected \(2, 2\)",
        ),
        ({"teacher_log_probs": [[0, -1], [-1, -1]]}, TypeError, "teacher_log_probs must be floating"),
        ({"teacher_log_probs": [[-1.0], [-1.0]]}, ValueError, "teacher_log_probs has the wrong shape"),
        ({"teacher_log_probs": [[0.4, 0.3], [0.5, 0.1]]}, ValueError, r"\[0, 0\] = 0.4, expected at most 0"),
        ({"teacher_log_probs": [[-0.4, np.nan], [-0.5, -2]]}, ValueError, r"\[0, 1\] = nan"),
        (
            {"teacher_log_probs": [[-2.0, -2.0], [-0.1, -0.2]]},
            ValueError,
            r"add up to more than 1.*\[1\] = 1.72",
        ),
        ({"reduction": "mean"}, ValueError, "'batchmean'"),
        ({"reduction": "average"}, ValueError, "average is not a valid value"),
        ({"tail": "yes"}, TypeError, "tail must be True or False"),
        ({"where": [True]}, ValueError, r"has the wrong shape: got \(1,\), expected \(2,\)"),
        ({"where": [[False] * 2] * 2}, ValueError, r"has the wrong shape: got \(2, 2\), expected \(2,\)"),
        (
            {"teacher_ids": [[0, 1, 2]] * 2, "teacher_log_probs": np.log(np.full((2, 3), 0.3))},
            ValueError,
            "all classes add up to less than 1",
        ),
        ({"input": 1.0}, ValueError, "no axis of classes"),
        ({"input": [[1, 2, 3], [1, 2, 3]]}, TypeError, "input must be floating"),
        ({"out": np.empty(2, np.float32)}, ValueError, "out receives per-row losses only"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(
    change: dict[str, Any], error: type, text: str
) -> None:
    grad = np.full((2, 3), 7.0)
    arguments: dict[str, Any] = {
        "input": np.zeros((2, 3)),
        "teacher_ids": [[0, 1], [0, 1]],
        "teacher_log_probs": np.log([[0.5, 0.2], [0.3, 0.3]]),
    } | change
    with pytest.raises(error, match=text):
        crossent.kl_div_topk(**arguments)
    with pytest.raises(error, match=text):
        crossent.kl_div_topk_and_grad(**arguments, grad_out=grad)
    assert (grad == 7.0).all()


def test_outputs_may_lie_over_arguments() -> None:
    x, ids, log_p, _ = problem((30, 9), 2, 1)
    want, grad = crossent.kl_div_topk_and_grad(x, ids, log_p, reduction="none")
    column = log_p[:, 0]
    got = crossent.kl_div_topk(x, ids, log_p, reduction="none", out=column)
    assert got is column
    np.testing.assert_array_equal(got, want)
    x, ids, log_p, _ = problem((30, 9), 2, 1)
    fortran = np.asfortranarray(x)
    _, again = crossent.kl_div_topk_and_grad(fortran, ids, log_p, reduction="none", grad_out=fortran)
    np.testing.assert_array_equal(again, grad)
    with pytest.raises(ValueError, match="share memory"):
        crossent.kl_div_topk_and_grad(x, ids, log_p, reduction="none", out=x[:, 0], grad_out=x)
