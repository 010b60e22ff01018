"""nghttp2's ``nghttpd`` as the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aioh2

from .cases import PeerCase, within
from .programs import LARGE, Ended, Program, free_port, require, sha256

# How many ports are tried for nghttpd.
_ATTEMPTS = 5


class TestNghttpd(PeerCase):
    peer = "nghttpd"
    side = "client"
    program = "nghttpd"

    @asynccontextmanager
    async def nghttpd(self, *arguments: str) -> AsyncIterator[int]:
        """Run nghttpd on the files of the test's directory, and give its port.

        What it has told of the frames is in ``lines`` afterwards.
        """
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
        self.lines = server.lines
        invalid = [line for line in self.lines if "INVALID" in line]
        self.assertEqual(invalid, [], "nghttpd has received frames that are not valid")

    @within(60)
    async def test_get(self) -> None:
        """GET, and 404."""
        self.write("index.html", b"a file\n")
        async with (
            self.nghttpd("--no-tls") as port,
            aioh2.open_connection("127.0.0.1", port) as client,
        ):
            async with client.open_stream({":path": "/"}, end_stream=True) as stream:
                headers = dict(await stream.recv_response())
                self.assertEqual((headers[":status"], headers["content-length"]), ("200", "7"))
                self.assertEqual(await stream.read(-1), b"a file\n")
            async with client.open_stream({":path": "/none"}, end_stream=True) as stream:
                self.assertIn((":status", "404"), await stream.recv_response())

    async def get(self, client: aioh2.H2Protocol) -> None:
        request = {":path": "/small", "x-same": "s" * 40}
        async with client.open_stream(request, end_stream=True) as stream:
            self.assertIn((":status", "200"), await stream.recv_response())
            self.assertEqual(await stream.read(-1), b"small\n")

    async def download(self, client: aioh2.H2Protocol, body: bytes = LARGE) -> None:
        async with client.open_stream({":path": "/large"}, end_stream=True) as stream:
            self.assertIn((":status", "200"), await stream.recv_response())
            self.assertEqual(sha256(await stream.read(-1)), sha256(body))
            self.assertEqual(await stream.recv_trailers(), [])

    async def upload(self, client: aioh2.H2Protocol) -> None:
        async with client.open_stream({":method": "POST", ":path": "/"}) as stream:
            async with asyncio.TaskGroup() as both:
                both.create_task(stream.send_data(LARGE, end_stream=True))
                echoed = both.create_task(stream.read(-1))
            self.assertIn((":status", "200"), await stream.recv_response())
            self.assertEqual(sha256(echoed.result()), sha256(LARGE))

    @within(60)
    async def test_download(self) -> None:
        """GET of 16 MiB."""
        self.write("large", LARGE * 2)
        async with (
            self.nghttpd("--no-tls") as port,
            aioh2.open_connection("127.0.0.1", port) as client,
        ):
            await self.download(client, LARGE * 2)

    @within(60)
    async def test_upload(self) -> None:
        """8 MiB upload."""
        async with (
            self.nghttpd("--no-tls", "--echo-upload") as port,
            aioh2.open_connection("127.0.0.1", port) as client,
        ):
            await self.upload(client)

    @within(60)
    async def test_both_ways_at_once(self) -> None:
        """8 MiB uploads and downloads at once."""
        self.write("large", LARGE)
        async with (
            self.nghttpd("--no-tls", "--echo-upload") as port,
            aioh2.open_connection("127.0.0.1", port) as client,
            asyncio.TaskGroup() as all_,
        ):
            for _ in range(2):
                all_.create_task(self.download(client))
                all_.create_task(self.upload(client))

    @within(60)
    async def test_trailers(self) -> None:
        """Trailers both ways."""
        self.write("large", LARGE)
        async with (
            self.nghttpd("--no-tls", "--echo-upload", "--trailer=checksum: abc") as port,
            aioh2.open_connection("127.0.0.1", port) as client,
        ):
            async with client.open_stream({":path": "/large"}, end_stream=True) as stream:
                self.assertEqual(sha256(await stream.read(-1)), sha256(LARGE))
                self.assertEqual(await stream.recv_trailers(), [("checksum", "abc")])
            async with client.open_stream({":method": "POST", ":path": "/"}) as stream:
                await stream.send_data(b"abc")
                await stream.send_trailers({"told": "xyz"})
                self.assertEqual(await stream.read(-1), b"abc")
                self.assertEqual(await stream.recv_trailers(), [("checksum", "abc")])
        self.assertTrue([line for line in self.lines if line.endswith(" told: xyz")])

    @within(60)
    async def test_large_bodies_through_small_windows_and_padding(self) -> None:
        """8 MiB both ways, through small windows, with padding."""
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
        """8 MiB both ways over TLS."""
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
        """1,000 requests, 10 streams at once allowed."""
        self.write("small", b"small\n")

        async with (
            self.nghttpd("--no-tls", "--max-concurrent-streams=10") as port,
            aioh2.open_connection("127.0.0.1", port) as client,
        ):
            for _ in range(10):
                # all but ten wait for a slot
                async with asyncio.TaskGroup() as requests:
                    for _ in range(100):
                        requests.create_task(self.get(client))
            self.assertEqual(client.stats.streams_opened, 1000)
            self.assertEqual((client.stats.streams_open, client.available_slots), (0, 10))

    @within(60)
    async def test_response_that_does_not_wait_for_the_request(self) -> None:
        """Answer before the end of the upload: RST_STREAM(NO_ERROR)."""
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
    async def test_header_table_sizes(self) -> None:
        """Header tables: none, small, large, and ours changing."""
        self.write("small", b"small\n")
        for sizes in ("0", "0"), ("100", "8192"), ("8192", "100"), ("65536", "65536"):
            with self.subTest(sizes=sizes):
                async with (
                    self.nghttpd(
                        *("--no-tls", f"--header-table-size={sizes[0]}"),
                        f"--encoder-header-table-size={sizes[1]}",
                    ) as port,
                    aioh2.open_connection("127.0.0.1", port) as client,
                ):
                    for size in 4096, 0, 8192, 50, 100:
                        client.update_settings({aioh2.SettingCodes.HEADER_TABLE_SIZE: size})
                        for _ in range(5):
                            await self.get(client)

    @within(60)
    async def test_push(self) -> None:
        """Push."""
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
