"""The send loop: bodies that wait to go out, framed in the scheduler's order.

A body goes straight into h2 where nobody else waits and windows and transport are open. Else it
queues, and :meth:`Sender.run` serves one frame of one stream after another, until a window, the
transport or the share of one pass says stop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from .connection import Connection
from .exceptions import AIOH2Exception, SendException
from .headers import Fields
from .scheduler import Scheduler
from .stream import BlockedOn

__all__ = ["Sender"]


class _Body:
    """One call's bytes, or the end of a stream, with who waits for it."""

    __slots__ = ("data", "ends", "future", "is_last", "trailers")

    def __init__(
        self,
        data: memoryview,
        ends: bool,
        trailers: Fields,
        future: asyncio.Future[None],
        is_last: bool,
    ) -> None:
        # What is not framed yet.
        self.data = data
        # Whether the stream ends with it,
        self.ends = ends
        # and with which trailers.
        self.trailers = trailers
        self.future = future
        # Whether it was asked for as the end alone, and so has no bytes that were not sent.
        self.is_last = is_last

    def fail(self, error: AIOH2Exception) -> None:
        """Tell the caller that what is not framed will not be sent."""
        if self.future.done():
            return
        cause = error.fresh()
        self.future.set_exception(cause if self.is_last else SendException(bytes(self.data), cause))


