"""``H2Protocol``: settings, slots, pushes, priorities, signs of life, and what it tells of itself.

How it ends is in ``test_shutdown``, what serves it in ``test_handlers``.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import gc
import logging
import weakref
from typing import Any
from unittest import mock

import h2.events
from hyperframe.frame import (
    AltSvcFrame,
    ContinuationFrame,
    DataFrame,
    ExtensionFrame,
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
from aioh2 import SettingCodes

from .test_shutdown import LAST, LIMIT, Timed
from .wire import (
    POST,
    PREFACE,
    REQUEST,
    RESPONSE,
    Case,
    MemoryTransport,
    Peer,
    connected_pair,
    settle,
)

PUSH = int(SettingCodes.ENABLE_PUSH)
WINDOW = int(SettingCodes.INITIAL_WINDOW_SIZE)
FRAME_SIZE = int(SettingCodes.MAX_FRAME_SIZE)
CONNECT = int(SettingCodes.ENABLE_CONNECT_PROTOCOL)
TUNNEL = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":authority", "a.test"),
    (":path", "/chat"),
]


class Agreed:
    """What a transport over TLS says of ALPN."""

    def __init__(self, protocol: str | None) -> None:
        self.protocol = protocol

    def selected_alpn_protocol(self) -> str | None:
        return self.protocol


class Log(aioh2.H2Protocol):
    """Remembers every event."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.events: list[h2.events.Event] = []

    def event_received(self, event: h2.events.Event) -> None:
        self.events.append(event)
        super().event_received(event)


class Resetting(aioh2.H2Protocol):
    """Resets every stream with the first that it hears of it."""

    def event_received(self, event: h2.events.Event) -> None:
        super().event_received(event)
        first = (h2.events.RequestReceived, h2.events.InformationalResponseReceived)
        if isinstance(event, first):
            self.reset_stream(event.stream_id)


def ack(peer: Peer) -> None:
    """Acknowledge the oldest SETTINGS."""
    peer.send(SettingsFrame(flags=["ACK"]))


async def ungreeted(
    client_side: bool, kind: type[aioh2.H2Protocol] = aioh2.H2Protocol, **options: Any
) -> Peer:
    """Return the peer of a protocol that waits for its SETTINGS."""
    protocol = kind(client_side, **options)
    peer = Peer(protocol)
    protocol.connection_made(peer.transport)
    return peer


class TestRoundTrip(Case):
    async def test_pair(self) -> None:
        client, server = await connected_pair()
        stream_id = await client.start_request({":path": "/a", "x": "1"})
        await client.send_data(stream_id, b"abc", end_stream=True)
        got, headers = await server.recv_request()
        self.assertEqual(got, stream_id)
        self.assertIn(("x", "1"), headers)
        self.assertEqual(await server.read_stream(got, -1), b"abc")
        await server.start_response(got, {":status": "200"})
        await server.send_data(got, b"def")
        await server.send_trailers(got, {"t": "u"})
        self.assertEqual(await client.recv_response(stream_id), [(":status", "200")])
        self.assertEqual(await client.read_stream(stream_id, -1), b"def")
        self.assertEqual(await client.recv_trailers(stream_id), [("t", "u")])
        drained = await client.shutdown()
        self.assertEqual(drained, (0, 0))
        await server.wait_closed()

    async def test_scripted(self) -> None:
        peer = await Peer.of_server(concurrency=1)
        peer.request(1, end=False)
        peer.request(3)
        frames = await peer.frames(RstStreamFrame)
        self.assertEqual([(f.stream_id, f.error_code) for f in frames], [(3, 7)])


class TestMaking(Timed):
    async def test_side_is_a_bool(self) -> None:
        for side in (1, None, "client"):
            with self.subTest(side), self.assertRaisesRegex(TypeError, "client_side must be True"):
                aioh2.H2Protocol(side)  # type: ignore[arg-type]

    async def test_config_and_options(self) -> None:
        config = aioh2.Config(concurrency=3, close_timeout=7)
        protocol = aioh2.H2Protocol(True, config=config, concurrency=5)
        self.assertEqual((protocol.config.concurrency, protocol.config.close_timeout), (5, 7))
        self.assertEqual(config.concurrency, 3)

    async def test_unknown_option(self) -> None:
        with self.assertRaisesRegex(TypeError, "'concurency'.*concurrency"):
            aioh2.H2Protocol(True, concurency=5)

    async def test_wrong_option(self) -> None:
        with self.assertRaisesRegex(ValueError, "max_frame_size must be from 16384.*not 5"):
            aioh2.H2Protocol(True, max_frame_size=5)
        with self.assertRaisesRegex(TypeError, "close_timeout.*not None"):
            aioh2.H2Protocol(True, close_timeout=None)

    async def test_what_it_says_of_itself(self) -> None:
        self.assertEqual(repr(aioh2.H2Protocol(True)), "<H2Protocol client open>")
        self.assertTrue(aioh2.H2Protocol(True).client_side)
        self.assertFalse(aioh2.H2Protocol(False).client_side)
        self.assertEqual(repr(Log(False)), "<Log server open>")


