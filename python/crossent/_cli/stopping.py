"""Ctrl-C, SIGTERM and SIGHUP: the first ends the work between two blocks' results, a second ends it at once."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

# `timeout` and some batch systems send a signal to the process and to its group: two at once are one request.
_AT_ONCE = 0.1  # seconds


class Ended(KeyboardInterrupt):
    """A second signal: nothing more is written."""


class Stop:
    """Turns the signals that end a process into KeyboardInterrupt, but for the time that they are `held`.

    A second signal raises `Ended` wherever it comes, and a third ends the process.
    """

    def __init__(self) -> None:
        self._number = signal.SIGINT
        self._held = self._asked = self._finishing = self._ended = False
        self._first: float | None = None

    @property
    def code(self) -> int:
        """The exit code for the signal."""
        return 128 + self._number

    @property
    def name(self) -> str:
        """The name of the signal."""
        return self._number.name

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first, self._number = now, signal.Signals(number)
            if self._finishing:
                self._tell(
                    f"{self.name}: the last files are being written; a second signal ends this at once"
                )
            elif self._held:
                self._asked = True
            else:
                raise KeyboardInterrupt
            return
        if now - self._first < _AT_ONCE:
            return
        self._number = signal.Signals(number)
        if self._ended:
            os._exit(self.code)
        self._ended = True
        raise Ended

    @staticmethod
    def _tell(text: str) -> None:
        """Write to stderr; not by its stream, which the program may be in the middle of writing to."""
        with contextlib.suppress(OSError):
            os.write(2, f"crossent: {text}\n".encode())

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let what is inside be done as a whole; a first signal meanwhile is answered after it."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._asked:
            self._asked = False
            raise KeyboardInterrupt

    def finish(self) -> None:
        """Let all that comes now be done, unless a second signal ends it."""
        self._finishing = True


@contextlib.contextmanager
def stopping() -> Iterator[Stop]:
    """Answer the signals while something runs. One that the process ignores stays ignored."""
    stop = Stop()
    before: dict[signal.Signals, Any] = {}
    try:
        for name, usual in (
            ("SIGINT", signal.default_int_handler),
            ("SIGTERM", signal.SIG_DFL),
            ("SIGHUP", signal.SIG_DFL),  # the terminal is closed; Windows has none
        ):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is usual:
                with contextlib.suppress(ValueError):  # signals are the main thread's
                    before[number] = signal.signal(number, stop._handle)
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
