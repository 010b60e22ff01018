"""``Connection``: h2's connection with its gaps closed, and every use of h2's internals.

What differs from h2, with the clause of RFC 9113 each time: GOAWAY does not end the state machine
(6.8), errors go out with the code the RFC names (5.4, 7), what concerns one stream ends that
stream only (5.4.2, 8.1.1), events of good frames before a bad one are kept, and no step costs
more with more streams open.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import h2.stream
from h2.config import H2Configuration
from h2.connection import AllowedStreamIDs, ConnectionInputs, H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    Event,
    InformationalResponseReceived,
    PushedStreamReceived,
    RemoteSettingsChanged,
    StreamReset,
)
from h2.exceptions import (
    FlowControlError,
    FrameDataMissingError,
    FrameTooLargeError,
    ProtocolError,
    StreamClosedError,
    StreamIDTooLowError,
    TooManyStreamsError,
)
from h2.settings import ChangedSetting, SettingCodes, Settings
from h2.stream import STREAM_OPEN, StreamClosedBy, StreamInputs, StreamState
from h2.windows import WindowManager
from hpack.exceptions import HPACKError, OversizedHeaderListError
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    ExtensionFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from . import codec
from .codec import Decoder, Encoder, Excess
from .config import Config
from .frames import FrameBuffer, Output, PlainFrame, PrefaceError, StreamError
from .guards import BudgetExceeded, Guards
from .headers import Facts, Fields, Kind, Malformed, check_again, join_cookies, read
from .machines import IS_RESERVED, ClosedStreams, ConnectionMachine, QuickStream, Stream

__all__ = [
    "FAST",
    "NO_RFC7540_PRIORITIES",
    "Connection",
    "Fast",
    "OriginsReceived",
    "PrefaceError",
    "PriorityUpdateReceived",
    "StreamFailed",
    "as_origin",
]

_Handled = tuple[list[Frame], list[Event]]

# Frames that begin a header block.
_BLOCKS: Final = frozenset([HeadersFrame, PushPromiseFrame])
_RECEIVING: Final = frozenset([StreamState.OPEN, StreamState.HALF_CLOSED_LOCAL])
_HEADERS: Final = HeadersFrame.type
_DATA: Final = DataFrame.type
_END_HEADERS: Final = 0x04
#: RFC 9218 section 2.1
NO_RFC7540_PRIORITIES: Final = 0x9
_PRIORITY_UPDATE: Final = 0x10
_NO_PRIORITY: Final = (None, None, None)
_SENT_END: Final = StreamClosedBy.SEND_END_STREAM
_RECEIVED_END: Final = StreamClosedBy.RECV_END_STREAM
# RFC 8336 section 2.1
_ORIGIN: Final = 0x0C
# Flags with which an ORIGIN frame means something else (RFC 8336 section 2.2).
_CRITICAL_FLAGS: Final = 0x0F
# An origin's ASCII serialization (RFC 6454 section 6.2).
_is_origin: Final = re.compile(rb"[a-z][a-z0-9+.-]*://[!$-.0->A-\[\]-~]+").fullmatch


@dataclasses.dataclass(kw_only=True)
class PriorityUpdateReceived(Event):
    """h2's event, as it would be, for a PRIORITY_UPDATE frame (RFC 9218 section 7.1)."""

    stream_id: int
    field: bytes


@dataclasses.dataclass(kw_only=True)
class OriginsReceived(Event):
    """h2's event, as it would be, for an ORIGIN frame at a client (RFC 8336).

    What it names is added to the connection's Origin Set (section 2.3), of which aioh2 keeps
    none. It counts on connections with TLS only, and not through a proxy (section 2.2); the
    server's certificate has to be good for an origin all the same.
    """

    origins: list[bytes]


def as_origin(value: str | bytes) -> bytes:
    """Return an origin, such as ``https://a.test:8443``; ``ValueError`` for anything else."""
    if not isinstance(value, (str, bytes)):
        raise TypeError(f"an origin must be str or bytes, not {value!r}")
    origin = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
    if not _is_origin(origin):
        raise ValueError(f"{value!r} is not an origin, such as 'https://a.test:8443'")
    return origin


class Fast(NamedTuple):
    """What is done faster than h2 does it; each can be switched off, and h2's way is taken."""

    #: Frames come in without objects where they are plain.
    frames: bool = True
    #: Frames go out without objects.
    packing: bool = True
    #: Streams and their machines begin with as little as they can, and step by number.
    streams: bool = True
    #: Header blocks that change nothing in the table are remembered, both ways.
    memo: bool = True


def _what_h2_allows() -> Fast:
    """Switch off what relies on names of h2's that are not where they were.

    The others are as public as their class: what they rely on, h2 documents.
    """
    return Fast(
        streams=_streams_are_as_known(),
        packing=hasattr(H2Connection(), "_data_to_send"),
        memo=codec.AS_KNOWN,
    )


def _streams_are_as_known() -> bool:
    parameters = ["stream_id", "config", "inbound_window_size", "outbound_window_size"]
    if list(inspect.signature(h2.stream.H2Stream).parameters) != parameters:
        return False
    stream = h2.stream.H2Stream(1, H2Configuration(), 1, 2)
    fresh = {
        **QuickStream.FRESH,
        "state_machine": stream.state_machine,
        "stream_id": 1,
        "config": stream.config,
        "outbound_flow_control_window": 2,
        "_inbound_window_manager": getattr(stream, "_inbound_window_manager", None),
    }
    sized = list(inspect.signature(WindowManager).parameters) == ["max_window_size"]
    return vars(stream) == fresh and sized and hasattr(h2.stream, "_transitions")


#: What is switched on where nobody says otherwise.
FAST: Final = _what_h2_allows()


def _are_bytes(fields: tuple[Any, ...]) -> bool:
    return all(type(name) is bytes and type(value) is bytes for name, value in fields)


class CompressionError(ProtocolError):
    """A header block cannot be decoded (RFC 9113 section 4.3)."""

    error_code = ErrorCodes.COMPRESSION_ERROR


@dataclasses.dataclass(kw_only=True)
class StreamFailed(StreamReset):
    """h2's event for a stream that this side resets because the peer broke a rule, and which."""

    reason: str = ""
    remote_reset: bool = False


class _SettingsFrame(SettingsFrame):
    """hyperframe's, which writes no setting above 255."""

    def serialize_body(self) -> bytes:
        return b"".join(
            code.to_bytes(2, "big") + value.to_bytes(4, "big")
            for code, value in self.settings.items()
        )


