"""How to recognise each deliberate difference, as narrowly as it can be told from outside."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import hpack
from h2.errors import ErrorCodes
from h2.exceptions import (
    InvalidBodyLengthError,
    NoSuchStreamError,
    ProtocolError,
    StreamClosedError,
    TooManyStreamsError,
)
from hpack.exceptions import HPACKError
from traffic import (
    ACK,
    ALTSVC,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PRIORITIZED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Call,
    Frame,
)

from aioh2.headers import Kind, Malformed
from aioh2.headers import check as check_fields

Fields = list[tuple[bytes, bytes]]

# RFC 9218 section 7.1
PRIORITY_UPDATE: Final = 0x10
# RFC 8336 section 2.1
ORIGIN: Final = 0x0C


class Result(NamedTuple):
    """What a step led to: an error, events or a value, and output (as frames, and as bytes).

    ``reasons``: why ours has reset streams.
    """

    error: BaseException | None
    found: Any
    frames: list[Any]
    out: bytes
    reasons: list[str]


def kind_of(error: BaseException | None) -> Any:
    """Return what two errors have to have in common: the code, or the class."""
    if isinstance(error, ProtocolError):
        return error.error_code
    return type(error)


class Reader:
    """What one has to have seen of a session to judge a difference."""

    def __init__(self, *, client: bool) -> None:
        self.client = client
        self._decoder = hpack.Decoder(2**31)
        self._decoder.max_allowed_table_size = 2**31
        self._block = b""
        # What began the header section that is open, or has just ended.
        self._first: Frame | None = None
        #: Whether a frame has come.
        self.begun = False
        #: The header section that the last frame has ended; None: it has not, or cannot be read.
        self.fields: Fields | None = None
        #: The stream of that section, whether it ends it, and the stream that it promises.
        self.stream_id = 0
        self.ends = False
        self.promised = 0
        #: Whether the last frame came where a CONTINUATION was due.
        self.interrupts = False
        #: SETTINGS that were written, and not acknowledged.
        self.unacked = 0
        #: Streams that this side has reset, and that the peer has.
        self.reset: set[int] = set()
        self.reset_by_peer: set[int] = set()
        #: Whether DATA have come that no event tells about.
        self.discarded = False
        #: Whether h2 has refused to send headers.
        self.refused = False
        #: Streams whose request has the method CONNECT.
        self.tunnels: set[int] = set()

    def received(self, frame: Frame) -> None:
        kind, flags, payload = frame.kind, frame.flags, frame.payload
        self.fields = None
        if kind != CONTINUATION:
            self.promised = 0
        self.interrupts = self._first is not None and kind != CONTINUATION
        if payload is None:
            return
        if kind in (HEADERS, PUSH_PROMISE):
            self._first, self._block = frame, _block_of(frame)
            self.stream_id = frame.stream_id
            self.ends = kind == HEADERS and bool(flags & END_STREAM)
            at = 1 if flags & PADDED else 0
            if kind == PUSH_PROMISE:
                self.promised = int.from_bytes(payload[at : at + 4]) & 0x7FFF_FFFF
        elif kind == CONTINUATION:
            self._block += payload
        else:
            return
        if flags & END_HEADERS and self._first is not None:
            self._first = None
            with contextlib.suppress(HPACKError, UnicodeDecodeError):
                self.fields = list(self._decoder.decode(self._block, raw=True))
                self._note(self.promised or self.stream_id, self.fields)

    def done(self, step: Call | Frame, a: Result, before: dict[str, Any]) -> None:
        if isinstance(step, Call):
            headers = step.name in ("send_headers", "push_stream")
            self.refused = self.refused or (headers and a.error is not None)
        elif step.payload is not None:
            self.begun = True
            if step.kind == SETTINGS and step.flags & ACK:
                self.unacked = max(0, self.unacked - 1)
            elif step.kind == DATA and "DataReceived" not in [event[0] for event in a.found]:
                self.discarded = True
            elif step.kind == RST_STREAM and step.stream_id in before["streams"]:
                self.reset_by_peer.add(step.stream_id)
        for frame in a.frames:
            if frame[0] == SETTINGS and not frame[1] & ACK:
                self.unacked += 1
            elif frame[0] == RST_STREAM and frame[2] in (*before["streams"], self.promised):
                self.reset.add(frame[2])
            elif frame[0] == HEADERS and isinstance(frame[4], list):
                self._note(frame[2], [field[-2:] for field in frame[4]])

    def _note(self, stream_id: int, fields: list[Any]) -> None:
        if (b":method", b"CONNECT") in [tuple(field) for field in fields]:
            self.tunnels.add(stream_id)


def _block_of(frame: Frame) -> bytes:
    payload = frame.payload or b""
    if frame.flags & PADDED and payload:
        payload = payload[1 : len(payload) - payload[0]]
    if frame.kind == PUSH_PROMISE:
        return payload[4:]
    return payload[5:] if frame.flags & PRIORITIZED else payload


class Difference(NamedTuple):
    """A step after which h2 (``a``) and ours (``b``) are not the same, and where not."""

    step: Call | Frame
    a: Result
    b: Result
    before: dict[str, Any]
    after: tuple[dict[str, Any], dict[str, Any]]
    what: list[str]
    reader: Reader

    @property
    def kind(self) -> int:
        """The type of the frame that came; -1 for a call, and for the preface."""
        return self.step.kind if isinstance(self.step, Frame) else -1

    @property
    def stream_id(self) -> int:
        return self.step.stream_id if isinstance(self.step, Frame) else 0

    @property
    def state(self) -> str | None:
        """The state that the frame's stream was in."""
        stream = self.before["streams"].get(self.stream_id)
        return stream[0] if stream else None

    @property
    def was_used(self) -> bool:
        """Whether the frame's stream is not idle."""
        inbound, outbound = self.before["highest"]
        is_outbound = self.stream_id % 2 == self.reader.client
        return self.stream_id <= (outbound if is_outbound else inbound)

    @property
    def closed(self) -> bool:
        """Whether the frame's stream was closed."""
        return bool(self.stream_id) and self.was_used and self.state is None

    def only_resets(self, code: int, stream_id: int | None = None) -> bool:
        """Whether ours has answered with one RST_STREAM."""
        reset = (RST_STREAM, 0, stream_id or self.stream_id, int(code).to_bytes(4))
        return self.b.error is None and self.b.frames == [reset]

    def h2_fails(self, code: int = ErrorCodes.PROTOCOL_ERROR) -> bool:
        """Whether h2 has ended the connection."""
        return kind_of(self.a.error) == code

    def we_fail(self, code: int = ErrorCodes.PROTOCOL_ERROR) -> bool:
        """Whether ours has ended the connection."""
        return kind_of(self.b.error) == code

    @property
    def ignored(self) -> bool:
        """Whether ours has not reacted."""
        return self.b.error is None and not self.b.frames and not self.b.found


