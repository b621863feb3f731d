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

from arrays import BFLOAT16, DTYPES, INTEGERS, LAYOUTS, logits, name
from crossent.interop import as_array

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

    def test_lists_and_decimals_are_refused(self, pa: Any) -> None:
        decimals = pa.array([1], pa.decimal128(5))
        for obj in (pa.array([[1.0], [2.0, 3.0]]), decimals, pa.array(["a"]), pa.scalar(1.0)):
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


# ---- imports --------------------------------------------------------------------------------------------


def test_no_library_is_loaded() -> None:
    code = """
import sys
import numpy as np
from crossent.interop import as_array
as_array([[1.0, 2.0]], "input"), as_array(np.ones((2, 3)).T, "input")
others = {"torch", "jax", "jaxlib", "pyarrow", "polars", "pandas", "ml_dtypes", "scipy", "tqdm", "email"}
sys.exit(f"loaded: {others & set(sys.modules)}" if others & set(sys.modules) else 0)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
