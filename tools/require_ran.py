"""Fail unless a test module ran, and ran whole: `require_ran.py REPORT.xml MODULE`.

REPORT.xml is what `pytest --junitxml` writes. A module that is skipped because a package is missing looks
like a success to pytest; where the comparison with that package is the point of the run, it is a failure.
"""

import sys
import xml.etree.ElementTree as ET


def count(report: str, module: str) -> tuple[int, int]:
    """Return how many tests of the module ran, and how many were skipped."""
    ran = skipped = 0
    for case in ET.parse(report).iter("testcase"):
        # A module that is skipped while it is imported is reported as one case: no class, its own name.
        name = case.get("classname") or case.get("name") or ""
        if module not in name.split("."):
            continue
        if case.find("skipped") is None:
            ran += 1
        else:
            skipped += 1
    return ran, skipped


def main(report: str, module: str) -> int:
    """Print the two counts and return the exit code."""
    ran, skipped = count(report, module)
    print(f"{module}: {ran} ran, {skipped} skipped")
    if ran and not skipped:
        return 0
    print(f"error: every test of {module} must run here", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
