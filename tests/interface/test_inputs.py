"""Whatever holds the numbers is read correctly: odd memory, lists, tensors, overlapping outputs, generated arrays."""

from __future__ import annotations

import array
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import crossent
import reference
from arrays import BFLOAT16, DTYPES, HALVES, INTEGERS, LAYOUTS, Array, DType, logits, loss_dtype, name
from optional import torch
from ulp import ulp_distance

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=name)
mistakes_allowed = pytest.mark.filterwarnings("ignore::crossent.LikelyMistakeWarning")


def _data(dtype: DType, rows: int = 6, classes: int = 9) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    return logits(rng, (rows, classes), dtype), rng.integers(0, classes, rows)


def _same(actual: Any, expected: Any) -> None:
    assert np.asarray(actual).dtype == np.asarray(expected).dtype
    np.testing.assert_array_equal(actual, expected)


# ---- memory that cannot be read in place ----------------------------------------------------------------


def _misaligned(x: Array) -> Array:
    """The same numbers one byte off."""
    buffer = np.zeros(x.nbytes + 1, np.uint8)
    moved = buffer[1:].view(x.dtype).reshape(x.shape)
    moved[...] = x
    assert not moved.flags.aligned
    return moved


def _field(x: Array) -> Array:
    """A field of a packed struct: strides that are no multiple of the item's size."""
    packed = np.zeros(x.shape, [("byte", "u1"), ("x", x.dtype), ("rest", "u1", 2)])
    packed["x"] = x
    field: Array = packed["x"]
    assert field.strides[-1] % x.itemsize
    return field


def _swapped(x: Array) -> Array:
    return x.astype(x.dtype.newbyteorder("S"))


class _Subclass(np.ndarray):
    """An array with a name of its own."""


def _subclass(x: Array) -> Array:
    return x.view(_Subclass)


ODD_MEMORY = {
    "misaligned": _misaligned,
    "packed field": _field,
    "byte-swapped": _swapped,
    "subclass": _subclass,
}


@pytest.mark.parametrize("key", ODD_MEMORY)
@every_dtype
def test_odd_memory_gives_the_same_results(dtype: DType, key: str) -> None:
    if key == "byte-swapped" and dtype == BFLOAT16:  # ml_dtypes has the native order alone
        return
    odd = ODD_MEMORY[key]
    x, t = _data(dtype)
    p = crossent.softmax(x)
    w = np.linspace(0.5, 1.5, 9).astype(dtype)
    where = np.array([True, False, True, True, True, False])
    for axis in (0, 1):
        _same(crossent.log_softmax(odd(x), axis), crossent.log_softmax(x, axis))
        _same(crossent.softmax(odd(x), axis), crossent.softmax(x, axis))
        _same(crossent.logsumexp(odd(x), axis), crossent.logsumexp(x, axis))
    _same(crossent.log_sigmoid(odd(x)), crossent.log_sigmoid(x))
    for reduction in ("none", "mean"):
        expected = crossent.cross_entropy(x, t, w, where=where, reduction=reduction)
        masks = where if key in ("misaligned", "packed field", "byte-swapped") else odd(where)
        _same(crossent.cross_entropy(odd(x), odd(t), odd(w), where=masks, reduction=reduction), expected)
        expected = crossent.cross_entropy(x, p, w, reduction=reduction)
        _same(crossent.cross_entropy(odd(x), odd(p), odd(w), reduction=reduction), expected)
        expected = crossent.nll_loss(crossent.log_softmax(x), t, w, reduction=reduction)
        _same(crossent.nll_loss(odd(crossent.log_softmax(x)), odd(t), odd(w), reduction=reduction), expected)


@pytest.mark.parametrize("key", ["misaligned", "packed field", "byte-swapped"])
@pytest.mark.parametrize("dtype", [d for d in INTEGERS if d.itemsize > 1], ids=name)
def test_odd_memory_of_targets(dtype: DType, key: str) -> None:
    x, t = _data(np.dtype(np.float32))
    expected = crossent.cross_entropy(x, t, reduction="none")
    _same(crossent.cross_entropy(x, ODD_MEMORY[key](t.astype(dtype)), reduction="none"), expected)


