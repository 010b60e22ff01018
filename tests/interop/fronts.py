"""Programs that stand in front of others, each with a configuration of the test's own.

``FrontCase`` starts one on 127.0.0.1, from a template in which ``@port``, ``@directory`` and what
else a test fills in are replaced. ``Backend`` is an aioh2 server behind it, in the test's own
loop; ``Resender`` is a client that goes on over a new connection where one has ended. ``InFront``
and ``AsServer`` have the tests that all of them pass.
"""

from __future__ import annotations

import asyncio
import random
import re
import signal
import ssl
import string
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from types import MappingProxyType, TracebackType
from typing import Any, ClassVar, NamedTuple, Self

from h2.events import ConnectionTerminated, Event

import aioh2

from .cases import Certificates, PeerCase, within
from .programs import LARGE, Ended, Program, free_port, require, sha256, version_of

#: What is downloaded; twice as large as what is uploaded.
DOWNLOAD = random.Random(9114).randbytes(2 * len(LARGE))

# How many ports are tried: one that was free may be taken before the program listens on it.
_ATTEMPTS = 5
# How many requests are under way at a time.
_AT_ONCE = 20


class Configuration(string.Template):
    """A program's configuration, to be filled in; ``$`` is the program's own."""

    delimiter = "@"


class Answer(NamedTuple):
    """What has come in answer to a request."""

    status: str
    headers: dict[str, str]
    body: bytes
    trailers: list[tuple[str, str]]


class Client(aioh2.H2Protocol):
    """A client that makes whole requests, and tells when GOAWAY has come."""

    def __init__(self, client_side: bool, **options: Any) -> None:
        super().__init__(client_side, **options)
        self.goaway = asyncio.Event()

    def event_received(self, event: Event) -> None:
        super().event_received(event)
        if isinstance(event, ConnectionTerminated):
            self.goaway.set()

    async def fetch(
        self,
        path: str = "/",
        body: bytes | None = None,
        *,
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
        trailers: Iterable[tuple[str, str]] = (),
    ) -> Answer:
        """Make a request, GET where there is no body, and read all of the answer."""
        request = {":method": "GET" if body is None else method, ":path": path, **(headers or {})}
        async with self.open_stream(request, end_stream=body is None) as stream:

            async def send() -> None:
                # what ends it early is told by the response, or that is complete without all of the
                # body (RFC 9113 section 8.1)
                with suppress(aioh2.AIOH2Exception):
                    if body is not None:
                        await stream.send_data(body, end_stream=not trailers)
                        if trailers:
                            await stream.send_trailers(trailers)

            async def receive() -> Answer:
                headers = dict(await stream.recv_response())
                read = await stream.read(-1)
                return Answer(headers[":status"], headers, read, await stream.recv_trailers())

            # gather: the first exception comes out as it is
            _, answer = await asyncio.gather(send(), receive())
            return answer


class Front(Program):
    """A program that listens on a port of 127.0.0.1."""

    def __init__(
        self,
        *command: str,
        ready: str,
        files: Certificates | None,
        template: str,
        values: dict[str, object],
    ) -> None:
        super().__init__(*command, ready=ready)
        #: What its configuration was made of.
        self.template = template
        self.values = values
        # What it speaks TLS with.
        self._context: ssl.SSLContext | None = files.client_context() if files else None

    async def connect(self) -> Client:
        """Connect to it."""
        port = self.values["port"]
        return await aioh2.open_connection("127.0.0.1", port, cls=Client, ssl=self._context)

    async def signal(self, number: signal.Signals, told: str) -> None:
        """Send it a signal, and wait for a new line that matches."""
        seen = len(self.lines)
        self._process.send_signal(number)
        await self.line(told, seen=seen)


async def side_by_side(request: Callable[[int], Awaitable[None]], number: int) -> None:
    """Make requests, some at a time; each is told which one it is."""
    waiting = iter(range(number))

    async def work() -> None:
        for index in waiting:
            await request(index)

    async with asyncio.TaskGroup() as workers:
        for _ in range(_AT_ONCE):
            workers.create_task(work())


