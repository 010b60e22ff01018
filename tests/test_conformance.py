"""RFC 9113 and RFC 7541 section by section, against a server and a client with a scripted peer.

For each rule: the error code, and whether it costs the stream (RST_STREAM, and the connection
answers another request afterwards) or the connection (GOAWAY with last-stream-id, written, then
the transport is closed). Good frames of the same segment count in either case, and nothing gets
to the loop's exception handler or the error log.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import unittest
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

import hpack
from h2.config import H2Configuration
from h2.events import Event, RequestReceived
from h2.settings import ChangedSetting
from hyperframe.frame import (
    DataFrame,
    ExtensionFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import aioh2
from aioh2 import ErrorCodes, SettingCodes
from aioh2.connection import Connection

from .octets import (
    ACK,
    ALTSVC,
    CONNECT,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    LARGEST,
    PADDED,
    PING,
    POST,
    PREFACE,
    PRIORITIZED,
    PRIORITY,
    PUSH_PROMISE,
    REQUEST,
    RESPONSE,
    RST_STREAM,
    SETTINGS,
    TRAILERS,
    UNKNOWN,
    WINDOW_UPDATE,
    Fields,
    cut,
    data,
    goaway,
    headers,
    literal,
    opening,
    ping,
    priority,
    promise,
    raw,
    rst_stream,
    setting,
    string,
    u32,
    window_update,
)
from .wire import Case, MemoryTransport, Peer, settle

NO_ERROR = ErrorCodes.NO_ERROR
PROTOCOL_ERROR = ErrorCodes.PROTOCOL_ERROR
FLOW_CONTROL_ERROR = ErrorCodes.FLOW_CONTROL_ERROR
STREAM_CLOSED = ErrorCodes.STREAM_CLOSED
FRAME_SIZE_ERROR = ErrorCodes.FRAME_SIZE_ERROR
REFUSED_STREAM = ErrorCodes.REFUSED_STREAM
CANCEL = ErrorCodes.CANCEL
COMPRESSION_ERROR = ErrorCodes.COMPRESSION_ERROR
ENHANCE_YOUR_CALM = ErrorCodes.ENHANCE_YOUR_CALM

# What a frame must lead to: None, it is accepted; else what it costs, and the code.
Verdict = tuple[str, ErrorCodes] | None


def costs_stream(code: ErrorCodes) -> Verdict:
    return "stream", code


def costs_connection(code: ErrorCodes) -> Verdict:
    return "connection", code


# --- frames --------------------------------------------------------------------------------


def of(frames: Iterable[Frame], *kinds: type[Frame]) -> list[Any]:
    return [frame for frame in frames if isinstance(frame, kinds)]


def resets(frames: Iterable[Frame]) -> list[tuple[int, int]]:
    return [(frame.stream_id, frame.error_code) for frame in of(frames, RstStreamFrame)]


# --- both sides ----------------------------------------------------------------------------


class Side:
    """An endpoint under test, and the peer that the test plays."""

    def __init__(self, case: unittest.TestCase, peer: Peer) -> None:
        self.case = case
        self.peer = peer
        # Whether anything may have been written since the last frames().
        self._touched = False
        #: The last-stream-id that a GOAWAY has to name.
        self.last = 0

    @property
    def protocol(self) -> aioh2.H2Protocol:
        self._touched = True
        return self.peer.protocol

    def send(self, *frames: bytes) -> None:
        """Send in one segment."""
        self._touched = True
        self.peer.send_bytes(b"".join(frames))

    async def frames(self, *kinds: type[Frame]) -> list[Any]:
        """Return what was written since the last call, of these kinds."""
        if not self._touched:
            return []
        self._touched = False
        return await self.peer.frames(*kinds)

    def early(self) -> bytes:
        """Return a good frame to go before what is tested."""
        raise NotImplementedError

    async def got_early(self) -> None:
        """Check that it has come to the application."""
        raise NotImplementedError

    def late(self) -> bytes:
        """Return a good frame to go after what is tested."""
        raise NotImplementedError

    async def exchange(self, *, late: bool = False) -> None:
        """Check that another request is answered; ``late``: and that the late frame has come."""
        raise NotImplementedError

    async def judged(self, verdict: Verdict, stream_id: int, *frames: bytes) -> None:
        """Check that the frames lead to the verdict."""
        if verdict is None:
            await self.accepts(*frames)
        elif verdict[0] == "stream":
            await self.resets(stream_id, verdict[1], *frames)
        else:
            await self.fails(verdict[1], *frames)

    async def accepts(self, *frames: bytes) -> list[Any]:
        """Check that the frames cost nothing; return what was written."""
        return await self._survives([], *frames)

    async def resets(self, stream_id: int, code: ErrorCodes, *frames: bytes) -> list[Any]:
        """Check that the frames cost the stream, and nothing else."""
        return await self._survives([(stream_id, code)], *frames)

    async def _survives(self, expected: list[tuple[int, int]], *frames: bytes) -> list[Any]:
        await self.frames()
        self.send(*frames, self.late())
        written = await self.frames()
        self.case.assertEqual(resets(written), expected)
        self.case.assertEqual(of(written, GoAwayFrame), [])
        self.case.assertFalse(self.peer.transport.closed)
        self.case.assertIsNone(self.peer.protocol.close_reason)
        await self.exchange(late=True)
        return written

    async def fails(self, code: ErrorCodes, *frames: bytes, last: int = 0) -> list[Any]:
        """Check that the frames cost the connection; ``last``: a stream that they open."""
        await self.frames()
        self.send(self.early(), *frames)
        self.last = last or self.last
        written = await self.frames()
        ends = of(written, GoAwayFrame)
        self.case.assertEqual([(f.error_code, f.last_stream_id) for f in ends], [(code, self.last)])
        self.case.assertIs(written[-1], ends[0])
        self.case.assertEqual(resets(written), [])
        self.closed(code)
        await self.got_early()
        self.send(ping(), self.late(), b"\xff" * 100)
        self.case.assertEqual(await self.frames(), [])
        return written

    def closed(self, code: ErrorCodes) -> None:
        """Check that this side has closed the connection."""
        self.case.assertTrue(self.peer.transport.closed)
        self.case.assertFalse(self.peer.transport.aborted)
        self.case.assertTrue(self.protocol.is_closing)
        reason = self.peer.protocol.close_reason
        assert isinstance(reason, aioh2.ConnectionClosed), reason
        self.case.assertEqual(
            (reason.error_code, reason.last_stream_id, reason.initiator), (code, self.last, "local")
        )


class Server(Side):
    """A server under test; what is tested uses streams below 90, or 99 for an idle one."""

    def __init__(self, case: unittest.TestCase, peer: Peer) -> None:
        super().__init__(case, peer)
        self._early = 91
        self._next = 1003

    @classmethod
    async def start(cls, case: unittest.TestCase, **options: Any) -> Server:
        return cls(case, await Peer.of_server(**options))

    def early(self) -> bytes:
        self._early = max(91, self.last + 2)
        self.last = self._early
        return headers(self._early)

    async def got_early(self) -> None:
        await self.request(self._early)

    def late(self) -> bytes:
        self.last = 1001
        return headers(1001)

    async def exchange(self, *, late: bool = False) -> None:
        self.last, self._next = self._next, self._next + 2
        self.send(headers(self.last))
        await self.answers(*[1001] * late, self.last)

    async def request(self, stream_id: int) -> aioh2.HeaderList:
        """Return the request of the stream, as the application gets it."""
        async with asyncio.timeout(5):
            while True:
                got, fields = await self.protocol.recv_request()
                if got == stream_id:
                    return fields

    async def answers(self, *stream_ids: int) -> None:
        """Check that the application gets the requests, and the peer the responses."""
        for stream_id in stream_ids:
            await self.request(stream_id)
            await self.protocol.start_response(stream_id, RESPONSE, end_stream=True)
        written = [f for f in await self.frames(HeadersFrame) if f.stream_id in stream_ids]
        self.case.assertEqual([f.stream_id for f in written], list(stream_ids))
        for frame in written:
            self.case.assertEqual(frame.headers, [(":status", "200")])
            self.case.assertIn("END_STREAM", frame.flags)


class Client(Side):
    """A client under test, with requests out on streams 1, 3 and 5; what is tested uses 1."""

    @classmethod
    async def start(cls, case: unittest.TestCase, fields: Fields = POST, **options: Any) -> Client:
        side = cls(case, await Peer.of_client(**options))
        await side.protocol.start_request(fields)
        for _ in range(2):
            await side.protocol.start_request(REQUEST, end_stream=True)
        await side.frames()
        return side

    def early(self) -> bytes:
        return headers(3, RESPONSE)

    async def got_early(self) -> None:
        await self.got_response(3)

    def late(self) -> bytes:
        return headers(5, RESPONSE)

    async def exchange(self, *, late: bool = False) -> None:
        if late:
            await self.got_response(5)
        async with asyncio.timeout(5):
            stream_id = await self.protocol.start_request(REQUEST, end_stream=True)
        self.case.assertEqual([f.stream_id for f in await self.frames(HeadersFrame)], [stream_id])
        self.send(headers(stream_id, RESPONSE))
        await self.got_response(stream_id)

    async def got_response(self, stream_id: int) -> None:
        async with asyncio.timeout(5):
            self.case.assertEqual(
                await self.protocol.recv_response(stream_id), [(":status", "200")]
            )


class Conformance(Case):
    """A test that fails on a warning or error in the log: what a peer does wrong is INFO."""

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.enterContext(self.assertNoLogs("aioh2", "WARNING"))

    async def server(self, **options: Any) -> Server:
        return await Server.start(self, **options)

    async def client(self, **options: Any) -> Client:
        return await Client.start(self, **options)

    async def sides(self, **options: Any) -> list[Side]:
        return [await self.server(**options), await self.client(**options)]

    async def both_fail(self, code: ErrorCodes, *frames: bytes) -> None:
        """Check that the frames cost a server and a client the connection."""
        for side in await self.sides():
            with self.subTest(side=type(side).__name__):
                await side.fails(code, *frames)

    async def both_accept(self, *frames: bytes) -> None:
        for side in await self.sides():
            with self.subTest(side=type(side).__name__):
                await side.accepts(*frames)


# --- 3.4 and 4 -----------------------------------------------------------------------------


class TestPreface(Conformance):
    """Section 3.4."""

    def refused(self, peer: Peer) -> None:
        written = bytes(peer.transport.written)
        self.assertEqual(written[-17:], goaway(0, PROTOCOL_ERROR))
        self.assertTrue(peer.transport.closed)
        self.assertFalse(peer.transport.aborted)
        self.assertIsInstance(peer.protocol.close_reason, aioh2.HandshakeError)

    def connect(self, *, client: bool) -> Peer:
        peer = Peer(aioh2.H2Protocol(client))
        peer.protocol.connection_made(peer.transport)
        return peer

    async def test_ours(self) -> None:
        for client, preface in ((True, PREFACE), (False, b"")):
            with self.subTest(client=client):
                peer = self.connect(client=client)
                self.assertTrue(peer.transport.written.startswith(preface))
                first = await peer.frames()
                self.assertIsInstance(first[0], SettingsFrame)
                self.assertNotIn("ACK", first[0].flags)
                # section 6.5.2: a server does not set ENABLE_PUSH
                push = first[0].settings.get(SettingCodes.ENABLE_PUSH)
                self.assertEqual(push, 0 if client else None)
                peer.lose()

    async def test_every_wrong_octet(self) -> None:
        for at in range(len(PREFACE)):
            with self.subTest(at=at):
                peer = self.connect(client=False)
                peer.send_bytes(PREFACE[:at] + bytes([PREFACE[at] ^ 0x20]) + PREFACE[at + 1 :])
                self.refused(peer)

    async def test_refused_as_soon_as_it_shows(self) -> None:
        for first in (b"G", b"PRI * HTTP/1", b"\x16\x03\x01\x02\x00\x01", b"\x00", b"\xff"):
            with self.subTest(first=first):
                peer = self.connect(client=False)
                peer.send_bytes(first)
                self.refused(peer)

    async def test_http_1(self) -> None:
        peer = self.connect(client=False)
        peer.send_bytes(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        self.refused(peer)
        self.assertIn("HTTP/1", str(peer.protocol.close_reason))
        peer = self.connect(client=True)
        peer.send_bytes(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        self.refused(peer)
        self.assertIn("HTTP/1", str(peer.protocol.close_reason))

    async def test_first_frame(self) -> None:
        cases = {
            "DATA": data(1),
            "HEADERS": headers(1),
            "PRIORITY": priority(1),
            "RST_STREAM": rst_stream(1),
            "SETTINGS ACK": raw(SETTINGS, ACK),
            "SETTINGS on a stream": raw(SETTINGS, 0, 1),
            "PUSH_PROMISE": promise(1, 2),
            "PING": ping(),
            "GOAWAY": goaway(0),
            "WINDOW_UPDATE": window_update(0),
            "CONTINUATION": raw(CONTINUATION, END_HEADERS, 1),
            "unknown": raw(UNKNOWN, 0, 0, b"x"),
        }
        for (what, frame), client in itertools.product(cases.items(), (False, True)):
            with self.subTest(what, client=client):
                peer = self.connect(client=client)
                peer.send_bytes((b"" if client else PREFACE) + frame)
                self.refused(peer)

    async def test_bad_settings_first(self) -> None:
        for frame, code in (
            (raw(SETTINGS, 0, 0, b"12345"), FRAME_SIZE_ERROR),
            (setting((SettingCodes.INITIAL_WINDOW_SIZE, 2**31)), FLOW_CONTROL_ERROR),
            (raw(SETTINGS, 0, 0, b"\0" * 16386), FRAME_SIZE_ERROR),
        ):
            for client in (False, True):
                with self.subTest(code=code, client=client):
                    peer = self.connect(client=client)
                    peer.send_bytes((b"" if client else PREFACE) + frame)
                    self.assertTrue(peer.transport.written.endswith(goaway(0, code)))
                    self.assertTrue(peer.transport.closed)

    async def test_may_be_cut_anywhere(self) -> None:
        start = PREFACE + setting()
        for at in range(len(start) + 1):
            with self.subTest(at=at):
                peer = self.connect(client=False)
                await peer.frames()
                peer.send_bytes(start[:at])
                peer.send_bytes(start[at:])
                self.assertEqual([f.flags for f in await peer.frames()], [{"ACK"}])
                peer.lose()

    async def test_requests_may_follow_at_once(self) -> None:
        peer = self.connect(client=False)
        peer.send_bytes(PREFACE + setting() + headers(1) + raw(SETTINGS, ACK))
        server = Server(self, peer)
        await server.answers(1)

    async def test_settings_are_acknowledged_after_ours(self) -> None:
        peer = self.connect(client=True)
        peer.send_bytes(setting())
        acks = ["ACK" in f.flags for f in await peer.frames(SettingsFrame)]
        self.assertEqual(acks, [False, True])
        peer.lose()


class TestFrameFormat(Conformance):
    """Section 4.1."""

    async def test_unknown_types(self) -> None:
        unknown = range(0x0B, 0x100, 7)
        for stream_id in (0, 1, 99, LARGEST):
            with self.subTest(stream_id=stream_id):
                await self.both_accept(
                    *(raw(kind, kind, stream_id, b"x" * (kind % 9)) for kind in unknown)
                )

    async def test_undefined_flags(self) -> None:
        frames = [
            raw(DATA, 0xF6, 1, b"xx"),
            raw(DATA, 0xFE, 1, b"\x01x\0"),
            raw(PRIORITY, 0xFF, 99, u32(0) + b"\x0f"),
            raw(SETTINGS, 0xFE),
            raw(WINDOW_UPDATE, 0xFF, 0, u32(1)),
            raw(WINDOW_UPDATE, 0xFF, 1, u32(1)),
            raw(PING, 0xFE, 0, b"12345678"),
            raw(RST_STREAM, 0xFF, 1, u32(CANCEL)),
        ]
        server = await self.server()
        await server.accepts(raw(HEADERS, 0xD6, 1, literal(POST)), *frames)
        client = await self.client()
        await client.accepts(raw(HEADERS, 0xD6, 1, literal(RESPONSE)), *frames)

    async def test_goaway_flags(self) -> None:
        server = await self.server()
        server.send(opening(1), raw(GOAWAY, 0xFF, 0, u32(0, 0)), data(1, end=True))
        await server.answers(1)

    async def test_continuation_flags(self) -> None:
        block = literal(REQUEST)
        server = await self.server()
        await server.accepts(
            raw(HEADERS, END_STREAM, 1, block[:9]),
            raw(CONTINUATION, 0xFB, 1, block[9:20]),
            raw(CONTINUATION, 0xFF, 1, block[20:]),
        )

    async def test_reserved_bit_of_the_stream_id(self) -> None:
        bit = 2**31
        server = await self.server()
        await server.accepts(
            raw(HEADERS, END_HEADERS, bit | 1, literal(POST)),
            raw(DATA, 0, bit | 1, b"xx"),
            raw(SETTINGS, 0, bit),
            raw(PING, 0, bit, b"12345678"),
            raw(WINDOW_UPDATE, 0, bit, u32(1)),
            raw(WINDOW_UPDATE, 0, bit | 1, u32(1)),
            raw(PRIORITY, 0, bit | 1, u32(0) + b"\x0f"),
            raw(HEADERS, END_STREAM, bit | 1, literal(TRAILERS)),
            raw(CONTINUATION, END_HEADERS, bit | 1),
            raw(RST_STREAM, 0, bit | 1, u32(CANCEL)),
        )


class TestFrameSize(Conformance):
    """Section 4.2."""

    async def test_largest(self) -> None:
        server = await self.server()
        await server.accepts(opening(1), data(1, b"x" * 16384, end=True))
        server = await self.server()
        filler = [(b"x" * 100, b"y" * 16000)]
        block = literal([*REQUEST, *filler])[:16384]
        self.assertLess(len(block), 16384)
        padding = 16384 - 1 - len(block)
        await server.accepts(
            raw(
                HEADERS,
                END_STREAM | END_HEADERS | PADDED,
                1,
                bytes([padding]) + block + bytes(padding),
            )
        )

    async def test_too_large_is_refused_by_its_header(self) -> None:
        for kind in (*range(10), ALTSVC, UNKNOWN):
            for length in (16385, 2**24 - 1):
                header = raw(kind, 0, 1)[3:]
                with self.subTest(kind=kind, length=length):
                    await self.both_fail(FRAME_SIZE_ERROR, length.to_bytes(3, "big") + header)

    async def test_a_larger_limit_holds_from_its_ack(self) -> None:
        peer = Peer(aioh2.H2Protocol(False, max_frame_size=32768))
        peer.protocol.connection_made(peer.transport)
        peer.send_bytes(PREFACE + setting())
        server = Server(self, peer)
        server.send(raw(SETTINGS, ACK))
        await server.accepts(opening(1), data(1, b"x" * 32768))
        await server.fails(FRAME_SIZE_ERROR, data(1, b"x" * 32769))

    async def test_before_its_ack(self) -> None:
        peer = Peer(aioh2.H2Protocol(False, max_frame_size=32768))
        peer.protocol.connection_made(peer.transport)
        peer.send_bytes(PREFACE + setting())
        oversized = data(93, b"x" * 16385)[:9]
        await Server(self, peer).fails(FRAME_SIZE_ERROR, opening(93), oversized, last=93)

    async def test_too_small(self) -> None:
        cases = {
            "DATA without pad length": raw(DATA, PADDED, 1),
            "HEADERS without pad length": raw(HEADERS, PADDED | END_HEADERS, 1),
            "HEADERS without priority": raw(HEADERS, PRIORITIZED | END_HEADERS, 1, b"1234"),
            "HEADERS without either": raw(HEADERS, PRIORITIZED | PADDED, 1, b"\x00" * 5),
            "PUSH_PROMISE without an id": raw(PUSH_PROMISE, END_HEADERS, 1, b"123"),
            "PUSH_PROMISE without anything": raw(PUSH_PROMISE, END_HEADERS, 1),
            "PUSH_PROMISE with pad length only": raw(PUSH_PROMISE, PADDED, 1, b"\x00\0\0\2"),
            "RST_STREAM": raw(RST_STREAM, 0, 1, b"123"),
            "SETTINGS": raw(SETTINGS, 0, 0, b"12345"),
            "PING": raw(PING, 0, 0, b"1234567"),
            "GOAWAY": raw(GOAWAY, 0, 0, b"1234567"),
            "WINDOW_UPDATE": raw(WINDOW_UPDATE, 0, 0, b"123"),
        }
        for what, frame in cases.items():
            with self.subTest(what):
                server = await self.server()
                server.send(opening(1))
                await server.fails(FRAME_SIZE_ERROR, frame)
                client = await self.client(enable_push=True)
                await client.fails(FRAME_SIZE_ERROR, frame)


class TestFieldBlocks(Conformance):
    """Sections 4.3 and 6.10: one block, one sequence of frames."""

    BLOCK = literal(REQUEST)

    async def test_cut_anywhere(self) -> None:
        for at in range(len(self.BLOCK) + 1):
            with self.subTest(at=at):
                server = await self.server()
                server.send(
                    raw(HEADERS, END_STREAM, 1, self.BLOCK[:at]),
                    raw(CONTINUATION, END_HEADERS, 1, self.BLOCK[at:]),
                )
                self.assertEqual(len(await server.request(1)), 4)
                server.peer.lose()

    async def test_octet_by_octet(self) -> None:
        block = hpack.Encoder().encode(REQUEST)
        self.assertLess(len(block), 32)
        frames = [raw(CONTINUATION, 0, 1, bytes([octet])) for octet in block]
        server = await self.server()
        await server.accepts(
            raw(HEADERS, END_STREAM, 1), *frames, raw(CONTINUATION, END_HEADERS, 1)
        )

    async def test_response_trailers_and_promise(self) -> None:
        client = await self.client(enable_push=True)
        block = u32(2) + self.BLOCK
        await client.accepts(
            raw(PUSH_PROMISE, 0, 1, block[:9]),
            raw(CONTINUATION, END_HEADERS, 1, block[9:]),
            raw(HEADERS, 0, 1),
            raw(CONTINUATION, END_HEADERS, 1, literal(RESPONSE)),
            data(1),
            raw(HEADERS, END_STREAM, 1, literal(TRAILERS)[:3]),
            raw(CONTINUATION, END_HEADERS, 1, literal(TRAILERS)[3:]),
        )
        self.assertEqual(await client.protocol.recv_trailers(1), [("checksum", "0")])
        pushed = await client.protocol.recv_push(1)
        assert pushed is not None
        self.assertEqual(pushed[0], 2)

    INTERLOPERS: Final = {
        "DATA": data(93),
        "HEADERS": headers(93),
        "HEADERS of another stream": headers(95),
        "PRIORITY": priority(93),
        "PRIORITY of wrong length": raw(PRIORITY, 0, 93, b"1234"),
        "RST_STREAM": rst_stream(93),
        "SETTINGS": setting(),
        "PUSH_PROMISE": promise(93, 2),
        "PING": ping(),
        "GOAWAY": goaway(0),
        "WINDOW_UPDATE": window_update(0),
        "WINDOW_UPDATE of zero": window_update(93, 0),
        "CONTINUATION of another stream": raw(CONTINUATION, END_HEADERS, 95),
        "CONTINUATION on stream 0": raw(CONTINUATION, END_HEADERS, 0),
        "unknown": raw(UNKNOWN, 0, 93, b"x"),
        "unknown on stream 0": raw(UNKNOWN),
    }

    async def test_interrupted(self) -> None:
        begun = raw(HEADERS, END_STREAM, 93, self.BLOCK[:7])
        for what, frame in self.INTERLOPERS.items():
            with self.subTest(what):
                await (await self.server()).fails(PROTOCOL_ERROR, begun, frame)
            with self.subTest(what, after="CONTINUATION"):
                more = raw(CONTINUATION, 0, 93, self.BLOCK[7:9])
                await (await self.server()).fails(PROTOCOL_ERROR, begun, more, frame)

    async def test_interrupted_at_a_client(self) -> None:
        for kind, block in (
            (HEADERS, literal(RESPONSE)[:4]),
            (PUSH_PROMISE, u32(2) + self.BLOCK[:7]),
        ):
            for what, frame in self.INTERLOPERS.items():
                with self.subTest(what, kind=kind):
                    client = await self.client(enable_push=True)
                    await client.fails(PROTOCOL_ERROR, raw(kind, 0, 1, block), frame)

    async def test_interrupted_is_seen_before_the_frame_is_there(self) -> None:
        server = await self.server()
        await server.fails(
            PROTOCOL_ERROR, raw(HEADERS, END_STREAM, 93, self.BLOCK[:7]), data(93)[:9]
        )

    async def test_continuation_of_nothing(self) -> None:
        before: dict[str, list[bytes]] = {
            "nothing": [],
            "HEADERS": [headers(93)],
            "DATA": [opening(93), data(93)],
            "CONTINUATION": [
                raw(HEADERS, END_STREAM, 93, self.BLOCK),
                raw(CONTINUATION, END_HEADERS, 93),
            ],
        }
        for what, frames in before.items():
            with self.subTest(what):
                server = await self.server()
                await server.fails(
                    PROTOCOL_ERROR,
                    *frames,
                    raw(CONTINUATION, END_HEADERS, 93, b"\x82"),
                    last=93 if frames else 91,
                )

    async def test_continuation_on_stream_0(self) -> None:
        await self.both_fail(PROTOCOL_ERROR, raw(CONTINUATION, END_HEADERS, 0))


class TestCompressionContext(Conformance):
    """Section 4.3: what is discarded still counts for the compression context."""

    NEW: Final = [(b"x-new", b"value")]

    async def remembers(self, server: Server, *frames: bytes) -> list[tuple[int, int]]:
        """Check that the field that the frames put into the table can be used; return resets."""
        await server.frames()
        server.send(*frames)
        # the newest entry of the dynamic table (RFC 7541 section 2.3.3)
        server.send(raw(HEADERS, END_STREAM | END_HEADERS, 61, literal(REQUEST) + b"\xbe"))
        self.assertIn(("x-new", "value"), await server.request(61))
        await server.protocol.start_response(61, RESPONSE, end_stream=True)
        written = await server.frames()
        await server.exchange()
        return resets(written)

    def adding(self, fields: Fields = REQUEST) -> bytes:
        return literal(fields) + b"\x40" + string(b"x-new") + string(b"value")

    async def test_malformed(self) -> None:
        server = await self.server()
        block = self.adding(REQUEST[1:])
        reset = await self.remembers(server, raw(HEADERS, END_STREAM | END_HEADERS, 1, block))
        self.assertEqual(reset, [(1, PROTOCOL_ERROR)])

    async def test_refused(self) -> None:
        server = await self.server(concurrency=1)
        server.send(opening(1), raw(HEADERS, END_STREAM | END_HEADERS, 3, self.adding()))
        self.assertEqual(resets(await server.frames()), [(3, REFUSED_STREAM)])
        await server.request(1)
        await self.remembers(server, rst_stream(1))

    async def test_depends_on_itself(self) -> None:
        server = await self.server()
        payload = u32(1) + b"\x0f" + self.adding()
        reset = await self.remembers(server, raw(HEADERS, END_HEADERS | PRIORITIZED, 1, payload))
        self.assertEqual(reset, [(1, PROTOCOL_ERROR)])

    async def test_on_a_stream_that_we_reset(self) -> None:
        server = await self.server()
        server.send(opening(1))
        server.protocol.reset_stream(1)
        await server.frames()
        reset = await self.remembers(
            server, raw(HEADERS, END_STREAM | END_HEADERS, 1, self.adding(TRAILERS))
        )
        self.assertEqual(reset, [])

    async def test_on_a_stream_that_has_ended(self) -> None:
        server = await self.server()
        server.send(headers(1))
        frame = raw(HEADERS, END_STREAM | END_HEADERS, 1, self.adding())
        self.assertEqual(await self.remembers(server, frame), [(1, STREAM_CLOSED)])

    async def test_after_rst_stream(self) -> None:
        server = await self.server()
        server.send(opening(1), rst_stream(1))
        frame = raw(HEADERS, END_STREAM | END_HEADERS, 1, self.adding())
        self.assertEqual(await self.remembers(server, frame), [(1, STREAM_CLOSED)])

    async def test_refused_promise(self) -> None:
        client = await self.client(enable_push=True, concurrency=0)
        payload = u32(2) + self.adding()
        client.send(
            raw(PUSH_PROMISE, END_HEADERS, 1, payload),
            raw(HEADERS, END_HEADERS, 1, literal(RESPONSE) + b"\xbe"),
        )
        self.assertEqual(resets(await client.frames()), [(2, REFUSED_STREAM)])
        self.assertEqual((await client.protocol.recv_response(1))[-1], ("x-new", "value"))

    async def test_promise_on_a_stream_that_we_reset(self) -> None:
        client = await self.client(enable_push=True)
        client.protocol.reset_stream(1)
        await client.frames()
        client.send(
            raw(PUSH_PROMISE, END_HEADERS, 1, u32(2) + self.adding()),
            raw(HEADERS, END_HEADERS, 3, literal(RESPONSE) + b"\xbe"),
        )
        self.assertEqual(resets(await client.frames()), [(2, REFUSED_STREAM)])
        self.assertEqual((await client.protocol.recv_response(3))[-1], ("x-new", "value"))

    async def test_beyond_goaway(self) -> None:
        server = await self.server()
        server.send(opening(1))
        await draining(server)
        server.send(
            raw(HEADERS, END_STREAM | END_HEADERS, 3, self.adding()),
            raw(HEADERS, END_STREAM | END_HEADERS, 1, literal(TRAILERS) + b"\xbe"),
        )
        await server.request(1)
        self.assertEqual((await server.protocol.recv_trailers(1))[-1], ("x-new", "value"))


async def draining(server: Server) -> None:
    """Let the server shut down as far as the final GOAWAY, with a stream left."""
    shutdown = asyncio.get_running_loop().create_task(server.protocol.shutdown())
    assert isinstance(server.case, unittest.IsolatedAsyncioTestCase)
    server.case.addCleanup(shutdown.cancel)
    for frame in await server.frames(PingFrame):
        server.send(ping(frame.opaque_data, ACK))
    assert len(await server.frames(GoAwayFrame)) == 1


# --- 5 -------------------------------------------------------------------------------------

Setup = Callable[[Any], Awaitable[int]]

# What is wrong on any stream.
ALWAYS: Final[dict[str, Verdict]] = {
    "PRIORITY": None,
    "SETTINGS": costs_connection(PROTOCOL_ERROR),
    "PING": costs_connection(PROTOCOL_ERROR),
    "GOAWAY": costs_connection(PROTOCOL_ERROR),
    "CONTINUATION": costs_connection(PROTOCOL_ERROR),
    "unknown": None,
    "ALTSVC": None,
}
NO_SUCH: Final[dict[str, Verdict]] = {
    "DATA": costs_connection(PROTOCOL_ERROR),
    "HEADERS": costs_connection(PROTOCOL_ERROR),
    "trailers": costs_connection(PROTOCOL_ERROR),
    "RST_STREAM": costs_connection(PROTOCOL_ERROR),
    "WINDOW_UPDATE": costs_connection(PROTOCOL_ERROR),
    "PUSH_PROMISE": costs_connection(PROTOCOL_ERROR),
}
HALF_CLOSED: Final[dict[str, Verdict]] = {
    "DATA": costs_stream(STREAM_CLOSED),
    "HEADERS": costs_stream(STREAM_CLOSED),
    "trailers": costs_stream(STREAM_CLOSED),
    "RST_STREAM": None,
    "WINDOW_UPDATE": None,
    "PUSH_PROMISE": costs_connection(PROTOCOL_ERROR),
}
ENDED: Final[dict[str, Verdict]] = {
    **HALF_CLOSED,
    "DATA": costs_connection(STREAM_CLOSED),
    "HEADERS": costs_connection(STREAM_CLOSED),
    "trailers": costs_connection(STREAM_CLOSED),
}
IGNORED: Final[dict[str, Verdict]] = {
    "DATA": None,
    "HEADERS": None,
    "trailers": None,
    "RST_STREAM": None,
    "WINDOW_UPDATE": None,
    "PUSH_PROMISE": costs_connection(PROTOCOL_ERROR),
}


def frames_on(stream_id: int, message: Fields) -> dict[str, bytes]:
    """Return a frame of each type on the stream."""
    return {
        "DATA": data(stream_id),
        "HEADERS": headers(stream_id, message),
        "trailers": headers(stream_id, TRAILERS),
        "PRIORITY": priority(stream_id),
        "RST_STREAM": rst_stream(stream_id),
        "SETTINGS": raw(SETTINGS, 0, stream_id),
        "PUSH_PROMISE": promise(stream_id, 8),
        "PING": raw(PING, 0, stream_id, b"12345678"),
        "GOAWAY": raw(GOAWAY, 0, stream_id, u32(0, 0)),
        "WINDOW_UPDATE": window_update(stream_id),
        "CONTINUATION": raw(CONTINUATION, END_HEADERS, stream_id, b"\x82"),
        "unknown": raw(UNKNOWN, 0xFF, stream_id, b"xyz"),
        "ALTSVC": raw(ALTSVC, 0, stream_id, b"\x00\x00h2=':443'"),
    }


class TestStatesOfServer(Conformance):
    """Section 5.1: every frame type in every state, at a server."""

    async def check(self, setup: Setup, verdicts: dict[str, Verdict]) -> None:
        wanted = {**ALWAYS, **verdicts}
        for what in wanted:
            with self.subTest(what):
                server = await self.server()
                stream_id = await setup(server)
                frame = frames_on(stream_id, REQUEST)[what]
                await server.judged(wanted[what], stream_id, frame)
                server.peer.lose()

    async def test_idle(self) -> None:
        async def idle(server: Server) -> int:
            return 99

        verdicts = {**NO_SUCH, "HEADERS": None, "trailers": costs_stream(PROTOCOL_ERROR)}
        await self.check(idle, verdicts)

    async def test_idle_of_the_server(self) -> None:
        async def idle(server: Server) -> int:
            return 98

        await self.check(idle, NO_SUCH)

    async def open(self, server: Server) -> int:
        server.send(opening(1))
        return 1

    OPEN: Final[dict[str, Verdict]] = {
        **IGNORED,
        # pseudo-header fields in trailers
        "HEADERS": costs_stream(PROTOCOL_ERROR),
    }

    async def test_open(self) -> None:
        await self.check(self.open, self.OPEN)

    async def test_half_closed_local(self) -> None:
        async def answered(server: Server) -> int:
            await self.open(server)
            await server.protocol.start_response(1, RESPONSE, end_stream=True)
            return 1

        await self.check(answered, self.OPEN)

    async def half_closed_remote(self, server: Server) -> int:
        server.send(headers(1))
        return 1

    async def test_half_closed_remote(self) -> None:
        await self.check(self.half_closed_remote, HALF_CLOSED)

    async def test_half_closed_remote_while_responding(self) -> None:
        async def responding(server: Server) -> int:
            await self.half_closed_remote(server)
            await server.protocol.start_response(1, RESPONSE)
            return 1

        await self.check(responding, HALF_CLOSED)

    async def test_closed(self) -> None:
        async def closed(server: Server) -> int:
            await self.half_closed_remote(server)
            await server.protocol.start_response(1, RESPONSE, end_stream=True)
            return 1

        await self.check(closed, ENDED)

    async def test_closed_by_the_peers_end(self) -> None:
        async def closed(server: Server) -> int:
            await self.open(server)
            await server.protocol.start_response(1, RESPONSE, end_stream=True)
            server.send(data(1, end=True))
            return 1

        await self.check(closed, ENDED)

    async def test_closed_by_the_peers_reset(self) -> None:
        async def reset(server: Server) -> int:
            server.send(opening(1), rst_stream(1))
            return 1

        await self.check(reset, HALF_CLOSED)

    async def test_closed_by_our_reset(self) -> None:
        async def reset(server: Server) -> int:
            await self.open(server)
            server.protocol.reset_stream(1)
            return 1

        await self.check(reset, IGNORED)

    async def test_closed_by_our_reset_long_ago(self) -> None:
        async def reset(server: Server) -> int:
            await self.open(server)
            server.protocol.reset_stream(1)
            server.send(headers(3))
            await server.answers(3)
            return 1

        await self.check(reset, IGNORED)

    async def test_closed_by_a_stream_error(self) -> None:
        async def malformed(server: Server) -> int:
            server.send(headers(1, REQUEST[1:], END_HEADERS))
            return 1

        await self.check(malformed, IGNORED)

    async def test_closed_by_a_stream_error_later(self) -> None:
        async def malformed(server: Server) -> int:
            server.send(opening(1, [*POST, (b"content-length", b"1")]), data(1))
            return 1

        await self.check(malformed, IGNORED)

    async def test_refused(self) -> None:
        async def refused(server: Server) -> int:
            server.protocol.max_concurrent_streams = 1
            server.send(raw(SETTINGS, ACK), opening(1), opening(3), rst_stream(1))
            await server.request(1)
            server.protocol.max_concurrent_streams = 100
            server.send(raw(SETTINGS, ACK))
            self.assertEqual(resets(await server.frames()), [(3, REFUSED_STREAM)])
            return 3

        await self.check(refused, IGNORED)

    async def test_skipped(self) -> None:
        async def skipped(server: Server) -> int:
            server.send(headers(3))
            return 1

        verdicts = {
            **ENDED,
            # section 5.1.1: an unexpected identifier
            "HEADERS": costs_connection(PROTOCOL_ERROR),
            "trailers": costs_connection(PROTOCOL_ERROR),
        }
        await self.check(skipped, verdicts)

    async def push(self, server: Server) -> int:
        await self.half_closed_remote(server)
        self.assertEqual(await server.protocol.push_stream(1, REQUEST), 2)
        return 2

    async def test_reserved_local(self) -> None:
        await self.check(self.push, {**NO_SUCH, "RST_STREAM": None, "WINDOW_UPDATE": None})

    async def test_pushing(self) -> None:
        async def pushing(server: Server) -> int:
            await self.push(server)
            await server.protocol.start_response(2, RESPONSE)
            return 2

        await self.check(pushing, HALF_CLOSED)

    async def test_pushed(self) -> None:
        async def pushed(server: Server) -> int:
            await self.push(server)
            await server.protocol.start_response(2, RESPONSE, end_stream=True)
            return 2

        await self.check(pushed, ENDED)

    async def test_push_that_the_peer_has_reset(self) -> None:
        async def reset(server: Server) -> int:
            await self.push(server)
            server.send(rst_stream(2))
            return 2

        await self.check(reset, HALF_CLOSED)


class TestStatesOfClient(Conformance):
    """Section 5.1: every frame type in every state, at a client."""

    async def check(
        self, setup: Setup, verdicts: dict[str, Verdict], message: Fields = RESPONSE
    ) -> None:
        wanted = {**ALWAYS, **verdicts}
        for what in wanted:
            with self.subTest(what):
                client = await self.client(enable_push=True)
                stream_id = await setup(client)
                frame = frames_on(stream_id, message)[what]
                await client.judged(wanted[what], stream_id, frame)
                client.peer.lose()

    async def test_idle(self) -> None:
        async def idle(client: Client) -> int:
            return 99

        await self.check(idle, NO_SUCH)

    async def test_idle_of_the_server(self) -> None:
        async def idle(client: Client) -> int:
            return 98

        await self.check(idle, NO_SUCH)

    async def open(self, client: Client) -> int:
        return 1

    WAITING: Final[dict[str, Verdict]] = {
        **IGNORED,
        "DATA": costs_stream(PROTOCOL_ERROR),
        "trailers": costs_stream(PROTOCOL_ERROR),
        "PUSH_PROMISE": None,
    }
    RECEIVING: Final[dict[str, Verdict]] = {
        **IGNORED,
        "HEADERS": costs_stream(PROTOCOL_ERROR),
        "PUSH_PROMISE": None,
    }

    async def test_open(self) -> None:
        await self.check(self.open, self.WAITING)

    async def test_half_closed_local(self) -> None:
        async def requested(client: Client) -> int:
            await client.protocol.end_stream(1)
            return 1

        await self.check(requested, self.WAITING)

    async def test_open_after_an_interim_response(self) -> None:
        async def interim(client: Client) -> int:
            client.send(opening(1, [(b":status", b"103")]))
            return 1

        await self.check(interim, self.WAITING)

    async def test_open_while_receiving(self) -> None:
        async def receiving(client: Client) -> int:
            client.send(opening(1, RESPONSE))
            return 1

        await self.check(receiving, self.RECEIVING)

    async def test_half_closed_local_while_receiving(self) -> None:
        async def receiving(client: Client) -> int:
            await client.protocol.end_stream(1)
            client.send(opening(1, RESPONSE))
            return 1

        await self.check(receiving, self.RECEIVING)

    async def test_half_closed_remote(self) -> None:
        async def answered(client: Client) -> int:
            client.send(headers(1, RESPONSE))
            return 1

        await self.check(answered, HALF_CLOSED)

    async def test_closed(self) -> None:
        async def closed(client: Client) -> int:
            await client.protocol.end_stream(1)
            client.send(headers(1, RESPONSE))
            return 1

        await self.check(closed, ENDED)

    async def test_closed_by_our_end(self) -> None:
        async def closed(client: Client) -> int:
            client.send(headers(1, RESPONSE))
            await client.protocol.end_stream(1)
            return 1

        await self.check(closed, ENDED)

    async def test_closed_by_the_peers_reset(self) -> None:
        async def reset(client: Client) -> int:
            client.send(rst_stream(1))
            return 1

        await self.check(reset, HALF_CLOSED)

    async def test_closed_by_our_reset(self) -> None:
        async def reset(client: Client) -> int:
            client.protocol.reset_stream(1)
            return 1

        await self.check(reset, {k: v for k, v in IGNORED.items() if k != "PUSH_PROMISE"})

    async def test_promise_after_our_reset(self) -> None:
        """It reserves a stream, which is given up."""
        client = await self.client(enable_push=True)
        client.protocol.reset_stream(1)
        await client.resets(8, REFUSED_STREAM, promise(1, 8))
        for frame in (headers(8, RESPONSE), data(8), rst_stream(8)):
            client.send(frame)
        self.assertEqual(of(await client.frames(), RstStreamFrame, GoAwayFrame), [])
        await client.exchange()

    async def promised(self, client: Client) -> int:
        client.send(promise(1, 2))
        client.last = 2
        return 2

    async def test_reserved_remote(self) -> None:
        await self.check(
            self.promised,
            {
                **NO_SUCH,
                "HEADERS": None,
                "trailers": costs_stream(PROTOCOL_ERROR),
                "RST_STREAM": None,
            },
        )

    async def test_pushed(self) -> None:
        async def pushed(client: Client) -> int:
            await self.promised(client)
            client.send(opening(2, RESPONSE))
            return 2

        await self.check(
            pushed, {**self.RECEIVING, "PUSH_PROMISE": costs_connection(PROTOCOL_ERROR)}
        )

    async def test_push_ended(self) -> None:
        async def ended(client: Client) -> int:
            await self.promised(client)
            client.send(headers(2, RESPONSE))
            return 2

        await self.check(ended, ENDED)

    async def test_push_that_we_have_reset(self) -> None:
        async def reset(client: Client) -> int:
            await self.promised(client)
            client.protocol.reset_stream(2)
            return 2

        await self.check(reset, IGNORED)

    async def test_push_that_the_peer_has_reset(self) -> None:
        async def reset(client: Client) -> int:
            await self.promised(client)
            client.send(rst_stream(2))
            return 2

        await self.check(reset, HALF_CLOSED)


class TestStreamIdentifiers(Conformance):
    """Section 5.1.1."""

    async def test_stream_0(self) -> None:
        for frame in (
            data(0),
            headers(0),
            priority(0),
            rst_stream(0),
            promise(0, 2),
            raw(CONTINUATION, END_HEADERS, 0),
        ):
            with self.subTest(kind=frame[3]):
                await self.both_fail(PROTOCOL_ERROR, frame)

    async def test_lower_than_one_before(self) -> None:
        server = await self.server()
        server.send(headers(201), rst_stream(203 - 2))
        server.last = 201
        await server.fails(PROTOCOL_ERROR, headers(199))

    async def test_lower_than_a_refused_one(self) -> None:
        server = await self.server(concurrency=1)
        server.send(opening(1), opening(5))
        await server.frames()
        server.send(opening(3))
        ends = await server.frames(GoAwayFrame)
        self.assertEqual([(f.error_code, f.last_stream_id) for f in ends], [(PROTOCOL_ERROR, 5)])

    async def test_largest(self) -> None:
        server = await self.server()
        server.send(headers(LARGEST))
        await server.answers(LARGEST)
        server.send(headers(LARGEST - 2))
        ends = await server.frames(GoAwayFrame)
        self.assertEqual([f.last_stream_id for f in ends], [LARGEST])

    async def test_ours(self) -> None:
        client = await self.client()
        for expected in (7, 9, 11):
            self.assertEqual(await client.protocol.start_request(REQUEST), expected)
        server = await self.server()
        server.send(opening(1))
        for expected in (2, 4, 6):
            self.assertEqual(await server.protocol.push_stream(1, REQUEST), expected)

    async def test_promised(self) -> None:
        for promised in (0, 1, 3, 7, 99, 2**31, 2**31 + 7):
            with self.subTest(promised=promised):
                client = await self.client(enable_push=True)
                await client.fails(PROTOCOL_ERROR, promise(1, promised))

    async def test_promised_again_or_lower(self) -> None:
        for promised in (2, 4, 6):
            with self.subTest(promised=promised):
                client = await self.client(enable_push=True)
                client.send(promise(1, 6))
                client.last = 6
                await client.fails(PROTOCOL_ERROR, promise(1, promised))

    async def test_promised_ids_may_be_skipped(self) -> None:
        client = await self.client(enable_push=True)
        await client.accepts(promise(1, 4), promise(1, LARGEST - 1), headers(4, RESPONSE))


class TestConcurrency(Conformance):
    """Section 5.1.2."""

    async def test_beyond_the_limit(self) -> None:
        server = await self.server(concurrency=2)
        server.send(opening(1), headers(3), headers(5), opening(7))
        written = await server.frames()
        self.assertEqual(resets(written), [(5, REFUSED_STREAM), (7, REFUSED_STREAM)])
        await server.answers(1)
        server.send(headers(9))
        self.assertEqual(resets(await server.frames()), [(9, REFUSED_STREAM)])
        server.send(data(1, end=True), headers(11))
        await server.answers(3)
        await server.answers(11)

    async def test_place_of_a_finished_stream(self) -> None:
        """The place is free as soon as the response has ended, flushed or not."""
        server = await self.server(concurrency=1)
        for stream_id in range(1, 21, 2):
            server.send(headers(stream_id))
            await server.request(stream_id)
            await server.protocol.start_response(stream_id, RESPONSE, end_stream=True)
        self.assertEqual(resets(await server.frames()), [])

    async def test_none_at_all(self) -> None:
        server = await self.server(concurrency=0)
        server.send(headers(1), ping())
        written = await server.frames()
        self.assertEqual(resets(written), [(1, REFUSED_STREAM)])
        self.assertEqual(len(of(written, PingFrame)), 1)

    async def test_lowered(self) -> None:
        server = await self.server(concurrency=3)
        server.send(opening(1), opening(3))
        server.protocol.max_concurrent_streams = 1
        server.send(opening(5))
        await server.frames()
        server.send(raw(SETTINGS, ACK), data(5), data(3), opening(7))
        self.assertEqual(resets(await server.frames()), [(7, REFUSED_STREAM)])
        for stream_id in (1, 3, 5):
            await server.answers(stream_id)

    async def test_refused_content_is_credited(self) -> None:
        server = await self.server(concurrency=0, connection_window_size=65535)
        window = Credit(server)
        for stream_id in range(1, 41, 2):
            await window.spend(opening(stream_id), data(stream_id, b"x" * 16384))
        self.assertGreater(window.left, 65535 // 2)

    async def test_promises(self) -> None:
        """A client bounds promises too, although they do not count until they begin."""
        client = await self.client(enable_push=True, concurrency=1)
        await client.resets(4, REFUSED_STREAM, promise(1, 2), promise(1, 4))
        client.send(headers(2, RESPONSE), promise(1, 6), headers(6, RESPONSE))
        self.assertEqual(resets(await client.frames()), [])

    async def test_reserved_streams_do_not_count(self) -> None:
        client = await self.client(enable_push=True, concurrency=1)
        client.send(promise(1, 2), opening(2, RESPONSE))
        client.send(promise(1, 4))
        self.assertEqual(resets(await client.frames()), [(4, REFUSED_STREAM)])


class Credit:
    """The connection window as the peer of an endpoint counts it."""

    def __init__(self, side: Side, size: int = 65535) -> None:
        self._side = side
        self.left = size

    async def spend(self, *frames: bytes) -> list[Any]:
        """Send frames that the window allows, and take the credit that comes back."""
        for frame in frames:
            if frame[3] == DATA:
                self.left -= len(frame) - 9
        assert self.left >= 0, "the credit was lost"
        self._side.send(*frames)
        written = await self._side.frames()
        for update in of(written, WindowUpdateFrame):
            if not update.stream_id:
                self.left += update.window_increment
        assert not of(written, GoAwayFrame)
        return written


# --- 5.4 and 5.5 ---------------------------------------------------------------------------


class TestErrorHandling(Conformance):
    """Section 5.4."""

    async def test_good_frames_before_are_answered(self) -> None:
        server = await self.server()
        written = await server.fails(
            PROTOCOL_ERROR, ping(), setting(), ping(b"abcdefgh"), raw(PING, 0, 1, b"12345678")
        )
        kinds = [type(f) for f in written]
        self.assertEqual(kinds, [PingFrame, SettingsFrame, PingFrame, GoAwayFrame])

    async def test_the_first_error_counts(self) -> None:
        await self.both_fail(FRAME_SIZE_ERROR, raw(PING, 0, 0, b"1"), window_update(0, 0))
        await self.both_fail(PROTOCOL_ERROR, window_update(0, 0), raw(PING, 0, 0, b"1"))

    async def test_every_good_message_before_is_delivered(self) -> None:
        server = await self.server()
        server.send(
            opening(1),
            data(1, b"abc"),
            headers(1, TRAILERS),
            opening(3),
            data(3, b"def"),
            rst_stream(3, CANCEL),
            headers(5),
            window_update(0, 0),
        )
        protocol = server.protocol
        self.assertEqual([(await protocol.recv_request())[0] for _ in range(3)], [1, 3, 5])
        self.assertEqual(await protocol.read_stream(1, -1), b"abc")
        self.assertEqual(await protocol.recv_trailers(1), [("checksum", "0")])
        self.assertEqual(await protocol.read_stream(3), b"def")
        with self.assertRaises(aioh2.StreamReset):
            await protocol.read_stream(3)
        with self.assertRaises(aioh2.ConnectionClosed):
            await protocol.recv_request()

    async def test_every_good_response_before_is_delivered(self) -> None:
        client = await self.client()
        client.send(
            opening(1, [(b":status", b"103")]),
            opening(1, RESPONSE),
            data(1, b"abc"),
            headers(1, TRAILERS),
            headers(3, RESPONSE),
            rst_stream(5, REFUSED_STREAM),
            window_update(0, 0),
        )
        protocol = client.protocol
        self.assertEqual(await protocol.recv_informational(1), [(":status", "103")])
        self.assertEqual(await protocol.recv_response(1), [(":status", "200")])
        self.assertEqual(await protocol.read_stream(1, -1), b"abc")
        self.assertEqual(await protocol.recv_trailers(1), [("checksum", "0")])
        self.assertEqual(await protocol.read_stream(3), b"")
        with self.assertRaises(aioh2.StreamReset) as caught:
            await protocol.recv_response(5)
        self.assertTrue(caught.exception.retryable)

    async def test_what_came_before_would_be_answered(self) -> None:
        """The answers to good frames are not sent once the connection has failed."""
        wrong = window_update(0, 0)
        server = await self.server(connection_window_size=65535)
        content = [data(93, b"x" * 16384)] * 3
        await server.fails(PROTOCOL_ERROR, opening(93), *content, wrong, last=93)
        server = await self.server(initial_window_size=100)
        padded = raw(DATA, PADDED, 93, b"\x3f" + bytes(63))
        await server.fails(PROTOCOL_ERROR, raw(SETTINGS, ACK), opening(93), padded, wrong, last=93)
        client = await self.client()
        await client.protocol.send_data(1, b"x" * 10)
        await client.fails(PROTOCOL_ERROR, goaway(3), window_update(1), setting((4, 9)), wrong)

    async def test_reset_by_a_watcher_of_events(self) -> None:
        class Resetting(aioh2.H2Protocol):
            def event_received(self, event: Event) -> None:
                super().event_received(event)
                if isinstance(event, RequestReceived):
                    self.reset_stream(event.stream_id)

        peer = Peer(Resetting(False))
        peer.protocol.connection_made(peer.transport)
        server = Server(self, peer)
        server.send(PREFACE, setting(), raw(SETTINGS, ACK))
        # each of these streams has ended by the time its request is handled
        server.send(headers(1), rst_stream(1), headers(3), window_update(3, 0), headers(5))
        self.assertEqual(resets(await server.frames()), [(3, PROTOCOL_ERROR), (5, CANCEL)])
        server.send(headers(7), window_update(0, 0))
        ends = await server.frames(GoAwayFrame)
        self.assertEqual([f.error_code for f in ends], [PROTOCOL_ERROR])

    async def test_connection_error_wakes_who_waits(self) -> None:
        server = await self.server()
        server.send(opening(1))
        await server.request(1)
        reading = await self.waiting(server.protocol.read_stream(1))
        accepting = await self.waiting(server.protocol.recv_request())
        server.send(raw(PING, 0, 0, b"1"))
        for task in (reading, accepting):
            with self.assertRaises(aioh2.ConnectionClosed) as caught:
                await task
            self.assertEqual(caught.exception.error_code, FRAME_SIZE_ERROR)
            self.assertEqual(caught.exception.initiator, "local")

    async def test_stream_error_wakes_who_waits(self) -> None:
        server = await self.server()
        server.send(opening(1), opening(3))
        await server.request(1)
        reading = await self.waiting(server.protocol.read_stream(1))
        other = await self.waiting(server.protocol.read_stream(3))
        server.send(window_update(1, 0))
        with self.assertRaises(aioh2.StreamReset) as caught:
            await reading
        self.assertEqual(caught.exception.error_code, PROTOCOL_ERROR)
        self.assertEqual(caught.exception.initiator, "local")
        server.send(data(3, b"abc"))
        self.assertEqual(await other, b"abc")

    async def test_nothing_follows_rst_stream(self) -> None:
        server = await self.server()
        server.send(headers(1))
        await server.request(1)
        await server.protocol.start_response(1, RESPONSE)
        sending = await self.waiting(server.protocol.send_data(1, b"x" * 100_000))
        await server.frames()
        server.send(data(1), window_update(1, 100_000), window_update(0, 100_000))
        written = [f for f in await server.frames() if f.stream_id == 1]
        self.assertEqual([type(f) for f in written], [RstStreamFrame])
        with self.assertRaises(aioh2.SendException):
            await sending
        await server.exchange()

    async def test_one_rst_stream_for_a_stream(self) -> None:
        """The first error of a stream keeps others from being reported."""
        errors = {
            "zero": window_update(1, 0),
            "overflow": window_update(1, LARGEST),
            "priority": raw(PRIORITY, 0, 1, b"1234"),
            "itself": priority(1, 1),
            "data": data(1),
            "trailers": headers(1, TRAILERS),
        }
        for what, frame in errors.items():
            with self.subTest(what):
                server = await self.server()
                malformed = headers(1, REQUEST[1:], END_HEADERS)
                await server.resets(1, PROTOCOL_ERROR, malformed, frame, frame)
            with self.subTest(what, later=True):
                server = await self.server()
                server.send(opening(1))
                await server.resets(1, PROTOCOL_ERROR, window_update(1, 0), frame, frame)

    async def test_handler_that_meets_goaway(self) -> None:
        """What the peer did is not an error of the handler: the log stays quiet."""

        async def handler(stream: aioh2.H2Stream) -> None:
            await stream.read(-1)
            await stream.push(REQUEST)

        server = await self.server()
        serving = await self.waiting(server.protocol.serve(handler))
        server.send(opening(1), goaway(0))
        await server.frames()
        server.send(data(1, end=True))
        await serving

    async def test_rst_stream_is_not_answered(self) -> None:
        server = await self.server()
        malformed = rst_stream(1)
        await server.accepts(opening(1), malformed, malformed, malformed)
        client = await self.client()
        client.protocol.reset_stream(1)
        await client.accepts(rst_stream(1), rst_stream(1, STREAM_CLOSED))


class TestExtending(Conformance):
    """Sections 5.5 and 7."""

    async def test_unknown_settings(self) -> None:
        unknown = [(code, 2**32 - 1) for code in (0, 7, 0x10, 0x101, 0x104, 0xF000, 0xFFFF)]
        await self.both_accept(setting(*unknown))

    async def test_unknown_settings_are_not_taken_for_others(self) -> None:
        server = await self.server()
        before = dict(server.protocol.remote_settings)
        server.send(setting((0x104, 5), (0x105, 2**24), (0x101, 0)))
        after = server.protocol.remote_settings
        self.assertEqual({key: after[key] for key in before}, before)

    async def test_unknown_code_in_rst_stream(self) -> None:
        server = await self.server()
        for stream_id, code in ((1, 0xDEADBEEF), (3, 0x0E), (5, 2**32 - 1)):
            server.send(opening(stream_id))
            await server.request(stream_id)
            server.send(rst_stream(stream_id, code))
            with self.assertRaises(aioh2.StreamReset) as caught:
                await server.protocol.read_stream(stream_id)
            self.assertEqual(caught.exception.error_code, code)
            self.assertEqual(caught.exception.initiator, "peer")
        await server.exchange()

    async def test_unknown_code_in_goaway(self) -> None:
        client = await self.client()
        client.send(goaway(1, 0xDEADBEEF, b"why"), headers(1, RESPONSE))
        await client.got_response(1)
        with self.assertRaises(aioh2.ConnectionClosed) as caught:
            await client.protocol.recv_response(3)
        self.assertEqual(caught.exception.error_code, 0xDEADBEEF)
        self.assertEqual(caught.exception.debug_data, b"why")

    async def test_altsvc_at_a_server(self) -> None:
        """RFC 7838 section 4: a server ignores it, whatever is in it."""
        for payload in (b"", b"\x00", b"\x00\x05abc", b"\xff\xff", b"\x00\x03abch2=':1'"):
            for stream_id in (0, 1):
                with self.subTest(payload=payload, stream_id=stream_id):
                    server = await self.server()
                    await server.accepts(opening(1), raw(ALTSVC, 0, stream_id, payload))

    async def test_push_after_altsvc(self) -> None:
        server = await self.server()
        server.send(raw(ALTSVC, 0, 0, b"\x00\x01ah2=':1'"), headers(1))
        await server.request(1)
        self.assertEqual(await server.protocol.push_stream(1, REQUEST), 2)
        await server.exchange()


# --- 6 -------------------------------------------------------------------------------------


class TestData(Conformance):
    """Section 6.1."""

    async def test_padding_of_every_size(self) -> None:
        for size in (*range(0, 256, 15), 1, 2, 254):
            with self.subTest(size=size):
                server = await self.server()
                padded = bytes([size]) + b"abc" + bytes(size)
                await server.accepts(
                    opening(1),
                    raw(DATA, PADDED, 1, padded),
                    raw(DATA, PADDED | END_STREAM, 1, bytes([size]) + bytes(size)),
                )
                self.assertEqual(await server.protocol.read_stream(1, -1), b"abc")

    async def test_padding_that_is_too_long(self) -> None:
        for payload in (b"\x01", b"\x02\x00", b"\x04abc", b"\xff" + bytes(254)):
            for side in await self.sides():
                with self.subTest(payload=payload, side=type(side).__name__):
                    message = POST if isinstance(side, Server) else RESPONSE
                    side.send(opening(1, message))
                    await side.fails(PROTOCOL_ERROR, raw(DATA, PADDED, 1, payload))

    async def test_padding_need_not_be_zero(self) -> None:
        server = await self.server()
        await server.accepts(opening(1), raw(DATA, PADDED | END_STREAM, 1, b"\x03abcxyz"))
        self.assertEqual(await server.protocol.read_stream(1, -1), b"abc")

    async def test_empty(self) -> None:
        server = await self.server()
        await server.accepts(
            opening(1), *[data(1, b"")] * 20, data(1, b"abc"), data(1, b""), data(1, b"", end=True)
        )
        self.assertEqual(await server.protocol.read_stream(1, -1), b"abc")

    async def test_client_gets_content(self) -> None:
        client = await self.client()
        await client.accepts(
            opening(1, RESPONSE), data(1, b""), raw(DATA, PADDED, 1, b"\x02abc\0\0"), data(1, b"d")
        )
        self.assertEqual(await client.protocol.read_stream(1, 4), b"abcd")


class TestHeadersFrame(Conformance):
    """Section 6.2."""

    BLOCK = literal(REQUEST)

    def padded(self, padding: int, block: bytes, flags: int = 0, priority: bytes = b"") -> bytes:
        payload = bytes([padding]) + priority + block + bytes(padding)
        return raw(HEADERS, flags | PADDED | END_STREAM, 1, payload)

    async def test_padding_of_every_size(self) -> None:
        for size in (0, 1, 2, 16, 127, 254, 255):
            for flags, prefix in ((0, b""), (PRIORITIZED, u32(0) + b"\x0f")):
                with self.subTest(size=size, flags=flags):
                    server = await self.server()
                    await server.accepts(self.padded(size, self.BLOCK, flags | END_HEADERS, prefix))

    async def test_padding_around_a_fragment(self) -> None:
        server = await self.server()
        await server.accepts(
            self.padded(7, self.BLOCK[:5]), raw(CONTINUATION, END_HEADERS, 1, self.BLOCK[5:])
        )

    async def test_nothing_but_padding(self) -> None:
        """The padding is shorter than the payload, and the fragment is empty."""
        for size in (0, 1, 3, 255):
            for flags, prefix in ((0, b""), (PRIORITIZED, u32(0) + b"\x0f")):
                with self.subTest(size=size, flags=flags):
                    server = await self.server()
                    await server.accepts(
                        self.padded(size, b"", flags, prefix),
                        raw(CONTINUATION, END_HEADERS, 1, self.BLOCK),
                    )

    async def test_padding_that_is_too_long(self) -> None:
        cases = {
            "payload": raw(HEADERS, PADDED | END_HEADERS, 93, b"\x03abc"),
            "more": raw(HEADERS, PADDED | END_HEADERS, 93, b"\xffabc"),
            "alone": raw(HEADERS, PADDED | END_HEADERS, 93, b"\x01"),
            "into the priority": raw(
                HEADERS, PADDED | PRIORITIZED | END_HEADERS, 93, b"\x01" + bytes(5)
            ),
            "over the priority": raw(
                HEADERS, PADDED | PRIORITIZED | END_HEADERS, 93, b"\x06" + bytes(6)
            ),
        }
        cases["payload"] = raw(HEADERS, PADDED | END_HEADERS, 93, b"\x04abc")
        for what, frame in cases.items():
            with self.subTest(what):
                await (await self.server()).fails(PROTOCOL_ERROR, frame)

    async def test_priority(self) -> None:
        for depends_on, weight in ((0, 0), (3, 255), (2**31, 15), (2**31 + 99, 7)):
            with self.subTest(depends_on=depends_on):
                server = await self.server()
                payload = u32(depends_on) + bytes([weight]) + self.BLOCK
                await server.accepts(
                    raw(HEADERS, END_STREAM | END_HEADERS | PRIORITIZED, 1, payload)
                )

    async def test_response_with_priority(self) -> None:
        client = await self.client()
        payload = u32(3) + b"\x0f" + literal(RESPONSE)
        await client.accepts(raw(HEADERS, END_HEADERS | PRIORITIZED, 1, payload))

    async def test_depends_on_itself(self) -> None:
        """RFC 7540 section 5.3.1."""
        payload = u32(1) + b"\x0f"
        server = await self.server()
        await server.resets(
            1, PROTOCOL_ERROR, raw(HEADERS, END_HEADERS | PRIORITIZED, 1, payload + self.BLOCK)
        )
        client = await self.client()
        response = payload + literal(RESPONSE)
        await client.resets(1, PROTOCOL_ERROR, raw(HEADERS, END_HEADERS | PRIORITIZED, 1, response))


class TestPriorityFrame(Conformance):
    """Section 6.3."""

    async def test_any_stream_any_value(self) -> None:
        frames = [
            priority(stream_id, depends_on, weight)
            for stream_id, depends_on, weight in itertools.product(
                (1, 2, 98, 99, LARGEST), (0, 3, 2**31 + 5, LARGEST - 2), (0, 255)
            )
        ]
        await self.both_accept(*frames)

    async def test_before_the_first_request(self) -> None:
        server = await self.server()
        await server.accepts(priority(5), priority(3, 5), headers(1), headers(3))

    async def test_wrong_length(self) -> None:
        for length in (0, 4, 6, 255):
            for side in await self.sides():
                with self.subTest(length=length, side=type(side).__name__):
                    if isinstance(side, Server):
                        side.send(opening(1))
                    await side.resets(1, FRAME_SIZE_ERROR, raw(PRIORITY, 0, 1, bytes(length)))

    async def test_wrong_length_on_an_idle_stream(self) -> None:
        """An idle stream cannot be reset (section 6.4), so it costs the connection."""
        await self.both_fail(FRAME_SIZE_ERROR, raw(PRIORITY, 0, 99, b"1234"))

    async def test_depends_on_itself(self) -> None:
        """RFC 7540 section 5.3.1."""
        server = await self.server()
        await server.resets(1, PROTOCOL_ERROR, opening(1), priority(1, 1))
        server = await self.server()
        await server.resets(1, PROTOCOL_ERROR, opening(1), priority(1, 2**31 + 1))


class TestRstStreamFrame(Conformance):
    """Section 6.4."""

    async def test_wrong_length(self) -> None:
        for length in (0, 3, 5, 8):
            for stream_id in (1, 99):
                with self.subTest(length=length, stream_id=stream_id):
                    await self.both_fail(
                        FRAME_SIZE_ERROR, raw(RST_STREAM, 0, stream_id, bytes(length))
                    )

    async def test_ends_what_waits(self) -> None:
        client = await self.client()
        waiting = await self.waiting(client.protocol.recv_response(1))
        await client.accepts(rst_stream(1, REFUSED_STREAM))
        with self.assertRaises(aioh2.StreamReset) as caught:
            await waiting
        self.assertTrue(caught.exception.retryable)

    async def test_nothing_follows(self) -> None:
        server = await self.server()
        server.send(headers(1))
        await server.request(1)
        await server.protocol.start_response(1, RESPONSE)
        sending = await self.waiting(server.protocol.send_data(1, b"x" * 100_000))
        await server.frames()
        server.send(rst_stream(1), window_update(0, 100_000))
        self.assertEqual(await server.frames(), [])
        with self.assertRaises(aioh2.SendException):
            await sending
        await server.exchange()

    async def test_no_error_after_a_complete_response(self) -> None:
        """Section 8.1: the response is kept."""
        client = await self.client()
        await client.accepts(
            opening(1, RESPONSE), data(1, b"abc"), headers(1, TRAILERS), rst_stream(1, NO_ERROR)
        )
        protocol = client.protocol
        self.assertEqual(await protocol.recv_response(1), [(":status", "200")])
        self.assertEqual(await protocol.read_stream(1, -1), b"abc")
        self.assertEqual(await protocol.recv_trailers(1), [("checksum", "0")])


class TestSettingsFrame(Conformance):
    """Section 6.5."""

    async def test_acknowledged_at_once_and_in_order(self) -> None:
        for side in await self.sides():
            written = await side.accepts(setting(), ping(), setting((5, 20000)), setting((1, 0)))
            kinds = [type(f) for f in of(written, SettingsFrame, PingFrame)]
            self.assertEqual(kinds, [SettingsFrame, PingFrame, SettingsFrame, SettingsFrame])
            self.assertEqual([f.flags for f in of(written, SettingsFrame)], [{"ACK"}] * 3)

    async def test_wrong(self) -> None:
        cases = {
            "ACK with payload": (raw(SETTINGS, ACK, 0, bytes(6)), FRAME_SIZE_ERROR),
            "ACK with a bit of payload": (raw(SETTINGS, ACK, 0, b"1"), FRAME_SIZE_ERROR),
            "1 octet": (raw(SETTINGS, 0, 0, b"1"), FRAME_SIZE_ERROR),
            "7 octets": (raw(SETTINGS, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
            "on a stream": (raw(SETTINGS, 0, 1), PROTOCOL_ERROR),
            "ACK on a stream": (raw(SETTINGS, ACK, 1), PROTOCOL_ERROR),
            "ENABLE_PUSH 2": (setting((2, 2)), PROTOCOL_ERROR),
            "ENABLE_PUSH largest": (setting((2, 2**32 - 1)), PROTOCOL_ERROR),
            "INITIAL_WINDOW_SIZE": (setting((4, 2**31)), FLOW_CONTROL_ERROR),
            "INITIAL_WINDOW_SIZE largest": (setting((4, 2**32 - 1)), FLOW_CONTROL_ERROR),
            "MAX_FRAME_SIZE 0": (setting((5, 0)), PROTOCOL_ERROR),
            "MAX_FRAME_SIZE low": (setting((5, 16383)), PROTOCOL_ERROR),
            "MAX_FRAME_SIZE high": (setting((5, 2**24)), PROTOCOL_ERROR),
            "ENABLE_CONNECT_PROTOCOL": (setting((8, 2)), PROTOCOL_ERROR),
            "wrong, then right": (setting((4, 2**31), (4, 5)), FLOW_CONTROL_ERROR),
            "right, then wrong": (setting((5, 16384), (5, 5)), PROTOCOL_ERROR),
        }
        for what, (frame, code) in cases.items():
            with self.subTest(what):
                await self.both_fail(code, frame)

    async def test_enable_push(self) -> None:
        server = await self.server()
        await server.accepts(setting((2, 0)), setting((2, 1)))
        client = await self.client()
        await client.accepts(setting((2, 0)))
        await (await self.client()).fails(PROTOCOL_ERROR, setting((2, 1)))

    async def test_for_good(self) -> None:
        """RFC 8441 section 3, RFC 9218 section 2.1."""
        await self.both_fail(PROTOCOL_ERROR, setting((8, 1)), setting((8, 0)))
        for value in (0, 1):
            before = setting((9, value))
            await self.both_accept(before, before, setting())
            await self.both_fail(PROTOCOL_ERROR, before, setting((9, 1 - value)))

    async def test_every_legal_extreme(self) -> None:
        await self.both_accept(
            setting((1, 0), (3, 2**32 - 1), (4, 0), (5, 16384), (6, 0), (8, 0)),
            setting((1, 2**32 - 1), (4, 65535), (5, 2**24 - 1), (6, 2**32 - 1), (8, 1)),
        )

    async def test_repeated_in_one_frame(self) -> None:
        for side in await self.sides():
            await side.accepts(setting((4, 1), (5, 20000), (4, 70000), (5, 16384), (4, 1000)))
            settings = side.protocol.remote_settings
            self.assertEqual(settings[SettingCodes.INITIAL_WINDOW_SIZE], 1000)
            self.assertEqual(settings[SettingCodes.MAX_FRAME_SIZE], 16384)

    async def test_repeated_table_sizes(self) -> None:
        """RFC 7541 section 4.2: the smallest has to be announced too."""
        server = await self.server()
        server.send(headers(1), setting((1, 4096), (1, 0), (1, 4096)))
        server.peer.decoder.header_table_size = 0
        server.peer.decoder.max_allowed_table_size = 4096
        await server.answers(1)
        await server.exchange()

    async def test_smaller_table(self) -> None:
        server = await self.server()
        server.send(headers(1), headers(3))
        await server.protocol.start_response(1, [*RESPONSE, (b"x-a", b"b")], end_stream=True)
        await server.frames()
        server.send(setting((1, 0)))
        server.peer.decoder.max_allowed_table_size = 0
        await server.protocol.start_response(3, [*RESPONSE, (b"x-a", b"b")], end_stream=True)
        written = await server.frames(HeadersFrame)
        self.assertEqual(written[0].data[:1], b"\x20")
        self.assertEqual(written[0].headers, [(":status", "200"), ("x-a", "b")])

    async def test_max_frame_size_is_kept(self) -> None:
        server = await self.server(settings={4: 200_000, 5: 20000})
        server.send(headers(1), window_update(0, 200_000))
        await server.frames()
        before = len(server.peer.transport.written)
        await server.protocol.start_response(1, [*RESPONSE, (b"x", b"\xff" * 30_000)])
        await server.protocol.send_data(1, b"x" * 100_000)
        await settle()
        written = cut(server.peer.transport.written[before:])
        kinds = [kind for kind, *_ in written]
        self.assertEqual(kinds[:3], [HEADERS, CONTINUATION, DATA])
        self.assertEqual([flags for _, flags, *_ in written[:2]], [0, END_HEADERS])
        self.assertTrue(all(len(payload) <= 20000 for *_, payload in written))
        content = b"".join(payload for kind, _, _, payload in written if kind == DATA)
        self.assertEqual(len(content), 100_000)

    async def test_ack_of_nothing(self) -> None:
        await self.both_accept(raw(SETTINGS, ACK), raw(SETTINGS, ACK))

    async def test_each_ack_is_for_the_oldest(self) -> None:
        server = await self.server(initial_window_size=65535)
        server.protocol.initial_window_size = 10
        server.protocol.initial_window_size = 100_000
        server.send(raw(SETTINGS, ACK))
        await server.resets(1, FLOW_CONTROL_ERROR, opening(1), data(1, b"x" * 11))
        server.last = 1001
        server.send(raw(SETTINGS, ACK), opening(2001), *[data(2001, b"x" * 10000)] * 10)
        await server.answers(2001)


class TestPushPromiseFrame(Conformance):
    """Section 6.6."""

    async def test_at_a_server(self) -> None:
        for stream_id in (1, 2, 99):
            with self.subTest(stream_id=stream_id):
                server = await self.server()
                server.send(opening(1))
                await server.fails(PROTOCOL_ERROR, promise(stream_id, 2))

    async def test_not_enabled(self) -> None:
        await (await self.client()).fails(PROTOCOL_ERROR, promise(1, 2))

    async def test_disabled_later(self) -> None:
        client = await self.client(enable_push=True)
        client.protocol.update_settings({SettingCodes.ENABLE_PUSH: 0})
        client.send(promise(1, 2))
        client.last = 2
        await client.fails(PROTOCOL_ERROR, raw(SETTINGS, ACK), promise(1, 4))

    async def test_padding(self) -> None:
        block = u32(2) + literal(REQUEST)
        flags = PADDED | END_HEADERS
        for size in (0, 1, 255):
            with self.subTest(size=size):
                client = await self.client(enable_push=True)
                payload = bytes([size]) + block + bytes(size)
                await client.accepts(raw(PUSH_PROMISE, flags, 1, payload))
        for payload in (b"\x01" + u32(2), b"\x05" + u32(2) + b"\0", b"\xff" + u32(2)):
            with self.subTest(payload=payload):
                client = await self.client(enable_push=True)
                await client.fails(PROTOCOL_ERROR, raw(PUSH_PROMISE, flags, 1, payload))

    async def test_nothing_but_padding(self) -> None:
        client = await self.client(enable_push=True)
        await client.accepts(
            raw(PUSH_PROMISE, PADDED, 1, b"\x04" + u32(2) + bytes(4)),
            raw(CONTINUATION, END_HEADERS, 1, literal(REQUEST)),
        )

    async def test_reserved_bit(self) -> None:
        client = await self.client(enable_push=True)
        await client.accepts(promise(1, 2**31 + 2), headers(2, RESPONSE))
        for size in (0, 3):
            client = await self.client(enable_push=True)
            payload = bytes([size]) + u32(2**31 + 2) + literal(REQUEST) + bytes(size)
            await client.accepts(raw(PUSH_PROMISE, PADDED | END_HEADERS, 1, payload))


class TestPing(Conformance):
    """Section 6.7."""

    async def test_answered(self) -> None:
        payloads = [bytes(8), b"\xff" * 8, b"12345678"]
        for side in await self.sides():
            written = await side.accepts(*(ping(payload) for payload in payloads))
            answers = of(written, PingFrame)
            self.assertEqual([f.opaque_data for f in answers], payloads)
            self.assertEqual([f.flags for f in answers], [{"ACK"}] * 3)

    async def test_ack_is_not_answered(self) -> None:
        for side in await self.sides():
            written = await side.accepts(ping(flags=ACK), ping(bytes(8), ACK))
            self.assertEqual(of(written, PingFrame), [])

    async def test_wrong(self) -> None:
        for length in (0, 7, 9, 16):
            for flags in (0, ACK):
                with self.subTest(length=length, flags=flags):
                    await self.both_fail(FRAME_SIZE_ERROR, raw(PING, flags, 0, bytes(length)))
        for stream_id in (1, 2, 99):
            with self.subTest(stream_id=stream_id):
                await self.both_fail(PROTOCOL_ERROR, raw(PING, 0, stream_id, bytes(8)))

    async def test_answered_while_content_waits(self) -> None:
        server = await self.server()
        server.send(headers(1))
        await server.protocol.start_response(1, RESPONSE)
        sending = await self.waiting(server.protocol.send_data(1, b"x" * 100_000))
        await server.frames()
        server.send(ping())
        self.assertEqual([type(f) for f in await server.frames()], [PingFrame])
        sending.cancel()


class TestGoAway(Conformance):
    """Section 6.8."""

    async def test_wrong(self) -> None:
        await self.both_fail(PROTOCOL_ERROR, raw(GOAWAY, 0, 1, bytes(8)))
        for length in (0, 4, 7):
            with self.subTest(length=length):
                await self.both_fail(FRAME_SIZE_ERROR, raw(GOAWAY, 0, 0, bytes(length)))

    async def test_streams_below_and_above(self) -> None:
        client = await self.client()
        client.send(goaway(1), opening(1, RESPONSE))
        for stream_id in (3, 5):
            with self.assertRaises(aioh2.ConnectionClosed) as caught:
                await client.protocol.recv_response(stream_id)
            self.assertTrue(caught.exception.retryable)
            self.assertEqual(caught.exception.last_stream_id, 1)
        with self.assertRaises(aioh2.ConnectionClosed) as caught:
            await client.protocol.start_request(REQUEST)
        self.assertTrue(caught.exception.retryable)
        await client.got_response(1)
        await client.protocol.end_stream(1)
        self.assertFalse(client.peer.transport.closed)
        client.send(data(1, b"abc", end=True))
        self.assertEqual(await client.protocol.read_stream(1, -1), b"abc")
        await client.frames()
        self.assertTrue(client.peer.transport.closed)

    async def test_frames_for_streams_above(self) -> None:
        client = await self.client()
        client.send(goaway(1), headers(3, RESPONSE), rst_stream(5), window_update(5), priority(3))
        client.send(headers(1, RESPONSE))
        await client.got_response(1)
        self.assertEqual(resets(await client.frames()), [])

    async def test_more_than_one(self) -> None:
        client = await self.client()
        client.send(goaway(LARGEST), goaway(3), goaway(1, PROTOCOL_ERROR, b"why"))
        with self.assertRaises(aioh2.ConnectionClosed) as caught:
            await client.protocol.recv_response(3)
        self.assertEqual(caught.exception.last_stream_id, 1)
        client.send(headers(1, RESPONSE))
        await client.got_response(1)

    async def test_reserved_bit(self) -> None:
        client = await self.client()
        client.send(goaway(2**31 + 1), headers(1, RESPONSE))
        with self.assertRaises(aioh2.ConnectionClosed) as caught:
            await client.protocol.recv_response(3)
        self.assertEqual(caught.exception.last_stream_id, 1)
        await client.got_response(1)

    async def test_with_debug_data(self) -> None:
        server = await self.server()
        server.send(opening(1), goaway(0, ENHANCE_YOUR_CALM, b"\x00\xff" * 1000), data(1, end=True))
        await server.answers(1)

    async def test_pushes_above(self) -> None:
        server = await self.server()
        server.send(opening(1))
        for stream_id in (2, 4):
            await server.protocol.push_stream(1, REQUEST)
            await server.protocol.start_response(stream_id, RESPONSE)
        server.send(goaway(2))
        await server.frames()
        with self.assertRaises(aioh2.SendException) as caught:
            await server.protocol.send_data(4, b"abc")
        self.assertIsInstance(caught.exception.__cause__, aioh2.ConnectionClosed)
        await server.protocol.send_data(2, b"abc", end_stream=True)
        with self.assertRaises(aioh2.ConnectionClosed):
            await server.protocol.push_stream(1, REQUEST)
        self.assertEqual([(f.stream_id, f.data) for f in await server.frames()], [(2, b"abc")])
        server.send(data(1, end=True))
        await server.answers(1)

    async def test_frames_beyond_ours(self) -> None:
        """What comes on streams that were turned away is ignored, but for what it must do."""
        beyond = frames_on(3, REQUEST)
        for what in ("DATA", "HEADERS", "trailers", "PRIORITY", "RST_STREAM", "WINDOW_UPDATE"):
            with self.subTest(what):
                server = await self.server()
                server.send(opening(1))
                await draining(server)
                server.send(beyond[what], headers(5), data(5), data(1, b"abc", end=True), ping())
                written = await server.frames()
                self.assertEqual([type(f) for f in written], [PingFrame])
                await server.answers(1)
                self.assertEqual(await server.protocol.read_stream(1, -1), b"abc")
                self.assertTrue(server.peer.transport.closed)

    async def test_stream_errors_beyond_ours(self) -> None:
        for frame in (
            window_update(3, 0),
            raw(PRIORITY, 0, 3, b"1234"),
            headers(3, []),
            priority(3, 3),
            opening(3, REQUEST[1:]),
        ):
            with self.subTest(kind=frame[3]):
                server = await self.server()
                server.send(opening(1))
                await draining(server)
                server.send(frame, data(1, end=True))
                self.assertEqual(await server.frames(), [])
                await server.answers(1)

    async def test_connection_errors_beyond_ours(self) -> None:
        for frame, code in (
            (raw(HEADERS, END_HEADERS, 3, b"\xff"), COMPRESSION_ERROR),
            (raw(DATA, PADDED, 3, b"\x05"), PROTOCOL_ERROR),
            (raw(RST_STREAM, 0, 3, b"1"), FRAME_SIZE_ERROR),
        ):
            with self.subTest(code=code):
                server = await self.server()
                server.send(opening(1))
                await draining(server)
                server.send(frame)
                ends = await server.frames(GoAwayFrame)
                self.assertEqual([(f.error_code, f.last_stream_id) for f in ends], [(code, 1)])

    async def test_last_stream_id_never_grows(self) -> None:
        server = await self.server()
        server.send(opening(1))
        await draining(server)
        server.send(headers(3), headers(5), raw(PING, 0, 0, b"1"))
        self.assertEqual([f.last_stream_id for f in await server.frames(GoAwayFrame)], [1])

    async def test_content_beyond_ours_is_credited(self) -> None:
        server = await self.server(connection_window_size=65535)
        server.send(opening(1))
        await draining(server)
        window = Credit(server)
        for _ in range(20):
            await window.spend(data(3, b"x" * 16384))
        self.assertGreater(window.left, 65535 // 2)


class TestWindowUpdate(Conformance):
    """Section 6.9."""

    async def test_wrong_length(self) -> None:
        for length in (0, 3, 5, 8):
            for stream_id in (0, 1):
                with self.subTest(length=length, stream_id=stream_id):
                    await self.both_fail(
                        FRAME_SIZE_ERROR, raw(WINDOW_UPDATE, 0, stream_id, bytes(length))
                    )

    async def test_zero(self) -> None:
        for increment in (0, 2**31):
            with self.subTest(increment=increment):
                await self.both_fail(PROTOCOL_ERROR, window_update(0, increment))
                server = await self.server()
                await server.resets(1, PROTOCOL_ERROR, opening(1), window_update(1, increment))
                client = await self.client()
                await client.resets(1, PROTOCOL_ERROR, window_update(1, increment))
                await self.both_fail(PROTOCOL_ERROR, window_update(99, increment))

    async def test_reserved_bit(self) -> None:
        for side in await self.sides():
            with self.subTest(side=type(side).__name__):
                opened = opening(1) if isinstance(side, Server) else b""
                await side.accepts(opened, window_update(0, 2**31 + 5), window_update(1, 2**31 + 5))

    async def test_overflow_of_the_connection(self) -> None:
        await self.both_fail(FLOW_CONTROL_ERROR, window_update(0, LARGEST))
        await self.both_fail(
            FLOW_CONTROL_ERROR, window_update(0, LARGEST - 65535), window_update(0, 1)
        )
        await self.both_accept(window_update(0, LARGEST - 65535))

    async def test_overflow_of_a_stream(self) -> None:
        full = window_update(1, LARGEST - 65535)
        server = await self.server()
        await server.resets(1, FLOW_CONTROL_ERROR, opening(1), full, window_update(1, 1))
        client = await self.client()
        await client.resets(1, FLOW_CONTROL_ERROR, window_update(1, LARGEST))
        server = await self.server()
        await server.accepts(opening(1), full)

    async def test_overflow_by_settings(self) -> None:
        server = await self.server()
        server.send(opening(1), window_update(1, LARGEST - 65535))
        await server.fails(FLOW_CONTROL_ERROR, setting((4, 65536)))
        client = await self.client()
        client.send(window_update(1, LARGEST - 65535))
        await client.fails(FLOW_CONTROL_ERROR, setting((4, 65536)))

    async def test_settings_and_a_closed_stream(self) -> None:
        """Only windows of streams that are there can overflow (section 6.9.2)."""
        server = await self.server()
        server.send(headers(1), window_update(1, LARGEST - 65535))
        await server.answers(1)
        await server.accepts(setting((4, 70000)))
        client = await self.client()
        await client.protocol.end_stream(1)
        client.send(window_update(1, LARGEST - 65535), headers(1, RESPONSE))
        await client.got_response(1)
        await client.accepts(setting((4, 70000)))


class TestFlowControl(Conformance):
    """Sections 5.2, 6.9.1 and 6.9.2."""

    async def responding(self, size: int, **options: Any) -> Server:
        """Return a server that sends this much content on stream 1."""
        server = await self.server(**options)
        server.send(headers(1))
        await server.request(1)
        await server.protocol.start_response(1, RESPONSE)
        await server.frames()
        coroutine = server.protocol.send_data(1, b"x" * size, end_stream=True)
        task = asyncio.get_running_loop().create_task(coroutine)
        self.addCleanup(task.cancel)
        return server

    async def sent(self, server: Server) -> int:
        return sum(len(f.data) for f in await server.frames(DataFrame))

    async def test_windows_are_kept(self) -> None:
        server = await self.responding(200_000)
        self.assertEqual(await self.sent(server), 65535)
        server.send(window_update(1, 1000))
        self.assertEqual(await self.sent(server), 0)
        server.send(window_update(0, 10))
        self.assertEqual(await self.sent(server), 10)
        server.send(window_update(0, LARGEST - 1000))
        self.assertEqual(await self.sent(server), 990)
        server.send(window_update(1, LARGEST))
        self.assertEqual(await self.sent(server), 200_000 - 65535 - 1000)

    async def test_initial_window_of_one(self) -> None:
        server = await self.responding(3, settings={4: 1})
        self.assertEqual(await self.sent(server), 1)
        server.send(window_update(1, 1))
        self.assertEqual(await self.sent(server), 1)
        server.send(setting((4, 2)))
        self.assertEqual(await self.sent(server), 1)

    async def test_negative_window(self) -> None:
        server = await self.responding(200_000)
        server.send(window_update(0, 200_000))
        self.assertEqual(await self.sent(server), 65535)
        server.send(setting((4, 0)), window_update(1, 65535))
        self.assertEqual(await self.sent(server), 0)
        server.send(window_update(1, 1))
        self.assertEqual(await self.sent(server), 1)
        server.send(setting((4, 10)))
        self.assertEqual(await self.sent(server), 10)

    async def test_end_without_window(self) -> None:
        for size, negative in ((0, False), (65535, True)):
            server = await self.server(settings={} if size else {4: 0})
            server.send(headers(1))
            await server.request(1)
            await server.protocol.start_response(1, RESPONSE)
            await server.protocol.send_data(1, b"x" * size)
            if negative:
                server.send(setting((4, 0)))
            await server.frames()
            await server.protocol.end_stream(1)
            written = await server.frames(DataFrame)
            self.assertEqual([(f.data, f.flags) for f in written], [(b"", {"END_STREAM"})])

    async def test_only_data_counts(self) -> None:
        server = await self.responding(10, settings={4: 0})
        server.send(window_update(0, 5), headers(3))
        await server.answers(3)
        self.assertEqual(await self.sent(server), 0)

    async def test_stream_window_overdrawn(self) -> None:
        server = await self.server(initial_window_size=1000)
        await server.accepts(opening(1), data(1, b"x" * 1000), data(1, b""))
        server = await self.server(initial_window_size=1000)
        await server.resets(1, FLOW_CONTROL_ERROR, opening(1), data(1, b"x" * 1001))
        server = await self.server(initial_window_size=1000)
        await server.resets(
            1, FLOW_CONTROL_ERROR, opening(1), data(1, b"x" * 600), data(1, b"x" * 401)
        )

    async def test_padding_counts(self) -> None:
        padded = raw(DATA, PADDED, 1, b"\x09" + b"x" * 991 + bytes(9))
        server = await self.server(initial_window_size=1000)
        await server.resets(1, FLOW_CONTROL_ERROR, opening(1), padded)
        server = await self.server(initial_window_size=1001)
        await server.accepts(opening(1), padded)

    async def test_client_stream_window_overdrawn(self) -> None:
        client = await self.client(initial_window_size=1000)
        await client.resets(1, FLOW_CONTROL_ERROR, opening(1, RESPONSE), data(1, b"x" * 1001))

    async def test_connection_window_overdrawn(self) -> None:
        frames = [data(1, b"x" * 16384)] * 3 + [data(1, b"x" * (65535 - 3 * 16384))]
        server = await self.server(connection_window_size=65535)
        await server.accepts(opening(1), *frames)
        server = await self.server(connection_window_size=65535)
        await server.fails(FLOW_CONTROL_ERROR, opening(93), *[data(93, b"x" * 16384)] * 4, last=93)

    async def test_lowered_window_and_an_empty_frame(self) -> None:
        """The window of the peer is below zero, where an empty frame may still end the stream."""
        server = await self.server()
        server.send(opening(1), data(1, b"abc"))
        server.protocol.initial_window_size = 0
        await server.frames()
        await server.accepts(raw(SETTINGS, ACK), data(1, b""), data(1, b"", end=True))
        self.assertEqual(await server.protocol.read_stream(1, -1), b"abc")

    async def test_lowered_window_and_what_was_on_its_way(self) -> None:
        server = await self.server(initial_window_size=65535)
        server.send(opening(1))
        server.protocol.initial_window_size = 0
        await server.accepts(data(1, b"x" * 5000), raw(SETTINGS, ACK), headers(1, TRAILERS))
        self.assertEqual(len(await server.protocol.read_stream(1, -1)), 5000)

    async def test_small_initial_window_and_what_was_on_its_way(self) -> None:
        """Until our SETTINGS are acknowledged the peer has 65,535 octets."""
        peer = Peer(aioh2.H2Protocol(False, initial_window_size=10))
        peer.protocol.connection_made(peer.transport)
        server = Server(self, peer)
        server.send(PREFACE, setting(), opening(1), data(1, b"x" * 16384))
        await server.accepts(raw(SETTINGS, ACK), data(1, b"", end=True))
        self.assertEqual(len(await server.protocol.read_stream(1, -1)), 16384)

    async def spend(self, server: Server, make: Callable[[int], Iterable[bytes]]) -> None:
        """Check that content in frames that lead to nothing gives its credit back."""
        window = Credit(server)
        for number in range(12):
            await window.spend(*make(2 * number + 1))
        self.assertGreater(window.left, 65535 // 2)
        await server.exchange()

    async def test_credit_of_what_nobody_gets(self) -> None:
        chunk = b"x" * 16384
        cases: dict[str, Callable[[int], Iterable[bytes]]] = {
            "malformed request": lambda n: [opening(n, POST[1:]), data(n, chunk)],
            "reset by the peer": lambda n: [opening(n), rst_stream(n), data(n, chunk)],
            "half-closed": lambda n: [headers(n), data(n, chunk), data(n, chunk)],
            "reset in between": lambda n: [opening(n), data(n, chunk), rst_stream(n)],
            "content-length": lambda n: [
                opening(n, [*POST, (b"content-length", b"5")]),
                data(n, chunk),
                data(n, chunk),
            ],
            "stream window": lambda n: [opening(n), data(n, chunk), data(n, chunk)],
            "padding": lambda n: [
                opening(n),
                *[raw(DATA, PADDED, n, b"\xff" + bytes(255))] * 20,
                data(n, b"", end=True),
            ],
            "malformed trailers": lambda n: [
                opening(n),
                data(n, chunk),
                headers(n, REQUEST),
                data(n, chunk),
            ],
        }
        for what, make in cases.items():
            with self.subTest(what):
                size = 20000 if what == "stream window" else 65535
                server = await self.server(connection_window_size=65535, initial_window_size=size)
                await self.spend(server, make)

    async def test_credit_of_streams_that_we_reset(self) -> None:
        server = await self.server(connection_window_size=65535)
        window = Credit(server)
        for stream_id in range(1, 25, 2):
            await window.spend(opening(stream_id), data(stream_id, b"x" * 8000))
            server.protocol.reset_stream(stream_id)
            await window.spend(data(stream_id, b"x" * 16384), data(stream_id, b"x", end=True))
        self.assertGreater(window.left, 65535 // 2)
        await server.exchange()

    async def test_credit_of_a_client(self) -> None:
        client = await self.client(connection_window_size=65535)
        window = Credit(client)
        client.protocol.reset_stream(1)
        client.send(opening(3, RESPONSE))
        for _ in range(12):
            await window.spend(data(1, b"x" * 16384), data(3, b"x" * 16384))
        self.assertGreater(window.left, 65535 // 2)
        await client.exchange()

    async def test_credit_of_a_stream_goes_back_on_reading(self) -> None:
        server = await self.server(initial_window_size=1000)
        server.send(opening(1), data(1, b"x" * 1000))
        await server.request(1)
        updates = [f for f in await server.frames(WindowUpdateFrame) if f.stream_id]
        self.assertEqual(updates, [])
        self.assertEqual(len(await server.protocol.read_stream(1)), 1000)
        updates = [f for f in await server.frames(WindowUpdateFrame) if f.stream_id]
        self.assertEqual([(f.stream_id, f.window_increment) for f in updates], [(1, 1000)])

    async def test_no_credit_for_a_stream_that_has_ended(self) -> None:
        """Section 5.1: nothing but PRIORITY is sent on a closed stream."""
        for end in (data(1, b"", end=True), rst_stream(1)):
            server = await self.server(initial_window_size=1000)
            server.send(opening(1), data(1, b"x" * 1000), end)
            await server.request(1)
            self.assertEqual(len(await server.protocol.read_stream(1)), 1000)
            updates = await server.frames(WindowUpdateFrame)
            self.assertEqual([f.stream_id for f in updates if f.stream_id], [])


# --- 8 -------------------------------------------------------------------------------------


def changed(fields: Fields, **values: bytes | None) -> Fields:
    """Return pseudo-header fields with other values, or without those that are None."""
    new = [(name, values.get(name[1:].decode(), value)) for name, value in fields]
    return [(name, value) for name, value in new if value is not None]


class Messages(Conformance):
    """A test of header lists."""

    async def requests_are_malformed(self, cases: dict[str, Fields], **options: Any) -> None:
        for what, fields in cases.items():
            with self.subTest(what):
                server = await self.server(**options)
                await server.resets(1, PROTOCOL_ERROR, opening(1, fields), data(1))

    async def requests_are_good(self, cases: dict[str, Fields], **options: Any) -> None:
        for what, fields in cases.items():
            with self.subTest(what):
                server = await self.server(**options)
                await server.accepts(opening(1, fields))

    async def responses_are_malformed(self, cases: dict[str, Fields]) -> None:
        for what, fields in cases.items():
            with self.subTest(what):
                client = await self.client()
                await client.resets(1, PROTOCOL_ERROR, opening(1, fields), data(1))
                with self.assertRaises(aioh2.StreamReset):
                    await client.protocol.recv_response(1)

    async def responses_are_good(self, cases: dict[str, Fields]) -> None:
        for what, fields in cases.items():
            with self.subTest(what):
                client = await self.client()
                await client.accepts(opening(1, fields))

    async def all_are_malformed(self, lists: Iterable[Fields]) -> None:
        """Check many requests on one connection."""
        server = await self.server()
        wanted = []
        for number, fields in enumerate(lists):
            server.send(headers(2 * number + 1, fields))
            wanted.append((2 * number + 1, PROTOCOL_ERROR))
        self.assertEqual(resets(await server.frames()), wanted)
        await server.exchange()


class TestMessageFraming(Messages):
    """Section 8.1."""

    async def test_header_section_without_end_after_the_first(self) -> None:
        for before in ([], [data(1)]):
            server = await self.server()
            await server.resets(1, PROTOCOL_ERROR, opening(1), *before, opening(1, TRAILERS))
            client = await self.client()
            await client.resets(
                1, PROTOCOL_ERROR, opening(1, RESPONSE), *before, opening(1, TRAILERS)
            )
            client = await self.client()
            await client.resets(
                1, PROTOCOL_ERROR, opening(1, RESPONSE), *before, opening(1, RESPONSE)
            )

    async def test_interim_response_after_the_final_one(self) -> None:
        for frame in (opening, headers):
            client = await self.client()
            interim = frame(1, [(b":status", b"103")])
            await client.resets(1, PROTOCOL_ERROR, opening(1, RESPONSE), interim)

    async def test_interim_response_that_ends(self) -> None:
        for status in (b"100", b"103", b"199"):
            client = await self.client()
            await client.resets(1, PROTOCOL_ERROR, headers(1, [(b":status", status)]))

    async def test_only_interim_responses(self) -> None:
        client = await self.client()
        interim = opening(1, [(b":status", b"103")])
        await client.resets(1, PROTOCOL_ERROR, interim, data(1, b"", end=True))

    async def test_repeated_interim_responses(self) -> None:
        client = await self.client()
        statuses = [b"100", b"103", b"103", b"102", b"199"]
        await client.accepts(
            *(opening(1, [(b":status", status), (b"x", b"y")]) for status in statuses),
            headers(1, RESPONSE),
        )
        for status in statuses:
            interim = await client.protocol.recv_informational(1)
            self.assertEqual(interim, [(":status", status.decode()), ("x", "y")])
        self.assertIsNone(await client.protocol.recv_informational(1))

    async def test_trailers_without_content(self) -> None:
        server = await self.server()
        await server.accepts(opening(1), headers(1, TRAILERS))
        self.assertEqual(await server.protocol.read_stream(1), b"")
        self.assertEqual(await server.protocol.recv_trailers(1), [("checksum", "0")])
        client = await self.client()
        await client.accepts(opening(1, RESPONSE), headers(1, TRAILERS))
        self.assertEqual(await client.protocol.recv_trailers(1), [("checksum", "0")])

    async def test_empty_trailers(self) -> None:
        server = await self.server()
        await server.accepts(opening(1), data(1, b"abc"), headers(1, []))
        self.assertEqual(await server.protocol.read_stream(1, -1), b"abc")
        self.assertEqual(await server.protocol.recv_trailers(1), [])

    async def test_malformed_trailers(self) -> None:
        cases: dict[str, Fields] = {
            "pseudo-header": [(b":path", b"/")],
            "status": [(b":status", b"200")],
            "unknown pseudo-header": [(b":x", b"y")],
            "pseudo-header after a field": [*TRAILERS, (b":path", b"/")],
            "upper case": [(b"Checksum", b"0")],
            "empty name": [(b"", b"0")],
            "line feed": [(b"checksum", b"0\n")],
            "connection-specific": [(b"connection", b"close")],
        }
        for what, fields in cases.items():
            with self.subTest(what):
                server = await self.server()
                await server.resets(1, PROTOCOL_ERROR, opening(1), data(1), headers(1, fields))
                client = await self.client()
                await client.resets(
                    1, PROTOCOL_ERROR, opening(1, RESPONSE), data(1), headers(1, fields)
                )
                with self.assertRaises(aioh2.StreamReset):
                    await client.protocol.recv_trailers(1)

    async def test_response_before_the_end_of_the_request(self) -> None:
        client = await self.client()
        await client.accepts(headers(1, RESPONSE))
        await client.protocol.send_data(1, b"more", end_stream=True)
        await client.exchange()


def with_length(fields: Fields, *lengths: bytes) -> Fields:
    return [*fields, *((b"content-length", length) for length in lengths)]


class TestContentLength(Messages):
    """Section 8.1.1: content-length against what comes."""

    GOOD: Final[dict[str, tuple[bytes, list[bytes]]]] = {
        "one frame": (b"3", [data(1, b"abc", end=True)]),
        "frames": (b"3", [data(1, b"a"), data(1, b""), data(1, b"bc"), data(1, b"", end=True)]),
        "trailers": (b"3", [data(1, b"abc"), headers(1, TRAILERS)]),
        "padding": (b"3", [raw(DATA, PADDED | END_STREAM, 1, b"\x04abc\0\0\0\0")]),
        "zero": (b"0", [data(1, b"", end=True)]),
        "zero, trailers": (b"0", [headers(1, TRAILERS)]),
        "leading zeros": (b"00003", [data(1, b"abc", end=True)]),
    }
    BAD: Final[dict[str, tuple[bytes, list[bytes]]]] = {
        "short": (b"3", [data(1, b"ab", end=True)]),
        "short frames": (b"3", [data(1, b"a"), data(1, b"b"), data(1, b"", end=True)]),
        "short, trailers": (b"3", [data(1, b"ab"), headers(1, TRAILERS)]),
        "nothing": (b"3", [data(1, b"", end=True)]),
        "nothing, trailers": (b"3", [headers(1, TRAILERS)]),
        "long": (b"3", [data(1, b"abcd", end=True)]),
        "long, not ended": (b"3", [data(1, b"abcd")]),
        "long frames": (b"3", [data(1, b"abc"), data(1, b"d")]),
        "zero": (b"0", [data(1, b"a")]),
        "huge": (b"9223372036854775808", [data(1, b"a", end=True)]),
    }
    FORMS: Final = [
        b"",
        b"-1",
        b"+3",
        b"3.0",
        b"0x3",
        b"3 3",
        b"3,3",
        b"3, 3",
        b"abc",
        b"3a",
        b"\xb3",
        b"\xd9\xa3",
        b"1_0",
        b"1e1",
    ]

    async def test_request(self) -> None:
        for what, (length, frames) in self.GOOD.items():
            with self.subTest(what):
                server = await self.server()
                await server.accepts(opening(1, with_length(POST, length)), *frames)
                self.assertEqual(len(await server.protocol.read_stream(1, -1)), int(length))
        for what, (length, frames) in self.BAD.items():
            with self.subTest(what):
                server = await self.server()
                await server.resets(
                    1, PROTOCOL_ERROR, opening(1, with_length(POST, length)), *frames
                )
                with self.assertRaises(aioh2.StreamReset):
                    await server.protocol.read_stream(1, -1)

    async def test_response(self) -> None:
        for what, (length, frames) in self.GOOD.items():
            with self.subTest(what):
                client = await self.client()
                await client.accepts(opening(1, with_length(RESPONSE, length)), *frames)
                self.assertEqual(len(await client.protocol.read_stream(1, -1)), int(length))
        for what, (length, frames) in self.BAD.items():
            with self.subTest(what):
                client = await self.client()
                await client.resets(
                    1, PROTOCOL_ERROR, opening(1, with_length(RESPONSE, length)), *frames
                )
                with self.assertRaises(aioh2.StreamReset):
                    await client.protocol.read_stream(1, -1)

    async def test_header_section_alone(self) -> None:
        server = await self.server()
        await server.accepts(headers(1, with_length(POST, b"0")))
        server = await self.server()
        await server.resets(1, PROTOCOL_ERROR, headers(1, with_length(POST, b"5")))
        client = await self.client()
        await client.accepts(headers(1, with_length(RESPONSE, b"0")))
        client = await self.client()
        await client.resets(1, PROTOCOL_ERROR, headers(1, with_length(RESPONSE, b"5")))

    async def test_forms(self) -> None:
        await self.requests_are_malformed(
            {repr(form): with_length(POST, form) for form in self.FORMS}
        )
        await self.responses_are_malformed(
            {repr(form): with_length(RESPONSE, form) for form in self.FORMS}
        )

    async def test_doubled(self) -> None:
        for second in (b"3", b"4", b"03"):
            doubled = {repr(second): with_length(POST, b"3", second)}
            await self.requests_are_malformed(doubled)
            await self.responses_are_malformed({repr(second): with_length(RESPONSE, b"3", second)})

    async def answered(self, method: bytes, status: bytes, *frames: bytes) -> Client:
        client = await Client.start(self, changed(REQUEST, method=method))
        response = with_length([(b":status", status)], b"5")
        await client.accepts(opening(1, response), *frames)
        return client

    async def test_no_content(self) -> None:
        """Responses that have none by definition say how long it would be."""
        for method, status in ((b"HEAD", b"200"), (b"GET", b"204"), (b"GET", b"304")):
            for frames in ([data(1, b"", end=True)], [data(1, b""), headers(1, TRAILERS)]):
                with self.subTest(method=method, status=status):
                    client = await self.answered(method, status, *frames)
                    self.assertEqual(await client.protocol.read_stream(1, -1), b"")
            with self.subTest(method=method, status=status, end="HEADERS"):
                client = await Client.start(self, changed(REQUEST, method=method))
                response = with_length([(b":status", status)], b"5")
                await client.accepts(headers(1, response))
            with self.subTest(method=method, status=status, content=True):
                client = await Client.start(self, changed(REQUEST, method=method))
                await client.resets(1, PROTOCOL_ERROR, opening(1, response), data(1, b"12345"))

    async def test_head_with_an_error(self) -> None:
        client = await self.answered(b"HEAD", b"404", data(1, b"", end=True))
        self.assertEqual(await client.protocol.read_stream(1, -1), b"")

    async def test_interim_response(self) -> None:
        client = await self.client()
        await client.accepts(
            opening(1, with_length([(b":status", b"103")], b"5")),
            opening(1, with_length(RESPONSE, b"3")),
            data(1, b"abc", end=True),
        )

    async def test_trailers_say_nothing_of_the_content(self) -> None:
        for length in (b"7", b"abc"):
            server = await self.server()
            await server.accepts(opening(1), data(1, b"abc"), headers(1, with_length([], length)))

    async def test_connect(self) -> None:
        client = await Client.start(self, CONNECT)
        await client.accepts(opening(1, with_length(RESPONSE, b"5")), data(1, b"tunnel", end=True))

    async def test_refused_connect(self) -> None:
        """Without 2xx there is no tunnel, but a response like others."""
        for length, content in ((b"5", b"abc"), (b"2", b"abc")):
            with self.subTest(length=length):
                client = await Client.start(self, CONNECT)
                response = with_length([(b":status", b"403")], length)
                await client.resets(
                    1, PROTOCOL_ERROR, opening(1, response), data(1, content, end=True)
                )
        client = await Client.start(self, CONNECT)
        response = with_length([(b":status", b"403")], b"3")
        await client.accepts(opening(1, response), data(1, b"abc"), headers(1, TRAILERS))

    async def test_pushed_response(self) -> None:
        for method in (b"GET", b"HEAD"):
            client = await self.client(enable_push=True)
            client.send(promise(1, 2, changed(REQUEST, method=method)))
            response = opening(2, with_length(RESPONSE, b"5"))
            if method == b"HEAD":
                await client.accepts(response, data(2, b"", end=True))
            else:
                await client.resets(2, PROTOCOL_ERROR, response, data(2, b"abc", end=True))


class TestFields(Messages):
    """Section 8.2."""

    def named(self, name: bytes) -> Fields:
        return [*REQUEST, (name, b"x")]

    def valued(self, value: bytes) -> Fields:
        return [*REQUEST, (b"x-field", value)]

    async def test_characters_of_names(self) -> None:
        forbidden = bytes([*range(0x21), *range(0x41, 0x5B), *range(0x7F, 0x100), 0x3A])
        names = [
            name
            for octet in forbidden
            for name in (b"a" + bytes([octet]), bytes([octet]) + b"b")
            # a pseudo-header field, which is tested below
            if name[0] != 0x3A
        ]
        for at in range(0, len(names), 90):
            await self.all_are_malformed(self.named(name) for name in names[at : at + 90])

    async def test_characters_that_are_no_token(self) -> None:
        await self.all_are_malformed(
            self.named(b"a" + bytes([octet])) for octet in b'"(),/;<=>?@[\\]{}'
        )

    async def test_names(self) -> None:
        await self.requests_are_malformed(
            {
                "empty": self.named(b""),
                "upper case": self.named(b"X-Field"),
                "pseudo-header": self.named(b":"),
                "colon": self.named(b"host:"),
                "space": self.named(b"x-field "),
            }
        )
        await self.responses_are_malformed(
            {
                "empty": [*RESPONSE, (b"", b"x")],
                "upper case": [*RESPONSE, (b"X-Field", b"x")],
                "colon": [*RESPONSE, (b"x:y", b"x")],
            }
        )
        await self.requests_are_good({"token": self.named(b"!#$%&'*+-.^_`|~0123456789az")})

    async def test_characters_of_values(self) -> None:
        values = [
            value
            for octet in b"\x00\r\n"
            for value in (
                bytes([octet]),
                b"a" + bytes([octet]),
                bytes([octet]) + b"a",
                b"a" + bytes([octet]) + b"b",
            )
        ]
        values += [b"a\r\nb: c", b" a", b"a ", b"\ta", b"a\t", b" ", b"\t"]
        # the other controls, which RFC 9110 section 5.5 does not have
        values += [b"a%cb" % octet for octet in range(0x20) if octet not in b"\x00\t\r\n"]
        values.append(b"a\x7fb")
        await self.all_are_malformed(self.valued(value) for value in values)

    async def test_values(self) -> None:
        good = [b"", b"a", b"a b", b"a\tb", b"a \t b", b"\x80\xff", b"caf\xc3\xa9", b'"\\\x21\x7e']
        await self.requests_are_good({repr(value): self.valued(value) for value in good})
        server = await self.server()
        server.send(headers(1, self.valued(b"\xff\xfe")))
        self.assertIn(("x-field", "\udcff\udcfe"), await server.request(1))

    async def test_values_in_responses(self) -> None:
        await self.responses_are_malformed(
            {repr(value): [*RESPONSE, (b"x", value)] for value in (b"a\0b", b"a\nb", b"\rb", b" a")}
        )

    async def test_values_of_pseudo_headers(self) -> None:
        for octet in b"\x00\r\n \t\x7f":
            suffix = bytes([octet])
            await self.requests_are_malformed(
                {
                    f"{name} {octet:#x}": changed(REQUEST, **{name: value + suffix})
                    for name, value in (
                        ("method", b"GET"),
                        ("scheme", b"http"),
                        ("authority", b"a.test"),
                        ("path", b"/"),
                    )
                }
            )

    async def test_connection_specific(self) -> None:
        names = (
            b"connection",
            b"proxy-connection",
            b"keep-alive",
            b"transfer-encoding",
            b"upgrade",
        )
        await self.requests_are_malformed(
            {name.decode(): [*REQUEST, (name, b"x")] for name in names}
        )
        await self.responses_are_malformed(
            {name.decode(): [*RESPONSE, (name, b"x")] for name in names}
        )

    async def test_te(self) -> None:
        await self.requests_are_good({"trailers": [*REQUEST, (b"te", b"trailers")]})
        await self.requests_are_malformed(
            {
                repr(value): [*REQUEST, (b"te", value)]
                for value in (b"gzip", b"trailers, gzip", b"", b"trailers;q=1", b"chunked")
            }
        )

    async def test_cookies(self) -> None:
        """Section 8.2.3: crumbs are joined."""
        crumbs = [(b"cookie", b"a=b"), (b"x", b"y"), (b"cookie", b"c=d"), (b"cookie", b"e=f")]
        server = await self.server()
        server.send(headers(1, [*REQUEST, *crumbs]))
        fields = await server.request(1)
        cookies = [value for name, value in fields if name == "cookie"]
        self.assertEqual(cookies, ["a=b; c=d; e=f"])
        self.assertIn(("x", "y"), fields)


class TestPseudoHeaders(Messages):
    """Sections 8.3.1 and 8.3.2."""

    async def test_missing(self) -> None:
        names = ("method", "scheme", "path")
        await self.requests_are_malformed(
            {
                **{name: changed(REQUEST, **{name: None}) for name in names},
                "all": [],
                "all but a field": [(b"x", b"y")],
                "authority": changed(REQUEST, authority=None),
            }
        )
        await self.responses_are_malformed({"all": [], "all but a field": [(b"x", b"y")]})

    async def test_doubled(self) -> None:
        await self.requests_are_malformed({repr(field): [field, *REQUEST] for field in REQUEST})
        await self.responses_are_malformed({"status": [*RESPONSE, *RESPONSE]})

    async def test_out_of_place(self) -> None:
        await self.requests_are_malformed(
            {
                "unknown": [*REQUEST, (b":unknown", b"x")],
                "of a response": [*REQUEST, (b":status", b"200")],
                "of an extension": [*REQUEST, (b":protocol", b"websocket")],
                "upper case": [(b":Method", b"GET"), *REQUEST[1:]],
                "after a field": [*REQUEST[:3], (b"x", b"y"), REQUEST[3]],
                "after the last field": [REQUEST[0], (b"x", b"y"), *REQUEST[1:]],
            }
        )
        await self.responses_are_malformed(
            {
                "unknown": [*RESPONSE, (b":unknown", b"x")],
                "of a request": [*RESPONSE, (b":path", b"/")],
                "upper case": [(b":Status", b"200")],
                "after a field": [(b"x", b"y"), *RESPONSE],
            }
        )

    async def test_any_order(self) -> None:
        await self.requests_are_good(
            {repr(order): list(order) for order in itertools.permutations(REQUEST)}
        )

    async def test_method(self) -> None:
        for method in (b"", b"G T", b"GET ", b"G\xcbT", b"GET/", b"GET:"):
            await self.requests_are_malformed({repr(method): changed(REQUEST, method=method)})
        for method in (b"get", b"M-SEARCH", b"X!#$%&'*+-.^_`|~", b"PRI"):
            await self.requests_are_good({repr(method): changed(REQUEST, method=method)})

    async def test_scheme(self) -> None:
        for scheme in (b"", b"1http", b"ht tp", b"http:", b"h\xe4"):
            await self.requests_are_malformed({repr(scheme): changed(REQUEST, scheme=scheme)})
        for scheme in (b"https", b"ftp", b"coap+tcp", b"a.b-c"):
            await self.requests_are_good({repr(scheme): changed(REQUEST, scheme=scheme)})

    async def test_path(self) -> None:
        for path in (b"", b"a", b"*", b"?x", b"/a b", b"/a\tb", b"http://a.test/", b"/\x00"):
            await self.requests_are_malformed({repr(path): changed(REQUEST, path=path)})
        for path in (b"/?", b"//", b"/a?b=/?c", b"/%20", b"/*", b"/caf\xc3\xa9"):
            await self.requests_are_good({repr(path): changed(REQUEST, path=path)})
        options = changed(REQUEST, method=b"OPTIONS")
        await self.requests_are_good({"*": changed(options, path=b"*"), "path": options})
        await self.requests_are_malformed(
            {"empty": changed(options, path=b""), "**": changed(options, path=b"**")}
        )
        await self.requests_are_good(
            {"another scheme": changed(REQUEST, scheme=b"urn", path=b"isbn:0")}
        )

    async def test_authority(self) -> None:
        for authority in (b"", b"user@a.test", b"user:pw@a.test", b"a b", b"@a.test", b"a.test\n"):
            for scheme in (b"http", b"https"):
                await self.requests_are_malformed(
                    {repr(authority): changed(REQUEST, authority=authority, scheme=scheme)}
                )
        for authority in (b"a.test:80", b"[::1]:443", b"A.Test", b"127.0.0.1"):
            await self.requests_are_good({repr(authority): changed(REQUEST, authority=authority)})

    async def test_authority_of_another_scheme(self) -> None:
        other = changed(REQUEST, scheme=b"ftp")
        await self.requests_are_good(
            {"empty": changed(other, authority=b""), "user": changed(other, authority=b"user@a")}
        )
        await self.requests_are_malformed(
            {"space": changed(other, authority=b"a b"), "host": [*other, (b"host", b"b.test")]}
        )

    async def test_host(self) -> None:
        without = changed(REQUEST, authority=None)
        host = b"host"
        await self.requests_are_good(
            {
                "instead": [*without, (host, b"a.test")],
                "the same": [*REQUEST, (host, b"a.test")],
                "another case": [*REQUEST, (host, b"A.TEST")],
                "default port": [*REQUEST, (host, b"a.test:80")],
            }
        )
        await self.requests_are_malformed(
            {
                "another": [*REQUEST, (host, b"b.test")],
                "another port": [*REQUEST, (host, b"a.test:8080")],
                "default port of another scheme": [*REQUEST, (host, b"a.test:443")],
                "empty": [*REQUEST, (host, b"")],
                "doubled": [*REQUEST, (host, b"a.test"), (host, b"a.test")],
                "doubled instead": [*without, (host, b"a.test"), (host, b"a.test")],
                "empty instead": [*without, (host, b"")],
                "userinfo instead": [*without, (host, b"user@a.test")],
            }
        )

    async def test_status(self) -> None:
        bad = (b"", b"20", b"2000", b"099", b"000", b"abc", b"+20", b"2 0", b"-99", b"2.0", b"0x1")
        await self.responses_are_malformed(
            {repr(status): [(b":status", status)] for status in (*bad, b"\xb2\xb2\xb2")}
        )
        good = (b"200", b"204", b"299", b"304", b"404", b"599", b"600", b"999")
        await self.responses_are_good({repr(status): [(b":status", status)] for status in good})

    async def test_host_of_a_response(self) -> None:
        """It means nothing there."""
        fields = [*RESPONSE, (b"host", b"a.test"), (b"host", b"b.test")]
        await self.responses_are_good({"doubled": fields})

    async def test_switching_protocols(self) -> None:
        """Section 8.6."""
        await self.responses_are_malformed({"101": [(b":status", b"101")]})


class TestServerPush(Conformance):
    """Section 8.4, at a client."""

    async def pushed(self, fields: Fields = REQUEST, **options: Any) -> Client:
        client = await self.client(enable_push=True, **options)
        client.send(promise(1, 2, fields))
        return client

    async def test_promise_and_response(self) -> None:
        client = await self.pushed()
        await client.accepts(
            opening(1, RESPONSE),
            promise(1, 4, changed(REQUEST, method=b"HEAD")),
            opening(2, RESPONSE),
            data(2, b"abc"),
            data(1, b"def", end=True),
            headers(2, TRAILERS),
            headers(4, RESPONSE),
        )
        protocol = client.protocol
        for stream_id in (2, 4):
            promised = await protocol.recv_push(1)
            assert promised is not None
            self.assertEqual(promised[0], stream_id)
        self.assertIsNone(await protocol.recv_push(1))
        self.assertEqual(await protocol.read_stream(2, -1), b"abc")
        self.assertEqual(await protocol.recv_trailers(2), [("checksum", "0")])

    async def test_interim_response(self) -> None:
        """A pushed response is the same sequence of frames as another (section 8.4.2)."""
        client = await self.pushed()
        interim = opening(2, [(b":status", b"103"), (b"link", b"</a>")])
        await client.accepts(interim, interim, headers(2, RESPONSE))
        self.assertEqual(await client.protocol.recv_response(2), [(":status", "200")])

    async def test_request_that_cannot_be_promised(self) -> None:
        cases: dict[str, Fields] = {
            "POST": POST,
            "PUT": changed(REQUEST, method=b"PUT"),
            "DELETE": changed(REQUEST, method=b"DELETE"),
            "CONNECT": CONNECT,
            "unknown method": changed(REQUEST, method=b"NEW"),
            "content": with_length(REQUEST, b"5"),
            "no method": REQUEST[1:],
            "no path": REQUEST[:3],
            "no fields": [],
            "status": [*REQUEST, (b":status", b"200")],
            "upper case": [*REQUEST, (b"X", b"y")],
            "line feed": [*REQUEST, (b"x", b"y\nz")],
            "connection-specific": [*REQUEST, (b"connection", b"close")],
            "pseudo-header last": [*REQUEST[1:], (b"x", b"y"), REQUEST[0]],
        }
        for what, fields in cases.items():
            with self.subTest(what):
                client = await self.client(enable_push=True)
                await client.resets(2, PROTOCOL_ERROR, promise(1, 2, fields))
                # what was on its way is ignored, and the next promise is good
                client.send(headers(2, RESPONSE), promise(1, 4), headers(4, RESPONSE))
                self.assertEqual(resets(await client.frames()), [])
                promised = await client.protocol.recv_push(1)
                assert promised is not None
                self.assertEqual(promised[0], 4)

    async def test_no_content_by_length(self) -> None:
        client = await self.pushed(with_length(REQUEST, b"0"))
        await client.accepts(headers(2, RESPONSE))

    async def test_of_another_authority(self) -> None:
        """Sections 8.4 and 10.1: a server pushes only what it is authoritative for."""
        for authority in (b"b.test", b"a.test:8080"):
            with self.subTest(authority=authority):
                client = await self.client(enable_push=True)
                foreign = promise(1, 2, changed(REQUEST, authority=authority))
                await client.resets(2, PROTOCOL_ERROR, foreign)

    async def test_on_a_promised_stream(self) -> None:
        for response in ([], [opening(2, RESPONSE)]):
            client = await self.pushed()
            client.send(*response)
            client.last = 2
            await client.fails(PROTOCOL_ERROR, promise(2, 4))

    async def test_after_the_response(self) -> None:
        client = await self.client(enable_push=True)
        await client.protocol.end_stream(1)
        client.send(headers(1, RESPONSE))
        await client.fails(PROTOCOL_ERROR, promise(1, 2))

    async def test_malformed_response(self) -> None:
        client = await self.pushed()
        await client.resets(2, PROTOCOL_ERROR, opening(2, TRAILERS))
        client = await self.pushed()
        await client.resets(2, PROTOCOL_ERROR, opening(2, [(b":status", b"101")]))
        client = await self.pushed()
        client.last = 2
        await client.fails(PROTOCOL_ERROR, data(2))

    async def test_beyond_goaway(self) -> None:
        """A promise after the client's GOAWAY is dropped, its fields are decoded."""
        client = await self.client(enable_push=True)
        shutdown = asyncio.get_running_loop().create_task(client.protocol.shutdown())
        self.addCleanup(shutdown.cancel)
        for frame in await client.frames(PingFrame):
            client.send(ping(frame.opaque_data, ACK))
        await client.frames()
        entry = b"\x40" + string(b"x-new") + string(b"value")
        client.send(
            raw(PUSH_PROMISE, END_HEADERS, 1, u32(2) + literal(REQUEST) + entry),
            headers(2, RESPONSE),
            data(2),
            raw(HEADERS, END_HEADERS | END_STREAM, 3, literal(RESPONSE) + b"\xbe"),
        )
        self.assertEqual(of(await client.frames(), RstStreamFrame, GoAwayFrame), [])
        self.assertEqual((await client.protocol.recv_response(3))[-1], ("x-new", "value"))


