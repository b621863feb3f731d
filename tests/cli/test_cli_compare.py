"""`crossent compare`, `calibrate` and `merge`: the figures of the library, from files of any kind and in any pieces."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import crossent
from crossent import __version__, _core
from crossent import _cli as cli
from steps import blocks_of
from test_cli import Array, error, interrupt, made, posix
from test_cli_resume import SMALL, stop_after
from test_files import write_csv, write_llama

Capture = pytest.CaptureFixture[str]


class Data:
    """Two models' logits and the targets, as arrays and as files."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(5)
        self.folder = folder
        self.x, _ = made((3000, 20))
        self.y = (self.x + rng.normal(scale=0.3, size=self.x.shape)).astype(np.float16)
        p = crossent.softmax(self.x.astype(np.float64) / 2)
        self.target = (p.cumsum(axis=1) < rng.random((3000, 1))).sum(axis=1).clip(0, 19)
        self.target[::9] = -100
        self.names = [self.save("x", self.x), self.save("y", self.y), self.save("t", self.target)]

    def save(self, name: str, array: Array) -> str:
        path = self.folder / f"{name}.npy"
        np.save(path, array)
        return str(path)


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return Data(tmp_path)


def shown(capsys: Capture) -> dict[str, Any]:
    content = json.loads(capsys.readouterr().out)
    assert isinstance(content, dict)
    return content


def same(content: dict[str, Any], expected: dict[str, Any]) -> None:
    assert {name: content[name] for name in expected} == json.loads(json.dumps(expected))


# ---- compare --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", ["64M", "50K", "1"])
def test_compare(data: Data, capsys: Capture, memory: str) -> None:
    assert cli.main(["compare", *data.names, "--json", "--memory", memory]) == 0
    content = shown(capsys)
    same(content, crossent.compare(data.x, data.y, data.target).to_dict())
    expected = {
        "version": __version__,
        "isa": _core.build_info()["isa"],
        "threads": _core.get_num_threads(),
        "reference": data.names[0],
        "other": data.names[1],
        "targets": data.names[2],
        "ignore_index": -100,
        "complete": True,
        "notes": [],
    }
    assert {name: content[name] for name in expected} == expected
    assert [told["argument"] for told in content["inputs"]] == ["reference", "other", "targets"]


