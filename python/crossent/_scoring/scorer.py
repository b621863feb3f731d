"""Scores of any number of batches as one report, with the same bits however the rows were batched."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from crossent import _core
from crossent._arguments import Logits, Values, as_count, chosen_values, shifted
from crossent._exact import ExactSum, exp, standard_error, whole
from crossent._interop import ArrayInput, as_array
from crossent._scoring.accumulate import Accumulator
from crossent._scoring.distribution import (
    GroupSums,
    counts_from_json,
    counts_to_json,
    empty_counts,
    histogram,
    position_groups,
    row_groups,
)
from crossent._scoring.parts import Part, parts
from crossent._scoring.report import CalibrationBin, Report, Z
from crossent._scoring.rows import Scores

_LN2 = math.log(2.0)


@dataclass(frozen=True, slots=True)
class _Bin:
    count: int = 0
    correct: int = 0
    confidence: ExactSum = field(default_factory=ExactSum)

    def __add__(self, other: _Bin) -> _Bin:
        return _Bin(
            self.count + other.count, self.correct + other.correct, self.confidence + other.confidence
        )


@dataclass(frozen=True, slots=True)
class _Tally:
    """The sums of some rows. Adding is exact, and only the first non-finite row depends on the order."""

    rows: int
    count: int
    correct: int
    top: tuple[int, ...]
    nonfinite: int
    first_nonfinite: int | None
    sums: tuple[ExactSum, ...]
    bins: tuple[_Bin, ...]
    units: ExactSum | None
    histogram: NDArray[np.int64]
    groups: tuple[GroupSums, ...]
    classes: int = 0
    """The largest number of classes of a batch."""

    @classmethod
    def empty(cls, top_k: int, bins: int) -> _Tally:
        return cls(
            0,
            0,
            0,
            (0,) * top_k,
            0,
            None,
            (ExactSum(),) * len(_SUMS),
            (_Bin(),) * bins,
            None,
            empty_counts(),
            (),
        )

    def __add__(self, other: _Tally) -> _Tally:
        if self.rows and other.rows and (self.units is None) != (other.units is None):
            raise ValueError(
                "units are given for some rows only, and bits per unit would be meaningless: got an update or a merge "
                f"{'without' if other.units is None else 'with'} units, expected one "
                f"{'with' if other.units is None else 'without'}, as before"
            )
        first = self.first_nonfinite
        if first is None and other.first_nonfinite is not None:
            first = self.rows + other.first_nonfinite
        both = [u for u in (self.units, other.units) if u is not None]
        return _Tally(
            self.rows + other.rows,
            self.count + other.count,
            self.correct + other.correct,
            tuple(map(operator.add, self.top, other.top)),
            self.nonfinite + other.nonfinite,
            first,
            tuple(map(operator.add, self.sums, other.sums)),
            tuple(map(operator.add, self.bins, other.bins)),
            sum(both, ExactSum()) if both else None,
            self.histogram + other.histogram,
            tuple(a + b for a, b in zip_longest(self.groups, other.groups, fillvalue=GroupSums())),
            max(self.classes, other.classes),
        )


# The sums, in the order of the compiled code.
_SUMS = ("nll", "nll_squared", "entropy", "reciprocal_rank", "squared_error")


class Scorer(Accumulator[_Tally]):
    """Score any number of batches, and report on all of their rows as one.

    The report is a function of the rows alone: all sums are exact, and have the same bits for any size of the
    batches, any number of threads and any order of merging. For rows with the scores of `score`, ::

        mean = sum(nll) / count
        standard_error = sqrt(sum((nll - mean)^2) / (count - 1) / count)
        perplexity = exp(mean)

    Parameters
    ----------
    ignore_index : int, default -100
        The target that marks a row as ignored.
    top_k : sequence of int, default (1, 5)
        The k of the top-k accuracies: how often the target is among the k largest logits.
    bins : int, default 15
        The number of bins for the calibration error; 0 for none.
    by_position : bool, default False
        Whether to add up the rows by their positions too: those along the last axis of the targets, or those that
        `update` is given.
    values : {"logits", "log_probs", "probs"}, default "logits"
        What the numbers of the batches are, unless `update` is given another; as for `score`.

    See Also
    --------
    score : The scores of single rows.
    Report : What `result` gives.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.cross_entropy`` with sums kept beside it, which depend on the
    batches. A row's loss is not rounded to float32 before it is added up.

    The standard error takes the rows as independent, which tokens of one text are only approximately.

    Objects can be pickled, and several threads may update one.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> rng = np.random.default_rng(0)
    >>> logits, target = rng.normal(size=(1000, 8)), rng.integers(8, size=1000)
    >>> scorer = crossent.Scorer()
    >>> for at in range(0, 1000, 300):
    ...     scorer.update(logits[at : at + 300], target[at : at + 300])
    >>> report = scorer.result()
    >>> report.count, round(report.mean, 4), round(report.perplexity, 2)
    (1000, 2.5116, 12.32)
    >>> two = crossent.Scorer(), crossent.Scorer()
    >>> two[0].update(logits[500:], target[500:])
    >>> two[1].update(logits[:500], target[:500])
    >>> two[0].merge(two[1]).result() == report
    True
    """

    _kind = "scorer"
    _format = "crossent.Scorer 2"
    _again = "score the rows again"

    def __init__(
        self,
        *,
        ignore_index: int = -100,
        top_k: Iterable[int] = (1, 5),
        bins: int = 15,
        by_position: bool = False,
        values: Values = "logits",
    ) -> None:
        try:
            self._top_k = tuple(as_count(k, "top_k") for k in top_k)
        except TypeError as error:
            raise TypeError(f"top_k must be a sequence of integers: got {top_k!r}") from error
        if 0 in self._top_k or len(set(self._top_k)) < len(self._top_k):
            raise ValueError(
                f"top_k is out of range: got {self._top_k}, expected different numbers from 1 on"
            )
        self._bins = as_count(bins, "bins")
        if self._bins > _MOST_BINS:
            raise ValueError(f"bins is out of range: got {bins}, expected 0 to {_MOST_BINS}")
        if not isinstance(by_position, bool | np.bool_):
            raise TypeError(
                f"by_position must be a bool: got {by_position!r}; the positions themselves go to update"
            )
        self._by_position = bool(by_position)
        super().__init__(ignore_index, values, _Tally.empty(len(self._top_k), self._bins))

    @property
    def top_k(self) -> tuple[int, ...]:
        """The k of the top-k accuracies: how often the target is among the k largest logits."""
        return self._top_k

    @property
    def bins(self) -> int:
        """The number of bins for the calibration error."""
        return self._bins

    @property
    def by_position(self) -> bool:
        """Whether the rows are added up by their positions too."""
        return self._by_position

    def update(
        self,
        logits: Logits,
        target: ArrayInput,
        *,
        where: ArrayInput | None = None,
        units: ArrayInput | None = None,
        positions: ArrayInput | None = None,
        axis: int = -1,
        shift: int = 0,
        values: Values | None = None,
        log_probs: bool | None = None,
    ) -> None:
        """Score a batch, and add it. When this raises, nothing has been added.

        Parameters
        ----------
        logits, target, where
            As for `score`.
        units : float or array-like, optional
            How many units (bytes, characters, words) the targets stand for: one number for the batch, or one
            for each target, of which those of the counted rows are added up. For all batches or for none.
        positions : array-like of int, optional
            The position of each row of the logits, from 0 on; of the shape of `target`, or one that broadcasts to it.
            By default those along the last axis of the targets, of which there are two or more. For scorers made
            with ``by_position=True``.
        axis, shift
            As for `score`.
        values : {"logits", "log_probs", "probs"}, optional
            As for `score`; by default what the scorer was made for.
        log_probs : bool, optional
            Deprecated since version 0.1: True is ``values="log_probs"``.

        Raises
        ------
        IndexError, TypeError, ValueError
            As for `score`; `ValueError` also if units are negative or not finite, or given for some batches only, and
            if positions are negative, do not fit, are missing, or are given to a scorer without ``by_position``.

        Warns
        -----
        LikelyMistakeWarning
            As for `score`.
        """
        kind = self._values
        if values is not None or log_probs is not None:
            kind = chosen_values("logits" if values is None else values, log_probs)
        mistakes: list[str] = []
        tally = self._scored(
            logits,
            target,
            where=where,
            units=units,
            positions=positions,
            axis=axis,
            shift=shift,
            values=kind,
            mistakes=mistakes,
        )
        self._include(tally, mistakes)

    def _add(self, logits: Logits, target: ArrayInput, **options: Any) -> None:
        """Score a batch and add it, without warnings."""
        self._include(self._scored(logits, target, **options, mistakes=[]))

    def _scored(
        self,
        logits: Logits,
        target: ArrayInput,
        *,
        where: ArrayInput | None = None,
        units: ArrayInput | None = None,
        positions: ArrayInput | None = None,
        axis: int = -1,
        shift: int = 0,
        values: Values = "logits",
        mistakes: list[str],
        scores: list[Scores] | None = None,
    ) -> _Tally:
        """Add up the scores of a batch, and note likely mistakes.

        Where there is a list for them, the scores of its rows go there too, those of a part after those of the one
        before: the logits are read once for both.
        """
        shift = as_count(shift, "shift")
        given = None if units is None else as_units(units)
        if given is not None and given.ndim:
            # They are shifted as the targets are. The shape is checked before the long work.
            target = as_array(target, "target")
            check_units_shape(given.shape, target.shape)
        unshifted = target
        if shift:
            if given is not None and given.ndim:
                _, given, _ = shifted(logits, given, None, axis, shift)
            logits, later, where = shifted(logits, target, where, axis, shift)
            target = later if later is not None else target
        groups = self._groups(unshifted, positions, axis, shift)
        tally: _Tally | None = None
        total = ExactSum()
        nonfinite = []
        for part in parts(logits, target, where, axis, self._ignore_index, values, mistakes):
            own = self._tally_of(part, None if groups is None else part.of_rows(groups), scores)
            if own.first_nonfinite is not None:
                nonfinite.append(part.number(own.first_nonfinite))
            tally = own if tally is None else tally + own
            if given is not None and given.ndim:
                active = part.active(self._ignore_index).reshape(-1)
                total += ExactSum.of(part.of_rows(given.reshape(-1))[active])
        assert tally is not None  # there is a part at least, if of no rows
        if given is not None and given.ndim == 0:
            total = ExactSum.of(given)
        return replace(
            tally,
            units=None if given is None else total,
            first_nonfinite=min(nonfinite, default=None),
        )

    def _tally_of(self, part: Part, groups: NDArray[np.uint16] | None, scores: list[Scores] | None) -> _Tally:
        """Add up the scores of some rows, and put them into `scores` where there is such a list."""
        (rows, count, correct), top, (nonfinite, first), sums, bins, counts, grouped, columns = (
            _core.score_sums(
                part.rows,
                part.target,
                self._ignore_index,
                part.where,
                part.axis,
                self._top_k,
                self._bins,
                part.log_probs,
                groups,
                scores is not None,
            )
        )
        if scores is not None and columns is not None:
            scores.append(Scores(*columns[:-1]))
        return _Tally(
            rows,
            count,
            correct,
            tuple(top),
            nonfinite,
            first,
            tuple(map(ExactSum.from_core, sums)),
            tuple(_Bin(n, right, ExactSum.from_core(sum)) for n, right, sum in bins),
            None,
            counts.astype(np.int64),
            tuple(GroupSums(n, *map(ExactSum.from_core, both)) for n, *both in grouped),
            part.rows.shape[part.axis],
        )

    def _groups(
        self, target: ArrayInput, positions: ArrayInput | None, axis: int, shift: int
    ) -> NDArray[np.uint16] | None:
        """Return the group of each row that remains after `shift`."""
        if not self._by_position:
            if positions is not None:
                raise ValueError("positions need a scorer made with by_position=True")
            return None
        rows = as_array(target, "target").shape
        groups = row_groups(None if positions is None else as_array(positions, "positions"), rows)
        if shift:
            # The positions are those of the logits, which are the first ones where the targets are the last.
            first: Any = shifted(np.expand_dims(groups.reshape(rows), axis), None, None, axis, shift)[0]
            groups = np.ascontiguousarray(first.reshape(-1))
        return groups

    def result(self) -> Report:
        """Report on all rows so far.

        Returns
        -------
        Report
            The figures, of exact sums that are rounded once.
        """
        t = self._tally
        n = t.count
        nll, nll_squared, entropy, reciprocal_rank, squared_error = t.sums
        mean = nll.over(n)
        error = standard_error(nll_squared, nll, n)
        bits = None
        if t.units is not None:
            units = float(t.units)
            bits = float(nll) / _LN2 / units if units else math.nan
        return Report(
            count=n,
            ignored=t.rows - n,
            nll_sum=float(nll),
            mean=mean,
            standard_error=error,
            perplexity=exp(mean),
            perplexity_interval=(exp(mean - Z * error), exp(mean + Z * error)),
            bits_per_token=mean / _LN2,
            bits_per_unit=bits,
            units=None if t.units is None else float(t.units),
            accuracy=_share(t.correct, n),
            top_k_accuracy={k: _share(hits, n) for k, hits in zip(self._top_k, t.top, strict=True)},
            mean_entropy=entropy.over(n),
            mean_reciprocal_rank=reciprocal_rank.over(n),
            expected_calibration_error=_calibration_error(t.bins),
            calibration_bins=tuple(
                CalibrationBin(
                    i / self._bins,
                    (i + 1) / self._bins,
                    b.count,
                    b.confidence.over(b.count),
                    _share(b.correct, b.count),
                )
                for i, b in enumerate(t.bins)
            ),
            brier_score=squared_error.over(n),
            nonfinite=t.nonfinite,
            first_nonfinite=t.first_nonfinite,
            loss_histogram=histogram(t.histogram, t.nonfinite),
            position_groups=position_groups(t.groups),
            classes=t.classes,
        )

    def _options(self) -> str:
        """Name the options that two scorers must share to be merged."""
        return f"top_k={self._top_k}, bins={self._bins}, by_position={self._by_position}"

    def _state(self) -> dict[str, Any]:
        t = self._tally
        return {
            "top_k": list(self._top_k),
            "rows": t.rows,
            "count": t.count,
            "correct": t.correct,
            "top": list(t.top),
            "nonfinite": t.nonfinite,
            "first_nonfinite": t.first_nonfinite,
            **{name: sum.to_json() for name, sum in zip(_SUMS, t.sums, strict=True)},
            "bins": [[b.count, b.correct, b.confidence.to_json()] for b in t.bins],
            "units": None if t.units is None else t.units.to_json(),
            "histogram": counts_to_json(t.histogram),
            "positions": [sums.to_json() for sums in t.groups] if self._by_position else None,
            "classes": t.classes,
        }

    @classmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        groups = state["positions"]
        scorer = cls(
            ignore_index=state["ignore_index"],
            top_k=state["top_k"],
            bins=len(state["bins"]),
            by_position=groups is not None,
            values=state.get("values", "logits"),
        )
        first = state["first_nonfinite"]
        scorer._tally = _Tally(
            whole(state["rows"]),
            whole(state["count"]),
            whole(state["correct"]),
            tuple(map(whole, state["top"])),
            whole(state["nonfinite"]),
            None if first is None else whole(first),
            tuple(ExactSum.from_json(state[name]) for name in _SUMS),
            tuple(_Bin(whole(n), whole(c), ExactSum.from_json(s)) for n, c, s in state["bins"]),
            None if state["units"] is None else ExactSum.from_json(state["units"]),
            counts_from_json(state["histogram"]),
            tuple(map(GroupSums.from_json, groups or ())),
            whole(state.get("classes", 0)),
        )
        if len(scorer._tally.top) != len(scorer._top_k):
            raise ValueError(f"it has {len(scorer._tally.top)} top-k counts, expected {len(scorer._top_k)}")
        t = scorer._tally
        if not max(t.correct, t.nonfinite, *t.top, 0) <= t.count <= t.rows:
            raise ValueError("a part of the rows is more than all of them")
        if any(b.correct > b.count for b in t.bins):
            raise ValueError("a bin has more rows that are right than rows")
        if sum(t.histogram.tolist()) + t.nonfinite != t.count:
            raise ValueError("the histogram has another number of rows")
        if groups is not None and sum(group.count for group in t.groups) != t.count:
            raise ValueError("the positions have another number of rows")
        return scorer


# More bins would need memory and show nothing more.
_MOST_BINS = 10_000


def check_units_shape(units: tuple[int, ...], target: tuple[int, ...]) -> None:
    """Raise where there is not a number of units for each target."""
    if units != target:
        raise ValueError(
            f"units has the wrong shape: got {units}, expected one number, or {target}, that of target"
        )


def as_units(units: ArrayInput) -> NDArray[np.float64]:
    """Return the units as float64, or raise where they are no finite numbers from 0 on."""
    array = as_array(units, "units")
    if array.dtype.kind not in "iuf":
        raise TypeError(f"units must be numbers: got dtype {array.dtype}, expected integers or floats")
    array = array.astype(np.float64)
    if array.size and not (array.min() >= 0 and array.max() < math.inf):
        raise ValueError("units is out of range: got a negative number, nan or infinity, expected 0 or more")
    return array


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _calibration_error(bins: tuple[_Bin, ...]) -> float:
    """Return the sum over the bins of |correct - sum of confidence|, over the number of rows in them."""
    gaps = (abs(ExactSum.of_integer(b.correct).units - b.confidence.units) for b in bins)
    return ExactSum(sum(gaps)).over(sum(b.count for b in bins))


def report_of_losses(nll: NDArray[Any], counted: NDArray[np.bool_]) -> Report:
    """Report on the losses of rows that are scored already, with their positions along the last axis.

    Of the report's figures only those of the loss mean something. A loss is minus a log-probability, so that the
    rows of a single class with that log-probability have these losses, and the scorer's sums.
    """
    nll, counted = np.atleast_1d(nll), np.atleast_1d(counted)
    scorer = Scorer(top_k=(), bins=0, by_position=True)
    scorer._add(
        -nll[..., np.newaxis],
        np.zeros(nll.shape, np.uint8),
        where=counted,
        positions=np.arange(nll.shape[-1]),
        values="log_probs",
    )
    return scorer.result()
