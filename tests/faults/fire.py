"""A server under fire: the case that the tests of this folder share."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, Final

from ..interop.cases import PeerCase
from ..interop.programs import Program
from . import hostile

MIB: Final = 1024 * 1024
#: What the memory of a process may vary by: the allocator gives back what it likes.
SLACK: Final = 8 * MIB
# Seconds for what a server does at once.
_PATIENCE: Final = 10
# Seconds between two looks at what no event tells.
_LOOK: Final = 0.02


class FaultCase(PeerCase):
    """A test with a server in a process of its own, and a probe in another.

    The server must write nothing worse than INFO, and each probe must be answered in time.
    """

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.stack = AsyncExitStack()
        self.addAsyncCleanup(self.stack.aclose)
        # What is under fire, and what asks it meanwhile.
        self.server: Program
        self.port = 0
        self._probe: Program
        # Questions that the server was asked.
        self._asked = 0

    async def start(self, *arguments: str, **options: Any) -> None:
        """Start a server with these options of ``Config``."""
        self.server = await self.stack.enter_async_context(
            Program(
                *(sys.executable, "-W", "error", "-m", "tests.faults.server"),
                *("--options", json.dumps(options), *arguments),
                ready=r"^listening on (\d+), process (\d+)$",
                stdin=True,
            )
        )
        self.port = int(self.server.greeting[1])

    async def start_probe(self) -> None:
        """Begin to ask."""
        self._probe = await self.stack.enter_async_context(
            Program(
                *(sys.executable, "-W", "error", "-m", "tests.faults.probe"),
                *(str(self.port), self.server.greeting[2]),
                ready="^asking$",
                stdin=True,
            )
        )

    async def stop_probe(self, at_least: int) -> None:
        """Stop asking; every answer must have come in time, and ``at_least`` so many."""
        self._probe.write_eof()
        report = json.loads((await self._probe.line("^asked (.*)$"))[1])
        await self._probe.wait()
        self.assertEqual(report["late"], [], report)
        self.assertGreaterEqual(report["asked"], at_least, report)

    def connect(self, first: bytes = hostile.GREEDY, **how: Any) -> socket.socket:
        """Connect, and send; the test's end closes it."""
        peer = hostile.connect(self.port, first, **how)
        self.addCleanup(peer.close)
        return peer

    def download(self, count: int, **how: Any) -> list[socket.socket]:
        """Connect, and read a part of what will never end."""
        first = hostile.GREEDY + hostile.get("/endless")
        peers = [self.connect(first, **how) for _ in range(count)]
        for peer in peers:
            peer.recv(65_536)
        return peers

    def upload(self, count: int, **how: Any) -> list[socket.socket]:
        """Connect, and send a part of a frame."""
        first = hostile.UPLOAD + hostile.HALF_A_FRAME
        return [self.connect(first, **how) for _ in range(count)]

    async def connect_all(
        self, count: int, first: bytes = hostile.GREEDY, **how: Any
    ) -> list[socket.socket]:
        """Open so many connections, as ``connect`` does."""
        return await self.make_all(
            count, lambda: [self.connect(first, **how) for _ in range(min(count, 20))]
        )

    async def make_all(
        self, count: int, make: Callable[[], list[socket.socket]]
    ) -> list[socket.socket]:
        """Call ``make`` until the server has so many connections more.

        It accepts those of one call before the next: what a listening socket does with more than
        it can queue is not what is tested.
        """
        peers: list[socket.socket] = []
        before = await self.count()
        while len(peers) < count:
            peers += make()
            await self.until_made(before + len(peers) - 1)
        return peers

    async def mark(self) -> dict[str, int]:
        """Look at all that the server holds."""
        answer: dict[str, int] = json.loads(await self._ask("mark"))
        return answer

    async def count(self) -> int:
        """Return how many connections the server has."""
        return int(await self._ask("count"))

    async def resident(self) -> int:
        """Return how many bytes of memory it has."""
        return int(await self._ask("resident"))

    async def _ask(self, question: str) -> str:
        self._asked += 1
        await self.server.write(b"%s %d\n" % (question.encode(), self._asked))
        return (await self.server.line(f"^{self._asked}: (.*)$"))[1]

    async def until_left(self, wanted: int, seconds: float = _PATIENCE) -> None:
        """Wait until the server has no more than so many connections."""
        count = -1
        try:
            async with asyncio.timeout(seconds):
                while (count := await self.count()) > wanted:  # noqa: ASYNC110 - in another process
                    await asyncio.sleep(_LOOK)
        except TimeoutError:
            raise AssertionError(f"{count} connections, not {wanted}") from None

    async def until_made(self, wanted: int) -> None:
        """Wait until the server has at least so many connections."""
        async with asyncio.timeout(_PATIENCE):
            while await self.count() < wanted:  # noqa: ASYNC110 - in another process
                await asyncio.sleep(_LOOK)

    async def until_blocked(self, wanted: int) -> None:
        """Wait until so many responses without end wait for their peers."""
        async with asyncio.timeout(_PATIENCE):
            while int(await self._ask("blocked")) < wanted:  # noqa: ASYNC110 - in another process
                await asyncio.sleep(_LOOK)

    def check_left(self, before: dict[str, int], after: dict[str, int], slack: int = SLACK) -> None:
        """Check that the server holds what it held before, and has not complained."""
        for name, number in after.items():
            with self.subTest(name):
                if name == "resident":
                    self.assertLess(number - before[name], slack)
                else:
                    self.assertEqual(number, before[name], self.server.lines)
