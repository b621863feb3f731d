"""The floors of the source tree, from the ground up: a module uses lower ones only, and imports form no circle.

A floor is a file or a folder, named as it is imported. `breaches(root)` holds the imports of both languages against
the lists, `told(root)` prints the floors. Tests inside a Rust file (after its `#[cfg(test)]`) and imports for type
checkers alone do not count.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rust_source import code_only

RUST = [
    "error",
    "kernel",
    "options",
    "parallel",
    "array",
    "sum",
    "targets",
    "tile",
    "function",
    "loss",
    "scoring",
    "lib",
    "python",
]

PYTHON = [
    "_core",
    "_exceptions",
    "_names",
    "_settings",
    "_exact",
    "_display",
    "_interop",
    "blocks",
    "_arguments",
    "_linear",
    "_rows",
    "_losses",
    "sharded",
    "_modules",
    "_scoring",
    "__init__",
    "plot",
    "sklearn",
    "boosting",
    "torch",
    "_dask",
    "dask",
    "_io",
    "_cli",
    "__main__",
]


class Import(NamedTuple):
    """One file names another."""

    importer: str
    line: int
    imported: str


class House(NamedTuple):
    """The files of one language and what they import, by paths below `folder`."""

    folder: str
    floors: list[str]
    files: list[str]
    imports: list[Import]

    def floor(self, file: str) -> int | None:
        """Count the floor of a file from the ground, 0; none where the list lacks it."""
        name = file.split("/")[0].rpartition(".")[0] or file.split("/")[0]
        return self.floors.index(name) if name in self.floors else None


# ---- Rust -------------------------------------------------------------------------------------------------

USE = re.compile(r"\buse\s+([^;]+);")
INLINE = re.compile(r"(?<![\w:])\$?(?:crate|super|self)(?:\s*::\s*\w+)+")
TESTS = re.compile(r"^#\[cfg\(test\)\]\s*mod\b", re.MULTILINE)


def use_paths(tree: str) -> Iterator[list[str]]:
    """Expand `a::{b, c::d as e, self}` into its paths."""
    tree = tree.strip()
    head, brace, rest = tree.partition("{")
    segments = [part.strip() for part in head.split("::") if part.strip()]
    if not brace:
        yield [part.split(" as ")[0].strip() for part in segments]
        return
    inner, depth, start = rest.rpartition("}")[0], 0, 0
    for at, mark in enumerate(inner + ","):
        depth += (mark == "{") - (mark == "}")
        if mark == "," and depth == 0:
            if inner[start:at].strip():
                for path in use_paths(inner[start:at]):
                    yield segments + path
            start = at + 1


def rust_file(files: set[str], importer: str, path: list[str]) -> str | None:
    """Return the file that a path of `crate`, `self` or `super` leads to from the importing file."""
    folder = importer.removesuffix(".rs").split("/")
    if folder[-1] in ("mod", "lib"):
        folder.pop()
    place = folder
    first, *rest = path
    if first == "crate":
        place = []
    elif first == "super":
        place = folder[:-1]
        while rest and rest[0] == "super":
            place, rest = place[:-1], rest[1:]
    elif first != "self":
        return None

    def file_of(module: list[str]) -> str | None:
        names = ["lib.rs"] if not module else ["/".join(module) + ".rs", "/".join([*module, "mod.rs"])]
        return next((name for name in names if name in files), None)

    while rest and file_of([*place, rest[0]]):
        place, rest = [*place, rest[0]], rest[1:]
    return file_of(place)


def rust_house(root: Path) -> House:
    """Read the Rust sources."""
    folder = root / "src"
    files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*.rs"))}
    imports = []
    for name, file in files.items():
        code = code_only(file.read_text(encoding="utf-8"))
        tests = TESTS.search(code)
        code = code[: tests.start()] if tests else code
        found = [(match.start(), path) for match in USE.finditer(code) for path in use_paths(match[1])]
        bare = USE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), code)
        found += [
            (match.start(), re.split(r"\s*::\s*", match[0].lstrip("$"))) for match in INLINE.finditer(bare)
        ]
        for at, path in found:
            target = rust_file(set(files), name, path)
            if target is not None and target != name:
                imports.append(Import(name, code.count("\n", 0, at) + 1, target))
    return House("src", RUST, list(files), imports)


# ---- Python -----------------------------------------------------------------------------------------------


def python_imports(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports of a file wherever they stand, but for those under `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        else:
            yield from python_imports(node)


def python_house(root: Path) -> House:
    """Read the Python package."""
    folder = root / "python" / "crossent"
    files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*.py"))}
    stubs = {file.relative_to(folder).as_posix() for file in folder.glob("*.pyi")}

    def file_of(module: str) -> str | None:
        place = module.removeprefix("crossent").strip(".").replace(".", "/")
        names = [f"{place}.py", f"{place}/__init__.py".lstrip("/"), f"{place}.pyi"]
        return next((name for name in names if name in files or name in stubs), None)

    imports = []
    for name, file in files.items():
        for node in python_imports(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            else:
                base = node.module or ""
                parts = [f"{base}.{alias.name}" for alias in node.names]
                modules = [part if file_of(part) else base for part in parts]
            for module in modules:
                target = file_of(module) if module.split(".")[0] == "crossent" else None
                if target is not None and target != name:
                    imports.append(Import(name, node.lineno, target))
    return House("python/crossent", PYTHON, [*files, *sorted(stubs)], imports)


# ---- both -------------------------------------------------------------------------------------------------


def circles(house: House) -> list[list[str]]:
    """Return the files that import each other in a circle, in the order of the circle, one circle for each knot."""
    edges: dict[str, set[str]] = {file: set() for file in house.files}
    for each in house.imports:
        edges[each.importer].add(each.imported)

    def way(start: str, end: str) -> list[str] | None:
        """The shortest way from one file to another, at least one import long."""
        before: dict[str, str] = {}
        layer = [start]
        while layer:
            following = []
            for file in layer:
                for target in sorted(edges[file]):
                    if target in before:
                        continue
                    before[target] = file
                    if target == end:
                        steps = [end]
                        while steps[-1] != start or len(steps) == 1:
                            steps.append(before[steps[-1]])
                        return steps[::-1]
                    following.append(target)
            layer = following
        return None

    found, known = [], set()
    for file in house.files:
        circle = None if file in known else way(file, file)
        if circle:
            found.append(circle)
            known.update(circle)
    return found


def house_breaches(house: House) -> Iterator[tuple[str, int, str]]:
    """Yield path, line and text of what a language breaks."""
    for file in house.files:
        if house.floor(file) is None:
            yield f"{house.folder}/{file}", 1, "is on no floor: give it one in tools/floors.py"
    for importer, line, imported in house.imports:
        here, there = house.floor(importer), house.floor(imported)
        if here is not None and there is not None and there > here:
            text = (
                f"imports {imported}, which lies above it ({house.floors[there]} over {house.floors[here]})"
            )
            yield f"{house.folder}/{importer}", line, text
    for circle in circles(house):
        first = next(each for each in house.imports if each[::2] == (circle[0], circle[1]))
        yield f"{house.folder}/{circle[0]}", first.line, "a circle of imports: " + " -> ".join(circle)


def houses(root: Path) -> Iterator[House]:
    """Yield the languages that are there."""
    if (root / "src").is_dir():
        yield rust_house(root)
    if (root / "python" / "crossent").is_dir():
        yield python_house(root)


def breaches(root: Path) -> Iterator[tuple[str, int, str]]:
    """Yield path, line and text of every import that runs up, of every circle, and of every file without a floor."""
    for house in houses(root):
        yield from house_breaches(house)


def told(root: Path) -> Iterator[str]:
    """Yield the floors that are there from the top down, a line each with the number of their files."""
    for house in houses(root):
        yield f"{house.folder}:"
        for floor in range(len(house.floors) - 1, -1, -1):
            count = sum(house.floor(file) == floor for file in house.files)
            if count:
                yield f"  {house.floors[floor]:12} {count} file{'s' if count > 1 else ''}"
