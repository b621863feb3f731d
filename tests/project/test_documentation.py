"""No public name lacks its documentation: a page, its rows on the page of semantics, its docstring, its overloads."""

from __future__ import annotations

import ast
import inspect
import re
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest
from numpy.typing import NDArray

import crossent
from programs import DOCS, load

ROOT = DOCS.parent
PAGE = (DOCS / "semantics.md").read_text(encoding="utf-8")

PUBLIC = {name: getattr(crossent, name) for name in crossent.__all__ if callable(getattr(crossent, name))}
FUNCTIONS = {name: f for name, f in PUBLIC.items() if inspect.isfunction(f)}
CLASSES = {name: c for name, c in PUBLIC.items() if inspect.isclass(c) and not issubclass(c, Warning)}
# What functions return; nobody makes them.
RESULTS = {name for name in CLASSES if f"`{name}`" in PAGE[PAGE.index("### Results") :].split("\n")[0]}
OBJECTS = {name: c for name, c in CLASSES.items() if name not in RESULTS}
SETTINGS = {"set_num_threads", "get_num_threads", "show_versions"}
COMPUTING = {name: f for name, f in FUNCTIONS.items() if name not in SETTINGS}
REDUCED = {name: f for name, f in COMPUTING.items() if "reduction" in inspect.signature(f).parameters}

SHARED = "What all functions share"
HEADING = re.compile(r"^### (.+)$", re.MULTILINE)


def _code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def _sections() -> dict[str, set[str]]:
    """The names in each heading of the page, and what the rows under it name first."""
    page = PAGE[PAGE.index("## Arguments, one by one") :]
    found: dict[str, set[str]] = {}
    headings = list(HEADING.finditer(page))
    for heading, end in zip(headings, [*(h.start() for h in headings[1:]), len(page)], strict=True):
        rows = re.findall(r"^\| ([^|]*) \|", page[heading.end() : end], re.MULTILINE)
        named = {name for row in rows for name in _code(row)}
        for name in _code(heading[1]) or [heading[1]]:
            found[name] = named
    return found


SECTIONS = _sections()


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_its_place_on_the_page_of_semantics(name: str) -> None:
    assert name in SECTIONS


@pytest.mark.parametrize("name", [*FUNCTIONS, *OBJECTS])
def test_every_argument_has_its_row(name: str) -> None:
    arguments = set(inspect.signature(PUBLIC[name]).parameters)
    if name in OBJECTS and "__call__" in vars(PUBLIC[name]):
        call = set(inspect.signature(PUBLIC[name].__call__).parameters)
        arguments |= call - {"self", "input", "target", "x"}
    rows = SECTIONS[name] | SECTIONS[SHARED]
    if name.endswith("_and_grad"):
        rows |= SECTIONS[name.removesuffix("_and_grad")]
    assert arguments <= rows


def test_the_page_names_nothing_that_is_not_there() -> None:
    assert {name for name in SECTIONS if name != SHARED} == set(PUBLIC)


