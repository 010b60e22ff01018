"""``examples/events.py``: listeners that are slow, go, come back, or stay to the end."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any

import aioh2

from .interop.programs import Example
from .wire import Case

# Seconds for what a program does at once.
PATIENCE = 20
HEADERS = [
    (":status", "200"),
    ("content-type", "text/event-stream"),
    ("cache-control", "no-store"),
]
MISSED = (0, "missed", [""])


class Listener:
    """A stream of events, read as the HTML standard has it."""

    def __init__(self, stream: aioh2.H2Stream) -> None:
        self.stream = stream
        self.text = b""

    async def block(self) -> bytes:
        """Return all up to the next empty line; what there is, where the stream ends before."""
        async with asyncio.timeout(PATIENCE):
            while b"\n\n" not in self.text:
                data = await self.stream.read()
                if not data:
                    return self.text
                self.text += data
        block, _, self.text = self.text.partition(b"\n\n")
        return block

    async def next(self) -> tuple[int, str, list[str]]:
        """Return the next event: its id, its name and its lines."""
        event_id, name, lines = 0, "message", []
        for line in (await self.block()).decode().split("\n"):
            field, _, value = line.partition(":")
            match field:
                case "id":
                    event_id = int(value)
                case "event":
                    name = value.strip()
                case "data":
                    lines.append(value.removeprefix(" "))
                case _:
                    raise AssertionError(f"what is {line}?")
        return event_id, name, lines


class TestEvents(Case):
    @contextlib.asynccontextmanager
    async def serving(self, *arguments: str) -> AsyncIterator[aioh2.H2Protocol]:
        """Start the example, and connect to it."""
        async with Example("events.py", *arguments) as self.server, self.connect() as client:
            yield client

    def connect(self, **options: Any) -> Any:
        return aioh2.open_connection("127.0.0.1", self.server.port, **options)

    async def listen(self, client: aioh2.H2Protocol, **headers: str) -> Listener:
        """Begin to listen."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        stream = await client.open_stream({":path": "/events", **fields}, end_stream=True)
        self.assertEqual(await stream.recv_response(), HEADERS)
        listener = Listener(stream)
        self.assertRegex(begin := await listener.block(), rb"^retry: \d+\nid: \d+$")
        self.position = begin.decode().rpartition(" ")[2]
        return listener

    async def publish(self, client: aioh2.H2Protocol, body: bytes, status: str = "204") -> None:
        headers = {":method": "POST", ":path": "/events"}
        async with asyncio.timeout(PATIENCE), client.open_stream(headers) as stream:
            with contextlib.suppress(aioh2.SendException):
                await stream.send_data(body, end_stream=True)
            self.assertEqual(await stream.recv_response(), [(":status", status)])

    async def test_every_listener_gets_every_event(self) -> None:
        async with self.serving() as client, self.connect() as other:
            listeners = [await self.listen(one) for one in (client, client, other)]
            texts = {
                b"a": ["a"],
                b"": [""],
                "grüße\nb\r\nc\rd\u2028e".encode(): ["grüße", "b", "c", "d\u2028e"],
                b" id: 7\nevent: x": [" id: 7", "event: x"],
                b"\xff": ["\ufffd"],
            }
            last = 0
            for text, lines in texts.items():
                await self.publish(client, text)
                events = [await listener.next() for listener in listeners]
                event_id = events[0][0]
                self.assertEqual(events, [(event_id, "message", lines)] * 3)
                self.assertIn(event_id - last, [1, event_id])
                last = event_id

    async def test_coming_back(self) -> None:
        async with self.serving() as client:
            # of a server that was there before; this one has nothing yet
            early = await self.listen(client, last_event_id="5")
            listener = await self.listen(client)
            start = self.position
            ids = []
            for text in (b"1", b"2", b"3"):
                await self.publish(client, text)
                ids.append((await listener.next())[0])
            first, second, third = (
                (event_id, "message", [str(number)]) for number, event_id in enumerate(ids, 1)
            )
            for last, expected in (
                ("5", [MISSED, first, second, third]),
                (start, [first, second, third]),
                (str(ids[0]), [second, third]),
                (str(ids[2]), []),
                (str(ids[2] + 10**9), []),
                ("x", []),
                ("", []),
            ):
                with self.subTest(last):
                    again = await self.listen(client, last_event_id=last)
                    self.assertEqual([await again.next() for _ in expected], expected)
                    await self.publish(client, b"last")
                    self.assertEqual((await again.next())[2], ["last"])
                    # nobody else came after these
                    again.stream.reset()
            self.assertEqual([await early.next() for _ in range(3)], [MISSED, first, second])

    async def test_heartbeat(self) -> None:
        async with self.serving("--heartbeat", "0.1") as client:
            listener = await self.listen(client)
            self.assertEqual([await listener.block() for _ in range(3)], [b":"] * 3)
            await self.publish(client, b"a")
            event = b""
            while not event.startswith(b"id: "):
                event = await listener.block()
            self.assertRegex(event, rb"^id: \d+\ndata: a$")
            self.assertEqual(await listener.block(), b":")

    async def test_slow_listener(self) -> None:
        count, kept = 1500, 1000
        async with self.serving() as client, self.connect(initial_window_size=5000) as other:
            fast, slow = await self.listen(client), await self.listen(other)
            all_of_them: list[int] = []
            while len(all_of_them) < count:
                async with asyncio.TaskGroup() as posts:
                    for _ in range(100):
                        posts.create_task(self.publish(client, bytes(1000)))
                all_of_them += [(await fast.next())[0] for _ in range(100)]
            self.assertEqual(all_of_them, list(range(all_of_them[0], all_of_them[0] + count)))
            some, event = [], await slow.next()
            while event != MISSED:
                some.append(event[0])
                event = await slow.next()
            # what its window had room for, one that waited, and those that are kept for all
            self.assertEqual(some, all_of_them[: len(some)])
            self.assertLess(len(some), 10)
            rest = [(await slow.next())[0] for _ in range(kept)]
            self.assertEqual(rest, all_of_them[-kept:])

    async def test_server_drains(self) -> None:
        async with self.serving() as client, self.connect(initial_window_size=5000) as other:
            fast, slow = await self.listen(client), await self.listen(other)
            for _ in range(100):
                await self.publish(client, bytes(1000))
                await fast.next()
            while other.stats.bytes_received < 5000:
                await other.ping()
            self.server.terminate()
            # the end that is none of a reset, and nothing to wait for
            self.assertEqual(await fast.block(), b"")
            async with asyncio.timeout(PATIENCE):
                self.assertEqual(await slow.stream.recv_trailers(), [])
                await client.wait_closed()
            ids = re.findall(rb"id: (\d+)\n", slow.text + await slow.stream.read(-1))
            self.assertIn(len(ids), range(4, 6))
            self.assertTrue(await self.server.wait())
        self.assertEqual(self.server.lines[1:], ["shutting down", self.drained(2)])

    async def test_connection_of_age_drains(self) -> None:
        async with self.serving("--max-age", "0.7") as client:
            listener = await self.listen(client)
            self.assertEqual(await listener.block(), b"")
            async with asyncio.timeout(PATIENCE):
                await client.wait_closed()

    async def test_listeners_that_go(self) -> None:
        async with self.serving() as client, self.connect(initial_window_size=0) as other:
            headers = {":path": "/events"}
            waiting = [await self.listen(client) for _ in range(10)]
            for _ in range(10):
                stuck = await other.open_stream(headers, end_stream=True)
                self.assertEqual(await stuck.recv_response(), HEADERS)
            await self.publish(client, b"a")
            for listener in waiting:
                listener.stream.reset()
            stuck.reset()
            other.abort()
            last = await self.listen(client)
            await self.publish(client, b"b")
            self.assertEqual((await last.next())[2], ["b"])
            last.stream.reset()
            await client.ping()
            self.server.terminate()
            self.assertTrue(await self.server.wait())
        self.assertEqual(self.server.lines[1:], ["shutting down", self.drained(0)])

    async def test_other_requests(self) -> None:
        async with self.serving() as client:
            async with client.open_stream({}, end_stream=True) as stream:
                self.assertIn((":status", "200"), await stream.recv_response())
                self.assertIn(b'new EventSource("/events")', await stream.read(-1))
            for headers in ({":path": "/other"}, {":method": "PUT", ":path": "/events"}):
                async with client.open_stream(headers, end_stream=True) as stream:
                    self.assertEqual(await stream.recv_response(), [(":status", "404")])
            listener = await self.listen(client)
            await self.publish(client, bytes(16 * 1024 + 1), status="413")
            await self.publish(client, bytes(1024 * 1024), status="413")
            await self.publish(client, b"a" * 16 * 1024)
            self.assertEqual((await listener.next())[2], ["a" * 16 * 1024])

    def drained(self, completed: int) -> str:
        return f"streams completed: {completed}, aborted: 0"
