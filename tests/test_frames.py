"""Octets in and frames out, however they are cut and whatever is wrong; frames in, octets out."""

from __future__ import annotations

import unittest
from collections.abc import Iterable
from typing import Any

from h2.errors import ErrorCodes
from h2.exceptions import (
    FrameDataMissingError,
    FrameTooLargeError,
    ProtocolError,
)
from hyperframe.frame import Frame
from hypothesis import given, settings
from hypothesis import strategies as st

from aioh2.config import Config
from aioh2.frames import COUNTED, FrameBuffer, Output, PrefaceError, StreamError
from aioh2.guards import BULK, BudgetExceeded

from .octets import (
    ACK,
    ALTSVC,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITIZED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    UNKNOWN,
    WINDOW_UPDATE,
    data,
    dependent,
    goaway,
    headers,
    opening,
    priority,
    promise,
    raw,
    rst_stream,
    setting,
    u32,
    window_update,
)

BOUNDED = settings(derandomize=True, database=None, deadline=None, max_examples=300)
#: Frames of every kind, plain and not, some of them wrong for their stream.
EVERY_KIND = (
    setting((1, 100), (4, 7), (1, 200)),
    raw(SETTINGS, ACK),
    opening(1),
    data(1, b"abc"),
    data(1, b""),
    raw(DATA, PADDED, 1, b"\x02abc\0\0"),
    window_update(1, 0),
    data(1, b"end", end=True),
    headers(3),
    dependent(5, 3),
    raw(HEADERS, PADDED | END_HEADERS, 7, b"\x02abc\0\0"),
    raw(HEADERS, END_STREAM, 9, b"ab"),
    raw(CONTINUATION, 0, 9, b""),
    raw(CONTINUATION, END_HEADERS, 9, b"cd"),
    priority(1, 3),
    raw(PRIORITY, 0, 1, b"1234"),
    rst_stream(3),
    window_update(0, 5),
    window_update(1, 2**31 + 5),
    raw(PING, 0, 0, b"12345678"),
    raw(UNKNOWN, 0xFF, 1, b"any"),
    raw(ALTSVC, 0, 0, b"\x00\x01ah2"),
    goaway(1, 2, b"why"),
    data(2**31 + 1, b"the reserved bit"),
    headers(11),
)
#: The same as a client would send them.
SESSION = PREFACE + b"".join(EVERY_KIND)


def frame_buffer(*, server: bool = False, plainly: bool = True) -> FrameBuffer:
    made = FrameBuffer(server)
    made.plainly = plainly
    return made


def begun(*, plainly: bool = True) -> FrameBuffer:
    """Return a client's buffer after the server's first SETTINGS."""
    made = frame_buffer(plainly=plainly)
    made.add_data(setting())
    assert isinstance(made.next_frame(), Frame)
    assert made.next_frame() is None
    return made


def shown(frame: Any) -> object:
    """Return what a frame says, the same for a plain one and for hyperframe's."""
    if isinstance(frame, tuple):
        return frame
    more = {**vars(frame), "flags": {*frame.flags}}
    if frame.type in (DATA, HEADERS) and more["flags"] <= {"END_STREAM", "END_HEADERS"}:
        return frame.type, "END_STREAM" in frame.flags, frame.stream_id, frame.data
    return frame.type, more


def read(made: FrameBuffer, pieces: Iterable[Any]) -> list[object]:
    """Return what the frames in ``pieces`` say; errors are what they are, and end it."""
    found: list[object] = []
    for piece in pieces:
        try:
            made.add_data(piece)
            while True:
                try:
                    frame = made.next_frame()
                except StreamError as error:
                    found.append((error.stream_id, error.error_code, str(error)))
                    continue
                if frame is None:
                    break
                found.append(shown(frame))
        except ProtocolError as failure:
            return [*found, (type(failure), failure.error_code)]
    return found


# --- how it comes --------------------------------------------------------------------------


