"""The same work at every instruction set of this machine: a level holds for a process, so each has one of its own."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import crossent
from children import environment
from crossent import _core

AVAILABLE: list[str] = _core.build_info()["available_isas"]
"""The best one first."""
FUSED = [level for level in AVAILABLE if level in ("avx512", "avx2", "neon")]
"""Those with a fused multiply-add, whose results have the same bits."""

# A public function's name, its arguments and its options.
Call = tuple[str, tuple[Any, ...], dict[str, Any]]


def at_levels(code: str, *folders: Path, given: object = None) -> dict[str, Any]:
    """What `code` hands to `tell` at each level; it finds modules in `folders`, and `given` by `take`."""

    def run(level: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            env=environment(*folders, CROSSENT_ISA=level),
            input=pickle.dumps(given),
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        isa, told = pickle.loads(done.stdout)
        assert isa == level
        return told

    with ThreadPoolExecutor() as pool:
        return dict(zip(AVAILABLE, pool.map(run, AVAILABLE), strict=True))


def begin_first(request: Any, fixture: str) -> None:
    """Have a fixture start its processes at the first test of a module, if one that runs asks for it."""
    if any(fixture in item.fixturenames for item in request.session.items if item.path == request.path):
        request.getfixturevalue(fixture)


def take() -> Any:
    """What a process at a level was given."""
    return pickle.load(sys.stdin.buffer)


def tell(result: object) -> None:
    """Hand on what a process at a level found."""
    pickle.dump((_core.build_info()["isa"], result), sys.stdout.buffer)


def results_at_levels(calls: Iterable[Call]) -> dict[str, list[Any]]:
    """The results of the same calls at each level."""
    return at_levels("import levels; levels.tell(levels.results(levels.take()))", given=list(calls))


def results(calls: list[Call]) -> list[Any]:
    """The results of calls at the level in use."""
    return [getattr(crossent, key)(*arguments, **options) for key, arguments, options in calls]
