"""``examples/push_client.py``: nothing lost, nothing sent twice, whatever the service does."""

from __future__ import annotations

import asyncio
import collections
import json
import pathlib
import random
import runpy
import sys
from collections.abc import Callable
from typing import Any

from h2.settings import SettingCodes
from hyperframe.frame import DataFrame, HeadersFrame, SettingsFrame

import aioh2

from .interop.cases import within
from .interop.programs import Program, run
from .wire import Case, Peer, settle

ROOT = pathlib.Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "push_client.py"
LIMIT = SettingCodes.MAX_CONCURRENT_STREAMS
SHUTDOWN = json.dumps({"reason": "Shutdown"}).encode()


class PushCase(Case):
    def setUp(self) -> None:
        super().setUp()
        self.names = runpy.run_path(str(EXAMPLE))
        self.Notification = self.names["Notification"]

    def client(self, connect: Any, **options: Any) -> Any:
        class Client(self.names["PushClient"]):  # type: ignore[misc,name-defined]
            FIRST_PAUSE = 0.001

        return Client(connect, **options)


class TestScripted(PushCase):
    """One connection at a time, to a service that does what the test says."""

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.peers: list[Peer] = []
        self.settings: dict[int, int] = {}
        # What goes wrong with the next attempts to connect.
        self.problems: list[OSError] = []
        self.push = self.client(self.connect, connections=1)

    async def connect(self) -> aioh2.H2Protocol:
        if self.problems:
            raise self.problems.pop(0)
        peer = await Peer.of_client(settings=self.settings)
        self.peers.append(peer)
        return peer.protocol

    async def start(self, count: int) -> asyncio.Task[None]:
        """Begin to send as many."""
        self.ids = [f"id-{n}" for n in range(count)]
        notifications = [self.Notification("device", id.encode(), id) for id in self.ids]
        return await self.waiting(self.push.send(notifications))

    async def until(self, happened: Callable[[], Any]) -> None:
        """Wait while the client pauses, for a millisecond or two."""
        while not happened():
            await settle()

    async def requests(self, peer: int) -> dict[int, str]:
        """Return what has come since the last call: ids by stream."""
        await self.until(lambda: len(self.peers) > peer)
        frames = await self.peers[peer].frames(HeadersFrame, DataFrame)
        found = {f.stream_id: dict(f.headers)["apns-id"] for f in frames if hasattr(f, "headers")}
        bodies = {f.stream_id: f.data.decode() for f in frames if isinstance(f, DataFrame)}
        self.assertEqual(found, {id: body for id, body in bodies.items() if body})
        return found

    async def done(self, sending: asyncio.Task[None]) -> Any:
        await sending
        report = self.push.report
        self.assertEqual(report.sent + len(report.failed), len(self.ids))
        self.assertEqual(report.unsent, 0)
        return report

    @within(20)
    async def test_limit_that_changes(self) -> None:
        self.settings = {LIMIT: 1}
        sending = await self.start(9)
        self.assertEqual(await self.requests(0), {1: "id-0"})
        peer = self.peers[0]
        peer.send(SettingsFrame(settings={LIMIT: 3}))
        self.assertEqual(await self.requests(0), {3: "id-1", 5: "id-2"})
        peer.send(SettingsFrame(settings={LIMIT: 0}))
        for stream_id in 1, 3, 5:
            peer.respond(stream_id, [(":status", "200")], end=True)
        self.assertEqual(await self.requests(0), {})
        self.assertEqual(self.push.report.sent, 3)
        peer.send(SettingsFrame(settings={LIMIT: 100}))
        expected = {2 * n + 1: f"id-{n}" for n in range(3, 9)}
        self.assertEqual(await self.requests(0), expected)
        for stream_id in range(7, 19, 2):
            peer.respond(stream_id, [(":status", "200")], end=True)
        report = await self.done(sending)
        self.assertEqual((report.sent, report.resent, report.connections), (9, 0, 1))

    @within(20)
    async def test_goaway_with_a_reason(self) -> None:
        sending = await self.start(4)
        self.assertEqual(len(await self.requests(0)), 4)
        peer = self.peers[0]
        peer.respond(1, [(":status", "200")], end=True)
        peer.goaway(last=5, debug=SHUTDOWN)
        # the one above goes to a new connection, while the others go on
        self.assertEqual(await self.requests(1), {1: "id-3"})
        self.peers[1].respond(1, [(":status", "200")], end=True)
        await settle()
        self.assertFalse(sending.done())
        peer.respond(3, [(":status", "200")], end=True)
        peer.respond(5, [(":status", "200")], end=True)
        report = await self.done(sending)
        self.assertEqual((report.sent, report.resent, report.failed), (4, 1, {}))
        self.assertEqual(report.ends, {"Shutdown": 1})
        self.assertIn("ended: Shutdown (1 times)", str(report))

    @within(20)
    async def test_goaway_without_a_reason(self) -> None:
        for debug in b"", b"bye", b"[1]", b'{"other": 1}', b"\xff":
            number = len(self.peers)
            sending = await self.start(1)
            await self.requests(number)
            self.peers[number].goaway(last=0, code=2, debug=debug)
            self.assertEqual(await self.requests(number + 1), {1: "id-0"})
            self.peers[number + 1].respond(1, [(":status", "200")], end=True)
            await sending
        self.assertEqual(self.push.report.ends, {"error code 0x2": 5})

    @within(20)
    async def test_cut(self) -> None:
        sending = await self.start(3)
        await self.requests(0)
        self.peers[0].respond(1, [(":status", "200")], end=True)
        self.peers[0].lose(ConnectionResetError("cut"))
        report = await self.done(sending)
        # they may have been processed: they are reported, and not sent again
        self.assertEqual(list(report.failed), ["id-1", "id-2"])
        self.assertRegex(report.failed["id-1"], "^unknown whether it was processed")
        self.assertEqual((report.sent, report.resent), (1, 0))
        self.assertEqual(report.ends, {"lost": 1})
        self.assertIn("sent: 1, failed: 2", str(report))

    @within(20)
    async def test_refused(self) -> None:
        sending = await self.start(2)
        await self.requests(0)
        peer = self.peers[0]
        peer.reset(1, aioh2.ErrorCodes.REFUSED_STREAM)
        peer.respond(3, [(":status", "200")], end=True)
        await self.until(lambda: self.push.report.resent)
        self.assertEqual(await self.requests(0), {5: "id-0"})
        peer.respond(5, [(":status", "200")], end=True)
        report = await self.done(sending)
        self.assertEqual((report.sent, report.resent, report.connections), (2, 1, 1))

    @within(20)
    async def test_refused_too_often(self) -> None:
        self.push.ATTEMPTS = 4
        sending = await self.start(1)
        for resent in range(self.push.ATTEMPTS + 1):
            await self.until(lambda resent=resent: self.push.report.resent == resent)
            self.assertEqual(await self.requests(0), {2 * resent + 1: "id-0"})
            self.peers[0].reset(2 * resent + 1, aioh2.ErrorCodes.REFUSED_STREAM)
        report = await self.done(sending)
        self.assertEqual(report.failed, {"id-0": "refused too often"})
        self.assertEqual(report.resent, self.push.ATTEMPTS)

    @within(20)
    async def test_reset_that_is_no_refusal(self) -> None:
        sending = await self.start(1)
        await self.requests(0)
        self.peers[0].reset(1, aioh2.ErrorCodes.INTERNAL_ERROR)
        report = await self.done(sending)
        self.assertEqual((list(report.failed), report.resent), (["id-0"], 0))

    @within(20)
    async def test_answers_that_are_no(self) -> None:
        sending = await self.start(2)
        await self.requests(0)
        peer = self.peers[0]
        peer.respond(1, [(":status", "410")])
        peer.data(1, b'{"reason": "Unregistered"}', end=True)
        # before it has read the body, which it does not want
        peer.respond(3, [(":status", "503")], end=True)
        peer.reset(3, aioh2.ErrorCodes.NO_ERROR)
        report = await self.done(sending)
        self.assertEqual(
            report.failed, {"id-0": "status 410: Unregistered", "id-1": "status 503: None"}
        )

    @within(20)
    async def test_answer_before_the_body(self) -> None:
        self.settings = {SettingCodes.INITIAL_WINDOW_SIZE: 0}
        sending = await self.start(1)
        await self.until(lambda: self.peers)
        peer = self.peers[0]
        (request,) = await peer.frames(HeadersFrame, DataFrame)
        self.assertEqual(request.stream_id, 1)
        peer.respond(1, [(":status", "403")])
        peer.data(1, b'{"reason": "Forbidden"}', end=True)
        # the body is still here, and stays here (RFC 9113 section 8.1)
        peer.reset(1, aioh2.ErrorCodes.NO_ERROR)
        report = await self.done(sending)
        self.assertEqual(report.failed, {"id-0": "status 403: Forbidden"})

    @within(20)
    async def test_no_answer(self) -> None:
        self.push.LIMIT = 0.01
        report = await self.done(await self.start(1))
        self.assertEqual(report.failed, {"id-0": "no answer within 0.01 s"})
        self.assertEqual(report.resent, 0)

    @within(20)
    async def test_pauses(self) -> None:
        asked: list[int] = []
        of = self.push._pause

        def pause(attempt: int) -> float:
            asked.append(attempt)
            return float(of(attempt))

        self.push._pause = pause
        refused = ConnectionRefusedError("nobody listens")
        self.problems = [refused, aioh2.HandshakeError("no HTTP/2"), TimeoutError("late")]
        sending = await self.start(2)
        await self.requests(0)
        self.assertEqual(asked, [0, 1, 2])
        # connected, but it was no use
        self.peers[0].goaway(last=0)
        await self.requests(1)
        self.assertEqual([attempt for attempt in asked if attempt > 2], [3])
        # one that has answered counts
        self.peers[1].respond(1, [(":status", "200")], end=True)
        await settle()
        self.peers[1].goaway(last=1)
        await self.requests(2)
        self.peers[2].respond(1, [(":status", "200")], end=True)
        report = await self.done(sending)
        self.assertEqual((report.sent, report.connections, report.unconnected), (2, 3, 3))
        self.assertEqual(asked[-1], 0)
        self.assertEqual(report.ends["not connected: nobody listens"], 1)

    async def test_pauses_grow(self) -> None:
        kind = self.names["PushClient"]
        push = kind(self.connect)
        pauses = [[push._pause(n) for _ in range(100)] for n in range(20)]
        longest = [max(some) for some in pauses]
        # not the same for all who were sent away at one time
        self.assertLess(min(pauses[19]), longest[19] / 2)
        self.assertEqual(longest[0], 0)
        self.assertLess(longest[1], longest[6])
        self.assertLessEqual(longest[19], push.LONGEST_PAUSE)
        self.assertGreater(longest[19], push.LONGEST_PAUSE / 2)

    @within(20)
    async def test_given_up(self) -> None:
        self.settings = {LIMIT: 2}
        sending = await self.start(5)
        await self.requests(0)
        self.peers[0].respond(1, [(":status", "200")], end=True)
        await settle()
        sending.cancel()
        await asyncio.wait([sending])
        report = self.push.report
        self.assertEqual((report.sent, report.unsent), (1, 2))
        self.assertEqual(sorted(report.failed), ["id-1", "id-2"])
        self.assertTrue(self.peers[0].transport.closed)