@every_dtype
def test_a_field_of_an_aligned_struct(dtype: DType) -> None:
    x, t = _data(dtype)
    table = np.zeros(x.shape, np.dtype([("a", "f8"), ("x", dtype), ("b", "u1")], align=True))
    table["x"] = x
    _same(crossent.cross_entropy(table["x"], t), crossent.cross_entropy(x, t))


def test_bool_masks_that_are_views() -> None:
    x, t = _data(np.dtype(np.float64))
    where = np.array([True, False, True, True, False, False])
    expected = crossent.cross_entropy(x, t, where=where)
    packed = np.zeros(6, [("m", "?"), ("x", "f4")])
    packed["m"] = where
    for mask in (packed["m"], where[::-1].copy()[::-1], list(where), where.tolist()):
        _same(crossent.cross_entropy(x, t, where=mask), expected)


# ---- lists, scalars, buffers, tensors -------------------------------------------------------------------


def test_lists_and_tuples_become_float64() -> None:
    x, t = _data(np.dtype(np.float64))
    as_tuple = tuple(map(tuple, x.tolist()))
    for rows in (x.tolist(), as_tuple):
        for targets in (t.tolist(), tuple(t.tolist())):
            _same(crossent.cross_entropy(rows, targets), crossent.cross_entropy(x, t))
        _same(crossent.log_softmax(rows), crossent.log_softmax(x))
        _same(crossent.logsumexp(rows), crossent.logsumexp(x))
    mixed = [[1.5, 2, 3], [0, -1, 4]]
    _same(crossent.softmax(mixed), crossent.softmax(np.array(mixed)))
    _same(crossent.cross_entropy(x, t, list(np.ones(9))), crossent.cross_entropy(x, t, np.ones(9)))


def test_single_numbers() -> None:
    for number in (0.5, np.float64(0.5), np.array(0.5)):
        np.testing.assert_allclose(crossent.log_sigmoid(number), reference.log_sigmoid(0.5), rtol=1e-15)
        assert np.shape(crossent.log_sigmoid(number)) == ()
        assert crossent.logsumexp(number) == 0.5


