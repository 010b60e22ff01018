"""HTTP/2 over sockets that are there already: the two ends of a socketpair, in one process.

    python examples/sockets.py

The same goes for a socket that systemd hands over, that a parent process has opened, or that has
done something else before.
"""

from __future__ import annotations

import asyncio
import socket

import aioh2


async def answer(stream: aioh2.H2Stream) -> None:
    """Answer one request."""
    await stream.start_response({":status": "200"})
    await stream.send_data(b"hello over a socketpair\n", end_stream=True)


async def main() -> None:
    """Serve on one end, and ask on the other."""
    ours, theirs = socket.socketpair()

    # a server's side, on a socket that somebody has accepted; ssl= would do TLS first
    server = aioh2.H2Protocol(client_side=False)
    server.set_handler(lambda protocol: protocol.serve(answer))
    await asyncio.get_running_loop().connect_accepted_socket(lambda: server, theirs)

    # a client's side, on a socket that somebody has connected
    async with (
        aioh2.open_connection(sock=ours) as client,
        client.open_stream({":path": "/"}, end_stream=True) as stream,
    ):
        print(await stream.recv_response())
        print((await stream.read(-1)).decode(), end="")
    await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(main())
