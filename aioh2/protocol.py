"""``H2Protocol``: what a user calls on a connection, by stream id and by handle.

What happens on the connection is in ``driver``, what a stream does in ``stream``.
"""

from __future__ import annotations

import asyncio
import dataclasses
import operator
import re
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from types import MappingProxyType, TracebackType
from typing import Any, Self, TypeAlias, TypeVar, cast

import h2.events as events
from h2.errors import ErrorCodes
from h2.settings import SettingCodes, Settings

from .closing import Drained
from .config import Config
from .connection import as_origin
from .driver import Driver
from .exceptions import AIOH2Exception, NotSupported, StreamClosed
from .handlers import StreamHandler, current_stream
from .headers import HeaderInput, HeaderList
from .pings import Pings
from .scheduler import Priority
from .stream import BytesLike, H2Stream
from .tap import TapCallback, frame_name

__all__ = ["Drained", "H2Protocol", "Stats"]

ProtocolT = TypeVar("ProtocolT", bound="H2Protocol")
#: What ``set_handler`` takes.
ConnectedCallback: TypeAlias = Callable[
    [ProtocolT], Coroutine[Any, Any, Any] | asyncio.Future[Any] | None
]
# Characters that the Alt-Svc field may have (RFC 7838 section 3).
_is_field_value = re.compile(rb"[\t -~]+").fullmatch


# What is left for debug data of the largest frame that every peer takes (RFC 9113 sections 4.2 and
# 6.8).
_MOST_DEBUG_DATA = 16_384 - 8


@dataclasses.dataclass(frozen=True, slots=True)
class Stats:
    """Counts of one connection at one moment; the mappings have no entries for nothing."""

    #: Bytes that came from the transport.
    bytes_received: int
    #: Bytes that went to the transport, which may hold some of them still.
    bytes_sent: int
    #: Streams since the beginning, on either side's account, pushes included.
    streams_opened: int
    #: Streams that are open now.
    streams_open: int
    #: Streams that the peer has ended with RST_STREAM.
    resets_received: int
    #: Streams that this side has ended with RST_STREAM.
    resets_sent: int
    #: Latest round-trip time of a PING, in seconds; None before the first.
    rtt: float | None
    #: The shortest of all: nearest to what the path needs.
    shortest_rtt: float | None
    #: Frames that have come, and that were framed, by the name of their type: ``"HEADERS"``.
    #: Types that no RFC which aioh2 knows has named are ``"0xfa"`` or ``"unknown"``.
    frames_received: Mapping[str, int]
    frames_sent: Mapping[str, int]
    #: The peer's streams that were turned away with REFUSED_STREAM before they began.
    streams_refused: int
    #: The resets, by the name of their code: ``"CANCEL"``, ``"unknown code"``.
    resets_received_by_code: Mapping[str, int]
    resets_sent_by_code: Mapping[str, int]
    #: What is left of each abuse budget, from 1 down to 0, by the option that sets it; 1 where it
    #: is off. At 0, only what honest traffic earns is still paid for.
    budgets: Mapping[str, float]


def check_grace(grace: object) -> None:
    """Raise ``TypeError`` or ``ValueError`` for what is not a time for a shutdown."""
    if grace is None:
        return
    if isinstance(grace, bool) or not isinstance(grace, (int, float)):
        raise TypeError(f"grace must be a number of seconds or None, not {grace!r}")
    if not grace >= 0:
        raise ValueError(f"grace must be at least 0 seconds, not {grace}")


def check_debug_data(debug_data: object) -> None:
    """Raise ``TypeError`` or ``ValueError`` for what GOAWAY cannot carry."""
    if debug_data is None:
        return
    if not isinstance(debug_data, bytes):
        raise TypeError(f"debug_data must be bytes or None, not {debug_data!r}")
    if len(debug_data) > _MOST_DEBUG_DATA:
        raise ValueError(
            f"debug_data must be at most {_MOST_DEBUG_DATA} bytes, not {len(debug_data)}"
        )