def test_buffers() -> None:
    x = array.array("f", [1.0, 2.0, 3.0])
    _same(crossent.softmax(x), crossent.softmax(np.array([1, 2, 3], np.float32)))
    _same(
        crossent.cross_entropy(memoryview(x), 1), crossent.cross_entropy(np.array([1, 2, 3], np.float32), 1)
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_tensors_are_read_like_arrays(dtype: str) -> None:
    x, t = _data(np.dtype(np.float32))
    tensor = torch.tensor(x).to(getattr(torch, dtype))
    plain = tensor.view(torch.int16).numpy().view(BFLOAT16) if dtype == "bfloat16" else tensor.numpy()
    for given_tensor in (tensor, tensor.clone().requires_grad_(), tensor.T.contiguous().T):
        loss = crossent.cross_entropy(given_tensor, torch.tensor(t))
        _same(loss, crossent.cross_entropy(plain, t))
        assert isinstance(loss, np.floating)
        _same(crossent.log_softmax(given_tensor), crossent.log_softmax(plain))
        assert type(crossent.log_softmax(given_tensor)) is np.ndarray
    _same(crossent.cross_entropy(plain, torch.tensor(t, dtype=torch.int32)), crossent.cross_entropy(plain, t))
    w = torch.ones(9, dtype=tensor.dtype)
    _same(crossent.cross_entropy(tensor, t, w), crossent.cross_entropy(plain, t, np.ones(9)))


def test_results_are_plain_numpy() -> None:
    x, t = _data(np.dtype(np.float64))
    assert type(crossent.softmax(x.view(_Subclass))) is np.ndarray
    assert type(crossent.cross_entropy(x.view(_Subclass), t, reduction="none")) is np.ndarray
    assert type(crossent.cross_entropy(x, t)) is np.float64
    assert type(crossent.cross_entropy(x.astype(np.float32), t)) is np.float32


@every_dtype
def test_inputs_are_never_written(dtype: DType) -> None:
    x, t = _data(dtype)
    p, w, where = crossent.softmax(x), np.ones(9, dtype), np.ones(6, bool)
    inputs = (x, t, p, w, where)
    before = [a.tobytes() for a in inputs]
    for a in inputs:
        a.flags.writeable = False
    crossent.cross_entropy(x, t, w, where=where, label_smoothing=0.1)
    crossent.cross_entropy(x, p, w, where=where, label_smoothing=0.1)
    crossent.nll_loss(crossent.log_softmax(x), t, w, where=where)
    crossent.softmax(x)
    crossent.log_softmax(x, 0)
    crossent.logsumexp(x)
    crossent.log_sigmoid(x)
    assert [a.tobytes() for a in inputs] == before


# ---- out ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [key for key in LAYOUTS if key not in ("broadcast", "read_only")])
@every_dtype
def test_out_of_any_layout_receives_the_result(dtype: DType, layout: str) -> None:
    x, t = _data(dtype)
    for function in (crossent.log_softmax, crossent.softmax):
        for axis in (0, 1):
            out = LAYOUTS[layout](np.full(x.shape, 7).astype(dtype))
            assert function(x, axis, out=out) is out
            _same(out, function(x, axis))
    out = LAYOUTS[layout](np.full(x.shape, 7).astype(dtype))
    assert crossent.log_sigmoid(x, out=out) is out
    _same(out, crossent.log_sigmoid(x))
    out = LAYOUTS[layout](np.full(6, 7).astype(dtype))
    assert crossent.logsumexp(x, 1, out=out) is out
    _same(out, crossent.logsumexp(x, 1))
    out = LAYOUTS[layout](np.full((1, 9), 7).astype(dtype))
    crossent.logsumexp(x, 0, keepdims=True, out=out)
    _same(out, crossent.logsumexp(x, 0, keepdims=True))
    out = LAYOUTS[layout](np.full(6, 7).astype(loss_dtype(dtype)))
    assert crossent.cross_entropy(x, t, reduction="none", out=out) is out
    _same(out, crossent.cross_entropy(x, t, reduction="none"))
    crossent.nll_loss(-np.abs(x), t, reduction="none", out=out)
    _same(out, crossent.nll_loss(-np.abs(x), t, reduction="none"))


def test_out_leaves_its_surroundings_alone() -> None:
    x, t = _data(np.dtype(np.float32))
    buffer = np.full((20, 30), 7, np.float32)
    view = buffer[2:20:3, 3:30:3]
    crossent.log_softmax(x, out=view)
    _same(view, crossent.log_softmax(x))
    view[...] = 7
    assert (buffer == 7).all()
    crossent.cross_entropy(x, t, reduction="none", out=buffer[2:20:3, 5])
    buffer[2:20:3, 5] = 7
    assert (buffer == 7).all()


@every_dtype
@pytest.mark.parametrize("result", DTYPES, ids=name)
def test_out_of_the_overriding_dtype(dtype: DType, result: DType) -> None:
    x, t = _data(dtype)
    out = np.full(6, 7).astype(result)
    crossent.cross_entropy(x, t, reduction="none", dtype=result, out=out)
    _same(out, crossent.cross_entropy(x, t, reduction="none", dtype=result))


@pytest.mark.parametrize("function", ["log_softmax", "softmax", "log_sigmoid"])
@pytest.mark.parametrize("classes", [3, 64, 1030])
@every_dtype
def test_out_may_be_the_input(dtype: DType, classes: int, function: str) -> None:
    call = getattr(crossent, function)
    x, _ = _data(dtype, 7, classes)
    axes = [{}] if function == "log_sigmoid" else [{"axis": 0}, {"axis": 1}]
    for axis in axes:
        expected = call(x, **axis)
        for layout in ("C", "fortran", "negative", "stepped"):
            own = LAYOUTS[layout](x.copy())
            call(own, **axis, out=own)
            _same(own, expected)


@pytest.mark.parametrize("function", ["log_softmax", "softmax", "log_sigmoid"])
@pytest.mark.parametrize("classes", [3, 64, 1030])
@every_dtype
def test_out_may_overlap_the_input(dtype: DType, classes: int, function: str) -> None:
    call = getattr(crossent, function)
    rng = np.random.default_rng(1)
    axes = [{}] if function == "log_sigmoid" else [{"axis": 0}, {"axis": 1}]
    for axis in axes:
        for shift in (1, classes - 1, classes, 2 * classes):
            for forward in (True, False):
                buffer = logits(rng, (8 * classes,), dtype)
                low, high = buffer[: 5 * classes], buffer[shift : shift + 5 * classes]
                x, out = (low, high) if forward else (high, low)
                x, out = x.reshape(5, classes), out.reshape(5, classes)
                expected = call(x.copy(), **axis)
                call(x, **axis, out=out)
                _same(out, expected)
        square = logits(rng, (classes, classes) if classes < 100 else (100, 100), dtype)
        for other in (lambda a: a.T, lambda a: a[::-1], lambda a: a[:, ::-1]):
            buffer = square.copy()
            expected = call(buffer.copy(), **axis)
            call(buffer, **axis, out=other(buffer))
            _same(other(buffer), expected)


@pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.float64)], ids=name)
def test_out_of_a_loss_may_overlap_any_argument(dtype: DType) -> None:
    rng = np.random.default_rng(2)
    rows = 1000
    for classes in (3, 65):
        x = logits(rng, (rows, classes), dtype)
        t = rng.integers(0, classes, rows)
        w = rng.random(rows).astype(dtype) + dtype.type(0.5)
        p = rng.random((rows, classes)).astype(dtype)
        expected = crossent.cross_entropy(x, t, reduction="none")
        for column in (0, classes - 1):
            own = x.copy()
            _same(crossent.cross_entropy(own, t, reduction="none", out=own[:, column]), expected)
        own = x.copy()
        _same(crossent.cross_entropy(own, t, reduction="none", out=own.reshape(-1)[:rows]), expected)
        log_p = crossent.log_softmax(x)
        expected_nll = crossent.nll_loss(log_p, t, reduction="none")
        _same(crossent.nll_loss(log_p, t, reduction="none", out=log_p[::-1, 0]), expected_nll)
        soft = crossent.cross_entropy(x, p, reduction="none")
        _same(crossent.cross_entropy(x, p, reduction="none", out=p[:, 0]), soft)
        indices = t.astype(f"i{dtype.itemsize}")
        _same(crossent.cross_entropy(x, indices, reduction="none", out=indices.view(dtype)[::-1]), expected)
    x = logits(rng, (rows, rows), dtype)
    t = rng.integers(0, rows, rows)
    expected = crossent.cross_entropy(x, t, w, reduction="none")
    _same(crossent.cross_entropy(x, t, w, reduction="none", out=w), expected)


@pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.float64)], ids=name)
@pytest.mark.parametrize("classes", [3, 65, 1030])
def test_outputs_may_lie_between_the_elements_of_the_input(dtype: DType, classes: int) -> None:
    rng = np.random.default_rng(4)
    x, t = logits(rng, (200, classes), dtype), rng.integers(0, classes, 200)
    loss, gradient = crossent.cross_entropy_and_grad(x, t)
    losses, softmax = crossent.cross_entropy(x, t, reduction="none"), crossent.softmax(x, 1)
    wide, long = np.zeros((200, 2 * classes + 1), dtype), np.zeros((400, classes), dtype)
    for own, out in (
        (wide[:, :classes], wide[:, classes:-1]), (wide[:, :-1:2], wide[:, 1::2]), (long[::2], long[::-2]),
    ):  # fmt: skip
        own[:] = x
        _same(crossent.softmax(own, 1, out=out), softmax)
        found = crossent.cross_entropy_and_grad(own, t, grad_out=out)
        assert found[0] == loss
        _same(out, gradient)
        _same(own, x)
    # Losses and gradients in one buffer, for which they need not be copies.
    out = wide[:, :classes]
    crossent.cross_entropy_and_grad(x, t, reduction="none", out=wide[:, -1], grad_out=out)
    _same(wide[:, -1], losses)
    _same(out, crossent.cross_entropy_and_grad(x, t, reduction="none")[1])


