"""The recorded hashes cover what the crate computes, and `make arm` says when it is skipped."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from test_crate import ROOT, public_names

BITS = (ROOT / "tests" / "bits.txt").read_text(encoding="utf-8")
LINE = re.compile(
    r"([0-9a-f]{16}) ([0-9a-f]{16}|= {15}) (.+) (f16|bf16|f32|f64) (\S+ class(?:es)?|1025 to .+|\d.+)"
)
# Names that say how a function is called, what is wrong with a call, or what holds results: they compute nothing of
# their own, or are said by the functions that return them.
ARGUMENTS = (
    "Call Columns Context FloatsMut Interrupt Mask Numbers Reduction Score Target TargetFunction TopKTeacher"
)
ERRORS = "Error FirstValues Held HeldNumbers Improper LikelyMisuse LikelyValues TargetsFound"
RESULTS = """
    Bin BoostingHessian ComparisonRows ComparisonSums Group LogLoss ScoreSums Scores ShardSums TargetSums
    TemperatureSums Total
"""
WITHOUT_NUMBERS = """
    ClassLoss Element ElementLoss MAX_THREADS available_isas check_targets half likely_misuse likely_values ndarray
    num_threads selected_isa set_num_threads targets_found
"""


def functions(text: str) -> list[str]:
    """What the lines of a record are about, without type and shape."""
    return [found[3] for line in text.splitlines() if (found := LINE.fullmatch(line))]


def missing(names: list[str], named: list[str]) -> list[str]:
    """Names that no line has a word for."""
    words = set(re.findall(r"\w+", " ".join(named)))
    return [name for name in names if name not in words]


def methods(file: str, start: str) -> list[str]:
    """The public methods after a line of a source file, those that only say what seems wrong or set an option aside."""
    text = (ROOT / "src" / file).read_text(encoding="utf-8").partition(start)[2].partition("\n}\n")[0]
    found = re.findall(r"^    (?:pub )?fn (\w+)", text, re.MULTILINE)
    return [name for name in found if name not in ("likely_misuse", "nothing_counted")]


def test_every_line_is_two_hashes_and_a_function() -> None:
    lines = [line for line in BITS.splitlines() if not line.startswith("#")]
    assert len(functions(BITS)) == len(lines) > 1000
    assert len({line[34:] for line in lines}) == len(lines)


def test_every_public_function_has_hashes() -> None:
    names = public_names((ROOT / "src" / "lib.rs").read_text(encoding="utf-8"))
    numberless = f"{ARGUMENTS} {ERRORS} {RESULTS} {WITHOUT_NUMBERS}".split()
    assert set(numberless) <= set(names)
    assert missing([name for name in names if name not in numberless], functions(BITS)) == []


@pytest.mark.parametrize(
    ("file", "start", "least", "names"),
    [
        ("loss/class_loss.rs", "pub trait ClassLoss", 7, ("CrossEntropy", "NllLoss", "TargetLoss, Focal")),
        ("loss/elementwise.rs", "impl Elementwise<'_> {", 7, ("Elementwise, KlDivergence",)),
    ],
)
def test_every_method_of_a_loss_has_hashes(file: str, start: str, least: int, names: tuple[str, ...]) -> None:
    found = methods(file, start)
    assert len(found) >= least
    named = set(functions(BITS))
    assert [
        f"{name}: {method}" for name in names for method in found if f"{name}: {method}" not in named
    ] == []


def test_every_loss_of_elements_and_function_of_the_target_has_hashes() -> None:
    for file, enum in (
        ("loss/pointwise.rs", "ElementLoss<'a>"),
        ("loss/target_function.rs", "TargetFunction"),
    ):
        text = (ROOT / "src" / file).read_text(encoding="utf-8")
        body = text.partition(f"pub enum {enum} {{")[2].partition("\n}\n")[0]
        variants = re.findall(r"^    (\w+) \{", body, re.MULTILINE)
        assert len(variants) >= 2
        assert missing(variants, functions(BITS)) == []


def test_a_name_without_hashes_is_seen() -> None:
    text = f"{'0' * 16} {'=':16} softmax f32 2 classes\n"
    assert functions(text) == ["softmax"]
    assert missing(["softmax", "softmax_into"], functions(text)) == ["softmax_into"]


# ---- make arm ---------------------------------------------------------------------------------------------


def _arm(folder: Path, machine: str) -> subprocess.CompletedProcess[str]:
    """What tools/arm.sh does on a machine of this name that has cargo and little else."""
    programs = folder / "bin"
    programs.mkdir()
    for name, does in (("uname", f"echo {machine}"), ("cargo", 'echo cargo "$@"')):
        (programs / name).write_text(f"#!/bin/sh\n{does}\n", encoding="utf-8")
        (programs / name).chmod(0o755)
    for name in ("bash", "dirname", "realpath", "sh"):
        (programs / name).symlink_to(
            next(Path(at) / name for at in ("/usr/bin", "/bin") if (Path(at) / name).exists())
        )
    return subprocess.run(
        [programs / "bash", ROOT / "tools" / "arm.sh", folder / "work"],
        env={"PATH": str(programs)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
@pytest.mark.parametrize("machine", ["Linux aarch64", "Darwin arm64"])
def test_an_arm_machine_runs_the_tests_as_they_are(tmp_path: Path, machine: str) -> None:
    done = _arm(tmp_path, machine)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "cargo test --release --lib --test api\n"


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
@pytest.mark.parametrize("machine", ["Linux x86_64", "Darwin x86_64"])
def test_it_is_skipped_loudly_where_nothing_can_be_fetched(tmp_path: Path, machine: str) -> None:
    done = _arm(tmp_path, machine)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"make arm: SKIPPED, .*Debian on x86-64.*\n", done.stdout)
    assert not (tmp_path / "work").exists()
