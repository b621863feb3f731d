"""Scores of rows in one read of the logits: loss, entropy, prediction, rank; and sums by sequence and by class."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from crossent import _core
from crossent._arguments import Logits, Values, as_count, as_integers, chosen_values, has_row_blocks, shifted
from crossent._display import html_table, short
from crossent._exact import ExactSum, exp
from crossent._interop import ArrayInput, as_array
from crossent._scoring.frames import Column, Columns
from crossent._scoring.parts import parts
from crossent._scoring.values import tell


@dataclass(frozen=True, eq=False)
class SequenceScores:
    """The sums of each sequence, from `Scores.by_sequence`.

    Attributes
    ----------
    log_likelihood : numpy.ndarray of float64
        The sum of the log-probabilities of the targets of its counted rows, in nats: added up exactly, then
        rounded. lm-evaluation-harness calls it the loglikelihood.
    count : numpy.ndarray of int64
        Its number of counted rows.
    is_greedy : numpy.ndarray of bool
        Whether the prediction of each of its counted rows is the target.
    ids : numpy.ndarray of int64
        The segment ids, or the numbers of the sequences from 0.

    See Also
    --------
    Scores.by_sequence : Makes it.
    """

    log_likelihood: NDArray[np.float64]
    count: NDArray[np.int64]
    is_greedy: NDArray[np.bool_]
    ids: NDArray[np.int64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """The mean negative log-likelihood of each sequence in nats; nan where no row counts."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.count > 0, -self.log_likelihood / self.count, np.nan)

    @property
    def perplexity(self) -> NDArray[np.float64]:
        """The exponential of `mean`."""
        with np.errstate(over="ignore"):
            return np.exp(self.mean)

    def reshape(self, shape: tuple[int, ...]) -> "SequenceScores":
        """Arrange the same sequences in arrays of another shape.

        Parameters
        ----------
        shape : tuple of int
            The new shape, of as many elements.

        Returns
        -------
        SequenceScores
            Views of the same numbers.
        """
        return SequenceScores(
            self.log_likelihood.reshape(shape),
            self.count.reshape(shape),
            self.is_greedy.reshape(shape),
            self.ids.reshape(shape),
        )


@dataclass(frozen=True, eq=False)
class ClassScores(Columns):
    """The scores of each class, from `Scores.by_class`: one number for each class that occurs.

    Attributes
    ----------
    classes : numpy.ndarray of int64
        The classes that occur among the counted rows, as targets or as predictions, in ascending order.
    count : numpy.ndarray of int64
        How many counted rows have the class as their target.
    mean : numpy.ndarray of float64
        The mean negative log-likelihood of these rows in nats; nan for none. Each is rounded once.
    accuracy : numpy.ndarray of float64
        The share of all counted rows for which it is decided rightly whether the class is the target.
    recall : numpy.ndarray of float64
        The share of the rows with this target whose prediction is the target; nan for none.

    See Also
    --------
    Scores.by_class : Makes it.
    """

    classes: NDArray[np.int64]
    count: NDArray[np.int64]
    mean: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    recall: NDArray[np.float64]

    def _columns(self) -> dict[str, Column]:
        names = ("classes", "count", "mean", "accuracy", "recall")
        return {name: Column(getattr(self, name)) for name in names}


