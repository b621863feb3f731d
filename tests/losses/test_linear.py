"""The cross entropy of logits that are a product: its definition, torch's gradients, blocks, memory, errors."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import crossent
import reference
from arrays import BFLOAT16, DTYPES, LAYOUTS, Array, DType
from blas import needs_equal_rows
from children import environment
from crossing import crossed

# Rows, features and classes: below, at and beyond the 64 that products are multiples of, and sums that BLAS cuts.
SHAPES = [((), 8, 50), ((5,), 3, 2), ((150,), 70, 131), ((64,), 64, 64), ((3, 50), 300, 70)]


def arguments(
    shape: tuple[int, ...], features: int, classes: int, dtype: Any = np.float64, seed: int = 0
) -> dict[str, Any]:
    """Everything that a call takes; ignored targets are among the targets, and the first row counts."""
    rng = np.random.default_rng(seed)
    target = np.asarray(rng.integers(classes, size=shape))
    target[rng.random(shape) < 0.25] = -100
    target.reshape(-1)[0] = 1
    where = np.asarray(rng.random(shape) < 0.8)
    where.reshape(-1)[0] = True
    return {
        "input": rng.normal(size=(*shape, features)).astype(dtype),
        "linear_weight": (rng.normal(size=(classes, features)) * 0.4).astype(dtype),
        "target": target,
        "linear_bias": rng.normal(size=classes).astype(dtype),
        "weight": rng.random(classes),
        "where": where,
    }


def counted(target: Array, where: Array | None) -> Array:
    return (target != -100) & (True if where is None else where)


def of_torch(
    input: Array,
    linear_weight: Array,
    target: Array,
    *,
    linear_bias: Array | None = None,
    weight: Array | None = None,
    where: Array | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    softcap: float | None = None,
    z_loss: float = 0.0,
    grad_output: Any = 1.0,
) -> tuple[Array, list[Array | None]]:
    """The loss and the gradients by torch's autograd, in float64, of the rows that count."""
    torch = pytest.importorskip("torch")
    leaves: list[Any] = [
        None if x is None else torch.tensor(x.astype(np.float64), requires_grad=True)
        for x in (input, linear_weight, linear_bias)
    ]
    active = torch.tensor(counted(target, where).reshape(-1))
    kept = torch.tensor(target.reshape(-1))[active]
    x = torch.nn.functional.linear(leaves[0].reshape(-1, input.shape[-1])[active], *leaves[1:])
    x = x if softcap is None else softcap * torch.tanh(x / softcap)
    w = None if weight is None else torch.tensor(weight.astype(np.float64))
    losses = torch.nn.functional.cross_entropy(x, kept, w, reduction="none", label_smoothing=label_smoothing)
    squares = z_loss * torch.logsumexp(x, 1) ** 2
    if reduction == "none":
        loss = torch.zeros(target.size, dtype=torch.float64)
        loss[active] = losses + squares
        loss = loss.reshape(target.shape)
    elif reduction == "sum":
        loss = (losses + squares).sum()
    else:
        loss = losses.sum() / (len(kept) if w is None else w[kept].sum()) + squares.mean()
    loss.backward(torch.tensor(grad_output, dtype=torch.float64).expand(loss.shape))
    return loss.detach().numpy(), [None if leaf is None else leaf.grad.numpy() for leaf in leaves]


def assert_near(got: Any, want: Any, tolerance: float) -> None:
    """Within a share of the largest number."""
    assert np.shape(got) == np.shape(want)
    scale = np.abs(want).max(initial=0.0)
    np.testing.assert_allclose(np.asarray(got, np.float64), want, rtol=0, atol=tolerance * max(scale, 1e-30))


OPTIONS = crossed(
    SHAPES,
    [False, True],  # linear_bias
    [False, True],  # weight
    [False, True],  # where
    [0.0, 0.1],  # label_smoothing
    [None, 3.0],  # softcap
    [0.0, 0.05],  # z_loss
    ["mean", "sum", "none"],
    [None, 0, 200_000],  # block_bytes: one block, blocks of 64 rows, and some in between
    more=40,
)


