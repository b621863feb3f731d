"""The examples run, learn something, and give the same result twice; the data that is kept scores as expected."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from crossent import cli

EXAMPLES = Path(__file__).parent.parent / "examples"
MAX_FILE_BYTES = 300_000


def run(script: str, *arguments: str | Path) -> str:
    command = [sys.executable, str(EXAMPLES / script), *map(str, arguments)]
    done = subprocess.run(command, text=True, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def score(capsys: pytest.CaptureFixture[str], folder: Path, name: str) -> dict[str, float]:
    files = [folder / f"{name}_{part}.npy" for part in ("logits", "targets")]
    assert all(file.stat().st_size <= MAX_FILE_BYTES for file in files)
    assert cli.main(["score", *map(str, files), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert isinstance(content, dict)
    return content


def assert_same_files(one: Path, other: Path, names: set[str]) -> None:
    assert {file.name for file in one.iterdir()} == names
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_train_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    for folder in ("one", "other"):
        printed = run("train_digits.py", "--steps", "60", "--out", tmp_path / folder)
    content = score(capsys, tmp_path / "one", "digits")
    assert content["count"] == 450
    assert content["accuracy"] > 0.9
    assert f"loss {content['mean']:.4f} nats" in printed
    assert_same_files(tmp_path / "one", tmp_path / "other", {"digits_logits.npy", "digits_targets.npy"})


def test_train_charlm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.md"
    text.write_text("The quick brown fox jumps over the lazy dog — again.\n" * 200, encoding="utf-8")
    for folder in ("one", "other"):
        printed = run("train_charlm.py", "--steps", "100", "--out", tmp_path / folder, "--text", text)
    content = score(capsys, tmp_path / "one", "docs")
    assert content["count"] > 500
    assert content["perplexity"] < 3  # one sentence over and over; 97 classes
    assert f"{content['mean']:.4f} nats each" in printed
    assert_same_files(tmp_path / "one", tmp_path / "other", {"docs_logits.npy", "docs_targets.npy"})


def test_train_charlm_reads_the_documentation(tmp_path: Path) -> None:
    printed = run("train_charlm.py", "--steps", "2", "--out", tmp_path)
    characters = int(printed.split(maxsplit=1)[0])
    assert characters > 10_000


def test_train_charlm_needs_text(tmp_path: Path) -> None:
    (tmp_path / "short.md").write_text("short")
    command = [sys.executable, str(EXAMPLES / "train_charlm.py"), "--text", str(tmp_path / "short.md")]
    done = subprocess.run(command, text=True, capture_output=True, check=False, timeout=120)
    assert done.returncode == 2
    assert "too few to learn from" in done.stderr


@pytest.mark.parametrize(
    ("name", "rows", "accuracy", "perplexity"),
    [("digits", 450, (0.95, 0.99), (1.1, 1.3)), ("docs", 1500, (0.25, 0.75), (3, 15))],
)
def test_kept_data(
    capsys: pytest.CaptureFixture[str],
    name: str,
    rows: int,
    accuracy: tuple[float, float],
    perplexity: tuple[float, float],
) -> None:
    content = score(capsys, EXAMPLES / "data", name)
    assert (content["count"], content["ignored"]) == (rows, 0)
    assert accuracy[0] < content["accuracy"] < accuracy[1]
    assert perplexity[0] < content["perplexity"] < perplexity[1]
    logits = np.load(EXAMPLES / "data" / f"{name}_logits.npy")
    targets = np.load(EXAMPLES / "data" / f"{name}_targets.npy")
    rowwise = logits.astype(np.float64)
    nll = np.log(np.exp(rowwise).sum(axis=1)) - rowwise[np.arange(rows), targets]
    assert content["mean"] == pytest.approx(nll.mean(), rel=1e-6)
