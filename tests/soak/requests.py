"""Many requests over one connection: memory has to stay flat, and no stream may leave anything.

    python tests/soak/requests.py --requests 100000

Client and server share the process, so each number counts both sides. Linux only (/proc).
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import os
import pathlib
import sys
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Final, NamedTuple

from h2.stream import H2Stream as ConnectionStream

import aioh2

MIB: Final = 1024 * 1024

#: What the process may grow by after the first mark.
GROWTH: Final = 8 * MIB
#: What the number of objects may grow by: caches are emptied when full, and fill again. A request
#: that left one would leave more.
OBJECT_GROWTH: Final = 4_000
#: Entries of the largest cache.
CACHED: Final = 512
#: Requests before the first look at memory, by which every cache has been full.
WARM_UP: Final = 10_000
#: How often a request is made that the server refuses.
ATTEMPTS: Final = 20
#: Stream windows of both sides: small, so that a body need not be large to wait for one.
WINDOW: Final = 16_384

_BODY: Final = bytes(range(256)) * 2
_LARGE: Final = bytes(3 * WINDOW)
_TRAILERS: Final = [("checksum", "abc")]


# --- the server's side ----------------------------------------------------------------


async def handle(stream: aioh2.H2Stream) -> None:
    """Answer as the path says; what it does not say is left to ``serve``."""
    path = str(dict(stream.request_headers)[":path"]).partition("?")[0]
    if path == "/reset":
        stream.reset(aioh2.ErrorCodes.ENHANCE_YOUR_CALM)
        return
    if path == "/never":
        await stream.recv_trailers()
    await stream.start_response({":status": "200"})
    if path in ("/unread", "/large"):
        await stream.send_data(_BODY if path == "/unread" else _LARGE, end_stream=True)
        return
    async for chunk in stream:
        await stream.send_data(chunk)
    await stream.send_trailers(await stream.recv_trailers())


# --- the client's side ----------------------------------------------------------------


def reset_code(error: aioh2.AIOH2Exception) -> int | None:
    """Return the code of the RST_STREAM that made a call fail; None where it was not one."""
    cause = error.__cause__ if isinstance(error, aioh2.SendException) else error
    return cause.error_code if isinstance(cause, aioh2.StreamReset) else None


async def echo(client: aioh2.H2Protocol, path: str) -> None:
    """Send a small body, and read it back."""
    async with client.open_stream({":method": "POST", ":path": path}) as stream:
        await stream.send_data(_BODY, end_stream=True)
        await stream.recv_response()
        assert await stream.read(-1) == _BODY


async def trailers(client: aioh2.H2Protocol, path: str) -> None:
    """The same, with trailers both ways."""
    async with client.open_stream({":method": "POST", ":path": path}) as stream:
        await stream.send_data(_BODY)
        await stream.send_trailers(_TRAILERS)
        assert await stream.read(-1) == _BODY
        assert await stream.recv_trailers() == _TRAILERS


async def weigh(client: aioh2.H2Protocol, path: str) -> None:
    """Give a stream a weight, and send a body that has to wait for its window."""
    async with client.open_stream({":method": "POST", ":path": path}) as stream:
        client.reprioritize(stream.id, weight=1 + stream.id % 256)
        _, received = await asyncio.gather(
            stream.send_data(_LARGE, end_stream=True), stream.read(-1)
        )
        assert received == _LARGE


async def unread(client: aioh2.H2Protocol, path: str) -> None:
    """Neither side reads a body: the server stops the upload, the client forgets the response."""
    stream = await client.open_stream({":method": "POST", ":path": path})
    try:
        await stream.send_data(_BODY)
        await stream.recv_trailers()
    except aioh2.AIOH2Exception as error:
        # the response may be complete before the request is (RFC 9113 section 8.1)
        if reset_code(error) != aioh2.ErrorCodes.NO_ERROR:
            raise


async def leave(client: aioh2.H2Protocol, path: str) -> None:
    """Leave a stream, which resets it, at every stage of its response."""
    async with client.open_stream({":path": path}, end_stream=True) as stream:
        for _ in range(stream.id % 10):
            await asyncio.sleep(0)  # one turn of the loop


async def cancel(client: aioh2.H2Protocol, path: str) -> None:
    """Be cancelled while a body waits for a window that does not open."""
    opened = asyncio.Event()

    async def send() -> None:
        async with client.open_stream({":method": "POST", ":path": path}) as stream:
            client.reprioritize(stream.id, weight=256)
            opened.set()
            await stream.send_data(_LARGE)

    sending = asyncio.create_task(send())
    await opened.wait()
    await client.ping()
    sending.cancel()
    await asyncio.wait([sending])
    if not sending.cancelled():
        # it was refused meanwhile
        sending.result()


async def be_reset(client: aioh2.H2Protocol, path: str) -> None:
    """Make a request that the server resets."""
    async with client.open_stream({":path": path}, end_stream=True) as stream:
        try:
            await stream.recv_response()
        except aioh2.StreamReset as error:
            if reset_code(error) != aioh2.ErrorCodes.ENHANCE_YOUR_CALM:
                raise


class Kind(NamedTuple):
    """A kind of request, and how often it comes in a hundred."""

    name: str
    share: int
    request: Callable[[aioh2.H2Protocol, str], Coroutine[Any, Any, None]]
    path: str


KINDS: Final = [
    Kind("echoed", 65, echo, "/echo"),
    Kind("with trailers", 15, trailers, "/echo"),
    Kind("with a weight", 5, weigh, "/echo"),
    Kind("never read", 5, unread, "/unread"),
    Kind("left early", 4, leave, "/large"),
    Kind("cancelled", 3, cancel, "/never"),
    Kind("reset by the server", 3, be_reset, "/reset"),
]
# The kinds of a hundred requests, mixed: 37 and 100 have no common divisor.
_MIX: Final = [
    [kind for kind in KINDS for _ in range(kind.share)][number * 37 % 100] for number in range(100)
]


class Client:
    """Makes requests, and counts them."""

    def __init__(self, protocol: aioh2.H2Protocol) -> None:
        self._protocol = protocol
        self.made = 0
        #: Streams that the server refused; each such request was made again.
        self.refused = 0

    async def make(self, count: int, at_once: int) -> None:
        """Make ``count`` requests, ``at_once`` at a time."""
        target = self.made + count
        while self.made < target:
            batch = range(self.made, min(self.made + at_once, target))
            async with asyncio.TaskGroup() as group:
                for number in batch:
                    group.create_task(self._request(number))
            self.made = batch.stop

    async def _request(self, number: int) -> None:
        kind = _MIX[number % len(_MIX)]
        for attempts_left in reversed(range(ATTEMPTS)):
            try:
                # no two requests have the same headers
                await kind.request(self._protocol, f"{kind.path}?{number}")
                return
            except aioh2.AIOH2Exception as error:
                # the server was still at work on streams that this side has cancelled
                if reset_code(error) != aioh2.ErrorCodes.REFUSED_STREAM or not attempts_left:
                    raise
                self.refused += 1


# --- what is left ---------------------------------------------------------------------


def resident_bytes() -> int:
    """Return the memory of the process, as the kernel counts it."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def give_back() -> None:
    """Collect what is garbage, and have the allocator give its pages back, where it can."""
    gc.collect()
    # of glibc
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def containers(
    value: object, path: str = "", seen: set[int] | None = None
) -> Iterator[tuple[str, Any]]:
    """Give every container that a connection's objects have as an attribute, with its name."""
    seen = set() if seen is None else seen
    seen.add(id(value))
    names: set[str] = set(getattr(value, "__dict__", ()))
    for cls in type(value).__mro__:
        names.update(getattr(cls, "__slots__", ()))
    for name in sorted(names):
        held = getattr(value, name, None)
        package = type(held).__module__.partition(".")[0]
        if isinstance(held, (dict, list, set, deque)):
            yield path + name, held
        elif package in ("aioh2", "h2", "hpack", "priority") and id(held) not in seen:
            yield from containers(held, f"{path}{name}.", seen)


