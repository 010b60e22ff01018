"""``Connection`` by itself: frames in, events and frames out, no transport and no loop.

What peers may and may not send is gone through in ``test_conformance``; here each method and
each branch has its test, and each private name of h2 that the module relies on.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import pathlib
import subprocess
import sys
import unittest
from collections.abc import Callable, Iterable
from typing import Any, Final
from unittest import mock

import h2.connection
import h2.events as events
import h2.settings
import h2.stream
import hpack
import hyperframe.frame
from h2.config import H2Configuration
from h2.connection import ConnectionInputs
from h2.errors import ErrorCodes
from h2.exceptions import (
    FlowControlError,
    NoSuchStreamError,
    ProtocolError,
    StreamClosedError,
    StreamIDTooLowError,
)
from h2.settings import SettingCodes
from h2.stream import StreamState
from hyperframe.frame import (
    DataFrame,
    HeadersFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from aioh2 import connection as module
from aioh2.config import Config
from aioh2.connection import FAST, Connection, Fast, PrefaceError, StreamFailed
from aioh2.guards import BudgetExceeded
from aioh2.machines import QuickStream

from .octets import (
    ACK,
    ALTSVC,
    CONNECT,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEAD,
    HEADERS,
    INTERIM,
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
    dependent,
    goaway,
    headers,
    literal,
    opening,
    priority,
    promise,
    raw,
    rst_stream,
    setting,
    u32,
    window_update,
)

LIMITS: Final = {
    SettingCodes.HEADER_TABLE_SIZE: 4096,
    SettingCodes.MAX_CONCURRENT_STREAMS: 100,
    SettingCodes.INITIAL_WINDOW_SIZE: 65535,
    SettingCodes.MAX_FRAME_SIZE: 16384,
    SettingCodes.MAX_HEADER_LIST_SIZE: 65536,
}


def kinds(found: Iterable[events.Event]) -> list[str]:
    return [type(event).__name__ for event in found]


class ConnectionCase(unittest.TestCase):
    """A test with connections, made and read here."""

    def make(
        self, *, client: bool, window_size: int = 65535, acked: bool = True, **limits: int
    ) -> Connection:
        """Return a connection past its greeting; ``limits``: settings by name."""
        made = self.bare(client=client)
        settings = dict(LIMITS)
        if client:
            settings[SettingCodes.ENABLE_PUSH] = 1
        settings |= {SettingCodes[name.upper()]: value for name, value in limits.items()}
        made.initiate(settings, window_size=window_size)
        greeting = setting() + (raw(SETTINGS, ACK) if acked else b"")
        made.receive((b"" if client else PREFACE) + greeting)
        made.data_to_send()
        return made

    def bare(self, *, client: bool) -> Connection:
        return Connection(
            H2Configuration(
                client_side=client,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )

    def server(self, **limits: Any) -> Connection:
        return self.make(client=False, **limits)

    def client(self, *requests: Fields, **limits: Any) -> Connection:
        """Return a client with these requests out, which have not ended."""
        made = self.make(client=True, **limits)
        for number, fields in enumerate(requests):
            made.send_headers(2 * number + 1, fields)
        made.data_to_send()
        return made

    def stream(self, made: Connection) -> Any:
        """Return the first stream of a client."""
        return made.streams[1]

    def written(self, made: Connection) -> list[tuple[int, int, int, bytes]]:
        return cut(made.data_to_send())

    def assert_reset(
        self, made: Connection, frames: bytes, stream_id: int, code: ErrorCodes
    ) -> list[Any]:
        """Check that the frames lead to one RST_STREAM; return the events."""
        found = made.receive(frames)
        self.assertIsNone(made.failure)
        self.assertEqual(self.written(made), [(RST_STREAM, 0, stream_id, u32(code))])
        return found

    def assert_failed(
        self,
        made: Connection,
        frames: bytes,
        code: ErrorCodes,
        error: type[ProtocolError] = ProtocolError,
        last: int | None = None,
        debug: bytes = b"",
    ) -> list[events.Event]:
        """Check that the frames lead to GOAWAY; return the events before."""
        found = made.receive(frames)
        self.assertIsInstance(made.failure, error)
        assert made.failure is not None
        self.assertEqual(made.failure.error_code, code)
        last = made.highest_inbound_stream_id if last is None else last
        self.assertEqual(self.written(made)[-1], (GOAWAY, 0, 0, u32(last, code) + debug))
        return found

    def assert_ignored(self, made: Connection, frames: bytes) -> None:
        self.assertEqual(made.receive(frames), [])
        self.assertIsNone(made.failure)
        self.assertEqual(self.written(made), [])


# --- opening and receiving -----------------------------------------------------------------


class TestInitiate(ConnectionCase):
    def test_client(self) -> None:
        made = self.bare(client=True)
        made.initiate(LIMITS | {SettingCodes.ENABLE_PUSH: 0}, window_size=100_000)
        octets = made.data_to_send()
        self.assertTrue(octets.startswith(PREFACE))
        first, second = cut(octets)
        self.assertEqual(first[:3], (SETTINGS, 0, 0))
        self.assertEqual(len(first[3]), 36)
        self.assertEqual(second, (WINDOW_UPDATE, 0, 0, u32(100_000 - 65535)))

    def test_server(self) -> None:
        made = self.bare(client=False)
        made.initiate(LIMITS, window_size=65535)
        octets = made.data_to_send()
        self.assertEqual([frame[0] for frame in cut(octets)], [SETTINGS])
        self.assertFalse(octets.startswith(PREFACE))

    def test_what_holds_at_once(self) -> None:
        limits = {
            SettingCodes.MAX_CONCURRENT_STREAMS: 3,
            SettingCodes.MAX_HEADER_LIST_SIZE: 500,
            SettingCodes.ENABLE_CONNECT_PROTOCOL: 1,
        }
        made = self.bare(client=False)
        made.initiate(LIMITS | limits, window_size=65535)
        for code, value in limits.items():
            self.assertEqual(made.local_settings[code], value)
        self.assertEqual(made.decoder.max_header_list_size, 500)

    def test_what_holds_from_the_ack(self) -> None:
        limits = {
            SettingCodes.HEADER_TABLE_SIZE: 100,
            SettingCodes.INITIAL_WINDOW_SIZE: 1000,
            SettingCodes.MAX_FRAME_SIZE: 20000,
        }
        made = self.bare(client=False)
        made.initiate(LIMITS | limits, window_size=65535)
        made.receive(PREFACE + setting())
        for code in limits:
            self.assertEqual(made.local_settings[code], LIMITS[code])
        self.assertEqual(made.max_inbound_frame_size, 16384)
        self.assertEqual(made.decoder.max_allowed_table_size, 4096)
        made.receive(raw(SETTINGS, ACK))
        for code, value in limits.items():
            self.assertEqual(made.local_settings[code], value)
        self.assertEqual(made.max_inbound_frame_size, 20000)
        self.assertEqual(made.decoder.max_allowed_table_size, 100)


class TestUpdateSettings(ConnectionCase):
    WINDOW: Final = SettingCodes.INITIAL_WINDOW_SIZE

    def test_each_ack_applies_the_oldest(self) -> None:
        made = self.server(acked=False)
        self.assertFalse(made.was_acked)
        made.receive(raw(SETTINGS, ACK))
        self.assertTrue(made.was_acked)
        made.update_settings({self.WINDOW: 10})
        made.update_settings({SettingCodes.MAX_FRAME_SIZE: 20000})
        made.update_settings({self.WINDOW: 30})
        values = []
        for _ in range(4):
            values.append((made.local_settings[self.WINDOW], made.max_inbound_frame_size))
            made.receive(raw(SETTINGS, ACK))
        self.assertEqual(values, [(65535, 16384), (10, 16384), (10, 20000), (30, 20000)])

    def test_the_first_acknowledgement_is_of_the_first_settings(self) -> None:
        made = Connection(H2Configuration(client_side=False))
        made.initiate_connection()
        made.update_settings({self.WINDOW: 10})
        made.receive(PREFACE + setting())
        for size in (65535, 10):
            found = made.receive(raw(SETTINGS, ACK))
            self.assertEqual(kinds(found), ["SettingsAcknowledged"])
            self.assertEqual(made.local_settings[self.WINDOW], size)

    def test_what_was_set_without_a_frame_holds_from_the_last_acknowledgement_on(self) -> None:
        made = Connection(H2Configuration(client_side=True))
        made.initiate_connection()
        made.local_settings.enable_push = 0
        made.receive(setting() + raw(SETTINGS, ACK))
        self.assertEqual(made.local_settings.enable_push, 0)

    def test_changes_are_told(self) -> None:
        made = self.server()
        made.update_settings({self.WINDOW: 10})
        (event,) = made.receive(raw(SETTINGS, ACK))
        assert isinstance(event, events.SettingsAcknowledged)
        change = event.changed_settings[self.WINDOW]
        self.assertEqual((change.original_value, change.new_value), (65535, 10))

    def test_ack_of_nothing(self) -> None:
        made = self.server()
        self.assert_ignored(made, raw(SETTINGS, ACK))
        made.update_settings({self.WINDOW: 10})
        self.assertEqual(kinds(made.receive(raw(SETTINGS, ACK) * 2)), ["SettingsAcknowledged"])
        self.assertEqual(made.local_settings[self.WINDOW], 10)

    def test_empty(self) -> None:
        made = self.server()
        made.update_settings({})
        made.update_settings({self.WINDOW: 10})
        made.receive(raw(SETTINGS, ACK))
        self.assertEqual(made.local_settings[self.WINDOW], 65535)
        made.receive(raw(SETTINGS, ACK))
        self.assertEqual(made.local_settings[self.WINDOW], 10)

    def test_for_good(self) -> None:
        """RFC 8441 section 3, RFC 9218 section 2.1."""
        connect = int(SettingCodes.ENABLE_CONNECT_PROTOCOL)
        made = self.server()
        made.check_settings({connect: 0, 9: 0})
        made.update_settings({connect: 1})
        made.check_settings({connect: 1})
        for wrong in ({connect: 0}, {9: 1}):
            with self.assertRaisesRegex(ValueError, "RFC"):
                made.check_settings(wrong)
        made = self.client()
        made.receive(setting((connect, 0)) + setting((connect, 1)) + setting((connect, 1)))
        self.assert_failed(made, setting((connect, 0)), ErrorCodes.PROTOCOL_ERROR)

    def test_unknown_setting(self) -> None:
        made = self.server()
        made.update_settings({0x99: 7})
        self.assertEqual(self.written(made), cut(setting((0x99, 7))))
        made.receive(raw(SETTINGS, ACK))
        self.assertEqual(made.local_settings[0x99], 7)

    def test_sizes_in_force(self) -> None:
        made = self.server()
        self.assertEqual((made.receive_window_size, made.max_list_size), (65535, None))
        made.update_settings({self.WINDOW: 10})
        self.assertEqual(made.receive_window_size, 65535)
        made.receive(raw(SETTINGS, ACK) + setting((6, 500)))
        self.assertEqual((made.receive_window_size, made.max_list_size), (10, 500))

    def test_setting_of_two_octets(self) -> None:
        """It must not go out as the setting of its lower octet."""
        made = self.server()
        made.update_settings({0x1104: 7})
        self.assertEqual(self.written(made), cut(setting((0x1104, 7))))

    def test_open_streams_get_the_difference(self) -> None:
        made = self.server()
        made.receive(opening(1))
        made.update_settings({self.WINDOW: 100})
        made.receive(data(1, b"x" * 10) + raw(SETTINGS, ACK))
        self.assertEqual(made.streams[1].inbound_flow_control_window, 90)


class TestReceive(ConnectionCase):
    def test_nothing(self) -> None:
        self.assert_ignored(self.server(), b"")

    def test_whatever_holds_octets(self) -> None:
        for kind in (bytes, bytearray, memoryview):
            octets: Any = kind(headers(1))
            found = self.server().receive(octets)
            self.assertEqual(kinds(found), ["RequestReceived", "StreamEnded"])

    def test_events_before_a_failure_are_kept(self) -> None:
        made = self.server()
        found = self.assert_failed(made, headers(1) + data(99), ErrorCodes.PROTOCOL_ERROR, last=1)
        self.assertEqual(kinds(found), ["RequestReceived", "StreamEnded"])

    def test_nothing_after_a_failure(self) -> None:
        made = self.server()
        made.receive(data(99) + headers(1))
        self.assertEqual(len(self.written(made)), 1)
        self.assert_unheard(made)

    def assert_unheard(self, made: Connection) -> None:
        failure = made.failure
        self.assertEqual(made.receive(setting() + headers(3) + data(99)), [])
        self.assertIs(made.failure, failure)
        self.assertEqual(made.data_to_send(), b"")

    def test_nothing_after_a_bad_preface(self) -> None:
        made = self.bare(client=False)
        made.initiate(LIMITS, window_size=65535)
        made.data_to_send()
        self.assertEqual(made.receive(b"GET / HTTP/1.1\r\n"), [])
        self.assertIsInstance(made.failure, PrefaceError)
        self.assertEqual(self.written(made), cut(goaway(0, ErrorCodes.PROTOCOL_ERROR)))
        self.assert_unheard(made)

    def test_output_before_a_failure_is_kept(self) -> None:
        made = self.server()
        made.receive(setting() + raw(PING, 0, 0, b"12345678") + data(99))
        self.assertEqual([frame[0] for frame in self.written(made)], [SETTINGS, PING, GOAWAY])

    def test_stream_error_in_between(self) -> None:
        made = self.server()
        bad = window_update(1, 0) + raw(PRIORITY, 0, 1, b"")
        found = made.receive(opening(1) + bad + headers(3))
        self.assertEqual(
            kinds(found), ["RequestReceived", "StreamFailed", "RequestReceived", "StreamEnded"]
        )

    def test_receive_data_raises_once(self) -> None:
        """As h2's does."""
        made = self.server()
        self.assertEqual(kinds(made.receive_data(opening(1))), ["RequestReceived"])
        with self.assertRaises(ProtocolError) as caught:
            made.receive_data(data(99))
        self.assertIs(caught.exception, made.failure)
        self.assertEqual(made.receive_data(data(99)), [])

    def test_frame_log(self) -> None:
        log: list[tuple[str, str]] = []
        made = self.server()
        made.frame_log = lambda direction, frame, _: log.append((direction, type(frame).__name__))
        made.receive(setting() + opening(1) + data(1))
        made.send_headers(1, RESPONSE)
        self.assertEqual(
            log,
            [
                ("<", "SettingsFrame"),
                (">", "SettingsFrame"),
                ("<", "HeadersFrame"),
                ("<", "DataFrame"),
                (">", "HeadersFrame"),
            ],
        )

    def test_frame_log_has_the_fields(self) -> None:
        for given in (tuple, list, iter):
            log: list[Any] = []
            made = self.server()
            made.frame_log = lambda *logged, log=log: log.append(logged)
            made.receive(opening(1))
            made.push_stream(1, 2, given(REQUEST))
            made.send_headers(1, given(RESPONSE))
            made.receive(raw(HEADERS, END_HEADERS, 3, b"\xff\xff\xff"))
            self.assertEqual(
                [(direction, type(frame).__name__, fields) for direction, frame, fields in log],
                [
                    ("<", "HeadersFrame", tuple(POST)),
                    (">", "PushPromiseFrame", tuple(REQUEST)),
                    (">", "HeadersFrame", tuple(RESPONSE)),
                    ("<", "HeadersFrame", None),
                    (">", "GoAwayFrame", None),
                ],
            )

    def test_counts(self) -> None:
        """By type, whether frames are made into objects or not."""
        for fast in (Fast(), ALL_OFF):
            made = connection_with(fast, client=False)
            made.initiate_connection()
            made.receive(PREFACE + setting() + opening(1) + data(1) + data(1))
            made.send_headers(1, RESPONSE)
            made.send_data(1, b"abc")
            made.receive(opening(3))
            received, sent = made.frame_counts
            self.assertEqual((received[HEADERS], received[DATA]), (2, 2))
            # the ACK; h2's own greeting is none of our framing
            self.assertEqual((sent[HEADERS], sent[DATA], sent[SETTINGS]), (1, 1, 1))

    def test_refused_streams_are_counted(self) -> None:
        made = self.server(max_concurrent_streams=1)
        made.receive(opening(1) + opening(3) + opening(5) + window_update(1, 0))
        self.assertEqual(made.refused, 2)