class _Values(list[int]):
    """A setting's values in a tenth of the memory that h2's deque of them takes."""

    def popleft(self) -> int:
        return self.pop(0)


def _slim(settings: Settings) -> Settings:
    values = settings._settings
    settings._settings = cast(Any, {code: _Values(values[code]) for code in values})
    return settings


def _in_force(settings: Settings, code: SettingCodes) -> int | None:
    """Return a setting's value, None where there is none.

    Relies on ``Settings._settings``: a deque for each setting, the value in force first.
    """
    values = settings._settings.get(code)
    return None if values is None else values[0]


class Connection(H2Connection):
    """One HTTP/2 connection, without I/O. ``receive`` never raises for what a peer did.

    Relies, beyond h2's public API, on these of its names: it overrides ``_receive_frame``, the
    ``_receive_*_frame`` that ``_frame_dispatch_table`` leads to, ``_receive_naked_continuation``,
    ``_prepare_for_sending``, ``_begin_new_stream``, ``_open_streams``, ``_terminate_connection``
    and ``_local_settings_acked``; it calls ``_acknowledge_settings``, ``_stream_closed_by``,
    ``_stream_id_is_outbound`` and ``_get_or_create_stream``; it uses ``_closed_streams``,
    ``_data_to_send``, the windows in ``_inbound_flow_control_window_manager`` and, of a stream,
    ``_inbound_window_manager``.
    """

    #: What is done faster than by h2, on the connections of this class.
    fast: Fast = FAST

    if TYPE_CHECKING:
        streams: dict[int, Stream]  # type: ignore[assignment]  # none of another class is made
        incoming_buffer: FrameBuffer  # type: ignore[assignment]  # nor is h2's buffer used

    def __init__(self, config: H2Configuration | None = None, limits: Config | None = None) -> None:
        # Streams that are open in the sense of RFC 9113 section 5.1.2, by id modulo 2. Set
        # before h2's own, which may ask.
        self._open_count = [0, 0]
        # Streams that were promised and have not begun (RFC 9113 section 5.1, "reserved").
        self._reserved_count = 0
        # Streams that have closed and are still in `streams`.
        self._just_closed: list[int] = []
        super().__init__(config)
        #: What the peer may ask for that costs it little.
        self.guards = Guards(limits or Config())
        # What one call of receive() works off; without limits, all that there is.
        self._share = (sys.maxsize, sys.maxsize)
        if limits is not None:
            self._share = (limits.frames_per_tick, limits.bytes_per_tick)
        #: Whether the share of the last receive() was too small for what had come.
        self.has_more = False
        self.state_machine = ConnectionMachine()
        self.incoming_buffer = FrameBuffer(
            server=not self.config.client_side, limits=limits, guards=self.guards
        )
        self.encoder = Encoder(memo=self.fast.memo)
        self.decoder = Decoder(self.DEFAULT_MAX_HEADER_LIST_SIZE, memo=self.fast.memo)
        self.decoder.max_fields = (limits or Config()).max_header_fields
        self._closed_streams = cast(Any, ClosedStreams())
        # What streams are made of, and what they call when they open or close.
        self._new_stream = QuickStream if self.fast.streams else Stream
        self._on_change = self._stream_changed
        # What waits to be written, in the place of h2's bytearray.
        self._output = Output()
        if self.fast.packing:
            self._data_to_send = cast(Any, self._output)
        # h2's flags, which take a descriptor each time.
        self._client = bool(self.config.client_side)
        self._own_ids = AllowedStreamIDs(self._client)
        self._validates = bool(self.config.validate_inbound_headers)
        self._packs_headers = self.fast.packing and not (
            self.config.validate_outbound_headers or self.config.normalize_outbound_headers
        )
        # SETTINGS that were sent and not acknowledged, in order (RFC 9113 section 6.5.3).
        self._unacked: deque[Mapping[int, int]] = deque()
        #: SETTINGS_INITIAL_WINDOW_SIZE of this side that is in force, in bytes.
        self.receive_window_size = 65_535
        #: The largest header list that the peer takes, in bytes of RFC 9113 section 6.5.2.
        self.max_list_size: int | None = None
        #: Whether the peer has acknowledged SETTINGS of ours.
        self.was_acked = False
        # Streams that have closed since the last call of take_closed().
        self._closed: list[int] = []
        # Connection credit for DATA that no event tells about; see take_discarded().
        self._discarded = 0
        # The last-stream-id of the final GOAWAY that was sent: later streams are ignored.
        self._last_accepted = self.HIGHEST_ALLOWED_STREAM_ID
        #: What ended the connection on this side; after it nothing is read or written.
        self.failure: ProtocolError | None = None
        #: Inbound streams that the peer has reset, and that the application still works on: as
        #: many as MAX_CONCURRENT_STREAMS, then new ones are refused.
        self.held_streams = 0
        #: Streams of the peer's that were turned away with REFUSED_STREAM.
        self.refused = 0
        #: Called, when not None, with "<" or ">", each frame, and the fields of a header block:
        #: None where it has none, or they cannot be decoded.
        self.frame_log: Callable[[str, Frame, Fields | None], None] | None = None
        # The fields of the header block that is framed next, for the log.
        self._fields_sent: Fields | None = None

    # --- opening -----------------------------------------------------------------------

    def initiate(self, settings: Mapping[SettingCodes | int, int], *, window_size: int) -> None:
        """Queue the preface, SETTINGS, and the credit that widens the connection window.

        What a peer may ask of us (streams, header lists, push) holds at once; what changes how
        it may write (windows, frame and table sizes) holds when it acknowledges.
        """
        client = self.config.client_side
        later = (
            SettingCodes.HEADER_TABLE_SIZE,
            SettingCodes.INITIAL_WINDOW_SIZE,
            SettingCodes.MAX_FRAME_SIZE,
        )
        # of any: h2's type knows its own codes only
        now: Any = {code: value for code, value in settings.items() if code not in later}
        self.local_settings = _slim(Settings(client=client, initial_values=now))
        _slim(self.remote_settings)
        size = settings[SettingCodes.MAX_HEADER_LIST_SIZE]
        self.decoder.max_header_list_size = size
        # no list of that size needs more, unless to hide how long it is
        self.incoming_buffer.max_block_size = max(size, self.incoming_buffer.max_block_size)
        if client:
            self._output += b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        self.update_settings(dict(settings.items()))
        if window_size > self.inbound_flow_control_window:
            self.increment_flow_control_window(window_size - self.inbound_flow_control_window)

    def initiate_connection(self) -> None:
        """As h2's; the peer's first acknowledgement is for what it sends."""
        super().initiate_connection()
        self._unacked.append({})

    def update_settings(self, new_settings: dict[SettingCodes | int, int]) -> None:
        """Queue a SETTINGS frame; its values hold once the peer has acknowledged it."""
        self.state_machine.process_input(ConnectionInputs.SEND_SETTINGS)
        self.local_settings.update(new_settings)
        self.guards.to_be_acked += 1
        self._prepare_for_sending([_SettingsFrame(settings=dict(new_settings))])
        self._unacked.append(dict(new_settings))

    def check_settings(self, settings: Mapping[int, int]) -> None:
        """Raise ``ValueError`` for a setting that may not be changed any more."""
        # Relies on Settings._settings: a deque for each setting, the value sent last at its end.
        offered = self.local_settings._settings.get(SettingCodes.ENABLE_CONNECT_PROTOCOL, (0,))[-1]
        if offered and not settings.get(SettingCodes.ENABLE_CONNECT_PROTOCOL, 1):
            raise ValueError("ENABLE_CONNECT_PROTOCOL cannot be taken back (RFC 8441 section 3)")
        chosen = self.local_settings._settings.get(NO_RFC7540_PRIORITIES, (0,))[-1]
        if settings.get(NO_RFC7540_PRIORITIES, chosen) != chosen:
            raise ValueError(
                "NO_RFC7540_PRIORITIES cannot be changed after the first SETTINGS (RFC 9218 "
                "section 2.1): the option no_rfc7540_priorities sets it"
            )

    # --- receiving ---------------------------------------------------------------------

    def receive(self, data: bytes = b"") -> list[Event]:
        """Take received bytes and return the events of the good frames in a share of them.

        Where :attr:`has_more` is then true, the next call must bring no bytes: it goes on with
        the rest. A connection error queues GOAWAY and is kept in :attr:`failure`; from then on
        input is ignored.
        """
        events: list[Event] = []
        self.has_more = False
        if self.failure is not None:
            return events
        buffer = self.incoming_buffer
        buffer.plainly = self.fast.frames and self.frame_log is None
        buffer.weight = 0
        frames, weight = self._share
        try:
            if data:
                buffer.add_data(data)
            for _ in range(frames):
                # SETTINGS may have changed it meanwhile
                buffer.max_frame_size = self.max_inbound_frame_size
                try:
                    frame = buffer.next_frame()
                    if frame is None:
                        return events
                    if isinstance(frame, tuple):
                        events += self._receive_plain(frame)
                    else:
                        events += self._receive_frame(frame)
                except StreamError as error:
                    events += self._end_stream_for(error)
                if buffer.weight >= weight:
                    break
            self.has_more = buffer.has_more
        except ProtocolError as error:
            debug_data = error.budget.encode() if isinstance(error, BudgetExceeded) else b""
            self._terminate_connection(error.error_code, debug_data)
            self.failure = error
        return events

    def receive_data(self, data: Any) -> list[Event]:
        """As h2's: the same, raising what ``receive`` keeps."""
        failed = self.failure
        events = self.receive(data)
        if self.failure is not None and self.failure is not failed:
            raise self.failure
        return events

    def _receive_plain(self, frame: PlainFrame) -> list[Event]:
        kind, end_stream, stream_id, payload = frame
        if kind == _DATA:
            return self._receive_content(stream_id, payload, len(payload), end_stream)
        return self._receive_block(stream_id, self._decode(payload), end_stream)

    def _receive_frame(self, frame: Frame) -> list[Event]:
        if self.frame_log is not None and frame.__class__ not in _BLOCKS:
            # those are logged with what is in their block
            self.frame_log("<", frame, None)
        frames, events = self._frame_dispatch_table[frame.__class__](frame)
        self._prepare_for_sending(frames)
        return cast(list[Event], events)

    def _end_stream_for(self, error: StreamError) -> list[Event]:
        """Answer a stream error; a stream that does not exist yet makes it a connection error."""
        stream_id, code = error.stream_id, error.error_code
        if self._is_idle(stream_id):
            problem = ProtocolError(f"{error} on the idle stream {stream_id}")
            problem.error_code = code
            raise problem
        if self._is_ignored(stream_id):
            return []
        if self._stream_closed_by(stream_id) is StreamClosedBy.SEND_RST_STREAM:
            # one RST_STREAM is enough (RFC 9113 section 5.4.2)
            return []
        self.guards.charge_reset()
        self.refused += code is ErrorCodes.REFUSED_STREAM
        stream = self.streams.get(stream_id)
        events: list[Event] = []
        if stream is not None and not stream.closed:
            stream.state_machine.process_input(StreamInputs.SEND_RST_STREAM)
            events.append(StreamFailed(stream_id=stream_id, error_code=code, reason=str(error)))
        elif stream is not None:
            stream.state_machine.stream_closed_by = StreamClosedBy.SEND_RST_STREAM
        else:
            self._closed_streams[stream_id] = StreamClosedBy.SEND_RST_STREAM
        self._prepare_for_sending([RstStreamFrame(stream_id, code)])
        return events

    def _terminate_connection(self, error_code: ErrorCodes, debug_data: bytes = b"") -> None:
        last = min(self.highest_inbound_stream_id, self._last_accepted)
        # The state machine stays open: what came before the error is still being handled.
        self._prepare_for_sending([GoAwayFrame(0, last, error_code, debug_data)])

    def _is_idle(self, stream_id: int) -> bool:
        if stream_id % 2 == self._client:
            return stream_id > self.highest_outbound_stream_id
        return stream_id > self.highest_inbound_stream_id and not self._is_ignored(stream_id)

    def _is_ignored(self, stream_id: int) -> bool:
        """Whether it is a stream that our last GOAWAY has turned away (RFC 9113 section 6.8)."""
        return stream_id > self._last_accepted and stream_id % 2 != self._client

    def _frame_on_closed(self, stream_id: int, *, opens: bool = False) -> None:
        """Judge HEADERS or DATA on a stream that is closed (RFC 9113 section 5.1).

        Returns where it is to be ignored: this side has reset the stream.
        """
        closed_by = self._stream_closed_by(stream_id)
        if closed_by is StreamClosedBy.SEND_RST_STREAM:
            return
        if closed_by is StreamClosedBy.RECV_RST_STREAM:
            raise StreamError(stream_id, ErrorCodes.STREAM_CLOSED, "a frame after RST_STREAM")
        if closed_by is None and opens:
            raise StreamIDTooLowError(stream_id, self.highest_inbound_stream_id)
        raise StreamClosedError(stream_id)

    # --- headers -----------------------------------------------------------------------

    def _decode(self, block: bytes) -> Fields:
        try:
            return tuple(self.decoder.decode(block, raw=True))
        except OversizedHeaderListError as error:
            limit = error.limit if isinstance(error, Excess) else "max_header_list_size"
            raise BudgetExceeded(limit, str(error)) from error
        except HPACKError as error:
            raise CompressionError(str(error)) from error

    def _decode_block_of(self, frame: HeadersFrame | PushPromiseFrame) -> Fields:
        """Decode the block of a frame, and log the frame with that."""
        fields = None
        try:
            fields = self._decode(frame.data)
        finally:
            if self.frame_log is not None:
                self.frame_log("<", frame, fields)
        return fields

    def _check(self, stream_id: int, fields: Fields, kind: Kind) -> Facts:
        extended = bool(_in_force(self.local_settings, SettingCodes.ENABLE_CONNECT_PROTOCOL))
        try:
            if not self._validates:
                return read(fields, kind)
            return check_again(fields, kind, extended_connect=extended)
        except Malformed as error:
            raise StreamError(stream_id, ErrorCodes.PROTOCOL_ERROR, str(error)) from None

    def _shown(self, stream_id: int, fields: Fields, cookie: bool) -> list[Any]:
        """Return a header section as an event shows it, which H2Configuration decides."""
        if cookie and self.config.normalize_inbound_headers:
            fields = join_cookies(fields)
        encoding = self.config.header_encoding
        if not isinstance(encoding, str):
            return list(fields)
        try:
            return [
                field.__class__(field[0].decode(encoding), field[1].decode(encoding))
                for field in cast(Any, fields)
            ]
        except UnicodeDecodeError as error:
            raise StreamError(stream_id, ErrorCodes.PROTOCOL_ERROR, str(error)) from None

    def _receive_headers_frame(self, frame: HeadersFrame) -> _Handled:
        end_stream = "END_STREAM" in frame.flags
        fields = self._decode_block_of(frame)
        if "PRIORITY" not in frame.flags:
            return [], self._receive_block(frame.stream_id, fields, end_stream)
        itself = frame.depends_on == frame.stream_id
        events = self._receive_block(frame.stream_id, fields, end_stream, itself)
        if events:
            _, updates = self._receive_priority_frame(frame)
            cast(Any, events[0]).priority_updated = updates[0]
            events += updates
        return [], events

    def _receive_block(
        self, stream_id: int, fields: Fields, end_stream: bool, depends_on_itself: bool = False
    ) -> list[Event]:
        """Take what a whole header block says; return h2's events."""
        if self._is_ignored(stream_id):
            return []
        idle = self._is_idle(stream_id)
        if idle:
            self._open_inbound(stream_id)
        stream = self.streams.get(stream_id)
        if not idle and (stream is None or stream.closed):
            self._frame_on_closed(stream_id, opens=True)
            return []
        if stream is not None:
            self._check_expects_headers(stream)
        if depends_on_itself:
            # RFC 7540 section 5.3.1
            raise StreamError(stream_id, ErrorCodes.PROTOCOL_ERROR, "it depends on itself")
        if stream is None:
            return self._receive_request(stream_id, fields, end_stream)
        return self._receive_more_headers(stream, fields, end_stream)

    def _open_inbound(self, stream_id: int) -> None:
        """A stream id is used for the first time: check that it may be, now."""
        if self._client or not stream_id % 2:
            raise ProtocolError(f"HEADERS may not open the idle stream {stream_id}")
        self.state_machine.process_input(ConnectionInputs.RECV_HEADERS)
        self.highest_inbound_stream_id = stream_id
        self._admit(stream_id, max(self._open_streams(1), self.held_streams))

    def _receive_request(self, stream_id: int, fields: Fields, end_stream: bool) -> list[Event]:
        facts = self._check(stream_id, fields, Kind.REQUEST)
        shown = self._shown(stream_id, fields, facts.cookie)
        if end_stream and facts.content_length and facts.method != b"CONNECT":
            raise StreamError(
                stream_id, ErrorCodes.PROTOCOL_ERROR, "content-length without content"
            )
        stream = self._begin_new_stream(stream_id, AllowedStreamIDs.ODD)
        stream.method = facts.method
        if facts.priority is not None:
            stream.priority = facts.priority
        if not end_stream:
            stream.expect(facts)
        return stream.take_headers(shown, end_stream)

    def _admit(self, stream_id: int, count: int) -> None:
        """Refuse a stream when ``count`` others leave no room for it (RFC 9113 section 5.1.2)."""
        limit = _in_force(self.local_settings, SettingCodes.MAX_CONCURRENT_STREAMS)
        if limit is not None and count >= limit:
            raise StreamError(
                stream_id, ErrorCodes.REFUSED_STREAM, f"{limit} streams are open already"
            )

    def _check_expects_headers(self, stream: Stream) -> None:
        stream_id, machine = stream.stream_id, stream.state_machine
        if machine.state is StreamState.HALF_CLOSED_REMOTE:
            raise StreamError(stream_id, ErrorCodes.STREAM_CLOSED, "HEADERS after END_STREAM")
        if machine.state is StreamState.RESERVED_LOCAL:
            raise ProtocolError(f"HEADERS on the reserved stream {stream_id}")
        if machine.state is StreamState.IDLE:
            # a stream of ours whose first HEADERS h2 has refused
            raise ProtocolError(f"HEADERS on the idle stream {stream_id}")

    def _receive_more_headers(
        self, stream: Stream, fields: Fields, end_stream: bool
    ) -> list[Event]:
        self.state_machine.process_input(ConnectionInputs.RECV_HEADERS)
        try:
            if stream.state_machine.headers_received:
                return self._receive_trailers(stream, fields, end_stream)
            return self._receive_response(stream, fields, end_stream)
        except Malformed as error:
            raise StreamError(stream.stream_id, ErrorCodes.PROTOCOL_ERROR, str(error)) from None

    def _receive_trailers(self, stream: Stream, fields: Fields, end_stream: bool) -> list[Event]:
        if stream.connected:
            raise Malformed("HEADERS came on a connected stream (RFC 9113 section 8.5)")
        if not end_stream:
            raise Malformed("trailers must end the stream")
        facts = self._check(stream.stream_id, fields, Kind.TRAILERS)
        stream.count(0, True)
        return stream.take_headers(self._shown(stream.stream_id, fields, facts.cookie), True)

    def _receive_response(self, stream: Stream, fields: Fields, end_stream: bool) -> list[Event]:
        facts = self._check(stream.stream_id, fields, Kind.RESPONSE)
        status = facts.status or 0
        shown = self._shown(stream.stream_id, fields, facts.cookie)
        if 100 <= status < 200:
            if end_stream:
                raise Malformed("an interim response must not end the stream")
            if stream.state_machine.state is StreamState.RESERVED_REMOTE:
                # h2 has no such step; the stream stays reserved until its final response
                return [InformationalResponseReceived(stream_id=stream.stream_id, headers=shown)]
            return stream.take_headers(shown, False, informational=True)
        stream.expect(facts)
        stream.connected = stream.method == b"CONNECT" and status < 300
        if end_stream:
            stream.count(0, True)
        if stream.state_machine.state is StreamState.RESERVED_REMOTE:
            self._admit(stream.stream_id, self.open_inbound_streams)
        return stream.take_headers(shown, end_stream)

    def _receive_push_promise_frame(self, frame: PushPromiseFrame) -> _Handled:
        fields = self._decode_block_of(frame)
        promised = frame.promised_stream_id
        if not self.local_settings.enable_push:
            raise ProtocolError("a push was promised, which SETTINGS_ENABLE_PUSH forbids")
        if not frame.stream_id % 2 or self._is_idle(frame.stream_id):
            raise ProtocolError(f"a push was promised on stream {frame.stream_id}")
        if promised <= self.highest_inbound_stream_id:
            raise ProtocolError(f"the promised stream {promised} is not a new one")
        self.state_machine.process_input(ConnectionInputs.RECV_PUSH_PROMISE)
        if self._is_ignored(promised):
            return [], []
        parent = self.streams.get(frame.stream_id)
        if parent is None or parent.closed:
            if self._stream_closed_by(frame.stream_id) is not StreamClosedBy.SEND_RST_STREAM:
                raise ProtocolError(f"a push was promised on closed stream {frame.stream_id}")
            # it was on its way when we reset the parent
            self.highest_inbound_stream_id = promised
            raise StreamError(promised, ErrorCodes.REFUSED_STREAM, "its parent was reset")
        if parent.state_machine.state not in (StreamState.OPEN, StreamState.HALF_CLOSED_LOCAL):
            raise ProtocolError(f"a push was promised on stream {frame.stream_id}")
        self.highest_inbound_stream_id = promised
        if parent.connected:
            # RFC 9113 section 8.5
            self._closed_streams[promised] = StreamClosedBy.SEND_RST_STREAM
            self._prepare_for_sending([RstStreamFrame(promised, ErrorCodes.CANCEL)])
            raise StreamError(
                frame.stream_id, ErrorCodes.PROTOCOL_ERROR, "a push was promised in a tunnel"
            )
        # promised streams are not open yet: RFC 9113 section 8.4.2 leaves their number to us
        self._admit(promised, self.open_inbound_streams + self._reserved_count)
        facts = self._check(promised, fields, Kind.REQUEST)
        if self._validates:
            self._check_promise(promised, parent, fields, facts)
        return [], self._begin_promised(frame, fields, facts)

    def _check_promise(self, promised: int, parent: Stream, fields: Fields, facts: Facts) -> None:
        """Check a promised request beside the one that it belongs to (RFC 9113 section 8.4)."""
        if facts.method not in (b"GET", b"HEAD") or facts.content_length:
            # safe, cacheable, without content
            raise StreamError(promised, ErrorCodes.PROTOCOL_ERROR, "not a GET or HEAD")
        # relies on H2Stream._authority: the :authority that the parent was sent with; of a
        # stream that began as an HTTP/1.1 upgrade nothing is known, not even the method
        same = (b":authority", parent._authority) in fields
        if not same and parent.method is not None:
            raise StreamError(
                promised, ErrorCodes.PROTOCOL_ERROR, "not of the authority of its parent"
            )

    def _begin_promised(self, frame: PushPromiseFrame, fields: Fields, facts: Facts) -> list[Event]:
        promised = frame.promised_stream_id
        shown = self._shown(promised, fields, facts.cookie)
        parent = self.streams[frame.stream_id]
        events = parent.state_machine.process_input(StreamInputs.RECV_PUSH_PROMISE)
        event = cast(PushedStreamReceived, events[0])
        event.pushed_stream_id = promised
        event.headers = shown
        stream = self._begin_new_stream(promised, AllowedStreamIDs.EVEN)
        stream.remotely_pushed(cast(Any, fields))
        stream.method = facts.method
        return events

    # --- data --------------------------------------------------------------------------

    def _receive_data_frame(self, frame: DataFrame) -> _Handled:
        length, end_stream = frame.flow_controlled_length, "END_STREAM" in frame.flags
        return [], self._receive_content(frame.stream_id, frame.data, length, end_stream)

    def _receive_content(
        self, stream_id: int, data: bytes, length: int, end_stream: bool
    ) -> list[Event]:
        """Take the content of a DATA frame, ``length`` with its padding; return h2's events."""
        stream = self.streams.get(stream_id)
        if stream is None and self._is_idle(stream_id):
            raise ProtocolError(f"DATA on the idle stream {stream_id}")
        # raises FlowControlError, for the connection, where the window is overdrawn
        self._inbound_flow_control_window_manager.window_consumed(length)
        self._discarded += length
        if stream is None or stream.state_machine.state is StreamState.CLOSED:
            if not self._is_ignored(stream_id):
                self._frame_on_closed(stream_id)
            return []
        self._check_data(stream, len(data), length, end_stream)
        self._discarded -= length
        return stream.take_data(data, length, end_stream)

    def _check_data(self, stream: Stream, size: int, length: int, end_stream: bool) -> None:
        stream_id, machine = stream.stream_id, stream.state_machine
        if machine.state is StreamState.HALF_CLOSED_REMOTE:
            raise StreamError(stream_id, ErrorCodes.STREAM_CLOSED, "DATA after END_STREAM")
        if machine.state in (StreamState.RESERVED_LOCAL, StreamState.RESERVED_REMOTE):
            raise ProtocolError(f"DATA on the reserved stream {stream_id}")
        if not machine.headers_received:
            raise StreamError(stream_id, ErrorCodes.PROTOCOL_ERROR, "DATA before the response")
        try:
            if length:
                # relies on the window manager of h2's stream, which counts what the peer may send
                stream._inbound_window_manager.window_consumed(length)
            stream.count(size, end_stream)
        except FlowControlError as error:
            raise StreamError(stream_id, ErrorCodes.FLOW_CONTROL_ERROR, str(error)) from None
        except Malformed as error:
            raise StreamError(stream_id, ErrorCodes.PROTOCOL_ERROR, str(error)) from None

    @property
    def frame_counts(self) -> tuple[list[int], list[int]]:
        """Frames that have come, and that were framed, by type: see :data:`frames.COUNTED`."""
        return self.incoming_buffer.counts, self._output.counts

    @property
    def units_received(self) -> int:
        """Frames and header blocks that have come completely."""
        return self.incoming_buffer.units

    @property
    def mid_frame(self) -> bool:
        """Whether a frame or a header block has begun and not ended."""
        return self.incoming_buffer.mid_frame

    def take_discarded(self) -> int:
        """Return, once, how many flow-controlled bytes came that no event tells about."""
        count, self._discarded = self._discarded, 0
        return count

    # --- other frames ------------------------------------------------------------------

    def _receive_rst_stream_frame(self, frame: RstStreamFrame) -> _Handled:
        if self._is_idle(frame.stream_id):
            # RFC 9113 section 6.4
            raise ProtocolError(f"RST_STREAM on the idle stream {frame.stream_id}")
        stream = self.streams.get(frame.stream_id)
        if stream is None or stream.closed:
            return [], []
        _, events = stream.stream_reset(frame)
        return [], events

    def _receive_window_update_frame(self, frame: WindowUpdateFrame) -> _Handled:
        if self._is_ignored(frame.stream_id):
            return [], []
        stream = self.streams.get(frame.stream_id)
        if stream is not None and stream.state_machine.state is StreamState.RESERVED_REMOTE:
            # RFC 9113 section 5.1
            raise ProtocolError(f"WINDOW_UPDATE on the reserved stream {frame.stream_id}")
        handled: _Handled = super()._receive_window_update_frame(frame)
        if handled[0]:
            # a window that has grown too large: h2 has reset the stream by itself
            self.guards.charge_reset()
        return handled

    def _receive_priority_frame(self, frame: HeadersFrame | PriorityFrame) -> _Handled:
        if frame.depends_on == frame.stream_id:
            # RFC 7540 section 5.3.1
            raise StreamError(
                frame.stream_id, ErrorCodes.PROTOCOL_ERROR, "the stream depends on itself"
            )
        handled: _Handled = super()._receive_priority_frame(frame)
        return handled

    def _receive_unknown_frame(self, frame: ExtensionFrame) -> _Handled:
        if frame.type == _ORIGIN and self._client:
            return [], self._receive_origins(frame)
        if frame.type != _PRIORITY_UPDATE:
            handled: _Handled = super()._receive_unknown_frame(frame)
            return handled
        # RFC 9218 section 7.1
        if self._client or frame.stream_id:
            raise ProtocolError("PRIORITY_UPDATE comes from clients, on stream 0")
        if len(frame.body) < 4:
            raise FrameDataMissingError(f"PRIORITY_UPDATE has {len(frame.body)} bytes")
        stream_id = int.from_bytes(frame.body[:4]) & 0x7FFF_FFFF
        if not stream_id % 2 and not 0 < stream_id <= self.highest_outbound_stream_id:
            raise ProtocolError(f"PRIORITY_UPDATE for stream {stream_id}")
        if not self._is_idle(stream_id) and not self.is_alive(stream_id):
            return [], []
        return [], [PriorityUpdateReceived(stream_id=stream_id, field=frame.body[4:])]

    def _receive_origins(self, frame: ExtensionFrame) -> list[Event]:
        """Take an ORIGIN frame; what cannot be understood is ignored (RFC 8336 section 2.2)."""
        if frame.stream_id or frame.flag_byte & _CRITICAL_FLAGS:
            return []
        origins, left = [], frame.body
        while left:
            end = 2 + int.from_bytes(left[:2])
            if len(left) < end:
                return []
            origins.append(left[2:end])
            left = left[end:]
        return [OriginsReceived(origins=[origin for origin in origins if _is_origin(origin)])]

    def send_origins(self, origins: Iterable[bytes]) -> None:
        """Queue ORIGIN frames, as many as it takes: each adds to those before (RFC 8336)."""
        bodies = [b""]
        for origin in origins:
            entry = len(origin).to_bytes(2, "big") + origin
            if len(bodies[-1]) + len(entry) > self.max_outbound_frame_size:
                bodies.append(b"")
            bodies[-1] += entry
        for body in bodies:
            frame = ExtensionFrame(_ORIGIN, 0)
            frame.parse_body(memoryview(body))
            self._prepare_for_sending([frame])

    def update_priority(self, stream_id: int, field: bytes) -> None:
        """Queue a PRIORITY_UPDATE (RFC 9218 section 7.1)."""
        frame = ExtensionFrame(_PRIORITY_UPDATE, 0)
        frame.parse_body(memoryview(stream_id.to_bytes(4, "big") + field))
        self._prepare_for_sending([frame])

    def is_tunnel(self, stream_id: int) -> bool:
        """Whether only DATA may be sent on it: a CONNECT with a 2xx (RFC 9113 section 8.5)."""
        stream = self.streams.get(stream_id)
        return stream is not None and stream.connected

    def priority_field(self, stream_id: int) -> bytes | None:
        """Return the ``priority`` field of a request that the peer has made (RFC 9218)."""
        stream = self.streams.get(stream_id)
        return None if stream is None else stream.priority

    def _receive_settings_frame(self, frame: SettingsFrame) -> _Handled:
        if "ACK" in frame.flags:
            if not self._unacked:
                # it acknowledges nothing
                return [], []
            handled: _Handled = super()._receive_settings_frame(frame)
            return handled
        sizes = []
        for setting, value in getattr(frame, "entries", frame.settings.items()):
            self.remote_settings.validate_received_setting(setting, value)
            if setting == SettingCodes.HEADER_TABLE_SIZE:
                sizes.append(value)
            elif setting == NO_RFC7540_PRIORITIES and value > 1:
                # RFC 9218 section 2.1
                raise ProtocolError(f"SETTINGS_NO_RFC7540_PRIORITIES cannot be {value}")
        self._check_for_good(frame.settings)
        self.remote_settings.update(frame.settings)
        event = RemoteSettingsChanged.from_settings(self.remote_settings, frame.settings)
        frames = self._acknowledge_settings()
        self.max_list_size = _in_force(self.remote_settings, SettingCodes.MAX_HEADER_LIST_SIZE)
        for size in sizes:
            # each in turn: a smaller one in between must be announced (RFC 7541 section 4.2)
            self.encoder.header_table_size = size
        return frames, [event]

    def _check_for_good(self, settings: Mapping[int, int]) -> None:
        """Check what the peer may not change (RFC 8441 section 3, RFC 9218 section 2.1)."""
        offered = self.remote_settings.enable_connect_protocol
        if offered and not settings.get(SettingCodes.ENABLE_CONNECT_PROTOCOL, 1):
            raise ProtocolError("SETTINGS_ENABLE_CONNECT_PROTOCOL was taken back")
        # one that is not in the first SETTINGS is late, and does no harm
        before = self.remote_settings.get(NO_RFC7540_PRIORITIES)
        if before is not None and before != settings.get(NO_RFC7540_PRIORITIES, before):
            raise ProtocolError("SETTINGS_NO_RFC7540_PRIORITIES was changed")

    def _local_settings_acked(self) -> dict[SettingCodes | int, ChangedSetting]:
        """Apply the oldest SETTINGS that were not acknowledged, and only those."""
        acked = self._unacked.popleft()
        self.was_acked = True
        later: dict[SettingCodes | int, list[int]] = {}
        if self._unacked:
            # Relies on Settings._settings: a deque for each setting, the value in force first.
            later = {
                key: [values.pop() for _ in range(len(values) - 1 - (key in acked))]
                for key, values in self.local_settings._settings.items()
            }
        changes = super()._local_settings_acked()
        for key, values in later.items():
            self.local_settings._settings[key].extend(reversed(values))
        window = _in_force(self.local_settings, SettingCodes.INITIAL_WINDOW_SIZE)
        self.receive_window_size = window or 0
        return changes

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> _Handled:
        event = ConnectionTerminated()
        event.error_code = frame.error_code
        event.last_stream_id = frame.last_stream_id & 0x7FFF_FFFF
        event.additional_data = frame.additional_data or None
        return [], [event]

    def _receive_naked_continuation(self, frame: ContinuationFrame) -> None:
        raise ProtocolError("CONTINUATION without HEADERS")

    # --- sending -----------------------------------------------------------------------

    def ping(self, opaque_data: bytes | str) -> None:
        """As h2's; its ACK is not charged to the peer."""
        self.guards.to_be_acked += 1
        super().ping(opaque_data)

    def reset_stream(self, stream_id: int, error_code: int = 0) -> None:
        """As h2's, for what the application wants; a reset that crosses it is not charged."""
        self.guards.begun_or_reset += 1
        super().reset_stream(stream_id, error_code)

    def go_away(self, error_code: int, debug_data: bytes = b"", *, final: bool = True) -> int:
        """Queue a GOAWAY and return its last-stream-id.

        Not ``final``: it announces the end, with the highest id (RFC 9113 section 6.8). Final:
        the peer's later streams are ignored from now on.
        """
        # the peer's highest: a client's is the even one below
        last = self.HIGHEST_ALLOWED_STREAM_ID - self.config.client_side
        if final:
            last = self._last_accepted = min(self.highest_inbound_stream_id, self._last_accepted)
        self.close_connection(error_code, debug_data or None, last)
        return last

    def send_headers(
        self,
        stream_id: int,
        headers: Iterable[Any],
        end_stream: bool = False,
        priority_weight: int | None = None,
        priority_depends_on: int | None = None,
        priority_exclusive: bool | None = None,
    ) -> None:
        """As h2's; it also notes what makes a stream a tunnel (RFC 9113 section 8.5).

        A tuple of headers is taken to be bytes, as :func:`headers.prepare` makes it.
        """
        fields = tuple(headers)
        priority = (priority_weight, priority_depends_on, priority_exclusive)
        ready = self._packs_headers and (type(headers) is tuple or _are_bytes(fields))
        if ready and priority == _NO_PRIORITY and self.frame_log is None:
            stream = self._send_fields(stream_id, fields, end_stream)
        else:
            self._fields_sent = fields
            super().send_headers(stream_id, fields, end_stream, *priority)
            stream = self.streams[stream_id]
            if stream.method is None:
                stream.method = stream.request_method
        if stream.method == b"CONNECT" and not self._client:
            status = next((value for name, value in fields if name == b":status"), b"")
            stream.connected = stream.connected or status[:1] == b"2"

    def push_stream(
        self, stream_id: int, promised_stream_id: int, request_headers: Iterable[Any]
    ) -> None:
        """As h2's; its fields are kept for the log."""
        if type(request_headers) is not tuple:
            request_headers = list(request_headers)
        self._fields_sent = tuple(request_headers)
        super().push_stream(stream_id, promised_stream_id, request_headers)

    def _send_fields(self, stream_id: int, fields: Fields, end_stream: bool) -> Stream:
        """As h2's, for fields that are checked already and bytes, and with no frame objects."""
        stream = self.streams.get(stream_id)
        if stream is None:
            limit = _in_force(self.remote_settings, SettingCodes.MAX_CONCURRENT_STREAMS)
            count = self.open_outbound_streams
            if limit is not None and count >= limit:
                raise TooManyStreamsError(f"Max outbound streams is {limit}, {count} open")
        self.state_machine.process_input(ConnectionInputs.SEND_HEADERS)
        if stream is None:
            stream = cast(Stream, self._get_or_create_stream(stream_id, self._own_ids))
        block = stream.encode_fields(fields, self.encoder, end_stream)
        if self.failure is not None:
            return stream
        limit = self.max_outbound_frame_size
        if len(block) <= limit:
            self._output.add_frame(_HEADERS, end_stream | _END_HEADERS, stream_id, block)
            return stream
        self._output.add_frame(_HEADERS, end_stream, stream_id, block[:limit])
        for at in range(limit, len(block), limit):
            flags = _END_HEADERS if at + limit >= len(block) else 0
            self._output.add_frame(ContinuationFrame.type, flags, stream_id, block[at : at + limit])
        return stream

    def send_window(self, stream_id: int) -> int:
        """Bytes that may be sent on an open stream now; less than 1: none."""
        window = self.streams[stream_id].outbound_flow_control_window
        return min(window, self.outbound_flow_control_window)

    def _packs_data(self) -> bool:
        return self.fast.packing and self.frame_log is None and self.failure is None

    def send_data(
        self,
        stream_id: int,
        data: bytes | memoryview,
        end_stream: bool = False,
        pad_length: Any = None,
    ) -> None:
        """As h2's, which builds an object for each frame and copies the data four times."""
        limit = self.max_outbound_frame_size
        stream = self.streams.get(stream_id)
        if stream is None or pad_length is not None or not self._packs_data():
            if pad_length is None:
                # h2 asks for it, and so for the stream, only where there is data
                self.local_flow_control_window(stream_id)
            self.guards.data_sent += 1
            super().send_data(stream_id, data, end_stream, pad_length)
        elif limit < len(data) <= self.send_window(stream_id):
            raise FrameTooLargeError(
                f"Cannot send frame size {len(data)}, max frame size is {limit}"
            )
        else:
            self._send_body(stream, memoryview(data), end_stream)

    def send_body(self, stream_id: int, data: memoryview, end_stream: bool = False) -> None:
        """As ``send_data``, in as many frames as it takes; the window must hold all of it."""
        if self._packs_data():
            self._send_body(self.streams[stream_id], data, end_stream)
            return
        limit, size = self.max_outbound_frame_size, len(data)
        for at in range(0, size, limit):
            last = at + limit >= size
            self.send_data(stream_id, data[at : at + limit], end_stream and last)

    def _send_body(self, stream: Stream, data: memoryview, end_stream: bool) -> None:
        size = len(data)
        window = min(stream.outbound_flow_control_window, self.outbound_flow_control_window)
        if size > window and size > 0:
            raise FlowControlError(f"Cannot send {size} bytes, flow control window is {window}")
        machine = stream.state_machine
        self.state_machine.process_input(ConnectionInputs.SEND_DATA)
        # one step for all frames: the others would change no state
        machine.process_input(StreamInputs.SEND_DATA)
        if end_stream:
            machine.process_input(StreamInputs.SEND_END_STREAM)
        stream.outbound_flow_control_window -= size
        self.outbound_flow_control_window -= size
        limit = self.max_outbound_frame_size
        self.guards.data_sent += -(-size // limit) or 1
        self._output.add_data(stream.stream_id, data, limit, end_stream)

    @property
    def outbound_streams(self) -> int:
        """Streams of ours that are open or promised."""
        return self.open_outbound_streams + (0 if self.config.client_side else self._reserved_count)

    def _prepare_for_sending(self, frames: list[Frame]) -> None:
        if self.failure is not None:
            # nothing goes after the GOAWAY of a connection error (RFC 9113 section 5.4.1)
            return
        super()._prepare_for_sending(frames)
        for frame in frames:
            self._output.counts[frame.type or 0] += 1
        if self.frame_log is not None:
            self._log_sent(self.frame_log, frames)

    def _log_sent(
        self, log: Callable[[str, Frame, Fields | None], None], frames: list[Frame]
    ) -> None:
        for frame in frames:
            fields = None
            if frame.__class__ in _BLOCKS:
                fields, self._fields_sent = self._fields_sent, None
            log(">", frame, fields)

    def data_to_send(self, amount: int | None = None) -> bytes:
        """As h2's, which copies once more."""
        self._gather()
        data = self._output.take()
        if amount is not None and amount < len(data):
            self._output += data[amount:]
            return data[:amount]
        return data

    def clear_outbound_data_buffer(self) -> None:
        """As h2's."""
        self.data_to_send()

    def credit(self, count: int, stream_id: int | None = None) -> None:
        """Queue a WINDOW_UPDATE of ``count`` bytes; none for a stream that gets no more DATA."""
        stream = None
        if stream_id is not None:
            stream = self.streams.get(stream_id)
            if stream is None or stream.state_machine.state not in _RECEIVING:
                return
        if not self._packs_data():
            self.increment_flow_control_window(count, stream_id)
            return
        self.state_machine.process_input(ConnectionInputs.SEND_WINDOW_UPDATE)
        if stream is None:
            self._inbound_flow_control_window_manager.window_opened(count)
        else:
            stream.state_machine.process_input(StreamInputs.SEND_WINDOW_UPDATE)
            stream._inbound_window_manager.window_opened(count)
        payload = count.to_bytes(4, "big")
        self._output.add_frame(WindowUpdateFrame.type, 0, stream_id or 0, payload)

    @property
    def pending(self) -> int:
        """Bytes that wait for data_to_send()."""
        self._gather()
        return len(self._output)

    def _gather(self) -> None:
        """Take over what h2 has framed, where that does not come straight here."""
        if not self.fast.packing:
            self._output += super().data_to_send()

    # --- streams -----------------------------------------------------------------------

    def _begin_new_stream(self, stream_id: int, allowed_ids: AllowedStreamIDs) -> Stream:
        # h2's makes its own class of stream. Inbound ids are checked where frames come in.
        outbound = stream_id % 2 == self._client
        if outbound and stream_id <= self.highest_outbound_stream_id:
            raise StreamIDTooLowError(stream_id, self.highest_outbound_stream_id)
        if stream_id % 2 != int(allowed_ids):
            raise ProtocolError("Invalid stream ID for peer.")
        stream = self._new_stream(
            stream_id,
            self.config,
            _in_force(self.local_settings, SettingCodes.INITIAL_WINDOW_SIZE) or 0,
            _in_force(self.remote_settings, SettingCodes.INITIAL_WINDOW_SIZE) or 0,
            self._on_change,
        )
        stream.max_outbound_frame_size = self.max_outbound_frame_size
        self.streams[stream_id] = stream
        if outbound:
            self.guards.begun_or_reset += 1
            self.highest_outbound_stream_id = stream_id
        else:
            self.highest_inbound_stream_id = stream_id
        return stream

    def _stream_changed(self, stream_id: int, before: StreamState, after: StreamState) -> None:
        self._open_count[stream_id % 2] += STREAM_OPEN[after] - STREAM_OPEN[before]
        self._reserved_count += IS_RESERVED[after] - IS_RESERVED[before]
        if after is StreamState.CLOSED:
            self._just_closed.append(stream_id)
            self._closed.append(stream_id)

    def _open_streams(self, remainder: int) -> int:
        if self._just_closed:
            for stream_id in self._just_closed:
                stream = self.streams.pop(stream_id)
                self._closed_streams[stream_id] = reason = stream.closed_by
                if reason is _SENT_END or reason is _RECEIVED_END:
                    self.guards.completed += 1
            self._just_closed.clear()
        return self._open_count[remainder]

    def is_alive(self, stream_id: int) -> bool:
        """Whether the stream exists and is not closed."""
        stream = self.streams.get(stream_id)
        return stream is not None and not stream.closed

    def forget(self, stream_id: int) -> None:
        """Close a stream of ours that the peer has turned away; it need not be told."""
        if self.is_alive(stream_id):
            self.streams[stream_id].state_machine.process_input(StreamInputs.SEND_RST_STREAM)

    def take_closed(self) -> list[int]:
        """Return, once, the ids of the streams that have closed."""
        closed = self._closed
        if closed:
            self._open_streams(0)
            self._closed = []
        return closed
