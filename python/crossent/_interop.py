"""Array-likes become plain NumPy arrays, in place wherever that is possible.

No library but NumPy is imported here. An object names its library by the module of its class, and a library
that an object comes from is loaded already. (ml_dtypes is the one exception: it is NumPy's bfloat16.)
"""

from __future__ import annotations

import functools
import numbers
import os
import sys
from collections.abc import Callable, Iterable
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
    copied, once. The dtype and the shape are not checked.

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
    return _refusing(obj, name, _numbers)


def is_lazy(obj: object) -> bool:
    """Say whether an object is an array that is read part by part, and not one in memory: a dataset in a file."""
    cls = type(obj)
    packages = {_package(each) for each in cls.__mro__} - {"crossent"}
    in_memory = ("__array_interface__", "__array_struct__", "__dlpack__", "row_blocks")
    if not packages.isdisjoint(_READERS) or any(hasattr(cls, name) for name in in_memory):
        return False
    try:
        memoryview(obj)  # type: ignore[arg-type]
    except TypeError:
        return hasattr(cls, "__getitem__") and hasattr(obj, "shape") and hasattr(obj, "dtype")
    return False


def as_labels(obj: object, name: str) -> NDArray[Any]:
    """Give labels as a plain `numpy.ndarray`, which may hold Python objects, as strings often are.

    Parameters
    ----------
    obj, name
        As for `as_array`.

    Returns
    -------
    numpy.ndarray
        An array of exactly this class.

    Raises
    ------
    TypeError, ValueError
        As for `as_array`; `TypeError` also where an object stands for a label that is missing.
    """
    return _refusing(obj, name, _labels)


def _refusing(obj: object, name: str, read: Callable[[object], NDArray[Any]]) -> NDArray[Any]:
    """Read `obj`; where that fails, the error names the argument."""
    try:
        return read(obj)
    except _Refusal as refusal:
        raise refusal.error(name) from None
    except MemoryError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        text = f"got {_class_name(obj)}, expected a NumPy array or an object that NumPy can read"
        fix = f"convert it to a NumPy array first ({type(error).__name__}: {reason})"
        raise TypeError(f"{name} cannot be read as an array: {text}; {fix}") from error


def first_item(obj: Any) -> Any:
    """Give the first item of nested lists that is none itself, or the object if it is no list."""
    for _ in range(_MOST_AXES):
        if not isinstance(obj, list | tuple) or not obj:
            break
        obj = obj[0]
    return obj


def float_name(dtype: np.dtype[Any]) -> str | None:
    """Give the name of the floating dtype that `dtype` is: float16, bfloat16, float32 or float64.

    The dtype's name, kind and size do not decide it: other packages register their own types, and a subclass of
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
    """Why an object is not read. `fix` may depend on the argument's name, which the readers do not know."""

    def __init__(
        self,
        problem: str,
        got: str,
        expected: str,
        fix: str | Callable[[str], str],
        kind: type[Exception] = TypeError,
    ) -> None:
        super().__init__(problem)
        self._problem = f"{problem}: got {got}, expected {expected}"
        self._fix, self._kind = fix, kind

    def error(self, name: str) -> Exception:
        """Give the error for an argument."""
        fix = self._fix if isinstance(self._fix, str) else self._fix(name)
        return self._kind(f"{name} {self._problem}; {fix}")


def _class_name(obj: object) -> str:
    cls = type(obj)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _told(obj: object, most: int) -> str:
    """Give the text of an object, or its class where that has more than so many characters."""
    text = repr(obj)
    return text if len(text) <= most else f"a {_class_name(obj)}"


def _read(obj: object) -> NDArray[Any]:
    """Read `obj` by the rules of its library, or of one that its class derives from."""
    if isinstance(obj, str | os.PathLike):
        fix = "if it names a file, read that first, for instance with numpy.load; the command line takes names of files"
        raise _Refusal("is no array", _told(obj, 60), "an array of numbers", fix)
    for cls in type(obj).__mro__:
        reader = _READERS.get(_package(cls))
        if reader is not None:
            return reader(obj)
    return _from_protocol(obj)


def _package(cls: type) -> str:
    return str(cls.__module__).partition(".")[0]


def _numbers(obj: object) -> NDArray[Any]:
    array = _read(obj)
    if array.dtype.hasobject:
        raise _objects(array)
    return _plain(array)


