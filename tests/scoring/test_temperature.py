"""`fit_temperature`: the temperature at which the likelihood is largest, from arrays and from streams of batches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

import crossent
import reference
from arrays import DTYPES, SAME_VALUES, Array, DType, logits, name

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=name)


def _data(width: int, factor: float = 2.0, dtype: Any = np.float64, rows: int = 1000) -> tuple[Array, Array]:
    """Targets drawn from the softmax, and logits that are `factor` times too large."""
    rng = np.random.default_rng(width)
    x = rng.standard_normal((rows, width)) * 1.5
    p = reference.softmax(x)
    t = np.minimum((p.cumsum(axis=1) < rng.random((rows, 1))).sum(axis=1), width - 1)
    return (x * factor).astype(dtype), t


def _nll(x: Array, t: Array, temperature: float) -> float:
    return float(reference.cross_entropy(reference.widen(x) / temperature, t))


@every_dtype
@pytest.mark.parametrize("width", [2, 10, 65, 1030])
def test_no_other_temperature_is_better(width: int, dtype: DType) -> None:
    x, t = _data(width, dtype=dtype)
    found = crossent.fit_temperature(x, t)
    assert found.count == 1000
    assert float(found) == found.temperature
    assert found.nll_before == pytest.approx(_nll(x, t, 1.0), rel=1e-13)
    assert found.nll_after == pytest.approx(_nll(x, t, found.temperature), rel=1e-13)
    best = minimize_scalar(lambda u: _nll(x, t, math.exp(u)), bounds=(-4, 4), options={"xatol": 1e-9})
    assert found.temperature == pytest.approx(math.exp(best.x), rel=1e-6)
    # The derivative there, from the definition: the mean logit is the target's.
    z = reference.widen(x)
    p = reference.softmax(z / found.temperature)
    slope = ((p * z).sum(axis=1) - z[np.arange(len(t)), t]).mean()
    assert abs(slope) < 1e-12 * np.abs(z).mean() * math.sqrt(width)
    assert 3 <= found.iterations <= 12


@pytest.mark.parametrize("factor", [1e-6, 1e-3, 0.1, 1.0, 30.0, 1e4, 1e7])
def test_far_away_temperatures_are_found(factor: float) -> None:
    x, t = _data(7)
    usual = crossent.fit_temperature(x, t).temperature
    found = crossent.fit_temperature(x * factor, t)
    assert found.temperature == pytest.approx(usual * factor, rel=1e-9)
    assert found.iterations < 40


def test_torch_finds_the_same() -> None:
    torch = pytest.importorskip("torch")
    x, t = _data(10)
    log_t = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_t], max_iter=200, tolerance_grad=1e-14, tolerance_change=1e-16)
    logits_, target = torch.tensor(x), torch.tensor(t)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(logits_ / log_t.exp(), target)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert crossent.fit_temperature(x, t).temperature == pytest.approx(math.exp(log_t.item()), rel=1e-7)


@every_dtype
def test_batches_layouts_and_threads_do_not_change_a_bit(dtype: DType) -> None:
    threads = crossent.get_num_threads()
    try:
        for width in (3, 90):
            x, t = _data(width, dtype=dtype, rows=400)
            t[::5] = -100
            expected = crossent.fit_temperature(x, t)
            for count in (1, 3):
                crossent.set_num_threads(count)
                for layout in SAME_VALUES.values():
                    assert crossent.fit_temperature(layout(x), t) == expected
                assert crossent.fit_temperature(np.ascontiguousarray(x.T), t, axis=0) == expected
                for step in (1, 7, 150):
                    batches = [(x[at : at + step], t[at : at + step]) for at in range(0, 400, step)]
                    assert crossent.fit_temperature(batches) == expected
                    assert crossent.fit_temperature(batches[::-1]) == expected
            kept = t != -100
            assert crossent.fit_temperature(x, np.where(kept, t, 0), where=kept) == expected
            assert crossent.fit_temperature(x[kept], t[kept]) == expected
    finally:
        crossent.set_num_threads(threads)


def test_a_stream_is_gone_through_again_for_each_step() -> None:
    x, t = _data(5)

    class Stream:
        times = 0

        def __iter__(self) -> Iterator[tuple[Array, Array]]:
            self.times += 1
            return iter([(x[:300], t[:300]), (x[300:], t[300:])])

    stream = Stream()
    found = crossent.fit_temperature(stream)
    assert found == crossent.fit_temperature(x, t)
    assert stream.times == found.iterations


def test_classes_without_probability_do_not_matter() -> None:
    x, t = _data(5)
    wide = np.full((len(x), 90), -math.inf)
    wide[:, 40:45] = x
    assert crossent.fit_temperature(wide, t + 40).temperature == pytest.approx(
        crossent.fit_temperature(x, t).temperature, rel=1e-13
    )


def test_equal_logits_are_as_good_at_any_temperature() -> None:
    found = crossent.fit_temperature(np.zeros((5, 3)), [0, 1, 2, 0, 1])
    assert found.temperature == 1.0
    assert found.nll_before == found.nll_after


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((np.eye(4), [0, 1, 2, 3]), {}, ValueError, "largest logit already"),
        ((np.eye(4) * 1e-6, [0, 1, 2, 3]), {}, ValueError, "largest logit already"),
        ((np.eye(4), [1, 2, 3, 0]), {}, ValueError, "no larger than the others"),
        ((np.eye(4), [-100] * 4), {}, ValueError, "no row is counted"),
        (([],), {}, ValueError, "no row is counted"),
        ((np.array([[0.0, math.nan]]), [0]), {}, ValueError, "nan or"),
        ((np.array([[0.0, -math.inf]]), [1]), {}, ValueError, "whose logit is -inf"),
        ((np.eye(4), [0, 1, 2, 4]), {}, IndexError, r"target\[3\] = 4"),
        ((np.eye(4), np.eye(4)), {}, TypeError, "fit_temperature takes class indices"),
        ((np.eye(4),), {}, TypeError, "target is missing"),
        ((3,), {}, TypeError, "target is missing"),
        ((iter([(np.eye(4), [0, 1, 2, 3])]),), {}, TypeError, "once only"),
        (([(np.eye(4), [0, 1, 2, 3])],), {"where": [True] * 4}, TypeError, "where goes with arrays"),
        (([np.eye(4)],), {}, TypeError, "batch 0 is not a pair"),
        (([None],), {}, TypeError, "batch 0 is not a pair"),
        ((np.eye(4), [0, 1, 2, 3]), {"ignore_index": 2**63}, OverflowError, "int64"),
        ((np.eye(4), [0, 1, 2, 3]), {"axis": 2}, IndexError, "axis"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*looks like probabilities")
def test_errors_name_what_is_wrong(arguments: Any, options: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        crossent.fit_temperature(*arguments, **options)


def test_float16_logits_of_a_large_vocabulary_do_not_overflow() -> None:
    rng = np.random.default_rng(0)
    x = logits(rng, (40, 20_000), np.dtype(np.float16), scale=8.0)
    t = np.where(rng.random(40) < 0.8, x.argmax(axis=1), rng.integers(0, 20_000, 40))
    found = crossent.fit_temperature(x, t)
    assert found.nll_after == pytest.approx(_nll(x, t, found.temperature), rel=1e-12)
    assert found.nll_after < found.nll_before
