"""Tables with one row for each example: a column of labels, and a column for each class (or one column of lists)."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossent._io.by_labels import NamedByLabels, is_text
from crossent._io.cells import Kind
from crossent._io.columns import Asked, Choice, Column, label_column, named, unnamed
from crossent._io.format import Content, Format, LogitsOptions, refuse
from crossent._io.labels import Labels, listed, short_names
from crossent._io.names import LABELS, columns_option, odd_name
from crossent._io.source import OptionError, Source
from crossent._io.sums import Sums
from crossent._io.table_targets import TableTargets, target_column

SAMPLE_ROWS = 1000
"""How many rows at most show what a column holds; each later row is checked when it is read."""

SAMPLE_CELLS = 20_000
"""How many cells those rows have, about."""

# What tells probabilities from logits, where some columns hold the one and some seem to hold the other.
_SUM = 0.02
_ENOUGH_ROWS = 8


class TableSource(Source, abc.ABC):
    """The rows of a table: its columns are known when it is opened, and `take` says which of them are read."""

    axis = 1
    certain_types: bool
    """Whether the file tells integers from other numbers."""

    header: list[Column]
    """All columns."""

    has_rows: bool

    def __init__(self, path: str, values: str) -> None:
        self.name, self.paths, self.values = path, (path,), values
        self.columns: tuple[str, ...] = ()
        self._watched: tuple[str, ...] = ()
        self._others: list[str] = []

    @abc.abstractmethod
    def first_labels(self, label: str) -> list[str]:
        """Return the labels of the first rows as text; none where they are numbers."""

    @abc.abstractmethod
    def all_labels(self, label: str) -> Iterator[list[str]]:
        """Yield all labels as text, some rows at a time."""

    @abc.abstractmethod
    def first_numbers(self, names: Sequence[str]) -> NDArray[np.float64]:
        """Return the numbers of some columns in the first rows, and nan for all else that stands there."""

    @property
    def may_hold_classes(self) -> bool:
        """Whether there is a column of numbers, beside one of labels, that is not named as an index."""
        others = [c for c in self.header if c.name.lower() not in LABELS] if len(self.header) > 1 else []
        return any(
            column.kind not in (Kind.TEXT, Kind.EMPTY) and "index" not in (odd_name(column.name) or "")
            for column in others
        )

    @abc.abstractmethod
    def indices_type(self, column: str) -> np.dtype[Any]:
        """Return the dtype of the integers in a column; one that holds none raises."""

    @abc.abstractmethod
    def indices(self, column: str, start: int = 0) -> Iterator[NDArray[Any]]:
        """Yield the integers in a column, some rows at a time, all but the first `start`."""

    @property
    def names(self) -> list[str]:
        """The names of all columns."""
        return [column.name for column in self.header]

    def take(self, choice: Choice, *, labels: bool, ignored: int | None) -> None:
        """Read these columns."""
        known = {column.name: column for column in self.header}
        wanted = choice.classes if choice.label is None else (*choice.classes, choice.label)
        for name in wanted:
            if name not in known:
                raise ValueError(
                    f"{self.name} has no column {name!r}, which the files beside it have; it has {listed(list(known))}"
                )
        classes = frozenset(choice.classes)
        in_order = [column.name for column in self.header if column.name in classes]
        self.columns, self.label = choice.classes, choice.label if labels else None
        self.has_targets = self.label is not None
        self._watched = tuple(name for name in choice.watched if name in known)
        self._others = [name for name in known if name != choice.label]
        self.shape = (*self.shape[:1], self._take())
        names = () if self._is_list else choice.classes
        self._labels = Labels(
            names, self.classes, choice.prefix, ignored, numbers_are_places=in_order == list(choice.classes)
        )

    @abc.abstractmethod
    def _take(self) -> int:
        """Prepare the reading of the classes in `columns`, and give their number."""

    @property
    def _is_list(self) -> bool:
        """Whether the classes are the elements of lists."""
        return False

    def likely_cause(self, values: NDArray[Any], wrong: NDArray[np.bool_]) -> str:
        """Name the columns that are no classes, where others hold probabilities."""
        outside: NDArray[np.bool_] = np.logical_or.reduce(wrong, axis=0)
        inside = np.flatnonzero(~outside)
        if self._is_list or not inside.size or not self._are_strays(values, outside):
            return super().likely_cause(values, wrong)
        stray = [self.columns[i] for i in np.flatnonzero(outside)]
        rest = [self.columns[i] for i in inside]
        who = (
            f"the column {stray[0]!r} alone holds"
            if len(stray) == 1
            else f"the columns {listed(stray)} alone hold"
        )
        what = "it is no class" if len(stray) == 1 else "they are no classes"
        return f"{who} such numbers; if {what}, pass {columns_option(rest, self._others)}"

    def _are_strays(self, values: NDArray[Any], outside: NDArray[np.bool_]) -> bool:
        """Return whether columns with numbers that are no probabilities stand beside columns of probabilities."""
        inside = np.count_nonzero(~outside)
        if inside < 2:
            return False
        sums = values[:, ~outside].sum(axis=1, dtype=np.float64)
        strays = np.count_nonzero(outside)
        return bool(
            (np.abs(sums - 1) <= _SUM).all()
            or strays == 1
            or (strays <= inside and len(values) >= _ENOUGH_ROWS)
        )


class TableFormat(Format):
    """A format of tables: a row for each example, with its label."""

    @abc.abstractmethod
    def table(self, path: str, values: str) -> TableSource:
        """Open a table, and read which columns it has."""

    def open_logits(self, path: str, key: str | None, options: LogitsOptions) -> TableSource:
        """Open a table; which of its columns are read is decided by `settle`."""
        refuse(path, None, {"--dtype": options.dtype})
        if key is not None:
            raise OptionError(
                f"{path} is a table, and --columns names its columns of classes; pass that, and leave :{key} out"
            )
        source = self.table(path, options.values or "probs")
        if options.axis not in (-1, 1):
            raise OptionError(f"{path} is a table; leave --axis out")
        return source

    def settle(self, sources: Sequence[Source], options: LogitsOptions) -> None:
        """Choose the columns of the classes and of the labels."""
        _take_columns([source for source in sources if isinstance(source, TableSource)], options)

    def open_targets(self, path: str, key: str | None, dtype: str | None) -> TableTargets:
        """Find the column that is `key`, or the one of the labels, and read it."""
        refuse(path, None, {"--target-dtype": dtype})
        table = self.table(path, "probs")
        return TableTargets(table, target_column(table, key))

    def contents(self, path: str, key: str | None, options: LogitsOptions) -> Sequence[Content]:
        """Open a table, and choose its columns; one that can only hold class indices is read for these."""
        table = self.table(path, "probs")
        if key is not None or (options.columns is None and not table.may_hold_classes):
            return [TableTargets(table, target_column(table, options.label if key is None else key))]
        source = self.open_logits(path, None, replace(options, dtype=None, axis=-1))
        self.settle([source], options)
        return [source]


def _take_columns(tables: Sequence[TableSource], options: LogitsOptions) -> None:
    """Choose the columns of classes and of labels for tables that are read one after the other, and take them."""
    name = tables[0].name
    first = next((table for table in tables if table.has_rows), tables[0])
    asked = Asked(options.label, options.columns, options.strip_prefix, options.ignored)
    _check_same_columns(tables, asked)
    sums = Sums(first.first_numbers, first.values)
    elsewhere = not options.labels
    label = label_column(name, first.header, asked, sums, elsewhere=elsewhere)
    if asked.columns is not None:
        choice = named(name, first.header, label, asked)
    elif not first.has_rows and (numeric := _numeric(first.header, label)):
        choice = Choice(numeric, label)  # no rows are scored, whatever is taken; the command says so
    elif label is not None and options.labels and _have_text_labels(tables, first.header, label):
        choice = _named_by_labels(tables, first.header, label, asked, sums)
    else:
        choice = unnamed(
            name,
            first.header,
            label,
            asked,
            sums,
            elsewhere=elsewhere,
            certain_types=first.certain_types,
        )
    aligned = _aligned(name, choice, options.like, asked.strip_prefix)
    # The labels of a table whose classes are put into another order may count them in their old one.
    labels = options.labels and aligned == choice
    for table in tables:
        table.take(aligned, labels=labels, ignored=asked.ignored)
    for table in tables:
        table.notes = choice.notes


def _numeric(header: Sequence[Column], label: str | None) -> tuple[str, ...]:
    return tuple(column.name for column in header if column.kind.is_numeric and column.name != label)


def _have_text_labels(tables: Sequence[TableSource], header: Sequence[Column], label: str) -> bool:
    """Return whether the first labels are names of columns, which lists of numbers do not have."""
    if not any(
        column.kind.is_numeric or column.kind is Kind.MIXED for column in header if column.name != label
    ):
        return False
    return is_text((text for table in tables for text in table.first_labels(label)), header)


def _named_by_labels(
    tables: Sequence[TableSource], header: Sequence[Column], label: str, asked: Asked, sums: Sums
) -> Choice:
    """Read the labels until all columns are named, or to the end."""
    found = NamedByLabels(tables[0].name, header, label, asked)
    for table in tables:
        row = 0
        for texts in table.all_labels(label):
            if found.is_done:
                break
            found.add(table.name, texts, row)
            row += len(texts)
    return found.choose(sums)


def _check_same_columns(tables: Sequence[TableSource], asked: Asked) -> None:
    """Raise where files that are read as one differ in their columns, unless `--columns` names what is read."""
    first = {column.name for column in tables[0].header}
    for table in tables[1:]:
        other = {column.name for column in table.header}
        if asked.columns is None and first != other:
            ours, theirs = (tables[0], table) if first - other else (table, tables[0])
            extra = sorted((first - other) or (other - first))
            raise ValueError(
                f"{theirs.name} has no column {extra[0]!r}, which {ours.name} has; files that are read as one have the "
                "same columns; make the pattern narrower, or name the columns with --columns"
            )


def _aligned(name: str, choice: Choice, like: Source | None, prefix: str | None) -> Choice:
    """Put the classes into the order of those of the table that this one is compared with, by their names."""
    if like is None or not like.columns or choice.classes == like.columns:
        return choice
    if len(choice.classes) == 1 or len(like.columns) == 1:  # a column of lists has no names of classes
        return choice
    short = dict(zip(short_names(choice.classes, choice.prefix), choice.classes, strict=True))
    wanted: list[str] = list(like.columns)
    if set(wanted) != set(choice.classes):
        wanted = short_names(like.columns, prefix)
    else:
        short = {each: each for each in choice.classes}
    if set(wanted) != set(short) or len(short) != len(choice.classes):
        raise ValueError(
            f"{name} has the classes {listed(choice.classes)}, and {like.name} has {listed(like.columns)}; classes are "
            "compared by their names; name the same ones with --columns, or rename the columns"
        )
    return replace(choice, classes=tuple(short[each] for each in wanted))
