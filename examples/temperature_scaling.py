"""Calibrate a classifier by one number: divide its logits by the temperature of greatest likelihood.

    python examples/temperature_scaling.py [--data examples/data]

reads digits_logits.npy and digits_targets.npy, finds the temperature on one half of the rows and prints what it does to
the loss of the other half. The accuracy stays as it is: the order of a row's logits does not change. The logits that
are kept here are underconfident; for overconfident ones,

    python examples/softmax_regression.py --deviation 100 --out overfitted
    python examples/temperature_scaling.py --data overfitted
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

import crossent

SEED = 0

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def objective(log_temperature: Floats, logits: Floats, targets: Labels) -> tuple[float, float]:
    """Give the loss at a temperature and its derivative with respect to the temperature's logarithm.

    The logits x / T change by -x / T for each unit of log T, which weighs the gradient with respect to them.
    """
    scaled = logits / np.exp(log_temperature)
    loss, slope = crossent.cross_entropy_and_grad(scaled, targets)
    return float(loss), -float(np.sum(slope * scaled))


def fit(logits: Floats, targets: Labels) -> float:
    """Find the temperature of greatest likelihood. Its logarithm may be any number, so no bound is needed.

    The loss is convex in 1 / T: it has one minimum, whatever T is written as.
    """
    options = {"gtol": 1e-9, "ftol": 1e-14}
    found = minimize(objective, np.zeros(1), (logits, targets), method="L-BFGS-B", jac=True, options=options)
    return float(np.exp(found.x[0]))


def halves(logits: Floats, targets: Labels) -> tuple[Floats, Labels, Floats, Labels]:
    """Share the rows out by chance: logits and targets to calibrate on, then those to test on."""
    order = np.random.default_rng(SEED).permutation(len(targets))
    ours, theirs = np.array_split(order, 2)
    return logits[ours], targets[ours], logits[theirs], targets[theirs]


def main() -> None:
    parser = argparse.ArgumentParser(description="Calibrate logits by a temperature.")
    parser.add_argument(
        "--data", type=Path, default=Path(__file__).parent / "data", help="folder of the logits and targets"
    )
    options = parser.parse_args()

    logits = np.load(options.data / "digits_logits.npy").astype(np.float64)
    targets = np.load(options.data / "digits_targets.npy")
    logits, targets, test_logits, test_targets = halves(logits, targets)
    print(f"{len(targets)} rows to calibrate on, {len(test_targets)} to test on")

    temperature = fit(logits, targets)
    before = crossent.cross_entropy(test_logits, test_targets)
    after = crossent.cross_entropy(test_logits / temperature, test_targets)
    print(f"temperature {temperature:.4f}")
    print(f"test half: loss {before:.4f} nats before, {after:.4f} nats after")


if __name__ == "__main__":
    main()
