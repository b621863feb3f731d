"""Torch's semantics, row by row: printed values, errors, what only one of the two accepts, warnings, precision.

Live torch stands beside each row, so that a row that torch has changed is seen. Infinities and empty shapes are in
test_specials.py, refused arguments of every other kind in test_errors.py.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import crossent
import reference
from arrays import BFLOAT16, INTEGERS, Array, name
from optional import F, torch
from oracle import loss_and_gradient, tensor

INF, NAN = np.inf, np.nan

X = np.array([[1.0, 2.0, 3.0], [0.0, -1.0, 4.0]])
T = np.array([2, 0])
W = np.array([1.0, 2.0, 5.0])
P = np.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
HALVES = np.full((2, 3), 0.5)
LOG_P = crossent.log_softmax(X)


def _changed(x: Array, place: tuple[int, ...], value: float) -> Array:
    x = x.copy()
    x[place] = value
    return x


# ---- values, to the digits printed ----------------------------------------------------------------------


class Value(NamedTuple):
    loss: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    printed: Any
    theirs: Any = "the same"


def _value(loss: str, *arguments: Any, printed: Any, theirs: Any = "the same", **options: Any) -> Value:
    return Value(loss, arguments, options, printed, theirs)


CE, NLL = "cross_entropy", "nll_loss"
BCE, LOGITS = "binary_cross_entropy", "binary_cross_entropy_with_logits"
GAUSSIAN, POISSON, KL = "gaussian_nll_loss", "poisson_nll_loss", "kl_div"

VALUES: dict[str, Value] = {
    "indices: the mean divides by the weights": _value(CE, X, T, W, printed="1.0105"),
    "indices: and so does nll_loss": _value(NLL, LOG_P, T, W, printed="1.0105"),
    "indices: without weights by the rows": _value(CE, X, T, printed="2.2162"),
    "indices: by the rows that are counted": _value(CE, X, [2, -100], printed="0.4076"),
    "indices: an ignored row is 0": _value(CE, X, [2, -100], reduction="none", printed=["0.4076", "0.0000"]),
    "smoothing: each row": _value(
        CE, X, T, W, label_smoothing=0.1, reduction="none", printed=["2.0763", "4.0955"]
    ),
    "smoothing: the sum": _value(CE, X, T, W, label_smoothing=0.1, reduction="sum", printed="6.1718"),
    "smoothing: the mean divides by the targets' weights": _value(
        CE, X, T, W, label_smoothing=0.1, printed="1.0286"
    ),
    "smoothing: an ignored row is 0 in both terms": _value(
        CE, X, T, W, label_smoothing=0.1, ignore_index=0, printed="0.4153"
    ),
    "smoothing of 1 is even": _value(CE, X, T, label_smoothing=1.0, printed="2.2162"),
    "probabilities: the mean divides by the rows": _value(CE, X, P, printed="2.5662"),
    "probabilities: whatever the weights": _value(CE, X, P, W, printed="3.1849"),
    "probabilities: smoothed": _value(CE, X, P, W, label_smoothing=0.1, printed="3.2241"),
    "probabilities: not normalised": _value(CE, X, 3 * P, printed="7.6985"),
    "probabilities: nor checked for their sign": _value(CE, X, -P, printed="-2.5662"),
    "binary: logarithms end at -100": _value(
        BCE, np.array([0.0, 1.0]), np.array([1.0, 0.0]), reduction="none", printed=["100.0000", "100.0000"]
    ),
    "binary: weights do not enter the divisor": _value(BCE, HALVES, HALVES, 3 * np.ones(3), printed="2.0794"),
    "binary: 1e-60 where 1 is right": _value(BCE, np.array([1e-60]), np.array([1.0]), printed="100.0"),
    "logits: a target of 2 is not checked": _value(LOGITS, np.array([0.5]), np.array([2.0]), printed="-0.0259"),
    "logits: pos_weight": _value(LOGITS, X, P, pos_weight=W, reduction="sum", printed="9.3486"),
    "gaussian: variance 0": _value(GAUSSIAN, np.ones(1), np.zeros(1), np.zeros(1), printed="499993.09"),
    "gaussian: full adds a constant": _value(
        GAUSSIAN, np.ones(1), np.zeros(1), np.ones(1), full=True, printed="1.4189"
    ),
    "poisson: Stirling's term from above 1 only": _value(
        POISSON, np.zeros(3), np.array([0.5, 1.0, 2.0]), full=True, reduction="none",
        printed=["1.0000", "1.0000", "1.6518"],
    ),
    "poisson: a rate": _value(
        POISSON, np.array([0.0, 2.0]), np.array([0.0, 3.0]), log_input=False, reduction="none",
        printed=["0.0000", "-0.0794"],
    ),
    "divergence: of a probability of 0": _value(
        KL, LOG_P[:1], np.array([[0.0, 0.5, 0.5]]), reduction="none", printed=[["0.0000", "0.3572", "-0.1428"]]
    ),
    "divergence: batchmean divides by the rows": _value(KL, LOG_P, P, reduction="batchmean", printed="2.0513"),
    "divergence: mean divides by the elements": _value(KL, LOG_P, P, printed="0.6838"),
    "divergence: of logarithms": _value(KL, LOG_P, np.log(HALVES), log_target=True, reduction="sum", printed="4.5691"),
    "divergence: a negative target": _value(KL, np.zeros(1), np.array([-0.5]), reduction="sum", printed="nan"),
    # What torch gives is stated where it is another thing.
    "divergence: nothing at -inf": _value(
        KL, np.array([-INF]), np.zeros(1), reduction="sum", printed="0.0000", theirs="nan"
    ),
    "divergence: nothing, as a logarithm": _value(
        KL, np.zeros(1), np.array([-INF]), reduction="sum", log_target=True, printed="0.0000", theirs="nan"
    ),
    "logits: -inf where 0 is right": _value(
        LOGITS, np.array([-INF]), np.zeros(1), printed="0.0000", theirs="nan"
    ),
    "logits: inf where 1 is right": _value(LOGITS, np.array([INF]), np.ones(1), printed="0.0000", theirs="nan"),
    "logits: inf where 0 is right": _value(LOGITS, np.array([INF]), np.zeros(1), printed="inf"),
    "logits: pos_weight 0 at -inf": _value(
        LOGITS, np.array([-INF]), np.ones(1), pos_weight=np.zeros(1), printed="0.0000", theirs="nan"
    ),
    "probabilities: 0 at a logit of -inf": _value(
        CE, np.array([[-INF, 0.0, 1.0]]), np.array([[0.0, 0.5, 0.5]]), printed="0.8133", theirs="nan"
    ),
    "indices: weight 0 at a logit of -inf": _value(
        CE, np.array([[-INF, 0.0, 1.0]]), [0], np.array([0.0, 1.0, 1.0]), reduction="sum", printed="0.0000",
        theirs="nan",
    ),
    "one class, as probabilities": _value(CE, X[:, :1], P[:, :1], printed="0.0000", theirs="-0.0000"),
    "one class, as indices": _value(CE, X[:, :1], [0, 0], printed="0.0000"),
    "no rows of probabilities": _value(CE, X[:0], P[:0], reduction="sum", printed="0.0000", theirs="-0.0000"),
}  # fmt: skip


def _printed(value: Any, like: Any) -> Any:
    """`value` with as many decimals as the string `like`, entry by entry."""
    if isinstance(like, list):
        assert len(value) == len(like)
        return [_printed(v, s) for v, s in zip(value, like, strict=True)]
    return f"{float(value):.{len(like.partition('.')[2])}f}"


@pytest.mark.filterwarnings("ignore::crossent.LikelyMistakeWarning")
@pytest.mark.filterwarnings("ignore:reduction:UserWarning")
@pytest.mark.parametrize("key", VALUES)
def test_values_are_those_printed(key: str) -> None:
    row = VALUES[key]
    loss = getattr(crossent, row.loss)(*row.arguments, **row.options)
    assert _printed(loss, row.printed) == row.printed
    theirs, _ = loss_and_gradient(row.loss, *row.arguments, **row.options)
    assert _printed(theirs, row.printed) == (row.printed if row.theirs == "the same" else row.theirs)


def test_a_divergence_of_the_mean_is_not_warned_of() -> None:
    with pytest.warns(UserWarning, match="batchmean"):
        F.kl_div(tensor(LOG_P), tensor(P))
    with np.errstate(all="raise"):
        crossent.kl_div(LOG_P, P)


def test_a_probability_of_0_at_a_logit_of_minus_infinity_has_torchs_finite_gradient() -> None:
    x, p = np.array([[-INF, 0.0, 1.0]]), np.array([[0.0, 0.5, 0.5]])
    theirs, expected = loss_and_gradient(CE, x, p)
    loss, gradient = crossent.cross_entropy_and_grad(x, p)
    assert np.isnan(theirs)
    assert np.isfinite(loss)
    np.testing.assert_allclose(gradient, expected, rtol=1e-15)
    assert _printed(gradient[0], ["0.0000", "-0.2311", "0.2311"]) == ["0.0000", "-0.2311", "0.2311"]


def test_the_gradient_of_a_masked_target_is_finite() -> None:
    for width in (3, 70):
        x = np.full((1, width), -INF)
        x[0, :3] = [-INF, 0.0, 1.0]
        gradient = crossent.cross_entropy_and_grad(x, [0])[1]
        assert _printed(gradient[0, :3], ["-1.000", "0.269", "0.731"]) == ["-1.000", "0.269", "0.731"]


# ---- errors: both refuse, each in its own words ---------------------------------------------------------


class Refused(NamedTuple):
    loss: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    torch_error: type[Exception]
    torch_text: str
    error: type[Exception]
    texts: tuple[str, ...]


def _refused(
    loss: str,
    *arguments: Any,
    theirs: tuple[type[Exception], str],
    ours: tuple[Any, ...],
    **options: Any,
) -> Refused:
    return Refused(loss, arguments, options, *theirs, ours[0], ours[1:])


def _out_of_range(x: Array, target: Any, value: int, place: str, **options: Any) -> Refused:
    return _refused(
        CE,
        x,
        np.asarray(target),
        theirs=(IndexError, f"Target {value} is out of bounds"),
        ours=(
            IndexError,
            f"Target {value} is out of bounds",
            f"target[{place}] = {value}",
            "3 classes",
            f"ignore_index = {options.get('ignore_index', -100)}",
        ),
        **options,
    )


X3, X4 = np.zeros((2, 3, 4)), np.zeros((2, 3, 4, 5))
DTYPE_OF_TARGET = "expected target dtype to be Long or Byte"
FIT = "target does not fit the input"

REFUSED: dict[str, Refused] = {
    "a target out of range": _out_of_range(X, [3, 0], 3, "0"),
    "the first one is named": _out_of_range(np.zeros((3, 3)), [5, 7, -100], 5, "0"),
    "a negative one": _out_of_range(X, [0, -1], -1, "1"),
    "for a single row": _out_of_range(X[0], 3, 3, "()"),
    "in a sequence": _out_of_range(X3, _changed(np.zeros((2, 4), int), (1, 2), 3), 3, "1, 2"),
    "in an image": _out_of_range(X4, _changed(np.zeros((2, 4, 5), int), (1, 2, 4), 9), 9, "1, 2, 4"),
    "with weights": _out_of_range(X, [0, 3], 3, "1", weight=W),
    "with smoothing": _out_of_range(X, [0, 3], 3, "1", label_smoothing=0.1),
    "for a sum": _out_of_range(X, [0, 3], 3, "1", reduction="sum"),
    "for each row": _out_of_range(X, [0, 3], 3, "1", reduction="none"),
    "-100 where another is ignored": _out_of_range(X, [0, -100], -100, "1", ignore_index=1),
    "156 in uint8, which is -100 in int8": _out_of_range(X, np.array([156, 0], np.uint8), 156, "0"),
    "two targets for one class": _refused(
        CE, X[:, :1], np.array([0, 1]),
        theirs=(IndexError, "Target 1 is out of bounds"), ours=(IndexError, "target[1] = 1", "1 class"),
    ),
    "no class at all": _refused(
        CE, X[:, :0], T * 0, theirs=(IndexError, "Target 0 is out of bounds"), ours=(IndexError, "0 classes")
    ),
    "bool targets": _refused(
        CE, X, T > 0, theirs=(RuntimeError, DTYPE_OF_TARGET), ours=(TypeError, "bool", "an integer dtype")
    ),
    "float targets": _refused(
        CE, X, T * 1.0, theirs=(RuntimeError, DTYPE_OF_TARGET),
        ours=(TypeError, "use numpy.asarray(target, dtype=numpy.int64)"),
    ),
    "integers for probabilities": _refused(
        CE, X, np.ones((2, 3), int), theirs=(RuntimeError, "Expected floating point type for target"),
        ours=(TypeError, "integers of shape (2,), or floating numbers of shape (2, 3)", "with_logits"),
    ),
    "ignore_index with probabilities": _refused(
        CE, X, P, ignore_index=0, theirs=(RuntimeError, "ignore_index is not supported for floating point target"),
        ours=(ValueError, "ignore_index has no meaning for class probabilities: got 0", "where="),
    ),
    "too few weights": _refused(
        CE, X, T, W[:2], theirs=(RuntimeError, "weight tensor should be defined either for all 3 classes"),
        ours=(ValueError, "weight must hold one number for each class: got 2, expected 3"),
    ),
    "weights in two axes": _refused(
        CE, X, T, W[np.newaxis], theirs=(RuntimeError, "weight tensor should be defined either for all 3 classes"),
        ours=(ValueError, "weight must be one-dimensional", "(1, 3)"),
    ),
    "another batch": _refused(
        CE, X, np.array([0, 1, 2]),
        theirs=(ValueError, "Expected input batch_size (2) to match target batch_size (3)."),
        ours=(ValueError, FIT, "got target of shape (3,)", "expected (2,)"),
    ),
    "another length": _refused(
        CE, X3, np.zeros((2, 5), int), theirs=(RuntimeError, "Expected target size [2, 4], got [2, 5]"),
        ours=(ValueError, FIT, "got target of shape (2, 5)", "expected (2, 4)"),
    ),
    "another image": _refused(
        CE, X4, np.zeros((2, 5, 4), int), theirs=(RuntimeError, "size mismatch"),
        ours=(ValueError, FIT, "got target of shape (2, 5, 4)", "expected (2, 4, 5)", "transpose(0, 2, 1)"),
    ),
    "a column of targets": _refused(
        CE, X, T[:, np.newaxis], theirs=(RuntimeError, "0D or 1D target tensor expected"),
        ours=(ValueError, FIT, "got target of shape (2, 1)", "numpy.squeeze(target, axis=1)"),
    ),
    "no axis of classes": _refused(
        NLL, np.float64(1.0), np.array(0), theirs=(ValueError, "Expected 1 or more dimensions (got 0)"),
        ours=(ValueError, "input has no class axis", "0-dimensional"),
    ),
    "smoothing above 1": _refused(
        CE, X, T, label_smoothing=1.5, theirs=(RuntimeError, "label_smoothing must be between 0.0 and 1.0. Got: 1.5"),
        ours=(ValueError, "label_smoothing is out of range: got 1.5", "from 0.0 to 1.0"),
    ),
    **{
        f"an unknown reduction of {key}": _refused(
            key, *arguments, reduction="avg", theirs=(ValueError, text),
            ours=(ValueError, "avg is not a valid value for reduction", "'none', 'mean'"),
        )
        for key, arguments, text in (
            (CE, (X, T), "avg is not a valid value for reduction"),
            (NLL, (LOG_P, T), "avg is not a valid value for reduction"),
            (BCE, (HALVES, HALVES), "avg is not a valid value for reduction"),
            (LOGITS, (HALVES, HALVES), "avg is not a valid value for reduction"),
            (KL, (HALVES, HALVES), "avg is not a valid value for reduction"),
            (GAUSSIAN, (HALVES, HALVES, HALVES), "avg is not valid"),
            (POISSON, (HALVES, HALVES), "avg is not a valid value for reduction"),
        )
    },
    **{
        f"a probability of {value}": _refused(
            BCE, _changed(HALVES, (1, 0), value), HALVES,
            theirs=(RuntimeError, "all elements of input should be between 0 and 1"),
            ours=(ValueError, "all elements of input should be between 0 and 1: got input[1, 0]", text),
        )
        for value, text in ((1.5, "with_logits"), (-0.5, "with_logits"), (NAN, "nan comes"), (INF, "with_logits"))
    },
    **{
        f"a target of {value}": _refused(
            BCE, HALVES, _changed(HALVES, (0, 2), value),
            theirs=(RuntimeError, "all elements of target should be between 0 and 1"),
            ours=(ValueError, "all elements of target should be between 0 and 1: got target[0, 2]", text),
        )
        for value, text in ((2.0, "cross_entropy"), (-0.5, "the input comes first"), (NAN, "nan comes"))
    },
    "binary targets of another shape": _refused(
        BCE, HALVES[:, :1], HALVES[:, 0], theirs=(ValueError, "Using a target size (torch.Size([2]))"),
        ours=(ValueError, "target has the wrong shape: got (2,), expected (2, 1)"),
    ),
    "binary targets of another shape, for logits": _refused(
        LOGITS, HALVES[:, :1], HALVES[:, 0], theirs=(ValueError, "must be the same as input size"),
        ours=(ValueError, "target has the wrong shape: got (2,), expected (2, 1)"),
    ),
    "a weight larger than the input": _refused(
        BCE, HALVES, HALVES, np.ones((5, 2, 3)), theirs=(RuntimeError, "doesn't match the broadcast shape [5, 2, 3]"),
        ours=(ValueError, "weight does not fit the input: got (5, 2, 3)"),
    ),
    "a pos_weight larger than the input": _refused(
        LOGITS, HALVES, HALVES, pos_weight=np.ones((5, 2, 3)),
        theirs=(RuntimeError, "doesn't match the broadcast shape [5, 2, 3]"),
        ours=(ValueError, "pos_weight does not fit the input: got (5, 2, 3)"),
    ),
    "a negative variance": _refused(
        GAUSSIAN, HALVES, HALVES, _changed(HALVES, (1, 2), -1.0), theirs=(ValueError, "var has negative entry/entries"),
        ours=(ValueError, "var has negative entry/entries: got var[1, 2] = -1", "numpy.exp(var)"),
    ),
    "variances of a wrong shape": _refused(
        GAUSSIAN, HALVES, HALVES, np.ones(4), theirs=(ValueError, "var is of incorrect size"),
        ours=(ValueError, "var is of incorrect size: got (4,)", "(2, 3)"),
    ),
    **{
        f"logits of {dtype}": _refused(
            CE, np.ones((2, 3), dtype), T, theirs=(NotImplementedError, "not implemented for"),
            ours=(TypeError, f"got dtype {dtype}", fix),
        )
        for dtype, fix in (
            ("int64", "use numpy.asarray(input, dtype=numpy.float64)"),
            ("bool", "is it a mask"),
            ("complex128", "use numpy.real(input)"),
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("key", REFUSED)
@pytest.mark.filterwarnings("ignore::crossent.LikelyMistakeWarning")
def test_both_refuse_and_ours_says_more(key: str) -> None:
    row = REFUSED[key]
    with pytest.raises(row.torch_error) as caught:
        getattr(F, row.loss)(
            *(torch.tensor(argument) for argument in row.arguments),
            **{k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in row.options.items()},
        )
    assert row.torch_text in str(caught.value)
    twin = getattr(crossent, f"{row.loss}_and_grad", None)
    for call in filter(None, (getattr(crossent, row.loss), twin)):
        with pytest.raises(row.error) as caught:
            call(*row.arguments, **row.options)
        assert caught.type is row.error
        for text in row.texts:
            assert text in str(caught.value)


def test_an_axis_out_of_range_is_named_with_its_range() -> None:
    for function in (crossent.log_softmax, crossent.softmax, crossent.logsumexp):
        with pytest.raises(IndexError, match=r"expected to be in range of \[-2, 1\], but got 5"):
            getattr(torch, function.__name__)(tensor(X), 5)
        with pytest.raises(IndexError, match="got 5, expected -2 to 1"):
            function(X, 5)


# ---- what one accepts and the other does not ------------------------------------------------------------

FLOAT32_X = X.astype(np.float32)
ACCEPTED: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], str]] = {
    **{
        f"targets of {name(dtype)}": (CE, (X, T.astype(dtype)), {}, "2.2162")
        for dtype in INTEGERS
        if name(dtype) not in ("int64", "uint8")
    },
    "uint8 targets of a sequence": (CE, (X3, np.zeros((2, 4), np.uint8)), {}, "1.0986"),
    "weights of another dtype": (CE, (FLOAT32_X, T, W), {}, "1.0105"),
    "int targets of probabilities": (BCE, (HALVES, HALVES > 1), {}, "0.6931"),
    "bool targets of probabilities": (BCE, (HALVES, HALVES.astype(int)), {}, "0.6931"),
    "float64 targets of float32 probabilities": (BCE, (HALVES.astype(np.float32), HALVES), {}, "0.6931"),
    "bool targets of logits": (LOGITS, (HALVES, HALVES > 1), {}, "0.9741"),
    "int targets of logits": (LOGITS, (HALVES, HALVES.astype(int)), {}, "0.9741"),
    "int targets of a divergence": (KL, (LOG_P, np.array([[0, 1, 0], [0, 0, 1]])), {"reduction": "sum"}, "1.4324"),
}  # fmt: skip


@pytest.mark.parametrize("key", ACCEPTED)
def test_what_torch_refuses_and_crossent_takes(key: str) -> None:
    loss, arguments, options, printed = ACCEPTED[key]
    with pytest.raises(RuntimeError):
        getattr(F, loss)(*(torch.tensor(argument) for argument in arguments), **options)
    assert _printed(getattr(crossent, loss)(*arguments, **options), printed) == printed


@pytest.mark.parametrize("smoothing", [-0.1, NAN])
def test_smoothing_that_torch_takes_as_0_is_refused(smoothing: float) -> None:
    x, t = tensor(X), torch.tensor(T)
    assert F.cross_entropy(x, t, label_smoothing=smoothing) == F.cross_entropy(x, t)
    with pytest.raises(ValueError, match="label_smoothing is out of range"):
        crossent.cross_entropy(X, T, label_smoothing=smoothing)


@pytest.mark.filterwarnings("ignore:.*kl_div takes log-probabilities")
def test_a_float64_argument_does_not_widen_the_result_of_float32() -> None:
    """torch promotes; here the input's dtype alone decides, and `dtype=` overrides it."""
    calls: tuple[tuple[str, tuple[Any, ...]], ...] = (
        (CE, (FLOAT32_X, P)),
        (LOGITS, (FLOAT32_X, P)),
        (KL, (FLOAT32_X, P)),
        (POISSON, (FLOAT32_X, P)),
    )
    for key, arguments in calls:
        assert getattr(F, key)(*map(torch.tensor, arguments), reduction="sum").dtype == torch.float64
        assert getattr(crossent, key)(*arguments).dtype == np.float32
        assert getattr(crossent, key)(*arguments, dtype=np.float64).dtype == np.float64
    assert torch.logsumexp(torch.tensor([1, 2]), 0).dtype == torch.float32
    assert crossent.logsumexp([1, 2]).dtype == np.float64


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [0, -1, (0,), (-1,)])
def test_a_single_number_has_the_axes_that_torch_gives_it(axis: Any, keepdims: bool) -> None:
    for value in (1.5, -math.inf):
        expected = torch.logsumexp(torch.tensor(value), axis, keepdim=keepdims)
        got = crossent.logsumexp(np.float32(value), axis, keepdims=keepdims)
        assert got.shape == tuple(expected.shape) == ()
        assert got == float(expected) == value
    if isinstance(axis, int):
        for key in ("softmax", "log_softmax"):
            assert getattr(crossent, key)(np.float32(1.5), axis) == getattr(torch, key)(
                torch.tensor(1.5), axis
            )
    for wrong in (1, -2, (0, 1)):
        with pytest.raises(IndexError):
            torch.logsumexp(torch.tensor(1.5), wrong)
        with pytest.raises(IndexError):
            crossent.logsumexp(np.float32(1.5), wrong)
    with pytest.raises(RuntimeError, match="multiple times"):
        torch.logsumexp(torch.tensor(1.5), (0, -1))


