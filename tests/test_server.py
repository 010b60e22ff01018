"""Servers on loopback: listening, TLS, unix sockets, what is not HTTP/2, and their shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import gc
import logging
import pathlib
import socket
import ssl
import sys
import tempfile
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from unittest import mock

import hpack
import trustme
from hyperframe.frame import (
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

import aioh2
from aioh2.closing import Closing, _has_written
from aioh2.intake import Intake

from .wire import PREFACE, REQUEST, RESPONSE, Case, settle

T = TypeVar("T")

HTTP1 = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
# Seconds after which something that must come does not come any more.
PATIENCE = 5


@functools.cache
def authority() -> trustme.CA:
    return trustme.CA()


def server_context() -> ssl.SSLContext:
    """Return a context with a certificate for localhost and its addresses."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate().configure_cert(context)
    return context


@functools.cache
def certificate() -> trustme.LeafCert:
    return authority().issue_cert("localhost", "127.0.0.1", "::1")


def client_context(*alpn: str) -> ssl.SSLContext:
    """Return a context that trusts those certificates."""
    context = ssl.create_default_context()
    authority().configure_trust(context)
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


@functools.cache
def two_addresses() -> list[str]:
    """Return two loopback addresses, of both families where there are both."""
    with socket.socket(socket.AF_INET6) as sock:
        try:
            sock.bind(("::1", 0))
        except OSError:
            return ["127.0.0.1", "127.0.0.2"]
    return ["127.0.0.1", "::1"]


class SocketCase(Case):
    """A test with real sockets: it fails when one is left open."""

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.enterContext(self.assertNoLogs("aioh2", "ERROR"))
        # a ResourceWarning comes from __del__, where as an error it can only be reported
        self.unclosed: list[str] = []
        before = sys.unraisablehook
        sys.unraisablehook = lambda raised: self.unclosed.append(str(raised.exc_value))
        self.addCleanup(setattr, sys, "unraisablehook", before)
        quiet = warnings.catch_warnings()
        quiet.__enter__()
        self.addCleanup(quiet.__exit__, None, None, None)
        warnings.simplefilter("error", ResourceWarning)
        self.addAsyncCleanup(self._check_closed)

    async def _check_closed(self) -> None:
        await settle()
        gc.collect()
        self.assertEqual(self.unclosed, [])

    async def within(self, awaitable: Awaitable[T], seconds: float = PATIENCE) -> T:
        async with asyncio.timeout(seconds):
            return await awaitable

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for what becomes true when the loop has gone on."""
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110, since there is no event for it
                await asyncio.sleep(0.001)

    @asynccontextmanager
    async def info_at_most(self) -> AsyncIterator[None]:
        with self.assertNoLogs(level=logging.WARNING):
            yield
            await settle()

    def directory(self) -> pathlib.Path:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        return pathlib.Path(directory.name)

    @asynccontextmanager
    async def raw(
        self, port: int, host: str = "127.0.0.1", **options: Any
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Connect without HTTP/2."""
        reader, writer = await self.within(asyncio.open_connection(host, port, **options))
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
            await settle()


