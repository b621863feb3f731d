"""Every instruction set this machine has gives the right numbers; those with fused multiply-add the same bits."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import crossent
import reference
from arrays import DTYPES, HALVES, Array, DType, logits, name, probabilities
from children import environment
from crossent import _core
from levels import AVAILABLE, FUSED, Call, results_at_levels
from ulp import ulp_distance

KNOWN = {"avx512", "avx2", "sse2", "neon", "fallback"}
WIDTHS = (2, 3, 7, 10, 21, 64, 65, 100, 101, 1030, 5000)


class Judged(NamedTuple):
    """A call, and what raises where its result is wrong."""

    call: Call
    judge: Callable[[Any], None]


def _within(expected: Array, ulp: float) -> Callable[[Array], None]:
    def judge(actual: Array) -> None:
        assert ulp_distance(actual, expected.astype(actual.dtype)).max() <= ulp

    return judge


def _near(expected: Any, rtol: float, atol: float = 0.0) -> Callable[[Any], None]:
    def judge(actual: Any) -> None:
        np.testing.assert_allclose(np.asarray(actual, np.float64), expected, rtol=rtol, atol=atol)

    return judge


def _scores(columns: dict[str, Array], rtol: float) -> Callable[[crossent.Scores], None]:
    def judge(scores: crossent.Scores) -> None:
        for column in ("entropy", "top_log_probs"):
            np.testing.assert_allclose(getattr(scores, column), columns[column], rtol=rtol, atol=1e-30)
        for column in ("prediction", "rank", "top_ids"):
            np.testing.assert_array_equal(getattr(scores, column), columns[column])

    return judge


def _judged(dtype: DType, width: int) -> Iterator[Judged]:
    """Every function on rows with extremes among them."""
    rng = np.random.default_rng(0)
    x = logits(rng, (37, width), dtype)
    x[5, 1] = -np.inf
    x[6, 0] = np.nan
    x[7, 1] = np.inf
    t = rng.integers(0, width, 37)
    p = probabilities(rng, (37, width), 1, dtype)
    ulp = 1 if dtype in HALVES else 6
    rtol = 1e-13 if dtype == np.float64 else 1e-6
    loose = {"float64": 1e-14, "float32": 1e-6}.get(dtype.name, 2e-2)
    rows = {
        key: _within(getattr(reference, key)(x), ulp) for key in ("log_softmax", "softmax", "log_sigmoid")
    }
    sums = _near(reference.logsumexp(x, 1), loose, loose)
    by_index = _within(reference.cross_entropy(x, t, reduction="none"), 6)
    by_share = _near(reference.cross_entropy(x, p, reduction="none"), rtol)
    scores = _scores(reference.score(x, t, top_k=2), rtol)
    for view in (x, np.asfortranarray(x)):
        for key, judge in rows.items():
            yield Judged((key, (view,), {}), judge)
        yield Judged(("logsumexp", (view, 1), {}), sums)
        yield Judged(("cross_entropy", (view, t), {"reduction": "none"}), by_index)
        yield Judged(("cross_entropy", (view, p), {"reduction": "none"}), by_share)
        yield Judged(("score", (view, t), {"top_k": 2}), scores)
    finite = np.nan_to_num(x.astype(float), nan=0, posinf=1, neginf=-1).astype(dtype)
    other = finite[::-1]
    mean = reference.cross_entropy(finite, t)
    divergence = reference.divergences(finite, other)[0].mean()
    yield Judged(("cross_entropy", (finite, t), {}), _near(mean, 1e-6))
    yield Judged(
        ("compare", (finite, other, t), {}),
        lambda comparison: _near(divergence, 1e-12, 1e-15)(comparison.kl_mean),
    )
    # The best class or the second: else no temperature is the best.
    t = finite.astype(float).argsort(axis=1)[np.arange(37), np.where(rng.random(37) < 0.7, -1, -2)]
    at_one = reference.cross_entropy(finite, t)
    yield Judged(("fit_temperature", (finite, t), {}), lambda fitted: _near(at_one, 1e-6)(fitted.nll_before))


@pytest.fixture(scope="module")
def every_judged() -> list[Judged]:
    return [judged for dtype in DTYPES for width in WIDTHS for judged in _judged(dtype, width)]


@pytest.fixture(scope="module")
def results(every_judged: list[Judged]) -> dict[str, list[Any]]:
    return results_at_levels([judged.call for judged in every_judged])


@pytest.mark.parametrize("level", AVAILABLE)
def test_each_level_is_right(level: str, every_judged: list[Judged], results: dict[str, list[Any]]) -> None:
    for judged, result in zip(every_judged, results[level], strict=True):
        judged.judge(result)


def test_levels_with_fused_multiply_add_have_the_same_bits(
    every_judged: list[Judged], results: dict[str, list[Any]]
) -> None:
    for level in FUSED:
        for judged, mine, best in zip(every_judged, results[level], results[FUSED[0]], strict=True):
            assert pickle.dumps(mine) == pickle.dumps(best), (level, judged.call[0])


def _run(level: str | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = environment()
    env.pop("CROSSENT_ISA", None)
    if level is not None:
        env["CROSSENT_ISA"] = level
    return subprocess.run([sys.executable, *arguments], env=env, capture_output=True, text=True, timeout=600)


def test_the_levels_available_are_known_and_the_best_is_in_use() -> None:
    assert set(AVAILABLE) <= KNOWN
    assert len(set(AVAILABLE)) == len(AVAILABLE) >= 1
    run = _run(None, "-c", "from crossent import _core; print(_core.build_info()['isa'])")
    assert run.stdout.strip() in AVAILABLE


@pytest.mark.parametrize("level", ["avx1024", "AVX 2", "sse9", *sorted(KNOWN - set(AVAILABLE))])
def test_a_level_that_is_not_there_is_refused_by_name(level: str) -> None:
    code = f"""
try:
    import crossent
    crossent.softmax([1.0, 2.0])
except ValueError as error:
    words = str(error)
    assert {level!r} in words, words
    assert "CROSSENT_ISA" in words, words
    for available in {AVAILABLE!r}:
        assert available in words, words
    print("refused")
"""
    run = _run(level, "-c", code)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "refused"


def test_the_import_does_not_depend_on_the_instruction_set() -> None:
    run = _run(
        "avx1024", "-c", "import crossent; print(crossent.__version__, crossent.get_num_threads() > 0)"
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, f"{_core.__version__} True\n", "")


def test_the_dtypes_judged_are_all_of_them() -> None:
    assert [name(dtype) for dtype in DTYPES] == ["float16", "bfloat16", "float32", "float64"]
