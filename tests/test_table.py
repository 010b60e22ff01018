"""``StreamTable``: who takes the peer's streams, what stays readable, what is forgotten."""

from __future__ import annotations

import asyncio
import types
import unittest
from typing import Any

import aioh2
from aioh2 import ErrorCodes, H2Stream, StreamClosed, StreamReset
from aioh2.table import StreamTable

from .test_ends import TRAILERS, Ended, Ends
from .wire import POST, REQUEST, RESPONSE, Case, Peer, settle


class TestTable(Case):
    """The table by itself."""

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.connection: Any = types.SimpleNamespace(
            held_streams=0, highest_inbound_stream_id=9, highest_outbound_stream_id=4
        )
        self.forgotten: list[H2Stream] = []
        self.table = StreamTable(
            self.connection, client_side=False, limit=2, forgotten=self.forgotten.append
        )
        self.table.begin(asyncio.get_running_loop())

    def add(self, stream_id: int, *, inbound: bool = False) -> H2Stream:
        owner: Any = types.SimpleNamespace(client_side=False, has_queued=lambda _: False)
        stream = H2Stream(stream_id, owner, REQUEST, window_size=100, encoding=None)
        self.table.add(stream, inbound)
        return stream

    def end(self, stream: H2Stream, *, in_use: bool = False) -> None:
        del self.table.open[stream.id]
        self.table.retire(stream, in_use=in_use)

    async def test_found_while_open_and_a_while_later(self) -> None:
        streams = [self.add(stream_id) for stream_id in (1, 2, 3)]
        self.assertEqual(self.table.opened, 3)
        for stream in streams:
            self.assertIs(self.table.find(stream.id), stream)
            self.end(stream)
            self.assertIs(self.table.find(stream.id), stream)
        # not at once: who was woken by the end of the oldest gets to it first
        self.assertEqual(self.forgotten, [])
        await settle(1)
        self.assertEqual(self.forgotten, streams[:1])
        with self.assertRaisesRegex(StreamClosed, "2 newer streams have ended since"):
            self.table.find(1)
        for unknown in (-1, 0, 6, 11):
            with self.assertRaisesRegex(StreamClosed, "never been"):
                self.table.find(unknown)

    async def test_many_ends_in_one_tick(self) -> None:
        streams = [self.add(stream_id) for stream_id in range(1, 21)]
        for stream in streams:
            self.end(stream)
        await settle(1)
        self.assertEqual(self.forgotten, streams[:-2])
        self.assertEqual(list(self.table.ended.values()), streams[-2:])

    async def test_sides(self) -> None:
        self.assertTrue(self.table.is_ours(2))
        self.assertFalse(self.table.is_ours(1))

    async def test_first_come_first_served(self) -> None:
        tasks = [await self.waiting(self.table.accept()) for _ in range(3)]
        streams = [self.add(stream_id, inbound=True) for stream_id in (1, 3)]
        await settle()
        self.assertEqual([task.result() for task in tasks[:2]], streams)
        self.assertFalse(tasks[2].done())

    async def test_nobody_waits(self) -> None:
        self.assertIsNone(self.table.take_inbound())
        stream = self.add(1, inbound=True)
        self.assertIs(await self.table.accept(), stream)
        self.assertIsNone(self.table.take_inbound())

    async def test_cancelled_while_it_waits(self) -> None:
        first, second = [await self.waiting(self.table.accept()) for _ in range(2)]
        first.cancel()
        await settle()
        stream = self.add(1, inbound=True)
        await settle()
        self.assertIs(second.result(), stream)

    async def test_cancelled_with_the_stream_in_hand(self) -> None:
        """Another one gets it, and the one that was cancelled in the same tick does not."""
        first, second, third = [await self.waiting(self.table.accept()) for _ in range(3)]
        stream = self.add(1, inbound=True)
        first.cancel()
        second.cancel()
        await settle()
        self.assertTrue(first.cancelled() and second.cancelled())
        self.assertIs(third.result(), stream)

    async def test_cancelled_after_somebody_else_took_it(self) -> None:
        first, second = [await self.waiting(self.table.accept()) for _ in range(2)]
        stream = self.add(1, inbound=True)
        first.cancel()
        self.assertIs(self.table.take_inbound(), stream)
        await settle()
        self.assertTrue(first.cancelled())
        self.assertFalse(second.done())

    async def test_iterating_until_the_end(self) -> None:
        streams = [self.add(stream_id, inbound=True) for stream_id in (1, 3)]
        task = await self.waiting(self.collect())
        second = await self.waiting(self.table.accept())
        self.table.end(aioh2.ConnectionClosed(reason="over"))
        await settle()
        self.assertEqual(task.result(), streams)
        self.assertIsInstance(second.exception(), aioh2.ConnectionClosed)

    async def collect(self) -> list[H2Stream]:
        return [stream async for stream in self.table]

    async def test_what_had_come_is_taken_after_the_end(self) -> None:
        stream = self.add(1, inbound=True)
        self.table.end(aioh2.ConnectionClosed(reason="over"))
        self.assertIs(await self.table.accept(), stream)
        with self.assertRaises(aioh2.ConnectionClosed):
            await self.table.accept()

    async def test_ended_before_it_was_taken(self) -> None:
        """It counts under our limit until it is, and only then may be forgotten."""
        stream = self.add(1, inbound=True)
        self.end(stream)
        self.assertEqual(self.connection.held_streams, 1)
        for stream_id in (3, 5, 7):
            self.end(self.add(stream_id))
        await settle()
        self.assertIs(self.table.find(1), stream)
        self.assertIs(self.table.take_inbound(), stream)
        self.assertEqual(self.connection.held_streams, 0)
        self.assertIs(self.table.find(1), stream)

    async def test_ended_before_it_was_taken_counts_among_the_ended(self) -> None:
        """So unread memory is that of as many open and as many ended streams, whatever happens."""
        for stream_id in (1, 3):
            self.end(self.add(stream_id))
        waiting = self.add(5, inbound=True)
        self.end(waiting)
        self.assertEqual(self.forgotten, [])
        await settle()
        self.assertEqual([stream.id for stream in self.forgotten], [1])
        for stream_id in (7, 9, 11):
            self.end(self.add(stream_id, inbound=True))
        await settle()
        # more than the limit, which may have grown meanwhile: none but these is left
        self.assertEqual([stream.id for stream in self.forgotten], [1, 3])
        self.assertIs(self.table.take_inbound(), waiting)
        self.assertIs(self.table.find(5), waiting)
        await settle()
        with self.assertRaises(aioh2.StreamClosed):
            self.table.find(5)

    async def test_ended_while_it_is_worked_on(self) -> None:
        stream = self.add(1)
        self.end(stream, in_use=True)
        self.assertEqual(self.connection.held_streams, 1)
        self.assertIs(self.table.find(1), stream)
        self.table.release(stream)
        self.assertEqual(self.connection.held_streams, 0)

    async def test_all_that_are_open(self) -> None:
        streams = [self.add(stream_id) for stream_id in (1, 3)]
        self.assertEqual(self.table.take_open(), streams)
        self.assertEqual(self.table.open, {})


