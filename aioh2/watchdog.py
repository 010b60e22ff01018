"""What is done when something takes too long, and the one timer of a connection for that.

What the waits are is in ``timeouts``. The timer is armed when a wait begins, at the earliest
deadline, and looks again when it fires: a wait that ends in time costs no timer of its own.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Protocol

from h2.errors import ErrorCodes

from .config import Config
from .stream import BlockedOn
from .timeouts import Limit, Timeouts

__all__ = ["Watchdog"]


class Watched(Protocol):
    """What a watchdog asks, and does to, the connection that it watches."""

    def bytes_taken(self) -> tuple[int, int]:
        """Return how many bytes the transport has been given, and how many it still holds."""

    def has_queued(self, stream_id: int) -> bool:
        """Whether anything of the stream waits to be framed."""

    def blocked_on(self, stream_id: int) -> BlockedOn | None:
        """Why queued data waits."""

    def begin_shutdown(self, grace: float, reason: str) -> None:
        """Begin to close gracefully."""

    def close_for(self, error_code: ErrorCodes, reason: str) -> None:
        """Close with GOAWAY."""

    def reset_for(self, stream_id: int, reason: str) -> None:
        """Reset one stream."""

    def abort_for(self, reason: str) -> None:
        """Abort the transport."""


class Watchdog:
    """Holds one connection to the limits of its configuration."""

    def __init__(self, config: Config, watched: Watched) -> None:
        self._config = config
        self._watched = watched
        self._timeouts = Timeouts.of(config)
        # The limits in seconds, of the kinds that have one: the others cost nothing.
        self._limits: dict[Limit, float] = {
            kind: limit for kind in Limit if (limit := getattr(config, kind.value)) is not None
        }
        self._watches_streams = Limit.WINDOW in self._limits or Limit.BODY in self._limits
        # The clock, from start() on.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.Handle | None = None
        # When that timer is due: a handle may have no when(), as uvloop's of what is due at once.
        self._due = 0.0
        self._age_timer: asyncio.Handle | None = None
        # SETTINGS that were sent, and those that were acknowledged.
        self._settings_sent = 0
        self._settings_acks = 0
        # Frames and header blocks that had come, bytes that the transport had taken.
        self._units = 0
        self._taken = 0
        # Bytes that the transport has held when it was last given some.
        self._unsent = 0

    # --- what happens ------------------------------------------------------------------

    def start(self, *, ages: bool) -> None:
        """The connection begins; ``ages``: whether ``max_connection_age`` is for it."""
        self._loop = asyncio.get_running_loop()
        age = self._config.max_connection_age
        if ages and age is not None:
            # not all connections that began together end together
            self._age_timer = self._loop.call_later(
                age * random.uniform(0.9, 1.1),
                self._watched.begin_shutdown,
                self._config.max_connection_age_grace,
                f"it is older than {age} s",
            )
        self.settings_sent()
        self.idle()

    def stop(self) -> None:
        """The connection is over."""
        self._loop = None
        for timer in (self._timer, self._age_timer):
            if timer is not None:
                timer.cancel()

    def settings_sent(self) -> None:
        """SETTINGS wait for their acknowledgement (``open_timeout``)."""
        self._settings_sent += 1
        # below 0, where no stream's waits are
        self._begin(Limit.SETTINGS_ACK, -self._settings_sent)

    def settings_acked(self) -> None:
        """The oldest of them were acknowledged."""
        self._settings_acks += 1
        self._timeouts.end(Limit.SETTINGS_ACK, -self._settings_acks)

    def idle(self) -> None:
        """No stream is open (``idle_timeout``)."""
        self._begin(Limit.IDLE)

    def busy(self) -> None:
        """A stream is open."""
        self._timeouts.end(Limit.IDLE)

    def received(self, units: int, mid_frame: bool) -> None:
        """Bytes have come: so many frames, and whether another has begun (``frame_timeout``)."""
        if units != self._units:
            self._units = units
            self._timeouts.end(Limit.FRAME)
        if mid_frame:
            self._begin(Limit.FRAME)

    def paused(self) -> None:
        """Nothing is read: that a frame does not end is not the peer's doing."""
        self._timeouts.end(Limit.FRAME)

    def written(self) -> None:
        """The transport was given bytes, which it may not have taken (``write_timeout``)."""
        given, unsent = self._watched.bytes_taken()
        if not unsent and not self._unsent:
            # as always, but for slow peers
            self._taken = given
            return
        self._unsent = unsent
        if not unsent or given - unsent > self._taken:
            self._taken = given - unsent
            self._timeouts.end(Limit.WRITE)
        if unsent:
            self._begin(Limit.WRITE)

    def queued(self, stream_id: int) -> None:
        """Data of the stream may wait for a window (``window_timeout``)."""
        if self._watched.has_queued(stream_id):
            self._begin(Limit.WINDOW, stream_id)
        else:
            self._timeouts.end(Limit.WINDOW, stream_id)

    def framed(self, stream_id: int) -> None:
        """Queued data of the stream has been framed."""
        if Limit.WINDOW in self._limits:
            self._timeouts.end(Limit.WINDOW, stream_id)
            self.queued(stream_id)

    def reader_waits(self, stream_id: int) -> None:
        """A reader waits for body bytes (``body_timeout``)."""
        self._begin(Limit.BODY, stream_id)

    def reader_done(self, stream_id: int) -> None:
        """It does not any more."""
        self._timeouts.end(Limit.BODY, stream_id)

    def forget(self, stream_id: int) -> None:
        """A stream is over."""
        if self._watches_streams:
            self._timeouts.forget(stream_id)

    # --- the timer ---------------------------------------------------------------------

    def _begin(self, kind: Limit, stream_id: int = 0) -> None:
        limit = self._limits.get(kind)
        if limit is None or self._loop is None:
            return
        now = self._loop.time()
        self._timeouts.begin(kind, now, stream_id)
        # a wait that has begun before is not over later than this one
        if self._timer is None or now + limit < self._due:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._timeouts.deadline
        if deadline is not None and self._loop is not None:
            self._due = deadline
            self._timer = self._loop.call_at(deadline, self._fire)

    def _fire(self) -> None:
        assert self._loop is not None
        self._timer = None
        # a loop that counts milliseconds may call a little early: looking again would spin
        now = max(self._loop.time(), self._due)
        for kind, stream_id in self._timeouts.expired(now):
            if self._loop is not None:
                self._overdue[kind](self, stream_id)
        self._arm()

    # --- what is done ------------------------------------------------------------------

    def _settings_overdue(self, _: int) -> None:
        limit = self._config.open_timeout
        self._watched.close_for(
            ErrorCodes.SETTINGS_TIMEOUT,
            f"blocked on peer: SETTINGS were not acknowledged for {limit} s",
        )

    def _idle_overdue(self, _: int) -> None:
        limit = self._config.idle_timeout
        self._watched.begin_shutdown(
            self._config.close_timeout, f"no stream was open for {limit} s"
        )

    def _frame_overdue(self, _: int) -> None:
        limit = self._config.frame_timeout
        self._watched.close_for(
            ErrorCodes.ENHANCE_YOUR_CALM,
            f"blocked on peer: a frame was not complete after {limit} s",
        )

    def _write_overdue(self, _: int) -> None:
        taken = self._taken
        self.written()
        if self._taken == taken and self._watched.bytes_taken()[1]:
            limit = self._config.write_timeout
            self._watched.abort_for(f"blocked on transport: it took nothing for {limit} s")

    def _window_overdue(self, stream_id: int) -> None:
        blocked = self._watched.blocked_on(stream_id)
        if blocked in ("stream window", "connection window"):
            limit = self._config.window_timeout
            self._watched.reset_for(stream_id, f"blocked on {blocked} for {limit} s")
        else:
            self.queued(stream_id)

    def _body_overdue(self, stream_id: int) -> None:
        limit = self._config.body_timeout
        self._watched.reset_for(stream_id, f"blocked on peer for {limit} s")

    _overdue: dict[Limit, Callable[[Watchdog, int], None]] = {  # noqa: RUF012 - never changed
        Limit.SETTINGS_ACK: _settings_overdue,
        Limit.IDLE: _idle_overdue,
        Limit.FRAME: _frame_overdue,
        Limit.WRITE: _write_overdue,
        Limit.WINDOW: _window_overdue,
        Limit.BODY: _body_overdue,
    }
