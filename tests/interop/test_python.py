"""Python's own: httpx and niquests as the client, Hypercorn as the server."""

from __future__ import annotations

import asyncio
import importlib.metadata
import sys
from collections.abc import AsyncGenerator
from typing import Any

import aioh2

from .asgi_app import DOWNLOAD
from .asgi_app import GREETING as HYPERCORN_GREETING
from .cases import Certificates, PeerCase, within
from .programs import LARGE, EchoServer, Program, require_module, sha256
from .site import GREETING, SiteCase

POST = {":method": "POST"}


class PackageCase(PeerCase):
    """A case of a package of PyPI."""

    package: str

    @classmethod
    def version(cls) -> str:
        return importlib.metadata.version(cls.package)

    def setUp(self) -> None:
        super().setUp()
        self.module: Any = require_module(self.package)


class TestHttpx(PackageCase, SiteCase):
    peer = "httpx"
    side = "server"
    package = "httpx"

    def client(self, verify: Any = True) -> Any:
        """Return a client: without HTTP/1.1 it begins with HTTP/2 where there is no TLS."""
        return self.module.AsyncClient(http1=False, http2=True, verify=verify, trust_env=False)

    def check(self, response: Any, body: bytes) -> None:
        self.assertEqual((response.http_version, response.status_code), ("HTTP/2", 200))
        self.assertEqual(sha256(response.content), sha256(body))

    async def check_server(self, client: Any, url: str) -> None:
        self.check(await client.get(url), GREETING)
        self.check(await client.post(url + "trailers", content=LARGE), LARGE)

    @within(60)
    async def test_plain(self) -> None:
        """GET and 8 MiB echoed, cleartext."""
        async with EchoServer() as server, self.client() as client:
            await self.check_server(client, server.url())

    @within(60)
    async def test_tls(self) -> None:
        """GET and 8 MiB echoed, TLS."""
        files = self.issue_certificates()
        async with (
            EchoServer("--cert", files.cert, "--key", files.key) as server,
            self.client(files.client_context()) as client,
        ):
            await self.check_server(client, server.url("/", "https"))

    @within(60)
    async def test_many(self) -> None:
        """100 at once."""
        async with self.site() as site, self.client() as client:
            await client.get(site.url())
            getting = (client.get(site.url("/together?100")) for _ in range(100))
            for response in await asyncio.gather(*getting):
                self.check(response, GREETING)
            self.assertEqual(len(site.connections), 1)

    @within(60)
    async def test_uploads(self) -> None:
        """100 uploads at once."""
        async with self.site() as site, self.client() as client:

            async def post(body: bytes) -> None:
                self.check(await client.post(site.url(), content=body), body)

            async with asyncio.TaskGroup() as requests:
                for size in range(0, 100_000, 1000):
                    requests.create_task(post(LARGE[:size]))

    @within(60)
    async def test_reset(self) -> None:
        """Streams reset by the server, before and in the response."""
        async with self.site() as site, self.client() as client:
            for path in ("/reset", "/reset?late") * 5:
                with self.assertRaisesRegex(self.module.RemoteProtocolError, "StreamReset"):
                    await client.get(site.url(path))
            self.check(await client.get(site.url()), GREETING)


