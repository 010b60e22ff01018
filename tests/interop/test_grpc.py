"""grpcio, Google's gRPC in C and Cython, as the client and as the server of ``grpc_echo.py``.

As the client it runs in threads of its own here, and as the server in another process: its event
loop for asyncio is one for all loops of a process, and each test has a loop of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import queue
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from unittest import mock

from h2.events import Event, PingReceived

import aioh2
from examples import grpc_echo
from examples.grpc_echo import Channel, RpcError, ServerCall, Status

from .cases import Certificates, PeerCase, within
from .programs import HERE, LARGE, Example, Program, require_module, sha256

if TYPE_CHECKING:
    import grpc

#: A message larger than what gRPC takes unless told otherwise, and than every window.
BIG = (LARGE * 2)[: 10 * 1024 * 1024]
LIMIT = 16 * 1024 * 1024
#: Metadata as it may be: bytes that look like nothing else, and text with a comma.
METADATA: list[tuple[str, str | bytes]] = [
    ("x-bytes-bin", bytes(range(256))),
    ("x-one-bin", b"\xff"),
    ("x-text", "a, b"),
]


class GrpcCase(PeerCase):
    """A case that needs grpcio."""

    peer = "grpcio"

    @classmethod
    def version(cls) -> str:
        version: str = require_module("grpc", "grpcio").__version__
        return version

    def setUp(self) -> None:
        super().setUp()
        #: The package.
        self.grpc = require_module("grpc", "grpcio")


class Wait:
    """A method of the example's server that waits until it is cancelled."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def __call__(self, call: ServerCall) -> None:
        self.began.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


class Pinged(aioh2.H2Protocol):
    """A connection that counts PINGs, and tells when there were enough."""

    def __init__(self, client_side: bool, **options: Any) -> None:
        super().__init__(client_side, **options)
        self.pings = 0
        self.enough = asyncio.Event()

    def event_received(self, event: Event) -> None:
        super().event_received(event)
        if isinstance(event, PingReceived):
            self.pings += 1
            if self.pings == 3:
                self.enough.set()


