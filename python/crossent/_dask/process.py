"""The process that a task runs in: a worker's own, or the client's."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable
from typing import Any

from dask.delayed import Delayed

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


def _is_in_client(worker: Any) -> bool:
    """Whether a worker is a part of the client's process."""
    return str(worker.address).startswith("inproc:")


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
    if _worker() is None:
        return delayed.compute()
    from distributed import worker_client

    with worker_client() as client:  # whose task does not count as one of the worker's while it waits
        return client.compute(delayed).result()


def tell(mistakes: Iterable[str], category: type[Warning]) -> None:
    """Warn; from a worker's own process in the client too."""
    worker = _worker()
    warn = warnings.warn if worker is None or _is_in_client(worker) else sys.modules["distributed"].warn
    for mistake in mistakes:
        warn(mistake, category, stacklevel=2)