@pytest.mark.parametrize("option", OPTIONS, ids=repr)
def test_values_and_gradients_are_those_of_torch(option: tuple[Any, ...]) -> None:
    shape, bias, weight, where, smoothing, softcap, z_loss, reduction, block_bytes = option
    given = arguments(*shape)
    for key, wanted in (("linear_bias", bias), ("weight", weight), ("where", where)):
        if not wanted:
            given[key] = None
    given |= {"label_smoothing": smoothing, "softcap": softcap, "z_loss": z_loss, "reduction": reduction}
    upstream: Any = 1.5
    if reduction == "none":
        upstream = np.random.default_rng(1).normal(size=shape[0])
    want, gradients = of_torch(**given, grad_output=upstream)
    # What ignored rows hold has no effect.
    given["input"] = np.where(
        counted(given["target"], given["where"])[..., np.newaxis], given["input"], np.nan
    )
    got, found = crossent.linear_cross_entropy_and_grad(
        **given, grad_output=upstream, block_bytes=block_bytes
    )
    assert_near(got, want, 1e-12)
    for one, other in zip(found, gradients, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert_near(one, other, 1e-11)
    loss = crossent.linear_cross_entropy(**given, block_bytes=block_bytes)
    assert_near(loss, want, 1e-12)
    given["input"] = np.nan_to_num(given["input"])
    assert_near(loss, reference.linear_cross_entropy(**given), 1e-12)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("softcap", [None, 4.0])
def test_each_gradient_has_the_dtype_of_its_argument(dtype: DType, softcap: float | None) -> None:
    tolerance = {8: 1e-11, 4: 3e-5, 2: 1e-3 if dtype == np.float16 else 8e-3}[dtype.itemsize]
    given = arguments((150,), 70, 131, dtype) | {"softcap": softcap}
    want, gradients = of_torch(**given)
    for block_bytes in (None, 100_000):
        loss, found = crossent.linear_cross_entropy_and_grad(**given, block_bytes=block_bytes)
        assert loss.dtype == (np.float64 if dtype == np.float64 else np.float32)
        assert_near(loss, want, 3e-6)
        for one, other in zip(found, gradients, strict=True):
            assert one is not None
            assert one.dtype == dtype
            assert_near(one, other, tolerance)


def test_dtypes_may_be_mixed() -> None:
    given = arguments((70,), 20, 33)
    given["input"] = given["input"].astype(BFLOAT16)
    given["linear_weight"] = given["linear_weight"].astype(np.float16)
    want, gradients = of_torch(**given)
    loss, found = crossent.linear_cross_entropy_and_grad(**given)
    assert loss.dtype == np.float64  # the bias is of float64
    assert_near(loss, want, 1e-12)
    assert [None if g is None else g.dtype for g in found] == [BFLOAT16, np.float16, np.float64]
    # Rounded once, from float64.
    want_bits = np.asarray(gradients[0]).astype(np.float32).astype(BFLOAT16)
    assert (found.input != want_bits).mean() < 1e-3
    given["linear_bias"] = None
    assert crossent.linear_cross_entropy(**given).dtype == np.float32
    half = crossent.linear_cross_entropy(**given, dtype=np.float16, reduction="none")
    full = crossent.linear_cross_entropy(**given, dtype=np.float64, reduction="none")
    np.testing.assert_array_equal(half, full.astype(np.float16))


def test_numbers_of_float64_are_rounded_to_bfloat16_once() -> None:
    # Just above the middle between two numbers: by way of float32 they would go to the even one.
    loss = crossent.linear_cross_entropy(
        np.array([[1.0 + 2.0**-8 + 2.0**-40]]), [[0.0], [800.0]], [0], dtype=ml_dtypes.bfloat16
    )
    assert float(loss) == 804.0
    below, above = 1.0, 1.0 + 2.0**-7
    one = crossent.linear_cross_entropy_and_grad(
        np.ones((1, 1)),
        np.array([[0.0], [0.0]]),
        [0],
        reduction="sum",
        grad_output=2.0 * (1 + 2.0**-8 + 2.0**-40),
    )[1].linear_weight
    assert -one[0, 0] == 1 + 2.0**-8 + 2.0**-40
    rounded = crossent.linear_cross_entropy_and_grad(
        np.ones((1, 1)),
        np.zeros((2, 1), BFLOAT16),
        [0],
        reduction="sum",
        grad_output=2.0 * (1 + 2.0**-8 + 2.0**-40),
    )[1].linear_weight
    assert below < -float(rounded[0, 0]) == above


@pytest.mark.parametrize("layout", [key for key in LAYOUTS if key != "broadcast"])
def test_layouts_change_no_bit(layout: str) -> None:
    given = arguments((90,), 40, 65, np.float32)
    loss, found = crossent.linear_cross_entropy_and_grad(**given)
    for key in ("input", "linear_weight", "linear_bias", "target"):
        moved = given | {key: LAYOUTS[layout](given[key])}
        again, others = crossent.linear_cross_entropy_and_grad(**moved)
        assert again == loss
        for one, other in zip(found, others, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_matrix_that_blas_cannot_read_is_read_in_pieces() -> None:
    given = arguments((70,), 24, 300, np.float32)
    want = crossent.linear_cross_entropy(**given)
    doubled = np.repeat(given["linear_weight"], 2, axis=1)[:, ::2]
    flipped = given["linear_weight"][::-1].copy()[::-1]
    for weight in (doubled, flipped, given["linear_weight"].T.copy().T):
        for block_bytes in (None, 50_000):
            assert crossent.linear_cross_entropy(
                **given | {"linear_weight": weight}, block_bytes=block_bytes
            ) == pytest.approx(want, rel=1e-6)


def test_a_bias_of_minus_infinity_masks_a_class() -> None:
    given = arguments((80,), 12, 20) | {"softcap": 5.0, "label_smoothing": 0.0}
    given["target"][given["target"] == 7] = 8
    given["linear_bias"][7] = -np.inf
    loss, found = crossent.linear_cross_entropy_and_grad(**given)
    assert np.isfinite(loss)
    for gradient in found:
        assert gradient is not None
        assert np.isfinite(gradient).all()
    assert not found.linear_weight[7].any()
    less = {key: np.delete(given[key], 7, 0) for key in ("linear_weight", "linear_bias", "weight")}
    target = given["target"]
    less["target"] = np.where(target > 7, target - 1, target)
    again, others = crossent.linear_cross_entropy_and_grad(**given | less)
    assert again == pytest.approx(loss, rel=1e-14)
    np.testing.assert_allclose(np.delete(found.linear_weight, 7, 0), others.linear_weight, atol=1e-15)


def test_a_row_that_holds_nan_disturbs_no_other() -> None:
    given = arguments((130,), 10, 33, np.float32) | {"reduction": "none", "where": None}
    given["target"][[3, 70]] = 1
    want, _ = crossent.linear_cross_entropy_and_grad(**given)
    for bad in (np.nan, np.inf):
        spoilt = given["input"].copy()
        spoilt[[3, 70], 4] = bad
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            got, gradients = crossent.linear_cross_entropy_and_grad(**given | {"input": spoilt})
        assert np.isnan(got[[3, 70]]).all()
        others = np.delete(np.arange(130), [3, 70])
        np.testing.assert_array_equal(got[others], want[others])
        assert np.isnan(gradients.input[[3, 70]]).all()
        assert np.isfinite(gradients.input[others]).all()


@needs_equal_rows
def test_losses_have_the_bits_of_the_loss_of_the_logits() -> None:
    for dtype in (np.float32, np.float64):
        given = arguments((3, 50), 32, 1000, dtype)
        hidden, matrix = given.pop("input"), given.pop("linear_weight")
        logits = crossent.LinearLogits(
            hidden, matrix, given.pop("linear_bias"), softcap=6.0, block_bytes=10**6
        )
        whole = np.asarray(logits)
        for reduction in ("mean", "sum", "none"):
            options: Any = given | {"reduction": reduction, "label_smoothing": 0.1, "z_loss": 0.0}
            one = crossent.cross_entropy(logits, **options)
            # Sums are exact here, and the weights beside them are added up too.
            rtol = 0.0 if reduction == "none" else 1e-15 if dtype == np.float64 else 1e-7
            np.testing.assert_allclose(one, crossent.cross_entropy(whole, axis=-1, **options), rtol=rtol)
            assert one.dtype == dtype
        out = np.empty((3, 50), dtype)
        assert crossent.cross_entropy(logits, **given, reduction="none", axis=-1, out=out) is out
        np.testing.assert_array_equal(out, crossent.cross_entropy(whole, **given, reduction="none", axis=-1))


def test_threads_change_no_bit() -> None:
    given = arguments((500,), 48, 333, np.float32) | {"softcap": 9.0}
    before = crossent.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            crossent.set_num_threads(threads)
            results.append(crossent.linear_cross_entropy_and_grad(**given, block_bytes=400_000))
    finally:
        crossent.set_num_threads(before)
    for loss, gradients in results[1:]:
        assert loss == results[0][0]
        for one, other in zip(gradients, results[0][1], strict=True):
            np.testing.assert_array_equal(one, other)


BITS = """
import numpy as np
import crossent

for rows, features, classes in ((300, 300, 203), (200, 100, 9973), (150, 777, 65)):
    for dtype in (np.float32, np.float64):
        rng = np.random.default_rng(0)
        hidden, matrix = (rng.normal(size=(n, features)).astype(dtype) for n in (rows, classes))
        target = rng.integers(classes, size=rows)
        for block_bytes in (0, None):
            losses = crossent.linear_cross_entropy(
                hidden, matrix, target, reduction="none", block_bytes=block_bytes
            )
            print(losses.tobytes().hex())
        _, gradients = crossent.linear_cross_entropy_and_grad(hidden, matrix, target)
        print(gradients.input.tobytes().hex(), gradients.linear_weight.tobytes().hex())
"""


@needs_equal_rows
def test_threads_of_blas_change_no_bit() -> None:
    printed = [
        subprocess.run(
            [sys.executable, "-c", BITS],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
            env=environment(OPENBLAS_NUM_THREADS=str(threads), CROSSENT_NUM_THREADS=str(threads)),
        ).stdout.splitlines()
        for threads in (1, 2)
    ]
    assert printed[0] == printed[1]
    assert printed[0][0] == printed[0][1]


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3)])
def test_no_rows(shape: tuple[int, ...]) -> None:
    hidden, weight, target = np.zeros((*shape, 4)), np.ones((6, 4)), np.zeros(shape, int)
    with pytest.warns(crossent.LikelyMistakeWarning, match="empty batch"):
        loss, gradients = crossent.linear_cross_entropy_and_grad(
            hidden, weight, target, linear_bias=np.zeros(6)
        )
    assert np.isnan(loss)
    for gradient, like in zip(gradients, (hidden, weight, np.zeros(6)), strict=True):
        np.testing.assert_array_equal(gradient, np.zeros_like(like))
    assert crossent.linear_cross_entropy(hidden, weight, target, reduction="sum") == 0
    assert crossent.linear_cross_entropy(hidden, weight, target, reduction="none").shape == shape


