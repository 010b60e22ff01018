"""Honest and hostile load on one server: nothing may grow, be logged as an error, or fail.

    python -m tests.soak.chaos --minutes 10

Honest clients check the bytes that they get; a request may be made again only where aioh2 says
that it may. Hostile ones are plain sockets. All share the process, so each number counts both
sides. Linux only (/proc).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import hashlib
import logging
import os
import random
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from h2.settings import SettingCodes
from h2.stream import H2Stream as ConnectionStream

import aioh2

from .. import octets
from .requests import MIB, count, give_back, print_row, resident_bytes

#: What the process may grow by between the first mark and the last.
GROWTH: Final = 16 * MIB
#: What the number of objects may grow by, caches that fill included.
OBJECT_GROWTH: Final = 4_000
#: Clients of each side that are at work at once.
HONEST: Final = 4
HOSTILE: Final = 24
#: How often an honest request is made again before it counts as failed.
TRIES: Final = 5
#: Seconds in which an honest request has to be done.
PATIENCE: Final = 20
#: The part of the run after which the first mark is made: by then every path has been taken.
WARM_UP: Final = 0.3
#: What the server holds its peers to: short, so that each limit is reached within the run.
LIMITS: Final = aioh2.Config(
    open_timeout=2,
    frame_timeout=1,
    idle_timeout=3,
    write_timeout=2,
    window_timeout=2,
    body_timeout=2,
    keepalive_interval=2,
    keepalive_timeout=2,
    close_timeout=1,
    max_connection_age=5,
    max_connection_age_grace=PATIENCE,
)

_PIECE: Final = random.Random(9113).randbytes(64 * 1024)
# What a client says first that has all windows open.
_GREETING: Final = (
    octets.PREFACE
    + octets.setting((SettingCodes.INITIAL_WINDOW_SIZE, octets.LARGEST))
    + octets.raw(octets.SETTINGS, octets.ACK)
    + octets.window_update(0, octets.LARGEST - 65_535)
)


def body(size: int) -> bytes:
    """Return ``size`` bytes that are the same each time."""
    return (_PIECE * (size // len(_PIECE) + 1))[:size]


# --- the server -----------------------------------------------------------------------


async def handle(stream: aioh2.H2Stream) -> None:
    """Send as many bytes as the path says, or the body back, with its hash as a trailer."""
    request = dict(stream.request_headers)
    await stream.start_response({":status": "200"})
    digest = hashlib.sha256()
    if request[":method"] == "POST":
        async for chunk in stream:
            digest.update(chunk)
            await stream.send_data(chunk)
    else:
        size = int(request[":path"].rpartition("/")[2] or 0)
        for at in range(0, size, len(_PIECE)):
            chunk = _PIECE[: size - at]
            digest.update(chunk)
            await stream.send_data(chunk)
    await stream.send_trailers({"sha256": digest.hexdigest()})


# --- honest clients -------------------------------------------------------------------


class Request(NamedTuple):
    """What an honest client wants, and how often it has tried before."""

    make: Callable[[aioh2.H2Protocol, int], Awaitable[None]]
    size: int
    tries: int = 0


class Honest:
    """Makes requests one after another, and checks what comes back."""

    def __init__(self, port: int, seed: int) -> None:
        self._port = port
        self._random = random.Random(seed)
        # Requests that were not processed, which says that they can be made again.
        self._undone: list[Request] = []
        self.done = 0
        #: Requests that were made again.
        self.again = 0
        self.problems: list[str] = []

    async def run(self, stop: asyncio.Event) -> None:
        """Use a connection for some requests, then the next, until told to stop."""
        while not stop.is_set() or self._undone:
            async with aioh2.open_connection("127.0.0.1", self._port) as client:
                for _ in range(self._random.randint(1, 200)):
                    if client.is_closing or (stop.is_set() and not self._undone):
                        break
                    async with asyncio.TaskGroup() as group:
                        for _ in range(self._random.randint(1, 8)):
                            group.create_task(self._request(client, self._next()))
                    if not self._random.randrange(60):
                        # for so long that the server may end it as idle
                        await asyncio.sleep(self._random.uniform(0, 4))

    def _next(self) -> Request:
        if self._undone:
            self.again += 1
            return self._undone.pop()
        make = self._random.choice((self._get, self._get, self._post, self._leave))
        return Request(make, self._random.choice((0, 10, 1_000, 20_000, 300_000)))

    async def _request(self, client: aioh2.H2Protocol, request: Request) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await request.make(client, request.size)
            self.done += 1
        except (aioh2.AIOH2Exception, TimeoutError, AssertionError) as error:
            if getattr(error, "retryable", False) and request.tries < TRIES:
                self._undone.append(request._replace(tries=request.tries + 1))
            else:
                self.problems.append(f"{request.make.__name__} {request.size}: {error!r}")

    async def _get(self, client: aioh2.H2Protocol, size: int) -> None:
        async with client.open_stream({":path": f"/{size}"}, end_stream=True) as stream:
            await self._check(stream, size)

    async def _post(self, client: aioh2.H2Protocol, size: int) -> None:
        async with client.open_stream({":method": "POST"}) as stream:
            sending = asyncio.create_task(stream.send_data(body(size), end_stream=True))
            try:
                await self._check(stream, size)
            finally:
                await asyncio.wait([sending])
                sending.exception()

    async def _leave(self, client: aioh2.H2Protocol, size: int) -> None:
        """Cancel a request, as honest clients may."""
        async with client.open_stream({":path": f"/{size}"}, end_stream=True) as stream:
            await stream.recv_response()

    async def _check(self, stream: aioh2.H2Stream, size: int) -> None:
        content = await stream.read(-1)
        assert content == body(size), f"{len(content)} bytes, or others than were sent"
        trailers = dict(await stream.recv_trailers())
        assert trailers["sha256"] == hashlib.sha256(content).hexdigest(), trailers


# --- hostile ones ---------------------------------------------------------------------


class Peer:
    """A plain socket, and what is done with it."""

    def __init__(self, sock: socket.socket, rng: random.Random) -> None:
        self._socket = sock
        self.random = rng

    async def send(self, data: bytes) -> None:
        """Send, or see that the server has had enough."""
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def read(self, size: int) -> None:
        """Read up to so many bytes."""
        while size > 0:
            piece = await asyncio.get_running_loop().sock_recv(self._socket, min(size, 65_536))
            if not piece:
                raise ConnectionError("the server has ended the connection")
            size -= len(piece)

    async def ended(self) -> None:
        """Read until the server has ended the connection."""
        with contextlib.suppress(ConnectionError):
            await self.read(sys.maxsize)

    def reset(self) -> None:
        """End with RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def flood(peer: Peer, frame: bytes, *, reads: bool) -> None:
    """Send the same frame again and again."""
    await peer.send(_GREETING)
    reading = asyncio.create_task(peer.ended()) if reads else None
    try:
        for _ in range(peer.random.randint(1, 40)):
            await peer.send(frame * 100)
    finally:
        if reading is not None:
            reading.cancel()
            await asyncio.wait([reading])


