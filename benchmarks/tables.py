"""Figures as text: tables that are legal reStructuredText."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

__all__ = ["ratio", "table"]


def table(rows: Sequence[Sequence[str]]) -> str:
    """A simple table; the first row is its head, the first column is aligned to the left."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    rule = "  ".join("=" * width for width in widths)
    lines = [
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule])


def ratio(values: Sequence[float]) -> str:
    """The median, and what lies around it where there is more than one."""
    if not values:
        return "n/a"
    middle = f"{statistics.median(values):.2f}"
    if len(values) < 2:
        return middle
    return f"{middle} ({min(values):.2f}-{max(values):.2f})"