def test_warnings_come_once_and_name_the_callers_line() -> None:
    given = arguments((200,), 4, 6)
    ignored = given | {"target": np.full(200, -100)}
    one_class = {key: given[key][:1] for key in ("linear_weight", "linear_bias", "weight")}
    cases = (
        (ignored, "every row is ignored"),
        (given | one_class | {"target": np.zeros(200, int), "z_loss": 0.5}, "one class only"),
    )
    for arguments_, text in cases:
        for function in (crossent.linear_cross_entropy, crossent.linear_cross_entropy_and_grad):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                function(**arguments_, block_bytes=0)
            assert [str(w.message).count(text) for w in caught] == [1]
            assert caught[0].filename == __file__
    with pytest.warns(crossent.LikelyMistakeWarning):
        _, gradients = crossent.linear_cross_entropy_and_grad(**ignored)
    assert not gradients.linear_weight.any()


def test_nothing_is_said_of_hidden_states_that_make_probabilities() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(4), 300)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = crossent.linear_cross_entropy(p, np.eye(4), np.zeros(300, int), block_bytes=0)
    assert got == pytest.approx(float(reference.cross_entropy(p, np.zeros(300, int))), rel=1e-14)


def test_one_class_has_the_loss_of_its_square() -> None:
    hidden, weight, target = np.array([[2.0], [3.0]]), np.array([[0.5]]), np.zeros(2, int)
    with pytest.warns(crossent.LikelyMistakeWarning):
        loss, gradients = crossent.linear_cross_entropy_and_grad(
            hidden, weight, target, z_loss=0.25, reduction="none"
        )
    np.testing.assert_array_equal(loss, [0.25, 0.5625])
    np.testing.assert_array_equal(gradients.input, [[0.25], [0.375]])
    np.testing.assert_array_equal(gradients.linear_weight, [[1.0 + 2.25]])


