"""nghttp2's ``nghttp`` and ``h2load`` as the clients."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import aioh2

from .cases import PeerCase, within
from .page import Page
from .programs import LARGE, EchoServer, Output, require, run, sha256

Handler = Callable[[aioh2.H2Stream], Awaitable[None]]


class Received(NamedTuple):
    """A DATA frame, in what ``nghttp --verbose`` tells."""

    path: str
    size: int
    is_last: bool


def received(output: str) -> list[Received]:
    """Return the DATA frames in the order in which they came."""
    requests = r"send HEADERS frame <[^>]*stream_id=(\d+)>(?:\n +.*)*?\n +:path: (\S+)"
    paths = dict(re.findall(requests, output))
    frames = r"recv DATA frame <length=(\d+), flags=0x(\w+), stream_id=(\d+)>"
    return [
        Received(paths[stream_id], int(size), bool(int(flags, 16) & 1))
        for size, flags, stream_id in re.findall(frames, output)
    ]


def before_the_end_of(path: str, output: str) -> dict[str, int]:
    """Return how much of the other bodies had come at the end of a page's body."""
    sizes: dict[str, int] = {}
    for frame in received(output):
        sizes[frame.path] = sizes.get(frame.path, 0) + frame.size
        if frame.path == path and frame.is_last:
            assert sizes.pop(path) == Page.SIZE
            return sizes
    raise AssertionError(f"{path} has not come to its end: {output}")