def _by_type(counts: list[int]) -> dict[str, int]:
    *known, others = counts
    by_type = {frame_name(kind): count for kind, count in enumerate(known) if count}
    return by_type | ({"unknown": others} if others else {})


class _Opening:
    """What ``open_stream`` returns: awaitable, and an async context manager."""

    def __init__(self, open_: Callable[[], Coroutine[Any, Any, H2Stream]]) -> None:
        self._open = open_
        # The stream, while inside ``async with``.
        self._stream: H2Stream | None = None

    def __await__(self) -> Generator[Any, None, H2Stream]:
        return self._open().__await__()

    async def __aenter__(self) -> H2Stream:
        self._stream = await self._open()
        return self._stream

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._stream is not None
        await self._stream.__aexit__(kind, error, traceback)


class H2Protocol(asyncio.Protocol):
    """One HTTP/2 connection (RFC 9113), client or server, over any asyncio transport.

    :func:`open_connection` and :func:`start_server` make these; one can also be put on a
    transport by hand. ``client_side``: True for the client's end; ``options``: those of
    :class:`Config`, which count more than what ``config`` has of them.

    Streams are used by id, as ``await protocol.read_stream(stream_id)``, or by handle,
    as ``await stream.read()``. After a stream has ended, what it leaves stays readable by its
    id until ``concurrency`` newer streams have ended, and by a handle as long as it is held.

    ``async with protocol`` shuts it down gracefully on leaving, or closes it at once when an
    exception leaves with it.
    """

    def __init__(self, client_side: bool, *, config: Config | None = None, **options: Any) -> None:
        if not isinstance(client_side, bool):
            raise TypeError(f"client_side must be True or False, not {client_side!r}")
        #: Whether this is the client's end.
        self.client_side: bool = client_side
        #: The options of this connection.
        self.config: Config = Config.of(config, options)
        # Everything else, where no name can meet one of a subclass.
        self._driver = Driver(self, self.config, client_side=client_side)
        # Seconds without a received byte after which ``wait_functional`` sends a PING.
        self._functional_timeout: float = self.config.functional_timeout

    def __repr__(self) -> str:
        closing = self._driver.closing
        state = "closed" if closing.over else "closing" if closing.is_closing else "open"
        return f"<{type(self).__name__} {'client' if self.client_side else 'server'} {state}>"

    # --- for asyncio -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: check ALPN, send preface and SETTINGS, call the handler."""
        self._driver.connection_made(cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        """Take bytes; nothing in them makes an exception leave from here."""
        self._driver.data_received(data)

    def eof_received(self) -> bool:
        """The peer has closed its side: what came before counts, then everything ends.

        At the latest after ``close_timeout``, where what was written before is not taken.
        """
        return self._driver.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone: everybody who waits is told."""
        self._driver.connection_lost(exc)

    def pause_writing(self) -> None:
        """The transport's buffer is full: bodies wait."""
        self._driver.pause_writing()

    def resume_writing(self) -> None:
        """The transport takes writes again."""
        self._driver.resume_writing()

    # --- requests and responses, by stream id ----------------------------------------------

    async def start_request(
        self,
        headers: HeaderInput,
        *,
        end_stream: bool = False,
        priority: Priority | None = None,
    ) -> int:
        """Send a request's headers and return the id of its stream.

        Missing ``:method`` (GET), ``:scheme``, ``:authority`` and ``:path`` (/) are filled in.
        ``priority`` goes out as the ``priority`` field (RFC 9218 section 5).
        Waits, first come first served, for the peer's SETTINGS and for a slot under its
        MAX_CONCURRENT_STREAMS (RFC 9113 section 5.1.2). Cancelled, it has sent nothing.

        Raises ``ValueError`` for malformed headers, :class:`NotSupported` for an extended
        CONNECT that the peer has not offered and for more headers than it takes, and a
        retryable :class:`ConnectionClosed` when the connection takes no new streams.
        """
        return (await self._driver.opener.request(headers, end_stream, priority)).id

    async def recv_request(self) -> tuple[int, HeaderList]:
        """Wait for the next request; return the id of its stream, and its headers.

        After the end of the connection, the requests that had come are still returned; then it
        raises why the connection ended. Cancelling it loses nothing.
        """
        stream = await self._driver.table.accept()
        return stream.id, stream.request_headers

    async def start_response(
        self, stream_id: int, headers: HeaderInput, *, end_stream: bool = False
    ) -> None:
        """Send a response's headers: see :meth:`H2Stream.start_response`."""
        await self._driver.find(stream_id).start_response(headers, end_stream=end_stream)

    async def recv_response(self, stream_id: int) -> HeaderList:
        """Wait for the final response: see :meth:`H2Stream.recv_response`."""
        return await self._driver.find(stream_id).recv_response()

    async def recv_informational(self, stream_id: int) -> HeaderList | None:
        """Wait for the next 1xx: see :meth:`H2Stream.recv_informational`."""
        return await self._driver.find(stream_id).recv_informational()

    async def send_data(self, stream_id: int, data: BytesLike, *, end_stream: bool = False) -> None:
        """Send body bytes: see :meth:`H2Stream.send_data`."""
        await self._driver.find(stream_id).send_data(data, end_stream=end_stream)

    async def read_stream(self, stream_id: int, size: int | None = None) -> bytes:
        """Read body bytes: see :meth:`H2Stream.read`."""
        return await self._driver.find(stream_id).read(size)

    async def send_trailers(self, stream_id: int, headers: HeaderInput) -> None:
        """End the stream with trailers: see :meth:`H2Stream.send_trailers`."""
        await self._driver.find(stream_id).send_trailers(headers)

    async def recv_trailers(self, stream_id: int) -> HeaderList:
        """Wait for the end of the body: see :meth:`H2Stream.recv_trailers`."""
        return await self._driver.find(stream_id).recv_trailers()

    async def end_stream(self, stream_id: int) -> None:
        """End this side of the stream: see :meth:`H2Stream.end`."""
        await self._driver.find(stream_id).end()

    def reset_stream(self, stream_id: int, error_code: int = ErrorCodes.CANCEL) -> None:
        """End the stream at once: see :meth:`H2Stream.reset`."""
        self._driver.find(stream_id).reset(error_code)

    async def push_stream(self, stream_id: int, headers: HeaderInput) -> int:
        """Promise a push and return the id of its stream: see :meth:`H2Stream.push`."""
        return (await self._driver.find(stream_id).push(headers)).id

    async def recv_push(self, stream_id: int) -> tuple[int, HeaderList] | None:
        """Wait for the next promise: see :meth:`H2Stream.recv_push`."""
        stream = await self._driver.find(stream_id).recv_push()
        return None if stream is None else (stream.id, stream.request_headers)

    def reprioritize(
        self,
        stream_id: int,
        depends_on: int | None = None,
        weight: int = 16,
        exclusive: bool = False,
    ) -> None:
        """Give a stream its place in the tree of RFC 7540 section 5.3.

        On a client it tells the server with a PRIORITY frame; on a server it orders what this
        side sends. ``weight`` is from 1 to 256; ``depends_on`` None or 0 is the root. It changes
        nothing once RFC 9218 decides: when the peer has sent SETTINGS_NO_RFC7540_PRIORITIES or
        either side a signal of that RFC.
        """
        parent = depends_on or 0
        if not 1 <= weight <= 256:
            raise ValueError(f"weight must be from 1 to 256, not {weight}")
        if parent == stream_id:
            raise ValueError(f"stream {stream_id} cannot depend on itself")
        self._driver.closing.check_usable()
        if self._driver.priorities.urgencies is not None:
            return
        if self.client_side:
            self._driver.connection.prioritize(stream_id, weight, parent, exclusive)
            self._driver.flush_soon()
        self._driver.priorities.reprioritize(stream_id, parent, weight, exclusive)

    def set_priority(self, stream_id: int, priority: Priority) -> None:
        """Give a stream another place; see :meth:`H2Stream.set_priority`."""
        self._driver.set_priority(stream_id, priority)

    # --- the same, by handle ---------------------------------------------------------------

    def open_stream(
        self,
        headers: HeaderInput,
        *,
        end_stream: bool = False,
        priority: Priority | None = None,
    ) -> _Opening:
        """Open a stream as :meth:`start_request` does; await it, or ``async with`` it."""
        return _Opening(lambda: self._driver.opener.request(headers, end_stream, priority))

    def stream(self, stream_id: int) -> H2Stream:
        """Return the handle of a stream that is open, or that has ended not long ago.

        Raises :class:`StreamClosed` for any other.
        """
        return self._driver.find(stream_id)

    def __aiter__(self) -> Self:
        """Iterate over inbound streams, until the connection ends."""
        return self

    async def __anext__(self) -> H2Stream:
        return await anext(self._driver.table)

    async def serve(self, handler: StreamHandler) -> None:
        """Run ``await handler(stream)`` in a task for each inbound stream.

        Returns when the connection has ended and all handlers are done; cancelled, it cancels
        them. A handler that returns without ending its stream has it ended, with INTERNAL_ERROR
        if it never answered; one that raises has it reset with INTERNAL_ERROR, and logged; one
        whose stream the peer or a time limit resets, or whose connection is lost, is cancelled,
        once. What a complete response leaves of the request is stopped with NO_ERROR (RFC 9113
        section 8.1).
        """
        await self._driver.handlers.serve(self._driver.table, handler)

    # --- the connection --------------------------------------------------------------------

    def set_handler(self, handler: ConnectedCallback[Self]) -> None:
        """Set what serves the connection: ``handler(protocol)``, called when it is ready.

        It may return a coroutine, a Task or Future, or None. That is cancelled when the
        connection is lost, also where it waits for that itself; when it returns or is cancelled
        otherwise, the connection shuts down gracefully; an exception in it is logged and closes
        the connection with INTERNAL_ERROR. Raises ``TypeError`` for what cannot be called, and
        ``ValueError`` where a handler is set already.
        """
        if not callable(handler):
            raise TypeError(f"handler must be callable, not {handler!r}")
        self._driver.set_handler(handler)

    def event_received(self, event: events.Event) -> None:
        """Handle one of h2's events; override it to watch them, and call ``super()``."""
        handler = Driver.HANDLERS.get(type(event))
        # an override may have ended the connection before it calls this
        if handler is not None and not self._driver.closing.over:
            handler(self._driver, event)

    def tap(self, callback: TapCallback) -> Callable[[], None]:
        """Call ``callback(event)`` with a :class:`~aioh2.tap.FrameEvent` for each frame.

        From now on, for received and for sent frames, in their order; what is returned removes
        it. A received frame is told of before anything is done for it, a sent one when it is
        framed, which is a moment before it is written. Frames that are refused by their first
        nine bytes are not told of. Any number of callbacks can be there. One that raises is
        logged and removed. It is called in the middle of the work, so it should be quick, must
        not change the frame, and must call nothing on the connection.

        Without any there is no cost; with one, every frame becomes an object, and is slower.
        """
        if not callable(callback):
            raise TypeError(f"callback must be callable, not {callback!r}")
        return self._driver.tap(callback)

    async def wait_open(self) -> None:
        """Wait for the peer's SETTINGS; raise :class:`HandshakeError` when they do not come."""
        await self._driver.greeting.wait()

    async def ping(self) -> float:
        """Send a PING and return its round-trip time in seconds (RFC 9113 section 6.7).

        Raises why the connection ended, when it does before the ACK. Cancelling it is safe.
        """
        return await self._alive().ping()

    async def wait_functional(self) -> float | None:
        """Wait until the peer is known to be alive; return the latest round-trip time, or None.

        Returns at once if bytes arrived within ``functional_timeout``. Else it sends PINGs, one
        each ``functional_timeout``, until any bytes arrive. Raises why the connection ended,
        when it does.
        """
        return await self._alive().wait_functional(self._functional_timeout)

    def update_settings(self, settings: Mapping[int, int] | Mapping[SettingCodes, int]) -> None:
        """Send SETTINGS (RFC 9113 section 6.5); they hold once the peer acknowledges them.

        ``settings``: values from 0 to 2^32-1 by :class:`SettingCodes`, or by any other code from
        0 to 2^16-1. A peer that has not acknowledged them after ``open_timeout`` seconds is left
        with SETTINGS_TIMEOUT.

        Raises ``ValueError`` for a value that the RFC does not allow, and why the connection
        ended when it has.
        """
        self._driver.closing.check_usable()
        for code, value in settings.items():
            if not 0 <= operator.index(code) < 2**16 or not 0 <= operator.index(value) < 2**32:
                raise ValueError(f"setting {code} cannot be {value}")
        if not self.client_side and settings.get(SettingCodes.ENABLE_PUSH):
            raise ValueError("a server cannot set ENABLE_PUSH (RFC 9113 section 6.5.2)")
        settings = dict(settings.items())
        if SettingCodes.INITIAL_WINDOW_SIZE in settings:
            # with what streams have grown by, it must not exceed what a window may be
            size = int(settings[SettingCodes.INITIAL_WINDOW_SIZE])
            dataclasses.replace(self.config, initial_window_size=size)
        # raises for values out of range, before anything changes
        Settings(client=self.client_side, initial_values=cast(Any, dict(settings)))
        self._driver.connection.check_settings(settings)
        self._driver.connection.update_settings(dict(settings))
        self._driver.watchdog.settings_sent()
        self._driver.flush_soon()

    def advertise_alternative_service(
        self,
        field_value: str | bytes,
        *,
        origin: str | bytes | None = None,
        stream_id: int | None = None,
    ) -> None:
        """Tell a client where else an origin is served, with ALTSVC (RFC 7838 section 4).

        ``field_value`` is as of the Alt-Svc field: ``'h2="b.test:443"; ma=60'``, or ``clear``.
        Exactly one of these says for which origin: ``origin``, such as ``https://a.test``, or
        ``stream_id``, of a request whose response has not started. A client gets h2's
        ``AlternativeServiceAvailable`` in :meth:`event_received`.

        Raises ``ValueError`` for anything else in these, and for more than fits into a frame of
        the peer's; :class:`NotSupported` on a client; :class:`StreamClosed` for a response that
        has started; and why the stream or connection has ended when it has.
        """
        if (origin is None) is (stream_id is None):
            raise ValueError("exactly one of origin and stream_id has to be given")
        if not isinstance(field_value, (str, bytes)):
            raise TypeError(f"field_value must be str or bytes, not {field_value!r}")
        value = field_value if isinstance(field_value, bytes) else field_value.encode()
        if not _is_field_value(value):
            raise ValueError(f"field_value cannot be {field_value!r}")
        of = b"" if origin is None else as_origin(origin)
        self._check_serves()
        if 2 + len(of) + len(value) > self._driver.connection.max_outbound_frame_size:
            raise ValueError("origin and field_value do not fit into a frame")
        if stream_id is not None:
            self._check_unanswered(self._driver.find(stream_id))
            self._driver.check_ahead(stream_id)
        self._driver.connection.advertise_alternative_service(value, of or None, stream_id)
        self._driver.flush_soon()

    def send_origins(self, origins: Iterable[str | bytes]) -> None:
        """Tell a client for which origins it may use this connection, with ORIGIN (RFC 8336).

        Each is such as ``https://a.test``; those of later calls are added. None at all: for that
        of the connection only. A client gets an :class:`OriginsReceived` in
        :meth:`event_received`; it has to ignore it on a connection without TLS (section 2.2).

        Raises ``ValueError`` for what is no origin, or does not fit into a frame;
        :class:`NotSupported` on a client; and why the connection ended when it has.
        """
        if isinstance(origins, (str, bytes)):
            raise TypeError(f"origins must be several, not {origins!r}")
        checked = [as_origin(origin) for origin in origins]
        self._check_serves()
        for origin in checked:
            if len(origin) > min(self._driver.connection.max_outbound_frame_size - 2, 2**16 - 1):
                raise ValueError(f"an origin of {len(origin)} bytes does not fit into a frame")
        self._driver.connection.send_origins(checked)
        self._driver.flush_soon()

    def _check_serves(self) -> None:
        if self.client_side:
            raise NotSupported("only a server says what it, or another, serves")
        self._driver.closing.check_usable()

    def _check_unanswered(self, stream: H2Stream) -> None:
        if stream.failure is not None:
            raise stream.failure.fresh()
        if stream.has_started:
            raise StreamClosed(stream.id, "its response has started already")

    async def shutdown(
        self, grace: float | None = None, *, debug_data: bytes | None = None
    ) -> Drained:
        """Close gracefully; return what became of the streams in flight (RFC 9113 section 6.8).

        Announces the end, waits one PING round trip for what is on its way, and then up to
        ``grace`` seconds (None: ``close_timeout``) for open streams to end; what is left is
        aborted. Returns when the connection has closed; in a handler of :meth:`serve`, when
        all streams have ended but its own, and those whose handlers wait for a shutdown, too:
        these are not counted. Cancelling it lets the shutdown go on. A second call can make the
        time shorter, not longer.

        ``debug_data``: what GOAWAY tells the peer of the reason, both the announcing and the final
        one; at most 16,376 bytes. A later call's replaces it in what is still to be sent.
        """
        check_grace(grace)
        check_debug_data(debug_data)
        if grace is None:
            grace = self.config.close_timeout
        closing, streams = self._driver.closing, set(self._driver.table.open)
        own = current_stream.get()
        if own is None or own.is_over:
            return await closing.shutdown(
                grace, streams, debug_data=debug_data, inside=False, to_the_end=True
            )
        is_ours = own.protocol is self
        if is_ours:
            streams.discard(own.id)
        with own.protocol._driver.closing.handler_waits(own.id):
            return await closing.shutdown(
                grace, streams, debug_data=debug_data, inside=True, to_the_end=not is_ours
            )

    def close_connection(
        self, error_code: int = ErrorCodes.NO_ERROR, debug_data: bytes | None = None
    ) -> None:
        """Close at once: GOAWAY, and everything that is in flight fails (RFC 9113 section 5.4.1).

        What was framed is still written, for at most ``close_timeout``. :meth:`wait_closed`
        waits for the end. ``debug_data``: what GOAWAY tells besides, at most 16,376 bytes.
        """
        if not 0 <= operator.index(error_code) < 2**32:
            raise ValueError(f"error_code must be from 0 to 2**32 - 1, not {error_code}")
        check_debug_data(debug_data)
        self._driver.closing.close(error_code, debug_data)

    def abort(self) -> None:
        """End at once and write nothing more, not even what was framed."""
        self._driver.abort()

    async def wait_closing(self) -> None:
        """Wait until :attr:`is_closing`: no new stream can start, open ones go on to their end.

        For handlers that would go on for as long as the connection does, such as event streams:
        they end by themselves when it drains. Cancelling it changes nothing.
        """
        await self._driver.closing.wait_closing()

    async def wait_closed(self) -> None:
        """Wait until the transport is gone. Cancelling it changes nothing."""
        await self._driver.closing.wait_closed()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the transport's information ``name``: see ``asyncio.BaseTransport``."""
        return self._driver.get_extra_info(name, default)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self.close_connection()
            await self.wait_closed()
        else:
            await self.shutdown()

    # --- properties ------------------------------------------------------------------------

    @property
    def scheme(self) -> str:
        """``:scheme`` of requests that have none; ``https`` when it is connected over TLS."""
        return self._driver.opener.scheme

    @scheme.setter
    def scheme(self, value: str) -> None:
        self._driver.opener.scheme = value

    @property
    def authority(self) -> str | None:
        """``:authority`` of requests that have none: the peer's address, unless it is set."""
        return self._driver.opener.authority

    @authority.setter
    def authority(self, value: str | None) -> None:
        self._driver.opener.authority = value

    @property
    def is_closing(self) -> bool:
        """Whether no new stream can start: GOAWAY sent or received, or the transport closing."""
        return self._driver.closing.is_closing

    @property
    def functional_timeout(self) -> float:
        """Seconds without a received byte after which :meth:`wait_functional` sends a PING."""
        return self._functional_timeout

    @functional_timeout.setter
    def functional_timeout(self, value: float) -> None:
        self._functional_timeout = dataclasses.replace(
            self.config, functional_timeout=value
        ).functional_timeout

    @property
    def initial_window_size(self) -> int:
        """Receive window of a stream, in bytes.

        Setting it sends SETTINGS, and it changes once the peer has acknowledged them, for the
        streams that are open too (RFC 9113 section 6.9.2).
        """
        return self._local_setting(SettingCodes.INITIAL_WINDOW_SIZE)

    @initial_window_size.setter
    def initial_window_size(self, value: int) -> None:
        dataclasses.replace(self.config, initial_window_size=value)
        self.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: value})

    @property
    def max_frame_size(self) -> int:
        """Largest frame payload that is accepted, in bytes, from 16,384 to 16,777,215.

        Setting it sends SETTINGS, and it changes once the peer has acknowledged them.
        """
        return self._local_setting(SettingCodes.MAX_FRAME_SIZE)

    @max_frame_size.setter
    def max_frame_size(self, value: int) -> None:
        dataclasses.replace(self.config, max_frame_size=value)
        self.update_settings({SettingCodes.MAX_FRAME_SIZE: value})

    @property
    def max_concurrent_streams(self) -> int:
        """Streams that the peer may have open at once.

        Setting it sends SETTINGS, and it changes once the peer has acknowledged them. Streams
        that are open then stay so, where it is lower (RFC 9113 section 5.1.2).
        """
        return self._local_setting(SettingCodes.MAX_CONCURRENT_STREAMS)

    @max_concurrent_streams.setter
    def max_concurrent_streams(self, value: int) -> None:
        dataclasses.replace(self.config, concurrency=value)
        self.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: value})

    @property
    def rtt(self) -> float | None:
        """Latest round-trip time of a PING, in seconds; None before the first."""
        return self._driver.pings.rtt if self._driver.pings is not None else None

    @property
    def available_slots(self) -> int:
        """Streams that could be opened now under the peer's limit; 0 before its SETTINGS."""
        return self._driver.opener.slots.available

    @property
    def waiting_requests(self) -> int:
        """Calls that wait for a slot or for the peer's SETTINGS."""
        return len(self._driver.opener.slots)

    @property
    def remote_settings(self) -> Mapping[SettingCodes | int, int]:
        """The peer's settings as they are now, which cannot be changed from here.

        What it has not sent has its first value (RFC 9113 section 6.5.2), or is not there where
        that is no limit.
        """
        known = set(SettingCodes)
        settings = self._driver.connection.remote_settings.items()
        return MappingProxyType(
            {SettingCodes(code) if code in known else code: value for code, value in settings}
        )

    @property
    def stats(self) -> Stats:
        """Counts up to now, which do not change any more: ask again for later ones."""
        received, sent = self._driver.connection.frame_counts
        pings = self._driver.pings
        return Stats(
            bytes_received=self._driver.bytes_received,
            bytes_sent=self._driver.bytes_sent,
            streams_opened=self._driver.table.opened,
            streams_open=len(self._driver.table.open),
            resets_received=self._driver.resets_received.total(),
            resets_sent=self._driver.resets_sent.total(),
            rtt=self.rtt,
            shortest_rtt=pings.shortest_rtt if pings is not None else None,
            frames_received=_by_type(received),
            frames_sent=_by_type(sent),
            streams_refused=self._driver.connection.refused,
            resets_received_by_code=dict(self._driver.resets_received),
            resets_sent_by_code=dict(self._driver.resets_sent),
            budgets=self._driver.budgets_left(),
        )

    @property
    def close_reason(self) -> AIOH2Exception | None:
        """Why the connection has ended; None while it has not."""
        return self._driver.closing.reason

    def _alive(self) -> Pings:
        self._driver.closing.check_usable()
        assert self._driver.pings is not None
        return self._driver.pings

    def _local_setting(self, code: SettingCodes) -> int:
        if not self._driver.connection.was_acked:
            return self._driver.greeting.settings()[code]
        return self._driver.connection.local_settings[code]
