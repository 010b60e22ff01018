"""An aioh2 server in the test's own loop: it sees what the client did, and waits for it.

GET /            a greeting
POST /           the body back, then its trailers and its length
/together?N      answers when N of these have come
/reset           is reset with ENHANCE_YOUR_CALM, with ?late when the response has begun
/refused?NAME    is refused the first time that this NAME comes, and greeted after that
/hold            begins the response, and goes on until the client ends it
/pinged?N        answers when N PINGs have come
/leave?N         is greeted; the connection of each N-th one shuts down gracefully
/hints           103 (Early Hints) first
POST /continue   100 (Continue) first, then what POST / does
POST /enough     413 at once, with the body unread
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from h2.events import Event, PingReceived
from h2.events import StreamReset as StreamWasReset

import aioh2

from .cases import PeerCase

GREETING = b"hello, this is aioh2\n"
LINK = "</style.css>; rel=preload"


class _Connection(aioh2.H2Protocol):
    """A connection that keeps what has come: PINGs, codes of resets, ids that were handled."""

    def __init__(self, client_side: bool, **options: Any) -> None:
        super().__init__(client_side, **options)
        self.pings = 0
        self.pinged = asyncio.Event()
        self.resets: list[int] = []
        self.handled: list[int] = []

    def event_received(self, event: Event) -> None:
        super().event_received(event)
        if isinstance(event, PingReceived):
            self.pings += 1
            self.pinged.set()
        elif isinstance(event, StreamWasReset):
            self.resets.append(int(event.error_code))


class Site:
    """The handlers, and what they have seen; ``SiteCase.site`` listens."""

    def __init__(self) -> None:
        #: Every connection that was made.
        self.connections: list[_Connection] = []
        #: How many handlers of /hold were cancelled.
        self.cancelled = 0
        #: How many requests each path has had.
        self.seen: Counter[str] = Counter()
        #: The port that it listens on.
        self.port = 0
        # How many of /hold have begun.
        self._held = 0
        # Set when one of /hold has begun or was cancelled.
        self._news = asyncio.Event()
        # How many wait in /together, and what they wait for.
        self._waiting = 0
        self._all_there = asyncio.Event()
        # The names that /refused knows.
        self._refused: set[str] = set()
        # Shutdowns under way.
        self._shutdowns: set[asyncio.Task[aioh2.Drained]] = set()
        self._paths: dict[str, Callable[[aioh2.H2Stream, str], Awaitable[None]]] = {
            "/": self._greet_or_echo,
            "/together": self._together,
            "/reset": self._reset,
            "/refused": self._refuse,
            "/hold": self._hold,
            "/held": self._wait_for_held,
            "/pinged": self._ping,
            "/leave": self._leave,
            "/hints": self._hint,
            "/later": self._echo_later,
            "/continue": self._continue,
            "/enough": self._enough,
        }

    def url(self, path: str = "/", scheme: str = "http") -> str:
        """Return the address of ``path``."""
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    @property
    def resets(self) -> list[int]:
        """The codes of the resets received."""
        return [code for connection in self.connections for code in connection.resets]

    async def until_cancelled(self, count: int) -> None:
        """Wait until so many handlers of /hold have been cancelled."""
        while self.cancelled < count:
            await self._news.wait()

    async def serve(self, connection: _Connection) -> None:
        """Answer a connection's requests."""
        self.connections.append(connection)
        await connection.serve(self._handle)

    async def _handle(self, stream: aioh2.H2Stream) -> None:
        path, _, query = dict(stream.request_headers)[":path"].partition("?")
        self.seen[path] += 1
        stream.protocol.handled.append(stream.id)
        await self._paths[path](stream, query)

    async def _greet(self, stream: aioh2.H2Stream) -> None:
        length = ("content-length", str(len(GREETING)))
        await stream.start_response([(":status", "200"), length])
        await stream.send_data(GREETING, end_stream=True)

    async def _greet_or_echo(self, stream: aioh2.H2Stream, query: str) -> None:
        if dict(stream.request_headers)[":method"] != "POST":
            await self._greet(stream)
            return
        await stream.start_response({":status": "200"})
        length = 0
        async for chunk in stream:
            length += len(chunk)
            await stream.send_data(chunk)
        await stream.send_trailers([*await stream.recv_trailers(), ("length", str(length))])

    async def _together(self, stream: aioh2.H2Stream, query: str) -> None:
        self._waiting += 1
        if self._waiting == int(query):
            self._all_there.set()
        await self._all_there.wait()
        await self._greet(stream)

    async def _reset(self, stream: aioh2.H2Stream, query: str) -> None:
        if query == "late":
            await stream.start_response({":status": "200"})
            await stream.send_data(GREETING)
        stream.reset(aioh2.ErrorCodes.ENHANCE_YOUR_CALM)

    async def _refuse(self, stream: aioh2.H2Stream, query: str) -> None:
        if query in self._refused:
            await self._greet(stream)
            return
        self._refused.add(query)
        stream.reset(aioh2.ErrorCodes.REFUSED_STREAM)

    async def _hold(self, stream: aioh2.H2Stream, query: str) -> None:
        try:
            if query != "silent":
                await stream.start_response({":status": "200"})
                await stream.send_data(GREETING)
            self._held += 1
            self._tell()
            await asyncio.get_running_loop().create_future()
        finally:
            self.cancelled += 1
            self._tell()

    async def _wait_for_held(self, stream: aioh2.H2Stream, query: str) -> None:
        while self._held < int(query):
            await self._news.wait()
        await self._greet(stream)

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _ping(self, stream: aioh2.H2Stream, query: str) -> None:
        connection: _Connection = stream.protocol
        while connection.pings < int(query):
            connection.pinged.clear()
            await connection.pinged.wait()
        await self._greet(stream)

    async def _leave(self, stream: aioh2.H2Stream, query: str) -> None:
        if self.seen["/leave"] % int(query) == 0:
            # in a task of its own, as an operator's would be
            task = asyncio.get_running_loop().create_task(stream.protocol.shutdown())
            self._shutdowns.add(task)
            task.add_done_callback(self._shutdowns.discard)
        # a round trip: requests are in flight, and others come, while the end is announced
        await stream.protocol.ping()
        await self._greet(stream)

    async def _hint(self, stream: aioh2.H2Stream, query: str) -> None:
        await stream.start_response({":status": "103", "link": LINK})
        await self._greet(stream)

    async def _continue(self, stream: aioh2.H2Stream, query: str) -> None:
        if dict(stream.request_headers).get("expect") == "100-continue":
            await stream.start_response({":status": "100"})
        await self._greet_or_echo(stream, query)

    async def _echo_later(self, stream: aioh2.H2Stream, query: str) -> None:
        body = await stream.read(-1)
        await stream.start_response({":status": "200"})
        await stream.send_data(body, end_stream=True)

    async def _enough(self, stream: aioh2.H2Stream, query: str) -> None:
        await stream.start_response({":status": "413"}, end_stream=True)


class SiteCase(PeerCase):
    """A test with a server in its own loop; an error that the server logs fails it."""

    def setUp(self) -> None:
        super().setUp()
        self.enterContext(self.assertNoLogs("aioh2", logging.ERROR))

    @contextlib.asynccontextmanager
    async def site(
        self, context: ssl.SSLContext | None = None, **options: Any
    ) -> AsyncIterator[Site]:
        """Listen, with Config's ``options``."""
        site = Site()
        async with await aioh2.start_server(
            site.serve, "127.0.0.1", 0, cls=_Connection, ssl=context, **options
        ) as server:
            site.port = server.sockets[0].getsockname()[1]
            yield site