Rule = Callable[[Difference], bool]
RULES: dict[str, Rule] = {}


def rule(name: str) -> Callable[[Rule], Rule]:
    """Note how to recognise the difference of this name."""

    def note(recognise: Rule) -> Rule:
        RULES[name] = recognise
        return recognise

    return note


def name_of(difference: Difference) -> str | None:
    """Return the name of a deliberate difference; None: it is none."""
    return next((name for name, rule in RULES.items() if rule(difference)), None)


def check(listed: dict[str, Any]) -> None:
    """See that each rule is of a listed difference."""
    names = [difference["name"] for difference in listed["difference"]]
    if wrong := set(RULES) - set(names):
        raise LookupError(f"rules of differences that are not listed: {sorted(wrong)}")


#: Those after which nothing is different but what was seen: the comparison goes on.
HARMLESS: Final = frozenset(
    ["ack of nothing", "after own reset", "altsvc", "indexing", "no such stream"]
)


#: What stands in the place of a header section that was written and cannot be decoded.
UNREADABLE: Final = "unreadable"


# --- how a connection begins ---------------------------------------------------------------


@rule("settings first")
def _settings_first(d: Difference) -> bool:
    first = not d.reader.begun and isinstance(d.step, Frame)
    is_settings = d.kind == SETTINGS and not _flags(d) & ACK and not d.stream_id
    return first and not is_settings and d.we_fail() and type(d.b.error).__name__ == "PrefaceError"


@rule("settings order")
def _settings_order(d: Difference) -> bool:
    is_ack = d.kind == SETTINGS and bool(_flags(d) & ACK)
    return is_ack and d.reader.unacked > 1 and not d.a.error and not d.b.error