class TestErrors(ConnectionCase):
    """Stream errors, and what they become."""

    def test_open_stream(self) -> None:
        made = self.server()
        made.receive(opening(1))
        (event,) = self.assert_reset(made, window_update(1, 0), 1, ErrorCodes.PROTOCOL_ERROR)
        assert isinstance(event, StreamFailed)
        self.assertEqual((event.stream_id, event.error_code), (1, ErrorCodes.PROTOCOL_ERROR))
        self.assertIn("zero", event.reason)
        self.assertFalse(event.remote_reset)

    def test_new_stream(self) -> None:
        made = self.server()
        found = self.assert_reset(made, opening(1, REQUEST[1:]), 1, ErrorCodes.PROTOCOL_ERROR)
        self.assertEqual(found, [])
        self.assert_ignored(made, data(1))

    def test_closed_stream(self) -> None:
        made = self.server()
        made.receive(headers(1))
        made.send_headers(1, RESPONSE, end_stream=True)
        made.data_to_send()
        found = self.assert_reset(made, raw(PRIORITY, 0, 1, b""), 1, ErrorCodes.FRAME_SIZE_ERROR)
        self.assertEqual(found, [])
        self.assert_ignored(made, data(1))

    def test_stream_that_the_peer_has_just_reset(self) -> None:
        made = self.server()
        made.receive(opening(1) + rst_stream(1))
        found = self.assert_reset(made, data(1), 1, ErrorCodes.STREAM_CLOSED)
        self.assertEqual(found, [])
        self.assert_ignored(made, data(1))

    def test_stream_that_the_peer_has_reset_before(self) -> None:
        made = self.server()
        made.receive(opening(1) + rst_stream(1) + opening(3))
        self.assert_reset(made, data(1), 1, ErrorCodes.STREAM_CLOSED)
        self.assert_ignored(made, data(1))

    def test_a_stream_is_reset_once(self) -> None:
        made = self.server()
        made.receive(opening(1))
        self.assert_reset(made, window_update(1, 0) * 2, 1, ErrorCodes.PROTOCOL_ERROR)
        made.receive(opening(3))
        self.assert_ignored(made, raw(PRIORITY, 0, 1, b""))

    def test_idle_stream(self) -> None:
        made = self.server()
        self.assert_failed(made, raw(PRIORITY, 0, 1, b""), ErrorCodes.FRAME_SIZE_ERROR)
        made = self.client()
        self.assert_failed(made, window_update(1, 0), ErrorCodes.PROTOCOL_ERROR)

    def test_beyond_goaway(self) -> None:
        made = self.server()
        made.go_away(0)
        made.data_to_send()
        self.assert_ignored(made, raw(PRIORITY, 0, 1, b"") + window_update(1, 0))


# --- messages ------------------------------------------------------------------------------


class TestRequests(ConnectionCase):
    def test_request(self) -> None:
        made = self.server()
        request, end = made.receive(headers(1, [*REQUEST, (b"cookie", b"a"), (b"cookie", b"b")]))
        assert isinstance(request, events.RequestReceived)
        self.assertEqual(list(request.headers), [*REQUEST, (b"cookie", b"a; b")])
        self.assertIs(request.stream_ended, end)
        self.assertEqual(self.stream(made).method, b"GET")

    def test_open_request(self) -> None:
        (request,) = self.server().receive(opening(1))
        assert isinstance(request, events.RequestReceived)
        self.assertIsNone(request.stream_ended)

    def test_priority(self) -> None:
        request, update = self.server().receive(dependent(3, 1))
        assert isinstance(request, events.RequestReceived)
        assert isinstance(update, events.PriorityUpdated)
        self.assertIs(request.priority_updated, update)
        self.assertEqual((update.stream_id, update.depends_on, update.weight), (3, 1, 16))

    def test_depends_on_itself(self) -> None:
        code = ErrorCodes.PROTOCOL_ERROR
        self.assertEqual(self.assert_reset(self.server(), dependent(1, 1), 1, code), [])

    def test_wrong_side(self) -> None:
        code = ErrorCodes.PROTOCOL_ERROR
        self.assert_failed(self.server(), headers(2), code, last=0)
        self.assert_failed(self.client(), headers(1), code)
        self.assert_failed(self.client(), headers(2), code, last=0)

    def test_limit(self) -> None:
        made = self.server(max_concurrent_streams=2)
        made.receive(opening(1) + headers(3))
        self.assert_reset(made, opening(5), 5, ErrorCodes.REFUSED_STREAM)
        made.send_headers(3, RESPONSE, end_stream=True)
        self.assertEqual(kinds(made.receive(opening(7))), ["RequestReceived"])

    def test_held_streams(self) -> None:
        made = self.server(max_concurrent_streams=2)
        made.held_streams = 1
        # what was reset does not count as open (RFC 9113 section 5.1.2),
        found = made.receive(opening(1) + opening(3))
        self.assertEqual(kinds(found), ["RequestReceived"] * 2)
        made.receive(rst_stream(1) + rst_stream(3))
        # but what is still worked on has a limit of its own
        made.held_streams = 2
        self.assert_reset(made, opening(5), 5, ErrorCodes.REFUSED_STREAM)
        made.held_streams = 1
        self.assertEqual(kinds(made.receive(opening(7))), ["RequestReceived"])

    def test_content_length(self) -> None:
        announced = [*POST, (b"content-length", b"3")]
        code = ErrorCodes.PROTOCOL_ERROR
        self.assert_reset(self.server(), headers(1, announced), 1, code)
        made = self.server()
        found = made.receive(opening(1, announced) + data(1, b"abc", end=True))
        self.assertEqual(kinds(found), ["RequestReceived", "DataReceived", "StreamEnded"])
        made = self.server()
        # the request's own content counts, whatever its method
        made.receive(opening(1, [*HEAD, (b"content-length", b"3")]) + data(1, b"abc", end=True))
        # but what goes through a tunnel does not
        made.receive(headers(3, [*CONNECT, (b"content-length", b"3")]))
        self.assertEqual(made.data_to_send(), b"")
        for content in (b"ab", b"abcd"):
            made = self.server()
            made.receive(opening(1, announced))
            (event,) = self.assert_reset(made, data(1, content, end=True), 1, code)
            self.assertIn("content-length", event.reason)

    def test_trailers(self) -> None:
        made = self.server()
        found = made.receive(opening(1) + headers(1, TRAILERS))
        self.assertEqual(kinds(found), ["RequestReceived", "TrailersReceived", "StreamEnded"])
        code = ErrorCodes.PROTOCOL_ERROR
        for frames in (
            opening(1) + opening(1, TRAILERS),
            opening(1) + headers(1, REQUEST),
            opening(1) + dependent(1, 1, TRAILERS),
            opening(1, [*POST, (b"content-length", b"3")]) + headers(1, TRAILERS),
        ):
            self.assert_reset(self.server(), frames, 1, code)

    def test_after_the_end(self) -> None:
        code = ErrorCodes.STREAM_CLOSED
        self.assert_reset(self.server(), headers(1) * 2, 1, code)
        made = self.server()
        made.receive(headers(1))
        made.send_headers(1, RESPONSE, end_stream=True)
        self.assert_failed(made, headers(1), code, StreamClosedError)

    def test_skipped_stream(self) -> None:
        made = self.server()
        made.receive(headers(3))
        self.assert_failed(made, headers(1), ErrorCodes.PROTOCOL_ERROR, StreamIDTooLowError)
        made = self.server()
        made.receive(headers(3))
        self.assert_failed(made, data(1), ErrorCodes.STREAM_CLOSED, StreamClosedError)

    def test_reserved_stream(self) -> None:
        made = self.server()
        made.receive(opening(1))
        made.push_stream(1, 2, REQUEST)
        self.assert_failed(made, headers(2), ErrorCodes.PROTOCOL_ERROR)

    def test_tunnel(self) -> None:
        for status, connected in ((b"103", False), (b"200", True), (b"299", True), (b"403", False)):
            with self.subTest(status=status):
                made = self.server()
                made.receive(opening(1, CONNECT))
                made.send_headers(1, [(b":status", status)])
                self.assertIs(self.stream(made).connected, connected)
                made.send_headers(1, TRAILERS if status[:1] != b"1" else RESPONSE, True)
                self.assertIs(self.stream(made).connected, status[:1] in b"12")

    def test_trailers_in_a_tunnel(self) -> None:
        made = self.server()
        made.receive(opening(1, [*CONNECT, (b"content-length", b"1")]) + data(1, b"any"))
        made.send_headers(1, RESPONSE)
        made.data_to_send()
        self.assert_reset(made, headers(1, TRAILERS), 1, ErrorCodes.PROTOCOL_ERROR)

    def test_extended_connect(self) -> None:
        fields = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *REQUEST[1:]]
        made = self.server(enable_connect_protocol=1)
        self.assertEqual(kinds(made.receive(opening(1, fields))), ["RequestReceived"])
        self.assert_reset(self.server(), opening(1, fields), 1, ErrorCodes.PROTOCOL_ERROR)

    def test_compression(self) -> None:
        bad = raw(HEADERS, END_HEADERS, 1, b"\xbe")
        self.assert_failed(self.server(), bad, ErrorCodes.COMPRESSION_ERROR, last=0)
        made = self.server(max_header_list_size=100)
        self.assert_failed(
            made, headers(1), ErrorCodes.ENHANCE_YOUR_CALM, debug=b"max_header_list_size"
        )