class TestNiquests(PackageCase, SiteCase):
    peer = "niquests"
    side = "server"
    package = "niquests"

    def client(self, verify: str | bool = True) -> Any:
        """Return a client: without HTTP/1.1 it begins with HTTP/2 where there is no TLS."""
        session = self.module.AsyncSession(disable_http1=True, disable_http3=True)
        session.trust_env = False
        session.verify = verify
        return session

    def check(self, response: Any, body: bytes) -> None:
        self.assertEqual((response.http_version, response.status_code), (20, 200))
        self.assertEqual(sha256(response.content), sha256(body))

    @within(60)
    async def test_plain(self) -> None:
        """GET, 8 MiB up and then down, cleartext."""
        async with self.site() as site, self.client() as client:
            self.check(await client.get(site.url()), GREETING)
            self.check(await client.post(site.url("/later"), data=LARGE), LARGE)

    @within(60)
    async def test_tls(self) -> None:
        """GET, 8 MiB up and then down, TLS."""
        files = self.issue_certificates()
        async with (
            self.site(files.server_context()) as site,
            self.client(files.authority) as client,
        ):
            self.check(await client.get(site.url("/", "https")), GREETING)
            self.check(await client.post(site.url("/later", "https"), data=LARGE), LARGE)

    @within(60)
    async def test_many(self) -> None:
        """100 at once."""
        async with self.site() as site, self.client() as client:
            await client.get(site.url())
            getting = (client.get(site.url("/together?100")) for _ in range(100))
            for response in await asyncio.gather(*getting):
                self.check(response, GREETING)

    @within(60)
    async def test_echo(self) -> None:
        """A response that begins before the upload has ended.

        niquests stops sending then, and waits, without END_STREAM or RST_STREAM: the request
        never ends (RFC 9113 section 8.1). With ``body_timeout`` aioh2 resets the stream.
        """
        async with self.site(body_timeout=0.2) as site, self.client() as client:
            with self.assertRaises(self.module.RequestException):
                await client.post(site.url(), data=LARGE)
            self.assertEqual(site.connections[0].stats.resets_sent, 1)
            self.check(await client.get(site.url()), GREETING)


class Hypercorn(Program):
    """Hypercorn with the application of this folder, over TLS where there are certificates."""

    def __init__(self, files: Certificates | None = None) -> None:
        tls = ("--certfile", files.cert, "--keyfile", files.key) if files else ()
        super().__init__(
            *(sys.executable, "-m", "hypercorn", "--bind", "127.0.0.1:0", *tls),
            "tests.interop.asgi_app:app",
            ready=r"Running on https?://127\.0\.0\.1:(\d+)",
        )

    @property
    def port(self) -> int:
        """Its TCP port."""
        return int(self.greeting[1])


