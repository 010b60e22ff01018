"""``Connection``: h2's connection with its gaps closed, and every use of h2's internals.

What differs from h2, with the clause of RFC 9113 each time: GOAWAY does not end the state machine
(6.8), errors go out with the code the RFC names (5.4, 7), what concerns one stream ends that
stream only (5.4.2, 8.1.1), events of good frames before a bad one are kept, and no step costs
more with more streams open.
"""

from __future__ import annotations

import dataclasses
import struct
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Final, NamedTuple, cast

from h2.config import H2Configuration
from h2.connection import (
    AllowedStreamIDs,
    ConnectionInputs,
    ConnectionState,
    H2Connection,
    H2ConnectionStateMachine,
)
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    PushedStreamReceived,
    RemoteSettingsChanged,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import (
    DenialOfServiceError,
    FlowControlError,
    FrameDataMissingError,
    FrameTooLargeError,
    ProtocolError,
    StreamClosedError,
    StreamIDTooLowError,
    TooManyStreamsError,
)
from h2.frame_buffer import FrameBuffer as H2FrameBuffer
from h2.settings import ChangedSetting, SettingCodes, Settings
from h2.stream import (
    STREAM_OPEN,
    H2StreamStateMachine,
    StreamClosedBy,
    StreamInputs,
    StreamState,
    _transitions,
)
from h2.stream import H2Stream as BaseStream
from h2.utilities import (
    authority_from_headers,
    extract_method_header,
    is_informational_response,
)
from hpack.exceptions import HPACKError, OversizedHeaderListError
from hyperframe.exceptions import InvalidDataError, InvalidFrameError, InvalidPaddingError
from hyperframe.frame import (
    AltSvcFrame,
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from .codec import Decoder, Encoder
from .headers import Facts, Fields, Kind, Malformed, check_again, join_cookies, read

__all__ = ["Connection", "PrefaceError", "StreamFailed"]

_Handled = tuple[list[Frame], list[Event]]

_FRAME_HEADER: Final = 9
# Frames of one length only (RFC 9113 sections 6.4, 6.7 and 6.9), by type.
_FIXED_LENGTH: Final = {
    RstStreamFrame.type: 4,
    0x06: 8,
    WindowUpdateFrame.type: 4,
}
_RECEIVING: Final = frozenset([StreamState.OPEN, StreamState.HALF_CLOSED_LOCAL])
_IS_RESERVED: Final = [
    state in (StreamState.RESERVED_LOCAL, StreamState.RESERVED_REMOTE) for state in StreamState
]
# length (in two parts), type, flags and stream id (RFC 9113 section 4.1)
_pack_header: Final = struct.Struct(">HBBBL").pack
_unpack_header: Final = struct.Struct(">HBBBL").unpack_from
_ACK: Final = 0x01
_END_STREAM: Final = 0x01
_END_HEADERS: Final = 0x04
_PADDED: Final = 0x08
_PRIORITY: Final = 0x20
# The flags of a frame that needs no parsing, but for END_STREAM, by type.
_PLAIN_FLAGS: Final = {DataFrame.type: 0, HeadersFrame.type: _END_HEADERS}


class PrefaceError(ProtocolError):
    """The peer's first bytes are not those of HTTP/2 (RFC 9113 section 3.4)."""


class CompressionError(ProtocolError):
    """A header block cannot be decoded (RFC 9113 section 4.3)."""

    error_code = ErrorCodes.COMPRESSION_ERROR


@dataclasses.dataclass(kw_only=True)
class StreamFailed(StreamReset):
    """h2's event for a stream that this side resets because the peer broke a rule, and which."""

    reason: str = ""
    remote_reset: bool = False


class _StreamError(Exception):
    """What ends one stream and leaves the connection alone (RFC 9113 section 5.4.2)."""

    def __init__(self, stream_id: int, error_code: ErrorCodes, reason: str) -> None:
        super().__init__(reason)
        self.stream_id = stream_id
        self.error_code = error_code


def _open_ended_transitions() -> dict[Any, Any]:
    # Relies on H2ConnectionStateMachine._transitions: (state, input) -> (function, new state).
    transitions = dict(H2ConnectionStateMachine._transitions)
    for state in ConnectionState:
        if state is not ConnectionState.CLOSED:
            for goaway in (ConnectionInputs.SEND_GOAWAY, ConnectionInputs.RECV_GOAWAY):
                transitions[state, goaway] = (None, state)
    return transitions


class _SettingsFrame(SettingsFrame):
    """hyperframe's, which writes no setting above 255."""

    def serialize_body(self) -> bytes:
        return b"".join(
            code.to_bytes(2, "big") + value.to_bytes(4, "big")
            for code, value in self.settings.items()
        )


def _by_state_and_input(transitions: dict[Any, Any], states: Any, inputs: Any) -> list[list[Any]]:
    """Turn (state, input) -> step into a table by their numbers: an Enum is slow to hash."""
    size = max(input_.value for input_ in inputs) + 1
    table: list[list[Any]] = [[None] * size for _ in states]
    for (state, input_), step in transitions.items():
        table[state.value][input_.value] = step
    return table


class _ConnectionStateMachine(H2ConnectionStateMachine):
    """h2's, except that a GOAWAY does not close the connection (RFC 9113 section 6.8)."""

    _transitions = _open_ended_transitions()
    _steps: ClassVar[list[list[Any]]]

    def process_input(self, input_: ConnectionInputs) -> list[Event]:
        step = self._steps[self.state._value_][input_._value_]
        if step is None:
            return super().process_input(input_)
        self.state = step[1]
        return []


_ConnectionStateMachine._steps = _by_state_and_input(
    _ConnectionStateMachine._transitions, ConnectionState, ConnectionInputs
)


# Relies on h2.stream._transitions: (state, input) -> (function, new state).
_STREAM_STEPS: Final = _by_state_and_input(_transitions, StreamState, StreamInputs)


class _StreamStateMachine(H2StreamStateMachine):
    """h2's, which tells the connection when a stream opens or closes, so that none are counted."""

    def __init__(self, stream_id: int, changed: Callable[[int, StreamState, StreamState], None]):
        super().__init__(stream_id)
        self._changed = changed

    def process_input(self, input_: StreamInputs) -> list[Event]:
        before = self.state
        step = _STREAM_STEPS[before][input_._value_]
        try:
            if step is None:
                # h2's own says what is wrong, and closes the stream
                return super().process_input(input_)
            function, self.state = step
            return [] if function is None else cast(list[Event], function(self, before))
        except ProtocolError:
            self.state = StreamState.CLOSED
            raise
        except AssertionError as error:
            self.state = StreamState.CLOSED
            raise ProtocolError(str(error)) from error
        finally:
            if self.state is not before:
                self._changed(self.stream_id, before, self.state)


def _are_bytes(fields: tuple[Any, ...]) -> bool:
    for name, value in fields:  # noqa: SIM110 - a generator costs three times as much
        if type(name) is not bytes or type(value) is not bytes:
            return False
    return True


class Stream(BaseStream):
    """h2's stream, with what RFC 9113 section 8.1.1 wants to be known about its message."""

    def __init__(
        self,
        stream_id: int,
        config: H2Configuration,
        inbound_window_size: int,
        outbound_window_size: int,
        changed: Callable[[int, StreamState, StreamState], None],
    ) -> None:
        super().__init__(stream_id, config, inbound_window_size, outbound_window_size)
        self.state_machine = _StreamStateMachine(stream_id, changed)
        # The content-length that the peer announced, None where it did not or it does not count.
        self.expected_length: int | None = None
        # Bytes of content that have come.
        self.received_length = 0
        # The method of the request, on both sides; a response overwrites h2's request_method.
        self.method: bytes | None = None
        # Whether this is a tunnel: only DATA may follow (RFC 9113 section 8.5).
        self.connected = False

    def expect(self, facts: Facts) -> None:
        """Note what the peer's header section says of the content to come."""
        length = facts.content_length
        if facts.status is not None and (self.method == b"HEAD" or facts.status in (204, 304)):
            # defined to have no content, whatever its content-length (RFC 9110 section 6.4.1)
            length = 0
        if self.method == b"CONNECT" and (facts.status is None or facts.status < 300):
            # what follows is not content (RFC 9110 section 9.3.6)
            length = None
        self.expected_length = length

    def count(self, length: int, end_stream: bool) -> None:
        """Count content against the content-length; raises ``Malformed`` when it is wrong."""
        self.received_length += length
        expected = self.expected_length
        if expected is None:
            return
        if self.received_length > expected or (end_stream and self.received_length != expected):
            raise Malformed(f"content-length is {expected}, but {self.received_length} bytes came")

    def encode_fields(self, fields: Fields, encoder: Encoder, end_stream: bool) -> bytes:
        """Take a header section that goes out through the state machine; return its block."""
        machine = self.state_machine
        send = StreamInputs.SEND_HEADERS
        if not machine.client and is_informational_response(fields):
            if end_stream:
                raise ProtocolError("Cannot set END_STREAM on informational responses.")
            send = StreamInputs.SEND_INFORMATIONAL_HEADERS
        machine.process_input(send)
        block = encoder.encode(fields)
        if end_stream:
            machine.process_input(StreamInputs.SEND_END_STREAM)
        elif machine.trailers_sent:
            raise ProtocolError("Trailers must have END_STREAM set.")
        if machine.client and self._authority is None:
            self._authority = authority_from_headers(fields)
        self.request_method = extract_method_header(fields)
        return block

    def take_headers(
        self, shown: list[Any], end_stream: bool, informational: bool = False
    ) -> list[Event]:
        """Take a header section through the state machine; return h2's events, which show it."""
        recv = (
            StreamInputs.RECV_INFORMATIONAL_HEADERS if informational else StreamInputs.RECV_HEADERS
        )
        events = self.state_machine.process_input(recv)
        event = cast(Any, events[0])
        event.headers = shown
        if end_stream:
            ended = self.state_machine.process_input(StreamInputs.RECV_END_STREAM)
            event.stream_ended = cast(StreamEnded, ended[0])
            events += ended
        return events


class _PlainFrame(NamedTuple):
    """DATA without padding, or HEADERS in one piece: what most frames are."""

    kind: int
    end_stream: bool
    stream_id: int
    payload: bytes


class FrameBuffer(H2FrameBuffer):
    """Cuts what arrives into frames, and refuses what is wrong as soon as it can be seen.

    Relies on ``_data``, ``_headers_buffer`` and ``_update_header_buffer`` of h2's buffer.
    """

    def __init__(self, server: bool) -> None:
        super().__init__(server)
        self._server = server
        #: Whether plain frames are handed out as such, and not as hyperframe's.
        self.plainly = False
        #: Frames and header blocks that have come completely.
        self.units = 0
        # Whether the SETTINGS frame that every peer starts with has come (RFC 9113 section 3.4).
        self._settings_came = False

    @property
    def mid_frame(self) -> bool:
        """Whether a frame or a header block has begun and not ended."""
        return bool(self._data or self._headers_buffer)

    def add_data(self, data: Any) -> None:
        """Add received bytes; raises ``PrefaceError``."""
        try:
            super().add_data(data)
        except ProtocolError:
            start = bytes(data[:24])
            what = "HTTP/1" if b"HTTP/1" in bytes(data[:4096]) else "something else"
            raise PrefaceError(
                f"the client speaks {what}: it began with {start!r}, not the HTTP/2 preface"
            ) from None

    def __next__(self) -> Any:
        while True:
            data = self._data
            if len(data) < _FRAME_HEADER:
                raise StopIteration
            high, low, kind, flags, stream_id = _unpack_header(data)
            length = high << 8 | low
            stream_id &= 0x7FFF_FFFF
            self._check_header(length, kind, flags, stream_id)
            end = _FRAME_HEADER + length
            if len(data) < end:
                raise StopIteration
            if stream_id and self.plainly and _PLAIN_FLAGS.get(kind) == flags & ~_END_STREAM:
                payload = bytes(memoryview(data)[_FRAME_HEADER:end])
                del data[:end]
                self.units += 1
                return _PlainFrame(kind, bool(flags & _END_STREAM), stream_id, payload)
            raw = bytes(memoryview(data)[:end])
            del data[:end]
            if kind == AltSvcFrame.type and self._server:
                # for clients only: whatever is in it is ignored (RFC 7838 section 4)
                continue
            frame = self._update_header_buffer(_parse(raw, length, kind, flags, stream_id))
            if frame is not None:
                self.units += 1
                return frame

    def _check_header(self, length: int, kind: int, flags: int, stream_id: int) -> None:
        if not self._settings_came:
            self._check_first(kind, flags, stream_id)
        if self._headers_buffer and (
            kind != ContinuationFrame.type or stream_id != self._headers_buffer[0].stream_id
        ):
            # RFC 9113 section 4.3
            raise ProtocolError("invalid frame between HEADERS and their CONTINUATION")
        if length > self.max_frame_size:
            raise FrameTooLargeError(
                f"a frame of {length} bytes came, where {self.max_frame_size} are allowed"
            )
        if length != _FIXED_LENGTH.get(kind, length):
            raise FrameDataMissingError(f"a frame of type {kind} has {length} bytes")
        if kind == SettingsFrame.type and length and (length % 6 or flags & _ACK):
            raise FrameDataMissingError(f"a SETTINGS frame has {length} bytes")
        self._settings_came = True

    def _check_first(self, kind: int, flags: int, stream_id: int) -> None:
        if kind == SettingsFrame.type and not flags & _ACK and not stream_id:
            return
        start = bytes(self._data[:24])
        if start.startswith(b"HTTP/"):
            raise PrefaceError(f"the server speaks HTTP/1: it began with {start!r}")
        raise PrefaceError(f"the peer's first frame is not SETTINGS; it began with {start!r}")


def _parse(raw: bytes, length: int, kind: int, flags: int, stream_id: int) -> Frame:
    if kind == PriorityFrame.type and length != 5 and stream_id:
        # RFC 9113 section 6.3
        raise _StreamError(stream_id, ErrorCodes.FRAME_SIZE_ERROR, "PRIORITY of wrong length")
    if kind == WindowUpdateFrame.type and stream_id and not int.from_bytes(raw[9:]) & 0x7FFF_FFFF:
        # RFC 9113 section 6.9
        raise _StreamError(stream_id, ErrorCodes.PROTOCOL_ERROR, "WINDOW_UPDATE of zero")
    if flags & _PADDED:
        raw = _without_padding(raw, length, kind, flags)
    if kind in (PushPromiseFrame.type, WindowUpdateFrame.type) and length >= 4:
        # a reserved bit, which is ignored (RFC 9113 sections 6.6 and 6.9)
        raw = raw[:_FRAME_HEADER] + bytes([raw[_FRAME_HEADER] & 0x7F]) + raw[_FRAME_HEADER + 1 :]
    try:
        frame, _ = Frame.parse_frame_header(memoryview(raw)[:_FRAME_HEADER])
    except InvalidDataError as error:
        raise ProtocolError(f"Received frame with invalid header: {error}") from error
    try:
        frame.parse_body(memoryview(raw)[_FRAME_HEADER:])
    except InvalidFrameError as error:
        raise FrameDataMissingError(str(error)) from error
    except (InvalidDataError, InvalidPaddingError) as error:
        raise ProtocolError(str(error)) from error
    if kind == SettingsFrame.type:
        # in order and with repetitions, which a dict does not keep (RFC 9113 section 6.5.3)
        cast(Any, frame).entries = [
            (int.from_bytes(raw[at : at + 2]), int.from_bytes(raw[at + 2 : at + 6]))
            for at in range(_FRAME_HEADER, len(raw), 6)
        ]
    return frame


def _without_padding(raw: bytes, length: int, kind: int, flags: int) -> bytes:
    """Check the padding (RFC 9113 sections 6.1, 6.2, 6.6); take it off a frame with headers.

    That of DATA stays, since it counts for flow control. hyperframe refuses padding that fills
    a frame, which is legal.
    """
    needed = {DataFrame.type: 1, HeadersFrame.type: 1, PushPromiseFrame.type: 5}.get(kind)
    if needed is None:
        return raw
    if kind == HeadersFrame.type and flags & _PRIORITY:
        needed += 5
    if length < needed:
        raise FrameDataMissingError(f"a padded frame of type {kind} has {length} bytes")
    padding = raw[_FRAME_HEADER]
    if padding + needed > length:
        raise ProtocolError(f"{padding} bytes of padding in a frame of {length}")
    if kind == DataFrame.type:
        return raw
    header = raw[:4] + bytes([flags & ~_PADDED]) + raw[5:_FRAME_HEADER]
    return header + raw[_FRAME_HEADER + 1 : len(raw) - padding]


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

    def __init__(self, config: H2Configuration | None = None) -> None:
        # Streams that are open in the sense of RFC 9113 section 5.1.2, by id modulo 2. Set
        # before h2's own, which may ask.
        self._open_count = [0, 0]
        # Streams that were promised and have not begun (RFC 9113 section 5.1, "reserved").
        self._reserved_count = 0
        # Streams that have closed and are still in `streams`.
        self._just_closed: list[int] = []
        super().__init__(config)
        self.state_machine = _ConnectionStateMachine()
        self.incoming_buffer: FrameBuffer = FrameBuffer(server=not self.config.client_side)
        self.encoder = Encoder()
        self.decoder = Decoder(self.DEFAULT_MAX_HEADER_LIST_SIZE)
        # SETTINGS that were sent and not acknowledged, in order (RFC 9113 section 6.5.3).
        self._unacked: deque[Mapping[int, int]] = deque()
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
        #: Called with "<" or ">" and each frame, when not None.
        self.frame_log: Callable[[str, Frame], None] | None = None

    # --- opening -----------------------------------------------------------------------

    def initiate(self, settings: Mapping[SettingCodes, int], *, window_size: int) -> None:
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
        now = {code: value for code, value in settings.items() if code not in later}
        self.local_settings = Settings(client=client, initial_values=now)
        self.decoder.max_header_list_size = settings[SettingCodes.MAX_HEADER_LIST_SIZE]
        if client:
            self._data_to_send += b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
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
        self._prepare_for_sending([_SettingsFrame(settings=dict(new_settings))])
        self._unacked.append(dict(new_settings))

    # --- receiving ---------------------------------------------------------------------

    def receive(self, data: bytes) -> list[Event]:
        """Take received bytes and return the events of all good frames in them.

        A connection error queues GOAWAY and is kept in :attr:`failure`; from then on input is
        ignored.
        """
        events: list[Event] = []
        if self.failure is not None:
            return events
        buffer = self.incoming_buffer
        buffer.plainly = self.frame_log is None
        try:
            buffer.add_data(data)
            while True:
                buffer.max_frame_size = self.max_inbound_frame_size
                try:
                    frame = next(buffer)
                except StopIteration:
                    return events
                except _StreamError as error:
                    events += self._end_stream_for(error)
                    continue
                if type(frame) is _PlainFrame:
                    events += self._receive_plain(frame)
                else:
                    events += self._receive_frame(frame)
        except ProtocolError as error:
            self._terminate_connection(error.error_code)
            self.failure = error
            return events

    def receive_data(self, data: Any) -> list[Event]:
        """As h2's: the same, raising what ``receive`` keeps."""
        failed = self.failure
        events = self.receive(data)
        if self.failure is not None and self.failure is not failed:
            raise self.failure
        return events

    def _receive_plain(self, frame: _PlainFrame) -> list[Event]:
        kind, end_stream, stream_id, payload = frame
        try:
            if kind == DataFrame.type:
                return self._receive_content(stream_id, payload, len(payload), end_stream)
            return self._receive_block(stream_id, payload, end_stream)
        except _StreamError as error:
            return self._end_stream_for(error)

    def _receive_frame(self, frame: Frame) -> list[Event]:
        if self.frame_log is not None:
            self.frame_log("<", frame)
        try:
            frames, events = self._frame_dispatch_table[frame.__class__](frame)
        except _StreamError as error:
            return self._end_stream_for(error)
        self._prepare_for_sending(frames)
        return cast(list[Event], events)

    def _end_stream_for(self, error: _StreamError) -> list[Event]:
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

    def _terminate_connection(self, error_code: ErrorCodes) -> None:
        last = min(self.highest_inbound_stream_id, self._last_accepted)
        # The state machine stays open: what came before the error is still being handled.
        self._prepare_for_sending([GoAwayFrame(0, last, error_code)])

    def _is_idle(self, stream_id: int) -> bool:
        if self._stream_id_is_outbound(stream_id):
            return stream_id > self.highest_outbound_stream_id
        return stream_id > self.highest_inbound_stream_id and not self._is_ignored(stream_id)

    def _is_ignored(self, stream_id: int) -> bool:
        """Whether it is a stream that our last GOAWAY has turned away (RFC 9113 section 6.8)."""
        return stream_id > self._last_accepted and not self._stream_id_is_outbound(stream_id)

    def _frame_on_closed(self, stream_id: int, *, opens: bool = False) -> None:
        """Judge HEADERS or DATA on a stream that is closed (RFC 9113 section 5.1).

        Returns where it is to be ignored: this side has reset the stream.
        """
        closed_by = self._stream_closed_by(stream_id)
        if closed_by is StreamClosedBy.SEND_RST_STREAM:
            return
        if closed_by is StreamClosedBy.RECV_RST_STREAM:
            raise _StreamError(stream_id, ErrorCodes.STREAM_CLOSED, "a frame after RST_STREAM")
        if closed_by is None and opens:
            raise StreamIDTooLowError(stream_id, self.highest_inbound_stream_id)
        raise StreamClosedError(stream_id)

    # --- headers -----------------------------------------------------------------------

    def _decode(self, block: bytes) -> Fields:
        try:
            return cast(Fields, self.decoder.decode(block, raw=True))
        except OversizedHeaderListError as error:
            raise DenialOfServiceError(str(error)) from error
        except HPACKError as error:
            raise CompressionError(str(error)) from error

    def _check(self, stream_id: int, fields: Fields, kind: Kind) -> Facts:
        extended = bool(self.local_settings.enable_connect_protocol)
        try:
            if not self.config.validate_inbound_headers:
                return read(fields, kind)
            return check_again(fields, kind, extended_connect=extended)
        except Malformed as error:
            raise _StreamError(stream_id, ErrorCodes.PROTOCOL_ERROR, str(error)) from None

    def _shown(self, stream_id: int, fields: Fields) -> list[Any]:
        """Return a header section as an event shows it, which H2Configuration decides."""
        config = self.config
        if config.normalize_inbound_headers:
            fields = join_cookies(fields)
        encoding = config.header_encoding
        if not isinstance(encoding, str):
            return list(fields)
        try:
            return [
                field.__class__(field[0].decode(encoding), field[1].decode(encoding))
                for field in cast(Any, fields)
            ]
        except UnicodeDecodeError as error:
            raise _StreamError(stream_id, ErrorCodes.PROTOCOL_ERROR, str(error)) from None

    def _receive_headers_frame(self, frame: HeadersFrame) -> _Handled:
        end_stream = "END_STREAM" in frame.flags
        if "PRIORITY" not in frame.flags:
            return [], self._receive_block(frame.stream_id, frame.data, end_stream)
        itself = frame.depends_on == frame.stream_id
        events = self._receive_block(frame.stream_id, frame.data, end_stream, itself)
        if events:
            _, updates = self._receive_priority_frame(frame)
            cast(Any, events[0]).priority_updated = updates[0]
            events += updates
        return [], events

    def _receive_block(
        self, stream_id: int, block: bytes, end_stream: bool, depends_on_itself: bool = False
    ) -> list[Event]:
        """Take a whole header block; return h2's events."""
        fields = self._decode(block)
        if self._is_ignored(stream_id):
            return []
        idle = self._is_idle(stream_id)
        if idle:
            self._open_inbound(stream_id)
        stream = cast(Stream | None, self.streams.get(stream_id))
        if not idle and (stream is None or stream.closed):
            self._frame_on_closed(stream_id, opens=True)
            return []
        if stream is not None:
            self._check_expects_headers(stream)
        if depends_on_itself:
            # RFC 7540 section 5.3.1
            raise _StreamError(stream_id, ErrorCodes.PROTOCOL_ERROR, "it depends on itself")
        if stream is None:
            return self._receive_request(stream_id, fields, end_stream)
        return self._receive_more_headers(stream, fields, end_stream)

    def _open_inbound(self, stream_id: int) -> None:
        """A stream id is used for the first time: check that it may be, now."""
        if self.config.client_side or not stream_id % 2:
            raise ProtocolError(f"HEADERS may not open the idle stream {stream_id}")
        self.state_machine.process_input(ConnectionInputs.RECV_HEADERS)
        self.highest_inbound_stream_id = stream_id
        self._admit(stream_id, max(self.open_inbound_streams, self.held_streams))

    def _receive_request(self, stream_id: int, fields: Fields, end_stream: bool) -> list[Event]:
        facts = self._check(stream_id, fields, Kind.REQUEST)
        shown = self._shown(stream_id, fields)
        if end_stream and facts.content_length and facts.method != b"CONNECT":
            raise _StreamError(
                stream_id, ErrorCodes.PROTOCOL_ERROR, "content-length without content"
            )
        stream = cast(Stream, self._begin_new_stream(stream_id, AllowedStreamIDs.ODD))
        stream.method = facts.method
        stream.expect(facts)
        return stream.take_headers(shown, end_stream)

    def _admit(self, stream_id: int, count: int) -> None:
        """Refuse a stream when ``count`` others leave no room for it (RFC 9113 section 5.1.2)."""
        limit = self.local_settings.max_concurrent_streams
        if count >= limit:
            raise _StreamError(
                stream_id, ErrorCodes.REFUSED_STREAM, f"{limit} streams are open already"
            )

    def _check_expects_headers(self, stream: Stream) -> None:
        stream_id, machine = stream.stream_id, stream.state_machine
        if machine.state is StreamState.HALF_CLOSED_REMOTE:
            raise _StreamError(stream_id, ErrorCodes.STREAM_CLOSED, "HEADERS after END_STREAM")
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
            raise _StreamError(stream.stream_id, ErrorCodes.PROTOCOL_ERROR, str(error)) from None

    def _receive_trailers(self, stream: Stream, fields: Fields, end_stream: bool) -> list[Event]:
        if stream.connected:
            raise Malformed("HEADERS came on a connected stream (RFC 9113 section 8.5)")
        if not end_stream:
            raise Malformed("trailers must end the stream")
        self._check(stream.stream_id, fields, Kind.TRAILERS)
        stream.count(0, True)
        return stream.take_headers(self._shown(stream.stream_id, fields), True)

    def _receive_response(self, stream: Stream, fields: Fields, end_stream: bool) -> list[Event]:
        facts = self._check(stream.stream_id, fields, Kind.RESPONSE)
        status = facts.status or 0
        shown = self._shown(stream.stream_id, fields)
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
        fields = self._decode(frame.data)
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
            raise _StreamError(promised, ErrorCodes.REFUSED_STREAM, "its parent was reset")
        if parent.state_machine.state not in (StreamState.OPEN, StreamState.HALF_CLOSED_LOCAL):
            raise ProtocolError(f"a push was promised on stream {frame.stream_id}")
        self.highest_inbound_stream_id = promised
        if cast(Stream, parent).connected:
            # RFC 9113 section 8.5
            self._closed_streams[promised] = StreamClosedBy.SEND_RST_STREAM
            self._prepare_for_sending([RstStreamFrame(promised, ErrorCodes.CANCEL)])
            raise _StreamError(
                frame.stream_id, ErrorCodes.PROTOCOL_ERROR, "a push was promised in a tunnel"
            )
        # promised streams are not open yet: RFC 9113 section 8.4.2 leaves their number to us
        self._admit(promised, self.open_inbound_streams + self._reserved_count)
        facts = self._check(promised, fields, Kind.REQUEST)
        if self.config.validate_inbound_headers:
            self._check_promise(promised, cast(Stream, parent), fields, facts)
        return [], self._begin_promised(frame, fields, facts)

    def _check_promise(self, promised: int, parent: Stream, fields: Fields, facts: Facts) -> None:
        """Check a promised request beside the one that it belongs to (RFC 9113 section 8.4)."""
        if facts.method not in (b"GET", b"HEAD") or facts.content_length:
            # safe, cacheable, without content
            raise _StreamError(promised, ErrorCodes.PROTOCOL_ERROR, "not a GET or HEAD")
        # relies on H2Stream._authority: the :authority that the parent was sent with; of a
        # stream that began as an HTTP/1.1 upgrade nothing is known, not even the method
        same = (b":authority", parent._authority) in fields
        if not same and parent.method is not None:
            raise _StreamError(
                promised, ErrorCodes.PROTOCOL_ERROR, "not of the authority of its parent"
            )

    def _begin_promised(self, frame: PushPromiseFrame, fields: Fields, facts: Facts) -> list[Event]:
        promised = frame.promised_stream_id
        shown = self._shown(promised, fields)
        parent = self.streams[frame.stream_id]
        events = parent.state_machine.process_input(StreamInputs.RECV_PUSH_PROMISE)
        event = cast(PushedStreamReceived, events[0])
        event.pushed_stream_id = promised
        event.headers = shown
        stream = cast(Stream, self._begin_new_stream(promised, AllowedStreamIDs.EVEN))
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
        if self._is_idle(stream_id):
            raise ProtocolError(f"DATA on the idle stream {stream_id}")
        # raises FlowControlError, for the connection, where the window is overdrawn
        self._inbound_flow_control_window_manager.window_consumed(length)
        stream = cast(Stream | None, self.streams.get(stream_id))
        self._discarded += length
        if self._is_ignored(stream_id):
            return []
        if stream is None or stream.closed:
            self._frame_on_closed(stream_id)
            return []
        self._check_data(stream, len(data), length, end_stream)
        self._discarded -= length
        events = stream.state_machine.process_input(StreamInputs.RECV_DATA)
        event = cast(DataReceived, events[0])
        event.data = data
        event.flow_controlled_length = length
        if end_stream:
            ended = stream.state_machine.process_input(StreamInputs.RECV_END_STREAM)
            event.stream_ended = cast(StreamEnded, ended[0])
            events += ended
        return events

    def _check_data(self, stream: Stream, size: int, length: int, end_stream: bool) -> None:
        stream_id, machine = stream.stream_id, stream.state_machine
        if machine.state is StreamState.HALF_CLOSED_REMOTE:
            raise _StreamError(stream_id, ErrorCodes.STREAM_CLOSED, "DATA after END_STREAM")
        if machine.state in (StreamState.RESERVED_LOCAL, StreamState.RESERVED_REMOTE):
            raise ProtocolError(f"DATA on the reserved stream {stream_id}")
        if not machine.headers_received:
            raise _StreamError(stream_id, ErrorCodes.PROTOCOL_ERROR, "DATA before the response")
        try:
            if length:
                # relies on the window manager of h2's stream, which counts what the peer may send
                stream._inbound_window_manager.window_consumed(length)
            stream.count(size, end_stream)
        except FlowControlError as error:
            raise _StreamError(stream_id, ErrorCodes.FLOW_CONTROL_ERROR, str(error)) from None
        except Malformed as error:
            raise _StreamError(stream_id, ErrorCodes.PROTOCOL_ERROR, str(error)) from None

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
        return handled

    def _receive_priority_frame(self, frame: HeadersFrame | PriorityFrame) -> _Handled:
        if frame.depends_on == frame.stream_id:
            # RFC 7540 section 5.3.1
            raise _StreamError(
                frame.stream_id, ErrorCodes.PROTOCOL_ERROR, "the stream depends on itself"
            )
        handled: _Handled = super()._receive_priority_frame(frame)
        return handled

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
        self.remote_settings.update(frame.settings)
        event = RemoteSettingsChanged.from_settings(self.remote_settings, frame.settings)
        frames = self._acknowledge_settings()
        for size in sizes:
            # each in turn: a smaller one in between must be announced (RFC 7541 section 4.2)
            self.encoder.header_table_size = size
        return frames, [event]

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
        """As h2's; it also notes what makes a stream a tunnel (RFC 9113 section 8.5)."""
        fields = tuple(headers)
        priority = (priority_weight, priority_depends_on, priority_exclusive)
        config = self.config
        ready = not (config.validate_outbound_headers or config.normalize_outbound_headers)
        ready = ready and _are_bytes(fields)
        if ready and priority == (None, None, None) and self.frame_log is None:
            self._send_fields(stream_id, fields, end_stream)
        else:
            super().send_headers(stream_id, fields, end_stream, *priority)
        stream = cast(Stream, self.streams[stream_id])
        if stream.method is None:
            stream.method = stream.request_method
        elif stream.method == b"CONNECT" and not self.config.client_side:
            status = next((value for name, value in fields if name == b":status"), b"")
            stream.connected = stream.connected or status[:1] == b"2"

    def _send_fields(self, stream_id: int, fields: Fields, end_stream: bool) -> None:
        """As h2's, for fields that are checked already and bytes, and with no frame objects."""
        if stream_id not in self.streams:
            limit, count = self.remote_settings.max_concurrent_streams, self.open_outbound_streams
            if count >= limit:
                raise TooManyStreamsError(f"Max outbound streams is {limit}, {count} open")
        self.state_machine.process_input(ConnectionInputs.SEND_HEADERS)
        kind = AllowedStreamIDs(self.config.client_side)
        stream = cast(Stream, self._get_or_create_stream(stream_id, kind))
        block = stream.encode_fields(fields, cast(Encoder, self.encoder), end_stream)
        if self.failure is not None:
            return
        limit = self.max_outbound_frame_size
        flags = end_stream | (_END_HEADERS if len(block) <= limit else 0)
        self._pack(HeadersFrame.type, flags, stream_id, block[:limit])
        for at in range(limit, len(block), limit):
            flags = _END_HEADERS if at + limit >= len(block) else 0
            self._pack(ContinuationFrame.type, flags, stream_id, block[at : at + limit])

    def _pack(self, kind: int, flags: int, stream_id: int, payload: bytes | memoryview) -> None:
        size = len(payload)
        self._data_to_send += _pack_header(size >> 8, size & 0xFF, kind, flags, stream_id)
        self._data_to_send += payload

    def send_data(
        self,
        stream_id: int,
        data: bytes | memoryview,
        end_stream: bool = False,
        pad_length: Any = None,
    ) -> None:
        """As h2's, which builds an object for each frame and copies the data four times."""
        if pad_length is not None:
            super().send_data(stream_id, data, end_stream, pad_length)
            return
        size = len(data)
        # asked for empty data too: h2 then raises KeyError for a stream that is closed or unknown
        window = self.local_flow_control_window(stream_id)
        if self.frame_log is not None or self.failure is not None:
            super().send_data(stream_id, data, end_stream)
            return
        if size > max(window, 0):
            raise FlowControlError(f"Cannot send {size} bytes, flow control window is {window}")
        if size > self.max_outbound_frame_size:
            raise FrameTooLargeError(
                f"Cannot send frame size {size}, max frame size is {self.max_outbound_frame_size}"
            )
        self.state_machine.process_input(ConnectionInputs.SEND_DATA)
        stream = self.streams[stream_id]
        stream.state_machine.process_input(StreamInputs.SEND_DATA)
        if end_stream:
            stream.state_machine.process_input(StreamInputs.SEND_END_STREAM)
        stream.outbound_flow_control_window -= size
        self.outbound_flow_control_window -= size
        self._pack(DataFrame.type, end_stream, stream_id, data)

    def send_body(self, stream_id: int, data: memoryview, end_stream: bool = False) -> None:
        """As ``send_data``, in as many frames as it takes; the window must hold all of it."""
        limit, size = self.max_outbound_frame_size, len(data)
        if size <= limit or self.frame_log is not None or self.failure is not None:
            for at in range(0, size, limit):
                last = at + limit >= size
                self.send_data(stream_id, data[at : at + limit], end_stream and last)
            return
        # the first frame goes through all checks, and the others change no state but the windows
        self.send_data(stream_id, data[:limit])
        stream, rest = self.streams[stream_id], size - limit
        if rest > min(stream.outbound_flow_control_window, self.outbound_flow_control_window):
            raise FlowControlError(f"Cannot send {rest} bytes more than the flow control window")
        if end_stream:
            stream.state_machine.process_input(StreamInputs.SEND_END_STREAM)
        stream.outbound_flow_control_window -= rest
        self.outbound_flow_control_window -= rest
        for at in range(limit, size, limit):
            ends = end_stream and at + limit >= size
            self._pack(DataFrame.type, ends, stream_id, data[at : at + limit])

    @property
    def outbound_streams(self) -> int:
        """Streams of ours that are open or promised."""
        return self.open_outbound_streams + (0 if self.config.client_side else self._reserved_count)

    def _prepare_for_sending(self, frames: list[Frame]) -> None:
        if self.failure is not None:
            # nothing goes after the GOAWAY of a connection error (RFC 9113 section 5.4.1)
            return
        if self.frame_log is not None:
            for frame in frames:
                self.frame_log(">", frame)
        super()._prepare_for_sending(frames)

    def credit(self, count: int, stream_id: int | None = None) -> None:
        """Queue a WINDOW_UPDATE of ``count`` bytes; none for a stream that gets no more DATA."""
        if stream_id is not None:
            stream = self.streams.get(stream_id)
            if stream is None or stream.state_machine.state not in _RECEIVING:
                return
        self.increment_flow_control_window(count, stream_id)

    @property
    def pending(self) -> int:
        """Bytes that wait for data_to_send()."""
        return len(self._data_to_send)

    # --- streams -----------------------------------------------------------------------

    def _begin_new_stream(self, stream_id: int, allowed_ids: AllowedStreamIDs) -> BaseStream:
        # h2's makes its own class of stream. Inbound ids are checked where frames come in.
        outbound = self._stream_id_is_outbound(stream_id)
        if outbound and stream_id <= self.highest_outbound_stream_id:
            raise StreamIDTooLowError(stream_id, self.highest_outbound_stream_id)
        if stream_id % 2 != int(allowed_ids):
            raise ProtocolError("Invalid stream ID for peer.")
        stream = Stream(
            stream_id,
            self.config,
            self.local_settings.initial_window_size,
            self.remote_settings.initial_window_size,
            self._stream_changed,
        )
        stream.max_outbound_frame_size = self.max_outbound_frame_size
        self.streams[stream_id] = stream
        if outbound:
            self.highest_outbound_stream_id = stream_id
        else:
            self.highest_inbound_stream_id = stream_id
        return stream

    def _stream_changed(self, stream_id: int, before: StreamState, after: StreamState) -> None:
        self._open_count[stream_id % 2] += STREAM_OPEN[after] - STREAM_OPEN[before]
        self._reserved_count += _IS_RESERVED[after] - _IS_RESERVED[before]
        if after is StreamState.CLOSED:
            self._just_closed.append(stream_id)
            self._closed.append(stream_id)

    def _open_streams(self, remainder: int) -> int:
        if self._just_closed:
            for stream_id in self._just_closed:
                stream = self.streams.pop(stream_id)
                self._closed_streams[stream_id] = stream.closed_by
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
