"""Use crossent's loss in torch: an autograd function of some fifteen lines, and a small model trained with it.

    python examples/torch_autograd.py [--steps 100]

trains the same network twice, with crossent's loss and with torch's own, and prints the losses side by side.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.autograd.function import once_differentiable

import crossent

SEED = 0
HIDDEN = 32
LEARNING_RATE = 0.5

Loss = Callable[[Tensor, Tensor], Tensor]


class CrossEntropy(torch.autograd.Function):
    """The mean cross entropy. Loss and gradient come from one call, and no array is copied between the libraries."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor) -> Tensor:
        loss, grad = crossent.cross_entropy_and_grad(logits.detach().numpy(), target.numpy())
        ctx.save_for_backward(torch.from_numpy(grad))
        return torch.as_tensor(loss)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        (grad,) = ctx.saved_tensors
        return grad * grad_output, None


def train(loss: Loss, steps: int) -> tuple[list[float], list[Tensor]]:
    """Descend along the gradient of all images at once; returns the loss before each step, and the parameters."""
    images, digits = load_digits(return_X_y=True)
    pixels, target = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(digits)
    torch.manual_seed(SEED)
    model = torch.nn.Sequential(
        torch.nn.Linear(pixels.shape[1], HIDDEN), torch.nn.Tanh(), torch.nn.Linear(HIDDEN, 10)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    losses = []
    for _ in range(steps):
        value = loss(model(pixels), target)
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call, unused-ignore]
        optimizer.step()
        losses.append(value.item())
    return losses, [parameter.detach() for parameter in model.parameters()]


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a network with crossent's loss, and with torch's.")
    parser.add_argument("--steps", type=int, default=100, help="training steps (default 100)")
    options = parser.parse_args()

    ours, our_parameters = train(CrossEntropy.apply, options.steps)
    theirs, their_parameters = train(torch.nn.functional.cross_entropy, options.steps)
    print("step    crossent       torch")
    for step in range(0, options.steps, max(options.steps // 5, 1)):
        print(f"{step:4}  {ours[step]:10.6f}  {theirs[step]:10.6f}")
    pairs = zip(our_parameters, their_parameters, strict=True)
    apart = max((our - their).abs().max().item() for our, their in pairs)
    print(f"largest difference between two parameters: {apart:.0e}")


if __name__ == "__main__":
    main()
