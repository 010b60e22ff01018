"""``examples/proxy.py``: what it lets through, and how each side learns of the other's end."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import runpy
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aioh2

from .interop.cases import within
from .interop.programs import LARGE, Example, sha256
from .wire import Case

ROOT = pathlib.Path(__file__).parent.parent

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Target = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes, and then the end."""
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


class TestRules(Case):
    def setUp(self) -> None:
        super().setUp()
        self.names = runpy.run_path(str(ROOT / "examples" / "proxy.py"))

    def allows(self, rule: str, target: str, address: str) -> Any:
        host, port = self.names["parse_authority"](target)
        return self.names["Rule"].parse(rule).allows(host, port, address)

    def test_addresses(self) -> None:
        inside = "127.0.0.1 10.0.0.1 192.168.1.1 169.254.169.254 0.0.0.0 ::1 fe80::1 fd00::1"
        for address in [*inside.split(), "::ffff:127.0.0.1", "::ffff:10.0.0.1"]:
            self.assertFalse(self.names["is_public"](address), address)
        for address in "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1":
            self.assertTrue(self.names["is_public"](address), address)

    def test_rules(self) -> None:
        for rule, target, address, allowed in (
            ("*:443", "a.test:443", "1.1.1.1", True),
            ("*:443", "a.test:80", "1.1.1.1", False),
            # a name of anybody's may lead inside
            ("*:443", "a.test:443", "127.0.0.1", False),
            ("*:*", "[::1]:443", "::1", False),
            ("a.test:443", "A.test:443", "127.0.0.1", True),
            ("a.test:*", "a.test:22", "10.0.0.1", True),
            ("a.test:*", "b.a.test:22", "10.0.0.1", False),
            ("[::1]:8000", "[::1]:8000", "::1", True),
        ):
            self.assertIs(self.allows(rule, target, address), allowed, (rule, target))
        for wrong in "443", ":443", "a.test:", "a.test:https":
            with self.assertRaises(ValueError):
                self.names["Rule"].parse(wrong)

    def test_authorities(self) -> None:
        for wrong in (
            *("", "a.test", "a.test:", ":443", "a.test:0", "a.test:65536", "a.test:-1", "::1:443"),
            *("u@a.test:443", "a.test:443/", "a.test:443:443", "[::1]", "a.test:4 4", "a.test:٤"),
        ):
            with self.assertRaisesRegex(self.names["Refused"], "400", msg=wrong):
                self.names["parse_authority"](wrong)


class ProxyCase(Case):
    """A proxy, and one connection to it."""

    # Seconds in which the proxy has to connect.
    timeout = 20.0

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.stack = contextlib.AsyncExitStack()
        self.addAsyncCleanup(self.stack.aclose)
        self.proxy = await self.stack.enter_async_context(
            Example(
                *("proxy.py", "--allow", "127.0.0.1:*", "--allow", "*:443"),
                *("--timeout", str(self.timeout)),
            )
        )
        self.client = await aioh2.open_connection("127.0.0.1", self.proxy.port)
        self.stack.push_async_callback(self.client.shutdown)

    async def target(self, serve: Target, **options: Any) -> str:
        """Listen, and return what to ask the proxy for."""

        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.closing(writer), contextlib.suppress(ConnectionError):
                await serve(reader, writer)

        server = await asyncio.start_server(run, "127.0.0.1", 0, **options)
        await self.stack.enter_async_context(server)
        return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def accepted(self) -> tuple[str, asyncio.Future[Streams]]:
        """Listen, and return also the streams of the first connection, once it is there."""
        streams: asyncio.Future[Streams] = asyncio.get_running_loop().create_future()
        over = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            streams.set_result((reader, writer))
            await over.wait()

        authority = await self.target(serve)
        # before the server is closed, which waits for its connections from Python 3.12 on
        self.stack.callback(over.set)
        return authority, streams

    @contextlib.asynccontextmanager
    async def connect(self, authority: str) -> AsyncIterator[tuple[aioh2.H2Stream, Streams]]:
        """Open a tunnel."""
        headers = {":method": "CONNECT", ":authority": authority}
        async with self.client.open_stream(headers) as stream:
            self.assertEqual(await stream.recv_response(), [(":status", "200")])
            reader, writer = stream.as_reader_writer()
            yield stream, (reader, writer)
            writer.close()

    async def status(self, headers: dict[str, str]) -> str:
        async with self.client.open_stream(headers) as stream:
            status = dict(await stream.recv_response())[":status"]
            self.assertEqual(await stream.read(-1), b"")
            return status

    async def refused(self, authority: str) -> str:
        return await self.status({":method": "CONNECT", ":authority": authority})


