"""Write the repository's address into the files that are published: `project_urls.py [FOLDER]`.

The address is that of the repository whose workflow runs, in GitHub's variables GITHUB_SERVER_URL, GITHUB_REPOSITORY
and GITHUB_REF_NAME (a tag or a branch). Three files of FOLDER, the checkout by default, are changed:

- pyproject.toml gets the table `[project.urls]`;
- Cargo.toml gets `repository` and `homepage`;
- README.md gets absolute links, since PyPI and crates.io show it without the files around it.

A second run changes nothing. An address of an unknown form, and a link to a file that is not there, are errors, and
then no file is changed.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

SERVER = re.compile(r"https://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?")
REPOSITORY = re.compile(r"(?P<owner>[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?)/(?P<name>[A-Za-z0-9_.-]+)")
REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*")
PICTURES = (".svg", ".png", ".jpg", ".jpeg", ".gif", ".webp", ".avif")

# What Markdown does not read: blocks of code, which end with the page at the latest, comments, and code within a line.
BLOCKS = re.compile(
    r"^[ \t>]*(?:[-*+]|\d+[.)])?[ \t]*(?P<fence>```+(?=[^`\n]*$)|~~~+).*?(?:^[ \t>]*(?P=fence)[`~]*[ \t]*$|\Z)"
    r"|<!--.*?-->",
    re.DOTALL | re.MULTILINE,
)
CODE = re.compile(r"(?<![\\`])(?P<ticks>`+)(?!`)(?:(?!\n[ \t]*\n).)+?(?<!`)(?P=ticks)(?!`)", re.DOTALL)
# What Markdown and HTML write before a link, and the link.
LINKS = [
    re.compile(r"(?P<before>\]\(\s*(?P<angle><)?)(?P<link>(?(angle)[^<>\n]+|(?:[^()\s<>]|\([^()\s<>]*\))+))"),
    re.compile(
        r"(?P<before>^[ \t>]*\[(?!\^)[^\]\n]+\]:\s*(?P<angle><)?)(?P<link>(?(angle)[^<>\n]+|[^\s<>]+))",
        re.MULTILINE,
    ),
    *(
        re.compile(
            rf"""(?P<before><[a-z](?:[^<>"']|"[^"]*"|'[^']*')*?\s{attribute}\s*=\s*(?P<quote>["'])?)"""
            r"""(?P<link>(?(quote)[^"']+|[^\s"'<>]+))""",
            re.IGNORECASE,
        )
        for attribute in ("href", "src", "srcset")
    ),
]


class Address(NamedTuple):
    """A repository at one of its tags or branches."""

    server: str
    owner: str
    name: str
    ref: str

    @property
    def source(self) -> str:
        """The page of the repository."""
        return f"{self.server}/{self.owner}/{self.name}"

    @property
    def documentation(self) -> str:
        """The site that the release puts on GitHub Pages, or the folder it is made from on other servers."""
        if self.server != "https://github.com":
            return f"{self.source}/tree/{self.ref}/docs"
        host = f"{self.owner.lower()}.github.io"
        return f"https://{host}/" if self.name.lower() == host else f"https://{host}/{self.name}/"

    def urls(self) -> dict[str, str]:
        """The labels that PyPI knows, and their addresses."""
        return {
            "Homepage": self.source,
            "Documentation": self.documentation,
            "Source": self.source,
            "Changelog": f"{self.source}/blob/{self.ref}/CHANGELOG.md",
            "Issues": f"{self.source}/issues",
        }

    def link(self, root: Path, link: str) -> str:
        """The address of a file or folder of the repository; what is absolute or within the page stays."""
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:|//|#", link):
            return link
        path, place = re.fullmatch(r"([^?#]*)(.*)", link, re.DOTALL).groups()  # type: ignore[union-attr]
        path = unquote(path).removeprefix("/").removeprefix("./")
        file = root / path
        if not file.exists() or not file.resolve().is_relative_to(root.resolve()):
            raise ValueError(
                f"README.md links to {link}, which is not a file of the repository; correct the link"
            )
        view = "tree" if file.is_dir() else "raw" if file.suffix.lower() in PICTURES else "blob"
        return f"{self.source}/{view}/{self.ref}/{quote(path)}{place}"


