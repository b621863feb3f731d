"""Time the losses inside torch and JAX: what a call of `crossent.torch` costs, and the loss part of a training step.

    python benches/frameworks.py [--rounds N] [--json FILE]

Overheads: a call on small tensors beside the function of arrays on the same memory, in microseconds; "recorded" is a
call on logits that require grad, beside the function that gives the gradient too. Steps: the loss and the gradient with
respect to the logits, by `crossent.torch` and torch, and by the recipe for JAX (examples/jax_loss.py) and a loss in
JAX, both compiled. The contenders take turns, after their answers were compared with float64; figures are medians.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import importlib.metadata
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from machine import PAUSE_SECONDS, THREADS, cpu_model

sys.path.append(str(Path(__file__).parent.parent / "examples"))

import jax
import jax_loss
import numpy as np
import torch

import crossent
import crossent.torch

Call = Callable[[], Any]

SEED = 0
SAMPLE_SECONDS = 0.01  # a sample repeats short calls until it takes this long
TARGET_MICROSECONDS = 30.0  # what a call of crossent.torch may take beyond the function of arrays
STEPS = [(32, 10), (512, 50257), (4096, 1000)]
FUNCTIONS = (
    "cross_entropy",
    "nll_loss",
    "binary_cross_entropy_with_logits",
    "kl_div",
    "linear_cross_entropy",
)


def medians(calls: dict[str, Call], rounds: int) -> dict[str, float]:
    """The seconds of each call, in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    repeats = {}
    for name, call in calls.items():
        call()
        start = time.perf_counter()
        call()
        repeats[name] = max(1, int(SAMPLE_SECONDS / (time.perf_counter() - start)))
    for _ in range(rounds):
        for name, call in calls.items():
            time.sleep(PAUSE_SECONDS)
            gc.collect()
            start = time.perf_counter()
            for _ in range(repeats[name]):
                call()
            seconds[name].append((time.perf_counter() - start) / repeats[name])
    return {name: statistics.median(each) for name, each in seconds.items()}


def close(name: str, found: Any, expected: Any, rtol: float) -> None:
    """Stop where an answer is wrong."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    error = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not error <= rtol:
        sys.exit(f"{name}: the answer is off by {error:.1e}, relative to the largest number")


def small(function: str, rng: np.random.Generator) -> tuple[list[Any], list[Any]]:
    """Arrays of (8, 10) for a loss: those with a gradient, and the others."""
    x = rng.standard_normal((8, 10), dtype=np.float32)
    target = rng.integers(10, size=8)
    if function == "linear_cross_entropy":
        return [x, rng.standard_normal((10, 10), dtype=np.float32)], [target]
    if function in ("nll_loss", "kl_div"):
        x = crossent.log_softmax(x)
    probabilities = crossent.softmax(rng.standard_normal((8, 10), dtype=np.float32))
    return [x], [target if function in ("cross_entropy", "nll_loss") else probabilities]


def overhead(name: str, rng: np.random.Generator, rounds: int) -> dict[str, Any]:
    """Measure what a call of a loss takes on tensors beyond one on arrays."""
    parts, others = small(name, rng)
    rest = [torch.from_numpy(each) for each in others]
    plain = [torch.from_numpy(each) for each in parts]
    recorded = [each.clone().requires_grad_() for each in plain]
    value, both = getattr(crossent, name), getattr(crossent, f"{name}_and_grad")
    ours, theirs = getattr(crossent.torch, name), getattr(torch.nn.functional, name, None)
    close(
        name,
        ours(*recorded, *rest).item(),
        value(*[each.astype(np.float64) for each in parts], *others),
        1e-6,
    )
    calls: dict[str, Call] = {
        "arrays": lambda: value(*parts, *others),
        "arrays and gradient": lambda: both(*parts, *others),
        "tensors": lambda: ours(*plain, *rest),
        "tensors, recorded": lambda: ours(*recorded, *rest),
        "and backward": lambda: torch.autograd.grad(ours(*recorded, *rest), recorded),
    }
    if theirs is not None:  # torch has linear_cross_entropy from some version on
        calls["torch, recorded"] = lambda: theirs(*recorded, *rest)
        calls["torch, and backward"] = lambda: torch.autograd.grad(theirs(*recorded, *rest), recorded)
    found = {key: 1e6 * seconds for key, seconds in medians(calls, rounds).items()}
    return {
        "function": name,
        **found,
        "overhead": found["tensors"] - found["arrays"],
        "overhead, recorded": found["tensors, recorded"] - found["arrays and gradient"],
    }


def step(shape: tuple[int, int], rng: np.random.Generator, rounds: int) -> dict[str, Any]:
    """Measure the milliseconds of a loss with its gradient."""
    x = rng.standard_normal(shape, dtype=np.float32)
    target = rng.integers(shape[1], size=shape[0])
    expected = crossent.cross_entropy_and_grad(x.astype(np.float64), target)
    leaf, classes = torch.from_numpy(x).requires_grad_(), torch.from_numpy(target)
    logits, labels = jax.device_put(x), jax.device_put(target)

    def in_torch(loss: Callable[..., Any]) -> Any:
        value = loss(leaf, classes)
        return value.detach(), torch.autograd.grad(value, leaf)[0]

    def in_jax(loss: Callable[..., Any]) -> Call:
        compiled = jax.jit(jax.value_and_grad(lambda x: loss(x, labels).mean()))
        return lambda: jax.block_until_ready(compiled(logits))

    calls: dict[str, Call] = {
        "crossent.torch": lambda: in_torch(crossent.torch.cross_entropy),
        "torch": lambda: in_torch(torch.nn.functional.cross_entropy),
        "recipe for jax": in_jax(jax_loss.cross_entropy),
        "jax": in_jax(jax_loss.reference),
    }
    for name, call in calls.items():
        for found, right in zip(call(), expected, strict=True):
            close(f"{name} {shape}", found, right, 1e-6 if name == "crossent.torch" else 1e-4)
    return {"shape": list(shape), **{key: 1e3 * each for key, each in medians(calls, rounds).items()}}


def table(rows: list[dict[str, Any]], digits: int) -> None:
    for key, *_ in zip(*rows, strict=True):
        cells = (
            f"{row[key]:>14.{digits}f}" if isinstance(row[key], float) else f"{row[key]!s:>14.14}"
            for row in rows
        )
        print(f"{key:22}", *cells)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, default=11, help="how often each contender is timed (default 11)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    crossent.set_num_threads(THREADS)
    warnings.filterwarnings("ignore", "reduction: 'mean' divides", UserWarning)  # torch's, of its own default
    rng = np.random.default_rng(SEED)
    machine = {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu_model(),
        "threads": THREADS,
        "versions": {
            name: importlib.metadata.version(name) for name in ("crossent", "torch", "jax", "numpy")
        },
    }
    print(f"{machine['cpu']}, {THREADS} threads, {machine['versions']}")
    print(f"\na call on (8, 10), in microseconds; the overheads should stay below {TARGET_MICROSECONDS:.0f}")
    calls = [overhead(name, rng, options.rounds) for name in FUNCTIONS]
    for rows in (calls[:4], calls[4:]):
        table(rows, 1)
    print("\nthe loss and its gradient, in milliseconds")
    table(large := [step(shape, rng, options.rounds) for shape in STEPS], 3)
    if options.json:
        options.json.write_text(json.dumps({**machine, "calls": calls, "steps": large}, indent=1) + "\n")


if __name__ == "__main__":
    main()