class TestPieces(unittest.TestCase):
    def expected(self) -> list[object]:
        found = read(frame_buffer(server=True, plainly=False), [SESSION])
        # two parts of a block, and what a server ignores, are no frames of their own
        self.assertEqual(len(found), len(EVERY_KIND) - 3)
        return found

    def test_in_one_read(self) -> None:
        self.assertEqual(read(frame_buffer(server=True), [SESSION]), self.expected())

    def test_cut_anywhere(self) -> None:
        expected = self.expected()
        for plainly in (False, True):
            for at in range(len(SESSION) + 1):
                made = frame_buffer(server=True, plainly=plainly)
                found = read(made, [SESSION[:at], SESSION[at:]])
                self.assertEqual(found, expected, f"cut at {at}")
                self.assertFalse(made.mid_frame)

    def test_in_small_pieces(self) -> None:
        expected = self.expected()
        for size in (1, 2, 7, 9, 10, 23):
            pieces = [SESSION[at : at + size] for at in range(0, len(SESSION), size)]
            for kind in (bytes, bytearray, memoryview):
                with self.subTest(size, kind=kind):
                    found = read(frame_buffer(server=True), map(kind, pieces))
                    self.assertEqual(found, expected)

    def test_a_frame_in_each_read(self) -> None:
        self.assertEqual(
            read(frame_buffer(server=True), [PREFACE, *EVERY_KIND]),
            self.expected(),
        )

    def test_whatever_holds_octets(self) -> None:
        for kind in (bytes, bytearray, memoryview):
            with self.subTest(kind):
                found = read(frame_buffer(server=True), [kind(SESSION)])
                self.assertEqual(found, self.expected())

    def test_what_was_read_may_be_used_again(self) -> None:
        """A caller that reads into one buffer time and again changes no frame by it."""
        made = begun()
        octets = bytearray(data(1, b"abc") + data(1, b"def") + data(1, b"ghi")[:11])
        made.add_data(memoryview(octets))
        first = made.next_frame()
        octets[:] = bytes(len(octets))
        self.assertEqual(first, (DATA, False, 1, b"abc"))
        self.assertEqual(made.next_frame(), (DATA, False, 1, b"def"))
        self.assertIsNone(made.next_frame())
        made.add_data(data(1, b"ghi")[11:])
        self.assertEqual(made.next_frame(), (DATA, False, 1, b"ghi"))

    def test_payloads_are_bytes(self) -> None:
        for plainly in (False, True):
            made = begun(plainly=plainly)
            made.add_data(bytearray(data(1) + raw(DATA, PADDED, 1, b"\x01a\0") + headers(3)))
            while (frame := made.next_frame()) is not None:
                payload = frame[3] if isinstance(frame, tuple) else getattr(frame, "data", None)
                self.assertIs(type(payload), bytes)

    def test_a_frame_that_trickles_in_is_copied_once(self) -> None:
        copied: list[int] = []

        class Counted(bytearray):
            def __bytes__(self) -> bytes:
                copied.append(len(self))
                return bytes(memoryview(self))

        made = begun()
        rest = made._rest = Counted()
        frame = data(1, bytes(16_384))
        for at in range(len(frame)):
            self.assertIsNone(made.next_frame())
            made.add_data(frame[at : at + 1])
        self.assertEqual(made.next_frame(), (DATA, False, 1, bytes(16_384)))
        self.assertIs(made._rest, rest)
        # its header, to know how long it is, and all of it
        self.assertEqual(copied, [9, len(frame)])

    def test_a_read_that_ends_in_the_next_frame_keeps_its_beginning_only(self) -> None:
        made = begun()
        made.add_data(data(1, bytes(16_384)) * 3 + data(3)[:10])
        for _ in range(3):
            self.assertIsNotNone(made.next_frame())
        self.assertIsNone(made.next_frame())
        self.assertEqual(bytes(made._rest), data(3)[:10])
        self.assertEqual(made._data, b"")

    @BOUNDED
    @given(
        st.lists(
            st.builds(
                raw,
                st.integers(0, 11),
                st.one_of(st.integers(0, 255), st.sampled_from([0, 1, 4, 5, 8])),
                st.sampled_from([0, 1, 1, 3, 2**31 + 1]),
                st.one_of(st.binary(max_size=12), st.sampled_from([bytes(4), bytes(5), bytes(8)])),
            ),
            max_size=8,
        ),
        st.integers(1, 40),
        st.booleans(),
    )
    def test_any_frames(self, frames: list[bytes], size: int, server: bool) -> None:
        """Plain or not, cut or not: the same frames and the same errors."""
        octets = setting() + b"".join(frames)
        start = [PREFACE] if server else []
        expected = read(frame_buffer(server=server, plainly=False), [*start, octets])
        pieces = [octets[at : at + size] for at in range(0, len(octets), size)]
        for plainly in (False, True):
            found = read(frame_buffer(server=server, plainly=plainly), [*start, octets])
            self.assertEqual(found, expected)
            found = read(frame_buffer(server=server, plainly=plainly), [*start, *pieces])
            self.assertEqual(found, expected)


