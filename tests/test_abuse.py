"""What a hostile peer may do, and what a busy one: each attack ends its own connection only."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import operator
import pathlib
import re
import unittest
from collections.abc import Callable
from typing import Any
from unittest import mock

from h2.errors import ErrorCodes
from hyperframe.frame import (
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
)

import aioh2

from .octets import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITIZED,
    PRIORITY,
    SETTINGS,
    UNKNOWN,
    cut,
    data,
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
from .octets import REQUEST as FIELDS
from .octets import RESPONSE as STATUS
from .octets import TRAILERS as NO_REQUEST
from .wire import POST, REQUEST, RESPONSE, Case, Peer, settle

PRIORITY_UPDATE = 0x10
GREETING = PREFACE + setting() + raw(SETTINGS, ACK)

#: A frame, or two, of an attack: its number in, octets out.
Attack = Callable[[int], bytes]


def stream(number: int) -> int:
    """Return the id of a new stream; 1 is open."""
    return 2 * number + 3


#: What a client may do to a server with stream 1 open, by the budget that it is charged to.
ATTACKS: dict[str, dict[str, Attack]] = {
    "reset_budget": {
        "rapid reset": lambda n: headers(stream(n)) + rst_stream(stream(n)),
        "rapid reset of uploads": lambda n: opening(stream(n)) + rst_stream(stream(n)),
        "resets of what is over": lambda n: rst_stream(1),
        "provoked: no request": lambda n: headers(stream(n), NO_REQUEST),
        "provoked: a window of zero": lambda n: opening(stream(n)) + window_update(stream(n), 0),
        "provoked: a window too large": lambda n: (
            opening(stream(n)) + window_update(stream(n), 2**31 - 1)
        ),
        "provoked: DATA after the end": lambda n: headers(stream(n)) + data(stream(n), b"x"),
        "provoked: HEADERS after the end": lambda n: headers(stream(n)) + headers(stream(n)),
        "provoked: PRIORITY of wrong length": lambda n: (
            opening(stream(n)) + raw(PRIORITY, 0, stream(n), b"1234")
        ),
        "provoked: PRIORITY on itself": lambda n: (
            opening(stream(n)) + priority(stream(n), stream(n))
        ),
        "provoked: a body too long": lambda n: (
            opening(stream(n), [*FIELDS, (b"content-length", b"1")]) + data(stream(n), b"xx")
        ),
    },
    "control_budget": {
        "PING": lambda n: raw(PING, 0, 0, bytes(8)),
        "ACKs of no PING": lambda n: raw(PING, ACK, 0, bytes(8)),
        "SETTINGS": lambda n: setting(),
        "ACKs of no SETTINGS": lambda n: raw(SETTINGS, ACK),
        "windows that grow and shrink": lambda n: setting((4, 1 + n % 2)),
        "tables that grow and shrink": lambda n: setting((1, 0), (1, 4096)),
        "PRIORITY": lambda n: priority(1, 3),
        "PRIORITY of idle streams": lambda n: priority(stream(n), 1),
        "PRIORITY_UPDATE": lambda n: raw(PRIORITY_UPDATE, 0, 0, u32(stream(n)) + b"u=1"),
        "GOAWAY": lambda n: goaway(0),
        "unknown frames": lambda n: raw(UNKNOWN, 0, 0, b"any"),
        "unknown frames on a stream": lambda n: raw(UNKNOWN, 0xFF, 1),
        "ALTSVC": lambda n: raw(0xA, 0, 0, b"\x00\x01ah2"),
    },
    "window_update_budget": {
        "of the connection": lambda n: window_update(0, 1),
        "of a stream": lambda n: window_update(1, 1),
    },
    "empty_frame_budget": {
        "DATA": lambda n: data(1, b""),
        "DATA with a padding of none": lambda n: raw(DATA, PADDED, 1, b"\0"),
        "HEADERS": lambda n: raw(HEADERS, END_HEADERS | END_STREAM, stream(n)),
        "HEADERS with priority alone": lambda n: raw(
            HEADERS, END_HEADERS | END_STREAM | PRIORITIZED, stream(n), bytes(5)
        ),
        "CONTINUATION": lambda n: (
            raw(HEADERS, END_STREAM, stream(n), b"\x82\x84")
            + raw(CONTINUATION, 0, stream(n))
            + raw(CONTINUATION, END_HEADERS, stream(n), b"\x86\x01\x01a")
        ),
    },
}
#: The same of a server, to a client whose request 1 is open.
OF_SERVERS: dict[str, dict[str, Attack]] = {
    "reset_budget": {
        "resets of what is over": lambda n: rst_stream(1),
        "provoked: promises that may not be": lambda n: promise(1, 2 * n + 2, NO_REQUEST),
    },
    "control_budget": {
        "GOAWAY": lambda n: goaway(1),
        **{
            name: ATTACKS["control_budget"][name]
            for name in ("PING", "SETTINGS", "PRIORITY", "unknown frames", "ALTSVC")
        },
    },
    "window_update_budget": ATTACKS["window_update_budget"],
    "empty_frame_budget": {
        "DATA": lambda n: (b"" if n else opening(1, STATUS)) + data(1, b""),
    },
}

#: What one header block or frame may not hold, by the limit that it exceeds.
BOMBS = {
    "max_continuations": [
        raw(HEADERS, 0, 1) + raw(CONTINUATION, 0, 1) * 33,
        raw(HEADERS, 0, 1, b"\x82") + raw(CONTINUATION, 0, 1, b"\x84") * 33,
    ],
    "max_header_block_size": [
        raw(HEADERS, 0, 1, bytes(16_384)) + raw(CONTINUATION, 0, 1, bytes(16_384)) * 4,
    ],
    "max_header_fields": [
        raw(HEADERS, END_HEADERS, 1, literal(FIELDS) + b"\x90" * 300),
        # tens of thousands of one byte each
        raw(HEADERS, 0, 1, b"\x82" * 16_384) + raw(CONTINUATION, END_HEADERS, 1, b"\x82" * 16_384),
        # crumbs
        headers(1, [*FIELDS, *[(b"cookie", b"a")] * 253]),
    ],
    "max_header_list_size": [
        # a small block, a huge list: one large field, and indices of it
        raw(HEADERS, END_HEADERS, 1, b"\x40\x01a\x7f\xa1\x1e" + b"a" * 4_000 + b"\xbe" * 20),
    ],
    "max_settings_entries": [setting(*[(4, 65_535)] * 33)],
    "table_size_updates": [
        raw(HEADERS, END_HEADERS, 1, b"\x20\x3f\xe1\x1f\x20" + literal(FIELDS)),
    ],
}


class AbuseCase(Case):
    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        # what a peer does wrong is no error of ours
        self.enterContext(self.assertNoLogs("aioh2", "ERROR"))

    async def victim(self, *, client: bool = False, **options: Any) -> Peer:
        """Return the peer of a server, or of a client, with stream 1 open."""
        if client:
            peer = await Peer.of_client(**options)
            await peer.protocol.start_request(POST)
        else:
            peer = await Peer.of_server(**options)
            peer.request(1, POST, end=False)
        await peer.frames()
        return peer

    async def assert_calmed(self, peer: Peer, budget: str) -> aioh2.ConnectionClosed:
        """Check that the peer was told why, and so is the application."""
        goaway = (await peer.frames(GoAwayFrame))[-1]
        self.assertEqual(goaway.error_code, ErrorCodes.ENHANCE_YOUR_CALM)
        self.assertEqual(goaway.additional_data, budget.encode())
        self.assertTrue(peer.transport.closed)
        reason = peer.protocol.close_reason
        assert isinstance(reason, aioh2.ConnectionClosed)
        self.assertEqual(reason.error_code, ErrorCodes.ENHANCE_YOUR_CALM)
        self.assertEqual(reason.debug_data, budget.encode())
        self.assertEqual(reason.initiator, "local")
        self.assertIn(f"{budget} was exceeded", str(reason))
        return reason

    async def assert_served(self, peer: Peer, stream_id: int) -> None:
        """Check that a connection is well: a PING of its own is answered."""
        self.assertFalse(peer.protocol.is_closing)
        await peer.frames()
        peer.send(PingFrame(0, b"how now?"))
        pongs = [frame.opaque_data for frame in await peer.frames(PingFrame)]
        self.assertEqual(pongs, [b"how now?"])
        if not peer.protocol.client_side:
            peer.request(stream_id)
            await settle()
            self.assertEqual(peer.protocol.stream(stream_id).request_headers, REQUEST)


# --- attacks -------------------------------------------------------------------------------


class TestBudgets(AbuseCase):
    """Each attack may do as much as its budget says, and nothing more."""

    BURST = 6

    async def attack(self, budget: str, attack: Attack, *, client: bool) -> None:
        neighbour = await self.victim(client=client)
        limits: dict[str, Any] = {budget: (self.BURST, 0), "enable_push": client}
        peer = await self.victim(client=client, **limits)
        spare = 2 if budget == "control_budget" else 0
        # the greeting was two frames, of which the ACK was paid for
        for number in range(self.BURST - bool(spare)):
            peer.send_bytes(attack(number))
            await settle(1)
        self.assertIsNone(peer.protocol.close_reason)
        for number in range(self.BURST, self.BURST + 2 + client):
            peer.send_bytes(attack(number))
        await self.assert_calmed(peer, budget)
        await self.assert_served(neighbour, 3)

    async def test_of_clients(self) -> None:
        for budget, attacks in ATTACKS.items():
            for name, attack in attacks.items():
                with self.subTest(budget, attack=name):
                    await self.attack(budget, attack, client=False)

    async def test_of_servers(self) -> None:
        for budget, attacks in OF_SERVERS.items():
            for name, attack in attacks.items():
                with self.subTest(budget, attack=name):
                    await self.attack(budget, attack, client=True)

    async def test_the_defaults_end_each(self) -> None:
        for budget, attacks in ATTACKS.items():
            size = getattr(aioh2.Config(), budget)
            for name, attack in attacks.items():
                with self.subTest(budget, attack=name):
                    peer = await self.victim()
                    for number in range(2 * size[0]):
                        peer.send_bytes(attack(number))
                        if peer.protocol.close_reason is not None:
                            break
                        if not number % 50:
                            await settle(2)
                    await settle(40)
                    await self.assert_calmed(peer, budget)

    async def test_refused_streams(self) -> None:
        peer = await self.victim(concurrency=1, reset_budget=(5, 0))
        for number in range(5):
            peer.request(stream(number))
        resets = await peer.frames(RstStreamFrame)
        self.assertEqual({frame.error_code for frame in resets}, {ErrorCodes.REFUSED_STREAM})
        self.assertEqual(len(resets), 5)
        self.assertFalse(peer.protocol.is_closing)
        peer.request(stream(5))
        await self.assert_calmed(peer, "reset_budget")

    async def test_a_rate_is_kept_for_ever(self) -> None:
        peer = await self.victim(control_budget=(5, 10))
        loop = asyncio.get_running_loop()
        loop.slow_callback_duration = float("inf")
        real, skipped = loop.time, 0.0
        with mock.patch.object(loop, "time", lambda: real() + skipped):
            for _ in range(300):
                skipped += 0.1
                peer.send(PingFrame(0, bytes(8)))
            await settle()
            self.assertFalse(peer.protocol.is_closing)
            for _ in range(20):
                peer.send(PingFrame(0, bytes(8)))
            await self.assert_calmed(peer, "control_budget")

    async def test_no_budget(self) -> None:
        peer = await self.victim(control_budget=None)
        for _ in range(2_000):
            peer.send(PingFrame(0, bytes(8)))
        await settle()
        self.assertEqual(len(await peer.frames(PingFrame)), 2_000)


class TestBombs(AbuseCase):
    async def test_each(self) -> None:
        for limit, bombs in BOMBS.items():
            for number, bomb in enumerate(bombs):
                with self.subTest(limit, number=number):
                    peer = await Peer.of_server()
                    peer.send_bytes(bomb)
                    await self.assert_calmed(peer, limit)

    async def test_just_below(self) -> None:
        for name, fine in [
            ("fields", headers(1, [*FIELDS, *[(b"a%d" % at, b"") for at in range(252)]])),
            ("settings", setting(*[(4, 65_535)] * 32)),
            ("sizes", raw(HEADERS, END_HEADERS, 1, b"\x20\x3f\xe1\x1f" + literal(FIELDS))),
        ]:
            with self.subTest(name):
                peer = await Peer.of_server()
                peer.send_bytes(fine)
                await settle()
                self.assertIsNone(peer.protocol.close_reason)

    async def test_a_length_that_is_too_large(self) -> None:
        """As soon as the nine bytes are there that announce it."""
        peer = await Peer.of_server()
        peer.send_bytes(raw(DATA, 0, 1, bytes(16_385))[:9])
        goaway = (await peer.frames(GoAwayFrame))[-1]
        self.assertEqual(goaway.error_code, ErrorCodes.FRAME_SIZE_ERROR)

    async def test_handlers_of_streams_that_were_reset_are_bounded(self) -> None:
        """A reset alone does not make room for another that runs on."""
        running = most = 0

        async def stubborn(stream: aioh2.H2Stream) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            await settle(250)
            running -= 1

        peer = await Peer.of_server(concurrency=10, handler=lambda p: p.serve(stubborn))
        for number in range(90):
            peer.request(stream(number))
            await settle(4)
            peer.reset(stream(number))
        await settle(300)
        self.assertEqual(most, 10)
        self.assertEqual(running, 0)
        await self.assert_served(peer, 1001)


# --- the share of a tick -------------------------------------------------------------------


# --- honest peers --------------------------------------------------------------------------


class TestBusy(AbuseCase):
    """Whoever is merely busy exceeds nothing, however fast: no time passes here."""

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        loop = asyncio.get_running_loop()
        loop.set_debug(False)
        now = loop.time()
        # what a budget gives by its rate is not there
        self.enterContext(mock.patch.object(loop, "time", lambda: now))

    async def serving(self, handler: Any, **options: Any) -> Peer:
        return await Peer.of_server(handler=lambda p: p.serve(handler), **options)

    async def test_requests_of_which_some_are_cancelled(self) -> None:
        gate = asyncio.Event()

        async def answer(stream: aioh2.H2Stream) -> None:
            if ("cancel", "1") in stream.request_headers:
                await gate.wait()
            await stream.start_response({":status": "204"}, end_stream=True)

        peer = await self.serving(answer)
        for number in range(10_000):
            if number % 20:
                peer.send_bytes(headers(stream(number)))
            else:
                peer.send_bytes(headers(stream(number), [*FIELDS, (b"cancel", b"1")]))
                await settle(4)
                peer.reset(stream(number))
            if not number % 50:
                await settle(4)
        await settle()
        self.assertIsNone(peer.protocol.close_reason)
        self.assertEqual(peer.protocol.stats.resets_received, 500)

    async def test_small_uploads(self) -> None:
        total = 0

        async def answer(stream: aioh2.H2Stream) -> None:
            nonlocal total
            total += len(await stream.read(-1))
            await stream.start_response({":status": "204"}, end_stream=True)

        peer = await self.serving(answer)
        for number in range(10_000):
            # as gRPC does: the end in a frame of its own
            peer.send_bytes(
                opening(stream(number))
                + data(stream(number), b"small")
                + data(stream(number), b"", end=True)
            )
            if not number % 50:
                await settle(8)
        await settle()
        self.assertIsNone(peer.protocol.close_reason)
        self.assertEqual(total, 50_000)

    async def test_an_empty_frame_after_each_message(self) -> None:
        async def count(stream: aioh2.H2Stream) -> None:
            await stream.start_response(RESPONSE)
            total = len(await stream.read(-1))
            await stream.send_data(str(total).encode(), end_stream=True)

        peer = await self.serving(count)
        peer.request(1, POST, end=False)
        for _ in range(2_000):
            peer.send_bytes(data(1, b"message") + data(1, b""))
            await settle(1)
        peer.data(1, end=True)
        self.assertEqual((await peer.frames(DataFrame))[-1].data, b"14000")

    async def test_a_ping_with_every_frame(self) -> None:
        async def swallow(stream: aioh2.H2Stream) -> None:
            async for _ in stream:
                pass
            await stream.start_response(RESPONSE, end_stream=True)

        peer = await self.serving(swallow)
        peer.request(1, POST, end=False)
        for _ in range(5_000):
            peer.send_bytes(data(1, bytes(1_024)) + raw(PING, 0, 0, bytes(8)))
            await settle(2)
        peer.data(1, end=True)
        self.assertEqual(len(await peer.frames(HeadersFrame)), 1)

    async def test_a_download_with_two_updates_a_frame(self) -> None:
        """64 MiB, and a PING for each frame as well."""

        async def send(stream: aioh2.H2Stream) -> None:
            await stream.start_response(RESPONSE)
            for _ in range(64):
                await stream.send_data(bytes(2**20))
            await stream.end()

        peer = await self.serving(send)
        received = 0
        lengths: list[int] = []
        peer.transport.sink = lambda octets: lengths.extend(
            len(payload) for kind, _, _, payload in cut(octets) if kind == DATA and payload
        )
        peer.request(1)
        while peer.protocol.stats.streams_open:
            await settle(2)
            replies = [
                window_update(0, length) + window_update(1, length) + raw(PING, 0, 0, bytes(8))
                for length in lengths
            ]
            received += sum(lengths)
            lengths.clear()
            peer.send_bytes(b"".join(replies))
            self.assertIsNone(peer.protocol.close_reason)
        self.assertEqual(received, 2**26)

    async def test_own_cancels(self) -> None:
        """A client cancels as it likes, and its server resets what crosses that."""
        peer = await Peer.of_client()
        for _ in range(2_000):
            stream_id = await peer.protocol.start_request(REQUEST)
            peer.protocol.reset_stream(stream_id)
            peer.reset(stream_id)
        await settle()
        self.assertIsNone(peer.protocol.close_reason)

    async def test_a_server_that_refuses_all(self) -> None:
        peer = await Peer.of_client()
        for _ in range(2_000):
            stream_id = await peer.protocol.start_request(REQUEST)
            peer.reset(stream_id, ErrorCodes.REFUSED_STREAM)
            with self.assertRaises(aioh2.StreamReset):
                await peer.protocol.recv_response(stream_id)
        self.assertIsNone(peer.protocol.close_reason)

    async def test_own_pings(self) -> None:
        peer = await Peer.of_client()
        for _ in range(1_000):
            asked = asyncio.ensure_future(peer.protocol.ping())
            for frame in await peer.frames(PingFrame):
                peer.ack_ping(frame)
            await asked


# --- what is promised ----------------------------------------------------------------------


class TestDocument(unittest.TestCase):
    """SECURITY.rst names options, defaults and tests that there are."""

    TEXT = (pathlib.Path(__file__).parents[1] / "SECURITY.rst").read_text(encoding="utf-8")

    def test_the_tests(self) -> None:
        names = re.findall(r"``(test_\w+)\.([\w.]+)``", self.TEXT)
        self.assertGreater(len(names), 20)
        for module, name in names:
            with self.subTest(name):
                operator.attrgetter(name)(importlib.import_module(f"tests.{module}"))

    def test_the_defaults(self) -> None:
        config = aioh2.Config()
        rows = dict(re.findall(r"^``(\w+)`` +(\([\d, ]+\)|[\d,]+) ", self.TEXT, re.MULTILINE))
        self.assertEqual(len(rows), 9)
        for name, shown in rows.items():
            with self.subTest(name):
                value = getattr(config, name)
                expected = str(value) if isinstance(value, tuple) else f"{value:,}"
                self.assertEqual(shown, expected)

    def test_every_budget_is_in_it(self) -> None:
        for name in [*ATTACKS, *BOMBS, "frames_per_tick", "bytes_per_tick"]:
            if name != "table_size_updates":
                self.assertIn(f"``{name}``", self.TEXT)


if __name__ == "__main__":
    unittest.main()
