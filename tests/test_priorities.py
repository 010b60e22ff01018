"""``Priorities``: signals of RFC 7540, then fields and PRIORITY_UPDATE of RFC 9218."""

from __future__ import annotations

import asyncio
import unittest
from typing import Any

from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import (
    DataFrame,
    ExtensionFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PriorityFrame,
    SettingsFrame,
)

import aioh2
from aioh2 import Priority

from .test_closing import Timed
from .wire import PREFACE, REQUEST, RESPONSE, Case, Peer, settle

NO_RFC7540_PRIORITIES = 9
PRIORITY_UPDATE = 16


def update(stream_id: int, field: str | bytes, *, on: int = 0) -> ExtensionFrame:
    """Make a PRIORITY_UPDATE frame."""
    octets = field if isinstance(field, bytes) else field.encode()
    return extension(stream_id.to_bytes(4, "big") + octets, on=on)


def extension(body: bytes, *, on: int = 0) -> ExtensionFrame:
    frame = ExtensionFrame(PRIORITY_UPDATE, on)
    frame.parse_body(memoryview(body))
    return frame


class PriorityCase(Case):
    async def serving(
        self, *fields: str | None, settings: dict[int, int] | None = None
    ) -> tuple[Peer, list[aioh2.H2Stream]]:
        """Return a server's streams 1, 3, ... with these `priority` fields, and their client.

        Each has started its response and has a body of three frames queued.
        """
        wide = {SettingCodes.INITIAL_WINDOW_SIZE: 1_000_000}
        peer = await Peer.of_server(settings=wide | (settings or {}))
        for at, field in enumerate(fields):
            more = [] if field is None else [("priority", field)]
            peer.request(1 + 2 * at, [*REQUEST, *more])
        streams = [await anext(peer.protocol) for _ in fields]
        for stream in streams:
            await stream.start_response(RESPONSE)
        await peer.frames()
        peer.protocol.pause_writing()
        self.bodies = [
            self.start(stream.send_data(bytes(3 * 16_384), end_stream=True)) for stream in streams
        ]
        await settle(3)
        return peer, streams

    def start(self, call: Any) -> asyncio.Future[Any]:
        task = asyncio.ensure_future(call)
        self.addCleanup(task.cancel)
        return task

    async def order(self, peer: Peer) -> list[int]:
        """Let the bodies go out; return whose frames they are."""
        peer.window(0, 1_000_000)
        peer.protocol.resume_writing()
        await settle(20)
        return [frame.stream_id for frame in await peer.frames(DataFrame)]


