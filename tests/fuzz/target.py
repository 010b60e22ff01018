"""One input of the fuzzer: what a peer sends, to a client or a server at work.

The first byte of an input says which side takes it and how (see :class:`How`), the second in what
pieces it comes; what follows are the octets.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from typing import Final

import aioh2
from aioh2.testing import left_behind

from ..manual import Cutter, ManualLoop
from ..octets import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    raw,
)
from ..soak.requests import containers

#: Longer inputs are cut: what they show, shorter ones do as well.
LONGEST: Final = 65_536
#: What any container of a connection may hold, entries of its caches included.
CROWD: Final = 600
#: Bytes that may be written for each byte received (an ACK for an empty SETTINGS, a WINDOW_UPDATE
#: and RST_STREAM for a small DATA frame), and beside that, for what this side sends unasked.
FACTOR, UNASKED = 4, 400_000

# How far below the newest id a stream is known to have been reset: see ClosedStreams.KEPT.
_REMEMBERED: Final = 2 * 2**16
_PIECES: Final = (LONGEST, LONGEST, 1, 9, 10, 100, 1_000, 16_393)
_CONFIG: Final = aioh2.Config(
    concurrency=20, initial_window_size=20_000, max_window_size=60_000, enable_connect_protocol=True
)


class How(enum.IntFlag):
    """The bits of the first byte."""

    #: A client takes the octets, with requests under way; else a server.
    CLIENT = 1
    #: The peer has not greeted: the octets begin with its preface, or do not.
    RAW = 2
    #: The transport takes no writes before the octets have come.
    PAUSED = 4
    #: The connection is lost at the end, not shut down.
    LOST = 8
    #: This side has begun to shut down before they come.
    DRAINING = 16
    #: Pushes are allowed.
    PUSH = 32


class Broken(AssertionError):
    """Something that must hold does not."""


class _Transport(asyncio.Transport):
    """Reads what is written as frames, and sees that they may follow each other so."""

    def __init__(self, loop: ManualLoop, protocol: aioh2.H2Protocol) -> None:
        super().__init__()
        self.loop = loop
        self.protocol = protocol
        self.frames = Cutter(client=protocol.client_side)
        self.closed = False
        self.written = 0
        # What each stream was sent that ends it, and the code of the latest GOAWAY.
        self.ended: dict[int, int] = {}
        self.goaway: int | None = None
        self.last = 2**31
        # The stream of a header block that has not ended.
        self.block = 0
        self.reading = True

    def write(self, data: bytes) -> None:
        if self.closed:
            raise Broken("write after close")
        self.written += len(data)
        for frame in self.frames.feed(bytes(data)):
            self._check(*frame)
        if not self.frames.is_whole:
            raise Broken("half a frame was written")

    def _check(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        what = (kind, flags, stream_id, payload[:32])
        if self.goaway:
            raise Broken(f"{what} after GOAWAY with an error")
        if self.block and (kind != CONTINUATION or stream_id != self.block):
            raise Broken(f"{what} in a header block")
        ended = self.ended.get(stream_id)
        if kind in (DATA, HEADERS) and ended is not None:
            raise Broken(f"{what} after frame {ended} has ended the stream")
        newest = self.protocol._driver.connection.highest_inbound_stream_id
        if kind == RST_STREAM and ended == RST_STREAM and newest - stream_id < _REMEMBERED:
            raise Broken(f"{what} after RST_STREAM")
        if kind in (HEADERS, CONTINUATION):
            self.block = 0 if flags & END_HEADERS else stream_id
        if kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & END_STREAM):
            self.ended[stream_id] = kind
        if kind == GOAWAY:
            last, self.goaway = int.from_bytes(payload[:4]), int.from_bytes(payload[4:8])
            if last > self.last:
                raise Broken(f"last-stream-id has grown from {self.last} to {last}")
            self.last = last

    def lose(self, error: Exception | None) -> None:
        if not self.closed:
            self.closed = True
            self.loop.call_soon(self.protocol.connection_lost, error)

    def close(self) -> None:
        self.lose(None)

    def abort(self) -> None:
        self.lose(None)

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


# --- what is at work -----------------------------------------------------------------------

_BODY: Final = bytes(30_000)


async def _answer(stream: aioh2.H2Stream) -> None:
    """Serve a request in one of four ways, by its id."""
    way = stream.id // 2 % 4
    try:
        if way == 3:
            await stream.start_response({":status": "204"}, end_stream=True)
            return
        await stream.start_response({":status": "103"})
        if way == 1:
            await stream.read_exactly(5)
        await stream.start_response({":status": "200"})
        if way == 0:
            async for chunk in stream:
                await stream.send_data(chunk)
            await stream.send_trailers(await stream.recv_trailers() or {"x": "y"})
        elif way == 1:
            await stream.read(-1)
        else:
            await stream.send_data(_BODY, end_stream=True)
    except (aioh2.AIOH2Exception, asyncio.IncompleteReadError):
        # what a peer makes of a stream
        pass


async def _ask(client: aioh2.H2Protocol, number: int) -> None:
    """Make one of three requests, and take what comes."""
    try:
        async with client.open_stream({":method": "POST"}, end_stream=number == 0) as stream:
            if number:
                sending = stream.send_data(_BODY[: 10 ** (2 * number)], end_stream=True)
                await asyncio.gather(sending, _take(stream, number))
            else:
                await _take(stream, number)
    except (aioh2.AIOH2Exception, asyncio.IncompleteReadError):
        # what a peer makes of a stream
        pass


async def _take(stream: aioh2.H2Stream, number: int) -> None:
    while await stream.recv_informational() is not None:
        pass
    if number == 0:
        while (pushed := await stream.recv_push()) is not None:
            await pushed.recv_response()
            await pushed.read(-1)
    await (stream.read_exactly(10) if number == 1 else stream.read())
    await stream.read(-1)
    await stream.recv_trailers()


async def _work(protocol: aioh2.H2Protocol) -> None:
    """Do what an application would, until the connection ends."""
    if protocol.client_side:
        await asyncio.gather(*[_ask(protocol, number) for number in range(3)])
        await protocol.wait_closed()
    else:
        await protocol.serve(_answer)


async def _shut_down(protocol: aioh2.H2Protocol) -> None:
    await protocol.shutdown(1)


# --- one input -----------------------------------------------------------------------------


class _Errors(logging.Handler):
    """What is logged as an error is a bug: nothing here raises what it should not."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(self.format(record))


