"""The warnings of this package. Its errors are Python's own classes."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class LikelyMistakeWarning(UserWarning):
    """The arguments are allowed, but look like a mistake that changes the result.

    For example probabilities given as logits, or a batch in which every row is ignored. The result is what the
    arguments ask for nevertheless. To suppress the warning, use ``warnings.filterwarnings("ignore",
    category=crossent.LikelyMistakeWarning)``; to locate the call, use ``"error"`` instead of ``"ignore"``.

    See Also
    --------
    NothingCountedWarning : A mean over no rows.

    Examples
    --------
    >>> import warnings
    >>> import crossent
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     loss = crossent.cross_entropy([[0.1, 0.9]] * 8, [1] * 8)
    >>> caught[0].category.__name__
    'LikelyMistakeWarning'
    """


class NothingCountedWarning(LikelyMistakeWarning, RuntimeWarning):
    """A mean over no rows is nan: the batch is empty, or every row is ignored or masked.

    It is a RuntimeWarning too, as NumPy's own "Mean of empty slice" is, so that a filter for either class meets it.
    Where such batches are expected, as in a stream of padded sequences, suppress this warning alone with
    ``warnings.filterwarnings("ignore", category=crossent.NothingCountedWarning)``.

    See Also
    --------
    LikelyMistakeWarning : The other arguments that are allowed and look wrong.

    Examples
    --------
    >>> import warnings
    >>> import crossent
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     loss = crossent.cross_entropy([[0.5, 1.5]], [-100])
    >>> print(loss)
    nan
    >>> caught[0].category.__name__
    'NothingCountedWarning'
    """


_QUIET: ContextVar[bool] = ContextVar("_QUIET", default=False)

# The packages whose lines no warning names: this one, and torch, which calls modules and operators.
_SKIPPED = ("crossent", "torch")


def warn(text: str, category: type[Warning]) -> None:
    """Warn at the line of the caller; the compiled functions call this."""
    if _QUIET.get():
        return
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _is_skipped(frame.f_globals.get("__name__")):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)


def _is_skipped(module: str | None) -> bool:
    # torch.compile writes modules without a name.
    return module is None or module.partition(".")[0] in _SKIPPED


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the warnings of compiled functions, where an earlier call with these arguments gave them."""
    token = _QUIET.set(True)
    try:
        yield
    finally:
        _QUIET.reset(token)