def test_weights_that_sum_to_nothing_are_as_for_the_loss_of_logits() -> None:
    rng = np.random.default_rng(0)
    hidden, matrix, target = rng.normal(size=(3, 5)), rng.normal(size=(4, 5)), np.array([0, 1, 2])
    logits = hidden @ matrix.T
    for weight in ([1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0], [1.0, -3.0, 0.5, 1.0]):
        for smoothing in (0.0, 0.1):
            for z_loss in (0.0, 0.1):
                options: Any = {"weight": weight, "label_smoothing": smoothing, "z_loss": z_loss}
                want, slopes = crossent.cross_entropy_and_grad(logits, target, **options)
                got, gradients = crossent.linear_cross_entropy_and_grad(hidden, matrix, target, **options)
                np.testing.assert_allclose(got, want, rtol=1e-13)
                if np.isfinite(want):
                    np.testing.assert_allclose(gradients.input, slopes @ matrix, rtol=1e-12)
                else:
                    assert not np.isfinite(gradients.input).any()


def test_arrays_of_other_libraries_are_read() -> None:
    torch = pytest.importorskip("torch")
    given = arguments((70,), 16, 40, np.float32)
    want = crossent.linear_cross_entropy(**given)
    tensors = {key: torch.tensor(value) for key, value in given.items()}
    assert crossent.linear_cross_entropy(**tensors) == want
    lists = {key: given[key].astype(np.float64).tolist() for key in ("input", "linear_weight", "linear_bias")}
    got = crossent.linear_cross_entropy(**given | lists)
    assert got.dtype == np.float64
    assert got == pytest.approx(want, rel=1e-6)
    half = {key: tensors[key].bfloat16() for key in ("input", "linear_weight", "linear_bias")}
    assert crossent.linear_cross_entropy(**given | half).dtype == np.float32


