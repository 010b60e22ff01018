"""``Opener``: slots, requests, promises, and what a request says of its origin."""

from __future__ import annotations

import asyncio
import unittest
from typing import Any

from hyperframe.frame import (
    DataFrame,
    HeadersFrame,
    PushPromiseFrame,
    SettingsFrame,
)

import aioh2
from aioh2 import SettingCodes
from aioh2.testing import connected_pair

from .test_closing import LAST, LIMIT, Timed
from .test_greeting import Agreed
from .wire import (
    POST,
    REQUEST,
    RESPONSE,
    Peer,
    settle,
)

WINDOW = int(SettingCodes.INITIAL_WINDOW_SIZE)
PUSH = int(SettingCodes.ENABLE_PUSH)
CONNECT = int(SettingCodes.ENABLE_CONNECT_PROTOCOL)
TUNNEL = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":authority", "a.test"),
    (":path", "/chat"),
]


class TestOrigin(Timed):
    """``:scheme`` and ``:authority`` where the application gives none."""

    async def origin(self, authority: str | None = None, **extra: Any) -> tuple[str, str]:
        protocol = aioh2.H2Protocol(True)
        protocol.authority = authority
        peer = Peer(protocol, **extra)
        protocol.connection_made(peer.transport)
        await peer.greet()
        await self.soon(protocol.start_request({}))
        (frame,) = await peer.frames(HeadersFrame)
        headers = dict(frame.headers)
        self.assertEqual((headers[":method"], headers[":path"]), ("GET", "/"))
        return headers[":scheme"], headers[":authority"]

    async def test_from_the_transport(self) -> None:
        for peername, authority in (
            (("192.0.2.1", 8080), "192.0.2.1:8080"),
            (("2001:db8::1", 8080, 0, 0), "[2001:db8::1]:8080"),
            ("/run/socket", "localhost"),
            (b"", "localhost"),
            ("", "localhost"),
            (None, "localhost"),
        ):
            with self.subTest(peername):
                self.assertEqual(await self.origin(peername=peername), ("http", authority))

    async def test_over_tls(self) -> None:
        origin = await self.origin(peername=("192.0.2.1", 8443), ssl_object=Agreed("h2"))
        self.assertEqual(origin, ("https", "192.0.2.1:8443"))

    async def test_set_by_the_application(self) -> None:
        origin = await self.origin("a.test", peername=("192.0.2.1", 8080))
        self.assertEqual(origin, ("http", "a.test"))

    async def test_set_while_connected(self) -> None:
        """As behind a proxy that has ended TLS."""
        peer = await Peer.of_client()
        peer.protocol.scheme = "https"
        peer.protocol.authority = "b.test"
        await self.soon(peer.protocol.start_request({}))
        (frame,) = await peer.frames(HeadersFrame)
        headers = dict(frame.headers)
        self.assertEqual((headers[":scheme"], headers[":authority"]), ("https", "b.test"))