class TestGreeting(Timed):
    async def test_client(self) -> None:
        peer = await ungreeted(
            True,
            concurrency=7,
            initial_window_size=70_000,
            connection_window_size=100_000,
            max_frame_size=20_000,
            max_header_list_size=9_000,
            header_table_size=100,
        )
        self.assertTrue(peer.transport.written.startswith(PREFACE))
        settings, window = await peer.frames()
        self.assertEqual(settings.settings, {1: 100, 2: 0, 3: 7, 4: 70_000, 5: 20_000, 6: 9_000})
        self.assertEqual((window.stream_id, window.window_increment), (0, 100_000 - 65_535))
        self.assertEqual(peer.transport.writes, 1)

    async def test_client_with_push(self) -> None:
        peer = await ungreeted(True, enable_push=True)
        settings, _ = await peer.frames()
        self.assertEqual(settings.settings[PUSH], 1)

    async def test_server(self) -> None:
        peer = await ungreeted(False, connection_window_size=65_535)
        (settings,) = await peer.frames()
        self.assertNotIn(PUSH, settings.settings)
        self.assertNotIn(CONNECT, settings.settings)
        self.assertEqual(settings.settings[LIMIT], 100)

    async def test_server_with_extended_connect(self) -> None:
        peer = await ungreeted(False, enable_connect_protocol=True, enable_push=True)
        settings, _ = await peer.frames()
        self.assertEqual(settings.settings[CONNECT], 1)
        self.assertNotIn(PUSH, settings.settings)

    async def test_wait_open(self) -> None:
        peer = await ungreeted(True)
        calls = [await self.waiting(peer.protocol.wait_open()) for _ in range(3)]
        calls[0].cancel()
        await settle()
        peer.send(SettingsFrame())
        await settle()
        self.assertTrue(calls[0].cancelled())
        self.assertEqual([call.result() for call in calls[1:]], [None, None])
        await self.soon(peer.protocol.wait_open())

    async def test_wait_open_that_fails(self) -> None:
        peer = await ungreeted(True)
        call = await self.waiting(peer.protocol.wait_open())
        peer.lose(ConnectionResetError("gone"))
        await settle()
        for error in (call.exception(), await self.failing(peer)):
            self.assertIsInstance(error, aioh2.HandshakeError)
            self.assertIsInstance(error, ConnectionError)
            self.assertIn("before its SETTINGS: gone", str(error))
        self.assertIsInstance(peer.protocol.close_reason, aioh2.HandshakeError)

    async def failing(self, peer: Peer) -> aioh2.HandshakeError:
        with self.assertRaises(aioh2.HandshakeError) as caught:
            await self.soon(peer.protocol.wait_open())
        return caught.exception

    async def test_first_frame_is_not_settings(self) -> None:
        peer = await ungreeted(True)
        request = await self.waiting(peer.protocol.start_request(REQUEST))
        peer.send(PingFrame(0, b"12345678"))
        await settle()
        self.assertIn("SETTINGS", str(await self.failing(peer)))
        error = request.exception()
        self.assertIsInstance(error, aioh2.HandshakeError)
        assert isinstance(error, aioh2.HandshakeError)
        self.assertTrue(error.retryable)

    async def test_http1_server(self) -> None:
        peer = await ungreeted(True)
        peer.send_bytes(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        self.assertRegex(str(await self.failing(peer)), "server speaks HTTP/1")
        with self.assertRaisesRegex(aioh2.HandshakeError, "HTTP/1"):
            await self.soon(peer.protocol.start_request(REQUEST))

    async def test_alpn_of_the_server(self) -> None:
        for chosen, says in ((None, "server.*chose no protocol"), ("http/1.1", "'http/1.1', not")):
            with self.subTest(chosen):
                protocol = aioh2.H2Protocol(True)
                transport = MemoryTransport(protocol, ssl_object=Agreed(chosen))
                protocol.connection_made(transport)
                with self.assertRaisesRegex(aioh2.HandshakeError, says):
                    await self.soon(protocol.wait_open())
                self.assertTrue(transport.closed)
                self.assertEqual(transport.written, b"")

    async def test_open_timeout(self) -> None:
        peer = await ungreeted(True, open_timeout=3)
        call = await self.waiting(peer.protocol.wait_open())
        await self.after(2.9)
        self.assertFalse(call.done())
        await self.after(0.2)
        self.assertIn("the peer sent nothing for 3 s", str(call.exception()))
        self.assertEqual([f.error_code for f in await peer.frames(GoAwayFrame)], [4])
        self.assertIsInstance(call.exception(), aioh2.HandshakeError)
        self.assertTrue(peer.transport.closed)

    async def test_open_timeout_after_the_preface(self) -> None:
        peer = await ungreeted(False, open_timeout=3)
        peer.send_bytes(PREFACE)
        await self.after(3.1)
        self.assertIn("no SETTINGS for 3 s", str(peer.protocol.close_reason))
        self.assertTrue(peer.transport.closed)

    async def test_open_timeout_does_not_wait_for_a_goodbye(self) -> None:
        peer = await ungreeted(True, open_timeout=3)
        peer.transport.hang_on_close = True
        await self.after(3.1)
        self.assertTrue(peer.transport.aborted)

    async def test_settings_in_time(self) -> None:
        peer = await ungreeted(True, open_timeout=3)
        await peer.greet()
        await self.after(60)
        self.assertFalse(peer.transport.closed)

    async def test_no_open_timeout(self) -> None:
        peer = await ungreeted(True, open_timeout=None)
        await self.after(3600)
        self.assertFalse(peer.transport.closed)
        await peer.greet()
        self.assertFalse(peer.transport.closed)

    async def test_no_request_before_settings(self) -> None:
        peer = await ungreeted(True)
        await peer.frames()
        request = await self.waiting(peer.protocol.start_request(REQUEST))
        self.assertEqual(await peer.frames(), [])
        self.assertEqual(peer.protocol.waiting_requests, 1)
        self.assertEqual(peer.protocol.available_slots, 0)
        await peer.greet()
        self.assertEqual(request.result(), 1)

    async def test_without_a_connection(self) -> None:
        protocol = aioh2.H2Protocol(True)
        for call in (protocol.start_request(REQUEST), protocol.ping(), protocol.wait_functional()):
            error = await self.assert_closed(call)
            self.assertIn("no connection yet", str(error))
        with self.assertRaises(aioh2.ConnectionClosed):
            protocol.update_settings({})
        self.assertEqual((protocol.available_slots, protocol.rtt), (0, None))

    async def test_what_comes_before_the_connection(self) -> None:
        """As from start_tls(), which returns a little later than it begins to hand on."""
        protocol = aioh2.H2Protocol(False)
        peer = Peer(protocol)
        peer.send_bytes(PREFACE)
        peer.send(SettingsFrame(settings={}))
        peer.request(1)
        protocol.connection_made(peer.transport)
        self.assertEqual((await protocol.recv_request())[0], 1)


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


class TestSettings(Timed):
    """What this side announces (RFC 9113 section 6.5)."""

    PROPERTIES = (
        ("initial_window_size", WINDOW, 262_144, 100_000),
        ("max_frame_size", FRAME_SIZE, 16_384, 20_000),
        ("max_concurrent_streams", LIMIT, 100, 5),
    )

    async def test_properties_change_with_the_ack(self) -> None:
        for name, code, default, value in self.PROPERTIES:
            with self.subTest(name):
                peer = await Peer.of_server()
                self.assertEqual(getattr(peer.protocol, name), default)
                setattr(peer.protocol, name, value)
                (settings,) = await peer.frames()
                self.assertEqual(settings.settings, {code: value})
                self.assertEqual(getattr(peer.protocol, name), default)
                ack(peer)
                self.assertEqual(getattr(peer.protocol, name), value)

    async def test_properties_before_the_first_ack(self) -> None:
        protocol = aioh2.H2Protocol(
            True, initial_window_size=5, max_frame_size=20_000, concurrency=6
        )
        self.assertEqual(
            (
                protocol.initial_window_size,
                protocol.max_frame_size,
                protocol.max_concurrent_streams,
            ),
            (5, 20_000, 6),
        )

    async def test_one_ack_for_one_change(self) -> None:
        peer = await Peer.of_server()
        server = peer.protocol
        server.max_concurrent_streams = 5
        server.max_concurrent_streams = 6
        ack(peer)
        self.assertEqual(server.max_concurrent_streams, 5)
        ack(peer)
        self.assertEqual(server.max_concurrent_streams, 6)
        ack(peer)
        self.assertEqual(server.max_concurrent_streams, 6)

    async def test_wrong_values(self) -> None:
        peer = await Peer.of_server()
        for name, value in (
            ("initial_window_size", -1),
            ("initial_window_size", 2**31),
            ("max_frame_size", 16_383),
            ("max_frame_size", 2**24),
            ("max_concurrent_streams", -1),
            ("functional_timeout", 0),
        ):
            with self.subTest(name), self.assertRaisesRegex(ValueError, str(value)):
                setattr(peer.protocol, name, value)
        for name, *_ in self.PROPERTIES:
            for wrong in (True, "1", 1.5, None):
                with self.subTest(name, wrong=wrong), self.assertRaisesRegex(TypeError, f"{wrong}"):
                    setattr(peer.protocol, name, wrong)
        self.assertEqual(await peer.frames(), [])

    async def test_window_of_open_streams_changes_with_the_ack(self) -> None:
        peer = await Peer.of_server(initial_window_size=10)
        server = peer.protocol
        peer.request(1, POST, end=False)
        peer.data(1, bytes(10))
        server.initial_window_size = 30
        ack(peer)
        peer.data(1, bytes(20))
        self.assertEqual(len(await self.soon(server.read_stream(1, 30))), 30)
        updates = await peer.frames(WindowUpdateFrame)
        self.assertEqual(sum(f.window_increment for f in updates if f.stream_id == 1), 30)
        self.assertEqual(await peer.frames(RstStreamFrame), [])

    async def test_window_of_new_streams(self) -> None:
        peer = await Peer.of_server()
        peer.protocol.initial_window_size = 10
        ack(peer)
        peer.request(1, POST, end=False)
        peer.data(1, bytes(11))
        resets = await peer.frames(RstStreamFrame)
        self.assertEqual([(f.stream_id, f.error_code) for f in resets], [(1, 3)])

    async def test_larger_frames(self) -> None:
        peer = await Peer.of_server()
        peer.request(1, POST, end=False)
        peer.protocol.max_frame_size = 20_000
        ack(peer)
        peer.send(DataFrame(1, bytes(20_000)))
        self.assertEqual(len(await self.soon(peer.protocol.read_stream(1))), 20_000)

    async def test_larger_frames_before_the_ack(self) -> None:
        peer = await Peer.of_server()
        peer.request(1, POST, end=False)
        peer.protocol.max_frame_size = 20_000
        peer.send(DataFrame(1, bytes(20_000)))
        (goaway,) = await peer.frames(GoAwayFrame)
        self.assertEqual(goaway.error_code, 6)

    async def test_more_streams(self) -> None:
        peer = await Peer.of_server(concurrency=1)
        peer.protocol.max_concurrent_streams = 2
        ack(peer)
        for stream_id in (1, 3, 5):
            peer.request(stream_id)
        self.assertEqual([f.stream_id for f in await peer.frames(RstStreamFrame)], [5])

    async def test_update_settings(self) -> None:
        peer = await Peer.of_client()
        peer.protocol.update_settings({LIMIT: 3, SettingCodes.MAX_HEADER_LIST_SIZE: 100, 0x99: 7})
        (settings,) = await peer.frames()
        self.assertEqual(settings.settings, {3: 3, 6: 100, 0x99: 7})
        ack(peer)
        await settle()
        self.assertFalse(peer.transport.closed)

    async def test_update_settings_checks_first(self) -> None:
        server, client = (await Peer.of_server()).protocol, (await Peer.of_client()).protocol
        for protocol, wrong in (
            (client, {PUSH: 2}),
            (client, {WINDOW: 2**31}),
            (client, {FRAME_SIZE: 16_383}),
            (client, {FRAME_SIZE: 2**24}),
            (client, {CONNECT: 2}),
            (client, {LIMIT: -1}),
            (client, {LIMIT: 2**32}),
            (client, {2**16: 0}),
            (client, {-1: 0}),
            (server, {PUSH: 1}),
        ):
            with self.subTest(wrong), self.assertRaises(ValueError) as caught:
                protocol.update_settings({LIMIT: 5, **wrong})
            self.assertNotIsInstance(caught.exception, aioh2.AIOH2Exception)
        for wrong_type in ({LIMIT: "1"}, {LIMIT: 1.5}, {"limit": 1}):
            with self.subTest(wrong_type), self.assertRaises(TypeError):
                client.update_settings(wrong_type)  # type: ignore[arg-type]
        await settle()
        self.assertEqual(client.max_concurrent_streams, 100)

    async def test_refused_update_sends_nothing(self) -> None:
        peer = await Peer.of_server()
        with self.assertRaises(ValueError):
            peer.protocol.update_settings({LIMIT: 5, FRAME_SIZE: 1})
        self.assertEqual(await peer.frames(), [])
        # nothing of it comes into force with the next ones
        for limit in (7, 8):
            peer.protocol.update_settings({LIMIT: limit, FRAME_SIZE: 20_000})
            ack(peer)
            self.assertEqual(peer.protocol.max_frame_size, 20_000)
            self.assertEqual(peer.protocol.max_concurrent_streams, limit)

    async def test_push_switched_on_by_a_client(self) -> None:
        peer = await Peer.of_client()
        peer.protocol.update_settings({PUSH: 1})
        self.assertEqual([f.settings for f in await peer.frames()], [{PUSH: 1}])
        ack(peer)
        await self.soon(peer.protocol.start_request(REQUEST))
        peer.send(peer.promise(1, 2))
        self.assertEqual(await self.soon(peer.protocol.recv_push(1)), (2, REQUEST))

    async def test_push_switched_off_by_a_server(self) -> None:
        peer = await Peer.of_server()
        peer.protocol.update_settings({PUSH: 0})
        self.assertEqual([f.settings for f in await peer.frames()], [{PUSH: 0}])

    async def test_after_the_end(self) -> None:
        peer = await Peer.of_server()
        peer.lose()
        await settle()
        with self.assertRaises(aioh2.ConnectionClosed) as caught:
            peer.protocol.max_concurrent_streams = 5
        self.assertFalse(caught.exception.retryable)

    async def test_remote_settings(self) -> None:
        peer = await ungreeted(True)
        before = peer.protocol.remote_settings
        self.assertEqual(before[SettingCodes.INITIAL_WINDOW_SIZE], 65_535)
        await peer.greet({WINDOW: 5, LIMIT: 7, 0x99: 1})
        after = peer.protocol.remote_settings
        self.assertEqual(after[SettingCodes.INITIAL_WINDOW_SIZE], 5)
        self.assertEqual(after[SettingCodes.MAX_CONCURRENT_STREAMS], 7)
        self.assertEqual(after[0x99], 1)
        self.assertEqual(before[SettingCodes.INITIAL_WINDOW_SIZE], 65_535)
        with self.assertRaises(TypeError):
            after[SettingCodes.INITIAL_WINDOW_SIZE] = 6  # type: ignore[index]

    async def test_remote_settings_that_change(self) -> None:
        peer = await Peer.of_client()
        peer.send(SettingsFrame(settings={LIMIT: 3}))
        self.assertEqual(peer.protocol.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS], 3)
        self.assertEqual([f.flags for f in await peer.frames(SettingsFrame)], [{"ACK"}])

    async def test_remote_window_opens_a_body(self) -> None:
        peer = await Peer.of_client(settings={WINDOW: 0})
        await self.soon(peer.protocol.start_request(POST))
        sending = await self.waiting(peer.protocol.send_data(1, b"abc"))
        peer.send(SettingsFrame(settings={WINDOW: 3}))
        await settle()
        self.assertTrue(sending.done())
        self.assertEqual([f.data for f in await peer.frames(DataFrame)], [b"abc"])


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
        with self.assertRaisesRegex(aioh2.NotSupported, "extended CONNECT"):
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
        client, server = await connected_pair({"enable_push": True})
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


