"""Clients on loopback: connecting, TLS, unix sockets, and servers that are not HTTP/2."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from unittest import mock

import trustme
from hyperframe.frame import PingFrame, SettingsFrame

import aioh2

from .test_server import (
    SocketCase,
    answer,
    authority,
    client_context,
    fetch,
    port_of,
    server_context,
)
from .wire import REQUEST, settle

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

GREETING = SettingsFrame().serialize()


def sends(data: bytes, *, then_closes: bool = False) -> Script:
    """Return a server that reads something, sends ``data``, and waits for the client to go."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(data)
        if not then_closes:
            await reader.read()

    return script


class ClientCase(SocketCase):
    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        # how many connections the raw server has, and how many it had
        self.open = 0
        self.accepted = 0

    @asynccontextmanager
    async def server(self, **options: Any) -> AsyncIterator[int]:
        async with await aioh2.start_server(answer, "127.0.0.1", 0, **options) as server:
            yield port_of(server)

    @asynccontextmanager
    async def raw_server(self, script: Script, **options: Any) -> AsyncIterator[int]:
        """Listen without HTTP/2, and hand out the port."""
        # in debug mode, asyncio reports failed handshakes of its own accord
        asyncio.get_running_loop().set_debug(False)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.accepted += 1
            self.open += 1
            try:
                with contextlib.suppress(OSError):
                    await script(reader, writer)
            finally:
                self.open -= 1
                writer.transport.abort()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, **options)
        async with server:
            yield server.sockets[0].getsockname()[1]
            await self.until(lambda: not self.open)


