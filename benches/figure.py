"""Draw what the benchmark measured: the time of each case as a multiple of its limit, for crossent, torch and a peer.

    python benches/compare.py --json FILE
    python benches/figure.py FILE    writes docs/performance.json and draws
    python benches/figure.py         draws docs/performance.svg from docs/performance.json

It shows the cases whose target is a multiple of the limit, or of `cross_entropy` of the same logits.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.parent / "docs"
COLOURS = {"crossent": "#0b61a4", "torch": "#c8553d", "fastest other": "#8a8a8a"}
SHOWN = ("x limit", "x cross_entropy")  # the units of the targets
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "crossent",
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@contextlib.contextmanager
def saved(path: Path) -> Iterator[Any]:
    """Yield pyplot, and write the figure that is drawn: the same bytes from the same data."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    with mpl.rc_context(SETTINGS):
        yield plt
        plt.savefig(path, metadata={"Date": None})
        plt.close()


def multiples(run: dict[str, Any]) -> dict[str, Any]:
    """What the figure shows of a run: multiples of the limit, by case."""
    cases = []
    for case in run["cases"]:
        ratio, target = case["ratio_to_crossent"], case["target"]
        if target["unit"] not in SHOWN or case["limit"] not in ratio:
            continue
        names = {"crossent": "crossent", "torch": "torch", "fastest other": case["fastest_other"]}
        cases.append(
            {
                "case": case["case"],
                **{
                    key: round(ratio[name] / ratio[case["limit"]], 3)
                    for key, name in names.items()
                    if name in ratio
                },
                "other": case["fastest_other"],
                "target": target["figure"] if target["unit"] == SHOWN[0] else None,
            }
        )
    about = {key: run[key] for key in ("date", "cpu", "threads", "system", "crossent", "versions")}
    return {**about, "summary": run["summary"], "cases": cases}


def draw(data: dict[str, Any], path: Path) -> None:
    cases = data["cases"]
    with saved(path) as plt:
        _, panel = plt.subplots(figsize=(7.2, 0.8 + 0.19 * len(cases)), layout="constrained")
        rows = range(len(cases))
        for row, case in enumerate(cases):
            ends = [case[name] for name in COLOURS if name in case]
            panel.plot([min(ends), max(ends)], [row, row], color="#dddddd", linewidth=1, zorder=1)
        for name, colour in COLOURS.items():
            shown = [(case[name], row) for row, case in enumerate(cases) if name in case]
            if shown:
                above = 4 if name == "crossent" else 3
                panel.scatter(*zip(*shown, strict=True), s=18, color=colour, label=name, zorder=above)
        aims = [(case["target"], row) for row, case in enumerate(cases) if case["target"] is not None]
        if aims:
            panel.scatter(
                *zip(*aims, strict=True),
                s=30,
                marker="|",
                color="black",
                linewidth=1,
                label="target",
                zorder=2,
            )
        panel.axvline(1, color="black", linewidth=0.8)
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(plt.LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panel.minorticks_off()
        panel.grid(axis="x", color="#eeeeee", linewidth=0.6)
        panel.set_axisbelow(True)
        panel.set_yticks(rows, [case["case"] for case in cases], fontsize=7.5)
        panel.tick_params(axis="y", length=0)
        panel.set_ylim(len(cases) - 0.5, -0.5)
        panel.set_xlabel("time as a multiple of the limit")
        panel.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=4)


def main() -> int:
    parser = argparse.ArgumentParser(description="Draw the times as multiples of the limit.")
    parser.add_argument("run", type=Path, nargs="?", metavar="FILE", help="what compare.py --json wrote")
    parser.add_argument("--to", type=Path, default=DOCS, metavar="FOLDER", help="instead of docs")
    options = parser.parse_args()
    kept = options.to / "performance.json"
    if options.run is not None:
        text = json.dumps(multiples(json.loads(options.run.read_text(encoding="utf-8"))))
        kept.write_text(text.replace('{"case"', '\n{"case"') + "\n", encoding="utf-8")
    draw(json.loads(kept.read_text(encoding="utf-8")), options.to / "performance.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
