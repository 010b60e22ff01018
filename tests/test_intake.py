"""``Intake``: the share of a tick, what is not read and why, and what comes after the end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import time
import unittest
from typing import Any
from unittest import mock

from h2.errors import ErrorCodes
from hyperframe.frame import (
    GoAwayFrame,
    PingFrame,
    SettingsFrame,
)

import aioh2
from aioh2.intake import Intake

from .octets import (
    GOAWAY,
    PING,
    cut,
    data,
    headers,
    opening,
    raw,
    setting,
    u32,
    window_update,
)
from .test_abuse import GREETING, AbuseCase, stream
from .test_server import client_context, server_context
from .wire import PREFACE, REQUEST, RESPONSE, MemoryTransport, Peer, SkippingLoop, settle, skip


class PacedTransport(MemoryTransport):
    """One that says whether it was told to read."""

    reading = True

    def pause_reading(self) -> None:
        assert self.reading, "paused already"
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading, "it reads already"
        self.reading = True


class TestUnread(AbuseCase):
    """A peer that sends and never reads does not make this side hoard."""

    loop_factory = SkippingLoop

    async def victim(self, *, client: bool = False, **options: Any) -> Peer:
        with mock.patch("tests.wire.MemoryTransport", PacedTransport):
            return await super().victim(client=client, **options)

    async def test_replies(self) -> None:
        for client in (False, True):
            for frames in (raw(PING, 0, 0, bytes(8)), setting()):
                peer = await self.victim(client=client, control_budget=None)
                peer.protocol.pause_writing()
                size = len(peer.transport.written)
                for _ in range(5_000):
                    if not peer.transport.reading:  # type: ignore[attr-defined]
                        break
                    peer.send_bytes(frames)
                    await settle(1)
                self.assertFalse(peer.transport.reading)  # type: ignore[attr-defined]
                self.assertLess(len(peer.transport.written) - size, 8_192)
                peer.protocol.resume_writing()
                self.assertTrue(peer.transport.reading)  # type: ignore[attr-defined]
                await self.assert_served(peer, 3)

    async def test_a_frame_whose_rest_is_not_read(self) -> None:
        """The time that it may take runs only while it is read."""
        half, pings = data(1, b"half")[:-2], raw(PING, 0, 0, bytes(8)) * 60
        for before, after in ((half, b""), (b"", half)):
            peer = await self.victim(control_budget=None, write_timeout=None)
            peer.protocol.pause_writing()
            for _ in range(4):
                peer.send_bytes(pings)
                await settle(2)
            peer.send_bytes(pings + before)
            await settle(2)
            self.assertFalse(peer.transport.reading)  # type: ignore[attr-defined]
            peer.send_bytes(after)
            for closed in (False, True):
                await skip(11)
                self.assertIs(peer.protocol.is_closing, closed)
                peer.protocol.resume_writing()

    async def test_responses(self) -> None:
        async def answer(stream: aioh2.H2Stream) -> None:
            await stream.start_response({":status": "204"}, end_stream=True)

        peer = await self.victim(handler=lambda p: p.serve(answer))
        peer.protocol.pause_writing()
        for number in range(5_000):
            if not peer.transport.reading:  # type: ignore[attr-defined]
                break
            peer.request(stream(number))
            await settle(4)
        self.assertLess(number, 1_000)
        peer.protocol.resume_writing()
        self.assertTrue(peer.transport.reading)  # type: ignore[attr-defined]

    async def test_an_upload_goes_on_while_a_download_is_not_read(self) -> None:
        """Whoever sends first and reads later waits for this side, which must not wait for it."""
        received = bytearray()

        async def both(stream: aioh2.H2Stream) -> None:
            await stream.start_response(RESPONSE)
            sending = asyncio.ensure_future(stream.send_data(bytes(1_000_000)))
            async for chunk in stream:
                received.extend(chunk)
            sending.cancel()

        peer = await self.victim(handler=lambda p: p.serve(both), settings={4: 2**20})
        peer.protocol.pause_writing()
        for _ in range(1_000):
            peer.data(1, bytes(16_000))
            await settle(4)
        self.assertEqual(len(received), 16_000_000)
        self.assertTrue(peer.transport.reading)  # type: ignore[attr-defined]

    async def test_requests_of_this_side_do_not_count(self) -> None:
        """A server may write all its responses before it reads the next request."""
        peer = await self.victim(client=True)
        peer.protocol.pause_writing()
        for number in range(90):
            await peer.protocol.start_request([*REQUEST, ("n", str(number) * 200)])
        await settle()
        self.assertTrue(peer.transport.reading)  # type: ignore[attr-defined]

    async def test_a_transport_that_cannot_pause(self) -> None:
        def cannot(self: Any) -> None:
            raise NotImplementedError

        for error in (NotImplementedError, AttributeError):
            side_effect = mock.Mock(side_effect=error)
            with (
                mock.patch.object(MemoryTransport, "pause_reading", side_effect),
                mock.patch.object(MemoryTransport, "resume_reading", side_effect),
            ):
                peer = await AbuseCase.victim(self, control_budget=None)
                for _ in range(2):
                    peer.send_bytes(raw(PING, 0, 0, bytes(8)) * 100)
                peer.protocol.pause_writing()
                await settle()
                peer.protocol.resume_writing()
                self.assertEqual(len(await peer.frames(PingFrame)), 200)
                self.assertGreaterEqual(side_effect.call_count, 2)


class TestShare(AbuseCase):
    async def victim(self, *, client: bool = False, **options: Any) -> Peer:
        with mock.patch("tests.wire.MemoryTransport", PacedTransport):
            return await super().victim(client=client, **options)

    async def test_others_have_their_turn(self) -> None:
        neighbour = await self.victim()
        peer = await self.victim()
        # they come in this order, and the other is answered first
        peer.send_bytes(data(1, b"x") * 10_000)
        neighbour.send(PingFrame(0, b"12345678"))
        await settle(3)
        self.assertIn(b"12345678", neighbour.transport.written)
        self.assertLess(peer.protocol.stream(1).unread, 10_000)
        # one more read may come; then none do
        self.assertTrue(peer.transport.reading)  # type: ignore[attr-defined]
        peer.send_bytes(data(1, b"x") * 1_000)
        self.assertFalse(peer.transport.reading)  # type: ignore[attr-defined]
        await settle(200)
        self.assertEqual(peer.protocol.stream(1).unread, 11_000)
        self.assertTrue(peer.transport.reading)  # type: ignore[attr-defined]

    async def test_one_tick_takes_a_share(self) -> None:
        peer = await self.victim()
        peer.send_bytes(data(1, b"x") * 200)
        for unread in (64, 128, 192, 200, 200):
            self.assertEqual(peer.protocol.stream(1).unread, unread)
            await settle(1)

    async def test_bytes_in_order(self) -> None:
        """What comes while something waits has its turn after that, however it is cut."""
        peer = await self.victim(frames_per_tick=3)
        sent = b"".join(data(1, bytes([number % 251])) for number in range(500))
        sent += data(1, b"", end=True)
        cuts = [0, 7, 40, 41, 900, 905, 3_000, 4_000, len(sent)]
        for start, end in itertools.pairwise(cuts):
            peer.send_bytes(sent[start:end])
        read = await peer.protocol.stream(1).read(-1)
        self.assertEqual(read, bytes(number % 251 for number in range(500)))
        self.assertTrue(peer.transport.reading)  # type: ignore[attr-defined]

    async def ended(self, end: str, **options: Any) -> list[int]:
        """Return the requests that come out when the transport ends while most of them wait."""
        peer = await self.victim(**options)
        protocol = peer.protocol
        requests = b"".join(headers(stream(number)) for number in range(90))
        peer.send_bytes(requests[:200])
        peer.send_bytes(requests[200:])
        if end == "tls":
            peer.transport._extra["ssl_object"] = mock.Mock()  # type: ignore[attr-defined]
        if end in ("eof", "tls"):
            self.assertIs(protocol.eof_received(), end == "eof")
        if end != "eof":
            peer.lose(ConnectionResetError() if end == "reset" else None)
        await settle(40)
        self.assertTrue(peer.transport.closed)
        ids = []
        with contextlib.suppress(aioh2.ConnectionClosed):
            while True:
                ids.append((await protocol.recv_request())[0])
        return ids

    async def test_what_came_before_the_end_counts(self) -> None:
        for end in ("eof", "lost", "reset", "tls"):
            with self.subTest(end):
                ids = await self.ended(end, frames_per_tick=8)
                self.assertEqual(ids, [1, *(stream(number) for number in range(90))])

    async def test_a_lost_connection_takes_no_more_than_some_shares(self) -> None:
        ids = await self.ended("lost", frames_per_tick=1)
        self.assertGreater(len(ids), 10)
        self.assertLess(len(ids), 30)

    async def test_eof_with_nothing_waiting_ends_at_once(self) -> None:
        peer = await self.victim()
        self.assertFalse(peer.protocol.eof_received())

    async def test_closing_drops_what_waits(self) -> None:
        peer = await self.victim(frames_per_tick=1)
        peer.send_bytes(data(1, b"x") * 10)
        peer.send_bytes(data(1, b"y") * 10)
        peer.protocol.close_connection()
        await settle()
        self.assertTrue(peer.transport.closed)
        self.assertEqual(await peer.protocol.read_stream(1, 5), b"x")

    async def test_an_error_in_a_later_share(self) -> None:
        peer = await self.victim(frames_per_tick=2)
        peer.send_bytes(data(1, b"x") * 5 + window_update(0, 0) + data(1, b"x"))
        goaway = (await peer.frames(GoAwayFrame))[-1]
        self.assertEqual(goaway.error_code, ErrorCodes.PROTOCOL_ERROR)
        self.assertEqual(await peer.protocol.read_stream(1, 5), b"xxxxx")

    async def test_a_flood_does_not_keep_others_waiting(self) -> None:
        """Over real sockets: one floods with what no budget bounds, another is answered."""

        async def answer(stream: aioh2.H2Stream) -> None:
            await stream.read(-1)
            await stream.start_response(RESPONSE)
            await stream.send_data(b"ok", end_stream=True)

        loop = asyncio.get_running_loop()
        loop.set_debug(False)
        server = await aioh2.start_server(lambda p: p.serve(answer), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        attackers = []
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(GREETING + opening(1))
            writer.write(data(1, b"x") * 200_000)
            attackers.append((reader, writer))
        client = await aioh2.open_connection("127.0.0.1", port)
        slowest = 0.0
        for _ in range(20):
            start = time.monotonic()
            async with client.open_stream(REQUEST, end_stream=True) as asked:
                self.assertEqual(await asked.read(-1), b"ok")
            slowest = max(slowest, time.monotonic() - start)
        for _, writer in attackers:
            writer.transport.abort()
        await client.shutdown()
        await server.shutdown(0)
        self.assertLess(slowest, 0.25)


class HalfTransport(PacedTransport):
    """One that can end its own side alone."""

    ended = False

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def write(self, data: Any) -> None:
        assert not self.ended, "write after the end"
        super().write(data)


class TestEarly(AbuseCase):
    """Bytes that come before the transport."""

    async def test_what_comes_before_the_connection(self) -> None:
        """As from start_tls(), which returns a little later than it begins to hand on."""
        protocol = aioh2.H2Protocol(False)
        peer = Peer(protocol)
        peer.send_bytes(PREFACE)
        peer.send(SettingsFrame(settings={}))
        peer.request(1)
        protocol.connection_made(peer.transport)
        self.assertEqual((await protocol.recv_request())[0], 1)


class TestLingering(AbuseCase):
    """A GOAWAY with an error can be read by a peer that still sends."""

    loop_factory = SkippingLoop

    async def victim(self, *, client: bool = False, **options: Any) -> Peer:
        with mock.patch("tests.wire.MemoryTransport", HalfTransport):
            return await super().victim(client=client, **options)

    async def half_closed(self, **options: Any) -> Peer:
        peer = await self.victim(**options)
        peer.send_bytes(window_update(0, 0) + data(1, b"x") * 200)
        self.assertEqual(len(await peer.frames(GoAwayFrame)), 1)
        self.assertTrue(peer.transport.ended)  # type: ignore[attr-defined]
        self.assertTrue(peer.transport.reading)  # type: ignore[attr-defined]
        self.assertFalse(peer.transport.closed)
        self.assertTrue(peer.protocol.is_closing)
        return peer

    async def test_until_the_peer_ends(self) -> None:
        peer = await self.half_closed()
        peer.send_bytes(bytes(100_000))
        self.assertFalse(peer.protocol.eof_received())
        self.assertFalse(peer.transport.closed)
        peer.lose()
        await settle()
        await peer.protocol.wait_closed()
        self.assertEqual(await peer.frames(), [])

    async def test_until_it_is_aborted(self) -> None:
        peer = await self.half_closed()
        peer.protocol.abort()
        self.assertTrue(peer.transport.aborted)
        await settle()
        await peer.protocol.wait_closed()

    async def test_so_many_bytes(self) -> None:
        with mock.patch.object(Intake, "LINGER_BYTES", 1_000):
            peer = await self.half_closed()
        peer.send_bytes(bytes(999))
        self.assertFalse(peer.transport.closed)
        peer.send_bytes(bytes(1))
        self.assertTrue(peer.transport.closed)
        peer.send_bytes(bytes(1_000))

    async def test_bytes_from_a_transport_that_is_gone(self) -> None:
        with mock.patch.object(Intake, "LINGER_BYTES", 1_000):
            peer = await self.half_closed()
        peer.lose()
        await settle()
        peer.send_bytes(bytes(1_000))
        self.assertTrue(peer.protocol.is_closing)

    async def test_so_long(self) -> None:
        peer = await self.half_closed()
        await skip(Intake.LINGER_SECONDS)
        self.assertTrue(peer.transport.closed)
        await peer.protocol.wait_closed()

    async def test_longer_where_the_peer_still_reads(self) -> None:
        loop = asyncio.get_running_loop()
        loop.slow_callback_duration = float("inf")
        real, skipped = loop.time, 0.0
        with mock.patch.object(loop, "time", lambda: real() + skipped):
            peer = await self.half_closed(close_timeout=3)
            for _ in range(5):
                # it gives back what it has read
                peer.window(0, 10)
                skipped += 0.6 * Intake.LINGER_SECONDS
                await settle()
                self.assertIs(peer.transport.closed, skipped >= 3)

    async def test_transport_over_tls(self) -> None:
        # there is no end of one side alone: the peer has GOAWAY to go by
        loop = asyncio.get_running_loop()
        loop.slow_callback_duration = float("inf")
        real, skipped = loop.time, 0.0
        with mock.patch.object(loop, "time", lambda: real() + skipped):
            protocol = aioh2.H2Protocol(False)
            peer = Peer(protocol, ssl_object=mock.Mock())
            protocol.connection_made(peer.transport)
            protocol.close_connection(ErrorCodes.INTERNAL_ERROR)
            self.assertFalse(peer.transport.closed)
            self.assertEqual(len(await peer.frames(GoAwayFrame)), 1)
            skipped += Intake.LINGER_SECONDS
            await settle()
            self.assertTrue(peer.transport.closed)
            await protocol.wait_closed()

    async def test_transport_that_closes_meanwhile(self) -> None:
        with mock.patch.object(Intake, "LINGER_BYTES", 1_000):
            peer = await self.half_closed()
        peer.transport.closed = True
        peer.transport.close = mock.Mock()  # type: ignore[method-assign]
        peer.send_bytes(bytes(1_000))
        peer.transport.close.assert_not_called()
        peer.lose()

    async def test_no_longer_than_closing_may_take(self) -> None:
        peer = await self.victim(close_timeout=0)
        peer.send_bytes(window_update(0, 0))
        await settle()
        self.assertTrue(peer.transport.closed)

    async def test_reading_goes_on_where_it_was_paused(self) -> None:
        peer = await self.victim()
        peer.send_bytes(data(1, b"x") * 200 + window_update(0, 0))
        peer.send_bytes(data(1, b"x"))
        self.assertFalse(peer.transport.reading)  # type: ignore[attr-defined]
        await settle()
        self.assertTrue(peer.transport.ended)  # type: ignore[attr-defined]
        self.assertTrue(peer.transport.reading)  # type: ignore[attr-defined]
        peer.lose()

    async def test_not_after_a_clean_end(self) -> None:
        for code, lingers in ((ErrorCodes.NO_ERROR, False), (ErrorCodes.INTERNAL_ERROR, True)):
            peer = await self.victim()
            peer.protocol.close_connection(code)
            self.assertIs(peer.transport.ended, lingers)  # type: ignore[attr-defined]
            self.assertIs(peer.transport.closed, not lingers)
            peer.lose()

    async def test_after_a_drain(self) -> None:
        peer = await self.victim()
        peer.request(3)
        leaving = await self.waiting(peer.protocol.shutdown())
        [ping] = await peer.frames(PingFrame)
        peer.ack_ping(ping)
        for stream_id in (1, 3):
            await peer.protocol.start_response(stream_id, RESPONSE)
            await peer.protocol.send_data(stream_id, b"words", end_stream=True)
        peer.reset(1)
        await settle()
        self.assertTrue(peer.transport.ended)  # type: ignore[attr-defined]
        self.assertFalse(peer.transport.closed)
        # the peer still gives back what it has read
        peer.window(0, 10)
        self.assertFalse(leaving.done())
        peer.lose()
        await settle()
        self.assertTrue(leaving.done())

    async def test_not_after_the_drain_of_a_client(self) -> None:
        peer = await self.victim(client=True)
        leaving = await self.waiting(peer.protocol.shutdown())
        await peer.protocol.end_stream(1)
        peer.respond(1, end=True)
        await settle()
        self.assertFalse(peer.transport.ended)  # type: ignore[attr-defined]
        self.assertTrue(peer.transport.closed)
        await leaving

    async def test_not_where_the_peer_has_ended(self) -> None:
        peer = await self.victim(frames_per_tick=1)
        peer.send_bytes(data(1, b"x") + window_update(0, 0))
        self.assertTrue(peer.protocol.eof_received())
        await settle()
        self.assertFalse(peer.transport.ended)  # type: ignore[attr-defined]
        self.assertTrue(peer.transport.closed)

    async def test_transports_that_cannot(self) -> None:
        for error in (NotImplementedError, AttributeError, OSError):
            with mock.patch.object(HalfTransport, "write_eof", mock.Mock(side_effect=error)):
                peer = await self.victim()
                peer.send_bytes(window_update(0, 0))
                self.assertEqual(len(await peer.frames(GoAwayFrame)), 1)
                self.assertTrue(peer.transport.closed)
        peer = await self.victim()
        peer.transport.closed = True
        peer.send_bytes(window_update(0, 0))
        self.assertFalse(peer.transport.ended)  # type: ignore[attr-defined]
        peer.lose()

    async def test_over_a_socket(self) -> None:
        """A peer that has sent much more than was read gets the GOAWAY, and then the end."""
        loop = asyncio.get_running_loop()
        server = await aioh2.start_server(lambda protocol: None, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()[:2]) as sock:
            sock.setblocking(False)
            await loop.sock_sendall(sock, GREETING + window_update(0, 0) + bytes(3_000_000))
            received = b""
            while piece := await loop.sock_recv(sock, 65_536):
                received += piece
                # it is still sending, and only now comes to read
                await loop.sock_sendall(sock, bytes(100_000))
        kind, _, _, payload = cut(received)[-1]
        self.assertEqual(kind, GOAWAY)
        self.assertEqual(payload[4:8], u32(ErrorCodes.PROTOCOL_ERROR))
        await server.shutdown(0)

    async def test_over_tls(self) -> None:
        """TLS cannot end one side alone; its goodbye does what can be done."""
        server = await aioh2.start_server(
            lambda protocol: None, "127.0.0.1", 0, ssl=server_context()
        )
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            server.sockets[0].getsockname()[1],
            ssl=client_context("h2"),
            server_hostname="localhost",
        )
        writer.write(GREETING + window_update(0, 0) + bytes(100_000))
        received = await reader.read()
        self.assertEqual(cut(received)[-1][0], GOAWAY)
        writer.close()
        await server.shutdown(0)


if __name__ == "__main__":
    unittest.main()