class TestHypercorn(PackageCase):
    peer = "Hypercorn"
    side = "client"
    package = "hypercorn"

    async def get(self, client: aioh2.H2Protocol, path: str = "/") -> None:
        async with client.open_stream({":path": path}, end_stream=True) as stream:
            self.assertIn((":status", "200"), await stream.recv_response())
            self.assertEqual(await stream.read(-1), HYPERCORN_GREETING)

    async def download(self, client: aioh2.H2Protocol) -> None:
        async with client.open_stream({":path": "/download"}, end_stream=True) as stream:
            self.assertEqual(sha256(await stream.read(-1)), sha256(DOWNLOAD))

    async def upload(self, client: aioh2.H2Protocol, body: bytes) -> None:
        # Hypercorn sends trailers to those who say that they want them
        async with client.open_stream({**POST, "te": "trailers"}) as stream:
            await stream.send_data(body, end_stream=True)
            self.assertIn((":status", "200"), await stream.recv_response())
            self.assertEqual((await stream.read(-1)).decode(), sha256(body))
            self.assertEqual(await stream.recv_trailers(), [("length", str(len(body)))])

    @within(60)
    async def test_plain(self) -> None:
        """8 MiB download and upload, trailers, cleartext."""
        async with (
            Hypercorn() as server,
            aioh2.open_connection("127.0.0.1", server.port) as client,
        ):
            await self.download(client)
            await self.upload(client, LARGE)

    @within(60)
    async def test_tls(self) -> None:
        """8 MiB download and upload, trailers, TLS."""
        files = self.issue_certificates()
        async with (
            Hypercorn(files) as server,
            aioh2.open_connection("localhost", server.port, ssl=files.client_context()) as client,
        ):
            await self.download(client)
            await self.upload(client, LARGE)

    @within(60)
    async def test_many(self) -> None:
        """100 at once, and 400 more under a limit of 100."""
        async with (
            Hypercorn() as server,
            aioh2.open_connection("127.0.0.1", server.port) as client,
            asyncio.TaskGroup() as requests,
        ):
            for _ in range(500):
                requests.create_task(self.get(client, "/together?100"))

    @within(60)
    async def test_uploads(self) -> None:
        """100 uploads at once."""
        async with (
            Hypercorn() as server,
            aioh2.open_connection("127.0.0.1", server.port) as client,
            asyncio.TaskGroup() as requests,
        ):
            for size in range(0, 200_000, 2000):
                requests.create_task(self.upload(client, LARGE[:size]))

    @within(60)
    async def test_cancelled(self) -> None:
        """A stream that is left is told to the application."""
        async with (
            Hypercorn() as server,
            aioh2.open_connection("127.0.0.1", server.port) as client,
        ):
            for _ in range(3):
                async with client.open_stream({":path": "/hold"}, end_stream=True) as stream:
                    self.assertEqual(await stream.read(), HYPERCORN_GREETING)
                await server.line("^cancelled$")
                server.lines.clear()
            await self.get(client)

    @within(60)
    async def test_websocket(self) -> None:
        """A WebSocket (RFC 8441).

        After the closing handshake Hypercorn does not end its side (END_STREAM, RFC 8441 section
        5), and drops the connection when the client ends its own. So the client leaves the
        stream instead, which resets it; the connection lives on.
        """
        frames = require_module("wsproto.connection", "wsproto")
        events = require_module("wsproto.events", "wsproto")
        websocket = frames.Connection(frames.ConnectionType.CLIENT)
        connect = {":method": "CONNECT", ":protocol": "websocket", "sec-websocket-version": "13"}

        async def received(stream: aioh2.H2Stream) -> AsyncGenerator[Any]:
            async for chunk in stream:
                websocket.receive_data(chunk)
                for event in websocket.events():
                    yield event

        async with (
            Hypercorn() as server,
            aioh2.open_connection("127.0.0.1", server.port) as client,
            client.open_stream(connect) as stream,
        ):
            self.assertIn((":status", "200"), await stream.recv_response())
            coming = received(stream)
            for text in "a", "", "b" * 100_000:
                await stream.send_data(websocket.send(events.TextMessage(text)))
                got = ""
                while not (event := await anext(coming)).message_finished:
                    got += event.data
                self.assertEqual(got + event.data, text)
            await stream.send_data(websocket.send(events.CloseConnection(1000)))
            self.assertEqual((await anext(coming)).code, 1000)
            await coming.aclose()
            stream.reset()
            await self.get(client)

    @within(60)
    async def test_upload_not_read(self) -> None:
        """A response before the end of an upload.

        Hypercorn drops the connection, and the streams beside, at the next DATA frame; it should
        stop the upload with NO_ERROR (RFC 9113 section 8.1) or ignore it. aioh2 tells what could
        not be sent.
        """
        async with Hypercorn() as server:
            client = await aioh2.open_connection("127.0.0.1", server.port)
            stream = await client.open_stream({**POST, ":path": "/enough"})
            self.assertIn((":status", "413"), await stream.recv_response())
            self.assertEqual(await stream.read(-1), b"")
            with self.assertRaises(aioh2.SendException) as caught:
                await stream.send_data(LARGE)
            self.assertIsInstance(caught.exception.__cause__, aioh2.ConnectionClosed)
            await client.wait_closed()

    @within(60)
    async def test_shutdown(self) -> None:
        """A graceful shutdown with a request in flight.

        A request that comes after its beginning is reset with NO_ERROR, which promises nothing;
        REFUSED_STREAM would tell that it was not processed (RFC 9113 section 8.7). So aioh2 does
        not call it retryable.
        """
        async with Hypercorn() as server:
            client = await aioh2.open_connection("127.0.0.1", server.port)
            posting = await client.open_stream(POST)
            await posting.send_data(b"before, ")
            await posting.recv_response()
            server.terminate()
            with self.assertRaises(aioh2.StreamReset) as caught:
                while True:  # until the signal has been seen
                    await self.get(client)
            self.assertEqual(caught.exception.error_code, aioh2.ErrorCodes.NO_ERROR)
            self.assertFalse(caught.exception.retryable)
            # what was in flight runs to its end
            await posting.send_data(b"after", end_stream=True)
            self.assertEqual((await posting.read(-1)).decode(), sha256(b"before, after"))
            await client.wait_closed()
            reason = client.close_reason
            assert isinstance(reason, aioh2.ConnectionClosed)
            self.assertEqual((reason.initiator, reason.error_code), ("peer", 0))
