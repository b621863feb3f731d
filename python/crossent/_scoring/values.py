"""Rows of logits, log-probabilities or probabilities: a check that they look like it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from crossent import _core
from crossent._arguments import Values
from crossent._exceptions import LikelyMistakeWarning
from crossent._interop import ArrayInput


def look(
    rows: ArrayInput,
    target: ArrayInput | None,
    ignore_index: int,
    where: ArrayInput | None,
    axis: int,
    values: Values,
    mistakes: list[str],
    name: str = "logits",
) -> None:
    """Add a text to `mistakes` where the first rows look like something other than `values`."""
    if values == "probs":
        return  # Every probability is checked.
    log_probs = values == "log_probs"
    found = _core.likely_mistake(rows, target, ignore_index, where, axis, log_probs, name)
    if found == "one class":
        mistakes.append(
            f"{name} has one class only, and its probability is always 1; is the class axis right (axis=)?"
        )
    elif found == "positive":
        mistakes.append(
            f'{name} holds positive numbers, and log-probabilities have none; for logits pass values="logits"'
        )
    elif found is not None:
        what = "log-probabilities" if log_probs else "logits"
        mistakes.append(
            f"{name} looks like probabilities (from 0 to 1, rows summing to 1), and is read as {what}; for "
            'probabilities pass values="probs"'
        )


def tell(mistakes: Sequence[str], stacklevel: int = 3) -> None:
    """Warn of likely mistakes, at the line that called the public function that calls this one."""
    for mistake in mistakes:
        warnings.warn(mistake, LikelyMistakeWarning, stacklevel=stacklevel)
