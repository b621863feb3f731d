"""Proof of parity: options crossed at random against live torch and its autograd, and the slopes of our own losses.

The truth is torch in float64 on the very numbers that crossent gets: float64 is within 1e-12 of it and float32 within
2e-6, relatively. torch in float32 is measured beside, and the tests say how much further from that truth it is.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import crossent
from arrays import (
    DTYPES,
    HALVES,
    INTEGERS,
    LAYOUTS,
    SAME_VALUES,
    Array,
    DType,
    logits,
    loss_dtype,
    name,
    probabilities,
    row_shape,
)
from crossing import crossed
from optional import torch
from oracle import loss_and_gradient

pytestmark = [
    # One class, and no row counted, are met on purpose.
    pytest.mark.filterwarnings("ignore::crossent.LikelyMistakeWarning"),
    pytest.mark.filterwarnings("ignore:reduction:UserWarning"),
]

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
REDUCTIONS = ("none", "mean", "sum")
RTOL = {"float64": 1e-12, "float32": 2e-6}
# Half of what a rounding to half precision may change, relatively and at the smallest numbers.
HALF = {"float16": (2.0**-11, 2.0**-25), "bfloat16": (2.0**-8, 2.0**-134)}
SHARED = 1 << 17  # elements from which on threads share the work
short_dtype = pytest.mark.parametrize("dtype", [d for d in DTYPES if d != FLOAT64], ids=name)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=name)


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = crossent.get_num_threads()
    yield
    crossent.set_num_threads(before)


class Case(NamedTuple):
    """A draw from the options; those that a loss lacks are left at their default."""

    shape: tuple[int, ...]
    layout: str
    threads: int
    reduction: str
    upstream: bool
    target: Any
    weight: Any
    option: Any
    ignored: Any
    last: bool
    seed: int

    def __str__(self) -> str:
        return ", ".join(f"{key}={value}" for key, value in self._asdict().items())


def _draw(columns: list[tuple[Any, ...]], more: int, seed: int) -> list[Case]:
    """Each pair of values of two columns at least once, and `more` draws from their product."""
    return [
        Case._make([*row, seed + number])
        for number, row in enumerate(crossed(*columns, more=more, seed=seed))
    ]


# ---- what is near enough --------------------------------------------------------------------------------


def _error(actual: Any, truth: Array, floor: float) -> float:
    """The largest error, relative to each number, but absolute times `floor` below that."""
    actual = np.asarray(actual).astype(np.float64)
    assert actual.shape == truth.shape
    finite = np.isfinite(truth)
    if not finite.all():
        if not np.array_equal(actual[~finite], truth[~finite], equal_nan=True):
            return np.inf
        actual, truth = actual[finite], truth[finite]
    if not np.isfinite(actual).all():
        return np.inf
    return float((np.abs(actual - truth) / np.maximum(np.abs(truth), floor)).max(initial=0.0))


def _loss_error(actual: Any, truth: Array) -> float:
    """A loss of a thousandth of the largest has lost three digits in torch's float64 already."""
    return _error(actual, truth, 1e-3 * np.abs(truth).max(initial=0.0, where=np.isfinite(truth)) or 1.0)


def _gradient_error(actual: Any, truth: Array, floor: float) -> float:
    """An entry is the difference of two shares; the digits that cancel are those of the logits."""
    largest = float(np.abs(truth).max(initial=0.0, where=np.isfinite(truth)))
    return _error(actual, truth, max(2e-2 * largest, floor) or 1.0)


class Result(NamedTuple):
    """How far from the truth a case is, and how far torch is in the input's own dtype (0 for float64)."""

    case: Case
    loss: float
    gradient: float
    torch_loss: float
    torch_gradient: float


def _check(results: list[Result], dtype: DType) -> None:
    key = loss_dtype(dtype).name
    for result in results:
        assert result.loss <= RTOL[key], str(result.case)
        assert dtype in HALVES or result.gradient <= RTOL[key], str(result.case)


