"""The parser of the whole command, and what becomes of the errors of its commands."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence

from crossent import _core
from crossent._cli import calibrate, compare, info, merge, plot, score
from crossent._cli.files import is_full, remedy
from crossent._cli.options import EXAMPLE
from crossent._cli.output import DataError, reason, say, warnings_told
from crossent._cli.parser import Parser
from crossent._io import OptionError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (default: the process's arguments) and return its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        options = _parser().parse_args(argv or ["--help"])
        options.argv = argv
        with warnings_told():
            return int(options.run(options))
    except KeyboardInterrupt:  # Commands print what they have; none had anything yet.
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


class _Version(argparse.Action):
    # The instruction set is asked for here and not when the parser is made: a variable may name none of this machine.
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        build = _core.build_info()
        sys.stdout.write(f"crossent {build['version']} ({build['isa']})\n")
        parser.exit()


def _new_parser() -> Parser:
    parser = Parser(
        prog="crossent",
        description="Score, compare, calibrate and plot saved logits.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "-V",
        "--version",
        action=_Version,
        nargs=0,
        help="print the version and the instruction set in use, and exit",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (score, compare, calibrate, plot, info, merge):
        command.add(commands)
    parser.share_commands(dict(commands.choices))
    return parser


# Made once: it keeps nothing of a command line, and takes longer to make than a small file to score.
_parser = functools.cache(_new_parser)
