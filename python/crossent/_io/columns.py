"""Which columns of a table are classes: the rules, for all kinds of tables, from the columns' names and kinds.

A wrong column among the classes, or one that is missing there, gives a wrong number and no error. So the classes are
taken only where no name, type or position speaks against one of them; else the error says which `--columns` to give.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from crossent._io.cells import Kind
from crossent._io.labels import listed
from crossent._io.names import (
    LABELS,
    Patterns,
    columns_option,
    counted,
    family_of,
    is_token_list,
    letters_of,
    meant,
    note_on,
    odd_name,
    one_class,
    rest_of,
)
from crossent._io.source import OptionError
from crossent._io.sums import Sums


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str
    kind: Kind
    flaw: str | None = None
    """Where some cells are numbers and some are not: the row of the first that is not, and what it is."""

    type: str = ""
    """The type, where the file has one."""


@dataclass(frozen=True)
class Choice:
    """The columns that are taken."""

    classes: tuple[str, ...]
    label: str | None
    prefix: str | None = None
    """What the names of the classes begin with, where labels leave it out, if `short_names` would not find it."""

    watched: tuple[str, ...] = ()
    """Columns that are left out because they hold no numbers: one in any row is an error."""

    notes: tuple[str, ...] = ()
    """What to say about the choice."""


@dataclass(frozen=True)
class Asked:
    """What the user says about the columns."""

    label: str | None = None
    columns: str | None = None
    strip_prefix: str | None = None
    ignored: int | None = None
    """The label of rows that are left out."""


def label_column(
    table: str, columns: Sequence[Column], asked: Asked, sums: Sums, *, elsewhere: bool
) -> str | None:
    """Find the column of labels: the one named, or the only one that has a usual name.

    Where the labels are `elsewhere`, or names are letters that are counted up, a column of fractions is a class.
    """
    names = [column.name for column in columns]
    if asked.label is not None:
        if asked.label not in names:
            raise OptionError(
                f"{table} has no column {asked.label!r}; it has {listed(names)}{meant(asked.label, names)}"
            )
        return asked.label
    exact = frozenset(() if asked.columns is None else asked.columns.split(","))
    found = [name for name in names if name.lower() in LABELS and name not in exact]
    held = [column.name for column in columns if _is_class(column, names, sums, elsewhere=elsewhere)]
    found = [name for name in found if name not in held]
    if len(found) > 1:
        found = [name for name in found if name not in letters_of(names)]
    found.sort(key=lambda name: LABELS.index(name.lower()))
    if len(found) > 1:
        raise OptionError(
            f"{table} has {len(found)} columns that may hold the labels, {listed(found)}; name the right one, as in "
            f"--label {shlex.quote(found[0])}"
        )
    return found[0] if found else None


def _is_class(column: Column, names: Sequence[str], sums: Sums, *, elsewhere: bool) -> bool:
    """Return whether a column that is named as labels are is a class: what it holds are no labels."""
    if column.name.lower() not in LABELS or not (elsewhere or column.name in letters_of(names)):
        return False
    return column.kind in (Kind.REAL, Kind.DECIMAL, Kind.MIXED) and sums.has_fractions(column.name)


def named(table: str, columns: Sequence[Column], label: str | None, asked: Asked) -> Choice:
    """Take the columns that `--columns` names."""
    assert asked.columns is not None
    names = [column.name for column in columns if column.name != label]
    patterns = Patterns(asked.columns.split(","))
    chosen = [name for name in names if name in patterns]
    if not chosen:
        raise OptionError(
            f"{table} has no columns of numbers for the classes; it has {listed([c.name for c in columns])}; name "
            "them with --columns, such as 'p_*'"
        )
    idle = patterns.idle(chosen)
    if idle is not None:
        raise OptionError(
            f"{table} has no column {idle!r}, which --columns names; it has {listed(names)}{meant(idle, names)}"
        )
    check_prefix(table, chosen, asked.strip_prefix)
    notes: tuple[str, ...] = ()
    if patterns.exact == set(chosen) and patterns.parts != chosen:
        order = ", ".join(f"{name} is {i}" for i, name in enumerate(chosen[:4]))
        more = ", ..." if len(chosen) > 4 else ""
        notes = (f"{table}: the classes are in the order of the table, not of --columns: {order}{more}",)
    return Choice(tuple(chosen), label, asked.strip_prefix, notes=notes)


def check_prefix(table: str, names: Sequence[str], prefix: str | None) -> None:
    """Raise where no column begins with what `--strip-prefix` takes off."""
    if prefix is not None and not (prefix and any(name.startswith(prefix) for name in names)):
        raise OptionError(
            f"{table} has no column of a class that begins with {prefix!r}, which --strip-prefix removes; they "
            f"are {listed(names)}"
        )


def unnamed(
    table: str,
    columns: Sequence[Column],
    label: str | None,
    asked: Asked,
    sums: Sums,
    *,
    elsewhere: bool,
    certain_types: bool,
) -> Choice:
    """Take the columns of numbers, if all of them can be classes.

    The labels may be `elsewhere`, in another file. `certain_types` says that the file tells integers from other
    numbers; in text, 1 may be a rounded 1.0.
    """
    judge = _Judge(
        table, columns, label, asked.strip_prefix, sums, elsewhere=elsewhere, certain_types=certain_types
    )
    if judge.lists and len(judge.likely) <= 1:
        return judge.take_list()
    return judge.take_numbers()


class _Judge:
    """What speaks against the columns of a table being classes."""

    def __init__(
        self,
        table: str,
        columns: Sequence[Column],
        label: str | None,
        prefix: str | None,
        sums: Sums,
        *,
        elsewhere: bool,
        certain_types: bool,
    ) -> None:
        self._table, self._label, self._prefix, self._sums = table, label, prefix, sums
        self._certain_types = certain_types
        self._places = {column.name: place for place, column in enumerate(columns)}
        self._others = [column for column in columns if column.name != label]
        self._names = [column.name for column in self._others]
        if prefix is not None:
            check_prefix(table, self._names, prefix)
        self._inside = [column for column in self._others if column.name.startswith(prefix or "")]
        self._numeric = [c for c in self._inside if c.kind.is_numeric or c.kind is Kind.MIXED]
        self._reasons: dict[str, str] = {}
        self._certain = False  # whether the rows add up to 1 with those alone against which nothing speaks
        letters = letters_of(self._names)
        self._odd = {
            c.name: None
            if c.name in letters or _is_class(c, self._names, sums, elsewhere=elsewhere)
            else odd_name(c.name)
            for c in self._numeric
        }
        self._family = family_of([name for name, odd in self._odd.items() if odd is None])

    @property
    def lists(self) -> list[str]:
        """The columns of lists."""
        return [column.name for column in self._inside if column.kind is Kind.LIST]

    @property
    def likely(self) -> list[str]:
        """The columns of decimal fractions with a name that may be that of a class."""
        return [c.name for c in self._numeric if c.kind is Kind.REAL and self._odd[c.name] is None]

    def take_list(self) -> Choice:
        """Take the column of lists, if there is one."""
        lists = self.lists
        if len(lists) > 1 or self.likely:
            ways = " or ".join(f"{columns_option([name], self._names)}" for name in lists)
            beside = (
                f" beside the column of numbers {self.likely[0]!r}" if self.likely and len(lists) == 1 else ""
            )
            raise OptionError(
                f"{self._table} has {counted(len(lists), 'column')} of lists, {listed(lists)}{beside}; say which holds "
                f"the classes: {ways}"
            )
        if is_token_list(lists[0]):
            raise OptionError(
                f"{self._table} has a column of lists, {lists[0]!r}, which is not named as one of classes; if it holds "
                f"them, pass {columns_option(lists, self._names)}"
            )
        left = [name for name in self._names if name != lists[0]]
        told = f"the classes are the elements of the lists in the column {lists[0]}"
        return Choice(
            tuple(lists), self._label, notes=(f"{self._table}: {told}{rest_of(left, self._label)}",)
        )

    def take_numbers(self) -> Choice:
        """Take the columns of numbers, if nothing speaks against one."""
        if not self._numeric:
            raise OptionError(self._no_numbers())
        self._judge_names()
        self._judge_kinds()
        self._judge_sides()
        self._judge_sums()
        self._check_flaws()
        chosen = [column.name for column in self._numeric]
        if len(chosen) == 1:
            raise OptionError(one_class(self._table, chosen[0], self._names))
        if self._reasons:
            raise OptionError(self._advice())
        taken = frozenset(chosen)
        left = [name for name in self._names if name not in taken]
        watched = tuple(c.name for c in self._inside if c.kind in (Kind.TEXT, Kind.EMPTY))
        told = note_on(self._table, chosen, left, self._label)
        return Choice(tuple(chosen), self._label, self._prefix, watched, (told,))

    def _against(self, name: str, reason: str) -> None:
        """Keep the first reason against a column."""
        self._reasons.setdefault(name, reason)

    def _judge_names(self) -> None:
        family = self._family
        for name in self.lists:
            self._against(name, "holds lists beside columns of numbers")
        for column in self._numeric:
            name = column.name
            odd = self._odd[name]
            if odd is None and name in family:
                odd = family.odd(name)
            elif odd is None and family.members:
                odd = f"is not named as {' and '.join(map(repr, family.members[:2]))} are"
            if odd is not None:
                self._against(name, odd)
        for column in self._inside:
            if column.kind in (Kind.TEXT, Kind.EMPTY) and family.admits(column.name):
                holds = column.type or column.kind.value
                self._against(column.name, f"is named as {family.members[0]!r} is, but holds {holds}")

    def _judge_kinds(self) -> None:
        """Integers beside decimal fractions are indices, counts or predictions."""
        good = self._good()
        kinds = {column.kind for column in good}
        if Kind.REAL not in kinds and kinds != {Kind.INTEGER, Kind.DECIMAL}:
            return
        usual = Kind.REAL if Kind.REAL in kinds else Kind.DECIMAL
        beside = next(column.type for column in good if column.kind is usual) or usual.value
        for column in good:
            if column.kind in (usual, Kind.MIXED):
                continue
            if self._certain_types or not self._family.is_enumerated(column.name):
                self._against(column.name, f"holds {column.type or column.kind.value} beside {beside}")

    def _judge_sides(self) -> None:
        """Classes stand on one side of the labels; on the other stand indices and predictions."""
        if self._label is None or self._family.is_certain:
            return
        sides: dict[bool, list[str]] = defaultdict(list)
        for column in self._good():
            sides[self._places[column.name] < self._places[self._label]].append(column.name)
        if len(sides) == 2:
            side, other = sorted(sides.values(), key=len, reverse=True)
            for name in other:
                self._against(name, f"stands on the other side of the labels than {side[0]!r}")

    def _judge_sums(self) -> None:
        """Of probabilities, what the rows add up to tells more than names, kinds and sides."""
        numeric = [column.name for column in self._numeric]
        if not self._reasons.keys() & set(numeric):
            return
        good = [column.name for column in self._good()]
        plain = [name for name in numeric if self._odd[name] is None]
        real = [name for name in plain if name in self.likely]
        unnumbered = [name for name in numeric if "index" not in (self._odd[name] or "")]
        sets = [good, self._rejected(), real, plain, unnumbered, numeric]
        found = self._sums.first_that_adds_up(sets)
        if found is None or (found == 0 and self._sums.first_that_adds_up(sets[1:2]) is not None):
            return
        self._certain = True
        taken = frozenset(sets[found])
        for name in numeric:
            if name in taken:
                self._reasons.pop(name, None)
            else:
                self._against(name, "is none of those that add up to 1")

    def _rejected(self) -> list[str]:
        """Return the plain columns of decimal fractions that are not taken: they may be the classes instead."""
        return [name for name in self.likely if name in self._reasons]

    def _good(self) -> list[Column]:
        return [column for column in self._numeric if column.name not in self._reasons]

    def _check_flaws(self) -> None:
        """Raise for a column with a cell that is no number, where nothing else speaks against it."""
        good = self._good()
        for column in good:
            if column.flaw is not None:
                rest = [other.name for other in good if other.flaw is None]
                certain = column.name in self._family and len(self._family.members) > 2
                other = ""
                if len(rest) > 1 and not certain:
                    other = f"; if {column.name!r} is no class, pass {columns_option(rest, self._names)}"
                raise ValueError(f"{self._table}: {column.flaw}{other}")

    def _advice(self) -> str:
        """Explain what speaks against columns, and which `--columns` to pass."""
        wrong = list(self._reasons)
        what = "; ".join(f"{name!r} {self._reasons[name]}" for name in wrong[:3])
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        who = (
            "a column that may be no class"
            if len(wrong) == 1
            else f"{len(wrong)} columns that may be no classes"
        )
        fix = self._fix(wrong)
        if self._label is None:
            fix += "; a column of labels is named with --label"
        return f"{self._table} has {who}: {what}{more}; {fix}"

    def _fix(self, wrong: Sequence[str]) -> str:
        """Return which `--columns` to pass; all that may be right, where nothing decides."""
        good = [column.name for column in self._good() if column.flaw is None]
        numeric = [column.name for column in self._numeric]
        every = columns_option(numeric, self._names)
        if len(good) < 2:
            return f"if all are classes, pass {every}"
        some = columns_option(good, self._names)
        rejected = self._rejected()
        if len(rejected) > 1 and not self._certain:
            others = columns_option(rejected, self._names)
            return f"which are the classes: {some} or {others}; if all are, {every}"
        fix = f"to leave {'it' if len(wrong) == 1 else 'them'} out pass {some}"
        indices = all("index" in reason for reason in self._reasons.values())
        if set(wrong) <= set(numeric) and not indices and not self._certain:
            classes = "it is a class" if len(wrong) == 1 else "all are classes"
            fix += f"; if {classes}, {every}"
        return fix

    def _no_numbers(self) -> str:
        shown = [f"{c.name!r} ({c.type})" if c.type else repr(c.name) for c in self._others[:8]]
        more = f" and {len(self._others) - 8} more" if len(self._others) > 8 else ""
        own = [repr(self._label)] if self._label is not None else []
        fix = "a table has a column of numbers for each class, or one column of lists in Parquet or Arrow"
        (name,) = self._names if len(self._names) == 1 else ("",)
        if self._label is None and any(sign in name.strip() for sign in " |"):
            fix = "the names in the first line should have commas, semicolons or tabs between them"
        elif self._prefix is not None:
            fix = f"check --strip-prefix {shlex.quote(self._prefix)}, with which all classes begin"
        names = ", ".join([*shown, *own])
        return f"{self._table} has no columns of numbers for the classes; it has {names}{more}; {fix}"
