"""``Closing``: the way of a connection to its end, and who waits for a step of it.

First no stream can start any more, then those that are open run to their end (or not), then
nothing is sent or received, then the transport is gone. Nothing here waits for the application.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

from .config import Config
from .connection import Connection, PrefaceError
from .exceptions import AIOH2Exception, ConnectionClosed, HandshakeError
from .guards import BudgetExceeded

__all__ = ["Closing", "Drained", "for_stream"]

Logger: TypeAlias = "logging.LoggerAdapter[logging.Logger]"


class Drained(NamedTuple):
    """What became of the streams that were in flight when a shutdown began."""

    completed: int
    aborted: int


class Tally:
    """Counts what becomes of the streams of one shutdown.

    ``inside``: whether a stream's handler waits for it. Then it waits for no stream whose handler
    waits for a shutdown, too: they would wait for each other.
    """

    def __init__(self, streams: set[int], *, inside: bool) -> None:
        self._waiting = streams
        self._inside = inside
        self._completed = 0
        self._aborted = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def ended(self, stream_id: int, *, aborted: bool) -> None:
        if stream_id in self._waiting and not self.done.done():
            self._waiting.discard(stream_id)
            self._completed += not aborted
            self._aborted += aborted

    def check(self, shutting_down: set[int]) -> None:
        """See whether it is done, where the handlers of these streams wait for a shutdown."""
        waits = self._waiting - shutting_down if self._inside else self._waiting
        if not waits and not self.done.done():
            self.done.set_result(None)

    @property
    def result(self) -> Drained:
        return Drained(self._completed, self._aborted)


class Closable(Protocol):
    """What closing asks of, and does to, the connection that closes."""

    def flush(self) -> None:
        """Write what was framed."""

    def settle(self) -> None:
        """Draw the consequences of what has just been framed."""

    def start_ping(self) -> bytes:
        """Send a PING and return its payload."""

    def refuse(self, error: ConnectionClosed) -> None:
        """No stream can be opened any more: who waits to gets a copy of ``error``."""

    def end(self, reason: AIOH2Exception) -> None:
        """Nothing more is sent or received: everybody who waits gets a copy of ``reason``."""

    def waits_for(self) -> str:
        """Say what a graceful end waits for."""

    def linger(self, deadline: float) -> bool:
        """Let the peer end its side first, until ``deadline``; False where that cannot be."""


class Closing:
    """How far one connection is on its way to the end (RFC 9113 sections 5.4.1 and 6.8)."""

    #: Seconds that the peer has for its part of the end, TLS's close_notify, from when everything
    #: is seen to be written. Some never send it, and nothing is lost with it.
    GOODBYE_SECONDS: Final = 1

    def __init__(
        self,
        config: Config,
        connection: Connection,
        closable: Closable,
        *,
        client_side: bool,
        log: Logger,
    ) -> None:
        self._config = config
        # What frames GOAWAY.
        self._connection = connection
        # What is closed.
        self._closable = closable
        self._client_side = client_side
        self._log = log
        # The transport, between begin() and lost(); the clock stays.
        self._transport: asyncio.Transport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

        # Whether a GOAWAY was sent or received: no new streams; and who waits for that.
        self._going_away = False
        self._closing_waiters: list[asyncio.Future[None]] = []
        #: Whether to close once no stream is left.
        self.draining = False
        #: Shutdowns that count streams.
        self.tallies: list[Tally] = []
        # The streams whose handlers wait for a shutdown, and for how many each.
        self._shutting_down: Counter[int] = Counter()
        # The GOAWAY that the peer has sent.
        self._goaway: ConnectionClosed | None = None
        # What the GOAWAYs of a shutdown tell the peer besides.
        self._debug_data: bytes | None = None
        # Why a shutdown has begun, where the application has not asked for it.
        self._cause = ""
        # The PING of a shutdown's round trip.
        self._shutdown_ping: bytes | None = None
        #: Whether nothing is sent or received any more, and why.
        self.over = False
        self.reason: AIOH2Exception | None = None
        # Whether connection_lost was called.
        self._lost = False
        #: Who waits for that.
        self.lost_waiters: list[asyncio.Future[None]] = []

        # Timers: the grace time of a shutdown, the end of closing. What is due at once has a
        # handle without when() on some loops, so when they are due is kept here.
        self._grace_timer: asyncio.Handle | None = None
        self._grace_end = 0.0
        self._abort_timer: asyncio.Handle | None = None
        # The same before it, once everything is written.
        self._goodbye_timer: asyncio.Handle | None = None
        # When the transport has to be gone, once it was decided to close.
        self._deadline: float | None = None

    # --- where it is -------------------------------------------------------------------

    def begin(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        """The connection begins."""
        self._transport = transport
        self._loop = loop

    @property
    def is_closing(self) -> bool:
        """Whether no new stream can start: GOAWAY sent or received, or the transport closing."""
        if self.over or self._going_away:
            return True
        return self._transport is not None and self._transport.is_closing()

    def check_opens(self) -> None:
        """Raise why no stream can start."""
        self.check_usable(new_stream=True)

    def check_usable(self, *, new_stream: bool = False) -> None:
        """Raise why nothing can be sent; with ``new_stream``, why no stream can start."""
        if self._transport is None and self.reason is None:
            raise ConnectionClosed(reason="there is no connection yet", retryable=True)
        reason = self.reason or (self._goaway if new_stream else None)
        if reason is None and new_stream and self.is_closing:
            reason = ConnectionClosed(ErrorCodes.NO_ERROR, initiator="local", reason="it closes")
        if reason is not None:
            raise for_stream(reason, retryable=new_stream)

    async def wait_closing(self) -> None:
        """Wait until :attr:`is_closing`."""
        if not self.is_closing:
            await _until_woken(self._closing_waiters)

    async def wait_closed(self) -> None:
        """Wait until the transport is gone."""
        if not self._lost and not (self.over and self._transport is None):
            await _until_woken(self.lost_waiters)

    # --- gracefully --------------------------------------------------------------------

    async def shutdown(
        self,
        grace: float,
        streams: set[int],
        *,
        debug_data: bytes | None,
        inside: bool,
        to_the_end: bool,
    ) -> Drained:
        """Close gracefully; return what became of ``streams``: see :meth:`H2Protocol.shutdown`.

        ``inside``: in a handler, of a stream of this connection or another. ``to_the_end``: until
        the transport is gone, unless a handler that waits, too, keeps it.
        """
        tally = Tally(streams if not self.over else set(), inside=inside)
        self.tallies.append(tally)
        self.begin_shutdown(grace, debug_data=debug_data)
        self._check_tallies()
        try:
            await tally.done
        finally:
            self.tallies.remove(tally)
        if to_the_end and not (inside and self._shutting_down):
            await self.wait_closed()
        return tally.result

    @contextlib.contextmanager
    def handler_waits(self, stream_id: int) -> Iterator[None]:
        """A stream's handler waits for a shutdown, of this connection or another."""
        self._shutting_down[stream_id] += 1
        self._check_tallies()
        try:
            yield
        finally:
            self._shutting_down -= Counter([stream_id])

    def _check_tallies(self) -> None:
        shutting_down = set(self._shutting_down)
        for tally in self.tallies:
            tally.check(shutting_down)

    def begin_shutdown(
        self, grace: float, *, reason: str = "", debug_data: bytes | None = None
    ) -> None:
        """Begin to close gracefully: see :meth:`H2Protocol.shutdown`."""
        if self.over:
            return
        if debug_data is not None:
            self._debug_data = debug_data
        if self._transport is None:
            self._end(ConnectionClosed(ErrorCodes.NO_ERROR, None, self._debug_data, "local"))
            return
        loop = self._loop
        assert loop is not None
        now = loop.time()
        if self._deadline is None:
            self._deadline = now + max(grace, self._config.close_timeout)
        if self._grace_timer is None or self._grace_end > now + grace:
            if self._grace_timer is not None:
                self._grace_timer.cancel()
            self._grace_end = now + grace
            self._grace_timer = loop.call_at(self._grace_end, self._grace_over, grace)
        if not self.draining and self._shutdown_ping is None:
            self._cause = reason
            self._announce_end()

    def _announce_end(self) -> None:
        self._go_away()
        error = ConnectionClosed(
            ErrorCodes.NO_ERROR, initiator="local", reason=self._cause, retryable=True
        )
        self._closable.refuse(error)
        if self._client_side and not self._config.enable_push:
            # nothing of the server's can be on its way
            self._drain()
            return
        # a peer may act on this one, and not wait for the final one
        self._connection.go_away(ErrorCodes.NO_ERROR, self._debug_data or b"", final=False)
        self._shutdown_ping = self._closable.start_ping()

    def ping_acked(self, payload: bytes) -> None:
        """The ACK of a PING has come: maybe of the one that tells what was on its way."""
        if payload == self._shutdown_ping:
            self._shutdown_ping = None
            self._drain()

    def _drain(self) -> None:
        self.draining = True
        self._final_goaway()
        self._closable.settle()

    def _final_goaway(self) -> int:
        return self._connection.go_away(ErrorCodes.NO_ERROR, self._debug_data or b"")

    def _grace_over(self, grace: float) -> None:
        if self._shutdown_ping is not None:
            blocked = "peer, which has not acknowledged a PING"
        else:
            blocked = self._closable.waits_for()
        reason = f"the grace time is over: blocked on {blocked} for {grace} s"
        self._close(self._shut_down(self._final_goaway(), reason))

    def _shut_down(self, last: int, reason: str) -> ConnectionClosed:
        code = ErrorCodes.NO_ERROR
        return ConnectionClosed(code, last, self._debug_data, "local", reason=reason)

    def goaway_received(self, goaway: ConnectionClosed) -> None:
        """The peer has sent GOAWAY."""
        self._goaway = goaway
        self.draining = True
        self._go_away()
        self._closable.refuse(goaway.for_stream(retryable=True))

    def stream_ended(self, stream_id: int, *, aborted: bool) -> None:
        """A stream is over; ``aborted``: by the end of the connection."""
        for tally in self.tallies:
            tally.ended(stream_id, aborted=aborted)
        self._check_tallies()

    def drained(self) -> None:
        """No stream is left, where the connection was to close then."""
        if self._goaway is not None:
            reason = self._goaway
            self._final_goaway()
        else:
            last = self._connection.highest_inbound_stream_id
            reason = self._shut_down(last, self._cause)
        self._close(reason, linger=not self._client_side)

    def _go_away(self) -> None:
        self._going_away = True
        _wake(self._closing_waiters)

    # --- at once -----------------------------------------------------------------------

    def close(self, error_code: int = ErrorCodes.NO_ERROR, debug_data: bytes | None = None) -> None:
        """Close with GOAWAY: see :meth:`H2Protocol.close_connection`."""
        if self.over:
            return
        if self._transport is None:
            self._end(ConnectionClosed(error_code, None, debug_data, "local"))
            return
        last = self._connection.go_away(error_code, debug_data or b"")
        reason = ConnectionClosed(error_code, last, debug_data, "local")
        self._close(reason, linger=error_code != ErrorCodes.NO_ERROR)

    def close_for(self, error_code: ErrorCodes, reason: str) -> None:
        """Close with GOAWAY, for a limit that was exceeded."""
        self._log.info("closing: %s", reason)
        last = self._connection.go_away(error_code)
        self._close(ConnectionClosed(error_code, last, None, "local", reason=reason), linger=True)

    def close_broken(self, failure: ProtocolError) -> None:
        """What the peer sent has broken a rule of the connection: GOAWAY is queued already."""
        self._log.info("the peer broke the protocol: %s", failure)
        if isinstance(failure, PrefaceError):
            self._close(HandshakeError(str(failure)), linger=True)
            return
        code, last = int(failure.error_code), self._connection.highest_inbound_stream_id
        debug = failure.budget.encode() if isinstance(failure, BudgetExceeded) else None
        reason = ConnectionClosed(code, last, debug, "local", reason=str(failure))
        self._close(reason, linger=True)

    def fail_handshake(self, problem: str) -> None:
        """The peer does not speak HTTP/2; nothing is waited for."""
        self._log.info("no HTTP/2: %s", problem)
        assert self._loop is not None
        self._deadline = self._loop.time()
        self._close(HandshakeError(problem))

    def abort(self, reason: AIOH2Exception) -> None:
        """End at once, and write nothing more."""
        self._end(reason)
        if self._transport is not None:
            self._transport.abort()

    def _close(self, reason: AIOH2Exception, *, linger: bool = False) -> None:
        """End everything, write what was framed, and close the transport.

        ``linger``: only once the peer has, or a while later, so that it can read why.
        """
        self._closable.flush()
        self._end(reason)
        assert self._transport is not None
        deadline = self.bound()
        if not (linger and self._closable.linger(deadline)):
            self._transport.close()
        self._await_goodbye()

    def _await_goodbye(self, *, was_written: bool = False) -> None:
        """Abort the transport where all has been written for a while, and the peer has not ended.

        While anything is not, the end is where :meth:`bound` has set it.
        """
        assert self._transport is not None
        assert self._loop is not None
        is_written = self._transport.is_closing() and _has_written(self._transport)
        if is_written and was_written:
            self._transport.abort()
            return
        again = functools.partial(self._await_goodbye, was_written=is_written)
        self._goodbye_timer = self._loop.call_later(self.GOODBYE_SECONDS, again)

    def bound(self) -> float:
        """Return when the transport is aborted: closing it takes no longer, from the first call."""
        if self._abort_timer is None:
            assert self._transport is not None
            assert self._loop is not None
            deadline = self._loop.time() + self._config.close_timeout
            if self._deadline is None or deadline < self._deadline:
                self._deadline = deadline
            self._abort_timer = self._loop.call_at(self._deadline, self._transport.abort)
        assert self._deadline is not None
        return self._deadline

    def _end(self, reason: AIOH2Exception) -> None:
        if self.over:
            return
        self.over = True
        self.reason = reason
        self._go_away()
        if self._grace_timer is not None:
            self._grace_timer.cancel()
        self._closable.end(reason)
        if self._transport is None:
            # there has been none that could be lost
            _wake(self.lost_waiters)

    # --- the transport is gone ---------------------------------------------------------

    def lose(self, exc: Exception | None, *, greeted: bool, drained: bool) -> None:
        """The transport is gone, with ``exc``: tell why, where nothing else has ended it.

        ``greeted``: whether the peer's SETTINGS have come; ``drained``: whether no stream is open.
        """
        reason: AIOH2Exception
        if self._goaway is not None:
            reason = self._goaway.for_stream(retryable=False)
        elif not greeted and self._client_side:
            after = f": {exc}" if exc is not None else ""
            reason = HandshakeError(f"the peer closed the connection before its SETTINGS{after}")
        elif self._going_away and drained and exc is None:
            # it closes a little earlier than this side would have
            reason = ConnectionClosed(ErrorCodes.NO_ERROR, initiator="local", reason=self._cause)
        else:
            reason = ConnectionClosed(reason=str(exc) if exc else "")
        reason.__cause__ = exc
        self._log.debug("= lost: %s", exc or "closed")
        self._end(reason)
        self._lost = True
        self._transport = None
        for timer in (self._grace_timer, self._abort_timer, self._goodbye_timer):
            if timer is not None:
                timer.cancel()

    def lost(self) -> None:
        """Everything that was the connection's is given back: who waits for that goes on."""
        _wake(self.lost_waiters)


def for_stream(reason: AIOH2Exception, *, retryable: bool) -> AIOH2Exception:
    """Return a copy of why the connection has ended, for one stream of it."""
    if isinstance(reason, ConnectionClosed):
        return reason.for_stream(retryable=retryable)
    return reason.fresh()


def _has_written(transport: Any) -> bool:
    """Whether a transport has handed everything to the system; False where it does not tell."""
    try:
        if transport.get_write_buffer_size():
            return False
        if transport.get_extra_info("ssl_object") is None:
            return True
        # asyncio's TLS does not count what it has encrypted and handed to the transport below
        return not transport._ssl_protocol._transport.get_write_buffer_size()
    except (AttributeError, NotImplementedError):
        # one of somebody's own
        return False


async def _until_woken(waiters: list[asyncio.Future[None]]) -> None:
    future = asyncio.get_running_loop().create_future()
    waiters.append(future)
    try:
        await future
    finally:
        if future in waiters:
            waiters.remove(future)


def _wake(futures: list[asyncio.Future[Any]]) -> None:
    waiting = list(futures)
    futures.clear()
    for future in waiting:
        if not future.done():
            future.set_result(None)
