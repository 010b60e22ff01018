"""Hypercorn with a minimal ASGI application, in one process."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from typing import Any

from . import CHUNK, SMALL, Options, download_size, zeros

_Receive = Callable[[], Awaitable[dict[str, Any]]]
_Send = Callable[[dict[str, Any]], Awaitable[None]]


async def app(scope: dict[str, Any], receive: _Receive, send: _Send) -> None:
    """Answer one request; other scopes (lifespan) are refused, as ASGI allows."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    if scope["method"] == "POST":
        await count(receive, send)
        return
    size = download_size(f"{scope['path']}?{scope['query_string'].decode()}")
    if size is None:
        await start(send, len(SMALL), (b"content-type", b"text/plain"))
        await send({"type": "http.response.body", "body": SMALL})
    else:
        await download(send, size)


async def start(send: _Send, length: int, *headers: tuple[bytes, bytes]) -> None:
    """Start the response."""
    fields = [*headers, (b"content-length", b"%d" % length)]
    await send({"type": "http.response.start", "status": 200, "headers": fields})


async def count(receive: _Receive, send: _Send) -> None:
    """Read the body, and say how many bytes it had."""
    received = 0
    more = True
    while more:
        message = await receive()
        received += len(message.get("body", b""))
        more = message.get("more_body", False)
    answer = str(received).encode()
    await start(send, len(answer))
    await send({"type": "http.response.body", "body": answer})


async def download(send: _Send, size: int) -> None:
    """Send ``size`` bytes, a chunk at a time."""
    await start(send, size)
    body = zeros(size)
    for at in range(0, size, CHUNK):
        chunk = bytes(body[at : at + CHUNK])
        more = at + CHUNK < size
        await send({"type": "http.response.body", "body": chunk, "more_body": more})


async def serve(options: Options, stop: asyncio.Event) -> None:
    """Serve until ``stop``."""
    config = importlib.import_module("hypercorn.config").Config()
    config.bind = [f"127.0.0.1:{options.port}"]
    config.certfile, config.keyfile = options.cert, options.key
    config.h2_max_concurrent_streams = options.concurrency
    config.errorlog = config.accesslog = None
    config.keep_alive_max_requests = 2**31  # else a connection ends after 1,000
    run = importlib.import_module("hypercorn.asyncio").serve
    await run(app, config, shutdown_trigger=stop.wait)
