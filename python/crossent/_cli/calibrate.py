"""`crossent calibrate`: the temperature of a model, and its calibration before and after."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossent._cli.files import inputs_of
from crossent._cli.options import (
    Subparsers,
    add_command,
    add_files,
    add_head,
    add_json,
    add_memory,
    add_no_progress,
    add_reading,
    add_tables,
    count,
    memory_of,
)
from crossent._cli.output import DataError, made_by, print_result, say, table, to_json
from crossent._cli.progress import Bar
from crossent._cli.reading import Rows, Targets, open_source, read_rows, say_notes, what_is_read
from crossent._cli.score import figures_of, first_nonfinite
from crossent._cli.stopping import Ended, Stop, stopping
from crossent._scoring.report import Report
from crossent._scoring.scorer import Scorer
from crossent._scoring.temperature import Temperature, fit

_EXAMPLE = """\
examples:
  crossent calibrate validation-logits.npy validation-targets.npy
  crossent calibrate validation.csv --label y_true --json

Use held-out rows. The file is read about eight times. Divide the model's
logits by the temperature to calibrate its probabilities.
exit codes: 0 a result, 1 bad data, 2 bad usage, 130 interrupted
"""


def add(commands: Subparsers) -> None:
    """Add the command to those of the parser."""
    parser = add_command(
        commands,
        "calibrate",
        run,
        help="find the temperature that calibrates a model",
        description="Find the temperature of the softmax that makes the targets most likely.",
        epilog=_EXAMPLE,
    )
    add_files(parser)
    add_reading(parser)
    add_tables(parser)
    parser.add_argument(
        "--bins", type=count, default=15, metavar="N", help="bins for the calibration error (default 15)"
    )
    add_no_progress(parser)
    add_memory(parser)
    add_json(parser)
    add_head(parser, "LOGITS")


def run(options: argparse.Namespace) -> int:
    """Fit the temperature, and print it with its effect."""
    passes = _Passes(options)
    with stopping() as stop:
        try:
            return _fit(passes, options, stop)
        except Ended:
            say(f"ended at once by {stop.name}")
            return stop.code
        except KeyboardInterrupt:
            stop.finish()
            reading = f"{options.logits} was read for the {_ordinal(passes.number)} time"
            what, known = _so_far(passes)
            say(f"interrupted while {reading}; {what}", known)
            return stop.code
        except Exception as error:
            stop.finish()
            if isinstance(error, ValueError) and str(error).startswith("no temperature is best"):
                raise DataError(f"{options.logits}: {error}") from None
            if passes.before is not None:
                what, known = _so_far(passes)
                say(f"stopped by an error; {what}", known)
            raise


def _fit(passes: _Passes, options: argparse.Namespace, stop: Stop) -> int:
    before = passes.report(1.0)
    passes.check(before)
    passes.before = before
    # What the numbers look like has been checked for the file.
    found = fit(passes, None, options.ignore_index, None, -1, "logits", [])
    passes.found = found
    after = passes.report(found.temperature)
    stop.finish()
    say_notes(passes.source)
    if options.json:
        content: dict[str, Any] = {
            "temperature": found.temperature,
            "nll_before": found.nll_before,
            "nll_after": found.nll_after,
            "count": found.count,
            "ignored": before.ignored,
            "iterations": found.iterations,
            "before": figures_of(before),
            "after": figures_of(after),
            **made_by(),
            what_is_read(passes.source): options.logits,
            "targets": passes.targets.name,
            **passes.source.provenance(),
            "ignore_index": options.ignore_index,
            "inputs": inputs_of(options, {"logits": passes.source}),
        }
        result = to_json(content)
    else:
        lines = [
            ("temperature", f"{found.temperature:.6g}"),
            ("rows counted", f"{before.count:,}"),
            ("rows ignored", f"{before.ignored:,}"),
            ("mean NLL", f"{found.nll_before:.6g} before, {found.nll_after:.6g} after, in nats"),
            ("perplexity", f"{before.perplexity:.6g} before, {after.perplexity:.6g} after"),
            *_calibration(before, after, options.bins),
            ("Brier score", f"{before.brier_score:.6g} before, {after.brier_score:.6g} after"),
            ("accuracy", f"{before.accuracy:.6g}"),
        ]
        result = table(lines)
    return print_result(result)


def _so_far(passes: _Passes) -> tuple[str, str | None]:
    """Return what is known before the last read is done, in words and as a table."""
    if passes.before is None:
        return "no result", None
    before = passes.before
    lines = [
        ("rows counted", f"{before.count:,}"),
        ("mean NLL", f"{before.mean:.6g} before, in nats"),
        ("Brier score", f"{before.brier_score:.6g} before"),
        ("accuracy", f"{before.accuracy:.6g}"),
    ]
    if passes.found is None:
        return "no temperature yet; the logits as they are:", table(lines)
    lines = [("temperature", f"{passes.found.temperature:.6g}"), *lines]
    return "the temperature is found, but not its effect:", table(lines)


def _calibration(before: Report, after: Report, bins: int) -> list[tuple[str, str]]:
    if bins == 0:
        return []
    errors = f"{before.expected_calibration_error:.6g} before, {after.expected_calibration_error:.6g} after"
    return [("calibration error", f"{errors} ({bins} bins)")]


class _Passes:
    """The blocks of a file and their targets, as often as they are requested."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options, self.number = options, 0
        self.before: Report | None = None
        self.found: Temperature | None = None
        self.source = open_source(options, options.logits)
        self.targets = Targets(self.source, options)

    def __iter__(self) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        for rows in self.rows():
            yield rows.values, rows.target

    def rows(self) -> Iterator[Rows]:
        """Read the file once more."""
        self.number += 1
        what = f"read {self.number}"
        blocks = read_rows(self.source, self.targets, memory_of(self._options))
        with Bar(self.source, self._options, what=what) as bar, contextlib.closing(blocks):
            for rows in blocks:
                yield rows
                bar.update(rows.count, str)
        self.targets.check_end()

    def report(self, temperature: float) -> Report:
        """Score the rows with their logits divided by a temperature."""
        scorer = Scorer(ignore_index=self._options.ignore_index, top_k=(), bins=self._options.bins)
        self.first: list[int] | None = None
        for rows in self.rows():
            part = Scorer(ignore_index=self._options.ignore_index, top_k=(), bins=self._options.bins)
            values = rows.values
            if temperature != 1.0:
                wide = values.astype(
                    np.float64 if values.dtype.newbyteorder("=") == np.float64 else np.float32
                )
                values = np.divide(wide, temperature, out=wide)
            part._add(values, rows.target)
            self.first = self.first or first_nonfinite(part, rows)
            scorer.merge(part)
        return scorer.result()

    def check(self, report: Report) -> None:
        """Raise where no temperature can be found."""
        name = self._options.logits
        if report.count == 0:
            raise DataError(
                f"no row was counted: all {report.ignored} targets of {self.targets.name} equal the ignore index "
                f"{self._options.ignore_index}, or there are none; check both"
            )
        if self.first is not None:
            place = ", ".join(map(str, self.first))
            raise DataError(
                f"{report.nonfinite} of {report.count} counted rows of {name} have no finite loss at any temperature, "
                f"row [{place}] among them; check for nan or infinite logits there, or give such rows the ignore "
                "index as their target"
            )


def _ordinal(number: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")
