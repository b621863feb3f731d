"""The benchmarks: no thread spins beside them, every answer is checked, targets and means are counted right."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import crossent
from children import environment

BENCHES = Path(__file__).parents[2] / "benches"
INSTALLED = {name for name in ("jax", "torch") if importlib.util.find_spec(name)}
sys.path.append(str(BENCHES))
with mock.patch.dict(os.environ):  # of which machine.py sets some
    from cases import (  # type: ignore[import-not-found]
        CASES,
        LIMIT,
        MICROSECONDS,
        NANOSECONDS,
        ONE_THREAD,
        PLAIN,
        Case,
        Target,
    )
    from figure import multiples  # type: ignore[import-not-found]
    from machine import SETTINGS  # type: ignore[import-not-found]
    from results import Result, json_of, row_of, summary, summary_lines, table_lines  # type: ignore[import-not-found]

# ---- threads that wait ----------------------------------------------------------------------------------

# Imports a program, and tells what the settings were when the first library with threads was imported.
WATCHED = """
import importlib, json, os, sys

def told(event, arguments):
    if event == "import" and arguments[0] in ("jax", "lightgbm", "numpy", "torch"):
        print(json.dumps([arguments[0], {name: os.environ.get(name) for name in json.loads(sys.argv[2])}]))
        sys.stdout.flush()
        os._exit(0)

