"""Frames as the octets that they are, legal or not: no library would make most of these."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from h2.errors import ErrorCodes
from hpack.hpack import encode_integer

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = range(5)
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(5, 10)
ALTSVC: Final = 0x0A
UNKNOWN: Final = 0xBE
END_STREAM = ACK = 0x01
END_HEADERS: Final = 0x04
PADDED: Final = 0x08
PRIORITIZED: Final = 0x20

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
LARGEST: Final = 2**31 - 1

Fields = Sequence[tuple[bytes, bytes]]
REQUEST: Final[Fields] = [
    (b":method", b"GET"),
    (b":scheme", b"http"),
    (b":authority", b"a.test"),
    (b":path", b"/"),
]
POST: Final[Fields] = [(b":method", b"POST"), *REQUEST[1:]]
HEAD: Final[Fields] = [(b":method", b"HEAD"), *REQUEST[1:]]
CONNECT: Final[Fields] = [(b":method", b"CONNECT"), (b":authority", b"a.test:443")]
RESPONSE: Final[Fields] = [(b":status", b"200")]
INTERIM: Final[Fields] = [(b":status", b"103")]
TRAILERS: Final[Fields] = [(b"checksum", b"0")]


# --- frames --------------------------------------------------------------------------------


def raw(kind: int, flags: int = 0, stream_id: int = 0, payload: bytes = b"") -> bytes:
    """Return any frame, legal or not."""
    header = len(payload).to_bytes(3, "big") + bytes([kind, flags])
    return header + stream_id.to_bytes(4, "big") + payload


def string(text: bytes) -> bytes:
    """Return a string literal (RFC 7541 section 5.2)."""
    return bytes(encode_integer(len(text), 7)) + text


def literal(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return a field block that leaves the compression context as it is."""
    return b"".join(b"\x00" + string(name) + string(value) for name, value in fields)


def u32(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "big") for number in numbers)


def headers(
    stream_id: int, fields: Fields = REQUEST, flags: int = END_STREAM | END_HEADERS
) -> bytes:
    return raw(HEADERS, flags, stream_id, literal(fields))


def opening(stream_id: int, fields: Fields = POST) -> bytes:
    """Return HEADERS that content follows."""
    return headers(stream_id, fields, END_HEADERS)


def dependent(stream_id: int, depends_on: int, fields: Fields = REQUEST) -> bytes:
    payload = u32(depends_on) + b"\x0f" + literal(fields)
    return raw(HEADERS, END_HEADERS | PRIORITIZED, stream_id, payload)


def data(stream_id: int, content: bytes = b"xx", *, end: bool = False) -> bytes:
    return raw(DATA, END_STREAM if end else 0, stream_id, content)


def rst_stream(stream_id: int, code: int = ErrorCodes.CANCEL) -> bytes:
    return raw(RST_STREAM, 0, stream_id, u32(code))


def window_update(stream_id: int, increment: int = 1) -> bytes:
    return raw(WINDOW_UPDATE, 0, stream_id, u32(increment))


def priority(stream_id: int, depends_on: int = 0, weight: int = 15) -> bytes:
    return raw(PRIORITY, 0, stream_id, u32(depends_on) + bytes([weight]))


def setting(*pairs: tuple[int, int]) -> bytes:
    """Return SETTINGS with these entries, in order and with repetitions."""
    entries = (key.to_bytes(2, "big") + u32(value) for key, value in pairs)
    return raw(SETTINGS, 0, 0, b"".join(entries))


def ping(payload: bytes = b"12345678", flags: int = 0) -> bytes:
    return raw(PING, flags, 0, payload)


def goaway(last: int, code: int = 0, debug: bytes = b"") -> bytes:
    return raw(GOAWAY, 0, 0, u32(last, code) + debug)


def promise(stream_id: int, promised: int, fields: Fields = REQUEST) -> bytes:
    return raw(PUSH_PROMISE, END_HEADERS, stream_id, u32(promised) + literal(fields))


def cut(octets: bytes | bytearray) -> list[tuple[int, int, int, bytes]]:
    """Return (type, flags, stream id, payload) of each frame; they have to be whole."""
    found = []
    octets = octets.removeprefix(PREFACE)
    while octets:
        end = 9 + int.from_bytes(octets[:3], "big")
        assert len(octets) >= end, "half a frame"
        found.append(
            (octets[3], octets[4], int.from_bytes(octets[5:9], "big"), bytes(octets[9:end]))
        )
        octets = octets[end:]
    return found