def port_of(server: aioh2.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


def unlimited_request() -> bytes:
    """Return a client's frames: a request whose response needs no WINDOW_UPDATE."""
    huge = SettingsFrame(settings={aioh2.SettingCodes.INITIAL_WINDOW_SIZE: 2**30})
    window = WindowUpdateFrame(0, window_increment=2**30)
    block = hpack.Encoder().encode(REQUEST)
    request = HeadersFrame(1, block, flags=["END_HEADERS", "END_STREAM"])
    return b"".join(frame.serialize() for frame in (huge, window, request))


async def answer(protocol: aioh2.H2Protocol) -> None:
    """Serve requests: the body back."""

    async def handler(stream: aioh2.H2Stream) -> None:
        await stream.start_response(RESPONSE)
        await stream.send_data(await stream.read(-1), end_stream=True)

    await protocol.serve(handler)


async def fetch(protocol: aioh2.H2Protocol, body: bytes = b"body") -> bytes:
    """Send a request to ``answer`` and return what comes back."""
    async with protocol.open_stream({":method": "POST"}) as stream:
        await stream.send_data(body, end_stream=True)
        await stream.recv_response()
        return await stream.read(-1)


class TestListening(SocketCase):
    async def test_request(self) -> None:
        async with (
            await aioh2.start_server(answer, "127.0.0.1", 0) as server,
            aioh2.open_connection("127.0.0.1", port_of(server)) as client,
        ):
            self.assertEqual(await self.within(fetch(client)), b"body")

    async def test_callback_gets_the_protocol(self) -> None:
        called: list[aioh2.H2Protocol] = []
        async with (
            await aioh2.start_server(called.append, "127.0.0.1", 0) as server,  # type: ignore[arg-type]
            aioh2.open_connection("127.0.0.1", port_of(server)),
        ):
            (protocol,) = called
            self.assertEqual(server.connections, {protocol})
            self.assertIsInstance(server.connections, frozenset)
            self.assertFalse(protocol.client_side)

    async def test_one_port_for_all_families(self) -> None:
        async with await aioh2.start_server(answer) as server:
            names = [sock.getsockname() for sock in server.sockets]
            self.assertEqual(len({name[1] for name in names}), 1)
            families = {sock.family for sock in server.sockets}
            if len(two_addresses()) == 2 and ":" in two_addresses()[1]:
                self.assertEqual(families, {socket.AF_INET, socket.AF_INET6})

    async def test_one_port_for_all_addresses(self) -> None:
        async with await aioh2.start_server(answer, two_addresses(), 0) as server:
            self.assertEqual(
                sorted(sock.getsockname()[0] for sock in server.sockets), sorted(two_addresses())
            )
            self.assertEqual(len({sock.getsockname()[1] for sock in server.sockets}), 1)
            for address in two_addresses():
                async with aioh2.open_connection(address, port_of(server)) as client:
                    self.assertEqual(await self.within(fetch(client)), b"body")

    async def test_one_port_and_one_address(self) -> None:
        loop = asyncio.get_running_loop()
        with mock.patch.object(loop, "create_server", wraps=loop.create_server) as create:
            server = await aioh2.start_server(answer, "127.0.0.1", 0)
        async with server:
            self.assertEqual(len(server.sockets), 1)
            self.assertTrue(server.is_serving())
        create.assert_called_once()

    async def test_given_port(self) -> None:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        async with await aioh2.start_server(answer, "127.0.0.1", port) as server:
            self.assertEqual(port_of(server), port)

    async def test_port_that_is_taken(self) -> None:
        async with await aioh2.start_server(answer, "127.0.0.1", 0) as server:
            with self.assertRaises(OSError) as caught:
                await aioh2.start_server(answer, "127.0.0.1", port_of(server))
            self.assertEqual(caught.exception.errno, errno.EADDRINUSE)

    def failing(self, error: OSError, times: int) -> Any:
        """Let listening on a port that was found in another family fail, so many times."""
        loop = asyncio.get_running_loop()
        create = loop.create_server
        left = [times]
        self.created: list[asyncio.Server] = []

        async def create_server(factory: Any, host: Any, port: Any, **options: Any) -> Any:
            if port and left[0]:
                left[0] -= 1
                raise error
            server = await create(factory, host, port, **options)
            while not port and len({sock.getsockname()[1] for sock in server.sockets}) == 1:
                # both families have got the same port: a rare chance, which is not meant here
                server.close()
                server = await create(factory, host, port, **options)
            self.created.append(server)
            return server

        return mock.patch.object(loop, "create_server", create_server)

    async def test_free_port_that_another_took_meanwhile(self) -> None:
        with self.failing(OSError(errno.EADDRINUSE, "in use"), 3):
            server = await aioh2.start_server(answer, two_addresses(), 0)
        async with server:
            self.assertEqual(len({sock.getsockname()[1] for sock in server.sockets}), 1)
        self.assertEqual([len(created.sockets) for created in self.created], [0] * 5)

    async def test_no_port_is_free(self) -> None:
        with (
            self.failing(OSError(errno.EADDRINUSE, "in use"), 1000),
            self.assertRaisesRegex(OSError, "in use"),
        ):
            await aioh2.start_server(answer, two_addresses(), 0)
        self.assertEqual({len(created.sockets) for created in self.created}, {0})

    async def test_another_error_is_not_retried(self) -> None:
        with (
            self.failing(PermissionError(errno.EACCES, "not allowed"), 1),
            self.assertRaises(PermissionError),
        ):
            await aioh2.start_server(answer, two_addresses(), 0)
        self.assertEqual([len(created.sockets) for created in self.created], [0])

    async def test_port_that_is_the_same_by_chance(self) -> None:
        loop = asyncio.get_running_loop()
        create = loop.create_server

        async def create_server(factory: Any, host: Any, port: Any, **options: Any) -> Any:
            return await create(factory, host, given, **options)

        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            given = sock.getsockname()[1]
        for start_serving in (True, False):
            with mock.patch.object(loop, "create_server", create_server):
                server = await aioh2.start_server(
                    answer, two_addresses(), 0, start_serving=start_serving
                )
            async with server:
                self.assertEqual(server.is_serving(), start_serving)

    async def test_options_of_asyncio(self) -> None:
        loop = asyncio.get_running_loop()
        with mock.patch.object(loop, "create_server", wraps=loop.create_server) as create:
            async with await aioh2.start_server(
                answer, "127.0.0.1", 0, backlog=7, reuse_port=True, concurrency=5
            ) as server:
                option = server.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
                self.assertTrue(option)
                async with await aioh2.start_server(
                    answer, "127.0.0.1", port_of(server), reuse_port=True
                ) as second:
                    self.assertEqual(port_of(second), port_of(server))
        self.assertEqual(create.call_args_list[0].kwargs["backlog"], 7)

    async def test_start_serving_later(self) -> None:
        for host in ("127.0.0.1", two_addresses()):
            async with await aioh2.start_server(answer, host, 0, start_serving=False) as server:
                self.assertFalse(server.is_serving())
                await server.start_serving()
                self.assertTrue(server.is_serving())
                async with aioh2.open_connection("127.0.0.1", port_of(server)) as client:
                    self.assertEqual(await self.within(fetch(client)), b"body")

    async def test_given_socket(self) -> None:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        async with await aioh2.start_server(answer, sock=sock) as server:
            self.assertEqual(port_of(server), sock.getsockname()[1])
            async with aioh2.open_connection("127.0.0.1", port_of(server)) as client:
                self.assertEqual(await self.within(fetch(client)), b"body")

    async def test_config_and_options(self) -> None:
        config = aioh2.Config(concurrency=3, max_frame_size=20_000)
        async with (
            await aioh2.start_server(
                answer, "127.0.0.1", 0, config=config, concurrency=5
            ) as server,
            aioh2.open_connection("127.0.0.1", port_of(server)) as client,
        ):
            settings = client.remote_settings
            self.assertEqual(settings[aioh2.SettingCodes.MAX_CONCURRENT_STREAMS], 5)
            self.assertEqual(settings[aioh2.SettingCodes.MAX_FRAME_SIZE], 20_000)

    async def test_class_of_the_protocol(self) -> None:
        events: list[str] = []

        class Watching(aioh2.H2Protocol):
            def event_received(self, event: Any) -> None:
                events.append(type(event).__name__)
                super().event_received(event)

        async with (
            await aioh2.start_server(answer, "127.0.0.1", 0, cls=Watching) as server,
            aioh2.open_connection("127.0.0.1", port_of(server)) as client,
        ):
            await self.within(fetch(client))
            self.assertIn("RequestReceived", events)
            (protocol,) = server.connections
            self.assertIsInstance(protocol, Watching)

    async def test_wrong_arguments(self) -> None:
        for arguments, options, error, says in (
            ((None,), {}, TypeError, "client_connected_cb must be callable, not None"),
            ((answer,), {"config": 7}, TypeError, "config must be a Config or None, not 7"),
            ((answer,), {"concurrency": -1}, ValueError, "concurrency must be from 0.*not -1"),
            ((answer,), {"concurrency": "1"}, TypeError, "concurrency must be an int"),
            ((answer,), {"concurency": 1}, TypeError, "concurency"),
            ((answer,), {"ssl": True}, TypeError, "ssl must be an SSLContext or None, not True"),
            ((answer,), {"ssl": "cert"}, TypeError, "ssl must be an SSLContext or None"),
        ):
            for start in (aioh2.start_server, aioh2.start_unix_server):
                with self.subTest(says, start=start), self.assertRaisesRegex(error, says):
                    await start(*arguments, **options)  # type: ignore[operator]

    async def test_unix_socket(self) -> None:
        path = self.directory() / "socket"
        async with (
            await aioh2.start_unix_server(answer, str(path), concurrency=5) as server,
            aioh2.open_unix_connection(str(path)) as client,
        ):
            self.assertEqual(await self.within(fetch(client)), b"body")
            self.assertEqual(len(server.connections), 1)
            settings = client.remote_settings
            self.assertEqual(settings[aioh2.SettingCodes.MAX_CONCURRENT_STREAMS], 5)

    async def test_unix_socket_with_tls(self) -> None:
        path = str(self.directory() / "socket")
        async with (
            await aioh2.start_unix_server(answer, path, ssl=server_context()),
            aioh2.open_unix_connection(path, ssl=client_context()) as client,
        ):
            self.assertEqual(client.scheme, "https")
            self.assertEqual(await self.within(fetch(client)), b"body")


class TestSlowReader(SocketCase):
    """A client that is still reading when its server closes."""

    async def test_in_cleartext(self) -> None:
        await self.check(None)

    async def test_over_tls(self) -> None:
        await self.check(server_context())

    async def check(self, context: ssl.SSLContext | None) -> None:
        body = bytes(3 * 2**20)

        async def handler(stream: aioh2.H2Stream) -> None:
            await stream.start_response(RESPONSE)
            await stream.send_data(body, end_stream=True)

        def read(port: int) -> int:
            client = socket.create_connection(("127.0.0.1", port), PATIENCE)
            if context is not None:
                client = client_context("h2").wrap_socket(client, server_hostname="127.0.0.1")
            window = WindowUpdateFrame(0, window_increment=2**16).serialize()
            with client:
                client.sendall(PREFACE + unlimited_request() + GoAwayFrame().serialize())
                count = 0
                while got := client.recv(2**14):
                    count += len(got)
                    # slower than the server writes, and faster than it loses patience
                    time.sleep(0.003)
                    with contextlib.suppress(BrokenPipeError):
                        client.sendall(window)
            return count

        with mock.patch.object(Intake, "LINGER_SECONDS", 0.25):
            server = await aioh2.start_server(
                lambda p: p.serve(handler), "127.0.0.1", 0, ssl=context
            )
            reading = asyncio.create_task(asyncio.to_thread(read, port_of(server)))
            await self.until(lambda: any(p.stats.streams_opened for p in server.connections))
            (protocol,) = server.connections
            await self.within(protocol.wait_closed())
            self.assertEqual(await self.within(reading), protocol.stats.bytes_sent)
            await self.within(server.shutdown())


class TestTls(SocketCase):
    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        # in debug mode, asyncio reports failed handshakes of its own accord
        asyncio.get_running_loop().set_debug(False)

    async def test_alpn_is_set_on_the_context(self) -> None:
        context = server_context()
        context.set_alpn_protocols(["http/1.1"])
        async with (
            await aioh2.start_server(answer, "127.0.0.1", 0, ssl=context) as server,
            self.raw(port_of(server), ssl=client_context("http/1.1", "h2")) as (_, writer),
        ):
            tls = writer.get_extra_info("ssl_object")
            self.assertEqual(tls.selected_alpn_protocol(), "h2")

    async def test_request(self) -> None:
        async with (
            await aioh2.start_server(answer, "127.0.0.1", 0, ssl=server_context()) as server,
            aioh2.open_connection("127.0.0.1", port_of(server), ssl=client_context()) as client,
        ):
            self.assertEqual(await self.within(fetch(client, bytes(10**6))), bytes(10**6))
            (protocol,) = server.connections
            self.assertEqual(protocol.get_extra_info("ssl_object").selected_alpn_protocol(), "h2")
            self.assertEqual(protocol.scheme, "https")

    async def test_client_without_h2(self) -> None:
        for alpn in ((), ("http/1.1",)):
            called: list[aioh2.H2Protocol] = []
            with self.subTest(alpn):
                async with (
                    self.info_at_most(),
                    await aioh2.start_server(
                        called.append,  # type: ignore[arg-type]
                        "127.0.0.1",
                        0,
                        ssl=server_context(),
                    ) as server,
                    self.raw(port_of(server), ssl=client_context(*alpn)) as (reader, writer),
                ):
                    writer.write(HTTP1)
                    self.assertEqual(await self.ended(reader), b"")
                    await self.until(lambda: not server.connections)
                self.assertEqual(called, [])

    async def ended(self, reader: asyncio.StreamReader) -> bytes:
        """Return what comes until the end of the connection, of whatever kind."""
        try:
            return await self.within(reader.read())
        except ConnectionError:
            return b""

    async def test_client_without_tls(self) -> None:
        await self.refused(HTTP1)

    async def test_client_that_says_nothing(self) -> None:
        await self.refused(b"", open_timeout=0.05)

    async def test_client_that_goes_away(self) -> None:
        called: list[aioh2.H2Protocol] = []
        async with (
            self.info_at_most(),
            await aioh2.start_server(
                called.append,  # type: ignore[arg-type]
                "127.0.0.1",
                0,
                ssl=server_context(),
            ) as server,
        ):
            async with self.raw(port_of(server)):
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.01)
        self.assertEqual(called, [])

    async def refused(self, data: bytes, **options: Any) -> None:
        called: list[aioh2.H2Protocol] = []
        async with (
            self.info_at_most(),
            await aioh2.start_server(
                called.append,  # type: ignore[arg-type]
                "127.0.0.1",
                0,
                ssl=server_context(),
                **options,
            ) as server,
            self.raw(port_of(server)) as (reader, writer),
        ):
            writer.write(data)
            await self.ended(reader)
            self.assertEqual(server.connections, frozenset())
        self.assertEqual(called, [])

    async def test_no_open_timeout(self) -> None:
        async with (
            await aioh2.start_server(
                answer, "127.0.0.1", 0, ssl=server_context(), open_timeout=None
            ) as server,
            aioh2.open_connection("127.0.0.1", port_of(server), ssl=client_context()) as client,
        ):
            self.assertEqual(await self.within(fetch(client)), b"body")

    async def test_given_handshake_timeout(self) -> None:
        async with (
            await aioh2.start_server(
                answer, "127.0.0.1", 0, ssl=server_context(), ssl_handshake_timeout=0.05
            ) as server,
            self.raw(port_of(server)) as (reader, _),
        ):
            await self.ended(reader)

    async def test_handshake_that_is_under_way_at_the_shutdown(self) -> None:
        called: list[aioh2.H2Protocol] = []
        server = await aioh2.start_server(
            called.append,  # type: ignore[arg-type]
            "127.0.0.1",
            0,
            ssl=server_context(),
        )
        async with self.raw(port_of(server)) as (reader, writer):
            await asyncio.sleep(0.01)
            await self.within(server.shutdown(0))
            with contextlib.suppress(ConnectionError):
                await self.within(
                    writer.start_tls(client_context("h2"), server_hostname="127.0.0.1")
                )
                while await self.within(reader.read(1000), 1):
                    pass
        self.assertEqual(called, [])
        self.assertEqual(server.connections, frozenset())


