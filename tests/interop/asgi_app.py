"""The ASGI application that Hypercorn serves for test_python.py.

GET /            a greeting
POST /           the checksum of the body, then its length as a trailer
POST /echo       the body back while it is coming, and the same trailer
GET /together?N  answers when N of these are there at once
GET /hold        begins the response, and waits until the client has gone
WebSocket /      each message back
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

GREETING = b"hello, this is hypercorn\n"
DOWNLOAD = bytes(range(256)) * 32768
waiting: list[asyncio.Event] = []


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer one request; a scope of another type (lifespan) is refused, as ASGI allows."""
    if scope["type"] == "websocket":
        await echo_messages(receive, send)
    elif scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    elif scope["path"] == "/enough":
        await send({"type": "http.response.start", "status": 413, "headers": []})
        await send({"type": "http.response.body", "body": b""})
    elif scope["method"] == "POST":
        await take(receive, send)
    elif scope["path"] == "/hold":
        await hold(receive, send)
    else:
        if scope["path"] == "/together":
            await together(int(scope["query_string"]))
        await start(send)
        body = DOWNLOAD if scope["path"] == "/download" else GREETING
        await send({"type": "http.response.body", "body": body})


async def start(send: Send, **more: Any) -> None:
    """Start the response."""
    await send({"type": "http.response.start", "status": 200, "headers": [], **more})


async def take(receive: Receive, send: Send) -> None:
    """Read the body; send its checksum, then its length."""
    await start(send, trailers=True)
    checksum = hashlib.sha256()
    length = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message["more_body"]
        length += len(message["body"])
        checksum.update(message["body"])
    await send({"type": "http.response.body", "body": checksum.hexdigest().encode()})
    headers = [(b"length", str(length).encode())]
    await send({"type": "http.response.trailers", "headers": headers})


async def together(count: int) -> None:
    """Wait until so many requests are here."""
    waiting.append(arrived := asyncio.Event())
    if len(waiting) == count:
        for event in waiting:
            event.set()
        waiting.clear()
    await arrived.wait()


async def hold(receive: Receive, send: Send) -> None:
    """Wait until the client has gone."""
    await start(send)
    await send({"type": "http.response.body", "body": GREETING, "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass
    print("cancelled", flush=True)


async def echo_messages(receive: Receive, send: Send) -> None:
    """Send each message back."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})