def test_out_of_logsumexp_may_overlap_the_input() -> None:
    rng = np.random.default_rng(3)
    for classes in (3, 65, 1030):
        x = rng.standard_normal((200, classes)).astype(np.float32)
        for axis in (0, 1):
            expected = crossent.logsumexp(x, axis)
            own = x.copy()
            out = own[0] if axis == 0 else own[:, 0]
            _same(crossent.logsumexp(own, axis, out=out), expected)


# ---- generated arrays -----------------------------------------------------------------------------------

RTOL = {"float64": 1e-12, "float32": 1e-6}


def _floats(dtype: DType) -> st.SearchStrategy[float]:
    """Any number: ordinary ones more often than the extremes, infinities and nan."""
    largest = {"float16": 6e4, "bfloat16": 3e38, "float32": 3e38, "float64": 1e300}[dtype.name]
    return st.one_of(
        st.floats(-50, 50),
        st.floats(-50, 50),
        st.floats(-largest, largest),
        st.sampled_from([np.inf, -np.inf, np.nan, 0.0, -0.0, largest, -largest]),
    )


@st.composite
def _arrays(draw: st.DrawFn, min_dims: int = 1) -> tuple[Array, int]:
    """An array of any dtype, shape, values and strides, and one of its axes."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(hnp.array_shapes(min_dims=min_dims, max_dims=4, min_side=0, max_side=7))
    if draw(st.booleans()):  # a wide axis now and then
        wide = draw(st.integers(0, len(shape) - 1))
        shape = (*shape[:wide], draw(st.sampled_from([16, 17, 33, 64, 70])), *shape[wide + 1 :])
    values = draw(hnp.arrays(np.float64, shape, elements=_floats(dtype)))
    with np.errstate(all="ignore"):
        x: Array = values.astype(dtype)
    order = draw(st.permutations(range(x.ndim)))
    x = np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
    layout = draw(st.sampled_from([None, *LAYOUTS]))
    if layout is not None and x.size:
        x = LAYOUTS[layout](x)
    return x, draw(st.integers(0, x.ndim - 1))


def _close(actual: Any, expected: Any, dtype: DType, scale: Any = 0.0) -> None:
    """Within rounding of `expected`, the sum's halves having had the size of `scale`."""
    actual = np.asarray(actual)
    assert actual.dtype == dtype
    assert actual.shape == np.shape(expected)
    with np.errstate(all="ignore"):
        rounded = np.asarray(expected).astype(dtype)
        if dtype in HALVES:
            steps = ulp_distance(actual, rounded)
            assert steps.max(initial=0) <= 1
            return
        a, e = actual.astype(float), rounded.astype(float)
        slack = RTOL[dtype.name] * np.where(np.isfinite(scale), np.abs(scale), 0)
        tiny = float(np.finfo(dtype).smallest_normal)
        same = (a == e) | (np.isnan(a) & np.isnan(e))
        near = np.abs(a - e) <= RTOL[dtype.name] * np.abs(e) + slack + tiny
    assert (same | near).all(), (actual, rounded)


