"""What docs/semantics.md says of torch is what torch does: those of its claims that no other test meets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import crossent

torch = pytest.importorskip("torch")
F = torch.nn.functional

INF, NAN = np.inf, np.nan
X = np.array([[1.0, 2.0, 3.0], [0.0, -1.0, 4.0]], np.float32)
P = np.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]], np.float32)
T = [2, 0]

pytestmark = [
    pytest.mark.filterwarnings("ignore:reduction:UserWarning"),
    # Any numbers are given to it, such as no log-probability has.
    pytest.mark.filterwarnings("ignore:.*kl_div takes log-probabilities"),
]


def t(x: Any) -> Any:
    return torch.tensor(x)


def _dtype(result: Any) -> str:
    return str(result.dtype).removeprefix("torch.")


def _torchs_gradient(loss: Callable[[Any], Any], x: Any) -> Any:
    x = torch.as_tensor(x).clone().requires_grad_()
    return torch.autograd.grad(loss(x), x)[0].numpy()


def test_the_dtype_of_a_loss_is_promoted_in_torch_and_the_inputs_here() -> None:
    wide = P.astype(np.float64)
    for theirs, ours in (
        (F.cross_entropy(t(X), t(wide)), crossent.cross_entropy(X, wide)),
        (F.kl_div(t(X), t(wide)), crossent.kl_div(X, wide)),
        (F.gaussian_nll_loss(t(X), t(wide), 1.0), crossent.gaussian_nll_loss(X, wide, 1.0)),
        (F.poisson_nll_loss(t(X), t(wide)), crossent.poisson_nll_loss(X, wide)),
        (
            F.binary_cross_entropy_with_logits(t(X), t(wide)),
            crossent.binary_cross_entropy_with_logits(X, wide),
        ),
    ):
        assert (_dtype(theirs), _dtype(ours)) == ("float64", "float32")
    theirs = F.binary_cross_entropy_with_logits(t(X.astype(np.float64)), t(P))
    ours = crossent.binary_cross_entropy_with_logits(X.astype(np.float64), P)
    assert (_dtype(theirs), _dtype(ours)) == ("float32", "float64")


# (torch's call, its error or None; ours, its error or None)
@pytest.mark.parametrize(
    ("theirs", "their_error", "ours", "our_error"),
    [
        (lambda: F.cross_entropy(t(X), t(T), t([1, 2, 5.0]).double()), RuntimeError,
         lambda: crossent.cross_entropy(X, T, np.array([1, 2, 5.0])), None),
        (lambda: F.cross_entropy(t(X), t(P), t([1, 2, 5])), None,
         lambda: crossent.cross_entropy(X, P, [1, 2, 5]), TypeError),
        (lambda: F.cross_entropy(t(X), t([True, False])), RuntimeError,
         lambda: crossent.cross_entropy(X, [True, False]), TypeError),
        (lambda: F.cross_entropy(t(X), t(T), ignore_index=2**63), ValueError,
         lambda: crossent.cross_entropy(X, T, ignore_index=2**63), OverflowError),
        (lambda: F.cross_entropy(t(X), t(T), reduction=None), ValueError,
         lambda: crossent.cross_entropy(X, T, reduction=None), TypeError),
        (lambda: F.nll_loss(t(X), t(P)), RuntimeError, lambda: crossent.nll_loss(-X, P), TypeError),
        (lambda: F.binary_cross_entropy(t(P), t(P > 0)), RuntimeError,
         lambda: crossent.binary_cross_entropy(P, P > 0), None),
        (lambda: F.binary_cross_entropy(t(P), t(P), torch.ones(1, 2, 3)), RuntimeError,
         lambda: crossent.binary_cross_entropy(P, P, np.ones((1, 2, 3))), ValueError),
        (lambda: F.binary_cross_entropy_with_logits(t(X), t(P).half()), None,
         lambda: crossent.binary_cross_entropy_with_logits(X, P.astype(np.float16)), None),
        (lambda: F.binary_cross_entropy_with_logits(t(X), t(P > 0)), RuntimeError,
         lambda: crossent.binary_cross_entropy_with_logits(X, P > 0), None),
        (lambda: F.binary_cross_entropy_with_logits(t(X), t(P), pos_weight=2.0), TypeError,
         lambda: crossent.binary_cross_entropy_with_logits(X, P, pos_weight=2.0), None),
        (lambda: F.kl_div(t(X), t([0, 1, 0])), RuntimeError, lambda: crossent.kl_div(X, [0, 1, 0]), None),
        (lambda: F.gaussian_nll_loss(t(X).int(), t(P), 1.0), None,
         lambda: crossent.gaussian_nll_loss(X.astype(int), P, 1.0), TypeError),
        (lambda: F.poisson_nll_loss(t(X).int(), t(P)), None,
         lambda: crossent.poisson_nll_loss(X.astype(int), P), TypeError),
        (lambda: F.gaussian_nll_loss(t(X), t(P), t(0.5)), ValueError,
         lambda: crossent.gaussian_nll_loss(X, P, np.array(0.5)), None),
        (lambda: F.gaussian_nll_loss(t(X), t(P), t([[0.5, 1.0, 2.0]])), None,
         lambda: crossent.gaussian_nll_loss(X, P, [[0.5, 1.0, 2.0]]), None),
        (lambda: F.gaussian_nll_loss(t(X), t(P > 0), 1.0), RuntimeError,
         lambda: crossent.gaussian_nll_loss(X, P > 0, 1.0), None),
        (lambda: F.softmax(t(X).int(), 1, dtype=torch.float32), None,
         lambda: crossent.softmax(X.astype(int), 1), TypeError),
        (lambda: torch.softmax(t(X), 1, out=torch.empty(0)), None,
         lambda: crossent.softmax(X, 1, out=np.empty(0, np.float32)), ValueError),
        (lambda: torch.logsumexp(t(X)), TypeError, lambda: crossent.logsumexp(X), None),
        (lambda: torch.logsumexp(t(X), (0, 0)), RuntimeError,
         lambda: crossent.logsumexp(X, (0, 0)), ValueError),
        (lambda: torch.set_num_threads(0), RuntimeError, lambda: crossent.set_num_threads(0), ValueError),
        (lambda: torch.set_num_threads(1.5), RuntimeError, lambda: crossent.set_num_threads(1.5), TypeError),
    ],
)  # fmt: skip
def test_what_is_refused(
    theirs: Callable[[], Any], their_error: Any, ours: Callable[[], Any], our_error: Any
) -> None:
    for call, error in ((theirs, their_error), (ours, our_error)):
        if error is None:
            call()
        else:
            with pytest.raises(error):
                call()


def test_softmax_without_an_axis() -> None:
    x = np.zeros((2, 3, 4))
    with pytest.warns(UserWarning, match="Implicit dimension"):
        theirs = F.softmax(t(x))
    np.testing.assert_allclose(theirs.numpy(), 1 / 2)
    np.testing.assert_allclose(crossent.softmax(x), 1 / 4)


def test_logsumexp_of_integers() -> None:
    assert torch.logsumexp(t([1, 2]), 0).dtype == torch.float32
    assert crossent.logsumexp([1, 2]).dtype == np.float64


def test_gradients_at_the_edges() -> None:
    target = np.array([-100, 1])
    for bad, expected in ((NAN, NAN), (INF, NAN), (-INF, 0)):
        x = np.array([[bad, 0.0], [1.0, 2.0]])
        theirs = _torchs_gradient(lambda z: F.cross_entropy(z, t(target)), x)
        np.testing.assert_array_equal(theirs[0], expected)
        np.testing.assert_array_equal(crossent.cross_entropy_and_grad(x, target)[1][0], 0)
        theirs = _torchs_gradient(lambda z: F.nll_loss(z, t(target)), x)
        np.testing.assert_array_equal(theirs[0], 0)
    sure = np.array([17.0, 0.0], np.float32)
    assert _torchs_gradient(lambda z: F.cross_entropy(z, t(0)), sure)[0] == 0
    np.testing.assert_allclose(crossent.cross_entropy_and_grad(sure, 0)[1], [-4.14e-8, 4.14e-8], rtol=1e-3)
    x = torch.tensor(X, requires_grad=True)
    with pytest.raises(RuntimeError, match="Mismatch in shape"):
        F.cross_entropy(x, t(T), reduction="none").backward(t(2.0))
    twice = crossent.cross_entropy_and_grad(X, T, reduction="none", grad_output=2.0)[1]
    np.testing.assert_array_equal(twice, 2 * crossent.cross_entropy_and_grad(X, T, reduction="sum")[1])


def test_what_else_has_a_gradient_in_torch() -> None:
    assert np.isfinite(_torchs_gradient(lambda z: F.cross_entropy(t(X), z), P)).all()
    assert np.isfinite(_torchs_gradient(lambda w: F.cross_entropy(t(X), t(P), w), t([1.0, 2.0, 5.0]))).all()
    with pytest.raises(RuntimeError, match="not differentiable"):
        _torchs_gradient(lambda w: F.cross_entropy(t(X), t(T), w), t([1.0, 2.0, 5.0]))
    with pytest.raises(RuntimeError, match="not differentiable"):
        _torchs_gradient(lambda w: F.binary_cross_entropy_with_logits(t(X), t(P), w), P)
    assert np.isfinite(_torchs_gradient(lambda v: F.gaussian_nll_loss(t(X), t(P), v), np.abs(X))).all()
    for name in ("gaussian_nll_loss_and_grad", "poisson_nll_loss_and_grad"):
        assert not hasattr(crossent, name)


def test_weights_of_an_object() -> None:
    theirs, ours = torch.ones(3), np.ones(3)
    module, held = torch.nn.CrossEntropyLoss(theirs), crossent.CrossEntropyLoss(ours)
    theirs[:] = 5
    ours[:] = 5
    assert (module.weight == 5).all()
    assert (np.asarray(held.weight) == 1).all()


def test_a_number_of_threads_set_in_another_thread() -> None:
    before = torch.get_num_threads(), crossent.get_num_threads()
    try:
        torch.set_num_threads(1)
        crossent.set_num_threads(1)

        def elsewhere() -> None:
            torch.set_num_threads(2)
            crossent.set_num_threads(2)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        if "ATen parallel backend: OpenMP" in torch.__config__.parallel_info():
            assert torch.get_num_threads() == 1
        assert crossent.get_num_threads() == 2
    finally:
        torch.set_num_threads(before[0])
        crossent.set_num_threads(before[1])


@pytest.mark.parametrize(
    ("loss", "wide"),
    [
        (lambda x, **o: crossent.binary_cross_entropy(x / 20 + 0.5, P[:1], **o), False),
        (lambda x, **o: crossent.binary_cross_entropy_with_logits(x, P[:1], **o), False),
        (lambda x, **o: crossent.binary_cross_entropy_with_logits(x, P[:1], np.full(3, 0.3), **o), None),
        (lambda x, **o: crossent.binary_cross_entropy_with_logits(x, P[:1].astype(float), **o), True),
        (lambda x, **o: crossent.binary_cross_entropy_with_logits(x, P[:1], pos_weight=2.0, **o), True),
        (lambda x, **o: crossent.kl_div(x, P[:1], **o), True),
        (lambda x, **o: crossent.gaussian_nll_loss(x, P[:1], 0.7, **o), True),
        (lambda x, **o: crossent.poisson_nll_loss(x, P[:1], **o), True),
    ],
)
def test_what_is_computed_in_float64(loss: Callable[..., Any], wide: bool | None) -> None:
    x = np.array([[-1.3, 0.7, 2.1]], np.float32)
    result = loss(x, reduction="none", dtype=np.float64)
    is_float32 = bool((result == result.astype(np.float32)).all())
    if wide is None:
        # The loss is one of float32, and the weight that of float64.
        plain = crossent.binary_cross_entropy_with_logits(x, P[:1], reduction="none", dtype=np.float64)
        np.testing.assert_array_equal(result, plain * 0.3)
    else:
        assert is_float32 == (not wide)
