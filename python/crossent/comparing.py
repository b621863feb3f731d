"""Two models on the same rows: how far their distributions are from each other."""

from __future__ import annotations

import base64
import json
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossent import _core
from crossent._exact import ExactSum, covariance, quotient, standard_error, state_of, whole
from crossent.interop import ArrayInput
from crossent.report import _int64, aligned, html_table
from crossent.scoring import _at_least_0, shifted

# The percentiles of llama.cpp's table.
_PERCENTILES = (1, 5, 10, 50, 90, 95, 99, 99.9)


@dataclass(frozen=True, repr=False)
class Comparison:
    """How far a model Q is from a reference P, over all rows: the table of llama.cpp, in full precision.

    Divergences are in nats. The fields after `jensen_shannon_mean` are None where there were no targets.

    Parameters
    ----------
    count : int
        Rows that are counted.
    ignored : int
        Rows that are not.
    kl_mean : float
        The mean of KL(P || Q); nan for no rows. It is the comparison's value as a float.
    kl_standard_error : float
        Of that mean: the sample standard deviation (n - 1) over the root of n.
    kl_percentiles : mapping of float to float
        Of KL(P || Q), at 1, 5, 10, 50, 90, 95, 99 and 99.9 percent: linear between the neighbours of position
        share (n - 1) of the sorted values.
    kl_max : float
        The largest KL(P || Q).
    same_top : float
        The share of rows for which both models have the same prediction.
    same_top_standard_error : float
        The root of same_top (1 - same_top) / (n - 1).
    reverse_kl_mean : float
        The mean of KL(Q || P).
    jensen_shannon_mean : float
        The mean of the Jensen-Shannon divergence, (KL(P || M) + KL(Q || M)) / 2 with M = (P + Q) / 2: from 0 to
        ln 2.
    nll_mean, other_nll_mean : float or None
        The mean negative log-likelihoods of the targets under P and Q.
    log_perplexity_ratio : float or None
        ln(perplexity of Q / perplexity of P), the difference of these means.
    log_perplexity_ratio_standard_error : float or None
        Of that difference, in pairs: the root of (var(P) + var(Q) - 2 cov(P, Q)) / n with sample variances.
    target_probability_mean_difference : float or None
        The mean of q - p for the targets' probabilities.
    target_probability_mean_difference_standard_error : float or None
        Of that mean.
    target_probability_rms_difference : float or None
        The root of the mean of (q - p)^2.
    target_probability_rms_difference_standard_error : float or None
        That of the mean of (q - p)^2, over twice the root.
    correlation : float or None
        Pearson's, of the two models' negative log-likelihoods; nan where one of them does not vary.

    See Also
    --------
    compare, Comparer : Make it.
    """

    count: int
    ignored: int
    kl_mean: float
    kl_standard_error: float
    kl_percentiles: Mapping[float, float]
    kl_max: float
    same_top: float
    same_top_standard_error: float
    reverse_kl_mean: float
    jensen_shannon_mean: float
    nll_mean: float | None
    other_nll_mean: float | None
    log_perplexity_ratio: float | None
    log_perplexity_ratio_standard_error: float | None
    target_probability_mean_difference: float | None
    target_probability_mean_difference_standard_error: float | None
    target_probability_rms_difference: float | None
    target_probability_rms_difference_standard_error: float | None
    correlation: float | None

    def __float__(self) -> float:
        return self.kl_mean

    def to_dict(self) -> dict[str, Any]:
        """Give the fields by name.

        Returns
        -------
        dict
            Numbers and dictionaries: what `json.dumps` takes.
        """
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["kl_percentiles"] = {str(key): value for key, value in self.kl_percentiles.items()}
        return values

    def _lines(self) -> list[tuple[str, str]]:
        def with_error(value: float | None, error: float | None) -> str:
            return f"{value:.6g} ± {error:.2g}"

        lines = [
            ("rows counted", f"{self.count:,}"),
            ("rows ignored", f"{self.ignored:,}"),
            ("mean KL(P || Q)", f"{with_error(self.kl_mean, self.kl_standard_error)} nats"),
            ("maximum", f"{self.kl_max:.6g}"),
            *((f"{key:g} %", f"{value:.6g}") for key, value in reversed(list(self.kl_percentiles.items()))),
            ("mean KL(Q || P)", f"{self.reverse_kl_mean:.6g} nats"),
            ("mean Jensen-Shannon", f"{self.jensen_shannon_mean:.6g} nats"),
            ("same prediction", with_error(self.same_top, self.same_top_standard_error)),
        ]
        if self.nll_mean is not None:
            lines += [
                ("mean NLL of P", f"{self.nll_mean:.6g} nats"),
                ("mean NLL of Q", f"{self.other_nll_mean:.6g} nats"),
                (
                    "ln(PPL(Q) / PPL(P))",
                    with_error(self.log_perplexity_ratio, self.log_perplexity_ratio_standard_error),
                ),
                (
                    "mean of q - p",
                    with_error(
                        self.target_probability_mean_difference,
                        self.target_probability_mean_difference_standard_error,
                    ),
                ),
                (
                    "RMS of q - p",
                    with_error(
                        self.target_probability_rms_difference,
                        self.target_probability_rms_difference_standard_error,
                    ),
                ),
                ("correlation of NLL", f"{self.correlation:.6g}"),
            ]
        return lines

    def __repr__(self) -> str:
        return "Comparison of Q with the reference P\n" + aligned(self._lines())

    def _repr_html_(self) -> str:
        return html_table("Comparison of Q with the reference P", self._lines())


