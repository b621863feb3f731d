"""The pages for people who come from another library: what they show of it is what it prints.

`test_readme.py` runs our blocks. The blocks of a library that may be absent are directives (`{code-block} python`), and
run here where it is installed; so do the calls of tables that no block shows.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from test_readme import COMING_FROM, ROOT, differences

FOLDER = ROOT / "docs" / "coming_from"
THERE = re.compile(r"^```\{code-block\} python\n.*?^```\n\n(?:```text\n.*?^```\n)?", re.DOTALL | re.MULTILINE)


def _blocks_of_the_library(page: Path) -> str:
    found = THERE.findall(page.read_text(encoding="utf-8"))
    return "\n".join(block.replace("```{code-block} python", "```python") for block in found)


@pytest.mark.parametrize(("page", "library"), [("optax", "optax"), ("torchmetrics", "torchmetrics")])
def test_the_library_prints_what_the_page_says(page: str, library: str, tmp_path: Path) -> None:
    pytest.importorskip(library)
    blocks = _blocks_of_the_library(FOLDER / f"{page}.md")
    assert blocks.count("```python") >= 5
    wrong = differences(page, blocks, tmp_path)
    assert not wrong, "\n".join(wrong)


def test_every_page_is_in_the_index() -> None:
    index = (FOLDER / "index.md").read_text(encoding="utf-8")
    names = {page.stem for page in COMING_FROM} - {"index"}
    toctree = index[index.index("{toctree}") :].split()
    assert names <= set(toctree)
    assert all(f"({name}.md)" in index for name in names)