class TestPriority(Timed):
    """RFC 7540 section 5.3."""

    async def test_client_tells_the_server(self) -> None:
        peer = await Peer.of_client()
        for _ in range(2):
            await self.soon(peer.protocol.start_request(REQUEST))
        peer.protocol.reprioritize(3, 1, 256, True)
        peer.protocol.reprioritize(1)
        first, second = await peer.frames(PriorityFrame)
        self.assertEqual(
            (first.stream_id, first.depends_on, first.stream_weight, first.exclusive),
            (3, 1, 255, True),
        )
        self.assertEqual(
            (second.stream_id, second.depends_on, second.stream_weight, second.exclusive),
            (1, 0, 15, False),
        )

    async def test_wrong_values(self) -> None:
        peer = await Peer.of_client()
        await self.soon(peer.protocol.start_request(REQUEST))
        for weight in (0, 257):
            with self.assertRaisesRegex(ValueError, f"weight.*not {weight}"):
                peer.protocol.reprioritize(1, weight=weight)
        with self.assertRaisesRegex(ValueError, "itself"):
            peer.protocol.reprioritize(1, depends_on=1)
        self.assertEqual(await peer.frames(PriorityFrame), [])

    async def test_after_the_end(self) -> None:
        peer = await Peer.of_client()
        await self.soon(peer.protocol.start_request(REQUEST))
        peer.lose()
        await settle()
        with self.assertRaises(aioh2.ConnectionClosed):
            peer.protocol.reprioritize(1)

    async def order(self, prioritize: Any) -> list[int]:
        """Return the order of the DATA frames of streams 3 and 5, which wait for the window."""
        peer = await Peer.of_server(settings={WINDOW: 10**6})
        server = peer.protocol
        for stream_id in (1, 3, 5):
            peer.request(stream_id)
            await self.soon(server.start_response(stream_id, RESPONSE))
        prioritize(peer)
        await self.soon(server.send_data(1, bytes(65_535)))
        for stream_id in (5, 3):
            await self.waiting(server.send_data(stream_id, bytes(3 * 16_384)))
        await peer.frames()
        peer.window(0, 10**6)
        return [frame.stream_id for frame in await peer.frames(DataFrame)]

    async def test_without_signals_the_first_to_wait_goes_first(self) -> None:
        order = await self.order(lambda peer: None)
        self.assertEqual(order, [5, 3, 5, 3, 5, 3])

    async def test_signal_of_the_peer(self) -> None:
        order = await self.order(
            lambda peer: peer.send(PriorityFrame(5, depends_on=3, stream_weight=15))
        )
        self.assertEqual(order, [3, 3, 3, 5, 5, 5])

    async def test_signal_of_the_application(self) -> None:
        order = await self.order(lambda peer: peer.protocol.reprioritize(5, 3))
        self.assertEqual(order, [3, 3, 3, 5, 5, 5])

    async def test_signal_of_the_application_is_not_sent(self) -> None:
        peer = await Peer.of_server()
        peer.request(1)
        peer.protocol.reprioritize(1, weight=3)
        self.assertEqual(await peer.frames(PriorityFrame), [])

    async def test_signal_about_the_default(self) -> None:
        order = await self.order(
            lambda peer: peer.send(PriorityFrame(5, depends_on=0, stream_weight=15))
        )
        self.assertCountEqual(order, [3, 3, 3, 5, 5, 5])


class TestPing(Timed):
    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.peer = await Peer.of_client(functional_timeout=2)
        self.client = self.peer.protocol

    async def pings(self) -> list[Any]:
        return await self.peer.frames(PingFrame)

    async def test_round_trip_time(self) -> None:
        self.assertIsNone(self.client.rtt)
        call = await self.waiting(self.client.ping())
        (frame,) = await self.pings()
        await self.after(0.5)
        self.peer.ack_ping(frame)
        await settle()
        self.assertAlmostEqual(call.result(), 0.5, delta=0.2)
        self.assertEqual(self.client.rtt, call.result())
        self.assertEqual(self.client.stats.rtt, call.result())

    async def test_each_has_its_own_ack(self) -> None:
        calls = [await self.waiting(self.client.ping()) for _ in range(2)]
        frames = await self.pings()
        self.assertNotEqual(frames[0].opaque_data, frames[1].opaque_data)
        self.peer.ack_ping(frames[1])
        await settle()
        self.assertEqual([call.done() for call in calls], [False, True])
        self.peer.ack_ping(frames[0])
        await settle()
        self.assertTrue(calls[0].done())

    async def test_acks_of_nothing(self) -> None:
        call = await self.waiting(self.client.ping())
        (frame,) = await self.pings()
        self.peer.send(PingFrame(0, b"whatever", flags=["ACK"]))
        await settle()
        self.assertFalse(call.done())
        self.assertIsNone(self.client.rtt)
        self.peer.ack_ping(frame)
        self.peer.ack_ping(frame)
        await settle()
        self.assertTrue(call.done())

    async def test_cancelled(self) -> None:
        call = await self.waiting(self.client.ping())
        (frame,) = await self.pings()
        call.cancel()
        await settle()
        self.peer.ack_ping(frame)
        await settle()
        self.assertTrue(call.cancelled())
        self.assertIsNone(self.client.rtt)

    async def test_cancelled_when_the_ack_comes(self) -> None:
        call = await self.waiting(self.client.ping())
        (frame,) = await self.pings()
        call.cancel()
        self.peer.ack_ping(frame)
        await settle()
        self.assertTrue(call.cancelled())

    async def test_connection_ends(self) -> None:
        call = await self.waiting(self.client.ping())
        self.peer.lose(ConnectionResetError("gone"))
        await settle()
        self.assertIsInstance(call.exception(), aioh2.ConnectionClosed)
        await self.assert_closed(self.client.ping(), initiator="transport")

    async def test_cancelled_when_the_connection_ends(self) -> None:
        call = await self.waiting(self.client.ping())
        call.cancel()
        self.client.connection_lost(None)
        await settle()
        self.assertTrue(call.cancelled())

    async def test_cancelled_when_the_connection_has_ended(self) -> None:
        await self.after(2.1)
        calls = [
            await self.waiting(call) for call in (self.client.ping(), self.client.wait_functional())
        ]
        self.client.connection_lost(None)
        for call in calls:
            call.cancel()
        await settle()
        # an error that nobody has taken would go to the loop's exception handler
        del call, calls
        gc.collect()

    async def test_ping_of_the_peer(self) -> None:
        self.peer.send(PingFrame(0, b"12345678"))
        (frame,) = await self.pings()
        self.assertEqual((frame.opaque_data, frame.flags), (b"12345678", {"ACK"}))

    async def test_functional_when_bytes_came_just_now(self) -> None:
        self.assertIsNone(await self.soon(self.client.wait_functional()))
        self.assertEqual(await self.pings(), [])
        call = await self.waiting(self.client.ping())
        (frame,) = await self.pings()
        self.peer.ack_ping(frame)
        await settle()
        self.assertEqual(await self.soon(self.client.wait_functional()), call.result())

    async def test_functional_after_a_ping(self) -> None:
        await self.after(2.1)
        call = await self.waiting(self.client.wait_functional())
        (frame,) = await self.pings()
        await self.after(0.5)
        self.peer.ack_ping(frame)
        await settle()
        self.assertAlmostEqual(call.result(), 0.5, delta=0.2)
        self.assertEqual(self.client.rtt, call.result())

    async def test_functional_after_any_bytes(self) -> None:
        await self.after(2.1)
        calls = [await self.waiting(self.client.wait_functional()) for _ in range(2)]
        self.peer.send_bytes(b"\0\0")
        await settle()
        self.assertEqual([call.result() for call in calls], [None, None])

    async def test_functional_asks_again(self) -> None:
        await self.after(2.1)
        call = await self.waiting(self.client.wait_functional())
        self.assertEqual(len(await self.pings()), 1)
        await self.after(1.9)
        self.assertEqual(len(await self.pings()), 0)
        await self.after(0.2)
        (second,) = await self.pings()
        self.assertFalse(call.done())
        self.peer.ack_ping(second)
        await settle()
        self.assertTrue(call.done())

    async def test_functional_when_the_connection_ends(self) -> None:
        await self.after(2.1)
        call = await self.waiting(self.client.wait_functional())
        self.peer.lose()
        await settle()
        self.assertIsInstance(call.exception(), aioh2.ConnectionClosed)
        await self.assert_closed(self.client.wait_functional())

    async def test_functional_cancelled(self) -> None:
        await self.after(2.1)
        call = await self.waiting(self.client.wait_functional())
        call.cancel()
        await settle()
        self.assertTrue(call.cancelled())
        (frame,) = await self.pings()
        self.peer.ack_ping(frame)
        await self.after(4)
        self.assertEqual(await self.pings(), [])

    async def test_functional_cancelled_when_bytes_come(self) -> None:
        await self.after(2.1)
        call = await self.waiting(self.client.wait_functional())
        call.cancel()
        self.peer.send_bytes(b"\0\0")
        await settle()
        self.assertTrue(call.cancelled())

    async def test_functional_timeout_can_be_set(self) -> None:
        self.assertEqual(self.client.functional_timeout, 2)
        self.client.functional_timeout = 0.5
        self.assertEqual(self.client.functional_timeout, 0.5)
        await self.after(0.6)
        await self.waiting(self.client.wait_functional())
        self.assertEqual(len(await self.pings()), 1)
        aioh2.H2Protocol(True).functional_timeout = 3