class Resender:
    """Makes requests over one connection at a time, and over a new one where that has ended.

    What the server has not processed, it sends again.
    """

    def __init__(self, front: Front) -> None:
        self._front = front
        # One task at a time connects.
        self._connecting = asyncio.Lock()
        #: Every connection so far, the one in use last.
        self.clients: list[Client] = []
        #: How many requests were sent again.
        self.resent = 0

    async def fetch(self, *arguments: Any, **options: Any) -> Answer:
        """Make a request, as often as it takes."""
        while True:
            try:
                return await (await self._client()).fetch(*arguments, **options)
            except aioh2.AIOH2Exception as error:
                if not error.retryable:
                    raise
                self.resent += 1

    async def _client(self) -> Client:
        async with self._connecting:
            if not self.clients or self.clients[-1].is_closing:
                self.clients.append(await self._front.connect())
            return self.clients[-1]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for client in self.clients:
            await client.__aexit__(kind, error, traceback)


class Backend:
    """An aioh2 server that echoes bodies and keeps count; ``async with`` starts and ends it.

    ``/download`` is 16 MiB, ``/endless`` a response without an end. A response ends with a
    trailer, the length of the request's body; that for ``/trailers`` with the request's own, too.
    """

    def __init__(self, files: Certificates | None = None, **options: Any) -> None:
        self._context = files.server_context() if files else None
        self._options = options
        self._server: aioh2.Server
        #: Every connection that has come, and what was chosen by ALPN.
        self.connections: list[aioh2.H2Protocol] = []
        self.alpn: set[str | None] = set()
        #: Every request that has come, as ``METHOD PATH STATUS``.
        self.requests: list[str] = []
        #: The paths of those whose body has begun to come, or to go out.
        self.under_way: asyncio.Queue[str] = asyncio.Queue()
        #: The paths of those whose handler was ended half way.
        self.gone: asyncio.Queue[str] = asyncio.Queue()

    @property
    def port(self) -> int:
        """Its TCP port."""
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        self._server = await aioh2.start_server(
            self._connected, "127.0.0.1", 0, ssl=self._context, **self._options
        )
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._server.__aexit__(*error)

    async def _connected(self, protocol: aioh2.H2Protocol) -> None:
        self.connections.append(protocol)
        tls = protocol.get_extra_info("ssl_object")
        self.alpn.add(tls.selected_alpn_protocol() if tls else None)
        await protocol.serve(self._handle)

    async def _handle(self, stream: aioh2.H2Stream) -> None:
        request = dict(stream.request_headers)
        path = request[":path"]
        self.requests.append(f"{request[':method']} {path} 200")
        try:
            await self._answer(stream, path)
        except asyncio.CancelledError:
            self.gone.put_nowait(path)
            raise

    async def _answer(self, stream: aioh2.H2Stream, path: str) -> None:
        await stream.start_response({":status": "200", "content-type": "application/grpc"})
        length = 0
        async for chunk in stream:
            if not length:
                self.under_way.put_nowait(path)
            length += len(chunk)
            await stream.send_data(chunk)
        if path == "/download":
            await stream.send_data(DOWNLOAD)
        if path == "/endless":
            self.under_way.put_nowait(path)
            while True:
                await stream.send_data(LARGE[:16384])
        trailers = [("length", str(length))]
        if path == "/trailers":
            trailers += await stream.recv_trailers()
        await stream.send_trailers(trailers)