def test_compare_without_targets(data: Data, capsys: Capture) -> None:
    assert cli.main(["compare", *data.names[:2], "--json"]) == 0
    content = shown(capsys)
    same(content, crossent.compare(data.x, data.y).to_dict())
    assert content["nll_mean"] is None
    assert cli.main(["compare", *data.names[:2]]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["rows", "counted", "3,000"]
    assert [line.partition("  ")[0] for line in table[-2:]] == ["mean Jensen-Shannon", "same prediction"]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_compare_any_axis(tmp_path: Path, capsys: Capture, axis: int) -> None:
    x, target = made((30, 40, 20), axis)
    y = (x * 1.1).astype(np.float64)
    for name, array in (("x", x), ("y", y), ("t", target)):
        np.save(tmp_path / f"{name}.npy", array)
    names = [str(tmp_path / f"{name}.npy") for name in "xyt"]
    assert cli.main(["compare", *names, "--axis", str(axis), "--json", "--memory", "30K"]) == 0
    same(shown(capsys), crossent.compare(x, y, target, axis=axis).to_dict())
    np.save(tmp_path / "y.npy", np.asfortranarray(y))
    code = cli.main(["compare", *names, "--axis", str(axis), "--memory", "30K"])
    assert code == 1
    assert error(capsys) == (
        f"crossent: error: {names[0]} and {names[1]} hold their rows in different orders; write both in C order, with "
        "numpy.ascontiguousarray\n"
    )
    np.save(tmp_path / "x.npy", np.asfortranarray(x))
    assert cli.main(["compare", *names, "--axis", str(axis), "--memory", "30K", "--json"]) == 0
    same(shown(capsys), crossent.compare(x, y, target, axis=axis).to_dict())


def test_compare_llama_files(tmp_path: Path, capsys: Capture) -> None:
    logits, target = made((48, 11))
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (base,) = write_llama(tmp_path / "a", logits, target)
    (other,) = write_llama(tmp_path / "b", logits * 1.25, target)
    assert cli.main(["compare", base, other, "--json"]) == 0
    content = shown(capsys)
    expected = crossent.compare(logits, logits * 1.25, target)
    assert content["count"] == 48
    assert content["kl_mean"] == pytest.approx(expected.kl_mean, rel=1e-2)
    assert content["nll_mean"] == pytest.approx(expected.nll_mean, rel=1e-3)
    target[30] = (target[30] + 1) % 11
    write_llama(tmp_path / "b", logits, target)
    assert cli.main(["compare", base, other]) == 1
    assert error(capsys) == (
        f"crossent: error: {base} and {other} hold different targets, row 30 the first; check that both come from the "
        "same text\n"
    )
    target[30] = (target[30] - 1) % 11
    array = str(tmp_path / "y.npy")
    np.save(array, logits)
    assert cli.main(["compare", base, array, "--json"]) == 0
    assert abs(shown(capsys)["kl_mean"]) < 1e-5
    (table,) = write_csv(tmp_path, logits, target)
    np.save(array, np.zeros_like(logits))
    assert cli.main(["compare", table, array, "--json"]) == 0
    assert shown(capsys)["other_nll_mean"] == pytest.approx(np.log(11), rel=1e-6)


def test_compare_refuses(data: Data, capsys: Capture, tmp_path: Path) -> None:
    x, y, t = data.names
    for array, text in (
        (data.y[:, :19], "has 19 classes, and "),
        (data.y[:2999], "has rows of shape (2999,), and "),
        (data.y.reshape(30, 100, 20), "has rows of shape (30, 100), and "),
    ):
        np.save(y, array)
        assert cli.main(["compare", x, y, t]) == 1
        assert f"{y} {text}{x}" in error(capsys) or text in "has 19 classes, and "
    (table,) = write_csv(tmp_path, data.x[:50], data.target[:50].clip(0))
    np.save(y, data.y[:49])
    assert cli.main(["compare", table, y]) == 1
    *so_far, last = capsys.readouterr().err.splitlines()
    # The rows of a table are known once the thread that reads ahead is at its end.
    assert so_far[0].replace(" of 50", "") == (
        "crossent: stopped by an error: 49 rows compared; the result so far:"
    )
    assert so_far[1].split() == ["rows", "counted", "49"]
    assert last == (
        f"crossent: error: {y} ends after 49 rows, and {table} does not; check that both come from the same run"
    )
    np.save(y, data.y[:51])
    assert cli.main(["compare", table, y]) == 1
    assert f"{table} ends after 50 rows, and {y} does not" in capsys.readouterr().err
    np.save(y, data.y)
    np.save(t, np.full(3000, -100))
    assert cli.main(["compare", x, y, t]) == 1
    assert f"no row was counted; check {x} and the ignore index -100" in capsys.readouterr().err


def test_compare_resumed(
    data: Data, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["compare", *data.names, "--json"]) == 0
    whole = capsys.readouterr().out
    command = ["compare", *data.names, "--json", "--resume", str(tmp_path / "state.json"), *SMALL]
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        assert cli.main(command) == 130
    assert "rows compared; the result so far:\n" in capsys.readouterr().err
    assert cli.main(command) == 0
    assert capsys.readouterr().out == whole


# ---- calibrate ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", ["64M", "50K"])
def test_calibrate(data: Data, capsys: Capture, memory: str) -> None:
    x, _, t = data.names
    assert cli.main(["calibrate", x, t, "--json", "--memory", memory]) == 0
    content = shown(capsys)
    found = crossent.fit_temperature(data.x, data.target)
    assert 1.9 < found.temperature < 2.1
    same(
        content,
        {
            name: getattr(found, name)
            for name in ("temperature", "nll_before", "nll_after", "count", "iterations")
        },
    )
    for name, logits in (("before", data.x), ("after", data.x / np.float32(found.temperature))):
        scorer = crossent.Scorer(top_k=())
        scorer.update(logits, data.target)
        same(content[name], {"count": found.count, "accuracy": scorer.result().accuracy})
        assert content[name]["expected_calibration_error"] == pytest.approx(
            scorer.result().expected_calibration_error, rel=1e-4
        )
    assert content["after"]["expected_calibration_error"] < content["before"]["expected_calibration_error"]
    assert content["after"]["mean"] == pytest.approx(content["nll_after"], rel=1e-6)


def test_calibrate_table(data: Data, capsys: Capture) -> None:
    x, _, t = data.names
    assert cli.main(["calibrate", x, t]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line[:17].rstrip() for line in lines]
    assert names == [
        "temperature", "rows counted", "rows ignored", "mean NLL", "perplexity", "calibration error", "Brier score",
        "accuracy",
    ]  # fmt: skip
    assert cli.main(["calibrate", x, t, "--bins", "0"]) == 0
    assert "calibration error" not in capsys.readouterr().out


def test_calibrate_refuses(data: Data, capsys: Capture) -> None:
    x, _, t = data.names
    np.save(t, data.x.argmax(axis=1))
    assert cli.main(["calibrate", x, t]) == 1
    assert error(capsys).startswith(
        f"crossent: error: {x}: no temperature is best: every target has the largest logit already"
    )
    np.save(t, np.full(3000, -100))
    assert cli.main(["calibrate", x, t]) == 1
    assert f"no row was counted: all 3000 targets of {t} equal the ignore index -100" in error(capsys)
    np.save(t, data.target)
    data.x[1234, data.target[1234]] = np.nan
    np.save(x, data.x)
    assert cli.main(["calibrate", x, t]) == 1
    assert error(capsys) == (
        f"crossent: error: 1 of 2666 counted rows of {x} have no finite loss at any temperature, row [1234] among "
        "them; check for nan or infinite logits there, or give such rows the ignore index as their target\n"
    )


@posix
def test_calibrate_interrupted(data: Data) -> None:
    x, _, t = data.names
    once = blocks_of("score", x, t, *SMALL)
    code, said = interrupt(["calibrate", x, t, *SMALL], signal.SIGINT, block=once + 8)
    assert code == 130
    first, *table = said.splitlines()
    assert first == (
        f"crossent: interrupted while {x} was read for the second time; no temperature yet; the logits as they are:"
    )
    counted = data.target != -100
    expected = crossent.cross_entropy(data.x[counted], data.target[counted])
    assert [line for line in table if line.startswith("mean NLL")] == [
        f"mean NLL      {expected:.6g} before, in nats"
    ]


# ---- merge ----------------------------------------------------------------------------------------------------


def parts(data: Data, command: str, *options: str) -> list[str]:
    """Run over three parts of the rows; returns their states."""
    states = []
    for number, cut in enumerate((slice(0, 700), slice(700, 2500), slice(2500, 3000))):
        names = [data.save(f"{name}{number}", array[cut]) for name, array in
                 (("x", data.x), ("y", data.y), ("t", data.target))]  # fmt: skip
        if command == "score":
            del names[1]
        states.append(str(data.folder / f"{command}{number}.json"))
        assert cli.main([command, *names, "--resume", states[-1], *options]) == 0
    return states


@pytest.mark.parametrize("command", ["score", "compare"])
def test_merged_is_whole(data: Data, capsys: Capture, command: str) -> None:
    data.x[2600, 3] = np.nan
    data.save("x", data.x)
    names = [data.names[0], *data.names[1 if command == "compare" else 2 :]]
    assert cli.main([command, *names, "--json"]) == 0
    whole = shown(capsys)
    assert cli.main([command, *names]) == 0
    table = capsys.readouterr().out
    states = parts(data, command)
    capsys.readouterr()
    assert cli.main(["merge", *states]) == 0
    assert capsys.readouterr().out == table
    both = str(data.folder / "both.json")
    assert cli.main(["merge", *states[:2], "--save-state", both]) == 0
    capsys.readouterr()
    assert cli.main(["merge", both, states[2], "--json"]) == 0
    merged = shown(capsys)
    result = crossent.Report if command == "score" else crossent.Comparison
    for name in set(result.__dataclass_fields__) - {
        "loss_histogram",
        "position_groups",
    }:  # which are drawn, not told
        assert merged[name] == whole[name], name
    assert len(merged["inputs"]) == 3 * len(whole["inputs"])
    assert merged["complete"] is True


def test_merged_units(data: Data, capsys: Capture) -> None:
    states = parts(data, "score", "--words", "100")
    capsys.readouterr()
    assert cli.main(["merge", *states, "--json"]) == 0
    merged = shown(capsys)
    assert (merged["units"], merged["unit"]) == (300.0, "word")
    assert merged["perplexity_per_word"] == pytest.approx(np.exp(merged["nll_sum"] / 300))


def test_merge_refuses(data: Data, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    states = parts(data, "score")
    compared = parts(data, "compare")
    x, _, t = data.names
    capsys.readouterr()
    both = str(data.folder / "both.json")
    assert cli.main(["merge", *states[:2], "--save-state", both]) == 0
    capsys.readouterr()
    other = str(data.folder / "other.json")
    for option, value, text in (
        ("--top-k", "3", "--top-k 3, and {} with 1,5"),
        ("--ignore-index", "7", "--ignore-index 7, and {} with -100"),
    ):
        data.save("t3", data.target.clip(0))
        assert cli.main(["score", x, str(data.folder / "t3.npy"), "--resume", other, option, value]) == 0
        capsys.readouterr()
        assert cli.main(["merge", states[0], other]) == 1
        assert f"{other} was made with {text.format(states[0])}" in error(capsys)
        Path(other).unlink()
    assert cli.main(["score", x, t, "--resume", other, "--bytes", "8"]) == 0
    capsys.readouterr()
    assert cli.main(["merge", states[0], other]) == 1
    assert f"{other} counts bytes, and {states[0]} no units; make both with the same" in error(capsys)
    for repeated in (states[0], both):
        assert cli.main(["merge", states[0], states[2], repeated]) == 1
        assert f"{repeated} and {states[0]} are of the same rows, those of" in error(capsys)
    assert cli.main(["merge", states[0], compared[0]]) == 1
    assert f"{compared[0]} is a state of `crossent compare`, and {states[0]} of `crossent score`" in error(
        capsys
    )
    assert cli.main(["merge", states[0], t]) == 1
    assert f"{t} is not the state of a run" in error(capsys)
    assert cli.main(["merge", states[0], "nowhere.json"]) == 1
    assert "nowhere.json: No such file" in error(capsys)
    before = Path(states[0]).read_bytes()
    assert cli.main(["merge", *states, "--save-state", states[0]]) == 2
    assert f"--save-state {states[0]} is the input" in error(capsys)
    assert Path(states[0]).read_bytes() == before
    assert cli.main(["score", x, t, "--resume", both]) == 1
    assert f"{both} was merged of 2 runs, and cannot be resumed; resume one of them" in error(capsys)


def test_merge_tells_of_runs_that_are_not_complete(
    data: Data, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = parts(data, "score")
    x, _, t = data.names
    partial = str(data.folder / "partial.json")
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        assert cli.main(["score", x, t, "--resume", partial, *SMALL]) == 130
    capsys.readouterr()
    assert cli.main(["merge", states[0], partial, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["complete"] is False
    assert captured.err == (
        f"crossent: note: {partial} of a run that is not complete; the result lacks the rest of its rows\n"
    )
