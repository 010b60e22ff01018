"""Liveness: when bytes last came, how long a PING takes, when the next one is due.

Tickless: nothing here runs by itself. Time is an argument, in seconds of any monotonic clock.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["Health", "Verdict"]

# Seconds for which a measured round trip stands: paths change seldom, and a PING costs both sides.
_FRESH = 10


class Verdict(Enum):
    """What the keepalive timer is to do when it fires."""

    WAIT = "wait"
    PING = "ping"
    DEAD = "dead"


class Health:
    """What is known about the life of one connection (RFC 9113 section 6.7)."""

    def __init__(
        self, now: float, *, keepalive_interval: float | None, keepalive_timeout: float
    ) -> None:
        self._interval = keepalive_interval
        self._timeout = keepalive_timeout
        # When bytes last arrived: any byte is a sign of life.
        self._last_activity = now
        # When each PING that waits for its ACK was sent, by payload.
        self._open: dict[bytes, float] = {}
        # Numbers the payloads, so that an ACK names its PING.
        self._count = 0
        # When the keepalive PING now in flight was sent; None: there is none.
        self._probe: float | None = None
        #: The latest round-trip time in seconds; None before the first.
        self.rtt: float | None = None
        #: The shortest: what the path needs, where others had to queue behind data.
        self.shortest_rtt: float | None = None
        # When the latest was measured.
        self._measured = now

    def received(self, now: float) -> bool:
        """Note that bytes have arrived; return whether that answers a PING of keepalive."""
        self._last_activity = now
        if self._probe is None:
            return False
        self._probe = None
        return True

    def is_functional(self, now: float, timeout: float) -> bool:
        """Whether bytes have arrived within the last ``timeout`` seconds."""
        return now - self._last_activity <= timeout

    def ping_sent(self, now: float) -> bytes:
        """Return the eight bytes for a PING that is sent now."""
        self._count += 1
        payload = self._count.to_bytes(8, "big")
        self._open[payload] = now
        return payload

    def ping_acked(self, payload: bytes, now: float) -> float | None:
        """Return the round-trip time of the PING that ``payload`` answers; None: not ours."""
        sent = self._open.pop(payload, None)
        if sent is None:
            return None
        self.rtt = rtt = now - sent
        self.shortest_rtt = rtt if self.shortest_rtt is None else min(rtt, self.shortest_rtt)
        self._measured = now
        return rtt

    def is_measure_due(self, now: float) -> bool:
        """Whether the path's round trip is unknown or was measured long ago, and no PING asks."""
        return not self._open and (self.rtt is None or now - self._measured >= _FRESH)

    def ping_forgotten(self, payload: bytes) -> None:
        """Nobody waits for this PING any more."""
        self._open.pop(payload, None)

    @property
    def deadline(self) -> float | None:
        """When the keepalive timer has to look again; None: never."""
        if self._interval is None:
            return None
        if self._probe is not None:
            return self._probe + self._timeout
        return self._last_activity + self._interval

    def keepalive(self, now: float) -> Verdict:
        """Say what is due now; after ``PING``, the caller sends one."""
        deadline = self.deadline
        if deadline is None or now < deadline:
            return Verdict.WAIT
        if self._probe is not None:
            return Verdict.DEAD
        self._probe = now
        return Verdict.PING
