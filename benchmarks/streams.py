"""CPU of a small GET while other streams of the same connection are open: few, or thousands."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Final

from .processes import Server, cpu_seconds, running
from .tables import ratio, table
from .wire import Client

__all__ = ["TITLE", "report", "run"]

TITLE: Final = "small GETs while other streams are open"
FEW: Final = 10
MANY: Final = 5000
REQUESTS: Final = 4000
_AT_ONCE: Final = 10
# The same limit in both cases, and as many requests before the measured ones: aioh2 keeps as
# many ended streams readable, and what is compared are the open ones.
_CONCURRENCY: Final = MANY + _AT_ONCE
_LIFETIME: Final = 120.0


def cost(server: Server, open_streams: int) -> float:
    """CPU microseconds per request."""
    concurrency = str(_CONCURRENCY)
    with (
        running(server, "--concurrency", concurrency, lifetime=_LIFETIME) as (pid, port),
        Client(port) as client,
    ):
        client.open_uploads(open_streams)
        client.get(_CONCURRENCY, _AT_ONCE)
        before = cpu_seconds(pid)
        client.get(REQUESTS, _AT_ONCE)
        return (cpu_seconds(pid) - before) / REQUESTS * 1e6


def run(
    servers: list[Server], rounds: int, say: Callable[[str], None]
) -> dict[str, list[tuple[float, float]]]:
    """Measure each server in interleaved rounds; return (few, many) of each round, by server."""
    figures: dict[str, list[tuple[float, float]]] = {}
    for _ in range(rounds):
        for server in servers:
            try:
                pair = cost(server, FEW), cost(server, MANY)
            except (OSError, RuntimeError) as error:
                say(f"open streams: {server.label}: {error}")
            else:
                figures.setdefault(server.label, []).append(pair)
    return figures


def report(figures: dict[str, list[tuple[float, float]]]) -> str:
    """The table of medians."""
    rows = [["server", f"CPU us/request, {FEW} open", f"{MANY} open", "ratio"]]
    for label, pairs in figures.items():
        few = statistics.median(pair[0] for pair in pairs)
        many = statistics.median(pair[1] for pair in pairs)
        rows.append([label, f"{few:.1f}", f"{many:.1f}", ratio([b / a for a, b in pairs])])
    return table(rows)
