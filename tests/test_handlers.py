"""What an application hands in: one handler for a connection, one for each stream."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import struct
import sys
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

from h2.settings import SettingCodes
from hyperframe.frame import (
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
)

import aioh2
from aioh2.testing import connected_pair

from .test_closing import LAST, Timed, ack_announcement, last_streams
from .wire import POST, REQUEST, RESPONSE, MemoryTransport, Peer, settle

LOG = "aioh2.server"


async def forever() -> None:
    await asyncio.Event().wait()


class Agreed:
    """What a transport over TLS says of ALPN."""

    def __init__(self, protocol: str | None) -> None:
        self.protocol = protocol

    def selected_alpn_protocol(self) -> str | None:
        return self.protocol


class HandlerCase(Timed):
    @asynccontextmanager
    async def logs(self, level: str) -> AsyncIterator[list[str]]:
        """Check that the worst that is logged is of this level; hand out the lines."""
        lines: list[str] = []
        with self.assertLogs(LOG, level) as logs:
            yield lines
            await settle()
        self.assertEqual({record.levelname for record in logs.records}, {level})
        lines += [record.getMessage() for record in logs.records]

    @asynccontextmanager
    async def info_at_most(self) -> AsyncIterator[None]:
        with self.assertNoLogs(LOG, "WARNING"):
            yield
            await settle()


class TestReturned(HandlerCase):
    """What ``client_connected_cb`` may return."""

    async def shuts_down(self, peer: Peer) -> None:
        """Check that the connection shuts down, gracefully."""
        self.assertEqual(await ack_announcement(peer), [LAST])
        (final,) = await peer.frames(GoAwayFrame)
        self.assertEqual((final.last_stream_id, final.error_code), (0, 0))
        self.assertTrue(peer.transport.closed)

    async def test_coroutine(self) -> None:
        called: list[aioh2.H2Protocol] = []
        proceed = asyncio.Event()

        async def handler(protocol: aioh2.H2Protocol) -> None:
            called.append(protocol)
            await proceed.wait()

        peer = await Peer.of_server(handler=handler)
        self.assertEqual(called, [peer.protocol])
        self.assertFalse(peer.protocol.is_closing)
        proceed.set()
        await self.shuts_down(peer)

    async def test_task(self) -> None:
        proceed = asyncio.Event()
        peer = await Peer.of_server(handler=lambda _: asyncio.create_task(proceed.wait()))
        self.assertFalse(peer.protocol.is_closing)
        proceed.set()
        await self.shuts_down(peer)

    async def test_task_cancelled_by_the_application(self) -> None:
        task = asyncio.create_task(forever())
        async with self.info_at_most():
            peer = await Peer.of_server(handler=lambda _: task)
            task.cancel()
            await self.shuts_down(peer)

    async def test_future(self) -> None:
        future = asyncio.get_running_loop().create_future()
        peer = await Peer.of_server(handler=lambda _: future)
        self.assertFalse(peer.protocol.is_closing)
        future.set_result("ignored")
        await self.shuts_down(peer)

    async def test_future_with_exception(self) -> None:
        future = asyncio.get_running_loop().create_future()
        peer = await Peer.of_server(handler=lambda _: future)
        async with self.logs("ERROR"):
            future.set_exception(ValueError("of the application"))
        self.assertEqual([f.error_code for f in await peer.frames(GoAwayFrame)], [2])

    async def test_future_cancelled(self) -> None:
        future = asyncio.get_running_loop().create_future()
        peer = await Peer.of_server(handler=lambda _: future)
        future.cancel()
        await self.shuts_down(peer)

    async def test_future_is_cancelled_with_the_connection(self) -> None:
        future = asyncio.get_running_loop().create_future()
        peer = await Peer.of_server(handler=lambda _: future)
        peer.lose()
        await settle()
        self.assertTrue(future.cancelled())

    async def test_none(self) -> None:
        called: list[aioh2.H2Protocol] = []
        peer = await Peer.of_server(handler=called.append)
        self.assertEqual(called, [peer.protocol])
        self.assertFalse(peer.protocol.is_closing)
        peer.request(1)
        self.assertEqual((await self.soon(peer.protocol.recv_request()))[0], 1)

    async def test_anything_else(self) -> None:
        class Awaitable:
            def __await__(self) -> Any:
                raise AssertionError("awaited")

        for result in (7, False, "text", Awaitable()):
            with self.subTest(result):
                async with self.logs("ERROR"):
                    peer = await self.opened(lambda _, result=result: result)
                frames = await peer.frames(SettingsFrame, GoAwayFrame)
                self.assertEqual([type(frame) for frame in frames], [SettingsFrame, GoAwayFrame])
                self.assertEqual(frames[-1].error_code, 2)
                self.assertTrue(peer.transport.closed)

    async def test_error_says_what_was_returned(self) -> None:
        with self.assertLogs(LOG, "ERROR") as logs:
            await self.opened(lambda _: 7)
        self.assertIn("coroutine", logs.output[0])
        self.assertIn("not 7", logs.output[0])

    async def test_raises_in_the_call(self) -> None:
        def handler(protocol: aioh2.H2Protocol) -> None:
            raise ValueError("of the application")

        with self.assertLogs(LOG, "INFO") as logs:
            peer = await self.opened(handler)
        self.assertEqual([record.levelname for record in logs.records], ["ERROR"])
        self.assertIn("of the application", logs.output[0])
        (goaway,) = await peer.frames(GoAwayFrame)
        self.assertEqual((goaway.error_code, goaway.last_stream_id), (2, 0))
        self.assertTrue(peer.transport.closed)

    async def opened(self, handler: Any) -> Peer:
        protocol = aioh2.H2Protocol(False)
        protocol.set_handler(handler)
        peer = Peer(protocol)
        protocol.connection_made(peer.transport)
        await settle()
        return peer


class TestSetHandler(HandlerCase):
    async def test_twice(self) -> None:
        protocol = aioh2.H2Protocol(False)
        protocol.set_handler(lambda _: None)
        with self.assertRaisesRegex(ValueError, "already"):
            protocol.set_handler(lambda _: None)

    async def test_not_callable(self) -> None:
        protocol = aioh2.H2Protocol(False)
        coroutine = forever()
        with self.assertRaisesRegex(TypeError, "handler must be callable, not <coroutine"):
            protocol.set_handler(coroutine)  # type: ignore[arg-type]
        coroutine.close()
        protocol.set_handler(lambda _: None)

    async def test_not_called_before_the_transport_is_ready(self) -> None:
        called: list[aioh2.H2Protocol] = []
        protocol = aioh2.H2Protocol(False)
        protocol.set_handler(called.append)  # type: ignore[arg-type]
        self.assertEqual(called, [])
        protocol.connection_made(MemoryTransport(protocol, ssl_object=Agreed("h2")))
        self.assertEqual(called, [protocol])

    async def test_not_called_without_alpn(self) -> None:
        for chosen in (None, "http/1.1"):
            with self.subTest(chosen):
                called: list[aioh2.H2Protocol] = []
                protocol = aioh2.H2Protocol(False)
                protocol.set_handler(called.append)  # type: ignore[arg-type]
                transport = MemoryTransport(protocol, ssl_object=Agreed(chosen))
                async with self.logs("INFO"):
                    protocol.connection_made(transport)
                self.assertEqual(called, [])
                self.assertTrue(transport.closed)
                self.assertEqual(transport.written, b"")
                self.assertIsInstance(protocol.close_reason, aioh2.HandshakeError)

    async def test_after_the_connection_is_made(self) -> None:
        peer = await Peer.of_server()
        peer.request(1)
        requests = []

        async def handler(protocol: aioh2.H2Protocol) -> None:
            requests.append(await protocol.recv_request())

        peer.protocol.set_handler(handler)
        await settle()
        self.assertEqual(requests, [(1, REQUEST)])

    async def test_after_the_connection_is_lost(self) -> None:
        peer = await Peer.of_server()
        peer.lose()
        await settle()
        called: list[aioh2.H2Protocol] = []
        peer.protocol.set_handler(called.append)  # type: ignore[arg-type]
        await settle()
        self.assertEqual(called, [])

    async def test_while_the_connection_closes(self) -> None:
        peer = await Peer.of_server()
        peer.transport.hang_on_close = True
        peer.protocol.close_connection()
        called: list[aioh2.H2Protocol] = []
        peer.protocol.set_handler(called.append)  # type: ignore[arg-type]
        self.assertEqual(called, [])
        peer.lose()

    async def test_of_a_client(self) -> None:
        protocol = aioh2.H2Protocol(True)
        responses = []

        async def handler(protocol: aioh2.H2Protocol) -> None:
            stream_id = await protocol.start_request(REQUEST, end_stream=True)
            responses.append(await protocol.recv_response(stream_id))

        protocol.set_handler(handler)
        peer = Peer(protocol)
        protocol.connection_made(peer.transport)
        await peer.greet()
        peer.respond(1, end=True)
        await settle()
        self.assertEqual(responses, [RESPONSE])
        self.assertTrue(peer.transport.closed)


class TestConnectionHandler(HandlerCase):
    """A handler at work."""

    async def test_exception(self) -> None:
        async def handler(protocol: aioh2.H2Protocol) -> None:
            await protocol.recv_request()
            raise ValueError("of the application")

        peer = await Peer.of_server(handler=handler)
        with self.assertLogs(LOG, "INFO") as logs:
            peer.request(1)
            await settle()
        (record,) = logs.records
        self.assertEqual(record.levelname, "ERROR")
        assert record.exc_info is not None
        self.assertIsInstance(record.exc_info[1], ValueError)
        (goaway,) = await peer.frames(GoAwayFrame)
        self.assertEqual((goaway.error_code, goaway.last_stream_id), (2, 1))
        self.assertTrue(peer.transport.closed)

    async def test_returning_drains(self) -> None:
        async def handler(protocol: aioh2.H2Protocol) -> None:
            await protocol.recv_request()

        peer = await Peer.of_server(handler=handler, close_timeout=3)
        peer.request(1)
        self.assertEqual(await ack_announcement(peer), [LAST])
        await settle()
        self.assertFalse(peer.transport.closed)
        await self.soon(peer.protocol.start_response(1, RESPONSE, end_stream=True))
        self.assertTrue(peer.transport.closed)

    async def test_returning_drains_for_close_timeout(self) -> None:
        async def handler(protocol: aioh2.H2Protocol) -> None:
            await protocol.recv_request()

        peer = await Peer.of_server(handler=handler, close_timeout=3)
        peer.request(1)
        await ack_announcement(peer)
        await self.after(2.9)
        self.assertFalse(peer.transport.closed)
        await self.after(0.2)
        self.assertTrue(peer.transport.closed)

    async def test_returning_after_it_closed_the_connection(self) -> None:
        async def handler(protocol: aioh2.H2Protocol) -> None:
            protocol.close_connection(aioh2.ErrorCodes.CANCEL)

        peer = await Peer.of_server(handler=handler)
        self.assertEqual(peer.transport.written.count(b"\x07\x00\x00\x00\x00\x00"), 1)
        self.assertIn("CANCEL", str(peer.protocol.close_reason))

    async def test_closing_in_it(self) -> None:
        ended = []

        async def handler(protocol: aioh2.H2Protocol) -> None:
            async with protocol:
                await protocol.recv_request()
                protocol.reset_stream(1)
                ended.append("inside")

        async with self.info_at_most():
            peer = await Peer.of_server(handler=handler)
            peer.request(1)
            await ack_announcement(peer)
        self.assertEqual(ended, ["inside"])
        self.assertTrue(peer.transport.closed)

    async def test_cancelled_when_the_connection_is_lost(self) -> None:
        seen: list[BaseException] = []

        async def handler(protocol: aioh2.H2Protocol) -> None:
            try:
                await forever()
            except BaseException as error:
                seen.append(error)
                raise

        for error in (None, ConnectionResetError("gone")):
            with self.subTest(error):
                seen.clear()
                async with self.info_at_most():
                    peer = await Peer.of_server(handler=handler)
                    peer.lose(error)
                (exception,) = seen
                self.assertIsInstance(exception, asyncio.CancelledError)

    async def test_cancelled_in_recv_request(self) -> None:
        seen: list[BaseException] = []

        async def handler(protocol: aioh2.H2Protocol) -> None:
            try:
                await protocol.recv_request()
            except BaseException as error:
                seen.append(error)
                raise

        async with self.info_at_most():
            peer = await Peer.of_server(handler=handler)
            peer.lose()
        (exception,) = seen
        self.assertIsInstance(exception, asyncio.CancelledError)

    async def test_exception_while_it_is_cancelled(self) -> None:
        async def handler(protocol: aioh2.H2Protocol) -> None:
            try:
                await forever()
            finally:
                raise ValueError("of the application")

        peer = await Peer.of_server(handler=handler)
        async with self.logs("ERROR"):
            peer.lose()

    async def test_ignoring_the_cancellation(self) -> None:
        async def handler(protocol: aioh2.H2Protocol) -> None:
            try:
                await forever()
            except asyncio.CancelledError:
                return

        async with self.info_at_most():
            peer = await Peer.of_server(handler=handler)
            peer.lose()
        self.assertTrue(peer.protocol.is_closing)


class TestPeersDoing(HandlerCase):
    """What a peer does is INFO at most, also where it passes through a handler."""

    async def accepting(self, **options: Any) -> Peer:
        async def handler(protocol: aioh2.H2Protocol) -> None:
            while True:
                stream_id, _ = await protocol.recv_request()
                await protocol.start_response(stream_id, RESPONSE)
                await protocol.send_data(stream_id, await protocol.read_stream(stream_id, -1))

        return await Peer.of_server(handler=handler, **options)

    async def test_reset(self) -> None:
        peer = await self.accepting()
        peer.request(1, POST, end=False)
        await settle()
        async with self.logs("INFO") as lines:
            peer.reset(1)
        self.assertIn("reset by the peer: CANCEL", lines[-1])
        self.assertEqual([f.error_code for f in await peer.frames(GoAwayFrame)], [2])

    async def test_reset_while_sending(self) -> None:
        peer = await self.accepting(settings={aioh2.SettingCodes.INITIAL_WINDOW_SIZE: 0})
        peer.request(1, POST, end=False)
        peer.data(1, b"abc", end=True)
        await settle()
        async with self.logs("INFO"):
            peer.reset(1)

    async def test_reset_in_a_group_of_tasks(self) -> None:
        async def handler(protocol: aioh2.H2Protocol) -> None:
            async for stream in protocol:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(stream.read(-1))

        peer = await Peer.of_server(handler=handler)
        peer.request(1, POST, end=False)
        await settle()
        async with self.logs("INFO"):
            peer.reset(1)

    async def test_reset_beside_an_error_in_a_group_of_tasks(self) -> None:
        async def handler(protocol: aioh2.H2Protocol) -> None:
            async for stream in protocol:
                try:
                    await stream.read(-1)
                except aioh2.StreamReset as error:
                    own = ValueError("of the application")
                    raise ExceptionGroup("both", [error, own]) from None

        peer = await Peer.of_server(handler=handler)
        peer.request(1, POST, end=False)
        await settle()
        async with self.logs("ERROR"):
            peer.reset(1)

    async def test_disconnect(self) -> None:
        async with self.info_at_most():
            peer = await self.accepting()
            peer.request(1, POST, end=False)
            await settle()
            peer.lose(ConnectionResetError())

    async def test_goaway(self) -> None:
        async with self.logs("INFO"):
            peer = await self.accepting()
            peer.goaway(0)

    async def test_stream_error(self) -> None:
        # reset by this side, for what the peer did
        async with self.logs("INFO"):
            peer = await self.accepting()
            peer.request(1, [*POST, ("content-length", "1")], end=False)
            await settle()
            peer.data(1, b"more than one")

    async def test_connection_error(self) -> None:
        async with self.logs("INFO"):
            peer = await self.accepting()
            peer.send(DataFrame(1, b"on an idle stream"))
        self.assertEqual([f.error_code for f in await peer.frames(GoAwayFrame)], [1])

    async def test_not_http2(self) -> None:
        protocol = aioh2.H2Protocol(False)
        protocol.set_handler(lambda p: p.recv_request())
        peer = Peer(protocol)
        protocol.connection_made(peer.transport)
        await settle()
        async with self.logs("INFO") as lines:
            peer.send_bytes(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        self.assertIn("HTTP/1", lines[0])
        self.assertTrue(peer.transport.closed)

    async def test_silent(self) -> None:
        protocol = aioh2.H2Protocol(False, open_timeout=3)
        protocol.set_handler(lambda p: p.recv_request())
        peer = Peer(protocol)
        protocol.connection_made(peer.transport)
        await settle()
        async with self.logs("INFO") as lines:
            await self.after(3.1)
        self.assertIn("3 s", lines[0])
        self.assertTrue(peer.transport.closed)

    async def test_no_sign_of_life(self) -> None:
        async with self.info_at_most():
            peer = await self.accepting(keepalive_interval=3, keepalive_timeout=2)
            await self.after(3.1)
            await self.after(2.1)
        self.assertTrue(peer.transport.aborted)

    async def test_end_of_the_own_side_is_no_failure(self) -> None:
        # a handler that waits for requests has done nothing wrong when the server stops
        async with self.info_at_most():
            peer = await self.accepting()
            await self.waiting(peer.protocol.shutdown())
            await ack_announcement(peer)
        self.assertTrue(peer.transport.closed)

    async def test_closing_the_own_side_is_no_failure(self) -> None:
        async with self.info_at_most():
            peer = await self.accepting()
            peer.protocol.close_connection()
        self.assertTrue(peer.transport.closed)

    async def test_misuse_is_an_error(self) -> None:
        async def handler(protocol: aioh2.H2Protocol) -> None:
            await protocol.read_stream(1)

        async with self.logs("ERROR"):
            await Peer.of_server(handler=handler)


class TestAccept(HandlerCase):
    """``recv_request`` and iteration, in a task of the application's own."""

    async def test_requests_already_received_come_first(self) -> None:
        peer = await Peer.of_server()
        peer.request(1)
        peer.request(3)
        peer.lose()
        await settle()
        self.assertEqual(await self.soon(peer.protocol.recv_request()), (1, REQUEST))
        self.assertEqual((await self.soon(peer.protocol.recv_request()))[0], 3)
        for _ in range(2):
            await self.assert_closed(peer.protocol.recv_request(), initiator="transport")

    async def test_body_of_a_request_already_received(self) -> None:
        peer = await Peer.of_server()
        peer.request(1, POST, end=False)
        peer.data(1, b"abc")
        peer.lose()
        await settle()
        stream_id, _ = await self.soon(peer.protocol.recv_request())
        self.assertEqual(await self.soon(peer.protocol.read_stream(stream_id)), b"abc")
        await self.assert_closed(peer.protocol.read_stream(stream_id))

    async def test_reset_request_keeps_its_place_until_it_is_taken(self) -> None:
        peer = await Peer.of_server(concurrency=1)
        peer.request(1)
        peer.reset(1)
        peer.request(3)
        resets = await peer.frames(RstStreamFrame)
        self.assertEqual([(f.stream_id, f.error_code) for f in resets], [(3, 7)])
        self.assertEqual((await self.soon(peer.protocol.recv_request()))[0], 1)
        peer.request(5)
        self.assertEqual(await peer.frames(RstStreamFrame), [])

    async def test_iteration_ends_with_the_connection(self) -> None:
        peer = await Peer.of_server()
        found: list[int] = []

        async def iterate() -> None:
            async for stream in peer.protocol:
                found.append(stream.id)

        iteration = await self.waiting(iterate())
        peer.request(1)
        await settle()
        self.assertEqual(found, [1])
        peer.request(3)
        peer.lose()
        await settle()
        self.assertEqual(found, [1, 3])
        self.assertTrue(iteration.done())
        self.assertIsNone(iteration.exception())

    async def test_waiting_call_raises_without_a_request(self) -> None:
        peer = await Peer.of_server()
        call = await self.waiting(peer.protocol.recv_request())
        peer.lose()
        await settle()
        error = call.exception()
        assert isinstance(error, aioh2.ConnectionClosed)
        self.assertEqual((error.initiator, error.error_code), ("transport", None))

    async def test_waiting_call_raises(self) -> None:
        peer = await Peer.of_server()
        calls = [await self.waiting(peer.protocol.recv_request()) for _ in range(2)]
        peer.lose(ConnectionResetError("gone"))
        await settle()
        for call in calls:
            error = call.exception()
            assert isinstance(error, aioh2.ConnectionClosed)
            self.assertEqual(error.initiator, "transport")
            self.assertIn("gone", str(error))

    async def test_first_come_first_served(self) -> None:
        peer = await Peer.of_server()
        calls = [await self.waiting(peer.protocol.recv_request()) for _ in range(3)]
        calls[0].cancel()
        await settle()
        peer.request(1)
        peer.request(3)
        await settle()
        self.assertEqual([call.result()[0] for call in calls[1:]], [1, 3])

    async def test_cancelled_when_a_request_is_there_already(self) -> None:
        peer = await Peer.of_server()
        calls = [await self.waiting(peer.protocol.recv_request()) for _ in range(2)]
        peer.request(1)
        calls[0].cancel()
        await settle()
        self.assertTrue(calls[0].cancelled())
        self.assertEqual(calls[1].result()[0], 1)

    async def test_cancelled_when_a_request_comes(self) -> None:
        peer = await Peer.of_server()
        calls = [await self.waiting(peer.protocol.recv_request()) for _ in range(2)]
        calls[0].cancel()
        peer.request(1)
        await settle()
        self.assertTrue(calls[0].cancelled())
        self.assertEqual(calls[1].result()[0], 1)

    async def test_cancelled_when_the_only_one_that_waits(self) -> None:
        peer = await Peer.of_server()
        call = await self.waiting(peer.protocol.recv_request())
        peer.request(1)
        call.cancel()
        await settle()
        self.assertEqual((await self.soon(peer.protocol.recv_request()))[0], 1)

    async def test_cancelled_when_another_took_the_request(self) -> None:
        peer = await Peer.of_server()
        call = await self.waiting(peer.protocol.recv_request())
        peer.request(1)
        taken = await peer.protocol.recv_request()
        call.cancel()
        await settle()
        self.assertEqual(taken[0], 1)
        self.assertTrue(call.cancelled())

    async def test_request_that_another_took_is_waited_for_again(self) -> None:
        peer = await Peer.of_server()
        call = await self.waiting(peer.protocol.recv_request())
        peer.request(1)
        self.assertEqual((await peer.protocol.recv_request())[0], 1)
        await settle()
        self.assertFalse(call.done())
        peer.request(3)
        await settle()
        self.assertEqual(call.result()[0], 3)


