"""The losses for torch: of tensors in the CPU's memory, with autograd, under ``torch.compile`` and as modules.

Values and gradients are those of the functions of `crossent` with these names, which read tensors in place. The losses
are tensors of float32, or of float64 for an input of float64, also where the input is of half precision. There is a
first derivative, with respect to the input; a second one, or one with respect to anything else, raises.
"""

# Annotations stay objects here: `torch.compile` and other tools read them.

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crossent import _core
from crossent._arguments import Reduction
from crossent._exceptions import quiet
from crossent._interop import float_name
from crossent._losses.linear import linear_cross_entropy as _linear_value
from crossent._losses.linear import linear_cross_entropy_and_grad as _linear_value_and_grad

try:
    import torch
except ImportError as _error:
    raise ImportError("crossent.torch needs torch: pip install torch") from _error

from torch import Tensor
from torch.autograd import forward_ad

__all__ = [
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "KLDivLoss",
    "NLLLoss",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "kl_div",
    "linear_cross_entropy",
    "nll_loss",
]

_KlReduction: TypeAlias = Reduction | Literal["batchmean"]

# Functions of the arguments of a loss that give NumPy's numbers and arrays: the loss; and of the upstream gradient too,
# the loss and a gradient for each part that is there.
_Value: TypeAlias = Callable[..., Any]
_ValueAndGradients: TypeAlias = Callable[..., tuple[Any, tuple[NDArray[Any], ...]]]


# There are two ways to compute a loss. A call on plain tensors calls the compiled function at once and, for a gradient,
# records a node written in Python: that takes some 10 us. Where the operation itself must be seen, and not its numbers
# (by torch.compile, torch.export, torch.func and dispatch modes), an operator of torch.library is called, which takes
# several times as long.


@dataclass(frozen=True)
class _Loss:
    """What a loss is made of."""

    name: str
    names: tuple[str, ...]  # of the arguments
    tensors: frozenset[str]  # which of them are tensors
    optional: frozenset[str]  # which of those may be None
    parts: int  # so many of the first arguments have a gradient
    value: _Value
    value_and_gradients: _ValueAndGradients
    operator: Callable[..., Tensor]

    def __call__(self, *arguments: Any) -> Tensor:
        """Compute the loss; its arguments are in the order of the operator."""
        compiled = torch.compiler.is_compiling()
        transformed = not compiled and torch._C._are_functorch_transforms_active()
        plain = not (
            compiled
            or transformed
            or torch._C._len_torch_dispatch_stack()
            or torch._C._get_tracing_state() is not None
        )
        forward_mode = not compiled and forward_ad._current_level >= 0
        recorded, full = False, True
        for at, (name, tensor) in enumerate(zip(self.names, arguments, strict=True)):
            if not isinstance(tensor, Tensor):
                if name not in self.tensors or (tensor is None and name in self.optional):
                    continue
                raise TypeError(
                    f"{name} must be a torch.Tensor: got {type(tensor).__name__}; for arrays of NumPy and others use "
                    f"crossent.{self.name}"
                )
            if tensor.requires_grad and torch.is_grad_enabled():
                if at >= self.parts:
                    raise NotImplementedError(_no_derivative(self, name))
                recorded = True
            if forward_mode and forward_ad.unpack_dual(tensor).tangent is not None:
                raise NotImplementedError(_no_forward_mode(self.name))
            plain = plain and type(tensor) in _PLAIN
            if at < self.parts:
                full = full and tensor.dtype in _FULL
        loss: Tensor
        if transformed:
            loss = _Function.apply(self, *arguments)
        elif not plain:
            loss = self.operator(*arguments)
        elif not recorded:
            loss = _tensor(self.value(*arguments))
        elif full and arguments[self.names.index("reduction")] != "none":
            value, grads = self.value_and_gradients(None, *arguments)
            loss = _Node.apply(self, value, grads, arguments, *arguments[: self.parts])
        else:  # The backward pass computes the gradients, rounded once.
            loss = _Node.apply(self, self.value(*arguments), None, arguments, *arguments[: self.parts])
        return loss

    def gradients(self, grad_output: Tensor | None, *arguments: Any) -> tuple[NDArray[Any], ...]:
        """Compute the gradients in a backward pass: what there is to warn of, the loss warned of."""
        with quiet():
            return self.value_and_gradients(grad_output, *arguments)[1]


_PLAIN = (Tensor, torch.nn.Parameter)
_FULL = (torch.float32, torch.float64)


def _no_derivative(loss: _Loss, name: str) -> str:
    parts = " and ".join(loss.names[: loss.parts])
    return (
        f"{loss.name} has no derivative with respect to {name}: got one that requires grad, expected it of {parts} "
        f"only; use {name}.detach(), or torch.nn.functional.{loss.name}"
    )


def _no_forward_mode(name: str) -> str:
    return (
        f"{name} has no derivative in forward mode: got a tensor with a tangent (of torch.func.jvp, jacfwd or "
        f"hessian, or torch.autograd.forward_ad); use torch.nn.functional.{name}, or reverse mode"
    )


