"""How a connection ends: both sides' GOAWAY, draining, the grace time, and closing at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar
from unittest import mock

from hyperframe.frame import (
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

import aioh2
from aioh2.testing import connected_pair

from .test_ends import futures_in
from .wire import POST, REQUEST, RESPONSE, Case, MemoryTransport, Peer, SkippingLoop, settle, skip

T = TypeVar("T")

LAST = 2**31 - 1
WINDOW = int(aioh2.SettingCodes.INITIAL_WINDOW_SIZE)
LIMIT = int(aioh2.SettingCodes.MAX_CONCURRENT_STREAMS)


class Timed(Case):
    """A test whose time passes when it says so, and that never waits for what does not come."""

    loop_factory = SkippingLoop

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        # what goes wrong inside is logged, and closes the connection: no test passes by that
        self.enterContext(self.assertNoLogs("aioh2", "ERROR"))

    async def after(self, seconds: float) -> None:
        """Let time pass, and what is due by then happen."""
        await skip(seconds)

    async def soon(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return the result of what must not wait for anything outside."""
        task = asyncio.get_running_loop().create_task(coroutine)
        await settle()
        if not task.done():
            task.cancel()
            self.fail(f"{task} waits")
        return task.result()

    async def assert_closed(
        self, coroutine: Coroutine[Any, Any, Any], **expected: Any
    ) -> aioh2.ConnectionClosed:
        """Check that a call raises ConnectionClosed, and what it says."""
        with self.assertRaises(aioh2.ConnectionClosed) as caught:
            await self.soon(coroutine)
        for name, value in expected.items():
            self.assertEqual(getattr(caught.exception, name), value, name)
        return caught.exception


async def ack_announcement(peer: Peer) -> list[int]:
    """Answer the PING of a shutdown; return the last-stream-ids of the GOAWAYs up to there."""
    frames = await peer.frames(GoAwayFrame, PingFrame)
    for frame in frames:
        if isinstance(frame, PingFrame):
            peer.ack_ping(frame)
    return [frame.last_stream_id for frame in frames if isinstance(frame, GoAwayFrame)]


async def last_streams(peer: Peer) -> list[int]:
    return [frame.last_stream_id for frame in await peer.frames(GoAwayFrame)]