@pytest.mark.parametrize("shape", [(2, 3), (1, 3), (2, 1), (2,)])
def test_a_variance_is_repeated_along_one_dimension_or_the_missing_last(shape: tuple[int, ...]) -> None:
    var = np.random.default_rng(0).random(shape) + 0.5
    x, t = HALVES, HALVES * np.arange(6).reshape(2, 3)
    expected = F.gaussian_nll_loss(tensor(x), tensor(t), tensor(var))
    assert crossent.gaussian_nll_loss(x, t, var) == pytest.approx(float(expected), rel=1e-14)


def test_what_follows_the_weight_is_keyword_only_and_deprecated_options_are_absent() -> None:
    for function, arguments in (
        (crossent.binary_cross_entropy, (HALVES, HALVES, None)),
        (crossent.binary_cross_entropy_with_logits, (HALVES, HALVES, None)),
        (crossent.kl_div, (HALVES, HALVES)),
        (crossent.gaussian_nll_loss, (HALVES, HALVES, HALVES)),
        (crossent.poisson_nll_loss, (HALVES, HALVES)),
    ):
        with pytest.raises(TypeError, match="positional"):
            function(*arguments, "mean")
        for option in ("size_average", "reduce"):
            with pytest.raises(TypeError, match=option):
                function(*arguments, **{option: True})


