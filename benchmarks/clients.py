"""Clients against nghttpd, 100 small GETs at a time on one connection.

``python -m benchmarks.clients NAME --port N --requests N`` runs one of them and prints the
seconds of its own CPU and of the clock as JSON; ``python -m benchmarks --only clients`` runs all.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import functools
import importlib
import importlib.util
import json
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RemoteSettingsChanged, StreamEnded

from .processes import LOAD_CORE, ROOT, Server, confine, running
from .tables import ratio, table

__all__ = ["CLIENTS", "TITLE", "Client", "Figures", "missing", "report", "run"]

AT_ONCE: Final = 100
TITLE: Final = f"clients, {AT_ONCE} small GETs at a time on one connection to nghttpd"
_LIFETIME: Final = 120.0
_WARM_UP: Final = 500

# Makes so many requests, on one connection however often it is called.
_Get = Callable[[int], Awaitable[None]]


async def _by_workers(one: Callable[[], Awaitable[None]], requests: int) -> None:
    """Have ``AT_ONCE`` tasks make the requests between them."""
    left = requests

    async def work() -> None:
        nonlocal left
        while left:
            left -= 1
            await one()

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))


async def with_aioh2(port: int, measure: Callable[[_Get], Awaitable[None]]) -> None:
    """aioh2's client, by handle."""
    aioh2 = importlib.import_module("aioh2")
    async with aioh2.open_connection("127.0.0.1", port) as connection:

        async def one() -> None:
            async with connection.open_stream({":path": "/"}, end_stream=True) as stream:
                await stream.recv_response()
                await stream.read(-1)

        await measure(functools.partial(_by_workers, one))


async def with_aioh2_ids(port: int, measure: Callable[[_Get], Awaitable[None]]) -> None:
    """aioh2's client, by stream id."""
    aioh2 = importlib.import_module("aioh2")
    async with aioh2.open_connection("127.0.0.1", port) as connection:

        async def one() -> None:
            stream_id = await connection.start_request({":path": "/"}, end_stream=True)
            await connection.recv_response(stream_id)
            await connection.read_stream(stream_id, -1)

        await measure(functools.partial(_by_workers, one))


async def with_httpx(port: int, measure: Callable[[_Get], Awaitable[None]]) -> None:
    """httpx, on one connection."""
    httpx = importlib.import_module("httpx")
    limits = httpx.Limits(max_connections=1)
    async with httpx.AsyncClient(
        http1=False, http2=True, limits=limits, timeout=None, trust_env=False
    ) as client:

        async def one() -> None:
            response = await client.get(f"http://127.0.0.1:{port}/")
            assert response.status_code == 200 and response.http_version == "HTTP/2"

        await measure(functools.partial(_by_workers, one))


class BareClient(asyncio.Protocol):
    """What h2 itself costs: no streams, queues or tasks; a request that ends starts the next."""

    def __init__(self, port: int) -> None:
        self._connection = H2Connection(H2Configuration(client_side=True))
        self._transport: asyncio.Transport | None = None
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self._done: asyncio.Future[None] = loop.create_future()
        # Requests to start, and those that have not ended.
        self._to_start = self._to_end = 0
        self._headers = [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", f"127.0.0.1:{port}"),
            (":path", "/"),
        ]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connection.initiate_connection()
        self._flush()

    def data_received(self, data: bytes) -> None:
        connection = self._connection
        for event in connection.receive_data(data):
            if isinstance(event, DataReceived):
                length = event.flow_controlled_length
                connection.acknowledge_received_data(length, event.stream_id)
            elif isinstance(event, StreamEnded):
                self._ended()
            elif isinstance(event, RemoteSettingsChanged) and not self.ready.done():
                self.ready.set_result(None)
        self._flush()

    def _ended(self) -> None:
        self._to_end -= 1
        if self._to_start:
            self._start()
        elif not self._to_end:
            self._done.set_result(None)

    def _start(self) -> None:
        self._to_start -= 1
        stream_id = self._connection.get_next_available_stream_id()
        self._connection.send_headers(stream_id, self._headers, end_stream=True)

    async def get(self, requests: int) -> None:
        """Make so many requests."""
        self._done = asyncio.get_running_loop().create_future()
        self._to_start = self._to_end = requests
        for _ in range(min(AT_ONCE, requests)):
            self._start()
        self._flush()
        await self._done

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(ConnectionError("the server has closed the connection"))

    def _flush(self) -> None:
        data = self._connection.data_to_send()
        if data:
            assert self._transport is not None
            self._transport.write(data)


