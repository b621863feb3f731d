"""The extras of the package's metadata: what they need is what the submodules import, and `all` is all of them."""

from __future__ import annotations

import importlib
import importlib.metadata
import re

import pytest
from packaging.requirements import Requirement

FOR_USERS = {"all", "dask", "io", "plot", "sklearn"}
FOR_DEVELOPERS = {"bench", "check", "docs", "parity", "test"}
# By extra, the modules that code of this package imports.
IMPORTED = {
    "dask": ["dask.array", "dask.dataframe", "distributed"],
    "io": ["h5py", "ml_dtypes", "pyarrow", "safetensors", "zarr"],
    "plot": ["matplotlib"],
    "sklearn": ["sklearn"],
}


def requirements(extra: str) -> list[Requirement]:
    found = map(Requirement, importlib.metadata.requires("crossent") or [])
    with_it, without = {"extra": extra}, {"extra": ""}
    return [r for r in found if r.marker and r.marker.evaluate(with_it) and not r.marker.evaluate(without)]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_extras() -> None:
    given = set(importlib.metadata.metadata("crossent").get_all("Provides-Extra") or [])
    assert given == FOR_USERS | FOR_DEVELOPERS
    (everything,) = requirements("all")
    assert normal(everything.name) == "crossent"
    assert everything.extras == FOR_USERS - {"all"}


@pytest.mark.parametrize("extra", sorted(IMPORTED))
def test_an_extra_installs_what_is_imported(extra: str) -> None:
    distributions = importlib.metadata.packages_distributions()
    imported = {normal(distributions[module.split(".")[0]][0]) for module in IMPORTED[extra]}
    assert {normal(requirement.name) for requirement in requirements(extra)} == imported
    for module in IMPORTED[extra]:
        importlib.import_module(module)


@pytest.mark.parametrize("extra", sorted(IMPORTED))
def test_the_tests_run_with_what_an_extra_installs(extra: str) -> None:
    for requirement in requirements(extra):
        assert requirement.specifier.contains(importlib.metadata.version(requirement.name))
