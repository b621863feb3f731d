"""The memory of large results is used again, and only when nothing refers to it."""

from __future__ import annotations

import contextlib
import copy
import gc
import pickle
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

import crossent
from optional import torch

ROWS = 8400  # of 1000 float32 classes: 33.6 MB, just enough to be kept
X = np.zeros((ROWS, 1000), np.float32)
ONE = np.float32(1 / 1000)


@pytest.fixture(scope="module", autouse=True)
def _nothing_older_is_collected() -> None:
    """The collector works for many of these tests, and all that other tests imported need not be looked at."""
    gc.collect()
    gc.freeze()


def _address(x: Any) -> int:
    return int(x.__array_interface__["data"][0])


def _new(row: float = 0.0) -> Any:
    X[:, 0] = row
    return crossent.softmax(X, 1)


def test_what_nothing_refers_to_is_used_again() -> None:
    first = _address(_new())
    assert _address(_new()) == first


def test_a_loop_that_rebinds_its_result_takes_two_places_in_turn() -> None:
    y = _new()
    places = []
    for _ in range(6):
        y = _new()
        places.append(_address(y))
    assert len(set(places)) == 2


@pytest.mark.parametrize(
    "refer",
    [
        lambda y: y,
        lambda y: y[10:20, ::3],
        lambda y: y.T,
        lambda y: y.reshape(-1).view(np.int32),
        lambda y: memoryview(y),
        lambda y: torch.from_numpy(y),
        lambda y: torch.from_dlpack(y),
        lambda y: np.from_dlpack(y),
        lambda y: y.base,
        lambda y: iter(y),
        lambda y: (part for part in [y[0]]),
    ],
)
def test_what_something_refers_to_is_left_alone(refer: Any) -> None:
    held = refer(_new())
    gc.collect()
    before = np.asarray(held).copy() if not hasattr(held, "__next__") else None
    others = [_new(5.0), _new(6.0), _new(7.0)]
    if before is None:
        assert np.allclose(next(held), ONE)
    else:
        assert np.array_equal(np.asarray(held), before)
    assert len({_address(y) for y in others}) == 3


def _poison(base: Any) -> None:
    """Whatever can be done to the object that a result's memory belongs to."""
    for change in (
        lambda: base.setflags(write=False),
        lambda: setattr(base.flags, "writeable", False),
        lambda: setattr(base, "shape", (1, -1)),
        lambda: setattr(base, "strides", (0,)),
        lambda: setattr(base, "dtype", np.dtype("f8")),
        lambda: base.resize(10, refcheck=False),
        lambda: base.__init__(),
        lambda: base.__setstate__(base.__reduce__()[2]),
        lambda: delattr(base, "block"),
        lambda: setattr(base, "block", None),
    ):
        with contextlib.suppress(Exception):
            change()


@pytest.mark.filterwarnings("ignore:Setting the (strides|shape|dtype):DeprecationWarning")
@pytest.mark.parametrize("way", ["base", "view", "buffer"])
def test_nothing_that_is_done_to_the_base_of_a_result_reaches_a_later_one(way: str) -> None:
    """The base of an array is an object like any other, and its flags and shape can be set."""
    t = np.zeros(ROWS, np.int64)
    for _ in range(4):
        for result in (_new(), crossent.cross_entropy_and_grad(X, t)[1]):
            base = {
                "base": lambda y: y,
                "view": lambda y: y[1:, ::2].T,
                "buffer": lambda y: np.asarray(y.base),
            }[way](result)
            while base is not None:
                _poison(base)
                base = getattr(base, "base", None)
            del base
        del result
        again = _new()
        assert again.shape == X.shape
        assert again.dtype == X.dtype
        assert again.flags.writeable
        assert again.flags.c_contiguous
        assert _address(again) % 64 == 0
        assert (again == ONE).all()
        del again


@pytest.mark.parametrize(
    ("dtype", "rows", "classes", "features", "softcap"),
    [
        (np.float32, 400, 35_008, 300, None),
        (np.float32, 400, 35_001, 300, None),
        (np.float32, 400, 35_001, 256, 3.0),
        (np.float16, 260, 35_001, 300, None),
    ],
)
def test_nothing_of_earlier_memory_is_in_the_gradients_of_a_product(
    dtype: Any, rows: int, classes: int, features: int, softcap: float | None
) -> None:
    """The blocks of logits, the matrix in another dtype and the gradients lie where other results did."""
    rng = np.random.default_rng(classes)
    hidden, matrix = (rng.standard_normal((n, features)).astype(dtype) / 4 for n in (rows, classes))
    target = rng.integers(0, classes, len(hidden))
    target[::3] = -100
    h, m = hidden.astype(np.float64), matrix.astype(np.float64)
    x = h @ m.T
    slope: Any = 1.0
    if softcap is not None:
        x = softcap * np.tanh(x / softcap)
        slope = 1.0 - (x / softcap) ** 2
    loss, slopes = crossent.cross_entropy_and_grad(x, target)
    slopes *= slope
    tolerance = 1e-3 if dtype == np.float16 else 1e-5
    for number in range(2):
        # Each is large enough for any of the arrays of the call.
        results = [crossent.softmax(np.zeros((360, classes), np.float32), 1) for _ in range(2)]
        for result in results:
            result[...] = np.nan
        del result, results
        found, gradients = crossent.linear_cross_entropy_and_grad(
            hidden, matrix, target, softcap=softcap, block_bytes=(128 if number else 96) << 20
        )
        assert abs(found - loss) < tolerance * loss
        for own, expected in ((gradients.input, slopes @ m), (gradients.linear_weight, slopes.T @ h)):
            atol = tolerance * np.abs(expected).max()
            np.testing.assert_allclose(own, expected, rtol=tolerance, atol=atol)
        del own, gradients


