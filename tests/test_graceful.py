"""``examples/graceful.py``, told to end while requests are in flight."""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal
import sys
from typing import Any

import aioh2

from .wire import Case

ROOT = pathlib.Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "graceful.py"
# Seconds for what a program does at once.
PATIENCE = 20


class TestGraceful(Case):
    async def start(self, *arguments: str) -> int:
        """Start the example, and return its port."""
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-X", "dev", "-W", "error", str(EXAMPLE), *arguments),
            env={**os.environ, "PYTHONPATH": path},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self.addAsyncCleanup(self.stop)
        return int((await self.line()).removeprefix("listening on port "))

    async def stop(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        # the end of its output, without which its pipe stays open
        await self.process.communicate()

    async def line(self) -> str:
        """Return the next line that it prints."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            return (await self.process.stdout.readline()).decode().rstrip("\n")

    async def begin(self, client: aioh2.H2Protocol, seconds: float) -> aioh2.H2Stream:
        """Make a request that takes so long, and wait until it is in flight."""
        stream = await client.open_stream({":path": f"/?seconds={seconds}"}, end_stream=True)
        async with asyncio.timeout(PATIENCE):
            self.assertEqual(await stream.read(), b"working\n")
        return stream

    async def check_exit(self, drained: Any) -> None:
        """Check what it prints at the end, and that it exits with 0."""
        self.assertEqual(await self.line(), str(drained))
        async with asyncio.timeout(PATIENCE):
            rest, _ = await self.process.communicate()
        self.assertEqual((self.process.returncode, rest), (0, b""))

    async def test_request_in_flight_is_answered(self) -> None:
        port = await self.start()
        async with aioh2.open_connection("127.0.0.1", port) as client:
            stream = await self.begin(client, 0.5)
            self.process.send_signal(signal.SIGTERM)
            self.assertEqual(await self.line(), "draining")
            # answered in the turn after that of the shutdown
            await client.ping()
            # nobody listens any more, and the client knows that it has to go elsewhere
            with self.assertRaises(ConnectionRefusedError):
                await aioh2.open_connection("127.0.0.1", port)
            with self.assertRaises(aioh2.ConnectionClosed) as caught:
                await client.open_stream({})
            self.assertTrue(caught.exception.retryable)
            self.assertEqual(await stream.read(-1), b"done\n")
            await self.check_exit(aioh2.Drained(completed=1, aborted=0))

    async def test_grace_time(self) -> None:
        port = await self.start("--grace", "0.2")
        async with aioh2.open_connection("127.0.0.1", port) as client:
            quick, slow = await self.begin(client, 0), await self.begin(client, 60)
            self.assertEqual(await quick.read(-1), b"done\n")
            self.process.send_signal(signal.SIGINT)
            self.assertEqual(await self.line(), "draining")
            with self.assertRaises(aioh2.ConnectionClosed):
                await slow.read(-1)
            await self.check_exit(aioh2.Drained(completed=0, aborted=1))

    async def test_idle(self) -> None:
        port = await self.start()
        async with aioh2.open_connection("127.0.0.1", port):
            self.process.send_signal(signal.SIGTERM)
            self.assertEqual(await self.line(), "draining")
            await self.check_exit(aioh2.Drained(completed=0, aborted=0))