class TestConnect(Messages):
    """Section 8.5, and RFC 8441."""

    async def test_malformed(self) -> None:
        await self.requests_are_malformed(
            {
                "scheme": [*CONNECT, (b":scheme", b"http")],
                "path": [*CONNECT, (b":path", b"/")],
                "both": [*CONNECT, (b":scheme", b"http"), (b":path", b"/")],
                "no authority": CONNECT[:1],
                "host instead": [*CONNECT[:1], (b"host", b"a.test:443")],
                "empty authority": changed(CONNECT, authority=b""),
                "userinfo": changed(CONNECT, authority=b"user@a.test:443"),
                "another host": [*CONNECT, (b"host", b"b.test:443")],
                "protocol": [*CONNECT, (b":protocol", b"websocket")],
            }
        )
        await self.requests_are_good(
            {"plain": CONNECT, "host": [*CONNECT, (b"host", b"a.test:443")]}
        )

    async def connected_server(self) -> Server:
        server = await self.server()
        server.send(opening(1, CONNECT))
        await server.request(1)
        await server.protocol.start_response(1, RESPONSE)
        return server

    async def connected_client(self, **options: Any) -> Client:
        client = await Client.start(self, CONNECT, **options)
        client.send(opening(1, RESPONSE))
        return client

    async def test_tunnel(self) -> None:
        server = await self.connected_server()
        await server.accepts(
            data(1, b"abc"), window_update(1), priority(1, 3), data(1, b"def", end=True)
        )
        self.assertEqual(await server.protocol.read_stream(1, -1), b"abcdef")
        await server.protocol.send_data(1, b"ghi", end_stream=True)
        self.assertEqual([f.data for f in await server.frames(DataFrame)], [b"ghi"])
        client = await self.connected_client()
        await client.accepts(
            data(1, b"abc"), window_update(1), priority(1, 3), data(1, b"def", end=True)
        )
        self.assertEqual(await client.protocol.read_stream(1, -1), b"abcdef")

    async def test_header_section_in_a_tunnel(self) -> None:
        for frame in (headers(1, TRAILERS), opening(1, TRAILERS), headers(1, RESPONSE)):
            for before in ([], [data(1)]):
                server = await self.connected_server()
                await server.resets(1, PROTOCOL_ERROR, *before, frame)
                client = await self.connected_client()
                await client.resets(1, PROTOCOL_ERROR, *before, frame)

    async def test_promise_in_a_tunnel(self) -> None:
        """It costs the tunnel, and the stream that it has reserved is given up (section 6.6)."""
        client = await self.connected_client(enable_push=True)
        client.send(promise(1, 2), headers(5, RESPONSE))
        written = await client.frames()
        self.assertIn((1, PROTOCOL_ERROR), resets(written))
        self.assertEqual([stream_id for stream_id, _ in sorted(resets(written))], [1, 2])
        self.assertEqual(of(written, GoAwayFrame), [])
        await client.exchange(late=True)

    async def test_refused(self) -> None:
        server = await self.server()
        server.send(opening(1, CONNECT))
        await server.request(1)
        await server.protocol.start_response(1, [(b":status", b"403")])
        await server.accepts(data(1), headers(1, TRAILERS))
        client = await Client.start(self, CONNECT)
        await client.accepts(
            opening(1, [(b":status", b"403")]), data(1, b"no"), headers(1, TRAILERS)
        )

    async def test_interim_response(self) -> None:
        client = await Client.start(self, CONNECT)
        await client.accepts(opening(1, [(b":status", b"103")]), opening(1, RESPONSE), data(1))

    async def test_reset(self) -> None:
        client = await self.connected_client()
        await client.accepts(data(1, b"abc"), rst_stream(1, ErrorCodes.CONNECT_ERROR))
        self.assertEqual(await client.protocol.read_stream(1), b"abc")
        with self.assertRaises(aioh2.StreamReset) as caught:
            await client.protocol.read_stream(1)
        self.assertEqual(caught.exception.error_code, ErrorCodes.CONNECT_ERROR)

    EXTENDED: Final = [*changed(REQUEST, method=b"CONNECT"), (b":protocol", b"websocket")]

    async def test_extended(self) -> None:
        await self.requests_are_good({"extended": self.EXTENDED}, enable_connect_protocol=True)
        await self.requests_are_malformed(
            {
                "another method": [*REQUEST, (b":protocol", b"websocket")],
                "no scheme": changed(self.EXTENDED, scheme=None),
                "no path": changed(self.EXTENDED, path=None),
                "no authority": changed(self.EXTENDED, authority=None),
                "empty protocol": changed(self.EXTENDED, protocol=b""),
                "space in the protocol": changed(self.EXTENDED, protocol=b"web socket"),
                "doubled": [*self.EXTENDED, (b":protocol", b"websocket")],
            },
            enable_connect_protocol=True,
        )
        await self.requests_are_malformed({"not offered": self.EXTENDED})

    async def test_trailers_in_an_extended_tunnel(self) -> None:
        server = await self.server(enable_connect_protocol=True)
        server.send(opening(1, self.EXTENDED))
        await server.request(1)
        await server.protocol.start_response(1, RESPONSE)
        await server.resets(1, PROTOCOL_ERROR, data(1), headers(1, TRAILERS))


