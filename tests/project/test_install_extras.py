"""The installation of extras: the CPU's torch first, and never a failure because its index is out of reach."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import programs

TOOL = Path(__file__).parents[2] / "tools" / "install_extras.py"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program, on Linux and without torch."""
    module = programs.load(TOOL)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    return module


def commands(monkeypatch: pytest.MonkeyPatch, *codes: int) -> list[list[str]]:
    """What is run from now on; nothing is, and the exit codes are these."""
    run: list[list[str]] = []
    left = iter(codes)

    def record(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        run.append(command)
        return subprocess.CompletedProcess(command, next(left))

    monkeypatch.setattr(subprocess, "run", record)
    return run


def test_the_cpus_torch_is_asked_for_first(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    run = commands(monkeypatch, 0, 0)
    assert tool.main(["parity"]) == 0
    alone, everything = run
    assert alone[alone.index("--index-url") + 1] == tool.CPU_INDEX
    assert [line for line in alone if line.startswith("torch>")] == [alone[-1]]
    assert "--index-url" not in everything
    wanted = tool.requirements(["parity"])
    assert everything[-len(wanted) :] == wanted


def test_an_index_out_of_reach_is_no_failure(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = commands(monkeypatch, 1, 0)
    assert tool.main(["test", "parity"]) == 0
    assert len(run) == 2
    assert "3000 MB more" in capsys.readouterr().out
    commands(monkeypatch, 1, 1)
    assert tool.main(["parity"]) == 1  # that of PyPI is


@pytest.mark.parametrize("case", ["installed", "another system", "not wanted"])
def test_no_other_index_is_asked(case: str, tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    if case == "installed":
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    elif case == "another system":
        monkeypatch.setattr(sys, "platform", "darwin")
    run = commands(monkeypatch, 0)
    assert tool.main(["check" if case == "not wanted" else "docs"]) == 0
    assert len(run) == 1


def test_it_says_how_much_there_is_to_download(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands(monkeypatch, 0)
    tool.main(["test"])
    assert capsys.readouterr().out == "Installing what test needs: about 245 MB to download.\n"
    listed = set(
        tool.tomllib.loads(tool.PYPROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    )
    assert set(tool.MEGABYTES) == listed & {"test", "parity", "check", "docs", "bench"}


@pytest.mark.parametrize("extras", [[], ["nothing"], ["test", "nothing"], ["all"]])
def test_other_extras_are_an_error(
    extras: list[str], tool: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = commands(monkeypatch)
    assert tool.main(extras) == 2
    assert run == []
    got = " ".join(extras) or "none"
    assert capsys.readouterr().err == (
        f"error: expected extras among test, parity, check, docs, bench: got {got}\n"
    )