class TestPlain(unittest.TestCase):
    def kind(self, octets: bytes) -> type:
        made = begun()
        made.add_data(octets)
        return type(made.next_frame())

    def test_what_is(self) -> None:
        for octets, expected in (
            (data(1, b"abc"), (DATA, False, 1, b"abc")),
            (data(1, b"", end=True), (DATA, True, 1, b"")),
            (raw(HEADERS, END_HEADERS, 1, b"a"), (HEADERS, False, 1, b"a")),
            (raw(HEADERS, END_HEADERS | END_STREAM, 1, b"a"), (HEADERS, True, 1, b"a")),
            (data(2**31 + 1, b"abc"), (DATA, False, 1, b"abc")),
        ):
            made = begun()
            made.add_data(octets)
            self.assertEqual(made.next_frame(), expected)
            self.assertEqual(made.units, 2)

    def test_what_is_not(self) -> None:
        for octets in (
            raw(DATA, PADDED, 1, b"\0abc"),
            raw(DATA, END_HEADERS, 1, b"abc"),
            raw(HEADERS, END_HEADERS | PADDED, 1, b"\0abc"),
            dependent(1, 3),
            setting(),
            rst_stream(1),
            window_update(1, 1),
        ):
            self.assertTrue(issubclass(self.kind(octets), Frame))

    def test_switched_off(self) -> None:
        made = begun(plainly=False)
        made.add_data(data(1) + headers(3))
        self.assertIsInstance(made.next_frame(), Frame)
        self.assertIsInstance(made.next_frame(), Frame)


# --- what comes ----------------------------------------------------------------------------


class TestBeginning(unittest.TestCase):
    def test_preface(self) -> None:
        made = frame_buffer(server=True)
        for octet in PREFACE:
            made.add_data(bytes([octet]))
            self.assertIsNone(made.next_frame())
        made.add_data(setting())
        frame: Any = made.next_frame()
        self.assertEqual(frame.type, SETTINGS)

    def test_no_preface(self) -> None:
        for start, what in ((b"GET / HTTP/1.1\r\n", "HTTP/1"), (b"\x16\x03\x01", "something else")):
            for kind in (bytes, memoryview):
                with self.subTest(what), self.assertRaises(PrefaceError) as caught:
                    frame_buffer(server=True).add_data(kind(start))  # type: ignore[arg-type]  # as an SSL object may give
                self.assertIn(what, str(caught.exception))
                self.assertEqual(caught.exception.error_code, ErrorCodes.PROTOCOL_ERROR)

    def test_a_preface_that_goes_wrong_later(self) -> None:
        made = frame_buffer(server=True)
        made.add_data(PREFACE[:10])
        with self.assertRaises(PrefaceError):
            made.add_data(b"x")

    def test_first_frame(self) -> None:
        for start in (
            raw(SETTINGS, ACK),
            raw(SETTINGS, 0, 1),
            raw(PING, 0, 0, bytes(8)),
            headers(1),
            data(1),
        ):
            for server in (False, True):
                made = frame_buffer(server=server)
                made.add_data((PREFACE if server else b"") + start)
                with self.assertRaises(PrefaceError):
                    made.next_frame()

    def test_http_1_server(self) -> None:
        made = frame_buffer()
        made.add_data(b"HTTP/1.1 400 Bad Request\r\n")
        with self.assertRaises(PrefaceError) as caught:
            made.next_frame()
        self.assertIn("speaks HTTP/1", str(caught.exception))