# ---- weights that cancel --------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [[1.0, 1.0, -1.0], [-1.0, 1.0, 1.0]])
def test_counted_weights_that_cancel_give_torchs_infinite_mean(weight: list[float]) -> None:
    expected, _ = loss_and_gradient(CE, X, np.array([0, 2]), np.array(weight))
    assert np.isinf(expected)
    assert crossent.cross_entropy(X, [0, 2], weight) == expected


def test_counted_weights_that_cancel_under_smoothing_give_torchs_infinite_mean() -> None:
    weight = np.array([1.0, 1.0, -1.0])
    expected, _ = loss_and_gradient(CE, X, np.array([0, 2]), weight, label_smoothing=0.1)
    assert expected == INF
    assert crossent.cross_entropy(X, [0, 2], weight, label_smoothing=0.1) == expected


# ---- losses too large for their dtype -------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_a_loss_beyond_float32_is_infinite_without_a_word(reduction: str) -> None:
    x, t = np.array([[-3e38, 3e38]], np.float32), np.array([0])
    assert loss_and_gradient(CE, x, t, reduction=reduction, dtype=torch.float32)[0] == INF
    with np.errstate(all="raise"):
        assert crossent.cross_entropy(x, t, reduction=reduction) == INF


# ---- warnings -------------------------------------------------------------------------------------------

