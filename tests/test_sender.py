"""``Sender``: what is framed when, in which order, and never over a window."""

from __future__ import annotations

import array
import asyncio
import itertools
import unittest
from collections.abc import Awaitable
from typing import Any

from h2.errors import ErrorCodes
from hyperframe.frame import (
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
)
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import aioh2
from aioh2 import SettingCodes
from aioh2.sender import Sender

from .wire import POST, REQUEST, RESPONSE, Case, Peer, SkippingLoop, settle, skip

TRAILERS = [("t", "u")]
#: What a connection may send at the beginning (RFC 9113 section 6.9.2).
CONNECTION_WINDOW = 65_535


class SenderCase(Case):
    """A client with open requests 1, 3, ..., that sends to a scripted server."""

    async def now(self, awaitable: Awaitable[Any]) -> Any:
        """Return what comes without another word of the peer; what would wait fails."""
        task = asyncio.ensure_future(awaitable)
        self.addCleanup(task.cancel)
        await settle()
        self.assertTrue(task.done(), "it still waits")
        return task.result()

    async def connect(
        self, streams: int = 1, *, window: int = 65_535, connection: int = CONNECTION_WINDOW
    ) -> tuple[Peer, list[aioh2.H2Stream]]:
        """Return a client whose streams and connection have these windows."""
        settings: dict[int, int] = {SettingCodes.INITIAL_WINDOW_SIZE: window}
        burn = max(0, CONNECTION_WINDOW - connection)
        if burn:
            settings[SettingCodes.INITIAL_WINDOW_SIZE] = CONNECTION_WINDOW
        peer = await Peer.of_client(settings=settings)
        if burn:
            await peer.protocol.send_data(await peer.protocol.start_request(POST), bytes(burn))
            peer.send(SettingsFrame(settings={SettingCodes.INITIAL_WINDOW_SIZE: window}))
        elif connection > CONNECTION_WINDOW:
            peer.window(0, connection - CONNECTION_WINDOW)
        opened = [await peer.protocol.open_stream(POST) for _ in range(streams)]
        await peer.frames()
        return peer, opened

    async def sent(self, peer: Peer) -> list[tuple[bytes, bool]]:
        """Return DATA since the last call, and whether it ends the stream."""
        frames = await peer.frames(DataFrame)
        return [(frame.data, "END_STREAM" in frame.flags) for frame in frames]

    async def lengths(self, peer: Peer) -> list[int]:
        return [len(data) for data, _ in await self.sent(peer)]

    async def order(self, peer: Peer) -> list[int]:
        """Return the streams of the DATA frames since the last call."""
        return [frame.stream_id for frame in await peer.frames(DataFrame)]

    def pause_at_write(self, peer: Peer) -> None:
        """Let the transport be full with its next write."""
        write = peer.transport.write

        def pause(data: bytes) -> None:
            write(data)
            del peer.transport.write
            peer.protocol.pause_writing()

        peer.transport.write = pause  # type: ignore[method-assign]


class TestFastPath(SenderCase):
    async def test_does_not_wait(self) -> None:
        peer, (stream,) = await self.connect()
        call = stream.send_data(b"abc")
        with self.assertRaises(StopIteration):
            call.send(None)
        self.assertEqual(await self.sent(peer), [(b"abc", False)])

    async def test_one_write_for_all_of_a_tick(self) -> None:
        peer, streams = await self.connect(3)
        writes = peer.transport.writes
        for stream in streams:
            for data in (b"abc", b"def"):
                await stream.send_data(data)
            await stream.end()
        self.assertEqual(peer.transport.writes, writes)
        await settle()
        self.assertEqual(peer.transport.writes, writes + 1)

    async def test_frames_of_the_largest_size(self) -> None:
        peer, (stream,) = await self.connect()
        await stream.send_data(bytes(40_000), end_stream=True)
        frames = await peer.frames(DataFrame)
        self.assertEqual([len(frame.data) for frame in frames], [16_384, 16_384, 7_232])
        self.assertEqual([bool(frame.flags) for frame in frames], [False, False, True])

    async def test_exactly_the_largest_size(self) -> None:
        peer, (stream,) = await self.connect()
        await stream.send_data(bytes(32_768), end_stream=True)
        self.assertEqual(await self.lengths(peer), [16_384, 16_384])

    async def test_frame_size_of_the_settings(self) -> None:
        peer, (stream,) = await self.connect()
        peer.send(SettingsFrame(settings={SettingCodes.MAX_FRAME_SIZE: 20_000}))
        await stream.send_data(bytes(40_001))
        self.assertEqual(await self.lengths(peer), [20_000, 20_000, 1])

    async def test_exactly_the_window(self) -> None:
        peer, (stream,) = await self.connect(window=100)
        await self.now(stream.send_data(bytes(100), end_stream=True))
        self.assertEqual(await self.sent(peer), [(bytes(100), True)])

    async def test_bounded(self) -> None:
        """One that sends without ever waiting is held after the shares of one tick."""
        peer, (stream,) = await self.connect(window=1_000_000, connection=1_000_000)
        count = 0
        while True:
            call = stream.send_data(bytes(10_000))
            try:
                call.send(None)
            except StopIteration:
                count += 1
                continue
            break
        a_share = Sender.SHARE // 10_000
        self.assertEqual(count, a_share * (Sender.SHARES + 1))
        call.close()
        self.assertLessEqual(sum(await self.lengths(peer)), 10_000 * (count + 1))

    async def test_not_past_others_that_wait(self) -> None:
        peer, (first, second) = await self.connect(2, connection=100)
        waits = await self.waiting(first.send_data(bytes(300)))
        task = await self.waiting(second.send_data(bytes(10)))
        peer.window(0, 1000)
        await self.now(asyncio.gather(waits, task))
        self.assertEqual(await self.order(peer), [3, 3, 5])

    async def test_not_past_what_waits_on_its_own_stream(self) -> None:
        peer, (stream,) = await self.connect(window=1_000_000, connection=1_000_000)
        first = asyncio.ensure_future(stream.send_data(b"a" * 300_000))
        await settle(2)
        self.assertFalse(first.done())
        await self.now(stream.send_data(b"b"))
        data = b"".join(data for data, _ in await self.sent(peer))
        self.assertEqual(data, b"a" * 300_000 + b"b")

    async def test_large_body_waits_for_its_turns(self) -> None:
        peer, (stream,) = await self.connect(window=1_000_000, connection=1_000_000)
        await self.now(stream.send_data(bytes(Sender.SHARE + 1), end_stream=True))
        lengths = await self.lengths(peer)
        self.assertEqual(sum(lengths), Sender.SHARE + 1)


