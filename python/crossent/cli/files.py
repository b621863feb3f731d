"""What is known of a file besides its numbers: its size and fingerprint, and that no output may take its place."""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from crossent.cli.output import DataError
from crossent.io import OptionError, Source, open_regular, paths_of

_PIECE, _PIECES = 1 << 16, 16


def fingerprint(path: str) -> str:
    """Return the SHA-256 of a file of up to 1 MiB, else that of its length and of 16 pieces of 64 KiB.

    The pieces lie evenly from the first byte to the last.
    """
    file, size = open_regular(path)
    with file:
        if size <= _PIECE * _PIECES:
            return "sha256:" + hashlib.sha256(file.read()).hexdigest()
        digest = hashlib.sha256(size.to_bytes(8, "little"))
        for number in range(_PIECES):
            file.seek((size - _PIECE) * number // (_PIECES - 1))
            digest.update(file.read(_PIECE))
        return "sampled-sha256:" + digest.hexdigest()


def inputs_of(options: argparse.Namespace, logits: Mapping[str, Source]) -> list[dict[str, Any]]:
    """Describe the files of logits, by the arguments that name them, and that of the targets if there is one."""
    inputs = [described(name, getattr(options, name), source.paths) for name, source in logits.items()]
    if options.targets is not None:
        inputs.append(named("targets", options.targets))
    return inputs


def named(argument: str, name: str) -> dict[str, Any]:
    """Describe an input that has not been opened as logits."""
    return described(argument, name, (path for path, _ in paths_of(name)))


def described(argument: str, name: str, paths: Iterable[str]) -> dict[str, Any]:
    """Describe an input for provenance, and for states to know it again."""
    files = [
        {"path": path, "bytes": Path(path).stat().st_size, "fingerprint": fingerprint(path)} for path in paths
    ]
    return {"argument": argument, "name": name, "files": files}


def check_output(output: str, option: str, inputs: Iterable[dict[str, Any]]) -> None:
    """Raise where an output could not be written, or would take the place of an input."""
    folder = Path(output).absolute().parent
    if not (folder.is_dir() and os.access(folder, os.W_OK)) or Path(output).is_dir():
        raise DataError(
            f"{option} {output}: {folder} is not a folder in which it can be written; make it, or name another file"
        )
    if not os.path.lexists(output):
        return
    for told in inputs:
        for file in told["files"]:
            if Path(output).samefile(file["path"]):
                raise OptionError(
                    f"{option} {output} is the input {told['name']}, and would overwrite it; name another file"
                )


def replace(temporary: Path, path: str) -> None:
    """Put a file that is whole, and on the disk, in its place."""
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)  # noqa: PTH105  the name is the user's text
