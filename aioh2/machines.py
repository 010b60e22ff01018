"""The state of a connection and of its streams: h2's machines and streams, made cheaper.

What differs from h2: a GOAWAY does not end the connection (RFC 9113 section 6.8), streams tell
when they open and close, so that none are counted, and know what section 8.1.1 asks of their
message. The steps are h2's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final, NoReturn, TypeAlias

import h2.stream
from h2.config import H2Configuration
from h2.connection import ConnectionInputs, ConnectionState, H2ConnectionStateMachine
from h2.events import Event
from h2.exceptions import ProtocolError
from h2.stream import (
    STREAM_OPEN,
    H2StreamStateMachine,
    StreamClosedBy,
    StreamInputs,
    StreamState,
)
from h2.stream import H2Stream as BaseStream
from h2.windows import WindowManager

from .headers import Facts, Fields, Malformed

__all__ = ["IS_RESERVED", "ClosedStreams", "ConnectionMachine", "QuickStream", "Stream"]


def _table(transitions: dict[Any, Any], states: Any, inputs: Any) -> list[list[Any]]:
    """Turn (state, input) -> step into a table by their numbers: an Enum is slow to hash."""
    size = max(input_.value for input_ in inputs) + 1
    table: list[list[Any]] = [[None] * size for _ in states]
    for (state, input_), step in transitions.items():
        table[state.value][input_.value] = step
    return table


# --- the connection ------------------------------------------------------------------------


class ConnectionMachine(H2ConnectionStateMachine):
    """h2's, except that a GOAWAY does not close the connection (RFC 9113 section 6.8)."""

    # The state after each step that h2 allows, by the numbers of state and input.
    _after: ClassVar[list[list[ConnectionState | None]]]

    def process_input(self, input_: ConnectionInputs) -> list[Event]:
        after = self._after[self.state._value_][input_._value_]
        if after is None:
            # h2's own says what is wrong
            return super().process_input(input_)
        self.state = after
        return []


def _state_after(before: ConnectionState, input_: ConnectionInputs) -> ConnectionState | None:
    machine = H2ConnectionStateMachine()
    machine.state = before
    try:
        machine.process_input(input_)
    except ProtocolError:
        return None
    goaway = input_ in (ConnectionInputs.SEND_GOAWAY, ConnectionInputs.RECV_GOAWAY)
    return before if goaway else machine.state


ConnectionMachine._after = _table(
    {
        (before, input_): _state_after(before, input_)
        for before in ConnectionState
        for input_ in ConnectionInputs
    },
    ConnectionState,
    ConnectionInputs,
)


# --- its streams ---------------------------------------------------------------------------

#: Whether a stream in a state was promised and has not begun (RFC 9113 section 5.1), by state.
IS_RESERVED: Final = [
    state in (StreamState.RESERVED_LOCAL, StreamState.RESERVED_REMOTE) for state in StreamState
]
#: Called with the id of a stream and its states before and after, where others have to know.
Changed: TypeAlias = Callable[[int, StreamState, StreamState], None]


def _matters(before: StreamState, after: StreamState) -> bool:
    """Whether others have to know of a step: a stream opens or closes, or was promised."""
    return (
        STREAM_OPEN[before] != STREAM_OPEN[after]
        or IS_RESERVED[before] != IS_RESERVED[after]
        or (after is StreamState.CLOSED and before is not after)
    )


class StreamMachine(H2StreamStateMachine):
    """h2's, which tells when a stream opens or closes."""

    def __init__(self, stream_id: int, changed: Changed) -> None:
        super().__init__(stream_id)
        self._changed = changed

    def process_input(self, input_: StreamInputs) -> list[Event]:
        before = self.state
        try:
            return super().process_input(input_)
        finally:
            if _matters(before, self.state):
                self._changed(self.stream_id, before, self.state)


# Relies on h2.stream._transitions: (state, input) -> (function, new state).
_STEPS: Final = _table(
    {
        (before, input_): (function, after, _matters(before, after))
        for (before, input_), (function, after) in getattr(h2.stream, "_transitions", {}).items()
    },
    StreamState,
    StreamInputs,
)