@rule("ack of nothing")
def _ack_of_nothing(d: Difference) -> bool:
    is_ack = d.kind == SETTINGS and bool(_flags(d) & ACK)
    return is_ack and d.reader.unacked == 0 and d.ignored and not d.a.error


@rule("repeated settings")
def _repeated_settings(d: Difference) -> bool:
    # h2 sees the last value only
    payload = _payload(d)
    codes = [payload[at : at + 2] for at in range(0, len(payload), 6)]
    return d.kind == SETTINGS and len(set(codes)) < len(codes)


@rule("goaway")
def _goaway(d: Difference) -> bool:
    sent = isinstance(d.step, Call) and d.step.name == "close_connection"
    if not sent and d.kind != GOAWAY:
        return False
    # the reserved bit of the last stream's id is ignored (RFC 9113 section 6.8)
    bit = d.what == ["found", "state"] and len(_payload(d)) >= 8 and _payload(d)[0] & 0x80
    same = d.b.error is None and (d.what == ["state"] or bool(bit))
    return same and d.after[0]["state"] == "CLOSED"


# --- frames --------------------------------------------------------------------------------


@rule("early")
def _early(d: Difference) -> bool:
    partly = isinstance(d.step, Frame) and d.step.payload is None
    return partly and "error" in d.what


@rule("headers in between")
def _interrupted(d: Difference) -> bool:
    # h2 parses the frame first, and may find another error in it
    return d.reader.interrupts and d.a.error is not None and (d.we_fail())


@rule("frame size")
def _frame_size(d: Difference) -> bool:
    size = ErrorCodes.FRAME_SIZE_ERROR
    if d.kind == PRIORITY and len(_payload(d)) != 5:
        return d.h2_fails(size) and (d.only_resets(size) or d.ignored)
    if d.kind == SETTINGS and _flags(d) & ACK:
        return len(_payload(d)) > 0 and d.h2_fails() and d.we_fail(size)
    return False


@rule("padding")
def _padding(d: Difference) -> bool:
    if not isinstance(d.step, Frame) or not d.step.flags & PADDED:
        return False
    fits = 0 < len(_payload(d)) > _payload(d)[0]
    kinds = (DATA, HEADERS, PUSH_PROMISE)
    return fits and d.kind in kinds and d.h2_fails() and d.b.error is None


@rule("zero increment")
def _zero_increment(d: Difference) -> bool:
    zero = d.kind == WINDOW_UPDATE and not int.from_bytes(_payload(d)) & 0x7FFF_FFFF
    return zero and d.h2_fails() and (d.only_resets(ErrorCodes.PROTOCOL_ERROR) or d.ignored)


@rule("depends on itself")
def _depends_on_itself(d: Difference) -> bool:
    return d.h2_fails() and (d.only_resets(ErrorCodes.PROTOCOL_ERROR)) and d.kind == PRIORITY


@rule("idle stream")
def _idle(d: Difference) -> bool:
    return d.kind == RST_STREAM and not d.was_used and not d.a.error and d.we_fail()


@rule("naked continuation")
def _naked(d: Difference) -> bool:
    return d.kind == CONTINUATION and "CONTINUATION without HEADERS" in str(d.b.error)


@rule("altsvc")
def _altsvc(d: Difference) -> bool:
    payload = _payload(d)
    cut_short = len(payload) < 2 + int.from_bytes(payload[:2])
    return d.kind == ALTSVC and (cut_short or not d.reader.client) and d.ignored


@rule("origin")
def _origin(d: Difference) -> bool:
    return d.kind == ORIGIN and d.reader.client


# --- streams -------------------------------------------------------------------------------


@rule("refused stream")
def _refused(d: Difference) -> bool:
    target = d.reader.promised or d.stream_id
    too_many = isinstance(d.a.error, TooManyStreamsError)
    return too_many and d.only_resets(ErrorCodes.REFUSED_STREAM, target)


@rule("after own reset")
def _after_own_reset(d: Difference) -> bool:
    again = d.stream_id in d.reader.reset and d.kind in (HEADERS, CONTINUATION, DATA)
    # h2 has no step for an interim response on a closed stream
    interim = d.h2_fails() and any(
        field == (b":status", b"1" + field[1][1:]) for field in d.reader.fields or []
    )
    return again and d.closed and d.ignored and (interim or not d.a.error)


