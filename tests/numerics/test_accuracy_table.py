"""The tables of errors in docs/numerics.md: their program runs, and crossent keeps the limits at every level."""

import functools
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from arrays import Array
from hard_rows import FAMILIES, FUNCTIONS, LIMITS, Sample, results_at, samples
from levels import AVAILABLE
from programs import load
from ulp import Exact

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "numerics.md"
DTYPES = ("float32", "float64")
IN_FLOAT32 = {"binary_cross_entropy", "binary_cross_entropy_with_logits"}
STEP = 7  # of the families with many rows, one in seven is tested here
NAMES = [family.name for family in FAMILIES]


@functools.cache
def _program() -> ModuleType:
    pytest.importorskip("torch")
    return load(ROOT / "benches" / "accuracy.py")


def _lines(head: str) -> list[list[str]]:
    """The cells of the lines of the page that begin so, without the head."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    return [
        [cell.strip() for cell in line.removeprefix(head).strip("| ").split(" | ")]
        for line in lines
        if line.startswith(head)
    ]


# ---- functions of rows ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exactly() -> list[tuple[Sample, Exact]]:
    return [(sample, sample.exact()) for sample in samples(STEP)]


def _page(dtype: str, title: str, library: str) -> dict[str, float]:
    """The figures of one line of the table of a dtype."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {dtype} | |"))
    assert [cell.strip() for cell in lines[start].strip("| ").split("|")[2:]] == NAMES
    table = lines[start : lines.index("", start)]
    head = f"| {title} | {library} | "
    (line,) = [line.removeprefix(head) for line in table if line.startswith(head)]
    return dict(zip(NAMES, map(float, line.strip("| ").split(" | ")), strict=True))


@pytest.fixture(scope="module")
def ours() -> Iterator[dict[str, Future[dict[str, Array]]]]:
    """The results at each level, all of which are at work at the same time."""
    with ThreadPoolExecutor() as pool:
        yield {level: pool.submit(results_at, level, STEP) for level in AVAILABLE}


@pytest.mark.parametrize("level", AVAILABLE)
def test_no_result_is_further_off_than_its_limit_and_its_figure(
    level: str, ours: dict[str, Future[dict[str, Array]]], exactly: list[tuple[Sample, Exact]]
) -> None:
    results = ours[level].result()
    assert len(results) == len(exactly) == len(FUNCTIONS) * len(FAMILIES) * len(DTYPES)
    for sample, exact in exactly:
        error = exact.errors(results[sample.key]).max()
        assert error <= LIMITS[sample.function.title][DTYPES.index(sample.dtype.name)], sample.key
        page = _page(sample.dtype.name, sample.function.title, "crossent")
        assert error <= page[sample.family.name] + 0.005, sample.key


def test_no_limit_is_above_the_promise() -> None:
    assert set(LIMITS) == {function.title for function in FUNCTIONS}
    for narrow, wide in LIMITS.values():
        assert narrow <= 4
        assert wide <= 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_page_has_each_function_of_each_library_within_the_limits(dtype: str) -> None:
    for function in FUNCTIONS:
        limit = LIMITS[function.title][DTYPES.index(dtype)]
        assert max(_page(dtype, function.title, "crossent").values()) <= limit
        for library, functions in _program().PEERS.items():
            if function.title in functions:
                assert all(error >= 0 for error in _page(dtype, function.title, library).values())
    text = PAGE.read_text(encoding="utf-8")
    for family in FAMILIES:
        assert f"| {family.name} | {family.about} |" in text
    for level, *figures in _lines("| `"):
        if level in {f"{name}`" for name in ("avx512", "avx2", "sse2")}:
            assert float(figures[DTYPES.index(dtype)]) <= max(
                limits[DTYPES.index(dtype)] for limits in LIMITS.values()
            )


def test_the_program_compares_with_functions_that_the_libraries_have() -> None:
    """Each peer is near the truth on a row without an extreme."""
    for sample in samples(10**6):
        if sample.family.name == "offsets" and sample.dtype == np.float64:
            some = sample._replace(rows=sample.rows[1:2])
            for library, functions in _program().PEERS.items():
                if peer := functions.get(sample.function.title):
                    error = some.exact().errors(some.results_of(peer)).max()
                    assert error < 1e9, (library, sample.key)


# ---- losses of single elements --------------------------------------------------------------------------


def _limit(loss: str, what: str, dtype: type) -> float:
    if dtype is np.float32:
        return 3.0 if loss in IN_FLOAT32 and "gradient" not in what else 0.51
    return 2.5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_errors_are_within_the_limits(dtype: type) -> None:
    for case in _program().cases(dtype):
        some = case._replace(arguments=[numbers[::STEP].copy() for numbers in case.arguments])
        ours, _ = _program().errors(some)
        assert ours <= _limit(case.loss, case.what, dtype), (case.loss, case.what)


def test_the_page_has_each_line_within_the_limits() -> None:
    for narrow, wide in zip(_program().cases(np.float32), _program().cases(np.float64), strict=True):
        (numbers,) = _lines(f"| `{narrow.loss}` | {narrow.what and f'`{narrow.what}`'} | ")
        in_float32, _, in_float64, _ = map(float, numbers)
        assert in_float32 <= _limit(narrow.loss, narrow.what, np.float32)
        assert in_float64 <= _limit(wide.loss, wide.what, np.float64)
