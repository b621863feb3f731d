"""What CONTRIBUTING.md says that an addition touches is enough: it is done to a copy of the package, and works."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import crossent
from children import environment
from crossent import _cli as cli

PACKAGE = Path(crossent.__file__).parent
PAGE = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def _section(title: str) -> str:
    """The text under a heading."""
    _, found, text = PAGE.partition(f"\n## {title}\n")
    assert found, title
    return text.partition("\n## ")[0]


# ---- a loss ---------------------------------------------------------------------------------------------

SOURCES = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("title", "most", "names"),
    [
        ("a function of the target's probability", 6, r"poly_loss|Poly\b"),
        ("of single elements", 6, r"gaussian_nll_loss|GaussianNll"),
    ],
)
def test_the_list_for_a_loss_is_that_of_the_files_that_name_one(title: str, most: int, names: str) -> None:
    """The files of the sources that a loss of the kind is in are those which the page says it touches."""
    line = next(line for line in _section("Add a loss").split("\n- ") if title in line.split(":")[0])
    listed = set(re.findall(r"`((?:src|python)/[\w/.]+)`", line))
    assert len(listed) <= most
    files = [
        path
        for folder in ("src", "python/crossent")
        for path in (SOURCES / folder).rglob("*.*")
        if path.is_file()
    ]
    naming = {
        path.relative_to(SOURCES).as_posix()
        for path in files
        if path.suffix in (".rs", ".py", ".pyi") and re.search(names, path.read_text(encoding="utf-8"))
    }
    # Where the names of earlier versions stood, which is nothing that a new loss touches.
    assert naming - {"python/crossent/_names.py"} == listed


# ---- a format of files ----------------------------------------------------------------------------------

# A line that tells the format, and one for each row: its target, then its logits.
TEXT = "rows\n0 2.5 0.5 -1\n2 0 1 3.25\n1 0.5 0.25 0\n"
TARGETS, LOGITS = np.array([0, 2, 1]), np.array([[2.5, 0.5, -1], [0, 1, 3.25], [0.5, 0.25, 0]], np.float32)

ITS_FILE = '''
"""Rows in text: a line for each, its target and then its logits."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np

from crossent._io.format import Content, Format, LogitsOptions, refuse
from crossent._io.kinds import ReadKind
from crossent._io.source import Source
from crossent.blocks import Block


class RowsSource(Source):
    """The rows of such a file, which all fit into memory."""

    format = "rows"
    axis, dtype, has_targets = 1, np.dtype(np.float32), True

    def __init__(self, path: str) -> None:
        self.name, self.paths = path, (path,)
        self._read = np.loadtxt(path, skiprows=1, ndmin=2)
        self.shape = (len(self._read), self._read.shape[1] - 1)

    def row_blocks(self, memory: int | None = None, start: int = 0) -> Generator[Block, None, None]:
        """Yield the rows two by two."""
        for at in range(start, len(self._read), 2):
            rows = self._read[at : at + 2]
            yield Block((slice(at, at + len(rows)),), rows[:, 1:].astype(self.dtype), rows[:, 0].astype(int))


class Rows(Format):
    """Files of rows in text."""

    name = "rows"
    kind = ReadKind("a text of rows", "give it a name that ends with .rows", (b"rows\\n",), (".rows",))

    def open_logits(self, path: str, key: str | None, options: LogitsOptions) -> Source:
        """Open the rows."""
        refuse(path, key, {"--dtype": options.dtype})
        return RowsSource(path)

    def contents(self, path: str, key: str | None, options: LogitsOptions) -> Sequence[Content]:
        """Open the rows."""
        return [self.open_logits(path, key, options)]
