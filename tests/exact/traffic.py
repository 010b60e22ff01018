"""Seeded sessions of one endpoint: what it receives, and what its user calls.

``walk`` lets two plain h2 connections talk, legally, and notes one side's part. ``mutate`` makes
an illegal session of it. Nothing here knows aioh2.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import h2.events as events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from hpack import HeaderTuple, NeverIndexedHeaderTuple

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = range(5)
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(5, 10)
ALTSVC: Final = 0x0A
END_STREAM = ACK = 0x01
END_HEADERS: Final = 0x04
PADDED: Final = 0x08
PRIORITIZED: Final = 0x20
FRAME_HEADER: Final = 9


class Frame(NamedTuple):
    """A frame as it is on the wire; ``payload`` is None where it has not come completely."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes | None
    raw: bytes


class Call(NamedTuple):
    """A call of h2's API."""

    name: str
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = MappingProxyType({})


#: Received bytes, or a call.
Step = bytes | Call


class Session(NamedTuple):
    """One endpoint's part of a connection; ``flags``: of its H2Configuration."""

    client: bool
    flags: dict[str, Any]
    steps: list[Step]


class Cutter:
    """Cuts what an endpoint receives into frames, as it comes."""

    def __init__(self, *, client: bool) -> None:
        # How much of a server's preface is to come.
        self._preface = 0 if client else len(PREFACE)
        # What has come of the next frame.
        self._part = b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Return the frames that these bytes end, then the part of one that they begin.

        The preface, and a part of a frame, have no payload; ``raw`` are only the new bytes.
        """
        start, data = data[: self._preface], data[self._preface :]
        if start:
            self._preface -= len(start)
            yield Frame(-1, 0, 0, None, start)
        while data:
            whole = self._part + data
            end = FRAME_HEADER + int.from_bytes(whole[:3])
            header = whole[:FRAME_HEADER].ljust(FRAME_HEADER, b"\0")
            kind, flags, stream_id = header[3], header[4], int.from_bytes(header[5:]) & 0x7FFF_FFFF
            if len(whole) < max(end, FRAME_HEADER):
                self._part = whole
                yield Frame(kind, flags, stream_id, None, data)
                return
            new, data = data[: end - len(self._part)], whole[end:]
            self._part = b""
            yield Frame(kind, flags, stream_id, whole[FRAME_HEADER:end], new)


def cut(data: bytes, *, client: bool = True) -> Iterator[Frame]:
    """Cut bytes into frames."""
    return Cutter(client=client).feed(data)


def pack(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    header = len(payload).to_bytes(3) + bytes([kind & 0xFF, flags & 0xFF])
    return header + (stream_id & 0xFFFF_FFFF).to_bytes(4) + payload


# --- header lists --------------------------------------------------------------------------

_NAMES: Final = (b"accept", b"x-a", b"x-b", b"user-agent", b"etag", b"cookie", b"authorization")
_VALUES: Final = (b"", b"1", b"text/html, */*", b"a=b; c=d", b"\xc3\xa9", b"v" * 70)


# Lists that come again and again, for what remembers them; how they are indexed changes.
_COMMON: Final = (
    ((b"accept", b"*/*"), (b"x-a", b"1")),
    ((b"cookie", b"a=b"), (b"x-b", b"2"), (b"etag", b"3")),
    ((b"authorization", b"secret"),),
)


def _fields(r: random.Random) -> list[tuple[bytes, bytes]]:
    if r.random() < 0.5:
        make = r.choice((HeaderTuple, HeaderTuple, NeverIndexedHeaderTuple))
        return [make(name, value) for name, value in r.choice(_COMMON)]
    fields: list[tuple[bytes, bytes]] = []
    for _ in range(r.choice((0, 0, 1, 2, 5))):
        make = r.choice((HeaderTuple, HeaderTuple, NeverIndexedHeaderTuple))
        value = r.choice(_VALUES) if r.random() < 0.8 else b"%x" % r.getrandbits(64)
        fields.append(make(r.choice(_NAMES), value))
    return fields


def _request(r: random.Random, size: int | None = None) -> list[tuple[bytes, bytes]]:
    if r.random() < 0.04:
        return [(b":method", b"CONNECT"), (b":authority", b"a.test:443"), *_fields(r)]
    method = b"POST" if size is not None else r.choice((b"GET", b"GET", b"HEAD", b"PUT"))
    fields = [
        HeaderTuple(b":method", method),
        HeaderTuple(b":scheme", b"https"),
        HeaderTuple(b":authority", b"a.test"),
        HeaderTuple(b":path", r.choice((b"/", b"/index.html", b"/%d" % r.randrange(50)))),
        *_fields(r),
    ]
    if size is not None and r.random() < 0.5:
        fields.append(HeaderTuple(b"content-length", b"%d" % size))
    return fields


def _response(r: random.Random, status: bytes) -> list[tuple[bytes, bytes]]:
    return [HeaderTuple(b":status", status), *_fields(r)]


# --- legal traffic -------------------------------------------------------------------------


class _Walk:
    """Two connections of plain h2; the user of each is a dice."""

    def __init__(self, r: random.Random, client: bool, flags: dict[str, Any]) -> None:
        self.r = r
        self.client = client
        self.subject = H2Connection(H2Configuration(client_side=client, **flags))
        self.peer = H2Connection(H2Configuration(client_side=not client))
        self.steps: list[Step] = []
        # What each side's streams may still send: ids whose headers are out, by side.
        self.sending: dict[bool, dict[int, int]] = {True: {}, False: {}}
        # Requests to be answered by the server, and those answered by 1xx only.
        self.unanswered: list[int] = []
        # The method of each request.
        self.methods: dict[int, bytes] = {}

    def side(self, client: bool) -> H2Connection:
        return self.subject if client == self.client else self.peer

    def call(self, client: bool, name: str, *arguments: Any, **options: Any) -> bool:
        """Make a call on one side; what h2 refuses is not legal, and is left out."""
        side = self.side(client)
        try:
            getattr(side, name)(*arguments, **options)
        except (ProtocolError, ValueError, KeyError):
            if side is self.subject:
                # refused or not, it may have changed something
                self.steps.append(Call(name, arguments, options))
            return False
        if side is self.subject:
            self.steps.append(Call(name, arguments, options))
        return True

    def exchange(self) -> None:
        """Let each side read what the other wrote."""
        while True:
            sent, received = self.subject.data_to_send(), self.peer.data_to_send()
            if not sent and not received:
                return
            self.took(not self.client, self.peer.receive_data(sent))
            if received:
                received = self.dressed(received)
                self.steps.append(received)
                self.took(self.client, self.subject.receive_data(received))

    def took(self, client: bool, found: list[events.Event]) -> None:
        for event in found:
            if isinstance(event, events.RequestReceived):
                self.unanswered.append(event.stream_id)
            elif isinstance(event, events.StreamReset):
                for sending in self.sending.values():
                    sending.pop(event.stream_id, None)
                self.unanswered = [i for i in self.unanswered if i != event.stream_id]
            elif isinstance(event, events.DataReceived) and self.r.random() < 0.8:
                size = event.flow_controlled_length
                self.call(client, "acknowledge_received_data", size, event.stream_id)

    def dressed(self, data: bytes) -> bytes:
        """Pad, split and mix what the peer's h2 writes, in ways that change no meaning."""
        r, out = self.r, []
        # the preface is the client's
        start = PREFACE if data.startswith(PREFACE) else b""
        block = False
        for frame in cut(data[len(start) :], client=True):
            kind, flags, stream_id, payload, _ = frame
            assert payload is not None
            if not block and frame.kind != SETTINGS and r.random() < 0.1:
                out.append(self.noise())
            if kind == HEADERS and r.random() < 0.15 and not flags & PRIORITIZED:
                payload = r.choice((0, 0, 99)).to_bytes(4) + bytes([r.randrange(256)]) + payload
                flags |= PRIORITIZED
            tail = b""
            least = 5 if kind == HEADERS else 4
            if kind in (HEADERS, PUSH_PROMISE) and flags & END_HEADERS and r.random() < 0.2:
                at = r.randint(least, max(least, len(payload)))
                payload, rest = payload[:at], payload[at:]
                flags &= ~END_HEADERS
                middle = r.randint(0, len(rest))
                tail = pack(CONTINUATION, 0, stream_id, rest[:middle])
                tail += pack(CONTINUATION, END_HEADERS, stream_id, rest[middle:])
            if kind in (HEADERS, PUSH_PROMISE) and r.random() < 0.1:
                padding = r.choice((0, 1, 30))
                # hyperframe refuses padding that is as long as the rest
                if padding < len(payload) - least:
                    payload = bytes([padding]) + payload + bytes(padding)
                    flags |= PADDED
            out.append(pack(kind, flags, stream_id, payload) + tail)
            block = kind in (HEADERS, PUSH_PROMISE, CONTINUATION) and not (
                flags & END_HEADERS or tail
            )
        return start + b"".join(out)

    def noise(self) -> bytes:
        r = self.r
        stream_id = r.choice((0, 1, 2, 3, 7, 1001))
        choice = r.randrange(3)
        if choice == 0:
            return pack(0xBE, r.randrange(256), stream_id, r.randbytes(r.randrange(9)))
        if choice == 1:
            return pack(PRIORITY, 0, 99 + 2 * r.randrange(3), r.choice((0, 1)).to_bytes(4) + b"\7")
        return pack(PING, r.choice((0, ACK)), 0, r.randbytes(8))

    # --- actions ---------------------------------------------------------------------------

    def begin(self) -> None:
        for client in (True, False):
            self.call(client, "initiate_connection")
        self.exchange()

    def request(self) -> None:
        r, side = self.r, self.side(True)
        size = r.choice((None, None, 0, 10, 3000))
        stream_id = side.get_next_available_stream_id()
        fields = _request(r, size)
        self.methods[stream_id] = fields[0][1]
        options: dict[str, Any] = {"end_stream": size is None and fields[0][1] != b"CONNECT"}
        if r.random() < 0.1:
            options |= {"priority_weight": r.randint(1, 256), "priority_exclusive": True}
        sent = self.call(True, "send_headers", stream_id, fields, **options)
        if sent and not options["end_stream"]:
            self.sending[True][stream_id] = size or 0

    def respond(self) -> None:
        r = self.r
        if not self.unanswered:
            return
        stream_id = r.choice(self.unanswered)
        if r.random() < 0.15:
            self.call(False, "send_headers", stream_id, _response(r, r.choice((b"100", b"103"))))
            return
        if stream_id % 2 and r.random() < 0.15 and self.methods[stream_id] != b"CONNECT":
            self.push(stream_id)
            return
        self.unanswered.remove(stream_id)
        status = r.choice((b"200", b"200", b"204", b"304", b"404", b"500"))
        fields = _response(r, status)
        empty = status in (b"204", b"304") or self.methods.get(stream_id) == b"HEAD"
        end = empty or r.random() < 0.4
        if self.call(False, "send_headers", stream_id, fields, end_stream=end) and not end:
            self.sending[False][stream_id] = r.choice((0, 5, 20_000))

    def push(self, stream_id: int) -> None:
        promised = self.side(False).get_next_available_stream_id()
        fields = _request(self.r)
        if fields[0][1] not in (b"GET", b"HEAD"):
            return
        if self.call(False, "push_stream", stream_id, promised, fields):
            self.unanswered.append(promised)
            self.methods[promised] = fields[0][1]

    def send(self) -> None:
        r = self.r
        client = r.random() < 0.5
        sending = self.sending[client]
        if not sending:
            return
        stream_id = r.choice(list(sending))
        left = sending[stream_id]
        try:
            window = self.side(client).local_flow_control_window(stream_id)
        except ProtocolError:
            del sending[stream_id]
            return
        limit = min(left, window, self.side(client).max_outbound_frame_size)
        size = r.choice((limit, max(0, min(limit, r.randrange(3000)))))
        last = size == left
        options: dict[str, Any] = {"end_stream": last and r.random() < 0.6}
        if r.random() < 0.1 and size + 31 < window and size + 31 < 16_384:
            options["pad_length"] = r.choice((0, 1, 30))
        sending[stream_id] = left - size
        body = r.randbytes(8).ljust(size, b"-")[: max(size, 0)]
        sent = self.call(client, "send_data", stream_id, body, **options)
        if not sent or options["end_stream"]:
            del sending[stream_id]
        elif last:
            del sending[stream_id]
            if r.random() < 0.5 and self.methods.get(stream_id) != b"CONNECT":
                self.call(client, "send_headers", stream_id, [*_fields(r), (b"z", b"1")], True)
            else:
                self.call(client, "end_stream", stream_id)

    def reset(self) -> None:
        client = self.r.random() < 0.5
        ids = [stream.stream_id for stream in self.side(client).streams.values() if stream.open]
        if ids:
            stream_id = self.r.choice(ids)
            self.call(client, "reset_stream", stream_id, self.r.choice((0, 2, 5, 7, 8, 99)))
            for sending in self.sending.values():
                sending.pop(stream_id, None)
            self.unanswered = [i for i in self.unanswered if i != stream_id]

    def settings(self) -> None:
        r = self.r
        client = r.random() < 0.5
        values: dict[SettingCodes | int, int] = {
            SettingCodes.HEADER_TABLE_SIZE: r.choice((0, 100, 4096, 8192)),
            SettingCodes.INITIAL_WINDOW_SIZE: r.choice((0, 1000, 65_535, 200_000)),
            SettingCodes.MAX_FRAME_SIZE: r.choice((16_384, 20_000)),
            SettingCodes.MAX_CONCURRENT_STREAMS: r.choice((20, 100)),
            SettingCodes.MAX_HEADER_LIST_SIZE: r.choice((4_000, 65_536)),
        }
        chosen = {key: values[key] for key in r.sample(list(values), r.randint(0, 2))}
        # h2 takes the first ACK for all SETTINGS that are under way
        self.exchange()
        self.call(client, "update_settings", chosen)
        self.exchange()

    def others(self) -> None:
        r = self.r
        client = r.random() < 0.5
        ids = list(self.side(client).streams)
        action = r.randrange(4)
        if action == 0:
            self.call(client, "ping", r.randbytes(8))
        elif action == 1:
            stream_id = r.choice([None, *ids])
            self.call(client, "increment_flow_control_window", r.randint(1, 5000), stream_id)
        elif action == 2 and client:
            depends = r.choice((0, 5, 77))
            self.call(True, "prioritize", r.choice((1, 3, 99)), r.randint(1, 256), depends, False)
        elif action == 3 and not client:
            where: dict[str, Any] = {"origin": b"b.test"} if r.random() < 0.5 or not ids else {}
            if not where:
                where = {"stream_id": r.choice(ids)}
            self.call(False, "advertise_alternative_service", b'h2=":1"', **where)

    def run(self, length: int) -> None:
        r = self.r
        actions = [self.request, self.respond, self.send, self.reset, self.settings, self.others]
        self.begin()
        for _ in range(length):
            (action,) = r.choices(actions, (6, 7, 9, 1, 1, 2))
            action()
            if r.random() < 0.6:
                self.exchange()
        self.exchange()
        if r.random() < 0.1:
            self.call(
                r.random() < 0.5, "close_connection", r.choice((0, 11)), r.choice((None, b"x"))
            )
            data = self.peer.data_to_send()
            if data:
                self.steps.append(data)


