"""What is known of a file besides its numbers: its size and fingerprint, and that no output may take its place."""

from __future__ import annotations

import argparse
import contextlib
import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from crossent._cli.output import DataError
from crossent._io import ZARR_METADATA, HiddenSource, OptionError, Source, files_of, open_regular, paths_of

_PIECE, _PIECES = 1 << 16, 16


def fingerprint(path: str) -> str:
    """Return the SHA-256 of a file of up to 1 MiB, else that of its length and of 16 pieces of 64 KiB.

    The pieces lie evenly from the first byte to the last. Of a folder it is the SHA-256 of the names and lengths of all
    files in it, and of the fingerprints of its metadata and of 16 other files, evenly from the first to the last.
    """
    if Path(path).is_dir():
        return _of_folder(path)
    file, size = open_regular(path)
    with file:
        if size <= _PIECE * _PIECES:
            return "sha256:" + hashlib.sha256(file.read()).hexdigest()
        digest = hashlib.sha256(size.to_bytes(8, "little"))
        for number in range(_PIECES):
            file.seek((size - _PIECE) * number // (_PIECES - 1))
            digest.update(file.read(_PIECE))
        return "sampled-sha256:" + digest.hexdigest()


def _of_folder(path: str) -> str:
    files = files_of(path)
    digest = hashlib.sha256(json.dumps(list(files.items())).encode())
    names = list(files)
    sampled = (
        {names[(len(names) - 1) * number // (_PIECES - 1)] for number in range(_PIECES)} if names else set()
    )
    for name in names:
        if name in sampled or name.rpartition("/")[2] in ZARR_METADATA:
            digest.update(fingerprint(str(Path(path) / name)).encode())
    return "sampled-sha256:" + digest.hexdigest()


def inputs_of(options: argparse.Namespace, logits: Mapping[str, Source]) -> list[dict[str, Any]]:
    """Describe the files of logits, by the arguments that name them, and that of the targets if there is one.

    Those of hidden states are followed by their output matrices.
    """
    inputs = []
    for name, source in logits.items():
        is_hidden = isinstance(source, HiddenSource)
        told = described(
            "hidden" if is_hidden and name == "logits" else name, getattr(options, name), source.paths
        )
        inputs.append(told | {"columns": list(source.columns)} if source.columns else told)
        if isinstance(source, HiddenSource):
            option = source.head.option
            inputs.append(described(option, source.weight.name, [source.weight.path]))
            if source.bias is not None:
                inputs.append(described(f"{option}-bias", source.bias.name, [source.bias.path]))
    if options.targets is not None:
        inputs.append(named("targets", options.targets))
    return inputs


def named(argument: str, name: str) -> dict[str, Any]:
    """Describe an input that has not been opened as logits."""
    return described(argument, name, (path for path, _ in paths_of(name)))


def described(argument: str, name: str, paths: Iterable[str]) -> dict[str, Any]:
    """Describe an input for provenance, and for states to know it again."""
    return {"argument": argument, "name": name, "files": [file_told(path) for path in paths]}


def check_output(output: str, option: str, inputs: Iterable[dict[str, Any]]) -> None:
    """Raise where an output could not be written, or would take the place of an input."""
    check_clash(output, option, inputs, names_taken(output))
    check_writable(output, option, names_taken(output))


def target_of(output: str) -> str:
    """Follow a link, so that what it points to is written, and the link stays."""
    return os.path.realpath(output) if os.path.islink(output) else output  # noqa: PTH114


def names_taken(output: str) -> list[str]:
    """List the file that is written, and those beside it that stand in for it meanwhile."""
    target = target_of(output)
    return [target, f"{target}.tmp", f"{target}.lock"]


def check_clash(output: str, option: str, inputs: Iterable[dict[str, Any]], names: Sequence[str]) -> None:
    """Raise where any of the names that an output takes is that of an input, by any spelling or link."""
    there = [name for name in names if os.path.lexists(name)]
    for told in inputs:
        for file in told["files"]:
            if _is_inside(names[0], file["path"]):
                raise OptionError(
                    f"{option} {output} is inside of the input {told['name']}, and would change it; name another file"
                )
            for name in there:
                if not _same_file(name, file["path"]):
                    continue
                if name == names[0]:
                    raise OptionError(
                        f"{option} {output} is the input {told['name']}, and would overwrite it; name another file"
                    )
                raise OptionError(
                    f"{option} {output} is written by way of {name}, which is the input {told['name']}; name another "
                    "file"
                )


def _is_inside(name: str, folder: str) -> bool:
    """Return whether a file lies, or would lie, in a folder or below it."""
    return Path(folder).is_dir() and Path(folder).resolve() in Path(name).resolve().parents


def _same_file(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)  # noqa: PTH121  the names are the user's text
    except OSError:  # One of them is gone, and cannot be overwritten.
        return False


def check_writable(output: str, option: str, names: Sequence[str]) -> None:
    """Raise where a file could not be written: this is found before hours of work, not after them."""
    target = Path(names[0])
    if target.is_dir():
        raise DataError(f"{option} {output} is a folder, expected the name of a file; name a file in it")
    if Path(output).is_symlink() and not target.exists():
        raise DataError(
            f"{option} {output} is a link to {target}, which is not there; make that file, or name another"
        )
    folder = target.absolute().parent
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise DataError(
            f"{option} {output}: {folder} is not a folder in which it can be written; make it, or name another file"
        )
    for name in names:
        try:
            mode = Path(name).lstat().st_mode
        except FileNotFoundError:
            continue
        except OSError as error:  # a name that is too long, most likely
            raise DataError(
                f"{option} {output}: {Path(name).name} beside it cannot be written: {error.strerror}; give a shorter "
                "name"
            ) from None
        if not stat.S_ISREG(mode):
            raise DataError(
                f"{option} {output}: {name} is there, and is no regular file, expected one that can be replaced; name "
                "another file"
            )
    if target.exists() and not os.access(target, os.W_OK):
        raise DataError(
            f"{option} {output}: you may not write to the file that is there; change its permissions, or name another"
        )


def is_unchanged(told: dict[str, Any]) -> bool:
    """Return whether a file is as it was described."""
    try:
        return Path(told["path"]).is_file() and file_told(told["path"]) == told
    except OSError:
        return False


def file_told(path: str) -> dict[str, Any]:
    """Describe a file, for it to be known again."""
    return {"path": path, "bytes": sum(files_of(path).values()), "fingerprint": fingerprint(path)}


@contextlib.contextmanager
def whole(output: str) -> Iterator[Path]:
    """Yield a file to write to, which takes the place of `output` once it is complete and on the disk.

    Where this fails, what stood there before stays, and nothing else. An `OSError` names `output`.
    """
    target = target_of(output)
    temporary = Path(f"{target}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)  # noqa: PTH105  the name is the user's text
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise naming(error, output) from error
        raise


def try_writing(output: str, text: str) -> None:
    """Raise where such a file could not be written; what is there stays as it is."""
    temporary = Path(f"{target_of(output)}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise naming(error, output) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def naming(error: OSError, path: str) -> OSError:
    """Return the error with the file that the user knows, which those of open files lack."""
    return OSError(error.errno, error.strerror or str(error), path)


def is_full(error: BaseException) -> bool:
    """Return whether there was no room for more of a file."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def remedy(error: BaseException) -> str:
    """Return what to do before a file is written again."""
    number = error.errno if isinstance(error, OSError) else None
    if is_full(error):
        return "raise the limit on sizes of files" if number == errno.EFBIG else "make room on the disk"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "change the permissions there"
    if number in (errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY):
        return "move away what is there"
    if number in (errno.ENOENT, errno.ENOTDIR):
        return "make its folder again"
    return "free some memory" if isinstance(error, MemoryError) else "correct what is wrong there"
