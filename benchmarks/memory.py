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

__all__ = ["MEASURES", "TITLE", "report", "run"]

TITLE: Final = "memory that a server keeps"
CONNECTIONS: Final = 500
STREAMS: Final = 2000
# Of whose streams there are fewer, and why.
_FEWER_STREAMS: Final = {"hypercorn": (700, "beyond 1,000 streams its PriorityTree raises")}
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


def _idle(server: Server, *arguments: str) -> float:
    with (
        running(server, *arguments, lifetime=_LIFETIME) as (pid, port),
        contextlib.ExitStack() as stack,
    ):

        def connect(count: int) -> int:
            for _ in range(count):
                stack.enter_context(Client(port, tls=bool(arguments)))
            return _settle(pid)

        before = connect(100)
        return (connect(CONNECTIONS) - before) / CONNECTIONS


def idle_connection(server: Server, tls: tuple[str, ...] | None) -> float:
    """Bytes per idle cleartext connection."""
    return _idle(server)


def idle_tls_connection(server: Server, tls: tuple[str, ...] | None) -> float | None:
    """Bytes per idle TLS connection."""
    return _idle(server, *tls) if tls else None


def open_stream(server: Server, tls: tuple[str, ...] | None) -> float:
    """Bytes per open stream: a request whose body does not come."""
    streams, _ = _FEWER_STREAMS.get(server.name, (STREAMS, ""))
    with (
        running(server, "--concurrency", "10000", lifetime=_LIFETIME) as (pid, port),
        Client(port) as client,
    ):
        client.open_uploads(200)
        before = _settle(pid)
        client.open_uploads(streams)
        return (_settle(pid) - before) / streams


def finished_request(server: Server, tls: tuple[str, ...] | None) -> float:
    """Bytes that a connection keeps for each request that is over."""
    with running(server, lifetime=_LIFETIME) as (pid, port), Client(port) as client:
        client.get(10_000)
        before = _settle(pid)
        client.get(REQUESTS)
        return (_settle(pid) - before) / REQUESTS


# For TLS, the arguments of the servers; None where it cannot be had.
_Measure = Callable[[Server, tuple[str, ...] | None], float | None]
MEASURES: Final[dict[str, _Measure]] = {
    "idle_connection": idle_connection,
    "idle_tls_connection": idle_tls_connection,
    "open_stream": open_stream,
    "finished_request": finished_request,
}
# What the table says of each, and the unit's bytes.
_HEADS: Final = {
    "idle_connection": ("KiB/idle connection", 1024, ".1f"),
    "idle_tls_connection": ("over TLS", 1024, ".1f"),
    "open_stream": ("KiB/open stream", 1024, ".1f"),
    "finished_request": ("bytes/finished request", 1, ".0f"),
}


def run(
    servers: list[Server],
    rounds: int,
    tls: tuple[str, ...] | None,
    say: Callable[[str], None],
) -> dict[str, dict[str, list[float]]]:
    """Measure each server in interleaved rounds; return the bytes, by server and measure."""
    for server in servers:
        if server.name in _FEWER_STREAMS:
            streams, why = _FEWER_STREAMS[server.name]
            say(f"memory, open_stream: {server.label}: with {streams} streams: {why}")
    figures: dict[str, dict[str, list[float]]] = {}
    for number in range(rounds):
        say(f"memory: round {number + 1} of {rounds}")
        for server in servers:
            for name, measure in MEASURES.items():
                try:
                    value = measure(server, tls)
                except (OSError, RuntimeError) as error:
                    say(f"memory, {name}: {server.label}: {error}")
                    continue
                if value is not None:
                    figures.setdefault(server.label, {}).setdefault(name, []).append(value)
    return figures


def report(figures: dict[str, dict[str, list[float]]]) -> str:
    """The table of medians."""
    rows = [["server", *(head for head, _, _ in _HEADS.values())]]
    for label, values in figures.items():
        cells = [label]
        for name, (_, unit, form) in _HEADS.items():
            measured = values.get(name)
            cells.append(f"{statistics.median(measured) / unit:{form}}" if measured else "n/a")
        rows.append(cells)
    return table(rows)