class TestServe(HandlerCase):
    """``serve``: a task for each inbound stream."""

    async def serving(
        self, handler: Callable[[aioh2.H2Stream], Awaitable[Any]], **options: Any
    ) -> Peer:
        self.peer = await Peer.of_server(**options)
        self.server = self.peer.protocol
        self.ended: list[int] = []
        self.serve = asyncio.get_running_loop().create_task(self.server.serve(handler))
        self.addCleanup(self.serve.cancel)
        return self.peer

    async def resets(self) -> list[tuple[int, int]]:
        return [(f.stream_id, f.error_code) for f in await self.peer.frames(RstStreamFrame)]

    async def test_a_task_for_each_stream(self) -> None:
        started: list[int] = []
        proceed = asyncio.Event()

        async def handler(stream: aioh2.H2Stream) -> None:
            started.append(stream.id)
            await proceed.wait()
            await stream.start_response(RESPONSE)
            await stream.send_data(b"abc", end_stream=True)

        peer = await self.serving(handler)
        peer.request(1)
        peer.request(3)
        await settle()
        self.assertEqual(started, [1, 3])
        proceed.set()
        frames = await peer.frames(HeadersFrame, DataFrame)
        self.assertEqual([frame.stream_id for frame in frames], [1, 1, 3, 3])
        self.assertEqual(await self.resets(), [])
        self.assertFalse(self.serve.done())

    async def test_current_stream(self) -> None:
        """In the handler and in what it starts, and nowhere else."""
        seen: list[tuple[aioh2.H2Stream, Any, Any]] = []
        both = asyncio.Barrier(2)

        async def ask() -> aioh2.H2Stream | None:
            return aioh2.current_stream.get()

        async def handler(stream: aioh2.H2Stream) -> None:
            await both.wait()
            task = asyncio.get_running_loop().create_task(ask())
            seen.append((stream, aioh2.current_stream.get(), await task))
            await stream.start_response(RESPONSE, end_stream=True)

        peer = await self.serving(handler)
        peer.request(1)
        peer.request(3)
        await settle()
        self.assertEqual({stream.id for stream, *_ in seen}, {1, 3})
        for stream, current, inner in seen:
            self.assertIs(current, stream)
            self.assertIs(inner, stream)
        self.assertIsNone(aioh2.current_stream.get())

    async def test_returning_ends_the_stream(self) -> None:
        async def handler(stream: aioh2.H2Stream) -> None:
            await stream.start_response(RESPONSE)
            await stream.send_data(b"abc")

        peer = await self.serving(handler)
        async with self.info_at_most():
            peer.request(1)
        frames = await peer.frames(DataFrame)
        self.assertEqual(b"".join(frame.data for frame in frames), b"abc")
        self.assertIn("END_STREAM", frames[-1].flags)
        self.assertEqual(await self.resets(), [])

    async def test_returning_while_a_body_waits(self) -> None:
        senders = []

        async def handler(stream: aioh2.H2Stream) -> None:
            await stream.start_response(RESPONSE)
            senders.append(asyncio.ensure_future(stream.send_data(b"abc")))
            await asyncio.sleep(0)

        peer = await self.serving(handler, settings={aioh2.SettingCodes.INITIAL_WINDOW_SIZE: 1})
        peer.request(1)
        await settle()
        peer.window(1, 100)
        frames = await peer.frames(DataFrame)
        self.assertEqual(b"".join(frame.data for frame in frames), b"abc")
        self.assertIn("END_STREAM", frames[-1].flags)
        self.assertTrue(senders[0].done())

    async def test_returning_with_trailers_sent(self) -> None:
        async def handler(stream: aioh2.H2Stream) -> None:
            await stream.start_response(RESPONSE)
            await stream.send_trailers({"t": "u"})

        peer = await self.serving(handler)
        peer.request(1)
        frames = await peer.frames(HeadersFrame)
        self.assertEqual([f.headers for f in frames], [RESPONSE, [("t", "u")]])
        self.assertEqual(await self.resets(), [])

    async def test_no_answer(self) -> None:
        async def handler(stream: aioh2.H2Stream) -> None:
            pass

        peer = await self.serving(handler)
        async with self.info_at_most():
            peer.request(1)
        self.assertEqual(await self.resets(), [(1, 2)])

    async def test_interim_responses_are_no_answer(self) -> None:
        async def handler(stream: aioh2.H2Stream) -> None:
            await stream.start_response({":status": "103"})

        peer = await self.serving(handler)
        peer.request(1)
        self.assertEqual(await self.resets(), [(1, 2)])

    async def test_reset_by_the_handler(self) -> None:
        async def handler(stream: aioh2.H2Stream) -> None:
            stream.reset(aioh2.ErrorCodes.ENHANCE_YOUR_CALM)

        peer = await self.serving(handler)
        with self.assertNoLogs(LOG, "INFO"):
            peer.request(1)
            self.assertEqual(await self.resets(), [(1, 11)])

    async def test_reset_by_the_handler_in_the_middle(self) -> None:
        async def handler(stream: aioh2.H2Stream) -> None:
            await stream.start_response(RESPONSE)
            stream.reset()

        peer = await self.serving(handler)
        with self.assertNoLogs(LOG, "INFO"):
            peer.request(1)
            self.assertEqual(await self.resets(), [(1, 8)])

    async def test_exception(self) -> None:
        async def handler(stream: aioh2.H2Stream) -> None:
            if stream.id == 1:
                raise ValueError("of the application")
            await stream.start_response(RESPONSE, end_stream=True)

        peer = await self.serving(handler)
        async with self.logs("ERROR") as lines:
            peer.request(1)
            peer.request(3)
        self.assertIn("stream 1", lines[0])
        self.assertEqual(await self.resets(), [(1, 2)])
        self.assertFalse(self.server.is_closing)
        self.assertFalse(self.serve.done())

    async def test_exception_after_the_response_has_begun(self) -> None:
        async def handler(stream: aioh2.H2Stream) -> None:
            await stream.start_response(RESPONSE)
            raise ValueError("of the application")

        peer = await self.serving(handler)
        async with self.logs("ERROR"):
            peer.request(1)
        self.assertEqual(await self.resets(), [(1, 2)])

    async def test_exception_after_the_response_is_complete(self) -> None:
        async def handler(stream: aioh2.H2Stream) -> None:
            await stream.start_response(RESPONSE, end_stream=True)
            raise ValueError("of the application")

        peer = await self.serving(handler)
        async with self.logs("ERROR"):
            peer.request(1)
        self.assertEqual(await self.resets(), [])

    async def test_misuse_is_an_error(self) -> None:
        async def handler(stream: aioh2.H2Stream) -> None:
            await stream.send_data(b"before the response")

        peer = await self.serving(handler)
        async with self.logs("ERROR"):
            peer.request(1)
        self.assertEqual(await self.resets(), [(1, 2)])

    async def test_error_that_passes_on_the_end_of_the_connection(self) -> None:
        proceed = asyncio.Event()

        async def handler(stream: aioh2.H2Stream) -> None:
            await proceed.wait()
            await stream.push(REQUEST)

        peer = await self.serving(handler, settings={aioh2.SettingCodes.ENABLE_PUSH: 1})
        peer.request(1)
        peer.goaway(0)
        await settle()
        async with self.info_at_most():
            proceed.set()
        self.assertEqual(await self.resets(), [(1, 2)])

    async def pushing(self) -> Peer:
        """Return a client whose request has been answered, while a push is being sent."""

        async def handler(stream: aioh2.H2Stream) -> None:
            pushed = await stream.push(REQUEST)
            await stream.start_response(RESPONSE, end_stream=True)
            await pushed.start_response(RESPONSE)
            await pushed.send_data(bytes(100_000), end_stream=True)

        peer = await self.serving(handler, settings={SettingCodes.ENABLE_PUSH: 1})
        peer.request(1)
        await settle()
        return peer

    async def test_error_that_passes_on_the_reset_of_a_push(self) -> None:
        peer = await self.pushing()
        async with self.logs("INFO"):
            peer.reset(2)

    async def test_error_that_passes_on_the_disconnect_during_a_push(self) -> None:
        peer = await self.pushing()
        async with self.logs("INFO"):
            peer.lose(ConnectionResetError())

    async def test_reset_of_a_stream_of_another_connection_is_an_error(self) -> None:
        client = await Peer.of_client()
        away = await client.protocol.open_stream({":path": "/"}, end_stream=True)
        client.reset(1)
        await settle()

        async def handler(stream: aioh2.H2Stream) -> None:
            await away.recv_response()

        peer = await self.serving(handler)
        async with self.logs("ERROR"):
            peer.request(1)
        self.assertEqual(await self.resets(), [(1, 2)])

    async def test_exception_while_the_connection_closes(self) -> None:
        proceed = asyncio.Event()

        async def handler(stream: aioh2.H2Stream) -> None:
            await proceed.wait()
            raise ValueError("of the application")

        peer = await self.serving(handler)
        peer.request(1)
        peer.goaway(0)
        await settle()
        async with self.logs("ERROR"):
            proceed.set()

    async def test_error_of_another_connection(self) -> None:
        other = await Peer.of_client()
        other.lose()
        await settle()

        async def handler(stream: aioh2.H2Stream) -> None:
            await other.protocol.start_request(REQUEST)

        peer = await self.serving(handler)
        async with self.logs("ERROR"):
            peer.request(1)
        self.assertEqual(await self.resets(), [(1, 2)])

    async def test_not_a_coroutine_function(self) -> None:
        def handler(stream: aioh2.H2Stream) -> Any:
            return None

        peer = await self.serving(handler)
        async with self.logs("ERROR"):
            peer.request(1)
        self.assertEqual(await self.resets(), [(1, 2)])

    async def test_cancelled_by_the_peers_reset(self) -> None:
        seen: list[BaseException] = []

        async def handler(stream: aioh2.H2Stream) -> None:
            try:
                await forever()
            except BaseException as error:
                seen.append(error)
                raise

        peer = await self.serving(handler)
        peer.request(1)
        peer.request(3)
        await settle()
        async with self.info_at_most():
            peer.reset(1)
        (exception,) = seen
        self.assertIsInstance(exception, asyncio.CancelledError)
        self.assertEqual(await self.resets(), [])
        self.assertFalse(self.serve.done())

    async def test_reset_of_what_it_waits_for(self) -> None:
        async def handler(stream: aioh2.H2Stream) -> None:
            await stream.read(-1)

        peer = await self.serving(handler)
        peer.request(1, POST, end=False)
        await settle()
        async with self.info_at_most():
            peer.reset(1)
        self.assertEqual(await self.resets(), [])

    async def test_error_that_passes_on_the_reset(self) -> None:
        async def handler(stream: aioh2.H2Stream) -> None:
            try:
                await forever()
            except asyncio.CancelledError:
                await stream.start_response(RESPONSE)

        peer = await self.serving(handler)
        peer.request(1)
        await settle()
        async with self.logs("INFO"):
            peer.reset(1)
        self.assertEqual(await self.resets(), [])

    async def test_error_in_a_group_of_tasks_that_passes_on_the_reset(self) -> None:
        async def handler(stream: aioh2.H2Stream) -> None:
            await stream.start_response(RESPONSE)
            async with asyncio.TaskGroup() as tasks:
                # it wakes before the handler is cancelled
                tasks.create_task(stream.send_data(b"abc"))
                await forever()

        settings = {aioh2.SettingCodes.INITIAL_WINDOW_SIZE: 0}
        peer = await self.serving(handler, settings=settings)
        peer.request(1, POST, end=False)
        await settle()
        async with self.logs("INFO"):
            peer.reset(1)
        self.assertEqual(await self.resets(), [])

    async def test_reset_before_it_begins(self) -> None:
        started: list[int] = []

        async def handler(stream: aioh2.H2Stream) -> None:
            started.append(stream.id)
            await stream.start_response(RESPONSE, end_stream=True)

        peer = await self.serving(handler, concurrency=1)
        peer.request(1)
        peer.reset(1)
        await settle()
        self.assertEqual(started, [])
        peer.request(3)
        await settle()
        self.assertEqual(started, [3])

    async def test_keeps_its_place_until_it_has_ended(self) -> None:
        # RFC 9113 section 10.5: resets must not make a server work on more than it announced
        proceed = asyncio.Event()

        async def handler(stream: aioh2.H2Stream) -> None:
            try:
                await forever()
            finally:
                await proceed.wait()

        peer = await self.serving(handler, concurrency=1)
        peer.request(1)
        await settle()
        peer.reset(1)
        await settle()
        peer.request(3)
        self.assertEqual(await self.resets(), [(3, 7)])
        proceed.set()
        await settle()
        peer.request(5)
        self.assertEqual(await self.resets(), [])

    async def test_cancelled_by_the_application(self) -> None:
        tasks: list[asyncio.Task[Any] | None] = []

        async def handler(stream: aioh2.H2Stream) -> None:
            tasks.append(asyncio.current_task())
            await forever()

        peer = await self.serving(handler)
        peer.request(1)
        await settle()
        assert tasks[0] is not None
        tasks[0].cancel()
        self.assertEqual(await self.resets(), [(1, 8)])
        self.assertFalse(self.serve.done())

    async def test_cancelled_when_the_connection_is_lost(self) -> None:
        ended: list[int] = []

        async def handler(stream: aioh2.H2Stream) -> None:
            try:
                await forever()
            finally:
                await asyncio.sleep(0)
                ended.append(stream.id)

        peer = await self.serving(handler)
        peer.request(1)
        peer.request(3)
        await settle()
        async with self.info_at_most():
            peer.lose()
        self.assertEqual(ended, [1, 3])
        self.assertTrue(self.serve.done())
        self.assertIsNone(self.serve.exception())

    async def test_returns_when_all_handlers_are_done(self) -> None:
        proceed = asyncio.Event()

        async def handler(stream: aioh2.H2Stream) -> None:
            try:
                await forever()
            finally:
                await proceed.wait()

        peer = await self.serving(handler)
        peer.request(1)
        await settle()
        peer.lose()
        await settle()
        self.assertFalse(self.serve.done())
        proceed.set()
        await settle()
        self.assertTrue(self.serve.done())

    async def test_cancelling_it_cancels_the_handlers(self) -> None:
        ended: list[int] = []

        async def handler(stream: aioh2.H2Stream) -> None:
            try:
                await forever()
            finally:
                await asyncio.sleep(0)
                ended.append(stream.id)

        peer = await self.serving(handler)
        peer.request(1)
        peer.request(3)
        await settle()
        self.serve.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await self.serve
        self.assertCountEqual(ended, [1, 3])
        self.assertCountEqual(await self.resets(), [(1, 8), (3, 8)])
        self.assertFalse(self.server.is_closing)

    async def test_as_the_handler_of_the_connection(self) -> None:
        async def handler(stream: aioh2.H2Stream) -> None:
            await stream.start_response(RESPONSE, end_stream=True)

        async with self.info_at_most():
            peer = await Peer.of_server(handler=lambda p: p.serve(handler))
            peer.request(1)
            self.assertEqual(len(await peer.frames(HeadersFrame)), 1)
            await self.waiting(peer.protocol.shutdown())
            await ack_announcement(peer)
        self.assertTrue(peer.transport.closed)

    async def test_cancelled_once_when_the_connection_is_lost(self) -> None:
        """What a handler waits for to clean up is not cancelled with ``serve`` in its turn."""
        cleaned: list[int] = []
        proceed = asyncio.Event()

        async def handler(stream: aioh2.H2Stream) -> None:
            try:
                await forever()
            finally:
                await proceed.wait()
                cleaned.append(stream.id)

        peer = await Peer.of_server(handler=lambda p: p.serve(handler))
        peer.request(1)
        await settle()
        peer.lose()
        await settle()
        proceed.set()
        await settle()
        self.assertEqual(cleaned, [1])
        self.assertEqual(len(peer.protocol._driver.handlers), 0)

    async def test_cancelled_by_the_time_limit_of_the_stream(self) -> None:
        peer = await self.serving(self.reading_beside, body_timeout=3)
        async with self.logs("INFO") as lines:
            peer.request(1, POST, end=False)
            await settle()
            await self.after(3.1)
        self.assertIn("stream 1 is reset: blocked on peer for 3 s", lines[0])
        self.assertEqual(len(lines), 1)
        self.assertEqual(await self.resets(), [(1, 8)])
        self.assertEqual(self.ended, [1])
        self.assertFalse(self.serve.done())

    async def reading_beside(self, stream: aioh2.H2Stream) -> None:
        """Wait for anything, while another task waits for the body."""
        reading = asyncio.get_running_loop().create_task(stream.read())
        try:
            await forever()
        finally:
            await asyncio.wait([reading])
            self.assertIsInstance(reading.exception(), aioh2.StreamReset)
            self.ended.append(stream.id)

    async def test_what_is_no_exception_resets_too(self) -> None:
        class Outcome(BaseException):
            """As frameworks for tests raise."""

        async def handler(stream: aioh2.H2Stream) -> None:
            raise Outcome

        peer = await self.serving(handler)
        with self.assertLogs(LOG, "ERROR") as logs:
            peer.request(1)
            self.assertEqual(await self.resets(), [(1, 2)])
        self.assertIn("the handler of stream 1 failed", logs.output[0])

    async def test_connection_error_cancels(self) -> None:
        ended: list[int] = []

        async def handler(stream: aioh2.H2Stream) -> None:
            try:
                await forever()
            finally:
                ended.append(stream.id)

        peer = await self.serving(handler)
        peer.request(1)
        await settle()
        async with self.info_at_most():
            peer.send(DataFrame(5, b"on an idle stream"))
        self.assertEqual(ended, [1])
        self.assertTrue(self.serve.done())

    async def test_cancelled_when_it_has_closed_the_connection_itself(self) -> None:
        ended: list[int] = []

        async def handler(stream: aioh2.H2Stream) -> None:
            stream.protocol.close_connection()
            try:
                await forever()
            finally:
                ended.append(stream.id)

        peer = await self.serving(handler)
        async with self.info_at_most():
            peer.request(1)
            await settle()
        self.assertTrue(peer.transport.closed)
        self.assertEqual(ended, [1])
        self.assertTrue(self.serve.done())

    async def test_cancelled_where_the_end_comes_in_its_context(self) -> None:
        # asyncio calls connection_lost in the context of the write that failed
        seen: list[type[BaseException]] = []

        async def handler(stream: aioh2.H2Stream) -> None:
            asyncio.get_running_loop().call_soon(self.server.connection_lost, OSError("lost"))
            try:
                await stream.start_response(RESPONSE)
                await stream.send_data(bytes(100_000))
            except BaseException as error:
                seen.append(type(error))
                raise

        peer = await self.serving(handler)
        with self.assertNoLogs("aioh2", "INFO"):
            peer.request(1)
            await settle()
        self.assertEqual(seen, [asyncio.CancelledError])
        self.assertTrue(self.serve.done())

    async def test_cancelled_where_a_write_of_its_own_fails(self) -> None:
        seen: list[type[BaseException]] = []
        ended = asyncio.Event()
        raw = socket.socket()
        self.addCleanup(raw.close)

        async def handler(stream: aioh2.H2Stream) -> None:
            # the loop learns of the reset by the write, as it had no time to read
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raw.close()
            try:
                await stream.start_response(RESPONSE)
                # more than the windows
                await stream.send_data(bytes(1_000_000))
            except BaseException as error:
                seen.append(type(error))
                raise
            finally:
                ended.set()

        client = aioh2.H2Protocol(True)
        request = Peer(client)
        client.connection_made(request.transport)
        request.send(SettingsFrame())
        await client.start_request(REQUEST, end_stream=True)
        await settle()
        async with await aioh2.start_server(lambda p: p.serve(handler), "127.0.0.1", 0) as server:
            raw.connect(server.sockets[0].getsockname())
            raw.sendall(request.transport.written)
            async with asyncio.timeout(10):
                with self.assertNoLogs("aioh2.server", "INFO"):
                    await ended.wait()
                    await settle()
        self.assertEqual(seen, [asyncio.CancelledError])
        client.abort()

    async def test_transport_knows_nothing_of_a_handler(self) -> None:
        # what it calls later, it calls in the context of the write: events are nobody's
        variable: ContextVar[str] = ContextVar("variable", default="")
        seen: list[str] = []

        async def handler(stream: aioh2.H2Stream) -> None:
            variable.set("of the handler")
            await stream.start_response(RESPONSE)
            # more than a share: that is written at once
            await stream.send_data(bytes(100_000))
            await stream.protocol.ping()

        peer = await self.serving(handler)
        peer.send(SettingsFrame(settings={SettingCodes.INITIAL_WINDOW_SIZE: 1_000_000}))
        peer.window(0, 1_000_000)
        await settle()
        peer.transport.sink = lambda data: seen.append(variable.get())
        peer.request(1)
        await settle()
        self.assertEqual(set(seen), {""})
        self.assertGreater(len(seen), 1)

    async def test_nothing_is_left(self) -> None:
        streams: list[weakref.ref[aioh2.H2Stream]] = []

        async def handler(stream: aioh2.H2Stream) -> None:
            streams.append(weakref.ref(stream))
            await stream.start_response(RESPONSE, end_stream=True)

        peer = await self.serving(handler, concurrency=2)
        before = len(asyncio.all_tasks())
        for stream_id in range(1, 41, 2):
            peer.request(stream_id)
            await settle(5)
        await settle()
        self.assertEqual(len(asyncio.all_tasks()), before)
        self.assertEqual(self.server.stats.streams_open, 0)
        gc.collect()
        # those that can still be read
        self.assertEqual([ref() is not None for ref in streams], [False] * 18 + [True] * 2)


