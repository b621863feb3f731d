"""Rows of logits that are hard to be exact on, by family, and the functions of rows with their exact values.

`benches/accuracy.py` measures crossent, torch and SciPy on them; `tests/numerics/test_accuracy_table.py` holds
crossent to `LIMITS`.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import mpmath
import numpy as np
from mpmath import mpf

import crossent
import exact
from arrays import Array, DType
from children import environment
from crossent import _core
from ulp import Exact

SMOOTHING = 0.1

# The largest error that a function may have on any row, with any instruction set, in float32 and in float64.
# docs/numerics.md says why it is not 1 in float32.
LIMITS: dict[str, tuple[float, float]] = {
    "`logsumexp`": (2.0, 2.0),
    "`log_softmax`": (2.0, 2.0),
    "`softmax`": (2.0, 2.0),
    "`cross_entropy`": (2.0, 2.0),
    "`cross_entropy`, sum": (1.5, 2.0),
    "`cross_entropy`, mean": (1.0, 2.0),
    "`cross_entropy`, weighted mean": (1.0, 2.0),
    "`cross_entropy`, smoothed": (1.5, 2.0),
    "`cross_entropy`, probabilities": (1.0, 2.0),
    "`cross_entropy_and_grad`": (2.0, 2.0),
    "`cross_entropy_and_grad`, smoothed": (2.0, 2.0),
    "`cross_entropy_and_grad`, probabilities": (2.0, 2.0),
}


# ---- the rows -------------------------------------------------------------------------------------------


class Family(NamedTuple):
    """Rows that are hard for the same reason, as float64; they are rounded to a dtype before they are used."""

    name: str
    about: str
    rows: Callable[[bool], Iterator[Any]]  # of whether they are for float32

    def of(self, dtype: DType) -> list[Array]:
        with np.errstate(over="ignore", under="ignore"):
            rows = [np.asarray(row, np.float64).astype(dtype) for row in self.rows(dtype == np.float32)]
        assert all(np.isfinite(row.max()) for row in rows)
        return rows


def _few_values(seed: int, size: int, scale: float) -> Array:
    """Many random logits of 997 values, so that the exact sum takes 997 exponentials."""
    rng = np.random.default_rng(seed)
    return rng.choice(rng.standard_normal(997) * scale, size)


def _ordinary(narrow: bool) -> Iterator[Any]:
    rng = np.random.default_rng(1)
    for width, count in (
        (2, 700),
        (3, 500),
        (7, 200),
        (10, 150),
        (30, 60),
        (64, 20),
        (65, 20),
        (200, 8),
        (1030, 2),
        (5000, 1),
    ):
        for scale in rng.choice([0.1, 1.0, 4.0, 20.0], count):
            yield rng.standard_normal(width) * scale + rng.choice([0.0, 3.0, -100.0])


def _magnitudes(narrow: bool) -> Iterator[Any]:
    for size in 10.0 ** np.arange(-30, 39 if narrow else 300, 4):
        yield [size, -size, 2 * size, 0.0]
        yield [size, size * 0.999, -size / 3]
    yield [1e4, 1e4 - 1, -1e4, 9.9e3, 1e4 - 30]
    yield [1e38, -1e38, 3e38]
    yield [3e38, 3e38, -3e38]
    yield np.full(5, -3e38)
    powers = 10.0 ** np.arange(-30, 38)
    yield np.r_[powers, -powers]


def _offsets(narrow: bool) -> Iterator[Any]:
    rng = np.random.default_rng(2)
    for offset in (1e6, -1e6):
        yield offset + np.array([0.0, 0.25, 1.5, -3.0, -20.0])
        for width in (2, 5, 64, 65, 1500):
            yield offset + rng.standard_normal(width) * 5


def _gaps(narrow: bool) -> Iterator[Any]:
    for gap in np.geomspace(1e-7, 87 if narrow else 700, 150):
        yield [0.0, -gap]
        yield [gap, 0.0, gap]
    for gap in (1, 7, 12, 16, 17, 20, 25, 37, 40, 46, 60, 80, 86, 300, 700):
        yield [-3.0, -3.0 - gap]
    for step in (2.0**-23, 2.0**-52):
        yield 1 + np.arange(10) * step


def _equal(narrow: bool) -> Iterator[Any]:
    yield np.full(1_000_000, 0.3)
    yield np.full(1_000_000, -1e6)
    for width in (2, 3, 10, 64, 65, 1000):
        yield np.full(width, 0.1)
    yield np.r_[np.full(1000, 7.0), np.full(64, 7.0 - 2.0**-20)]


def _many(narrow: bool) -> Iterator[Any]:
    yield _few_values(1, 1_000_000, 1.0)
    yield _few_values(2, 1_000_000, 30.0)
    yield np.r_[18.0, _few_values(3, 128_255, 1.0)]
    yield np.r_[9.0, 9.0, np.full(999_998, -40.0)]


def _dominant(narrow: bool) -> Iterator[Any]:
    rng = np.random.default_rng(5)
    for width in (2, 3, 10, 65, 1000, 5000):
        row = np.full(width, -46.0 - np.log(width))  # a loss of 1e-20
        row[width // 2] = 0
        yield row
    for width in (10, 64, 65, 1000):
        for gap in (10, 17, 20, 37, 46, 75) if narrow else (10, 20, 37, 46, 80, 300, 690):
            yield np.r_[rng.standard_normal(width - 1), gap + 3.0]


def _subnormal(narrow: bool) -> Iterator[Any]:
    yield [1e-40, -1e-40, 3e-45, 0.0]
    yield [1e-310, -5e-324, 1e-320, 0.0]
    yield np.r_[0.0, np.full(70, 1e-42)]
    for gap in np.arange(86.5, 105, 0.75) if narrow else np.arange(707.5, 746, 1.5):
        yield [0.0, -gap]
        yield np.r_[np.full(70, -gap), 0.0]


def _masked(narrow: bool) -> Iterator[Any]:
    for width in (6, 64, 70, 130, 2100):
        yield np.where(np.arange(width) % 2, -np.inf, np.sin(np.arange(width)) * 4)
        yield np.where(np.arange(width) == width - 3, 2.5, -np.inf)
        yield np.where(np.arange(width) < width - 2, -np.inf, np.r_[np.full(width - 1, 0.5), -9.5])
        yield np.r_[np.full(width - 1, -np.inf), 3e38]


def _shapes(narrow: bool) -> Iterator[Any]:
    yield np.linspace(-40, 3, 1025)
    yield np.linspace(3, -40, 1025)
    yield np.repeat(np.arange(0.0, 40.0, 0.5), 64)
    yield np.r_[np.full(2000, -60.0), 5.0, np.full(2000, -60.5)]
    yield np.where(np.arange(3000) % 2, 30.0, -30.0)
    yield np.r_[5.0, 5.0, np.full(3000, -12.0)]
    yield np.r_[np.full(1024, -30.0), np.full(1024, 1e5), np.full(1024, 1e5 + 0.5)]


FAMILIES = (
    Family("ordinary", "random logits of 2 to 5000 classes, as a classifier gives them", _ordinary),
    Family("magnitudes", "logits from 1e-30 to 3e38 (1e299 in float64), alone and together", _magnitudes),
    Family("offsets", "common offsets of 1e6 and -1e6", _offsets),
    Family("gaps", "two or three classes, from 1e-7 to 87 (700) apart; ten, a unit in the last place apart", _gaps),
    Family("equal", "up to 1e6 equal logits", _equal),
    Family("many", "1e6 random classes; one or two at the top of a million", _many),
    Family("dominant", "one class so far above that its loss is 1e-4 to 1e-20, and 1e-30 (1e-297)", _dominant),
    Family("subnormal", "subnormal logits, and results that fade out through the subnormal numbers", _subnormal),
    Family("masked", "classes at -inf: every other one, all but one, all but two", _masked),
    Family("shapes", "long rows whose largest class comes late, early, in steps or in the middle", _shapes),
)  # fmt: skip


def places(row: Array) -> list[int]:
    """All classes of a narrow row; of a wide one the ends, the extremes and a few in between."""
    if row.size <= 16:
        return list(range(row.size))
    some = np.random.default_rng(0).integers(0, row.size, 6)
    return sorted({0, row.size - 1, int(row.argmax()), int(row.argmin()), *map(int, some)})


def targets(row: Array) -> list[int]:
    """The largest class, the last, and the one in the middle."""
    return sorted({int(row.argmax()), row.size // 2, row.size - 1})


# ---- the functions and their exact values ---------------------------------------------------------------


class Value(NamedTuple):
    """Exact numbers, and what their errors are relative to: their own size, or that of the terms that cancel."""

    numbers: list[Any]
    scales: list[Any]


class Function(NamedTuple):
    """A function of (rows, class indices) by crossent, and exactly for a row.

    `targets` are the class indices for which a row is repeated; None for functions that have no target. `entries` says
    that the result has an element for each class, of which those at `places` are looked at.
    """

    name: str
    about: str
    crossent: Callable[[Array, Any], Any]
    exact: Callable[[Array], Value]
    targets: Callable[[Array], list[int]] | None = places
    entries: bool = False

    @property
    def title(self) -> str:
        return f"`{self.name}`, {self.about}" if self.about else f"`{self.name}`"

    def arguments(self, row: Array) -> tuple[Array, Array]:
        at = np.array(self.targets(row) if self.targets else [0])
        return np.broadcast_to(row, (len(at), row.size)), at

    def results(self, row: Array) -> Array:
        """Those of crossent. For (N, C) rows and for pixels (N, C, H, W) they must agree to the bit."""
        rows, at = self.arguments(row)
        results = self.chosen(np.asarray(self.crossent(rows, at)), row)
        if row.size <= 5000:
            pixels = np.ascontiguousarray(rows.T)[np.newaxis, :, :, np.newaxis]
            others = np.asarray(self.crossent(pixels, at[np.newaxis, :, np.newaxis]))
            others = np.moveaxis(others, 1, -1).reshape(rows.shape) if self.entries else others.reshape(-1)
            assert self.chosen(others, row).tobytes() == results.tobytes(), (self.name, row)
        return results

    def chosen(self, results: Array, row: Array) -> Array:
        return results[:, places(row)].reshape(-1) if self.entries else results.reshape(-1)


def soft_target(row: Array) -> Array:
    """Probabilities, 0 where a class is masked. They are multiples of a power of two, so that their sums are exact."""
    q = np.random.default_rng(row.size).integers(1, 1000, row.size) * np.isfinite(row)
    return np.ldexp(q, -int(q.sum()).bit_length()).astype(row.dtype)


def weights(x: Any) -> Array:
    """One for each class of rows along axis 1."""
    return (np.random.default_rng(x.shape[1]).random(x.shape[1]) + 0.25).astype(np.asarray(x).dtype)


def soft_targets(x: Array) -> Array:
    """The row's soft target, once for each row of the same shape as x."""
    q = soft_target(x[0] if x.ndim == 2 else x[0, :, 0, 0])
    return np.broadcast_to(q if x.ndim == 2 else q[:, np.newaxis, np.newaxis], x.shape)


