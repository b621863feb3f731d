"""Time crossent beside torch, SciPy, JAX, ONNX Runtime, Numba and plain NumPy, after checking every answer.

    python benches/compare.py [--case TEXT] [--rounds N] [--against FOLDER] [--json FILE] [--markdown]

All contenders get the same arrays and the same number of threads. They run one after the other in each round, in an
order that is drawn anew for each round, and ratios are medians of the rounds' own ratios. Each answer is first compared
with one computed in float64: beyond its tolerance the run fails. The "limit" is the least time in which the bytes can
be moved at all, measured in the same rounds: the fastest of several plain sums over logits and targets; for results of
the logits' size a copy of these, for gradient and Hessian two, besides the targets; for hidden states NumPy's products
alone. Calls whose bytes should come from memory are each preceded by reading other bytes, where the caches could hold
theirs. Contenders that are not installed are left out.

`--against` times another build in the same rounds, as "before": FOLDER holds the folder `crossent` of the package with
its compiled extension. Cases, targets and peers are in cases.py and peers.py; figure.py draws what `--json` wrote.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import importlib
import importlib.metadata
import json
import platform
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

from machine import CORES, PAUSE_AFTER_PRODUCTS, PAUSE_SECONDS, THREADS, cpu_model, other_work

# isort: split
import numpy as np
from cases import CASES, ONE_THREAD, PLAIN, Case
from limits import limit_calls
from peers import PACKAGES, PEERS, Absent, Call, by_crossent
from problems import Array, Problem, as_array, error_of, reference, tolerance
from results import Result, json_of, summary, summary_lines, table_lines

import crossent
import crossent.boosting

SEED = 0
SAMPLE_SECONDS = 0.02  # a sample repeats short calls until it takes this long
CACHES = 128 << 20  # bytes, more than the caches hold: repeated calls on fewer bytes would find theirs there
SLOW_SECONDS = 0.3  # what takes longer for one call takes part in the first rounds only
SLOW_ROUNDS = 3


def another_build(folder: Path) -> ModuleType:
    """The package `crossent` in a folder, beside the one that is imported: its modules are set aside meanwhile."""
    if not (folder / "crossent" / "__init__.py").is_file():
        raise FileNotFoundError(f"{folder} holds no package crossent")

    def set_aside() -> dict[str, ModuleType]:
        names = [name for name in sys.modules if name.partition(".")[0] == "crossent"]
        return {name: sys.modules.pop(name) for name in names}

    own = set_aside()
    sys.path.insert(0, str(folder.resolve()))
    try:
        build = importlib.import_module("crossent")
        importlib.import_module("crossent.boosting")
    finally:
        sys.path.pop(0)
        set_aside()
        sys.modules.update(own)
    return build


# ---- timing -----------------------------------------------------------------------------------------------


def contenders_of(case: Case, problem: Problem, result: Result, before: ModuleType | None) -> dict[str, Call]:
    """The calls for a case whose answers are right."""
    expected = reference(problem)
    makers = {"crossent": lambda problem: by_crossent(problem, crossent), **PEERS}
    if before is not None:
        makers["before"] = lambda problem: by_crossent(problem, before)
    if case.target.unit == ONE_THREAD:
        makers["one thread"] = on_one_thread
    calls: dict[str, Call] = {}
    for name, make in makers.items():
        try:
            call = make(problem)
        except Absent as reason:
            result.absent[name] = str(reason)
            continue
        if problem.out is not None:
            problem.out.fill(0)
        result.errors[name] = error_of(as_array(call()), problem, expected)
        if not result.errors[name] <= tolerance(name, problem):
            result.wrong.append(name)
            continue
        calls[name] = call
    return calls


def on_one_thread(problem: Problem) -> Call:
    call = by_crossent(problem, crossent)

    def alone() -> Any:
        crossent.set_num_threads(1)
        try:
            return call()
        finally:
            crossent.set_num_threads(problem.threads)

    return alone


def seconds_of(call: Call, number: int, others: Array | None = None) -> float:
    """The seconds of one of so many calls; each after others' bytes have taken the caches, where they are given."""
    if others is None:
        start = time.perf_counter()
        for _ in range(number):
            call()
        return (time.perf_counter() - start) / number
    seconds = 0.0
    for _ in range(number):
        np.add.reduce(others)
        start = time.perf_counter()
        call()
        seconds += time.perf_counter() - start
    return seconds / number


