"""Measure the errors of the losses of single elements, and torch's on the same numbers, against mpmath.

    python benches/accuracy.py

It needs what the tests need. The error is in units in the last place of the largest term of the loss, or of the loss
where that is larger: relative to the loss itself wherever no terms cancel. Each line is the largest error on a grid
of a few thousand elements, which the code below states; torch gets the same numbers in the same dtype.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import mpmath
import numpy as np
import torch
import torch.nn.functional as F
from mpmath import mpf

import crossent
from crossent import _core

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from ulp import ulp_error

Numbers = list[Any]  # of mpmath
# The terms of one loss, which are added.
Terms = Callable[..., Numbers]


class Case(NamedTuple):
    """One line: a loss, its options, its arguments, and its terms for one element."""

    loss: str
    what: str
    options: dict[str, Any]
    torch_options: dict[str, Any]
    arguments: list[np.ndarray[Any, Any]]
    terms: Terms


def pairs(x: Any, targets: tuple[float, ...]) -> list[Any]:
    """Every x with every target."""
    return [np.tile(x, len(targets)), np.repeat(np.array(targets, x.dtype), len(x))]


def logits_terms(q: float) -> Terms:
    return lambda x, t: [q * t * mpmath.log1p(mpmath.exp(-x)), (1 - t) * mpmath.log1p(mpmath.exp(x))]


def probability_terms(p: Any, t: Any) -> Numbers:
    return [-t * mpmath.log(p) if t else mpf(0), -(1 - t) * mpmath.log1p(-p) if t != 1 else mpf(0)]


def divergence_terms(x: Any, t: Any) -> Numbers:
    return [t * mpmath.log(t), -t * x]


def log_divergence_terms(x: Any, t: Any) -> Numbers:
    return [mpmath.exp(t) * t, -mpmath.exp(t) * x]


def gaussian_terms(x: Any, t: Any, v: Any) -> Numbers:
    return [mpmath.log(v) / 2, (x - t) ** 2 / v / 2]


def stirling(t: Any) -> Numbers:
    return [t * mpmath.log(t), -t, mpmath.log(2 * mpmath.pi * t) / 2] if t > 1 else []


def poisson_terms(x: Any, t: Any) -> Numbers:
    return [mpmath.exp(x), -t * x]


def full_poisson_terms(x: Any, t: Any) -> Numbers:
    return poisson_terms(x, t) + stirling(t)


def rate_terms(x: Any, t: Any) -> Numbers:
    return [x, -t * mpmath.log(x + mpf(1e-8))]


def cases(dtype: Any) -> Iterator[Case]:
    """The grids: ends, a fine comb between them, and random numbers."""
    rng = np.random.default_rng(0)
    float32 = dtype == np.float32
    far = 85 if float32 else 700

    x = np.concatenate([np.linspace(-far, far, 1001), 4 * rng.standard_normal(1000)]).astype(dtype)
    grid = pairs(x, (0.0, 0.25, 1.0))
    for q, what in ((1.0, ""), (3.5, "pos_weight=3.5")):
        yield Case(
            "binary_cross_entropy_with_logits",
            what,
            {"pos_weight": np.asarray(q, dtype)} if what else {},
            {"pos_weight": torch.tensor(q, dtype=torch.float32 if float32 else torch.float64)},
            grid,
            logits_terms(q),
        )

    # torch counts no logarithm below -100.
    small = np.ldexp(1.0, -np.arange(1, 120 if float32 else 140))
    near_1 = 1 - np.ldexp(1.0, -np.arange(1, 25 if float32 else 54))
    p = np.concatenate([small, near_1, np.linspace(1e-3, 1 - 1e-3, 1001), rng.random(1000)])
    p = p.astype(dtype)
    grid = pairs(p[(p > 0) & (p < 1)], (0.0, 0.25, 1.0))
    yield Case("binary_cross_entropy", "", {"clamp": None}, {}, grid, probability_terms)

    x, t = -5 * rng.random(4000), rng.random(4000) + 1e-3
    yield Case("kl_div", "", {}, {}, [x.astype(dtype), t.astype(dtype)], divergence_terms)
    log_t = -5 * rng.random(4000)
    options = {"log_target": True}
    yield Case(
        "kl_div", "log_target", options, options, [x.astype(dtype), log_t.astype(dtype)], log_divergence_terms
    )

    x, t = 3 * rng.standard_normal(4000), 3 * rng.standard_normal(4000)
    v = np.exp(rng.uniform(-9, 9, 4000))
    grid = [x.astype(dtype), t.astype(dtype), v.astype(dtype)]
    yield Case("gaussian_nll_loss", "", {}, {}, grid, gaussian_terms)

    x, t = rng.uniform(-5, 5, 4000).astype(dtype), rng.integers(0, 50, 4000).astype(dtype)
    yield Case("poisson_nll_loss", "", {}, {}, [x, t], poisson_terms)
    options = {"full": True}
    yield Case("poisson_nll_loss", "full", options, options, [x, t], full_poisson_terms)
    options = {"log_input": False}
    yield Case("poisson_nll_loss", "not log_input", options, options, [np.exp(x), t], rate_terms)


def errors(case: Case) -> tuple[float, float]:
    """The largest error of crossent, and of torch."""
    with mpmath.workdps(400):
        terms = [
            case.terms(*(mpf(float(number)) for number in numbers))
            for numbers in zip(*case.arguments, strict=True)
        ]
        exact = [mpmath.fsum(parts) for parts in terms]
        scale = [
            max(abs(number) for number in [*parts, loss]) for parts, loss in zip(terms, exact, strict=True)
        ]
    ours = getattr(crossent, case.loss)(*case.arguments, reduction="none", **case.options)
    tensors = [torch.from_numpy(numbers) for numbers in case.arguments]
    theirs = getattr(F, case.loss)(*tensors, reduction="none", **case.torch_options).numpy()
    assert ours.dtype == theirs.dtype
    return ulp_error(ours, exact, scale).max(), ulp_error(theirs, exact, scale).max()


def _text(error: float) -> str:
    return f"{error:.2f}" if error < 1000 else f"{error:.1e}"


def main() -> None:
    """Print the table."""
    isa = _core.build_info()["isa"]
    print(f"crossent {crossent.__version__} ({isa}), torch {torch.__version__}, NumPy {np.__version__}\n")
    print("| loss | | float32: crossent | torch | float64: crossent | torch |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for narrow, wide in zip(cases(np.float32), cases(np.float64), strict=True):
        numbers = " | ".join(_text(error) for case in (narrow, wide) for error in errors(case))
        print(f"| `{narrow.loss}` | {narrow.what and f'`{narrow.what}`'} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
