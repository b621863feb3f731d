"""`crossent score`: a file of logits against a file of targets."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from typing import Any

from crossent import __version__, _core
from crossent.cli.options import EXAMPLE, Subparsers, add_reading, int64, memory
from crossent.cli.output import on_terminal, say, write
from crossent.cli.progress import drain
from crossent.cli.reading import open_checked_targets
from crossent.cli.tally import Tally, score_blocks
from crossent.io import MEMORY, RAW_TARGET_DTYPES, VALUES, open_logits


def add(commands: Subparsers) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "score",
        help="score a file of logits against a file of targets",
        description="Score stored logits against target classes.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "logits", metavar="LOGITS", help="file or pattern: rows of logits, any number of axes"
    )
    parser.add_argument(
        "targets",
        metavar="TARGETS",
        nargs="?",
        help="file or pattern: class numbers, shaped as the logits without the class axis; left out where LOGITS "
        "holds them",
    )
    parser.add_argument(
        "--ignore-index",
        type=int64,
        default=-100,
        metavar="I",
        help="leave out rows with this target (default -100)",
    )
    add_reading(parser)
    parser.add_argument(
        "--target-dtype",
        choices=RAW_TARGET_DTYPES,
        metavar="DTYPE",
        help="the dtype of raw targets: i32, i64, ...",
    )
    parser.add_argument(
        "--values",
        choices=VALUES,
        help="what the numbers are (default: logits; probs in tables)",
    )
    parser.add_argument("--label", metavar="NAME", help="the column of labels in a table")
    parser.add_argument(
        "--columns",
        metavar="NAMES",
        help="the columns of the classes in a table: patterns, commas between them",
    )
    parser.add_argument(
        "--memory",
        type=memory,
        default=MEMORY,
        metavar="SIZE",
        help=f"how much memory to use, about (default {MEMORY >> 20}M)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object, with where the figures come from"
    )
    parser.add_argument("--no-progress", action="store_true", help="no progress bar, on a terminal either")


def run(options: argparse.Namespace) -> int:
    """Score the files and print the result."""
    source = open_logits(
        options.logits,
        dtype=options.dtype,
        classes=options.classes,
        values=options.values,
        axis=options.axis,
        label=options.label,
        columns=options.columns,
    )
    target = open_checked_targets(source, options)
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
        drain(blocks, tally, source, show=not options.no_progress and on_terminal(sys.stderr))
    except KeyboardInterrupt:
        result = _json(tally, provenance, complete=False) if options.json else _table(tally)
        rows = "" if source.rows is None else f" of {source.rows}"
        say(f"interrupted: {tally.rows}{rows} rows scored; the result so far:\n{result}")
        return 130
    provenance |= source.provenance()  # which knows the number of rows by now
    for note in _notes(tally, options):
        say(f"note: {note}")
    write(sys.stdout, _json(tally, provenance) if options.json else _table(tally))
    if tally.count == 0:
        say(f"error: no row was counted: {_why_nothing(tally.rows, options)}")
        return 1
    return 0


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