def measure(case: Case, rounds: int, pool: ThreadPoolExecutor, before: ModuleType | None = None) -> Result:
    """Check the answers of all contenders for a case, then time them in rounds."""
    problem = case.make(np.random.default_rng(SEED))
    problem.threads = case.threads
    result = Result(case, problem.x.size)
    for build in (crossent, before):
        if build is not None:
            build.set_num_threads(case.threads)
    calls = contenders_of(case, problem, result, before)
    yardsticks = limit_calls(problem, pool) if case.limited else {}
    if case.target.unit == PLAIN:
        yardsticks["cross_entropy"] = by_crossent(problem.as_plain(), crossent)
    for call in yardsticks.values():
        call()  # first touches and compilation, which the others have behind them
    calls |= yardsticks
    others = np.ones(CACHES // 8, np.uint64) if case.place == "memory" and problem.nbytes < CACHES else None

    numbers, slow = {}, set()
    for name, call in calls.items():
        once = seconds_of(call, 1, others)
        numbers[name] = max(1, min(100_000, round(SAMPLE_SECONDS / once)))
        if once > SLOW_SECONDS:
            slow.add(name)
    result.seconds = {name: [] for name in calls}
    products = problem.matrix is not None or problem.weight is not None
    pause = PAUSE_AFTER_PRODUCTS if products else PAUSE_SECONDS
    order, shuffle = list(calls), random.Random(SEED).shuffle
    gc.collect()
    gc.disable()
    for turn in range(rounds):
        shuffle(order)
        for name in order:
            if name in slow and turn >= SLOW_ROUNDS:
                result.seconds[name].append(float("nan"))
                continue
            time.sleep(pause)
            if numbers[name] > 1:
                calls[name]()  # wakes the threads, and brings what lies in a cache there
            result.seconds[name].append(seconds_of(calls[name], numbers[name], others))
    gc.enable()
    return result


# ---- the run ----------------------------------------------------------------------------------------------


def circumstances(before: ModuleType | None) -> dict[str, Any]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "absent"
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": cpu_model(),
        "cores": CORES,
        "threads": THREADS,
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "crossent": build_of(crossent),
        **({} if before is None else {"before": build_of(before)}),
        "versions": versions,
    }


def build_of(package: ModuleType) -> str:
    build = package._core.build_info()
    return f"{build['version']} ({build['profile']}, {build['isa']})"


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Time crossent beside its peers, after checking every answer."
    )
    parser.add_argument("--case", default="", metavar="TEXT", help="only the cases whose name contains TEXT")
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds a case (default 9)")
    parser.add_argument(
        "--against", type=Path, metavar="FOLDER", help="time the package crossent in FOLDER, too"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample to FILE")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    options = parser.parse_args()
    cases = [case for case in CASES if options.case in case.name]
    if not cases or options.rounds < 1:
        parser.error(f"no case contains {options.case!r}" if not cases else "--rounds must be at least 1")
    try:
        before = None if options.against is None else another_build(options.against)
    except (FileNotFoundError, ImportError) as error:
        parser.error(f"--against: {error}")

    about = circumstances(before)
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    bullet = "- " if options.markdown else ""
    print(f"{bullet}{about['date']}, {about['cpu']}, {CORES} cores, {THREADS} threads, {about['system']}")
    print(f"{bullet}crossent {about['crossent']}; {versions}")
    if before is not None:
        print(f"{bullet}before: crossent {about['before']}, {before.__file__}")
    if crossent._core.build_info()["profile"] != "release":
        print(f"{bullet}crossent is a debug build: its times mean nothing")
    if (load := other_work()) is not None:
        print(f"{bullet}other work is running (load {load:.1f}): these times are not to be relied on")
    print(flush=True)

    results = []
    with ThreadPoolExecutor(THREADS) as pool:
        for number, case in enumerate(cases, start=1):
            print(f"[{number}/{len(cases)}] {case.name}", file=sys.stderr, flush=True)
            results.append(measure(case, options.rounds, pool, before))
    against = before is not None
    print("\n".join(table_lines(results, against=against, markdown=options.markdown)))
    print()
    for line in summary_lines(results, against=against):
        print(f"{bullet}{line}")
    if options.json:
        content = {**about, "summary": summary(results), "cases": [json_of(result) for result in results]}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    for result in results:
        for name in result.wrong:
            print(f"WRONG: {name}, {result.case.name}: error {result.errors[name]:.2e}", file=sys.stderr)
    return 1 if any(result.wrong for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