def _compare(
    key: str,
    case: Case,
    dtype: DType,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    *,
    axis: int | None = None,
    wide: tuple[Any, ...] | None = None,
    share: float = 0.0,
) -> Result:
    """A loss and its `_and_grad` variant on `case.threads` threads against torch.

    `wide` are torch's arguments, where others; `share` is the least that an entry of the gradient is made of.
    """
    theirs = arguments if wide is None else wide
    shape = theirs[0].shape
    rng = np.random.default_rng(case.seed)
    losses = row_shape(shape) if key in ("cross_entropy", "nll_loss") else shape
    # Eighths, which every dtype holds.
    upstream: Any = (
        rng.integers(-16, 17, losses if case.reduction == "none" else ()) / 8 if case.upstream else None
    )
    given = {"reduction": case.reduction, **options}
    exact = functools.partial(
        loss_and_gradient, key, *theirs, upstream=1.0 if upstream is None else upstream, **given
    )
    loss, gradient = exact()
    ours = given if axis is None else {**given, "axis": axis}
    twin = functools.partial(getattr(crossent, f"{key}_and_grad"), *arguments, grad_output=upstream, **ours)
    crossent.set_num_threads(case.threads)
    plain = getattr(crossent, key)(*arguments, **ours)
    got_loss, got = twin()
    if case.threads > 1 and got.size >= SHARED:
        crossent.set_num_threads(1)
        again_loss, again = twin()
        assert np.asarray(got_loss).tobytes() == np.asarray(again_loss).tobytes(), str(case)
        assert got.tobytes() == again.tobytes(), str(case)
    np.testing.assert_allclose(plain, got_loss, rtol=1e-15 if dtype == FLOAT64 else 1e-7, err_msg=str(case))
    assert np.asarray(plain).dtype == loss_dtype(dtype)
    assert got.dtype == dtype
    got = got if axis is None else np.moveaxis(got, axis, 1)
    floor = share * float(np.abs(1.0 if upstream is None else upstream).max(initial=0.0))
    if dtype in HALVES:
        relative, least = HALF[dtype.name]
        slack = relative * np.abs(gradient) + 2e-6 * np.maximum(np.abs(gradient), floor) + least
        with np.errstate(invalid="ignore"):
            wrong = np.abs(got.astype(np.float64) - gradient) > slack
        assert np.array_equal(np.isnan(got), np.isnan(gradient)), str(case)
        assert not wrong.any(), str(case)
    if dtype == FLOAT64:
        other_loss, other = loss, gradient
    else:
        other_loss, other = exact(dtype=getattr(torch, dtype.name))
    return Result(
        case,
        _loss_error(plain, loss),
        _gradient_error(got, gradient, floor),
        _loss_error(other_loss, loss),
        _gradient_error(other, gradient, floor),
    )


# ---- cross_entropy and nll_loss -------------------------------------------------------------------------

# Narrow and wide rows of every rank, and some of each large enough to be shared out among threads.
SHAPES = (
    (3,), (64,), (2000,), (70, 2), (5, 21), (130, 64), (9, 65), (3, 3000), (2, 5, 9), (3, 100, 4), (2, 21, 3, 5),
    (2, 70, 3, 2), (1030, 130), (45, 3000), (2, 3, 150, 151),
)  # fmt: skip
CLASS_COLUMNS: dict[str, list[tuple[Any, ...]]] = {
    kind: [
        SHAPES,
        tuple(LAYOUTS),
        (1, 2, 3),
        REDUCTIONS,
        (False, True),
        DTYPES if kind == "probabilities" else INTEGERS,
        ("none", "given", "some zero", "in float64"),
        (0.0,) if kind == "nll_loss" else (0.0, 0.1, 1.0),
        ("nothing", "a negative") if kind == "probabilities" else ("nothing", "a negative", "a class"),
        (False, True),
    ]
    for kind in ("indices", "probabilities", "nll_loss")
}
CLASS_CASES = {
    kind: {
        dtype: _draw(columns, 40, 1_000 * number) for number, dtype in enumerate(DTYPES, start=4 * len(kind))
    }
    for kind, columns in CLASS_COLUMNS.items()
}


def _laid_out(x: Array, layout: str) -> Array:
    return LAYOUTS[layout](x) if x.ndim else x


def _class_weight(case: Case, classes: int, dtype: DType, rng: np.random.Generator) -> Array | None:
    if case.weight == "none":
        return None
    w = rng.random(classes) + 0.25
    if case.weight == "some zero":
        w[rng.random(classes) < 0.3] = 0
    return SAME_VALUES.get(case.layout, np.asarray)(w if case.weight == "in float64" else w.astype(dtype))


