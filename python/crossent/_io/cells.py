"""Cells of tables: which texts are numbers, which stand for nothing, and what is wrong with all others.

A number is what pandas and R write and read: ASCII digits, a decimal point, an exponent; `nan` and `inf`. Python's
`float` takes more, such as `1_0` for 10, which nobody means who writes it into a table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from enum import Enum

# Digits are never given back: else the ways to read many numbers before one that is none would double with each.
_DIGITS = r"[+-]?(?:[0-9]++\.?[0-9]*+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?"
_NUMBER = re.compile(_DIGITS)
_INTEGER = re.compile(r"[+-]?[0-9]+")
_SPECIAL = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
# Cells that are joined with this mark before and after each are searched for a number all at once.
_MARK = "\0"
_AMONG = re.compile(rf"{_MARK}[ \t]*{_DIGITS}[ \t]*(?={_MARK})")

_ALL_INTEGERS = re.compile(rf"(?:[+-]?[0-9]++{_MARK})+")
_ALL_NUMBERS = re.compile(rf"(?:{_DIGITS}{_MARK})+")

_MISSING = frozenset({
    "", "na", "n/a", "<na>", "#n/a", "#na", "nan", "null", "none", "nil", "nat", "missing", "-", "--", "?", ".",
})  # fmt: skip
_SPREADSHEET = re.compile(r"#(?:VALUE|REF|DIV/0|NUM|NAME|NULL)[!?]", re.IGNORECASE)

NO_NUMBER = "which is no number; correct the cell"
"""What is wrong with a cell that is not even almost a number."""

# What people write as numbers, and no program reads as such.
_ALMOST = (
    (
        re.compile(r"[+-]?[0-9]*,[0-9]+(?:[eE][+-]?[0-9]+)?"),
        "which has a decimal comma; write a decimal point",
    ),
    (
        re.compile(r"[+-]?[0-9]{1,3}(?:[,.'’  \xa0][0-9]{3})+(?:[.,][0-9]+)?"),
        "which has separators of thousands; write the digits alone, and a decimal point",
    ),
    (re.compile(r"[+-]?[0-9.,]+\s*[%‰]"), "which is a percentage; write it as a fraction of 1"),
    (
        re.compile(r"[+-]?(?=[0-9][0-9.]*_)[0-9_.]++(?:[eE][+-]?[0-9]+)?"),
        "which is no number because of the _; write the digits alone",
    ),
    (re.compile(r"[+-]?0[xX][0-9a-fA-F]+"), "which is hexadecimal; write it as a decimal number"),
    (re.compile(r"[−–]\s*[0-9.]+(?:[eE].*)?"), "whose sign is no ASCII minus; write -"),
    (re.compile(r"(?=.*[^\x00-\x7f])[+-]?[\d.,]+"), "whose digits are not ASCII; write 0 to 9"),
    (
        re.compile(r"[$€£¥]\s*[0-9.,]+|[0-9.,]+\s*[$€£¥]"),
        "which is an amount of money; write the number alone",
    ),
)


class Kind(Enum):
    """What the cells of a column are."""

    REAL = "decimal fractions"
    INTEGER = "integers"
    DECIMAL = "numbers of a decimal type"
    LIST = "lists"
    TEXT = "text"
    EMPTY = "no values"
    MIXED = "numbers, and cells that are none"

    @property
    def is_numeric(self) -> bool:
        """Whether each cell is one number."""
        return self in (Kind.REAL, Kind.INTEGER, Kind.DECIMAL)


def is_number(text: str) -> bool:
    """Return whether a cell is a number, nan or an infinity."""
    text = text.strip()
    return _NUMBER.fullmatch(text) is not None or _SPECIAL.fullmatch(text) is not None


def is_missing(text: str) -> bool:
    """Return whether a cell says that there is no value; `nan` is one of them, where a number is not asked for."""
    return text.strip().lower() in _MISSING


def integer(text: str) -> int | None:
    """Read an integer: ASCII digits alone, perhaps after a sign."""
    text = text.strip()
    if not _INTEGER.fullmatch(text):
        return None
    # Python refuses to read more digits than these; a number of so many is outside int64 in any case.
    return int(text) if len(text) <= 4000 else 10**20


def whole(text: str) -> int | None:
    """Read a whole number, in decimal notation or with an exponent too (pandas writes 1.0, NumPy 1.0e+00)."""
    text = text.strip()
    number = integer(text)
    if number is not None:
        return number
    if not _NUMBER.fullmatch(text) or len(text) > 4000:
        return None
    decimal = Decimal(text)
    if decimal.is_zero():
        return 0
    if decimal.adjusted() > 30:
        return 10**20 if decimal > 0 else -(10**20)
    return int(decimal) if decimal == decimal.to_integral_value() else None


def flaw(text: str) -> str:
    """Explain what is wrong with a cell that is no number, and the fix, as the end of a sentence."""
    text = text.strip()
    if is_missing(text):
        return "which stands for a missing value; fill it, or drop such rows"
    if _SPREADSHEET.fullmatch(text):
        return "which is the error value of a spreadsheet; correct the cell there"
    if text.startswith("#"):
        return "which begins with # as a comment; CSV has no comments, so remove such lines"
    for pattern, what in _ALMOST:
        if pattern.fullmatch(text):
            return what
    return NO_NUMBER


def kind_of(cells: Iterable[str]) -> tuple[Kind, str | None]:
    """Return what the cells of a column are; where some are numbers and some are not, also the first that is not.

    Cells that are almost numbers, such as 1,5, are none; a column of them is not plainly text either.
    """
    cells = list(cells)
    joined = _MARK.join(cells) + _MARK
    if _ALL_INTEGERS.fullmatch(joined):
        return Kind.INTEGER, None
    if _ALL_NUMBERS.fullmatch(joined):
        return Kind.REAL, None
    integers = reals = special = missing = text = almost = 0
    first: str | None = None
    for cell in cells:
        stripped = cell.strip()
        if _INTEGER.fullmatch(stripped):
            integers += 1
        elif _NUMBER.fullmatch(stripped):
            reals += 1
        elif _SPECIAL.fullmatch(stripped):
            special += 1
        else:
            first = cell if first is None else first
            if is_missing(stripped):
                missing += 1
            elif any(pattern.fullmatch(stripped) for pattern, _ in _ALMOST):
                almost += 1
            else:
                text += 1
    numbers = integers + reals
    if numbers or (almost and not text):
        if first is not None:
            return Kind.MIXED, first
        return (Kind.REAL if reals or special else Kind.INTEGER), None
    if text:
        return Kind.TEXT, None
    return (Kind.REAL if special and not missing else Kind.EMPTY), None


def first_number(cells: list[str]) -> int | None:
    """Find the first number among the cells of a column of text, fast where there is none."""
    joined = f"{_MARK}{_MARK.join(cells)}{_MARK}"
    if _AMONG.search(joined) is None:
        return None
    return next((at for at, cell in enumerate(cells) if _NUMBER.fullmatch(cell.strip())), None)
