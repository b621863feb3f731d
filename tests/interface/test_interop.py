"""Array-likes in: which are read in place, which are copied, and which are refused with what words."""

from __future__ import annotations

import array
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

import crossent
from arrays import BFLOAT16, DTYPES, INTEGERS, LAYOUTS, logits, name
from crossent._interop import as_array

SHAPE = (4, 6)
FLOAT32 = np.dtype(np.float32)


def values(dtype: np.dtype[Any] = FLOAT32, shape: tuple[int, ...] = SHAPE) -> NDArray[Any]:
    return logits(np.random.default_rng(0), shape, dtype)


def laid_out(x: NDArray[Any], layout: str) -> NDArray[Any]:
    with np.errstate(invalid="ignore"):  # the nan around a stepped view, as an integer
        return LAYOUTS[layout](x)


def swapped_bytes(x: NDArray[Any]) -> NDArray[Any]:
    """The same values in the other byte order (by way of integers: not every bfloat16 can swap its own)."""
    return x.view(f"u{x.itemsize}").byteswap().view(x.dtype.newbyteorder("S"))


def bits(x: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(x).tobytes()


def is_plain(x: object) -> bool:
    return type(x) is np.ndarray and x.flags.aligned and x.dtype.isnative


def address(x: NDArray[Any]) -> int:
    return int(x.__array_interface__["data"][0])


def assert_in_place(result: NDArray[Any], source: NDArray[Any]) -> None:
    """The same elements at the same addresses."""
    assert is_plain(result)
    assert (address(result), result.shape, result.strides, result.dtype) == (
        address(source),
        source.shape,
        source.strides,
        source.dtype,
    )


def assert_copied(result: NDArray[Any], source: NDArray[Any], expected: NDArray[Any]) -> None:
    assert is_plain(result)
    assert not np.shares_memory(result, source)
    assert result.dtype == expected.dtype
    assert result.shape == expected.shape
    assert bits(result) == bits(expected)


# ---- NumPy ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [*DTYPES, *INTEGERS, np.dtype(bool)], ids=name)
def test_arrays_are_read_in_place(dtype: np.dtype[Any], layout: str) -> None:
    x = laid_out(values(dtype), layout)
    assert_in_place(as_array(x, "input"), x)


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (3, 0), (1, 1)])
def test_small_shapes(shape: tuple[int, ...]) -> None:
    x = np.zeros(shape)
    assert_in_place(as_array(x, "input"), x)


def test_subclasses_become_plain_views(tmp_path: Any) -> None:
    class Custom(np.ndarray):
        pass

    x = values()
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    record = np.rec.array([(1.0, 2)], dtype=[("a", "f4"), ("b", "i4")])
    subclasses: list[NDArray[Any]] = [x.view(Custom), x.view(np.matrix), mapped, record["a"]]
    for subclass in subclasses:
        assert_in_place(as_array(subclass, "input"), subclass)
    assert as_array(x.view(np.matrix), "input")[0].shape == SHAPE[1:]


@pytest.mark.parametrize("dtype", [*DTYPES, *INTEGERS], ids=name)
@pytest.mark.parametrize("swapped", [False, True], ids=["native", "swapped"])
def test_a_field_of_a_packed_struct_is_copied(dtype: np.dtype[Any], swapped: bool) -> None:
    expected = values(dtype, (7,))
    stored = dtype.newbyteorder("S") if swapped else dtype
    struct = np.zeros(7, dtype=[("before", "u1"), ("x", stored), ("after", "u2")])
    struct["x"] = expected
    field = struct["x"]
    if dtype.itemsize == 1:
        assert as_array(field, "input").tolist() == expected.tolist()
    else:
        assert_copied(as_array(field, "input"), field, expected)


def test_a_field_whose_stride_is_not_a_multiple_of_its_size_is_copied() -> None:
    struct = np.zeros(4, dtype=[("x", "f8"), ("y", "f4")])  # 12 bytes apart
    struct["x"] = [1, 2, 3, 4]
    assert_copied(as_array(struct["x"], "input"), struct["x"], np.array([1.0, 2, 3, 4]))


