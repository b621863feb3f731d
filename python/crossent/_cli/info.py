"""`crossent info`: what is in files."""

from __future__ import annotations

import argparse
import json
import math
import sys
from typing import Any

from crossent._cli.options import (
    Subparsers,
    add_columns,
    add_command,
    add_json,
    add_no_progress,
    add_reading,
    input_file,
)
from crossent._cli.output import printable, say, write
from crossent._io import OptionError, describe, paths_of

_EXAMPLE = """\
examples:
  crossent info logits.npy targets.npy
  crossent info run.npz:logits
  crossent info logits.bin --dtype f32 --classes 50257
exit codes: 0 a result, 1 bad data, 2 bad usage
"""


def add(commands: Subparsers) -> None:
    """Add the command to those of the parser."""
    parser = add_command(
        commands,
        "info",
        run,
        help="describe what is in files",
        description="Print the kind, shape and dtype of the arrays in files, and what their first rows look like.",
        epilog=_EXAMPLE,
    )
    parser.add_argument("files", type=input_file, metavar="FILE", nargs="+", help="file, FILE:KEY or pattern")
    add_reading(parser)
    add_columns(parser)
    add_no_progress(parser)
    add_json(parser, "")


def run(options: argparse.Namespace) -> int:
    """Describe every file; one that cannot be read is reported, and the others are described nevertheless."""
    found: list[dict[str, Any]] = []
    names = [each for name in options.files for each in _files_of(name)]
    failed = 0
    for name in names:
        try:
            arrays = describe(
                name,
                dtype=options.dtype,
                classes=options.classes,
                axis=options.axis,
                label=options.label,
                columns=options.columns,
                strip_prefix=options.strip_prefix,
            )
        except (OSError, ValueError) as error:
            if len(names) == 1:
                raise
            say(f"error: {f'{name}: {error.strerror}' if isinstance(error, OSError) else error}")
            failed = max(failed, 2 if isinstance(error, OptionError) else 1)
            continue
        found += arrays
        if all("error" in told for told in arrays):
            why = arrays[0]["error"] if arrays else "it has no arrays; write them with numpy.savez"
            say(f"error: {name} holds nothing that can be read: {why}")
            failed = max(failed, 1)
    for note in (note for told in found for note in told.get("notes", ())):
        say(f"note: {note}")
    if options.json:
        write(sys.stdout, json.dumps({"arrays": [_without_nan(told) for told in found]}, indent=2))
    elif found:
        write(sys.stdout, "\n\n".join(_card(told) for told in found))
    return failed


def _files_of(name: str) -> list[str]:
    """List the files that a name means; one that means none is reported in its turn."""
    try:
        return [path if key is None else f"{path}:{key}" for path, key in paths_of(name)]
    except ValueError:
        return [name]


def _card(told: dict[str, Any]) -> str:
    """Format the lines on one array."""
    lengths = ["?" if length is None else str(length) for length in told["shape"] or ()]
    shape = None if told["shape"] is None else " x ".join(lengths) or "a single number"
    values = "  ".join(f"{value:.6g}" for value in told["first_values"])
    lines = [
        ("name", told["name"]),
        ("format", told["format"]),
        ("dtype", told["dtype"]),
        ("shape", shape),
        ("rows", None if told["rows"] is None else f"{told['rows']:,}"),
        ("classes", None if told["classes"] is None else f"{told['classes']:,}"),
        ("columns", _shortened(told.get("columns"))),
        ("labels", told.get("label")),
        ("file size", _size(told["file_bytes"])),
        ("first values", values or None),
        ("range", f"{told['minimum']} to {told['maximum']}" if "minimum" in told else None),
        (
            "not finite",
            f"{told['not_finite']:,} of the first {told['checked_rows']:,} rows" if told["classes"] else None,
        ),
        ("looks like", told["guess"]),
    ]
    return "\n".join(f"{name:<14}{printable(str(value))}" for name, value in lines if value is not None)


def _shortened(names: list[str] | None) -> str | None:
    """List the first and the last of many names."""
    if names is None:
        return None
    return ", ".join(names if len(names) <= 8 else [*names[:3], "...", names[-1]])


def _size(count: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= unit:
            return f"{count:,} bytes ({count / unit:.1f} {name})"
    return f"{count:,} bytes"


def _without_nan(told: dict[str, Any]) -> dict[str, Any]:
    """JSON has no nan and no infinity: such a value becomes null."""
    return told | {
        "first_values": [value if math.isfinite(value) else None for value in told["first_values"]]
    }