class TestTlsGoodbye(SocketCase):
    """A client that answers no close_notify."""

    # uvloop does not tell what its TLS still has to write, so there close_timeout alone counts
    loop_factory = asyncio.SelectorEventLoop

    @asynccontextmanager
    async def silent(
        self, handler: Callable[[aioh2.H2Stream], Awaitable[None]]
    ) -> AsyncIterator[tuple[aioh2.H2Protocol, ssl.SSLSocket]]:
        """Have a request from a client that reads nothing, and so answers no close_notify."""

        def connect(port: int) -> ssl.SSLSocket:
            raw = socket.create_connection(("127.0.0.1", port), PATIENCE)
            client = client_context("h2").wrap_socket(raw, server_hostname="127.0.0.1")
            client.sendall(PREFACE + unlimited_request())
            return client

        async with await aioh2.start_server(
            lambda p: p.serve(handler), "127.0.0.1", 0, ssl=server_context()
        ) as server:
            with await self.within(asyncio.to_thread(connect, port_of(server))) as client:
                await self.until(lambda: any(p.stats.streams_opened for p in server.connections))
                (protocol,) = server.connections
                yield protocol, client

    async def test_goodbye_is_not_waited_for(self) -> None:
        async def handler(stream: aioh2.H2Stream) -> None:
            await asyncio.Event().wait()

        with mock.patch.object(Closing, "GOODBYE_SECONDS", 0.01):
            async with self.silent(handler) as (protocol, _):
                protocol.close_connection()
                # close_timeout is longer
                await self.within(protocol.wait_closed())

    async def test_what_is_not_written_is_waited_for(self) -> None:
        async def handler(stream: aioh2.H2Stream) -> None:
            await stream.start_response(RESPONSE)
            await stream.send_data(bytes(2**26))

        def read_all(client: ssl.SSLSocket) -> int:
            return sum(map(len, iter(lambda: client.recv(65_536), b"")))

        with (
            mock.patch.object(Closing, "GOODBYE_SECONDS", 0.01),
            mock.patch("aioh2.closing._has_written", wraps=_has_written) as asked,
        ):
            async with self.silent(handler) as (protocol, client):
                # the system's buffers are full, and asyncio's are
                await self.until(lambda: protocol.stream(1).blocked_on == "transport")
                protocol.close_connection()
                await self.until(lambda: asked.call_count >= 10)
                got = await self.within(asyncio.to_thread(read_all, client))
                self.assertEqual(got, protocol.stats.bytes_sent)


