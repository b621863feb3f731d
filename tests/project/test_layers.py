"""The rules of tools/check_layers.py: each fires on a made-up tree, and none on code that keeps them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(root: Path) -> tuple[int, list[str]]:
    tool = ROOT / "tools" / "check_layers.py"
    done = subprocess.run([sys.executable, tool, root], capture_output=True, text=True, check=False)
    assert not done.stderr
    return done.returncode, done.stdout.splitlines()


def write(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


# In halves, so that a search for unfinished work does not end here.
UNFINISHED = [a + b for a, b in [("TO", "DO"), ("FIX", "ME"), ("to", "do!()"), ("unimple", "mented!()")]]

BREACHES = {
    "pyo3 outside": ("src/loss/nll.rs", "\nuse pyo3::prelude::*;", 2, "pyo3"),
    "numpy path outside": ("src/options.rs", "fn f(x: numpy::PyArrayDyn<f32>) {}", 1, "numpy"),
    "numpy use outside": ("src/options.rs", "use numpy as np;", 1, "numpy"),
    "pyo3 in lib.rs": ("src/lib.rs", "use pyo3::pymodule;", 1, "pyo3"),
    "binding without its feature": ("src/lib.rs", "mod error;\nmod python;", 2, "cfg"),
    "binding declared elsewhere": (
        "src/loss/mod.rs",
        '#[cfg(feature = "python")]\nmod python;',
        2,
        "src/lib.rs",
    ),
    "rayon outside": ("src/loss/nll.rs", "use rayon::prelude::*;", 1, "rayon"),
    "intrinsics outside": ("src/parallel.rs", "use core::arch::x86_64::*;", 1, "core::arch"),
    "intrinsics in braces": ("src/options.rs", "use std::{arch::x86_64::__m256, mem};", 1, "core::arch"),
    "an intrinsic by name": ("src/options.rs", "fn f() { _mm256_add_ps(a, b); }", 1, "an intrinsic"),
    "unsafe block": ("src/kernel/exp.rs", "fn f() {\n    unsafe { g() }\n}", 2, "SAFETY"),
    "unsafe fn": ("src/kernel/exp.rs", "/// Adds.\nunsafe fn f() {}", 2, "SAFETY"),
    "unsafe impl": ("src/kernel/exp.rs", "unsafe impl Send for A {}", 1, "SAFETY"),
    "reason of the statement before": (
        "src/kernel/exp.rs",
        "// SAFETY: in bounds\nlet a = unsafe { f() };\nlet b = unsafe { f() };",
        3,
        "SAFETY",
    ),
    "reason cut off by an empty line": (
        "src/kernel/exp.rs",
        "// SAFETY: in bounds\n\nunsafe { f() };",
        3,
        "SAFETY",
    ),
    "reason in a string": ("src/kernel/exp.rs", 'f("// SAFETY: no");\nunsafe { f() };', 2, "SAFETY"),
    **{
        f"{word} in Rust": ("src/error.rs", f"fn f() {{\n    // {word}\n}}", 2, "unfinished")
        for word in UNFINISHED
    },
    **{
        f"{word} in Python": ("python/crossent/plot.py", f"x = 1  # {word}", 1, "unfinished")
        for word in UNFINISHED
    },
}


@pytest.mark.parametrize("name", BREACHES)
def test_each_rule_fires(tmp_path: Path, name: str) -> None:
    path, text, line, word = BREACHES[name]
    write(tmp_path, path, text)
    code, out = run(tmp_path)
    assert code == 1
    assert sum(line.startswith(("src/", "python/")) and not line.endswith(":") for line in out) == 1, out
    assert out[0].startswith(f"{path}:{line}: ")
    assert word in out[0]


KEPT = {
    "src/lib.rs": '//! The path: pyo3, rayon.\n#[cfg(feature = "python")]\nmod python;\nmod error;\n',
    "src/python/mod.rs": "use numpy::PyArrayDyn;\nuse pyo3::prelude::*;\nuse crate::loss;\n",
    "src/parallel.rs": "use rayon::ThreadPool;\n",
    "src/kernel/simd.rs": "use core::arch::x86_64::*;\nuse super::exp;\n",
    "src/error.rs": '/* rayon /* pyo3 */ rayon */\nconst A: &str = "pyo3::x";\nconst B: &str = r#"numpy::"#;\n',
    "src/kernel/exp.rs": """\
