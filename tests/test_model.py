"""A model of two connections: random calls on both sides, and what has to hold whatever they are.

A seed chooses the calls, and the moments in which bytes arrive, writing pauses, time passes and
the connection ends. What is expected comes from the frames on the wire, which are read here with
nothing of aioh2's. A sequence that fails is made as short as it can be, and printed. In the
environment, ``AIOH2_MODEL_EXAMPLES`` says how many there are, ``AIOH2_MODEL_SEED`` the first seed.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import os
import random
import unittest
from collections.abc import Callable, Sequence
from typing import Any, Final

import hpack

import aioh2
from aioh2.testing import left_behind

from .manual import Cutter, Frame, ManualLoop
from .octets import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
)

_EXAMPLES: Final = int(os.environ.get("AIOH2_MODEL_EXAMPLES", 300))
_FIRST: Final = int(os.environ.get("AIOH2_MODEL_SEED", 0))
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 3, 4
#: Where bodies are cut from; no byte of it begins a body, so that it shows where one is cut short.
_PATTERN: Final = bytes(random.Random(9113).choices(range(0xC0), k=200_000))
#: What either side may be told with RST_STREAM: what the model asks for, and what races bring.
_RESETS: Final = {
    aioh2.ErrorCodes.NO_ERROR,
    aioh2.ErrorCodes.CANCEL,
    aioh2.ErrorCodes.INTERNAL_ERROR,
    aioh2.ErrorCodes.REFUSED_STREAM,
    aioh2.ErrorCodes.ENHANCE_YOUR_CALM,
}


# --- the wire ------------------------------------------------------------------------------


class Part:
    """What one side has sent on one stream, and how much of it has arrived."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.arrived = 0
        # Final and interim header sections, and trailers.
        self.sections: list[bytes] = []
        self.sections_arrived = 0
        self.ended = self.end_arrived = False
        self.reset: int | None = None
        self.reset_arrived = False


class Half:
    """One direction: what its sender has written, in frames, and what flow control allows it."""

    def __init__(self, client: bool) -> None:
        self._written = Cutter(client=client)
        self._delivered = Cutter(client=client)
        self._decoder = hpack.Decoder()
        self._decoder.max_allowed_table_size = 65_536
        self.parts: dict[int, Part] = collections.defaultdict(Part)
        # What the receiver has announced, each to hold from its acknowledgement on.
        self.announced: collections.deque[dict[int, int]] = collections.deque()
        self.limits = {INITIAL_WINDOW_SIZE: 65_535, MAX_CONCURRENT_STREAMS: 2**31}
        # Credit that has arrived, and what was sent, by stream; 0: the connection.
        self.credits: collections.Counter[int] = collections.Counter({0: 65_535})
        self.sent: collections.Counter[int] = collections.Counter()
        self.goaways: list[int] = []
        self.other: Half

    def window(self, stream_id: int) -> int:
        limit = self.limits[INITIAL_WINDOW_SIZE] if stream_id else 0
        return limit + self.credits[stream_id] - self.sent[stream_id]

    def write(self, data: bytes) -> None:
        for frame in self._written.feed(data):
            self._write(frame)
        assert self._written.is_whole, "half a frame was written"

    def _write(self, frame: Frame) -> None:
        kind, flags, stream_id, payload = frame
        part = self.parts[stream_id]
        if stream_id and kind in (DATA, HEADERS, RST_STREAM):
            assert part.reset is None, f"{frame} after RST_STREAM"
            assert kind == RST_STREAM or not part.ended, f"{frame} after END_STREAM"
        if kind == DATA:
            assert not flags & ~END_STREAM
            for where in (0, stream_id):
                self.sent[where] += len(payload)
                assert not payload or self.window(where) >= 0, f"overdrawn: {where}"
            part.body += payload
        elif kind == HEADERS:
            assert flags & END_HEADERS and not flags & ~(END_HEADERS | END_STREAM)
            part.sections.append(dict(self._decoder.decode(payload)).get(":status", ""))
        elif kind == PUSH_PROMISE:
            self._decoder.decode(payload[4:])
            # the client has no part in it
            promised = self.other.parts[int.from_bytes(payload[:4], "big")]
            promised.ended = promised.end_arrived = True
        elif kind == RST_STREAM:
            part.reset = int.from_bytes(payload, "big")
            assert part.reset in _RESETS, part.reset
        elif kind == SETTINGS and flags & ACK:
            self.limits |= self.announced.popleft()
        elif kind == SETTINGS:
            entries = [payload[at : at + 6] for at in range(0, len(payload), 6)]
            self.other.announced.append(
                {int.from_bytes(e[:2], "big"): int.from_bytes(e[2:], "big") for e in entries}
            )
        elif kind == GOAWAY:
            last = int.from_bytes(payload[:4], "big")
            assert not self.goaways or last <= self.goaways[-1], "last-stream-id has grown"
            self.goaways.append(last)
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            part.ended = True

    def deliver(self, data: bytes) -> None:
        for kind, flags, stream_id, payload in self._delivered.feed(data):
            part = self.parts[stream_id]
            if kind == DATA:
                part.arrived += len(payload)
            elif kind == HEADERS:
                part.sections_arrived += 1
            elif kind == RST_STREAM:
                part.reset_arrived = True
            elif kind == WINDOW_UPDATE:
                self.other.credits[stream_id] += int.from_bytes(payload, "big")
            if kind in (DATA, HEADERS) and flags & END_STREAM:
                part.end_arrived = True


