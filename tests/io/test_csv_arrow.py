"""CSV by pyarrow beside CSV by the csv module: the same numbers to the bit, and the same messages, for any text."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crossent import _cli as cli
from crossent._io import csv_table, open_logits, open_targets
from crossent._io.csv_table import CsvSource
from steps import before_block, raises

pytest.importorskip("pyarrow")

Array = npt.NDArray[Any]
Capture = pytest.CaptureFixture[str]
Outcome = tuple[Any, ...]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few rows, so that what is odd stands in the first, in the last, and in one between."""
    for name in ("LEAST_BYTES", "COLUMN_BYTES"):
        monkeypatch.setattr(csv_table, name, 0)
    for name in ("LEAST_BLOCK", "MOST_BLOCK"):
        monkeypatch.setattr(csv_table, name, 40)


def without_pyarrow(call: Callable[[], Outcome]) -> Outcome:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pyarrow", None)
        return call()


def rows_of(path: Path, memory: int | None = None, start: int = 0, **options: Any) -> Outcome:
    """All that a table gives, or its error."""
    values: list[Array] = []
    targets: list[Array] = []
    done = start
    try:
        source = open_logits(str(path), **options)
        for block in source.row_blocks(memory, start):
            (place,) = block.index
            assert place.start == done
            assert place.stop - place.start == len(block.values) > 0
            done = place.stop
            values.append(block.values)
            if block.target is not None:
                targets.append(block.target)
    except ValueError as error:
        return type(error).__name__, str(error)
    numbers = np.concatenate(values).tobytes() if values else b""
    labels = np.concatenate(targets).tolist() if targets else []
    return source.shape, source.columns, source.label, numbers, labels


def targets_of(path: Path) -> Outcome:
    """The class indices in a column, or the error."""
    try:
        found = open_targets(f"{path}:label")
        return found.dtype, found[(slice(0, found.size),)].tolist()
    except ValueError as error:
        return type(error).__name__, str(error)


def assert_same(path: Path, *, memory: int | None = None, start: int = 0, **options: Any) -> None:
    def rows() -> Outcome:
        return rows_of(path, memory, start, **options)

    def targets() -> Outcome:
        return targets_of(path)

    for call in (rows, targets):
        assert call() == without_pyarrow(call)


# ---- cells --------------------------------------------------------------------------------------------------

CELLS = [
    *("1_0", " 1.5 ", "\t1.5", "+1", "1e400", "-1e400", "1e-400", "0x10", "0x1p3", "", "  ", "٣", "１", "nan", "NaN"),
    *("-nan", "+nan", "nan(1)", "NAN(abc)", "nan()", "inf", "-inf", "Infinity", "INFINITY", "infinit", '"1.5"', '"1.5'),
    *('1.5"', '"1.5"x', '"1""5"', '""', '"', "1,5", '"1,5"', "1\n", '"1\n"', '"a\r\nb"', "1\r2", "1.", ".", ".5"),
    *("-.5", "1e5", "1E+05", "1e", "1d5", "1.5f", "007", "-0", "-0.0", "1" * 400, "0." + "1" * 800, "5e-324"),
    *("2.4703282292062327e-324", "2.4703282292062328e-324", "1.7976931348623159e308", "\xa01.5", "1.5\u2003"),
    *("\x1c1.5", "\x0b1.5", "1.5\x0c", "1\x005", "\ufeff1.5", "#1", "NA", "null", "None", "true", "9007199254740993"),
    *("1 5", "5%", "1e+", "--1", "1." + "0" * 140_000, "x" * 70_000, "x" * 140_000, '"' + "y" * 140_000 + '"'),
    *("\\1", "'1'", "1" * 30, "0.1234567890123456789", "8.5e-310", "1e23", "1.5\r", '"a""b"', '"",', ' "a"', "a\tb"),
]  # fmt: skip


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_one_odd_cell_among_plain_ones(tmp_path: Path, separator: str, end: str) -> None:
    path = tmp_path / "x.csv"
    usual = (separator, end) == (",", "\n")
    places = [(at, column) for at in (0, 9) for column in (0, 1, 4)] if usual else [(3, 0), (9, 2)]
    for cell in CELLS:
        # A long cell is odd by its length, wherever it stands.
        for at, column in places if len(cell) < 1000 else places[::3]:
            rows = [[f"t{i}", repr(0.5 + i / 1000), repr(-i / 7), "0.0", str(i % 3)] for i in range(10)]
            rows[at][column] = cell
            lines = [["name", "p_0", "p_1", "p_2", "label"], *rows]
            path.write_bytes("".join(separator.join(line) + end for line in lines).encode())
            start = 4 if at == 9 else 0
            assert_same(path, memory=3000 if column % 2 else None, start=start, values="logits")


