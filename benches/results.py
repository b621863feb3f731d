"""What the benchmark measured: ratios, targets, the summary, and the table."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cases import LIMIT, MICROSECONDS, NANOSECONDS, ONE_THREAD, PLAIN, Case
from limits import LIMITS
from peers import PEERS

SLOWER = 1.05  # what times the earlier build's time counts as slower


@dataclass
class Result:
    """What one case gave: seconds a call, by contender and round; nan in rounds that it sat out."""

    case: Case
    elements: int
    seconds: dict[str, list[float]] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)

    def median(self, name: str | None) -> float | None:
        times = [t for t in self.seconds.get(name or "", ()) if t == t]
        return statistics.median(times) if times else None

    def ratio(self, name: str | None) -> float | None:
        """How many times longer than crossent it took: the median of the rounds' ratios."""
        if name not in self.seconds or "crossent" not in self.seconds:
            return None
        pairs = zip(self.seconds[name], self.seconds["crossent"], strict=True)
        return statistics.median(other / own for other, own in pairs if other == other and own == own)

    def over(self, name: str | None) -> float | None:
        """How many times longer than this contender crossent took."""
        ratio = self.ratio(name)
        return None if ratio is None else 1 / ratio

    def fastest(self, names: list[str]) -> str | None:
        times = {name: time for name in names if (time := self.median(name)) is not None}
        return min(times, key=lambda name: times[name]) if times else None

    @property
    def peer(self) -> str | None:
        """The fastest contender besides crossent and torch."""
        return self.fastest([name for name in PEERS if name != "torch"])

    @property
    def limit(self) -> str | None:
        return self.fastest([name for name in self.seconds if name.startswith(LIMITS)])

    @property
    def measured(self) -> float | None:
        """The figure that the target is about."""
        own = self.median("crossent")
        if own is None:
            return None
        return {
            LIMIT: self.over(self.limit),
            PLAIN: self.over("cross_entropy"),
            ONE_THREAD: self.ratio("one thread"),
            MICROSECONDS: own * 1e6,
            NANOSECONDS: own * 1e9 / self.elements,
        }[self.case.target.unit]

    @property
    def met(self) -> bool:
        """Whether the target was reached."""
        target, measured = self.case.target, self.measured
        if measured is None:
            return False
        return measured >= target.figure if target.unit == ONE_THREAD else measured <= target.figure

    @property
    def behind(self) -> list[str]:
        """Of torch and the fastest other library, those that were faster."""
        return [
            name
            for name in ("torch", self.peer)
            if name is not None and (ratio := self.ratio(name)) is not None and ratio < 1
        ]

    @property
    def slower(self) -> bool:
        """Whether it takes longer than the earlier build did."""
        over = self.over("before")
        return over is not None and over > SLOWER


# ---- the summary ------------------------------------------------------------------------------------------


def mean_ratio(ratios: list[float | None]) -> tuple[float | None, int]:
    """The geometric mean of those that there are, and their number."""
    known = [ratio for ratio in ratios if ratio is not None]
    return (statistics.geometric_mean(known) if known else None), len(known)


def summary(results: list[Result]) -> dict[str, Any]:
    """Geometric means over all cases, the number of targets that were met, and the cases that fall behind."""
    ratios = {
        "torch / crossent": [result.ratio("torch") for result in results],
        "fastest other / crossent": [result.ratio(result.peer) for result in results],
        "crossent / limit": [result.over(result.limit) for result in results],
        "before / crossent": [result.ratio("before") for result in results],
    }
    means = {name: mean_ratio(each) for name, each in ratios.items()}
    return {
        "geometric_means": {
            name: {"ratio": ratio, "cases": cases} for name, (ratio, cases) in means.items() if cases
        },
        "targets": len(results),
        "targets_met": sum(result.met for result in results),
        "targets_missed": [result.case.name for result in results if not result.met],
        "behind": {result.case.name: result.behind for result in results if result.behind},
        "slower_than_before": [result.case.name for result in results if result.slower],
    }


def summary_lines(results: list[Result], *, against: bool) -> Iterator[str]:
    found = summary(results)
    means = (
        f"{name} {times(each['ratio'])} (cases: {each['cases']})"
        for name, each in found["geometric_means"].items()
    )
    yield "geometric means: " + ", ".join(means)
    yield f"targets met: {found['targets_met']} of {found['targets']}"
    behind = (f"{case} ({', '.join(names)})" for case, names in found["behind"].items())
    yield "behind torch or the fastest other library: " + ("; ".join(behind) or "none")
    if against:
        slower = "; ".join(found["slower_than_before"]) or "none"
        yield f"slower than before by more than {SLOWER - 1:.0%}: {slower}"


# ---- the table and the file -------------------------------------------------------------------------------


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1e6:.2f} us" if seconds < 1e-4 else f"{seconds * 1e3:.2f} ms"


def times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.1f}x" if ratio >= 10 else f"{ratio:.2f}x"


def target_of(result: Result) -> str:
    """The target, what was measured, and whether that is good enough."""
    target, measured = result.case.target, result.measured
    if measured is None:
        return f"{target}: not measured"
    return f"{target}: {measured:.2f} {'yes' if result.met else 'NO'}"


COLUMNS = {  # what each holds, and whether its text begins on the left
    "case": True,
    "crossent": False,
    "torch": False,
    "torch / crossent": False,
    "fastest other": True,
    "other / crossent": False,
    "crossent / limit": False,
    "before / crossent": False,
    "target": True,
}


def row_of(result: Result) -> dict[str, str]:
    peer = result.peer
    remarks = [
        target_of(result),
        *(f"BEHIND {name}" for name in result.behind),
        *(["SLOWER"] if result.slower else []),
        *(f"WRONG: {name}" for name in result.wrong),
    ]
    return {
        "case": result.case.name,
        "crossent": duration(result.median("crossent")),
        "torch": duration(result.median("torch")),
        "torch / crossent": times(result.ratio("torch")),
        "fastest other": "-" if peer is None else f"{peer} {duration(result.median(peer))}",
        "other / crossent": times(result.ratio(peer)),
        "crossent / limit": times(result.over(result.limit)),
        "before / crossent": times(result.ratio("before")),
        "target": "; ".join(remarks),
    }


def table_lines(results: list[Result], *, against: bool, markdown: bool) -> Iterator[str]:
    left = [begins for name, begins in COLUMNS.items() if against or name != "before / crossent"]
    header = [name for name in COLUMNS if against or name != "before / crossent"]
    rows = [header, *([row[name] for name in header] for row in map(row_of, results))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        cells = [
            cell.ljust(width) if begins else cell.rjust(width)
            for cell, width, begins in zip(row, widths, left, strict=True)
        ]
        yield "| " + " | ".join(cells) + " |" if markdown else "  ".join(cells).rstrip()
        if number == 0 and markdown:
            yield "|" + "|".join(" --- " if begins else " ---: " for begins in left) + "|"


def json_of(result: Result) -> dict[str, Any]:
    target = result.case.target
    return {
        "case": result.case.name,
        "seconds": {n: [t for t in times if t == t] for n, times in result.seconds.items()},
        "median_seconds": {name: result.median(name) for name in result.seconds},
        "ratio_to_crossent": {name: result.ratio(name) for name in result.seconds},
        "fastest_other": result.peer,
        "limit": result.limit,
        "crossent_over_limit": result.over(result.limit),
        "target": {"figure": target.figure, "unit": target.unit.strip()},
        "measured": result.measured,
        "met": result.met,
        "behind": result.behind,
        "largest_error": result.errors,
        "wrong": result.wrong,
        "absent": result.absent,
    }
