"""The table of errors in docs/numerics.md: its program runs, and crossent stays within the limits named beneath it."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("torch")

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "numerics.md"
IN_FLOAT32 = {"binary_cross_entropy", "binary_cross_entropy_with_logits"}


def _program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("accuracy", ROOT / "benches" / "accuracy.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PROGRAM = _program()


def _limit(loss: str, what: str, dtype: type) -> float:
    if dtype is np.float32:
        return 3.0 if loss in IN_FLOAT32 else 0.51
    return 29.0 if what == "not log_input" else 4.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_errors_are_within_the_limits(dtype: type) -> None:
    for case in PROGRAM.cases(dtype):
        some = case._replace(arguments=[numbers[::5].copy() for numbers in case.arguments])
        ours, _ = PROGRAM.errors(some)
        assert ours <= _limit(case.loss, case.what, dtype), (case.loss, case.what)


def test_the_page_has_each_line_within_the_limits() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    for narrow, wide in zip(PROGRAM.cases(np.float32), PROGRAM.cases(np.float64), strict=True):
        head = f"| `{narrow.loss}` | {narrow.what and f'`{narrow.what}`'} | "
        (numbers,) = [line.removeprefix(head) for line in lines if line.startswith(head)]
        in_float32, _, in_float64, _ = (float(number) for number in numbers.strip("| ").split(" | "))
        assert in_float32 <= _limit(narrow.loss, narrow.what, np.float32)
        assert in_float64 <= _limit(wide.loss, wide.what, np.float64)
