"""nghttp2's programs: ``nghttp`` and ``h2load`` as clients, ``nghttpd`` as the server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aioh2

from .cases import PeerCase, within
from .programs import LARGE, EchoServer, Ended, Output, Program, free_port, require, run, sha256

# How many ports are tried for nghttpd.
_ATTEMPTS = 5


class TestNghttp(PeerCase):
    peer = "nghttp"
    side = "server"
    program = "nghttp"

    async def fetch(self, *arguments: str) -> Output:
        output = await run("nghttp", "--timeout=50", *arguments)
        self.assertEqual((output.code, output.stderr), (0, ""))
        return output

    @within(60)
    async def test_get(self) -> None:
        async with EchoServer() as server:
            output = await self.fetch("--verbose", server.url())
            self.assertRegex(output.text, r"recv \(stream_id=\d+\) :status: 200")
            self.assertIn("hello, this is aioh2\n", output.text)
            # the only errors it knows of are none
            self.assertEqual(set(re.findall(r"error_code=(\w+)", output.text)), {"NO_ERROR"})
            self.assertNotIn("INVALID", output.text)

    @within(60)
    async def test_post_with_trailers_both_ways(self) -> None:
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
        upload = self.write("upload", LARGE)
        async with EchoServer() as server:
            output = await self.fetch(f"--data={upload}", server.url())
            self.assertEqual(sha256(output.stdout), sha256(LARGE))

    @within(60)
    async def test_continuation_and_small_frames(self) -> None:
        upload = self.write("upload", LARGE[:1_000_000])
        async with EchoServer() as server:
            output = await self.fetch(
                *("--continuation", "--padding=200", "--window-bits=10", "--header-table-size=0"),
                *(f"--data={upload}", server.url()),
            )
            self.assertEqual(sha256(output.stdout), sha256(LARGE[:1_000_000]))

    @within(60)
    async def test_many_streams(self) -> None:
        upload = self.write("upload", LARGE[:100_000])
        async with EchoServer() as server:
            output = await self.fetch("--multiply=80", f"--data={upload}", server.url())
            # their bodies come interleaved
            self.assertEqual(len(output.stdout), 80 * 100_000)

    @within(60)
    async def test_tls(self) -> None:
        files = self.issue_certificates()
        async with EchoServer("--cert", files.cert, "--key", files.key) as server:
            output = await self.fetch("--verbose", "--no-verify-peer", server.url(scheme="https"))
            self.assertIn("The negotiated protocol: h2\n", output.text)
            self.assertIn("hello, this is aioh2\n", output.text)


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
        require("h2load")
        async with EchoServer() as server:
            await self.load(20_000, "--clients=10", "--max-concurrent-streams=10", server.url())

    @within(120)
    async def test_more_streams_than_allowed(self) -> None:
        require("h2load")
        async with EchoServer() as server:
            await self.load(5000, "--clients=2", "--max-concurrent-streams=250", server.url())

    @within(120)
    async def test_uploads(self) -> None:
        require("h2load")
        upload = self.write("upload", LARGE[:100_000])
        async with EchoServer() as server:
            await self.load(
                *(1000, "--clients=4", "--max-concurrent-streams=10", f"--data={upload}"),
                server.url("/trailers"),
            )

    @within(120)
    async def test_tls(self) -> None:
        require("h2load")
        files = self.issue_certificates()
        async with EchoServer("--cert", files.cert, "--key", files.key) as server:
            await self.load(
                *(2000, "--clients=4", "--max-concurrent-streams=10"), server.url(scheme="https")
            )


class TestNghttpd(PeerCase):
    peer = "nghttpd"
    side = "client"
    program = "nghttpd"

    @asynccontextmanager
    async def nghttpd(self, *arguments: str) -> AsyncIterator[int]:
        """Run nghttpd on the files of the test's directory, and give its port."""
        program = require("nghttpd")
        async with AsyncExitStack() as stack:
            # one that was free may be taken before nghttpd listens on it
            for attempts_left in reversed(range(_ATTEMPTS)):
                port = free_port()
                server = Program(
                    *(program, "--verbose", "--address=127.0.0.1", f"--htdocs={self.directory}"),
                    *(str(port), *arguments),
                    ready="listen 127.0.0.1:",
                )
                try:
                    await stack.enter_async_context(server)
                    break
                except Ended:
                    if not attempts_left:
                        raise
            yield port
        invalid = [line for line in server.lines if "INVALID" in line]
        self.assertEqual(invalid, [], "nghttpd has received frames that are not valid")

    @within(60)
    async def test_get(self) -> None:
        self.write("index.html", b"a file\n")
        async with (
            self.nghttpd("--no-tls", "--trailer=checksum: abc") as port,
            aioh2.open_connection("127.0.0.1", port) as client,
        ):
            async with client.open_stream({":path": "/"}, end_stream=True) as stream:
                headers = dict(await stream.recv_response())
                self.assertEqual((headers[":status"], headers["content-length"]), ("200", "7"))
                self.assertEqual(await stream.read(-1), b"a file\n")
                self.assertEqual(await stream.recv_trailers(), [("checksum", "abc")])
            async with client.open_stream({":path": "/none"}, end_stream=True) as stream:
                self.assertIn((":status", "404"), await stream.recv_response())

    async def download(self, client: aioh2.H2Protocol) -> None:
        async with client.open_stream({":path": "/large"}, end_stream=True) as stream:
            self.assertIn((":status", "200"), await stream.recv_response())
            self.assertEqual(sha256(await stream.read(-1)), sha256(LARGE))

    async def upload(self, client: aioh2.H2Protocol) -> None:
        async with client.open_stream({":method": "POST", ":path": "/"}) as stream:
            async with asyncio.TaskGroup() as both:
                both.create_task(stream.send_data(LARGE, end_stream=True))
                echoed = both.create_task(stream.read(-1))
            self.assertIn((":status", "200"), await stream.recv_response())
            self.assertEqual(sha256(echoed.result()), sha256(LARGE))

    @within(60)
    async def test_large_bodies(self) -> None:
        self.write("large", LARGE)
        async with (
            self.nghttpd("--no-tls", "--echo-upload") as port,
            aioh2.open_connection("127.0.0.1", port) as client,
        ):
            await self.download(client)
            await self.upload(client)
            # and side by side
            async with asyncio.TaskGroup() as both:
                both.create_task(self.download(client))
                both.create_task(self.upload(client))

    @within(60)
    async def test_large_bodies_through_small_windows_and_padding(self) -> None:
        self.write("large", LARGE)
        windows = aioh2.Config(initial_window_size=16_384, connection_window_size=65_535)
        async with (
            self.nghttpd(
                *("--no-tls", "--echo-upload", "--padding=100"),
                *("--window-bits=14", "--connection-window-bits=16"),
            ) as port,
            aioh2.open_connection("127.0.0.1", port, config=windows) as client,
        ):
            await self.download(client)
            await self.upload(client)

    @within(60)
    async def test_tls(self) -> None:
        self.write("large", LARGE)
        files = self.issue_certificates()
        async with (
            self.nghttpd("--echo-upload", files.key, files.cert) as port,
            aioh2.open_connection("127.0.0.1", port, ssl=files.client_context()) as client,
        ):
            await self.download(client)
            await self.upload(client)

    @within(60)
    async def test_many_requests(self) -> None:
        self.write("small", b"small\n")

        async def get(client: aioh2.H2Protocol) -> None:
            async with client.open_stream({":path": "/small"}, end_stream=True) as stream:
                self.assertIn((":status", "200"), await stream.recv_response())
                self.assertEqual(await stream.read(-1), b"small\n")

        async with (
            self.nghttpd("--no-tls", "--max-concurrent-streams=10") as port,
            aioh2.open_connection("127.0.0.1", port) as client,
        ):
            for _ in range(10):
                # all but ten wait for a slot
                async with asyncio.TaskGroup() as requests:
                    for _ in range(100):
                        requests.create_task(get(client))
            self.assertEqual(client.stats.streams_opened, 1000)
            self.assertEqual((client.stats.streams_open, client.available_slots), (0, 10))

    @within(60)
    async def test_response_that_does_not_wait_for_the_request(self) -> None:
        self.write("small", b"small\n")
        async with (
            self.nghttpd("--no-tls", "--early-response") as port,
            aioh2.open_connection("127.0.0.1", port) as client,
        ):
            stream = await client.open_stream({":method": "POST", ":path": "/small"})
            sending = asyncio.create_task(stream.send_data(LARGE))
            # RST_STREAM with NO_ERROR follows the response (RFC 9113 section 8.1)
            with self.assertRaises(aioh2.SendException) as caught:
                await sending
            reason = caught.exception.__cause__
            assert isinstance(reason, aioh2.StreamReset)
            self.assertEqual((reason.error_code, reason.initiator), (0, "peer"))
            self.assertIn((":status", "200"), await stream.recv_response())
            self.assertEqual(await stream.read(-1), b"small\n")
            self.assertEqual(await stream.recv_trailers(), [])

    @within(60)
    async def test_push(self) -> None:
        self.write("index.html", b"a file\n")
        self.write("style.css", b"a style\n")
        async with (
            self.nghttpd("--no-tls", "--push=/=/style.css") as port,
            aioh2.open_connection("127.0.0.1", port, enable_push=True) as client,
            client.open_stream({":path": "/"}, end_stream=True) as stream,
        ):
            pushed = await stream.recv_push()
            assert pushed is not None
            self.assertIn((":path", "/style.css"), pushed.request_headers)
            self.assertIn((":status", "200"), await pushed.recv_response())
            self.assertEqual(await pushed.read(-1), b"a style\n")
            self.assertEqual(await stream.read(-1), b"a file\n")
            self.assertIsNone(await stream.recv_push())
        reason = client.close_reason
        assert isinstance(reason, aioh2.ConnectionClosed)
        # nghttpd closes as soon as it has the GOAWAY; it does not object to it
        self.assertNotEqual(reason.initiator, "peer", reason)
