"""Labels in text: the columns of a table that they name are its classes."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Sequence

from crossent._io.cells import Kind, is_missing, whole
from crossent._io.columns import Asked, Choice, Column, check_prefix
from crossent._io.labels import SEPARATORS, LabelError, listed, short_names
from crossent._io.names import columns_option, note_on, odd_name, one_class, shared_prefix, who
from crossent._io.source import OptionError
from crossent._io.sums import Sums


class NamedByLabels:
    """Labels as they are read: which columns they name, and what they leave out before the names.

    Each label is the whole name of a column, or all of it after a prefix, which is the same for all labels.
    """

    def __init__(self, table: str, columns: Sequence[Column], label: str, asked: Asked) -> None:
        self._table, self._label, self._strip_prefix = table, label, asked.strip_prefix
        self._ignored = asked.ignored
        self._columns = [column for column in columns if column.name != label]
        self._names = [column.name for column in self._columns]
        self._kinds = {column.name: column.kind for column in self._columns}
        self._numeric = [c.name for c in self._columns if c.kind.is_numeric or c.kind is Kind.MIXED]
        if asked.strip_prefix is not None:
            check_prefix(table, self._names, asked.strip_prefix)
        self._endings = self._by_ending()
        self._seen: set[str] = set()
        self._classes: dict[str, set[str]] = {}
        """For each label, as names have it: the prefixes with which it is a name."""

        self._prefixes: set[str] | None = None
        """Those with which all labels so far are names, or are names themselves."""

    def _by_ending(self) -> dict[str, set[str]]:
        """For each ending of a name, what stands before it."""
        found: dict[str, set[str]] = defaultdict(set)
        for name in self._names:
            found[name].add("")
            for prefix in self._prefixes_in(name):
                found[name[len(prefix) :]].add(prefix)
        return found

    def _prefixes_in(self, name: str) -> list[str]:
        if self._strip_prefix is not None:
            return [self._strip_prefix] if name.startswith(self._strip_prefix) else []
        return [name[: at + 1] for at in range(len(name) - 1) if name[at] in SEPARATORS]

    def add(self, table: str, texts: Iterable[str], start: int) -> None:
        """Add labels of some rows of a table; `start` rows come before them."""
        fresh: dict[str, int] = {}
        for row, text in enumerate(texts, start):
            if text not in self._seen:
                fresh.setdefault(text, row)
        for text, row in fresh.items():
            self._seen.add(text)
            if not self._add(text.strip()):
                raise LabelError(f"{table}: the label of row {row} is {self._wrong(text.strip())}")

    def _add(self, label: str) -> bool:
        """Add a label, and say whether it can be one beside those before; what stands for no class is passed over."""
        number = whole(label)
        form = label if number is None or label in self._endings else str(number)
        if form not in self._endings:
            return is_missing(label) or (number is not None and (number < 0 or number == self._ignored))
        allowed = self._endings[form]
        prefixes = allowed | set(self._prefixes_in(form)) if "" in allowed else allowed
        if self._prefixes is not None:
            prefixes = {
                each
                for each in self._prefixes
                if each in allowed or ("" in allowed and form.startswith(each))
            }
        if not prefixes:
            return False
        self._prefixes = prefixes
        self._classes[form] = allowed
        return True

    def _wrong(self, label: str) -> str:
        short = short_names(self._numeric, self._strip_prefix)
        near = difflib.get_close_matches(
            label.casefold(), [name.casefold() for name in short], n=2, cutoff=0.6
        )
        meant = [name for name, each in zip(self._numeric, short, strict=True) if each.casefold() in near]
        hint = f"did you mean {' or '.join(map(repr, meant))}? " if meant else ""
        return (
            f"{label!r}, which no column of a class is named; they are {listed(self._numeric)}; {hint}check --label; a "
            "label names a column, with or without the prefix of the columns of all classes (--strip-prefix), or is "
            "a number from 0 on"
        )

    @property
    def is_done(self) -> bool:
        """Whether more labels could name nothing more: every column of numbers is named."""
        return self._prefixes is not None and all(
            set(self._numeric) <= self._taken(prefix) for prefix in self._prefixes
        )

    def _taken(self, prefix: str) -> set[str]:
        return {(prefix if prefix in allowed else "") + form for form, allowed in self._classes.items()}

    def choose(self, sums: Sums) -> Choice:
        """Take the columns that the labels name, and the classes that no label names.

        Those are known where the rows add up to 1 with them alone. Else a column that may be one is an error.
        """
        if not self._prefixes:
            raise OptionError(
                f"{self._table}: no label in the column {self._label!r} names a column; name the classes with --columns"
            )
        prefixes = sorted(self._prefixes, key=lambda each: (-len(each), each))
        sets = list(dict.fromkeys(frozenset(self._taken(prefix)) for prefix in prefixes))
        if len(sets) > 1:
            ways = " or ".join(f"{columns_option(self._in_order(each), self._names)}" for each in sets[:2])
            raise OptionError(
                f"{self._table}: the labels name columns in more than one way, those of {ways}; pass the right one"
            )
        prefix, named = prefixes[0], self._in_order(sets[0])
        chosen = self._completed(prefix or shared_prefix(named), named, sums)
        extra = [name for name in chosen if name not in sets[0]]
        why = (
            f": those that labels name, and {listed(extra)}, which no label names"
            if extra
            else " that labels name"
        )
        left = [name for name in self._names if name not in frozenset(chosen)]
        told = note_on(self._table, chosen, left, self._label, why=why)
        return Choice(tuple(chosen), self._label, prefix or None, notes=(told,))

    def _in_order(self, names: frozenset[str]) -> list[str]:
        return [name for name in self._names if name in names]

    def _completed(self, prefix: str, named: Sequence[str], sums: Sums) -> list[str]:
        """Add the classes that no label names, by the sums of the rows."""
        taken = frozenset(named)
        others = [name for name in self._numeric if name not in taken]
        if not others and len(named) > 1:
            return list(named)
        likely = [name for name in others if self._may_be_class(name, prefix, named)]
        alike = [name for name in likely if name.startswith(prefix)]
        sets = [self._in_order(taken.union(more)) for more in ((), alike, likely, others)]
        found = sums.first_that_adds_up(sets)
        if found is not None:
            return sets[found]
        # A column that lacks what the names of all classes begin with is none.
        like = alike if len(named) > 1 or alike else likely
        if like:
            both = columns_option(self._in_order(taken.union(like)), self._names)
            alone = f" or {columns_option(named, self._names)}" if len(named) > 1 else ""
            raise OptionError(
                f"{self._table}: {who(like)} may be {'a class' if len(like) == 1 else 'classes'} too, but no label is "
                f"named so; which are the classes: {both}{alone}"
            )
        if len(named) == 1:
            raise OptionError(one_class(self._table, named[0], self._names))
        return list(named)

    def _may_be_class(self, name: str, prefix: str, named: Sequence[str]) -> bool:
        """Return whether neither its name nor integers beside decimal fractions speak against a column."""
        kinds = {self._kinds[each] for each in named}
        if self._kinds[name] in (Kind.INTEGER, Kind.DECIMAL) and self._kinds[name] not in kinds:
            return False
        return odd_name(name.removeprefix(prefix)) is None and odd_name(name) is None


def is_text(labels: Iterable[str], columns: Sequence[Column]) -> bool:
    """Return whether labels are names of columns: those that are no numbers, and numbers beside them that are names.

    True and false are numbers, 1 and 0, where no columns are named so.
    """
    texts = {label.strip() for label in labels}
    numbers = {text for text in texts if (number := whole(text)) is not None and number >= 0}
    words = {text for text in texts - numbers if not _is_decimal(text)}

    def is_name(text: str) -> bool:
        return any(column.name.endswith(text) for column in columns)

    words = {text for text in words if not is_missing(text) or (text and is_name(text))}
    if not words or not all(map(is_name, numbers)):
        return False
    return any(map(is_name, words)) or any(text.lower() not in ("true", "false") for text in words)


def _is_decimal(text: str) -> bool:
    """Return whether a label is a number, though it may be one that no class has."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text
