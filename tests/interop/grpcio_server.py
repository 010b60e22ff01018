"""A server of grpcio with the methods of examples/grpc_echo.py, and one that waits for ever.

Options: --key and --cert, FILE each; --max-message BYTES; --age MILLISECONDS of a connection.
"""

from __future__ import annotations

import argparse
import asyncio
import pathlib
import signal
from collections.abc import AsyncIterator
from typing import Any

import grpc


async def echo(message: bytes, context: Any) -> bytes:
    """Send the message and the metadata back."""
    metadata = [field for field in context.invocation_metadata() if field[0].startswith("x-")]
    await context.send_initial_metadata(tuple(metadata))
    return message


async def split(message: bytes, context: Any) -> AsyncIterator[bytes]:
    """Send each line back as a message."""
    for line in message.splitlines():
        yield line


async def count(messages: AsyncIterator[bytes], context: Any) -> bytes:
    """Say how many messages came, of how many bytes."""
    sizes = [len(message) async for message in messages]
    return b"%d messages, %d bytes" % (len(sizes), sum(sizes))


async def chat(messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    """Send each message back, and how many they were as trailing metadata."""
    sent = 0
    async for message in messages:
        yield message
        sent += 1
    context.set_trailing_metadata((("messages", str(sent)),))


async def fail(message: bytes, context: Any) -> bytes:
    """End with the status whose number comes first in the message, and the rest of it."""
    number, _, why = message.decode().partition(" ")
    [status] = [status for status in grpc.StatusCode if status.value[0] == int(number)]
    await context.abort(status, why, (("message-bin", why.encode()),))
    raise AssertionError("abort raises")


async def wait(message: bytes, context: Any) -> bytes:
    """Wait until the call is cancelled, and say so."""
    print(f"waiting, {context.time_remaining()} s are left", flush=True)
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        print("cancelled", flush=True)
        raise
    raise AssertionError("nobody sets a result")


METHODS = {
    "Echo": grpc.unary_unary_rpc_method_handler(echo),
    "Split": grpc.unary_stream_rpc_method_handler(split),
    "Count": grpc.stream_unary_rpc_method_handler(count),
    "Chat": grpc.stream_stream_rpc_method_handler(chat),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Wait": grpc.unary_unary_rpc_method_handler(wait),
}


def credentials(key: str, cert: str) -> Any:
    """Read the two files."""
    pair = (pathlib.Path(key).read_bytes(), pathlib.Path(cert).read_bytes())
    return grpc.ssl_server_credentials([pair])


async def main() -> None:
    """Serve until SIGTERM; then let the calls in flight end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--key")
    parser.add_argument("--cert")
    parser.add_argument("--max-message", type=int, default=4 * 1024 * 1024)
    parser.add_argument("--age", type=int)
    options = parser.parse_args()

    arguments = [("grpc.max_receive_message_length", options.max_message), ("grpc.so_reuseport", 0)]
    if options.age:
        arguments.append(("grpc.max_connection_age_ms", options.age))
    server = grpc.aio.server(options=arguments)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("echo.Echo", METHODS)])
    if options.cert:
        port = server.add_secure_port("127.0.0.1:0", credentials(options.key, options.cert))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await server.start()
    print(f"listening on port {port}", flush=True)
    await stop.wait()
    print("shutting down", flush=True)
    await server.stop(10)
    print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
