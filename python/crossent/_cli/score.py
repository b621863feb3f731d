"""`crossent score`: a file of logits against a file of targets."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np

from crossent._cli.files import inputs_of, named
from crossent._cli.options import (
    EXAMPLE,
    Subparsers,
    add_command,
    add_files,
    add_head,
    add_json,
    add_memory,
    add_reading,
    add_tables,
    count,
    counts,
    deciding,
    input_file,
    memory_of,
    output_file,
)
from crossent._cli.output import DataError, made_by, table, to_json
from crossent._cli.per_row import chosen_columns
from crossent._cli.reading import Rows, Targets, open_beside, open_source, read_rows, what_is_read
from crossent._cli.running import Job, add_running, drive
from crossent._cli.state import State, clamped_counts
from crossent._cli.stopping import Stop
from crossent._exact import exp
from crossent._io import OptionError, Source, TargetArray, row_of, scored_as
from crossent._scoring.report import Report
from crossent._scoring.rows import Scores
from crossent._scoring.scorer import Scorer

UNITS = {"bytes": "byte", "characters": "character", "words": "word"}
"""What bits can be reported per, by the option that counts them."""


def add(commands: Subparsers) -> None:
    """Add the command to those of the parser."""
    parser = add_command(
        commands,
        "score",
        run,
        help="score a file of logits against a file of targets",
        description="Score saved logits against target classes.",
        epilog=EXAMPLE,
    )
    add_files(parser)
    add_reading(parser)
    add_tables(parser)
    parser.add_argument(
        "--top-k",
        type=counts,
        default=[1, 5],
        metavar="K,...",
        help="report how often the target is among the K largest (default 1,5)",
    )
    parser.add_argument(
        "--bins",
        type=count,
        default=15,
        metavar="N",
        help="bins for the calibration error (default 15; 0 for none)",
    )
    units = parser.add_mutually_exclusive_group()
    for name, unit in UNITS.items():
        units.add_argument(
            f"--{name}",
            type=input_file,
            metavar="N|FILE",
            help=f"report bits per {unit}: the number of {name} in the text, or a file of integers, one per target",
        )
    parser.add_argument(
        "--per-row",
        type=output_file,
        metavar="OUT",
        help="write the scores of each row too: OUT.npy, OUT.parquet or OUT.csv",
    )
    parser.add_argument(
        "--per-row-columns",
        metavar="NAMES",
        help="which: nll, logsumexp, entropy, prediction, rank, counted, correct (default all; nll alone in .npy)",
    )
    add_running(parser)
    add_memory(parser)
    add_json(parser)
    add_head(parser, "LOGITS")


def run(options: argparse.Namespace) -> int:
    """Score the files and print the result."""
    return drive(Scoring(options), options)


class Scoring(Job[Scorer]):
    """The scores of a file."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Open the files, and check what can be checked before they are read."""
        self._options = options
        self.source = open_source(options, options.logits)
        self._targets = Targets(self.source, options)
        self._unit = next((name for name in UNITS if getattr(options, name) is not None), None)
        self._units_total, self._units = _open_units(self.source, options, self._unit)
        inputs = inputs_of(options, {"logits": self.source})
        if self._units is not None:
            inputs.append(named(f"--{self._unit}", getattr(options, str(self._unit))))
        self.state = State("score", inputs, deciding(options, "top_k", "bins", *UNITS))
        if options.per_row is not None:
            self.state.per_row = {
                "path": options.per_row,
                "columns": chosen_columns(options.per_row, options.per_row_columns),
            }
        elif options.per_row_columns is not None:
            raise OptionError("--per-row-columns goes with --per-row OUT; give both")
        self.total = self._new_scorer()

    def _new_scorer(self) -> Scorer:
        options = self._options
        return Scorer(ignore_index=options.ignore_index, top_k=options.top_k, bins=options.bins)

    def figure(self) -> str:
        """Return the perplexity so far."""
        return f"perplexity {self.total.result().perplexity:.4g}"

    def steps(self, stop: Stop) -> Generator[int, None, None]:
        """Score block after block."""
        blocks = read_rows(self.source, self._targets, memory_of(self._options), self.rows)
        with contextlib.closing(blocks):
            for rows in blocks:
                self._add(rows, stop)
                yield rows.count
        self._targets.check_end()
        # A run that failed after this has it in its state.
        if self._units_total is not None and self.total.result().units is None:
            with stop.held():
                nothing = np.empty((0, self.source.classes), np.float32)
                self.total.update(nothing, np.empty(0, np.int64), units=self._units_total)

    def _add(self, rows: Rows, stop: Stop) -> None:
        units = None if self._units is None else rows.beside(self._units[rows.index])
        part = self._new_scorer()
        # What the numbers look like has been checked for the file.
        scores: list[Scores] | None = None if self.per_row is None else []
        part._add(rows.values, rows.target, units=units, values=scored_as(self.source), scores=scores)
        records = None
        if self.per_row is not None and scores is not None:
            (columns,) = scores
            records = self.per_row.records(rows, columns)
        place, clamped = first_nonfinite(part, rows), None
        if rows.clamped is not None:
            clamped = int(np.count_nonzero(rows.clamped & (rows.target != self._options.ignore_index)))
        with stop.held():
            if records is not None and self.per_row is not None:
                self.per_row.append(records)
            self.total.merge(part)
            state = self.state
            if state.first_nonfinite_row is None:
                state.first_nonfinite_row = place
            if clamped is not None:
                state.clamped = (state.clamped or 0) + clamped

    def result(self) -> str:
        """Return the table or the JSON object of what is scored."""
        report = self.total.result()
        if self._options.json:
            return self._json(report)
        return table(report_lines(report, self._unit, self.source.format))

    def _json(self, report: Report) -> str:
        options, state = self._options, self.state
        content = report_content(report, self._unit)
        if state.first_nonfinite_row is not None:
            content["first_nonfinite_row"] = state.first_nonfinite_row
        content |= clamped_counts(state)
        content |= {"complete": state.complete} | made_by()
        content |= {what_is_read(self.source): options.logits, "targets": self._targets.name}
        content |= state.source or self.source.provenance()
        content |= {"ignore_index": options.ignore_index, "inputs": state.inputs}
        return to_json(content)

    def notes(self) -> Iterator[str]:
        """Report how the file was read, and what to be careful about."""
        yield from super().notes()
        report, state = self.total.result(), self.state
        if state.first_nonfinite_row is not None:
            place = ", ".join(map(str, state.first_nonfinite_row))
            yield (
                f"{report.nonfinite} of {report.count} counted rows of {self._options.logits} have a loss of nan or "
                f"infinity, row [{place}] among them; check for nan or infinite logits there"
            )
        if state.clamped:
            yield (
                f"{state.clamped} of {report.count} counted targets of {self._options.logits} are stored as 16 nats "
                "below the largest logit, the least that llama.cpp keeps; their losses may have been larger, so the "
                "mean is too small"
            )
        if self._options.json and not math.isfinite(report.mean + report.perplexity):
            yield "the JSON object holds null for figures that are nan or infinite; its notes name them"

    def nothing_counted(self) -> str:
        """Return the error for no counted row, with the reason."""
        if self.rows == 0:
            return f"no row was counted: {self._options.logits} has no rows; check how it was written"
        return (
            f"no row was counted: all {self.rows} targets of {self._targets.name} equal the ignore index "
            f"{self._options.ignore_index}; check both"
        )