class TestFrameSizes(SenderCase):
    async def test_least_of_all_limits(self) -> None:
        for window, connection, data, expected in (
            (50, 65_535, 40, [40]),
            (50, 65_535, 50, [50]),
            (50, 65_535, 60, [50]),
            (60_000, 30, 40, [30]),
            (60_000, 20_000, 60_000, [16_384, 3_616]),
            (20_000, 65_535, 60_000, [16_384, 3_616]),
            (16_384, 65_535, 60_000, [16_384]),
            (20, 30, 40, [20]),
            (30, 20, 40, [20]),
            (0, 65_535, 40, []),
            (50, 0, 40, []),
            (0, 0, 40, []),
        ):
            with self.subTest(window=window, connection=connection, data=data):
                peer, (stream,) = await self.connect(window=window, connection=connection)
                task = asyncio.ensure_future(stream.send_data(bytes(data)))
                await settle()
                self.assertEqual(await self.lengths(peer), expected)
                self.assertIs(task.done(), sum(expected) == data)
                peer.window(0, 100_000)
                peer.window(stream.id, 100_000)
                await self.now(task)
                self.assertEqual(sum(await self.lengths(peer)), data - sum(expected))

    async def test_larger_frames(self) -> None:
        """A frame is never more than the share of one write, whatever the peer takes."""
        for limit, largest in ((16_384, 16_384), (30_000, 30_000), (2**24 - 1, Sender.SHARE)):
            with self.subTest(limit):
                peer, (stream,) = await self.connect(window=300_000, connection=300_000)
                peer.send(SettingsFrame(settings={SettingCodes.MAX_FRAME_SIZE: limit}))
                await self.now(stream.send_data(bytes(200_000)))
                lengths = await self.lengths(peer)
                self.assertEqual(max(lengths), largest)
                self.assertEqual(sum(lengths), 200_000)


class TestWindows(SenderCase):
    async def test_opened_in_pieces(self) -> None:
        peer, (stream,) = await self.connect(window=0)
        task = await self.waiting(stream.send_data(b"abcdefghij", end_stream=True))
        for increment, expected in ((1, b"a"), (3, b"bcd"), (5, b"efghi"), (100, b"j")):
            self.assertFalse(task.done())
            peer.window(1, increment)
            self.assertEqual(await self.sent(peer), [(expected, increment == 100)])
        await self.now(task)

    async def test_stream_window_alone_is_not_enough(self) -> None:
        peer, (stream,) = await self.connect(window=10, connection=0)
        task = await self.waiting(stream.send_data(b"abc"))
        peer.window(stream.id, 100)
        self.assertEqual(await self.sent(peer), [])
        peer.window(0, 2)
        self.assertEqual(await self.sent(peer), [(b"ab", False)])
        self.assertFalse(task.done())
        peer.window(0, 2)
        await self.now(task)

    async def test_connection_window_alone_is_not_enough(self) -> None:
        peer, (stream,) = await self.connect(window=0)
        await self.waiting(stream.send_data(b"abc"))
        peer.window(0, 100)
        self.assertEqual(await self.sent(peer), [])

    async def test_connection_window_is_shared(self) -> None:
        peer, streams = await self.connect(3, connection=0)
        tasks = [await self.waiting(stream.send_data(bytes(10))) for stream in streams]
        peer.window(0, 25)
        self.assertEqual(await self.order(peer), [3, 5, 7])
        self.assertEqual([task.done() for task in tasks], [True, True, False])
        peer.window(0, 5)
        self.assertEqual(await self.order(peer), [7])
        await self.now(tasks[2])

    async def test_window_of_a_stream_that_sends_nothing(self) -> None:
        peer, (first, second) = await self.connect(2, window=0)
        await self.waiting(first.send_data(b"abc"))
        peer.window(second.id, 100)
        self.assertEqual(await self.sent(peer), [])
        await self.now(second.send_data(b"def"))
        self.assertEqual(await self.order(peer), [second.id])

    async def test_settings_open_every_window(self) -> None:
        peer, streams = await self.connect(3, window=0)
        tasks = [await self.waiting(stream.send_data(b"abc")) for stream in streams]
        peer.send(SettingsFrame(settings={SettingCodes.INITIAL_WINDOW_SIZE: 2}))
        self.assertEqual(await self.sent(peer), [(b"ab", False)] * 3)
        peer.send(SettingsFrame(settings={SettingCodes.INITIAL_WINDOW_SIZE: 3}))
        self.assertEqual(await self.sent(peer), [(b"c", False)] * 3)
        await self.now(asyncio.gather(*tasks))

    async def test_other_settings_change_no_window(self) -> None:
        peer, (stream,) = await self.connect(window=0)
        await self.waiting(stream.send_data(b"abc"))
        peer.send(SettingsFrame(settings={SettingCodes.MAX_CONCURRENT_STREAMS: 5}))
        self.assertEqual(await self.sent(peer), [])

    async def test_negative_windows(self) -> None:
        """RFC 9113 section 6.9.2: what was sent counts against a smaller window."""
        peer, (stream,) = await self.connect(window=10)
        await stream.send_data(bytes(8))
        await settle()
        peer.send(SettingsFrame(settings={SettingCodes.INITIAL_WINDOW_SIZE: 3}))
        await peer.frames()
        task = await self.waiting(stream.send_data(b"abc"))
        for increment in (1, 4):
            peer.window(1, increment)
            self.assertEqual(await self.sent(peer), [])
        peer.window(1, 1)
        self.assertEqual(await self.sent(peer), [(b"a", False)])
        peer.send(SettingsFrame(settings={SettingCodes.INITIAL_WINDOW_SIZE: 10}))
        self.assertEqual(await self.sent(peer), [(b"bc", False)])
        await self.now(task)

    async def test_window_that_is_taken_back_before_it_is_used(self) -> None:
        """Opened and closed in one segment."""
        peer, (stream,) = await self.connect(window=0)
        task = await self.waiting(stream.send_data(b"abc"))
        peer.send(
            SettingsFrame(settings={SettingCodes.INITIAL_WINDOW_SIZE: 100}),
            SettingsFrame(settings={SettingCodes.INITIAL_WINDOW_SIZE: 0}),
        )
        self.assertEqual(await self.sent(peer), [])
        peer.window(1, 3)
        await self.now(task)

    async def test_window_that_is_taken_back_in_the_next_segment(self) -> None:
        peer, (first, second) = await self.connect(2, window=0)
        tasks = [await self.waiting(each.send_data(b"abc")) for each in (first, second)]
        peer.send(SettingsFrame(settings={SettingCodes.INITIAL_WINDOW_SIZE: 100}))
        peer.send(SettingsFrame(settings={SettingCodes.INITIAL_WINDOW_SIZE: 0}))
        self.assertEqual(await self.sent(peer), [])
        peer.window(first.id, 3)
        await self.now(tasks[0])
        self.assertFalse(tasks[1].done())

    async def test_settings_and_the_end_of_a_stream_in_one_segment(self) -> None:
        """The window is told before the reset, and the stream is gone already."""
        peer = await Peer.of_server(settings={SettingCodes.INITIAL_WINDOW_SIZE: 0})
        peer.request(1)
        stream = await anext(peer.protocol)
        await stream.start_response(RESPONSE)
        task = await self.waiting(stream.send_data(b"abc"))
        peer.send(
            SettingsFrame(settings={SettingCodes.INITIAL_WINDOW_SIZE: 100}),
            RstStreamFrame(1, ErrorCodes.CANCEL),
            peer.headers(3, REQUEST, "END_STREAM"),
        )
        with self.assertRaises(aioh2.SendException):
            await self.now(task)
        self.assertEqual(await self.sent(peer), [])

    async def test_end_needs_no_window(self) -> None:
        peer, streams = await self.connect(3, window=0, connection=0)
        await self.now(streams[0].end())
        await self.now(streams[1].send_data(b"", end_stream=True))
        await self.now(streams[2].send_trailers(TRAILERS))
        data = await peer.frames(DataFrame, HeadersFrame)
        self.assertTrue(all("END_STREAM" in frame.flags for frame in data))
        self.assertEqual([frame.stream_id for frame in data], [3, 5, 7])