/// Reads.
///
/// # Safety
/// `x` is long enough.
#[inline(always)]
pub unsafe fn f<'a>(x: &'a [f32]) -> &'a f32 {
    // SAFETY: the caller's promise,
    // over two lines.
    let y =
        unsafe { x.get_unchecked(0) };
    let c = ('"', '\\'', b'x', '\\u{1F600}'); // unsafe
    let g: unsafe fn(i32) = h; // SAFETY: a type
    y
}
fn t(h: unsafe fn(f32)) {}
""",
    "python/crossent/plot.py": '"""Nothing about pyo3 or rayon is checked here."""\n',
}


def test_code_that_keeps_the_rules_passes(tmp_path: Path) -> None:
    for path, text in KEPT.items():
        write(tmp_path, path, text)
    code, out = run(tmp_path)
    assert out[-1] == "layers: 0 breaches; 4 lines with unsafe"
    assert code == 0


def test_this_tree_keeps_the_rules() -> None:
    code, out = run(ROOT)
    assert code == 0, out
    assert {"src:", "python/crossent:"} <= set(out)


# ---- floors and circles -----------------------------------------------------------------------------------

# Files, and what the one line that is printed says.
UPWARD = {
    "Rust, by use": (
        {"src/kernel/exp.rs": "\nuse crate::array::rows::View;\n", "src/array/rows.rs": ""},
        "src/kernel/exp.rs:2: imports array/rows.rs, which lies above it (array over kernel)",
    ),
    "Rust, in braces": (
        {"src/kernel/exp.rs": "use crate::{error::{self, Error}, array::{rows::View}};", "src/array/rows.rs": "",
         "src/error.rs": ""},
        "src/kernel/exp.rs:1: imports array/rows.rs, which lies above it (array over kernel)",
    ),
    "Rust, in an expression": (
        {"src/error.rs": "fn f() {\n    crate::parallel::MOST\n}", "src/parallel.rs": ""},
        "src/error.rs:2: imports parallel.rs, which lies above it (parallel over error)",
    ),
    "Rust, by super": (
        {"src/sum/exact.rs": "use super::super::targets::Target;", "src/targets/mod.rs": ""},
        "src/sum/exact.rs:1: imports targets/mod.rs, which lies above it (targets over sum)",
    ),
    "Rust, a public name of the crate": (
        {"src/loss/mod.rs": "use crate::Target;", "src/lib.rs": ""},
        "src/loss/mod.rs:1: imports lib.rs, which lies above it (lib over loss)",
    ),
    "Rust, the binding": (
        {"src/loss/mod.rs": "use crate::python::f;", "src/python/mod.rs": ""},
        "src/loss/mod.rs:1: imports python/mod.rs, which lies above it (python over loss)",
    ),
    "Python": (
        {"python/crossent/_rows.py": "from crossent._scoring import report", "python/crossent/_scoring/report.py": ""},
        "python/crossent/_rows.py:1: imports _scoring/report.py, which lies above it (_scoring over _rows)",
    ),
    "Python, in a function": (
        {"python/crossent/_io/npy.py": "def f():\n    import crossent._cli.app\n", "python/crossent/_cli/app.py": ""},
        "python/crossent/_io/npy.py:2: imports _cli/app.py, which lies above it (_cli over _io)",
    ),
    "a file without a floor": (
        {"src/attic.rs": ""},
        "src/attic.rs:1: is on no floor: give it one in tools/floors.py",
    ),
    "a circle in Rust": (
        {"src/kernel/a.rs": "use super::b::x;", "src/kernel/b.rs": "use super::c::y;",
         "src/kernel/c.rs": "use crate::kernel::a::z;"},
        "src/kernel/a.rs:1: a circle of imports: kernel/a.rs -> kernel/b.rs -> kernel/c.rs -> kernel/a.rs",
    ),
    "a circle of a folder and its file": (
        {"src/targets/mod.rs": "mod indices;\npub(crate) use self::indices::Labels;",
         "src/targets/indices.rs": "use super::Call;"},
        "src/targets/indices.rs:1: a circle of imports: targets/indices.rs -> targets/mod.rs -> targets/indices.rs",
    ),
    "a circle in Python": (
        {"python/crossent/_io/npy.py": "from crossent._io.zipped import f",
         "python/crossent/_io/zipped.py": "from crossent._io import npy"},
        "python/crossent/_io/npy.py:1: a circle of imports: _io/npy.py -> _io/zipped.py -> _io/npy.py",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UPWARD)
def test_what_runs_up_or_in_a_circle_is_told(tmp_path: Path, name: str) -> None:
    files, expected = UPWARD[name]
    for path, text in files.items():
        write(tmp_path, path, text)
        if path.count("/") > 1 and path.endswith(".rs"):
            (tmp_path / path).with_name("mod.rs").touch()
    code, out = run(tmp_path)
    assert code == 1
    assert out[0] == expected
    assert out[-1].startswith("layers: 1 breaches")


def test_what_runs_down_is_allowed(tmp_path: Path) -> None:
    for path, text in {
        "src/error.rs": "",
        "src/kernel/mod.rs": "mod exp;\npub(crate) use self::exp::f;",
        "src/kernel/exp.rs": "use crate::error::Error;\n#[cfg(test)]\nmod tests {\n    use crate::parallel::run;\n}\n",
        "src/parallel.rs": "use crate::kernel::{self, exp::f};\nfn f() { self::g(); super::kernel::h() }",
        "python/crossent/_rows.py": "import typing\nif typing.TYPE_CHECKING:\n    from crossent import plot\n",
        "python/crossent/plot.py": "from crossent import _rows\n",
        "python/crossent/__init__.py": "from crossent._rows import f\n",
    }.items():
        write(tmp_path, path, text)
    code, out = run(tmp_path)
    assert code == 0, out
    assert out[:5] == [
        "src:",
        "  parallel     1 file",
        "  kernel       2 files",
        "  error        1 file",
        "python/crossent:",
    ]