def count(kind: type) -> int:
    """Return how many objects of a class there are."""
    return sum(issubclass(type(thing), kind) for thing in gc.get_objects())


class Snapshot(NamedTuple):
    """What there is at one moment, over both sides."""

    requests: int
    seconds: float
    #: Memory in bytes.
    resident: int
    objects: int
    streams: int
    tasks: int
    #: The length of each container, by side and name.
    lengths: dict[str, int]


def take(requests: int, seconds: float, sides: dict[str, aioh2.H2Protocol]) -> Snapshot:
    """Look at everything."""
    gc.collect()
    lengths = {}
    for side, protocol in sides.items():
        for name, held in containers(protocol):
            lengths[f"{side}.{name}"] = len(held)
    return Snapshot(
        requests=requests,
        seconds=seconds,
        resident=resident_bytes(),
        objects=len(gc.get_objects()),
        streams=count(aioh2.H2Stream) + count(ConnectionStream),
        tasks=len(asyncio.all_tasks()),
        lengths=lengths,
    )


def problems_between(first: Snapshot, last: Snapshot, kept: int) -> Iterator[str]:
    """Say what has grown that should not have; ``kept`` ended streams a side are no problem."""
    growth = last.resident - first.resident
    # tracemalloc's own memory grows, too
    if growth > GROWTH and not tracemalloc.is_tracing():
        yield f"memory has grown by {growth / MIB:.1f} MiB, more than {GROWTH / MIB:.1f}"
    if last.objects - first.objects > OBJECT_GROWTH:
        yield f"{last.objects - first.objects} more objects, more than {OBJECT_GROWTH}"
    if last.tasks != first.tasks:
        yield f"{last.tasks} tasks, and {first.tasks} before"
    for name, length in last.lengths.items():
        if length > max(kept, CACHED, first.lengths.get(name, 0)):
            yield f"{name} holds {length}, and {first.lengths.get(name, 0)} before"


