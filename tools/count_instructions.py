"""Count the instructions that the kernels need for an element, and fail where they are more than those recorded.

    python tools/count_instructions.py [--record] [--only LEVEL]

Times differ from run to run on a shared machine; these counts do not. A C helper steps through a call, one instruction
at a time, and counts those of the compiled module by address. The difference between a call and one with more rows is
what its elements need; what a call costs by itself, and the interpreter, are not in it. Where most of the difference
was executed is the innermost loop: in that of long rows no vector register may be stored on the stack where there are
32 of them (AVX-512), and in the others no more than recorded but for a few: the compiler's choice of registers depends
on the path of the sources too, by which cargo names the crate and LLVM orders its functions.

Counts belong to a compiler and an instruction set. They are compared for each set that both the machine and the record
have, within 2 %, or within 10 % if the compiler is not that of the record; fewer instructions are no error. After an
intended change, `--record` writes the new figures to `tools/instructions.json`.
"""

from __future__ import annotations

import argparse
import bisect
import ctypes
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent
RECORD = FOLDER / "instructions.json"
LEVELS = ("avx512", "avx2")
TOLERANCE, OTHER_COMPILER = 0.02, 0.10
MORE_STORES = 2  # or a tenth, by which the same sources differ from one folder to another
# The kernel whose loop keeps everything in registers where there are 32 of them, whatever is recorded.
WIDE = "cross_entropy f32, 2048 classes"


class Figure(NamedTuple):
    """What a kernel needs: instructions for an element, and vector registers stored on the stack in its hot loop."""

    per_element: float
    stores: int


# ---- the calls --------------------------------------------------------------------------------------------


def kernels() -> Iterator[tuple[str, int, Callable[[int], Callable[[], Any]]]]:
    """Name, classes, and what makes a call on some rows. Each works on one thread and one chunk of rows."""
    import ml_dtypes
    import numpy as np

    from crossent import _core

    def aligned(values: Any) -> Any:
        """A copy that begins with a cache line: rows are cut where lines end."""
        room = np.empty(values.nbytes + 64, np.uint8)
        start = -room.ctypes.data % 64
        copy = room[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
        copy[...] = values
        return copy

    def logits(rows: int, classes: int, dtype: Any) -> Any:
        return aligned(np.random.default_rng(classes).standard_normal((rows, classes)).astype(dtype))

    def loss(
        classes: int, dtype: Any, *, planes: bool = False, hard: bool = False
    ) -> Callable[[int], Callable[[], Any]]:
        def make(rows: int) -> Callable[[], Any]:
            x, t = logits(rows, classes, dtype), np.arange(rows) % classes
            if planes:
                x, t = aligned(x.T)[np.newaxis], t[np.newaxis]
            w = np.ones(classes, np.float32) if hard else None
            smoothing = 0.1 if hard else 0.0
            return lambda: _core.cross_entropy(x, t, w, -100, "mean", smoothing, 0.0, None, None, None, None)

        return make

    def gradient(classes: int) -> Callable[[int], Callable[[], Any]]:
        def make(rows: int) -> Callable[[], Any]:
            x, t = logits(rows, classes, np.float32), np.arange(rows) % classes
            out = aligned(x)
            return lambda: _core.cross_entropy_and_grad(
                x, t, None, -100, "mean", 0.0, 0.0, None, None, None, None, None, out
            )

        return make

    def log_softmax(rows: int) -> Callable[[], Any]:
        x = logits(rows, 2048, np.float32)
        out = aligned(x)
        return lambda: _core.log_softmax(x, 1, out)

    def binary(rows: int) -> Callable[[], Any]:
        x = logits(rows, 1024, np.float32)
        t = (x > 1).astype(np.float32)
        return lambda: _core.binary_cross_entropy_with_logits(x, t, None, None, "mean", None, None)

    def score(rows: int) -> Callable[[], Any]:
        x, t = logits(rows, 2048, np.float32), np.arange(rows)
        return lambda: _core.score(x, t, -100, None, 1, 0, False)

    yield WIDE, 2048, loss(2048, np.float32)
    yield "cross_entropy f16, 2048 classes", 2048, loss(2048, np.float16)
    yield "cross_entropy bf16, 2048 classes", 2048, loss(2048, ml_dtypes.bfloat16)
    yield "cross_entropy f64, 2048 classes", 2048, loss(2048, np.float64)
    yield "cross_entropy f32, 10 classes", 10, loss(10, np.float32)
    yield "cross_entropy f32, 2 classes", 2, loss(2, np.float32)
    yield "cross_entropy f32, 21 planes", 21, loss(21, np.float32, planes=True)
    yield "cross_entropy f32, 150 planes", 150, loss(150, np.float32, planes=True)
    yield "weights and smoothing f32, 512 classes", 512, loss(512, np.float32, hard=True)
    yield "cross_entropy_and_grad f32, 2048 classes", 2048, gradient(2048)
    yield "cross_entropy_and_grad f32, 10 classes", 10, gradient(10)
    yield "log_softmax f32, 2048 classes", 2048, log_softmax
    yield "binary_cross_entropy_with_logits f32", 1024, binary
    yield "score f32, 2048 classes", 2048, score


# ---- counting ---------------------------------------------------------------------------------------------


class Mapped(NamedTuple):
    """The compiled module in memory: `size` bytes from `start` on, which is address 0 of the file."""

    path: str
    start: int
    size: int


def mapped_module() -> Mapped:
    from crossent import _core

    path = os.path.realpath(str(_core.__file__))
    spans = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5] == path:
            spans.append([int(end, 16) for end in fields[0].split("-")])
    return Mapped(path, spans[0][0], spans[-1][1] - spans[0][0])