async def ping_flood(peer: Peer) -> None:
    """Ask for answers, and read them."""
    await flood(peer, octets.raw(octets.PING, 0, 0, bytes(8)), reads=True)


async def unread_ping_flood(peer: Peer) -> None:
    """Ask for answers, and do not read them."""
    await flood(peer, octets.raw(octets.PING, 0, 0, bytes(8)), reads=False)


async def settings_flood(peer: Peer) -> None:
    """Change a setting again and again."""
    await flood(peer, octets.setting((4, 1_000)) + octets.setting((4, 2_000)), reads=True)


async def empty_flood(peer: Peer) -> None:
    """Send DATA with nothing in it."""
    await peer.send(_GREETING + octets.opening(1))
    for _ in range(peer.random.randint(1, 40)):
        await peer.send(octets.data(1, b"") * 100)


async def rapid_reset(peer: Peer) -> None:
    """Make requests, and reset them at once."""
    await peer.send(_GREETING)
    for first in range(1, 2_000, 100):
        ids = range(first, first + 100, 2)
        await peer.send(b"".join(octets.headers(i) + octets.rst_stream(i) for i in ids))


async def half_a_request(peer: Peer) -> None:
    """Stop in the middle of a frame, and wait for what the server does."""
    whole = _GREETING + octets.headers(1) + octets.opening(3) + octets.data(3, bytes(1_000))
    await peer.send(whole[: peer.random.randrange(1, len(whole))])
    if peer.random.randrange(2):
        await peer.ended()


