"""Ctrl-C and SIGTERM: they end the work between two blocks' results, never within one."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any


class Stop:
    """Turns the signals that end a process into KeyboardInterrupt, but for the stretches that are `held`."""

    def __init__(self) -> None:
        self._number = signal.SIGINT
        self._held = self._asked = False

    @property
    def code(self) -> int:
        """The exit code that tells of the signal."""
        return 128 + self._number

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self._number = signal.Signals(number)
        if self._held:
            self._asked = True
        else:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let what is inside be done as a whole; a signal meanwhile is answered after it."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._asked:
            self._asked = False
            raise KeyboardInterrupt


@contextlib.contextmanager
def stopping() -> Iterator[Stop]:
    """Answer the signals while something runs. One that the process ignores stays ignored."""
    stop = Stop()
    before: dict[signal.Signals, Any] = {}
    try:
        for number, usual in (
            (signal.SIGINT, signal.default_int_handler),
            (signal.SIGTERM, signal.SIG_DFL),
        ):
            if signal.getsignal(number) is usual:
                with contextlib.suppress(ValueError):  # signals are the main thread's
                    before[number] = signal.signal(number, stop._handle)
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
