"""Targets in a column of a table, CSV, Parquet or Arrow, beside logits in another file."""

from __future__ import annotations

import decimal
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from crossent import _cli as cli
from crossent._io import describe, open_targets, opening, table_targets
from steps import before_block, raises
from test_cli import error

Array = npt.NDArray[Any]
Capture = pytest.CaptureFixture[str]

ROWS = 300
RNG = np.random.default_rng(3)
X = (2 * RNG.standard_normal((ROWS, 5))).astype(np.float32)
# Most rows are right, so that a temperature can be fitted; some are left out.
T = np.where(RNG.random(ROWS) < 0.6, X.argmax(axis=1), RNG.integers(5, size=ROWS))
T[::17] = -100

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def csv_lines(path: Path, target: Array) -> None:
    path.write_text("label\n" + "".join(f"{each}\n" for each in target))


def with_pandas(path: Path, target: Array) -> None:
    """With an index that has no name, and with text that has quotes and line ends."""
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"text": ['a "b",\nc'] * len(target), "label": target})
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".csv":
        frame.to_csv(path)
    else:
        frame.to_feather(path)


def with_polars(path: Path, target: Array) -> None:
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame({"id": np.arange(len(target)), "target": target.astype(np.int16)})
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    elif path.suffix == ".csv":
        frame.write_csv(path)
    elif path.suffix == ".arrows":
        frame.write_ipc_stream(path)
    else:
        frame.write_ipc(path, compression="zstd")


def with_numpy(path: Path, target: Array) -> None:
    np.savetxt(path, target, "%d", header="anything", comments="")


def excel(path: Path, target: Array) -> None:
    lines = ["id;class", *(f"{i};{each}" for i, each in enumerate(target))]
    path.write_bytes(("\ufeff" + "\r\n".join(lines) + "\r\n\r\n\r\n").encode())


WRITERS: list[tuple[str, Callable[[Path, Array], None]]] = [
    ("t.csv", csv_lines),
    ("t.csv", with_pandas),
    ("t.csv", with_polars),
    ("t.csv", with_numpy),
    ("t.csv", excel),
    ("t.parquet", with_pandas),
    ("t.parquet", with_polars),
    ("t.feather", with_pandas),
    ("t.arrow", with_polars),
    ("t.arrows", with_polars),
]
IDS = [f"{name} {writer.__name__}" for name, writer in WRITERS]


@pytest.fixture
def logits(tmp_path: Path) -> str:
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "t.npy", T)
    return str(tmp_path / "x.npy")


def result(capsys: Capture, *arguments: object) -> dict[str, Any]:
    assert cli.main([*map(str, arguments), "--json"]) == 0
    content: dict[str, Any] = json.loads(capsys.readouterr().out)
    return {name: value for name, value in content.items() if name not in ("targets", "inputs")}


@pytest.mark.parametrize(("name", "writer"), WRITERS, ids=IDS)
def test_the_results_are_those_of_an_array(
    tmp_path: Path, capsys: Capture, logits: str, name: str, writer: Callable[[Path, Array], None]
) -> None:
    writer(tmp_path / name, T)
    array, table = tmp_path / "t.npy", tmp_path / name
    for command in (["score", logits], ["compare", logits, logits], ["calibrate", logits]):
        assert result(capsys, *command, table) == result(capsys, *command, array)
    for targets, out in ((array, "a.csv"), (table, "b.csv")):
        result(capsys, "score", logits, targets, "--per-row", tmp_path / out, "--memory", "1")
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()


def test_a_plot_takes_them(tmp_path: Path, logits: str) -> None:
    pytest.importorskip("matplotlib")
    csv_lines(tmp_path / "t.csv", T)
    out = tmp_path / "out.png"
    assert cli.main(["plot", logits, str(tmp_path / "t.csv"), "--kind", "reliability", "-o", str(out)]) == 0
    assert out.stat().st_size > 1000