class TestServer(Timed):
    """A server that shuts down (RFC 9113 section 6.8)."""

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.peer = await Peer.of_server()
        self.server = self.peer.protocol

    async def respond(self, stream_id: int) -> None:
        await self.soon(self.server.start_response(stream_id, RESPONSE, end_stream=True))

    async def test_announces_the_end_first(self) -> None:
        self.peer.request(1)
        await self.waiting(self.server.shutdown())
        announcement, ping = await self.peer.frames()
        self.assertIsInstance(announcement, GoAwayFrame)
        self.assertEqual(
            (announcement.last_stream_id, announcement.error_code, announcement.additional_data),
            (LAST, 0, b""),
        )
        self.assertIsInstance(ping, PingFrame)
        self.assertNotIn("ACK", ping.flags)

    async def test_names_the_last_stream_after_a_round_trip(self) -> None:
        self.peer.request(1)
        await self.waiting(self.server.shutdown())
        self.assertEqual(await ack_announcement(self.peer), [LAST])
        (final,) = await self.peer.frames()
        self.assertEqual((final.last_stream_id, final.error_code), (1, 0))

    async def test_another_ping_ends_no_round_trip(self) -> None:
        self.peer.request(1)
        ping = await self.waiting(self.server.ping())
        (own,) = await self.peer.frames(PingFrame)
        await self.waiting(self.server.shutdown())
        self.peer.ack_ping(own)
        self.peer.send(PingFrame(0, b"unasked.", flags=["ACK"]))
        await settle()
        self.assertTrue(ping.done())
        self.assertEqual(await last_streams(self.peer), [LAST])

    async def test_request_on_its_way_is_served(self) -> None:
        self.peer.request(1)
        shutdown = await self.waiting(self.server.shutdown())
        self.peer.request(3)
        self.assertEqual(await ack_announcement(self.peer), [LAST])
        self.assertEqual(await last_streams(self.peer), [3])
        self.assertEqual((await self.soon(self.server.recv_request()))[0], 1)
        self.assertEqual((await self.soon(self.server.recv_request()))[0], 3)
        await self.respond(3)
        self.assertFalse(shutdown.done())
        await self.respond(1)
        responses = await self.peer.frames(HeadersFrame)
        self.assertEqual([frame.stream_id for frame in responses], [3, 1])
        # counted is what was in flight at the call
        self.assertEqual(shutdown.result(), (1, 0))

    async def test_waits_for_a_request_on_its_way(self) -> None:
        self.peer.request(1)
        shutdown = await self.waiting(self.server.shutdown())
        self.peer.request(3)
        await ack_announcement(self.peer)
        await self.respond(1)
        self.assertFalse(shutdown.done())
        await self.respond(3)
        self.assertEqual(shutdown.result(), (1, 0))

    async def test_later_request_is_ignored(self) -> None:
        self.peer.request(1, POST, end=False)
        await self.waiting(self.server.shutdown())
        await ack_announcement(self.peer)
        await self.peer.frames()
        self.peer.request(3)
        self.peer.request(5, POST, end=False)
        self.peer.data(5, b"late")
        self.peer.window(5, 100)
        self.peer.reset(5)
        self.peer.send(PriorityFrame(7, depends_on=0, stream_weight=1))
        self.assertEqual(await self.peer.frames(), [])
        self.assertEqual((await self.soon(self.server.recv_request()))[0], 1)
        await self.waiting(self.server.recv_request())
        self.assertIsNone(self.server.close_reason)

    async def test_ignored_headers_keep_the_compression_state(self) -> None:
        self.peer.request(1, POST, end=False)
        await self.waiting(self.server.shutdown())
        await ack_announcement(self.peer)
        self.peer.request(3, [*REQUEST, ("x-new", "in the dynamic table")])
        self.peer.request(1, [("x-new", "in the dynamic table")])
        trailers = await self.soon(self.server.recv_trailers(1))
        self.assertEqual(trailers, [("x-new", "in the dynamic table")])

    async def test_draining_returns_what_was_completed(self) -> None:
        self.peer.request(1)
        self.peer.request(3)
        shutdown = await self.waiting(self.server.shutdown())
        await ack_announcement(self.peer)
        await self.respond(1)
        self.assertFalse(shutdown.done())
        self.assertFalse(self.peer.transport.closed)
        await self.respond(3)
        self.assertEqual(await self.soon(self.server.shutdown()), (0, 0))
        self.assertEqual(shutdown.result(), aioh2.Drained(completed=2, aborted=0))
        self.assertTrue(self.peer.transport.closed)
        self.assertFalse(self.peer.transport.aborted)

    async def test_closed_once_drained(self) -> None:
        self.peer.request(1)
        shutdown = await self.waiting(self.server.shutdown())
        await ack_announcement(self.peer)
        await self.respond(1)
        await self.soon(self.server.wait_closed())
        self.assertTrue(shutdown.done())
        reason = self.server.close_reason
        self.assertIsInstance(reason, aioh2.ConnectionClosed)
        assert isinstance(reason, aioh2.ConnectionClosed)
        self.assertEqual(
            (reason.initiator, reason.error_code, reason.last_stream_id), ("local", 0, 1)
        )

    async def test_drained_before_the_round_trip_is_over(self) -> None:
        self.peer.request(1)
        shutdown = await self.waiting(self.server.shutdown())
        await self.respond(1)
        self.assertFalse(shutdown.done())
        self.peer.request(3)
        await ack_announcement(self.peer)
        await settle()
        self.assertFalse(shutdown.done())
        await self.respond(3)
        self.assertEqual(shutdown.result(), (1, 0))

    async def test_end_of_an_upload_in_the_segment_of_the_ack(self) -> None:
        self.peer.request(1, POST, end=False)
        await self.soon(self.server.recv_request())
        await self.respond(1)
        shutdown = await self.waiting(self.server.shutdown())
        _, ping = await self.peer.frames(GoAwayFrame, PingFrame)
        self.peer.send(
            PingFrame(0, ping.opaque_data, flags=["ACK"]),
            DataFrame(1, b"the end", flags=["END_STREAM"]),
        )
        await settle()
        self.assertEqual(shutdown.result(), (1, 0))
        self.assertEqual(await self.soon(self.server.read_stream(1, -1)), b"the end")

    async def test_upload_is_in_flight_until_its_end(self) -> None:
        self.peer.request(1, POST, end=False)
        await self.soon(self.server.recv_request())
        shutdown = await self.waiting(self.server.shutdown())
        await ack_announcement(self.peer)
        await self.respond(1)
        self.assertFalse(shutdown.done())
        self.peer.data(1, b"the end", end=True)
        await settle()
        self.assertEqual(shutdown.result(), (1, 0))
        self.assertEqual(await self.soon(self.server.read_stream(1, -1)), b"the end")

    async def test_queued_body_goes_out(self) -> None:
        peer = await Peer.of_server(settings={aioh2.SettingCodes.INITIAL_WINDOW_SIZE: 3})
        peer.request(1)
        await self.soon(peer.protocol.start_response(1, RESPONSE))
        sending = await self.waiting(peer.protocol.send_data(1, b"123456", end_stream=True))
        shutdown = await self.waiting(peer.protocol.shutdown())
        await ack_announcement(peer)
        peer.window(1, 100)
        await settle()
        self.assertTrue(sending.done())
        self.assertEqual(shutdown.result(), (1, 0))
        self.assertEqual([f.data for f in await peer.frames(DataFrame)], [b"456"])

    async def test_abort_after_the_grace_time(self) -> None:
        self.peer.request(1, POST, end=False)
        self.peer.request(3)
        await self.respond(3)
        reader = await self.waiting(self.server.read_stream(1))
        shutdown = await self.waiting(self.server.shutdown(5))
        await ack_announcement(self.peer)
        await self.after(4.9)
        self.assertFalse(shutdown.done())
        await self.after(0.2)
        self.assertEqual(shutdown.result(), (0, 1))
        self.assertTrue(self.peer.transport.closed)
        error = reader.exception()
        self.assertIsInstance(error, aioh2.ConnectionClosed)
        assert isinstance(error, aioh2.ConnectionClosed)
        self.assertEqual((error.initiator, error.retryable), ("local", False))
        self.assertIn("grace", str(error))

    async def test_peer_that_answers_no_ping_gets_the_grace_time(self) -> None:
        shutdown = await self.waiting(self.server.shutdown(5))
        self.peer.request(1)
        await self.peer.frames()
        await self.after(5.1)
        self.assertEqual(await last_streams(self.peer), [1])
        self.assertEqual(shutdown.result(), (0, 0))

    async def test_grace_none_is_close_timeout(self) -> None:
        peer = await Peer.of_server(close_timeout=3)
        peer.request(1)
        shutdown = await self.waiting(peer.protocol.shutdown())
        await self.after(2.9)
        self.assertFalse(shutdown.done())
        await self.after(0.2)
        self.assertEqual(shutdown.result(), (0, 1))

    async def test_no_grace(self) -> None:
        self.peer.request(1)
        self.assertEqual(await self.soon(self.server.shutdown(0)), (0, 1))
        self.assertEqual((await last_streams(self.peer))[-1], 1)

    async def test_second_call_shortens_the_grace_time(self) -> None:
        self.peer.request(1)
        first = await self.waiting(self.server.shutdown(60))
        await ack_announcement(self.peer)
        await self.peer.frames()
        second = await self.waiting(self.server.shutdown(1))
        self.assertEqual(await self.peer.frames(), [])
        await self.after(1.1)
        self.assertEqual(first.result(), (0, 1))
        self.assertEqual(second.result(), (0, 1))

    async def test_second_call_does_not_lengthen_the_grace_time(self) -> None:
        self.peer.request(1)
        first = await self.waiting(self.server.shutdown(1))
        second = await self.waiting(self.server.shutdown(60))
        await self.after(1.1)
        self.assertEqual((first.result(), second.result()), ((0, 1), (0, 1)))

    async def test_each_call_counts_what_is_in_flight_at_the_call(self) -> None:
        self.peer.request(1)
        self.peer.request(3)
        first = await self.waiting(self.server.shutdown())
        await ack_announcement(self.peer)
        await self.respond(1)
        second = await self.waiting(self.server.shutdown())
        await self.respond(3)
        self.assertEqual((first.result(), second.result()), ((2, 0), (1, 0)))

    async def test_idle(self) -> None:
        shutdown = await self.waiting(self.server.shutdown())
        self.assertEqual(await ack_announcement(self.peer), [LAST])
        self.assertEqual(await last_streams(self.peer), [0])
        self.assertEqual(shutdown.result(), (0, 0))
        self.assertTrue(self.peer.transport.closed)

    async def test_wrong_grace(self) -> None:
        for grace in ("1", True, [1]):
            with self.subTest(grace), self.assertRaisesRegex(TypeError, "grace"):
                await self.soon(self.server.shutdown(grace))  # type: ignore[arg-type]
        for grace in (-1, float("nan")):
            with self.subTest(grace), self.assertRaisesRegex(ValueError, "grace.*at least 0"):
                await self.soon(self.server.shutdown(grace))
        self.assertFalse(self.server.is_closing)

    async def test_cancelled_call_lets_it_go_on(self) -> None:
        self.peer.request(1)
        shutdown = await self.waiting(self.server.shutdown(5))
        shutdown.cancel()
        await settle()
        self.assertTrue(shutdown.cancelled())
        self.assertTrue(self.server.is_closing)
        await ack_announcement(self.peer)
        await self.respond(1)
        self.assertTrue(self.peer.transport.closed)

    async def test_connection_is_lost_meanwhile(self) -> None:
        self.peer.request(1)
        self.peer.request(3)
        shutdown = await self.waiting(self.server.shutdown())
        await self.respond(3)
        self.peer.lose(ConnectionResetError("gone"))
        await settle()
        self.assertEqual(shutdown.result(), (1, 1))

    async def test_peer_that_closes_when_it_hears_of_the_end(self) -> None:
        shutdown = await self.waiting(self.server.shutdown())
        self.peer.lose()
        await settle()
        self.assertEqual(shutdown.result(), (0, 0))
        await self.assert_closed(self.server.recv_request(), initiator="local", error_code=0)

    async def test_peer_that_closes_too_early(self) -> None:
        for error, request in ((None, 1), (ConnectionResetError("gone"), 0)):
            with self.subTest(error):
                peer = await Peer.of_server()
                if request:
                    peer.request(request)
                    await self.soon(peer.protocol.recv_request())
                shutdown = await self.waiting(peer.protocol.shutdown())
                peer.lose(error)
                await settle()
                self.assertEqual(shutdown.result(), (0, request))
                await self.assert_closed(peer.protocol.recv_request(), initiator="transport")

    async def test_goaway_from_the_peer_meanwhile(self) -> None:
        self.peer.request(1)
        shutdown = await self.waiting(self.server.shutdown())
        self.peer.goaway(0)
        await ack_announcement(self.peer)
        await self.respond(1)
        self.assertEqual(shutdown.result(), (1, 0))

    async def test_no_push_after_it(self) -> None:
        self.peer.request(1)
        await self.waiting(self.server.shutdown())
        await self.assert_closed(
            self.server.push_stream(1, REQUEST), initiator="local", retryable=True
        )

    async def test_state(self) -> None:
        self.peer.request(1)
        self.assertFalse(self.server.is_closing)
        self.assertIn("open", repr(self.server))
        shutdown = await self.waiting(self.server.shutdown())
        self.assertTrue(self.server.is_closing)
        self.assertIn("closing", repr(self.server))
        self.assertIsNone(self.server.close_reason)
        await ack_announcement(self.peer)
        await self.respond(1)
        self.assertTrue(shutdown.done())
        self.assertTrue(self.server.is_closing)
        self.assertIn("closed", repr(self.server))
        self.assertIsNotNone(self.server.close_reason)