class TestResponses(ConnectionCase):
    def test_in_order(self) -> None:
        made = self.client(POST)
        found = made.receive(
            opening(1, INTERIM) + opening(1, RESPONSE) + data(1) + headers(1, TRAILERS)
        )
        self.assertEqual(
            kinds(found),
            [
                "InformationalResponseReceived",
                "ResponseReceived",
                "DataReceived",
                "TrailersReceived",
                "StreamEnded",
            ],
        )

    def test_malformed(self) -> None:
        for frames in (
            opening(1, []),
            headers(1, INTERIM),
            data(1),
            headers(1, [*RESPONSE, (b"content-length", b"1")]),
            opening(1, RESPONSE) * 2,
            dependent(1, 1, RESPONSE),
        ):
            made = self.client(POST)
            *_, event = self.assert_reset(made, frames, 1, ErrorCodes.PROTOCOL_ERROR)
            self.assertIsInstance(event, StreamFailed)

    def test_depends_on_itself(self) -> None:
        made = self.client(POST)
        made.end_stream(1)
        made.data_to_send()
        payload = u32(1) + b"\x0f" + literal(RESPONSE)
        frame = raw(HEADERS, END_HEADERS | END_STREAM | PRIORITIZED, 1, payload)
        found = self.assert_reset(made, frame, 1, ErrorCodes.PROTOCOL_ERROR)
        self.assertEqual(kinds(found), ["StreamFailed"])

    def test_without_content(self) -> None:
        """Whatever the content-length says (RFC 9110 section 6.4.1)."""
        for fields, status in ((HEAD, b"200"), (POST, b"204"), (POST, b"304")):
            announced = [(b":status", status), (b"content-length", b"5")]
            made = self.client(fields)
            found = made.receive(headers(1, announced))
            self.assertEqual(kinds(found), ["ResponseReceived", "StreamEnded"])
            made = self.client(fields)
            made.receive(opening(1, announced))
            self.assert_reset(made, data(1), 1, ErrorCodes.PROTOCOL_ERROR)

    def test_connect(self) -> None:
        made = self.client(CONNECT)
        self.assertFalse(made.is_tunnel(1))
        made.receive(opening(1, [*RESPONSE, (b"content-length", b"1")]) + data(1, b"any"))
        self.assertTrue(self.stream(made).connected)
        self.assertTrue(made.is_tunnel(1))
        self.assertFalse(made.is_tunnel(3))
        self.assert_reset(made, headers(1, TRAILERS), 1, ErrorCodes.PROTOCOL_ERROR)
        for status in (b"300", b"403"):
            made = self.client(CONNECT)
            made.receive(opening(1, [(b":status", status), (b"content-length", b"1")]))
            self.assertFalse(self.stream(made).connected)
            self.assert_reset(made, data(1, b"more"), 1, ErrorCodes.PROTOCOL_ERROR)

    def test_of_a_request_that_h2_has_refused(self) -> None:
        made = self.client()
        with self.assertRaises(ProtocolError):
            made.send_headers(1, INTERIM, end_stream=True)
        self.assertIs(self.stream(made).state_machine.state, StreamState.IDLE)
        self.assert_failed(made, opening(1, RESPONSE), ErrorCodes.PROTOCOL_ERROR)

    def test_after_our_reset(self) -> None:
        made = self.client(POST)
        made.reset_stream(1)
        made.data_to_send()
        self.assert_ignored(made, opening(1, RESPONSE) + data(1, b"abc"))
        self.assertEqual(made.take_discarded(), 3)


class TestConfiguration(ConnectionCase):
    """The flags of H2Configuration that an h2 user may set."""

    def configured(self, *, client: bool = False, **flags: Any) -> Connection:
        made = Connection(H2Configuration(client_side=client, **flags))
        made.initiate_connection()
        made.receive((b"" if client else PREFACE) + setting())
        made.data_to_send()
        return made

    def test_encoding(self) -> None:
        made = self.configured(header_encoding="latin-1")
        fields = [*REQUEST, (b"x", b"\xe9")]
        first, _ = made.receive(opening(1, fields) + headers(1, TRAILERS))[:2]
        assert isinstance(first, events.RequestReceived)
        self.assertEqual(first.headers[0], (":method", "GET"))
        self.assertEqual(first.headers[-1], ("x", "\xe9"))
        client = self.configured(client=True, header_encoding="utf-8")
        client.send_headers(1, REQUEST)
        client.data_to_send()
        found = client.receive(
            promise(1, 2) + opening(1, INTERIM) + opening(1, RESPONSE) + headers(1, TRAILERS)
        )
        names = [field[0] for event in found[:4] for field in vars(event)["headers"]]
        pseudo = [":method", ":scheme", ":authority", ":path"]
        self.assertEqual(names, [*pseudo, ":status", ":status", "checksum"])

    def test_what_cannot_be_decoded_ends_the_stream(self) -> None:
        made = self.configured(header_encoding="utf-8")
        frame = opening(1, [*REQUEST, (b"x", b"\xff")])
        self.assert_reset(made, frame, 1, ErrorCodes.PROTOCOL_ERROR)

    def test_encoding_keeps_what_must_not_be_indexed(self) -> None:
        made = self.configured(header_encoding="utf-8")
        block = literal(REQUEST) + b"\x10\x01a\x01b"
        event: Any = made.receive(raw(HEADERS, END_HEADERS, 1, block))[0]
        self.assertIsInstance(event.headers[-1], hpack.NeverIndexedHeaderTuple)

    def test_crumbs_stay_without_normalization(self) -> None:
        crumbs = [(b"cookie", b"a"), (b"x", b"y"), (b"cookie", b"b")]
        for normalize, joined in ((False, crumbs), (True, [crumbs[1], (b"cookie", b"a; b")])):
            made = self.configured(normalize_inbound_headers=normalize)
            event: Any = made.receive(opening(1, [*REQUEST, *crumbs]))[0]
            self.assertEqual(event.headers, [*REQUEST, *joined])

    def test_crumbs_of_responses_and_trailers(self) -> None:
        made = self.configured(client=True)
        made.send_headers(1, REQUEST)
        cookie = [(b"cookie", b"a"), (b"x", b"y")]
        found: list[Any] = made.receive(
            opening(1, [*INTERIM, *cookie])
            + opening(1, [*RESPONSE, *cookie])
            + headers(1, [*cookie, *cookie])
        )
        self.assertEqual(found[0].headers, [*INTERIM, *reversed(cookie)])
        self.assertEqual(found[1].headers, [*RESPONSE, *reversed(cookie)])
        self.assertEqual(found[2].headers, [cookie[1]] * 2 + [(b"cookie", b"a; a")])

    def test_unchecked(self) -> None:
        made = self.configured(validate_inbound_headers=False)
        odd = [(b"Upper", b" \x00"), (b":path", b""), (b"connection", b"close")]
        event: Any = made.receive(opening(1, odd))[0]
        self.assertEqual(event.headers, odd)
        length = [*odd, (b"content-length", b"3")]
        self.assert_reset(
            made, opening(3, length) + data(3, end=True), 3, ErrorCodes.PROTOCOL_ERROR
        )
        for field in ((b"content-length", b"x"), (b":status", b"100")):
            made = self.configured(validate_inbound_headers=False)
            self.assert_reset(made, opening(1, [field, *odd]), 1, ErrorCodes.PROTOCOL_ERROR)

    def test_unchecked_responses(self) -> None:
        for status, kind in (
            (b"200", "ResponseReceived"),
            (b"", "ResponseReceived"),
            (b"x", "ResponseReceived"),
            (b"101", "InformationalResponseReceived"),
            (b"1", "InformationalResponseReceived"),
        ):
            made = self.configured(client=True, validate_inbound_headers=False)
            made.send_headers(1, REQUEST)
            found = made.receive(opening(1, [(b":status", status), (b"A", b"\x01")]))
            self.assertEqual(kinds(found), [kind])

    def test_unchecked_promise(self) -> None:
        made = self.configured(client=True, validate_inbound_headers=False)
        made.send_headers(1, REQUEST)
        foreign = [(b":method", b"PUT"), (b":authority", b"b.test")]
        self.assertEqual(kinds(made.receive(promise(1, 2, foreign))), ["PushedStreamReceived"])

    def test_outbound_text(self) -> None:
        for validate in (False, True):
            for normalize in (False, True):
                made = self.configured(
                    client=True,
                    validate_outbound_headers=validate,
                    normalize_outbound_headers=normalize,
                )
                made.send_headers(1, [(n.decode(), v.decode()) for n, v in REQUEST])
                ((kind, _, _, block),) = self.written(made)
                self.assertEqual(kind, HEADERS)
                self.assertEqual(hpack.Decoder().decode(block, raw=True), REQUEST)

    def test_outbound_crumbs(self) -> None:
        made = self.configured(client=True, split_outbound_cookies=True)
        made.send_headers(1, [*REQUEST, (b"cookie", b"a; b")])
        ((_, _, _, block),) = self.written(made)
        fields = hpack.Decoder().decode(block, raw=True)
        self.assertEqual(fields, [*REQUEST, (b"cookie", b"a"), (b"cookie", b"b")])


class TestPushes(ConnectionCase):
    def test_promise(self) -> None:
        made = self.client(POST)
        crumbs = [(b"cookie", b"a"), (b"cookie", b"b")]
        (event,) = made.receive(promise(1, 2, [*REQUEST, *crumbs]))
        assert isinstance(event, events.PushedStreamReceived)
        self.assertEqual((event.parent_stream_id, event.pushed_stream_id), (1, 2))
        self.assertEqual(event.headers, [*REQUEST, (b"cookie", b"a; b")])
        found = made.receive(opening(2, RESPONSE) + data(2, end=True))
        self.assertEqual(kinds(found), ["ResponseReceived", "DataReceived", "StreamEnded"])

    def test_head(self) -> None:
        made = self.client(POST)
        made.receive(promise(1, 2, HEAD))
        found = made.receive(headers(2, [*RESPONSE, (b"content-length", b"5")]))
        self.assertEqual(kinds(found), ["ResponseReceived", "StreamEnded"])

    def test_not_allowed(self) -> None:
        code = ErrorCodes.PROTOCOL_ERROR
        self.assert_failed(self.server(), opening(1) + promise(1, 2), code, last=1)
        self.assert_failed(self.client(POST, enable_push=0), promise(1, 2), code)
        self.assert_failed(self.client(POST), promise(3, 2), code)
        self.assert_failed(self.client(POST), promise(1, 2) + promise(2, 4), code, last=2)
        self.assert_failed(self.client(POST), promise(1, 4) + promise(1, 2), code, last=4)
        self.assert_failed(self.client(POST), headers(1, RESPONSE) + promise(1, 2), code)
        made = self.client(POST)
        made.receive(headers(1, RESPONSE))
        made.end_stream(1)
        self.assert_failed(made, promise(1, 2), code)
        made = self.client(POST)
        made.receive(rst_stream(1))
        made.send_headers(3, POST)
        self.assert_failed(made, promise(1, 2), code)

    def test_parent_that_was_reset(self) -> None:
        for later in (False, True):
            made = self.client(POST)
            made.reset_stream(1)
            if later:
                made.send_headers(3, POST)
            made.data_to_send()
            self.assert_reset(made, promise(1, 2), 2, ErrorCodes.REFUSED_STREAM)
            self.assert_ignored(made, headers(2, RESPONSE))

    def test_parent_that_is_a_tunnel(self) -> None:
        made = self.client(CONNECT)
        made.receive(opening(1, RESPONSE))
        found = made.receive(promise(1, 2))
        self.assertIsNone(made.failure)
        self.assertEqual(kinds(found), ["StreamFailed"])
        resets = {frame[2]: frame[3] for frame in self.written(made) if frame[0] == RST_STREAM}
        self.assertEqual(resets, {1: u32(ErrorCodes.PROTOCOL_ERROR), 2: u32(ErrorCodes.CANCEL)})
        self.assert_ignored(made, headers(2, RESPONSE))

    def test_request_that_cannot_be_promised(self) -> None:
        foreign = [*REQUEST[:2], (b":authority", b"b.test"), REQUEST[3]]
        for fields in (POST, [*REQUEST, (b"content-length", b"1")], REQUEST[1:], foreign):
            made = self.client(POST)
            self.assert_reset(made, promise(1, 2, fields), 2, ErrorCodes.PROTOCOL_ERROR)

    def test_goaway_names_no_promise_of_a_client(self) -> None:
        """Where a wrong call of the user has made h2 take this side for a server."""
        made = self.client()
        made.advertise_alternative_service(b"h2", origin=b"a.test")
        made.send_headers(1, POST)
        self.assert_failed(made, promise(1, 2), ErrorCodes.PROTOCOL_ERROR, last=0)

    def test_parent_that_was_an_upgrade(self) -> None:
        """Its request went out as HTTP/1.1, so its authority is not known here."""
        made = Connection(H2Configuration(client_side=True))
        made.initiate_upgrade_connection()
        self.assertEqual(
            kinds(made.receive(setting() + promise(1, 2))),
            ["RemoteSettingsChanged", "PushedStreamReceived"],
        )

    def test_interim_response(self) -> None:
        made = self.client(POST)
        made.receive(promise(1, 2))
        found = made.receive(opening(2, INTERIM) * 2 + headers(2, RESPONSE))
        self.assertEqual(
            kinds(found),
            ["InformationalResponseReceived"] * 2 + ["ResponseReceived", "StreamEnded"],
        )

    def test_limit(self) -> None:
        made = self.client(POST, max_concurrent_streams=2)
        made.receive(promise(1, 2) + promise(1, 4))
        self.assert_reset(made, promise(1, 6), 6, ErrorCodes.REFUSED_STREAM)
        made.receive(headers(2, RESPONSE))
        self.assertEqual(kinds(made.receive(promise(1, 8))), ["PushedStreamReceived"])

    def test_limit_when_it_begins(self) -> None:
        made = self.client(POST)
        made.receive(promise(1, 2) + promise(1, 4) + opening(2, RESPONSE))
        made.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 1})
        made.receive(raw(SETTINGS, ACK))
        made.data_to_send()
        self.assert_reset(made, opening(4, RESPONSE), 4, ErrorCodes.REFUSED_STREAM)

    def test_beyond_goaway(self) -> None:
        made = self.client(POST)
        made.receive(promise(1, 2))
        made.go_away(0)
        made.data_to_send()
        self.assert_ignored(made, promise(1, 4) + headers(4, RESPONSE) + data(4))
        self.assertEqual(kinds(made.receive(opening(2, RESPONSE))), ["ResponseReceived"])

    def test_reserved_remote(self) -> None:
        for frame in (data(2), window_update(2, 1)):
            made = self.client(POST)
            made.receive(promise(1, 2))
            self.assert_failed(made, frame, ErrorCodes.PROTOCOL_ERROR, last=2)