SOFT = crossent.softmax(X)
WARNED: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], str]] = {
    "softmax given to cross_entropy": (
        CE,
        (SOFT, T),
        {},
        "looks like probabilities.*leave out the softmax",
    ),
    "with probabilities as targets": (CE, (SOFT, P), {}, "leave out the softmax"),
    "along another axis": (CE, (SOFT.T.copy(), T), {"axis": 0}, "leave out the softmax"),
    "probabilities given to nll_loss": (NLL, (SOFT, T), {}, "looks like probabilities.*take the logarithm"),
    "logits given to nll_loss": (NLL, (X, T), {}, "holds positive numbers.*log_softmax"),
    "one class": (CE, (X[:, :1], T * 0), {}, "one class only.*binary cross-entropy"),
    "one class, as probabilities": (CE, (X[:, :1], P[:, :1]), {}, "one class only"),
    "one class, for nll_loss": (NLL, (-SOFT[:, :1], T * 0), {}, "one class only, and its probability"),
    "all ignored": (CE, (X, T * 0 - 100), {}, "every row is ignored.*ignore_index"),
    "all ignored, for nll_loss": (NLL, (LOG_P, T * 0 - 100), {}, "every row is ignored"),
    "all masked": (CE, (X, P), {"where": T > 9}, "every row is ignored.*where"),
    "no rows": (CE, (X[:0], T[:0]), {}, "empty batch"),
    "no elements": (BCE, (HALVES[:0], HALVES[:0]), {}, "empty batch"),
    "no elements of logits": (LOGITS, (HALVES[:0], HALVES[:0]), {}, "empty batch"),
    "no elements of a divergence": (KL, (HALVES[:0], HALVES[:0]), {}, "empty batch"),
}