class TestKeepalive(Timed):
    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.peer = await Peer.of_client(keepalive_interval=10, keepalive_timeout=3)
        self.client = self.peer.protocol

    async def test_ping_after_silence(self) -> None:
        await self.after(9)
        self.assertEqual(await self.peer.frames(), [])
        await self.after(1.1)
        self.assertEqual([type(f) for f in await self.peer.frames()], [PingFrame])

    async def test_no_ping_while_bytes_come(self) -> None:
        for _ in range(5):
            await self.after(9)
            self.peer.send(SettingsFrame())
            self.assertEqual(await self.peer.frames(PingFrame), [])

    async def test_answered(self) -> None:
        for _ in range(3):
            await self.after(10.1)
            (ping,) = await self.peer.frames(PingFrame)
            await self.after(0.5)
            self.peer.ack_ping(ping)
            self.assertAlmostEqual(self.client.rtt or 0, 0.5, delta=0.2)
            await self.after(3)
            self.assertFalse(self.peer.transport.closed)

    async def test_any_bytes_are_an_answer(self) -> None:
        await self.after(10.1)
        self.peer.send_bytes(b"\0")
        await self.after(3.1)
        self.assertFalse(self.peer.transport.closed)

    async def test_no_answer(self) -> None:
        await self.soon(self.client.start_request(REQUEST))
        response = await self.waiting(self.client.recv_response(1))
        await self.after(10.1)
        await self.after(2.8)
        self.assertFalse(response.done())
        await self.after(0.2)
        self.assertTrue(self.peer.transport.aborted)
        error = response.exception()
        assert isinstance(error, aioh2.ConnectionClosed)
        self.assertEqual((error.initiator, error.retryable), ("transport", False))
        self.assertIn("no sign of life for 3 s", str(error))
        self.assertIsInstance(self.client.close_reason, aioh2.ConnectionClosed)
        self.assertIn("no sign of life", str(self.client.close_reason))

    async def test_off_by_default(self) -> None:
        peer = await Peer.of_client()
        await self.after(3600)
        self.assertEqual(await peer.frames(), [])

    async def test_ends_with_the_connection(self) -> None:
        self.peer.transport.hang_on_close = True
        self.client.close_connection()
        await self.peer.frames()
        await self.after(10.1)
        self.assertEqual(await self.peer.frames(), [])

    async def test_real_time(self) -> None:
        peer = await Peer.of_client(keepalive_interval=0.02, keepalive_timeout=0.02)
        async with asyncio.timeout(5):
            await peer.protocol.wait_closed()
        self.assertTrue(peer.transport.aborted)


class TestStats(Timed):
    async def test_counts(self) -> None:
        peer = await Peer.of_client()
        client = peer.protocol
        before = client.stats
        self.assertEqual(before.bytes_sent, len(peer.transport.written))
        self.assertEqual((before.streams_opened, before.streams_open, before.rtt), (0, 0, None))
        for _ in range(3):
            await self.soon(client.start_request(REQUEST))
        self.assertEqual(client.stats.streams_open, 3)
        peer.reset(1)
        client.reset_stream(3)
        await settle()
        after = client.stats
        self.assertEqual((after.streams_opened, after.streams_open), (3, 1))
        self.assertEqual((after.resets_received, after.resets_sent), (1, 1))
        self.assertEqual(after.bytes_received, before.bytes_received + 13)
        self.assertEqual(after.bytes_sent, len(peer.transport.written))
        self.assertEqual(before.streams_opened, 0)

    async def test_reset_for_what_the_peer_did(self) -> None:
        peer = await Peer.of_server()
        peer.request(1, [*POST, ("content-length", "1")], end=False)
        peer.data(1, b"more")
        self.assertEqual(peer.protocol.stats.resets_sent, 1)

    async def test_frozen(self) -> None:
        stats = aioh2.H2Protocol(True).stats
        self.assertIsInstance(stats, aioh2.Stats)
        with self.assertRaises(dataclasses.FrozenInstanceError):
            stats.bytes_sent = 1  # type: ignore[misc]


class TestLog(Timed):
    async def test_frames_at_debug(self) -> None:
        with self.assertLogs("aioh2.client", "DEBUG") as logs:
            peer = await Peer.of_client()
            await self.soon(peer.protocol.start_request(REQUEST))
            peer.send(PingFrame(0, b"12345678"))
            peer.lose(ConnectionResetError("gone"))
            await settle()
        lines = [record.getMessage() for record in logs.records]
        connection = lines[0].split()[0]
        self.assertRegex(connection, r"^\[c\d+\]$")
        for line in lines:
            self.assertTrue(line.startswith(connection), line)
        rest = [line.removeprefix(f"{connection} ") for line in lines]
        self.assertTrue(any(line.startswith("> SettingsFrame") for line in rest), rest)
        self.assertTrue(any(line.startswith("< SettingsFrame") for line in rest), rest)
        self.assertTrue(any(line.startswith("> HeadersFrame(stream_id=1") for line in rest), rest)
        self.assertTrue(any(line.startswith("< PingFrame") for line in rest), rest)
        self.assertEqual({record.levelno for record in logs.records}, {logging.DEBUG})

    async def test_connections_differ(self) -> None:
        with self.assertLogs("aioh2.server", "DEBUG") as logs:
            for _ in range(2):
                await Peer.of_server()
        names = {record.getMessage().split()[0] for record in logs.records}
        self.assertEqual(len(names), 2)
        self.assertTrue(all(name.startswith("[s") for name in names), names)

    async def test_no_frames_otherwise(self) -> None:
        with self.assertNoLogs("aioh2.client", "INFO"):
            peer = await Peer.of_client()
            await self.soon(peer.protocol.start_request(REQUEST))
            peer.respond(1, end=True)
            peer.lose()
            await settle()

    async def test_what_a_peer_does_wrong_is_info(self) -> None:
        with self.assertLogs("aioh2.server", "INFO") as logs:
            peer = await Peer.of_server()
            peer.request(1, end=False)
            peer.reset(1)
            peer.send(DataFrame(7, b"on an idle stream"))
            await settle()
        self.assertEqual({record.levelname for record in logs.records}, {"INFO"})
        self.assertEqual(len(logs.records), 2)
        self.assertIn("stream 1", logs.output[0])