class TestNghttp(PeerCase):
    peer = "nghttp"
    side = "server"
    program = "nghttp"

    async def fetch(self, *arguments: str) -> Output:
        output = await run("nghttp", "--timeout=50", *arguments)
        self.assertEqual((output.code, output.stderr), (0, ""))
        return output

    async def fetch_from(
        self, handler: Handler, arguments: tuple[str, ...], *paths: str, **options: int
    ) -> str:
        """Run nghttp against a server of the test's own; return what it tells of the frames."""
        server = await aioh2.start_server(
            lambda p: p.serve(handler), "127.0.0.1", 0, close_timeout=5, **options
        )
        async with server:
            base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            urls = [base + path for path in paths]
            output = await self.fetch("--verbose", "--null-out", *arguments, *urls)
        codes = re.findall(r"error_code=(\w+)", output.text)
        self.assertEqual(set(codes), {"NO_ERROR"}, output.text)
        return output.text

    @within(60)
    async def test_get(self) -> None:
        """GET."""
        async with EchoServer() as server:
            output = await self.fetch("--verbose", server.url())
            self.assertRegex(output.text, r"recv \(stream_id=\d+\) :status: 200")
            self.assertIn("hello, this is aioh2\n", output.text)
            # the only errors it knows of are none
            self.assertEqual(set(re.findall(r"error_code=(\w+)", output.text)), {"NO_ERROR"})
            self.assertNotIn("INVALID", output.text)

    @within(60)
    async def test_post_with_trailers_both_ways(self) -> None:
        """Trailers both ways, with 8 MiB."""
        upload = self.write("upload", LARGE)
        async with EchoServer() as server:
            output = await self.fetch(
                *("--verbose", "--null-out", f"--data={upload}", "--trailer=checksum: abc"),
                server.url("/trailers"),
            )
            trailers = re.findall(r"recv \(stream_id=\d+\) (checksum|length): (\w+)", output.text)
            self.assertEqual(trailers, [("checksum", "abc"), ("length", str(len(LARGE)))])

    @within(60)
    async def test_large_post(self) -> None:
        """8 MiB upload."""
        upload = self.write("upload", LARGE)
        async with EchoServer() as server:
            output = await self.fetch(f"--data={upload}", server.url())
            self.assertEqual(sha256(output.stdout), sha256(LARGE))

    @within(60)
    async def test_continuation_and_small_frames(self) -> None:
        """CONTINUATION, padding, small windows, no header table."""
        upload = self.write("upload", LARGE[:1_000_000])
        async with EchoServer() as server:
            output = await self.fetch(
                *("--continuation", "--padding=200", "--window-bits=10", "--header-table-size=0"),
                *(f"--data={upload}", server.url()),
            )
            self.assertEqual(sha256(output.stdout), sha256(LARGE[:1_000_000]))

    @within(60)
    async def test_many_streams(self) -> None:
        """80 uploads at once."""
        upload = self.write("upload", LARGE[:100_000])
        async with EchoServer() as server:
            output = await self.fetch("--multiply=80", f"--data={upload}", server.url())
            # their bodies come interleaved
            self.assertEqual(len(output.stdout), 80 * 100_000)

    @within(60)
    async def test_tls(self) -> None:
        """GET over TLS."""
        files = self.issue_certificates()
        async with EchoServer("--cert", files.cert, "--key", files.key) as server:
            output = await self.fetch("--verbose", "--no-verify-peer", server.url(scheme="https"))
            self.assertIn("The negotiated protocol: h2\n", output.text)
            self.assertIn("hello, this is aioh2\n", output.text)

    @within(60)
    async def test_weights(self) -> None:
        """Priorities: of two requests the heavier is served first."""
        output = await self.fetch_from(
            *(Page(2).handle, ("--window-bits=24", "--weight=1", "--weight=256")),
            *("/light", "/heavy"),
        )
        self.assertIn("dep_stream_id=11, weight=256", output)
        # what the connection's window lets through before anybody has to wait, and a little
        before = before_the_end_of("/heavy", output)
        self.assertLess(before.get("/light", 0), Page.SIZE / 4)

    @within(60)
    async def test_dependencies(self) -> None:
        """Priorities: style sheet before image, by a tree of idle streams."""
        output = await self.fetch_from(Page(3).handle, ("--window-bits=24", "--get-assets"), "/")
        # the image is asked for first; its weight is 1, beside 32
        asked = re.findall(r":path: (\S+)", output)
        self.assertEqual(asked, ["/", "/image.png", "/style.css", "/script.js"])
        before = before_the_end_of("/style.css", output)
        self.assertLess(before.get("/image.png", 0), Page.SIZE / 4)

    @within(60)
    async def test_no_rfc7540_priorities(self) -> None:
        """Priorities of RFC 7540 switched off (RFC 9218): weights change nothing."""
        output = await self.fetch_from(
            Page(2).handle,
            ("--window-bits=24", "--no-rfc7540-pri", "--weight=1", "--weight=256"),
            *("/light", "/heavy"),
        )
        # one after another, in the order of their ids (RFC 9218 section 10)
        self.assertEqual(before_the_end_of("/light", output), {})

    @within(60)
    async def test_header_table_sizes(self) -> None:
        """Header table sizes that change, twice in one SETTINGS frame too."""

        async def handle(stream: aioh2.H2Stream) -> None:
            path = dict(stream.request_headers)[":path"]
            headers = {":status": "200", "x-path": path, "x-same": "s" * 100}
            await stream.start_response(headers, end_stream=True)

        paths = [f"/{number}" for number in range(100)]
        for sizes in [(0, 8192), (100, 0, 4096), (0, 100), (8192,), (50,), (0,)]:
            with self.subTest(sizes=sizes):
                options = tuple(f"--header-table-size={size}" for size in sizes)
                output = await self.fetch_from(handle, options, *paths)
                for size in {min(sizes), sizes[-1]}:
                    self.assertIn(f"SETTINGS_HEADER_TABLE_SIZE(0x01):{size}]", output)
                self.assertEqual(sorted(re.findall("x-path: (.*)", output)), sorted(paths))
                self.assertEqual(output.count("x-same: " + "s" * 100), 100)

    @within(60)
    async def test_header_table_sizes_of_its_encoder(self) -> None:
        """Header tables of its encoder: none, small, large."""
        seen = []

        async def handle(stream: aioh2.H2Stream) -> None:
            request = dict(stream.request_headers)
            seen.append((request[":path"], request["x-same"]))
            await stream.start_response({":status": "200"}, end_stream=True)

        paths = [f"/{number}" for number in range(100)]
        for ours, theirs in [(0, 8192), (100, 8192), (65_536, 65_536), (65_536, 50), (4096, 0)]:
            with self.subTest(ours=ours, theirs=theirs):
                seen.clear()
                await self.fetch_from(
                    *(handle, (f"--encoder-header-table-size={theirs}", "--header=x-same: same")),
                    *paths,
                    header_table_size=ours,
                )
                self.assertEqual(sorted(seen), sorted((path, "same") for path in paths))

    @within(60)
    async def test_expect_continue(self) -> None:
        """Expect: 100-continue."""

        async def handle(stream: aioh2.H2Stream) -> None:
            self.assertIn(("expect", "100-continue"), stream.request_headers)
            await stream.start_response({":status": "100"})
            length = len(await stream.read(-1))
            await stream.start_response({":status": "200", "x-length": str(length)})

        upload = self.write("upload", LARGE)
        options = ("--expect-continue", f"--data={upload}")
        output = await self.fetch_from(handle, options, "/")
        events = re.findall(r"(send DATA|:status: 100|:status: 200)", output)
        self.assertEqual((events[0], events[-1]), (":status: 100", ":status: 200"))
        self.assertIn(f"x-length: {len(LARGE)}", output)

    @within(60)
    async def test_push(self) -> None:
        """Push."""

        async def handle(stream: aioh2.H2Stream) -> None:
            pushed = await stream.push({":path": "/pushed"})
            await stream.start_response({":status": "200"}, end_stream=True)
            await pushed.start_response({":status": "200"})
            await pushed.send_data(b"p" * 1234, end_stream=True)

        output = await self.fetch_from(handle, (), "/")
        self.assertRegex(output, r"recv PUSH_PROMISE frame <.*stream_id=13>")
        self.assertRegex(output, r"recv \(stream_id=13\) :path: /pushed")
        self.assertRegex(output, r"recv DATA frame <length=1234, flags=0x01, stream_id=2>")


