"""Node's ``http2``, which is nghttp2 under an API of its own, as the server and as the client."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

from h2.events import ConnectionTerminated, Event

import aioh2

from .cases import Certificates, PeerCase, within
from .programs import HERE, LARGE, EchoServer, Program, require, run, sha256

POST = {":method": "POST"}


class NodeServer(Program):
    """A server script of this folder, over TLS where there are certificates."""

    def __init__(
        self, files: Certificates | None = None, *, script: str = "node_server.js"
    ) -> None:
        super().__init__(
            *(require("node"), str(HERE / script)),
            *((files.key, files.cert) if files else ()),
            ready=r"^listening on port (\d+)$",
        )

    @property
    def port(self) -> int:
        """Its TCP port."""
        return int(self.greeting[1])


class Client(aioh2.H2Protocol):
    """A client that tells when GOAWAY has come."""

    def __init__(self, client_side: bool, **options: Any) -> None:
        super().__init__(client_side, **options)
        self.goaway = asyncio.Event()

    def event_received(self, event: Event) -> None:
        super().event_received(event)
        if isinstance(event, ConnectionTerminated):
            self.goaway.set()


class TestNodeAsServer(PeerCase):
    peer = "Node http2"
    side = "client"
    program = "node"

    async def echo(self, client: aioh2.H2Protocol, body: bytes) -> None:
        """Send a body in pieces, while reading what comes back, and trailers."""
        async with client.open_stream({**POST, ":path": "/"}) as stream:

            async def send() -> None:
                for at in range(0, len(body), 100_000):
                    await stream.send_data(body[at : at + 100_000])
                await stream.send_trailers({"checksum": "abc"})

            async with asyncio.TaskGroup() as both:
                both.create_task(send())
                echoed = hashlib.sha256()
                async for chunk in stream:
                    echoed.update(chunk)
            self.assertEqual(echoed.hexdigest(), sha256(body))
            self.assertIn((":status", "200"), await stream.recv_response())
            self.assertEqual(
                await stream.recv_trailers(), [("checksum", "abc"), ("length", str(len(body)))]
            )

    async def get(self, client: aioh2.H2Protocol, path: str = "/") -> None:
        async with client.open_stream({":path": path}, end_stream=True) as stream:
            self.assertIn((":status", "200"), await stream.recv_response())
            self.assertEqual(await stream.read(-1), b"hello, this is node\n")
            self.assertEqual(await stream.recv_trailers(), [])

    @within(60)
    async def test_get_and_post(self) -> None:
        async with (
            NodeServer() as server,
            aioh2.open_connection("127.0.0.1", server.port) as client,
        ):
            await self.get(client)
            await self.echo(client, b"")
            await self.echo(client, LARGE)
            self.assertLess(await client.ping(), 10)

    @within(60)
    async def test_side_by_side(self) -> None:
        async with (
            NodeServer() as server,
            aioh2.open_connection("127.0.0.1", server.port) as client,
            asyncio.TaskGroup() as requests,
        ):
            for size in range(0, 100_000, 1000):
                requests.create_task(self.echo(client, LARGE[:size]))
                requests.create_task(self.get(client))

    @within(60)
    async def test_tls(self) -> None:
        files = self.issue_certificates()
        async with (
            NodeServer(files) as server,
            aioh2.open_connection("localhost", server.port, ssl=files.client_context()) as client,
        ):
            await self.get(client)
            await self.echo(client, LARGE)

    @within(60)
    async def test_interim_response(self) -> None:
        async with (
            NodeServer() as server,
            aioh2.open_connection("127.0.0.1", server.port) as client,
            client.open_stream({":path": "/hints"}, end_stream=True) as stream,
        ):
            hints = await stream.recv_informational()
            assert hints is not None
            self.assertEqual(hints[0], (":status", "103"))
            self.assertIn(("link", "</style.css>; rel=preload"), hints)
            self.assertIsNone(await stream.recv_informational())
            self.assertIn((":status", "200"), await stream.recv_response())

    @within(60)
    async def test_resets(self) -> None:
        async with (
            NodeServer() as server,
            aioh2.open_connection("127.0.0.1", server.port) as client,
        ):
            stream = await client.open_stream({":path": "/reset"}, end_stream=True)
            with self.assertRaises(aioh2.StreamReset) as caught:
                await stream.recv_response()
            reset = caught.exception
            self.assertEqual((reset.initiator, reset.error_code), ("peer", 0xB))
            self.assertFalse(reset.retryable)
            for _ in range(100):
                async with client.open_stream({**POST, ":path": "/"}) as stream:
                    await stream.send_data(b"abc")
                    self.assertEqual(await stream.read(), b"abc")
                # left early: CANCEL
            await self.echo(client, LARGE)

    @within(60)
    async def test_session_closed_by_the_server(self) -> None:
        async with NodeServer() as server:
            client = await aioh2.open_connection("127.0.0.1", server.port, cls=Client)
            posting = await client.open_stream({**POST, ":path": "/"})
            await posting.send_data(b"before, ")
            self.assertEqual(await posting.read(), b"before, ")
            await self.get(client, "/close")
            await client.goaway.wait()
            self.assertTrue(client.is_closing)
            with self.assertRaises(aioh2.ConnectionClosed) as caught:
                await client.start_request({":path": "/"})
            self.assertTrue(caught.exception.retryable)
            # what was in flight runs to its end
            await posting.send_data(b"after", end_stream=True)
            self.assertEqual(await posting.read(-1), b"after")
            self.assertEqual(await posting.recv_trailers(), [("length", "13")])
            await client.wait_closed()
            reason = client.close_reason
            assert isinstance(reason, aioh2.ConnectionClosed)
            self.assertEqual((reason.initiator, reason.error_code), ("peer", 0))
            self.assertEqual(reason.last_stream_id, 3)

    @within(60)
    async def test_http1(self) -> None:
        files = self.issue_certificates()
        async with NodeServer(script="node_http1.js") as server:
            with self.assertRaisesRegex(aioh2.HandshakeError, "HTTP/1"):
                await aioh2.open_connection("127.0.0.1", server.port)
        async with NodeServer(files, script="node_http1.js") as server:
            with self.assertRaisesRegex(aioh2.HandshakeError, "ALPN"):
                await aioh2.open_connection("127.0.0.1", server.port, ssl=files.client_context())


class TestNodeAsClient(PeerCase):
    peer = "Node http2"
    side = "server"
    program = "node"

    async def check(self, server: EchoServer, scheme: str, *authority: str) -> None:
        upload = self.write("upload", LARGE)
        output = await run(
            *("node", str(HERE / "node_client.js")),
            *(server.url("", scheme), upload, *authority),
        )
        self.assertEqual((output.code, output.stderr), (0, ""))
        results = json.loads(output.text)
        self.assertEqual(results["alpn"], "h2" if scheme == "https" else "h2c")
        self.assertEqual(results["cancelled"], 8)
        self.assertEqual(results["many"], list(range(0, 10_000, 100)) * 5)
        for name in ("get", "post", "trailers"):
            self.assertEqual((results[name]["status"], results[name]["code"]), (200, 0), name)
        self.assertEqual(results["get"]["sha256"], sha256(b"hello, this is aioh2\n"))
        self.assertEqual(results["post"]["sha256"], sha256(LARGE))
        self.assertEqual(results["trailers"]["sha256"], sha256(LARGE))
        self.assertEqual(
            results["trailers"]["trailers"], {"checksum": "abc", "length": str(len(LARGE))}
        )

    @within(60)
    async def test_plain(self) -> None:
        require("node")
        async with EchoServer() as server:
            await self.check(server, "http")

    @within(60)
    async def test_tls(self) -> None:
        require("node")
        files = self.issue_certificates()
        async with EchoServer("--cert", files.cert, "--key", files.key) as server:
            await self.check(server, "https", files.authority)