def _parts(docstring: str) -> dict[str, str]:
    """A docstring's sections by their names; what comes before the first by ''."""
    parts = re.split(r"^([A-Z][A-Za-z ]+)\n-{3,}\n", inspect.cleandoc(docstring), flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


@pytest.mark.parametrize("name", COMPUTING)
def test_a_function_has_its_equation_shapes_units_errors_and_an_example(name: str) -> None:
    function = COMPUTING[name]
    parts = _parts(function.__doc__ or "")
    assert re.search(r"::\n\n {4}\S.* = ", parts[""]), "the equation"
    assert {"Parameters", "Returns", "Raises", "Notes", "Examples"} <= set(parts)
    heads = re.findall(r"^(\w[\w, ]*)(?: : |$)", parts["Parameters"], re.MULTILINE)
    described = [argument for head in heads for argument in head.split(", ")]
    assert described == list(inspect.signature(function).parameters)
    assert "shape" in parts["Parameters"]
    assert "shape" in parts["Returns"] or "axis" in parts["Returns"]
    assert "nats" in parts["Returns"] or name == "softmax"  # whose results have no unit
    assert re.search(r"\bError\b|\w+Error", parts["Raises"])
    assert "torch equivalent is ``torch." in parts["Notes"]
    assert f"crossent.{name}(" in parts["Examples"]


@pytest.mark.parametrize("name", [*sorted(SETTINGS), *OBJECTS])
def test_settings_and_objects_say_what_they_are_in_torch(name: str) -> None:
    parts = _parts(PUBLIC[name].__doc__ or "")
    assert f"crossent.{name}(" in parts["Examples"]
    assert name == "show_versions" or "torch equivalent is ``torch." in parts["Notes"]
    if inspect.signature(PUBLIC[name]).parameters:
        for argument in inspect.signature(PUBLIC[name]).parameters:
            assert re.search(rf"^(\w+, )*{argument}\b", parts["Parameters"], re.MULTILINE)


@pytest.mark.parametrize("name", sorted(RESULTS))
def test_results_tell_what_each_field_is(name: str) -> None:
    parts = _parts(PUBLIC[name].__doc__ or "")
    heads = re.findall(r"^(\w[\w, ]*) : ", parts["Attributes"], re.MULTILINE)
    fields = [field for head in heads for field in head.split(", ")]
    assert fields == list(inspect.signature(PUBLIC[name]).parameters)
    assert "See Also" in parts


# What NDArray[...] is an instance of: on Python 3.12 and newer, NumPy 2.5 has it as a type of its own.
ARRAYS = {np.ndarray, get_origin(NDArray[np.float32])}


def _overloads(function: Callable[..., Any]) -> dict[Any, tuple[Any, inspect.Parameter]]:
    """By the values of `reduction`: the type that comes back, and the parameter."""
    found = {}
    for overload in typing.get_overloads(function):
        types = typing.get_type_hints(overload)
        reduction = types["reduction"]
        key = frozenset(get_args(reduction)) if get_origin(reduction) is Literal else reduction
        found[key] = (types["return"], inspect.signature(overload).parameters["reduction"])
    return found


@pytest.mark.parametrize("name", REDUCED)
def test_every_reduction_has_its_overload(name: str) -> None:
    reduced = {"mean", "sum", "batchmean"} if name.startswith("kl_div") else {"mean", "sum"}
    usual = "mean"
    if name.startswith("kl_div_topk"):
        reduced, usual = {"sum", "batchmean"}, "batchmean"
    overloads = _overloads(REDUCED[name])
    assert set(overloads) == {frozenset(reduced), frozenset({"none"})}
    for key, (result, parameter) in overloads.items():
        if name.startswith("sigmoid"):
            usual = "none"
        assert (parameter.default == usual) == (usual in key)
        loss = result
        if name.endswith("_and_grad"):
            loss, gradient = get_args(result)
            assert get_origin(gradient) in ARRAYS or gradient is crossent.LinearGradients
        assert get_origin(loss) in (ARRAYS if "none" in key else {np.floating})
    own = typing.get_type_hints(REDUCED[name])["reduction"]
    assert {value for each in get_args(own) for value in get_args(each)} == {*reduced, "none"}


# ---- the site ---------------------------------------------------------------------------------------------

SUBMODULES = ["blocks", "boosting", "dask", "plot", "sharded", "sklearn", "torch"]
TOCTREE = re.compile(r"^```\{toctree\}\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def _toctree(page: str) -> list[str]:
    """The entries of all toctrees of a page."""
    trees = TOCTREE.findall((DOCS / page).read_text(encoding="utf-8"))
    return [line for tree in trees for line in tree.splitlines() if line and not line.startswith(":")]


def _all_of(module: str) -> set[str]:
    """A module's `__all__`, read from its source: its library may be missing."""
    source = (Path(crossent.__file__).parent / f"{module}.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    raise AssertionError(f"{module} has no __all__")


def _listed() -> dict[str, list[str]]:
    """The names that the pages of the reference document, by module."""
    listed: dict[str, list[str]] = {}
    for page in sorted((DOCS / "reference").glob("*.md")):
        module = ""
        for line in page.read_text(encoding="utf-8").splitlines():
            name = re.fullmatch(r"   (\w+)|\.\. py:data:: (\w+)", line)
            if line.startswith(".. currentmodule:: "):
                module = line.split()[-1]
            elif name and module:
                listed.setdefault(module, []).append(name[1] or name[2])
    return listed


def test_the_header_has_six_entries() -> None:
    titles = [entry.split(" <")[0] for entry in _toctree("index.md")]
    assert titles == ["Install", "Guides", "API", "Command line", "Performance", "More"]


def test_the_submodules_are_those_that_there_are() -> None:
    files = {file.stem for file in Path(crossent.__file__).parent.glob("[!_]*.py")}
    assert files == set(SUBMODULES)


@pytest.mark.parametrize("module", ["", *SUBMODULES])
def test_every_public_name_has_one_page(module: str) -> None:
    name = f"crossent.{module}".rstrip(".")
    public = _all_of(module) if module else set(crossent.__all__)
    listed = _listed()[name]
    assert sorted(listed) == sorted(public)


def test_every_page_of_the_reference_is_in_the_sidebar() -> None:
    pages = {f"reference/{page.stem}" for page in (DOCS / "reference").glob("*.md")}
    assert set(_toctree("reference.md")) == pages


def test_the_rust_page_shows_what_cargo_tests() -> None:
    crate = re.sub(r"^//! ?", "", (ROOT / "src" / "lib.rs").read_text(encoding="utf-8"), flags=re.MULTILINE)
    shown = re.findall(
        r"^```rust\n(.*?)^```$", (DOCS / "rust.md").read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    assert len(shown) >= 3
    for block in shown:
        assert block in crate


def test_the_citation_names_the_version() -> None:
    version = re.escape(crossent.__version__)
    assert re.search(rf"^version: {version}$", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)
    assert re.search(rf"version = \{{{version}\}}", (DOCS / "citation.md").read_text("utf-8"))


@pytest.mark.parametrize(
    "file", ["_static/crossent.css", "_static/logo.svg", "_static/favicon.svg", "conf.py"]
)
def test_the_frame_loads_nothing_from_elsewhere(file: str) -> None:
    text = (DOCS / file).read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|//cdn", text)
    assert "mathjax" not in text.lower()


def test_formulas_are_written_as_mathml() -> None:
    pytest.importorskip("docutils")
    formulas = load(DOCS / "formulas.py")
    block = formulas.mathml(r"\mathrm{lse}(x) = m + \log \sum_j e^{x_j - m}", display=True)
    assert block.startswith("<math ")
    assert 'display="block"' in block
    assert "<munder>" in block or "<msub>" in block
    assert 'aria-label="a &lt; b"' in formulas.mathml("a < b", display=False)


def test_a_picture_has_one_for_the_dark_mode(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pictures = load(DOCS / "pictures.py")
    light = pictures.draw_lead(tmp_path)
    dark = pictures.draw_dark(light, tmp_path)
    assert "#ffffff" in light.read_text("utf-8")
    assert dark.name == "lead-dark.svg"
    assert "#ffffff" not in dark.read_text("utf-8")
    assert pictures.DARK["#ffffff"] in dark.read_text("utf-8")


def test_there_is_something_to_test() -> None:
    assert len(COMPUTING) >= 16
    assert len(REDUCED) >= 12
    assert len(OBJECTS) >= 7
    assert len(RESULTS) >= 4
