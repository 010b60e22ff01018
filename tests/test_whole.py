"""The whole protocol from outside, over sockets, with peers that share no code with aioh2.

What spans rooms: pushes, tunnels, priorities, early responses, settings and shutdown, each while
another is under way. The rooms' own tests have the details.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import struct
from typing import Any

import h2.config
import h2.connection
import h2.events
import hpack
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

import aioh2
from aioh2 import ErrorCodes, Priority, SettingCodes

from .test_server import client_context, server_context
from .wire import Case, settle

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GET = [(":method", "GET"), (":scheme", "http"), (":authority", "a.test"), (":path", "/")]
POST = [(":method", "POST"), *GET[1:]]
CONNECT = [(":method", "CONNECT"), (":authority", "b.test:443")]
OK = [(":status", "200")]


class Raw:
    """A peer of bare frames at the other end of a socket; it checks nothing."""

    def __init__(self, reader: Any, writer: Any) -> None:
        self.reader, self.writer = reader, writer
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.ack_settings = self.ack_pings = True
        self.log: list[Frame] = []

    def send(self, *frames: Frame) -> None:
        self.writer.write(b"".join(f.serialize() for f in frames))

    def send_bytes(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        self.writer.write(
            struct.pack(">I", len(body))[1:]
            + bytes((kind, flags))
            + struct.pack(">I", stream)
            + body
        )

    def headers(self, stream_id: int, headers: Any = OK, *flags: str, **more: Any) -> None:
        self.send(
            HeadersFrame(
                stream_id, self.encoder.encode(headers), flags=["END_HEADERS", *flags], **more
            )
        )

    def request(self, stream_id: int, headers: Any = GET, *, end: bool = True, **more: Any) -> None:
        self.headers(stream_id, headers, *(["END_STREAM"] if end else []), **more)

    def data(self, stream_id: int, data: bytes = b"", end: bool = False) -> None:
        self.send(DataFrame(stream_id, data, flags=["END_STREAM"] if end else []))

    def promise(self, stream_id: int, promised: int, headers: Any = GET) -> None:
        self.send(
            PushPromiseFrame(
                stream_id, promised, self.encoder.encode(headers), flags=["END_HEADERS"]
            )
        )

    async def next(self) -> Any:
        """Return the next frame, None at the end; decode headers, acknowledge what has to be."""
        try:
            head = await self.reader.readexactly(9)
            frame, length = Frame.parse_frame_header(memoryview(head))
            frame.parse_body(memoryview(await self.reader.readexactly(length)))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        self.log.append(frame)
        if isinstance(frame, (HeadersFrame, PushPromiseFrame)):
            frame.headers = self.decoder.decode(frame.data)
        elif isinstance(frame, SettingsFrame) and "ACK" not in frame.flags and self.ack_settings:
            self.send(SettingsFrame(flags=["ACK"]))
        elif isinstance(frame, PingFrame) and "ACK" not in frame.flags and self.ack_pings:
            self.send(PingFrame(0, frame.opaque_data, flags=["ACK"]))
        return frame

    async def frame(self, *kinds: type[Frame]) -> Any:
        """Return the next frame of these kinds."""
        while (frame := await self.next()) is not None:
            if isinstance(frame, kinds):
                return frame
        raise AssertionError(f"EOF before {kinds}: {self.log}")

    async def sync(self) -> list[Frame]:
        """Wait until all that was sent has been seen; return what came meanwhile."""
        at = len(self.log)
        # the ACK of the first may overtake what the same tick makes
        for mark in (b"sync%04d" % (at % 10_000), b"again   "):
            self.send(PingFrame(0, mark))
            while (frame := await self.next()) is not None:
                if isinstance(frame, PingFrame) and frame.opaque_data == mark:
                    break
        return self.log[at:]

    async def goaway(self) -> int:
        frame = await self.frame(GoAwayFrame)
        return int(frame.error_code)

    async def until_eof(self) -> list[Frame]:
        at = len(self.log)
        while await self.next() is not None:
            pass
        return self.log[at:]


def limited(method: Any) -> Any:
    """Let a test that waits for what does not come fail."""

    @functools.wraps(method)
    async def run(self: Any) -> None:
        async with asyncio.timeout(30):
            await method(self)

    return run


class Whole(Case):
    def __init_subclass__(cls) -> None:
        for name, method in list(vars(cls).items()):
            if name.startswith("test"):
                setattr(cls, name, limited(method))

    async def raw_client(
        self, handler: Any = None, settings: Any = None, cls: Any = aioh2.H2Protocol, **options: Any
    ) -> Raw:
        """Serve ``handler`` by aioh2, and connect to it by hand."""
        connected: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def on_connected(protocol: Any) -> Any:
            connected.set_result(protocol)
            return protocol.serve(handler) if handler else None

        server = await aioh2.start_server(on_connected, "127.0.0.1", 0, cls=cls, **options)
        raw = Raw(*await asyncio.open_connection(*server.sockets[0].getsockname()))
        raw.writer.write(PREFACE)
        raw.send(SettingsFrame(settings=settings or {}))
        self.server = server
        self.protocol = await connected

        async def close() -> None:
            raw.writer.close()
            self.protocol.abort()
            server.close()
            await server.shutdown(0)

        self.addAsyncCleanup(close)
        await raw.frame(SettingsFrame)
        await raw.sync()
        return raw

    async def raw_server(
        self, settings: Any = None, cls: Any = aioh2.H2Protocol, **options: Any
    ) -> tuple[Any, Raw]:
        """Serve by hand, and connect by aioh2."""
        connected: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        server = await asyncio.start_server(
            lambda reader, writer: connected.set_result((reader, writer)), "127.0.0.1", 0
        )
        opening = asyncio.ensure_future(_open(server.sockets[0].getsockname()[1], cls, options))
        raw = Raw(*await connected)
        assert await raw.reader.readexactly(len(PREFACE)) == PREFACE
        raw.send(SettingsFrame(settings=settings or {}))
        self.greeting = await raw.frame(SettingsFrame)
        client = await opening
        # that of the promises
        client.authority = "a.test"

        async def close() -> None:
            client.abort()
            raw.writer.close()
            server.close()

        self.addAsyncCleanup(close)
        await raw.sync()
        return client, raw

    async def pair(self, handler: Any, server: Any = None, **options: Any) -> Any:
        """Serve and connect by aioh2; return the client."""
        accepted = []

        def on_connected(p: Any) -> Any:
            accepted.append(p)
            return p.serve(handler) if handler else None

        self.server = await aioh2.start_server(on_connected, "127.0.0.1", 0, **(server or {}))
        self.addAsyncCleanup(self.server.shutdown, 0)
        client = await aioh2.open_connection(
            "127.0.0.1", self.server.sockets[0].getsockname()[1], **options
        )
        self.addAsyncCleanup(client.shutdown, 0)
        self.protocol = accepted[0]
        return client

    async def task(self, coroutine: Any) -> asyncio.Task[Any]:
        """Start a task, which may be done then."""
        task = asyncio.ensure_future(coroutine)
        self.addCleanup(task.cancel)
        await settle()
        return task


async def _open(port: int, cls: Any, options: Any) -> Any:
    return await aioh2.open_connection("127.0.0.1", port, cls=cls, **options)


async def ok(stream: Any) -> None:
    await stream.start_response({":status": "200"}, end_stream=True)


def statuses(frames: Any) -> list[str]:
    return [dict(f.headers)[":status"] for f in frames if isinstance(f, HeadersFrame)]


class Watching(aioh2.H2Protocol):
    """Keeps its events."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.events: list[Any] = []

    def event_received(self, event: Any) -> None:
        self.events.append(event)
        super().event_received(event)

    def of(self, kind: Any) -> list[Any]:
        return [e for e in self.events if isinstance(e, kind)]


