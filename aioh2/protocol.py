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
from typing import Any, Self, TypeAlias, cast

from h2.errors import ErrorCodes
from h2.settings import SettingCodes, Settings

from .connection import as_origin
from .driver import Drained, Driver, Tally
from .exceptions import AIOH2Exception, NotSupported, StreamClosed
from .handlers import StreamHandler, current_stream
from .headers import HeaderInput, HeaderList
from .pings import Pings
from .scheduler import Priority
from .stream import BytesLike, H2Stream

__all__ = ["Drained", "H2Protocol", "Stats"]

#: What ``set_handler`` takes.
ConnectedCallback: TypeAlias = Callable[
    ["H2Protocol"], Coroutine[Any, Any, Any] | asyncio.Future[Any] | None
]
# Characters that the Alt-Svc field may have (RFC 7838 section 3).
_is_field_value = re.compile(rb"[\t -~]+").fullmatch


@dataclasses.dataclass(frozen=True, slots=True)
class Stats:
    """Counts of one connection at one moment."""

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


def check_grace(grace: object) -> None:
    """Raise ``TypeError`` or ``ValueError`` for what is not a time for a shutdown."""
    if grace is None:
        return
    if isinstance(grace, bool) or not isinstance(grace, (int, float)):
        raise TypeError(f"grace must be a number of seconds or None, not {grace!r}")
    if not grace >= 0:
        raise ValueError(f"grace must be at least 0 seconds, not {grace}")


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


