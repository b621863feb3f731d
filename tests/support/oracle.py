"""Live torch on the same numbers: a loss and, by autograd, its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from arrays import Array

torch = pytest.importorskip("torch")
torch.set_num_threads(1)  # the arrays are small, and idle threads of torch spin


def tensor(x: Any, dtype: Any = torch.float64) -> Any:
    """A tensor of the numbers of `x`: integers as int64, others in `dtype`; None stays None."""
    if x is None:
        return None
    x = np.asarray(x)
    if x.dtype.kind in "iub":
        return torch.tensor(x.astype(np.int64))
    return torch.tensor(x.astype(np.float64)).to(dtype).contiguous()


def loss_and_gradient(
    key: str, input: Array, *arguments: Any, upstream: Any = 1.0, dtype: Any = torch.float64, **options: Any
) -> tuple[Array, Array]:
    """The loss `key` of torch, computed in `dtype`, and its gradient with respect to `input`; both in float64."""
    leaf = tensor(input, dtype).requires_grad_()
    given = [tensor(argument, dtype) for argument in arguments]
    named = {k: tensor(v, dtype) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    loss = getattr(torch.nn.functional, key)(leaf, *given, **named)
    loss.backward(tensor(upstream, loss.dtype).expand(loss.shape))
    return loss.detach().double().numpy(), leaf.grad.double().numpy()
