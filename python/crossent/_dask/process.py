"""The process that a task runs in: a worker's own, or the client's."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import dask.config
from dask.delayed import Delayed
from dask.system import CPU_COUNT

from crossent._settings import set_num_threads


def _worker() -> Any:
    """Return the worker of ``distributed`` that runs this task, if one does."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        return distributed.get_worker()
    except ValueError:
        return None


_client: int | None = None


def is_client() -> None:
    """Note that this process makes graphs. One that is forked from it is another one."""
    global _client
    _client = os.getpid()


def _is_in_client(worker: Any) -> bool:
    """Whether a worker is a part of the client's process."""
    return _client == os.getpid() or str(worker.address).startswith("inproc:")


_has_own_threads = False


def use_own_threads() -> None:
    """Let calls in a worker's own process use as many threads as the worker has; later settings stay."""
    global _has_own_threads
    if _has_own_threads or os.environ.get("CROSSENT_NUM_THREADS"):
        return
    worker = _worker()
    if worker is not None and not _is_in_client(worker):
        set_num_threads(worker.state.nthreads)
        _has_own_threads = True


def computed(delayed: Delayed) -> Any:
    """Compute from within a task: on the cluster that runs it, else here."""
    worker = _worker()
    if worker is not None:
        return _computed_on_cluster(delayed, worker)
    if dask.config.get("pool", None) is None:
        return delayed.compute()
    # Each thread of the pool that is set may hold a task that waits here.
    with ThreadPoolExecutor(CPU_COUNT) as pool:
        return delayed.compute(scheduler="threads", pool=pool)


_PATIENCE = 1.0
"""After how many seconds it is looked whether a result is still wanted."""


def _computed_on_cluster(delayed: Delayed, worker: Any) -> Any:
    distributed: Any = sys.modules["distributed"]
    key = worker.get_current_task()
    with (
        distributed.worker_client() as client
    ):  # whose task does not count as one of the worker's while it waits
        future = client.compute(delayed)
        while True:
            try:
                distributed.wait(future, timeout=_PATIENCE)
            except TimeoutError:
                task = worker.state.tasks.get(key)
                if task is not None and task.state != "cancelled":
                    continue
                future.cancel()  # nothing else ends a thread that waits
                raise CancelledError(f"{key} was cancelled") from None
            return future.result()


def tell(mistakes: Iterable[str], category: type[Warning]) -> None:
    """Warn; from a worker's own process in the client too."""
    worker = _worker()
    warn = warnings.warn if worker is None or _is_in_client(worker) else sys.modules["distributed"].warn
    for mistake in mistakes:
        warn(mistake, category, stacklevel=2)
