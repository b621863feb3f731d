"""The options that commands share, and the types of their values."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from typing import Any, Protocol

from crossent._io import RAW_DTYPES, RAW_TARGET_DTYPES, VALUES, Head, OptionError
from crossent.blocks import MEMORY

# An output matrix that takes no more than half of it is read once; and the more rows of logits there are at a time, the
# faster they are computed. What is not needed is not taken.
_HEAD_MEMORY = 1 << 30
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgt]?)(?:i?b)?", re.IGNORECASE)


class Subparsers(Protocol):
    """Where commands are added: what `ArgumentParser.add_subparsers` returns."""

    def add_parser(self, name: str, **options: Any) -> argparse.ArgumentParser:
        """Add a command."""


EXAMPLE = """\
example, in Python and then in the shell:
  numpy.save("logits.npy", numpy.zeros((1000, 50), "float32"))
  numpy.save("targets.npy", numpy.arange(1000) % 50)

  crossent score logits.npy targets.npy
  crossent score logits.npy targets.npy --per-row scores.csv --json
  crossent score hidden.npy targets.npy --head model.safetensors:lm_head.weight

  # again after an interruption
  crossent score logits.npy targets.npy --resume state.json
  # targets in a column of a table
  crossent score logits.npy labels.csv:label

LOGITS holds one row of unnormalised scores (float16, bfloat16, float32,
float64) for each class index in TARGETS. A file is .npy, .npz, .safetensors,
HDF5 (.h5), Zarr (a folder), torch.save's (.pt), raw numbers (--dtype,
--classes), what llama.cpp writes with --kl-divergence-base, or a table (.csv,
.parquet, .arrow, .feather). The last two kinds hold their targets, and a table
may also be the TARGETS. FILE:KEY names an array of a file that holds several,
or the column of targets in a table. A quoted pattern such as 'logits-*.npy'
names files to read in the order of their numbers.
exit codes: 0 a result, 1 bad data, 2 bad usage, 130 interrupted
"""


# What decides how files are read, and so the result.
_READING = (
    "ignore_index", "axis", "dtype", "classes", "target_dtype", "values", "label", "columns", "strip_prefix",
)  # fmt: skip


def add_command(
    commands: Subparsers, name: str, run: Callable[[argparse.Namespace], int], **texts: str
) -> argparse.ArgumentParser:
    """Add a command with its texts for `help`, `description` and `epilog`; `run` runs it."""
    parser = commands.add_parser(
        name, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **texts
    )
    parser.set_defaults(run=run)
    return parser


def deciding(options: argparse.Namespace, *more: str) -> dict[str, Any]:
    """Return the options that decide the result, `more` among them, by their names on the command line."""
    names = (*_READING, *more, *(("softcap", "scale") if any(heads_of(options)) else ()))
    return {name.replace("_", "-"): getattr(options, name) for name in names}


def add_files(parser: argparse.ArgumentParser) -> None:
    """Add the files of logits and of targets."""
    parser.add_argument(
        "logits",
        metavar="LOGITS",
        type=input_file,
        help="file or pattern: rows of logits, any number of axes",
    )
    add_targets(parser, "LOGITS")


def add_targets(parser: argparse.ArgumentParser, holder: str) -> None:
    """Add the file of targets, and what goes with it."""
    parser.add_argument(
        "targets",
        metavar="TARGETS",
        nargs="?",
        type=input_file,
        help="file or pattern: class indices, shaped as the logits without the class axis, or FILE:COLUMN "
        f"of a table; leave out where {holder} holds them",
    )
    parser.add_argument(
        "--ignore-index",
        type=int64,
        default=-100,
        metavar="I",
        help="leave out rows with this target (default -100)",
    )
    parser.add_argument(
        "--target-dtype",
        choices=RAW_TARGET_DTYPES,
        metavar="DTYPE",
        help="the dtype of raw targets: i32, i64, ...",
    )


def add_tables(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what the numbers of a file are."""
    parser.add_argument(
        "--values",
        choices=VALUES,
        help="what the numbers are (default: logits; probs in tables)",
    )
    add_columns(parser)


