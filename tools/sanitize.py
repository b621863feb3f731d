"""Run the Python tests on an extension that was built with AddressSanitizer: `make sanitize`.

    python tools/sanitize.py FOLDER [PYTEST_ARGUMENT ...]

FOLDER holds a copy of the package with that extension. Reads and writes beyond an array, or of memory that was given
back, end the process with a report, which is kept in a file: what captures a test's output would lose it. A report is
a failure even where the test expected the process to end. Before the tests, a call that reads beyond an array must be
found out: an extension that is not instrumented passes everything.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

# What AddressSanitizer itself changes, each with the reason.
LEFT_OUT = {
    "tests/process/test_memory.py": "measures memory, which shadows and quarantines take a part of",
    "tests/cli/test_cli_memory.py": "measures memory",
    "tests/process/test_kept_memory.py::test_little_memory_is_kept_and_given_up_where_there_is_no_other": (
        "measures memory"
    ),
    "tests/process/test_threads.py::test_where_no_thread_can_be_started_the_caller_works_alone": "limits memory",
    "tests/project/test_count_instructions.py": "counts the instructions of the extension as it is shipped",
    "tests/numerics/test_accuracy_table.py": "compares figures with those of the extension as it is shipped",
    "tests/project/test_examples.py": "trains models for minutes, with calls that other tests make too",
    "tests/project/test_lesson.py": "the same",
    "tests/scoring/test_plot.py": "draws pictures, for minutes",
    "tests/cli/test_cli_plot.py": "the same",
}

OPTIONS = {
    "detect_leaks": "0",  # the interpreter keeps what it has until the end
    "allocator_may_return_null": "1",  # what is too large is a MemoryError
    "max_allocation_size_mb": "16384",
    "handle_segv": "0",  # faulthandler names the test
    "handle_abort": "0",
    "detect_stack_use_after_return": "1",
}

BEYOND = """
import numpy as np
import crossent
x = np.lib.stride_tricks.as_strided(np.zeros(5000, np.float32), (2, 5000), (40, 4))
crossent.logsumexp(x, 1)
print("not found")
"""


def preloaded() -> str:
    """Return the C compiler's library of AddressSanitizer, and that of C++, whose exceptions it follows."""
    found = []
    for name in ("libasan.so", "libstdc++.so"):
        command = [os.environ.get("CC", "cc"), f"-print-file-name={name}"]
        path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        if not Path(path).is_absolute():
            raise SystemExit(f"the C compiler has no {name} ({' '.join(command)} says {path}); install gcc's")
        found.append(str(Path(path).resolve()))
    return " ".join(found)


def environment(package: Path, reports: Path) -> dict[str, str]:
    """Return what every process runs under."""
    options = {**OPTIONS, "log_path": str(reports / "report")}
    return {
        **os.environ,
        "LD_PRELOAD": preloaded(),
        "ASAN_OPTIONS": ":".join(f"{key}={value}" for key, value in options.items()),
        "PYTHONMALLOC": "malloc",  # Python's own would hide where an object's memory ends
        "PYTHONPATH": os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")])),
    }


def fault_is_found(package: Path) -> bool:
    """Whether a read beyond an array is reported, as one of the extension."""
    with tempfile.TemporaryDirectory() as folder:
        env = environment(package, Path(folder))
        run = subprocess.run(
            [sys.executable, "-c", BEYOND], env=env, capture_output=True, text=True, check=False
        )
        found = "".join(report.read_text() for report in Path(folder).glob("report.*"))
        if run.returncode and "heap-buffer-overflow" in found and "crossent" in found:
            return True
        print(f"{run.stdout}{run.stderr}{found}", file=sys.stderr)
        return False


def main(folder: str, *arguments: str) -> int:
    """Check that faults are found, run the tests, and print what was reported."""
    package = Path(folder).resolve()
    if not fault_is_found(package):
        print("a read beyond an array was not reported: the extension is not instrumented", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as scratch:
        reports = Path(scratch)
        left_out = [f"--deselect={path}" if "::" in path else f"--ignore={path}" for path in LEFT_OUT]
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests", *left_out, *arguments]
        code = subprocess.run(command, env=environment(package, reports), check=False).returncode
        # There are warnings too, of memory that could not be had.
        found = [text for path in sorted(reports.glob("report.*")) if "ERROR" in (text := path.read_text())]
        print("\n".join(found), file=sys.stderr)
    for path, reason in LEFT_OUT.items():
        print(f"left out: {path} ({reason})")
    print(f"{len(found)} reports of AddressSanitizer")
    return 1 if found else code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