class TestAlternatives(Timed):
    """ALTSVC (RFC 7838) and ORIGIN (RFC 8336), from a server's call to a client's event."""

    async def pair(self) -> tuple[Any, aioh2.H2Protocol]:
        """Return a client that logs its events, and a server."""
        client, server = Log(True), aioh2.H2Protocol(False)
        peers = [Peer(end) for end in (client, server)]
        loop = asyncio.get_running_loop()
        for here, there in ((0, server), (1, client)):
            peers[here].transport.sink = functools.partial(loop.call_soon, there.data_received)
        for peer in peers:
            peer.protocol.connection_made(peer.transport)
        await settle()
        return client, server

    async def test_alternative_service(self) -> None:
        client, server = await self.pair()
        stream_id = await client.start_request(REQUEST)
        await server.recv_request()
        for origin in ("https://a.test", b"https://a.test"):
            server.advertise_alternative_service('h2="b.test:443"; ma=60', origin=origin)
        server.advertise_alternative_service(b"clear", stream_id=stream_id)
        await settle()
        found = [
            (event.origin, event.field_value)
            for event in client.events
            if isinstance(event, h2.events.AlternativeServiceAvailable)
        ]
        named = (b"https://a.test", b'h2="b.test:443"; ma=60')
        self.assertEqual(found, [named, named, (b"a.test", b"clear")])

    async def test_alternative_service_of_a_push(self) -> None:
        peer = await Peer.of_server(settings={2: 1})
        peer.request(1)
        promised = await self.soon(peer.protocol.push_stream(1, REQUEST))
        peer.protocol.advertise_alternative_service(b"clear", stream_id=promised)
        (frame,) = await peer.frames(AltSvcFrame)
        self.assertEqual((frame.stream_id, frame.origin, frame.field), (2, b"", b"clear"))

    async def test_what_cannot_be_advertised(self) -> None:
        peer = await Peer.of_server()
        advertise = peer.protocol.advertise_alternative_service
        peer.request(1)
        peer.request(3)
        origin: Any = "https://a.test"
        wrong: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
            ("h2", {}, ValueError, "exactly one"),
            ("h2", {"origin": origin, "stream_id": 1}, ValueError, "exactly one"),
            ("h2", {"origin": ""}, ValueError, "not an origin"),
            ("h2", {"origin": "a.test"}, ValueError, "not an origin"),
            ("h2", {"origin": 5}, TypeError, "not 5"),
            ("", {"origin": origin}, ValueError, "cannot be ''"),
            ("h2\n", {"origin": origin}, ValueError, "cannot be"),
            ("h2=ä", {"stream_id": 1}, ValueError, "cannot be"),
            (5, {"stream_id": 1}, TypeError, "not 5"),
            ("x" * 16_384, {"stream_id": 1}, ValueError, "do not fit"),
            ("h2", {"stream_id": 5}, aioh2.StreamClosed, "never been"),
        ]
        for value, where, error, text in wrong:
            with self.subTest(text), self.assertRaisesRegex(error, text):
                advertise(value, **where)
        advertise("x" * 16_382, stream_id=1)
        await peer.protocol.start_response(1, RESPONSE)
        with self.assertRaisesRegex(aioh2.StreamClosed, "started already"):
            advertise("h2", stream_id=1)
        peer.reset(3)
        with self.assertRaises(aioh2.StreamReset):
            advertise("h2", stream_id=3)
        self.assertEqual(len(await peer.frames(AltSvcFrame)), 1)

    async def test_origins(self) -> None:
        client, server = await self.pair()
        server.send_origins(["https://a.test", b"https://b.test:8443"])
        server.send_origins([])
        await settle()
        found = [
            event.origins for event in client.events if isinstance(event, aioh2.OriginsReceived)
        ]
        self.assertEqual(found, [[b"https://a.test", b"https://b.test:8443"], []])

    async def test_what_is_no_origin(self) -> None:
        peer = await Peer.of_server()
        send = peer.protocol.send_origins
        for value in ("https://a.test", b"https://a.test"):
            with self.assertRaisesRegex(TypeError, "several"):
                send(value)
        for wrong, text in (("a.test", "not an origin"), ("https://" + "a" * 16_375, "not fit")):
            with self.assertRaisesRegex(ValueError, text):
                send(["https://a.test", wrong])
        send(["https://" + "a" * 16_374])
        self.assertEqual(len(await peer.frames(ExtensionFrame)), 1)

    async def test_larger_frames(self) -> None:
        """An origin has its length in two bytes."""
        peer = await Peer.of_server(settings={5: 2**24 - 1})
        with self.assertRaisesRegex(ValueError, "65536 bytes does not fit"):
            peer.protocol.send_origins(["https://" + "a" * 65_528])
        peer.protocol.send_origins(["https://" + "a" * 65_527])
        (frame,) = await peer.frames(ExtensionFrame)
        self.assertEqual(len(frame.body), 65_537)

    async def test_a_client(self) -> None:
        peer = await Peer.of_client()
        with self.assertRaises(aioh2.NotSupported):
            peer.protocol.advertise_alternative_service("h2", origin="https://a.test")
        with self.assertRaises(aioh2.NotSupported):
            peer.protocol.send_origins([])
        self.assertEqual(await peer.frames(), [])

    async def test_when_it_has_ended(self) -> None:
        peer = await Peer.of_server()
        peer.protocol.close_connection()
        with self.assertRaises(aioh2.ConnectionClosed):
            peer.protocol.advertise_alternative_service("h2", origin="https://a.test")
        with self.assertRaises(aioh2.ConnectionClosed):
            peer.protocol.send_origins([])


class TestEvents(Timed):
    async def peer_of(
        self, client_side: bool, kind: type[aioh2.H2Protocol], **options: Any
    ) -> Peer:
        peer = await ungreeted(client_side, kind, **options)
        if not client_side:
            peer.send_bytes(PREFACE)
        await peer.greet()
        return peer

    async def test_override_sees_every_event(self) -> None:
        peer = await self.peer_of(False, Log)
        peer.request(1, POST, end=False)
        peer.data(1, b"abc", end=True)
        peer.send(PingFrame(0, b"12345678"))
        peer.window(0, 5)
        peer.goaway(0)
        await settle()
        assert isinstance(peer.protocol, Log)
        kinds = [type(event).__name__ for event in peer.protocol.events]
        self.assertEqual(
            kinds,
            [
                "RemoteSettingsChanged",
                "SettingsAcknowledged",
                "RequestReceived",
                "DataReceived",
                "StreamEnded",
                "PingReceived",
                "WindowUpdated",
                "ConnectionTerminated",
            ],
        )
        self.assertEqual(await self.soon(peer.protocol.read_stream(1)), b"abc")

    async def test_override_that_raises(self) -> None:
        class Broken(aioh2.H2Protocol):
            def event_received(self, event: h2.events.Event) -> None:
                if isinstance(event, h2.events.RequestReceived):
                    raise KeyError("of the application")
                super().event_received(event)

        peer = await self.peer_of(False, Broken)
        with self.assertLogs("aioh2.server", "ERROR") as logs:
            peer.request(1)
        self.assertIn("of the application", logs.output[0])
        (goaway,) = await peer.frames(GoAwayFrame)
        self.assertEqual(goaway.error_code, 2)
        self.assertTrue(peer.transport.closed)

    async def test_override_that_closes(self) -> None:
        class Closing(Log):
            def event_received(self, event: h2.events.Event) -> None:
                super().event_received(event)
                if isinstance(event, h2.events.RequestReceived):
                    self.close_connection()

        peer = await self.peer_of(False, Closing)
        peer.send(peer.headers(1, REQUEST, "END_STREAM"), peer.headers(3, REQUEST, "END_STREAM"))
        await settle()
        self.assertTrue(peer.transport.closed)
        self.assertEqual((await self.soon(peer.protocol.recv_request()))[0], 1)
        await self.assert_closed(peer.protocol.recv_request(), initiator="local")

    async def test_override_that_keeps_events_from_it(self) -> None:
        class Deaf(aioh2.H2Protocol):
            def event_received(self, event: h2.events.Event) -> None:
                if isinstance(event, h2.events.RemoteSettingsChanged):
                    super().event_received(event)

        peer = await self.peer_of(False, Deaf)
        peer.request(1, POST, end=False)
        peer.data(1, b"abc", end=True)
        peer.reset(1)
        await settle()
        self.assertFalse(peer.transport.closed)

    async def test_events_of_streams_that_it_does_not_know(self) -> None:
        for client_side in (True, False):
            peer = await self.peer_of(client_side, aioh2.H2Protocol)
            headers = [(b":status", b"200")]
            for event in (
                h2.events.ResponseReceived(stream_id=9, headers=headers),
                h2.events.InformationalResponseReceived(stream_id=9, headers=headers),
                h2.events.TrailersReceived(stream_id=9, headers=headers),
                h2.events.DataReceived(stream_id=9, data=b"abc", flow_controlled_length=3),
                h2.events.StreamEnded(stream_id=9),
                h2.events.StreamReset(stream_id=9, error_code=8),
                h2.events.WindowUpdated(stream_id=9, delta=1),
            ):
                with self.subTest(event, client_side=client_side):
                    peer.protocol.event_received(event)
            with self.assertRaises(aioh2.StreamClosed):
                peer.protocol.stream(9)
            await settle()
            self.assertFalse(peer.transport.closed)

    async def test_requests_that_an_override_keeps_from_it(self) -> None:
        class Picky(aioh2.H2Protocol):
            def event_received(self, event: h2.events.Event) -> None:
                if not isinstance(event, h2.events.RequestReceived):
                    super().event_received(event)

        peer = await self.peer_of(False, Picky)
        peer.request(1, POST, end=False)
        peer.data(1, b"abc")
        peer.request(1, [("t", "u")])
        peer.request(3, POST, end=False)
        peer.reset(3)
        self.assertEqual(await peer.frames(GoAwayFrame), [])
        self.assertFalse(peer.transport.closed)

    async def test_unknown_events(self) -> None:
        peer = await Peer.of_client()
        peer.protocol.event_received(h2.events.Event())
        peer.protocol.event_received(
            h2.events.UnknownFrameReceived(frame=ExtensionFrame(type=0xBE, stream_id=0))
        )
        peer.send(ExtensionFrame(type=0xBE, stream_id=0, body=b"grease"))
        await settle()
        self.assertFalse(peer.transport.closed)

    async def test_events_of_a_stream_that_an_override_has_reset(self) -> None:
        peer = await self.peer_of(True, Resetting, enable_push=True)
        await self.soon(peer.protocol.start_request(POST))
        early = [(":status", "103")]
        peer.send(
            peer.headers(1, early),
            peer.headers(1, early),
            peer.promise(1, 2),
            peer.headers(1, RESPONSE),
            DataFrame(1, b"abc"),
            peer.headers(1, [("t", "u")], "END_STREAM"),
        )
        resets = await peer.frames(RstStreamFrame)
        self.assertEqual([(f.stream_id, f.error_code) for f in resets], [(1, 8), (2, 8)])
        self.assertFalse(peer.transport.closed)

    async def test_reset_by_an_override_and_by_the_peer(self) -> None:
        # both in one segment: the stream is over before the override hears of its beginning
        peer = await self.peer_of(False, Resetting)
        with self.assertNoLogs("aioh2.server", "WARNING"):
            peer.send(peer.headers(1, POST), RstStreamFrame(1, 8))
        self.assertEqual(await peer.frames(GoAwayFrame), [])
        self.assertFalse(peer.transport.closed)

    async def test_credit_of_a_stream_that_an_override_has_reset(self) -> None:
        peer = await self.peer_of(False, Resetting, connection_window_size=65_535)
        data = [DataFrame(1, bytes(16_384)) for _ in range(3)]
        peer.send(peer.headers(1, POST), *data)
        updates = await peer.frames(WindowUpdateFrame)
        self.assertGreaterEqual(sum(f.window_increment for f in updates), 32_768)
        self.assertEqual({f.stream_id for f in updates}, {0})


