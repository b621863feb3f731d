"""tools/release.py: a release needs its tag, version and changelog to agree, and has the files that were promised."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.version import Version

import crossent

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "tools"
sys.path.insert(0, str(TOOLS))

from release import INTERPRETERS, check, check_files, file_faults, label_faults, on_pypi, section, version  # type: ignore[import-not-found]  # noqa: E402

CHANGELOG = """# Changelog

## [Unreleased]

## [1.2.0] - 2026-11-30

### Added

- One thing.

## [1.1.0] - 2026-01-02

Nothing to list.

## [1.0.0]

- Another thing.

[1.2.0]: https://example.org
"""

TAGS = [
    "manylinux_2_17_x86_64.manylinux2014_x86_64",
    "manylinux2014_aarch64.manylinux_2_17_aarch64",
    "musllinux_1_2_x86_64",
    "musllinux_1_2_aarch64",
    "macosx_10_12_x86_64",
    "macosx_11_0_arm64",
    "win_amd64",
    "win_arm64",
]
NAMES = ["crossent-1.2.0.tar.gz"]
NAMES += [f"crossent-1.2.0-{interpreter}-{tag}.whl" for interpreter in INTERPRETERS for tag in TAGS]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "Cargo.toml").write_text('[package]\nname = "crossent"\nversion = "1.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    return tmp_path


def test_the_version_is_the_crates_and_the_packages() -> None:
    done = subprocess.run([sys.executable, TOOLS / "release.py", "version"], capture_output=True, text=True)
    assert done.stdout.strip() == version()
    assert on_pypi(version()) == crossent.__version__


@pytest.mark.parametrize(
    ("cargos", "pythons"),
    [
        ("1.2.0", "1.2.0"),
        ("1.2.0-rc.1", "1.2.0rc1"),
        ("0.1.0-beta2", "0.1.0b2"),
        ("1.0.0-alpha.10", "1.0.0a10"),
    ],
)
def test_a_version_has_two_spellings(cargos: str, pythons: str) -> None:
    assert on_pypi(cargos) == pythons == str(Version(cargos))
    assert file_faults([name.replace("1.2.0", pythons) for name in NAMES], cargos) == []


@pytest.mark.parametrize("release", ["1.2", "1.2.0-next", "1.2.0+cpu", "1.2.0-rc", "1.2.0rc1"])
def test_a_version_that_pypi_may_not_know_is_an_error(release: str, tree: Path) -> None:
    (tree / "Cargo.toml").write_text(f'[package]\nname = "crossent"\nversion = "{release}"\n')
    with pytest.raises(ValueError, match=f"the version {re.escape(release)}, expected "):
        check(f"v{release}", tree)


def test_a_tag_of_the_version_with_a_section_is_right(tree: Path) -> None:
    check("v1.2.0", tree)


@pytest.mark.parametrize("tag", ["1.2.0", "v1.2", "v1.2.1", "v1.2.0rc1", "V1.2.0", "", "v1.2.0\n"])
def test_another_tag_is_an_error(tag: str, tree: Path) -> None:
    with pytest.raises(ValueError, match=r"Cargo\.toml has the version 1\.2\.0; expected the tag v1\.2\.0"):
        check(tag, tree)


def test_a_version_that_the_changelog_does_not_know_is_an_error(tree: Path) -> None:
    (tree / "CHANGELOG.md").write_text(CHANGELOG.replace("[1.2.0] -", "[1.3.0] -"))
    with pytest.raises(ValueError, match="no heading"):
        check("v1.2.0", tree)


def test_the_notes_are_the_section_alone() -> None:
    assert section(CHANGELOG, "1.2.0") == "### Added\n\n- One thing."


@pytest.mark.parametrize(
    ("release", "text"), [("1.1.0", "lists no change"), ("1.0.0", "no heading"), ("1.2", "no heading")]
)
def test_a_section_without_changes_or_date_is_an_error(release: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        section(CHANGELOG, release)


def test_a_day_that_no_calendar_has_is_an_error() -> None:
    with pytest.raises(ValueError, match="has no date: got 2026-11-31"):
        section(CHANGELOG.replace("2026-11-30", "2026-11-31"), "1.2.0")


def test_the_names_of_a_whole_release() -> None:
    assert file_faults(NAMES, "1.2.0") == []
    assert file_faults([name.replace("1.2.0", "1.2.1") for name in NAMES], "1.2.0") != []


@pytest.mark.parametrize("name", NAMES)
def test_each_file_is_missed(name: str) -> None:
    (fault,) = file_faults([other for other in NAMES if other != name], "1.2.0")
    assert fault.startswith("expected ")
    assert fault.endswith("got none")


@pytest.mark.parametrize(
    "name",
    [
        "crossent-1.2.0-cp311-cp311-win_amd64.whl",  # what --find-interpreter makes
        "crossent-1.2.0-cp311-abi3-linux_x86_64.whl",
        "crossent-1.2.0-cp311-abi3-manylinux_2_34_x86_64.whl",
        "crossent-1.2.0-cp315-cp315t-win_amd64.whl",
        "crossent-1.1.0.tar.gz",
        "notes.txt",
    ],
)
def test_another_file_does_not_belong_there(name: str) -> None:
    assert file_faults([*NAMES, name], "1.2.0") == [f"{name} does not belong there"]


def test_a_platform_twice_is_an_error() -> None:
    twice = [*NAMES, "crossent-1.2.0-cp311-abi3-musllinux_1_1_x86_64.whl"]
    (fault,) = file_faults(twice, "1.2.0")
    assert fault.startswith("expected a wheel cp311-abi3 for Alpine x86_64 once, got crossent")


def test_wheels_that_lack_a_file_are_found(tmp_path: Path) -> None:
    for name in NAMES[1:]:
        with zipfile.ZipFile(tmp_path / name, "w") as wheel:
            wheel.writestr("crossent/__init__.py", "")
    with pytest.raises(
        ValueError, match=r"(?s)expected crossent-1\.2\.0\.tar\.gz once, got none.*no crossent/py"
    ):
        check_files(tmp_path, "1.2.0")


def wheel(path: Path, label: str, *tags: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(label, "Wheel-Version: 1.0\n" + "".join(f"Tag: {tag}\n" for tag in tags))
    return path


def test_a_wheel_that_was_renamed_is_found(tmp_path: Path) -> None:
    label = "crossent-1.2.0.dist-info/WHEEL"
    both = ("cp315-abi3-win_amd64", "cp315-abi3t-win_amd64")
    name = "crossent-1.2.0-cp315-abi3.abi3t-win_amd64.whl"
    assert label_faults(wheel(tmp_path / name, label, *both)) == []
    assert label_faults(wheel(tmp_path / name, label, both[0])) == ["its tags are cp315-abi3-win_amd64"]
    assert label_faults(wheel(tmp_path / name, label)) == ["its tags are none"]
    old = wheel(tmp_path / name, "crossent-1.1.0.dist-info/WHEEL", *both)
    assert label_faults(old) == [f"no {label}"]


def test_a_source_distribution_that_was_renamed_is_found(tmp_path: Path) -> None:
    for name in ("crossent-1.2.0.tar.gz", "crossent-1.1.0.tar.gz"):
        with tarfile.open(tmp_path / name, "w:gz") as sdist:
            sdist.addfile(tarfile.TarInfo("crossent-1.2.0/PKG-INFO"), io.BytesIO())
    assert label_faults(tmp_path / "crossent-1.2.0.tar.gz") == []
    assert label_faults(tmp_path / "crossent-1.1.0.tar.gz") == ["it holds crossent-1.2.0, not crossent-1.1.0"]


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / NAMES[0]).write_bytes(b"cut short")
    (tmp_path / NAMES[1]).write_bytes(b"")
    (tmp_path / NAMES[2]).mkdir()  # as artifacts are laid out that are not merged
    with pytest.raises(ValueError, match="once, got none") as error:
        check_files(tmp_path, "1.2.0")
    for name in NAMES[:3]:
        assert f"{name}: it cannot be read: " in str(error.value)


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    command = [sys.executable, TOOLS / "release.py", "files", tmp_path / "dist"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