class TestInterim(Whole):
    async def test_received_in_order_then_none(self) -> None:
        client, raw = await self.raw_server()
        sid = await client.start_request({}, end_stream=True)
        await raw.frame(HeadersFrame)
        first = await self.task(client.recv_informational(sid))
        raw.headers(sid, [(":status", "100")])
        self.assertEqual(await first, [(":status", "100")])
        raw.headers(sid, [(":status", "103"), ("link", "</a>")])
        raw.headers(sid, [(":status", "199")])
        waiting = await self.task(client.recv_response(sid))
        await raw.sync()
        self.assertFalse(waiting.done())
        raw.headers(sid, OK, "END_STREAM")
        self.assertEqual(await waiting, OK)
        self.assertEqual(
            await client.recv_informational(sid), [(":status", "103"), ("link", "</a>")]
        )
        self.assertEqual(await client.recv_informational(sid), [(":status", "199")])
        self.assertIsNone(await client.recv_informational(sid))
        self.assertIsNone(await client.recv_informational(sid))
        self.assertEqual(await client.read_stream(sid, -1), b"")

    async def test_refused_ones_leave_the_stream_usable(self) -> None:
        errors: list[Any] = []

        async def handler(stream: Any) -> None:
            for headers, end in (
                ({":status": "101"}, False),
                ({":status": "103"}, True),
                ({":status": "99"}, False),
                ({":status": "1000"}, False),
                ({":status": "1x3"}, False),
                ({}, False),
                ({":status": "200", ":path": "/"}, False),
                ({":status": "200", "connection": "close"}, False),
            ):
                try:
                    await stream.start_response(headers, end_stream=end)
                except ValueError as e:
                    errors.append(e)
                else:
                    errors.append(headers)
            await stream.start_response({":status": "103"})
            await stream.start_response({":status": "204"})
            for headers in ({":status": "103"}, {":status": "200"}):
                try:
                    await stream.start_response(headers)
                except aioh2.StreamClosed as e:
                    errors.append(e)
            await stream.end()

        raw = await self.raw_client(handler)
        raw.request(1)
        one, two = await raw.frame(HeadersFrame), await raw.frame(HeadersFrame)
        self.assertEqual(statuses([one, two]), ["103", "204"])
        end = await raw.frame(DataFrame)
        self.assertIn("END_STREAM", end.flags)
        self.assertEqual(len(errors), 10)
        for e in errors[:8]:
            self.assertIsInstance(e, ValueError)
        for e in errors[8:]:
            self.assertIsInstance(e, aioh2.StreamClosed)
        self.assertIn("101", str(errors[0]))

    async def test_malformed_ones_received(self) -> None:
        client, raw = await self.raw_server()
        cases = (
            (lambda i: raw.headers(i, [(":status", "101")])),
            (lambda i: raw.headers(i, [(":status", "103")], "END_STREAM")),
            (lambda i: (raw.headers(i), raw.headers(i, [(":status", "103")]))),
            (lambda i: (raw.headers(i), raw.headers(i, OK, "END_STREAM"))),
            (lambda i: raw.data(i, b"x")),
            (lambda i: (raw.headers(i, [(":status", "100")]), raw.data(i, b"x"))),
            (
                lambda i: (
                    raw.headers(i, [(":status", "100")]),
                    raw.headers(i, [("trailer", "x")], "END_STREAM"),
                )
            ),
        )
        for n, case in enumerate(cases):
            with self.subTest(n):
                stream = await client.open_stream({})
                case(stream.id)
                reset = await raw.frame(RstStreamFrame)
                self.assertEqual(
                    (reset.stream_id, reset.error_code), (stream.id, ErrorCodes.PROTOCOL_ERROR)
                )
                with self.assertRaises(aioh2.StreamReset) as caught:
                    await stream.read(-1)
                self.assertEqual(caught.exception.initiator, "local")
        self.assertFalse(client.is_closing)

    async def test_expect_continue(self) -> None:
        async def handler(stream: Any) -> None:
            self.assertEqual(dict(stream.request_headers)["expect"], "100-continue")
            await stream.start_response({":status": "100"})
            body = await stream.read(-1)
            await stream.start_response({":status": "200"})
            await stream.send_data(body, end_stream=True)

        client = await self.pair(handler)
        async with client.open_stream({":method": "POST", "expect": "100-continue"}) as stream:
            self.assertEqual(await stream.recv_informational(), [(":status", "100")])
            await stream.send_data(b"body", end_stream=True)
            self.assertEqual(await stream.read(-1), b"body")

    async def test_shutdown_in_between(self) -> None:
        go = asyncio.Event()

        async def handler(stream: Any) -> None:
            await stream.start_response({":status": "103"})
            await go.wait()
            await stream.start_response({":status": "103"})
            await ok(stream)

        client = await self.pair(handler)
        stream = await client.open_stream({}, end_stream=True)
        await stream.recv_informational()
        closing = await self.task(self.server.shutdown(5))
        go.set()
        self.assertEqual(await stream.recv_informational(), [(":status", "103")])
        self.assertEqual(await stream.recv_response(), OK)
        drained = await closing
        self.assertEqual((drained.completed, drained.aborted), (1, 0))


class TestPush(Whole):
    async def test_nobody_awaits(self) -> None:
        client, raw = await self.raw_server(enable_push=True, concurrency=1000)
        stream = await client.open_stream({}, end_stream=True)
        for n in range(200):
            raw.promise(1, 2 + 2 * n)
        raw.headers(1, OK, "END_STREAM")
        frames = await raw.sync()
        resets = [f for f in raw.log if isinstance(f, RstStreamFrame)]
        self.assertGreater(len(resets), 100, frames)
        self.assertTrue(
            {f.error_code for f in resets} <= {ErrorCodes.REFUSED_STREAM, ErrorCodes.CANCEL}
        )
        got = 0
        while await stream.recv_push():
            got += 1
        self.assertEqual(got + len(resets), 200)
        self.assertEqual(await stream.recv_response(), OK)

    async def test_on_a_stream_that_was_reset(self) -> None:
        client, raw = await self.raw_server(enable_push=True)
        stream = await client.open_stream({})
        stream.reset()
        await raw.frame(RstStreamFrame)
        raw.promise(1, 2)  # on its way: RFC 9113 section 5.1, the promised one has to be dealt with
        reset = await raw.frame(RstStreamFrame)
        self.assertEqual(reset.stream_id, 2)
        other = await client.open_stream({}, end_stream=True)
        raw.headers(other.id, OK, "END_STREAM")
        self.assertEqual(await other.recv_response(), OK)

    async def test_toggled_at_run_time(self) -> None:
        outcome: list[Any] = []

        async def handler(stream: Any) -> None:
            try:
                push = await stream.push({":path": "/a"})
                await push.start_response({":status": "204"}, end_stream=True)
                outcome.append(True)
            except aioh2.NotSupported:
                outcome.append(False)
            await ok(stream)

        raw = await self.raw_client(handler, {2: 0})
        for n, value in enumerate((None, 1, 0, 1)):
            if value is not None:
                raw.send(SettingsFrame(settings={2: value}))
            raw.request(1 + 2 * n)
            await raw.sync()
        await raw.sync()
        self.assertEqual(outcome, [False, True, False, True])

    async def test_switched_on_by_the_client(self) -> None:
        client, raw = await self.raw_server()
        client.update_settings({SettingCodes.ENABLE_PUSH: 1})
        await raw.frame(SettingsFrame)
        stream = await client.open_stream({}, end_stream=True)
        raw.promise(1, 2)
        push = await stream.recv_push()
        self.assertEqual(push.id, 2)
        client.update_settings({SettingCodes.ENABLE_PUSH: 0})
        raw.ack_settings = False
        raw.promise(1, 4)  # before the ack it is allowed
        await raw.sync()
        self.assertFalse(client.is_closing)
        raw.send(SettingsFrame(flags=["ACK"]))
        raw.promise(1, 6)
        self.assertEqual(await raw.goaway(), ErrorCodes.PROTOCOL_ERROR)

    async def test_on_half_closed_parents(self) -> None:
        async def handler(stream: Any) -> None:
            await stream.read(-1)  # half-closed (remote) by now
            push = await stream.push({":path": "/a"})
            await stream.start_response({":status": "200"})
            other = await stream.push({":path": "/b"})  # in the middle of the response
            for p in (push, other):
                await p.start_response({":status": "204"}, end_stream=True)
            await stream.end()

        raw = await self.raw_client(handler)
        raw.request(1)
        frames = [await raw.frame(PushPromiseFrame), await raw.frame(PushPromiseFrame)]
        self.assertEqual([(f.stream_id, f.promised_stream_id) for f in frames], [(1, 2), (1, 4)])

    async def test_reset_by_the_client(self) -> None:
        ended = asyncio.Event()
        errors: list[Any] = []

        async def handler(stream: Any) -> None:
            push = await stream.push({":path": "/a"})
            await push.start_response({":status": "200"})
            try:
                await push.send_data(bytes(1_000_000))
            except aioh2.SendException as e:
                errors.append(e)
            await ok(stream)
            ended.set()

        raw = await self.raw_client(handler)
        raw.request(1)
        await raw.frame(DataFrame)
        raw.send(RstStreamFrame(2, ErrorCodes.CANCEL))
        await ended.wait()
        self.assertIsInstance(errors[0].__cause__, aioh2.StreamReset)
        self.assertTrue(errors[0].data)
        self.assertIn("stream 2", str(errors[0].__cause__))

    async def test_shutdown_lets_pushes_finish(self) -> None:
        go = asyncio.Event()

        async def handler(stream: Any) -> None:
            push = await stream.push({":path": "/a"})
            await ok(stream)
            await go.wait()
            await push.start_response({":status": "200"})
            await push.send_data(b"x", end_stream=True)

        client = await self.pair(handler, enable_push=True)
        stream = await client.open_stream({}, end_stream=True)
        push = await stream.recv_push()
        await stream.recv_response()
        closing = await self.task(self.server.shutdown(5))
        await client.wait_closing()
        go.set()
        self.assertEqual(await push.read(-1), b"x")
        self.assertEqual((await closing).aborted, 0)

    async def test_client_shutdown_with_a_push_open(self) -> None:
        client, raw = await self.raw_server(enable_push=True)
        stream = await client.open_stream({}, end_stream=True)
        raw.promise(1, 2)
        push = await stream.recv_push()
        raw.headers(1, OK, "END_STREAM")
        await stream.recv_response()
        closing = await self.task(client.shutdown(5))
        while not any(isinstance(f, GoAwayFrame) and f.last_stream_id == 2 for f in raw.log):
            await raw.next()
        self.assertFalse(closing.done())
        raw.headers(2, OK)
        raw.data(2, b"x", True)
        self.assertEqual(await push.read(-1), b"x")
        drained = await closing
        self.assertEqual((drained.completed, drained.aborted), (1, 0))

    async def test_a_reset_gives_the_slot_back(self) -> None:
        got: list[int] = []

        async def handler(stream: Any) -> None:
            for n in range(3):
                p = await stream.push({":path": f"/{n}"})
                got.append(p.id)
                await p.start_response({":status": "200"})
            await ok(stream)

        raw = await self.raw_client(handler, {3: 1})
        raw.request(1)
        for n in (2, 4):
            await raw.frame(PushPromiseFrame)
            raw.send(RstStreamFrame(n, 8))
        while not any(isinstance(f, HeadersFrame) and f.stream_id == 1 for f in raw.log):
            await raw.next()
        self.assertEqual(got, [2, 4, 6])

    async def test_goaway_while_one_waits(self) -> None:
        errors: list[Any] = []

        async def handler(stream: Any) -> None:
            await stream.push({":path": "/a"})
            try:
                await stream.push({":path": "/b"})
            except aioh2.ConnectionClosed as e:
                errors.append(e)
            await ok(stream)

        raw = await self.raw_client(handler, {3: 1})
        raw.request(1)
        await raw.frame(PushPromiseFrame)
        raw.send(GoAwayFrame(0, 2, 0))
        f = await raw.frame(HeadersFrame)
        self.assertEqual(f.stream_id, 1)
        self.assertTrue(errors[0].retryable)

    async def test_parent_that_is_reset(self) -> None:
        client, raw = await self.raw_server(enable_push=True)
        stream = await client.open_stream({}, end_stream=True)
        raw.promise(1, 2)
        raw.promise(1, 4)
        p = await stream.recv_push()
        raw.send(RstStreamFrame(1, ErrorCodes.INTERNAL_ERROR))
        await raw.sync()
        self.assertEqual((await stream.recv_push()).id, 4)
        with self.assertRaises(aioh2.StreamReset):
            await stream.recv_push()
        raw.headers(2)
        raw.data(2, b"x", True)
        self.assertEqual(await p.read(-1), b"x")

    async def test_unread_ones_leave_the_connection_window(self) -> None:
        client, raw = await self.raw_server(enable_push=True, connection_window_size=65_535 * 2)
        await client.open_stream({}, end_stream=True)
        for n in range(2, 22, 2):
            raw.promise(1, n)
            raw.headers(n)
            raw.data(n, bytes(16_000), True)
            await raw.sync()
        await raw.sync()
        window = (
            65_535
            + sum(
                f.window_increment
                for f in raw.log
                if isinstance(f, WindowUpdateFrame) and f.stream_id == 0
            )
            - 160_000
        )
        self.assertGreater(window, 30_000)

    async def test_promised_after_our_goaway(self) -> None:
        client, raw = await self.raw_server(enable_push=True)
        stream = await client.open_stream({}, end_stream=True)
        closing = await self.task(client.shutdown(5))
        while not any(isinstance(f, GoAwayFrame) and f.last_stream_id == 0 for f in raw.log):
            await raw.next()
        raw.promise(1, 2)
        raw.headers(2)
        raw.data(2, b"x" * 100, True)
        raw.headers(1, OK, "END_STREAM")
        self.assertEqual(await stream.recv_response(), OK)
        reading = asyncio.ensure_future(raw.until_eof())
        self.assertEqual((await closing).aborted, 0)
        await reading


