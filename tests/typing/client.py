"""A client, as somebody writes it who has all of it checked."""

from __future__ import annotations

import array
import asyncio
import mmap
import ssl
import sys
from collections.abc import Callable, Mapping
from typing import assert_type, cast

from h2.events import AlternativeServiceAvailable, Event
from hyperframe.frame import Frame

import aioh2
from aioh2.tap import FrameEvent, describe, json_lines


class Watching(aioh2.H2Protocol):
    """A protocol of the application's, which sees every event and keeps something."""

    #: Origins that the server has named.
    origins: frozenset[bytes] = frozenset()

    def event_received(self, event: Event) -> None:
        """Watch, and let the connection go on."""
        if isinstance(event, aioh2.OriginsReceived):
            assert_type(event.origins, list[bytes])
            self.origins |= {*event.origins}
        elif isinstance(event, AlternativeServiceAvailable):
            print(event.field_value)
        super().event_received(event)


async def connect(kind: type[aioh2.H2Protocol]) -> None:
    """Awaited and entered, over TCP and Unix sockets, with and without a class of one's own."""
    plain = await aioh2.open_connection("localhost", 8000)
    assert_type(plain, aioh2.H2Protocol)
    own = await aioh2.open_connection("localhost", 8000, cls=Watching, ssl=True)
    assert_type(own, Watching)
    assert_type(own.origins, frozenset[bytes])
    local = await aioh2.open_unix_connection("/run/it", cls=Watching, keepalive_interval=30)
    assert_type(local, Watching)
    assert_type(await aioh2.open_connection("localhost", cls=kind), aioh2.H2Protocol)

    config = aioh2.Config(concurrency=10, keepalive_interval=30, reset_budget=(100, 10))
    context = ssl.create_default_context()
    async with aioh2.open_connection(port=8000, config=config, ssl=context) as connection:
        assert_type(connection, aioh2.H2Protocol)
    async with aioh2.open_connection(port=8000, cls=Watching, open_timeout=1.5) as watching:
        assert_type(watching, Watching)
    async with aioh2.open_unix_connection("/run/it", ssl=context) as connection:
        assert_type(connection, aioh2.H2Protocol)
    async with own as same:
        assert_type(same, Watching)
    wrapped: aioh2.H2Protocol = Watching(client_side=True, config=config, concurrency=3)
    wrapped.abort()


async def by_id(connection: aioh2.H2Protocol) -> None:
    """Requests by the ids of their streams."""
    stream_id = await connection.start_request({":path": "/", "accept": "*/*"}, end_stream=True)
    assert_type(stream_id, int)
    while (interim := await connection.recv_informational(stream_id)) is not None:
        assert_type(interim, list[tuple[str, str]])
    response = await connection.recv_response(stream_id)
    assert_type(response, aioh2.HeaderList)
    assert_type(dict(response)[":status"], str)
    assert_type(await connection.read_stream(stream_id), bytes)
    assert_type(await connection.read_stream(stream_id, -1), bytes)
    assert_type(dict(await connection.recv_trailers(stream_id)).get("grpc-status"), str | None)

    stream_id = await connection.start_request(
        [(":method", "POST")], priority=aioh2.Priority(urgency=1, incremental=True)
    )
    await connection.send_data(stream_id, b"one")
    await connection.send_data(stream_id, memoryview(b"two"), end_stream=False)
    await connection.send_trailers(stream_id, {"checksum": "1"})
    await connection.end_stream(stream_id)
    connection.reset_stream(stream_id)
    connection.reset_stream(stream_id, aioh2.ErrorCodes.NO_ERROR)
    connection.reprioritize(stream_id, depends_on=None, weight=200, exclusive=True)
    connection.set_priority(stream_id, aioh2.Priority())
    promise = await connection.recv_push(stream_id)
    if promise is not None:
        pushed, headers = promise
        assert_type(pushed, int)
        assert_type(headers, list[tuple[str, str]])


async def by_handle(connection: aioh2.H2Protocol) -> None:
    """The same by their handles."""
    stream = await connection.open_stream({":method": "PUT"}, priority=aioh2.Priority(urgency=0))
    assert_type(stream, aioh2.H2Stream)
    assert_type(stream.id, int)
    assert_type(dict(stream.request_headers)[":path"], str)
    await stream.send_data(bytearray(b"one"))
    await stream.send_data(array.array("d", [1.0, 2.0]))
    await stream.send_data(mmap.mmap(-1, 4096), end_stream=True)
    while (pushed := await stream.recv_push()) is not None:
        assert_type(pushed, aioh2.H2Stream)
        assert_type(await pushed.recv_response(), aioh2.HeaderList)

    async with connection.open_stream({}, end_stream=True) as stream:
        assert_type(stream, aioh2.H2Stream)
        response = dict(await stream.recv_response())
        assert_type(response, dict[str, str])
        async for chunk in stream:
            assert_type(chunk, bytes)
        assert_type(await stream.recv_trailers(), aioh2.HeaderList)
        stream.set_priority(aioh2.Priority(incremental=True))
        if stream.blocked_on == "stream window":
            stream.reset(aioh2.ErrorCodes.CANCEL)
    same = connection.stream(stream.id)
    assert_type(same, aioh2.H2Stream)
    assert_type(await same.read(), bytes)
    assert_type(await same.read(10), bytes)
    assert_type(await same.read_exactly(4), bytes)
    await same.send_trailers([])
    await same.end()