class TestStreams(Timed):
    """Streams by their id, open and ended."""

    async def ended(self, count: int, **options: Any) -> Peer:
        peer = await Peer.of_server(**options)
        for stream_id in range(1, 2 * count, 2):
            peer.request(stream_id, POST, end=False)
            peer.data(stream_id, b"%d" % stream_id, end=True)
            await self.soon(peer.protocol.recv_request())
            await self.soon(peer.protocol.start_response(stream_id, RESPONSE, end_stream=True))
        return peer

    async def test_readable_until_newer_ones_have_ended(self) -> None:
        peer = await self.ended(2, concurrency=2)
        self.assertEqual(await self.soon(peer.protocol.read_stream(1)), b"1")
        self.assertEqual(await self.soon(peer.protocol.read_stream(1)), b"")
        self.assertEqual(await self.soon(peer.protocol.recv_trailers(1)), [])

    async def test_forgotten_after_that(self) -> None:
        peer = await self.ended(3, concurrency=2)
        with self.assertRaisesRegex(aioh2.StreamClosed, "stream 1 .* 2 newer streams"):
            await self.soon(peer.protocol.read_stream(1))
        self.assertEqual(await self.soon(peer.protocol.read_stream(3)), b"3")

    async def test_by_handle_as_long_as_it_is_held(self) -> None:
        peer = await Peer.of_server(concurrency=1)
        peer.request(1)
        stream = peer.protocol.stream(1)
        for stream_id in (1, 3, 5):
            if stream_id > 1:
                peer.request(stream_id)
            await self.soon(peer.protocol.recv_request())
            await self.soon(peer.protocol.start_response(stream_id, RESPONSE, end_stream=True))
        self.assertEqual(await self.soon(stream.read()), b"")
        self.assertEqual(stream.request_headers, REQUEST)

    async def test_ended_before_anybody_took_it(self) -> None:
        peer = await Peer.of_server()
        peer.request(1)
        await self.soon(peer.protocol.start_response(1, RESPONSE, end_stream=True))
        self.assertEqual(await self.soon(peer.protocol.read_stream(1)), b"")
        self.assertEqual((await self.soon(peer.protocol.recv_request()))[0], 1)
        self.assertEqual(await self.soon(peer.protocol.read_stream(1)), b"")

    async def test_unknown(self) -> None:
        peer = await Peer.of_client()
        await self.soon(peer.protocol.start_request(REQUEST))
        for stream_id in (-1, 0, 2, 3, 5):
            with (
                self.subTest(stream_id),
                self.assertRaisesRegex(aioh2.StreamClosed, "never been") as caught,
            ):
                peer.protocol.stream(stream_id)
            self.assertEqual(caught.exception.stream_id, stream_id)
            self.assertFalse(caught.exception.retryable)

    async def test_handles(self) -> None:
        client, server = await connected_pair()
        stream = await self.soon(asyncio.wait_for(client.open_stream(REQUEST), None))
        self.assertIs(client.stream(stream.id), stream)
        self.assertIs(stream.protocol, client)
        inbound = await self.soon(anext(server))
        self.assertEqual((inbound.id, inbound.request_headers), (1, REQUEST))
        self.assertIs(inbound, server.stream(1))

    async def test_open_stream_as_context_manager(self) -> None:
        peer = await Peer.of_client()
        async with peer.protocol.open_stream(REQUEST, end_stream=True) as stream:
            peer.respond(1, end=True)
            self.assertEqual(await self.soon(stream.recv_response()), RESPONSE)
        self.assertEqual(await peer.frames(RstStreamFrame), [])
        async with peer.protocol.open_stream(REQUEST):
            pass
        (reset,) = await peer.frames(RstStreamFrame)
        self.assertEqual((reset.stream_id, reset.error_code), (3, 8))

    async def test_interim_responses(self) -> None:
        client, server = await connected_pair()
        await self.soon(client.start_request(POST))
        await self.soon(server.start_response(1, {":status": "100"}))
        self.assertEqual(await self.soon(client.recv_informational(1)), [(":status", "100")])
        await self.soon(server.start_response(1, RESPONSE))
        await self.soon(server.end_stream(1))
        self.assertIsNone(await self.soon(client.recv_informational(1)))
        self.assertEqual(await self.soon(client.recv_trailers(1)), [])

    async def test_bytes_for_headers(self) -> None:
        client, server = await connected_pair({"header_encoding": None}, {"header_encoding": None})
        await self.soon(client.start_request([*REQUEST, (b"x", b"\xff")], end_stream=True))
        _, headers = await self.soon(server.recv_request())
        self.assertIn((b"x", b"\xff"), headers)
        self.assertIn((b":path", b"/"), headers)
        await self.soon(server.start_response(1, RESPONSE))
        await self.soon(server.send_trailers(1, {"t": "u"}))
        self.assertEqual(await self.soon(client.recv_response(1)), [(b":status", b"200")])
        self.assertEqual(await self.soon(client.recv_trailers(1)), [(b"t", b"u")])

    async def test_text_for_headers_loses_nothing(self) -> None:
        client, server = await connected_pair()
        await self.soon(client.start_request([*REQUEST, ("x", b"\xff")], end_stream=True))
        _, headers = await self.soon(server.recv_request())
        value = dict(headers)["x"]
        self.assertEqual(value, "\udcff")
        await self.soon(server.start_response(1, [*RESPONSE, ("x", value)], end_stream=True))
        self.assertIn(("x", "\udcff"), await self.soon(client.recv_response(1)))


class TestTransport(Timed):
    async def test_extra_info(self) -> None:
        protocol = aioh2.H2Protocol(True)
        self.assertIsNone(protocol.get_extra_info("peername"))
        self.assertEqual(protocol.get_extra_info("peername", "?"), "?")
        transport = MemoryTransport(protocol, peername=("192.0.2.1", 80))
        protocol.connection_made(transport)
        self.assertEqual(protocol.get_extra_info("peername"), ("192.0.2.1", 80))
        self.assertEqual(protocol.get_extra_info("else", "?"), "?")
        transport.lose(None)
        await settle()
        self.assertIsNone(protocol.get_extra_info("else"))

    async def test_one_write_in_a_tick(self) -> None:
        peer = await Peer.of_client()
        before = peer.transport.writes
        for _ in range(3):
            stream_id = await peer.protocol.start_request(POST)
            await peer.protocol.send_data(stream_id, b"abc", end_stream=True)
        await settle()
        self.assertEqual(peer.transport.writes, before + 1)

    async def test_paused(self) -> None:
        peer = await Peer.of_client()
        await self.soon(peer.protocol.start_request(POST))
        peer.protocol.pause_writing()
        sending = await self.waiting(peer.protocol.send_data(1, b"abc"))
        self.assertEqual(peer.protocol.stream(1).blocked_on, "transport")
        self.assertEqual(await peer.frames(DataFrame), [])
        peer.protocol.resume_writing()
        await settle()
        self.assertTrue(sending.done())
        self.assertEqual([f.data for f in await peer.frames(DataFrame)], [b"abc"])

    async def test_cancelled_body_is_withdrawn(self) -> None:
        peer = await Peer.of_client()
        await self.soon(peer.protocol.start_request(POST))
        peer.protocol.pause_writing()
        sending = await self.waiting(peer.protocol.send_data(1, b"abc"))
        sending.cancel()
        await settle()
        peer.protocol.resume_writing()
        await self.soon(peer.protocol.send_data(1, b"def"))
        self.assertEqual([f.data for f in await peer.frames(DataFrame)], [b"def"])

    async def test_end_that_waits_behind_a_body(self) -> None:
        peer = await Peer.of_client(settings={WINDOW: 0})
        await self.soon(peer.protocol.start_request(POST))
        sending = await self.waiting(peer.protocol.send_data(1, b"abc"))
        ending = await self.waiting(peer.protocol.end_stream(1))
        peer.window(1, 3)
        frames = await peer.frames(DataFrame)
        self.assertEqual(b"".join(frame.data for frame in frames), b"abc")
        self.assertIn("END_STREAM", frames[-1].flags)
        self.assertTrue(sending.done())
        self.assertTrue(ending.done())

    async def test_end_that_waits_behind_a_body_that_is_withdrawn(self) -> None:
        peer = await Peer.of_client(settings={WINDOW: 0})
        await self.soon(peer.protocol.start_request(POST))
        sending = await self.waiting(peer.protocol.send_data(1, b"abc"))
        ending = await self.waiting(peer.protocol.end_stream(1))
        sending.cancel()
        (frame,) = await peer.frames(DataFrame)
        self.assertEqual((frame.data, frame.flags), (b"", {"END_STREAM"}))
        self.assertTrue(ending.done())

    async def test_window_update_of_the_connection(self) -> None:
        peer = await Peer.of_client(settings={WINDOW: 10**6})
        await self.soon(peer.protocol.start_request(POST))
        sending = await self.waiting(peer.protocol.send_data(1, bytes(65_536)))
        self.assertEqual(peer.protocol.stream(1).blocked_on, "connection window")
        peer.window(0, 1)
        await settle()
        self.assertTrue(sending.done())

    async def test_reading_after_the_end_sends_nothing(self) -> None:
        peer = await Peer.of_server(initial_window_size=10)
        peer.request(1, POST, end=False)
        peer.data(1, bytes(10))
        stream = peer.protocol.stream(1)
        peer.transport.hang_on_close = True
        peer.protocol.close_connection()
        await peer.frames()
        self.assertEqual(await self.soon(stream.read()), bytes(10))
        self.assertEqual(await peer.frames(), [])
        peer.lose()

    async def test_eof_closes(self) -> None:
        self.assertFalse(aioh2.H2Protocol(True).eof_received())

    async def test_written_once_the_transport_is_gone(self) -> None:
        peer = await Peer.of_client()
        await peer.protocol.start_request(REQUEST)
        peer.protocol.connection_lost(None)
        before = peer.transport.writes
        await settle()
        self.assertEqual(peer.transport.writes, before)

    async def test_body_of_an_ended_stream_that_the_transport_has_not_taken(self) -> None:
        peer = await Peer.of_client(settings={WINDOW: 0})
        await self.soon(peer.protocol.start_request(POST))
        peer.respond(1, end=True)
        sending = await self.waiting(peer.protocol.send_data(1, b"abc", end_stream=True))
        with mock.patch.object(peer.transport, "write", lambda data: peer.protocol.pause_writing()):
            peer.window(1, 3)
            await settle()
        self.assertFalse(sending.done())
        self.assertEqual(peer.protocol.stats.streams_open, 0)
        self.assertEqual(peer.protocol.stream(1).blocked_on, "transport")
        peer.lose()
        await settle()
        self.assertIsInstance(sending.exception(), aioh2.SendException)

    async def test_sudden_end_of_everything(self) -> None:
        peer = await Peer.of_client()
        await self.soon(peer.protocol.start_request(POST))
        calls = [
            await self.waiting(call)
            for call in (
                peer.protocol.recv_response(1),
                peer.protocol.read_stream(1),
                peer.protocol.recv_trailers(1),
                peer.protocol.ping(),
                peer.protocol.recv_request(),
            )
        ]
        closed = await self.waiting(peer.protocol.wait_closed())
        peer.lose()
        await settle()
        errors = [call.exception() for call in calls]
        for error in errors:
            self.assertIsInstance(error, aioh2.ConnectionClosed)
        self.assertEqual(len({id(error) for error in errors}), len(errors))
        self.assertTrue(closed.done())


