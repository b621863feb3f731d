"""Rows of more classes than one segment: summed in parts, which threads share out where rows are few."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import crossent
from arrays import DTYPES, SAME_VALUES, Array, DType, logits, name, probabilities

SEGMENT = 1 << 17


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = crossent.get_num_threads()
    yield
    crossent.set_num_threads(before)


def _rows(dtype: DType, rows: int, classes: int) -> tuple[Array, Array]:
    """Rows whose largest logits lie in one segment, in two, at the end, or nowhere in the first."""
    rng = np.random.default_rng(3)
    x = logits(rng, (rows, classes), dtype)
    t = rng.integers(0, classes, rows)
    x[0, [5, classes - 1]] = 20
    t[0] = classes - 1
    if rows > 1:
        x[1] = np.linspace(-5, 9, classes).astype(dtype)
    if rows > 2:
        x[2, : SEGMENT + 10] = -np.inf
        t[2] = classes - 2
    return x, t


def _scorer(x: Array, t: Array) -> crossent.Scorer:
    scorer = crossent.Scorer()
    scorer.update(x, t)
    return scorer


def _calls(x: Array, t: Array) -> dict[str, Callable[[], Any]]:
    rng = np.random.default_rng(4)
    weight = rng.random(x.shape[1]) + 0.5
    q = probabilities(rng, x.shape, 1, np.dtype(np.float32))
    finite = x.copy()
    finite[~np.isfinite(x.astype(np.float64))] = 0

    def scores() -> Array:
        scores = crossent.score(x, t, top_k=5)
        columns = ("nll", "logsumexp", "entropy", "prediction", "rank", "top_ids", "top_log_probs")
        return np.concatenate([np.asarray(getattr(scores, c), np.float64).ravel() for c in columns])

    return {
        "none": lambda: crossent.cross_entropy(x, t, reduction="none"),
        "mean": lambda: crossent.cross_entropy(x, t),
        "smoothed": lambda: crossent.cross_entropy(finite, t, weight=weight, label_smoothing=0.1),
        "probabilities": lambda: crossent.cross_entropy(finite, q, reduction="none"),
        "gradient": lambda: crossent.cross_entropy_and_grad(x, t)[1],
        "smoothed gradient": lambda: crossent.cross_entropy_and_grad(finite, t, label_smoothing=0.1)[1],
        "gradient of probabilities": lambda: crossent.cross_entropy_and_grad(finite, q)[1],
        "logsumexp": lambda: crossent.logsumexp(x, axis=1),
        "logsumexp of all": lambda: crossent.logsumexp(x),
        "softmax": lambda: crossent.softmax(x, axis=1),
        "log_softmax": lambda: crossent.log_softmax(x, axis=1),
        "score": scores,
        "report": lambda: np.frombuffer(_scorer(x, t).to_json().encode(), np.uint8),
    }


def _bits(x: Any) -> bytes:
    return np.ascontiguousarray(x).tobytes()


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
@pytest.mark.parametrize("rows", [1, 3])
def test_the_bits_do_not_depend_on_who_shares_out_what(dtype: DType, rows: int) -> None:
    x, t = _rows(dtype, rows, 2 * SEGMENT + 4321)
    for key, call in _calls(x, t).items():
        crossent.set_num_threads(1)
        expected = _bits(call())
        for threads in (2, 3, 8):
            crossent.set_num_threads(threads)
            assert _bits(call()) == expected, (key, threads)


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_the_bits_do_not_depend_on_the_layout(dtype: DType) -> None:
    x, t = _rows(dtype, 3, SEGMENT + 999)
    expected = {key: _bits(call()) for key, call in _calls(x, t).items()}
    for layout, lay_out in SAME_VALUES.items():
        for key, call in _calls(lay_out(x), t).items():
            assert _bits(call()) == expected[key], (key, layout)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_long_rows_are_those_of_the_definition(dtype: type) -> None:
    x, t = _rows(np.dtype(dtype), 3, 3 * SEGMENT + 1)
    tolerance = 3 * np.finfo(dtype).eps
    wide = x.astype(np.longdouble)
    largest = wide.max(axis=1, keepdims=True)
    lse = largest + np.log(np.exp(wide - largest).sum(axis=1, keepdims=True))
    own = np.take_along_axis(wide, t[:, None], 1)
    p = np.exp(wide - lse)
    entropy = -np.where(p > 0, p * np.where(p > 0, wide - lse, 0), 0).sum(axis=1)

    scores = crossent.score(x, t, top_k=4)
    np.testing.assert_allclose(scores.nll, (lse - own)[:, 0], rtol=tolerance)
    np.testing.assert_allclose(scores.logsumexp, lse[:, 0], rtol=tolerance)
    np.testing.assert_allclose(scores.entropy, entropy, rtol=tolerance)
    np.testing.assert_array_equal(scores.prediction, x.argmax(axis=1))
    mine: Array = own.astype(dtype)
    ties = (x == mine) & (np.arange(x.shape[1]) < t[:, None])
    np.testing.assert_array_equal(scores.rank, 1 + ((x > mine) | ties).sum(axis=1))
    np.testing.assert_array_equal(scores.top_ids, np.argsort(-x, axis=1, kind="stable")[:, :4])
    np.testing.assert_allclose(
        crossent.cross_entropy(x, t, reduction="none"), (lse - own)[:, 0], rtol=tolerance
    )
    np.testing.assert_allclose(crossent.log_softmax(x, axis=1), wide - lse, rtol=tolerance)
    np.testing.assert_allclose(crossent.softmax(x, axis=1), p, rtol=2 * tolerance, atol=1e-44)
    brier = (p**2).sum(axis=1) - 2 * np.take_along_axis(p, t[:, None], 1)[:, 0] + 1
    np.testing.assert_allclose(_scorer(x, t).result().brier_score, brier.mean(), rtol=tolerance)


@pytest.mark.parametrize("place", [0, SEGMENT - 1, SEGMENT, 2 * SEGMENT + 5])
@pytest.mark.parametrize("beside", [0.0, -np.inf, np.inf])
def test_a_nan_in_any_segment_shows(place: int, beside: float) -> None:
    x = np.full((1, 2 * SEGMENT + 10), beside, np.float32)
    x[0, place] = np.nan
    t = np.array([7])
    assert np.isnan(crossent.cross_entropy(x, t))
    assert np.isnan(crossent.logsumexp(x))
    assert np.isnan(crossent.softmax(x, axis=1)).all()
    scores = crossent.score(x, t, top_k=2)
    assert scores.prediction[0] == place
    assert scores.top_ids is not None
    assert scores.top_ids[0, 0] == place


def _seconds_of_workers() -> float:
    """Processor time that the pool's threads have used."""
    ticks = 0
    for thread in Path("/proc/self/task").iterdir():
        if (thread / "comm").read_text().startswith("crossent-"):
            fields = (thread / "stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("threads", [1, 2])
def test_more_segments_than_are_held_at_a_time_are_all_summed(threads: int) -> None:
    crossent.set_num_threads(threads)
    classes = (1 << 29) + 2 * SEGMENT + 5
    x = np.broadcast_to(np.float32(1.5), (classes,))
    assert crossent.logsumexp(x) == np.float32(1.5 + np.log(classes))
    np.testing.assert_allclose(crossent.cross_entropy(x, 7, dtype=np.float64), np.log(classes), rtol=1e-7)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_one_row_is_shared_out_to_threads() -> None:
    x = np.zeros((1, 20_000_000), np.float32)
    expected = np.float32(np.log(20_000_000.0))
    crossent.set_num_threads(2)
    before = time.process_time(), _seconds_of_workers()
    for _ in range(40):
        assert crossent.logsumexp(x) == expected
    workers, both = _seconds_of_workers() - before[1], time.process_time() - before[0]
    # Half of it where both processors are free; a worker that finds its own taken leaves more to the caller.
    assert 0.1 < workers / both < 0.9


def test_ctrl_c_stops_within_a_row() -> None:
    # One number, met again and again.
    x = np.lib.stride_tricks.as_strided(np.zeros(1, np.float16), (1, 1 << 34), (0, 0))
    crossent.set_num_threads(2)
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    # Where the tests were started in the background, the signal is ignored.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timer.start()
        started = time.perf_counter()
        with pytest.raises(KeyboardInterrupt):
            crossent.logsumexp(x)
        assert time.perf_counter() - started < 5
    finally:
        signal.signal(signal.SIGINT, handler)