class Sender:
    """Frames bodies under flow control (RFC 9113 sections 5.2 and 6.9)."""

    #: Bytes that may wait for the next write. One write of about 64 KiB costs least, and an
    #: urgent stream never waits for more than this and the transport's own buffer.
    SHARE = 65_536
    #: Bytes that a share may have beyond that, so that the headers of its frames break it nowhere.
    SLACK = 1_024
    #: Shares that may go out in one tick, where the transport takes them: then others have theirs.
    SHARES = 4

    def __init__(
        self,
        connection: Connection,
        scheduler: Scheduler,
        write: Callable[[], None],
        progressed: Callable[[int], None] = lambda stream_id: None,
    ) -> None:
        self._connection = connection
        self._scheduler = scheduler
        # Hands what was framed to the transport, which may call for a pause.
        self._write = write
        # Shares that have gone out in this tick.
        self._shares = 0
        # Called when something that was queued has been framed.
        self._progressed = progressed
        # What waits to be framed, by stream, in the order of the calls.
        self._queues: dict[int, deque[_Body]] = {}
        # Framed, with a caller that waits until the transport takes writes again.
        self._framed: list[tuple[int, _Body]] = []
        #: Whether the transport takes writes.
        self.writable = True

    # --- taking ------------------------------------------------------------------------

    def send(self, stream_id: int, data: memoryview, ends: bool) -> asyncio.Future[None] | None:
        """Frame ``data`` at once, or queue it; return what to wait for, None: nothing."""
        size = len(data)
        if not size:
            return self._send_last(stream_id, (), False) if ends else None
        connection = self._connection
        if not self._queues and self._has_room(size) and connection.send_window(stream_id) >= size:
            connection.send_body(stream_id, data, ends)
            return None
        return self._queue(stream_id, data, ends)

    def _has_room(self, size: int) -> bool:
        """Whether ``size`` bytes may go out now, if need be after a share that is full."""
        if not self.writable or size > self.SHARE:
            return False
        if self._connection.pending + size <= self.SHARE + self.SLACK:
            return True
        if self._shares >= self.SHARES:
            return False
        self._write_share()
        return self.writable

    def _write_share(self) -> None:
        self._shares += 1
        self._write()

    def send_last(self, stream_id: int, trailers: Fields) -> asyncio.Future[None] | None:
        """End the stream after all that is queued, with ``trailers`` if there are any."""
        return self._send_last(stream_id, trailers, True)

    def _send_last(
        self, stream_id: int, trailers: Fields, is_last: bool
    ) -> asyncio.Future[None] | None:
        if stream_id in self._queues:
            return self._queue(stream_id, memoryview(b""), True, trailers, is_last)
        self._frame_last(stream_id, trailers)
        return None

    def _queue(
        self,
        stream_id: int,
        data: memoryview,
        ends: bool,
        trailers: Fields = (),
        is_last: bool = False,
    ) -> asyncio.Future[None]:
        future = asyncio.get_running_loop().create_future()
        body = _Body(data, ends, trailers, future, is_last)
        self._queues.setdefault(stream_id, deque()).append(body)
        self.window_opened(stream_id)
        return future

    # --- framing -----------------------------------------------------------------------

    def run(self) -> None:
        """A tick ends: frame and write what may go now, a share of it at a time."""
        self._frame_share()
        self._write_share()
        while self._shares < self.SHARES and self.has_work:
            self._frame_share()
            self._write_share()
        self._shares = 0

    def _frame_share(self) -> None:
        connection, scheduler = self._connection, self._scheduler
        while self.writable and scheduler and connection.pending < self.SHARE:
            if connection.outbound_flow_control_window <= 0:
                return
            stream_id = scheduler.next()
            assert stream_id is not None
            window = connection.send_window(stream_id)
            if window <= 0:
                scheduler.blocked(stream_id)
                continue
            # in turns, frame by frame; a stream that is alone, as many as there is room for
            frame = min(connection.max_outbound_frame_size, self.SHARE)
            count = (self.SHARE - connection.pending) // frame if scheduler.has_one else 1
            self._frame(stream_id, min(window, max(count, 1) * frame))

    def _frame(self, stream_id: int, limit: int) -> None:
        """Frame up to ``limit`` bytes of the stream, and its end where that follows them."""
        queue = self._queues[stream_id]
        body = queue[0]
        piece, body.data = body.data[:limit], body.data[limit:]
        done = [body] if not body.data else []
        if done and not body.ends and len(queue) > 1 and not queue[1].data:
            # nothing but the end is left: it needs no window, so it goes now
            done.append(queue[1])
        ends = bool(done) and done[-1].ends
        trailers = done[-1].trailers if done else ()
        self._connection.send_body(stream_id, piece, ends and not trailers)
        if ends and trailers:
            self._frame_last(stream_id, trailers)
        for body in done:
            queue.popleft()
            self._framed.append((stream_id, body))
        if not queue:
            del self._queues[stream_id]
            self._scheduler.blocked(stream_id)
        self._progressed(stream_id)

    def _frame_last(self, stream_id: int, trailers: Fields) -> None:
        if trailers:
            self._connection.send_headers(stream_id, trailers, end_stream=True)
        else:
            self._connection.end_stream(stream_id)

    def written(self) -> None:
        """What was framed is with the transport: release the callers, if it takes more."""
        if not self.writable or not self._framed:
            return
        framed, self._framed = self._framed, []
        for _, body in framed:
            if not body.future.done():
                body.future.set_result(None)

    @property
    def has_work(self) -> bool:
        """Whether another pass would frame something."""
        return (
            self.writable
            and bool(self._scheduler)
            and self._connection.outbound_flow_control_window > 0
        )

    def _window(self, stream_id: int) -> int:
        stream = self._connection.streams.get(stream_id)
        return 0 if stream is None else stream.outbound_flow_control_window

    def order_by(self, scheduler: Scheduler) -> None:
        """Ask another scheduler from now on."""
        self._scheduler = scheduler
        self.windows_changed()

    # --- changes -----------------------------------------------------------------------

    def window_opened(self, stream_id: int) -> None:
        """The stream may have got window."""
        if stream_id in self._queues and self._window(stream_id) > 0:
            self._scheduler.ready(stream_id)

    def windows_changed(self) -> None:
        """The peer's SETTINGS_INITIAL_WINDOW_SIZE may have opened every window."""
        for stream_id in self._queues:
            self.window_opened(stream_id)

    def withdraw(self, stream_id: int, future: asyncio.Future[None]) -> bool:
        """Take back what of a cancelled call is not framed; whether there was anything."""
        queue = self._queues.get(stream_id, ())
        for body in queue:
            if body.future is future:
                break
        else:
            return False
        assert isinstance(queue, deque)
        queue.remove(body)
        if queue and not queue[0].data:
            # only the end is left, which needs no window
            last = queue.popleft()
            self._frame_last(stream_id, last.trailers)
            self._framed.append((stream_id, last))
        if not queue:
            del self._queues[stream_id]
            self._scheduler.blocked(stream_id)
        return True

    def drop(self, stream_id: int, error: AIOH2Exception | None) -> None:
        """The stream is over; where not cleanly, its callers get ``error`` and what is unsent."""
        self._scheduler.remove(stream_id)
        if error is None:
            return
        if self._framed:
            self._release(error, stream_id)
        for body in self._queues.pop(stream_id, ()):
            body.fail(error)

    def _release(self, error: AIOH2Exception, stream_id: int) -> None:
        """Wake who waits only for the transport."""
        for framed, body in self._framed:
            if framed == stream_id:
                body.fail(error)
        self._framed = [entry for entry in self._framed if entry[0] != stream_id]

    def end(self, error: AIOH2Exception) -> None:
        """The connection is over: nobody waits for the transport any more."""
        framed, self._framed = self._framed, []
        for _, body in framed:
            body.fail(error)

    def __len__(self) -> int:
        """How many bodies somebody waits for, to be framed or to be taken by the transport."""
        return sum(map(len, self._queues.values())) + len(self._framed)

    def has_queued(self, stream_id: int) -> bool:
        """Whether anything of the stream waits to be framed."""
        return stream_id in self._queues

    def blocked_on(self, stream_id: int) -> BlockedOn | None:
        """Why a call on the stream waits; None: it does not, or is about to go on."""
        if stream_id not in self._queues:
            waits = any(framed == stream_id for framed, _ in self._framed)
            return "transport" if waits and not self.writable else None
        if not self.writable:
            return "transport"
        if self._connection.outbound_flow_control_window <= 0:
            return "connection window"
        if self._window(stream_id) <= 0:
            return "stream window"
        return None
