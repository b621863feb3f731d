"""Live torch on the same numbers: a loss and, by autograd, its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from arrays import Array
from optional import F, torch


def tensor(x: Any, dtype: Any = None) -> Any:
    """A tensor of the numbers of `x`: integers as int64, others in `dtype` (default: float64); None stays None."""
    if x is None:
        return None
    x = np.asarray(x)
    if x.dtype.kind in "iub":
        return torch.tensor(x.astype(np.int64))
    return torch.tensor(x.astype(np.float64)).to(dtype or torch.float64).contiguous()


def loss_and_gradient(
    key: str, input: Array, *arguments: Any, upstream: Any = 1.0, dtype: Any = None, **options: Any
) -> tuple[Array, Array]:
    """The loss `key` of torch and its gradient with respect to `input`, computed in `dtype` and given in float64."""
    leaf = tensor(input, dtype).requires_grad_()
    given = [tensor(argument, dtype) for argument in arguments]
    named = {k: tensor(v, dtype) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    loss = getattr(F, key)(leaf, *given, **named)
    loss.backward(tensor(upstream, loss.dtype).expand(loss.shape))
    return loss.detach().double().numpy(), leaf.grad.double().numpy()
