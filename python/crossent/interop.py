"""Array-likes in: whatever the caller holds becomes a plain NumPy array, in place wherever that is possible.

No library but NumPy is imported here. An object names its library by the module of its class, and a library
that an object comes from is loaded already. (ml_dtypes is the one exception: it is NumPy's bfloat16.)
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray


class SupportsDLPack(Protocol):
    """An array that can be handed over by the DLPack protocol."""

    def __dlpack__(self) -> Any:
        """Give the array as a DLPack capsule."""


ArrayInput: TypeAlias = ArrayLike | SupportsDLPack


def as_array(obj: object, name: str) -> NDArray[Any]:
    """Give `obj` as a plain `numpy.ndarray`: aligned, in native byte order, of any strides.

    It is a view of the memory of `obj` wherever NumPy can address that; unaligned and byte-swapped arrays are
    copied, once. Whether the dtype and the shape fit is for the caller to say.

    Parameters
    ----------
    obj : array-like
        A NumPy array, torch tensor on the CPU, JAX array, PyArrow tensor or array, polars or pandas series or
        frame, nested sequence of numbers, or any object with ``__array__``, ``__dlpack__`` or a buffer.
    name : str
        The argument's name, for the text of errors.

    Returns
    -------
    numpy.ndarray
        An array of exactly this class. It may be read-only.

    Raises
    ------
    TypeError
        If `obj` cannot be read, or only with a loss: a masked array, Python objects, memory of another device.
    ValueError
        If a list is ragged, or an Arrow or polars array has nulls.
    """
    try:
        return _plain(_read(obj))
    except _Refusal as refusal:
        raise refusal.kind(f"{name} {refusal}") from None
    except MemoryError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        text = f"got {_class_name(obj)}, expected a NumPy array or an object that NumPy can read"
        fix = f"convert it to a NumPy array first ({type(error).__name__}: {reason})"
        raise TypeError(f"{name} cannot be read as an array: {text}; {fix}") from error


def float_name(dtype: np.dtype[Any]) -> str | None:
    """Give the name of the floating dtype that `dtype` is: float16, bfloat16, float32 or float64.

    Its own name, kind and size do not say so: other packages register types of their own, and a subclass of
    `numpy.void` may have any name.

    Parameters
    ----------
    dtype : numpy.dtype
        Of any kind.

    Returns
    -------
    str or None
        None for every other dtype, whatever it is called.
    """
    ml_dtypes = sys.modules.get("ml_dtypes")
    if ml_dtypes is not None and dtype.type is ml_dtypes.bfloat16 and dtype.itemsize == 2:
        return "bfloat16"
    if dtype.type is np.longdouble and dtype.itemsize == 8:  # as on some platforms
        return "float64"
    return _FLOATS.get(dtype.type)


_FLOATS: dict[type, str] = {np.float16: "float16", np.float32: "float32", np.float64: "float64"}


class _Refusal(Exception):
    """Why an object is not read: the text of an error but for the argument's name."""

    def __init__(
        self, problem: str, got: str, expected: str, fix: str, kind: type[Exception] = TypeError
    ) -> None:
        super().__init__(f"{problem}: got {got}, expected {expected}; {fix}")
        self.kind = kind


def _class_name(obj: object) -> str:
    cls = type(obj)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _read(obj: object) -> NDArray[Any]:
    """Read `obj` by the rules of its library, or of one that its class derives from."""
    for cls in type(obj).__mro__:
        reader = _READERS.get(str(cls.__module__).partition(".")[0])
        if reader is not None:
            return reader(obj)
    return _from_protocol(obj)


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """Take off a subclass, and copy what the compiled code cannot address."""
    if array.dtype.hasobject:
        got = f"dtype {array.dtype}"
        fix = 'make it a numeric array first, for example with numpy.asarray(x, dtype="float64")'
        raise _Refusal("holds Python objects", got, "an array of numbers", fix)
    array = array.view(np.ndarray)
    itemsize = array.itemsize
    if not array.dtype.isnative:
        return array.astype(array.dtype.newbyteorder("="))
    if not array.flags.aligned or (itemsize and any(stride % itemsize for stride in array.strides)):
        return array.copy(order="K")
    return array


