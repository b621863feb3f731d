"""Processes that tests start: they find the modules that stand beside the tests."""

from __future__ import annotations

import os
from pathlib import Path

SUPPORT = Path(__file__).parent


def environment(*folders: Path, **variables: str) -> dict[str, str]:
    """This process's environment, where Python also finds the modules in `folders` and in this one."""
    paths = [*map(str, folders), str(SUPPORT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **variables}