class TestTransport(SenderCase):
    async def test_nothing_while_it_is_full(self) -> None:
        peer, (stream,) = await self.connect()
        peer.protocol.pause_writing()
        task = await self.waiting(stream.send_data(b"abc", end_stream=True))
        self.assertEqual(await self.sent(peer), [])
        peer.window(0, 100)
        peer.window(1, 100)
        self.assertEqual(await self.sent(peer), [])
        peer.protocol.resume_writing()
        await self.now(task)
        self.assertEqual(await self.sent(peer), [(b"abc", True)])

    async def test_other_frames_go_while_it_is_full(self) -> None:
        peer, (stream,) = await self.connect()
        peer.protocol.pause_writing()
        await self.waiting(stream.send_data(b"abc"))
        peer.send(PingFrame(0, b"12345678"))
        (pong,) = await peer.frames()
        self.assertIsInstance(pong, PingFrame)

    async def test_framed_and_not_taken(self) -> None:
        """Who has sent is held until the transport takes writes again."""
        peer, (stream,) = await self.connect(window=0)
        task = await self.waiting(stream.send_data(b"abc"))
        self.pause_at_write(peer)
        peer.window(1, 100)
        self.assertEqual(await self.sent(peer), [(b"abc", False)])
        self.assertFalse(task.done())
        self.assertEqual(peer.protocol.stream(1).blocked_on, "transport")
        peer.protocol.resume_writing()
        await self.now(task)
        self.assertIsNone(peer.protocol.stream(1).blocked_on)

    async def test_framed_and_not_taken_and_cancelled(self) -> None:
        peer, (first, second) = await self.connect(2, window=0)
        tasks = [await self.waiting(stream.send_data(b"abc")) for stream in (first, second)]
        self.pause_at_write(peer)
        peer.send(SettingsFrame(settings={SettingCodes.INITIAL_WINDOW_SIZE: 100}))
        await settle()
        tasks[0].cancel()
        await settle()
        self.assertEqual([task.done() for task in tasks], [True, False])
        peer.protocol.resume_writing()
        await self.now(tasks[1])
        self.assertEqual(len(await self.sent(peer)), 2)

    async def test_framed_and_not_taken_and_reset(self) -> None:
        """One stream's end is nothing to the other."""
        peer, (first, second) = await self.connect(2, window=0)
        tasks = [await self.waiting(stream.send_data(b"abc")) for stream in (first, second)]
        self.pause_at_write(peer)
        peer.send(SettingsFrame(settings={SettingCodes.INITIAL_WINDOW_SIZE: 100}))
        await settle()
        peer.reset(1)
        with self.assertRaises(aioh2.SendException) as caught:
            await self.now(tasks[0])
        self.assertEqual(caught.exception.data, b"")
        self.assertIsNone(peer.protocol.stream(1).blocked_on)
        self.assertEqual(peer.protocol.stream(3).blocked_on, "transport")
        self.assertFalse(tasks[1].done())
        peer.protocol.resume_writing()
        await self.now(tasks[1])

    async def test_full_in_the_middle_of_a_body(self) -> None:
        peer, (stream,) = await self.connect(window=1_000_000, connection=1_000_000)
        self.pause_at_write(peer)
        task = await self.waiting(stream.send_data(bytes(500_000)))
        part = sum(await self.lengths(peer))
        self.assertGreater(part, 0)
        self.assertLess(part, 2 * Sender.SHARE)
        self.assertEqual(stream.blocked_on, "transport")
        peer.protocol.resume_writing()
        await self.now(task)
        self.assertEqual(part + sum(await self.lengths(peer)), 500_000)

    async def test_released_with_the_write(self) -> None:
        """Not before what was framed is with the transport."""
        peer, (stream,) = await self.connect(window=0)
        written = []
        task = await self.waiting(stream.send_data(b"abc"))
        task.add_done_callback(lambda task: written.append(b"abc" in peer.transport.written))
        peer.window(1, 100)
        await self.now(task)
        self.assertEqual(written, [True])

    async def test_framed_and_not_taken_and_lost(self) -> None:
        """The calls end, also that on a stream which is complete."""
        peer, streams = await self.connect(2, window=0)
        tasks = [
            await self.waiting(streams[0].send_data(b"abc", end_stream=True)),
            await self.waiting(streams[1].send_data(b"abc")),
            await self.waiting(streams[1].end()),
        ]
        peer.respond(1, end=True)
        self.pause_at_write(peer)
        peer.send(SettingsFrame(settings={SettingCodes.INITIAL_WINDOW_SIZE: 100}))
        await settle()
        tasks[1].cancel()
        peer.lose()
        await settle()
        self.assertTrue(all(task.done() for task in tasks), tasks)
        self.assertIsInstance(tasks[0].exception(), aioh2.SendException)
        self.assertTrue(tasks[1].cancelled())
        self.assertIsInstance(tasks[2].exception(), aioh2.ConnectionClosed)