class Service:
    """A service that counts what it processes, and makes trouble by chance."""

    def __init__(self, seed: int, *, cuts: bool) -> None:
        self.processed: collections.Counter[str] = collections.Counter()
        self._random = random.Random(seed)
        self._trouble = [self._refuse, self._limit, self._go] + [self._cut] * cuts

    async def handle(self, stream: aioh2.H2Stream) -> None:
        if self._random.random() < 0.1 and await self._random.choice(self._trouble)(stream):
            return
        self.processed[dict(stream.request_headers)["apns-id"]] += 1
        await stream.read(-1)
        await asyncio.sleep(0)
        await stream.start_response({":status": "200"}, end_stream=True)

    async def _refuse(self, stream: aioh2.H2Stream) -> bool:
        stream.reset(aioh2.ErrorCodes.REFUSED_STREAM)
        return True

    async def _limit(self, stream: aioh2.H2Stream) -> bool:
        protocol = stream.protocol
        if not protocol.is_closing:
            protocol.max_concurrent_streams = self._random.choice([0, 1, 2, 20])
            # not zero for ever
            asyncio.get_running_loop().call_later(0.005, self._raise_limit, protocol)
        return False

    def _raise_limit(self, protocol: aioh2.H2Protocol) -> None:
        if not protocol.is_closing:
            protocol.max_concurrent_streams = 20

    async def _go(self, stream: aioh2.H2Stream) -> bool:
        if not stream.protocol.is_closing:
            await stream.protocol.shutdown(10)
        return False

    async def _cut(self, stream: aioh2.H2Stream) -> bool:
        if self._random.random() < 0.5:
            stream.protocol.abort()
        else:
            stream.protocol.close_connection(debug_data=SHUTDOWN)
        return True


