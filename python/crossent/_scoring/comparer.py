"""The divergences of two models on the same rows, over any number of batches."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crossent import _core
from crossent._arguments import Logits, Values, as_count, checked_values, shifted
from crossent._exact import ExactSum, covariance, exp, quotient, standard_error, whole
from crossent._interop import ArrayInput
from crossent._scoring.accumulate import Accumulator
from crossent._scoring.comparison import Comparison
from crossent._scoring.parts import Part, pairs
from crossent._scoring.values import tell

# The percentiles of llama.cpp's table.
_KL_PERCENTILES = (1, 5, 10, 50, 90, 95, 99, 99.9)
_DIFFERENCE_PERCENTILES = (0.1, 1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9)


Each: TypeAlias = tuple[NDArray[np.float64], ...]


@dataclass(frozen=True, slots=True)
class _Tally:
    """The sums of some rows."""

    rows: int = 0
    count: int = 0
    same_top: int = 0
    sums: tuple[ExactSum, ...] = (ExactSum(),) * 4
    targets: tuple[ExactSum, ...] | None = None
    # KL(P || Q) of each counted row, in several arrays; and with targets the q - p of each.
    each: Each = ()
    differences: Each = ()

    def __add__(self, other: _Tally) -> _Tally:
        if self.rows and other.rows and (self.targets is None) != (other.targets is None):
            raise ValueError(
                "targets are given for some rows only: got an update or a merge "
                f"{'without' if other.targets is None else 'with'} targets, expected one "
                f"{'with' if other.targets is None else 'without'}, as before"
            )
        targets = self.targets if self.targets is not None else other.targets
        if self.targets is not None and other.targets is not None:
            targets = tuple(a + b for a, b in zip(self.targets, other.targets, strict=True))
        return _Tally(
            self.rows + other.rows,
            self.count + other.count,
            self.same_top + other.same_top,
            tuple(a + b for a, b in zip(self.sums, other.sums, strict=True)),
            targets,
            _joined((*self.each, *other.each)),
            _joined((*self.differences, *other.differences)),
        )


def _joined(each: Each) -> Each:
    """Join small arrays, so that their number grows with the logarithm of the number of rows."""
    while len(each) > 1 and each[-2].size <= each[-1].size:
        each = (*each[:-2], np.concatenate(each[-2:]))
    return each


def _whole(each: Each) -> NDArray[np.float64]:
    return np.concatenate(each) if each else np.empty(0)


_TARGET_SUMS = 8


class Comparer(Accumulator[_Tally]):
    """Compare two models over any number of batches, as one comparison.

    For rows of logits x of the reference P and y of the model Q, ::

        p = softmax(x), q = softmax(y)
        KL(P || Q) = sum_c p[c] (log p[c] - log q[c])

    All sums are exact, and have the same bits for any size of the batches, any number of threads and any order
    of merging.

    Parameters
    ----------
    ignore_index : int, default -100
        The target that marks a row as ignored.
    values : {"logits", "log_probs", "probs"}, default "logits"
        What the numbers of the batches are, unless `update` is given another; as for `compare`.

    See Also
    --------
    compare : Compare one batch.
    Comparison : What `result` gives.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.kl_div(log_q, log_p, log_target=True, reduction="none")`` on
    whole arrays of log-probabilities, summed over the classes.

    The percentiles are exact. They need the divergence of each counted row, and with targets the difference of their
    probabilities: 8 or 16 bytes a row are kept, and nothing else grows. 100 million rows take 1.6 GB.

    Objects can be pickled, and several threads may update one.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> rng = np.random.default_rng(0)
    >>> x, target = rng.normal(size=(1000, 8)), rng.integers(8, size=1000)
    >>> comparer = crossent.Comparer()
    >>> for at in range(0, 1000, 300):
    ...     part = slice(at, at + 300)
    ...     comparer.update(x[part], x[part].round(1), target[part])
    >>> comparison = comparer.result()
    >>> comparison.count, f"{comparison.kl_mean:.6f}", comparison.same_top
    (1000, '0.000316', 0.977)
    """

    _kind = "comparer"
    _format = "crossent.Comparer 2"
    _again = "compare the rows again"

    def __init__(self, *, ignore_index: int = -100, values: Values = "logits") -> None:
        super().__init__(ignore_index, values, _Tally())

    def update(
        self,
        logits: Logits,
        other_logits: Logits,
        target: ArrayInput | None = None,
        *,
        where: ArrayInput | None = None,
        axis: int = -1,
        shift: int = 0,
        values: Values | None = None,
    ) -> None:
        """Compare a batch, and add it. When this raises, nothing has been added.

        Parameters
        ----------
        logits, other_logits, target, where, axis, shift
            As for `compare`. Targets are for all batches or for none.
        values : {"logits", "log_probs", "probs"}, optional
            As for `compare`; by default what the comparer was made for.

        Raises
        ------
        IndexError, TypeError, ValueError
            As for `compare`; `ValueError` also if targets are given for some batches only.

        Warns
        -----
        LikelyMistakeWarning
            As for `compare`.
        """
        mistakes: list[str] = []
        kind = self._values if values is None else checked_values(values)
        tally = self._compared(logits, other_logits, target, where, axis, shift, kind, mistakes)
        self._include(tally, mistakes)

    def _add(self, logits: Logits, other_logits: Logits, target: ArrayInput | None, values: Values) -> None:
        """Compare a batch and add it, without warnings."""
        self._include(self._compared(logits, other_logits, target, None, -1, 0, values, []))

    def _compared(
        self,
        logits: Logits,
        other_logits: Logits,
        target: ArrayInput | None,
        where: ArrayInput | None,
        axis: int,
        shift: int,
        values: Values,
        mistakes: list[str],
    ) -> _Tally:
        """Add up the comparison of a batch, and note likely mistakes."""
        shift = as_count(shift, "shift")
        if shift:
            beside = (target, where, logits)
            other = shifted(other_logits, None, None, axis, shift, "other_logits", beside)[0]
            logits, target, where = shifted(logits, target, where, axis, shift, lengths_of=(other_logits,))
            other_logits = other
        tally = _Tally()
        index = self._ignore_index
        for p, q in pairs(logits, other_logits, target, where, axis, index, values, mistakes):
            tally += self._tally_of(p, q)
        return tally

    def _tally_of(self, p: Part, q: Part) -> _Tally:
        """Add up the comparison of some rows."""
        counts, sums, targets, each, differences = _core.compare_sums(
            p.rows, q.rows, p.target, self._ignore_index, p.where, p.axis
        )
        return _Tally(
            *counts,
            tuple(map(ExactSum.from_core, sums)),
            None if targets is None else tuple(map(ExactSum.from_core, targets)),
            (each,) if each.size else (),
            (differences,) if differences is not None and differences.size else (),
        )

    def result(self) -> Comparison:
        """Compare all rows so far.

        Returns
        -------
        Comparison
            The figures, of exact sums that are rounded once.
        """
        t = self._tally
        n = t.count
        forward, squared, reverse, shannon = t.sums
        same = t.same_top / n if n else math.nan
        kl_min, *kl_percentiles, kl_max = _percentiles(t.each, _KL_PERCENTILES)
        return Comparison(
            count=n,
            ignored=t.rows - n,
            kl_mean=forward.over(n),
            kl_standard_error=standard_error(squared, forward, n),
            kl_percentiles=dict(zip(_KL_PERCENTILES, kl_percentiles, strict=True)),
            kl_min=kl_min,
            kl_max=kl_max,
            same_top=same,
            same_top_standard_error=math.sqrt(same * (1.0 - same) / (n - 1)) if n > 1 else math.nan,
            reverse_kl_mean=reverse.over(n),
            jensen_shannon_mean=shannon.over(n),
            **_of_targets(t.targets, t.differences, n),
        )

    def _state(self) -> dict[str, Any]:
        t = self._tally
        return {
            "rows": t.rows,
            "count": t.count,
            "same_top": t.same_top,
            "sums": [sum.to_json() for sum in t.sums],
            "targets": None if t.targets is None else [sum.to_json() for sum in t.targets],
            "each": _to_text(_whole(t.each)),
            "differences": _to_text(_whole(t.differences)),
        }

    @classmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        comparer = cls(ignore_index=state["ignore_index"], values=state["values"])
        each, differences = _from_text(state["each"]), _from_text(state["differences"])
        targets = state["targets"]
        comparer._tally = _Tally(
            whole(state["rows"]),
            whole(state["count"]),
            whole(state["same_top"]),
            tuple(map(ExactSum.from_json, state["sums"])),
            None if targets is None else tuple(map(ExactSum.from_json, targets)),
            (each,) if each.size else (),
            (differences,) if differences.size else (),
        )
        if each.size != comparer._tally.count:
            raise ValueError(f"it has {each.size} divergences, expected {comparer._tally.count}")
        if differences.size != (0 if targets is None else each.size):
            raise ValueError(f"it has {differences.size} differences of probabilities for {each.size} rows")
        if len(state["sums"]) != len(_Tally().sums) or (targets and len(targets) != _TARGET_SUMS):
            raise ValueError("it has another number of sums")
        if not comparer._tally.same_top <= each.size <= comparer._tally.rows:
            raise ValueError("a part of the rows is more than all of them")
        return comparer


def _to_text(values: NDArray[np.float64]) -> str:
    return base64.b64encode(values.astype("<f8").tobytes()).decode("ascii")


def _from_text(text: str) -> NDArray[np.float64]:
    return np.frombuffer(base64.b64decode(text, validate=True), "<f8").astype(np.float64)


def _percentiles(each: Each, percents: Sequence[float]) -> list[float]:
    """Return the smallest number, percentiles, and the largest."""
    return _core.percentiles(np.sort(_whole(each)), [0, *percents, 100])  # a nan comes last


def _of_targets(sums: tuple[ExactSum, ...] | None, differences: Each, n: int) -> dict[str, Any]:
    names = [f.name for f in fields(Comparison)]
    names = names[names.index("nll_mean") :]
    if sums is None:
        return dict.fromkeys(names)
    a, aa, b, bb, ab, difference, squared, fourth = sums
    finite = a.is_finite and b.is_finite
    p, q = exp(a.over(n)), exp(b.over(n))
    ratio = ratio_error = difference_error = correlation = math.nan
    if finite and n:
        ratio = ExactSum(b.units - a.units).over(n)
    elif n:
        ratio = b.over(n) - a.over(n)
    if finite and n > 1:
        (var_a, below), (var_b, _), (cov, _) = (
            covariance(aa, a, a, n),
            covariance(bb, b, b, n),
            covariance(ab, a, b, n),
        )
        ratio_error = math.sqrt(quotient(max(var_a + var_b - 2 * cov, 0), below * n))
        difference_error = _difference_error(p, q, var_a, var_b, cov, below * n)
        if var_a > 0 and var_b > 0:
            # An integer square root with many bits: neither the product nor the quotient leaves the range of floats.
            shift = 128
            root = math.isqrt((var_a * var_b) << shift)
            correlation = min(1.0, max(-1.0, quotient(cov << (shift // 2), root)))
    mean_square = squared.over(n)
    rms = math.sqrt(mean_square) if mean_square >= 0 else math.nan
    rms_error = standard_error(fourth, squared, n)
    if rms > 0:
        rms_error *= 0.5 / rms
    least, *percentiles, most = _percentiles(differences, _DIFFERENCE_PERCENTILES)
    values = (
        a.over(n),
        b.over(n),
        ratio,
        ratio_error,
        exp(ratio),
        exp(ratio) * ratio_error,
        q - p,
        difference_error,
        difference.over(n),
        standard_error(squared, difference, n),
        rms,
        rms_error,
        dict(zip(_DIFFERENCE_PERCENTILES, percentiles, strict=True)),
        least,
        most,
        correlation,
    )
    return dict(zip(names, values, strict=True))


def _difference_error(p: float, q: float, var_a: int, var_b: int, cov: int, below: int) -> float:
    """Return the standard error of q - p, exponentials of two means with these (co)variances over `below`."""
    if not math.isfinite(p + q):
        return math.nan
    (p_above, p_below), (q_above, q_below) = p.as_integer_ratio(), q.as_integer_ratio()
    p_above, q_above, scale = p_above * q_below, q_above * p_below, p_below * q_below
    above = var_a * p_above**2 + var_b * q_above**2 - 2 * cov * p_above * q_above
    return math.sqrt(quotient(max(above, 0), below * scale**2))


def compare(
    logits: Logits,
    other_logits: Logits,
    target: ArrayInput | None = None,
    *,
    ignore_index: int = -100,
    where: ArrayInput | None = None,
    axis: int = -1,
    shift: int = 0,
    values: Values = "logits",
) -> Comparison:
    """Compare two models' logits for the same rows: their divergences, and their losses of the targets.

    For rows of logits x of the reference P and y of the other model Q, ::

        p = softmax(x), q = softmax(y)
        KL(P || Q) = sum_c p[c] (log p[c] - log q[c])

    Parameters
    ----------
    logits : array-like of shape (..., C), or RowBlocks
        Logits of the reference P, float16, bfloat16, float32 or float64. With `axis`, the classes may lie along any
        axis. Logits that do not fit into memory come in blocks of rows, such as a `LinearLogits`: see
        `crossent.blocks`.
    other_logits : array-like or RowBlocks
        Logits of the other model Q, of the same shape and of any of these dtypes. If both come in blocks, their rows
        have the same order.
    target : array-like of int, optional
        Class indices, of the shape of `logits` without its class axis. Without them, the figures of the targets are
        None in the result.
    ignore_index : int, default -100
        The target that marks a row as ignored.
    where : array-like of bool, or of integers 0 and 1, optional
        A mask of the rows, of the shape of `target`. The rows it leaves out are ignored.
    axis : int, default -1
        The class axis of the logits.
    shift : int, default 0
        Compare position i, with the target at i + `shift`, along the axis before the classes: 1 for language
        models. Positions without a target are left out.
    values : {"logits", "log_probs", "probs"}, default "logits"
        What the numbers of both models are. Log-probabilities are normalised as logits are; probabilities are compared
        by their logarithms.

    Returns
    -------
    Comparison
        Numbers in nats, with standard errors; it holds no arrays of the shape of the rows.

    Raises
    ------
    IndexError
        If a target is not a class and not `ignore_index`; the text names the first such row. Or if `axis`
        is out of range.
    TypeError
        If an argument cannot be read as an array, or has a dtype that does not fit.
    ValueError
        If shapes do not fit each other, if `shift` is out of range, if `values` is none of those allowed, or if one
        of the probabilities of a counted row is nan, negative or above 1.
    OverflowError
        If int64 does not hold `ignore_index`.

    Warns
    -----
    LikelyMistakeWarning
        If the numbers look like something other than `values`, or if probabilities do not add up to 1.

    See Also
    --------
    Comparer : Compare any number of batches.
    kl_div : The divergence as a loss, of log-probabilities from probabilities.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.kl_div(log_q, log_p, log_target=True, reduction="none")`` summed
    over the classes, and its mean.

    Each row is computed in float64 for every dtype, in a form without cancellation: the small divergences of nearly
    equal models keep their digits, equal logits give exactly 0, and none is negative. A class that P allows and Q
    excludes makes KL(P || Q) infinite. A row that has no softmax in one of the models makes it nan.

    The figures are those of llama.cpp's `--kl-divergence`, which keeps its logits in 16 bits and leaves out
    classes with a probability below e^-16 under P.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> x = np.array([[2.0, 1.0, 0.0], [0.5, 0.0, 3.0]])
    >>> y = np.array([[2.1, 1.0, 0.0], [0.5, 0.2, 2.9]])
    >>> comparison = crossent.compare(x, y, np.array([0, 2]))
    >>> (
    ...     f"{comparison.kl_mean:.6f}",
    ...     f"{comparison.reverse_kl_mean:.6f}",
    ...     comparison.same_top,
    ... )
    ('0.001704', '0.001790', 1.0)
    >>> f"{comparison.log_perplexity_ratio:.4f}"
    '-0.0048'
    """
    mistakes: list[str] = []
    comparer = Comparer(ignore_index=ignore_index, values=values)
    comparer._tally = comparer._compared(
        logits, other_logits, target, where, axis, shift, comparer._values, mistakes
    )
    tell(mistakes)
    return comparer.result()