class TestNotHttp2(SocketCase):
    """What comes from a client without TLS that does not speak HTTP/2."""

    async def refused(self, data: bytes, **options: Any) -> list[str]:
        """Check that the server closes, and return what it logs."""
        with self.assertLogs("aioh2.server", "INFO") as logs:
            async with (
                await aioh2.start_server(answer, "127.0.0.1", 0, **options) as server,
                self.raw(port_of(server)) as (reader, writer),
            ):
                writer.write(data)
                received = await self.within(reader.read())
                await self.until(lambda: not server.connections)
        self.assertEqual({record.levelname for record in logs.records}, {"INFO"})
        self.assertTrue(received.startswith(b"\0"), received[:20])
        return [record.getMessage() for record in logs.records]

    async def test_http1(self) -> None:
        lines = await self.refused(HTTP1)
        self.assertIn("HTTP/1", lines[0])

    async def test_garbage(self) -> None:
        await self.refused(bytes(range(256)))

    async def test_nothing(self) -> None:
        lines = await self.refused(b"", open_timeout=0.05)
        self.assertIn("nothing for 0.05 s", lines[0])

    async def test_no_settings(self) -> None:
        lines = await self.refused(PREFACE, open_timeout=0.05)
        self.assertIn("no SETTINGS for 0.05 s", lines[0])

    async def test_slow_settings(self) -> None:
        frame = SettingsFrame().serialize()
        await self.refused(PREFACE + frame[:-1], open_timeout=0.05)

    async def test_disconnect(self) -> None:
        async with (
            self.info_at_most(),
            await aioh2.start_server(answer, "127.0.0.1", 0) as server,
        ):
            async with self.raw(port_of(server)) as (reader, _):
                await self.within(reader.read(1))
            await self.until(lambda: not server.connections)

    async def test_half_a_frame(self) -> None:
        async with (
            self.info_at_most(),
            await aioh2.start_server(answer, "127.0.0.1", 0) as server,
        ):
            async with self.raw(port_of(server)) as (_, writer):
                writer.write(PREFACE + SettingsFrame().serialize() + b"\0\0\1")
                await self.until(lambda: server.connections)
            await self.until(lambda: not server.connections)


