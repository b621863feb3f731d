"""What the README and the documentation show is what happens: each `python` and `console` block is run.

A `python` block runs after those before it on its page, and what it prints must stand in the `text` block that follows
it. In a `console` block, each line that starts with `$` is run, and what goes to stdout must follow it. A page runs in
an empty folder, as it does for a reader who has only installed the package.
"""

import contextlib
import io
import re
import shlex
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import crossent
from crossent import _cli as cli
from crossent import _core

ROOT = Path(__file__).parents[2]
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
COMING_FROM = sorted((ROOT / "docs" / "coming_from").glob("*.md"))
DRAWING = [ROOT / "docs" / "gallery.md", *(page for page in GUIDES if page.stem != "index")]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs").glob("*/*.md"))]

BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)\n(?P<body>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE
)
# What a page may need besides the package, NumPy and what those need.
LIBRARY = re.compile(
    r"^(?:from|import) (dask|h5py|jax|lightgbm|matplotlib|pandas|safetensors|scipy|sklearn|torch|xgboost|zarr)\b",
    re.MULTILINE,
)
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)[^)]*\)")


class Block(NamedTuple):
    """One fenced block of a page."""

    language: str
    body: str
    line: int
    directly_after: bool  # nothing but empty lines lies between it and the block before


def blocks(page: str) -> list[Block]:
    found: list[Block] = []
    end = 0
    for match in BLOCK.finditer(page):
        line = page.count("\n", 0, match.start()) + 1
        body = re.sub(rf"^{match['indent']}", "", match["body"], flags=re.MULTILINE)
        alone = not page[end : match.start()].strip()
        found.append(Block(match["language"], body, line, bool(found) and alone))
        end = match.end()
    return found


def differences(name: str, page: str, cwd: Path) -> list[str]:
    """Run the blocks of a page, in `cwd`, and return where what they print is not what the page says."""
    wrong = []
    namespace: dict[str, Any] = {"__name__": "page"}
    found = blocks(page)
    for at, block in enumerate(found):
        if block.language == "python":
            after = found[at + 1] if at + 1 < len(found) else None
            expected = after.body if after and after.language == "text" and after.directly_after else ""
            with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.chdir(cwd):
                # The empty lines make a traceback name the line of the page.
                exec(compile("\n" * block.line + block.body, name, "exec"), namespace)
            pairs = [(expected, printed.getvalue())]
        elif block.language == "console":
            pairs = []
            for part in re.split(r"^\$ ", block.body, flags=re.MULTILINE)[1:]:
                command, _, expected = part.replace("\\\n", " ").partition("\n")
                program, *arguments = shlex.split(command)
                assert program == "crossent", f"{name}:{block.line}: only crossent is run here"
                code, out, err = crossent_at(cwd, arguments)
                assert code == 0, f"{name}:{block.line}: {err}"
                pairs.append((expected, out))
        else:
            continue
        for expected, actual in pairs:
            if tidy(expected) != tidy(actual):
                wrong.append(f"{name}:{block.line}: the page says\n{expected}but it printed\n{actual}")
    return wrong


def crossent_at(cwd: Path, arguments: list[str]) -> tuple[object, str, str]:
    """The exit code of the command with these arguments, and what it printed."""
    printed = (io.BytesIO(), io.BytesIO())
    out, err = (io.TextIOWrapper(raw, encoding="utf-8", write_through=True) for raw in printed)
    code: object
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.chdir(cwd):
        try:
            code = cli.main(arguments)
        except SystemExit as ended:
            code = ended.code
    return code, printed[0].getvalue().decode(), printed[1].getvalue().decode()


def tidy(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip("\n").split("\n")]


def skip_without(*libraries: str) -> None:
    """Skip the test where a library is missing. Threads of torch spin while they wait, and the models are small."""
    for library in libraries:
        module = pytest.importorskip(library)
        if library == "torch":
            module.set_num_threads(1)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_blocks(page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    skip_without(*LIBRARY.findall(text))
    if "crossent import plot" in text or "$ crossent plot" in text:
        pytest.importorskip("matplotlib")
    if ".to_zarr(" in text:
        pytest.importorskip("zarr")
        pytest.importorskip("dask", minversion="2024.12")  # older ones call what Zarr 3 does not have
    if ".to_pandas()" in text:
        pytest.importorskip("pandas")
    if 'method="temperature"' in text:
        pytest.importorskip("sklearn", minversion="1.8")
    with np.printoptions():
        wrong = differences(page.name, text, tmp_path)
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
    assert not wrong, "\n".join(wrong)


VERSION = f"crossent {crossent.__version__} ({_core.build_info()['isa']})"
MADE_UP = """\
```python
x = 1
```

- an item

  ```python
  print(x)
  ```

  ```text
  {}
  ```
"""


@pytest.mark.parametrize(
    ("page", "count"),
    [
        (MADE_UP.format("1"), 0),
        (MADE_UP.format("2"), 1),
        ("```python\nprint(1)\n```\n", 1),
        ("```python\nprint(1)\n```\nand then\n```text\n1\n```\n", 1),
        ("```python\nx = 1\n```\n```text\n1\n```\n", 1),
        (f"```console\n$ crossent --version\n{VERSION}\n```\n", 0),
        ("```console\n$ crossent --version\ncrossent 0.0.0\n```\n", 1),
        ("```sh\nexit 1\n```\n```text\nany\n```\n", 0),
    ],
)
def test_the_checker(page: str, count: int, tmp_path: Path) -> None:
    assert len(differences("made_up.md", page, tmp_path)) == count


def test_the_readme_shows_something() -> None:
    languages = [block.language for block in blocks((ROOT / "README.md").read_text(encoding="utf-8"))]
    assert languages.count("python") >= 2
    assert languages.count("text") >= 2
    assert "console" in languages
    assert "rust" in languages  # which `cargo test` runs, by the doctest in src/lib.rs


def test_no_line_of_code_is_cut() -> None:
    fence = re.compile(r"^( *)```(.*?)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
    for page in (ROOT / "CONTRIBUTING.md", *PAGES):
        found = fence.findall(page.read_text(encoding="utf-8"))
        code = [body for _, language, body in found if not language.startswith("{")]
        assert not [line for body in code for line in body.splitlines() if len(line) > 80], page.name


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_readmes_ratios_are_those_of_the_table() -> None:
    readme, page = (
        " ".join((ROOT / name).read_text(encoding="utf-8").split())
        for name in ("README.md", "docs/performance.md")
    )
    said = re.search(
        r"Over (\d+) cases torch takes ([\d.]+) times as long.* and numba ([\d.]+) times", readme
    )
    told = re.search(
        r"torch takes ([\d.]+) times as long as crossent \(geometric mean of (\d+) cases\), "
        r"and the fastest other library ([\d.]+) times",
        page,
    )
    assert said is not None
    assert told is not None
    assert said.groups() == (told[2], told[1], told[3])


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_somewhere(page: str) -> None:
    targets = LINK.findall((ROOT / page).read_text(encoding="utf-8"))
    assert not [target for target in targets if not (ROOT / target).exists()]


def test_commands_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in (ROOT / "CONTRIBUTING.md", *PAGES):
        named = re.findall(r"(?:^|`)make ([a-z][a-z-]*)\b", page.read_text(encoding="utf-8"), re.MULTILINE)
        missing = [name for name in named if not re.search(rf"^{name}:", makefile, re.MULTILINE)]
        assert not missing, page.name
