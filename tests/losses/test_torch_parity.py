"""Live torch is the oracle: options, dtypes, shapes and layouts, each crossed with each other, give torch's number.

torch runs on the input widened to float64, so that its own rounding (16-bit sums of half precision, float32
cancellation on confident rows) does not blur the comparison. What crossent means to do differently from torch
is in test_specials.py and test_errors.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

import crossent
from arrays import (
    DTYPES,
    HALVES,
    LAYOUTS,
    WIDTHS,
    Array,
    DType,
    logits,
    loss_dtype,
    name,
    probabilities,
    row_shape,
)
from crossing import crossed
from optional import F, torch
from oracle import tensor
from ulp import ulp_distance

pytest.importorskip("torch")

# One class only, or no row counted, is warned of; the crossing meets both.
pytestmark = pytest.mark.filterwarnings("ignore::crossent.LikelyMistakeWarning")

# torch's float64 rounding, and ours; a loss may lie near 0, where torch has lost its relative accuracy.
RTOL = {"float64": 1e-11, "float32": 5e-7}
ATOL = {"float64": 1e-12, "float32": 1e-12}


WEIGHTS = ("none", "given", "some_zero")
IGNORES = ("absent", "negative", "a_class")
REDUCTIONS = ("none", "mean", "sum")


class Case(NamedTuple):
    target: str
    weight: str
    ignore: str
    smoothing: float
    reduction: str
    dtype: DType
    rank: int
    classes: int
    layout: str

    def __str__(self) -> str:
        return "-".join(map(_id, self))


def _id(value: Any) -> str:
    return name(value) if isinstance(value, np.dtype) else str(value)


def _cases(
    target: str, weights: tuple[str, ...], ignores: tuple[str, ...], smoothings: tuple[float, ...], seed: int
) -> list[Case]:
    rows = crossed(
        weights,
        ignores,
        smoothings,
        REDUCTIONS,
        DTYPES,
        (1, 2, 3, 4),
        WIDTHS,
        list(LAYOUTS),
        more=150,
        seed=seed,
    )
    return [Case(target, *row) for row in rows]


def _shape(rank: int, classes: int) -> tuple[int, ...]:
    rows = 3 if classes >= 1000 else 7
    return ((classes,), (rows, classes), (2, classes, rows), (2, classes, 2, 3))[rank - 1]


def _weight(kind: str, classes: int, dtype: DType, rng: np.random.Generator) -> Array | None:
    if kind == "none":
        return None
    w = rng.random(classes) + 0.25
    if kind == "some_zero":
        w[rng.random(classes) < 0.3] = 0
        w[0] = 1
    return w.astype(dtype)


def _assert_loss(actual: Any, expected: Any, dtype: DType) -> None:
    expected = expected.numpy()
    assert np.asarray(actual).dtype == loss_dtype(dtype)
    assert np.shape(actual) == expected.shape
    key = loss_dtype(dtype).name
    np.testing.assert_allclose(
        np.asarray(actual, np.float64), expected, rtol=RTOL[key], atol=ATOL[key] * max(1, expected.size)
    )


# ---- losses ---------------------------------------------------------------------------------------------

INDEX_CASES = _cases("indices", WEIGHTS, IGNORES, (0.0, 0.1, 1.0), seed=10)
PROBABILITY_CASES = _cases("probabilities", WEIGHTS, ("absent", "negative"), (0.0, 0.1, 1.0), seed=11)
NLL_CASES = _cases("indices", WEIGHTS, IGNORES, (0.0,), seed=12)


def _indices(case: Case, rows: tuple[int, ...], rng: np.random.Generator) -> tuple[Array, int]:
    target = rng.integers(0, case.classes, rows)
    if case.ignore == "absent":
        return target, -100
    ignore_index = -5 if case.ignore == "negative" else case.classes // 2
    target = np.where(rng.random(rows) < 0.4, ignore_index, target)
    return np.asarray(target), ignore_index


@pytest.mark.parametrize("case", INDEX_CASES, ids=str)
def test_cross_entropy_of_class_indices_is_torchs(case: Case) -> None:
    rng = np.random.default_rng(case.classes)
    shape = _shape(case.rank, case.classes)
    x = LAYOUTS[case.layout](logits(rng, shape, case.dtype))
    target, ignore_index = _indices(case, row_shape(shape), rng)
    w = _weight(case.weight, case.classes, case.dtype, rng)
    args = {"ignore_index": ignore_index, "reduction": case.reduction, "label_smoothing": case.smoothing}
    expected = F.cross_entropy(tensor(x), torch.tensor(target), tensor(w), **args)
    _assert_loss(crossent.cross_entropy(x, target, w, **args), expected, case.dtype)


@pytest.mark.parametrize("case", PROBABILITY_CASES, ids=str)
def test_cross_entropy_of_probabilities_is_torchs(case: Case) -> None:
    rng = np.random.default_rng(case.classes)
    shape = _shape(case.rank, case.classes)
    axis = min(1, len(shape) - 1)
    x = LAYOUTS[case.layout](logits(rng, shape, case.dtype))
    p = LAYOUTS[case.layout](probabilities(rng, shape, axis, case.dtype))
    w = _weight(case.weight, case.classes, case.dtype, rng)
    args = {
        "ignore_index": -100 if case.ignore == "absent" else -1,
        "reduction": case.reduction,
        "label_smoothing": case.smoothing,
    }
    expected = F.cross_entropy(tensor(x), tensor(p), tensor(w), **args)
    _assert_loss(crossent.cross_entropy(x, p, w, **args), expected, case.dtype)


@pytest.mark.parametrize("case", NLL_CASES, ids=str)
def test_nll_loss_is_torchs(case: Case) -> None:
    rng = np.random.default_rng(case.classes)
    shape = _shape(case.rank, case.classes)
    x = LAYOUTS[case.layout](logits(rng, shape, case.dtype))
    target, ignore_index = _indices(case, row_shape(shape), rng)
    w = _weight(case.weight, case.classes, case.dtype, rng)
    args = {"ignore_index": ignore_index, "reduction": case.reduction}
    expected = F.nll_loss(tensor(x), torch.tensor(target), tensor(w), **args)
    _assert_loss(crossent.nll_loss(x, target, w, **args), expected, case.dtype)


@pytest.mark.parametrize(
    ("logits_dtype", "target_dtype", "weight_dtype"), crossed(DTYPES, DTYPES, DTYPES, more=16), ids=name
)
def test_weights_and_probabilities_may_have_any_floating_dtype(
    logits_dtype: DType, target_dtype: DType, weight_dtype: DType
) -> None:
    rng = np.random.default_rng(0)
    x = logits(rng, (6, 21), logits_dtype)
    p = probabilities(rng, (6, 21), 1, target_dtype)
    w = _weight("given", 21, weight_dtype, rng)
    expected = F.cross_entropy(tensor(x), tensor(p), tensor(w))
    _assert_loss(crossent.cross_entropy(x, p, w), expected, logits_dtype)
    t = np.arange(6)
    expected = F.cross_entropy(tensor(x), torch.tensor(t), tensor(w), label_smoothing=0.1)
    _assert_loss(crossent.cross_entropy(x, t, w, label_smoothing=0.1), expected, logits_dtype)
    expected = F.nll_loss(tensor(x), torch.tensor(t), tensor(w))
    _assert_loss(crossent.nll_loss(x, t, w), expected, logits_dtype)


@pytest.mark.parametrize(
    ("dtype", "layout", "reduction", "smoothing"),
    crossed(DTYPES, list(LAYOUTS), REDUCTIONS, (0.0, 0.1), more=30),
    ids=_id,
)
def test_a_masked_class_costs_what_it_costs_in_torch(
    dtype: DType, layout: str, reduction: str, smoothing: float
) -> None:
    rng = np.random.default_rng(7)
    x = logits(rng, (8, 1030), dtype)
    x[:, 5::7] = -np.inf
    x = LAYOUTS[layout](x)
    t = np.array([0, 1, 2, 3, 4, 6, 7, 12])  # 12 is masked
    args = {"reduction": reduction, "label_smoothing": smoothing}
    expected = F.cross_entropy(tensor(x), torch.tensor(t), **args)
    _assert_loss(crossent.cross_entropy(x, t, **args), expected, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_random_nonfinite_logits_give_torchs_pattern(dtype: DType) -> None:
    rng = np.random.default_rng(8)
    for classes in (2, 3, 10, 65, 1030):
        x = logits(rng, (200, classes), dtype)
        for row in x[:150]:
            count = rng.integers(1, 4)
            row[rng.integers(0, classes, count)] = rng.choice([np.nan, np.inf, -np.inf, -np.inf], count)
        t = rng.integers(0, classes, 200)
        expected = F.cross_entropy(tensor(x), torch.tensor(t), reduction="none")
        _assert_loss(crossent.cross_entropy(x, t, reduction="none"), expected, dtype)
        strided = np.asfortranarray(x)
        _assert_loss(crossent.cross_entropy(strided, t, reduction="none"), expected, dtype)


# ---- float32 and float64 torch itself, in its own precision ---------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_torch_in_the_same_precision_agrees_to_its_own_tolerance(dtype: type) -> None:
    rng = np.random.default_rng(9)
    rtol, atol = (1.3e-6, 1e-5) if dtype is np.float32 else (1e-7, 1e-7)  # torch.testing.assert_close
    for classes in WIDTHS[1:]:
        x = logits(rng, (16, classes), np.dtype(dtype))
        t = rng.integers(0, classes, 16)
        for reduction in REDUCTIONS:
            ours = crossent.cross_entropy(x, t, reduction=reduction)
            theirs = F.cross_entropy(torch.tensor(x), torch.tensor(t), reduction=reduction).numpy()
            np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)
            assert ours.dtype == theirs.dtype
            assert np.shape(ours) == theirs.shape


# ---- rows -----------------------------------------------------------------------------------------------


def _row_cases() -> list[Any]:
    """(dtype, shape, axis, layout): every width, dtype and layout at every axis of arrays of one to four axes."""
    places = [(rank, axis) for rank in (1, 2, 3, 4) for axis in range(-rank, rank)]
    cases = []
    for dtype, width, (rank, axis), layout in crossed(
        DTYPES, WIDTHS, places, list(LAYOUTS), more=80, seed=13
    ):
        shape = [3, 2, 5, 2][:rank]
        shape[axis] = width
        key = f"{name(dtype)}-{'x'.join(map(str, shape))}-{axis}-{layout}"
        cases.append(pytest.param(dtype, tuple(shape), axis, layout, id=key))
    return cases


def _assert_rows(actual: Any, expected: Any, dtype: DType) -> None:
    expected = expected.numpy()
    assert np.asarray(actual).dtype == dtype
    assert np.shape(actual) == expected.shape
    if dtype in HALVES:
        with np.errstate(over="ignore"):  # a probability may be smaller, a sum larger, than the type reaches
            assert ulp_distance(np.asarray(actual), expected.astype(dtype)).max() <= 1
    else:
        key = dtype.name
        np.testing.assert_allclose(actual, expected, rtol=RTOL[key], atol=ATOL[key])


def _assert_sums(actual: Any, expected: Any, dtype: DType) -> None:
    """As `_assert_rows`, but near 0, where the largest logit and the logarithm cancel, absolutely."""
    if dtype in HALVES:
        _assert_rows(actual, expected, dtype)
        return
    assert np.asarray(actual).dtype == dtype
    assert np.shape(actual) == tuple(expected.shape)
    one_ulp = float(np.spacing(dtype.type(16)))
    np.testing.assert_allclose(actual, expected.numpy(), rtol=RTOL[dtype.name], atol=one_ulp)


@pytest.mark.parametrize(("dtype", "shape", "axis", "layout"), _row_cases())
def test_rows_over_any_axis_are_torchs(dtype: DType, shape: tuple[int, ...], axis: int, layout: str) -> None:
    rng = np.random.default_rng(shape)
    x = LAYOUTS[layout](logits(rng, shape, dtype))
    wide = tensor(x)
    _assert_rows(crossent.log_softmax(x, axis), wide.log_softmax(axis), dtype)
    _assert_rows(crossent.softmax(x, axis), wide.softmax(axis), dtype)
    _assert_rows(crossent.log_sigmoid(x), F.logsigmoid(wide), dtype)
    for keepdims in (False, True):
        expected = torch.logsumexp(wide, axis, keepdim=keepdims)
        _assert_sums(crossent.logsumexp(x, axis, keepdims=keepdims), expected, dtype)


AXES: list[Any] = [
    None, (), 0, -1, 1, (0,), (1, 2), (2, 1), (0, 2), (-1, 0), (0, 1, 2), (2, 0, 1), (3,), (1, 3), (0, 1, 2, 3),
]  # fmt: skip


@pytest.mark.parametrize(
    ("dtype", "layout", "axes"), crossed(DTYPES, list(LAYOUTS), AXES, more=30, seed=14), ids=_id
)
def test_logsumexp_over_any_axes_is_torchs(dtype: DType, layout: str, axes: Any) -> None:
    x = LAYOUTS[layout](logits(np.random.default_rng(1), (3, 4, 2, 17), dtype))
    if axes == ():
        # Nothing is summed (NumPy's meaning; torch's empty dim sums over everything).
        np.testing.assert_array_equal(crossent.logsumexp(x, axes), x)
        return
    dims = tuple(range(4)) if axes is None else axes
    for keepdims in (False, True):
        expected = torch.logsumexp(tensor(x), dims, keepdim=keepdims)
        _assert_sums(crossent.logsumexp(x, axes, keepdims=keepdims), expected, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_random_nonfinite_rows_give_torchs_pattern(dtype: DType) -> None:
    rng = np.random.default_rng(14)
    for classes in (1, 2, 3, 10, 65, 1030):
        x = logits(rng, (100, classes), dtype)
        for row in x[:80]:
            count = rng.integers(1, 4)
            row[rng.integers(0, classes, count)] = rng.choice([np.nan, np.inf, -np.inf, -np.inf], count)
        x[80] = -np.inf
        for view, axis in ((x, 1), (np.asfortranarray(x), 1), (x.T, 0)):
            wide = tensor(view)
            _assert_rows(crossent.log_softmax(view, axis), wide.log_softmax(axis), dtype)
            _assert_rows(crossent.softmax(view, axis), wide.softmax(axis), dtype)
            _assert_sums(crossent.logsumexp(view, axis), torch.logsumexp(wide, axis), dtype)
            _assert_rows(crossent.log_sigmoid(view), F.logsigmoid(wide), dtype)


@pytest.mark.parametrize("function", ["log_softmax", "softmax", "logsumexp"])
def test_axis_defaults(function: str) -> None:
    x = np.random.default_rng(2).standard_normal((4, 5))
    wide = torch.tensor(x)
    theirs = torch.logsumexp(wide, (0, 1)) if function == "logsumexp" else getattr(wide, function)(-1)
    np.testing.assert_allclose(getattr(crossent, function)(x), theirs.numpy(), rtol=1e-12)
