"""Losses of logits whose classes lie in several arrays: the shards of a vocabulary, on several processes.

In tensor-parallel models each process has the logits of a part of the classes. `partial` makes of each shard four
numbers a row, `Partial.merge` puts them together in any order, and `gradient` gives a shard its part of the gradient.
The logits themselves never leave their process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossent import _core
from crossent._arguments import as_count, as_ignore_index, as_integers, as_upstream, class_axis
from crossent._interop import ArrayInput, as_array

__all__ = ["Partial", "gradient", "partial"]

# The layout of the array of a partial sum; a later layout has a later number.
_LAYOUT = 1.0

# Integers up to this are float64 numbers.
_MOST = 2**53


@dataclass(frozen=True, eq=False, repr=False)
class Partial:
    """What the logits of some classes contribute to the losses of rows, from `partial`.

    For a row with logits x of the classes of the merged shards, ::

        maximum = max_c x[c]
        rest = sum_c exp(x[c] - maximum)          over all classes but one that has the maximum

    Parameters
    ----------
    maximum : numpy.ndarray of float64
        The largest logit of each row; -inf where there is none.
    rest : numpy.ndarray of float64
        The sum of the exponentials of the other logits, relative to the largest. The term of the largest, which is 1,
        is kept out of it: a row that is sure of its class keeps its digits.
    target_logit : numpy.ndarray of float64
        The logit of each row's target, where one of the shards has its class; else 0.
    target : numpy.ndarray of int64
        The targets, as classes of the whole vocabulary.
    shards : tuple of (int, int)
        The classes of the merged shards: from the first of each pair to the second, which is not among them. Shards
        that follow each other are one.
    classes : int, optional
        How many classes the whole vocabulary has, if `partial` was told.

    Raises
    ------
    TypeError, ValueError
        If the arrays are not of these dtypes and of one shape, or if the shards are no ranges in ascending order.

    See Also
    --------
    partial : Makes it from the logits of a shard.
    gradient : The gradient with respect to the logits of a shard.

    Notes
    -----
    Partial sums can be pickled. `to_array` and `from_array` are for libraries that pass arrays between processes, as
    ``torch.distributed`` and mpi4py do: gather the arrays of all processes, and merge. No sum or maximum of these
    arrays has a meaning.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> from crossent import sharded
    >>> logits = np.array([[2.0, 1.0, 0.0, 3.0], [0.0, 40.0, 0.0, 0.0]])
    >>> target = np.array([3, 1])
    >>> left = sharded.partial(logits[:, :2], target, start=0)
    >>> right = sharded.partial(logits[:, 2:], target, start=2)
    >>> merged = right.merge(left)
    >>> merged
    Partial(2 rows, classes 0 to 3)
    >>> merged.nll()
    array([4.40189699e-01, 1.27450628e-17])
    >>> crossent.cross_entropy(logits, target, reduction="none")
    array([4.40189699e-01, 1.27450628e-17])
    """

    maximum: NDArray[np.float64]
    rest: NDArray[np.float64]
    target_logit: NDArray[np.float64]
    target: NDArray[np.int64]
    shards: tuple[tuple[int, int], ...]
    classes: int | None = None

    def __post_init__(self) -> None:
        kinds = {"maximum": np.float64, "rest": np.float64, "target_logit": np.float64, "target": np.int64}
        for name, dtype in kinds.items():
            column = getattr(self, name)
            if not isinstance(column, np.ndarray) or column.dtype != dtype:
                got = column.dtype if isinstance(column, np.ndarray) else type(column).__name__
                raise TypeError(f"{name} must be an array of {np.dtype(dtype)}: got {got}")
            if column.shape != self.target.shape:
                raise ValueError(
                    f"{name} has the wrong shape: got {column.shape}, expected {self.target.shape}, that of target"
                )
        before = -1
        for start, stop in self.shards:
            if not before < start <= stop <= _MOST or (start == stop and len(self.shards) > 1):
                raise ValueError(f"shards are no ranges of classes in ascending order: got {self.shards}")
            before = stop
        if self.classes is not None and self.classes < before:
            raise ValueError(
                f"classes is out of range: got {self.classes}, expected at least {before}, the end of the last shard"
            )

    def merge(self, other: Partial) -> Partial:
        """Put together with the sums of other classes of the same rows.

        ::

            M = max(m1, m2)
            rest = rest1 + exp(m2 - M) (1 + rest2)          where m1 is the larger

        Parameters
        ----------
        other : Partial
            Of other classes, and the same targets.

        Returns
        -------
        Partial
            Of the classes of both. The order of merging changes no more than the last bits of `rest`.

        Raises
        ------
        TypeError
            If `other` is no partial sum.
        ValueError
            If the targets differ, if both have the same class, or if they are of vocabularies of different sizes.
        """
        if not isinstance(other, Partial):
            raise TypeError(f"a Partial merges with a Partial: got {type(other).__name__}")
        if self.target.shape != other.target.shape:
            raise ValueError(
                f"the partial sums are of different rows: got targets of shape {other.target.shape}, expected "
                f"{self.target.shape}"
            )
        if not np.array_equal(self.target, other.target):
            raise ValueError(
                "the partial sums have different targets; give partial the targets of all shards, the same for each"
            )
        if None not in (self.classes, other.classes) and self.classes != other.classes:
            raise ValueError(
                f"the partial sums are of different vocabularies: got classes={other.classes}, expected {self.classes}"
            )
        maximum, rest = _core.shard_merge(self.maximum, self.rest, other.maximum, other.rest)
        return Partial(
            maximum,
            rest,
            np.asarray(np.where(self._found(), self.target_logit, other.target_logit)),
            self.target,
            _joined(self.shards, other.shards),
            self.classes if other.classes is None else other.classes,
        )

    @property
    def logsumexp(self) -> NDArray[np.float64]:
        """The log-sum-exp of each row over the merged classes, in nats; -inf where there is none."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.maximum + np.log1p(self.rest))

    def nll(self, *, ignore_index: int = -100) -> NDArray[np.float64]:
        """Compute the negative log-likelihood of each row's target.

        ::

            nll = (maximum - target_logit) + log1p(rest)

        Parameters
        ----------
        ignore_index : int, default -100
            The target that marks a row as ignored.

        Returns
        -------
        numpy.ndarray of float64
            The losses in nats; 0 for ignored rows.

        Raises
        ------
        IndexError
            If a target is not among the merged classes and is not `ignore_index`: the text names the first such row.
        ValueError
            If a shard is missing: the merged classes do not begin with 0, have a gap, or are fewer than the `classes`
            that `partial` was told of.
        """
        ignored = self._ignored(ignore_index)
        with np.errstate(invalid="ignore", over="ignore"):
            nll = (self.maximum - self.target_logit) + np.log1p(self.rest)
        # A row with a logit of +inf has no softmax, nor has one of nothing but -inf.
        nll = np.where(np.isfinite(self.maximum), nll, np.nan)
        return np.asarray(np.where(ignored, 0.0, nll))

    def to_array(self) -> NDArray[np.float64]:
        """Write everything into one array, to be sent to another process.

        Returns
        -------
        numpy.ndarray of float64
            An array of one dimension. Its length is the same for each shard of the same rows.
        """
        ends = [float(end) for shard in self.shards for end in shard]
        whole = -1 if self.classes is None else self.classes
        header = [_LAYOUT, whole, len(self.shards), *ends, self.target.ndim, *self.target.shape]
        columns = (self.maximum, self.rest, self.target_logit, self.target)
        return np.concatenate(
            [np.array(header), *(column.reshape(-1).astype(np.float64) for column in columns)]
        )

    @classmethod
    def from_array(cls, array: ArrayInput) -> Partial:
        """Restore what `to_array` wrote.

        Parameters
        ----------
        array : array-like of float64
            A result of `to_array`.

        Returns
        -------
        Partial
            The same numbers.

        Raises
        ------
        ValueError
            If the array is not one of `to_array`.
        """
        numbers = as_array(array, "array")
        try:
            if numbers.ndim != 1 or numbers.dtype != np.float64 or numbers[0] != _LAYOUT:
                raise ValueError("it is none")
            # No array has more axes than 64.
            values = map(_whole, numbers[1 : 68 + 2 * _whole(numbers[2])].tolist())
            classes = next(values)
            shards = tuple((next(values), next(values)) for _ in range(next(values)))
            shape = tuple(next(values) for _ in range(next(values)))
            start = 4 + 2 * len(shards) + len(shape)
            maximum, rest, target_logit, target = numbers[start:].reshape(4, *shape)
            if not (np.abs(target) <= _MOST).all() or (target != np.floor(target)).any():
                raise ValueError("its targets are no integers")
            columns = (np.array(maximum), np.array(rest), np.array(target_logit), np.array(target, np.int64))
            return cls(*columns, shards, None if classes < 0 else classes)
        except (ValueError, IndexError, StopIteration, RuntimeError, OverflowError):
            raise ValueError(
                "the array is not one that Partial.to_array made: a whole one of float64 is expected"
            ) from None

    def _found(self) -> NDArray[np.bool_]:
        """Tell which targets are among the merged classes."""
        found = np.zeros(self.target.shape, dtype=bool)
        for start, stop in self.shards:
            found |= (self.target >= start) & (self.target < stop)
        return found

    def _ignored(self, ignore_index: int) -> NDArray[np.bool_]:
        """Tell which rows are ignored, or raise where classes are missing."""
        ignored = self.target == as_ignore_index(ignore_index)
        missing = np.argwhere(~(ignored | self._found()))
        if len(missing):
            row = tuple(int(i) for i in missing[0])
            place = ", ".join(map(str, row))
            raise IndexError(
                f"target is out of range: got target[{place}] = {int(self.target[row])}, expected one of the merged "
                f"classes, {_told(self.shards)}, or ignore_index={ignore_index}; merge the partial sums of all shards, "
                "and give start= as the first class of each"
            )
        start, stop = self.shards[0] if self.shards else (0, 0)
        if len(self.shards) > 1 or start or (self.classes is not None and stop < self.classes):
            expected = "from 0 on" if self.classes is None else f"0 to {self.classes - 1}"
            raise ValueError(
                f"a shard is missing: got the classes {_told(self.shards)}, expected all {expected}; merge the "
                "partial sums of all shards, and give start= as the first class of each"
            )
        return np.asarray(ignored)

    def __repr__(self) -> str:
        return f"Partial({self.target.size} rows, classes {_told(self.shards)})"