@dataclass(frozen=True, slots=True)
class _Tally:
    """What some rows add up to."""

    rows: int = 0
    count: int = 0
    same_top: int = 0
    sums: tuple[ExactSum, ...] = (ExactSum(),) * 4
    targets: tuple[ExactSum, ...] | None = None
    # KL(P || Q) of each row that counts, in blocks.
    each: tuple[NDArray[np.float64], ...] = field(default_factory=tuple)

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
        each = (*self.each, *other.each)
        # Many small blocks become one, so that their number stays a logarithm of that of the rows.
        while len(each) > 1 and each[-2].size <= each[-1].size:
            each = (*each[:-2], np.concatenate(each[-2:]))
        return _Tally(
            self.rows + other.rows,
            self.count + other.count,
            self.same_top + other.same_top,
            tuple(a + b for a, b in zip(self.sums, other.sums, strict=True)),
            targets,
            each,
        )


# What the text of a comparer begins with; a later layout gets a later number.
_FORMAT = "crossent.Comparer 1"
_TARGET_SUMS = 8


class Comparer:
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

    See Also
    --------
    compare : The same for one batch.
    Comparison : What `result` gives.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.kl_div(log_q, log_p, log_target=True, reduction="none")`` on
    whole arrays of log-probabilities, summed over the classes.

    The percentiles are exact. They need the divergence of each counted row: 8 bytes a row are kept, and nothing
    else grows. 100 million rows take 0.8 GB.

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

    def __init__(self, *, ignore_index: int = -100) -> None:
        self._ignore_index = _int64(ignore_index)
        self._tally = _Tally()
        self._lock = threading.Lock()

    @property
    def ignore_index(self) -> int:
        """The target that marks a row as ignored."""
        return self._ignore_index

    @property
    def rows(self) -> int:
        """How many rows it has seen, counted or not: where to go on after an interruption."""
        return self._tally.rows

    def update(
        self,
        logits: ArrayInput,
        other_logits: ArrayInput,
        target: ArrayInput | None = None,
        *,
        where: ArrayInput | None = None,
        axis: int = -1,
        shift: int = 0,
    ) -> None:
        """Compare a batch, and add it. When this raises, nothing has been added.

        Parameters
        ----------
        logits, other_logits, target, where, axis, shift
            As for `compare`. Targets are for all batches or for none.

        Raises
        ------
        IndexError, TypeError, ValueError
            As for `compare`; `ValueError` also if targets are given for some batches only.
        """
        shift = _at_least_0(shift, "shift")
        if shift:
            other_logits, _, _ = shifted(other_logits, None, None, axis, shift)
            logits, target, where = shifted(logits, target, where, axis, shift)
        counts, sums, targets, each = _core.compare_sums(
            logits, other_logits, target, self._ignore_index, where, axis
        )
        tally = _Tally(
            *counts,
            tuple(map(ExactSum.from_core, sums)),
            None if targets is None else tuple(map(ExactSum.from_core, targets)),
            (each,) if each.size else (),
        )
        with self._lock:
            self._tally = self._tally + tally

    def merge(self, other: Comparer) -> Comparer:
        """Add all rows of another comparer.

        Parameters
        ----------
        other : Comparer
            One of the same options. It is not changed.

        Returns
        -------
        Comparer
            This one.

        Raises
        ------
        TypeError
            If `other` is no comparer.
        ValueError
            If targets were given to one of the two only.
        """
        if not isinstance(other, Comparer):
            raise TypeError(f"a comparer merges with a comparer: got {type(other).__name__}")
        with other._lock:
            tally = other._tally
        with self._lock:
            self._tally = self._tally + tally
        return self

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
        each = np.concatenate(t.each) if t.each else np.empty(0)
        each.sort()  # a nan comes last
        return Comparison(
            count=n,
            ignored=t.rows - n,
            kl_mean=forward.over(n),
            kl_standard_error=standard_error(squared, forward, n),
            kl_percentiles={key: _percentile(each, key / 100.0) for key in _PERCENTILES},
            kl_max=float(each[-1]) if n else math.nan,
            same_top=same,
            same_top_standard_error=math.sqrt(same * (1.0 - same) / (n - 1)) if n > 1 else math.nan,
            reverse_kl_mean=reverse.over(n),
            jensen_shannon_mean=shannon.over(n),
            **_of_targets(t.targets, n),
        )

    def to_json(self) -> str:
        """Give everything as text, with every bit.

        Returns
        -------
        str
            The option, the sums and the divergence of each row, as one JSON object.
        """
        t = self._tally
        each = np.concatenate(t.each) if t.each else np.empty(0)
        state = {
            "format": _FORMAT,
            "ignore_index": self._ignore_index,
            "rows": t.rows,
            "count": t.count,
            "same_top": t.same_top,
            "sums": [sum.to_json() for sum in t.sums],
            "targets": None if t.targets is None else [sum.to_json() for sum in t.targets],
            "each": base64.b64encode(each.astype("<f8").tobytes()).decode("ascii"),
        }
        return json.dumps(state)

    @classmethod
    def from_json(cls, text: str | bytes) -> Comparer:
        """Make the comparer that `to_json` wrote.

        Parameters
        ----------
        text : str or bytes
            What `to_json` gave.

        Returns
        -------
        Comparer
            One that goes on where the other stood.

        Raises
        ------
        ValueError
            If the text is not that of a comparer.
        """
        with state_of("comparer"):
            state = json.loads(text)
            if state["format"] != _FORMAT:
                raise ValueError(f"its format is {state['format']!r}, expected {_FORMAT!r}")
            comparer = cls(ignore_index=state["ignore_index"])
            each = np.frombuffer(base64.b64decode(state["each"], validate=True), "<f8").astype(np.float64)
            targets = state["targets"]
            comparer._tally = _Tally(
                whole(state["rows"]),
                whole(state["count"]),
                whole(state["same_top"]),
                tuple(map(ExactSum.from_json, state["sums"])),
                None if targets is None else tuple(map(ExactSum.from_json, targets)),
                (each,) if each.size else (),
            )
            if each.size != comparer._tally.count:
                raise ValueError(f"it has {each.size} divergences, expected {comparer._tally.count}")
            if len(state["sums"]) != len(_Tally().sums) or (targets and len(targets) != _TARGET_SUMS):
                raise ValueError("it has another number of sums")
            if not comparer._tally.same_top <= each.size <= comparer._tally.rows:
                raise ValueError("a part of the rows is more than all of them")
        return comparer

    def __reduce__(self) -> tuple[Any, ...]:
        return (Comparer.from_json, (self.to_json(),))

    def __repr__(self) -> str:
        t = self._tally
        return f"<Comparer(ignore_index={self._ignore_index}): {t.count:,} of {t.rows:,} rows counted>"