@given(_arrays())
def test_rows_of_any_array_are_the_references(case: tuple[Array, int]) -> None:
    x, axis = case
    _close(crossent.log_softmax(x, axis), reference.log_softmax(x, axis), x.dtype)
    _close(crossent.softmax(x, axis), reference.softmax(x, axis), x.dtype)
    _close(crossent.log_sigmoid(x), reference.log_sigmoid(x), x.dtype)
    wide = x.astype(float)
    largest = wide.max(axis=axis, initial=-np.inf)
    expected = reference.logsumexp(x, axis)
    if x.dtype not in HALVES:
        _close(crossent.logsumexp(x, axis), expected, x.dtype, np.maximum(np.abs(largest), 1))
    _close(
        crossent.logsumexp(-np.abs(wide), axis), reference.logsumexp(-np.abs(wide), axis), np.dtype(float), 50
    )


@given(_arrays(), st.data())
@mistakes_allowed
def test_losses_of_any_array_are_the_references(case: tuple[Array, int], data: st.DataObject) -> None:
    x, axis = case
    rows = x.shape[:axis] + x.shape[axis + 1 :]
    classes = x.shape[axis]
    ignore_index = data.draw(st.sampled_from([-100, -1, 0, classes + 5]))
    choices = st.integers(0, classes - 1) if classes else st.just(ignore_index)
    elements = st.one_of(choices, choices, st.just(ignore_index))
    t = data.draw(hnp.arrays(np.int64, rows, elements=elements))
    weights = st.floats(0, 4, width=32)
    w = data.draw(st.none() | hnp.arrays(np.float32, classes, elements=weights))
    where = data.draw(st.none() | hnp.arrays(bool, rows))
    options: dict[str, Any] = {"axis": axis, "where": where}
    smoothing = data.draw(st.sampled_from([0.0, 0.0, 0.1, 1.0]))
    dtype = loss_dtype(x.dtype)
    for reduction in ("none", "sum"):
        args = {**options, "reduction": reduction, "ignore_index": ignore_index}
        expected = reference.cross_entropy(x, t, w, label_smoothing=smoothing, **args)
        _close(crossent.cross_entropy(x, t, w, label_smoothing=smoothing, **args), expected, dtype)
        expected = reference.nll_loss(x, t, w, **args)
        scale = reference.nll_loss(np.abs(x), t, w, **args) if reduction == "sum" else 0.0
        _close(crossent.nll_loss(x, t, w, **args), expected, dtype, scale)
    p = data.draw(hnp.arrays(np.float64, x.shape, elements=st.floats(0, 1)))
    args = {**options, "reduction": "none", "label_smoothing": smoothing}
    _close(crossent.cross_entropy(x, p, w, **args), reference.cross_entropy(x, p, w, **args), dtype)


@given(_arrays(min_dims=2), st.sampled_from(INTEGERS), st.data())
@mistakes_allowed
def test_any_targets_give_a_loss_or_an_index_error(
    case: tuple[Array, int], dtype: DType, data: st.DataObject
) -> None:
    x, axis = case
    rows = x.shape[:axis] + x.shape[axis + 1 :]
    t = data.draw(hnp.arrays(dtype, rows))
    ignore_index = data.draw(st.integers(-(2**63), 2**63 - 1))
    classes = x.shape[axis]
    as_integers = [int(v) for v in t.ravel()]
    good = all(v == ignore_index or 0 <= v < classes for v in as_integers)
    if good:
        loss = crossent.cross_entropy(x, t, axis=axis, ignore_index=ignore_index, reduction="none")
        assert loss.shape == rows
        return
    first = next(v for v in as_integers if v != ignore_index and not 0 <= v < classes)
    with pytest.raises(IndexError, match=str(first)):
        crossent.cross_entropy(x, t, axis=axis, ignore_index=ignore_index, reduction="none")
    with pytest.raises(IndexError, match=str(first)):
        crossent.nll_loss(x, t, axis=axis, ignore_index=ignore_index)


