"""``H2Stream``: one stream's state, what waits for it, and its public handle.

What has arrived is kept here until it is read; what is to be sent goes to the owner. Every way
a stream can end comes through ``feed_end`` or ``fail``, which wake everybody who waits.
"""

from __future__ import annotations

import asyncio
import operator
import sys
from collections import deque
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, Self, TypeAlias

from h2.errors import ErrorCodes

from .body import Body
from .exceptions import (
    AIOH2Exception,
    NotSupported,
    SendException,
    StreamClosed,
    StreamReset,
)
from .flow import ReceiveWindow
from .headers import Fields, HeaderInput, HeaderList, Kind, prepare
from .scheduler import Priority

if TYPE_CHECKING:
    # collections.abc has it from Python 3.12 on
    from typing_extensions import Buffer

__all__ = ["BlockedOn", "H2Stream"]

#: Why a call on a stream waits.
BlockedOn: TypeAlias = Literal["stream window", "connection window", "transport", "peer"]
#: What ``send_data`` takes: ``bytes``, ``bytearray``, ``memoryview``, ``mmap``, ``array``...
BytesLike: TypeAlias = "Buffer"


class _Wait(Enum):
    """What a call can wait for; each is woken by itself."""

    HEADERS = "headers"
    BODY = "body"
    END = "end"
    PUSH = "push"

    # Enum's own is a Python function
    __hash__ = object.__hash__


