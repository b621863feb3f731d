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
    "numpy path outside": ("src/rows.rs", "fn f(x: numpy::PyArrayDyn<f32>) {}", 1, "numpy"),
    "numpy use outside": ("src/rows.rs", "use numpy as np;", 1, "numpy"),
    "pyo3 in lib.rs": ("src/lib.rs", "use pyo3::pymodule;", 1, "pyo3"),
    "binding without its feature": ("src/lib.rs", "mod error;\nmod python;", 2, "cfg"),
    "binding declared elsewhere": (
        "src/loss/mod.rs",
        '#[cfg(feature = "python")]\nmod python;',
        2,
        "src/lib.rs",
    ),
    "binding used": ("src/loss/mod.rs", "use crate::python::f;", 1, "binding"),
    "rayon outside": ("src/loss/nll.rs", "use rayon::prelude::*;", 1, "rayon"),
    "intrinsics outside": ("src/parallel.rs", "use core::arch::x86_64::*;", 1, "core::arch"),
    "intrinsics in braces": ("src/rows.rs", "use std::{arch::x86_64::__m256, mem};", 1, "core::arch"),
    "an intrinsic by name": ("src/rows.rs", "fn f() { _mm256_add_ps(a, b); }", 1, "an intrinsic"),
    "kernel calls up": ("src/kernel/exp.rs", "use crate::parallel::for_rows;", 1, "kernel"),
    "kernel names rows": ("src/kernel/exp.rs", "use crate::{error::Error, rows::View};", 1, "kernel"),
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
        f"{word} in Python": ("python/crossent/io.py", f"x = 1  # {word}", 1, "unfinished")
        for word in UNFINISHED
    },
}


@pytest.mark.parametrize("name", BREACHES)
def test_each_rule_fires(tmp_path: Path, name: str) -> None:
    path, text, line, word = BREACHES[name]
    write(tmp_path, path, text)
    code, out = run(tmp_path)
    assert code == 1
    assert len(out) == 2, out
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
    "python/crossent/io.py": '"""Nothing about pyo3 or rayon is checked here."""\n',
}


def test_code_that_keeps_the_rules_passes(tmp_path: Path) -> None:
    for path, text in KEPT.items():
        write(tmp_path, path, text)
    code, out = run(tmp_path)
    assert out == ["layers: 0 breaches; 4 lines with unsafe"]
    assert code == 0


def test_this_tree_keeps_the_rules() -> None:
    code, out = run(ROOT)
    assert code == 0, out
