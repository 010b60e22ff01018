"""``Intake``: what has come and waits to be worked on, and whether more is to be read.

A tick takes a share of it (``frames_per_tick``, ``bytes_per_tick``), so that one connection's
flood does not keep another waiting. After the GOAWAY of an error, what comes is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import h2.events as events

from .connection import Connection
from .sender import Sender
from .watchdog import Watchdog

__all__ = ["Intake"]


class Intake:
    """The received bytes of one connection, until they are events.

    ``work``: called with the events of each share.
    """

    #: Bytes that may be written for what a peer sends while it takes none of them; then nothing
    #: more is read. An honest peer that does not read runs out of window long before.
    UNREAD: Final = 4_096
    #: Shares of a tick that are still worked off once the transport is gone.
    LAST_SHARES: Final = 16
    #: Seconds without input, and bytes, for which input is dropped after a server's last GOAWAY,
    #: and after that of an error: closing a socket that input comes to takes from the peer what it
    #: has not read. One that reads slowly gives back window as it does.
    LINGER_SECONDS: Final = 1
    LINGER_BYTES: Final = 16_777_216

    def __init__(
        self,
        connection: Connection,
        *,
        client_side: bool,
        sender: Sender,
        watchdog: Watchdog,
        work: Callable[[list[events.Event]], None],
    ) -> None:
        # What makes events of bytes, a share at a time.
        self._connection = connection
        self._client_side = client_side
        # Knows whether the peer takes what is written.
        self._sender = sender
        # Told whether a frame has begun and not ended.
        self._watchdog = watchdog
        self._work = work
        # The transport, between begin() and lost().
        self._transport: asyncio.Transport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        # What came before begin().
        self._early = b""
        # What goes on with input that was more than a share, what came after that, and whether
        # the peer has ended its side then.
        self._handle: asyncio.Handle | None = None
        self._backlog: list[bytes] = []
        self._ended = False
        # Whether the transport is to read, and bytes that wait for a peer that does not.
        self._reading = True
        self._unread = 0
        # Whether nothing is worked off any more.
        self._over = False
        # How many more bytes are dropped before the transport is closed, and until when.
        self._lingering = 0
        self._linger_deadline = 0.0
        self._linger_timer: asyncio.TimerHandle | None = None

    # --- taking ------------------------------------------------------------------------

    def keep(self, data: bytes) -> None:
        """Bytes have come before the transport."""
        self._early += data

    def begin(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> bytes:
        """The transport is there; return what came before it."""
        self._transport = transport
        self._loop = loop
        early, self._early = self._early, b""
        return early

    def take(self, data: bytes) -> None:
        """Work off a share of ``data`` now, unless there is older input that waits."""
        if self._handle is None:
            self._work_off(data)
        else:
            self._backlog.append(data)
            self._pace()

    def _work_off(self, data: bytes) -> None:
        """Work off a share of what has come; the rest in the next tick, after others' shares."""
        connection = self._connection
        held = connection.pending if self._client_side and not self._sender.writable else None
        received = connection.receive(data)
        if held is not None:
            # requests do not count: a server may write before it reads them
            self._unread += connection.pending - held
        self._work(received)
        if self._over:
            return
        self._watchdog.received(connection.units_received, connection.mid_frame and self._reading)
        if connection.has_more or self._backlog or not self._reading or self._unread:
            self._go_on_soon()

    def _go_on_soon(self) -> None:
        if self._connection.has_more or self._backlog:
            assert self._loop is not None
            self._handle = self._loop.call_soon(self._go_on)
        self._pace()

    def _go_on(self) -> None:
        self._handle = None
        self._work_off(b"" if self._connection.has_more else self._backlog.pop(0))
        if self._ended and self._handle is None and self._transport is not None:
            self._transport.close()

    # --- pausing -----------------------------------------------------------------------

    def replied(self, count: int) -> None:
        """So many bytes were written to a peer that takes none."""
        if not self._client_side:
            self._unread += count
            self._pace()

    def replies_taken(self) -> None:
        """The peer takes them again."""
        self._unread = 0
        self._pace()

    def _pace(self) -> None:
        """Read on, unless a whole read waits to be worked off, or replies to be read."""
        reading = not self._backlog and self._unread <= self.UNREAD
        transport = self._transport
        if reading is self._reading or transport is None or transport.is_closing():
            return
        self._reading = reading
        try:
            if reading:
                self._watchdog.received(self._connection.units_received, self._connection.mid_frame)
                transport.resume_reading()
            else:
                self._watchdog.paused()
                transport.pause_reading()
        except (AttributeError, NotImplementedError):
            # a transport of somebody's own that cannot: input waits in the backlog
            pass

    # --- the end -----------------------------------------------------------------------

    def peer_ended(self, *, half_open: bool) -> bool:
        """The peer has ended its side; return whether the transport stays open for what waits.

        ``half_open``: whether it can.
        """
        self._ended = self._handle is not None and half_open
        return self._ended

    def finish(self) -> None:
        """Work off some shares more at once: the transport is gone."""
        for _ in range(self.LAST_SHARES):
            if self._handle is not None:
                self._handle.cancel()
                self._go_on()

    def end(self) -> None:
        """The connection is over: what waits is dropped, and read on what may come."""
        self._over = True
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._backlog.clear()
        self.replies_taken()

    @property
    def can_linger(self) -> bool:
        """Whether the peer may have more to send."""
        return not self._ended

    def linger(self, deadline: float) -> None:
        """Drop what comes, and close the transport when nothing has for a while.

        At ``deadline`` at the latest.
        """
        self._lingering = self.LINGER_BYTES
        self._linger_deadline = deadline
        self._linger_on()

    def _linger_on(self) -> None:
        assert self._loop is not None
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        end = min(self._linger_deadline, self._loop.time() + self.LINGER_SECONDS)
        self._linger_timer = self._loop.call_at(end, self._stop_lingering)

    def drop(self, count: int) -> None:
        """So many bytes have come after the end."""
        if not self._lingering:
            return
        self._lingering = max(0, self._lingering - count)
        if self._lingering:
            self._linger_on()
        else:
            self._stop_lingering()

    def _stop_lingering(self) -> None:
        self._lingering = 0
        # closed by the peer meanwhile: a second call would harm asyncio's TLS
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()

    def lost(self) -> None:
        """The transport is gone."""
        self._transport = None
        if self._linger_timer is not None:
            self._linger_timer.cancel()