GOOD = arguments((6,), 4, 9)
ERRORS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"linear_weight": GOOD["linear_weight"].T}, ValueError, "looks transposed: pass linear_weight.T"),
    ({"linear_weight": np.zeros((9, 5))}, ValueError, r"got shape \(9, 5\), expected \(classes, 4\)"),
    ({"linear_weight": np.zeros(4)}, ValueError, r"linear_weight has the wrong shape: got \(4,\)"),
    ({"linear_weight": np.zeros((9, 4), int)}, TypeError, "linear_weight must be floating: got dtype int64"),
    ({"input": np.zeros((6, 4), complex)}, TypeError, "input must be floating: got dtype complex128"),
    ({"input": np.zeros((6, 4), bool)}, TypeError, "input must be floating: got dtype bool"),
    ({"input": 1.0}, ValueError, "input has no axis of features"),
    ({"input": GOOD["input"].T}, ValueError, "linear_weight does not fit input"),
    (
        {"linear_bias": np.zeros(4)},
        ValueError,
        r"linear_bias has the wrong shape: got \(4,\), expected \(9,\)",
    ),
    ({"linear_bias": np.zeros(9, int)}, TypeError, "linear_bias must be floating"),
    ({"target": GOOD["target"] + 9}, IndexError, r"Target 10 is out of bounds: got target\[0\] = 10"),
    (
        {"target": GOOD["target"][:5]},
        ValueError,
        r"target has the wrong shape: got .5,., expected .6,., that of input",
    ),
    (
        {"target": np.ones(6)},
        TypeError,
        r"target must hold integers.*numpy.asarray\(target, dtype=numpy.int64\)",
    ),
    ({"target": np.ones((6, 9))}, TypeError, "takes no class probabilities"),
    ({"target": np.ones(6, bool)}, TypeError, r"got dtype bool .* numpy.asarray.target, dtype=numpy.int64."),
    ({"weight": np.ones(4)}, ValueError, "weight must hold one number for each class"),
    ({"where": np.ones(5, bool)}, ValueError, "where has the wrong shape"),
    ({"where": np.arange(6)}, ValueError, "where must be a mask"),
    ({"reduction": "median"}, ValueError, "not a valid value for reduction"),
    ({"label_smoothing": 1.5}, ValueError, "label_smoothing is out of range"),
    ({"z_loss": -1.0}, ValueError, "z_loss is out of range"),
    ({"softcap": 0.0}, ValueError, "softcap is out of range"),
    ({"softcap": np.nan}, ValueError, "softcap is out of range"),
    ({"softcap": "30"}, TypeError, "softcap must be a number"),
    ({"ignore_index": 2**70}, OverflowError, "ignore_index is out of range"),
    ({"dtype": np.int32}, TypeError, "dtype must be floating"),
    ({"block_bytes": -1}, ValueError, "block_bytes is out of range"),
    ({"block_bytes": 1e6}, TypeError, "block_bytes must be an integer"),
]


