"""The progress bar of long work."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

from crossent._cli.options import memory_of
from crossent._cli.output import on_terminal, say
from crossent._io import Source

DELAY = 1.0
"""How many seconds of work pass before a bar is shown: one of less work would be gone before it is read."""


class Bar:
    """A bar of rows on stderr, where that is a terminal, the user wants one and the work is long.

    Before it stands a line on the rows, except where `what` names a part of the work.
    """

    def __init__(
        self, source: Source, options: argparse.Namespace, *, start: int = 0, what: str | None = None
    ) -> None:
        self._source, self._options, self._what, self._start = source, options, what, start
        self._wanted = not options.no_progress and on_terminal(sys.stderr)
        self._began, self._done = time.time(), 0
        self._bar: Any = None

    def update(self, rows: int, figure: Callable[[], str]) -> None:
        """Show that so many more rows are done, and the figure."""
        if not self._wanted:
            return
        self._done += rows
        if self._bar is None:
            if time.time() - self._began < DELAY:
                return
            self._bar, rows = self._shown(), self._done
        self._bar.set_postfix_str(figure(), refresh=False)
        self._bar.update(rows)

    def _shown(self) -> Any:
        """Show the line on the rows, and make a bar that began with the work."""
        from tqdm import tqdm

        if self._what is None:
            files = 1 if getattr(self._options, "other", None) is None else 2
            say(self._source.in_words(memory_of(self._options), files))
        bar = tqdm(
            desc=self._what,
            total=self._source.rows,
            initial=self._start,
            unit=" rows",
            unit_scale=True,
            file=sys.stderr,
            leave=False,
            dynamic_ncols=True,
            delay=DELAY,  # else it would be drawn here, without a row
        )
        bar.start_t = bar.last_print_t = self._began
        return bar

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
