"""Find the ink in images of digits to which noise was added, and keep the logits of each pixel.

    python examples/segment_ink.py [--out examples/data]

writes ink_logits.npy (float32, (200, 3, 8, 8): paper, edge, ink) and ink_targets.npy (uint8, (200, 8, 8), with 255 on
the border, which nobody labelled), for

    crossent score examples/data/ink_logits.npy examples/data/ink_targets.npy --axis 1 --ignore-index 255
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

import crossent

IMAGES = 200
IGNORED = 255
CENTRES = (0.0, 5.0, 13.0)
SPREADS = (2.5, 3.5, 3.5)


def segment() -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Give the logits, normal log-densities of the three classes, and the classes without noise."""
    images = load_digits().images[:IMAGES]  # from 0 to 16
    target = np.digitize(images, [1, 9]).astype(np.uint8)
    target[:, [0, -1]] = target[:, :, [0, -1]] = IGNORED
    noisy = images + np.random.default_rng(0).normal(scale=2.5, size=images.shape)
    densities = [-(((noisy - m) / s) ** 2) / 2 - np.log(s) for m, s in zip(CENTRES, SPREADS, strict=True)]
    return np.stack(densities, axis=1).astype(np.float32), target


def main() -> None:
    parser = argparse.ArgumentParser(description="Find the ink in noisy images of digits.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data", help="folder to write to")
    out = parser.parse_args().out
    logits, target = segment()
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / "ink_logits.npy", logits)
    np.save(out / "ink_targets.npy", target)
    print(f"mean loss of a pixel {crossent.cross_entropy(logits, target, ignore_index=IGNORED):.4f} nats")


if __name__ == "__main__":
    main()
