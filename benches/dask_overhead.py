"""Time `crossent.dask.score` on threads beside one `Scorer`: `python benches/dask_overhead.py [--gigabytes N]`.

Logits over 50,257 classes lie in memory as float32, and as a Dask array in chunks of rows. Each round runs both, in an
order that alternates; the first round is dropped, and the ratio is the median of the rounds' own ratios. Both reports
are compared, to the bit, before any clock starts. Building the graph is a part of the time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import dask
import dask.array as da
import numpy as np

import crossent
import crossent.dask

CLASSES = 50_257


def seconds(call: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    """Print a line for each round, and the median ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--chunks", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    crossent.show_versions()
    print(f"{'Dask':<9} {dask.__version__}")
    rng = np.random.default_rng(0)
    rows = max(int(options.gigabytes * 1e9) // (CLASSES * 4), options.chunks)
    x = np.empty((rows, CLASSES), np.float32)
    for start in range(0, rows, 256):
        part = x[start : start + 256]
        part[...] = 3 * rng.standard_normal(part.shape, np.float32)
    target = rng.integers(CLASSES, size=rows)
    chunks = tuple(len(part) for part in np.array_split(target, options.chunks))
    logits = da.from_array(x, chunks=(chunks, CLASSES), name=False)

    def one() -> crossent.Report:
        scorer = crossent.Scorer()
        scorer.update(x, target)
        return scorer.result()

    def tree() -> crossent.Report:
        report: crossent.Report = crossent.dask.score(logits, target).compute(scheduler="threads")
        return report

    assert tree() == one()
    print(f"{x.nbytes / 1e9:.2f} GB in {logits.numblocks[0]} chunks; the reports are equal")
    times = []
    for number in range(options.rounds + 1):
        calls = (one, tree) if number % 2 else (tree, one)
        spent = {call: seconds(call) for call in calls}
        times.append((spent[one], spent[tree]))
        print(
            f"one Scorer {spent[one]:8.3f} s   Dask {spent[tree]:8.3f} s   ratio {spent[tree] / spent[one]:.3f}"
        )
    print(f"median ratio {statistics.median(tree / one for one, tree in times[1:]):.3f}")


if __name__ == "__main__":
    main()