if sys.version_info >= (3, 12):

    class TestEagerTasks(HandlerCase):
        """``asyncio.eager_task_factory``: a handler runs before its task is known."""

        async def asyncSetUp(self) -> None:
            await super().asyncSetUp()
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)

        async def test_resetting_its_stream_does_not_cancel_it(self) -> None:
            done: list[int] = []

            async def handler(stream: aioh2.H2Stream) -> None:
                stream.reset()
                await asyncio.sleep(0)
                done.append(stream.id)

            peer = await Peer.of_server(handler=lambda p: p.serve(handler))
            peer.request(1)
            await settle()
            self.assertEqual(done, [1])

        async def test_keeps_its_place_until_it_has_ended(self) -> None:
            async def handler(stream: aioh2.H2Stream) -> None:
                stream.reset()
                await forever()

            peer = await Peer.of_server(handler=lambda p: p.serve(handler), concurrency=1)
            peer.request(1)
            await peer.frames()
            peer.request(3)
            (refused,) = await peer.frames(RstStreamFrame)
            self.assertEqual((refused.stream_id, refused.error_code), (3, 7))

        async def test_cancelled_when_it_has_closed_the_connection_itself(self) -> None:
            seen: list[str] = []

            async def handler(stream: aioh2.H2Stream) -> None:
                stream.protocol.close_connection()
                seen.append("goes on")
                try:
                    await forever()
                finally:
                    seen.append("cancelled")

            peer = await Peer.of_server(handler=lambda p: p.serve(handler))
            peer.request(1)
            await settle()
            self.assertEqual(seen, ["goes on", "cancelled"])

        async def test_never_waiting(self) -> None:
            async def handler(stream: aioh2.H2Stream) -> None:
                await stream.start_response(RESPONSE, end_stream=True)

            peer = await Peer.of_server(handler=lambda p: p.serve(handler))
            peer.request(1)
            self.assertEqual(len(await peer.frames(HeadersFrame)), 1)
            self.assertEqual(len(peer.protocol._driver.handlers), 0)