@dataclass(frozen=True, eq=False, repr=False)
class Scores(Columns):
    """The scores of each row, from `score`: one array for each score, all of the shape of the targets.

    Attributes
    ----------
    nll : numpy.ndarray
        The negative log-likelihood of the target in nats: float32, or float64 for float64 logits; 0 where the
        row is ignored.
    logsumexp : numpy.ndarray
        The logarithm of the sum of the exponentials of the logits, of the dtype of `nll`.
    entropy : numpy.ndarray
        The entropy of the softmax in nats, of the dtype of `nll`.
    prediction : numpy.ndarray of int64
        The class with the largest logit, the first of ties; the first nan where there is one.
    rank : numpy.ndarray of int64
        The target's place among the classes: 1 + the number of classes with a larger logit, or with the same and a
        lower index, so that rank 1 means predicted. The number of classes where the row holds a nan.
    counted : numpy.ndarray of bool
        False for ignored rows, whose fields other than `nll` and `correct` are meaningless.
    correct : numpy.ndarray of bool
        Whether the row is counted and its prediction is the target. False where the row holds a nan.
    top_ids : numpy.ndarray of int64, optional
        The classes of the `top_k` largest logits along a further axis at the end: the largest first, and of equal
        ones the lower class first.
    top_log_probs : numpy.ndarray, optional
        The logarithms of their probabilities in nats, of the dtype of `nll`.

    See Also
    --------
    score : Makes it.

    Notes
    -----
    Where the losses are float32, `score` keeps them as float64 too, for pictures with the bits of a report's: 8 bytes a
    row. It keeps the targets too, for `by_class`: another 8.

    As columns, by `to_dict`, `to_pandas` and `to_arrow`, the rows come in C order, each with its number in it, `row`.
    Where a row is ignored, there is nothing but `row` and `counted`: means over a column are means over the counted
    rows. `top_ids` and `top_log_probs` are lists in each row; in pandas they are columns of their own, ``top_id_1``,
    ``top_id_2``, ..., ``top_log_prob_1``, ... .

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> scores = crossent.score(
    ...     np.array([[2.0, 1.0, 0.0], [0.5, 0.0, 3.0], [1.0, 1.0, 1.0]]),
    ...     [0, 1, -100],
    ... )
    >>> columns = scores.to_dict()
    >>> columns["row"], columns["rank"], columns["correct"], columns["counted"]
    ([0, 1, 2], [1, 3, None], [True, False, None], [True, True, False])
    >>> frame = scores.to_pandas()
    >>> print(*frame.columns)
    row nll logsumexp entropy prediction rank counted correct
    >>> print(f"{frame['nll'].mean():.4f} {scores.mean:.4f}")
    1.7657 1.7657
    >>> scores.to_arrow().num_rows
    3
    """

    nll: NDArray[np.floating[Any]]
    logsumexp: NDArray[np.floating[Any]]
    entropy: NDArray[np.floating[Any]]
    prediction: NDArray[np.int64]
    rank: NDArray[np.int64]
    counted: NDArray[np.bool_]
    correct: NDArray[np.bool_]
    top_ids: NDArray[np.int64] | None = None
    top_log_probs: NDArray[np.floating[Any]] | None = None

    # The losses before they were rounded to float32. No field: what is made of other columns does not have them.
    _unrounded: ClassVar[NDArray[np.float64] | None] = None

    # The targets, for `by_class`; -1 where the row is ignored. No field, as above.
    _target: ClassVar[NDArray[np.int64] | None] = None

    def _losses(self) -> NDArray[np.float64]:
        """Return the losses that a scorer of the same rows adds up, unless `nll` has been changed since."""
        unrounded = self._unrounded
        with np.errstate(over="ignore"):
            if unrounded is not None and np.array_equal(
                unrounded.astype(self.nll.dtype), self.nll, equal_nan=True
            ):
                return unrounded
        return self.nll.astype(np.float64)

    @property
    def count(self) -> int:
        """The number of rows that are not ignored."""
        return int(np.count_nonzero(self.counted))

    @property
    def log_likelihood(self) -> float:
        """Minus the sum of `nll`, in nats: the logarithm of the probability of all targets. Rounded once."""
        return 0.0 - float(ExactSum.of(self.nll.astype(np.float64)))

    @property
    def mean(self) -> float:
        """The mean of `nll` over the counted rows, in nats; nan for none."""
        return ExactSum.of(self.nll.astype(np.float64)).over(self.count)

    @property
    def perplexity(self) -> float:
        """The exponential of `mean`."""
        return exp(self.mean)

    @property
    def accuracy(self) -> float:
        """The share of the counted rows whose prediction is the target; nan for none."""
        count = self.count
        return int(np.count_nonzero(self.correct)) / count if count else math.nan

    @property
    def is_greedy(self) -> bool:
        """Whether the prediction of every counted row is the target."""
        return int(np.count_nonzero(self.correct)) == self.count

    def summary(self) -> dict[str, int | float | bool]:
        """Give the properties by name.

        Returns
        -------
        dict
            Numbers; besides the properties, `ignored`, how many rows are.
        """
        return {
            "count": self.count,
            "ignored": self.counted.size - self.count,
            "log_likelihood": self.log_likelihood,
            "mean": self.mean,
            "perplexity": self.perplexity,
            "accuracy": self.accuracy,
            "is_greedy": self.is_greedy,
        }

    def by_sequence(
        self,
        *,
        lengths: ArrayInput | None = None,
        cu_seqlens: ArrayInput | None = None,
        segment_ids: ArrayInput | None = None,
    ) -> SequenceScores:
        """Add up the rows of each sequence: its log-likelihood, and whether all of its rows are predicted.

        Parameters
        ----------
        lengths : array-like of int, optional
            For scores of shape (N,), the lengths of sequences that follow each other; they sum to N. For scores
            of shape (..., T), how many rows at the start of each line belong to its sequence; of shape (...).
        cu_seqlens : array-like of int, optional
            Where sequences that follow each other begin, and where the last one ends: 0, ..., N.
        segment_ids : array-like of int, optional
            The sequence of each row, of the shape of the scores. Every number that occurs is a sequence.

        Returns
        -------
        SequenceScores
            One number for each sequence: in their order, and by ascending segment id. Without an argument each
            line along the last axis is a sequence.

        Raises
        ------
        TypeError
            If an argument holds no integers, or if more than one is given.
        ValueError
            If an argument does not fit the shape of the scores.

        Examples
        --------
        >>> import numpy as np
        >>> import crossent
        >>> scores = crossent.score(
        ...     np.log([[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]]), [1, 1, 0]
        ... )
        >>> sequences = scores.by_sequence(lengths=[1, 2])
        >>> sequences.log_likelihood.round(4).tolist()
        [-0.6931, -0.393]
        >>> sequences.is_greedy.tolist()
        [False, True]
        """
        given = [argument for argument in (lengths, cu_seqlens, segment_ids) if argument is not None]
        if len(given) > 1:
            raise TypeError(
                f"the sequences are given {len(given)} times; use one of lengths, cu_seqlens and segment_ids"
            )
        if segment_ids is not None:
            return self._by_segment(as_integers(segment_ids, "segment_ids"))
        if cu_seqlens is not None:
            return self._by_offsets(as_integers(cu_seqlens, "cu_seqlens"), "cu_seqlens")
        if lengths is None:
            lengths = np.full(self.nll.shape[:-1], self.nll.shape[-1] if self.nll.ndim else 1)
        sizes = as_integers(lengths, "lengths")
        if self.nll.ndim < 2 and sizes.ndim == 1:
            # Sums of such lengths could leave int64, and come back as if they fitted.
            if sizes.size and sizes.min() >= 0 and sizes.max() > self.nll.size:
                raise ValueError(
                    f"lengths does not fit the scores: got a sequence of {int(sizes.max())} rows, expected a sum of "
                    f"{self.nll.size}, the number of rows"
                )
            return self._by_offsets(np.concatenate(([0], np.cumsum(sizes))), "lengths")
        return self._by_line(sizes)

    def _by_offsets(self, offsets: NDArray[np.int64], name: str) -> SequenceScores:
        rows = self.nll.size
        if offsets.ndim != 1 or not offsets.size or offsets[0] != 0 or offsets[-1] != rows:
            what = "a sum of" if name == "lengths" else "0 at the start and at the end"
            got = int(offsets[-1]) if name == "lengths" else offsets.tolist()[:1] + offsets.tolist()[-1:]
            raise ValueError(
                f"{name} does not fit the scores: got {got}, expected {what} {rows}, the number of rows"
            )
        if (offsets[1:] < offsets[:-1]).any():
            raise ValueError(f"{name} holds a sequence of negative length; expected 0 or more rows in each")
        return self._sums(np.arange(rows), offsets, np.arange(offsets.size - 1))

    def _by_line(self, sizes: NDArray[np.int64]) -> SequenceScores:
        lines, length = self.nll.shape[:-1], self.nll.shape[-1] if self.nll.ndim else 1
        if sizes.shape != lines:
            raise ValueError(
                f"lengths has the wrong shape: got {sizes.shape}, expected {lines}, one length for each line"
            )
        if sizes.size and not (sizes.min() >= 0 and sizes.max() <= length):
            raise ValueError(
                f"lengths is out of range: got {int(sizes.min())} to {int(sizes.max())}, expected 0 to {length}, the "
                "length of a line; with shift=1 a line has one row less than the logits"
            )
        flat = sizes.reshape(-1)
        columns = np.arange(length if flat.size else 0)
        inside = np.flatnonzero(columns < flat[:, np.newaxis])
        offsets = np.concatenate(([0], np.cumsum(flat)))
        return self._sums(inside, offsets, np.arange(flat.size)).reshape(lines)

    def _by_segment(self, ids: NDArray[np.int64]) -> SequenceScores:
        if ids.shape != self.nll.shape:
            raise ValueError(
                f"segment_ids has the wrong shape: got {ids.shape}, expected {self.nll.shape}, the scores'"
            )
        order = np.argsort(ids, axis=None, kind="stable")
        ids = ids.reshape(-1)[order]
        starts = np.flatnonzero(np.diff(ids, prepend=ids[:1] - 1))
        return self._sums(order, np.append(starts, ids.size), ids[starts])

    def _sums(self, order: NDArray[np.intp], offsets: NDArray[Any], ids: NDArray[np.int64]) -> SequenceScores:
        """Add up sequences, of which number i has the rows order[offsets[i]:offsets[i + 1]]."""
        nll = self.nll.reshape(-1)[order].astype(np.float64)
        sums = _core.exact_sums(nll, offsets.tolist())
        counted = _counts(self.counted.reshape(-1)[order], offsets)
        correct = _counts(self.correct.reshape(-1)[order], offsets)
        likelihoods = np.array([0.0 - float(ExactSum.from_core(sum)) for sum in sums], dtype=np.float64)
        return SequenceScores(likelihoods, counted, counted == correct, ids.astype(np.int64))

    def by_class(self, target: ArrayInput | None = None) -> ClassScores:
        """Add up the rows of each class: how many there are, their loss, and how well the class is told from others.

        For N counted rows with targets t and predictions y, and a class c, ::

            count[c] = number of rows n with t[n] = c
            mean[c] = sum of nll[n] over the rows n with t[n] = c / count[c]
            recall[c] = number of rows n with t[n] = c and y[n] = c / count[c]
            accuracy[c] = number of rows n with (t[n] = c) = (y[n] = c) / N

        A row whose logits hold a nan has no prediction here.

        Parameters
        ----------
        target : array-like of int, optional
            The targets that the rows were scored against, of the shape of the scores. `score` keeps them: they are
            needed for scores that were made by other means.

        Returns
        -------
        ClassScores
            Arrays with one number for each class that occurs as a target or as a prediction, in ascending order.

        Raises
        ------
        TypeError
            If `target` holds no integers, or is needed and missing.
        ValueError
            If `target` does not fit the scores: its shape, or which predictions are correct.

        Examples
        --------
        >>> import crossent
        >>> logits = [
        ...     [2.0, 1.0, 0.0],
        ...     [0.5, 0.0, 3.0],
        ...     [1.0, 3.0, 1.0],
        ...     [0.0, 1.0, 0.0],
        ... ]
        >>> classes = crossent.score(logits, [0, 1, 1, 1]).by_class()
        >>> classes.classes.tolist(), classes.count.tolist()
        ([0, 1, 2], [1, 3, 0])
        >>> classes.mean.round(4).tolist()
        [0.4076, 1.305, nan]
        >>> classes.recall.round(4).tolist(), classes.accuracy.tolist()
        ([1.0, 0.6667, nan], [1.0, 0.75, 0.75])
        """
        rows = np.flatnonzero(self.counted)
        predicted = self.prediction.reshape(-1)[rows]
        correct = self.correct.reshape(-1)[rows]
        targets = self._targets(target).reshape(-1)[rows]
        has_prediction = ~np.isnan(self.logsumexp.reshape(-1)[rows])
        wrong = (targets < 0) | (correct != (has_prediction & (predicted == targets)))
        if wrong.any():
            first = int(wrong.argmax())
            place = ", ".join(map(str, np.unravel_index(int(rows[first]), self.nll.shape)))
            expected = "that" if correct[first] else "another"
            raise ValueError(
                f"target is not what the rows were scored against: got {int(targets[first])} in row [{place}], whose "
                f"prediction is {int(predicted[first])}, expected {expected} class; are these the targets of other "
                "rows, or unshifted ones?"
            )
        classes = np.unique(np.concatenate((targets, predicted[has_prediction])))
        order = np.argsort(targets, kind="stable")
        offsets = np.append(np.searchsorted(targets[order], classes), targets.size)
        count = np.diff(offsets).astype(np.int64)
        found = _counts(correct[order], offsets)
        # Where a class that no row has stands between others, its sum is that of no rows.
        nll = self.nll.reshape(-1)[rows[order]].astype(np.float64)
        sums = _core.exact_sums(nll, offsets.tolist())
        mean = [ExactSum.from_core(sum).over(int(n)) for sum, n in zip(sums, count, strict=True)]
        predictions = np.zeros_like(count)
        np.add.at(predictions, np.searchsorted(classes, predicted[has_prediction]), 1)
        rightly = rows.size - (count - found) - (predictions - found)
        with np.errstate(invalid="ignore", divide="ignore"):
            recall, accuracy = found / count, rightly / rows.size
        return ClassScores(classes, count, np.array(mean, dtype=np.float64), accuracy, recall)

    def _targets(self, target: ArrayInput | None) -> NDArray[np.int64]:
        """Return the targets that are given, or those that `score` kept."""
        if target is None:
            if self._target is None:
                raise TypeError(
                    "target is missing: these scores were not made by this version of crossent.score, which keeps the "
                    "targets; pass those that the rows were scored against"
                )
            return self._target
        array = as_integers(target, "target")
        if array.shape != self.nll.shape:
            hint = _core.shape_hint("target", array.shape, self.nll.shape)
            raise ValueError(
                f"target has the wrong shape: got {array.shape}, expected {self.nll.shape}, the scores'"
                f"{f'; {hint}' if hint else ''}"
            )
        return array

    def _names(self) -> list[str]:
        names = ["nll", "logsumexp", "entropy", "prediction", "rank", "counted", "correct"]
        return names + (["top_ids", "top_log_probs"] if self.top_ids is not None else [])

    def _columns(self) -> dict[str, Column]:
        rows, counted = self.counted.size, self.counted.reshape(-1)
        columns = {"row": Column(np.arange(rows, dtype=np.int64))}
        for name in self._names():
            array = getattr(self, name)
            values = array.reshape(rows, *array.shape[self.nll.ndim :])
            each = name.removesuffix("s") if values.ndim > 1 else ""
            columns[name] = Column(values, None if name == "counted" else counted, each)
        return columns

    def __repr__(self) -> str:
        numbers = ", ".join(f"{key}={short(value)}" for key, value in self.summary().items())
        return f"Scores({numbers}; arrays {', '.join(self._names())} of shape {self.nll.shape}, {self.nll.dtype})"

    def _repr_html_(self) -> str:
        return html_table(
            "Scores",
            [
                ("rows counted", f"{self.count:,}"),
                ("rows ignored", f"{self.counted.size - self.count:,}"),
                ("log-likelihood", f"{self.log_likelihood:.6g} nats"),
                ("mean NLL", f"{self.mean:.6g} nats"),
                ("perplexity", f"{self.perplexity:.6g}"),
                ("accuracy", f"{self.accuracy:.6g}"),
                ("all predicted", "yes" if self.is_greedy else "no"),
                ("arrays", f"{', '.join(self._names())} of shape {self.nll.shape}, {self.nll.dtype}"),
            ],
        )