def _labels(obj: object) -> NDArray[Any]:
    array = _read(obj)
    if array.dtype.names is not None:
        fix = (
            f"pass one field, as in x[{array.dtype.names[0]!r}]"
            if array.dtype.names
            else "pass the labels alone"
        )
        raise _Refusal("has fields", f"dtype {array.dtype}", "one label for each item", fix)
    if not array.dtype.hasobject:
        return _plain(array)
    missing = _first(array, _is_missing)
    if missing is not None:
        place, item = missing
        fix = "leave such rows out of every argument"
        raise _Refusal("has labels that are missing", f"{item!r} at {place}", "none", fix)
    return array.view(np.ndarray)


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """Take off a subclass, and copy what the compiled code cannot address."""
    array = array.view(np.ndarray)
    itemsize = array.itemsize
    if not array.dtype.isnative:
        return array.astype(array.dtype.newbyteorder("="))
    if not array.flags.aligned or (itemsize and any(stride % itemsize for stride in array.strides)):
        return array.copy(order="K")
    return array


# Python objects


def _objects(array: NDArray[Any], column: str = "", drop: Callable[[str], str] | None = None) -> _Refusal:
    """Make the refusal of what is not of numbers, by the first item that is none; `drop` leaves its column out."""
    problem = "holds Python objects" if array.dtype.hasobject else "holds no numbers"
    found = _first(array, lambda item: not _is_number(item))
    if found is None:
        whole = _first(array, lambda item: not isinstance(item, numbers.Integral)) is None
        fix: Callable[[str], str] = functools.partial(_as_numbers, whole=whole)
    else:
        fix = functools.partial(_without, *found, drop=drop)
    return _Refusal(problem, f"dtype {array.dtype}{column}", "an array of numbers", fix)


def _without(place: str, item: object, name: str, *, drop: Callable[[str], str] | None) -> str:
    """Say what to do about an item that is no number."""
    told = _told(item, 40)
    if _is_missing(item):
        fix = _without_nulls("numpy.where", name)
    elif isinstance(item, list | tuple | np.ndarray):
        fix = "make it one array, with numpy.stack(list(x)), where all of its items have one shape"
        if drop is not None:
            fix = "pass that column alone, as numpy.stack(list(x)), where all of its items have one shape"
    elif drop is not None:
        fix = f"leave the column out, with {drop(name)}"
    elif isinstance(item, str) and name == "target":
        fix = (
            "convert each name to its class index, as in [names.index(t) for t in target], with names in the order "
            "of the logits"
        )
    else:
        fix = "convert it to numbers first"
    return f"{place} is {told}: {fix}"


def _first(array: NDArray[Any], holds: Callable[[Any], bool]) -> tuple[str, Any] | None:
    """Find the first item for which something holds, and its place as an index."""
    for at, item in enumerate(array.flat):
        if holds(item):
            place = ", ".join(str(int(i)) for i in np.unravel_index(at, array.shape)) if array.ndim else "()"
            return f"[{place}]", item
    return None


def _is_number(item: object) -> bool:
    is_real = isinstance(item, numbers.Real) or type(item).__name__ == "Decimal"
    return is_real and not isinstance(item, bool) and not _is_missing(item)


def _is_missing(item: Any) -> bool:
    """Whether an object stands for none: None, nan, and pandas' NA and NaT."""
    if isinstance(item, float | np.floating):
        return bool(item != item)
    return item is None or type(item).__name__ in ("NAType", "NaTType")


def _as_numbers(name: str, *, whole: bool) -> str:
    dtype = "int64" if whole and name == "target" else "float64"
    return f'make it a numeric array first, with numpy.asarray({name}, dtype="{dtype}")'


def _without_nulls(method: str, name: str) -> str:
    """Say what to do about nulls; `method` is what fills them."""
    if name == "target":
        return f"fill them with the target to ignore, -100 by default, with `{method}`".replace(
            "()", "(-100)"
        )
    if name == "where":
        return f"fill them with False, with `{method}`".replace("()", "(False)")
    return "leave such rows out of every argument"


# Tables


def _stacked(
    columns: Iterable[tuple[object, Callable[[], NDArray[Any]]]], drop: Callable[[str, object], str]
) -> NDArray[Any]:
    """Put columns of numbers of one kind side by side.

    `drop` gives the expression that leaves a column out of an argument, by the names of both.
    """
    arrays: list[NDArray[Any]] = []
    names: list[object] = []
    for column, read in columns:
        array = read()
        if array.dtype.hasobject or array.dtype.kind in "USMm":
            raise _objects(array, f" in the column {column!r}", functools.partial(_dropping, drop, column))
        if array.ndim != 1:
            got = f"column {column!r} with {array.shape[1]} numbers in each row"
            fix = f"pass that column alone, as x[{column!r}]"
            raise _Refusal("has a column of arrays", got, "one number in each", fix)
        arrays.append(array)
        names.append(column)
    floating = [array.dtype.kind not in "iub" for array in arrays]
    for column, array, floats in zip(names, arrays, floating, strict=True):
        if any(floating) and not floats:
            got = f"column {column!r} of dtype {array.dtype} beside floating ones"
            problem, advice = "has a column of another kind", functools.partial(_of_one_kind, drop, column)
            raise _Refusal(problem, got, "one kind", advice)
    return np.column_stack(arrays) if arrays else np.empty((0, 0))


