"""The machines take each of h2's steps, streams are as h2's, and how they closed is known."""

from __future__ import annotations

import itertools
import unittest
from collections.abc import Callable, Iterator
from typing import Any

import h2.stream
import hpack
from h2.config import H2Configuration
from h2.connection import ConnectionInputs, ConnectionState, H2ConnectionStateMachine
from h2.exceptions import ProtocolError
from h2.stream import H2StreamStateMachine, StreamClosedBy, StreamInputs, StreamState
from h2.windows import WindowManager
from hypothesis import given, settings
from hypothesis import strategies as st

from aioh2 import machines
from aioh2.headers import Facts, Malformed
from aioh2.machines import (
    IS_RESERVED,
    ClosedStreams,
    ConnectionMachine,
    QuickStream,
    QuickStreamMachine,
    Stream,
    StreamMachine,
)

from .octets import CONNECT, HEAD, INTERIM, POST, REQUEST, RESPONSE, TRAILERS

BOUNDED = settings(derandomize=True, database=None, deadline=None, max_examples=150)
GOAWAYS = (ConnectionInputs.SEND_GOAWAY, ConnectionInputs.RECV_GOAWAY)
RESERVED = {StreamState.RESERVED_LOCAL, StreamState.RESERVED_REMOTE}
OPEN = {StreamState.OPEN, StreamState.HALF_CLOSED_LOCAL, StreamState.HALF_CLOSED_REMOTE}
#: What h2's machine of a stream knows besides its state, and what each may be.
MEMORY = {
    "client": (None, False, True),
    "headers_sent": (None, True),
    "trailers_sent": (None, True),
    "headers_received": (None, True),
    "trailers_received": (None, True),
    "stream_closed_by": (None, StreamClosedBy.RECV_RST_STREAM),
}


def nothing(*_: Any) -> None:
    """Nobody has to know."""


def shown(value: Any) -> Any:
    """Return what an event, an error or a list of them says."""
    if isinstance(value, (list, tuple)):
        return [shown(one) for one in value]
    if type(value).__module__.startswith("h2.") and hasattr(value, "__dict__"):
        return type(value).__name__, {name: shown(one) for name, one in vars(value).items()}
    return type(value).__name__, value


def outcome(call: Callable[[], Any]) -> Any:
    """Return what a call gives, or what it raises."""
    try:
        return shown(call())
    except ProtocolError as error:
        told = {name: shown(value) for name, value in vars(error).items()}
        return type(error).__name__, str(error), error.error_code, told


# --- the connection ------------------------------------------------------------------------


class TestConnectionMachine(unittest.TestCase):
    def step(self, machine: Any, state: ConnectionState, input_: ConnectionInputs) -> Any:
        machine.state = state
        return outcome(lambda: machine.process_input(input_)), machine.state

    def test_each_step_is_that_of_h2(self) -> None:
        for state, input_ in itertools.product(ConnectionState, ConnectionInputs):
            theirs = self.step(H2ConnectionStateMachine(), state, input_)
            if input_ in GOAWAYS and theirs[0] == []:
                # the one difference (RFC 9113 section 6.8)
                theirs = [], state
            self.assertEqual(self.step(ConnectionMachine(), state, input_), theirs)

    def test_goaway_is_allowed_while_it_is_open(self) -> None:
        for state in (ConnectionState.CLIENT_OPEN, ConnectionState.SERVER_OPEN):
            for input_ in GOAWAYS:
                self.assertEqual(self.step(ConnectionMachine(), state, input_), ([], state))

    def test_it_begins_where_that_of_h2_does(self) -> None:
        self.assertEqual(vars(ConnectionMachine()), vars(H2ConnectionStateMachine()))


# --- its streams ---------------------------------------------------------------------------


