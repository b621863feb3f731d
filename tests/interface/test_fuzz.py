"""Thousands of generated calls, good and bad, at each instruction set; fuzz.py says what each must satisfy."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import crossent
import fuzz
from arrays import MOST_AXES
from children import environment
from levels import AVAILABLE, begin_first

CALLS = int(os.environ.get("CROSSENT_FUZZ_CALLS", "9000"))
FUZZ = Path(fuzz.__file__)

pytestmark = pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")


def _run(*arguments: object, isa: str | None = None) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **({"CROSSENT_ISA": isa} if isa else {})}
    command = [sys.executable, str(FUZZ), *map(str, arguments)]
    return subprocess.run(command, env=env, capture_output=True, text=True, errors="replace", timeout=600)


# ---- every call, at every instruction set ---------------------------------------------------------------


@pytest.fixture(scope="module")
def runs() -> Iterator[dict[str, Future[subprocess.CompletedProcess[str]]]]:
    """A share of the calls at each level; they run at the same time."""
    share = -(-CALLS // len(AVAILABLE))
    with ThreadPoolExecutor() as pool:
        yield {
            isa: pool.submit(_run, "--seed", share * i, "--count", share, isa=isa)
            for i, isa in enumerate(AVAILABLE)
        }


@pytest.fixture(scope="module", autouse=True)
def _runs_begin_first(request: pytest.FixtureRequest) -> None:
    """Their test is the last one: the others are in this process while they go on."""
    begin_first(request, "runs")


# ---- nothing is left out --------------------------------------------------------------------------------

# Of scores and comparisons test_fuzz_scoring.py makes its own calls; the others are what those give back.
SCORES = {"LinearLogits", "score", "Scorer", "compare", "Comparer", "fit_temperature", "log_loss"}
RESULTS = {
    "CalibrationBin",
    "ClassScores",
    "Comparison",
    "LinearGradients",
    "LossHistogram",
    "PositionGroup",
    "Report",
    "Scores",
    "SequenceScores",
    "Temperature",
}
PUBLIC = [
    name for name in crossent.__all__ if callable(getattr(crossent, name)) and name not in SCORES | RESULTS
]


def test_every_public_callable_is_called() -> None:
    missing = set(PUBLIC) - set(fuzz.FUNCTIONS)
    assert not missing, f"fuzz.FUNCTIONS has no good arguments for {sorted(missing)}"
    assert set(fuzz.FUNCTIONS) <= set(PUBLIC)
    assert set(fuzz.NAMES) == set(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_parameter_is_spoiled(name: str) -> None:
    missing = set(fuzz.parameters(name)) - set(fuzz.PARAMETERS)
    assert not missing, f"fuzz.PARAMETERS has no values for {sorted(missing)} of {name}"


def _is_long(value: object) -> bool:
    return isinstance(value, np.ndarray) and fuzz.is_long(value.shape)


def test_the_cases_cover_what_they_should() -> None:
    cases = [fuzz.case(number) for number in range(4000)]
    assert {case.name for case in cases} == set(PUBLIC)
    spoiled = {(case.name, key) for case in cases for key in case.spoiled}
    most = {(name, key) for name in PUBLIC for key in fuzz.parameters(name)}
    assert len(most - spoiled) < 0.02 * len(most), most - spoiled
    good = [case for case in cases if not case.spoiled]
    assert 0.2 * len(cases) < len(good) < 0.4 * len(cases)
    arrays = [case.arguments.get("input", case.arguments.get("x")) for case in good]
    plain = [x for x in arrays if isinstance(x, np.ndarray)]
    assert {x.dtype.newbyteorder("=").name for x in plain} >= {"float16", "bfloat16", "float32", "float64"}
    assert any(not x.flags.aligned for x in plain)
    assert any(not x.dtype.isnative for x in plain)
    assert any(not x.flags.writeable for x in plain)
    assert any(stride < 0 for x in plain for stride in x.strides)
    assert {0, 1, 2, 3, 4, 5} < {x.ndim for x in plain}
    assert any(x.ndim > min(32, MOST_AXES - 2) for x in plain)
    assert any(0 in x.shape for x in plain)
    endless = [
        case for case in good if case.name != "log_sigmoid" and any(map(_is_long, case.plain.values()))
    ]
    assert len({fuzz.function_of(case.name) for case in endless}) > 8
    assert not any(case.huge for case in endless)  # they end by themselves
    assert any(x.size > 1 << 17 for x in plain)  # shared out to threads
    assert {case.threads for case in cases} == {1, 3}


def test_a_case_is_drawn_from_its_number_alone() -> None:
    shown = [_run("--seed", seed, "--count", count, "--show").stdout for seed, count in ((90, 5), (93, 1))]
    wanted = [line for line in shown[0].splitlines() if line.startswith("case 93: ")]
    assert wanted == [line for line in shown[1].splitlines() if line.startswith("case 93: ")] != []


# ---- and it can fail ------------------------------------------------------------------------------------


def _told(
    monkeypatch: pytest.MonkeyPatch, name: str, fault: Callable[..., Any], count: int = 800
) -> set[str]:
    """What is said of the calls of a function with a fault."""
    real = getattr(crossent, name)
    parameters = fuzz.parameters(name)
    monkeypatch.setattr(crossent, name, lambda *args, **options: fault(real, *args, **options))
    monkeypatch.setattr(fuzz, "parameters", lambda called: parameters)
    monkeypatch.setattr(fuzz, "NAMES", [name])
    monkeypatch.setattr(sys, "unraisablehook", fuzz.unraisable)
    judge, problems = fuzz.Judge(), set()
    for number in range(count):
        call = fuzz.case(number)
        if not call.huge:
            try:
                judge.judge(call)
            except fuzz.Wrong as problem:
                problems.add(str(problem))
    return problems


def _raises(error: BaseException) -> Callable[..., Any]:
    def fault(real: Callable[..., Any], *args: Any, **options: Any) -> Any:
        result = real(*args, **options)
        if getattr(result, "size", 0) > 20:
            raise error
        return result

    return fault


class PanicException(BaseException):
    """As PyO3 raises it."""


def _scribbles(real: Callable[..., Any], x: Any, *args: Any, **options: Any) -> Any:
    result = real(x, *args, **options)
    if type(x) is np.ndarray and x.size > 3 and x.flags.writeable and options.get("out") is None:
        x.flat[-1] = 7
    return result


def _scribbles_beside(real: Callable[..., Any], x: Any, *args: Any, **options: Any) -> Any:
    result = real(x, *args, **options)
    if type(x) is np.ndarray and fuzz.root_of(x) is not x:
        fuzz.root_of(x)[0] ^= 1
    return result


def _scribbles_when_it_raises(real: Callable[..., Any], x: Any, *args: Any, **options: Any) -> Any:
    try:
        return real(x, *args, **options)
    except (TypeError, ValueError):
        out = options.get("out")
        if type(out) is np.ndarray and out.dtype.kind == "f" and out.flags.writeable:
            out[...] = 0
        raise


def _wrong_shape(real: Callable[..., Any], *args: Any, **options: Any) -> Any:
    result = real(*args, **options)
    return result[np.newaxis] if type(result) is np.ndarray else result


def _wrong_dtype(real: Callable[..., Any], *args: Any, **options: Any) -> Any:
    result = real(*args, **options)
    return result.astype(np.float32) if type(result) is np.ndarray and options.get("out") is None else result


def _wrong_number(real: Callable[..., Any], *args: Any, **options: Any) -> Any:
    result = real(*args, **options)
    if type(result) is np.ndarray and result.dtype.kind == "f" and result.size > 9 and result.flags.writeable:
        result.flat[-1] += 0.125
    return result


def _minds_the_layout(real: Callable[..., Any], x: Any, *args: Any, **options: Any) -> Any:
    """Nan becomes 1 where the memory is not in order: no definition says so, as no ordinary array holds nan."""
    result = real(x, *args, **options)
    if type(result) is np.ndarray and result.dtype.kind == "f" and result.flags.writeable:
        ordered = (
            type(x) is np.ndarray and x.flags.c_contiguous and type(options.get("out")) is not np.ndarray
        )
        result[np.isnan(result)] = np.nan if ordered else 1
    return result


def _copies_out(real: Callable[..., Any], *args: Any, **options: Any) -> Any:
    result = real(*args, **options)
    return result.copy() if options.get("out") is not None else result


FAULTS: dict[str, tuple[Callable[..., Any], str]] = {
    "a panic": (_raises(PanicException("called `Option::unwrap()`")), "PanicException"),
    "a SystemError": (_raises(SystemError("error return without exception set")), "SystemError"),
    "a RuntimeError": (_raises(RuntimeError("x")), "RuntimeError"),
    "an error without text": (_raises(ValueError("")), "names no argument"),
    "writing to an argument": (_scribbles, "wrote outside its outputs"),
    "writing beside an argument": (_scribbles_beside, "wrote"),
    "writing before raising": (_scribbles_when_it_raises, "raised, and has written"),
    "a wrong shape": (_wrong_shape, "expected"),
    "a wrong dtype": (_wrong_dtype, "the result is float32"),
    "a wrong number": (_wrong_number, "the loss is"),
    "minding the layout": (_minds_the_layout, "plain arrays give another result"),
    "another array than out": (_copies_out, "out was given, and is not the result"),
}


@pytest.mark.parametrize("key", FAULTS)
def test_a_fault_is_found(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fault, words = FAULTS[key]
    problems = _told(monkeypatch, "log_sigmoid", fault)
    assert any(words in problem for problem in problems), problems


UNCLEAR: dict[str, tuple[Exception, str]] = {
    "Rust's words": (ValueError("x: called `Option::unwrap()` on a `None` value"), "in Rust's words"),
    "no argument": (ValueError("shapes differ"), "names no argument"),
    "no text": (TypeError(""), "names no argument"),
    "a class of its own": (
        type("Own", (ValueError,), {})("x is wrong"),
        "a class of error that says nothing",
    ),
}


@pytest.mark.parametrize("key", UNCLEAR)
def test_an_unclear_error_is_found(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error, words = UNCLEAR[key]

    def fault(real: Callable[..., Any], *args: Any, **options: Any) -> Any:
        try:
            return real(*args, **options)
        except (TypeError, ValueError, IndexError):
            raise error from None

    problems = _told(monkeypatch, "log_sigmoid", fault)
    assert any(words in problem for problem in problems), problems


def test_no_fault_is_seen_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not _told(monkeypatch, "log_sigmoid", lambda real, *args, **options: real(*args, **options))


CRASH = """
import ctypes, os, sys, time
import crossent, fuzz
real = crossent.log_sigmoid
def faulty(*args, **options):
    {fault}