class TestOpening(ClientCase):
    async def test_await(self) -> None:
        async with self.server() as port:
            client = await self.within(aioh2.open_connection("127.0.0.1", port))
            self.assertIs(type(client), aioh2.H2Protocol)
            self.assertTrue(client.client_side)
            self.assertEqual(await self.within(fetch(client)), b"body")
            await self.within(client.shutdown())

    async def test_async_with(self) -> None:
        async with self.server() as port:
            async with aioh2.open_connection("127.0.0.1", port) as client:
                self.assertEqual(await self.within(fetch(client)), b"body")
            self.assertIn("NO_ERROR", str(client.close_reason))
            await self.within(client.wait_closed())

    async def test_async_with_drains(self) -> None:
        async with self.server() as port:
            async with aioh2.open_connection("127.0.0.1", port) as client:
                stream_id = await client.start_request(REQUEST, end_stream=True)
            self.assertEqual((await client.recv_response(stream_id))[0], (":status", "200"))

    async def test_async_with_an_exception_closes_at_once(self) -> None:
        async with self.server() as port:
            with self.assertRaises(KeyError):
                async with aioh2.open_connection("127.0.0.1", port) as client:
                    stream_id = await client.start_request({":method": "POST"})
                    raise KeyError("of the application")
            with self.assertRaises(aioh2.ConnectionClosed):
                await self.within(client.recv_response(stream_id))

    async def test_async_with_that_cannot_connect(self) -> None:
        entered = False
        with self.assertRaises(OSError):
            async with aioh2.open_connection("127.0.0.1", self.free_port()):
                entered = True
        self.assertFalse(entered)

    def free_port(self) -> int:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            return int(sock.getsockname()[1])

    async def test_each_await_connects(self) -> None:
        async with self.server() as port:
            opening = aioh2.open_connection("127.0.0.1", port)
            first, second = await opening, await opening
            self.assertIsNot(first, second)
            for client in (first, second):
                self.assertEqual(await self.within(fetch(client)), b"body")
                client.close_connection()

    async def test_neither_awaited_nor_entered(self) -> None:
        aioh2.open_connection("127.0.0.1", 1)
        aioh2.open_unix_connection("/nowhere")

    async def test_settings_have_come(self) -> None:
        async with (
            self.server(concurrency=3) as port,
            aioh2.open_connection("127.0.0.1", port) as client,
        ):
            settings = client.remote_settings
            self.assertEqual(settings[aioh2.SettingCodes.MAX_CONCURRENT_STREAMS], 3)
            self.assertEqual(client.available_slots, 3)

    async def test_wait_for_settings(self) -> None:
        proceed = asyncio.Event()

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await proceed.wait()
            writer.write(GREETING)
            await reader.read()

        async with self.raw_server(slow) as port:
            opening = asyncio.ensure_future(self.within(aioh2.open_connection("127.0.0.1", port)))
            await self.until(lambda: self.open)
            self.assertFalse(opening.done())
            proceed.set()
            client = await opening
            client.close_connection()

    async def test_config_and_options(self) -> None:
        config = aioh2.Config(concurrency=3, max_frame_size=20_000)
        async with (
            self.server() as port,
            aioh2.open_connection("127.0.0.1", port, config=config, concurrency=5) as client,
        ):
            self.assertEqual(client.config.concurrency, 5)
            self.assertEqual(client.config.max_frame_size, 20_000)
            self.assertEqual(config.concurrency, 3)

    async def test_wrong_arguments(self) -> None:
        # at the call, before anything is awaited
        for options, error, says in (
            ({"config": {}}, TypeError, "config must be a Config or None, not {}"),
            ({"concurrency": -1}, ValueError, "concurrency must be from 0.*not -1"),
            ({"open_timeout": "1"}, TypeError, "open_timeout must be a number of seconds.*'1'"),
            ({"ssl": "yes"}, TypeError, "ssl must be True, an SSLContext or None, not 'yes'"),
            ({"ssl": 1}, TypeError, "ssl must be True"),
        ):
            for open_ in (aioh2.open_connection, aioh2.open_unix_connection):
                with self.subTest(says, open_=open_), self.assertRaisesRegex(error, says):
                    open_(**options)  # type: ignore[operator]

    async def test_unknown_option(self) -> None:
        with self.assertRaisesRegex(TypeError, "concurency"):
            await aioh2.open_connection("127.0.0.1", 1, concurency=3)
        with self.assertRaisesRegex(TypeError, "concurency"):
            await aioh2.open_unix_connection("/nowhere", concurency=3)

    async def test_options_of_asyncio(self) -> None:
        async with self.server() as port:
            local = ("127.0.0.1", self.free_port())
            async with aioh2.open_connection("127.0.0.1", port, local_addr=local) as client:
                self.assertEqual(client.get_extra_info("sockname"), local)

    async def test_given_socket(self) -> None:
        async with self.server() as port:
            sock = socket.create_connection(("127.0.0.1", port))
            async with aioh2.open_connection(sock=sock) as client:
                self.assertEqual(client.authority, f"127.0.0.1:{port}")
                self.assertEqual(await self.within(fetch(client)), b"body")

    async def test_class_of_the_protocol(self) -> None:
        events: list[str] = []

        class Watching(aioh2.H2Protocol):
            def event_received(self, event: Any) -> None:
                events.append(type(event).__name__)
                super().event_received(event)

        async with (
            self.server() as port,
            aioh2.open_connection("127.0.0.1", port, cls=Watching) as client,
        ):
            self.assertIsInstance(client, Watching)
            await self.within(fetch(client))
        self.assertIn("ResponseReceived", events)