'''.lstrip()

ITS_LINES = {  # in formats.py: what the format stands after, and the line with it
    "from crossent._io.raw import Raw\n": "from crossent._io.raw import Raw\nfrom crossent._io.rows import Rows\n",
    "Llama()):\n": "Llama(), Rows()):\n",
}

COMMANDS: dict[str, list[str]] = {
    "score": ["score", "a.rows", "--json"],
    "score of several": ["score", "*.rows", "--json"],
    "compare": ["compare", "a.rows", "b.rows", "--json"],
    "calibrate": ["calibrate", "a.rows", "--json"],
    "info": ["info", "a.rows", "--json"],
    "info of any name": ["info", "as_text"],
    "another name of ours": ["score", "a.npy", "targets.npy"],
    "a second file of targets": ["score", "a.rows", "a.rows"],
    "a key": ["score", "a.rows:key"],
    "a folder": ["info", "of_rows"],
}

# Runs the commands one after the other, and tells the exit code, the output and the errors of each.
RUN = """
import contextlib, io, json, sys
import crossent
from crossent import _cli as cli

told = {"package": crossent.__file__}
for key, arguments in json.load(sys.stdin).items():
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(arguments)
    told[key] = code, out.getvalue(), err.getvalue()
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of rows, under names of their own and under others."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "of_rows").mkdir()
    for name in ("a.rows", "b.rows", "as_text", "a.npy", "of_rows/1.rows"):
        (folder / name).write_text(TEXT)
    np.save(folder / "targets.npy", TARGETS)
    return folder


@pytest.fixture(scope="module")
def told(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, str]]:
    """What the commands of a copy of the package tell, of which two files are others."""
    copied = tmp_path_factory.mktemp("package") / PACKAGE.name
    shutil.copytree(PACKAGE, copied, ignore=shutil.ignore_patterns("__pycache__"))
    (copied / "_io" / "rows.py").write_text(ITS_FILE, encoding="utf-8")
    listed = (copied / "_io" / "formats.py").read_text(encoding="utf-8")
    for before, after in ITS_LINES.items():
        assert listed.count(before) == 1
        listed = listed.replace(before, after)
    (copied / "_io" / "formats.py").write_text(listed, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps(COMMANDS),
        cwd=folder,
        env=environment(copied.parent),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads(done.stdout)
    assert Path(results.pop("package")).parent == copied
    return results


def test_the_list_for_a_format_names_the_files_that_are_changed_here() -> None:
    steps = _section("Add a format of files").strip().split("\n\n")[0]
    named = re.findall(r"^\d\. .*?`(python/\S+)`", steps, re.MULTILINE)
    assert named == ["python/crossent/_io/", "python/crossent/_io/formats.py"]


@pytest.mark.parametrize("command", ["score", "calibrate"])
def test_the_commands_read_a_format_that_two_files_add(
    command: str, told: dict[str, tuple[int, str, str]]
) -> None:
    code, out, err = told[command]
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["count"] == 3
    nll = crossent.cross_entropy(LOGITS, TARGETS)
    assert found["mean" if command == "score" else "nll_before"] == pytest.approx(float(nll), rel=1e-6)


def test_two_files_of_it_are_read_as_one_and_compared(told: dict[str, tuple[int, str, str]]) -> None:
    code, out, err = told["score of several"]
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["count"], found["format"], found["files"]) == (6, "rows", ["a.rows", "b.rows"])
    code, out, err = told["compare"]
    assert code == 0, err
    found = json.loads(out)
    assert (found["count"], found["kl_mean"]) == (3, 0.0)


def test_info_knows_it_by_its_name_and_by_its_first_bytes(told: dict[str, tuple[int, str, str]]) -> None:
    code, out, err = told["info"]
    assert code == 0, err
    (found,) = json.loads(out)["arrays"]
    assert (found["format"], found["shape"], found["guess"]) == ("rows", [3, 3], "logits, with their labels")
    code, out, err = told["info of any name"]
    assert code == 0, err
    assert "rows" in out


@pytest.mark.parametrize(
    ("case", "code", "text"),
    [
        (
            "another name of ours", 1,
            "a.npy is not a .npy file (it looks like a text of rows); give it a name that ends with .rows",
        ),
        ("a second file of targets", 2, "a.rows holds its own targets beside its rows"),
        ("a key", 2, "a.rows holds no named arrays; leave :key out"),
        ("a folder", 1, "such as 'of_rows/*.rows'"),
    ],
)  # fmt: skip
def test_the_texts_of_errors_know_it(
    case: str, code: int, text: str, told: dict[str, tuple[int, str, str]]
) -> None:
    found, _, err = told[case]
    assert found == code
    assert text in err


def test_without_them_it_is_of_no_kind_that_is_known(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    for command in ("score", "score of several", "info", "info of any name"):
        assert cli.main(COMMANDS[command]) != 0
        assert "of no kind that its name or its first bytes show" in capsys.readouterr().err
    for command in ("another name of ours", "a folder"):
        assert cli.main(COMMANDS[command]) != 0
        assert "rows" not in capsys.readouterr().err.replace("of_rows", "")
