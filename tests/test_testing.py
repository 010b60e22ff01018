"""``aioh2.testing``: what users test with, used as they would."""

from __future__ import annotations

import asyncio
import unittest
from typing import Any

from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
)

import aioh2
from aioh2.testing import (
    MemoryTransport,
    ScriptedPeer,
    VirtualTimeLoop,
    assert_no_leaks,
    connect,
    connected_pair,
    left_behind,
    virtual_time,
)

from .wire import POST, REQUEST, RESPONSE, Case, settle


class Recorder(asyncio.Protocol):
    """Notes what a transport tells it, and when."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.times: list[float] = []
        self.transport: MemoryTransport
        self.keeps_open = False

    def note(self, what: object) -> None:
        self.told.append(what)
        self.times.append(asyncio.get_running_loop().time())

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.note("made")

    def data_received(self, data: bytes) -> None:
        self.note(data)

    def eof_received(self) -> bool:
        self.note("eof")
        return self.keeps_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.note(exc)

    def pause_writing(self) -> None:
        self.note("pause")

    def resume_writing(self) -> None:
        self.note("resume")


def joined(**options: Any) -> tuple[Recorder, Recorder]:
    """Return two ends, and forget that they were told of the connection."""
    ends = Recorder(), Recorder()
    connect(*ends, **options)
    for end in ends:
        assert end.told == ["made"]
        end.told.clear()
        end.times.clear()
    return ends


class TestTransport(Case):
    async def test_both_ways_in_order(self) -> None:
        near, far = joined()
        near.transport.write(b"one")
        near.transport.writelines([b"two", bytearray(b"three")])
        far.transport.write(memoryview(b"four"))
        self.assertEqual((near.told, far.told), ([], []))
        await settle()
        self.assertEqual((near.told, far.told), ([b"four"], [b"one", b"twothree"]))

    async def test_empty_writes_are_nothing(self) -> None:
        near, far = joined()
        near.transport.write(b"")
        await settle()
        self.assertEqual(far.told, [])

    async def test_what_may_change_is_copied(self) -> None:
        near, far = joined()
        data = bytearray(b"before")
        near.transport.write(data)
        data[:] = b"after!"
        await settle()
        self.assertEqual(far.told, [b"before"])

    async def test_paused_reading_fills_the_writers_buffer(self) -> None:
        near, far = joined()
        near.transport.set_write_buffer_limits(10)
        self.assertEqual(near.transport.get_write_buffer_limits(), (2, 10))
        far.transport.pause_reading()
        self.assertFalse(far.transport.is_reading())
        near.transport.write(b"0123456789")
        self.assertEqual(near.told, [])
        near.transport.write(b"!")
        await settle()
        self.assertEqual((near.told, far.told), (["pause"], []))
        self.assertEqual(near.transport.get_write_buffer_size(), 11)
        far.transport.resume_reading()
        far.transport.resume_reading()
        await settle()
        self.assertEqual((near.told, far.told), (["pause", "resume"], [b"0123456789", b"!"]))
        self.assertEqual(near.transport.get_write_buffer_size(), 0)
        self.assertTrue(far.transport.is_reading())

    async def test_paused_by_what_it_hands_out(self) -> None:
        near, far = joined()
        far.transport.pause_reading()
        near.transport.write(b"one")
        near.transport.write(b"two")
        await settle()
        far.data_received = lambda data: (  # type: ignore[method-assign] # it pauses at each piece
            far.note(data),
            far.transport.pause_reading(),
        )
        far.transport.resume_reading()
        await settle()
        self.assertEqual(far.told, [b"one"])

    async def test_limits(self) -> None:
        near, _ = joined()
        near.transport.set_write_buffer_limits(8, 3)
        self.assertEqual(near.transport.get_write_buffer_limits(), (3, 8))
        near.transport.set_write_buffer_limits()
        self.assertEqual(near.transport.get_write_buffer_limits(), (16_384, 65_536))

    async def test_half_close(self) -> None:
        near, far = joined()
        far.keeps_open = True
        self.assertTrue(near.transport.can_write_eof())
        near.transport.write(b"last")
        near.transport.write_eof()
        near.transport.write_eof()
        with self.assertRaises(RuntimeError):
            near.transport.write(b"more")
        await settle()
        self.assertEqual(far.told, [b"last", "eof"])
        far.transport.write(b"answer")
        await settle()
        self.assertEqual(near.told, [b"answer"])

    async def test_close(self) -> None:
        near, far = joined()
        near.transport.write(b"last")
        near.transport.close()
        near.transport.close()
        self.assertTrue(near.transport.is_closing())
        self.assertFalse(near.transport.is_reading())
        near.transport.write_eof()
        await settle()
        self.assertEqual((near.told, far.told), ([None], [b"last", "eof", None]))

    async def test_close_waits_for_what_was_written(self) -> None:
        near, far = joined(bandwidth=1e6)
        near.transport.write(b"x" * 10_000)
        near.transport.close()
        near.transport.abort()
        await settle()
        self.assertEqual((near.told, len(far.told)), ([None], 1))
        self.assertIsInstance(far.told[0], ConnectionResetError)

    async def test_written_after_close(self) -> None:
        for way in (MemoryTransport.close, MemoryTransport.abort):
            near, far = joined()
            way(near.transport)
            near.transport.write(b"nothing")
            await settle()
            self.assertEqual(near.told, [None])
            self.assertNotIn(b"nothing", far.told)

    async def test_written_to_who_has_closed(self) -> None:
        near, far = joined()
        far.keeps_open = True
        near.transport.close()
        await settle()
        far.transport.write(b"too late")
        await settle()
        self.assertEqual(far.told[0], "eof")
        self.assertIsInstance(far.told[1], ConnectionResetError)
        self.assertEqual(len(far.told), 2)

    async def test_on_its_way_to_who_closes(self) -> None:
        near, far = joined()
        near.transport.pause_reading()
        far.transport.write(b"unread")
        await settle()
        near.transport.close()
        await settle()
        self.assertEqual(near.told, [None])

    async def test_lost(self) -> None:
        near, far = joined()
        why, why_far = OSError("cable"), OSError("dog")
        near.transport.write(b"never comes")
        near.transport.lose(why, why_far)
        near.transport.lose(why)
        await settle()
        self.assertEqual(near.told, [why])
        self.assertIn(why_far, far.told)

    async def test_protocol(self) -> None:
        near, far = joined()
        other = Recorder()
        far.transport.set_protocol(other)
        self.assertIs(far.transport.get_protocol(), other)
        near.transport.write(b"for the other")
        await settle()
        self.assertEqual((far.told, other.told), ([], [b"for the other"]))

    async def test_extra_info(self) -> None:
        near, _ = joined()
        self.assertIsNotNone(near.transport.get_extra_info("peername"))
        self.assertIsNone(near.transport.get_extra_info("ssl_object"))

    async def test_wrong_options(self) -> None:
        for options, what in (
            ({"latency": -1}, "latency"),
            ({"bandwidth": 0}, "bandwidth"),
            ({"latency": float("nan")}, "latency"),
        ):
            with self.assertRaisesRegex(ValueError, what):
                connect(Recorder(), Recorder(), **options)


class TestWay(unittest.TestCase):
    @virtual_time
    async def test_latency(self) -> None:
        near, far = joined(latency=0.25)
        for piece in (b"one", b"two", b"three"):
            near.transport.write(piece)
        near.transport.close()
        await asyncio.sleep(1)
        self.assertEqual(far.told, [b"one", b"two", b"three", "eof", None])
        self.assertEqual(set(far.times), {1000.25})

    @virtual_time
    async def test_bandwidth(self) -> None:
        near, far = joined(latency=0.5, bandwidth=16_384)
        near.transport.write(bytes(20_480))
        near.transport.close()
        await asyncio.sleep(5)
        self.assertEqual([len(piece) for piece in far.told[:2]], [16_384, 4_096])
        self.assertEqual(far.times, [1001.5, 1001.75, 1001.75, 1001.75])
        self.assertEqual((near.told, near.times), ([None], [1001.25]))

    @virtual_time
    async def test_lost_on_its_way(self) -> None:
        near, far = joined(latency=1)
        near.transport.write(b"never comes")
        await asyncio.sleep(0.5)
        near.transport.abort()
        await asyncio.sleep(2)
        self.assertEqual(len(far.told), 1)
        self.assertIsInstance(far.told[0], ConnectionResetError)

    @virtual_time
    async def test_lost_while_it_leaves(self) -> None:
        near, far = joined(bandwidth=1000)
        near.transport.write(bytes(1000))
        await asyncio.sleep(0.5)
        far.transport.abort()
        await asyncio.sleep(2)
        self.assertEqual(far.told, [None])
        self.assertEqual(len(near.told), 1)

    @virtual_time
    async def test_what_comes_while_it_closes_is_dropped(self) -> None:
        near, far = joined(bandwidth=1000)
        near.transport.write(bytes(1000))
        far.transport.write(bytes(500))
        near.transport.close()
        await asyncio.sleep(2)
        self.assertEqual((near.told, near.times), ([None], [1001.0]))
        self.assertEqual(far.told, [bytes(1000), "eof", None])

    @virtual_time
    async def test_what_is_on_its_way_is_in_no_buffer(self) -> None:
        near, far = joined(latency=1)
        near.transport.write(bytes(1_000_000))
        self.assertEqual((near.told, near.transport.get_write_buffer_size()), ([], 0))
        far.transport.pause_reading()
        await asyncio.sleep(2)
        self.assertEqual(near.told, ["pause"])
        self.assertEqual(near.transport.get_write_buffer_size(), 1_000_000)
        far.transport.resume_reading()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.assertEqual(near.told, ["pause", "resume"])


class TestVirtualTime(unittest.TestCase):
    def test_nothing_takes_time_but_waiting(self) -> None:
        async def main() -> float:
            loop = asyncio.get_running_loop()
            began = loop.time()
            await asyncio.sleep(3600)
            return loop.time() - began

        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            self.assertEqual(runner.run(main()), 3600)

    def test_for_ever(self) -> None:
        async def main() -> None:
            await asyncio.get_running_loop().create_future()

        with (
            self.assertRaisesRegex(RuntimeError, "nothing will ever happen"),
            asyncio.Runner(loop_factory=VirtualTimeLoop) as runner,
        ):
            try:
                runner.run(main())
            finally:
                # what still waits would wait for ever when the loop is closed, too
                asyncio.tasks.all_tasks(runner.get_loop()).pop().cancel()

    @virtual_time
    async def test_calls_of_other_threads(self) -> None:
        loop = asyncio.get_running_loop()
        called = loop.create_future()
        loop.call_soon_threadsafe(called.set_result, "by another thread")
        async with asyncio.timeout(10):
            self.assertEqual(await called, "by another thread")

    def test_result_and_arguments(self) -> None:
        @virtual_time
        async def add(a: int, *, b: int) -> int:
            """Add."""
            return a + b

        self.assertEqual(add(1, b=2), 3)
        self.assertEqual((add.__name__, add.__doc__), ("add", "Add."))

    def test_errors_of_the_loop(self) -> None:
        @virtual_time
        async def fail(error: Exception | None) -> None:
            loop = asyncio.get_running_loop()
            context: dict[str, Any] = {"message": "something"}
            loop.call_exception_handler({**context, "exception": error} if error else context)

        error = OSError("of the test")
        with self.assertRaises(ExceptionGroup) as caught:
            fail(error)
        self.assertEqual(caught.exception.exceptions, (error,))
        with self.assertRaisesRegex(ExceptionGroup, "told of errors") as caught:
            fail(None)
        self.assertEqual(str(caught.exception.exceptions[0]), "something")


async def echo(stream: aioh2.H2Stream) -> None:
    await stream.start_response(RESPONSE)
    await stream.send_data(await stream.read(-1), end_stream=True)


async def ask(case: unittest.TestCase, client: aioh2.H2Protocol, body: bytes = b"question") -> None:
    async with client.open_stream(POST) as stream:
        await stream.send_data(body, end_stream=True)
        case.assertEqual(await stream.read(-1), body)


class Sub(aioh2.H2Protocol):
    """A user's own class."""


