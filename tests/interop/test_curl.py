"""``curl`` as the client of ``examples/echo.py``: plain, over TLS, on a Unix socket."""

from __future__ import annotations

import json

from .cases import PeerCase, within
from .programs import LARGE, EchoServer, Output, Program, require, run, sha256

PLAIN = "--http2-prior-knowledge"
GREETING = b"hello, this is aioh2\n"


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

    def check(self, output: Output, status: int = 200) -> None:
        told = json.loads(output.stderr)
        self.assertEqual((told["http_version"], told["http_code"]), ("2", status))

    @within(60)
    async def test_get(self) -> None:
        async with EchoServer() as server:
            output = await self.fetch(PLAIN, "--dump-header", "-", server.url())
            self.check(output)
            headers, _, body = output.stdout.partition(b"\r\n\r\n")
            self.assertEqual(body, GREETING)
            self.assertEqual(headers.splitlines()[0].strip(), b"HTTP/2 200")
            self.assertIn(b"content-type: text/plain; charset=utf-8", headers.splitlines())

    @within(60)
    async def test_head_and_other_methods(self) -> None:
        async with EchoServer() as server:
            output = await self.fetch(PLAIN, "--head", server.url())
            self.check(output)
            self.assertIn(f"content-length: {len(GREETING)}", output.text)
            output = await self.fetch(PLAIN, "--request", "DELETE", server.url())
            self.check(output, 405)
            self.assertEqual(output.stdout, b"")

    @within(60)
    async def test_large_post(self) -> None:
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
    async def test_tls(self) -> None:
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
        files = self.issue_certificates()
        async with EchoServer("--cert", files.cert, "--key", files.key) as server:
            # curl 7.88 cannot do this with prior knowledge, whatever the server
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