class TestProxy(ProxyCase):
    # --- bytes ---------------------------------------------------------------------------

    async def echoed(self, authority: str, body: bytes) -> bytes:
        async with self.connect(authority) as (_, (reader, writer)):

            async def send() -> None:
                for at in range(0, len(body), 100_000):
                    writer.write(body[at : at + 100_000])
                    await writer.drain()
                writer.write_eof()

            async with asyncio.TaskGroup() as both:
                both.create_task(send())
                received = both.create_task(reader.read())
            return received.result()

    @within(30)
    async def test_8_mib_both_ways(self) -> None:
        received = await self.echoed(await self.target(echo), LARGE)
        self.assertEqual(sha256(received), sha256(LARGE))

    @within(30)
    async def test_50_tunnels_side_by_side(self) -> None:
        authority = await self.target(echo)
        async with asyncio.TaskGroup() as tunnels:
            tasks = [
                tunnels.create_task(self.echoed(authority, LARGE[n : 5_000 * n]))
                for n in range(1, 51)
            ]
        for n, task in enumerate(tasks, 1):
            self.assertEqual(sha256(task.result()), sha256(LARGE[n : 5_000 * n]))

    @within(30)
    async def test_target_that_does_not_read(self) -> None:
        authority, accepted = await self.accepted()
        async with self.connect(authority) as (stream, (_, writer)):
            reader, _ = await accepted
            writer.write(LARGE + LARGE)
            # the proxy takes no more than it gets rid of
            while stream.blocked_on != "stream window":
                await self.client.ping()
            draining = asyncio.create_task(writer.drain())
            for _ in range(50):
                await self.client.ping()
            self.assertFalse(draining.done())
            self.assertEqual(sha256(await reader.readexactly(2 * len(LARGE))), sha256(LARGE * 2))
            await draining

    @within(30)
    async def test_client_that_does_not_read(self) -> None:
        sent = 0
        whole = 64 * len(LARGE)

        async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            while sent < whole:
                writer.write(LARGE[:100_000])
                await writer.drain()
                sent += 100_000

        headers = {":method": "CONNECT", ":authority": await self.target(serve)}
        async with self.client.open_stream(headers) as stream:
            await stream.recv_response()
            before = -1
            # until the target has to wait, too
            while before < sent:
                before = sent
                for _ in range(50):
                    await self.client.ping()
            self.assertLess(sent, whole)
            self.assertEqual(stream.unread, self.client.initial_window_size)
            await stream.read(10_000_000)

    # --- the end of one side -------------------------------------------------------------

    @within(30)
    async def test_client_ends_first(self) -> None:
        authority, accepted = await self.accepted()
        async with self.connect(authority) as (stream, (reader, writer)):
            writer.write(b"question")
            writer.write_eof()
            target_reader, target_writer = await accepted
            self.assertEqual(await target_reader.read(), b"question")
            target_writer.write(b"answer")
            self.assertEqual(await reader.readexactly(6), b"answer")
            target_writer.write(b", and more")
            target_writer.write_eof()
            self.assertEqual(await reader.read(), b", and more")
            self.assertTrue(stream.is_complete)

    @within(30)
    async def test_target_ends_first(self) -> None:
        authority, accepted = await self.accepted()
        async with self.connect(authority) as (stream, (reader, writer)):
            target_reader, target_writer = await accepted
            target_writer.write(b"hello")
            target_writer.write_eof()
            self.assertEqual(await reader.read(), b"hello")
            writer.write(b"goodbye")
            self.assertEqual(await target_reader.readexactly(7), b"goodbye")
            writer.write(b" then")
            writer.write_eof()
            self.assertEqual(await target_reader.read(), b" then")
            self.assertTrue(stream.is_complete)

    @within(30)
    async def test_target_resets(self) -> None:
        authority, accepted = await self.accepted()
        async with self.connect(authority) as (_, (reader, writer)):
            _, target_writer = await accepted
            writer.write(b"hello")
            await writer.drain()
            target_writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            target_writer.transport.abort()
            with self.assertRaises(aioh2.StreamReset) as caught:
                await reader.read()
            self.assertEqual(caught.exception.error_code, aioh2.ErrorCodes.CONNECT_ERROR)
            self.assertEqual(caught.exception.initiator, "peer")
        # the others have not noticed
        self.assertEqual(await self.echoed(await self.target(echo), b"abc"), b"abc")

    async def check_reset(self, reader: asyncio.StreamReader) -> None:
        """Not FIN, which would be a clean end (RFC 9113 section 8.5)."""
        with self.assertRaises(ConnectionResetError):
            await reader.read()

    @within(30)
    async def test_client_resets(self) -> None:
        authority, accepted = await self.accepted()
        async with self.connect(authority) as (stream, _):
            reader, _ = await accepted
            stream.reset()
            await self.check_reset(reader)

    @within(30)
    async def test_client_resets_after_its_end(self) -> None:
        authority, accepted = await self.accepted()
        async with self.connect(authority) as (stream, (_, writer)):
            reader, target_writer = await accepted
            writer.write_eof()
            self.assertEqual(await reader.read(), b"")
            stream.reset()
            with self.assertRaises(ConnectionError):
                while True:
                    target_writer.write(LARGE[:100_000])
                    await target_writer.drain()

    @within(30)
    async def test_client_vanishes(self) -> None:
        authority, accepted = await self.accepted()
        async with self.connect(authority):
            reader, _ = await accepted
            self.client.abort()
            await self.check_reset(reader)

    # --- no tunnel -----------------------------------------------------------------------

    @within(30)
    async def test_what_is_not_allowed(self) -> None:
        port = (await self.target(echo)).partition(":")[2]
        for authority in f"localhost:{port}", "127.0.0.2:443", "[::1]:443", "10.0.0.1:443":
            self.assertEqual(await self.refused(authority), "403", authority)

    @within(30)
    async def test_bad_requests(self) -> None:
        for authority in "127.0.0.1", "127.0.0.1:0", "a..b:443":
            self.assertEqual(await self.refused(authority), "400", authority)
        self.assertEqual(await self.status({":path": "/"}), "405")

    @within(30)
    async def test_target_that_refuses(self) -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            # bound, so that nobody else listens there meanwhile
            authority = f"127.0.0.1:{bound.getsockname()[1]}"
            self.assertEqual(await self.refused(authority), "502")

    @within(30)
    async def test_host_that_does_not_exist(self) -> None:
        # RFC 6761 section 6.4
        self.assertEqual(await self.refused("a.invalid:443"), "502")

    # --- the proxy ends ------------------------------------------------------------------

    @within(30)
    async def test_tunnel_in_flight_at_shutdown(self) -> None:
        authority, accepted = await self.accepted()
        async with self.connect(authority) as (_, (reader, writer)):
            _, target_writer = await accepted
            self.proxy.terminate()
            await self.proxy.line("^draining$")
            target_writer.write(b"still here")
            self.assertEqual(await reader.readexactly(10), b"still here")
            target_writer.write_eof()
            writer.write_eof()
            self.assertEqual(await reader.read(), b"")
        self.assertTrue(await self.proxy.wait())
        self.assertEqual(self.proxy.lines[-1], "tunnels completed: 1, aborted: 0")


class TestTimeout(ProxyCase):
    timeout = 0.5

    @within(30)
    async def test_target_that_does_not_answer(self) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
            address = full.getsockname()
            # nobody accepts: the first is kept in the backlog, what comes after it in vain
            with contextlib.ExitStack() as kept:
                for _ in range(3):
                    waiting = kept.enter_context(socket.socket())
                    waiting.setblocking(False)
                    waiting.connect_ex(address)
                self.assertEqual(await self.refused(f"127.0.0.1:{address[1]}"), "504")