class TestReason(Timed):
    """``debug_data`` of a shutdown."""

    async def data(self, peer: Peer) -> list[tuple[int, bytes]]:
        """Return what GOAWAYs said since the last call; answer the PING of the round trip."""
        frames = await peer.frames(GoAwayFrame, PingFrame)
        for frame in frames:
            if isinstance(frame, PingFrame):
                peer.ack_ping(frame)
        goaways = [frame for frame in frames if isinstance(frame, GoAwayFrame)]
        return [(frame.last_stream_id, frame.additional_data) for frame in goaways]

    async def test_server(self) -> None:
        peer = await Peer.of_server()
        peer.request(1)
        await self.waiting(peer.protocol.shutdown(debug_data=b"why"))
        self.assertEqual(await self.data(peer), [(LAST, b"why")])
        self.assertEqual(await self.data(peer), [(1, b"why")])
        await self.soon(peer.protocol.start_response(1, RESPONSE, end_stream=True))
        await self.assert_closed(peer.protocol.ping(), error_code=0, debug_data=b"why")

    async def test_client(self) -> None:
        peer = await Peer.of_client()
        await self.soon(peer.protocol.shutdown(debug_data=b"why"))
        self.assertEqual(await self.data(peer), [(0, b"why")])
        await self.assert_closed(peer.protocol.start_request({}), debug_data=b"why")

    async def test_after_the_grace_time(self) -> None:
        peer = await Peer.of_server()
        peer.request(1)
        await self.waiting(peer.protocol.shutdown(3, debug_data=b"why"))
        await self.data(peer)
        self.assertEqual(await self.data(peer), [(1, b"why")])
        await self.after(3.1)
        self.assertEqual(await self.data(peer), [(1, b"why")])
        await self.assert_closed(peer.protocol.ping(), debug_data=b"why")

    async def test_of_a_later_call(self) -> None:
        peer = await Peer.of_server()
        peer.request(1)
        await self.waiting(peer.protocol.shutdown())
        await self.waiting(peer.protocol.shutdown(debug_data=b"why"))
        await self.waiting(peer.protocol.shutdown())
        self.assertEqual(await self.data(peer), [(LAST, b"")])
        self.assertEqual(await self.data(peer), [(1, b"why")])

    async def test_in_a_handler(self) -> None:
        async def handler(stream: aioh2.H2Stream) -> None:
            await stream.protocol.shutdown(debug_data=b"why")
            await stream.start_response(RESPONSE, end_stream=True)

        peer = await Peer.of_server(handler=lambda p: p.serve(handler))
        peer.request(1)
        self.assertEqual(await self.data(peer), [(LAST, b"why")])
        self.assertEqual(await self.data(peer), [(1, b"why")])

    async def test_where_the_peer_leaves_too(self) -> None:
        peer = await Peer.of_client()
        await self.soon(peer.protocol.start_request(REQUEST, end_stream=True))
        await self.waiting(peer.protocol.shutdown(debug_data=b"why"))
        peer.goaway(1, debug=b"its own reason")
        peer.respond(1, end=True)
        self.assertEqual(await self.data(peer), [(0, b"why"), (0, b"why")])
        await self.assert_closed(peer.protocol.start_request({}), debug_data=b"its own reason")

    async def test_before_the_connection(self) -> None:
        protocol = aioh2.H2Protocol(True)
        await self.soon(protocol.shutdown(debug_data=b"why"))
        await self.assert_closed(protocol.ping(), debug_data=b"why")

    async def test_wrong(self) -> None:
        peer = await Peer.of_server()
        with self.assertRaisesRegex(TypeError, "debug_data must be bytes"):
            await peer.protocol.shutdown(debug_data="text")  # type: ignore[arg-type]
        with self.assertRaisesRegex(ValueError, "debug_data must be at most 16376 bytes"):
            await peer.protocol.shutdown(debug_data=bytes(16_377))
        self.assertFalse(peer.protocol.is_closing)