def _class_case(kind: str, case: Case, dtype: DType) -> Result:
    rng = np.random.default_rng(case.seed)
    axis = min(1, len(case.shape) - 1)
    classes = case.shape[axis]
    x = logits(rng, case.shape, dtype)
    x = crossent.log_softmax(x, axis) if kind == "nll_loss" else x
    rows = row_shape(case.shape)
    ignore_index = -100
    if kind == "probabilities":
        target = probabilities(rng, case.shape, axis, case.target)
        ignore_index = -1 if case.ignored == "a negative" else -100
    else:
        largest = min(classes, int(np.iinfo(case.target).max) + 1)
        target = np.asarray(rng.integers(0, largest, rows))
        if case.ignored != "nothing":
            ignore_index = (
                -5 if case.ignored == "a negative" and case.target.kind == "i" else int(largest // 2)
            )
            target = np.where(rng.random(rows) < 0.4, ignore_index, target)
        target = np.asarray(target.astype(case.target))
    w = _class_weight(case, classes, dtype, rng)
    x, target = _laid_out(x, case.layout), _laid_out(target, case.layout)
    options: dict[str, Any] = {"ignore_index": ignore_index}
    if kind != "nll_loss":
        options["label_smoothing"] = case.option
    key = "nll_loss" if kind == "nll_loss" else "cross_entropy"
    share = 1 / (classes * max(1, np.prod(rows, dtype=int) if case.reduction == "mean" else 1))
    compare = functools.partial(_compare, key, case, dtype, options=options, share=share)
    if not case.last or x.ndim == 1:
        return compare((x, target, w))
    moved = _laid_out(np.moveaxis(x, 1, -1), case.layout)
    x = np.moveaxis(moved, -1, 1)  # the layout may have repeated entries
    if kind != "probabilities":
        return compare((moved, target, w), axis=-1, wide=(x, target, w))
    soft = _laid_out(np.moveaxis(target, 1, -1), case.layout)
    wide = (x, np.moveaxis(soft, -1, 1), w)
    return compare((moved, soft, w), axis=-1, wide=wide)


@functools.cache
def _class_results(kind: str, dtype: DType) -> list[Result]:
    return [_class_case(kind, case, dtype) for case in CLASS_CASES[kind][dtype]]


@every_dtype
@pytest.mark.parametrize("kind", CLASS_COLUMNS)
def test_class_losses_and_gradients_are_torchs(kind: str, dtype: DType) -> None:
    _check(_class_results(kind, dtype), dtype)


# How many of a hundred answers are as near to the truth as torch's in the same dtype, or nearer.
NEARER = 90


def _assert_nearer_than_torch(results: list[Result], dtype: DType) -> None:
    """Ours are as near as torch's or nearer in nearly all cases, and in the worst one."""
    for errors in (
        [(r.loss, r.torch_loss) for r in results],
        [(r.gradient, r.torch_gradient) for r in results],
    ):
        nearer = sum(ours <= theirs for ours, theirs in errors)
        assert 100 * nearer >= NEARER * len(errors)
        ours, theirs = (max(column) for column in zip(*errors, strict=True))
        assert ours <= 1.1 * theirs
    beyond = sum(r.torch_loss > RTOL["float32"] for r in results)
    if dtype in HALVES:  # torch's losses are rounded to 16 bits
        assert 2 * beyond > len(results)


@short_dtype
@pytest.mark.parametrize("kind", CLASS_COLUMNS)
def test_class_losses_and_gradients_are_nearer_to_the_truth_than_torchs_own(kind: str, dtype: DType) -> None:
    _assert_nearer_than_torch(_class_results(kind, dtype), dtype)


@pytest.mark.parametrize("kind", ["indices", "probabilities"])
def test_torchs_float32_loss_strays_beyond_two_millionths_where_ours_does_not(kind: str) -> None:
    strayed = [result for result in _class_results(kind, FLOAT32) if result.torch_loss > RTOL["float32"]]
    assert strayed
    assert max(result.loss for result in strayed) < 5e-7


# ---- losses of single elements --------------------------------------------------------------------------

ELEMENT_SHAPES = ((), (1,), (7,), (3, 5), (4, 1030), (3, 2, 5, 4), (300, 450))
BROADCASTS = ("none", "number", "last", "column", "whole")
ELEMENT_COLUMNS: dict[str, list[tuple[Any, ...]]] = {
    key: [
        ELEMENT_SHAPES,
        tuple(SAME_VALUES),
        (1, 2, 3),
        (*REDUCTIONS, "batchmean") if key == "kl_div" else REDUCTIONS,
        (False, True),
        targets,
        weights,
        options,
        (None,),
        (False,),
    ]
    for key, targets, weights, options in (
        ("binary_cross_entropy", ("same", "hard", "bool", "int8"), BROADCASTS, ("none",)),
        ("binary_cross_entropy_with_logits", ("same", "hard", "bool", "int8"), BROADCASTS, BROADCASTS),
        ("kl_div", ("same", "some zero"), ("none",), (False, True)),
        (
            "gaussian_nll_loss",
            ("same", "hard"),
            ("number", "missing", "column", "whole", "below eps"),
            tuple(itertools.product((False, True), (1e-6, 0.25))),
        ),
        (
            "poisson_nll_loss",
            ("same", "some zero"),
            ("none",),
            tuple(itertools.product((False, True), (False, True), (1e-8, 0.5))),
        ),
    )
}
ELEMENT_CASES = {
    key: {dtype: _draw(columns, 90, 100_000 + 1_000 * i) for i, dtype in enumerate(DTYPES)}
    for key, columns in ELEMENT_COLUMNS.items()
}
WITH_GRADIENT = ("binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div")


def _factor(kind: str, shape: tuple[int, ...], dtype: DType, rng: np.random.Generator) -> Array | None:
    if kind == "none":
        return None
    shapes = {"last": shape[-1:], "column": (*shape[:-1], 1)[: len(shape)], "missing": shape[:-1]}
    full = rng.random(shapes.get(kind, () if kind == "number" else shape))
    return np.asarray((2 * full + 0.25).astype(dtype))


def _element_case(key: str, case: Case, dtype: DType) -> Result:
    rng = np.random.default_rng(case.seed)
    shape = case.shape
    lay: Callable[[Array], Array] = SAME_VALUES[case.layout] if shape else np.asarray
    options: dict[str, Any] = {}
    x = logits(rng, shape, dtype) if shape else np.asarray(logits(rng, (1,), dtype)[0])
    target: Array = rng.random(shape)
    if key.startswith("binary"):
        target = target if case.target == "same" else target < 0.4
        target = np.asarray(target, {"bool": bool, "int8": np.int8}.get(case.target, dtype))
        if key == "binary_cross_entropy":
            x = np.asarray((rng.random(shape) * 0.98 + 0.01).astype(dtype))
        else:
            options["pos_weight"] = _factor(case.option, shape, dtype, rng)
        options["weight"] = _factor(case.weight, shape, dtype, rng)
    elif key == "kl_div":
        x = np.asarray(-np.abs(x))
        options["log_target"] = case.option
        target = np.where(rng.random(shape) < 0.3, 0.0, target) if case.target == "some zero" else target
        target = np.asarray((np.log(target + 1e-3) if case.option else target).astype(dtype))
    elif key == "gaussian_nll_loss":
        target = np.asarray(
            target.astype(dtype) if case.target == "same" else (9 * target).round().astype(dtype)
        )
        options["full"], options["eps"] = case.option
        var = _factor(case.weight, shape, dtype, rng)
        var = np.zeros_like(var) if case.weight == "below eps" else var
        options["var"] = float(var) if case.weight == "number" else var
    else:
        options["log_input"], options["full"], options["eps"] = case.option
        x = np.asarray(x if options["log_input"] else np.abs(x))
        target = (
            np.where(rng.random(shape) < 0.3, 0.0, 9 * target) if case.target == "some zero" else 9 * target
        )
        target = np.asarray(target.astype(dtype))
    return _compare_elements(key, case, dtype, (lay(x), lay(target)), options)


def _compare_elements(
    key: str, case: Case, dtype: DType, arguments: tuple[Array, Array], options: dict[str, Any]
) -> Result:
    options = {option: value for option, value in options.items() if value is not None}
    x, target = arguments
    exact = target.astype(np.float64)  # torch wants the input's dtype
    if key in WITH_GRADIENT:
        return _compare(key, case, dtype, arguments, options, wide=(x, exact))
    options["reduction"] = case.reduction
    loss, _ = loss_and_gradient(key, x, exact, **options)
    crossent.set_num_threads(case.threads)
    got = getattr(crossent, key)(*arguments, **options)
    crossent.set_num_threads(1)
    assert np.asarray(getattr(crossent, key)(*arguments, **options)).tobytes() == np.asarray(got).tobytes()
    assert got.dtype == loss_dtype(dtype)
    other = loss
    if dtype != FLOAT64:
        other, _ = loss_and_gradient(key, x, exact, dtype=getattr(torch, dtype.name), **options)
    return Result(case, _loss_error(got, loss), 0.0, _loss_error(other, loss), 0.0)


@functools.cache
def _element_results(key: str, dtype: DType) -> list[Result]:
    return [_element_case(key, case, dtype) for case in ELEMENT_CASES[key][dtype]]


@every_dtype
@pytest.mark.parametrize("key", ELEMENT_COLUMNS)
def test_losses_and_gradients_of_single_elements_are_torchs(key: str, dtype: DType) -> None:
    _check(_element_results(key, dtype), dtype)


@short_dtype
@pytest.mark.parametrize("key", ELEMENT_COLUMNS)
def test_losses_and_gradients_of_single_elements_are_nearer_to_the_truth_than_torchs_own(
    key: str, dtype: DType
) -> None:
    _assert_nearer_than_torch(_element_results(key, dtype), dtype)


@pytest.mark.parametrize("key", ["binary_cross_entropy_with_logits", "kl_div", "poisson_nll_loss"])
def test_torchs_float32_loss_of_single_elements_strays_where_ours_does_not(key: str) -> None:
    strayed = [result for result in _element_results(key, FLOAT32) if result.torch_loss > RTOL["float32"]]
    assert strayed
    assert max(result.loss for result in strayed) < 5e-7


# ---- slopes: every gradient against differences of its own loss, in float64 -----------------------------


def _slopes(loss: Callable[[Array], Any], x: Array, step: float = 1e-5) -> Array:
    """Central differences of a number by each element of `x`."""
    slopes = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[index] += step
        down[index] -= step
        slopes[index] = (loss(up) - loss(down)) / (up[index] - down[index])
    return slopes


def _assert_is_the_slope(
    key: str, x: Array, losses: tuple[int, ...], rng: np.random.Generator, *arguments: Any, **options: Any
) -> None:
    """For each reduction, with a `grad_output` for each of the losses where they are not reduced."""
    for reduction in ("none", *((*REDUCTIONS[1:], "batchmean") if key == "kl_div" else REDUCTIONS[1:])):
        upstream = np.asarray(rng.standard_normal(losses if reduction == "none" else ()))
        given = {"reduction": reduction, **options}
        total = functools.partial(getattr(crossent, key), **given)
        expected = _slopes(lambda y: (upstream * total(y, *arguments)).sum(), x)  # noqa: B023
        got = getattr(crossent, f"{key}_and_grad")(x, *arguments, grad_output=upstream, **given)[1]
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-9 * max(1.0, np.abs(expected).max()))