def flags(r: random.Random) -> dict[str, Any]:
    """Return flags for H2Configuration: all as they are with h2, as with aioh2, or by chance."""
    choice = r.random()
    if choice < 0.3:
        return {}
    if choice < 0.7:
        return {"validate_outbound_headers": False, "normalize_outbound_headers": False}
    names = ["validate_outbound_headers", "normalize_outbound_headers", "split_outbound_cookies"]
    names += ["validate_inbound_headers", "normalize_inbound_headers"]
    chosen: dict[str, Any] = {name: r.random() < 0.5 for name in names}
    chosen["header_encoding"] = r.choice((None, "utf-8", False))
    return chosen


def walk(r: random.Random, length: int = 60) -> Session:
    """Return a legal session, of a client or a server."""
    client, chosen = r.random() < 0.5, flags(r)
    made = _Walk(r, client, chosen)
    # h2 errs now and then, as about DATA that cross a smaller window: the session ends there
    with contextlib.suppress(ProtocolError):
        made.run(length)
    return Session(client, chosen, made.steps)


# --- mutations -----------------------------------------------------------------------------


def _changed(r: random.Random, frame: Frame) -> bytes:
    kind, flags_, stream_id, payload, raw = frame
    if payload is None:
        return raw
    choice = r.randrange(10)
    if choice <= 1 and payload:
        at = r.randrange(len(payload))
        payload = payload[:at] + bytes([payload[at] ^ (1 << r.randrange(8))]) + payload[at + 1 :]
    elif choice == 2:
        flags_ ^= 1 << r.randrange(8)
    elif choice == 3:
        stream_id = r.choice((0, 1, 2, 3, 4, 5, stream_id + 1, stream_id + 2, 2**31 - 1))
    elif choice == 4:
        kind = r.randrange(11)
    elif choice == 5:
        payload = payload[: r.randint(0, len(payload))]
    elif choice == 6:
        payload += r.randbytes(r.randint(1, 6))
    elif choice == 7:
        header = bytearray(raw)
        header[2] = r.randrange(256)
        return bytes(header)
    elif choice == 8:
        header = bytearray(raw)
        header[r.randrange(len(header))] ^= 1 << r.randrange(8)
        return bytes(header)
    else:
        return raw[: r.randint(0, len(raw))]
    return pack(kind, flags_, stream_id, payload)


