"""``H2Stream`` through its public methods: headers, reading and its credit, sending, misuse."""

from __future__ import annotations

import array
import asyncio
import ctypes
import unittest
from collections.abc import Awaitable
from typing import Any

from h2.errors import ErrorCodes
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    RstStreamFrame,
    WindowUpdateFrame,
)
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import aioh2
from aioh2 import SettingCodes, StreamClosed, StreamReset
from aioh2.testing import connected_pair

from .wire import POST, REQUEST, RESPONSE, Case, Peer, SkippingLoop, settle, skip

TRAILERS = [("t", "u")]
EARLY_HINTS = [(":status", "103"), ("link", "</a.css>")]


class StreamCase(Case):
    """A test with one open stream, 1."""

    async def now(self, awaitable: Awaitable[Any]) -> Any:
        """Return what comes without another word of the peer; what would wait fails."""
        task = asyncio.ensure_future(awaitable)
        self.addCleanup(task.cancel)
        await settle()
        self.assertTrue(task.done(), "it still waits")
        return task.result()

    async def client(
        self, settings: dict[int, int] | None = None, *, respond: bool = True, **options: Any
    ) -> tuple[Peer, aioh2.H2Stream]:
        """Return a client's request, which has got its response's headers."""
        peer = await Peer.of_client(settings=settings, **options)
        stream = await peer.protocol.open_stream(POST)
        await peer.frames()
        if respond:
            peer.respond(1)
        return peer, stream

    async def server(
        self, settings: dict[int, int] | None = None, *, respond: bool = True, **options: Any
    ) -> tuple[Peer, aioh2.H2Stream]:
        """Return a request that a server has got, and has begun to answer."""
        peer = await Peer.of_server(settings=settings, **options)
        peer.request(1, POST, end=False)
        stream = await anext(peer.protocol)
        if respond:
            await stream.start_response(RESPONSE)
        await peer.frames()
        return peer, stream

    async def credit(self, peer: Peer, stream_id: int = 1) -> list[int]:
        """Return the increments of the stream's window since the last call."""
        updates = await peer.frames(WindowUpdateFrame)
        return [f.window_increment for f in updates if f.stream_id == stream_id]

    async def sent(self, peer: Peer) -> list[tuple[bytes, bool]]:
        """Return DATA since the last call, and whether it ends the stream."""
        frames = await peer.frames(DataFrame)
        return [(frame.data, "END_STREAM" in frame.flags) for frame in frames]


class TestHandle(StreamCase):
    async def test_attributes(self) -> None:
        for make in (self.client, self.server):
            peer, stream = await make()
            self.assertEqual(stream.id, 1)
            self.assertIs(stream.protocol, peer.protocol)
            self.assertEqual(stream.request_headers, POST)
            self.assertIs(peer.protocol.stream(1), stream)

    async def test_headers_as_bytes(self) -> None:
        _, stream = await self.server(header_encoding=None)
        self.assertIn((b":method", b"POST"), stream.request_headers)

    async def test_repr(self) -> None:
        peer, stream = await self.client()
        self.assertEqual(repr(stream), "<H2Stream 1 open>")
        await stream.end()
        self.assertEqual(repr(stream), "<H2Stream 1 half-closed (local)>")
        peer.data(1, end=True)
        self.assertEqual(repr(stream), "<H2Stream 1 closed>")
        peer, stream = await self.server()
        peer.data(1, end=True)
        self.assertEqual(repr(stream), "<H2Stream 1 half-closed (remote)>")
        stream.reset()
        self.assertEqual(repr(stream), "<H2Stream 1 failed>")

    async def test_iteration(self) -> None:
        peer, stream = await self.client()
        for data in (b"abc", b"def"):
            peer.data(1, data)
        peer.data(1, end=True)
        self.assertEqual([chunk async for chunk in stream], [b"abc", b"def"])
        self.assertIs(aiter(stream), stream)

    async def test_iteration_over_a_body_without_bytes(self) -> None:
        peer, stream = await self.client()
        peer.data(1, end=True)
        self.assertEqual([chunk async for chunk in stream], [])


class TestReaderWriter(StreamCase):
    """What the stream does for it; the rest is in test_tunnel."""

    async def test_both_ways(self) -> None:
        for make in (self.client, self.server):
            peer, stream = await make()
            reader, writer = stream.as_reader_writer()
            writer.write(b"abc")
            writer.write_eof()
            await writer.drain()
            self.assertEqual(await self.sent(peer), [(b"abc", False), (b"", True)])
            peer.data(1, b"x" * 200_000)
            await settle()
            self.assertGreaterEqual(sum(await self.credit(peer)), 131_072)
            peer.data(1, end=True)
            self.assertEqual(await reader.read(), b"x" * 200_000)
            self.assertEqual(stream.take_chunk(), b"")
            self.assertTrue(stream.has_peer_ended)
            writer.close()

    async def test_when_it_cannot_be(self) -> None:
        peer, stream = await self.client(respond=False)
        with self.assertRaisesRegex(StreamClosed, "recv_response comes first"):
            stream.as_reader_writer()
        peer.respond(1)
        _, writer = stream.as_reader_writer()
        with self.assertRaisesRegex(StreamClosed, "already"):
            stream.as_reader_writer()
        writer.close()
        _, stream = await self.server(respond=False)
        with self.assertRaisesRegex(StreamClosed, "start_response comes first"):
            stream.as_reader_writer()
        for make in (self.client, self.server):
            peer, stream = await make()
            peer.reset(1)
            with self.assertRaises(StreamReset):
                stream.as_reader_writer()
            _, stream = await make()
            stream.reset()
            with self.assertRaisesRegex(StreamClosed, "this side has reset it"):
                stream.as_reader_writer()


class TestStartResponse(StreamCase):
    async def test_final(self) -> None:
        for end_stream in (False, True):
            peer, stream = await self.server(respond=False)
            await stream.start_response({":status": "204", "x": "y"}, end_stream=end_stream)
            (frame,) = await peer.frames(HeadersFrame)
            self.assertEqual(frame.headers, [(":status", "204"), ("x", "y")])
            self.assertIs("END_STREAM" in frame.flags, end_stream)

    async def test_interim_any_number(self) -> None:
        peer, stream = await self.server(respond=False)
        for status in ("100", "102", "103", "103", "199"):
            await stream.start_response({":status": status})
        await stream.start_response(RESPONSE)
        frames = await peer.frames(HeadersFrame)
        statuses = [dict(frame.headers)[":status"] for frame in frames]
        self.assertEqual(statuses, ["100", "102", "103", "103", "199", "200"])
        self.assertFalse(any("END_STREAM" in frame.flags for frame in frames))

    async def test_interim_cannot_end_the_stream(self) -> None:
        peer, stream = await self.server(respond=False)
        with self.assertRaisesRegex(ValueError, r"interim response \(103\)"):
            await stream.start_response(EARLY_HINTS, end_stream=True)
        await stream.start_response(RESPONSE)
        self.assertEqual(len(await peer.frames(HeadersFrame)), 1)

    async def test_malformed_headers_change_nothing(self) -> None:
        peer, stream = await self.server(respond=False)
        for headers in ({}, {":status": "20"}, {":status": "101"}, {":status": "200", "a b": ""}):
            with self.assertRaises(ValueError):
                await stream.start_response(headers)
        with self.assertRaises(TypeError):
            await stream.start_response({":status": 200})  # type: ignore[dict-item]
        self.assertEqual(await peer.frames(), [])
        await stream.start_response(RESPONSE)
        self.assertEqual(len(await peer.frames(HeadersFrame)), 1)

    async def test_twice(self) -> None:
        peer, stream = await self.server()
        for headers in (RESPONSE, EARLY_HINTS):
            with self.assertRaisesRegex(StreamClosed, "stream 1 .*has started already"):
                await stream.start_response(headers)
        self.assertEqual(await peer.frames(), [])

    async def test_after_the_end(self) -> None:
        peer, stream = await self.server()
        await stream.end()
        await peer.frames()
        with self.assertRaisesRegex(StreamClosed, "this side has ended it"):
            await stream.start_response(RESPONSE)
        self.assertEqual(await peer.frames(), [])

    async def test_after_resets(self) -> None:
        peer, stream = await self.server(respond=False)
        peer.reset(1, ErrorCodes.ENHANCE_YOUR_CALM)
        with self.assertRaisesRegex(StreamReset, "by the peer: ENHANCE_YOUR_CALM"):
            await stream.start_response(RESPONSE)
        _, stream = await self.server(respond=False)
        stream.reset()
        with self.assertRaisesRegex(StreamClosed, "this side has reset it"):
            await stream.start_response(RESPONSE)

    async def test_after_the_connection(self) -> None:
        peer, stream = await self.server(respond=False)
        peer.lose()
        await settle()
        with self.assertRaises(aioh2.ConnectionClosed):
            await stream.start_response(RESPONSE)

    async def test_on_a_client(self) -> None:
        peer, stream = await self.client()
        for headers in (RESPONSE, EARLY_HINTS):
            with self.assertRaisesRegex(StreamClosed, "the server responds"):
                await stream.start_response(headers)
        self.assertEqual(await peer.frames(), [])