@pytest.mark.parametrize("key", WARNED)
def test_a_likely_mistake_is_warned_of_once_at_the_line_of_the_call(key: str) -> None:
    loss, arguments, options, text = WARNED[key]
    for call in (getattr(crossent, loss), getattr(crossent, f"{loss}_and_grad")):
        with pytest.warns(crossent.LikelyMistakeWarning, match=text) as caught:
            call(*arguments, **options)
        assert [warning.filename for warning in caught] == [__file__]
        about_nothing = "ignored" in text or "empty" in text
        assert issubclass(caught[0].category, RuntimeWarning) == about_nothing


@pytest.mark.parametrize(
    "key", [key for key, row in WARNED.items() if "empty" in row[3] or "every" in row[3]]
)
def test_a_sum_over_nothing_is_no_mistake(key: str) -> None:
    loss, arguments, options, _ = WARNED[key]
    assert getattr(crossent, loss)(*arguments, reduction="sum", **options) == 0


def test_the_look_ends_after_three_rows() -> None:
    x = np.concatenate([LOG_P, LOG_P, SOFT])
    t = np.zeros(6, int)
    crossent.nll_loss(x, t)
    crossent.cross_entropy(np.concatenate([SOFT, X, SOFT]), t)
    x[2] = 1.0
    with pytest.warns(crossent.LikelyMistakeWarning):
        crossent.nll_loss(x, t)