@rule("one reset")
def _one_reset(d: Difference) -> bool:
    again = (RST_STREAM, 0, d.stream_id, int(ErrorCodes.STREAM_CLOSED).to_bytes(4))
    return (
        d.closed and again in d.a.frames and d.ignored and d.kind in (HEADERS, CONTINUATION, DATA)
    )


@rule("data after the end")
def _data_after_end(d: Difference) -> bool:
    ended = d.closed and d.stream_id not in d.reader.reset | d.reader.reset_by_peer
    closed = ErrorCodes.STREAM_CLOSED
    reset = (RST_STREAM, 0, d.stream_id, int(closed).to_bytes(4))
    return d.kind == DATA and ended and reset in d.a.frames and d.we_fail(closed)


@rule("reserved stream")
def _reserved(d: Difference) -> bool:
    reserved = d.state in ("RESERVED_LOCAL", "RESERVED_REMOTE")
    return reserved and d.kind in (WINDOW_UPDATE, DATA) and not d.a.error and d.we_fail()


@rule("stream window")
def _stream_window(d: Difference) -> bool:
    code = ErrorCodes.FLOW_CONTROL_ERROR
    return d.kind == DATA and d.h2_fails(code) and d.only_resets(code)


@rule("no such stream")
def _no_such_stream(d: Difference) -> bool:
    names = ("send_data", "send_headers", "increment_flow_control_window")
    if not isinstance(d.step, Call) or d.step.name not in names:
        return False
    gone = (KeyError, StreamClosedError, NoSuchStreamError)
    if d.step.name == "send_headers":
        # h2 has or has not forgotten a closed one
        both = isinstance(d.a.error, ProtocolError) and isinstance(d.b.error, ProtocolError)
        forgotten = d.step.arguments[0] not in d.before["streams"]
        return d.what == ["error"] and both and forgotten
    if d.step.name == "send_data" and set(d.what) <= {"error", "state"}:
        # h2 looks at its state first where the data are empty
        looks = not d.step.arguments[1] or d.before["state"] == "CLOSED"
        same = isinstance(d.a.error, (ProtocolError, KeyError)) and looks
        return isinstance(d.b.error, gone) and same
    return d.what == ["error"] and isinstance(d.a.error, gone) and isinstance(d.b.error, gone)


@rule("closed by a call")
def _closed_by_a_call(d: Difference) -> bool:
    # only a call that h2 refuses closes both
    return isinstance(d.step, Frame) and d.before["state"] == "CLOSED" and d.h2_fails()


@rule("reserved bit")
def _reserved_bit(d: Difference) -> bool:
    bit = d.kind == WINDOW_UPDATE and len(_payload(d)) == 4 and _payload(d)[0] & 0x80
    return bool(bit) and d.h2_fails() and not d.we_fail()


@rule("negative window")
def _negative_window(d: Difference) -> bool:
    stream = d.before["streams"].get(d.stream_id)
    negative = d.kind == DATA and not _payload(d) and stream is not None and stream[1] < 0
    return negative and d.h2_fails(ErrorCodes.FLOW_CONTROL_ERROR) and not d.b.error


@rule("content-length")
def _content_length(d: Difference) -> bool:
    # h2 does not look at the end of a message without DATA, or with trailers
    lengths = [reason for reason in d.b.reasons if reason.startswith("content-length is ")]
    if d.stream_id in d.reader.tunnels and isinstance(d.a.error, InvalidBodyLengthError):
        return d.b.error is None and not d.b.frames
    if d.kind not in (HEADERS, CONTINUATION, DATA) or d.a.error is not None:
        return False
    without = d.reader.ends and any(
        name == b"content-length" and value.strip(b"0") for name, value in d.reader.fields or []
    )
    return d.only_resets(ErrorCodes.PROTOCOL_ERROR) and bool(lengths or without)


@rule("two errors")
def _two_errors(d: Difference) -> bool:
    wrong_stream = "Received frame with invalid header: Stream ID" in str(d.a.error)
    return wrong_stream and d.we_fail(ErrorCodes.FRAME_SIZE_ERROR)


@rule("last stream")
def _last_stream(d: Difference) -> bool:
    # h2 names a stream that it has not even begun
    if d.a.error is None or kind_of(d.a.error) != kind_of(d.b.error) or d.what != ["output"]:
        return False
    (*same, ours), (*same_too, h2s) = d.b.frames, d.a.frames
    last, last_too = (int.from_bytes(frame[3][:4]) for frame in (ours, h2s))
    return same == same_too and ours[3][4:] == h2s[3][4:] and last < last_too == d.stream_id