def _exactly(of: Callable[[Array], Iterator[tuple[Any, Any]]]) -> Callable[[Array], Value]:
    """From pairs of a number and its scale, computed with the digits of `exact`."""

    @functools.wraps(of)
    def value(row: Array) -> Value:
        with mpmath.workdps(exact.DIGITS):
            numbers, scales = zip(*of(row), strict=True)
        return Value(list(numbers), list(scales))

    return value


def _number(x: Any) -> Any:
    return mpf(float(x))


@_exactly
def _logsumexp(row: Array) -> Iterator[tuple[Any, Any]]:
    number = exact.logsumexp(row)
    yield number, max(abs(number), abs(_number(row.max())))


@_exactly
def _log_softmax(row: Array) -> Iterator[tuple[Any, Any]]:
    for number in exact.log_softmax(row, places(row)):
        yield number, number


@_exactly
def _softmax(row: Array) -> Iterator[tuple[Any, Any]]:
    for number in exact.softmax(row, places(row)):
        yield number, number


@_exactly
def _cross_entropy(row: Array) -> Iterator[tuple[Any, Any]]:
    for number in exact.log_softmax(row, places(row)):
        yield -number, number


@_exactly
def _sum(row: Array) -> Iterator[tuple[Any, Any]]:
    number = -mpmath.fsum(exact.log_softmax(row, places(row)))
    yield number, number


