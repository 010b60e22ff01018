"""``examples/alpn.py`` and ``examples/sockets.py``: connections that aioh2 has not made itself."""

from __future__ import annotations

import asyncio
import pathlib
import runpy
import ssl
import sys
import tempfile
from typing import Any

import trustme

import aioh2

from .interop.cases import within
from .interop.programs import Example, run
from .wire import PREFACE, Case

ROOT = pathlib.Path(__file__).parent.parent
REQUEST = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"


class AlpnCase(Case):
    async def http1(self, server: Example, *segments: bytes, **options: Any) -> bytes:
        """Send these bytes, and return what comes back."""
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, **options)
        for segment in segments:
            writer.write(segment)
            await writer.drain()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    def check_http1(self, answer: bytes) -> None:
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 OK\r\n"), answer)
        self.assertTrue(answer.endswith(b"\r\n\r\nthis is HTTP/1.1\n"), answer)

    async def check_http2(self, client: aioh2.H2Protocol) -> None:
        async with client.open_stream({}, end_stream=True) as stream:
            self.assertIn((":status", "200"), await stream.recv_response())
            self.assertEqual(await stream.read(-1), b"this is HTTP/2\n")


class TestTls(AlpnCase):
    def setUp(self) -> None:
        super().setUp()
        directory = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.authority = trustme.CA()
        issued = self.authority.issue_cert("127.0.0.1")
        cert, key = directory / "cert.pem", directory / "key.pem"
        issued.cert_chain_pems[0].write_to_path(cert)
        issued.private_key_pem.write_to_path(key)
        self.server = Example("alpn.py", "--cert", str(cert), "--key", str(key))

    def context(self, *alpn: str) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context

    @within(30)
    async def test_http2(self) -> None:
        async with self.server as server:
            client = aioh2.open_connection("127.0.0.1", server.port, ssl=self.context())
            async with client as connection:
                await self.check_http2(connection)
                self.assertEqual(
                    connection.get_extra_info("ssl_object").selected_alpn_protocol(), "h2"
                )

    @within(30)
    async def test_http1(self) -> None:
        async with self.server as server:
            # with ALPN, without, and with one that the server does not know
            for alpn in ("http/1.1",), (), ("acme-tls/1",):
                context = self.context(*alpn)
                self.check_http1(await self.http1(server, REQUEST, ssl=context))

    @within(30)
    async def test_the_server_chooses_http2(self) -> None:
        async with self.server as server:
            answer = await self.http1(server, REQUEST, ssl=self.context("http/1.1", "h2"))
            # SETTINGS, and then GOAWAY to who has agreed on h2 and speaks something else
            self.assertEqual(answer[3:4], b"\x04")

    @within(30)
    async def test_shutdown(self) -> None:
        async with self.server as server:
            client = await aioh2.open_connection("127.0.0.1", server.port, ssl=self.context())
            await self.check_http2(client)
            server.terminate()
            await client.wait_closed()
            reason = client.close_reason
            assert isinstance(reason, aioh2.ConnectionClosed)
            # not cut: told
            self.assertEqual((reason.initiator, reason.error_code), ("peer", 0))
            self.assertTrue(await server.wait())


class TestPlain(AlpnCase):
    @within(30)
    async def test_http2(self) -> None:
        async with (
            Example("alpn.py") as server,
            aioh2.open_connection("127.0.0.1", server.port) as client,
        ):
            await self.check_http2(client)

    @within(30)
    async def test_http1(self) -> None:
        async with Example("alpn.py") as server:
            self.check_http1(await self.http1(server, REQUEST))
            # a method that begins as the preface does
            self.check_http1(await self.http1(server, REQUEST.replace(b"GET", b"PRINT")))


class Recorder(asyncio.Transport):
    """A transport whose protocol can be changed."""

    def __init__(self, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self.protocol: Any = protocol
        self.written = b""
        self.closed = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    async def lose(self) -> None:
        self.protocol.connection_lost(None)

    def close(self) -> None:
        self.closed = True


class TestHandOver(Case):
    async def chosen(self, *segments: bytes) -> tuple[Any, Recorder]:
        names = runpy.run_path(str(ROOT / "examples" / "alpn.py"))
        chooser = names["Chooser"]()
        transport = Recorder(chooser)
        chooser.connection_made(transport)
        for segment in segments:
            self.assertIs(transport.protocol, chooser)
            transport.protocol.data_received(segment)
        if transport.protocol is not chooser:
            self.addAsyncCleanup(transport.lose)
        return transport.protocol, transport

    async def test_preface_byte_by_byte(self) -> None:
        pieces = [bytes([byte]) for byte in PREFACE]
        protocol, transport = await self.chosen(*pieces)
        self.assertIsInstance(protocol, aioh2.H2Protocol)
        # nothing was lost: the preface was complete
        protocol.data_received(b"\0\0\0\4\0\0\0\0\0")
        self.assertIsNone(protocol.close_reason)
        # SETTINGS, and the ACK of theirs
        self.assertEqual(transport.written[3:4], b"\x04")

    async def test_preface_with_what_follows(self) -> None:
        protocol, _ = await self.chosen(PREFACE + b"\0\0\0\4\0\0\0\0\0")
        self.assertIsInstance(protocol, aioh2.H2Protocol)
        self.assertEqual(protocol.stats.bytes_received, len(PREFACE) + 9)

    async def test_nearly_the_preface(self) -> None:
        protocol, _ = await self.chosen(PREFACE[:10], b"1.1\r\n")
        self.assertIsInstance(protocol, asyncio.StreamReaderProtocol)

    async def test_not_enough_to_choose(self) -> None:
        protocol, transport = await self.chosen(PREFACE[:-1])
        self.assertIs(transport.protocol, protocol)
        self.assertNotIsInstance(protocol, (aioh2.H2Protocol, asyncio.StreamReaderProtocol))


class TestSockets(Case):
    @within(30)
    async def test_as_a_program(self) -> None:
        example = str(ROOT / "examples" / "sockets.py")
        output = await run(sys.executable, "-X", "dev", "-W", "error", example)
        self.assertEqual((output.code, output.stderr), (0, ""))
        self.assertEqual(output.text, "[(':status', '200')]\nhello over a socketpair\n")
