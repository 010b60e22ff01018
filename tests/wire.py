"""What the tests stand on: an in-memory transport, a scripted peer, a pair of protocols.

No socket and no sleep: ``settle()`` lets the loop run until nothing more happens.
"""

from __future__ import annotations

import asyncio
import sys
import unittest
from collections.abc import Callable, Iterable
from typing import Any

from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

import aioh2
from aioh2.testing import ScriptedPeer

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
REQUEST = [(":method", "GET"), (":scheme", "http"), (":authority", "a.test"), (":path", "/")]
POST = [(":method", "POST"), *REQUEST[1:]]
RESPONSE = [(":status", "200")]


async def settle(rounds: int = 25) -> None:
    """Let everything that is ready run, and what becomes ready by that."""
    for _ in range(rounds):
        await asyncio.sleep(0)


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes, and can be moved on.

    It counts whole milliseconds and returns a bare Handle of what is due within half of one, as
    uvloop does, so that what needs more of a loop fails here too.
    """

    def __init__(self) -> None:
        super().__init__()
        # Seconds by which it is ahead of the system's clock.
        self.ahead = 0.0
        # the clock is moved inside of callbacks
        self.slow_callback_duration = float("inf")

    def time(self) -> float:
        return int((super().time() + self.ahead) * 1000) / 1000

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        now = self.time()
        delay = round((when - now) * 1000)
        if delay <= 0:
            return self.call_soon(callback, *args, context=context)
        return super().call_at(now + delay / 1000, callback, *args, context=context)


async def skip(seconds: float) -> None:
    """Let time pass, and what is due by then happen; the loop is a SkippingLoop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SkippingLoop)
    loop.ahead += seconds
    await settle()


class Case(unittest.IsolatedAsyncioTestCase):
    """A test that fails on anything that reaches the loop's exception handler."""

    # What makes the test's loop; None: asyncio, by its policy.
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None

    if sys.version_info < (3, 13):
        # from then on unittest asks for the factory by itself
        def _setupAsyncioRunner(self) -> None:
            self._asyncioRunner = asyncio.Runner(debug=True, loop_factory=self.loop_factory)

    async def asyncSetUp(self) -> None:
        self.loop_errors: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        loop.slow_callback_duration = max(10, loop.slow_callback_duration)
        loop.set_exception_handler(lambda _, context: self.loop_errors.append(context))
        self.addAsyncCleanup(self._check_loop)

    async def _check_loop(self) -> None:
        await settle()
        self.assertEqual(self.loop_errors, [])

    async def waiting(self, coroutine: Any) -> asyncio.Task[Any]:
        """Start a task, and make sure that it waits."""
        task = asyncio.get_running_loop().create_task(coroutine)
        await settle()
        self.assertFalse(task.done(), task)
        self.addCleanup(task.cancel)
        return task