class TestConnect(Whole):
    async def test_plain(self) -> None:
        client, raw = await self.raw_server()
        sid = await client.start_request(
            {"x": "y", ":authority": "b.test:443", ":method": "CONNECT"}
        )
        frame = await raw.frame(HeadersFrame)
        self.assertEqual(
            sorted(frame.headers[:2]),
            sorted([(":method", "CONNECT"), (":authority", "b.test:443")]),
        )
        self.assertEqual(frame.headers[2:], [("x", "y")])
        # RFC 9110 section 9.3.6: a content-length in a 2xx to CONNECT says nothing
        raw.headers(sid, [*OK, ("content-length", "0")])
        raw.data(sid, b"hello", True)
        self.assertEqual(await client.read_stream(sid, -1), b"hello")

    async def test_reaches_the_handler(self) -> None:
        seen: list[Any] = []

        async def handler(stream: Any) -> None:
            seen.append(dict(stream.request_headers))
            await stream.start_response({":status": "200"})
            async for chunk in stream:
                await stream.send_data(chunk)
            await stream.end()

        raw = await self.raw_client(handler, enable_connect_protocol=True)
        raw.request(
            1,
            [*GET[1:], (":method", "CONNECT"), (":protocol", "websocket"), ("origin", "x")],
            end=False,
        )
        raw.data(1, b"abc")
        self.assertEqual((await raw.frame(DataFrame)).data, b"abc")
        raw.data(1, b"", True)
        while "END_STREAM" not in (await raw.frame(DataFrame)).flags:
            pass
        self.assertEqual(seen[0][":protocol"], "websocket")
        self.assertEqual(seen[0][":path"], "/")

    async def test_switched_on_at_run_time(self) -> None:
        seen: list[Any] = []

        async def handler(stream: Any) -> None:
            seen.append(dict(stream.request_headers)[":protocol"])
            await ok(stream)

        raw = await self.raw_client(handler)
        self.protocol.update_settings({SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
        self.assertEqual((await raw.frame(SettingsFrame)).settings, {8: 1})
        raw.request(1, [*GET[1:], (":method", "CONNECT"), (":protocol", "p")], end=False)
        self.assertEqual(statuses([await raw.frame(HeadersFrame)]), ["200"])
        self.assertEqual(seen, ["p"])

    async def test_refusal_is_an_ordinary_response(self) -> None:
        async def handler(stream: Any) -> None:
            await stream.start_response({":status": "407"})
            await stream.send_data(b"no", end_stream=True)

        client = await self.pair(handler)
        stream = await client.open_stream({":method": "CONNECT", ":authority": "b.test:1"})
        self.assertEqual(dict(await stream.recv_response())[":status"], "407")
        self.assertEqual(await stream.read(-1), b"no")

    async def test_length_of_the_response(self) -> None:
        async def handler(stream: Any) -> None:
            await stream.start_response({":status": "200", "content-length": "3"})
            await stream.send_data(b"more than three", end_stream=True)

        client = await self.pair(handler)
        stream = await tunnel(client)
        self.assertEqual(await stream.read(-1), b"more than three")


async def tunnel(client: Any, authority: str = "b.test:443") -> Any:
    stream = await client.open_stream({":method": "CONNECT", ":authority": authority})
    assert dict(await stream.recv_response())[":status"] == "200"
    return stream


async def opened(self: Any, **options: Any) -> Any:
    """An open tunnel of aioh2 to a peer of bare frames."""
    client, raw = await self.raw_server(**options)
    stream = await client.open_stream({":method": "CONNECT", ":authority": "b.test:443"})
    raw.headers(stream.id)
    await stream.recv_response()
    await raw.frame(HeadersFrame)
    reader, writer = stream.as_reader_writer()
    self.addCleanup(writer.close)
    return stream, reader, writer, raw


class TestTunnel(Whole):
    # uvloop's start_tls() takes nothing but sockets
    loop_factory = asyncio.SelectorEventLoop

    async def both(self, near: Any, server: Any = None, **options: Any) -> Any:
        """Run ``near(reader, writer, stream)`` on the server; return the client's end."""
        self.errors: list[BaseException] = []
        self.done = asyncio.Event()

        async def handler(stream: Any) -> None:
            await stream.start_response({":status": "200"})
            reader, writer = stream.as_reader_writer()
            try:
                await near(reader, writer, stream)
            except BaseException as e:
                self.errors.append(e)
                raise
            finally:
                writer.close()
                self.done.set()

        self.client = await self.pair(handler, server, **options)
        self.stream = await tunnel(self.client)
        reader, writer = self.stream.as_reader_writer()
        self.addCleanup(writer.close)
        return reader, writer

    async def test_reads(self) -> None:
        async def near(reader: Any, writer: Any, stream: Any) -> None:
            writer.write(b"0123456789line\nuntil;rest")
            writer.writelines([b"a", b"b"])
            await writer.drain()
            writer.write_eof()

        reader, writer = await self.both(near)
        self.assertIsInstance(reader, asyncio.StreamReader)
        self.assertIsInstance(writer, asyncio.StreamWriter)
        self.assertEqual(await reader.readexactly(10), b"0123456789")
        self.assertEqual(await reader.readline(), b"line\n")
        self.assertEqual(await reader.readuntil(b";"), b"until;")
        self.assertFalse(reader.at_eof())
        with self.assertRaises(asyncio.IncompleteReadError) as caught:
            await reader.readexactly(100)
        self.assertEqual(caught.exception.partial, b"restab")
        self.assertTrue(reader.at_eof())
        self.assertEqual(await reader.read(), b"")
        self.assertEqual(await reader.readline(), b"")

    async def test_limit(self) -> None:
        async def near(reader: Any, writer: Any, stream: Any) -> None:
            writer.write(bytes(70_000) + b"\n")
            await writer.drain()
            writer.write(bytes(70_000) + b"\nend")
            writer.write_eof()
            await reader.read()

        reader, writer = await self.both(near)
        with self.assertRaises(asyncio.LimitOverrunError):
            await reader.readuntil(b"\n")
        self.assertEqual(await reader.readexactly(70_001), bytes(70_000) + b"\n")
        with self.assertRaises(ValueError):
            await reader.readline()
        self.assertTrue((await reader.read()).endswith(b"end"))
        writer.close()

    async def test_half_close_by_the_client(self) -> None:
        async def near(reader: Any, writer: Any, stream: Any) -> None:
            whole = await reader.read()
            writer.write(whole[::-1])
            await writer.drain()
            writer.write(b"more")
            writer.close()

        reader, writer = await self.both(near)
        writer.write(b"abc")
        self.assertTrue(writer.can_write_eof())
        writer.write_eof()
        self.assertEqual(await reader.read(), b"cbamore")
        with self.assertRaises(RuntimeError):
            writer.write(b"x")
        writer.write_eof()
        writer.close()
        await writer.wait_closed()

    async def test_half_close_by_the_server(self) -> None:
        got: list[bytes] = []

        async def near(reader: Any, writer: Any, stream: Any) -> None:
            writer.write_eof()
            got.append(await reader.read())

        reader, writer = await self.both(near)
        self.assertEqual(await reader.read(), b"")
        writer.write(b"after")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        await self.done.wait()
        self.assertEqual(got, [b"after"])

    async def test_back_pressure(self) -> None:
        go = asyncio.Event()
        got: list[bytes] = []

        async def near(reader: Any, writer: Any, stream: Any) -> None:
            await go.wait()
            got.append(await reader.read())
            writer.close()

        reader, writer = await self.both(near, {"initial_window_size": 4096})
        writer.write(bytes(300_000))
        draining = await self.task(writer.drain())
        while self.protocol.stats.bytes_received < 131_072:
            await self.client.ping()
        for _ in range(10):
            await self.client.ping()
        self.assertFalse(draining.done())
        self.assertEqual(self.stream.blocked_on, "stream window")
        self.assertGreater(writer.transport.get_write_buffer_size(), 100_000)
        self.assertLess(self.protocol.stats.bytes_received, 150_000)
        go.set()
        await draining
        writer.write_eof()
        self.assertEqual(await reader.read(), b"")
        await self.done.wait()
        self.assertEqual(got[0], bytes(300_000))

    async def test_tiny_windows_both_ways(self) -> None:
        async def near(reader: Any, writer: Any, stream: Any) -> None:
            while data := await reader.read(1000):
                writer.write(data)
                await writer.drain()
            writer.write_eof()

        budgets = {"window_update_budget": None, "empty_frame_budget": None, "control_budget": None}
        reader, writer = await self.both(
            near, {"initial_window_size": 64, **budgets}, initial_window_size=64, **budgets
        )
        sent = bytes(range(256)) * 64

        async def send() -> None:
            for at in range(0, len(sent), 777):
                writer.write(sent[at : at + 777])
                await writer.drain()
            writer.write_eof()

        _, got = await asyncio.gather(send(), reader.read())
        self.assertEqual(got, sent)

    async def test_cancelled_read_and_drain(self) -> None:
        _stream, reader, writer, raw = await opened(self)
        waiting = await self.task(reader.readexactly(4))
        raw.data(1, b"ab")
        await raw.sync()
        waiting.cancel()
        await settle()
        raw.data(1, b"cd")
        self.assertEqual(await reader.readexactly(4), b"abcd")
        writer.write(bytes(200_000))
        draining = await self.task(writer.drain())
        self.assertFalse(draining.done())
        draining.cancel()
        await settle()
        self.assertTrue(draining.cancelled())
        raw.send(WindowUpdateFrame(0, 1_000_000), WindowUpdateFrame(1, 1_000_000))
        await writer.drain()
        await raw.sync()
        total = sum(len(f.data) for f in raw.log if isinstance(f, DataFrame))
        while total < 200_000:
            total += len((await raw.frame(DataFrame)).data)
        self.assertEqual(total, 200_000)

    async def test_plain_transport(self) -> None:
        _stream, _reader, writer, raw = await opened(self)
        transport = writer.transport

        class Plain(asyncio.Protocol):
            got = b""
            calls: list[Any]

            def __init__(self) -> None:
                self.calls = []
                self.lost: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

            def connection_made(self, t: Any) -> None:
                self.calls.append("made")

            def data_received(self, data: bytes) -> None:
                self.got += data

            def pause_writing(self) -> None:
                self.calls.append("pause")

            def resume_writing(self) -> None:
                self.calls.append("resume")

            def eof_received(self) -> bool:
                self.calls.append("eof")
                return True

            def connection_lost(self, exc: Any) -> None:
                self.calls.append("lost")
                self.lost.set_result(exc)

        plain = Plain()
        transport.set_protocol(plain)
        plain.connection_made(transport)
        self.assertIs(transport.get_protocol(), plain)
        self.assertTrue(transport.is_reading())
        raw.data(1, b"one")
        await raw.sync()
        self.assertEqual(plain.got, b"one")
        transport.pause_reading()
        self.assertFalse(transport.is_reading())
        raw.data(1, b"two")
        await raw.sync()
        self.assertEqual(plain.got, b"one")
        transport.resume_reading()
        await raw.sync()
        self.assertEqual(plain.got, b"onetwo")
        transport.set_write_buffer_limits(high=1000, low=10)
        self.assertEqual(transport.get_write_buffer_limits(), (10, 1000))
        transport.write(bytearray(65_535 + 2_000))
        await raw.sync()
        self.assertEqual(plain.calls, ["made", "pause"])
        raw.send(WindowUpdateFrame(0, 100_000), WindowUpdateFrame(1, 100_000))
        await raw.sync()
        self.assertEqual(plain.calls, ["made", "pause", "resume"])
        raw.data(1, b"", True)
        await raw.sync()
        self.assertEqual(plain.calls[3:], ["eof"])
        self.assertFalse(transport.is_closing())
        transport.write(b"last")
        transport.close()
        self.assertIsNone(await plain.lost)
        transport.close()
        self.assertTrue(transport.is_closing())

    async def test_shutdown_waits_for_a_tunnel(self) -> None:
        async def near(reader: Any, writer: Any, stream: Any) -> None:
            writer.write(await reader.read())
            await writer.drain()

        reader, writer = await self.both(near)
        closing = await self.task(self.server.shutdown(5))
        await self.client.wait_closing()
        writer.write(b"abc")
        await settle()
        self.assertFalse(closing.done())
        writer.write_eof()
        self.assertEqual(await reader.read(), b"abc")
        drained = await closing
        self.assertEqual((drained.completed, drained.aborted), (1, 0))

    async def test_shutdown_aborts_a_tunnel(self) -> None:
        async def near(reader: Any, writer: Any, stream: Any) -> None:
            await reader.read()

        reader, _writer = await self.both(near)
        drained = await self.server.shutdown(0)
        self.assertEqual((drained.completed, drained.aborted), (0, 1))
        with self.assertRaises(ConnectionResetError):
            await reader.read()
        self.assertIsInstance(self.errors[0], (asyncio.CancelledError, ConnectionResetError))

    async def test_early_end_with_much_unread(self) -> None:
        # RFC 9113 section 8.1: all that came before the END_STREAM is there, whatever was not sent
        _stream, reader, writer, raw = await opened(self)
        writer.write(bytes(200_000))
        draining = await self.task(writer.drain())
        for _ in range(20):
            raw.data(1, bytes(10_000))
        raw.data(1, b"", True)
        raw.send(RstStreamFrame(1, ErrorCodes.NO_ERROR))
        await raw.sync()
        await asyncio.wait([draining], timeout=1)
        self.assertTrue(draining.done())
        draining.exception()
        writer.write(b"x")
        self.assertEqual(len(await reader.read()), 200_000)

    async def test_early_end_before_the_streams_were_made(self) -> None:
        client, raw = await self.raw_server()
        stream = await client.open_stream({":method": "CONNECT", ":authority": "b.test:443"})
        raw.headers(1)
        raw.data(1, bytes(200_000 - 183_616), False)
        raw.data(1, b"", True)
        raw.send(RstStreamFrame(1, ErrorCodes.NO_ERROR))
        await raw.sync()
        reader, writer = stream.as_reader_writer()
        self.assertEqual(len(await reader.read()), 16_384)
        writer.write(b"x")
        writer.close()

    async def test_start_tls(self) -> None:
        got: list[Any] = []

        async def near(reader: Any, writer: Any, stream: Any) -> None:
            self.assertEqual(await reader.readline(), b"STARTTLS\n")
            writer.write(b"go\n")
            await writer.drain()
            await writer.start_tls(server_context())
            got.append(writer.get_extra_info("ssl_object") is not None)
            line = await reader.readline()
            writer.write(line.upper())
            await writer.drain()
            writer.write(await reader.readexactly(300_000))
            await writer.drain()

        reader, writer = await self.both(near)
        writer.write(b"STARTTLS\n")
        self.assertEqual(await reader.readline(), b"go\n")
        await writer.start_tls(client_context(), server_hostname="localhost")
        self.assertIsNotNone(writer.get_extra_info("ssl_object"))
        self.assertIsNotNone(writer.get_extra_info("cipher"))
        self.assertIs(writer.get_extra_info("stream"), self.stream)
        self.assertIsNotNone(writer.get_extra_info("peername"))
        writer.write(b"secret\n")
        self.assertEqual(await reader.readline(), b"SECRET\n")
        writer.write(bytes(300_000))
        got.append(await reader.readexactly(300_000) == bytes(300_000))
        self.assertEqual(got, [True, True])
        self.assertEqual(await reader.read(), b"")
        writer.close()
        await writer.wait_closed()

    async def test_start_tls_fails(self) -> None:
        async def near(reader: Any, writer: Any, stream: Any) -> None:
            writer.write(b"this is no TLS at all, none\n" * 10)
            await reader.read()

        _reader, writer = await self.both(near)
        with self.assertRaises(OSError):
            await writer.start_tls(client_context(), server_hostname="localhost")
        self.assertFalse(self.client.is_closing)

    async def test_loop_start_tls(self) -> None:
        async def near(reader: Any, writer: Any, stream: Any) -> None:
            await writer.start_tls(server_context())
            while data := await reader.read(1000):
                writer.write(data)
                await writer.drain()

        _reader, writer = await self.both(near)
        loop = asyncio.get_running_loop()
        far = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(far)
        transport = await loop.start_tls(
            writer.transport, protocol, client_context(), server_hostname="localhost"
        )
        protocol.connection_made(transport)
        transport.write(b"over TLS")
        self.assertEqual(await far.readexactly(8), b"over TLS")
        transport.close()
        await self.done.wait()

    async def test_http2_in_http2_in_http2(self) -> None:
        """A stream in a stream in a stream, the middle one in TLS."""

        async def proxying(stream: Any) -> None:
            fields = dict(stream.request_headers)
            if fields[":method"] != "CONNECT":
                await stream.start_response({":status": "200"})
                await stream.send_data(await stream.read(-1), end_stream=True)
                return
            await stream.start_response({":status": "200"})
            _, writer = stream.as_reader_writer()
            inner = aioh2.H2Protocol(client_side=False)
            inner.set_handler(lambda p: p.serve(proxying))
            transport = writer.transport
            if fields[":authority"] == "tls:1":
                context = server_context()
                context.set_alpn_protocols(["h2"])
                transport = await asyncio.get_running_loop().start_tls(
                    transport, inner, context, server_side=True
                )
            else:
                transport.set_protocol(inner)
            inner.connection_made(transport)
            await inner.wait_closed()

        outer = await self.pair(proxying)
        s1 = await tunnel(outer, "tls:1")
        _, w1 = s1.as_reader_writer()
        middle = aioh2.H2Protocol(client_side=True)
        context = client_context()
        context.set_alpn_protocols(["h2"])
        transport = await asyncio.get_running_loop().start_tls(
            w1.transport, middle, context, server_hostname="localhost"
        )
        middle.connection_made(transport)
        s2 = await tunnel(middle, "plain:1")
        _, w2 = s2.as_reader_writer()
        inner = aioh2.H2Protocol(client_side=True)
        w2.transport.set_protocol(inner)
        inner.connection_made(w2.transport)
        await inner.wait_open()
        self.assertEqual(middle.scheme, "https")
        async with inner.open_stream({":method": "POST"}) as s3:
            body = bytes(range(256)) * 4000
            sending = await self.task(s3.send_data(body, end_stream=True))
            self.assertEqual(await s3.read(-1), body)
            await sending
        self.assertGreater(await inner.ping(), 0)
        drained = await inner.shutdown()
        self.assertEqual(drained.aborted, 0)
        await middle.shutdown()
        await outer.shutdown()
        w1.close()
        w2.close()

    async def test_handler_returns(self) -> None:
        async def handler(stream: Any) -> None:
            await stream.start_response({":status": "200"})
            _, writer = stream.as_reader_writer()
            self.addCleanup(writer.close)
            writer.write(bytes(1_000_000))

        client = await self.pair(handler)
        stream = await tunnel(client)
        reader, writer = stream.as_reader_writer()
        self.addCleanup(writer.close)
        self.assertEqual(len(await reader.read()), 1_000_000)
        writer.close()
        await writer.wait_closed()

    async def test_over_tls(self) -> None:
        async def handler(stream: Any) -> None:
            await stream.start_response({":status": "200"})
            reader, writer = stream.as_reader_writer()
            got.append(writer.get_extra_info("ssl_object"))
            got.append(writer.get_extra_info("peername"))
            writer.write(await reader.read())
            writer.close()

        got: list[Any] = []
        server = await aioh2.start_server(
            lambda p: p.serve(handler), "127.0.0.1", 0, ssl=server_context()
        )
        self.addAsyncCleanup(server.shutdown, 0)
        async with aioh2.open_connection(
            "localhost", server.sockets[0].getsockname()[1], ssl=client_context()
        ) as client:
            stream = await tunnel(client)
            reader, writer = stream.as_reader_writer()
            self.assertIsNotNone(writer.get_extra_info("ssl_object"))
            self.assertIsNotNone(writer.get_extra_info("cipher"))
            self.assertIsNotNone(writer.get_extra_info("peercert"))
            writer.write(b"abc")
            writer.write_eof()
            self.assertEqual(await reader.read(), b"abc")
            writer.close()
            await writer.wait_closed()
            self.assertEqual(got[1], client.get_extra_info("sockname"))

    async def test_tls_inside_tls(self) -> None:
        async def handler(stream: Any) -> None:
            await stream.start_response({":status": "200"})
            reader, writer = stream.as_reader_writer()
            await writer.start_tls(server_context())
            writer.write(await reader.readline())
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        server = await aioh2.start_server(
            lambda p: p.serve(handler), "127.0.0.1", 0, ssl=server_context()
        )
        self.addAsyncCleanup(server.shutdown, 0)
        async with aioh2.open_connection(
            "localhost", server.sockets[0].getsockname()[1], ssl=client_context()
        ) as client:
            stream = await tunnel(client)
            reader, writer = stream.as_reader_writer()
            outer = writer.get_extra_info("ssl_object")
            await writer.start_tls(client_context(), server_hostname="localhost")
            self.assertIsNot(writer.get_extra_info("ssl_object"), outer)
            writer.write(b"line\n")
            self.assertEqual(await reader.readline(), b"line\n")
            self.assertEqual(await reader.read(), b"")
            writer.close()
            await writer.wait_closed()

    async def test_close_while_the_peer_writes(self) -> None:
        done = asyncio.Event()

        async def handler(stream: Any) -> None:
            await stream.start_response({":status": "200"})
            _reader, writer = stream.as_reader_writer()
            try:
                while True:
                    writer.write(bytes(100_000))
                    await writer.drain()
            finally:
                writer.close()
                done.set()

        client = await self.pair(handler)
        stream = await tunnel(client)
        reader, writer = stream.as_reader_writer()
        await reader.readexactly(10)
        writer.close()
        await done.wait()
        await writer.wait_closed()
        self.assertFalse(client.is_closing)

    async def test_goaway(self) -> None:
        _stream, reader, writer, raw = await opened(self)
        raw.send(GoAwayFrame(0, 1, 0))
        await raw.sync()
        writer.write(b"abc")
        self.assertEqual((await raw.frame(DataFrame)).data, b"abc")
        raw.data(1, b"def", True)
        self.assertEqual(await reader.read(), b"def")
        writer.close()
        await writer.wait_closed()
        await raw.until_eof()

    async def test_shutdown_waits_for_the_one_inside(self) -> None:
        """The server drains: the h2 inside the tunnel goes on until it ends."""
        inner_server: list[Any] = []

        async def handler(stream: Any) -> None:
            await stream.start_response({":status": "200"})
            reader, writer = stream.as_reader_writer()
            p = aioh2.H2Protocol(client_side=False)
            p.set_handler(lambda q: q.serve(ok))
            writer.transport.set_protocol(p)
            p.connection_made(writer.transport)
            inner_server.append((p, reader, writer))
            await p.wait_closed()

        client = await self.pair(handler)
        stream = await tunnel(client)
        _reader, writer = stream.as_reader_writer()
        p = aioh2.H2Protocol(client_side=True)
        writer.transport.set_protocol(p)
        p.connection_made(writer.transport)
        await p.wait_open()
        closing = await self.task(self.server.shutdown(5))
        await client.wait_closing()
        x = await p.open_stream({}, end_stream=True)
        self.assertEqual(await x.recv_response(), OK)
        self.assertFalse(closing.done())
        await p.shutdown()
        d = await closing
        self.assertEqual(d.aborted, 0)
        self.assertIsNotNone(inner_server[0][0].close_reason)
        writer.close()

    async def test_leave_async_with(self) -> None:
        client, raw = await self.raw_server()
        async with client.open_stream({":method": "CONNECT", ":authority": "b:1"}) as stream:
            raw.headers(1)
            await stream.recv_response()
            reader, writer = stream.as_reader_writer()
            writer.write(b"abc")
        f = await raw.frame(RstStreamFrame)
        self.assertEqual(f.error_code, ErrorCodes.CANCEL)
        writer.close()
        async with client.open_stream({":method": "CONNECT", ":authority": "b:1"}) as stream:
            raw.headers(3)
            await stream.recv_response()
            reader, writer = stream.as_reader_writer()
            writer.write(b"abc")
            writer.write_eof()
            raw.data(3, b"", True)
            await reader.read()
            writer.close()
            await writer.wait_closed()
        self.assertEqual([f for f in await raw.sync() if isinstance(f, RstStreamFrame)], [])

    async def test_streams_on_post(self) -> None:
        async def handler(stream: Any) -> None:
            await stream.start_response({":status": "200"})
            reader, writer = stream.as_reader_writer()
            writer.write(await reader.readexactly(3))
            writer.close()
            await writer.wait_closed()

        raw = await self.raw_client(handler)
        raw.request(1, POST, end=False)
        raw.data(1, b"abc")
        f = await raw.frame(RstStreamFrame)
        self.assertEqual(f.error_code, ErrorCodes.NO_ERROR)
        self.assertEqual(b"".join(f.data for f in raw.log if isinstance(f, DataFrame)), b"abc")


PRIORITY_UPDATE = 0x10


def update(stream_id: int, field: bytes) -> bytes:
    return struct.pack(">I", stream_id) + field


class PriorityCase(Whole):
    async def order(self, raw: Raw, ends: int) -> list[int]:
        """Open the connection window by and by until so many have ended; return whose DATA come."""
        order: list[int] = []
        ended = 0
        while ended < ends:
            raw.send(WindowUpdateFrame(0, 16_384))
            frame = await raw.frame(DataFrame)
            if frame.data:
                order.append(frame.stream_id)
            ended += "END_STREAM" in frame.flags
        return order

    async def served(
        self,
        *priorities: str | None,
        before: Any = None,
        after: Any = None,
        size: int = 40_000,
        ends: int | None = None,
    ) -> list[int]:
        """Ask for bodies that wait for the connection window; return whose frames come.

        ``priorities``: the field of each request, on the streams from 3 on. ``before`` and
        ``after`` the requests, they are called with the peer.
        """
        blocked = asyncio.Event()

        async def handler(stream: Any) -> None:
            await stream.start_response({":status": "200"})
            if stream.id == 1:
                await stream.send_data(bytes(65_535))
                blocked.set()
            else:
                await blocked.wait()
                await stream.send_data(bytes(size), end_stream=True)

        raw = await self.raw_client(handler, {SettingCodes.INITIAL_WINDOW_SIZE: 1_000_000})
        raw.request(1)
        got = 0
        while got < 65_535:
            got += len((await raw.frame(DataFrame)).data)
        if before:
            before(raw)
        for n, field in enumerate(priorities):
            raw.request(3 + 2 * n, GET if field is None else [*GET, ("priority", field)])
        # their handlers send by then
        await raw.sync()
        await raw.sync()
        if after:
            after(raw)
            await raw.sync()
        return await self.order(raw, len(priorities) if ends is None else ends)

    def turns(self, order: list[int]) -> list[int]:
        """Return it without repetitions."""
        return [i for n, i in enumerate(order) if n == 0 or order[n - 1] != i]


class TestPriorities(PriorityCase):
    async def test_urgency(self) -> None:
        self.assertEqual(
            self.turns(await self.served("u=7", "u=0", "u=3", "", "u=1, i")), [5, 11, 7, 9, 3]
        )

    async def test_incremental_in_turns(self) -> None:
        order = await self.served("u=2, i", "u=2, i")
        self.assertGreater(len(order), 3, order)
        self.assertEqual(order[:4], [3, 5, 3, 5])

    async def test_malformed_fields_are_the_default(self) -> None:
        # 7: parameters are ignored; others: as if they were not there
        fields = (
            "u=7",
            "u=8",
            "u=-1",
            "u=1.5",
            "u=;",
            "u=2;x=1",
            'u="1"',
            "u",
            "i=3",
            "u=1,,",
            "u=1, u=6",
        )
        order = await self.served(*fields)
        self.assertEqual(order[0], 3 + 2 * 5)
        self.assertEqual(self.turns(order)[-2:], [3 + 2 * 10, 3])
        self.assertEqual(set(order), {3 + 2 * n for n in range(len(fields))})

    async def test_update_after(self) -> None:
        order = await self.served(
            "u=3", "u=3", after=lambda raw: raw.send_bytes(PRIORITY_UPDATE, 0, 0, update(5, b"u=0"))
        )
        self.assertEqual(self.turns(order), [5, 3])

    async def test_update_before(self) -> None:
        # RFC 9218 section 7: the update counts more than the field that comes after it
        order = await self.served(
            "u=3",
            "u=6",
            before=lambda raw: raw.send_bytes(PRIORITY_UPDATE, 0, 0, update(5, b"u=0")),
        )
        self.assertEqual(self.turns(order), [5, 3])

    async def test_update_of_a_push(self) -> None:
        go = asyncio.Event()

        async def handler(stream: Any) -> None:
            pushes = [await stream.push({":path": p}) for p in ("/a", "/b")]
            await stream.start_response({":status": "200"})
            await stream.send_data(bytes(65_535))
            await go.wait()
            for p in pushes:
                await p.start_response({":status": "200"})
            await asyncio.gather(*(p.send_data(bytes(20_000), end_stream=True) for p in pushes))
            await stream.end()

        raw = await self.raw_client(handler, {SettingCodes.INITIAL_WINDOW_SIZE: 1_000_000})
        raw.request(1, [*GET, ("priority", "u=3")])
        got = 0
        while got < 65_535:
            got += len((await raw.frame(DataFrame)).data)
        raw.send_bytes(PRIORITY_UPDATE, 0, 0, update(2, b"u=7"))
        raw.send_bytes(PRIORITY_UPDATE, 0, 0, update(4, b"u=0"))
        await raw.sync()
        go.set()
        await raw.sync()
        raw.send(WindowUpdateFrame(0, 100_000))
        self.assertEqual((await raw.frame(DataFrame)).stream_id, 4)

    async def test_client_uploads_by_urgency(self) -> None:
        client, raw = await self.raw_server({SettingCodes.INITIAL_WINDOW_SIZE: 1_000_000})
        first = await client.open_stream({})
        await first.send_data(bytes(65_535))
        await first.end()
        low = await client.open_stream({}, priority=Priority(6))
        high = await client.open_stream({}, priority=Priority(1))
        tasks = [
            await self.task(stream.send_data(bytes(20_000), end_stream=True))
            for stream in (low, high)
        ]
        await raw.sync()
        raw.send(WindowUpdateFrame(0, 100_000))
        order = []
        while len(order) < 4:
            f = await raw.frame(DataFrame)
            order.append(f.stream_id)
        self.assertEqual(order, [high.id, high.id, low.id, low.id])
        await asyncio.gather(*tasks)


class TestTree(PriorityCase):
    """RFC 7540 section 5.3."""

    async def test_dependency(self) -> None:
        order = await self.served(
            None, None, after=lambda raw: raw.send(PriorityFrame(3, depends_on=5, stream_weight=15))
        )
        self.assertEqual(self.turns(order), [5, 3])

    async def test_exclusive(self) -> None:
        order = await self.served(
            None,
            None,
            None,
            after=lambda raw: raw.send(
                PriorityFrame(7, depends_on=0, stream_weight=15, exclusive=True)
            ),
        )
        first, *others = self.turns(order)
        self.assertEqual((first, set(others)), (7, {3, 5}))

    async def test_weights(self) -> None:
        order = await self.served(
            None,
            None,
            size=400_000,
            ends=1,
            after=lambda raw: raw.send(
                PriorityFrame(3, depends_on=0, stream_weight=255),
                PriorityFrame(5, depends_on=0, stream_weight=31),
            ),
        )
        self.assertGreater(order.count(3), 5 * order.count(5), order)
        self.assertGreater(order.count(5), 1)

    async def test_idle_streams_group_others(self) -> None:
        def before(raw: Raw) -> None:
            raw.send(
                PriorityFrame(101, depends_on=0, stream_weight=255),
                PriorityFrame(103, depends_on=101, stream_weight=15),
            )

        order = await self.served(
            None,
            None,
            before=before,
            after=lambda raw: raw.send(
                PriorityFrame(3, depends_on=103), PriorityFrame(5, depends_on=101)
            ),
        )
        self.assertEqual(set(order), {3, 5})
        self.assertFalse(self.protocol.is_closing)

    async def test_rfc_9218_takes_over(self) -> None:
        order = await self.served(
            "u=3",
            "u=3",
            after=lambda raw: raw.send(PriorityFrame(3, depends_on=5, stream_weight=0)),
        )
        self.assertEqual(self.turns(order), [3, 5])


class TestMessages(Whole):
    async def test_half_closed(self) -> None:
        """Each side ends for itself, the response first or the request first."""

        async def handler(stream: Any) -> None:
            await stream.start_response({":status": "200"})
            await stream.send_data(b"early", end_stream=True)
            body = await stream.read(-1)  # the request stays readable
            self.assertEqual(body, b"late")
            self.assertEqual(await stream.recv_trailers(), [("t", "1")])
            done.set()

        done = asyncio.Event()
        client = await self.pair(handler)
        stream = await client.open_stream({":method": "POST"})
        self.assertEqual(await stream.read(-1), b"early")
        await stream.send_data(b"late")
        await stream.send_trailers({"t": "1"})
        await done.wait()
        await client.ping()
        self.assertEqual((client.stats.resets_received, client.stats.resets_sent), (0, 0))

    async def test_upload_stopped(self) -> None:
        async def handler(stream: Any) -> None:
            await stream.start_response({":status": "413"})
            await stream.send_data(b"too much", end_stream=True)

        raw = await self.raw_client(handler)
        raw.request(1, POST, end=False)
        raw.data(1, bytes(10_000))
        frames = []
        while not frames or not isinstance(frames[-1], RstStreamFrame):
            frames.append(await raw.frame(HeadersFrame, DataFrame, RstStreamFrame))
        self.assertEqual(frames[-1].error_code, ErrorCodes.NO_ERROR)
        self.assertEqual(b"".join(f.data for f in frames if isinstance(f, DataFrame)), b"too much")
        self.assertIn("END_STREAM", frames[-2].flags)
        # what was on its way does no harm, and the connection window comes back
        for _ in range(6):
            raw.data(1, bytes(10_000))
        raw.request(3, [*POST])
        while not any(isinstance(f, HeadersFrame) and f.stream_id == 3 for f in raw.log):
            await raw.next()

    async def test_upload_stopped_at_a_client(self) -> None:
        client, raw = await self.raw_server()
        stream = await client.open_stream({":method": "POST"})
        sending = await self.task(stream.send_data(bytes(200_000)))
        self.assertFalse(sending.done())
        self.assertEqual(stream.blocked_on, "connection window")
        raw.headers(1)
        raw.data(1, b"enough", True)
        raw.send(RstStreamFrame(1, ErrorCodes.NO_ERROR))
        with self.assertRaises(aioh2.SendException) as caught:
            await sending
        self.assertEqual(len(caught.exception.data), 200_000 - 65_535)
        self.assertIsInstance(caught.exception.__cause__, aioh2.StreamReset)
        self.assertEqual(caught.exception.__cause__.error_code, ErrorCodes.NO_ERROR)
        self.assertEqual(await stream.recv_response(), OK)
        self.assertEqual(await stream.read(-1), b"enough")
        self.assertEqual(await stream.recv_trailers(), [])
        self.assertEqual(await stream.read(5), b"")
        self.assertIsNone(await stream.recv_push())
        with self.assertRaises((aioh2.StreamReset, aioh2.SendException)):
            await stream.send_data(b"more")
        stream.reset()
        self.assertEqual([f for f in await raw.sync() if isinstance(f, RstStreamFrame)], [])

    async def test_upload_stopped_between_both(self) -> None:
        async def handler(stream: Any) -> None:
            await stream.read(1)
            await stream.start_response({":status": "403"})
            await stream.send_data(b"no")
            await stream.send_trailers({"why": "because"})

        client = await self.pair(handler)
        stream = await client.open_stream({":method": "POST"})
        with self.assertRaises(aioh2.SendException):
            await stream.send_data(bytes(3_000_000))
        self.assertEqual(dict(await stream.recv_response())[":status"], "403")
        self.assertEqual(await stream.read(-1), b"no")
        self.assertEqual(await stream.recv_trailers(), [("why", "because")])


class TestSettings(Whole):
    async def test_peers_window_shrinks_below_zero(self) -> None:
        client, raw = await self.raw_server({SettingCodes.INITIAL_WINDOW_SIZE: 1_000})
        stream = await client.open_stream({})
        sending = await self.task(stream.send_data(bytes(1_500)))
        self.assertFalse(sending.done())
        raw.send(SettingsFrame(settings={4: 0}))  # -1,000 by now
        await raw.sync()
        raw.send(WindowUpdateFrame(1, 1_000))
        await raw.sync()
        self.assertFalse(sending.done())
        self.assertEqual(stream.blocked_on, "stream window")
        raw.send(SettingsFrame(settings={4: 500}))
        await sending
        await raw.sync()
        self.assertEqual(sum(len(f.data) for f in raw.log if isinstance(f, DataFrame)), 1_500)

    async def test_slots_change(self) -> None:
        client, raw = await self.raw_server({3: 2})
        one, _two = await client.open_stream({}), await client.open_stream({})
        waiting = await self.task(client.open_stream({}))
        self.assertEqual((client.available_slots, client.waiting_requests), (0, 1))
        raw.send(SettingsFrame(settings={3: 1}))
        await raw.sync()
        one.reset()
        await raw.sync()
        self.assertFalse(waiting.done())  # one is open, and one is the limit
        raw.send(SettingsFrame(settings={3: 2}))
        third = await waiting
        self.assertEqual(third.id, 5)
        self.assertEqual(client.waiting_requests, 0)

    async def test_our_limit(self) -> None:
        raw = await self.raw_client(lambda stream: asyncio.Event().wait())
        raw.ack_settings = False
        for n in (1, 3):
            raw.request(n)
        self.protocol.max_concurrent_streams = 2
        await raw.frame(SettingsFrame)
        raw.request(5)  # before the ack
        await raw.sync()
        self.assertEqual([f for f in raw.log if isinstance(f, RstStreamFrame)], [])
        raw.send(SettingsFrame(flags=["ACK"]))
        raw.request(7)
        reset = await raw.frame(RstStreamFrame)
        self.assertEqual((reset.stream_id, reset.error_code), (7, ErrorCodes.REFUSED_STREAM))
        self.assertFalse(self.protocol.is_closing)

    async def test_window_lowered(self) -> None:
        client, raw = await self.raw_server()
        stream = await client.open_stream({}, end_stream=True)
        raw.headers(1)
        raw.data(1, bytes(5_000))
        await raw.sync()
        client.initial_window_size = 1_000
        await raw.frame(SettingsFrame)
        await raw.sync()
        self.assertEqual(len(await stream.read(5_000)), 5_000)
        await raw.sync()
        window = (
            1_000
            - 5_000
            + sum(
                f.window_increment
                for f in raw.log
                if isinstance(f, WindowUpdateFrame) and f.stream_id == 1
            )
        )
        self.assertGreater(window, 0)
        self.assertLessEqual(window, 1_000)
        raw.data(1, bytes(window), True)
        self.assertEqual(len(await stream.read(-1)), window)

    async def test_zero_streams(self) -> None:
        raw = await self.raw_client(ok)
        self.protocol.max_concurrent_streams = 0
        f = await raw.frame(SettingsFrame)
        self.assertEqual(f.settings, {3: 0})
        raw.request(1)
        f = await raw.frame(RstStreamFrame)
        self.assertEqual(f.error_code, 7)
        self.protocol.max_concurrent_streams = 1
        await raw.frame(SettingsFrame)
        raw.request(3)
        self.assertEqual(statuses([await raw.frame(HeadersFrame)]), ["200"])


class TestShutdown(Whole):
    async def test_during_an_upload_waiting_for_window(self) -> None:
        client, raw = await self.raw_server({4: 10})
        stream = await client.open_stream({":method": "POST"})
        sending = await self.task(stream.send_data(bytes(20), end_stream=True))
        closing = await self.task(client.shutdown(5))
        await raw.sync()
        self.assertFalse(closing.done())
        raw.send(WindowUpdateFrame(1, 10))
        raw.headers(1, OK, "END_STREAM")
        await sending
        self.assertEqual(await stream.recv_response(), OK)
        reading = asyncio.ensure_future(raw.until_eof())
        self.assertEqual((await closing).completed, 1)
        await reading

    async def test_of_a_server_on_the_wire(self) -> None:
        go = asyncio.Event()

        async def handler(stream: Any) -> None:
            await go.wait()
            await ok(stream)

        raw = await self.raw_client(handler)
        raw.request(1)
        await raw.sync()
        raw.ack_pings = False
        closing = await self.task(self.server.shutdown(5))
        first = await raw.frame(GoAwayFrame)
        self.assertEqual((first.last_stream_id, first.error_code), (2**31 - 1, 0))
        ping = await raw.frame(PingFrame)
        raw.request(3)  # was on its way
        raw.send(PingFrame(0, ping.opaque_data, flags=["ACK"]))
        second = await raw.frame(GoAwayFrame)
        self.assertEqual((second.last_stream_id, second.error_code), (3, 0))
        raw.request(5)  # too late: ignored
        go.set()
        frames = await raw.until_eof()
        self.assertEqual(
            {
                f.stream_id: dict(f.headers)[":status"]
                for f in frames
                if isinstance(f, HeadersFrame)
            },
            {1: "200", 3: "200"},
        )
        drained = await closing
        self.assertEqual(drained.aborted, 0)

    async def test_waiting_calls_end(self) -> None:
        client, raw = await self.raw_server({3: 1}, enable_push=True)
        raw.ack_pings = False
        stream = await client.open_stream({":method": "POST"})
        calls = [
            await self.task(call)
            for call in (
                stream.recv_response(),
                stream.recv_informational(),
                stream.recv_push(),
                stream.recv_trailers(),
                stream.read(),
                client.start_request({}),
                client.ping(),
            )
        ]
        client.close_connection(ErrorCodes.CONNECT_ERROR, b"bye")
        frame = await raw.frame(GoAwayFrame)
        self.assertEqual(
            (frame.error_code, frame.additional_data), (ErrorCodes.CONNECT_ERROR, b"bye")
        )
        results = await asyncio.gather(*calls, return_exceptions=True)
        for reader in results:
            self.assertIsInstance(reader, aioh2.ConnectionClosed)
        self.assertEqual([reader.retryable for reader in results], [False] * 5 + [True, False])
        self.assertEqual(len({id(reader) for reader in results}), 7)
        await client.wait_closed()
        self.assertTrue(client.is_closing)

    async def test_waiting_for_a_slot_at_shutdown(self) -> None:
        client, raw = await self.raw_server({3: 1})
        stream = await client.open_stream({}, end_stream=True)
        waiting = await self.task(client.open_stream({}))
        closing = await self.task(client.shutdown(5))
        with self.assertRaises(aioh2.ConnectionClosed) as caught:
            await waiting
        self.assertTrue(caught.exception.retryable)
        raw.headers(1, OK, "END_STREAM")
        self.assertEqual(await stream.recv_response(), OK)
        reading = asyncio.ensure_future(raw.until_eof())
        await closing
        await reading


class TestTransports(Whole):
    async def test_socketpair(self) -> None:
        a, b = socket.socketpair()
        server = aioh2.H2Protocol(client_side=False)
        server.set_handler(lambda p: p.serve(ok))
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: server, b)
        async with aioh2.open_connection(sock=a) as client:
            stream = await client.open_stream({}, end_stream=True)
            self.assertEqual(await stream.recv_response(), OK)
            self.assertEqual(client.authority, "localhost")
        await server.wait_closed()

    async def test_from_start_tls(self) -> None:
        done = asyncio.Event()

        async def accept(reader: Any, writer: Any) -> None:
            await reader.readline()
            writer.write(b"OK\n")
            await writer.drain()
            p = aioh2.H2Protocol(client_side=False)
            p.set_handler(lambda q: q.serve(ok))
            ctx = server_context()
            ctx.set_alpn_protocols(["h2"])
            t = await asyncio.get_running_loop().start_tls(
                writer.transport, p, ctx, server_side=True
            )
            p.connection_made(t)
            await p.wait_closed()
            done.set()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.addCleanup(server.close)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"STARTTLS\n")
        await reader.readline()
        client = aioh2.H2Protocol(client_side=True)
        ctx = client_context("h2")
        t = await asyncio.get_running_loop().start_tls(
            writer.transport, client, ctx, server_hostname="localhost"
        )
        client.connection_made(t)
        await client.wait_open()
        self.assertEqual(client.scheme, "https")
        stream = await client.open_stream({}, end_stream=True)
        self.assertEqual(await stream.recv_response(), OK)
        await client.shutdown()
        await done.wait()
        writer.close()

    async def test_h2_as_server(self) -> None:
        """The h2 package itself as the server."""

        async def serve(reader: Any, writer: Any) -> None:
            conn = h2.connection.H2Connection(
                h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
            )
            conn.initiate_connection()
            writer.write(conn.data_to_send())
            while data := await reader.read(65536):
                if b"\0\0\x08\x07" in data:
                    break  # a GOAWAY, which h2 does not go on after
                for e in conn.receive_data(data):
                    if isinstance(e, h2.events.RequestReceived):
                        auth = dict(e.headers)[":authority"]
                        conn.send_headers(e.stream_id, [(":status", "103"), ("link", "</a>")])
                        conn.push_stream(
                            e.stream_id,
                            2,
                            [
                                (":method", "GET"),
                                (":scheme", "http"),
                                (":authority", auth),
                                (":path", "/a"),
                            ],
                        )
                        conn.advertise_alternative_service(b'h2=":1"', origin=b"http://x")
                        conn.send_headers(2, [(":status", "200")])
                        conn.send_data(2, b"pushed", end_stream=True)
                        conn.send_headers(e.stream_id, [(":status", "200")])
                        conn.send_data(e.stream_id, b"x" * 1000, pad_length=10)
                        conn.send_headers(e.stream_id, [("t", "1")], end_stream=True)
                writer.write(conn.data_to_send())
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.addCleanup(server.close)
        async with (
            aioh2.open_connection(
                "127.0.0.1", server.sockets[0].getsockname()[1], enable_push=True, cls=Watching
            ) as client,
            client.open_stream({}, end_stream=True) as stream,
        ):
            self.assertEqual(dict(await stream.recv_informational())["link"], "</a>")
            p = await stream.recv_push()
            self.assertEqual(await p.read(-1), b"pushed")
            self.assertEqual(len(await stream.read(-1)), 1000)
            self.assertEqual(await stream.recv_trailers(), [("t", "1")])
            self.assertEqual(len(client.of(h2.events.AlternativeServiceAvailable)), 1)

    async def test_h2_as_client(self) -> None:
        async def handler(stream: Any) -> None:
            await stream.start_response({":status": "103"})
            p = await stream.push({":path": "/x"})
            await p.start_response({":status": "200"})
            await p.send_data(b"p", end_stream=True)
            await stream.start_response({":status": "200"})
            async for d in stream:
                await stream.send_data(d)
            await stream.send_trailers(await stream.recv_trailers() or {"none": "1"})

        server = await aioh2.start_server(lambda p: p.serve(handler), "127.0.0.1", 0)
        self.addAsyncCleanup(server.shutdown, 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        conn = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        )
        conn.initiate_connection()
        conn.send_headers(1, POST, priority_weight=10)
        conn.send_data(1, b"hello", end_stream=False)
        conn.send_headers(1, [("t", "2")], end_stream=True)
        writer.write(conn.data_to_send())
        events: list[Any] = []
        while not any(isinstance(e, h2.events.StreamEnded) and e.stream_id == 1 for e in events):
            events += conn.receive_data(await reader.read(65536))
            writer.write(conn.data_to_send())
        names = [type(e).__name__ for e in events]
        for n in ("InformationalResponseReceived", "PushedStreamReceived", "TrailersReceived"):
            self.assertIn(n, names)
        writer.close()
