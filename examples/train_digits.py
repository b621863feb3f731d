"""Train a softmax regression on scikit-learn's handwritten digits, and keep its logits on the test set.

    python examples/train_digits.py [--steps 300] [--out examples/data]

writes digits_logits.npy (float32, one row of ten logits for each test image) and digits_targets.npy, for

    crossent score examples/data/digits_logits.npy examples/data/digits_targets.npy
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import crossent

SEED = 0
CLASSES = 10
LEARNING_RATE = 0.5
MOMENTUM = 0.9
WEIGHT_DECAY = 1e-3

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]


def gradient(logits: Floats, labels: Labels) -> Floats:
    """Give the gradient of the mean cross entropy with respect to the logits: (softmax - one-hot) / rows."""
    rows = len(labels)
    slope = crossent.softmax(logits)
    slope[np.arange(rows), labels] -= 1
    return slope / np.float32(rows)


def train(pixels: Floats, labels: Labels, steps: int) -> tuple[Floats, Floats]:
    """Descend along the gradient of all images at once, with momentum; returns weights and biases."""
    weights = np.zeros((pixels.shape[1], CLASSES), dtype=np.float32)
    biases = np.zeros(CLASSES, dtype=np.float32)
    weights_speed, biases_speed = np.zeros_like(weights), np.zeros_like(biases)
    for step in range(steps):
        logits = pixels @ weights + biases
        slope = gradient(logits, labels)
        weights_speed *= MOMENTUM
        weights_speed -= LEARNING_RATE * (pixels.T @ slope + WEIGHT_DECAY * weights)
        biases_speed *= MOMENTUM
        biases_speed -= LEARNING_RATE * slope.sum(axis=0)
        weights += weights_speed
        biases += biases_speed
        if step % max(steps // 5, 1) == 0:
            print(f"step {step:4}: training loss {crossent.cross_entropy(logits, labels):.4f} nats")
    return weights, biases


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a classifier of handwritten digits.")
    parser.add_argument("--steps", type=int, default=300, help="training steps (default 300)")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "data", help="folder for the results"
    )
    options = parser.parse_args()

    images, digits = load_digits(return_X_y=True)
    pixels = (images / 16).astype(np.float32)
    train_x, test_x, train_y, test_y = train_test_split(
        pixels, digits.astype(np.int64), test_size=0.25, random_state=SEED, stratify=digits
    )
    print(f"{len(train_y)} images to train on, {len(test_y)} to test on")
    weights, biases = train(train_x, train_y, options.steps)

    logits = test_x @ weights + biases
    loss = crossent.cross_entropy(logits, test_y)
    accuracy = np.mean(logits.argmax(axis=1) == test_y)
    print(f"test set: loss {loss:.4f} nats, perplexity {np.exp(loss):.4f}, accuracy {accuracy:.4f}")

    options.out.mkdir(parents=True, exist_ok=True)
    np.save(options.out / "digits_logits.npy", logits)
    np.save(options.out / "digits_targets.npy", test_y)
    print(f"wrote digits_logits.npy and digits_targets.npy to {options.out}")


if __name__ == "__main__":
    main()
