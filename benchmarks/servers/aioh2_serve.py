"""aioh2 as most servers use it: ``serve``, with a task per request."""

from __future__ import annotations

import asyncio

import aioh2

from . import CHUNK, SMALL, Options, download_size, zeros

_HEADERS = [
    (":status", "200"),
    ("content-type", "text/plain"),
    ("content-length", str(len(SMALL))),
]


async def handle(stream: aioh2.H2Stream) -> None:
    """Answer one request."""
    request = dict(stream.request_headers)
    if request[":method"] == "POST":
        await count(stream)
        return
    size = download_size(str(request[":path"]))
    if size is None:
        await stream.start_response(_HEADERS)
        await stream.send_data(SMALL, end_stream=True)
    else:
        await download(stream, size)


async def count(stream: aioh2.H2Stream) -> None:
    """Read the body, and say how many bytes it had."""
    received = 0
    async for chunk in stream:
        received += len(chunk)
    answer = str(received).encode()
    await stream.start_response({":status": "200", "content-length": str(len(answer))})
    await stream.send_data(answer, end_stream=True)


async def download(stream: aioh2.H2Stream, size: int) -> None:
    """Send ``size`` bytes, a chunk at a time."""
    await stream.start_response({":status": "200", "content-length": str(size)})
    body = zeros(size)
    for at in range(0, size, CHUNK):
        await stream.send_data(body[at : at + CHUNK], end_stream=at + CHUNK >= size)


async def serve(options: Options, stop: asyncio.Event) -> None:
    """Serve until ``stop``."""
    server = await aioh2.start_server(
        lambda protocol: protocol.serve(handle),
        "127.0.0.1",
        options.port,
        ssl=options.context(),
        concurrency=options.concurrency,
    )
    await stop.wait()
    await server.shutdown(0)