class Pipe(asyncio.Transport):
    """One end of the connection; what it writes arrives when and in what pieces the model says."""

    def __init__(self, loop: ManualLoop, protocol: aioh2.H2Protocol, half: Half) -> None:
        super().__init__()
        self.loop = loop
        self.protocol = protocol
        self.half = half
        self.far: Pipe
        # Written and not delivered, and whether the end comes after it.
        self.on_its_way = bytearray()
        self.ended = False
        # What the model does to it: bytes held back, the size of pieces, writing paused.
        self.held = False
        self.piece = 1 << 20
        self.paused = False
        # What the protocol does.
        self.closed = False
        self.reading = True
        self._moving = False

    def write(self, data: bytes) -> None:
        assert not self.closed, "write after close"
        assert not self.ended, "write after EOF"
        self.half.write(bytes(data))
        self.on_its_way += data
        self.move()

    def move(self) -> None:
        if not self._moving:
            self._moving = True
            self.loop.call_soon(self._move)

    def _move(self) -> None:
        self._moving = False
        if self.held or self.far.closed or not self.far.reading:
            return
        if self.on_its_way:
            piece = bytes(self.on_its_way[: self.piece])
            del self.on_its_way[: self.piece]
            self.half.deliver(piece)
            self.far.protocol.data_received(piece)
            self.move()
        elif self.ended and not self.far.protocol.eof_received():
            self.far.close()

    def close(self) -> None:
        self.lose(None)
        self.ended = True
        self.move()

    def abort(self) -> None:
        self.on_its_way.clear()
        self.close()

    def lose(self, error: Exception | None) -> None:
        if not self.closed:
            self.closed = True
            self.loop.call_soon(self.protocol.connection_lost, error)

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True
        self.move()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True
        self.far.move()

    def get_write_buffer_size(self) -> int:
        return len(self.on_its_way) if self.paused else 0


# --- calls ---------------------------------------------------------------------------------


class Call:
    """One call of one side, and what has become of it."""

    def __init__(
        self, kind: str, client: bool, stream: aioh2.H2Stream | None, task: asyncio.Task[Any]
    ) -> None:
        self.kind = kind
        self.client = client
        self.stream = stream
        self.task = task
        # What it sends, or how much it reads.
        self.data = b""
        self.size: int | None = None
        # Whether it ends what its side sends.
        self.ends = False
        self.cancelled = False

    def __repr__(self) -> str:
        return f"<{self.kind} {'client' if self.client else 'server'} {self.stream} {self.task}>"

    @property
    def waits(self) -> bool:
        return not self.task.done()

    @property
    def error(self) -> BaseException | None:
        if self.task.cancelled():
            return asyncio.CancelledError()
        return self.task.exception()

    @property
    def bytes_read(self) -> bytes:
        if self.waits:
            return b""
        if isinstance(self.error, asyncio.IncompleteReadError):
            return self.error.partial
        result = b"" if self.error is not None else self.task.result()
        assert type(result) is bytes
        return result

    def check_error(self) -> None:
        """What it raises has a type of ours, and says the truth about a retry."""
        error = self.error
        if error is None:
            return
        if isinstance(error, asyncio.CancelledError):
            assert self.cancelled, f"{self} was cancelled by nobody"
            return
        if self.kind == "read_exactly" and isinstance(error, asyncio.IncompleteReadError):
            return
        assert isinstance(error, aioh2.AIOH2Exception), f"{self}: {error!r}"