class TestStreamMachines(unittest.TestCase):
    def cases(self) -> Iterator[tuple[StreamState, StreamInputs, dict[str, Any]]]:
        memories = [
            dict(zip(MEMORY, values, strict=True)) for values in itertools.product(*MEMORY.values())
        ]
        return itertools.product(StreamState, StreamInputs, memories)

    def step(
        self, machine: Any, state: StreamState, input_: StreamInputs, memory: dict[str, Any]
    ) -> Any:
        """Return what a step gives, and what the machine knows after it."""
        machine.state = state
        for name, value in memory.items():
            if getattr(machine, name) != value:
                setattr(machine, name, value)
        given = outcome(lambda: machine.process_input(input_))
        return given, machine.stream_id, machine.state, [getattr(machine, n) for n in memory]

    def test_each_step_is_that_of_h2(self) -> None:
        """For every state, input and memory; and who has to know is told, once."""
        told: list[tuple[int, StreamState, StreamState]] = []
        for state, input_, memory in self.cases():
            theirs = self.step(H2StreamStateMachine(7), state, input_, memory)
            after = theirs[2]
            matters = (
                (state in OPEN) != (after in OPEN)
                or (state in RESERVED) != (after in RESERVED)
                or (after is StreamState.CLOSED and state is not after)
            )
            expected = [(7, state, after)] if matters else []
            for kind in (StreamMachine, QuickStreamMachine):
                told.clear()
                machine = kind(7, lambda *what: told.append(what))
                ours = self.step(machine, state, input_, memory)
                if ours != theirs or told != expected:
                    self.fail(
                        f"{kind.__name__}, {state!r}, {input_!r}, {memory}: "
                        f"{ours}, told {told}; of h2: {theirs}, to tell {expected}"
                    )

    def test_many_steps(self) -> None:
        for inputs in itertools.product(StreamInputs, repeat=3):
            ends = []
            for machine in (H2StreamStateMachine(1), QuickStreamMachine(1, nothing)):
                found = [outcome(lambda m=machine, i=i: m.process_input(i)) for i in inputs]
                ends.append((found, [getattr(machine, name) for name in ["state", *MEMORY]]))
            self.assertEqual(ends[0], ends[1])

    def test_what_the_machine_of_h2_knows(self) -> None:
        theirs = vars(H2StreamStateMachine(9))
        self.assertEqual(theirs.keys(), {"state", "stream_id", *MEMORY})
        for kind in (StreamMachine, QuickStreamMachine):
            made = kind(9, nothing)
            self.assertEqual({name: getattr(made, name) for name in theirs}, theirs)
        # or the quick one saves nothing
        self.assertEqual(vars(made).keys(), {"state", "stream_id", "_changed"})

    def test_what_h2_asserts_is_an_error_of_the_protocol(self) -> None:
        def refuse(machine: Any, before: StreamState) -> None:
            raise AssertionError("not so")

        for before in (StreamState.OPEN, StreamState.CLOSED):
            told: list[Any] = []
            machine = QuickStreamMachine(1, lambda *what, told=told: told.append(what))
            machine.state = before
            number = StreamInputs.SEND_DATA.value
            row, step = machines._STEPS[before], machines._STEPS[before][number]
            row[number] = (refuse, StreamState.OPEN, False)
            try:
                with self.assertRaisesRegex(ProtocolError, "not so") as caught:
                    machine.process_input(StreamInputs.SEND_DATA)
            finally:
                row[number] = step
            self.assertIs(type(caught.exception), ProtocolError)
            self.assertIs(machine.state, StreamState.CLOSED)
            closed = [] if before is StreamState.CLOSED else [(1, before, StreamState.CLOSED)]
            self.assertEqual(told, closed)

    def test_without_the_steps_of_h2(self) -> None:
        """A release that has moved them costs speed only."""
        self.addCleanup(setattr, machines, "_STEPS", machines._STEPS)
        machines._STEPS = [[None] * len(row) for row in machines._STEPS]  # type: ignore[misc]  # as such a release would have it
        made = QuickStreamMachine(1, nothing)
        (event,) = made.process_input(StreamInputs.SEND_HEADERS)
        self.assertEqual(type(event).__name__, "_RequestSent")
        self.assertIs(made.state, StreamState.OPEN)

    def test_steps_are_those_of_h2(self) -> None:
        for (state, input_), (function, after) in h2.stream._transitions.items():
            self.assertEqual(machines._STEPS[state.value][input_.value][:2], (function, after))
        count = sum(step is not None for row in machines._STEPS for step in row)
        self.assertEqual(count, len(h2.stream._transitions))

    def test_states_are_numbered_from_0(self) -> None:
        """They are the indexes of lists."""
        self.assertEqual([state.value for state in StreamState], [*range(len(StreamState))])
        self.assertEqual([state.value for state in ConnectionState], [*range(len(ConnectionState))])
        for inputs in (StreamInputs, ConnectionInputs):
            self.assertGreaterEqual(min(input_.value for input_ in inputs), 0)

    def test_every_stream_state_is_known(self) -> None:
        self.assertEqual({state for state in StreamState if IS_RESERVED[state]}, RESERVED)
        self.assertEqual({state for state in StreamState if h2.stream.STREAM_OPEN[state]}, OPEN)
        self.assertEqual(RESERVED | OPEN | {StreamState.IDLE, StreamState.CLOSED}, set(StreamState))


