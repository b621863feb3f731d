"""`crossent merge` counts no rows twice: it knows files again by their content, whatever they are called."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import crossent
from crossent import _cli as cli
from test_cli import Array, error, made

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two shards, `a` and `b`, in the folder where the commands run."""
    monkeypatch.chdir(tmp_path)
    logits, target = made((300, 7))
    for name, part in (("a", slice(0, 120)), ("b", slice(120, 300))):
        np.save(f"{name}.npy", logits[part])
        np.save(f"{name}-t.npy", target[part])
    return tmp_path


def scored(logits: str, target: str, state: str, *options: str) -> str:
    assert cli.main(["score", logits, target, "--resume", state, *options]) == 0
    return state


def hard_link(_: Path) -> tuple[str, str]:
    os.link("a.npy", "hard.npy")
    return "hard.npy", "a-t.npy"


def link(_: Path) -> tuple[str, str]:
    Path("link.npy").symlink_to("a.npy")
    return "link.npy", "a-t.npy"


def copy(_: Path) -> tuple[str, str]:
    Path("copies").mkdir()
    for name in ("a.npy", "a-t.npy"):
        shutil.copy(name, f"copies/{name}")
    return "copies/a.npy", "copies/a-t.npy"


SPELLINGS: dict[str, Callable[[Path], tuple[str, str]]] = {
    "with a dot": lambda _: ("./a.npy", "a-t.npy"),
    "the targets with a dot": lambda _: ("a.npy", "./a-t.npy"),
    "as a whole path": lambda folder: (str(folder / "a.npy"), str(folder / "a-t.npy")),
    "by way of a folder": lambda folder: (f"../{folder.name}/a.npy", "a-t.npy"),
    "by a pattern": lambda _: ("a.np[y]", "a-t.npy"),
    "a link": link,
    "a hard link": hard_link,
    "a copy, as on another machine": copy,
    "the same": lambda _: ("a.npy", "a-t.npy"),
}


@pytest.mark.parametrize("key", SPELLINGS)
def test_the_same_rows_under_another_name(folder: Path, capsys: Capture, key: str) -> None:
    one = scored("a.npy", "a-t.npy", "one.json")
    names = SPELLINGS[key](folder)
    two = scored(*names, "two.json")
    capsys.readouterr()
    other = "" if names[0] == "a.npy" else " and a.npy, which hold the same"
    assert cli.main(["merge", one, two]) == 1
    assert error(capsys) == (
        f"crossent: error: two.json and one.json are of the same rows, those of {names[0]}{other}; name each run once, "
        "or pass --allow-repeats if they are different data that are equal by chance\n"
    )
    b = scored("b.npy", "b-t.npy", "b.json")
    assert cli.main(["merge", one, b, "--save-state", "both.json"]) == 0
    capsys.readouterr()
    assert cli.main(["merge", two, "both.json"]) == 1
    assert f"both.json and two.json are of the same rows, those of a.npy{' and ' if other else ''}" in error(
        capsys
    )


def test_two_models_compared_twice(folder: Path, capsys: Capture) -> None:
    np.save("q.npy", np.load("a.npy") + 1)
    for state, q in (("one.json", "q.npy"), ("two.json", "./q.npy")):
        assert cli.main(["compare", "a.npy", q, "a-t.npy", "--resume", state]) == 0
    capsys.readouterr()
    assert cli.main(["merge", "one.json", "two.json"]) == 1
    assert "two.json and one.json are of the same rows, those of a.npy; name each run once" in error(capsys)


@pytest.mark.parametrize(
    "spelling", ["one.json", "./one.json", "{folder}/one.json", "link.json", "hard.json"]
)
def test_the_same_state_under_another_name(folder: Path, capsys: Capture, spelling: str) -> None:
    one = scored("a.npy", "a-t.npy", "one.json")
    Path("link.json").symlink_to("one.json")
    os.link("one.json", "hard.json")
    capsys.readouterr()
    other = spelling.format(folder=folder)
    for options in ([], ["--allow-repeats"]):
        assert cli.main(["merge", one, other, *options]) == 1
        assert error(capsys) == (
            f"crossent: error: {other} and one.json are of the same rows, those of a.npy: they are one file; name each "
            "run once\n"
        )


