"""The progress bar of long work."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from crossent._cli.options import memory_of
from crossent._cli.output import on_terminal, say
from crossent._io import Source


class Bar:
    """A bar of rows on stderr, where that is a terminal and the user wants one."""

    def __init__(
        self, source: Source, options: argparse.Namespace, *, start: int = 0, what: str | None = None
    ) -> None:
        self._bar: Any = None
        if options.no_progress or not on_terminal(sys.stderr):
            return
        from tqdm import tqdm

        rows = source.rows
        if what is None:
            files = 1 if getattr(options, "other", None) is None else 2
            say(source.in_words(memory_of(options), files))
        self._bar = tqdm(
            desc=what,
            total=rows,
            initial=start,
            unit=" rows",
            unit_scale=True,
            file=sys.stderr,
            leave=False,
            dynamic_ncols=True,
        )

    def update(self, rows: int, figure: Callable[[], str]) -> None:
        """Show that so many more rows are done, and the figure."""
        if self._bar is not None:
            self._bar.set_postfix_str(figure(), refresh=False)
            self._bar.update(rows)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
