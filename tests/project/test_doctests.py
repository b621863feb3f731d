"""Every example in a docstring gives what it prints."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
import sys
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

import crossent


def public_modules() -> list[ModuleType]:
    """The package and its public modules, without those whose library is not installed."""
    names = [module.name for module in pkgutil.iter_modules(crossent.__path__) if module.name[0] != "_"]
    found = [crossent]
    for name in names:
        try:
            found.append(importlib.import_module(f"crossent.{name}"))
        except ImportError as error:
            if "pip install" not in str(error):
                raise
    return found


MODULES = public_modules()
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

# By name and not by module: doctest looks in a module for what the module says is its own.
FOUND = {
    test.name: test
    for module in MODULES
    for name in module.__all__
    for test in doctest.DocTestFinder(exclude_empty=True).find(
        getattr(module, name), f"{module.__name__}.{name}", module=False, globs={}
    )
    if isinstance(getattr(module, name), FunctionType | type)  # an instance has the text of its class
}
EXAMPLES = {name: test for name, test in FOUND.items() if test.examples}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_print_what_they_say(name: str) -> None:
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    runner.run(EXAMPLES[name])
    assert runner.failures == 0


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_have_the_width_of_code_in_the_documentation(name: str) -> None:
    lines = inspect.cleandoc(EXAMPLES[name].docstring or "").splitlines()
    code = [line for line in lines if line.lstrip().startswith((">>> ", "... "))]
    assert code
    assert [line for line in code if len(line) > 80] == []


def test_every_example_of_the_package_is_run() -> None:
    def prompts(text: Any) -> int:
        return len(re.findall(r"^ *>>> ", text, re.MULTILINE))

    package = Path(crossent.__file__).parent
    missing = {path for path in package.glob("[!_]*.py") if f"crossent.{path.stem}" not in sys.modules}
    files = set(package.rglob("*.py")) - missing
    written = sum(prompts(file.read_text(encoding="utf-8")) for file in files)
    assert sum(len(test.examples) for test in EXAMPLES.values()) == written > 100
