"""One number that calibrates a model: the temperature of its softmax."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from crossent import _core
from crossent._arguments import Logits, Values, as_ignore_index, checked_values
from crossent._display import html_table
from crossent._exact import ExactSum
from crossent._interop import ArrayInput, as_array
from crossent._scoring.equality import Result
from crossent._scoring.parts import parts
from crossent._scoring.values import tell

Batch: TypeAlias = tuple[Logits, ArrayInput] | tuple[Logits, ArrayInput, ArrayInput]


@dataclass(frozen=True, eq=False)
class Temperature(Result):
    """The temperature that `fit_temperature` found.

    Attributes
    ----------
    temperature : float
        Divide the logits by it. It is the object's value as a float.
    nll_before : float
        The mean negative log-likelihood of the targets in nats, as the logits are; with weights, the weighted mean.
    nll_after : float
        That of the logits divided by the temperature.
    count : int
        Rows that are counted: neither ignored nor of weight 0.
    iterations : int
        The number of times that the logits were read.

    See Also
    --------
    fit_temperature : Makes it.
    """

    temperature: float
    nll_before: float
    nll_after: float
    count: int
    iterations: int

    def __float__(self) -> float:
        return self.temperature

    def _repr_html_(self) -> str:
        return html_table(
            "Temperature",
            [
                ("temperature", f"{self.temperature:.6g}"),
                ("rows counted", f"{self.count:,}"),
                ("mean NLL", f"{self.nll_before:.6g} before, {self.nll_after:.6g} after, in nats"),
                ("reads of the logits", f"{self.iterations:,}"),
            ],
        )


class _Likelihood(NamedTuple):
    """The mean negative log-likelihood at an inverse temperature b, and its derivatives with respect to b."""

    nll: float
    slope: float
    curvature: float
    rows: int


@dataclass(frozen=True, slots=True)
class LikelihoodSums:
    """The sums of some rows at an inverse temperature: of the weights, the losses and their two derivatives."""

    count: int = 0
    sums: tuple[ExactSum, ...] = (ExactSum(),) * 4

    def __add__(self, other: LikelihoodSums) -> LikelihoodSums:
        sums = tuple(a + b for a, b in zip(self.sums, other.sums, strict=True))
        return LikelihoodSums(self.count + other.count, sums)

    def likelihood(self) -> _Likelihood:
        """Return the means, rounded once."""
        total, *others = self.sums
        nll, slope, curvature = (sum.over_sum(total) for sum in others)
        return _Likelihood(nll, slope, curvature, self.count)


# Newton's steps double the digits, so that few are needed; a bisection from far away may need more.
_USUAL_READS, _MOST_READS = 20, 200
# Beyond these inverse temperatures a softmax is the same for any floating-point logits of use.
_LEAST, _MOST = 1e-9, 1e9
# Weights of rows: the products of others with losses and their rounding errors may leave the range of float64.
_LEAST_WEIGHT, _MOST_WEIGHT = 1e-280, 1e280


@overload
def fit_temperature(
    logits: Logits,
    target: ArrayInput,
    *,
    ignore_index: int = -100,
    where: ArrayInput | None = None,
    axis: int = -1,
    values: Values = "logits",
    sample_weight: ArrayInput | None = None,
) -> Temperature: ...
@overload
def fit_temperature(
    logits: Iterable[Batch],
    target: None = None,
    *,
    ignore_index: int = -100,
    where: None = None,
    axis: int = -1,
    values: Values = "logits",
    sample_weight: None = None,
) -> Temperature: ...
def fit_temperature(
    logits: Logits | Iterable[Batch],
    target: ArrayInput | None = None,
    *,
    ignore_index: int = -100,
    where: ArrayInput | None = None,
    axis: int = -1,
    values: Values = "logits",
    sample_weight: ArrayInput | None = None,
) -> Temperature:
    """Find the temperature with which the logits give the targets the largest likelihood.

    For rows of logits x with targets t, T is where the mean over the rows of ::

        nll(T) = log(sum_c exp(x[c] / T)) - x[t] / T

    is least; with `sample_weight`, the weighted mean. Dividing the logits by T calibrates a classifier (Guo et al.
    2017); it changes no prediction.

    Parameters
    ----------
    logits : array-like of shape (..., C), RowBlocks, or iterable of batches
        Held-out logits, float16, bfloat16, float32 or float64; logits that do not fit into memory come in blocks of
        rows (see `crossent.blocks`), and are read again for each step. Or, without `target`, batches: pairs of logits
        and targets, or triples with the weights of their rows too, from an iterable that can be iterated repeatedly,
        such as a list, or an object whose ``__iter__`` reads a file.
    target : array-like of int
        Class indices, of the shape of `logits` without its class axis.
    ignore_index : int, default -100
        The target that marks a row as ignored.
    where : array-like of bool, or of integers 0 and 1, optional
        A mask of the rows, of the shape of `target`; not for batches.
    axis : int, default -1
        The class axis of the logits.
    values : {"logits", "log_probs", "probs"}, default "logits"
        What the numbers are. The temperature divides the logarithms of probabilities.
    sample_weight : array-like, optional
        A weight for each row, of the shape of `target`: finite numbers of at least 0, of any real dtype. An integer
        weight counts as that many equal rows, and 0 leaves a row out, as `where` does. Not for batches, which hold
        their own.

    Returns
    -------
    Temperature
        The temperature, and the mean negative log-likelihood before and after in nats; numbers without a shape.

    Raises
    ------
    IndexError
        If a target is not a class and not `ignore_index`. Or if `axis` is out of range.
    TypeError
        If an argument cannot be read as an array, or if the batches can be gone through only once.
    ValueError
        If shapes do not fit each other; if `values` is none of those allowed, or a probability is nan, negative or
        above 1; if a weight is negative, nan or infinite; if no row is counted; if a row has no finite likelihood; or
        if no temperature is best, because every target has the largest logit already (then the smaller the better),
        or because the logits are no better than chance (then the larger the better).

    Warns
    -----
    LikelyMistakeWarning
        If the first numbers look like something other than `values`, or if probabilities do not add up to 1.

    See Also
    --------
    Scorer : Its report has the calibration error, before and after.

    Notes
    -----
    The torch equivalent is ``torch.optim.LBFGS`` over a parameter that divides the logits in
    ``torch.nn.functional.cross_entropy``, whose result depends on the number of steps.

    The negative log-likelihood is convex in 1/T. Its first two derivatives are sums over the rows, so that each step
    of Newton's method reads the logits once, in batches of any size, and about six give all digits. Each row is
    computed in float64, and the sums are exact: the result has the same bits for any batches and number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(5000, 4))
    >>> p = crossent.softmax(x)
    >>> target = (p.cumsum(axis=1) < rng.random((5000, 1))).sum(axis=1)
    >>> found = crossent.fit_temperature(3 * x, target)  # three times too sure
    >>> round(found.temperature, 2), found.nll_after < found.nll_before
    (3.01, True)
    >>> batches = [(3 * x[:2000], target[:2000]), (3 * x[2000:], target[2000:])]
    >>> crossent.fit_temperature(batches).temperature == found.temperature
    True
    """
    mistakes: list[str] = []
    try:
        return fit(logits, target, ignore_index, where, axis, checked_values(values), mistakes, sample_weight)
    finally:
        tell(mistakes)  # They may be why no temperature is best.


def fit(
    logits: Logits | Iterable[Batch],
    target: ArrayInput | None,
    ignore_index: int,
    where: ArrayInput | None,
    axis: int,
    values: Values,
    mistakes: list[str],
    sample_weight: ArrayInput | None = None,
) -> Temperature:
    """Find the temperature, and add likely mistakes to `mistakes`."""
    if target is not None:
        alone = (logits, target) if sample_weight is None else (logits, target, sample_weight)
        batches: Iterable[Batch] = [alone]  # type: ignore[list-item]
    elif sample_weight is not None:
        raise TypeError(
            "sample_weight goes with arrays: got batches; make each of them (logits, target, sample_weight)"
        )
    elif where is not None:
        raise TypeError("where goes with arrays: got batches; mark the rows to leave out with ignore_index")
    else:
        batches = _repeatable(logits)
    rows = _Rows(batches, as_ignore_index(ignore_index), where, axis, values, mistakes)
    return best(rows.sums)


def best(sums: Callable[[float], LikelihoodSums]) -> Temperature:
    """Find the temperature from the sums of all rows, which are asked for at one inverse temperature after another."""

    def likelihood(b: float) -> _Likelihood:
        return sums(b).likelihood()

    before = likelihood(1.0)
    _check(before)
    b, at, reads = _minimum(likelihood, before)
    if at.nll > before.nll:  # by a rounding
        b, at = 1.0, before
    return Temperature(1.0 / b, before.nll, at.nll, at.rows, reads)


def sums_of(
    logits: Logits,
    target: ArrayInput,
    b: float,
    *,
    ignore_index: int,
    where: ArrayInput | None,
    axis: int,
    values: Values,
    sample_weight: ArrayInput | None,
    mistakes: list[str],
) -> LikelihoodSums:
    """Add up the likelihood of some rows at the inverse temperature b, and note likely mistakes at b = 1."""
    batch = (logits, target) if sample_weight is None else (logits, target, sample_weight)
    return _Rows([batch], ignore_index, where, axis, values, mistakes).sums(b)


def _repeatable(batches: object) -> Iterable[Batch]:
    if not isinstance(batches, Iterable) or hasattr(batches, "shape"):
        raise TypeError(
            f"target is missing: got {type(batches).__name__} alone, expected logits and target, or an iterable of "
            "batches"
        )
    if isinstance(batches, Iterator):
        raise TypeError(
            f"the batches can be gone through once only: got {type(batches).__name__}, expected an iterable that "
            "gives them again; make a list of them, or give an object whose __iter__ starts anew"
        )
    return batches


@dataclass(frozen=True)
class _Rows:
    """The rows, which each step reads anew."""

    batches: Iterable[Batch]
    ignore_index: int
    where: ArrayInput | None
    axis: int
    values: Values
    mistakes: list[str]

    def sums(self, b: float) -> LikelihoodSums:
        """Add up the likelihood of the inverse temperature b."""
        sums = LikelihoodSums()
        for number, batch in enumerate(self.batches):
            logits, target, given = _batch(batch, number)
            weight = None if given is None else self._weights_of(given, logits, target)
            where = self.where if weight is None else _counted(self.where, weight)
            # The first rows are checked at the first read; probabilities, one and all, at each.
            noted = self.mistakes if self.values == "probs" or (number == 0 and b == 1.0) else None
            for part in parts(logits, target, where, self.axis, self.ignore_index, self.values, noted):
                own_weight = None if weight is None else part.of_rows(weight.reshape(-1))
                counted, own = _core.temperature_sums(
                    part.rows, part.target, self.ignore_index, part.where, part.axis, b, own_weight
                )
                sums += LikelihoodSums(counted, tuple(map(ExactSum.from_core, own)))
        return sums

    def _weights_of(
        self, sample_weight: ArrayInput, logits: Logits, target: ArrayInput
    ) -> NDArray[np.float64]:
        """Return the weights of a batch, whose target is checked first where it may be what does not fit."""
        array, shape = as_array(sample_weight, "sample_weight"), as_array(target, "target").shape
        if isinstance(logits, np.ndarray) and array.shape != shape:
            _core.check_targets(logits, target, self.ignore_index, None, self.axis, "logits")
        return checked_weights(array, shape)


def _batch(batch: Any, number: int) -> tuple[Logits, ArrayInput, ArrayInput | None]:
    """Return logits, target and weights of a batch, or raise where it is neither a pair nor a triple."""
    cause = None
    try:
        members = tuple(batch)
        if len(members) in (2, 3):
            return members[0], members[1], members[2] if len(members) == 3 else None
    except (TypeError, ValueError) as error:
        cause = error
    raise TypeError(
        f"batch {number} is not a pair: got {type(batch).__name__}, expected (logits, target), or (logits, target, "
        "sample_weight)"
    ) from cause


def checked_weights(array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return a weight for each row as float64, or raise for the first that is none."""
    if array.dtype.kind not in "iubf" and array.dtype.name != "bfloat16":
        raise TypeError(f"sample_weight must be numbers: got dtype {array.dtype}, expected a real one")
    if array.shape != shape:
        hint = _core.shape_hint("sample_weight", array.shape, shape)
        raise ValueError(
            f"sample_weight has the wrong shape: got {array.shape}, expected {shape}, that of target"
            f"{f'; {hint}' if hint else ''}"
        )
    weight: NDArray[np.float64] = np.ascontiguousarray(array, dtype=np.float64).reshape(shape)
    wrong = (weight != 0.0) & ~((weight >= _LEAST_WEIGHT) & (weight <= _MOST_WEIGHT))
    if wrong.any():
        first = np.unravel_index(int(wrong.argmax()), shape)
        raise ValueError(
            f"sample_weight holds a number that is no weight: got sample_weight[{', '.join(map(str, first))}] = "
            f"{weight[first]:g}, expected numbers from {_LEAST_WEIGHT:g} to {_MOST_WEIGHT:g}, or 0 to leave a row out"
        )
    return weight