@_exactly
def _mean(row: Array) -> Iterator[tuple[Any, Any]]:
    number = -mpmath.fsum(exact.log_softmax(row, places(row))) / len(places(row))
    yield number, number


@_exactly
def _weighted_mean(row: Array) -> Iterator[tuple[Any, Any]]:
    at = places(row)
    w = [_number(weight) for weight in weights(row[np.newaxis])[at]]
    losses = exact.log_softmax(row, at)
    number = -mpmath.fsum(a * b for a, b in zip(w, losses, strict=True)) / mpmath.fsum(w)
    yield number, number


@_exactly
def _gradient(row: Array) -> Iterator[tuple[Any, Any]]:
    at = places(row)
    p = exact.softmax(row, at)
    for t in targets(row):
        for i, share in zip(at, p, strict=True):
            number = -exact.miss(row, t) if i == t else share
            yield number, number


def _spread(row: Array) -> Any:
    """The sum of -log softmax over all classes."""
    _, first, counts = np.unique(row, return_index=True, return_counts=True)
    log_p = exact.log_softmax(row, first)
    return -mpmath.fsum(int(n) * v for n, v in zip(counts, log_p, strict=True))


@_exactly
def _smoothed(row: Array) -> Iterator[tuple[Any, Any]]:
    even = mpf(SMOOTHING) / row.size * _spread(row)
    for log_p in exact.log_softmax(row, places(row)):
        number = even - (1 - mpf(SMOOTHING)) * log_p
        yield number, number


