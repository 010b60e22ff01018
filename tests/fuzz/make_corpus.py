"""Write the starting corpus: ``python -m tests.fuzz.make_corpus``.

Legal sessions of plain h2, one input for each type of frame, and the attacks that have a name.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Final

from ..exact import traffic
from ..octets import (
    ACK,
    ALTSVC,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    LARGEST,
    PADDED,
    PING,
    POST,
    PREFACE,
    PRIORITIZED,
    REQUEST,
    RESPONSE,
    SETTINGS,
    TRAILERS,
    UNKNOWN,
    data,
    dependent,
    goaway,
    headers,
    literal,
    opening,
    priority,
    promise,
    raw,
    rst_stream,
    setting,
    u32,
    window_update,
)
from .mutate import HERE
from .target import How

#: Bytes of a legal session, at most.
_LEGAL: Final = 2_500


def _legal(client: bool) -> Iterator[tuple[str, bytes]]:
    side = "client" if client else "server"
    for seed in range(10):
        session = _session(client, seed)
        octets = b"".join(step for step in session.steps if isinstance(step, bytes))
        yield f"legal-{side}-{seed}", bytes([How.RAW | client, seed]) + octets[:_LEGAL]


def _session(client: bool, seed: int) -> traffic.Session:
    """Return the first one of this side."""
    r = random.Random(seed)
    while True:
        session = traffic.walk(r)
        if session.client is client:
            return session


def _to_server() -> Iterator[tuple[str, bytes]]:
    body = opening(1) + data(1, b"x" * 100, end=True)
    yield "post", body
    yield "trailers", opening(1) + data(1) + headers(1, TRAILERS)
    yield "padded", opening(1) + raw(DATA, PADDED | END_STREAM, 1, b"\x05abc" + bytes(5))
    yield (
        "continued",
        (
            raw(HEADERS, END_STREAM, 1, literal(REQUEST[:2]))
            + raw(CONTINUATION, END_HEADERS, 1, literal(REQUEST[2:]))
        ),
    )
    yield "prioritized", dependent(1, 0) + dependent(3, 1) + priority(5, 3) + priority(1, 5)
    yield (
        "priority-update",
        (raw(16, 0, 0, u32(1) + b"u=1, i") + headers(1) + raw(16, 0, 0, u32(1) + b"u=7")),
    )
    yield "no-rfc7540", setting((9, 1)) + headers(1) + headers(3)
    yield "reset", opening(5) + rst_stream(5) + data(5) + window_update(5, 1)
    yield "windows", setting((4, 0)) + headers(5) + setting((4, 100)) + window_update(5, 50)
    yield "overflow", headers(5) + window_update(5, LARGEST) + window_update(0, LARGEST)
    yield "settings", setting((1, 0), (2, 0), (3, 5), (4, 70_000), (5, 20_000), (6, 9), (99, 1))
    yield "ping", raw(PING, 0, 0, b"12345678") + raw(PING, ACK, 0, b"12345678")
    yield "goaway", headers(1) + goaway(0) + headers(3) + goaway(0, 2, b"why")
    yield "unknown", raw(UNKNOWN, 255, 7, b"x" * 20) + raw(ALTSVC, 0, 0, b"\0\0h2=x") + body
    yield "connect", headers(1, [(b":method", b"CONNECT"), (b":authority", b"a:1")], END_HEADERS)
    yield (
        "extended",
        opening(1, [(b":method", b"CONNECT"), *REQUEST[1:], (b":protocol", b"websocket")]),
    )
    yield "malformed", headers(1, [*REQUEST, (b"Upper", b"x")]) + headers(3, REQUEST[:2])
    yield "length", headers(1, [*POST, (b"content-length", b"5")], END_HEADERS) + data(1, end=True)
    yield "sizes", headers(1) + raw(HEADERS, 5, 3, b"\x20\x3f\xe1\x1f" + literal(REQUEST))
    yield (
        "indexed",
        raw(HEADERS, 5, 1, b"\x82\x86\x84\x41\x01a") + raw(HEADERS, 5, 3, b"\x82\x86\x84\xbe"),
    )
    # attacks
    yield "rapid-reset", b"".join(headers(i) + rst_stream(i) for i in range(1, 120, 2))
    yield "made-you-reset", b"".join(headers(i) + window_update(i, 0) for i in range(1, 120, 2))
    yield "continuation-flood", raw(HEADERS, 0, 1, literal(REQUEST)) + raw(CONTINUATION, 0, 1) * 60
    yield "ping-flood", raw(PING, 0, 0, bytes(8)) * 100
    yield "settings-flood", raw(SETTINGS) * 100
    yield "empty-data", opening(1) + raw(DATA, 0, 1) * 150
    yield "priority-flood", b"".join(priority(i, i - 2) for i in range(3, 203, 2))
    yield "window-toggle", headers(5) + (setting((4, 0)) + setting((4, LARGEST))) * 30
    yield "table-toggle", (setting((1, 0)) + setting((1, 4096))) * 30 + headers(1)
    yield "window-dribble", headers(5) + window_update(5, 1) * 100
    bomb = b"\x40\x01a" + b"\x7f\xe1\x1e" + b"x" * 4_000
    yield "hpack-bomb", raw(HEADERS, 5, 1, literal(REQUEST) + bomb + b"\xbe" * 3_000)
    yield "many-fields", raw(HEADERS, 5, 1, literal(REQUEST) + b"\x00\x01a\x00" * 900)
    yield "cookie-crumbs", headers(1, [*REQUEST, *[(b"cookie", b"a=b")] * 200])
    yield "goaway-flood", goaway(0) * 60
    yield "padding", opening(1) + raw(DATA, PADDED, 1, b"\xff" + bytes(255)) * 40


def _to_client() -> Iterator[tuple[str, bytes]]:
    interim = headers(1, [(b":status", b"103")], END_HEADERS)
    answer = headers(1, RESPONSE, END_HEADERS)
    yield "response", interim + answer + data(1, b"x" * 50) + headers(1, TRAILERS)
    yield "responses", b"".join(headers(i, RESPONSE) for i in (5, 3, 1))
    yield "windows", window_update(0, 90_000) + window_update(5, 90_000) + setting((4, 0))
    yield "promise", promise(1, 2) + headers(2, RESPONSE, END_HEADERS) + data(2, end=True) + answer
    yield "refused", setting((3, 1)) + rst_stream(3, 7) + rst_stream(5, 0) + headers(1, RESPONSE)
    yield "goaway", goaway(1) + headers(1, RESPONSE) + goaway(0, 11, b"calm")
    yield "limits", setting((3, 0), (4, 1), (6, 40), (1, 0)) + answer
    yield "interim-flood", interim * 60
    yield "promise-flood", b"".join(promise(1, i) for i in range(2, 120, 2))
    yield "altsvc", raw(ALTSVC, 0, 1, b"\0\0h2=x") + answer + raw(PING, 0, 0, bytes(8))
    yield "late", rst_stream(1) + answer + data(1) + window_update(1, 5) + raw(HEADERS, 32 | 4, 1)
    yield "weighted", raw(HEADERS, PRIORITIZED | 4, 1, u32(3) + b"\x0f" + literal(RESPONSE))


def main() -> None:
    """Write it."""
    found: dict[str, bytes] = {}
    for client in (False, True):
        found |= _legal(client)
        for number, (name, octets) in enumerate(_to_client() if client else _to_server()):
            how = [How(0), How.PAUSED, How.LOST, How.DRAINING, How(0)][number % 5]
            how |= How.PUSH | How.CLIENT if client else how
            side = "client" if client else "server"
            found[f"{side}-{name}"] = bytes([how, number * 3 % 8]) + octets
    found["preface-half"] = bytes([How.RAW, 0]) + PREFACE[:10]
    found["preface-other"] = bytes([How.RAW, 0]) + b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
    found["preface-late-settings"] = bytes([How.RAW, 0]) + PREFACE + raw(PING, 0, 0, bytes(8))
    lines = [f"{json.dumps(name)}: {json.dumps(octets.hex())}" for name, octets in found.items()]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    (HERE / "corpus.json").write_text(text, encoding="ascii")


if __name__ == "__main__":
    main()