def test_a_loop_of_gradients_of_a_product_takes_two_places_in_turn() -> None:
    hidden, matrix = np.full((2, 256), 0.1, np.float32), np.full((40_000, 256), 0.1, np.float32)
    places = set()
    for _ in range(6):
        gradients = crossent.linear_cross_entropy_and_grad(hidden, matrix, [3, 7])[1]
        places.add(_address(gradients.linear_weight))
    assert len(places) == 2


def test_no_class_of_memory_can_be_made_by_hand() -> None:
    kind = type(_new().base)
    with pytest.raises(TypeError):
        kind()
    with pytest.raises(TypeError):
        type("Own", (kind,), {})


def test_writing_to_a_result_can_be_forbidden_and_allowed_again() -> None:
    y = _new()
    y.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        y[0] = 1
    y.flags.writeable = True
    y[0] = 1
    assert y[0, 0] == 1


def test_a_buffer_of_the_memory_is_that_of_its_result_alone() -> None:
    y = _new()
    part = memoryview(y.base)
    assert part.nbytes == y.nbytes
    assert not part.readonly
    np.testing.assert_array_equal(np.frombuffer(part, np.float32), y.reshape(-1))
    del y
    before = bytes(part[:4000])
    others = [_new(5.0), _new(6.0)]
    assert bytes(part[:4000]) == before
    assert all(not np.shares_memory(other, np.frombuffer(part, np.uint8)) for other in others)


def test_a_result_is_copied_and_pickled_as_any_array() -> None:
    y = _new(2.0)
    for again in (pickle.loads(pickle.dumps(y)), copy.deepcopy(y), pickle.loads(pickle.dumps(y, protocol=5))):
        assert np.array_equal(again, y)
        assert not np.shares_memory(again, y)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_little_memory_is_kept_and_given_up_where_there_is_no_other() -> None:
    """What is kept makes room for results that it does not fit."""
    code = """
import resource, sys
import numpy as np
import crossent
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
x = np.zeros((12_000, 1000), np.float32)
small = x[:9000]
crossent.set_num_threads(1)
before = resident()
many = [crossent.softmax(small, 1) for _ in range(5)]
del many
assert resident() - before < 3 * small.nbytes, resident() - before
# Room for one more large result, but not beside what is kept.
with open("/proc/self/statm") as file:
    there = int(file.read().split()[0]) * resource.getpagesize()
limit = there + x.nbytes // 3
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
crossent.softmax(x, 1)
try:
    crossent.softmax(np.broadcast_to(x[0], (500_000, 1000)), 1)
except MemoryError:
    print("as expected")
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert run.stdout.strip() == "as expected", run.stderr


def test_results_in_several_threads_do_not_share() -> None:
    wrong: list[int] = []
    x = [np.full((ROWS, 1000), 0.0, np.float32) for _ in range(4)]
    for i, array in enumerate(x):
        array[:, 0] = i

    def work(i: int) -> None:
        expected = crossent.softmax(x[i][0])
        same = [bool((crossent.softmax(x[i], 1)[[0, -1]] == expected).all()) for _ in range(8)]
        wrong.extend([i] * same.count(False))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("kind", [crossent.BCELoss, crossent.CrossEntropyLoss, crossent.NLLLoss])
def test_the_weights_of_an_object_cannot_be_changed(kind: Any) -> None:
    """An array that owns its memory may be made writeable again by anyone."""
    for given in (
        np.arange(3.0),
        np.array(2.0, np.float32),
        np.zeros(0),
        np.ones((2, 3), "f4").T,
        [1.0, 2.0],
    ):
        weight: Any = kind(weight=given).weight
        np.testing.assert_array_equal(weight, given)
        assert type(weight) is np.ndarray
        assert not np.shares_memory(weight, np.asarray(given))
        arrays: tuple[Any, ...] = (weight, weight.view(), weight.base)
        for x in arrays:
            with pytest.raises((ValueError, AttributeError)):
                x.flags.writeable = True


def test_large_results_begin_with_a_cache_line_and_small_ones_own_their_memory() -> None:
    y = _new()
    assert _address(y) % 64 == 0
    assert y.flags.c_contiguous
    assert y.flags.writeable
    assert crossent.softmax(X[:10], 1).flags.owndata