class TestServer(SocketCase):
    """The life of a ``Server``."""

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.proceed = asyncio.Event()
        self.server = await aioh2.start_server(self.connected, "127.0.0.1", 0, close_timeout=3)
        self.port = port_of(self.server)
        self.addAsyncCleanup(self.server.shutdown, 0)

    async def connected(self, protocol: aioh2.H2Protocol) -> None:
        async def handler(stream: aioh2.H2Stream) -> None:
            await self.proceed.wait()
            await stream.start_response(RESPONSE, end_stream=True)

        await protocol.serve(handler)

    async def connect(self) -> aioh2.H2Protocol:
        client = await self.within(aioh2.open_connection("127.0.0.1", self.port))
        self.addAsyncCleanup(client.wait_closed)
        self.addCleanup(client.close_connection)
        return client

    async def busy(self) -> aioh2.H2Protocol:
        """Return a client with a request in flight."""
        client = await self.connect()
        await client.start_request(REQUEST, end_stream=True)
        await self.until(lambda: sum(p.stats.streams_open for p in self.server.connections))
        return client

    async def test_close(self) -> None:
        client = await self.busy()
        self.assertTrue(self.server.is_serving())
        self.server.close()
        self.assertFalse(self.server.is_serving())
        self.assertEqual(self.server.sockets, ())
        with self.assertRaises(ConnectionRefusedError):
            await self.within(aioh2.open_connection("127.0.0.1", self.port))
        # connections live on
        self.proceed.set()
        self.assertEqual(await self.within(client.recv_response(1)), RESPONSE)
        self.assertEqual(len(self.server.connections), 1)

    async def test_wait_closed(self) -> None:
        waiting = asyncio.create_task(self.server.wait_closed())
        await settle()
        self.assertFalse(waiting.done())
        self.server.close()
        await self.within(waiting)
        await self.within(self.server.wait_closed())

    async def test_serve_forever(self) -> None:
        serving = asyncio.create_task(self.server.serve_forever())
        client = await self.connect()
        self.proceed.set()
        await self.within(client.start_request(REQUEST, end_stream=True))
        self.assertEqual(await self.within(client.recv_response(1)), RESPONSE)
        client.close_connection()
        await self.until(lambda: not self.server.connections)
        serving.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await self.within(serving)
        self.assertFalse(self.server.is_serving())

    async def test_connections(self) -> None:
        self.assertEqual(self.server.connections, frozenset())
        clients = [await self.connect() for _ in range(3)]
        before = self.server.connections
        self.assertEqual(len(before), 3)
        clients[0].close_connection()
        await self.until(lambda: len(self.server.connections) == 2)
        self.assertEqual(len(before), 3)

    async def test_what_it_says_of_itself(self) -> None:
        await self.connect()
        self.assertRegex(repr(self.server), rf"<Server sockets=.*{self.port}.* connections=1>")

    async def test_shutdown(self) -> None:
        clients = [await self.busy(), await self.busy(), await self.connect()]
        shutdown = asyncio.create_task(self.server.shutdown())
        await self.until(lambda: all(client.is_closing for client in clients))
        self.assertFalse(shutdown.done())
        self.proceed.set()
        drained = await self.within(shutdown)
        self.assertEqual(drained, aioh2.Drained(completed=2, aborted=0))
        self.assertEqual(self.server.connections, frozenset())
        for client in clients[:2]:
            self.assertEqual(await self.within(client.recv_response(1)), RESPONSE)

    async def test_shutdown_with_a_reason(self) -> None:
        clients = [await self.connect(), await self.connect()]
        await self.within(self.server.shutdown(debug_data=b"why"))
        for client in clients:
            await self.within(client.wait_closed())
            assert isinstance(client.close_reason, aioh2.ConnectionClosed)
            self.assertEqual(client.close_reason.debug_data, b"why")

    async def test_shutdown_refuses_new_connections_first(self) -> None:
        await self.busy()
        shutdown = asyncio.create_task(self.server.shutdown())
        await asyncio.sleep(0)
        with self.assertRaises(ConnectionRefusedError):
            await self.within(aioh2.open_connection("127.0.0.1", self.port))
        self.assertFalse(self.server.is_serving())
        self.proceed.set()
        await self.within(shutdown)

    async def test_shutdown_aborts_after_the_grace_time(self) -> None:
        client = await self.busy()
        self.assertEqual(await self.within(self.server.shutdown(0.02)), (0, 1))
        with self.assertRaises(aioh2.ConnectionClosed):
            await self.within(client.recv_response(1))

    async def test_shutdown_without_connections(self) -> None:
        self.assertEqual(await self.within(self.server.shutdown()), (0, 0))

    async def test_shutdown_twice(self) -> None:
        await self.busy()
        first = asyncio.create_task(self.server.shutdown())
        await asyncio.sleep(0)
        self.assertEqual(await self.within(self.server.shutdown(0)), (0, 1))
        self.assertEqual(await self.within(first), (0, 1))
        self.assertEqual(await self.within(self.server.shutdown()), (0, 0))

    async def test_shutdown_with_a_wrong_grace(self) -> None:
        await self.connect()
        with self.assertRaisesRegex(ValueError, "grace"):
            await self.within(self.server.shutdown(-1))

    async def test_shutdown_with_a_wrong_reason(self) -> None:
        await self.connect()
        with self.assertRaisesRegex(TypeError, "debug_data"):
            await self.within(self.server.shutdown(debug_data="why"))  # type: ignore[arg-type]
        self.assertTrue(self.server.is_serving())

    async def test_shutdown_inside_a_handler(self) -> None:
        server: aioh2.Server

        async def handler(stream: aioh2.H2Stream) -> None:
            drained = await server.shutdown()
            await stream.start_response(RESPONSE)
            await stream.send_data(repr(tuple(drained)).encode(), end_stream=True)

        server = await aioh2.start_server(lambda p: p.serve(handler), "127.0.0.1", 0)
        client = await self.within(aioh2.open_connection("127.0.0.1", port_of(server)))
        self.assertEqual(await self.within(fetch(client)), b"(0, 0)")
        await self.within(client.wait_closed())

    async def late(self, end: Callable[[aioh2.Server], Awaitable[Any]]) -> None:
        """Check that ``end`` turns away who is accepted already, and not yet connected."""
        ends: list[asyncio.Future[Any]] = []
        called: list[aioh2.H2Protocol] = []

        class Late(aioh2.H2Protocol):
            def __init__(self, *args: Any, **options: Any) -> None:
                super().__init__(*args, **options)
                ends.append(asyncio.ensure_future(end(server)))

        server = await aioh2.start_server(
            called.append,  # type: ignore[arg-type]
            "127.0.0.1",
            0,
            cls=Late,
        )
        async with self.raw(port_of(server)) as (reader, _):
            await self.within(reader.read(), 1)
            await self.within(ends[0])
        self.assertEqual(called, [])
        self.assertEqual(server.connections, frozenset())

    async def test_connection_that_is_accepted_at_the_shutdown(self) -> None:
        await self.late(lambda server: server.shutdown(0.05))

    async def test_connection_that_is_accepted_as_an_exception_leaves(self) -> None:
        async def leave(server: aioh2.Server) -> None:
            with contextlib.suppress(KeyError):
                async with server:
                    raise KeyError("of the application")

        await self.late(leave)

    async def test_leaving_shuts_down(self) -> None:
        client = await self.busy()

        async def use() -> None:
            async with self.server as entered:
                self.assertIs(entered, self.server)

        leaving = asyncio.create_task(use())
        await self.until(lambda: client.is_closing)
        self.assertFalse(leaving.done())
        self.proceed.set()
        await self.within(leaving)
        self.assertEqual(await self.within(client.recv_response(1)), RESPONSE)

    async def test_an_exception_closes_at_once(self) -> None:
        client = await self.busy()

        async def use() -> None:
            async with self.server:
                raise KeyError("of the application")

        with self.assertRaises(KeyError):
            await self.within(use(), 1)
        self.assertFalse(self.server.is_serving())
        self.assertEqual(self.server.connections, frozenset())
        with self.assertRaises(aioh2.ConnectionClosed):
            await self.within(client.recv_response(1))

    async def test_failing_handler_costs_its_connection(self) -> None:
        async def handler(protocol: aioh2.H2Protocol) -> None:
            await protocol.recv_request()
            raise ValueError("of the application")

        async with await aioh2.start_server(handler, "127.0.0.1", 0) as server:
            clients = [
                await self.within(aioh2.open_connection("127.0.0.1", port_of(server)))
                for _ in range(2)
            ]
            with self.assertLogs("aioh2.server", "ERROR"):
                await clients[0].start_request(REQUEST)
                await self.within(clients[0].wait_closed())
            self.assertIn("INTERNAL_ERROR", str(clients[0].close_reason))
            self.assertFalse(clients[1].is_closing)
            await self.within(clients[1].ping())
            clients[1].close_connection()

    async def test_slow_client_does_not_hold_up_the_close(self) -> None:
        # it reads nothing: what was written to it cannot be flushed
        async def pour(protocol: aioh2.H2Protocol) -> None:
            stream_id, _ = await protocol.recv_request()
            await protocol.start_response(stream_id, RESPONSE)
            await protocol.send_data(stream_id, bytes(3 * 10**7))

        async with (
            await aioh2.start_server(pour, "127.0.0.1", 0, close_timeout=0.1) as server,
            self.raw(port_of(server)) as (_, writer),
        ):
            frames = (
                SettingsFrame(settings={aioh2.SettingCodes.INITIAL_WINDOW_SIZE: 2**31 - 1}),
                WindowUpdateFrame(0, 2**30),
                HeadersFrame(1, hpack.Encoder().encode(REQUEST), flags=["END_HEADERS"]),
            )
            writer.write(PREFACE + b"".join(frame.serialize() for frame in frames))
            await self.until(lambda: any(p.stats.streams_open for p in server.connections))
            (protocol,) = server.connections
            await self.until(lambda: protocol.stream(1).blocked_on == "transport")
            self.assertEqual(await self.within(server.shutdown(0), 1), (0, 1))
            self.assertEqual(server.connections, frozenset())


