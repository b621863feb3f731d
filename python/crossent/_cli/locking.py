"""Locks on the files that a run writes, so that a job which is started twice does not write them twice.

The kernel holds the lock, on a file of its own beside the one that is written, and lets it go when the process ends in
any way. The text in the lock file says who holds it. So a lock file that a dead process left behind is taken over, and
neither a process id that was given anew nor a clock can mislead.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import stat
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crossent._cli.files import naming, target_of
from crossent._cli.output import DataError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_MARK = "crossent.lock 1"
# On Windows other processes cannot read what is locked, so a byte far behind the text is locked.
_FAR = 1 << 30


class Lock:
    """The right to write a file, from its creation until `close`."""

    def __init__(self, output: str, option: str, argv: Sequence[str]) -> None:
        """Take the lock; raise where another run has it."""
        self.path = Path(f"{target_of(output)}.lock")
        self.after_death = False
        """Whether a process that held the lock was killed, and may have left parts of files behind."""
        self._said = f"{option} {output}"
        self._file, self._owned = -1, False
        try:
            self._take(argv)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise naming(error, str(self.path)) from error
            raise

    def _take(self, argv: Sequence[str]) -> None:
        while True:
            made = self._open()
            known = self._lock()
            if not known or self._is_current():
                break
            self._close()  # Its holder has just removed it: the next one is another file.
        holder = self._read()
        if holder is not None or not (known or made):
            self._check_dead(holder or {}, known=known)
            self.after_death = True
        self._owned = True
        told = {
            "format": _MARK,
            "process": os.getpid(),
            "host": _host(),
            "boot": _boot(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S %z"),
            "command": shlex.join(["crossent", *argv]),
        }
        os.truncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)
        os.write(self._file, json.dumps(told).encode())

    def _open(self) -> bool:
        """Open the file of the lock; says whether it was made just now."""
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
        try:
            self._file = os.open(self.path, flags | os.O_EXCL, 0o666)
        except FileExistsError:
            self._file = os.open(self.path, flags, 0o666)
            if not stat.S_ISREG(os.fstat(self._file).st_mode):
                raise DataError(f"{self._said}: {self.path} is no regular file; name another file") from None
            return False
        return True

    def _lock(self) -> bool:
        """Lock the file. Returns False where the file system has no locks; raises where another has it."""
        try:
            if sys.platform == "win32":
                os.lseek(self._file, _FAR, os.SEEK_SET)
                msvcrt.locking(self._file, msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
                raise DataError(
                    f"{self._said}: {_told(self._read() or {})} is writing it; wait for that, or name another file"
                ) from None
            if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL):
                return False
            raise
        return True

    def _is_current(self) -> bool:
        """Return whether the file is still the one of this name: a holder removes it when it is done."""
        try:
            now = self.path.lstat()
        except FileNotFoundError:
            return False
        ours = os.fstat(self._file)
        return (now.st_dev, now.st_ino) == (ours.st_dev, ours.st_ino)

    def _read(self) -> dict[str, Any] | None:
        """Read who has the lock, or had it; None where that is not said."""
        os.lseek(self._file, 0, os.SEEK_SET)
        content = os.read(self._file, 1 << 16).strip(b"\0 \n")
        if not content:
            return None
        try:
            told = json.loads(content)
            if told["format"] == _MARK:
                return dict(told)
        except (ValueError, TypeError, KeyError, RecursionError):
            pass
        raise DataError(
            f"{self._said}: {self.path}, the file of its lock, holds something else; move it away, or name another file"
        )

    def _check_dead(self, holder: dict[str, Any], *, known: bool) -> None:
        """Raise unless the holder that the file names is known to have ended.

        Having its lock proves it, but not for one on another host: a network may not carry locks from host to host.
        """
        this_host = holder.get("host") == _host()
        this_kernel = bool(_boot()) and holder.get("boot") == _boot()  # in another container, it may be
        if (known and (this_host or this_kernel)) or (this_host and _is_dead(holder)):
            return
        raise DataError(
            f"{self._said}: {self.path} says that {_told(holder)} is writing it, and from {_host()} it "
            f"cannot be seen whether it still is; if it has ended, remove {self.path} and start this again"
        )

    def clear(self, names: Sequence[str]) -> None:
        """See to it that the temporary files among some names are free.

        What a killed holder of the lock left there is removed; anything else there is somebody's, and an error.
        """
        for name in (name for name in names if name.endswith(".tmp") and os.path.lexists(name)):
            if not self.after_death:
                raise DataError(
                    f"{self._said} is written by way of {name}, which is there already; move it away, or name another "
                    "file"
                )
            Path(name).unlink()

    def close(self) -> None:
        """Remove the file of the lock and let it go."""
        if self._owned:
            self._owned = False
            with contextlib.suppress(OSError):
                if sys.platform == "win32":
                    self._close()  # An open file cannot be removed there, nor one that the next has opened.
                    self.path.unlink(missing_ok=True)
                elif self._is_current():
                    self.path.unlink(missing_ok=True)
        self._close()

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _told(holder: dict[str, Any]) -> str:
    """Describe the process that has a lock, or had it."""
    if not holder:
        return "another run"
    return (
        f"another run (process {holder.get('process')} on {holder.get('host')}, since {holder.get('since')}: "
        f"{holder.get('command')})"
    )


def _host() -> str:
    """Return the name of this machine."""
    return os.environ.get("COMPUTERNAME", "") if sys.platform == "win32" else os.uname().nodename


def _boot() -> str:
    """Return what identifies this boot of this machine, in its containers too; empty where nothing does."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _is_dead(holder: dict[str, Any]) -> bool:
    """Return whether a process of this host has ended for certain, where locks do not tell."""
    if holder.get("boot") != _boot():
        return True
    try:
        os.kill(int(holder["process"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, KeyError, TypeError, ValueError, OverflowError):
        return False
    return False
