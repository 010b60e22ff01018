"""A server, as somebody writes it who has all of it checked."""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from collections.abc import Sequence
from typing import Any, assert_type

import aioh2


class Session(aioh2.H2Protocol):
    """A protocol of the application's, with options and a name of its own."""

    def __init__(
        self, client_side: bool, *, config: aioh2.Config | None = None, **options: Any
    ) -> None:
        super().__init__(client_side, config=config, **options)
        #: Who has logged in.
        self.user = "nobody"


async def greet(stream: aioh2.H2Stream) -> None:
    """Answer one request."""
    request = dict(stream.request_headers)
    assert_type(request[":path"], str)
    await stream.start_response({":status": "103", "link": "</a.css>; rel=preload"})
    await stream.start_response([(":status", "200"), ("content-length", str(2))])
    pushed = await stream.push({":path": "/a.css"})
    assert_type(pushed, aioh2.H2Stream)
    async with pushed:
        await pushed.start_response({":status": "200"}, end_stream=True)
    body = b"".join([chunk async for chunk in stream])
    await stream.send_data(body, end_stream=True)


async def count(stream: aioh2.H2Stream, least: int = 0) -> int:
    """Answer one request; what a handler returns is nobody's business."""
    assert_type(aioh2.current_stream.get(), aioh2.H2Stream | None)
    return len(await stream.read(-1)) + least


class Application:
    """A handler may be a method, or an object that is called."""

    async def handle(self, stream: aioh2.H2Stream) -> None:
        """Answer one request."""
        await stream.start_response({":status": "204"}, end_stream=True)

    async def __call__(self, stream: aioh2.H2Stream) -> None:
        """Answer one request."""
        await self.handle(stream)


async def serve(protocol: aioh2.H2Protocol) -> None:
    """Everything that ``serve`` takes."""
    await protocol.serve(greet)
    await protocol.serve(count)
    await protocol.serve(functools.partial(count, least=1))
    await protocol.serve(Application().handle)
    await protocol.serve(Application())
    await protocol.serve(lambda stream: asyncio.create_task(greet(stream)))


async def by_id(protocol: aioh2.H2Protocol) -> None:
    """A callback that works with ids."""
    while True:
        stream_id, headers = await protocol.recv_request()
        assert_type(stream_id, int)
        assert_type(headers, aioh2.HeaderList)
        await protocol.start_response(stream_id, {":status": "200"}, end_stream=False)
        pushed = await protocol.push_stream(stream_id, {":path": "/a.css"})
        await protocol.start_response(pushed, {b":status": b"204"}, end_stream=True)
        await protocol.send_data(stream_id, b"hello", end_stream=True)
        protocol.advertise_alternative_service('h2="b.test:443"', stream_id=stream_id)


async def by_handle(session: Session) -> None:
    """A callback for one class of protocols only."""
    assert_type(session.user, str)
    async for stream in session:
        assert_type(stream, aioh2.H2Stream)
        async with stream:
            await greet(stream)
            stream.protocol.reset_stream(stream.id)
    session.advertise_alternative_service(b"clear", origin="https://a.test")
    session.send_origins(["https://a.test", b"https://b.test"])


def tell(protocol: aioh2.H2Protocol) -> None:
    """A callback that starts nothing."""
    print(protocol.get_extra_info("peername"))


def start(protocol: aioh2.H2Protocol) -> asyncio.Task[None]:
    """A callback that starts a task."""
    return asyncio.create_task(protocol.serve(greet))


async def callbacks() -> None:
    """Everything that ``start_server`` calls."""
    server = await aioh2.start_server(by_id, "localhost", 8000)
    assert_type(server, aioh2.Server)
    assert_type(server, aioh2.Server[aioh2.H2Protocol])
    await aioh2.start_server(lambda protocol: protocol.serve(greet), None, 0)
    await aioh2.start_server(tell, ["127.0.0.1", "::1"], 8000)
    await aioh2.start_server(start, port=8000, backlog=500, reuse_port=True)
    await aioh2.start_server(lambda protocol: asyncio.create_task(protocol.serve(greet)))
    await aioh2.start_server(functools.partial(aioh2.H2Protocol.serve, handler=greet))

    special = await aioh2.start_server(by_handle, cls=Session)
    assert_type(special, aioh2.Server[Session])
    for session in special.connections:
        print(session.user)
    assert_type(await aioh2.start_server(by_id, cls=Session), aioh2.Server[Session])
    await aioh2.start_server(lambda session: print(session.user), cls=Session)
    local = await aioh2.start_unix_server(by_handle, "/run/it", cls=Session, idle_timeout=60)
    assert_type(local, aioh2.Server[Session])
    plain = await aioh2.start_unix_server(lambda protocol: protocol.serve(greet), "/run/it")
    assert_type(plain, aioh2.Server)
    await keep([plain, special])


async def run(context: ssl.SSLContext, listening: socket.socket) -> aioh2.Drained:
    """What a server can do."""
    config = aioh2.Config(max_connection_age=3600, control_budget=None)
    server = await aioh2.start_server(by_id, sock=listening, ssl=context, config=config)
    async with server as same:
        assert_type(same, aioh2.Server)
        assert_type(server.sockets[0].getsockname()[1], Any)
        assert_type(server.sockets, tuple[socket.socket, ...])
        assert_type(server.is_serving(), bool)
        await server.start_serving()
        await server.serve_forever()
    server.close()
    await server.wait_closed()
    return await server.shutdown(grace=10)


async def keep(servers: Sequence[aioh2.Server]) -> None:
    """``Server`` by itself names any."""
    for server in servers:
        assert_type(server.connections, frozenset[aioh2.H2Protocol])
        await server.shutdown()


def by_hand() -> aioh2.H2Protocol:
    """A protocol for a transport of the application's."""
    session = Session(client_side=False, concurrency=10)
    session.set_handler(by_handle)
    protocol = aioh2.H2Protocol(False, config=aioh2.Config(frames_per_tick=8))
    protocol.set_handler(by_id)
    protocol.set_handler(lambda protocol: protocol.serve(greet))
    return protocol