def partial(
    logits_shard: ArrayInput, target: ArrayInput, *, start: int, classes: int | None = None, axis: int = -1
) -> Partial:
    """Sum up the rows of one shard of the classes.

    Parameters
    ----------
    logits_shard : array-like of shape (..., C)
        The logits of C classes that follow each other, float16, bfloat16, float32 or float64. C may be 0.
    target : array-like of int
        The targets of the rows, of shape (...), as classes of the whole vocabulary: the same for all shards.
    start : int
        The number of the shard's first class in the whole vocabulary.
    classes : int, optional
        How many classes the whole vocabulary has. With it a merged sum that lacks the last shard is an error; any other
        missing shard is one without it too.
    axis : int, default -1
        The class axis.

    Returns
    -------
    Partial
        Four numbers a row.

    Raises
    ------
    IndexError
        If `axis` is out of range.
    TypeError
        If an argument cannot be read as an array, or has a dtype that does not fit.
    ValueError
        If shapes do not fit each other, or if `start` or `classes` is out of range.

    See Also
    --------
    Partial : What to do with it.
    crossent.cross_entropy : The loss of whole rows.

    Notes
    -----
    The torch equivalent is ``torch.logsumexp`` of each shard, gathered and summed up again; a row that is sure of its
    class loses its digits there, or all of its loss.

    The shard is read once. Results have the same bits for any memory layout and number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> from crossent import sharded
    >>> sums = sharded.partial(np.array([[0.0, 40.0]]), [7], start=6)
    >>> float(sums.maximum[0]), float(sums.rest[0]), float(sums.target_logit[0])
    (40.0, 4.248354255291589e-18, 40.0)
    """
    first = _first_class(start)
    whole = None if classes is None else as_count(classes, "classes")
    logits = as_array(logits_shard, "logits_shard")
    targets = as_integers(target, "target")
    at = class_axis(logits, axis, "logits_shard")
    _check_rows("target", targets.shape, logits.shape[:at] + logits.shape[at + 1 :])
    if targets.size and max(int(targets.max()), -int(targets.min())) > _MOST:
        raise ValueError(f"target is out of range: expected integers from {-_MOST} to {_MOST}")
    maximum, rest = _core.shard_sums(logits, at, "logits_shard")
    stop = first + logits.shape[at]
    target_logit, _ = _target_logits(logits, targets, first, at)
    return Partial(maximum, rest, target_logit, targets.copy(), ((first, stop),), whole)


