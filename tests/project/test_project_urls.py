"""tools/project_urls.py, on copies of the files that it changes: links are absolute, strange addresses refused."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "project_urls.py"
sys.path.insert(0, str(TOOL.parent))

from project_urls import Address, with_absolute_links, with_repository, with_urls  # type: ignore[import-not-found]  # noqa: E402

FILES = ("pyproject.toml", "Cargo.toml", "README.md")
VARIABLES = {
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "Some-One/cross.ent",
    "GITHUB_REF_NAME": "v1.2.3",
}
SOURCE = "https://github.com/Some-One/cross.ent"


def run(root: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    env |= VARIABLES | variables
    return subprocess.run([sys.executable, TOOL, root], env=env, capture_output=True, text=True, check=False)


def texts(root: Path) -> dict[str, str]:
    return {name: (root / name).read_text(encoding="utf-8") for name in FILES}


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """The three files."""
    for name in FILES:
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


@pytest.fixture
def copy(alone: Path, tmp_path: Path) -> Path:
    """The three files, and every file that the README may link to."""
    for name in ("LICENSE-MIT", "LICENSE-APACHE"):
        shutil.copy(ROOT / name, tmp_path)
    for folder in ("docs", "examples", "python", "src", ".github"):
        skipped = shutil.ignore_patterns("_build", "_pictures", "api", "__pycache__", "*.so", "*.npy")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=skipped)
    for path in ROOT.iterdir():
        if path.suffix in (".md", ".cff"):
            shutil.copy(path, tmp_path)
    return tmp_path


def test_the_files_of_this_project(copy: Path) -> None:
    before = texts(copy)
    done = run(copy)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{SOURCE} at v1.2.3\n", "")
    after = texts(copy)

    project = tomllib.loads(after["pyproject.toml"])
    assert project["project"].pop("urls") == {
        "Homepage": SOURCE,
        "Documentation": "https://some-one.github.io/cross.ent/",
        "Source": SOURCE,
        "Changelog": f"{SOURCE}/blob/v1.2.3/CHANGELOG.md",
        "Issues": f"{SOURCE}/issues",
    }
    assert project == tomllib.loads(before["pyproject.toml"])
    crate = tomllib.loads(after["Cargo.toml"])
    assert (crate["package"].pop("repository"), crate["package"].pop("homepage")) == (SOURCE, SOURCE)
    assert crate == tomllib.loads(before["Cargo.toml"])

    links = re.findall(r"\]\(([^)\s]+)", after["README.md"])
    assert f"{SOURCE}/blob/v1.2.3/CONTRIBUTING.md" in links
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    # Nothing else is changed: without the addresses the page is what it was.
    assert re.sub(rf"{SOURCE}/(blob|raw|tree)/v1\.2\.3/", "", after["README.md"]) == before["README.md"]

    assert run(copy).returncode == 0
    assert texts(copy) == after


def test_a_second_address_takes_the_place_of_the_first(copy: Path) -> None:
    assert run(copy).returncode == 0
    assert run(copy, GITHUB_REPOSITORY="other/name", GITHUB_REF_NAME="v1.2.4").returncode == 0
    after = texts(copy)
    assert (
        tomllib.loads(after["pyproject.toml"])["project"]["urls"]["Source"] == "https://github.com/other/name"
    )
    assert tomllib.loads(after["Cargo.toml"])["package"]["homepage"] == "https://github.com/other/name"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GITHUB_SERVER_URL", ""),
        ("GITHUB_SERVER_URL", "http://github.com"),
        ("GITHUB_SERVER_URL", "https://github.com/"),
        ("GITHUB_SERVER_URL", "https://user:word@github.com"),
        ("GITHUB_SERVER_URL", 'https://github.com"\n[tool]'),
        ("GITHUB_REPOSITORY", ""),
        ("GITHUB_REPOSITORY", "name"),
        ("GITHUB_REPOSITORY", "owner/name/more"),
        ("GITHUB_REPOSITORY", "owner/.."),
        ("GITHUB_REPOSITORY", "owner/."),
        ("GITHUB_REPOSITORY", "ow ner/name"),
        ("GITHUB_REPOSITORY", "owner/name\n"),
        ("GITHUB_REPOSITORY", "_owner/name"),
        ("GITHUB_REF_NAME", ""),
        ("GITHUB_REF_NAME", "-v1"),
        ("GITHUB_REF_NAME", "a/../b"),
        ("GITHUB_REF_NAME", "v1)[x](y"),
        ("GITHUB_REF_NAME", "a//b"),
    ],
)
def test_strange_addresses_are_refused_and_nothing_is_written(name: str, value: str, alone: Path) -> None:
    before = texts(alone)
    done = run(alone, **{name: value})
    assert done.returncode == 1
    assert f"the variable {name} is {value!r}" in done.stderr
    assert texts(alone) == before


def test_the_account_of_a_company_has_an_underscore(copy: Path) -> None:
    assert run(copy, GITHUB_REPOSITORY="owner_company/name").returncode == 0


def test_a_folder_without_the_files_is_an_error(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "pyproject.toml" in done.stderr


@pytest.mark.parametrize(
    "link", ["docs/not_there.md", "../outside.md", "/etc/hostname", "%2e%2e/outside.md", "docs/a\\_b.md"]
)
def test_a_link_to_no_file_of_the_repository_is_refused_and_nothing_is_written(link: str, copy: Path) -> None:
    with (copy / "README.md").open("a", encoding="utf-8") as file:
        file.write(f"\n[Broken]({link}).\n")
    before = texts(copy)
    done = run(copy)
    assert done.returncode == 1
    assert f"README.md links to {link}" in done.stderr
    assert texts(copy) == before


PAGE = """
[page](docs/a.md), [place](./docs/a.md#there "its title"), [folder](docs/),
![picture](docs/a.svg)
[![both](docs/a.svg)](docs/a.md)
[web](https://example.org/docs/a.md) [mail](mailto:a@b.c) [here](#there)
[reference][one] `[code](docs/a.md)` [`named`](docs/a.md)
<img alt="x" src="docs/a.svg"> <source srcset='docs/a.svg'>
<img alt="a > b" src="docs/a.svg" srcset="docs/a.svg">
<IMG SRC = docs/a.svg><a
  class='x' href="docs/a.md#there">text</a>, but not src="docs/a.svg" outside of an element
[spaces](<docs/my page.md>) [encoded](docs/my%20page.md#there)
[parentheses](docs/a_(b).md) [query](docs/a.md?plain=1)
[from the root](/docs/a.md) [footnote][^1], \\`[no code](docs/a.md)\\`, `` ` [code](docs/a.md) ``
> [quoted](docs/a.md)
<!-- [gone](docs/gone.md) -->

[one]: docs/a.md
[two]: https://example.org
> [three]: <docs/my page.md>
[^1]: Not a link.

```python
x = "[code](docs/a.md)"
```

  ```text
  [code](docs/a.md) and a `tick
  ```
`[code](docs/a.md)`

> ~~~
> [code](docs/a.md)
> ~~~

- ```text
  [code](docs/a.md)
  ```
  [page](docs/a.md)

````
```
[code](docs/a.md)
"""
ABSOLUTE = """
[page](S/blob/v1/docs/a.md), [place](S/blob/v1/docs/a.md#there "its title"), [folder](S/tree/v1/docs/),
![picture](S/raw/v1/docs/a.svg)
[![both](S/raw/v1/docs/a.svg)](S/blob/v1/docs/a.md)
[web](https://example.org/docs/a.md) [mail](mailto:a@b.c) [here](#there)
[reference][one] `[code](docs/a.md)` [`named`](S/blob/v1/docs/a.md)
<img alt="x" src="S/raw/v1/docs/a.svg"> <source srcset='S/raw/v1/docs/a.svg'>
<img alt="a > b" src="S/raw/v1/docs/a.svg" srcset="S/raw/v1/docs/a.svg">
<IMG SRC = S/raw/v1/docs/a.svg><a
  class='x' href="S/blob/v1/docs/a.md#there">text</a>, but not src="docs/a.svg" outside of an element
[spaces](<S/blob/v1/docs/my%20page.md>) [encoded](S/blob/v1/docs/my%20page.md#there)
[parentheses](S/blob/v1/docs/a_%28b%29.md) [query](S/blob/v1/docs/a.md?plain=1)
[from the root](S/blob/v1/docs/a.md) [footnote][^1], \\`[no code](S/blob/v1/docs/a.md)\\`, `` ` [code](docs/a.md) ``
> [quoted](S/blob/v1/docs/a.md)
<!-- [gone](docs/gone.md) -->

[one]: S/blob/v1/docs/a.md
[two]: https://example.org
> [three]: <S/blob/v1/docs/my%20page.md>
[^1]: Not a link.

```python
x = "[code](docs/a.md)"
```

  ```text
  [code](docs/a.md) and a `tick
  ```
`[code](docs/a.md)`

> ~~~
> [code](docs/a.md)
> ~~~

- ```text
  [code](docs/a.md)
  ```
  [page](S/blob/v1/docs/a.md)

````
```
[code](docs/a.md)
"""


def test_links_of_every_kind_and_none_in_code(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for name in ("a.md", "a.svg", "my page.md", "a_(b).md"):
        (tmp_path / "docs" / name).touch()
    where = Address("https://github.com", "o", "n", "v1")
    expected = ABSOLUTE.replace("S/", "https://github.com/o/n/")
    got = with_absolute_links(PAGE, lambda link: where.link(tmp_path, link))
    assert got == expected
    assert with_absolute_links(got, lambda link: where.link(tmp_path, link)) == expected


@pytest.mark.parametrize(
    ("server", "owner", "name", "documentation"),
    [
        ("https://github.com", "Owner", "Name", "https://owner.github.io/Name/"),
        ("https://github.com", "Owner", "owner.github.io", "https://owner.github.io/"),
        ("https://github.com", "owner_company", "name", "https://owner_company.github.io/name/"),
        ("https://git.example.org", "owner", "name", "https://git.example.org/owner/name/tree/v1/docs"),
    ],
)
def test_where_the_documentation_is(server: str, owner: str, name: str, documentation: str) -> None:
    assert Address(server, owner, name, "v1").documentation == documentation


def test_tables_are_found_where_they_are() -> None:
    urls = {"Source": "https://b"}
    last = '[project]\nname = "x"\n\n[project.urls]\nSource = "https://a"\n'
    assert tomllib.loads(with_urls(last, urls)) == {"project": {"name": "x", "urls": urls}}
    crate = '[package]\nname = "x"\nversion = "1"\nhomepage = "https://a"\n\n[features]\nrepository = []\n'
    assert tomllib.loads(with_repository(crate, "https://b")) == {
        "package": {"name": "x", "version": "1", "repository": "https://b", "homepage": "https://b"},
        "features": {"repository": []},
    }
