"""The adaptive receive window: how fast a long path gets, and what does not make a window grow."""

from __future__ import annotations

import asyncio
import unittest
from collections import Counter
from typing import Any

from h2.events import Event, WindowUpdated
from hyperframe.frame import PingFrame, SettingsFrame, WindowUpdateFrame

import aioh2
from aioh2 import SettingCodes
from aioh2.testing import connected_pair, virtual_time

from .wire import POST, PREFACE, REQUEST, RESPONSE, Peer

MIB = 2**20
#: 100 Mbit/s in bytes a second, and 100 ms: 1.25 MB are on the way.
BANDWIDTH, RTT = 12_500_000, 0.1


class Sender(aioh2.H2Protocol):
    """Counts the credit that it gets for each stream."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.credited: Counter[int] = Counter()

    def event_received(self, event: Event) -> None:
        if isinstance(event, WindowUpdated):
            self.credited[event.stream_id or 0] += event.delta or 0
        super().event_received(event)


class Transfer:
    """One body over a link, read as it comes or slower; what it took, in virtual time."""

    def __init__(self, size: int, *, rtt: float = RTT, pause: float = 0, **options: Any) -> None:
        self.size = size
        self.rtt = rtt
        # Seconds for which the reader is busy with each chunk.
        self.pause = pause
        # Of the end that reads.
        self.options = options
        # Seconds after which half and all of it was there.
        self.half = self.whole = 0.0
        # The most that its credit has been ahead of what was read: what the window grew by, less
        # half a window at most.
        self.ahead = 0
        # Who sends.
        self.sender: Sender | None = None

    async def read(self, stream: aioh2.H2Stream) -> None:
        loop, read = asyncio.get_running_loop(), 0
        start = loop.time()
        async for chunk in stream:
            read += len(chunk)
            assert self.sender is not None
            self.ahead = max(self.ahead, self.sender.credited[stream.id] - read)
            if not self.half and 2 * read >= self.size:
                self.half = loop.time() - start
            if self.pause:
                await asyncio.sleep(self.pause)
        self.whole = loop.time() - start
        assert read == self.size, "bytes are missing"

    async def send(self, stream: aioh2.H2Stream) -> None:
        await stream.send_data(bytes(self.size), end_stream=True)

    async def down(self) -> Transfer:
        """A response, read by the client."""

        async def handler(stream: aioh2.H2Stream) -> None:
            await stream.start_response(RESPONSE)
            await self.send(stream)

        return await self._run(handler, client=self.options)

    async def up(self) -> Transfer:
        """A request, read by the server."""

        async def handler(stream: aioh2.H2Stream) -> None:
            await self.read(stream)
            await stream.start_response(RESPONSE, end_stream=True)

        return await self._run(handler, server=self.options)

    async def _run(self, handler: Any, **options: Any) -> Transfer:
        client, server = await connected_pair(
            cls=Sender, latency=self.rtt / 2, bandwidth=BANDWIDTH, **options
        )
        self.sender = server if "client" in options else client
        serving = asyncio.ensure_future(server.serve(handler))
        if "client" in options:
            async with client.open_stream(REQUEST, end_stream=True) as stream:
                await self.read(stream)
        else:
            async with client.open_stream(POST) as stream:
                await self.send(stream)
                await stream.recv_response()
        client.close_connection()
        server.close_connection()
        await serving
        return self

    @property
    def speed(self) -> float:
        """Bytes a second, from the beginning to the end."""
        return self.size / self.whole

    @property
    def late_speed(self) -> float:
        """Bytes a second of the second half."""
        return self.size / 2 / (self.whole - self.half)


class TestLongPath(unittest.TestCase):
    """100 Mbit/s and 100 ms, where a window of 256 KiB holds a stream to 2.6 MB/s."""

    @virtual_time
    async def test_a_fixed_window_is_the_limit(self) -> None:
        for way in (Transfer.down, Transfer.up):
            transfer = await way(Transfer(8 * MIB))
            self.assertGreater(transfer.speed, 2_200_000)
            self.assertLess(transfer.speed, 262_144 / RTT)

    @virtual_time
    async def test_a_download_gets_most_of_the_link(self) -> None:
        transfer = await Transfer(32 * MIB, max_window_size=4 * MIB).down()
        self.assertGreater(transfer.speed, 0.8 * BANDWIDTH)
        self.assertGreater(transfer.late_speed, 0.98 * BANDWIDTH)

    @virtual_time
    async def test_an_upload_gets_most_of_the_link(self) -> None:
        transfer = await Transfer(32 * MIB, max_window_size=4 * MIB).up()
        self.assertGreater(transfer.speed, 0.8 * BANDWIDTH)
        self.assertGreater(transfer.late_speed, 0.98 * BANDWIDTH)

    @virtual_time
    async def test_it_grows_to_the_maximum_and_no_further(self) -> None:
        transfer = await Transfer(8 * MIB, max_window_size=600_000).down()
        self.assertLess(transfer.late_speed, 600_000 / RTT)
        # as half a window may be owed, a round trip carries at least the other half
        self.assertGreater(transfer.late_speed, 0.45 * 600_000 / RTT)
        self.assertLessEqual(transfer.ahead, 600_000 - 262_144)

    @virtual_time
    async def test_it_grows_no_further_than_the_path_needs(self) -> None:
        """Eight times what is on the way at most, as it doubles while it is below four times."""
        options = {"max_window_size": 64 * MIB, "connection_window_size": 64 * MIB}
        transfer = await Transfer(32 * MIB, **options).down()
        self.assertLess(transfer.ahead, 8 * BANDWIDTH * RTT)
        self.assertGreater(transfer.late_speed, 0.98 * BANDWIDTH)


class TestNoNeed(unittest.TestCase):
    """No window grows that is not the limit, whatever ``max_window_size`` is."""

    @virtual_time
    async def test_a_short_path(self) -> None:
        transfer = await Transfer(8 * MIB, rtt=0.004, max_window_size=4 * MIB).down()
        self.assertGreater(transfer.speed, 0.98 * BANDWIDTH)
        self.assertEqual(transfer.ahead, 0)

    @virtual_time
    async def test_no_path_at_all(self) -> None:
        transfer = await Transfer(8 * MIB, rtt=0, max_window_size=4 * MIB).down()
        self.assertEqual(transfer.ahead, 0)

    @virtual_time
    async def test_a_reader_that_is_slow(self) -> None:
        """160 kB/s."""
        transfer = await Transfer(MIB, pause=0.1, max_window_size=4 * MIB).down()
        self.assertEqual(transfer.ahead, 0)

    @virtual_time
    async def test_a_reader_that_is_a_little_slower_than_the_window(self) -> None:
        """1.3 MB/s: half a window in less than two round trips, but it never waits."""
        transfer = await Transfer(4 * MIB, pause=0.0125, max_window_size=4 * MIB).up()
        self.assertGreater(transfer.speed, 262_144 / (4 * RTT))
        self.assertEqual(transfer.ahead, 0)


class Reading:
    """A client whose responses come in pieces from a scripted peer; each is waited for."""

    def __init__(self, **options: Any) -> None:
        # Small windows, which grow much.
        self.options = {"initial_window_size": 1000, "max_window_size": 8000, **options}
        self.peer = Peer(aioh2.H2Protocol(True, **self.options))
        # PINGs that have come, and are not answered yet.
        self.pings: list[PingFrame] = []

    async def start(self, *, streams: int = 1, rtt: float | None = RTT) -> Reading:
        """Exchange SETTINGS, answer the PING that comes if ``rtt`` says when, open streams."""
        self.peer.protocol.connection_made(self.peer.transport)
        self.peer.send(SettingsFrame(), SettingsFrame(flags=["ACK"]))
        self.pings += await self.peer.frames(PingFrame)
        if rtt is not None:
            await self.answer(rtt)
        for _ in range(streams):
            await self.open()
        return self

    async def answer(self, after: float) -> None:
        """Answer the oldest PING so many seconds from now."""
        await asyncio.sleep(after)
        self.peer.ack_ping(self.pings.pop(0))

    async def open(self) -> aioh2.H2Stream:
        stream = await self.peer.protocol.open_stream(REQUEST, end_stream=True)
        self.peer.respond(stream.id)
        await self.frames()
        return stream

    async def frames(self) -> list[WindowUpdateFrame]:
        frames = await self.peer.frames(WindowUpdateFrame, PingFrame)
        self.pings += [frame for frame in frames if isinstance(frame, PingFrame)]
        return [frame for frame in frames if isinstance(frame, WindowUpdateFrame)]

    async def turn(self, size: int, stream_id: int = 1, *, after: float = 0.05) -> int:
        """Let ``size`` bytes come to a reader that waits for them; return the stream's credit."""
        stream = self.peer.protocol.stream(stream_id)
        reading = asyncio.ensure_future(stream.read_exactly(size))
        await asyncio.sleep(after)
        self.peer.data(stream_id, bytes(size))
        await reading
        return sum(f.window_increment for f in await self.frames() if f.stream_id == stream_id)

    async def turns(self, *sizes: int, stream_id: int = 1) -> list[int]:
        return [await self.turn(size, stream_id) for size in sizes]