class TestCounts(unittest.TestCase):
    def test_by_type(self) -> None:
        for plainly in (True, False):
            made = begun(plainly=plainly)
            before = list(made.counts)
            blocks = raw(HEADERS, 0, 1, b"abc") + raw(CONTINUATION, END_HEADERS, 1)
            others = b"".join(raw(kind, 0, 0) for kind in (0xFA, 0xFF, COUNTED, COUNTED - 1))
            made.add_data(blocks + 3 * data(1, b"abc") + others)
            while made.next_frame() is not None:
                pass
            counts = [now - was for now, was in zip(made.counts, before, strict=True)]
            self.assertEqual(counts[HEADERS], 1)
            self.assertEqual(counts[CONTINUATION], 1)
            self.assertEqual(counts[DATA], 3)
            self.assertEqual(counts[COUNTED - 1 :], [1, 3])
            self.assertEqual(sum(counts), 9)


class TestProgress(unittest.TestCase):
    def test_mid_frame(self) -> None:
        made = begun()
        self.assertFalse(made.mid_frame)
        frame = raw(HEADERS, 0, 1, b"abc")
        for octets in (frame[:1], frame[1:11], frame[11:]):
            made.add_data(octets)
            self.assertIsNone(made.next_frame())
            self.assertTrue(made.mid_frame)
        made.add_data(raw(CONTINUATION, END_HEADERS, 1, b"def"))
        frame_of_all: Any = made.next_frame()
        self.assertEqual(frame_of_all.data, b"abcdef")
        self.assertFalse(made.mid_frame)

    def test_units(self) -> None:
        made = begun()
        self.assertEqual(made.units, 1)
        made.add_data(raw(HEADERS, 0, 1) + raw(CONTINUATION, END_HEADERS, 1) + setting()[:5])
        made.next_frame()
        self.assertIsNone(made.next_frame())
        self.assertEqual(made.units, 2)

    def test_a_block_keeps_what_its_first_frame_said(self) -> None:
        made = begun()
        made.add_data(
            raw(HEADERS, END_STREAM | PRIORITIZED, 1, u32(3) + b"\x07ab")
            + raw(CONTINUATION, 0, 1, b"cd")
            + raw(CONTINUATION, END_HEADERS, 1, b"ef")
        )
        frame: Any = made.next_frame()
        self.assertEqual((frame.type, frame.stream_id, frame.data), (HEADERS, 1, b"abcdef"))
        self.assertEqual((frame.depends_on, frame.stream_weight), (3, 7))
        self.assertEqual({*frame.flags}, {"END_STREAM", "PRIORITY", "END_HEADERS"})
        made.add_data(raw(PUSH_PROMISE, 0, 1, u32(2) + b"ab"))
        self.assertIsNone(made.next_frame())
        made.add_data(raw(CONTINUATION, END_HEADERS, 1, b"cd"))
        promised: Any = made.next_frame()
        self.assertEqual((promised.promised_stream_id, promised.data), (2, b"abcd"))