class TestResponses(StreamCase):
    async def test_every_call_returns_the_same(self) -> None:
        peer, stream = await self.client(respond=False)
        task = await self.waiting(stream.recv_response())
        peer.respond(1)
        self.assertEqual(await self.now(task), RESPONSE)
        for _ in range(2):
            self.assertEqual(await self.now(stream.recv_response()), RESPONSE)

    async def test_informational_in_order(self) -> None:
        peer, stream = await self.client(respond=False)
        task = await self.waiting(stream.recv_informational())
        peer.respond(1, [(":status", "100")])
        self.assertEqual(await self.now(task), [(":status", "100")])
        response = await self.waiting(stream.recv_response())
        peer.respond(1, EARLY_HINTS)
        peer.respond(1, [(":status", "102")])
        await settle()
        self.assertFalse(response.done())
        peer.respond(1)
        self.assertEqual(await self.now(response), RESPONSE)
        self.assertEqual(await self.now(stream.recv_informational()), EARLY_HINTS)
        self.assertEqual(await self.now(stream.recv_informational()), [(":status", "102")])
        for _ in range(2):
            self.assertIsNone(await self.now(stream.recv_informational()))

    async def test_informational_that_nobody_takes(self) -> None:
        """Most applications take none, and a server may send any number: the oldest go."""
        peer, stream = await self.client(respond=False)
        for number in range(3 * stream.INTERIM):
            peer.respond(1, [(":status", "103"), ("n", str(number))])
        peer.respond(1)
        taken = [await self.now(stream.recv_informational()) for _ in range(stream.INTERIM)]
        numbers = [dict(fields)["n"] for fields in taken]
        expected = range(2 * stream.INTERIM, 3 * stream.INTERIM)
        self.assertEqual(numbers, [str(number) for number in expected])
        self.assertIsNone(await self.now(stream.recv_informational()))
        self.assertEqual(await self.now(stream.recv_response()), RESPONSE)

    async def test_informational_that_waits_ends_with_the_response(self) -> None:
        peer, stream = await self.client(respond=False)
        tasks = [await self.waiting(stream.recv_informational()) for _ in range(2)]
        peer.respond(1)
        self.assertEqual(await self.now(asyncio.gather(*tasks)), [None, None])

    async def test_two_who_wait_for_informational(self) -> None:
        peer, stream = await self.client(respond=False)
        tasks = [await self.waiting(stream.recv_informational()) for _ in range(2)]
        peer.respond(1, EARLY_HINTS)
        await settle()
        self.assertEqual([task.done() for task in tasks], [True, False])
        peer.respond(1, [(":status", "102")])
        self.assertEqual(
            await self.now(asyncio.gather(*tasks)), [EARLY_HINTS, [(":status", "102")]]
        )

    async def test_on_a_server(self) -> None:
        _, stream = await self.server()
        for call in (stream.recv_response, stream.recv_informational, stream.recv_push):
            with self.assertRaisesRegex(StreamClosed, "it carries a request of the peer"):
                await self.now(call())

    async def test_trailers(self) -> None:
        for make in (self.client, self.server):
            peer, stream = await make()
            task = await self.waiting(stream.recv_trailers())
            peer.data(1, b"unread")
            await settle()
            self.assertFalse(task.done())
            peer.send(peer.headers(1, TRAILERS, "END_STREAM"))
            self.assertEqual(await self.now(task), TRAILERS)
            self.assertEqual(await self.now(stream.recv_trailers()), TRAILERS)
            self.assertEqual(await self.now(stream.read(-1)), b"unread")


