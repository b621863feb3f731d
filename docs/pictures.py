"""Draw the pictures of the guides: run the code of each page, and keep what it saves.

    python docs/pictures.py

`conf.py` does the same before each build, so that a picture is always that of the code above it.
"""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def draw(page: Path, to: Path) -> list[Path]:
    """Run the Python code of a page in an empty folder, and copy its SVG files."""
    code = "\n".join(BLOCK.findall(page.read_text(encoding="utf-8")))
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
            exec(compile(code, str(page), "exec"), {"__name__": "page"})
        pictures = sorted(Path(folder).glob("*.svg"))
        return [Path(shutil.copy(picture, to)) for picture in pictures]


def draw_all() -> list[Path]:
    """Draw those of all guides into `_pictures`, which is made anew."""
    to = DOCS / "_pictures"
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir()
    return [picture for page in sorted((DOCS / "guides").glob("*.md")) for picture in draw(page, to)]


if __name__ == "__main__":
    for picture in draw_all():
        print(f"{picture.relative_to(DOCS)}: {picture.stat().st_size:,} bytes")