@pytest.mark.parametrize(("wrong", "error", "text"), ERRORS, ids=lambda value: str(value)[:40])
def test_errors_name_the_argument(wrong: dict[str, Any], error: type[Exception], text: str) -> None:
    for function in (crossent.linear_cross_entropy, crossent.linear_cross_entropy_and_grad):
        with pytest.raises(error, match=text):
            function(**GOOD | wrong)


def test_errors_of_the_upstream_gradient() -> None:
    for wrong, reduction, error in (
        (np.ones(2), "mean", ValueError),
        (np.ones(5), "none", ValueError),
        ("1", "mean", TypeError),
        (np.ones(6, bool), "none", TypeError),
    ):
        with pytest.raises(error, match="grad_output"):
            crossent.linear_cross_entropy_and_grad(**GOOD, reduction=reduction, grad_output=wrong)


def test_a_target_is_named_by_its_place_among_all() -> None:
    given = arguments((4, 100), 3, 5)
    given["target"][3, 77] = 5
    given["where"] = None
    with pytest.raises(IndexError, match=r"got target\[3, 77\] = 5, expected 0 to 4"):
        crossent.linear_cross_entropy(**given, block_bytes=0)


MEMORY = """
import numpy as np
import crossent

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

rows, features, classes = 2048, 64, 100_000  # logits of 820 MB
hidden = np.full((rows, features), 0.01, np.float32)
weight = np.full((classes, features), 0.02, np.float32)
target = np.zeros(rows, int)
warm = crossent.linear_cross_entropy_and_grad(hidden[:64], weight[:640], target[:64])
before = peak()
crossent.linear_cross_entropy(hidden, weight, target)
crossent.linear_cross_entropy(hidden, weight.astype(np.float16), target)
crossent.linear_cross_entropy(hidden, weight, target, softcap=10.0, block_bytes=40_000_000)
print(peak() - before)
_, gradients = crossent.linear_cross_entropy_and_grad(hidden, weight, target, softcap=10.0)
print(peak() - before - sum(g.nbytes for g in gradients if g is not None))
crossent.score(crossent.LinearLogits(hidden, weight), target)
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
def test_no_more_memory_is_taken_than_block_bytes() -> None:
    command = [sys.executable, "-c", MEMORY]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment())
    assert run.returncode == 0, run.stderr
    growth = [int(line) / (1 << 20) for line in run.stdout.split()]
    # BLAS has buffers of its own, and float16 is a copy of half the size.
    assert growth[0] < 128 + 40
    assert growth[1] < 128 + 40
    assert growth[2] < 128 + 60


@pytest.mark.parametrize("gradients", [False, True])
def test_rows_between_ignored_ones_take_no_more_memory(gradients: bool) -> None:
    rng = np.random.default_rng(0)
    # No array has 32 MiB: what others left would be used again, and not be traced.
    hidden = rng.standard_normal((8_000, 1024)).astype(np.float32)
    weight = rng.standard_normal((256, 1024)).astype(np.float32)
    target = rng.integers(256, size=len(hidden))
    target[::5] = -100
    budget = 16 << 20
    tracemalloc.start()
    try:
        if gradients:
            _, found = crossent.linear_cross_entropy_and_grad(hidden, weight, target, block_bytes=budget)
            results = sum(each.nbytes for each in found if each is not None)
            del found
        else:
            crossent.linear_cross_entropy(hidden, weight, target, block_bytes=budget)
            results = 0
        peak = tracemalloc.get_traced_memory()[1] - results
    finally:
        tracemalloc.stop()
    # Rows that do not follow each other are copied 4 MB at a time, and there are some numbers for each row.
    assert peak < budget + (4 << 20) + 64 * len(hidden)
