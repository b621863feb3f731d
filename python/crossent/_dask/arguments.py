"""Arguments that are Dask collections, cut into the same blocks of rows; and labels that are names of columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import dask.array as da
import numpy as np
from dask.base import is_dask_collection
from numpy.typing import NDArray

from crossent import _core
from crossent._arguments import class_axis, shifted
from crossent._dask.process import is_client
from crossent._dask.tree import Blocks, Place
from crossent._interop import as_array, as_labels, first_item, float_name
from crossent._scoring.metrics import as_name, column_names, without_prefix
from crossent._scoring.parts import check_same_shape


def is_frame(obj: Any) -> bool:
    """Whether an argument is a frame or a series of Dask, which has partitions of unknown lengths."""
    return is_dask_collection(obj) and hasattr(type(obj), "divisions")


def is_lazy(obj: Any) -> bool:
    """Whether an argument is a collection with rows."""
    return isinstance(obj, da.Array) or is_frame(obj)


def as_collection(obj: Any, name: str, *, required: bool) -> Any:
    """Return a collection as it is, and anything else as a NumPy array; None where an argument need not be given."""
    if type(obj).__module__.partition(".")[0] == "xarray" and isinstance(
        getattr(obj, "data", None), da.Array
    ):
        obj = obj.data
    if (obj is None and not required) or is_lazy(obj):
        return obj
    if is_dask_collection(obj):
        raise TypeError(
            f"{name} has no shape: got a {type(obj).__name__}, expected a Dask array, a Dask frame or a NumPy array; "
            "make it an array with dask.array.from_delayed"
        )
    if isinstance(obj, list | tuple) and is_dask_collection(first := first_item(obj)):
        raise TypeError(
            f"{name} is a {type(obj).__name__} of Dask collections: got items of type {type(first).__name__}, expected "
            "one Dask array or frame; put arrays together with dask.array.concatenate or dask.array.stack, and frames "
            "with dask.dataframe.concat"
        )
    return as_labels(obj, name) if name == "y_true" else as_array(obj, name)


def known_length(length: Any) -> int:
    """Return the number of classes, or raise where it is not known: the length of a frame is a collection itself."""
    if is_dask_collection(length) or math.isnan(length):
        raise ValueError(
            "the number of classes is not known: got the rows of a frame or chunks of unknown lengths along the class "
            "axis, expected a frame with a column for each class, or an array that knows its number of classes; call "
            "compute_chunk_sizes() on an array"
        )
    return int(length)


def stand_in(array: Any) -> NDArray[Any]:
    """Return an array of the shape and dtype of another that takes no memory: to check arguments with."""
    return np.broadcast_to(np.zeros((), array.dtype), array.shape)


def is_like(array: Any, shape: tuple[int, ...], kinds: str) -> bool:
    return array is None or (array.shape == shape and array.dtype.kind in kinds)


class Arguments:
    """Arguments with the same rows. `main` have an axis of classes too, and `beside` have none.

    Without an axis of classes, the rows lie along the first axis of all of them. One of `beside` may be required.
    """

    def __init__(
        self,
        main: dict[str, Any],
        beside: dict[str, Any],
        axis: int = 1,
        required: str | None = None,
        *,
        has_classes: bool = True,
    ) -> None:
        is_client()
        self.main = {name: as_collection(obj, name, required=True) for name, obj in main.items()}
        self.beside = {
            name: as_collection(obj, name, required=name == required) for name, obj in beside.items()
        }
        given = [each for each in (*self.main.values(), *self.beside.values()) if each is not None]
        if not any(map(is_lazy, given)):
            own = "score, Scorer, compare and fit_temperature" if has_classes else "log_loss"
            raise TypeError(
                f"no argument is a Dask collection: got {type(next(iter(main.values()))).__name__}, expected a Dask "
                f"array or frame; arrays in memory are for {own} of crossent itself"
            )
        name, first = next(iter(self.main.items()))
        self.known = not any(
            is_frame(each) or any(math.isnan(length) for length in each.shape) for each in given
        )
        self._has_classes, self._ignore_index = has_classes, 0
        self.axis = class_axis(first, axis, name) if has_classes else 1
        self.labels: Labels | None = None
        if has_classes:
            classes = known_length(first.shape[self.axis])
            names = column_names(first, classes) if is_frame(first) else None
            self.labels = None if names is None else Labels(names)
        if self.known:
            self.row_shape: tuple[int, ...] = self._rows_of(first.shape)
        else:
            self.row_shape = (0,) * len(self._rows_of(first.shape))
            self._check_partitions()

    def _rows_of(self, each: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return what belongs to the axes of rows, of something with an item for each axis of a main argument."""
        return each[: self.axis] + each[self.axis + 1 :] if self._has_classes else each[:1]

    def _named(self) -> Iterator[tuple[str, Any]]:
        yield from self.main.items()
        yield from self.beside.items()

    def check(self, ignore_index: int) -> None:
        """Raise where shapes or dtypes do not fit: with the texts of arrays in memory, before anything is read."""
        target, where = self.beside["target"], self.beside["where"]
        for name, each in self.main.items():
            if is_frame(each):
                continue
            if float_name(each.dtype) is None:
                _core.active_rows(np.empty((0, 1), each.dtype), None, ignore_index, None, -1, name)
            if self.known:
                check_same_shape(each.shape, next(iter(self.main.values())).shape)
        if not self.known:
            return
        self._ignore_index = ignore_index
        name, first = next(iter(self.main.items()))
        fits = is_like(target, self.row_shape, "iu") and is_like(where, self.row_shape, "biu")
        if not fits:
            both = (stand_in(each) if is_lazy(each) else each for each in (target, where))
            _core.check_targets(stand_in(first), next(both), ignore_index, next(both), self.axis, name)
            self.beside["target"] = None if target is None else target.reshape(self.row_shape)

    def shift(self, shift: int, first: Sequence[str] = ()) -> None:
        """Let position i of the main arguments, and of those named, go with position i + `shift` of the others."""
        if shift == 0:
            return
        if not self.known:
            raise ValueError(
                f"shift needs known lengths of chunks: got shift={shift} and unknown lengths; call "
                "compute_chunk_sizes() on the arrays, or make them with to_dask_array(lengths=True)"
            )
        shifted(stand_in(next(iter(self.main.values()))), None, None, self.axis, shift)  # which raises
        at = self.axis - 1
        before, after = (slice(None),) * at, max(self.row_shape[at] - shift, 0)
        self.main = {name: each[(*before, slice(0, after))] for name, each in self.main.items()}
        for name, each in self.beside.items():
            cut = slice(0, after) if name in first else slice(shift, None)
            self.beside[name] = None if each is None else each[(*before, cut)]
        self.row_shape = (*self.row_shape[:at], after, *self.row_shape[at + 1 :])

    def _check_partitions(self) -> None:
        """Raise unless all arguments have the same partitions, each of whole rows."""
        parts = {name: _partitions(each) for name, each in self._named() if each is not None}
        if len(self.row_shape) != 1 or self.axis != 1 or len(set(parts.values())) > 1:
            told = ", ".join(f"{n or 'none'} in {name}" for name, n in parts.items())
            raise ValueError(
                f"chunks of unknown lengths do not fit each other: got partitions: {told}; expected the same number in "
                "all, of rows of shape (N,) and classes along the last axis; call compute_chunk_sizes() on the arrays, "
                "and make those of frames with to_dask_array(lengths=True)"
            )

    def blocks(self) -> Blocks:
        """Return the blocks that the rows lie in: the chunks of the first argument that has any."""
        named = dict(self._named())
        if not self.known:
            count = _partitions(next(iter(named.values())))
            whole = {
                name: each if is_frame(each) or each is None else _whole(each) for name, each in named.items()
            }
            return Blocks(whole, [Place(number, None) for number in range(count)])
        self._check_targets()
        name, first = next((name, each) for name, each in named.items() if is_lazy(each))
        chunks = self._rows_of(first.chunks) if name in self.main else first.chunks[: len(self.row_shape)]
        cut = {
            name: None if each is None else self._cut(each, name in self.main, chunks)
            for name, each in named.items()
        }
        return Blocks(cut, list(_places(chunks, self.row_shape)))

    def _check_targets(self) -> None:
        """Raise for the first target that is no class, where targets and mask are in memory."""
        target, where = self.beside.get("target"), self.beside.get("where")
        if target is not None and not is_lazy(target) and not is_lazy(where):
            name, first = next(iter(self.main.items()))
            _core.check_targets(stand_in(first), target, self._ignore_index, where, self.axis, name)

    def _cut(self, array: Any, main: bool, chunks: tuple[Any, ...]) -> Any:
        """Return an array in these chunks of rows, and whole along its other axes."""
        own = list(chunks)
        if main and self._has_classes:
            own.insert(self.axis, (array.shape[self.axis],))
        own += [(length,) for length in array.shape[len(own) :]]
        if is_lazy(array):
            return array.rechunk(tuple(own))
        return da.from_array(array, chunks=tuple(own), name=False)


