"""Go's ``net/http``, which has an HTTP/2 of its own, as the client and as the server."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest
from typing import Any

from h2.events import ConnectionTerminated, Event, PingReceived

import aioh2

from .cases import Certificates, PeerCase, within
from .programs import HERE, LARGE, EchoServer, Program, missing, run, sha256, version_of
from .site import GREETING, LINK, SiteCase

GO_GREETING = b"hello, this is go\n"
# Seconds for Go to compile its library, which it does from nothing.
_BUILD_LIMIT = 200


def go() -> str:
    """Return the path of ``go``: a package of PyPI brings a newer one than Debian does."""
    beside = pathlib.Path(sys.executable).parent
    return shutil.which("go", path=str(beside)) or shutil.which("go") or missing("go 1.24 or later")


@functools.cache
def build() -> tuple[str, str]:
    """Compile the program of ``go/``; return its path, and what went wrong."""
    folder = pathlib.Path(tempfile.mkdtemp())
    unittest.addModuleCleanup(shutil.rmtree, folder)
    telemetry = folder / "go" / "telemetry"
    telemetry.mkdir(parents=True)
    # else Go may start a process that goes on after it
    (telemetry / "mode").write_text("off")
    environment = {
        "CGO_ENABLED": "0",  # or it would ask for a C compiler
        "GOCACHE": str(folder / "cache"),
        "GOFLAGS": "-mod=mod",
        "GOPATH": str(folder / "path"),
        "GOPROXY": "off",
        "GOTOOLCHAIN": "local",
        "XDG_CONFIG_HOME": str(folder),
    }
    program = folder / "peer"
    done = subprocess.run(
        [go(), "build", "-o", str(program), "."],
        cwd=HERE / "go",
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_BUILD_LIMIT,
    )
    return str(program), done.stderr if done.returncode else ""


class GoCase(PeerCase):
    """A case that runs the program of ``go/``."""

    peer = "Go net/http"

    @classmethod
    def version(cls) -> str:
        return version_of(go(), "version")

    def setUp(self) -> None:
        super().setUp()
        self.program, wrong = build()
        self.assertEqual(wrong, "", "go build failed")


class TestGoAsClient(GoCase, SiteCase):
    side = "server"

    async def fetch(self, *arguments: str) -> list[dict[str, Any]]:
        """Run the client, and return what came of each request."""
        output = await run(self.program, "client", *arguments)
        self.assertEqual((output.code, output.stderr), (0, ""))
        outcomes: list[dict[str, Any]] = json.loads(output.text)
        return outcomes

    def check(self, outcomes: list[dict[str, Any]], body: bytes, status: int = 200) -> None:
        """Check that all went well, and what their bodies were."""
        for got in outcomes:
            self.assertEqual(got["error"], "")
            self.assertEqual((got["proto"], got["status"]), ("HTTP/2.0", status))
            self.assertEqual((got["length"], got["sha256"]), (len(body), sha256(body)))

    async def check_echo(self, server: EchoServer, scheme: str, *options: str) -> None:
        upload = self.write("upload", LARGE)
        self.check(await self.fetch(*options, server.url("/", scheme)), GREETING)
        self.check(await self.fetch(*options, "-upload", upload, server.url("/", scheme)), LARGE)
        [got] = await self.fetch(*options, "-upload", upload, server.url("/trailers", scheme))
        self.check([got], LARGE)
        self.assertEqual(got["trailers"], {"Checksum": "abc", "Length": str(len(LARGE))})

    @within(60)
    async def test_plain(self) -> None:
        """GET, 8 MiB echoed, trailers, cleartext."""
        async with EchoServer() as server:
            await self.check_echo(server, "http")

    @within(60)
    async def test_tls(self) -> None:
        """GET, 8 MiB echoed, trailers, TLS."""
        files = self.issue_certificates()
        async with EchoServer("--cert", files.cert, "--key", files.key) as server:
            await self.check_echo(server, "https", "-ca", files.authority)

    @within(60)
    async def test_many(self) -> None:
        """100 at once."""
        files = self.issue_certificates()
        async with self.site(files.server_context()) as site:
            # without a connection, Go begins many, and breaks off all but one in their handshakes
            outcomes = await self.fetch(
                *("-ca", files.authority, "-first", site.url("/", "https")),
                *("-n", "100", "-at-once", "100", site.url("/together?100", "https")),
            )
            self.check(outcomes, GREETING)
            self.assertEqual(len(site.connections), 1)

    @within(60)
    async def test_more_than_the_limit(self) -> None:
        """500 uploads, 50 at once, with a limit of 10 streams."""
        upload = self.write("upload", LARGE[:50_000])
        async with self.site(concurrency=10) as site:
            outcomes = await self.fetch(
                *("-upload", upload, "-n", "500", "-at-once", "50"), site.url("/")
            )
            self.check(outcomes, LARGE[:50_000])

    @within(60)
    async def test_pings(self) -> None:
        """PING in a silence, as SendPingTimeout (ReadIdleTimeout) asks for it."""
        async with self.site() as site:
            outcomes = await self.fetch("-ping", "100ms", "-n", "2", site.url("/pinged?3"))
            self.check(outcomes, GREETING)
            # Go closes a connection whose PING is not answered
            self.assertEqual(outcomes[0]["connection"], outcomes[1]["connection"])

    @within(60)
    async def test_reset_by_the_server(self) -> None:
        """Streams reset by the server, before and in the response."""
        async with self.site() as site:
            for path, status in ("/reset", 0), ("/reset?late", 200):
                for got in await self.fetch("-n", "20", site.url(path)):
                    self.assertIn("ENHANCE_YOUR_CALM", got["error"])
                    self.assertEqual((got["status"], got["code"]), (status, 0xB))
                    # what came before the reset is there
                    self.assertEqual(got["length"], len(GREETING) if status else 0)

    @within(60)
    async def test_refused(self) -> None:
        """A refused stream is sent again."""
        async with self.site() as site:
            self.check(await self.fetch(site.url("/refused?a")), GREETING)
            self.assertEqual(site.resets, [])
            self.assertEqual(site.seen["/refused"], 2)

    @within(60)
    async def test_cancelled_by_the_client(self) -> None:
        """A context that is cancelled in Go cancels the handler."""
        async with self.site() as site:
            outcomes = await self.fetch(
                *("-cancel", "-n", "60", "-at-once", "10"), site.url("/hold")
            )
            await site.until_cancelled(60)
            self.assertEqual(site.resets, [aioh2.ErrorCodes.CANCEL] * 60)
            self.assertEqual({got["error"] for got in outcomes}, {"context canceled"})

    @within(60)
    async def test_shutdown(self) -> None:
        """GOAWAY while requests run: 400 requests, none lost."""
        async with self.site() as site:
            outcomes = await self.fetch("-n", "400", "-at-once", "8", site.url("/leave?50"))
            self.check(outcomes, GREETING)
            self.assertGreaterEqual(len(site.connections), 8)
            self.assertEqual(site.seen["/leave"], 400)

    @within(60)
    async def test_interim_responses(self) -> None:
        """103 Early Hints."""
        async with self.site() as site:
            outcomes = await self.fetch(site.url("/hints"))
            self.check(outcomes, GREETING)
            self.assertEqual((outcomes[0]["interim"], outcomes[0]["hint"]), ([103], LINK))

    @within(60)
    async def test_expect(self) -> None:
        """Expect: 100-continue, answered with 100 and with 413."""
        options = ("-expect", "-upload", self.write("upload", LARGE[:100_000]))
        async with self.site() as site:
            [got] = await self.fetch(*options, site.url("/continue"))
            self.check([got], LARGE[:100_000])
            self.assertEqual(got["interim"], [100])
            [got] = await self.fetch(*options, site.url("/enough"))
            self.check([got], b"", 413)
            self.assertEqual((got["interim"], got["sent"]), ([], 0))

    @within(60)
    async def test_upload_not_read(self) -> None:
        """A response before the end of an upload, which is stopped with NO_ERROR."""
        async with self.site() as site:
            outcomes = await self.fetch(
                "-n", "5", "-upload", self.write("upload", LARGE), site.url("/enough")
            )
            self.check(outcomes, b"", 413)
            self.assertEqual(len({got["connection"] for got in outcomes}), 1)
            self.assertLess(outcomes[0]["sent"], len(LARGE))


class GoServer(Program):
    """The server of ``go/``, over TLS where there are certificates."""

    def __init__(self, program: str, files: Certificates | None = None) -> None:
        super().__init__(
            *(program, "server"),
            *((files.key, files.cert) if files else ()),
            ready=r"^listening on port (\d+)$",
        )

    @property
    def port(self) -> int:
        """Its TCP port."""
        return int(self.greeting[1])


class Client(aioh2.H2Protocol):
    """A client that tells when PING and GOAWAY have come."""

    def __init__(self, client_side: bool, **options: Any) -> None:
        super().__init__(client_side, **options)
        self.goaway = asyncio.Event()
        self.pinged = asyncio.Event()

    def event_received(self, event: Event) -> None:
        super().event_received(event)
        if isinstance(event, ConnectionTerminated):
            self.goaway.set()
        elif isinstance(event, PingReceived):
            self.pinged.set()


class TestGoAsServer(GoCase):
    side = "client"

    async def get(self, client: aioh2.H2Protocol, path: str = "/") -> None:
        async with client.open_stream({":path": path}, end_stream=True) as stream:
            self.assertIn((":status", "200"), await stream.recv_response())
            self.assertEqual(await stream.read(-1), GO_GREETING)

    async def echo(self, client: aioh2.H2Protocol, body: bytes) -> None:
        """Send a body in pieces, while reading what comes back, and trailers."""
        async with client.open_stream({":method": "POST", "trailer": "checksum"}) as stream:

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

    @within(60)
    async def test_plain(self) -> None:
        """GET, 8 MiB echoed, trailers, cleartext."""
        async with (
            GoServer(self.program) as server,
            aioh2.open_connection("127.0.0.1", server.port) as client,
        ):
            await self.get(client)
            await self.echo(client, b"")
            await self.echo(client, LARGE)
            self.assertLess(await client.ping(), 10)

    @within(60)
    async def test_tls(self) -> None:
        """GET, 8 MiB echoed, trailers, TLS."""
        files = self.issue_certificates()
        async with (
            GoServer(self.program, files) as server,
            aioh2.open_connection("localhost", server.port, ssl=files.client_context()) as client,
        ):
            await self.get(client)
            await self.echo(client, LARGE)

    @within(60)
    async def test_many(self) -> None:
        """100 at once, and 400 more under a limit of 100."""
        async with (
            GoServer(self.program) as server,
            aioh2.open_connection("127.0.0.1", server.port) as client,
        ):
            self.assertEqual(client.remote_settings[aioh2.SettingCodes.MAX_CONCURRENT_STREAMS], 100)
            async with asyncio.TaskGroup() as requests:
                for _ in range(500):
                    requests.create_task(self.get(client, "/together?100"))

    @within(60)
    async def test_uploads(self) -> None:
        """100 uploads at once."""
        async with (
            GoServer(self.program) as server,
            aioh2.open_connection("127.0.0.1", server.port) as client,
            asyncio.TaskGroup() as requests,
        ):
            for size in range(0, 200_000, 2000):
                requests.create_task(self.echo(client, LARGE[:size]))

    @within(60)
    async def test_interim_responses(self) -> None:
        """103 Early Hints."""
        async with (
            GoServer(self.program) as server,
            aioh2.open_connection("127.0.0.1", server.port) as client,
            client.open_stream({":path": "/hints"}, end_stream=True) as stream,
        ):
            hints = await stream.recv_informational()
            assert hints is not None
            self.assertEqual(hints[0], (":status", "103"))
            self.assertIn(("link", LINK), hints)
            self.assertIsNone(await stream.recv_informational())
            self.assertIn((":status", "200"), await stream.recv_response())
            self.assertEqual(await stream.read(-1), GO_GREETING)

    @within(60)
    async def test_expect(self) -> None:
        """Expect: 100-continue, answered with 100 and with 413."""
        asking = {":method": "POST", "expect": "100-continue"}
        async with (
            GoServer(self.program) as server,
            aioh2.open_connection("127.0.0.1", server.port) as client,
        ):
            async with client.open_stream({**asking, ":path": "/count"}) as stream:
                self.assertEqual(await stream.recv_informational(), [(":status", "100")])
                await stream.send_data(b"asked for", end_stream=True)
                self.assertEqual(await stream.read(-1), b"9")
            async with client.open_stream({**asking, ":path": "/refuse"}) as stream:
                self.assertIsNone(await stream.recv_informational())
                self.assertIn((":status", "413"), await stream.recv_response())

    @within(60)
    async def test_upload_not_read(self) -> None:
        """A response before the end of an upload, which Go stops with NO_ERROR."""
        async with (
            GoServer(self.program) as server,
            aioh2.open_connection("127.0.0.1", server.port) as client,
        ):
            for _ in range(5):
                refused = {":method": "POST", ":path": "/refuse"}
                async with client.open_stream(refused) as stream:
                    with self.assertRaises(aioh2.SendException) as caught:
                        await stream.send_data(LARGE)
                    reset = caught.exception.__cause__
                    assert isinstance(reset, aioh2.StreamReset)
                    self.assertEqual((reset.initiator, reset.error_code), ("peer", 0))
                    self.assertIn((":status", "413"), await stream.recv_response())
                    self.assertEqual(await stream.read(-1), b"")
            await self.echo(client, LARGE)

    @within(60)
    async def test_failing_handler(self) -> None:
        """A handler that panics, before and in the response."""
        async with (
            GoServer(self.program) as server,
            aioh2.open_connection("127.0.0.1", server.port) as client,
        ):
            for path in ("/fail", "/fail?late") * 10:
                async with client.open_stream({":path": path}, end_stream=True) as stream:
                    if path.endswith("late"):
                        self.assertIn((":status", "200"), await stream.recv_response())
                        self.assertEqual(await stream.read(len(GO_GREETING)), GO_GREETING)
                    with self.assertRaises(aioh2.StreamReset) as caught:
                        await stream.read()
                    self.assertEqual(caught.exception.initiator, "peer")
                    self.assertEqual(caught.exception.error_code, aioh2.ErrorCodes.INTERNAL_ERROR)
                    self.assertFalse(caught.exception.retryable)
            await self.get(client)

    @within(60)
    async def test_cancelled(self) -> None:
        """A stream that is left cancels the handler's context."""
        async with (
            GoServer(self.program) as server,
            aioh2.open_connection("127.0.0.1", server.port) as client,
        ):
            for _ in range(3):
                async with client.open_stream({":path": "/hold"}, end_stream=True) as stream:
                    self.assertIn((":status", "200"), await stream.recv_response())
                await server.line("^cancelled$")
                server.lines.clear()
            await self.get(client)

    @within(60)
    async def test_pings(self) -> None:
        """PING in a silence, as SendPingTimeout (ReadIdleTimeout) asks for it."""
        async with (
            GoServer(self.program) as server,
            aioh2.open_connection("127.0.0.1", server.port, cls=Client) as client,
        ):
            for _ in range(3):
                client.pinged.clear()
                await client.pinged.wait()
            await self.get(client)

    @within(60)
    async def test_shutdown(self) -> None:
        """Server.Shutdown with requests in flight."""
        async with GoServer(self.program) as server:
            client = await aioh2.open_connection("127.0.0.1", server.port, cls=Client)
            streams = [await client.open_stream({":method": "POST"}) for _ in range(10)]
            for stream in streams:
                await stream.send_data(b"before, ")
                self.assertEqual(await stream.read(), b"before, ")
            server.terminate()
            await client.goaway.wait()
            with self.assertRaises(aioh2.ConnectionClosed) as caught:
                await client.start_request({":path": "/"})
            self.assertTrue(caught.exception.retryable)
            # what was in flight runs to its end
            for stream in streams:
                await stream.send_data(b"after", end_stream=True)
                self.assertEqual(await stream.read(-1), b"after")
                self.assertEqual(await stream.recv_trailers(), [("length", "13")])
            await client.wait_closed()
            reason = client.close_reason
            assert isinstance(reason, aioh2.ConnectionClosed)
            self.assertEqual((reason.initiator, reason.error_code), ("peer", 0))
            await server.line("^shutdown: <nil>$")