class TestRefused(unittest.TestCase):
    def fails(self, frame: bytes, error: type[ProtocolError], code: ErrorCodes) -> None:
        for plainly in (False, True):
            made = begun(plainly=plainly)
            made.add_data(frame)
            with self.assertRaises(error) as caught:
                while made.next_frame() is not None:
                    pass
            self.assertEqual(caught.exception.error_code, code)

    def test_largest(self) -> None:
        made = begun()
        made.add_data(raw(DATA, 0, 1, bytes(16384)) * 2)
        frame: Any = made.next_frame()
        self.assertEqual(len(frame[3]), 16384)
        made.max_frame_size = 16383
        with self.assertRaises(FrameTooLargeError):
            made.next_frame()

    def test_length(self) -> None:
        size = ErrorCodes.FRAME_SIZE_ERROR
        self.fails(raw(DATA, 0, 1, bytes(16385))[:9], FrameTooLargeError, size)
        self.fails(raw(HEADERS, END_HEADERS, 1, bytes(2**16))[:9], FrameTooLargeError, size)
        for frame in (
            raw(RST_STREAM, 0, 1, b"123"),
            raw(PING, 0, 0, b"1234567"),
            raw(WINDOW_UPDATE, 0, 0, b"12345"),
            raw(SETTINGS, 0, 0, b"12345"),
            raw(SETTINGS, ACK, 0, bytes(6)),
        ):
            with self.subTest(kind=frame[3]):
                self.fails(frame[:9], FrameDataMissingError, size)
        self.fails(raw(GOAWAY, 0, 0, b"1234"), FrameDataMissingError, size)
        self.fails(raw(DATA, PADDED, 1), FrameDataMissingError, size)
        self.fails(raw(PUSH_PROMISE, 0, 1), FrameDataMissingError, size)

    def test_content(self) -> None:
        code = ErrorCodes.PROTOCOL_ERROR
        for frame in (
            raw(DATA, 0, 0),
            raw(HEADERS, END_HEADERS, 0, b"abc"),
            raw(DATA, PADDED, 1, b"\x01"),
            raw(HEADERS, PADDED, 1, b"\x02a"),
            raw(HEADERS, PADDED | PRIORITIZED, 1, b"\x01" + bytes(5)),
            raw(PUSH_PROMISE, PADDED, 1, b"\x01" + u32(2)),
            raw(PUSH_PROMISE, END_HEADERS, 1, u32(3)),
            raw(PRIORITY, 0, 0, b"1234"),
            window_update(0, 0),
        ):
            with self.subTest(frame=frame):
                self.fails(frame, ProtocolError, code)

    def test_what_comes_into_a_block(self) -> None:
        begin = raw(HEADERS, 0, 1)
        for frame in (
            data(1),
            headers(1),
            headers(3),
            raw(UNKNOWN),
            raw(ALTSVC),
            raw(CONTINUATION, END_HEADERS, 3, b"abc"),
        ):
            with self.subTest(frame=frame):
                # as soon as it can be seen
                self.fails(begin + frame[:9], ProtocolError, ErrorCodes.PROTOCOL_ERROR)

    def test_a_continuation_of_nothing_is_left_to_others(self) -> None:
        made = begun()
        made.add_data(raw(CONTINUATION, END_HEADERS, 1, b"abc"))
        frame: Any = made.next_frame()
        self.assertEqual(frame.type, CONTINUATION)

    def test_what_is_wrong_for_a_stream_only(self) -> None:
        made = begun()
        made.add_data(window_update(5, 0) + raw(PRIORITY, 0, 7, bytes(6)) + data(1))
        for stream_id, code in ((5, ErrorCodes.PROTOCOL_ERROR), (7, ErrorCodes.FRAME_SIZE_ERROR)):
            with self.assertRaises(StreamError) as caught:
                made.next_frame()
            self.assertEqual(caught.exception.stream_id, stream_id)
            self.assertEqual(caught.exception.error_code, code)
        self.assertEqual(made.next_frame(), (DATA, False, 1, b"xx"))