@rule("decoding")
def _decoding(d: Difference) -> bool:
    target = d.reader.promised or d.stream_id
    return isinstance(d.a.error, UnicodeDecodeError) and d.only_resets(
        ErrorCodes.PROTOCOL_ERROR, target
    )


# --- header sections -----------------------------------------------------------------------


@rule("compression")
def _compression(d: Difference) -> bool:
    ends_block = d.kind in (HEADERS, CONTINUATION, PUSH_PROMISE)
    return ends_block and d.h2_fails() and d.we_fail(ErrorCodes.COMPRESSION_ERROR)


@rule("table size")
def _table_size(d: Difference) -> bool:
    return any(UNREADABLE in str(frame[-1]) for frame in d.a.frames) and not any(
        UNREADABLE in str(frame[-1]) for frame in d.b.frames
    )


@rule("refused headers")
def _refused_headers(d: Difference) -> bool:
    # then h2's table is spoiled, whatever ours is: it does not write what it was asked to
    if not d.reader.refused or d.what != ["output"] or not isinstance(d.step, Call):
        return False
    asked = [
        tuple(text.encode() if isinstance(text, str) else text for text in field)
        for field in d.step.arguments[-1 if d.step.name == "push_stream" else 1]
    ]
    wrote = [part for frame in d.a.frames for part in frame if isinstance(part, list)]
    return UNREADABLE in str(wrote) or [field[1:] for part in wrote for field in part] != asked


def _malformed(d: Difference) -> str:
    """Return what is wrong with the header section that has come; empty: nothing."""
    fields, reader = d.reader.fields, d.reader
    if fields is None:
        return ""
    stream = d.before["streams"].get(reader.stream_id)
    if reader.promised or stream is None:
        kind = Kind.REQUEST
    else:
        # headers_received
        kind = Kind.TRAILERS if stream[5] else Kind.RESPONSE
    extended = bool(d.before["local settings"].get(8))
    try:
        check_fields(fields, kind, extended_connect=extended)
    except Malformed as error:
        return str(error)
    return ""


@rule("indexing")
def _indexing(d: Difference) -> bool:
    # h2 writes an index for a secret whose equal it has put into the table
    def without(frames: list[Any]) -> list[Any]:
        return [
            tuple(
                [field[1:] for field in part] if isinstance(part, list) else part for part in each
            )
            for each in frames
        ]

    def secrets(frames: list[Any]) -> int:
        return str(frames).count("NeverIndexedHeaderTuple")

    same = without(d.a.frames) == without(d.b.frames)
    return d.what == ["output"] and same and secrets(d.b.frames) > secrets(d.a.frames)


@rule("priority update")
def _priority_update(d: Difference) -> bool:
    return not isinstance(d.step, Call) and d.step.kind == PRIORITY_UPDATE


@rule("no such priorities")
def _no_such_priorities(d: Difference) -> bool:
    payload = _payload(d) if d.kind == SETTINGS else b""
    entries = [payload[at : at + 6] for at in range(0, len(payload), 6)]
    return d.we_fail() and any(
        each[:2] == b"\0\x09" and each[2:] > b"\0\0\0\x01" for each in entries
    )


@rule("continuations")
def _continuations(d: Difference) -> bool:
    return d.kind == CONTINUATION and d.we_fail(ErrorCodes.ENHANCE_YOUR_CALM)


@rule("joined cookies")
def _joined_cookies(d: Difference) -> bool:
    # h2 looks for white space at the ends when it has joined them
    crumbs = [value for name, value in d.reader.fields or [] if name == b"cookie"]
    empty = len(crumbs) > 1 and not (crumbs[0] and crumbs[-1])
    return empty and d.h2_fails() and "surrounded by whitespace" in str(d.a.error) and not d.b.error


@rule("malformed")
def _malformed_message(d: Difference) -> bool:
    # both refuse it, which is enough: h2's tests go through what is malformed
    target = d.reader.promised or d.stream_id
    if not d.h2_fails() or d.kind not in (HEADERS, CONTINUATION, PUSH_PROMISE, DATA):
        return False
    return d.only_resets(ErrorCodes.PROTOCOL_ERROR, target) and not d.reader.interrupts


