"""`fit_temperature`: the temperature at which the likelihood is largest, from arrays and from streams of batches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import mpmath
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

import crossent
import reference
from arrays import BFLOAT16, DTYPES, SAME_VALUES, Array, DType, logits, name
from crossent.blocks import ArrayBlocks

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


# ---- weights of rows ------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [2, 10, 90])
def test_integer_weights_are_rows_repeated(width: int) -> None:
    x, t = _data(width, rows=300)
    w = np.random.default_rng(1).integers(0, 5, 300)
    found = crossent.fit_temperature(x, t, sample_weight=w)
    repeated = crossent.fit_temperature(np.repeat(x, w, axis=0), np.repeat(t, w))
    # The sums are exact: not a bit differs.
    assert found.temperature == repeated.temperature
    assert (found.nll_before, found.nll_after) == (repeated.nll_before, repeated.nll_after)
    assert found.count == (w > 0).sum()
    assert repeated.count == w.sum()


def test_the_weighted_likelihood_is_least() -> None:
    x, t = _data(6)
    w = np.random.default_rng(2).exponential(size=1000)

    def weighted(temperature: float) -> float:
        losses = reference.cross_entropy(x / temperature, t, reduction="none")
        return float(np.average(losses, weights=w))

    found = crossent.fit_temperature(x, t, sample_weight=w)
    best = minimize_scalar(lambda u: weighted(math.exp(u)), bounds=(-4, 4), options={"xatol": 1e-10})
    assert found.temperature == pytest.approx(math.exp(best.x), rel=1e-6)
    assert found.temperature != pytest.approx(crossent.fit_temperature(x, t).temperature, rel=1e-4)
    assert found.nll_before == pytest.approx(weighted(1.0), rel=1e-13)
    assert found.nll_after == pytest.approx(weighted(found.temperature), rel=1e-13)
    z = reference.softmax(x / found.temperature)
    slope = np.average((z * x).sum(axis=1) - x[np.arange(1000), t], weights=w)
    assert abs(slope) < 1e-13
    # Only their ratios matter.
    scaled = crossent.fit_temperature(x, t, sample_weight=w * 2.0**-40)
    assert scaled == found
    assert crossent.fit_temperature(x, t, sample_weight=np.full(1000, 0.1)).temperature == pytest.approx(
        crossent.fit_temperature(x, t).temperature, rel=1e-14
    )
    ones = crossent.fit_temperature(x, t, sample_weight=np.ones(1000, bool))
    assert ones == crossent.fit_temperature(x, t)


def test_weights_do_not_depend_on_batches_blocks_layouts_or_threads() -> None:
    x, t = _data(9, rows=420)
    x, t = x.reshape(20, 21, 9), t.reshape(20, 21).copy()
    t[::3, ::2] = -100
    w = np.random.default_rng(3).exponential(size=t.shape)
    w[1] = 0.0
    where = np.random.default_rng(4).random(t.shape) < 0.8
    kept = where & (w > 0)
    expected = crossent.fit_temperature(x, t, where=where, sample_weight=w)
    assert expected.count == (kept & (t != -100)).sum()
    threads = crossent.get_num_threads()
    try:
        for count in (1, 3):
            crossent.set_num_threads(count)
            for layout in SAME_VALUES.values():
                got = crossent.fit_temperature(layout(x), t, where=where, sample_weight=layout(w))
                assert got == expected
            masks: list[Any] = [where.astype(int), where.tolist()]
            for mask in masks:
                assert crossent.fit_temperature(x, t, where=mask, sample_weight=w.tolist()) == expected
            moved = np.ascontiguousarray(np.moveaxis(x, -1, 1))
            assert crossent.fit_temperature(moved, t, where=where, sample_weight=w, axis=1) == expected
            for step in (1, 7):
                triples = [
                    (x[i : i + step], t[i : i + step], np.where(where, w, 0)[i : i + step])
                    for i in range(0, 20, step)
                ]
                assert crossent.fit_temperature(triples) == expected
            for memory in (1000, 1 << 20):
                blocks = _Blocks(x, memory)
                assert crossent.fit_temperature(blocks, t, where=where, sample_weight=w) == expected
    finally:
        crossent.set_num_threads(threads)
    # Beside triples there may be pairs, whose rows weigh 1.
    mixed = [(x[:9], t[:9]), (x[9:], t[9:], np.ones((11, 21)))]
    assert crossent.fit_temperature(mixed) == crossent.fit_temperature(x, t)
    p = reference.softmax(x)
    probs = crossent.fit_temperature(p, t, where=where, sample_weight=w, values="probs")
    assert probs.temperature == pytest.approx(expected.temperature, rel=1e-12)


class _Blocks:
    """An array in blocks of rows, of little memory each."""

    def __init__(self, x: Array, memory: int) -> None:
        self.row_shape, self.classes, self.dtype = x.shape[:-1], x.shape[-1], x.dtype
        self._x, self._memory = x, memory

    def row_blocks(self, memory: int | None = None, start: int = 0) -> Iterator[Any]:
        return ArrayBlocks(self._x).row_blocks(self._memory, start)


@pytest.mark.filterwarnings("ignore:.*looks like probabilities")
def test_weights_of_0_leave_rows_out_whatever_they_hold() -> None:
    x, t = _data(4, rows=60)
    w = np.ones(60)
    w[::7] = 0
    expected = crossent.fit_temperature(x[w > 0], t[w > 0])
    bad, wrong = x.copy(), t.copy()
    bad[::7], wrong[::7] = math.nan, 99
    assert crossent.fit_temperature(bad, wrong, sample_weight=w) == expected
    p = reference.softmax(x)
    p[::7] = -5.0
    usual = crossent.fit_temperature(reference.softmax(x)[w > 0], t[w > 0], values="probs")
    assert crossent.fit_temperature(p, wrong, sample_weight=w, values="probs") == usual
    for weight in (np.float16, np.float32, BFLOAT16, np.uint8):
        assert crossent.fit_temperature(bad, wrong, sample_weight=w.astype(weight)) == expected


@pytest.mark.parametrize(
    ("weight", "error", "text"),
    [
        (
            [1.0, -0.5, math.nan, 1],
            ValueError,
            r"got sample_weight\[1\] = -0\.5, expected numbers from 1e-280 to 1e\+280, or 0 to leave a row out",
        ),
        ([1.0, 1, math.nan, 1], ValueError, r"got sample_weight\[2\] = nan"),
        ([1.0, 1, 1, math.inf], ValueError, r"got sample_weight\[3\] = inf"),
        ([1.0, 5e-324, 1, 1], ValueError, r"got sample_weight\[1\] = 4.94066e-324"),
        ([1.0, 1e300, 1, 1], ValueError, r"got sample_weight\[1\] = 1e\+300"),
        ([[1.0, 1, 1, 1]], ValueError, r"sample_weight has the wrong shape: got \(1, 4\), expected \(4,\)"),
        (1.0, ValueError, r"sample_weight has the wrong shape: got \(\), expected \(4,\)"),
        ([0, 0, 0, 0], ValueError, "no row is counted: check ignore_index, where and sample_weight"),
        ([1j, 1, 1, 1], TypeError, "sample_weight must be numbers: got dtype complex128"),
        (["a", "b", "c", "d"], TypeError, "sample_weight must be numbers"),
    ],
)
def test_weights_that_are_none_are_named(weight: Any, error: type[Exception], text: str) -> None:
    x, t = np.eye(4) * 3, [0, 1, 2, 0]
    with pytest.raises(error, match=text):
        crossent.fit_temperature(x, t, sample_weight=weight)
    with pytest.raises(error, match=text):
        crossent.fit_temperature([(x, t, weight)])


def test_weights_beside_batches_are_refused() -> None:
    x, t = _data(4, rows=60)
    with pytest.raises(
        TypeError, match=r"sample_weight goes with arrays: got batches; make each of them \(logits"
    ):
        crossent.fit_temperature([(x, t)], sample_weight=np.ones(60))
    with pytest.raises(TypeError, match="batch 0 is not a pair: got tuple, expected"):
        crossent.fit_temperature([(x, t, np.ones(60), 1)])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="mask"):
        crossent.fit_temperature(x, t, where=np.full(60, 2), sample_weight=np.zeros(60))


def test_a_target_that_does_not_fit_is_named_before_the_weights() -> None:
    x, t = _data(4, rows=60)
    with pytest.raises(ValueError, match=r"[Tt]arget.*squeeze\(target, axis=1\)"):
        crossent.fit_temperature(x, t[:, np.newaxis], sample_weight=np.ones(60))
    with pytest.raises(TypeError, match="class indices"):
        crossent.fit_temperature(x, crossent.softmax(x), sample_weight=np.ones(60))


def test_what_a_batch_raises_is_the_cause() -> None:
    def members() -> Iterator[Any]:
        yield np.zeros((2, 2))
        raise ValueError("shard_17.npy is corrupt")

    class Lazy:
        def __iter__(self) -> Iterator[Any]:
            return members()

    with pytest.raises(TypeError, match="batch 0 is not a pair") as caught:
        crossent.fit_temperature([Lazy()])  # type: ignore[list-item]
    assert "shard_17" in str(caught.value.__cause__)


@pytest.mark.parametrize("weight", [1e6, 1e30, 1e120, 1e200])
def test_one_row_of_nearly_all_weight_decides(weight: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 7)) * 3
    t = np.array([rng.choice(7, p=crossent.softmax(row / 2)) for row in x])
    w = np.ones(200)
    w[3] = weight
    assert x[3].argmax() == t[3]  # it alone has no best temperature: the others bound it
    found = crossent.fit_temperature(x, t, sample_weight=w)
    assert found.iterations < 100
    with mpmath.workdps(300):
        rows = [[mpmath.mpf(float(v)) for v in row] for row in x]

        def slope(b: Any) -> Any:
            total = mpmath.mpf(0)
            for row, target, share in zip(rows, t, w, strict=True):
                e = [mpmath.exp(b * v) for v in row]
                mean = mpmath.fsum(p * v for p, v in zip(e, row, strict=True)) / mpmath.fsum(e)
                total += mpmath.mpf(float(share)) * (mean - row[target])
            return total

        b = mpmath.mpf(1) / found.temperature
        assert slope(b * (1 - mpmath.mpf("1e-8"))) < 0 < slope(b * (1 + mpmath.mpf("1e-8")))