crossent.log_sigmoid = faulty
fuzz.parameters = lambda name: ("x", "out")
fuzz.NAMES = ["log_sigmoid"]
fuzz.HANG_SECONDS = 2
fuzz._limit_memory = lambda: None  # it would load torch
sys.argv[0] = fuzz.__file__
sys.exit(fuzz.main())
"""


@pytest.mark.parametrize(
    ("fault", "words"),
    [("ctypes.string_at(0)", "SIGSEGV"), ("os.abort()", "SIGABRT"), ("time.sleep(60)", "hung")],
    ids=["crash", "abort", "hang"],
)
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_the_end_of_the_process_is_told_with_its_case(fault: str, words: str, tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(CRASH.format(fault=fault))
    code = f"import sys, fuzz; fuzz.WORKER = {str(worker)!r}; sys.exit(min(fuzz.supervise(5, 2, 1), 1))"
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 1
    assert run.stdout.startswith("case 5: the process")
    assert words in run.stdout
    assert "crossent." in run.stdout
    assert "--seed 5 --count 1" in run.stdout


# ---- and every call is made ------------------------------------------------------------------------------


@pytest.mark.parametrize("isa", AVAILABLE)
def test_no_call_does_what_it_must_not(
    isa: str, runs: dict[str, Future[subprocess.CompletedProcess[str]]]
) -> None:
    run = runs[isa].result()
    assert run.returncode == 0, run.stdout + run.stderr[-5000:]
    assert " 0 were wrong" in run.stdout