class TestPair(Case):
    async def test_awaited(self) -> None:
        client, server = await connected_pair(lambda protocol: protocol.serve(echo))
        self.assertEqual((client.client_side, server.client_side), (True, False))
        self.assertGreater(client.remote_settings[aioh2.SettingCodes.MAX_CONCURRENT_STREAMS], 0)
        await ask(self, client)
        await client.shutdown()
        await server.wait_closed()
        await assert_no_leaks(client, server)

    async def test_entered(self) -> None:
        async with connected_pair(lambda protocol: protocol.serve(echo)) as (client, server):
            await ask(self, client, bytes(1_000_000))
            await assert_no_leaks(client, server)
        self.assertTrue(client.is_closing and server.is_closing)
        assert client.close_reason is not None
        self.assertEqual(client.close_reason.initiator, "local")

    async def test_left_with_an_exception(self) -> None:
        with self.assertRaises(LookupError):
            async with connected_pair() as (client, server):
                stream = await client.open_stream(POST)
                raise LookupError
        with self.assertRaises(aioh2.ConnectionClosed):
            await stream.recv_response()
        await assert_no_leaks(client, server)

    async def test_options(self) -> None:
        async with connected_pair(
            cls=Sub, client={"initial_window_size": 1000}, server={"concurrency": 3}
        ) as (client, server):
            self.assertIsInstance(client, Sub)
            self.assertIsInstance(server, Sub)
            self.assertEqual(client.available_slots, 3)
            window = server.remote_settings[aioh2.SettingCodes.INITIAL_WINDOW_SIZE]
            self.assertEqual(window, 1000)

    async def test_wrong_options(self) -> None:
        with self.assertRaisesRegex(TypeError, "concurency"):
            connected_pair(client={"concurency": 3})