def test_the_column(tmp_path: Path, capsys: Capture, logits: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a:b,gold,other\n" + "".join(f"{each},{each},0\n" for each in T))
    expected = result(capsys, "score", logits, tmp_path / "t.npy")
    for column in ("a:b", "gold"):
        assert result(capsys, "score", logits, f"{path}:{column}") == expected
    assert cli.main(["score", logits, str(path)]) == 2
    assert (
        f"{path} has the columns 'a:b', 'gold', 'other', and none is named as targets usually are, such as label; name "
        f"the right one, as in {path}:a:b"
    ) in error(capsys)
    assert cli.main(["score", logits, f"{path}:Gold"]) == 2
    assert "has no column 'Gold'; it has 'a:b', 'gold', 'other'; did you mean 'gold'?" in error(capsys)
    path.write_text("label,target\n0,0\n")
    assert cli.main(["score", logits, str(path)]) == 2
    assert f"and 2 of them may hold the targets; name the right one, as in {path}:label" in error(capsys)
    for each in (path, f"{path}:label"):
        assert cli.main(["score", logits, str(each), "--target-dtype", "i64"]) == 2
        assert "--target-dtype does not apply" in error(capsys)


@pytest.mark.parametrize(
    ("cell", "what"),
    [
        ("", "row 2 is empty; drop the row, or write the ignore index there"),
        ("  ", "row 2 is empty; drop the row"),
        ("NA", "row 2 is 'NA', which stands for a missing value"),
        ("nan", "row 2 is 'nan', which stands for a missing value"),
        ("1.0", "row 2 is '1.0', which is no integer; expected class indices; if all of them are whole numbers, write"),
        ("1e0", "which is no integer"),
        ("0.5", "which is no integer"),
        ("inf", "which is no integer"),
        ("cat", "row 2 is 'cat', which is no class index; targets beside the logits are the numbers of classes"),
        ("True", "which is no class index"),
        ("1_0", "which is no number because of the _"),
        ("0x1", "which is hexadecimal"),
        ("１", "whose digits are not ASCII"),
        ("#1", "which begins with # as a comment"),
        ("9" * 19, f"row 2 is {'9' * 19}, which is outside int64"),
        ("-9223372036854775809", "which is outside int64"),
        ("1" * 5000, f"row 2 is {'1' * 40}..., which is outside int64"),
        ("z" * 5000, "zzz..., which is no class index"),
        ("9223372036854775807", "target[2] is 9223372036854775807, but the logits have 5 classes"),
        ("5", "target[2] is 5, but the logits have 5 classes"),
        ("-1", "target[2] is -1, but the logits have 5 classes"),
        ("1,2", "row 2 has 2 cells, expected 1 as in the first line"),
        ('"1', "is damaged (unexpected end of data)"),
    ],
)  # fmt: skip
def test_cells_that_are_no_class_indices(
    tmp_path: Path, capsys: Capture, logits: str, cell: str, what: str
) -> None:
    path = tmp_path / "t.csv"
    cells = [*map(str, T[:2]), cell, *map(str, T[3:])]
    path.write_text("label\n" + "".join(f"{each}\n" for each in cells), encoding="utf-8")
    assert cli.main(["score", logits, str(path)]) == 1
    message = error(capsys)
    assert str(path) in message
    assert what in message
    assert len(message) < 500 + len(str(path))


def test_cells_that_are(tmp_path: Path, capsys: Capture, logits: str) -> None:
    path = tmp_path / "t.csv"
    spellings = ["{}", " {} ", '"{}"', "00{}", "+{}"]
    cells = [spellings[i % 5].format(each) if each >= 0 else str(each) for i, each in enumerate(T)]
    path.write_text("label\n" + "".join(f"{each}\n" for each in cells))
    assert result(capsys, "score", logits, path) == result(capsys, "score", logits, tmp_path / "t.npy")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "is empty; its first line should name the columns"),
        ("label\n", "has shape (0,); expected (300,)"),
        ("label\n1\n2\n", "has shape (2,); expected (300,), the shape (300, 5) of"),
        (
            "0\n1\n2\n",
            "the first line holds the number 0, not the name of the column; add a line such as label before",
        ),
        ("\n\nlabel\n1\n", "begins with an empty line"),
        ("a,a\n1,1\n", "two columns have one name in the first line, 'a'"),
    ],
)
def test_files_that_hold_no_targets(
    tmp_path: Path, capsys: Capture, logits: str, content: str, what: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(content)
    assert cli.main(["score", logits, str(path)]) == 1
    assert f"{path}" in (message := error(capsys))
    assert what in message


def test_a_table_of_predictions_gives_its_labels(tmp_path: Path, capsys: Capture, logits: str) -> None:
    np.save(tmp_path / "x.npy", X[:2])
    (tmp_path / "p.csv").write_text("p_0,p_1,label\n0.5,0.5,3\n0.25,0.75,1\n")
    np.save(tmp_path / "t.npy", [3, 1])
    expected = result(capsys, "score", logits, tmp_path / "t.npy")
    assert result(capsys, "score", logits, tmp_path / "p.csv") == expected


# ---- Parquet and Arrow ----------------------------------------------------------------------------------------


def save(path: Path, column: Any, rows: int) -> None:
    """Write one column, in groups or batches of so many rows."""
    table = pa.table({"label": column})
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=rows)
        return
    make = pa.ipc.new_stream if path.suffix == ".arrows" else pa.ipc.new_file
    # What is compressed is read as whole batches, and what is not in parts of them.
    options = pa.ipc.IpcWriteOptions(compression="lz4" if path.suffix == ".feather" else None)
    with make(str(path), table.schema, options=options) as out:
        out.write_table(table, max_chunksize=rows)