def _partitions(each: Any) -> int:
    """Return how many partitions of rows an argument has; 0 for an array in memory, which has none."""
    if is_frame(each):
        return int(each.npartitions)
    return int(each.numblocks[0]) if is_lazy(each) and each.ndim else 0


def _whole(array: Any) -> Any:
    """Return an array with a chunk of all of its columns for each partition."""
    return array.rechunk(dict.fromkeys(range(1, array.ndim), -1))


def _places(chunks: Sequence[Sequence[int]], row_shape: tuple[int, ...]) -> Iterator[Place]:
    starts = [np.cumsum([0, *lengths]).tolist() for lengths in chunks]
    for number, index in enumerate(np.ndindex(*map(len, chunks))):
        yield Place(
            number,
            tuple(each[at] for each, at in zip(starts, index, strict=True)),
            tuple(int(each[at]) for each, at in zip(chunks, index, strict=True)),
            row_shape,
        )


class Labels:
    """The columns of a frame, which labels may name."""

    def __init__(self, names: list[str]) -> None:
        short = without_prefix(names)
        self.names = names
        self.places = {name: at for each in (short, names) for at, name in enumerate(each)}
        self.are_numbers = all(name.lstrip("-").isdecimal() for name in short)
        self.are_places = short == [str(at) for at in range(len(short))]

    def codes(self, target: Any, ignore_index: int) -> Any:
        """Return the class of each label that is the name of a column; labels that are no names stay as they are."""
        labels = as_labels(target, "target")
        kind = labels.dtype.kind
        by_number = kind in "iu" and self.are_numbers and not self.are_places
        by_name = kind in "OSU" or (kind == "b" and {"False", "True"} <= self.places.keys())
        if not (by_number or by_name):
            return labels
        if 0 <= ignore_index < len(self.names):
            raise ValueError(
                f"ignore_index is the number of a column, and the labels are names: got {ignore_index}, expected a "
                "negative number; leave rows out with where="
            )
        known: dict[Any, int] = {}
        codes = np.empty(labels.shape, np.int64)
        for at, label in enumerate(labels.tolist()):
            if (key := (type(label), label)) not in known:
                known[key] = self._code(label, at, ignore_index)
            codes[at] = known[key]
        return codes

    def _code(self, label: Any, at: int, ignore_index: int) -> int:
        name = as_name(label)
        if name in self.places:
            return self.places[name]
        if label == ignore_index:
            return ignore_index
        raise ValueError(
            f"target holds a label that is the name of no column: got target[{at}] = {label!r}, expected one of "
            f"{self.names[:10]}"
        )


def codes_of(labels: Labels | None, target: Any, ignore_index: int) -> Any:
    """Return the targets of a block as classes: in a task."""
    return target if labels is None or target is None else labels.codes(target, ignore_index)
