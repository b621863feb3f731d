"""Reading ahead: a thread reads the next block while the caller works on this one."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")

# How long the item that a thread is at may take when nothing more is wanted.
_SECONDS = 5.0


def read_ahead(items: Generator[T, None, None]) -> Generator[T, None, None]:
    """Yield the same items, each fetched by a thread while the caller still has the one before.

    No more than that one is fetched ahead: two items are alive at a time. What the iterator raises is raised here, in
    its turn. When the caller stops early, the thread ends after the item that it is at,
    and is waited for, though not for long.
    """
    fetched: queue.Queue[tuple[T] | BaseException | None] = queue.Queue()
    wanted = threading.Semaphore(0)
    stopped = threading.Event()

    def fetch() -> None:
        try:
            with contextlib.closing(items):
                for item in items:
                    fetched.put((item,))
                    wanted.acquire()
                    if stopped.is_set():
                        return
            fetched.put(None)
        except BaseException as error:  # noqa: BLE001  it is the caller's
            fetched.put(error)

    # A read from a disk that hangs must not keep the process from ending.
    thread = threading.Thread(target=fetch, name="crossent-read-ahead", daemon=True)
    thread.start()
    try:
        while (item := fetched.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            wanted.release()
            yield item[0]
    finally:
        stopped.set()
        wanted.release()
        # A library may hold a lock while it reads, as h5py does. Were the process to end meanwhile, the library would
        # wait for that lock in vain when it clears up.
        thread.join(_SECONDS)
