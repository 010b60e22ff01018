"""Every timeout on real sockets: what the peer is told, and that it is then gone."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import unittest
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from h2.errors import ErrorCodes

import aioh2

from .. import octets
from ..test_server import SocketCase, port_of
from ..wire import RESPONSE
from . import hostile

# Seconds: the limit of a test's timeout, and between two octets of a trickle.
LIMIT = 0.2
TRICKLE = 0.02

_PING = octets.raw(octets.PING, 0, 0, b"01234567")
_PONG = octets.raw(octets.PING, octets.ACK, 0, b"01234567")


class Client:
    """A client of plain octets."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.received = b""
        # Seconds that the server has taken to end the connection.
        self.lasted = 0.0

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def until(self, wanted: bytes) -> None:
        """Read until these octets have come."""
        async with asyncio.timeout(5):
            while wanted not in self.received:
                piece = await self._reader.read(65_536)
                assert piece, (self.received[-200:], wanted)
                self.received += piece

    async def until_kind(self, kind: int, flags: int = 0) -> bytes:
        """Read until a frame of this kind has come, and return what it holds."""
        async with asyncio.timeout(5):
            while True:
                header = await self._reader.readexactly(9)
                payload = await self._reader.readexactly(int.from_bytes(header[:3], "big"))
                self.received += header + payload
                if header[3:5] == bytes([kind, flags]):
                    return payload

    async def read(self, count: int) -> None:
        """Read so many octets."""
        async with asyncio.timeout(5):
            self.received += await self._reader.readexactly(count)

    async def end(self) -> None:
        """Read until the server ends the connection, by FIN or RST."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionResetError):
                self.received += await self._reader.read()
        self.lasted = loop.time() - began

    async def trickle(self, data: bytes) -> None:
        """Send octet by octet until the server ends the connection."""
        ending = asyncio.create_task(self.end())
        for octet in data:
            with contextlib.suppress(ConnectionError):
                self.send(bytes([octet]))
            await asyncio.wait([ending], timeout=TRICKLE)
            if ending.done():
                break
        await ending

    @property
    def goaways(self) -> list[tuple[int, int]]:
        """The last-stream-id and code of each GOAWAY."""
        return hostile.goaways(self.received)


class TimeoutCase(SocketCase):
    """A test with a server in the same process, to see why it ends a connection."""

    @asynccontextmanager
    async def connected(
        self, first: bytes = hostile.GREEDY, *, buffer: int = 0, **options: Any
    ) -> AsyncIterator[tuple[Client, aioh2.H2Protocol]]:
        """Connect a client to a server with these options."""
        options = {"close_timeout": LIMIT, **options}
        async with await aioh2.start_server(self.serve, "127.0.0.1", 0, **options) as server:
            sock = hostile.connect(port_of(server), first, buffer=buffer)
            sock.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=sock, limit=4_096)
            await self.until(lambda: server.connections)
            (protocol,) = server.connections
            try:
                yield Client(reader, writer), protocol
            finally:
                writer.transport.abort()
            await self.until(lambda: not server.connections)

    async def serve(self, protocol: aioh2.H2Protocol) -> None:
        """Answer with more than any window; a POST with nothing before it has come."""

        async def handle(stream: aioh2.H2Stream) -> None:
            if dict(stream.request_headers)[":method"] == "POST":
                await stream.read(-1)
            await stream.start_response(RESPONSE)
            await stream.send_data(bytes(16 * 1024 * 1024), end_stream=True)

        await protocol.serve(handle)

    def check_closed(self, client: Client, protocol: aioh2.H2Protocol, code: int) -> None:
        """Check that the server has said ``code``, after the limit."""
        self.assertEqual([said for _, said in client.goaways], [code])
        self.assertIsNotNone(protocol.close_reason)
        self.assertGreater(client.lasted, 0.5 * LIMIT)
        self.assertLess(client.lasted, 20 * LIMIT)

    def check_aborted(self, client: Client, protocol: aioh2.H2Protocol, why: str) -> None:
        """Check that the server has said nothing, and why it has gone."""
        self.assertEqual(client.goaways, [])
        reason = protocol.close_reason
        assert isinstance(reason, aioh2.ConnectionClosed)
        self.assertEqual((reason.initiator, reason.error_code), ("transport", None))
        self.assertIn(why, str(reason))


class TestOpenTimeout(TimeoutCase):
    async def test_what_is_missing(self) -> None:
        setting = octets.setting((1, 4_096))
        for first in (
            b"",
            octets.PREFACE[:12],
            octets.PREFACE,
            octets.PREFACE + setting[:5],
            octets.PREFACE + setting[:-1],
            octets.PREFACE + setting,
        ):
            with self.subTest(first):
                async with self.connected(first, open_timeout=LIMIT) as (client, protocol):
                    await client.end()
                    self.check_closed(client, protocol, ErrorCodes.SETTINGS_TIMEOUT)

    async def test_trickled_preface(self) -> None:
        async with self.connected(b"", open_timeout=LIMIT) as (client, protocol):
            await client.trickle(octets.PREFACE + octets.setting((1, 4_096)))
            self.check_closed(client, protocol, ErrorCodes.SETTINGS_TIMEOUT)

    async def test_busy_but_never_acknowledged(self) -> None:
        first = octets.PREFACE + octets.setting()
        async with self.connected(first, open_timeout=LIMIT) as (client, protocol):
            await client.trickle(_PING * 10)
            self.check_closed(client, protocol, ErrorCodes.SETTINGS_TIMEOUT)

    async def test_server_that_never_accepts(self) -> None:
        # the kernel does, and nobody else
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
            with self.assertRaisesRegex(aioh2.HandshakeError, "nothing"):
                await aioh2.open_connection("127.0.0.1", port, open_timeout=LIMIT)


class TestFrameTimeout(TimeoutCase):
    async def test_unfinished(self) -> None:
        header = octets.raw(octets.HEADERS, 0, 1, octets.literal(octets.REQUEST))
        for what, rest in {
            "a frame's header": octets.headers(1)[:4],
            "a frame": octets.headers(1)[:-1],
            "a header block": header,
            "a header block's last frame": header + octets.raw(9, 4, 1, b"0123")[:-1],
            "a body's frame": octets.opening(1) + octets.data(1, bytes(100))[:-1],
            "an unknown frame": octets.raw(octets.UNKNOWN, 0, 0, bytes(100))[:-1],
        }.items():
            with self.subTest(what):
                async with self.connected(frame_timeout=LIMIT) as (client, protocol):
                    client.send(rest)
                    await client.end()
                    self.check_closed(client, protocol, ErrorCodes.ENHANCE_YOUR_CALM)

    async def test_trickled(self) -> None:
        header = octets.raw(octets.HEADERS, 0, 1, octets.literal(octets.REQUEST))
        for what, first, rest in (
            ("a frame", b"", octets.headers(1)),
            # each frame is complete in time, but the block never is
            ("a header block", header, octets.raw(9, 0, 1, b"\0\1x\1y") * 10),
        ):
            with self.subTest(what):
                async with self.connected(frame_timeout=LIMIT) as (client, protocol):
                    client.send(first)
                    await client.trickle(rest)
                    self.check_closed(client, protocol, ErrorCodes.ENHANCE_YOUR_CALM)


class TestIdleTimeout(TimeoutCase):
    async def test_peer_that_answers(self) -> None:
        async with self.connected(idle_timeout=LIMIT) as (client, protocol):
            client.send(
                octets.raw(octets.PING, octets.ACK, 0, await client.until_kind(octets.PING))
            )
            await client.end()
            self.assertEqual(client.goaways, [(octets.LARGEST, 0), (0, 0)])
            self.assertEqual(protocol.close_reason and protocol.close_reason.retryable, False)

    async def test_peer_that_does_not(self) -> None:
        async with self.connected(idle_timeout=LIMIT) as (client, _):
            await client.end()
            self.assertEqual(client.goaways, [(octets.LARGEST, 0), (0, 0)])


class TestWriteTimeout(TimeoutCase):
    async def test_peer_that_never_reads(self) -> None:
        async with self.connected(
            hostile.GREEDY + hostile.get("/"), buffer=4_096, write_timeout=LIMIT
        ) as (client, protocol):
            await self.until(lambda: protocol.close_reason)
            await client.end()
            self.check_aborted(client, protocol, "blocked on transport")

    async def test_slow_peer_is_not_cut_off(self) -> None:
        # the kernel takes more only when much has been read
        async with self.connected(hostile.GREEDY + hostile.get("/"), write_timeout=0.5) as (
            client,
            protocol,
        ):
            loop = asyncio.get_running_loop()
            end = loop.time() + 1.2
            while loop.time() < end:
                await client.read(200_000)
                await asyncio.sleep(TRICKLE)
            self.assertIsNone(protocol.close_reason)
            protocol.abort()


class TestStreamTimeouts(TimeoutCase):
    """Those that cost one stream, and not the connection."""

    async def test_window_never_opened(self) -> None:
        for what, first in {
            "of the stream": hostile.CLOSED,
            "of the connection": octets.PREFACE
            + octets.setting((4, octets.LARGEST))
            + octets.raw(octets.SETTINGS, octets.ACK),
        }.items():
            with self.subTest(what):
                async with self.connected(first + hostile.get("/"), window_timeout=LIMIT) as (
                    client,
                    protocol,
                ):
                    await client.until(octets.rst_stream(1))
                    client.send(_PING)
                    await client.until(_PONG)
                    self.assertEqual(client.goaways, [])
                    self.assertIsNone(protocol.close_reason)

    async def test_body_that_does_not_go_on(self) -> None:
        first = hostile.UPLOAD + octets.data(1, b"so far")
        async with self.connected(first, body_timeout=LIMIT) as (client, protocol):
            await client.until(octets.rst_stream(1))
            client.send(_PING)
            await client.until(_PONG)
            self.assertEqual(client.goaways, [])
            self.assertIsNone(protocol.close_reason)


class TestKeepalive(TimeoutCase):
    async def test_dead_client(self) -> None:
        async with self.connected(
            hostile.UPLOAD, keepalive_interval=LIMIT, keepalive_timeout=LIMIT
        ) as (client, protocol):
            await client.until_kind(octets.PING)
            await client.end()
            self.check_aborted(client, protocol, "no sign of life")

    async def test_dead_server(self) -> None:
        # it greets, and is never heard of again
        def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(octets.setting() + octets.raw(octets.SETTINGS, octets.ACK))
            self.addCleanup(writer.transport.abort)

        async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            client = await aioh2.open_connection(
                "127.0.0.1", port, keepalive_interval=LIMIT, keepalive_timeout=LIMIT
            )
            stream = await client.open_stream({}, end_stream=True)
            with self.assertRaisesRegex(aioh2.ConnectionClosed, "no sign of life") as caught:
                await self.within(stream.recv_response())
            self.assertFalse(caught.exception.retryable)
            await self.within(client.wait_closed())


class TestConnectionAge(TimeoutCase):
    async def test_stream_in_flight_has_its_grace(self) -> None:
        async with self.connected(
            hostile.UPLOAD, max_connection_age=LIMIT, max_connection_age_grace=LIMIT
        ) as (client, protocol):
            asked = await client.until_kind(octets.PING)
            self.assertEqual(client.goaways, [(octets.LARGEST, 0)])
            # what is on its way is served
            client.send(octets.headers(3) + octets.raw(octets.PING, octets.ACK, 0, asked))
            await client.until(octets.raw(octets.GOAWAY, 0, 0, octets.u32(3, 0)))
            self.assertIsNone(protocol.close_reason)
            await client.end()
            self.assertEqual({code for _, code in client.goaways}, {0})
            self.assertIn("grace time is over", str(protocol.close_reason))


if __name__ == "__main__":
    unittest.main()