class QuickStreamMachine(StreamMachine):
    """The same, which looks its steps up by number, and begins with nothing of its own."""

    # What h2's sets on each new machine: the class has it, until it changes.
    client: bool | None = None
    headers_sent: bool | None = None
    trailers_sent: bool | None = None
    headers_received: bool | None = None
    trailers_received: bool | None = None
    stream_closed_by: StreamClosedBy | None = None

    def __init__(self, stream_id: int, changed: Changed) -> None:
        self.state = StreamState.IDLE
        self.stream_id = stream_id
        self._changed = changed

    def process_input(self, input_: StreamInputs) -> list[Event]:
        before = self.state
        step = _STEPS[before][input_._value_]
        if step is None:
            # h2's own says what is wrong
            return super().process_input(input_)
        function, self.state, matters = step
        events: list[Event] = []
        if function is not None:
            try:
                events = function(self, before)
            except (ProtocolError, AssertionError) as error:
                self._break(before, error)
        if matters:
            self._changed(self.stream_id, before, self.state)
        return events

    def _break(self, before: StreamState, error: Exception) -> NoReturn:
        """h2's step has refused what it was asked for: the stream is closed."""
        self.state = StreamState.CLOSED
        if before is not StreamState.CLOSED:
            self._changed(self.stream_id, before, StreamState.CLOSED)
        if isinstance(error, ProtocolError):
            raise error
        raise ProtocolError(str(error)) from error


class Stream(BaseStream):
    """h2's stream, with what RFC 9113 section 8.1.1 wants to be known about its message."""

    # The content-length that the peer announced, None where it did not or it does not count.
    expected_length: int | None = None
    # Bytes of content that have come.
    received_length = 0
    # The method of the request, on both sides; a response overwrites h2's request_method.
    method: bytes | None = None
    # The `priority` field of the peer's request (RFC 9218 section 5).
    priority: bytes | None = None
    # Whether this is a tunnel: only DATA may follow (RFC 9113 section 8.5).
    connected = False

    def __init__(
        self,
        stream_id: int,
        config: H2Configuration,
        inbound_window_size: int,
        outbound_window_size: int,
        changed: Changed,
    ) -> None:
        super().__init__(stream_id, config, inbound_window_size, outbound_window_size)
        self.state_machine = StreamMachine(stream_id, changed)

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

    def encode_fields(self, fields: Fields, encoder: Any, end_stream: bool) -> bytes:
        """Take a header section that goes out through the machine; return its block."""
        machine = self.state_machine
        send = StreamInputs.SEND_HEADERS
        if not machine.client and (_pseudo(fields, b":status") or b"").startswith(b"1"):
            if end_stream:
                raise ProtocolError("Cannot set END_STREAM on informational responses.")
            send = StreamInputs.SEND_INFORMATIONAL_HEADERS
        machine.process_input(send)
        block: bytes = encoder.encode(fields)
        if end_stream:
            machine.process_input(StreamInputs.SEND_END_STREAM)
        elif machine.trailers_sent:
            raise ProtocolError("Trailers must have END_STREAM set.")
        if not machine.client:
            self.request_method = None
        elif self.method is None:
            # relies on _authority: that of the request, which pushes must have, too
            self._authority = _pseudo(fields, b":authority")
            self.request_method = self.method = _pseudo(fields, b":method")
        return block

    def take_headers(
        self, shown: list[Any], end_stream: bool, informational: bool = False
    ) -> list[Event]:
        """Take a header section through the machine; return h2's events, which show it."""
        machine = self.state_machine
        events: list[Any] = machine.process_input(
            StreamInputs.RECV_INFORMATIONAL_HEADERS if informational else StreamInputs.RECV_HEADERS
        )
        events[0].headers = shown
        if end_stream:
            ended = machine.process_input(StreamInputs.RECV_END_STREAM)
            events[0].stream_ended = ended[0]
            events += ended
        return events

    def take_data(self, data: bytes, length: int, end_stream: bool) -> list[Event]:
        """Take content, ``length`` bytes with its padding, through the machine."""
        machine = self.state_machine
        events: list[Any] = machine.process_input(StreamInputs.RECV_DATA)
        event = events[0]
        event.data = data
        event.flow_controlled_length = length
        if end_stream:
            ended = machine.process_input(StreamInputs.RECV_END_STREAM)
            event.stream_ended = ended[0]
            events += ended
        return events