class TestData(ConnectionCase):
    def test_event(self) -> None:
        made = self.server()
        made.receive(opening(1))
        padded = raw(DATA, PADDED | END_STREAM, 1, b"\x02abc\0\0")
        event, end = made.receive(padded)
        assert isinstance(event, events.DataReceived)
        self.assertEqual((event.data, event.flow_controlled_length), (b"abc", 6))
        self.assertIs(event.stream_ended, end)
        self.assertEqual(made.inbound_flow_control_window, 65535 - 6)
        self.assertEqual(made.take_discarded(), 0)

    def test_wrong_state(self) -> None:
        made = self.server()
        self.assert_failed(made, data(1), ErrorCodes.PROTOCOL_ERROR, last=0)
        made = self.server()
        made.receive(opening(1))
        made.push_stream(1, 2, REQUEST)
        self.assert_failed(made, data(2), ErrorCodes.PROTOCOL_ERROR)
        made = self.server()
        self.assert_reset(made, headers(1) + data(1), 1, ErrorCodes.STREAM_CLOSED)

    def test_stream_window(self) -> None:
        made = self.server(initial_window_size=10)
        made.receive(opening(1) + data(1, b"x" * 10))
        self.assert_reset(made, data(1, b"x"), 1, ErrorCodes.FLOW_CONTROL_ERROR)
        self.assertEqual(made.take_discarded(), 1)

    def test_connection_window(self) -> None:
        made = self.server(initial_window_size=100_000)
        frames = opening(1) + data(1, b"x" * 16000) * 4
        made.receive(frames)
        self.assert_failed(
            made, data(1, b"x" * 1536), ErrorCodes.FLOW_CONTROL_ERROR, FlowControlError
        )

    def test_empty_frame_below_zero(self) -> None:
        """Section 6.9.1: an empty frame may be sent whatever the windows are."""
        made = self.server()
        made.receive(opening(1) + data(1, b"abc"))
        made.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        made.receive(raw(SETTINGS, ACK))
        self.assertEqual(made.streams[1].inbound_flow_control_window, -3)
        found = made.receive(data(1, b"") + data(1, b"", end=True))
        self.assertEqual(kinds(found), ["DataReceived", "DataReceived", "StreamEnded"])

    def test_discarded(self) -> None:
        made = self.server()
        made.receive(opening(1) + rst_stream(1) + data(1, b"abc") + data(1, b"d"))
        made.receive(opening(3) + headers(5))
        made.reset_stream(3)
        made.receive(data(3, b"efg") + data(5, b"h"))
        self.assertEqual(made.take_discarded(), 8)
        self.assertEqual(made.take_discarded(), 0)

    def test_beyond_goaway(self) -> None:
        made = self.server()
        made.go_away(0)
        made.data_to_send()
        self.assert_ignored(made, headers(1) + data(1, b"abc"))
        self.assertEqual(made.take_discarded(), 3)


# --- other frames --------------------------------------------------------------------------


class TestOtherFrames(ConnectionCase):
    def test_rst_stream(self) -> None:
        made = self.server()
        made.receive(opening(1))
        (event,) = made.receive(rst_stream(1, 0xDEADBEEF))
        assert isinstance(event, events.StreamReset)
        self.assertEqual((event.stream_id, event.error_code), (1, 0xDEADBEEF))
        self.assertTrue(event.remote_reset)
        self.assert_ignored(made, rst_stream(1))
        made.receive(headers(3))
        self.assert_ignored(made, rst_stream(1))
        self.assert_failed(made, rst_stream(5), ErrorCodes.PROTOCOL_ERROR, last=3)

    def test_window_update(self) -> None:
        made = self.server()
        made.receive(opening(1))
        found: list[Any] = made.receive(window_update(0, 5) + window_update(1, 7))
        self.assertEqual([event.delta for event in found], [5, 7])
        self.assertEqual(made.outbound_flow_control_window, 65540)
        self.assertEqual(made.streams[1].outbound_flow_control_window, 65542)
        made.receive(rst_stream(1))
        self.assert_ignored(made, window_update(1, 1))
        made.receive(headers(3))
        self.assert_ignored(made, window_update(1, 1))
        self.assert_failed(made, window_update(5, 1), ErrorCodes.PROTOCOL_ERROR)

    def test_window_update_with_the_reserved_bit(self) -> None:
        made = self.server()
        found: list[Any] = made.receive(window_update(0, 2**31 + 5))
        self.assertEqual([event.delta for event in found], [5])

    def test_window_overflow(self) -> None:
        made = self.server()
        made.receive(opening(1))
        (event,) = self.assert_reset(
            made, window_update(1, LARGEST), 1, ErrorCodes.FLOW_CONTROL_ERROR
        )
        assert isinstance(event, events.StreamReset)
        self.assertFalse(event.remote_reset)
        self.assert_failed(
            made, window_update(0, LARGEST), ErrorCodes.FLOW_CONTROL_ERROR, FlowControlError
        )

    def test_priority(self) -> None:
        made = self.server()
        for stream_id in (1, 2, 99):
            (event,) = made.receive(priority(stream_id, 3))
            assert isinstance(event, events.PriorityUpdated)
            self.assertEqual((event.stream_id, event.depends_on), (stream_id, 3))
        made.receive(opening(1))
        self.assert_reset(made, priority(1, 1), 1, ErrorCodes.PROTOCOL_ERROR)

    def test_settings(self) -> None:
        made = self.server()
        (event,) = made.receive(setting((4, 7), (5, 20000), (4, 10)))
        assert isinstance(event, events.RemoteSettingsChanged)
        change = event.changed_settings[SettingCodes.INITIAL_WINDOW_SIZE]
        self.assertEqual((change.original_value, change.new_value), (65535, 10))
        self.assertEqual(made.max_outbound_frame_size, 20000)
        self.assertEqual(self.written(made), [(SETTINGS, ACK, 0, b"")])

    def test_settings_out_of_range(self) -> None:
        for code, value, error in (
            (2, 2, ErrorCodes.PROTOCOL_ERROR),
            (4, 2**31, ErrorCodes.FLOW_CONTROL_ERROR),
            (5, 0, ErrorCodes.PROTOCOL_ERROR),
        ):
            made = self.server()
            found = self.assert_failed(made, setting((code, value), (code, 16384)), error)
            self.assertEqual(found, [])
        self.assert_failed(self.client(), setting((2, 1)), ErrorCodes.PROTOCOL_ERROR)

    def test_settings_and_closed_streams(self) -> None:
        """A stream that is gone has no window that could overflow (section 6.9.2)."""
        made = self.server()
        made.receive(headers(1) + window_update(1, LARGEST - 65535))
        made.send_headers(1, RESPONSE, end_stream=True)
        made.take_closed()
        self.assertEqual(kinds(made.receive(setting((4, 70000)))), ["RemoteSettingsChanged"])
        self.assertIsNone(made.failure)

    def test_table_sizes(self) -> None:
        made = self.server()
        made.receive(headers(1) + setting((1, 100), (1, 10), (1, 200)))
        self.assertEqual(made.encoder.header_table_size, 200)
        made.data_to_send()
        made.send_headers(1, RESPONSE)
        # the smallest and the last (RFC 7541 section 4.2)
        self.assertEqual(self.written(made)[0][3][:4], b"\x2a\x3f\xa9\x01")

    def test_table_sizes_of_several_settings(self) -> None:
        """No block announces more than the limit in force, nor less than it has to."""
        for sizes, announced in [
            ((8192, 4096), ""),
            ((8192, 4096, 100), "3f45"),
            ((100, 8192, 50), "3f13"),
            ((0, 8192), "20 3fe11f"),
            ((300, 100, 200), "3f45 3fa901"),
        ]:
            # in a frame each, and in one
            for frames in (
                [setting((1, size)) for size in sizes],
                [setting(*((1, size) for size in sizes))],
            ):
                with self.subTest(sizes=sizes, frames=len(frames)):
                    made = self.server()
                    made.receive(headers(1) + headers(3))
                    made.data_to_send()
                    decoder = hpack.Decoder()
                    response = [*RESPONSE, (b"x-field", b"v" * 40)]
                    made.send_headers(1, response)
                    decoder.decode(self.written(made)[0][3])
                    made.receive(b"".join(frames))
                    made.data_to_send()
                    made.send_headers(3, response)
                    block = self.written(made)[0][3]
                    updates = bytes.fromhex(announced)
                    self.assertEqual(block[: len(updates) + 1], updates + b"\x88")
                    # which has evicted what the encoder has, or else reads another field
                    decoder.max_allowed_table_size = sizes[-1]
                    self.assertEqual(decoder.decode(block, raw=True), response)

    def test_goaway(self) -> None:
        made = self.client(POST)
        (event,) = made.receive(goaway(2**31 + 5, 0xDEADBEEF, b"why"))
        assert isinstance(event, events.ConnectionTerminated)
        self.assertEqual(event.last_stream_id, 5)
        self.assertEqual(event.error_code, 0xDEADBEEF)
        self.assertEqual(event.additional_data, b"why")
        (event,) = made.receive(goaway(1))
        assert isinstance(event, events.ConnectionTerminated)
        self.assertIsNone(event.additional_data)

    def test_goaway_ends_nothing(self) -> None:
        made = self.client(POST)
        made.send_data(1, b"abc")
        made.receive(goaway(1))
        self.assertEqual([frame[0] for frame in self.written(made)], [DATA])
        made.send_data(1, b"def", end_stream=True)
        self.assertEqual([frame[0] for frame in self.written(made)], [DATA])
        self.assertEqual(kinds(made.receive(headers(1, RESPONSE)))[0], "ResponseReceived")

    def test_continuation(self) -> None:
        for frames in (b"", headers(1)):
            self.assert_failed(
                self.server(),
                frames + raw(CONTINUATION, END_HEADERS, 1),
                ErrorCodes.PROTOCOL_ERROR,
            )

    def test_unknown(self) -> None:
        made = self.server()
        self.assertEqual(kinds(made.receive(raw(UNKNOWN, 1, 5))), ["UnknownFrameReceived"])
        self.assertEqual(made.data_to_send(), b"")

    def test_altsvc(self) -> None:
        frame = raw(ALTSVC, 0, 0, b"\x00\x01ah2=':1'")
        found = self.client().receive(frame)
        self.assertEqual(kinds(found), ["AlternativeServiceAvailable"])
        made = self.server()
        self.assert_ignored(made, frame)
        made.receive(headers(1))
        made.push_stream(1, 2, REQUEST)

    def test_altsvc_of_a_stream(self) -> None:
        """RFC 7838 section 4: its origin is that of the request, until the response is there."""
        frame = raw(ALTSVC, 0, 1, b"\x00\x00h2=':1'")
        made = self.client(POST)
        (event,) = made.receive(frame)
        assert isinstance(event, events.AlternativeServiceAvailable)
        self.assertEqual((event.origin, event.field_value), (b"a.test", b"h2=':1'"))
        made.receive(headers(1, RESPONSE, END_HEADERS))
        self.assert_ignored(made, frame)

    def test_altsvc_that_is_ignored(self) -> None:
        """The same section: it costs a client neither the connection nor anything else."""
        for stream_id, payload in (
            (0, b"\x00\x00h2=':1'"),
            (1, b"\x00\x01ah2=':1'"),
            (3, b"\x00\x00h2=':1'"),
            (2, b"\x00\x00h2=':1'"),
            (0, b""),
            (1, b"\x00"),
            (0, b"\x00\x09short"),
        ):
            with self.subTest(stream_id=stream_id, payload=payload):
                made = self.client(POST)
                self.assert_ignored(made, raw(ALTSVC, 0, stream_id, payload))
                self.assertEqual(
                    kinds(made.receive(headers(1, RESPONSE))), ["ResponseReceived", "StreamEnded"]
                )

    def test_altsvc_sent(self) -> None:
        made = self.server()
        made.advertise_alternative_service(b"h2=':1'", origin=b"https://a.test")
        made.receive(headers(1))
        made.advertise_alternative_service(b"clear", stream_id=1)
        expected = [
            (ALTSVC, 0, 0, b"\x00\x0ehttps://a.testh2=':1'"),
            (ALTSVC, 0, 1, b"\x00\x00clear"),
        ]
        self.assertEqual(self.written(made), expected)