@pytest.mark.parametrize("layout", ["C", "fortran", "negative", "stepped", "broadcast"])
@pytest.mark.parametrize("dtype", [d for d in (*DTYPES, *INTEGERS) if d.itemsize > 1], ids=name)
def test_swapped_bytes_are_put_right(dtype: np.dtype[Any], layout: str) -> None:
    expected = laid_out(values(dtype), layout)
    swapped = laid_out(swapped_bytes(values(dtype)), layout)
    assert not swapped.dtype.isnative
    assert_copied(as_array(swapped, "input"), swapped, expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_an_offset_buffer_is_copied(dtype: np.dtype[Any]) -> None:
    expected = values(dtype)
    memory = np.zeros(expected.nbytes + 1, np.uint8)
    unaligned = memory[1:].view(dtype).reshape(SHAPE)
    unaligned[...] = expected
    assert_copied(as_array(unaligned, "input"), unaligned, expected)
    assert as_array(unaligned.T, "input").flags.f_contiguous  # the copy keeps the order of the axes


@pytest.mark.parametrize("mask", [np.ma.nomask, True, [True, False, False]])
def test_masked_arrays_are_refused(mask: Any) -> None:
    masked = np.ma.MaskedArray([1.0, 2.0, 3.0], mask=mask)
    with pytest.raises(TypeError, match=r"^input is a masked array: got .*, expected .*; .*`where="):
        as_array(masked, "input")


@pytest.mark.parametrize(
    "scalar",
    [1, 2.5, True, np.float16(2.5), np.float32(2.5), np.int8(3), np.bool_(True), ml_dtypes.bfloat16(2.5)],
    ids=lambda scalar: type(scalar).__name__,
)
def test_scalars_become_arrays_without_axes(scalar: Any) -> None:
    result = as_array(scalar, "target")
    assert is_plain(result)
    assert result.shape == ()
    assert result == scalar
    if isinstance(scalar, np.generic):
        assert result.dtype == scalar.dtype


# ---- sequences, buffers and what is no array ------------------------------------------------------------


@pytest.mark.parametrize(
    ("obj", "dtype"),
    [
        ([[0.5, 1], [2, 3]], np.float64),
        ([1, 2], np.int64),
        ((0, -100), np.int64),
        (range(3), np.int64),
        ([True, False], np.bool_),
        ([], np.float64),
        ([np.float32(1), np.float32(2)], np.float32),
        ([ml_dtypes.bfloat16(1)], ml_dtypes.bfloat16),
        ([np.ones(2, np.float16), np.ones(2, np.float16)], np.float16),
    ],
)
def test_sequences(obj: Any, dtype: Any) -> None:
    result = as_array(obj, "input")
    assert is_plain(result)
    assert result.dtype == np.dtype(dtype)
    assert np.array_equal(result, np.array(obj))


def test_buffers_are_read_in_place() -> None:
    buffer = array.array("f", [1.0, 2.0, 3.0])
    for obj in (buffer, memoryview(buffer)):
        result = as_array(obj, "input")
        assert result.dtype == np.float32
        assert address(result) == buffer.buffer_info()[0]


@pytest.mark.parametrize("obj", [[[1.0, 2.0], [3.0]], [[1.0], 2.0], ([1], [2, 3])])
def test_ragged_lists_are_refused(obj: Any) -> None:
    with pytest.raises(ValueError, match=r"^input is ragged: got a (list|tuple) .*, expected .*; pad "):
        as_array(obj, "input")


@pytest.mark.parametrize(
    "obj",
    [
        None,
        {0: 1.0},
        {1.0},
        object(),
        [1.0, None],
        [2**70],
        (value for value in [1.0]),
        np.array([1.0, None]),
        np.array([1.0, None]).view(np.matrix),
    ],
    ids=lambda obj: type(obj).__name__,
)
def test_python_objects_are_refused(obj: Any) -> None:
    with pytest.raises(TypeError, match=r"^weight holds Python objects: got dtype object, expected .*; .+"):
        as_array(obj, "weight")


def test_an_endless_list_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(TypeError, match=r"^input cannot be read as an array: got list, expected .*; convert"):
        as_array(endless, "input")


# ---- protocols ------------------------------------------------------------------------------------------


class WithArray:
    """What any array library offers."""

    def __init__(self, x: NDArray[Any]) -> None:
        self.x = x

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self.x


class WithDLPack:
    """A library that offers DLPack and nothing else."""

    def __init__(self, x: NDArray[Any]) -> None:
        self.x = x

    def __dlpack__(self, **options: Any) -> Any:
        return self.x.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.x.__dlpack_device__()


class Broken:
    """An array whose memory cannot be had."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        raise self.error


@pytest.mark.parametrize("wrap", [WithArray, WithDLPack])
@pytest.mark.parametrize("layout", ["C", "fortran", "stepped"])
def test_protocols_are_read_in_place(wrap: Callable[[NDArray[Any]], Any], layout: str) -> None:
    x = laid_out(values(), layout)
    assert_in_place(as_array(wrap(x), "input"), x)


def test_what_a_protocol_gives_is_put_right_too() -> None:
    swapped = swapped_bytes(values())
    assert_copied(as_array(WithArray(swapped), "input"), swapped, values())
    with pytest.raises(TypeError, match="input holds Python objects"):
        as_array(WithArray(np.array([None])), "input")


@pytest.mark.parametrize(
    "error", [RuntimeError("lost\nand more"), BufferError("lost"), ValueError("lost"), TypeError("lost")]
)
def test_a_failure_of_the_other_library_is_told(error: Exception) -> None:
    name = type(error).__name__
    text = rf"^target cannot be read as an array: got .*Broken, expected .*; convert .* \({name}: lost\)$"
    with pytest.raises(TypeError, match=text) as caught:
        as_array(Broken(error), "target")
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt()])
def test_errors_of_the_process_pass(error: BaseException) -> None:
    with pytest.raises(type(error)):
        as_array(Broken(error), "target")


# ---- other libraries ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


class TestTorch:
    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "int32", "uint8", "bool"])
    @pytest.mark.parametrize("view", ["whole", "transposed", "stepped", "expanded", "scalar"])
    def test_tensors_are_read_in_place(self, torch: Any, dtype: str, view: str) -> None:
        tensor = self.view(torch.arange(24).reshape(4, 6).to(getattr(torch, dtype)), view)
        result = as_array(tensor, "input")
        assert_in_place(result, tensor.numpy())
        assert address(result) == tensor.data_ptr()

    @pytest.mark.parametrize("view", ["whole", "transposed", "stepped", "expanded", "scalar"])
    def test_bfloat16_is_read_in_place(self, torch: Any, view: str) -> None:
        tensor = self.view(torch.randn(4, 6).to(torch.bfloat16), view)
        result = as_array(tensor, "input")
        assert is_plain(result)
        assert result.dtype == BFLOAT16
        assert address(result) == tensor.data_ptr()
        assert result.strides == tuple(2 * stride for stride in tensor.stride())
        assert result.astype(np.float32).tolist() == tensor.float().tolist()

    @staticmethod
    def view(tensor: Any, view: str) -> Any:
        views = {
            "whole": tensor,
            "transposed": tensor.T,
            "stepped": tensor[::2, 1::3],
            "expanded": tensor[:1].expand(5, 6),
            "scalar": tensor[2, 3],
        }
        return views[view]

    @pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
    def test_gradients_are_detached(self, torch: Any, dtype: str) -> None:
        tensor = torch.ones(2, 3, dtype=getattr(torch, dtype), requires_grad=True)
        for obj in (tensor, torch.nn.Parameter(tensor)):
            assert address(as_array(obj, "input")) == obj.data_ptr()

    def test_subclasses_of_other_modules(self, torch: Any) -> None:
        cls = type("Named", (torch.Tensor,), {"__module__": "elsewhere"})
        tensor = torch.ones(3, dtype=torch.bfloat16).as_subclass(cls)
        assert as_array(tensor, "input").dtype == BFLOAT16

    def test_a_size_is_a_sequence(self, torch: Any) -> None:
        assert as_array(torch.Size([2, 3]), "target").tolist() == [2, 3]

    def test_a_negative_bit_is_resolved(self, torch: Any) -> None:
        tensor = torch.tensor([1 + 2j]).conj().imag
        assert tensor.is_neg()
        assert as_array(tensor, "input").tolist() == [-2.0]

    def test_other_devices_are_refused(self, torch: Any) -> None:
        text = r"^input is not in the CPU's memory: got a tensor on meta, expected .*; use `\.cpu\(\)`$"
        with pytest.raises(TypeError, match=text):
            as_array(torch.ones(2, 3, device="meta"), "input")

    @pytest.mark.filterwarnings("ignore::UserWarning")  # torch's own, on its sparse formats
    @pytest.mark.parametrize("convert", ["to_sparse", "to_sparse_csr", "to_mkldnn"])
    def test_other_layouts_are_refused(self, torch: Any, convert: str) -> None:
        tensor = getattr(torch.ones(2, 3), convert)()
        with pytest.raises(TypeError, match=r"^input is not a dense tensor: got torch\..*`\.to_dense\(\)`$"):
            as_array(tensor, "input")

    @pytest.mark.parametrize("conjugate", [False, True])
    def test_complex_tensors_are_refused(self, torch: Any, conjugate: bool) -> None:
        tensor = torch.ones(2, dtype=torch.complex64)
        with pytest.raises(
            TypeError, match=r"^input is complex: got torch.complex64, expected real numbers;"
        ):
            as_array(tensor.conj() if conjugate else tensor, "input")

    def test_dtypes_that_numpy_lacks_are_refused(self, torch: Any) -> None:
        with pytest.raises(TypeError, match=r"^input cannot be read as an array: got torch.Tensor"):
            as_array(torch.ones(2).to(torch.float8_e4m3fn), "input")

    def test_bfloat16_without_ml_dtypes(self, torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "ml_dtypes", None)  # what an import of a missing module comes to
        text = r"^input has a dtype that NumPy lacks: .*`pip install ml_dtypes`, or use `\.float\(\)`"
        with pytest.raises(TypeError, match=text):
            as_array(torch.ones(2, dtype=torch.bfloat16), "input")
        assert as_array(torch.ones(2), "input").tolist() == [1.0, 1.0]


@pytest.fixture(scope="module")
def jnp() -> Any:
    return pytest.importorskip("jax.numpy")


class TestJax:
    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "int32"])
    def test_arrays_are_read_in_place(self, jnp: Any, dtype: str) -> None:
        x = jnp.arange(24, dtype=dtype).reshape(4, 6)
        result = as_array(x, "input")
        assert is_plain(result)
        assert result.dtype.name == dtype
        assert address(result) == x.unsafe_buffer_pointer()

    def test_tracers_are_refused(self, jnp: Any) -> None:
        jax = pytest.importorskip("jax")
        with pytest.raises(
            TypeError, match=r"^input is a traced value without numbers: .*outside of jax.jit"
        ):
            jax.jit(lambda x: as_array(x, "input"))(jnp.ones(3))


@pytest.fixture(scope="module")
def pa() -> Any:
    return pytest.importorskip("pyarrow")


class TestArrow:
    def test_a_tensor(self, pa: Any) -> None:
        x = values()
        assert_in_place(as_array(pa.Tensor.from_numpy(x), "input"), x)

    def test_an_array_and_its_slice(self, pa: Any) -> None:
        source = np.arange(5)
        for start in (0, 2):
            assert_in_place(as_array(pa.array(source)[start:], "target"), source[start:])

    def test_bool_is_unpacked(self, pa: Any) -> None:
        result = as_array(pa.array([True, False, True]), "where")
        assert result.dtype == bool
        assert result.tolist() == [True, False, True]

    @pytest.mark.parametrize("chunks", [[], [[1, 2]], [[1], [2, 3]]])
    def test_a_chunked_array(self, pa: Any, chunks: list[list[int]]) -> None:
        result = as_array(pa.chunked_array(chunks, pa.int64()), "target")
        assert result.dtype == np.int64
        assert result.tolist() == [value for chunk in chunks for value in chunk]

    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    def test_a_list_of_fixed_size_is_a_matrix(self, pa: Any, dtype: str) -> None:
        source = values(np.dtype(dtype))
        rows = pa.FixedSizeListArray.from_arrays(pa.array(source.ravel()), 6)
        assert_in_place(as_array(rows, "input"), source)
        assert_in_place(as_array(rows[1:3], "input"), source[1:3])
        assert as_array(pa.chunked_array([rows, rows]), "input").shape == (8, 6)
        assert as_array(rows[:0], "input").shape == (0, 6)
        assert as_array(pa.FixedSizeListArray.from_arrays(rows, 2), "input").shape == (2, 2, 6)

    def test_a_tensor_of_fixed_shape(self, pa: Any) -> None:
        source = values(shape=(4, 2, 3))
        storage = pa.FixedSizeListArray.from_arrays(pa.array(source.ravel()), 6)
        tensors = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), (2, 3)), storage)
        assert_in_place(as_array(tensors, "input"), source)

    def test_nulls_are_refused(self, pa: Any) -> None:
        inner = pa.FixedSizeListArray.from_arrays(pa.array([1.0, None]), 2)
        tensors = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float64(), (2,)), inner)
        outer = pa.array([[1.0, 2.0], None], pa.list_(pa.float64(), 2))
        flat = pa.array([0, None])
        table = pa.table({"a": flat})
        for obj in (flat, pa.chunked_array([flat]), inner, tensors, outer, table):
            with pytest.raises(
                ValueError, match=r"^target has nulls: got 1 in a .*, expected none; fill them"
            ):
                as_array(obj, "target")

    def test_a_table_is_a_matrix(self, pa: Any) -> None:
        table = pa.table({"a": [1.0, 2.0], "b": [3.0, 4.0]})
        assert as_array(table, "input").tolist() == [[1.0, 3.0], [2.0, 4.0]]

    def test_text_and_decimals_are_refused(self, pa: Any) -> None:
        decimals = pa.array([1], pa.decimal128(5))
        for obj in (decimals, pa.array(["a"]), pa.scalar(1.0)):
            with pytest.raises(TypeError, match=r"^input holds Python objects"):
                as_array(obj, "input")


@pytest.fixture(scope="module")
def pl() -> Any:
    return pytest.importorskip("polars")


@pytest.fixture(scope="module")
def pd() -> Any:
    return pytest.importorskip("pandas")


class TestFrames:
    def test_polars(self, pl: Any) -> None:
        assert as_array(pl.Series([1, 2]), "target").tolist() == [1, 2]
        rows = as_array(pl.Series([[1, 2], [3, 4]], dtype=pl.Array(pl.Float32, 2)), "input")
        assert rows.dtype == np.float32
        assert rows.tolist() == [[1, 2], [3, 4]]
        assert as_array(pl.DataFrame({"a": [1.0], "b": [2.0]}), "input").tolist() == [[1.0, 2.0]]

    def test_polars_nulls_are_refused(self, pl: Any) -> None:
        for obj in (pl.Series([1, None]), pl.DataFrame({"a": [1.0, None], "b": [1.0, 2.0]})):
            with pytest.raises(ValueError, match=r"^target has nulls: got 1 in a polars"):
                as_array(obj, "target")

    def test_pandas(self, pd: Any) -> None:
        x = values()
        series = pd.Series(x[:, 0].copy())
        assert_in_place(as_array(series, "input"), series.to_numpy())
        assert np.array_equal(as_array(pd.DataFrame(x), "input"), x)
        assert as_array(pd.Series([1, 2], dtype="category"), "target").tolist() == [1, 2]

    def test_frames_of_objects_are_refused(self, pd: Any) -> None:
        for obj in (pd.DataFrame({"a": [1.0], "b": ["x"]}), pd.Series([1, "x"], dtype=object)):
            with pytest.raises(TypeError, match=r"^input holds Python objects: got dtype object"):
                as_array(obj, "input")


X = np.array([[0.5, 1.5, -2.0], [3.0, 0.25, 1.0]])


class TestTables:
    """Tables and columns of pandas, polars and PyArrow that NumPy makes objects of."""

    @pytest.mark.parametrize(
        "dtype", ["Float64", "Float32", "double[pyarrow]", "float[pyarrow]", "Sparse[float64]"]
    )
    def test_pandas_frames_of_their_own_dtypes(self, pd: Any, pa: Any, dtype: str) -> None:
        result = as_array(pd.DataFrame(X).astype(dtype), "input")
        assert result.dtype == (np.float32 if dtype in ("Float32", "float[pyarrow]") else np.float64)
        np.testing.assert_array_equal(result, X)
        mixed = pd.DataFrame(X).astype({0: dtype})
        np.testing.assert_array_equal(as_array(mixed, "input"), X)

    @pytest.mark.parametrize(
        "dtype", ["Int64", "UInt8", "int64[pyarrow]", "int8[pyarrow]", "category", "Sparse[int64]"]
    )
    def test_pandas_integers_of_their_own_dtypes(self, pd: Any, pa: Any, dtype: str) -> None:
        series = pd.Series([2, 0, 1]).astype(dtype)
        for obj in (series, series.array, pd.Index(series)):
            result = as_array(obj, "target")
            assert result.dtype.kind in "iu"
            assert result.tolist() == [2, 0, 1]

    @pytest.mark.parametrize("dtype", ["boolean", "bool[pyarrow]", "bool"])
    def test_pandas_masks(self, pd: Any, pa: Any, dtype: str) -> None:
        assert as_array(pd.Series([True, False], dtype=dtype), "where").tolist() == [True, False]

    @pytest.mark.parametrize("dtype", ["Int64", "Float64", "int64[pyarrow]", "double[pyarrow]"])
    def test_the_first_null_of_pandas_is_named(self, pd: Any, pa: Any, dtype: str) -> None:
        series = pd.Series([1, None, 2, None], dtype=dtype)
        text = (
            r"^target has nulls: got 2 in a pandas.*, the first at row 1, .*; fill them .*`\.fillna\(-100\)`$"
        )
        with pytest.raises(ValueError, match=text):
            as_array(series, "target")
        with pytest.raises(ValueError, match="row 1 of the column 'b', expected none; leave such rows out"):
            as_array(pd.DataFrame({"a": [1.0] * 4, "b": series}), "input")

    def test_polars_lists_of_one_length(self, pl: Any) -> None:
        for dtype in (pl.List(pl.Float64), pl.Array(pl.Float64, 3), pl.List(pl.Array(pl.Float64, 3))):
            nested = isinstance(dtype.inner, pl.Array)
            values = [X.tolist(), (-X).tolist()] if nested else X.tolist()
            result = as_array(pl.Series(values, dtype=dtype), "input")
            np.testing.assert_array_equal(result, values)
        assert as_array(pl.Series([[], []], dtype=pl.List(pl.Float32)), "input").shape == (2, 0)
        chunks = pl.concat([pl.Series(X.tolist()), pl.Series(X.tolist())], rechunk=False)
        np.testing.assert_array_equal(as_array(chunks[1:3], "input"), [X[1], X[0]])

    def test_lists_of_pyarrow_of_one_length(self, pa: Any, pd: Any) -> None:
        for dtype in (pa.list_(pa.float64()), pa.large_list(pa.float64()), pa.list_(pa.float64(), 3)):
            array = pa.array(X.tolist(), dtype)
            for obj in (array, array[:1], pa.chunked_array([array, array])[1:3]):
                np.testing.assert_array_equal(as_array(obj, "input"), obj.to_pylist())
        series = pd.Series(X.tolist(), dtype=pd.ArrowDtype(pa.list_(pa.float64())))
        np.testing.assert_array_equal(as_array(series, "input"), X)
        assert as_array(pa.array([], pa.list_(pa.float64())), "input").shape == (0, 0)

    def test_lists_of_other_lengths_are_ragged(self, pa: Any, pl: Any) -> None:
        for obj in (pa.array([[1.0, 2.0], [1.0, 2.0], [3.0]]), pl.Series([[1.0, 2.0], [1.0, 2.0], [3.0]])):
            with pytest.raises(
                ValueError, match=r"^input is ragged: got a .* of lists of 2 items, and one of 1 at row 2"
            ):
                as_array(obj, "input")

    def test_nulls_in_lists_name_the_row(self, pa: Any, pl: Any) -> None:
        values = [[1.0, 2.0], [1.0, 2.0], [3.0, None]]
        fixed = pa.array(values, pa.list_(pa.float64(), 2))
        for obj in (
            pa.array(values),
            fixed,
            pl.Series(values),
            pl.Series(values, dtype=pl.Array(pl.Float64, 2)),
        ):
            with pytest.raises(ValueError, match=r"^input has nulls: got 1 in a .*, the first at row 2, "):
                as_array(obj, "input")

    def test_structs_are_tables(self, pa: Any, pl: Any) -> None:
        table = pa.table({"a": X[:, 0], "b": X[:, 1]})
        for obj in (
            table,
            table.to_batches()[0],
            table.to_struct_array(),
            pl.from_arrow(table).to_struct("s"),
        ):
            np.testing.assert_array_equal(as_array(obj, "input"), X[:, :2])

    def test_a_column_that_is_no_class_is_named(self, pa: Any, pl: Any, pd: Any) -> None:
        frame = pd.DataFrame(X, columns=["a", "b", "c"])
        for values, problem in (
            (["x", "y"], "Python objects|no numbers"),
            ([0, 1], "column of another kind"),
            ([True, False], "column of another kind"),
        ):
            wrong = frame.assign(label=values)
            table = pa.Table.from_pandas(wrong)
            tables = {
                "x.drop(columns=['label'])": wrong,
                "x.drop_columns(['label'])": table,
                "x.drop('label')": pl.from_arrow(table),
            }
            for fix, obj in tables.items():
                with pytest.raises(TypeError, match=rf"^x h\w+ .*({problem}).*column 'label'") as caught:
                    as_array(obj, "x")
                assert f"with {fix}" in str(caught.value)
                np.testing.assert_array_equal(as_array(eval(fix, {"x": obj}), "x"), X)

    def test_a_frame_of_lists_names_its_column(self, pa: Any, pl: Any) -> None:
        frame = pl.DataFrame({"logits": X.tolist()})
        for obj in (frame, frame.to_arrow()):
            with pytest.raises(TypeError, match=r"pass that column alone, as x\['logits'\]"):
                as_array(obj, "x")
            np.testing.assert_array_equal(as_array(obj["logits"], "x"), X)

    def test_numbers_as_objects_say_how_they_become_an_array(self, pd: Any) -> None:
        for obj, argument in (
            (pd.DataFrame(X).astype(object), "input"),
            (np.array([2, 0], object), "target"),
        ):
            with pytest.raises(TypeError, match="holds Python objects") as caught:
                as_array(obj, argument)
            fix = str(caught.value).rpartition("with ")[2]
            result = eval(fix, {"numpy": np, argument: obj})
            assert result.dtype == (np.int64 if argument == "target" else np.float64)
            np.testing.assert_array_equal(result, np.asarray(obj).astype(float))

    def test_objects_name_the_first_that_is_no_number(self) -> None:
        for obj, text in (
            ([0, None, 1], r"\[1\] is None: fill them"),
            (np.array([[1, 2], [3, "x"]], object), r"\[1, 1\] is 'x': convert each name"),
            (np.array([np.ones(2), np.ones(3)], object), r"\[0\] is array.*numpy\.stack"),
        ):
            with pytest.raises(TypeError, match=text):
                as_array(obj, "target")

    def test_a_lazy_frame_is_to_be_collected(self, pl: Any) -> None:
        with pytest.raises(TypeError, match=r"use `\.collect\(\)`"):
            as_array(pl.LazyFrame({"a": [1.0]}), "input")


class TestDask:
    @pytest.mark.parametrize(
        "module",
        ["dask.array.core", "dask.dataframe.dask_expr._collection", "dask.delayed", "dask_expr._collection"],
    )
    def test_a_collection_is_not_computed(self, module: str) -> None:
        def computed(*_: Any, **__: Any) -> Any:
            raise AssertionError("it was brought into memory")

        cls = type("Array", (), {"__module__": module, "__array__": computed, "shape": (2, 3), "ndim": 2})
        lazy: Any = cls()
        for call in (
            lambda: crossent.cross_entropy(lazy, [0, 1]),
            lambda: crossent.cross_entropy(np.zeros((2, 3)), lazy),
            lambda: crossent.cross_entropy(np.zeros((2, 3)), [0, 1], where=lazy),
            lambda: crossent.score(lazy, [0, 1]),
            lambda: crossent.Scorer().update(lazy, [0, 1]),
            lambda: crossent.compare(np.zeros((2, 3)), lazy),
            lambda: crossent.fit_temperature(lazy, [0, 1]),
            lambda: crossent.log_loss(lazy, [[0.5, 0.5]]),
            lambda: crossent.log_loss([0, 1], lazy),
            lambda: crossent.softmax(lazy),
        ):
            with pytest.raises(TypeError, match=r"is a Dask collection: .*; crossent\.dask.*`\.compute\(\)`"):
                call()

    def test_an_array_of_xarray_on_one_is_not_computed(self) -> None:
        dask = type("Array", (), {"__module__": "dask.array.core"})()
        variable = type("Variable", (), {"_data": dask})()
        cls = type("DataArray", (), {"__module__": "xarray.core.dataarray", "variable": variable})
        with pytest.raises(TypeError, match="is a Dask collection"):
            as_array(cls(), "input")
        held = type("DataArray", (WithArray,), {"__module__": "xarray.core.dataarray"})
        np.testing.assert_array_equal(as_array(held(X), "input"), X)


class TestLabels:
    @pytest.mark.parametrize("dtype", ["object", "str", "string", "string[pyarrow]", "category"])
    def test_labels_of_pandas(self, pd: Any, pa: Any, dtype: str) -> None:
        p = [[0.1, 0.9], [0.9, 0.1], [0.8, 0.2], [0.35, 0.65]]
        labels = pd.Series(["spam", "ham", "ham", "spam"]).astype(dtype)
        assert crossent.log_loss(labels, p) == crossent.log_loss([1, 0, 0, 1], p)
        missing = labels.copy()
        missing[2] = None
        with pytest.raises(
            (TypeError, ValueError),
            match=r"^y_true has .*(row 2|at \[2\]), expected none; leave such rows out",
        ):
            crossent.log_loss(missing, p)

    def test_labels_of_pyarrow_and_polars(self, pa: Any, pl: Any) -> None:
        p = [[0.1, 0.9], [0.9, 0.1], [0.8, 0.2], [0.35, 0.65]]
        labels = ["spam", "ham", "ham", "spam"]
        encoded = pa.array(labels).dictionary_encode()
        for obj in (pa.array(labels), encoded, pl.Series(labels), pl.Series(labels, dtype=pl.Categorical)):
            assert crossent.log_loss(obj, p) == crossent.log_loss([1, 0, 0, 1], p)


# ---- imports --------------------------------------------------------------------------------------------


def test_no_library_is_loaded() -> None:
    code = """
import sys
import numpy as np
from crossent._interop import as_array
as_array([[1.0, 2.0]], "input"), as_array(np.ones((2, 3)).T, "input")
others = {"torch", "jax", "jaxlib", "pyarrow", "polars", "pandas", "ml_dtypes", "scipy", "tqdm", "email"}
sys.exit(f"loaded: {others & set(sys.modules)}" if others & set(sys.modules) else 0)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
