"""Labels of tables: from what stands in the column to the number of a class."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossent._io.cells import is_missing, whole

SEPARATORS = "_.:- "
"""What may stand between the prefix that the columns of classes share and the name of the class."""

USUAL = re.compile(
    r"(?:y_?)?(?:p|pr|prob|probs|proba|probas|probability|probabilities|logit|logits|l|lp|log_?p|log_?probs?|"
    r"log_?proba|score|scores|softmax|pred|prediction|out|output|class|cls)[_.:\- ]?",
    re.IGNORECASE,
)
"""What people put before the names of classes."""

_LIMITS = np.iinfo(np.int64)
_NUMBERED = re.compile(r"(.*?)([0-9]+)")


class LabelError(ValueError):
    """A label that stands for no class: what is wrong with it, as the end of a sentence, and what to do."""


def short_names(names: Sequence[str], prefix: str | None = None) -> list[str]:
    """Take off a prefix: the one given, where a name has it; else what all names begin with.

    That is cut after a sign that ends a word (cat and dog for p_cat and p_car), or before the digits that all names
    end with (0 and 1 for p0 and p1).
    """
    if prefix:
        return [name.removeprefix(prefix) for name in names]
    shared = os.path.commonprefix(list(names)) if len(names) > 1 else ""  # noqa: RUF071  characters are meant
    length = max((shared.rfind(sign) + 1 for sign in SEPARATORS), default=0)
    short = [name[length:] for name in names]
    parts = [_NUMBERED.fullmatch(name) for name in short]
    if len(short) > 1 and len({part and part[1] for part in parts}) == 1:
        return [part[2] for part in parts if part] or short
    return short


def counts_up(numbers: Iterable[int]) -> bool:
    """Return whether numbers are those of classes: all from 0 or 1 on, in any order."""
    known = sorted(numbers)
    return bool(known) and known[0] in (0, 1) and known == list(range(known[0], known[0] + len(known)))


def numbers_of_classes(full: Sequence[str], short: Sequence[str]) -> dict[int, int]:
    """Return the classes that names number.

    Digits after letters that are no usual beginning are a part of the name, unless they count up: n00055701 is not
    class 55701.
    """
    numbers = {number: i for i, name in enumerate(short) if (number := whole(name)) is not None}
    before = re.search(r"[^\W\d_]+$", full[0][: len(full[0]) - len(short[0])]) if full else None
    if before is None or USUAL.fullmatch(before[0]) or counts_up(numbers):
        return numbers
    return {}


class Labels(dict[str, int]):
    """The class of each label, found when it is asked for first.

    A label names a column, with or without the prefix; or, where no column is named by a number, it is the number of
    the class. Negative numbers stand for themselves: one of them is the ignore index.
    """

    def __init__(
        self,
        names: Sequence[str],
        classes: int,
        prefix: str | None = None,
        ignored: int | None = None,
        *,
        numbers_are_places: bool = True,
    ) -> None:
        """Prepare for classes of these names.

        `ignored` is the label of rows to leave out; `numbers_are_places` is false where the columns stand in another
        order than the classes.
        """
        super().__init__()
        self._full, self._classes, self._numbers_are_places = list(names), classes, numbers_are_places
        self._ignored = ignored
        short = short_names(names, prefix)
        self._names = {name: i for each in (self._full, short) for i, name in enumerate(each)}
        self._folded = {name.casefold(): i for i, name in enumerate(short)}
        self._numbers = numbers_of_classes(self._full, short)
        self._are_places = all(number == place for number, place in self._numbers.items())
        self._seen: dict[bool, str] = {}  # the first label that was a number, and the first that was a name

    def __missing__(self, text: str) -> int:
        label = text.strip()
        code = self._class_of(label)
        if code == self._ignored and whole(label) != code:
            raise LabelError(self._hidden(repr(label)))
        self[text] = code
        return code

    def _class_of(self, label: str) -> int:
        number = whole(label)
        if number is not None:
            if label in self._names and number < 0:
                return self._names[label]
            return self._class_of_number(number)
        if label in self._names:
            self._note(label, is_number=False)
            return self._names[label]
        if label.lower() in ("true", "false"):
            return self._class_of_bool(label)
        raise LabelError(self._wrong(label))

    def _class_of_number(self, number: int) -> int:
        if not _LIMITS.min <= number <= _LIMITS.max:
            raise LabelError(f"{number}, which is outside int64; check --label")
        if number < 0 or number == self._ignored:
            return number
        if self._numbers:
            if number not in self._numbers and self._are_places and number < self._classes:
                return number  # of a class with another name, such as `other` beside 0 and 1
            if number not in self._numbers:
                raise LabelError(self._unnamed(str(number)))
            return self._numbers[number]
        if not self._numbers_are_places:
            raise LabelError(
                f"{number}, but the columns of the classes have another order here than in the files before; write "
                "names of columns for labels, or the columns in one order"
            )
        self._note(str(number), is_number=True)
        return number

    def _class_of_bool(self, label: str) -> int:
        number = int(label.lower() == "true")
        if label.lower() in self._folded:
            return self._folded[label.lower()]
        if number in self._numbers:
            return self._numbers[number]
        if not self._full and self._classes == 2:
            return number
        raise LabelError(self._unnamed(label))

    def _note(self, label: str, *, is_number: bool) -> None:
        """Raise where some labels are numbers of classes, and others names."""
        self._seen.setdefault(is_number, label)
        if len(self._seen) == 2:
            raise LabelError(
                f"{label!r}, but there are labels such as {self._seen[not is_number]!r} too; write numbers, or the "
                "names of columns, in all rows"
            )

    def _wrong(self, label: str) -> str:
        if is_missing(label):
            what = f"{label!r}, which stands for a missing value" if label else "empty"
            return f"{what}; drop the row, or write the ignore index there (-100, or that of --ignore-index)"
        if label.startswith("#"):
            return f"{label!r}, which begins with # as a comment; CSV has no comments, so remove such lines"
        try:
            float(label)
        except ValueError:
            return self._unnamed(repr(label))
        if "_" in label:
            return f"{label!r}, which is no number because of the _; write the digits alone"
        return f"{label}, which is no whole number; expected class indices or names of columns; check --label"

    def _hidden(self, label: str) -> str:
        return (
            f"{label}, whose column is class {self._ignored} by its position, and that is the ignore index too; "
            "pass a negative --ignore-index, and write it into the rows to leave out"
        )

    def _unnamed(self, label: str) -> str:
        if not self._full:
            return f"{label}, but the classes have no names: they are a column of lists; write class indices"
        known = [name for name in self._names if whole(name) is None]
        near = _nearest(label.strip("'"), known)
        meant = f"; did you mean {' or '.join(map(repr, near))}?" if near else ";"
        return (
            f"{label}, which no column of a class is named; they are {listed(self._full)}{meant} check --label and "
            "--columns"
        )

    def of_texts(self, texts: Sequence[str], start: int) -> NDArray[np.int64]:
        """Return the classes of labels in text; `start` rows come before them."""
        try:
            return np.fromiter(map(self.__getitem__, texts), np.int64, len(texts))
        except LabelError as error:
            row = next(at for at, text in enumerate(texts) if not self._is_known(text))
            raise LabelError(f"the label of row {start + row} is {error}") from None

    def _is_known(self, text: str) -> bool:
        try:
            self[text]
        except LabelError:
            return False
        return True

    def of_numbers(self, numbers: NDArray[Any], start: int) -> NDArray[np.int64]:
        """Return the classes of integers; `start` rows come before them."""
        if numbers.size == 0:
            return numbers.astype(np.int64)
        if not self._numbers and self._numbers_are_places and int(numbers.max()) <= _LIMITS.max:
            return numbers.astype(np.int64)
        values, places = np.unique(numbers, return_inverse=True)
        codes = np.empty(len(values), np.int64)
        for at, value in enumerate(values.tolist()):
            try:
                codes[at] = self._class_of_number(value)
                if codes[at] == self._ignored != value:
                    raise LabelError(self._hidden(str(value)))
            except LabelError as error:
                row = start + int(np.flatnonzero(numbers == value)[0])
                raise LabelError(f"the label of row {row} is {error}") from None
        return codes[places.reshape(-1)]


def _nearest(label: str, names: Iterable[str]) -> list[str]:
    """Find the names that a label may have been meant as: of other case, misspelt or with more around it."""
    folded = {name.casefold(): name for name in names}
    wanted = label.casefold()
    found = [folded[near] for near in difflib.get_close_matches(wanted, folded, n=2, cutoff=0.75)]
    around = [
        name
        for key, name in folded.items()
        if wanted and re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", key)
    ]
    return list(dict.fromkeys([*found, *around]))[:2]


def shortened(text: str) -> str:
    """Cut off the end of a text that is too long for an error."""
    return text if len(text) <= 40 else f"{text[:40]}..."


def listed(names: Sequence[str]) -> str:
    """Name the first eight of some names."""
    shown = ", ".join(map(repr, names[:8]))
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown
