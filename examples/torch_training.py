"""Train a network in torch with a loss of `crossent.torch`, and beside it with torch's own.

    python examples/torch_training.py [--steps 100] [--bfloat16]

trains the same network twice and prints the losses side by side. With `--bfloat16` its layers run in that precision:
the losses here are still those of float32.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from crossent.torch import CrossEntropyLoss

SEED = 0
HIDDEN = 32
LEARNING_RATE = 0.5

Loss = Callable[[Tensor, Tensor], Tensor]


def train(loss: Loss, steps: int, bfloat16: bool = False) -> tuple[list[float], list[Tensor]]:
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
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            logits = model(pixels)
        value = loss(logits, target)
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call, unused-ignore]
        optimizer.step()
        losses.append(value.item())
    return losses, [parameter.detach() for parameter in model.parameters()]


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a network with crossent's loss, and with torch's.")
    parser.add_argument("--steps", type=int, default=100, help="training steps (default 100)")
    parser.add_argument("--bfloat16", action="store_true", help="run the layers in bfloat16")
    options = parser.parse_args()

    ours, our_parameters = train(CrossEntropyLoss(), options.steps, options.bfloat16)
    theirs, their_parameters = train(torch.nn.CrossEntropyLoss(), options.steps, options.bfloat16)
    print("step    crossent       torch")
    for step in range(0, options.steps, max(options.steps // 5, 1)):
        print(f"{step:4}  {ours[step]:10.6f}  {theirs[step]:10.6f}")
    pairs = zip(our_parameters, their_parameters, strict=True)
    apart = max((our - their).abs().max().item() for our, their in pairs)
    print(f"largest difference between two parameters: {apart:.0e}")


if __name__ == "__main__":
    main()
