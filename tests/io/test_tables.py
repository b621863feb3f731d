"""Tables: which columns are classes, and what is no number and no label, in CSV and Parquet, in every command."""

from __future__ import annotations

import decimal
import itertools
import json
import shlex
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from crossent import _cli as cli
from crossent._io import open_logits
from crossent._io.cells import Kind, flaw, is_number, kind_of, whole
from crossing import crossed
from test_cli import error

Array = npt.NDArray[Any]
Capture = pytest.CaptureFixture[str]
COMMANDS = ("score", "compare", "calibrate", "info")

# Three classes, four rows, and what is right for them.
X = np.array([[2.0, 0.0, 1.0], [0.0, 1.0, 3.0], [1.0, 2.0, -1.0], [0.5, 0.0, 0.0]])
T = np.array([1, 2, 1, 0])
MEAN = float(np.log(np.exp(X).sum(axis=1)).mean() - X[np.arange(4), T].mean())
P = np.exp(X) / np.exp(X).sum(axis=1, keepdims=True)


def write(path: Path, columns: dict[str, Sequence[Any]], separator: str = ",") -> str:
    """Write a table, in the format that the name says."""
    if path.suffix == ".parquet":
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.table({name: pa.array(cells) for name, cells in columns.items()}), path)
    else:
        lines = [list(columns), *zip(*columns.values(), strict=True)]
        path.write_text("".join(separator.join(map(str, line)) + "\n" for line in lines), encoding="utf-8")
    return str(path)


def text(folder: Path, content: str, name: str = "x.csv") -> str:
    (folder / name).write_text(content, encoding="utf-8")
    return str(folder / name)


def classes(names: Sequence[str], values: Array = P) -> dict[str, Sequence[Any]]:
    return {name: values[:, i].tolist() for i, name in enumerate(names)}


def run(command: str, path: str, *options: str) -> int:
    """Run a command on a table; `compare` on the table and itself."""
    files = [path, path] if command == "compare" else [path]
    return cli.main([command, *files, *options, "--json"])


def mean(capsys: Capture) -> float:
    return float(json.loads(capsys.readouterr().out)["mean"])