def _no_second_derivative(name: str) -> str:
    return (
        f"{name} has no second derivative: its gradient, made with create_graph=True, is differentiated again; use "
        f"torch.nn.functional.{name} where a loss is differentiated twice"
    )


# What error texts suggest for NumPy, and the same for torch.
_SPELLINGS = [
    (re.compile(pattern), torchs)
    for pattern, torchs in (
        (r"numpy\.asarray\((\w+), dtype=(?:numpy\.)?(\w+)\)", r"\1.to(torch.\2)"),
        (r"\.astype\(numpy\.(\w+)\)", r".to(torch.\1)"),
        (r"numpy\.asarray\(([^()]+)\)", r"\1"),
        (r"numpy\.equal\(", "torch.eq("),
        (r"numpy\.", "torch."),
    )
]


def _for_tensors(function: _Value) -> _Value:
    """Give a function of arrays tensors, and have its errors suggest functions of torch."""

    def call(*arguments: Any) -> Any:
        try:
            return function(*[_array(each) if isinstance(each, Tensor) else each for each in arguments])
        except (IndexError, TypeError, ValueError) as error:
            text = str(error)
            for pattern, torchs in _SPELLINGS:
                text = pattern.sub(torchs, text)
            raise type(error)(text) from None

    return call


def _array(tensor: Tensor) -> Any:
    """Give a tensor as NumPy's array where torch can, in a fraction of the time that `crossent` needs to read one."""
    if tensor.dtype == torch.bfloat16:  # which torch would raise for, slowly
        return tensor
    try:
        return tensor.detach().numpy()
    except (TypeError, RuntimeError):  # of another device, for example: refused as everywhere
        return tensor


def _tensor(array: Any) -> Tensor:
    """Give an array or a number of NumPy as a tensor, without a copy."""
    array = np.asarray(array)
    if float_name(array.dtype) == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _aligned(grads: Any, parts: tuple[Any, ...]) -> tuple[Tensor | None, ...]:
    """Give each part its gradient, and None to one that is not there."""
    given = iter(grads)
    return tuple(None if part is None else next(given) for part in parts)


def _save(ctx: Any, arguments: tuple[Any, ...]) -> None:
    """Keep arguments for the backward pass; of tensors torch checks that nothing writes to them until then."""
    ctx.save_for_backward(*[each if isinstance(each, Tensor) else None for each in arguments])
    ctx.options = [None if isinstance(each, Tensor) else each for each in arguments]


def _saved(ctx: Any) -> tuple[Any, ...]:
    """Return what `_save` kept."""
    pairs = zip(ctx.saved_tensors, ctx.options, strict=True)
    return tuple(option if tensor is None else tensor for tensor, option in pairs)


class _Node(torch.autograd.Function):
    """A loss in torch's graph."""

    @staticmethod
    def forward(
        ctx: Any,
        loss: _Loss,
        value: Any,
        grads: tuple[NDArray[Any], ...] | None,  # None: the backward pass computes them
        arguments: tuple[Any, ...],
        *_: Any,  # the parts, which torch connects the loss with
    ) -> Tensor:
        ctx.loss, ctx.grads = loss, grads
        _save(ctx, arguments)
        return _tensor(value)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Any, ...]:
        loss: _Loss = ctx.loss
        arguments = _saved(ctx)
        parts = arguments[: loss.parts]
        if torch._C._are_functorch_transforms_active():  # torch.vmap of torch.autograd.grad
            grads = _FunctionGradients.apply(loss, grad_output, *arguments)
        elif isinstance(_array(grad_output), Tensor):
            raise NotImplementedError(
                f"{loss.name} has no batched backward pass: got several upstream gradients at once (of "
                "is_grads_batched=True, or vectorize=True); use torch.func.vmap, or torch.func.jacrev"
            )
        elif ctx.grads is None:
            grads = tuple(map(_tensor, loss.gradients(grad_output, *arguments)))
        else:
            # They are given away, and may be written to: a second backward pass computes them again.
            computed, ctx.grads = ctx.grads, ()
            grads = tuple(map(_tensor, computed or loss.gradients(None, *arguments)))
            factor = grad_output.item()
            if factor != 1.0:
                grads = tuple(grad.mul_(factor) for grad in grads)
        if torch.is_grad_enabled():  # create_graph=True
            grads = _Gradient.apply(loss.name, grads, grad_output, *parts)
        return None, None, None, None, *_aligned(grads, parts)


class _Gradient(torch.autograd.Function):
    """Gradients that raise where they are differentiated again.

    They hang on the input. With `once_differentiable` they would hang on the upstream gradient only, and a second
    derivative that is not asked of that, or of several terms, would silently lack this one.
    """

    @staticmethod
    def forward(ctx: Any, name: str, grads: tuple[Tensor, ...], *_: Any) -> tuple[Tensor, ...]:
        ctx.name = name
        return tuple(grad.detach() for grad in grads)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise NotImplementedError(_no_second_derivative(ctx.name))


