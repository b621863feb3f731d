"""The command `crossent`: scores files of logits, block by block, so that they may be larger than memory.

The files are opened and read by `crossent.io`; `Tally` adds up what their blocks give.

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
from crossent.io import (
    BLOCK_BYTES,
    MEMORY,
    RAW_DTYPES,
    RAW_TARGET_DTYPES,
    VALUES,
    Block,
    OptionError,
    Source,
    TargetArray,
    describe,
    log_blocks,
    open_logits,
    open_targets,
    parse_bytes,
    read_ahead,
)

_EXAMPLE = """\
example, in Python and then in the shell:
  numpy.save("logits.npy", numpy.zeros((1000, 50), "float32"))
  numpy.save("targets.npy", numpy.arange(1000) % 50)

  crossent score logits.npy targets.npy

LOGITS holds one row of unnormalised scores (float16, bfloat16, float32, float64) for each number of TARGETS, the
right class. A file is .npy, .npz, .safetensors, raw numbers (--dtype, --classes), what llama.cpp writes with
--kl-divergence-base, or a table (.csv, .parquet); the last two hold their targets. FILE:KEY names an array of a
file that holds several; a quoted pattern such as 'logits-*.npy' names files to read in the order of their numbers.
exit codes: 0 a result, 1 bad data, 2 bad usage, 130 interrupted
"""


class _DataError(Exception):
    """Files that cannot be scored: exit code 1."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized arguments") and "--" not in message:
            message += " (quote a pattern, as in 'logits-*.npy', for the shell to hand it on whole)"
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
            return int(options.run(options))
    except KeyboardInterrupt:
        _say("interrupted before the first row was scored")
        return 130
    except BrokenPipeError:
        return 1
    except OptionError as error:
        _say(f"error: {error}")
        return 2
    except MemoryError:
        _say("error: not enough memory for one block of rows; free some, or pass a smaller --memory")
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
        description="Score stored logits against target classes.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    score.set_defaults(run=_score)
    score.add_argument("logits", metavar="LOGITS", help="file or pattern: rows of logits, any number of axes")
    score.add_argument(
        "targets",
        metavar="TARGETS",
        nargs="?",
        help="file or pattern: class numbers, shaped as the logits without the class axis; left out where LOGITS "
        "holds them",
    )
    score.add_argument(
        "--ignore-index",
        type=_int64,
        default=-100,
        metavar="I",
        help="leave out rows with this target (default -100)",
    )
    _add_reading(score)
    score.add_argument(
        "--target-dtype",
        choices=RAW_TARGET_DTYPES,
        metavar="DTYPE",
        help="the dtype of raw targets: i32, i64, ...",
    )
    score.add_argument(
        "--values",
        choices=VALUES,
        help="what the numbers are (default: logits; probs in tables)",
    )
    score.add_argument("--label", metavar="NAME", help="the column of labels in a table")
    score.add_argument(
        "--columns",
        metavar="NAMES",
        help="the columns of the classes in a table: patterns, commas between them",
    )
    score.add_argument(
        "--memory",
        type=_memory,
        default=MEMORY,
        metavar="SIZE",
        help=f"how much memory to use, about (default {MEMORY >> 20}M)",
    )
    score.add_argument(
        "--json", action="store_true", help="print one JSON object, with where the figures come from"
    )
    score.add_argument("--no-progress", action="store_true", help="no progress bar, on a terminal either")
    info = commands.add_parser(
        "info",
        help="tell what is in files",
        description="Tell the kind, shape and dtype of the arrays in files, and what their first rows look like.",
        allow_abbrev=False,
    )
    info.set_defaults(run=_info)
    info.add_argument("files", metavar="FILE", nargs="+", help="file, FILE:KEY or pattern")
    _add_reading(info)
    info.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _add_reading(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how to read a file of logits."""
    parser.add_argument(
        "--axis", type=int, default=-1, metavar="A", help="class axis of the logits (default -1, the last)"
    )
    parser.add_argument(
        "--dtype",
        choices=RAW_DTYPES,
        metavar="DTYPE",
        help="the dtype of raw logits: f16, bf16, f32 or f64; bf16 also reads two-byte elements without a type so, "
        "which .npy cannot name",
    )
    parser.add_argument(
        "--classes", type=_positive, metavar="C", help="the number of classes in a row of raw logits"
    )


def _positive(text: str) -> int:
    number = _int64(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return number


def _memory(text: str) -> int:
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


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
    source = open_logits(
        options.logits,
        dtype=options.dtype,
        classes=options.classes,
        values=options.values,
        axis=options.axis,
        label=options.label,
        columns=options.columns,
    )
    target = _open_targets(source, options)
    provenance = {
        "version": __version__,
        "isa": _core.build_info()["isa"],
        "threads": _core.get_num_threads(),
        "logits": options.logits,
        "targets": options.targets or options.logits,
        **source.provenance(),
        "ignore_index": options.ignore_index,
    }
    tally = Tally()
    try:
        blocks = score_blocks(tally, source, target, options.ignore_index, options.memory)
        _drain(blocks, tally, source, show=not options.no_progress and _on_terminal(sys.stderr))
    except KeyboardInterrupt:
        result = _json(tally, provenance, complete=False) if options.json else _table(tally)
        rows = "" if source.rows is None else f" of {source.rows}"
        _say(f"interrupted: {tally.rows}{rows} rows scored; the result so far:\n{result}")
        return 130
    provenance |= source.provenance()  # which knows the number of rows by now
    for note in _notes(tally, options):
        _say(f"note: {note}")
    _write(sys.stdout, _json(tally, provenance) if options.json else _table(tally))
    if tally.count == 0:
        _say(f"error: no row was counted: {_why_nothing(tally.rows, options)}")
        return 1
    return 0


def _open_targets(source: Source, options: argparse.Namespace) -> TargetArray | None:
    """Open the targets and check their shape and values; None where they come with the blocks."""
    if options.targets is None:
        if not source.has_targets and source.targets is None:
            raise OptionError(f"{source.name} holds no targets; give a file of class numbers after it")
        if source.targets is not None:
            _check_targets(source.targets, source, source.name, options.ignore_index)
        return source.targets
    target = open_targets(options.targets, dtype=options.target_dtype)
    if source.row_shape == (1,) and target.shape == () and isinstance(target, np.ndarray):
        target = target.reshape(1)
    expected = source.row_shape
    if len(target.shape) != len(expected) or any(
        length not in (None, own) for length, own in zip(expected, target.shape, strict=True)
    ):
        shape = source.shape
        fitting = [a for a in range(len(shape)) if _without(shape, a) == target.shape]
        fix = (
            f"with --axis {fitting[0]} they would fit"
            if fitting
            else "check that both come from the same run"
        )
        raise _DataError(
            f"{options.targets} has shape {target.shape}; expected {expected}, the shape {shape} of "
            f"{options.logits} less the class axis {source.axis}; {fix}"
        )
    _check_targets(target, source, options.targets, options.ignore_index)
    return target


def _without(shape: tuple[Any, ...], axis: int) -> tuple[Any, ...]:
    return shape[:axis] + shape[axis + 1 :]


def _check_targets(target: TargetArray, source: Source, name: str, ignore_index: int) -> None:
    """Raise for the first target that names no class, before the long read of the logits begins."""
    length = target.shape[0]
    step = max(1, BLOCK_BYTES * length // max(target.size * target.dtype.itemsize, 1))
    for start in range(0, length, step):
        _check_block(target[(slice(start, start + step),)], start, source.classes, name, ignore_index)


def _check_block(block: NDArray[Any], start: int, classes: int, name: str, ignored: int) -> None:
    """Raise for the first target of a block that names no class; `start` positions of its first axis come before."""
    if block.size == 0 or (block.min() >= 0 and block.max() < classes):
        return
    wrong = ((block < 0) | (block >= classes)) & (block != ignored)
    if wrong.any():
        first, *rest = (int(i) for i in np.unravel_index(int(wrong.argmax()), wrong.shape))
        value = int(block[(first, *rest)])
        place = ", ".join(map(str, (start + first, *rest)))
        raise _DataError(
            f"{name}: target[{place}] is {value}, but the logits have {classes} classes "
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
    clamped: int | None = None

    def add(
        self, block: Block, target: NDArray[Any], axis: int, ignore_index: int, *, log_probs: bool
    ) -> None:
        """Score a block of rows."""
        nll, prediction, counted = _core.score_rows(block.values, target, ignore_index, axis)
        if log_probs:
            nll = _negated(block.values, target, counted, axis)
        nll, counted = nll.reshape(-1), counted.reshape(-1)
        right = (prediction.reshape(-1) == target.reshape(-1)) & counted
        wild = np.flatnonzero(~np.isfinite(nll) & counted)
        if wild.size and self.first_not_finite is None:
            inside = np.unravel_index(int(wild[0]), target.shape)
            self.first_not_finite = tuple(int(i) + s.start for i, s in zip(inside, block.index, strict=True))
        count, correct = int(np.count_nonzero(counted)), int(np.count_nonzero(right))
        clamped = None if block.clamped is None else int(np.count_nonzero(block.clamped & counted))
        self.nll.add(nll)
        self.rows += block.rows
        self.count += count
        self.correct += correct
        self.not_finite += wild.size
        if clamped is not None:
            self.clamped = (self.clamped or 0) + clamped

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


def _negated(
    log_probs: NDArray[Any], target: NDArray[Any], counted: NDArray[np.bool_], axis: int
) -> NDArray[np.float64]:
    """Give the loss of rows that are log-probabilities: minus the target's; 0 for rows that are not counted."""
    places = np.expand_dims(np.where(counted, target, 0).astype(np.intp), axis)
    own = np.take_along_axis(log_probs, places, axis).squeeze(axis).astype(np.float64)
    return np.where(counted, 0.0 - own, 0.0)


def score_blocks(
    tally: Tally, source: Source, target: TargetArray | None, ignore_index: int, memory: int = MEMORY
) -> Iterator[int]:
    """Score a source in blocks of rows and add each to the tally; yields each block's number of rows."""
    with contextlib.closing(read_ahead(log_blocks(source, memory))) as blocks:
        for block in blocks:
            if target is not None:
                own = target[block.index]
                if own.size != block.rows:
                    raise _DataError(_other_length(source, target))
            else:
                assert block.target is not None
                own = block.target
                _check_block(own, block.start, source.classes, source.name, ignore_index)
            tally.add(block, own, source.axis, ignore_index, log_probs=source.values != "logits")
            yield block.rows
    if target is not None and source.rows != target.size:
        raise _DataError(_other_length(source, target))


def _other_length(source: Source, target: TargetArray) -> str:
    rows = "more" if source.rows is None else source.rows
    return f"there are {target.size} targets, but {source.name} has {rows} rows; check that both come from the same run"


def _drain(blocks: Iterable[int], tally: Tally, source: Source, *, show: bool) -> None:
    """Run the blocks, with a progress bar on stderr if wanted."""
    if not show:
        for _ in blocks:
            pass
        return
    from tqdm import tqdm

    rows = source.rows
    size = "" if rows is None else f", {rows * source.classes * source.dtype.itemsize / 1e6:,.1f} MB"
    count = "rows" if rows is None else f"{rows:,} rows"
    _say(f"{count} of {source.classes:,} classes, {source.dtype}{size}")
    with tqdm(
        total=rows, unit=" rows", unit_scale=True, file=sys.stderr, leave=False, dynamic_ncols=True
    ) as bar:
        for done in blocks:
            bar.set_postfix_str(f"perplexity {tally.perplexity:.4g}", refresh=False)
            bar.update(done)


# Describing


def _info(options: argparse.Namespace) -> int:
    """Describe every file; one that cannot be read is told, and the others are described all the same."""
    found: list[dict[str, Any]] = []
    failed = 0
    for name in options.files:
        try:
            found += describe(name, dtype=options.dtype, classes=options.classes, axis=options.axis)
        except (OSError, ValueError) as error:
            if len(options.files) == 1:
                raise
            _say(f"error: {f'{name}: {error.strerror}' if isinstance(error, OSError) else error}")
            failed = max(failed, 2 if isinstance(error, OptionError) else 1)
    if options.json:
        _write(sys.stdout, json.dumps({"arrays": [_without_nan(told) for told in found]}, indent=2))
    elif found:
        _write(sys.stdout, "\n\n".join(_card(told) for told in found))
    return failed


def _card(told: dict[str, Any]) -> str:
    """Format the lines on one array."""
    lengths = ["?" if length is None else str(length) for length in told["shape"]]
    values = "  ".join(f"{value:.6g}" for value in told["first_values"])
    lines = [
        ("name", told["name"]),
        ("format", told["format"]),
        ("dtype", told["dtype"]),
        ("shape", " x ".join(lengths) or "a single number"),
        ("rows", None if told["rows"] is None else f"{told['rows']:,}"),
        ("classes", None if told["classes"] is None else f"{told['classes']:,}"),
        ("file size", _size(told["file_bytes"])),
        ("first values", values or None),
        ("range", f"{told['minimum']} to {told['maximum']}" if "minimum" in told else None),
        (
            "not finite",
            f"{told['not_finite']:,} of the first {told['checked_rows']:,} rows" if told["classes"] else None,
        ),
        ("looks like", told["guess"]),
    ]
    return "\n".join(f"{name:<14}{value}" for name, value in lines if value is not None)


def _size(count: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= unit:
            return f"{count:,} bytes ({count / unit:.1f} {name})"
    return f"{count:,} bytes"


def _without_nan(told: dict[str, Any]) -> dict[str, Any]:
    """JSON has no nan and no infinity: such a value becomes null."""
    return told | {
        "first_values": [value if math.isfinite(value) else None for value in told["first_values"]]
    }


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
    if tally.clamped is not None:
        content["clamped"] = tally.clamped
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
    if tally.clamped:
        yield (
            f"{tally.clamped} of {tally.count} counted targets of {options.logits} are stored as 16 nats below "
            "the largest logit, the least that llama.cpp keeps; their losses may have been larger, so the mean "
            "is too small"
        )
    if options.json and not math.isfinite(tally.mean + tally.perplexity):
        yield "the JSON object holds null for figures that are nan or infinite; its notes tell which"


def _why_nothing(rows: int, options: argparse.Namespace) -> str:
    if rows == 0:
        return f"{options.logits} has no rows; check how it was written"
    name = options.targets or options.logits
    return f"all {rows} targets of {name} equal the ignore index {options.ignore_index}; check both"


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
