"""The progress bar of long work."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from crossent.cli.output import say
from crossent.cli.tally import Tally
from crossent.io import Source


def drain(blocks: Iterable[int], tally: Tally, source: Source, *, show: bool) -> None:
    """Run the blocks, with a progress bar on stderr if wanted."""
    if not show:
        for _ in blocks:
            pass
        return
    from tqdm import tqdm

    rows = source.rows
    size = "" if rows is None else f", {rows * source.classes * source.dtype.itemsize / 1e6:,.1f} MB"
    count = "rows" if rows is None else f"{rows:,} rows"
    say(f"{count} of {source.classes:,} classes, {source.dtype}{size}")
    with tqdm(
        total=rows, unit=" rows", unit_scale=True, file=sys.stderr, leave=False, dynamic_ncols=True
    ) as bar:
        for done in blocks:
            bar.set_postfix_str(f"perplexity {tally.perplexity:.4g}", refresh=False)
            bar.update(done)
