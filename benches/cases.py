"""The cases of the benchmark, and what each aims at.

A target is a multiple of the limit of the same run, since what a peer takes depends on the machine far more. Where that
says little it is a multiple of crossent's own cross entropy of the same logits, or a time. No case may be slower than
torch or another library, either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from machine import THREADS
from problems import (
    BINARY,
    LINEAR,
    Make,
    binary,
    boosting,
    classes,
    gradient,
    linear,
    of_rows,
    probabilities,
    scores,
    weighted,
)

LIMIT, PLAIN, ONE_THREAD = "x limit", "x cross_entropy", "x one thread"
MICROSECONDS, NANOSECONDS = " us", " ns an element"
IN_LAST_CACHE = "(4096, 1000)"  # logits of this shape lie there, 16 MB; others come from memory


@dataclass(frozen=True)
class Target:
    """At most so many of a unit; of `ONE_THREAD`, how many times faster than on one, at least."""

    figure: float
    unit: str

    def __str__(self) -> str:
        return f"{self.figure:g}{self.unit}"


@dataclass(frozen=True)
class Case:
    name: str
    make: Make
    target: Target
    place: Literal["memory", "last cache", "cache"] = "memory"  # where the bytes come from
    threads: int = THREADS

    @property
    def limited(self) -> bool:
        """Whether there is a limit: from the first two caches, the instructions are what takes the time."""
        return self.place != "cache"


def near_limit(name: str, make: Make, figure: float) -> Case:
    return Case(name, make, Target(figure, LIMIT), "last cache" if IN_LAST_CACHE in name else "memory")


def near_plain(name: str, make: Make, figure: float) -> Case:
    return Case(name, make, Target(figure, PLAIN), "last cache" if IN_LAST_CACHE in name else "memory")


def from_cache(name: str, make: Make, nanoseconds: float) -> Case:
    """A case that lies in the first or second cache, on one thread."""
    return Case(f"from cache, {name}", make, Target(nanoseconds, NANOSECONDS), "cache", threads=1)


SPEEDUP = {2: 1.9, 16: 14.0}  # by the number of threads: how much faster they are than one, at least

CASES = [
    near_limit("cross_entropy f32 (1024, 50257)", classes(1024, 50257), 1.15),
    near_limit("cross_entropy f32 (256, 128256)", classes(256, 128256), 1.15),
    near_limit("logsumexp f32 (1024, 50257)", of_rows("logsumexp", 1024, 50257), 1.15),
    near_limit("cross_entropy f32 (4096, 1000)", classes(4096, 1000), 1.2),
    near_limit("cross_entropy bf16 (1024, 50258)", classes(1024, 50258, dtype="bfloat16"), 1.4),
    near_limit("cross_entropy f16 (1024, 50258)", classes(1024, 50258, dtype="float16"), 1.4),
    near_limit("cross_entropy f64 (512, 50257)", classes(512, 50257, dtype="float64"), 1.2),
    near_limit("cross_entropy f32 (1e6, 10)", classes(1_000_000, 10), 1.8),
    near_limit("cross_entropy f32 (5e6, 2)", classes(5_000_000, 2), 1.5),
    near_limit("cross_entropy f32 (8, 21, 512, 512)", classes(8, 21, 512, 512), 1.3),
    near_limit("cross_entropy f32 (2, 150, 256, 512)", classes(2, 150, 256, 512), 1.7),
    *(
        near_limit(f"loss and gradient, grad_out=, f32 {name}", gradient(*shape, out=True), figure)
        for name, shape, figure in (
            ("(1024, 50257)", (1024, 50257), 1.1),
            ("(8, 21, 512, 512)", (8, 21, 512, 512), 1.3),
            ("(1e6, 10)", (1_000_000, 10), 1.5),
            ("(1e6, 3)", (1_000_000, 3), 1.8),
            ("(5e6, 2)", (5_000_000, 2), 1.8),
            ("(200000, 100)", (200_000, 100), 1.3),
            ("(4096, 1000)", (4096, 1000), 1.15),
        )
    ),
    near_limit("loss and gradient f32 (1024, 50257)", gradient(1024, 50257), 1.1),
    near_limit("loss and gradient f32 (8, 21, 512, 512)", gradient(8, 21, 512, 512), 1.3),
    *(
        near_limit(f"{kind}, out=, f32 {name}", of_rows(kind, *shape, out=True), figure)
        for name, shape, figure in (
            ("(1e6, 10)", (1_000_000, 10), 1.2),
            ("(1e6, 3)", (1_000_000, 3), 1.5),
            ("(5e6, 2)", (5_000_000, 2), 1.5),
        )
        for kind in ("softmax", "log_softmax")
    ),
    near_limit("log_softmax, out=, f32 (1024, 50257)", of_rows("log_softmax", 1024, 50257, out=True), 1),
    near_limit("log_softmax f32 (1024, 50257)", of_rows("log_softmax", 1024, 50257), 1),
    near_plain("weights + smoothing f32 (4096, 1000)", weighted, 1.3),
    near_plain("probability targets f32 (4096, 1000)", probabilities, 1.4),
    near_plain("score f32 (1024, 50257)", scores, 1.1),
    near_limit("binary_cross_entropy_with_logits f32 1e7", binary(BINARY[1]), 1.1),
    near_limit("binary_cross_entropy f32 1e7", binary(BINARY[0]), 1.1),
    near_limit("gradient and Hessian f64 F (1e6, 10)", boosting("float64", "F"), 3),
    near_limit("gradient and Hessian f32 C (1e6, 10)", boosting("float32", "C"), 3),
    *(
        near_limit(f"{name} f32 {shape}", linear(kind, *shape), figure)
        for name, kind, figure in (
            ("linear_cross_entropy", LINEAR[0], 1.15),
            ("linear loss and gradients", LINEAR[1], 1.2),
            ("score of LinearLogits", LINEAR[2], 1.15),
        )
        for shape in ((512, 768, 50257), (4096, 384, 30522))
    ),
    from_cache("cross_entropy f32 (16, 8192)", classes(16, 8192), 0.15),
    from_cache("cross_entropy f16 (16, 8192)", classes(16, 8192, dtype="float16"), 0.17),
    from_cache("cross_entropy f64 (8, 8192)", classes(8, 8192, dtype="float64"), 0.45),
    from_cache("cross_entropy f32 (6400, 10)", classes(6400, 10), 0.45),
    from_cache("cross_entropy f32 (32000, 2)", classes(32_000, 2), 0.8),
    from_cache("loss and gradient, grad_out=, f32 (6400, 10)", gradient(6400, 10, out=True), 1),
    from_cache("loss and gradient, grad_out=, f32 (32000, 2)", gradient(32_000, 2, out=True), 2),
    Case("a call, cross_entropy f32 (8, 10)", classes(8, 10), Target(1.1, MICROSECONDS), "cache"),
]
if THREADS in SPEEDUP:
    CASES.append(
        Case(
            "all threads against one, cross_entropy f32 (4096, 1000)",
            classes(4096, 1000),
            Target(SPEEDUP[THREADS], ONE_THREAD),
            "last cache",
        )
    )
