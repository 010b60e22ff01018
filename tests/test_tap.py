"""``aioh2.tap``: what a watcher of frames is told, and what is made of it."""

from __future__ import annotations

import io
import json
import logging
import unittest
from typing import Any

from hpack import HeaderTuple
from hyperframe.frame import (
    AltSvcFrame,
    ContinuationFrame,
    DataFrame,
    ExtensionFrame,
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
import aioh2.tap
from aioh2.connection import Connection
from aioh2.tap import FrameEvent, describe, json_lines

from .wire import POST, REQUEST, RESPONSE, Case, Peer, settle

FIELDS = [(name.encode(), value.encode()) for name, value in REQUEST]
SECRETS = [
    ("authorization", "Bearer hush"),
    ("proxy-authorization", "Basic hush"),
    ("cookie", "a=hush"),
    ("set-cookie", "a=hush"),
    ("Cookie", "a=hush"),
]


def extension(kind: int, body: bytes, stream_id: int = 0, flags: int = 0) -> ExtensionFrame:
    frame = ExtensionFrame(kind, stream_id, flag_byte=flags)
    frame.parse_body(memoryview(body))
    frame.body_len = len(body)
    return frame


class Watched(Case):
    """A connection with a tap."""

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.events: list[FrameEvent] = []

    async def client(self, **options: Any) -> Peer:
        peer = await Peer.of_client(**options)
        self.remove = peer.protocol.tap(self.events.append)
        return peer

    async def server(self, **options: Any) -> Peer:
        peer = await Peer.of_server(**options)
        self.remove = peer.protocol.tap(self.events.append)
        return peer

    def passed(self) -> list[tuple[str, str]]:
        """Which frames have passed, and what the log says of each."""
        return [
            (event.direction, describe(event.frame, event.headers, secrets=True))
            for event in self.events
        ]


class TestEvents(Watched):
    async def test_both_directions_in_order(self) -> None:
        peer = await self.server()
        peer.request(1, POST, end=False)
        peer.data(1, b"hello", end=True)
        await peer.protocol.start_response(1, RESPONSE)
        await peer.protocol.send_data(1, b"bye", end_stream=True)
        self.assertEqual(
            self.passed(),
            [
                (
                    "received",
                    "HEADERS stream 1, :method POST, :scheme http, :authority a.test, :path /",
                ),
                ("received", "DATA stream 1, 5 bytes, END_STREAM"),
                ("sent", "HEADERS stream 1, :status 200"),
                ("sent", "DATA stream 1, 3 bytes, END_STREAM"),
            ],
        )
        self.assertEqual(self.events[1].frame.data, b"hello")  # type: ignore[attr-defined]

    async def test_what_answers_a_frame_comes_after_it(self) -> None:
        peer = await self.server(concurrency=1)
        peer.request(1)
        peer.request(3)
        peer.send(PingFrame(0, b"12345678"))
        self.assertEqual(
            [(direction, text.split(",")[0]) for direction, text in self.passed()[1:]],
            [
                ("received", "HEADERS stream 3"),
                ("sent", "RST_STREAM stream 3"),
                ("received", "PING 3132333435363738"),
                ("sent", "PING ACK"),
            ],
        )

    async def test_from_the_first_frame_on(self) -> None:
        events = self.events

        class Mine(aioh2.H2Protocol):
            def __init__(self, *args: Any, **options: Any) -> None:
                super().__init__(*args, **options)
                self.tap(events.append)

        await Peer.of_client(kind=Mine)
        self.assertEqual(
            [text.split()[0] for direction, text in self.passed() if direction == "sent"],
            ["SETTINGS", "WINDOW_UPDATE", "SETTINGS"],
        )

    async def test_time_and_connection(self) -> None:
        with self.assertLogs("aioh2.client", "DEBUG") as logs:
            peer = await self.client()
            names = {record.getMessage().split()[0] for record in logs.records}
        loop = peer.protocol._driver._loop
        assert loop is not None
        before = loop.time()
        await peer.protocol.start_request(REQUEST)
        (event,) = self.events
        self.assertEqual({f"[{event.connection}]"}, names)
        self.assertGreaterEqual(event.time, before)
        self.assertLessEqual(event.time, loop.time())

    async def test_length_is_that_on_the_wire(self) -> None:
        """With padding, and with what CONTINUATION brought."""
        peer = await self.server()
        block = peer.encoder.encode(POST)
        peer.send(
            HeadersFrame(1, block[:1], flags=["PADDED"], pad_length=9),
            ContinuationFrame(1, block[1:], flags=["END_HEADERS"]),
        )
        padded = DataFrame(1, b"hello", flags=["PADDED"], pad_length=4)
        peer.send(padded)
        lengths = [event.frame.body_len for event in self.events]
        self.assertEqual(lengths, [len(block) + 10, 10])
        self.assertEqual(self.events[0].headers, POST)

    async def test_sent_block_in_pieces(self) -> None:
        peer = await self.client()
        value = "x" * 20_000
        await peer.protocol.start_request([*REQUEST, ("long", value)])
        first, second = self.events
        assert first.headers is not None
        self.assertIn(("long", value), first.headers)
        self.assertIsInstance(second.frame, ContinuationFrame)
        self.assertIsNone(second.headers)

    async def test_headers_as_the_application_gets_them(self) -> None:
        field = (b"x-octets", b"\xc3\xa9\xff")
        for encoding, expected in (
            ("utf-8", ("x-octets", "\xe9\udcff")),
            ("latin-1", ("x-octets", "\xc3\xa9\xff")),
            (None, field),
        ):
            with self.subTest(encoding):
                self.events.clear()
                peer = await self.server(header_encoding=encoding)
                peer.send(
                    HeadersFrame(
                        1,
                        peer.encoder.encode([*FIELDS, field]),
                        flags=["END_HEADERS", "END_STREAM"],
                    )
                )
                assert self.events[0].headers is not None
                self.assertEqual(self.events[0].headers[-1], expected)

    async def test_malformed_headers_are_shown(self) -> None:
        peer = await self.server()
        peer.request(1, [*REQUEST, ("connection", "close")])
        received, sent = self.events
        assert received.headers is not None
        self.assertIn(("connection", "close"), received.headers)
        self.assertIsInstance(sent.frame, RstStreamFrame)

    async def test_block_that_cannot_be_decoded(self) -> None:
        peer = await self.server()
        peer.send(HeadersFrame(1, b"\xff\xff\xff\xff", flags=["END_HEADERS"]))
        received, sent = self.events
        self.assertIsNone(received.headers)
        self.assertEqual(describe(received.frame), "HEADERS stream 1, not decoded")
        self.assertEqual(describe(sent.frame), "GOAWAY last stream 0, COMPRESSION_ERROR")

    async def test_refused_by_its_first_bytes(self) -> None:
        peer = await self.server()
        peer.send_bytes(b"\xff\xff\xff\x00\x00\x00\x00\x00\x01")
        self.assertEqual(self.passed(), [("sent", "GOAWAY last stream 0, FRAME_SIZE_ERROR")])

    async def test_push_sent(self) -> None:
        peer = await self.server()
        peer.request(1)
        self.events.clear()
        await peer.protocol.push_stream(1, [*REQUEST[:-1], (":path", "/style.css")])
        (event,) = self.events
        assert event.headers is not None
        self.assertIn((":path", "/style.css"), event.headers)
        self.assertIn("promises stream 2", describe(event.frame))

    async def test_push_received(self) -> None:
        peer = await self.client(enable_push=True)
        await peer.protocol.start_request(REQUEST)
        self.events.clear()
        peer.send(peer.promise(1, 2))
        self.assertEqual(self.events[0].headers, REQUEST)

    async def test_state_of_compression_is_not_disturbed(self) -> None:
        """With a tap that comes and goes, both sides still agree on the table."""
        peer = await self.client()
        for number in range(6):
            if number % 2:
                self.remove()
            else:
                self.remove = peer.protocol.tap(self.events.append)
            stream_id = await peer.protocol.start_request([*REQUEST, ("number", f"{number // 2}")])
            (frame,) = await peer.frames(HeadersFrame)
            self.assertIn(("number", f"{number // 2}"), frame.headers)
            peer.respond(stream_id, [*RESPONSE, ("number", f"{number // 2}")])
            headers = await peer.protocol.recv_response(stream_id)
            self.assertIn(("number", f"{number // 2}"), headers)


class TestTaps(Watched):
    async def test_removing(self) -> None:
        peer = await self.client()
        other: list[FrameEvent] = []
        remove_other = peer.protocol.tap(other.append)
        twice = peer.protocol.tap(other.append)
        peer.send(PingFrame(0, bytes(8), flags=["ACK"]))
        self.assertEqual((len(self.events), len(other)), (1, 2))
        self.remove()
        self.remove()
        peer.send(PingFrame(0, bytes(8), flags=["ACK"]))
        self.assertEqual((len(self.events), len(other)), (1, 4))
        twice()
        peer.send(PingFrame(0, bytes(8), flags=["ACK"]))
        self.assertEqual(len(other), 5)
        remove_other()
        peer.send(PingFrame(0, bytes(8), flags=["ACK"]))
        self.assertEqual(len(other), 5)

    async def test_without_any_frames_need_no_objects(self) -> None:
        peer = await Peer.of_server()
        connection = peer.protocol._driver.connection
        self.assertIsNone(connection.frame_log)
        remove = peer.protocol.tap(self.events.append)
        self.assertIsNotNone(connection.frame_log)
        remove()
        self.assertIsNone(connection.frame_log)

    async def test_a_failing_one_is_removed_and_disturbs_nothing(self) -> None:
        calls: list[FrameEvent] = []

        def fail(event: FrameEvent) -> None:
            calls.append(event)
            raise RuntimeError("not today")

        peer = await self.server()
        remove = peer.protocol.tap(fail)
        with self.assertLogs("aioh2.server", "ERROR") as logs:
            peer.request(1)
            peer.send(PingFrame(0, bytes(8)))
        (record,) = logs.records
        self.assertIn("tap", record.getMessage())
        assert record.exc_info is not None
        self.assertIsInstance(record.exc_info[1], RuntimeError)
        self.assertEqual((len(calls), len(self.events)), (1, 3))
        self.assertEqual((await peer.protocol.recv_request())[0], 1)
        self.assertFalse(peer.protocol.is_closing)
        remove()

    async def test_a_failing_one_alone(self) -> None:
        for fails_on in ("received", "sent"):
            with self.subTest(fails_on), self.assertLogs("aioh2.server", "ERROR"):
                peer = await Peer.of_server()

                def fail(event: FrameEvent, direction: str = fails_on) -> None:
                    if event.direction == direction:
                        raise RuntimeError

                peer.protocol.tap(fail)
                peer.request(1)
                await peer.protocol.start_response(1, RESPONSE, end_stream=True)
                self.assertEqual(len(await peer.frames(HeadersFrame)), 1)
                self.assertIsNone(peer.protocol._driver.connection.frame_log)

    async def test_one_that_removes_itself(self) -> None:
        peer = await self.server()

        def once(event: FrameEvent) -> None:
            remove()

        remove = peer.protocol.tap(once)
        self.remove()
        peer.request(1)
        peer.data(99)
        self.assertEqual(self.events, [])

    async def test_what_cannot_be_called(self) -> None:
        with self.assertRaisesRegex(TypeError, "callback must be callable, not 1"):
            (await self.server()).protocol.tap(1)  # type: ignore[arg-type]

    async def test_event_cannot_be_changed(self) -> None:
        peer = await self.server()
        peer.send(PingFrame(0, bytes(8)))
        with self.assertRaises(AttributeError):
            self.events[0].time = 1.0  # type: ignore[misc]

    def test_fields_given_in_an_iterator(self) -> None:
        """Of h2's interface, which takes any iterable."""
        log: list[Any] = []
        made = Connection()
        made.initiate_connection()
        server = Connection(aioh2.connection.H2Configuration(client_side=False))
        server.frame_log = lambda *frame: log.append(frame)
        server.initiate_connection()
        made.send_headers(1, FIELDS, end_stream=True)
        server.receive(made.data_to_send())
        log.clear()
        server.push_stream(1, 2, iter(FIELDS))
        ((direction, _, fields),) = log
        self.assertEqual((direction, fields), (">", tuple(FIELDS)))


#: Frames, what the log says of them, and what JSON has beyond what all frames have.
FRAMES: list[tuple[Frame, str, dict[str, Any]]] = [
    (DataFrame(1, b"hello", flags=["END_STREAM"]), "DATA stream 1, 5 bytes, END_STREAM", {}),
    (
        HeadersFrame(1, b"", depends_on=3, stream_weight=15, flags=["PRIORITY", "END_HEADERS"]),
        "HEADERS stream 1, depends on 3, weight 16, :method GET, :scheme http, "
        ":authority a.test, :path /",
        {
            "priority": {"depends_on": 3, "weight": 16, "exclusive": False},
            "headers": [[*field] for field in REQUEST],
        },
    ),
    (
        PriorityFrame(3, depends_on=1, stream_weight=255, exclusive=True),
        "PRIORITY stream 3, depends on 1, weight 256, exclusive",
        {"priority": {"depends_on": 1, "weight": 256, "exclusive": True}},
    ),
    (RstStreamFrame(1, 8), "RST_STREAM stream 1, CANCEL", {"error_code": "CANCEL"}),
    (RstStreamFrame(1, 0x99), "RST_STREAM stream 1, 0x99", {"error_code": "0x99"}),
    (
        SettingsFrame(settings={3: 100, 9: 1, 0xAB: 5}),
        "SETTINGS MAX_CONCURRENT_STREAMS 100, NO_RFC7540_PRIORITIES 1, 0xab 5",
        {"settings": {"MAX_CONCURRENT_STREAMS": 100, "NO_RFC7540_PRIORITIES": 1, "0xab": 5}},
    ),
    (SettingsFrame(flags=["ACK"]), "SETTINGS ACK", {"settings": {}}),
    (SettingsFrame(), "SETTINGS", {"settings": {}}),
    (
        PushPromiseFrame(1, 2, b"", flags=["END_HEADERS"]),
        "PUSH_PROMISE stream 1, promises stream 2, :method GET, :scheme http, "
        ":authority a.test, :path /",
        {"promised_stream_id": 2, "headers": [[*field] for field in REQUEST]},
    ),
    (PingFrame(0, b"12345678"), "PING 3132333435363738", {"opaque": "3132333435363738"}),
    (
        GoAwayFrame(0, 7, 11, b"calm\xff\n"),
        "GOAWAY last stream 7, ENHANCE_YOUR_CALM, calm\\xff\\n",
        {"last_stream_id": 7, "error_code": "ENHANCE_YOUR_CALM", "debug_data": "calm\\xff\n"},
    ),
    (
        GoAwayFrame(0, 7, 0),
        "GOAWAY last stream 7, NO_ERROR",
        {"last_stream_id": 7, "error_code": "NO_ERROR", "debug_data": ""},
    ),
    (WindowUpdateFrame(0, 5), "WINDOW_UPDATE connection, 5 bytes", {"increment": 5}),
    (WindowUpdateFrame(3, 5), "WINDOW_UPDATE stream 3, 5 bytes", {"increment": 5}),
    (ContinuationFrame(1, b"abc", flags=["END_HEADERS"]), "CONTINUATION stream 1", {}),
    (
        AltSvcFrame(0, b"https://a.test", b'h2=":443"'),
        'ALTSVC https://a.test, h2=":443"',
        {"origin": "https://a.test", "field": 'h2=":443"'},
    ),
    (
        extension(0x10, b"\x80\0\0\x05u=1"),
        "PRIORITY_UPDATE of stream 5, u=1",
        {"prioritized_stream_id": 5, "field": "u=1"},
    ),
    (
        extension(0x0C, b"\0\x10https://one.test\0\x10https://two.test"),
        "ORIGIN https://one.test, https://two.test",
        {"origins": ["https://one.test", "https://two.test"]},
    ),
    (extension(0x0C, b"\0\x10half"), "ORIGIN half", {"origins": ["half"]}),
    (extension(0xFA, b"abc", 3, 0x81), "0xfa stream 3, 3 bytes, 0x81", {}),
    (extension(0xFA, b""), "0xfa 0 bytes", {}),
]


class TestLines(unittest.TestCase):
    def event(self, frame: Frame, headers: Any = None) -> FrameEvent:
        # its length is known once it is written
        frame.serialize()
        return FrameEvent(12.5, "sent", "c1", frame, headers)

    def lines(self, *events: FrameEvent, **options: Any) -> list[dict[str, Any]]:
        file = io.StringIO()
        write = json_lines(file, **options)
        for event in events:
            write(event)
        return [json.loads(line) for line in file.getvalue().splitlines()]

    def test_log(self) -> None:
        for frame, expected, _ in FRAMES:
            with self.subTest(expected):
                headers = REQUEST if isinstance(frame, HeadersFrame | PushPromiseFrame) else None
                frame.serialize()
                self.assertEqual(describe(frame, headers), expected)

    def test_json(self) -> None:
        for frame, text, expected in FRAMES:
            with self.subTest(text):
                headers = REQUEST if isinstance(frame, HeadersFrame | PushPromiseFrame) else None
                (line,) = self.lines(self.event(frame, headers))
                self.assertEqual(
                    {"time": line.pop("time"), "connection": line.pop("connection")},
                    {"time": 12.5, "connection": "c1"},
                )
                line.pop("wall")
                self.assertEqual(line.pop("direction"), "sent")
                self.assertEqual(line.pop("type"), text.split()[0])
                self.assertEqual(line.pop("stream_id"), frame.stream_id)
                self.assertEqual(line.pop("length"), len(frame.serialize()) - 9)
                flags = line.pop("flags")
                if not isinstance(frame, ExtensionFrame):
                    self.assertEqual(flags, sorted(frame.flags))
                self.assertEqual(line, expected)

    def test_flags_of_unknown_frames(self) -> None:
        with_flags, without = self.lines(
            self.event(extension(0xFA, b"", 1, 0x81)), self.event(extension(0xFA, b""))
        )
        self.assertEqual((with_flags["flags"], without["flags"]), (["0x81"], []))

    def test_content_is_not_written(self) -> None:
        (line,) = self.lines(self.event(DataFrame(1, b"hello")))
        self.assertNotIn("hello", json.dumps(line))

    def test_wall_time(self) -> None:
        first, second = (self.event(PingFrame(0, bytes(8))) for _ in range(2))
        second = FrameEvent(13.5, "sent", "c1", second.frame, None)
        before, after = self.lines(first, second)
        # of the last minute
        self.assertLess(abs(before["wall"] - aioh2.tap.clocks.time()), 60)
        self.assertAlmostEqual(after["wall"] - before["wall"], 1, places=3)

    def test_settings_as_they_came(self) -> None:
        frame = SettingsFrame(settings={3: 7})
        frame.entries = [(3, 5), (3, 7)]  # type: ignore[attr-defined]
        (line,) = self.lines(self.event(frame))
        self.assertEqual(line["settings"], {"MAX_CONCURRENT_STREAMS": 7})

    def test_not_decoded(self) -> None:
        (line,) = self.lines(self.event(HeadersFrame(1, b"\xff")))
        self.assertIsNone(line["headers"])

    def test_secrets(self) -> None:
        frame = HeadersFrame(1, b"")
        for headers in (SECRETS, [(name.encode(), value.encode()) for name, value in SECRETS]):
            with self.subTest(headers):
                event = self.event(frame, headers)
                (line,) = self.lines(event)
                self.assertEqual(line["headers"], [[name, "..."] for name, _ in SECRETS])
                self.assertNotIn("hush", describe(frame, headers))
                self.assertIn("cookie ..., ", describe(frame, headers))
                (line,) = self.lines(event, secrets=True)
                self.assertEqual(line["headers"], [[*field] for field in SECRETS])
                self.assertIn("cookie a=hush", describe(frame, headers, secrets=True))

    def test_octets_survive(self) -> None:
        headers = [(b"name", b"\xff\xc3\xa9")]
        (line,) = self.lines(self.event(HeadersFrame(1, b""), headers))
        ((_, value),) = line["headers"]
        self.assertEqual(value.encode("utf-8", "surrogateescape"), b"\xff\xc3\xa9")

    def test_no_line_is_begun_by_a_peer(self) -> None:
        headers = [("evil\r\n", "\n[c1] < HEADERS\x1b[31m\x85\u2028\udcff \xe9")]
        text = describe(HeadersFrame(1, b""), headers)
        self.assertEqual(
            text,
            "HEADERS stream 1, evil\\r\\n \\n[c1] < HEADERS\\x1b[31m\\x85\\u2028\\udcff \xe9",
        )

    def test_long_values_are_cut(self) -> None:
        headers = [("long", "x" * 300), ("empty", "")]
        text = describe(HeadersFrame(1, b""), headers)
        self.assertEqual(text, f"HEADERS stream 1, long {'x' * 200}... (300 characters), empty")


class TestLog(Watched):
    async def test_secrets_are_not_logged(self) -> None:
        with self.assertLogs("aioh2", "DEBUG") as logs:
            peer = await self.client()
            stream_id = await peer.protocol.start_request([*REQUEST, *SECRETS[:3]])
            peer.respond(stream_id, [*RESPONSE, SECRETS[3]], end=True)
            await settle()
        text = "\n".join(record.getMessage() for record in logs.records)
        self.assertNotIn("hush", text)
        self.assertIn("authorization ..., proxy-authorization ..., cookie ...", text)
        self.assertIn("< HEADERS stream 1, END_STREAM, :status 200, set-cookie ...", text)

    async def test_above_debug_nothing_is_watched(self) -> None:
        with self.assertLogs("aioh2", "INFO") as logs:
            peer = await Peer.of_client()
            logging.getLogger("aioh2").info("something")
        self.assertIsNone(peer.protocol._driver.connection.frame_log)
        self.assertEqual(len(logs.records), 1)

    async def test_fields_of_any_kind(self) -> None:
        peer = await self.server(header_encoding=None)
        peer.request(1)
        await peer.protocol.start_response(1, [HeaderTuple(b":status", b"200")])
        self.assertEqual(self.events[-1].headers, [(b":status", b"200")])


if __name__ == "__main__":
    unittest.main()