def test_numbers_are_rounded_as_by_float(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Doubles of all sizes, their shortest texts, longer ones, and texts half way between two of them."""
    monkeypatch.setattr(csv_table, "LEAST_BYTES", 0)
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 2**64, 6000, dtype=np.uint64).view(np.float64)
    numbers = numbers[np.isfinite(numbers)][:5000]
    texts = [
        *map(repr, numbers.tolist()),
        *(f"{number:.25e}" for number in numbers.tolist()),
        *(f"{int(number)}.5" for number in rng.integers(2**52, 2**53, 2000)),
        *(f"{int(number) * 2 + 1}" for number in rng.integers(2**53, 2**54, 2000)),
    ]
    path = tmp_path / "x.csv"
    path.write_text("a,b\n" + "".join(f"{text},1\n" for text in texts))
    monkeypatch.setattr(CsvSource, "_block", None)  # the csv module reads none of these rows
    source = open_logits(str(path), values="logits")
    found = np.concatenate([block.values[:, 0] for block in source.row_blocks()])
    assert found.tobytes() == np.array([float(text) for text in texts]).tobytes()


# ---- files --------------------------------------------------------------------------------------------------

PLAIN = "".join(f"{0.5 + i / 100},{0.25 - i / 100},{0.25},{i % 3}\n" for i in range(12))
HEADER = "p_0,p_1,p_2,label\n"
FILES: dict[str, bytes] = {
    "header alone": HEADER.encode(),
    "no end of the header": HEADER[:-1].encode(),
    "no end of the last line": (HEADER + PLAIN[:-1]).encode(),
    "empty lines": (HEADER + PLAIN.replace("\n", "\n\n\n") + "\n" * 200).encode(),
    "empty lines of Windows": (HEADER + PLAIN + "\n" * 60).replace("\n", "\r\n").encode(),
    "a line of spaces": (HEADER + PLAIN + "  \n").encode(),
    "old Macs": (HEADER + PLAIN).replace("\n", "\r").encode(),
    "an old Mac's header": (HEADER.replace("\n", "\r") + PLAIN).encode(),
    "an old Mac's end": (HEADER + PLAIN + "0.5,0.25,0.25,1\r").encode(),
    "a return at the end of a cell": (HEADER + PLAIN.replace("0.25,2\n", "0.25,2\r\r\n")).encode(),
    "a byte order mark": ("\ufeff" + HEADER + PLAIN).encode(),
    "two byte order marks": ("\ufeff\ufeff" + HEADER + PLAIN).encode(),
    "a byte order mark in each row": (HEADER + "".join(f"\ufeff{line}\n" for line in PLAIN.splitlines())).encode(),
    "UTF-16": (HEADER + PLAIN).encode("utf-16"),
    "Latin-1 in the header": (HEADER.replace("p_2", "p_ä") + PLAIN).encode("latin-1"),
    "Latin-1 in the last row": (HEADER + PLAIN).encode() + "0.5,0.25,0.25,ä\n".encode("latin-1"),
    "Latin-1 where nothing is read": b"image," + HEADER.encode() + b"a\xe4,0.5,0.25,0.25,1\n" * 9,
    "surrogates": b"image," + HEADER.encode() + b"a\xed\xa0\x80,0.5,0.25,0.25,1\n" * 9,
    "one cell too many": (HEADER + PLAIN + "0.5,0.25,0.25,1,\n" + PLAIN).encode(),
    "one cell too few": (HEADER + PLAIN + "0.5,0.25,0.25\n" + PLAIN).encode(),
    "a comment": (HEADER + PLAIN + "# the rest\n" + PLAIN).encode(),
    "quotes around all": (HEADER + PLAIN).replace(",", '","').replace("\n", '"\n"').encode(),
    "a quote without an end": (HEADER + PLAIN + '"0.5,0.25,0.25,1\n' + PLAIN * 30).encode(),
    "ends within quotes": (HEADER + PLAIN + '0.5,0.25,0.25,"1').encode(),
    "ends with a quote": (HEADER + PLAIN + '0.5,0.25,0.25,"1"').encode(),
    "quotes within a cell": ("image," + HEADER + 'a"b,0.5,0.25,0.25,1\nc"d,0.5,0.25,0.25,2\n' * 5).encode(),
    "lines within quotes": ("image," + HEADER + '"a\nb\r\n"" ,",0.5,0.25,0.25,1\n' * 9).encode(),
    "a long text of lines": ("image," + HEADER + '"' + "a\n" * 500 + '",0.5,0.25,0.25,1\n' + PLAIN).encode(),
    "names of many lines": ('"im\n\n""age",' + HEADER + "a,0.5,0.25,0.25,1\n" * 9).encode(),
    "columns of one name": ("p_0," + HEADER + "1," + PLAIN).encode(),
    "labels in text": ("p_cat,p_dog,label\n" + "0.5,0.5,cat\n0.25,0.75,dog\n" * 9).encode(),
    "labels in text, one unknown": ("p_cat,p_dog,label\n" + "0.5,0.5,cat\n0.25,0.75,dog\n" * 9 + "1,0,cow\n").encode(),
    "labels, numbers and names": ("p_cat,p_dog,label\n" + "0.5,0.5,0\n" * 9 + "1,0,cat\n").encode(),
    "a number among text": (
        "image,p_0,p_1,label\n" + "a,0.5,0.5,0\n" * 1100 + "7,0.5,0.5,0\n" + "a,0.5,0.5,0\n"
    ).encode(),
    "two errors, and the later in the first block": (HEADER + PLAIN * 9 + "x,1,1,1\n" + PLAIN + "1,1\n").encode(),
    "all of one cell": b"label\n" + b"1\n\n2\n" * 20,
    "empty cells in quotes": b"label\n" + b'1\n""\n' * 20,
    "zero bytes": (HEADER + PLAIN).replace("0.25,2", "0.2\x005,2").encode(),
}  # fmt: skip


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_odd_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    for start in (0, 5, 12, 100):
        assert_same(path, start=start)
        assert_same(path, start=start, memory=1, values="logits")


SCRAPS = st.sampled_from(
    [
        *'019.,;\t\n\r"e-+ #_xa',
        "\r\n",
        '""',
        '","',
        '"\n"',
        "\n\n",
        "nan",
        "0.5",
        "0.25,",
        ",1\n",
        "\ufeff",
        "\0",
        "é",
    ]
)


@pytest.mark.usefixtures("tiny")
@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    scraps=st.lists(st.tuples(st.integers(0, 10_000), SCRAPS, st.booleans()), max_size=4),
    end=st.sampled_from(["\n", "\r\n"]),
    separator=st.sampled_from(",;"),
    quoted=st.booleans(),
    start=st.integers(0, 14),
    memory=st.sampled_from([None, 1, 4000]),
)
def test_any_text(
    tmp_path: Path,
    scraps: list[tuple[int, str, bool]],
    end: str,
    separator: str,
    quoted: bool,
    start: int,
    memory: int | None,
) -> None:
    """A table with scraps of text anywhere, between its characters or in place of some."""
    text = "image,p_0,p_1,p_2,label\n" + "".join(
        f"{'<i> ,<' if quoted else f't{i}'},{line}\n".replace("<", '"', 1).replace("<", '"', 1)
        for i, line in enumerate(PLAIN.splitlines())
    ).replace("i> ", "i, \n")
    text = text.replace("\n", end).replace(",", separator)
    for at, scrap, instead in scraps:
        at %= len(text) + 1
        text = text[:at] + scrap + text[at + (len(scrap) if instead else 0) :]
    path = tmp_path / "x.csv"
    path.write_bytes(text.encode())
    assert_same(path, start=start, memory=memory, values="logits")


# ---- which of the two reads -----------------------------------------------------------------------------------


def large(path: Path, rows: int, *, image: str = "", end: str = "") -> str:
    """A table of so many rows of three classes; two megabytes are 30,000 of them."""
    rng = np.random.default_rng(1)
    p, labels = rng.dirichlet(np.ones(3), rows), rng.integers(3, size=rows)
    head = "image," if image else ""
    lines = [
        f"{image}{','.join(map(repr, numbers))},{label}\n"
        for numbers, label in zip(p.tolist(), labels.tolist(), strict=True)
    ]
    path.write_text(f"{head}p_0,p_1,p_2,label\n{''.join(lines)}{end}", encoding="utf-8")
    return str(path)


def json_of(capsys: Capture, *arguments: str) -> Outcome:
    code = cli.main([*arguments, "--json"])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("image", ["", "a.png,", '"a, ""b""\n",', "é,"])
def test_pyarrow_reads_all_rows_of_plain_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: str
) -> None:
    path = Path(large(tmp_path / "x.csv", 50_000, image=image))
    expected = without_pyarrow(lambda: rows_of(path))
    assert expected[0] == (50_000, 3)
    monkeypatch.setattr(CsvSource, "_block", None)  # the csv module is not asked for these rows
    assert rows_of(path) == expected
    assert rows_of(path, memory=1 << 22, start=49_999)[4] == expected[4][-1:]


def test_small_files_and_very_wide_ones_are_not_worth_pyarrow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.csv", None)
    monkeypatch.setattr(csv_table, "read_batches", None)  # nothing calls it
    large(tmp_path / "x.csv", 1000)
    wide = ",".join(f"p_{i}" for i in range(6000))
    (tmp_path / "wide.csv").write_text(f"{wide},label\n" + f"{'0.00000001,' * 6000}3\n" * 40)
    for name, rows in (("x.csv", 1000), ("wide.csv", 40)):
        assert rows_of(tmp_path / name, values="logits")[0][0] == rows


@pytest.mark.parametrize("end", ["", "+0.5,0.25,0.25,1\n", "0.5,x,0.25,1\n", "0.5,0.25,0.25\n", "1,0,0,7\n"])
def test_commands_print_the_same(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(csv_table, "LEAST_BYTES", 0)
    path = large(tmp_path / "x.csv", 9_000, end=end)  # 0.6 megabytes
    scores = tmp_path / "rows.csv"

    def outcome(arguments: list[str]) -> Outcome:
        found = json_of(capsys, *arguments)
        written = {each.name: each.read_bytes() for each in tmp_path.glob("rows*")}
        for name in written:
            (tmp_path / name).unlink()
        return *found, written

    for arguments in (
        ["score", path],
        ["score", path, "--memory", "1M", "--per-row", str(scores)],
        ["compare", path, path],
        ["info", path],
    ):
        found = outcome(arguments)
        assert found == without_pyarrow(functools.partial(outcome, arguments))
        is_right = end in ("", "+0.5,0.25,0.25,1\n") or arguments[0] == "info"
        assert found[0] == (0 if is_right else 1)


@pytest.mark.parametrize("pyarrow_first", [False, True])
def test_a_run_is_resumed_by_the_other_reader(tmp_path: Path, capsys: Capture, pyarrow_first: bool) -> None:
    path, state = large(tmp_path / "x.csv", 60_000), tmp_path / "state.json"
    expected = json.loads(json_of(capsys, "score", path)[1])
    command = ["score", path, "--resume", str(state), "--memory", "4M", "--save-every", "0"]

    def interrupted() -> Outcome:
        with pytest.MonkeyPatch.context() as patch:
            before_block(8, raises(KeyboardInterrupt()), patch.setattr)
            return json_of(capsys, *command)

    def resumed() -> Outcome:
        return json_of(capsys, *command)

    assert (interrupted() if pyarrow_first else without_pyarrow(interrupted))[0] == 130
    assert 0 < json.loads(state.read_text())["rows"] < 60_000
    code, out, _ = without_pyarrow(resumed) if pyarrow_first else resumed()
    assert code == 0
    assert json.loads(out)["mean"] == expected["mean"]


def test_a_table_that_is_replaced_or_cut_is_not_mixed_with_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(large(tmp_path / "x.csv", 1000))
    source = open_logits(str(path))
    large(tmp_path / "y.csv", 1000)
    (tmp_path / "y.csv").replace(path)
    with pytest.raises(ValueError, match="was replaced by another file while it was read"):
        next(source.row_blocks())
    for name, value in (("LEAST_BYTES", 0), ("LEAST_BLOCK", 1 << 13), ("MOST_BLOCK", 1 << 13)):
        monkeypatch.setattr(csv_table, name, value)
    large(path, 1000, end="+1,0,0,1\n")
    blocks = open_logits(str(path)).row_blocks(memory=1 << 15)
    assert next(blocks).rows < 100
    for _ in range(5):
        next(blocks)
    with path.open("r+b") as file:
        file.truncate(path.read_bytes().index(b"\n", 500) + 1)
    with pytest.raises(ValueError, match="was changed while it was read"):
        list(blocks)