def _one_by_one(
    function: type[torch.autograd.Function], info: Any, in_dims: Any, *arguments: Any
) -> tuple[Any, Any]:
    """Apply a function to the items of a batch, one after the other, for `torch.vmap`."""

    def item(at: int) -> Any:
        pairs = zip(arguments, in_dims, strict=True)
        return function.apply(*(each if dim is None else each.select(dim, at) for each, dim in pairs))

    if info.batch_size == 0:
        raise ValueError(
            "torch.vmap of a loss is over an empty batch: got a batch of size 0, expected 1 or more; skip empty batches"
        )
    results = [item(at) for at in range(info.batch_size)]
    if isinstance(results[0], Tensor):
        return torch.stack(results), 0
    return tuple(torch.stack(each) for each in zip(*results, strict=True)), (0,) * len(results[0])


class _Function(torch.autograd.Function):
    """A loss for the transforms of torch.func."""

    @staticmethod
    def forward(loss: _Loss, *arguments: Any) -> Tensor:
        return loss.operator(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG004 (torch's name)
        ctx.loss = inputs[0]
        _save(ctx, inputs[1:])

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Any, ...]:
        loss: _Loss = ctx.loss
        _check_needs(loss, ctx.needs_input_grad[1:])
        arguments = _saved(ctx)
        grads = _aligned(_FunctionGradients.apply(loss, grad_output, *arguments), arguments[: loss.parts])
        return None, *grads, *(None for _ in arguments[loss.parts :])

    @staticmethod
    def vmap(info: Any, in_dims: Any, *arguments: Any) -> tuple[Any, Any]:
        return _one_by_one(_Function, info, in_dims, *arguments)

    @staticmethod
    def jvp(ctx: Any, *_: Any) -> Any:
        raise NotImplementedError(_no_forward_mode(ctx.loss.name))


class _FunctionGradients(torch.autograd.Function):
    """The gradients of a loss for the transforms of torch.func."""

    @staticmethod
    def forward(loss: _Loss, grad_output: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
        return tuple(_tensor(grad) for grad in loss.gradients(grad_output, *arguments))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG004 (torch's name)
        ctx.loss = inputs[0]

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise NotImplementedError(_no_second_derivative(ctx.loss.name))

    @staticmethod
    def vmap(info: Any, in_dims: Any, *arguments: Any) -> tuple[Any, Any]:
        return _one_by_one(_FunctionGradients, info, in_dims, *arguments)

    @staticmethod
    def jvp(ctx: Any, *_: Any) -> Any:
        raise NotImplementedError(_no_forward_mode(ctx.loss.name))


def _check_needs(loss: _Loss, needed: tuple[bool, ...]) -> None:
    """Raise where a gradient is asked for that is none of the loss."""
    for name, need in list(zip(loss.names, needed, strict=True))[loss.parts :]:
        if need:
            raise NotImplementedError(_no_derivative(loss, name))


def _laid_out(grad: NDArray[Any], part: Tensor) -> Tensor:
    """Give a gradient as a tensor with the strides that an operator promises, those of `empty_like`."""
    tensor = _tensor(grad)
    if tensor.stride() == torch.empty_like(part, device="meta").stride():
        return tensor
    return torch.empty_like(part).copy_(tensor)


def _define(
    name: str,
    parts: int,
    schema: str,
    value: _Value,
    value_and_gradients: _ValueAndGradients,
    shape: Callable[..., Any],
) -> _Loss:
    """Define a loss and its operator, whose gradient is an operator too.

    `value` and `value_and_gradients` are in NumPy's terms, `shape` is that of the loss.
    """
    loss: _Loss

    def there(arguments: tuple[Any, ...]) -> list[Tensor]:
        return [part for part in arguments[:parts] if part is not None]

    operator = torch.library.custom_op(
        f"crossent::{name}",
        lambda *arguments: _tensor(loss.value(*arguments)),
        mutates_args=(),
        schema=f"({schema}) -> Tensor",
    )
    backward = torch.library.custom_op(
        f"crossent::{name}_backward",
        lambda grad_output, *arguments: [
            _laid_out(grad, part)
            for grad, part in zip(loss.gradients(grad_output, *arguments), there(arguments), strict=True)
        ],
        mutates_args=(),
        schema=f"(Tensor grad_output, {schema}) -> Tensor[]",
    )
    kinds = [each.split() for each in schema.split(", ")]
    names = tuple(key for _, key in kinds)
    tensors = frozenset(key for kind, key in kinds if kind in ("Tensor", "Tensor?"))
    optional = frozenset(key for kind, key in kinds if kind == "Tensor?")
    loss = _Loss(
        name,
        names,
        tensors,
        optional,
        parts,
        _for_tensors(value),
        _for_tensors(value_and_gradients),
        operator,
    )

    def differentiated(ctx: Any, grad_output: Tensor) -> tuple[Any, ...]:
        _check_needs(loss, ctx.needs_input_grad)
        arguments = _saved(ctx)
        grads = _aligned(backward(grad_output, *arguments), arguments[:parts])
        return *grads, *(None for _ in arguments[parts:])

    def kept(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001 (torch's name)
        _save(ctx, inputs)

    def differentiated_again(*_: Any) -> Any:
        raise NotImplementedError(_no_second_derivative(name))

    def meta(*arguments: Any) -> Tensor:
        double = any(part.dtype == torch.float64 for part in there(arguments))
        dtype = torch.float64 if double else torch.float32
        loss: Tensor = arguments[0].new_empty(shape(*arguments), dtype=dtype)
        return loss

    operator.register_fake(meta)
    operator.register_autograd(differentiated, setup_context=kept)
    backward.register_fake(lambda _, *arguments: [torch.empty_like(part) for part in there(arguments)])
    backward.register_autograd(differentiated_again)
    return loss


# The losses. An operator takes its arguments in the order of the compiled function, which has some more.


def _compiled(name: str, schema: str, shape: Callable[..., Any]) -> _Loss:
    """Define a loss that a compiled function computes, with a gradient of the input."""
    value, both = getattr(_core, name), getattr(_core, f"{name}_and_grad")

    def value_and_gradients(grad_output: Tensor | None, *arguments: Any) -> Any:
        loss, grad = both(*arguments, None, None, grad_output, None)  # dtype, out, grad_output, grad_out
        return loss, (grad,)

    return _define(
        name, 1, schema, lambda *arguments: value(*arguments, None, None), value_and_gradients, shape
    )


def _shape_of_rows(input: Tensor, reduction: str, axis: int | None) -> Any:
    if reduction != "none":
        return ()
    at = min(1, input.ndim - 1) if axis is None else axis % input.ndim
    return input.shape[:at] + input.shape[at + 1 :]


_CROSS_ENTROPY = _compiled(
    "cross_entropy",
    "Tensor input, Tensor target, Tensor? weight, int ignore_index, str reduction, float label_smoothing, "
    "float z_loss, int? axis, Tensor? where",
    lambda *arguments: _shape_of_rows(arguments[0], arguments[4], arguments[7]),
)

_NLL_LOSS = _compiled(
    "nll_loss",
    "Tensor input, Tensor target, Tensor? weight, int ignore_index, str reduction, int? axis, Tensor? where",
    lambda *arguments: _shape_of_rows(arguments[0], arguments[4], arguments[5]),
)

_BINARY_CROSS_ENTROPY = _compiled(
    "binary_cross_entropy_with_logits",
    "Tensor input, Tensor target, Tensor? weight, Tensor? pos_weight, str reduction",
    lambda *arguments: arguments[0].shape if arguments[4] == "none" else (),
)

_KL_DIV = _compiled(
    "kl_div",
    "Tensor input, Tensor target, str reduction, bool log_target",
    lambda x, t, reduction, _: torch.broadcast_shapes(x.shape, t.shape) if reduction == "none" else (),
)


def _linear(function: Callable[..., Any], arguments: Sequence[Any], **options: Any) -> Any:
    """Call a function of logits that are a product with the arguments of the operator."""
    h, w, b, t, weight, where, ignored, reduction, smoothing, softcap, z, block_bytes = arguments
    return function(
        h,
        w,
        t,
        linear_bias=b,
        weight=weight,
        ignore_index=ignored,
        reduction=reduction,
        label_smoothing=smoothing,
        softcap=softcap,
        z_loss=z,
        where=where,
        block_bytes=block_bytes,
        **options,
    )


def _linear_value_and_gradients(grad_output: Tensor | None, *arguments: Any) -> Any:
    loss, grads = _linear(_linear_value_and_grad, arguments, grad_output=grad_output)
    return loss, tuple(grad for grad in grads if grad is not None)


_LINEAR_CROSS_ENTROPY = _define(
    "linear_cross_entropy",
    3,
    "Tensor input, Tensor linear_weight, Tensor? linear_bias, Tensor target, Tensor? weight, Tensor? where, "
    "int ignore_index, str reduction, float label_smoothing, float? softcap, float z_loss, int? block_bytes",
    lambda *arguments: _linear(_linear_value, arguments),
    _linear_value_and_gradients,
    lambda *arguments: arguments[0].shape[:-1] if arguments[7] == "none" else (),
)


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    axis: int | None = None,
    where: Tensor | None = None,
) -> Tensor:
    """Compute the cross entropy between logits and their targets, with a gradient of the logits.

    For a row x of C logits, with w the class weights (all 1 without `weight`) and e the label smoothing, ::

        log_p = x - log(sum_c exp(x[c]))

        loss = -(1 - e) w[t] log_p[t] - e/C sum_c w[c] log_p[c]       target t, a class index
        loss = -sum_c w[c] ((1 - e) p[c] + e/C) log_p[c]              target p, class probabilities

    "mean" divides as `crossent.cross_entropy` does.

    Parameters
    ----------
    input : torch.Tensor of shape (C,), (N, C) or (N, C, d1, ..., dk)
        Logits: unnormalised scores, float16, bfloat16, float32 or float64.
    target : torch.Tensor
        Class indices from 0 to C - 1, of any integer dtype and of the shape of `input` without its class axis. Or class
        probabilities: floating, of the shape of `input`.
    weight : torch.Tensor of shape (C,), optional
        A factor for each class.
    ignore_index, reduction, label_smoothing, z_loss, axis
        As for `crossent.cross_entropy`.
    where : torch.Tensor of bool, or of integers 0 and 1, optional
        A mask of the rows, of the shape of `input` without its class axis. The rows it leaves out are ignored.

    Returns
    -------
    torch.Tensor
        The loss in nats, float64 for a float64 `input`, else float32: of shape (), or with "none" the losses of the
        rows, of the shape of `input` without its class axis.

    Raises
    ------
    IndexError, TypeError, ValueError, OverflowError
        As `crossent.cross_entropy`. `TypeError` also for an argument that is no tensor, or not in the CPU's memory.
    NotImplementedError
        If a gradient with respect to anything but `input` is asked for, a second derivative, or one in forward mode.

    Warns
    -----
    LikelyMistakeWarning
        As `crossent.cross_entropy`.

    See Also
    --------
    crossent.cross_entropy : The loss of arrays.
    CrossEntropyLoss : The loss as a module.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.cross_entropy``. What differs, beside what `crossent.cross_entropy`
    lists: the loss of half precision is of float32, there is no second derivative, and no gradient of class
    probabilities. The gradient has the dtype of `input`.

    Examples
    --------
    >>> import torch
    >>> from crossent.torch import cross_entropy
    >>> logits = torch.tensor(
    ...     [[1.0, 2.0, 3.0], [0.0, -1.0, 4.0]],
    ...     dtype=torch.float64,
    ...     requires_grad=True,
    ... )
    >>> loss = cross_entropy(logits, torch.tensor([2, 0]))
    >>> round(loss.item(), 4)
    2.2162
    >>> loss.backward()
    >>> logits.grad.numpy().round(4).tolist()
    [[0.045, 0.1224, -0.1674], [-0.4911, 0.0033, 0.4878]]
    """
    return _CROSS_ENTROPY(
        input, target, weight, ignore_index, reduction, label_smoothing, z_loss, axis, where
    )


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    axis: int | None = None,
    where: Tensor | None = None,
) -> Tensor:
    """Compute the negative log-likelihood of targets under log-probabilities, with a gradient of the latter.

    For a row x of C log-probabilities, its target t and the class weights w (all 1 without `weight`), ::

        loss = -w[t] x[t]

    "mean" divides the sum of the losses by the sum of w[t] over the counted rows.

    Parameters
    ----------
    input : torch.Tensor of shape (C,), (N, C) or (N, C, d1, ..., dk)
        Log-probabilities in nats, float16, bfloat16, float32 or float64.
    target : torch.Tensor
        Class indices from 0 to C - 1, of any integer dtype and of the shape of `input` without its class axis.
    weight : torch.Tensor of shape (C,), optional
        A factor for each class.
    ignore_index, reduction, axis
        As for `crossent.nll_loss`.
    where : torch.Tensor of bool, or of integers 0 and 1, optional
        A mask of the rows, of the shape of `target`. The rows it leaves out are ignored.

    Returns
    -------
    torch.Tensor
        The loss in nats, float64 for a float64 `input`, else float32: of shape (), or with "none" the losses of the
        rows, of the shape of `input` without its class axis.

    Raises
    ------
    IndexError, TypeError, ValueError, OverflowError
        As `crossent.nll_loss`. `TypeError` also for an argument that is no tensor, or not in the CPU's memory.
    NotImplementedError
        If a gradient with respect to anything but `input` is asked for, a second derivative, or one in forward mode.

    Warns
    -----
    LikelyMistakeWarning
        As `crossent.nll_loss`.

    See Also
    --------
    crossent.nll_loss : The loss of arrays.
    NLLLoss : The loss as a module.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.nll_loss``. What differs, beside what `crossent.nll_loss` lists: the
    loss of half precision is of float32, and there is no second derivative, not even the one that is 0.

    Examples
    --------
    >>> import torch
    >>> from crossent.torch import nll_loss
    >>> p = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])
    >>> log_p = p.log().requires_grad_()
    >>> loss = nll_loss(log_p, torch.tensor([0, 2]))
    >>> round(loss.item(), 4)
    0.4581
    >>> loss.backward()
    >>> log_p.grad.tolist()
    [[-0.5, 0.0, 0.0], [0.0, 0.0, -0.5]]
    """
    return _NLL_LOSS(input, target, weight, ignore_index, reduction, axis, where)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    pos_weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Compute the binary cross entropy of logits, with a gradient of the logits.

    For the logit x of each element, its target t, its weight w and positive weight q (1 without `weight` and
    `pos_weight`), with the probability p = 1 / (1 + exp(-x)), ::

        loss = -w (q t log(p) + (1 - t) log(1 - p))

    Parameters
    ----------
    input : torch.Tensor
        Logits of any shape, float16, bfloat16, float32 or float64.
    target : torch.Tensor
        The target probabilities, of the shape of `input`, of any floating, integer or boolean dtype.
    weight : torch.Tensor, optional
        A factor for each element, of a shape that broadcasts to that of `input`.
    pos_weight : torch.Tensor, optional
        A factor for the term of `target`, of a shape that broadcasts to that of `input`.
    reduction : {"mean", "sum", "none"}, default "mean"
        As for `crossent.binary_cross_entropy_with_logits`.

    Returns
    -------
    torch.Tensor
        The loss in nats, float64 for a float64 `input`, else float32: of shape (), or with "none" the losses of the
        elements, of the shape of `input`.

    Raises
    ------
    TypeError, ValueError
        As `crossent.binary_cross_entropy_with_logits`. `TypeError` also for an argument that is no tensor, or not in
        the CPU's memory.
    NotImplementedError
        If a gradient with respect to anything but `input` is asked for, a second derivative, or one in forward mode.

    Warns
    -----
    LikelyMistakeWarning
        If the mean is over no elements.

    See Also
    --------
    crossent.binary_cross_entropy_with_logits : The loss of arrays.
    BCEWithLogitsLoss : The loss as a module.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.binary_cross_entropy_with_logits``. What differs, beside what
    `crossent.binary_cross_entropy_with_logits` lists: the loss of half precision is of float32, there is no second
    derivative, and no gradient of targets.

    Examples
    --------
    >>> import torch
    >>> from crossent.torch import binary_cross_entropy_with_logits
    >>> logits = torch.tensor([2.0, -1.0], dtype=torch.float64, requires_grad=True)
    >>> loss = binary_cross_entropy_with_logits(logits, torch.tensor([1, 0]))
    >>> round(loss.item(), 4)
    0.2201
    >>> loss.backward()
    >>> logits.grad.numpy().round(4).tolist()
    [-0.0596, 0.1345]
    """
    return _BINARY_CROSS_ENTROPY(input, target, weight, pos_weight, reduction)


def _expanded(input: Any, target: Any) -> Any:
    """Give the input in the shape that both broadcast to, so that torch sums its gradient over what is repeated."""
    if not isinstance(input, Tensor) or not isinstance(target, Tensor) or input.shape == target.shape:
        return input
    try:
        shape = torch.broadcast_shapes(input.shape, target.shape)
    except RuntimeError:  # which the loss says better
        return input
    return input if shape == input.shape else input.expand(shape)


def kl_div(
    input: Tensor, target: Tensor, *, reduction: _KlReduction = "mean", log_target: bool = False
) -> Tensor:
    """Compute the Kullback-Leibler divergence, element by element, with a gradient of the log-probabilities.

    For the log-probability x of each element and its target t, ::

        loss = t (log(t) - x)
        loss = exp(t) (t - x)       with log_target

    Parameters
    ----------
    input : torch.Tensor
        Log-probabilities of any shape, float16, bfloat16, float32 or float64.
    target : torch.Tensor
        The target probabilities, or with `log_target` their logarithms, of a shape that broadcasts with that of
        `input`; with "batchmean", and where a gradient is asked for, to that of `input`.
    reduction : {"mean", "sum", "none", "batchmean"}, default "mean"
        As for `crossent.kl_div`. "batchmean" divides the sum by the length of the first dimension of `input`.
    log_target : bool, default False
        Whether `target` holds log-probabilities.

    Returns
    -------
    torch.Tensor
        The loss in nats, float64 for a float64 `input`, else float32: of shape (), or with "none" the losses of the
        elements, of the shape that `input` and `target` broadcast to.

    Raises
    ------
    TypeError, ValueError
        As `crossent.kl_div`. `TypeError` also for an argument that is no tensor, or not in the CPU's memory.
    NotImplementedError
        If a gradient with respect to anything but `input` is asked for, a second derivative, or one in forward mode.

    Warns
    -----
    LikelyMistakeWarning
        As `crossent.kl_div`.

    See Also
    --------
    crossent.kl_div : The loss of arrays.
    KLDivLoss : The loss as a module.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.kl_div``. What differs, beside what `crossent.kl_div` lists: the loss
    of half precision is of float32, there is no second derivative, and no gradient of targets: of a teacher pass
    ``target.detach()``.

    Examples
    --------
    >>> import torch
    >>> from crossent.torch import kl_div
    >>> model = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]).double().log()
    >>> model = model.requires_grad_()
    >>> truth = torch.tensor([[0.7, 0.2, 0.1], [0.0, 0.3, 0.7]]).double()
    >>> loss = kl_div(model, truth, reduction="batchmean")
    >>> round(loss.item(), 4)
    0.1105
    >>> loss.backward()
    >>> model.grad.numpy().round(4).tolist()
    [[-0.35, -0.1, -0.05], [-0.0, -0.15, -0.35]]
    """
    if reduction != "batchmean":
        input = _expanded(input, target)
    return _KL_DIV(input, target, reduction, log_target)


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
    softcap: float | None = None,
    z_loss: float = 0.0,
    where: Tensor | None = None,
    block_bytes: int | None = None,
) -> Tensor:
    """Compute the cross entropy of hidden states times an output matrix, with gradients of these and of the bias.

    For a row h of D features with target t, ::

        y = W h + b
        x = y                       without softcap
        x = c tanh(y / c)           with softcap c

        loss = cross_entropy(x, t)

    Logits exist for some rows at a time, and so do their gradients.

    Parameters
    ----------
    input : torch.Tensor of shape (D,), (N, D) or (..., D)
        Hidden states, float16, bfloat16, float32 or float64.
    linear_weight : torch.Tensor of shape (V, D)
        The output matrix, a row for each class: the `weight` of a ``torch.nn.Linear``.
    target : torch.Tensor of int
        Class indices from 0 to V - 1, of any integer dtype and of the shape of `input` without its last axis.
    linear_bias : torch.Tensor of shape (V,), optional
        A number for each class.
    weight : torch.Tensor of shape (V,), optional
        A factor for each class, in the loss.
    ignore_index, reduction, label_smoothing, softcap, z_loss
        As for `crossent.linear_cross_entropy`.
    where : torch.Tensor of bool, or of integers 0 and 1, optional
        A mask of the rows, of the shape of `target`. The rows it leaves out are ignored.
    block_bytes : int, optional
        As for `crossent.linear_cross_entropy`.

    Returns
    -------
    torch.Tensor
        The loss in nats, float64 if one of the tensors of the product is of float64, else float32: of shape (), or with
        "none" the losses of the rows, of the shape of `target`.

    Raises
    ------
    IndexError, TypeError, ValueError, OverflowError
        As `crossent.linear_cross_entropy`. `TypeError` also for an argument that is no tensor, or not in the CPU's
        memory.
    NotImplementedError
        If a gradient with respect to `weight` is asked for, a second derivative, or one in forward mode.

    Warns
    -----
    LikelyMistakeWarning
        As `crossent.linear_cross_entropy`.

    See Also
    --------
    crossent.linear_cross_entropy : The loss of arrays.
    cross_entropy : The loss of logits.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.linear_cross_entropy``. What differs, beside what
    `crossent.linear_cross_entropy` lists: the loss of half precision is of float32, and there is no second derivative.
    A loss that is reduced has its gradients computed with it, in one pass. With "none", or where one of the tensors is
    of half precision, the backward pass computes the logits again.

    Examples
    --------
    >>> import torch
    >>> from crossent.torch import linear_cross_entropy
    >>> layer = torch.nn.Linear(8, 50)
    >>> hidden, target = torch.ones(6, 8), torch.tensor([3, 1, 4, 1, 5, -100])
    >>> loss = linear_cross_entropy(
    ...     hidden, layer.weight, target, linear_bias=layer.bias
    ... )
    >>> loss.backward()
    >>> layer.weight.grad.shape, layer.bias.grad.shape
    (torch.Size([50, 8]), torch.Size([50]))
    """
    return _LINEAR_CROSS_ENTROPY(
        input,
        linear_weight,
        linear_bias,
        target,
        weight,
        where,
        ignore_index,
        reduction,
        label_smoothing,
        softcap,
        z_loss,
        block_bytes,
    )


# Modules. They derive from torch's, so that what looks at the class of a loss knows them, and take what these take.


class _Options(torch.nn.Module):
    """A repr that names the options other than the defaults."""

    def extra_repr(self) -> str:
        """Name the options, as in the call that makes the module.

        Returns
        -------
        str
            Those that are not the defaults.
        """
        parameters = inspect.signature(type(self)).parameters.values()
        options = ((each.name, getattr(self, each.name), each.default) for each in parameters)
        return ", ".join(
            f"{name}={tuple(value.shape)}" if isinstance(value, Tensor) else f"{name}={value!r}"
            for name, value, default in options
            if isinstance(value, Tensor) or value != default
        )


class CrossEntropyLoss(_Options, torch.nn.CrossEntropyLoss):
    """`cross_entropy` with its options, as a module.

    The loss, its equation, shapes, units (nats) and errors are those of `cross_entropy`.

    Parameters
    ----------
    weight : torch.Tensor of shape (C,), optional
        A factor for each class: a buffer, which is in the module's ``state_dict`` and moves with the module.
    ignore_index, reduction, label_smoothing, z_loss, axis
        As for `cross_entropy`, which checks them when the module is called.

    See Also
    --------
    cross_entropy : The function.

    Notes
    -----
    The torch equivalent is ``torch.nn.CrossEntropyLoss``, from which it derives.

    Examples
    --------
    >>> import torch
    >>> from crossent.torch import CrossEntropyLoss
    >>> loss = CrossEntropyLoss(label_smoothing=0.1)
    >>> loss
    CrossEntropyLoss(label_smoothing=0.1)
    >>> logits = torch.tensor([[1.0, 2.0, 3.0], [0.0, -1.0, 4.0]])
    >>> round(loss(logits, torch.tensor([2, 2])).item(), 4)
    0.4162
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
        axis: int | None = None,
    ) -> None:
        super().__init__(
            weight, ignore_index=ignore_index, reduction=reduction, label_smoothing=label_smoothing
        )
        self.z_loss = z_loss
        self.axis = axis

    def forward(self, input: Tensor, target: Tensor, *, where: Tensor | None = None) -> Tensor:
        """Compute the loss.

        Parameters
        ----------
        input : torch.Tensor of shape (N, C, ...)
            The logits.
        target : torch.Tensor of shape (N, ...)
            Class indices; class probabilities of the shape of `input` are allowed too.
        where : torch.Tensor of bool, optional
            Which rows count, as for `cross_entropy`.

        Returns
        -------
        torch.Tensor
            The loss in nats: a number, or with ``reduction="none"`` one for each row.
        """
        options: Any = {"ignore_index": self.ignore_index, "reduction": self.reduction, "axis": self.axis}
        return cross_entropy(
            input,
            target,
            self.weight,
            label_smoothing=self.label_smoothing,
            z_loss=self.z_loss,
            where=where,
            **options,
        )