def common(one: bytes, other: bytes) -> int:
    """Return how many bytes are the same at the beginning of both."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low


def can_send(stream: aioh2.H2Stream) -> bool:
    return stream.has_started and not stream.has_ended and stream.failure is None


class Model:
    """Two sides, the calls made on them, and what has to hold."""

    def __init__(
        self, windows: tuple[int, int], concurrency: int, grows: bool, serves: bool
    ) -> None:
        self.loop = ManualLoop()
        self.errors: list[Any] = []
        self.loop.set_exception_handler(lambda _, context: self.errors.append(context))
        options: dict[str, Any] = {
            "concurrency": concurrency,
            "connection_window_size": 65_535,
            "max_window_size": 131_072 if grows else None,
        }
        self.ends = {
            side: aioh2.H2Protocol(
                side, initial_window_size=windows[side], enable_push=True, **options
            )
            for side in (True, False)
        }
        self.halves = {side: Half(side) for side in (True, False)}
        self.pipes = {
            side: Pipe(self.loop, self.ends[side], self.halves[side]) for side in (True, False)
        }
        self.calls: list[Call] = []
        self.streams: dict[bool, list[aioh2.H2Stream]] = {True: [], False: []}
        # Bodies in the order of the calls, and reads likewise, by side and stream.
        self.sends: dict[tuple[bool, int], list[Call]] = collections.defaultdict(list)
        self.reads: dict[tuple[bool, int], list[Call]] = collections.defaultdict(list)
        # What a server has left, and dropped with that.
        self.left: set[int] = set()
        self.eager = True
        for side in (True, False):
            self.halves[side].other = self.halves[not side]
            self.pipes[side].far = self.pipes[not side]
            self.loop.call_soon(self.ends[side].connection_made, self.pipes[side])
        # Handlers of serve, by stream, and how each is to end.
        self.handlers: dict[int, asyncio.Future[bool]] = {}
        if serves:
            self.call("serve", False, None, self.ends[False].serve(self.handle))

    async def handle(self, stream: aioh2.H2Stream) -> None:
        self.streams[False].append(stream)
        self.handlers[stream.id] = self.loop.create_future()
        if not await self.handlers[stream.id]:
            raise aioh2.StreamClosed(stream.id, "as the model wants it")

    def call(self, kind: str, client: bool, stream: aioh2.H2Stream | None, coroutine: Any) -> Call:
        call = Call(kind, client, stream, self.loop.create_task(coroutine))
        self.calls.append(call)
        return call

    def now(self, kind: str, client: bool, function: Callable[[], Any]) -> None:
        """Make a call that is not a coroutine, in the loop."""

        async def run() -> None:
            function()

        self.call(kind, client, None, run())

    def stream(
        self, client: bool, pick: int, fits: Callable[[aioh2.H2Stream], bool] = lambda _: True
    ) -> aioh2.H2Stream | None:
        """Return one of the latest streams, mostly one that fits what is to be done."""
        streams = self.streams[client][-6:]
        fitting = [stream for stream in streams if fits(stream)]
        if fitting and pick < 7:
            streams = fitting
        return streams[-1 - pick % len(streams)] if streams else None

    def close(self) -> None:
        for call in self.calls:
            call.task.cancel()
        self.loop.tick()
        self.loop.close()

    # --- what is called ----------------------------------------------------------------

    def request(self, ends: bool, urgent: bool) -> None:
        async def open_() -> None:
            priority = aioh2.Priority(0) if urgent else None
            stream = await self.ends[True].open_stream(
                {":method": "POST"}, end_stream=ends, priority=priority
            )
            self.streams[True].append(stream)

        self.call("open", True, None, open_())

    def accept(self) -> None:
        async def take() -> None:
            stream_id, _ = await self.ends[False].recv_request()
            self.streams[False].append(self.ends[False].stream(stream_id))

        self.call("accept", False, None, take())

    def respond(self, pick: int, status: int, ends: bool) -> None:
        stream = self.stream(False, pick, lambda s: not s.has_started)
        if stream is not None:
            ends = ends and status == 200
            headers = {":status": str(status)}
            self.call("respond", False, stream, stream.start_response(headers, end_stream=ends))

    def send(self, client: bool, pick: int, size: int, ends: bool) -> None:
        stream = self.stream(client, pick, can_send)
        if stream is None:
            return
        number = len(self.calls)
        start = number * 7919 % 100_000
        data = (bytes([0xC0 | number % 64]) + _PATTERN[start : start + size])[:size]
        call = self.call("send", client, stream, stream.send_data(data, end_stream=ends))
        call.data, call.ends = data, ends
        self.sends[client, stream.id].append(call)

    def finish(self, client: bool, pick: int, trailers: bool) -> None:
        stream = self.stream(client, pick, can_send)
        if stream is not None:
            ending = stream.send_trailers({"sum": "1"}) if trailers else stream.end()
            self.call("end", client, stream, ending).ends = True

    def read(self, client: bool, pick: int, size: int | None, exactly: bool) -> None:
        stream = self.stream(client, pick, lambda s: not s.is_over or s.unread > 0)
        if stream is None:
            return
        if exactly and size is not None and size >= 0:
            call = self.call("read_exactly", client, stream, stream.read_exactly(size))
        else:
            call = self.call("read", client, stream, stream.read(size))
        call.size = size
        self.reads[client, stream.id].append(call)

    def receive(self, client: bool, pick: int, what: str) -> None:
        stream = self.stream(client, pick)
        if stream is not None:
            self.call(what, client, stream, getattr(stream, what)())

    def push(self, client: bool, pick: int) -> None:
        stream = self.stream(client, pick)
        if stream is None:
            return

        async def promise() -> None:
            pushed = await (stream.recv_push() if client else stream.push({":path": "/pushed"}))
            if pushed is not None:
                self.streams[client].append(pushed)

        self.call("push", client, stream, promise())

    def reset(self, client: bool, pick: int, code: int) -> None:
        stream = self.stream(client, pick)
        if stream is not None:
            self.now("reset", client, lambda: stream.reset(code))

    def leave(self, client: bool, pick: int) -> None:
        stream = self.stream(client, pick)
        if stream is not None:
            self.left.add(stream.id)
            self.call("leave", client, stream, stream.__aexit__(None, None, None))

    def return_(self, pick: int, well: bool) -> None:
        stream = self.stream(False, pick)
        handler = self.handlers.get(stream.id) if stream is not None else None
        if stream is not None and handler is not None and not handler.done():
            self.left.add(stream.id)
            handler.set_result(well)

    def cancel(self, pick: int) -> None:
        waiting = [call for call in self.calls if call.waits]
        if waiting:
            call = waiting[-1 - pick % len(waiting)]
            call.cancelled = True
            call.task.cancel()

    def cancel_woken(self, ticks: int) -> None:
        """Cancel who was told to go on, and has not."""
        for _ in range(ticks):
            self.loop.tick()
        for call in self.calls:
            # asyncio has no other way to ask what a task waits for
            future = call.waits and call.task._fut_waiter  # type: ignore[attr-defined]
            if future and future.done():
                call.cancelled = True
                call.task.cancel()

    def change(self, client: bool, change: tuple[int, int]) -> None:
        self.now("settings", client, lambda: self.ends[client].update_settings(dict([change])))

    def prioritize(self, client: bool, pick: int, urgency: int, tree: bool) -> None:
        stream = self.stream(client, pick)
        if stream is None:
            return
        if tree:
            self.now(
                "priority",
                client,
                lambda: self.ends[client].reprioritize(stream.id, weight=urgency + 1),
            )
        else:
            self.now("priority", client, lambda: stream.set_priority(aioh2.Priority(urgency)))

    def ping(self, client: bool, functional: bool) -> None:
        end = self.ends[client]
        self.call("ping", client, None, end.wait_functional() if functional else end.ping())

    # --- what happens below ------------------------------------------------------------

    def pause(self, client: bool, paused: bool) -> None:
        pipe, end = self.pipes[client], self.ends[client]
        if not pipe.closed and paused is not pipe.paused:
            pipe.paused = paused
            self.loop.call_soon(end.pause_writing if paused else end.resume_writing)

    def hold(self, client: bool, held: bool) -> None:
        self.pipes[client].held = held
        self.pipes[client].move()

    def cut(self, client: bool, piece: int) -> None:
        self.pipes[client].piece = piece

    def pace(self, eager: bool) -> None:
        self.eager = eager

    def wait(self, seconds: float) -> None:
        self.loop.pass_time(seconds)

    # --- ends --------------------------------------------------------------------------

    def shut_down(self, client: bool, grace: float | None) -> None:
        self.call("shutdown", client, None, self.ends[client].shutdown(grace))

    def stop(self, client: bool, how: str) -> None:
        end, pipe = self.ends[client], self.pipes[client]
        if how == "close":
            self.now("close", client, end.close_connection)
        elif how == "abort":
            self.now("abort", client, end.abort)
        else:
            for one in (pipe, pipe.far):
                one.on_its_way.clear()
                one.lose(ConnectionResetError("as the model wants it"))

    def end(self) -> None:
        """Let everything go, end the connection, and see what is left."""
        for client, pipe in self.pipes.items():
            pipe.held = False
            if pipe.paused and not pipe.closed:
                pipe.paused = False
                self.loop.call_soon(self.ends[client].resume_writing)
            pipe.move()
        self.loop.run_forever()
        self.check()
        for client, end in self.ends.items():
            self.call("shutdown", client, None, end.shutdown(1))
        self.loop.pass_time(60)
        for pipe in self.pipes.values():
            assert pipe.closed, "the connection does not end"
        for handler in self.handlers.values():
            # who serves may go on after a cancellation that the model has asked for
            if not handler.done():
                handler.set_result(True)
        self.loop.run_forever()
        self.check()
        waiting = [call for call in self.calls if call.waits]
        assert not waiting, f"left waiting: {waiting}"
        assert not asyncio.all_tasks(self.loop), asyncio.all_tasks(self.loop)
        assert not self.loop.deadlines, "timers are left"
        for end in self.ends.values():
            self.check_empty(end)

    # --- what has to hold --------------------------------------------------------------

    def holds(self) -> None:
        if self.eager:
            self.loop.run_forever()
            self.check()
        else:
            self.loop.tick()
            assert not self.errors, self.errors

    def check(self) -> None:
        """Nothing is ready any more: all that can be known is known."""
        assert not self.errors, self.errors
        for call in self.calls[:]:
            if not call.waits:
                call.check_error()
                self.check_retry(call)
        for (client, stream_id), calls in self.sends.items():
            self.check_sent(client, stream_id, calls)
        for (client, stream_id), calls in self.reads.items():
            self.check_read(client, self.halves[not client].parts[stream_id], calls)
        for client, end in self.ends.items():
            self.check_connection(client, end)
        for call in self.calls:
            if call.waits and self.is_alive(call.client):
                why = REASONS.get(call.kind)
                assert why is None or why(self, call), f"{call} waits for nothing"

    def is_alive(self, client: bool) -> bool:
        return not self.pipes[client].closed and self.ends[client].close_reason is None

    def check_retry(self, call: Call) -> None:
        if call.client and getattr(call.error, "retryable", False) and call.stream is not None:
            accepted = [stream.id for stream in self.streams[False]]
            assert call.stream.id not in accepted, f"{call} may not be retried"

    def check_sent(self, client: bool, stream_id: int, calls: list[Call]) -> None:
        """What is on the wire are the bodies, in order, each whole unless it was cut short."""
        body = self.halves[client].parts[stream_id].body
        at = 0
        for call in calls:
            if call.waits or call.task.cancelled():
                at += common(body[at:], call.data)
                if call.waits:
                    break
                continue
            count = 0
            if call.error is None:
                count = len(call.data)
            elif isinstance(call.error, aioh2.SendException):
                count = len(call.data) - len(call.error.data)
                assert call.data.endswith(call.error.data)
            whole = call.data[:count]
            if not self.is_alive(client):
                # what was framed may not have been written
                whole = whole[: len(body) - at]
            assert body[at : at + len(whole)] == whole, f"{call} is not what was sent"
            at += len(whole)
        assert at == len(body), f"stream {stream_id}: {len(body) - at} bytes that nobody sent"

    def check_read(self, client: bool, part: Part, calls: list[Call]) -> None:
        """What was read is what has arrived, in order; the end is said when it is the end."""
        body = bytes(part.body[: part.arrived])
        at = 0
        waits = False
        for call in calls:
            data = call.bytes_read
            assert body[at : at + len(data)] == data, f"{call}: not what has arrived"
            at += len(data)
            assert not (waits and data), f"{call} overtook another read"
            if call.waits:
                waits = True
                continue
            short = isinstance(call.error, asyncio.IncompleteReadError)
            if call.error is None and call.size != 0:
                short = len(data) < (1 if call.size is None else call.size) or call.size == -1
            assert call.stream is not None
            if not short or call.stream.id in self.left:
                continue
            if data and call.size != -1 and call.stream.failure is not None:
                continue
            # the client has no part in a push, even where the promise was never written
            ended = part.end_arrived or (not client and call.stream.id % 2 == 0)
            assert ended, f"{call} says that the body has ended"
            assert at == len(body), f"{call} has lost bytes"

    def check_connection(self, client: bool, end: aioh2.H2Protocol) -> None:
        driver = end._driver
        connection = driver.connection
        assert connection.failure is None, connection.failure
        assert len(driver.table.ended) <= end.config.concurrency
        if not self.is_alive(client):
            return
        credit = connection.inbound_flow_control_window + driver._window.owed
        settled = not self.pipes[not client].on_its_way
        assert credit == 65_535, f"{credit} bytes of the connection's window"
        for stream_id, stream in driver.table.open.items():
            self.check_ended(client, stream)
            inner = connection.streams[stream_id]
            if settled and inner.open and not stream._remote_ended and stream._body is not None:
                window = stream.window
                held = inner.inbound_flow_control_window + window.owed + window.unread
                assert held == window.size, f"{held} bytes of a window of {window.size}"

    def check_ended(self, client: bool, stream: aioh2.H2Stream) -> None:
        """What counts as ended has ended on the wire, or will when a body has gone."""
        if stream.has_ended and not self.halves[client].parts[stream.id].ended:
            calls = [call for call in self.calls if call.stream is stream and call.ends]
            served = stream.id in self.handlers
            assert served or any(call.waits for call in calls), f"{stream} cannot be ended any more"

    def check_empty(self, end: aioh2.H2Protocol) -> None:
        assert not left_behind(end), left_behind(end)
        for stream in self.streams[end.client_side]:
            assert not stream._waiters, f"waiters of {stream} are left"
            assert not stream._reading, f"a read of {stream} is left"

    # --- why a call may wait -----------------------------------------------------------

    def waits_for_slot(self, call: Call) -> bool:
        """As many streams are open as may be, by what is on the wire."""
        client, out, back = self.ends[True], self.halves[True], self.halves[False]
        if not client._driver.greeting.has_come or client.is_closing:
            return not client.is_closing
        count = 0
        for stream_id, part in out.parts.items():
            answer = back.parts[stream_id]
            over = part.reset is not None or answer.reset_arrived
            over = over or (part.ended and answer.end_arrived)
            count += bool(stream_id % 2 and part.sections) and not over
        return count >= out.limits[MAX_CONCURRENT_STREAMS]

    def waits_for_request(self, call: Call) -> bool:
        return not self.ends[False]._driver.table.inbound

    def waits_for_peer(self, call: Call) -> bool:
        """Nothing has arrived that it could return, and the stream has not ended."""
        assert call.stream is not None
        part = self.halves[not call.client].parts[call.stream.id]
        if call.stream.failure is not None or part.reset_arrived or part.end_arrived:
            return False
        if call.kind == "recv_trailers":
            return True
        seen = part.sections[: part.sections_arrived]
        return not any(status >= "200" for status in seen)

    def waits_for_body(self, call: Call) -> bool:
        assert call.stream is not None
        key = (call.client, call.stream.id)
        if any(one.waits for one in self.reads[key][: self.reads[key].index(call)]):
            return True
        part = self.halves[not call.client].parts[call.stream.id]
        if call.stream.failure is not None or part.reset_arrived or part.end_arrived:
            return False
        there = part.arrived - sum(len(one.bytes_read) for one in self.reads[key])
        wanted = 1 if call.size is None else call.size
        return there < wanted or call.size == -1

    def waits_to_send(self, call: Call) -> bool:
        """A window is closed, or the transport, or another body goes first."""
        assert call.stream is not None
        part = self.halves[not call.client].parts[call.stream.id]
        if call.stream.failure is not None or part.reset_arrived:
            return False
        half = self.halves[call.client]
        if half.window(call.stream.id) <= 0 and self.is_wanted(call):
            return False
        windows = min(half.window(0), half.window(call.stream.id))
        return windows <= 0 or self.pipes[call.client].paused

    def is_wanted(self, call: Call) -> bool:
        """A read on the other side waits for more, and nothing keeps its credit from coming."""
        assert call.stream is not None
        stuck = any(pipe.held or pipe.on_its_way or pipe.paused for pipe in self.pipes.values())
        limit = self.halves[call.client].limits[INITIAL_WINDOW_SIZE]
        reads = self.reads[not call.client, call.stream.id]
        return not stuck and limit > 0 and any(read.waits for read in reads)

    def waits_to_end(self, call: Call) -> bool:
        """A body goes first, or the transport takes nothing."""
        assert call.stream is not None
        bodies = self.sends[call.client, call.stream.id]
        first = any(body.waits and body.data for body in bodies)
        return self.waits_to_send(call) and (first or self.pipes[call.client].paused)

    def waits_for_wire(self, call: Call) -> bool:
        """Something on the way to the peer or back is stopped."""
        return any(pipe.held or not pipe.reading or pipe.far.closed for pipe in self.pipes.values())


REASONS: Final[dict[str, Callable[[Model, Call], bool]]] = {
    "open": Model.waits_for_slot,
    "accept": Model.waits_for_request,
    "recv_response": Model.waits_for_peer,
    "recv_informational": Model.waits_for_peer,
    "recv_trailers": Model.waits_for_peer,
    "read": Model.waits_for_body,
    "read_exactly": Model.waits_for_body,
    "send": Model.waits_to_send,
    "end": Model.waits_to_end,
    "ping": Model.waits_for_wire,
    "respond": lambda *_: False,
    "reset": lambda *_: False,
    "leave": lambda *_: False,
}


# Which actions there are, how often each comes in a sequence, and what it may be given.
_PICK: Final = range(8)
_SIDE: Final = (False, True)
_WINDOWS: Final = (0, 100, 5_000, 16_384, 65_535)
_SELDOM: Final = (False, False, False, False, True)
_SIZES: Final = (0, 1, 5, 99, 1_000, 16_384, 16_385, 70_000)
_CHANGES: Final = (
    *[(INITIAL_WINDOW_SIZE, size) for size in (0, 10, 3_000, 40_000, 65_535)],
    *[(MAX_CONCURRENT_STREAMS, limit) for limit in (0, 3, 50)],
)
_RECEIVED: Final = ("recv_response", "recv_informational", "recv_trailers")
_READS: Final = (None, None, None, -1, 0, 1, 100, 5_000, 70_000)
ACTIONS: Final[list[tuple[int, str, dict[str, Sequence[Any]]]]] = [
    (10, "request", {"ends": _SELDOM, "urgent": _SELDOM}),
    (16, "accept", {}),
    (12, "respond", {"pick": _PICK, "status": (103, 200, 200, 200), "ends": _SELDOM}),
    (20, "send", {"client": _SIDE, "pick": _PICK, "size": _SIZES, "ends": _SELDOM}),
    (4, "finish", {"client": _SIDE, "pick": _PICK, "trailers": _SIDE}),
    (24, "read", {"client": _SIDE, "pick": _PICK, "size": _READS, "exactly": _SELDOM}),
    (5, "receive", {"client": _SIDE, "pick": _PICK, "what": _RECEIVED}),
    (2, "push", {"client": _SIDE, "pick": _PICK}),
    (2, "reset", {"client": _SIDE, "pick": _PICK, "code": (0, 2, 8, 11)}),
    (1, "leave", {"client": _SIDE, "pick": _PICK}),
    (2, "return_", {"pick": _PICK, "well": _SIDE}),
    (6, "cancel", {"pick": range(30)}),
    (6, "cancel_woken", {"ticks": range(5)}),
    (2, "change", {"client": _SIDE, "change": _CHANGES}),
    (2, "prioritize", {"client": _SIDE, "pick": _PICK, "urgency": _PICK, "tree": _SELDOM}),
    (2, "ping", {"client": _SIDE, "functional": _SIDE}),
    (4, "pause", {"client": _SIDE, "paused": _SELDOM}),
    (4, "hold", {"client": _SIDE, "held": _SELDOM}),
    (2, "cut", {"client": _SIDE, "piece": (9, 100, 5_000, 1 << 20)}),
    (4, "pace", {"eager": _SIDE}),
    (2, "wait", {"seconds": (0.01, 0.01, 1, 3, 15, 70)}),
]
# These come towards the end of a sequence.
ENDS: Final[list[tuple[int, str, dict[str, Sequence[Any]]]]] = [
    (1, "shut_down", {"client": _SIDE, "grace": (0, 1, 15, None)}),
    (1, "stop", {"client": _SIDE, "how": ("close", "abort", "lose")}),
]
OPTIONS: Final[dict[str, Sequence[Any]]] = {
    "windows": [(a, b) for a in _WINDOWS for b in _WINDOWS],
    "concurrency": (1, 2, 5, 100),
    "grows": _SIDE,
    "serves": _SIDE,
}

Arguments = dict[str, Any]
Steps = list[tuple[str, Arguments]]


def sequence(seed: int) -> tuple[Arguments, Steps]:
    """Return the options and the calls of one sequence."""
    r = random.Random(seed)

    def some(choices: dict[str, Sequence[Any]]) -> Arguments:
        return {name: r.choice(values) for name, values in choices.items()}

    steps = []
    length = r.choice((30, 80, 150))
    for number in range(length):
        ends = number > length / 2 and r.random() < 0.02
        kinds = ENDS if ends else ACTIONS
        ((_, name, choices),) = r.choices(kinds, [kind[0] for kind in kinds])
        steps.append((name, some(choices)))
    return some(OPTIONS), steps


def run(options: Arguments, steps: Steps) -> None:
    """Carry out a sequence; raises ``AssertionError`` for what does not hold."""
    model = Model(**options)
    try:
        for name, arguments in steps:
            getattr(model, name)(**arguments)
            model.holds()
        model.end()
    finally:
        model.close()


def fails(options: Arguments, steps: Steps) -> str | None:
    """Return what does not hold, in a word or two."""
    try:
        run(options, steps)
    except Exception as error:
        return repr(error)
    return None


def shortened(options: Arguments, steps: Steps) -> Steps:
    """Leave out what a failure does not need."""
    size = len(steps) // 2
    while size:
        at = 0
        while at < len(steps):
            less = steps[:at] + steps[at + size :]
            if fails(options, less):
                steps = less
            else:
                at += size
        size //= 2
    return steps


class _OwnErrors(logging.Handler):
    """Errors that are logged, but those that the model's own handlers raise."""

    def emit(self, record: logging.LogRecord) -> None:
        if "the handler of stream" not in record.getMessage():
            raise AssertionError(record.getMessage())


class TestModel(unittest.TestCase):
    def setUp(self) -> None:
        logger = logging.getLogger("aioh2")
        handler = _OwnErrors(logging.ERROR)
        logger.addHandler(handler)
        self.addCleanup(logger.removeHandler, handler)
        self.addCleanup(setattr, logger, "propagate", logger.propagate)
        logger.propagate = False

    def test_whatever_is_called(self) -> None:
        for seed in range(_FIRST, _FIRST + _EXAMPLES):
            options, steps = sequence(seed)
            if not fails(options, steps):
                continue
            steps = shortened(options, steps)
            calls = "\n".join(f"    {step}," for step in steps)
            print(f"seed {seed}: run({options}, [\n{calls}\n])")
            run(options, steps)
            self.fail("it fails only now and then")


if __name__ == "__main__":
    unittest.main()
