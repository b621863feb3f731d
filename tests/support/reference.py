"""What crossent computes, in plain float64 NumPy: the specification that the compiled code is held to.

Everything is widened to float64 first, and the result is left in float64: rounding to the result's dtype is
the caller's business. Written to be read, and to be accurate to a few ULP of float64 on every row:

* the largest logit m of a row is kept out of the sum, so that ``logsumexp = m + log1p(rest)`` keeps the
  digits of a confident row, where ``rest`` is tiny;
* the rounding error of ``x - m`` is carried into the exponential.

No argument is checked: the arguments are taken to be good ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from arrays import Array

Float64 = NDArray[np.float64]

_quiet = np.errstate(all="ignore")


def widen(x: ArrayLike) -> Float64:
    """`x` as a float64 array (exact for every supported dtype)."""
    return np.asarray(x).astype(np.float64)


def times(coefficient: ArrayLike, value: ArrayLike) -> Float64:
    """coefficient * value, with 0 * inf = 0: what has no weight contributes nothing. A nan stays nan."""
    coefficient, value = np.broadcast_arrays(widen(coefficient), widen(value))
    return np.where((coefficient == 0) & np.isinf(value), 0.0, coefficient * value)


# ---- rows: the classes lie along the last axis ----------------------------------------------------------


def _minus(x: Float64, m: Float64) -> tuple[Float64, Float64]:
    """x - m as a rounded difference and its rounding error (Knuth's two-sum); error 0 where not finite."""
    difference = x - m
    part = difference - x
    error = (x - (difference - part)) + (-m - part)
    return difference, np.where(np.isfinite(error), error, 0.0)


def _split(x: Float64) -> tuple[Float64, Float64, Float64]:
    """The largest logit m of each row; exp(x - m); and the sum of all exp(x - m) but the largest's own 1."""
    m = x.max(axis=-1, keepdims=True)
    difference, error = _minus(x, m)
    exponentials = np.exp(difference) * (1.0 + error)
    rows = exponentials.reshape(-1, x.shape[-1]).copy()
    rows[np.arange(len(rows)), x.reshape(rows.shape).argmax(axis=-1)] = 0.0
    return m, exponentials, rows.reshape(x.shape).sum(axis=-1, keepdims=True)


def _log_softmax_last(x: Float64) -> Float64:
    if x.size == 0:
        return x.copy()
    m, _, rest = _split(x)
    difference, error = _minus(x, m)
    rows = difference - (np.log1p(rest) - error)
    return np.where(np.isfinite(m), rows, np.nan)  # a row of -inf, or with +inf or nan, has no distribution


def _logsumexp_last(x: Float64) -> Float64:
    if x.shape[-1] == 0:
        return np.full(x.shape[:-1], -np.inf)  # the log of an empty sum
    if x.size == 0:
        return np.zeros(x.shape[:-1])
    m, _, rest = _split(x)
    sums = np.where(np.isinf(m), m, m + np.log1p(rest))[..., 0]
    return np.where(np.isnan(x).any(axis=-1), np.nan, sums)


# ---- row functions --------------------------------------------------------------------------------------


Axes = int | tuple[int, ...] | None


def _axes(axis: Axes, ndim: int) -> tuple[int, ...]:
    """The axes counted from the front; a single number has none, though it has the names 0 and -1."""
    axes = tuple(range(ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return tuple(a.__index__() % ndim for a in axes if ndim)


def _over(function: Any, x: Float64, axis: Axes) -> Float64:
    """A function of rows, whose elements lie along several axes."""
    axes = _axes(axis, x.ndim)
    order = [a for a in range(x.ndim) if a not in axes] + sorted(axes)
    moved = x.transpose(order)
    rows = moved.reshape(
        *moved.shape[: x.ndim - len(axes)], int(np.prod([x.shape[a] for a in axes], dtype=int))
    )
    result: Float64 = function(rows).reshape(moved.shape).transpose(np.argsort(order))
    return result


@_quiet
def log_softmax(x: ArrayLike, axis: Axes = -1) -> Float64:
    x = widen(x)
    if x.ndim == 0:
        return np.where(np.isfinite(x), 0.0, np.nan)
    if not isinstance(axis, int):
        return _over(log_softmax, x, axis)
    return np.moveaxis(_log_softmax_last(np.moveaxis(x, axis, -1)), -1, axis)


@_quiet
def softmax(x: ArrayLike, axis: Axes = -1) -> Float64:
    x = widen(x)
    if x.ndim == 0:
        return np.where(np.isfinite(x), 1.0, np.nan)
    if x.size == 0:
        return x.copy()
    if not isinstance(axis, int):
        return _over(softmax, x, axis)
    m, exponentials, rest = _split(np.moveaxis(x, axis, -1))
    rows = np.where(np.isfinite(m), exponentials / (1.0 + rest), np.nan)
    return np.moveaxis(rows, -1, axis)


@_quiet
def logsumexp(
    x: ArrayLike,
    axis: Axes = None,
    *,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
) -> Any:
    """log(sum(b exp(x))), and the sign of the sum; elements with a b of 0 add nothing."""
    x = widen(x)
    if b is not None:
        x, b = np.broadcast_arrays(x, widen(b))
    axes = _axes(axis, x.ndim)
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    kept_shape = tuple(x.shape[a] for a in kept)
    terms = int(np.prod([x.shape[a] for a in axes], dtype=np.int64))
    rows = x.transpose(kept + axes).reshape(*kept_shape, terms)
    if b is None:
        sums = _logsumexp_last(rows)
        signs = np.where(np.isnan(sums), np.nan, sums > -np.inf)
    else:
        sums, signs = _signed_logsumexp_last(rows, np.transpose(b, kept + axes).reshape(*kept_shape, terms))
        sums = sums if return_sign else np.where(signs < 0, np.nan, sums)
    if keepdims:
        sums, signs = (np.expand_dims(a, tuple(sorted(axes))) for a in (sums, signs))
    return (sums, signs) if return_sign else sums


def _signed_logsumexp_last(x: Float64, b: Float64) -> tuple[Float64, Float64]:
    """In long double, relative to the largest x whose b is not 0."""
    wide = np.where(b == 0, -np.inf, x).astype(np.longdouble)
    m = wide.max(axis=-1, keepdims=True, initial=-np.inf)
    m = np.where(np.isfinite(m), m, 0)
    sums = np.where(b == 0, 0, b * np.exp(wide - m)).sum(axis=-1)
    return np.asarray(np.log(np.abs(sums)) + m[..., 0], float), np.asarray(np.sign(sums), float)


@_quiet
def log_sigmoid(x: ArrayLike) -> Float64:
    """log(1 / (1 + exp(-x))), from the exponential that cannot overflow."""
    x = widen(x)
    return np.where(x < 0, x - np.log1p(np.exp(x)), -np.log1p(np.exp(-x)))


# ---- losses ---------------------------------------------------------------------------------------------


def cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    axis: int | None = None,
    where: ArrayLike | None = None,
) -> Float64:
    """-log softmax(input)[target], or -sum(target * log softmax(input)) for a target of probabilities.

    And z_loss log(sum(exp(input)))**2, of which "mean" takes the mean over the rows whatever their weights.
    """
    input, target = np.asarray(input), np.asarray(target)
    axis = _class_axis(input, axis)
    if z_loss and input.shape[axis]:
        plain = cross_entropy(
            input,
            target,
            weight,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
            axis=axis,
            where=where,
        )
        rows = np.delete(input.shape, axis)
        counted = np.ones(rows, dtype=bool) if where is None else np.asarray(where, dtype=bool).reshape(rows)
        if target.shape != input.shape or target.dtype.kind in "iu":
            counted = counted & np.asarray(target.astype(object) != ignore_index, dtype=bool).reshape(rows)
        squares = np.where(counted, z_loss * logsumexp(input, axis) ** 2, 0.0)
        return np.asarray(plain + _reduce(squares, counted.astype(np.float64), reduction))
    log_p = log_softmax(input, axis)
    if target.shape == input.shape and target.dtype.kind not in "iu":
        return _with_probabilities(log_p, target, weight, reduction, label_smoothing, axis, where)
    return _with_indices(log_p, target, weight, ignore_index, reduction, label_smoothing, axis, where)


def linear_logits(
    input: ArrayLike,
    linear_weight: ArrayLike,
    linear_bias: ArrayLike | None = None,
    *,
    softcap: float | None = None,
    scale: float = 1.0,
) -> Float64:
    """scale (input @ linear_weight.T + linear_bias), capped by c tanh(y / c) but for -inf."""
    y = widen(input) @ widen(linear_weight).T
    y = scale * (y if linear_bias is None else y + widen(linear_bias))
    return y if softcap is None else np.where(np.isneginf(y), y, softcap * np.tanh(y / softcap))


def linear_cross_entropy(
    input: ArrayLike,
    linear_weight: ArrayLike,
    target: ArrayLike,
    *,
    linear_bias: ArrayLike | None = None,
    softcap: float | None = None,
    **options: Any,
) -> Float64:
    """The cross entropy of linear_logits."""
    logits = linear_logits(input, linear_weight, linear_bias, softcap=softcap)
    return cross_entropy(logits, target, axis=-1, **options)


def focal_loss(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: str = "mean",
    axis: int | None = None,
    where: ArrayLike | None = None,
) -> Float64:
    """(1 - p)**gamma (-log p) for p = softmax(input)[target]."""
    nll = _nll(input, axis)
    loss = times(_others(nll) ** gamma, nll)
    return nll_loss(
        -loss, target, weight, ignore_index=ignore_index, reduction=reduction, axis=axis, where=where
    )


def poly_loss(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    epsilon: float = 1.0,
    ignore_index: int = -100,
    reduction: str = "mean",
    axis: int | None = None,
    where: ArrayLike | None = None,
) -> Float64:
    """-log p + epsilon (1 - p) for p = softmax(input)[target]."""
    nll = _nll(input, axis)
    loss = nll + epsilon * _others(nll)
    return nll_loss(
        -loss, target, weight, ignore_index=ignore_index, reduction=reduction, axis=axis, where=where
    )


@_quiet
def slope(name: str, nll: Float64, gamma: float, epsilon: float) -> Float64:
    """The derivative by -log p of focal_loss or poly_loss."""
    p, others = np.exp(-nll), _others(nll)
    if name.startswith("poly"):
        return 1.0 + epsilon * p
    # -p log p / (1 - p) goes to 1 where p does.
    return others**gamma * (1.0 + gamma * np.where(others == 0.0, 1.0, times(p, nll) / others))


def _nll(input: ArrayLike, axis: int | None) -> Float64:
    """-log softmax of each class."""
    input = np.asarray(input)
    return -log_softmax(input, _class_axis(input, axis))


def _others(nll: Float64) -> Float64:
    """1 - p, with its digits where p is near 1."""
    return -np.expm1(-nll)


def nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    axis: int | None = None,
    where: ArrayLike | None = None,
) -> Float64:
    """-input[target]: `input` holds log-probabilities, and is not normalised."""
    input = np.asarray(input)
    axis = _class_axis(input, axis)
    return _with_indices(widen(input), np.asarray(target), weight, ignore_index, reduction, 0.0, axis, where)


def _class_axis(input: Array, axis: int | None) -> int:
    return min(1, input.ndim - 1) if axis is None else axis


@_quiet
def _with_indices(
    log_p: Float64,
    target: Array,
    weight: ArrayLike | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
    axis: int,
    where: ArrayLike | None,
) -> Float64:
    """Row n: (1 - e) w[t] (-log_p[t]) + e/C sum_c w[c] (-log_p[c]); "mean" divides by the sum of w[t]."""
    log_p = np.moveaxis(log_p, axis, -1)
    classes = log_p.shape[-1]
    rows = log_p.shape[:-1]
    w = np.ones(classes) if weight is None else widen(weight)
    # As Python integers, so that an unsigned target never wraps into ignore_index.
    target = target.reshape(rows).astype(object)
    counted = np.asarray(target != ignore_index, dtype=bool).reshape(rows)
    if where is not None:
        counted = counted & np.asarray(where).reshape(rows)
    t = np.where(counted, target, 0).astype(np.int64)
    if classes == 0:  # then no target is valid, so no row is counted
        return _reduce(np.zeros(rows), np.zeros(rows), reduction)
    picked = np.take_along_axis(log_p, t[..., np.newaxis], axis=-1)[..., 0]
    divisor = np.where(counted, w[t], 0.0)
    loss = np.where(counted, times((1.0 - label_smoothing) * w[t], -picked), 0.0)
    if not label_smoothing:
        return _reduce(loss, divisor, reduction)
    smooth = np.where(counted, times(label_smoothing / classes * w, -log_p).sum(axis=-1), 0.0)
    if reduction == "mean":
        # Two quotients, as in torch: where all of the rows counted have weight 0, the first one is nan.
        return _reduce(loss, divisor, "mean") + _reduce(smooth, divisor, "mean")
    return _reduce(loss + smooth, divisor, reduction)


@_quiet
def _with_probabilities(
    log_p: Float64,
    target: Array,
    weight: ArrayLike | None,
    reduction: str,
    label_smoothing: float,
    axis: int,
    where: ArrayLike | None,
) -> Float64:
    """Row n: sum_c w[c] ((1 - e) p[c] + e/C) (-log_p[c]); "mean" divides by the number of rows."""
    log_p = np.moveaxis(log_p, axis, -1)
    rows, classes = log_p.shape[:-1], log_p.shape[-1]
    w = np.ones(classes) if weight is None else widen(weight)
    p = np.moveaxis(widen(target), axis, -1)
    if label_smoothing and classes:
        p = p * (1.0 - label_smoothing) + label_smoothing / classes
    loss = times(w * p, -log_p).sum(axis=-1)
    counted = np.ones(rows, dtype=bool) if where is None else np.asarray(where).reshape(rows)
    return _reduce(np.where(counted, loss, 0.0), counted.astype(np.float64), reduction)


def _reduce(loss: Float64, divisor: Float64, reduction: str) -> Any:
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    return np.float64(loss.sum()) / np.float64(divisor.sum())


# ---- from a teacher ---------------------------------------------------------------------------------------


@_quiet
def kl_div_topk(
    input: ArrayLike,
    teacher_ids: ArrayLike,
    teacher_log_probs: ArrayLike,
    *,
    tail: bool = True,
    reduction: str = "batchmean",
    where: ArrayLike | None = None,
) -> Float64:
    """sum p (log p - log q) over the known classes, and that of all others together: the tail."""
    x, ids, log_p = widen(input), np.asarray(teacher_ids, dtype=np.int64), widen(teacher_log_probs)
    ids = np.clip(ids, 0, max(x.shape[-1] - 1, 0))  # of rows that do not count
    log_q = np.take_along_axis(log_softmax(x), ids, axis=-1)
    loss = times(np.exp(log_p), log_p - log_q).sum(axis=-1)
    others = x.copy()
    np.put_along_axis(others, ids, -np.inf, axis=-1)
    if tail and x.shape[-1] > ids.shape[-1]:
        p_tail = np.maximum(1.0 - np.exp(log_p).sum(axis=-1), 0.0)
        log_q_tail = logsumexp(others, -1) - logsumexp(x, -1)
        loss = loss + times(p_tail, np.log(p_tail) - log_q_tail)
    loss = np.where(np.isnan(log_softmax(x)).all(axis=-1), np.nan, loss)
    counted = np.ones(loss.shape, dtype=bool) if where is None else np.asarray(where, dtype=bool)
    loss = np.where(counted, loss, 0.0)
    if reduction == "none":
        return loss
    return np.asarray(loss.sum() / (counted.sum() if reduction == "batchmean" else 1.0))


# ---- losses of single elements --------------------------------------------------------------------------


def _times(a: Float64, b: Float64) -> Float64:
    """The product, where 0 times infinity is 0 and a nan stays."""
    return np.where((a == 0) & np.isinf(b), 0.0, a * b)


def _reduce_elements(loss: Float64, reduction: str) -> Any:
    if reduction == "none":
        return loss
    if reduction == "batchmean":
        return np.float64(loss.sum()) / np.float64(loss.shape[0])
    return loss.sum() if reduction == "sum" else np.float64(loss.sum()) / np.float64(loss.size)


@_quiet
def binary_cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    reduction: str = "mean",
    clamp: float | None = -100.0,
) -> Any:
    """-w (t max(log p, clamp) + (1 - t) max(log(1 - p), clamp))."""
    p, t, w = widen(input), widen(target), np.float64(1) if weight is None else widen(weight)
    least = -np.inf if clamp is None else clamp
    yes, no = np.maximum(np.log(p), least), np.maximum(np.log1p(-p), least)
    return _reduce_elements(_times(w, -(_times(t, yes) + _times(1 - t, no))), reduction)