class TestBlockedOn(SenderCase):
    async def test_nothing(self) -> None:
        peer, (stream,) = await self.connect()
        self.assertIsNone(peer.protocol.stream(1).blocked_on)
        await stream.send_data(b"abc")
        self.assertIsNone(peer.protocol.stream(1).blocked_on)

    async def test_what_opens_last(self) -> None:
        """The transport is said before the connection's window, and that before the stream's."""
        peer, (stream,) = await self.connect(window=0, connection=0)
        peer.protocol.pause_writing()
        task = await self.waiting(stream.send_data(b"abc"))
        self.assertEqual(stream.blocked_on, "transport")
        peer.protocol.resume_writing()
        self.assertEqual(stream.blocked_on, "connection window")
        peer.window(0, 100)
        self.assertEqual(stream.blocked_on, "stream window")
        peer.window(stream.id, 100)
        self.assertIsNone(stream.blocked_on)
        await self.now(task)
        self.assertIsNone(stream.blocked_on)

    async def test_another_streams_wait(self) -> None:
        peer, (first, second) = await self.connect(2, window=0)
        await self.waiting(first.send_data(b"abc"))
        self.assertEqual(peer.protocol.stream(first.id).blocked_on, "stream window")
        self.assertIsNone(peer.protocol.stream(second.id).blocked_on)
        self.assertTrue(peer.protocol._driver.sender.has_queued(first.id))
        self.assertFalse(peer.protocol._driver.sender.has_queued(second.id))


class TestWindowTimeout(SenderCase):
    """``window_timeout`` runs as long as data waits, and begins anew with each frame."""

    loop_factory = SkippingLoop

    async def limited(self) -> tuple[Peer, aioh2.H2Stream]:
        settings: dict[int, int] = {SettingCodes.INITIAL_WINDOW_SIZE: 0}
        peer = await Peer.of_client(settings=settings, window_timeout=5)
        return peer, await peer.protocol.open_stream(POST)

    async def test_no_window(self) -> None:
        peer, stream = await self.limited()
        task = await self.waiting(stream.send_data(b"abc"))
        await skip(4)
        self.assertFalse(task.done())
        await skip(2)
        with self.assertRaisesRegex(aioh2.SendException, "blocked on stream window for 5 s") as got:
            await self.now(task)
        self.assertEqual(got.exception.data, b"abc")
        self.assertEqual(len(await peer.frames(RstStreamFrame)), 1)

    async def test_each_frame_is_progress(self) -> None:
        peer, stream = await self.limited()
        task = await self.waiting(stream.send_data(b"abc"))
        for _ in range(2):
            await skip(4)
            peer.window(1, 1)
            await settle()
        await skip(4)
        self.assertFalse(task.done())
        await skip(2)
        with self.assertRaises(aioh2.SendException) as caught:
            await self.now(task)
        self.assertEqual(caught.exception.data, b"c")

    async def test_all_sent(self) -> None:
        peer, stream = await self.limited()
        task = await self.waiting(stream.send_data(b"abc"))
        peer.window(1, 3)
        await self.now(task)
        await skip(6)
        self.assertIsNone(stream.failure)

    async def test_withdrawn(self) -> None:
        _, stream = await self.limited()
        task = await self.waiting(stream.send_data(b"abc"))
        task.cancel()
        await skip(4)
        task = await self.waiting(stream.send_data(b"abc"))
        await skip(4)
        self.assertFalse(task.done())


class TestEmptyEnd(SenderCase):
    async def test_each_call_raises_what_it_says(self) -> None:
        """``send_data`` raises SendException, also with nothing to send; ``end`` why it ended."""
        for end in (False, True):
            peer, (stream,) = await self.connect(window=0)
            body = await self.waiting(stream.send_data(b"abc"))
            call = stream.end() if end else stream.send_data(b"", end_stream=True)
            last = await self.waiting(call)
            peer.reset(stream.id)
            await settle()
            self.assertIsInstance(body.exception(), aioh2.SendException)
            error = last.exception()
            if end:
                self.assertIsInstance(error, aioh2.StreamReset)
            else:
                assert isinstance(error, aioh2.SendException)
                self.assertEqual(error.data, b"")
                self.assertIsInstance(error.__cause__, aioh2.StreamReset)