class TestQuickStream(unittest.TestCase):
    """Beside h2's own stream, with whatever it was made."""

    CONFIG = H2Configuration(client_side=False)

    def both(self) -> tuple[Any, Any]:
        theirs = h2.stream.H2Stream(5, self.CONFIG, 100, 200)
        return theirs, QuickStream(5, self.CONFIG, 100, 200, nothing)

    def test_attributes(self) -> None:
        theirs, ours = self.both()
        for name, expected in vars(theirs).items():
            with self.subTest(name):
                found = getattr(ours, name)
                if name == "state_machine":
                    self.assertIs(type(found), QuickStreamMachine)
                    self.assertEqual(found.stream_id, expected.stream_id)
                elif name == "_inbound_window_manager":
                    self.assertIs(type(found), WindowManager)
                    self.assertEqual(vars(found), vars(expected))
                else:
                    self.assertEqual(found, expected)
                    self.assertIs(type(found), type(expected))

    def test_all_that_h2_sets_is_known(self) -> None:
        theirs, _ = self.both()
        made = {"state_machine", "stream_id", "config", "outbound_flow_control_window"}
        self.assertEqual(
            vars(theirs).keys(), {*QuickStream.FRESH, *made, "_inbound_window_manager"}
        )
        for name, value in QuickStream.FRESH.items():
            self.assertEqual(vars(theirs)[name], value)
            self.assertEqual(vars(QuickStream)[name], value)

    def test_it_begins_with_little(self) -> None:
        _, ours = self.both()
        self.assertFalse(vars(ours).keys() & QuickStream.FRESH.keys())
        self.assertNotIn("_inbound_window_manager", vars(ours))

    def test_window_is_made_on_first_use(self) -> None:
        _, ours = self.both()
        self.assertEqual(ours.inbound_flow_control_window, 100)
        manager = ours._inbound_window_manager
        manager.window_consumed(30)
        self.assertIs(ours._inbound_window_manager, manager)
        self.assertEqual(ours.inbound_flow_control_window, 70)

    def test_window_that_settings_change_before_its_first_use(self) -> None:
        for made in self.both():
            made._inbound_flow_control_change_from_settings(50)
            self.assertEqual(made.inbound_flow_control_window, 150)
            self.assertEqual(made._inbound_window_manager.max_window_size, 150)

    def test_unknown_attribute(self) -> None:
        _, ours = self.both()
        with self.assertRaisesRegex(AttributeError, "_anything"):
            _ = ours._anything
        self.assertFalse(hasattr(ours, "__anything__"))

    def test_streams_do_not_share(self) -> None:
        _, first = self.both()
        first._authority, first.request_method = b"a.test", b"GET"
        first.max_outbound_frame_size = 3
        _, second = self.both()
        self.assertEqual(
            (second._authority, second.request_method, second.max_outbound_frame_size),
            (None, None, None),
        )

    def test_properties(self) -> None:
        for inputs in (
            [],
            [StreamInputs.RECV_HEADERS],
            [StreamInputs.RECV_HEADERS, StreamInputs.RECV_RST_STREAM],
        ):
            said = []
            for made in self.both():
                for input_ in inputs:
                    made.state_machine.process_input(input_)
                said.append((made.open, made.closed, made.closed_by))
            self.assertEqual(said[0], said[1])


