"""Every example in a docstring gives what it prints."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from types import ModuleType

import pytest

import crossent

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

MODULES = sorted(
    module.name
    for module in pkgutil.iter_modules(crossent.__path__, "crossent.")
    if not module.name.rpartition(".")[2].startswith("_")
)


def _run(module: ModuleType) -> doctest.TestResults:
    return doctest.testmod(module, optionflags=FLAGS, verbose=False)


@pytest.mark.parametrize("module", MODULES)
def test_examples_print_what_they_say(module: str) -> None:
    assert _run(importlib.import_module(module)).failed == 0


@pytest.mark.parametrize(
    "module", ["crossent.losses", "crossent.rows", "crossent.scoring", "crossent.settings"]
)
def test_public_modules_have_examples(module: str) -> None:
    assert module in MODULES
    assert _run(importlib.import_module(module)).attempted > 0