class TestRetention(Ends):
    async def ended(self, peer: Peer, stream_id: int) -> None:
        """Let a whole request and response go by on a server; ``abc`` stays unread."""
        peer.request(stream_id, POST, end=False)
        peer.data(stream_id, b"abc")
        peer.send(peer.headers(stream_id, TRAILERS, "END_STREAM"))
        await peer.protocol.recv_request()
        await peer.protocol.start_response(stream_id, RESPONSE, end_stream=True)
        await settle()

    async def test_until_concurrency_newer_streams_have_ended(self) -> None:
        for concurrency in (1, 3):
            with self.subTest(concurrency=concurrency):
                peer = await Peer.of_server(concurrency=concurrency)
                await self.ended(peer, 1)
                handle = peer.protocol.stream(1)
                for newer in range(1, concurrency):
                    await self.ended(peer, 2 * newer + 1)
                self.assertEqual(await self.now(peer.protocol.read_stream(1, 2)), b"ab")
                self.assertEqual(await self.now(peer.protocol.recv_trailers(1)), TRAILERS)
                await self.ended(peer, 2 * concurrency + 1)
                for call in (peer.protocol.read_stream, peer.protocol.recv_trailers):
                    with self.assertRaisesRegex(StreamClosed, "stream 1 .*it has ended"):
                        await call(1)
                self.assertEqual(await self.now(handle.read()), b"c")
                self.assertEqual(await self.now(handle.read()), b"")
                self.assertEqual(await self.now(handle.recv_trailers()), TRAILERS)

    async def test_the_reason_stays(self) -> None:
        peer = await Peer.of_server(concurrency=1)
        peer.request(1, POST, end=False)
        await peer.protocol.recv_request()
        peer.reset(1, ErrorCodes.ENHANCE_YOUR_CALM)
        ended = Ended(StreamReset, ErrorCodes.ENHANCE_YOUR_CALM, "peer")
        for _ in range(2):
            with self.assertRaises(StreamReset) as caught:
                await peer.protocol.read_stream(1)
            said = caught.exception
            self.assertEqual(Ended(StreamReset, said.error_code, said.initiator), ended)
        handle = peer.protocol.stream(1)
        await self.ended(peer, 3)
        with self.assertRaises(StreamClosed):
            await peer.protocol.read_stream(1)
        with self.assertRaises(StreamReset):
            await handle.read()

    async def test_client(self) -> None:
        peer = await Peer.of_client(concurrency=2)
        protocol = peer.protocol
        for stream_id in (1, 3, 5):
            self.assertEqual(
                await self.now(protocol.start_request(REQUEST, end_stream=True)), stream_id
            )
            peer.respond(stream_id)
            peer.data(stream_id, b"abc", end=True)
        await settle()
        self.assertEqual(await self.now(protocol.read_stream(3, -1)), b"abc")
        with self.assertRaisesRegex(StreamClosed, "stream 1 .*2 newer streams have ended since"):
            await protocol.read_stream(1)

    async def test_who_waits_is_not_overtaken_by_newer_ends(self) -> None:
        """All streams end in one segment: each waiter still gets its bytes, by id too."""
        peer = await Peer.of_client(concurrency=1)
        protocol = peer.protocol
        ids = [await protocol.start_request(REQUEST, end_stream=True) for _ in range(5)]
        await settle()
        tasks = [await self.waiting(protocol.recv_response(each)) for each in ids]
        frames = [peer.headers(each, RESPONSE, "END_STREAM") for each in ids]
        peer.send(*frames)
        self.assertEqual(await self.now(asyncio.gather(*tasks)), [RESPONSE] * 5)

    async def test_ended_before_it_was_accepted(self) -> None:
        """Unread body, trailers and reason can be had by id whether it was accepted or not."""
        peer = await Peer.of_server()
        peer.request(1, POST, end=False)
        peer.data(1, b"abc")
        peer.reset(1)
        await settle()
        self.assertEqual(await self.now(peer.protocol.read_stream(1)), b"abc")
        with self.assertRaises(StreamReset):
            await peer.protocol.read_stream(1)

    async def test_accepted_after_it_has_ended(self) -> None:
        peer = await Peer.of_server()
        peer.request(1, POST, end=False)
        peer.data(1, b"abc")
        peer.reset(1)
        await settle()
        self.assertEqual(await self.now(peer.protocol.recv_request()), (1, POST))
        self.assertEqual(await self.now(peer.protocol.read_stream(1)), b"abc")

    async def test_unread_memory(self) -> None:
        """At most twice what open streams may hold, also where the application takes none."""
        peer = await Peer.of_server(concurrency=3, initial_window_size=100)
        table = peer.protocol._driver.table
        for stream_id in (1, 3, 5):
            peer.request(stream_id, POST, end=False)
            peer.data(stream_id, bytes(100))
            await self.now(peer.protocol.recv_request())
            peer.reset(stream_id)
        for stream_id in range(7, 17, 2):
            peer.request(stream_id, POST, end=False)
            peer.data(stream_id, bytes(100))
            if stream_id < 11:
                peer.reset(stream_id)
        self.assertEqual(await self.unread(table), (3, 2 * 3 * 100))
        for stream_id in (11, 13, 15):
            peer.reset(stream_id)
        self.assertEqual(await self.unread(table), (0, 5 * 100))

    async def unread(self, table: StreamTable) -> tuple[int, int]:
        """Return how many streams are open, and the bytes that all hold."""
        await settle()
        kept = {*table.open.values(), *table.ended.values(), *table.inbound.values()}
        return len(table.open), sum(stream.unread for stream in kept)

    async def test_unknown_streams(self) -> None:
        peer = await Peer.of_server()
        peer.request(1)
        for stream_id in (0, 2, 3, -1):
            with self.assertRaisesRegex(StreamClosed, "never been"):
                await peer.protocol.read_stream(stream_id)


if __name__ == "__main__":
    unittest.main()