class TestLimitsOfThePeer(HandlerCase):
    async def test_headers_that_a_peer_does_not_take(self) -> None:
        """A peer that announces next to nothing must not fill the log with errors."""

        async def handler(stream: aioh2.H2Stream) -> None:
            await stream.start_response({":status": "200", "x": "y" * 100})

        peer = await Peer.of_server(settings={SettingCodes.MAX_HEADER_LIST_SIZE: 50})
        serving = await self.waiting(peer.protocol.serve(handler))
        async with self.info_at_most():
            peer.request(1)
            (reset,) = await peer.frames(RstStreamFrame)
        self.assertEqual(reset.error_code, aioh2.ErrorCodes.INTERNAL_ERROR)
        self.assertFalse(serving.done())

    async def test_in_the_handler_of_a_connection(self) -> None:
        async def handler(protocol: aioh2.H2Protocol) -> None:
            stream_id, _ = await protocol.recv_request()
            await protocol.start_response(stream_id, {":status": "200", "x": "y" * 100})

        peer = await Peer.of_server(
            handler=handler, settings={SettingCodes.MAX_HEADER_LIST_SIZE: 50}
        )
        async with self.info_at_most():
            peer.request(1)
            await settle()
        self.assertTrue(peer.protocol.is_closing)


class TestUnwantedBody(HandlerCase):
    """A response that does not wait for the request's end (RFC 9113 section 8.1)."""

    async def answered(self, handler: Callable[[aioh2.H2Stream], Awaitable[Any]]) -> Peer:
        peer = await Peer.of_server()
        serve = asyncio.get_running_loop().create_task(peer.protocol.serve(handler))
        self.addCleanup(serve.cancel)
        peer.request(1, POST, end=False)
        peer.data(1, b"unread")
        await settle()
        return peer

    async def test_upload_is_stopped(self) -> None:
        async def handler(stream: aioh2.H2Stream) -> None:
            await stream.start_response(RESPONSE, end_stream=True)

        peer = await self.answered(handler)
        headers, reset = await peer.frames(HeadersFrame, RstStreamFrame)
        self.assertIn("END_STREAM", headers.flags)
        self.assertEqual((reset.stream_id, reset.error_code), (1, 0))

    async def test_upload_is_stopped_where_the_stream_is_ended_for_it(self) -> None:
        async def handler(stream: aioh2.H2Stream) -> None:
            await stream.start_response(RESPONSE)

        peer = await self.answered(handler)
        (reset,) = await peer.frames(RstStreamFrame)
        self.assertEqual((reset.stream_id, reset.error_code), (1, 0))

    async def test_what_had_arrived_is_dropped(self) -> None:
        streams: list[aioh2.H2Stream] = []

        async def handler(stream: aioh2.H2Stream) -> None:
            streams.append(stream)
            await stream.start_response(RESPONSE, end_stream=True)

        await self.answered(handler)
        with self.assertRaises(aioh2.StreamReset) as caught:
            await self.soon(streams[0].read())
        self.assertEqual((caught.exception.error_code, caught.exception.initiator), (0, "local"))

    async def test_nothing_to_stop(self) -> None:
        async def handler(stream: aioh2.H2Stream) -> None:
            await stream.start_response(RESPONSE, end_stream=True)
            await stream.read(-1)

        peer = await self.answered(handler)
        peer.data(1, b"the end", end=True)
        self.assertEqual(await peer.frames(RstStreamFrame), [])

    async def test_ending_the_response_alone_keeps_the_request(self) -> None:
        bodies: list[bytes] = []

        async def handler(stream: aioh2.H2Stream) -> None:
            await stream.start_response(RESPONSE)
            await stream.end()
            bodies.append(await stream.read(-1))

        peer = await self.answered(handler)
        self.assertEqual(await peer.frames(RstStreamFrame), [])
        peer.data(1, b", the end", end=True)
        await settle()
        self.assertEqual(bodies, [b"unread, the end"])
        self.assertEqual(await peer.frames(RstStreamFrame), [])

    async def test_client_keeps_the_response(self) -> None:
        async def handler(stream: aioh2.H2Stream) -> None:
            await stream.start_response(RESPONSE)
            await stream.send_data(b"abc", end_stream=True)

        client, server = await connected_pair()
        serve = asyncio.get_running_loop().create_task(server.serve(handler))
        self.addCleanup(serve.cancel)
        stream_id = await self.soon(client.start_request(POST))
        await settle()
        self.assertEqual(await self.soon(client.recv_response(stream_id)), RESPONSE)
        self.assertEqual(await self.soon(client.read_stream(stream_id, -1)), b"abc")
        self.assertEqual(await self.soon(client.recv_trailers(stream_id)), [])


