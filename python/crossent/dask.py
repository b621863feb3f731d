"""Scores of Dask arrays and frames: the functions that score, for rows on many cores or many machines.

`score`, `scorer`, `compare`, `fit_temperature` and `log_loss` are those of `crossent` and take their arguments, as Dask
collections of any chunking. Each gives a `Delayed`: nothing is read before ``.compute()``. A task adds up the rows of
a block, and a tree of tasks merges the sums, which are exact: the result has the bits that one process gives for all
rows, for any chunks, any number of workers and any order in which they finish.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

try:
    import dask.array as da
except ImportError as _error:
    raise ImportError("crossent.dask needs Dask: pip install 'crossent[dask]'") from _error
from dask.delayed import Delayed

from crossent._arguments import Values, as_count, as_ignore_index, checked_values
from crossent._dask.arguments import (
    Arguments,
    Labels,
    as_collection,
    codes_of,
    is_frame,
    is_lazy,
    is_like,
    known_length,
    stand_in,
)
from crossent._dask.process import computed, tell
from crossent._dask.tree import Block, Blocks, Piece, Sums, checked_split, single, tree
from crossent._exceptions import LikelyMistakeWarning
from crossent._interop import ArrayInput, as_labels
from crossent._scoring.comparer import Comparer
from crossent._scoring.comparison import Comparison
from crossent._scoring.distribution import check_positions
from crossent._scoring.metrics import (
    LabelColumns,
    LossSums,
    as_probabilities,
    as_weights,
    check_sizes,
    classes_of,
    column_names,
    columns_of_classes,
    columns_of_labels,
    labels_of,
    least_probability,
    loss_sums,
    refuse_swapped,
)
from crossent._scoring.report import Report
from crossent._scoring.scorer import Scorer, as_units, check_units_shape
from crossent._scoring.temperature import LikelihoodSums, Temperature, best, checked_weights, sums_of

__all__ = ["compare", "fit_temperature", "log_loss", "score", "scorer"]


def score(
    logits: Any,
    targets: Any,
    *,
    where: Any = None,
    units: Any = None,
    positions: Any = None,
    axis: int = -1,
    shift: int = 0,
    ignore_index: int = -100,
    top_k: Iterable[int] = (1, 5),
    bins: int = 15,
    by_position: bool = False,
    values: Values = "logits",
    split_every: int = 8,
) -> Delayed:
    """Score Dask arrays, or the columns of a Dask frame, and report on all rows.

    ``score(logits, targets).compute()`` is the report of a `Scorer` that was updated with all rows: for rows of logits
    x with targets t, ::

        nll = log(sum_c exp(x[c])) - x[t]
        mean = sum(nll) / count

    Parameters
    ----------
    logits : dask.array.Array of shape (..., C), or dask.dataframe.DataFrame with a column for each class
        Logits, float16, bfloat16, float32 or float64, in chunks of any size along any axis. The chunks of the rows are
        the blocks that are scored; those of the classes are put together, so that a block with all of its classes has
        to fit on a worker.
    targets : dask.array.Array, dask.dataframe.Series or array-like of int
        Class indices, of the shape of `logits` without its class axis. Beside a frame they may be the names of its
        columns instead, with or without a prefix that all columns share (``p_cat``); if all names are integers, integer
        targets are names.
    where : Dask collection or array-like of bool, or of integers 0 and 1, optional
        A mask of the rows, of the shape of `targets`. The rows it leaves out are ignored.
    units : float, Dask collection or array-like, optional
        How many units (bytes, characters, words) the targets stand for: one number for all, or one for each target.
    positions : Dask collection or array-like of int, optional
        The position of each row, of the shape of `targets`, or one that broadcasts to it; with ``by_position=True``.
    axis : int, default -1
        The class axis of the logits.
    shift : int, default 0
        Score position i against the target at i + `shift`, along the axis before the classes: 1 for language models.
    ignore_index, top_k, bins, by_position, values
        As for `crossent.Scorer`.
    split_every : int, default 8
        How many sums a task of the tree merges, 2 or more.

    Returns
    -------
    dask.delayed.Delayed
        Computes to a `crossent.Report`.

    Raises
    ------
    IndexError, TypeError, ValueError
        As for `crossent.Scorer.update`: at once where shapes and dtypes tell, else by ``.compute()``. A target that is
        no class is named by its place among all rows. `TypeError` also if no argument is a Dask collection.
        `ValueError` also where lengths of chunks are unknown and the arrays are not cut alike.

    Warns
    -----
    LikelyMistakeWarning
        As for `crossent.score`, once, when the result is computed; from a worker of ``distributed`` in the client too.
        With ``scheduler="processes"`` it is written to stderr by the process that merges last.

    See Also
    --------
    scorer : The sums instead, to add further rows to.
    crossent.Scorer : Arrays in memory.

    Notes
    -----
    The torch equivalent is ``torch.distributed.all_reduce`` of sums that each process keeps.

    Arguments that are NumPy arrays are cut in the client, and sent to the workers. Arrays of unknown chunk lengths and
    frames are taken partition by partition: each partition has the same rows in all arguments.

    A worker process of ``distributed`` sets `crossent.set_num_threads` to its own number of threads with the first
    block, unless the variable ``CROSSENT_NUM_THREADS`` is set.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import crossent.dask
    >>> rng = np.random.default_rng(0)
    >>> x, t = rng.normal(size=(1000, 8)), rng.integers(8, size=1000)
    >>> logits = da.from_array(x, chunks=(300, 5))
    >>> report = crossent.dask.score(logits, da.from_array(t, chunks=250)).compute()
    >>> report.count, round(report.mean, 4)
    (1000, 2.5116)
    >>> alone = crossent.Scorer()
    >>> alone.update(x, t)
    >>> report == alone.result()
    True
    """
    made = Scorer(ignore_index=ignore_index, top_k=top_k, bins=bins, by_position=by_position, values=values)
    return _scores(made, logits, targets, where, units, positions, axis, shift, split_every, _report)


def scorer(
    logits: Any,
    targets: Any,
    *,
    where: Any = None,
    units: Any = None,
    positions: Any = None,
    axis: int = -1,
    shift: int = 0,
    ignore_index: int = -100,
    top_k: Iterable[int] = (1, 5),
    bins: int = 15,
    by_position: bool = False,
    values: Values = "logits",
    split_every: int = 8,
) -> Delayed:
    """Score Dask arrays, or the columns of a Dask frame, and return the sums, to which further rows can be added.

    Parameters
    ----------
    logits, targets, where, units, positions, axis, shift, ignore_index, top_k, bins, by_position, values, split_every
        As for `score`.

    Returns
    -------
    dask.delayed.Delayed
        Computes to a `crossent.Scorer`, with the sums of all rows and the bits of one that was updated with them.

    Raises
    ------
    IndexError, TypeError, ValueError
        As for `score`.

    Warns
    -----
    LikelyMistakeWarning
        As for `score`.

    See Also
    --------
    score : The report.

    Notes
    -----
    The torch equivalent is ``torch.distributed.all_reduce`` of sums that each process keeps. A scorer is some
    kilobytes however many rows it has seen: `crossent.Scorer.to_json` keeps it between one part of the rows and the
    next.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import crossent.dask
    >>> rng = np.random.default_rng(0)
    >>> x, t = rng.normal(size=(1000, 8)), rng.integers(8, size=1000)
    >>> first = crossent.dask.scorer(
    ...     da.from_array(x[:600], chunks=(100, 8)), t[:600]
    ... ).compute()
    >>> first.update(x[600:], t[600:])
    >>> first.result().count, round(first.result().mean, 4)
    (1000, 2.5116)
    """
    made = Scorer(ignore_index=ignore_index, top_k=top_k, bins=bins, by_position=by_position, values=values)
    return _scores(made, logits, targets, where, units, positions, axis, shift, split_every, _scorer)


def compare(
    logits: Any,
    other_logits: Any,
    target: Any = None,
    *,
    ignore_index: int = -100,
    where: Any = None,
    axis: int = -1,
    shift: int = 0,
    values: Values = "logits",
    split_every: int = 8,
) -> Delayed:
    """Compare two models' logits for the same rows, which are Dask collections.

    For rows of logits x of the reference P and y of the other model Q, ::

        p = softmax(x), q = softmax(y)
        KL(P || Q) = sum_c p[c] (log p[c] - log q[c])

    Parameters
    ----------
    logits : dask.array.Array of shape (..., C), or dask.dataframe.DataFrame with a column for each class
        Logits of the reference P, in chunks of any size along any axis.
    other_logits : dask.array.Array, dask.dataframe.DataFrame or array-like
        Logits of the other model Q, of the same shape, in any other chunks.
    target : dask.array.Array, dask.dataframe.Series or array-like, optional
        As the targets of `score`. Without them, the figures of the targets are None in the result.
    ignore_index, where, axis, shift
        As for `score`.
    values : {"logits", "log_probs", "probs"}, default "logits"
        What the numbers of both models are.
    split_every : int, default 8
        How many sums a task of the tree merges, 2 or more.

    Returns
    -------
    dask.delayed.Delayed
        Computes to a `crossent.Comparison`.

    Raises
    ------
    IndexError, TypeError, ValueError
        As for `score`, and as for `crossent.compare`.

    Warns
    -----
    LikelyMistakeWarning
        As for `score`.

    See Also
    --------
    crossent.compare : Arrays in memory.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.kl_div(log_q, log_p, log_target=True, reduction="none")`` on whole
    arrays, summed over the classes.

    The percentiles are exact, and need 8 bytes of each counted row, 16 with targets: the task that merges last holds
    them all. 100 million rows take 1.6 GB there.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import crossent.dask
    >>> x = np.random.default_rng(0).normal(size=(1000, 8))
    >>> logits = da.from_array(x, chunks=(300, 5))
    >>> comparison = crossent.dask.compare(logits, logits.round(1)).compute()
    >>> (
    ...     comparison.count,
    ...     f"{comparison.kl_mean:.6f}",
    ...     comparison == crossent.compare(x, x.round(1)),
    ... )
    (1000, '0.000316', True)
    """
    comparer = Comparer(ignore_index=ignore_index, values=values)
    rows = Arguments(
        {"logits": logits, "other_logits": other_logits}, {"target": target, "where": where}, axis
    )
    rows.check(comparer.ignore_index)
    rows.shift(as_count(shift, "shift"))
    work = functools.partial(_compared, comparer, rows.axis, rows.labels)
    result = functools.partial(_comparison, comparer)
    return tree("compare", rows.blocks(), work, result, split_every, LikelyMistakeWarning)


def fit_temperature(
    logits: Any,
    target: Any,
    *,
    ignore_index: int = -100,
    where: Any = None,
    axis: int = -1,
    values: Values = "logits",
    sample_weight: Any = None,
    split_every: int = 8,
) -> Delayed:
    """Find the temperature with which the logits of Dask collections give the targets the largest likelihood.

    For rows of logits x with targets t, T is where the mean over the rows of ::

        nll(T) = log(sum_c exp(x[c] / T)) - x[t] / T

    is least; with `sample_weight`, the weighted mean.

    Parameters
    ----------
    logits, target
        As the logits and targets of `score`.
    ignore_index, where, axis
        As for `score`.
    values : {"logits", "log_probs", "probs"}, default "logits"
        What the numbers are. The temperature divides the logarithms of probabilities.
    sample_weight : Dask collection or array-like, optional
        A weight for each row, of the shape of `target`: finite numbers of at least 0.
    split_every : int, default 8
        How many sums a task of the tree merges, 2 or more.

    Returns
    -------
    dask.delayed.Delayed
        Computes to a `crossent.Temperature`.

    Raises
    ------
    IndexError, TypeError, ValueError
        As for `score`, and as for `crossent.fit_temperature`.

    Warns
    -----
    LikelyMistakeWarning
        As for `score`.

    See Also
    --------
    crossent.fit_temperature : Arrays in memory.

    Notes
    -----
    The torch equivalent is ``torch.optim.LBFGS`` over a parameter that divides the logits in
    ``torch.nn.functional.cross_entropy``.

    Each step reads all logits, about six times in all: ``logits.persist()`` first where the cluster's memory holds
    them. How many steps there are shows only as they are made, so that the `Delayed` is one task. It computes a tree of
    sums for each step, on the cluster that it runs on, or on threads of its own process. A future of it that is
    cancelled ends within seconds.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import crossent.dask
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(5000, 4))
    >>> t = (crossent.softmax(x).cumsum(axis=1) < rng.random((5000, 1))).sum(axis=1)
    >>> found = crossent.dask.fit_temperature(
    ...     da.from_array(3 * x, chunks=(1000, 4)), t
    ... ).compute()
    >>> round(found.temperature, 2), found == crossent.fit_temperature(3 * x, t)
    (3.01, True)
    """
    ignore = as_ignore_index(ignore_index)
    beside = {"target": target, "where": where, "sample_weight": sample_weight}
    rows = Arguments({"logits": logits}, beside, axis, required="target")
    rows.check(ignore)
    weight = rows.beside["sample_weight"]
    if rows.known and weight is not None and not is_like(weight, rows.row_shape, "iubf"):
        checked_weights(stand_in(weight), rows.row_shape)
    work = functools.partial(_likelihood, ignore, rows.axis, checked_values(values), rows.labels)
    return single("fit_temperature", _fitted, _Passes(rows.blocks(), work, checked_split(split_every)))


def log_loss(
    y_true: Any,
    y_proba: Any,
    *,
    labels: ArrayInput | None = None,
    sample_weight: Any = None,
    normalize: bool = True,
    eps: float | Literal["auto"] = "auto",
    split_every: int = 8,
) -> Delayed:
    """Compute the log loss of a classifier's probabilities, which are a Dask collection.

    For rows of probabilities p with weights w and the label of row n in column t[n], ::

        loss = -sum_n w[n] log(min(max(p[n, t[n]], eps), 1 - eps)) / sum_n w[n]

    Parameters
    ----------
    y_true : Dask collection or array-like of shape (N,), or (N, C) with a single 1 in each row
        The true labels: numbers, strings or booleans; or an indicator of the true label's column.
    y_proba : Dask collection or array-like of shape (N, C) or (N,)
        Probabilities: one column for each label in ascending order, or those of the larger of two labels. The columns
        of a frame that are named as the labels are taken by name, as in `crossent.log_loss`.
    labels : array-like of shape (C,), optional
        All labels; by default those that occur in `y_true`, which is read once more to find them.
    sample_weight : Dask collection or array-like of shape (N,), optional
        A weight for each row.
    normalize, eps
        As for `crossent.log_loss`.
    split_every : int, default 8
        How many sums a task of the tree merges, 2 or more.

    Returns
    -------
    dask.delayed.Delayed
        Computes to the loss in nats, a float.

    Raises
    ------
    TypeError, ValueError
        As for `crossent.log_loss`: at once where shapes and dtypes tell, else by ``.compute()``.

    Warns
    -----
    UserWarning
        As for `crossent.log_loss`, once: about `labels` that are given at once, else when the result is computed; from
        a worker of ``distributed`` in the client too.

    See Also
    --------
    crossent.log_loss : Arrays in memory.
    score : More figures, also of probabilities, with ``values="probs"``.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.nll_loss(p.clamp(eps, 1 - eps).log(), t)``.

    Examples
    --------
    >>> import dask.array as da
    >>> import crossent.dask
    >>> p = da.from_array(
    ...     [[0.1, 0.9], [0.9, 0.1], [0.8, 0.2], [0.35, 0.65]], chunks=(2, 1)
    ... )
    >>> loss = crossent.dask.log_loss(["spam", "ham", "ham", "spam"], p)
    >>> round(loss.compute(), 5)
    0.21616
    """
    beside = {"y_true": y_true, "sample_weight": sample_weight}
    rows = Arguments({"y_proba": y_proba}, beside, required="y_true", has_classes=False)
    probabilities, truth, weight = rows.main["y_proba"], rows.beside["y_true"], rows.beside["sample_weight"]
    columns = 1 if len(probabilities.shape) == 1 else known_length(probabilities.shape[-1])
    if not is_frame(probabilities):
        like = np.empty((0, *map(known_length, probabilities.shape[1:])), probabilities.dtype)
        least_probability(eps, as_probabilities(like).dtype)
    if rows.known:
        check_sizes(len(probabilities), len(truth), None if weight is None else len(weight))
    given = None if labels is None else as_labels(labels, "labels")
    names = column_names(probabilities, columns)
    found: Any = columns_of_labels(given, columns, names, column_names(truth, columns))
    if found is not None:
        for warning in found.warnings:
            warnings.warn(warning, UserWarning, stacklevel=2)
    blocks = rows.blocks()
    if found is None:
        result: Callable[..., Any] = functools.partial(_found, columns, names)
        found = tree("labels", blocks, _occurring, result, split_every)
    result = functools.partial(_loss, normalize)
    work = functools.partial(_losses, eps)
    return tree("log_loss", blocks, work, result, split_every, UserWarning, found=found)


# What a block adds to a result, and what is made of the sums: functions that run in tasks, on a worker.


def _scores(
    made: Scorer,
    logits: Any,
    targets: Any,
    where: Any,
    units: Any,
    positions: Any,
    axis: int,
    shift: int,
    split_every: int,
    result: Callable[[Scorer, Piece[Any]], Any],
) -> Delayed:
    """Return the tree that scores, and makes the result of the sums of all rows."""
    number, units = None, as_collection(units, "units", required=False)
    if is_lazy(units):
        if units.ndim == 0:
            raise TypeError(
                "units is one number that is not computed yet: got a Dask array of shape (), expected a number, or one "
                "for each target; use units.compute()"
            )
    elif units is not None:
        units = as_units(units)
        if units.ndim == 0:
            number, units = float(units), None
    beside = {"target": targets, "where": where, "units": units, "positions": positions}
    rows = Arguments({"logits": logits}, beside, axis, required="target")
    rows.check(made.ignore_index)
    if rows.known and rows.beside["units"] is not None:
        check_units_shape(rows.beside["units"].shape, rows.row_shape)
    given = rows.beside["positions"]
    if given is not None and not made.by_position:
        made._groups((), (), -1, 0)  # which raises
    if made.by_position and (rows.known or given is None):
        check_positions(given, rows.row_shape)
    if rows.known and given is not None:
        single_axes = [at for at, length in enumerate(given.shape) if length == 1]
        given = da.asarray(given).rechunk(
            dict.fromkeys(single_axes, -1)
        )  # Dask repeats no chunks of length 0.
        rows.beside["positions"] = da.broadcast_to(given, rows.row_shape)
    rows.shift(as_count(shift, "shift"), first=("positions",))
    work = functools.partial(_scored, made, rows.axis, rows.labels, number)
    return tree(
        "score", rows.blocks(), work, functools.partial(result, made), split_every, LikelyMistakeWarning
    )


def _scored(made: Scorer, axis: int, labels: Labels | None, number: float | None, block: Block) -> Sums:
    """Score a block; `number` are the units of all rows together."""
    arrays, place, units, positions = (
        block.arrays,
        block.place,
        block.arrays["units"],
        block.arrays["positions"],
    )
    if made.by_position and positions is None:
        assert place.starts is not None  # as positions were required otherwise
        positions = np.arange(place.starts[-1], place.starts[-1] + place.lengths[-1])
    if number is not None:
        units = number if place.number == 0 else 0.0
    tally = made._scored(
        arrays["logits"],
        codes_of(labels, arrays["target"], made.ignore_index),
        where=arrays["where"],
        units=units,
        positions=positions,
        axis=axis,
        values=made._values,
        mistakes=block.mistakes,
    )
    looked = _has_looked(made.values, tally.count, block)
    return Sums(replace(tally, first_nonfinite=None), looked, tally.first_nonfinite)


def _has_looked(values: str, count: int, block: Block) -> bool:
    """Whether a block decides on likely mistakes: the first that counts a row; of probabilities all are checked."""
    return bool(block.mistakes) if values == "probs" else count > 0


def _scorer(made: Scorer, piece: Piece[Any]) -> Scorer:
    made = Scorer.from_json(made.to_json())  # the one in the graph may serve another computation
    made._include(replace(piece.sums, first_nonfinite=piece.first))
    return made


def _report(made: Scorer, piece: Piece[Any]) -> Report:
    return _scorer(made, piece).result()


def _compared(comparer: Comparer, axis: int, labels: Labels | None, block: Block) -> Sums:
    """Compare a block."""
    arrays = block.arrays
    tally = comparer._compared(
        arrays["logits"],
        arrays["other_logits"],
        codes_of(labels, arrays["target"], comparer.ignore_index),
        arrays["where"],
        axis,
        0,
        comparer._values,
        block.mistakes,
    )
    return Sums(tally, _has_looked(comparer.values, tally.count, block))


def _comparison(comparer: Comparer, piece: Piece[Any]) -> Comparison:
    comparer = Comparer.from_json(comparer.to_json())
    comparer._include(piece.sums)
    return comparer.result()


def _likelihood(
    ignore_index: int, axis: int, values: Values, labels: Labels | None, b: float, block: Block
) -> Sums:
    """Add up the likelihood of a block at the inverse temperature b."""
    sums = sums_of(
        block.arrays["logits"],
        codes_of(labels, block.arrays["target"], ignore_index),
        b,
        ignore_index=ignore_index,
        where=block.arrays["where"],
        axis=axis,
        values=values,
        sample_weight=block.arrays["sample_weight"],
        mistakes=block.mistakes,
    )
    return Sums(sums, _has_looked(values, sums.count, block))


class _Passes:
    """Blocks that are added up several times. An object of a plain class, into which Dask does not look."""

    def __init__(self, blocks: Blocks, work: Callable[..., Sums], split_every: int) -> None:
        self._blocks, self._work, self._split_every = blocks, work, split_every

    def sums(self, b: float) -> Piece[LikelihoodSums]:
        """Compute the sums at an inverse temperature, from within a task."""
        work = functools.partial(self._work, b)
        piece: Piece[LikelihoodSums] = computed(
            tree("likelihood", self._blocks, work, _as_it_is, self._split_every)
        )
        return piece


def _as_it_is(piece: Piece[Any]) -> Piece[Any]:
    return piece


def _fitted(passes: _Passes) -> Temperature:
    """Find the temperature, from within a task."""
    mistakes: list[str] = []

    def sums(b: float) -> LikelihoodSums:
        piece = passes.sums(b)
        if not mistakes:
            mistakes.extend(piece.mistakes)
        return piece.sums

    try:
        return best(sums)
    finally:
        tell(mistakes, LikelyMistakeWarning)  # They may be why no temperature is best.


@dataclass(frozen=True, eq=False, slots=True)
class _Occurring:
    """The labels that occur, in ascending order; None before there is a row."""

    labels: NDArray[Any] | None = None

    def __add__(self, other: _Occurring) -> _Occurring:
        if self.labels is None or other.labels is None:
            return self if other.labels is None else other
        one, two = self.labels.dtype, other.labels.dtype
        if (one.kind in "US") != (two.kind in "US"):
            raise TypeError(
                f"the labels of y_true cannot be sorted: got blocks of dtype {one} and of {two}, expected one kind"
            )
        return _Occurring(classes_of(np.concatenate([self.labels, other.labels])))


def _occurring(block: Block) -> Sums:
    labels = labels_of(block.arrays["y_true"])
    return Sums(_Occurring(classes_of(labels) if labels.size else None))


def _found(columns: int, names: list[str] | None, piece: Piece[_Occurring]) -> LabelColumns:
    labels = piece.sums.labels
    if labels is None:
        return LabelColumns(None, None)  # of no rows, which the result refuses
    found = columns_of_classes(labels, columns, names)
    tell(found.warnings, UserWarning)
    return found


def _losses(eps: float | Literal["auto"], block: Block) -> Sums:
    """Add up the losses of a block."""
    probabilities, labels = as_probabilities(block.arrays["y_proba"]), labels_of(block.arrays["y_true"])
    refuse_swapped(labels, probabilities)
    weight = block.arrays["sample_weight"]
    weight = None if weight is None else as_weights(weight)
    check_sizes(len(probabilities), len(labels), None if weight is None else len(weight))
    codes = block.arrays["found"].codes(labels)
    sums, warning = loss_sums(probabilities, codes, weight, least_probability(eps, probabilities.dtype))
    block.mistakes.extend(() if warning is None else (warning,))
    return Sums(sums, warning is not None)


def _loss(normalize: bool, piece: Piece[LossSums]) -> float:
    return piece.sums.loss(normalize)