def _fastest(*calls: Callable[[], Any], rounds: int = 25) -> list[float]:
    """The shortest time that each call computes, taken in turns: on this thread, whatever others leave of it."""
    times = [INF] * len(calls)
    before = crossent.get_num_threads()
    crossent.set_num_threads(1)
    try:
        for _ in range(rounds):
            for i, call in enumerate(calls):
                start = time.thread_time()
                call()
                times[i] = min(times[i], time.thread_time() - start)
    finally:
        crossent.set_num_threads(before)
    return times


@pytest.mark.filterwarnings("ignore::crossent.LikelyMistakeWarning")
@pytest.mark.parametrize("classes", [10, 1000])
def test_the_look_costs_no_measurable_time(classes: int) -> None:
    """Ten million numbers in one place: once the look reads to its end, and once it ends at the first number."""
    rows = 10_000_000 // classes
    p = np.full((rows, classes), 1 / classes, np.float32)
    t = np.zeros(rows, np.int64)

    def beginning_with(first: float) -> None:
        p[:3, 0] = first
        crossent.cross_entropy(p, t)

    looked, not_looked = _fastest(lambda: beginning_with(1 / classes), lambda: beginning_with(-0.1))
    assert looked < 1.3 * not_looked


def test_the_look_at_wide_rows_costs_no_measurable_time() -> None:
    log_p = np.full((3, 3_000_000), -1.0, np.float32)
    t = np.zeros(3, np.int64)
    wide, narrow = _fastest(
        lambda: crossent.nll_loss(log_p, t), lambda: crossent.nll_loss(log_p[:, :1000], t)
    )
    assert wide < 10 * narrow