class H2Protocol(Driver):
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
        return (await self._open_stream(headers, end_stream, priority)).id

    async def recv_request(self) -> tuple[int, HeaderList]:
        """Wait for the next request; return the id of its stream, and its headers.

        After the end of the connection, the requests that had come are still returned; then it
        raises why the connection ended. Cancelling it loses nothing.
        """
        stream = await self._accept()
        return stream.id, stream.request_headers

    async def start_response(
        self, stream_id: int, headers: HeaderInput, *, end_stream: bool = False
    ) -> None:
        """Send a response's headers: see :meth:`H2Stream.start_response`."""
        await self.stream(stream_id).start_response(headers, end_stream=end_stream)

    async def recv_response(self, stream_id: int) -> HeaderList:
        """Wait for the final response: see :meth:`H2Stream.recv_response`."""
        return await self.stream(stream_id).recv_response()

    async def recv_informational(self, stream_id: int) -> HeaderList | None:
        """Wait for the next 1xx: see :meth:`H2Stream.recv_informational`."""
        return await self.stream(stream_id).recv_informational()

    async def send_data(self, stream_id: int, data: BytesLike, *, end_stream: bool = False) -> None:
        """Send body bytes: see :meth:`H2Stream.send_data`."""
        await self.stream(stream_id).send_data(data, end_stream=end_stream)

    async def read_stream(self, stream_id: int, size: int | None = None) -> bytes:
        """Read body bytes: see :meth:`H2Stream.read`."""
        return await self.stream(stream_id).read(size)

    async def send_trailers(self, stream_id: int, headers: HeaderInput) -> None:
        """End the stream with trailers: see :meth:`H2Stream.send_trailers`."""
        await self.stream(stream_id).send_trailers(headers)

    async def recv_trailers(self, stream_id: int) -> HeaderList:
        """Wait for the end of the body: see :meth:`H2Stream.recv_trailers`."""
        return await self.stream(stream_id).recv_trailers()

    async def end_stream(self, stream_id: int) -> None:
        """End this side of the stream: see :meth:`H2Stream.end`."""
        await self.stream(stream_id).end()

    def reset_stream(self, stream_id: int, error_code: int = ErrorCodes.CANCEL) -> None:
        """End the stream at once: see :meth:`H2Stream.reset`."""
        self.stream(stream_id).reset(error_code)

    async def push_stream(self, stream_id: int, headers: HeaderInput) -> int:
        """Promise a push and return the id of its stream: see :meth:`H2Stream.push`."""
        return (await self.stream(stream_id).push(headers)).id

    async def recv_push(self, stream_id: int) -> tuple[int, HeaderList] | None:
        """Wait for the next promise: see :meth:`H2Stream.recv_push`."""
        stream = await self.stream(stream_id).recv_push()
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
        self._check_usable()
        if self._urgencies is not None:
            return
        if self.client_side:
            self._conn.prioritize(stream_id, weight, parent, exclusive)
            self._flush_soon()
        self._tree.reprioritize(
            stream_id, parent, weight, exclusive, parent_open=parent in self._open_ids()
        )

    # --- the same, by handle ---------------------------------------------------------------

    def open_stream(
        self,
        headers: HeaderInput,
        *,
        end_stream: bool = False,
        priority: Priority | None = None,
    ) -> _Opening:
        """Open a stream as :meth:`start_request` does; await it, or ``async with`` it."""
        return _Opening(lambda: self._open_stream(headers, end_stream, priority))

    def __aiter__(self) -> Self:
        """Iterate over inbound streams, until the connection ends."""
        return self

    async def __anext__(self) -> H2Stream:
        try:
            return await self._accept()
        except AIOH2Exception:
            raise StopAsyncIteration from None

    async def serve(self, handler: StreamHandler) -> None:
        """Run ``await handler(stream)`` in a task for each inbound stream.

        Returns when the connection has ended and all handlers are done; cancelled, it cancels
        them. A handler that returns without ending its stream has it ended, with INTERNAL_ERROR
        if it never answered; one that raises has it reset with INTERNAL_ERROR, and logged; one
        whose stream the peer resets, or whose connection is lost, is cancelled. What a complete
        response leaves of the request is stopped with NO_ERROR (RFC 9113 section 8.1).
        """
        await self._stream_handlers.serve(self, handler)

    # --- the connection --------------------------------------------------------------------

    def set_handler(self, handler: ConnectedCallback) -> None:
        """Set what serves the connection: ``handler(protocol)``, called when it is ready.

        It may return a coroutine, a Task or Future, or None. That is cancelled when the
        connection is lost, also where it waits for that itself; when it returns or is cancelled
        otherwise, the connection shuts down gracefully; an exception in it is logged and closes
        the connection with INTERNAL_ERROR. Raises ``TypeError`` for what cannot be called, and
        ``ValueError`` where a handler is set already.
        """
        if not callable(handler):
            raise TypeError(f"handler must be callable, not {handler!r}")
        if self._callback is not None:
            raise ValueError("a handler is set already, and there can be only one")
        self._callback = handler
        if self._transport is not None and not self._over:
            self._handler.call(handler, self)

    async def wait_open(self) -> None:
        """Wait for the peer's SETTINGS; raise :class:`HandshakeError` when they do not come."""
        if self._close_reason is not None:
            raise self._close_reason.fresh()
        if self._peer_ready:
            return
        if self._opened is None:
            self._opened = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._opened)

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

    def update_settings(self, settings: Mapping[int, int]) -> None:
        """Send SETTINGS (RFC 9113 section 6.5); they hold once the peer acknowledges them.

        ``settings``: values from 0 to 2^32-1 by :class:`SettingCodes`, or by any other code from
        0 to 2^16-1. A peer that has not acknowledged them after ``open_timeout`` seconds is left
        with SETTINGS_TIMEOUT.

        Raises ``ValueError`` for a value that the RFC does not allow, and why the connection
        ended when it has.
        """
        self._check_usable()
        for code, value in settings.items():
            if not 0 <= operator.index(code) < 2**16 or not 0 <= operator.index(value) < 2**32:
                raise ValueError(f"setting {code} cannot be {value}")
        if not self.client_side and settings.get(SettingCodes.ENABLE_PUSH):
            raise ValueError("a server cannot set ENABLE_PUSH (RFC 9113 section 6.5.2)")
        if SettingCodes.INITIAL_WINDOW_SIZE in settings:
            # with what streams have grown by, it must not exceed what a window may be
            size = int(settings[SettingCodes.INITIAL_WINDOW_SIZE])
            dataclasses.replace(self.config, initial_window_size=size)
        # raises for values out of range, before anything changes
        Settings(client=self.client_side, initial_values=cast(Any, dict(settings)))
        self._conn.update_settings(dict(settings))
        self._watchdog.settings_sent()
        self._flush_soon()

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
        if 2 + len(of) + len(value) > self._conn.max_outbound_frame_size:
            raise ValueError("origin and field_value do not fit into a frame")
        if stream_id is not None:
            self._check_unanswered(self.stream(stream_id))
        self._conn.advertise_alternative_service(value, of or None, stream_id)
        self._flush_soon()

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
            if len(origin) > min(self._conn.max_outbound_frame_size - 2, 2**16 - 1):
                raise ValueError(f"an origin of {len(origin)} bytes does not fit into a frame")
        self._conn.send_origins(checked)
        self._flush_soon()

    def _check_serves(self) -> None:
        if self.client_side:
            raise NotSupported("only a server says what it, or another, serves")
        self._check_usable()

    def _check_unanswered(self, stream: H2Stream) -> None:
        if stream.failure is not None:
            raise stream.failure.fresh()
        if stream.has_started:
            raise StreamClosed(stream.id, "its response has started already")

    async def shutdown(self, grace: float | None = None) -> Drained:
        """Close gracefully; return what became of the streams in flight (RFC 9113 section 6.8).

        Announces the end, waits one PING round trip for what is on its way, and then up to
        ``grace`` seconds (None: ``close_timeout``) for open streams to end; what is left is
        aborted. Returns when the connection has closed; in a handler of :meth:`serve`, when
        all streams but its own have ended. Cancelling it lets the shutdown go on. A second call
        can make the time shorter, not longer.
        """
        check_grace(grace)
        if grace is None:
            grace = self.config.close_timeout
        own = current_stream.get()
        counted = set(self._open_ids())
        inside = own is not None and own.protocol is self and own.id in counted
        if own is not None and inside:
            counted.remove(own.id)
        tally = Tally(counted if not self._over else set())
        self._tallies.append(tally)
        self.begin_shutdown(grace)
        try:
            await tally.done
        finally:
            self._tallies.remove(tally)
        if not inside:
            await self.wait_closed()
        return tally.result

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
        return self._pings.rtt if self._pings is not None else None

    @property
    def available_slots(self) -> int:
        """Streams that could be opened now under the peer's limit; 0 before its SETTINGS."""
        return self._slots.available

    @property
    def waiting_requests(self) -> int:
        """Calls that wait for a slot or for the peer's SETTINGS."""
        return len(self._slots)

    @property
    def remote_settings(self) -> Mapping[SettingCodes | int, int]:
        """The peer's settings as they are now, which cannot be changed from here.

        What it has not sent has its first value (RFC 9113 section 6.5.2), or is not there where
        that is no limit.
        """
        known = set(SettingCodes)
        settings = self._conn.remote_settings.items()
        return MappingProxyType(
            {SettingCodes(code) if code in known else code: value for code, value in settings}
        )

    @property
    def stats(self) -> Stats:
        """Counts up to now, which do not change any more: ask again for later ones."""
        return Stats(
            bytes_received=self._bytes_received,
            bytes_sent=self._bytes_sent,
            streams_opened=self._streams_opened,
            streams_open=len(self._open_ids()),
            resets_received=self._resets_received,
            resets_sent=self._resets_sent,
            rtt=self.rtt,
        )

    @property
    def close_reason(self) -> AIOH2Exception | None:
        """Why the connection has ended; None while it has not."""
        return self._close_reason

    def _alive(self) -> Pings:
        self._check_usable()
        assert self._pings is not None
        return self._pings

    def _local_setting(self, code: SettingCodes) -> int:
        if not self._conn.was_acked:
            return self._initial_settings()[code]
        return self._conn.local_settings[code]