class TestGoodbye(SocketCase):
    async def test_goaway_is_the_last_that_is_written(self) -> None:
        async with (
            await aioh2.start_server(answer, "127.0.0.1", 0) as server,
            self.raw(port_of(server)) as (reader, writer),
        ):
            writer.write(PREFACE + SettingsFrame().serialize())
            await self.until(lambda: server.connections)
            (protocol,) = server.connections
            await self.until(lambda: protocol.stats.bytes_received)
            protocol.close_connection(aioh2.ErrorCodes.ENHANCE_YOUR_CALM, b"why")
            received = await self.within(reader.read())
            goaway = GoAwayFrame(0, 0, 11, b"why").serialize()
            self.assertTrue(received.endswith(goaway), received)

    async def test_drained_connection_is_not_reset(self) -> None:
        # for then a peer that still gives back what it has read may lose what it has not
        loop = asyncio.get_running_loop()
        async with await aioh2.start_server(answer, "127.0.0.1", 0) as server:
            with socket.create_connection(("127.0.0.1", port_of(server))) as sock:
                sock.setblocking(False)
                greeting = (SettingsFrame(), PingFrame(0, bytes(7) + b"\1", flags=["ACK"]))
                await loop.sock_sendall(sock, PREFACE + greeting[0].serialize())
                await self.until(lambda: any(p.stats.bytes_received for p in server.connections))
                leaving = loop.create_task(server.shutdown())
                await self.until(lambda: any(p.is_closing for p in server.connections))
                await loop.sock_sendall(sock, greeting[1].serialize())
                while await self.within(loop.sock_recv(sock, 65_536)):
                    pass
                # or the second raises BrokenPipeError
                for _ in range(2):
                    await loop.sock_sendall(sock, WindowUpdateFrame(0, 10).serialize())
            self.assertEqual(await self.within(leaving), (0, 0))
