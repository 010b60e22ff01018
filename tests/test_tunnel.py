"""asyncio streams over a stream's bytes: both sides, both ends, TLS and HTTP/2 inside."""

from __future__ import annotations

import asyncio
import functools
import gc
import ssl
import unittest
import weakref
from collections.abc import Callable
from typing import Any

import trustme
from h2.errors import ErrorCodes
from hyperframe.frame import DataFrame, RstStreamFrame, WindowUpdateFrame

import aioh2
from aioh2 import SettingCodes
from aioh2.testing import connected_pair

from .wire import POST, RESPONSE, Case, Peer, settle

CONNECT = [(":method", "CONNECT"), (":authority", "b.test:443")]
EXTENDED = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":authority", "a.test"),
    (":path", "/"),
]

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@functools.cache
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(*alpn: str) -> ssl.SSLContext:
    """Return a context with a certificate for the end of the tunnel."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert("b.test", "localhost", "127.0.0.1").configure_cert(context)
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


def client_context(*alpn: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority().configure_trust(context)
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


class TunnelCase(Case):
    def at_the_end(self, call: Callable[[], None]) -> None:
        """Call it when the test is over, with the loop still running."""

        async def inside() -> None:
            call()

        self.addAsyncCleanup(inside)

    async def streams(
        self,
        request: Any = CONNECT,
        client: dict[str, Any] | None = None,
        server: dict[str, Any] | None = None,
    ) -> tuple[aioh2.H2Stream, aioh2.H2Stream]:
        """Return both ends of a stream whose headers are done, the client's first."""
        ends = await connected_pair(client=client, server=server)
        for end in ends:
            self.at_the_end(end.abort)
        near = await ends[0].open_stream(request)
        far = await anext(ends[1])
        await far.start_response(RESPONSE)
        await near.recv_response()
        return near, far

    def on(self, stream: aioh2.H2Stream) -> Ends:
        reader, writer = stream.as_reader_writer()
        # else asyncio warns of a writer that nobody has closed
        self.at_the_end(writer.close)
        self.at_the_end(writer.transport.abort)
        return reader, writer

    async def tunnel(self, request: Any = CONNECT, **options: Any) -> tuple[Ends, Ends]:
        near, far = await self.streams(request, **options)
        return self.on(near), self.on(far)

    async def client(
        self, settings: dict[int, int] | None = None, request: Any = CONNECT, **options: Any
    ) -> tuple[Peer, aioh2.H2Stream]:
        """Return a client's stream, and the server that it talks to."""
        peer = await Peer.of_client(settings=settings, **options)
        self.at_the_end(peer.protocol.abort)
        stream = await peer.protocol.open_stream(request)
        peer.respond(1)
        await peer.frames()
        return peer, stream

    async def server(self, request: Any = CONNECT, **options: Any) -> tuple[Peer, aioh2.H2Stream]:
        """Return a server's stream, and the client that it talks to."""
        peer = await Peer.of_server(**options)
        self.at_the_end(peer.protocol.abort)
        peer.request(1, request, end=False)
        stream = await anext(peer.protocol)
        await stream.start_response(RESPONSE)
        await peer.frames()
        return peer, stream

    async def wire(self, peer: Peer) -> list[Any]:
        """Return what was sent since the last call: bytes, None for END_STREAM, reset codes."""
        found: list[Any] = []
        for frame in await peer.frames(DataFrame, RstStreamFrame):
            if isinstance(frame, RstStreamFrame):
                found.append(ErrorCodes(frame.error_code))
                continue
            found += [frame.data] if frame.data else []
            found += [None] if "END_STREAM" in frame.flags else []
        return found


