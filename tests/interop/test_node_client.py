"""Node's ``http2``, which is nghttp2 under an API of its own, as the client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aioh2

from .cases import PeerCase, within
from .page import Page
from .programs import HERE, LARGE, EchoServer, require, run, sha256

GET = {":path": "/"}
POST = {":method": "POST", ":path": "/"}
WITH_TRAILERS = {":method": "POST", ":path": "/trailers"}
TUNNEL = {":method": "CONNECT", ":protocol": "websocket", ":path": "/chat"}
GREETING = b"hello, this is aioh2\n"

Handler = Callable[[aioh2.H2Stream], Awaitable[None]]
Step = dict[str, Any]


async def reply(stream: aioh2.H2Stream) -> None:
    """Answer with the path and the length of the body, which is sent back."""
    # a reader of all of it would open the window for all of it
    body = b"".join([chunk async for chunk in stream])
    path = dict(stream.request_headers)[":path"]
    headers = {":status": "200", "x-path": path, "x-length": str(len(body)), "x-same": "s" * 50}
    await stream.start_response(headers)
    await stream.send_data(body, end_stream=True)


class NodeClientCase(PeerCase):
    peer = "Node http2"
    side = "server"
    program = "node"

    def setUp(self) -> None:
        super().setUp()
        require("node")

    async def take(self, url: str, *steps: Step, **options: Any) -> Any:
        """Let Node take these steps; return what came of them, and what its session has told."""
        options["body"] = self.write("body", LARGE)
        arguments = url, json.dumps(steps), json.dumps(options)
        output = await run("node", str(HERE / "node_client.js"), *arguments)
        self.assertEqual((output.code, output.stderr), (0, ""))
        self.assertTrue(output.text, "Node has ended before its last step")
        told = json.loads(output.text)
        self.assertEqual([code for code, *_ in told["events"]["goaway"] if code != "0"], [])
        return told

    async def take_from(self, handler: Handler, *steps: Step, **options: Any) -> Any:
        """As ``take``, from a server of the test's own; options with ``our_`` are the server's."""
        ours = {name[4:]: options.pop(name) for name in list(options) if name.startswith("our_")}
        async with self.serving(handler, **ours) as url:
            return await self.take(url, *steps, **options)

    @asynccontextmanager
    async def serving(self, handler: Handler, **options: Any) -> AsyncIterator[str]:
        """Run a server, and give its address."""
        scheme = "https" if "ssl" in options else "http"
        self.connections: list[aioh2.H2Protocol] = []

        async def serve(protocol: aioh2.H2Protocol) -> None:
            self.connections.append(protocol)
            await protocol.serve(handler)

        async with await aioh2.start_server(serve, "127.0.0.1", 0, **options) as server:
            yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    def check(self, got: Any, body: bytes, **trailers: str) -> None:
        """Check what came of a request."""
        self.assertEqual((got["headers"][":status"], got["code"]), (200, 0))
        self.assertEqual(got["sha256"], sha256(body))
        self.assertEqual(got["trailers"], trailers)


class TestRequests(NodeClientCase):
    @within(60)
    async def test_get(self) -> None:
        """GET."""
        async with EchoServer() as server:
            told = await self.take(server.url(""), {"fetch": GET})
        self.assertEqual(told["alpn"], "h2c")
        self.check(told["results"][0], GREETING)

    @within(60)
    async def test_upload(self) -> None:
        """8 MiB upload, echoed."""
        async with EchoServer() as server:
            told = await self.take(server.url(""), {"fetch": POST, "bytes": len(LARGE)})
        self.check(told["results"][0], LARGE)

    @within(60)
    async def test_trailers(self) -> None:
        """Trailers both ways."""
        step = {"fetch": WITH_TRAILERS, "bytes": 100_000, "trailers": {"checksum": "abc"}}
        async with EchoServer() as server:
            told = await self.take(server.url(""), step, {"fetch": {":path": "/trailers"}})
        self.check(told["results"][0], LARGE[:100_000], checksum="abc", length="100000")
        self.check(told["results"][1], GREETING, length=str(len(GREETING)))

    @within(60)
    async def test_side_by_side(self) -> None:
        """500 uploads, 100 at once."""
        uploads = [{"fetch": WITH_TRAILERS, "bytes": size} for size in range(0, 10_000, 100)]
        async with EchoServer() as server:
            told = await self.take(server.url(""), *[{"together": uploads}] * 5)
        for batch in told["results"]:
            for got, upload in zip(batch, uploads, strict=True):
                size = upload["bytes"]
                self.check(got, LARGE[:size], length=str(size))

    @within(60)
    async def test_tls(self) -> None:
        """GET and 8 MiB upload over TLS."""
        files = self.issue_certificates()
        async with EchoServer("--cert", files.cert, "--key", files.key) as server:
            steps = {"fetch": GET}, {"fetch": POST, "bytes": len(LARGE)}
            told = await self.take(server.url("", "https"), *steps, ca=files.authority)
        self.assertEqual(told["alpn"], "h2")
        self.check(told["results"][0], GREETING)
        self.check(told["results"][1], LARGE)

    @within(60)
    async def test_unix_socket(self) -> None:
        """GET and 8 MiB upload over a Unix socket."""
        path = str(self.directory / "socket")
        async with EchoServer("--unix", path):
            steps = {"fetch": GET}, {"fetch": POST, "bytes": len(LARGE)}
            told = await self.take("http://localhost", *steps, socket=path)
        self.check(told["results"][0], GREETING)
        self.check(told["results"][1], LARGE)

    @within(60)
    async def test_early_hints(self) -> None:
        """103, twice."""

        async def handle(stream: aioh2.H2Stream) -> None:
            for link in "</a.css>", "</b.css>":
                await stream.start_response({":status": "103", "link": link})
            await reply(stream)

        told = await self.take_from(handle, {"fetch": POST, "bytes": 1000})
        got = told["results"][0]
        self.check(got, LARGE[:1000])
        self.assertEqual(
            got["interim"],
            [{":status": 103, "link": "</a.css>"}, {":status": 103, "link": "</b.css>"}],
        )

    @within(60)
    async def test_reset_by_the_client(self) -> None:
        """RST_STREAM from it, during an upload."""
        failures = []

        async def handle(stream: aioh2.H2Stream) -> None:
            if (":method", "GET") in stream.request_headers:
                await reply(stream)
                return
            await stream.start_response({":status": "200"})
            try:
                async for _ in stream:
                    pass
            finally:
                failures.append(stream.failure)

        leave = {"leave": POST, "bytes": 1_000_000, "when": "response"}
        told = await self.take_from(handle, *[leave] * 5, {"fetch": GET})
        self.assertEqual([got["code"] for got in told["results"]], [8] * 5 + [0])
        self.check(told["results"][-1], b"")
        self.assertEqual(len(failures), 5)
        for failure in failures:
            assert isinstance(failure, aioh2.StreamReset)
            self.assertEqual((failure.initiator, failure.error_code), ("peer", 8))

    @within(60)
    async def test_reset_by_the_server(self) -> None:
        """RST_STREAM from us, before and after the response has started."""

        async def handle(stream: aioh2.H2Stream) -> None:
            if (":path", "/late") in stream.request_headers:
                await stream.start_response({":status": "200"})
                await stream.send_data(b"some")
            if (":path", "/") not in stream.request_headers:
                stream.reset(aioh2.ErrorCodes.ENHANCE_YOUR_CALM)
            else:
                await reply(stream)

        steps = [{"fetch": {":path": path}} for path in ("/early", "/late", "/")]
        told = await self.take_from(handle, *steps)
        self.assertEqual([got["code"] for got in told["results"]], [11, 11, 0])
        for got in told["results"][:2]:
            self.assertIn("NGHTTP2_ENHANCE_YOUR_CALM", got["error"])
        self.assertEqual(told["results"][1]["length"], 4)
        self.check(told["results"][2], b"")

    @within(60)
    async def test_answer_before_the_end_of_the_upload(self) -> None:
        """Answer before the end of the upload: RST_STREAM(NO_ERROR)."""

        async def handle(stream: aioh2.H2Stream) -> None:
            await stream.start_response({":status": "200"})
            await stream.send_data(b"enough", end_stream=True)

        # it keeps the rest of the upload for ever, unless it is told to leave
        leave = {"leave": POST, "bytes": 1_000_000, "when": "end"}
        told = await self.take_from(handle, *[leave] * 3, {"fetch": GET})
        for got in told["results"]:
            self.assertEqual((got["headers"][":status"], got["length"]), (200, len(b"enough")))
        self.assertEqual(self.connections[0].stats.resets_sent, 3)

    @within(60)
    async def test_ping(self) -> None:
        """PING both ways."""

        async def handle(stream: aioh2.H2Stream) -> None:
            self.assertLess(await stream.protocol.ping(), 10)
            await reply(stream)

        told = await self.take_from(handle, {"fetch": GET}, {"ping": "12345678"})
        self.assertEqual(told["results"][1], "12345678")
        self.assertEqual(len(told["events"]["ping"]), 1)


class TestMore(NodeClientCase):
    @within(60)
    async def test_weights(self) -> None:
        """Priorities: of two requests the heavier is served first."""
        told = await self.take_from(
            Page(2).handle,
            {
                "together": [
                    {"fetch": {":path": "/light"}, "options": {"weight": 1}},
                    {"fetch": {":path": "/heavy"}, "options": {"weight": 256}},
                ]
            },
            settings={"initialWindowSize": 2**24},
        )
        light, heavy = told["results"][0]
        self.assertEqual((light["length"], heavy["length"]), (Page.SIZE, Page.SIZE))
        self.assertLess(heavy["lengths"].get("/light", 0), Page.SIZE / 4)
        self.assertEqual(light["lengths"]["/heavy"], Page.SIZE)

    @within(60)
    async def test_urgencies(self) -> None:
        """Priorities: the ``priority`` field (RFC 9218)."""
        urgencies = {"/last": "u=7", "/second": "u=3", "/first": "u=0"}
        together = [{"fetch": {":path": path, "priority": u}} for path, u in urgencies.items()]
        told = await self.take_from(
            *(Page(3).handle, {"together": together}), settings={"initialWindowSize": 2**24}
        )
        last, second, first = told["results"][0]
        self.assertEqual(last["lengths"], dict.fromkeys(urgencies, Page.SIZE))
        self.assertEqual(second["lengths"]["/first"], Page.SIZE)
        # what the connection's window lets through before anybody has to wait, and a little
        self.assertLess(second["lengths"].get("/last", 0), Page.SIZE / 4)
        self.assertLess(first["lengths"].get("/second", 0), Page.SIZE / 4)

    @within(60)
    async def test_push(self) -> None:
        """Push."""

        async def handle(stream: aioh2.H2Stream) -> None:
            pushed = [await stream.push({":path": path}) for path in ("/a.css", "/b.css")]
            await reply(stream)
            for number, promised in enumerate(pushed):
                await promised.start_response({":status": "200", "x-number": str(number)})
                await promised.send_data(LARGE[: 100_000 + number], end_stream=True)

        told = await self.take_from(handle, {"fetch": GET})
        self.check(told["results"][0], b"")
        pushes = told["events"]["push"]
        self.assertEqual([got["path"] for got in pushes], ["/a.css", "/b.css"])
        for number, got in enumerate(pushes):
            self.check(got, LARGE[: 100_000 + number])
            self.assertEqual(got["headers"]["x-number"], str(number))

    @within(60)
    async def test_push_after_goaway(self) -> None:
        """Its session closes before a promised response begins.

        Node 20 answers that response with PROTOCOL_ERROR, although its GOAWAY names the stream
        as one that goes on (RFC 9113 section 6.8). The handler gets the end of the connection,
        which is not logged as its failure.
        """

        async def handle(stream: aioh2.H2Stream) -> None:
            pushed = await stream.push({":path": "/a.css"})
            await reply(stream)
            await stream.protocol.wait_closing()
            await pushed.start_response({":status": "200"})
            await pushed.send_data(LARGE, end_stream=True)

        with self.assertNoLogs("aioh2.server", "WARNING"):
            told = await self.take_from(handle, {"fetch": GET}, hasty=True)
        self.check(told["results"][0], b"")

    @within(60)
    async def test_push_not_wanted(self) -> None:
        """Push that it has not allowed: not sent."""
        refused = []

        async def handle(stream: aioh2.H2Stream) -> None:
            try:
                await stream.push({":path": "/a.css"})
            except aioh2.NotSupported as error:
                refused.append(error)
            await reply(stream)

        told = await self.take_from(handle, {"fetch": GET}, settings={"enablePush": False})
        self.check(told["results"][0], b"")
        self.assertEqual((len(refused), told["events"]["push"]), (1, []))

    @within(60)
    async def test_altsvc_and_origin(self) -> None:
        """ALTSVC and ORIGIN, over TLS."""
        files = self.issue_certificates()

        async def handle(stream: aioh2.H2Stream) -> None:
            protocol = stream.protocol
            protocol.advertise_alternative_service('h2="alt.test:8000"', origin="https://a.test")
            protocol.advertise_alternative_service('h2=":8001"', stream_id=stream.id)
            protocol.send_origins(["https://b.test", "https://c.test:8000"])
            await reply(stream)

        told = await self.take_from(
            handle, {"fetch": GET}, our_ssl=files.server_context(), ca=files.authority
        )
        self.check(told["results"][0], b"")
        events = told["events"]
        self.assertEqual(
            events["altsvc"],
            [['h2="alt.test:8000"', "https://a.test", "0"], ['h2=":8001"', "", "1"]],
        )
        self.assertEqual(events["origin"], [["https://b.test,https://c.test:8000"]])

    @within(60)
    async def test_extended_connect(self) -> None:
        """Extended CONNECT."""

        async def handle(stream: aioh2.H2Stream) -> None:
            self.assertIn((":protocol", "websocket"), stream.request_headers)
            await stream.start_response({":status": "200"})
            reader, writer = stream.as_reader_writer()
            while text := await reader.read(1000):
                writer.write(text.upper())
                await writer.drain()
            writer.close()
            await writer.wait_closed()

        told = await self.take_from(
            *(handle, {"remoteSettings": True}, {"tunnel": TUNNEL, "texts": ["one", "two"]}),
            our_enable_connect_protocol=True,
        )
        settings, got = told["results"]
        self.assertTrue(settings["enableConnectProtocol"])
        self.assertEqual((got["replies"], got["code"]), (["ONE", "TWO"], 0))

    @within(60)
    async def test_shutdown(self) -> None:
        """Graceful shutdown by us, with an upload in flight."""

        async def handle(stream: aioh2.H2Stream) -> None:
            await stream.read(1)
            # it goes on, up to its end
            self.drained = await stream.protocol.shutdown(grace=30)
            await reply(stream)

        async with self.serving(handle) as url:
            told = await self.take(url, {"fetch": POST, "bytes": len(LARGE)})
        got = told["results"][0]
        self.assertEqual((got["headers"][":status"], got["code"]), (200, 0))
        self.assertEqual(int(got["headers"]["x-length"]), len(LARGE) - 1)
        self.assertEqual(self.drained.aborted, 0)
        self.assertEqual({code for code, *_ in told["events"]["goaway"]}, {"0"})


class TestSettings(NodeClientCase):
    @within(60)
    async def test_few_streams(self) -> None:
        """50 requests, 2 streams at once allowed."""
        most = 0

        async def handle(stream: aioh2.H2Stream) -> None:
            nonlocal most
            most = max(most, stream.protocol.stats.streams_open)
            await reply(stream)

        told = await self.take_from(
            *(handle, {"remoteSettings": True}, {"together": [{"fetch": GET}] * 50}),
            our_concurrency=2,
        )
        for got in told["results"][1]:
            self.check(got, b"")
        self.assertEqual(most, 2)

    @within(60)
    async def test_tiny_windows(self) -> None:
        """Tiny windows: 1 byte at a time, both ways."""
        told = await self.take_from(
            *(reply, {"together": [{"fetch": POST, "bytes": 500}] * 5}),
            our_initial_window_size=1,
            settings={"initialWindowSize": 1},
        )
        for got in told["results"][0]:
            self.check(got, LARGE[:500])

    @within(60)
    async def test_settings_change(self) -> None:
        """Settings change at run time, on both sides, with uploads in flight."""
        uploads: list[Step] = [{"fetch": POST, "bytes": 1_000_000}] * 5
        changes: list[Step] = [
            {"settings": {"initialWindowSize": size}} for size in (0, 100_000, 1, 1_000_000)
        ]

        async def handle(stream: aioh2.H2Stream) -> None:
            # each request another: less, and so below what is on its way, and more
            stream.protocol.initial_window_size = 1_000 * stream.id**2
            stream.protocol.max_frame_size = 16_384 + stream.id
            await reply(stream)

        last: list[Step] = [{"settings": {"maxFrameSize": 2**20}, "acked": True}, {"fetch": GET}]
        told = await self.take_from(handle, {"together": [*uploads, *changes]}, *last)
        for got in told["results"][0][: len(uploads)]:
            self.check(got, LARGE[:1_000_000])
        self.check(told["results"][-1], b"")

    @within(60)
    async def test_header_table_sizes_of_the_client(self) -> None:
        """The size of its header table changes, several times in a row."""
        requests = [{"fetch": {":path": f"/{number}"}} for number in range(10)]
        steps: list[Step] = []
        for sizes in [8192, 4096], [0, 8192], [100, 8192, 50, 4096], [0, 0], [4096, 0, 100], [60]:
            for acked in False, True:
                steps += ({"settings": {"headerTableSize": size}, "acked": acked} for size in sizes)
                steps += requests
        told = await self.take_from(reply, *requests, *steps)
        got = [result for result in told["results"] if result is not None and "path" in result]
        self.assertEqual(len(got), 130)
        for number, result in enumerate(got):
            self.check(result, b"")
            self.assertEqual(result["headers"]["x-path"], f"/{number % 10}")

    @within(60)
    async def test_header_table_sizes_of_the_server(self) -> None:
        """The size of our header table changes, several times in a row."""
        changes = iter([[8192, 4096], [0, 8192], [100, 8192, 50, 4096], [0, 0], [4096, 0, 100]])
        code = aioh2.SettingCodes.HEADER_TABLE_SIZE

        async def handle(stream: aioh2.H2Stream) -> None:
            if (":path", "/0") in stream.request_headers:
                for size in next(changes):
                    stream.protocol.update_settings({code: size})
            await reply(stream)

        requests = [{"fetch": {":path": f"/{number}", "x-same": "s"}} for number in range(10)]
        told = await self.take_from(handle, *requests * 5)
        for number, got in enumerate(told["results"]):
            self.check(got, b"")
            self.assertEqual(got["headers"]["x-path"], f"/{number % 10}")