class TestShutdownInside(HandlerCase):
    """``shutdown()`` awaited in a handler of ``serve``."""

    async def test_own_stream_is_not_waited_for(self) -> None:
        results: list[Any] = []

        async def handler(stream: aioh2.H2Stream) -> None:
            results.append(await stream.protocol.shutdown())
            await stream.start_response(RESPONSE)
            await stream.send_data(b"bye", end_stream=True)

        peer = await Peer.of_server(handler=lambda p: p.serve(handler))
        peer.request(1)
        frames = await peer.frames()
        self.assertEqual(
            [type(frame) for frame in frames], [GoAwayFrame, PingFrame, HeadersFrame, DataFrame]
        )
        self.assertEqual(results, [(0, 0)])
        self.assertEqual(frames[-1].data, b"bye")
        self.assertFalse(peer.transport.closed)
        peer.ack_ping(frames[1])
        self.assertEqual(await last_streams(peer), [1])
        self.assertTrue(peer.transport.closed)

    async def test_response_after_the_round_trip_gets_out(self) -> None:
        proceed = asyncio.Event()

        async def handler(stream: aioh2.H2Stream) -> None:
            await stream.protocol.shutdown()
            await proceed.wait()
            await stream.start_response(RESPONSE)
            await stream.send_data(b"bye", end_stream=True)

        peer = await Peer.of_server(handler=lambda p: p.serve(handler))
        peer.request(1)
        await ack_announcement(peer)
        self.assertEqual(await last_streams(peer), [1])
        proceed.set()
        frames = await peer.frames()
        self.assertEqual([type(frame) for frame in frames], [HeadersFrame, DataFrame])
        self.assertIn("END_STREAM", frames[-1].flags)
        self.assertTrue(peer.transport.closed)

    async def test_other_streams_are_waited_for(self) -> None:
        proceed = asyncio.Event()
        results: list[Any] = []

        async def handler(stream: aioh2.H2Stream) -> None:
            if stream.id == 1:
                await proceed.wait()
            else:
                results.append(await stream.protocol.shutdown())
            await stream.start_response(RESPONSE, end_stream=True)

        peer = await Peer.of_server(handler=lambda p: p.serve(handler))
        peer.request(1)
        peer.request(3)
        await ack_announcement(peer)
        await settle()
        self.assertEqual(results, [])
        proceed.set()
        frames = await peer.frames(HeadersFrame)
        self.assertEqual([frame.stream_id for frame in frames], [1, 3])
        self.assertEqual(results, [(1, 0)])
        self.assertTrue(peer.transport.closed)

    async def test_grace_time_holds_for_the_own_stream_too(self) -> None:
        ended: list[str] = []

        async def handler(stream: aioh2.H2Stream) -> None:
            await stream.protocol.shutdown(3)
            try:
                await forever()
            finally:
                ended.append("cancelled")

        peer = await Peer.of_server(handler=lambda p: p.serve(handler))
        peer.request(1)
        await ack_announcement(peer)
        await self.after(2.9)
        self.assertEqual(ended, [])
        await self.after(0.2)
        self.assertEqual(ended, ["cancelled"])
        self.assertTrue(peer.transport.closed)

    async def test_two_wait_for_each_other_no_longer_than_for_others(self) -> None:
        proceed = asyncio.Event()
        results: dict[int, Any] = {}

        async def handler(stream: aioh2.H2Stream) -> None:
            if stream.id == 1:
                await proceed.wait()
            else:
                results[stream.id] = await stream.protocol.shutdown()
            await stream.start_response(RESPONSE, end_stream=True)

        peer = await Peer.of_server(handler=lambda p: p.serve(handler))
        for stream_id in 1, 3, 5:
            peer.request(stream_id)
        await ack_announcement(peer)
        await settle()
        self.assertEqual(results, {})
        proceed.set()
        frames = await peer.frames(HeadersFrame)
        self.assertEqual([frame.stream_id for frame in frames], [1, 3, 5])
        # neither counts the other, of which it does not see the end
        self.assertEqual(results, {3: (1, 0), 5: (1, 0)})
        self.assertTrue(peer.transport.closed)

    async def test_one_that_joins_lets_the_other_go(self) -> None:
        join = asyncio.Event()
        results: list[int] = []

        async def handler(stream: aioh2.H2Stream) -> None:
            if stream.id == 3:
                await join.wait()
            await stream.protocol.shutdown()
            results.append(stream.id)
            await stream.start_response(RESPONSE, end_stream=True)

        peer = await Peer.of_server(handler=lambda p: p.serve(handler))
        peer.request(1)
        peer.request(3)
        await ack_announcement(peer)
        await settle()
        self.assertEqual(results, [])
        join.set()
        await settle()
        self.assertEqual(sorted(results), [1, 3])
        self.assertTrue(peer.transport.closed)

    async def test_one_that_waits_no_longer_is_waited_for(self) -> None:
        proceed = {3: asyncio.Event(), 5: asyncio.Event()}
        results: list[Any] = []

        async def handler(stream: aioh2.H2Stream) -> None:
            if stream.id == 1:
                results.append(await stream.protocol.shutdown())
            elif stream.id == 3:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        await stream.protocol.shutdown()
            if stream.id in proceed:
                await proceed[stream.id].wait()
            await stream.start_response(RESPONSE, end_stream=True)

        peer = await Peer.of_server(handler=lambda p: p.serve(handler))
        for stream_id in 1, 3, 5:
            peer.request(stream_id)
        await ack_announcement(peer)
        await self.after(1.1)
        proceed[5].set()
        await settle()
        self.assertEqual(results, [])
        proceed[3].set()
        await settle()
        self.assertEqual(results, [(2, 0)])

    async def test_who_waits_outside_waits_for_all(self) -> None:
        proceed = asyncio.Event()
        results: list[Any] = []

        async def handler(stream: aioh2.H2Stream) -> None:
            results.append(await stream.protocol.shutdown())
            await proceed.wait()
            await stream.start_response(RESPONSE, end_stream=True)

        peer = await Peer.of_server(handler=lambda p: p.serve(handler))
        peer.request(1)
        await ack_announcement(peer)
        outside = await self.waiting(peer.protocol.shutdown())
        self.assertEqual(results, [(0, 0)])
        proceed.set()
        await settle()
        self.assertEqual(outside.result(), (1, 0))

    async def test_two_of_two_connections(self) -> None:
        # as Server.shutdown() does, called in a handler of each
        peers: list[Peer] = []
        results: list[Any] = []

        async def handler(stream: aioh2.H2Stream) -> None:
            await asyncio.gather(*(peer.protocol.shutdown() for peer in peers))
            results.append(stream.protocol)
            await stream.start_response(RESPONSE, end_stream=True)

        for _ in range(2):
            peers.append(await Peer.of_server(handler=lambda p: p.serve(handler)))
        peers[0].request(1)
        await settle()
        for peer in peers:
            await ack_announcement(peer)
        await settle()
        # the other has drained, and is closed
        self.assertEqual(len(results), 1)
        self.assertTrue(peers[1].transport.closed)

        peers.clear()
        results.clear()
        for _ in range(2):
            peers.append(await Peer.of_server(handler=lambda p: p.serve(handler)))
        for peer in peers:
            peer.request(1)
        await settle()
        for peer in peers:
            await ack_announcement(peer)
        await settle()
        self.assertEqual(len(results), 2)
        self.assertTrue(all(peer.transport.closed for peer in peers))

    async def test_in_a_task_of_the_handler(self) -> None:
        results: list[Any] = []

        async def handler(stream: aioh2.H2Stream) -> None:
            results.append(await asyncio.create_task(stream.protocol.shutdown()))
            await stream.start_response(RESPONSE, end_stream=True)

        peer = await Peer.of_server(handler=lambda p: p.serve(handler))
        peer.request(1)
        self.assertEqual(len(await peer.frames(HeadersFrame)), 1)
        self.assertEqual(results, [(0, 0)])

    async def test_of_another_connection(self) -> None:
        other = await Peer.of_client()
        await self.soon(other.protocol.start_request(REQUEST, end_stream=True))
        results: list[Any] = []

        async def handler(stream: aioh2.H2Stream) -> None:
            results.append(await other.protocol.shutdown())

        peer = await Peer.of_server(handler=lambda p: p.serve(handler))
        peer.request(1)
        await settle()
        self.assertEqual(results, [])
        other.transport.hang_on_close = True
        other.respond(1, end=True)
        await settle()
        self.assertEqual(results, [])
        other.lose()
        await settle()
        self.assertEqual(results, [(1, 0)])
        self.assertEqual(await peer.frames(GoAwayFrame), [])

    async def test_handler_of_the_connection(self) -> None:
        # that one has no stream of its own: the end of the connection cancels it
        async def handler(protocol: aioh2.H2Protocol) -> None:
            await protocol.recv_request()
            await protocol.shutdown()
            raise AssertionError("not cancelled")

        async with self.info_at_most():
            peer = await Peer.of_server(handler=handler)
            peer.request(1)
            await ack_announcement(peer)
            await self.soon(peer.protocol.start_response(1, RESPONSE, end_stream=True))
        self.assertTrue(peer.transport.closed)
        self.assertEqual(await peer.frames(PingFrame), [])
