"""The same over TLS, where asyncio puts a protocol of its own between the socket and aioh2."""

from __future__ import annotations

import socket
import ssl
import unittest

from ..interop.cases import within
from . import hostile
from .fire import FaultCase


class TestTls(FaultCase):
    """Peers that break off or stall, as in ``test_faults``."""

    async def start_tls(self, **options: float) -> ssl.SSLContext:
        """Start a server, and return what its clients need."""
        certificates = self.issue_certificates()
        await self.start("--cert", certificates.cert, "--key", certificates.key, **options)
        context = certificates.client_context()
        context.set_alpn_protocols(["h2"])
        return context

    @within(30)
    async def test_cut(self) -> None:
        context = await self.start_tls()

        async def cut_off(count: int) -> None:
            peers = await self.make_all(
                count, lambda: self.download(5, context=context) + self.upload(5, context=context)
            )
            for number, peer in enumerate(peers):
                hostile.cut(peer, rst=number // 5 % 4 < 2)
            await self.until_left(0)

        await cut_off(20)
        before = await self.mark()
        await cut_off(100)
        self.check_left(before, await self.mark())

    @within(30)
    async def test_cut_in_the_handshake(self) -> None:
        context = await self.start_tls()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        with self.assertRaises(ssl.SSLWantReadError):
            context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1").do_handshake()
        hello = outgoing.read()

        def cut_off() -> None:
            for first in (b"", hello[:3], hello[:-1], hello):
                for rst in (False, True):
                    peer = self.connect(first)
                    if first == hello:
                        peer.recv(1)
                    hostile.cut(peer, rst=rst)

        async def after_all() -> dict[str, int]:
            # what is in its handshake is not counted; but who comes later takes longer than that
            last = await self.connect_all(1, context=context)
            hostile.close(last)
            await self.until_left(0)
            return await self.mark()

        cut_off()
        before = await after_all()
        for _ in range(10):
            cut_off()
        self.check_left(before, await after_all())

    @within(30)
    async def test_slow_readers(self) -> None:
        context = await self.start_tls(write_timeout=1, close_timeout=0.5)
        endless = hostile.GREEDY + hostile.get("/endless")
        hostile.close(await self.connect_all(20, endless, context=context))
        await self.until_left(0)
        before = await self.mark()
        deaf = await self.connect_all(20, endless, context=context, buffer=4_096)
        await self.until_blocked(20)
        await self.until_left(0, seconds=4)
        hostile.close(deaf)
        self.check_left(before, await self.mark())

    @within(30)
    async def test_eof_without_close_notify(self) -> None:
        context = await self.start_tls(close_timeout=1)
        firsts = [
            hostile.GREEDY,
            hostile.GREEDY + hostile.get("/never"),
            hostile.CLOSED + hostile.get("/endless"),
            hostile.UPLOAD + hostile.HALF_A_FRAME,
        ]
        before = await self.mark()
        peers: list[socket.socket] = []
        for first in firsts:
            peers += await self.connect_all(20, first, context=context)
        for peer in peers:
            # SSLSocket.shutdown is that of TCP
            peer.shutdown(socket.SHUT_WR)
        await self.until_left(0, seconds=3)
        hostile.close(peers)
        self.check_left(before, await self.mark())

    @within(30)
    async def test_eof_of_a_peer_that_does_not_read(self) -> None:
        context = await self.start_tls(close_timeout=1, write_timeout=2)
        endless = hostile.GREEDY + hostile.get("/endless")
        hostile.close(await self.connect_all(20, endless, context=context))
        await self.until_left(0)
        before = await self.mark()
        deaf = await self.connect_all(20, endless, context=context, buffer=4_096)
        await self.until_blocked(20)
        for peer in deaf:
            peer.shutdown(socket.SHUT_WR)
        await self.until_left(0, seconds=5)
        hostile.close(deaf)
        self.check_left(before, await self.mark())


if __name__ == "__main__":
    unittest.main()
