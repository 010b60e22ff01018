"""aioh2 by stream ids: one loop per connection, which takes its requests one after another."""

from __future__ import annotations

import asyncio

import aioh2

from . import CHUNK, SMALL, Options, download_size, zeros

_HEADERS = [
    (":status", "200"),
    ("content-type", "text/plain"),
    ("content-length", str(len(SMALL))),
]


async def handle(protocol: aioh2.H2Protocol) -> None:
    """Answer the requests of one connection."""
    while True:  # until the connection ends, which cancels this task
        stream_id, headers = await protocol.recv_request()
        request = dict(headers)
        if request[":method"] == "POST":
            await count(protocol, stream_id)
            continue
        size = download_size(str(request[":path"]))
        if size is None:
            await protocol.start_response(stream_id, _HEADERS)
            await protocol.send_data(stream_id, SMALL, end_stream=True)
        else:
            await download(protocol, stream_id, size)


async def count(protocol: aioh2.H2Protocol, stream_id: int) -> None:
    """Read the body, and say how many bytes it had."""
    received = 0
    while chunk := await protocol.read_stream(stream_id):
        received += len(chunk)
    answer = str(received).encode()
    headers = {":status": "200", "content-length": str(len(answer))}
    await protocol.start_response(stream_id, headers)
    await protocol.send_data(stream_id, answer, end_stream=True)


async def download(protocol: aioh2.H2Protocol, stream_id: int, size: int) -> None:
    """Send ``size`` bytes, a chunk at a time."""
    headers = {":status": "200", "content-length": str(size)}
    await protocol.start_response(stream_id, headers)
    body = zeros(size)
    for at in range(0, size, CHUNK):
        await protocol.send_data(stream_id, body[at : at + CHUNK], end_stream=at + CHUNK >= size)


async def serve(options: Options, stop: asyncio.Event) -> None:
    """Serve until ``stop``."""
    server = await aioh2.start_server(
        handle,
        "127.0.0.1",
        options.port,
        ssl=options.context(),
        concurrency=options.concurrency,
    )
    await stop.wait()
    await server.shutdown(0)
