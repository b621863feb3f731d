"""The same bits: every function, dtype and kernel, on any threads, layout, batch and instruction set.

Classes are counted on both sides of every boundary between kernels: rows are packed up to 100 classes, two and four of
them in their own ways, and are summed in blocks of 1024; rows come in tiles of 64 and in grains of 65 536 elements.
Results are compared as bytes. Levels without a fused multiply-add are held to two ULP of those with one, to four where
nothing wider than the result is at hand.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import crossent
import reference
from arrays import DTYPES, Array, DType, logits, name, probabilities
from crossing import crossed
from levels import AVAILABLE, FUSED, at_levels, begin_first
from ulp import ulp_distance

pytestmark = pytest.mark.filterwarnings("ignore::crossent.LikelyMistakeWarning")

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=name)
CLASSES = (1, 2, 3, 4, 5, 10, 21, 63, 64, 65, 99, 100, 101, 150, 1000, 1024, 1025, 5000)
every_width = pytest.mark.parametrize("classes", CLASSES)


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = crossent.get_num_threads()
    yield
    crossent.set_num_threads(before)


# ---- the data: some rows, and what their losses need ------------------------------------------------------


class Rows(NamedTuple):
    """Arrays of a shape with the classes along `axis`, and arrays of the rows' own shape."""

    x: Array
    other: Array  # another model's logits
    log_p: Array
    p: Array  # probability targets
    log_q: Array
    q: Array  # probabilities of 0 and 1 for single elements
    var: Array
    t: Array
    signed: Array
    where: Array
    upstream: Array
    axis: int
    weight: Array  # of the classes

    def each(self, elements: Callable[[Array], Array], rows: Callable[[Array], Array], axis: int) -> Rows:
        """The same with other arrays: `elements` is applied to those with classes, `rows` to those without."""
        with_classes, without = map(elements, self[:7]), map(rows, self[7:11])
        return Rows._make([*with_classes, *without, axis, self.weight])


