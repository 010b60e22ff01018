"""Peers that keep no rule: plain sockets, and what is done with them."""

from __future__ import annotations

import contextlib
import resource
import socket
import ssl
import struct
import sys
from collections.abc import Iterable
from typing import Final

from h2.settings import SettingCodes

from .. import octets

# Seconds for what a server does at once.
_PATIENCE: Final = 10
# So many descriptors are for other things.
_RESERVE: Final = 100

#: What a client says first, which wants all that there is.
GREEDY: Final = (
    octets.PREFACE
    + octets.setting((SettingCodes.INITIAL_WINDOW_SIZE, octets.LARGEST))
    + octets.raw(octets.SETTINGS, octets.ACK)
    + octets.window_update(0, octets.LARGEST - 65_535)
)
#: The same of one that opens no window.
CLOSED: Final = (
    octets.PREFACE
    + octets.setting((SettingCodes.INITIAL_WINDOW_SIZE, 0))
    + octets.raw(octets.SETTINGS, octets.ACK)
)

#: The same of one that uploads, and what of a frame it then sends.
UPLOAD: Final = GREEDY + octets.opening(1)
HALF_A_FRAME: Final = octets.data(1, bytes(16_384))[:8_000]


def connections_for(wanted: int) -> int:
    """Raise the limit of open files as far as it goes, and return how many sockets there may be.

    Fewer than ``wanted`` is said on standard error; fewer than a tenth fails.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard - _RESERVE)
    if count < wanted:
        print(
            f"\n{count} connections in place of {wanted}: the limit of open files is {hard}",
            file=sys.stderr,
        )
    assert count >= wanted / 10, f"the limit of open files is {hard}"
    return count


def get(path: str) -> bytes:
    """Return the HEADERS of a request that has no body."""
    return octets.headers(1, [*octets.REQUEST[:3], (b":path", path.encode())])


def connect(
    port: int, greeting: bytes = GREEDY, *, context: ssl.SSLContext | None = None, buffer: int = 0
) -> socket.socket:
    """Connect, and send; ``buffer``: bytes that the kernel keeps of what is not read."""
    plain = socket.socket()
    plain.settimeout(_PATIENCE)
    if buffer:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    plain.connect(("127.0.0.1", port))
    connected = plain
    if context is not None:
        connected = context.wrap_socket(plain, server_hostname="127.0.0.1")
    connected.sendall(greeting)
    return connected


def cut(peer: socket.socket, *, rst: bool) -> None:
    """Be gone, with RST or with FIN; of TLS without a word."""
    if rst:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def close(peers: Iterable[socket.socket]) -> None:
    """Close what is open."""
    for peer in peers:
        peer.close()


def finish(peer: socket.socket) -> bytes | None:
    """Read to the end; None where that is a RST."""
    received = bytearray()
    try:
        while piece := peer.recv(1 << 20):
            received += piece
    except ConnectionResetError:
        return None
    finally:
        peer.close()
    return bytes(received)


def trickle(peers: Iterable[socket.socket], octet: bytes) -> None:
    """Send one more octet from each that is still connected."""
    for peer in peers:
        with contextlib.suppress(OSError):
            peer.sendall(octet)


def goaways(received: bytes) -> list[tuple[int, int]]:
    """Return last-stream-id and code of each GOAWAY; what comes last may be a part of a frame."""
    found = []
    at = 0
    while at + 9 <= len(received):
        end = at + 9 + int.from_bytes(received[at : at + 3], "big")
        if received[at + 3] == octets.GOAWAY and end <= len(received):
            found.append(struct.unpack_from(">LL", received, at + 9))
        at = end
    return found