def address(variables: Mapping[str, str]) -> Address:
    """Read the address from GitHub's variables."""
    values = []
    for name, form, example in (
        ("GITHUB_SERVER_URL", SERVER, "https://github.com"),
        ("GITHUB_REPOSITORY", REPOSITORY, "owner/name"),
        ("GITHUB_REF_NAME", REF, "v1.0.0"),
    ):
        value = variables.get(name, "")
        if not form.fullmatch(value) or ".." in value:
            raise ValueError(f"the variable {name} is {value!r}, expected an address such as {example!r}")
        values.append(value)
    server, repository, ref = values
    owner, name = repository.split("/")
    if name.strip(".") == "":
        raise ValueError(f"the variable GITHUB_REPOSITORY is {repository!r}, which names no repository")
    return Address(server, owner, name, ref)


def with_urls(pyproject: str, urls: Mapping[str, str]) -> str:
    """Return pyproject.toml with this table of addresses, in place of one that is there."""
    table = "".join(f'{label} = "{url}"\n' for label, url in urls.items())
    table = f"[project.urls]\n{table}\n"
    found = re.search(r"^\[project\.urls\]\n.*?(?=^\[|\Z)", pyproject, re.DOTALL | re.MULTILINE)
    if found:
        return pyproject[: found.start()] + table + pyproject[found.end() :]
    after = re.search(r"^\[project\]\n.*?(?=^\[)", pyproject, re.DOTALL | re.MULTILINE)
    if not after:
        raise ValueError("pyproject.toml has no table [project] that another table follows")
    return pyproject[: after.end()] + table + pyproject[after.end() :]


def with_repository(cargo: str, source: str) -> str:
    """Return Cargo.toml with the address as the package's `repository` and `homepage`."""
    package = re.search(r"^\[package\]\n.*?(?=^\[|\Z)", cargo, re.DOTALL | re.MULTILINE)
    if not package:
        raise ValueError("Cargo.toml has no table [package]")
    kept = re.sub(r"^(repository|homepage) *=.*\n", "", package[0], flags=re.MULTILINE)
    written = kept.replace("[package]\n", "", 1)
    first = re.match(r"(?:name *=.*\n)?(?:version *=.*\n)?", written)
    at = first.end() if first else 0
    lines = f'repository = "{source}"\nhomepage = "{source}"\n'
    table = f"[package]\n{written[:at]}{lines}{written[at:]}"
    return cargo[: package.start()] + table + cargo[package.end() :]


def with_absolute_links(page: str, absolute: Callable[[str], str]) -> str:
    """Return a page of Markdown with each link replaced; code and comments are left alone."""
    for form in LINKS:
        # Ticks within a block begin no code outside of it.
        prose = BLOCKS.sub(lambda match: "\n" * len(match[0]), page)
        code = [match.span() for match in CODE.finditer(prose)]
        parts, done = [], 0
        for match in form.finditer(prose):
            start, end = match.span("link")
            if not any(first <= start < last for first, last in code):
                parts += [page[done:start], absolute(match["link"])]
                done = end
        page = "".join([*parts, page[done:]])
    return page


def rewrite(root: Path, where: Address) -> None:
    """Change the three files, all of them or none."""
    changes: dict[str, Callable[[str], str]] = {
        "pyproject.toml": lambda text: with_urls(text, where.urls()),
        "Cargo.toml": lambda text: with_repository(text, where.source),
        "README.md": lambda text: with_absolute_links(text, lambda link: where.link(root, link)),
    }
    texts = {name: change((root / name).read_text(encoding="utf-8")) for name, change in changes.items()}
    written = tomllib.loads(texts["pyproject.toml"])["project"]["urls"]
    package = tomllib.loads(texts["Cargo.toml"])["package"]
    if written != where.urls() or {package["repository"], package["homepage"]} != {where.source}:
        raise ValueError("the addresses are not what the files give when they are read again")
    for name, text in texts.items():
        (root / name).write_text(text, encoding="utf-8", newline="\n")


def main(folder: str = ".") -> int:
    """Change the files and return the exit code."""
    try:
        where = address(os.environ)
        rewrite(Path(folder), where)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{where.source} at {where.ref}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
