"""Runs over the rows of files: the bar, what ends a run, and states to go on from."""

from __future__ import annotations

import abc
import argparse
import contextlib
import json
import os
import shlex
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

from crossent._cli.files import (
    check_clash,
    check_writable,
    file_told,
    is_unchanged,
    names_taken,
    remedy,
)
from crossent._cli.locking import Lock
from crossent._cli.options import add_no_progress, output_file, seconds
from crossent._cli.output import DataError, print_result, reason, say
from crossent._cli.per_row import PerRow, per_row_names, remove_records
from crossent._cli.progress import Bar
from crossent._cli.reading import source_notes
from crossent._cli.state import State
from crossent._cli.stopping import Ended, Stop, stopping
from crossent._io import OptionError, Source
from crossent._scoring.comparer import Comparer
from crossent._scoring.scorer import Scorer

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
        """Return the figure so far that the bar shows."""

    @abc.abstractmethod
    def result(self) -> str:
        """Return the result so far, as it is printed."""

    @abc.abstractmethod
    def nothing_counted(self) -> str:
        """Return the error for no counted row, with the reason and what to check."""

    @property
    def sources(self) -> tuple[Source, ...]:
        """The files of rows."""
        return (self.source,)

    def notes(self) -> Iterator[str]:
        """Report how the files were read."""
        yield from source_notes(*self.sources)

    def sums(self) -> dict[str, Any]:
        """Return the sums so far, as JSON has them."""
        sums: dict[str, Any] = json.loads(self.total.to_json())
        return sums

    @property
    def rows(self) -> int:
        """How many rows the sums hold."""
        return self.total.rows


def drive(job: Job[Any], options: argparse.Namespace) -> int:
    """Run to the end and print the result, or what there is of it. Returns the exit code."""
    with stopping() as stop:
        run = _Run(job, options, stop)
        try:
            try:
                return run.go()
            finally:
                run.leave()
        except KeyboardInterrupt:  # a second one: the first is answered
            run.ended()
            run.leave()
            return stop.code


