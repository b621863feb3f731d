"""Check that a change leaves every bit of every result as it was.

    python tools/bits.py record FILE     # before the change
    python tools/bits.py compare FILE    # after it, on the same machine

What is recorded is a hash of the results of each function at each instruction set: over the rows of
tests/numerics/test_same_bits.py, with every dtype, every kernel and both orders of axes, and over the good calls among
the cases of tests/support/fuzz.py. The inputs come from NumPy, whose own exponentials differ from processor to
processor: a record belongs to the machine that made it, and to those tests; it is not kept in the repository.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CASES = 20_000
Digests = dict[str, str]


def results() -> Iterator[tuple[str, bytes]]:
    """Every function's name, and bytes that hold its results."""
    import numpy as np

    import test_same_bits as same  # type: ignore[import-not-found]
    from arrays import DTYPES  # type: ignore[import-not-found]

    for dtype in DTYPES:
        for shape in (*same.LEVEL_SHAPES, *same.SHARED):
            rows = same._rows(*shape, dtype)
            spoilt = same._spoilt(rows)
            for r in (rows, rows.each(np.asfortranarray, lambda a: a, 1)):
                yield from ((key, _bytes(arrays)) for key, arrays in same._everything(r))
            for r in (spoilt, spoilt.each(np.asfortranarray, lambda a: a, 1)):
                yield from ((f"{key}, spoilt", _bytes(arrays)) for key, arrays in same._per_row(r))
    yield from _fuzzed()


def _bytes(arrays: Any) -> bytes:
    return b"".join(array.tobytes() for array in arrays)


def _fuzzed() -> Iterator[tuple[str, bytes]]:
    """The results of the good calls among the fuzzer's cases."""
    import numpy as np

    import crossent
    import fuzz  # type: ignore[import-not-found]

    for number in range(CASES):
        call = fuzz.case(number)
        if call.huge or call.name in fuzz.RARE or not call.plain:
            continue
        function = getattr(crossent, call.name)
        if isinstance(function, type):
            continue
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                got = function(**call.plain)
            except (TypeError, ValueError, IndexError, OverflowError, MemoryError) as error:
                yield f"fuzz, {call.name}", type(error).__name__.encode()
                continue
        for part in _parts(got):
            array = np.asarray(part)
            if array.dtype.kind == "O":
                yield f"fuzz, {call.name}", repr(part).encode()
            elif array.size < 1 << 22:
                # Which nan a processor makes is not promised.
                known = array if array.dtype.kind in "biu" else np.where(array == array, array, np.nan)
                yield f"fuzz, {call.name}", str((array.shape, array.dtype)).encode() + known.tobytes()


def _parts(result: Any) -> Iterator[Any]:
    """What a result consists of: tuples, of gradients for instance, may hold tuples."""
    if isinstance(result, tuple):
        for part in result:
            yield from _parts(part)
    else:
        yield result


def digests() -> Digests:
    """The hash of each function's results, at the level in use."""
    hashes: dict[str, Any] = defaultdict(hashlib.sha256)
    for key, content in results():
        hashes[key].update(content)
    return {key: value.hexdigest()[:32] for key, value in hashes.items()}


def at_levels(only: str | None) -> dict[str, Digests]:
    """The hashes at every level that this machine has, or at one, each from a process of its own."""
    from crossent import _core

    recorded = {}
    for level in [only] if only else _core.build_info()["available_isas"]:
        paths = [
            ROOT / "tests/support",
            ROOT / "tests/numerics",
            *filter(None, [os.environ.get("PYTHONPATH")]),
        ]
        env = {**os.environ, "CROSSENT_ISA": level, "PYTHONPATH": os.pathsep.join(map(str, paths))}
        run = subprocess.run(
            [sys.executable, "-W", "ignore", __file__, "level"],
            env=env,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        recorded[level] = json.loads(run.stdout)
        print(f"{level}: {len(recorded[level])} functions", file=sys.stderr)
    return recorded


def differences(now: dict[str, Digests], before: dict[str, Digests]) -> list[str]:
    """What differs, by level and function; what one of the two lacks differs."""
    return [
        f"{level}: {key}"
        for level in sorted({*now, *before})
        for key in sorted({*now.get(level, {}), *before.get(level, {})})
        if now.get(level, {}).get(key) != before.get(level, {}).get(key)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=("record", "compare", "level"))
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--only", metavar="LEVEL", help="one instruction set")
    arguments = parser.parse_args()
    if arguments.what == "level":
        print(json.dumps(digests()))
        return 0
    if arguments.file is None:
        parser.error("name the file of the record")
    now = at_levels(arguments.only)
    if arguments.what == "record":
        arguments.file.write_text(json.dumps(now, indent=1, sort_keys=True) + "\n")
        return 0
    before = json.loads(arguments.file.read_text())
    found = differences(now, {level: before[level] for level in now if level in before})
    for line in found:
        print(line)
    count = sum(map(len, now.values()))
    print(
        f"{count} hashes, of which {len(found)} differ" if found else f"all {count} hashes are those recorded"
    )
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
