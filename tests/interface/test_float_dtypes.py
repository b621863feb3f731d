"""Which dtypes are floating point: those of NumPy and ml_dtypes, not what has their name, kind or size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import crossent
from arrays import Array, DType
from crossent._interop import float_name

# Of any alignment; of the second, NumPy calls two bytes bfloat16.
bfloat16: Any = type("bfloat16", (np.void,), {})
bfloat: Any = type("bfloat", (np.void,), {})

FOREIGN: dict[str, DType] = {
    "a void named bfloat16": np.dtype((bfloat16, 2)),
    "a void named so by its size": np.dtype((bfloat, 2)),
    "two bytes": np.dtype("V2"),
    "a structure of two bytes": np.dtype([("bfloat16", "u2")]),
    "a structure with a number": np.dtype([("a", "f4")]),
    "four bytes": np.dtype((bfloat16, 4)),
    **{
        key: np.dtype(getattr(ml_dtypes, key))
        for key in ("float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "float4_e2m1fn", "int4", "uint2")
        if hasattr(ml_dtypes, key)
    },
    **({"longdouble": np.dtype("g")} if np.dtype("g").itemsize > 8 else {}),
}

CALLS: dict[str, Callable[[Array], Any]] = {
    "softmax": crossent.softmax,
    "logsumexp": crossent.logsumexp,
    "log_sigmoid": crossent.log_sigmoid,
    "cross_entropy": lambda x: crossent.cross_entropy(x, [0, 1]),
    "probabilities": lambda x: crossent.cross_entropy(np.zeros((2, 3)), x),
    "a class for each row": lambda x: crossent.cross_entropy(np.zeros((2, 3)), x[:, 0]),
    "class weights": lambda x: crossent.cross_entropy(np.zeros((2, 3)), [0, 1], x[0]),
    "binary targets": lambda x: crossent.binary_cross_entropy_with_logits(np.zeros((2, 3)), x),
    "weights": lambda x: crossent.binary_cross_entropy_with_logits(np.zeros((2, 3)), np.zeros((2, 3)), x),
    "grad_output": lambda x: crossent.cross_entropy_and_grad(
        np.zeros((2, 3)), [0, 1], reduction="none", grad_output=x[:, 0]
    ),
    "dtype": lambda x: crossent.cross_entropy(np.zeros((2, 3)), [0, 1], dtype=x.dtype),
    "out": lambda x: crossent.softmax(np.zeros((2, 3), np.float32), out=x),
    "score": lambda x: crossent.score(x, [0, 1]),
    "compare": lambda x: crossent.compare(np.zeros((2, 3)), x),
    "fit_temperature": lambda x: crossent.fit_temperature(x, [0, 1]),
    "log_loss": lambda x: crossent.log_loss([0, 1, 2], x, labels=[0, 1, 2]),
}


def _at_an_odd_address(shape: tuple[int, ...], dtype: DType) -> Array:
    """Where bfloat16 cannot be read in place: NumPy finds these elements aligned if they need no alignment."""
    root = np.zeros(int(np.prod(shape)) * dtype.itemsize + 2, np.uint8)
    return np.ndarray(shape, dtype, root, 1 - root.ctypes.data % 2)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("key", FOREIGN)
def test_what_only_looks_like_a_floating_dtype_is_refused(key: str, call: str) -> None:
    dtype = FOREIGN[key]
    assert float_name(dtype) is None
    shape = (3, 3) if call == "log_loss" else (2, 3)
    for x in (np.zeros(shape, dtype), _at_an_odd_address(shape, dtype)):
        before = x.tobytes()
        with pytest.raises(TypeError):
            CALLS[call](x)
        assert x.tobytes() == before


def test_the_error_says_what_a_type_of_that_name_lacks() -> None:
    x = np.zeros((2, 3), FOREIGN["a void named bfloat16"])
    with pytest.raises(TypeError, match=r"has the name alone.*\.view\(ml_dtypes\.bfloat16\)"):
        crossent.softmax(x)
    np.testing.assert_array_equal(
        crossent.softmax(x.view(ml_dtypes.bfloat16)), np.full((2, 3), 1 / 3, ml_dtypes.bfloat16)
    )


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (np.float16, "float16"),
        (np.float32, "float32"),
        (np.float64, "float64"),
        (ml_dtypes.bfloat16, "bfloat16"),
        (">f4", "float32"),
        (np.dtype(np.float16, metadata={"a": 1}), "float16"),
        (np.dtype(ml_dtypes.bfloat16, metadata={"a": 1}), "bfloat16"),
        (np.dtype(("f2", [("a", "u1"), ("b", "u1")])), "float16"),
        (np.int16, None),
        (np.bool_, None),
        (np.complex64, None),
        ("S2", None),
        ("M8[s]", None),
    ],
)
def test_a_floating_dtype_is_known_whatever_goes_with_it(dtype: Any, name: str | None) -> None:
    dtype = np.dtype(dtype)
    assert float_name(dtype) == name
    if name:
        x = np.arange(6).reshape(2, 3).astype(name if name != "bfloat16" else ml_dtypes.bfloat16)
        expected = crossent.softmax(x, 1)
        got = crossent.softmax(x.astype(dtype), 1)
        assert got.dtype.newbyteorder("=") == expected.dtype
        np.testing.assert_array_equal(got, expected)


@pytest.mark.skipif(np.dtype("g").itemsize != 8, reason="a long double is no double here")
def test_a_long_double_that_is_a_double_is_read_as_one() -> None:
    x = np.arange(6, dtype="g").reshape(2, 3)
    np.testing.assert_array_equal(crossent.softmax(x), crossent.softmax(x.astype("f8")))