class TestMessages(unittest.TestCase):
    """What goes through a stream, of either class."""

    def streams(self) -> Iterator[Any]:
        for kind in (Stream, QuickStream):
            with self.subTest(kind.__name__):
                yield kind(1, H2Configuration(), 10, 10, nothing)

    def test_constructor_of_both(self) -> None:
        for made in self.streams():
            self.assertEqual(made.stream_id, 1)
            self.assertIsInstance(made.state_machine, StreamMachine)
            self.assertEqual(
                (made.expected_length, made.received_length, made.method, made.connected),
                (None, 0, None, False),
            )

    def test_length(self) -> None:
        for made in self.streams():
            made.count(5, True)
            made.expect(Facts(content_length=7))
            made.count(1, False)
            made.count(1, True)
            with self.assertRaises(Malformed):
                made.count(1, False)

    def test_too_little(self) -> None:
        for made in self.streams():
            made.expect(Facts(content_length=2))
            made.count(1, False)
            with self.assertRaises(Malformed):
                made.count(0, True)

    def test_expected(self) -> None:
        announced = 5
        for method, status, expected in (
            (b"GET", None, 5),
            (b"GET", 200, 5),
            (b"GET", 204, 0),
            (b"GET", 304, 0),
            (b"HEAD", None, 5),
            (b"HEAD", 200, 0),
            (b"CONNECT", None, None),
            (b"CONNECT", 204, None),
            (b"CONNECT", 299, None),
            (b"CONNECT", 300, 5),
            (b"CONNECT", 304, 0),
        ):
            for made in self.streams():
                made.method = method
                made.expect(Facts(status=status, content_length=announced))
                self.assertEqual(made.expected_length, expected, (method, status))

    def sent(self, made: Any, fields: Any, end: bool = False) -> Any:
        fields = tuple(hpack.HeaderTuple(*field) for field in fields)
        block = made.encode_fields(fields, hpack.Encoder(), end)
        return hpack.Decoder().decode(block, raw=True)

    def test_request_goes_out(self) -> None:
        for made in self.streams():
            self.assertEqual(self.sent(made, POST), POST)
            self.assertIs(made.state_machine.state, StreamState.OPEN)
            self.assertEqual((made.method, made.request_method), (b"POST", b"POST"))
            self.assertEqual(made._authority, b"a.test")
            self.sent(made, TRAILERS, True)
            self.assertIs(made.state_machine.state, StreamState.HALF_CLOSED_LOCAL)
            self.assertEqual((made.method, made._authority), (b"POST", b"a.test"))

    def test_request_ends(self) -> None:
        for made in self.streams():
            self.sent(made, HEAD, True)
            self.assertIs(made.state_machine.state, StreamState.HALF_CLOSED_LOCAL)
            self.assertEqual(made.method, b"HEAD")

    def test_no_pseudo_headers(self) -> None:
        for fields in ([], TRAILERS):
            for made in self.streams():
                self.sent(made, fields)
                self.assertEqual((made.method, made._authority), (None, None))

    def test_trailers_that_do_not_end(self) -> None:
        for made in self.streams():
            self.sent(made, POST)
            with self.assertRaisesRegex(ProtocolError, "Trailers must have END_STREAM"):
                self.sent(made, TRAILERS)

    def test_response_goes_out(self) -> None:
        for made in self.streams():
            made.take_headers(REQUEST, True)
            made.method = b"GET"
            self.assertEqual(self.sent(made, INTERIM), INTERIM)
            self.assertIsNone(made.state_machine.headers_sent)
            with self.assertRaisesRegex(ProtocolError, "informational"):
                self.sent(made, INTERIM, True)
            self.assertEqual(self.sent(made, RESPONSE, True), RESPONSE)
            self.assertTrue(made.closed)
            self.assertEqual(made.method, b"GET")

    def test_headers_come_in(self) -> None:
        for made in self.streams():
            (event,) = made.take_headers(list(POST), False)
            self.assertEqual((type(event).__name__, event.stream_id), ("RequestReceived", 1))
            self.assertEqual(event.headers, list(POST))
            self.assertIsNone(event.stream_ended)
            trailers, end = made.take_headers(list(TRAILERS), True)
            self.assertEqual(type(trailers).__name__, "TrailersReceived")
            self.assertIs(trailers.stream_ended, end)
            self.assertEqual(type(end).__name__, "StreamEnded")

    def test_responses_come_in(self) -> None:
        for made in self.streams():
            self.sent(made, CONNECT)
            (event,) = made.take_headers(list(INTERIM), False, informational=True)
            self.assertEqual(type(event).__name__, "InformationalResponseReceived")
            (event,) = made.take_headers(list(RESPONSE), False)
            self.assertEqual(type(event).__name__, "ResponseReceived")

    def test_content_comes_in(self) -> None:
        for made in self.streams():
            made.take_headers(list(POST), False)
            (event,) = made.take_data(b"abc", 5, False)
            self.assertEqual((event.data, event.flow_controlled_length), (b"abc", 5))
            self.assertIsNone(event.stream_ended)
            event, end = made.take_data(b"", 0, True)
            self.assertIs(event.stream_ended, end)
            with self.assertRaises(ProtocolError):
                made.take_data(b"late", 4, False)


# --- how they closed -----------------------------------------------------------------------


class Few(ClosedStreams):
    """It remembers few enough to see it forget."""

    KEPT = 8  # type: ignore[misc]  # the same with less memory


#: Ids close to each other, on both sides, and far away.
IDS = st.one_of(
    st.integers(1, 40),
    st.integers(1, 150),
    st.integers(2**20, 2**20 + 40),
    st.integers(2**31 - 40, 2**31 - 1),
)
REASONS = st.sampled_from([None, *StreamClosedBy])