sys.addaudithook(told)
importlib.import_module(sys.argv[1])
"""


@pytest.mark.parametrize("program", ["boosting", "compare", "frameworks", "scaling"])
def test_settings_are_made_before_any_library_is_imported(program: str) -> None:
    assert SETTINGS["OMP_WAIT_POLICY"] == "PASSIVE"
    assert SETTINGS["GOMP_SPINCOUNT"] == SETTINGS["KMP_BLOCKTIME"] == "0"
    env = {name: value for name, value in environment(BENCHES).items() if name not in SETTINGS}
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, program, json.dumps(list(SETTINGS))],
        env={**env, "CROSSENT_NUM_THREADS": "3"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    _, found = json.loads(done.stdout)
    assert found == {name: "3" if name.endswith("_THREADS") else value for name, value in SETTINGS.items()}


# ---- targets and means ----------------------------------------------------------------------------------


def result(figure: float = 1.0, unit: str = LIMIT, *, name: str = "a case", **seconds: list[float]) -> Any:
    return Result(Case(name, lambda rng: None, Target(figure, unit)), 500, seconds)


def test_every_case_has_a_target_of_a_kind_that_it_can_be_held_to() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 49
    for case in CASES:
        assert (case.target.unit == NANOSECONDS) == case.name.startswith("from cache")
        assert case.threads == 1 or case.target.unit != NANOSECONDS
        assert case.limited == (case.target.unit not in (NANOSECONDS, MICROSECONDS))
        assert (case.place == "last cache") == ("(4096, 1000)" in case.name)


def test_a_target_without_a_figure_for_it_is_not_met() -> None:
    for found in (result(crossent=[1.0]), result(read=[1.0])):  # no limit; a wrong answer, which is not timed
        assert not found.met
        assert row_of(found)["target"] == "1x limit: not measured"


@pytest.mark.parametrize(
    ("unit", "others", "measured"),
    [
        (LIMIT, {"read": [1e-6, 1.25e-6, 5e-6], "read slowly": [1.0, 1.0, 1.0]}, 1.6),
        (PLAIN, {"cross_entropy": [1e-6, 1.25e-6, 5e-6]}, 1.6),
        (ONE_THREAD, {"one thread": [4e-6, 3e-6, 1e-6]}, 1.5),
        (MICROSECONDS, {}, 2.0),
        (NANOSECONDS, {}, 4.0),
    ],
)
def test_a_target_is_met_up_to_its_figure(unit: str, others: dict[str, list[float]], measured: float) -> None:
    seconds = {"crossent": [2e-6, 2e-6, 2e-6], **others}
    for figure in (measured * 0.99, measured * 1.01):
        found = result(figure, unit, **seconds)
        assert found.measured == pytest.approx(measured)
        assert found.met == ((figure > measured) != (unit == ONE_THREAD))
        assert ("yes" if found.met else "NO") in row_of(found)["target"]


def test_a_round_that_one_sits_out_is_not_counted() -> None:
    nan = float("nan")
    found = result(crossent=[1.0, 2.0, 8.0], torch=[4.0, 4.0, nan], numpy=[nan, 2.0, 4.0])
    assert found.ratio("torch") == 3.0
    assert found.ratio("numpy") == 0.75
    assert found.median("torch") == 4.0
    assert result(crossent=[nan, 1.0], torch=[8.0, 2.0]).ratio("torch") == 2.0


def results() -> list[Any]:
    return [
        result(
            1.2,
            name="near",
            crossent=[1.1] * 3,
            torch=[4.4] * 3,
            numpy=[2.2] * 3,
            scipy=[9.9] * 3,
            read=[1.0] * 3,
            before=[1.1] * 3,
        ),
        result(
            1.2,
            name="far",
            crossent=[4.4] * 3,
            torch=[4.0] * 3,
            jax=[35.2] * 3,
            copy=[1.0] * 3,
            before=[4.0] * 3,
        ),
        result(1.0, MICROSECONDS, name="a call", crossent=[9e-7] * 3, before=[9e-7 / 1.04] * 3),
        result(name="alone", crossent=[1.0] * 3, numpy=[0.5] * 3, before=[2.0] * 3),
    ]


def test_the_summary_has_the_means_the_targets_and_what_falls_behind() -> None:
    found = summary(results())
    means = {name: (each["ratio"], each["cases"]) for name, each in found["geometric_means"].items()}
    assert means == {
        "torch / crossent": (pytest.approx((4.0 * 4.0 / 4.4) ** 0.5), 2),
        "fastest other / crossent": (pytest.approx(2.0), 3),  # of 2, 8 and a half
        "crossent / limit": (pytest.approx((1.1 * 4.4) ** 0.5), 2),
        "before / crossent": (pytest.approx((4.0 / 4.4 / 1.04 * 2) ** 0.25), 4),
    }
    assert (found["targets_met"], found["targets"], found["targets_missed"]) == (2, 4, ["far", "alone"])
    assert found["behind"] == {"far": ["torch"], "alone": ["numpy"]}
    assert found["slower_than_before"] == ["far"]
    lines = list(summary_lines(results(), against=True))
    assert lines[1:] == [
        "targets met: 2 of 4",
        "behind torch or the fastest other library: far (torch); alone (numpy)",
        "slower than before by more than 5%: far",
    ]
    assert "crossent / limit 2.20x (cases: 2)" in lines[0]
    assert len(list(summary_lines(results(), against=False))) == 3


def test_nothing_that_falls_behind_is_none() -> None:
    lines = list(summary_lines(results()[:1], against=True))
    assert lines[2].endswith(": none")
    assert lines[3].endswith(": none")


def test_the_table_shows_the_earlier_build_where_there_is_one() -> None:
    with_it = list(table_lines(results(), against=True, markdown=True))
    without = list(table_lines(results(), against=False, markdown=True))
    assert len(with_it) == len(without) == 2 + len(results())
    assert {line.count("|") for line in with_it} == {10}
    assert {line.count("|") for line in without} == {9}
    (far,) = (line for line in with_it if line.startswith("| far"))
    assert [cell.strip() for cell in far.strip("|").split("|")] == [
        "far",
        "4400.00 ms",
        "4000.00 ms",
        "0.91x",
        "jax 35200.00 ms",
        "8.00x",
        "4.40x",
        "0.91x",
        "1.2x limit: 4.40 NO; BEHIND torch; SLOWER",
    ]


def test_the_figure_shows_multiples_of_the_limit() -> None:
    run = {"cases": [json_of(each) for each in results()], "summary": {"targets": 3}}
    about = dict.fromkeys(("date", "cpu", "threads", "system", "crossent", "versions"), "known")
    shown = multiples({**about, **run})
    assert shown["cases"] == [
        {
            "case": "near",
            "crossent": 1.1,
            "torch": 4.4,
            "fastest other": 2.2,
            "other": "numpy",
            "target": 1.2,
        },
        {"case": "far", "crossent": 4.4, "torch": 4.0, "fastest other": 35.2, "other": "jax", "target": 1.2},
    ]
    assert shown["cpu"] == "known"


# ---- a run ----------------------------------------------------------------------------------------------

# The benchmark with small cases instead of its own, and with a peer whose answers are wrong.
SMALL = """
import sys
import compare
import crossent
from cases import *
from peers import PEERS, by_crossent
from problems import as_array

def small_scores(rng):
    problem = classes(20, 50)(rng)
    problem.kind = "score"
    return problem

compare.CASES[:] = [
    near_limit("loss", classes(300, 10), 1),
    near_limit("half precision", classes(64, 50, dtype="bfloat16"), 1),
    near_limit("planes", classes(2, 5, 6, 7), 1),
    *(near_limit(kind, of_rows(kind, 300, 3, out=kind != "logsumexp"), 1)
      for kind in ("softmax", "log_softmax", "logsumexp")),
    near_limit("gradient", gradient(300, 2), 1),
    near_limit("gradient of planes", gradient(2, 5, 6, 7, out=True), 1),
    near_plain("score", small_scores, 1),
    near_plain("weights", weighted, 1),
    near_plain("probabilities", probabilities, 1),
    from_cache("half", classes(8, 64, dtype="float16"), 1),
    from_cache("gradient", gradient(40, 2, out=True), 1),
    near_limit("linear", linear("linear gradient", 20, 8, 40), 1),
    Case("all threads", classes(300, 10), Target(1, ONE_THREAD), "last cache"),
    Case("a call", classes(8, 10), Target(1, MICROSECONDS), "cache"),
]