def _counts(flags: NDArray[np.bool_], offsets: NDArray[Any]) -> NDArray[np.int64]:
    """Count the flags of each sequence that are set."""
    before = np.concatenate(([0], np.cumsum(flags, dtype=np.int64)))
    return np.asarray(np.diff(before[offsets]), dtype=np.int64)


def score(
    logits: Logits,
    target: ArrayInput,
    *,
    ignore_index: int = -100,
    where: ArrayInput | None = None,
    axis: int = -1,
    shift: int = 0,
    top_k: int = 0,
    values: Values = "logits",
    log_probs: bool | None = None,
) -> Scores:
    """Score rows of logits against their targets, in one read of the logits.

    For a row x of C logits with target t, ::

        logsumexp = log(sum_c exp(x[c]))

        nll = logsumexp - x[t]
        entropy = sum_c p[c] (logsumexp - x[c])           with p[c] = exp(x[c] - logsumexp)
        prediction = argmax_c x[c]                        the first of ties
        rank = 1 + (number of classes c with x[c] > x[t], or with x[c] = x[t] and c < t)

    Parameters
    ----------
    logits : array-like of shape (..., C), or RowBlocks
        Unnormalised scores, float16, bfloat16, float32 or float64. With `axis`, the classes may lie along any axis. A
        logit of -inf is a class of probability 0. Logits that do not fit into memory come in blocks of rows, such as
        a `LinearLogits`: see `crossent.blocks`.
    target : array-like of int
        Class indices from 0 to C - 1, of any integer dtype and of the shape of `logits` without its class axis.
    ignore_index : int, default -100
        The target that marks a row as ignored.
    where : array-like of bool, or of integers 0 and 1, optional
        A mask of the rows, of the shape of `target`. The rows it leaves out are ignored.
    axis : int, default -1
        The class axis of `logits`. No axis costs a copy.
    shift : int, default 0
        Score position i against the target at i + `shift`, along the axis before the classes: 1 for the logits
        and the token ids of a language model, both of T positions, which gives T - 1 rows. `where` is shifted as
        `target` is. Nothing is copied.
    top_k : int, default 0
        How many of the largest logits of each row to name, at most C.
    values : {"logits", "log_probs", "probs"}, default "logits"
        What the numbers are. For log-probabilities `nll` is -x[t], without a normalisation, which matters where they
        are rounded or do not add up to 1; the other scores are those of their softmax. Probabilities, such as those
        of `predict_proba`, are scored as their logarithms.
    log_probs : bool, optional
        Deprecated since version 0.1: True is ``values="log_probs"``.

    Returns
    -------
    Scores
        Arrays of the shape of `target` (with `shift`, shortened by it along its axis), in nats where they have
        a unit; and their sums as properties.

    Raises
    ------
    IndexError
        If a target is not a class and not `ignore_index`; the text names the first such row. Or if `axis`
        is out of range.
    TypeError
        If an argument cannot be read as an array, or has a dtype that does not fit; integer logits too.
    ValueError
        If shapes do not fit each other, if `shift` or `top_k` is out of range, if `values` is none of those allowed,
        or if one of the probabilities of a counted row is nan, negative or above 1; the text names the row.
    OverflowError
        If int64 does not hold `ignore_index`.

    Warns
    -----
    LikelyMistakeWarning
        If the numbers look like something other than `values`, if there is one class only, or if probabilities do not
        add up to 1.

    See Also
    --------
    Scorer : Score any number of batches, and report on them as one.
    cross_entropy : The loss alone; `nll` is its result with ``reduction="none"``.
    crossent.blocks.RowBlocks : Logits that come a block of rows at a time.

    Notes
    -----
    The torch equivalent is ``torch.log_softmax``, ``gather``, ``argmax``, ``topk``, a comparison and a sum of
    products, each of which reads or writes an array of the size of the logits.

    A row that holds nan or +inf, or nothing but -inf, has no softmax: its `nll` and `entropy` are nan, and
    `logsumexp` has its limit. In a row that holds a nan `rank` is C and `correct` is false.

    The entropy is a sum of positive terms, log1p(r) + sum_c p[c] (max - x[c]), where r is the sum of exp(x[c] - max)
    without the maximum's term. It keeps its digits in a confident row. The result has the same bits for any memory
    layout, class axis, row batching and number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> logits = np.array([[2.0, 1.0, 0.0], [0.5, 0.0, 3.0], [1.0, 1.0, 1.0]])
    >>> scores = crossent.score(logits, np.array([0, 1, -100]), top_k=2)
    >>> scores.nll.round(4).tolist()
    [0.4076, 3.1239, 0.0]
    >>> scores.rank[:2].tolist(), scores.prediction[:2].tolist()
    ([1, 3], [0, 2])
    >>> scores.top_ids[0].tolist()
    [0, 1]
    >>> scores.count, round(scores.mean, 4), scores.accuracy, scores.is_greedy
    (2, 1.7657, 0.5, False)

    A language model's logits of one text, and its token ids: each position predicts the next.

    >>> tokens = np.array([[0, 2, 1, 1]])
    >>> crossent.score(np.zeros((1, 4, 3)), tokens, shift=1).nll.round(4).tolist()
    [[1.0986, 1.0986, 1.0986]]

    The probabilities of a classifier:

    >>> probs = [[0.9, 0.1], [0.25, 0.75]]
    >>> crossent.score(probs, [0, 1], values="probs").nll.round(4).tolist()
    [0.1054, 0.2877]
    """
    values = chosen_values(values, log_probs)
    top_k = as_count(top_k, "top_k")
    shift = as_count(shift, "shift")
    if shift:
        logits, later, where = shifted(logits, target, where, axis, shift)
        target = later if later is not None else target
    mistakes: list[str] = []
    scores = score_rows(
        logits, target, ignore_index, where, axis, top_k, values, mistakes, keep_unrounded=True
    )
    object.__setattr__(scores, "_target", _kept_target(target, scores.counted))
    tell(mistakes)
    return scores