def test_different_data_that_are_equal_by_chance(folder: Path, capsys: Capture) -> None:
    """Two shards of padding: the user says so, and both count."""
    for name in ("x", "y"):
        np.save(f"{name}.npy", np.zeros((40, 3), np.float32))
        np.save(f"{name}-t.npy", np.zeros(40, np.int64))
    states = [scored(f"{name}.npy", f"{name}-t.npy", f"{name}.json") for name in ("x", "y")]
    capsys.readouterr()
    assert cli.main(["merge", *states]) == 1
    assert "y.npy and x.npy, which hold the same; name each run once, or pass --allow-repeats" in error(
        capsys
    )
    assert cli.main(["merge", *states, "--allow-repeats", "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == (
        "crossent: note: y.json and x.json count the same rows, those of y.npy and x.npy, which hold the same\n"
    )
    content = json.loads(captured.out)
    assert content["count"] == 80
    assert content["mean"] == pytest.approx(np.log(3))


def test_shards_without_rows_are_no_repeats(folder: Path, capsys: Capture) -> None:
    for name in ("x", "y"):
        np.save(f"{name}.npy", np.zeros((0, 7), np.float32))
        np.save(f"{name}-t.npy", np.zeros(0, np.int64))
        assert cli.main(["score", f"{name}.npy", f"{name}-t.npy", "--resume", f"{name}.json"]) == 1
    capsys.readouterr()
    one = scored("a.npy", "a-t.npy", "one.json")
    capsys.readouterr()
    assert cli.main(["merge", "x.json", one, "y.json"]) == 0
    assert capsys.readouterr().err == ""


def test_the_same_logits_with_other_targets_are_told(folder: Path, capsys: Capture) -> None:
    target: Array = (np.load("a-t.npy") + 1) % 7
    np.save("other-t.npy", target)
    one, two = scored("a.npy", "a-t.npy", "one.json"), scored("./a.npy", "other-t.npy", "two.json")
    capsys.readouterr()
    assert cli.main(["merge", one, two, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == (
        "crossent: note: two.json and one.json read the same rows of ./a.npy and a.npy, which hold the same, but with "
        "other targets, files or columns; leave one out unless both are to count\n"
    )
    logits = np.load("a.npy")
    expected = np.mean([crossent.cross_entropy(logits, t) for t in (np.load("a-t.npy"), target)])
    assert json.loads(captured.out)["mean"] == pytest.approx(expected, rel=1e-6)


def test_a_part_of_a_run_over_several_files_is_told(folder: Path, capsys: Capture) -> None:
    np.save("all-t.npy", np.concatenate([np.load("a-t.npy"), np.load("b-t.npy")]))
    whole = scored("[ab].npy", "all-t.npy", "whole.json")
    part = scored("b.npy", "b-t.npy", "part.json")
    capsys.readouterr()
    assert cli.main(["merge", whole, part]) == 0
    assert (
        "note: part.json and whole.json read the same rows of b.npy and [ab].npy" in capsys.readouterr().err
    )


def test_two_arrays_of_a_file_are_no_repeats(folder: Path, capsys: Capture) -> None:
    np.savez("x.npz", a=np.load("a.npy"), b=np.load("b.npy"), ta=np.load("a-t.npy"), tb=np.load("b-t.npy"))
    states = [scored(f"x.npz:{name}", f"x.npz:t{name}", f"{name}.json") for name in "ab"]
    capsys.readouterr()
    assert cli.main(["merge", *states]) == 0
    assert capsys.readouterr().err == ""
    again = scored("./x.npz:a", "x.npz:ta", "again.json")
    capsys.readouterr()
    assert cli.main(["merge", *states, again]) == 1
    assert "again.json and a.json are of the same rows, those of ./x.npz:a and x.npz:a" in error(capsys)


def test_two_labels_of_a_table(folder: Path, capsys: Capture) -> None:
    logits, target = made((60, 3))
    lines = [
        f"{a},{b},{c},{t},{2 - t}" for (a, b, c), t in zip(logits.tolist(), target.tolist(), strict=True)
    ]
    Path("x.csv").write_text("\n".join(["a,b,c,first,second", *lines]))
    for label in ("first", "second"):
        command = ["score", "x.csv", "--values", "logits", "--columns", "a,b,c", "--label", label]
        assert cli.main([*command, "--resume", f"{label}.json"]) == 0
    capsys.readouterr()
    assert cli.main(["merge", "first.json", "second.json", "--json"]) == 0
    captured = capsys.readouterr()
    assert "with other targets, files or columns" in captured.err
    assert json.loads(captured.out)["count"] == 120


def test_other_classes(folder: Path, capsys: Capture) -> None:
    """As one run over both of the files would refuse them."""
    Path("x.csv").write_text("a,b,c,label\n.1,.2,.7,a\n.1,.1,.8,b\n.2,.2,.6,c\n")
    Path("y.csv").write_text("c,a,b,label\n.6,.1,.3,a\n.7,.2,.1,b\n.1,.2,.7,c\n")
    Path("z.csv").write_text("a,b,d,label\n.1,.2,.7,a\n.1,.1,.8,b\n.2,.2,.6,d\n")
    Path("w.csv").write_text("a,b,label\n.1,.9,a\n.2,.8,b\n")
    for name in "xyzw":
        assert cli.main(["score", f"{name}.csv", "--resume", f"{name}.json"]) == 0
    capsys.readouterr()
    assert cli.main(["merge", "x.json", "y.json", "--json", "--save-state", "xy.json"]) == 0
    got = json.loads(capsys.readouterr().out)
    losses = -np.log([0.1, 0.1, 0.6, 0.1, 0.1, 0.1])
    assert got["mean"] == pytest.approx(losses.mean(), rel=1e-12)
    for first in ("x.json", "xy.json"):
        assert cli.main(["merge", first, "z.json"]) == 1
        assert error(capsys) == (
            f"crossent: error: z.json is of other columns than {first}: it lacks 'c' and has 'd' besides; make "
            "both with the same --columns\n"
        )
        assert cli.main(["merge", first, "w.json"]) == 1
        assert "w.json is of other columns than" in error(capsys)


@pytest.mark.parametrize("command", ["score", "compare"])
def test_another_number_of_classes(folder: Path, capsys: Capture, command: str) -> None:
    rng = np.random.default_rng(5)
    for classes in (3, 4):
        np.save(f"{classes}.npy", rng.normal(size=(20, classes)))
        np.save(f"q{classes}.npy", rng.normal(size=(20, classes)))
        np.save(f"t{classes}.npy", rng.integers(0, 3, 20))
        inputs = [f"{classes}.npy", *([f"q{classes}.npy"] if command == "compare" else []), f"t{classes}.npy"]
        assert cli.main([command, *inputs, "--resume", f"{classes}.json"]) == 0
    capsys.readouterr()
    assert cli.main(["merge", "3.json", "4.json"]) == 1
    assert error(capsys) == (
        "crossent: error: 4.json is of 4 classes, and 3.json of 3; merge runs over the same classes\n"
    )