CLASS_SLOPES = tuple(
    itertools.product(
        ((6,), (4, 5), (3, 70), (2, 3, 4), (2, 3, 2, 2)),
        (None, -1),
        ("indices", "probabilities", "nll_loss"),
        (False, True),
        (0.0, 0.3, 1.0),
        ("nothing", "ignore_index", "where"),
    )
)


@pytest.mark.parametrize("part", range(6))
def test_class_gradients_are_the_slopes_of_their_losses(part: int) -> None:
    rng = np.random.default_rng(part)
    for shape, axis, kind, weighted, smoothing, left_out in rng.permutation(
        np.array(CLASS_SLOPES, dtype=object)
    )[:40]:
        at = min(1, len(shape) - 1) if axis is None else axis % len(shape)
        classes, rows = shape[at], shape[:at] + shape[at + 1 :]
        x = rng.standard_normal(shape) * 2
        options: dict[str, Any] = {"axis": axis, "weight": rng.random(classes) + 0.1 if weighted else None}
        if kind == "probabilities":
            target = probabilities(rng, shape, at, FLOAT64)
        else:
            target = np.asarray(rng.integers(0, classes, rows))
        if kind != "nll_loss":
            options["label_smoothing"] = smoothing
        counted = np.asarray(rng.random(rows) < 0.6)
        counted.reshape(-1)[0] = True
        if left_out == "where":
            options["where"] = counted
        elif left_out == "ignore_index" and kind != "probabilities":
            options["ignore_index"] = -7
            target = np.asarray(np.where(counted, target, -7))
        if kind == "nll_loss":
            x = crossent.log_softmax(x, at)
        key = "nll_loss" if kind == "nll_loss" else "cross_entropy"
        _assert_is_the_slope(key, x, rows, rng, target, **options)


@pytest.mark.parametrize("part", range(20))
def test_gradients_of_single_elements_are_the_slopes_of_their_losses(part: int) -> None:
    rng = np.random.default_rng(part)
    shape = ((), (5,), (3, 4), (2, 3, 2))[part % 4]
    x, target = np.asarray(rng.standard_normal(shape) * 2), np.asarray(rng.random(shape))
    weight = _factor(BROADCASTS[part % 5], shape, FLOAT64, rng)
    p = np.asarray(0.05 + 0.9 * rng.random(shape))
    clamp = (-100.0, None)[part % 2]
    _assert_is_the_slope("binary_cross_entropy", p, shape, rng, target, weight, clamp=clamp)
    pos_weight = _factor(BROADCASTS[part % 3], shape, FLOAT64, rng)
    _assert_is_the_slope(
        "binary_cross_entropy_with_logits", x, shape, rng, target, weight, pos_weight=pos_weight
    )
    _assert_is_the_slope("kl_div", x, shape, rng, target)
    _assert_is_the_slope("kl_div", x, shape, rng, -target, log_target=True)