@contextlib.asynccontextmanager
async def serving(**methods: Callable[[ServerCall], Any]) -> AsyncIterator[aioh2.Server]:
    """Run the example's server here, with more methods."""
    added = {f"/echo.Echo/{name}": method for name, method in methods.items()}
    with (
        mock.patch.dict(grpc_echo.METHODS, added),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        server = await aioh2.start_server(
            lambda p: p.serve(lambda stream: grpc_echo.handle(stream, LIMIT)),
            *("127.0.0.1", 0),
            cls=Pinged,
        )
        async with server:
            yield server


class TestGrpcioAsClient(GrpcCase):
    side = "server"

    @contextlib.asynccontextmanager
    async def channel(
        self,
        server: Example | aioh2.Server,
        *,
        authority: str | None = None,
        **options: int,
    ) -> AsyncIterator[grpc.Channel]:
        """Connect grpcio; leaving ends its calls, and so the threads that wait for them."""
        arguments = [
            ("grpc.max_receive_message_length", LIMIT),
            # else channels to one port share a connection
            ("grpc.use_local_subchannel_pool", 1),
            *((f"grpc.{name}", value) for name, value in options.items()),
        ]
        port = server.port if isinstance(server, Example) else server.sockets[0].getsockname()[1]
        address = f"127.0.0.1:{port}"
        if authority is None:
            channel = self.grpc.insecure_channel(address, arguments)
        else:
            credentials = self.grpc.ssl_channel_credentials(self.read(authority))
            channel = self.grpc.secure_channel(address, credentials, arguments)
        try:
            yield channel
        finally:
            channel.close()

    async def failure(self, function: Callable[[], Any]) -> Any:
        """Return how a call fails."""
        with self.assertRaises(self.grpc.RpcError) as caught:
            await asyncio.to_thread(function)
        return caught.exception

    async def check_all_kinds(self, channel: grpc.Channel) -> None:
        """Make a call of each kind."""
        unary = channel.unary_unary("/echo.Echo/Echo")
        for size in (0, 1, 100_000):
            self.assertEqual(await asyncio.to_thread(unary, LARGE[:size]), LARGE[:size])
        split = channel.unary_stream("/echo.Echo/Split")
        replies = await asyncio.to_thread(lambda: list(split(b"one\n\ntwo")))
        self.assertEqual(replies, [b"one", b"", b"two"])
        self.assertEqual(await asyncio.to_thread(lambda: list(split(b""))), [])
        count = channel.stream_unary("/echo.Echo/Count")
        reply = await asyncio.to_thread(count, iter([b"one", b"", b"two"]))
        self.assertEqual(reply, b"3 messages, 6 bytes")
        chat = channel.stream_stream("/echo.Echo/Chat")
        messages = [LARGE[:size] for size in range(0, 100_000, 1000)]

        def talk() -> tuple[list[bytes], list[tuple[str, str]]]:
            call = chat(iter(messages))
            return list(call), list(call.trailing_metadata())

        replies, trailing = await asyncio.to_thread(talk)
        self.assertEqual(replies, messages)
        self.assertEqual(trailing, [("messages", "100")])

    @within(60)
    async def test_unary_and_streams(self) -> None:
        """unary, server, client and bidirectional streams"""
        async with Example("grpc_echo.py", "serve") as server, self.channel(server) as channel:
            await self.check_all_kinds(channel)
        self.assertIn("calls completed: 0, aborted: 0", server.lines)

    @within(60)
    async def test_tls(self) -> None:
        """TLS"""
        files = self.issue_certificates()
        arguments = ("--cert", files.cert, "--key", files.key)
        async with (
            Example("grpc_echo.py", "serve", *arguments) as server,
            self.channel(server, authority=files.authority) as channel,
        ):
            await self.check_all_kinds(channel)

    @within(60)
    async def test_big_messages(self) -> None:
        """10 MiB messages, and the PINGs that grpcio probes the path with"""
        async with serving() as server, self.channel(server) as channel:
            unary = channel.unary_unary("/echo.Echo/Echo")
            for _ in range(3):
                self.assertEqual(sha256(await asyncio.to_thread(unary, BIG)), sha256(BIG))
            chat = channel.stream_stream("/echo.Echo/Chat")
            replies = await asyncio.to_thread(lambda: list(chat(iter([BIG, b"", BIG]))))
            self.assertEqual([len(reply) for reply in replies], [len(BIG), 0, len(BIG)])
            [connection] = server.connections
            assert isinstance(connection, Pinged)
            self.assertGreater(connection.pings, 0)
            self.assertFalse(connection.is_closing)

    @within(60)
    async def test_small_messages(self) -> None:
        """2,000 messages to and fro, one after another"""
        async with serving() as server, self.channel(server) as channel:
            sent: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

            def talk() -> int:
                call = channel.stream_stream("/echo.Echo/Chat")(iter(sent.get, None))
                for number in range(2000):
                    sent.put(b"%d" % number)
                    self.assertEqual(next(call), b"%d" % number)
                sent.put(None)
                return len(list(call))

            self.assertEqual(await asyncio.to_thread(talk), 0)
            [connection] = server.connections
            self.assertFalse(connection.is_closing)

    @within(60)
    async def test_too_big(self) -> None:
        """a message that is too long"""
        async with Example("grpc_echo.py", "serve") as server, self.channel(server) as channel:
            unary = channel.unary_unary("/echo.Echo/Echo")
            error = await self.failure(lambda: unary(BIG))
            self.assertEqual(error.code(), self.grpc.StatusCode.RESOURCE_EXHAUSTED)
            self.assertRegex(error.details(), "10485760 bytes; at most 4194304 ")
            self.assertEqual(await asyncio.to_thread(unary, b"next"), b"next")

    @within(60)
    async def test_side_by_side(self) -> None:
        """250 calls at once, where 100 streams are allowed"""
        async with Example("grpc_echo.py", "serve") as server, self.channel(server) as channel:
            unary = channel.unary_unary("/echo.Echo/Echo")
            calls = [unary.future(LARGE[: 400 * number]) for number in range(250)]
            replies = await asyncio.to_thread(lambda: [call.result(50) for call in calls])
            self.assertEqual(
                [sha256(reply) for reply in replies],
                [sha256(LARGE[: 400 * number]) for number in range(250)],
            )

    @within(60)
    async def test_metadata(self) -> None:
        """metadata, binary and text"""
        async with Example("grpc_echo.py", "serve") as server, self.channel(server) as channel:
            unary = channel.unary_unary("/echo.Echo/Echo")
            reply, call = await asyncio.to_thread(unary.with_call, b"a", metadata=METADATA)
            self.assertEqual(reply, b"a")
            self.assertEqual([tuple(f) for f in call.initial_metadata()], METADATA)

    @within(60)
    async def test_errors(self) -> None:
        """errors: status, details, trailing metadata"""
        codes = {code.value[0]: code for code in self.grpc.StatusCode}
        async with Example("grpc_echo.py", "serve") as server, self.channel(server) as channel:
            fail = channel.unary_unary("/echo.Echo/Fail")
            for number in range(1, 17):
                why = f"100 % {number}: not gef\u00fcnden\n"
                error = await self.failure(partial(fail, f"{number} {why}".encode()))
                self.assertEqual((error.code(), error.details()), (codes[number], why))
                self.assertEqual(
                    [tuple(f) for f in error.trailing_metadata()], [("message-bin", why.encode())]
                )
            error = await self.failure(lambda: channel.unary_unary("/echo.Echo/None")(b""))
            self.assertEqual(error.code(), self.grpc.StatusCode.UNIMPLEMENTED)
            # more messages than a unary method takes
            stream = channel.stream_unary("/echo.Echo/Echo")
            error = await self.failure(lambda: stream(iter([b"a", b"b"])))
            self.assertEqual(error.code(), self.grpc.StatusCode.UNIMPLEMENTED)
            # an error after messages: in trailers, not in headers alone
            server_fails = channel.stream_stream("/echo.Echo/Chat")
            call = server_fails(iter([b"a", bytes(5 * 1024 * 1024)]))
            self.assertEqual(await asyncio.to_thread(next, call), b"a")
            error = await self.failure(lambda: next(call))
            self.assertEqual(error.code(), self.grpc.StatusCode.RESOURCE_EXHAUSTED)

    @within(60)
    async def test_deadline(self) -> None:
        """a deadline cancels the handler"""
        wait = Wait()
        async with serving(Wait=wait) as server, self.channel(server) as channel:
            unary = channel.unary_unary("/echo.Echo/Wait")
            error = await self.failure(lambda: unary(b"", timeout=0.3))
            self.assertEqual(error.code(), self.grpc.StatusCode.DEADLINE_EXCEEDED)
            await wait.cancelled.wait()

    @within(60)
    async def test_cancel(self) -> None:
        """cancelling a call cancels the handler"""
        wait = Wait()
        async with serving(Wait=wait) as server, self.channel(server) as channel:
            call = channel.unary_unary("/echo.Echo/Wait").future(b"")
            await wait.began.wait()
            self.assertFalse(wait.cancelled.is_set())
            call.cancel()
            await wait.cancelled.wait()
            unary = channel.unary_unary("/echo.Echo/Echo")
            self.assertEqual(await asyncio.to_thread(unary, b"next"), b"next")

    @within(60)
    async def test_keepalive(self) -> None:
        """keepalive PINGs, one a second, without a call"""
        options = {
            "keepalive_time_ms": 1000,
            "keepalive_permit_without_calls": 1,
            "http2.max_pings_without_data": 0,
        }
        async with serving() as server, self.channel(server, **options) as channel:
            unary = channel.unary_unary("/echo.Echo/Echo")
            await asyncio.to_thread(unary, b"first")
            [connection] = server.connections
            assert isinstance(connection, Pinged)
            # grpcio has no interval shorter than a second
            await connection.enough.wait()
            self.assertEqual(await asyncio.to_thread(unary, b"next"), b"next")
            self.assertEqual(server.connections, {connection})
            self.assertFalse(connection.is_closing)

    @within(60)
    async def test_shutdown(self) -> None:
        """SIGTERM with a call in flight"""
        async with Example("grpc_echo.py", "serve") as server, self.channel(server) as channel:
            sent: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
            call = channel.stream_stream("/echo.Echo/Chat")(iter(sent.get, None))
            sent.put(b"before")
            self.assertEqual(await asyncio.to_thread(next, call), b"before")
            server.terminate()
            await server.line("^shutting down$")
            sent.put(b"after")
            self.assertEqual(await asyncio.to_thread(next, call), b"after")
            unary = channel.unary_unary("/echo.Echo/Echo")
            error = await self.failure(lambda: unary(b"too late"))
            self.assertEqual(error.code(), self.grpc.StatusCode.UNAVAILABLE)
            sent.put(None)
            self.assertEqual(await asyncio.to_thread(list, call), [])
            self.assertEqual(call.code(), self.grpc.StatusCode.OK)
            await server.wait()
        self.assertIn("calls completed: 1, aborted: 0", server.lines)


class GrpcioServer(Program):
    """``grpcio_server.py``."""

    def __init__(self, *arguments: str) -> None:
        # Without -W error: how grpcio uses asyncio is its own affair.
        super().__init__(
            *(sys.executable, str(HERE / "grpcio_server.py"), "--max-message", str(LIMIT)),
            *arguments,
            ready=r"^listening on port (\d+)$",
        )

    @property
    def port(self) -> int:
        """Its TCP port."""
        return int(self.greeting[1])


class TestGrpcioAsServer(GrpcCase):
    side = "client"

    def channel(self, server: GrpcioServer, files: Certificates | None = None) -> Channel:
        """Return the example's client."""
        context = files.client_context() if files else None
        return Channel("127.0.0.1", server.port, max_message=LIMIT, context=context)

    async def talk(self, channel: Channel, method: str, messages: list[bytes]) -> list[bytes]:
        """Send messages, and return those that come back meanwhile."""
        async with channel.call(method) as call, asyncio.TaskGroup() as tasks:
            tasks.create_task(grpc_echo.send_all(call, messages))
            return [reply async for reply in call]

    async def check_all_kinds(self, channel: Channel) -> None:
        """Make a call of each kind."""
        for size in (0, 1, 100_000):
            self.assertEqual(await channel.unary("Echo", LARGE[:size]), LARGE[:size])
        self.assertEqual(await self.talk(channel, "Split", [b"one\n\ntwo"]), [b"one", b"", b"two"])
        self.assertEqual(await self.talk(channel, "Split", [b""]), [])
        self.assertEqual(
            await self.talk(channel, "Count", [b"one", b"", b"two"]), [b"3 messages, 6 bytes"]
        )
        messages = [LARGE[:size] for size in range(0, 100_000, 1000)]
        self.assertEqual(await self.talk(channel, "Chat", messages), messages)
        async with channel.call("Chat") as call:
            for message in messages[:10]:
                await call.send(message)
                self.assertEqual(await call.receive(), message)
            await call.end()
            self.assertIsNone(await call.receive())
            self.assertEqual(call.trailing, [("messages", "10")])

    @within(60)
    async def test_unary_and_streams(self) -> None:
        """unary, server, client and bidirectional streams"""
        async with GrpcioServer() as server, self.channel(server) as channel:
            await self.check_all_kinds(channel)

    @within(60)
    async def test_tls(self) -> None:
        """TLS"""
        files = self.issue_certificates()
        async with (
            GrpcioServer("--cert", files.cert, "--key", files.key) as server,
            self.channel(server, files) as channel,
        ):
            await self.check_all_kinds(channel)

    @within(60)
    async def test_big_messages(self) -> None:
        """10 MiB messages"""
        async with GrpcioServer() as server, self.channel(server) as channel:
            for _ in range(3):
                self.assertEqual(sha256(await channel.unary("Echo", BIG)), sha256(BIG))
            replies = await self.talk(channel, "Chat", [BIG, b"", BIG])
            self.assertEqual([len(reply) for reply in replies], [len(BIG), 0, len(BIG)])

    @within(60)
    async def test_too_big(self) -> None:
        """a message that is too long, either way"""
        async with (
            GrpcioServer() as server,
            self.channel(server) as channel,
            Channel("127.0.0.1", server.port) as narrow,
        ):
            with self.assertRaises(RpcError) as caught:
                await channel.unary("Echo", BIG + BIG)
            self.assertEqual(caught.exception.status, Status.RESOURCE_EXHAUSTED)
            with self.assertRaises(RpcError) as caught:
                await narrow.unary("Echo", BIG)
            self.assertEqual(caught.exception.status, Status.RESOURCE_EXHAUSTED)
            self.assertRegex(str(caught.exception), "10485760 bytes; at most 4194304 ")
            self.assertEqual(await narrow.unary("Echo", b"next"), b"next")

    @within(60)
    async def test_side_by_side(self) -> None:
        """250 calls at once"""
        async with GrpcioServer() as server, self.channel(server) as channel:
            messages = [LARGE[: 400 * number] for number in range(250)]
            replies = await asyncio.gather(*(channel.unary("Echo", m) for m in messages))
            self.assertEqual([sha256(r) for r in replies], [sha256(m) for m in messages])

    @within(60)
    async def test_metadata(self) -> None:
        """metadata, binary and text"""
        async with (
            GrpcioServer() as server,
            self.channel(server) as channel,
            channel.call("Echo", metadata=METADATA) as call,
        ):
            await call.send(b"a")
            await call.end()
            self.assertEqual(await call.receive_one(), b"a")
            assert call.initial is not None
            received = [f for f in call.initial if f[0].startswith("x-")]
            self.assertEqual(received, METADATA)

    @within(60)
    async def test_errors(self) -> None:
        """errors: status, details, trailing metadata"""
        async with GrpcioServer() as server, self.channel(server) as channel:
            for status in list(Status)[1:]:
                why = f"100 % {status}: not gef\u00fcnden\n"
                with self.assertRaises(RpcError) as caught:
                    await channel.unary("Fail", f"{status.value} {why}".encode())
                self.assertEqual((caught.exception.status, caught.exception.message), (status, why))
                self.assertFalse(caught.exception.retryable)
                self.assertEqual(caught.exception.metadata, [("message-bin", why.encode())])
            with self.assertRaises(RpcError) as caught:
                await channel.unary("None", b"")
            self.assertEqual(caught.exception.status, Status.UNIMPLEMENTED)

    @within(60)
    async def test_deadline(self) -> None:
        """a deadline cancels the handler"""
        async with GrpcioServer() as server, self.channel(server) as channel:
            with self.assertRaises(RpcError) as caught:
                await channel.unary("Wait", b"", limit=0.5)
            self.assertEqual(caught.exception.status, Status.DEADLINE_EXCEEDED)
            left = await server.line(r"^waiting, (0\.\d+) s are left$")
            self.assertLessEqual(float(left[1]), 0.5)
            await server.line("^cancelled$")

    @within(60)
    async def test_deadline_of_the_server(self) -> None:
        """a deadline that only the server looks at"""
        headers = {
            ":method": "POST",
            ":path": "/echo.Echo/Wait",
            "te": "trailers",
            "content-type": "application/grpc",
            "grpc-timeout": "300m",
        }
        async with (
            GrpcioServer() as server,
            aioh2.open_connection("127.0.0.1", server.port) as client,
            client.open_stream(headers) as stream,
        ):
            await stream.send_data(grpc_echo.PREFIX.pack(0, 0), end_stream=True)
            with self.assertRaises(RpcError) as caught:
                await grpc_echo.ClientCall(stream, LIMIT).receive()
            self.assertEqual(caught.exception.status, Status.DEADLINE_EXCEEDED)
            await server.line("^cancelled$")

    @within(60)
    async def test_cancel(self) -> None:
        """cancelling a call cancels the handler"""
        async with GrpcioServer() as server, self.channel(server) as channel:
            async with channel.call("Wait") as call:
                await call.send(b"")
                await call.end()
                await server.line("^waiting, None s are left$")
                self.assertNotIn("cancelled", server.lines)
            await server.line("^cancelled$")
            self.assertEqual(await channel.unary("Echo", b"next"), b"next")

    @within(60)
    async def test_keepalive(self) -> None:
        """keepalive_interval of 50 ms
        grpcio takes PINGs during calls once in 5 minutes, and less often without calls, unless
        its server is told otherwise; RFC 9113 section 6.7 sets no limit. At the third it
        ends the call with UNAVAILABLE and the connection with ENHANCE_YOUR_CALM; both say why."""
        headers = {
            ":method": "POST",
            ":path": "/echo.Echo/Wait",
            "te": "trailers",
            "content-type": "application/grpc",
        }
        async with GrpcioServer() as server:
            client = await aioh2.open_connection("127.0.0.1", server.port, keepalive_interval=0.05)
            async with client.open_stream(headers) as stream:
                await stream.send_data(grpc_echo.PREFIX.pack(0, 0), end_stream=True)
                with self.assertRaises(RpcError) as caught:
                    await grpc_echo.ClientCall(stream, LIMIT).receive()
            self.assertEqual(caught.exception.status, Status.UNAVAILABLE)
            self.assertEqual(caught.exception.message, "Too many pings")
            await client.wait_closed()
            reason = client.close_reason
            assert isinstance(reason, aioh2.ConnectionClosed)
            self.assertEqual((reason.initiator, reason.error_code), ("peer", 0xB))
            self.assertRegex(str(reason), "by the peer: ENHANCE_YOUR_CALM .*too_many_pings")
            with self.assertRaises(aioh2.ConnectionClosed) as closed:
                await client.start_request(headers)
            self.assertRegex(str(closed.exception), "ENHANCE_YOUR_CALM .*too_many_pings")

    @within(60)
    async def test_shutdown(self) -> None:
        """shutdown of the server with a call in flight"""
        async with GrpcioServer() as server, self.channel(server) as channel:
            async with channel.call("Chat") as call:
                await call.send(b"before")
                self.assertEqual(await call.receive(), b"before")
                server.terminate()
                await server.line("^shutting down$")
                await call.send(b"after")
                self.assertEqual(await call.receive(), b"after")
                await call.end()
                self.assertIsNone(await call.receive())
            await server.line("^done$")
            with self.assertRaises(RpcError) as caught:
                await channel.unary("Echo", b"too late")
            self.assertEqual(caught.exception.status, Status.UNAVAILABLE)
            self.assertTrue(caught.exception.retryable)

    @within(60)
    async def test_goaway(self) -> None:
        """1,000 calls across GOAWAY every 300 ms, none lost"""
        async with GrpcioServer("--age", "300") as server, self.channel(server) as channel:
            connections = set()
            for number in range(100):
                messages = [b"%d.%d" % (number, at) for at in range(10)]
                replies = await asyncio.gather(*(channel.unary("Echo", m) for m in messages))
                self.assertEqual(replies, messages)
                connections.add(channel._connection)
            self.assertGreater(len(connections), 1)

    @within(60)
    async def test_command(self) -> None:
        """the command line"""
        files = self.issue_certificates()
        async with (
            GrpcioServer() as plain,
            GrpcioServer("--cert", files.cert, "--key", files.key) as secure,
        ):
            for arguments, code, line in [
                (["Echo", "hello", "--timeout", "20"], 0, "hello"),
                (["Split", "one two"], 0, "one two"),
                (["Fail", "5 nothing"], 1, "NOT_FOUND: nothing"),
                (["Wait", "", "--timeout", ".3"], 1, "DEADLINE_EXCEEDED: the deadline has passed"),
            ]:
                await self.check_command(plain, arguments, code, line)
            trusting = ["Echo", "hello", "--ca", files.authority]
            await self.check_command(secure, trusting, 0, "hello")

    async def check_command(
        self, server: GrpcioServer, arguments: list[str], code: int, line: str
    ) -> None:
        address = f"127.0.0.1:{server.port}"
        example = str(HERE.parent.parent / "examples" / "grpc_echo.py")
        async with Program(
            *(sys.executable, "-W", "error", example, "call", address, *arguments)
        ) as client:
            await client.wait()
        self.assertEqual((client.code, client.lines), (code, [line]))
