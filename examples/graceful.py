"""A server that goes without losing a request: on SIGTERM it drains, and then exits.

    python examples/graceful.py --port 8000 --grace 30
    curl --http2-prior-knowledge http://127.0.0.1:8000/?seconds=5
    kill -TERM %1

New connections are refused from then on, and clients are told to send new requests elsewhere.
Requests in flight have up to --grace seconds to be answered.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from urllib.parse import parse_qs, urlsplit

import aioh2


async def handle(stream: aioh2.H2Stream) -> None:
    """Answer after as many seconds as the request asks for."""
    query = parse_qs(urlsplit(dict(stream.request_headers)[":path"]).query)
    await stream.start_response({":status": "200"})
    await stream.send_data(b"working\n")
    await asyncio.sleep(float(query.get("seconds", ["1"])[0]))
    await stream.send_data(b"done\n", end_stream=True)


async def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description="a server that drains before it exits")
    parser.add_argument("--port", type=int, default=0, help="TCP port; 0: one that is free")
    parser.add_argument("--grace", type=float, default=10, help="seconds for what is in flight")
    options = parser.parse_args()

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = await aioh2.start_server(lambda p: p.serve(handle), "127.0.0.1", options.port)
    print(f"listening on port {server.sockets[0].getsockname()[1]}", flush=True)
    await stop.wait()
    print("draining", flush=True)
    print(await server.shutdown(options.grace), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
