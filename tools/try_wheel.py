"""Install one of the wheels in a folder as pip chooses it, and use it: `try_wheel.py FOLDER [REQUIREMENT ...]`.

The environment is new and holds nothing but what crossent requires, or the requirements given in place of these, such
as `numpy==1.26.0 tqdm==4.60`. pip takes crossent from the folder alone, and no other package is built from source.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
REQUIREMENTS = ("numpy", "tqdm")


def main(folder: str, *requirements: str) -> int:
    """Install, run tools/smoke.py, and return the exit code."""
    # A source tree among the paths would hide the wheel, and a configured index could hold another crossent.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with tempfile.TemporaryDirectory() as place:
        venv.create(place, with_pip=True)
        python = str(Path(place) / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python"))
        pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        for command in (
            [*pip, "--upgrade", "pip"],  # one that knows the newest tags of wheels
            [*pip, "--only-binary", ":all:", *(requirements or REQUIREMENTS)],
            [*pip, "--no-index", "--find-links", folder, "crossent"],
            [python, "-I", str(ROOT / "tools" / "smoke.py")],
        ):
            code = subprocess.run(command, env=env, check=False).returncode
            if code:
                print(f"error: {' '.join(command)} ended with {code}", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
