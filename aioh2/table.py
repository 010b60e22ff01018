"""``StreamTable``: the streams of a connection, from their first HEADERS until they are forgotten.

A stream is open; then it has ended, and can still be read by its id until ``concurrency`` newer
ones have ended. One that came from the peer waits besides to be taken.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Self

from .connection import Connection
from .exceptions import AIOH2Exception, StreamClosed
from .stream import H2Stream

__all__ = ["StreamTable"]


class StreamTable:
    """Where each stream of one connection is in its life (RFC 9113 section 5.1).

    ``limit``: ended streams that are kept. ``forgotten``: called with each that is not any more.
    Iterating gives the peer's streams, until the connection is over.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        client_side: bool,
        limit: int,
        forgotten: Callable[[H2Stream], None],
    ) -> None:
        # Counts held streams under our limit, and knows which ids there have been.
        self._connection = connection
        self._client_side = client_side
        self._limit = limit
        self._forgotten = forgotten
        # The clock's loop, from begin() on.
        self._loop: asyncio.AbstractEventLoop | None = None
        #: Streams that are open.
        self.open: dict[int, H2Stream] = {}
        #: How many have been, since the beginning.
        self.opened = 0
        #: Those that have ended and can still be read, oldest first.
        self.ended: dict[int, H2Stream] = {}
        # Whether the oldest of these are forgotten in the next tick.
        self._forgetting = False
        #: The peer's streams that nobody has taken,
        self.inbound: OrderedDict[int, H2Stream] = OrderedDict()
        # how many of these have ended: they count among the ended,
        self._untaken = 0
        #: and who waits for one.
        self.accepting: deque[asyncio.Future[None]] = deque()
        #: Streams that were reset while somebody still works on them: see
        #: Connection.held_streams.
        self.held: set[H2Stream] = set()
        # Why none come any more.
        self._reason: AIOH2Exception | None = None

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """The connection begins."""
        self._loop = loop

    def add(self, stream: H2Stream, inbound: bool) -> None:
        """A stream is open; ``inbound``: it is the peer's, and for who takes it."""
        self.open[stream.id] = stream
        self.opened += 1
        if inbound:
            self.inbound[stream.id] = stream
            if self.accepting:
                self._wake_one()

    def find(self, stream_id: int) -> H2Stream:
        """Return a stream that has not been forgotten; raise ``StreamClosed`` for any other."""
        stream = (
            self.open.get(stream_id) or self.ended.get(stream_id) or self.inbound.get(stream_id)
        )
        if stream is None:
            raise StreamClosed(stream_id, self._why_unknown(stream_id))
        return stream

    def is_ours(self, stream_id: int) -> bool:
        """Whether this side opens streams with such ids (RFC 9113 section 5.1.1)."""
        return stream_id % 2 == self._client_side

    def _why_unknown(self, stream_id: int) -> str:
        newest = (
            self._connection.highest_outbound_stream_id
            if self.is_ours(stream_id)
            else self._connection.highest_inbound_stream_id
        )
        if not 0 < stream_id <= newest:
            return "there has never been such a stream"
        return f"it has ended, and {self._limit} newer streams have ended since"

    # --- who takes the peer's streams ---------------------------------------------------

    async def accept(self) -> H2Stream:
        """Wait for the next inbound stream; raise why the connection is over, after the last."""
        while not self.inbound:
            if self._reason is not None:
                raise self._reason.fresh()
            future = asyncio.get_running_loop().create_future()
            self.accepting.append(future)
            try:
                await future
            except asyncio.CancelledError:
                if future in self.accepting:
                    self.accepting.remove(future)
                elif self.inbound:
                    self._wake_one()
                raise
        stream = self.take_inbound()
        assert stream is not None
        return stream

    def take_inbound(self) -> H2Stream | None:
        """Return the next inbound stream that nobody has taken, None when there is none."""
        if not self.inbound:
            return None
        _, stream = self.inbound.popitem(last=False)
        if stream.id not in self.open:
            self._untaken -= 1
            self.release(stream)
            self._remember(stream)
        return stream

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> H2Stream:
        try:
            return await self.accept()
        except AIOH2Exception:
            raise StopAsyncIteration from None

    def _wake_one(self) -> None:
        while self.accepting:
            future = self.accepting.popleft()
            if not future.done():
                future.set_result(None)
                return

    # --- the end -----------------------------------------------------------------------

    def retire(self, stream: H2Stream, *, in_use: bool) -> None:
        """A stream that was open is not any more; ``in_use``: it failed, and is worked on still."""
        if stream.id in self.inbound:
            self._untaken += 1
            self._hold(stream)
            self._forget_soon()
        else:
            if in_use:
                self._hold(stream)
            self._remember(stream)

    def take_open(self) -> list[H2Stream]:
        """Return those that are open, which are not any more: the connection is over."""
        streams = list(self.open.values())
        self.open.clear()
        return streams

    def end(self, reason: AIOH2Exception) -> None:
        """No more streams come: who waits for one gets ``reason``."""
        self._reason = reason
        while self.accepting:
            self._wake_one()

    def release(self, stream: H2Stream) -> None:
        """Nobody works on the stream any more."""
        self.held.discard(stream)
        self._connection.held_streams = len(self.held)

    def _hold(self, stream: H2Stream) -> None:
        """Keep the stream's place under our limit while somebody works for it."""
        self.held.add(stream)
        self._connection.held_streams = len(self.held)

    def _remember(self, stream: H2Stream) -> None:
        self.ended[stream.id] = stream
        self._forget_soon()

    def _is_crowded(self) -> bool:
        return bool(self.ended) and len(self.ended) + self._untaken > self._limit

    def _forget_soon(self) -> None:
        if not self._forgetting and self._is_crowded() and self._loop is not None:
            # not at once: who was woken by the end of the oldest gets to it first
            self._forgetting = True
            self._loop.call_soon(self._forget_oldest)

    def _forget_oldest(self) -> None:
        self._forgetting = False
        while self._is_crowded():
            self._forgotten(self.ended.pop(next(iter(self.ended))))