class TestRead(StreamCase):
    async def body(self, *chunks: bytes) -> aioh2.H2Stream:
        peer, stream = await self.client()
        for chunk in chunks:
            peer.data(1, chunk)
        peer.data(1, end=True)
        return stream

    async def test_sizes(self) -> None:
        for sizes, expected in (
            ([None] * 4, [b"abc", b"defg", b"h", b""]),
            ([-1, -1], [b"abcdefgh", b""]),
            ([3, 4, 1, 1], [b"abc", b"defg", b"h", b""]),
            ([2, 3, 10, 10], [b"ab", b"cde", b"fgh", b""]),
            ([1, None, 1, None, None], [b"a", b"bc", b"d", b"efg", b"h"]),
            ([5, -1], [b"abcde", b"fgh"]),
            ([8, None], [b"abcdefgh", b""]),
            ([9], [b"abcdefgh"]),
            ([0, 0, 7, 0], [b"", b"", b"abcdefg", b""]),
            ([1] * 9, [b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h", b""]),
        ):
            with self.subTest(sizes):
                stream = await self.body(b"abc", b"defg", b"h")
                got = [await self.now(stream.read(size)) for size in sizes]
                self.assertEqual(got, expected)
                self.assertEqual({type(each) for each in got}, {bytes})

    async def test_bad_sizes(self) -> None:
        stream = await self.body(b"abc")
        for size, error in ((-2, ValueError), ("1", TypeError), (1.0, TypeError)):
            for call in (stream.read, stream.read_exactly):
                with self.subTest(size, call=call), self.assertRaises(error):
                    await self.now(call(size))  # type: ignore[arg-type]
        with self.assertRaises(ValueError):
            await self.now(stream.read_exactly(-1))
        self.assertEqual(await self.now(stream.read(-1)), b"abc")

    async def test_waits_for_the_next_frame(self) -> None:
        peer, stream = await self.client()
        task = await self.waiting(stream.read())
        peer.data(1, b"abc")
        self.assertEqual(await self.now(task), b"abc")

    async def test_waits_for_n(self) -> None:
        peer, stream = await self.client()
        task = await self.waiting(stream.read(5))
        for data in (b"ab", b"cd"):
            peer.data(1, data)
            await settle()
            self.assertFalse(task.done())
        peer.data(1, b"ef")
        self.assertEqual(await self.now(task), b"abcde")
        self.assertEqual(await self.now(stream.read()), b"f")

    async def test_waits_for_all(self) -> None:
        peer, stream = await self.client()
        task = await self.waiting(stream.read(-1))
        peer.data(1, b"abc")
        await settle()
        self.assertFalse(task.done())
        peer.data(1, b"def", end=True)
        self.assertEqual(await self.now(task), b"abcdef")

    async def test_n_is_fewer_where_the_body_ends(self) -> None:
        peer, stream = await self.client()
        task = await self.waiting(stream.read(5))
        peer.data(1, b"abc", end=True)
        self.assertEqual(await self.now(task), b"abc")

    async def test_n_is_fewer_where_the_stream_is_reset(self) -> None:
        peer, stream = await self.client()
        task = await self.waiting(stream.read(5))
        peer.data(1, b"abc")
        peer.reset(1)
        self.assertEqual(await self.now(task), b"abc")
        with self.assertRaises(StreamReset):
            await self.now(stream.read(5))

    async def test_exactly(self) -> None:
        peer, stream = await self.client()
        peer.data(1, b"ab")
        self.assertEqual(await self.now(stream.read_exactly(0)), b"")
        task = await self.waiting(stream.read_exactly(5))
        peer.data(1, b"cdefgh")
        self.assertEqual(await self.now(task), b"abcde")
        peer.data(1, end=True)
        with self.assertRaises(asyncio.IncompleteReadError) as caught:
            await self.now(stream.read_exactly(4))
        self.assertEqual((caught.exception.partial, caught.exception.expected), (b"fgh", 4))
        self.assertEqual(await self.now(stream.read()), b"")

    async def test_by_id(self) -> None:
        peer, stream = await self.client()
        peer.data(1, b"abcdef", end=True)
        self.assertEqual(await self.now(peer.protocol.read_stream(1, 2)), b"ab")
        self.assertEqual(await self.now(stream.read(1)), b"c")
        self.assertEqual(await self.now(peer.protocol.read_stream(1)), b"def")

    async def test_body_on_headers_that_end_the_stream(self) -> None:
        peer, stream = await self.client(respond=False)
        peer.respond(1, end=True)
        for size in (None, -1, 5):
            self.assertEqual(await self.now(stream.read(size)), b"")


class TestTwoAtOnce(StreamCase):
    async def test_two_readers_of_frames(self) -> None:
        peer, stream = await self.client()
        tasks = [await self.waiting(stream.read()) for _ in range(3)]
        for data in (b"one", b"two", b"three"):
            peer.data(1, data)
            await settle()
        self.assertEqual(await self.now(asyncio.gather(*tasks)), [b"one", b"two", b"three"])

    async def test_two_readers_of_sizes(self) -> None:
        """What the first has waited for is not taken from it by the second."""
        for others in (0, 1):
            with self.subTest(others=others):
                peer, stream = await self.client()
                before = [await self.waiting(stream.read()) for _ in range(others)]
                first = await self.waiting(stream.read(10))
                second = await self.waiting(stream.read(5))
                for task in before:
                    peer.data(1, b"before")
                    self.assertEqual(await self.now(task), b"before")
                peer.data(1, b"01234")
                await settle()
                self.assertFalse(second.done(), second)
                peer.data(1, b"56789abcde")
                self.assertEqual(await self.now(first), b"0123456789")
                self.assertEqual(await self.now(second), b"abcde")

    async def test_reader_that_comes_for_what_another_waits_with(self) -> None:
        peer, stream = await self.client()
        peer.data(1, b"01234")
        first = await self.waiting(stream.read(10))
        second = await self.waiting(stream.read(5))
        peer.data(1, b"56789abcde")
        self.assertEqual(await self.now(first), b"0123456789")
        self.assertEqual(await self.now(second), b"abcde")

    async def test_reader_that_comes_with_the_bytes(self) -> None:
        """Whoever waits already has the first turn."""
        peer, stream = await self.client()
        first = await self.waiting(stream.read())
        second = asyncio.ensure_future(stream.read())
        self.addCleanup(second.cancel)
        peer.data(1, b"one")
        await settle()
        self.assertEqual([first.done(), second.done()], [True, False])
        self.assertEqual(first.result(), b"one")

    async def test_readers_of_every_kind_take_turns(self) -> None:
        peer, stream = await self.client()
        calls = (stream.read(3), stream.read(), stream.read_exactly(2), stream.read(-1))
        tasks = [await self.waiting(call) for call in calls]
        for data in (b"abcde", b"f", b"gh"):
            peer.data(1, data)
            await settle()
        self.assertEqual([task.done() for task in tasks], [True, True, True, False])
        peer.data(1, b"i", end=True)
        got = await self.now(asyncio.gather(*tasks))
        self.assertEqual(got, [b"abc", b"de", b"fg", b"hi"])

    async def test_end_for_all_readers(self) -> None:
        peer, stream = await self.client()
        calls = (stream.read(3), stream.read(), stream.read_exactly(2), stream.read(-1))
        tasks = [await self.waiting(call) for call in calls]
        peer.reset(1)
        got = await self.now(asyncio.gather(*tasks, return_exceptions=True))
        self.assertEqual([type(each) for each in got], [StreamReset] * 4)

    async def test_cancelled_readers_lose_their_turns(self) -> None:
        """Whether they wait for it, have just been given it, or have it."""
        for cancelled in ([0], [1], [0, 1], [1, 0], [2], [0, 2]):
            for late in (False, True):
                with self.subTest(cancelled=cancelled, late=late):
                    peer, stream = await self.client()
                    tasks = [await self.waiting(stream.read()) for _ in range(4)]
                    for index in cancelled:
                        tasks[index].cancel()
                        await settle(late)
                    for data in (b"a", b"b", b"c", b"d"):
                        peer.data(1, data)
                    await settle()
                    left = [task for task in tasks if not task.cancelled()]
                    self.assertEqual(len(left), 4 - len(cancelled))
                    got = b"".join([task.result() for task in left])
                    self.assertEqual(got, b"abcd"[: len(left)])

    async def test_reader_that_is_cancelled_with_its_turn_in_hand(self) -> None:
        peer, stream = await self.client()
        tasks = [await self.waiting(stream.read()) for _ in range(3)]
        peer.data(1, b"a")
        await settle(1)
        self.assertTrue(tasks[0].done())
        tasks[1].cancel()
        peer.data(1, b"b")
        self.assertEqual(await self.now(tasks[2]), b"b")
        self.assertTrue(tasks[1].cancelled())
        self.assertIsNone(stream.blocked_on)

    async def test_reader_that_is_cancelled_as_the_turn_passes_it_by(self) -> None:
        """It has no turn to give away."""
        peer, stream = await self.client()
        first, second = [await self.waiting(stream.read()) for _ in range(2)]
        third = await self.waiting(stream.read(10))
        peer.data(1, b"a")
        second.cancel()
        self.assertEqual(await self.now(first), b"a")
        fourth = await self.waiting(stream.read())
        peer.data(1, b"01234")
        await settle()
        self.assertFalse(fourth.done(), fourth)
        peer.data(1, b"56789b")
        self.assertEqual(await self.now(third), b"0123456789")
        self.assertEqual(await self.now(fourth), b"b")

    async def test_two_senders(self) -> None:
        peer, stream = await self.client({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        tasks = [await self.waiting(stream.send_data(data)) for data in (b"one", b"two")]
        end = await self.waiting(stream.send_data(b"three", end_stream=True))
        peer.window(1, 4)
        await settle()
        self.assertEqual([task.done() for task in tasks], [True, False])
        peer.window(1, 100)
        await self.now(asyncio.gather(*tasks, end))
        self.assertEqual(
            await self.sent(peer),
            [(b"one", False), (b"t", False), (b"wo", False), (b"three", True)],
        )

    async def test_a_small_sender_does_not_pass_a_large_one(self) -> None:
        peer, stream = await self.client({SettingCodes.INITIAL_WINDOW_SIZE: 5})
        first = await self.waiting(stream.send_data(b"0123456789"))
        second = await self.waiting(stream.send_data(b"ab"))
        peer.window(1, 5)
        await self.now(first)
        self.assertFalse(second.done())
        peer.window(1, 5)
        await self.now(second)
        self.assertEqual(b"".join(data for data, _ in await self.sent(peer)), b"0123456789ab")

    async def test_reader_and_sender(self) -> None:
        client, server = await connected_pair()
        stream = await client.open_stream(POST)
        echo = await anext(server)
        await echo.start_response(RESPONSE)

        async def answer() -> None:
            async for chunk in echo:
                await echo.send_data(chunk)
            await echo.end()

        body = bytes(range(256)) * 4096
        reading = asyncio.ensure_future(stream.read(-1))
        answering = asyncio.ensure_future(answer())
        await stream.send_data(body, end_stream=True)
        self.assertEqual(await reading, body)
        await answering
        client.close_connection()
        await server.wait_closed()


class TestCancelled(StreamCase):
    """Nothing is lost, whenever it comes."""

    async def test_reader_that_is_cancelled_as_the_bytes_come(self) -> None:
        for first in ("bytes", "cancel"):
            with self.subTest(first=first):
                peer, stream = await self.client()
                task = await self.waiting(stream.read())
                if first == "cancel":
                    task.cancel()
                peer.data(1, b"abc")
                task.cancel()
                await settle()
                self.assertTrue(task.cancelled())
                self.assertIsNone(stream.blocked_on)
                self.assertEqual(await self.now(stream.read()), b"abc")

    async def test_one_of_two_who_wait(self) -> None:
        for name, result in (("read", b"abc"), ("recv_response", RESPONSE), ("recv_trailers", [])):
            for cancelled in (0, 1):
                with self.subTest(name, cancelled=cancelled):
                    peer, stream = await self.client(respond=False)
                    tasks = [await self.waiting(getattr(stream, name)()) for _ in range(2)]
                    tasks[cancelled].cancel()
                    await settle()
                    self.assertEqual(stream.blocked_on, "peer")
                    peer.respond(1)
                    peer.data(1, b"abc", end=True)
                    self.assertEqual(await self.now(tasks[not cancelled]), result)
                    self.assertTrue(tasks[cancelled].cancelled())

    async def test_all_who_wait(self) -> None:
        for name in ("read", "recv_response", "recv_trailers"):
            with self.subTest(name):
                _, stream = await self.client(respond=False)
                tasks = [await self.waiting(getattr(stream, name)()) for _ in range(2)]
                for task in tasks:
                    task.cancel()
                await settle()
                self.assertIsNone(stream.blocked_on)

    async def test_reader_that_holds_bytes(self) -> None:
        peer, stream = await self.client()
        for call in (stream.read(10), stream.read(-1), stream.read_exactly(10)):
            peer.data(1, b"abc")
            task = await self.waiting(call)
            task.cancel()
            await settle()
            self.assertTrue(task.cancelled())
        self.assertEqual(await self.now(stream.read(9)), b"abcabcabc")

    async def test_sender(self) -> None:
        for end_stream in (False, True):
            peer, stream = await self.client({SettingCodes.INITIAL_WINDOW_SIZE: 3})
            task = await self.waiting(stream.send_data(b"abcdef", end_stream=end_stream))
            task.cancel()
            await settle()
            self.assertFalse(stream.has_ended)
            peer.window(1, 100)
            await self.now(stream.send_data(b"xyz", end_stream=True))
            self.assertEqual(await self.sent(peer), [(b"abc", False), (b"xyz", True)])

    async def test_sender_that_is_cancelled_as_the_stream_ends(self) -> None:
        peer, stream = await self.client({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        task = await self.waiting(stream.send_data(b"abc", end_stream=True))
        peer.reset(1)
        task.cancel()
        await settle()
        self.assertTrue(task.cancelled())
        with self.assertRaises(aioh2.SendException):
            await self.now(stream.send_data(b"abc"))

    async def test_sender_whose_bytes_are_all_framed(self) -> None:
        """What is framed stays sent, the end of the stream included."""
        peer, stream = await self.client({SettingCodes.INITIAL_WINDOW_SIZE: 3})
        task = await self.waiting(stream.send_data(b"abcdef", end_stream=True))
        peer.window(1, 3)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        self.assertEqual(await self.sent(peer), [(b"abc", False), (b"def", True)])
        self.assertTrue(stream.has_ended)

    async def test_end(self) -> None:
        for call in (lambda s: s.end(), lambda s: s.send_trailers(TRAILERS)):
            peer, stream = await self.client({SettingCodes.INITIAL_WINDOW_SIZE: 0})
            data = await self.waiting(stream.send_data(b"abc"))
            task = await self.waiting(call(stream))
            self.assertTrue(stream.has_ended)
            task.cancel()
            await settle()
            self.assertFalse(stream.has_ended)
            peer.window(1, 100)
            await self.now(data)
            await self.now(stream.send_data(b"def", end_stream=True))
            self.assertEqual(await self.sent(peer), [(b"abc", False), (b"def", True)])


class TestContext(StreamCase):
    """``async with``; more of it is in ``test_ends``."""

    async def test_left_early(self) -> None:
        for make in (self.client, self.server):
            peer, stream = await make()
            async with stream as entered:
                self.assertIs(entered, stream)
            (frame,) = await peer.frames(RstStreamFrame)
            self.assertEqual(frame.error_code, ErrorCodes.CANCEL)

    async def test_left_with_the_response_complete(self) -> None:
        peer, stream = await self.server()
        async with stream:
            await stream.end()
        (frame,) = await peer.frames(RstStreamFrame)
        self.assertEqual(frame.error_code, ErrorCodes.NO_ERROR)

    async def test_left_with_both_sides_complete(self) -> None:
        for make in (self.client, self.server):
            peer, stream = await make()
            async with stream:
                await stream.end()
                peer.data(1, end=True)
            self.assertEqual(await peer.frames(RstStreamFrame), [])


class TestCredit(StreamCase):
    """Stream credit goes back as bytes are read, in pieces of half a window (section 6.9)."""

    async def test_half_a_window(self) -> None:
        for make in (self.client, self.server):
            peer, stream = await make(initial_window_size=1000)
            peer.data(1, bytes(1000))
            self.assertEqual(await self.credit(peer), [])
            await self.now(stream.read(499))
            self.assertEqual(await self.credit(peer), [])
            await self.now(stream.read(1))
            self.assertEqual(await self.credit(peer), [500])
            await self.now(stream.read(500))
            self.assertEqual(await self.credit(peer), [500])

    async def test_one_update_for_a_whole_window(self) -> None:
        peer, stream = await self.client(initial_window_size=1000)
        peer.data(1, bytes(1000))
        await self.now(stream.read())
        self.assertEqual(await self.credit(peer), [1000])

    async def test_connection_credit_does_not_wait_for_readers(self) -> None:
        peer, _ = await self.client(connection_window_size=65_535)
        for _ in range(2):
            peer.data(1, bytes(16_384))
        self.assertEqual(await self.credit(peer, 0), [32_768])

    async def read_all_within_the_window(self, method: str, *size: int) -> list[int]:
        """Read 1000 bytes through a window of 100, which the peer keeps to."""
        peer, stream = await self.client(initial_window_size=100)
        task = await self.waiting(getattr(stream, method)(*size))
        window, left, credit = 100, 1000, []
        while left and window:
            count = min(window, left)
            left -= count
            peer.data(1, bytes(count), end=not left)
            credit.append(sum(await self.credit(peer)))
            window += credit[-1] - count
        self.assertEqual(left, 0, "the peer has no window")
        self.assertEqual(len(await self.now(task)), 1000)
        return credit

    async def test_reading_more_than_the_window(self) -> None:
        for method, *size in (("read", -1), ("read", 1000), ("read_exactly", 1000)):
            with self.subTest(method, size=size):
                credit = await self.read_all_within_the_window(method, *size)
                self.assertEqual(credit, [100] * 9 + [0])

    async def test_what_a_waiting_read_holds_is_credited_once(self) -> None:
        peer, stream = await self.client(initial_window_size=100)
        peer.data(1, bytes(60))
        task = await self.waiting(stream.read(150))
        self.assertEqual(await self.credit(peer), [60])
        task.cancel()
        await settle()
        self.assertEqual(len(await self.now(stream.read(60))), 60)
        self.assertEqual(await self.credit(peer), [])
        peer.data(1, bytes(60))
        self.assertEqual(len(await self.now(stream.read())), 60)
        self.assertEqual(await self.credit(peer), [60])

    async def test_what_two_waiting_reads_hold_is_credited_once(self) -> None:
        peer, stream = await self.client(initial_window_size=100)
        peer.data(1, bytes(60))
        for size in (150, -1):
            task = await self.waiting(stream.read(size))
            task.cancel()
            await settle()
        self.assertEqual(await self.credit(peer), [60])

    async def test_read_only_claims_what_it_asked_for(self) -> None:
        """The rest of what has come is not for it, so the peer gets no credit for that."""
        peer, stream = await self.client(initial_window_size=100)
        peer.data(1, bytes(90))
        self.assertEqual(len(await self.now(stream.read(20))), 20)
        self.assertEqual(await self.credit(peer), [])

    async def test_padding(self) -> None:
        """Nobody reads it, so its credit goes back on receipt."""
        peer, stream = await self.client(initial_window_size=1000)
        padded = DataFrame(1, b"abc", pad_length=249, flags=["PADDED"])
        peer.send(padded, padded)
        self.assertEqual(await self.credit(peer), [500])
        self.assertEqual(await self.now(stream.read(6)), b"abcabc")
        self.assertEqual(await self.credit(peer), [])

    async def test_nothing_but_padding(self) -> None:
        peer, stream = await self.client(initial_window_size=1000)
        task = await self.waiting(stream.read())
        for _ in range(2):
            peer.send(DataFrame(1, b"", pad_length=249, flags=["PADDED"]))
        self.assertEqual(await self.credit(peer), [500])
        self.assertFalse(task.done())

    async def test_none_after_the_end(self) -> None:
        for make in (self.client, self.server):
            peer, stream = await make(initial_window_size=100)
            peer.data(1, bytes(50))
            peer.send(DataFrame(1, bytes(10), pad_length=20, flags=["END_STREAM", "PADDED"]))
            await self.now(stream.read(-1))
            self.assertEqual(await self.credit(peer), [])

    async def test_none_after_resets(self) -> None:
        for by_peer in (False, True):
            peer, stream = await self.client(initial_window_size=100)
            peer.data(1, bytes(100))
            if by_peer:
                peer.reset(1)
            else:
                stream.reset()
            self.assertEqual(len(await self.now(stream.read())), 100)
            self.assertEqual(await self.credit(peer), [])

    async def test_none_after_the_connection(self) -> None:
        peer, stream = await self.client(initial_window_size=100)
        peer.data(1, bytes(100))
        peer.lose()
        await settle()
        self.assertEqual(len(await self.now(stream.read())), 100)

    async def test_window_of_the_settings_in_force(self) -> None:
        """A smaller window makes what is owed due (section 6.9.2)."""
        peer, stream = await self.client(initial_window_size=1000)
        peer.data(1, bytes(100))
        await self.now(stream.read())
        self.assertEqual(await self.credit(peer), [])
        peer.protocol.initial_window_size = 200
        self.assertEqual(await self.credit(peer), [])
        peer.send_bytes(b"\0\0\0\4\1\0\0\0\0")
        self.assertEqual(await self.credit(peer), [100])

    async def test_larger_window(self) -> None:
        peer, stream = await self.client(initial_window_size=100)
        peer.protocol.initial_window_size = 1000
        peer.send_bytes(b"\0\0\0\4\1\0\0\0\0")
        peer.data(1, bytes(1000))
        await self.now(stream.read(499))
        self.assertEqual(await self.credit(peer), [])
        await self.now(stream.read(1))
        self.assertEqual(await self.credit(peer), [500])

    async def test_an_unread_stream_does_not_slow_another(self) -> None:
        size = 20_000
        peer = await Peer.of_server(initial_window_size=size, connection_window_size=65_535)
        for stream_id in (1, 3, 5, 7):
            peer.request(stream_id, POST, end=False)
        _, *unread = [await anext(peer.protocol) for _ in range(4)]
        busy = peer.protocol.stream(1)
        window = {0: 65_535, 1: size}
        for stream in unread:
            peer.data(stream.id, bytes(size))
            window[0] -= size
        for _ in range(50):
            for frame in await peer.frames(WindowUpdateFrame):
                window[frame.stream_id] += frame.window_increment
            count = min(window[0], window[1], 16_384)
            self.assertGreater(count, 0)
            peer.data(1, bytes(count))
            window[0] -= count
            window[1] -= count
            self.assertEqual(len(await self.now(busy.read())), count)
        self.assertEqual(len(await self.now(unread[0].read(size))), size)


class TestAbandonedStreams(StreamCase):
    """500 abandoned streams leave the connection its window."""

    WINDOW = 65_535

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        # it takes a traceback for each task and future
        asyncio.get_running_loop().set_debug(False)
        self.window = self.WINDOW

    def send(self, peer: Peer, *frames: Frame) -> None:
        for frame in frames:
            if isinstance(frame, DataFrame):
                self.window -= frame.flow_controlled_length
        self.assertGreaterEqual(self.window, 0)
        peer.send(*frames)

    def data(self, stream_id: int, *flags: str) -> DataFrame:
        if stream_id % 3:
            return DataFrame(stream_id, bytes(3000), flags=flags)
        return DataFrame(stream_id, bytes(2800), pad_length=199, flags=["PADDED", *flags])

    async def count(self, peer: Peer) -> None:
        """Take the credit that has come, once it is needed, as a peer would."""
        if self.window > 20_000:
            return
        for frame in await peer.frames(WindowUpdateFrame):
            if not frame.stream_id:
                self.window += frame.window_increment

    async def check_window(self, peer: Peer) -> None:
        self.window, missing = 0, self.window
        await self.count(peer)
        self.window += missing
        self.assertLessEqual(self.window, self.WINDOW)
        self.assertGreater(2 * self.window, self.WINDOW)

    async def abandon(self, peer: Peer, stream: aioh2.H2Stream, way: int) -> None:
        reading = asyncio.ensure_future(stream.read(4000))
        await settle(2)
        self.send(peer, self.data(stream.id))
        if way == 0:  # unread
            self.send(peer, self.data(stream.id, "END_STREAM"))
        elif way == 1:  # reset by the peer, bytes and reset in one segment
            self.send(peer, self.data(stream.id), RstStreamFrame(stream.id, ErrorCodes.CANCEL))
        elif way == 2:  # reset by this side, with late DATA under way
            stream.reset()
            self.send(peer, self.data(stream.id), self.data(stream.id, "END_STREAM"))
        elif way == 3:  # cancelled inside of `async with`, with late DATA under way
            async with stream:
                reading.cancel()
            self.send(peer, self.data(stream.id))
        else:  # malformed: the bytes with the mistake in them count as well
            peer.send(peer.headers(stream.id, TRAILERS))
            self.send(peer, self.data(stream.id))
        await settle(2)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)

    async def test_server(self) -> None:
        peer = await Peer.of_server(connection_window_size=self.WINDOW)
        for number in range(500):
            stream_id = 2 * number + 1
            peer.request(stream_id, POST, end=False)
            stream = await anext(peer.protocol)
            await self.abandon(peer, stream, number % 5)
            if stream.failure is None:
                await stream.start_response(RESPONSE, end_stream=True)
            await self.count(peer)
        await self.check_window(peer)

    async def test_client(self) -> None:
        peer = await Peer.of_client(connection_window_size=self.WINDOW)
        for number in range(500):
            stream = await peer.protocol.open_stream(REQUEST, end_stream=True)
            peer.respond(stream.id)
            await self.abandon(peer, stream, number % 5)
            await self.count(peer)
        await self.check_window(peer)

    async def test_refused(self) -> None:
        """The body of a refused request has been under way already."""
        peer = await Peer.of_server(connection_window_size=self.WINDOW, concurrency=1)
        peer.request(1, POST, end=False)
        for stream_id in range(3, 203, 2):
            peer.request(stream_id, POST, end=False)
            self.send(peer, self.data(stream_id), self.data(stream_id, "END_STREAM"))
            await self.count(peer)
        await self.check_window(peer)

    async def test_never_accepted(self) -> None:
        peer = await Peer.of_server(connection_window_size=self.WINDOW)
        for stream_id in range(1, 200, 2):
            peer.request(stream_id, POST, end=False)
            self.send(peer, self.data(stream_id))
            await self.count(peer)
        await self.check_window(peer)


class TestSending(StreamCase):
    async def test_data_and_end(self) -> None:
        for make in (self.client, self.server):
            peer, stream = await make()
            await stream.send_data(b"abc")
            await stream.send_data(b"def", end_stream=True)
            self.assertEqual(await self.sent(peer), [(b"abc", False), (b"def", True)])

    async def test_end(self) -> None:
        peer, stream = await self.client()
        await stream.send_data(b"abc")
        await stream.end()
        self.assertEqual(await self.sent(peer), [(b"abc", False), (b"", True)])

    async def test_bytes_like(self) -> None:
        for data, expected in (
            (b"abc", b"abc"),
            (bytearray(b"abc"), b"abc"),
            (memoryview(b"xabcx")[1:4], b"abc"),
            (memoryview(b"axbxcx")[::2], b"abc"),
            (memoryview(b"abcdef").cast("B", (2, 3)), b"abcdef"),
            (memoryview(b"abcd").cast("b"), b"abcd"),
            (array.array("H", [0x6161, 0x6262]), b"aabb"),
            (array.array("H"), b""),
            ((ctypes.c_ubyte * 3)(97, 98, 99), b"abc"),
        ):
            with self.subTest(data):
                peer, stream = await self.client()
                await stream.send_data(data, end_stream=True)
                self.assertEqual(await self.sent(peer), [(expected, True)])

    async def test_bytes_like_that_waits(self) -> None:
        """Windows and what was not sent are counted in bytes, whatever the items are."""
        for data in (
            array.array("H", [0x6161, 0x6262]),
            memoryview(b"aabb").cast("B", (2, 2)),
            memoryview(b"a-a-b-b-")[::2],
        ):
            with self.subTest(data):
                peer, stream = await self.client({SettingCodes.INITIAL_WINDOW_SIZE: 3})
                task = await self.waiting(stream.send_data(data))
                self.assertEqual(await self.sent(peer), [(b"aab", False)])
                peer.reset(1)
                with self.assertRaises(aioh2.SendException) as caught:
                    await self.now(task)
                self.assertEqual(caught.exception.data, b"b")

    async def test_buffers_are_free_again(self) -> None:
        """A bytearray that was sent can be filled again."""
        peer, stream = await self.client({SettingCodes.INITIAL_WINDOW_SIZE: 3})
        data = bytearray(b"abc")
        await stream.send_data(data)
        data += b"def"
        task = await self.waiting(stream.send_data(data))
        with self.assertRaises(BufferError):
            data.clear()
        peer.window(1, 100)
        await self.now(task)
        data.clear()
        self.assertEqual([each for each, _ in await self.sent(peer)], [b"abc", b"abcdef"])

    async def test_not_bytes_like(self) -> None:
        peer, stream = await self.client()
        for data in ("abc", 3, None, [97]):
            with self.subTest(data), self.assertRaises(TypeError):
                await stream.send_data(data, end_stream=True)  # type: ignore[arg-type]
        await stream.send_data(b"abc", end_stream=True)
        self.assertEqual(await self.sent(peer), [(b"abc", True)])

    async def test_empty_data(self) -> None:
        for window in (0, 100):
            peer, stream = await self.client({SettingCodes.INITIAL_WINDOW_SIZE: window})
            await self.now(stream.send_data(b""))
            self.assertEqual(await self.sent(peer), [])
            await self.now(stream.send_data(b"", end_stream=True))
            self.assertEqual(await self.sent(peer), [(b"", True)])

    async def test_before_the_response(self) -> None:
        peer, stream = await self.server(respond=False)
        await stream.start_response(EARLY_HINTS)
        await peer.frames()
        for call in (
            stream.send_data(b"abc"),
            stream.send_data(b"", end_stream=True),
            stream.end(),
            stream.send_trailers(TRAILERS),
        ):
            with self.assertRaisesRegex(StreamClosed, "start_response comes first"):
                await self.now(call)
        self.assertEqual(await peer.frames(), [])
        await stream.start_response(RESPONSE, end_stream=True)

    async def test_after_the_end(self) -> None:
        for make in (self.client, self.server):
            for end in (
                lambda stream: stream.end(),
                lambda stream: stream.send_data(b"abc", end_stream=True),
                lambda stream: stream.send_data(b"", end_stream=True),
                lambda stream: stream.send_trailers(TRAILERS),
                lambda stream: stream.send_trailers({}),
            ):
                peer, stream = await make()
                await end(stream)
                await peer.frames()
                for call in (stream.send_data(b"abc"), stream.end(), stream.send_trailers([])):
                    with self.assertRaisesRegex(StreamClosed, "this side has ended it already"):
                        await self.now(call)
                self.assertEqual(await peer.frames(), [])

    async def test_in_a_tunnel(self) -> None:
        peer = await Peer.of_client()
        stream = await peer.protocol.open_stream([(":method", "CONNECT"), (":authority", "b:1")])
        peer.respond(1)
        await stream.recv_response()
        with self.assertRaisesRegex(StreamClosed, "trailers"):
            await self.now(stream.send_trailers(TRAILERS))
        peer.data(1, b"abc", end=True)
        peer.reset(1)
        reader, writer = stream.as_reader_writer()
        self.assertEqual(await reader.read(), b"abc")
        writer.close()

    async def test_while_the_end_waits(self) -> None:
        peer, stream = await self.client({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        task = await self.waiting(stream.send_data(b"abc", end_stream=True))
        for call in (stream.send_data(b"def"), stream.end(), stream.send_trailers(TRAILERS)):
            with self.assertRaises(StreamClosed):
                await self.now(call)
        peer.window(1, 100)
        await self.now(task)
        self.assertEqual(await self.sent(peer), [(b"abc", True)])

    async def test_after_a_response_with_end_stream(self) -> None:
        _, stream = await self.server(respond=False)
        await stream.start_response(RESPONSE, end_stream=True)
        with self.assertRaises(StreamClosed):
            await self.now(stream.send_data(b"abc"))

    async def test_after_the_peers_end(self) -> None:
        """The other direction is open still."""
        for make in (self.client, self.server):
            peer, stream = await make()
            peer.data(1, end=True)
            await self.now(stream.send_data(b"abc"))
            await self.now(stream.send_trailers(TRAILERS))
            self.assertEqual(await peer.frames(RstStreamFrame), [])

    async def test_after_resets(self) -> None:
        peer, stream = await self.client()
        peer.reset(1, ErrorCodes.REFUSED_STREAM)
        with self.assertRaises(aioh2.SendException) as caught:
            await self.now(stream.send_data(array.array("H", [0x6161])))
        self.assertEqual((caught.exception.data, caught.exception.retryable), (b"aa", True))
        for call in (stream.end(), stream.send_trailers(TRAILERS)):
            with self.assertRaises(StreamReset):
                await self.now(call)
        _, stream = await self.client()
        stream.reset()
        for call in (stream.send_data(b"abc"), stream.end(), stream.send_trailers(TRAILERS)):
            with self.assertRaises(StreamClosed):
                await self.now(call)

    async def test_trailers(self) -> None:
        for make in (self.client, self.server):
            peer, stream = await make()
            await stream.send_data(b"abc")
            await stream.send_trailers({"T": "u", "v": b"w"})
            data, trailers = await peer.frames(DataFrame, HeadersFrame)
            self.assertEqual(data.flags, set())
            self.assertEqual(trailers.headers, [("t", "u"), ("v", "w")])
            self.assertIn("END_STREAM", trailers.flags)

    async def test_empty_trailers(self) -> None:
        peer, stream = await self.client()
        await stream.send_trailers([])
        self.assertEqual(await self.sent(peer), [(b"", True)])
        self.assertEqual(await peer.frames(HeadersFrame, ContinuationFrame), [])

    async def test_malformed_trailers_change_nothing(self) -> None:
        peer, stream = await self.client()
        for headers in ({":status": "200"}, {"connection": "close"}, {"": "x"}):
            with self.assertRaises(ValueError):
                await stream.send_trailers(headers)
        self.assertEqual(await peer.frames(), [])
        await stream.send_trailers(TRAILERS)
        self.assertEqual(len(await peer.frames(HeadersFrame)), 1)


class TestBlockedOn(StreamCase):
    async def test_nothing(self) -> None:
        for make in (self.client, self.server):
            peer, stream = await make()
            self.assertIsNone(stream.blocked_on)
            await stream.send_data(b"abc")
            peer.data(1, b"abc")
            await stream.read()
            self.assertIsNone(stream.blocked_on)

    async def test_peer(self) -> None:
        peer, stream = await self.client(respond=False, enable_push=True)
        for call, go_on in (
            (stream.recv_response, lambda: peer.respond(1)),
            (stream.recv_push, lambda: peer.send(peer.promise(1, 2))),
            (stream.read, lambda: peer.data(1, b"abc")),
            (stream.recv_trailers, lambda: peer.data(1, end=True)),
        ):
            task = await self.waiting(call())
            self.assertEqual(stream.blocked_on, "peer")
            go_on()
            await self.now(task)
            self.assertIsNone(stream.blocked_on)

    async def test_stream_window(self) -> None:
        peer, stream = await self.client({SettingCodes.INITIAL_WINDOW_SIZE: 3})
        task = await self.waiting(stream.send_data(b"abcdef"))
        self.assertEqual(stream.blocked_on, "stream window")
        peer.window(1, 2)
        await settle()
        self.assertEqual(stream.blocked_on, "stream window")
        peer.window(1, 1)
        await self.now(task)
        self.assertIsNone(stream.blocked_on)

    async def test_window_that_was_taken_back(self) -> None:
        peer, stream = await self.client({SettingCodes.INITIAL_WINDOW_SIZE: 3})
        await stream.send_data(b"abc")
        peer.send_bytes(b"\0\0\6\4\0\0\0\0\0" + b"\0\4\0\0\0\0")
        task = await self.waiting(stream.send_data(b"d"))
        peer.window(1, 3)
        await settle()
        self.assertEqual(stream.blocked_on, "stream window")
        peer.window(1, 1)
        await self.now(task)

    async def test_connection_window(self) -> None:
        peer, stream = await self.client({SettingCodes.INITIAL_WINDOW_SIZE: 100_000})
        task = await self.waiting(stream.send_data(bytes(70_000)))
        self.assertEqual(stream.blocked_on, "connection window")
        peer.window(0, 10_000)
        await self.now(task)
        self.assertIsNone(stream.blocked_on)

    async def test_transport(self) -> None:
        peer, stream = await self.client()
        peer.protocol.pause_writing()
        task = await self.waiting(stream.send_data(b"abc"))
        self.assertEqual(stream.blocked_on, "transport")
        peer.protocol.resume_writing()
        await self.now(task)
        self.assertIsNone(stream.blocked_on)

    async def test_transport_after_the_last_byte(self) -> None:
        """All is framed, and the transport does not take more: the call waits for that."""
        peer, stream = await self.client({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        task = await self.waiting(stream.send_data(b"abc"))
        write = peer.transport.write

        def pause(data: bytes) -> None:
            write(data)
            peer.protocol.pause_writing()

        peer.transport.write = pause  # type: ignore[method-assign]
        peer.window(1, 100)
        self.assertEqual(await self.sent(peer), [(b"abc", False)])
        self.assertFalse(task.done())
        self.assertEqual(stream.blocked_on, "transport")
        reading = await self.waiting(stream.read())
        self.assertEqual(stream.blocked_on, "transport")
        peer.protocol.resume_writing()
        await self.now(task)
        self.assertEqual(stream.blocked_on, "peer")
        peer.data(1, b"abc")
        await self.now(reading)
        self.assertIsNone(stream.blocked_on)

    async def test_end_behind_data(self) -> None:
        peer, stream = await self.client({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        tasks = [
            await self.waiting(stream.send_data(b"abc")),
            await self.waiting(stream.send_trailers(TRAILERS)),
        ]
        self.assertEqual(stream.blocked_on, "stream window")
        peer.window(1, 100)
        await self.now(asyncio.gather(*tasks))
        self.assertIsNone(stream.blocked_on)

    async def test_sender_before_reader(self) -> None:
        """Where both wait, what keeps this side from sending is said."""
        _, stream = await self.client({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        await self.waiting(stream.read())
        self.assertEqual(stream.blocked_on, "peer")
        await self.waiting(stream.send_data(b"abc"))
        self.assertEqual(stream.blocked_on, "stream window")

    async def test_after_the_end(self) -> None:
        peer, stream = await self.client({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        tasks = [await self.waiting(stream.read()), await self.waiting(stream.send_data(b"abc"))]
        peer.reset(1)
        await asyncio.wait(tasks)
        self.assertIsNone(stream.blocked_on)
        for task in tasks:
            self.assertIsNotNone(task.exception())


class TestBodyTimeout(StreamCase):
    """``body_timeout`` runs as long as anybody waits for the body."""

    loop_factory = SkippingLoop

    async def test_nobody_waits(self) -> None:
        peer, stream = await self.server(body_timeout=5)
        reading = await self.waiting(stream.read())
        reading.cancel()
        await skip(6)
        self.assertIsNone(stream.failure)
        peer.data(1, b"abc")
        self.assertEqual(await self.now(stream.read()), b"abc")

    async def test_one_waits(self) -> None:
        for call in (lambda s: s.read(), lambda s: s.read(5), lambda s: s.read_exactly(5)):
            _, stream = await self.server(body_timeout=5)
            reading = await self.waiting(call(stream))
            await skip(4)
            self.assertFalse(reading.done())
            await skip(2)
            with self.assertRaisesRegex(StreamReset, "blocked on peer for 5 s"):
                await self.now(reading)

    async def test_bytes_are_progress(self) -> None:
        peer, stream = await self.server(body_timeout=5)
        reading = await self.waiting(stream.read(5))
        for data in (b"a", b"b", b"c", b"d"):
            await skip(4)
            peer.data(1, data)
            await settle()
        self.assertFalse(reading.done())
        peer.data(1, b"e")
        self.assertEqual(await self.now(reading), b"abcde")

    async def test_one_of_two_waits(self) -> None:
        _, stream = await self.server(body_timeout=5)
        first, second = [await self.waiting(stream.read()) for _ in range(2)]
        second.cancel()
        await skip(6)
        with self.assertRaises(StreamReset):
            await self.now(first)


class TestReset(StreamCase):
    async def test_codes(self) -> None:
        for code in (None, ErrorCodes.NO_ERROR, ErrorCodes.INTERNAL_ERROR, 0x1234, 2**32 - 1):
            peer, stream = await self.client()
            if code is None:
                stream.reset()
            else:
                stream.reset(code)
            (frame,) = await peer.frames(RstStreamFrame)
            self.assertEqual(frame.error_code, ErrorCodes.CANCEL if code is None else code)

    async def test_bad_codes(self) -> None:
        peer, stream = await self.client()
        for code, error in ((-1, ValueError), (2**32, ValueError), ("8", TypeError)):
            with self.assertRaises(error):
                stream.reset(code)  # type: ignore[arg-type]
        self.assertEqual(await peer.frames(RstStreamFrame), [])

    async def test_twice(self) -> None:
        peer, stream = await self.client()
        for code in (ErrorCodes.CANCEL, ErrorCodes.INTERNAL_ERROR):
            stream.reset(code)
        (frame,) = await peer.frames(RstStreamFrame)
        self.assertEqual(frame.error_code, ErrorCodes.CANCEL)
        with self.assertRaisesRegex(StreamReset, "stream 1 was reset by this side: CANCEL"):
            await self.now(stream.read())

    async def test_of_a_stream_that_is_over(self) -> None:
        peer, stream = await self.client()
        await stream.end()
        peer.data(1, b"abc", end=True)
        await peer.frames()
        stream.reset()
        self.assertEqual(await peer.frames(), [])
        self.assertEqual(await self.now(stream.read(-1)), b"abc")
        self.assertEqual(repr(stream), "<H2Stream 1 closed>")
        self.assertEqual(peer.protocol.stats.resets_sent, 0)

    async def test_after_the_peers(self) -> None:
        peer, stream = await self.client()
        peer.reset(1, ErrorCodes.REFUSED_STREAM)
        self.assertTrue(stream.is_over)
        stream.reset()
        self.assertEqual(await peer.frames(RstStreamFrame), [])
        self.assertEqual(peer.protocol.stats.resets_sent, 0)
        with self.assertRaisesRegex(StreamReset, "by the peer: REFUSED_STREAM .*a retry is safe"):
            await self.now(stream.read())

    async def test_drops_what_is_queued(self) -> None:
        peer, stream = await self.client({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        task = await self.waiting(stream.send_data(b"abc", end_stream=True))
        stream.reset()
        peer.window(1, 100)
        self.assertEqual(await peer.frames(DataFrame), [])
        with self.assertRaises(aioh2.SendException) as caught:
            await self.now(task)
        self.assertEqual(caught.exception.data, b"abc")

    async def test_while_the_end_is_queued(self) -> None:
        """Both sides have said their end, but this side's has not gone out."""
        peer, stream = await self.client({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        task = await self.waiting(stream.send_data(b"abc", end_stream=True))
        peer.data(1, end=True)
        self.assertFalse(stream.is_over)
        stream.reset()
        self.assertEqual(len(await peer.frames(RstStreamFrame)), 1)
        self.assertIsInstance(task.exception(), aioh2.SendException)

    async def test_only_the_first_end_counts(self) -> None:
        peer, stream = await self.client()
        peer.reset(1)
        peer.lose()
        await settle()
        with self.assertRaises(StreamReset):
            await self.now(stream.read())

    async def test_only_the_first_end_in_a_segment_counts(self) -> None:
        peer, stream = await self.client()
        peer.send(
            RstStreamFrame(1, ErrorCodes.CANCEL), GoAwayFrame(0, 0, ErrorCodes.INTERNAL_ERROR)
        )
        with self.assertRaisesRegex(StreamReset, "by the peer: CANCEL"):
            await self.now(stream.read())

    async def test_by_id(self) -> None:
        peer, _ = await self.client()
        peer.protocol.reset_stream(1, ErrorCodes.INTERNAL_ERROR)
        (frame,) = await peer.frames(RstStreamFrame)
        self.assertEqual(frame.error_code, ErrorCodes.INTERNAL_ERROR)
        with self.assertRaises(StreamClosed):
            peer.protocol.reset_stream(3)


class TestPush(StreamCase):
    async def test_handles(self) -> None:
        client, server = await connected_pair(client={"enable_push": True})
        stream = await client.open_stream(REQUEST, end_stream=True)
        served = await anext(server)
        task = await self.waiting(stream.recv_push())
        promised = await served.push({":path": "/a.css"})
        await promised.start_response(RESPONSE)
        await promised.send_data(b"abc", end_stream=True)
        await served.start_response(RESPONSE, end_stream=True)
        push = await self.now(task)
        self.assertEqual((push.id, promised.id), (2, 2))
        self.assertIn((":path", "/a.css"), push.request_headers)
        self.assertEqual(await self.now(push.recv_response()), RESPONSE)
        self.assertEqual(await self.now(push.read(-1)), b"abc")
        self.assertIsNone(await self.now(stream.recv_push()))
        client.close_connection()
        await server.wait_closed()

    async def test_promises_in_order(self) -> None:
        peer, stream = await self.client(enable_push=True)
        for promised in (2, 4):
            peer.send(peer.promise(1, promised))
        peer.data(1, end=True)
        self.assertEqual([(await self.now(stream.recv_push())).id for _ in range(2)], [2, 4])
        for _ in range(2):
            self.assertIsNone(await self.now(stream.recv_push()))

    async def test_waits_for_the_end(self) -> None:
        peer, stream = await self.client(enable_push=True)
        task = await self.waiting(stream.recv_push())
        peer.data(1, end=True)
        self.assertIsNone(await self.now(task))

    async def test_sending_on_a_pushed_stream(self) -> None:
        peer, stream = await self.client(enable_push=True)
        peer.send(peer.promise(1, 2))
        push = await self.now(stream.recv_push())
        for call in (push.send_data(b"abc"), push.end(), push.send_trailers(TRAILERS)):
            with self.assertRaises(StreamClosed):
                await self.now(call)

    async def test_interim_response_on_a_stream_that_this_side_pushes(self) -> None:
        _, stream = await self.server()
        push = await self.now(stream.push(REQUEST))
        with self.assertRaises(aioh2.NotSupported):
            await self.now(push.start_response({":status": "103"}))
        await self.now(push.start_response(RESPONSE, end_stream=True))
        self.assertTrue(push.is_over)

    async def test_reading_from_a_stream_that_this_side_pushes(self) -> None:
        _, stream = await self.server()
        push = await self.now(stream.push(REQUEST))
        self.assertEqual(await self.now(push.read()), b"")
        self.assertEqual(await self.now(push.recv_trailers()), [])
        await push.start_response(RESPONSE, end_stream=True)
        self.assertTrue(push.is_over)

    async def test_promises_that_nobody_takes(self) -> None:
        """Those that are over count as well, or there would be no end of them."""
        peer, stream = await self.client(enable_push=True)
        await peer.frames()
        for promised in range(2, 2 * stream.PROMISES + 6, 2):
            peer.send(peer.promise(1, promised))
            peer.send(peer.headers(promised, RESPONSE, "END_STREAM"))
        resets = await peer.frames(RstStreamFrame)
        late = [2 * stream.PROMISES + 2, 2 * stream.PROMISES + 4]
        self.assertEqual(
            [(frame.stream_id, frame.error_code) for frame in resets],
            [(stream_id, ErrorCodes.REFUSED_STREAM) for stream_id in late],
        )
        taken = [await self.now(stream.recv_push()) for _ in range(stream.PROMISES)]
        self.assertEqual([push.id for push in taken], list(range(2, late[0], 2)))

    async def test_reset_of_a_promise(self) -> None:
        peer, stream = await self.client(enable_push=True)
        peer.send(peer.promise(1, 2))
        push = await self.now(stream.recv_push())
        push.reset()
        (frame,) = await peer.frames(RstStreamFrame)
        self.assertEqual(frame.stream_id, 2)

    async def test_on_a_client(self) -> None:
        _, stream = await self.client()
        with self.assertRaises(aioh2.NotSupported):
            await self.now(stream.push(REQUEST))


class TestServing(StreamCase):
    """What ``serve`` asks of a stream."""

    async def test_state_of_a_response(self) -> None:
        _, stream = await self.server(respond=False)
        self.assertFalse(stream.has_started)
        await stream.start_response(EARLY_HINTS)
        self.assertFalse(stream.has_started)
        await stream.start_response(RESPONSE)
        self.assertEqual((stream.has_started, stream.has_ended), (True, False))
        await stream.end()
        self.assertTrue(stream.has_ended)
        self.assertFalse(stream.is_over)
        self.assertIsNone(stream.failure)

    async def test_upload_stops_only_after_the_response(self) -> None:
        peer, stream = await self.server({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        peer.data(1, b"abc")
        self.assertFalse(stream.stop_upload())
        task = await self.waiting(stream.send_data(b"abc", end_stream=True))
        self.assertFalse(stream.stop_upload())
        peer.window(1, 100)
        await self.now(task)
        self.assertTrue(stream.stop_upload())
        self.assertEqual(stream.unread, 0)
        self.assertTrue(stream.stop_upload())
        (reset,) = await peer.frames(RstStreamFrame)
        self.assertEqual(reset.error_code, ErrorCodes.NO_ERROR)

    async def test_upload_of_a_client(self) -> None:
        _, stream = await self.client()
        await stream.end()
        self.assertFalse(stream.stop_upload())

    async def test_unread(self) -> None:
        peer, stream = await self.server()
        self.assertEqual(stream.unread, 0)
        peer.data(1, b"abc")
        peer.data(1, b"def")
        await stream.read(2)
        self.assertEqual(stream.unread, 4)


class TestAnyReading(unittest.TestCase):
    """Whatever is read how, the bytes are those that were sent, and the peer's window is right."""

    SIZE = 100

    @hypothesis_settings(max_examples=60, deadline=None, database=None)
    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("send"), st.integers(0, 120), st.integers(0, 20)),
                st.tuples(st.just("read"), st.integers(0, 150), st.just(0)),
                st.tuples(st.just("next"), st.just(0), st.just(0)),
                st.tuples(st.just("all"), st.just(0), st.just(0)),
            ),
            max_size=30,
        )
    )
    def test_reading(self, steps: list[tuple[str, int, int]]) -> None:
        asyncio.run(self.check(steps))

    async def check(self, steps: list[tuple[str, int, int]]) -> None:
        peer = await Peer.of_client(initial_window_size=self.SIZE)
        stream = await peer.protocol.open_stream(POST)
        peer.respond(1)
        await peer.frames()
        window, sent, got, padding = self.SIZE, bytearray(), bytearray(), 0
        for step, size, pad in steps:
            if step == "send":
                size = min(size, window)
                pad = min(pad, window - size - 1)
                data = bytes((len(sent) + at) % 256 for at in range(size))
                frame = DataFrame(1, data)
                if pad >= 0:
                    frame = DataFrame(1, data, pad_length=pad, flags=["PADDED"])
                    padding += pad + 1
                window -= frame.flow_controlled_length
                sent += data
                peer.send(frame)
            else:
                got += await self.read(stream, {"next": None, "all": -1}.get(step, size))
            for frame in await peer.frames(WindowUpdateFrame):
                window += frame.window_increment
            # neither overdrawn nor widened, and open where nothing is unread
            self.assertLessEqual(window, self.SIZE)
            if stream.unread == 0:
                self.assertGreater(2 * window, self.SIZE)
        peer.data(1, end=True)
        got += await stream.read(-1)
        self.assertEqual(got, sent)
        peer.protocol.close_connection()
        await peer.protocol.wait_closed()

    async def read(self, stream: aioh2.H2Stream, size: int | None) -> bytes:
        """Read; what would wait is cancelled, and must not lose anything."""
        task = asyncio.ensure_future(stream.read(size))
        await settle(3)
        if task.done():
            return task.result()
        task.cancel()
        await asyncio.wait([task])
        return b""