class TestBytes(TunnelCase):
    async def test_both_ways_on_every_kind_of_stream(self) -> None:
        for request in (CONNECT, EXTENDED, POST):
            offer = {"enable_connect_protocol": True}
            (reader, writer), (far_reader, far_writer) = await self.tunnel(request, server=offer)
            writer.write(b"one line\nand four")
            self.assertEqual(await far_reader.readuntil(b"\n"), b"one line\n")
            self.assertEqual(await far_reader.readexactly(8), b"and four")
            far_writer.writelines([b"ba", bytearray(b"c"), memoryview(b"k")])
            await far_writer.drain()
            self.assertEqual(await reader.readexactly(4), b"back")

    async def test_much(self) -> None:
        body = bytes(range(256)) * 8192
        (reader, writer), (far_reader, far_writer) = await self.tunnel()

        async def echo() -> None:
            while data := await far_reader.read(30_000):
                far_writer.write(data)
                await far_writer.drain()
            far_writer.write_eof()

        async def send() -> None:
            for at in range(0, len(body), 100_000):
                writer.write(body[at : at + 100_000])
                await writer.drain()
            writer.write_eof()

        _, _, found = await asyncio.gather(echo(), send(), reader.read())
        self.assertEqual(found, body)

    async def test_what_came_before(self) -> None:
        peer, stream = await self.client()
        peer.data(1, b"early", end=True)
        reader, _ = self.on(stream)
        self.assertEqual(await reader.read(), b"early")

    async def test_what_may_change_is_copied(self) -> None:
        peer, stream = await self.client({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        _, writer = self.on(stream)
        data = bytearray(b"abc")
        writer.write(data)
        data[:] = b"---"
        writer.write(memoryview(bytearray(b"dxexf"))[::2])
        peer.window(1, 100)
        self.assertEqual(b"".join(await self.wire(peer)), b"abcdef")

    async def test_it_costs_no_task(self) -> None:
        near, far = await self.streams()
        before = len(asyncio.all_tasks())
        self.on(near), self.on(far)
        await settle()
        self.assertEqual(len(asyncio.all_tasks()), before)

    async def test_nothing_is_left(self) -> None:
        near, far = await self.streams()
        writer, far_writer = near.as_reader_writer()[1], far.as_reader_writer()[1]
        writer.close()
        far_writer.close()
        await asyncio.gather(writer.wait_closed(), far_writer.wait_closed())
        await settle()
        tunnels = [weakref.ref(end.transport) for end in (writer, far_writer)]
        self.assertIsNone(near.failure)
        del writer, far_writer
        gc.collect()
        self.assertEqual([tunnel() for tunnel in tunnels], [None, None])

    async def test_as_once(self) -> None:
        near, far = await self.streams()
        for stream in (near, far):
            self.on(stream)
            with self.assertRaisesRegex(aioh2.StreamClosed, "already"):
                stream.as_reader_writer()


class TestBackPressure(TunnelCase):
    async def test_reading(self) -> None:
        """What nobody reads holds the window of the stream."""
        peer, stream = await self.client(initial_window_size=200_000)
        reader, _ = self.on(stream)
        peer.data(1, b"x" * 140_000)
        await settle()
        self.assertGreater(sum(await self.credits(peer)), 0)
        peer.data(1, b"y" * 60_000)
        await settle()
        self.assertEqual(stream.unread, 60_000)
        self.assertEqual(await self.credits(peer), [])
        self.assertEqual(await reader.readexactly(140_000), b"x" * 140_000)
        self.assertEqual(await reader.readexactly(60_000), b"y" * 60_000)
        self.assertEqual(stream.unread, 0)

    async def credits(self, peer: Peer) -> list[int]:
        frames = await peer.frames(WindowUpdateFrame)
        return [frame.window_increment for frame in frames if frame.stream_id]

    async def test_pause_and_resume(self) -> None:
        peer, stream = await self.client()
        reader, writer = self.on(stream)
        transport = writer.transport
        self.assertTrue(transport.is_reading())
        await settle()
        transport.pause_reading()
        self.assertFalse(transport.is_reading())
        # what was on its way to be looked at, and what comes later
        for data in (b"abc", b"def"):
            peer.data(1, data)
            await settle()
        self.assertEqual(stream.unread, 6)
        for _ in range(2):
            transport.resume_reading()
        self.assertEqual(await reader.readexactly(6), b"abcdef")
        peer.data(1, b"g", end=True)
        transport.pause_reading()
        await settle()
        self.assertFalse(reader.at_eof())
        transport.resume_reading()
        self.assertEqual(await reader.read(), b"g")

    async def test_paused_in_the_middle(self) -> None:
        peer, stream = await self.client()
        found: list[bytes] = []

        class Taker(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                found.append(data)
                transport.pause_reading()

        _, writer = self.on(stream)
        transport = writer.transport
        transport.set_protocol(Taker())
        peer.data(1, b"one")
        peer.data(1, b"two", end=True)
        await settle()
        self.assertEqual(found, [b"one"])
        transport.resume_reading()
        await settle()
        self.assertEqual(found, [b"one", b"two"])

    async def test_drain(self) -> None:
        peer, stream = await self.client()
        _, writer = self.on(stream)
        writer.write(b"x" * 65_535)
        await writer.drain()
        transport = writer.transport
        self.assertEqual(transport.get_write_buffer_size(), 0)
        writer.write(b"y" * 65_536)
        await writer.drain()
        self.assertEqual(transport.get_write_buffer_size(), 65_536)
        writer.write(b"z")
        self.assertEqual(transport.get_write_buffer_size(), 65_537)
        task = await self.waiting(writer.drain())
        peer.window(0, 100_000)
        peer.window(1, 65_535)
        await settle()
        self.assertFalse(task.done())
        peer.window(1, 1)
        await task
        self.assertEqual(transport.get_write_buffer_size(), 1)
        peer.window(1, 1)
        await settle()
        self.assertEqual(transport.get_write_buffer_size(), 0)

    async def test_the_transport_below(self) -> None:
        peer, stream = await self.client({SettingCodes.INITIAL_WINDOW_SIZE: 2**20})
        _, writer = self.on(stream)
        peer.window(0, 2**20)
        peer.protocol.pause_writing()
        writer.write(b"x" * 100_000)
        task = await self.waiting(writer.drain())
        self.assertEqual(stream.blocked_on, "transport")
        peer.protocol.resume_writing()
        await task

    async def test_limits(self) -> None:
        _, stream = await self.client({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        _, writer = self.on(stream)
        transport = writer.transport
        self.assertEqual(transport.get_write_buffer_limits(), (16_384, 65_536))
        for given, expected in [
            ({}, (16_384, 65_536)),
            ({"high": 100}, (25, 100)),
            ({"low": 100}, (100, 400)),
            ({"high": 5, "low": 5}, (5, 5)),
            ({"high": 0}, (0, 0)),
        ]:
            transport.set_write_buffer_limits(**given)
            self.assertEqual(transport.get_write_buffer_limits(), expected)
        for high, low in ((1, 2), (1, -1)):
            with self.assertRaisesRegex(ValueError, "at least"):
                transport.set_write_buffer_limits(high, low)
        writer.write(b"x")
        task = await self.waiting(writer.drain())
        transport.set_write_buffer_limits(high=10, low=1)
        await task

    async def test_nothing_is_told_of_writing_after_the_end(self) -> None:
        class Told(asyncio.Protocol):
            def __init__(self) -> None:
                self.calls: list[str] = []

            def pause_writing(self) -> None:
                self.calls.append("pause")

            def resume_writing(self) -> None:
                self.calls.append("resume")

            def connection_lost(self, exc: Exception | None) -> None:
                self.calls.append("lost")

        _, stream = await self.client({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        _, writer = self.on(stream)
        transport, made = writer.transport, Told()
        transport.set_protocol(made)
        transport.set_write_buffer_limits(high=0)
        writer.write(b"x")
        transport.abort()
        transport.set_write_buffer_limits(high=10)
        await settle()
        self.assertEqual(made.calls, ["pause", "lost"])


class TestEnds(TunnelCase):
    async def test_half_close(self) -> None:
        near, far = await self.streams()
        (reader, writer), (far_reader, far_writer) = self.on(near), self.on(far)
        self.assertTrue(writer.can_write_eof())
        writer.write(b"all")
        writer.write_eof()
        writer.write_eof()
        self.assertEqual(await far_reader.read(), b"all")
        for kind in (aioh2.StreamClosed, RuntimeError):
            with self.assertRaises(kind):
                writer.write(b"more")
        writer.write(b"")
        far_writer.write(b"answer")
        self.assertEqual(await reader.readexactly(6), b"answer")
        far_writer.write_eof()
        self.assertEqual(await reader.read(), b"")
        await settle()
        self.assertTrue(near.is_over)
        self.assertTrue(far.is_over)
        self.assertFalse(writer.is_closing())

    async def test_close_both(self) -> None:
        near, far = await self.streams()
        (reader, writer), (far_reader, far_writer) = self.on(near), self.on(far)
        writer.write(b"bye")
        writer.close()
        writer.close()
        writer.write(b"dropped")
        self.assertTrue(writer.is_closing())
        self.assertFalse(writer.transport.is_reading())
        await writer.wait_closed()
        self.assertEqual(await reader.read(), b"")
        self.assertEqual(await far_reader.read(), b"bye")
        far_writer.close()
        await far_writer.wait_closed()
        await settle()
        self.assertTrue(near.is_complete)
        self.assertIsNone(near.failure)
        self.assertIsNone(far.failure)

    async def test_close_sends_first_what_was_written(self) -> None:
        for eof in (False, True):
            peer, stream = await self.client({SettingCodes.INITIAL_WINDOW_SIZE: 0})
            _, writer = self.on(stream)
            writer.write(b"x" * 100)
            if eof:
                writer.write_eof()
            writer.close()
            peer.data(1, b"unread")
            task = await self.waiting(writer.wait_closed())
            self.assertEqual(await self.wire(peer), [])
            peer.window(1, 60)
            self.assertEqual(await self.wire(peer), [b"x" * 60])
            peer.window(1, 60)
            await task
            self.assertEqual(await self.wire(peer), [b"x" * 40, None, ErrorCodes.CANCEL])

    async def test_close_when_the_peer_has_ended(self) -> None:
        peer, stream = await self.client()
        _, writer = self.on(stream)
        peer.data(1, b"unread", end=True)
        writer.close()
        await writer.wait_closed()
        self.assertEqual(await self.wire(peer), [None])
        self.assertTrue(stream.is_over)

    async def test_close_while_the_peer_goes_on(self) -> None:
        for end, request, code in [
            (self.client, CONNECT, ErrorCodes.CANCEL),
            (self.client, POST, ErrorCodes.CANCEL),
            (self.server, CONNECT, ErrorCodes.CANCEL),
            (self.server, EXTENDED, ErrorCodes.CANCEL),
            # RFC 9113 section 8.1: the upload is not wanted, the response counts
            (self.server, POST, ErrorCodes.NO_ERROR),
        ]:
            for early in (False, True):
                options = {"enable_connect_protocol": True} if request is EXTENDED else {}
                peer, stream = await end(request=request, **options)
                _, writer = self.on(stream)
                if early:
                    peer.data(1, b"what nobody reads")
                writer.close()
                await writer.wait_closed()
                if not early:
                    self.assertEqual(await self.wire(peer), [None])
                    peer.data(1, b"what nobody reads")
                    self.assertEqual(await self.wire(peer), [code])
                else:
                    self.assertEqual(await self.wire(peer), [None, code])

    async def test_close_while_paused(self) -> None:
        peer, stream = await self.server()
        _, writer = self.on(stream)
        writer.transport.pause_reading()
        await settle()
        writer.close()
        await writer.wait_closed()
        peer.data(1, b"what nobody reads")
        self.assertEqual(await self.wire(peer), [None, ErrorCodes.CANCEL])

    async def test_close_and_the_peer_ends(self) -> None:
        peer, stream = await self.server()
        _, writer = self.on(stream)
        writer.close()
        await writer.wait_closed()
        peer.data(1, end=True)
        self.assertEqual(await self.wire(peer), [None])
        self.assertTrue(stream.is_complete)

    async def test_close_and_the_peer_does_not_end(self) -> None:
        near, far = await self.streams(client={"close_timeout": 0.01})
        (_, writer), (far_reader, far_writer) = self.on(near), self.on(far)
        writer.close()
        self.assertEqual(await far_reader.read(), b"")
        with self.assertRaises(aioh2.StreamReset) as caught:
            await far_writer.wait_closed()
        self.assertEqual(caught.exception.error_code, ErrorCodes.CANCEL)

    async def test_close_of_what_has_failed(self) -> None:
        peer, stream = await self.client({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        _, writer = self.on(stream)
        writer.write(b"x")
        writer.close()
        peer.reset(1, ErrorCodes.CONNECT_ERROR)
        with self.assertRaises(aioh2.StreamReset):
            await writer.wait_closed()
        peer, stream = await self.client()
        _, writer = self.on(stream)
        peer.reset(1, ErrorCodes.CONNECT_ERROR)
        writer.close()
        with self.assertRaises(aioh2.StreamReset):
            await writer.wait_closed()
        self.assertEqual(await self.wire(peer), [])

    async def test_abort(self) -> None:
        for end, request, code in [
            (self.client, CONNECT, ErrorCodes.CANCEL),
            (self.server, CONNECT, ErrorCodes.CONNECT_ERROR),
            (self.server, EXTENDED, ErrorCodes.CANCEL),
            (self.server, POST, ErrorCodes.CANCEL),
        ]:
            for encoding in ("utf-8", None):
                options: Any = {"header_encoding": encoding}
                if request is EXTENDED:
                    options["enable_connect_protocol"] = True
                peer, stream = await end(request=request, **options)
                reader, writer = self.on(stream)
                writer.write(b"x" * 100_000)
                writer.transport.abort()
                self.assertTrue(writer.is_closing())
                await writer.wait_closed()
                self.assertEqual(await reader.read(), b"")
                self.assertEqual((await self.wire(peer))[-1:], [code])
                writer.transport.abort()

    async def test_abort_after_close(self) -> None:
        peer, stream = await self.client()
        _, writer = self.on(stream)
        writer.close()
        writer.transport.abort()
        await writer.wait_closed()
        self.assertEqual(await self.wire(peer), [None, ErrorCodes.CANCEL])

    async def test_reset(self) -> None:
        peer, stream = await self.client({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        reader, writer = self.on(stream)
        writer.write(b"x" * 100_000)
        tasks = [await self.waiting(call) for call in (reader.read(), writer.drain())]
        peer.reset(1, ErrorCodes.CONNECT_ERROR)
        for call in (*tasks, reader.read(), writer.drain(), writer.wait_closed()):
            with self.assertRaises(aioh2.StreamReset) as caught:
                await call
            self.assertIsInstance(caught.exception, ConnectionResetError)
            self.assertEqual(caught.exception.error_code, ErrorCodes.CONNECT_ERROR)
            self.assertEqual(caught.exception.initiator, "peer")
            self.assertIn("CONNECT_ERROR", str(caught.exception))
        self.assertTrue(writer.is_closing())
        writer.write(b"dropped")

    async def test_lost(self) -> None:
        peer, stream = await self.client()
        reader, writer = self.on(stream)
        task = await self.waiting(reader.read())
        cause = OSError("a cable")
        peer.lose(cause)
        for call in (task, writer.wait_closed()):
            with self.assertRaises(aioh2.ConnectionClosed) as caught:
                await call
            self.assertIsInstance(caught.exception, ConnectionResetError)
            self.assertIs(caught.exception.__cause__, cause)
            self.assertFalse(caught.exception.retryable)

    async def test_another_failure(self) -> None:
        _, stream = await self.client()
        reader, _ = self.on(stream)
        stream.fail(aioh2.HandshakeError("no HTTP/2"))
        with self.assertRaises(aioh2.HandshakeError):
            await reader.read()

    async def test_what_came_before_a_reset(self) -> None:
        """It is handed on, but raised is the reset, as with a socket; after the end it is read."""
        for end in (False, True):
            peer, stream = await self.client()
            reader, writer = self.on(stream)
            peer.data(1, b"all", end=end)
            peer.reset(1, ErrorCodes.CANCEL)
            with self.assertRaises(aioh2.StreamReset):
                await writer.wait_closed()
            if end:
                self.assertEqual(await reader.read(), b"all")
                self.assertEqual(await reader.read(), b"")
            else:
                with self.assertRaises(aioh2.StreamReset):
                    await reader.read()

    async def test_no_trailers(self) -> None:
        """RFC 9113 section 8.5: nothing but DATA; a CONNECT that is refused is no tunnel."""
        for request in (CONNECT, EXTENDED):
            near, _ = await self.streams(request, server={"enable_connect_protocol": True})
            with self.assertRaisesRegex(aioh2.StreamClosed, "trailers"):
                await near.send_trailers({"t": "1"})
            await near.send_trailers({})
        peer = await Peer.of_client()
        stream = await peer.protocol.open_stream(CONNECT)
        peer.respond(1, [(":status", "502")])
        await stream.recv_response()
        await stream.send_trailers({"t": "1"})
        *_, trailers = await peer.frames()
        self.assertEqual(trailers.headers, [("t", "1")])

    async def test_a_peer_that_is_done(self) -> None:
        """END_STREAM, then NO_ERROR (RFC 9113 section 8.1): an error only of what is cut short."""
        for much in (False, True):
            with self.subTest(much=much):
                peer, stream = await self.client({SettingCodes.INITIAL_WINDOW_SIZE: 10})
                reader, writer = self.on(stream)
                writer.write(bytes(11 if much else 10))
                peer.data(1, b"all", end=True)
                peer.reset(1, ErrorCodes.NO_ERROR)
                self.assertEqual(await reader.read(), b"all")
                await settle()
                self.assertTrue(writer.is_closing())
                writer.close()
                if much:
                    with self.assertRaises(aioh2.StreamReset):
                        await writer.wait_closed()
                else:
                    await writer.wait_closed()
                with self.assertRaises(ConnectionResetError):
                    await writer.drain()

    async def test_all_is_read_though_sending_has_failed(self) -> None:
        """More has come than the reader holds, when what was written is cut short."""
        peer, stream = await self.client({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        reader, writer = self.on(stream)
        writer.write(bytes(100_000))
        draining = await self.waiting(writer.drain())
        peer.data(1, bytes(200_000), end=True)
        peer.reset(1, ErrorCodes.NO_ERROR)
        await draining
        writer.write(b"dropped")
        self.assertEqual(len(await reader.read()), 200_000)
        with self.assertRaises(aioh2.StreamReset):
            await writer.wait_closed()

    async def test_a_stream_that_is_over(self) -> None:
        """What the peer has ended can still be read; what this side has reset cannot."""
        for code in (ErrorCodes.NO_ERROR, ErrorCodes.CANCEL):
            peer, stream = await self.client()
            peer.data(1, b"all", end=True)
            peer.reset(1, code)
            await settle()
            reader, _ = self.on(stream)
            self.assertEqual(await reader.read(), b"all")
        peer, stream = await self.client()
        peer.data(1, b"all", end=True)
        await settle()
        stream.reset()
        with self.assertRaises(aioh2.StreamClosed):
            stream.as_reader_writer()

    async def test_reset_while_paused(self) -> None:
        """It is seen by the next write, or once reading goes on."""
        for goes_on in (False, True):
            peer, stream = await self.client()
            _, writer = self.on(stream)
            await settle()
            writer.transport.pause_reading()
            peer.reset(1)
            await settle()
            self.assertFalse(writer.is_closing())
            if goes_on:
                writer.transport.resume_reading()
            else:
                writer.write(b"x")
            with self.assertRaises(aioh2.StreamReset):
                await writer.wait_closed()

    async def test_reset_after_the_end(self) -> None:
        peer, stream = await self.client()
        reader, writer = self.on(stream)
        peer.data(1, end=True)
        self.assertEqual(await reader.read(), b"")
        self.assertFalse(writer.is_closing())
        peer.reset(1)
        with self.assertRaises(aioh2.StreamReset):
            await writer.wait_closed()
        with self.assertRaises(ConnectionResetError):
            await writer.drain()

    async def test_the_stream_ends_by_itself(self) -> None:
        """Where the application uses it directly."""
        _, stream = await self.client()
        _, writer = self.on(stream)
        await stream.end()
        writer.write(b"dropped")
        self.assertTrue(writer.is_closing())
        await writer.wait_closed()
        _, stream = await self.client()
        _, writer = self.on(stream)
        await stream.end()
        writer.write_eof()
        stream.reset()
        with self.assertRaises(aioh2.StreamReset) as caught:
            await writer.wait_closed()
        self.assertEqual(caught.exception.initiator, "local")

    async def test_a_side_that_had_ended(self) -> None:
        peer = await Peer.of_client()
        stream = await peer.protocol.open_stream({}, end_stream=True)
        peer.respond(1)
        await peer.frames()
        reader, writer = self.on(stream)
        with self.assertRaises(aioh2.StreamClosed):
            writer.write(b"x")
        peer.data(1, b"all", end=True)
        self.assertEqual(await reader.read(), b"all")
        writer.close()
        await writer.wait_closed()
        self.assertEqual(await self.wire(peer), [])

    async def test_graceful_shutdown(self) -> None:
        near, far = await self.streams()
        (_, writer), (far_reader, far_writer) = self.on(near), self.on(far)
        task = await self.waiting(far.protocol.shutdown(5))
        writer.write(b"last")
        writer.close()
        self.assertEqual(await far_reader.read(), b"last")
        far_writer.close()
        self.assertEqual(await task, (1, 0))

    async def test_handler_that_returns(self) -> None:
        """What was written goes out before the end that serve() makes."""
        peer = await Peer.of_server(settings={SettingCodes.INITIAL_WINDOW_SIZE: 0})

        async def handler(stream: aioh2.H2Stream) -> None:
            await stream.start_response(RESPONSE)
            _, writer = self.on(stream)
            writer.write(b"all")

        task = asyncio.ensure_future(peer.protocol.serve(handler))
        self.addCleanup(task.cancel)
        peer.request(1, CONNECT, end=False)
        self.assertEqual(await self.wire(peer), [])
        peer.window(1, 100)
        self.assertEqual(await self.wire(peer), [b"all", None, ErrorCodes.NO_ERROR])


class TestTransport(TunnelCase):
    async def test_extra_info(self) -> None:
        extra = {"peername": ("::1", 1), "ssl_object": mock_tls(), "sslcontext": 1}
        peer = Peer(aioh2.H2Protocol(True), **extra)
        self.at_the_end(peer.protocol.abort)
        peer.protocol.connection_made(peer.transport)
        await peer.greet()
        stream = await peer.protocol.open_stream(CONNECT)
        peer.respond(1)
        _, writer = self.on(stream)
        self.assertIs(writer.get_extra_info("stream"), stream)
        self.assertEqual(writer.get_extra_info("peername"), ("::1", 1))
        self.assertIs(
            writer.get_extra_info("ssl_object"), peer.transport.get_extra_info("ssl_object")
        )
        self.assertEqual(writer.get_extra_info("sslcontext", 5), 5)
        self.assertEqual(writer.get_extra_info("nonsense", 5), 5)
        # TLS below is not TLS inside: each side ends by itself
        peer.data(1, b"x", end=True)
        await settle()
        self.assertFalse(writer.is_closing())

    async def test_protocol(self) -> None:
        _, stream = await self.client()
        _, writer = self.on(stream)
        self.assertIsInstance(writer.transport.get_protocol(), asyncio.StreamReaderProtocol)
        made = asyncio.Protocol()
        writer.transport.set_protocol(made)
        self.assertIs(writer.transport.get_protocol(), made)

    async def test_end_that_is_not_wanted_half(self) -> None:
        peer, stream = await self.client()
        _, writer = self.on(stream)
        writer.transport.set_protocol(asyncio.Protocol())
        peer.data(1, end=True)
        self.assertEqual(await self.wire(peer), [None])
        self.assertTrue(writer.is_closing())

    async def test_buffered_protocol(self) -> None:
        class Buffered(asyncio.BufferedProtocol):
            def __init__(self, size: int) -> None:
                self.found = bytearray()
                self.room = bytearray(size)

            def get_buffer(self, sizehint: int) -> bytearray:
                return self.room

            def buffer_updated(self, nbytes: int) -> None:
                self.found += self.room[:nbytes]

        peer, stream = await self.client()
        _, writer = self.on(stream)
        for size in (4, 100):
            made = Buffered(size)
            writer.transport.set_protocol(made)
            peer.data(1, b"0123456789")
            await settle()
            self.assertEqual(made.found, b"0123456789")
        writer.transport.set_protocol(Buffered(0))
        peer.data(1, b"0123456789")
        await settle()
        (context,) = self.loop_errors
        self.assertIsInstance(context["exception"], BufferError)
        self.loop_errors.clear()

    async def test_protocol_that_fails(self) -> None:
        class Failing(asyncio.Protocol):
            lost: Any = "nothing"

            def data_received(self, data: bytes) -> None:
                raise ValueError("what is this?")

            def connection_lost(self, exc: Exception | None) -> None:
                self.lost = exc

        peer, stream = await self.client()
        _, writer = self.on(stream)
        made = Failing()
        writer.transport.set_protocol(made)
        peer.data(1, b"x")
        self.assertEqual(await self.wire(peer), [ErrorCodes.CANCEL])
        self.assertIsNone(made.lost)
        (context,) = self.loop_errors
        self.assertEqual(str(context["exception"]), "what is this?")
        self.assertIs(context["protocol"], made)
        self.assertIs(context["transport"], writer.transport)
        self.loop_errors.clear()

    async def test_what_cannot_be_written(self) -> None:
        _, stream = await self.client()
        _, writer = self.on(stream)
        with self.assertRaisesRegex(TypeError, "bytes-like, not str"):
            writer.write("text")  # type: ignore[arg-type]  # wrong on purpose

    async def test_repr(self) -> None:
        _, stream = await self.client()
        _, writer = self.on(stream)
        over = "over <H2Stream 1 "
        self.assertEqual(repr(writer.transport), f"<Tunnel open {over}open>>")
        peer, stream = await self.client({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        _, writer = self.on(stream)
        writer.write(b"x")
        writer.close()
        self.assertEqual(repr(writer.transport), f"<Tunnel closing {over}half-closed (local)>>")
        peer.window(1, 1)
        await writer.wait_closed()
        self.assertEqual(repr(writer.transport), f"<Tunnel closed {over}half-closed (local)>>")


def mock_tls() -> Any:
    """Return what stands for the TLS of the connection below."""

    class Chosen:
        def selected_alpn_protocol(self) -> str:
            return "h2"

    return Chosen()


class TestTls(TunnelCase):
    # uvloop's start_tls() takes nothing but sockets
    loop_factory = asyncio.SelectorEventLoop

    async def test_by_the_writers(self) -> None:
        near, far = await self.streams()
        (reader, writer), (far_reader, far_writer) = self.on(near), self.on(far)
        await asyncio.gather(
            writer.start_tls(client_context(), server_hostname="b.test"),
            far_writer.start_tls(server_context()),
        )
        inner = writer.get_extra_info("ssl_object")
        self.assertEqual(inner.getpeercert()["subjectAltName"][0], ("DNS", "b.test"))
        self.assertIs(writer.get_extra_info("stream"), near)
        body = bytes(range(256)) * 4096
        far_writer.write(body)
        _, found = await asyncio.gather(far_writer.drain(), reader.readexactly(len(body)))
        self.assertEqual(found, body)
        writer.write(b"bye")
        self.assertEqual(await far_reader.readexactly(3), b"bye")
        writer.close()
        self.assertEqual(await far_reader.read(), b"")
        far_writer.close()
        await asyncio.gather(writer.wait_closed(), far_writer.wait_closed())
        await settle()
        for stream in (near, far):
            self.assertTrue(stream.is_complete)
            self.assertIsNone(stream.failure)

    async def test_by_the_loop(self) -> None:
        """With protocols of somebody's own."""
        near, far = await self.streams()
        loop = asyncio.get_running_loop()
        echoed: asyncio.Future[bytes] = loop.create_future()

        class Echo(asyncio.Protocol):
            def __init__(self) -> None:
                self.transport: Any = None

            def data_received(self, data: bytes) -> None:
                self.transport.write(data[::-1])

        class Asker(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                echoed.set_result(data)

        async def start(stream: aioh2.H2Stream, protocol: Any, context: Any, **more: Any) -> Any:
            _, writer = self.on(stream)
            return await loop.start_tls(writer.transport, protocol, context, **more)

        echo = Echo()
        mine, echo.transport = await asyncio.gather(
            start(near, Asker(), client_context(), server_hostname="b.test"),
            start(far, echo, server_context(), server_side=True),
        )
        mine.write(b"abc")
        self.assertEqual(await echoed, b"cba")
        mine.close()
        await settle()

    async def test_certificate_that_is_not_trusted(self) -> None:
        (_, writer), (_, far_writer) = await self.tunnel()
        results = await asyncio.gather(
            writer.start_tls(ssl.create_default_context(), server_hostname="b.test"),
            far_writer.start_tls(server_context()),
            return_exceptions=True,
        )
        self.assertIsInstance(results[0], ssl.SSLCertVerificationError)
        self.assertIsInstance(results[1], (ssl.SSLError, OSError))

    async def test_reset_in_the_handshake(self) -> None:
        peer, stream = await self.client()
        _, writer = self.on(stream)
        task = await self.waiting(writer.start_tls(client_context(), server_hostname="b.test"))
        peer.reset(1, ErrorCodes.CONNECT_ERROR)
        with self.assertRaises(aioh2.StreamReset):
            await task


class TestInside(TunnelCase):
    """HTTP/2 in a tunnel through HTTP/2."""

    loop_factory = asyncio.SelectorEventLoop

    def put(self, stream: aioh2.H2Stream, protocol: aioh2.H2Protocol) -> aioh2.H2Protocol:
        _, writer = self.on(stream)
        writer.transport.set_protocol(protocol)
        protocol.connection_made(writer.transport)
        self.at_the_end(protocol.abort)
        return protocol

    async def exchange(self, client: aioh2.H2Protocol, server: aioh2.H2Protocol) -> None:
        """Have a body echoed in a stream of the inner connection."""

        async def handler(stream: aioh2.H2Stream) -> None:
            await stream.start_response(RESPONSE)
            async for chunk in stream:
                await stream.send_data(chunk)

        serving = asyncio.ensure_future(server.serve(handler))
        self.addCleanup(serving.cancel)
        await client.wait_open()
        body = bytes(range(256)) * 2048
        async with client.open_stream(POST) as stream:
            _, found = await asyncio.gather(
                stream.send_data(body, end_stream=True), stream.read(-1)
            )
        self.assertEqual(found, body)
        self.assertEqual(await client.shutdown(), (0, 0))
        await server.wait_closed()
        await serving

    async def test_plain(self) -> None:
        near, far = await self.streams()
        inner = self.put(near, aioh2.H2Protocol(True)), self.put(far, aioh2.H2Protocol(False))
        await self.exchange(*inner)
        await settle()
        for stream in (near, far):
            self.assertTrue(stream.is_complete)
            self.assertIsNone(stream.failure)
            self.assertFalse(stream.protocol.is_closing)

    async def test_over_tls(self) -> None:
        near, far = await self.streams()
        loop = asyncio.get_running_loop()

        async def start(
            stream: aioh2.H2Stream, protocol: aioh2.H2Protocol, context: Any, **more: Any
        ) -> aioh2.H2Protocol:
            _, writer = self.on(stream)
            transport = await loop.start_tls(writer.transport, protocol, context, **more)
            assert transport is not None
            protocol.connection_made(transport)
            self.at_the_end(protocol.abort)
            return protocol

        client, server = await asyncio.gather(
            start(near, aioh2.H2Protocol(True), client_context("h2"), server_hostname="b.test"),
            start(far, aioh2.H2Protocol(False), server_context("h2"), server_side=True),
        )
        self.assertEqual(client.scheme, "https")
        await self.exchange(client, server)

    async def test_the_outer_one_is_lost(self) -> None:
        near, far = await self.streams()
        inner = self.put(near, aioh2.H2Protocol(True)), self.put(far, aioh2.H2Protocol(False))
        await inner[0].wait_open()
        stream = await inner[0].open_stream(POST)
        task = await self.waiting(stream.recv_response())
        far.protocol.close_connection()
        with self.assertRaises(aioh2.ConnectionClosed):
            await task
        await asyncio.gather(*(end.wait_closed() for end in inner))


class TestSockets(Case):
    loop_factory = asyncio.SelectorEventLoop

    async def test_a_proxy_to_a_tls_server(self) -> None:
        """A client, a CONNECT proxy, and a server that knows of neither."""

        async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while line := await reader.readline():
                writer.write(line.upper())
                await writer.drain()
            writer.close()
            await writer.wait_closed()

        async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
            writer.write_eof()

        async def connect(stream: aioh2.H2Stream) -> None:
            host, _, port = dict(stream.request_headers)[":authority"].partition(":")
            target = await asyncio.open_connection(host, int(port))
            await stream.start_response(RESPONSE)
            tunnel = stream.as_reader_writer()
            await asyncio.gather(pump(tunnel[0], target[1]), pump(target[0], tunnel[1]))
            for _, writer in (tunnel, target):
                writer.close()
                await writer.wait_closed()

        server = await asyncio.start_server(shout, "127.0.0.1", 0, ssl=server_context())
        proxy = await aioh2.start_server(
            lambda protocol: protocol.serve(connect), "127.0.0.1", 0, ssl=server_context()
        )
        async with server, proxy:
            port = server.sockets[0].getsockname()[1]
            at = proxy.sockets[0].getsockname()[1]
            async with aioh2.open_connection("127.0.0.1", at, ssl=client_context()) as client:
                request = {":method": "CONNECT", ":authority": f"127.0.0.1:{port}"}
                stream = await client.open_stream(request)
                self.assertEqual(await stream.recv_response(), [(":status", "200")])
                reader, writer = stream.as_reader_writer()
                await writer.start_tls(client_context(), server_hostname="localhost")
                outer, inner = client.get_extra_info("ssl_object"), writer.get_extra_info
                self.assertIsNot(inner("ssl_object"), outer)
                self.assertEqual(inner("peername"), client.get_extra_info("peername"))
                for line in (b"hello\n", b"x" * 50_000 + b"\n"):
                    writer.write(line)
                    await writer.drain()
                    self.assertEqual(await reader.readline(), line.upper())
                writer.close()
                await writer.wait_closed()
                self.assertEqual(await stream.recv_trailers(), [])
                self.assertIsNone(stream.failure)


if __name__ == "__main__":
    unittest.main()