class TestH2load(PeerCase):
    peer = "h2load"
    side = "server"
    program = "h2load"

    async def load(self, requests: int, *arguments: str) -> None:
        """Let h2load make this many requests; every one of them has to succeed."""
        output = await run("h2load", f"--requests={requests}", *arguments, limit=100)
        self.assertEqual(output.code, 0, output.stderr)
        counts = re.search("^requests: (.*)$", output.text, re.MULTILINE)
        assert counts is not None, output.text
        n = requests
        self.assertEqual(
            counts[1],
            f"{n} total, {n} started, {n} done, {n} succeeded, 0 failed, 0 errored, 0 timeout",
        )
        self.assertIn(f"status codes: {n} 2xx, 0 3xx, 0 4xx, 0 5xx", output.text)

    @within(120)
    async def test_20000_requests(self) -> None:
        """20,000 requests (-c 100 -m 10)."""
        require("h2load")
        async with EchoServer() as server:
            await self.load(20_000, "--clients=100", "--max-concurrent-streams=10", server.url())

    @within(120)
    async def test_more_streams_than_allowed(self) -> None:
        """More streams at once than allowed (-m 250)."""
        require("h2load")
        async with EchoServer() as server:
            await self.load(5000, "--clients=2", "--max-concurrent-streams=250", server.url())

    @within(120)
    async def test_uploads(self) -> None:
        """1,000 uploads of 100 kB."""
        require("h2load")
        upload = self.write("upload", LARGE[:100_000])
        async with EchoServer() as server:
            await self.load(
                *(1000, "--clients=4", "--max-concurrent-streams=10", f"--data={upload}"),
                server.url("/trailers"),
            )

    @within(120)
    async def test_tls(self) -> None:
        """2,000 requests over TLS."""
        require("h2load")
        files = self.issue_certificates()
        async with EchoServer("--cert", files.cert, "--key", files.key) as server:
            await self.load(
                *(2000, "--clients=4", "--max-concurrent-streams=10"), server.url(scheme="https")
            )

    @within(120)
    async def test_unix_socket(self) -> None:
        """2,000 requests over a Unix socket."""
        require("h2load")
        path = str(self.directory / "socket")
        async with EchoServer("--unix", path):
            await self.load(
                *(2000, "--clients=4", "--max-concurrent-streams=10"),
                *(f"--base-uri=unix:{path}", "http://localhost/"),
            )