def add_columns(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which columns of a table are what."""
    parser.add_argument("--label", metavar="NAME", help="the column of labels in a table")
    parser.add_argument(
        "--columns",
        metavar="NAMES",
        help="the columns of the classes in a table: names or patterns, commas between them",
    )
    parser.add_argument(
        "--strip-prefix",
        metavar="P",
        help="in a table, the classes are columns that begin with P, and labels name them without it",
    )


def add_memory(parser: argparse.ArgumentParser) -> None:
    """Add the bound of memory."""
    parser.add_argument(
        "--memory",
        type=memory,
        metavar="SIZE",
        help=f"about how much memory to use (default {MEMORY >> 20}M; with --head {_HEAD_MEMORY >> 30}G)",
    )


def memory_of(options: argparse.Namespace) -> int:
    """Return how many bytes to use."""
    if options.memory is not None:
        return int(options.memory)
    return _HEAD_MEMORY if any(heads_of(options)) else MEMORY


def add_no_progress(parser: argparse.ArgumentParser) -> None:
    """Add the option of no bar."""
    parser.add_argument("--no-progress", action="store_true", help="show no progress bar")


def add_json(parser: argparse.ArgumentParser, what: str = ", with the origin of the figures") -> None:
    """Add the option of a result for programs."""
    parser.add_argument("--json", action="store_true", help=f"print one JSON object{what}")


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how to read a file of logits."""
    parser.add_argument(
        "--axis", type=int, default=-1, metavar="A", help="class axis of the logits (default -1, the last)"
    )
    parser.add_argument(
        "--dtype",
        choices=RAW_DTYPES,
        metavar="DTYPE",
        help="the dtype of raw logits or hidden states: f16, bf16, f32 or f64; bf16 also reads the two-byte elements "
        "that .npy, HDF5 and Zarr have for bfloat16",
    )
    parser.add_argument(
        "--classes", type=positive, metavar="C", help="the number of classes in a row of raw logits"
    )


def add_head(
    parser: argparse.ArgumentParser, holder: str, other: str | None = None, *, makes_logits: bool = True
) -> None:
    """Add the options for hidden states in place of the logits `holder`, and in place of those of `other`.

    Without `makes_logits`, the output matrix is only looked at.
    """
    group = parser.add_argument_group("hidden states in place of logits")
    group.add_argument(
        "--head",
        type=input_file,
        metavar="FILE",
        help=f"{holder} holds hidden states, and FILE or FILE:KEY the output matrix that makes logits of them: .npy, "
        ".npz, .safetensors, HDF5, Zarr or torch.save's, a row for each class",
    )
    group.add_argument("--head-bias", type=input_file, metavar="FILE", help="the bias of the output matrix")
    if not makes_logits:
        return
    if other is not None:
        group.add_argument(
            "--other-head",
            type=input_file,
            metavar="FILE",
            help=f"{other} holds hidden states too, and FILE their output matrix; give it also where both have the "
            "same one",
        )
        group.add_argument(
            "--other-head-bias", type=input_file, metavar="FILE", help="the bias of that output matrix"
        )
    each = "" if other is None else " of each matrix"
    group.add_argument(
        "--softcap", type=positive_float, metavar="C", help=f"cap the logits{each}: C tanh(logits / C)"
    )
    group.add_argument(
        "--scale",
        type=positive_float,
        metavar="S",
        help=f"multiply the logits{each} by S (default 1), before they are capped",
    )


def heads_of(options: argparse.Namespace) -> tuple[Head | None, Head | None]:
    """Return the output matrices of the first file and of the other; raise for options that lack one."""
    given = {name: value for name, value in vars(options).items() if value is not None}
    heads = list[Head | None]()
    for name in ("head", "other_head"):
        option, bias = f"--{name.replace('_', '-')}", given.get(f"{name}_bias")
        if name in given:
            scale = given.get("scale", 1.0)
            heads.append(Head(given[name], bias, given.get("softcap"), scale, option))
            continue
        if bias is not None:
            raise OptionError(f"{option}-bias goes with {option} FILE, the output matrix; give both")
        heads.append(None)
    if not any(heads):
        for name in ("softcap", "scale"):
            if name in given:
                raise OptionError(
                    f"--{name} goes with --head FILE, which makes logits of hidden states; stored logits are taken as "
                    "they are"
                )
    return heads[0], heads[1]


def input_file(text: str) -> str:
    """Read the name of a file to read."""
    if text == "-" or text.startswith("-:"):
        raise argparse.ArgumentTypeError(
            "- (standard input) cannot be read: files are read in blocks, at any position; write it to a file and "
            "give its name"
        )
    return _not_empty(text)


def output_file(text: str) -> str:
    """Read the name of a file to write."""
    if text == "-":
        raise argparse.ArgumentTypeError(
            "- (standard output) cannot be written: only the result goes there; give the name of a file"
        )
    return _not_empty(text)


def _not_empty(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("the name is empty; is it a variable of the shell that is not set?")
    return text


def positive(text: str) -> int:
    """Read a number from 1 on."""
    number = int64(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return number


def positive_float(text: str) -> float:
    """Read a number above 0 that is not infinite."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a positive, finite number")
    return number


def memory(text: str) -> int:
    """Read a number of bytes: 4096, 64K, 256M, 1.5G or 1GiB; the units are powers of 1024."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes; write it as 256M or 1G")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def int64(text: str) -> int:
    """Read a number that int64 holds."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer") from None
    if not -(2**63) <= number < 2**63:
        raise argparse.ArgumentTypeError(f"{text} is outside int64")
    return number


def count(text: str) -> int:
    """Read a number from 0 on."""
    number = int64(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return number


def counts(text: str) -> list[int]:
    """Read different numbers from 1 on, with commas between them."""
    numbers = [positive(part) for part in text.split(",")]
    if len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(f"{text} holds a number twice")
    return numbers


def seconds(text: str) -> float:
    """Read a length of time, from 0 on."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds from 0 on")
    return number