# --- RFC 7541 ------------------------------------------------------------------------------


class TestHpack(Conformance):
    """RFC 7541: what cannot be decoded costs the connection, what is unusual is decoded."""

    START: Final = literal(REQUEST)

    async def test_errors(self) -> None:
        cases = {
            "index 0 (6.1)": b"\x80",
            "index beyond the tables (2.3.3)": b"\xbe",
            "index far beyond": b"\xff\xff\xff\x7f",
            "name index beyond (6.2.1)": b"\x7f\x00\x01a",
            "name index beyond, no indexing (6.2.2)": b"\x0f\x2f\x01a",
            "integer without end (5.1)": b"\xff\x80\x80",
            "integer too long (5.1)": b"\xff" + b"\x80" * 20 + b"\x01",
            "integer too large (5.1)": b"\xff" + b"\xff" * 9 + b"\x7f",
            "string without length (5.2)": b"\x40",
            "name cut off (5.2)": b"\x40\x05ab",
            "value missing": b"\x40\x01a",
            "value cut off": b"\x40\x01a\x05bc",
            "value length without end": b"\x40\x01a\x7f\x80",
            "length far beyond": b"\x00\x7f\xff\xff\xff\x0f",
            "padding of 8 bits (5.2)": b"\x00\x82\x1f\xff\x01a",
            "padding of zeros (5.2)": b"\x00\x81\x18\x01a",
            "EOS in a string (5.2)": b"\x00\x84\xff\xff\xff\xff\x01a",
            "value with padding of zeros": b"\x00\x01a\x81\x18",
            "table size after a field (4.2)": b"\x82\x20",
            "table size too large (6.3)": b"\x3f\xe2\x1f",
            "table size far too large": b"\x3f\xff\xff\xff\xff\x0f",
            "table size cut off": b"\x3f",
        }
        for what, block in cases.items():
            for prefix in (b"",) if "table size" in what else (b"", self.START):
                with self.subTest(what, prefix=bool(prefix)):
                    server = await self.server()
                    frame = raw(HEADERS, END_HEADERS | END_STREAM, 93, prefix + block)
                    await server.fails(COMPRESSION_ERROR, frame)

    async def test_table_size_in_the_middle(self) -> None:
        server = await self.server()
        frame = raw(HEADERS, END_HEADERS | END_STREAM, 93, self.START + b"\x20")
        await server.fails(COMPRESSION_ERROR, frame)

    async def test_wherever_blocks_are(self) -> None:
        bad = b"\xbe"
        client = await self.client(enable_push=True)
        await client.fails(COMPRESSION_ERROR, raw(HEADERS, END_HEADERS, 1, bad))
        client = await self.client(enable_push=True)
        client.send(opening(1, RESPONSE))
        await client.fails(COMPRESSION_ERROR, raw(HEADERS, END_HEADERS | END_STREAM, 1, bad))
        client = await self.client(enable_push=True)
        await client.fails(COMPRESSION_ERROR, raw(PUSH_PROMISE, END_HEADERS, 1, u32(2) + bad))
        client = await self.client()
        client.protocol.reset_stream(1)
        await client.fails(COMPRESSION_ERROR, raw(HEADERS, END_HEADERS, 1, bad))
        server = await self.server()
        await server.fails(
            COMPRESSION_ERROR,
            raw(HEADERS, END_STREAM, 93, self.START),
            raw(CONTINUATION, END_HEADERS, 93, bad),
        )

    async def decoded(self, block: bytes, *fields: tuple[str, str]) -> None:
        server = await self.server()
        server.send(raw(HEADERS, END_HEADERS | END_STREAM, 1, block))
        request = await server.request(1)
        self.assertEqual(request[: len(request) - len(fields)], _text(REQUEST))
        self.assertEqual(request[len(request) - len(fields) :], list(fields))
        await server.exchange()

    async def test_representations(self) -> None:
        cases: dict[str, tuple[bytes, tuple[str, str]]] = {
            "indexed (6.1)": (b"\x90", ("accept-encoding", "gzip, deflate")),
            "indexed name (6.2.1)": (b"\x53\x01a", ("accept", "a")),
            "new name (6.2.1)": (b"\x40\x01a\x01b", ("a", "b")),
            "indexed name, no indexing (6.2.2)": (b"\x0f\x04\x01a", ("accept", "a")),
            "new name, no indexing (6.2.2)": (b"\x00\x01a\x01b", ("a", "b")),
            "indexed name, never indexed (6.2.3)": (b"\x1f\x04\x01a", ("accept", "a")),
            "new name, never indexed (6.2.3)": (b"\x10\x01a\x01b", ("a", "b")),
            "Huffman (5.2)": (b"\x00\x81\x1f\x81\x8f", ("a", "b")),
            "empty strings": (b"\x00\x01a\x00", ("a", "")),
            "empty Huffman string": (b"\x00\x01a\x80", ("a", "")),
            "longer integers than needed": (
                b"\x00\x01a\x7f\x81\x00" + b"b" * 128,
                ("a", "b" * 128),
            ),
        }
        for what, (block, field) in cases.items():
            with self.subTest(what):
                await self.decoded(self.START + block, field)

    async def test_table_size_updates(self) -> None:
        for update in (b"\x20", b"\x3f\xe1\x1f", b"\x20\x3f\xe1\x1f", b"\x3f\x45"):
            with self.subTest(update=update):
                await self.decoded(update + self.START)

    async def test_eviction(self) -> None:
        """Section 4.4: an entry larger than the table empties it."""
        server = await self.server()
        large = b"\x40\x01a" + string(b"b" * 5000)
        server.send(
            raw(HEADERS, END_HEADERS | END_STREAM, 1, self.START + b"\x40\x01a\x01b" + large)
        )
        await server.answers(1)
        await server.fails(
            COMPRESSION_ERROR, raw(HEADERS, END_HEADERS | END_STREAM, 93, self.START + b"\xbe")
        )

    async def test_smaller_table_has_to_be_announced(self) -> None:
        """RFC 9113 section 4.3.1."""
        for update, verdict in ((b"", False), (b"\x3f\x45", False), (b"\x20", True)):
            with self.subTest(update=update):
                server = await self.server(header_table_size=0)
                frame = raw(HEADERS, END_HEADERS | END_STREAM, 93, update + self.START)
                if verdict:
                    await server.accepts(frame)
                else:
                    server.send(frame)
                    ends = await server.frames(GoAwayFrame)
                    self.assertEqual([f.error_code for f in ends], [COMPRESSION_ERROR])

    async def test_smaller_table_before_our_settings_are_known(self) -> None:
        peer = Peer(aioh2.H2Protocol(False, header_table_size=0))
        peer.protocol.connection_made(peer.transport)
        server = Server(self, peer)
        server.send(PREFACE, setting(), headers(1))
        await server.answers(1)
        server.send(raw(SETTINGS, ACK), raw(HEADERS, 5, 3, b"\x20" + self.START))
        await server.answers(3)

    async def test_larger_table(self) -> None:
        server = await self.server(header_table_size=8192)
        update = b"\x3f\xe1\x3f"
        await server.accepts(raw(HEADERS, END_HEADERS | END_STREAM, 1, update + self.START))

    async def test_field_section_that_is_too_large(self) -> None:
        server = await self.server(max_header_list_size=1000)
        await server.accepts(headers(1, [*REQUEST, (b"x", b"y" * 700)]))
        await server.fails(ENHANCE_YOUR_CALM, headers(2001, [*REQUEST, (b"x", b"y" * 1000)]))

    async def test_small_block_with_a_large_field_section(self) -> None:
        server = await self.server()
        entry = b"\x40\x01x" + string(b"y" * 4000)
        await server.fails(
            ENHANCE_YOUR_CALM,
            raw(HEADERS, END_HEADERS | END_STREAM, 93, self.START + entry + b"\xbe" * 30),
        )