def count_level(helper: str) -> dict[str, Figure]:
    """The figures of every kernel at the level in use."""
    import numpy as np

    import crossent

    crossent.set_num_threads(1)
    module = mapped_module()
    library = ctypes.PyDLL(helper)
    library.count_at.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p]
    counts = np.zeros(module.size, np.uint32)
    if library.count_at(module.start, module.size, counts.ctypes.data):
        raise OSError("the handler of single steps cannot be set")

    def counted(call: Callable[[], Any]) -> Counter[int]:
        call()  # what happens at the first call alone
        library.begin()
        call()
        library.end()
        met = np.flatnonzero(counts)
        result = Counter(dict(zip(met.tolist(), counts[met].tolist(), strict=True)))
        counts[met] = 0
        return result

    figures = {}
    for name, classes, make in kernels():
        few = 1 if classes >= 512 else 64 if classes <= 64 else 16
        difference = counted(make(2 * few))
        difference.subtract(counted(make(few)))
        total = difference.total()
        if total <= 0:
            raise RuntimeError(f"{name}: no instruction was counted; does the system allow single steps?")
        most = max(difference.values())
        hot = sorted(address for address, times in difference.items() if 2 * times > most)
        stores = stack_stores(executed(module.path, hot))
        figures[name] = Figure(round(total / (few * classes), 4), len(stores))
    return figures


# ---- the hot loop -----------------------------------------------------------------------------------------


def executed(path: str, addresses: list[int]) -> list[str]:
    """The instructions at these addresses of a library, as objdump writes them."""
    command = ["objdump", "-d", "--no-show-raw-insn", f"--start-address={addresses[0]}"]
    command += [f"--stop-address={addresses[-1] + 16}", path]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    instructions = []
    for line in text.splitlines():
        match = re.match(r"\s*([0-9a-f]+):\s+(.*)", line)
        if match:
            at = bisect.bisect_left(addresses, int(match[1], 16))
            if at < len(addresses) and addresses[at] == int(match[1], 16):
                instructions.append(match[2].strip())
    return instructions


def stack_stores(instructions: list[str]) -> list[str]:
    """Those that store a vector register on the stack."""
    return [text for text in instructions if re.search(r"%[xyz]mm\d+,\s*-?(0x[0-9a-f]+)?\(%r[sb]p[,)]", text)]


# ---- the record -------------------------------------------------------------------------------------------


