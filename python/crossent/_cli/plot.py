"""`crossent plot`: a picture of the scores of a file, or of two models' losses."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crossent._cli.compare import Comparing
from crossent._cli.files import check_output, described, inputs_of, whole
from crossent._cli.options import (
    Subparsers,
    add_command,
    add_files,
    add_head,
    add_memory,
    add_no_progress,
    add_reading,
    add_tables,
    heads_of,
    input_file,
    memory_of,
    output_file,
    positive,
)
from crossent._cli.output import DataError, say, write
from crossent._cli.progress import Bar
from crossent._cli.reading import Targets, open_source, read_rows, say_notes
from crossent._cli.state import State
from crossent._cli.stopping import Stop, stopping
from crossent._io import OptionError, Source, scored_as
from crossent._scoring.report import Report
from crossent._scoring.rows import Scores, score, score_rows
from crossent._scoring.scorer import Scorer
from crossent._scoring.side_by_side import Chunk

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_EXAMPLE = """\
examples:
  crossent plot logits.npy targets.npy --kind reliability -o reliability.svg
  crossent plot logits.npy targets.npy --kind position -o position.png
  crossent plot p.npy targets.npy --kind comparison --other q.npy -o losses.png
  # the state of `crossent score --resume run.json`
  crossent plot run.json --kind histogram -o losses.svg

