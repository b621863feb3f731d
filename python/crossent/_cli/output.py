"""What the commands print: results to stdout, talk to stderr."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from crossent import __version__, _core
from crossent._exceptions import LikelyMistakeWarning


class DataError(Exception):
    """Files that cannot be scored: exit code 1."""


def printable(text: str) -> str:
    """Write what a terminal would not print, or would act on, as escapes: names in files may hold anything."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def table(lines: Iterable[tuple[str, str]]) -> str:
    """Lay out names and values in two columns."""
    lines = list(lines)
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines)


def to_json(content: dict[str, Any]) -> str:
    """Write one JSON object; nan and the infinities, which JSON lacks, become null and are named in `notes`."""
    notes = [f"{name} is {value}, written as null" for name, value in _lost(content)]
    return json.dumps({**_without_nan(content), "notes": notes}, indent=2, allow_nan=False)


def _lost(content: dict[str, Any], before: str = "") -> Iterator[tuple[str, float]]:
    """Find the figures that JSON lacks; those in lists, such as the means of empty bins, are not named."""
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _lost(value, f"{before}{name}.")
        elif isinstance(value, float) and not math.isfinite(value):
            yield f"{before}{name}", value


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def made_by() -> dict[str, Any]:
    """Return what the figures were computed with."""
    return {
        "version": __version__,
        "isa": _core.build_info()["isa"],
        "threads": _core.get_num_threads(),
    }


@contextlib.contextmanager
def warnings_told() -> Iterator[None]:
    """Print warnings on stderr, each once; those of likely mistakes whatever filters there are.

    What a library says of its own future is for those who write programs with it, and not printed.
    """
    told = set()

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        text = str(message)
        if not issubclass(category, DeprecationWarning | PendingDeprecationWarning) and text not in told:
            told.add(text)
            say(f"note: {text}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        warnings.simplefilter("always", LikelyMistakeWarning)
        yield


def say(text: str, below: str | None = None) -> None:
    """Print a line on stderr, if that is open; `below` it, a table."""
    lines = printable(f"crossent: {text}")
    with contextlib.suppress(OSError):
        write(sys.stderr, lines if below is None else f"{lines}\n{below}")


def write(stream: TextIO | None, text: str) -> None:
    """Write a line, now."""
    if stream is None:
        raise OSError("the output stream is closed")
    try:
        stream.write(text + "\n")
    except UnicodeEncodeError:  # a name, or a sign, that the encoding of the stream lacks
        stream.write(text.encode(stream.encoding, "backslashreplace").decode(stream.encoding) + "\n")
    flush(stream)


def print_result(result: str, kept: str | None = None) -> int:
    """Print a result on stdout, and return the exit code.

    Where stdout is full or closed, the result is printed on stderr, or else where it is `kept`.
    """
    try:
        write(sys.stdout, result)
    except OSError as error:
        say(f"error: reading or writing failed: {reason(error)}; the result could not be printed on stdout")
        if kept is None:
            say("the result is:", result)
        else:
            say(kept)
        return 1
    return 0


def reason(error: BaseException) -> str:
    """Return in a few words why something failed."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, MemoryError):
        return "not enough memory"
    return str(error) or type(error).__name__


def flush(stream: TextIO | None) -> None:
    """Flush, so that a full disk or a closed pipe is noticed here, and not when the interpreter exits."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise


def on_terminal(stream: TextIO | None) -> bool:
    """Return whether a stream is a terminal."""
    return stream is not None and stream.isatty()