class TestPairOverAWay(unittest.TestCase):
    @virtual_time
    async def test_latency_and_bandwidth(self) -> None:
        loop = asyncio.get_running_loop()
        wide = {"initial_window_size": 2_000_000}
        async with connected_pair(
            lambda protocol: protocol.serve(echo),
            client=wide,
            server=wide,
            latency=0.05,
            bandwidth=1_000_000,
        ) as (client, _):
            self.assertAlmostEqual(await client.ping(), 0.1, delta=0.001)
            began = loop.time()
            await ask(self, client, bytes(1_000_000))
            # a second up, a second down once it is all there, and a round trip
            self.assertAlmostEqual(loop.time() - began, 2.1, delta=0.01)


class TestScriptedPeer(Case):
    async def test_plays_a_server(self) -> None:
        peer = ScriptedPeer(settings={aioh2.SettingCodes.MAX_CONCURRENT_STREAMS: 7})
        client = await peer.connect()
        self.assertEqual(client.available_slots, 7)
        stream = await client.open_stream(REQUEST, end_stream=True)
        request = await peer.next(HeadersFrame)
        self.assertEqual(request.stream_id, stream.id)
        self.assertEqual(request.headers, REQUEST)  # type: ignore[attr-defined] # set by the peer
        peer.send_headers(stream.id, {":status": "103"})
        peer.send_headers(stream.id, RESPONSE)
        peer.send_data(stream.id, b"body")
        peer.send_headers(stream.id, {"checksum": "0"}, end_stream=True)
        self.assertEqual(await stream.recv_informational(), [(":status", "103")])
        self.assertEqual(await stream.recv_response(), RESPONSE)
        self.assertEqual(await stream.read(-1), b"body")
        self.assertEqual(await stream.recv_trailers(), [("checksum", "0")])
        self.assertLess(await client.ping(), 1)
        client.close_connection()
        self.assertEqual((await peer.next(GoAwayFrame)).error_code, 0)
        await client.wait_closed()

    async def test_plays_a_client(self) -> None:
        peer = ScriptedPeer(client_side=True)
        server = await peer.connect(Sub, concurrency=1)
        self.assertIsInstance(server, Sub)
        peer.send_headers(1, REQUEST, end_stream=True)
        peer.send_headers(3, REQUEST, end_stream=True)
        stream_id, headers = await server.recv_request()
        self.assertEqual((stream_id, headers), (1, REQUEST))
        refused = await peer.next(RstStreamFrame)
        self.assertEqual((refused.stream_id, refused.error_code), (3, 7))
        await server.start_response(1, RESPONSE)
        await server.send_data(1, b"x", end_stream=True)
        self.assertEqual((await peer.next(DataFrame, stream_id=1)).data, b"x")
        peer.close()
        await server.wait_closed()
        await assert_no_leaks(server)

    async def test_goaway_after_the_second_request(self) -> None:
        peer = ScriptedPeer()
        peer.on(HeadersFrame, lambda _: peer.send_goaway(1, 0, b"enough"), nth=2)
        client = await peer.connect()
        first = await client.open_stream(REQUEST, end_stream=True)
        second = await client.open_stream(REQUEST, end_stream=True)
        with self.assertRaises(aioh2.ConnectionClosed) as caught:
            await second.recv_response()
        self.assertTrue(caught.exception.retryable)
        self.assertEqual(caught.exception.debug_data, b"enough")
        peer.send_headers(1, RESPONSE, end_stream=True)
        self.assertEqual(await first.recv_response(), RESPONSE)
        await client.wait_closed()

    async def test_each_frame_of_a_kind(self) -> None:
        peer = ScriptedPeer()
        peer.on(HeadersFrame, lambda frame: peer.send_headers(frame.stream_id, RESPONSE))
        seen: list[Frame] = []
        peer.on(Frame, seen.append)
        client = await peer.connect()
        for _ in range(3):
            stream = await client.open_stream(REQUEST)
            self.assertEqual(await stream.recv_response(), RESPONSE)
            stream.reset()
        await settle()
        self.assertEqual(seen, peer.received)
        self.assertEqual(len([frame for frame in seen if isinstance(frame, HeadersFrame)]), 3)
        with self.assertRaisesRegex(ValueError, "from 1"):
            peer.on(Frame, seen.append, nth=0)
        client.close_connection()

    async def test_window_of_one_byte(self) -> None:
        peer = ScriptedPeer(settings={aioh2.SettingCodes.INITIAL_WINDOW_SIZE: 1})
        client = await peer.connect()
        stream = await client.open_stream(POST)
        sending = asyncio.create_task(stream.send_data(b"abc", end_stream=True))
        for byte in b"abc":
            self.assertEqual((await peer.next(DataFrame)).data, bytes([byte]))
            peer.send_window_update(stream.id, 1)
        await sending
        client.close_connection()

    async def test_pings_that_are_not_acknowledged(self) -> None:
        peer = ScriptedPeer()
        client = await peer.connect()
        await client.ping()
        peer.ack_pings = False
        ping = await self.waiting(client.ping())
        frame = (await peer.next(PingFrame), await peer.next(PingFrame))[1]
        peer.send_ping(frame.opaque_data, ack=True)
        await ping
        peer.send_ping(b"of peers")
        await settle()
        answer = await peer.next(PingFrame)
        self.assertEqual((answer.opaque_data, answer.flags), (b"of peers", {"ACK"}))
        client.close_connection()

    async def test_settings_that_are_not_acknowledged(self) -> None:
        peer = ScriptedPeer(ack_settings=False)
        client = await peer.connect()
        client.initial_window_size = 70_000
        await settle()
        self.assertEqual(client.initial_window_size, 262_144)
        for _ in peer.take(SettingsFrame)[:-1]:
            peer.send(SettingsFrame(flags=["ACK"]))
        await settle()
        self.assertEqual(client.initial_window_size, 70_000)
        self.assertEqual(peer.take(), [])
        client.close_connection()

    async def test_push(self) -> None:
        peer = ScriptedPeer()
        client = await peer.connect(enable_push=True)
        stream = await client.open_stream(REQUEST, end_stream=True)
        peer.send_push_promise(stream.id, 2, REQUEST)
        peer.send_headers(2, RESPONSE, end_stream=True)
        pushed = await stream.recv_push()
        assert pushed is not None
        self.assertEqual(await pushed.recv_response(), RESPONSE)
        client.close_connection()

    async def test_illegal_frames(self) -> None:
        peer = ScriptedPeer()
        client = await peer.connect()
        peer.send_frame(0xBE, 0xFF, 77, b"unknown: ignored")
        await client.ping()
        peer.send_frame(0x8, 0, 0, bytes(4))  # WINDOW_UPDATE of 0
        goaway = await peer.next(GoAwayFrame)
        self.assertEqual(goaway.error_code, aioh2.ErrorCodes.PROTOCOL_ERROR)
        await client.wait_closed()
        with self.assertRaisesRegex(ConnectionError, "without another RstStreamFrame"):
            await peer.next(RstStreamFrame)

    async def test_large_blocks_and_frames_in_pieces(self) -> None:
        peer = ScriptedPeer()
        client = await peer.connect(bandwidth=1e9, max_frame_size=32_768)
        stream = await client.open_stream([*REQUEST, ("large", "x" * 40_000)])
        request = await peer.next(HeadersFrame)
        await settle()
        self.assertEqual(request.headers[-1], ("large", "x" * 40_000))  # type: ignore[attr-defined] # set by the peer
        self.assertEqual(stream.id, 1)
        client.close_connection()

    async def test_wrong_preface(self) -> None:
        peer, other = ScriptedPeer(), Recorder()
        connect(other, peer)
        with self.assertRaisesRegex(AssertionError, "GET / HTTP/1.1"):
            peer.data_received(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")

    async def test_resets_and_ends(self) -> None:
        peer = ScriptedPeer()
        client = await peer.connect()
        stream = await client.open_stream(REQUEST)
        waiting = await self.waiting(peer.next(DataFrame))
        cancelled = await self.waiting(peer.next(DataFrame))
        cancelled.cancel()
        peer.send_reset(stream.id, aioh2.ErrorCodes.REFUSED_STREAM)
        with self.assertRaises(aioh2.StreamReset) as caught:
            await stream.recv_response()
        self.assertTrue(caught.exception.retryable)
        peer.abort()
        with self.assertRaisesRegex(ConnectionError, "without another DataFrame"):
            await waiting
        await client.wait_closed()
        reason = client.close_reason
        assert isinstance(reason, aioh2.ConnectionClosed)
        self.assertEqual(reason.initiator, "transport")
        self.assertTrue(peer.lost)

    async def test_end_of_the_other_side(self) -> None:
        peer = ScriptedPeer()
        client = await peer.connect()
        client.close_connection()
        await settle()
        self.assertTrue(peer.ended)
        peer.close()
        await settle()
        self.assertTrue(peer.lost)

    async def test_on_a_real_socket(self) -> None:
        peer = ScriptedPeer()
        peer.on(HeadersFrame, lambda f: peer.send_headers(f.stream_id, RESPONSE, end_stream=True))
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(lambda: peer, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        async with listening, aioh2.open_connection("127.0.0.1", port) as client:
            async with client.open_stream(REQUEST, end_stream=True) as stream:
                self.assertEqual(await stream.recv_response(), RESPONSE)
            peer.close()


class TestLeaks(Case):
    async def found(self, protocol: aioh2.H2Protocol, what: str) -> None:
        with self.assertRaisesRegex(AssertionError, what):
            await assert_no_leaks(protocol)
        self.assertRegex("\n".join(left_behind(protocol)), what)

    async def test_streams_and_requests(self) -> None:
        client, server = await connected_pair(server={"concurrency": 1})
        await assert_no_leaks(client, server)
        stream = await client.open_stream(POST)
        await self.waiting(stream.recv_response())
        await self.waiting(client.start_request(POST))
        await self.found(client, "1 open stream")
        await self.found(client, "1 requests that wait for a slot")
        await self.found(server, "1 open stream")
        client.close_connection()
        await server.wait_closed()
        await assert_no_leaks(client, server)

    async def test_bodies_pings_and_handlers(self) -> None:
        peer = ScriptedPeer(
            client_side=True, settings={aioh2.SettingCodes.INITIAL_WINDOW_SIZE: 1}, ack_pings=False
        )
        server = await peer.connect()
        ending = asyncio.Event()

        async def handle(stream: aioh2.H2Stream) -> None:
            await stream.start_response(RESPONSE)
            try:
                await stream.send_data(b"abc")
            finally:
                await ending.wait()

        server.set_handler(lambda protocol: protocol.serve(handle))
        peer.send_headers(1, REQUEST, end_stream=True)
        await self.waiting(server.ping())
        await self.found(server, "1 bodies to send")
        await self.found(server, "1 calls that wait for a PING")
        await self.found(server, "1 handlers")
        peer.send_reset(1)
        await self.found(server, "1 handlers")
        await self.found(server, "1 streams that count though nobody works for them")
        ending.set()
        peer.close()
        await server.wait_closed()
        await assert_no_leaks(server)

    async def test_credit(self) -> None:
        async with connected_pair(lambda protocol: protocol.serve(echo)) as (client, server):
            await ask(self, client, bytes(100))
            await assert_no_leaks(client, server)
            server._driver._credit_connection = lambda count: None  # type: ignore[method-assign] # the leak
            await ask(self, client, bytes(100))
            await self.found(server, "100 bytes of the connection's window")
            await assert_no_leaks(client)

    async def test_calls_on_a_stream_that_has_ended(self) -> None:
        client, server = await connected_pair()
        stream = await client.open_stream(POST)
        stream.reset()
        never = asyncio.get_running_loop().create_future()
        stream._turns = [never]  # type: ignore[assignment] # no way leads there
        await self.found(client, "calls that wait on <H2Stream 1")
        client.close_connection()
        await server.wait_closed()
