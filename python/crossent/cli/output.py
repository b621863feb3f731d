"""What the commands print: results to stdout, talk to stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, TextIO


class DataError(Exception):
    """Files that cannot be scored: exit code 1."""


def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Tell a warning on stderr: what `warnings.showwarning` is set to."""
    say(f"warning: {message}")


def say(text: str) -> None:
    """Tell something on stderr, if anybody can hear it."""
    with contextlib.suppress(OSError):
        write(sys.stderr, f"crossent: {text}")


def write(stream: TextIO | None, text: str) -> None:
    """Write a line, now."""
    if stream is None:
        raise OSError("the output stream is closed")
    stream.write(text + "\n")
    flush(stream)


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
    """Say whether a stream is a terminal."""
    return stream is not None and stream.isatty()