class FrontCase(PeerCase):
    """A test with a front."""

    #: The option that makes the program tell its version.
    version_option: ClassVar[str] = "-v"
    #: The line that says that it is ready.
    ready: ClassVar[str]
    #: What a line of its log looks like that tells of something wrong.
    wrong: ClassVar[str]
    #: Configurations: in cleartext, over TLS.
    plain: ClassVar[str]
    tls: ClassVar[str]

    @classmethod
    def version(cls) -> str:
        """Return the peer's version, as it says itself."""
        return version_of(cls.program, cls.version_option)

    def setUp(self) -> None:
        super().setUp()
        require(self.program)
        # nothing that aioh2 itself thinks is wrong, on either side
        self.enterContext(self.assertNoLogs("aioh2", "WARNING"))

    def command(self, path: str) -> list[str]:
        """Return the arguments that make it run in the foreground with a configuration."""
        raise NotImplementedError

    def configure(self, template: str, **values: object) -> str:
        """Write the configuration, and return its path."""
        filled = Configuration(template).substitute(directory=self.directory, **values)
        return self.write("configuration", filled.encode())

    @asynccontextmanager
    async def run_front(
        self, files: Certificates | None = None, **values: object
    ) -> AsyncIterator[Front]:
        """Run the program; with certificates, over TLS."""
        template = self.tls if files else self.plain
        async with AsyncExitStack() as stack:
            for attempts_left in reversed(range(_ATTEMPTS)):
                values["port"] = free_port()
                path = self.configure(template, **values)
                front = Front(
                    *(require(self.program), *self.command(path)),
                    ready=self.ready,
                    files=files,
                    template=template,
                    values=values,
                )
                try:
                    await stack.enter_async_context(front)
                    break
                except Ended:
                    if not attempts_left:
                        raise
            yield front
            lines = list(front.lines)
        self.assertEqual(front.code, 0, "\n".join(front.lines))
        self.assertEqual([line for line in lines if re.search(self.wrong, line)], [])