def _pseudo(fields: Fields, wanted: bytes) -> bytes | None:
    """Return the value of a pseudo-header; they go before all other fields."""
    for name, value in fields:
        if name == wanted:
            return value
        if name[:1] != b":":
            return None
    return None


class QuickStream(Stream):
    """The same, which begins with as little as it can.

    Relies on what h2's ``__init__`` sets, which :data:`FRESH` names, and on the constructor of
    ``WindowManager``.
    """

    #: What h2's sets on each new stream: the class has it, until it changes. Of these,
    #: ``_expected_content_length`` and ``_actual_content_length`` are of no use here.
    FRESH: ClassVar[dict[str, object]] = {
        "max_outbound_frame_size": None,
        "request_method": None,
        "_expected_content_length": None,
        "_actual_content_length": 0,
        "_authority": None,
    }
    max_outbound_frame_size: int | None = None
    request_method: bytes | None = None
    _expected_content_length: int | None = None
    _actual_content_length = 0
    _authority: bytes | None = None

    def __init__(
        self,
        stream_id: int,
        config: H2Configuration,
        inbound_window_size: int,
        outbound_window_size: int,
        changed: Changed,
    ) -> None:
        self.state_machine = QuickStreamMachine(stream_id, changed)
        self.stream_id = stream_id
        self.outbound_flow_control_window = outbound_window_size
        self.config = config
        # What the window of the peer is until its first DATA; most requests have none.
        self._inbound_window_size = inbound_window_size

    def __getattr__(self, name: str) -> Any:
        if name != "_inbound_window_manager":
            raise AttributeError(name)
        self._inbound_window_manager = manager = WindowManager(self._inbound_window_size)
        return manager


class ClosedStreams:
    """How streams were closed, by id: a byte for each of the last :attr:`KEPT` of either side.

    It stands in for the dict that h2 keeps, which takes more than a hundred.
    """

    #: Streams of either side that are known, as many as h2's own record holds.
    KEPT: Final = 2**16
    _REASONS: Final[list[StreamClosedBy | None]] = [None, *StreamClosedBy]

    def __init__(self) -> None:
        # A byte for each stream, by id modulo 2: 0 for what is unknown, 1 for no reason, and
        # from 2 on the reasons.
        self._codes = (bytearray(), bytearray())
        # The stream of the first of them, by the half of its id.
        self._first = [0, 0]

    def __setitem__(self, stream_id: int, reason: StreamClosedBy | None) -> None:
        side = stream_id & 1
        codes = self._codes[side]
        at = (stream_id >> 1) - self._first[side]
        if at >= len(codes) + self.KEPT or not codes:
            # far from all that is known: begin anew, with it
            codes.clear()
            self._first[side], at = stream_id >> 1, 0
        if at < 0:
            if len(codes) - at > self.KEPT:
                # too old to be remembered
                return
            codes[:0] = bytes(-at)
            self._first[side], at = stream_id >> 1, 0
        elif at >= len(codes):
            codes.extend(bytes(at + 1 - len(codes)))
        codes[at] = 1 if reason is None else 2 + reason._value_
        if len(codes) >= 2 * self.KEPT:
            # rarely, so that it costs nothing to speak of
            surplus = len(codes) - self.KEPT
            del codes[:surplus]
            self._first[side] += surplus

    def _code(self, stream_id: int) -> int:
        side = stream_id & 1
        at = (stream_id >> 1) - self._first[side]
        return self._codes[side][at] if 0 <= at < len(self._codes[side]) else 0

    def __contains__(self, stream_id: object) -> bool:
        return isinstance(stream_id, int) and self._code(stream_id) != 0

    def __getitem__(self, stream_id: int) -> StreamClosedBy | None:
        code = self._code(stream_id)
        if not code:
            raise KeyError(stream_id)
        return self._REASONS[code - 1]
