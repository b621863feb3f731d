"""Time `crossent.dask.score` on threads beside one `Scorer`: `python benches/dask_overhead.py [--gigabytes N]`.

Logits over 50,257 classes lie in memory as float32, and as a Dask array in chunks of rows. One process scores all rows
in one update, or in one for each chunk. Each round runs all three, in an order that alternates; the first round is
dropped, and ratios are the medians of the rounds' own ratios. The reports are compared, to the bit, before any clock
starts. Building the graph is a part of the time.
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

    def chunk_by_chunk() -> crossent.Report:
        scorer = crossent.Scorer()
        for start, length in zip(np.cumsum((0, *chunks)), chunks, strict=False):
            scorer.update(x[start : start + length], target[start : start + length])
        return scorer.result()

    def tree() -> crossent.Report:
        report: crossent.Report = crossent.dask.score(logits, target).compute(scheduler="threads")
        return report

    assert tree() == one() == chunk_by_chunk()
    print(f"{x.nbytes / 1e9:.2f} GB in {logits.numblocks[0]} chunks; the reports are equal")
    print("    one update   chunk by chunk             Dask")
    calls = (one, chunk_by_chunk, tree)
    times = []
    for number in range(options.rounds + 1):
        spent = {call: seconds(call) for call in (calls if number % 2 else reversed(calls))}
        times.append([spent[call] for call in calls])
        print("".join(f"{each:14.3f} s " for each in times[-1]))
    for at, name in enumerate(("one update", "chunk by chunk")):
        ratio = statistics.median(each[2] / each[at] for each in times[1:])
        print(f"Dask / {name}: median ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