class TestIgnoredData(Timed):
    """DATA on a stream after the final GOAWAY still counts (RFC 9113 section 6.8)."""

    async def test_credited(self) -> None:
        peer = await Peer.of_server(connection_window_size=65_535, initial_window_size=65_535)
        peer.request(1, POST, end=False)
        await self.waiting(peer.protocol.shutdown())
        await ack_announcement(peer)
        await peer.frames()
        peer.request(3, POST, end=False)
        sent = credit = 0
        for _ in range(16):
            peer.data(3, bytes(16_384))
            sent += 16_384
            updates = await peer.frames(WindowUpdateFrame)
            self.assertEqual({update.stream_id for update in updates} - {0}, set())
            credit += sum(update.window_increment for update in updates)
        self.assertGreaterEqual(credit, sent - 65_535 // 2)
        self.assertLessEqual(credit, sent)

    async def test_credited_as_it_comes(self) -> None:
        # the peer may have less window than half of it, when it is the initial one
        peer = await Peer.of_server(connection_window_size=65_535, initial_window_size=65_535)
        peer.request(1, POST, end=False)
        await self.waiting(peer.protocol.shutdown())
        await ack_announcement(peer)
        peer.request(3, POST, end=False)
        for _ in range(8):
            peer.data(3, bytes(16_384))
            await settle()
        peer.data(1, bytes(16_384), end=True)
        self.assertEqual(len(await self.soon(peer.protocol.read_stream(1, -1))), 16_384)


class TestClient(Timed):
    """A client that shuts down."""

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.peer = await Peer.of_client(settings={LIMIT: 1})
        self.client = self.peer.protocol

    async def test_goaway_at_once(self) -> None:
        # a server without pushes has nothing of its own on its way
        await self.soon(self.client.start_request(REQUEST, end_stream=True))
        shutdown = await self.waiting(self.client.shutdown())
        frames = await self.peer.frames(GoAwayFrame, PingFrame)
        self.assertEqual([(f.last_stream_id, f.error_code) for f in frames], [(0, 0)])
        self.peer.respond(1, end=True)
        await settle()
        self.assertEqual(shutdown.result(), (1, 0))
        self.assertTrue(self.peer.transport.closed)
        self.assertEqual(await self.soon(self.client.recv_response(1)), RESPONSE)

    async def test_with_push_in_two_steps(self) -> None:
        peer = await Peer.of_client(enable_push=True)
        client = peer.protocol
        await self.soon(client.start_request(REQUEST, end_stream=True))
        shutdown = await self.waiting(client.shutdown())
        peer.send(peer.promise(1, 2))
        # the highest id of the peer's: nghttp2 takes one of its own kind only
        self.assertEqual(await ack_announcement(peer), [LAST - 1])
        self.assertEqual(await last_streams(peer), [2])
        peer.send(peer.promise(1, 4))
        peer.respond(4)
        peer.respond(1, end=True)
        await settle()
        self.assertFalse(shutdown.done())
        peer.respond(2, end=True)
        await settle()
        self.assertEqual(shutdown.result(), (1, 0))
        self.assertEqual(await peer.frames(RstStreamFrame), [])

    async def test_idle(self) -> None:
        self.assertEqual(await self.soon(self.client.shutdown()), (0, 0))
        self.assertEqual(await last_streams(self.peer), [0])

    async def test_state(self) -> None:
        self.assertEqual(self.client.available_slots, 1)
        await self.soon(self.client.start_request(REQUEST))
        request = await self.waiting(self.client.start_request(REQUEST))
        self.assertEqual(self.client.waiting_requests, 1)
        await self.waiting(self.client.shutdown())
        self.assertEqual(self.client.waiting_requests, 0)
        self.assertEqual(self.client.available_slots, 0)
        self.assertTrue(self.client.is_closing)
        self.assertIsNone(self.client.close_reason)
        error = request.exception()
        self.assertIsInstance(error, aioh2.ConnectionClosed)
        assert isinstance(error, aioh2.ConnectionClosed)
        self.assertEqual((error.initiator, error.retryable), ("local", True))

    async def test_no_request_after_it(self) -> None:
        await self.soon(self.client.start_request(REQUEST))
        await self.waiting(self.client.shutdown())
        await self.assert_closed(
            self.client.start_request(REQUEST), initiator="local", retryable=True
        )

    async def test_body_goes_on(self) -> None:
        await self.soon(self.client.start_request(POST))
        shutdown = await self.waiting(self.client.shutdown())
        await self.soon(self.client.send_data(1, b"abc", end_stream=True))
        self.peer.respond(1)
        self.peer.data(1, b"def", end=True)
        await settle()
        self.assertEqual(shutdown.result(), (1, 0))
        self.assertEqual([f.data for f in await self.peer.frames(DataFrame)], [b"abc"])

    async def test_ping_while_draining(self) -> None:
        await self.soon(self.client.start_request(REQUEST))
        await self.waiting(self.client.shutdown())
        ping = await self.waiting(self.client.ping())
        (frame,) = await self.peer.frames(PingFrame)
        self.peer.ack_ping(frame)
        await settle()
        self.assertGreaterEqual(ping.result(), 0)


class TestWithoutConnection(Timed):
    async def test_before(self) -> None:
        protocol = aioh2.H2Protocol(True)
        self.assertFalse(protocol.is_closing)
        self.assertEqual(await self.soon(protocol.shutdown()), (0, 0))
        self.assertTrue(protocol.is_closing)
        await self.soon(protocol.wait_closed())
        await self.assert_closed(protocol.start_request(REQUEST), initiator="local")

    async def test_closed_before(self) -> None:
        protocol = aioh2.H2Protocol(True)
        protocol.close_connection(aioh2.ErrorCodes.CANCEL, b"why")
        await self.soon(protocol.wait_closed())
        await self.assert_closed(
            protocol.ping(), initiator="local", error_code=8, debug_data=b"why"
        )

    async def test_connected_when_closed_already(self) -> None:
        called: list[aioh2.H2Protocol] = []
        protocol = aioh2.H2Protocol(False)
        protocol.set_handler(called.append)  # type: ignore[arg-type]
        await self.soon(protocol.shutdown())
        transport = MemoryTransport(protocol)
        protocol.connection_made(transport)
        await settle()
        self.assertTrue(transport.closed)
        self.assertEqual(called, [])

    async def test_wait_closed_before_the_connection(self) -> None:
        protocol = aioh2.H2Protocol(True)
        closed = await self.waiting(protocol.wait_closed())
        peer = Peer(protocol)
        protocol.connection_made(peer.transport)
        await peer.greet()
        self.assertFalse(closed.done())
        peer.lose()
        await settle()
        self.assertTrue(closed.done())

    async def test_wait_closed_where_none_is_ever_made(self) -> None:
        for end in (aioh2.H2Protocol.close_connection, aioh2.H2Protocol.abort):
            protocol = aioh2.H2Protocol(True)
            closed = await self.waiting(protocol.wait_closed())
            end(protocol)
            await settle()
            self.assertTrue(closed.done())

    async def test_wait_closed_that_is_cancelled(self) -> None:
        peer = await Peer.of_client()
        calls = [await self.waiting(peer.protocol.wait_closed()) for _ in range(2)]
        calls[0].cancel()
        await settle()
        peer.lose()
        await settle()
        self.assertTrue(calls[0].cancelled())
        self.assertIsNone(calls[1].result())

    async def test_wait_closed_that_is_cancelled_as_the_connection_is_lost(self) -> None:
        peer = await Peer.of_client()
        call = await self.waiting(peer.protocol.wait_closed())
        call.cancel()
        peer.protocol.connection_lost(None)
        await settle()
        self.assertTrue(call.cancelled())

    async def test_after(self) -> None:
        peer = await Peer.of_client()
        peer.lose()
        await settle()
        self.assertEqual(await self.soon(peer.protocol.shutdown()), (0, 0))
        await self.soon(peer.protocol.wait_closed())
        peer.protocol.close_connection()
        self.assertTrue(peer.protocol.is_closing)

    async def test_while_it_closes(self) -> None:
        peer = await Peer.of_client()
        peer.transport.hang_on_close = True
        peer.protocol.close_connection()
        shutdown = await self.waiting(peer.protocol.shutdown())
        closed = await self.waiting(peer.protocol.wait_closed())
        peer.lose()
        await settle()
        self.assertTrue(closed.done())
        self.assertEqual(shutdown.result(), (0, 0))


class TestReceivedByClient(Timed):
    """GOAWAY from a server (RFC 9113 section 6.8)."""

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.peer = await Peer.of_client()
        self.client = self.peer.protocol
        for _ in range(2):
            await self.soon(self.client.start_request(REQUEST, end_stream=True))

    async def test_streams_above_fail(self) -> None:
        waiting = [
            await self.waiting(call)
            for call in (
                self.client.recv_response(3),
                self.client.recv_informational(3),
                self.client.read_stream(3),
                self.client.read_stream(3, -1),
                self.client.recv_trailers(3),
                self.client.recv_push(3),
            )
        ]
        self.peer.goaway(1, 2, b"busy")
        await settle()
        for task in waiting:
            error = task.exception()
            self.assertIsInstance(error, aioh2.ConnectionClosed)
            assert isinstance(error, aioh2.ConnectionClosed)
            self.assertEqual(
                (error.initiator, error.error_code, error.last_stream_id, error.debug_data),
                ("peer", 2, 1, b"busy"),
            )
            self.assertTrue(error.retryable)

    async def test_body_above_fails(self) -> None:
        peer = await Peer.of_client(settings={aioh2.SettingCodes.INITIAL_WINDOW_SIZE: 2})
        await self.soon(peer.protocol.start_request(POST))
        sending = await self.waiting(peer.protocol.send_data(1, b"123"))
        peer.goaway(0)
        await settle()
        error = sending.exception()
        self.assertIsInstance(error, aioh2.SendException)
        assert isinstance(error, aioh2.SendException)
        self.assertEqual((error.data, error.retryable), (b"3", True))
        self.assertIsInstance(error.__cause__, aioh2.ConnectionClosed)

    async def test_streams_above_are_not_reset(self) -> None:
        self.peer.goaway(1)
        self.assertEqual(await self.peer.frames(RstStreamFrame), [])
        self.client.reset_stream(3)
        self.assertEqual(await self.peer.frames(RstStreamFrame), [])

    async def test_streams_below_run_to_their_end(self) -> None:
        self.peer.goaway(1)
        await settle()
        self.assertFalse(self.peer.transport.closed)
        self.peer.respond(1)
        self.assertEqual(await self.soon(self.client.recv_response(1)), RESPONSE)
        self.peer.data(1, b"abc")
        self.assertEqual(await self.soon(self.client.read_stream(1)), b"abc")
        self.assertFalse(self.peer.transport.closed)
        self.peer.respond(1, [("t", "u")], end=True)
        self.assertEqual(await self.soon(self.client.recv_trailers(1)), [("t", "u")])
        self.assertTrue(self.peer.transport.closed)

    async def test_window_updates_go_on(self) -> None:
        self.peer.goaway(1)
        self.peer.respond(1)
        self.peer.data(1, bytes(131_072))
        await settle()
        await self.peer.frames()
        self.assertEqual(len(await self.soon(self.client.read_stream(1, 131_072))), 131_072)
        self.assertEqual([f.stream_id for f in await self.peer.frames(WindowUpdateFrame)], [1])

    async def test_upload_below_goes_on(self) -> None:
        peer = await Peer.of_client()
        await self.soon(peer.protocol.start_request(POST))
        peer.goaway(1)
        await self.soon(peer.protocol.send_data(1, b"abc"))
        await self.soon(peer.protocol.send_trailers(1, {"t": "u"}))
        self.assertEqual([f.data for f in await peer.frames(DataFrame)], [b"abc"])
        peer.respond(1, end=True)
        await settle()
        self.assertTrue(peer.transport.closed)

    async def test_what_was_framed_before_still_goes_out(self) -> None:
        peer = await Peer.of_client()
        stream_id = await peer.protocol.start_request(POST)
        await peer.protocol.send_data(stream_id, b"abc")
        peer.goaway(stream_id)
        frames = await peer.frames(HeadersFrame, DataFrame)
        self.assertEqual([type(frame) for frame in frames], [HeadersFrame, DataFrame])

    async def test_closes_at_once_when_nothing_is_left(self) -> None:
        self.peer.goaway(0, 0, b"bye")
        await self.soon(self.client.wait_closed())
        self.assertTrue(self.peer.transport.closed)
        reason = self.client.close_reason
        assert isinstance(reason, aioh2.ConnectionClosed)
        self.assertEqual(
            (reason.initiator, reason.error_code, reason.last_stream_id, reason.debug_data),
            ("peer", 0, 0, b"bye"),
        )

    async def test_close_reason_is_the_goaway(self) -> None:
        self.peer.goaway(1, 11)
        await settle()
        self.assertIsNone(self.client.close_reason)
        self.peer.respond(1, end=True)
        await settle()
        reason = self.client.close_reason
        assert isinstance(reason, aioh2.ConnectionClosed)
        self.assertEqual((reason.initiator, reason.error_code), ("peer", 11))

    async def test_lost_before_the_end(self) -> None:
        self.peer.goaway(1, 2, b"why")
        response = await self.waiting(self.client.recv_response(1))
        self.peer.lose()
        await settle()
        error = response.exception()
        assert isinstance(error, aioh2.ConnectionClosed)
        self.assertEqual((error.error_code, error.debug_data), (2, b"why"))
        self.assertFalse(error.retryable)

    async def test_two_of_them(self) -> None:
        self.peer.goaway(LAST, 0, b"soon")
        await settle()
        self.assertTrue(self.client.is_closing)
        responses = [await self.waiting(self.client.recv_response(id)) for id in (1, 3)]
        self.peer.goaway(1, 0, b"now")
        await settle()
        self.assertFalse(responses[0].done())
        error = responses[1].exception()
        assert isinstance(error, aioh2.ConnectionClosed)
        self.assertEqual((error.retryable, error.debug_data), (True, b"now"))
        self.peer.respond(1, end=True)
        await settle()
        self.assertEqual(responses[0].result(), RESPONSE)
        self.assertTrue(self.peer.transport.closed)

    async def test_higher_last_stream_id_revives_nothing(self) -> None:
        self.peer.goaway(1)
        self.peer.goaway(3)
        await self.assert_closed(self.client.recv_response(3), retryable=True)
        self.peer.respond(1, end=True)
        await settle()
        self.assertTrue(self.peer.transport.closed)

    async def test_in_the_segment_of_the_last_response(self) -> None:
        self.peer.send(
            self.peer.headers(1, RESPONSE, "END_STREAM"),
            GoAwayFrame(0, 1),
        )
        self.assertEqual(await self.soon(self.client.recv_response(1)), RESPONSE)
        await self.assert_closed(self.client.recv_response(3), retryable=True)
        self.assertTrue(self.peer.transport.closed)

    async def test_late_response_above(self) -> None:
        self.peer.goaway(1)
        self.peer.respond(3, end=True)
        await settle()
        await self.assert_closed(self.client.recv_response(3))
        self.assertFalse(self.peer.transport.closed)

    async def test_state(self) -> None:
        peer = await Peer.of_client(settings={LIMIT: 2})
        client = peer.protocol
        for _ in range(2):
            await self.soon(client.start_request(REQUEST))
        request = await self.waiting(client.start_request(REQUEST))
        peer.goaway(3, 0, b"restart")
        await settle()
        self.assertTrue(client.is_closing)
        self.assertEqual((client.available_slots, client.waiting_requests), (0, 0))
        error = request.exception()
        assert isinstance(error, aioh2.ConnectionClosed)
        self.assertEqual((error.initiator, error.retryable), ("peer", True))
        self.assertEqual(error.debug_data, b"restart")
        await self.assert_closed(
            client.start_request(REQUEST), initiator="peer", retryable=True, error_code=0
        )

    async def test_slot_given_in_the_same_segment(self) -> None:
        peer = await Peer.of_client(settings={LIMIT: 1})
        await self.soon(peer.protocol.start_request(REQUEST, end_stream=True))
        request = await self.waiting(peer.protocol.start_request(REQUEST))
        peer.respond(1, end=True)
        peer.goaway(1)
        await settle()
        error = request.exception()
        assert isinstance(error, aioh2.ConnectionClosed)
        self.assertTrue(error.retryable)

    async def test_before_settings(self) -> None:
        peer = Peer(aioh2.H2Protocol(True))
        peer.protocol.connection_made(peer.transport)
        request = await self.waiting(peer.protocol.start_request(REQUEST))
        self.assertEqual(peer.protocol.waiting_requests, 1)
        peer.send(SettingsFrame(), GoAwayFrame(0, 0, 11))
        await settle()
        error = request.exception()
        assert isinstance(error, aioh2.ConnectionClosed)
        self.assertEqual((error.error_code, error.retryable), (11, True))

    async def test_then_shutdown(self) -> None:
        self.peer.goaway(LAST)
        shutdown = await self.waiting(self.client.shutdown(5))
        self.peer.respond(1, end=True)
        await settle()
        self.assertFalse(shutdown.done())
        await self.after(5.1)
        self.assertEqual(shutdown.result(), (1, 1))

    async def test_failed_streams_stay_readable(self) -> None:
        self.peer.respond(3)
        self.peer.data(3, b"abc")
        self.peer.goaway(1)
        await settle()
        self.assertEqual(await self.soon(self.client.read_stream(3)), b"abc")
        await self.assert_closed(self.client.read_stream(3), retryable=True)


class TestReceivedByServer(Timed):
    """GOAWAY from a client."""

    async def test_open_streams_run_to_their_end(self) -> None:
        peer = await Peer.of_server()
        peer.request(1)
        peer.goaway(0)
        await settle()
        self.assertFalse(peer.transport.closed)
        await self.soon(peer.protocol.start_response(1, RESPONSE))
        await self.soon(peer.protocol.send_data(1, b"abc", end_stream=True))
        self.assertEqual([f.data for f in await peer.frames(DataFrame)], [b"abc"])
        self.assertTrue(peer.transport.closed)

    async def test_own_goaway_names_the_last_stream(self) -> None:
        peer = await Peer.of_server()
        peer.request(1)
        peer.goaway(0)
        await self.soon(peer.protocol.start_response(1, RESPONSE, end_stream=True))
        self.assertEqual(await last_streams(peer), [1])

    async def test_pushes_above_fail(self) -> None:
        peer = await Peer.of_server(settings={aioh2.SettingCodes.ENABLE_PUSH: 1})
        server = peer.protocol
        peer.request(1)
        self.assertEqual(await self.soon(server.push_stream(1, REQUEST)), 2)
        self.assertEqual(await self.soon(server.push_stream(1, REQUEST)), 4)
        peer.goaway(2)
        await settle()
        await self.assert_closed(server.start_response(4, RESPONSE), retryable=True)
        await self.soon(server.start_response(2, RESPONSE, end_stream=True))
        await self.assert_closed(server.push_stream(1, REQUEST), initiator="peer")
        self.assertFalse(peer.transport.closed)
        await self.soon(server.start_response(1, RESPONSE, end_stream=True))
        self.assertTrue(peer.transport.closed)

    async def test_error_of_the_client(self) -> None:
        with self.assertLogs("aioh2.server", "INFO") as logs:
            peer = await Peer.of_server()
            peer.goaway(0, 1, b"bad frame")
            await settle()
        self.assertEqual({record.levelname for record in logs.records}, {"INFO"})
        self.assertIn("bad frame", logs.output[0])
        reason = peer.protocol.close_reason
        assert isinstance(reason, aioh2.ConnectionClosed)
        self.assertEqual((reason.initiator, reason.error_code), ("peer", 1))


class TestClose(Timed):
    """``close_connection``: at once."""

    async def test_goaway_names_code_and_data(self) -> None:
        peer = await Peer.of_server()
        peer.request(1)
        peer.protocol.close_connection(aioh2.ErrorCodes.ENHANCE_YOUR_CALM, b"too much")
        self.assertTrue(peer.transport.closed)
        (frame,) = await peer.frames()
        self.assertEqual(
            (frame.last_stream_id, frame.error_code, frame.additional_data), (1, 11, b"too much")
        )

    async def test_streams_fail(self) -> None:
        peer = await Peer.of_client()
        await self.soon(peer.protocol.start_request(REQUEST))
        response = await self.waiting(peer.protocol.recv_response(1))
        ping = await self.waiting(peer.protocol.ping())
        peer.protocol.close_connection(aioh2.ErrorCodes.INTERNAL_ERROR, b"why")
        await settle()
        for task in (response, ping):
            error = task.exception()
            assert isinstance(error, aioh2.ConnectionClosed)
            self.assertEqual(
                (error.initiator, error.error_code, error.debug_data, error.retryable),
                ("local", 2, b"why", False),
            )
        self.assertIsNot(response.exception(), ping.exception())
        await self.assert_closed(
            peer.protocol.start_request(REQUEST), initiator="local", error_code=2, retryable=True
        )

    async def test_no_error_by_default(self) -> None:
        peer = await Peer.of_client()
        peer.protocol.close_connection()
        (frame,) = await peer.frames()
        self.assertEqual((frame.error_code, frame.additional_data), (0, b""))

    async def test_what_was_framed_is_written(self) -> None:
        peer = await Peer.of_server()
        peer.request(1)
        server = peer.protocol
        await server.recv_request()
        await server.start_response(1, RESPONSE)
        await server.send_data(1, b"abc", end_stream=True)
        server.close_connection()
        frames = await peer.frames()
        self.assertEqual([type(f) for f in frames], [HeadersFrame, DataFrame, GoAwayFrame])

    async def test_request_that_was_not_written_may_be_retried(self) -> None:
        peer = await Peer.of_client()
        stream_id = await peer.protocol.start_request(REQUEST)
        peer.transport.lose(ConnectionResetError())
        peer.protocol.connection_lost(ConnectionResetError())
        await self.assert_closed(peer.protocol.recv_response(stream_id), retryable=True)

    async def test_request_that_was_written_may_not(self) -> None:
        peer = await Peer.of_client()
        stream_id = await self.soon(peer.protocol.start_request(REQUEST))
        peer.lose(ConnectionResetError("reset"))
        await settle()
        error = await self.assert_closed(
            peer.protocol.recv_response(stream_id), retryable=False, initiator="transport"
        )
        self.assertIsInstance(error.__cause__, ConnectionResetError)

    async def test_a_second_time(self) -> None:
        peer = await Peer.of_client()
        peer.protocol.close_connection(aioh2.ErrorCodes.CANCEL)
        peer.protocol.close_connection(aioh2.ErrorCodes.INTERNAL_ERROR)
        self.assertEqual([f.error_code for f in await peer.frames()], [8])

    async def test_while_shutting_down(self) -> None:
        peer = await Peer.of_server()
        peer.request(1)
        shutdown = await self.waiting(peer.protocol.shutdown())
        peer.protocol.close_connection(aioh2.ErrorCodes.CANCEL)
        await settle()
        self.assertEqual(shutdown.result(), (0, 1))

    async def test_wrong_debug_data(self) -> None:
        peer = await Peer.of_client()
        with self.assertRaisesRegex(TypeError, "debug_data must be bytes"):
            peer.protocol.close_connection(0, "text")  # type: ignore[arg-type]
        self.assertFalse(peer.protocol.is_closing)

    async def test_most_debug_data(self) -> None:
        # of a GOAWAY that every peer takes (RFC 9113 section 4.2)
        peer = await Peer.of_client()
        with self.assertRaisesRegex(ValueError, "debug_data must be at most 16376 bytes"):
            peer.protocol.close_connection(0, bytes(16_377))
        self.assertFalse(peer.protocol.is_closing)
        peer.protocol.close_connection(0, bytes(16_376))
        (goaway,) = await peer.frames(GoAwayFrame)
        self.assertEqual(goaway.body_len, 16_384)

    async def test_wrong_error_code(self) -> None:
        for code in (-1, 2**32):
            with self.subTest(code):
                peer = await Peer.of_client()
                with self.assertRaisesRegex(ValueError, "error_code"):
                    peer.protocol.close_connection(code)
                self.assertFalse(peer.protocol.is_closing)
                peer.protocol.close_connection()
                self.assertTrue(peer.transport.closed)

    async def test_unknown_error_code(self) -> None:
        peer = await Peer.of_client()
        peer.protocol.close_connection(0xFACE)
        self.assertEqual([f.error_code for f in await peer.frames()], [0xFACE])
        self.assertIn("0xface", str(peer.protocol.close_reason))

    async def test_input_after_it_is_ignored(self) -> None:
        peer = await Peer.of_server()
        peer.transport.hang_on_close = True
        peer.protocol.close_connection()
        peer.request(1)
        peer.send(PingFrame(0, b"12345678"))
        self.assertEqual([type(f) for f in await peer.frames()], [GoAwayFrame])
        await self.assert_closed(peer.protocol.recv_request())
        peer.lose()


class TestEndedInTheSameSegment(Timed):
    """A stream whose last frame comes just before what ends the connection."""

    async def test_it_has_ended_well(self) -> None:
        peer = await Peer.of_client()
        stream = await peer.protocol.open_stream(REQUEST, end_stream=True)
        other = await peer.protocol.open_stream(REQUEST, end_stream=True)
        lost = await peer.protocol.open_stream(REQUEST, end_stream=True)
        shutdown = await self.waiting(peer.protocol.shutdown())
        peer.send(
            peer.headers(stream.id, RESPONSE, "END_STREAM"),
            RstStreamFrame(other.id),
            DataFrame(9, b"on an idle stream"),
        )
        await settle()
        self.assertEqual(shutdown.result(), (2, 1))
        self.assertIsNone(stream.failure)
        self.assertIsInstance(other.failure, aioh2.StreamReset)
        self.assertIsInstance(lost.failure, aioh2.ConnectionClosed)
        self.assertEqual(await self.soon(stream.read()), b"")


class TestWaitClosing(Timed):
    """A handler can wait for the moment from which on no new stream starts."""

    def shut_down(self, peer: Peer) -> None:
        task = asyncio.ensure_future(peer.protocol.shutdown(10))
        self.addCleanup(task.cancel)

    async def test_each_cause(self) -> None:
        causes: dict[str, Any] = {
            "GOAWAY comes": lambda peer: peer.goaway(0),
            "it begins to shut down": lambda peer: self.shut_down(peer),
            "it is closed": lambda peer: peer.protocol.close_connection(),
            "it is aborted": lambda peer: peer.protocol.abort(),
            "it is lost": lambda peer: peer.lose(),
        }
        for make in (Peer.of_client, Peer.of_server):
            for cause, happen in causes.items():
                with self.subTest(cause, make=make.__name__):
                    peer = await make()
                    waits = [await self.waiting(peer.protocol.wait_closing()) for _ in range(2)]
                    happen(peer)
                    await settle()
                    self.assertEqual([wait.done() for wait in waits], [True, True])
                    self.assertTrue(peer.protocol.is_closing)
                    await self.soon(peer.protocol.wait_closing())

    async def test_open_streams_go_on(self) -> None:
        peer = await Peer.of_server()
        peer.request(1)
        stream = await anext(peer.protocol)
        await stream.start_response(RESPONSE)
        self.shut_down(peer)
        await self.soon(peer.protocol.wait_closing())
        await stream.send_data(b"last", end_stream=True)
        (data,) = await peer.frames(DataFrame)
        self.assertEqual(data.data, b"last")

    async def test_cancelled(self) -> None:
        peer = await Peer.of_server()
        first = await self.waiting(peer.protocol.wait_closing())
        second = await self.waiting(peer.protocol.wait_closing())
        first.cancel()
        await settle()
        peer.lose()
        await settle()
        self.assertTrue(second.done())
        self.assertEqual(futures_in(peer.protocol), [])


class TestAbort(Timed):
    """``abort``: at once, and without a word."""

    async def test_writes_nothing_more(self) -> None:
        peer = await Peer.of_client()
        stream_id = await peer.protocol.start_request(REQUEST)
        peer.protocol.abort()
        self.assertTrue(peer.transport.aborted)
        self.assertEqual(await peer.frames(), [])
        await self.assert_closed(
            peer.protocol.recv_response(stream_id), initiator="local", retryable=True
        )
        await self.soon(peer.protocol.wait_closed())

    async def test_a_second_time(self) -> None:
        peer = await Peer.of_client()
        peer.protocol.abort()
        reason = peer.protocol.close_reason
        peer.protocol.abort()
        await settle()
        peer.protocol.abort()
        self.assertIs(peer.protocol.close_reason, reason)

    async def test_before_the_connection(self) -> None:
        protocol = aioh2.H2Protocol(True)
        protocol.abort()
        await self.soon(protocol.wait_closed())
        await self.assert_closed(protocol.start_request(REQUEST), initiator="local")


class TestTimeLimits(Timed):
    """What a time limit ends says what it has waited for, to everybody who waits."""

    def assert_says(
        self, error: BaseException | None, kind: type[BaseException], says: str
    ) -> None:
        self.assertIs(type(error), kind)
        self.assertIn(says, str(error))

    async def test_frame(self) -> None:
        peer = await Peer.of_client(frame_timeout=5)
        stream_id = await self.soon(peer.protocol.start_request(REQUEST))
        response = await self.waiting(peer.protocol.recv_response(stream_id))
        peer.send_bytes(bytes(5))
        await self.after(6)
        says = "blocked on peer: a frame was not complete after 5 s"
        self.assert_says(response.exception(), aioh2.ConnectionClosed, says)

    async def test_settings(self) -> None:
        peer = await Peer.of_client(open_timeout=5)
        peer.protocol.update_settings({LIMIT: 7})
        accept = await self.waiting(peer.protocol.recv_request())
        await self.after(6)
        says = "blocked on peer: SETTINGS were not acknowledged for 5 s"
        self.assert_says(accept.exception(), aioh2.ConnectionClosed, says)

    async def test_opening(self) -> None:
        for settings, says in (
            (b"", "blocked on peer: the peer sent nothing for 5 s"),
            (b"PRI", "blocked on peer: the peer sent no SETTINGS for 5 s"),
        ):
            with self.subTest(says):
                protocol = aioh2.H2Protocol(False, open_timeout=5)
                peer = Peer(protocol)
                protocol.connection_made(peer.transport)
                peer.send_bytes(settings)
                accept = await self.waiting(protocol.recv_request())
                await self.after(6)
                self.assert_says(accept.exception(), aioh2.HandshakeError, says)

    async def test_idle(self) -> None:
        peer = await Peer.of_server(idle_timeout=5)
        accept = await self.waiting(peer.protocol.recv_request())
        await self.after(6)
        await ack_announcement(peer)
        await settle()
        says = "no stream was open for 5 s"
        self.assert_says(accept.exception(), aioh2.ConnectionClosed, says)
        self.assert_says(peer.protocol.close_reason, aioh2.ConnectionClosed, says)

    async def test_idle_client(self) -> None:
        """Who asks for a stream after that is told, too."""
        peer = await Peer.of_client(idle_timeout=5, enable_push=True)
        await self.after(6)
        await ack_announcement(peer)
        error = await self.assert_closed(
            peer.protocol.start_request(REQUEST), initiator="local", retryable=True
        )
        self.assertIn("no stream was open for 5 s", str(error))

    async def test_request_that_waits_when_the_connection_is_too_old(self) -> None:
        with mock.patch("random.uniform", return_value=1):
            peer = await Peer.of_server(max_connection_age=5, max_connection_age_grace=3)
        peer.request(1, POST, end=False)
        reader = await self.waiting(peer.protocol.read_stream(1))
        await self.after(6)
        await ack_announcement(peer)
        await self.after(4)
        says = "the grace time is over: blocked on stream 1 (peer) for 3 s"
        self.assert_says(reader.exception(), aioh2.ConnectionClosed, says)

    async def test_old_connection(self) -> None:
        with mock.patch("random.uniform", return_value=1):
            peer = await Peer.of_server(max_connection_age=5)
        await self.after(6)
        await ack_announcement(peer)
        await settle()
        self.assertIn("it is older than 5 s", str(peer.protocol.close_reason))

    async def test_lost_while_it_drains(self) -> None:
        peer = await Peer.of_server(idle_timeout=5)
        await self.after(6)
        peer.lose()
        await settle()
        self.assertIn("no stream was open for 5 s", str(peer.protocol.close_reason))

    async def test_grace_time(self) -> None:
        peer = await Peer.of_server(settings={WINDOW: 0})
        for stream_id in (1, 3, 5, 7):
            peer.request(stream_id, POST, end=False)
        await self.soon(peer.protocol.start_response(3, RESPONSE))
        sending = await self.waiting(peer.protocol.send_data(3, b"abc"))
        reader = await self.waiting(peer.protocol.read_stream(5))
        await self.waiting(peer.protocol.shutdown(5))
        await ack_announcement(peer)
        await self.after(6)
        says = (
            "the grace time is over: blocked on streams 1, 3 (stream window), 5 (peer) and 1 more"
            " for 5 s"
        )
        self.assert_says(sending.exception(), aioh2.SendException, says)
        self.assert_says(reader.exception(), aioh2.ConnectionClosed, says)

    async def test_grace_time_without_the_round_trip(self) -> None:
        peer = await Peer.of_server()
        peer.request(1, POST, end=False)
        reader = await self.waiting(peer.protocol.read_stream(1))
        await self.waiting(peer.protocol.shutdown(5))
        await self.after(6)
        says = "blocked on peer, which has not acknowledged a PING for 5 s"
        self.assert_says(reader.exception(), aioh2.ConnectionClosed, says)

    async def test_keepalive(self) -> None:
        peer = await Peer.of_client(keepalive_interval=5, keepalive_timeout=2)
        ping = await self.waiting(peer.protocol.ping())
        await self.after(6)
        await self.after(3)
        says = "blocked on peer: no sign of life for 2 s after a PING"
        self.assert_says(ping.exception(), aioh2.ConnectionClosed, says)

    async def test_window(self) -> None:
        for streams, window, says in (
            (0, LAST, "blocked on stream window for 5 s"),
            (LAST, 0, "blocked on connection window for 5 s"),
        ):
            with self.subTest(says):
                peer = await Peer.of_client(settings={WINDOW: streams}, window_timeout=5)
                if window:
                    peer.window(0, window - 65_535)
                stream = await peer.protocol.open_stream(POST)
                sending = await self.waiting(stream.send_data(bytes(70_000)))
                await self.after(6)
                self.assert_says(sending.exception(), aioh2.SendException, says)

    async def test_body(self) -> None:
        peer = await Peer.of_server(body_timeout=5)
        peer.request(1, POST, end=False)
        reader = await self.waiting(peer.protocol.read_stream(1))
        await self.after(6)
        self.assert_says(reader.exception(), aioh2.StreamReset, "blocked on peer for 5 s")

    async def test_write(self) -> None:
        peer = await Peer.of_client(write_timeout=5)
        stream_id = await self.soon(peer.protocol.start_request(REQUEST))
        response = await self.waiting(peer.protocol.recv_response(stream_id))
        with mock.patch.object(peer.transport, "get_write_buffer_size", lambda: 100_000):
            peer.send(PingFrame(0, bytes(8)))
            await self.after(0)
            await self.after(6)
        says = "blocked on transport: it took nothing for 5 s"
        self.assert_says(response.exception(), aioh2.ConnectionClosed, says)


class TestReasons(Timed):
    """What ends a connection at once is in ``close_reason``, and in what its callers get."""

    def assert_reason(self, peer: Peer, kind: type[aioh2.AIOH2Exception], text: str) -> None:
        reason = peer.protocol.close_reason
        self.assertIs(type(reason), kind)
        self.assertIn(text, str(reason))

    async def test_limit(self) -> None:
        peer = await Peer.of_server(frame_timeout=5)
        peer.send_bytes(bytes(5))
        await self.after(6)
        (goaway,) = await peer.frames(GoAwayFrame)
        self.assertEqual(goaway.error_code, aioh2.ErrorCodes.ENHANCE_YOUR_CALM)
        self.assert_reason(peer, aioh2.ConnectionClosed, "a frame was not complete after 5 s")

    async def test_broken_rule(self) -> None:
        peer = await Peer.of_server()
        peer.window(0, 0)
        (goaway,) = await peer.frames(GoAwayFrame)
        self.assertEqual(goaway.error_code, aioh2.ErrorCodes.PROTOCOL_ERROR)
        self.assert_reason(peer, aioh2.ConnectionClosed, "PROTOCOL_ERROR")

    async def test_no_preface(self) -> None:
        peer = Peer(aioh2.H2Protocol(False))
        peer.protocol.connection_made(peer.transport)
        peer.send_bytes(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        self.assertTrue(peer.transport.closed)
        self.assert_reason(peer, aioh2.HandshakeError, "preface")

    async def test_no_greeting(self) -> None:
        """Nothing is waited for: not the peer's side, nor a goodbye."""
        protocol = aioh2.H2Protocol(True, open_timeout=3)
        peer = Peer(protocol)
        peer.transport.hang_on_close = True
        protocol.connection_made(peer.transport)
        waiting = await self.waiting(protocol.start_request(REQUEST))
        await self.after(3)
        self.assertTrue(peer.transport.aborted)
        self.assert_reason(peer, aioh2.HandshakeError, "the peer sent nothing for 3 s")
        self.assertIs(type(waiting.exception()), aioh2.HandshakeError)
        with self.assertRaises(aioh2.HandshakeError):
            await self.soon(protocol.start_request(REQUEST))

    async def test_lost_before_the_greeting(self) -> None:
        for error, text in ((None, "before its SETTINGS"), (OSError("reset"), "SETTINGS: reset")):
            peer = Peer(aioh2.H2Protocol(True))
            peer.protocol.connection_made(peer.transport)
            peer.lose(error)
            await settle()
            self.assert_reason(peer, aioh2.HandshakeError, text)
            self.assertIs(peer.protocol.close_reason.__cause__, error)

    async def test_no_connection_yet(self) -> None:
        error = await self.assert_closed(
            aioh2.H2Protocol(True).start_request(REQUEST), retryable=True
        )
        self.assertIn("no connection yet", str(error))

    async def test_error_waits_for_the_peers_end(self) -> None:
        peer = await Peer.of_server()
        with (
            mock.patch.object(peer.transport, "can_write_eof", lambda: True),
            mock.patch.object(peer.transport, "write_eof") as ended,
        ):
            peer.protocol.close_connection(aioh2.ErrorCodes.INTERNAL_ERROR)
        ended.assert_called_once()
        self.assertFalse(peer.transport.closed)
        await self.after(1)
        self.assertTrue(peer.transport.closed)


class TestHangingClose(Timed):
    """``close_timeout`` bounds a transport that does not come to its end."""

    async def hanging(self, **options: Any) -> Peer:
        peer = await Peer.of_server(**options)
        peer.transport.hang_on_close = True
        peer.transport.unsent = 1
        return peer

    async def test_close(self) -> None:
        peer = await self.hanging(close_timeout=3)
        peer.protocol.close_connection()
        closed = await self.waiting(peer.protocol.wait_closed())
        self.assertTrue(peer.transport.closed)
        await self.after(2.9)
        self.assertFalse(peer.transport.aborted)
        await self.after(0.2)
        self.assertTrue(peer.transport.aborted)
        self.assertTrue(closed.done())

    async def test_shutdown_of_an_idle_connection(self) -> None:
        peer = await self.hanging(close_timeout=3)
        shutdown = await self.waiting(peer.protocol.shutdown())
        await self.after(1)
        await ack_announcement(peer)
        await settle()
        self.assertTrue(peer.transport.closed)
        self.assertFalse(peer.transport.aborted)
        # counted from the decision to close, not from the end of the streams
        await self.after(2.1)
        self.assertTrue(peer.transport.aborted)
        self.assertEqual(shutdown.result(), (0, 0))

    async def test_grace_time_and_goodbye(self) -> None:
        peer = await self.hanging(close_timeout=3)
        peer.request(1)
        shutdown = await self.waiting(peer.protocol.shutdown(3))
        await self.after(3.1)
        self.assertTrue(peer.transport.aborted)
        self.assertEqual(shutdown.result(), (0, 1))

    async def test_short_grace_leaves_time_for_the_goodbye(self) -> None:
        peer = await self.hanging(close_timeout=3)
        peer.request(1)
        await self.waiting(peer.protocol.shutdown(1))
        await self.after(1.1)
        self.assertTrue(peer.transport.closed)
        self.assertFalse(peer.transport.aborted)
        await self.after(2)
        self.assertTrue(peer.transport.aborted)

    async def test_long_grace_is_not_for_the_goodbye(self) -> None:
        peer = await self.hanging(close_timeout=3)
        peer.request(1)
        await self.waiting(peer.protocol.shutdown(60))
        await ack_announcement(peer)
        await self.soon(peer.protocol.start_response(1, RESPONSE, end_stream=True))
        self.assertTrue(peer.transport.closed)
        await self.after(3.1)
        self.assertTrue(peer.transport.aborted)

    async def test_close_after_shutdown(self) -> None:
        peer = await self.hanging(close_timeout=3)
        peer.request(1)
        await self.waiting(peer.protocol.shutdown(60))
        peer.protocol.close_connection()
        await self.after(3.1)
        self.assertTrue(peer.transport.aborted)

    async def test_second_shutdown_with_a_shorter_grace(self) -> None:
        peer = await self.hanging(close_timeout=3)
        peer.request(1)
        await self.waiting(peer.protocol.shutdown(60))
        await self.waiting(peer.protocol.shutdown(1))
        await self.after(1.1)
        self.assertTrue(peer.transport.closed)
        await self.after(3.1)
        self.assertTrue(peer.transport.aborted)

    async def test_received_goaway(self) -> None:
        peer = await self.hanging(close_timeout=3)
        peer.goaway(0)
        await settle()
        self.assertTrue(peer.transport.closed)
        await self.after(3.1)
        self.assertTrue(peer.transport.aborted)

    async def test_connection_error(self) -> None:
        peer = await self.hanging(close_timeout=3)
        peer.send(SettingsFrame(settings={aioh2.SettingCodes.ENABLE_PUSH: 7}))
        await settle()
        self.assertTrue(peer.transport.closed)
        await self.after(3.1)
        self.assertTrue(peer.transport.aborted)

    async def test_eof(self) -> None:
        # the peer has closed its side, and does not read what was written before
        peer = await self.hanging(close_timeout=3)
        peer.eof()
        await settle()
        self.assertTrue(peer.transport.closed)
        await self.after(2.9)
        self.assertFalse(peer.transport.aborted)
        await self.after(0.2)
        self.assertTrue(peer.transport.aborted)

    async def test_eof_while_closing(self) -> None:
        peer = await self.hanging(close_timeout=3)
        peer.protocol.close_connection()
        await self.after(2)
        peer.eof()
        await self.after(1.1)
        self.assertTrue(peer.transport.aborted)

    async def test_close_after_eof(self) -> None:
        peer = await self.hanging(close_timeout=3)
        peer.eof()
        await self.after(2)
        peer.protocol.close_connection()
        await self.after(1.1)
        self.assertTrue(peer.transport.aborted)

    async def test_eof_while_shutting_down(self) -> None:
        peer = await self.hanging(close_timeout=3)
        peer.request(1)
        await self.waiting(peer.protocol.shutdown(60))
        peer.eof()
        await self.after(3.1)
        self.assertTrue(peer.transport.aborted)

    async def test_no_timer_is_left(self) -> None:
        peer = await Peer.of_server(close_timeout=3, keepalive_interval=5)
        peer.protocol.close_connection()
        await self.soon(peer.protocol.wait_closed())
        await self.after(60)
        self.assertFalse(peer.transport.aborted)

    async def test_no_timer_is_left_after_eof(self) -> None:
        peer = await Peer.of_server(close_timeout=3)
        peer.eof()
        await self.after(60)
        self.assertFalse(peer.transport.aborted)


class TestGoodbye(Timed):
    """Once everything is written, TLS's goodbye gets ``GOODBYE_SECONDS``."""

    async def closing(self, unsent: int = 0, **extra: Any) -> Peer:
        """Return the peer of a server that closes, with so much that it has not written."""
        protocol = aioh2.H2Protocol(False, close_timeout=10)
        peer = Peer(protocol, **extra)
        protocol.connection_made(peer.transport)
        peer.transport.hang_on_close = True
        peer.transport.unsent = unsent
        protocol.close_connection()
        return peer

    async def aborted_after(self, peer: Peer) -> float:
        """Return in which half second the transport is aborted."""
        seconds = 0.0
        while not peer.transport.aborted and seconds < 20:
            await self.after(0.5)
            seconds += 0.5
        return seconds

    async def test_everything_is_written(self) -> None:
        peer = await self.closing()
        await self.after(0.9)
        self.assertFalse(peer.transport.aborted)
        await self.after(0.2)
        self.assertTrue(peer.transport.aborted)
        await self.soon(peer.protocol.wait_closed())

    async def test_something_is_not(self) -> None:
        peer = await self.closing(1)
        self.assertEqual(await self.aborted_after(peer), 10)

    async def test_written_later(self) -> None:
        peer = await self.closing(1)
        for _ in range(5):
            await self.after(0.5)
        peer.transport.unsent = 0
        # a second from when that is seen, which is once in a second
        self.assertIn(await self.aborted_after(peer), (1.5, 2))

    async def test_close_timeout_is_shorter(self) -> None:
        peer = await Peer.of_server(close_timeout=0.5)
        peer.transport.hang_on_close = True
        peer.protocol.close_connection()
        self.assertEqual(await self.aborted_after(peer), 0.5)

    async def test_after_a_shutdown(self) -> None:
        peer = await Peer.of_client()
        peer.transport.hang_on_close = True
        shutdown = await self.waiting(peer.protocol.shutdown())
        await self.after(1.1)
        self.assertTrue(shutdown.done())

    async def test_no_timer_is_left(self) -> None:
        peer = await self.closing()
        peer.lose()
        await self.after(60)
        self.assertFalse(peer.transport.aborted)

    async def test_what_asyncio_has_below_tls(self) -> None:
        # it does not count that: what TLS has encrypted has left its own transport
        below = mock.Mock(**{"get_write_buffer_size.return_value": 1})
        for unsent, expected in (1, 10), (0, 1):
            below.get_write_buffer_size.return_value = unsent
            protocol = aioh2.H2Protocol(False)
            peer = Peer(protocol, ssl_object=mock.Mock())
            peer.transport._ssl_protocol = mock.Mock(_transport=below)  # type: ignore[attr-defined]
            protocol.connection_made(peer.transport)
            peer.transport.hang_on_close = True
            protocol.close_connection()
            self.assertEqual(await self.aborted_after(peer), expected)

    async def test_tls_that_does_not_tell(self) -> None:
        peer = await self.closing(ssl_object=mock.Mock())
        self.assertEqual(await self.aborted_after(peer), 10)


class TestContextManager(Timed):
    async def test_leaving_shuts_down(self) -> None:
        client, server = await connected_pair()

        async def use() -> None:
            async with client as entered:
                self.assertIs(entered, client)
                await client.start_request(REQUEST, end_stream=True)

        leaving = await self.waiting(use())
        self.assertTrue(client.is_closing)
        self.assertIsNone(client.close_reason)
        await self.soon(server.start_response(1, RESPONSE, end_stream=True))
        self.assertTrue(leaving.done())
        self.assertIsNone(leaving.exception())
        await self.soon(server.wait_closed())

    async def test_an_exception_closes_at_once(self) -> None:
        client, server = await connected_pair()

        async def use() -> None:
            async with client:
                await client.start_request(REQUEST, end_stream=True)
                raise KeyError("of the application")

        with self.assertRaises(KeyError):
            await self.soon(use())
        self.assertIsNotNone(client.close_reason)
        await self.soon(server.wait_closed())

    async def test_leaving_waits_for_the_end_of_the_transport(self) -> None:
        for error in (None, KeyError("of the application")):
            with self.subTest(error):
                peer = await Peer.of_client()
                peer.transport.hang_on_close = True

                async def use(peer: Peer = peer, error: KeyError | None = error) -> None:
                    async with peer.protocol:
                        if error is not None:
                            raise error

                leaving = await self.waiting(use())
                self.assertTrue(peer.transport.closed)
                peer.lose()
                await settle()
                self.assertIs(leaving.exception(), error)

    async def test_cancelled_inside(self) -> None:
        client, _server = await connected_pair()

        async def use() -> None:
            async with client:
                await asyncio.Event().wait()

        task = await self.waiting(use())
        task.cancel()
        await settle()
        self.assertTrue(task.cancelled())
        await self.soon(client.wait_closed())

    async def test_connection_gone_already(self) -> None:
        client, server = await connected_pair()
        async with client:
            server.close_connection()
            await settle()
        self.assertTrue(client.is_closing)
