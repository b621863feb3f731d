"""Calls of every public function with generated arguments, good and bad, each judged; run by test_fuzz.py, or by hand:

    python tests/support/fuzz.py --seed 0 --count 100000     # cases 0 to 99999
    python tests/support/fuzz.py --seed 4711 --count 1       # case 4711 again; --show prints the call alone

A case is drawn from its number alone. It starts as a call that must succeed, of arrays in any memory and container;
most are then spoiled: arguments that are slightly wrong, absurd, or share memory. `Judge` says what every call must
satisfy. A worker process makes the calls, so that a crash or a hang is seen, and named by its case.
"""

from __future__ import annotations

import argparse
import array
import atexit
import contextlib
import copy
import decimal
import enum
import faulthandler
import fractions
import functools
import importlib.util
import inspect
import io
import math
import mmap
import os
import pickle
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

import ml_dtypes
import numpy as np

import crossent
import reference
from arrays import BFLOAT16, DTYPES, INTEGERS, MOST_AXES, Array, DType

HANG_SECONDS = 30.0  # for a batch of cases
BATCH = 500
WORKER = __file__
DONE = b"\xff" * 8  # in place of the number of the case that is being judged
SLOW_SECONDS = 5.0
HUGE_SECONDS = 0.05  # of a call that may take for ever: enough to begin
MEMORY = 6 << 30  # more than every case that is not huge needs together


# ---- draws ----------------------------------------------------------------------------------------------


class Draw:
    """The random choices of one case."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.numbers = np.random.Generator(np.random.PCG64(seed))

    def chance(self, p: float) -> bool:
        return self.random.random() < p

    def one(self, options: Any) -> Any:
        return self.random.choice(options)

    def upto(self, n: int) -> int:
        """From 0 to n - 1."""
        return self.random.randrange(n)


# ---- memory: every array lies in bytes of its own, with a margin on both sides --------------------------

MARGIN = 24


def _strides(d: Draw, shape: tuple[int, ...], itemsize: int, layout: str) -> tuple[list[int], int]:
    """The strides of a layout, and how far they reach beyond the first element in memory."""
    order = list(range(len(shape)))[::-1]  # from the fastest axis to the slowest
    if layout == "fortran":
        order.reverse()
    elif layout == "transposed":
        d.random.shuffle(order)
    strides, step = [0] * len(shape), itemsize + (3 if layout == "packed field" else 0)
    for axis in order:
        gap = d.one((1, 2, 3)) if layout == "stepped" and 1 < shape[axis] < 5000 else 1
        strides[axis] = step * gap
        step *= max(shape[axis], 1) * gap
    return strides, step


def place(d: Draw, x: Array, layout: str = "C") -> Array:
    """The numbers of `x` in memory of its own. What lies between them is nan, or -1."""
    if x.dtype.hasobject or not x.dtype.itemsize or is_long(x.shape):
        return x
    strides, reach = _strides(d, x.shape, x.itemsize, layout)
    start = MARGIN + (1 if layout == "misaligned" else 0)
    root = np.full(reach + 2 * MARGIN + 8, 0xFF, np.uint8)
    if layout == "negative":
        for axis, n in enumerate(x.shape):
            if n and d.chance(0.7):
                start += (n - 1) * strides[axis]
                strides[axis] *= -1
    view: Array = np.ndarray(x.shape, x.dtype, root, start, tuple(strides))
    view[...] = x
    return view


LAYOUTS = ("C", "C", "fortran", "transposed", "negative", "stepped", "misaligned", "packed field")


def root_of(x: Array) -> Array:
    """The array that owns the memory."""
    while True:
        base: Any = x.base
        if not isinstance(base, np.ndarray):
            base = getattr(base, "base", None)  # as_strided's go-between
        if not isinstance(base, np.ndarray):
            return x
        x = base


def marked(x: Array, root: Array) -> Array:
    """Which bytes of its root are elements of `x`."""
    marks = np.zeros(root.nbytes, bool)
    start = x.__array_interface__["data"][0] - root.__array_interface__["data"][0]
    if x.size:
        axes = [(n, stride) for n, stride in zip(x.shape, x.strides, strict=True) if n > 1]
        shape, strides = zip(*axes, (x.itemsize, 1), strict=True)
        np.ndarray(shape, bool, marks, start, strides)[...] = True
    return marks


def _is(value: object, kinds: Any) -> bool:
    """`isinstance` that believes the type alone: an absurd object's __class__ may raise."""
    return issubclass(type(value), kinds)


# ---- containers -----------------------------------------------------------------------------------------


class Sub(np.ndarray):
    """A subclass that changes nothing."""


class Holder:
    """What hands over an array; `inner` is that array."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner


class ByArray(Holder):
    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.inner


class ByInterface(Holder):
    @property
    def __array_interface__(self) -> Any:
        return self.inner.__array_interface__


class ByDLPack(Holder):
    def __dlpack__(self, **options: Any) -> Any:
        return self.inner.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.inner.__dlpack_device__()


HAS_TORCH = importlib.util.find_spec("torch") is not None


@functools.cache
def torch() -> Any:
    import torch as module

    module.set_num_threads(1)
    return module


def tensor(x: Array) -> Any:
    """A torch tensor with the same numbers, in memory of its own; where torch is missing, an array."""
    x = x.copy()
    if not HAS_TORCH:
        return x
    if x.dtype == BFLOAT16:
        return torch().tensor(x.view(np.int16)).view(torch().bfloat16)
    return torch().tensor(x)


TENSORS = tuple(np.dtype(c) for c in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "?"))


@functools.cache
def _mapped(size: int) -> Any:
    file = tempfile.TemporaryFile()  # noqa: SIM115
    atexit.register(file.close)
    file.truncate(size)
    return file


def memory_mapped(x: Array) -> Array:
    mapped: Array = np.memmap(_mapped(1 << 20), x.dtype, "c", 0, x.shape)
    mapped[...] = x
    return mapped


def dressed(d: Draw, x: Array) -> Any:
    """The same numbers in another container or memory; of the same dtype, but for lists of them."""
    kind = d.upto(40)
    if kind < 16:
        x = place(d, x, LAYOUTS[kind % len(LAYOUTS)])
    elif kind == 16:
        x = place(d, x)
        x.flags.writeable = False
    elif kind in (17, 18) and x.dtype not in (BFLOAT16, np.bool_):
        x = place(d, x.astype(x.dtype.newbyteorder("S")), d.one(LAYOUTS))
    elif kind == 19:
        x = place(d, x, d.one(LAYOUTS)).view(Sub)
    elif kind == 20 and x.ndim == 2:
        x = place(d, x).view(np.matrix)
    elif kind == 21 and x.dtype != BFLOAT16:
        x = place(d, x).view(np.recarray)
    elif kind == 22 and 0 < x.nbytes < 1 << 20:
        x = memory_mapped(x)
    elif kind in (23, 24) and x.dtype in (*TENSORS, BFLOAT16):
        return tensor(x)
    elif kind == 25 and x.dtype in DTYPES and x.size and HAS_TORCH:
        return tensor(x).requires_grad_()
    elif kind in (26, 27) and x.dtype.kind in "iuf" and x.size and x.dtype != np.uint64:
        return x.tolist() if kind == 26 or x.ndim == 0 else tuple(x.tolist())
    elif kind == 28 and x.ndim == 1 and x.dtype.char in "fd":
        return array.array(x.dtype.char, x.tolist())
    elif kind == 29 and x.dtype != BFLOAT16 and x.size and x.flags.c_contiguous:
        return memoryview(x.copy())
    elif kind == 30:
        return ByArray(place(d, x, d.one(LAYOUTS)))
    elif kind == 31 and x.dtype in TENSORS and x.dtype != np.bool_:
        return ByDLPack(place(d, x, d.one(("C", "fortran", "transposed"))))
    elif kind == 32 and x.dtype != BFLOAT16:
        return ByInterface(place(d, x, d.one(LAYOUTS)))
    elif kind == 33 and x.ndim == 0 and x.dtype != BFLOAT16:
        return x[()] if d.chance(0.5) else x.item()
    else:
        x = place(d, x)
    return x


def read(value: Any) -> Array:
    """What an argument holds, as this file sees it."""
    if _is(value, Holder):
        return read(value.inner)
    if "torch" in sys.modules and _is(value, torch().Tensor):
        value = value.detach()
        if value.dtype == torch().bfloat16:
            return np.asarray(value.view(torch().int16).numpy()).view(BFLOAT16)
        return np.asarray(value.resolve_neg().numpy())
    return np.asarray(value)


# ---- calls that must succeed ----------------------------------------------------------------------------


@dataclass
class Call:
    """One call: a public name and its arguments, those of a class's constructor and of its object in one."""

    number: int
    name: str
    arguments: dict[str, Any]
    threads: int = 1
    warnings: Literal["ignore", "error", "always"] = "ignore"
    spoiled: list[str] = field(default_factory=list)
    extra: tuple[Any, ...] = ()  # positional ones too many
    huge: bool = False  # may take forever, or more memory than there is
    plain: dict[str, Any] = field(default_factory=dict)  # the arguments before they were dressed

    def __str__(self) -> str:
        given = ", ".join(f"{key}={show(value)}" for key, value in self.arguments.items())
        more = "".join(f", {show(value)}" for value in self.extra)
        notes = f"threads={self.threads}, warnings={self.warnings}, spoiled={self.spoiled}, huge={self.huge}"
        return f"crossent.{self.name}({given}{more})  # {notes}"


