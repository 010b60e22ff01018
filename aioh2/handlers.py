"""Running what an application hands in: one handler for a connection, one for each stream.

An error of the application is logged and costs what it was for, the connection or the stream;
what only passes on the peer's reset or disconnect is not an error.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterable, Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Protocol, TypeAlias

from h2.errors import ErrorCodes

from .exceptions import (
    AIOH2Exception,
    ConnectionClosed,
    HandshakeError,
    NotSupported,
    SendException,
    StreamReset,
)
from .stream import H2Stream

__all__ = ["ConnectionHandler", "StreamHandlers", "current_stream"]

Logger: TypeAlias = "logging.LoggerAdapter[logging.Logger]"
#: What ``serve`` takes.
StreamHandler: TypeAlias = Callable[[H2Stream], Awaitable[Any]]

#: The stream that the running handler of ``serve`` is for; None elsewhere. What the handler
#: starts (tasks, callbacks, threads of ``asyncio.to_thread``) has it too: it is for reading only.
current_stream: ContextVar[H2Stream | None] = ContextVar("aioh2_stream", default=None)


class ConnectionHandler:
    """Follows what ``client_connected_cb`` has returned.

    ``returned`` is called when it is done, or was cancelled by the application; ``failed`` when
    it has raised.
    """

    def __init__(
        self, log: Logger, *, returned: Callable[[], None], failed: Callable[[], None]
    ) -> None:
        self._log = log
        self._returned = returned
        self._failed = failed
        # What to wait for, kept so that it is not collected.
        self._task: asyncio.Future[Any] | None = None

    def call(self, callback: Callable[[Any], Any], protocol: object) -> None:
        """Call ``callback(protocol)``, which may return a coroutine, a Future or None."""
        try:
            result = callback(protocol)
            if asyncio.iscoroutine(result):
                result = asyncio.get_running_loop().create_task(result)
            elif result is not None and not asyncio.isfuture(result):
                raise TypeError(f"a handler must return a coroutine or Future, not {result!r}")
        except Exception as error:
            self._report(error)
            return
        if result is not None:
            self._task = result
            result.add_done_callback(self._done)

    def cancel(self) -> None:
        """The connection is lost."""
        if self._task is not None:
            self._task.cancel()

    def _done(self, task: asyncio.Future[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is None:
            self._returned()
        else:
            self._report(error)

    def _report(self, error: BaseException) -> None:
        if _only_passes_on(error):
            self._log.info("the handler of the connection ended: %s", error)
        else:
            self._log.error("the handler of the connection failed", exc_info=error)
        self._failed()


class Inbound(AsyncIterable[H2Stream], Protocol):
    """Where inbound streams come from."""

    def take_inbound(self) -> H2Stream | None:
        """Return the next one, if it is there already."""


class StreamHandlers:
    """The tasks of ``serve``, one for each inbound stream."""

    def __init__(self, log: Logger, done: Callable[[H2Stream], None]) -> None:
        self._log = log
        # Called when nobody works on a stream any more.
        self._done = done
        self._tasks: dict[H2Stream, asyncio.Task[None]] = {}
        # Those that were cancelled with their streams: a second time would cut short what they
        # still wait for, to clean up.
        self._cancelled: set[H2Stream] = set()

    def __len__(self) -> int:
        """How many streams handlers are at work on."""
        return len(self._tasks)

    def __contains__(self, stream: H2Stream) -> bool:
        """Whether a handler is at work on the stream."""
        return stream in self._tasks

    async def serve(self, streams: Inbound, handler: StreamHandler) -> None:
        """Run a handler for each stream; return when there are no more and all are done."""
        tasks: dict[asyncio.Task[None], H2Stream] = {}
        # one for all tasks: each keeps its callbacks for as long as it runs
        ended = functools.partial(self._ended, tasks)
        try:
            async for first in streams:
                stream: H2Stream | None = first
                while stream is not None:
                    if stream.failure is None:
                        tasks[self._start(stream, handler, ended)] = stream
                    # those that have come together need no waiting in between
                    stream = streams.take_inbound()
            if tasks:
                await asyncio.wait(tasks)
        finally:
            for task, of in tasks.items():
                if of not in self._cancelled:
                    task.cancel()
            if tasks:
                await asyncio.wait(tasks)

    def cancel(self, stream: H2Stream) -> None:
        """The peer or a time limit has reset the stream, or the connection is lost."""
        task = self._tasks.get(stream)
        if task is None:
            return
        loop = task.get_loop()
        is_running = asyncio.current_task(loop) is task
        if is_running:
            # it has ended the connection itself: it goes on to where it waits next
            loop.call_soon(task.cancel)
        else:
            task.cancel()
        self._cancelled.add(stream)

    def _start(
        self,
        stream: H2Stream,
        handler: StreamHandler,
        ended: Callable[[asyncio.Task[None]], None],
    ) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._run(stream, handler))
        self._tasks[stream] = task
        task.add_done_callback(ended)
        return task

    async def _run(self, stream: H2Stream, handler: StreamHandler) -> None:
        """Run the handler, and leave its stream ended whatever it does."""
        current_stream.set(stream)
        task = asyncio.current_task()
        assert task is not None
        # an eager task is not known yet
        self._tasks[stream] = task
        try:
            await handler(stream)
            if not stream.is_complete:
                await self._finish(stream)
        except asyncio.CancelledError:
            if stream.failure is None:
                raise
        except Exception as error:
            self._report(stream, error)

    def _report(self, stream: H2Stream, error: BaseException) -> None:
        if _is_the_peers_doing(error, stream):
            self._log.info("the handler of stream %d ended: %s", stream.id, error)
        else:
            self._log.error("the handler of stream %d failed", stream.id, exc_info=error)
        stream.reset(ErrorCodes.INTERNAL_ERROR)

    async def _finish(self, stream: H2Stream) -> None:
        if not stream.has_started and stream.failure is None:
            self._log.info("the handler of stream %d has not answered", stream.id)
            stream.reset(ErrorCodes.INTERNAL_ERROR)
        elif not stream.has_ended and not stream.is_over:
            await stream.end()
        stream.stop_upload()

    def _ended(self, tasks: dict[asyncio.Task[None], H2Stream], task: asyncio.Task[None]) -> None:
        stream = tasks.pop(task)
        del self._tasks[stream]
        self._cancelled.discard(stream)
        error = None if task.cancelled() else task.exception()
        if task.cancelled():
            stream.reset(ErrorCodes.CANCEL)
        elif error is not None:
            # no Exception, such as frameworks for tests raise
            self._report(stream, error)
        self._done(stream)


def _is_the_peers_doing(error: BaseException, stream: H2Stream) -> bool:
    """Whether an error only says that the stream, or its connection, has come to its end.

    Or that the peer does not take what was to be sent: a peer could fill the log with that.
    A group, as of ``asyncio.TaskGroup``, says so when each error in it does.
    """
    if isinstance(error, ExceptionGroup):
        return all(_is_the_peers_doing(inner, stream) for inner in error.exceptions)
    cause = error.__cause__ if isinstance(error, SendException) else error
    if isinstance(cause, ConnectionClosed) and stream.protocol.is_closing:
        return True
    if isinstance(cause, StreamReset) and cause.initiator == "peer" and not cause.stream_id % 2:
        # of a push (RFC 9113 section 5.1.1), which a client need not want
        return True
    if isinstance(error, NotSupported):
        return True
    return isinstance(error, AIOH2Exception) and stream.failure is not None


def _only_passes_on(error: BaseException | None) -> bool:
    """Whether an error only says that the connection has ended, or that the peer did something.

    A reset by this side is the peer's doing, too, where it has a reason: a rule was broken.
    A group says so when each error in it does.
    """
    if isinstance(error, ExceptionGroup):
        return all(_only_passes_on(inner) for inner in error.exceptions)
    if isinstance(error, SendException):
        return _only_passes_on(error.__cause__)
    if isinstance(error, StreamReset):
        return error.initiator == "peer" or bool(error.reason)
    return isinstance(error, (ConnectionClosed, HandshakeError, NotSupported))
