"""An echo server: GET is greeted, POST and PUT get their body back while it is still coming.

    python examples/echo.py --port 8000
    curl --http2-prior-knowledge --data-binary @FILE http://127.0.0.1:8000/ --output COPY

A path of /trailers ends the response with trailers: those of the request, and the length of the
body. With --cert and --key it speaks TLS; with --unix it listens on a Unix socket. SIGTERM and
SIGINT shut it down once the streams in flight have ended.
"""

from __future__ import annotations

import argparse
import asyncio
import pathlib
import signal
import ssl

import aioh2

GREETING = b"hello, this is aioh2\n"
GREETING_HEADERS = [
    (":status", "200"),
    ("content-type", "text/plain; charset=utf-8"),
    ("content-length", str(len(GREETING))),
]


async def handle(stream: aioh2.H2Stream) -> None:
    """Answer one request."""
    request = dict(stream.request_headers)
    with_trailers = request.get(":path") == "/trailers"
    match request[":method"]:
        case "POST" | "PUT":
            await echo(stream, with_trailers)
        case "GET":
            await greet(stream, with_trailers)
        case "HEAD":
            await stream.start_response(GREETING_HEADERS, end_stream=True)
        case _:
            headers = {":status": "405", "allow": "GET, HEAD, POST, PUT"}
            await stream.start_response(headers, end_stream=True)


async def echo(stream: aioh2.H2Stream, with_trailers: bool) -> None:
    """Send the body back as it comes.

    Nothing piles up: reading is what lets the client send more, and ``send_data`` waits until
    the client has room for what comes back.
    """
    await stream.start_response({":status": "200", "content-type": "application/octet-stream"})
    length = 0
    async for chunk in stream:
        length += len(chunk)
        await stream.send_data(chunk)
    if with_trailers:
        await stream.send_trailers([*await stream.recv_trailers(), ("length", str(length))])
    else:
        await stream.end()


async def greet(stream: aioh2.H2Stream, with_trailers: bool) -> None:
    """Send a few words."""
    if with_trailers:
        # some clients stop where content-length says, and do not get to the trailers
        await stream.start_response(GREETING_HEADERS[:-1])
        await stream.send_data(GREETING)
        await stream.send_trailers({"length": str(len(GREETING))})
    else:
        await stream.start_response(GREETING_HEADERS)
        await stream.send_data(GREETING, end_stream=True)


async def start(options: argparse.Namespace, context: ssl.SSLContext | None) -> aioh2.Server:
    """Listen where the options say, and say so."""
    if options.unix:
        server = await aioh2.start_unix_server(lambda p: p.serve(handle), options.unix, ssl=context)
        print(f"listening on {options.unix}", flush=True)
    else:
        server = await aioh2.start_server(
            lambda p: p.serve(handle), "127.0.0.1", options.port, ssl=context
        )
        print(f"listening on port {server.sockets[0].getsockname()[1]}", flush=True)
    return server


async def run(options: argparse.Namespace, context: ssl.SSLContext | None) -> None:
    """Serve until a signal says stop."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = await start(options, context)
    await stop.wait()
    print("shutting down", flush=True)
    drained = await server.shutdown()
    print(f"streams completed: {drained.completed}, aborted: {drained.aborted}", flush=True)


def main() -> None:
    """Read the options, and run."""
    parser = argparse.ArgumentParser(description="HTTP/2 echo server")
    parser.add_argument("--port", type=int, default=0, help="TCP port; 0: one that is free")
    parser.add_argument("--unix", metavar="PATH", help="listen on a Unix socket instead")
    parser.add_argument("--cert", metavar="FILE", help="certificate chain (PEM); needs --key")
    parser.add_argument("--key", metavar="FILE", help="private key (PEM)")
    options = parser.parse_args()
    if bool(options.cert) != bool(options.key):
        parser.error("--cert and --key go together")
    context = None
    if options.cert:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options.cert, options.key)
    try:
        asyncio.run(run(options, context))
    finally:
        if options.unix:
            pathlib.Path(options.unix).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
