"""Node's ``http2``, which is nghttp2 under an API of its own, as the server."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any, TypeVar

from h2.events import AlternativeServiceAvailable, ConnectionTerminated, Event

import aioh2
from aioh2 import Priority, SettingCodes

from .cases import Certificates, PeerCase, within
from .programs import HERE, LARGE, Program, require, sha256

E = TypeVar("E", bound=Event)

GREETING = b"hello, this is node\n"
POST = {":method": "POST", ":path": "/"}


class NodeServer(Program):
    """A server script of this folder, over TLS where there are certificates."""

    def __init__(
        self,
        files: Certificates | None = None,
        *,
        script: str = "node_server.js",
        **options: Any,
    ) -> None:
        if files is not None:
            options |= {"key": files.key, "cert": files.cert}
        super().__init__(
            *(require("node"), str(HERE / script), json.dumps(options)),
            ready=r"^listening on port (\d+)$",
        )

    @property
    def port(self) -> int:
        """Its TCP port."""
        return int(self.greeting[1])


class Client(aioh2.H2Protocol):
    """A client that keeps the events of its connection."""

    def __init__(self, client_side: bool, **options: Any) -> None:
        super().__init__(client_side, **options)
        self.events: asyncio.Queue[Event] = asyncio.Queue()

    def event_received(self, event: Event) -> None:
        super().event_received(event)
        self.events.put_nowait(event)

    async def heard(self, kind: type[E]) -> E:
        """Wait for the next event of a kind."""
        while True:
            event = await self.events.get()
            if isinstance(event, kind):
                return event


class NodeServerCase(PeerCase):
    peer = "Node http2"
    side = "client"
    program = "node"

    async def connect(self, files: Certificates | None = None, **options: Any) -> Client:
        """Start a server with these options, and return a client, both until the test's end.

        Those with ``our_`` are the client's.
        """
        theirs = {name: options[name] for name in options if not name.startswith("our_")}
        ours = {name.removeprefix("our_"): options[name] for name in options.keys() - theirs.keys()}
        server = await self.enterAsyncContext(NodeServer(files, **theirs))
        context = files.client_context() if files else None
        client = await self.enterAsyncContext(
            aioh2.open_connection("127.0.0.1", server.port, cls=Client, ssl=context, **ours)
        )
        assert isinstance(client, Client)
        return client

    async def echo(self, client: aioh2.H2Protocol, body: bytes, piece: int = 100_000) -> None:
        """Send a body in pieces, while reading what comes back, and trailers."""
        async with client.open_stream(POST) as stream:

            async def send() -> None:
                for at in range(0, len(body), piece):
                    await stream.send_data(body[at : at + piece])
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

    async def echo_until(self, client: aioh2.H2Protocol, enough: asyncio.Event) -> None:
        """Send, while reading what comes back, until told that it is enough."""
        piece = LARGE[:50_000]
        sent, came = hashlib.sha256(), hashlib.sha256()
        async with client.open_stream(POST) as stream:

            async def send() -> None:
                while not enough.is_set():
                    await stream.send_data(piece)
                    sent.update(piece)
                await stream.end()

            async with asyncio.TaskGroup() as both:
                both.create_task(send())
                async for chunk in stream:
                    came.update(chunk)
        self.assertEqual(came.hexdigest(), sent.hexdigest())

    async def get(self, client: aioh2.H2Protocol, path: str = "/", **headers: str) -> None:
        named = {f"x-{name}": value for name, value in headers.items()}
        async with client.open_stream({":path": path, **named}, end_stream=True) as stream:
            self.assertIn((":status", "200"), await stream.recv_response())
            self.assertEqual(await stream.read(-1), GREETING)
            self.assertEqual(await stream.recv_trailers(), [])


class TestRequests(NodeServerCase):
    @within(60)
    async def test_get(self) -> None:
        """GET."""
        await self.get(await self.connect())

    @within(60)
    async def test_upload(self) -> None:
        """8 MiB upload, echoed."""
        client = await self.connect()
        await self.echo(client, LARGE)

    @within(60)
    async def test_trailers(self) -> None:
        """Trailers both ways."""
        client = await self.connect()
        for size in 0, 1, 100_000:
            await self.echo(client, LARGE[:size])

    @within(60)
    async def test_side_by_side(self) -> None:
        """100 GETs and 100 uploads at once."""
        client = await self.connect()
        async with asyncio.TaskGroup() as requests:
            for size in range(0, 100_000, 1000):
                requests.create_task(self.echo(client, LARGE[:size]))
                requests.create_task(self.get(client))

    @within(60)
    async def test_tls(self) -> None:
        """GET and 8 MiB upload over TLS."""
        client = await self.connect(self.issue_certificates())
        await self.get(client)
        await self.echo(client, LARGE)

    @within(60)
    async def test_unix_socket(self) -> None:
        """GET and 8 MiB upload over a Unix socket."""
        path = str(self.directory / "socket")
        async with (
            NodeServer(socket=path),
            aioh2.open_unix_connection(path) as client,
        ):
            await self.get(client)
            await self.echo(client, LARGE)

    @within(60)
    async def test_http1(self) -> None:
        """HTTP/1.1 only: refused, with the reason."""
        files = self.issue_certificates()
        async with NodeServer(script="node_http1.js") as server:
            with self.assertRaisesRegex(aioh2.HandshakeError, "HTTP/1"):
                await aioh2.open_connection("127.0.0.1", server.port)
        async with NodeServer(files, script="node_http1.js") as server:
            with self.assertRaisesRegex(aioh2.HandshakeError, "ALPN"):
                await aioh2.open_connection("127.0.0.1", server.port, ssl=files.client_context())

    @within(60)
    async def test_additional_headers(self) -> None:
        """103, by additionalHeaders()."""
        client = await self.connect()
        async with client.open_stream({":path": "/hints"}, end_stream=True) as stream:
            self.assertEqual(
                await stream.recv_informational(),
                [(":status", "103"), ("link", "</style.css>; rel=preload")],
            )
            self.assertIsNone(await stream.recv_informational())
            self.assertIn((":status", "200"), await stream.recv_response())
            self.assertEqual(await stream.read(-1), GREETING)

    @within(60)
    async def test_early_hints(self) -> None:
        """103, twice, by writeEarlyHints()."""
        client = await self.connect()
        async with client.open_stream({":path": "/early-hints"}, end_stream=True) as stream:
            # the final response has come: nothing is lost
            self.assertIn((":status", "200"), await stream.recv_response())
            for name in "a", "b":
                hints = await stream.recv_informational()
                assert hints is not None
                self.assertIn((":status", "103"), hints)
                self.assertIn(("link", f"</{name}.css>; rel=preload"), hints)
            self.assertIsNone(await stream.recv_informational())

    @within(60)
    async def test_resets(self) -> None:
        """RST_STREAM both ways."""
        client = await self.connect()
        stream = await client.open_stream({":path": "/reset"}, end_stream=True)
        with self.assertRaises(aioh2.StreamReset) as caught:
            await stream.recv_response()
        reset = caught.exception
        self.assertEqual((reset.initiator, reset.error_code), ("peer", 0xB))
        self.assertFalse(reset.retryable)
        for _ in range(100):
            async with client.open_stream(POST) as stream:
                await stream.send_data(b"abc")
                self.assertEqual(await stream.read(), b"abc")
            # left early: CANCEL
        await self.echo(client, LARGE)
        self.assertEqual((client.stats.resets_received, client.stats.resets_sent), (1, 100))

    @within(60)
    async def test_ping(self) -> None:
        """PING both ways."""
        client = await self.connect()
        self.assertLess(await client.ping(), 10)
        # answered once the ACK has come
        await self.get(client, "/ping")


class TestMore(NodeServerCase):
    @within(60)
    async def test_push(self) -> None:
        """Push."""
        client = await self.connect(our_enable_push=True)
        async with client.open_stream({":path": "/push"}, end_stream=True) as stream:
            for path in "/a.css", "/b.css":
                pushed = await stream.recv_push()
                assert pushed is not None
                self.assertIn((":path", path), pushed.request_headers)
                self.assertIn((":status", "200"), await pushed.recv_response())
                self.assertEqual(await pushed.read(-1), path.encode() * 10_000)
            self.assertEqual(await stream.read(-1), GREETING)
            self.assertIsNone(await stream.recv_push())

    @within(60)
    async def test_push_not_wanted(self) -> None:
        """Push that is not allowed, or reset."""
        client = await self.connect()
        await self.get(client, "/push")
        self.assertEqual(client.stats.streams_opened, 1)
        client.update_settings({SettingCodes.ENABLE_PUSH: 1})
        await client.ping()
        async with client.open_stream({":path": "/push"}, end_stream=True) as stream:
            while pushed := await stream.recv_push():
                pushed.reset()
            self.assertEqual(await stream.read(-1), GREETING)
        await self.get(client)

    @within(60)
    async def test_altsvc(self) -> None:
        """ALTSVC, of an origin and of a stream."""
        client = await self.connect()
        await self.get(client, "/altsvc")
        event = await client.heard(AlternativeServiceAvailable)
        self.assertEqual(event.origin, b"https://origin.test")
        self.assertEqual(event.field_value, b'h2="alt.test:8000"; ma=60')
        event = await client.heard(AlternativeServiceAvailable)
        self.assertTrue((event.origin or b"").startswith(b"127.0.0.1:"), event.origin)
        self.assertEqual(event.field_value, b'h2=":8001"')

    @within(60)
    async def test_origin(self) -> None:
        """ORIGIN, over TLS."""
        client = await self.connect(self.issue_certificates())
        await self.get(client, "/origin")
        event = await client.heard(aioh2.OriginsReceived)
        self.assertEqual(list(event.origins), [b"https://a.test", b"https://b.test:8000"])

    @within(60)
    async def test_extended_connect(self) -> None:
        """Extended CONNECT."""
        client = await self.connect(settings={"enableConnectProtocol": True})
        opening = {":method": "CONNECT", ":protocol": "websocket", ":path": "/chat"}
        async with client.open_stream(opening) as stream:
            self.assertIn(("x-protocol", "websocket"), await stream.recv_response())
            reader, writer = stream.as_reader_writer()
            for text in b"one\n", b"two\n", b"3" * 100_000 + b"\n":
                writer.write(text)
                await writer.drain()
                self.assertEqual(await reader.readexactly(len(text)), text)
            writer.write_eof()
            self.assertEqual(await reader.read(), b"")
            writer.close()
            await writer.wait_closed()

    @within(60)
    async def test_extended_connect_that_is_not_offered(self) -> None:
        """Extended CONNECT that is not offered: not sent."""
        client = await self.connect()
        with self.assertRaises(aioh2.NotSupported):
            await client.open_stream({":method": "CONNECT", ":protocol": "websocket"})
        self.assertEqual(client.stats.streams_opened, 0)

    @within(60)
    async def test_session_closed_by_the_server(self) -> None:
        """Graceful session.close(), with an upload in flight."""
        async with NodeServer() as server:
            client = await aioh2.open_connection("127.0.0.1", server.port, cls=Client)
            assert isinstance(client, Client)
            posting = await client.open_stream(POST)
            await posting.send_data(b"before, ")
            self.assertEqual(await posting.read(), b"before, ")
            await self.get(client, "/close")
            await client.heard(ConnectionTerminated)
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
    async def test_priorities(self) -> None:
        """Priorities: PRIORITY and the ``priority`` field reach it."""
        client = await self.connect()
        headers = {":method": "POST", ":path": "/priority"}
        async with client.open_stream(headers) as stream:
            client.reprioritize(stream.id, weight=201)
            await stream.end()
            self.assertIn(("x-weight", "201"), await stream.recv_response())
        async with client.open_stream(headers, priority=Priority(1, True)) as stream:
            await stream.end()
            self.assertIn(("x-priority", "u=1, i"), await stream.recv_response())


class TestSettings(NodeServerCase):
    @within(60)
    async def test_few_streams(self) -> None:
        """50 requests, 2 streams at once allowed."""
        client = await self.connect(settings={"maxConcurrentStreams": 2})
        self.assertEqual(client.available_slots, 2)
        async with asyncio.TaskGroup() as requests:
            for number in range(25):
                requests.create_task(self.get(client, f"/{number}"))
                requests.create_task(self.echo(client, LARGE[: number * 1000]))
            await asyncio.sleep(0)
            self.assertEqual(client.waiting_requests, 48)
        self.assertEqual(client.stats.streams_opened, 50)
        self.assertEqual((client.waiting_requests, client.available_slots), (0, 2))
        self.assertEqual(client.stats.resets_received, 0)

    @within(60)
    async def test_tiny_windows_of_the_server(self) -> None:
        """Tiny windows: it takes 1 byte at a time."""
        client = await self.connect(settings={"initialWindowSize": 1})
        async with asyncio.TaskGroup() as requests:
            for _ in range(5):
                requests.create_task(self.echo(client, LARGE[:500]))

    @within(60)
    async def test_tiny_windows_of_the_client(self) -> None:
        """Tiny windows: it may send 1 byte at a time."""
        client = await self.connect(our_initial_window_size=1)
        async with asyncio.TaskGroup() as requests:
            for _ in range(5):
                requests.create_task(self.echo(client, LARGE[:500]))

    @within(60)
    async def test_tiny_windows_both_ways(self) -> None:
        """Tiny windows both ways: 10 bytes there, 7 back."""
        client = await self.connect(settings={"initialWindowSize": 10}, our_initial_window_size=7)
        async with asyncio.TaskGroup() as requests:
            for _ in range(5):
                requests.create_task(self.echo(client, LARGE[:2000]))

    @within(60)
    async def test_settings_of_the_server_change(self) -> None:
        """Its settings change at run time, during uploads too."""
        client = await self.connect()
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as uploads:
            for _ in range(3):
                uploads.create_task(self.echo_until(client, enough))
            for window in 0, 100_000, 1000, 2**31 - 1, 65_535:
                settings = json.dumps([{"initialWindowSize": window}])
                await self.get(client, "/settings", settings=settings)
                self.assertEqual(client.remote_settings[SettingCodes.INITIAL_WINDOW_SIZE], window)
            enough.set()
        changes = [{"maxConcurrentStreams": 3}, {"maxFrameSize": 20_000}, {"enablePush": False}]
        await self.get(client, "/settings", settings=json.dumps(changes))
        self.assertEqual(client.available_slots, 3)
        self.assertEqual(client.remote_settings[SettingCodes.MAX_FRAME_SIZE], 20_000)
        await self.echo(client, LARGE)

    @within(60)
    async def test_settings_of_the_client_change(self) -> None:
        """Our settings change at run time, during downloads too."""
        client = await self.connect()
        # the rest of what is on its way goes through the last window
        for windows in [1000], [100_000, 0, 200_000], [0, 500]:
            enough = asyncio.Event()
            async with asyncio.TaskGroup() as downloads:
                for _ in range(3):
                    downloads.create_task(self.echo_until(client, enough))
                for window in windows:
                    client.initial_window_size = window
                    # once it has been acknowledged
                    await client.ping()
                    self.assertEqual(client.initial_window_size, window)
                client.max_frame_size = 16_384 + windows[-1]
                enough.set()
        await self.echo(client, LARGE[:100_000])

    @within(60)
    async def test_header_table_sizes_of_the_server(self) -> None:
        """The size of its header table changes, several times in a row."""
        client = await self.connect()
        for sizes in [8192, 4096], [0, 8192], [100, 8192, 50, 4096], [0, 0], [4096, 0, 100], [60]:
            changes = json.dumps([{"headerTableSize": size} for size in sizes])
            for more in {}, {"now": "1"}:
                with self.subTest(sizes=sizes, more=more):
                    await self.get(client, "/settings", settings=changes, **more)
                    for number in range(20):
                        await self.get(client, f"/{number}", same="s" * 30)

    @within(60)
    async def test_header_table_sizes_of_the_client(self) -> None:
        """The size of our header table changes, several times in a row."""
        client = await self.connect()
        for sizes in [8192, 4096], [0, 8192], [100, 8192, 50, 4096], [0, 0], [4096, 0, 100], [60]:
            with self.subTest(sizes=sizes):
                for size in sizes:
                    client.update_settings({SettingCodes.HEADER_TABLE_SIZE: size})
                for number in range(20):
                    await self.get(client, f"/{number}")
