"""`crossent compare`: how far a model's logits are from a reference's."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossent import _core
from crossent._cli.files import inputs_of
from crossent._cli.options import (
    Subparsers,
    add_command,
    add_head,
    add_json,
    add_memory,
    add_reading,
    add_tables,
    add_targets,
    deciding,
    input_file,
    memory_of,
)
from crossent._cli.output import DataError, made_by, table, to_json
from crossent._cli.reading import Targets, open_source, read_rows
from crossent._cli.running import Job, add_running, drive
from crossent._cli.state import State, clamped_counts
from crossent._cli.stopping import Stop
from crossent._io import HiddenSource, Source
from crossent._scoring.comparer import Comparer
from crossent._scoring.side_by_side import Chunk, Chunks

_EXAMPLE = """\
examples:
  crossent compare full.npy quantised.npy targets.npy
  crossent compare hidden.npy hidden.npy t.npy --head p.npy --other-head q.npy

  # llama.cpp's --kl-divergence-base files hold their targets
  crossent compare base.kld quantised.kld
  # without targets: the divergences alone
  crossent compare full.npy quantised.npy

Both files have rows of the same shape; formats and dtypes may differ. Without
TARGETS, those that REFERENCE holds are taken, if it holds any. A file holds
hidden states if its --head or --other-head is given, else logits.
exit codes: 0 a result, 1 bad data, 2 bad usage, 130 interrupted
"""


def add(commands: Subparsers) -> None:
    """Add the command to those of the parser."""
    parser = add_command(
        commands,
        "compare",
        run,
        help="compare the logits of two models, row by row",
        description="Measure how far a model Q is from a reference P on the same rows.",
        epilog=_EXAMPLE,
    )
    parser.set_defaults(per_row=None)
    parser.add_argument(
        "reference", type=input_file, metavar="REFERENCE", help="file or pattern: the logits of P"
    )
    parser.add_argument("other", type=input_file, metavar="OTHER", help="file or pattern: the logits of Q")
    add_targets(parser, "REFERENCE")
    add_reading(parser)
    add_tables(parser)
    add_running(parser)
    add_memory(parser)
    add_json(parser)
    add_head(parser, "REFERENCE", "OTHER")


def run(options: argparse.Namespace) -> int:
    """Compare the files and print the result."""
    return drive(Comparing(options), options)


class Comparing(Job[Comparer]):
    """The comparison of two files."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Open the files, and check what can be checked before they are read."""
        self._options = options
        self.source = open_source(options, options.reference)
        self._other = open_source(options, options.other, like=self.source)
        self._check_shapes()
        self._targets = Targets.if_any(self.source, options, options.reference)
        inputs = inputs_of(options, {"reference": self.source, "other": self._other})
        self.state = State("compare", inputs, deciding(options))
        self.total = Comparer(ignore_index=options.ignore_index)

    def _check_shapes(self) -> None:
        ours, theirs = self.source, self._other
        if ours.classes != theirs.classes:
            raise DataError(
                f"{theirs.name} has {theirs.classes} classes, and {ours.name} has {ours.classes}; both need the same "
                f"vocabulary{self._lacks_head()}"
            )
        if None not in (ours.rows, theirs.rows) and ours.row_shape != theirs.row_shape:
            raise DataError(
                f"{theirs.name} has rows of shape {theirs.row_shape}, and {ours.name} of {ours.row_shape}; check that "
                "both come from the same run"
            )

        mine, own = ours.targets, theirs.targets
        if self._options.targets is None and mine is not None and own is not None:
            for at in range(0, mine.shape[0], 1 << 16):
                part = (slice(at, at + (1 << 16)),)
                differs = np.flatnonzero((mine[part] != own[part]).reshape(-1))
                if differs.size:
                    place = at * (mine.size // mine.shape[0]) + int(differs[0])
                    raise DataError(
                        f"{ours.name} and {theirs.name} hold different targets, row {place} the first; check that both "
                        "come from the same text"
                    )

    def _lacks_head(self) -> str:
        """Return the fix where one file holds hidden states, and the other may hold such too."""
        pairs = ((self.source, self._other, "--other-head"), (self._other, self.source, "--head"))
        for hidden, logits, option in pairs:
            if not isinstance(hidden, HiddenSource) or isinstance(logits, HiddenSource):
                continue
            if logits.classes == hidden.width:
                return f"; if {logits.name} holds hidden states too, pass {option} with their output matrix"
        return ""

    def _check_targets(self, p: Chunk, q: Chunk) -> None:
        """Raise where both files hold targets, and they differ: then the rows are not the same."""
        if self._options.targets is not None or p.target is None or q.target is None:
            return
        differs = np.flatnonzero(p.target != q.target)
        if differs.size:
            row = self.rows + int(differs[0])
            raise DataError(
                f"{self.source.name} and {self._other.name} hold different targets, row {row} the first; check "
                "that both have the same rows in the same order"
            )

    @property
    def sources(self) -> tuple[Source, Source]:
        """The reference and the other."""
        return self.source, self._other

    def figure(self) -> str:
        """Return nothing: the percentiles of a result need a sort."""
        return ""

    def steps(self, stop: Stop) -> Generator[int, None, None]:
        """Compare chunk after chunk of rows that both files have at hand."""
        memory = memory_of(self._options) // 2
        with contextlib.ExitStack() as stack:
            chunks = []
            for source, targets in zip(self.sources, (self._targets, None), strict=True):
                blocks = read_rows(source, targets, memory, self.rows)
                stack.enter_context(contextlib.closing(blocks))
                chunks.append(Chunks(rows.chunk() for rows in blocks))
            ours, theirs = chunks
            while (count := min(ours.left(), theirs.left())) > 0:
                p, q = ours.take(count), theirs.take(count)
                if (p.places != q.places).any():
                    raise DataError(
                        f"{self.source.name} and {self._other.name} hold their rows in different orders; write both "
                        "in C order, with numpy.ascontiguousarray"
                    )
                self._check_targets(p, q)
                self.add(p, q, stop)
                yield count
            for longer, shorter, left in (
                (self.source, self._other, ours.left()),
                (self._other, self.source, theirs.left()),
            ):
                if left:
                    raise DataError(
                        f"{shorter.name} ends after {self.rows} rows, and {longer.name} does not; check that both come "
                        "from the same run"
                    )
        if self._targets is not None:
            self._targets.check_end()

    def add(self, p: Chunk, q: Chunk, stop: Stop) -> None:
        """Compare some rows."""
        ignored = self._options.ignore_index
        part = Comparer(ignore_index=ignored)
        # What the numbers look like has been checked for the files; a softmax makes log-probabilities of any kind.
        part._add(p.values, q.values, p.target, "logits")
        counted = None
        if p.target is not None and not (p.clamped is None and q.clamped is None):
            counted = _core.active_rows(p.values, p.target, ignored, None, -1, "logits")
        with stop.held():
            self.total.merge(part)
            self.state.clamped = _more(self.state.clamped, p.clamped, counted)
            self.state.other_clamped = _more(self.state.other_clamped, q.clamped, counted)

    def notes(self) -> Iterator[str]:
        """Report how the files were read, and what to be careful about."""
        yield from super().notes()
        state, count = self.state, self.total.result().count
        clamped = [
            f"{number} of {count} counted targets of {name}"
            for number, name in (
                (state.clamped, self._options.reference),
                (state.other_clamped, self._options.other),
            )
            if number
        ]
        if clamped:
            yield (
                f"{' and '.join(clamped)} are stored as 16 nats below the largest logit, the least that llama.cpp "
                "keeps; their losses may have been larger, so figures of the NLL and of perplexities are wrong, and "
                "the sign of ln(PPL(Q) / PPL(P)) may be"
            )

    def nothing_counted(self) -> str:
        """Return the error for no counted row, with what to check."""
        options = self._options
        return f"no row was counted; check {options.reference} and the ignore index {options.ignore_index}"

    def result(self) -> str:
        """Return the table or the JSON object of what is compared."""
        comparison = self.total.result()
        if not self._options.json:
            return table(comparison._lines())
        state, options = self.state, self._options
        content: dict[str, Any] = {**comparison.to_dict(), **clamped_counts(state)}
        content |= {"complete": state.complete, **made_by()}
        content |= {"reference": options.reference, "other": options.other}
        for source, name in zip(self.sources, ("reference", "other"), strict=True):
            if isinstance(source, HiddenSource):
                content[f"{name}_head"] = source.head_told()
        content |= {"targets": None if self._targets is None else self._targets.name}
        content |= {"ignore_index": options.ignore_index, "inputs": state.inputs}
        return to_json(content)


def _more(
    count: int | None, clamped: NDArray[np.bool_] | None, counted: NDArray[np.bool_] | None
) -> int | None:
    """Add the clamped targets of some rows to those before, where the file tells them."""
    if clamped is None or counted is None:
        return count
    return (count or 0) + int(np.count_nonzero(clamped & counted))