def _text(fields: Fields) -> list[tuple[str, str]]:
    return [(name.decode(), value.decode()) for name, value in fields]


# --- anything at all -----------------------------------------------------------------------

LIMITS: Final = {
    SettingCodes.HEADER_TABLE_SIZE: 4096,
    SettingCodes.MAX_CONCURRENT_STREAMS: 10,
    SettingCodes.INITIAL_WINDOW_SIZE: 70_000,
    SettingCodes.MAX_FRAME_SIZE: 16_384,
    SettingCodes.MAX_HEADER_LIST_SIZE: 65_536,
}


def _script_of_client() -> list[bytes]:
    """Return what a client may send, of every kind, frame by frame."""
    encode = hpack.Encoder().encode
    field = (b"x-field", b"value")
    prioritized = END_HEADERS | END_STREAM | PRIORITIZED | PADDED
    post = with_length(POST, b"6")
    return [
        setting((3, 9), (4, 1000), (4, 2000), (0xF0F0, 1)),
        raw(SETTINGS, ACK),
        window_update(0, 100_000),
        priority(7, 3, 200),
        raw(HEADERS, END_HEADERS, 1, encode([*post, field])),
        data(1, b"abc"),
        raw(DATA, PADDED, 1, b"\x03def\0\0\0"),
        raw(UNKNOWN, 0xFF, 1, b"???"),
        raw(HEADERS, END_STREAM, 1, encode([field])[:1]),
        raw(CONTINUATION, END_HEADERS, 1, b""),
        raw(HEADERS, prioritized, 3, b"\x02" + u32(1) + b"\x07" + encode(REQUEST) + b"\0\0"),
        raw(HEADERS, END_HEADERS, 5, encode([*POST, field, (b"cookie", b"a"), (b"cookie", b"b")])),
        ping(),
        data(5, b"x" * 50),
        window_update(5, 5),
        setting((1, 100), (4, 70_000)),
        rst_stream(5),
        raw(HEADERS, END_HEADERS, 7, encode(CONNECT)),
        data(7, b"tunnel"),
        data(7, b"", end=True),
        window_update(3, 1),
        raw(HEADERS, END_HEADERS | END_STREAM, 9, encode(changed(REQUEST, method=b"HEAD"))),
        ping(b"87654321", ACK),
        goaway(0, 0, b"bye"),
    ]


