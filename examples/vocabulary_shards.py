"""Train an output matrix whose classes are shared out among processes, as in tensor-parallel language models.

    python examples/vocabulary_shards.py [--processes 2] [--steps 20]

Each process holds the rows of the matrix for its own classes, and the logits that they make. Of these it sends four
numbers for each row, the partial sums, receives those of all classes, and has the loss and the gradient of its part.
The main process has the whole matrix besides, and compares.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import multiprocessing
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

import crossent
from crossent import sharded

ROWS, WIDTH, CLASSES = 256, 32, 1000
RATE = 0.5
SEED = 0

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def problem() -> tuple[Floats, Floats, Integers]:
    """Give the hidden states, the output matrix and the targets, the same in each process."""
    rng = np.random.default_rng(SEED)
    hidden = rng.standard_normal((ROWS, WIDTH))
    matrix = 0.1 * rng.standard_normal((CLASSES, WIDTH))
    return hidden, matrix, (hidden @ rng.standard_normal((WIDTH, CLASSES))).argmax(axis=1)


def worker(start: int, stop: int, steps: int, pipe: Connection) -> None:
    """Train the rows of the matrix from `start` to `stop`."""
    hidden, matrix, target = problem()
    own = matrix[start:stop].copy()
    for _ in range(steps):
        logits = hidden @ own.T
        pipe.send(sharded.partial(logits, target, start=start).to_array())
        merged = sharded.Partial.from_array(pipe.recv())
        slope = sharded.gradient(logits, target, merged, start=start, grad_output=1 / ROWS, grad_out=logits)
        own -= RATE * slope.T @ hidden
    pipe.send(own)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train an output matrix that is shared out among processes.")
    parser.add_argument("--processes", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--steps", type=int, default=20, help="training steps (default 20)")
    options = parser.parse_args()

    if options.processes < 1 or options.steps < 1:
        parser.error("--processes and --steps are at least 1")
    ends = np.linspace(0, CLASSES, options.processes + 1).astype(int).tolist()
    context = multiprocessing.get_context("spawn")
    pipes: list[Connection] = []
    processes = []
    for start, stop in itertools.pairwise(ends):
        ours, theirs = context.Pipe()
        process = context.Process(target=worker, args=(start, stop, options.steps, theirs), daemon=True)
        process.start()
        pipes.append(ours)
        processes.append(process)

    hidden, matrix, target = problem()
    for step in range(options.steps):
        parts = [sharded.Partial.from_array(pipe.recv()) for pipe in pipes]
        merged = functools.reduce(sharded.Partial.merge, parts)
        for pipe in pipes:
            pipe.send(merged.to_array())
        loss, slope = crossent.cross_entropy_and_grad(hidden @ matrix.T, target)
        matrix -= RATE * slope.T @ hidden
        if step in (0, options.steps - 1):
            print(f"step {step + 1}: loss {merged.nll().mean():.6f}, of the whole matrix {loss:.6f}")
    trained = np.concatenate([pipe.recv() for pipe in pipes])
    for process in processes:
        process.join()
    print(f"largest difference of the matrices: {np.abs(trained - matrix).max():.1e}")


if __name__ == "__main__":
    main()