async def abandon(peer: Peer) -> None:
    """Be gone in the middle of transfers both ways."""
    large = [*octets.REQUEST[:3], (b":path", b"/10000000")]
    await peer.send(_GREETING + octets.headers(1, large) + octets.opening(3))
    await peer.send(octets.data(3, bytes(16_384)) * peer.random.randint(1, 8))
    await peer.read(peer.random.randrange(1, 200_000))
    if peer.random.randrange(2):
        peer.reset()


async def never_read(peer: Peer) -> None:
    """Ask for much, and take nothing."""
    large = [*octets.REQUEST[:3], (b":path", b"/10000000")]
    await peer.send(_GREETING + octets.headers(1, large))
    await asyncio.sleep(peer.random.uniform(0, 4))
    if peer.random.randrange(2):
        await peer.ended()


async def never_open(peer: Peer) -> None:
    """Ask for much, and open no window for it."""
    large = [*octets.REQUEST[:3], (b":path", b"/100000")]
    requests = b"".join(octets.headers(number, large) for number in range(1, 20, 2))
    await peer.send(octets.PREFACE + octets.setting((4, 0)) + b"\0\0\0\4\1\0\0\0\0" + requests)
    await peer.ended()


async def upload_slowly(peer: Peer) -> None:
    """Send octet by octet, for longer than the server waits."""
    await peer.send(_GREETING + octets.opening(1))
    for octet in octets.data(1, bytes(40)):
        await peer.send(bytes([octet]))
        await asyncio.sleep(0.05)


async def say_nothing(peer: Peer) -> None:
    """Wait for the server to end it."""
    await peer.ended()


async def garbage(peer: Peer) -> None:
    """Send what may be anything."""
    await peer.send(_GREETING + peer.random.randbytes(peer.random.randrange(1, 5_000)))
    await peer.ended()


KINDS: Final[list[Callable[[Peer], Awaitable[None]]]] = [
    ping_flood,
    unread_ping_flood,
    settings_flood,
    empty_flood,
    rapid_reset,
    half_a_request,
    abandon,
    never_read,
    never_open,
    upload_slowly,
    say_nothing,
    garbage,
]


class Hostile:
    """Does one bad thing after another, each on a connection of its own."""

    def __init__(self, port: int, seed: int) -> None:
        self._port = port
        self._random = random.Random(seed)
        #: How often each was done.
        self.done: Counter[str] = Counter()

    async def run(self, stop: asyncio.Event) -> None:
        """Go on until told to stop."""
        kinds = list(KINDS)
        while not stop.is_set():
            self._random.shuffle(kinds)
            for kind in kinds:
                if stop.is_set():
                    break
                async with self._connected() as peer:
                    with contextlib.suppress(ConnectionError, TimeoutError):
                        async with asyncio.timeout(PATIENCE):
                            await kind(peer)
                self.done[kind.__name__] += 1

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Peer]:
        with socket.socket() as sock:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self._port))
            yield Peer(sock, self._random)


# --- what is left ---------------------------------------------------------------------


