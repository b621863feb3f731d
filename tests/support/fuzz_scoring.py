"""Thousands of generated calls of the scores and comparisons, good and bad; or by hand, with the options of fuzz.py:

    python tests/support/fuzz_scoring.py --seed 0 --count 100000

The draws, the spoiling and the worker process are those of fuzz.py. What is judged here: a good call agrees with its
definition; a spoiled one gives a result or a clear error; a scorer whose update raised is as it was.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import pickle
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import crossent
import fuzz
import reference
from arrays import DTYPES, INTEGERS, Array
from crossent._scoring import metrics
from fuzz import Call, Draw, Wrong

NAMES = ("score", "by_sequence", "compare", "fit_temperature", "log_loss", "Scorer", "Comparer")
METHODS = {"Scorer": ("update", "merge", "from_json"), "Comparer": ("update", "merge", "from_json")}


def parameters(name: str) -> tuple[str, ...]:
    """The names of all parameters, of a class those of its methods too."""
    public = crossent.Scores.by_sequence if name == "by_sequence" else getattr(crossent, name)
    called = [public, *(getattr(public, method) for method in METHODS.get(name, ()))]
    return tuple(dict.fromkeys(k for c in called for k in inspect.signature(c).parameters if k != "self"))


# ---- calls that must succeed ----------------------------------------------------------------------------


def good_rows(d: Draw) -> dict[str, Any]:
    """Logits and their targets, and how to read them."""
    shape = list(fuzz._shape(d, 1))
    at = len(shape) - 1 if d.chance(0.5) else d.upto(len(shape))
    shape[at] = max(shape[at], 1)
    x = (d.numbers.standard_normal(shape) * d.one((1, 5, 30))).astype(d.one(DTYPES))
    if x.size and d.chance(0.1):
        x.reshape(-1)[d.upto(x.size)] = d.one((np.nan, np.inf, -np.inf))
    rows = shape[:at] + shape[at + 1 :]
    dtype = d.one(INTEGERS)
    most = min(shape[at], int(np.iinfo(dtype).max))
    target = np.asarray(d.numbers.integers(0, most, rows)).astype(dtype)
    a: dict[str, Any] = {"logits": x, "target": target}
    if d.chance(0.4):
        a["ignore_index"] = index = d.one([0, -1, 3, 2**40, int(target.max(initial=0))])
        if np.iinfo(dtype).min <= index <= np.iinfo(dtype).max:
            a["target"] = np.where(d.numbers.random(rows) < 0.2, index, target).astype(dtype)
    if d.chance(0.3):
        a["where"] = np.asarray(d.numbers.random(rows) < 0.7)
    if at != len(shape) - 1 or d.chance(0.3):
        a["axis"] = at - d.one((0, len(shape)))
    if at and d.chance(0.3):
        a["shift"] = d.one((0, 1, 1, 2, 100))
    return a


def good_score(d: Draw) -> dict[str, Any]:
    a = good_rows(d)
    if d.chance(0.4):
        a["top_k"] = d.upto(a["logits"].shape[a.get("axis", -1)] + 1)
    return with_values(d, a)


def with_values(d: Draw, a: dict[str, Any]) -> dict[str, Any]:
    """The same rows, said to be something else: probabilities are made to be such."""
    kind = d.one(("", "", "", "logits", "log_probs", "probs"))
    if kind == "probs":
        for key in {"logits", "other_logits"} & set(a):
            x, axis = a[key], a.get("axis", -1)
            p = reference.softmax(np.where(np.isfinite(x), x.astype(np.float64), 0.0), axis=axis)
            a[key] = p.astype(x.dtype)
    return a | ({"values": kind} if kind else {})


def good_sequences(d: Draw) -> dict[str, Any]:
    """Scores, and one way to cut them into sequences."""
    a = good_rows(d)
    rows = a["target"].shape
    a.pop("shift", None)
    kind = d.upto(4)
    if kind == 1:
        a["segment_ids"] = np.asarray(d.numbers.integers(0, 5, rows)).astype(d.one(INTEGERS))
    elif len(rows) == 1 and kind > 1:
        cuts = np.sort(d.numbers.integers(0, rows[0] + 1, d.upto(5)))
        offsets = np.concatenate(([0], cuts, [rows[0]]))
        whole = offsets.astype(d.one(("i8", "u8", "i4")))
        a.update({"cu_seqlens": whole} if kind == 2 else {"lengths": np.diff(whole)})
    elif len(rows) > 1 and kind == 2:
        a["lengths"] = np.asarray(d.numbers.integers(0, rows[-1] + 1, rows[:-1])).astype("i8")
    return a


def good_compare(d: Draw) -> dict[str, Any]:
    a = good_rows(d)
    noise = np.asarray(d.numbers.standard_normal(a["logits"].shape))
    with np.errstate(all="ignore"):
        a["other_logits"] = (a["logits"].astype("f8") + noise).astype(d.one(DTYPES))
    if d.chance(0.3):
        del a["target"]
        a.pop("ignore_index", None)
    return with_values(d, a)


def good_temperature(d: Draw) -> dict[str, Any]:
    a = good_rows(d)
    a.pop("shift", None)
    a["logits"] = np.where(np.isfinite(a["logits"]), a["logits"], np.zeros((), a["logits"].dtype))
    if d.chance(0.3):
        shape = a["target"].shape
        weight = d.numbers.integers(0, 4, shape) if d.chance(0.5) else d.numbers.exponential(size=shape)
        a["sample_weight"] = np.asarray(weight).astype(d.one(("i8", "u1", "f4", "f8")))
    return with_values(d, a)


def good_log_loss(d: Draw) -> dict[str, Any]:
    """Probabilities, one or more columns, and labels of a kind that can be sorted."""
    n, c = 1 + d.upto(60), d.one((2, 2, 3, 5, 20))
    p = d.numbers.random((n, c)) + 1e-3
    p = (p / p.sum(axis=1, keepdims=True)).astype(d.one(DTYPES))
    names = d.one((np.arange(c) - 1, np.arange(c) * 0.5, np.array([f"label {i:02}" for i in range(c)])))
    names = names.astype(d.one(INTEGERS[:4])) if names.dtype.kind == "i" else names
    a: dict[str, Any] = {"y_true": names[d.numbers.integers(0, c, n)], "y_proba": p}
    if len(set(a["y_true"].tolist())) < c or d.chance(0.3):
        a["labels"] = names
    if c == 2 and d.chance(0.3):
        a["y_proba"] = p[:, 1].copy()
    if d.chance(0.3):
        a["sample_weight"] = (d.numbers.random(n) + 0.1).astype(d.one(("f4", "f8")))
    if d.chance(0.3):
        a["normalize"] = d.chance(0.5)
    if d.chance(0.3):
        a["eps"] = d.one(("auto", 0, 0.0, 1e-3, 0.25))
    return a


def good_scorer(d: Draw) -> dict[str, Any]:
    a = good_rows(d)
    if d.chance(0.4):
        a["top_k"] = d.one(((), (1,), (3, 1), [2, 1000], (1, 5), range(1, 4)))
    if d.chance(0.4):
        a["bins"] = d.one((0, 1, 2, 15, 100))
    if d.chance(0.4):
        own = np.asarray(d.numbers.integers(0, 9, a["target"].shape))
        a["units"] = d.one((own.astype(d.one(INTEGERS)), own * 0.5, 3, 2.5))
    a = with_values(d, a)
    if d.chance(0.3):
        a["by_position"] = True
        rows = a["target"].shape
        if len(rows) < 2 or d.chance(0.4):
            a["positions"] = np.asarray(d.numbers.integers(0, 99, d.one((rows, rows[-1:])))).astype(
                d.one(INTEGERS)
            )
    return a


GOOD: dict[str, Callable[[Draw], dict[str, Any]]] = {
    "score": good_score,
    "by_sequence": good_sequences,
    "compare": good_compare,
    "fit_temperature": good_temperature,
    "log_loss": good_log_loss,
    "Scorer": good_scorer,
    "Comparer": good_compare,
}


# ---- arguments that are wrong ---------------------------------------------------------------------------


def bad_text(d: Draw, call: Call, key: str) -> Any:
    """The text of a scorer, damaged."""
    tally = getattr(crossent, call.name)()
    x = np.array([[1.0, 2.0], [0.0, np.inf]])
    tally.update(x, *([x] if call.name == "Comparer" else []), [0, 1])
    text = tally.to_json()
    kind = d.upto(5)
    if kind == 0:
        return text[: d.upto(len(text))]
    if kind == 1:
        at = d.upto(len(text))
        return text[:at] + d.one('0123456789-"[]{},x.e\ud800') + text[at + 1 :]
    if kind == 2:
        return d.one(
            (b"\xff", "[" * 10**5, '{"a":' * 10**5, "1" * 5000, "[]", "null", text.encode("utf-16"), "")
        )
    state = json.loads(text)
    at = d.one(list(state))
    values: tuple[Any, ...] = (
        None, -1, 0, 1, 3, 10**400, 2**63, 1.5, math.nan, True, "", "0x1", [], [[]], [0], {}, {"a": 1}, [[1, 2]],
        "AAAA", ["0x1", 0, 0, 0], [["0x1", 0, 0, 0]] * 4, [[1, 9, ["0x0", 0, 0, 0]]], [2**63], "\ud800",
    )  # fmt: skip
    state[at] = d.one(values)
    if d.chance(0.2):
        del state[d.one(list(state))]
    return json.dumps(state)


def bad_other(d: Draw, call: Call, key: str) -> Any:
    """What a scorer is merged with: nearly one."""
    others = (
        crossent.Comparer(),
        crossent.Scorer(bins=3),
        crossent.Scorer(top_k=()),
        crossent.Scorer(ignore_index=7),
        crossent.Scorer(by_position=True),
    )
    return d.one(others) if d.chance(0.6) else fuzz.absurd(d)


def bad_batches(d: Draw, call: Call, key: str) -> Any:
    """Logits, or with no target batches of them, some of which are none."""
    x, t = call.plain["logits"], call.plain["target"]
    if d.chance(0.6):
        return fuzz.bad_array(d, call, key)
    call.arguments["target"] = None
    one = (fuzz.bad_array(d, call, "logits"), t) if d.chance(0.5) else fuzz.absurd(d)
    return d.one(([(x, t), one], ((x, t), [x, t]), [(x, t, t)], [x], iter([(x, t)]), {(1, 2): 3}, [], one))


TOP_KS = fuzz._pool(
    (),
    (0,),
    (1, 1),
    (1, -1),
    (2**63,),
    (2**62, 1),
    [1.0],
    "12",
    5,
    {1, 2},
    range(5),
    np.array([1, 3]),
    (True,),
)
VALUES = fuzz._pool(
    "logits", "log_probs", "probs", "log-probs", "prob", "", b"probs", None, 1, ("probs",), True
)
PARAMETERS: dict[str, Callable[[Draw, Call, str], Any]] = {
    **dict.fromkeys(("logits", "other_logits", "target", "where", "units", "lengths", "cu_seqlens", "segment_ids",
                     "positions"), fuzz.bad_array),
    **dict.fromkeys(("y_true", "y_proba", "labels", "sample_weight"), fuzz.bad_array),
    **dict.fromkeys(("ignore_index", "axis", "shift", "top_k", "bins"), fuzz.INTS),
    **dict.fromkeys(("normalize", "log_probs", "by_position"), fuzz.BOOLS),
    "eps": fuzz.FLOATS,
    "values": VALUES,
    "text": bad_text,
    "other": bad_other,
}  # fmt: skip
# Sums of these leave int64, and come back into it.
WRAPPING = ([2**62] * 4, [2**63 - 1, 1], [2**63 - 1, -(2**63), 1], [2**64 - 1, 1], [0, 2**64 - 1, 2], [-1, 1])


def spoilt(d: Draw, call: Call, key: str) -> Any:
    if key == "logits" and call.name == "fit_temperature":
        return bad_batches(d, call, key)
    if key == "top_k" and call.name == "Scorer":
        return TOP_KS(d, call, key)
    if key in ("lengths", "cu_seqlens", "segment_ids") and d.chance(0.3):
        n = call.plain["target"].size
        return d.one([[*WRAPPING[0], n], [0, 2**62, 2**63, 3 * 2**62, n], *WRAPPING])
    return PARAMETERS[key](d, call, key)


def case(number: int) -> Call:
    """The call with this number."""
    d = Draw(number)
    name = d.one(NAMES)
    call = Call(number, name, {}, plain=GOOD[name](d))
    for key, value in call.plain.items():
        call.arguments[key] = fuzz.dressed(d, value) if isinstance(value, np.ndarray) else value
        if key == "y_proba" and type(call.arguments[key]) in (list, tuple):
            call.arguments[key] = value  # as float64 a half's rows do not sum to 1
    call.threads = d.one((1, 3))
    if d.chance(2 / 3):
        allowed = parameters(name)
        if name == "by_sequence":
            allowed = (*allowed, "segment_ids", "lengths", "target")
        for key in dict.fromkeys(d.random.sample(allowed, d.one((1, 1, 2)))):
            call.arguments[key] = spoilt(d, call, key)
            call.spoiled.append(key)
    return call


# ---- judgement ------------------------------------------------------------------------------------------


class Judge(fuzz.Judge):
    """Makes calls, and says which are wrong."""

    def judge(self, call: Call) -> None:
        nested = [v for v in call.arguments.values() if type(v) in (list, tuple)]
        inner = tuple(x for v in nested for pair in v[:20] if type(pair) in (list, tuple) for x in pair[:3])
        watch = fuzz.Watch(dataclasses.replace(call, extra=inner))
        crossent.set_num_threads(call.threads)
        started = time.process_time()  # others may have the processor
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error" if not call.spoiled else "ignore")
                warnings.simplefilter("ignore", PendingDeprecationWarning)  # of matrices
                # Numbers of any kind are said to be log-probabilities.
                warnings.simplefilter("ignore", crossent.LikelyMistakeWarning)
                result = MAKE[call.name](dict(call.arguments))
        except Wrong:
            raise
        except BaseException as error:  # noqa: BLE001
            result = None
            self._judge_error(call, error)
            self.raised += 1
        else:
            self.returned += 1
        finally:
            crossent.set_num_threads(1)
        watch.check([], raised=result is None)
        if not call.huge and (took := time.process_time() - started) > fuzz.SLOW_SECONDS:
            raise Wrong(f"the call took {took:.1f} s")
        if result is not None:
            repr(result)
            if not call.spoiled and all(
                v.ndim < 30 for v in call.plain.values() if isinstance(v, np.ndarray)
            ):
                CHECK[call.name](call.plain, result)
                self.compared += 1

    def _judge_error(self, call: Call, error: BaseException) -> None:
        kind, text = type(error), str(error)
        self.kinds[kind.__name__] = self.kinds.get(kind.__name__, 0) + 1
        problem = f"{kind.__module__}.{kind.__qualname__}: {text[:300]}"
        if isinstance(error, fuzz.OwnError | fuzz.OwnExit) or text == "own" or fuzz._own(error):
            return
        if not call.spoiled:
            # Not every drawn set of rows has a best temperature.
            reasons: tuple[str, ...] = ("no temperature", "no row is counted")
            reasons += ("a row has no finite likelihood",) if call.plain.get("values") == "probs" else ()
            if call.name == "fit_temperature" and text.startswith(reasons):
                return
            raise Wrong(f"good arguments raised {problem}") from error
        if isinstance(error, MemoryError) and call.huge:
            return
        if not isinstance(error, fuzz.ALLOWED) or kind.__module__ != "builtins":
            raise Wrong(f"a class of error that says nothing: {problem}") from error
        if not text.strip() or any(words in text for words in fuzz.UNCLEAR):
            raise Wrong(f"an error that is not clear: {problem}") from error


def _take(a: dict[str, Any], function: Callable[..., Any]) -> dict[str, Any]:
    """The arguments of one function out of those of all."""
    return {key: a[key] for key in inspect.signature(function).parameters if key in a}


def _make_sequences(a: dict[str, Any]) -> Any:
    return crossent.score(**_take(a, crossent.score)).by_sequence(**_take(a, crossent.Scores.by_sequence))


def _make_tally(public: Any, a: dict[str, Any]) -> Any:
    """A tally of a good batch and this one, which comes back from text, and is merged with its equal."""
    tally = public(**_take(a, public))
    x = np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0]])
    pair = (x, x[::-1]) if public is crossent.Comparer else (x,)
    if a.get("target") is not None or public is crossent.Scorer:
        pair = (*pair, np.array([0, 1]))
    filled = public(**_take(a, public))
    more: dict[str, Any] = {"units": 1} if a.get("units") is not None else {}
    more |= {"positions": [0, 1]} if a.get("by_position") else {}
    filled.update(*pair, values="logits", **more)
    actions = [
        (tally, tally.update, _take(a, tally.update)),
        (filled, filled.update, _take(a, filled.update)),
    ]
    if "other" in a:
        actions.insert(0, (filled, filled.merge, {"other": a["other"]}))
    for one, action, arguments in actions:
        before = one.to_json()
        try:
            action(**arguments)
        except BaseException:
            if one.to_json() != before:
                raise Wrong(f"{action.__name__} raised, and has changed the tally") from None
            raise
    if "text" in a:
        again = public.from_json(a["text"])
        again.to_json(), repr(again.result())
    text = tally.to_json()
    both = public.from_json(text).merge(pickle.loads(pickle.dumps(tally)))
    if public.from_json(text).to_json() != text or both.result().count != 2 * tally.result().count:
        raise Wrong("a copy is another")
    both.result().to_dict(), repr(tally)
    if filled.result().count != tally.result().count + public_count(public, pair, a, more):
        raise Wrong("two updates do not add up")
    return tally.result()


def public_count(public: Any, pair: tuple[Any, ...], a: dict[str, Any], more: dict[str, Any]) -> int:
    """The rows of the first batch that count."""
    one = public(**_take(a, public))
    one.update(*pair, values="logits", **more)
    return int(one.result().count)


MAKE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "score": lambda a: crossent.score(**a),
    "by_sequence": _make_sequences,
    "compare": lambda a: crossent.compare(**a),
    "fit_temperature": lambda a: crossent.fit_temperature(**a),
    "log_loss": lambda a: crossent.log_loss(**a),
    "Scorer": lambda a: _make_tally(crossent.Scorer, a),
    "Comparer": lambda a: _make_tally(crossent.Comparer, a),
}


# ---- definitions ----------------------------------------------------------------------------------------


def near(name: str, got: Any, right: Any, tolerance: float = 1e-5) -> None:
    got, right = np.asarray(got, np.float64), np.asarray(right, np.float64)
    if got.shape != right.shape:
        raise Wrong(f"{name} has shape {got.shape}, expected {right.shape}")
    scale = np.abs(right).max(initial=1.0, where=np.isfinite(right))
    if not np.allclose(got, right, rtol=tolerance, atol=tolerance * scale, equal_nan=True):
        raise Wrong(f"{name} is {got!r}, expected {right!r}"[:600])


def shifted(a: dict[str, Any]) -> dict[str, Any]:
    """The same arguments with the classes last, and the positions shifted."""
    a = dict(a)
    axis, shift = a.pop("axis", -1), a.pop("shift", 0)
    at = axis % a["logits"].ndim
    for key in ("target", "where", "units"):
        if shift and np.ndim(a.get(key)):
            a[key] = a[key][(slice(None),) * (at - 1) + (slice(shift, None),)]
    for key in ("logits", "other_logits"):
        if key in a:
            x = a[key]
            kept = (slice(None),) * (at - 1) + (slice(0, max(x.shape[at - 1] - shift, 0)),) if shift else ()
            a[key] = np.moveaxis(x[kept], at, -1)
    return a


def columns_of(a: dict[str, Any]) -> dict[str, Array]:
    allowed = ("logits", "target", "ignore_index", "where", "top_k")
    a = as_logs(a)
    log_probs = a.get("values", "logits") != "logits"
    return reference.score(**{key: a[key] for key in allowed if key in a}, log_probs=log_probs)


def as_logs(a: dict[str, Any]) -> dict[str, Any]:
    """The same arguments with the logarithms of probabilities."""
    if a.get("values") != "probs":
        return a
    with np.errstate(divide="ignore"):
        logs = {key: np.log(reference.widen(a[key])) for key in {"logits", "other_logits"} & set(a)}
    return {**a, **logs, "values": "log_probs"}


def check_score(a: dict[str, Any], scores: Any) -> None:
    right = columns_of(shifted(a))
    counted = right["counted"]
    near("counted", scores.counted, counted)
    near("nll", scores.nll, right["nll"])
    near("correct", scores.correct, right["correct"] & counted)
    for key in (
        "logsumexp",
        "entropy",
        "prediction",
        "rank",
        *(("top_ids", "top_log_probs") if a.get("top_k") else ()),
    ):
        near(key, getattr(scores, key)[counted], right[key][counted])
    if scores.count != counted.sum():
        raise Wrong(f"the count is {scores.count}, expected {counted.sum()}")
    near("the mean", scores.mean, right["nll"].sum() / counted.sum() if counted.any() else np.nan)


def check_sequences(a: dict[str, Any], sequences: Any) -> None:
    right = columns_of(shifted(a))
    rows = right["nll"].shape
    ids: Array = np.zeros(rows, int)
    names: Array | None = None
    shape: tuple[int, ...] = rows[:-1]
    if "segment_ids" in a:
        names, ids = np.unique(a["segment_ids"], return_inverse=True)
        shape = names.shape
    elif "cu_seqlens" in a or ("lengths" in a and len(rows) == 1):
        lengths = a["lengths"] if "lengths" in a else np.diff(a["cu_seqlens"])
        ids, shape = np.repeat(np.arange(lengths.size), lengths.astype(int)), lengths.shape
    elif rows:
        ids = np.broadcast_to(np.arange(math.prod(shape)).reshape(*shape, 1), rows)
        ids = np.where(np.arange(rows[-1]) < a["lengths"][..., None], ids, -1) if "lengths" in a else ids
    flat, n = np.reshape(ids, -1), math.prod(shape)
    members = [flat == i for i in range(n)]
    sums = [right["nll"].reshape(-1)[m].sum() for m in members]
    counts = [right["counted"].reshape(-1)[m].sum() for m in members]
    hits = [(right["correct"] & right["counted"]).reshape(-1)[m].sum() for m in members]
    near("log_likelihood", sequences.log_likelihood, -np.reshape(sums, shape))
    near("the counts", sequences.count, np.reshape(counts, shape))
    near("is_greedy", sequences.is_greedy, np.reshape(np.equal(hits, counts), shape))
    near("ids", sequences.ids, np.reshape(np.arange(n) if names is None else names, shape))


def check_compare(a: dict[str, Any], comparison: Any) -> None:
    b = {**as_logs(shifted(a)), "values": "logits"}
    with np.errstate(all="ignore"):
        x, y = (np.ascontiguousarray(reference.widen(b[key])) for key in ("logits", "other_logits"))
        b.setdefault("target", np.zeros(x.shape[:-1], int))
        other = columns_of({**b, "logits": y})
        right = columns_of(b)
        counted = right["counted"]
        kl, reverse, shannon = (v[counted] for v in reference.divergences(x, y))
        has_nan = np.isnan(x).any(axis=-1) | np.isnan(y).any(axis=-1)
        same = ((right["prediction"] == other["prediction"]) & ~has_nan)[counted]
        n = int(counted.sum())
        if (comparison.count, comparison.ignored) != (n, counted.size - n):
            raise Wrong(f"the count is {comparison.count}, expected {n}")
        if not n:
            return
        # A probability that is none in float64 makes a divergence infinite by the definition alone.
        if np.isfinite(kl).all() and np.isfinite(reverse).all():
            near("kl_mean", comparison.kl_mean, kl.mean())
            near("kl_max", comparison.kl_max, kl.max())
            near("the median", comparison.kl_percentiles[50], reference.percentile(kl, 0.5))
            near("reverse_kl_mean", comparison.reverse_kl_mean, reverse.mean())
            near("jensen_shannon_mean", comparison.jensen_shannon_mean, shannon.mean())
        near("same_top", comparison.same_top, same.mean())
        if "target" in a:
            near("nll_mean", comparison.nll_mean, right["nll"].sum() / n)
            near("other_nll_mean", comparison.other_nll_mean, other["nll"].sum() / n)


def check_temperature(a: dict[str, Any], found: Any) -> None:
    b = {**as_logs(shifted(a)), "values": "logits"}
    given = b.pop("sample_weight", None)
    right = columns_of(b)
    w = right["counted"] * (1.0 if given is None else reference.widen(given))
    near("the count", found.count, int((w > 0).sum()))
    near("nll_before", found.nll_before, (w * right["nll"]).sum() / w.sum())
    after = columns_of({**b, "logits": reference.widen(b["logits"]) / found.temperature})
    near("nll_after", found.nll_after, (w * after["nll"]).sum() / w.sum())
    if not found.nll_after <= found.nll_before:
        raise Wrong(f"the temperature makes it worse: {found}")


def check_log_loss(a: dict[str, Any], loss: Any) -> None:
    p = reference.widen(a["y_proba"])
    p = np.stack([1 - p, p], axis=1) if p.ndim == 1 else p
    eps = a.get("eps", "auto")
    least = metrics._EPS[a["y_proba"].dtype.name] if eps == "auto" else eps
    _, codes = np.unique(
        a["y_true"] if "labels" not in a else [*a["labels"], *a["y_true"]], return_inverse=True
    )
    each = -np.log(np.clip(p, least, 1 - least))[np.arange(len(p)), codes[-len(p) :]]
    w = reference.widen(a.get("sample_weight", np.ones(len(p))))
    near("the loss", loss, (each * w).sum() / (w.sum() if a.get("normalize", True) else 1))


def check_scorer(a: dict[str, Any], report: Any) -> None:
    b = shifted(a)
    right = columns_of({key: value for key, value in b.items() if key != "top_k"})
    counted = right["counted"]
    n = int(counted.sum())
    if (report.count, report.ignored) != (n, counted.size - n):
        raise Wrong(f"the count is {report.count}, expected {n}")
    near("nll_sum", report.nll_sum, right["nll"].sum())
    if not n:
        return
    with np.errstate(all="ignore"):
        near("accuracy", report.accuracy, right["correct"][counted].mean())
        near("mean_entropy", report.mean_entropy, right["entropy"][counted].mean())
        near("mean_reciprocal_rank", report.mean_reciprocal_rank, (1 / right["rank"][counted]).mean())
        near("brier_score", report.brier_score, right["squared_error"][counted].mean())
        near("the non-finite", report.nonfinite, (~np.isfinite(right["nll"][counted])).sum())
    for k, share in report.top_k_accuracy.items():
        near(f"top-{k}", share, (right["place"][counted] <= k).mean())
    if "units" in b:
        units = np.asarray(b["units"], np.float64)
        near("units", report.units, units[counted].sum() if units.ndim else units)
    nll = right["nll"][counted]
    histogram = report.loss_histogram
    edge = 32 * nll[np.abs(nll) < 33] % 1
    if not (
        a.get("values", "logits") != "logits" or (np.minimum(edge, 1 - edge) < 1e-3).any()
    ):  # rounding may cross an edge
        finite = np.clip(nll[np.isfinite(nll)], 0, 32)
        counts = np.bincount((32 * finite).astype(np.int64), minlength=32 * 32 + 1)
        if (*histogram.counts, histogram.above) != (*np.trim_zeros(counts[:-1], "b"), counts[-1]):
            raise Wrong(f"the histogram is {histogram}, expected {counts}")
    if histogram.total != n:
        raise Wrong(f"the histogram has {histogram.total} rows, expected {n}")
    if a.get("by_position") and sum(group.count for group in report.position_groups) != n:
        raise Wrong(f"the positions have other rows: {report.position_groups}, expected {n}")


CHECK: dict[str, Callable[[dict[str, Any], Any], None]] = {
    "score": check_score,
    "by_sequence": check_sequences,
    "compare": check_compare,
    "fit_temperature": check_temperature,
    "log_loss": check_log_loss,
    "Scorer": check_scorer,
    "Comparer": check_compare,
}


def main() -> int:
    """Fuzz.py's own, with these calls."""
    fuzz.case, fuzz.Judge, fuzz.WORKER = case, Judge, __file__  # type: ignore[assignment,misc]
    fuzz.again = lambda number: f"python tests/support/fuzz_scoring.py --seed {number} --count 1"
    return fuzz.main()


if __name__ == "__main__":
    sys.exit(main())
