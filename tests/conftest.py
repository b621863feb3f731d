"""Settings shared by every test: property tests are reproducible, and imports and the collector take little time."""

import gc
import os
import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

settings.register_profile(
    "crossent",
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("thorough", settings.get_profile("crossent"), max_examples=5_000, derandomize=False)
settings.load_profile("crossent")

if sys.dont_write_bytecode:
    # Torch and its like take more than twice as long to import without byte code, and hundreds of processes import
    # something: it is kept, but out of sight, in the environment that the tests run in.
    sys.dont_write_bytecode = False
    sys.pycache_prefix = sys.pycache_prefix or str(Path(sys.prefix) / "pycache")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix


def pytest_collection_finish() -> None:
    """Have the collector leave alone what torch and its like made: a million objects that stay to the end."""
    gc.collect()
    gc.freeze()