class TestAuthority(ClientCase):
    """``:authority`` where the application gives none."""

    async def sent(self, port: int, headers: Any = (), **options: Any) -> dict[str, str]:
        """Return the headers of a request to ``127.0.0.1:port``, whatever the client is told."""
        requests: list[dict[str, str]] = []

        async def connected(protocol: aioh2.H2Protocol) -> None:
            stream_id, headers = await protocol.recv_request()
            requests.append(dict(headers))  # type: ignore[arg-type]
            await protocol.start_response(stream_id, {":status": "204"}, end_stream=True)

        loop = asyncio.get_running_loop()
        create = loop.create_connection
        context = server_context() if options.get("ssl") else None

        async def create_connection(factory: Any, _host: str, _port: int, **more: Any) -> Any:
            if more["ssl"]:
                more["server_hostname"] = "localhost"
            return await create(factory, "127.0.0.1", port_of(server), **more)

        async with await aioh2.start_server(connected, "127.0.0.1", 0, ssl=context) as server:
            with mock.patch.object(loop, "create_connection", create_connection):
                client = await self.within(aioh2.open_connection(port=port, **options))
            stream_id = await client.start_request(headers, end_stream=True)
            await self.within(client.recv_response(stream_id))
            await self.within(client.wait_closed())
        return requests[0]

    async def test_host_and_port(self) -> None:
        for host, port, wanted in (
            ("a.test", 8080, "a.test:8080"),
            ("a.test", 80, "a.test"),
            ("a.test", 443, "a.test:443"),
            ("2001:db8::1", 8080, "[2001:db8::1]:8080"),
            ("2001:db8::1", 80, "[2001:db8::1]"),
        ):
            with self.subTest(wanted):
                headers = await self.sent(port, host=host)
                self.assertEqual((headers[":scheme"], headers[":authority"]), ("http", wanted))

    async def test_over_tls(self) -> None:
        for port, wanted in ((443, "a.test"), (80, "a.test:80"), (8443, "a.test:8443")):
            with self.subTest(wanted):
                headers = await self.sent(port, host="a.test", ssl=client_context())
                self.assertEqual((headers[":scheme"], headers[":authority"]), ("https", wanted))

    async def test_host_field(self) -> None:
        headers = await self.sent(8080, {"host": "b.test"}, host="a.test")
        self.assertEqual(headers[":authority"], "b.test")

    async def test_given(self) -> None:
        headers = await self.sent(8080, {":authority": "b.test"}, host="a.test")
        self.assertEqual(headers[":authority"], "b.test")
        self.assertNotIn("host", headers)

    async def test_unix_socket(self) -> None:
        for context in (None, server_context()):
            path = str(self.directory() / "socket")
            async with (
                await aioh2.start_unix_server(answer, path, ssl=context),
                aioh2.open_unix_connection(path, ssl=context and client_context()) as client,
            ):
                async with client.open_stream({}, end_stream=True) as stream:
                    headers = dict(stream.request_headers)
                    await self.within(stream.recv_response())
                self.assertEqual(headers[":authority"], "localhost")
                self.assertEqual(headers[":scheme"], "https" if context else "http")


class TestUnix(ClientCase):
    async def test_no_such_path(self) -> None:
        with self.assertRaises(FileNotFoundError):
            await aioh2.open_unix_connection(str(self.directory() / "socket"))

    async def test_given_name(self) -> None:
        # the certificate is for another name than the default, which is localhost
        path = str(self.directory() / "socket")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority().issue_cert("a.test").configure_cert(context)
        async with (
            await aioh2.start_unix_server(answer, path, ssl=context),
            aioh2.open_unix_connection(
                path, ssl=client_context(), server_hostname="a.test"
            ) as client,
        ):
            self.assertEqual(await self.within(fetch(client)), b"body")

    async def test_options(self) -> None:
        path = str(self.directory() / "socket")
        async with (
            await aioh2.start_unix_server(answer, path),
            aioh2.open_unix_connection(path, cls=Sub, max_frame_size=20_000) as client,
        ):
            self.assertIsInstance(client, Sub)
            self.assertEqual(client.config.max_frame_size, 20_000)


class Sub(aioh2.H2Protocol):
    """Some class of an application's."""