# What RFC 9113 and RFC 9110 call malformed, and h2 takes.
_STRICTER: Final = re.compile(
    r"':path' must|':scheme' must|':method' must|the authority must not|userinfo"
    r"|':status' must be three digits|control character|character that is not allowed"
    r"|content-length must be digits|CONNECT must have"
)


@rule("stricter checks")
def _stricter(d: Difference) -> bool:
    target = d.reader.promised or d.stream_id
    refused = d.only_resets(ErrorCodes.PROTOCOL_ERROR, target) and not d.a.error
    return refused and _STRICTER.search(_malformed(d)) is not None


@rule("two content-lengths")
def _two_lengths(d: Difference) -> bool:
    refused = d.only_resets(ErrorCodes.PROTOCOL_ERROR) and not d.a.error
    return refused and [name for name, _ in d.reader.fields or []].count(b"content-length") > 1


@rule("length in trailers")
def _length_in_trailers(d: Difference) -> bool:
    return "Invalid content-length" in str(d.a.error) and d.reader.ends and not d.b.error


@rule("status 101")
def _status_101(d: Difference) -> bool:
    refused = d.only_resets(ErrorCodes.PROTOCOL_ERROR) and not d.a.error
    return refused and "101 does not exist" in _malformed(d)


@rule("extended connect")
def _extended_connect(d: Difference) -> bool:
    refused = d.only_resets(ErrorCodes.PROTOCOL_ERROR) and not d.a.error
    return refused and "needs SETTINGS_ENABLE_CONNECT_PROTOCOL" in _malformed(d)


@rule("promised ids")
def _promised_ids(d: Difference) -> bool:
    # h2 does not note the id of a promise that it turns away, nor mask the reserved bit
    if d.kind == PUSH_PROMISE and not d.reader.promised:
        return not d.a.error and d.we_fail()
    if d.reader.promised and d.h2_fails(ErrorCodes.STREAM_CLOSED):
        return d.reader.promised <= d.before["highest"][0] and d.we_fail()
    if (
        not d.reader.promised
        or d.a.error
        or (RST_STREAM, 0, d.reader.promised) not in [frame[:3] for frame in d.a.frames]
    ):
        return False
    return d.what == ["highest"] or d.we_fail()


@rule("server opens a stream")
def _server_opens(d: Difference) -> bool:
    opens = d.kind in (HEADERS, CONTINUATION) and d.reader.client and not d.stream_id % 2
    return opens and not d.was_used and not d.a.error and d.we_fail()


@rule("interim after the end")
def _interim_after_the_end(d: Difference) -> bool:
    interim = "Invalid input StreamInputs.RECV_INFORMATIONAL_HEADERS" in str(d.a.error)
    if d.state == "HALF_CLOSED_REMOTE":
        return interim and d.only_resets(ErrorCodes.STREAM_CLOSED)
    return interim and d.closed and d.we_fail(ErrorCodes.STREAM_CLOSED)


@rule("refused call")
def _refused_call(d: Difference) -> bool:
    if d.kind not in (HEADERS, CONTINUATION):
        return False
    if d.state == "IDLE":
        return d.we_fail()
    return d.closed and d.h2_fails(ErrorCodes.STREAM_CLOSED) and d.we_fail()


@rule("credit")
def _credit(d: Difference) -> bool:
    if isinstance(d.step, Call):
        return d.step.name == "acknowledge_received_data" and d.reader.discarded
    rest = [frame for frame in d.a.frames if frame[:3] != (WINDOW_UPDATE, 0, 0)]
    return d.kind == DATA and rest == d.b.frames and set(d.what) <= {"output", "windows"}


@rule("promises")
def _promises(d: Difference) -> bool:
    if not d.reader.promised or d.a.error or d.b.error:
        return False
    fields = dict(d.reader.fields or [])
    foreign = fields.get(b":authority") != b"a.test"
    unsafe = fields.get(b":method") not in (b"GET", b"HEAD")
    interim = fields.get(b":status", b"")[:1] == b"1"
    refused = d.only_resets(ErrorCodes.PROTOCOL_ERROR, d.reader.promised)
    return refused and (foreign or unsafe or interim)


def _flags(d: Difference) -> int:
    return d.step.flags if isinstance(d.step, Frame) else 0


def _payload(d: Difference) -> bytes:
    return (d.step.payload if isinstance(d.step, Frame) else None) or b""