class TestCharged(unittest.TestCase):
    """Every frame is charged as it comes out, and before anything is made of it."""

    def counts(self, made: FrameBuffer) -> tuple[int, int]:
        return made._guards.content_received, made._guards.bulk_received

    def test_content_earns(self) -> None:
        for plainly in (False, True):
            made = begun(plainly=plainly)
            for piece, counts in [
                (data(1, b"ab"), (1, 0)),
                (data(1, b"a" * (BULK - 1)), (2, 0)),
                (data(1, b"a" * BULK), (3, 1)),
                (raw(DATA, PADDED, 1, b"\x01ab\0"), (4, 1)),
                (headers(3) + goaway(0), (4, 1)),
            ]:
                made.add_data(piece)
                while made.next_frame() is not None:
                    pass
                self.assertEqual(self.counts(made), counts)

    def charged(self, frame: bytes, *, plainly: bool) -> bool:
        """Whether one that is not paid for is refused, by its header and not its content."""
        nothing = (0, 0)
        made = FrameBuffer(
            False,
            limits=Config(
                control_budget=nothing,
                reset_budget=nothing,
                window_update_budget=nothing,
                empty_frame_budget=nothing,
            ),
        )
        made._settings_came = True
        made.plainly = plainly
        made.add_data(frame)
        try:
            made.next_frame()
        except BudgetExceeded:
            return True
        return False

    def test_which(self) -> None:
        for plainly in (False, True):
            for frame, charged in [
                (headers(1), False),
                (raw(HEADERS, END_HEADERS | PRIORITIZED, 1, bytes(5)), True),
                (raw(HEADERS, END_HEADERS | PADDED, 1, b"\x01\0"), False),
                (raw(HEADERS, END_HEADERS | PADDED, 1, b"\0"), True),
                (raw(HEADERS, END_HEADERS, 1), True),
                (data(1, b"a"), False),
                (data(1, b""), True),
                (data(1, b"", end=True), False),
                (window_update(1, 1), True),
                # and before its content is judged
                (window_update(1, 0), True),
                (rst_stream(1), True),
                (setting(), True),
                (goaway(0), True),
                (raw(UNKNOWN, 0, 0), True),
            ]:
                with self.subTest(frame=frame, plainly=plainly):
                    self.assertIs(self.charged(frame, plainly=plainly), charged)

    def test_a_frame_that_is_not_there_yet_costs_nothing(self) -> None:
        self.assertFalse(self.charged(raw(PING, 0, 0, bytes(8))[:-1], plainly=True))

    def test_weight(self) -> None:
        made = begun()
        made.weight = 0
        made.add_data(data(1, bytes(5000)) + headers(1) + raw(PING, 0, 0, bytes(8)))
        weights = []
        while made.next_frame() is not None:
            weights.append(made.weight)
        self.assertEqual(weights, [0, len(headers(1)), len(headers(1)) + 17])

    def test_has_more(self) -> None:
        made = begun()
        self.assertFalse(made.has_more)
        ping = raw(PING, 0, 0, bytes(8))
        made.add_data(ping[:5])
        self.assertIsNone(made.next_frame())
        self.assertFalse(made.has_more)
        made.add_data(ping[5:] + ping)
        self.assertTrue(made.has_more)
        made.next_frame()
        self.assertTrue(made.has_more)
        made.next_frame()
        self.assertFalse(made.has_more)