@_exactly
def _smoothed_gradient(row: Array) -> Iterator[tuple[Any, Any]]:
    at = places(row)
    p = exact.softmax(row, at)
    even = mpf(SMOOTHING) / row.size
    for t in targets(row):
        for i, share in zip(at, p, strict=True):
            q = even + (1 - mpf(SMOOTHING) if i == t else 0)
            yield share - q, max(share, q)


@_exactly
def _soft_loss(row: Array) -> Iterator[tuple[Any, Any]]:
    # The q of equal logits are added up first: they are small multiples of a power of two.
    _, first, group = np.unique(row, return_index=True, return_inverse=True)
    q = [_number(q) for q in np.bincount(group, soft_target(row).astype(np.float64))]
    number = -mpmath.fsum(a * b for a, b in zip(q, exact.log_softmax(row, first), strict=True) if a > 0)
    yield number, number


@_exactly
def _soft_gradient(row: Array) -> Iterator[tuple[Any, Any]]:
    at, q = places(row), soft_target(row)
    total = _number(q.astype(np.float64).sum())
    for i, p in zip(at, exact.softmax(row, at), strict=True):
        yield p * total - _number(q[i]), max(p * total, _number(q[i]))


def _gradient_of(x: Array, *arguments: Any, **options: Any) -> Array:
    return crossent.cross_entropy_and_grad(x, *arguments, reduction="sum", **options)[1]