def wrong(problem):
    answer = as_array(by_crossent(problem, crossent)()) + 1
    return lambda: answer

PEERS["scipy"] = wrong
compare.SAMPLE_SECONDS, compare.CACHES = 1e-4, 1 << 20
sys.exit(compare.main())
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, Any]]:
    """A run of small cases beside a copy of the package: its file, what it printed, and what the file holds."""
    folder = tmp_path_factory.mktemp("run")
    package = Path(crossent.__file__).parent
    shutil.copytree(package, folder / "crossent", ignore=shutil.ignore_patterns("__pycache__"))
    written = folder / "run.json"
    done = subprocess.run(
        [sys.executable, "-c", SMALL, "--rounds", "3", "--against", folder, "--json", written],
        env=environment(BENCHES, CROSSENT_NUM_THREADS="2"),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 1  # because of the wrong answers
    assert "Traceback" not in done.stderr, done.stderr
    return written, done.stdout, json.loads(written.read_text(encoding="utf-8"))


def test_wrong_answers_fail_the_run_and_are_not_timed(run: tuple[Path, str, dict[str, Any]]) -> None:
    _, printed, found = run
    assert len(found["cases"]) == 16
    for case in found["cases"]:
        assert case["wrong"] == ["scipy"]
        assert "scipy" not in case["seconds"]
        assert f"{case['case']} " in printed
    assert printed.count("WRONG: scipy") == 16


def test_crossent_is_timed_in_every_case_beside_another_build_and_torch(
    run: tuple[Path, str, dict[str, Any]],
) -> None:
    _, printed, found = run
    for case in found["cases"]:
        seconds = case["seconds"]
        assert {"crossent", "before"} | {"torch"} & INSTALLED <= set(seconds)
        assert {len(samples) for samples in seconds.values()} == {3}
        assert case["measured"] > 0
        limited = not case["case"].startswith(("from cache", "a call"))
        assert (case["limit"] is not None) == limited
        assert ("cross_entropy" in seconds) == (case["target"]["unit"] == PLAIN.strip())
        assert ("one thread" in seconds) == (case["target"]["unit"] == ONE_THREAD.strip())
    assert found["before"] == found["crossent"]
    assert found["summary"]["targets"] == 16
    assert f"targets met: {found['summary']['targets_met']} of 16" in printed
    assert f"before: crossent {found['before']}, {run[0].parent}" in printed


def test_the_peers_that_can_compute_a_case_take_part(run: tuple[Path, str, dict[str, Any]]) -> None:
    timed = {case["case"]: set(case["seconds"]) for case in run[2]["cases"]}
    for case in ("loss", "half precision", "planes", "softmax", "log_softmax", "gradient", "weights"):
        assert {"jax"} & INSTALLED <= timed[case]
    assert "jax" not in timed["from cache, half"]  # its threads are those of the process
    for case in ("loss", "softmax", "log_softmax", "logsumexp", "probabilities", "from cache, half"):
        assert "numpy" in timed[case]


def test_the_figure_is_drawn_from_the_file(run: tuple[Path, str, dict[str, Any]], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("torch")  # whose times are drawn
    drawn = []
    for arguments in ([run[0]], []):  # from the run, then from what is kept of it
        subprocess.run(
            [sys.executable, BENCHES / "figure.py", *arguments, "--to", tmp_path],
            check=True,
            env=environment(),
            timeout=300,
        )
        drawn.append((tmp_path / "performance.svg").read_bytes())
    assert drawn[0] == drawn[1]
    kept = json.loads((tmp_path / "performance.json").read_text(encoding="utf-8"))
    assert kept["summary"] == run[2]["summary"]
    units = (LIMIT.strip(), PLAIN.strip())
    shown = [case["case"] for case in run[2]["cases"] if case["target"]["unit"] in units]
    assert [case["case"] for case in kept["cases"]] == shown
    assert len(shown) == 12
    for text in (*shown, "time as a multiple of the limit", "torch", "fastest other", "target"):
        assert f">{text}<" in drawn[0].decode()


def test_a_folder_without_the_package_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, BENCHES / "compare.py", "--against", tmp_path],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2
    assert f"{tmp_path} holds no package crossent" in done.stderr