class TestSlots(Timed):
    """Streams under the peer's MAX_CONCURRENT_STREAMS (RFC 9113 section 5.1.2)."""

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        await self.connect(1)

    async def connect(self, limit: int) -> None:
        self.peer = await Peer.of_client(settings={LIMIT: limit})
        self.client = self.peer.protocol

    def request(self) -> Any:
        return self.client.start_request(REQUEST, end_stream=True)

    def limit(self, limit: int) -> None:
        self.peer.send(SettingsFrame(settings={LIMIT: limit}))

    async def test_first_come_first_served(self) -> None:
        await self.soon(self.request())
        calls = [await self.waiting(self.request()) for _ in range(3)]
        self.assertEqual((self.client.waiting_requests, self.client.available_slots), (3, 0))
        for index, call in enumerate(calls):
            self.peer.respond(2 * index + 1, end=True)
            await settle()
            self.assertEqual(call.result(), 2 * index + 3)
            self.assertEqual(self.client.waiting_requests, 2 - index)

    async def test_available_slots(self) -> None:
        await self.connect(3)
        self.assertEqual(self.client.available_slots, 3)
        await self.soon(self.request())
        self.assertEqual(self.client.available_slots, 2)
        self.peer.respond(1, end=True)
        self.assertEqual(self.client.available_slots, 3)

    async def test_slot_of_a_reset_stream(self) -> None:
        await self.soon(self.request())
        call = await self.waiting(self.request())
        self.client.reset_stream(1)
        await settle()
        self.assertEqual(call.result(), 3)
        call = await self.waiting(self.request())
        self.peer.reset(3)
        await settle()
        self.assertEqual(call.result(), 5)

    async def test_limit_of_zero(self) -> None:
        await self.connect(0)
        call = await self.waiting(self.request())
        self.limit(1)
        await settle()
        self.assertEqual(call.result(), 1)

    async def test_limit_lowered_below_what_is_in_flight(self) -> None:
        await self.connect(3)
        for _ in range(3):
            await self.soon(self.request())
        self.limit(1)
        self.assertEqual(self.client.available_slots, 0)
        call = await self.waiting(self.request())
        for stream_id in (1, 3):
            self.peer.respond(stream_id, end=True)
            await settle()
            self.assertFalse(call.done())
        self.peer.respond(5, end=True)
        await settle()
        self.assertEqual(call.result(), 7)
        self.assertEqual(await self.soon(self.client.recv_response(5)), RESPONSE)

    async def test_limit_raised(self) -> None:
        await self.soon(self.request())
        calls = [await self.waiting(self.request()) for _ in range(3)]
        self.limit(3)
        await settle()
        self.assertEqual([call.done() for call in calls], [True, True, False])

    async def test_nobody_overtakes_who_was_woken(self) -> None:
        await self.soon(self.request())
        call = await self.waiting(self.request())
        # its first step comes after the slot is given, and before its taker wakes
        overtaker = asyncio.get_running_loop().create_task(self.request())
        self.addCleanup(overtaker.cancel)
        self.peer.respond(1, end=True)
        self.assertEqual(self.client.available_slots, 0)
        await settle()
        self.assertEqual(call.result(), 3)
        self.assertFalse(overtaker.done())

    async def test_limit_lowered_while_the_next_one_wakes(self) -> None:
        await self.soon(self.request())
        calls = [await self.waiting(self.request()) for _ in range(2)]
        self.peer.respond(1, end=True)
        self.limit(0)
        await settle()
        self.assertEqual([call.done() for call in calls], [False, False])
        self.assertEqual(self.client.waiting_requests, 2)
        self.limit(1)
        await settle()
        self.assertEqual([call.done() for call in calls], [True, False])

    async def test_limit_lowered_while_two_wake(self) -> None:
        await self.connect(2)
        for _ in range(2):
            await self.soon(self.request())
        calls = [await self.waiting(self.request()) for _ in range(3)]
        self.peer.respond(1, end=True)
        self.peer.respond(3, end=True)
        self.limit(0)
        await settle()
        self.assertEqual([call.done() for call in calls], [False, False, False])
        for served in range(1, 4):
            self.limit(served)
            await settle()
            self.assertEqual([call.done() for call in calls], [n < served for n in range(3)])

    async def test_limit_lowered_by_one_while_two_wake(self) -> None:
        await self.connect(2)
        for _ in range(2):
            await self.soon(self.request())
        calls = [await self.waiting(self.request()) for _ in range(2)]
        self.peer.respond(1, end=True)
        self.peer.respond(3, end=True)
        self.limit(1)
        await settle()
        self.assertEqual([call.done() for call in calls], [True, False])

    async def test_cancelled_while_it_waits(self) -> None:
        await self.soon(self.request())
        calls = [await self.waiting(self.request()) for _ in range(3)]
        calls[0].cancel()
        await settle()
        self.assertEqual(self.client.waiting_requests, 2)
        self.peer.respond(1, end=True)
        await settle()
        self.assertEqual(calls[1].result(), 3)
        self.assertFalse(calls[2].done())

    async def test_cancelled_when_it_has_the_slot(self) -> None:
        await self.soon(self.request())
        calls = [await self.waiting(self.request()) for _ in range(2)]
        await self.peer.frames()
        self.peer.respond(1, end=True)
        calls[0].cancel()
        await settle()
        self.assertTrue(calls[0].cancelled())
        # it has sent nothing: the next one gets its slot and its id
        self.assertEqual(calls[1].result(), 3)
        self.assertEqual([f.stream_id for f in await self.peer.frames(HeadersFrame)], [3])
        self.peer.respond(3, end=True)
        self.assertEqual(self.client.available_slots, 1)

    async def test_cancelled_when_the_slot_is_given(self) -> None:
        await self.soon(self.request())
        calls = [await self.waiting(self.request()) for _ in range(2)]
        calls[0].cancel()
        self.peer.respond(1, end=True)
        await settle()
        self.assertEqual(calls[1].result(), 3)

    async def test_cancelled_when_the_connection_ends(self) -> None:
        await self.soon(self.request())
        call = await self.waiting(self.request())
        self.peer.goaway(1)
        call.cancel()
        await settle()
        self.assertTrue(call.cancelled())
        other = await Peer.of_client(settings={LIMIT: 0})
        call = await self.waiting(other.protocol.start_request(REQUEST))
        call.cancel()
        other.goaway(0)
        await settle()
        self.assertTrue(call.cancelled())

    async def test_slot_that_is_not_taken_goes_to_the_next(self) -> None:
        await self.soon(self.request())
        tunnel = await self.waiting(self.client.start_request(TUNNEL))
        call = await self.waiting(self.request())
        self.peer.respond(1, end=True)
        await settle()
        self.assertIsInstance(tunnel.exception(), aioh2.NotSupported)
        self.assertTrue(call.done())

    async def test_goaway_when_the_slot_is_given(self) -> None:
        await self.soon(self.request())
        call = await self.waiting(self.request())
        self.peer.respond(1, end=True)
        self.peer.goaway(LAST)
        await settle()
        error = call.exception()
        assert isinstance(error, aioh2.ConnectionClosed)
        self.assertTrue(error.retryable)

    async def test_wrong_headers_do_not_wait(self) -> None:
        await self.connect(0)
        with self.assertRaises(ValueError):
            await self.soon(self.client.start_request({"bad name": "x"}))
        with self.assertRaises(TypeError):
            await self.soon(self.client.start_request(7))  # type: ignore[arg-type]
        self.assertEqual(self.client.waiting_requests, 0)

    async def test_many_at_once_keep_their_order(self) -> None:
        await self.connect(1000)
        ids = await self.soon(
            asyncio.wait_for(
                asyncio.gather(*(self.client.start_request({"n": str(n)}) for n in range(50))),
                None,
            )
        )
        self.assertEqual(ids, list(range(1, 101, 2)))
        frames = await self.peer.frames(HeadersFrame)
        self.assertEqual(
            [(frame.stream_id, dict(frame.headers)["n"]) for frame in frames],
            [(2 * n + 1, str(n)) for n in range(50)],
        )

    async def test_stream_ids_are_used_up(self) -> None:
        # sets h2's counter: two thousand million requests take too long
        self.client._driver.connection.highest_outbound_stream_id = LAST - 2
        self.assertEqual(await self.soon(self.request()), LAST)
        self.peer.respond(LAST, end=True)
        self.assertEqual(await self.soon(self.client.recv_response(LAST)), RESPONSE)
        error = await self.assert_closed(self.request(), retryable=True, initiator="local")
        self.assertIn("stream ids are used up", str(error))

    async def test_server_starts_no_request(self) -> None:
        peer = await Peer.of_server()
        with self.assertRaisesRegex(aioh2.NotSupported, "push_stream"):
            await self.soon(peer.protocol.start_request(REQUEST))

    async def test_transport_that_closes(self) -> None:
        self.peer.transport.closed = True
        self.assertTrue(self.client.is_closing)
        self.assertEqual(self.client.available_slots, 0)
        error = await self.assert_closed(self.request(), retryable=True)
        self.assertIsNotNone(error)
        self.peer.transport.lose(None)

    async def test_written_to_a_transport_that_closes(self) -> None:
        stream_id = await self.request()
        self.peer.transport.closed = True
        await settle()
        self.peer.transport.lose(None)
        await settle()
        await self.assert_closed(self.client.recv_response(stream_id), retryable=True)


