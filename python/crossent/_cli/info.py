"""`crossent info`: what is in files."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from typing import Any

from crossent._cli.options import (
    Subparsers,
    add_columns,
    add_command,
    add_head,
    add_json,
    add_no_progress,
    add_reading,
    heads_of,
    input_file,
)
from crossent._cli.output import printable, say, write
from crossent._io import HiddenSource, OptionError, describe, describe_hidden, paths_of

_EXAMPLE = """\
examples:
  crossent info logits.npy targets.npy
  crossent info run.npz:logits
  crossent info logits.bin --dtype f32 --classes 50257
  # the size of the logits that hidden states would make
  crossent info hidden.npy --head model.safetensors:lm_head.weight

exit codes: 0 a result, 1 bad data, 2 bad usage
"""


def add(commands: Subparsers) -> None:
    """Add the command to those of the parser."""
    parser = add_command(
        commands,
        "info",
        run,
        help="describe what is in files",
        description="Print the kind, shape and dtype of arrays, and what their rows look like.",
        epilog=_EXAMPLE,
    )
    parser.add_argument("files", type=input_file, metavar="FILE", nargs="+", help="file, FILE:KEY or pattern")
    add_reading(parser)
    add_columns(parser)
    add_no_progress(parser)
    add_json(parser, "")
    add_head(parser, "each FILE of floating numbers", makes_logits=False)


def run(options: argparse.Namespace) -> int:
    """Describe every file; one that cannot be read is reported, and the others are described nevertheless."""
    head, _ = heads_of(options)
    if head is not None:
        _check_for_hidden(options)
    found: list[dict[str, Any]] = []
    products: list[HiddenSource] = []
    names = [each for name in options.files for each in _files_of(name)]
    failed = 0
    for name in names:
        try:
            if head is None:
                arrays = describe(
                    name,
                    dtype=options.dtype,
                    classes=options.classes,
                    axis=options.axis,
                    label=options.label,
                    columns=options.columns,
                    strip_prefix=options.strip_prefix,
                )
            else:
                arrays, source = describe_hidden(name, head, dtype=options.dtype)
                products += [] if source is None else [source]
        except (OSError, ValueError) as error:
            if len(names) == 1:
                raise
            where = error.filename or name if isinstance(error, OSError) else name
            say(f"error: {f'{where}: {error.strerror}' if isinstance(error, OSError) else error}")
            failed = max(failed, 2 if isinstance(error, OptionError) else 1)
            continue
        found += arrays
        if all("error" in told for told in arrays):
            why = arrays[0]["error"] if arrays else "it has no arrays; check how it was written"
            say(f"error: {name} holds nothing that can be read: {why}")
            failed = max(failed, 1)
    for note in (note for told in found for note in told.get("notes", ())):
        say(f"note: {note}")
    if options.json:
        content: dict[str, Any] = {"arrays": [_without_nan(told) for told in found]}
        if products:
            content["product"] = _product(products)
        write(sys.stdout, json.dumps(content, indent=2))
    elif found:
        cards = [_card(told) for told in found]
        if products:
            cards.append(_product_card(_product(products)))
        write(sys.stdout, "\n\n".join(cards))
    return failed


def _check_for_hidden(options: argparse.Namespace) -> None:
    """Raise for options that do not go with hidden states."""
    for name, usual in (
        ("label", None),
        ("columns", None),
        ("strip_prefix", None),
        ("classes", None),
        ("axis", -1),
    ):
        if getattr(options, name) != usual:
            raise OptionError(
                f"--{name.replace('_', '-')} does not apply to hidden states, which --head is for; leave it out"
            )


def _product(sources: Sequence[HiddenSource]) -> dict[str, Any]:
    """Describe the logits that an output matrix makes of hidden states, of all files together."""
    first = sources[0]
    rows = sum(source.rows or 0 for source in sources)
    return {
        "head": first.weight.name,
        "head_dtype": str(first.weight.dtype),
        "head_bias": None if first.bias is None else first.bias.name,
        "head_shape": list(first.weight.shape),
        "head_bytes": first.weight.nbytes,
        "hidden_size": first.width,
        "hidden_bytes": sum(source.hidden_bytes for source in sources),
        "rows": rows,
        "classes": first.classes,
        "logits_dtype": str(first.dtype),
        "logits_bytes": rows * first.classes * first.dtype.itemsize,
    }


def _product_card(told: dict[str, Any]) -> str:
    """Format the lines on the output matrix, and on the logits that it makes."""
    classes, width = told["head_shape"]
    logits = f"{told['rows']:,} x {told['classes']:,} {told['logits_dtype']}"
    lines = [
        ("head", told["head"]),
        ("head bias", told["head_bias"]),
        ("dtype", told["head_dtype"]),
        ("shape", f"{classes} x {width}"),
        ("classes", f"{classes:,}"),
        ("head size", _size(told["head_bytes"])),
        ("hidden states", f"{told['rows']:,} of {width:,} numbers: {_size(told['hidden_bytes'])}"),
        ("their logits", f"{logits} would be {_size(told['logits_bytes'])}"),
    ]
    return _lines(lines)


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
        ("hidden size", f"{told['hidden_size']:,}" if "hidden_size" in told else None),
        ("columns", _shortened(told.get("columns"))),
        ("labels", told.get("label")),
        ("file size", _size(told["file_bytes"])),
        ("first values", values or None),
        ("range", f"{told['minimum']} to {told['maximum']}" if "minimum" in told else None),
        (
            "not finite",
            f"{told['not_finite']:,} of the first {told['checked_rows']:,} rows"
            if told["classes"] or "hidden_size" in told
            else None,
        ),
        ("looks like", told["guess"]),
    ]
    return _lines(lines)


def _lines(lines: Sequence[tuple[str, Any]]) -> str:
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