async def with_bare_h2(port: int, measure: Callable[[_Get], Awaitable[None]]) -> None:
    """An asyncio.Protocol around h2."""
    loop = asyncio.get_running_loop()
    transport, client = await loop.create_connection(lambda: BareClient(port), "127.0.0.1", port)
    await client.ready
    await measure(client.get)
    transport.close()


_WITH: Final[dict[str, Callable[..., Awaitable[None]]]] = {
    "aioh2": with_aioh2,
    "aioh2-ids": with_aioh2_ids,
    "bare-h2": with_bare_h2,
    "httpx": with_httpx,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Client:
    """A client to run: a name for the table, and the arguments of this module."""

    label: str
    name: str
    arguments: tuple[str, ...] = ()


CLIENTS: Final = tuple(_WITH)


def missing(name: str) -> str | None:
    """Say what has to be installed for the client ``name`` to run; None: nothing."""
    if name == "httpx" and importlib.util.find_spec("httpx") is None:
        return "the Python package 'httpx[http2]'"
    return None


@dataclasses.dataclass(frozen=True)
class Figures:
    """One run: seconds of the client's CPU and of the clock for so many requests."""

    requests: int
    cpu: float
    wall: float


def _run_one(client: Client, port: int, requests: int) -> Figures:
    command = [sys.executable, "-m", "benchmarks.clients", client.name, "--port", str(port)]
    done = subprocess.run(
        [*command, "--requests", str(requests), *client.arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_LIFETIME,
        check=False,
        preexec_fn=functools.partial(confine, LOAD_CORE, _LIFETIME),
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().rpartition("\n")[2] or str(done.returncode))
    return Figures(requests, **json.loads(done.stdout))


def run(
    clients: list[Client],
    rounds: int,
    requests: int,
    folder: pathlib.Path,
    say: Callable[[str], None],
) -> dict[str, list[Figures | None]]:
    """Measure each client in interleaved rounds, each time against a fresh nghttpd."""
    figures: dict[str, list[Figures | None]] = {client.label: [] for client in clients}
    server = Server(label="nghttpd", name="nghttpd", arguments=("--files", str(folder)))
    for _ in range(rounds):
        for client in clients:
            try:
                with running(server, lifetime=2 * _LIFETIME) as (_pid, port):
                    figures[client.label].append(_run_one(client, port, requests))
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                say(f"clients: {client.label}: {error}")
                figures[client.label].append(None)
    return figures


def report(figures: dict[str, list[Figures | None]], against: list[str]) -> str:
    """The table of medians, and of ratios within rounds."""
    against = [label for label in against if any(figures.get(label, ()))]
    rows = [["client", "CPU us/request", "requests/s", *(f"x {label}" for label in against)]]
    for label, runs in figures.items():
        good = [one for one in runs if one is not None]
        if not good:
            continue
        cells = [
            label,
            f"{statistics.median(one.cpu / one.requests for one in good) * 1e6:.1f}",
            f"{statistics.median(one.requests / one.wall for one in good):,.0f}",
        ]
        for other in against:
            pairs = zip(figures[other], runs, strict=True)
            cells.append(ratio([a.cpu / b.cpu for a, b in pairs if a and b]))
        rows.append(cells)
    return table(rows)


async def _measure(get: _Get, requests: int) -> None:
    await get(_WARM_UP)
    wall, cpu = time.perf_counter(), time.process_time()
    await get(requests)
    figures = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
    print(json.dumps(figures), flush=True)


def main() -> None:
    """Run one client."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clients", description=__doc__)
    parser.add_argument("name", choices=CLIENTS)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--uvloop", action="store_true", help="run on uvloop")
    parser.add_argument("--path", metavar="DIR", help="take aioh2 from this folder")
    options = parser.parse_args()
    if options.path:
        sys.path.insert(0, options.path)

    async def measured() -> None:
        run_client = _WITH[options.name]
        await run_client(options.port, functools.partial(_measure, requests=options.requests))

    factory: Any = importlib.import_module("uvloop").new_event_loop if options.uvloop else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(measured())


if __name__ == "__main__":
    main()