class NLLLoss(_Options, torch.nn.NLLLoss):
    """`nll_loss` with its options, as a module.

    The loss, its equation, shapes, units (nats) and errors are those of `nll_loss`.

    Parameters
    ----------
    weight : torch.Tensor of shape (C,), optional
        A factor for each class: a buffer, which is in the module's ``state_dict`` and moves with the module.
    ignore_index, reduction, axis
        As for `nll_loss`, which checks them when the module is called.

    See Also
    --------
    nll_loss : The function.

    Notes
    -----
    The torch equivalent is ``torch.nn.NLLLoss``, from which it derives.

    Examples
    --------
    >>> import torch
    >>> from crossent.torch import NLLLoss
    >>> loss = NLLLoss(reduction="sum")
    >>> loss
    NLLLoss(reduction='sum')
    >>> log_p = torch.tensor([[0.5, 0.5], [0.25, 0.75]]).log()
    >>> round(loss(log_p, torch.tensor([0, 1])).item(), 4)
    0.9808
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        axis: int | None = None,
    ) -> None:
        super().__init__(weight, ignore_index=ignore_index, reduction=reduction)
        self.axis = axis

    def forward(self, input: Tensor, target: Tensor, *, where: Tensor | None = None) -> Tensor:
        """Compute the loss.

        Parameters
        ----------
        input : torch.Tensor of shape (N, C, ...)
            The log-probabilities.
        target : torch.Tensor of shape (N, ...)
            Class indices.
        where : torch.Tensor of bool, optional
            Which rows count, as for `nll_loss`.

        Returns
        -------
        torch.Tensor
            The loss in nats: a number, or with ``reduction="none"`` one for each row.
        """
        options: Any = {"ignore_index": self.ignore_index, "reduction": self.reduction, "axis": self.axis}
        return nll_loss(input, target, self.weight, where=where, **options)


class BCEWithLogitsLoss(_Options, torch.nn.BCEWithLogitsLoss):
    """`binary_cross_entropy_with_logits` with its options, as a module.

    The loss, its equation, shapes, units (nats) and errors are those of `binary_cross_entropy_with_logits`.

    Parameters
    ----------
    weight, pos_weight : torch.Tensor, optional
        As for `binary_cross_entropy_with_logits`: buffers, which are in the module's ``state_dict`` and move with the
        module.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the elements are reduced.

    See Also
    --------
    binary_cross_entropy_with_logits : The function.

    Notes
    -----
    The torch equivalent is ``torch.nn.BCEWithLogitsLoss``, from which it derives.

    Examples
    --------
    >>> import torch
    >>> from crossent.torch import BCEWithLogitsLoss
    >>> loss = BCEWithLogitsLoss(pos_weight=torch.tensor(2.0))
    >>> round(loss(torch.tensor([2.0, -1.0]), torch.tensor([1, 0])).item(), 4)
    0.2836
    """

    def __init__(
        self, weight: Tensor | None = None, *, pos_weight: Tensor | None = None, reduction: Reduction = "mean"
    ) -> None:
        super().__init__(weight, reduction=reduction, pos_weight=pos_weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Parameters
        ----------
        input : torch.Tensor
            The logits.
        target : torch.Tensor
            The targets, from 0 to 1, of the shape of `input`.

        Returns
        -------
        torch.Tensor
            The loss in nats: a number, or with ``reduction="none"`` one for each element.
        """
        reduction: Any = self.reduction
        return binary_cross_entropy_with_logits(
            input, target, self.weight, pos_weight=self.pos_weight, reduction=reduction
        )