def _odd_call(r: random.Random) -> Call:
    stream_id = r.choice((0, 1, 2, 3, 4, 5, 7, 9))
    end = r.random() < 0.5
    return r.choice(
        (
            Call("send_headers", (stream_id, _request(r), end)),
            Call("send_headers", (stream_id, _response(r, b"200"), end)),
            Call("send_headers", (stream_id, _response(r, b"103"), end)),
            Call("send_headers", (stream_id, [("x", "y"), *_fields(r)], end)),
            Call("send_data", (stream_id, r.randbytes(r.choice((0, 5, 17_000, 70_000))), end)),
            Call("send_data", (stream_id, b"x", end), {"pad_length": r.choice((-1, 3, 256))}),
            Call("end_stream", (stream_id,)),
            Call("reset_stream", (stream_id, r.choice((0, 8)))),
            Call("increment_flow_control_window", (r.choice((0, 1, 2**31 - 1)), None)),
            Call("increment_flow_control_window", (1, stream_id)),
            Call("acknowledge_received_data", (r.choice((0, 10, 40_000)), stream_id)),
            Call("push_stream", (stream_id, r.choice((2, 4, 6)), _request(r))),
            Call("ping", (r.choice((b"12345678", b"x")),)),
            Call("prioritize", (stream_id, r.choice((0, 1, 256, 257)), r.choice((0, 1, 3)))),
            Call("local_flow_control_window", (stream_id,)),
            Call("remote_flow_control_window", (stream_id,)),
            Call("get_next_available_stream_id"),
            Call("update_settings", ({SettingCodes.INITIAL_WINDOW_SIZE: r.choice((0, 2**31))},)),
            Call("advertise_alternative_service", (b"h2", None, stream_id)),
        )
    )