def _script_of_server() -> list[bytes]:
    """Return what a server may send to requests on 1 (POST), 3, 5 (HEAD) and 7 (CONNECT)."""
    encode = hpack.Encoder().encode
    field = (b"x-field", b"value")
    return [
        setting((3, 100), (4, 70_000), (2, 0)),
        raw(SETTINGS, ACK),
        window_update(0, 100_000),
        raw(HEADERS, END_HEADERS, 1, encode([(b":status", b"103"), field])),
        raw(PUSH_PROMISE, END_HEADERS | PADDED, 3, b"\x01" + u32(2) + encode(REQUEST) + b"\0"),
        raw(HEADERS, 0, 3, encode(with_length(RESPONSE, b"6"))),
        raw(CONTINUATION, END_HEADERS, 3, encode([field])),
        data(3, b"abc"),
        raw(UNKNOWN, 0, 0, b"???"),
        raw(DATA, PADDED | END_STREAM, 3, b"\x03def\0\0\0"),
        window_update(1, 5),
        raw(HEADERS, END_HEADERS | END_STREAM, 5, encode(with_length(RESPONSE, b"1000"))),
        raw(HEADERS, END_HEADERS, 2, encode([*RESPONSE, field])),
        raw(ALTSVC, 0, 0, b"\x00\x01ah2=':1'"),
        ping(),
        raw(HEADERS, END_HEADERS, 7, encode(RESPONSE)),
        data(7, b"tunnel"),
        setting((4, 10), (1, 0)),
        data(2, b"x" * 50),
        raw(HEADERS, END_HEADERS, 1, encode([*RESPONSE, field])),
        raw(HEADERS, END_HEADERS | END_STREAM, 1, encode([field])),
        rst_stream(1, NO_ERROR),
        rst_stream(2, CANCEL),
        data(7, b"", end=True),
        goaway(7, 0, b"bye"),
    ]