class InFront(FrontCase):
    """The program in front of an aioh2 server."""

    side = "server"
    #: What each request has to have.
    headers: ClassVar[Mapping[str, str]] = MappingProxyType({})
    #: How many connections the backend gets at most: a few more than requests at a time.
    connections: ClassVar[int] = 2 * _AT_ONCE
    #: Seconds after which the backend ends idle connections, where it does.
    idle_timeout: ClassVar[float] = 0.1

    @asynccontextmanager
    async def both(
        self, files: Certificates | None = None, **options: Any
    ) -> AsyncIterator[tuple[Front, Backend]]:
        """Run the program, and an aioh2 server with these options behind it."""
        async with (
            Backend(files, **options) as backend,
            self.run_front(files, backend=backend.port) as front,
        ):
            yield front, backend

    async def check_requests(self, front: Front, backend: Backend, number: int = 500) -> None:
        """Make requests that the backend has to get once each, half of them with a body."""
        async with await front.connect() as client:

            async def one(index: int) -> None:
                body = str(index).encode() if index % 2 else None
                answer = await client.fetch(f"/{index}", body, headers=self.headers)
                self.assertEqual((answer.status, answer.body), ("200", body or b""), answer)

            await side_by_side(one, number)
        methods = ("GET", "POST")
        asked = [f"{methods[index % 2]} /{index} 200" for index in range(number)]
        self.assertEqual(sorted(backend.requests), sorted(asked))
        opened = [protocol.stats.streams_opened for protocol in backend.connections]
        self.assertEqual(sum(opened), number)

    @within(60)
    async def test_requests(self) -> None:
        """500 requests"""
        async with self.both() as (front, backend):
            await self.check_requests(front, backend)
            self.assertLessEqual(len(backend.connections), self.connections)

    @within(60)
    async def test_tls(self) -> None:
        """500 requests over TLS"""
        async with self.both(self.issue_certificates()) as (front, backend):
            await self.check_requests(front, backend)
            self.assertEqual(backend.alpn, {"h2"})
            self.assertLessEqual(len(backend.connections), self.connections)

    @within(60)
    async def test_upload(self) -> None:
        """8 MiB there and back"""
        async with self.both() as (front, _), await front.connect() as client:
            answer = await client.fetch("/upload", LARGE, headers=self.headers)
            self.assertEqual((answer.status, sha256(answer.body)), ("200", sha256(LARGE)))

    @within(60)
    async def test_trailers(self) -> None:
        """trailers of the response"""
        async with self.both() as (front, _), await front.connect() as client:
            answer = await client.fetch("/trailers", b"abc", headers=self.headers)
        self.assertEqual(answer.trailers, [("length", "3")])

    @within(60)
    async def test_trailers_of_a_request(self) -> None:
        """trailers of a request"""
        trailers = [("checksum", "abc")]
        async with self.both() as (front, _), await front.connect() as client:
            answer = await client.fetch(
                "/trailers", b"abc", headers=self.headers, trailers=trailers
            )
        self.assertEqual(answer.trailers, [("length", "3"), *trailers])

    @within(60)
    async def test_client_goes_away(self) -> None:
        """client goes away half way: the handler is cancelled"""
        async with self.both() as (front, backend), await front.connect() as client:
            bystander = await self.upload(client, backend, "/bystander")
            upload = await self.upload(client, backend, "/upload")
            upload.reset()
            self.assertEqual(await backend.gone.get(), "/upload")
            download = await self.download(client, backend)
            download.reset()
            self.assertEqual(await backend.gone.get(), "/endless")
            other = await front.connect()
            await self.upload(other, backend, "/upload")
            await self.download(other, backend)
            other.abort()
            gone = {await backend.gone.get(), await backend.gone.get()}
            self.assertEqual(gone, {"/upload", "/endless"})
            await bystander.send_data(b"after", end_stream=True)
            self.assertEqual(await bystander.read(-1), b"before, after")

    async def upload(self, client: Client, backend: Backend, path: str) -> aioh2.H2Stream:
        """Begin an upload."""
        headers = {":method": "POST", ":path": path, **self.headers}
        stream = await client.open_stream(headers)
        await stream.send_data(b"before, ")
        self.assertEqual(await backend.under_way.get(), path)
        return stream

    async def download(self, client: Client, backend: Backend) -> aioh2.H2Stream:
        """Begin a download without an end."""
        headers = {":path": "/endless", **self.headers}
        stream = await client.open_stream(headers, end_stream=True)
        await stream.read_exactly(100_000)
        self.assertEqual(await backend.under_way.get(), "/endless")
        return stream

    @within(60)
    async def test_backend_ends_idle_connections(self) -> None:
        """connections that the backend ends when they are idle (``idle_timeout``)"""
        async with (
            self.both(idle_timeout=self.idle_timeout, close_timeout=0.3) as (front, backend),
            await front.connect() as client,
        ):
            for _ in range(3):
                answer = await client.fetch("/", b"abc", headers=self.headers)
                self.assertEqual((answer.status, answer.body), ("200", b"abc"))
                for protocol in backend.connections:
                    await protocol.wait_closed()
            self.assertGreaterEqual(len(backend.connections), 3)

    @within(60)
    async def test_backend_ends_old_connections(self) -> None:
        """500 requests over connections that the backend ends by age (``max_connection_age``)"""
        async with self.both(max_connection_age=0.1) as (front, backend):
            await self.check_requests(front, backend)
            self.assertGreater(len(backend.connections), 1)


