"""The base of scorers and comparers: sums that batches are added to, that merge, and that are kept as text."""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from crossent._arguments import Values, as_ignore_index, checked_values
from crossent._scoring.values import tell


class Tally(Protocol):
    """The sums of some rows."""

    @property
    def rows(self) -> int:
        """All rows, active or not."""

    @property
    def count(self) -> int:
        """The active rows."""

    def __add__(self, other: Self, /) -> Self: ...


TallyT = TypeVar("TallyT", bound=Tally)


class Accumulator(ABC, Generic[TallyT]):
    """Sums over any number of batches. Several threads may update one.

    A subclass computes the tally of a batch, and hands it to `_include`.
    """

    _kind: ClassVar[str]
    """Its name in errors."""

    _format: ClassVar[str]
    """The format of its text; a later layout has a later number."""

    _again: ClassVar[str]
    """The advice for a text of another version."""

    def __init__(self, ignore_index: int, values: str, tally: TallyT) -> None:
        self._ignore_index = as_ignore_index(ignore_index)
        self._values: Values = checked_values(values)
        self._tally = tally
        self._lock = threading.Lock()

    @property
    def ignore_index(self) -> int:
        """The target that marks a row as ignored."""
        return self._ignore_index

    @property
    def values(self) -> str:
        """What the numbers of the batches are, unless `update` says otherwise."""
        return self._values

    @property
    def rows(self) -> int:
        """How many rows it has seen, counted or not: where to go on after an interruption."""
        return self._tally.rows

    def _include(self, tally: TallyT, mistakes: Sequence[str] = ()) -> None:
        """Add the tally of a batch, after warnings at the line that called the public method."""
        tell(mistakes, stacklevel=4)  # It raises where warnings are errors, before anything is added.
        with self._lock:
            self._tally = self._tally + tally

    def merge(self, other: Self) -> Self:
        """Add all rows of another one, as if they came after one's own.

        Parameters
        ----------
        other : Scorer or Comparer
            One of the same class, with the same options. It is not changed.

        Returns
        -------
        Scorer or Comparer
            This one.

        Raises
        ------
        TypeError
            If `other` is of another class.
        ValueError
            If the options differ, or if units or targets were given to one of the two only.
        """
        if not isinstance(other, Accumulator) or other._kind != self._kind:
            raise TypeError(f"a {self._kind} merges with a {self._kind}: got {type(other).__name__}")
        if self._options() != other._options():
            raise ValueError(
                f"the {self._kind}s differ: got one with {other._options()}, expected one with {self._options()}"
            )
        with other._lock:
            tally = other._tally
        self._include(tally)
        return self

    def to_json(self) -> str:
        """Write the options and the sums as text, with every bit.

        Returns
        -------
        str
            One JSON object.
        """
        own = self._state()
        return json.dumps(
            {"format": self._format, "ignore_index": self._ignore_index, **own, "values": self._values}
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Restore what `to_json` wrote.

        Parameters
        ----------
        text : str or bytes
            A result of `to_json`.

        Returns
        -------
        Scorer or Comparer
            An object with the same options and sums.

        Raises
        ------
        ValueError
            If the text is not that of one of this class.
        """
        try:
            state = json.loads(text)
            if state["format"] != cls._format:
                raise ValueError(
                    f"its format is {state['format']!r}, that of another version, expected {cls._format!r}; "
                    f"{cls._again}"
                )
            return cls._from_state(state)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            reason = f"there is no {error}" if isinstance(error, KeyError) else error
            raise ValueError(f"the text is not that of a {cls._kind}: {reason}; is it damaged?") from error

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self).from_json, (self.to_json(),))

    def __repr__(self) -> str:
        options = ", ".join(filter(None, (f"ignore_index={self._ignore_index}", self._options())))
        return (
            f"<{type(self).__name__}({options}): {self._tally.count:,} of {self._tally.rows:,} rows counted>"
        )

    def _options(self) -> str:
        """Name the options that two must share to be merged."""
        return ""

    @abstractmethod
    def _state(self) -> dict[str, Any]:
        """Return the options and the sums of the class itself as what JSON can hold."""

    @classmethod
    @abstractmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        """Undo `_state`, or raise where a part does not fit the others."""