@_quiet
def binary_cross_entropy_with_logits(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    pos_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Any:
    """w (q t softplus(-x) + (1 - t) softplus(x))."""
    x, t, w = widen(input), widen(target), np.float64(1) if weight is None else widen(weight)
    q = np.float64(1) if pos_weight is None else widen(pos_weight)
    loss = _times(q * t, -log_sigmoid(x)) + _times(1 - t, -log_sigmoid(-x))
    return _reduce_elements(_times(w, loss), reduction)


@_quiet
def sigmoid_focal_loss(
    input: ArrayLike,
    target: ArrayLike,
    *,
    alpha: float = 0.25,
    gamma: float = 2.0,
    reduction: str = "none",
) -> Any:
    """b miss**gamma ce: miss = (1 - t) s(x) + t s(-x), b = alpha t + (1 - alpha) (1 - t), 1 for an alpha of -1."""
    x, t = widen(input), widen(target)
    miss = (1 - t) * np.exp(log_sigmoid(x)) + t * np.exp(log_sigmoid(-x))
    ce = _times(t, -log_sigmoid(x)) + _times(1 - t, -log_sigmoid(-x))
    balance = np.ones_like(t) if alpha == -1 else alpha * t + (1 - alpha) * (1 - t)
    return _reduce_elements(_times(balance, _times(miss**gamma, ce)), reduction)


@_quiet
def sigmoid_focal_slope(x: Float64, t: Float64, alpha: float, gamma: float) -> Float64:
    """The derivative of sigmoid_focal_loss by its input."""
    s, rest = np.exp(log_sigmoid(x)), np.exp(log_sigmoid(-x))
    miss = (1 - t) * s + t * rest
    ce = _times(t, -log_sigmoid(x)) + _times(1 - t, -log_sigmoid(-x))
    balance = np.ones_like(t) if alpha == -1 else alpha * t + (1 - alpha) * (1 - t)
    share = np.where(t == 1, s, np.where(t == 0, rest, s * rest / miss))
    return balance * miss**gamma * ((1 - t) * s - t * rest + gamma * (1 - 2 * t) * _times(share, ce))


@_quiet
def kl_div(input: ArrayLike, target: ArrayLike, *, reduction: str = "mean", log_target: bool = False) -> Any:
    """t (log t - x), with the logarithm of t or t itself given."""
    x, t = np.broadcast_arrays(widen(input), widen(target))
    p, log_p = (np.exp(t), t) if log_target else (t, np.log(t))
    off = log_p - x
    loss = np.where(p == 0, np.where(np.isnan(x), np.nan, 0.0), p * off)
    if log_target:
        # The exponential of a finite t is neither 0 nor infinite, whatever a float64 makes of it.
        beyond = np.isfinite(t) & ((p < np.finfo(np.float64).tiny) | np.isinf(p))
        loss = np.where(beyond, np.where(off == 0, 0.0, np.sign(off) * np.exp(t + np.log(np.abs(off)))), loss)
    return _reduce_elements(loss, reduction)


@_quiet
def gaussian_nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    var: ArrayLike,
    *,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Any:
    """(log v + (x - t)^2 / v) / 2 (+ log(2 pi) / 2), v = max(var, eps)."""
    x, t, v = widen(input), widen(target), np.maximum(widen(var), eps)
    v = v[..., np.newaxis] if v.ndim and v.shape == x.shape[:-1] else v
    loss = (np.log(v) + (x - t) ** 2 / v) / 2 + (np.log(2 * np.pi) / 2 if full else 0.0)
    return _reduce_elements(loss, reduction)


@_quiet
def poisson_nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    *,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Any:
    """exp(x) - t x, or x - t log(x + eps) (+ t log t - t + log(2 pi t) / 2 where t > 1)."""
    x, t = np.broadcast_arrays(widen(input), widen(target))
    loss = np.exp(x) - t * x if log_input else x - t * np.log(x + eps)
    if full:
        loss = loss + np.where(t <= 1, 0.0, t * np.log(t) - t + np.log(2 * np.pi * t) / 2)
    return _reduce_elements(loss, reduction)


# ---- scores ---------------------------------------------------------------------------------------------


@_quiet
def score(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    ignore_index: int = -100,
    where: ArrayLike | None = None,
    axis: int = -1,
    top_k: int = 0,
    log_probs: bool = False,
) -> dict[str, Array]:
    """The columns of a batch; ignored rows hold 0, and -1 for a class."""
    x = np.moveaxis(np.asarray(logits), axis, -1)
    # Rows in one piece: NumPy sums others without its pairs.
    wide: Any = np.ascontiguousarray(widen(x)).reshape(x.shape)
    rows, classes = wide.shape[:-1], wide.shape[-1]
    t = np.asarray(target).reshape(rows).astype(object)
    counted = np.asarray(t != ignore_index, dtype=bool).reshape(rows)
    if where is not None:
        counted &= np.asarray(where).reshape(rows)
    t = np.where(counted, t, 0).astype(np.int64)
    m, exponentials, rest = _split(wide)
    p = exponentials / (1.0 + rest)
    gaps = times(p, np.where(p == 0, 0.0, m - wide)).sum(axis=-1)
    entropy = np.where(np.isfinite(m[..., 0]), np.log1p(rest)[..., 0] + gaps, np.nan)
    own: Float64 = np.take_along_axis(wide, t[..., np.newaxis], axis=-1)
    # Of the largest classes a nan comes before all numbers, and of equals the first. No target is found beside a nan.
    keys = np.where(np.isnan(wide), -np.inf, -wide)
    order = np.lexsort((np.broadcast_to(np.arange(classes), wide.shape), keys, ~np.isnan(wide)), axis=-1)
    top = order[..., :top_k]
    has_nan = np.isnan(wide).any(axis=-1)
    place = 1 + (order == t[..., np.newaxis]).argmax(axis=-1)
    columns = {
        "nll": -np.take_along_axis(_log_softmax_last(wide), t[..., np.newaxis], axis=-1)[..., 0],
        "logsumexp": _logsumexp_last(wide),
        "entropy": entropy,
        "prediction": order[..., 0],
        "rank": np.where(has_nan, classes, place),
        "correct": (order[..., 0] == t) & ~has_nan,
        "place": np.where(has_nan, np.inf, place),
        "confidence": np.where(np.isfinite(m), 1.0 / (1.0 + rest), np.nan)[..., 0],
        "squared_error": np.square(p - (np.arange(classes) == t[..., np.newaxis])).sum(axis=-1),
        "top_ids": top,
        "top_log_probs": np.take_along_axis(_log_softmax_last(wide), top, axis=-1),
    }
    if log_probs:
        columns["nll"] = 0.0 - own[..., 0]
    for key, column in columns.items():
        ignored = ~counted.reshape(counted.shape + (1,) * (column.ndim - counted.ndim))
        columns[key] = np.where(ignored, -1 if key in ("prediction", "top_ids") else 0, column)
    return {**columns, "counted": counted}


@_quiet
def calibration(columns: dict[str, Array], bins: int) -> tuple[list[int], float]:
    """The rows of each bin of confidence, closed on the right, and the expected calibration error."""
    counted = columns["counted"] & np.isfinite(columns["confidence"])
    confidence, correct = columns["confidence"][counted], columns["correct"][counted]
    at = np.searchsorted(np.arange(1, bins + 1) / bins, confidence, side="left")
    gaps = [abs(confidence[at == i].sum() - correct[at == i].sum()) for i in range(bins)]
    return [int((at == i).sum()) for i in range(bins)], float(np.sum(gaps) / max(counted.sum(), 1))


# ---- comparison of two models ---------------------------------------------------------------------------


@_quiet
def divergences(logits: ArrayLike, other: ArrayLike) -> tuple[Float64, Float64, Float64]:
    """KL(P || Q), KL(Q || P) and Jensen-Shannon of the softmaxes along the last axis, in nats."""
    log_p, log_q = log_softmax(logits), log_softmax(other)
    p, q = np.exp(log_p), np.exp(log_q)
    log_m = np.log((p + q) / 2)

    def kl(a: Float64, log_a: Float64, log_b: Float64) -> Float64:
        return np.where(a == 0, np.where(np.isnan(log_b), np.nan, 0.0), a * (log_a - log_b)).sum(axis=-1)

    return kl(p, log_p, log_q), kl(q, log_q, log_p), (kl(p, log_p, log_m) + kl(q, log_q, log_m)) / 2


def percentile(values: ArrayLike, share: float) -> float:
    """llama.cpp's: linear between the neighbours of position share (n - 1)."""
    ordered = np.sort(widen(values))
    position = share * (len(ordered) - 1)
    i = int(position)
    part = position - i
    return float((1 - part) * ordered[i] + part * ordered[min(i + 1, len(ordered) - 1)])
