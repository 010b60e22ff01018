"""``examples/websocket.py`` and a client of aioh2 and wsproto: what no browser would do, too."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import aioh2

from .cases import PeerCase, within
from .programs import LARGE, Example, require_module, sha256

if TYPE_CHECKING:
    from wsproto.events import Event

CONNECT = {
    ":method": "CONNECT",
    ":protocol": "websocket",
    ":path": "/echo",
    "sec-websocket-version": "13",
}
MIB = LARGE[: 1 << 20]


class Socket:
    """The client's end of a WebSocket, over a stream whose response has come."""

    def __init__(self, stream: aioh2.H2Stream, *extensions: Any) -> None:
        self.events = require_module("wsproto.events", "wsproto")
        module = require_module("wsproto.connection", "wsproto")
        self.stream = stream
        self.frames = module.Connection(module.ConnectionType.CLIENT, list(extensions))
        self.coming = self.come()

    async def send(self, event: Event) -> None:
        await self.stream.send_data(self.frames.send(event))

    async def say(self, message: str | bytes, *, last: bool = True) -> None:
        """Send a message, or a part of it."""
        text = isinstance(message, str)
        kind = self.events.TextMessage if text else self.events.BytesMessage
        await self.send(kind(message, message_finished=last))

    async def come(self) -> AsyncIterator[Any]:
        """Give whole messages, and all other events, up to the end of the stream."""
        parts: list[Any] = []
        async for data in self.stream:
            self.frames.receive_data(data)
            for event in self.frames.events():
                if not isinstance(event, self.events.Message):
                    yield event
                    continue
                parts.append(event.data)
                if event.message_finished:
                    yield type(parts[0])().join(parts)
                    parts.clear()

    async def next(self) -> Any:
        """Return what comes next; answer no ping."""
        return await anext(self.coming)

    async def rest(self) -> list[Any]:
        """Return all that comes up to the end of the stream."""
        return [event async for event in self.coming]