def _from_protocol(obj: Any) -> NDArray[Any]:
    """By ``__array__``, a buffer or the sequence's items; by ``__dlpack__`` where it is all there is."""
    if hasattr(obj, "__dlpack__") and not hasattr(obj, "__array__"):
        return np.from_dlpack(obj)
    try:
        return np.asarray(obj)
    except ValueError as error:
        if not isinstance(obj, list | tuple) or "inhomogeneous" not in str(error):
            raise
        got, expected = f"a {_class_name(obj)} of items that differ in length", "items of one length"
        fix = "pad the short ones, and leave the padding out with `where=` or `ignore_index=`"
        raise _Refusal("is ragged", got, expected, fix, ValueError) from None


def _from_numpy(obj: Any) -> NDArray[Any]:
    ma = sys.modules.get("numpy.ma")
    if ma is not None and isinstance(obj, ma.MaskedArray):
        fix = "pass `x.data`, and `where=~numpy.ma.getmaskarray(x)` (one value for each row)"
        raise _Refusal("is a masked array", _class_name(obj), "an array without a mask of its own", fix)
    return np.asanyarray(obj)


def _from_torch(obj: Any) -> NDArray[Any]:
    torch = sys.modules["torch"]
    if not isinstance(obj, torch.Tensor):
        return _from_protocol(obj)
    if obj.layout != torch.strided:
        raise _Refusal("is not a dense tensor", str(obj.layout), "torch.strided", "use `.to_dense()`")
    if obj.device.type != "cpu":
        fix = "use `.cpu()`"
        raise _Refusal("is not in the CPU's memory", f"a tensor on {obj.device}", "one on the CPU", fix)
    if obj.is_complex():
        raise _Refusal("is complex", str(obj.dtype), "real numbers", "use `.real` or `.abs()`")
    obj = obj.detach().resolve_neg()
    if obj.dtype != torch.bfloat16:
        return np.asarray(obj.numpy())
    try:
        from ml_dtypes import bfloat16
    except ImportError:
        fix = "`pip install ml_dtypes`, or use `.float()`, which copies"
        raise _Refusal(
            "has a dtype that NumPy lacks", str(obj.dtype), "ml_dtypes to be installed", fix
        ) from None
    return np.asarray(obj.view(torch.int16).numpy()).view(bfloat16)


def _from_jax(obj: Any) -> NDArray[Any]:
    jax = sys.modules.get("jax")
    if jax is not None and isinstance(obj, jax.core.Tracer):
        fix = "call this function outside of jax.jit, jax.grad and jax.vmap"
        raise _Refusal("is a traced value without numbers", _class_name(obj), "a JAX array", fix)
    return _from_protocol(obj)


def _from_arrow(obj: Any) -> NDArray[Any]:
    pyarrow = sys.modules["pyarrow"]
    if isinstance(obj, pyarrow.ChunkedArray):
        obj = obj.combine_chunks()
    if not isinstance(obj, pyarrow.Array):  # a tensor, or a table
        _refuse_nulls(obj, sum(column.null_count for column in getattr(obj, "columns", ())))
        return _from_protocol(obj)
    _refuse_nulls(obj, obj.null_count)
    if isinstance(obj, pyarrow.FixedShapeTensorArray):
        _from_arrow(obj.storage)  # for its nulls
        return np.asarray(obj.to_numpy_ndarray())
    if isinstance(obj, pyarrow.ExtensionArray):
        return _from_arrow(obj.storage)
    if isinstance(obj, pyarrow.FixedSizeListArray):
        items = _from_arrow(obj.flatten())
        return items.reshape(len(obj), obj.type.list_size, *items.shape[1:])
    return np.asarray(obj.to_numpy(zero_copy_only=False))


def _from_polars(obj: Any) -> NDArray[Any]:
    columns = obj.get_columns() if hasattr(obj, "get_columns") else [obj]
    _refuse_nulls(obj, sum(column.null_count() for column in columns))
    return _from_protocol(obj)


def _refuse_nulls(obj: object, count: int) -> None:
    if count:
        fix = "fill them, for example targets with ignore_index: `.fill_null(-100)`"
        got = f"{count} in a {_class_name(obj)}"
        raise _Refusal("has nulls", got, "none", fix, ValueError)


_READERS: dict[str, Callable[[Any], NDArray[Any]]] = {
    "numpy": _from_numpy,
    "torch": _from_torch,
    "jax": _from_jax,
    "jaxlib": _from_jax,
    "pyarrow": _from_arrow,
    "polars": _from_polars,
}
