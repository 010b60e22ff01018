"""Peers that break off, stall or vanish: what they held comes back, and the others are served."""

from __future__ import annotations

import asyncio
import socket
import unittest

from h2.errors import ErrorCodes

from .. import octets
from ..interop.cases import within
from . import hostile
from .fire import MIB, SLACK, FaultCase


class TestCut(FaultCase):
    """Connections that end in the middle of a transfer."""

    @within(50)
    async def test_500_at_once(self) -> None:
        count = hostile.connections_for(500)
        await self.start()
        # the allocator keeps some pages of so many
        await self.cut_off(count)
        await self.until_left(0)
        before = await self.mark()
        await self.start_probe()
        await self.cut_off(count)
        await self.until_left(2)
        await self.stop_probe(20)
        await self.until_left(0)
        self.check_left(before, await self.mark())

    async def cut_off(self, count: int) -> None:
        """Begin so many transfers of both kinds, and end all by RST and FIN in turn."""
        peers = await self.make_all(count, lambda: self.download(10) + self.upload(10))
        for number, peer in enumerate(peers):
            hostile.cut(peer, rst=number // 10 % 4 < 2)
        await self.until_left(2)

    @within(50)
    async def test_1000_resets(self) -> None:
        await self.start()
        transfers = (
            hostile.GREEDY + hostile.get("/endless"),
            hostile.UPLOAD + hostile.HALF_A_FRAME,
        )

        async def reset(count: int) -> None:
            for number in range(count):
                peer = self.connect(transfers[number % 2])
                peer.recv(1)
                hostile.cut(peer, rst=True)
            await self.until_left(0)

        await reset(100)
        before = await self.mark()
        await reset(1_000)
        self.check_left(before, await self.mark())


class TestStalled(FaultCase):
    """Connections that go on too slowly, or not at all."""

    @within(30)
    async def test_slow_readers(self) -> None:
        await self.start(write_timeout=2, window_timeout=2, close_timeout=0.5)
        hostile.close(self.download(10))
        await self.until_left(0)
        before = await self.mark()
        await self.start_probe()
        endless = hostile.get("/endless")
        deaf = await self.connect_all(100, hostile.GREEDY + endless, buffer=4_096)
        closed = await self.connect_all(100, hostile.CLOSED + endless)
        await self.until_blocked(200)
        held = await self.resident() - before["resident"]
        self.assertLess(held, 200 * MIB // 2, "more than half a MiB for each")
        # those that took nothing were aborted; of the others only the streams were reset
        await self.until_left(102)
        for peer in closed:
            peer.sendall(octets.raw(octets.PING, 0, 0, bytes(8)))
            received = b""
            while octets.rst_stream(1) not in received:
                received += (piece := peer.recv(65_536))
                self.assertTrue(piece)
        for peer in deaf[:5]:
            # nothing could be said to them
            self.assertEqual(hostile.goaways(hostile.finish(peer) or b""), [])
        hostile.close(closed)
        await self.stop_probe(20)
        await self.until_left(0)
        self.check_left(before, await self.mark())

    @within(30)
    async def test_slow_senders(self) -> None:
        await self.start(open_timeout=1, frame_timeout=1)
        before = await self.mark()
        await self.start_probe()
        code = ErrorCodes
        header = octets.raw(octets.HEADERS, 0, 3, octets.literal(octets.REQUEST))
        # what is sent at once, what then comes in a trickle, and what the server says
        scenes = [
            (b"", octets.PREFACE, code.SETTINGS_TIMEOUT),
            (octets.PREFACE, octets.setting((1, 4_096)), code.SETTINGS_TIMEOUT),
            (hostile.GREEDY, octets.headers(1), code.ENHANCE_YOUR_CALM),
            (hostile.GREEDY + header, octets.raw(9, 0, 3, bytes(60)), code.ENHANCE_YOUR_CALM),
            (hostile.UPLOAD, hostile.HALF_A_FRAME, code.ENHANCE_YOUR_CALM),
        ]
        groups = [await self.connect_all(20, at_once) for at_once, _, _ in scenes]
        honest = await self.connect_all(20, hostile.UPLOAD)
        for tick in range(40):
            for (_, slowly, _), peers in zip(scenes, groups, strict=True):
                # never to its end
                hostile.trickle(peers, slowly[:-1][tick : tick + 1])
            hostile.trickle(honest, octets.data(1, b"x"))
            await asyncio.sleep(0.05)
        await self.until_left(22)
        for (_, _, wanted), peers in zip(scenes, groups, strict=True):
            received = [hostile.finish(peer) for peer in peers]
            # who sends on when it is told to stop may lose what it is told
            codes = {code for ended in received for _, code in hostile.goaways(ended or b"")}
            self.assertLessEqual(codes, {wanted})
        for peer in honest:
            peer.sendall(octets.data(1, b"", end=True) + octets.goaway(0))
            self.assertIn(octets.data(1, b"40", end=True), hostile.finish(peer) or b"")
        await self.stop_probe(50)
        await self.until_left(0)
        self.check_left(before, await self.mark())

    @within(30)
    async def test_half_open(self) -> None:
        await self.start(keepalive_interval=1, keepalive_timeout=1)
        before = await self.mark()
        await self.start_probe()
        gone = await self.connect_all(100) + await self.connect_all(100, hostile.UPLOAD)
        there = await self.connect_all(20)
        loop = asyncio.get_running_loop()
        end = loop.time() + 4
        while loop.time() < end and await self.count() > 22:
            # any octet is a sign of life
            hostile.trickle(there, octets.raw(octets.PING, octets.ACK, 0, bytes(8)))
            await asyncio.sleep(0.2)
        self.assertIn(await self.count(), (21, 22))
        for peer in gone:
            # not even GOAWAY: nobody was there
            self.assertEqual(hostile.goaways(hostile.finish(peer) or b""), [])
        hostile.close(there)
        await self.stop_probe(50)
        await self.until_left(0)
        self.check_left(before, await self.mark())

    @within(30)
    async def test_half_closed(self) -> None:
        # who does not read may not be read from, and then its EOF is not seen
        await self.start(close_timeout=1, write_timeout=2)
        before = await self.mark()
        await self.start_probe()
        requests = [
            hostile.GREEDY,
            hostile.GREEDY[:30],
            hostile.GREEDY + hostile.get("/never"),
            hostile.CLOSED + hostile.get("/endless"),
            hostile.UPLOAD,
            hostile.UPLOAD + hostile.HALF_A_FRAME,
        ]
        peers: list[socket.socket] = []
        for first in requests:
            peers += await self.connect_all(20, first)
        # these do not read what is on its way to them, either
        deaf = await self.connect_all(20, hostile.GREEDY + hostile.get("/endless"), buffer=4_096)
        await self.until_blocked(40)
        for peer in peers + deaf:
            peer.shutdown(socket.SHUT_WR)
        await self.until_left(2, seconds=5)
        hostile.close(peers + deaf)
        await self.stop_probe(2)
        await self.until_left(0)
        self.check_left(before, await self.mark())


class TestIdle(FaultCase):
    """Connections that do nothing."""

    @within(50)
    async def test_2000(self) -> None:
        count = hostile.connections_for(2_000)
        await self.start()
        hostile.close([self.connect() for _ in range(20)])
        await self.until_left(0)
        before = await self.mark()
        await self.start_probe()
        peers = await self.connect_all(count)
        # a second of nothing
        await asyncio.sleep(1)
        self.assertGreaterEqual(await self.count(), count)
        held = await self.resident() - before["resident"]
        self.assertLess(held / len(peers), 64 * 1024, "more than 64 KiB for each")
        # they are alive
        for peer in peers[::100]:
            peer.sendall(hostile.get("/"))
            received = b""
            while octets.data(1, b"0", end=True) not in received:
                received += (piece := peer.recv(65_536))
                self.assertTrue(piece)
        await self.stop_probe(50)
        hostile.close(peers)
        await self.until_left(0)
        # an object here and there keeps a page from the allocator that was full of connections
        self.check_left(before, await self.mark(), slack=3 * SLACK)


if __name__ == "__main__":
    unittest.main()