def show(value: Any) -> str:
    """An argument in words, an array with its memory."""
    if _is(value, Holder):
        return f"{type(value).__name__}({show(value.inner)})"
    if _is(value, np.ndarray):
        values = np.array2string(np.asarray(value), threshold=12) if value.size < 1 << 20 else "..."
        flags = "" if value.flags.writeable else ", read-only"
        flags += "" if value.flags.aligned else ", misaligned"
        kind = f"{type(value).__name__}({' '.join(values.split())}, {value.dtype.str} {value.dtype}"
        return f"{kind}, shape={value.shape}, strides={value.strides}{flags})"
    try:
        text = f"{type(value).__name__}: {value!r}"
    except Exception:  # noqa: BLE001
        text = type(value).__name__
    return text if len(text) < 300 else text[:300] + "..."


CLASSES = (1, 2, 3, 4, 5, 8, 10, 17, 33, 64, 65, 100, 101, 130)


# Without elements and without end: NumPy makes them without memory, and nothing is to be done for them.
LONG_EMPTIES = (
    (2**40, 0), (0, 2**40), (1, 2**40, 0), (2**30, 0, 2**20), (2**20, 2**30, 0), (0, 2**59), (2**59, 0, 1),
    (0, 3, 2**50), (2**40, 3, 0), (3, 0, 2**40), (2**25, 0, 2**25, 5), (0, 2**40, 0),
)  # fmt: skip


def is_long(shape: tuple[int, ...]) -> bool:
    """Whether an axis is longer than anything with elements here."""
    return max(shape, default=0) > 1 << 20


def _shape(d: Draw, least: int = 0, *, endless: bool = False) -> tuple[int, ...]:
    """Mostly small; now and then empty, of many dimensions, or enough to be shared out to threads; and `endless`."""
    kind = d.upto(200)
    if kind == 0:
        return d.one([(1300, 130), (40_000, 5), (2, 70, 1100), (70_000, 2)])
    if kind in range(12, 16) and endless:
        return d.one(LONG_EMPTIES)
    if kind < 4:
        return (1,) * min(d.one((least, 6, 20, 32, 33, 60)), MOST_AXES - 1)  # NumPy takes no more indices
    ndim = max(least, d.one((0, 1, 1, 2, 2, 2, 2, 3, 3, 4, 5)))
    longest = (7, 130, 40, 9, 6, 4)[ndim]
    shape = [1 + d.upto(longest) for _ in range(ndim)]
    if kind < 12 and ndim:
        shape[d.upto(ndim)] = 0
    return tuple(shape)


def _floating(d: Draw) -> DType:
    return d.one(DTYPES)


def _reduction(d: Draw) -> dict[str, Any]:
    """The reduction, and perhaps a dtype of the result."""
    options: dict[str, Any] = {}
    if d.chance(0.8):
        options["reduction"] = d.one(("none", "none", "mean", "sum"))
    if d.chance(0.15):
        options["dtype"] = d.one(("float64", np.float32, "f8", np.dtype("f4"), "f2", BFLOAT16, float, None))
    return options


def good_rows(d: Draw, name: str) -> dict[str, Any]:
    """log_softmax, softmax, logsumexp and log_sigmoid."""
    shape = _shape(d, endless=True)
    x = (d.numbers.standard_normal(shape) * d.one((1, 5, 30))).astype(_floating(d))
    arguments: dict[str, Any] = {"x": x}
    axes = range(-len(shape), len(shape)) if shape else range(-1, 1)
    if name == "logsumexp":
        if is_long(shape):
            # A number is written for each row that is left: none is long.
            gone = [i for i, n in enumerate(shape) if n > 1 << 20 or d.chance(0.3)]
            arguments["axis"] = tuple(i - d.one((0, len(shape))) for i in gone) if d.chance(0.8) else None
        elif d.chance(0.6):
            arguments["axis"] = _several_axes(d, shape)
        for flag in ("keepdims", "return_sign"):
            if d.chance(0.4):
                arguments[flag] = d.chance(0.5)
        if not is_long(shape) and d.chance(0.4):
            arguments["b"] = _factors(d, shape)
    elif name != "log_sigmoid" and d.chance(0.7):
        arguments["axis"] = _several_axes(d, shape) if d.chance(0.5) else d.one(axes)
        if d.chance(0.1):
            arguments["axis"] = None
    return arguments


def _several_axes(d: Draw, shape: tuple[int, ...]) -> Any:
    """One axis, some or none."""
    if not shape:
        return d.one((0, -1, (0,), (-1,), ()))
    if d.chance(0.5):
        return d.one(range(-len(shape), len(shape)))
    chosen = d.random.sample(range(len(shape)), d.upto(min(len(shape), 4) + 1))
    return tuple(a - d.one((0, len(shape))) for a in chosen)


def _factors(d: Draw, shape: tuple[int, ...]) -> Array:
    """Numbers of both signs, some of them 0, of a shape that is broadcast to this one."""
    own = tuple(1 if d.chance(0.2) else n for n in shape)[d.one((0, 0, min(1, len(shape)), len(shape))) :]
    factors = np.asarray(d.numbers.integers(0 if d.chance(0.3) else -3, 7, own))
    return factors.astype(d.one((*DTYPES, np.dtype("i1"), np.dtype("i8"))))


def good_classes(d: Draw, name: str) -> dict[str, Any]:
    """The losses of rows against classes."""
    log_p = name.startswith("nll")
    option = {"focal": "gamma", "poly": "epsilon"}.get(name.split("_")[0])
    shape = _shape(d, 1, endless=True)
    dtype = _floating(d)
    axis = min(1, len(shape) - 1) if d.chance(0.6) else d.upto(len(shape))
    if is_long(shape):  # no rows: each of them would have a target
        axis = d.one([i for i in range(len(shape)) if 0 in shape[:i] + shape[i + 1 :]])
    classes = shape[axis]
    x = d.numbers.standard_normal(shape) * d.one((1, 5, 20))
    x = (reference.log_softmax(x, axis) if log_p else x).astype(dtype)
    rows = shape[:axis] + shape[axis + 1 :]
    arguments: dict[str, Any] = {"input": x, **_reduction(d)}
    if axis != min(1, len(shape) - 1) or d.chance(0.2):
        arguments["axis"] = axis - d.one((0, len(shape)))
    if d.chance(0.3) and not is_long((classes,)):
        arguments["weight"] = d.numbers.uniform(0.25, 2, classes).astype(_floating(d))
    if option and d.chance(0.7):
        arguments[option] = d.one((0, 0.5, 1, 2.0, 3, np.float32(2.5)))
    plain = log_p or option
    if not plain and d.chance(0.4):
        arguments["label_smoothing"] = d.one((0.0, 0.1, 0.5, 1.0, 0, 1, np.float32(0.25), True))
    if not plain and d.chance(0.3):
        arguments["z_loss"] = d.one((0.0, 1e-4, 0.5, 0, 1, np.float32(0.25), True))
    if not plain and shape != rows and d.chance(0.25):
        p = d.numbers.random(shape)
        arguments["target"] = (p / p.sum(axis=axis, keepdims=True)).astype(_floating(d))
    else:
        integer = d.one(INTEGERS)
        t = d.numbers.integers(0, max(min(classes, 127), 1), rows)
        ignored = d.one((-100, 0, 1, 127, -1))
        given = d.chance(0.4) or (not classes and t.size)
        if given or integer.kind == "i":
            ignored = ignored if given else -100
            share = 0.2 if classes and d.chance(0.9) else 2
            t = np.where(d.numbers.random(rows) < share, ignored, t)
        if given:
            arguments["ignore_index"] = d.one((int, np.int64, np.int16))(ignored)
        integer = np.dtype("i8") if (t < 0).any() and integer.kind == "u" else integer
        arguments["target"] = np.asarray(t).astype(integer)
    if d.chance(0.2):
        arguments["where"] = d.numbers.random(rows) < 0.7
    return arguments


def good_linear(d: Draw, name: str) -> dict[str, Any]:
    """The losses of hidden states and a matrix."""
    shape = _shape(d, 1)
    classes, features, dtype = d.one(CLASSES), shape[-1], _floating(d)
    rows = shape[:-1]
    normal = d.numbers.standard_normal
    arguments: dict[str, Any] = {
        "input": np.asarray(normal(shape)).astype(dtype),
        "linear_weight": (normal((classes, features)) / math.sqrt(features or 1)).astype(
            d.one((dtype, _floating(d)))
        ),
        **_reduction(d),
    }
    integer = d.one(INTEGERS)
    t = np.asarray(d.numbers.integers(0, min(classes, 127), rows))
    if integer.kind == "i":
        t = np.where(d.numbers.random(rows) < 0.2, -100, t)
    arguments["target"] = t.astype(integer)
    if d.chance(0.3):
        arguments["linear_bias"] = normal(classes).astype(d.one((dtype, _floating(d))))
    if d.chance(0.3):
        arguments["weight"] = d.numbers.uniform(0.25, 2, classes).astype(_floating(d))
    if d.chance(0.3):
        arguments["label_smoothing"] = d.one((0.0, 0.1, 0.5, 1.0, 0, 1, np.float32(0.25), True))
    if d.chance(0.3):
        arguments["z_loss"] = d.one((0.0, 1e-4, 0.5, 0, 1, np.float32(0.25)))
    if d.chance(0.3):
        arguments["softcap"] = d.one((None, 5.0, 30, np.float32(20)))
    if d.chance(0.5):
        arguments["block_bytes"] = d.one((None, 0, 100_000, np.int64(1_000_000)))
    if d.chance(0.2):
        arguments["where"] = d.numbers.random(rows) < 0.7
    return arguments