def _percentile(ordered: NDArray[np.float64], share: float) -> float:
    """llama.cpp's: linear between the neighbours of position share (n - 1)."""
    if not ordered.size or math.isnan(ordered[-1]):
        return math.nan
    position = share * (ordered.size - 1)
    below = int(position)
    part = position - below
    low = float(ordered[below])
    # Not to multiply an infinity with 0.
    return low if part == 0.0 else (1.0 - part) * low + part * float(ordered[below + 1])


def _of_targets(sums: tuple[ExactSum, ...] | None, n: int) -> dict[str, float | None]:
    names = [f.name for f in fields(Comparison)]
    names = names[names.index("nll_mean") :]
    if sums is None:
        return dict.fromkeys(names)
    a, aa, b, bb, ab, difference, squared, fourth = sums
    finite = a.is_finite and b.is_finite
    ratio = ratio_error = correlation = math.nan
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
        if var_a > 0 and var_b > 0:
            # The root of an integer of many bits, so that neither product nor quotient leaves the range of floats.
            shift = 128
            root = math.isqrt((var_a * var_b) << shift)
            correlation = min(1.0, max(-1.0, quotient(cov << (shift // 2), root)))
    mean_square = squared.over(n)
    rms = math.sqrt(mean_square) if mean_square >= 0 else math.nan
    rms_error = 0.5 / rms * standard_error(fourth, squared, n) if rms > 0 else math.nan
    values = (
        a.over(n),
        b.over(n),
        ratio,
        ratio_error,
        difference.over(n),
        standard_error(squared, difference, n),
        rms,
        rms_error,
        correlation,
    )
    return dict(zip(names, values, strict=True))


def compare(
    logits: ArrayInput,
    other_logits: ArrayInput,
    target: ArrayInput | None = None,
    *,
    ignore_index: int = -100,
    where: ArrayInput | None = None,
    axis: int = -1,
    shift: int = 0,
) -> Comparison:
    """Compare two models' logits for the same rows: their divergences, and what they make of the targets.

    For rows of logits x of the reference P and y of the other model Q, ::

        p = softmax(x), q = softmax(y)
        KL(P || Q) = sum_c p[c] (log p[c] - log q[c])

    Parameters
    ----------
    logits : array-like of shape (..., C)
        Logits of the reference P, float16, bfloat16, float32 or float64. With `axis`, the classes may lie along
        any axis.
    other_logits : array-like
        Logits of the other model Q, of the same shape and of any of these dtypes.
    target : array-like of int, optional
        Class indices, of the shape of `logits` without its class axis. Without them, what concerns the targets is
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
        If shapes do not fit each other, or if `shift` is out of range.
    OverflowError
        If int64 does not hold `ignore_index`.

    See Also
    --------
    Comparer : The same over any number of batches.
    kl_div : The divergence as a loss, of log-probabilities from probabilities.

    Notes
    -----
    The torch equivalent is ``torch.nn.functional.kl_div(log_q, log_p, log_target=True, reduction="none")`` summed
    over the classes, and its mean.

    Each row is computed in float64 for every dtype, in a form without cancellation: divergences of models that
    hardly differ keep their digits, equal logits give exactly 0, and none is negative. A class that P allows and Q
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
    >>> f"{comparison.kl_mean:.6f}", f"{comparison.reverse_kl_mean:.6f}", comparison.same_top
    ('0.001704', '0.001790', 1.0)
    >>> f"{comparison.log_perplexity_ratio:.4f}"
    '-0.0048'
    """
    comparer = Comparer(ignore_index=ignore_index)
    comparer.update(logits, other_logits, target, where=where, axis=axis, shift=shift)
    return comparer.result()
