"""The progress bar: none for short work, and for long work one that began with it."""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from crossent._cli import progress
from crossent._io import open_logits
from test_cli import made, on_terminal, posix


@posix
@pytest.mark.parametrize("command", ["score", "compare", "calibrate"])
def test_short_work_shows_nothing(tmp_path: Path, command: str) -> None:
    """Neither the bar, nor the line on the rows before it, nor what would clear it."""
    logits, target = made((200, 10))
    path, targets = str(tmp_path / "x.npy"), str(tmp_path / "t.npy")
    np.save(path, logits)
    np.save(targets, np.where(np.arange(200) % 3 == 0, target, logits.argmax(axis=1)))
    files = [path, path, targets] if command == "compare" else [path, targets]
    code, out, seen = on_terminal(command, *files, "--json", long=False)
    assert (code, seen) == (0, "")
    assert json.loads(out)["count"] == 200


@pytest.mark.parametrize(("seconds", "shown"), [(0.5, False), (5, True)])
def test_the_bar_begins_with_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, shown: bool
) -> None:
    np.save(tmp_path / "x.npy", np.zeros((100, 3), np.float32))
    source = open_logits(str(tmp_path / "x.npy"))
    seen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", seen)
    monkeypatch.setattr(progress, "on_terminal", lambda _: True)
    clock = SimpleNamespace(time=lambda: time.time() - seconds)
    monkeypatch.setattr(progress, "time", clock)
    options = argparse.Namespace(no_progress=False, memory=1 << 20)
    with progress.Bar(source, options, start=10) as bar:
        bar.update(20, lambda: "the figure")
        assert seen.getvalue() == ""
        clock.time = time.time
        bar.update(40, lambda: "the figure")
        text = seen.getvalue()
    if not shown:
        assert seen.getvalue() == ""
        return
    assert text.startswith("crossent: 100 rows of 3 classes, float32")
    bars = text.splitlines()[1:]
    assert "70.0/100" in bars[-1]
    assert "00:05" in bars[-1]
    assert "the figure" in bars[-1]
    assert " 0.00/100" not in text