class TestWebSocket(PeerCase):
    peer = "wsproto"
    side = "server"

    @classmethod
    def version(cls) -> str:
        return importlib.metadata.version("wsproto")

    def setUp(self) -> None:
        super().setUp()
        require_module("wsproto")

    @contextlib.asynccontextmanager
    async def serving(self, *arguments: str, **options: Any) -> AsyncIterator[aioh2.H2Protocol]:
        """Start the example, and connect to it."""
        async with (
            Example("websocket.py", *arguments) as self.server,
            aioh2.open_connection("127.0.0.1", self.server.port, **options) as client,
        ):
            yield client

    async def open(self, client: aioh2.H2Protocol, **headers: str) -> Socket:
        """Open a WebSocket, and take the ping that it begins with."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        stream = await client.open_stream({**CONNECT, **fields})
        self.response = dict(await stream.recv_response())
        self.assertEqual(self.response[":status"], "200")
        extensions = []
        if agreed := self.response.get("sec-websocket-extensions"):
            deflate = require_module("wsproto.extensions", "wsproto").PerMessageDeflate()
            deflate.finalize(agreed)
            extensions.append(deflate)
        socket = Socket(stream, *extensions)
        self.assertEqual(await socket.next(), socket.events.Ping())
        return socket

    async def close(self, socket: Socket, code: int = 1000, reason: str = "") -> None:
        """Close it from this side, and check that the server goes along."""
        await socket.send(socket.events.CloseConnection(code, reason))
        (close,) = await socket.rest()
        self.assertEqual((close.code, close.reason), (code, reason))
        await socket.stream.end()
        await self.server.line(f"stream {socket.stream.id}: closed with {code};")

    async def broken(self, socket: Socket, data: bytes, code: int) -> None:
        """Send bytes that break a rule, and check which code the server closes with."""
        await socket.stream.send_data(data)
        (close,) = await socket.rest()
        self.assertEqual(close.code, code)
        await socket.stream.end()
        await self.server.line(f"stream {socket.stream.id}: closed with 1006;")

    async def too_long(self, socket: Socket, message: bytes) -> None:
        """Send a message that the server takes no more of than 4 MiB."""
        await socket.say(message)
        close = await socket.next()
        self.assertEqual(close.code, 1009)
        await socket.send(close.response())
        self.assertEqual(await socket.rest(), [])
        await socket.stream.end()

    @within(60)
    async def test_messages(self) -> None:
        """text, binary, 1 MiB, parts, close"""
        async with self.serving() as client:
            socket = await self.open(client)
            self.assertNotIn("sec-websocket-protocol", self.response)
            self.assertNotIn("sec-websocket-extensions", self.response)
            for message in ("", b"", "grüße", bytes(range(256)), MIB, "ü" * 500_000):
                await socket.say(message)
                self.assertEqual(await socket.next(), message)
            for part in ("a", "", "ü"):
                await socket.say(part, last=False)
            await socket.send(socket.events.Ping(b"between"))
            self.assertEqual(await socket.next(), socket.events.Pong(b"between"))
            await socket.say("z")
            self.assertEqual(await socket.next(), "aüz")
            await self.close(socket, 4001, "done")

    @within(60)
    async def test_permessage_deflate(self) -> None:
        """permessage-deflate"""
        async with self.serving() as client:
            offers = "other, permessage-deflate; client_max_window_bits=7, "
            offers += "permessage-deflate; client_max_window_bits=x, "
            offers += "permessage-deflate; client_max_window_bits"
            socket = await self.open(client, sec_websocket_extensions=offers)
            self.assertEqual(
                self.response["sec-websocket-extensions"],
                "permessage-deflate; client_max_window_bits=15",
            )
            for message in ("a" * 1_000_000, MIB, "b"):
                await socket.say(message)
                self.assertEqual(await socket.next(), message)
            await self.close(socket)
            socket = await self.open(client, sec_websocket_extensions="permessage-deflate")
            self.assertEqual(self.response["sec-websocket-extensions"], "permessage-deflate")
            # a few KiB on their way
            await self.too_long(socket, bytes(4 * 1024 * 1024 + 1))

    @within(60)
    async def test_handshake(self) -> None:
        """subprotocols, origins, and what is refused"""
        async with self.serving() as client:
            socket = await self.open(
                client,
                sec_websocket_protocol="other, echo",
                origin=f"http://127.0.0.1:{self.server.port}",
            )
            self.assertEqual(self.response["sec-websocket-protocol"], "echo")
            await self.close(socket)
            socket = await self.open(client, sec_websocket_protocol="other")
            self.assertNotIn("sec-websocket-protocol", self.response)
            await self.close(socket)
            refused = [
                ({":protocol": "other"}, "501"),
                ({":path": "/"}, "404"),
                ({"sec-websocket-version": "8"}, "400"),
                ({"origin": "http://other.test"}, "403"),
            ]
            for headers, status in refused:
                stream = await client.open_stream({**CONNECT, **headers})
                response = dict(await stream.recv_response())
                self.assertEqual(response[":status"], status)
                version = "13" if status == "400" else None
                self.assertEqual(response.get("sec-websocket-version"), version)
                self.assertEqual(await stream.read(-1), b"")

    @within(60)
    async def test_broken_rules(self) -> None:
        """codes for what breaks a rule"""
        async with self.serving() as client:
            # RFC 6455 sections 5.1, 8.1 and 5.5
            for data, code in (
                (b"\x81\x01a", 1002),
                (b"\x81\x81\0\0\0\0\xff", 1007),
                (b"\x09\x80\0\0\0\0", 1002),
            ):
                await self.broken(await self.open(client), data, code)

    @within(60)
    async def test_too_long_a_message(self) -> None:
        """a message that is too long"""
        async with self.serving() as client:
            socket = await self.open(client)
            await socket.say(LARGE[: 4 * 1024 * 1024])
            self.assertEqual(sha256(await socket.next()), sha256(LARGE[: 4 * 1024 * 1024]))
            await self.too_long(socket, LARGE)

    @within(60)
    async def test_back_pressure(self) -> None:
        """a client that reads nothing for a while"""
        async with self.serving() as client:
            socket, other = await self.open(client), await self.open(client)
            count, sent = 200, 0

            async def send() -> None:
                nonlocal sent
                while sent < count:
                    await socket.say(MIB[:100_000])
                    sent += 1

            sending = asyncio.create_task(send())
            # until the window of what comes back is full, and the server reads no more
            before = None
            while before != sent:
                before = sent
                for _ in range(20):
                    await other.say("not held up")
                    self.assertEqual(await other.next(), "not held up")
            self.assertLess(sent, count / 4)
            for _ in range(count):
                self.assertEqual(await socket.next(), MIB[:100_000])
            await sending
            await self.close(socket)
            await self.close(other)

    @within(60)
    async def test_half_close(self) -> None:
        """the end of one side, without a close"""
        async with self.serving() as client:
            socket = await self.open(client)
            await socket.say("one")
            await socket.say("two")
            await socket.stream.end()
            self.assertEqual(await socket.rest(), ["one", "two"])
            await self.server.line("closed with 1006;")

    @within(60)
    async def test_gone(self) -> None:
        """a reset, and a lost connection"""
        async with self.serving() as client:
            socket = await self.open(client)
            await socket.say("once")
            socket.stream.reset()
            await self.server.line("stream 1: closed with 1006;")
            async with aioh2.open_connection("127.0.0.1", self.server.port) as other:
                gone = await self.open(other)
                await gone.say(LARGE[: 1 << 21])
                other.abort()
            await self.server.line(f"{gone.stream.id}: closed with 1006;")
            socket = await self.open(client)
            await self.close(socket)

    @within(60)
    async def test_silent_client(self) -> None:
        """pings; a client that answers none is given up"""
        async with self.serving("--silence", "0.5") as client:
            socket = await self.open(client)
            for _ in range(2):
                ping = await socket.next()
                self.assertEqual(ping, socket.events.Ping())
                await socket.send(ping.response())
            self.assertIsInstance(await socket.next(), socket.events.Ping)
            with self.assertRaises(aioh2.StreamReset) as caught:
                await socket.next()
            self.assertEqual(caught.exception.error_code, aioh2.ErrorCodes.CANCEL)
            await self.server.line("closed with 1006; pongs: 2$")

    @within(60)
    async def test_server_drains(self) -> None:
        """SIGTERM closes with 1001"""
        async with self.serving() as client:
            socket = await self.open(client)
            idle = await self.open(client)
            await socket.say("one")
            self.assertEqual(await socket.next(), "one")
            self.server.terminate()
            for each in (socket, idle):
                close = await each.next()
                self.assertEqual((close.code, close.reason), (1001, "the server is going away"))
            # a message and a ping, too late to come back, and no reason to fail
            await socket.stream.send_data(b"\x81\x81\0\0\0\0a\x89\x81\0\0\0\0b")
            for each in (socket, idle):
                await each.send(close.response())
                self.assertEqual(await each.rest(), [])
                await each.stream.end()
            await self.server.line("^streams completed: 2, aborted: 0$")
            await client.wait_closed()
            self.assertTrue(await self.server.wait())
        self.assertEqual(sum("closed with 1001" in line for line in self.server.lines), 2)

    @within(60)
    async def test_server_drains_without_an_answer(self) -> None:
        """SIGTERM, for clients that answer nothing, or do not even read"""
        # takes the 5 seconds that the example gives them
        async with self.serving() as client:
            silent, stuck = await self.open(client), await self.open(client)

            async def fill() -> None:
                with contextlib.suppress(aioh2.AIOH2Exception):
                    while True:
                        await stuck.say(MIB)

            filling = asyncio.create_task(fill())
            # what comes back is more than the window
            while not stuck.stream.unread:
                await client.ping()
            self.server.terminate()
            close = await silent.next()
            self.assertEqual(close.code, 1001)
            with self.assertRaises(aioh2.StreamReset) as caught:
                await silent.next()
            self.assertEqual(caught.exception.error_code, aioh2.ErrorCodes.CANCEL)
            # by the example, before the shutdown would have
            await self.server.line("^streams completed: 2, aborted: 0$")
            self.assertTrue(await self.server.wait())
            await filling
        self.assertEqual(sum("closed with 1006" in line for line in self.server.lines), 2)
