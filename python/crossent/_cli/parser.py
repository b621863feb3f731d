"""The parser of a command line, whose errors name the option or the command that was likely meant."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from crossent._cli.output import flush, printable

_NUMBER = re.compile(r"-\.?\d")


class Parser(argparse.ArgumentParser):
    """The parser of all commands, or of one."""

    commands: dict[str, Parser]
    """All commands by name, for each of them too: what one lacks another may have."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.commands = {}

    def share_commands(self, commands: dict[str, Parser]) -> None:
        """Make the commands known to this parser and to those of the commands."""
        for parser in (self, *commands.values()):
            parser.commands = commands

    # argparse overloads this one; what it is called with here is this.
    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse, after a check of the options: argparse would name what is missing first, and not what is misspelt."""
        given = list(sys.argv[1:] if args is None else args)
        if self in self.commands.values():
            self._check_options(given)
        else:
            self._check_command(given)
        options, extra = super().parse_known_args(given, namespace)
        if extra:
            self.error(
                f"unrecognized arguments: {' '.join(extra)} (quote a pattern, as in 'logits-*.npy', so that the shell "
                "passes it on as it is)"
            )
        return options, extra

    def error(self, message: str) -> NoReturn:
        """Print the usage of the command and what is wrong, and exit."""
        self.print_usage(sys.stderr)
        stop = "" if message.endswith("?") else ";"
        self.exit(2, f"crossent: error: {message}{stop} see {self.prog} --help\n")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Exit, with all that was printed."""
        with contextlib.suppress(OSError):
            flush(sys.stdout)
        super().exit(status, message and "\n".join(map(printable, message.splitlines())) + "\n")

    # Commands

    def _check_command(self, args: Sequence[str]) -> None:
        """Raise for an option before the command that stands for one after it, and for a command that is none."""
        named = next((arg for arg in args if arg in self.commands), None)
        for arg in args:
            if not arg.startswith("-") or arg == "-":
                if arg not in self.commands:
                    self.error(f"{arg!r} is not a command; {self._likely_command(arg)}")
                return
            if not self._knows(arg):
                option = arg.partition("=")[0]
                owners = [name for name, parser in self.commands.items() if parser._knows(arg)]
                if owners:
                    owner = named if named in owners else owners[0]
                    self.error(f"{option} goes after the command: crossent {owner} ... {option}")
                parsers = [self.commands[named]] if named is not None else self.commands.values()
                nearest = _nearest(option, [own for parser in (self, *parsers) for own in parser._long()])
                self.error(f"unknown option {option}{_did_you_mean(nearest)}")

    def _likely_command(self, text: str) -> str:
        if os.path.lexists(text) or os.sep in text or re.search(r"\.\w+(:.*)?$", text):
            return f"for a file, name the command first, as in crossent score {text}"
        nearest = _nearest(text, self.commands)
        if nearest is not None:
            return f"did you mean {nearest}?"
        return f"there are {', '.join(self.commands)}"

    # Options

    def _check_options(self, args: Sequence[str]) -> None:
        """Raise for the first option that this command lacks."""
        before: str | None = None
        for arg in args:
            if arg == "--":
                return
            if not arg.startswith("-") or arg == "-" or " " in arg or _NUMBER.match(arg) or self._knows(arg):
                before = arg
                continue
            action = self._option_string_actions.get(before or "")
            if action is not None and action.nargs is None and not arg.startswith("--"):
                self.error(f"{before} needs a value; for one that begins with a dash write {before}={arg}")
            self.error(self._unknown(arg.partition("=")[0]))

    def _knows(self, arg: str) -> bool:
        name = arg.partition("=")[0]
        if name in self._option_string_actions:
            return True
        # -o FILE may be written -oFILE; -output is meant for --output.
        return (
            not arg.startswith("--")
            and arg[:2] in self._option_string_actions
            and f"-{name}" not in self._long()
        )

    def _unknown(self, option: str) -> str:
        nearest = _nearest(option, self._long())
        if nearest is None or _plain(nearest) != _plain(option):
            for name, parser in self.commands.items():
                for own in parser._long():
                    if _plain(own) == _plain(option):
                        return f"{self.prog} has no option {option}; crossent {name} has {own}"
        return f"unknown option {option}{_did_you_mean(nearest)}"

    def _long(self) -> list[str]:
        return [option for option in self._option_string_actions if option.startswith("--")]


def _did_you_mean(name: str | None) -> str:
    return "" if name is None else f"; did you mean {name}?"


def _plain(name: str) -> str:
    """Leave out how a name is spelt: dashes, underscores and capitals."""
    return re.sub(r"[-_]", "", name).casefold()


def _nearest(name: str, known: Iterable[str]) -> str | None:
    """Find the known name that was likely meant, if there is one."""
    by_plain = {_plain(one): one for one in known}
    plain = _plain(name)
    begun = [one for one in by_plain if plain and one.startswith(plain)]
    if len(begun) == 1:
        return by_plain[begun[0]]
    found = difflib.get_close_matches(plain, by_plain, n=1, cutoff=0.6)
    return by_plain[found[0]] if found else None