async def headers(connection: aioh2.H2Protocol, received: aioh2.HeaderList) -> None:
    """All that header lists may be."""
    text = {":method": "GET", "accept": "*/*"}
    await connection.open_stream(text)
    octets = {b":method": b"GET", b"accept": b"*/*"}
    await connection.open_stream(octets)
    lines = [(":method", "GET"), ("accept", "*/*")]
    await connection.open_stream(lines)
    await connection.open_stream([(b":method", b"GET"), ("accept", "*/*")])
    # mypy infers nothing from a union that a mapping fits into twice, so these need their types
    values: dict[str, str | bytes] = {":method": "GET", "x-octets": b"\xff"}
    await connection.open_stream(values)
    both: dict[str | bytes, str | bytes] = {":method": "GET", b"x-octets": b"\xff"}
    await connection.open_stream(both)
    await connection.open_stream(tuple(lines))
    await connection.open_stream(text.items())
    await connection.open_stream((name, value) for name, value in lines)
    await connection.open_stream([*received, ("via", "2 proxy")])
    await connection.open_stream(received)
    await connection.open_stream(dict(received) | {"via": "2 proxy"})
    made: aioh2.HeaderInput = {"a": "b"} if received else lines
    await connection.open_stream(made)


async def octets() -> None:
    """With ``header_encoding=None``, who knows that it is set says so."""
    connection = await aioh2.open_connection(port=8000, header_encoding=None)
    async with connection.open_stream({}, end_stream=True) as stream:
        response = cast(list[tuple[bytes, bytes]], await stream.recv_response())
        assert_type(dict(response)[b":status"], bytes)


async def tunnel(connection: aioh2.H2Protocol) -> None:
    """CONNECT, and asyncio streams over the stream."""
    async with connection.open_stream({":method": "CONNECT", ":authority": "a.test:1"}) as stream:
        await stream.recv_response()
        reader, writer = stream.as_reader_writer()
        assert_type(reader, asyncio.StreamReader)
        assert_type(writer, asyncio.StreamWriter)
        inner = aioh2.H2Protocol(client_side=True)
        writer.transport.set_protocol(inner)
        inner.connection_made(writer.transport)
        await inner.wait_open()


async def look(connection: aioh2.H2Protocol) -> None:
    """What a connection tells of itself, and what can be set."""
    assert_type(await connection.ping(), float)
    assert_type(await connection.wait_functional(), float | None)
    assert_type(connection.rtt, float | None)
    assert_type(connection.is_closing, bool)
    assert_type(connection.available_slots, int)
    assert_type(connection.waiting_requests, int)
    assert_type(connection.client_side, bool)
    assert_type(connection.config, aioh2.Config)
    assert_type(connection.close_reason, aioh2.AIOH2Exception | None)
    assert_type(describe(FrameEvent(0.0, "sent", "c1", Frame(1), None).frame), str)
    remove = connection.tap(lambda event: print(event.time, event.direction, event.headers))
    remove()
    assert_type(connection.tap(json_lines(sys.stdout, secrets=True)), Callable[[], None])
    stats = connection.stats
    assert_type(stats.frames_received, Mapping[str, int])
    assert_type(stats, aioh2.Stats)
    assert_type(stats.bytes_received + stats.bytes_sent + stats.streams_opened, int)
    assert_type(stats.rtt, float | None)
    remote = connection.remote_settings
    assert_type(remote.get(aioh2.SettingCodes.MAX_CONCURRENT_STREAMS), int | None)
    name: str = connection.get_extra_info("peername")[0]
    print(name)
    connection.functional_timeout = 0.5
    connection.initial_window_size = connection.max_frame_size = 65_536
    connection.max_concurrent_streams += 1
    connection.scheme, connection.authority = "https", "a.test"
    connection.update_settings({aioh2.SettingCodes.HEADER_TABLE_SIZE: 0})
    connection.update_settings({0x99: 1, aioh2.SettingCodes.HEADER_TABLE_SIZE: 0})
    plain: dict[int, int] = {0x99: 1}
    connection.update_settings(plain)
    known: Mapping[aioh2.SettingCodes, int] = {aioh2.SettingCodes.MAX_FRAME_SIZE: 2**14}
    connection.update_settings(known)
    connection.update_settings(remote)
    connection.close_connection(aioh2.ErrorCodes.NO_ERROR, b"bye")
    await connection.wait_closing()
    await connection.wait_closed()
    drained = await connection.shutdown(grace=3)
    assert_type(drained, aioh2.Drained)
    completed, aborted = drained
    assert_type(completed + aborted + drained.completed, int)


async def fail(stream: aioh2.H2Stream) -> bool:
    """Every error, with what it knows."""
    try:
        await stream.send_data(b"body", end_stream=True)
    except aioh2.SendException as error:
        assert_type(error.data, bytes)
        assert_type(error.retryable, bool)
    except aioh2.ConnectionClosed as error:
        assert_type(error.error_code, int | None)
        assert_type(error.last_stream_id, int | None)
        assert_type(error.debug_data, bytes)
        return error.initiator == "peer"
    except aioh2.StreamReset as error:
        assert_type(error.stream_id, int)
        assert_type(error.error_code, int)
        return error.retryable and error.initiator == "transport"
    except (aioh2.StreamClosed, aioh2.NotSupported, aioh2.HandshakeError) as error:
        assert_type(error.retryable, bool)
        as_os: OSError | None = error if isinstance(error, aioh2.HandshakeError) else None
        print(as_os)
    except aioh2.AIOH2Exception as error:
        return error.retryable
    return False
