"""Install what extras of pyproject.toml need: `install_extras.py EXTRA...`, into the environment that runs this.

On Linux, PyPI's torch is the one for CUDA, with libraries of three gigabytes. PyTorch's own index has the one for the
CPU and is asked first; where it cannot be reached, PyPI's is installed. Settings of pip apply to both: a version that a
constraint fixes, or a wheel in a folder that is looked through, is taken as usual.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# What an extra downloads besides torch, and torch itself; Linux on x86-64, Python 3.11, in megabytes.
MEGABYTES = {"test": 245, "parity": 135, "check": 110, "docs": 190, "bench": 190}
TORCH, TORCH_WITH_CUDA = 190, 3000

# Byte code is made when a module is first imported: far less work than making it for all of torch.
PIP = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]


def requirements(extras: list[str]) -> list[str]:
    """What the extras list, in order, each line once."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    listed: dict[str, list[str]] = project["optional-dependencies"]
    return list(dict.fromkeys(line for extra in extras for line in listed[extra]))


def torch_for_the_cpu(wanted: list[str]) -> None:
    """Install the CPU's torch if torch is wanted and PyPI's would bring CUDA; say so where that fails."""
    torch = [line for line in wanted if re.match(r"torch\b", line)]
    if not torch or sys.platform != "linux" or importlib.util.find_spec("torch"):
        return
    # Alone, and without what it needs: that comes from the user's own index.
    only_torch = ["--no-deps", "--index-url", CPU_INDEX, "--retries", "0", "--timeout", "10"]
    if subprocess.run([*PIP, *only_torch, *torch], stderr=subprocess.DEVNULL).returncode:
        say(
            f"PyTorch's index for the CPU could not be used: PyPI's torch may bring CUDA, {TORCH_WITH_CUDA} MB more."
        )


def say(text: str) -> None:
    print(text, flush=True)


def main(extras: list[str]) -> int:
    """Install them, and return pip's exit code; 2 if they are none that development needs."""
    if not extras or not set(extras) <= set(MEGABYTES):
        print(
            f"error: expected extras among {', '.join(MEGABYTES)}: got {' '.join(extras) or 'none'}",
            file=sys.stderr,
        )
        return 2
    wanted = requirements(extras)
    megabytes = sum(MEGABYTES[extra] for extra in extras)
    with_torch = any(re.match(r"torch\b", line) for line in wanted)
    say(
        f"Installing what {' and '.join(extras)} need{'s' * (len(extras) == 1)}: about {megabytes} MB to download"
        + (f", and {TORCH} MB of torch for the CPU." if with_torch else ".")
    )
    torch_for_the_cpu(wanted)
    return subprocess.run([*PIP, *wanted]).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
