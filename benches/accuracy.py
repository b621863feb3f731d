"""Measure the errors of crossent, torch and SciPy in units in the last place, against mpmath.

    python benches/accuracy.py

It needs what the tests need, and takes some minutes. The rows of logits are those of `tests/support/hard_rows.py`,
where each family says why it is hard; an error is relative to the result itself, or to the larger of two terms that
cancel. For crossent it is the largest of all instruction sets that the machine has.

Of the losses of single elements, the error is in units in the last place of the largest term of the loss, or of the
loss where that is larger: relative to the loss itself wherever no terms cancel. Each line is the largest error on a
grid of a few thousand elements, which the code below states; torch gets the same numbers in the same dtype.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import mpmath
import numpy as np
import scipy.special
import torch
import torch.nn.functional as F
from mpmath import mpf

import crossent
from crossent import _core

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from hard_rows import FAMILIES, FUNCTIONS, SMOOTHING, Function, results_at, samples, soft_targets, weights
from ulp import ulp_error

Numbers = list[Any]  # of mpmath
# (N, C) rows and class indices to results.
Peer = Callable[[Any, Any], Any]
# The terms of one loss, which are added.
Terms = Callable[..., Numbers]


class Case(NamedTuple):
    """One line: a loss or its gradient, its options, its arguments, and its terms for one element."""

    loss: str
    what: str
    options: dict[str, Any]
    torch_options: dict[str, Any]
    arguments: list[np.ndarray[Any, Any]]
    terms: Terms
    gradient: bool = False


def pairs(x: Any, targets: tuple[float, ...]) -> list[Any]:
    """Every x with every target."""
    return [np.tile(x, len(targets)), np.repeat(np.array(targets, x.dtype), len(x))]


def logits_terms(q: float) -> Terms:
    return lambda x, t: [q * t * mpmath.log1p(mpmath.exp(-x)), (1 - t) * mpmath.log1p(mpmath.exp(x))]


def logits_gradient_terms(q: float) -> Terms:
    return lambda x, t: [(1 - t) / (1 + mpmath.exp(-x)), -q * t / (1 + mpmath.exp(x))]


def probability_gradient_terms(p: Any, t: Any) -> Numbers:
    return [(p - t) / max(p * (1 - p), mpf(1e-12))]


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
        options = {"pos_weight": np.asarray(q, dtype)} if what else {}
        torch_options = {"pos_weight": torch.tensor(q, dtype=torch.float32 if float32 else torch.float64)}
        loss = "binary_cross_entropy_with_logits"
        yield Case(loss, what, options, torch_options, grid, logits_terms(q))
        what = f"{what} gradient".lstrip()
        yield Case(loss, what, options, torch_options, grid, logits_gradient_terms(q), gradient=True)

    # torch counts no logarithm below -100.
    small = np.ldexp(1.0, -np.arange(1, 120 if float32 else 140))
    near_1 = 1 - np.ldexp(1.0, -np.arange(1, 25 if float32 else 54))
    p = np.concatenate([small, near_1, np.linspace(1e-3, 1 - 1e-3, 1001), rng.random(1000)])
    p = p.astype(dtype)
    grid = pairs(p[(p > 0) & (p < 1)], (0.0, 0.25, 1.0))
    yield Case("binary_cross_entropy", "", {"clamp": None}, {}, grid, probability_terms)
    yield Case("binary_cross_entropy", "gradient", {}, {}, grid, probability_gradient_terms, gradient=True)

    x, t = -5 * rng.random(4000), rng.random(4000) + 1e-3
    yield Case("kl_div", "", {}, {}, [x.astype(dtype), t.astype(dtype)], divergence_terms)
    log_t = -5 * rng.random(4000)
    options = {"log_target": True}
    grid = [x.astype(dtype), log_t.astype(dtype)]
    yield Case("kl_div", "log_target", options, options, grid, log_divergence_terms)
    yield Case(
        "kl_div", "log_target gradient", options, options, grid, lambda x, t: [-mpmath.exp(t)], gradient=True
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
    if case.gradient:
        ours = getattr(crossent, f"{case.loss}_and_grad")(*case.arguments, reduction="sum", **case.options)[1]
    else:
        ours = getattr(crossent, case.loss)(*case.arguments, reduction="none", **case.options)
    tensors = [torch.from_numpy(numbers.copy()) for numbers in case.arguments]
    tensors[0].requires_grad_(case.gradient)
    result = getattr(F, case.loss)(*tensors, reduction="none", **case.torch_options)
    if case.gradient:
        result.sum().backward()
        result = tensors[0].grad
    theirs = result.numpy()
    assert ours.dtype == theirs.dtype
    return ulp_error(ours, exact, scale).max(), ulp_error(theirs, exact, scale).max()


def _torch_gradient(x: Any, target: Any, **options: Any) -> Any:
    leaf = torch.tensor(x, requires_grad=True)
    F.cross_entropy(leaf, target, reduction="sum", **options).backward()
    return leaf.grad


def _torch_loss(reduction: str, **options: Any) -> Peer:
    return lambda x, t: F.cross_entropy(torch.tensor(x), torch.tensor(t), reduction=reduction, **options)


# What other libraries have for the functions of `hard_rows`, by title.
TORCH: dict[str, Peer] = {
    "`logsumexp`": lambda x, t: torch.logsumexp(torch.tensor(x), 1),
    "`log_softmax`": lambda x, t: F.log_softmax(torch.tensor(x), 1),
    "`softmax`": lambda x, t: F.softmax(torch.tensor(x), 1),
    "`cross_entropy`": _torch_loss("none"),
    "`cross_entropy`, sum": _torch_loss("sum"),
    "`cross_entropy`, mean": _torch_loss("mean"),
    "`cross_entropy`, weighted mean": lambda x, t: _torch_loss("mean", weight=torch.tensor(weights(x)))(x, t),
    "`cross_entropy`, smoothed": _torch_loss("none", label_smoothing=SMOOTHING),
    "`cross_entropy`, probabilities": lambda x, t: _torch_loss("none")(x, soft_targets(x)),
    "`cross_entropy_and_grad`": lambda x, t: _torch_gradient(x, torch.tensor(t)),
    "`cross_entropy_and_grad`, smoothed": lambda x, t: _torch_gradient(
        x, torch.tensor(t), label_smoothing=SMOOTHING
    ),
    "`cross_entropy_and_grad`, probabilities": lambda x, t: _torch_gradient(x, torch.tensor(soft_targets(x))),
}
SCIPY: dict[str, Peer] = {
    "`logsumexp`": lambda x, t: scipy.special.logsumexp(x, 1),
    "`log_softmax`": lambda x, t: scipy.special.log_softmax(x, 1),
    "`softmax`": lambda x, t: scipy.special.softmax(x, 1),
}
PEERS = {"torch": TORCH, "SciPy": SCIPY}


class Figures(NamedTuple):
    """The largest errors of one function: by library, dtype and family."""

    function: Function
    largest: dict[tuple[str, str, str], float]


def measure(step: int = 1) -> tuple[list[Figures], dict[tuple[str, str], float]]:
    """The errors on hard rows, and the largest of each instruction set in each dtype."""
    levels = {level: results_at(level, step) for level in _core.build_info()["available_isas"]}
    figures = [Figures(function, {}) for function in FUNCTIONS]
    at_level: dict[tuple[str, str], float] = {}
    for sample in samples(step):
        exact = sample.exact()
        where = sample.dtype.name, sample.family.name
        largest = figures[FUNCTIONS.index(sample.function)].largest
        for level, results in levels.items():
            error = exact.errors(results[sample.key]).max()
            largest["crossent", *where] = max(largest.get(("crossent", *where), 0.0), error)
            key = level, sample.dtype.name
            at_level[key] = max(at_level.get(key, 0.0), error)
        for library, functions in PEERS.items():
            if peer := functions.get(sample.function.title):
                largest[library, *where] = exact.errors(sample.results_of(peer)).max()
    return figures, at_level


def table(figures: list[Figures], dtype: str) -> Iterator[str]:
    """A line for each function and library, a column for each family."""
    names = [family.name for family in FAMILIES]
    yield f"| {dtype} | | {' | '.join(names)} |"
    yield f"| --- | --- |{' ---: |' * len(names)}"
    for function, largest in figures:
        for library in ("crossent", "torch", "SciPy"):
            if (library, dtype, names[0]) in largest:
                numbers = " | ".join(_text(largest[library, dtype, family]) for family in names)
                yield f"| {function.title} | {library} | {numbers} |"


def _text(error: float) -> str:
    return f"{error:.2f}" if error < 100 else f"{error:.0e}".replace("e+0", "e").replace("e+", "e")


def main() -> None:
    """Print the tables."""
    isa = _core.build_info()["isa"]
    print(
        f"crossent {crossent.__version__} ({isa}), torch {torch.__version__}, SciPy {scipy.__version__}, "
        f"NumPy {np.__version__}\n"
    )
    figures, at_level = measure()
    for dtype in ("float32", "float64"):
        print("\n".join(table(figures, dtype)), flush=True)
        print()
    print("| instruction set | float32 | float64 |\n| --- | ---: | ---: |")
    for level in _core.build_info()["available_isas"]:
        print(f"| `{level}` | {at_level[level, 'float32']:.2f} | {at_level[level, 'float64']:.2f} |")
    print("\n| loss | | float32: crossent | torch | float64: crossent | torch |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for narrow, wide in zip(cases(np.float32), cases(np.float64), strict=True):
        numbers = " | ".join(_text(error) for case in (narrow, wide) for error in errors(case))
        print(f"| `{narrow.loss}` | {narrow.what and f'`{narrow.what}`'} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