def _dropping(drop: Callable[[str, object], str], column: object, name: str) -> str:
    return drop(name, column)


def _of_one_kind(drop: Callable[[str, object], str], column: object, name: str) -> str:
    left_out = drop(name, column)
    return (
        f"if it is a class like the others, convert it to their dtype; if not, leave it out, with {left_out}"
    )


def _rows_of(items: NDArray[Any], rows: int, length: int) -> NDArray[Any]:
    """Give the items of `rows` lists, one after the other, a row for each list."""
    return items.reshape(rows, length, *items.shape[1:])


def _ragged(obj: object, lengths: NDArray[Any]) -> _Refusal:
    row = int((lengths != lengths[0]).argmax())
    got = f"a {_class_name(obj)} of lists of {lengths[0]} items, and one of {lengths[row]} at row {row}"
    fix = "pad the short ones, and leave the padding out with `where=` or `ignore_index=`"
    return _Refusal("is ragged", got, "lists of one length", fix, ValueError)


def _nulls(obj: object, count: int, row: int, method: str, column: object = None) -> _Refusal:
    place = f"row {row}" if column is None else f"row {row} of the column {column!r}"
    got = f"{count} in a {_class_name(obj)}, the first at {place}"
    return _Refusal("has nulls", got, "none", functools.partial(_without_nulls, method), ValueError)


# Libraries


# More axes no array of NumPy has; a list may hold itself.
_MOST_AXES = 64


def _from_protocol(obj: Any) -> NDArray[Any]:
    """By ``__array__``, a buffer or the sequence's items; by ``__dlpack__`` where it is all there is."""
    if hasattr(obj, "__dlpack__") and not hasattr(obj, "__array__"):
        return np.from_dlpack(obj)
    first = first_item(obj)
    if _READERS.get(_package(type(first))) is _from_dask:
        return _from_dask(first)  # NumPy would compute each
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
    if isinstance(obj, pyarrow.Table | pyarrow.RecordBatch):
        return _from_arrow_table(obj)
    if isinstance(obj, pyarrow.ChunkedArray):
        obj = obj.combine_chunks()
        if isinstance(obj, pyarrow.ChunkedArray):  # what older versions give for no chunk, or for several
            obj = pyarrow.concat_arrays(obj.chunks) if obj.num_chunks else pyarrow.array([], obj.type)
    if not isinstance(obj, pyarrow.Array):
        return _from_protocol(obj)  # a tensor
    if obj.null_count:
        raise _nulls(obj, obj.null_count, obj.is_null().index(True).as_py(), ".fill_null()")
    if isinstance(obj, pyarrow.FixedShapeTensorArray):
        _from_arrow(obj.storage)  # for its nulls
        return np.asarray(obj.to_numpy_ndarray())
    if isinstance(obj, pyarrow.ExtensionArray):
        return _from_arrow(obj.storage)
    if isinstance(obj, pyarrow.StructArray):
        return _from_arrow_table(pyarrow.RecordBatch.from_struct_array(obj))
    if isinstance(obj, pyarrow.FixedSizeListArray):
        return _from_arrow_lists(obj, obj.type.list_size)
    if str(obj.type).startswith(("list", "large_list")):
        lengths = _from_arrow(obj.value_lengths())
        if lengths.size and (lengths != lengths[0]).any():
            raise _ragged(obj, lengths)
        return _from_arrow_lists(obj, int(lengths[0]) if lengths.size else 0)
    is_number = pyarrow.types.is_integer(obj.type) or pyarrow.types.is_floating(obj.type)
    if is_number and hasattr(obj, "__dlpack__"):
        return np.from_dlpack(obj)  # to_numpy() would import pandas where that is installed
    return np.asarray(obj.to_numpy(zero_copy_only=False))


def _from_arrow_lists(lists: Any, length: int) -> NDArray[Any]:
    items = lists.flatten()
    if items.null_count:
        row = items.is_null().index(True).as_py() // length
        raise _nulls(lists, items.null_count, row, ".fill_null()")
    return _rows_of(_from_arrow(items), len(lists), length)


def _from_arrow_table(table: Any) -> NDArray[Any]:
    for name, column in zip(table.schema.names, table.columns, strict=True):
        if column.null_count:
            row = column.is_null().index(True).as_py()
            raise _nulls(table, column.null_count, row, ".fill_null()", name)
    columns = [
        (name, functools.partial(_from_arrow, column))
        for name, column in zip(table.schema.names, table.columns, strict=True)
    ]
    return _stacked(columns, lambda name, column: f"{name}.drop_columns([{column!r}])")