def good_elements(d: Draw, name: str) -> dict[str, Any]:
    """The losses of single elements."""
    shape = _shape(d, endless=True)
    dtype = _floating(d)
    uniform, normal = d.numbers.random, d.numbers.standard_normal
    arguments: dict[str, Any] = _reduction(d)
    integers = (*INTEGERS, np.dtype(bool), *DTYPES)
    likelihood = name.startswith(("gaussian", "poisson"))
    x: Any = normal(shape)
    t: Any = uniform(shape)
    if name.startswith("binary"):
        logits = "logits" in name
        x = x * 4 if logits else np.asarray(uniform(shape)) * 0.875 + 0.0625
        dtype_t = d.one(integers)
        t = t if dtype_t in DTYPES else np.asarray(t) < 0.5
        arguments["target"] = np.asarray(t).astype(dtype_t)
        for key in ("weight", "pos_weight") if logits else ("weight",):
            if d.chance(0.3):
                own = d.one((shape, () if is_long(shape) else shape[-1:], (), (1,) * len(shape)))
                arguments[key] = np.asarray(d.numbers.integers(1, 4, own)).astype(d.one(integers[:-3]))
        if not logits and d.chance(0.3):
            arguments["clamp"] = d.one((None, -100.0, -50, -np.inf, -1e300))
    elif name.startswith("sigmoid"):
        x = x * 4
        dtype_t = d.one(integers)
        t = t if dtype_t in DTYPES else np.asarray(t) < 0.5
        arguments["target"] = np.asarray(t).astype(dtype_t)
        if d.chance(0.5):
            arguments["alpha"] = d.one((-1, 0, 0.25, 0.9, 1, np.float32(0.5)))
        if d.chance(0.7):
            arguments["gamma"] = d.one((0, 0.5, 1, 2.0, 3, np.float32(2.5)))
    elif name.startswith("kl"):
        if d.chance(0.3):
            arguments["log_target"] = log_target = d.chance(0.5)
            t = np.log(np.asarray(t) + 0.1) if log_target else t
        arguments["target"] = np.asarray(t).astype(_floating(d))
        x = -np.abs(x)
        if shape and d.chance(0.1):
            arguments["reduction"] = "batchmean"
    else:
        arguments["target"] = np.asarray(d.numbers.integers(0, 9, shape)).astype(d.one(integers))
    if likelihood and d.chance(0.4):
        arguments["full"] = d.chance(0.5)
    if name.startswith("gaussian"):
        own = d.one((shape, shape[:-1], (*shape[:-1], 1) if shape else (), ()))
        own = shape if is_long(shape) and own else own
        arguments["var"] = np.asarray(d.numbers.uniform(0.5, 2, own)).astype(_floating(d))
        if d.chance(0.3):
            arguments["eps"] = d.one((1e-6, 1e-3, 0, 0.75))
    if name.startswith("poisson"):
        if d.chance(0.5):
            arguments["log_input"] = log_input = d.chance(0.5)
            x = x if log_input else np.abs(x) + 0.125
        if d.chance(0.3):
            arguments["eps"] = d.one((1e-8, 1e-3, 0, 1))
    if not name.startswith(("binary", "sigmoid")) and not name.endswith("grad") and shape and d.chance(0.1):
        arguments["target"] = arguments["target"][:1]  # repeated
    return {"input": np.asarray(x).astype(dtype), **arguments}


def good_threads(d: Draw, name: str) -> dict[str, Any]:
    return {"n": d.one((1, 2, 3, 8, np.int64(2), 4096))} if name == "set_num_threads" else {}


def good_warning(d: Draw, name: str) -> dict[str, Any]:
    return {}


def good_teacher(d: Draw, name: str) -> dict[str, Any]:
    """The divergence from a teacher's largest probabilities."""
    del name
    shape = tuple(n % 50 for n in _shape(d)) or (5,)
    rows, classes = shape[:-1], shape[-1]
    k = d.upto(min(classes, 6) + 1)
    teacher = d.numbers.standard_normal(shape) * 3
    ids = np.argsort(-teacher, axis=-1)[..., :k]
    log_p = np.take_along_axis(reference.log_softmax(teacher), ids, axis=-1)
    log_p = log_p - d.one((0.0, 0.1, 2.0) if k < classes else (0.0,))  # of more classes than these
    arguments: dict[str, Any] = {
        "input": (d.numbers.standard_normal(shape) * d.one((1, 5))).astype(_floating(d)),
        "teacher_ids": ids.astype(d.one(INTEGERS)),
        "teacher_log_probs": log_p.astype(d.one(DTYPES[2:])),
    }
    if d.chance(0.6):
        arguments["reduction"] = d.one(("none", "sum", "batchmean"))
    if d.chance(0.3):
        arguments["tail"] = d.chance(0.5)
    if d.chance(0.2):
        arguments["where"] = d.numbers.random(rows) < 0.7
    return arguments


Good = Callable[[Draw, str], dict[str, Any]]
_LOSSES: dict[str, Good] = {
    "cross_entropy": good_classes,
    "focal_loss": good_classes,
    "nll_loss": good_classes,
    "poly_loss": good_classes,
    "binary_cross_entropy": good_elements,
    "binary_cross_entropy_with_logits": good_elements,
    "sigmoid_focal_loss": good_elements,
    "kl_div": good_elements,
    "kl_div_topk": good_teacher,
}
# Every public callable; the test fails where one is missing.
FUNCTIONS: dict[str, Good] = {
    **_LOSSES,
    **{f"{name}_and_grad": good for name, good in _LOSSES.items()},
    "gaussian_nll_loss": good_elements,
    "poisson_nll_loss": good_elements,
    "linear_cross_entropy": good_linear,
    "linear_cross_entropy_and_grad": good_linear,
    "log_sigmoid": good_rows,
    "log_softmax": good_rows,
    "logsumexp": good_rows,
    "softmax": good_rows,
    "BCELoss": good_elements,
    "BCEWithLogitsLoss": good_elements,
    "CrossEntropyLoss": good_classes,
    "FocalLoss": good_classes,
    "LogSoftmax": good_rows,
    "NLLLoss": good_classes,
    "PolyLoss": good_classes,
    "Softmax": good_rows,
    "LikelyMistakeWarning": good_warning,
    "NothingCountedWarning": good_warning,
    "get_num_threads": good_threads,
    "set_num_threads": good_threads,
    "show_versions": good_threads,
}
# The function behind an object.
OF_CLASS = {
    "BCELoss": "binary_cross_entropy",
    "BCEWithLogitsLoss": "binary_cross_entropy_with_logits",
    "CrossEntropyLoss": "cross_entropy",
    "FocalLoss": "focal_loss",
    "LogSoftmax": "log_softmax",
    "NLLLoss": "nll_loss",
    "PolyLoss": "poly_loss",
    "Softmax": "softmax",
}
RARE = (
    "LikelyMistakeWarning",
    "NothingCountedWarning",
    "get_num_threads",
    "set_num_threads",
    "show_versions",
)
NAMES = [name for name in FUNCTIONS if name not in RARE] * 8 + list(RARE)


def function_of(name: str) -> str:
    return OF_CLASS.get(name, name)


@functools.cache
def parameters(name: str) -> tuple[str, ...]:
    """The names of all parameters, a class's own and those of calling its objects."""
    public = getattr(crossent, name)
    if isinstance(public, type) and issubclass(public, Warning):
        return ()
    names = list(inspect.signature(public).parameters)
    if isinstance(public, type):
        names += list(inspect.signature(public.__call__).parameters)[1:]
    return tuple(names)


# ---- what results must be -------------------------------------------------------------------------------


def _native(dtype: DType) -> DType:
    return dtype if dtype.isnative else dtype.newbyteorder("=")


def reduction_of(name: str, arguments: dict[str, Any]) -> Any:
    """The reduction of a call, or the loss's default."""
    return arguments.get("reduction", "none" if name.startswith("sigmoid") else "mean")


def loss_dtype(arguments: dict[str, Any]) -> DType:
    if arguments.get("dtype") is not None:
        return _native(np.dtype(arguments["dtype"]))
    return np.dtype("f8" if _native(read(arguments["input"]).dtype) == np.float64 else "f4")


def _broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of both, for more dimensions than NumPy's 32."""
    a, b = (1,) * (len(b) - len(a)) + a, (1,) * (len(a) - len(b)) + b
    return tuple(n if m == 1 else m for m, n in zip(a, b, strict=True))


