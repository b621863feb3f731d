"""How many threads the libraries of a benchmark use, and the machine they run on. Import it before any of them.

An idle thread that spins keeps a core from the contender that runs next: (4096, 1000) with its gradient took 4.6 ms so,
where it takes 2.1. torch's and Numba's threads spun for 6 to 8 ms after a call; by the settings of OpenMP below they
sleep at once, and by an option those of ONNX Runtime. OpenBLAS's spin for 16 ms after a product, whatever is set here:
whoever uses NumPy's products has them, too.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
THREADS = int(os.environ.get("CROSSENT_NUM_THREADS", CORES))
SETTINGS = {  # read by the libraries when they are imported
    "OMP_NUM_THREADS": str(THREADS),
    "MKL_NUM_THREADS": str(THREADS),
    "NUMBA_NUM_THREADS": str(THREADS),
    "OPENBLAS_NUM_THREADS": str(THREADS),
    "JAX_PLATFORMS": "cpu",
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
    "KMP_BLOCKTIME": "0",
}
os.environ.update(SETTINGS)

PAUSE_SECONDS = 0.003  # between two contenders
PAUSE_AFTER_PRODUCTS = 0.025  # where one of them uses NumPy's products


def cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def other_work() -> float | None:
    """The system's load, where it is enough to spoil the times."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return load if load > 0.5 else None
