"""How results are shown: in two columns, or as a table in notebooks."""

from __future__ import annotations

import math


def aligned(lines: list[tuple[str, str]]) -> str:
    """Lay out names and values in two columns."""
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in lines)


def html_table(title: str, lines: list[tuple[str, str]]) -> str:
    """Lay out names and values as a table for notebooks."""
    import html  # with a large table of entities, which `import crossent` need not load

    rows = "".join(
        f'<tr><th style="text-align: left">{html.escape(name)}</th><td>{html.escape(value)}</td></tr>'
        for name, value in lines
    )
    return f"<table><caption>{html.escape(title)}</caption><tbody>{rows}</tbody></table>"


def short(value: object) -> str:
    """Write a number with six digits at most, and anything else as it is."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def with_error(value: float | None, error: float | None) -> str:
    """Write a figure with its standard error, where it has one: that of a single row is nan."""
    return f"{value:.6g}" if error is None or math.isnan(error) else f"{value:.6g} ± {error:.2g}"


def nats_with_error(value: float, error: float) -> str:
    """Write a figure in nats as `with_error` does, and say what stands beside it."""
    name = "" if math.isnan(error) else " (standard error)"
    return f"{with_error(value, error)} nats{name}"