def expected_form(name: str, arguments: dict[str, Any]) -> list[tuple[tuple[int, ...], DType]]:
    """Shape and dtype of each result."""
    if "x" in arguments:
        x = read(arguments["x"])
        dtype = _native(x.dtype)
        shape = x.shape
        if name == "logsumexp":
            dtype = dtype if dtype in DTYPES else np.dtype("f8")
            axis = arguments.get("axis")
            if arguments.get("b") is not None:
                shape = _broadcast(shape, read(arguments["b"]).shape)
            ndim = len(shape)
            axes = tuple(range(ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
            axes = tuple(a.__index__() % ndim for a in axes if ndim)
            keep = arguments.get("keepdims")
            shape = tuple(1 if i in axes else n for i, n in enumerate(shape) if keep or i not in axes)
        return [(shape, dtype)] * (2 if arguments.get("return_sign") else 1)
    x = read(arguments["input"])
    if FUNCTIONS[name] is good_linear:
        return _linear_form(name, arguments)
    t = read(arguments["target"]) if "target" in arguments else x
    if reduction_of(name, arguments) != "none":
        shape = ()
    elif FUNCTIONS[name] is good_teacher:
        shape = x.shape[:-1]
    elif FUNCTIONS[name] is good_classes:
        axis = arguments.get("axis")
        axis = min(1, x.ndim - 1) if axis is None else axis.__index__() % x.ndim
        shape = x.shape[:axis] + x.shape[axis + 1 :]
    else:
        shape = x.shape if name.endswith("grad") else _broadcast(x.shape, t.shape)
    forms = [(shape, loss_dtype(arguments))]
    if name.endswith("_and_grad"):
        forms.append((x.shape, _native(x.dtype)))
    return forms


def _linear_form(name: str, arguments: dict[str, Any]) -> list[tuple[tuple[int, ...], DType]]:
    matrices = [
        read(arguments[key])
        for key in ("input", "linear_weight", "linear_bias")
        if arguments.get(key) is not None
    ]
    dtypes = [_native(x.dtype) for x in matrices]
    own = np.dtype("f8" if np.float64 in dtypes else "f4")
    if arguments.get("dtype") is not None:
        own = _native(np.dtype(arguments["dtype"]))
    rows = matrices[0].shape[:-1] if arguments.get("reduction", "mean") == "none" else ()
    gradients = [(x.shape, dtype) for x, dtype in zip(matrices, dtypes, strict=True)]
    return [(rows, own), *(gradients if name.endswith("_and_grad") else ())]


def _linear_gradients(a: dict[str, Any]) -> list[Array]:
    """The derivatives of the loss by hidden states, matrix and bias, in float64."""
    bias, softcap = a.get("linear_bias"), a.get("softcap")
    h, w = reference.widen(a["input"]), reference.widen(a["linear_weight"])
    x = reference.linear_logits(h, w, bias, softcap=None if softcap is None else float(softcap))
    upstream = reference.widen(1.0 if a.get("grad_output") is None else a["grad_output"])
    options = {**a, "axis": x.ndim - 1}
    reduction = a.get("reduction", "mean")
    g = _class_gradient("cross_entropy", options, x, np.asarray(a["target"]), upstream, reduction)
    g = (g if softcap is None else g * (1 - (x / float(softcap)) ** 2)).reshape(
        math.prod(h.shape[:-1]), len(w)
    )
    found = [(g @ w).reshape(h.shape), g.T @ h.reshape(len(g), h.shape[-1])]
    return found if bias is None else [*found, g.sum(axis=0)]


def flat(result: Any) -> tuple[Any, ...]:
    """The arrays of a result: a loss, and perhaps its gradients."""
    if not isinstance(result, tuple):
        return (result,)
    return tuple(item for each in result if each is not None for item in flat(each))


def gradient(name: str, a: dict[str, Any]) -> Array:
    """The derivative of a loss of ordinary arguments by its input, in float64."""
    upstream = reference.widen(1.0 if a.get("grad_output") is None else a["grad_output"])
    if name.startswith("kl_div_topk"):
        return _teacher_gradient(a, upstream)
    x, t = reference.widen(a["input"]), np.asarray(a["target"])
    reduction = reduction_of(name, a)
    if name.startswith(("cross", "focal", "nll", "poly")):
        return _class_gradient(name, a, x, t, upstream, reduction)
    w = reference.widen(1.0 if a.get("weight") is None else a["weight"])
    divisor = {"mean": x.size, "batchmean": x.shape[0] if x.ndim else 1}.get(reduction, 1)
    t = reference.widen(t)
    if name.startswith("kl"):
        each = -(np.exp(t) if a.get("log_target") else t)
    elif name.startswith("sigmoid"):
        each = reference.sigmoid_focal_slope(x, t, float(a.get("alpha", 0.25)), float(a.get("gamma", 2.0)))
    elif "logits" in name:
        q = reference.widen(1.0 if a.get("pos_weight") is None else a["pos_weight"])
        s, other = np.exp(reference.log_sigmoid(x)), np.exp(reference.log_sigmoid(-x))
        each = w * ((1 - t) * s - q * t * other)
    else:
        each = w * (x - t) / np.maximum(x * (1 - x), 1e-12)
    return np.asarray(np.broadcast_to(each, x.shape) * upstream / max(divisor, 1))


def _teacher_gradient(a: dict[str, Any], upstream: Array) -> Array:
    x, ids = reference.widen(a["input"]), np.asarray(a["teacher_ids"], dtype=np.int64)
    p, q = np.exp(reference.widen(a["teacher_log_probs"])), reference.softmax(x)
    own, missing = np.zeros(x.shape), 1.0 - p.sum(axis=-1, keepdims=True)
    np.put_along_axis(own, ids, p, axis=-1)
    others = x.copy()
    np.put_along_axis(others, ids, -np.inf, axis=-1)
    if a.get("tail", True) and x.shape[-1] > ids.shape[-1]:
        own += np.nan_to_num(reference.softmax(others)) * np.maximum(missing, 0.0)
        missing = np.minimum(missing, 0.0)
    counted = np.ones(x.shape[:-1], bool) if a.get("where") is None else np.asarray(a["where"])
    each = np.where(counted[..., np.newaxis], q * (1.0 - missing) - own, 0.0)
    divisor = counted.sum() if a.get("reduction", "batchmean") == "batchmean" else 1
    return np.asarray(each * np.asarray(upstream)[..., np.newaxis] / max(divisor, 1))


def _class_gradient(
    name: str, a: dict[str, Any], x: Array, t: Array, upstream: Array, reduction: str
) -> Array:
    axis = min(1, x.ndim - 1) if a.get("axis") is None else a["axis"]
    x = np.moveaxis(x, axis, -1)
    classes, rows = x.shape[-1], x.shape[:-1]
    w = np.ones(classes) if a.get("weight") is None else reference.widen(a["weight"])
    e = float(a.get("label_smoothing", 0.0))
    counted = np.ones(rows, bool) if a.get("where") is None else np.asarray(a["where"]).reshape(rows)
    if t.dtype in DTYPES:
        p = np.moveaxis(reference.widen(t), axis, -1)
        q, divisor = w * (p * (1 - e) + e / max(classes, 1)), counted.sum()
    else:
        counted = counted & (t.astype(object) != int(a.get("ignore_index", -100))).astype(bool).reshape(rows)
        chosen = np.where(counted, t.reshape(rows), 0).astype(np.int64)
        hot = np.arange(classes) == chosen[..., np.newaxis]
        q = w * (hot * (1 - e) + e / max(classes, 1))
        divisor = (w[chosen] * counted).sum() if classes else 0
    z_loss = float(a.get("z_loss", 0.0)) if classes else 0.0
    each = -q if name.startswith("nll") else reference.softmax(x) * q.sum(axis=-1, keepdims=True) - q
    if name.startswith(("focal", "poly")) and classes:
        nll = -np.take_along_axis(reference.log_softmax(x), chosen[..., np.newaxis], axis=-1)
        each = each * reference.slope(name, nll, float(a.get("gamma", 2.0)), float(a.get("epsilon", 1.0)))
    if reduction == "mean":
        each = each / (divisor or 1)
    if z_loss:
        slope = 2 * z_loss * reference.logsumexp(x, -1)[..., np.newaxis] * reference.softmax(x)
        each = each + slope / (counted.sum() or 1 if reduction == "mean" else 1)
    each = np.where(counted[..., np.newaxis], each, 0) * np.asarray(upstream)[..., np.newaxis]
    return np.moveaxis(each, -1, axis)


def expected_values(name: str, plain: dict[str, Any]) -> list[Array]:
    """By the definitions in reference.py."""
    options = {key: value for key, value in plain.items() if key not in ("dtype", "out", "grad_out")}
    options.pop("grad_output", None)
    function = getattr(reference, name.removesuffix("_and_grad"))
    options.pop("block_bytes", None)
    if options.get("softcap") is not None:
        options["softcap"] = float(options["softcap"])
    if "cross_entropy" in name and not name.startswith("binary"):
        options["label_smoothing"] = float(options.get("label_smoothing", 0.0))
        options["z_loss"] = float(options.get("z_loss", 0.0))
    with np.errstate(all="ignore"):
        found = function(**options)
        values = [np.asarray(value) for value in (found if isinstance(found, tuple) else (found,))]
        if name.endswith("_and_grad"):
            linear = FUNCTIONS[name] is good_linear
            values += _linear_gradients(plain) if linear else [gradient(name, plain)]
    return values


TOLERANCE = {"float64": 1e-11, "float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2}


# ---- absurd values --------------------------------------------------------------------------------------


class OwnError(Exception):
    """Raised by an argument, not by crossent."""


class OwnExit(BaseException):
    """The same, beyond Exception."""


def _raiser(error: BaseException) -> Callable[..., NoReturn]:
    def method(*args: Any, **options: Any) -> NoReturn:
        raise error

    return method


def _giver(value: Any) -> Callable[..., Any]:
    return lambda *args, **options: value


def odd_object(d: Draw) -> Any:
    """An object with one special method, which raises or gives rubbish."""
    method = d.one(
        ("__array__", "__array__", "__dlpack__", "__index__", "__float__", "__bool__", "__int__", "__len__",
         "__getitem__", "__iter__", "__eq__", "__ne__", "__str__", "__repr__", "__hash__", "__array_struct__",
         "__array_interface__", "dtype", "shape", "__buffer__", "__class__", "__dlpack_device__", "__array_priority__")
    )  # fmt: skip
    if d.chance(0.4):
        error = d.one(
            (OwnError("own"), OwnError(), OwnExit(), ValueError(""), KeyError(3), RecursionError("own"),
             RuntimeError("own"), StopIteration(), AttributeError("own"))
        )  # fmt: skip
        behaviour: Any = _raiser(error)
        if method in ("dtype", "shape", "__array_interface__", "__array_struct__", "__class__"):
            behaviour = property(behaviour)
    else:
        behaviour = _giver(
            d.one((None, 3, -1, "x", b"", [], [[1.0], [2.0, 3.0]], 2**70, np.zeros(3, object), np.ma.zeros(3), {}, 1.5,
                   (1, 0), np.zeros((2, 3)), float, True))
        )  # fmt: skip
        if method in ("dtype", "shape", "__array_interface__", "__array_struct__", "__class__"):
            behaviour = property(behaviour)
    base = d.one((object, object, object, list, str, float, int, tuple))
    return type("Odd", (base,), {method: behaviour})()


class UglyMeta(type):
    def __repr__(cls) -> str:
        raise OwnError("repr of a class")

    __str__ = __repr__


class Ugly(metaclass=UglyMeta):
    """Its class has no name to print."""


class Colour(enum.IntEnum):
    """An integer by inheritance."""

    RED = 1


def _endless() -> Iterator[float]:
    while True:
        yield 1.0


def _recursive() -> list[Any]:
    inner: list[Any] = []
    inner.append(inner)
    return inner


def _deep() -> Any:
    value: Any = 1.0
    for _ in range(100):
        value = [value]
    return value


ABSURD: tuple[Callable[[], Any], ...] = (
    _recursive, _deep, _endless, lambda: (x for x in (1.0, 2.0)), lambda: iter([1]), lambda: map(int, "12"),
    *(_giver(value) for value in (
        None, Ellipsis, NotImplemented, True, False, 0, 1, -1, 7, 2**31, 2**63 - 1, 2**63, 2**64, 2**70, -(2**63),
        -(2**63) - 1, 10**400, 1.0, 0.5, -0.0, 1e308, 5e-324, np.nan, np.inf, -np.inf, 1j, "", "mean", "none", "\ud800",
        "x\0y", "a" * 5000, b"", b"\0", b"abc", (), [], {}, set(), {"a": 1}, [[1.0, 2.0], [1.0]], [1, [2]], [None],
        [True, 1.5], ["1", "2"], [b"1"], [2**64, 1], [10**400], [1e400, 1], [[]], [[[]]], [np.nan], [1j],
        ([1.0, 2.0], [3.0, 4.0]), range(3), slice(None), int, float, np.float32, np.dtype("f4"), np,
        abs, Colour.RED, fractions.Fraction(1, 3), decimal.Decimal("0.1"), np.float32(0.5), np.int8(1), np.bool_(True),
        np.str_("mean"), np.datetime64("2020-01-01"), np.timedelta64(3, "s"), np.void(b"ab"), np.longdouble(1.5),
        np.complex64(1), ml_dtypes.bfloat16(1), np.uint64(2**64 - 1), object(), Ugly(), Exception("x"),
        [Ugly()], [object()], np.random, memoryview(b""), memoryview(b"abcd"), bytearray(b"abcd"), np.ma.masked,
    )),
)  # fmt: skip


def absurd(d: Draw) -> Any:
    return odd_object(d) if d.chance(0.3) else d.one(ABSURD)()


# ---- arguments that are wrong ---------------------------------------------------------------------------

DTYPE_NAMES = (
    "?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "g", "c8", "c16", "G", "M8[s]", "M8[ns]",
    "m8[s]", "m8", "S1", "S4", "S0", "U1", "U3", "U0", "V2", "V4", "V1", "V0", "O", ">f4", ">f8", ">i4", ">c8", ">U2",
)  # fmt: skip
ODD_DTYPES: tuple[DType, ...] = (
    *(np.dtype(text) for text in DTYPE_NAMES),
    np.dtype([("a", "f4"), ("b", "i2")]),
    np.dtype([("a", "f4")]),
    np.dtype([("a", "f4", (2,))]),
    np.dtype({"names": ["a"], "formats": ["f4"], "offsets": [3], "itemsize": 11}),
    np.dtype([]),
    BFLOAT16,
    *(
        np.dtype(getattr(ml_dtypes, key))
        for key in (
            "float8_e4m3fn",
            "float8_e5m2",
            "float8_e8m0fnu",
            "int4",
            "uint4",
            "int2",
            "float4_e2m1fn",
        )
        if hasattr(ml_dtypes, key)
    ),
    *((np.dtypes.StringDType(),) if hasattr(np.dtypes, "StringDType") else ()),
)
VALUES = (
    np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 2.0, 1e-300, 5e-324, 1e-45, 1e-40, 65504.0, 7e4, 3.4e38, 3.5e38,
    1.7e308, -1e30, -104.0, -750.0, 710.0, 89.0, 0.5, 1.0000001,
)  # fmt: skip
INTEGER_VALUES = (
    -1, -100, 0, 1, 99, 127, 128, -128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, -(2**31), 2**32, 2**53 + 1,
    2**63 - 1, -(2**63), 2**63, 2**64 - 1,
)  # fmt: skip


def _converted(x: Array, dtype: DType) -> Array:
    try:
        with np.errstate(all="ignore"):
            return x.astype(dtype)
    except (TypeError, ValueError, OverflowError):
        return np.zeros(x.shape, dtype)


def _other_values(d: Draw, x: Array) -> Array:
    """Some elements out of range, or bits at random."""
    x = np.array(x, subok=False)
    if not x.size or x.dtype.hasobject:
        return x
    if d.chance(0.2):
        noise = np.frombuffer(d.numbers.bytes(x.nbytes), np.uint8)
        return noise.copy().view(x.dtype).reshape(x.shape)
    if x.dtype in DTYPES:
        with np.errstate(all="ignore"):
            value = np.asarray(d.one(VALUES)).astype(x.dtype)
    elif x.dtype.kind in "iu":
        low, high = np.iinfo(x.dtype).min, np.iinfo(x.dtype).max
        value = d.one([v for v in INTEGER_VALUES if low <= v <= high])
    else:
        return x
    if d.chance(0.2):
        x[...] = value
    else:
        x.reshape(-1)[d.upto(x.size)] = value
    return x


def _other_shape(d: Draw, x: Array) -> Array:
    kind = d.upto(14)
    x = np.asarray(x)  # a matrix is never but a matrix
    shape = list(x.shape)
    at = d.upto(max(x.ndim, 1))
    if kind == 0 and x.ndim < 60:
        shape.insert(d.upto(x.ndim + 1), 1)
    elif kind == 1 and x.ndim:
        return x.take(0, at) if x.shape[at] else x.reshape(-1)
    elif kind == 2:
        return x.T
    elif kind == 3 and x.ndim:
        return np.concatenate([x, x.take([0], at)], at) if x.shape[at] else x
    elif kind == 4 and x.ndim:
        return x[(slice(None),) * at + (slice(1, None),)]
    elif kind == 5 and x.ndim:
        return x[(slice(None),) * at + (slice(0, 0),)]
    elif kind == 6:
        return x.reshape(-1)
    elif kind == 7:
        return np.zeros((), x.dtype)
    elif kind == 8:
        return np.zeros((1,) * min(d.one((1, 2, 32, 33, 64)), MOST_AXES), x.dtype)
    elif kind == 9:
        return np.zeros(_shape(d), x.dtype)
    elif kind == 10 and x.ndim < min(60, MOST_AXES - 1):
        return np.broadcast_to(x, (d.one((1, 2, 5)), *x.shape))
    elif kind == 11 and x.size:
        return np.broadcast_to(x.reshape(-1)[0], x.shape)
    elif kind == 12 and x.ndim and x.shape[at]:
        shape[at] += d.one((1, 2))
        return np.resize(x, shape)
    elif kind == 13 and x.size and not x.dtype.hasobject:  # elements that share memory
        root = place(d, x.reshape(-1))
        steps = [d.upto(2) * x.itemsize for _ in shape]
        if sum((n - 1) * step for n, step in zip(shape, steps, strict=True)) < root.nbytes:
            return np.lib.stride_tricks.as_strided(root, shape, steps)
    return x.reshape(shape)


HUGE_SHAPES = (
    (2**40,), (2**32, 1), (1, 2**32), (2**20, 2**20), (0, 2**40), (2**40, 0), (1, 2**40), (2**30, 0, 2**20), (2**60,),
    (2**31, 3), (3, 2**31), (2**36, 2, 2), (2, 2**36), (2**62,),
)  # fmt: skip


def _huge(d: Draw, x: Array) -> Array:
    """A shape beyond all memory, over a single element."""
    dtype = x.dtype if x.dtype in (*DTYPES, *INTEGERS, np.bool_) else np.dtype("f4")
    shape = d.one(HUGE_SHAPES)
    try:
        return np.broadcast_to(d.one((np.zeros(1), np.ones(1))).astype(dtype), shape) if 0 not in shape else (
            np.broadcast_to(np.zeros([min(n, 1) for n in shape], dtype), shape)
        )  # fmt: skip
    except ValueError:  # beyond NumPy too
        return np.broadcast_to(np.zeros(1, dtype), (2**40,))


OTHER = np.zeros(1 << 20, np.uint8)


class Awkward(np.ndarray):
    """A subclass whose methods give memory that is none of its own, and of another dtype."""

    def squeeze(self, *args: Any, **options: Any) -> Any:
        small = self.nbytes < OTHER.nbytes // 8
        return OTHER[: self.size].reshape(np.asarray(self).squeeze().shape) if small else OTHER[:1]

    def reshape(self, *args: Any, **options: Any) -> Any:
        return OTHER[:8].view(self.dtype)[:1] if self.itemsize in (2, 4, 8) else OTHER[:1]

    copy = view = astype = squeeze

    @property
    def T(self) -> Any:
        raise OwnError("T")


class Finalizing(np.ndarray):
    """A subclass of which no view can be taken."""

    armed: bool

    def __array_finalize__(self, obj: Any) -> None:
        if getattr(obj, "armed", False):
            raise OwnError("finalize")


def wrapped(d: Draw, x: Array) -> Any:
    """In a container that is not read, or not as it seems."""
    kind = d.upto(13)
    if kind < 3:
        mask: Any = d.one((False, True, np.zeros(x.shape, bool)))
        return np.ma.masked_array(x, mask, hard_mask=d.chance(0.5))
    if kind == 3:
        return x.astype(object)
    if kind == 4 and not x.dtype.hasobject and x.dtype.itemsize:
        return np.array(place(d, x), subok=False).view(Awkward)
    if kind == 5:
        own = x.copy().view(Finalizing)
        own.armed = True
        return own
    if kind == 6:
        return ByArray(d.one((x.tolist(), [x], np.ma.masked_array(x), x.astype(object), ByArray(x), 1.5)))
    if kind == 7:
        return [x, x[:0]] if x.ndim else [x, [x]]
    if kind == 8:
        return list(x.reshape(-1)) if x.size < 5000 else [x]
    if kind == 9 and x.ndim and not x.dtype.hasobject:
        return np.rec.fromarrays([x], names="a")
    if kind == 10 and x.dtype in TENSORS and HAS_TORCH:
        t = tensor(x)
        kinds = [
            t.to_sparse() if t.ndim and t.dtype != torch().bool else t,
            t.to(torch().complex64),
            t.to("meta"),
        ]
        return d.one([*kinds, t[None], torch().view_as_complex(torch().zeros(3, 2)).conj().imag])
    if kind == 11:
        return d.one((np.char.array(["a"]), np.matrix([[1.0, 2.0]]), np.poly1d([1.0, 2.0])))
    return x.tolist()


def bad_array(d: Draw, call: Call, key: str) -> Any:
    """An array argument, spoiled from the good one."""
    good = call.plain.get(key)
    if not _is(good, np.ndarray):
        good = np.asarray(d.one([v for v in call.plain.values() if _is(v, np.ndarray)] or [np.zeros(3)]))
    kind = d.upto(100)
    if kind < 20:
        return dressed(d, _other_values(d, good))
    if kind < 42:
        return place(d, _other_shape(d, good), d.one(LAYOUTS)) if d.chance(0.6) else _other_shape(d, good)
    if kind < 60:
        x = _converted(good, d.one(ODD_DTYPES))
        return place(d, x, d.one(LAYOUTS)) if d.chance(0.5) else x
    if kind < 70:
        return wrapped(d, good)
    if kind < 74:
        call.huge = True
        return range(2**40) if d.chance(0.02) else _huge(d, good)
    if kind < 80:  # another argument of the same call
        return d.one(list(call.arguments.values()) or [None])
    if kind < 84:
        return dressed(d, _other_shape(d, _other_values(d, good)))
    return absurd(d)


def good_out(d: Draw, shape: tuple[int, ...], dtype: DType) -> Array:
    """An array that a result may be written to."""
    layout = d.one(("C", "C", "fortran", "transposed", "negative", "stepped"))
    out = place(d, d.numbers.standard_normal(shape).astype(dtype), layout)
    if d.chance(0.1):
        return out.view(Sub)
    return out.view(np.matrix) if out.ndim == 2 and d.chance(0.1) else out


def bad_out(d: Draw, call: Call, key: str) -> Any:
    """An output: good, or nearly."""
    forms = _forms(call)
    shape, dtype = forms[-1 if key == "grad_out" else 0] if forms else ((2,), np.dtype("f4"))
    kind = d.upto(20)
    out = good_out(d, shape, dtype)
    if kind < 2:
        return out
    if kind == 2:
        out.flags.writeable = False
    elif kind < 5:
        return place(d, _other_shape(d, out), d.one(LAYOUTS))
    elif kind == 5:
        return place(d, _converted(out, d.one(ODD_DTYPES)), d.one(LAYOUTS))
    elif kind == 6 and dtype != BFLOAT16:
        return place(d, out.astype(out.dtype.newbyteorder("S")))
    elif kind == 7:
        return place(d, out, d.one(("misaligned", "packed field")))
    elif kind == 8 and out.size:
        own = place(d, np.asarray(out).reshape(-1))
        steps = [d.upto(2) * own.itemsize for _ in shape]
        if sum((n - 1) * step for n, step in zip(shape, steps, strict=True)) < own.nbytes:
            return np.lib.stride_tricks.as_strided(own, shape, steps)
    elif kind == 9:
        return d.one((out.tolist(), np.ma.masked_array(out), memoryview(np.zeros(shape)), ByArray(out)))
    elif kind == 10:
        return tensor(np.asarray(out))
    elif kind < 13:
        return wrapped(d, np.asarray(out))
    elif kind == 13:
        return np.array(out, subok=False).view(Awkward)
    elif kind < 18:  # memory of an argument
        x = d.one([v for v in call.arguments.values() if type(v) is np.ndarray] or [out])
        return d.one(
            (
                x,
                x.T,
                x[::-1] if x.ndim else x,
                x.reshape(-1)[: out.size].reshape(-1),
                _shifted(x, shape, dtype),
            )
        )
    elif kind == 18:
        return absurd(d)
    return out


def _shifted(x: Array, shape: tuple[int, ...], dtype: DType) -> Array:
    """An array of this form that begins inside the memory of `x`."""
    root = root_of(x)
    size = math.prod(shape) * dtype.itemsize
    if (
        type(root) is not np.ndarray
        or root.dtype != np.uint8
        or not root.flags.writeable
        or root.nbytes < size + 8
    ):
        return x
    return np.ndarray(shape, dtype, root, 8)


def _forms(call: Call) -> list[tuple[tuple[int, ...], DType]]:
    if FUNCTIONS[call.name] in (good_threads, good_warning):
        return []
    return expected_form(function_of(call.name), call.plain)


def _pool(*values: Any) -> Callable[[Draw, Call, str], Any]:
    """One of these values, else an absurd one."""
    return lambda d, call, key: d.one(values) if d.chance(0.6) else absurd(d)


BOOLS = _pool(True, False, 0, 1, None, "yes", np.bool_(True), np.array(True), np.array([True, False]), 2.0)
INTS = _pool(
    0, 1, -1, 2, 3, -2, 5, -3, 64, -64, 100, -100, 2**31, 2**63 - 1, -(2**63), 2**63, 2**64, 2**70, -(2**63) - 1,
    np.int8(1), np.uint64(2**63), np.array(1), np.array([1]), np.array([1, 2]), 1.0, True, "0", None, (), (0,), (0, 0),
    (0, 1), (1, -1), (0, 2**70), [0], (None,), (True,), (1.0,), tuple(range(70)),
)  # fmt: skip
FLOATS = _pool(
    0.0, -0.0, 1.0, 0.5, -1.0, 1.5, 1e-320, -1e-320, 1e300, np.nan, np.inf, -np.inf, -100, 0, 1, True, 2**70, 10**400,
    np.float16(0.5), np.array(0.25), np.array([0.25]), np.array([0.1, 0.2]), "0.1", None, 1j, np.longdouble(0.1),
)  # fmt: skip
PARAMETERS: dict[str, Callable[[Draw, Call, str], Any]] = {
    **dict.fromkeys(("linear_weight", "linear_bias"), bad_array),
    **dict.fromkeys(("input", "x", "b", "target", "weight", "pos_weight", "var", "where", "grad_output"), bad_array),
    **dict.fromkeys(("teacher_ids", "teacher_log_probs"), bad_array),
    **dict.fromkeys(("out", "grad_out"), bad_out),
    **dict.fromkeys(("ignore_index", "axis", "block_bytes"), INTS),
    **dict.fromkeys(("softcap", "label_smoothing", "z_loss", "clamp", "eps", "epsilon", "alpha", "gamma"), FLOATS),
    **dict.fromkeys(("full", "tail", "log_target", "log_input", "keepdims", "return_sign"), BOOLS),
    "n": _pool(0, 1, 2, 3, -1, 4096, 4097, 2**31, 2**63, 2**64, 2**70, -(2**63) - 1, 1.0, "2", True, None, np.int8(3)),
    "reduction": _pool(
        "none", "mean", "sum", "batchmean", "", "Mean", "mean ", "none\0", "\ud800", "é" * 99, np.str_("sum"), b"mean",
        None, 0, ["mean"],
    ),
    "dtype": _pool(
        *ODD_DTYPES, "float33", "f4,f4", "f4,", "(2,)f4", "(2", "<f4", ">f8", "=f8", "|f4", np.float64, float, int,
        bool, object, str, type, "object", b"f4", ("f4", (2,)), ("f4", 2), (np.void, 4), [("a", "f4")], {"names": []},
        [],
        {"names": ["a"], "formats": ["nope"]}, np.generic, np.floating, np.number, "\ud800", "bfloat16", "f16", 5, None,
        "f" * 3000, np.dtype, np.array(1.0), np.float32(1),
    ),
}  # fmt: skip


# ---- cases ----------------------------------------------------------------------------------------------


def case(seed: int) -> Call:
    """The call with this number."""
    d = Draw(seed)
    name = d.one(NAMES)
    function = function_of(name)
    call = Call(seed, name, FUNCTIONS[name](d, function))
    allowed = parameters(name)
    call.plain = {key: value for key, value in call.arguments.items() if key in allowed}
    call.threads = d.one((1, 3))
    call.warnings = d.one(("ignore",) * 20 + ("error", "error", "always"))
    if function.endswith("_and_grad") and d.chance(0.3):
        (shape, _), (_, dtype), *_ = _forms(call)
        own = d.one((shape, ()))
        call.plain["grad_output"] = np.asarray(d.numbers.uniform(-2, 2, own)).astype(dtype)
    call.arguments = {
        key: dressed(d, value) if _is(value, np.ndarray) else value for key, value in call.plain.items()
    }
    for key in ("out", "grad_out"):
        reduced = key == "out" and "reduction" in allowed and reduction_of(function, call.plain) != "none"
        if key in allowed and d.chance(0.3) and not reduced:
            # Lists become float64, so the form is that of the dressed arguments.
            shape, dtype = expected_form(function, call.arguments)[-1 if key == "grad_out" else 0]
            call.arguments[key] = good_out(d, shape, dtype)
            if d.chance(0.3):
                _share(d, call, key)
    if allowed and d.chance(0.7):
        _spoil(d, call, allowed)
    elif not allowed and d.chance(0.5):
        call.spoiled.append("extra")
        call.extra = tuple(absurd(d) for _ in range(d.upto(3)))
    return call


def _share(d: Draw, call: Call, key: str) -> None:
    """Move an output into the memory of an argument, where it may be all the same."""
    if key == "grad_out" and "out" in call.arguments:  # they must not share memory with each other
        return
    mine: Any = call.arguments.get("x", call.arguments.get("input"))
    if d.chance(0.5) and (key == "grad_out" or "x" in call.arguments) and _can_be_overwritten(mine):
        if mine.shape == call.arguments[key].shape:
            call.arguments[key] = mine
        return
    keys = [k for k, v in call.plain.items() if _is(v, np.ndarray) and type(call.arguments[k]) is np.ndarray]
    if not keys:
        return
    other = d.one(keys)
    x, out = call.plain[other], call.arguments[key]
    root = np.full(x.nbytes + out.nbytes + 4 * MARGIN, 0xFF, np.uint8)
    start = MARGIN + 8 * d.upto(x.nbytes // 8 + 1)
    call.arguments[key] = np.ndarray(out.shape, out.dtype, root, start)
    call.arguments[other] = np.ndarray(x.shape, x.dtype, root, MARGIN)
    call.arguments[other][...] = x


def _can_be_overwritten(x: Any) -> bool:
    return (
        type(x) is np.ndarray
        and x.flags.writeable
        and x.flags.aligned
        and x.dtype.isnative
        and not any(stride % x.itemsize for stride in x.strides)
    )


def _spoil(d: Draw, call: Call, allowed: tuple[str, ...]) -> None:
    if any(is_long(v.shape) for v in call.plain.values() if _is(v, np.ndarray)):
        # Along another axis there may be rows without end.
        call.huge = True
        allowed = tuple(key for key in allowed if PARAMETERS[key] not in (bad_array, bad_out))
    keys = d.random.sample(allowed, min(len(allowed), d.one((1, 1, 1, 1, 1, 2, 2, 3, 12))))
    for key in keys:
        call.arguments[key] = PARAMETERS[key](d, call, key)
    call.spoiled += keys
    if d.chance(0.01):
        call.spoiled.append("signature")
        kind = d.upto(3)
        if kind == 0:
            call.arguments[d.one(("dim", "size_average", "self", ""))] = absurd(d)
        elif kind == 1:
            call.extra = tuple(absurd(d) for _ in range(1 + d.upto(15)))
        elif call.arguments:
            del call.arguments[d.one(list(call.arguments))]


# ---- judgement ------------------------------------------------------------------------------------------

ALLOWED = (TypeError, ValueError, IndexError, OverflowError, BufferError)
UNCLEAR = (
    "unwrap", "panic", "index out of bounds: the len", "RefCell", ".rs:", "assertion", "unreachable", "Option::",
    "called `Result", "attempt to ", "capacity overflow", "ShapeError", "\\u{",
)  # fmt: skip


class Wrong(Exception):
    """What a call did and must not do."""


def _arrays(value: Any) -> Iterator[Array]:
    """The arrays behind an argument."""
    if _is(value, np.ndarray):
        yield value
    elif _is(value, Holder):
        yield from _arrays(value.inner)
    elif type(value) in (list, tuple) and len(value) < 20:
        for item in value:
            if _is(item, np.ndarray | Holder):
                yield from _arrays(item)
    elif _is(value, memoryview) and value.nbytes:
        yield np.asarray(value)
    elif "torch" in sys.modules and _is(value, torch().Tensor):
        with contextlib.suppress(TypeError, RuntimeError):  # of another device, or sparse
            yield read(value)


def _any_awkward(call: Call) -> bool:
    return any(_is(value, Awkward) for value in call.arguments.values())


class Watch:
    """The memory of the arguments before the call."""

    def __init__(self, call: Call) -> None:
        self.roots: dict[int, tuple[Array, bytes]] = {}
        for value in (OTHER, *call.arguments.values(), *call.extra):
            for x in _arrays(value) if value is not OTHER or _any_awkward(call) else ():
                root = root_of(np.ndarray.view(x, np.ndarray) if type(x) is not np.ndarray else x)
                self.roots.setdefault(root.__array_interface__["data"][0], (root, root.tobytes("A")))
        self.lists = [
            (v, copy.copy(v)) for v in call.arguments.values() if type(v) in (list, dict, bytearray)
        ]

    def check(self, outs: list[Array], raised: bool) -> None:
        """Nothing but the elements of `outs` has changed."""
        for value, before in self.lists:
            if len(value) != len(before) or (type(value) is bytearray and value != before):
                raise Wrong("an argument that is no array was changed")
        for root, bytes_before in self.roots.values():
            now = root.tobytes("A")
            if now == bytes_before:
                continue
            if raised:
                raise Wrong("the call raised, and has written to an argument or an output")
            changed = np.frombuffer(now, np.uint8) != np.frombuffer(bytes_before, np.uint8)
            for out in outs:
                if root_of(out) is root or root_of(out).ctypes.data == root.ctypes.data:
                    changed &= ~marked(out, root)
            if changed.any():
                raise Wrong(f"the call wrote outside its outputs: {int(changed.sum())} bytes")


class Judge:
    """Makes calls, and says which are wrong."""

    def __init__(self) -> None:
        self.returned = self.raised = self.compared = self.unfinished = self.repeated = 0
        self.kinds: dict[str, int] = {}

    def judge(self, call: Call) -> None:
        """Raise `Wrong` if the call does anything that it must not do."""
        watch = Watch(call)
        given: list[Any] = [call.arguments.get(key) for key in ("out", "grad_out")]
        outs = [np.ndarray.view(out, np.ndarray) for out in given if _is(out, np.ndarray)]
        outs = [out for out in outs if not out.dtype.hasobject]
        plain = None if call.huge or call.number % 3 else _plainly(call)
        before = crossent.get_num_threads()
        started = time.perf_counter()
        try:
            result = self._make(call)
        except Wrong:
            raise
        except BaseException as error:  # noqa: BLE001
            self._took(call, started)
            watch.check([], raised=True)
            self._error(call, error)
            self.raised += 1
            return
        finally:
            if crossent.get_num_threads() != before:
                crossent.set_num_threads(before)
        self._took(call, started)
        watch.check(outs, raised=False)
        self._result(call, result)
        self.returned += 1
        if plain is not None:
            self._same(call.name, result, self._make(plain))

    def _same(self, name: str, result: Any, again: Any) -> None:
        """The bits do not depend on memory, containers, threads and outputs."""
        results, others = flat(result), flat(again)
        for got, other in zip(results, others, strict=True):
            a, b = np.asarray(got), np.asarray(other)
            wide = a.astype(np.float64), b.astype(np.float64)
            # Several axes are summed in the order of memory.
            rtol = TOLERANCE[a.dtype.name] if name == "logsumexp" else 0
            if a.dtype != b.dtype or not np.allclose(*wide, rtol=rtol, atol=rtol, equal_nan=True):
                raise Wrong(f"plain arrays give another result: {b!r} and not {a!r}"[:500])
        self.repeated += 1

    def _took(self, call: Call, started: float) -> None:
        if not call.huge and (took := time.perf_counter() - started) > SLOW_SECONDS:
            raise Wrong(f"the call took {took:.1f} s")

    def _make(self, call: Call) -> Any:
        """The result, or what the call raises."""
        crossent.set_num_threads(call.threads)
        public = getattr(crossent, call.name)
        positional: list[Any] = list(call.extra)
        named = dict(call.arguments)
        with warnings.catch_warnings(record=call.warnings == "always") as caught:
            # Of crossent's own; what NumPy has to say of absurd values is no matter here.
            warnings.simplefilter("ignore")
            if call.warnings != "ignore":
                warnings.simplefilter(call.warnings, crossent.LikelyMistakeWarning)
            if call.warnings == "always" and not call.spoiled:
                warnings.simplefilter("always")
            if call.name in OF_CLASS:
                own = tuple(inspect.signature(public).parameters)
                public = public(**{key: named.pop(key) for key in own if key in named})
                if not call.spoiled:
                    self._object(public)
                else:
                    repr(public)
            if call.name == "show_versions":
                with contextlib.redirect_stdout(io.StringIO()):
                    return public(*positional, **named)
            if positional:
                return public(*named.values(), *positional)
            result = public(**named)
        for warning in caught or ():
            if not issubclass(warning.category, crossent.LikelyMistakeWarning):
                raise Wrong(
                    f"a warning that is not of crossent: {warning.category.__name__}: {warning.message}"
                )
        return result

    def _object(self, loss: Any) -> None:
        again = pickle.loads(pickle.dumps(loss))
        if repr(again) != repr(loss) or not repr(loss).startswith(type(loss).__name__):
            raise Wrong(f"a copy is another: {again!r} and {loss!r}")
        hash(loss)
        with contextlib.suppress(AttributeError):
            loss.axis = 3
            raise Wrong("an object of options was changed")

    def _error(self, call: Call, error: BaseException) -> None:
        kind = type(error)
        # PyO3 names the argument in a note, which a traceback shows below the text.
        self.kinds[kind.__name__] = self.kinds.get(kind.__name__, 0) + 1
        text = "; ".join((str(error), *getattr(error, "__notes__", ())))
        problem = f"{kind.__module__}.{kind.__qualname__}: {text[:300]}"
        if not call.spoiled and not (call.warnings == "error" and isinstance(error, Warning)):
            raise Wrong(f"good arguments raised {problem}")
        if isinstance(error, Warning) and call.warnings == "error":
            return
        if isinstance(error, OwnError | OwnExit) or text == "own":
            return
        if isinstance(error, MemoryError):
            if not call.huge:
                raise Wrong(f"no memory for small arguments: {problem}")
            return
        if not isinstance(error, ALLOWED) or kind.__module__ != "builtins":
            if _own(error):
                return
            raise Wrong(f"a class of error that says nothing: {problem}") from error
        if any(words in text for words in UNCLEAR):
            raise Wrong(f"an error in Rust's words: {problem}")
        names = (*parameters(call.name), call.name, function_of(call.name), "data type", "dtype")
        if not any(name in text for name in names) and not _own(error) and not _has_odd(call.arguments):
            raise Wrong(f"an error that names no argument: {problem}") from error

    def _result(self, call: Call, result: Any) -> None:
        if call.name in ("LikelyMistakeWarning", "NothingCountedWarning"):
            form = isinstance(result, UserWarning)
        elif call.name == "get_num_threads":
            form = type(result) is int and result == call.threads
        elif FUNCTIONS[call.name] is good_threads:
            form = result is None
        else:
            self._numbers(call, result)
            return
        if not form:
            raise Wrong(f"the result is {result!r}")

    def _numbers(self, call: Call, result: Any) -> None:
        name = function_of(call.name)
        arguments = {key: call.arguments[key] for key in parameters(call.name) if key in call.arguments}
        if _has_odd(arguments):
            return
        try:
            forms = expected_form(name, arguments)
        except Exception as error:
            raise Wrong(f"a result of arguments that have none: {error!r}") from error
        results = flat(result)
        if len(results) != len(forms):
            raise Wrong(f"{len(results)} results, expected {len(forms)}")
        keys = ("out", "grad_out", "", "")
        for key, got, (shape, dtype) in zip(keys, results, forms, strict=False):
            out = arguments.get(key)
            if out is not None and (key == "grad_out" or FUNCTIONS[name] is good_rows or "out" in arguments):
                if got is not out:
                    raise Wrong(f"{key} was given, and is not the result")
            elif type(got) is not np.ndarray and not (shape == () and isinstance(got, np.generic)):
                raise Wrong(f"the result is a {type(got)}")
            if got.shape != shape or got.dtype != dtype:
                raise Wrong(f"the result is {got.dtype} {got.shape}, expected {dtype} {shape}")
        plain = [v for v in call.plain.values() if _is(v, np.ndarray)]
        if not call.spoiled and all(v.ndim <= 30 and not is_long(v.shape) for v in plain):
            # NumPy broadcasts no more dimensions than 32, and the definitions number the classes.
            self._values(call, name, results)

    def _values(self, call: Call, name: str, results: tuple[Any, ...]) -> None:
        plain = dict(call.plain)
        expected = expected_values(name, plain)
        self.compared += 1
        given = _native(read(call.arguments["input" if "input" in call.arguments else "x"]).dtype)
        least = TOLERANCE["float64" if given == np.float64 else "float32"]
        keys = ("the loss", "the gradient", "that of the matrix", "that of the bias")
        for key, got, right in zip(keys, results, expected, strict=False):
            tolerance = max(least, TOLERANCE[got.dtype.name])
            wide = np.asarray(got).astype(np.float64)
            scale = np.abs(right).max(initial=1.0, where=np.isfinite(right))
            if key == "the loss" and (wide.ndim == 0 or name == "logsumexp"):
                scale = max(scale, 10.0)
            near = np.isclose(wide, right, rtol=tolerance, atol=tolerance * scale, equal_nan=True)
            if not near.all():
                at = tuple(int(i) for i in np.argwhere(~near)[0])
                raise Wrong(f"{key} is {wide[at]!r} at {at}, expected {right[at]!r}")


ARRAYS = tuple(key for key, spoil in PARAMETERS.items() if spoil is bad_array)


def _plainly(call: Call) -> Call | None:
    """The same call with plain arrays in memory of their own, on other threads."""
    if call.name in RARE or call.extra or _has_odd(call.arguments):
        return None
    arguments = {k: v for k, v in call.arguments.items() if k not in ("out", "grad_out")}
    try:
        for key in ARRAYS:
            if arguments.get(key) is not None:
                arguments[key] = read(arguments[key]).copy()
                arguments[key] = arguments[key].astype(_native(arguments[key].dtype))
    except Exception:  # noqa: BLE001
        return None
    return Call(call.number, call.name, arguments, 4 - call.threads, "ignore", ["copied"])


def _own(error: BaseException | None) -> bool:
    """Whether an argument of this file raised it, or what it came from."""
    while error is not None:
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_name in ("method", "__array_finalize__", "T"):
                return True
            trace = trace.tb_next
        error = error.__cause__
    return False


def _has_odd(arguments: dict[str, Any]) -> bool:
    """Whether an argument need not say the same when it is read again."""
    return any(
        type(v).__name__ == "Odd" or (_is(v, Awkward | Finalizing) and key not in ("out", "grad_out"))
        for key, v in arguments.items()
    )


# ---- processes ------------------------------------------------------------------------------------------


def _limit_memory() -> None:
    """Let what is huge find no memory, without asking for all that there is."""
    if sys.platform == "win32":
        return
    import resource

    if HAS_TORCH:
        torch()  # maps more than the cases need
    pages = Path("/proc/self/statm")
    if pages.exists():
        limit = int(pages.read_text().split()[0]) * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def judge_in_child(judge: Judge, call: Call) -> None:
    """The same in a process that is ended if it takes long, as it may."""
    if not hasattr(os, "fork"):
        return
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, HUGE_SECONDS)
        try:
            judge.judge(call)
        except Wrong as wrong:
            os.write(writer, str(wrong).encode(errors="replace")[:4000])
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, errors="replace") as pipe:  # noqa: PTH123
        problem = pipe.read()
    ended = os.WTERMSIG(os.waitpid(child, 0)[1])
    judge.unfinished += ended == signal.SIGALRM
    if ended not in (0, signal.SIGALRM):
        problem = f"the process was ended by {signal.Signals(ended).name}"
    if problem:
        raise Wrong(problem)


def unraisable(told: sys.UnraisableHookArgs) -> None:
    """Say nothing of a name that cannot be printed."""
    if not isinstance(told.exc_value, OwnError):
        sys.__unraisablehook__(told)


def work(seed: int, count: int, most: int, progress: Any = None) -> int:
    """Make the calls of these cases; the number of wrong ones, which are printed."""
    judge = Judge()
    _limit_memory()
    sys.unraisablehook = unraisable
    wrong = 0
    started = time.perf_counter()
    for number in range(seed, seed + count):
        if (number - seed) % BATCH == 0:
            faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
        if progress is not None:
            progress[:8] = number.to_bytes(8, "little")
        try:
            call = case(number)
        except Exception:
            print(f"case {number}: cannot be made", flush=True)
            raise
        try:
            (judge_in_child if call.huge else Judge.judge)(judge, call)
        except Wrong as problem:
            wrong += 1
            print(f"case {number}: {problem}\n    {call}\n    {again(number)}", flush=True)
            if wrong >= most:
                break
    faulthandler.cancel_dump_traceback_later()
    took = time.perf_counter() - started
    print(
        f"{judge.returned} calls returned ({judge.compared} compared with their definition, {judge.repeated} with "
        f"plain arrays), {judge.raised} raised {judge.kinds}, {judge.unfinished} huge ones had no time, "
        f"{wrong} were wrong; {took:.1f} s",
        flush=True,
    )
    if progress is not None:
        progress[:8] = DONE
    return wrong


def again(number: int) -> str:
    isa = os.environ.get("CROSSENT_ISA")
    return f"{f'CROSSENT_ISA={isa} ' if isa else ''}python tests/support/fuzz.py --seed {number} --count 1"


def supervise(seed: int, count: int, most: int) -> int:
    """Have a worker make the calls, and another the rest if it ends before."""
    end, wrong = seed + count, 0
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(8)
        with mmap.mmap(file.fileno(), 8) as progress:
            while seed < end and wrong < most:
                progress[:8] = seed.to_bytes(8, "little")
                worker = [sys.executable, "-X", "faulthandler", WORKER, "--worker", file.name]
                numbers = ["--seed", str(seed), "--count", str(end - seed), "--most", str(most - wrong)]
                code = subprocess.run([*worker, *numbers], check=False).returncode
                if progress[:8] == DONE:
                    return wrong + code
                number = int.from_bytes(progress[:8], "little")
                ended = (
                    f"was ended by {signal.Signals(-code).name}"
                    if code < 0
                    else f"ended with {code}, perhaps for it hung"
                )
                print(
                    f"case {number}: the process {ended}\n    {case(number)}\n    {again(number)}", flush=True
                )
                wrong += 1
                seed = number + 1
    return wrong


def main() -> int:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="the number of the first case")
    parser.add_argument("--count", type=int, default=10_000, help="how many cases")
    parser.add_argument("--most", type=int, default=20, help="stop after so many wrong ones")
    parser.add_argument("--show", action="store_true", help="print the calls and do not make them")
    parser.add_argument("--worker", metavar="FILE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.show:
        for number in range(options.seed, options.seed + options.count):
            print(f"case {number}: {case(number)}")
        return 0
    if options.worker is None:
        return min(supervise(options.seed, options.count, options.most), 1)
    with Path(options.worker).open("r+b") as file, mmap.mmap(file.fileno(), 8) as progress:
        return min(work(options.seed, options.count, options.most, progress), 1)


if __name__ == "__main__":
    sys.exit(main())