class TestServer(PriorityCase):
    async def test_in_turn_without_any_signal(self) -> None:
        peer, _ = await self.serving(None, None)
        self.assertEqual(await self.order(peer), [1, 3] * 3)

    async def test_announced(self) -> None:
        peer = Peer(aioh2.H2Protocol(False, no_rfc7540_priorities=True))
        peer.protocol.connection_made(peer.transport)
        peer.send_bytes(PREFACE)
        peer.send(SettingsFrame(settings={SettingCodes.INITIAL_WINDOW_SIZE: 1_000_000}))
        settings = (await peer.frames(SettingsFrame))[0].settings
        self.assertEqual(settings[NO_RFC7540_PRIORITIES], 1)
        peer.send(SettingsFrame(flags=["ACK"]))
        for stream_id in (1, 3):
            peer.request(stream_id)
        # a signal of RFC 7540, which is ignored: equal urgencies go one after the other
        peer.send(PriorityFrame(3, depends_on=0, stream_weight=255))
        peer.protocol.pause_writing()
        for _ in range(2):
            stream = await anext(peer.protocol)
            await stream.start_response(RESPONSE)
            self.start(stream.send_data(bytes(48_000), end_stream=True))
        await settle()
        self.assertEqual(await self.order(peer), [1, 1, 1, 3, 3, 3])
        peer.protocol.update_settings({NO_RFC7540_PRIORITIES: 1})
        for protocol, value in (peer.protocol, 0), (aioh2.H2Protocol(True), 1):
            with self.assertRaisesRegex(ValueError, "no_rfc7540_priorities sets it"):
                protocol._driver.connection.check_settings({NO_RFC7540_PRIORITIES: value})

    async def test_the_field_of_a_request(self) -> None:
        peer, _ = await self.serving("u=5", "u=0", None)
        self.assertEqual(await self.order(peer), [3, 3, 3, 5, 5, 5, 1, 1, 1])

    async def test_one_after_another_unless_incremental(self) -> None:
        peer, _ = await self.serving("u=3", "u=3, i", "u=3, i")
        self.assertEqual(sorted((await self.order(peer))[:3]), [1, 3, 5])
        peer, _ = await self.serving("u=3", "u=3")
        self.assertEqual(await self.order(peer), [1, 1, 1, 3, 3, 3])

    async def test_lines_are_joined(self) -> None:
        peer = await Peer.of_server(settings={SettingCodes.INITIAL_WINDOW_SIZE: 1_000_000})
        peer.request(1, [*REQUEST, ("priority", "u=2")])
        peer.request(3, [*REQUEST, ("priority", "u=7"), ("priority", "u=1")])
        streams = [await anext(peer.protocol) for _ in range(2)]
        peer.protocol.pause_writing()
        for stream in streams:
            await stream.start_response(RESPONSE)
            self.start(stream.send_data(bytes(20_000), end_stream=True))
        await settle()
        self.assertEqual(await self.order(peer), [3, 3, 1, 1])

    async def test_update(self) -> None:
        peer, _ = await self.serving("u=3", "u=3")
        peer.send(update(3, "u=1"))
        self.assertEqual(await self.order(peer), [3, 3, 3, 1, 1, 1])

    async def test_update_while_bodies_go_out(self) -> None:
        peer, _ = await self.serving("u=3", "u=3", "u=3")
        peer.protocol.resume_writing()
        await settle(5)
        # what the connection window lets through
        frames = await peer.frames(DataFrame)
        self.assertEqual([frame.stream_id for frame in frames], [1, 1, 1, 3])
        peer.send(update(5, "u=1"))
        self.assertEqual(await self.order(peer), [5, 5, 5, 3, 3, 3])

    async def test_update_before_the_request(self) -> None:
        """RFC 9218 section 7: it may overtake the request, and counts more than its field."""
        peer = await Peer.of_server(settings={SettingCodes.INITIAL_WINDOW_SIZE: 1_000_000})
        peer.send(update(3, "u=0"))
        for stream_id in (1, 3):
            peer.request(stream_id, [*REQUEST, ("priority", "u=2")])
        peer.protocol.pause_writing()
        for _ in range(2):
            stream = await anext(peer.protocol)
            await stream.start_response(RESPONSE)
            self.start(stream.send_data(bytes(20_000), end_stream=True))
        await settle()
        self.assertEqual(await self.order(peer), [3, 3, 1, 1])

    async def test_updates_for_what_never_comes_are_bounded(self) -> None:
        peer = await Peer.of_server(control_budget=None)
        for stream_id in range(1, 20_001, 2):
            peer.send(update(stream_id, "u=0"))
        await settle()
        urgencies = peer.protocol._driver.priorities.urgencies
        assert urgencies is not None
        self.assertLessEqual(len(urgencies), urgencies.SIGNALS)
        self.assertFalse(peer.protocol.is_closing)

    async def test_update_of_what_is_over_is_ignored(self) -> None:
        peer = await Peer.of_server()
        peer.request(1)
        stream = await anext(peer.protocol)
        await stream.start_response(RESPONSE, end_stream=True)
        await settle()
        peer.send(update(1, "u=0"))
        await settle()
        self.assertIsNone(peer.protocol._driver.priorities.urgencies)

    async def test_by_the_application(self) -> None:
        peer, streams = await self.serving(None, None, None)
        streams[2].set_priority(Priority(urgency=0))
        peer.protocol.set_priority(1, Priority(urgency=7))
        self.assertEqual(await self.order(peer), [5, 5, 5, 3, 3, 3, 1, 1, 1])
        self.assertEqual(await peer.frames(ExtensionFrame), [])

    async def test_signals_of_rfc_7540_are_ignored_from_then_on(self) -> None:
        above = PriorityFrame(3, depends_on=0, stream_weight=255, exclusive=True)
        for settings, fields in (
            ({NO_RFC7540_PRIORITIES: 1}, (None, None)),
            ({}, ("u=3", None)),
        ):
            with self.subTest(settings=settings):
                peer, _ = await self.serving(*fields, settings=settings)
                peer.send(above)
                peer.protocol.reprioritize(3, weight=256, exclusive=True)
                self.assertEqual(await self.order(peer), [1, 1, 1, 3, 3, 3])
        peer, _ = await self.serving(None, None, settings={NO_RFC7540_PRIORITIES: 0})
        peer.send(above)
        self.assertEqual(await self.order(peer), [3, 3, 3, 1, 1, 1])

    async def test_a_late_urgent_stream_overtakes(self) -> None:
        """What was framed before it is a share and a frame at most."""
        size = 4_000_000
        peer = await Peer.of_server(settings={SettingCodes.INITIAL_WINDOW_SIZE: size})
        peer.window(0, 2 * size)
        for stream_id, field in ((1, "u=5"), (3, "u=0")):
            peer.request(stream_id, [*REQUEST, ("priority", field)])
        bulk, urgent = [await anext(peer.protocol) for _ in range(2)]
        await bulk.start_response(RESPONSE)
        await urgent.start_response(RESPONSE)
        self.start(bulk.send_data(bytes(size), end_stream=True))
        await settle(2)
        await peer.frames()
        before = 0

        async def send() -> None:
            nonlocal before
            before = len(peer.transport.written)
            await urgent.send_data(b"u" * 30_000, end_stream=True)

        self.start(send())
        await settle(5)
        at = bytes(peer.transport.written).index(b"u" * 16_384, before)
        self.assertLess(at - before, 65_536 + 16_384 + 1_024)
        self.assertGreater(before, 0)


