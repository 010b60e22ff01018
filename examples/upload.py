"""Uploads that are judged by their headers, before the body is sent (Expect: 100-continue).

    python examples/upload.py --port 8000 --limit 1000000
    python examples/upload.py --port 8000 --send FILE
    curl --http2-prior-knowledge -H 'Expect: 100-continue' -T FILE http://127.0.0.1:8000/

The server says 100 where it wants the body, and answers with its checksum; else it says 413 or
417 at once, and what the client sends even so is stopped. SIGTERM and SIGINT shut it down once
the uploads in flight have ended.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import hashlib
import os
import signal
import sys
from typing import BinaryIO

import aioh2

CHUNK = 65_536


# --- the server ------------------------------------------------------------------------------


def judge(request: dict[str, str], limit: int) -> str | None:
    """Say by the headers what is wrong with an upload: a status; None: it is welcome."""
    if request[":method"] not in ("PUT", "POST"):
        return "405"
    if request.get("expect", "100-continue").lower() != "100-continue":
        return "417"
    if int(request.get("content-length", 0)) > limit:
        return "413"
    return None


async def handle(stream: aioh2.H2Stream, limit: int) -> None:
    """Take one upload, or do not.

    Where the response ends before the request, ``serve`` stops the rest of the request with
    RST_STREAM and NO_ERROR once this returns; the client can still read the response.
    """
    request = dict(stream.request_headers)
    status = judge(request, limit)
    if status is not None:
        await stream.start_response({":status": status}, end_stream=True)
        return
    if "expect" in request:
        await stream.start_response({":status": "100"})
    length, checksum = 0, hashlib.sha256()
    async for chunk in stream:
        length += len(chunk)
        if length > limit:
            # it had not said how much it would be
            await stream.start_response({":status": "413"}, end_stream=True)
            return
        checksum.update(chunk)
    await stream.start_response({":status": "200", "content-type": "text/plain"})
    await stream.send_data(f"{length} {checksum.hexdigest()}\n".encode(), end_stream=True)


async def serve(port: int, limit: int) -> None:
    """Serve until a signal says stop."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    handler = functools.partial(handle, limit=limit)
    server = await aioh2.start_server(lambda p: p.serve(handler), "127.0.0.1", port)
    print(f"listening on port {server.sockets[0].getsockname()[1]}", flush=True)
    await stop.wait()
    print("shutting down", flush=True)
    await server.shutdown()


# --- the client ------------------------------------------------------------------------------


async def is_wanted(stream: aioh2.H2Stream, patience: float) -> bool:
    """Wait for 100, or for a final response, which says that the body is not wanted.

    But not for ever: a server need not know the expectation (RFC 9110 section 10.1.1).
    """
    try:
        async with asyncio.timeout(patience):
            while (interim := await stream.recv_informational()) is not None:
                if (":status", "100") in interim:
                    return True
    except TimeoutError:
        return True
    return False


async def upload(
    connection: aioh2.H2Protocol, file: BinaryIO, *, patience: float = 1
) -> tuple[str, bytes]:
    """Upload a file, if the server wants it; return the status and body of the response."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    headers = {
        ":method": "PUT",
        ":path": "/",
        "content-length": str(size),
        "expect": "100-continue",
    }
    async with connection.open_stream(headers) as stream:
        if await is_wanted(stream, patience):
            await send(stream, file)
        status = dict(await stream.recv_response())[":status"]
        return status, await stream.read(-1)


async def send(stream: aioh2.H2Stream, file: BinaryIO) -> None:
    """Send a file, or as much of it as the server takes."""
    try:
        while chunk := file.read(CHUNK):
            await stream.send_data(chunk)
        await stream.end()
    except (aioh2.SendException, aioh2.StreamReset):
        # the response says why; where there is none, recv_response raises this again
        pass


async def put(port: int, file: BinaryIO) -> int:
    """Upload a file to a server on this machine, and print what it says."""
    async with aioh2.open_connection("127.0.0.1", port) as connection:
        status, body = await upload(connection, file)
    print(status, body.decode().strip())
    return int(status != "200")


def main() -> int:
    """Read the options, and run."""
    parser = argparse.ArgumentParser(description="uploads with Expect: 100-continue")
    parser.add_argument("--port", type=int, default=0, help="TCP port; 0: one that is free")
    parser.add_argument("--limit", type=int, default=1_000_000, help="bytes that are taken")
    parser.add_argument("--send", metavar="FILE", help="be the client")
    options = parser.parse_args()
    if options.send is not None:
        with open(options.send, "rb") as file:
            return asyncio.run(put(options.port, file))
    asyncio.run(serve(options.port, options.limit))
    return 0


if __name__ == "__main__":
    sys.exit(main())