class Owner(Protocol):
    """What a stream asks of the connection that it belongs to."""

    #: What users know of it.
    protocol: Any
    #: Whether this is the client's end.
    client_side: bool

    def check_size(self, size: int) -> None:
        """Raise for a header list that the peer does not take."""

    def send_headers(self, stream_id: int, fields: Fields, end_stream: bool) -> None:
        """Frame a header section now."""

    def send_body(
        self, stream_id: int, data: memoryview, end_stream: bool
    ) -> asyncio.Future[None] | None:
        """Frame ``data``, or queue it and return what to wait for."""

    def send_last(self, stream_id: int, trailers: Fields) -> asyncio.Future[None] | None:
        """Frame the end of the stream after all queued data; with ``trailers`` if there are."""

    def withdraw(self, stream_id: int, future: asyncio.Future[None]) -> bool:
        """Take back what is not framed; whether there was anything."""

    def is_tunnel(self, stream_id: int) -> bool:
        """Whether it is a CONNECT that was accepted."""

    def has_queued(self, stream_id: int) -> bool:
        """Whether anything waits to be framed."""

    def credit(self, stream_id: int, count: int, window: ReceiveWindow) -> None:
        """Give ``count`` bytes of ``window`` back to the peer."""

    def body_waits(self, stream_id: int, waits: bool) -> None:
        """A reader begins, or ends, to wait for body bytes."""

    def set_priority(self, stream_id: int, priority: Priority) -> None:
        """Give a stream another place among those that send."""

    def send_reset(self, error: StreamReset) -> None:
        """Frame RST_STREAM; who waits to send gets ``error``."""

    def blocked_on(self, stream_id: int) -> BlockedOn | None:
        """Why queued data waits."""

    async def promise(self, stream_id: int, headers: HeaderInput) -> H2Stream:
        """Promise a push."""

    def open_streams(self, stream: H2Stream) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return asyncio streams over the bytes of a stream."""


def _flat(view: memoryview) -> memoryview:
    """Return ``view`` as single bytes, one after another."""
    if not view.c_contiguous:
        return memoryview(view.tobytes())
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


def retrieve(future: asyncio.Future[Any]) -> None:
    """Take note of an error that came in the moment in which its waiter was cancelled."""
    if future.done() and not future.cancelled():
        future.exception()


class H2Stream:
    """One HTTP/2 stream, from HEADERS to END_STREAM or RST_STREAM (RFC 9113 section 5).

    Streams come from :meth:`H2Protocol.open_stream`, from iterating over a protocol, and from
    :meth:`H2Protocol.stream`. ``async with stream`` makes sure that it ends: leaving early, or
    being cancelled inside, resets it with CANCEL; a server's stream whose response is complete
    is left with NO_ERROR, and what had arrived of the request is dropped (section 8.1).
    """

    #: Interim responses that are kept for who takes them; of more, the oldest go.
    INTERIM: Final = 16
    #: Promised streams that are kept so; more are refused.
    PROMISES: Final = 64

    __slots__ = (
        "__weakref__",
        "_abandoned",
        "_body",
        "_encoding",
        "_informational",
        "_local_ended",
        "_owner",
        "_promises",
        "_reading",
        "_remote_ended",
        "_response",
        "_started",
        "_trailers",
        "_tunnelled",
        "_turns",
        "_waiters",
        "_window_size",
        "failure",
        "id",
        "request_headers",
    )

    def __init__(
        self,
        stream_id: int,
        owner: Owner,
        request_headers: HeaderList,
        *,
        window_size: int,
        encoding: str | None,
        local_ended: bool = False,
        remote_ended: bool = False,
    ) -> None:
        #: The stream's id.
        self.id: int = stream_id
        #: The headers of the request that this stream carries, pseudo-headers included.
        self.request_headers: HeaderList = request_headers
        # The connection, as far as a stream needs it.
        self._owner = owner
        # How headers that are str are encoded.
        self._encoding = encoding

        # Whether this side's final header section is out: a request is, from the beginning.
        self._started = owner.client_side
        # Whether the end of what this side sends was accepted; nothing can follow it.
        self._local_ended = local_ended

        # The final response.
        self._response: HeaderList | None = None
        # Interim responses that nobody has taken.
        self._informational: deque[HeaderList] | None = None
        # What has come of the body, from its first frame on, and the window until then.
        self._body: Body | None = None
        self._window_size = window_size
        # Whether a read is under way, and those whose turn comes after it.
        self._reading = False
        self._turns: deque[asyncio.Future[None]] | None = None
        self._trailers: HeaderList | None = None
        # Promised streams that nobody has taken.
        self._promises: deque[H2Stream] | None = None
        # Whether the peer has ended its side cleanly.
        self._remote_ended = remote_ended
        #: What ended the stream otherwise, as a template for those who ask; None: nothing.
        self.failure: AIOH2Exception | None = None
        # Whether that was the application of this side.
        self._abandoned = False
        # Whether its bytes belong to asyncio streams.
        self._tunnelled = False

        # Who waits for what, made when somebody does.
        self._waiters: list[tuple[_Wait, asyncio.Future[None]]] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self._state()}>"

    def _state(self) -> str:
        if self.failure is not None:
            return "failed"
        if self._local_ended:
            return "closed" if self._remote_ended else "half-closed (local)"
        return "half-closed (remote)" if self._remote_ended else "open"

    @property
    def protocol(self) -> Any:
        """The :class:`~aioh2.H2Protocol` that the stream belongs to."""
        return self._owner.protocol

    @property
    def blocked_on(self) -> BlockedOn | None:
        """Why a call on this stream is waiting; None when none is, or when it is about to go on.

        ``"stream window"`` and ``"connection window"``: the peer has opened no window;
        ``"transport"``: it reads too slowly; ``"peer"``: it has sent nothing.
        """
        if self._owner.has_queued(self.id) or not self._waiters:
            return self._owner.blocked_on(self.id)
        return self._owner.blocked_on(self.id) or "peer"

    # --- responses and other headers ---------------------------------------------------

    async def start_response(self, headers: HeaderInput, *, end_stream: bool = False) -> None:
        """Send the response's headers; any number of 1xx may go before (RFC 9113 section 8.1).

        Returns as soon as they are framed. Raises ``ValueError`` for headers that are malformed,
        :class:`NotSupported` for more of them than the peer takes,
        :class:`StreamClosed` where the response has begun or ended already,
        :class:`NotSupported` for a 1xx on a pushed stream,
        :class:`StreamReset` or :class:`ConnectionClosed` where the peer or the connection has
        ended the stream.
        """
        fields, facts = prepare(headers, Kind.RESPONSE, self._encoding)
        status = facts.status or 0
        if status < 200 and end_stream:
            raise ValueError(f"an interim response ({status}) cannot end the stream")
        if self._owner.client_side:
            raise StreamClosed(self.id, "it carries a request of this side; the server responds")
        self._check_open()
        if self._started:
            raise StreamClosed(self.id, "its response has started already")
        if status < 200 and self.id % 2 == 0:
            # h2 knows no interim response on a promised stream, and would take it for closed
            raise NotSupported("a pushed stream takes no interim response")
        self._owner.check_size(facts.size)
        if status >= 200:
            self._started = True
            self._local_ended = end_stream
        self._owner.send_headers(self.id, fields, end_stream)

    async def recv_response(self) -> HeaderList:
        """Wait for the final response and return its headers; every call returns the same.

        Raises :class:`StreamReset` or :class:`ConnectionClosed` when there will be none.
        Cancelling it changes nothing.
        """
        self._check_expects_response()
        while self._response is None:
            await self._wait_unless_failed(_Wait.HEADERS)
        return self._response

    async def recv_informational(self) -> HeaderList | None:
        """Wait for the next 1xx response and return its headers; None once the final one is there.

        Raises and cancels as :meth:`recv_response`.
        """
        self._check_expects_response()
        while not self._informational:
            if self._response is not None:
                return None
            await self._wait_unless_failed(_Wait.HEADERS)
        return self._informational.popleft()

    async def recv_trailers(self) -> HeaderList:
        """Wait for the peer's end of the stream and return its trailers, ``[]`` if none.

        The body need not have been read, but a peer whose window is used up by unread bytes
        does not get to its trailers. Raises and cancels as :meth:`recv_response`.
        """
        while not self._remote_ended:
            await self._wait_unless_failed(_Wait.END)
        return self._trailers or []

    async def push(self, headers: HeaderInput) -> H2Stream:
        """Promise a push and return its stream (RFC 9113 section 8.4); the server's side only.

        Waits for room under the client's limit of streams; cancelled, it has promised nothing.
        The push is a GET or HEAD without content, and its headers are filled in from those of
        the request. Raises ``ValueError`` for others, :class:`NotSupported` when the client does
        not want pushes, :class:`StreamClosed` in a tunnel, and as :meth:`start_response`.
        """
        return await self._owner.promise(self.id, headers)

    async def recv_push(self) -> H2Stream | None:
        """Wait for the next promise and return its stream; None once the peer has ended this one.

        Raises and cancels as :meth:`recv_response`.
        """
        self._check_expects_response()
        while not self._promises:
            if self._remote_ended:
                return None
            await self._wait_unless_failed(_Wait.PUSH)
        return self._promises.popleft()

    # --- sending -----------------------------------------------------------------------

    async def send_data(self, data: BytesLike, *, end_stream: bool = False) -> None:
        """Send ``data``, any bytes-like object, which must not change until this returns.

        Returns when all of it has been framed under flow control (RFC 9113 section 5.2) and the
        transport takes writes again; what it waits for is in :attr:`blocked_on`. Calls on one
        stream go in their order. Cancelled, it takes back what is not framed yet: what was queued
        behind it then follows a body that is cut short, so reset the stream if that matters.

        Raises :class:`SendException` with the bytes that were not sent where the peer or the
        connection ends the stream, :class:`StreamClosed` where this side has ended it.
        """
        view = memoryview(data)
        if type(data) is not bytes:
            view = _flat(view)
        self._check_sending(view)
        self._local_ended = end_stream
        await self._until_sent(self._owner.send_body(self.id, view, end_stream), end_stream)

    async def send_trailers(self, headers: HeaderInput) -> None:
        """End the stream with trailers, after all data (RFC 9113 section 8.1).

        Waits and cancels as :meth:`send_data`; raises as :meth:`end`, ``ValueError`` for
        malformed headers, and :class:`StreamClosed` in a client's tunnel, which has none
        (section 8.5). Empty trailers end the stream without any.
        """
        fields, facts = prepare(headers, Kind.TRAILERS, self._encoding)
        self._check_ending()
        # not a server's: its handler may know nothing of CONNECT, and is not to fail by one
        if fields and self._owner.client_side and self._owner.is_tunnel(self.id):
            raise StreamClosed(self.id, "a tunnel has no trailers (RFC 9113 section 8.5)")
        self._owner.check_size(facts.size)
        self._local_ended = True
        await self._until_sent(self._owner.send_last(self.id, fields), True)

    async def end(self) -> None:
        """End this side of the stream, after all data (END_STREAM).

        Waits and cancels as :meth:`send_data`. Raises :class:`StreamClosed` where this side has
        ended already, :class:`StreamReset` or :class:`ConnectionClosed` where the peer or the
        connection has ended the stream.
        """
        await self._until_sent(self.begin_ending(), True)

    def reset(self, error_code: int = ErrorCodes.CANCEL) -> None:
        """End the stream at once with RST_STREAM (RFC 9113 section 6.4), if it is not over.

        ``error_code`` is from 0 to 2^32-1. Whoever waits on the stream gets a
        :class:`StreamReset`; what was queued is dropped, what had arrived can still be read.
        """
        code = operator.index(error_code)
        if not 0 <= code < 2**32:
            raise ValueError(f"error_code must be from 0 to 2**32 - 1, not {error_code}")
        if self.is_over:
            return
        self._abandoned = True
        error = StreamReset(self.id, code, "local")
        self.fail(error)
        self._owner.send_reset(error)

    def set_priority(self, priority: Priority) -> None:
        """Give the stream another place among those that send (RFC 9218).

        On a client it tells the server with a PRIORITY_UPDATE frame (section 7); on a server it
        orders what this side sends, from the next frame on. It comes too late for a stream that
        is over, and then changes nothing. Raises ``TypeError`` for what is no
        :class:`Priority`, and why the connection ended when it has.
        """
        self._owner.set_priority(self.id, priority)

    # --- reading -----------------------------------------------------------------------

    async def read(self, size: int | None = None) -> bytes:
        """Read body bytes; ``b""`` means that the peer ended the body cleanly, nothing else.

        ``size`` None: the next DATA frame's bytes (where many wait, small ones are joined); -1:
        all up to the end; n: n bytes, fewer only where the body ends before. Waits for the
        peer; stream credit goes back as bytes are read (RFC 9113 section 6.9).

        A stream that was reset or lost raises :class:`StreamReset` or :class:`ConnectionClosed`
        after the bytes that came before it; a read of all raises at once, and they stay readable
        in pieces. Cancelling it loses nothing. Reads of one stream go in the order of the calls.
        """
        if size is None:
            return await self._read_chunk()
        wanted = operator.index(size)
        if wanted < -1:
            raise ValueError(f"size must be None, -1 or from 0 upwards, not {size}")
        await self._begin_read()
        try:
            await self._wait_for(wanted if wanted >= 0 else sys.maxsize, partial=wanted >= 0)
            return self._take(min(wanted, self.unread) if wanted >= 0 else self.unread)
        finally:
            self._end_read()

    async def read_exactly(self, size: int) -> bytes:
        """Read ``size`` bytes; ``asyncio.IncompleteReadError`` where the body ends before.

        A reset or lost stream raises as in :meth:`read`, and the bytes before it stay readable.
        """
        if operator.index(size) < 0:
            raise ValueError(f"size must be from 0 upwards, not {size}")
        await self._begin_read()
        try:
            await self._wait_for(size, partial=False)
            data = self._take(min(size, self.unread))
        finally:
            self._end_read()
        if len(data) < size:
            raise asyncio.IncompleteReadError(data, size)
        return data

    def __aiter__(self) -> Self:
        """Iterate over the body, as :meth:`read` returns it; ends where the peer has ended it."""
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._read_chunk()
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self.stop_upload():
            self.reset(ErrorCodes.CANCEL)

    def as_reader_writer(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return asyncio streams over the stream's bytes, once: from now on, use only these.

        For tunnels (RFC 9113 section 8.5, RFC 8441): call it when the response's headers have
        come, or on a server are out. It does not look at the status: a CONNECT that was refused
        is no tunnel. Both are as of ``asyncio.open_connection``, with these meanings:

        - ``drain`` waits for the stream's and the connection's flow control, and for the
          transport; bytes that nobody reads hold the stream's window. ``body_timeout`` does not
          count here.
        - END_STREAM is the end of file, in both directions; ``write_eof`` sends it, and reading
          goes on.
        - ``close`` sends what was written, and END_STREAM. The peer has ``close_timeout`` to end
          its side; then, or when bytes come or have come that nobody reads, the stream is reset
          with CANCEL, or with NO_ERROR on a server where it is no CONNECT. ``wait_closed``
          returns when END_STREAM is framed. ``writer.transport.abort()`` resets at once: with
          CONNECT_ERROR on the server's side of a plain CONNECT, else with CANCEL. Leaving
          ``async with stream``, or a handler of ``serve``, ends the stream as ever.
        - A reset stream or lost connection raises, without what was not read by then, a
          :class:`StreamReset` or :class:`ConnectionClosed` that is a ``ConnectionResetError``,
          too. What came before the peer's END_STREAM stays readable, and a reset with NO_ERROR
          after that is no error, unless it has cut short what was written.
        - ``get_extra_info("stream")`` is this stream; other names are asked of the connection.
        - ``await writer.start_tls(context)`` starts TLS in the tunnel, as its server on a server.
          uvloop starts it over sockets only, and raises TypeError. Any other protocol can take the
          streams' place: ``transport = writer.transport``, ``transport.set_protocol(protocol)``,
          ``protocol.connection_made(transport)``, with no await before.

        It raises :class:`StreamClosed` where that was done before, where the response has not
        begun or come, and where this side has reset the stream; :class:`StreamReset` or
        :class:`ConnectionClosed` where the peer or the connection has ended it, unless the peer
        has ended its side before: that stays readable.
        """
        if self._abandoned or not self._remote_ended:
            self._check_alive()
        if self._owner.client_side and self._response is None:
            raise StreamClosed(self.id, "its response has not come; recv_response comes first")
        self._check_started()
        if self._tunnelled:
            raise StreamClosed(self.id, "its bytes have a reader and a writer already")
        self._tunnelled = True
        return self._owner.open_streams(self)

    # --- for tunnels -------------------------------------------------------------------

    def begin_sending(self, data: memoryview) -> asyncio.Future[None] | None:
        """As :meth:`send_data`, without waiting: return what to wait for, None: nothing."""
        self._check_sending(data)
        return self._owner.send_body(self.id, data, False)

    def begin_ending(self) -> asyncio.Future[None] | None:
        """As :meth:`end`, without waiting."""
        self._check_ending()
        self._local_ended = True
        return self._owner.send_last(self.id, ())

    def until_more(self) -> asyncio.Future[None]:
        """Return what is done when bytes come, the end, or what ends the stream otherwise."""
        future = asyncio.get_running_loop().create_future()
        self._expect_body().window.starved = True
        self._add_waiter((_Wait.BODY, future))
        return future

    def take_chunk(self) -> bytes:
        """Take what is left of the oldest DATA frame; ``b""`` where there is none."""
        body = self._body
        if body is None or not body.buffered:
            return b""
        chunk, credit = body.take_chunk()
        if credit:
            self._credit(credit)
        return chunk

    # --- for the protocol --------------------------------------------------------------

    @property
    def is_waited_for(self) -> bool:
        """Whether any call waits for something to come."""
        return bool(self._waiters or self._turns)

    @property
    def is_over(self) -> bool:
        """Whether nothing more is sent or received."""
        return self.failure is not None or (
            self._remote_ended and self._local_ended and not self._owner.has_queued(self.id)
        )

    @property
    def has_started(self) -> bool:
        """Whether the final headers of this side are out."""
        return self._started

    @property
    def has_ended(self) -> bool:
        """Whether the end of this side was accepted."""
        return self._local_ended

    @property
    def has_peer_ended(self) -> bool:
        """Whether the peer has ended its side cleanly."""
        return self._remote_ended

    @property
    def is_complete(self) -> bool:
        """Whether both sides have ended it cleanly, as far as they are concerned."""
        return self._local_ended and self._remote_ended

    @property
    def unread(self) -> int:
        """Body bytes that nobody has taken."""
        return 0 if self._body is None else self._body.buffered

    @property
    def window(self) -> ReceiveWindow:
        """The peer's credit."""
        return self._expect_body().window

    def stop_upload(self) -> bool:
        """End a request that nobody reads any more, after a complete response.

        RFC 9113 section 8.1: RST_STREAM with NO_ERROR. What had arrived is dropped. False where
        the response is not complete.
        """
        if self._owner.client_side or not self._local_ended or self._owner.has_queued(self.id):
            return False
        if not self.is_over:
            self.reset(ErrorCodes.NO_ERROR)
            self._take(self.unread)
        return True

    def feed_response(self, headers: HeaderList) -> None:
        """Take the final response."""
        self._response = headers
        self._wake(_Wait.HEADERS)

    def feed_informational(self, headers: HeaderList) -> None:
        """Take an interim response."""
        if self._informational is None:
            # most applications take none, and a server may send any number
            self._informational = deque(maxlen=self.INTERIM)
        self._informational.append(headers)
        self._wake(_Wait.HEADERS)

    def feed_trailers(self, headers: HeaderList) -> None:
        """Take trailers; the end follows."""
        self._trailers = headers

    def feed_push(self, stream: H2Stream) -> None:
        """Take a promise; one too many that nobody takes is refused."""
        if self._promises is None:
            self._promises = deque()
        if len(self._promises) >= self.PROMISES:
            stream.reset(ErrorCodes.REFUSED_STREAM)
            return
        self._promises.append(stream)
        self._wake(_Wait.PUSH)

    def feed_data(self, data: bytes, flow_controlled_length: int) -> None:
        """Take body bytes; padding gives its credit back at once."""
        body = self._body or self._expect_body()
        credit = body.received(data, flow_controlled_length)
        if credit:
            self._credit(credit)
        if data:
            self._wake(_Wait.BODY)

    def feed_end(self) -> None:
        """The peer has ended its side cleanly."""
        self._remote_ended = True
        self._wake_all()

    def fail(self, error: AIOH2Exception) -> None:
        """The stream has ended in another way; everybody who waits gets a copy of ``error``."""
        if self.failure is None:
            self.failure = error
            self._wake_all()

    def resize_window(self, size: int) -> None:
        """SETTINGS_INITIAL_WINDOW_SIZE of this side is in force (RFC 9113 section 6.9.2)."""
        self._window_size = size
        if self._body is not None:
            self._credit(self._body.window.resize(size))

    # --- inside ------------------------------------------------------------------------

    def _expect_body(self) -> Body:
        """Make room for a body; most requests have none."""
        if self._body is None:
            self._body = Body(self._window_size)
        return self._body

    def _check_expects_response(self) -> None:
        if not self._owner.client_side:
            raise StreamClosed(self.id, "it carries a request of the peer; no response comes")

    def _check_alive(self) -> None:
        """Raise what has ended the stream early."""
        if self._abandoned:
            raise StreamClosed(self.id, "this side has reset it")
        if self.failure is not None:
            raise self.failure.fresh()

    def _check_open(self) -> None:
        """Raise what keeps this side from sending headers."""
        self._check_alive()
        if self._local_ended:
            raise StreamClosed(self.id, "this side has ended it already")

    def _check_started(self) -> None:
        if not self._started:
            raise StreamClosed(self.id, "its response has not started; start_response comes first")

    def _check_ending(self) -> None:
        self._check_open()
        self._check_started()

    def _check_sending(self, data: memoryview) -> None:
        if self.failure is None and self._started and not self._local_ended:
            return
        if self.failure is not None and not self._abandoned:
            raise SendException(bytes(data), self.failure.fresh())
        self._check_ending()

    async def _until_sent(self, future: asyncio.Future[None] | None, ends: bool) -> None:
        if future is None:
            return
        try:
            await future
        except asyncio.CancelledError:
            retrieve(future)
            if self._owner.withdraw(self.id, future) and ends:
                self._local_ended = False
            raise

    async def _wait_unless_failed(self, what: _Wait) -> None:
        if self.failure is not None:
            raise self.failure.fresh()
        future = asyncio.get_running_loop().create_future()
        waiter = (what, future)
        self._add_waiter(waiter)
        if what is _Wait.BODY:
            self._expect_body().window.starved = True
            self._owner.body_waits(self.id, True)
        try:
            await future
        except asyncio.CancelledError:
            if self._waiters and waiter in self._waiters:
                self._waiters.remove(waiter)
            raise
        finally:
            if what is _Wait.BODY:
                self._owner.body_waits(self.id, False)

    def _wake(self, *causes: _Wait) -> None:
        if not self._waiters:
            return
        waiting, self._waiters = self._waiters, None
        for waiter in waiting:
            if waiter[0] not in causes:
                self._add_waiter(waiter)
            elif not waiter[1].done():
                waiter[1].set_result(None)

    def _wake_all(self) -> None:
        self._wake(*_Wait)

    def _add_waiter(self, waiter: tuple[_Wait, asyncio.Future[None]]) -> None:
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(waiter)

    async def _begin_read(self) -> None:
        """Wait for the turn of this read."""
        if not self._reading:
            self._reading = True
            return
        future = asyncio.get_running_loop().create_future()
        if self._turns is None:
            self._turns = deque()
        self._turns.append(future)
        try:
            await future
        except BaseException:
            # cancelled, or closed as a coroutine
            if future in self._turns:
                self._turns.remove(future)
            elif not future.cancelled():
                self._end_read()
            raise

    def _end_read(self) -> None:
        while self._turns:
            future = self._turns.popleft()
            if not future.done():
                future.set_result(None)
                return
        self._reading = False

    async def _read_chunk(self) -> bytes:
        body = self._body
        if body is None or not body.buffered or self._reading:
            await self._begin_read()
            try:
                await self._wait_for(1, partial=True)
            finally:
                self._end_read()
        return self.take_chunk()

    async def _wait_for(self, wanted: int, *, partial: bool) -> None:
        """Wait for ``wanted`` bytes, or the end; ``partial``: or what came before a failure."""
        while self.unread < wanted and not self._remote_ended:
            if self.failure is not None and self.unread and partial:
                return
            if self._body is not None:
                self._credit(self._body.claim(wanted))
            await self._wait_unless_failed(_Wait.BODY)

    def _take(self, count: int) -> bytes:
        if self._body is None:
            return b""
        data, credit = self._body.take(count)
        self._credit(credit)
        return data

    def _credit(self, count: int) -> None:
        if count and not self._remote_ended and self.failure is None:
            self._owner.credit(self.id, count, self.window)