ORIGIN: Final = 0x0C


class TestOrigins(ConnectionCase):
    """RFC 8336 section 2."""

    def entries(self, *origins: bytes) -> bytes:
        return b"".join(len(origin).to_bytes(2, "big") + origin for origin in origins)

    def test_event(self) -> None:
        several = (b"https://a.test", b"https://b.test:8443", b"http://[::1]:80")
        for origins in ((), several[:1], several):
            # flags that are reserved for changes that are compatible
            for flags in (0, 0x10, 0xF0):
                made = self.client(POST)
                (event,) = made.receive(raw(ORIGIN, flags, 0, self.entries(*origins)))
                assert isinstance(event, module.OriginsReceived)
                self.assertEqual(event.origins, [*origins])
                self.assertEqual(self.written(made), [])

    def test_entries_that_are_no_origins(self) -> None:
        for wrong in (
            b"",
            b"a.test",
            b"https://",
            b"https://a.test/",
            b"https://a.test?",
            b"https://a.test#",
            b"https://u@a.test",
            b"https://a.test ",
            b"https://a\\b",
            b"https://\xc3\xa4.test",
            b"://a.test",
            b"1://a.test",
            b"HTTPS://a.test",
            b"https://a.test\n",
            b"null",
        ):
            with self.subTest(wrong):
                (event,) = self.client().receive(
                    raw(ORIGIN, 0, 0, self.entries(wrong, b"https://b.test"))
                )
                assert isinstance(event, module.OriginsReceived)
                self.assertEqual(event.origins, [b"https://b.test"])
                with self.assertRaises(ValueError):
                    module.as_origin(wrong)

    def test_ignored(self) -> None:
        whole = self.entries(b"https://a.test")
        self.assert_ignored(self.client(POST), raw(ORIGIN, 0, 1, whole))
        for flag in (0x1, 0x2, 0x4, 0x8, 0xF):
            self.assert_ignored(self.client(), raw(ORIGIN, flag, 0, whole))
        for payload in (whole[:-1], b"\x00", whole + b"\x00", whole + b"\x00\x01"):
            self.assert_ignored(self.client(), raw(ORIGIN, 0, 0, payload))

    def test_at_a_server(self) -> None:
        made = self.server()
        for payload in (self.entries(b"https://a.test"), b"\x00"):
            found = made.receive(raw(ORIGIN, 0, 0, payload))
            self.assertEqual(kinds(found), ["UnknownFrameReceived"])
        self.assertIsNone(made.failure)
        self.assertEqual(self.written(made), [])

    def test_sent(self) -> None:
        made = self.server()
        made.send_origins([b"https://a.test", b"https://b.test"])
        made.send_origins([])
        self.assertEqual(
            self.written(made),
            [
                (ORIGIN, 0, 0, self.entries(b"https://a.test", b"https://b.test")),
                (ORIGIN, 0, 0, b""),
            ],
        )

    def test_as_many_frames_as_it_takes(self) -> None:
        origins = [b"https://" + b"%04d" % number * 1000 for number in range(10)]
        made = self.server()
        made.send_origins(origins)
        frames = self.written(made)
        self.assertEqual(len(frames), 3)
        found: list[Any] = self.client().receive(b"".join(raw(*frame) for frame in frames))
        self.assertEqual([origin for event in found for origin in event.origins], origins)

    def test_as_origin(self) -> None:
        for value in ("https://a.test", b"https://a.test"):
            self.assertEqual(module.as_origin(value), b"https://a.test")
        for value in ("https://\udcff", "https://ä.test"):
            with self.assertRaises(ValueError):
                module.as_origin(value)
        with self.assertRaisesRegex(TypeError, "str or bytes, not 5"):
            module.as_origin(5)  # type: ignore[arg-type]  # wrong on purpose


PRIORITY_UPDATE: Final = 0x10


class TestPriorityUpdate(ConnectionCase):
    """RFC 9218 section 7.1."""

    def update(self, stream_id: int, field: bytes = b"u=1") -> bytes:
        return raw(PRIORITY_UPDATE, 0, 0, u32(stream_id) + field)

    def test_event(self) -> None:
        made = self.server()
        made.receive(opening(3))
        made.push_stream(3, 2, REQUEST)
        # open, idle, promised, and with the reserved bit
        for stream_id in (3, 5, 2, 2**31 + 3):
            (event,) = made.receive(self.update(stream_id))
            assert isinstance(event, module.PriorityUpdateReceived)
            self.assertEqual((event.stream_id, event.field), (stream_id % 2**31, b"u=1"))
        (event,) = made.receive(self.update(3, b""))
        assert isinstance(event, module.PriorityUpdateReceived)
        self.assertEqual(event.field, b"")

    def test_closed_stream(self) -> None:
        made = self.server()
        made.receive(opening(3) + rst_stream(3))
        self.assert_ignored(made, self.update(3) + self.update(1))

    def test_refused(self) -> None:
        code, size = ErrorCodes.PROTOCOL_ERROR, ErrorCodes.FRAME_SIZE_ERROR
        self.assert_failed(self.client(POST), self.update(1), code)
        self.assert_failed(self.server(), raw(PRIORITY_UPDATE, 0, 1, u32(1)), code)
        self.assert_failed(self.server(), self.update(0), code)
        self.assert_failed(self.server(), self.update(2), code)
        self.assert_failed(self.server(), raw(PRIORITY_UPDATE, 0, 0, b"123"), size)

    def test_sent(self) -> None:
        made = self.client(POST)
        made.update_priority(1, b"u=5, i")
        self.assertEqual(self.written(made), [(PRIORITY_UPDATE, 0, 0, u32(1) + b"u=5, i")])

    def test_field(self) -> None:
        made = self.server()
        made.receive(opening(1, [*POST, (b"priority", b"u=2")]) + opening(3))
        fields = [made.priority_field(stream_id) for stream_id in (1, 3, 5)]
        self.assertEqual(fields, [b"u=2", None, None])

    def test_setting(self) -> None:
        """RFC 9218 section 2.1: it is 0 or 1, and stays so."""
        for value in (0, 1):
            made = self.server()
            found = made.receive(setting((9, value)) * 2 + setting())
            self.assertEqual(kinds(found), ["RemoteSettingsChanged"] * 3)
            self.assert_failed(made, setting((9, 1 - value)), ErrorCodes.PROTOCOL_ERROR)
        self.assert_failed(self.server(), setting((9, 2)), ErrorCodes.PROTOCOL_ERROR)


# --- sending -------------------------------------------------------------------------------


class TestGoAway(ConnectionCase):
    def test_announced(self) -> None:
        made = self.server()
        made.receive(headers(5))
        self.assertEqual(made.go_away(0, final=False), LARGEST)
        self.assertEqual(self.written(made), cut(goaway(LARGEST)))
        self.assertEqual(kinds(made.receive(headers(7)))[0], "RequestReceived")

    def test_final(self) -> None:
        made = self.server()
        made.receive(opening(5))
        self.assertEqual(made.go_away(ErrorCodes.INTERNAL_ERROR, b"why"), 5)
        self.assertEqual(self.written(made), cut(goaway(5, ErrorCodes.INTERNAL_ERROR, b"why")))
        self.assert_ignored(made, headers(7) + rst_stream(7) + window_update(7, 1))
        self.assertEqual(kinds(made.receive(data(5))), ["DataReceived"])
        self.assertEqual(kinds(made.receive(priority(7))), ["PriorityUpdated"])

    def test_does_not_grow(self) -> None:
        made = self.server()
        made.receive(headers(1))
        made.go_away(0)
        made.receive(headers(3))
        self.assertEqual(made.go_away(0), 1)
        self.assert_failed(made, data(2), ErrorCodes.PROTOCOL_ERROR, last=1)

    def test_our_own_streams_go_on(self) -> None:
        made = self.client(POST)
        made.go_away(0)
        made.send_headers(3, POST)
        self.assertEqual(kinds(made.receive(headers(3, RESPONSE)))[0], "ResponseReceived")

    def test_idle_stream_below(self) -> None:
        made = self.server()
        made.receive(headers(1))
        made.go_away(0, final=False)
        made.data_to_send()
        self.assert_failed(made, data(3), ErrorCodes.PROTOCOL_ERROR)


class TestSending(ConnectionCase):
    def test_method(self) -> None:
        made = self.client(POST)
        self.assertEqual(self.stream(made).method, b"POST")
        made.send_headers(1, TRAILERS, end_stream=True)
        self.assertEqual(self.stream(made).method, b"POST")

    def test_headers_are_read_once(self) -> None:
        made = self.client()
        made.send_headers(1, iter(CONNECT))
        self.assertEqual(self.stream(made).method, b"CONNECT")
        self.assertEqual([frame[0] for frame in self.written(made)], [HEADERS])

    def test_largest_list(self) -> None:
        """What the peer has announced that it takes, it takes, whatever its octets."""
        for octet in (b"a", b"\xff"):
            with self.subTest(octet):
                sender, receiver = self.client(), self.server()
                sender.receive(setting((6, LIMITS[SettingCodes.MAX_HEADER_LIST_SIZE])))
                self.assertEqual(sender.max_list_size, receiver.decoder.max_header_list_size)
                fields = [*REQUEST, *[(b"x%d" % n, octet * 4_000) for n in range(16)]]
                size = sum(32 + len(name) + len(value) for name, value in fields)
                self.assertLess(size, 65_536)
                sender.data_to_send()
                sender.send_headers(1, [hpack.HeaderTuple(*field) for field in fields], True)
                found = receiver.receive(sender.data_to_send())
                self.assertIsNone(receiver.failure)
                self.assertEqual(kinds(found), ["RequestReceived", "StreamEnded"])

    def test_pushed_response(self) -> None:
        made = self.server()
        made.receive(opening(1))
        made.push_stream(1, 2, REQUEST)
        made.send_headers(2, RESPONSE, end_stream=True)
        self.assertEqual([frame[0] for frame in self.written(made)], [PUSH_PROMISE, HEADERS])

    def test_credit(self) -> None:
        made = self.server()
        made.receive(opening(1) + headers(3) + opening(5) + data(1, b"abc"))
        made.send_headers(5, RESPONSE, end_stream=True)
        made.data_to_send()
        made.credit(3)
        made.credit(3, 1)
        made.credit(3, 5)
        self.assertEqual(
            self.written(made),
            [(WINDOW_UPDATE, 0, stream_id, u32(3)) for stream_id in (0, 1, 5)],
        )
        self.assertEqual(made.inbound_flow_control_window, 65535)
        # it has ended, it was reset, there is none
        made.credit(3, 3)
        made.reset_stream(1)
        made.data_to_send()
        made.credit(3, 1)
        made.credit(3, 99)
        self.assertEqual(made.pending, 0)

    def test_credit_after_a_failure(self) -> None:
        """Nothing is written after the GOAWAY of an error, and nothing raised."""
        made = self.server()
        made.receive(opening(1) + data(1) + data(99))
        made.credit(2)
        made.credit(2, 1)
        self.assertEqual(self.written(made)[-1][0], GOAWAY)

    def test_pending(self) -> None:
        made = self.server()
        self.assertEqual(made.pending, 0)
        made.ping(b"12345678")
        self.assertEqual(made.pending, 17)
        made.data_to_send()
        self.assertEqual(made.pending, 0)

    def test_new_ids(self) -> None:
        made = self.client(POST)
        made.send_headers(5, POST)
        with self.assertRaises(StreamIDTooLowError):
            made.send_headers(3, POST)
        with self.assertRaises(ProtocolError):
            made.send_headers(8, POST)
        made.reset_stream(5)
        made.take_closed()
        with self.assertRaises(StreamIDTooLowError):
            made.send_headers(5, POST)
        self.assertEqual(made.get_next_available_stream_id(), 7)


