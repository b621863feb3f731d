"""Time the scoring of a file beside the reading of it: `python benches/files.py [--gigabytes N] [--rounds N]`.

A file of logits over 50,257 classes is written to a temporary folder, as float32, float16 and bfloat16 in turn. Each
round reads it once with nothing done to it, scores it as `crossent score` does, and scores it without reading ahead,
warm (the file in the page cache) and cold (put out of it, where the system can). The first warm round is dropped; the
ratio is the median of the rounds' own ratios. The result is compared with that of the arrays before any clock starts.

First tables in CSV of 10 and of 1000 classes are read and scored, by pyarrow and by the csv module in turn, whose
numbers are compared before that.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np

import crossent
from crossent._io import csv_table, log_blocks, open_logits, open_targets, read_ahead
from crossent.blocks import BLOCK_BYTES, MEMORY

CLASSES = 50_257
ROWS_AT_ONCE = 64


def write(path: Path, rows: int, dtype: np.dtype) -> np.ndarray:
    """Write the file, the same rows again and again, and return those."""
    some = (3 * np.random.default_rng(0).standard_normal((ROWS_AT_ONCE, CLASSES))).astype(dtype)
    with path.open("wb") as file:
        for start in range(0, rows, ROWS_AT_ONCE):
            file.write(some[: rows - start].tobytes())
        file.flush()
        os.fsync(file.fileno())
    return some


def read(path: Path) -> None:
    """Read the file into one buffer."""
    buffer = bytearray(BLOCK_BYTES)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def score(path: Path, targets: Path, dtype: str, *, ahead: bool = True) -> crossent.Report:
    """Score the file, with the next block read meanwhile or not."""
    source = open_logits(str(path), dtype=dtype, classes=CLASSES)
    target = open_targets(str(targets))
    blocks = log_blocks(source, MEMORY)
    scorer = crossent.Scorer()
    for block in read_ahead(blocks) if ahead else blocks:
        part = crossent.Scorer()
        part.update(block.values, target[block.index])
        scorer.merge(part)
    return scorer.result()


def write_csv(path: Path, classes: int, megabytes: float) -> None:
    """Write a table of probabilities and labels."""
    rng = np.random.default_rng(2)
    rows = max(int(megabytes * 1e6 / 20 / classes), 1)
    with path.open("w", encoding="utf-8") as file:
        print(*(f"p_{i}" for i in range(classes)), "label", sep=",", file=file)
        for label in rng.integers(classes, size=rows).tolist():
            print(*rng.dirichlet(np.ones(classes)).tolist(), label, sep=",", file=file)


def read_csv(path: Path, least_bytes: int) -> list[np.ndarray]:
    """Read a table by pyarrow where it has so many bytes, else by the csv module; returns the bits of some rows."""
    csv_table.LEAST_BYTES = least_bytes
    blocks = open_logits(str(path)).row_blocks()
    return [bits for block in blocks for bits in (block.values[:1].copy(), block.target[:1].copy())]


def score_csv(path: Path, least_bytes: int) -> float:
    """Score a table as `crossent score` does."""
    csv_table.LEAST_BYTES = least_bytes
    scorer = crossent.Scorer()
    for block in read_ahead(log_blocks(open_logits(str(path)), MEMORY)):
        scorer.update(block.values, block.target)
    return scorer.result().mean


def csv_speeds(megabytes: float, rounds: int) -> None:
    """Print a line for each number of classes."""
    names = ("read: pyarrow", "csv module", "score: pyarrow", "csv module")
    print(f"{'':<18}" + "".join(f"{name:>16}" for name in names))
    for classes in (10, 1000):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "table.csv"
            write_csv(path, classes, megabytes)
            readers = (0, 1 << 60)
            ours, theirs = (read_csv(path, least) for least in readers)
            assert all(np.array_equal(*each) for each in zip(ours, theirs, strict=True))
            assert len({score_csv(path, least) for least in readers}) == 1
            times = [
                [
                    seconds(lambda call=call, path=path, least=least: call(path, least))
                    for call in (read_csv, score_csv)
                    for least in readers
                ]
                for _ in range(rounds)
            ]
            speeds = [
                path.stat().st_size / 1e6 / statistics.median(each) for each in zip(*times, strict=True)
            ]
            name = f"CSV, {classes} classes"
            print(f"{name:<18}" + "".join(f"{speed:>11.0f} MB/s" for speed in speeds), flush=True)


def forget(path: Path) -> bool:
    """Put the file out of the page cache, if the system can."""
    if not hasattr(os, "posix_fadvise"):
        return False
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def seconds(call: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    """Print a line for each dtype, warm and cold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--csv-megabytes", type=float, default=100.0)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    crossent.show_versions()
    csv_speeds(options.csv_megabytes, options.rounds)
    print(f"{'':<14}{'read':>12}{'score':>12}{'not ahead':>12}{'score / read':>14}")
    for dtype in (np.dtype(np.float32), np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)):
        rows = int(options.gigabytes * 1e9) // (CLASSES * dtype.itemsize)
        with tempfile.TemporaryDirectory() as folder:
            path, targets = Path(folder) / "logits.bin", Path(folder) / "targets.npy"
            some = write(path, rows, dtype)
            target = np.random.default_rng(1).integers(CLASSES, size=rows)
            np.save(targets, target)
            report = score(path, targets, dtype.name)
            losses = crossent.cross_entropy(
                np.concatenate([some] * 3), target[: 3 * len(some)], reduction="none"
            )
            few = crossent.Scorer()
            block = next(open_logits(str(path), dtype=dtype.name, classes=CLASSES).row_blocks(MEMORY))
            few.update(block.values, target[block.index])
            mean = few.result().mean
            assert report.count == rows
            assert abs(mean - losses[: block.rows].mean(dtype=np.float64)) < 1e-6 * mean
            contenders = [
                lambda path=path: read(path),
                lambda path=path, targets=targets, name=dtype.name: score(path, targets, name),
                lambda path=path, targets=targets, name=dtype.name: score(path, targets, name, ahead=False),
            ]
            for cold in (False, True):
                times = []
                for _ in range(options.rounds + (not cold)):
                    times.append([])
                    for contender in contenders:
                        if cold and not forget(path):
                            return
                        times[-1].append(seconds(contender))
                if not cold:
                    del times[0]
                speeds = [
                    path.stat().st_size / 1e9 / statistics.median(each) for each in zip(*times, strict=True)
                ]
                ratio = statistics.median(one[0] / one[1] for one in times)
                name = f"{dtype.name}, {'cold' if cold else 'warm'}"
                print(
                    f"{name:<14}" + "".join(f"{speed:>7.2f} GB/s" for speed in speeds) + f"{ratio:>13.0%}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
