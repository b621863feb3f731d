"""Thousands of generated calls of the scores and comparisons, good and bad, each judged by fuzz_scoring.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import crossent
import fuzz_scoring
from arrays import DTYPES, MOST_AXES
from fuzz_scoring import NAMES, case, parameters

CALLS = int(os.environ.get("CROSSENT_FUZZ_SCORING_CALLS", "3000"))


def _run(seed: int) -> subprocess.CompletedProcess[str]:
    """Half of the calls."""
    command = [sys.executable, fuzz_scoring.__file__, "--seed", str(seed), "--count", str(-(-CALLS // 2))]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=600)


def test_no_call_does_what_it_must_not() -> None:
    with ThreadPoolExecutor() as pool:
        for run in pool.map(_run, (0, -(-CALLS // 2))):
            assert run.returncode == 0, run.stdout + run.stderr[-5000:]
            assert " 0 were wrong" in run.stdout


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_every_parameter_is_spoiled_and_every_name_called() -> None:
    cases = [case(number) for number in range(1500)]
    assert {call.name for call in cases} == set(NAMES)
    spoiled = {(call.name, key) for call in cases for key in call.spoiled}
    assert {(name, key) for name in NAMES for key in parameters(name)} <= spoiled
    assert {call.name for call in cases if not call.spoiled} == set(NAMES)
    assert 0.2 * len(cases) < sum(not call.spoiled for call in cases) < 0.45 * len(cases)


# What these calls found, without luck.


@pytest.mark.parametrize("ndim", [32, 33, 34, 64])
def test_rows_of_as_many_dimensions_as_numpy_has(ndim: int) -> None:
    if ndim > MOST_AXES:
        pytest.skip(f"NumPy {np.__version__} has {MOST_AXES} dimensions")
    scores = crossent.score(np.zeros((1,) * (ndim - 1) + (2,)), np.zeros((1,) * (ndim - 1), int), top_k=1)
    assert scores.nll.shape == (1,) * (ndim - 1)
    assert scores.nll.reshape(-1) == pytest.approx(np.log(2))


def test_no_memory_for_the_scores_is_a_memory_error() -> None:
    rows = np.broadcast_to(np.float32(0), (2**60, 1))  # more than any machine has addresses for
    with pytest.raises(MemoryError):
        crossent.score(rows, np.broadcast_to(np.int8(0), (2**60,)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "row", [[np.nan, 2, 1, 0], [0, 1, 2, np.nan], [1, np.nan, np.nan, 3], [np.inf, np.nan, 3, np.inf]]
)
@pytest.mark.parametrize("repeat", [1, 30])
def test_no_class_is_found_beside_a_nan(row: list[float], dtype: Any, repeat: int) -> None:
    x = np.array([row * repeat], dtype)
    for target in range(4):
        scorer = crossent.Scorer(top_k=(1, 2, 3, 4, 1000))
        scorer.update(x, [target])
        report, scores = scorer.result(), crossent.score(x, [target], top_k=4)
        assert report.top_k_accuracy == dict.fromkeys((1, 2, 3, 4, 1000), 0.0)
        assert (report.accuracy, report.nonfinite) == (0.0, 1)
        assert report.mean_reciprocal_rank == 1 / x.shape[1]
        assert (int(scores.rank[0]), bool(scores.correct[0])) == (x.shape[1], False)
        assert scores.prediction[0] == x[0].argmax()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"lengths": [2**62] * 4 + [5]}, "a sum of 5"),
        ({"lengths": [2**63 - 1, 2**63 - 1, 2, 5]}, "a sum of 5"),
        ({"cu_seqlens": [0, 2**62, -(2**63), -(2**62), 0, 5]}, "negative"),
        ({"segment_ids": np.full(5, 2**64 - 1, np.uint64)}, "int64"),
    ],
)
def test_sequences_beyond_int64_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        crossent.score(np.zeros((5, 2)), [0] * 5).by_sequence(**options)


@pytest.mark.parametrize("public", [crossent.Scorer, crossent.Comparer])
def test_a_damaged_text_is_a_value_error(public: Any) -> None:
    state = json.loads(public().to_json())
    more = (
        {"ignore_index": 2**70},
        {"count": 1},
        {"correct": 10**400} if "correct" in state else {"same_top": 1},
    )
    for text in ("[" * 10**5, *(json.dumps({**state, **part}) for part in more)):
        with pytest.raises(ValueError, match="is it damaged"):
            public.from_json(text)


def test_labels_that_cannot_be_sorted_are_a_type_error() -> None:
    p = np.full((2, 2), 0.5)
    records = np.array([(0,), (1,)], [("a", "f4")])
    with pytest.raises(TypeError, match=r"y_true has fields: .*x\['a'\]"):
        crossent.log_loss(records, p)
    for labels in (records, records[:1], ["a", None], np.ma.masked_array([0, 1])):
        with pytest.raises(TypeError, match="labels"):
            crossent.log_loss([0, 1], p, labels=labels)
    assert crossent.log_loss(np.array(["a", "b"], object), p) == pytest.approx(np.log(2))