class TestStreams(ConnectionCase):
    def test_counts(self) -> None:
        made = self.server()
        self.assertEqual((made.open_inbound_streams, made.open_outbound_streams), (0, 0))
        made.receive(opening(1) + headers(3))
        made.push_stream(1, 2, REQUEST)
        self.assertEqual((made.open_inbound_streams, made.open_outbound_streams), (2, 0))
        self.assertEqual(made.outbound_streams, 1)
        made.send_headers(2, RESPONSE)
        self.assertEqual((made.open_inbound_streams, made.open_outbound_streams), (2, 1))
        self.assertEqual(made.outbound_streams, 1)
        made.receive(rst_stream(1))
        made.send_headers(3, RESPONSE, end_stream=True)
        made.end_stream(2)
        self.assertEqual((made.open_inbound_streams, made.open_outbound_streams), (0, 0))
        self.assertEqual(made.outbound_streams, 0)
        self.assertEqual(made.streams, {})

    def test_reserved_at_a_client(self) -> None:
        made = self.client(POST)
        made.receive(promise(1, 2))
        self.assertEqual((made.outbound_streams, made.open_inbound_streams), (1, 0))

    def test_taken_closed(self) -> None:
        made = self.server()
        made.receive(headers(1) + opening(3) + opening(5))
        self.assertEqual(made.take_closed(), [])
        made.send_headers(1, RESPONSE, end_stream=True)
        made.receive(rst_stream(3) + window_update(5, 0))
        self.assertEqual(made.take_closed(), [1, 3, 5])
        self.assertEqual(made.take_closed(), [])

    def test_alive_and_forget(self) -> None:
        made = self.client(POST)
        self.assertTrue(made.is_alive(1))
        made.forget(1)
        self.assertFalse(made.is_alive(1))
        self.assertEqual(made.take_closed(), [1])
        made.forget(1)
        made.forget(99)
        self.assertEqual(made.take_closed(), [])
        self.assertEqual(made.data_to_send(), b"")
        self.assert_ignored(made, headers(1, RESPONSE))
        made.send_headers(3, POST)
        self.assertFalse(made.is_alive(1))

    def test_progress(self) -> None:
        made = self.server()
        before = made.units_received
        made.receive(opening(1) + data(1)[:5])
        self.assertEqual(made.units_received, before + 1)
        self.assertTrue(made.mid_frame)
        made.receive(data(1)[5:])
        self.assertEqual(made.units_received, before + 2)
        self.assertFalse(made.mid_frame)

    def test_no_step_looks_at_all_streams(self) -> None:
        class Blind(dict[int, Any]):
            """A table that cannot be gone through."""

            def __iter__(self) -> Any:
                raise AssertionError("all streams were looked at")

            values = items = keys = __iter__

        server = self.server()
        server.streams = Blind()
        server.receive(headers(1) + opening(3) + data(3) + rst_stream(3) + headers(5))
        server.send_headers(1, RESPONSE, end_stream=True)
        server.receive(headers(7) + raw(PING, 0, 0, bytes(8)) + window_update(0, 1) + setting())
        self.assertEqual(server.take_closed(), [3, 1])
        client = self.client()
        client.streams = Blind()
        for stream_id in range(1, 9, 2):
            client.send_headers(stream_id, REQUEST, end_stream=True)
        client.receive(headers(1, RESPONSE) + rst_stream(3) + goaway(5))
        client.forget(7)
        self.assertEqual(client.take_closed(), [1, 3, 7])
        self.assertEqual(client.open_outbound_streams, 1)


# --- abuse ---------------------------------------------------------------------------------


