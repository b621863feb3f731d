"""The command `crossent`: scores files of logits, block by block, so that they may be larger than memory.

The result alone goes to stdout; notes, the progress bar and errors go to stderr. Exit codes: 0 for a result, 1 for bad
data, 2 for bad usage, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, TextIO

import numpy as np
from numpy.typing import NDArray

from crossent import __version__, _core
from crossent.io import BLOCK_BYTES, open_npy, row_blocks

_EXAMPLE = """\
example, in Python and then in the shell:
  numpy.save("logits.npy", numpy.zeros((1000, 50), "float32"))
  numpy.save("targets.npy", numpy.arange(1000) % 50)

  crossent score logits.npy targets.npy

LOGITS holds one row of unnormalised scores (float16, float32, float64) for each number of TARGETS, the right class.
exit codes: 0 a result, 1 bad data, 2 bad usage, 130 interrupted
"""

_BFLOAT16_NAMES = ("bfloat16", "bf16")


class _UsageError(Exception):
    """Options that do not fit the files: exit code 2."""


class _DataError(Exception):
    """Files that cannot be scored: exit code 1."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(2, f"crossent: error: {message}; see crossent --help\n")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        with contextlib.suppress(OSError):
            _flush(sys.stdout)
        super().exit(status, message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (default: the process's arguments) and return its exit code."""
    options = _parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            return _score(options)
    except KeyboardInterrupt:
        _say("interrupted before the first row was scored")
        return 130
    except BrokenPipeError:
        return 1
    except _UsageError as error:
        _say(f"error: {error}")
        return 2
    except MemoryError:
        _say("error: not enough memory for one block of rows; free some, or use a smaller dtype")
        return 1
    except OSError as error:
        reason = error.strerror or str(error)
        if error.filename is None:
            _say(f"error: reading or writing failed: {reason}; check where the output goes")
        else:
            _say(f"error: {error.filename}: {reason}; check the path and its permissions")
        return 1
    except (_DataError, ValueError, TypeError, IndexError, OverflowError, Warning) as error:
        _say(f"error: {error}")
        return 1
    except Exception as error:  # noqa: BLE001  a command shows no traceback
        _say(f"error: unexpected {type(error).__name__}: {error}; please report it")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="crossent",
        description="Cross-entropy, perplexity and accuracy of stored logits.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"crossent {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    score = commands.add_parser(
        "score",
        help="score a file of logits against a file of targets",
        description="Score a .npy file of logits against a .npy file of target classes.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    score.add_argument("logits", metavar="LOGITS", help=".npy file: rows of logits, any number of axes")
    score.add_argument(
        "targets",
        metavar="TARGETS",
        help=".npy file: class numbers, shaped as the logits without the class axis",
    )
    score.add_argument(
        "--ignore-index",
        type=_int64,
        default=-100,
        metavar="I",
        help="leave out rows with this target (default -100)",
    )
    score.add_argument(
        "--axis", type=int, default=-1, metavar="A", help="class axis of the logits (default -1, the last)"
    )
    score.add_argument(
        "--dtype",
        choices=_BFLOAT16_NAMES,
        help="read two-byte elements without a type as bfloat16, which .npy cannot name",
    )
    score.add_argument(
        "--json", action="store_true", help="print one JSON object, with where the figures come from"
    )
    score.add_argument("--no-progress", action="store_true", help="no progress bar, on a terminal either")
    return parser


def _int64(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer") from None
    if not -(2**63) <= number < 2**63:
        raise argparse.ArgumentTypeError(f"{text} is outside int64")
    return number


# One run of `crossent score`


def _score(options: argparse.Namespace) -> int:
    logits, target, axis = _open_pair(options)
    rows = target.size
    provenance = {
        "version": __version__,
        "isa": _core.build_info()["isa"],
        "threads": _core.get_num_threads(),
        "logits": options.logits,
        "targets": options.targets,
        "shape": list(logits.shape),
        "dtype": str(logits.dtype),
        "axis": axis,
        "ignore_index": options.ignore_index,
    }
    _check_targets(target, logits.shape[axis], options)
    tally = Tally()
    try:
        blocks = score_blocks(tally, logits, target, axis, options.ignore_index)
        _drain(blocks, tally, logits, axis, show=not options.no_progress and _on_terminal(sys.stderr))
    except KeyboardInterrupt:
        result = _json(tally, provenance, complete=False) if options.json else _table(tally)
        _say(f"interrupted: {tally.rows} of {rows} rows scored; the result so far:\n{result}")
        return 130
    for note in _notes(tally, options):
        _say(f"note: {note}")
    _write(sys.stdout, _json(tally, provenance) if options.json else _table(tally))
    if tally.count == 0:
        _say(f"error: no row was counted: {_why_nothing(rows, options)}")
        return 1
    return 0


def _open_pair(options: argparse.Namespace) -> tuple[NDArray[Any], NDArray[Any], int]:
    """Map both files and check dtypes and shapes; the class axis comes back not negative."""
    logits = open_npy(options.logits, dtype="bfloat16" if options.dtype else None)
    target = open_npy(options.targets)
    if logits.dtype.kind == "V" and logits.dtype.itemsize == 2 and not options.dtype:
        raise _DataError(
            f"{options.logits} holds two-byte elements without a type ({logits.dtype}), as numpy.save writes bfloat16; "
            "if that is what they are, pass --dtype bfloat16"
        )
    swapped = logits.dtype.kind in "iu" and target.dtype.kind == "f"
    advice = "the two files look swapped" if swapped else "save them as one of those"
    if not options.dtype and not (logits.dtype.kind == "f" and logits.dtype.itemsize <= 8):
        raise _DataError(
            f"{options.logits} holds {logits.dtype}; expected logits of float16, float32, float64 or bfloat16; {advice}"
        )
    if target.dtype.kind not in "iu":
        raise _DataError(
            f"{options.targets} holds {target.dtype}; expected integer class numbers; save them as int64"
        )
    if logits.ndim == 0:
        raise _DataError(
            f"{options.logits} holds a single number; expected rows of logits, shape (rows, classes)"
        )
    if not -logits.ndim <= options.axis < logits.ndim:
        raise _UsageError(f"--axis {options.axis} is out of range for logits of shape {logits.shape}")
    axis = options.axis % logits.ndim
    if logits.ndim == 1 and target.shape in ((), (1,)):
        logits, target, axis = logits[np.newaxis], target.reshape(1), 1
    if logits.shape[axis] == 0:
        raise _DataError(f"{options.logits} has no classes: shape {logits.shape}, class axis {axis}")
    expected = _without(logits.shape, axis)
    if target.shape != expected:
        fitting = [a for a in range(logits.ndim) if _without(logits.shape, a) == target.shape]
        fix = (
            f"with --axis {fitting[0]} they would fit"
            if fitting
            else "check that both come from the same run"
        )
        raise _DataError(
            f"{options.targets} has shape {target.shape}; expected {expected}, the shape {logits.shape} of "
            f"{options.logits} less the class axis {axis}; {fix}"
        )
    return logits, target, axis


def _without(shape: tuple[Any, ...], axis: int) -> tuple[Any, ...]:
    return shape[:axis] + shape[axis + 1 :]


def _check_targets(target: NDArray[Any], classes: int, options: argparse.Namespace) -> None:
    """Raise for the first target that names no class, before the long read of the logits begins."""
    ignored = options.ignore_index
    step = max(1, BLOCK_BYTES * len(target) // max(target.nbytes, 1))
    for start in range(0, len(target), step):
        block = target[start : start + step]
        if block.size == 0 or (block.min() >= 0 and block.max() < classes):
            continue
        wrong = ((block < 0) | (block >= classes)) & (block != ignored)
        if wrong.any():
            first, *rest = (int(i) for i in np.unravel_index(int(wrong.argmax()), wrong.shape))
            value = int(block[(first, *rest)])
            place = ", ".join(map(str, (start + first, *rest)))
            raise _DataError(
                f"{options.targets}: target[{place}] is {value}, but the logits have {classes} classes "
                f"(0 to {classes - 1}) and the ignore index is {ignored}; likely a vocabulary of another size or a "
                f"padding id; to leave such rows out pass --ignore-index {value}"
            )


# Scoring


class ExactSum:
    """A sum of float64 numbers without rounding: the same bits for any order and any grouping.

    The finite part is one integer that counts units of 2**-1126, of which every float64 is a multiple.
    """

    _SCALE = 1126  # frexp gives m * 2**e with e >= -1073, and m * 2**53 is an integer
    _CHUNK = 1 << 16  # at most 2**16 terms below 2**27 a bin: a float64 bin stays exact

    def __init__(self) -> None:
        self._units = 0
        self._special = 0.0

    def add(self, values: NDArray[np.float64]) -> None:
        """Add every number of a 1-D array."""
        units = 0
        finite = np.isfinite(values)
        if not finite.all():
            with np.errstate(invalid="ignore"):
                self._special += float(values[~finite].sum())
            values = values[finite]
        for start in range(0, values.size, self._CHUNK):
            fraction, exponent = np.frexp(values[start : start + self._CHUNK])
            whole = np.ldexp(fraction, 53).astype(np.int64)
            lowest = int(exponent.min())
            shift = exponent - lowest
            high = np.bincount(shift, weights=whole >> 27)
            low = np.bincount(shift, weights=whole & (2**27 - 1))
            for power, (more, less) in enumerate(zip(high.tolist(), low.tolist(), strict=True)):
                units += ((int(more) << 27) + int(less)) << (power + lowest + self._SCALE - 53)
        self._units += units

    def mean(self, count: int) -> float:
        """Return the sum over `count`, rounded once; nan for no numbers."""
        if count == 0:
            return math.nan
        if self._special != 0.0:
            return self._special
        return self._units / (count << self._SCALE)


@dataclass
class Tally:
    """What has been scored so far."""

    nll: ExactSum = field(default_factory=ExactSum)
    rows: int = 0
    count: int = 0
    correct: int = 0
    not_finite: int = 0
    first_not_finite: tuple[int, ...] | None = None

    @property
    def mean(self) -> float:
        """Mean negative log-likelihood of the counted rows, in nats."""
        return self.nll.mean(self.count)

    @property
    def perplexity(self) -> float:
        """exp(mean)."""
        try:
            return math.exp(self.mean)
        except OverflowError:
            return math.inf

    @property
    def accuracy(self) -> float:
        """Share of the counted rows whose largest logit is the target's."""
        return self.correct / self.count if self.count else math.nan

    def figures(self) -> dict[str, int | float]:
        """Return the figures by their names in the JSON object."""
        return {
            "count": self.count,
            "ignored": self.rows - self.count,
            "mean": self.mean,
            "mean_bits": self.mean / math.log(2.0),
            "perplexity": self.perplexity,
            "accuracy": self.accuracy,
        }


def score_blocks(
    tally: Tally,
    logits: NDArray[Any],
    target: NDArray[Any],
    axis: int,
    ignore_index: int,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[int]:
    """Score the logits in blocks of rows and add each to the tally; yields each block's number of rows."""
    for index in row_blocks(logits, axis, block_bytes=block_bytes):
        rows = _without(index, axis)
        block = target[rows]
        nll, prediction, counted = _core.score_rows(logits[index], block, ignore_index, axis)
        nll, counted = nll.reshape(-1), counted.reshape(-1)
        right = (prediction.reshape(-1) == block.reshape(-1)) & counted
        wild = np.flatnonzero(~np.isfinite(nll) & counted)
        if wild.size and tally.first_not_finite is None:
            inside = np.unravel_index(int(wild[0]), block.shape)
            tally.first_not_finite = tuple(int(i) + (s.start or 0) for i, s in zip(inside, rows, strict=True))
        count, correct = int(np.count_nonzero(counted)), int(np.count_nonzero(right))
        tally.nll.add(nll)
        tally.rows += block.size
        tally.count += count
        tally.correct += correct
        tally.not_finite += wild.size
        yield block.size


def _drain(blocks: Iterable[int], tally: Tally, logits: NDArray[Any], axis: int, *, show: bool) -> None:
    """Run the blocks, with a progress bar on stderr if wanted."""
    if not show:
        for _ in blocks:
            pass
        return
    from tqdm import tqdm

    classes = logits.shape[axis]
    rows = logits.size // classes
    _say(f"{rows:,} rows of {classes:,} classes, {logits.dtype}, {logits.nbytes / 1e6:,.1f} MB")
    with tqdm(
        total=rows, unit=" rows", unit_scale=True, file=sys.stderr, leave=False, dynamic_ncols=True
    ) as bar:
        for done in blocks:
            bar.set_postfix_str(f"perplexity {tally.perplexity:.4g}", refresh=False)
            bar.update(done)


# Output


def _table(tally: Tally) -> str:
    figures = tally.figures()
    lines = [
        ("rows counted", figures["count"]),
        ("rows ignored", figures["ignored"]),
        ("mean NLL, nats", figures["mean"]),
        ("mean NLL, bits", figures["mean_bits"]),
        ("perplexity", figures["perplexity"]),
        ("accuracy", figures["accuracy"]),
    ]
    texts = [(name, f"{value:,}" if isinstance(value, int) else f"{value:.7g}") for name, value in lines]
    width = max(len(text) for _, text in texts)
    return "\n".join(f"{name:<16}{text:>{width}}" for name, text in texts)


def _json(tally: Tally, provenance: dict[str, Any], *, complete: bool = True) -> str:
    """One JSON object; nan and the infinities, which JSON lacks, become null and are told in `notes`."""
    figures = tally.figures()
    lost = {name: value for name, value in figures.items() if not math.isfinite(value)}
    content: dict[str, Any] = {name: None if name in lost else value for name, value in figures.items()}
    content["not_finite_rows"] = tally.not_finite
    content["complete"] = complete
    content["notes"] = [f"{name} is {value}, written as null" for name, value in lost.items()]
    return json.dumps(content | provenance, indent=2, allow_nan=False)


def _notes(tally: Tally, options: argparse.Namespace) -> Iterator[str]:
    if tally.first_not_finite is not None:
        place = ", ".join(map(str, tally.first_not_finite))
        yield (
            f"{tally.not_finite} of {tally.count} counted rows of {options.logits} have a loss of nan or infinity, "
            f"row [{place}] among them; look for nan or infinite logits there"
        )
    if options.json and not math.isfinite(tally.mean + tally.perplexity):
        yield "the JSON object holds null for figures that are nan or infinite; its notes tell which"


def _why_nothing(rows: int, options: argparse.Namespace) -> str:
    if rows == 0:
        return f"{options.logits} has no rows; check how it was written"
    return (
        f"all {rows} targets of {options.targets} equal the ignore index {options.ignore_index}; check both"
    )


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    _say(f"warning: {message}")


def _say(text: str) -> None:
    """Tell something on stderr, if anybody can hear it."""
    with contextlib.suppress(OSError):
        _write(sys.stderr, f"crossent: {text}")


def _write(stream: TextIO | None, text: str) -> None:
    """Write a line, now."""
    if stream is None:
        raise OSError("the output stream is closed")
    stream.write(text + "\n")
    _flush(stream)


def _flush(stream: TextIO | None) -> None:
    """Flush, so that a full disk or a closed pipe is noticed here, and not when the interpreter exits."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise


def _on_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()