class TestPriorityOfRequests(Timed):
    """RFC 9218 section 5."""

    async def test_field(self) -> None:
        peer = await Peer.of_client()
        priority = aioh2.Priority(urgency=1, incremental=True)
        await self.soon(peer.protocol.start_request(REQUEST, priority=priority))
        (request,) = await peer.frames(HeadersFrame)
        self.assertEqual(dict(request.headers)["priority"], "u=1, i")

    async def test_orders_what_this_side_sends(self) -> None:
        peer = await Peer.of_client(settings={WINDOW: 1_000_000})
        peer.window(0, 1_000_000)
        peer.protocol.pause_writing()
        for urgency in (5, 2):
            priority = aioh2.Priority(urgency=urgency)
            stream = await self.soon(self.opened(peer, priority))
            await self.waiting(stream.send_data(bytes(20_000), end_stream=True))
        peer.protocol.resume_writing()
        ids = [frame.stream_id for frame in await peer.frames(DataFrame)]
        self.assertEqual(ids, [3, 3, 1, 1])

    async def opened(self, peer: Peer, priority: aioh2.Priority) -> aioh2.H2Stream:
        return await peer.protocol.open_stream(POST, priority=priority)


class TestRetryable(Timed):
    """True only where the HEADERS were never written."""

    async def check(self, end: Any) -> None:
        peer = await Peer.of_client()
        stream_id = await peer.protocol.start_request(REQUEST)
        end(peer)
        with self.assertRaises(aioh2.ConnectionClosed) as caught:
            await self.soon(peer.protocol.recv_response(stream_id))
        written = bool(await peer.frames(HeadersFrame))
        self.assertEqual(caught.exception.retryable, not written)

    async def test_closed_in_the_same_tick(self) -> None:
        await self.check(lambda peer: peer.protocol.close_connection())

    async def test_connection_error_in_the_same_tick(self) -> None:
        await self.check(lambda peer: peer.send(DataFrame(7, b"on an idle stream")))

    async def test_lost_in_the_same_tick(self) -> None:
        await self.check(lambda peer: peer.protocol.connection_lost(None))

    async def test_written(self) -> None:
        peer = await Peer.of_client()
        stream_id = await self.soon(peer.protocol.start_request(REQUEST))
        peer.protocol.close_connection()
        await self.assert_closed(peer.protocol.recv_response(stream_id), retryable=False)


