"""Blocks of rows that tasks add up, and the tree of tasks that merges their sums."""

from __future__ import annotations

import functools
import operator
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
from dask.core import flatten
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from crossent._arguments import as_count
from crossent._dask.process import tell, use_own_threads


class _Sum(Protocol):
    def __add__(self, other: Self, /) -> Self: ...


S = TypeVar("S", bound=_Sum)


@dataclass(frozen=True, slots=True)
class Sums:
    """What a block adds to a result."""

    sums: Any

    looked: bool = False
    """Whether it has the rows by which likely mistakes are judged, so that no later block is."""

    first: int | None = None
    """The first of its rows that is not finite."""


@dataclass(frozen=True, slots=True)
class Piece(Generic[S]):
    """The sums of some blocks that follow each other, and what was found in them, with the place of each finding.

    Where the lengths of blocks are not known beforehand, places are counted from the first row of the piece, and are
    moved when it is merged with the pieces before it. An error that names a place waits for that.
    """

    sums: S
    located: bool
    rows: int = 0
    looked: bool = False
    first: int | None = None
    mistakes: tuple[str, ...] = ()
    error: Exception | None = None

    def __add__(self, other: Piece[S]) -> Piece[S]:
        if self.error is not None:
            return self
        if not self.located:
            other = other.moved(self.rows)
        if other.error is not None:
            return replace(self, rows=self.rows + other.rows, error=other.error)
        firsts = [first for first in (self.first, other.first) if first is not None]
        return Piece(
            self.sums + other.sums,
            self.located,
            self.rows + other.rows,
            self.looked or other.looked,
            min(firsts, default=None),
            self.mistakes if self.looked else other.mistakes,
        )

    def moved(self, rows: int) -> Piece[S]:
        """Return the piece after some rows."""
        return replace(
            self,
            first=None if self.first is None else self.first + rows,
            mistakes=tuple(_moved(text, (rows,)) for text in self.mistakes),
            error=None if self.error is None else type(self.error)(_moved(str(self.error), (rows,))),
        )


@dataclass(frozen=True, slots=True)
class Place:
    """Where the rows of a block lie among all: for each of their axes the start, the length and the whole length."""

    number: int
    starts: tuple[int, ...] | None
    lengths: tuple[int, ...] = ()
    row_shape: tuple[int, ...] = ()

    def number_of(self, row: int) -> int:
        """Return the number among all rows, in C order, of a row of the block."""
        number = 0
        assert self.starts is not None
        inside = np.unravel_index(row, self.lengths) if self.lengths else ()
        for at, start, length in zip(inside, self.starts, self.row_shape, strict=True):
            number = number * length + start + int(at)
        return number


# How texts name a row: by an index of the array with a number for each axis of the rows first, or by its number. What
# is in quotes is data, such as labels.
_NAMED = re.compile(
    r"(?P<quoted>(?<!\w)(?:'[^']*'|\"[^\"]*\"))"
    r"|(?P<before>\b(?:target|where|sample_weight|y_proba|y_true)\[|\b(?:row|at) \[|; \[|\brow (?:is )?)"
    r"(?P<place>\d+(?:, \d+)*)"
)


# What the text on a bad target advises depends on all targets, of which a block has some only.
_ADVICE = re.compile(r"(?<=is out of bounds: )(?P<fact>[^;]*; )(?P<advice>.*)")
_ADVICE_OF_BLOCK = (
    "one block was looked at: the minimum and the maximum of all targets tell whether labels are counted from 1, or an "
    "id marks padding and belongs in ignore_index="
)


def _moved(text: str, starts: Sequence[int]) -> str:
    """Return a text about a block as one about all rows: its rows are named by their places among all."""

    def place(match: re.Match[str]) -> str:
        if match["quoted"]:
            return match[0]
        inside = [int(number) for number in match["place"].split(", ")]
        moved = [at + start for at, start in zip(inside, starts, strict=False)] + inside[len(starts) :]
        return match["before"] + ", ".join(map(str, moved))

    return _NAMED.sub(place, text)


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """The arguments of a task that adds up a block of rows."""

    place: Place
    arrays: Mapping[str, Any]
    """By their names; None where an argument is missing."""

    mistakes: list[str]
    """Where likely mistakes go, which name rows by their places in the block."""