class _Run:
    """One run of a job: the files that it writes, and what it prints at its end."""

    def __init__(self, job: Job[Any], options: argparse.Namespace, stop: Stop) -> None:
        self.job, self.options, self.stop = job, options, stop
        self._path: str | None = options.resume
        self._command = shlex.join(["crossent", *options.argv])
        self._locks: list[Lock] = []
        self._saved: int | None = None
        """How many rows the state on the disk holds."""
        self._saved_whole = self._reading = self._warned = self._told = False
        if job.state.per_row is not None:
            job.state.per_row |= {"run": os.urandom(16).hex(), "written": None, "partial": None}

    def go(self) -> int:
        """Read the rows, and write and print the result."""
        stop = self.stop
        try:
            self._begin()
            if not self.job.state.complete:
                self._read()
            stop.finish()
        except Ended:
            raise
        except KeyboardInterrupt:
            stop.finish()
            self._interrupted()
            return stop.code
        except Exception as error:
            stop.finish()
            self._broken()
            if self._reading and self.job.rows and isinstance(error, OptionError):
                raise DataError(str(error)) from error  # what the data are, after so many rows of them
            raise
        failures = [] if self.job.state.complete else self._complete()
        self.leave()  # The reader of the result may be slow.
        try:
            code = self._tell()
        finally:
            for failure in failures:
                say(f"error: {failure}")
        return 1 if failures else code

    def leave(self) -> None:
        """Remove what nothing will go on from, and let others write."""
        per_row, self.job.per_row = self.job.per_row, None
        if per_row is not None:
            per_row.close(keep=self._keeps_state() and not self._saved_whole)
        while self._locks:
            self._locks.pop().close()

    # ---- the beginning --------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Check and lock the outputs, and take over the state that the run goes on from, if there is one."""
        job, path = self.job, self._path
        outputs = self._outputs()
        self._check_names(outputs)
        if path is not None and Path(path).exists() and not os.access(Path(path).absolute().parent, os.W_OK):
            self._take_over(path)  # One that is complete needs only to be read.
            if job.state.complete:
                return
        for output, option, names in outputs:
            check_writable(output, option, names)
        for output, option, names in outputs:
            self._locks.append(Lock(output, option, self.options.argv))
            self._locks[-1].clear(names)
        if path is not None and Path(path).exists():
            self._take_over(path)
        if job.state.complete:
            return
        if path is not None:
            job.state.try_writing(path)
        told = job.state.per_row
        if told is not None:
            job.per_row = PerRow(told["path"], told["columns"], job.source.dtype, told["run"], path, job.rows)

    def _outputs(self) -> list[tuple[str, str, list[str]]]:
        """List the files that are written, their options, and all names that are taken meanwhile."""
        outputs = []
        if self._path is not None:
            outputs.append((self._path, "--resume", names_taken(self._path)))
        if self.options.per_row is not None:
            outputs.append((self.options.per_row, "--per-row", per_row_names(self.options.per_row)))
        return outputs

    def _check_names(self, outputs: list[tuple[str, str, list[str]]]) -> None:
        """Raise where an output is an input, or two outputs are one."""
        for output, option, names in outputs:
            check_clash(output, option, self.job.state.inputs, names)
        if len(outputs) < 2:
            return
        one, two = ([os.path.normcase(os.path.realpath(name)) for name in names] for _, _, names in outputs)
        state, per_row = outputs[0][0], outputs[1][0]
        if one[0] == two[0]:
            raise OptionError(f"--resume and --per-row both name {state}; give them different names")
        if set(one) & set(two):
            raise OptionError(
                f"--resume {state} and --per-row {per_row} would write to the same names beside them (.tmp, .lock, "
                ".unfinished, .partial); give them different names"
            )

    def _take_over(self, path: str) -> None:
        """Go on from the state in a file."""
        job = self.job
        old = State.read(path)
        old.check_same(job.state, path)
        job.total, job.state = old.total(path), old
        if old.per_row is not None:
            old.per_row = {"run": "", "written": None, "partial": None, **old.per_row}
        self._saved, self._saved_whole = old.rows, old.complete
        if old.complete:
            self._check_written(path)
            say(f"note: {path} is of a run that is complete; this is its result")

    def _check_written(self, path: str) -> None:
        """Raise where the single rows of a complete run are not what it wrote; remove what it had no time to."""
        told = self.job.state.per_row
        if told is None:
            return
        written = told["written"]
        is_kept = Path(told["path"]).exists() if written is None else is_unchanged(written)
        if not is_kept:
            what = "has been changed since" if Path(told["path"]).exists() else "is gone"
            raise DataError(
                f"{path} is of a run that is complete, but its {told['path']} {what}; name another state and another "
                f"file to begin anew; `crossent merge {shlex.quote(path)}` prints the result"
            )
        remove_records(told["path"], told["run"])
        self._remove_part()

    # ---- the rows -------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Add up the rows, and write the state now and then."""
        job, stop = self.job, self.stop
        self._reading = True
        begun, cost = time.monotonic(), 0.0
        with (
            Bar(job.source, self.options, start=job.rows) as bar,
            contextlib.closing(job.steps(stop)) as steps,
        ):
            for rows in steps:
                bar.update(rows, job.figure)
                now = time.monotonic()
                if self._path is not None and now - begun >= max(self.options.save_every, cost / _SHARE):
                    with stop.held():
                        self._save_if_possible(self._path)
                    begun, cost = time.monotonic(), time.monotonic() - now

    def _save(self, path: str) -> None:
        """Write the state of what is done."""
        job = self.job
        if job.per_row is not None:
            job.per_row.sync()
        job.state.rows, job.state.sums = job.rows, job.sums()
        job.state.write(path)
        self._saved, self._saved_whole = job.rows, job.state.complete

    def _save_if_possible(self, path: str) -> None:
        """Write the state on the way; where that fails, the work is worth more."""
        try:
            self._save(path)
        except (OSError, MemoryError) as error:
            if not self._warned:
                say(f"warning: {path} could not be written: {reason(error)}; the run goes on without")
            self._warned = True
        else:
            self._warned = False

    # ---- the end of all rows --------------------------------------------------------------------------------

    def _complete(self) -> list[str]:
        """Write the files of a run whose rows are all done; returns what failed, and how to go on."""
        job, failures = self.job, []
        job.state.source = job.source.provenance()
        if self._path is not None and job.per_row is not None:
            with contextlib.suppress(Exception):  # It is written again after the rows, which may take long.
                self._save(self._path)
        rows_error = None if job.per_row is None else self._write_rows(job.per_row)
        job.state.complete = rows_error is None
        if self._path is not None:
            try:
                self._save(self._path)
            except Exception as error:  # noqa: BLE001  the result is worth more than any of them
                failures.append(
                    f"{self._path} could not be written: {reason(error)}; the result is complete, but its state is "
                    f"not kept: {remedy(error)}, and {self._way_on()}"
                )
        if rows_error is not None and job.per_row is not None:
            failures.append(self._save_rows(job.per_row, rows_error))
        if not failures:
            self._remove_part()
        job.state.complete = True  # The result is, whatever became of the files.
        return failures

    def _write_rows(self, per_row: PerRow) -> Exception | None:
        try:
            per_row.finish(self._shape())
            if self.job.state.per_row is not None:
                self.job.state.per_row["written"] = file_told(per_row.path)
        except Exception as error:  # noqa: BLE001  the result is worth more than any of them
            return error
        return None

    def _shape(self) -> tuple[int, ...]:
        return tuple(int(length or 0) for length in self.job.source.row_shape)

    def _save_rows(self, per_row: PerRow, error: Exception) -> str:
        """Keep the single rows where they could not be written to their file; returns what to print."""
        text = f"{per_row.path} could not be written: {reason(error)}"
        if self._keeps_state() and per_row.is_there():
            return f"{text}; its rows are kept in {per_row.unfinished}: {remedy(error)}, and {self._way_on()}"
        try:
            part = per_row.write_part(self.job.rows, None, self._shape())
        except Exception as other:  # noqa: BLE001  every error is reported
            return (
                f"{text}, nor another file beside it: {reason(other)}; the result is complete, but its single rows are "
                f"lost: {remedy(error)}, and run the command again"
            )
        return f"{text}; all of its rows are in {part}"

    def _remove_part(self) -> None:
        """Remove the rows so far that an interruption left, once the file with all of them is there."""
        told = self.job.state.per_row
        part = None if told is None else told["partial"]
        if part is not None and is_unchanged(part):
            with contextlib.suppress(OSError):
                Path(part["path"]).unlink()

    def _tell(self) -> int:
        """Print the result, or where it is kept if it cannot be printed."""
        job = self.job
        for note in job.notes():
            say(f"note: {note}")
        kept = None
        if self._saved_whole and self._keeps_state():
            kept = f"{self._path} holds all of it; the same command prints it: {self._command}"
        if print_result(job.result(), kept):
            return 1
        self._told = True
        if job.total.result().count == 0:
            say(f"error: {job.nothing_counted()}")
            return 1
        return 0

    def _keeps_state(self) -> bool:
        """Return whether the state of this run, or of its beginning, is on the disk."""
        return self._path is not None and self._saved is not None and Path(self._path).exists()

    def _way_on(self) -> str:
        """Return what the same command does next time."""
        if not self._keeps_state():
            return f"run it from the beginning: {self._command}"
        return f"go on from row {self._saved} with the same command: {self._command}"

    # ---- an end before --------------------------------------------------------------------------------------

    def _interrupted(self) -> None:
        """Print the result so far, and how to go on."""
        if not self._reading:
            known = "" if self._saved is None else f" that {self._path} lacks"
            say(f"interrupted before the first row{known} was {self.job.state.command}d")
            return
        self._tell_so_far("interrupted")
        if self._path is not None:
            self._keep(self._path, f"to go on: {self._command}")
        elif self.job.rows:
            say("it starts from the beginning next time; with --resume STATE.json it would go on")
        self._keep_rows()

    def _broken(self) -> None:
        """Print the result so far, before the error that ended the run."""
        if not self._reading or not self.job.rows:
            return
        self._tell_so_far("stopped by an error")
        if self._path is not None:
            self._keep(
                self._path,
                f"{self._path} holds it: `crossent merge {shlex.quote(self._path)}` prints it, and as long as the "
                f"files that are read stay the same, this goes on from there: {self._command}",
            )
        self._keep_rows()

    def _tell_so_far(self, what: str) -> None:
        job = self.job
        of = "" if job.source.rows is None else f" of {job.source.rows}"
        try:
            result = job.result()
        except Exception as error:  # noqa: BLE001  the state is to be kept, whatever it is
            result = f"(it cannot be printed: {reason(error)})"
        say(f"{what}: {job.rows}{of} rows {job.state.command}d; the result so far:", result)
        for note in source_notes(*job.sources):
            say(f"note: {note}")

    def _keep(self, path: str, told: str) -> None:
        """Write the state, and print what it is for."""
        try:
            self._save(path)
        except Exception as error:  # noqa: BLE001  every error is reported
            say(
                f"warning: {path} could not be written: {reason(error)}; {remedy(error)}, and {self._way_on()}"
            )
        else:
            say(told)

    def _keep_rows(self) -> None:
        """Write the single rows so far to a file of their own, and print its name."""
        per_row, told = self.job.per_row, self.job.state.per_row
        if per_row is None or told is None or not self.job.rows:
            return
        try:
            part = per_row.write_part(self.job.rows, told["partial"], None)
        except Exception as error:  # noqa: BLE001  every error is reported
            kept = self._keeps_state() and per_row.is_there()
            what = f"they stay in {per_row.unfinished} for the run to go on" if kept else "they are lost"
            say(
                f"warning: the rows so far could not be written beside {per_row.path}: {reason(error)}; {what}"
            )
            return
        say(f"the rows so far are in {part}")
        if self._path is not None and self._keeps_state():
            with contextlib.suppress(Exception):  # It is on the disk already, but for this name.
                told["partial"] = file_told(part)
                self._save(self._path)

    def ended(self) -> None:
        """Print, after a second signal, what is kept."""
        text = f"ended at once by {self.stop.name}"
        if self._told:
            say(f"{text}; the result was printed")
        elif self._saved_whole and self._keeps_state():
            say(f"{text}; {self._path} holds the result, and the same command prints it: {self._command}")
        else:
            say(f"{text}; next time {self._way_on()}")
            if self.job.state.source and self.job.rows:
                say(f"all rows were {self.job.state.command}d; the result is:", self.job.result())


def add_running(parser: argparse.ArgumentParser) -> None:
    """Add the options of long runs."""
    parser.add_argument(
        "--resume",
        type=output_file,
        metavar="STATE",
        help="a file to keep the state of the run in, from which the same command continues after an interruption",
    )
    parser.add_argument(
        "--save-every",
        type=seconds,
        default=30.0,
        metavar="SECONDS",
        help="how often to write that state (default 30)",
    )
    add_no_progress(parser)
