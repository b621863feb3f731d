"""Check the rules that keep the layers of the source tree apart: `check_layers.py [ROOT]`.

docs/architecture.md says why they exist. Every breach is printed as `path:line: what is wrong`; then come the floors of
tools/floors.py, which imports may only run down, and the number of lines with the keyword `unsafe`. The exit code is 1
when there was a breach.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import floors
from rust_source import code_only


class Breach(NamedTuple):
    """One broken rule, at a line of a file."""

    path: str
    line: int
    text: str


class Confined(NamedTuple):
    """Code that may appear under one place only."""

    pattern: re.Pattern[str]
    home: str
    what: str


CONFINED = [
    Confined(re.compile(r"\bpyo3\b"), "src/python/", "pyo3"),
    Confined(re.compile(r"\bnumpy\s*::|\buse\s+numpy\b|\bextern\s+crate\s+numpy\b"), "src/python/", "numpy"),
    Confined(re.compile(r"\brayon\b"), "src/parallel.rs", "rayon"),
    Confined(re.compile(r"\b(?:core|std)\s*::\s*(?:\{.*\b)?arch\b"), "src/kernel/", "core::arch"),
    Confined(re.compile(r"\b_mm\d*_\w+"), "src/kernel/", "an intrinsic"),
]

BINDING_MODULE = re.compile(r'#\[cfg\(feature\s*=\s*"python"\)\]\s*(?:pub(?:\(crate\))?\s+)?mod\s+python\s*;')
MOD_PYTHON = re.compile(r"\bmod\s+python\b")

UNSAFE = re.compile(r"\bunsafe\b")
UNSAFE_TYPE = re.compile(r"\bunsafe\s+(?:extern\s+)?fn\s*\(")  # the type of a function pointer
UNSAFE_FN = re.compile(r"\bunsafe\s+(?:extern\s+)?fn\s+\w")
UNFINISHED = re.compile(
    r"\b(?:T[O]DO|FIX[M]E|X[X]X)\b|\b(?:to[d]o|un[i]mplemented)!"
)  # not to match themselves


def has_safety_comment(lines: list[str], code: list[str], at: int) -> bool:
    """Say whether the `unsafe` on line `at` (from 0) has its reason there or right above its statement."""
    is_function = UNSAFE_FN.search(code[at]) is not None
    reason = re.compile(r"//.*SAFETY:|///\s*#+\s*Safety" if is_function else r"//\s*SAFETY:")
    if reason.search(lines[at]):
        return True
    in_comments = False
    for above in range(at - 1, -1, -1):
        written, bare = lines[above].strip(), code[above].strip()
        if written.startswith("//"):
            in_comments = True
            if reason.search(written):
                return True
        elif not written or in_comments:
            return False
        elif not bare.startswith("#[") and bare.endswith((";", "{", "}", ",")):
            return False  # the statement before this one
    return False


def check_rust(path: str, source: str) -> Iterator[Breach]:
    """Yield what one Rust file breaks."""
    bare = code_only(source)
    lines, code = source.split("\n"), bare.split("\n")
    for number, text in enumerate(code, 1):
        for rule in CONFINED:
            if not path.startswith(rule.home) and rule.pattern.search(text):
                yield Breach(path, number, f"{rule.what} belongs under {rule.home}")
        if UNSAFE.search(UNSAFE_TYPE.sub("", text)) and not has_safety_comment(lines, code, number - 1):
            yield Breach(path, number, "unsafe without a comment `// SAFETY:` above that says why")
    for match in MOD_PYTHON.finditer(bare):
        number = bare.count("\n", 0, match.start()) + 1
        guarded = any(m.start() <= match.start() < m.end() for m in BINDING_MODULE.finditer(source))
        if path != "src/lib.rs" or not guarded:
            yield Breach(path, number, "the binding is declared once, in src/lib.rs, under its cfg(feature)")


def check_finished(path: str, source: str) -> Iterator[Breach]:
    """Yield the marks of unfinished work in a file of any language."""
    for number, text in enumerate(source.split("\n"), 1):
        if match := UNFINISHED.search(text):
            yield Breach(path, number, f"unfinished: {match.group()}")


def check(root: Path) -> tuple[list[Breach], int]:
    """Return every breach under `root`, and the number of Rust lines with the keyword `unsafe`."""
    breaches = [Breach(*each) for each in floors.breaches(root)]
    unsafe_lines = 0
    for folder, suffixes in (("src", {".rs"}), ("python", {".py", ".pyi"})):
        for file in sorted((root / folder).rglob("*")):
            if file.suffix not in suffixes:
                continue
            path, source = file.relative_to(root).as_posix(), file.read_text(encoding="utf-8")
            if file.suffix == ".rs":
                breaches += check_rust(path, source)
                unsafe_lines += sum(bool(UNSAFE.search(text)) for text in code_only(source).split("\n"))
            breaches += check_finished(path, source)
    return breaches, unsafe_lines


def main(root: str = ".") -> int:
    """Print the breaches, the floors and the count, and return the exit code."""
    breaches, unsafe_lines = check(Path(root))
    for breach in breaches:
        print(f"{breach.path}:{breach.line}: {breach.text}")
    print(*floors.told(Path(root)), sep="\n")
    print(f"layers: {len(breaches)} breaches; {unsafe_lines} lines with unsafe")
    return bool(breaches)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