class TestErrors(PriorityCase):
    async def code(self, peer: Peer, *frames: Frame) -> int:
        peer.send(*frames)
        (goaway,) = await peer.frames(GoAwayFrame)
        return int(goaway.error_code)

    async def test_malformed_updates(self) -> None:
        for frame, code in (
            (update(1, "u=1", on=1), ErrorCodes.PROTOCOL_ERROR),
            (update(0, "u=1"), ErrorCodes.PROTOCOL_ERROR),
            (update(2, "u=1"), ErrorCodes.PROTOCOL_ERROR),
            (extension(b"123"), ErrorCodes.FRAME_SIZE_ERROR),
        ):
            with self.subTest(frame=frame):
                peer = await Peer.of_server()
                peer.request(1)
                self.assertEqual(await self.code(peer, frame), code)

    async def test_malformed_fields_mean_nothing(self) -> None:
        peer, _ = await self.serving("u=1", "u=1")
        peer.send(update(1, b"\xff\xff"), update(3, "u=9"))
        self.assertEqual(await self.order(peer), [1, 1, 1, 3, 3, 3])

    async def test_a_server_must_not_send_any(self) -> None:
        peer = await Peer.of_client()
        self.assertEqual(await self.code(peer, update(1, "u=1")), ErrorCodes.PROTOCOL_ERROR)

    async def test_the_setting_is_a_boolean(self) -> None:
        peer = await Peer.of_server(settings={NO_RFC7540_PRIORITIES: 1})
        self.assertFalse(peer.protocol.is_closing)
        peer = Peer(aioh2.H2Protocol(False))
        peer.protocol.connection_made(peer.transport)
        peer.send_bytes(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        peer.send_bytes(bytes([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 2]))
        (goaway,) = await peer.frames(GoAwayFrame)
        self.assertEqual(goaway.error_code, ErrorCodes.PROTOCOL_ERROR)

    async def test_other_unknown_frames_are_ignored(self) -> None:
        peer = await Peer.of_server()
        frame = ExtensionFrame(0x77, 0)
        frame.parse_body(memoryview(b"abc"))
        peer.send(frame)
        await settle()
        self.assertFalse(peer.protocol.is_closing)


class TestClient(PriorityCase):
    async def field(self, peer: Peer) -> list[str]:
        (frame,) = await peer.frames(HeadersFrame)
        return [value for name, value in frame.headers if name == "priority"]

    async def test_field(self) -> None:
        for priority, text in (
            (Priority(urgency=1, incremental=True), "u=1, i"),
            (Priority(), "u=3"),
            (None, None),
        ):
            with self.subTest(priority=priority):
                peer = await Peer.of_client()
                stream = await peer.protocol.open_stream({":path": "/"}, priority=priority)
                self.assertEqual(await self.field(peer), [text] if text else [])
                self.assertIn((":path", "/"), stream.request_headers)
                await peer.protocol.start_request([(":path", "/")], priority=priority)
                self.assertEqual(await self.field(peer), [text] if text else [])

    async def test_not_twice(self) -> None:
        peer = await Peer.of_client()
        for headers in ({"priority": "u=1"}, [(b"priority", b"u=1")]):
            with self.assertRaisesRegex(ValueError, "priority"):
                await peer.protocol.open_stream(headers, priority=Priority())
        with self.assertRaisesRegex(TypeError, "Priority"):
            await peer.protocol.open_stream({}, priority="u=1")  # type: ignore[arg-type]
        self.assertEqual(await peer.frames(HeadersFrame), [])

    async def test_update(self) -> None:
        peer = await Peer.of_client()
        stream = await peer.protocol.open_stream({})
        stream.set_priority(Priority(urgency=6))
        stream.set_priority(Priority())
        frames = await peer.frames(ExtensionFrame)
        self.assertEqual([frame.type for frame in frames], [PRIORITY_UPDATE] * 2)
        self.assertEqual([frame.stream_id for frame in frames], [0, 0])
        self.assertEqual([frame.body for frame in frames], [b"\0\0\0\x01u=6", b"\0\0\0\x01u=3"])

    async def test_update_of_what_is_over(self) -> None:
        peer = await Peer.of_client()
        stream = await peer.protocol.open_stream({}, end_stream=True)
        peer.respond(1, end=True)
        await settle()
        stream.set_priority(Priority(urgency=6))
        self.assertEqual(await peer.frames(ExtensionFrame), [])
        with self.assertRaises(aioh2.StreamClosed):
            peer.protocol.set_priority(3, Priority())
        with self.assertRaises(TypeError):
            stream.set_priority(6)  # type: ignore[arg-type]
        peer.protocol.close_connection()
        late = await Peer.of_client()
        stream = await late.protocol.open_stream({})
        late.lose()
        await settle()
        stream.set_priority(Priority(urgency=6))

    async def test_a_server_reads_what_a_client_sends(self) -> None:
        """Own uploads go by urgency, too."""
        peer = await Peer.of_client(settings={SettingCodes.INITIAL_WINDOW_SIZE: 1_000_000})
        post = {":method": "POST"}
        late = await peer.protocol.open_stream(post, priority=Priority(urgency=6))
        soon = await peer.protocol.open_stream(post, priority=Priority(urgency=1))
        peer.protocol.pause_writing()
        for stream in (late, soon):
            self.start(stream.send_data(bytes(20_000), end_stream=True))
        await settle()
        self.assertEqual(await self.order(peer), [3, 3, 1, 1])


class TestTree(Timed):
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
        peer = await Peer.of_server(settings={SettingCodes.INITIAL_WINDOW_SIZE: 10**6})
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


if __name__ == "__main__":
    unittest.main()