def gradient(
    logits_shard: ArrayInput,
    target: ArrayInput,
    merged: Partial,
    *,
    start: int,
    ignore_index: int = -100,
    grad_output: ArrayInput | None = None,
    grad_out: NDArray[Any] | None = None,
    axis: int = -1,
) -> NDArray[Any]:
    """Compute the gradient of the losses of whole rows with respect to the logits of one shard.

    With the probabilities p of all classes, ::

        d nll / d x[c] = g (p[c] - (c == t))

    for the classes c of the shard, where g is `grad_output` and t the target.

    Parameters
    ----------
    logits_shard, target
        As for `partial`.
    merged : Partial
        The partial sums of all shards.
    start
        As for `partial`.
    ignore_index : int, default -100
        The target that marks a row as ignored.
    grad_output : array-like, optional
        What the loss of each row is multiplied by: a number, or one for each row. By default 1; for the gradient of the
        mean, 1 over the number of rows that are not ignored.
    grad_out : numpy.ndarray, optional
        An array of the shape and dtype of `logits_shard` that receives the gradient and is returned. It may be
        `logits_shard` itself, which is then overwritten.
    axis : int, default -1
        The class axis.

    Returns
    -------
    numpy.ndarray
        The gradient, of the shape and dtype of `logits_shard`; 0 in ignored rows.

    Raises
    ------
    IndexError
        If a target is not among the merged classes and is not `ignore_index`. Or if `axis` is out of range.
    TypeError
        If an argument cannot be read as an array, has a dtype that does not fit, or is no `Partial`.
    ValueError
        If shapes do not fit each other, if a shard is missing in `merged`, if its targets are others, or if its logits
        of the targets are not those of `logits_shard`.

    See Also
    --------
    crossent.cross_entropy_and_grad : The loss and gradient of whole rows.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.cross_entropy`` of the whole rows followed by ``backward``, of which
    this is a slice.

    Examples
    --------
    >>> import numpy as np
    >>> from crossent import sharded
    >>> logits, target = np.array([[2.0, 1.0, 0.0, 3.0]]), np.array([3])
    >>> left = sharded.partial(logits[:, :2], target, start=0)
    >>> right = sharded.partial(logits[:, 2:], target, start=2)
    >>> sharded.gradient(logits[:, 2:], target, left.merge(right), start=2).round(4)
    array([[ 0.0321, -0.3561]])
    """
    if not isinstance(merged, Partial):
        raise TypeError(f"merged must be a Partial: got {type(merged).__name__}")
    first = _first_class(start)
    logits = as_array(logits_shard, "logits_shard")
    targets = as_integers(target, "target")
    at = class_axis(logits, axis, "logits_shard")
    rows, classes = logits.shape[:at] + logits.shape[at + 1 :], logits.shape[at]
    _check_rows("target", targets.shape, rows)
    if not np.array_equal(targets, merged.target):
        raise ValueError(
            "the targets are not those of the merged sums; give the same ones to partial and gradient"
        )
    if classes and not any(a <= first and first + classes <= b for a, b in merged.shards):
        raise ValueError(
            f"merged lacks classes of the shard: got {_told(merged.shards)}, expected {first} to {first + classes - 1} "
            "among them; merge the partial sums of all shards first, and check start="
        )
    ignored = merged._ignored(ignore_index)
    scale = np.broadcast_to(as_upstream(grad_output, rows), rows)
    target_logit, own = _target_logits(logits, targets, first, at)
    own &= ~ignored
    if not np.array_equal(target_logit[own], merged.target_logit[own], equal_nan=True):
        raise ValueError(
            "logits_shard is not the shard of which the merged sums were made: the logits of its targets differ; give "
            "partial and gradient the same logits and the same start=, and overwrite them in gradient once"
        )
    # The target's class in the shard, -1 where another has it, and -2 for rows to leave out.
    local = np.array(np.where(own, targets - first, np.where(ignored, -2, -1)))
    return _core.shard_gradient(logits, at, merged.maximum, merged.rest, np.array(scale), local, grad_out)