class Target:
    """Takes inputs, one after another."""

    def __init__(self) -> None:
        self.loop = ManualLoop()
        self.loop.set_exception_handler(lambda _, context: self.trouble.append(str(context)))
        # What has reached the loop's exception handler.
        self.trouble: list[str] = []
        self.errors = _Errors()
        logger = logging.getLogger("aioh2")
        logger.addHandler(self.errors)
        logger.propagate = False

    def close(self) -> None:
        """Take no more."""
        logger = logging.getLogger("aioh2")
        logger.removeHandler(self.errors)
        logger.propagate = True
        self.loop.close()

    def run(self, data: bytes) -> None:
        """Take one input; raises for whatever must not happen."""
        if len(data) < 2:
            return
        how, octets = How(data[0] & 63), data[2:LONGEST]
        piece = _PIECES[data[1] % len(_PIECES)]
        if piece < 100:
            octets = octets[:2_000]
        self.trouble.clear()
        self.errors.records.clear()
        protocol = aioh2.H2Protocol(How.CLIENT in how, config=_CONFIG, enable_push=How.PUSH in how)
        transport = _Transport(self.loop, protocol)
        tasks: list[asyncio.Task[None]] = []
        self.loop.call_soon(self._begin, how, protocol, transport, tasks)
        self.loop.run_forever()
        for at in range(0, len(octets), piece):
            if not transport.reading:
                self.loop.run_forever()
            if transport.closed or not transport.reading:
                # what comes after stays in the socket
                break
            self._feed(protocol, octets[at : at + piece])
            (self.loop.tick if piece < 100 else self.loop.run_forever)()
        self.loop.run_forever()
        self._check_size(protocol, transport, len(octets))
        self._end(how, protocol, transport, tasks)

    def _begin(
        self,
        how: How,
        protocol: aioh2.H2Protocol,
        transport: _Transport,
        tasks: list[asyncio.Task[None]],
    ) -> None:
        protocol.connection_made(transport)
        tasks.append(self.loop.create_task(_work(protocol)))
        if How.RAW not in how:
            greeting = b"" if How.CLIENT in how else PREFACE
            protocol.data_received(greeting + raw(SETTINGS) + raw(SETTINGS, ACK))
        if How.DRAINING in how:
            self.loop.call_later(
                0, lambda: tasks.append(self.loop.create_task(_shut_down(protocol)))
            )
        if How.PAUSED in how:
            protocol.pause_writing()

    def _feed(self, protocol: aioh2.H2Protocol, data: bytes) -> None:
        # in the loop, where callbacks of a transport are
        self.loop.call_soon(self._received, protocol, data)
        self.loop.tick()

    def _received(self, protocol: aioh2.H2Protocol, data: bytes) -> None:
        try:
            protocol.data_received(data)
        except Exception as error:
            self.trouble.append(f"data_received raised {error!r}")
            raise

    def _check_size(self, protocol: aioh2.H2Protocol, transport: _Transport, received: int) -> None:
        if transport.written > FACTOR * received + UNASKED:
            raise Broken(f"{transport.written} bytes were written for {received}")
        table = protocol._driver.table
        unread = sum(s.unread for s in [*table.open.values(), *table.ended.values()])
        most = 2 * _CONFIG.concurrency * _CONFIG.initial_window_size
        if unread > most + _CONFIG.connection_window_size:
            raise Broken(f"{unread} bytes are unread")
        if received > 9 * CROWD / 2:
            for name, held in containers(protocol):
                # the frames that the transport was given are the test's own
                if len(held) > CROWD and not name.startswith("_transport"):
                    raise Broken(f"{name} holds {len(held)}")

    def _end(
        self,
        how: How,
        protocol: aioh2.H2Protocol,
        transport: _Transport,
        tasks: list[asyncio.Task[None]],
    ) -> None:
        if How.PAUSED in how and not transport.closed:
            self.loop.call_soon(protocol.resume_writing)
            self.loop.run_forever()
        if How.LOST in how:
            transport.lose(ConnectionResetError("lost"))
        else:
            tasks.append(self.loop.create_task(_shut_down(protocol)))
        self.loop.pass_time(200)
        waiting = asyncio.all_tasks(self.loop)
        for task in waiting:
            task.cancel()
        if waiting:
            self.loop.run_forever()
        found = [*self.trouble, *self.errors.records]
        found += [f"waits for ever: {task}" for task in waiting]
        found += [repr(task.exception()) for task in tasks if _has_failed(task)]
        found += [] if transport.closed else ["the connection does not end"]
        found += left_behind(protocol)
        found += ["timers are left"] if self.loop.deadlines else []
        if found:
            raise Broken("\n".join(found))


def _has_failed(task: asyncio.Task[None]) -> bool:
    return not task.cancelled() and task.exception() is not None