class Buffering(MemoryTransport):
    """A transport that says how much it has not sent."""

    unsent = 0

    def get_write_buffer_size(self) -> int:
        return self.unsent


class NotCounting(MemoryTransport):
    """A transport that does not say it."""

    def get_write_buffer_size(self) -> int:
        raise NotImplementedError


class TestTimeLimits(Timed):
    """The options that end in ``_timeout``, and the age of a connection."""

    async def ack_overdue(self, peer: Peer) -> None:
        (goaway,) = await peer.frames(GoAwayFrame)
        self.assertEqual(goaway.error_code, 4)
        self.assertTrue(peer.transport.closed)
        self.assertIn("not acknowledged for 3 s", str(peer.protocol.close_reason))

    async def test_settings_that_are_not_acknowledged(self) -> None:
        with self.assertNoLogs("aioh2", "WARNING"):
            peer = await ungreeted(True, open_timeout=3)
            peer.send(SettingsFrame())
            await self.after(2.9)
            self.assertFalse(peer.transport.closed)
            await self.after(0.2)
        await self.ack_overdue(peer)

    async def test_settings_that_change_and_are_not_acknowledged(self) -> None:
        peer = await Peer.of_client(open_timeout=3)
        await self.after(60)
        peer.protocol.max_concurrent_streams = 5
        await self.after(2.9)
        self.assertFalse(peer.transport.closed)
        await self.after(0.2)
        await self.ack_overdue(peer)

    async def test_each_settings_frame_has_its_own_time(self) -> None:
        peer = await Peer.of_client(open_timeout=3)
        peer.protocol.max_concurrent_streams = 5
        await self.after(2)
        peer.protocol.max_concurrent_streams = 6
        ack(peer)
        await self.after(2)
        self.assertFalse(peer.transport.closed)
        ack(peer)
        await self.after(60)
        self.assertFalse(peer.transport.closed)

    async def test_ack_of_nothing(self) -> None:
        # it is ignored (RFC 9113 section 6.5.3), and does not stand for a later one
        peer = await Peer.of_client(open_timeout=3)
        ack(peer)
        peer.protocol.max_concurrent_streams = 5
        ack(peer)
        await self.after(60)
        self.assertFalse(peer.transport.closed)
        peer.protocol.max_concurrent_streams = 6
        await self.after(3.1)
        self.assertTrue(peer.transport.closed)

    async def test_idle(self) -> None:
        peer = await Peer.of_client(idle_timeout=3)
        await self.after(2.9)
        self.assertFalse(peer.transport.closed)
        await self.after(0.2)
        self.assertEqual([f.error_code for f in await peer.frames(GoAwayFrame)], [0])
        self.assertTrue(peer.transport.closed)

    async def test_idle_server_announces_its_end(self) -> None:
        peer = await Peer.of_server(idle_timeout=3)
        await self.after(3.1)
        self.assertFalse(peer.transport.closed)
        peer.request(1)
        goaway, ping = await peer.frames(GoAwayFrame, PingFrame)
        self.assertEqual(goaway.last_stream_id, LAST)
        peer.ack_ping(ping)
        await self.soon(peer.protocol.start_response(1, RESPONSE, end_stream=True))
        self.assertTrue(peer.transport.closed)

    async def test_not_idle_while_a_stream_is_open(self) -> None:
        peer = await Peer.of_client(idle_timeout=3)
        await self.after(2)
        await self.soon(peer.protocol.start_request(REQUEST, end_stream=True))
        await self.after(60)
        self.assertFalse(peer.protocol.is_closing)
        peer.respond(1, end=True)
        await self.after(2.9)
        self.assertFalse(peer.protocol.is_closing)
        await self.after(0.2)
        self.assertTrue(peer.protocol.is_closing)

    async def test_slow_frame(self) -> None:
        with self.assertNoLogs("aioh2", "WARNING"):
            peer = await Peer.of_server(frame_timeout=3)
            frame = PingFrame(0, b"12345678").serialize()
            for byte in frame[:3]:
                # bytes that come do not help, the frame has to
                await self.after(0.9)
                peer.send_bytes(bytes([byte]))
            await self.after(2.0)
            (goaway,) = await peer.frames(GoAwayFrame)
        self.assertEqual(goaway.error_code, 11)
        self.assertTrue(peer.transport.closed)
        self.assertIn("after 3 s", str(peer.protocol.close_reason))

    async def test_slow_header_block(self) -> None:
        peer = await Peer.of_server(frame_timeout=3)
        block = peer.encoder.encode(REQUEST)
        peer.send(HeadersFrame(1, block[:1]))
        for at in range(1, 5):
            await self.after(0.9)
            peer.send(ContinuationFrame(1, block[at : at + 1]))
        self.assertEqual([f.error_code for f in await peer.frames(GoAwayFrame)], [11])

    async def test_frames_that_come_in_pieces(self) -> None:
        peer = await Peer.of_server(frame_timeout=3)
        frame = PingFrame(0, b"12345678").serialize()
        peer.send_bytes(frame[:5])
        for _ in range(5):
            await self.after(2)
            peer.send_bytes(frame[5:] + frame[:5])
        self.assertFalse(peer.transport.closed)
        peer.send_bytes(frame[5:])
        await self.after(60)
        self.assertFalse(peer.transport.closed)

    async def writing(self, kind: type[MemoryTransport], **options: Any) -> Peer:
        peer = Peer(aioh2.H2Protocol(True, **options))
        peer.transport = kind(peer.protocol)
        peer.protocol.connection_made(peer.transport)
        await peer.greet()
        return peer

    async def test_transport_that_takes_nothing(self) -> None:
        with self.assertNoLogs("aioh2", "WARNING"):
            peer = await self.writing(Buffering, write_timeout=3)
            assert isinstance(peer.transport, Buffering)
            peer.transport.unsent = 100_000
            stream_id = await self.soon(peer.protocol.start_request(POST))
            await self.soon(peer.protocol.send_data(stream_id, bytes(50_000)))
            peer.protocol.pause_writing()
            sending = await self.waiting(peer.protocol.send_data(stream_id, b"123"))
            await self.after(2.9)
            self.assertFalse(peer.transport.aborted)
            await self.after(0.2)
        self.assertTrue(peer.transport.aborted)
        error = sending.exception()
        assert isinstance(error, aioh2.SendException)
        self.assertEqual(error.data, b"123")
        self.assertIn("blocked on transport: it took nothing for 3 s", str(error))

    async def test_transport_that_takes_some(self) -> None:
        peer = await self.writing(Buffering, write_timeout=3)
        assert isinstance(peer.transport, Buffering)
        stream_id = await self.soon(peer.protocol.start_request(POST))
        peer.transport.unsent = 50_000
        await self.soon(peer.protocol.send_data(stream_id, bytes(50_000)))
        for _ in range(4):
            await self.after(2.9)
            peer.transport.unsent -= 10_000
        self.assertFalse(peer.transport.aborted)
        # it looks once in a while only: what was taken since then counts
        await self.after(3.1)
        await self.after(3.1)
        self.assertTrue(peer.transport.aborted)

    async def test_transport_that_takes_some_between_writes(self) -> None:
        peer = await self.writing(Buffering, write_timeout=3)
        assert isinstance(peer.transport, Buffering)
        stream_id = await self.soon(peer.protocol.start_request(POST))
        peer.transport.unsent = 100
        for _ in range(4):
            await self.soon(peer.protocol.send_data(stream_id, bytes(100)))
            await self.after(2)
        peer.transport.unsent = 0
        await self.soon(peer.protocol.send_data(stream_id, bytes(100)))
        await self.after(60)
        self.assertFalse(peer.transport.aborted)

    async def test_transport_that_does_not_count(self) -> None:
        peer = await self.writing(NotCounting, write_timeout=3)
        stream_id = await self.soon(peer.protocol.start_request(POST))
        await self.after(60)
        self.assertFalse(peer.transport.aborted)
        peer.protocol.pause_writing()
        peer.protocol.reset_stream(stream_id)
        await settle()
        await self.after(2.9)
        self.assertFalse(peer.transport.aborted)
        await self.after(0.2)
        self.assertTrue(peer.transport.aborted)

    async def blocked(self) -> tuple[Peer, asyncio.Task[None]]:
        """Return a peer, and a body of 10 bytes on stream 1 that waits for its window."""
        peer = await Peer.of_client(settings={WINDOW: 0}, window_timeout=3)
        await self.soon(peer.protocol.start_request(POST))
        return peer, await self.waiting(peer.protocol.send_data(1, bytes(10)))

    async def test_window_that_does_not_open(self) -> None:
        with self.assertNoLogs("aioh2", "WARNING"):
            peer, sending = await self.blocked()
            await self.after(2.9)
            self.assertFalse(sending.done())
            await self.after(0.2)
        (reset,) = await peer.frames(RstStreamFrame)
        self.assertEqual((reset.stream_id, reset.error_code), (1, 8))
        error = sending.exception()
        assert isinstance(error, aioh2.SendException)
        self.assertIn("blocked on stream window for 3 s", str(error))
        self.assertFalse(error.retryable)
        self.assertFalse(peer.transport.closed)

    async def test_connection_window_that_does_not_open(self) -> None:
        peer = await Peer.of_client(settings={WINDOW: 10**6}, window_timeout=3)
        await self.soon(peer.protocol.start_request(POST))
        sending = await self.waiting(peer.protocol.send_data(1, bytes(70_000)))
        await self.after(3.1)
        self.assertIn("blocked on connection window for 3 s", str(sending.exception()))

    async def test_window_that_opens_a_little(self) -> None:
        peer, sending = await self.blocked()
        for _ in range(5):
            await self.after(2)
            peer.window(1, 1)
            await settle()
        self.assertFalse(sending.done())
        await self.after(3.1)
        self.assertTrue(sending.done())

    async def test_window_that_opens(self) -> None:
        peer, sending = await self.blocked()
        peer.window(1, 100)
        await self.after(60)
        self.assertTrue(sending.done())
        self.assertEqual(await peer.frames(RstStreamFrame), [])

    async def test_a_cancelled_body_is_not_counted(self) -> None:
        peer, sending = await self.blocked()
        sending.cancel()
        await self.after(2)
        await self.waiting(peer.protocol.send_data(1, b"123"))
        await self.after(2)
        self.assertEqual(await peer.frames(RstStreamFrame), [])
        await self.after(1.1)
        self.assertEqual(len(await peer.frames(RstStreamFrame)), 1)

    async def test_another_body_that_waits_behind_a_cancelled_one(self) -> None:
        peer, sending = await self.blocked()
        second = await self.waiting(peer.protocol.send_data(1, b"123"))
        sending.cancel()
        await self.after(3.1)
        self.assertIsInstance(second.exception(), aioh2.SendException)

    async def test_waiting_for_the_transport_is_not_counted(self) -> None:
        peer = await Peer.of_client(window_timeout=3)
        await self.soon(peer.protocol.start_request(POST))
        peer.protocol.pause_writing()
        sending = await self.waiting(peer.protocol.send_data(1, b"123"))
        await self.after(3.1)
        await self.after(3.1)
        self.assertFalse(sending.done())
        peer.protocol.resume_writing()
        await settle()
        self.assertTrue(sending.done())

    async def test_cancelled_body_at_the_deadline(self) -> None:
        peer, sending = await self.blocked()
        sending.cancel()
        await self.after(3.1)
        self.assertEqual(await peer.frames(RstStreamFrame), [])

    async def test_body_that_does_not_come(self) -> None:
        with self.assertNoLogs("aioh2", "WARNING"):
            peer = await Peer.of_server(body_timeout=3)
            peer.request(1, POST, end=False)
            reading = await self.waiting(peer.protocol.read_stream(1, -1))
            await self.after(2)
            peer.data(1, b"some")
            await settle()
            await self.after(2)
            self.assertFalse(reading.done())
            await self.after(1.1)
        (reset,) = await peer.frames(RstStreamFrame)
        self.assertEqual((reset.stream_id, reset.error_code), (1, 8))
        error = reading.exception()
        assert isinstance(error, aioh2.StreamReset)
        self.assertEqual(error.initiator, "local")
        self.assertIn("blocked on peer for 3 s", str(error))
        self.assertEqual(await self.soon(peer.protocol.read_stream(1)), b"some")

    async def test_two_limits_of_one_stream_at_once(self) -> None:
        peer = await Peer.of_server(settings={WINDOW: 0}, body_timeout=3, window_timeout=3)
        server = peer.protocol
        peer.request(1, POST, end=False)
        await self.soon(server.start_response(1, RESPONSE))
        reading = await self.waiting(server.read_stream(1))
        sending = await self.waiting(server.send_data(1, b"123"))
        await self.after(3.1)
        self.assertIsInstance(reading.exception(), aioh2.StreamReset)
        self.assertIsInstance(sending.exception(), aioh2.SendException)
        self.assertEqual(len(await peer.frames(RstStreamFrame)), 1)

    async def test_limits_of_several_streams_at_once(self) -> None:
        peer = await Peer.of_server(body_timeout=3, idle_timeout=3)
        server = peer.protocol
        calls = []
        for stream_id in (1, 3, 5):
            peer.request(stream_id, POST, end=False)
            calls.append(await self.waiting(server.read_stream(stream_id)))
        await self.after(3.1)
        for call in calls:
            self.assertIsInstance(call.exception(), aioh2.StreamReset)
        resets = await peer.frames(RstStreamFrame)
        self.assertEqual([frame.stream_id for frame in resets], [1, 3, 5])
        self.assertFalse(server.is_closing)

    async def test_limits_of_the_connection_and_a_stream_at_once(self) -> None:
        peer = await Peer.of_server(body_timeout=3, frame_timeout=3)
        peer.request(1, POST, end=False)
        reading = await self.waiting(peer.protocol.read_stream(1))
        peer.send_bytes(b"\0")
        await self.after(3.1)
        self.assertIsNotNone(reading.exception())
        self.assertTrue(peer.transport.closed)

    async def test_body_that_nobody_waits_for(self) -> None:
        peer = await Peer.of_server(body_timeout=3)
        peer.request(1, POST, end=False)
        await self.after(60)
        self.assertEqual(await peer.frames(RstStreamFrame), [])

    async def test_body_of_a_response(self) -> None:
        peer = await Peer.of_client(body_timeout=3)
        await self.soon(peer.protocol.start_request(REQUEST))
        peer.respond(1)
        reading = await self.waiting(peer.protocol.read_stream(1))
        await self.after(60)
        self.assertFalse(reading.done())

    async def test_age(self) -> None:
        peer = await Peer.of_server(max_connection_age=100, max_connection_age_grace=5)
        peer.request(1)
        await self.after(89)
        self.assertFalse(peer.protocol.is_closing)
        await self.after(22)
        self.assertTrue(peer.protocol.is_closing)
        self.assertFalse(peer.transport.closed)
        goaway, _ping = await peer.frames()
        self.assertEqual((goaway.last_stream_id, goaway.error_code), (LAST, 0))
        await self.after(5.1)
        self.assertTrue(peer.transport.closed)

    async def test_ages_differ(self) -> None:
        loop = asyncio.get_running_loop()
        with mock.patch.object(loop, "call_later", wraps=loop.call_later) as call_later:
            for _ in range(20):
                await Peer.of_server(max_connection_age=100, open_timeout=None)
        ages = [call.args[0] for call in call_later.call_args_list]
        self.assertEqual(len(set(ages)), 20)
        self.assertTrue(all(90 <= age <= 110 for age in ages), ages)

    async def test_age_of_a_client(self) -> None:
        peer = await Peer.of_client(max_connection_age=100)
        await self.after(3600)
        self.assertFalse(peer.protocol.is_closing)

    async def test_nothing_holds_a_connection_that_has_ended(self) -> None:
        names = ("open", "idle", "frame", "write", "window", "body")
        peer = await Peer.of_server(
            max_connection_age=3600,
            keepalive_interval=3600,
            **{f"{name}_timeout": 3600 for name in names},
        )
        peer.request(1, POST, end=False)
        calls = asyncio.gather(
            peer.protocol.read_stream(1), peer.protocol.shutdown(3600), return_exceptions=True
        )
        await settle()
        protocol = weakref.ref(peer.protocol)
        peer.lose()
        await settle()
        self.assertTrue(calls.done())
        del peer, calls
        gc.collect()
        self.assertIsNone(protocol())

    async def test_no_limits(self) -> None:
        names = ("open", "idle", "frame", "write", "window", "body")
        peer = await Peer.of_server(**{f"{name}_timeout": None for name in names})
        peer.request(1, POST, end=False)
        reading = await self.waiting(peer.protocol.read_stream(1))
        peer.protocol.max_concurrent_streams = 5
        peer.send_bytes(b"\0")
        await self.after(3600)
        self.assertFalse(reading.done())
        self.assertFalse(peer.transport.closed)


class TestClock(Timed):
    async def test_timers_of_a_life_without_events(self) -> None:
        # tickless: nothing runs by itself on a connection that nobody uses
        peer = await Peer.of_client()
        with mock.patch.object(asyncio.get_running_loop(), "call_at") as call_at:
            await self.after(3600)
        call_at.assert_not_called()
        self.assertFalse(peer.transport.closed)
