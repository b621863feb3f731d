"""Packages that the tests can do without, as `make test PARITY=no` does: a test that reaches for one is skipped."""

from __future__ import annotations

import importlib
from typing import Any

import pytest


class _Absent:
    """Stands for a package that is not installed."""

    def __init__(self, package: str) -> None:
        self._package = package

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # of the interpreter, or of a package that looks at every module
            raise AttributeError(name)
        pytest.skip(f"{self._package} is not installed")


def optional(name: str) -> Any:
    """A module; where its package is not installed, something whose attributes skip the test that asks for them."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        if error.name != package:
            raise
        return _Absent(package)


torch: Any = optional("torch")
F: Any = optional("torch.nn.functional")
HAS_TORCH = not isinstance(torch, _Absent)
if HAS_TORCH:
    torch.set_num_threads(1)  # the arrays are small, and idle threads of torch spin
