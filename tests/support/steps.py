"""Something that happens while a command is at its rows: an error, a signal, a change of its files."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from crossent import _cli as cli
from crossent._cli import reading

Replace = Callable[[Any, str, Any], None]
"""`setattr`, or in the process of the tests `monkeypatch.setattr`."""


def before_call(
    owner: Any, name: str, number: int, action: Callable[[], object], replace: Replace = setattr
) -> Callable[[], int]:
    """Have something done once, before a function is called for the `number`th time; 1 is the first.

    Returns what tells how many calls there have been.
    """
    function, calls = getattr(owner, name), [0]

    def watched(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == number:
            action()
        return function(*arguments, **options)

    replace(owner, name, watched)
    return lambda: calls[0]


def before_block(number: int, action: Callable[[], object], replace: Replace = setattr) -> Callable[[], int]:
    """The same where a command has read the `number`th block, and begins to work on it.

    A command that reads two files, or a file twice, counts on.
    """
    return before_call(reading, "Rows", number, action, replace)


def blocks_of(*arguments: str) -> int:
    """How many blocks a command reads."""
    import pytest  # which takes long, and processes that wait for a signal need not load

    with pytest.MonkeyPatch.context() as patch:
        calls = before_block(0, lambda: None, patch.setattr)
        assert cli.main(list(arguments)) == 0
    return calls()


def raises(error: BaseException) -> Callable[..., None]:
    """An action that raises, or a function in place of another."""

    def action(*_: object) -> None:
        raise error

    return action


def wait(seconds: float = 60) -> None:
    """An action that tells that it is reached, and lasts; it needs a process of its own."""
    print("waiting", flush=True)
    # A signal that comes just before a sleep begins is answered after it: none is long.
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.05)


def wait_to_go_on() -> None:
    """The same, until a line comes from stdin."""
    print("waiting", flush=True)
    sys.stdin.readline()