def report_lines(report: Report, unit: str | None, source_format: str | None) -> list[tuple[str, str]]:
    """Name and format the figures of a report on rows of a file of this format for a table."""
    row = row_of(source_format)
    lines = [
        (f"bits per {UNITS[unit]}", value.replace(" units)", f" {unit})"))
        if unit is not None and name == "bits per unit"
        else (name, value)
        for name, value in report._lines(row)
    ]
    if unit == "words" and report.units is not None:
        at = next(i for i, (name, _) in enumerate(lines) if name == "bits per word") + 1
        lines.insert(at, ("perplexity per word", f"{_per_word(report):.6g}"))
    return lines


def report_content(report: Report, unit: str | None) -> dict[str, Any]:
    """Return the figures of a report for a JSON object."""
    content = figures_of(report)
    if unit is not None and report.units is not None:
        content["unit"] = UNITS[unit]
        if unit == "words":
            content["perplexity_per_word"] = _per_word(report)
    return content


def figures_of(report: Report) -> dict[str, Any]:
    """Return the fields of a report but for the long ones, which only pictures need."""
    long = ("loss_histogram", "position_groups")
    return {name: value for name, value in report.to_dict().items() if name not in long}


def _per_word(report: Report) -> float:
    return exp(report.nll_sum / report.units) if report.units else math.nan


def first_nonfinite(part: Scorer, rows: Rows) -> list[int] | None:
    """Find the first of some rows whose loss is not finite, as it stands in the array of targets."""
    first = part._tally.first_nonfinite
    return None if first is None else rows.place(first)


def _open_units(
    source: Source, options: argparse.Namespace, unit: str | None
) -> tuple[float | None, TargetArray | None]:
    """Read a number of units; or open a file of them, and check it."""
    if unit is None:
        return None, None
    text = getattr(options, unit)
    try:
        total = float(text)
    except ValueError:
        pass
    else:
        if not 0 < total < math.inf or os.path.lexists(text):
            raise OptionError(f"--{unit} {text} is not a positive number; give one, or the name of a file")
        return total, None
    units = open_beside(source, text)
    for at in range(0, units.shape[0], 1 << 16):
        block = units[(slice(at, at + (1 << 16)),)]
        if block.size and block.min() < 0:
            first, *rest = (int(i) for i in np.unravel_index(int((block < 0).argmax()), block.shape))
            place = ", ".join(map(str, (at + first, *rest)))
            raise DataError(
                f"{text}: unit [{place}] is {int(block[(first, *rest)])}; expected numbers from 0 on"
            )
    return None, units