class TestExtendedConnect(Timed):
    """RFC 8441."""

    async def test_not_offered(self) -> None:
        peer = await Peer.of_client()
        with self.assertRaisesRegex(aioh2.NotSupported, "extended CONNECT.*_CONNECT_PROTOCOL is 0"):
            await self.soon(peer.protocol.start_request(TUNNEL))
        self.assertEqual(await peer.frames(), [])

    async def test_offered(self) -> None:
        peer = await Peer.of_client(settings={CONNECT: 1})
        await self.soon(peer.protocol.start_request(TUNNEL))
        (frame,) = await peer.frames(HeadersFrame)
        self.assertEqual(frame.headers, TUNNEL)

    async def test_of_a_server(self) -> None:
        peer = await Peer.of_server(enable_connect_protocol=True)
        peer.request(1, TUNNEL, end=False)
        self.assertEqual(await self.soon(peer.protocol.recv_request()), (1, TUNNEL))


class TestPush(Timed):
    """Server push (RFC 9113 section 8.4)."""

    async def server(self, **settings: int) -> Peer:
        peer = await Peer.of_server(
            settings={PUSH: 1, **{int(SettingCodes[name]): n for name, n in settings.items()}}
        )
        peer.request(1)
        await self.soon(peer.protocol.recv_request())
        return peer

    async def test_both_ways(self) -> None:
        client, server = await connected_pair(client={"enable_push": True})
        stream_id = await self.soon(client.start_request(REQUEST, end_stream=True))
        await self.soon(server.recv_request())
        promise = await self.waiting(client.recv_push(stream_id))
        pushed = await self.soon(server.push_stream(stream_id, {":path": "/style.css"}))
        self.assertEqual(pushed, 2)
        await settle()
        got, headers = promise.result()
        self.assertEqual(got, 2)
        self.assertEqual(dict(headers)[":path"], "/style.css")
        await self.soon(server.start_response(pushed, RESPONSE))
        await self.soon(server.send_data(pushed, b"abc", end_stream=True))
        await self.soon(server.start_response(stream_id, RESPONSE, end_stream=True))
        self.assertEqual(await self.soon(client.recv_response(got)), RESPONSE)
        self.assertEqual(await self.soon(client.read_stream(got, -1)), b"abc")
        self.assertIsNone(await self.soon(client.recv_push(stream_id)))
        self.assertEqual(client.stats.streams_open, 0)
        self.assertEqual(server.stats.streams_open, 0)

    async def test_missing_headers_are_filled_in(self) -> None:
        peer = await self.server()
        await self.soon(peer.protocol.push_stream(1, {":authority": "b.test", "x": "y"}))
        (frame,) = await peer.frames(PushPromiseFrame)
        self.assertEqual((frame.stream_id, frame.promised_stream_id), (1, 2))
        self.assertEqual(
            sorted(frame.headers),
            [
                (":authority", "b.test"),
                (":method", "GET"),
                (":path", "/"),
                (":scheme", "http"),
                ("x", "y"),
            ],
        )

    async def test_origin_is_that_of_the_request(self) -> None:
        for authority in ("b.test:8080", "\udcff.test"):
            with self.subTest(authority):
                peer = await Peer.of_server(settings={PUSH: 1})
                block = [(b":authority", authority.encode("utf-8", "surrogateescape"))]
                headers = [(b":method", b"GET"), (b":scheme", b"https"), *block, (b":path", b"/a")]
                peer.request(1, headers)
                await self.soon(peer.protocol.recv_request())
                await self.soon(peer.protocol.push_stream(1, {":path": "/b"}))
                stream = peer.protocol.stream(2)
                pushed = dict(stream.request_headers)
                self.assertEqual(pushed[":authority"], authority)
                self.assertEqual((pushed[":scheme"], pushed[":path"]), ("https", "/b"))

    async def test_by_handle(self) -> None:
        peer = await self.server()
        pushed = await self.soon(peer.protocol.stream(1).push(REQUEST))
        self.assertIs(peer.protocol.stream(2), pushed)
        await self.soon(pushed.start_response(RESPONSE, end_stream=True))
        (frame,) = await peer.frames(HeadersFrame)
        self.assertEqual(frame.stream_id, 2)

    async def test_not_wanted(self) -> None:
        peer = await Peer.of_server(settings={PUSH: 0})
        peer.request(1)
        with self.assertRaisesRegex(aioh2.NotSupported, "ENABLE_PUSH"):
            await self.soon(peer.protocol.push_stream(1, REQUEST))

    async def test_not_wanted_and_no_slot(self) -> None:
        peer = await Peer.of_server(settings={PUSH: 0, LIMIT: 0})
        peer.request(1)
        with self.assertRaisesRegex(aioh2.NotSupported, "ENABLE_PUSH"):
            await self.soon(peer.protocol.push_stream(1, REQUEST))

    async def test_of_a_client(self) -> None:
        peer = await Peer.of_client()
        await self.soon(peer.protocol.start_request(REQUEST))
        with self.assertRaisesRegex(aioh2.NotSupported, "client"):
            await self.soon(peer.protocol.push_stream(1, REQUEST))

    async def test_other_methods(self) -> None:
        peer = await self.server()
        with self.assertRaisesRegex(ValueError, "GET and HEAD"):
            await self.soon(peer.protocol.push_stream(1, POST))

    async def test_no_request_body(self) -> None:
        peer = await self.server()
        with self.assertRaisesRegex(ValueError, "content-length"):
            await self.soon(peer.protocol.push_stream(1, [*REQUEST, ("content-length", "1")]))
        await self.soon(peer.protocol.push_stream(1, [*REQUEST, ("content-length", "0")]))
        self.assertEqual(len(await peer.frames(PushPromiseFrame)), 1)

    async def test_more_headers_than_the_peer_takes(self) -> None:
        peer = await self.server(MAX_HEADER_LIST_SIZE=200)
        with self.assertRaisesRegex(aioh2.NotSupported, "MAX_HEADER_LIST_SIZE"):
            await self.soon(peer.protocol.push_stream(1, [*REQUEST, ("x", "y" * 100)]))
        await self.soon(peer.protocol.push_stream(1, REQUEST))
        (frame,) = await peer.frames(PushPromiseFrame)
        self.assertEqual(frame.promised_stream_id, 2)

    async def test_parent_that_has_ended(self) -> None:
        peer = await self.server()
        peer.request(3, end=False)
        await self.soon(peer.protocol.start_response(3, RESPONSE, end_stream=True))
        with self.assertRaisesRegex(aioh2.StreamClosed, "ended"):
            await self.soon(peer.protocol.push_stream(3, REQUEST))

    async def test_parent_that_was_reset(self) -> None:
        peer = await self.server()
        peer.reset(1)
        with self.assertRaises(aioh2.StreamReset):
            await self.soon(peer.protocol.push_stream(1, REQUEST))

    async def test_parent_that_was_pushed(self) -> None:
        peer = await self.server()
        await self.soon(peer.protocol.push_stream(1, REQUEST))
        with self.assertRaises(aioh2.StreamClosed):
            await self.soon(peer.protocol.push_stream(2, REQUEST))

    async def test_parent_that_is_a_tunnel(self) -> None:
        peer = await self.server()
        peer.request(3, [(":method", "CONNECT"), (":authority", "b.test:443")], end=False)
        await self.soon(peer.protocol.push_stream(3, REQUEST))
        await self.soon(peer.protocol.start_response(3, RESPONSE))
        with self.assertRaisesRegex(aioh2.StreamClosed, "tunnel"):
            await self.soon(peer.protocol.push_stream(3, REQUEST))

    async def test_unknown_parent(self) -> None:
        peer = await self.server()
        with self.assertRaises(aioh2.StreamClosed):
            await self.soon(peer.protocol.push_stream(5, REQUEST))

    async def test_waits_for_a_slot(self) -> None:
        peer = await self.server(MAX_CONCURRENT_STREAMS=1)
        await self.soon(peer.protocol.push_stream(1, REQUEST))
        second = await self.waiting(peer.protocol.push_stream(1, REQUEST))
        self.assertEqual(peer.protocol.waiting_requests, 1)
        await self.soon(peer.protocol.start_response(2, RESPONSE, end_stream=True))
        await settle()
        self.assertEqual(second.result(), 4)

    async def test_parent_ends_while_it_waits(self) -> None:
        peer = await self.server(MAX_CONCURRENT_STREAMS=1)
        await self.soon(peer.protocol.push_stream(1, REQUEST))
        peer.request(3)
        calls = [
            await self.waiting(peer.protocol.push_stream(parent, REQUEST)) for parent in (1, 3)
        ]
        peer.reset(1)
        await self.soon(peer.protocol.start_response(2, RESPONSE, end_stream=True))
        await settle()
        self.assertIsInstance(calls[0].exception(), aioh2.StreamReset)
        # the slot that it did not take is for the next one
        self.assertTrue(calls[1].done())

    async def test_parent_is_reset_while_it_waits(self) -> None:
        peer = await self.server(MAX_CONCURRENT_STREAMS=1)
        await self.soon(peer.protocol.push_stream(1, REQUEST))
        peer.request(3)
        calls = [
            await self.waiting(peer.protocol.push_stream(parent, REQUEST)) for parent in (1, 3)
        ]
        peer.reset(3)
        await settle()
        self.assertFalse(calls[0].done())
        self.assertIsInstance(calls[1].exception(), aioh2.StreamReset)
        self.assertEqual(peer.protocol.waiting_requests, 1)

    async def test_parent_is_reset_while_it_is_cancelled(self) -> None:
        for cancelled_first in (True, False):
            with self.subTest(cancelled_first=cancelled_first):
                peer = await self.server(MAX_CONCURRENT_STREAMS=1)
                await self.soon(peer.protocol.push_stream(1, REQUEST))
                call = await self.waiting(peer.protocol.push_stream(1, REQUEST))
                if cancelled_first:
                    call.cancel()
                peer.reset(1)
                call.cancel()
                await settle()
                self.assertTrue(call.cancelled())
                self.assertEqual(peer.protocol.waiting_requests, 0)
                self.assertEqual(peer.protocol.available_slots, 0)

    async def test_stream_ids_are_used_up(self) -> None:
        peer = await self.server()
        peer.protocol._driver.connection.highest_outbound_stream_id = LAST - 1
        with self.assertRaises(aioh2.AIOH2Exception):
            await self.soon(peer.protocol.push_stream(1, REQUEST))

    async def test_promise_to_a_parent_that_the_client_has_reset(self) -> None:
        peer = await Peer.of_client(enable_push=True)
        await self.soon(peer.protocol.start_request(REQUEST, end_stream=True))
        peer.protocol.reset_stream(1)
        await peer.frames()
        peer.send(peer.promise(1, 2))
        (reset,) = await peer.frames()
        self.assertEqual((reset.stream_id, reset.error_code), (2, 7))


if __name__ == "__main__":
    unittest.main()
