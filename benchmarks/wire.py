"""A client that costs next to nothing: frames written and counted on a blocking socket.

What a server keeps or spends is to be seen, not what a client does; and thousands of streams
have to stay open, which no load generator offers.
"""

from __future__ import annotations

import socket
import ssl
from types import TracebackType
from typing import Final, Self

__all__ = [
    "END_HEADERS",
    "END_STREAM",
    "GET",
    "HEADERS",
    "PREFACE",
    "SETTINGS",
    "WINDOW_UPDATE",
    "Client",
    "frame",
]

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, HEADERS, _RST_STREAM, SETTINGS, _PING, _GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_ACK = END_STREAM = 0x01
END_HEADERS: Final = 0x04
# :scheme http, :path /, and an :authority that is not indexed (RFC 7541 sections 6.1 and 6.2.2).
_COMMON: Final = b"\x86\x84\x01\x09127.0.0.1"
GET: Final = b"\x82" + _COMMON
_POST: Final = b"\x83" + _COMMON


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # the server is one of ours, with a certificate made for this run
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


def frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    """One frame (RFC 9113 section 4.1)."""
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags])
    return head + stream_id.to_bytes(4, "big") + payload


class Client:
    """One connection; every call waits for what it asked for."""

    def __init__(self, port: int, timeout: float = 20, tls: bool = False) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self._socket = _context().wrap_socket(self._socket)
        self._received = bytearray()
        self._next_id = 1
        # Streams that the server has ended.
        self._ended = 0
        self._acked = False
        settings = frame(SETTINGS, 0, 0, b"")
        # a window for all the small bodies of a connection's life
        window = frame(WINDOW_UPDATE, 0, 0, (2**31 - 1 - 65_535).to_bytes(4, "big"))
        self._socket.sendall(PREFACE + settings + window)
        while not self._acked:
            self._receive()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()

    def get(self, requests: int, at_once: int = 100) -> None:
        """Make so many requests, ``at_once`` in each batch."""
        while requests:
            batch = min(requests, at_once)
            ended = self._ended + batch
            flags = END_STREAM | END_HEADERS
            self._send(batch, flags, GET)
            while self._ended < ended:
                self._receive()
            requests -= batch

    def open_uploads(self, count: int) -> None:
        """Begin so many requests with a body that never comes; wait until the server has them."""
        while count:
            batch = min(count, 500)
            self._send(batch, END_HEADERS, _POST)
            self.ping()
            count -= batch

    def ping(self) -> None:
        """Wait until the server has taken all that was sent."""
        self._acked = False
        self._socket.sendall(frame(_PING, 0, 0, bytes(8)))
        while not self._acked:
            self._receive()

    def _send(self, count: int, flags: int, block: bytes) -> None:
        last = self._next_id + 2 * count
        ids = range(self._next_id, last, 2)
        self._next_id = last
        self._socket.sendall(b"".join(frame(HEADERS, flags, i, block) for i in ids))

    def _receive(self) -> None:
        data = self._socket.recv(1 << 18)
        if not data:
            raise ConnectionError("the server has closed the connection")
        buffer = self._received
        buffer += data
        at = 0
        while len(buffer) - at >= 9:
            end = at + 9 + int.from_bytes(buffer[at : at + 3], "big")
            if end > len(buffer):
                break
            self._take(buffer[at + 3], buffer[at + 4], bytes(buffer[at + 9 : end]))
            at = end
        del buffer[:at]

    def _take(self, kind: int, flags: int, payload: bytes) -> None:
        if kind in (_DATA, HEADERS):
            self._ended += flags & END_STREAM
        elif kind in (SETTINGS, _PING):
            if flags & _ACK:
                self._acked = True
            else:
                self._socket.sendall(frame(kind, _ACK, 0, payload if kind == _PING else b""))
        elif kind in (_RST_STREAM, _GOAWAY):
            raise ConnectionError(f"the server has sent frame {kind}: {payload.hex()}")