SCRIPTS: Final = {False: _script_of_client(), True: _script_of_server()}
REQUESTS: Final = (POST, REQUEST, changed(REQUEST, method=b"HEAD"), CONNECT)


def connection(*, client: bool) -> Connection:
    """Return a connection whose preface is out, and a client's requests too."""
    made = Connection(
        H2Configuration(
            client_side=client,
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
    )
    made.initiate(LIMITS | ({SettingCodes.ENABLE_PUSH: 1} if client else {}), window_size=200_000)
    if client:
        for number, fields in enumerate(REQUESTS):
            made.send_headers(2 * number + 1, fields, end_stream=number in (1, 2))
    else:
        made.receive(PREFACE)
    return made


def plain(value: Any) -> Any:
    """Return what can be compared, of an event and all that is in it."""
    if isinstance(value, Event):
        return type(value).__name__, {key: plain(item) for key, item in vars(value).items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, ChangedSetting):
        return vars(value)
    return value.body if isinstance(value, ExtensionFrame) else value


def outcome(made: Connection, chunks: Iterable[bytes]) -> tuple[list[Any], bytes, object]:
    """Return what a connection makes of these chunks: events, output, and how it failed."""
    events = [event for chunk in chunks for event in made.receive(chunk)]
    failure = made.failure
    written = made.data_to_send().removeprefix(PREFACE)
    return plain(events), written, failure and (type(failure), failure.error_code)


def chunked(octets: bytes, sizes: Sequence[int]) -> list[bytes]:
    """Cut octets into pieces of these sizes, over and over."""
    pieces: list[bytes] = []
    at = 0
    for size in itertools.cycle(sizes):
        if at >= len(octets):
            return pieces
        pieces.append(octets[at : at + size])
        at += size
    return [octets]


class TestCutting(unittest.TestCase):
    """How the input is cut makes no difference."""

    def test_scripts_are_legal(self) -> None:
        for client, script in SCRIPTS.items():
            with self.subTest(client=client):
                events, written, failure = outcome(connection(client=client), script)
                self.assertIsNone(failure)
                self.assertEqual(len([e for e in events if e[0] == "StreamFailed"]), 0)
                self.assertEqual([f for f in cut(written) if f[0] in (RST_STREAM, GOAWAY)], [])
                self.assertGreater(len(events), len(script))

    def test_in_two(self) -> None:
        for client, script in SCRIPTS.items():
            whole = b"".join(script)
            expected = outcome(connection(client=client), [whole])
            for at in range(1, len(whole)):
                got = outcome(connection(client=client), [whole[:at], whole[at:]])
                self.assertEqual(got, expected, (client, at))

    def test_octet_by_octet_and_frame_by_frame(self) -> None:
        for client, script in SCRIPTS.items():
            whole = b"".join(script)
            expected = outcome(connection(client=client), [whole])
            for chunks in (script, chunked(whole, [1]), [b"", whole, b""]):
                self.assertEqual(outcome(connection(client=client), chunks), expected, client)


Change = tuple[str, int, int]


def _change_octet(script: list[bytes], at: int, value: int) -> None:
    frame = bytearray(script[at])
    frame[(value >> 8) % len(frame)] = value & 0xFF
    script[at] = bytes(frame)


def _change_payload(script: list[bytes], at: int, value: int) -> None:
    kind, flags, stream_id, payload = frame_of(script[at])
    cut_at = value % (len(payload) + 1)
    script[at] = raw(kind, flags, stream_id, payload[:cut_at] + payload[cut_at + 1 :])


def _add_payload(script: list[bytes], at: int, value: int) -> None:
    kind, flags, stream_id, payload = frame_of(script[at])
    script[at] = raw(kind, flags, stream_id, payload + bytes([value & 0xFF]) * (value >> 13))


def _change_flags(script: list[bytes], at: int, value: int) -> None:
    kind, flags, stream_id, payload = frame_of(script[at])
    script[at] = raw(kind, flags ^ (1 << value % 8), stream_id, payload)


def _change_kind(script: list[bytes], at: int, value: int) -> None:
    _, flags, stream_id, payload = frame_of(script[at])
    script[at] = raw(value % 12, flags, stream_id, payload)


def _change_stream(script: list[bytes], at: int, value: int) -> None:
    kind, flags, _, payload = frame_of(script[at])
    script[at] = raw(kind, flags, value % 14, payload)


def _drop(script: list[bytes], at: int, value: int) -> None:
    del script[at]


def _repeat(script: list[bytes], at: int, value: int) -> None:
    script.insert(value % len(script), script[at])


def _truncate(script: list[bytes], at: int, value: int) -> None:
    script[at] = script[at][: 1 + value % len(script[at])]


CHANGES: Final[dict[str, Callable[[list[bytes], int, int], None]]] = {
    "octet": _change_octet,
    "payload": _change_payload,
    "add": _add_payload,
    "flags": _change_flags,
    "kind": _change_kind,
    "stream": _change_stream,
    "drop": _drop,
    "repeat": _repeat,
    "truncate": _truncate,
}


def frame_of(octets: bytes) -> tuple[int, int, int, bytes]:
    """Return the parts of a frame, or of what is left of one."""
    whole = octets.ljust(9, b"\0")
    return whole[3], whole[4], int.from_bytes(whole[5:9], "big"), octets[9:]


def mutated(client: bool, changes: Iterable[Change]) -> bytes:
    script = list(SCRIPTS[client])
    for what, at, value in changes:
        # without SETTINGS first, nothing else would be looked at
        CHANGES[what](script, at % (len(script) - 1) + 1, value)
    return b"".join(script)


mutations = st.lists(
    st.tuples(st.sampled_from(sorted(CHANGES)), st.integers(0, 31), st.integers(0, 2**16 - 1)),
    min_size=1,
    max_size=5,
)
sizes = st.lists(st.integers(1, 60), min_size=1, max_size=5)


def bounded(examples: int) -> settings:
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )


