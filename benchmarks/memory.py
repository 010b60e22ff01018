"""Memory that a server keeps: per idle connection, per open stream, per finished request.

Resident memory, as differences between two points of one process, so that neither start-up nor
the first of each kind counts.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable
from typing import Final

from .processes import Server, cpu_seconds, rss, running
from .tables import table
from .wire import Client

__all__ = ["MEASURES", "report", "run"]

CONNECTIONS: Final = 500
STREAMS: Final = 2000
# Less than h2 keeps a record of: beyond, a request leaves nothing.
REQUESTS: Final = 30_000
_LIFETIME: Final = 120.0
_QUIET: Final = 0.1


def _settle(pid: int) -> int:
    """Wait until the server has nothing to do; return its memory."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        before = cpu_seconds(pid)
        time.sleep(_QUIET)
        if cpu_seconds(pid) - before < 0.02 * _QUIET:
            break
    return rss(pid)


def idle_connection(server: Server) -> float:
    """Bytes per idle cleartext connection."""
    with running(server, lifetime=_LIFETIME) as (pid, port), contextlib.ExitStack() as stack:

        def connect(count: int) -> int:
            for _ in range(count):
                stack.enter_context(Client(port))
            return _settle(pid)

        before = connect(100)
        return (connect(CONNECTIONS) - before) / CONNECTIONS


def open_stream(server: Server) -> float:
    """Bytes per open stream: a request whose body does not come."""
    with (
        running(server, "--concurrency", "10000", lifetime=_LIFETIME) as (pid, port),
        Client(port) as client,
    ):
        client.open_uploads(200)
        before = _settle(pid)
        client.open_uploads(STREAMS)
        return (_settle(pid) - before) / STREAMS


def finished_request(server: Server) -> float:
    """Bytes that a connection keeps for each request that is over."""
    with running(server, lifetime=_LIFETIME) as (pid, port), Client(port) as client:
        client.get(10_000)
        before = _settle(pid)
        client.get(REQUESTS)
        return (_settle(pid) - before) / REQUESTS


MEASURES: Final[dict[str, Callable[[Server], float]]] = {
    "idle_connection": idle_connection,
    "open_stream": open_stream,
    "finished_request": finished_request,
}


def run(
    servers: list[Server], rounds: int, say: Callable[[str], None]
) -> dict[str, dict[str, list[float]]]:
    """Measure each server in interleaved rounds; return the bytes, by server and measure."""
    figures: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        for server in servers:
            for name, measure in MEASURES.items():
                try:
                    value = measure(server)
                except (OSError, RuntimeError) as error:
                    say(f"memory, {name}: {server.label}: {error}")
                else:
                    figures.setdefault(server.label, {}).setdefault(name, []).append(value)
    return figures


def report(figures: dict[str, dict[str, list[float]]]) -> str:
    """The table of medians."""
    rows = [["server", "KiB/idle connection", "KiB/open stream", "bytes/finished request"]]
    for label, values in figures.items():
        cells = [label]
        for name in MEASURES:
            if name not in values:
                cells.append("-")
                continue
            middle = statistics.median(values[name])
            cells.append(f"{middle:.0f}" if name == "finished_request" else f"{middle / 1024:.1f}")
        rows.append(cells)
    return table(rows)