class TestBoundedOutput(SenderCase):
    BODY = 1_000_000

    async def test_a_few_writes_a_tick_of_bounded_size(self) -> None:
        peer, streams = await self.connect(2, window=self.BODY, connection=2 * self.BODY)
        sizes: list[int] = []
        write = peer.transport.write

        def note(data: bytes) -> None:
            sizes.append(len(data))
            write(data)

        peer.transport.write = note  # type: ignore[method-assign]
        tasks = [asyncio.ensure_future(each.send_data(bytes(self.BODY))) for each in streams]
        ticks = 0
        while not all(task.done() for task in tasks):
            count = len(sizes)
            await asyncio.sleep(0)
            ticks += 1
            self.assertLessEqual(len(sizes) - count, Sender.SHARES)
            self.assertLess(ticks, 200)
        self.assertLess(max(sizes), Sender.SHARE + 16_384 + Sender.SLACK)
        # and none is much smaller, or they would be too many
        self.assertLessEqual(len(sizes), 2 * self.BODY // Sender.SHARE + 2)
        self.assertEqual(sum(await self.lengths(peer)), 2 * self.BODY)

    async def test_other_frames_do_not_wait_for_a_large_body(self) -> None:
        peer, (stream,) = await self.connect(window=self.BODY, connection=self.BODY)
        task = asyncio.ensure_future(stream.send_data(bytes(self.BODY)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        peer.send(PingFrame(0, b"12345678"))
        await self.now(task)
        frames = await peer.frames()
        (at,) = [at for at, frame in enumerate(frames) if isinstance(frame, PingFrame)]
        before = sum(len(frame.data) for frame in frames[:at])
        self.assertLess(before, 3 * Sender.SHARES * Sender.SHARE)

    async def test_one_write_for_all_that_is_small(self) -> None:
        peer, streams = await self.connect(10, window=10_000, connection=100_000)
        sizes: list[int] = []
        peer.transport.write = lambda data: sizes.append(len(data))  # type: ignore[method-assign]
        for stream in streams:
            await stream.send_data(bytes(5_000))
        await settle(3)
        self.assertEqual(len(sizes), 1)

    async def test_a_transport_that_pauses_gets_no_further_share(self) -> None:
        peer, (stream,) = await self.connect(window=self.BODY, connection=self.BODY)
        sizes: list[int] = []

        def pause(data: bytes) -> None:
            sizes.append(len(data))
            peer.protocol.pause_writing()

        peer.transport.write = pause  # type: ignore[method-assign]
        await self.waiting(stream.send_data(bytes(self.BODY)))
        await settle(5)
        self.assertEqual(len(sizes), 1)
        peer.protocol.resume_writing()
        await settle(5)
        self.assertEqual(len(sizes), 2)
        self.assertLess(max(sizes), Sender.SHARE + 16_384 + Sender.SLACK)

    async def test_bytes_arrive_as_they_were(self) -> None:
        body = array.array("I", range(100_000))
        for data in (body, bytearray(body.tobytes()), memoryview(body), body.tobytes()):
            peer, (stream,) = await self.connect(window=self.BODY, connection=self.BODY)
            await self.now(stream.send_data(data, end_stream=True))
            got = await self.sent(peer)
            self.assertEqual(b"".join(data for data, _ in got), body.tobytes())
            self.assertEqual([end for _, end in got], [False] * (len(got) - 1) + [True])


class TestOrder(SenderCase):
    async def test_round_robin(self) -> None:
        peer, streams = await self.connect(3, window=1_000_000, connection=0)
        for stream in streams:
            await self.waiting(stream.send_data(bytes(100_000)))
        peer.window(0, 1_000_000)
        order = await self.order(peer)
        self.assertEqual(len(order), 21)
        self.assertEqual(order, [3, 5, 7] * 7)

    async def test_round_robin_goes_on_over_ticks_and_windows(self) -> None:
        peer, streams = await self.connect(3, window=1_000_000, connection=0)
        for stream in streams:
            await self.waiting(stream.send_data(bytes(100_000)))
        order = []
        for _ in range(8):
            peer.window(0, 16_384)
            order += await self.order(peer)
        self.assertEqual(order, [3, 5, 7, 3, 5, 7, 3, 5])

    async def test_newcomer_does_not_wait_for_large_bodies(self) -> None:
        peer, (large, small) = await self.connect(2, window=10_000_000, connection=10_000_000)
        first = asyncio.ensure_future(large.send_data(bytes(4_000_000)))
        await settle(3)
        before = 0

        async def send() -> None:
            nonlocal before
            before = len(peer.transport.written)
            await small.send_data(b"abc")

        second = asyncio.ensure_future(send())
        await settle(4)
        self.assertEqual([first.done(), second.done()], [False, True])
        # after no more than what was framed already
        at = bytes(peer.transport.written).index(b"abc", before)
        self.assertLess(at - before, Sender.SHARE + Sender.SLACK + 16_384)
        await settle(100)
        self.assertTrue(first.done())

    async def test_stream_without_window_is_passed_over(self) -> None:
        peer, streams = await self.connect(3, window=0, connection=200_000)
        for stream in streams:
            await self.waiting(stream.send_data(bytes(40_000)))
        for stream in (streams[0], streams[2]):
            peer.window(stream.id, 40_000)
        self.assertEqual(await self.order(peer), [1, 5, 1, 5, 1, 5])
        peer.window(streams[1].id, 40_000)
        self.assertEqual(await self.order(peer), [3, 3, 3])

    async def weighted(self, *frames: PriorityFrame) -> list[int]:
        """Return whose DATA a server sends, of streams 1, 3 and 5, after PRIORITY."""
        peer = await Peer.of_server(settings={SettingCodes.INITIAL_WINDOW_SIZE: 10_000_000})
        for stream_id in (1, 3, 5):
            peer.request(stream_id)
        streams = [await anext(peer.protocol) for _ in range(3)]
        for stream in streams:
            await stream.start_response(RESPONSE)
        peer.protocol.pause_writing()
        for stream in streams:
            await self.waiting(stream.send_data(bytes(320_000), end_stream=True))
        peer.window(0, 10_000_000)
        peer.send(*frames)
        await peer.frames()
        peer.protocol.resume_writing()
        await settle(100)
        return await self.order(peer)

    async def test_no_priority(self) -> None:
        self.assertEqual((await self.weighted())[:30], [1, 3, 5] * 10)

    async def test_weights(self) -> None:
        """RFC 7540 section 5.3.2: siblings share in proportion to their weights."""
        order = await self.weighted(
            PriorityFrame(1, 0, stream_weight=59),
            PriorityFrame(3, 0, stream_weight=29),
            PriorityFrame(5, 0, stream_weight=9),
        )
        first = order[:30]
        counts = [first.count(stream_id) for stream_id in (1, 3, 5)]
        for count, expected in zip(counts, (18, 9, 3), strict=True):
            self.assertAlmostEqual(count, expected, delta=1)

    async def test_dependency(self) -> None:
        """RFC 7540 section 5.3.1: what depends on a stream comes after it."""
        order = await self.weighted(
            PriorityFrame(1, 5, stream_weight=15), PriorityFrame(3, 1, stream_weight=15)
        )
        self.assertEqual([each for each, _ in itertools.groupby(order)], [5, 1, 3])

    async def test_blocked_streams_do_not_hold_what_depends_on_them(self) -> None:
        peer = await Peer.of_server(settings={SettingCodes.INITIAL_WINDOW_SIZE: 0})
        for stream_id in (1, 3):
            peer.request(stream_id)
            stream = await anext(peer.protocol)
            await stream.start_response(RESPONSE)
            await self.waiting(stream.send_data(bytes(10)))
        peer.send(PriorityFrame(3, 1, stream_weight=15))
        peer.window(3, 10)
        self.assertEqual(await self.order(peer), [3])
        peer.window(1, 10)
        self.assertEqual(await self.order(peer), [1])

    async def test_of_this_side(self) -> None:
        peer, streams = await self.connect(2, window=0)
        tasks = [await self.waiting(stream.send_data(bytes(20_000))) for stream in streams]
        peer.protocol.reprioritize(1, depends_on=3)
        peer.protocol.pause_writing()
        peer.send(SettingsFrame(settings={SettingCodes.INITIAL_WINDOW_SIZE: 20_000}))
        await settle()
        peer.protocol.resume_writing()
        await self.now(asyncio.gather(*tasks))
        self.assertEqual(await self.order(peer), [3, 3, 1, 1])


class TestEnd(SenderCase):
    async def test_on_the_last_frame(self) -> None:
        """Not in a frame of its own, whether it was asked for with the data or behind it."""
        peer, streams = await self.connect(2, window=0)
        tasks = [
            await self.waiting(streams[0].send_data(b"abc", end_stream=True)),
            await self.waiting(streams[1].send_data(b"abc")),
            await self.waiting(streams[1].end()),
        ]
        for stream in streams:
            peer.window(stream.id, 2)
            self.assertEqual(await self.sent(peer), [(b"ab", False)])
            peer.window(stream.id, 1)
            self.assertEqual(await self.sent(peer), [(b"c", True)])
        await self.now(asyncio.gather(*tasks))

    async def test_window_for_exactly_the_data(self) -> None:
        """The end goes with the last byte, or the stream would wait for ever."""
        peer, (stream,) = await self.connect(window=0)
        task = await self.waiting(stream.send_data(b"abc", end_stream=True))
        peer.window(1, 3)
        await self.now(task)
        self.assertEqual(await self.sent(peer), [(b"abc", True)])

    async def test_behind_all_data(self) -> None:
        peer, (stream,) = await self.connect(window=0)
        tasks = [await self.waiting(stream.send_data(data)) for data in (b"abc", b"def")]
        tasks.append(await self.waiting(stream.end()))
        peer.window(1, 4)
        self.assertEqual(await self.sent(peer), [(b"abc", False), (b"d", False)])
        self.assertEqual([task.done() for task in tasks], [True, False, False])
        peer.window(1, 4)
        self.assertEqual(await self.sent(peer), [(b"ef", True)])
        await self.now(asyncio.gather(*tasks))

    async def test_data_that_ends_behind_data(self) -> None:
        peer, (stream,) = await self.connect(window=0)
        tasks = [await self.waiting(stream.send_data(b"abc"))]
        tasks.append(await self.waiting(stream.send_data(b"def", end_stream=True)))
        peer.window(1, 100)
        self.assertEqual(await self.sent(peer), [(b"abc", False), (b"def", True)])
        await self.now(asyncio.gather(*tasks))

    async def test_empty_data_that_ends_behind_data(self) -> None:
        peer, (stream,) = await self.connect(window=0)
        tasks = [await self.waiting(stream.send_data(b"abc"))]
        tasks.append(await self.waiting(stream.send_data(b"", end_stream=True)))
        peer.window(1, 100)
        self.assertEqual(await self.sent(peer), [(b"abc", True)])
        await self.now(asyncio.gather(*tasks))

    async def test_empty_data_behind_data(self) -> None:
        """There is nothing to wait for."""
        peer, (stream,) = await self.connect(window=0)
        await self.waiting(stream.send_data(b"abc"))
        await self.now(stream.send_data(b""))
        peer.window(1, 100)
        self.assertEqual(await self.sent(peer), [(b"abc", False)])

    async def test_after_the_data(self) -> None:
        peer, (stream,) = await self.connect()
        await self.now(stream.send_data(b"abc"))
        self.assertEqual(await self.sent(peer), [(b"abc", False)])
        await self.now(stream.end())
        self.assertEqual(await self.sent(peer), [(b"", True)])

    async def test_trailers_behind_data(self) -> None:
        peer, (stream,) = await self.connect(window=0)
        tasks = [await self.waiting(stream.send_data(b"abcdef"))]
        tasks.append(await self.waiting(stream.send_trailers(TRAILERS)))
        peer.window(1, 3)
        self.assertEqual(await self.sent(peer), [(b"abc", False)])
        peer.window(1, 3)
        data, trailers = await peer.frames()
        self.assertEqual((data.data, data.flags), (b"def", set()))
        self.assertEqual(trailers.headers, TRAILERS)
        self.assertIn("END_STREAM", trailers.flags)
        await self.now(asyncio.gather(*tasks))

    async def test_empty_trailers_behind_data(self) -> None:
        peer, (stream,) = await self.connect(window=0)
        tasks = [await self.waiting(stream.send_data(b"abc"))]
        tasks.append(await self.waiting(stream.send_trailers({})))
        peer.window(1, 3)
        self.assertEqual(await self.sent(peer), [(b"abc", True)])
        await self.now(asyncio.gather(*tasks))


class TestWithdrawn(SenderCase):
    """A cancelled call takes back what is not framed, and nothing else."""

    async def queue(self, window: int = 0) -> tuple[Peer, Any, list[asyncio.Task[Any]]]:
        """Return a stream with three calls that wait: abc, def, and the end."""
        peer, (stream,) = await self.connect(window=window)
        tasks = [await self.waiting(stream.send_data(data)) for data in (b"abc", b"def")]
        tasks.append(await self.waiting(stream.end()))
        return peer, stream, tasks

    async def test_each_of_three(self) -> None:
        for cancelled, expected in (
            ([], [(b"abc", False), (b"def", True)]),
            ([0], [(b"def", True)]),
            ([1], [(b"abc", True)]),
            ([2], [(b"abc", False), (b"def", False)]),
            ([0, 1], [(b"", True)]),
            ([1, 0], [(b"", True)]),
            ([0, 2], [(b"def", False)]),
            ([2, 1], [(b"abc", False)]),
            ([0, 1, 2], [(b"", True)]),
            ([2, 1, 0], []),
        ):
            with self.subTest(cancelled):
                peer, stream, tasks = await self.queue()
                for index in cancelled:
                    tasks[index].cancel()
                    await settle()
                peer.window(1, 100)
                self.assertEqual(await self.sent(peer), expected)
                await asyncio.wait(tasks)
                ends = any(end for _, end in expected)
                self.assertIs(stream.has_ended, ends)
                self.assertFalse(peer.protocol._driver.sender.has_queued(1))

    async def test_what_is_partly_framed(self) -> None:
        peer, _, tasks = await self.queue(window=2)
        tasks[0].cancel()
        await settle()
        peer.window(1, 100)
        self.assertEqual(await self.sent(peer), [(b"ab", False), (b"def", True)])

    async def test_trailers_whose_data_is_withdrawn(self) -> None:
        peer, (stream,) = await self.connect(window=2)
        data = await self.waiting(stream.send_data(b"abc"))
        trailers = await self.waiting(stream.send_trailers(TRAILERS))
        data.cancel()
        await self.now(trailers)
        frames = await peer.frames()
        self.assertEqual([type(frame) for frame in frames], [DataFrame, HeadersFrame])
        self.assertEqual(frames[1].headers, TRAILERS)

    async def test_all_in_one_tick(self) -> None:
        peer, _, tasks = await self.queue()
        for task in tasks:
            task.cancel()
        peer.window(1, 100)
        await asyncio.wait(tasks)
        self.assertTrue(tasks[0].cancelled() and tasks[1].cancelled())
        self.assertFalse(peer.protocol._driver.sender.has_queued(1))

    async def test_in_the_tick_in_which_the_window_opens(self) -> None:
        """Whichever comes first counts, and the wire has what the call did not take back."""
        for order, expected in (("cw", []), ("wc", [b"abc"]), ("w.c", [b"abc"])):
            with self.subTest(order):
                peer, (stream,) = await self.connect(window=0)
                task = await self.waiting(stream.send_data(b"abc"))
                for step in order:
                    if step == "c":
                        task.cancel()
                    elif step == "w":
                        peer.window(1, 100)
                    else:
                        await asyncio.sleep(0)
                await settle()
                self.assertTrue(task.cancelled())
                self.assertEqual([data for data, _ in await self.sent(peer)], expected)
                await self.now(stream.send_data(b"def"))
                self.assertEqual(await self.sent(peer), [(b"def", False)])

    async def test_in_the_tick_in_which_the_stream_is_reset(self) -> None:
        for cancelled_first in (False, True):
            peer, _, tasks = await self.queue()
            for task in tasks:
                if cancelled_first:
                    task.cancel()
            peer.reset(1)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self.assertTrue(all(task.cancelled() for task in tasks))
            self.assertFalse(peer.protocol._driver.sender.has_queued(1))

    async def test_other_streams_take_the_window(self) -> None:
        peer, (first, second) = await self.connect(2, connection=0)
        tasks = [await self.waiting(each.send_data(b"abc")) for each in (first, second)]
        tasks[0].cancel()
        await settle()
        peer.window(0, 3)
        await self.now(tasks[1])
        self.assertEqual(await self.order(peer), [second.id])


class TestDropped(SenderCase):
    async def test_each_gets_what_it_could_not_send(self) -> None:
        peer, (stream,) = await self.connect(window=2)
        tasks = [await self.waiting(stream.send_data(data)) for data in (b"abc", b"def")]
        tasks.append(await self.waiting(stream.send_trailers(TRAILERS)))
        peer.reset(1, ErrorCodes.INTERNAL_ERROR)
        await settle()
        errors = [task.exception() for task in tasks]
        self.assertEqual([getattr(error, "data", None) for error in errors], [b"c", b"def", None])
        for error in (*(error.__cause__ for error in errors[:2] if error), errors[2]):
            self.assertIsInstance(error, aioh2.StreamReset)

    async def test_others_go_on(self) -> None:
        peer, (first, second) = await self.connect(2, connection=0)
        tasks = [await self.waiting(each.send_data(b"abc")) for each in (first, second)]
        peer.reset(first.id)
        await settle()
        self.assertIsInstance(tasks[0].exception(), aioh2.SendException)
        peer.window(0, 100)
        await self.now(tasks[1])
        self.assertEqual(await self.order(peer), [second.id])


# --- any order of events -----------------------------------------------------------------------

_STEPS = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 2), st.integers(0, 300)),
    st.tuples(st.just("send"), st.integers(0, 2), st.integers(0, 40)),
    st.tuples(st.just("finish"), st.integers(0, 2), st.integers(0, 40)),
    st.tuples(st.just("end"), st.integers(0, 2), st.just(0)),
    st.tuples(st.just("trailers"), st.integers(0, 2), st.just(0)),
    st.tuples(st.just("cancel"), st.integers(0, 30), st.just(0)),
    st.tuples(st.just("cancel"), st.integers(0, 30), st.just(0)),
    st.tuples(st.just("window"), st.integers(0, 2), st.integers(1, 200)),
    st.tuples(st.just("connection"), st.just(0), st.integers(1, 300)),
    st.tuples(st.just("initial"), st.just(0), st.integers(0, 200)),
    st.tuples(st.just("pause"), st.just(0), st.just(0)),
    st.tuples(st.just("resume"), st.just(0), st.just(0)),
    st.tuples(st.just("reset"), st.integers(0, 20), st.just(0)),
    st.tuples(st.just("tick"), st.just(0), st.just(0)),
    st.tuples(st.just("tick"), st.just(0), st.just(0)),
    st.tuples(st.just("settle"), st.just(0), st.just(0)),
)


