"""Use crossent's loss in JAX: a `pure_callback` with a gradient of its own, and a small model trained with it.

    python examples/jax_loss.py [--steps 100]

trains the same network twice, with crossent's loss and with one written in JAX, and prints the losses side by side.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import crossent

SEED = 0
HIDDEN = 32
LEARNING_RATE = 0.5

Loss: TypeAlias = Callable[[jax.Array, jax.Array], jax.Array]


# The recipe, as in docs/guides/torch_and_jax.md.
@jax.custom_vjp
def cross_entropy(logits: jax.Array, target: jax.Array) -> jax.Array:
    """Compute the loss of each row, whose target is a class index.

    The classes lie along the last axis.
    """
    loss: jax.Array = jax.pure_callback(
        lambda x, t: crossent.cross_entropy(x, t, reduction="none", axis=-1),
        like_loss(logits, target),
        logits,
        target,
        vmap_method="broadcast_all",
    )
    return loss


def forward(
    logits: jax.Array,
    target: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    like_gradient = jax.ShapeDtypeStruct(logits.shape, logits.dtype)
    loss_and_gradient: tuple[jax.Array, jax.Array] = jax.pure_callback(
        lambda x, t: crossent.cross_entropy_and_grad(
            x,
            t,
            reduction="none",
            axis=-1,
        ),
        (like_loss(logits, target), like_gradient),
        logits,
        target,
        vmap_method="broadcast_all",
    )
    return loss_and_gradient


def backward(
    gradient: jax.Array,
    upstream: jax.Array,
) -> tuple[jax.Array, None]:
    return (upstream[..., None] * gradient).astype(gradient.dtype), None


def like_loss(logits: jax.Array, target: jax.Array) -> jax.ShapeDtypeStruct:
    dtype = jnp.float64 if logits.dtype == jnp.float64 else jnp.float32
    return jax.ShapeDtypeStruct(target.shape, dtype)


cross_entropy.defvjp(forward, backward)


def reference(logits: jax.Array, target: jax.Array) -> jax.Array:
    """The loss of each row, written in JAX."""
    picked = jnp.take_along_axis(logits, target[..., None], axis=-1)[..., 0]
    return jax.scipy.special.logsumexp(logits, axis=-1) - picked


def train(loss: Loss, steps: int) -> tuple[list[float], list[jax.Array]]:
    """Descend along the gradient of all images at once; returns the loss before each step, and the parameters."""
    images, digits = load_digits(return_X_y=True)
    pixels, target = jnp.asarray(images / 16, jnp.float32), jnp.asarray(digits)
    rng = np.random.default_rng(SEED)
    sizes = [(pixels.shape[1], HIDDEN), (HIDDEN, 10)]
    parameters = [jnp.asarray(rng.standard_normal(size) / size[0] ** 0.5, jnp.float32) for size in sizes]

    @jax.jit
    @jax.value_and_grad
    def step(parameters: list[jax.Array]) -> jax.Array:
        first, second = parameters
        return loss(jnp.tanh(pixels @ first) @ second, target).mean()

    losses = []
    for _ in range(steps):
        value, gradients = step(parameters)
        parameters = [
            each - LEARNING_RATE * gradient for each, gradient in zip(parameters, gradients, strict=True)
        ]
        losses.append(float(value))
    return losses, parameters


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a network with crossent's loss, and with one of JAX.")
    parser.add_argument("--steps", type=int, default=100, help="training steps (default 100)")
    options = parser.parse_args()

    ours, our_parameters = train(cross_entropy, options.steps)
    theirs, their_parameters = train(reference, options.steps)
    print("step    crossent         jax")
    for step in range(0, options.steps, max(options.steps // 5, 1)):
        print(f"{step:4}  {ours[step]:10.6f}  {theirs[step]:10.6f}")
    pairs = zip(our_parameters, their_parameters, strict=True)
    apart = max(float(jnp.abs(our - their).max()) for our, their in pairs)
    print(f"largest difference between two parameters: {apart:.0e}")


if __name__ == "__main__":
    main()