class KLDivLoss(_Options, torch.nn.KLDivLoss):
    """`kl_div` with its options, as a module.

    The loss, its equation, shapes, units (nats) and errors are those of `kl_div`.

    Parameters
    ----------
    reduction : {"mean", "sum", "none", "batchmean"}, default "mean"
        As for `kl_div`.
    log_target : bool, default False
        Whether targets are log-probabilities.

    See Also
    --------
    kl_div : The function.

    Notes
    -----
    The torch equivalent is ``torch.nn.KLDivLoss``, from which it derives.

    Examples
    --------
    >>> import torch
    >>> from crossent.torch import KLDivLoss
    >>> loss = KLDivLoss(reduction="batchmean")
    >>> model = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]).log()
    >>> truth = torch.tensor([[0.7, 0.2, 0.1], [0.0, 0.3, 0.7]])
    >>> round(loss(model, truth).item(), 4)
    0.1105
    """

    def __init__(self, *, reduction: _KlReduction = "mean", log_target: bool = False) -> None:
        super().__init__(reduction=reduction, log_target=log_target)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Parameters
        ----------
        input : torch.Tensor
            The log-probabilities.
        target : torch.Tensor
            Probabilities, or log-probabilities with `log_target`, of the shape of `input`.

        Returns
        -------
        torch.Tensor
            The loss in nats: a number, or with ``reduction="none"`` one for each element.
        """
        reduction: Any = self.reduction
        return kl_div(input, target, reduction=reduction, log_target=self.log_target)