class MemoryTransport(asyncio.Transport):
    """A transport that keeps what is written, and hands it to a sink if there is one."""

    def __init__(self, protocol: asyncio.Protocol, **extra: Any) -> None:
        super().__init__(extra)
        self.protocol = protocol
        self.written = bytearray()
        self.writes = 0
        self.sink: Any = None
        self.closed = False
        self.aborted = False
        # what is not taken by close() yet, as with a TLS peer that never says goodbye
        self.hang_on_close = False
        # bytes that the other side has not taken
        self.unsent = 0

    def write(self, data: bytes) -> None:
        if self.closed:
            raise AssertionError("write after close")
        self.writes += 1
        if self.sink is not None:
            self.sink(bytes(data))
        else:
            self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            if not self.hang_on_close:
                self.lose(None)

    def abort(self) -> None:
        self.aborted = True
        if self.hang_on_close or not self.closed:
            self.closed = True
            self.hang_on_close = False
            self.lose(None)

    def lose(self, error: Exception | None) -> None:
        """The connection is gone, in the next tick."""
        self.closed = True
        asyncio.get_running_loop().call_soon(self.protocol.connection_lost, error)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Peer(ScriptedPeer):
    """The other side of one protocol, which gets what is sent at once, within the call."""

    def __init__(self, protocol: aioh2.H2Protocol, **extra: Any) -> None:
        super().__init__(not protocol.client_side, ack_settings=False, ack_pings=False)
        self.protocol = protocol
        # that of the protocol: what this side sends needs none
        self.transport: MemoryTransport = MemoryTransport(protocol, **extra)
        self._read = 0

    @classmethod
    async def of_server(
        cls,
        *,
        kind: type[aioh2.H2Protocol] = aioh2.H2Protocol,
        handler: Any = None,
        settings: dict[int, int] | None = None,
        **options: Any,
    ) -> Peer:
        """Return a client that has greeted a server, and read the server's greeting."""
        protocol = kind(client_side=False, **options)
        if handler is not None:
            protocol.set_handler(handler)
        peer = cls(protocol)
        protocol.connection_made(peer.transport)
        peer.send_bytes(PREFACE)
        await peer.greet(settings)
        return peer

    @classmethod
    async def of_client(
        cls,
        *,
        kind: type[aioh2.H2Protocol] = aioh2.H2Protocol,
        settings: dict[int, int] | None = None,
        **options: Any,
    ) -> Peer:
        """Return a server that has greeted a client, and read the client's greeting."""
        protocol = kind(client_side=True, **options)
        peer = cls(protocol)
        protocol.connection_made(peer.transport)
        await peer.greet(settings)
        return peer

    async def greet(self, settings: dict[int, int] | None = None) -> None:
        """Exchange SETTINGS and their ACKs; what was read until then is dropped."""
        self.send(SettingsFrame(settings=settings or {}), SettingsFrame(flags=["ACK"]))
        await self.frames()

    def send_bytes(self, data: bytes) -> None:
        self.protocol.data_received(data)

    def send(self, *frames: Frame) -> None:
        """Send frames in one segment."""
        self.send_bytes(b"".join(frame.serialize() for frame in frames))

    def headers(
        self, stream_id: int, headers: Iterable[tuple[str, str]], *flags: str, **more: Any
    ) -> HeadersFrame:
        """Make HEADERS; ``flags``: END_STREAM. They must be sent in the order they are made."""
        block = self.encoder.encode(list(headers))
        return HeadersFrame(stream_id, block, flags=["END_HEADERS", *flags], **more)

    def promise(self, stream_id: int, promised: int, headers: Any = REQUEST) -> PushPromiseFrame:
        block = self.encoder.encode(list(headers))
        return PushPromiseFrame(stream_id, promised, block, flags=["END_HEADERS"])

    def request(self, stream_id: int, headers: Any = REQUEST, *, end: bool = True) -> None:
        """Send a request's HEADERS."""
        self.send(self.headers(stream_id, headers, *(["END_STREAM"] if end else [])))

    def respond(self, stream_id: int, headers: Any = RESPONSE, *, end: bool = False) -> None:
        """Send a response's HEADERS."""
        self.request(stream_id, headers, end=end)

    def data(self, stream_id: int, data: bytes = b"", *, end: bool = False) -> None:
        """Send DATA in frames of at most 16 KiB."""
        pieces = [data[at : at + 16384] for at in range(0, len(data), 16384)] or [b""]
        for piece in pieces[:-1]:
            self.send(DataFrame(stream_id, piece))
        self.send(DataFrame(stream_id, pieces[-1], flags=["END_STREAM"] if end else []))

    def reset(self, stream_id: int, code: int = aioh2.ErrorCodes.CANCEL) -> None:
        self.send(RstStreamFrame(stream_id, code))

    def window(self, stream_id: int, increment: int) -> None:
        self.send(WindowUpdateFrame(stream_id, increment))

    def goaway(self, last: int, code: int = 0, debug: bytes = b"") -> None:
        self.send(GoAwayFrame(0, last, code, debug))

    def ack_ping(self, frame: PingFrame) -> None:
        self.send(PingFrame(0, frame.opaque_data, flags=["ACK"]))

    def eof(self) -> None:
        """Close the peer's side, as asyncio tells a protocol of it."""
        if not self.protocol.eof_received():
            self.transport.close()

    def lose(self, error: Exception | None = None) -> None:
        """Lose the connection."""
        self.transport.lose(error)

    async def frames(self, *kinds: type[Frame]) -> list[Any]:
        """Let the loop settle; return the frames written since the last call, of these kinds.

        Header blocks are decoded into the attribute ``headers``.
        """
        await settle()
        read, self._read = self._read, len(self.transport.written)
        self.data_received(bytes(self.transport.written[read:]))
        assert not self._buffer, "half a frame was written"
        return self.take(*kinds)