# ---- precision, and where torch's own answer is further away --------------------------------------------

TRUTH = {10: 4.5399e-05, 15: 3.059e-07, 17: 4.14e-08, 20: 2.06e-09}


@pytest.mark.parametrize("gap", TRUTH)
def test_a_sure_pair_of_float32_keeps_its_loss_where_torch_loses_it(gap: int) -> None:
    x, right = np.array([gap, 0.0], np.float32), math.log1p(math.exp(-gap))
    assert right == pytest.approx(TRUTH[gap], rel=2e-3)
    theirs = float(F.cross_entropy(torch.tensor(x), torch.tensor(0)))
    ours = float(crossent.cross_entropy(x, 0))
    assert ours == pytest.approx(right, rel=2e-7)
    assert abs(theirs - right) > 1000 * abs(ours - right)
    binary = np.array([gap], np.float32)
    assert crossent.binary_cross_entropy_with_logits(binary, [1]) == pytest.approx(right, rel=2e-7)


def test_a_sure_pair_of_float64_keeps_its_loss_where_torch_loses_it() -> None:
    x = np.array([40.0, 0.0])
    assert F.cross_entropy(tensor(x), torch.tensor(0)) == 0
    assert float(f"{crossent.cross_entropy(x, 0):.2e}") == 4.25e-18