@given(
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    st.integers(-5, 5),
)
@mistakes_allowed
def test_any_pair_of_shapes_gives_a_loss_or_a_clean_error(
    shape: tuple[int, ...], target_shape: tuple[int, ...], axis: int
) -> None:
    x = np.zeros(shape)
    for t in (np.zeros(target_shape, int), np.zeros(target_shape)):
        try:
            loss = crossent.cross_entropy(x, t, axis=axis, reduction="none")
        except (ValueError, TypeError, IndexError):
            continue
        place = axis % x.ndim
        rows = shape[:place] + shape[place + 1 :]
        assert loss.shape == rows
        accepted = target_shape == rows or (x.ndim == 1 and target_shape == (1,))
        assert accepted if t.dtype == int else target_shape == shape


@given(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=5), st.data())
def test_logsumexp_over_any_axes_is_the_references(shape: tuple[int, ...], data: st.DataObject) -> None:
    x = np.random.default_rng(4).standard_normal(shape)
    axes = tuple(data.draw(st.lists(st.integers(0, len(shape) - 1), unique=True)))
    axes = tuple(a - len(shape) if data.draw(st.booleans()) else a for a in axes)
    keepdims = data.draw(st.booleans())
    actual = crossent.logsumexp(x, axes, keepdims=keepdims)
    np.testing.assert_allclose(
        actual, reference.logsumexp(x, axes, keepdims=keepdims), rtol=1e-12, atol=1e-14
    )


# ---- identities -----------------------------------------------------------------------------------------


@given(hnp.arrays(np.float64, (4, 6), elements=st.floats(-100, 100)), st.integers(-1000, 1000))
def test_adding_a_constant_to_a_row_changes_no_probability(x: Array, shift: int) -> None:
    np.testing.assert_allclose(crossent.softmax(x + shift), crossent.softmax(x), rtol=1e-9, atol=1e-300)


@given(hnp.arrays(np.float64, (4, 6), elements=st.floats(-100, 100)))
def test_probabilities_of_a_row_sum_to_one(x: Array) -> None:
    np.testing.assert_allclose(crossent.softmax(x).sum(axis=1), 1, rtol=1e-14)
    np.testing.assert_allclose(crossent.logsumexp(crossent.log_softmax(x), 1), 0, atol=1e-13)


@given(hnp.arrays(np.float64, (4, 6), elements=st.floats(-100, 100)))
def test_one_hot_probabilities_cost_what_their_index_costs(x: Array) -> None:
    t = np.array([0, 5, 2, 3])
    hard = crossent.cross_entropy(x, t, reduction="none")
    np.testing.assert_allclose(crossent.cross_entropy(x, np.eye(6)[t], reduction="none"), hard, rtol=1e-14)


def test_any_byte_but_zero_in_a_mask_is_true() -> None:
    x = np.arange(12.0).reshape(4, 3) ** 0.5
    odd = np.array([2, 0, 0, 255], np.uint8).view(bool)
    expected = crossent.cross_entropy(x, [0, 1, 2, 0], where=odd != 0, reduction="none")
    assert (expected == 0).tolist() == [False, True, True, False]
    _same(crossent.cross_entropy(x, [0, 99, 2, 0], where=odd, reduction="none"), expected)


def test_out_may_be_empty() -> None:
    for shape in ((0, 3), (3, 0), (0, 4, 4)):
        x = np.empty(shape)
        out = np.empty(shape)
        assert crossent.softmax(x, out=out) is out
    out = np.empty((0, 4, 4))
    target = np.empty((0, 4, 4), int)
    assert crossent.cross_entropy(np.empty((0, 3, 4, 4)), target, reduction="none", out=out) is out


def test_a_dtype_that_takes_the_memory_away_does_no_harm() -> None:
    class Thief:
        @property
        def dtype(self) -> DType:
            x.resize((0,), refcheck=False)
            return np.dtype("f4")

    x = np.full((3000, 4000), 1.0, "f4")
    with pytest.raises((ValueError, TypeError)):
        crossent.cross_entropy(x, np.zeros(3000, int), dtype=Thief())