class Errors(logging.Handler):
    """Keeps what is worse than INFO, of asyncio too."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.name}: {self.format(record)}")


class Mark(NamedTuple):
    """What there is while nobody is connected."""

    seconds: float
    requests: int
    #: Memory in bytes.
    resident: int
    objects: int
    protocols: int
    streams: int
    tasks: int
    descriptors: int


def problems_between(first: Mark, last: Mark) -> list[str]:
    """Say what has grown that should not have."""
    problems = []
    grown = last.resident - first.resident
    if grown > GROWTH:
        problems.append(f"memory has grown by {grown / MIB:.1f} MiB")
    if last.objects - first.objects > OBJECT_GROWTH:
        problems.append(f"{last.objects - first.objects} more objects")
    for name in ("protocols", "streams", "tasks", "descriptors"):
        before, after = getattr(first, name), getattr(last, name)
        if after > before:
            problems.append(f"{after} {name}, and {before} before")
    return problems


class Chaos:
    """The run: load, a mark, load, a mark."""

    def __init__(self, server: aioh2.Server, seed: int) -> None:
        self._server = server
        port = server.sockets[0].getsockname()[1]
        self.honest = [Honest(port, seed + number) for number in range(HONEST)]
        self.hostile = [Hostile(port, seed - 1 - number) for number in range(HOSTILE)]
        self._began = time.perf_counter()

    async def load(self, seconds: float) -> None:
        """Put the server under load for so long, and wait until all have gone."""
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(seconds, stop.set)
        async with asyncio.TaskGroup() as group:
            for client in [*self.honest, *self.hostile]:
                group.create_task(client.run(stop))
        async with asyncio.timeout(PATIENCE):
            while self._server.connections:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.05)

    async def mark(self) -> Mark:
        """Look at everything."""
        # tasks that were cancelled with the last connection
        await asyncio.sleep(0.1)
        give_back()
        mark = Mark(
            seconds=time.perf_counter() - self._began,
            requests=sum(client.done for client in self.honest),
            resident=resident_bytes(),
            objects=len(gc.get_objects()),
            protocols=count(aioh2.H2Protocol),
            streams=count(aioh2.H2Stream) + count(ConnectionStream),
            tasks=len(asyncio.all_tasks()),
            descriptors=len(os.listdir("/proc/self/fd")),
        )
        seconds, requests, resident, *others = mark
        print_row(f"{seconds:.1f}", requests, f"{resident / MIB:.1f}", *others)
        return mark


async def chaos(seconds: float, seed: int) -> list[str]:
    """Run, and return what is wrong then."""
    errors = Errors()
    logging.getLogger().addHandler(errors)
    try:
        async with await aioh2.start_server(
            lambda p: p.serve(handle), "127.0.0.1", 0, config=LIMITS
        ) as server:
            run = Chaos(server, seed)
            names = ("seconds", "requests", "RSS MiB", *Mark._fields[3:])
            print_row(*names)
            await run.load(seconds * WARM_UP)
            first = await run.mark()
            await run.load(seconds * (1 - WARM_UP))
            problems = problems_between(first, await run.mark())
    finally:
        logging.getLogger().removeHandler(errors)
    done: Counter[str] = Counter()
    for hostile in run.hostile:
        done += hostile.done
    print(", ".join(f"{name}: {number}" for name, number in sorted(done.items())))
    print(f"honest requests made again: {sum(client.again for client in run.honest)}")
    problems += [f"{kind.__name__} was not tried" for kind in KINDS if not done[kind.__name__]]
    for client in run.honest:
        problems += client.problems
    return problems + errors.lines


def main(argv: Sequence[str] | None = None) -> int:
    """Run; print a table and what is wrong, and return 1 where anything is."""
    parser = argparse.ArgumentParser(description="honest and hostile load on one server")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=10)
    length.add_argument("--seconds", type=float)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    seconds = options.minutes * 60 if options.seconds is None else options.seconds
    if seconds < 5:
        parser.error("less than 5 seconds show nothing")
    problems = asyncio.run(chaos(seconds, options.seed))
    for problem in problems[:50]:
        print(f"PROBLEM: {problem}")
    if not problems:
        print("nothing has grown, and all honest requests were served")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
