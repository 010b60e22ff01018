"""A CONNECT proxy: TCP connections to anywhere, as the streams of one HTTP/2 connection.

    python examples/proxy.py --port 8443 --cert FILE --key FILE
    curl --proxy-http2 --proxy https://localhost:8443 https://www.example.org/

It asks nobody who they are, so it listens on 127.0.0.1 only, and connects only to what --allow
names. Without that: to port 443 of public addresses, and nowhere inside this machine or network.
SIGTERM and SIGINT shut it down once the tunnels that are open have ended, or --grace is over.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import ipaddress
import re
import signal
import socket
import ssl
import struct
from typing import NamedTuple

import aioh2

# host:port, nothing else (RFC 9110 section 7.2); an IPv6 address is in brackets
AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9A-Za-z._-]+)):([0-9]{1,5})")
CHUNK = 65_536


class Refused(Exception):
    """No tunnel: the status that says why."""


class Rule(NamedTuple):
    """A target that is allowed; None is any host, or any port."""

    host: str | None
    port: int | None

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read ``HOST:PORT``, where either may be ``*``."""
        host, _, port = text.rpartition(":")
        if not host:
            raise ValueError(f"not HOST:PORT: {text}")
        return cls(
            None if host == "*" else host.strip("[]").lower(), None if port == "*" else int(port)
        )

    def allows(self, host: str, port: int, address: str) -> bool:
        """Tell whether ``address``, which ``host`` was resolved to, may be connected to.

        A host that is named may be anywhere. Where any will do, its name says nothing: only
        what it was resolved to can tell whether that is inside.
        """
        if self.port not in (None, port):
            return False
        return is_public(address) if self.host is None else self.host == host


def is_public(address: str) -> bool:
    """Tell whether an address is neither this machine nor in a private network."""
    ip = ipaddress.ip_address(address)
    return (getattr(ip, "ipv4_mapped", None) or ip).is_global


def parse_authority(authority: str) -> tuple[str, int]:
    """Return the host and port of a CONNECT request (RFC 9113 section 8.5)."""
    found = AUTHORITY.fullmatch(authority)
    if found is None or not 0 < int(found[3]) < 65_536:
        raise Refused("400")
    return (found[1] or found[2]).lower(), int(found[3])


async def resolve(host: str, port: int, rules: list[Rule]) -> list[str]:
    """Return the addresses of ``host`` that are allowed."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        # a label that is empty, or too long
        raise Refused("400") from None
    except OSError:
        raise Refused("502") from None
    addresses = [str(name[0]) for *_, name in found]
    allowed = [a for a in addresses if any(rule.allows(host, port, a) for rule in rules)]
    if not allowed:
        raise Refused("403")
    return allowed


async def connect(
    authority: str, rules: list[Rule]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the first address that answers.

    To the very addresses that were looked at: asked again, DNS might name others.
    """
    host, port = parse_authority(authority)
    for address in await resolve(host, port, rules):
        try:
            return await asyncio.open_connection(address, port, limit=CHUNK)
        except OSError:
            continue
    raise Refused("502")


async def handle(stream: aioh2.H2Stream, rules: list[Rule], limit: float) -> None:
    """Answer one request: with a tunnel, or with why there is none."""
    request = dict(stream.request_headers)
    try:
        if request[":method"] != "CONNECT":
            raise Refused("405")
        async with asyncio.timeout(limit):
            reader, writer = await connect(request.get(":authority", ""), rules)
    except Refused as refused:
        await stream.start_response({":status": str(refused)}, end_stream=True)
    except TimeoutError:
        await stream.start_response({":status": "504"}, end_stream=True)
    else:
        with contextlib.closing(writer):
            await stream.start_response({":status": "200"})
            await tunnel(reader, writer, *stream.as_reader_writer())


async def tunnel(
    from_target: asyncio.StreamReader,
    to_target: asyncio.StreamWriter,
    from_client: asyncio.StreamReader,
    to_client: asyncio.StreamWriter,
) -> None:
    """Carry bytes both ways, until both sides have ended theirs.

    Any other end, of TCP or of the stream, is a reset of the other one (RFC 9113 section 8.5).
    """
    # drain() waits for the last byte, so none is left behind when both sides have ended
    to_target.transport.set_write_buffer_limits(high=0)
    ended = False
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(copy(from_client, to_target))
            both.create_task(copy(from_target, to_client))
        ended = True
    except* OSError:
        # one of the two was reset, or lost
        pass
    finally:
        if not ended:
            # CONNECT_ERROR to the client, RST to the target
            to_client.transport.abort()
            close_with_reset(to_target)
        to_client.close()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes one way, and then the end: END_STREAM becomes FIN, and FIN END_STREAM.

    Nothing piles up: ``drain`` waits for the other side, and what is not read here is not sent.
    """
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


def close_with_reset(writer: asyncio.StreamWriter) -> None:
    """Close a TCP connection so that it sends RST, not FIN: without lingering."""
    if not writer.is_closing():
        no_linger = struct.pack("ii", 1, 0)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
        writer.transport.abort()


async def run(options: argparse.Namespace, context: ssl.SSLContext | None) -> None:
    """Serve until a signal says stop."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    rules = options.allow or [Rule(None, 443)]
    handler = functools.partial(handle, rules=rules, limit=options.timeout)
    server = await aioh2.start_server(
        lambda p: p.serve(handler), "127.0.0.1", options.port, ssl=context
    )
    print(f"listening on port {server.sockets[0].getsockname()[1]}", flush=True)
    await stop.wait()
    print("draining", flush=True)
    drained = await server.shutdown(options.grace)
    print(f"tunnels completed: {drained.completed}, aborted: {drained.aborted}", flush=True)


def main() -> None:
    """Read the options, and run."""
    parser = argparse.ArgumentParser(description="HTTP/2 CONNECT proxy")
    parser.add_argument("--port", type=int, default=0, help="TCP port; 0: one that is free")
    parser.add_argument("--cert", metavar="FILE", help="certificate chain (PEM); needs --key")
    parser.add_argument("--key", metavar="FILE", help="private key (PEM)")
    parser.add_argument(
        "--allow",
        metavar="HOST:PORT",
        action="append",
        type=Rule.parse,
        help="a target; *: any public host, or any port; default: *:443; may be repeated",
    )
    parser.add_argument("--timeout", type=float, default=10, help="seconds to connect within")
    parser.add_argument("--grace", type=float, default=10, help="seconds for open tunnels to end")
    options = parser.parse_args()
    if bool(options.cert) != bool(options.key):
        parser.error("--cert and --key go together")
    context = None
    if options.cert:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options.cert, options.key)
    asyncio.run(run(options, context))


if __name__ == "__main__":
    main()