def _counted(where: ArrayInput | None, weight: NDArray[np.float64]) -> Any:
    """Return the mask without the rows of weight 0; one that does not fit is left for the compiled code to refuse."""
    if where is None:
        return None if weight.all() else weight > 0.0
    mask = as_array(where, "where")
    if mask.shape != weight.shape or not ((mask == 0) | (mask == 1)).all():
        return where
    return (mask == 1) & (weight > 0.0) if mask.dtype.kind in "biu" else where


def _check(at: _Likelihood) -> None:
    if at.rows == 0:
        raise ValueError("no row is counted: check ignore_index, where and sample_weight")
    if not math.isfinite(at.nll):
        kind = "a logit that is nan or +inf" if math.isnan(at.nll) else "a target whose logit is -inf"
        raise ValueError(
            f"a row has no finite likelihood at any temperature: there is {kind}; find it with "
            "crossent.score(...).nll, and leave it out with where="
        )


def _minimum(likelihood: Callable[[float], _Likelihood], at: _Likelihood) -> tuple[float, _Likelihood, int]:
    """Newton's steps from b = 1, between the largest b where the nll still falls and the smallest where it rises."""
    b, low, high, moved = 1.0, 0.0, math.inf, math.inf
    for reads in range(1, _MOST_READS):
        if at.slope == 0.0 and at.curvature == 0.0 and b != 1.0:
            raise ValueError(_NO_BEST[b > 1.0])  # the slope has underflowed
        if at.slope == 0.0:
            return b, at, reads
        low, high = (b, high) if at.slope < 0 else (low, b)
        new = _next(b, low, high, at, hurry=reads > _USUAL_READS)
        before, moved = moved, abs(new - b) / b
        if reads > _USUAL_READS // 2 and moved > before / 2 and low > 0.0 and high < math.inf:
            # Where few rows have nearly all weight, the derivatives fall off exponentially and steps do not shrink.
            new = math.sqrt(low * high)
            moved = abs(new - b) / b
        if not _LEAST <= new <= _MOST:
            raise ValueError(_NO_BEST[at.slope < 0])
        if abs(new - b) <= 4e-16 * b or new in (low, high):
            return b, at, reads
        b, at = new, likelihood(new)
        # Newton's next step would change less than a rounding.
        if moved < 1e-9:
            return b, at, reads + 1
    raise ValueError(
        f"no temperature was found in {_MOST_READS} reads: the rows differ too much for any to suit them; check the "
        "logits and sample_weight"
    )


def _next(b: float, low: float, high: float, at: _Likelihood, *, hurry: bool) -> float:
    """Newton's step, by a factor of 8 at most; where that leaves the bracket, the bracket's middle."""
    step = at.slope / at.curvature if at.curvature > 0 else math.copysign(math.inf, at.slope)
    new = min(max(b - step, b / 8.0), b * 8.0)
    bracketed = low > 0.0 and high < math.inf
    if hurry and not bracketed:
        # Where every prediction is correct the likelihood has no minimum, and Newton's steps have no limit.
        return b * 8.0 if at.slope < 0 else b / 8.0
    return new if low < new < high or not bracketed else math.sqrt(low * high)


_NO_BEST = {
    True: (
        "no temperature is best: every target has the largest logit already, so a smaller one is always better; fit "
        "on held-out rows, some of which the model gets wrong"
    ),
    False: (
        "no temperature is best: the targets' logits are no larger than the others on average, so a larger "
        "one is always better; are the targets those of these rows?"
    ),
}