class TestMutations(unittest.TestCase):
    """Input that is almost right: nothing is raised, and all that is kept stays consistent."""

    @bounded(200)
    @given(st.booleans(), mutations, sizes)
    def test_connection(self, client: bool, changes: list[Change], cuts: list[int]) -> None:
        octets = mutated(client, changes)
        whole, pieces = connection(client=client), connection(client=client)
        expected = outcome(whole, [octets])
        self.assertEqual(outcome(pieces, chunked(octets, cuts)), expected)
        for made in (whole, pieces):
            self.check_streams(made)
            self.check_credit(made, expected[0])
        self.check_end(whole, cut(expected[1]))

    def check_end(self, made: Connection, written: list[tuple[int, int, int, bytes]]) -> None:
        """Check that a failure, and nothing else, is the end."""
        ends = [at for at, frame in enumerate(written) if frame[0] == GOAWAY]
        self.assertEqual(ends, [] if made.failure is None else [len(written) - 1])
        if made.failure is not None:
            last, code = made.highest_inbound_stream_id, made.failure.error_code
            self.assertEqual(written[-1][3], u32(last, code))
            self.assertEqual(made.receive(setting()), [])
            self.assertEqual(made.data_to_send(), b"")

    def check_credit(self, made: Connection, events: list[Any]) -> None:
        """Check that all content is accounted for, by an event or as discarded."""
        if made.failure is not None and made.failure.error_code == FLOW_CONTROL_ERROR:
            return
        content = sum(
            values["flow_controlled_length"] for name, values in events if name == "DataReceived"
        )
        used = 200_000 - made.inbound_flow_control_window
        self.assertEqual(content + made.take_discarded(), used)

    def check_streams(self, made: Connection) -> None:
        """Check the counts that are kept of streams."""
        alive = [stream for stream in made.streams.values() if not stream.closed]
        for side in (0, 1):
            count = len([s for s in alive if s.open and s.stream_id % 2 == side])
            self.assertEqual(made._open_streams(side), count)
        self.assertEqual(set(made.streams), {stream.stream_id for stream in alive})
        highest = (made.highest_inbound_stream_id, made.highest_outbound_stream_id)
        self.assertTrue(all(stream_id <= max(highest) for stream_id in made.streams))

    @bounded(100)
    @given(st.booleans(), st.binary(max_size=300), sizes)
    def test_noise(self, client: bool, octets: bytes, cuts: list[int]) -> None:
        octets = setting() + octets
        expected = outcome(connection(client=client), [octets])
        got = outcome(connection(client=client), chunked(octets, cuts))
        self.assertEqual(got, expected)

    def setUp(self) -> None:
        self.runner = self.enterContext(asyncio.Runner(debug=True))
        self.errors: list[Any] = []
        loop = self.runner.get_loop()
        loop.slow_callback_duration = 10
        loop.set_exception_handler(lambda _, context: self.errors.append(context))
        self.enterContext(self.assertNoLogs("aioh2", "WARNING"))

    @bounded(80)
    @given(st.booleans(), mutations, sizes)
    def test_protocol(self, client: bool, changes: list[Change], cuts: list[int]) -> None:
        chunks = chunked(mutated(client, changes), cuts)
        self.runner.run(self.exposed(client, chunks))
        self.assertEqual(self.errors, [])

    async def exposed(self, client: bool, chunks: list[bytes]) -> None:
        """Feed a protocol that is busy; it has to answer in whole frames, and to end."""
        protocol = aioh2.H2Protocol(client, enable_push=True, connection_window_size=65535)
        transport = MemoryTransport(protocol)
        protocol.connection_made(transport)
        protocol.data_received(b"" if client else PREFACE)
        using = asyncio.create_task(requesting(protocol) if client else serving(protocol))
        await settle(3)
        if client:
            # the requests that the script responds to wait for SETTINGS
            protocol.data_received(setting())
            await settle(3)
        for chunk in chunks:
            protocol.data_received(chunk)
            await settle(1)
        await settle(5)
        written = cut(bytes(transport.written).removeprefix(PREFACE))
        self.check_written(transport, written)
        transport.lose(None)
        await settle()
        self.assertTrue(using.done(), protocol.close_reason)
        await using
        await protocol.wait_closed()
        self.assertEqual(protocol.stats.streams_open, 0)
        self.assertEqual(protocol.waiting_requests, 0)

    def check_written(
        self, transport: MemoryTransport, written: list[tuple[int, int, int, bytes]]
    ) -> None:
        failures = [
            at
            for at, (kind, _, _, payload) in enumerate(written)
            if kind == GOAWAY and payload[4:8] != u32(0)
        ]
        self.assertIn(failures, ([], [len(written) - 1]))
        if failures:
            self.assertTrue(transport.closed)
        reset: set[int] = set()
        for kind, _, stream_id, _ in written:
            self.assertFalse(stream_id in reset and kind in (DATA, HEADERS), written)
            if kind == RST_STREAM:
                reset.add(stream_id)