def _mutated_bytes(r: random.Random, data: bytes, kept: list[bytes]) -> bytes:
    start = PREFACE if data.startswith(PREFACE) else b""
    frames = [frame.raw for frame in cut(data[len(start) :], client=True)]
    for index, frame in enumerate(cut(data[len(start) :], client=True)):
        if r.random() < 0.3:
            frames[index] = _changed(r, frame)
    choice = r.randrange(5)
    at = r.randint(0, len(frames))
    if choice == 0 and frames:
        del frames[r.randrange(len(frames))]
    elif choice == 1 and kept:
        frames.insert(at, r.choice(kept))
    elif choice == 2:
        r.shuffle(frames)
    return start + b"".join(frames)


def mutate(r: random.Random, session: Session) -> Session:
    """Return a session that differs from this one in a few places."""
    steps: list[Step] = []
    kept: list[bytes] = []
    rate = r.choice((0.02, 0.05, 0.1))
    for step in session.steps:
        if isinstance(step, bytes):
            if r.random() < rate:
                step = _mutated_bytes(r, step, kept)
            if not step.startswith(PREFACE):
                kept += [frame.raw for frame in cut(step, client=True)]
        elif r.random() < rate:
            continue
        steps.append(step)
        if r.random() < rate:
            steps.append(_odd_call(r))
    return Session(session.client, session.flags, steps)
