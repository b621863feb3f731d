"""crossent.torch: torch's own losses and gradients are the judge; what has no derivative raises."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import itertools
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import crossent

pytest.importorskip("torch")

from crossent import torch as ct
from optional import F, torch

LOSSES = ("cross_entropy", "nll_loss", "binary_cross_entropy_with_logits", "kl_div", "linear_cross_entropy")


def drawn(*shape: int, seed: int = 0, dtype: Any = torch.float64) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


T = torch.tensor([0, 3, 1, 2, 2, -100])
ALL = T.clamp(min=0)
W = drawn(4, seed=1).exp()
SOFT = drawn(6, 4, seed=2).softmax(1)
YES = (SOFT > 0.3).double()

# For each loss its arguments, the tensors of the first group with a gradient; names and values are torch's too.
CALLS: list[tuple[str, list[Any], list[Any], dict[str, Any]]] = [
    ("cross_entropy", [drawn(6, 4)], [T], {}),
    ("cross_entropy", [drawn(6, 4)], [ALL], {"weight": W, "label_smoothing": 0.1, "ignore_index": 2}),
    ("cross_entropy", [drawn(6, 4)], [SOFT], {"weight": W, "label_smoothing": 0.1}),
    ("cross_entropy", [drawn(2, 4, 3)], [T[:6].reshape(2, 3)], {"weight": W}),
    ("cross_entropy", [drawn(4)], [torch.tensor(2)], {}),
    ("nll_loss", [drawn(6, 4).log_softmax(1)], [T], {"weight": W}),
    ("nll_loss", [drawn(2, 4, 3).log_softmax(1)], [ALL.reshape(2, 3)], {"ignore_index": 1}),
    ("binary_cross_entropy_with_logits", [drawn()], [torch.tensor(0.3)], {}),
    ("binary_cross_entropy_with_logits", [drawn(6, 4)], [YES], {}),
    (
        "binary_cross_entropy_with_logits",
        [drawn(6, 4)],
        [SOFT],
        {"weight": drawn(6, 1, seed=3), "pos_weight": W},
    ),
    ("kl_div", [drawn(6, 4).log_softmax(1)], [SOFT], {}),
    ("kl_div", [drawn(6, 4).log_softmax(1)], [SOFT.log()], {"log_target": True}),
    ("kl_div", [drawn(4).log_softmax(0)], [SOFT], {}),
    ("kl_div", [drawn(6, 4).log_softmax(1)], [SOFT[0]], {}),
    ("linear_cross_entropy", [drawn(6, 3), drawn(4, 3, seed=1)], [T], {}),
    (
        "linear_cross_entropy",
        [drawn(6, 3), drawn(4, 3, seed=1)],
        [ALL],
        {"linear_bias": drawn(4, seed=2), "weight": W, "label_smoothing": 0.1, "ignore_index": 2},
    ),
]
EACH = pytest.mark.parametrize("call", CALLS, ids=[f"{call[0]}-{at}" for at, call in enumerate(CALLS)])
ONE_OF_EACH = [next(call for call in CALLS[::-1] if call[0] == name) for name in LOSSES]


def theirs(name: str) -> Callable[..., Any]:
    """The function of torch; a linear loss is the loss of the product, in torch of every version."""
    if name != "linear_cross_entropy":
        function: Callable[..., Any] = getattr(F, name)
        return function

    def linear(h: Any, w: Any, target: Any, linear_bias: Any = None, **options: Any) -> Any:
        return F.cross_entropy(F.linear(h, w, linear_bias), target, **options)

    return linear


def leaves(tensors: Any, dtype: Any = torch.float64) -> list[Any]:
    return [each.to(dtype).clone().requires_grad_() for each in tensors]


def gradients(function: Callable[..., Any], call: Any, dtype: Any, upstream: Any, **more: Any) -> list[Any]:
    """The loss of a call and its gradients, of everything that may have one."""
    _, parts, rest, options = call
    inputs = leaves(parts, dtype)
    options = {**options, **more}
    if "linear_bias" in options:
        (options["linear_bias"],) = bias = leaves([options["linear_bias"]], dtype)
        inputs += bias
    for key in ("weight", "pos_weight"):
        if key in options:
            options[key] = options[key].to(dtype)
    rest = [each.to(dtype) if each.is_floating_point() else each for each in rest]
    loss = function(*inputs[: len(parts)], *rest, **options)
    given = drawn(*loss.shape, seed=9, dtype=loss.dtype) if upstream else torch.ones_like(loss)
    return [loss, *torch.autograd.grad(loss, inputs, given)]


@EACH
@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")  # torch's, of kl_div
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_losses_and_gradients_are_torchs(call: Any, dtype: Any) -> None:
    name, parts, _, _ = call
    has_batch = name == "kl_div" and parts[0].ndim == 2
    reductions = ("mean", "sum", "none", *(("batchmean",) if has_batch else ()))
    for reduction, upstream in itertools.product(reductions, (False, True)):
        ours = gradients(getattr(ct, name), call, dtype, upstream, reduction=reduction)
        expected = gradients(theirs(name), call, dtype, upstream, reduction=reduction)
        for mine, their in zip(ours, expected, strict=True):
            assert mine.dtype == dtype
            rtol = 1e-12 if dtype == torch.float64 else 2e-5
            torch.testing.assert_close(mine, their, rtol=rtol, atol=rtol / 10)
            assert mine.shape == their.shape


@EACH
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_gradcheck(call: Any, reduction: str) -> None:
    name, parts, rest, options = call
    arguments = [*leaves(parts), *rest]
    function = getattr(ct, name)
    assert torch.autograd.gradcheck(
        lambda *x: 3 * function(*x, reduction=reduction, **options) ** 2, arguments
    )


@EACH
def test_values_have_the_bits_of_the_functions_of_arrays(call: Any) -> None:
    name, parts, rest, options = call
    for dtype in (torch.float64, torch.bfloat16):
        given = [each.to(dtype, copy=True) for each in parts]
        expected = getattr(crossent, name)(*given, *rest, **options)
        for record in (False, True):
            loss = getattr(ct, name)(*(each.requires_grad_(record) for each in given), *rest, **options)
            assert loss.requires_grad == record
            assert loss.dtype == (
                torch.float64 if dtype == torch.float64 or "linear_bias" in options else torch.float32
            )
            assert np.array_equal(loss.detach().numpy(), expected)


def test_options_that_torch_lacks() -> None:
    x, where = drawn(2, 3, 4).requires_grad_(), torch.tensor([[True, False, True], [True, True, False]])
    target = torch.tensor([[0, -100, 3], [1, 1, -100]])
    for reduction in ("mean", "none"):
        loss = ct.cross_entropy(x, target.clamp(min=0), axis=-1, where=where, z_loss=0.1, reduction=reduction)
        flat = x.flatten(0, 1)
        expected = F.cross_entropy(flat, target.flatten(), reduction="sum" if reduction == "mean" else "none")
        z = 0.1 * flat.logsumexp(1) ** 2 * where.flatten()
        expected = (expected + z.sum()) / 4 if reduction == "mean" else (expected + z).reshape(2, 3)
        torch.testing.assert_close(loss, expected)
        both = [torch.autograd.grad(each.sum() * 2, x, retain_graph=True)[0] for each in (loss, expected)]
        torch.testing.assert_close(*both)
    h, w = drawn(6, 3).requires_grad_(), drawn(4, 3, seed=1).requires_grad_()
    loss = ct.linear_cross_entropy(h, w, T, softcap=2.0, z_loss=0.1, where=T != 3)
    capped = 2 * torch.tanh(h @ w.T / 2)
    masked = torch.where(T == 3, -100, T)
    expected = F.cross_entropy(capped, masked) + 0.1 * (capped.logsumexp(1)[masked >= 0] ** 2).mean()
    torch.testing.assert_close(loss, expected)
    for ours, their in zip(*(torch.autograd.grad(each, [h, w]) for each in (loss, expected)), strict=True):
        torch.testing.assert_close(ours, their)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_gradient_of_half_precision_is_rounded_once(dtype: Any, reduction: str) -> None:
    """GradScaler multiplies the loss by 65536, so that gradients that float16 cannot hold come through."""
    x, target = drawn(4096, 3, dtype=dtype) * 3, torch.arange(4096) % 3
    for upstream in (1.0, 65536.0):
        ours, wide = leaves([x], dtype)[0], leaves([x])[0]
        loss = ct.cross_entropy(ours, target, reduction=reduction)
        assert loss.dtype == torch.float32
        (upstream * loss).mean().backward()
        (upstream * F.cross_entropy(wide, target, reduction=reduction)).mean().backward()
        assert ours.grad.dtype == dtype
        rounded = wide.grad.to(dtype)
        assert (
            ours.grad != rounded
        ).float().mean() < 0.01  # where the float64 of one of them is next to a tie
        torch.testing.assert_close(ours.grad, rounded, rtol=2.0**-7, atol=2.0**-24)
    assert (ours.grad != 0).all()


def test_no_gradient_costs_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    x = drawn(6, 4).requires_grad_()
    expected = ct.cross_entropy(x, T)

    def refuse(*arguments: Any) -> None:
        raise AssertionError("a gradient was computed")

    refusing = dataclasses.replace(ct._CROSS_ENTROPY, value_and_gradients=refuse)
    monkeypatch.setattr(ct, "_CROSS_ENTROPY", refusing)
    with pytest.raises(AssertionError):
        ct.cross_entropy(x, T)
    with torch.no_grad():
        losses = [ct.cross_entropy(x, T), ct.cross_entropy(x, T, W.requires_grad_())]
    W.requires_grad_(False)
    with torch.inference_mode():
        losses.append(ct.cross_entropy(x, T))
    losses.append(ct.cross_entropy(x.detach(), T))
    assert all(not loss.requires_grad and loss.grad_fn is None for loss in losses)
    assert losses[0] == losses[2] == losses[3] == expected


@pytest.mark.parametrize("call", ONE_OF_EACH, ids=LOSSES)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_second_derivative_raises(call: Any, reduction: str) -> None:
    """Also where other terms have one, and where it is asked of some tensors only: nothing is silently left out."""
    name, parts, rest, options = call
    text = f"{name} has no second derivative"
    inputs = leaves(parts)
    factor = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)

    def gradient(term: float) -> Any:
        hidden = [each * 1 for each in inputs]
        loss = factor * getattr(ct, name)(*hidden, *rest, reduction=reduction, **options).sum()
        loss = loss + term * sum(each.pow(3).sum() for each in hidden)
        return torch.autograd.grad(loss, inputs, create_graph=True)[0]

    for term in (0.0, 1.0):
        with pytest.raises(NotImplementedError, match=text):
            gradient(term).pow(2).sum().backward()
        for wanted in (*inputs, factor):
            with pytest.raises(NotImplementedError, match=text):
                torch.autograd.grad(gradient(term).pow(2).sum(), wanted)
    # A first derivative may be recorded, as long as it is not differentiated.
    loss = getattr(ct, name)(*inputs, *rest, reduction=reduction, **options).sum()
    once = torch.autograd.grad(loss, inputs, retain_graph=True)
    for one, other in zip(once, torch.autograd.grad(loss, inputs, create_graph=True), strict=True):
        assert torch.equal(one, other)


def test_second_and_forward_derivatives_by_transforms_raise() -> None:
    def loss(x: Any) -> Any:
        return ct.cross_entropy(x, T) + x.pow(3).sum()

    x, second, forward = drawn(6, 4), "has no second derivative", "has no derivative in forward mode"
    with pytest.raises(NotImplementedError, match=second):
        torch.autograd.functional.hessian(loss, x)
    with pytest.raises(NotImplementedError, match=second):
        torch.func.jacrev(torch.func.jacrev(loss))(x)
    for transform in (torch.func.jacfwd, torch.func.hessian):
        with pytest.raises(NotImplementedError, match=forward):
            transform(loss)(x)
    with pytest.raises(NotImplementedError, match=forward):
        torch.func.jvp(loss, (x,), (x,))
    for each in (x, x.clone().requires_grad_()):
        with torch.autograd.forward_ad.dual_level(), pytest.raises(NotImplementedError, match=forward):
            ct.cross_entropy(torch.autograd.forward_ad.make_dual(each, x), T)


def test_batches_of_upstream_gradients() -> None:
    x = drawn(6, 4).requires_grad_()
    for reduction, upstream in (("none", torch.eye(6, dtype=torch.float64)), ("mean", drawn(2))):
        loss, expected = (f(x, T, reduction=reduction) for f in (ct.cross_entropy, F.cross_entropy))
        rows = [torch.autograd.grad(expected, x, each, retain_graph=True)[0] for each in upstream]
        found = torch.func.vmap(
            lambda each, loss=loss: torch.autograd.grad(loss, x, each, retain_graph=True)[0]
        )(upstream)
        torch.testing.assert_close(found, torch.stack(rows))
        with pytest.raises(NotImplementedError, match=r"no batched backward pass: .*; use torch\.func\.vmap"):
            torch.autograd.grad(loss, x, upstream, is_grads_batched=True)


def test_only_the_input_has_a_gradient() -> None:
    x, text = drawn(6, 4).requires_grad_(), "has no derivative with respect to {}: got one that requires grad"
    wanted = {
        key: each.clone().requires_grad_()
        for key, each in {"target": SOFT, "weight": W, "pos_weight": W}.items()
    }
    with pytest.raises(NotImplementedError, match=text.format("target")):
        ct.cross_entropy(x, wanted["target"])
    with pytest.raises(NotImplementedError, match=text.format("target")):
        ct.kl_div(x.detach(), wanted["target"])
    with pytest.raises(NotImplementedError, match=text.format("weight")):
        ct.nll_loss(x, T, wanted["weight"])
    with pytest.raises(NotImplementedError, match=text.format("pos_weight")):
        ct.binary_cross_entropy_with_logits(x, YES, pos_weight=wanted["pos_weight"])
    with pytest.raises(NotImplementedError, match=text.format("weight")):
        ct.linear_cross_entropy(x, x, T.clamp(max=3), weight=drawn(6).requires_grad_())
    for key, value in (("label_smoothing", 0.1), ("softcap", 2.0)):
        learned = {key: torch.tensor(value, requires_grad=True)}
        with pytest.raises(NotImplementedError, match=text.format(key)):
            ct.linear_cross_entropy(x, x, ALL, **learned)
    with pytest.raises(NotImplementedError, match=text.format("target")):
        torch.func.grad(lambda p: ct.cross_entropy(x.detach(), p))(SOFT)
    assert torch.equal(ct.cross_entropy(x, wanted["target"].detach()), ct.cross_entropy(x, SOFT))


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")  # torch's own kl_div under vmap
@pytest.mark.parametrize("call", ONE_OF_EACH, ids=LOSSES)
def test_transforms_of_torch_func(call: Any) -> None:
    name, parts, rest, options = call

    def ours(*inputs: Any) -> Any:
        return getattr(ct, name)(*inputs, *rest, **options)

    def expected(*inputs: Any) -> Any:
        return theirs(name)(*inputs, *rest, **options)

    places = tuple(range(len(parts)))
    batch = [torch.stack([each, each * 2, each - 1], dim=1) for each in parts]
    for transform in (
        lambda f: torch.func.grad(f, argnums=places),
        lambda f: lambda *x: torch.func.jacrev(lambda *y: f(*y) * 2, argnums=places)(*x),
    ):
        for mine, their in zip(transform(ours)(*parts), transform(expected)(*parts), strict=True):
            torch.testing.assert_close(mine, their)
        found, wanted = (torch.vmap(transform(f), in_dims=1)(*batch) for f in (ours, expected))
        for mine, their in zip(found, wanted, strict=True):
            torch.testing.assert_close(mine, their)
    torch.testing.assert_close(torch.vmap(ours, in_dims=1)(*batch), torch.vmap(expected, in_dims=1)(*batch))


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_vmap_of_a_backward_pass(reduction: str) -> None:
    x = drawn(6, 4).requires_grad_()
    found = []
    for function in (ct.cross_entropy, F.cross_entropy):
        loss = function(x, T, reduction=reduction)
        upstream = drawn(3, *loss.shape, seed=4)
        pull = lambda g, y=loss: torch.autograd.grad(y, x, g, retain_graph=True)[0]  # noqa: E731
        found.append(torch.vmap(pull)(upstream))
    torch.testing.assert_close(*found)


def operator_calls() -> list[tuple[Any, tuple[Any, ...]]]:
    x, half = drawn(6, 4, dtype=torch.float32), drawn(3, 4, 2, dtype=torch.bfloat16).transpose(0, 2)
    log_p = drawn(6, 4).log_softmax(1)
    return [
        (ct._CROSS_ENTROPY, (x, T, W, -100, "mean", 0.1, 0.0, None, None)),
        (
            ct._CROSS_ENTROPY,
            (
                half,
                torch.zeros(2, 3, dtype=torch.int32),
                None,
                -100,
                "none",
                0.0,
                0.1,
                -2,
                torch.ones(2, 3) > 0,
            ),
        ),
        (ct._NLL_LOSS, (log_p, T, None, -100, "none", None, None)),
        (ct._BINARY_CROSS_ENTROPY, (x.t(), YES.t(), None, W[:, None], "sum")),
        (ct._BINARY_CROSS_ENTROPY, (x, YES, drawn(6, 1), None, "none")),
        (ct._KL_DIV, (log_p, SOFT, "batchmean", False)),
        (ct._KL_DIV, (log_p, SOFT[0].log(), "none", True)),
        (
            ct._LINEAR_CROSS_ENTROPY,
            (
                drawn(6, 3),
                drawn(4, 3, dtype=torch.float32),
                None,
                T,
                W,
                None,
                -100,
                "mean",
                0.1,
                2.0,
                0.0,
                None,
            ),
        ),
        (
            ct._LINEAR_CROSS_ENTROPY,
            (
                half[0],
                half[1].clone(),
                drawn(4),
                torch.tensor([1, 0, 1, 2]),
                None,
                None,
                -100,
                "none",
                0.0,
                None,
                0.1,
                9,
            ),
        ),
    ]


@pytest.mark.parametrize(("loss", "arguments"), operator_calls(), ids=lambda each: getattr(each, "name", ""))
def test_operators_hold_to_torchs_rules(loss: Any, arguments: tuple[Any, ...]) -> None:
    backward = getattr(torch.ops.crossent, f"{loss.name}_backward").default
    grad_output = torch.ones_like(loss.operator(*arguments))
    rules = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(backward, (grad_output, *arguments), test_utils=rules)
    parts = [None if part is None else part.detach().requires_grad_() for part in arguments[: loss.parts]]
    results = torch.library.opcheck(loss.operator, (*parts, *arguments[loss.parts :]))
    assert set(results.values()) == {"SUCCESS"}
    assert len(results) == 4


def test_compiled_losses_are_the_losses() -> None:
    """In whole graphs, for batches of several sizes, with the gradients; and what eager calls refuse is refused."""
    layer = torch.nn.Linear(3, 4)
    module = ct.CrossEntropyLoss(torch.ones(4), reduction="none")

    def step(h: Any, target: Any) -> Any:
        x = layer(h)
        yes = F.one_hot(target, 4).float()
        terms = [
            ct.cross_entropy(x, target, label_smoothing=0.1),
            ct.nll_loss(x.log_softmax(1), target),
            ct.kl_div(x.log_softmax(1), yes, reduction="batchmean"),
            ct.binary_cross_entropy_with_logits(x, yes),
            ct.linear_cross_entropy(h, layer.weight, target, linear_bias=layer.bias),
            module(x, target).sum(),
        ]
        return sum(terms)

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    for rows in (6, 7, 9):
        h, target = drawn(rows, 3, dtype=torch.float32), torch.arange(rows) % 4
        found = []
        for function in (compiled, step):
            loss = function(h, target)
            found.append([loss, *torch.autograd.grad(loss, list(layer.parameters()))])
        for mine, eager in zip(*found, strict=True):
            torch.testing.assert_close(mine, eager)
    x = drawn(6, 4).requires_grad_()
    graph = torch.compile(
        lambda y, t: ct.cross_entropy(y, t) + y.pow(3).sum(), fullgraph=True, backend="eager"
    )
    with pytest.raises(IndexError, match=r"Target 4 is out of bounds"):
        graph(x, T + 1)
    (gradient,) = torch.autograd.grad(graph(x, T), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="has no second derivative"):
        gradient.sum().backward()


def test_tracers_see_an_operator() -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    x = drawn(6, 4)
    graph = make_fx(lambda y: ct.cross_entropy(y, T))(x)
    assert "crossent.cross_entropy" in graph.code
    assert torch.equal(graph(x + 1), ct.cross_entropy(x + 1, T))

    class Tagged(torch.Tensor):  # type: ignore[misc]
        pass

    tagged = x.as_subclass(Tagged).requires_grad_()
    loss = ct.cross_entropy(tagged, T)
    assert torch.equal(
        torch.autograd.grad(loss, tagged)[0], gradients(ct.cross_entropy, CALLS[0], x.dtype, False)[1]
    )


def test_a_training_loop_has_the_losses_of_torchs_modules() -> None:
    features, classes = drawn(200, 8, dtype=torch.float32), torch.arange(200) % 5
    weight = drawn(5, seed=1, dtype=torch.float32).exp()
    yes = F.one_hot(classes, 5).float()
    pairs = [
        (
            ct.CrossEntropyLoss(weight, label_smoothing=0.1),
            torch.nn.CrossEntropyLoss(weight, label_smoothing=0.1),
            classes,
        ),
        (ct.BCEWithLogitsLoss(pos_weight=weight), torch.nn.BCEWithLogitsLoss(pos_weight=weight), yes),
    ]
    for *criteria, target in pairs:
        runs = []
        for criterion in criteria:
            torch.manual_seed(0)
            model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 5))
            optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
            losses = []
            for _ in range(40):
                optimizer.zero_grad()
                loss = criterion(model(features), target)
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            runs.append(losses)
        assert runs[0][-1] < 0.9 * runs[0][0]
        np.testing.assert_allclose(*runs, rtol=1e-5)


MODULES = [
    (ct.CrossEntropyLoss(W, ignore_index=3, axis=-1, z_loss=0.1), ct.cross_entropy, (drawn(6, 4), ALL)),
    (ct.NLLLoss(W, reduction="none"), ct.nll_loss, (drawn(6, 4).log_softmax(1), T)),
    (
        ct.BCEWithLogitsLoss(W, pos_weight=W, reduction="sum"),
        ct.binary_cross_entropy_with_logits,
        (drawn(6, 4), YES),
    ),
    (
        ct.KLDivLoss(reduction="batchmean", log_target=True),
        ct.kl_div,
        (drawn(6, 4).log_softmax(1), SOFT.log()),
    ),
]


@pytest.mark.parametrize(("module", "function", "arguments"), MODULES, ids=lambda each: type(each).__name__)
def test_a_module_holds_the_options_of_its_function(module: Any, function: Any, arguments: Any) -> None:
    options = {key: getattr(module, key) for key in inspect.signature(type(module)).parameters}
    expected = function(*arguments, **options)
    theirs = getattr(torch.nn, type(module).__name__)
    assert isinstance(module, theirs)
    assert set(module.state_dict()) == {
        key for key, value in options.items() if isinstance(value, torch.Tensor)
    }
    for same in (module, pickle.loads(pickle.dumps(module)), copy.deepcopy(module)):
        assert torch.equal(same(*arguments), expected)
    narrow = copy.deepcopy(module).float()
    assert all(each.dtype == torch.float32 for each in narrow.buffers())
    fresh = type(module)(
        **{key: each if not isinstance(each, torch.Tensor) else each * 0 for key, each in options.items()}
    )
    fresh.load_state_dict(module.state_dict())
    assert torch.equal(fresh(*arguments), expected)
    for key in inspect.signature(type(module)).parameters:
        default = inspect.signature(type(module)).parameters[key].default
        assert (f"{key}=" in repr(module)) == (
            isinstance(options[key], torch.Tensor) or options[key] != default
        )


def test_modules_take_a_mask() -> None:
    where = T != 2
    for module, function in ((ct.CrossEntropyLoss(W), ct.cross_entropy), (ct.NLLLoss(W), ct.nll_loss)):
        x = drawn(6, 4).log_softmax(1)
        assert torch.equal(module(x, T, where=where), function(x, T, W, where=where))
    assert repr(ct.CrossEntropyLoss()) == "CrossEntropyLoss()"
    assert repr(ct.CrossEntropyLoss(W, axis=-1)) == "CrossEntropyLoss(weight=(4,), axis=-1)"


def test_signatures_are_those_of_the_functions_of_arrays() -> None:
    for name in LOSSES:
        ours, arrays = (inspect.signature(getattr(module, name)).parameters for module in (ct, crossent))
        assert [(each.name, each.kind, each.default) for each in ours.values()] == [
            (each.name, each.kind, each.default)
            for each in arrays.values()
            if each.name not in ("dtype", "out")
        ]


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_no_tensor_in_the_cpus_memory_is_refused(name: str) -> None:
    _, parts, rest, options = ONE_OF_EACH[LOSSES.index(name)]
    function, tensors = getattr(ct, name), [*parts, *rest]
    for at in range(len(tensors)):
        for record in (False, True):
            given = [
                each.detach().requires_grad_(record and place < len(parts))
                for place, each in enumerate(tensors)
            ]
            for wrong in (given[at].detach().numpy(), given[at].tolist(), None):
                with pytest.raises(
                    TypeError, match=rf"must be a torch.Tensor: got \w+; .* use crossent\.{name}"
                ):
                    function(*given[:at], wrong, *given[at + 1 :], **options)
            moved = given[at].detach().to("meta").requires_grad_(given[at].requires_grad)
            with pytest.raises(
                TypeError, match=r"is not in the CPU's memory: got a tensor on meta.*use `\.cpu\(\)`"
            ):
                function(*given[:at], moved, *given[at + 1 :], **options)
            with pytest.raises(TypeError, match=r"is not a dense tensor: .*use `\.to_dense\(\)`"):
                function(*given[:at], given[at].detach().to_sparse(), *given[at + 1 :], **options)
    for key in options.keys() & {"weight", "pos_weight", "linear_bias"}:
        with pytest.raises(TypeError, match=rf"{key} must be a torch.Tensor: got list"):
            function(*tensors, **{**options, key: [1.0, 1.0, 1.0, 1.0]})


def test_errors_of_arguments_are_those_of_arrays() -> None:
    x = drawn(6, 4).requires_grad_()
    with pytest.raises(IndexError, match=r"Target 9 is out of bounds: got target\[1\] = 9"):
        ct.cross_entropy(x, torch.tensor([0, 9, 0, 0, 0, 0]))
    with pytest.raises(ValueError, match="reduction"):
        ct.cross_entropy(x, T, reduction="avg")
    with pytest.raises(ValueError, match=r"wrong shape|does not fit"):
        ct.cross_entropy(x, T[:5])
    with pytest.raises(TypeError, match="must be floating"):
        ct.cross_entropy(x.detach().int(), T)
    with pytest.raises(TypeError, match="must be floating: got dtype complex64"):
        ct.cross_entropy(x.detach().to(torch.complex64), T)
    with pytest.raises(ValueError, match="does not fit"):
        ct.kl_div(x.log_softmax(1), drawn(3, 4).exp())
    with pytest.raises(ValueError, match="does not fit"):  # the batch of which is not that of the input
        ct.kl_div(x[0].log_softmax(0), SOFT, reduction="batchmean")
    with pytest.raises(OverflowError):
        ct.cross_entropy(x, T, ignore_index=2**70)


SUGGESTED: list[tuple[Callable[[], Any], str]] = [
    (lambda: ct.cross_entropy(drawn(6, 4), ALL[:, None]), "use torch.squeeze(target, axis=1)"),
    (lambda: ct.cross_entropy(drawn(6, 4), ALL.double()), "use target.to(torch.int64)"),
    (lambda: ct.cross_entropy(drawn(2, 4), ALL[:2] > 0), "use target.to(torch.int64)"),
    (lambda: ct.cross_entropy(drawn(6, 4).int(), ALL), "use input.to(torch.float64)"),
    (lambda: ct.cross_entropy(drawn(6, 4), F.one_hot(ALL, 4)), "use torch.argmax(target, axis=1)"),
    (lambda: ct.cross_entropy(drawn(6, 4), ALL, where=T), "where=torch.not_equal(target, padding)"),
    (
        lambda: ct.cross_entropy(drawn(2, 4), torch.tensor([1.0, torch.nan])),
        "torch.where(torch.isnan(target), -100, target).to(torch.int64)",
    ),
    (
        lambda: ct.binary_cross_entropy_with_logits(drawn(6, 1), ALL.double()),
        "use torch.reshape(target, (6, 1))",
    ),
    (lambda: ct.linear_cross_entropy(drawn(6, 4), W, ALL.double()), ""),
]


@pytest.mark.parametrize(("call", "suggested"), SUGGESTED)
def test_errors_suggest_functions_of_torch(call: Callable[[], Any], suggested: str) -> None:
    """Those of NumPy give arrays, which the functions here refuse."""
    with pytest.raises((TypeError, ValueError)) as raised:
        call()
    assert suggested in str(raised.value)
    assert "numpy" not in str(raised.value)


def test_what_errors_suggest_runs() -> None:
    names = {"torch": torch, "target": ALL[:, None], "input": drawn(6, 4).int(), "padding": 0}
    for _, suggested in SUGGESTED:
        expression = suggested.removeprefix("use ").removeprefix("where=")
        assert not expression or isinstance(eval(expression, {**names}), torch.Tensor)


def test_integers_of_every_width_are_classes() -> None:
    x = drawn(5, 4).requires_grad_()
    expected = gradients(ct.cross_entropy, ("", [x.detach()], [T[:5]], {}), x.dtype, False)
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32):
        for mine, their in zip(
            gradients(ct.cross_entropy, ("", [x.detach()], [T[:5].to(dtype)], {}), x.dtype, False),
            expected,
            strict=True,
        ):
            assert torch.equal(mine, their)


def test_any_layout_and_upstream_gradient() -> None:
    x = drawn(4, 6).t().requires_grad_()
    for given in (x, x.flip(0), x[::2], x[:1].expand(6, 4)):
        target = T[: len(given)].clamp(min=0)
        for dtype in (torch.float64, torch.float32):
            ours, their = (
                torch.autograd.grad(f(given.to(dtype), target, reduction="none").sum(), x)[0]
                for f in (ct.cross_entropy, F.cross_entropy)
            )
            torch.testing.assert_close(ours, their, rtol=1e-6, atol=1e-6)
    imaginary = torch.view_as_complex(drawn(6, 4, 2)).conj().imag  # a view that negates
    torch.testing.assert_close(ct.cross_entropy(imaginary, T), F.cross_entropy(imaginary.clone(), T))


def test_a_graph_that_is_kept_gives_its_gradient_again() -> None:
    x = drawn(6, 4).requires_grad_()
    loss = ct.cross_entropy(x, T)
    loss.backward(retain_graph=True)
    first = x.grad.clone()
    x.grad *= 5  # what is done to a gradient does nothing to the graph
    (2 * loss).backward(retain_graph=True)
    torch.testing.assert_close(x.grad, 7 * first)
    assert torch.equal(torch.autograd.grad(loss, x)[0], first)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


@pytest.mark.parametrize("call", ONE_OF_EACH, ids=LOSSES)
@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_what_is_written_to_a_gradient_is_not_in_the_next(call: Any, factor: float) -> None:
    name, parts, rest, options = call
    inputs = leaves(parts)
    loss = factor * getattr(ct, name)(*inputs, *rest, **options)
    given = torch.autograd.grad(loss, inputs, retain_graph=True)
    expected = [each.clone() for each in given]
    for first, second in zip(given, expected, strict=True):
        first.mul_(5)
        first.numpy()[:] = 7  # which torch does not see
        assert not torch.equal(first, second)
    for again, each in zip(torch.autograd.grad(loss, inputs, retain_graph=True), expected, strict=True):
        assert torch.equal(again, each)


def test_writing_to_an_argument_before_the_backward_pass_is_noticed() -> None:
    for reduction in ("mean", "none"):
        hidden = drawn(6, 4).requires_grad_() * 1
        loss = ct.cross_entropy(hidden, T, reduction=reduction).sum()
        hidden.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def ways_to_call() -> dict[str, Callable[[Any, Any], Any]]:
    class Model(torch.nn.Module):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.criterion = ct.CrossEntropyLoss()

        def forward(self, x: Any, target: Any) -> Any:
            return self.criterion(x, target)

    return {
        "function": lambda x, t: ct.cross_entropy(x, t),
        "rows": lambda x, t: ct.cross_entropy(x[:, :1], t + 100, reduction="none").sum(),
        "module": ct.CrossEntropyLoss(),
        "half": lambda x, t: ct.CrossEntropyLoss()(x.half(), t),
        "nested": Model(),
        "linear": lambda x, t: ct.linear_cross_entropy(x, torch.ones(3, 4), t),
        "linear, half": lambda x, t: ct.linear_cross_entropy(x.half(), torch.ones(3, 4).half(), t),
        "compiled": torch.compile(lambda x, t: ct.cross_entropy(x, t), backend="aot_eager", fullgraph=True),
    }


@pytest.mark.parametrize("way", ways_to_call())
def test_a_warning_names_the_users_line_and_comes_once(way: str) -> None:
    """Not a line of this package, or of torch, which calls modules and operators. The backward pass is silent."""
    call, ignored = ways_to_call()[way], torch.tensor([-100, -100])
    for record in (True, False):
        x = torch.ones(2, 4, requires_grad=record)
        with pytest.warns(crossent.LikelyMistakeWarning) as caught:
            loss = call(x, ignored)
            if record:
                loss.backward()
                assert not x.grad.any()
        assert [each.filename for each in caught] == [__file__]
    with warnings.catch_warnings(), pytest.raises(crossent.LikelyMistakeWarning):
        warnings.simplefilter("error")
        call(x, ignored)


def test_a_transform_warns_once() -> None:
    with pytest.warns(crossent.LikelyMistakeWarning) as caught:
        torch.func.grad(ct.cross_entropy)(drawn(2, 4), torch.tensor([-100, -100]))
    assert [each.filename for each in caught] == [__file__]


def test_the_warnings_of_other_calls_are_not_suppressed_by_a_backward_pass() -> None:
    x = drawn(6, 4).requires_grad_()
    loss = ct.cross_entropy(x, T, reduction="none").sum()
    x.register_hook(lambda grad: grad + ct.cross_entropy(drawn(0, 4), T[:0]))
    with pytest.warns(crossent.LikelyMistakeWarning):
        loss.backward()


def test_bfloat16_training_under_autocast() -> None:
    layer = torch.nn.Linear(3, 4)
    h = drawn(6, 3, dtype=torch.float32)
    found = []
    for function in (ct.cross_entropy, F.cross_entropy):
        layer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            x = layer(h)
            assert x.dtype == torch.bfloat16
            loss = function(x, T)
        loss.backward()
        found.append([loss.float(), layer.weight.grad])
    for mine, their in zip(*found, strict=True):
        torch.testing.assert_close(mine, their, rtol=0.02, atol=0.01)


def test_a_machine_without_torch_is_told_what_to_install() -> None:
    code = "import sys; sys.modules['torch'] = None; import crossent.torch"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 1
    assert "ImportError: crossent.torch needs torch: pip install torch" in run.stderr


def test_reloading_the_module_is_harmless() -> None:
    import importlib

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = importlib.reload(ct)
    torch.testing.assert_close(again.cross_entropy(drawn(6, 4), T), F.cross_entropy(drawn(6, 4), T))