def advised(message: str, *, last: bool = False) -> str:
    """The value of `--columns` that an error advises, as the shell gives it to the command."""
    parts = message.replace("--columns=", "--columns ").split("--columns ")[1:]
    lexer = shlex.shlex(parts[-1 if last else 0].replace("; ", " "), posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    return str(next(lexer)).rstrip(",;\n")


# ---- columns that may be no classes -------------------------------------------------------------------------

KINDS = ("csv", "tsv", "parquet")
P3 = ("p_0", "p_1", "p_2")
ANIMALS = ("cat", "dog", "owl")


def separator_of(kind: str) -> str:
    return "\t" if kind == "tsv" else ","


STRAYS: list[tuple[str, list[Any]]] = [
    ("", [10, 11, 12, 13]),
    ("Unnamed: 0", [0, 1, 2, 3]),
    ("id", [7, 3, 9, 1]),
    ("index", [0.5, 1.5, 2.5, 3.5]),
    ("image_id", [7, 3, 9, 1]),
    ("sampleIdx", [7, 3, 9, 1]),
    ("__index_level_0__", [7, 3, 9, 1]),
    ("weight", [0.5, 1.0, 0.25, 0.75]),
    ("sample_weight", [1, 1, 2, 1]),
    ("age", [33, 41, 28, 57]),
    ("y_pred", [0, 1, 0, 2]),
    ("confidence", [0.5, 0.5, 0.25, 0.75]),
    ("anything", [3, 1, 2, 4]),
    ("zeros", [0, 0, 0, 0]),
]


@pytest.mark.parametrize(
    ("stray", "names", "kind", "before"),
    crossed(
        STRAYS, [P3, ANIMALS, ("0", "1", "2"), ("cat_p", "dog_p", "owl_p")], KINDS, [True, False], more=30
    ),
)
def test_a_column_that_may_be_no_class_is_an_error_with_the_right_advice(
    tmp_path: Path,
    capsys: Capture,
    stray: tuple[str, list[Any]],
    names: Sequence[str],
    kind: str,
    before: bool,
) -> None:
    column, cells = stray
    columns = {column: cells, **classes(names)} if before else {**classes(names), column: cells}
    path = write(tmp_path / f"x.{kind}", {**columns, "label": T.tolist()}, separator_of(kind))
    assert run("score", path) == 2
    message = error(capsys)
    assert repr(column) in message
    assert "--values" not in message
    assert run("score", path, "--columns", advised(message)) == 0
    captured = capsys.readouterr()
    content = json.loads(captured.out)
    assert content["mean"] == pytest.approx(MEAN, rel=1e-12)
    assert content["columns"] == list(names)
    assert captured.err == ""


def test_what_pandas_writes_with_its_index(tmp_path: Path, capsys: Capture) -> None:
    path = text(tmp_path, ",l0,l1,l2,label\n10,2,0,1,1\n11,0,1,3,0\n12,1,2,-1,1\n13,.5,0,0,0\n")
    assert run("score", path, "--values", "logits") == 2
    message = error(capsys)
    assert "'' has no name, as an index; to leave it out pass --columns 'l*'" in message
    assert run("score", path, "--values", "logits", "--columns", advised(message)) == 0
    expected = np.log(np.exp(X).sum(axis=1)).mean() - X[np.arange(4), [1, 0, 1, 0]].mean()
    assert mean(capsys) == pytest.approx(expected, rel=1e-12)
    assert expected == pytest.approx(1.68021, abs=5e-6)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_command_says_so(tmp_path: Path, capsys: Capture, command: str, kind: str) -> None:
    columns = {"": [3, 4, 5, 6], **classes(P3), "label": T.tolist()}
    path = write(tmp_path / f"x.{kind}", columns, separator_of(kind))
    assert run(command, path) == 2
    assert "'' has no name, as an index; to leave it out pass --columns 'p_*'" in error(capsys)
    assert run(command, path, "--columns", "p_*") == 0
    assert "classes are" not in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_columns_taken_are_named_once_unless_the_user_names_them(
    tmp_path: Path, capsys: Capture, command: str, kind: str
) -> None:
    columns = {"image": ["a.png", "b", "c", "d"], **classes(P3), "label": T.tolist()}
    path = write(tmp_path / f"x.{kind}", columns, separator_of(kind))
    assert run(command, path) == 0
    captured = capsys.readouterr()
    json.loads(captured.out)
    note = f"crossent: note: {path}: the classes are the 3 columns p_0, p_1, p_2 (labels: label; left out: image; "
    assert captured.err.count(note) == captured.err.count("\n") == 1
    assert run(command, path, "--columns", "p_?") == 0
    assert capsys.readouterr().err == ""


def test_both_tables_of_a_comparison_are_named_and_many_columns_shortened(
    tmp_path: Path, capsys: Capture
) -> None:
    paths = []
    for name in ("a.csv", "b.csv"):
        cells = {f"p_{i}": [0.05] for i in range(20)} | {"label": [3]}
        paths.append(write(tmp_path / name, cells))
    assert cli.main(["compare", *paths]) == 0
    notes = capsys.readouterr().err.splitlines()
    assert [note.split(" (")[0] for note in notes] == [
        f"crossent: note: {path}: the classes are the 20 columns p_0, p_1, ..., p_19" for path in paths
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_on_the_other_side_of_the_labels_are_no_classes(
    tmp_path: Path, capsys: Capture, kind: str
) -> None:
    for columns in (
        {**classes(ANIMALS), "label": T.tolist(), "zz": [0.5, 1.5, 2.5, 0.5]},
        {"zz": [0.5, 1.5, 2.5, 0.5], "label": T.tolist(), **classes(ANIMALS)},
        {"label": T.tolist(), **classes(P3), "pred": [1, 0, 1, 1]},
        {**classes(P3), "label": T.tolist(), "pred": [1, 0, 1, 1], "split": list("abab")},
    ):
        path = write(tmp_path / f"x.{kind}", columns, separator_of(kind))
        assert run("score", path) == 2
        assert run("score", path, "--columns", advised(error(capsys))) == 0
        assert mean(capsys) == pytest.approx(MEAN, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [0, 3])
def test_a_part_of_a_family_of_names_may_be_no_class(
    tmp_path: Path, capsys: Capture, kind: str, side: int
) -> None:
    for stray, names in (
        ("p_id", P3),
        ("p_weight", P3),
        ("pred_label", ("pred_cat", "pred_dog", "pred_owl")),
        ("temperature", tuple("abc")),
        ("q", P3),
        ("m", ("prob.cat", "prob.dog", "prob.owl")),
    ):
        cells = list(classes(names).items())
        cells.insert(side, (stray, [0.5, 1.0, 0.25, 0.75]))
        path = write(tmp_path / f"x.{kind}", {**dict(cells), "label": T.tolist()}, separator_of(kind))
        assert run("score", path) == 2, stray
        message = error(capsys)
        assert repr(stray) in message
        assert run("score", path, "--columns", advised(message)) == 0
        assert mean(capsys) == pytest.approx(MEAN, rel=1e-12)


def test_two_sets_of_columns_are_not_taken_together(tmp_path: Path, capsys: Capture) -> None:
    for first, second in (("m1_", "m2_"), ("p_", "q_"), ("a.", "b.")):
        names = [f"{prefix}{name}" for prefix in (first, second) for name in ANIMALS]
        values = np.concatenate([P, P[:, ::-1]], axis=1)
        path = write(tmp_path / "x.csv", {**classes(names, values), "label": T.tolist()})
        assert run("score", path, "--values", "logits") == 2
        assert f"'{second}cat' is not named as '{first}cat'" in error(capsys)
        words = [ANIMALS[t] for t in T]
        path = write(tmp_path / "x.csv", {**classes(names, values), "label": words})
        assert run("score", path) == 2
        message = error(capsys)
        assert "the labels name columns in more than one way" in message
        assert run("score", path, "--strip-prefix", first) == 0
        assert mean(capsys) == pytest.approx(MEAN, rel=1e-12)


FOUR: list[Sequence[str]] = [
    ("small_car", "small_truck", "big_car", "big_truck"),
    ("left hand", "right hand", "left foot", "right foot"),
    ("New York", "New Jersey", "New Mexico", "Ohio"),
    ("A", "B", "O", "AB"),
    ("grade1", "grade2", "healthy", "unknown"),
    ("p_cat", "p_dog", "p_owl", "other"),
    ("p_error", "p_warning", "p_ok", "p_count"),
    ("confidence", "error", "weight", "age"),
    ("-1", "0", "1", "2"),
    ("0", "1", "2", "other"),
]


@pytest.mark.parametrize(
    ("names", "kind", "place", "values"), crossed(FOUR, KINDS, [0, 2, 4], ["probs", "log-probs"], more=20)
)
def test_all_columns_are_classes_where_only_all_of_them_add_up_to_1(
    tmp_path: Path, capsys: Capture, names: Sequence[str], kind: str, place: int, values: str
) -> None:
    x = np.concatenate([X, [[2.0], [-1.0], [3.0], [0.5]]], axis=1)
    p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    cells = list(classes(names, np.log(p) if values == "log-probs" else p).items())
    target = [1, 1, 2, 0]
    cells.insert(place, ("label", target))
    path = write(tmp_path / f"x.{kind}", dict(cells), separator_of(kind))
    assert run("score", path, "--values", values) == 0
    content = json.loads(capsys.readouterr().out)
    # A name that is a number is that of a class: -1 is class 0 there, and 0 class 1.
    codes = [names.index(str(t)) if str(t) in names else t for t in target]
    assert content["columns"] == list(names)
    assert content["mean"] == pytest.approx(-np.log(p[np.arange(4), codes]).mean(), rel=1e-9)
    path = write(tmp_path / f"x.{kind}", {"id": [4, 5, 6, 7], **dict(cells)}, separator_of(kind))
    assert run("score", path, "--values", values) == 2
    message = error(capsys)
    assert "'id' is named as an index; to leave it out pass --columns" in message
    assert run("score", path, "--values", values, f"--columns={advised(message)}") == 0
    assert json.loads(capsys.readouterr().out)["columns"] == list(names)


@pytest.mark.parametrize("kind", KINDS)
def test_whole_numbers_beside_fractions_are_classes_where_the_rows_add_up_to_1(
    tmp_path: Path, capsys: Capture, kind: str
) -> None:
    p = np.array([[1, 0.0, 0.0], [0, 0.5, 0.5], [0, 0.25, 0.75]])
    columns = {"cat": [1, 0, 0], "dog": p[:, 1], "owl": p[:, 2], "label": [0, 1, 2]}
    assert run("score", write(tmp_path / f"x.{kind}", columns, separator_of(kind))) == 0
    assert mean(capsys) == pytest.approx(-np.log(p.diagonal()).mean(), rel=1e-12)


def test_names_that_may_be_either_are_advised_as_equals(tmp_path: Path, capsys: Capture) -> None:
    features = ("x0", "x1", "x2")
    for values, first, second, numbers in (
        ("logits", features, ANIMALS, np.concatenate([X[::-1] + 0.5, X], axis=1)),
        ("probs", ("p_cat", "p_dog", "p_owl"), ("q_cat", "q_dog", "q_owl"), np.concatenate([P, P], axis=1)),
        ("logits", ("a_cat", "a_dog"), ("b_cat", "b_dog"), np.concatenate([X, X], axis=1)),
    ):
        columns = {**classes([*first, *second], numbers), "label": [0, 1, 1, 0]}
        path = write(tmp_path / "x.csv", columns)
        assert run("score", path, "--values", values) == 2
        message = error(capsys)
        assert "which are the classes: --columns " in message
        for wanted, parts in ((first, 1), (second, 2)):
            option = advised("--columns " + message.split("--columns ")[parts])
            assert run("score", path, "--values", values, "--columns", option) == 0
            assert json.loads(capsys.readouterr().out)["columns"] == list(wanted)


def test_probabilities_are_advised_where_they_stand_beside_features(tmp_path: Path, capsys: Capture) -> None:
    columns = {**classes(("x0", "x1", "x2"), X), **classes(ANIMALS), "label": T.tolist()}
    path = write(tmp_path / "x.csv", columns)
    assert run("score", path) == 2
    message = error(capsys)
    assert "to leave them out pass --columns cat,dog,owl" in message
    assert "x*" not in message
    assert run("score", path, "--columns", advised(message)) == 0
    assert mean(capsys) == pytest.approx(MEAN, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_that_are_counted_up_stand_on_both_sides_of_the_labels(
    tmp_path: Path, capsys: Capture, kind: str
) -> None:
    for names in (("l0", "l1", "l2"), ("logit_cat", "logit_dog", "logit_owl"), ("A", "B", "C")):
        cells = list(classes(names, X).items())
        cells.insert(1, ("label", T.tolist()))
        path = write(tmp_path / f"x.{kind}", dict(cells), separator_of(kind))
        assert run("score", path, "--values", "logits") == 0
        assert mean(capsys) == pytest.approx(MEAN, rel=1e-12)


def test_parquet_columns_are_judged_by_their_types(tmp_path: Path, capsys: Capture) -> None:
    pa = pytest.importorskip("pyarrow")
    exact = [decimal.Decimal("0.5"), decimal.Decimal("0.25"), decimal.Decimal(1), decimal.Decimal(0)]
    for cells, what in (
        (pa.array([0, 0, 1, 0]), "'p_3' holds int64 beside double"),
        (pa.array([0, 0, 1, 0], pa.uint8()), "'p_3' holds uint8 beside double"),
        (pa.array(exact, pa.decimal128(5, 2)), "'p_3' holds decimal128(5, 2) beside double"),
        (pa.array(["x", "y", "z", "w"]), "'p_3' is named as 'p_0' is, but holds string"),
        (pa.array([True, False, True, True]), "'p_3' is named as 'p_0' is, but holds bool"),
        (pa.array([None] * 4), "'p_3' is named as 'p_0' is, but holds null"),
        (
            pa.array(["0.5", "0.25", None, "1"]),
            "'p_3' holds string such as '0.5'; write its numbers as float64",
        ),
    ):
        path = write(tmp_path / "x.parquet", {**classes(P3), "p_3": cells, "label": T.tolist()})
        assert run("score", path) in (1, 2)
        assert what in error(capsys)
        path = write(tmp_path / "x.parquet", {**classes(ANIMALS), "other": cells, "label": T.tolist()})
        code = run("score", path)
        captured = capsys.readouterr()
        left_out = pa.types.is_boolean(cells.type) or pa.types.is_null(cells.type) or cells[0].as_py() == "x"
        assert code == (0 if left_out else 1 if pa.types.is_string(cells.type) else 2)
        assert ("left out: other" if left_out else "'other'") in captured.err
    days = [date(2024, 1, 1)] * 4
    path = write(tmp_path / "x.parquet", {**classes(ANIMALS), "day": days, "label": T.tolist()})
    assert run("score", path) == 0
    assert mean(capsys) == pytest.approx(MEAN, rel=1e-12)


@pytest.mark.parametrize("kind", ["float16", "int8", "int64", "decimal", "dictionary"])
def test_parquet_columns_of_one_type_are_classes(tmp_path: Path, capsys: Capture, kind: str) -> None:
    pa = pytest.importorskip("pyarrow")
    whole_logits = np.array([[2, 0, 1], [0, 1, 3], [1, 2, -1], [4, 0, 0]])
    expected = np.log(np.exp(whole_logits).sum(axis=1)).mean() - whole_logits[np.arange(4), T].mean()
    columns = {}
    for i, name in enumerate(ANIMALS):
        cells = pa.array(whole_logits[:, i])
        if kind == "decimal":
            cells = pa.array([decimal.Decimal(int(v)) for v in whole_logits[:, i]], pa.decimal128(5, 2))
        elif kind == "dictionary":
            cells = cells.cast("float64").dictionary_encode()
        elif kind == "float16":
            cells = pa.array(whole_logits[:, i].astype(np.float16))
        else:
            cells = cells.cast(kind)
        columns[name] = cells
    path = write(tmp_path / "x.parquet", {**columns, "label": T.tolist()})
    assert run("score", path, "--values", "logits") == 0
    assert mean(capsys) == pytest.approx(expected, rel=1e-6)


def test_columns_of_lists(tmp_path: Path, capsys: Capture) -> None:
    rows = P.tolist()
    ok: dict[str, Sequence[Any]]
    for ok in (
        {"id": [4, 5, 6, 7], "probs": rows},
        {"probs": rows, "weight": [0.5, 1.0, 0.25, 0.5]},
        {"tokens": [["a"], ["b"], [], ["c"]], "probs": rows},
    ):
        path = write(tmp_path / "x.parquet", {**ok, "label": T.tolist()})
        assert run("score", path) == 0
        captured = capsys.readouterr()
        assert json.loads(captured.out)["mean"] == pytest.approx(MEAN, rel=1e-12)
        assert (
            "the classes are the elements of the lists in the column probs (labels: label; left out: "
            in captured.err
        )
    path = write(tmp_path / "x.parquet", {"embedding": rows, **classes(P3), "label": T.tolist()})
    assert run("score", path) == 2
    assert run("score", path, "--columns", advised(error(capsys))) == 0
    assert mean(capsys) == pytest.approx(MEAN, rel=1e-12)
    path = write(tmp_path / "x.parquet", {"a": rows, "b": rows, "label": T.tolist()})
    assert run("score", path) == 2
    assert "2 columns of lists, 'a', 'b'; say which holds the classes: --columns a or --columns b" in error(
        capsys
    )


@pytest.mark.parametrize("element", ["int8", "int64", "uint8", "float16", "float32", "decimal128(5, 1)"])
def test_lists_of_every_type_of_number(tmp_path: Path, capsys: Capture, element: str) -> None:
    pa = pytest.importorskip("pyarrow")
    numbers = np.array([[2, 0, 1], [0, 1, 3], [1, 2, 1], [4, 0, 0]])
    expected = np.log(np.exp(numbers).sum(axis=1)).mean() - numbers[np.arange(4), T].mean()
    kind = pa.decimal128(5, 1) if element.startswith("decimal") else pa.type_for_alias(element)
    cells = (
        [decimal.Decimal(int(v)) for v in numbers.flat] if element.startswith("decimal") else numbers.ravel()
    )
    flat = pa.array(cells).cast(kind)
    for lists in (
        pa.FixedSizeListArray.from_arrays(flat, 3),
        pa.ListArray.from_arrays(pa.array([0, 3, 6, 9, 12], pa.int32()), flat),
    ):
        path = write(tmp_path / "x.parquet", {"logits": lists, "label": T.tolist()})
        assert run("score", path, "--values", "logits") == 0
        assert mean(capsys) == pytest.approx(expected, rel=1e-6)
    one_hot = pa.FixedSizeListArray.from_arrays(pa.array(np.eye(3, dtype=np.int64)[T].ravel()), 3)
    path = write(tmp_path / "x.parquet", {"probs": one_hot, "label": T.tolist()})
    assert run("score", path) == 0
    assert mean(capsys) == 0


@pytest.mark.parametrize("name", ["input_ids", "attention_mask", "tokens", "inputIds", "position_ids"])
def test_lists_of_tokens_are_no_classes(tmp_path: Path, capsys: Capture, name: str) -> None:
    numbers = [[2, 0, 1], [0, 1, 3], [1, 2, 1], [4, 0, 0]]
    path = write(tmp_path / "x.parquet", {name: numbers, "label": T.tolist()})
    assert run("score", path, "--values", "logits") == 2
    message = error(capsys)
    assert (
        f"{name!r}, which is not named as one of classes; if it holds them, pass --columns {name}" in message
    )
    assert run("score", path, "--values", "logits", "--columns", advised(message)) == 0
    path = write(tmp_path / "x.parquet", {"next_token_logits": numbers, "label": T.tolist()})
    assert run("score", path, "--values", "logits") == 0


@pytest.mark.parametrize("ints", [("l0", "l1", "l2"), tuple("abc"), tuple("ABC"), ("p_1", "p_2", "p_3")])
def test_numbers_without_a_point_are_no_evidence_in_text_where_names_are_counted_up(
    tmp_path: Path, capsys: Capture, ints: Sequence[str]
) -> None:
    """R and spreadsheets write 1 for 1.0."""
    cells = {name: [f"{value:g}" for value in X[:, i]] for i, name in enumerate(ints)}
    labels = (T + ("3" in ints[2])).tolist()
    assert run("score", write(tmp_path / "x.csv", {**cells, "label": labels}), "--values", "logits") == 0
    assert mean(capsys) == pytest.approx(MEAN, rel=1e-12)


def test_one_column_is_no_set_of_classes(tmp_path: Path, capsys: Capture) -> None:
    path = text(tmp_path, "p,label\n0.5,0\n0.25,0\n")
    assert run("score", path) == 2
    assert "a single column 'p' that can be a class" in error(capsys)


def test_a_gap_in_the_numbers_of_columns_is_told(tmp_path: Path, capsys: Capture) -> None:
    path = write(tmp_path / "x.csv", {**classes(("p_0", "p_1", "p_3")), "label": [1, 0, 3, 0]})
    assert run("score", path) == 0
    captured = capsys.readouterr()
    expected = -np.log(P[np.arange(4), [1, 0, 2, 0]]).mean()
    assert json.loads(captured.out)["mean"] == pytest.approx(expected, rel=1e-12)
    assert "p_0, p_1, p_3, none of them 2" in captured.err


def test_an_advised_pattern_takes_the_columns_and_no_others(tmp_path: Path, capsys: Capture) -> None:
    for names, option in (
        (P3, "'p_*'"),
        (("p_0", "p_1"), "p_0,p_1"),
        (("a,b", "c[0]", "d*e"), "'a?b,c?0?,d?e'"),
        (("cat p", "dog p", "owl p"), "'* p'"),
        (("l0", "l1", "l2"), "'l*'"),
    ):
        p = P[:, : len(names)] / P[:, : len(names)].sum(axis=1, keepdims=True)
        columns = {**classes(names, p), "id": [1, 2, 3, 4]}
        path = write(tmp_path / "x.parquet", {**columns, "label": [0] * 4})
        assert run("score", path) == 2
        message = error(capsys)
        assert f"pass --columns {option}" in message
        assert run("score", path, "--columns", advised(message)) == 0
        assert json.loads(capsys.readouterr().out)["columns"] == list(names)
    path = text(tmp_path, "l0,l1,l2,language,weight,label\n.5,.25,.25,x,2,0\n")
    assert run("score", path) == 2
    assert "pass --columns 'l[0-9]*'" in error(capsys)


def test_names_in_columns_that_are_not_there_are_errors(tmp_path: Path, capsys: Capture) -> None:
    path = write(tmp_path / "x.csv", {**classes(P3), "label": T.tolist()})
    assert run("score", path, "--columns", "p_0,p_1,p_3") == 2
    assert "has no column 'p_3', which --columns names" in error(capsys)
    assert run("score", path, "--columns", "p_0,q*") == 2
    assert "has no column 'q*'" in error(capsys)
    assert run("score", path, "--label", "lable") == 2
    assert "did you mean 'label'?" in error(capsys)
    assert run("score", path, "--columns", "p_2,p_1,p_0") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["mean"] == pytest.approx(MEAN, rel=1e-12)
    assert "in the order of the table, not of --columns: p_0 is 0, p_1 is 1, p_2 is 2" in captured.err


def test_two_columns_that_may_hold_the_labels(tmp_path: Path, capsys: Capture) -> None:
    path = write(tmp_path / "x.csv", {**classes(("x", "y", "z")), "label": T.tolist()})
    assert run("score", path) == 2
    assert (
        "2 columns that may hold the labels, 'label', 'y'; name the right one, as in --label label"
        in error(capsys)
    )
    assert run("score", path, "--columns", "x,y,z") == 0
    assert mean(capsys) == pytest.approx(MEAN, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("values", ["probs", "logits"])
def test_a_class_with_the_name_of_labels_is_one_where_the_labels_are_elsewhere(
    tmp_path: Path, capsys: Capture, kind: str, values: str
) -> None:
    np.save(tmp_path / "t.npy", T)
    numbers = X + 0.125 if values == "logits" else P
    for names in (("x", "y", "z"), ("source", "target", "other"), ("W", "X", "Y"), ("class", "label", "y")):
        path = write(tmp_path / f"x.{kind}", classes(names, numbers), separator_of(kind))
        assert cli.main(["score", path, str(tmp_path / "t.npy"), "--values", values, "--json"]) == 0
        content = json.loads(capsys.readouterr().out)
        assert content["columns"] == list(names)
        assert content["mean"] == pytest.approx(MEAN, rel=1e-12)
        columns = {"id": [5, 6, 7, 8], **classes(names, numbers)}
        path = write(tmp_path / f"x.{kind}", columns, separator_of(kind))
        assert cli.main(["score", path, str(tmp_path / "t.npy"), "--values", values]) == 2
        assert advised(error(capsys)) == ",".join(names)
    columns = {**classes(P3, numbers), "label": [1.0, 2.0, 1.0, 0.0]}
    path = write(tmp_path / f"x.{kind}", columns, separator_of(kind))
    assert cli.main(["score", path, str(tmp_path / "t.npy"), "--values", values, "--json"]) == 0
    assert mean(capsys) == pytest.approx(MEAN, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alphabet", ["ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"])
def test_a_letter_among_others_is_no_column_of_labels(
    tmp_path: Path, capsys: Capture, kind: str, alphabet: str
) -> None:
    p = np.tile(np.arange(1, 27) / np.arange(1, 27).sum(), (4, 1))
    labels = [24, 0, 3, 25]
    for given in (labels, [alphabet[i] for i in labels]):
        path = write(tmp_path / f"x.{kind}", {**classes(alphabet, p), "label": given}, separator_of(kind))
        assert run("score", path) == 0
        assert mean(capsys) == pytest.approx(-np.log(p[0, labels]).mean(), rel=1e-12)
    columns = {**classes(alphabet[:24], p[:, :24]), alphabet[24]: [0, 1, 2, 3]}
    assert run("score", write(tmp_path / f"x.{kind}", columns, separator_of(kind))) == 0
    assert mean(capsys) == pytest.approx(-np.log(p[0, :4]).mean(), rel=1e-12)


def test_an_unknown_column_of_labels_is_named_in_the_error(tmp_path: Path, capsys: Capture) -> None:
    path = write(tmp_path / "x.csv", {**classes(P3), "truth": T.tolist()})
    assert run("score", path) == 2
    assert "'truth' is not named as a class" in (message := error(capsys))
    assert "--label" in message
    assert run("score", path, "--label", "truth") == 0
    assert mean(capsys) == pytest.approx(MEAN, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stray_column_and_not_the_kind_of_values_is_named(
    tmp_path: Path, capsys: Capture, kind: str
) -> None:
    for stray in ([33.5, 1.0, 2.0, 4.0], [0.5, 0.25, 0.5, -1.5], [0.5, 0.5, 0.5, 1e9]):
        path = write(
            tmp_path / f"x.{kind}", {**classes(ANIMALS), "zz": stray, "label": T.tolist()}, separator_of(kind)
        )
        assert run("score", path) == 1
        message = error(capsys)
        assert (
            "the column 'zz' alone holds such numbers; if it is no class, pass --columns cat,dog,owl"
            in message
        )
        assert "--values" not in message
    many = {**classes(ANIMALS), "zz": [3.5, 1, 2, 4], "yy": [-3.5, 1, 2, 4], "label": T.tolist()}
    path = write(tmp_path / "x.csv", many)
    assert run("score", path, "--columns", "cat,dog,owl,zz,yy") == 1
    assert "the columns 'zz', 'yy' alone hold such numbers" in error(capsys)
    path = write(tmp_path / "x.csv", {**classes(ANIMALS, X), "label": T.tolist()})
    assert run("score", path, "--columns", "cat,dog,owl") == 1
    assert "--values logits" in error(capsys)


# ---- labels that name columns -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefix", ["", "p_", "prob.", "a b:"])
def test_labels_in_text_name_the_classes(tmp_path: Path, capsys: Capture, kind: str, prefix: str) -> None:
    names = [prefix + name for name in ANIMALS]
    labels = ["dog", "cat", "dog", "owl"]
    expected = -np.log(P[np.arange(4), [1, 0, 1, 2]]).mean()
    for extra in (
        {},
        {"": [1, 2, 3, 4]},
        {"id": [1, 2, 3, 4], "noise": [0.5, 0.5, 9.0, -1.0]},
        {"n": list("abcd")},
    ):
        for given in (
            labels,
            [prefix + label for label in labels],
            [labels[0], *(prefix + x for x in labels[1:])],
        ):
            columns = {**extra, **classes(names), "rank": [1, 1, 2, 3], "label": given, "conf": [0.1] * 4}
            path = write(tmp_path / f"x.{kind}", columns, separator_of(kind))
            assert run("score", path) == 0
            captured = capsys.readouterr()
            content = json.loads(captured.out)
            assert content["mean"] == pytest.approx(expected, rel=1e-12)
            assert content["columns"] == names
            assert f"{', '.join(names)} that labels name" in captured.err


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_read_to_the_end_to_find_the_classes(tmp_path: Path, capsys: Capture, kind: str) -> None:
    rows = 5000
    p = np.tile(P, (rows // 4, 1))
    labels = ["cat"] * (rows - 2) + ["owl", "dog"]
    columns = {"id": list(range(rows)), **classes(ANIMALS, p), "label": labels}
    path = write(tmp_path / f"x.{kind}", columns, separator_of(kind))
    assert run("score", path) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["columns"] == list(ANIMALS)
    codes = [ANIMALS.index(label) for label in labels]
    assert content["mean"] == pytest.approx(-np.log(p[np.arange(rows), codes]).mean(), rel=1e-12)
    columns["label"] = [*labels[:-1], "dgo"]
    path = write(tmp_path / f"x.{kind}", columns, separator_of(kind))
    assert run("score", path) == 1
    assert "the label of row 4999 is 'dgo'" in (message := error(capsys))
    assert "did you mean 'dog'?" in message


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefix", ["", "p_"])
@pytest.mark.parametrize("values", ["probs", "log-probs"])
def test_a_class_that_no_label_names_is_taken_where_the_rows_add_up_to_1_with_it(
    tmp_path: Path, capsys: Capture, kind: str, prefix: str, values: str
) -> None:
    labels = ["cat", "dog", "cat", "dog"]
    target = [0, 1, 0, 1]
    x = np.concatenate([X, [[2.0], [-1.0], [3.0], [0.5]]], axis=1)
    p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    q = np.roll(p, 1, axis=0)
    names = [prefix + name for name in (*ANIMALS, "yak")]
    paths = []
    for file, numbers in (("x", p), ("y", q)):
        stored = np.log(numbers) if values == "log-probs" else numbers
        cells = {"weight": [0.5, 1.0, 0.5, 1.0], **classes(names, stored), "n": [3, 2, 1, 0], "label": labels}
        paths.append(write(tmp_path / f"{file}.{kind}", cells, separator_of(kind)))
    assert run("score", paths[0], "--values", values) == 0
    captured = capsys.readouterr()
    content = json.loads(captured.out)
    assert content["columns"] == names
    right = p[np.arange(4), target]
    assert content["mean"] == pytest.approx(-np.log(right).mean(), rel=1e-12)
    assert content["accuracy"] == (p.argmax(axis=1) == target).mean()
    assert content["mean_entropy"] == pytest.approx(-(p * np.log(p)).sum(axis=1).mean(), rel=1e-9)
    assert content["brier_score"] == pytest.approx(
        ((p - np.eye(4)[target]) ** 2).sum(axis=1).mean(), rel=1e-9
    )
    extra = f"{names[2]!r}, {names[3]!r}, which no label names (labels: label; left out: weight, n;"
    assert extra in captured.err
    assert cli.main(["compare", *paths, "--values", values, "--json"]) == 0
    kl = (p * np.log(p / q)).sum(axis=1).mean()
    assert json.loads(capsys.readouterr().out)["kl_mean"] == pytest.approx(kl, rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_columns_beside_probabilities_that_add_up_are_no_classes(
    tmp_path: Path, capsys: Capture, kind: str
) -> None:
    columns = {**classes(ANIMALS), "noise": [0.5, 0.25, 0.0, 0.125], "label": ["cat", "dog", "cat", "owl"]}
    assert run("score", write(tmp_path / f"x.{kind}", columns, separator_of(kind))) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["columns"] == list(ANIMALS)
    assert "that labels name (labels: label; left out: noise" in captured.err


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefix", ["", "p_"])
def test_a_class_that_no_label_names_is_not_left_out_in_silence(
    tmp_path: Path, capsys: Capture, kind: str, prefix: str
) -> None:
    labels = ["cat", "dog", "cat", "dog"]
    names = [prefix + name for name in ANIMALS]
    mean_of_3 = np.log(np.exp(X).sum(axis=1)).mean() - X[np.arange(4), [0, 1, 0, 1]].mean()
    for others, options in (({}, ["--values", "logits"]), ({}, []), ({"age": [3, 4, 5, 6]}, [])):
        columns = {**others, **classes(names, X if options else P / 2), "label": labels}
        path = write(tmp_path / f"x.{kind}", columns, separator_of(kind))
        assert run("score", path, *options) == 2
        message = error(capsys)
        assert (
            f"{names[2]!r} may be a class too, but no label is named so; which are the classes: " in message
        )
        assert run("score", path, *options, "--columns", advised(message)) == 0
        content = json.loads(capsys.readouterr().out)
        assert content["columns"] == names
        if options:
            assert content["mean"] == pytest.approx(mean_of_3, rel=1e-12)
        assert run("score", path, *options, "--columns", advised(message, last=True)) == 0
        assert json.loads(capsys.readouterr().out)["columns"] == names[:2]
    path = write(tmp_path / f"x.{kind}", {**classes(names, X), "label": ["cat"] * 4}, separator_of(kind))
    assert run("score", path, "--values", "logits") == 2
    assert f"{names[1]!r}, {names[2]!r} may be classes too" in error(capsys)
    for stray, cells in (("weight", [0.5, 1.5, 1.0, 2.0]), ("age", [33, 41, 28, 57]), ("n", [1, 2, 3, 4])):
        columns = {stray: cells, **classes(names[:2], X), "label": labels}
        path = write(tmp_path / f"x.{kind}", columns, separator_of(kind))
        assert run("score", path, "--values", "logits") == 0
        captured = capsys.readouterr()
        assert json.loads(captured.out)["columns"] == names[:2]
        assert f"left out: {stray}" in captured.err


@pytest.mark.parametrize("kind", KINDS)
def test_strip_prefix(tmp_path: Path, capsys: Capture, kind: str) -> None:
    words = [ANIMALS[t] for t in T]
    names = ["proba_cat", "proba_dog", "proba_owl"]
    extra = {"age": [3.5, 4.5, 5.5, 6.5]}
    for labels in (words, T.tolist(), [f"proba_{word}" for word in words]):
        columns = {**extra, **classes(names), "label": labels}
        path = write(tmp_path / f"x.{kind}", columns, separator_of(kind))
        code = run("score", path, "--strip-prefix", "proba_", "--columns", "proba_*,age")
        captured = capsys.readouterr()
        assert code == 1  # age is no probability
        assert "'age' alone" in captured.err
        assert run("score", path, "--strip-prefix", "proba_") == 0
        content = json.loads(capsys.readouterr().out)
        assert content["columns"] == names
        assert content["mean"] == pytest.approx(MEAN, rel=1e-12)
    assert run("score", path, "--strip-prefix", "prob-") == 2
    assert "has no column of a class that begins with 'prob-'" in error(capsys)
    assert run("score", path, "--strip-prefix", "") == 2
    assert "begins with ''" in error(capsys)


def test_strip_prefix_decides_the_result_of_a_run(tmp_path: Path, capsys: Capture) -> None:
    path = write(tmp_path / "x.csv", {**classes(P3), "label": T.tolist()})
    state = str(tmp_path / "state.json")
    assert run("score", path, "--resume", state) == 0
    told = json.loads(Path(state).read_text())
    assert told["source"]["columns"] == told["inputs"][0]["columns"] == list(P3)
    capsys.readouterr()
    assert run("score", path, "--resume", state, "--strip-prefix", "p_") == 1
    assert "--strip-prefix was not given, and is p_" in error(capsys)
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "t.npy", T)
    assert cli.main(["score", str(tmp_path / "x.npy"), str(tmp_path / "t.npy"), "--strip-prefix", "p_"]) == 2
    assert "--strip-prefix does not apply" in error(capsys)


# ---- cells ---------------------------------------------------------------------------------------------------

WRONG_CELLS = [
    ("", "no value in the column"),
    ("  ", "no value in the column"),
    *((cell, "missing value") for cell in ("NA", "n/a", "null", "None", "<NA>", "#N/A", "-", "?")),
    ("1,5", "decimal comma"),
    ("-0,25", "decimal comma"),
    (",5", "decimal comma"),
    ("1,234.5", "thousands"),
    ("1 234", "thousands"),
    ("1_0", "because of the _"),
    ("12%", "percentage"),
    ("0x10", "hexadecimal"),
    ("١", "not ASCII"),
    ("１.5", "not ASCII"),
    ("−2", "no ASCII minus"),
    ("#DIV/0!", "spreadsheet"),
    ("half", "no number"),
    ("1.5.2", "no number"),
    ("1e", "no number"),
    ("--1", "no number"),
]


@pytest.mark.parametrize(("cell", "what"), WRONG_CELLS)
@pytest.mark.parametrize(("row", "column"), [(0, 2), (3, 0), (2500, 1)])
def test_a_cell_that_is_no_number_is_named_wherever_it_stands(
    tmp_path: Path, capsys: Capture, cell: str, what: str, row: int, column: int
) -> None:
    rows = [[f"{value!r}" for value in X[i % 4].tolist()] + [str(T[i % 4])] for i in range(row + 4)]
    rows[row][column] = f'"{cell}"' if "," in cell else cell
    lines = "".join(",".join(each) + "\n" for each in rows)
    path = text(tmp_path, f"l0,l1,l2,label\n{lines}")
    assert run("score", path, "--values", "logits") == 1
    message = error(capsys)
    assert f"row {row} has " in message
    assert f"in the column 'l{column}'" in message
    assert what in message
    assert path in message
    memory = "2K" if row < 10 else "64K"
    assert run("score", path, "--values", "logits", "--columns", "l0,l1,l2", "--memory", memory) == 1
    assert f"row {row} has " in (message := error(capsys))
    assert what in message


@pytest.mark.parametrize("cell", ["1", " 1 ", "+1", "1.", "1.0", "1e0", "10E-1", "0.1e+1", "01"])
def test_cells_that_are_numbers(tmp_path: Path, capsys: Capture, cell: str) -> None:
    rows = [[f"{value!r}" for value in X[i].tolist()] + [str(T[i])] for i in range(4)]
    rows[0][2] = cell
    path = text(tmp_path, "l0,l1,l2,label\n" + "".join(",".join(row) + "\n" for row in rows))
    assert run("score", path, "--values", "logits") == 0
    assert mean(capsys) == pytest.approx(MEAN, rel=1e-12)


def test_numbers_are_those_of_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    cells = [cell for cell, _ in WRONG_CELLS if cell.strip()]
    cells += ["1", "-1.5", "+2", ".5", "5.", "1e5", "1E-5", "inf", "-inf", "Infinity", "1e+05", "00.5"]
    for cell in cells:
        try:
            pandas.to_numeric(pandas.Series([cell]))
            right = cell not in ("１.5", "١", "None", "NA")
        except (ValueError, TypeError):
            right = False
        assert is_number(cell) == right, cell
        if not right:
            assert flaw(cell)


def test_nan_and_infinities_are_logits(tmp_path: Path, capsys: Capture) -> None:
    path = text(tmp_path, "l0,l1,label\nnan,1,0\n-inf,1,1\n0,0,1\n")
    assert run("score", path, "--values", "logits") == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["count"], content["nonfinite"]) == (3, 1)


def test_a_decimal_comma_in_every_cell(tmp_path: Path, capsys: Capture) -> None:
    path = text(tmp_path, "label;p_0;p_1\n0;0,5;0,5\n1;0,25;0,75\n")
    assert run("score", path) == 1
    assert "row 0 has '0,5' in the column 'p_0', which has a decimal comma; write a decimal point" in error(
        capsys
    )
    path = text(tmp_path, "label,p_0,p_1\n0,0,5,0,5\n")
    assert run("score", path) == 1
    assert "row 0 has 5 cells, expected 3 as in the first line; a comma inside of a cell" in error(capsys)


@pytest.mark.parametrize("row", [1, 1200])
def test_a_number_in_a_column_of_text(tmp_path: Path, capsys: Capture, row: int) -> None:
    names = [f"image {i}" for i in range(row + 1)]
    names[row] = "7"
    lines = "".join(f"{name},0.5,0.5,0\n" for name in names)
    path = text(tmp_path, f"name,cat,dog,label\n{lines}")
    assert run("score", path) == 1
    message = error(capsys)
    assert "'name'" in message
    assert "--columns" in message
    assert run("score", path, "--columns", "cat,dog") == 0


def test_kinds_of_columns() -> None:
    for cells, expected in (
        (["1", "2"], "integers"),
        (["1", "2.0"], "decimal fractions"),
        (["nan", "1"], "decimal fractions"),
        (["a", "b"], "text"),
        (["a", ""], "text"),
        (["a", "nan"], "text"),
        (["", "NA"], "no values"),
        (["2024-01-02", "2024-01-03"], "text"),
        (["True", "False"], "text"),
    ):
        kind, wrong = kind_of(cells)
        assert (kind.value, wrong) == (expected, None)
    for cells, first in ((["1", "a"], "a"), (["a", "1"], "a"), (["1", ""], ""), (["1,5", "2,5"], "1,5")):
        kind, wrong = kind_of(cells)
        assert (kind.value, wrong) == ("numbers, and cells that are none", first)


# ---- labels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", ["1", "1.0", "1.", "1e0", "1.000000000000000000e+00", " 1 ", "+1", "01"])
@pytest.mark.parametrize("names", ["a,b", "p_0,p_1", "0,1", "p0,p1"])
def test_labels_that_are_whole_numbers(tmp_path: Path, capsys: Capture, label: str, names: str) -> None:
    path = text(tmp_path, f"{names},label\n0.5,0.5,0.0\n0.25,0.75,{label}\n0.5,0.5,-100.0\n0.5,0.5,-100\n")
    assert run("score", path) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["mean"] == pytest.approx(-(np.log(0.5) + np.log(0.75)) / 2)
    assert (content["count"], content["ignored"]) == (2, 2)


WRONG_LABELS = [
    ("", "is empty; drop the row, or write the ignore index"),
    ("NA", "stands for a missing value; drop the row"),
    ("nan", "stands for a missing value; drop the row"),
    ("<NA>", "stands for a missing value; drop the row"),
    ("0.5", "0.5, which is no whole number"),
    ("1_0", "no number because of the _"),
    ("١", "no whole number"),
    ("99999999999999999999", "99999999999999999999, which is outside int64"),
    ("18446744073709551516", "18446744073709551516, which is outside int64"),
    ("-99999999999999999999", "outside int64"),
    ("1e30", "outside int64"),
    ("9" * 5000, "outside int64"),
    ("cat", "'cat', which no column of a class is named"),
    ("# 1", "as a comment"),
]


@pytest.mark.parametrize(("label", "what"), WRONG_LABELS)
@pytest.mark.parametrize("row", [0, 1, 1500])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_labels_that_are_none(
    tmp_path: Path, capsys: Capture, label: str, what: str, row: int, kind: str
) -> None:
    labels = ["0"] * (row + 2)
    labels[row] = label
    path = write(tmp_path / f"x.{kind}", {"a": [0.5] * (row + 2), "b": [0.5] * (row + 2), "label": labels})
    assert run("score", path) == 1
    message = error(capsys)
    assert f"the label of row {row} is {what}" in message or (
        f"label of row {row} is" in message and what in message
    )
    assert path in message


def test_labels_of_every_type_of_parquet(tmp_path: Path, capsys: Capture) -> None:
    pa = pytest.importorskip("pyarrow")
    ones = [0, 1, 1, 0]
    right = [
        *(pa.array(ones, kind) for kind in (pa.int8(), pa.uint16(), pa.uint64(), pa.float32(), pa.float64())),
        pa.array(np.array(ones, np.float16)),
        pa.array([decimal.Decimal(v) for v in ones], pa.decimal128(20, 3)),
        pa.array([bool(v) for v in ones]),
        pa.array([str(v) for v in ones]),
        pa.array([f"{v}.0" for v in ones], pa.large_string()),
        pa.array([str(v) for v in ones]).dictionary_encode(),
        pa.array(ones).dictionary_encode(),
        pa.array([f"p_{v}" for v in ones]).dictionary_encode(),
    ]
    p = np.array([[0.5, 0.5], [0.25, 0.75], [0.125, 0.875], [0.9, 0.1]])
    expected = -np.log(p[np.arange(4), ones]).mean()
    for labels in right:
        path = write(tmp_path / "x.parquet", {**classes(("p_0", "p_1"), p), "label": labels})
        assert run("score", path) == 0, labels.type
        assert mean(capsys) == pytest.approx(expected, rel=1e-12)
    wrong = [
        (
            pa.array([0, 2**64 - 100, 0, 0], pa.uint64()),
            "row 1 is 18446744073709551516, which is outside int64",
        ),
        (pa.array([0, 2**63, 0, 0], pa.uint64()), "row 1 is 9223372036854775808, which is outside int64"),
        (pa.array([0, 1, None, 0]), "row 2 has no value in the column 'label'; drop such rows"),
        (pa.array([0.0, 1.0, float("nan"), 0.0]), "row 2 is nan; drop the row"),
        (pa.array([0.0, 1.0, 0.5, 0.0]), "row 2 is 0.5; check --label"),
        (pa.array([0.0, 1.0, 1e300, 0.0]), "row 2 is 1e+300; check --label"),
        (pa.array([decimal.Decimal("0.5")] * 4), "row 0 is 0.5, which is no whole number"),
        (pa.array([decimal.Decimal(10**20)] * 4), "row 0 is 100000000000000000000, which is outside int64"),
        (pa.array([date(2024, 1, 1)] * 4), "holds date32[day]; expected class indices"),
    ]
    for labels, what in wrong:
        path = write(tmp_path / "x.parquet", {**classes(("a", "b"), p), "label": labels})
        assert run("score", path) == 1, labels.type
        assert what in error(capsys)


def test_true_and_false(tmp_path: Path, capsys: Capture) -> None:
    loss = -(np.log(0.75) + np.log(0.5)) / 2
    for names in ("p_0,p_1", "0,1", "p_False,p_True", "false,true"):
        for labels in (("True", "False"), ("true", "false"), ("TRUE", "FALSE")):
            path = text(tmp_path, f"{names},y\n0.25,0.75,{labels[0]}\n0.5,0.5,{labels[1]}\n")
            assert run("score", path) == 0
            assert mean(capsys) == pytest.approx(loss)
    path = text(tmp_path, "p_True,p_False,y\n0.75,0.25,True\n0.5,0.5,False\n")
    assert run("score", path) == 0
    assert mean(capsys) == pytest.approx(loss)
    path = text(tmp_path, "cat,dog,y\n0.75,0.25,True\n0.5,0.5,False\n")
    assert run("score", path) == 1
    assert "the label of row 0 is True, which no column of a class is named" in error(capsys)


def test_numbers_that_name_columns(tmp_path: Path, capsys: Capture) -> None:
    p = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    for names, labels, places in (
        (("p_10", "p_2", "p_0"), (2, 10), (1, 0)),
        (("p1", "p2", "p3"), (1, 3), (0, 2)),
        (("1.0", "2.0", "3.0"), (1, 3), (0, 2)),
        (("class 3", "class 1", "class 2"), ("1.0", "3.0"), (1, 0)),
    ):
        path = write(tmp_path / "x.csv", {**classes(names, p), "label": labels})
        assert run("score", path) == 0
        assert mean(capsys) == pytest.approx(-np.log(p[[0, 1], places]).mean(), rel=1e-12)
    path = write(tmp_path / "x.csv", {**classes(("p1", "p2", "p3"), p), "label": (0, 1)})
    assert run("score", path) == 1
    assert "the label of row 0 is 0, which no column of a class is named; they are 'p1', 'p2', 'p3'" in error(
        capsys
    )
    path = write(tmp_path / "x.csv", {**classes(("p_1", "p_2", "p_other"), p), "label": (1, 2)})
    assert run("score", path, "--columns", "p_*") == 0
    assert mean(capsys) == pytest.approx(-np.log(p[[0, 1], [0, 1]]).mean(), rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_digits_in_names_that_do_not_count_up_are_no_numbers_of_classes(
    tmp_path: Path, capsys: Capture, kind: str
) -> None:
    for names, labels in (
        (("n02085620", "n02085782", "n02085936"), T.tolist()),
        (("n02085620", "n02085782", "n02085936"), [f"n0208{('5620', '5782', '5936')[t]}" for t in T]),
        (("n00000002", "n00000000", "n00000001"), [(2, 0, 1)[t] for t in T]),
        (("v7", "v9", "v8"), T.tolist()),
        (("class7", "class9", "class8"), [(7, 9, 8)[t] for t in T]),
        (("c_7", "c_9", "c_8"), [(7, 9, 8)[t] for t in T]),
        (("p_0", "p_1", "p_other"), T.tolist()),
    ):
        path = write(tmp_path / f"x.{kind}", {**classes(names), "label": labels}, separator_of(kind))
        assert run("score", path) == 0
        assert mean(capsys) == pytest.approx(MEAN, rel=1e-12)
    path = write(tmp_path / f"x.{kind}", {**classes(P3), "label": [0, 1, 3, 1]}, separator_of(kind))
    assert run("score", path) == 1
    assert "the label of row 2 is 3, which no column of a class is named" in error(capsys)


def test_numbers_and_names_are_not_mixed(tmp_path: Path, capsys: Capture) -> None:
    path = text(tmp_path, "cat,dog,y\n0.5,0.5,0\n0.5,0.5,dog\n")
    assert run("score", path) == 1
    assert "the label of row 1 is 'dog', but there are labels such as '0' too" in error(capsys)
    path = text(tmp_path, "cat,dog,y\n0.5,0.5,cat\n0.25,0.75,dog\n0.5,0.5,-100\n")
    assert run("score", path) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["count"], content["ignored"]) == (2, 1)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_an_ignore_index_that_is_a_number_of_a_class(tmp_path: Path, capsys: Capture, kind: str) -> None:
    expected = -np.log(P[[0, 2], [1, 1]]).mean()
    for names, labels in (
        (P3, [1, 255, 1, 255]),
        (ANIMALS, [1, 255, 1, 255]),
        (("p_7", "p_8", "p_9"), [8, 255, 8, 255]),
    ):
        path = write(tmp_path / f"x.{kind}", {**classes(names), "label": labels})
        assert run("score", path, "--ignore-index", "255") == 0
        content = json.loads(capsys.readouterr().out)
        assert (content["count"], content["ignored"]) == (2, 2)
        assert content["mean"] == pytest.approx(expected, rel=1e-12)
    path = write(tmp_path / f"x.{kind}", {**classes(ANIMALS), "label": ["cat", "dog", "255", "owl"]})
    assert run("score", path, "--ignore-index", "255") == 0
    assert json.loads(capsys.readouterr().out)["ignored"] == 1
    others: list[tuple[tuple[str, ...], list[Any]]] = [
        (("p_7", "p_8", "p_9"), [8, 9, 8, 1]),
        (ANIMALS, ["dog", "owl", "cat", "dog"]),
    ]
    for columns, found in others:
        path = write(tmp_path / f"x.{kind}", {**classes(columns), "label": found})
        assert run("score", path, "--ignore-index", "1") == 1
        assert "class 1 by its position, and that is the ignore index too" in error(capsys)


def test_whole_numbers() -> None:
    for cell, expected in (
        ("0", 0), ("-100.0", -100), ("1e2", 100), ("12.50e1", 125), ("0.0e99", 0), ("1.5", None), ("1e-1", None),
        ("a", None), ("", None), ("nan", None), ("inf", None), ("1_0", None), ("0x1", None),
    ):  # fmt: skip
        assert whole(cell) == expected, cell


def test_labels_in_another_file_are_all_that_is_read(tmp_path: Path, capsys: Capture) -> None:
    np.save(tmp_path / "t.npy", T)
    for kind in ("csv", "parquet"):
        path = write(tmp_path / f"x.{kind}", {**classes(P3), "label": ["", "?", "x", "1"]})
        assert cli.main(["score", path, str(tmp_path / "t.npy"), "--json"]) == 0
        assert mean(capsys) == pytest.approx(MEAN, rel=1e-12)


# ---- several tables ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_two_models_are_compared_by_the_names_of_classes(tmp_path: Path, capsys: Capture, kind: str) -> None:
    q = np.roll(P, 1, axis=0)
    expected = (P * np.log(P / q)).sum(axis=1).mean()
    words = [ANIMALS[t] for t in T]
    for labels, order in itertools.product((words, T.tolist()), itertools.permutations(range(3))):
        ours = write(tmp_path / f"p.{kind}", {**classes(ANIMALS), "label": labels}, separator_of(kind))
        for prefix, extra in (("", {}), ("q_", {"label": labels}), ("prob.", {})):
            names = [prefix + ANIMALS[i] for i in order]
            theirs = write(
                tmp_path / f"q.{kind}", {**classes(names, q[:, order]), **extra}, separator_of(kind)
            )
            assert cli.main(["compare", ours, theirs, "--json"]) == 0
            content = json.loads(capsys.readouterr().out)
            assert content["kl_mean"] == pytest.approx(expected, rel=1e-9)
            assert content["inputs"][0]["columns"] == list(ANIMALS)
            assert content["inputs"][1]["columns"] == [prefix + name for name in ANIMALS]


def test_models_of_other_classes_or_rows_are_not_compared(tmp_path: Path, capsys: Capture) -> None:
    ours = write(tmp_path / "p.csv", {**classes(ANIMALS), "label": T.tolist()})
    theirs = write(tmp_path / "q.csv", {**classes(("cat", "dog", "cow")), "label": T.tolist()})
    assert cli.main(["compare", ours, theirs]) == 1
    assert "has the classes 'cat', 'dog', 'cow', and" in error(capsys)
    theirs = write(tmp_path / "q.csv", {**classes(ANIMALS), "label": T[::-1].tolist()})
    assert cli.main(["compare", ours, theirs]) == 1
    assert "hold different targets, row 0 the first" in error(capsys)
    np.save(tmp_path / "t.npy", T)
    assert cli.main(["compare", ours, theirs, str(tmp_path / "t.npy")]) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_tables_that_are_read_as_one_are_read_by_name(tmp_path: Path, capsys: Capture, kind: str) -> None:
    words = ["cat", "cat", "dog", "owl"]
    expected = -np.log(P[np.arange(4), [0, 0, 1, 2]]).mean()
    first = {**classes(ANIMALS, P[:2]), "label": words[:2]}
    second = {"label": words[2:], **classes(ANIMALS[::-1], P[2:, ::-1])}
    write(tmp_path / f"x-0.{kind}", first, separator_of(kind))
    write(tmp_path / f"x-1.{kind}", second, separator_of(kind))
    pattern = str(tmp_path / f"x-*.{kind}")
    assert run("score", pattern) == 0
    captured = capsys.readouterr()
    content = json.loads(captured.out)
    assert content["mean"] == pytest.approx(expected, rel=1e-12)
    assert content["columns"] == list(ANIMALS)
    assert captured.err.count("the classes are") == 1
    write(tmp_path / f"x-1.{kind}", {**second, "label": [1, 2]}, separator_of(kind))
    write(tmp_path / f"x-0.{kind}", {**first, "label": [0, 0]}, separator_of(kind))
    assert run("score", pattern) == 1
    assert "x-1" in (message := error(capsys))
    assert "have another order here than in the files before" in message
    del second["owl"]
    write(tmp_path / f"x-1.{kind}", second, separator_of(kind))
    assert run("score", pattern) == 1
    assert "has no column 'owl'" in error(capsys)


def test_an_empty_table_among_others(tmp_path: Path, capsys: Capture) -> None:
    text(tmp_path, "image,p_0,p_1,p_2,label\n", "x-0.csv")
    write(tmp_path / "x-1.csv", {"image": list("abcd"), **classes(P3), "label": T.tolist()})
    assert run("score", str(tmp_path / "x-*.csv")) == 0
    assert mean(capsys) == pytest.approx(MEAN, rel=1e-12)


# ---- files that are damaged, or no tables --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("label," + "x" * 140_000 + "\n0,0.5\n", "line 1 has a cell of more than 131,072 characters"),
        ("label,a,b\n0," + "5" * 140_000 + ",1\n", "line 2 has a cell of more than 131,072 characters"),
        ('label,a,b\n0,0.5,"0.5\n' + "1,0.5,0.5\n" * 20_000, 'a quote (") before it may have no end'),
        ("# made by hand\nlabel,a,b\n0,0.5,0.5\n", "the first line begins with #, as a comment"),
        ("# label,a,b\n0,0.5,0.5\n", "numpy.savetxt"),
        (
            "label,a,b\n0,0.5,0.5\n# the rest\n1,0.5,0.5\n",
            "row 1 has 1 cells, expected 3 as in the first line; it begins with #",
        ),
        (
            "label,a,b\n0,0.5,0.5\n#1,0.5,0.5\n",
            "the label of row 1 is '#1', which begins with # as a comment",
        ),
        (
            "a,b,label\n0.5,0.5,0\n#0.5,0.5,1\n",
            "row 1 has '#0.5' in the column 'a', which begins with # as a comment",
        ),
        ("sep=;\nlabel;a;b\n0;0.5;0.5\n", "remove it"),
        ("label a b\n0 0.5 0.5\n", "should have commas, semicolons or tabs between them"),
        ("label|a|b\n0|0.5|0.5\n", "should have commas, semicolons or tabs between them"),
        ('"a","b","label"\n"1",0.5,0.5,0\n', "row 0 has 4 cells, expected 3"),
        ('label,a,b\n0,0.5,"0.5"x\n', "line 2 is damaged"),
        ("label,a,b,a\n0,0.5,0.5,0.1\n", "two columns have one name in the first line, 'a'"),
    ],
)
def test_files_that_are_no_tables(tmp_path: Path, capsys: Capture, content: str, what: str) -> None:
    path = text(tmp_path, content)
    assert run("score", path) in (1, 2)
    message = error(capsys)
    assert what in message
    assert path in message


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_names_that_are_numbers_counted_up_are_names(
    tmp_path: Path, capsys: Capture, first: int, kind: str
) -> None:
    """pandas names the columns of an array 0, 1, 2."""
    np.save(tmp_path / "t.npy", T)
    names = [str(first + i) for i in range(3)]
    path = write(tmp_path / f"x.{kind}", classes(names), separator_of(kind))
    assert cli.main(["score", path, str(tmp_path / "t.npy"), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["columns"] == names
    assert content["mean"] == pytest.approx(MEAN, rel=1e-12)
    for line in ("0.5,0.25,0.25", "0,1,3", "1,0,0", "0.0,1.0,2.0"):
        path = text(tmp_path, f"{line}\n0.5,0.25,0.25\n".replace(",", separator_of(kind)), f"y.{kind}")
        assert cli.main(["score", path, str(tmp_path / "t.npy")]) == 1
        assert "the first line holds numbers, not the names of the columns" in error(capsys)


def test_a_name_that_ends_in_tsv_says_that_tabs_separate(tmp_path: Path, capsys: Capture) -> None:
    path = text(tmp_path, "a, b, c\td, e\tlabel\n.25\t.75\td, e\n.5\t.5\ta, b, c\n", "x.tsv")
    assert run("score", path) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["columns"] == ["a, b, c", "d, e"]
    assert content["mean"] == pytest.approx(-(np.log(0.75) + np.log(0.5)) / 2)


def test_advice_is_fit_for_names_of_all_kinds_and_short(tmp_path: Path, capsys: Capture) -> None:
    path = write(tmp_path / "x.csv", {**classes(("-1", "0", "1")), "id": [5, 6, 7, 8], "label": [0, 1, 1, 0]})
    assert run("score", path) == 2
    assert "pass --columns=-1,0,1" in error(capsys)
    assert run("score", path, "--columns=-1,0,1") == 0
    assert json.loads(capsys.readouterr().out)["columns"] == ["-1", "0", "1"]
    words = [f"{a}{b}{c} {d}" for a in "bcdfg" for b in "aeiou" for c in "lmnrs" for d in "vwxyzklm"]
    path = write(tmp_path / "x.csv", {"id": [1], **{word: [0.001] for word in words}, "label": [0]})
    assert run("score", path) == 2
    message = error(capsys)
    assert len(message) < 500 + len(path)
    assert "(all 1000 of them)" in message


def test_a_table_without_classes_is_not_advised_to_name_them(tmp_path: Path, capsys: Capture) -> None:
    for content, what in (
        ("label|a|b\n0|0.5|0.5\n", "should have commas, semicolons or tabs between them"),
        ("name,label\nx,0\n", "a table has a column of numbers for each class"),
        ("prob,label\n0.5,0\n", "a single column 'prob' that can be a class"),
        ("\n\na,b,label\n0.5,0.5,0\n", "begins with an empty line; remove it"),
        ("\n\n", "is empty"),
    ):
        assert run("score", text(tmp_path, content)) in (1, 2)
        message = error(capsys)
        assert what in message
        assert "such as 'p_*'" not in message


def test_lines_without_anything_do_not_end_a_table(tmp_path: Path, capsys: Capture) -> None:
    path = text(tmp_path, "\n".join(["a,b,label", "0.5,0.5,0", *[""] * 50, "0.25,0.75,1", ""]))
    for options in ([], ["--memory", "1"]):
        assert run("score", path, *options) == 0
        assert mean(capsys) == pytest.approx(-(np.log(0.5) + np.log(0.75)) / 2)


def test_names_with_separators_in_quotes(tmp_path: Path, capsys: Capture) -> None:
    path = text(
        tmp_path, '"a,b,c";"d,e\nf";label\n0.5;0.5;0\n0.25;0.75;"d,e\nf"\n'.replace(";0\n", ';"a,b,c"\n')
    )
    assert run("score", path) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["columns"] == ["a,b,c", "d,e\nf"]
    assert content["mean"] == pytest.approx(-(np.log(0.5) + np.log(0.75)) / 2)


def test_parquet_files_that_are_no_tables_of_classes(tmp_path: Path, capsys: Capture) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "x.parquet"
    half, labels = pa.array([0.5, 0.5]), pa.array([0, 1])
    pq.write_table(pa.Table.from_arrays([half, half, labels], ["a", "a", "label"]), path)
    for command in COMMANDS:
        assert run(command, str(path)) == 1
        assert f"{path}: two columns have one name, 'a'" in error(capsys)
    for lists in (pa.list_(pa.float32()), pa.large_list(pa.float64())):
        pq.write_table(pa.table({"p": pa.array([], lists), "label": pa.array([], pa.int64())}), path)
        for command in COMMANDS:
            assert run(command, str(path)) == 1
            assert f"{path} has no rows" in error(capsys)
    for columns in (
        {"a": pa.array([], pa.float32()), "b": pa.array([], pa.float32())},
        {"p": pa.array([], pa.list_(pa.float32(), 3))},
    ):
        pq.write_table(pa.table({**columns, "label": pa.array([], pa.int64())}), path)
        assert run("score", str(path)) == 1
        assert f"{path} has no rows" in capsys.readouterr().err
    pq.write_table(pa.table({"s": pa.array([{"a": 0.5}, {"a": 0.5}]), "label": labels}), path)
    assert run("score", str(path)) == 2
    assert "no columns of numbers for the classes; it has 's' (struct<a: double>), 'label'" in error(capsys)


def test_rows_from_any_on_with_labels_that_are_names(tmp_path: Path) -> None:
    labels = [ANIMALS[i % 3] for i in range(40)]
    p = np.tile(P, (10, 1))
    for kind in ("csv", "parquet"):
        path = write(tmp_path / f"x.{kind}", {**classes(ANIMALS, p), "label": labels})
        source = open_logits(path)
        for start in (0, 7, 39, 40):
            found = [block.target for block in source.row_blocks(1000, start) if block.target is not None]
            assert np.concatenate([[], *found]).tolist() == [i % 3 for i in range(start, 40)]


def test_many_columns_are_judged_in_linear_time(tmp_path: Path) -> None:
    names = [f"t{i}" for i in range(20_000)]
    path = text(tmp_path, f"{','.join(names)},label\n" + f"{','.join(['0.25'] * 20_000)},3\n" * 2)
    source = open_logits(path, values="logits")
    assert source.columns == tuple(names)
    assert open_logits(path, values="logits", columns=",".join(names)).columns == tuple(names)


@pytest.mark.parametrize("number", ["10", "10.25", "1e10", "-.50"])
@pytest.mark.parametrize("last", ["", "x", "10x", "1e"])
def test_one_cell_that_is_no_number_after_many_that_are_is_found_at_once(number: str, last: str) -> None:
    """The twenty come first: what takes twice as long for each more would not come back from the others."""
    for count in (20, 100_000):
        started = time.process_time()
        assert kind_of([number] * count + [last]) == (Kind.MIXED, last)
        assert time.process_time() - started < 1
