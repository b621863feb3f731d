"""The workflows use actions at fixed commits, and commands and files that are there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in WORKFLOWS}
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def unpinned(workflow: str) -> list[str]:
    """The actions that are not named by a commit, with its version in a comment."""
    used = re.findall(r"^\s*(?:- )?uses: *(.*)$", workflow, re.MULTILINE)
    return [name for name in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", name)]


def targets(makefile: str) -> set[str]:
    return set(re.findall(r"^([a-z-]+):(?!=)", makefile, re.MULTILINE))


def made(workflow: str) -> set[str]:
    """The targets that the commands of a workflow name."""
    names: set[str] = set()
    for command in re.findall(r"\bmake((?: +[\w.=$/-]+)+)", re.sub(r"(^|\s)#.*", "", workflow)):
        names.update(word for word in command.split() if "=" not in word)
    return names


@pytest.mark.parametrize("name", TEXTS)
def test_every_action_is_at_a_commit(name: str) -> None:
    assert TEXTS[name].count("uses:") >= 3
    assert unpinned(TEXTS[name]) == []


def test_an_action_is_at_one_commit_everywhere() -> None:
    commits: dict[str, set[str]] = {}
    for action, commit in re.findall(r"uses: *(\S+)@(.*)", "\n".join(TEXTS.values())):
        commits.setdefault(action, set()).add(commit)
    assert {action: found for action, found in commits.items() if len(found) > 1} == {}


def test_the_targets_of_make_are_there() -> None:
    assert {"test-python", "test-lowest", "test-parallel", "sanitize"} <= made(TEXTS["ci.yml"])
    assert made(TEXTS["release.yml"]) == {"docs"}
    assert set().union(*map(made, TEXTS.values())) <= targets(MAKEFILE)


def test_the_tools_are_there() -> None:
    named = set(re.findall(r"tools/[\w./]+", "\n".join(TEXTS.values())))
    assert {"tools/release.py", "tools/project_urls.py", "tools/try_wheel.py"} <= named
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_the_tests_that_cargo_is_asked_for_are_there() -> None:
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))
    named = set(re.findall(r"cargo test\b.* --test (\S+)", "\n".join([MAKEFILE, *TEXTS.values()])))
    assert named
    assert named <= {test["name"] for test in cargo["test"]}


@pytest.mark.skipif(os.name != "posix" or not shutil.which("make"), reason="make is not installed")
@pytest.mark.parametrize("parity", ["yes", "no", "maybe", "", "No", "yes no"])
def test_parity_is_yes_or_no(parity: str) -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "test", f"PARITY={parity}"],
        cwd=ROOT, env={**os.environ, "MAKEFLAGS": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if parity in ("yes", "no"):
        assert done.returncode == 0
        assert ("tools/install_extras.py parity" in done.stdout) <= (parity == "yes")
        last = done.stdout.splitlines()[-1]
        assert last.startswith(
            f'[ {parity} = yes ] || echo "All tests passed, but PARITY=no: those that need'
        )
    else:
        assert done.returncode != 0
        assert f"PARITY is yes or no, got '{parity}'" in done.stderr


def test_bits_are_compared_as_make_does() -> None:
    recipe = re.search(r"^check-bits:.*\n\t(.+)$", MAKEFILE, re.MULTILINE)
    assert recipe is not None
    assert recipe[1] in TEXTS["ci.yml"]


@pytest.mark.parametrize("name", TEXTS)
def test_a_workflow_may_do_nothing_that_a_job_does_not_ask_for(name: str) -> None:
    assert "\npermissions: {}\n" in TEXTS[name]
    jobs = re.split(r"^  ([\w-]+):\n", TEXTS[name].partition("\njobs:\n")[2], flags=re.MULTILINE)
    assert len(jobs) >= 7
    for job, text in zip(jobs[1::2], jobs[2::2], strict=True):
        assert "\n    permissions:\n" in text, job
        assert "\n    timeout-minutes:" in text, job
        assert text.count("actions/checkout@") == text.count("persist-credentials: false"), job


def test_nothing_is_published_by_hand() -> None:
    """What may write anywhere, or sign, runs for a tag alone."""
    jobs = re.split(r"^  [\w-]+:\n", TEXTS["release.yml"].partition("\njobs:\n")[2], flags=re.MULTILINE)[1:]
    publishing = [job for job in jobs if ": write" in job]
    assert len(publishing) == 5
    for job in publishing:
        assert "\n    if: github.event_name == 'push'\n" in f"\n{job}"
        assert "\n    needs: " in f"\n{job}"


def test_the_checks_fire() -> None:
    pinned = "a/b@" + "0" * 40
    text = f"- uses: a/b@v1\n  uses: {pinned}\n- uses: {pinned} # v1.2.3\n- uses: a/b@main # v1.2.3\n"
    assert unpinned(text) == ["a/b@v1", pinned, "a/b@main # v1.2.3"]
    assert made("# `make old`\n- run: make test-it X=no docs\n- run: .ci/run\n") == {"test-it", "docs"}
    assert targets("a: b\nc-d: ## e\nV := 1\n\tmake x: y\n") == {"a", "c-d"}
