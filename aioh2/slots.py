"""Who opens the next stream: first come, first served, under a limit that the peer may change.

A slot that was given and is not taken yet is reserved, so that nobody overtakes who has waited.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict
from collections.abc import Callable

from .exceptions import AIOH2Exception

__all__ = ["Slots"]


class Slots:
    """The queue for slots under the peer's MAX_CONCURRENT_STREAMS (RFC 9113 section 5.1.2)."""

    def __init__(self, free: Callable[[], int]) -> None:
        # How many streams could be opened now; less than 0 when the limit was lowered.
        self._free = free
        #: Who waits, by ticket, the lowest and next one first.
        self.waiting: OrderedDict[int, tuple[asyncio.Future[None], Callable[[], None]]] = (
            OrderedDict()
        )
        self._tickets = itertools.count()
        # Given, and not taken yet.
        self._reserved = 0

    def __len__(self) -> int:
        """Count who waits."""
        return len(self.waiting)

    @property
    def available(self) -> int:
        """Slots that are free and not given to anybody."""
        return max(0, self._free() - self._reserved)

    async def acquire(self, check: Callable[[], None]) -> None:
        """Wait for a slot, which the caller must use before it awaits anything.

        ``check`` raises when no stream can be opened any more. Raises what it or :meth:`fail`
        says. Cancelled, it gives the slot to the next.
        """
        check()
        if not self.waiting and self.available:
            return
        ticket = next(self._tickets)
        await self._turn(ticket, check)
        while self._free() <= 0:
            # the limit was lowered meanwhile: wait again, in the same place
            await self._turn(ticket, check)

    async def _turn(self, ticket: int, check: Callable[[], None]) -> None:
        future = asyncio.get_running_loop().create_future()
        last = next(reversed(self.waiting), ticket)
        self.waiting[ticket] = (future, check)
        if last > ticket:
            self.waiting = OrderedDict(sorted(self.waiting.items()))
        try:
            await future
        except asyncio.CancelledError:
            if self.waiting.get(ticket) == (future, check):
                del self.waiting[ticket]
            elif not future.cancelled() and future.exception() is None:
                self._reserved -= 1
                self.grant()
            raise
        self._reserved -= 1
        try:
            check()
        except AIOH2Exception:
            self.grant()
            raise

    def grant(self) -> None:
        """Give the free slots to those who wait."""
        while self.waiting and self.available:
            _, (future, _) = self.waiting.popitem(last=False)
            if not future.done():
                self._reserved += 1
                future.set_result(None)

    def fail(self, error: AIOH2Exception) -> None:
        """No stream can be opened any more: everybody who waits gets a copy of ``error``."""
        while self.waiting:
            _, (future, _) = self.waiting.popitem(last=False)
            if not future.done():
                future.set_exception(error.fresh())

    def recheck(self) -> None:
        """Something has ended: who waits in vain since then gets what its ``check`` raises."""
        for ticket, (future, check) in list(self.waiting.items()):
            try:
                check()
            except AIOH2Exception as error:
                del self.waiting[ticket]
                if not future.done():
                    future.set_exception(error)
