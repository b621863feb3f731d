"""Fit a softmax regression to scikit-learn's handwritten digits by maximum likelihood, with SciPy's optimiser.

    python examples/softmax_regression.py [--deviation 1] [--out FOLDER]

The optimiser asks for a value and its gradient; `cross_entropy_and_grad` gives both for the logits, and one product
with the pixels carries the gradient on to the weights. A normal prior of the given standard deviation keeps the weights
finite. With --out, the logits of the test set are kept: digits_logits.npy and digits_targets.npy, as train_digits.py
writes them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

import crossent

SEED = 0
CLASSES = 10

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def unpack(parameters: Floats) -> tuple[Floats, Floats]:
    """Give the weights, (features, classes), and the biases, (classes,): views of the optimiser's one vector."""
    return parameters[:-CLASSES].reshape(-1, CLASSES), parameters[-CLASSES:]


def objective(parameters: Floats, pixels: Floats, labels: Labels, deviation: float) -> tuple[float, Floats]:
    """Give minus the logarithm of likelihood times prior, for each row, and its gradient."""
    weights, biases = unpack(parameters)
    loss, slope = crossent.cross_entropy_and_grad(pixels @ weights + biases, labels)
    prior = 1 / (deviation**2 * len(labels))  # the biases have none
    gradient = np.empty_like(parameters)
    weights_gradient, biases_gradient = unpack(gradient)
    weights_gradient[:] = pixels.T @ slope + prior * weights
    biases_gradient[:] = slope.sum(axis=0)
    return float(loss + prior / 2 * np.sum(weights**2)), gradient


def fit(pixels: Floats, labels: Labels, deviation: float) -> tuple[Floats, Floats]:
    """Find the most probable weights and biases. The objective is convex: where the gradient is 0, it is least."""
    start = np.zeros((pixels.shape[1] + 1) * CLASSES)
    options = {"maxiter": 5000, "maxfun": 10_000, "gtol": 1e-7, "ftol": 1e-14}
    data = (pixels, labels, deviation)
    # For matrices as small as these, NumPy's threads and SciPy's spend their time waiting for each other.
    with threadpool_limits(1, user_api="blas"):
        found = minimize(objective, start, data, method="L-BFGS-B", jac=True, options=options)
    print(f"{found.nit} steps, {found.nfev} gradients")
    return unpack(found.x)


def load() -> tuple[Floats, Floats, Labels, Labels]:
    """Give the pixels to learn from and to test on, from 0 to 1, then their labels."""
    images, digits = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        images / 16, digits.astype(np.int64), test_size=0.25, random_state=SEED, stratify=digits
    )
    return train_x, test_x, train_y, test_y


def main() -> None:
    parser = argparse.ArgumentParser(description="Fit a softmax regression by maximum likelihood.")
    parser.add_argument(
        "--deviation", type=float, default=1.0, help="standard deviation of the weights' prior (default 1)"
    )
    parser.add_argument("--out", type=Path, help="folder for the test set's logits (default: not kept)")
    options = parser.parse_args()

    train_x, test_x, train_y, test_y = load()
    print(f"{len(train_y)} images to learn from, {len(test_y)} to test on")
    weights, biases = fit(train_x, train_y, options.deviation)
    print(f"training set: loss {crossent.cross_entropy(train_x @ weights + biases, train_y):.4f} nats")

    logits = test_x @ weights + biases
    accuracy = np.mean(logits.argmax(axis=1) == test_y)
    print(f"test set: loss {crossent.cross_entropy(logits, test_y):.4f} nats, accuracy {accuracy:.4f}")

    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        np.save(options.out / "digits_logits.npy", logits.astype(np.float32))
        np.save(options.out / "digits_targets.npy", test_y)
        print(f"wrote digits_logits.npy and digits_targets.npy to {options.out}")


if __name__ == "__main__":
    main()