class AsServer(FrontCase):
    """The program as the server of an aioh2 client.

    Its configuration serves ``files``, takes ``generation`` into a field of every response, and
    ends connections that were idle for ``idle``. Requests for ``/count/N`` are kept in a log.
    """

    side = "client"
    #: The method of a request with a body, for ``/count/N``.
    method: ClassVar[str] = "POST"

    def setUp(self) -> None:
        super().setUp()
        files = self.directory / "files"
        files.mkdir()
        # for the user that it serves as
        files.chmod(0o777)
        (files / "download").write_bytes(DOWNLOAD)
        (files / "word").write_bytes(b"word")

    @asynccontextmanager
    async def serve(
        self, files: Certificates | None = None, *, idle: str = "60s"
    ) -> AsyncIterator[Front]:
        """Run the program."""
        async with self.run_front(files, generation=1, idle=idle) as front:
            yield front

    async def reload(self, front: Front, generation: int) -> None:
        """Give the program another configuration, and wait until it is in use."""
        raise NotImplementedError

    def reconfigure(self, front: Front, generation: int) -> str:
        """Write the program's next configuration, and return its path."""
        return self.configure(front.template, **{**front.values, "generation": generation})

    def done(self) -> list[str]:
        """Return what the program's log has, a line ``METHOD PATH STATUS`` for a request."""
        return self.read("requests").decode().splitlines()

    async def check_upload(self, client: Client) -> None:
        """Upload 8 MiB; here, to a file."""
        answer = await client.fetch("/upload", LARGE, method="PUT")
        self.assertEqual(answer.status, "201")
        self.assertEqual(sha256(self.read("files/upload")), sha256(LARGE))

    async def check_requests(
        self,
        resender: Resender,
        number: int,
        reloads: Mapping[int, Callable[[], Awaitable[None]]] = MappingProxyType({}),
    ) -> None:
        """Make requests, and have the program reloaded before some of them, all side by side."""

        async def one(index: int) -> None:
            if index in reloads:
                await reloads[index]()
            body = b"some words" if index % 2 else None
            answer = await resender.fetch(f"/count/{index}", body, method=self.method)
            self.assertRegex(answer.status, "^20[014]$")

        await side_by_side(one, number)

    def check_done(self, number: int) -> None:
        """Check that the program has done every request, and none twice."""
        methods = ("GET", self.method)
        done = [line.rpartition(" ")[0] for line in self.done()]
        asked = [f"{methods[index % 2]} /count/{index}" for index in range(number)]
        self.assertEqual(sorted(done), sorted(asked))

    async def check_bodies(self, client: Client) -> None:
        """Upload, and download."""
        await self.check_upload(client)
        answer = await client.fetch("/download")
        self.assertEqual((answer.status, sha256(answer.body)), ("200", sha256(DOWNLOAD)))

    @within(60)
    async def test_bodies(self) -> None:
        """8 MiB upload, 16 MiB download"""
        async with self.serve() as front, await front.connect() as client:
            await self.check_bodies(client)

    @within(60)
    async def test_bodies_tls(self) -> None:
        """8 MiB upload, 16 MiB download over TLS"""
        files = self.issue_certificates()
        async with self.serve(files) as front, await front.connect() as client:
            await self.check_bodies(client)

    async def check_end(self, client: Client, end: Awaitable[None]) -> None:
        """Have the server end the connection in a download: that is completed, GOAWAY seen."""
        async with client.open_stream({":path": "/download"}, end_stream=True) as stream:
            begun = await stream.read_exactly(100_000)
            await end
            rest = await stream.read(-1)
            self.assertEqual(sha256(begun + rest), sha256(DOWNLOAD))
        await self.check_goaway(client)

    async def check_goaway(self, client: Client) -> None:
        """Wait until the server has ended the connection, without an error."""
        await client.goaway.wait()
        await client.wait_closed()
        reason = client.close_reason
        assert isinstance(reason, aioh2.ConnectionClosed)
        self.assertEqual((reason.initiator, reason.error_code), ("peer", 0))

    @within(60)
    async def test_reload(self) -> None:
        """reload during a download over TLS"""
        async with self.serve(self.issue_certificates()) as front:
            client = await front.connect()
            self.assertEqual((await client.fetch("/word")).headers["generation"], "1")
            await self.check_end(client, self.reload(front, 2))
            async with await front.connect() as client:
                self.assertEqual((await client.fetch("/word")).headers["generation"], "2")

    @within(60)
    async def test_reloads(self) -> None:
        """1,000 requests over TLS across two reloads"""
        files = self.issue_certificates()
        async with self.serve(files) as front, Resender(front) as resender:
            reloads = {
                300: lambda: self.reload(front, 2),
                600: lambda: self.reload(front, 3),
            }
            await self.check_requests(resender, 1000, reloads)
            self.assertEqual(len(resender.clients), 3)
        self.check_done(1000)

    @within(60)
    async def test_idle(self) -> None:
        """connection that the server ends when it is idle"""
        async with self.serve(idle="300ms") as front, Resender(front) as resender:
            self.assertEqual((await resender.fetch("/word")).status, "200")
            await self.check_goaway(resender.clients[0])
            self.assertEqual((await resender.fetch("/word")).status, "200")
            self.assertEqual(len(resender.clients), 2)
