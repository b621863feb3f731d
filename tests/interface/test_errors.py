"""What is refused, with which class of error and which words; and that a refused call writes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest

import crossent
from arrays import DTYPES, Array, DType, name

X = np.array([[1.0, 2.0, 3.0], [0.0, -1.0, 4.0]])
X3 = np.zeros((2, 3, 4))
X4 = np.zeros((2, 3, 4, 5))
T = np.array([2, 0])
P = np.full((2, 3), 1 / 3)

NOT_FLOATING: dict[str, Any] = {
    "int64": np.ones((2, 3), np.int64),
    "uint8": np.ones((2, 3), np.uint8),
    "bool": np.ones((2, 3), bool),
    "complex64": np.ones((2, 3), np.complex64),
    "complex128": np.ones((2, 3), np.complex128),
    "object": np.ones((2, 3), object),
    "str": np.full((2, 3), "1.0"),
    "bytes": np.full((2, 3), b"1.0"),
    "datetime64": np.zeros((2, 3), "M8[s]"),
    "timedelta64": np.zeros((2, 3), "m8[s]"),
    "void": np.zeros((2, 3), "V4"),
    "struct": np.zeros((2, 3), [("a", "f4"), ("b", "f4")]),
    "float8": np.ones((2, 3), ml_dtypes.float8_e4m3fn),
    "longdouble": np.ones((2, 3), np.dtypes.LongDoubleDType()),
    "list of int": [[1, 2, 3], [4, 5, 6]],
    "list of bool": [[True, False, True], [False, True, True]],
    "list of str": [["1", "2", "3"], ["4", "5", "6"]],
    "None": None,
    "dict": {"a": 1},
}
if np.dtype(np.longdouble).itemsize == 8:  # then it is float64
    del NOT_FLOATING["longdouble"]


class Refused(NamedTuple):
    """A call of cross_entropy (and of nll_loss, unless it lacks the option) that must raise."""

    error: type[Exception] | tuple[type[Exception], ...]
    match: str | None
    input: Any
    target: Any
    options: dict[str, Any] = {}  # noqa: RUF012
    nll: bool = True


ODD = (TypeError, ValueError)  # the dtype and the shape are both wrong

REFUSED: dict[str, Refused] = {
    # ---- targets
    "bool targets": Refused(TypeError, "bool", X, np.array([True, False])),
    "float targets, one for each row": Refused(ODD, "target", X, np.array([2.0, 0.0])),
    "float targets of a wrong shape": Refused(ODD, "target", X, np.ones((2, 4))),
    "float targets of the transposed shape": Refused(ODD, "target", X, np.ones((3, 2))),
    "float targets of another rank": Refused(ODD, "target", X, np.ones((2, 3, 1))),
    "complex targets": Refused(TypeError, "complex", X, np.ones(2, complex)),
    "complex probabilities": Refused(TypeError, "complex", X, np.ones((2, 3), complex)),
    "text for targets": Refused(TypeError, "target", X, ["2", "0"]),
    "objects for targets": Refused(TypeError, "target", X, np.array([2, 0], object)),
    "no targets": Refused(TypeError, "target", X, None),
    "integers of the shape of probabilities": Refused(ODD, "target", X, np.ones((2, 3), int)),
    "too many targets": Refused(ValueError, "3", X, [0, 1, 2]),
    "too few targets": Refused(ValueError, "target", X, [0]),
    "a scalar target for a batch": Refused(ValueError, "target", X, 1),
    "one axis too many": Refused(ValueError, "target", X, np.zeros((2, 1), int)),
    "one axis too few": Refused(ValueError, "target", X3, [0, 1]),
    "a wrong last axis": Refused(ValueError, "5", X3, np.zeros((2, 5), int)),
    "a wrong batch": Refused(ValueError, "target", X3, np.zeros((3, 4), int)),
    "a wrong image": Refused(ValueError, "target", X4, np.zeros((2, 5, 4), int)),
    "two targets for one row": Refused(ValueError, "target", X[0], [0, 1]),
    "a target too large": Refused(IndexError, "3", X, [3, 0]),
    "a target just negative": Refused(IndexError, "-1", X, [-1, 0]),
    "a target too large in 1-D": Refused(IndexError, "3", X[0], 3),
    "a target too large in 3-D": Refused(IndexError, "3", X3, np.full((2, 4), 3)),
    "a target too large in 4-D": Refused(IndexError, "3", X4, np.full((2, 4, 5), 3)),
    "a target too large with weights": Refused(IndexError, "3", X, [3, 0], {"weight": np.ones(3)}),
    "a target too large with smoothing": Refused(
        IndexError, "3", X, [0, 3], {"label_smoothing": 0.1}, nll=False
    ),
    "the default ignore_index when it is another": Refused(IndexError, "-100", X, [0, -100], {"ignore_index": 1}),
    "a huge unsigned target": Refused(
        IndexError, str(2**63 + 5), X, np.array([2**63 + 5, 0], np.uint64)
    ),
    "the largest unsigned target": Refused(IndexError, str(2**64 - 1), X, np.array([0, 2**64 - 1], np.uint64)),
    "the largest signed target": Refused(IndexError, str(2**63 - 1), X, [0, 2**63 - 1]),
    "the smallest signed target": Refused(IndexError, str(-(2**63)), X, [-(2**63), 0]),
    "a target of 2**32": Refused(IndexError, str(2**32), X, [2**32, 0]),
    # ---- input
    "a single number for logits": Refused(ValueError, "input", np.float64(1.0), 0),
    "a ragged list": Refused(ODD, "input", [[1.0, 2.0], [1.0]], [0, 0]),
    "masked logits": Refused(TypeError, "where", np.ma.masked_array(X, X > 3), T),
    "masked targets": Refused(TypeError, "where", X, np.ma.masked_array(T, [True, False])),
    # ---- weight
    "too few weights": Refused(ValueError, "weight", X, T, {"weight": np.ones(2)}),
    "too many weights": Refused(ValueError, "weight", X, T, {"weight": np.ones(4)}),
    "weights in two axes": Refused(ValueError, "weight", X, T, {"weight": np.ones((1, 3))}),
    "one weight": Refused(ValueError, "weight", X, T, {"weight": np.float64(1)}),
    "integer weights": Refused(TypeError, "weight", X, T, {"weight": np.ones(3, int)}),
    "a list of integer weights": Refused(TypeError, "weight", X, T, {"weight": [1, 2, 3]}),
    "bool weights": Refused(TypeError, "weight", X, T, {"weight": np.ones(3, bool)}),
    "complex weights": Refused(TypeError, "weight", X, T, {"weight": np.ones(3, complex)}),
    "masked weights": Refused(TypeError, "weight", X, T, {"weight": np.ma.masked_array(np.ones(3), [0, 0, 1])}),
    # ---- options
    "a misspelt reduction": Refused(ValueError, "avg", X, T, {"reduction": "avg"}),
    "an empty reduction": Refused(ValueError, "reduction", X, T, {"reduction": ""}),
    "a reduction in capitals": Refused(ValueError, "MEAN", X, T, {"reduction": "MEAN"}),
    "no reduction": Refused(ODD, "reduction", X, T, {"reduction": None}),
    "a fractional ignore_index": Refused(TypeError, "ignore_index must be an integer", X, T, {"ignore_index": 1.5}),
    "text for ignore_index": Refused(TypeError, "ignore_index must be an integer", X, T, {"ignore_index": "1"}),
    "no ignore_index": Refused(TypeError, "ignore_index must be an integer", X, T, {"ignore_index": None}),
    "ignore_index beyond int64": Refused(OverflowError, "ignore_index", X, T, {"ignore_index": 2**63}),
    "ignore_index below int64": Refused(OverflowError, "ignore_index", X, T, {"ignore_index": -(2**63) - 1}),
    "ignore_index far beyond int64": Refused(OverflowError, "ignore_index", X, T, {"ignore_index": 10**30}),
    "smoothing above one": Refused(ValueError, "1.5", X, T, {"label_smoothing": 1.5}, nll=False),
    "negative smoothing": Refused(ValueError, "label_smoothing", X, T, {"label_smoothing": -0.1}, nll=False),
    "nan smoothing": Refused(ValueError, "label_smoothing", X, T, {"label_smoothing": np.nan}, nll=False),
    "text for smoothing": Refused(
        TypeError, "label_smoothing must be a number", X, T, {"label_smoothing": "0.1"}, nll=False
    ),
    "an integer beyond all floats for smoothing": Refused(
        OverflowError, "label_smoothing", X, T, {"label_smoothing": 10**400}, nll=False
    ),
    "ignore_index with probabilities": Refused(ValueError, "ignore_index", X, P, {"ignore_index": 0}, nll=False),
    "an axis too large": Refused(IndexError, "axis", X, T, {"axis": 2}),
    "an axis too small": Refused(IndexError, "axis", X, T, {"axis": -3}),
    "a huge axis": Refused(IndexError, "axis", X, T, {"axis": 2**70}),
    "a fractional axis": Refused(TypeError, None, X, T, {"axis": 1.0}),
    "two class axes": Refused(TypeError, "axis", X, T, {"axis": (0, 1)}),
    "a bool for an axis": Refused(TypeError, "axis", X, T, {"axis": True}),
    "bytes for an axis": Refused(TypeError, "axis", X, T, {"axis": b"\0"}),
    "where too long": Refused(ValueError, "where", X, T, {"where": np.ones(3, bool)}),
    "where for each class": Refused(ValueError, "where", X, T, {"where": np.ones((2, 3), bool)}),
    "where in two axes": Refused(ValueError, "where", X, T, {"where": np.ones((2, 1), bool)}),
    "where for each class of probabilities": Refused(
        ValueError, "where", X, P, {"where": np.ones((2, 3), bool)}, nll=False
    ),
    "where of other integers": Refused(ValueError, r"where\[1\] = 2", X, T, {"where": np.array([1, 2])}),
    "where of floats": Refused(TypeError, "where", X, T, {"where": np.ones(2)}),
    "where of bytes": Refused(ValueError, r"where\[0\] = 255", X, T, {"where": np.array([255, 0], np.uint8)}),
    "an integer result": Refused(TypeError, "dtype", X, T, {"dtype": np.int64}),
    "a bool result": Refused(TypeError, "dtype", X, T, {"dtype": bool}),
    "a complex result": Refused(TypeError, "dtype", X, T, {"dtype": np.complex128}),
    "a dtype that is none": Refused(TypeError, None, X, T, {"dtype": "float33"}),
    # ---- out
    "out of a wrong length": Refused(ValueError, "out", X, T, {"reduction": "none", "out": np.zeros(3)}),
    "out of a wrong rank": Refused(ValueError, "out", X, T, {"reduction": "none", "out": np.zeros((2, 1))}),
    "out that would broadcast": Refused(ValueError, "out", X, T, {"reduction": "none", "out": np.zeros((3, 2))}),
    "out of float32 for float64": Refused(
        TypeError, "out", X, T, {"reduction": "none", "out": np.zeros(2, np.float32)}
    ),
    "out of float64 for float32": Refused(
        TypeError, "out", X.astype(np.float32), T, {"reduction": "none", "out": np.zeros(2)}
    ),
    "out of another dtype than dtype=": Refused(
        TypeError, "out", X, T, {"reduction": "none", "out": np.zeros(2), "dtype": np.float32}
    ),
    "out of integers": Refused(TypeError, "out", X, T, {"reduction": "none", "out": np.zeros(2, int)}),
    "a list for out": Refused(TypeError, "out", X, T, {"reduction": "none", "out": [0.0, 0.0]}),
}  # fmt: skip


@pytest.mark.parametrize("key", REFUSED)
def test_cross_entropy_refuses(key: str) -> None:
    case = REFUSED[key]
    with pytest.raises(case.error, match=case.match):
        crossent.cross_entropy(case.input, case.target, **case.options)


@pytest.mark.parametrize("key", [key for key, case in REFUSED.items() if case.nll])
@pytest.mark.filterwarnings("ignore::crossent.LikelyMistakeWarning")
def test_nll_loss_refuses(key: str) -> None:
    case = REFUSED[key]
    with pytest.raises(case.error, match=case.match):
        crossent.nll_loss(case.input, case.target, **case.options)


def test_nll_loss_has_no_probabilities() -> None:
    with pytest.raises(ODD, match="target"):
        crossent.nll_loss(np.log(P), P)


@pytest.mark.parametrize(
    ("function", "key"),
    [("cross_entropy", key) for key, case in REFUSED.items() if "out" not in case.options]
    + [("nll_loss", key) for key, case in REFUSED.items() if "out" not in case.options and case.nll],
)
@pytest.mark.filterwarnings("ignore::crossent.LikelyMistakeWarning")
def test_a_refused_call_writes_nothing(function: str, key: str) -> None:
    case = REFUSED[key]
    out = np.full(np.shape(case.target) if case.target is not None else (2,), 7.0)
    options = {"reduction": "none", "out": out, **case.options}
    with pytest.raises((TypeError, ValueError, IndexError, OverflowError)):
        getattr(crossent, function)(case.input, case.target, **options)
    np.testing.assert_array_equal(out, 7)


@pytest.mark.parametrize("key", NOT_FLOATING)
def test_logits_must_be_floating(key: str) -> None:
    x = NOT_FLOATING[key]
    for call in (
        lambda: crossent.cross_entropy(x, [0, 1]),
        lambda: crossent.cross_entropy(x, P),
        lambda: crossent.nll_loss(x, [0, 1]),
        lambda: crossent.log_softmax(x),
        lambda: crossent.softmax(x),
        lambda: crossent.log_sigmoid(x),
    ):
        with pytest.raises(TypeError):
            call()


@pytest.mark.parametrize("key", ["int64", "bool", "complex64", "object", "float8"])
def test_the_error_names_the_dtype(key: str) -> None:
    x = NOT_FLOATING[key]
    for call in (
        lambda: crossent.cross_entropy(x, [0, 1]),
        lambda: crossent.nll_loss(x, [0, 1]),
        lambda: crossent.softmax(x),
    ):
        with pytest.raises(TypeError, match=key):
            call()


@pytest.mark.parametrize("key", [key for key in NOT_FLOATING if key not in ("int64", "uint8", "bool")])
def test_logsumexp_takes_real_numbers_only(key: str) -> None:
    if key in ("list of int", "list of bool"):
        assert crossent.logsumexp(NOT_FLOATING[key]).dtype == np.float64
        return
    with pytest.raises(TypeError):
        crossent.logsumexp(NOT_FLOATING[key])


# ---- the words of an index error ------------------------------------------------------------------------


def _bad_at(shape: tuple[int, ...], places: list[tuple[int, ...]], value: int, dtype: str = "i8") -> Array:
    t = np.zeros(shape, dtype)
    for place in places:
        t[place] = value
    return t


def test_an_index_error_names_row_value_classes_and_ignore_index() -> None:
    x = np.zeros((200, 23), np.float32)
    t = _bad_at((200,), [(171,), (187,)], 4321)
    for call in (crossent.cross_entropy, crossent.nll_loss):
        with pytest.raises(IndexError) as caught:
            call(x, t, ignore_index=-77)
        words = str(caught.value).replace(",", " ").replace("=", " ")
        for number in ("171", "4321", "23", "-77"):
            assert number in words, f"{number} is missing: {caught.value}"
        assert "187" not in words


def test_an_index_error_names_the_place_in_an_image() -> None:
    x = np.zeros((3, 21, 40, 50), np.float32)
    t = _bad_at((3, 40, 50), [(2, 17, 43), (2, 18, 0)], 255)
    for layout in (x, np.moveaxis(np.zeros((3, 40, 50, 21), np.float32), -1, 1)):
        with pytest.raises(IndexError, match="2, 17, 43"):
            crossent.cross_entropy(layout, t)


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_the_first_offender_is_named_whatever_the_threads(threads: int) -> None:
    before = crossent.get_num_threads()
    rows = 200_000
    x = np.broadcast_to(np.zeros(16, np.float32), (rows, 16))
    t = _bad_at((rows,), [(i,) for i in (123_457, 123_458, 150_000, rows - 1)], 16)
    t[123_457] = 9999
    crossent.set_num_threads(threads)
    try:
        for _ in range(5):
            with pytest.raises(IndexError, match=r"123.?457") as caught:
                crossent.cross_entropy(x, t)
            assert "9999" in str(caught.value)
    finally:
        crossent.set_num_threads(before)


def test_masked_out_rows_are_no_offenders() -> None:
    x = np.zeros((4, 3))
    t = np.array([7, 0, 8, 9])
    with pytest.raises(IndexError, match="8"):
        crossent.cross_entropy(x, t, where=np.array([False, True, True, True]))
    crossent.cross_entropy(x, t, where=np.array([False, True, False, False]))


# ---- rows -----------------------------------------------------------------------------------------------

ROW_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "log_softmax": crossent.log_softmax,
    "softmax": crossent.softmax,
    "logsumexp": crossent.logsumexp,
}


@pytest.mark.parametrize("function", ROW_FUNCTIONS)
def test_an_axis_must_exist(function: str) -> None:
    call = ROW_FUNCTIONS[function]
    for axis in (2, -3, 5, 2**70, -(2**70)):
        with pytest.raises(IndexError, match="axis"):
            call(X, axis)
    for no_integer in (True, 1.0, "1", b"\0"):
        with pytest.raises(TypeError, match="axis"):
            call(X, no_integer)
    with pytest.raises(TypeError, match="axis"):
        call(X, [None])
    with pytest.raises(IndexError):
        call(np.float64(1.0), 1)


def test_the_axis_of_softmax_is_no_list() -> None:
    wrong: tuple[Any, ...] = ([0, 1], [0], "0")
    for call in (crossent.log_softmax, crossent.softmax):
        for axis in wrong:
            with pytest.raises(TypeError):
                call(X, axis)


def test_an_error_of_an_option_itself_names_it_in_a_note() -> None:
    with pytest.raises(ValueError, match="could not convert") as caught:
        crossent.cross_entropy(X, T, label_smoothing=np.void(b"ab"))
    assert caught.value.__notes__ == ["while processing 'label_smoothing'"]


def test_keepdims_is_true_or_false() -> None:
    with pytest.raises(TypeError, match=r"keepdims must be True or False: got <class 'int'>"):
        crossent.logsumexp(X, keepdims=1)
    assert crossent.logsumexp(X, keepdims=np.bool_(True)).shape == (1, 1)


def test_logsumexp_axes_must_differ() -> None:
    for axes in ((0, 0), (1, -1)):
        with pytest.raises(ValueError, match=r"axis|axes"):
            crossent.logsumexp(X, axes)
    with pytest.raises(IndexError):
        crossent.logsumexp(X, (0, 2))


@pytest.mark.parametrize("function", ["log_softmax", "softmax", "log_sigmoid", "logsumexp"])
@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_out_must_be_exactly_the_result(dtype: DType, function: str) -> None:
    call = getattr(crossent, function)
    x = np.ones((4, 6)).astype(dtype)
    options = {"axis": 1} if function == "logsumexp" else {}
    shape = (4,) if function == "logsumexp" else (4, 6)
    for wrong in ((), (4, 1), (6, 4), (1, 4, 6), (4, 7), (0,)):
        out = np.full(wrong, 7).astype(dtype)
        with pytest.raises(ValueError, match="out"):
            call(x, out=out, **options)
        np.testing.assert_array_equal(out.astype(float), 7)
    for other in (*DTYPES, np.dtype(int), dtype.newbyteorder("S")):
        if other != dtype or (other.byteorder != dtype.byteorder and dtype.name != "bfloat16"):
            out = np.full(shape, 7).astype(other)
            with pytest.raises(TypeError, match="out"):
                call(x, out=out, **options)
            np.testing.assert_array_equal(out.astype(float), 7)
    out = np.full(shape, 7).astype(dtype)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out"):
        call(x, out=out, **options)
    np.testing.assert_array_equal(out.astype(float), 7)
    for not_an_array in ([0.0] * 4, (out,), "out", 3):
        with pytest.raises(TypeError, match="out"):
            call(x, out=not_an_array, **options)


@pytest.mark.parametrize("function", ["cross_entropy", "nll_loss"])
def test_a_read_only_out_is_refused(function: str) -> None:
    out = np.full(2, 7.0)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out"):
        getattr(crossent, function)(-np.abs(X), T, reduction="none", out=out)
    np.testing.assert_array_equal(out, 7)


def test_a_bad_target_at_the_end_of_a_long_batch_leaves_out_untouched() -> None:
    rows = 100_000
    x = np.zeros((rows, 8), np.float32)
    t = np.zeros(rows, int)
    t[-1] = 8
    out = np.full(rows, 7, np.float32)
    for call in (crossent.cross_entropy, crossent.nll_loss):
        with pytest.raises(IndexError):
            call(x, t, reduction="none", out=out)
        np.testing.assert_array_equal(out, 7)


# ---- signatures -----------------------------------------------------------------------------------------


def test_options_are_keyword_only() -> None:
    with pytest.raises(TypeError):
        crossent.cross_entropy(X, T, None, -100)
    with pytest.raises(TypeError):
        crossent.nll_loss(X, T, None, -100)
    with pytest.raises(TypeError):
        crossent.softmax(X, -1, np.zeros((2, 3)))
    with pytest.raises(TypeError):
        crossent.logsumexp(X, 1, True)


def test_torchs_deprecated_options_are_absent() -> None:
    for option in ("size_average", "reduce"):
        with pytest.raises(TypeError, match=option):
            crossent.cross_entropy(X, T, **{option: True})


class _Broken:
    def __array__(self, *args: Any, **kwargs: Any) -> Array:
        raise RuntimeError("no array here")


class _Liar:
    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return "not an array"


@pytest.mark.parametrize("thing", [_Broken(), _Liar(), object(), iter([1.0]), lambda: 0, {1.0, 2.0}])
def test_things_that_are_no_arrays_are_type_errors(thing: Any) -> None:
    for call in (
        lambda: crossent.cross_entropy(thing, [0]),
        lambda: crossent.cross_entropy(X, thing),
        lambda: crossent.cross_entropy(X, T, thing),
        lambda: crossent.cross_entropy(X, T, where=thing),
        lambda: crossent.softmax(thing),
        lambda: crossent.logsumexp(thing),
        lambda: crossent.log_sigmoid(thing),
    ):
        with pytest.raises(TypeError):
            call()