class TestGrowth(unittest.TestCase):
    @virtual_time
    async def test_it_doubles_up_to_the_maximum(self) -> None:
        client = await Reading().start()
        self.assertEqual(
            await client.turns(1000, 1000, 2000, 4000, 8000), [1000, 2000, 4000, 8000, 8000]
        )

    @virtual_time
    async def test_what_was_not_waited_for(self) -> None:
        client = await Reading().start()
        await client.turn(1000)
        client.peer.data(1, bytes(1000))
        self.assertEqual(len(await client.peer.protocol.read_stream(1, 1000)), 1000)
        self.assertEqual([frame.window_increment for frame in await client.frames()], [1000])

    @virtual_time
    async def test_two_round_trips_later(self) -> None:
        for after, credit in ((0.199, 2000), (0.201, 1000)):
            client = await Reading().start()
            await client.turn(1000)
            self.assertEqual(await client.turn(1000, after=after), credit)

    @virtual_time
    async def test_a_read_of_all(self) -> None:
        """It holds what has come, and waits for more."""
        client = await Reading().start()
        reading = asyncio.ensure_future(client.peer.protocol.read_stream(1, -1))
        credit = []
        for size in (1000, 1000, 2000, 4000):
            await asyncio.sleep(0.05)
            client.peer.data(1, bytes(size))
            credit += [frame.window_increment for frame in await client.frames()]
        self.assertEqual(credit, [1000, 2000, 4000, 8000])
        client.peer.data(1, end=True)
        self.assertEqual(len(await reading), 8000)

    @virtual_time
    async def test_a_change_of_settings_leaves_what_has_grown(self) -> None:
        """RFC 9113 section 6.9.2: the peer's window changes by the difference."""
        client = await Reading().start()
        self.assertEqual(await client.turns(1000, 1000), [1000, 2000])
        client.peer.protocol.initial_window_size = 500
        client.peer.send(SettingsFrame(flags=["ACK"]))
        # half of 1500, and no sooner
        self.assertEqual(await client.turns(749, 1), [0, 750 + 1500])

    @virtual_time
    async def test_none_without_the_option(self) -> None:
        client = await Reading(max_window_size=None, keepalive_interval=1).start(rtt=None)
        self.assertEqual(client.pings, [])
        await asyncio.sleep(1)
        await client.frames()
        await client.answer(RTT)
        self.assertIsNotNone(client.peer.protocol.rtt)
        self.assertEqual(await client.turns(*[1000] * 5), [1000] * 5)
        self.assertEqual(client.pings, [])

    @virtual_time
    async def test_an_initial_window_beyond_the_maximum(self) -> None:
        """What has grown beside it could exceed what a window may be."""
        client = await Reading().start()
        with self.assertRaisesRegex(ValueError, "max_window_size must be at least"):
            client.peer.protocol.initial_window_size = 8001
        with self.assertRaisesRegex(ValueError, "max_window_size must be at least"):
            client.peer.protocol.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 8001})
        client.peer.protocol.initial_window_size = 8000


