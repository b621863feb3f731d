"""Draw the pictures of the pages: run the code of each page, and keep what it saves.

    python docs/pictures.py

`conf.py` does the same before each build, so that a picture is always that of the code above it. Each picture has a
second file for the dark mode, with other colours.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent
PICTURES = DOCS / "_pictures"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)

# Paper and ink of the theme's dark mode, and lighter lines; other colours are legible on both papers.
DARK = {
    "#ffffff": "#14181e",
    "#000000": "#ced6dd",
    "#333333": "#ced6dd",
    "#555555": "#a8b0b8",
    "#595959": "#a8b0b8",
    "#cccccc": "#4a515b",
    "#dddddd": "#4a515b",
    "#e6e6e6": "#343a43",
    "#eeeeee": "#343a43",
    "#0072b2": "#56b4e9",
    "#0b61a4": "#56b4e9",
    "#1f77b4": "#56b4e9",
}

# The cases of the landing page: where the lead is large, and where it is not.
CASES = {
    "cross_entropy f32 (1024, 50257)": "cross_entropy\n1024 × 50257",
    "cross_entropy f32 (1e6, 10)": "cross_entropy\n1 000 000 × 10",
    "cross_entropy f32 (8, 21, 512, 512)": "cross_entropy\n8 × 21 × 512 × 512",
    "loss and gradient, grad_out=, f32 (1024, 50257)": "loss and gradient\n1024 × 50257",
    "linear_cross_entropy f32 (512, 768, 50257)": "linear_cross_entropy\n512 × 768 × 50257",
    "log_softmax, out=, f32 (1024, 50257)": "log_softmax\n1024 × 50257",
}


def pages() -> list[Path]:
    """List the pages whose code draws pictures."""
    return [DOCS / "gallery.md", *sorted((DOCS / "guides").glob("*.md"))]


def draw(page: Path, to: Path) -> list[Path]:
    """Run the Python code of a page in an empty folder, and copy its SVG files."""
    from matplotlib import pyplot

    code = "\n".join(BLOCK.findall(page.read_text(encoding="utf-8")))
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
            exec(compile(code, str(page), "exec"), {"__name__": "page"})
        pyplot.close("all")
        pictures = sorted(Path(folder).glob("*.svg"))
        return [Path(shutil.copy(picture, to)) for picture in pictures]


def draw_lead(to: Path) -> Path:
    """Draw the figure of the landing page: the times of torch and of the fastest other library over crossent's."""
    from matplotlib.figure import Figure

    measured = {
        case["case"]: case for case in json.loads((DOCS / "performance.json").read_text("utf-8"))["cases"]
    }
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    panel = figure.subplots()
    for row, case in enumerate(CASES):
        times = measured[case]
        for offset, name, colour in ((-0.19, "torch", "#c8553d"), (0.19, "fastest other", "#8a8a8a")):
            if name in times:
                ratio = times[name] / times["crossent"]
                label = name if row == 0 else None
                panel.barh(row + offset, ratio, height=0.36, color=colour, label=label)
                panel.text(ratio + 0.2, row + offset, f"{ratio:.1f}", va="center", fontsize=8)
    panel.axvline(1, color="#0b61a4", linewidth=2, label="crossent")
    panel.set_yticks(range(len(CASES)), list(CASES.values()), fontsize=8)
    panel.tick_params(axis="y", length=0)
    panel.invert_yaxis()
    panel.set_xlim(left=0)
    panel.set_xlabel("time / time of crossent", fontsize=9)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, fontsize=9, loc="lower right")
    path = to / "lead.svg"
    figure.savefig(path)
    return path


def draw_dark(picture: Path, to: Path) -> Path:
    """Write a picture in the colours of the dark mode."""
    text = re.sub("|".join(DARK), lambda colour: DARK[colour[0]], picture.read_text(encoding="utf-8"))
    dark = to / f"{picture.stem}-dark.svg"
    # Matplotlib leaves the colour of black letters out.
    dark.write_text(text.replace("<svg ", f'<svg fill="{DARK["#000000"]}" ', 1), encoding="utf-8")
    return dark


def draw_all() -> list[Path]:
    """Draw those of all pages into `_pictures`, which is made anew."""
    shutil.rmtree(PICTURES, ignore_errors=True)
    PICTURES.mkdir()
    drawn = [draw_lead(PICTURES), *(picture for page in pages() for picture in draw(page, PICTURES))]
    return drawn + [draw_dark(picture, PICTURES) for picture in (*drawn, *sorted(DOCS.glob("*.svg")))]


if __name__ == "__main__":
    for each in draw_all():
        print(f"{each.relative_to(DOCS)}: {each.stat().st_size:,} bytes")