def compiler() -> str:
    try:
        return subprocess.run(
            ["rustc", "--version"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except OSError:
        return "unknown"


def faults(
    level: str, measured: dict[str, Figure], recorded: dict[str, Figure], tolerance: float
) -> Iterator[str]:
    """What has become worse than the record."""
    for name, old in recorded.items():
        new = measured.get(name)
        if new is None:
            yield f"{level}: {name} is recorded and not counted any more"
            continue
        if new.per_element > old.per_element * (1 + tolerance):
            more = new.per_element / old.per_element - 1
            figures = f"{new.per_element} instructions an element, recorded {old.per_element}"
            yield f"{level}: {name}: {figures} ({more:+.1%})"
        if new.stores > old.stores + max(MORE_STORES, old.stores // 10):
            yield f"{level}: {name}: {new.stores} vectors stored on the stack in the hot loop, recorded {old.stores}"
    if level == "avx512" and measured[WIDE].stores:
        yield f"{level}: the innermost loop of {WIDE} stores {measured[WIDE].stores} vectors on the stack"
    for name in measured.keys() - recorded.keys():
        yield f"{level}: {name} is not recorded; run with --record"


def main() -> int:
    parser = argparse.ArgumentParser(description="Count instructions and compare them with those recorded.")
    parser.add_argument("--record", action="store_true", help=f"write the figures to {RECORD.name}")
    parser.add_argument(
        "--level", nargs=2, help=argparse.SUPPRESS
    )  # in a process of its own: where to, helper
    parser.add_argument("--only", choices=LEVELS, help="count at this level alone")
    options = parser.parse_args()
    if options.level:
        Path(options.level[0]).write_text(json.dumps(count_level(options.level[1])))
        return 0
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        print("NOT CHECKED: instructions are counted on x86-64 Linux only", file=sys.stderr)
        return 0

    from crossent import _core

    if _core.build_info()["profile"] != "release":
        print("the extension is a debug build: build it with `make`", file=sys.stderr)
        return 1
    record: dict[str, Any] = {"rustc": "", "levels": {}}
    if RECORD.exists():
        record = json.loads(RECORD.read_text())
    rustc = compiler()
    tolerance = TOLERANCE if rustc == record["rustc"] else OTHER_COMPILER
    levels: dict[str, dict[str, Figure]] = {}
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        helper = str(Path(scratch, "single_step.so"))
        subprocess.run(
            [
                os.environ.get("CC", "cc"),
                "-O2",
                "-shared",
                "-fPIC",
                "-o",
                helper,
                str(FOLDER / "single_step.c"),
            ],
            check=True,
        )
        for level in [options.only] if options.only else LEVELS:
            if level not in _core.build_info()["available_isas"]:
                print(f"NOT CHECKED: this machine has no {level}", file=sys.stderr)
                continue
            result = Path(scratch, level)
            command = [sys.executable, __file__, "--level", str(result), helper]
            subprocess.run(
                command, check=True, env={**os.environ, "CROSSENT_ISA": level, "PYTHONHASHSEED": "0"}
            )
            levels[level] = {name: Figure(*figure) for name, figure in json.loads(result.read_text()).items()}
            recorded = {n: Figure(*figure) for n, figure in record["levels"].get(level, {}).items()}
            print(f"{level}: instructions an element (recorded); vectors stored on the stack in the hot loop")
            for name, new in levels[level].items():
                old = f"({recorded[name].per_element:.3f})" if name in recorded else ""
                print(f"  {name:42} {new.per_element:8.3f} {old:>9} {new.stores:3}")
            wrong += faults(level, levels[level], recorded, tolerance)
    if options.record:
        RECORD.write_text(
            json.dumps({"rustc": rustc, "levels": {**record["levels"], **levels}}, indent=1) + "\n"
        )
        return 0
    if tolerance != TOLERANCE:
        print(f"compiled by {rustc}, recorded with {record['rustc']}: {tolerance:.0%} more are allowed")
    print(
        "\n".join(wrong) or "No kernel needs more instructions than recorded.",
        file=sys.stderr if wrong else sys.stdout,
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