def _whole(number: float) -> int:
    """Return a number that is whole as an integer, or raise."""
    if number != int(number):
        raise ValueError("it is no integer")
    return int(number)


def _first_class(start: int) -> int:
    first = as_count(start, "start")
    if first > _MOST:
        raise ValueError(f"start is out of range: got {first}, expected 0 to {_MOST}")
    return first


def _target_logits(
    logits: NDArray[Any], targets: NDArray[np.int64], first: int, at: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the logit of each target whose class is in the shard, else 0; and for which targets it is."""
    own = np.asarray((targets >= first) & (targets < first + logits.shape[at]))
    if not own.any():
        return np.zeros(targets.shape), own
    chosen = np.expand_dims(np.where(own, targets - first, 0), at)
    found = np.take_along_axis(logits, chosen, at).reshape(targets.shape).astype(np.float64)
    return np.asarray(np.where(own, found, 0.0)), own


def _check_rows(name: str, got: tuple[int, ...], rows: tuple[int, ...]) -> None:
    if got != rows:
        raise ValueError(
            f"{name} has the wrong shape: got {got}, expected {rows}, the shape of logits_shard without its class axis"
        )


def _joined(
    ours: tuple[tuple[int, int], ...], theirs: tuple[tuple[int, int], ...]
) -> tuple[tuple[int, int], ...]:
    """Put the ranges of classes of two partial sums together, or raise where they overlap."""
    joined: list[tuple[int, int]] = []
    filled = [shard for shard in ours + theirs if shard[0] < shard[1]]
    if not filled:
        return ours
    for start, stop in sorted(filled):
        if joined and start < joined[-1][1]:
            raise ValueError(
                f"both partial sums have the classes {start} to {min(stop, joined[-1][1]) - 1}; merge each shard once, "
                "and give start= as the first class of each"
            )
        if joined and start == joined[-1][1]:
            start = joined.pop()[0]
        joined.append((start, stop))
    return tuple(joined)


def _told(shards: tuple[tuple[int, int], ...]) -> str:
    return ", ".join(f"{start} to {stop - 1}" for start, stop in shards if start < stop) or "none"
