"""Time per element of cross_entropy against size, for crossent and torch: by rows, by classes and by threads.

    python benches/scaling.py [--rounds N]    measures, writes docs/scaling.json, draws
    python benches/scaling.py --draw          draws docs/scaling.svg from docs/scaling.json

float32 logits of (rows, 1000) and of (1, classes), up to 10**8 elements. Every answer is checked against float64
before a clock starts; the contenders take turns, and the figures are medians of their calls.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import gc
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from machine import PAUSE_SECONDS, cpu_model

# isort: split
import numpy as np
from figure import COLOURS, saved

import crossent
from crossent import _core

DOCS = Path(__file__).parent.parent / "docs"
DATA, FIGURE = DOCS / "scaling.json", DOCS / "scaling.svg"
LARGEST = 10**8
SAMPLE_SECONDS = 0.01  # a sample repeats short calls until it takes this long
THREADS = (1, 2)
SWEEPS = {
    "rows": [(10**k, 1000) for k in range(6)],
    "classes": [(1, 10**k) for k in range(1, 9)],
}
TITLES = {"rows": "rows of 1000 classes", "classes": "one row of as many classes"}


def losses(x: Any, target: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Every row's loss in float64, a part of the array at a time."""
    tops, sums = x.max(axis=1).astype(np.float64), np.zeros(len(x))
    rows = max(1, (1 << 22) // x.shape[1])
    for row in range(0, len(x), rows):
        here = slice(row, row + rows)
        for start in range(0, x.shape[1], 1 << 22):
            part = x[here, start : start + (1 << 22)].astype(np.float64)
            sums[here] += np.exp(part - tops[here, np.newaxis]).sum(axis=1)
    return tops + np.log(sums) - x[np.arange(len(x)), target]


def seconds_of(call: Callable[[], Any], number: int) -> float:
    start = time.perf_counter()
    for _ in range(number):
        call()
    return (time.perf_counter() - start) / number


def measure(rounds: int, threads: int) -> list[dict[str, Any]]:
    """The points of one number of threads."""
    import torch

    crossent.set_num_threads(threads)
    torch.set_num_threads(threads)
    buffer = np.random.default_rng(0).standard_normal(LARGEST, dtype=np.float32)
    points = []
    for sweep, shapes in SWEEPS.items():
        rows, classes = shapes[-1]
        whole = losses(buffer.reshape(rows, classes), np.arange(rows) % classes) if sweep == "rows" else None
        for shape in shapes:
            x = buffer[: shape[0] * shape[1]].reshape(shape)
            target = np.arange(shape[0]) % shape[1]
            expected = (losses(x, target) if whole is None else whole[: shape[0]]).mean()
            tensors = torch.from_numpy(x), torch.from_numpy(target)
            calls: dict[str, Callable[[], Any]] = {
                "crossent": functools.partial(crossent.cross_entropy, x, target),
                "torch": functools.partial(torch.nn.functional.cross_entropy, *tensors),
            }
            numbers: dict[str, int] = {}
            samples: dict[str, list[float]] = {name: [] for name in calls}
            for name, call in calls.items():
                error = abs(float(call()) - expected) / max(1.0, abs(expected))
                if not error <= (5e-7 if name == "crossent" else 1e-3):
                    raise SystemExit(f"{name} is wrong by {error:.1e} at {shape}")
                numbers[name] = max(1, min(20_000, round(SAMPLE_SECONDS / seconds_of(call, 1))))
            for _ in range(rounds):
                for name, call in calls.items():
                    time.sleep(PAUSE_SECONDS)
                    call()  # wakes the threads
                    samples[name].append(seconds_of(call, numbers[name]))
            for name, times in samples.items():
                seconds = statistics.median(times)
                points.append(
                    {"sweep": sweep, "shape": shape, "library": name, "threads": threads, "seconds": seconds}
                )
                print(f"{sweep} {shape} {name} {threads}: {1e9 * seconds / x.size:.3f} ns", file=sys.stderr)
    return points


def measured(rounds: int) -> dict[str, Any]:
    """All points, each number of threads in a process of its own: a pool that changes its size costs time."""
    points = []
    for threads in THREADS:
        command = [sys.executable, __file__, "--rounds", str(rounds), "--threads", str(threads)]
        env = {**os.environ, "CROSSENT_NUM_THREADS": str(threads)}
        run = subprocess.run(command, check=True, env=env, stdout=subprocess.PIPE)
        points += json.loads(run.stdout)
    build = _core.build_info()
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "cpu": cpu_model(),
        "crossent": f"{build['version']} ({build['isa']})",
        "torch": importlib.metadata.version("torch"),
        "rounds": rounds,
        "points": points,
    }


def draw(data: dict[str, Any]) -> None:
    with saved(FIGURE) as plt:
        _, panels = plt.subplots(1, 2, figsize=(7.2, 3.2), sharey=True, layout="constrained")
        for panel, (sweep, title) in zip(panels, TITLES.items(), strict=True):
            for name in ("crossent", "torch"):
                for threads, style in zip(THREADS, ("o--", "o-"), strict=True):
                    wanted = [
                        p
                        for p in data["points"]
                        if (p["sweep"], p["library"], p["threads"]) == (sweep, name, threads)
                    ]
                    sizes = [p["shape"][0] * p["shape"][1] for p in wanted]
                    times = [1e9 * p["seconds"] / size for p, size in zip(wanted, sizes, strict=True)]
                    panel.loglog(
                        sizes,
                        times,
                        style,
                        color=COLOURS[name],
                        mfc=COLOURS[name] if threads > 1 else "white",
                        markersize=3.5,
                        linewidth=1.2,
                        label=f"{name}, {threads} thread{'s' if threads > 1 else ''}",
                    )
            panel.set_title(title, fontsize=9)
            panel.set_xlabel("elements")
            panel.grid(axis="y", color="#dddddd", linewidth=0.6)
            panel.minorticks_off()
            panel.set_axisbelow(True)
        panels[0].set_ylabel("time per element (ns)")
        panels[0].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panels[1].legend(frameon=False, fontsize=8)


def main() -> int:
    parser = argparse.ArgumentParser(description="Time per element against size, for crossent and torch.")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds (default 7)")
    parser.add_argument("--draw", action="store_true", help="draw the figure from the measured data")
    parser.add_argument(
        "--threads", type=int, help=argparse.SUPPRESS
    )  # in a process of its own: points to stdout
    options = parser.parse_args()
    if options.threads:
        gc.disable()
        print(json.dumps(measure(options.rounds, options.threads)))
        return 0
    if not options.draw:
        text = json.dumps(measured(options.rounds))
        DATA.write_text(text.replace('{"sweep"', '\n{"sweep"') + "\n", encoding="utf-8")
    draw(json.loads(DATA.read_text(encoding="utf-8")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