def score_rows(
    logits: Logits,
    target: ArrayInput,
    ignore_index: int,
    where: ArrayInput | None,
    axis: int,
    top_k: int,
    values: Values,
    mistakes: list[str],
    *,
    keep_unrounded: bool,
) -> Scores:
    """Score rows, and note likely mistakes."""
    logits = logits if has_row_blocks(logits) else as_array(logits, "logits")
    real = np.float64 if np.dtype(logits.dtype).newbyteorder("=") == np.float64 else np.float32
    columns: list[NDArray[Any] | None] = []
    unrounded: NDArray[np.float64] | None = None
    for part in parts(logits, target, where, axis, ignore_index, values, mistakes):
        *found, losses = _core.score(
            part.rows, part.target, ignore_index, part.where, part.axis, top_k, part.log_probs
        )
        if part.places is None:
            columns, unrounded = found, losses
            continue
        if keep_unrounded and real is np.float32:
            unrounded = np.zeros(part.row_shape) if unrounded is None else unrounded
            unrounded[part.places] = found[0] if losses is None else losses
        columns = columns or [_of_all_rows(column, part.row_shape, real) for column in found]
        for to, column in zip(columns, found, strict=True):
            if to is not None:
                to[part.places] = column
    scores = Scores(*columns)  # type: ignore[arg-type]
    if keep_unrounded:
        object.__setattr__(scores, "_unrounded", unrounded)
    return scores


def _kept_target(target: ArrayInput, counted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return a copy of the targets of the counted rows, which the caller may overwrite; -1 for others."""
    kept = np.full(counted.shape, -1, dtype=np.int64)
    given = as_array(target, "target").reshape(counted.shape)
    np.copyto(kept, given, where=counted, casting="unsafe")
    return kept


def _of_all_rows(
    column: NDArray[Any] | None, row_shape: tuple[int, ...], real: type[np.floating[Any]]
) -> NDArray[Any] | None:
    """Return an array for all rows like that of a part of them; logarithms of probabilities are float64 there."""
    if column is None:
        return None
    dtype = real if column.dtype.kind == "f" else column.dtype
    return np.zeros((*row_shape, *column.shape[len(row_shape) :]), dtype)