class TestTls(ClientCase):
    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        # in debug mode, asyncio reports failed handshakes of its own accord
        asyncio.get_running_loop().set_debug(False)

    async def test_alpn_is_set_on_a_given_context(self) -> None:
        context = client_context("http/1.1")
        async with (
            self.server(ssl=server_context()) as port,
            aioh2.open_connection("127.0.0.1", port, ssl=context) as client,
        ):
            tls = client.get_extra_info("ssl_object")
            self.assertEqual(tls.selected_alpn_protocol(), "h2")
            self.assertIs(tls.context, context)
            self.assertEqual(await self.within(fetch(client)), b"body")

    async def test_default_context(self) -> None:
        path = self.directory() / "ca.pem"
        authority().cert_pem.write_to_path(str(path))
        with mock.patch.dict(os.environ, {"SSL_CERT_FILE": str(path)}):
            async with (
                self.server(ssl=server_context()) as port,
                aioh2.open_connection("127.0.0.1", port, ssl=True) as client,
            ):
                tls = client.get_extra_info("ssl_object")
                self.assertEqual(tls.context.verify_mode, ssl.CERT_REQUIRED)
                self.assertTrue(tls.context.check_hostname)
                self.assertEqual(await self.within(fetch(client)), b"body")

    async def test_key_log(self) -> None:
        """What Wireshark needs to show the frames, where the environment asks for it."""
        folder = self.directory()
        authority().cert_pem.write_to_path(str(folder / "ca.pem"))
        path = folder / "keys.log"
        names = {"SSL_CERT_FILE": str(folder / "ca.pem"), "SSLKEYLOGFILE": str(path)}
        async with self.server(ssl=server_context()) as port:
            with mock.patch.dict(os.environ, names):
                async with aioh2.open_connection("127.0.0.1", port, ssl=True) as client:
                    self.assertEqual(await self.within(fetch(client)), b"body")
        self.assertIn("CLIENT_TRAFFIC_SECRET_0", path.read_text())

    async def test_default_context_checks_certificates(self) -> None:
        async with self.server(ssl=server_context()) as port:
            with self.assertRaises(ssl.SSLCertVerificationError):
                await self.within(aioh2.open_connection("127.0.0.1", port, ssl=True))

    async def test_without_tls(self) -> None:
        async with (
            self.server() as port,
            aioh2.open_connection("127.0.0.1", port, ssl=False) as client,
        ):
            self.assertIsNone(client.get_extra_info("ssl_object"))
            self.assertEqual(client.scheme, "http")

    async def test_unknown_authority(self) -> None:
        context = ssl.create_default_context()
        trustme.CA().configure_trust(context)
        await self.not_trusted(context)

    async def test_wrong_name(self) -> None:
        await self.not_trusted(client_context(), server_hostname="a.test")

    async def not_trusted(self, context: ssl.SSLContext, **options: Any) -> None:
        async with self.server(ssl=server_context()) as port:
            with self.assertRaises(ssl.SSLCertVerificationError) as caught:
                await self.within(aioh2.open_connection("127.0.0.1", port, ssl=context, **options))
            self.assertNotIsInstance(caught.exception, aioh2.AIOH2Exception)

    async def test_server_without_alpn(self) -> None:
        await self.no_h2(server_context(), "chose no protocol")

    async def test_server_with_http1_only(self) -> None:
        context = server_context()
        context.set_alpn_protocols(["http/1.1"])
        await self.no_h2(context, "chose no protocol")

    async def no_h2(self, context: ssl.SSLContext, says: str) -> None:
        async with self.raw_server(sends(b""), ssl=context) as port:
            with self.assertRaisesRegex(aioh2.HandshakeError, says) as caught:
                await self.within(aioh2.open_connection("127.0.0.1", port, ssl=client_context()))
            self.assertIn("ALPN", str(caught.exception))
            self.assertIsInstance(caught.exception, ConnectionError)
            self.assertTrue(caught.exception.retryable)

    async def test_server_that_refuses_alpn(self) -> None:
        # RFC 7301 section 3.2: the fatal alert no_application_protocol
        alert = bytes([21, 3, 3, 0, 2, 2, 120])
        async with self.raw_server(sends(alert)) as port:
            with self.assertRaisesRegex(aioh2.HandshakeError, "does not offer ALPN 'h2'") as caught:
                await self.within(aioh2.open_connection("127.0.0.1", port, ssl=client_context()))
            self.assertIsInstance(caught.exception.__cause__, ssl.SSLError)

    async def test_another_alert(self) -> None:
        alert = bytes([21, 3, 3, 0, 2, 2, 40])
        async with self.raw_server(sends(alert)) as port:
            with self.assertRaises(ssl.SSLError):
                await self.within(aioh2.open_connection("127.0.0.1", port, ssl=client_context()))

    async def test_server_without_tls(self) -> None:
        async with self.raw_server(sends(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
            with self.assertRaises(ssl.SSLError):
                await self.within(aioh2.open_connection("127.0.0.1", port, ssl=client_context()))

    async def test_server_that_closes_in_the_handshake(self) -> None:
        async with self.raw_server(sends(b"", then_closes=True)) as port:
            with self.assertRaises(ConnectionError):
                await self.within(aioh2.open_connection("127.0.0.1", port, ssl=client_context()))

    async def test_silent_in_the_handshake(self) -> None:
        async with self.raw_server(sends(b"")) as port:
            with self.assertRaisesRegex(
                aioh2.HandshakeError,
                r"within 0\.05 s: blocked on transport: TCP or TLS was not established",
            ):
                await self.within(
                    aioh2.open_connection(
                        "127.0.0.1", port, ssl=client_context(), open_timeout=0.05
                    )
                )

    async def test_http1_server(self) -> None:
        # it has agreed on h2 all the same
        context = server_context()
        context.set_alpn_protocols(["h2"])
        response = sends(b"HTTP/1.1 400 Bad Request\r\n\r\n", then_closes=True)
        async with self.raw_server(response, ssl=context) as port:
            with self.assertRaisesRegex(aioh2.HandshakeError, "server speaks HTTP/1"):
                await self.within(aioh2.open_connection("127.0.0.1", port, ssl=client_context()))


class TestNotHttp2(ClientCase):
    """Servers that do not speak HTTP/2."""

    async def refused(self, script: Script, says: str, **options: Any) -> aioh2.HandshakeError:
        async with self.raw_server(script) as port:
            with (
                self.assertNoLogs("aioh2", "WARNING"),
                self.assertRaisesRegex(aioh2.HandshakeError, says) as caught,
            ):
                await self.within(aioh2.open_connection("127.0.0.1", port, **options))
            await settle()
        self.assertIsInstance(caught.exception, ConnectionError)
        self.assertTrue(caught.exception.retryable)
        return caught.exception

    async def test_http1(self) -> None:
        response = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
        for then_closes in (False, True):
            with self.subTest(then_closes=then_closes):
                await self.refused(sends(response, then_closes=then_closes), "server speaks HTTP/1")

    async def test_garbage(self) -> None:
        await self.refused(sends(bytes(range(256))), "not SETTINGS")

    async def test_another_frame_first(self) -> None:
        await self.refused(sends(PingFrame(0, b"12345678").serialize()), "not SETTINGS")

    async def test_other_protocols(self) -> None:
        await self.refused(sends(b"220 a.test ESMTP\r\n"), "220 a.test")

    async def test_closes_at_once(self) -> None:
        async def closes(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.abort()

        await self.refused(closes, "closed the connection before its SETTINGS")

    async def test_closes_after_the_preface(self) -> None:
        await self.refused(
            sends(b"", then_closes=True), "closed the connection before its SETTINGS"
        )

    async def test_silent(self) -> None:
        await self.refused(sends(b""), r"0\.05 s: blocked on peer: .* nothing", open_timeout=0.05)

    async def test_half_of_settings(self) -> None:
        await self.refused(
            sends(GREETING[:-1]), r"0\.05 s: blocked on peer: .* no SETTINGS", open_timeout=0.05
        )

    async def test_own_time_limit_of_the_caller(self) -> None:
        async with self.raw_server(sends(b"")) as port:
            with self.assertRaises(TimeoutError) as caught:
                async with asyncio.timeout(0.05):
                    await aioh2.open_connection("127.0.0.1", port)
            self.assertNotIsInstance(caught.exception, aioh2.AIOH2Exception)

    async def test_no_open_timeout(self) -> None:
        async with (
            self.server() as port,
            aioh2.open_connection("127.0.0.1", port, open_timeout=None) as client,
        ):
            self.assertEqual(await self.within(fetch(client)), b"body")

    async def test_refused_connection(self) -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            with self.assertRaises(ConnectionRefusedError) as caught:
                await self.within(aioh2.open_connection("127.0.0.1", sock.getsockname()[1]))
        self.assertNotIsInstance(caught.exception, aioh2.AIOH2Exception)

    async def test_time_out_of_the_system(self) -> None:
        # not that of open_timeout
        loop = asyncio.get_running_loop()
        with (
            mock.patch.object(loop, "create_connection", side_effect=TimeoutError(110, "slow")),
            self.assertRaises(TimeoutError) as caught,
        ):
            await aioh2.open_connection("127.0.0.1", 1)
        self.assertNotIsInstance(caught.exception, aioh2.AIOH2Exception)


class TestCancelled(ClientCase):
    """A call that is cancelled leaves nothing open."""

    async def cancelled(self, port: int, **options: Any) -> None:
        async def opened() -> aioh2.H2Protocol:
            return await aioh2.open_connection("127.0.0.1", port, **options)

        opening = asyncio.create_task(opened())
        before = asyncio.all_tasks()
        await self.until(lambda: self.accepted)
        await asyncio.sleep(0.01)
        self.assertFalse(opening.done())
        opening.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await opening
        await self.until(lambda: not self.open)
        self.assertLessEqual(asyncio.all_tasks(), before)

    async def test_while_it_waits_for_settings(self) -> None:
        async with self.raw_server(sends(b"")) as port:
            await self.cancelled(port)

    async def test_in_the_tls_handshake(self) -> None:
        async with self.raw_server(sends(b"")) as port:
            await self.cancelled(port, ssl=client_context())

    async def test_while_it_waits_for_settings_over_tls(self) -> None:
        context = server_context()
        context.set_alpn_protocols(["h2"])
        async with self.raw_server(sends(b""), ssl=context) as port:
            await self.cancelled(port, ssl=client_context())

    async def test_at_any_step(self) -> None:
        async with self.server() as port:
            for steps in range(0, 30):
                opening = asyncio.ensure_future(
                    self.within(aioh2.open_connection("127.0.0.1", port))
                )
                for _ in range(steps):
                    await asyncio.sleep(0)
                opening.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    (await opening).close_connection()

    async def test_at_the_end_of_the_loop(self) -> None:
        # a server that never says goodbye: it shakes hands and is silent from then on
        context = server_context()
        context.set_alpn_protocols(["h2"])
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        greeted, done = threading.Event(), threading.Event()

        def serve() -> None:
            sock, _ = listener.accept()
            with context.wrap_socket(sock, server_side=True) as tls:
                tls.recv(1)
                greeted.set()
                done.wait(10)

        async def give_up() -> None:
            opening = asyncio.ensure_future(connect())
            await asyncio.to_thread(greeted.wait, 10)
            opening.cancel()
            await asyncio.wait([opening])

        async def connect() -> None:
            await aioh2.open_connection(*listener.getsockname(), ssl=client_context())

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            await self.within(asyncio.to_thread(asyncio.run, give_up(), debug=False))
        finally:
            done.set()
            thread.join()