class Call:
    """One ``send_data``, or one end: its bytes are its number, again and again."""

    def __init__(self, number: int, stream: aioh2.H2Stream, size: int, ends: bool) -> None:
        self.number = number
        self.stream = stream
        self.data = bytes([number]) * size
        self.ends = ends
        self.task: asyncio.Task[None] | None = None
        # What was on the wire when it was seen to be cancelled.
        self.withdrawn_at: int | None = None


class Model:
    """What a peer knows: windows, and what came on which stream."""

    def __init__(self, peer: Peer, streams: list[aioh2.H2Stream], connection: int) -> None:
        self.peer = peer
        self.connection = connection
        self.initial = 0
        self.windows = {stream.id: 0 for stream in streams}
        self.got = {stream.id: bytearray() for stream in streams}
        self.ended: set[int] = set()
        # SETTINGS that were not acknowledged: they hold for what comes after the ACK.
        self.unacknowledged: list[int] = []
        self._read = len(peer.transport.written)

    def read(self) -> None:
        """Take what was written, frame by frame, and check it."""
        data = self.peer.transport.written
        while self._read < len(data):
            header = memoryview(bytes(data[self._read : self._read + 9]))
            frame, length = Frame.parse_frame_header(header)
            frame.parse_body(memoryview(bytes(data[self._read + 9 : self._read + 9 + length])))
            self._read += 9 + length
            self._take(frame)

    def _take(self, frame: Frame) -> None:
        if isinstance(frame, SettingsFrame) and "ACK" in frame.flags:
            initial = self.unacknowledged.pop(0)
            for stream_id in self.windows:
                self.windows[stream_id] += initial - self.initial
            self.initial = initial
        elif isinstance(frame, DataFrame):
            self._take_data(frame)
        elif isinstance(frame, HeadersFrame):
            self._end(frame.stream_id)

    def _take_data(self, frame: DataFrame) -> None:
        stream_id, length = frame.stream_id, len(frame.data)
        assert stream_id not in self.ended, "DATA after END_STREAM"
        assert length or "END_STREAM" in frame.flags, "a frame for nothing"
        if length:
            assert length <= self.windows[stream_id], "over the stream's window"
            assert length <= self.connection, "over the connection's window"
        self.windows[stream_id] -= length
        self.connection -= length
        self.got[stream_id] += frame.data
        if "END_STREAM" in frame.flags:
            self._end(stream_id)

    def _end(self, stream_id: int) -> None:
        assert stream_id not in self.ended, "END_STREAM twice"
        self.ended.add(stream_id)