def _from_pandas(obj: Any) -> NDArray[Any]:
    if hasattr(obj, "columns"):
        dtypes = set(obj.dtypes)
        kinds = {dtype.kind if isinstance(dtype, np.dtype) else "" for dtype in dtypes}
        if any(kinds <= alike for alike in ({"f"}, {"i", "u"}, {"b"})):
            return np.asarray(obj)
        columns = [
            (name, functools.partial(_from_pandas_column, obj.iloc[:, at], obj, name))
            for at, name in enumerate(obj.columns)
        ]
        return _stacked(columns, lambda name, column: f"{name}.drop(columns=[{column!r}])")
    return _from_pandas_column(obj, obj)


def _from_pandas_column(column: Any, holder: object, name: object = None) -> NDArray[Any]:
    """Read a series, an index or an array of pandas."""
    dtype = getattr(column, "dtype", None)
    if dtype is None or isinstance(dtype, np.dtype) or str(dtype).startswith("Sparse"):
        return np.asarray(column)
    missing = np.asarray(column.isna())
    if missing.any():
        raise _nulls(holder, int(missing.sum()), int(missing.argmax()), ".fillna()", name)
    values = getattr(column, "array", column)
    if hasattr(dtype, "pyarrow_dtype"):
        return _from_arrow(values.__arrow_array__())
    if hasattr(dtype, "numpy_dtype"):  # nullable numbers, none of which is null
        return np.asarray(values.to_numpy(dtype=dtype.numpy_dtype))
    return np.asarray(values)


def _from_polars(obj: Any) -> NDArray[Any]:
    if hasattr(obj, "collect"):
        raise _Refusal("is not computed yet", _class_name(obj), "a frame in memory", "use `.collect()`")
    if not hasattr(obj, "get_columns"):
        return _from_polars_series(obj, obj)
    dtypes = obj.dtypes
    alike = all(dtype.is_float() for dtype in dtypes) or all(dtype.is_integer() for dtype in dtypes)
    if dtypes and alike and not sum(obj.null_count().row(0)):
        return _from_protocol(obj)
    columns = [
        (series.name, functools.partial(_from_polars_series, series, obj, series.name))
        for series in obj.get_columns()
    ]
    return _stacked(columns, lambda name, column: f"{name}.drop({column!r})")


def _from_polars_series(series: Any, holder: object, name: object = None) -> NDArray[Any]:
    if not hasattr(series, "null_count"):  # an expression, or a type
        return _from_protocol(series)
    if series.null_count():
        raise _nulls(holder, series.null_count(), series.is_null().arg_max(), ".fill_null()", name)
    kind = type(series.dtype).__name__
    if kind == "Struct":
        return _from_polars(series.struct.unnest())
    if kind not in ("List", "Array"):
        return _from_protocol(series)
    lengths = (series.list if kind == "List" else series.arr).len().to_numpy()
    if lengths.size and (lengths != lengths[0]).any():
        raise _ragged(series, lengths)
    length = int(lengths[0]) if lengths.size else 0
    items = series.explode() if length else series.explode().clear()
    if items.null_count():
        raise _nulls(holder, items.null_count(), items.is_null().arg_max() // length, ".fill_null()", name)
    return _rows_of(_from_polars_series(items, holder, name), len(series), length)


def _from_dask(obj: Any) -> NDArray[Any]:
    raise _Refusal("is a Dask collection", _class_name(obj), "an array in memory", _with_dask)


def _with_dask(name: str) -> str:
    """Name what takes a collection."""
    if name == "labels":
        return "labels are few: use `.compute()`"
    functions = (
        "crossent.dask.log_loss takes it"
        if name in ("y_true", "y_proba")
        else "crossent.dask takes it, block by block (score, scorer, compare, fit_temperature, log_loss)"
    )
    return f"{functions}; where it fits into memory, use `.compute()`"


def _from_xarray(obj: Any) -> NDArray[Any]:
    data = getattr(obj, "variable", obj)
    if _package(type(getattr(data, "_data", None))) == "dask":
        return _from_dask(obj)
    return _from_protocol(obj)


def _from_crossent(obj: Any) -> NDArray[Any]:
    if not hasattr(obj, "row_blocks"):
        return _from_protocol(obj)
    fix = (
        "cross_entropy and the functions that score take it; for gradients use linear_cross_entropy_and_grad; where "
        "all logits fit into memory, pass numpy.asarray(x)"
    )
    raise _Refusal("is a product that is not computed yet", _class_name(obj), "an array in memory", fix)


_READERS: dict[str, Callable[[Any], NDArray[Any]]] = {
    "crossent": _from_crossent,
    "numpy": _from_numpy,
    "torch": _from_torch,
    "jax": _from_jax,
    "jaxlib": _from_jax,
    "pyarrow": _from_arrow,
    "pandas": _from_pandas,
    "polars": _from_polars,
    "dask": _from_dask,
    "dask_expr": _from_dask,
    "xarray": _from_xarray,
}