def _added_up(
    work: Callable[[Block], Sums], names: Sequence[str], place: Place, *arguments: Any
) -> Piece[Any]:
    """Add up a block. What it raises names rows by their places among all."""
    use_own_threads()
    block = Block(place, dict(zip(names, arguments, strict=True)), [])
    rows = 0 if place.starts is not None else _common_length(block)
    try:
        found = work(block)
    except (IndexError, TypeError, ValueError) as error:
        if type(error) not in (IndexError, TypeError, ValueError):
            raise
        text = _ADVICE.sub(lambda match: match["fact"] + _ADVICE_OF_BLOCK, str(error))
        if place.starts is None:
            return Piece(None, located=False, rows=rows, error=type(error)(text))
        raise type(error)(_moved(text, place.starts)) from None
    piece = Piece(
        found.sums, place.starts is not None, rows, found.looked, found.first, tuple(block.mistakes)
    )
    if place.starts is None:
        return piece
    return replace(
        piece,
        first=None if found.first is None else place.number_of(found.first),
        mistakes=tuple(_moved(text, place.starts) for text in block.mistakes),
    )


def _common_length(block: Block) -> int:
    """Return how many rows a partition has, or raise where its arguments differ in that."""
    lengths = {name: len(each) for name, each in block.arrays.items() if getattr(each, "shape", ())}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"partition {block.place.number} has different numbers of rows in the arguments: got {lengths}, expected "
            "the same; take all of them from one frame, or call compute_chunk_sizes() on the arrays"
        )
    return next(iter(lengths.values()))


def _merged(pieces: Sequence[Piece[Any]]) -> Piece[Any]:
    """Merge pieces that follow each other into a new one: Dask may hand out each of them again."""
    return functools.reduce(operator.add, pieces)


def _finished(
    result: Callable[[Piece[Any]], Any], category: type[Warning] | None, pieces: Sequence[Piece[Any]]
) -> Any:
    """Return the result of all rows, after warnings of a category."""
    piece = _merged(pieces)
    if piece.error is not None:
        raise piece.error
    if category is not None:
        tell(piece.mistakes, category)
    return result(piece)


def tree(
    name: str,
    blocks: Blocks,
    work: Callable[[Block], Sums],
    result: Callable[[Piece[Any]], Any],
    split_every: int,
    category: type[Warning] | None = None,
    **beside: Any,
) -> Delayed:
    """Return the graph that adds up blocks, merges their sums in the order of the rows, and makes the result.

    `beside` are values, or a `Delayed` each, that all blocks get. Dask takes callables, keys and lists of keys as such;
    all else in a task must be an object of a class that it does not look into.
    """
    split, token = checked_split(split_every), uuid.uuid4().hex
    names = (*blocks.names, *beside)
    common = [each.key if isinstance(each, Delayed) else each for each in beside.values()]
    graph: dict[Any, Any] = {}
    keys: list[Any] = []
    for place, inputs in zip(blocks.places, blocks.inputs(), strict=True):
        keys.append((f"crossent-{name}-block-{token}", place.number))
        graph[keys[-1]] = (functools.partial(_added_up, work, names, place), *inputs, *common)
    level = 0
    while len(keys) > split:
        level += 1
        several = [keys[at : at + split] for at in range(0, len(keys), split)]
        keys = [(f"crossent-{name}-merge-{token}", level, number) for number in range(len(several))]
        graph.update((key, (_merged, each)) for key, each in zip(keys, several, strict=True))
    last = f"crossent-{name}-{token}"
    graph[last] = (functools.partial(_finished, result, category), keys)
    needed = [*blocks.collections, *(each for each in beside.values() if isinstance(each, Delayed))]
    return Delayed(last, HighLevelGraph.from_collections(last, graph, dependencies=needed))


def single(name: str, function: Callable[[Any], Any], argument: Any) -> Delayed:
    """Return a graph of one task."""
    key = f"crossent-{name}-{uuid.uuid4().hex}"
    return Delayed(key, HighLevelGraph.from_collections(key, {key: (function, argument)}))


def checked_split(split_every: int) -> int:
    """Return how many pieces a task merges, or raise where that is no number from 2 on."""
    number = as_count(split_every, "split_every")
    if number < 2:
        raise ValueError(f"split_every is out of range: got {number}, expected 2 or more")
    return number


class Blocks:
    """Collections in the same blocks of rows. An object of a plain class, into which Dask does not look."""

    def __init__(self, arguments: Mapping[str, Any], places: list[Place]) -> None:
        # Their graphs are not optimised before they become one: that may give a frame other partitions than another one
        # has, and makes the graph of an array lose the futures that it was persisted to.
        self._each, self.places = list(arguments.values()), places
        self.names = tuple(arguments)

    @property
    def collections(self) -> list[Any]:
        """Those that there are."""
        return [each for each in self._each if each is not None]

    def inputs(self) -> Iterator[tuple[Any, ...]]:
        """Yield the keys of each block, and None where there is no such argument."""
        nothing = [None] * len(self.places)
        keys = (nothing if each is None else list(flatten(each.__dask_keys__())) for each in self._each)
        return zip(*keys, strict=True)