class TestBudgets(ConnectionCase):
    """What is charged and earned here; what the budgets are is in ``test_guards``."""

    PING = raw(PING, 0, 0, bytes(8))

    def limited(self, *, client: bool = False, **limits: Any) -> Connection:
        made = Connection(
            H2Configuration(
                client_side=client,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            ),
            Config(**limits),
        )
        made.initiate(dict(LIMITS), window_size=65535)
        made.receive((b"" if client else PREFACE) + setting())
        made.receive(raw(SETTINGS, ACK))
        made.data_to_send()
        return made

    def exceeds(self, made: Connection, frames: bytes, budget: str) -> list[Any]:
        calm = ErrorCodes.ENHANCE_YOUR_CALM
        return self.assert_failed(made, frames, calm, BudgetExceeded, debug=budget.encode())

    def test_good_frames_before_it_count(self) -> None:
        made = self.limited(reset_budget=(0, 0))
        found = self.exceeds(made, headers(1) + rst_stream(1) + headers(3), "reset_budget")
        self.assertEqual(kinds(found), ["RequestReceived", "StreamEnded"])
        self.assertEqual(made.receive(headers(5)), [])
        self.assertEqual(self.written(made), [])

    def test_provoked_resets_count_with_received_ones(self) -> None:
        made = self.limited(reset_budget=(2, 0))
        self.assert_reset(made, headers(1, TRAILERS), 1, ErrorCodes.PROTOCOL_ERROR)
        made.receive(headers(3) + rst_stream(3))
        self.exceeds(made, opening(5) + window_update(5, 0), "reset_budget")

    def test_refused_streams_count_too(self) -> None:
        made = self.limited(reset_budget=(1, 0))
        made.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 0})
        made.receive(raw(SETTINGS, ACK))
        made.data_to_send()
        self.assert_reset(made, headers(1), 1, ErrorCodes.REFUSED_STREAM)
        self.exceeds(made, headers(3), "reset_budget")

    def test_streams_that_end_cleanly_earn_resets(self) -> None:
        made = self.limited(reset_budget=(0, 0))
        for stream_id in range(1, 9, 2):
            made.receive(headers(stream_id))
            made.send_headers(stream_id, RESPONSE, end_stream=True)
            made.take_closed()
        made.receive(headers(9) + rst_stream(9))
        self.assertIsNone(made.failure)
        made.data_to_send()
        made.receive(headers(11))
        self.exceeds(made, rst_stream(11), "reset_budget")

    def test_streams_that_are_reset_earn_none(self) -> None:
        made = self.limited(reset_budget=(4, 0))
        for stream_id in range(1, 9, 2):
            made.receive(headers(stream_id) + rst_stream(stream_id))
            made.take_closed()
        self.exceeds(made, headers(9) + rst_stream(9), "reset_budget")

    def test_own_cancels_are_not_charged(self) -> None:
        made = self.limited(client=True, reset_budget=(0, 0))
        for stream_id in range(1, 9, 2):
            made.send_headers(stream_id, REQUEST)
            made.reset_stream(stream_id, ErrorCodes.CANCEL)
            # its own crosses ours
            made.receive(rst_stream(stream_id))
        self.assertIsNone(made.failure)

    def test_a_server_may_refuse_each_request(self) -> None:
        made = self.limited(client=True, reset_budget=(0, 0))
        for stream_id in (1, 3):
            made.send_headers(stream_id, REQUEST)
            made.receive(rst_stream(stream_id, ErrorCodes.REFUSED_STREAM))
        made.data_to_send()
        self.exceeds(made, rst_stream(1), "reset_budget")

    def test_a_reset_may_cross_that_of_an_application(self) -> None:
        made = self.limited(reset_budget=(0, 0))
        made.receive(opening(1))
        made.reset_stream(1, ErrorCodes.NO_ERROR)
        made.receive(rst_stream(1))
        self.assertIsNone(made.failure)
        made.data_to_send()
        self.exceeds(made, rst_stream(1), "reset_budget")

    def test_acknowledgements_are_paid_for(self) -> None:
        made = self.limited(control_budget=(2, 0))
        for _ in range(4):
            made.ping(bytes(8))
            made.receive(raw(PING, ACK, 0, bytes(8)))
            made.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 1})
            made.receive(raw(SETTINGS, ACK))
        self.assertIsNone(made.failure)
        made.data_to_send()
        self.exceeds(made, self.PING * 2, "control_budget")

    def test_sent_data_pays_for_windows_and_probes(self) -> None:
        for way in (FAST, FAST._replace(packing=False)):
            with mock.patch.object(Connection, "fast", way):
                for sizes in ([1], [100, 200], [40_000]):
                    made = self.limited(window_update_budget=(0, 0), control_budget=(2, 0))
                    made.receive(headers(1))
                    made.send_headers(1, RESPONSE)
                    for size in sizes:
                        made.send_body(1, memoryview(bytes(size)))
                    frames = sum(-(-size // 16_384) for size in sizes)
                    made.receive(window_update(0, 1) * (4 * frames) + self.PING * (2 * frames))
                    self.assertIsNone(made.failure)
                    made.data_to_send()
                    self.exceeds(made, window_update(0, 1), "window_update_budget")

    def test_header_lists(self) -> None:
        made = self.limited(max_header_fields=5)
        fields = [*REQUEST, (b"a", b"b"), (b"c", b"d")]
        self.exceeds(made, headers(1, fields), "max_header_fields")
        block = b"\x20\x20\x20" + literal(REQUEST)
        frame = raw(HEADERS, END_HEADERS | END_STREAM, 1, block)
        self.exceeds(self.limited(), frame, "table_size_updates")

    def test_settings_entries(self) -> None:
        made = self.limited(max_settings_entries=2)
        self.exceeds(made, setting((4, 1), (4, 2), (4, 3)), "max_settings_entries")


class TestShare(ConnectionCase):
    def shares(self, frames: bytes, **limits: Any) -> list[int]:
        """Return how many events each share brings."""
        made = TestBudgets().limited(**limits)
        counts = [len(made.receive(frames))]
        while made.has_more:
            counts.append(len(made.receive()))
        self.assertIsNone(made.failure)
        return counts

    def test_frames(self) -> None:
        self.assertEqual(self.shares(TestBudgets.PING * 7, frames_per_tick=3), [3, 3, 1])
        self.assertEqual(self.shares(TestBudgets.PING * 6, frames_per_tick=3), [3, 3])
        self.assertEqual(self.shares(TestBudgets.PING * 130), [64, 64, 2])

    def test_bytes(self) -> None:
        self.assertEqual(self.shares(TestBudgets.PING * 5, bytes_per_tick=34), [2, 2, 1])
        large = raw(UNKNOWN, 0, 0, bytes(4_000))
        self.assertEqual(self.shares(large * 7), [3, 3, 1])

    def test_content_does_not_count(self) -> None:
        frames = opening(1) + data(1, bytes(10_000)) * 6
        self.assertEqual(self.shares(frames, bytes_per_tick=100), [7])

    def test_frames_that_are_wrong_for_a_stream_count(self) -> None:
        frames = opening(1) + window_update(1, 0) * 5
        self.assertEqual(self.shares(frames, frames_per_tick=2), [2, 0, 0])

    def test_without_limits_all_at_once(self) -> None:
        made = self.server()
        self.assertEqual(len(made.receive(TestBudgets.PING * 200)), 200)
        self.assertFalse(made.has_more)

    def test_nothing_after_a_failure(self) -> None:
        made = TestBudgets().limited(frames_per_tick=1)
        made.receive(window_update(0, 0) + TestBudgets.PING)
        self.assertIsNotNone(made.failure)
        self.assertFalse(made.has_more)
        self.assertEqual(made.receive(), [])


# --- h2 ------------------------------------------------------------------------------------


class TestWhatIsReliedOn(unittest.TestCase):
    """Private names of h2 and hyperframe: a release that moves one fails here."""

    def test_names_that_are_overridden(self) -> None:
        private = [
            name
            for name, value in vars(Connection).items()
            if inspect.isfunction(value) and name in vars(h2.connection.H2Connection)
        ]
        self.assertTrue(private)
        for name in private:
            with self.subTest(name):
                mine = inspect.signature(getattr(Connection, name))
                theirs = inspect.signature(getattr(h2.connection.H2Connection, name))
                added = [*mine.parameters.values()][len(theirs.parameters) :]
                self.assertEqual([*mine.parameters][: len(theirs.parameters)], [*theirs.parameters])
                self.assertNotIn(inspect.Parameter.empty, [one.default for one in added])

    def test_handlers_of_frames(self) -> None:
        """h2 asks a table for the handler of a frame: it has to hold ours."""
        made = Connection(H2Configuration(client_side=False))
        table: dict[Any, Callable[..., Any]] = made._frame_dispatch_table
        names = {kind.__name__: handler.__name__ for kind, handler in table.items()}
        expected = {
            "HeadersFrame": "_receive_headers_frame",
            "PushPromiseFrame": "_receive_push_promise_frame",
            "SettingsFrame": "_receive_settings_frame",
            "DataFrame": "_receive_data_frame",
            "WindowUpdateFrame": "_receive_window_update_frame",
            "RstStreamFrame": "_receive_rst_stream_frame",
            "PriorityFrame": "_receive_priority_frame",
            "GoAwayFrame": "_receive_goaway_frame",
            "ContinuationFrame": "_receive_naked_continuation",
        }
        self.assertEqual({name: names[name] for name in expected}, expected)
        for name in expected.values():
            self.assertIn(name, vars(Connection))
        every = {*hyperframe.frame.FRAMES.values(), hyperframe.frame.ExtensionFrame}
        self.assertEqual(set(table), every)

    def test_state_of_a_connection(self) -> None:
        plain = h2.connection.H2Connection(H2Configuration(client_side=False))
        self.assertIsInstance(plain._data_to_send, bytearray)
        self.assertEqual(plain._closed_streams, {})
        self.assertEqual(plain._inbound_flow_control_window_manager.current_window_size, 65535)
        self.assertIsNone(plain._stream_closed_by(1))

    def test_state_of_a_stream(self) -> None:
        plain = h2.stream.H2Stream(1, H2Configuration(), 10, 10)
        self.assertEqual(plain._inbound_window_manager.current_window_size, 10)
        self.assertIsNone(plain.state_machine.stream_closed_by)
        self.assertIsNone(plain.state_machine.headers_received)

    def test_settings_in_force_come_first(self) -> None:
        plain = h2.settings.Settings(client=True)
        plain[SettingCodes.INITIAL_WINDOW_SIZE] = 10
        self.assertEqual(list(plain._settings[SettingCodes.INITIAL_WINDOW_SIZE]), [65535, 10])


# --- switches ------------------------------------------------------------------------------

EACH_OFF: Final = {field: Fast(**{field: False}) for field in Fast._fields}
ALL_OFF: Final = Fast(*[False] * len(Fast._fields))


def connection_with(fast: Fast, *, client: bool) -> Connection:
    """Return a connection for which these switches are on."""
    kind = type("Switched", (Connection,), {"fast": fast})
    made: Connection = kind(
        H2Configuration(
            client_side=client,
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
    )
    return made


def shown(value: Any) -> Any:
    """Return all that events say, with the kinds of the fields in them."""
    if isinstance(value, tuple) and isinstance(value, hpack.HeaderTuple):
        return bytes(value[0]), bytes(value[1]), value.indexable
    if isinstance(value, (list, tuple)):
        return [shown(one) for one in value]
    if isinstance(value, dict):
        return {key: shown(one) for key, one in value.items()}
    if isinstance(value, events.Event):
        return type(value).__name__, shown(vars(value))
    return repr(value)


class TestFastLanes(unittest.TestCase):
    """What is done faster says the same, byte for byte, as what is done as h2 does it."""

    def each(self, *, client: bool = True) -> list[Connection]:
        """Return connections with all on, all off, one off, and one that logs its frames."""
        connections = [
            connection_with(fast, client=client) for fast in (Fast(), ALL_OFF, *EACH_OFF.values())
        ]
        connections.append(connection_with(Fast(), client=client))
        connections[-1].frame_log = lambda direction, frame, fields: None
        for connection in connections:
            connection.initiate_connection()
            connection.receive((b"" if client else PREFACE) + SettingsFrame().serialize())
            connection.data_to_send()
        return connections

    def assert_same(self, connections: list[Connection], call: Callable[[Connection], Any]) -> Any:
        """Check that a call does the same to all; return what it gives."""
        outcomes = []
        for connection in connections:
            try:
                result: Any = shown(call(connection))
            except ProtocolError as error:
                result = (type(error), str(error))
            # when what has closed goes from the table is up to each lane; asking does it
            count = connection.open_inbound_streams, connection.open_outbound_streams
            states = {
                stream_id: (
                    stream.state_machine.state,
                    stream.outbound_flow_control_window,
                    stream.inbound_flow_control_window,
                    stream.request_method,
                    stream.method,
                    stream.connected,
                )
                for stream_id, stream in connection.streams.items()
            }
            outcomes.append(
                (
                    result,
                    connection.pending,
                    count,
                    connection.data_to_send(),
                    states,
                    connection.outbound_flow_control_window,
                    connection.inbound_flow_control_window,
                    connection.state_machine.state,
                    connection.units_received,
                    repr(connection.failure),
                )
            )
        for connection, outcome in zip(connections, outcomes, strict=True):
            self.assertEqual(outcome, outcomes[0], connection.fast)
        return outcomes[0]

    def fields(self, *more: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        return [hpack.HeaderTuple(*field) for field in [*REQUEST, *more]]

    def test_requests(self) -> None:
        connections = self.each()
        for stream_id in (1, 3, 5):
            self.assert_same(
                connections, lambda c, i=stream_id: c.send_headers(i, self.fields(), i == 3)
            )
        self.assert_same(connections, lambda c: c.send_headers(1, self.fields((b"a", b"b"))))
        self.assert_same(connections, lambda c: c.send_headers(3, self.fields(), True))
        self.assert_same(connections, lambda c: c.send_headers(2, self.fields(), True))

    def test_continuation(self) -> None:
        limit = 16_384
        start = self.fields(*[(b"x%d" % number, b"&" * 1_000) for number in range(15)])
        secret = hpack.NeverIndexedHeaderTuple
        fixed = len(hpack.Encoder().encode([*start, secret(b"y", b"&" * 1_000)])) - 1_000
        for size in (limit - 1, limit, limit + 1, 2 * limit, 2 * limit + 1):
            # each of these octets takes one
            fields = [*start, secret(b"y", b"&" * (size - fixed))]
            for end in (False, True):
                with self.subTest(size, end=end):
                    connections = self.each()
                    found = self.assert_same(
                        connections, lambda c, f=fields, e=end: c.send_headers(1, f, e)
                    )
                    frames = cut(found[3])
                    self.assertAlmostEqual(sum(len(frame[3]) for frame in frames), size, delta=1)
                    self.assertEqual([len(f[3]) for f in frames[:-1]], [limit] * (len(frames) - 1))

    def test_limit_of_streams(self) -> None:
        connections = self.each()
        limit = SettingsFrame(settings={SettingCodes.MAX_CONCURRENT_STREAMS: 1}).serialize()
        for connection in connections:
            connection.receive(limit)
        for stream_id in (1, 3):
            self.assert_same(connections, lambda c, i=stream_id: c.send_headers(i, self.fields()))

    def test_responses(self) -> None:
        connections = self.each(client=False)
        encoder = hpack.Encoder()
        frames = b"".join(
            HeadersFrame(i, encoder.encode(REQUEST), flags=["END_HEADERS"]).serialize()
            for i in (1, 3, 5)
        )
        for connection in connections:
            connection.receive(frames)

        def status(code: bytes) -> list[tuple[bytes, bytes]]:
            return [hpack.HeaderTuple(b":status", code)]

        for stream_id, code, end in [
            (1, b"103", False),
            (1, b"200", False),
            (1, b"103", False),
            (3, b"103", True),
            (5, b"204", True),
            (5, b"200", True),
        ]:
            self.assert_same(
                connections, lambda c, i=stream_id, s=code, e=end: c.send_headers(i, status(s), e)
            )

    def test_data(self) -> None:
        connections = self.each()
        self.assert_same(connections, lambda c: c.send_headers(1, self.fields()))
        for content, end in [
            (b"", False),
            (b"abc", False),
            (memoryview(b"abc")[1:], False),
            (b"x" * 16_385, False),
            (b"x" * 16_384, False),
            (b"x" * 16_384, False),
            (b"x" * 16_384, False),
            (b"x" * 16_384, False),
            (b"", True),
            (b"late", False),
        ]:
            self.assert_same(connections, lambda c, d=content, e=end: c.send_data(1, d, e))
        self.assert_same(connections, lambda c: c.send_data(7, b"x"))

    def test_bodies(self) -> None:
        for size in (1, 16_384, 16_385, 40_000, 65_535, 65_536, 90_000):
            for end in (False, True):
                with self.subTest(size, end=end):
                    connections = self.each()
                    self.assert_same(connections, lambda c: c.send_headers(1, self.fields()))
                    body = memoryview(bytes(size))
                    if size <= 65_535:
                        self.assert_same(connections, lambda c, b=body, e=end: c.send_body(1, b, e))
                        continue
                    for connection in connections:
                        with self.assertRaises(FlowControlError):
                            connection.send_body(1, body, end)

    def test_empty_data_of_a_stream_that_is_gone(self) -> None:
        for stream_id, error in ((1, StreamClosedError), (3, NoSuchStreamError)):
            for connection in self.each():
                connection.send_headers(1, self.fields())
                connection.reset_stream(1)
                connection.take_closed()
                with self.assertRaises(error):
                    connection.send_data(stream_id, b"")

    def test_padded_data(self) -> None:
        connections = self.each()
        self.assert_same(connections, lambda c: c.send_headers(1, self.fields()))
        self.assert_same(connections, lambda c: c.send_data(1, b"abc", pad_length=5))

    def test_nothing_goes_after_a_failure(self) -> None:
        for connection in self.each():
            connection.send_headers(1, self.fields())
            connection.receive(WindowUpdateFrame(0, 1).serialize()[:9] + bytes(4))
            self.assertIsNotNone(connection.failure)
            connection.data_to_send()
            connection.send_data(1, b"abc")
            connection.send_headers(3, self.fields())
            self.assertEqual(connection.data_to_send(), b"")

    def test_what_a_connection_may_not_do_yet(self) -> None:
        self.assert_same(
            self.each(), lambda c: c.state_machine.process_input(ConnectionInputs.SEND_DATA)
        )

    def test_priority_on_a_stream_that_was_reset(self) -> None:
        encoder = hpack.Encoder()
        connections = self.each(client=False)

        def headers(*flags: str) -> bytes:
            block = encoder.encode(REQUEST)
            return HeadersFrame(1, block, flags=["END_HEADERS", *flags]).serialize()

        opening, again = headers(), headers("PRIORITY", "END_STREAM")
        self.assert_same(connections, lambda c: c.receive(opening))
        self.assert_same(connections, lambda c: c.reset_stream(1))
        self.assert_same(connections, lambda c: c.receive(again))

    def test_received(self) -> None:
        encoder = hpack.Encoder()
        request = HeadersFrame(1, encoder.encode(REQUEST), flags=["END_HEADERS"])
        frames = [request, DataFrame(1, b"abc"), DataFrame(1, b"", flags=["END_STREAM"])]
        frames.append(HeadersFrame(3, encoder.encode(REQUEST), flags=["END_HEADERS", "END_STREAM"]))
        frames += [DataFrame(5, b"idle")]
        data = b"".join(frame.serialize() for frame in frames)
        self.assert_same(self.each(client=False), lambda c: c.receive(data))

    def test_output_in_parts(self) -> None:
        connections = self.each()
        self.assert_same(connections, lambda c: c.data_to_send())
        for connection in connections:
            connection.send_headers(1, self.fields())
            connection.ping(b"12345678")
        for amount in (1, 0, 8, 1_000, 5, None):
            self.assert_same(connections, lambda c, n=amount: c.data_to_send(n))
        for connection in connections:
            connection.ping(b"12345678")
            connection.clear_outbound_data_buffer()
            self.assertEqual((connection.pending, connection.data_to_send()), (0, b""))

    def test_output_may_change_after_it_was_sent(self) -> None:
        """A caller may use its buffer again as soon as a send has returned."""
        connections = self.each()
        self.assert_same(connections, lambda c: c.send_headers(1, self.fields()))

        def send(connection: Connection) -> None:
            octets = bytearray(b"x" * 40_000)
            connection.send_data(1, memoryview(octets)[:10])
            connection.send_body(1, memoryview(octets), True)
            octets[:] = bytes(len(octets))

        _, pending, _, sent, *_ = self.assert_same(connections, send)
        self.assertEqual(pending, len(sent))
        self.assertNotIn(bytes(10), sent)


class Session:
    """A client and a server that have seen much of what can happen, and all that they said."""

    def __init__(self, client: Fast, server: Fast) -> None:
        self.ends = {
            "client": connection_with(client, client=True),
            "server": connection_with(server, client=False),
        }
        # Who it came to and what it was: header blocks as fields, since a memo may choose others.
        self.frames: list[Any] = []
        self.octets: list[tuple[str, bytes]] = []
        self.told: list[Any] = []
        self.decoders = {"client": hpack.Decoder(), "server": hpack.Decoder()}

    def deliver(self, to: str, extra: bytes = b"") -> None:
        """Bring what the other end has written, and what it would never write."""
        sender = self.ends["server" if to == "client" else "client"]
        octets = sender.data_to_send() + extra
        self.octets.append((to, octets))
        self.frames.append((to, self.read(to, octets)))
        end = self.ends[to]
        self.told.append(shown(end.receive(octets)))
        self.told.append((end.take_discarded(), end.take_closed(), end.units_received))
        failure = end.failure and (type(end.failure).__name__, end.failure.error_code)
        self.told.append((end.mid_frame, failure, end.pending > 0))

    def drain(self) -> None:
        """Take what the server says of streams that the client knows nothing of."""
        octets = self.ends["server"].data_to_send()
        self.octets.append(("nobody", octets))
        self.frames.append(("nobody", self.read("client", octets)))

    def read(self, to: str, octets: bytes) -> list[Any]:
        """Return the frames, and header blocks as fields, in however many frames they came."""
        found: list[Any] = []
        block, ends = b"", 0
        for kind, flags, stream_id, payload in cut(octets):
            if kind not in (HEADERS, CONTINUATION) or flags & (PADDED | PRIORITIZED):
                found.append((kind, flags, stream_id, payload))
                continue
            block, ends = block + payload, ends | flags & END_STREAM
            if flags & END_HEADERS:
                fields: Any = block
                with contextlib.suppress(hpack.HPACKError):
                    fields = shown(self.decoders[to].decode(block, raw=True))
                found.append((HEADERS, ends, stream_id, fields))
                block, ends = b"", 0
        return found

    def both(self, rounds: int = 2) -> None:
        for _ in range(rounds):
            self.deliver("server")
            self.deliver("client")

    def attempt(self, name: str, call: str, *arguments: Any) -> None:
        """Call a method that may refuse."""
        try:
            self.told.append(shown(getattr(self.ends[name], call)(*arguments)))
        except ProtocolError as error:
            self.told.append((type(error).__name__, str(error), error.error_code))

    def begin(self) -> None:
        for name, end in self.ends.items():
            limits = LIMITS | ({SettingCodes.ENABLE_PUSH: 1} if name == "client" else {})
            end.initiate(limits | {SettingCodes.MAX_FRAME_SIZE: 20_000}, window_size=300_000)
        self.both()

    def go_through_all(self) -> None:
        self.begin()
        self.requests()
        self.bodies()
        self.large_headers()
        self.pushes()
        self.resets()
        self.stream_errors()
        self.refusals()

    def fields(self, fields: Fields, *more: tuple[bytes, bytes]) -> list[Any]:
        pairs = [hpack.HeaderTuple(*field) for field in [*fields, *more]]
        return [*pairs, hpack.NeverIndexedHeaderTuple(b"authorization", b"secret")]

    def requests(self) -> None:
        """The same ones again and again, so that they are remembered."""
        for stream_id in (1, 3, 5, 7):
            more = [(b"user-agent", b"any"), (b"accept", b"*/*"), (b"n", b"%d" % (stream_id % 4))]
            self.attempt("client", "send_headers", stream_id, self.fields(REQUEST, *more), True)
            self.deliver("server")
            self.attempt("server", "send_headers", stream_id, INTERIM)
            answer = self.fields(RESPONSE, (b"content-length", b"3"), (b"server", b"any"))
            self.attempt("server", "send_headers", stream_id, answer)
            self.attempt("server", "send_data", stream_id, b"abc", True)
            self.deliver("client")

    def bodies(self) -> None:
        self.attempt("client", "send_headers", 9, [*POST, (b"priority", b"u=1, i")])
        self.attempt("client", "update_priority", 9, b"u=2")
        self.attempt("client", "send_body", 9, memoryview(bytes(range(250)) * 200))
        self.attempt("client", "send_body", 9, memoryview(b"z" * 15_535))
        self.attempt("client", "send_data", 9, b"too much")
        self.attempt("client", "send_window", 9)
        self.both()
        self.attempt("server", "credit", 65_535, 9)
        self.attempt("server", "credit", 65_535)
        self.deliver("client")
        self.attempt("client", "send_data", 9, b"padded", False, 7)
        self.attempt("client", "send_body", 9, memoryview(b"y" * 40_000))
        self.attempt("client", "send_headers", 9, TRAILERS, True)
        self.both()
        self.attempt("server", "send_headers", 9, RESPONSE)
        self.attempt("server", "send_data", 9, b"", True)
        self.both()

    def large_headers(self) -> None:
        for stream_id in (11, 13):
            fields = self.fields(POST, *[(b"x%d" % n, b"\xff" * 1_000) for n in range(15)])
            self.attempt("client", "send_headers", stream_id, fields)
            self.both()
        trailers = [(b"large", b"\xfe" * 12_000)]
        self.attempt("client", "send_headers", 11, trailers, True)
        split = raw(HEADERS, END_STREAM, 13, b"") + raw(CONTINUATION, 0, 13, literal(TRAILERS))
        self.deliver("server", split + raw(CONTINUATION, END_HEADERS, 13, literal(TRAILERS)))
        self.deliver("client")

    def pushes(self) -> None:
        self.attempt("server", "push_stream", 11, 2, self.fields(REQUEST))
        self.attempt("server", "send_headers", 2, RESPONSE, True)
        self.attempt("server", "send_headers", 11, RESPONSE, True)
        self.both()

    def resets(self) -> None:
        for stream_id in (15, 17, 19):
            self.attempt("client", "send_headers", stream_id, POST)
        self.both()
        self.attempt("client", "reset_stream", 15, ErrorCodes.CANCEL)
        self.attempt("server", "send_data", 15, b"crossing")
        self.attempt("server", "reset_stream", 17, ErrorCodes.REFUSED_STREAM)
        self.attempt("client", "send_data", 17, b"crossing")
        self.both()
        self.deliver("server", data(15) + data(17) + headers(17, TRAILERS) + rst_stream(17))
        self.attempt("client", "forget", 19)
        self.deliver("client", data(19) + headers(19, RESPONSE))

    def stream_errors(self) -> None:
        first = 21
        for wrong in (
            lambda i: window_update(i, 0),
            lambda i: window_update(i, LARGEST),
            lambda i: raw(PRIORITY, 0, i, b"four"),
            lambda i: priority(i, i),
            lambda i: data(i, end=True) + data(i),
            lambda i: data(i, end=True) + headers(i, TRAILERS),
            lambda i: opening(i, TRAILERS),
            lambda i: headers(i, REQUEST),
            lambda i: dependent(i, i, TRAILERS),
            lambda i: data(i, b"x" * 16_384) * 5,
        ):
            self.deliver("server", opening(first) + wrong(first) + data(first, b"late"))
            self.drain()
            first += 2
        announced = [*POST, (b"content-length", b"3")]
        for frames in (
            opening(first, announced) + data(first, b"four"),
            headers(first + 2, announced),
            headers(first + 4, REQUEST[1:]),
            dependent(first + 6, first + 6),
            dependent(first + 8, 1) + raw(DATA, PADDED | END_STREAM, first + 8, b"\x03abc\0\0\0"),
            raw(UNKNOWN, 3, 1, b"any") + raw(ALTSVC, 0, 0, b"\0\1a") + raw(PING, 0, 0, bytes(8)),
            setting((1, 100), (1, 0), (1, 2_000), (4, 100_000), (0x99, 1)),
            raw(PRIORITY_UPDATE, 0, 0, u32(9) + b"u=1") + raw(PRIORITY_UPDATE, 0, 0, u32(999)),
        ):
            self.deliver("server", frames)
            self.drain()

    def refusals(self) -> None:
        """What this side may not do."""
        for name in self.ends:
            self.attempt(name, "send_data", 9, b"late")
            self.attempt(name, "send_headers", 9, TRAILERS, True)
            self.attempt(name, "send_data", 999, b"never opened")
            self.attempt(name, "send_headers", 1, self.fields(REQUEST))
            self.attempt(name, "go_away", 0)
        self.both()


#: What ends the connection: to whom, and what.
FAILURES: Final = (
    ("server", data(9_999)),
    ("server", headers(2)),
    ("server", raw(HEADERS, END_HEADERS, 9_999, b"\xff\xff\xff")),
    ("server", raw(DATA, 0, 9_999, bytes(20_001))),
    ("server", raw(HEADERS, 0, 9_999) + data(9_999)),
    ("server", raw(HEADERS, 0, 9_999) + raw(CONTINUATION, 0, 9_999) * 40),
    ("server", raw(HEADERS, END_HEADERS, 9_999, (b"\x00\x01a\x7f\x80\x7e" + b"v" * 255) * 60)),
    ("server", window_update(0, LARGEST) + headers(9_999)),
    ("server", setting((2, 2))),
    ("server", raw(PING, 0, 0, b"short")),
    ("client", data(2)),
    ("client", headers(9_999, RESPONSE)),
    ("client", promise(1, 4)),
    ("client", rst_stream(9_999) + data(1)),
)


class TestSwitches(unittest.TestCase):
    """A session goes the same way, byte for byte and event for event, whatever is switched on."""

    def compare(self, play: Callable[[Session], None]) -> Session:
        """Play a session with all on, and with something off on either side or both."""
        expected = Session(Fast(), Fast())
        play(expected)
        self.maxDiff = 2_000
        for fast in (ALL_OFF, *EACH_OFF.values()):
            for client, server in ((fast, fast), (fast, Fast()), (Fast(), fast)):
                made, which = Session(client, server), f"client {client}, server {server}"
                play(made)
                self.assertEqual(made.told, expected.told, which)
                self.assertEqual(made.frames, expected.frames, which)
                if fast.memo and fast.packing:
                    # else which fields go into the table is up to hpack
                    self.assertEqual(made.octets, expected.octets, which)
        return expected

    def test_session(self) -> None:
        played = self.compare(Session.go_through_all)
        # it has been what it should
        for end in played.ends.values():
            self.assertIsNone(end.failure)
        told = repr(played.told)
        for name in (
            "RequestReceived",
            "ResponseReceived",
            "InformationalResponseReceived",
            "TrailersReceived",
            "DataReceived",
            "PushedStreamReceived",
            "PriorityUpdated",
            "UnknownFrameReceived",
            "StreamReset",
            "StreamFailed",
            "FlowControlError",
            "StreamClosedError",
        ):
            self.assertIn(name, told)
        self.assertTrue(any(kind == CONTINUATION for _, o in played.octets for kind, *_ in cut(o)))

    def test_failures(self) -> None:
        for to, frames in FAILURES:

            def play(session: Session, to: str = to, frames: bytes = frames) -> None:
                session.begin()
                session.requests()
                session.deliver(to, frames)
                session.both()

            with self.subTest(to, frames=frames[:20]):
                played = self.compare(play)
                self.assertIsNotNone(played.ends[to].failure)


# --- stepping aside ------------------------------------------------------------------------

#: Run with a text that is to be replaced in one module of h2 or hpack, before aioh2 sees it:
#: prints what is switched on, and what a request and its answer led to.
STEPS_ASIDE: Final = """
import importlib.util, sys
name, before, after = sys.argv[1:]
if name:
    package, _, last = name.partition(".")
    __import__(package)
    for loaded in [one for one in sys.modules if one.startswith(package + ".")]:
        del sys.modules[loaded]
    spec = importlib.util.find_spec(name)
    source = spec.loader.get_source(name)
    assert before in source, before
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    exec(compile(source.replace(before, after), spec.origin, "exec"), vars(made))
    setattr(sys.modules[package], last, made)
    if package == "hpack":
        for loaded in [one for one in sys.modules if one == "hpack"]:
            del sys.modules[loaded]
from aioh2.connection import FAST
from tests.test_connection import RESPONSE, POST, Session, kinds
print(*[field for field in FAST._fields if not getattr(FAST, field)])
session = Session(FAST, FAST)
session.begin()
client, server = session.ends["client"], session.ends["server"]
client.send_headers(1, session.fields(POST))
client.send_body(1, memoryview(bytes(40_000)), True)
print(*kinds(server.receive(client.data_to_send())))
server.send_headers(1, RESPONSE)
server.send_data(1, b"abc", True)
print(*kinds(client.receive(server.data_to_send())))
print(client.failure, server.failure, client.pending)
"""
REPOSITORY: Final = pathlib.Path(__file__).parents[1]


class TestSteppingAside(unittest.TestCase):
    """A release of h2 that has moved what something relies on costs speed, and nothing else."""

    def run_with(self, name: str = "", before: str = "", after: str = "") -> list[str]:
        """Return the switches that are off; check that a request still works."""
        done = subprocess.run(
            [sys.executable, "-c", STEPS_ASIDE, name, before, after],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            cwd=REPOSITORY,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        off, request, response, ends = done.stdout.splitlines()
        self.assertEqual(request, "RequestReceived DataReceived DataReceived StreamEnded")
        self.assertEqual(response, "ResponseReceived DataReceived StreamEnded")
        self.assertEqual(ends, "None None 0")
        return off.split()

    def test_the_installed_releases_allow_all(self) -> None:
        off = [field for field in Fast._fields if not getattr(FAST, field)]
        versions = f"h2 {h2.__version__}, hpack {hpack.__version__}"
        self.assertEqual(off, [], f"{versions}: these have stepped aside")
        self.assertEqual(FAST, Fast())
        self.assertIs(Connection.fast, FAST)
        self.assertEqual(self.run_with(), [])

    def test_steps_are_elsewhere(self) -> None:
        self.assertEqual(self.run_with("h2.stream", "_transitions", "_moved"), ["streams"])

    def test_streams_have_one_attribute_more(self) -> None:
        before = "        self._actual_content_length = 0\n"
        after = f"{before}        self._newcomer = 0\n"
        self.assertEqual(self.run_with("h2.stream", before, after), ["streams"])

    def test_streams_have_one_attribute_less(self) -> None:
        gone = ("h2.stream", "_actual_content_length", "_counted")
        self.assertEqual(self.run_with(*gone), ["streams"])

    def test_an_attribute_begins_with_something_else(self) -> None:
        begins = ("h2.stream", "self._actual_content_length = 0", "self._actual_content_length = 1")
        self.assertEqual(self.run_with(*begins), ["streams"])

    def test_windows_take_one_parameter_more(self) -> None:
        before = "def __init__(self, max_window_size: int)"
        after = "def __init__(self, max_window_size: int, margin: int = 0)"
        self.assertEqual(self.run_with("h2.windows", before, after), ["streams"])

    def test_output_is_elsewhere(self) -> None:
        self.assertEqual(self.run_with("h2.connection", "_data_to_send", "_outgoing"), ["packing"])

    def test_tables_have_one_attribute_more(self) -> None:
        before = "        self.resized = False\n"
        after = f"{before}        self.newcomer = 0\n"
        self.assertEqual(self.run_with("hpack.table", before, after), ["memo"])

    def test_each_by_itself(self) -> None:
        """The same without a process of its own, so that each question is seen to be asked."""
        allows = module._what_h2_allows
        self.assertEqual(allows(), Fast())
        with mock.patch.object(h2.stream, "_transitions"):
            del h2.stream._transitions
            self.assertEqual(allows(), Fast(streams=False))
        with mock.patch.dict(QuickStream.FRESH, {"_newcomer": None}):
            self.assertEqual(allows(), Fast(streams=False))
        with mock.patch.object(module, "WindowManager", lambda max_window_size, margin=0: None):
            self.assertEqual(allows(), Fast(streams=False))
        with mock.patch.object(h2.stream, "H2Stream", lambda stream_id, newcomer: None):
            self.assertEqual(allows(), Fast(streams=False))
        with mock.patch.object(module, "H2Connection", object):
            self.assertEqual(allows(), Fast(packing=False))
        self.assertEqual(allows(), Fast())


if __name__ == "__main__":
    unittest.main()