def problems_of(side: str, protocol: aioh2.H2Protocol) -> Iterator[str]:
    """Say what a connection with no stream in flight holds of streams that have ended."""
    kept = protocol.config.concurrency
    driver = protocol._driver
    held = {
        "open streams": (len(driver.table.open), 0),
        "ended streams": (len(driver.table.ended), kept),
        "streams that nobody has accepted": (len(driver.table.inbound), 0),
        "h2's streams": (len(driver.connection.streams), kept),
        "nodes of the scheduler": (len(driver.sender._scheduler), 0),
        "bodies to send": (len(driver.sender._queues), 0),
        "unread bytes of the connection window": (driver._window.unread, 0),
    }
    for what, (number, allowed) in held.items():
        if number > allowed:
            yield f"{side}: {number} {what}, more than {allowed}"
    credit = driver.connection.inbound_flow_control_window + driver._window.owed
    if credit != protocol.config.connection_window_size:
        yield f"{side}: {credit} bytes of connection window"


# --- the run --------------------------------------------------------------------------


def print_row(*cells: object) -> None:
    """Print one row of the table."""
    print("".join(f"{cell!s:>12}" for cell in cells), flush=True)


def print_snapshot(snapshot: Snapshot) -> None:
    """Print one row of numbers."""
    print_row(
        snapshot.requests,
        f"{snapshot.seconds:.1f}",
        f"{snapshot.resident / MIB:.1f}",
        snapshot.objects,
        snapshot.streams,
        snapshot.tasks,
    )


async def soak(requests: int, at_once: int) -> list[str]:
    """Make the requests, and return what is wrong then."""
    config = aioh2.Config(initial_window_size=WINDOW)
    server = await aioh2.start_server(lambda p: p.serve(handle), "127.0.0.1", 0, config=config)
    port = server.sockets[0].getsockname()[1]
    protocol = await aioh2.open_connection("127.0.0.1", port, config=config)
    (accepted,) = server.connections
    sides = {"client": protocol, "server": accepted}
    client = Client(protocol)
    started = time.perf_counter()

    async def snapshot() -> Snapshot:
        for _ in range(3):
            # what was sent before a PING has been handled when its ACK is there
            await protocol.ping()
        taken = take(client.made, time.perf_counter() - started, sides)
        print_snapshot(taken)
        return taken

    print_row("requests", "seconds", "RSS MiB", "objects", "streams", "tasks")
    warm_up = min(WARM_UP, requests // 2)
    await client.make(warm_up, at_once)
    first = await snapshot()
    before = tracemalloc.take_snapshot() if tracemalloc.is_tracing() else None
    await client.make(requests - warm_up, at_once)
    last = await snapshot()
    print(f"refused and made again: {client.refused}")
    if before is not None:
        for line in tracemalloc.take_snapshot().compare_to(before, "lineno")[:15]:
            print(line)

    problems = list(problems_between(first, last, protocol.config.concurrency))
    for side, connection in sides.items():
        problems += problems_of(side, connection)
    await protocol.shutdown()
    await server.shutdown()
    return problems


def main(argv: Sequence[str] | None = None) -> int:
    """Run; print a table and what is wrong, and return 1 where anything is."""
    parser = argparse.ArgumentParser(description="many requests over one connection")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--at-once", type=int, default=120, help="more than there are slots")
    parser.add_argument("--tracemalloc", action="store_true", help="say where memory has grown")
    options = parser.parse_args(argv)
    if options.requests < 10 or options.at_once < 1:
        parser.error("--requests must be at least 10, --at-once at least 1")
    if options.tracemalloc:
        tracemalloc.start()

    kinds = (aioh2.H2Protocol, aioh2.H2Stream, ConnectionStream)
    gc.collect()
    before = [count(kind) for kind in kinds]
    problems = asyncio.run(soak(options.requests, options.at_once))
    gc.collect()
    for kind, number in zip(kinds, before, strict=True):
        left = count(kind) - number
        if left > 0:
            problems.append(f"{left} objects of {kind.__module__}.{kind.__qualname__} are left")
    for problem in problems:
        print(f"PROBLEM: {problem}")
    if not problems:
        print("memory is flat, and nothing is left")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