class TestRoundTrip(unittest.TestCase):
    @virtual_time
    async def test_one_ping_at_the_beginning(self) -> None:
        client = await Reading().start(rtt=None)
        self.assertEqual(len(client.pings), 1)
        await client.answer(RTT)
        await client.turns(*[1000] * 5)
        self.assertEqual(client.pings, [])

    @virtual_time
    async def test_of_a_server_too(self) -> None:
        server = Peer(aioh2.H2Protocol(False, max_window_size=MIB))
        server.protocol.connection_made(server.transport)
        server.send_bytes(PREFACE)
        self.assertEqual(await server.frames(PingFrame), [])
        server.send(SettingsFrame())
        self.assertEqual(len(await server.frames(PingFrame)), 1)
        server.send(SettingsFrame())
        self.assertEqual(await server.frames(PingFrame), [])

    @virtual_time
    async def test_a_peer_that_does_not_answer(self) -> None:
        """Nothing grows, and it is not asked twice."""
        client = await Reading().start(rtt=None)
        for _ in range(4):
            self.assertEqual(await client.turns(*[1000] * 3), [1000] * 3)
            await asyncio.sleep(15)
        self.assertEqual(len(client.pings), 1)

    @virtual_time
    async def test_the_shortest_counts(self) -> None:
        """A PING that had to queue behind a body says nothing of the path."""
        client = await Reading().start()
        pinging = asyncio.ensure_future(client.peer.protocol.ping())
        await client.frames()
        await client.answer(5)
        self.assertGreaterEqual(await pinging, 5)
        await client.turn(1000)
        self.assertEqual(await client.turn(1000, after=0.3), 1000)

    @virtual_time
    async def test_it_is_measured_again_where_it_matters(self) -> None:
        """The first was too long: what was measured later holds."""
        client = await Reading().start(rtt=3)
        await asyncio.sleep(10)
        self.assertEqual(client.pings, [])
        await client.turn(1000)
        self.assertEqual(len(client.pings), 1)
        await client.answer(RTT)
        self.assertEqual(await client.turn(1000, after=0.3), 1000)
        # grown as far as it may, it needs to know no more
        self.assertEqual(await client.turns(1000, 2000, 4000), [2000, 4000, 8000])
        await asyncio.sleep(10)
        await client.turn(8000)
        self.assertEqual(client.pings, [])