class TestBlocks(unittest.TestCase):
    """A header block must not take memory without end (RFC 9113 section 10.5.1)."""

    def refused(self, made: FrameBuffer) -> None:
        with self.assertRaises(BudgetExceeded) as caught:
            made.next_frame()
        self.assertEqual(caught.exception.error_code, ErrorCodes.ENHANCE_YOUR_CALM)
        self.assertIn(caught.exception.budget, ("max_continuations", "max_header_block_size"))

    def test_the_options(self) -> None:
        made = FrameBuffer(False, limits=Config(max_header_block_size=7, max_continuations=1))
        made._settings_came = True
        first, last = raw(HEADERS, 0, 1), raw(CONTINUATION, END_HEADERS, 1, b"1234567")
        made.add_data(first + last)
        self.assertIsNotNone(made.next_frame())
        made.add_data(first + raw(CONTINUATION, 0, 1, b"8") + last)
        with self.assertRaises(BudgetExceeded) as caught:
            made.next_frame()
        self.assertEqual(caught.exception.budget, "max_continuations")
        made = FrameBuffer(False, limits=Config(max_header_block_size=7))
        made._settings_came = True
        made.add_data(raw(HEADERS, END_HEADERS, 1, b"12345678"))
        with self.assertRaises(BudgetExceeded) as caught:
            made.next_frame()
        self.assertEqual(caught.exception.budget, "max_header_block_size")

    def test_continuations(self) -> None:
        more = raw(CONTINUATION, 0, 1)
        last = raw(CONTINUATION, END_HEADERS, 1, b"b")
        for first in (raw(HEADERS, 0, 1, b"a"), raw(PUSH_PROMISE, 0, 1, u32(2) + b"a")):
            made = begun()
            made.add_data(first + more * 31 + last)
            frame: Any = made.next_frame()
            self.assertEqual(frame.data, b"ab")
            made.add_data(first + more * 32)
            self.assertIsNone(made.next_frame())
            made.add_data(more)
            self.refused(made)

    def test_the_last_of_too_many(self) -> None:
        made = begun()
        made.add_data(
            raw(HEADERS, 0, 1) + raw(CONTINUATION, 0, 1) * 32 + raw(CONTINUATION, END_HEADERS, 1)
        )
        self.refused(made)

    def test_blocks_are_counted_each_by_itself(self) -> None:
        made = begun()
        block = raw(HEADERS, 0, 1, b"a" * 10) + raw(CONTINUATION, END_HEADERS, 1, b"b" * 10)
        made.max_block_size = 20
        made.add_data(block * 40)
        for _ in range(40):
            self.assertIsNotNone(made.next_frame())

    def test_size(self) -> None:
        for plainly in (False, True):
            made = begun(plainly=plainly)
            made.max_block_size = 20
            made.add_data(
                raw(HEADERS, 0, 1, b"a" * 10) + raw(CONTINUATION, END_HEADERS, 1, b"b" * 10)
            )
            self.assertIsNotNone(made.next_frame())
            made.add_data(raw(HEADERS, 0, 1, b"a" * 10) + raw(CONTINUATION, 0, 1, b"b" * 11))
            self.refused(made)

    def test_size_of_one_frame(self) -> None:
        """A large frame must not be the way around the limit, plain or not."""
        for plainly in (False, True):
            with self.subTest(plainly=plainly):
                made = begun(plainly=plainly)
                made.max_block_size = 20
                made.add_data(raw(HEADERS, END_HEADERS, 1, b"a" * 20))
                self.assertIsNotNone(made.next_frame())
                made.add_data(raw(HEADERS, END_HEADERS, 1, b"a" * 21))
                self.refused(made)


class TestContent(unittest.TestCase):
    def test_padding(self) -> None:
        for frame, attribute, expected in (
            (raw(DATA, PADDED, 1, b"\x02abc\0\0"), "data", b"abc"),
            (raw(DATA, PADDED, 1, b"\x02abc\0\0"), "flow_controlled_length", 6),
            (raw(DATA, PADDED, 1, b"\x02\0\0"), "data", b""),
            (raw(HEADERS, PADDED | END_HEADERS, 1, b"\x02abc\0\0"), "data", b"abc"),
            (raw(HEADERS, PADDED | END_HEADERS, 1, b"\x02\0\0"), "data", b""),
            (
                raw(HEADERS, PADDED | PRIORITIZED | END_HEADERS, 1, b"\x01" + bytes(6)),
                "stream_weight",
                0,
            ),
            (raw(PUSH_PROMISE, PADDED | END_HEADERS, 1, b"\x01" + u32(2) + b"a\0"), "data", b"a"),
            # flags without meaning
            (raw(DATA, PADDED | PRIORITIZED, 1, b"\x01a\0"), "data", b"a"),
            (raw(PING, PADDED, 0, b"\xff2345678"), "opaque_data", b"\xff2345678"),
        ):
            with self.subTest(frame=frame):
                made = begun()
                made.add_data(frame)
                self.assertEqual(getattr(made.next_frame(), attribute), expected)

    def test_reserved_bits(self) -> None:
        for flags, prefix in ((END_HEADERS, b""), (END_HEADERS | PADDED, b"\x00")):
            made = begun()
            made.add_data(raw(PUSH_PROMISE, flags, 1, prefix + u32(2**31 + 2) + b"block"))
            frame: Any = made.next_frame()
            self.assertEqual((frame.promised_stream_id, frame.data), (2, b"block"))
        made.add_data(promise(2**31 + 1, 4) + window_update(0, 2**31 + 7))
        frame = made.next_frame()
        self.assertEqual((frame.stream_id, frame.promised_stream_id), (1, 4))
        frame = made.next_frame()
        self.assertEqual(frame.window_increment, 7)

    def test_repeated_settings(self) -> None:
        made = begun()
        made.add_data(setting((1, 5), (0x1234, 6), (1, 7)))
        frame: Any = made.next_frame()
        self.assertEqual(frame.entries, [(1, 5), (0x1234, 6), (1, 7)])

    def test_altsvc(self) -> None:
        """RFC 7838: a client may use it, a server ignores it."""
        frame = raw(ALTSVC, 0, 0, b"\x00\x01ah2")
        made = begun()
        made.add_data(frame)
        found: Any = made.next_frame()
        self.assertEqual(found.type, ALTSVC)
        for payload in (b"", b"\x00", b"\x00\x01", b"\xff\xffh2"):
            # cut short, and so ignored
            made = begun()
            made.add_data(raw(ALTSVC, 0, 0, payload) + raw(ALTSVC, 0, 1, b"\x00\x00"))
            (found,) = iter(made.next_frame, None)
            self.assertEqual(found.stream_id, 1)
        made = frame_buffer(server=True)
        made.add_data(PREFACE + setting() + frame + raw(ALTSVC, 0, 1) + raw(UNKNOWN))
        types = [frame.type for frame in iter(made.next_frame, None) if isinstance(frame, Frame)]
        self.assertEqual(types, [SETTINGS, UNKNOWN])


