"""The memory of large results is used again, and only when nothing refers to it."""

from __future__ import annotations

import gc
import threading
from typing import Any

import numpy as np
import pytest

import crossent
from oracle import torch

ROWS = 9000  # of 1000 float32 classes: 36 MB, which are kept
X = np.zeros((ROWS, 1000), np.float32)
ONE = np.float32(1 / 1000)


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
        np.testing.assert_array_equal(np.asarray(held), before)
    assert len({_address(y) for y in others}) == 3


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


def test_large_results_begin_with_a_cache_line_and_small_ones_own_their_memory() -> None:
    y = _new()
    assert _address(y) % 64 == 0
    assert y.flags.c_contiguous
    assert y.flags.writeable
    assert crossent.softmax(X[:10], 1).flags.owndata