FUNCTIONS = (
    Function("logsumexp", "", lambda x, t: crossent.logsumexp(x, 1), _logsumexp, None),
    Function("log_softmax", "", lambda x, t: crossent.log_softmax(x, 1), _log_softmax, None, entries=True),
    Function("softmax", "", lambda x, t: crossent.softmax(x, 1), _softmax, None, entries=True),
    Function(
        "cross_entropy", "", lambda x, t: crossent.cross_entropy(x, t, reduction="none"), _cross_entropy
    ),
    Function("cross_entropy", "sum", lambda x, t: crossent.cross_entropy(x, t, reduction="sum"), _sum),
    Function("cross_entropy", "mean", crossent.cross_entropy, _mean),
    Function(
        "cross_entropy",
        "weighted mean",
        lambda x, t: crossent.cross_entropy(x, t, weights(x)),
        _weighted_mean,
    ),
    Function(
        "cross_entropy",
        "smoothed",
        lambda x, t: crossent.cross_entropy(x, t, reduction="none", label_smoothing=SMOOTHING),
        _smoothed,
    ),
    Function(
        "cross_entropy",
        "probabilities",
        lambda x, t: crossent.cross_entropy(x, soft_targets(x), reduction="none"),
        _soft_loss,
        None,
    ),
    Function("cross_entropy_and_grad", "", _gradient_of, _gradient, targets, entries=True),
    Function(
        "cross_entropy_and_grad",
        "smoothed",
        lambda x, t: _gradient_of(x, t, label_smoothing=SMOOTHING),
        _smoothed_gradient,
        targets,
        entries=True,
    ),
    Function(
        "cross_entropy_and_grad",
        "probabilities",
        lambda x, t: _gradient_of(x, soft_targets(x)),
        _soft_gradient,
        None,
        entries=True,
    ),
)


# ---- samples: a function on the rows of a family --------------------------------------------------------


class Sample(NamedTuple):
    function: Function
    family: Family
    dtype: DType
    rows: list[Array]

    @property
    def key(self) -> str:
        return ", ".join((*self.function[:2], self.family.name, self.dtype.name))

    def exact(self) -> Exact:
        values = [self.function.exact(row) for row in self.rows]
        numbers = [number for value in values for number in value.numbers]
        return Exact(self.dtype, numbers, [scale for value in values for scale in value.scales])

    def results(self) -> Array:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", crossent.LikelyMistakeWarning)
            return np.concatenate([self.function.results(row) for row in self.rows])

    def results_of(self, peer: Callable[[Array, Array], Any]) -> Array:
        """Those of another library, which gets (N, C) rows."""
        function = self.function
        with np.errstate(all="ignore"):
            results = [np.asarray(peer(*function.arguments(row))) for row in self.rows]
        return np.concatenate([function.chosen(*pair) for pair in zip(results, self.rows, strict=True)])


def samples(step: int = 1) -> Iterator[Sample]:
    """Every function on every family, in both dtypes; of the families with many rows one row in `step`."""
    for family in FAMILIES:
        for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
            rows = family.of(dtype)
            rows = rows[::step] if len(rows) > 100 else rows
            for function in FUNCTIONS:
                yield Sample(function, family, dtype, rows)


def results_at(level: str, step: int = 1) -> dict[str, Array]:
    """The results of all samples with an instruction set forced, from a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.npz"
        code = "import sys, hard_rows; hard_rows.save(*sys.argv[1:])"
        subprocess.run(
            [sys.executable, "-c", code, str(path), level, str(step)],
            env=environment(CROSSENT_ISA=level),
            check=True,
        )
        with np.load(path) as results:
            return dict(results)


def save(path: str, level: str, step: str) -> None:
    """What `results_at` runs."""
    assert _core.build_info()["isa"] == level
    np.savez(path, **{sample.key: sample.results() for sample in samples(int(step))})
