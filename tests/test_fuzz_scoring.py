"""Generated calls of the scoring functions: good ones agree with their definition, spoiled ones end in a clean error.

In a process of its own, so that a crash or a hang is seen: `python tests/test_fuzz_scoring.py FIRST COUNT` makes cases
by their numbers.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import crossent
import reference

CASES = 12000
NAMES = ("score", "compare", "fit_temperature", "log_loss", "Scorer", "Comparer")
ALLOWED = (TypeError, ValueError, IndexError, OverflowError, BufferError, MemoryError)
FLOATS = (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)
INTEGERS = (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64)
RTOL = {2: 2e-2, 4: 2e-5, 8: 1e-10}

ABSURD: tuple[Any, ...] = (
    None, "a", b"\0", object(), {}, [], [[]], [[1, 2], [3]], 2**70, -(2**63), 1.5, np.nan, np.inf, True, (), (1, 0),
    {0: 1},
    np.array(1.0), np.zeros(0), np.zeros((0, 3)), np.zeros((3, 0)), np.zeros((2, 2), complex), np.array(["x"]),
    np.array([None, 1]), np.ma.masked_array([1.0, 2.0], [True, False]), np.zeros(2, "M8[s]"), np.zeros(3, "V2"),
    np.broadcast_to(np.float32(0), (1 << 40, 1 << 20)), np.float32, print, iter([]), range(3),
)  # fmt: skip


def _layout(rng: np.random.Generator, x: Any) -> Any:
    kind = rng.integers(6)
    if kind == 1:
        return np.asfortranarray(x)
    if kind == 2:
        return x[::-1].copy()[::-1]
    if kind == 3 and x.dtype.isbuiltin:
        return x.astype(x.dtype.newbyteorder())
    if kind == 4:
        wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    if kind == 5 and x.size:
        raw = np.zeros(x.nbytes + 1, np.uint8)[1:]
        raw[:] = np.frombuffer(x.tobytes(), np.uint8)
        return raw.view(x.dtype).reshape(x.shape)
    return x


def _good(name: str, rng: np.random.Generator) -> dict[str, Any]:
    rows = tuple(rng.integers(1, 7, rng.integers(1, 3)).tolist())
    classes = int(rng.choice([2, 3, 10, 64, 65, 130]))
    x = (3 * rng.standard_normal((*rows, classes))).astype(FLOATS[rng.integers(4)])
    target = rng.integers(0, classes, rows).astype(INTEGERS[rng.integers(8)] if classes < 100 else np.int64)
    if name == "log_loss":
        p = rng.dirichlet(np.ones(classes), 9)
        y = np.concatenate([np.arange(classes), rng.integers(0, classes, 5)])
        p = np.concatenate([rng.dirichlet(np.ones(classes), classes), p[:5]])
        return {"y_true": y, "y_proba": _layout(rng, p), "normalize": bool(rng.integers(2))}
    arguments: dict[str, Any] = {"logits": _layout(rng, x), "target": _layout(rng, target)}
    if name in ("compare", "Comparer"):
        arguments["other_logits"] = (x.astype(float) + rng.standard_normal(x.shape)).astype(x.dtype)
    if rng.integers(2) and target.dtype.kind == "i":
        arguments["ignore_index"] = -1 if rng.integers(2) else int(target.flat[0])
    if rng.integers(3) == 0:
        arguments["where"] = rng.random(rows) < 0.7
    if name == "score":
        arguments |= {
            "top_k": int(rng.integers(0, min(classes, 5))),
            "axis": x.ndim - 1 if rng.integers(2) else -1,
        }
        if rng.integers(3) == 0 and rows[-1] > 1:
            arguments["shift"] = 1
            arguments.pop("where", None)
    if name == "Scorer":
        arguments |= {"units": float(rng.integers(1, 50)), "bins": int(rng.integers(1, 20)), "top_k": (1, 2)}
    return arguments


def _spoil(arguments: dict[str, Any], rng: np.random.Generator, keys: list[str]) -> None:
    for key in rng.choice(keys, rng.integers(1, 3)):
        value = arguments.get(key)
        if rng.integers(3) or not isinstance(value, np.ndarray) or value.size > 1 << 20:
            arguments[key] = ABSURD[rng.integers(len(ABSURD))]
        elif rng.integers(2) and value.ndim:
            arguments[key] = value[..., : rng.integers(0, value.shape[-1] + 1)]
        elif value.dtype.kind in "iu":
            arguments[key] = value.astype(np.int64) + rng.choice([-(2**62), -1, 1, 300, 2**40])
        elif value.dtype in FLOATS:
            odd = value.astype(np.float64)
            odd[rng.random(value.shape) < 0.3] = rng.choice([np.nan, np.inf, -np.inf])
            arguments[key] = odd


def _call(name: str, arguments: dict[str, Any]) -> Any:
    if name not in ("Scorer", "Comparer"):
        return getattr(crossent, name)(**arguments)
    options = {key: arguments.pop(key) for key in ("ignore_index", "bins", "top_k") if key in arguments}
    tally = getattr(crossent, name)(**options)
    before = tally.to_json()
    try:
        tally.update(**arguments)
    except BaseException:
        assert tally.to_json() == before, "an update that raised has changed the sums"
        raise
    other = type(tally).from_json(tally.to_json())
    assert other.to_json() == tally.to_json()
    tally.merge(other)
    return tally.result()


def _judge(name: str, arguments: dict[str, Any], spoiled: bool) -> None:
    plain = {
        key: value
        for key, value in arguments.items()
        if isinstance(value, np.ndarray) and value.size < 1 << 20
    }
    copies = {key: value.tobytes() for key, value in plain.items() if not value.dtype.hasobject}
    refusal = None
    try:
        result = _call(name, dict(arguments))
    except ALLOWED as error:
        refusal = error
    assert all(plain[key].tobytes() == was for key, was in copies.items()), "an argument was changed"
    if refusal is not None:
        assert str(refusal), "an error without text"
        # Of good calls, those without a row that counts have no temperature, and some labels are missing.
        assert spoiled or name in ("fit_temperature", "log_loss"), f"refused: {refusal!r}"
        return
    if spoiled or name != "score":
        return
    x, target = np.asarray(arguments["logits"]).astype(np.float64), np.asarray(arguments["target"])
    counted = np.asarray(arguments.get("where", np.ones(target.shape, bool)))
    counted = counted & (target.astype(object) != arguments.get("ignore_index", -100))
    if arguments.get("shift"):
        x, target, counted = x[..., :-1, :], target[..., 1:], counted[..., 1:]
    rtol = RTOL[np.asarray(arguments["logits"]).dtype.itemsize]
    expected = reference.cross_entropy(
        np.moveaxis(x, -1, 0), target.astype(np.int64), axis=0, reduction="none"
    )
    assert (result.counted == counted).all()
    np.testing.assert_allclose(result.nll[counted], expected[counted], rtol=rtol, atol=1e-6)
    assert (result.prediction[counted] == x.argmax(-1)[counted]).all()
    chosen = np.take_along_axis(x, target.astype(np.int64)[..., None], -1)
    assert (result.rank[counted] == 1 + (x > chosen).sum(-1)[counted]).all()


def _parameters(name: str) -> list[str]:
    function: Any = getattr(crossent, name)
    keys = list(inspect.signature(function).parameters)
    update = getattr(function, "update", None)
    if update is not None:
        keys += [key for key in inspect.signature(update).parameters if key != "self"]
    return keys


def work(first: int, count: int) -> Counter[tuple[str, str]]:
    """Make the cases, and count how often each parameter was spoiled."""
    spoiled_keys: Counter[tuple[str, str]] = Counter()
    warnings.simplefilter("ignore")
    for case in range(first, first + count):
        rng = np.random.default_rng(case)
        name = NAMES[case % len(NAMES)]
        arguments = _good(name, rng)
        spoiled = bool(rng.integers(3))
        if spoiled:
            before = dict(arguments)
            _spoil(arguments, rng, _parameters(name))
            spoiled_keys.update((name, key) for key in arguments if arguments[key] is not before.get(key))
        print(case, flush=True)
        _judge(name, arguments, spoiled)
    return spoiled_keys


def test_no_call_does_what_it_must_not() -> None:
    command = [sys.executable, __file__, "0", str(CASES)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=Path(__file__).parent)
    last = run.stdout.split()[-1:] or ["none"]
    assert run.returncode == 0, f"case {last[0]}: {run.stderr[-3000:]}"


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_known(name: str) -> None:
    assert _parameters(name)
    assert set(_good(name, np.random.default_rng(0))) <= set(_parameters(name))


if __name__ == "__main__":
    seen = work(int(sys.argv[1]), int(sys.argv[2]))
    if int(sys.argv[2]) >= CASES:
        never = {(name, key) for name in NAMES for key in _parameters(name)} - set(seen)
        assert not never, f"never spoiled: {sorted(never)}"