It needs Matplotlib: pip install 'crossent[plot]'.
exit codes: 0 a picture, 1 bad data, 2 bad usage, 130 interrupted
"""

_KINDS = ("reliability", "histogram", "position", "comparison")
_FORMATS = (".png", ".svg", ".pdf")
# Of PNG; two pixels of a screen, and what printers want.
_DOTS_PER_INCH = 300


def add(commands: Subparsers) -> None:
    """Add the command to those of the parser."""
    parser = add_command(
        commands,
        "plot",
        run,
        help="draw the scores of a file",
        description="Draw the calibration or the losses of a model, or the losses of two.",
        epilog=_EXAMPLE,
    )
    add_files(parser)
    parser.add_argument("--kind", choices=_KINDS, required=True, help="what to draw")
    parser.add_argument(
        "-o",
        "--output",
        type=output_file,
        required=True,
        metavar="OUT",
        help=f"the picture: {', '.join(_FORMATS)} by its ending",
    )
    parser.add_argument(
        "--other",
        type=input_file,
        metavar="FILE",
        help="for a comparison: the logits of the other model on the same rows",
    )
    parser.add_argument(
        "--length",
        type=positive,
        metavar="N",
        help="for positions: the number of rows of each text, where texts follow one another",
    )
    parser.add_argument(
        "--bins", type=positive, metavar="N", help="for reliability: the number of bins (default 15)"
    )
    add_reading(parser)
    add_tables(parser)
    add_memory(parser)
    add_no_progress(parser)
    add_head(parser, "LOGITS", "--other")


def run(options: argparse.Namespace) -> int:
    """Draw the picture, and print the name of its file."""
    _check(options)
    try:
        import matplotlib
    except ImportError:
        raise DataError("pictures need Matplotlib: pip install 'crossent[plot]'") from None
    matplotlib.use("agg")  # a command opens no window
    with stopping() as stop:
        try:
            ax = _draw(options, stop)
            _save(ax, options.output)
        except KeyboardInterrupt:
            say("interrupted; no picture was written")
            return stop.code
    write(sys.stdout, options.output)
    return 0


def _check(options: argparse.Namespace) -> None:
    """Raise for options that do not go together, before anything is read."""
    if Path(options.output).suffix.lower() not in _FORMATS:
        raise OptionError(f"-o {options.output} does not end with a format; expected {', '.join(_FORMATS)}")
    kind = options.kind
    for name, own in (
        ("other", "comparison"),
        ("other_head", "comparison"),
        ("length", "position"),
        ("bins", "reliability"),
    ):
        if getattr(options, name) is not None and kind != own:
            option = f"--{name.replace('_', '-')}"
            raise OptionError(f"{option} goes with --kind {own}, and this is --kind {kind}")
    if kind == "comparison" and options.other is None:
        raise OptionError("--kind comparison needs --other FILE, the logits of the other model")


def _draw(options: argparse.Namespace, stop: Stop) -> Axes:
    from crossent import plot

    if options.kind == "comparison":
        scores = _Pairs(options).scores(stop)
        _check_counted(scores[0].count, options)
        names = tuple(Path(name).name for name in (options.logits, options.other))
        return plot.comparison(*scores, names=(names[0], names[1]))
    report = _stored(options) if options.logits.endswith(".json") else _scored(options)
    _check_counted(report.count, options)
    draw = {"reliability": plot.reliability, "histogram": plot.histogram, "position": plot.position}
    return draw[options.kind](report)


def _check_counted(count: int, options: argparse.Namespace) -> None:
    if not count:
        raise DataError(
            f"there is nothing to draw: no row of {options.logits} was counted; check it and the ignore index "
            f"{options.ignore_index}"
        )


def _save(ax: Axes, output: str) -> None:
    """Write the picture, which takes the place of an older one when it is whole."""
    from matplotlib import pyplot
    from matplotlib.figure import Figure

    figure = ax.figure
    assert isinstance(figure, Figure)
    ending = Path(output).suffix.lower()
    drawn = io.BytesIO()
    # Without the date, the same data give the same file.
    metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(ending, {})
    figure.savefig(drawn, format=ending[1:], dpi=_DOTS_PER_INCH, metadata=metadata)
    pyplot.close(figure)
    with whole(output) as temporary:
        temporary.write_bytes(drawn.getvalue())


def _stored(options: argparse.Namespace) -> Report:
    """Return the report of the state of a run."""
    if options.targets is not None:
        raise OptionError(f"{options.logits} is the state of a run, and takes no TARGETS; leave them out")
    if options.kind == "position":
        raise OptionError("the state of a run holds no positions; give the logits and the targets")
    if options.bins is not None:
        raise OptionError("the state of a run has its bins already; leave out --bins")
    if any(heads_of(options)):
        raise OptionError("the state of a run holds its scores already; leave out --head")
    check_output(options.output, "-o", [described("logits", options.logits, [options.logits])])
    state = State.read(options.logits)
    if state.command != "score":
        raise DataError(
            f"{options.logits} is the state of `crossent {state.command}`, expected `crossent score`"
        )
    if not state.complete:
        say(f"note: {options.logits} is of a run that is not complete, and so is the picture")
    total = state.total(options.logits)
    assert isinstance(total, Scorer)
    return total.result()


def _scored(options: argparse.Namespace) -> Report:
    """Score the rows of a file."""
    source = open_source(options, options.logits)
    targets = Targets(source, options)
    check_output(options.output, "-o", inputs_of(options, {"logits": source}))
    length = _length(source, options) if options.kind == "position" else None
    scorer = Scorer(
        ignore_index=options.ignore_index,
        top_k=(),
        bins=options.bins or 15,
        by_position=length is not None,
    )
    blocks = read_rows(source, targets, memory_of(options))
    with Bar(source, options) as bar, contextlib.closing(blocks):
        for rows in blocks:
            positions = None if length is None else (rows.places() % length).reshape(rows.target.shape)
            scorer._add(rows.values, rows.target, positions=positions, values=scored_as(source))
            bar.update(rows.count, lambda: f"perplexity {scorer.result().perplexity:.4g}")
    targets.check_end()
    say_notes(source)
    return scorer.result()


def _length(source: Source, options: argparse.Namespace) -> int:
    """Return the number of rows of a text."""
    *texts, length = source.row_shape
    if options.length is not None:
        return int(options.length)
    if not texts or length is None:
        raise OptionError(
            f"{source.name} has rows of shape {source.row_shape}, with no axis of positions; pass --length N, the "
            "number of rows of each text"
        )
    return max(length, 1)


class _Pairs(Comparing):
    """The scores of two files' rows, for a scatter of them: some 60 bytes a row."""

    def __init__(self, options: argparse.Namespace) -> None:
        options.reference = options.logits
        super().__init__(options)
        if self._targets is None:
            raise OptionError(f"{self.source.name} holds no targets; give a file of class indices after it")
        check_output(options.output, "-o", self.state.inputs)
        self._rows = 0
        self._parts: tuple[list[Scores], list[Scores]] = ([], [])

    @property
    def rows(self) -> int:
        """How many rows are scored."""
        return self._rows

    def add(self, p: Chunk, q: Chunk, stop: Stop) -> None:
        """Score some rows under both models."""
        scored = [
            score_rows(
                rows.values,
                p.target,
                self._options.ignore_index,
                None,
                -1,
                0,
                scored_as(source),
                [],
                keep_unrounded=False,
            )
            for rows, source in zip((p, q), self.sources, strict=True)
            if p.target is not None
        ]
        with stop.held():
            for parts, part in zip(self._parts, scored, strict=True):
                parts.append(part)
            self._rows += p.values.shape[0]

    def scores(self, stop: Stop) -> tuple[Scores, Scores]:
        """Read both files."""
        with Bar(self.source, self._options) as bar, contextlib.closing(self.steps(stop)) as steps:
            for rows in steps:
                bar.update(rows, str)
        say_notes(*self.sources)
        one, other = map(_joined, self._parts)
        return one, other


def _joined(parts: list[Scores]) -> Scores:
    """Put the scores of blocks one after the other."""
    if not parts:
        parts = [score(np.empty((0, 1), np.float32), np.empty(0, np.int64))]
    names = [field.name for field in fields(Scores) if getattr(parts[0], field.name) is not None]
    columns: dict[str, NDArray[Any]] = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in names
    }
    return Scores(**columns)
