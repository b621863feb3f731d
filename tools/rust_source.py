"""Rust sources without what is no code."""

import re

# A comment, a string (with its raw and byte forms) or a character; whichever starts first.
RUST_TOKEN = re.compile(
    r"""//[^\n]*
    | /\*
    | b?r(?P<hashes>\#*)"(?s:.*?)"(?P=hashes)
    | b?"(?:\\(?s:.)|[^"\\])*"
    | b?'(?:\\(?:[^u]|u\{[^}]*\})[^']*|[^'\\\n])'
    """,
    re.VERBOSE,
)


def code_only(source: str) -> str:
    """Return Rust source with its comments, strings and characters blanked; the lines keep their numbers."""
    out: list[str] = []
    at = 0
    while match := RUST_TOKEN.search(source, at):
        end = match.end()
        if match.group() == "/*":
            end = end_of_block_comment(source, match.start())
        out += [source[at : match.start()], re.sub(r"[^\n]", " ", source[match.start() : end])]
        at = end
    return "".join([*out, source[at:]])


def end_of_block_comment(source: str, start: int) -> int:
    """Return where the block comment that starts at `start` ends; block comments nest in Rust."""
    depth = 0
    for mark in re.finditer(r"/\*|\*/", source[start:]):
        depth += 1 if mark.group() == "/*" else -1
        if depth == 0:
            return start + mark.end()
    return len(source)
