"""Check what the wheel and the source distribution in a folder hold: `check_dist.py FOLDER`."""

import re
import sys
import tarfile
import zipfile
from pathlib import Path

WHEEL_LIMIT = 3_240_000  # bytes
INSTALLED_LIMIT = 8_900_000  # bytes, before Python compiles its files

IN_WHEEL = [
    r"crossent/__init__\.py",
    r"crossent/__main__\.py",
    r"crossent/_core\.pyi",
    r"crossent/_core\.\S*(so|pyd)",
    r"crossent/_cli/__init__\.py",
    r"crossent/_io/__init__\.py",
    r"crossent/py\.typed",
    r"crossent-[^/]+\.dist-info/entry_points\.txt",
    r"crossent-[^/]+\.dist-info/licenses/LICENSE-APACHE",
    r"crossent-[^/]+\.dist-info/licenses/LICENSE-MIT",
]
ONLY_IN_WHEEL = re.compile(r"crossent/([\w/]+\.pyi?|py\.typed|_core\.\S+)|crossent-[^/]+\.dist-info/.+")

IN_SDIST = [
    ".cargo/config.toml",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "PKG-INFO",
    "README.md",
    "pyproject.toml",
]
IN_SDIST += ["python/crossent/__init__.py", "python/crossent/py.typed", "src/lib.rs"]
STRAY = re.compile(r"(^|/)(\.(?!cargo_vcs_info)|__pycache__|target/|build/)|\.(so|pyd|pyc|whl|npy)$")


def content_faults(path: Path) -> list[str]:
    """Return what is missing from a wheel or a source distribution, and what does not belong in it."""
    return sdist_faults(path) if path.name.endswith(".tar.gz") else member_faults(path)


def member_faults(wheel: Path) -> list[str]:
    """Return what is missing from the wheel, and what does not belong in it."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
    faults = [
        f"no {pattern}" for pattern in IN_WHEEL if not any(re.fullmatch(pattern, name) for name in names)
    ]
    return faults + [f"{name} does not belong there" for name in names if not ONLY_IN_WHEEL.fullmatch(name)]


def size_faults(wheel: Path) -> list[str]:
    """Return which limit the wheel exceeds; they are those of Linux on x86-64, which has the most instruction sets."""
    with zipfile.ZipFile(wheel) as archive:
        installed = installed_size(archive)
    faults = []
    size = wheel.stat().st_size
    if size > WHEEL_LIMIT:
        faults.append(f"{size} bytes, more than {WHEEL_LIMIT}")
    if installed > INSTALLED_LIMIT:
        faults.append(f"{installed} bytes when installed, more than {INSTALLED_LIMIT}")
    return faults


def installed_size(archive: zipfile.ZipFile) -> int:
    """Add up the sizes of the files that a wheel unpacks."""
    return sum(member.file_size for member in archive.infolist())


def sdist_faults(sdist: Path) -> list[str]:
    """Return what is missing from the source distribution, and what does not belong in it."""
    with tarfile.open(sdist) as archive:
        names = [member.name.partition("/")[2] for member in archive if member.isfile()]
    faults = [f"no {name}" for name in IN_SDIST if name not in names]
    stray = [name for name in names if name not in IN_SDIST and STRAY.search(name)]
    return faults + [f"{name} does not belong there" for name in stray]


def main(folder: str) -> int:
    """Print the faults and return the exit code."""
    (wheel,) = Path(folder).glob("*.whl")
    (sdist,) = Path(folder).glob("*.tar.gz")
    faults = [f"{wheel.name}: {fault}" for fault in member_faults(wheel) + size_faults(wheel)]
    faults += [f"{sdist.name}: {fault}" for fault in sdist_faults(sdist)]
    with zipfile.ZipFile(wheel) as archive:
        installed = installed_size(archive)
    sizes = f"{wheel.stat().st_size} bytes, {installed} when installed"
    print(*faults, f"{wheel.name}: {sizes}; {sdist.name}: {sdist.stat().st_size} bytes", sep="\n")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
