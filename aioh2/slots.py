"""Who opens the next stream: first come, first served, under a limit that the peer may change.

A slot that was given and is not taken yet is reserved, so that nobody overtakes who has waited.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from .exceptions import AIOH2Exception

__all__ = ["Slots"]


class Slots:
    """The queue for slots under the peer's MAX_CONCURRENT_STREAMS (RFC 9113 section 5.1.2)."""

    def __init__(self, free: Callable[[], int], check: Callable[[], None]) -> None:
        # How many streams could be opened now; less than 0 when the limit was lowered.
        self._free = free
        # Raises when no stream can be opened any more.
        self._check = check
        # Who waits, the next one first.
        self._waiting: deque[asyncio.Future[None]] = deque()
        # Given, and not taken yet.
        self._reserved = 0

    def __len__(self) -> int:
        """Count who waits."""
        return len(self._waiting)

    @property
    def available(self) -> int:
        """Slots that are free and not given to anybody."""
        return max(0, self._free() - self._reserved)

    async def acquire(self) -> None:
        """Wait for a slot, which the caller must use before it awaits anything.

        Raises what ``check`` or :meth:`fail` says. Cancelled, it gives the slot to the next.
        """
        self._check()
        if not self._waiting and self.available:
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        while True:
            await self._turn(future)
            self._check()
            if self.available:
                return
            # the limit was lowered meanwhile: wait again, as the first
            future = asyncio.get_running_loop().create_future()
            self._waiting.appendleft(future)

    async def _turn(self, future: asyncio.Future[None]) -> None:
        try:
            await future
        except asyncio.CancelledError:
            if future in self._waiting:
                self._waiting.remove(future)
            elif not future.cancelled() and future.exception() is None:
                self._reserved -= 1
                self.grant()
            raise
        self._reserved -= 1

    def grant(self) -> None:
        """Give the free slots to those who wait."""
        while self._waiting and self.available:
            future = self._waiting.popleft()
            if not future.done():
                self._reserved += 1
                future.set_result(None)

    def fail(self, error: AIOH2Exception) -> None:
        """No stream can be opened any more: everybody who waits gets a copy of ``error``."""
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(error.fresh())
