"""Who waits for a sign of life, and the one timer of keepalive.

What the times mean is in ``health``; here are the futures, the clock and the timer around it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from .config import Config
from .exceptions import AIOH2Exception
from .health import Health, Verdict
from .stream import retrieve

__all__ = ["Pings"]


class Pings:
    """PINGs in flight and who waits for them (RFC 9113 section 6.7).

    ``send``: frames a PING with the eight bytes it is given. ``dead``: called when keepalive has
    got no sign of life.
    """

    def __init__(
        self, config: Config, *, send: Callable[[bytes], None], dead: Callable[[], None]
    ) -> None:
        self._send = send
        self._dead = dead
        self._loop = asyncio.get_running_loop()
        self._health = Health(
            self._loop.time(),
            keepalive_interval=config.keepalive_interval,
            keepalive_timeout=config.keepalive_timeout,
        )
        # Who waits for an ACK, by payload.
        self._waiting: dict[bytes, asyncio.Future[float]] = {}
        # Who waits for any bytes.
        self._activity: list[asyncio.Future[None]] = []
        # The latest PING of keepalive, and its timer.
        self._probe = b""
        self._timer: asyncio.Handle | None = None
        # When that is due.
        self._due = 0.0
        self._arm()

    @property
    def rtt(self) -> float | None:
        """Latest round-trip time in seconds; None before the first."""
        return self._health.rtt

    @property
    def shortest_rtt(self) -> float | None:
        """Shortest round-trip time in seconds; None before the first."""
        return self._health.shortest_rtt

    def __len__(self) -> int:
        """How many wait for an answer, or for any sign of life."""
        return len(self._waiting) + len(self._activity)

    def received(self) -> float:
        """Bytes have arrived, of whatever kind; return when."""
        now = self._loop.time()
        if self._health.received(now):
            # the next PING may be due before this one's time is over
            self._arm()
        if self._activity:
            waiting, self._activity = self._activity, []
            for future in waiting:
                future.set_result(None)
        return now

    def acked(self, payload: bytes) -> None:
        """The ACK of a PING has come."""
        rtt = self._health.ping_acked(payload, self._loop.time())
        future = self._waiting.pop(payload, None)
        if future is not None and rtt is not None and not future.done():
            future.set_result(rtt)

    def start(self) -> bytes:
        """Send a PING and return its payload."""
        payload = self._health.ping_sent(self._loop.time())
        self._send(payload)
        return payload

    def path_rtt(self) -> float | None:
        """Return the path's round-trip time in seconds, and see that it is measured now and then.

        It is the shortest of all; None before the first.
        """
        if self._health.is_measure_due(self._loop.time()):
            self.start()
        return self._health.shortest_rtt

    async def ping(self) -> float:
        """Send a PING and return its round-trip time in seconds."""
        future: asyncio.Future[float] = self._loop.create_future()
        payload = self.start()
        self._waiting[payload] = future
        try:
            return await future
        finally:
            retrieve(future)
            self._waiting.pop(payload, None)
            self._health.ping_forgotten(payload)

    async def wait_functional(self, limit: float) -> float | None:
        """Send PINGs, one each ``limit`` seconds, until bytes come that are no older."""
        if self._health.is_functional(self._loop.time(), limit):
            return self.rtt
        future: asyncio.Future[None] = self._loop.create_future()
        self._activity.append(future)
        payloads = []
        try:
            while not future.done():
                payloads.append(self.start())
                await asyncio.wait([future], timeout=limit)
            future.result()
        finally:
            retrieve(future)
            if future in self._activity:
                self._activity.remove(future)
            for payload in payloads:
                self._health.ping_forgotten(payload)
        return self.rtt

    def end(self, error: AIOH2Exception) -> None:
        """The connection is over: everybody who waits gets a copy of ``error``."""
        if self._timer is not None:
            self._timer.cancel()
        waiting: list[asyncio.Future[Any]] = [*self._waiting.values(), *self._activity]
        for future in waiting:
            if not future.done():
                future.set_exception(error.fresh())

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        deadline = self._health.deadline
        if deadline is not None:
            self._due = deadline
            self._timer = self._loop.call_at(deadline, self._keepalive)

    def _keepalive(self) -> None:
        # a loop that counts milliseconds may call a little early: looking again would spin
        verdict = self._health.keepalive(max(self._loop.time(), self._due))
        if verdict is Verdict.DEAD:
            self._dead()
            return
        if verdict is Verdict.PING:
            self._health.ping_forgotten(self._probe)
            self._probe = self.start()
        self._arm()
