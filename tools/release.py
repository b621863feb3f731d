"""What must be right before a release is published.

release.py version              print the version, which stands in Cargo.toml: 1.0.0, or 1.0.0-rc.1 before it
release.py check TAG            fail unless TAG is that version, and the changelog has a section for it
release.py notes                print the changelog's section of that version
release.py files FOLDER         fail unless FOLDER has the wheels of every platform and the sdist, and no other file
"""

from __future__ import annotations

import re
import sys
import tarfile
import tomllib
import zipfile
from datetime import date
from itertools import product
from pathlib import Path

from check_dist import content_faults

ROOT = Path(__file__).parents[1]

# Builds of each platform: for CPython from 3.11 on, free-threaded 3.14, and both kinds of CPython from 3.15 on.
INTERPRETERS = ["cp311-abi3", "cp314-cp314t", "cp315-abi3.abi3t"]
# The newest system that a wheel may ask for; an older one is as good.
PLATFORMS = {
    "Linux x86_64": r"manylinux_2_17_x86_64\.manylinux2014_x86_64|manylinux2014_x86_64\.manylinux_2_17_x86_64",
    "Linux aarch64": r"manylinux_2_17_aarch64\.manylinux2014_aarch64|manylinux2014_aarch64\.manylinux_2_17_aarch64",
    "Alpine x86_64": r"musllinux_1_[12]_x86_64",
    "Alpine aarch64": r"musllinux_1_[12]_aarch64",
    "macOS x86_64": r"macosx_10_\d+_x86_64",
    "macOS arm64": r"macosx_11_0_arm64",
    "Windows x86_64": r"win_amd64",
    "Windows arm64": r"win_arm64",
}


def version(root: Path = ROOT) -> str:
    """Return the version of the package."""
    found = tomllib.loads((root / "Cargo.toml").read_text(encoding="utf-8"))["package"]["version"]
    assert isinstance(found, str)
    return found


def on_pypi(release: str) -> str:
    """Return a version as Python writes it, in the names of the files too: 1.0.0rc1 for Cargo's 1.0.0-rc.1."""
    parts = re.fullmatch(r"(\d+\.\d+\.\d+)(?:-(alpha|beta|rc)\.?(\d+))?", release)
    if not parts:
        raise ValueError(
            f"Cargo.toml has the version {release}, expected 1.0.0, or 1.0.0-alpha.1, -beta.1 or -rc.1"
        )
    kind = {"alpha": "a", "beta": "b", "rc": "rc"}
    return parts[1] + (f"{kind[parts[2]]}{int(parts[3])}" if parts[2] else "")


def section(changelog: str, release: str) -> str:
    """Return the text of a version's section, without its heading."""
    heading = re.compile(rf"^## \[{re.escape(release)}\] - (\d{{4}}-\d{{2}}-\d{{2}})\s*$", re.MULTILINE)
    found = heading.search(changelog)
    if not found:
        raise ValueError(
            f"CHANGELOG.md has no heading '## [{release}] - YEAR-MONTH-DAY'; rename [Unreleased] to it"
        )
    try:
        date.fromisoformat(found[1])
    except ValueError as error:
        raise ValueError(f"the heading of {release} in CHANGELOG.md has no date: got {found[1]}") from error
    after = changelog[found.end() :]
    text = re.split(r"^(?:## |\[[^\]]+\]: )", after, maxsplit=1, flags=re.MULTILINE)[0].strip()
    if not re.search(r"^- ", text, re.MULTILINE):
        raise ValueError(f"the section [{release}] of CHANGELOG.md lists no change")
    return text


def check(tag: str, root: Path = ROOT) -> None:
    """Raise unless the tag, the version and the changelog agree."""
    release = version(root)
    if tag != f"v{release}":
        raise ValueError(
            f"the tag is {tag}, but Cargo.toml has the version {release}; expected the tag v{release}"
        )
    on_pypi(release)
    section((root / "CHANGELOG.md").read_text(encoding="utf-8"), release)


def file_faults(names: list[str], release: str) -> list[str]:
    """Return what is missing among the names of a release's files, and what does not belong there."""
    release = on_pypi(release)
    left = sorted(names)
    faults = []
    expected = {f"crossent-{release}.tar.gz": re.escape(f"crossent-{release}.tar.gz")}
    for platform, tags in PLATFORMS.items():
        for interpreter in INTERPRETERS:
            start = re.escape(f"crossent-{release}-{interpreter}-")
            expected[f"a wheel {interpreter} for {platform}"] = rf"{start}(?:{tags})\.whl"
    for what, pattern in expected.items():
        found = [name for name in left if re.fullmatch(pattern, name)]
        left = [name for name in left if name not in found]
        if len(found) != 1:
            faults.append(f"expected {what} once, got {', '.join(found) or 'none'}")
    return faults + [f"{name} does not belong there" for name in left]


def label_faults(path: Path) -> list[str]:
    """Return how the name of a wheel or a source distribution differs from what stands in it: it was renamed."""
    if path.name.endswith(".tar.gz"):
        with tarfile.open(path) as sdist:
            folders = {name.partition("/")[0] for name in sdist.getnames()}
        own = path.name.removesuffix(".tar.gz")
        return [] if folders == {own} else [f"it holds {', '.join(sorted(folders)) or 'nothing'}, not {own}"]
    name, release, *tags = path.name.removesuffix(".whl").split("-")
    label = f"{name}-{release}.dist-info/WHEEL"
    with zipfile.ZipFile(path) as wheel:
        if label not in wheel.namelist():
            return [f"no {label}"]
        text = wheel.read(label).decode()
    inside = set(re.findall(r"^Tag: *(\S+)", text, re.MULTILINE))
    named = {"-".join(each) for each in product(*(tag.split(".") for tag in tags))}
    return [] if inside == named else [f"its tags are {', '.join(sorted(inside)) or 'none'}"]


def check_files(folder: Path, release: str) -> None:
    """Raise unless the folder has exactly the files of the release, and these hold what they should."""
    paths = sorted(folder.iterdir())
    faults = file_faults([path.name for path in paths], release)
    for path in paths:
        if path.name.endswith((".whl", ".tar.gz")):
            try:
                found = content_faults(path) + label_faults(path)
            except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile) as error:
                found = [f"it cannot be read: {error}"]
            faults += [f"{path.name}: {fault}" for fault in found]
    if faults:
        raise ValueError("\n".join(faults))


def main(command: str = "", *arguments: str) -> int:
    """Do what the command says and return the exit code."""
    try:
        match command, arguments:
            case "version", ():
                print(version())
            case "check", (tag,):
                check(tag)
                print(f"{tag}: the version and the changelog agree")
            case "notes", ():
                print(section((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), version()))
            case "files", (folder,):
                check_files(Path(folder), version())
                print(f"{folder}: the wheels of {len(PLATFORMS)} platforms, and the sdist")
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