class TestTrouble(PushCase):
    async def push(self, service: Service, count: int) -> tuple[set[str], Any]:
        server = await aioh2.start_server(
            lambda p: p.serve(service.handle), "127.0.0.1", 0, concurrency=20
        )
        port = server.sockets[0].getsockname()[1]
        async with server:
            client = self.client(lambda: aioh2.open_connection("127.0.0.1", port), connections=3)
            notifications = [self.Notification(f"{n:x}", b"{}") for n in range(count)]
            await client.send(notifications)
        ids = {notification.id for notification in notifications}
        self.assertEqual(client.report.sent + len(client.report.failed), count)
        self.assertEqual(set(service.processed.values()), {1}, "processed twice")
        return ids, client.report

    @within(30)
    async def test_nothing_is_lost(self) -> None:
        for seed in range(2):
            service = Service(seed, cuts=False)
            ids, report = await self.push(service, 200)
            self.assertEqual(report.failed, {}, seed)
            self.assertEqual(set(service.processed), ids)
            self.assertGreater(report.resent, 0)
            self.assertGreater(report.connections, 3)

    @within(30)
    async def test_what_is_cut_is_reported(self) -> None:
        for seed in range(2):
            service = Service(seed, cuts=True)
            ids, report = await self.push(service, 200)
            self.assertGreater(len(report.failed), 0)
            # sent is what was processed, and known to be
            self.assertLessEqual(ids - set(report.failed), set(service.processed))