class TestClosedStreams(unittest.TestCase):
    def check(self, made: ClosedStreams, model: dict[int, Any], probes: set[int]) -> None:
        """It knows nothing wrong, and at least the last of either side."""
        for stream_id in probes | model.keys():
            if stream_id in made:
                self.assertEqual(made[stream_id], model[stream_id])
                continue
            with self.assertRaises(KeyError) as caught:
                _ = made[stream_id]
            self.assertEqual(caught.exception.args, (stream_id,))
            if stream_id in model:
                newest = max(one for one in model if one % 2 == stream_id % 2)
                self.assertGreaterEqual(
                    (newest - stream_id) // 2,
                    made.KEPT,
                    f"{stream_id} is forgotten, with {newest} the newest",
                )
        for codes in made._codes:
            self.assertLessEqual(len(codes), 2 * made.KEPT)

    @BOUNDED
    @given(st.lists(st.tuples(IDS, REASONS), max_size=60), st.sets(IDS))
    def test_beside_a_dict(self, closed: list[tuple[int, Any]], probes: set[int]) -> None:
        made, model = Few(), dict[int, Any]()
        for stream_id, reason in closed:
            made[stream_id] = model[stream_id] = reason
            self.check(made, model, probes)

    @BOUNDED
    @given(
        st.lists(st.tuples(st.integers(0, 9), st.integers(1, 3), REASONS), min_size=20, max_size=90)
    )
    def test_streams_that_close_about_in_order(self, steps: list[tuple[int, int, Any]]) -> None:
        made, model, at = Few(), dict[int, Any](), 0
        for back, forth, reason in steps:
            at += forth
            stream_id = max(1, at - back)
            made[stream_id] = model[stream_id] = reason
            self.check(made, model, {at, at + 1, at + 2})

    def test_reasons(self) -> None:
        made = ClosedStreams()
        for stream_id, reason in enumerate([None, *StreamClosedBy], 1):
            made[stream_id] = reason
            self.assertIs(made[stream_id], reason)
            self.assertIn(stream_id, made)
        made[1] = StreamClosedBy.RECV_RST_STREAM
        self.assertIs(made[1], StreamClosedBy.RECV_RST_STREAM)

    def test_reasons_are_numbered_from_0(self) -> None:
        self.assertEqual([one.value for one in StreamClosedBy], [*range(len(StreamClosedBy))])

    def test_unknown(self) -> None:
        made = ClosedStreams()
        made[9] = None
        for stream_id in (0, 1, 2, 7, 8, 10, 11, 2**31 - 1):
            self.assertNotIn(stream_id, made)
            with self.assertRaises(KeyError):
                _ = made[stream_id]

    def test_sides_are_apart(self) -> None:
        made = Few()
        made[2], made[3] = None, StreamClosedBy.SEND_END_STREAM
        for stream_id in range(5, 2001, 2):
            made[stream_id] = None
        self.assertNotIn(3, made)
        self.assertIsNone(made[2])
        self.assertNotIn(4, made)

    def test_memory(self) -> None:
        """A byte for each stream, however many there were."""
        made = ClosedStreams()
        for stream_id in range(1, 2 * 200_000, 2):
            made[stream_id] = StreamClosedBy.SEND_END_STREAM
        self.assertLess(len(made._codes[1]), 2 * made.KEPT)
        self.assertIn(399_999, made)
        self.assertIn(399_999 - 2 * (made.KEPT - 1), made)
        self.assertNotIn(1, made)

    def test_an_old_one_is_not_remembered_again(self) -> None:
        made = Few()
        for stream_id in range(1, 201, 2):
            made[stream_id] = None
        made[1] = None
        self.assertNotIn(1, made)
        self.assertIn(199, made)

    def test_huge_jump(self) -> None:
        """It costs no more memory than any other, and forgets what is far behind."""
        made = ClosedStreams()
        made[1] = None
        made[2**31 - 1] = StreamClosedBy.SEND_RST_STREAM
        self.assertNotIn(1, made)
        self.assertIs(made[2**31 - 1], StreamClosedBy.SEND_RST_STREAM)
        self.assertLessEqual(len(made._codes[1]), 2 * made.KEPT)

    def test_huge_jump_of_two_that_close_the_later_first(self) -> None:
        """A client may begin with any id, and its streams end in any order."""
        made = ClosedStreams()
        made[200_003] = StreamClosedBy.SEND_END_STREAM
        made[200_001] = StreamClosedBy.SEND_RST_STREAM
        self.assertIn(200_001, made)
        self.assertIs(made[200_001], StreamClosedBy.SEND_RST_STREAM)
        self.assertIs(made[200_003], StreamClosedBy.SEND_END_STREAM)


if __name__ == "__main__":
    unittest.main()