COLUMNAR = ["parquet", "arrow", "feather", "arrows"]
columnar = pytest.mark.parametrize("suffix", COLUMNAR)
every_table = pytest.mark.parametrize("suffix", ["csv", *COLUMNAR])
INTEGERS = ["int8", "int16", "int32", "int64"]


@columnar
@pytest.mark.parametrize("kind", [*INTEGERS, "uint8", "uint64", "dictionary"])
def test_integers(tmp_path: Path, capsys: Capture, logits: str, kind: str, suffix: str) -> None:
    path = tmp_path / f"t.{suffix}"
    target = T if kind.startswith("int") else np.where(T < 0, 200, T)
    column = pa.array(target)
    column = column.dictionary_encode() if kind == "dictionary" else column.cast(kind)
    save(path, column, 70)
    found = result(capsys, "score", logits, path, "--ignore-index", target[0])
    np.save(tmp_path / "t.npy", target)
    assert found == result(capsys, "score", logits, tmp_path / "t.npy", "--ignore-index", target[0])
    assert open_targets(str(path)).dtype == (np.int64 if kind == "dictionary" else kind)


@columnar
def test_columns_that_are_no_class_indices(tmp_path: Path, capsys: Capture, logits: str, suffix: str) -> None:
    path = tmp_path / f"t.{suffix}"
    nulls = [None if i == 7 else int(each) for i, each in enumerate(T)]
    whole = "if all of them are whole numbers, save them as int64"
    named = "names of classes can be labels in a table"
    for column, what in (
        (pa.array(nulls), "row 7 has no value in the column 'label'; drop such rows, or write the ignore index there"),
        (pa.array(nulls).dictionary_encode(), "row 7 has no value in the column 'label'"),
        (pa.array(T.astype(float)), f"'label' holds double; expected integer class indices; {whole}"),
        (pa.array([decimal.Decimal(1)] * ROWS), f"holds decimal128(1, 0); expected integer class indices; {whole}"),
        (pa.array(["cat"] * ROWS), f"holds string; expected integer class indices; {named}"),
        (pa.array(["cat"] * ROWS).dictionary_encode(), f"holds string; expected integer class indices; {named}"),
        (pa.array(["1"] * ROWS), f"holds string; expected integer class indices; {named}"),
        (pa.array([True] * ROWS), "holds bool; expected integer class indices"),
        (pa.array([[1]] * ROWS), "expected integer class indices"),
        (pa.nulls(ROWS), "holds null; expected integer class indices"),
        (pa.array(np.full(ROWS, 2**63, np.uint64)), "target[0] is 9223372036854775808, but the logits have 5 classes"),
        (pa.array(T[:-1]), "has shape (299,); expected (300,)"),
        (pa.array([], pa.int64()), "has shape (0,); expected (300,)"),
    ):  # fmt: skip
        save(path, column, 200)
        assert cli.main(["score", logits, str(path)]) == 1, what
        message = error(capsys)
        assert what in message
        assert str(path) in message
    save(path, pa.array(T), 200)
    whole_file = path.read_bytes()
    for cut in (0, 3, 40, len(whole_file) // 2, len(whole_file) - 1):
        path.write_bytes(whole_file[:cut])
        assert cli.main(["score", logits, str(path)]) == 1
        message = error(capsys)
        if suffix == "parquet":
            assert "is truncated or not a Parquet file" in message
        else:
            assert ("does not begin as one" if cut < 4 else "is truncated") in message


# ---- blocks -------------------------------------------------------------------------------------------------


@pytest.fixture
def unkept(monkeypatch: pytest.MonkeyPatch) -> None:
    """No targets are few enough to be kept in memory."""
    monkeypatch.setattr(table_targets, "_MOST_BYTES", 0)
    monkeypatch.setattr(opening, "_FEW_BYTES", 0)


def write(path: Path, target: Array) -> None:
    if path.suffix == ".csv":
        csv_lines(path, target)
    else:
        save(path, target, 7000)


@pytest.mark.usefixtures("unkept")
@every_table
def test_parts_in_any_order(tmp_path: Path, suffix: str) -> None:
    target = np.arange(40_000) % 1000
    write(tmp_path / f"t.{suffix}", target)
    found = open_targets(str(tmp_path / f"t.{suffix}"))
    assert found.shape == (40_000,)
    ends = [0, 1, 3, 3, 9000, 9001, 20_000, 39_999, 40_000]
    for begin, end in [
        *itertools.pairwise(ends),
        (5, 30_000),
        (4, 6),
        (39_000, 40_000),
        (0, 40_000),
    ]:
        assert np.array_equal(found[(slice(begin, end),)], target[begin:end])
    assert np.array_equal(found[()], target)


@pytest.mark.usefixtures("unkept")
@every_table
def test_several_files_and_a_run_that_is_resumed(
    tmp_path: Path, capsys: Capture, logits: str, suffix: str
) -> None:
    for at, (begin, end) in enumerate([(0, 110), (110, 111), (111, ROWS)]):
        write(tmp_path / f"t-{at}.{suffix}", T[begin:end])
    expected = result(capsys, "score", logits, tmp_path / "t.npy")
    pattern = f"{tmp_path}/t-*.{suffix}"
    assert result(capsys, "score", logits, pattern) == expected
    for at in range(4):
        np.save(tmp_path / f"x-{at}.npy", X[at * 80 : at * 80 + 80])
    shards, state = f"{tmp_path}/x-*.npy", tmp_path / "state.json"
    command = [
        "score",
        shards,
        f"{pattern}:label",
        "--resume",
        str(state),
        "--memory",
        "4k",
        "--save-every",
        "0",
    ]
    with pytest.MonkeyPatch.context() as patch:
        before_block(3, raises(KeyboardInterrupt()), patch.setattr)
        assert cli.main(command) == 130
    capsys.readouterr()
    assert json.loads(state.read_text())["rows"] == 160
    assert result(capsys, *command)["mean"] == expected["mean"]


@pytest.mark.usefixtures("unkept")
def test_a_table_that_becomes_shorter_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", T)
    found = open_targets(str(tmp_path / "t.csv"))
    with (tmp_path / "t.csv").open("r+") as file:
        file.truncate(20)
    with pytest.raises(ValueError, match="changed while it was read"):
        found[(slice(0, ROWS),)]


@pytest.mark.usefixtures("unkept")
@every_table
def test_a_table_that_is_replaced_is_an_error(tmp_path: Path, suffix: str) -> None:
    for name in ("t", "other"):
        write(tmp_path / f"{name}.{suffix}", T)
    found = open_targets(str(tmp_path / f"t.{suffix}"))
    (tmp_path / f"other.{suffix}").replace(tmp_path / f"t.{suffix}")
    with pytest.raises(ValueError, match="was replaced by another file while it was read"):
        found[(slice(0, ROWS),)]


@every_table
def test_a_table_of_logits_and_one_of_targets(tmp_path: Path, capsys: Capture, suffix: str) -> None:
    """The labels beside the logits are not read, and numbers are places of classes, whatever these are named."""
    names = ["p_3", "p_1", "p_2"]
    numbers = np.exp(X[:, :3]) / np.exp(X[:, :3]).sum(axis=1, keepdims=True)
    lines = [[*names, "label"], *([*row, 9] for row in numbers.tolist())]
    (tmp_path / "p.csv").write_text("".join(",".join(map(str, line)) + "\n" for line in lines))
    target = np.where(T > 2, 0, T)
    write(tmp_path / f"t.{suffix}", target)
    np.save(tmp_path / "t.npy", target)
    for command in (["score", tmp_path / "p.csv"], ["compare", tmp_path / "p.csv", tmp_path / "p.csv"]):
        found = result(capsys, *command, tmp_path / f"t.{suffix}")
        assert found == result(capsys, *command, tmp_path / "t.npy")


# ---- info -----------------------------------------------------------------------------------------------------


@every_table
def test_info(tmp_path: Path, capsys: Capture, suffix: str) -> None:
    path = tmp_path / f"t.{suffix}"
    write(path, T)
    (told,) = describe(str(path))
    assert told["guess"] == "class indices"
    kind = suffix if suffix in ("csv", "parquet") else "arrow"
    assert (told["shape"], told["dtype"], told["format"]) == ([ROWS], "int64", kind)
    assert (told["minimum"], told["maximum"]) == (-100, 4)
    assert told["first_values"] == T[:6].tolist()
    with_pandas(path, T)
    assert describe(str(path))[0]["name"] == f"{path}:label"
    with_polars(path, T)
    assert describe(f"{path}:id")[0]["maximum"] == ROWS - 1
    assert cli.main(["info", f"{path}:none"]) == 2
    assert "has no column 'none'" in error(capsys)