class TestOutput(unittest.TestCase):
    def test_pieces_in_order(self) -> None:
        made = Output()
        self.assertEqual((len(made), made.take()), (0, b""))
        same = made
        made += PREFACE
        self.assertIs(made, same)
        made.add_frame(DATA, END_STREAM, 3, b"abc")
        made.add_frame(HEADERS, END_HEADERS, 2**31 - 1, b"")
        made += setting((1, 2))
        expected = PREFACE + data(3, b"abc", end=True)
        expected += raw(HEADERS, END_HEADERS, 2**31 - 1) + setting((1, 2))
        self.assertEqual(len(made), len(expected))
        self.assertEqual(made.take(), expected)
        self.assertEqual((len(made), made.take()), (0, b""))

    def test_counts(self) -> None:
        made = Output()
        made.add_frame(HEADERS, END_HEADERS, 1, b"abc")
        for size in (0, 4, 5, 8, 9):
            made.add_data(1, memoryview(bytes(size)), 4, False)
        count = made.take().count(b"\x00\x00\x00\x00\x01")
        self.assertEqual((made.counts[HEADERS], made.counts[DATA]), (1, 1 + 1 + 2 + 2 + 3))
        self.assertGreaterEqual(count, sum(made.counts))

    def test_lengths(self) -> None:
        for size in (0, 255, 256, 65_535, 65_536, 2**20):
            made = Output()
            made.add_frame(DATA, 0, 1, bytes(size))
            self.assertEqual(len(made), 9 + size)
            self.assertEqual(made.take(), raw(DATA, 0, 1, bytes(size)))

    def test_what_may_change_is_copied_at_once(self) -> None:
        octets = bytearray(b"abcdef")
        for payload in (memoryview(octets)[1:4], memoryview(octets).toreadonly()[1:4]):
            octets[:] = b"abcdef"
            made = Output()
            made.add_data(1, payload, 2, False)
            octets[:] = b"------"
            self.assertEqual(made.take(), data(1, b"bc") + data(1, b"d"))

    def test_what_cannot_change_is_not(self) -> None:
        octets = b"abcdef"
        for limit, expected in (
            (2, data(1, b"bc") + data(1, b"d", end=True)),
            (3, data(1, b"bcd", end=True)),
        ):
            made = Output()
            made.add_data(1, memoryview(octets)[1:4], limit, True)
            views = [piece for piece in made._pieces if isinstance(piece, memoryview)]
            self.assertTrue(all(view.obj is octets for view in views) and views)
            self.assertEqual(len(made), len(expected))
            self.assertEqual(made.take(), expected)


if __name__ == "__main__":
    unittest.main()