class TestProgram(PushCase):
    @within(30)
    async def test_with_its_own_service(self) -> None:
        output = await run(sys.executable, "-W", "error", str(EXAMPLE), "--count", "600")
        self.assertEqual((output.code, output.stderr), (0, ""))
        self.assertRegex(output.text, r"^sent: \d+, failed: \d+, unsent: 0\n")
        self.assertIn("ended: Shutdown (1 times)", output.text)

    @within(30)
    async def test_keepalive_and_sigterm(self) -> None:
        pinged = asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(SettingsFrame().serialize())
            await reader.readexactly(24)
            while not pinged.is_set():
                header = await reader.readexactly(9)
                await reader.readexactly(int.from_bytes(header[:3], "big"))
                if header[3] == 6:
                    pinged.set()
            await reader.read()
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = str(server.sockets[0].getsockname()[1])
        where = ("--host", "127.0.0.1", "--port", port, "--keepalive", "0.1")
        command = (sys.executable, "-W", "error", str(EXAMPLE), *where)
        async with server, Program(*command, "--count", "1", "--connections", "1") as program:
            await pinged.wait()
            self.assertTrue(await program.end())
        self.assertEqual(program.code, 0)
        self.assertEqual(program.lines[0], "sent: 0, failed: 1, unsent: 0")
