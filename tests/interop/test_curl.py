"""``curl`` as the client of ``examples/echo.py``, and of servers that do more: plain, over TLS, on
a Unix socket.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import aioh2

from .cases import PeerCase, within
from .programs import LARGE, EchoServer, Output, Program, require, run, sha256

PLAIN = "--http2-prior-knowledge"
GREETING = b"hello, this is aioh2\n"

Handler = Callable[[aioh2.H2Stream], Awaitable[None]]


class TestCurl(PeerCase):
    peer = "curl"
    side = "server"
    program = "curl"

    def setUp(self) -> None:
        super().setUp()
        self.curl = require("curl")

    async def fetch(self, *arguments: str) -> Output:
        """Run curl; its standard error is what ``--write-out`` tells of the transfer, as JSON."""
        output = await run(
            "curl",
            *("--silent", "--show-error", "--noproxy", "*", "--max-time", "50"),
            *("--write-out", "%{stderr}%{json}"),
            *arguments,
        )
        self.assertEqual(output.code, 0, output.stderr)
        return output

    async def fetch_from(self, handler: Handler, *arguments: str) -> Output:
        """Run curl against a server of the test's own."""
        server = await aioh2.start_server(lambda p: p.serve(handler), "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await self.fetch(PLAIN, *arguments, f"http://127.0.0.1:{port}/")

    def check(self, output: Output, status: int = 200) -> None:
        told = json.loads(output.stderr)
        self.assertEqual((told["http_version"], told["http_code"]), ("2", status))

    @within(60)
    async def test_get(self) -> None:
        """GET."""
        async with EchoServer() as server:
            output = await self.fetch(PLAIN, "--dump-header", "-", server.url())
            self.check(output)
            headers, _, body = output.stdout.partition(b"\r\n\r\n")
            self.assertEqual(body, GREETING)
            self.assertEqual(headers.splitlines()[0].strip(), b"HTTP/2 200")
            self.assertIn(b"content-type: text/plain; charset=utf-8", headers.splitlines())

    @within(60)
    async def test_head_and_other_methods(self) -> None:
        """HEAD and DELETE."""
        async with EchoServer() as server:
            output = await self.fetch(PLAIN, "--head", server.url())
            self.check(output)
            self.assertIn(f"content-length: {len(GREETING)}", output.text)
            output = await self.fetch(PLAIN, "--request", "DELETE", server.url())
            self.check(output, 405)
            self.assertEqual(output.stdout, b"")

    @within(60)
    async def test_large_post(self) -> None:
        """8 MiB upload."""
        upload = self.write("upload", LARGE)
        async with EchoServer() as server:
            output = await self.fetch(
                *(PLAIN, "--data-binary", f"@{upload}"),
                *("--output", str(self.directory / "download"), server.url()),
            )
            self.check(output)
            self.assertEqual(sha256(self.read("download")), sha256(LARGE))

    @within(60)
    async def test_large_put_to_a_slow_reader(self) -> None:
        """8 MiB upload and download at a limited rate."""
        upload = self.write("upload", LARGE)
        async with EchoServer() as server:
            output = await self.fetch(
                *(PLAIN, "--limit-rate", "6M", "--upload-file", upload),
                *("--output", str(self.directory / "download"), server.url()),
            )
            self.check(output)
            self.assertEqual(sha256(self.read("download")), sha256(LARGE))

    @within(60)
    async def test_trailers(self) -> None:
        """Trailers."""
        upload = self.write("upload", b"x" * 100_000)
        async with EchoServer() as server:
            for more, length in ((), len(GREETING)), (("--data-binary", f"@{upload}"), 100_000):
                output = await self.fetch(
                    *(PLAIN, "--dump-header", str(self.directory / "headers"), *more),
                    server.url("/trailers"),
                )
                self.check(output)
                self.assertEqual(len(output.stdout), length)
                # curl writes trailers after the headers
                _, _, trailers = self.read("headers").partition(b"\r\n\r\n")
                self.assertEqual(trailers.strip(), f"length: {length}".encode())

    @within(60)
    async def test_early_hints(self) -> None:
        """103, twice."""

        async def handle(stream: aioh2.H2Stream) -> None:
            for link in "</a.css>", "</b.js>":
                await stream.start_response({":status": "103", "link": link})
            await stream.start_response({":status": "200"}, end_stream=True)

        output = await self.fetch_from(handle, "--dump-header", "-")
        self.check(output)
        self.assertEqual(
            [line.strip() for line in output.text.splitlines() if line.strip()],
            ["HTTP/2 103", "link: </a.css>", "HTTP/2 103", "link: </b.js>", "HTTP/2 200"],
        )

    @within(60)
    async def test_expect_continue(self) -> None:
        """Expect: 100-continue."""
        expected = []

        async def handle(stream: aioh2.H2Stream) -> None:
            expected.append((("expect", "100-continue") in stream.request_headers, stream.unread))
            await stream.start_response({":status": "100"})
            body = await stream.read(-1)
            await stream.start_response({":status": "200"})
            await stream.send_data(body, end_stream=True)

        upload = self.write("upload", LARGE)
        output = await self.fetch_from(
            *(handle, "--header", "Expect: 100-continue", "--expect100-timeout", "30"),
            *("--data-binary", f"@{upload}"),
            *("--dump-header", str(self.directory / "headers")),
        )
        self.check(output)
        self.assertEqual(sha256(output.stdout), sha256(LARGE))
        self.assertTrue(self.read("headers").startswith(b"HTTP/2 100"))
        # the body had been held back
        self.assertEqual(expected, [(True, 0)])

    @within(60)
    async def test_answer_before_the_end_of_the_upload(self) -> None:
        """Answer before the end of the upload.

        curl 7.88 drops the response when RST_STREAM(NO_ERROR) follows it during an upload, which
        RFC 9113 section 8.1 forbids. A handler that reads the request to its end before it
        returns sends no such reset.
        """

        async def handle(stream: aioh2.H2Stream) -> None:
            await stream.start_response({":status": "413"})
            await stream.send_data(b"too much\n", end_stream=True)
            self.assertFalse(stream.has_peer_ended)
            async for _ in stream:
                pass

        upload = self.write("upload", LARGE)
        output = await self.fetch_from(handle, "--data-binary", f"@{upload}")
        self.check(output, 413)
        self.assertEqual(output.stdout, b"too much\n")

    @within(60)
    async def test_tls(self) -> None:
        """8 MiB upload over TLS."""
        files = self.issue_certificates()
        upload = self.write("upload", LARGE)
        async with EchoServer("--cert", files.cert, "--key", files.key) as server:
            for name in "127.0.0.1", "localhost":
                output = await self.fetch(
                    *("--cacert", files.authority, "--http2", "--tlsv1.2"),
                    *("--data-binary", f"@{upload}", "--output", str(self.directory / name)),
                    f"https://{name}:{server.port}/",
                )
                # over TLS curl speaks HTTP/2 only where ALPN has chosen it
                self.check(output)
                self.assertEqual(sha256(self.read(name)), sha256(LARGE))

    @within(60)
    async def test_parallel(self) -> None:
        """200 requests in parallel (-Z).

        Over TLS: with prior knowledge curl 7.88 cannot do this, whatever the server.
        """
        files = self.issue_certificates()
        async with EchoServer("--cert", files.cert, "--key", files.key) as server:
            output = await self.fetch(
                *("--cacert", files.authority, "--http2", "--parallel", "--parallel-max", "50"),
                *("--output", str(self.directory / "#1"), server.url("/?[1-200]", "https")),
                *("--write-out", "%{http_version} %{http_code} %{num_connects}\n"),
            )
            told = output.text.split()
            self.assertEqual((told[0::3], told[1::3]), (["2"] * 200, ["200"] * 200))
            self.assertEqual(sum(map(int, told[2::3])), 1, "more than one connection")
            for number in range(1, 201):
                self.assertEqual(self.read(str(number)), GREETING)

    @within(60)
    async def test_tls_without_alpn_h2(self) -> None:
        """TLS without h2 in ALPN: refused."""
        files = self.issue_certificates()
        trust = ("--cacert", files.authority)
        async with EchoServer("--cert", files.cert, "--key", files.key) as server:
            url = server.url(scheme="https")
            refused = await run("curl", "--silent", "--noproxy", "*", *trust, "--http1.1", url)
            self.assertNotEqual(refused.code, 0)
            self.assertEqual(refused.stdout, b"")
            # nobody else has noticed
            self.check(await self.fetch(*trust, "--http2", url))

    @within(60)
    async def test_unix_socket(self) -> None:
        """Unix socket."""
        path = str(self.directory / "socket")
        upload = self.write("upload", LARGE)
        async with EchoServer("--unix", path):
            unix = (PLAIN, "--unix-socket", path, "http://localhost/")
            output = await self.fetch(*unix)
            self.check(output)
            self.assertEqual(output.stdout, GREETING)
            output = await self.fetch(*unix, "--data-binary", f"@{upload}")
            self.check(output)
            self.assertEqual(sha256(output.stdout), sha256(LARGE))
        self.assertEqual(self.files(), ["upload"])

    @within(60)
    async def test_upload_in_flight_at_shutdown(self) -> None:
        """Upload in flight at a shutdown."""
        async with EchoServer() as server:
            async with Program(
                *(self.curl, "--no-buffer", "--noproxy", "*", PLAIN),
                # standard input, read without blocking; some curls write progress even so
                *("--upload-file", ".", "--stderr", str(self.directory / "progress")),
                server.url(),
                stdin=True,
            ) as curl:
                await curl.write(b"first\n")
                await curl.line("^first$")
                server.terminate()
                await server.line("^shutting down$")
                await curl.write(b"second\n")
                await curl.line("^second$")
                curl.write_eof()
                self.assertTrue(await curl.wait())
                self.assertEqual((curl.code, curl.lines), (0, ["first", "second"]))
            self.assertTrue(await server.wait())
            self.assertEqual(server.lines[-1], "streams completed: 1, aborted: 0")