class TestAnyOrder(unittest.TestCase):
    """Whatever happens in whatever order: what a call was told is what the peer got."""

    @hypothesis_settings(max_examples=120, deadline=None, database=None)
    @given(st.lists(_STEPS, max_size=60))
    def test_any_order(self, steps: list[tuple[str, int, int]]) -> None:
        asyncio.run(self.check(steps))

    async def check(self, steps: list[tuple[str, int, int]]) -> None:
        loop_errors: list[Any] = []
        loop = asyncio.get_running_loop()
        loop.set_debug(False)
        loop.set_exception_handler(lambda _, context: loop_errors.append(context))
        peer = await Peer.of_client(settings={SettingCodes.INITIAL_WINDOW_SIZE: CONNECTION_WINDOW})
        burn = await peer.protocol.start_request(POST)
        await peer.protocol.send_data(burn, bytes(CONNECTION_WINDOW - 100))
        peer.send(SettingsFrame(settings={SettingCodes.INITIAL_WINDOW_SIZE: 0}))
        streams = [await peer.protocol.open_stream(POST) for _ in range(3)]
        await settle()
        model = Model(peer, streams, 100)
        calls: list[Call] = []
        for step, which, count in steps:
            await self.take(step, which, count, model, streams, calls)
            model.read()
        await self.let_all_go(model, streams, calls)
        for call in calls:
            self.check_call(call, model)
        for stream in streams:
            self.check_stream(stream, model, [call for call in calls if call.stream is stream])
            self.assertFalse(peer.protocol._driver.sender.has_queued(stream.id))
        peer.protocol.close_connection()
        await peer.protocol.wait_closed()
        self.assertEqual(loop_errors, [])

    async def take(
        self,
        step: str,
        which: int,
        count: int,
        model: Model,
        streams: list[aioh2.H2Stream],
        calls: list[Call],
    ) -> None:
        peer = model.peer
        stream = streams[which % 3]
        if step in ("send", "finish", "end", "trailers"):
            call = Call(len(calls) + 1, stream, count, step != "send")
            if step == "end":
                coroutine = stream.end()
            elif step == "trailers":
                coroutine = stream.send_trailers(TRAILERS)
            else:
                coroutine = stream.send_data(call.data, end_stream=call.ends)
            call.task = asyncio.ensure_future(coroutine)
            calls.append(call)
        elif step == "cancel":
            pending = [call for call in calls if call.task and not call.task.done()]
            if pending:
                task = pending[which % len(pending)].task
                assert task is not None
                task.cancel()
        elif step == "window":
            model.windows[stream.id] += count
            peer.window(stream.id, count)
        elif step == "connection":
            model.connection += count
            peer.window(0, count)
        elif step == "initial":
            model.unacknowledged.append(count)
            peer.send(SettingsFrame(settings={SettingCodes.INITIAL_WINDOW_SIZE: count}))
        elif step == "pause":
            peer.protocol.pause_writing()
        elif step == "resume":
            peer.protocol.resume_writing()
        elif step == "reset" and which < 3:
            peer.reset(stream.id)
        elif step == "tick":
            await asyncio.sleep(0)
        elif step == "settle":
            await settle(6)
            model.read()
            self.note_withdrawn(model, calls)

    def note_withdrawn(self, model: Model, calls: list[Call]) -> None:
        for call in calls:
            assert call.task is not None
            if call.task.cancelled() and call.withdrawn_at is None:
                call.withdrawn_at = model.got[call.stream.id].count(call.number)

    async def let_all_go(
        self, model: Model, streams: list[aioh2.H2Stream], calls: list[Call]
    ) -> None:
        await settle(6)
        model.read()
        self.note_withdrawn(model, calls)
        model.peer.protocol.resume_writing()
        model.connection += 1_000_000
        model.peer.window(0, 1_000_000)
        for stream in streams:
            model.windows[stream.id] += 1_000_000
            model.peer.window(stream.id, 1_000_000)
        await settle()
        model.read()

    def check_call(self, call: Call, model: Model) -> None:
        assert call.task is not None
        self.assertTrue(call.task.done(), "it still waits")
        got = model.got[call.stream.id].count(call.number)
        if call.task.cancelled():
            self.assertEqual(got, call.withdrawn_at)
            return
        error = call.task.exception()
        if error is None:
            self.assertEqual(got, len(call.data))
            if call.ends:
                self.assertIn(call.stream.id, model.ended)
        elif isinstance(error, aioh2.SendException):
            self.assertEqual(error.data, call.data[got:])
        else:
            self.assertIsInstance(error, aioh2.StreamClosed | aioh2.StreamReset)
            self.assertEqual(got, 0)

    def check_stream(self, stream: aioh2.H2Stream, model: Model, calls: list[Call]) -> None:
        """Check that the pieces came in the order of the calls, each in one."""
        pieces = [number for number, _ in itertools.groupby(model.got[stream.id])]
        self.assertEqual(pieces, sorted(set(pieces)))
        self.assertLessEqual(set(pieces), {call.number for call in calls})
