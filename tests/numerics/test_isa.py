"""Every instruction set this machine has gives the right numbers; those with fused multiply-add the same bits."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import reference
from arrays import DTYPES, HALVES, logits, name, probabilities
from children import environment
from crossent import _core
from ulp import ulp_distance

KNOWN = {"avx512", "avx2", "sse2", "neon", "fallback"}
FUSED = {"avx512", "avx2", "neon"}
AVAILABLE: list[str] = _core.build_info()["available_isas"]

# Run with a level forced by the variable; prints a hash of every result's bits after having judged the values.
JUDGE = "import sys, test_isa; test_isa.judge(sys.argv[1])"

WIDTHS = (2, 3, 7, 10, 21, 64, 65, 100, 101, 1030, 5000)


def judge(level: str) -> None:
    """Check every function at the level in use, and print the digest of the results."""
    import crossent

    assert _core.build_info()["isa"] == level
    digest = hashlib.sha256()

    def check(actual: np.ndarray, expected: np.ndarray, limit: float) -> None:
        expected = expected.astype(actual.dtype)
        assert ulp_distance(actual, expected).max() <= limit, (actual, expected)
        digest.update(np.ascontiguousarray(actual).tobytes())

    for dtype in DTYPES:
        rng = np.random.default_rng(0)
        limit = 1 if dtype in HALVES else 6
        for width in WIDTHS:
            x = logits(rng, (37, width), dtype)
            x[5, 1] = -np.inf
            x[6, 0] = np.nan
            x[7, 1] = np.inf
            t = rng.integers(0, width, 37)
            p = probabilities(rng, (37, width), 1, dtype)
            for view in (x, np.asfortranarray(x)):
                check(crossent.log_softmax(view), reference.log_softmax(x), limit)
                check(crossent.softmax(view), reference.softmax(x), limit)
                check(crossent.log_sigmoid(view), reference.log_sigmoid(x), limit)
                sums = crossent.logsumexp(view, 1).astype(float)
                tolerance = {"float64": 1e-14, "float32": 1e-6}.get(dtype.name, 2e-2)
                np.testing.assert_allclose(sums, reference.logsumexp(x, 1), rtol=tolerance, atol=tolerance)
                digest.update(sums.tobytes())
                for target in (t, p):
                    loss = crossent.cross_entropy(view, target, reduction="none")
                    expected = reference.cross_entropy(x, target, reduction="none")
                    if target is t:
                        check(loss, expected, 6)
                    else:
                        rtol = 1e-13 if dtype == np.float64 else 1e-6
                        np.testing.assert_allclose(loss, expected, rtol=rtol)
                        digest.update(loss.tobytes())
            rtol = 1e-13 if dtype == np.float64 else 1e-6
            columns = reference.score(x, t, top_k=2)
            for view in (x, np.asfortranarray(x)):
                scores = crossent.score(view, t, top_k=2)
                for column in ("entropy", "top_log_probs"):
                    np.testing.assert_allclose(
                        getattr(scores, column), columns[column], rtol=rtol, atol=1e-30
                    )
                for column in ("prediction", "rank", "top_ids"):
                    np.testing.assert_array_equal(getattr(scores, column), columns[column])
                for column in ("nll", "logsumexp", "entropy", "top_log_probs"):
                    digest.update(getattr(scores, column).tobytes())
            finite = np.nan_to_num(x.astype(float), nan=0, posinf=1, neginf=-1).astype(dtype)
            mean = crossent.cross_entropy(finite, t)
            np.testing.assert_allclose(mean, reference.cross_entropy(finite, t), rtol=1e-6)
            digest.update(mean.tobytes())
            other = finite[::-1]
            comparison = crossent.compare(finite, other, t)
            expected = reference.divergences(finite, other)[0]
            np.testing.assert_allclose(comparison.kl_mean, expected.mean(), rtol=1e-12, atol=1e-15)
            scorer = crossent.Scorer()
            scorer.update(finite, t)
            digest.update(repr((comparison.to_dict(), scorer.result().to_dict())).encode())
            digest.update(repr(crossent._core.temperature_sums(finite, t, -100, None, -1, 0.7)).encode())
    print(digest.hexdigest())


def _run(level: str | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = environment(Path(__file__).parent)
    env.pop("CROSSENT_ISA", None)
    if level is not None:
        env["CROSSENT_ISA"] = level
    return subprocess.run([sys.executable, *arguments], env=env, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def digests() -> dict[str, str]:
    return {}


@pytest.mark.parametrize("level", AVAILABLE)
def test_each_level_is_right(level: str, digests: dict[str, str]) -> None:
    run = _run(level, "-c", JUDGE, level)
    assert run.returncode == 0, run.stderr
    digests[level] = run.stdout.strip()
    assert len(digests[level]) == 64


def test_levels_with_fused_multiply_add_have_the_same_bits(digests: dict[str, str]) -> None:
    for level in AVAILABLE:
        if level not in digests:  # this test was chosen alone
            digests[level] = _run(level, "-c", JUDGE, level).stdout.strip()
    assert all(digests.values())
    assert len({digests[level] for level in AVAILABLE if level in FUSED}) <= 1


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
