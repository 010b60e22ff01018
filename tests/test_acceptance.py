"""Cases that span rooms, each of which went wrong once."""

from __future__ import annotations

import asyncio
import socket
import tracemalloc
from typing import Any
from unittest import mock

from hyperframe.frame import DataFrame, RstStreamFrame, SettingsFrame

import aioh2
from aioh2.server import Server
from aioh2.testing import connected_pair

from .test_server import client_context, server_context
from .wire import POST, REQUEST, RESPONSE, Case, Peer, settle


class TestServeForever(Case):
    async def test_ends_with_a_client_connected(self) -> None:
        server = await aioh2.start_server(lambda p: p.serve(answer), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        serving = await self.waiting(server.serve_forever())
        async with aioh2.open_connection("127.0.0.1", port) as client:
            serving.cancel()
            await asyncio.wait([serving], timeout=1)
            self.assertTrue(serving.cancelled())
            self.assertFalse(server.is_serving())
            self.assertFalse(client.is_closing)
            await server.shutdown(0)

    async def test_closed(self) -> None:
        server = await aioh2.start_server(answer, "127.0.0.1", 0, start_serving=False)
        serving = await self.waiting(server.serve_forever())
        self.assertTrue(server.is_serving())
        with self.assertRaises(RuntimeError):
            await server.serve_forever()
        server.close()
        await settle()
        self.assertTrue(serving.cancelled())

    async def test_grace_is_checked_first(self) -> None:
        server: Server = await aioh2.start_server(answer, "127.0.0.1", 0)
        for grace, error in (("1", TypeError), (-1, ValueError), (True, TypeError)):
            with self.assertRaises(error):
                await server.shutdown(grace)  # type: ignore[arg-type]
        self.assertTrue(server.is_serving())
        await server.shutdown(0)


async def answer(stream: Any) -> None:
    await stream.start_response({":status": "200"}, end_stream=True)


class TestSmallFrames(Case):
    async def test_many_that_nobody_reads_take_little_more_than_their_bytes(self) -> None:
        peer = await Peer.of_server(frames_per_tick=1_000)
        peer.request(1, POST, end=False)
        await settle()
        count = 50_000
        segment = DataFrame(1, b"x").serialize() * 1_000
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(count // 1_000):
                peer.send_bytes(segment)
            held = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        self.assertLess(held, 4 * count)
        stream = peer.protocol.stream(1)
        self.assertEqual(await stream.read(5), b"xxxxx")
        peer.data(1, b"y" * 3_000, end=True)
        rest = [chunk async for chunk in stream]
        self.assertEqual(b"".join(rest), b"x" * (count - 5) + b"y" * 3_000)
        self.assertEqual({type(chunk) for chunk in rest}, {bytes})


class TestSlots(Case):
    async def test_push_whose_parent_dies_with_the_grant_leaves_the_slot_to_the_next(self) -> None:
        peer = await Peer.of_server(settings={3: 1})
        for stream_id in (1, 3):
            peer.request(stream_id)
        promised = await peer.protocol.push_stream(1, {":path": "/a"})
        first = await self.waiting(peer.protocol.push_stream(1, {":path": "/b"}))
        second = await self.waiting(peer.protocol.push_stream(3, {":path": "/c"}))
        peer.send(RstStreamFrame(promised, 8), RstStreamFrame(1, 8))
        await settle()
        self.assertIsInstance(first.exception(), aioh2.StreamReset)
        self.assertEqual(second.result(), promised + 2)


LONG = {"x-long": "y" * 2_000}


class TestHeaderListLimit(Case):
    async def test_client(self) -> None:
        peer = await Peer.of_client(settings={6: 1_000})
        with self.assertRaisesRegex(aioh2.NotSupported, "SETTINGS_MAX_HEADER_LIST_SIZE"):
            await peer.protocol.start_request(LONG)
        self.assertEqual(await peer.protocol.start_request({}), 1)
        with self.assertRaisesRegex(aioh2.NotSupported, "the peer takes 1000"):
            await peer.protocol.send_trailers(1, LONG)
        await peer.protocol.end_stream(1)

    async def test_server(self) -> None:
        peer = await Peer.of_server(settings={6: 1_000})
        peer.request(1)
        with self.assertRaisesRegex(aioh2.NotSupported, "the headers are"):
            await peer.protocol.start_response(1, {":status": "200", **LONG})
        await peer.protocol.start_response(1, RESPONSE, end_stream=True)


class TestHandlers(Case):
    async def test_shutdown_after_the_handlers_stream_waits_for_the_connection(self) -> None:
        later: list[asyncio.Task[aioh2.Drained]] = []

        async def handler(stream: aioh2.H2Stream) -> None:
            async def shut_down() -> aioh2.Drained:
                await settle()
                return await stream.protocol.shutdown()

            later.append(asyncio.create_task(shut_down()))
            await answer(stream)

        client, server = await connected_pair()
        server.set_handler(lambda protocol: protocol.serve(handler))
        await client.recv_response(await client.start_request(REQUEST, end_stream=True))
        self.assertEqual(await later[0], (0, 0))
        self.assertIsNotNone(server.close_reason)
        await server.wait_closed()

    async def test_held_streams_do_not_refuse_others(self) -> None:
        """RFC 9113 section 5.1.2: what was reset is not open, though its handler goes on."""

        async def handler(stream: aioh2.H2Stream) -> None:
            try:
                await stream.read(-1)
            finally:
                await asyncio.sleep(0)
            await answer(stream)

        client, server = await connected_pair(server={"concurrency": 1})
        server.set_handler(lambda protocol: protocol.serve(handler))
        stream = await client.open_stream(REQUEST)
        await settle()
        stream.reset()
        other = await client.open_stream(REQUEST, end_stream=True)
        self.assertEqual(await other.recv_response(), RESPONSE)
        await client.shutdown()


class TestOddTransports(Case):
    async def test_one_that_answers_any_question(self) -> None:
        protocol = aioh2.H2Protocol(True)
        transport = mock.MagicMock(spec=asyncio.Transport)
        transport.is_closing.return_value = False
        transport.get_write_buffer_size.return_value = 0
        protocol.connection_made(transport)
        protocol.data_received(SettingsFrame().serialize())
        self.assertFalse(protocol.is_closing)
        transport.write.assert_called()
        protocol.connection_lost(None)

    async def test_one_that_only_writes(self) -> None:
        class Writer:
            written = b""

            def get_extra_info(self, name: str, default: Any = None) -> Any:
                return default

            def is_closing(self) -> bool:
                return False

            def write(self, data: bytes) -> None:
                self.written += data

        protocol, transport = aioh2.H2Protocol(True), Writer()
        protocol.connection_made(transport)  # type: ignore[arg-type]
        self.assertTrue(transport.written.startswith(b"PRI * HTTP/2.0"))
        protocol.connection_lost(None)


class TestOpenStream(Case):
    async def test_dropped_and_used_twice(self) -> None:
        client, server = await connected_pair()
        client.open_stream(REQUEST)
        opening = client.open_stream(REQUEST)
        self.assertEqual([(await opening).id, (await opening).id], [1, 3])
        client.close_connection()
        await server.wait_closed()


class TestClientNames(Case):
    async def test_authority_of_a_given_socket(self) -> None:
        seen: list[Any] = []

        async def handler(stream: aioh2.H2Stream) -> None:
            seen.extend(value for name, value in stream.request_headers if name == ":authority")
            await answer(stream)

        async with await aioh2.start_server(lambda p: p.serve(handler), "127.0.0.1", 0) as server:
            address = server.sockets[0].getsockname()
            reader = aioh2.open_connection(*address)
            async with reader as client, client.open_stream({}, end_stream=True) as stream:
                await stream.recv_response()
        self.assertEqual(seen, [f"127.0.0.1:{address[1]}"])

    async def test_authority_over_tls_with_a_given_socket(self) -> None:
        seen: list[Any] = []

        async def handler(stream: aioh2.H2Stream) -> None:
            seen.extend(value for name, value in stream.request_headers if name == ":authority")
            await answer(stream)

        async with await aioh2.start_server(
            lambda p: p.serve(handler), "127.0.0.1", 0, ssl=server_context()
        ) as server:
            sock = socket.create_connection(server.sockets[0].getsockname())
            sock.setblocking(False)
            opening = aioh2.open_connection(
                sock=sock, ssl=client_context(), server_hostname="localhost"
            )
            async with opening as client, client.open_stream({}, end_stream=True) as stream:
                await stream.recv_response()
        self.assertEqual(seen, ["localhost"])