class TestBound(unittest.TestCase):
    """All streams of a connection together grow by ``connection_window_size`` at most."""

    #: Of the connection, of a stream at first, and the most that is left to grow by.
    WHOLE, SIZE = 65_535, 20_000

    async def start(self, **options: Any) -> Reading:
        client = Reading(
            connection_window_size=self.WHOLE,
            initial_window_size=self.SIZE,
            max_window_size=MIB,
            **options,
        )
        return await client.start(streams=2)

    async def fill(self, client: Reading) -> None:
        """Let stream 1 grow by all there is."""
        credit = await client.turns(20_000, 20_000, 40_000, 65_535, 65_535)
        self.assertEqual(sum(credit) - (145_535 + 65_535), self.WHOLE)

    @virtual_time
    async def test_one_can_have_it_all(self) -> None:
        client = await self.start()
        await self.fill(client)
        self.assertEqual(await client.turns(*[20_000] * 3, stream_id=3), [20_000] * 3)

    @virtual_time
    async def test_many_at_once(self) -> None:
        client = Reading(max_window_size=MIB, connection_window_size=self.WHOLE)
        await client.start(streams=50)
        windows = dict.fromkeys(range(1, 101, 2), 1000)
        for _ in range(4):
            for stream_id, window in windows.items():
                # all of it, so that nothing is owed
                windows[stream_id] = await client.turn(window, stream_id, after=0.001)
        self.assertEqual(sum(windows.values()) - 50 * 1000, self.WHOLE)

    @virtual_time
    async def test_a_stream_that_was_read_to_its_end_gives_it_back(self) -> None:
        for end_first in (False, True):
            client = await self.start()
            await self.fill(client)
            await client.turns(20_000, stream_id=3)
            if end_first:
                client.peer.data(1, bytes(5000), end=True)
                self.assertEqual(await client.turns(20_000, stream_id=3), [20_000])
                await client.peer.protocol.read_stream(1, -1)
            else:
                client.peer.data(1, end=True)
            self.assertEqual(await client.turns(20_000, stream_id=3), [40_000])

    @virtual_time
    async def test_a_stream_that_was_reset_gives_it_back(self) -> None:
        client = await self.start()
        await self.fill(client)
        await client.turns(20_000, stream_id=3)
        client.peer.protocol.reset_stream(1)
        self.assertEqual(await client.turns(20_000, stream_id=3), [40_000])

    @virtual_time
    async def test_what_nobody_reads_holds_it_until_it_is_forgotten(self) -> None:
        client = await self.start(concurrency=1)
        await self.fill(client)
        await client.turns(20_000, stream_id=3)
        client.peer.data(1, bytes(5000), end=True)
        self.assertEqual(await client.turns(20_000, stream_id=3), [20_000])
        await client.open()
        client.peer.data(5, end=True)
        self.assertEqual(await client.turns(20_000, stream_id=3), [40_000])


if __name__ == "__main__":
    unittest.main()