def test_a_probability_of_1e_60_is_scored_without_the_clamp() -> None:
    p = np.array([1e-60])
    assert crossent.binary_cross_entropy(p, [1]) == 100
    assert _printed(crossent.binary_cross_entropy(p, [1], clamp=None), "138.155") == "138.155"


def test_a_large_batch_of_bfloat16_has_its_mean_where_torch_rounds_it_away() -> None:
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((200_000, 4)).astype(BFLOAT16), rng.integers(0, 4, 200_000)
    right = float(reference.cross_entropy(x, t))
    assert crossent.cross_entropy(x, t) == pytest.approx(right, rel=2e-7)
    theirs = float(F.cross_entropy(tensor(x, torch.bfloat16), torch.tensor(t)))
    assert abs(theirs - right) > 1e-3


def test_the_mean_of_three_million_rows_is_as_near_as_torchs_or_nearer() -> None:
    rng = np.random.default_rng(1)
    x, t = rng.standard_normal((3_000_000, 2)).astype(np.float32), rng.integers(0, 2, 3_000_000)
    right = float(F.cross_entropy(tensor(x), torch.tensor(t)))
    theirs = float(F.cross_entropy(torch.tensor(x), torch.tensor(t)))
    ours = float(crossent.cross_entropy(x, t))
    assert abs(ours - right) <= 6e-8 * right
    assert abs(ours - right) <= abs(theirs - right) + 6e-8 * right


def test_half_precision_means_that_torch_loses() -> None:
    for dtype, rows, value, theirs in (
        (np.dtype(np.float16), 100_000, 1.0, NAN),
        (np.dtype(np.float16), 60_000, 2.0, INF),
        (BFLOAT16, 100_000, 1.0, None),
    ):
        log_p, t = np.full((rows, 2), -value).astype(dtype), np.zeros(rows, np.int64)
        lost = float(F.nll_loss(tensor(log_p, getattr(torch, dtype.name)), torch.tensor(t)))
        if theirs is not None:
            np.testing.assert_equal(lost, theirs)
        assert lost != value
        assert crossent.nll_loss(log_p, t) == value
