"""``H2Protocol``: settings, events, signs of life, time limits, and what it tells of itself.

How it ends is in ``test_closing``, what serves it in ``test_handlers``.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import gc
import json
import logging
import weakref
from typing import Any, ClassVar
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
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

import aioh2
from aioh2 import SettingCodes
from aioh2.testing import connected_pair

from .test_closing import LAST, LIMIT, Timed
from .wire import (
    POST,
    PREFACE,
    REQUEST,
    RESPONSE,
    Case,
    MemoryTransport,
    Peer,
    settle,
)

PUSH = int(SettingCodes.ENABLE_PUSH)
WINDOW = int(SettingCodes.INITIAL_WINDOW_SIZE)
FRAME_SIZE = int(SettingCodes.MAX_FRAME_SIZE)
CONNECT = int(SettingCodes.ENABLE_CONNECT_PROTOCOL)


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


class TestNames(Timed):
    """A subclass can call its own things what it likes, but for what is public."""

    PUBLIC: ClassVar = {
        *("start_request", "recv_request", "start_response", "recv_response"),
        *("recv_informational", "send_data", "read_stream", "send_trailers", "recv_trailers"),
        *("end_stream", "reset_stream", "push_stream", "recv_push", "reprioritize"),
        *("set_priority", "open_stream", "stream", "serve", "set_handler", "event_received"),
        *("tap", "wait_open", "ping", "wait_functional", "update_settings", "close_connection"),
        *("advertise_alternative_service", "send_origins", "shutdown", "abort"),
        *("wait_closing", "wait_closed", "get_extra_info", "functional_timeout"),
        *("initial_window_size", "max_frame_size", "max_concurrent_streams", "rtt"),
        *("is_closing", "available_slots", "waiting_requests", "remote_settings", "stats"),
        *("close_reason", "scheme", "authority", "client_side", "config"),
        # of asyncio.Protocol
        *("connection_made", "data_received", "eof_received", "connection_lost"),
        *("pause_writing", "resume_writing"),
    }

    def names_of(self, kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("__")}

    def test_public_names(self) -> None:
        protocol = aioh2.H2Protocol(True)
        names = {*self.names_of(aioh2.H2Protocol), *vars(protocol)}
        self.assertEqual({name for name in names if not name.startswith("_")}, self.PUBLIC)

    def test_the_rest_is_the_drivers(self) -> None:
        self.assertEqual(
            {name for name in vars(aioh2.H2Protocol(True)) if name.startswith("_")},
            {"_driver", "_functional_timeout"},
        )

    async def test_names_of_the_inside(self) -> None:
        """Whatever it is called inside, a subclass may have something else of that name."""

        class Mine(aioh2.H2Protocol):
            def __getattribute__(self, name: str) -> Any:
                if name in taken:
                    raise AssertionError(f"{name} of a subclass is used")
                return super().__getattribute__(name)

        protocol = aioh2.H2Protocol(True)
        driver = protocol._driver
        rooms = [driver, driver.table, driver.intake, driver.closing, driver.opener]
        inside = {name for room in rooms for name in (*dir(room), *vars(room)) if name[:2] != "__"}
        taken = inside - {*dir(aioh2.H2Protocol), *vars(protocol)}
        self.assertLessEqual({"_transport", "_loop", "_streams", "settle", "credit"}, taken)

        async def answer(stream: aioh2.H2Stream) -> None:
            await stream.start_response(RESPONSE)
            await stream.send_data(await stream.read(-1), end_stream=True)

        peer = await Peer.of_server(kind=Mine, handler=lambda protocol: protocol.serve(answer))
        peer.request(1, POST, end=False)
        peer.data(1, b"abc", end=True)
        (data,) = await peer.frames(DataFrame)
        self.assertEqual(data.data, b"abc")
        peer.protocol.close_connection()
        await self.soon(peer.protocol.wait_closed())


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

    async def test_settings_that_are_for_good(self) -> None:
        """RFC 8441 section 3, RFC 9218 section 2.1."""
        peer = await Peer.of_server(enable_connect_protocol=True)
        for wrong in ({CONNECT: 0}, {9: 1}):
            with self.subTest(wrong), self.assertRaisesRegex(ValueError, "RFC .* section"):
                peer.protocol.update_settings(wrong)
        peer.protocol.update_settings({CONNECT: 1, 9: 0})
        later = await Peer.of_server()
        later.protocol.update_settings({CONNECT: 0})
        later.protocol.update_settings({CONNECT: 1})
        with self.assertRaises(ValueError):
            # not acknowledged yet, but sent
            later.protocol.update_settings({CONNECT: 0})

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

    async def test_an_interval_shorter_than_the_timeout(self) -> None:
        """Each interval without bytes has its PING, whatever time the last one might have had."""
        peer = await Peer.of_client(keepalive_interval=2, keepalive_timeout=60)
        for _ in range(5):
            await self.after(2.1)
            (ping,) = await peer.frames(PingFrame)
            await self.after(0.1)
            peer.ack_ping(ping)
        await self.after(2.1)
        self.assertEqual(len(await peer.frames(PingFrame)), 1)
        await self.after(59)
        self.assertFalse(peer.transport.closed)
        await self.after(1)
        self.assertTrue(peer.transport.aborted)

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

    async def test_frames_by_type(self) -> None:
        peer = await Peer.of_client()
        client = peer.protocol
        self.assertEqual(client.stats.frames_received, {"SETTINGS": 2})
        self.assertEqual(client.stats.frames_sent, {"SETTINGS": 2, "WINDOW_UPDATE": 1})
        stream_id = await self.soon(client.start_request(POST))
        await self.soon(client.send_data(stream_id, bytes(40_000), end_stream=True))
        peer.respond(stream_id)
        peer.data(stream_id, b"abc")
        peer.send(ExtensionFrame(0xFA, 0), ExtensionFrame(0xB, 0))
        stats = client.stats
        self.assertEqual(
            stats.frames_received,
            {"SETTINGS": 2, "HEADERS": 1, "DATA": 1, "0xb": 1, "unknown": 1},
        )
        self.assertEqual(
            stats.frames_sent, {"SETTINGS": 2, "WINDOW_UPDATE": 1, "HEADERS": 1, "DATA": 3}
        )

    async def test_the_same_with_a_tap(self) -> None:
        """Which has frames made into objects."""
        counts = []
        for tapped in (False, True):
            peer = await Peer.of_server()
            if tapped:
                peer.protocol.tap(lambda event: None)
            peer.request(1, POST, end=False)
            peer.data(1, bytes(20_000), end=True)
            await self.soon(peer.protocol.start_response(1, RESPONSE))
            await self.soon(peer.protocol.send_data(1, bytes(20_000), end_stream=True))
            await self.soon(peer.protocol.read_stream(1, -1))
            counts.append((peer.protocol.stats.frames_received, peer.protocol.stats.frames_sent))
        self.assertEqual(counts[0], counts[1])
        self.assertEqual(counts[0][1]["DATA"], 2)

    async def test_resets_by_code(self) -> None:
        peer = await Peer.of_client()
        client = peer.protocol
        for _ in range(5):
            await self.soon(client.start_request(REQUEST))
        peer.reset(1)
        peer.reset(3, aioh2.ErrorCodes.REFUSED_STREAM)
        for stream_id, code in ((5, 0x99), (7, 0x9A)):
            peer.reset(stream_id, code)
        client.reset_stream(9, aioh2.ErrorCodes.NO_ERROR)
        stats = client.stats
        self.assertEqual(
            stats.resets_received_by_code, {"CANCEL": 1, "REFUSED_STREAM": 1, "unknown code": 2}
        )
        self.assertEqual(stats.resets_sent_by_code, {"NO_ERROR": 1})
        self.assertEqual((stats.resets_received, stats.resets_sent), (4, 1))

    async def test_refused(self) -> None:
        peer = await Peer.of_server(concurrency=1)
        for stream_id in (1, 3, 5):
            peer.request(stream_id)
        peer.request(7, [*REQUEST, ("te", "gzip")])
        stats = peer.protocol.stats
        self.assertEqual((stats.streams_opened, stats.streams_refused), (1, 3))

    async def test_round_trips(self) -> None:
        peer = await Peer.of_client()
        for seconds in (3, 1, 2):
            ping = await self.waiting(peer.protocol.ping())
            await self.after(seconds)
            peer.ack_ping((await peer.frames(PingFrame))[0])
            await ping
        stats = peer.protocol.stats
        assert stats.rtt is not None
        assert stats.shortest_rtt is not None
        self.assertAlmostEqual(stats.rtt, 2, delta=0.5)
        self.assertAlmostEqual(stats.shortest_rtt, 1, delta=0.5)

    async def test_budgets(self) -> None:
        peer = await Peer.of_server(control_budget=(10, 1), empty_frame_budget=None)
        for _ in range(6):
            peer.send(PingFrame(0, bytes(8)))
        budgets = peer.protocol.stats.budgets
        self.assertLess(budgets["control_budget"], 0.6)
        self.assertEqual(budgets["empty_frame_budget"], 1)
        self.assertEqual(
            [*budgets],
            ["reset_budget", "control_budget", "window_update_budget", "empty_frame_budget"],
        )
        await self.after(10)
        self.assertEqual(peer.protocol.stats.budgets["control_budget"], 1)

    async def test_before_the_connection(self) -> None:
        stats = aioh2.H2Protocol(True).stats
        self.assertEqual((stats.frames_sent, stats.shortest_rtt), ({}, None))
        self.assertEqual({*stats.budgets.values()}, {1.0})

    async def test_as_json(self) -> None:
        stats = dataclasses.asdict((await Peer.of_client()).protocol.stats)
        self.assertEqual(json.loads(json.dumps(stats)), stats)

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
        self.assertTrue(
            any(line.startswith("> SETTINGS HEADER_TABLE_SIZE 4096, ") for line in rest), rest
        )
        self.assertTrue(any(line == "< SETTINGS" for line in rest), rest)
        self.assertTrue(any(line.startswith("> HEADERS stream 1, :method") for line in rest), rest)
        self.assertTrue(any(line == "< PING 3132333435363738" for line in rest), rest)
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

    async def test_override_that_closes_before_it_hands_on_the_event(self) -> None:
        class Closing(aioh2.H2Protocol):
            def event_received(self, event: h2.events.Event) -> None:
                if isinstance(event, h2.events.RequestReceived):
                    self.close_connection()
                super().event_received(event)

        peer = await self.peer_of(False, Closing)
        serving = await self.waiting(peer.protocol.serve(lambda stream: stream.read()))
        peer.request(1, POST, end=False)
        await settle()
        self.assertTrue(serving.done())
        self.assertEqual(peer.protocol.stats.streams_open, 0)

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
        client, server = await connected_pair(
            client={"header_encoding": None}, server={"header_encoding": None}
        )
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

    async def test_timer_that_fires_a_little_early(self) -> None:
        # as on a loop that counts milliseconds: what is due is done, and not looked at again
        loop = asyncio.get_running_loop()
        now = loop.time()
        with mock.patch.object(loop, "time", lambda: now):
            idle = await Peer.of_client(idle_timeout=3.0004)
            silent = await Peer.of_client(keepalive_interval=3.0004)
            now += 3
            await settle()
        self.assertTrue(idle.protocol.is_closing)
        self.assertEqual(len(await silent.frames(PingFrame)), 1)
