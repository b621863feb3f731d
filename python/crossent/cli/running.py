"""Runs over the rows of files: the bar, interruptions, and states to go on from."""

from __future__ import annotations

import abc
import argparse
import contextlib
import json
import shlex
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, Generic, TypeVar

from crossent.cli.files import check_output
from crossent.cli.options import add_no_progress, output_file, seconds
from crossent.cli.output import DataError, say
from crossent.cli.per_row import PerRow
from crossent.cli.progress import Bar
from crossent.cli.state import State
from crossent.cli.stopping import Stop, stopping
from crossent.comparing import Comparer
from crossent.io import OptionError, Source
from crossent.report import Scorer

# A state takes no more than this part of the time.
_SHARE = 0.02


# What a job adds up in.
Total = TypeVar("Total", Scorer, Comparer)


class Job(abc.ABC, Generic[Total]):
    """What a command adds up over the blocks of rows of its files."""

    state: State
    source: Source
    total: Total
    per_row: PerRow | None = None

    @abc.abstractmethod
    def steps(self, stop: Stop) -> Generator[int, None, None]:
        """Add block after block, from the row on where the state stands, and give the number of rows of each."""

    @abc.abstractmethod
    def figure(self) -> str:
        """Give the figure so far that the bar shows."""

    @abc.abstractmethod
    def result(self) -> str:
        """Give the result so far, as it is printed."""

    def sums(self) -> dict[str, Any]:
        """Give the sums so far, as JSON has them."""
        sums: dict[str, Any] = json.loads(self.total.to_json())
        return sums

    def restore(self, sums: dict[str, Any]) -> None:
        """Go on from such sums."""
        self.total = type(self.total).from_json(json.dumps(sums))

    @property
    def rows(self) -> int:
        """How many rows the sums hold."""
        return self.total.rows


def begin(job: Job[Any], options: argparse.Namespace) -> None:
    """Check the outputs, and take over the state that the run goes on from, if there is one."""
    state, path = job.state, options.resume
    if path is not None:
        check_output(path, "--resume", state.inputs)
    if options.per_row is not None:
        check_output(options.per_row, "--per-row", state.inputs)
        if path is not None and Path(path).absolute() == Path(options.per_row).absolute():
            raise OptionError(f"--resume and --per-row both name {path}; give them different names")
    if path is not None and Path(path).exists():
        old = State.read(path)
        old.check_same(state, path)
        job.state = old
        try:
            job.restore(old.sums)
        except ValueError as error:
            raise DataError(f"{path} is damaged: {error}; name another state to begin anew") from error
    if job.state.complete and options.per_row is not None and not Path(options.per_row).exists():
        raise DataError(
            f"{path} is of a run that is complete, but its {options.per_row} is gone; name another state to begin anew"
        )
    if state.per_row is not None and not job.state.complete:
        job.per_row = PerRow(options.per_row, state.per_row["columns"], job.source.dtype, job.rows)


def drive(job: Job[Any], options: argparse.Namespace) -> int:
    """Run to the end. Returns 0; or the exit code of an interruption, when the result so far has been told."""
    if job.state.complete:
        say(f"note: {options.resume} is of a run that is complete; this is its result")
        return 0
    begun, cost = time.monotonic(), 0.0
    with stopping() as stop:
        try:
            with (
                Bar(job.source, options, start=job.rows) as bar,
                contextlib.closing(job.steps(stop)) as steps,
            ):
                for rows in steps:
                    bar.update(rows, job.figure)
                    now = time.monotonic()
                    if options.resume is not None and now - begun >= max(options.save_every, cost / _SHARE):
                        with stop.held():
                            save_if_possible(job, options)
                        begun, cost = time.monotonic(), time.monotonic() - now
            with stop.held():
                complete(job, options)
        except KeyboardInterrupt:
            if _is_done(job):  # It came while the last was written.
                return 0
            with stop.held():
                interrupted(job, options)
            return stop.code
        except Exception:
            if options.resume is not None and job.rows:
                save_if_possible(job, options)
            raise
        finally:
            if job.per_row is not None:
                job.per_row.close()
    return 0


def _is_done(job: Job[Any]) -> bool:
    return job.state.complete


def save(job: Job[Any], options: argparse.Namespace) -> None:
    """Write the state of what is done."""
    if job.per_row is not None:
        job.per_row.flush()
    job.state.rows, job.state.sums = job.rows, job.sums()
    job.state.write(options.resume)


def save_if_possible(job: Job[Any], options: argparse.Namespace) -> None:
    """Write the state; where that fails, the work is worth more."""
    try:
        save(job, options)
    except OSError as error:
        say(
            f"warning: {options.resume} could not be written: {error.strerror or error}; the run goes on without"
        )


def complete(job: Job[Any], options: argparse.Namespace) -> None:
    """Write the files of a run whose rows are all done."""
    job.state.source = job.source.provenance()
    if job.per_row is not None:
        job.per_row.finish(tuple(int(length or 0) for length in job.source.row_shape))
    job.state.complete = True
    if options.resume is not None:
        save(job, options)
    if job.per_row is not None:
        job.per_row.remove_unfinished()


def interrupted(job: Job[Any], options: argparse.Namespace) -> None:
    """Tell the result so far, and how to go on."""
    of = "" if job.source.rows is None else f" of {job.source.rows}"
    say(f"interrupted: {job.rows}{of} rows {job.state.command}d; the result so far:\n{job.result()}")
    if options.resume is not None:
        save(job, options)
        say(f"to go on: {shlex.join(['crossent', *options.argv])}")
    elif job.rows:
        say("it starts from the beginning next time; with --resume STATE.json it would go on")
    if job.per_row is not None:
        part = job.per_row.write_part(job.rows)
        say(f"the rows so far are in {part}")
        if options.resume is None:
            job.per_row.remove_unfinished()


def add_running(parser: argparse.ArgumentParser) -> None:
    """Add the options of long runs."""
    parser.add_argument(
        "--resume",
        type=output_file,
        metavar="STATE",
        help="a file to keep the state of the run in, from which the same command goes on after an interruption",
    )
    parser.add_argument(
        "--save-every",
        type=seconds,
        default=30.0,
        metavar="SECONDS",
        help="how often to write that state (default 30)",
    )
    add_no_progress(parser)
