"""Train a small character model on this project's documentation, and keep its logits on a held-out part.

    python examples/train_charlm.py [--steps 1000] [--out examples/data] [--text FILE ...]

A network with one hidden layer guesses each character from the ones before it. The last tenth of the text is
held out; the script writes docs_logits.npy (float16, one row of logits for each of its first characters) and
docs_targets.npy, for

    crossent score examples/data/docs_logits.npy examples/data/docs_targets.npy

It also writes what the logits are made of: the hidden states of the same characters (docs_hidden.npy, float16), the
output matrix with a row for each class (docs_head.npy, float32) and its bias (docs_head_bias.npy), for

    crossent score examples/data/docs_hidden.npy examples/data/docs_targets.npy \\
        --head examples/data/docs_head.npy --head-bias examples/data/docs_head_bias.npy
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import crossent

SEED = 0
CONTEXT = 8  # characters before, which the model reads
WIDTH = 24  # numbers for each of them
HIDDEN = 192
BATCH = 256
LEARNING_RATE = 3e-3
HELD_OUT = 0.1
KEPT_ROWS = 1500
ALPHABET = "\n" + "".join(map(chr, range(32, 127)))  # what is not in it counts as the last class
CLASSES = len(ALPHABET) + 1

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


class CharacterModel:
    """A table of character vectors, one hidden layer with tanh, and logits; trained by Adam."""

    def __init__(self, rng: np.random.Generator) -> None:
        inputs = CONTEXT * WIDTH

        def normal(rows: int, columns: int, scale: float) -> Floats:
            return (rng.standard_normal((rows, columns)) * scale).astype(np.float32)

        self.table = normal(CLASSES, WIDTH, 0.5)
        self.inner = normal(inputs, HIDDEN, inputs**-0.5)
        self.inner_bias = np.zeros(HIDDEN, dtype=np.float32)
        self.outer = normal(HIDDEN, CLASSES, 0.1 * HIDDEN**-0.5)
        self.outer_bias = np.zeros(CLASSES, dtype=np.float32)
        self.parameters = [self.table, self.inner, self.inner_bias, self.outer, self.outer_bias]
        self.averages = [(np.zeros_like(p), np.zeros_like(p)) for p in self.parameters]
        self.steps = 0

    def forward(self, contexts: Integers) -> tuple[Floats, Floats, Floats]:
        """Give the inputs and outputs of the hidden layer, and the logits."""
        inputs = self.table[contexts].reshape(len(contexts), -1)
        hidden = np.tanh(inputs @ self.inner + self.inner_bias)
        return inputs, hidden, hidden @ self.outer + self.outer_bias

    def train_step(self, contexts: Integers, following: Integers, rate: float) -> np.float32:
        """Learn from one batch; returns its mean cross entropy, in nats."""
        inputs, hidden, logits = self.forward(contexts)
        loss: np.float32 = crossent.cross_entropy(logits, following)
        # The gradient of the mean with respect to the logits: (softmax - one-hot) / rows.
        slope = crossent.softmax(logits)
        slope[np.arange(len(following)), following] -= 1
        slope /= np.float32(len(following))
        hidden_slope = (slope @ self.outer.T) * (1 - hidden * hidden)
        input_slope = (hidden_slope @ self.inner.T).reshape(-1, WIDTH)
        table_slope = np.zeros_like(self.table)
        np.add.at(table_slope, contexts.reshape(-1), input_slope)
        inner = [inputs.T @ hidden_slope, hidden_slope.sum(axis=0)]
        outer = [hidden.T @ slope, slope.sum(axis=0)]
        self._adam([table_slope, *inner, *outer], rate)
        return loss

    def _adam(self, slopes: list[Floats], rate: float) -> None:
        self.steps += 1
        correction = np.sqrt(1 - 0.99**self.steps) / (1 - 0.9**self.steps)
        for parameter, (mean, square), slope in zip(self.parameters, self.averages, slopes, strict=True):
            mean += np.float32(0.1) * (slope - mean)
            square += np.float32(0.01) * (slope * slope - square)
            parameter -= np.float32(rate * correction) * mean / (np.sqrt(square) + np.float32(1e-8))


def read_text(files: list[Path]) -> Integers:
    """Give the numbers of the characters of all files, one after the other."""
    numbers = {character: number for number, character in enumerate(ALPHABET)}
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    return np.array([numbers.get(character, CLASSES - 1) for character in text], dtype=np.int64)


def main() -> None:
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description="Train a character model on the documentation.")
    parser.add_argument("--steps", type=int, default=1000, help="training steps (default 1000)")
    parser.add_argument("--out", type=Path, default=here / "data", help="folder for the results")
    parser.add_argument(
        "--text", type=Path, nargs="+", help="files to learn from (default README.md, docs/*.md)"
    )
    options = parser.parse_args()

    files = options.text or [here.parent / "README.md", *sorted((here.parent / "docs").glob("*.md"))]
    text = read_text([file for file in files if file.exists()])
    if len(text) < 100 * CONTEXT:
        parser.error(f"{len(text)} characters are too few to learn from")
    windows = np.lib.stride_tricks.sliding_window_view(text, CONTEXT + 1)
    split = int(len(windows) * (1 - HELD_OUT))
    held_out = windows[split + CONTEXT :][:KEPT_ROWS]  # shares no character with the training windows
    print(f"{len(text)} characters in {len(files)} files, {split} to learn from")

    rng = np.random.default_rng(SEED)
    model = CharacterModel(rng)
    recent: list[float] = []
    for step in range(options.steps):
        batch = windows[rng.integers(split, size=BATCH)]
        rate = LEARNING_RATE * (1 - step / options.steps)
        recent.append(float(model.train_step(batch[:, :-1], batch[:, -1], rate)))
        if (step + 1) % max(options.steps // 5, 1) == 0:
            print(f"step {step + 1:5}: training loss {np.mean(recent):.3f} nats a character")
            recent.clear()

    _, hidden, logits = model.forward(held_out[:, :-1])
    logits, targets = logits.astype(np.float16), held_out[:, -1]
    loss = crossent.cross_entropy(logits, targets)
    print(f"held out: {len(targets)} characters, {loss:.4f} nats each, perplexity {np.exp(loss):.3f}")

    options.out.mkdir(parents=True, exist_ok=True)
    np.save(options.out / "docs_logits.npy", logits)
    np.save(options.out / "docs_targets.npy", targets.astype(np.uint8))
    np.save(options.out / "docs_hidden.npy", hidden.astype(np.float16))
    np.save(options.out / "docs_head.npy", np.ascontiguousarray(model.outer.T))
    np.save(options.out / "docs_head_bias.npy", model.outer_bias)
    print(f"wrote docs_logits.npy, docs_targets.npy, docs_hidden.npy and docs_head*.npy to {options.out}")


if __name__ == "__main__":
    main()
