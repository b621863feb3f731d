"""The parser of the whole command, and what becomes of the errors of its commands."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from crossent import __version__
from crossent.cli import calibrate, compare, info, merge, plot, score
from crossent.cli.files import is_full, remedy
from crossent.cli.options import EXAMPLE
from crossent.cli.output import DataError, flush, printable, reason, say, warnings_told
from crossent.io import OptionError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized arguments") and "--" not in message:
            message += " (quote a pattern, as in 'logits-*.npy', for the shell to hand it on whole)"
        self.print_usage(sys.stderr)
        self.exit(2, f"crossent: error: {message}; see crossent --help\n")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        with contextlib.suppress(OSError):
            flush(sys.stdout)
        super().exit(status, message and "".join(map(printable, message.splitlines())) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (default: the process's arguments) and return its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    options = _parser().parse_args(argv)
    options.argv = argv
    try:
        with warnings_told():
            return int(options.run(options))
    except KeyboardInterrupt:  # Commands tell what they have; none had anything yet.
        say("interrupted before there was a result")
        return 130
    except BrokenPipeError:
        return 1
    except OptionError as error:
        say(f"error: {error}")
        return 2
    except MemoryError:
        say("error: not enough memory for one block of rows; free some, or pass a smaller --memory")
        return 1
    except OSError as error:
        if error.filename is None:
            say(f"error: reading or writing failed: {reason(error)}; check where the output goes")
        else:
            fix = remedy(error) if is_full(error) else "check the path and its permissions"
            say(f"error: {error.filename}: {reason(error)}; {fix}")
        return 1
    except (DataError, ValueError, TypeError, IndexError, OverflowError, Warning) as error:
        say(f"error: {error}")
        return 1
    except Exception as error:  # noqa: BLE001  a command shows no traceback
        say(f"error: unexpected {type(error).__name__}: {error}; please report it")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="crossent",
        description="Scores, comparisons and calibration of stored logits.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"crossent {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (score, compare, calibrate, plot, info, merge):
        command.add(commands)
    return parser