def _rows(count: int, classes: int, dtype: DType) -> Rows:
    """Rows of (count, classes), all finite, among them sure, flat, tied and far from zero."""
    rng = np.random.default_rng([count, classes])
    shape = (count, classes)
    x = logits(rng, shape, dtype)
    x[1 % count, classes // 2] = 60
    x[2 % count] = -2.5
    x[3 % count, ::2] = x[3 % count].max()
    x[4 % count] += np.array(3000, dtype)
    x[5 % count] *= np.array(20, dtype)
    other = (x.astype(np.float64) + rng.standard_normal(shape) / 8).astype(dtype)
    p = probabilities(rng, shape, 1, dtype)
    t = rng.integers(0, classes, count)
    t[::7] = -100
    return Rows(
        x,
        other,
        reference.log_softmax(x).astype(dtype),
        p,
        reference.log_softmax(other).astype(dtype),
        rng.random(shape).clip(0.01, 0.99).astype(dtype),
        (rng.random(shape) + 0.5).astype(dtype),
        t,
        np.where(rng.random(count) < 0.5, -1.0, 1.0),
        rng.random(count) < 0.9,
        rng.standard_normal(count),
        axis=1,
        weight=(rng.random(classes) + 0.5).astype(np.float32),
    )


def _spoilt(rows: Rows) -> Rows:
    """The same rows, some of them with what is not finite."""
    x = rows.x.copy()
    classes = x.shape[1]
    for row, column, value in (
        (0, 0, np.nan),
        (1, classes - 1, np.nan),
        (2, classes // 2, np.inf),
        (3, 0, -np.inf),
        (4, slice(None), -np.inf),
        (5, slice(None, None, 2), np.inf),
        (6, slice(None, None, 2), -np.inf),
    ):
        if row < len(x):
            x[row, column] = value
    return rows._replace(x=x)


# ---- the functions ----------------------------------------------------------------------------------------

# Each is given rows and a reduction. Results with classes have the shape of the logits, those of rows the rows' own.
Function = Callable[[Rows, str], Any]


def _empty_as(x: Array) -> Array:
    """Room for a result, laid out unlike the input: the axes from last to first."""
    return np.zeros(x.shape[::-1], x.dtype.newbyteorder("=")).T


def _in_place(function: Callable[..., Any]) -> Function:
    def call(r: Rows, _: str) -> Any:
        x = r.x.astype(r.x.dtype.newbyteorder("="))
        return function(x, r.axis, out=x)

    return call


CLASS_LOSSES: dict[str, Function] = {
    "cross_entropy": lambda r, how: crossent.cross_entropy(r.x, r.t, axis=r.axis, reduction=how),
    "cross_entropy, where": lambda r, how: crossent.cross_entropy(
        r.x, r.t, axis=r.axis, reduction=how, where=r.where
    ),
    "cross_entropy, weight and smoothing": lambda r, how: crossent.cross_entropy(
        r.x, r.t, r.weight, axis=r.axis, reduction=how, label_smoothing=0.1
    ),
    "cross_entropy, probabilities": lambda r, how: crossent.cross_entropy(
        r.x, r.p, axis=r.axis, reduction=how
    ),
    "cross_entropy, probabilities, weight and smoothing": lambda r, how: crossent.cross_entropy(
        r.x, r.p, r.weight, axis=r.axis, reduction=how, label_smoothing=0.1
    ),
    "focal_loss": lambda r, how: crossent.focal_loss(r.x, r.t, r.weight, axis=r.axis, reduction=how),
    "focal_loss, gamma": lambda r, how: crossent.focal_loss(
        r.x, r.t, gamma=0.75, axis=r.axis, reduction=how, where=r.where
    ),
    "poly_loss": lambda r, how: crossent.poly_loss(r.x, r.t, r.weight, axis=r.axis, reduction=how),
    "poly_loss, epsilon": lambda r, how: crossent.poly_loss(
        r.x, r.t, epsilon=-0.9, axis=r.axis, reduction=how, where=r.where
    ),
    "nll_loss": lambda r, how: crossent.nll_loss(r.log_p, r.t, r.weight, axis=r.axis, reduction=how),
}
ELEMENT_LOSSES: dict[str, Function] = {
    "binary_cross_entropy": lambda r, how: crossent.binary_cross_entropy(r.q, r.p, r.var, reduction=how),
    "binary_cross_entropy_with_logits": lambda r, how: crossent.binary_cross_entropy_with_logits(
        r.x, r.p, reduction=how
    ),
    "binary_cross_entropy_with_logits, weights": lambda r, how: crossent.binary_cross_entropy_with_logits(
        r.x, r.p, r.q, pos_weight=r.var, reduction=how
    ),
    "sigmoid_focal_loss": lambda r, how: crossent.sigmoid_focal_loss(r.x, r.p, reduction=how),
    "sigmoid_focal_loss, gamma": lambda r, how: crossent.sigmoid_focal_loss(
        r.x, r.q, alpha=-1, gamma=0.75, reduction=how
    ),
    "kl_div": lambda r, how: crossent.kl_div(r.log_p, r.p, reduction=how),
    "kl_div, log_target": lambda r, how: crossent.kl_div(r.log_p, r.log_q, reduction=how, log_target=True),
    "gaussian_nll_loss": lambda r, how: crossent.gaussian_nll_loss(
        r.x, r.other, r.var, full=True, reduction=how
    ),
    "poisson_nll_loss": lambda r, how: crossent.poisson_nll_loss(r.log_p, r.var, full=True, reduction=how),
    "poisson_nll_loss, no log": lambda r, how: crossent.poisson_nll_loss(
        r.var, r.q, log_input=False, reduction=how
    ),
}


def _upstream(r: Rows, how: str) -> Array | None:
    return r.upstream if how == "none" else None


CLASS_GRADIENTS: dict[str, Function] = {
    "cross_entropy_and_grad": lambda r, how: crossent.cross_entropy_and_grad(
        r.x, r.t, axis=r.axis, reduction=how, grad_output=_upstream(r, how)
    ),
    "cross_entropy_and_grad, grad_out": lambda r, how: crossent.cross_entropy_and_grad(
        r.x, r.t, axis=r.axis, reduction=how, grad_output=_upstream(r, how), grad_out=_empty_as(r.x)
    ),
    "cross_entropy_and_grad, weight and smoothing": lambda r, how: crossent.cross_entropy_and_grad(
        r.x,
        r.t,
        r.weight,
        axis=r.axis,
        reduction=how,
        label_smoothing=0.1,
        where=r.where,
        grad_output=_upstream(r, how),
    ),
    "cross_entropy_and_grad, probabilities": lambda r, how: crossent.cross_entropy_and_grad(
        r.x, r.p, r.weight, axis=r.axis, reduction=how, grad_output=_upstream(r, how)
    ),
    "focal_loss_and_grad": lambda r, how: crossent.focal_loss_and_grad(
        r.x, r.t, r.weight, axis=r.axis, reduction=how, grad_output=_upstream(r, how)
    ),
    "poly_loss_and_grad": lambda r, how: crossent.poly_loss_and_grad(
        r.x, r.t, r.weight, axis=r.axis, reduction=how, where=r.where, grad_output=_upstream(r, how)
    ),
    "nll_loss_and_grad": lambda r, how: crossent.nll_loss_and_grad(
        r.log_p, r.t, r.weight, axis=r.axis, reduction=how, grad_output=_upstream(r, how)
    ),
}


def _teacher(r: Rows, how: str, *, gradient: bool, tail: bool = True) -> Any:
    """Of three classes of each row, from the other logits."""
    x, other = (np.moveaxis(a, r.axis, -1) for a in (r.x, r.other.astype(np.float64)))
    ids = np.argsort(-other, axis=-1, kind="stable")[..., :3]
    log_p = np.take_along_axis(crossent.log_softmax(other), ids, axis=-1)
    log_p[np.isnan(log_p)] = -1.5
    options: dict[str, Any] = {
        "tail": tail,
        "reduction": "batchmean" if how == "mean" else how,
        "where": r.where,
    }
    if not gradient:
        return crossent.kl_div_topk(x, ids, log_p, **options)
    loss, grad = crossent.kl_div_topk_and_grad(x, ids, log_p, **options, grad_output=_upstream(r, how))
    return loss, np.moveaxis(grad, -1, r.axis)


CLASS_LOSSES["kl_div_topk"] = lambda r, how: _teacher(r, how, gradient=False)
CLASS_LOSSES["kl_div_topk, no tail"] = lambda r, how: _teacher(r, how, gradient=False, tail=False)
CLASS_GRADIENTS["kl_div_topk_and_grad"] = lambda r, how: _teacher(r, how, gradient=True)
CLASS_LOSSES["cross_entropy, z_loss"] = lambda r, how: crossent.cross_entropy(
    r.x, r.t, r.weight, axis=r.axis, reduction=how, z_loss=0.1
)
CLASS_GRADIENTS["cross_entropy_and_grad, z_loss"] = lambda r, how: crossent.cross_entropy_and_grad(
    r.x, r.t, r.weight, axis=r.axis, reduction=how, z_loss=0.1, grad_output=_upstream(r, how)
)
ELEMENT_GRADIENTS: dict[str, Function] = {
    "binary_cross_entropy_and_grad": lambda r, how: crossent.binary_cross_entropy_and_grad(
        r.q, r.p, reduction=how, grad_output=r.var if how == "none" else None
    ),
    "binary_cross_entropy_with_logits_and_grad": (
        lambda r, how: crossent.binary_cross_entropy_with_logits_and_grad(
            r.x, r.p, r.q, reduction=how, grad_output=r.var if how == "none" else None
        )
    ),
    "sigmoid_focal_loss_and_grad": lambda r, how: crossent.sigmoid_focal_loss_and_grad(
        r.x, r.p, gamma=1.5, reduction=how, grad_output=r.var if how == "none" else None
    ),
    "kl_div_and_grad": lambda r, how: crossent.kl_div_and_grad(
        r.log_p, r.p, reduction=how, grad_output=r.var if how == "none" else None
    ),
}
ROW_FUNCTIONS: dict[str, Function] = {
    "log_softmax": lambda r, _: crossent.log_softmax(r.x, r.axis),
    "log_softmax, out": lambda r, _: crossent.log_softmax(r.x, r.axis, out=_empty_as(r.x)),
    "log_softmax, in place": _in_place(crossent.log_softmax),
    "softmax": lambda r, _: crossent.softmax(r.x, r.axis),
    "softmax, out": lambda r, _: crossent.softmax(r.x, r.axis, out=_empty_as(r.x)),
    "softmax, in place": _in_place(crossent.softmax),
    "logsumexp": lambda r, _: crossent.logsumexp(r.x, r.axis),
    "logsumexp, b": lambda r, _: crossent.logsumexp(r.x, r.axis, b=r.q - r.p),
    "log_sigmoid": lambda r, _: crossent.log_sigmoid(r.x),
}


def _scores(r: Rows, _: str) -> Any:
    top = min(3, r.x.shape[r.axis])
    scores = crossent.score(r.x, r.t, axis=r.axis, where=r.where, top_k=top)
    columns = [getattr(scores, key) for key in ("nll", "logsumexp", "entropy", "prediction", "rank")]
    assert scores.top_ids is not None
    assert scores.top_log_probs is not None
    best = [np.moveaxis(a, -1, 0) for a in (scores.top_ids, scores.top_log_probs)]
    return [*columns, scores.counted, scores.correct, *best[0], *best[1]]


PER_ROW: dict[str, Function] = {
    **CLASS_LOSSES,
    **ELEMENT_LOSSES,
    **CLASS_GRADIENTS,
    **ELEMENT_GRADIENTS,
    **ROW_FUNCTIONS,
    "score": _scores,
}


def _scorer(batches: list[Rows]) -> Any:
    scorer = crossent.Scorer(top_k={1, min(3, batches[0].x.shape[batches[0].axis])})
    for r in batches:
        scorer.update(r.x, r.t, axis=r.axis, where=r.where)
    return scorer.result().to_dict()


def _comparer(batches: list[Rows]) -> Any:
    comparer = crossent.Comparer()
    for r in batches:
        comparer.update(r.x, r.other, r.t, axis=r.axis, where=r.where)
    return comparer.result().to_dict()


def _temperature(batches: list[Rows]) -> Any:
    r = batches[0]
    if r.x.shape[r.axis] < 2 or r.t.size < 10:
        return None
    # The best class or the second best: else no temperature fits.
    order = r.x.astype(np.float64).argsort(r.axis, kind="stable")
    t = np.where(r.upstream > -0.3, order.take(-1, r.axis), order.take(-2, r.axis))
    plain = crossent.fit_temperature(r.x, t, axis=r.axis)
    weighted = crossent.fit_temperature(r.x, t, axis=r.axis, sample_weight=1.0 + 0.1 * np.tanh(r.upstream))
    return dataclasses.astuple(plain) + dataclasses.astuple(weighted)


def _log_loss(batches: list[Rows]) -> Any:
    r = batches[0]
    p = np.moveaxis(r.p, r.axis, -1).reshape(-1, r.p.shape[r.axis])
    if not 2 <= p.shape[1] <= 10_000:  # many labels take Python long
        return None
    return crossent.log_loss(r.t.reshape(-1) % p.shape[1], p, labels=range(p.shape[1]))


# Sums that are exact, whatever the batches (the last two are given one).
EXACT: dict[str, Callable[[list[Rows]], Any]] = {"Scorer": _scorer, "Comparer": _comparer}
TOTALS = {**EXACT, "fit_temperature": _temperature, "log_loss": _log_loss}


def test_every_numerical_function_is_met() -> None:
    met = " ".join([*PER_ROW, *TOTALS])
    for key in crossent.__all__:
        # Products are BLAS', whose bits tests/losses/test_linear.py holds.
        apart = ("get_num_threads", "set_num_threads", "show_versions")
        if key[0].islower() and key not in apart and not key.startswith("linear_"):
            assert {"compare": "Comparer"}.get(key, key) in met


def _figures(total: Any) -> Iterator[float]:
    """Every number of a total, in order."""
    if isinstance(total, dict):
        total = list(total.values())
    if isinstance(total, (list, tuple)):
        for part in total:
            yield from _figures(part)
    elif total is not None:
        yield float(total)


def _canonical(r: Rows, result: Any) -> list[Array]:
    """Every array of a result with its rows along the first axis, and numbers as they are."""
    parts = result if isinstance(result, (tuple, list)) else [result]
    arrays = []
    for part in map(np.asarray, parts):
        if part.shape == r.x.shape:
            part = np.moveaxis(part, r.axis, -1).reshape(r.t.size, -1)
        elif part.shape == r.t.shape:
            part = part.reshape(r.t.size)
        else:
            assert part.shape == ()
        part = np.ascontiguousarray(part)
        # There are many nan; which of them a processor makes is not promised.
        if part.dtype.kind in "fV" and (wrong := np.isnan(part)).any():
            part = np.where(wrong, np.array(np.nan).astype(part.dtype), part)
        arrays.append(part)
    return arrays


def _per_row(r: Rows) -> Iterator[tuple[str, list[Array]]]:
    for key, function in PER_ROW.items():
        yield key, _canonical(r, function(r, "none"))


def _everything(
    r: Rows, reductions: tuple[str, ...] = ("none", "mean", "sum")
) -> Iterator[tuple[str, list[Array]]]:
    """All results for the rows; the figures of a total as an array."""
    for key, function in PER_ROW.items():
        reduced = key not in ROW_FUNCTIONS and key != "score"
        # Losses of single elements know no classes: their sums follow the order of the axes.
        if key in ELEMENT_LOSSES or key in ELEMENT_GRADIENTS:
            reduced = r.axis == r.x.ndim - 1
        for how in reductions if reduced else ("none",):
            yield f"{key}, {how}", _canonical(r, function(r, how))
    for key, total in TOTALS.items():
        yield key, [np.array(list(_figures(total([r]))))]


def _bits(results: Iterator[tuple[str, list[Array]]]) -> dict[str, list[bytes]]:
    return {key: [array.tobytes() for array in arrays] for key, arrays in results}


def _differences(actual: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    assert actual
    return [key for key in actual if actual[key] != expected[key]]


# ---- layouts ----------------------------------------------------------------------------------------------


def _unaligned(a: Array) -> Array:
    raw = np.zeros(a.nbytes + 1, np.uint8)
    view = raw[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


def _shifted(a: Array) -> Array:
    room = np.zeros(a.size + 3, a.dtype)
    view = room[3:].reshape(a.shape)
    view[...] = a
    return view


def _reversed(a: Array) -> Array:
    back = (slice(None, None, -1),) * a.ndim
    return a[back].copy()[back]


def _every_second(a: Array) -> Array:
    room = np.full(tuple(2 * n for n in a.shape), a.flat[0])
    view = room[(slice(None, None, 2),) * a.ndim]
    view[...] = a
    return view


def _read_only(a: Array) -> Array:
    a = a.copy()
    a.flags.writeable = False
    return a


def _swapped(a: Array) -> Array:
    return a if a.dtype.kind == "V" else a.astype(a.dtype.newbyteorder())


STRIDES: dict[str, Callable[[Array], Array]] = {
    "Fortran": np.asfortranarray,
    "reversed": _reversed,
    "every second": _every_second,
    "rows apart": lambda a: np.repeat(a, 2, axis=0)[::2],
    "read-only": _read_only,
    "unaligned": _unaligned,
    "shifted": _shifted,
    "other byte order": _swapped,
}


def _strided(layout: Callable[[Array], Array]) -> Callable[[Rows], Rows]:
    return lambda r: r.each(layout, layout, 1)


def _image(elements: Callable[[Array], Array], axis: int) -> Callable[[Rows], Rows]:
    """The rows as the pixels of two images of three lines; `elements` is given arrays with the classes last."""

    def laid_out(r: Rows) -> Rows:
        image = (2, 3, len(r.x) // 6)
        return r.each(lambda a: elements(a.reshape(*image, -1)), lambda a: a.reshape(image), axis)

    return laid_out


def _moved(axis: int) -> Callable[[Array], Array]:
    return lambda a: np.ascontiguousarray(np.moveaxis(a, -1, axis))


LAID_OUT: dict[str, Callable[[Rows], Rows]] = {
    **{key: _strided(layout) for key, layout in STRIDES.items()},
    **{f"image, class axis {axis}": _image(_moved(axis), axis) for axis in range(4)},
    "image, channels last": _image(lambda a: np.moveaxis(a, -1, 1), 1),
    # (N, C, W, H) in memory, seen as (N, C, H, W)
    "image, columns first": _image(
        lambda a: np.ascontiguousarray(a.transpose(0, 3, 2, 1)).transpose(0, 1, 3, 2), 1
    ),
}


def _count(classes: int) -> int:
    """More rows than two tiles, or a few where there are many classes; divisible by 6."""
    return 138 if classes <= 65 else 66 if classes <= 150 else 18


def _by_rows() -> list[Any]:
    """For each dtype and number of classes some layouts: each layout meets each dtype and each number of classes."""
    layouts: dict[tuple[int, int], list[str]] = {}
    for dtype, classes, layout in crossed(range(len(DTYPES)), CLASSES, list(LAID_OUT), more=30):
        layouts.setdefault((dtype, classes), []).append(layout)
    return [
        pytest.param(DTYPES[dtype], classes, some, id=f"{DTYPES[dtype].name}-{classes}")
        for (dtype, classes), some in layouts.items()
    ]


@pytest.mark.parametrize(("dtype", "classes", "layouts"), _by_rows())
def test_layouts_do_not_change_a_bit(dtype: DType, classes: int, layouts: list[str]) -> None:
    rows = _rows(_count(classes), classes, dtype)
    expected = _bits(_everything(rows))
    for key in layouts:
        assert not _differences(_bits(_everything(LAID_OUT[key](rows))), expected), key
    spoilt = _spoilt(rows)
    expected = _bits(_per_row(spoilt))
    for key in layouts:
        assert not _differences(_bits(_per_row(LAID_OUT[key](spoilt))), expected), key


# ---- batches ----------------------------------------------------------------------------------------------


def _cut(r: Rows, size: int) -> list[Rows]:
    def part(start: int) -> Callable[[Array], Array]:
        return lambda a: a[start : start + size]

    return [r.each(part(start), part(start), 1) for start in range(0, len(r.x), size)]


MANY = 12  # batches are enough, of those of one row


@every_width
@every_dtype
def test_batches_do_not_change_a_bit(dtype: DType, classes: int) -> None:
    plain = _rows(_count(classes), classes, dtype)
    for rows in (plain, _spoilt(plain)):
        whole = dict(_per_row(rows))
        for size in (1, 7, len(rows.x) // 2):
            parts = [dict(_per_row(part)) for part in _cut(rows, size)[:MANY]]
            count = min(size * MANY, len(rows.x))
            joined = {
                key: [
                    np.concatenate(pieces).tobytes() for pieces in zip(*(p[key] for p in parts), strict=True)
                ]
                for key in whole
            }
            expected = {key: [array[:count].tobytes() for array in arrays] for key, arrays in whole.items()}
            assert not _differences(joined, expected), size
    for key, total in EXACT.items():
        figures = repr(total([plain]))
        for size in (1, 7, len(plain.x) // 2):
            assert repr(total(_cut(plain, size))) == figures, (key, size)


# ---- threads ----------------------------------------------------------------------------------------------


SHARED = (  # more than the 131 072 elements from which on threads share the work
    *((140_011 // classes + 1, classes) for classes in (2, 5, 100, 101, 1025)),
    (3, 50_257),
    (1, 150_001),
)


@pytest.mark.parametrize("shape", SHARED, ids=str)
@every_dtype
def test_threads_do_not_change_a_bit(dtype: DType, shape: tuple[int, int]) -> None:
    rows = _rows(*shape, dtype)
    across = rows.each(np.asfortranarray, lambda a: a, 1)
    expected: dict[str, list[bytes]] | None = None
    for threads, laid_out in ((1, rows), (2, across), (3, rows), (8, across)):
        crossent.set_num_threads(threads)
        bits = _bits(_everything(laid_out, ("none", "mean")))
        expected = expected or bits
        assert not _differences(bits, expected), threads


# ---- instruction sets -------------------------------------------------------------------------------------


LEVEL_SHAPES = (*((_count(classes), classes) for classes in CLASSES), (2, 50_257))


def everything() -> dict[str, dict[str, list[Array]]]:
    """The results of all functions at the level in use, by dtype."""
    results: dict[str, dict[str, list[Array]]] = {name(dtype): {} for dtype in DTYPES}
    for dtype, shape in itertools.product(DTYPES, LEVEL_SHAPES):
        rows = _rows(*shape, dtype)
        for key, arrays in _everything(rows, ("none", "mean")):
            results[name(dtype)][f"{key}, finite {shape}"] = arrays
        for key, arrays in _per_row(_spoilt(rows)):
            results[name(dtype)][f"{key}, spoilt {shape}"] = arrays
    return results


Levels = dict[str, dict[str, dict[str, list[Array]]]]


@pytest.fixture(scope="module")
def levels() -> Iterator[Future[Levels]]:
    """All results at each level. Rows and targets are the same at all."""
    code = "import levels, test_same_bits; levels.tell(test_same_bits.everything())"
    with ThreadPoolExecutor() as pool:
        yield pool.submit(at_levels, code, Path(__file__).parent)


@pytest.fixture(scope="module", autouse=True)
def _levels_begin_first(request: pytest.FixtureRequest) -> None:
    """Other processes are at work on them while the tests before theirs are in this one."""
    begin_first(request, "levels")


# Results that are differences of numbers which may be larger than they.
CANCEL = (
    "_and_grad, probabilities",
    "_and_grad, weight",
    "_and_grad, z_loss",
    "binary_cross_entropy_with_logits_and_grad",
    "sigmoid_focal_loss_and_grad",
    "kl_div",
)


def _ulp(key: str, mine: Array, best: Array) -> float:
    """How far a level's numbers are from another's, in units in the last place; of integers 0 or infinity."""
    if mine.dtype.kind in "biu":
        return 0.0 if np.array_equal(mine, best) else np.inf
    distance = ulp_distance(mine, best)
    if mine.ndim == 2 and key.startswith(tuple(k for k in PER_ROW if any(part in k for part in CANCEL))):
        # In units of what they are differences of: 1 / C on average, and at least the largest of their row.
        a, b = (array.astype(np.float64) for array in (mine, best))
        average = 1 / b.shape[1] / (len(b) if ", mean" in key else 1)
        if "kl_div" in key:
            average *= np.log2(b.shape[1] + 1)  # p log p
        largest = np.where(np.isfinite(b), np.abs(b), 0).max(axis=-1, keepdims=True, initial=0)
        scale = np.maximum(largest, average).astype(best.dtype)
        step = np.nextafter(scale, np.array(np.inf, scale.dtype)).astype(np.float64) - scale.astype(
            np.float64
        )
        finite = np.isfinite(a) & np.isfinite(b)
        distance = np.where(
            finite, np.abs(np.subtract(a, b, where=finite, out=np.zeros_like(a))) / step, distance
        )
    return float(distance.max(initial=0))


def _limit(key: str, dtype: DType) -> int:
    """ULP: ten for a product of five such numbers, or with the square of the log-sum-exp; six for one of three; four
    where nothing wider is at hand, for single elements and for differences; else two.
    """
    if "z_loss" in key:
        return 10
    if key.startswith(
        "kl_div_topk"
    ):  # q - p, of the tail the difference of two sums that may be near each other
        return 64
    if key.startswith("sigmoid_focal"):  # the weight, twice the probability of a miss, and two terms
        return 10
    if key.startswith("focal"):
        return 6
    single = key.startswith("binary") or any(part in key for part in CANCEL)
    return 4 if single or dtype == np.float64 else 2


@every_dtype
def test_levels_have_the_same_bits_or_are_two_ulp_away(dtype: DType, levels: Future[Levels]) -> None:
    results = levels.result()
    expected = results[AVAILABLE[0]][name(dtype)]
    for level in AVAILABLE[1:]:
        actual = results[level][name(dtype)]
        assert actual.keys() == expected.keys()
        for key, arrays in expected.items():
            for mine, best in zip(actual[key], arrays, strict=True):
                if level in FUSED:
                    assert mine.tobytes() == best.tobytes(), (level, key)
                elif key.startswith("kl_div_topk") and mine.ndim < 2:
                    # A divergence of d^2 / 2 is made of differences d of logarithms, which have an error of their own.
                    a, b = mine.astype(np.float64), best.astype(np.float64)
                    bound = (
                        8 * float(np.finfo(mine.dtype).eps) * np.abs(b) + 1e-14 * np.sqrt(np.abs(b)) + 1e-29
                    )
                    if "no tail" in key:  # of both signs, and no square
                        bound += 1e-14
                    same = (a == b) | (np.isnan(a) & np.isnan(b))
                    with np.errstate(invalid="ignore"):
                        assert (same | (np.abs(a - b) <= bound)).all(), (level, key)
                elif key.startswith(tuple(TOTALS)):
                    rtol = 1e-11 if dtype == np.float64 else 4e-6
                    np.testing.assert_allclose(mine, best, rtol=rtol, atol=rtol / 1e3, err_msg=key)
                else:
                    assert _ulp(key, mine, best) <= _limit(key, dtype), (level, key)
