"""The Rust crate's public names: each by one path, and each used from outside in `tests/api.rs`."""

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
USE = re.compile(r"^pub use ([^;]+);", re.MULTILINE)


def public_names(lib: str) -> list[str]:
    """The names that `pub use` gives in the text of src/lib.rs."""
    names: list[str] = []
    for tree in USE.findall(lib):
        path, brace, several = tree.partition("{")
        found = several.rstrip("} \n").split(",") if brace else [path.rpartition("::")[2]]
        names += [name.strip() for name in found if name.strip()]
    return names


def unused(names: list[str], tests: str) -> list[str]:
    """Names that code does not mention beyond the `use` that brings them in."""
    code = re.sub(r"^use [^;]+;", "", tests, flags=re.MULTILINE)
    return [name for name in names if not re.search(rf"\b{name}\b", code)]


def test_each_name_has_one_path_and_is_used_from_outside() -> None:
    names = public_names((ROOT / "src" / "lib.rs").read_text(encoding="utf-8"))
    assert {"CrossEntropy", "softmax_in_place", "ExactSum", "ndarray"} <= set(names)
    assert [name for name, count in Counter(names).items() if count > 1] == []
    tests = (ROOT / "tests" / "api.rs").read_text(encoding="utf-8")
    # A trait is used by its methods, and other crates by what is in them.
    assert unused([name for name in names if name not in ("ClassLoss", "half", "ndarray")], tests) == []


def test_the_check_sees_what_is_missing() -> None:
    lib = "mod a;\npub use a::b::{One, two,\n    three};\npub use a::Four;\npub use {half, ndarray};\n"
    assert public_names(lib) == ["One", "two", "three", "Four", "half", "ndarray"]
    tests = "use crossent::{One, two, three};\n\nfn main() {\n    two(One::new());\n}\n"
    assert unused(["One", "two", "three"], tests) == ["three"]