async def serving(protocol: aioh2.H2Protocol) -> None:
    """Answer every request at length, with pushes and trailers."""

    async def handler(stream: aioh2.H2Stream) -> None:
        with contextlib.suppress(aioh2.AIOH2Exception):
            pushed = await stream.push(REQUEST)
            await pushed.start_response(RESPONSE)
            await pushed.send_data(b"pushed", end_stream=True)
        await stream.start_response([(b":status", b"103")])
        await stream.start_response(RESPONSE)
        async for chunk in stream:
            await stream.send_data(chunk * 100)
        await stream.send_trailers(await stream.recv_trailers() or TRAILERS)

    await protocol.serve(handler)


async def requesting(protocol: aioh2.H2Protocol) -> None:
    """Send what SCRIPTS responds to, and take all that comes."""

    async def request(fields: Fields, body: bytes | None) -> None:
        with contextlib.suppress(aioh2.AIOH2Exception):
            stream = await protocol.open_stream(fields, end_stream=body is None)
            if body is not None:
                await stream.send_data(body)
            while await stream.recv_informational() is not None:
                pass
            await stream.recv_response()
            async for _ in stream:
                pass
            await stream.recv_trailers()
            while (pushed := await stream.recv_push()) is not None:
                await pushed.read(-1)

    bodies = (b"x" * 5000, None, None, b"tunnel")
    async with asyncio.TaskGroup() as group:
        for fields, body in zip(REQUESTS, bodies, strict=True):
            group.create_task(request(fields, body))
    with contextlib.suppress(aioh2.AIOH2Exception):
        await protocol.ping()
    await protocol.wait_closed()
