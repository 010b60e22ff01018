"""What happens on one connection: transport callbacks, events, the streams, writing, the end.

No algorithms: what a stream does is in ``stream``, who sends when in ``sender``, what HTTP/2
allows in ``connection``. Only :meth:`Driver._flush` writes to the transport.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import operator
from collections import OrderedDict, deque
from collections.abc import Callable, KeysView
from typing import Any, ClassVar, Final, NamedTuple, cast

import h2.events as events
from h2.config import H2Configuration
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import Frame

from .config import Config
from .connection import (
    NO_RFC7540_PRIORITIES,
    Connection,
    PrefaceError,
    PriorityUpdateReceived,
    StreamFailed,
)
from .exceptions import (
    AIOH2Exception,
    ConnectionClosed,
    HandshakeError,
    NotSupported,
    StreamClosed,
    StreamReset,
    describe_code,
)
from .flow import Growth, ReceiveWindow
from .guards import BudgetExceeded
from .handlers import ConnectionHandler, StreamHandlers
from .headers import Fields, HeaderInput, HeaderList, Kind, decode, encode, prepare, with_field
from .pings import Pings
from .scheduler import Priority, TreeScheduler, UrgencyScheduler
from .sender import Sender
from .slots import Slots
from .stream import BlockedOn, H2Stream
from .tunnel import ReaderWriter, open_streams
from .watchdog import Watchdog

__all__ = ["Drained", "Driver"]

_connection_ids: Final = itertools.count(1)


class Drained(NamedTuple):
    """What became of the streams that were in flight when a shutdown began."""

    completed: int
    aborted: int


class Tally:
    """Counts what becomes of the streams of one shutdown."""

    def __init__(self, streams: set[int]) -> None:
        self._waiting = streams
        self._completed = 0
        self._aborted = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._check()

    def ended(self, stream_id: int, *, aborted: bool) -> None:
        if stream_id in self._waiting:
            self._waiting.discard(stream_id)
            self._completed += not aborted
            self._aborted += aborted
            self._check()

    def _check(self) -> None:
        if not self._waiting and not self.done.done():
            self.done.set_result(None)

    @property
    def result(self) -> Drained:
        return Drained(self._completed, self._aborted)


class _Log(logging.LoggerAdapter[logging.Logger]):
    """Begins each line with the connection's id."""

    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        return f"[{(self.extra or {})['connection']}] {msg}", kwargs


class Driver(asyncio.Protocol):
    """Drives an h2 connection over a transport, and keeps its streams.

    :class:`~aioh2.H2Protocol` is this, with what a user calls. The methods of the sections
    "for streams" and "for the watchdog" are for those, not for users.
    """

    #: Bytes that may be written for what a peer sends while it takes none of them; then nothing
    #: more is read. An honest peer that does not read runs out of window long before.
    UNREAD: Final = 4_096
    #: Shares of a tick that are still worked off once the transport is gone.
    LAST_SHARES: Final = 16
    #: Seconds, and bytes, for which input is dropped after a server's last GOAWAY, and after that
    #: of an error: closing a socket that input comes to takes from the peer what it has not read.
    LINGER_SECONDS: Final = 1
    LINGER_BYTES: Final = 16_777_216

    def __init__(self, client_side: bool, *, config: Config | None = None, **options: Any) -> None:
        if not isinstance(client_side, bool):
            raise TypeError(f"client_side must be True or False, not {client_side!r}")
        #: Whether this is the client's end.
        self.client_side = client_side
        #: The options of this connection.
        self.config = Config.of(config, options)
        #: Seconds without a received byte after which ``wait_functional`` sends a PING.
        self._functional_timeout: float = self.config.functional_timeout
        #: ``:scheme`` and ``:authority`` of requests that have none; set from the transport.
        self.scheme = "http"
        self.authority: str | None = None

        # What HTTP/2 knows of the connection.
        self._conn = Connection(
            H2Configuration(
                client_side=client_side,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            ),
            self.config,
        )
        # Who sends next: the tree of RFC 7540, until anything says that it is RFC 9218.
        self._tree = TreeScheduler()
        self._urgencies: UrgencyScheduler | None = None
        self._sender = Sender(self._conn, self._tree, self._flush, self._body_framed)
        # Credit for the connection goes back on receipt.
        self._window = ReceiveWindow(self.config.connection_window_size)
        # How windows of streams grow; None: they do not.
        self._growth: Growth | None = None
        if self.config.max_window_size is not None:
            self._growth = Growth(self.config.max_window_size, self.config.connection_window_size)

        # Streams that are open, and those that have ended and can still be read, oldest first.
        self._streams: dict[int, H2Stream] = {}
        self._ended: dict[int, H2Stream] = {}
        # Whether the oldest of these are forgotten in the next tick.
        self._forgetting = False
        # Inbound streams that nobody has taken, and who waits for one.
        self._inbound: OrderedDict[int, H2Stream] = OrderedDict()
        self._accepting: deque[asyncio.Future[None]] = deque()
        # Requests whose HEADERS were not handed to the transport yet.
        self._unwritten: list[H2Stream] = []
        # Streams that were reset while somebody still works on them: see Connection.held_streams.
        self._held: set[H2Stream] = set()

        # Who waits to open a stream.
        self._slots = Slots(self._free_slots)
        # Whether the peer's SETTINGS have come, and who waits for them.
        self._peer_ready = False
        self._opened: asyncio.Future[None] | None = None

        # The transport, between connection_made and connection_lost.
        self._transport: asyncio.Transport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._flush_handle: asyncio.Handle | None = None
        # What goes on with input that was more than a share, what came after that, and whether
        # the peer has ended its side then.
        self._work_handle: asyncio.Handle | None = None
        self._backlog: list[bytes] = []
        self._ended_in_backlog = False
        # Whether the transport is to read, and bytes that wait for a peer that does not.
        self._reading = True
        self._unread = 0
        # What came before connection_made.
        self._early = b""
        # Signs of life, from connection_made on.
        self._pings: Pings | None = None
        # What may not take too long.
        self._watchdog = Watchdog(self.config, self)
        # The PING of a shutdown's round trip.
        self._shutdown_ping: bytes | None = None

        # Timers: opening, the grace time of a shutdown, the end of closing.
        self._open_timer: asyncio.TimerHandle | None = None
        self._grace_timer: asyncio.TimerHandle | None = None
        self._abort_timer: asyncio.TimerHandle | None = None
        # When the last two fire: not every loop's handle can say that of a time that has come.
        self._grace_end = 0.0
        self._abort_time = 0.0
        # The same before it, while input is dropped, and how many more bytes may be.
        self._linger_timer: asyncio.TimerHandle | None = None
        self._lingering = 0
        # When the transport has to be gone, once it was decided to close.
        self._close_deadline: float | None = None

        # Whether a GOAWAY was sent or received: no new streams; and who waits for that.
        self._going_away = False
        self._closing_waiters: list[asyncio.Future[None]] = []
        # Whether to close once no stream is left.
        self._draining = False
        # Shutdowns that count streams.
        self._tallies: list[Tally] = []
        # The GOAWAY that the peer has sent.
        self._goaway: ConnectionClosed | None = None
        # Whether events of one segment are being handled.
        self._dispatching = False
        # Whether nothing is sent or received any more.
        self._over = False
        self._close_reason: AIOH2Exception | None = None
        # Who waits for connection_lost.
        self._lost = False
        self._lost_waiters: list[asyncio.Future[None]] = []

        # What serves the connection.
        self._callback: Callable[[Any], Any] | None = None
        # Where a server keeps its live connections.
        self._registry: set[Any] | None = None
        self._is_wanted: Callable[[], bool] = lambda: True

        # Counters for stats.
        self._bytes_received = 0
        self._bytes_sent = 0
        self._streams_opened = 0
        self._resets_received = 0
        self._resets_sent = 0

        side = "client" if client_side else "server"
        name = f"{side[0]}{next(_connection_ids)}"
        self._log = _Log(logging.getLogger(f"aioh2.{side}"), {"connection": name})
        # What runs the application's handlers, of the connection and of its streams.
        self._handler = ConnectionHandler(
            self._log, returned=self._handler_returned, failed=self._handler_failed
        )
        self._stream_handlers = StreamHandlers(self._log, self._release)
        if self._log.isEnabledFor(logging.DEBUG):
            self._conn.frame_log = self._log_frame

    def __repr__(self) -> str:
        state = "closed" if self._over else "closing" if self.is_closing else "open"
        return f"<{type(self).__name__} {'client' if self.client_side else 'server'} {state}>"

    # --- transport callbacks -----------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: check ALPN, send preface and SETTINGS, call the handler."""
        if self._over or not self._is_wanted():
            # it was closed before it was connected, or its server meanwhile
            self.abort()
            cast(asyncio.Transport, transport).abort()
            return
        self._transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()
        self._pings = Pings(self.config, send=self._send_ping, dead=self._keepalive_failed)
        if self._registry is not None:
            self._registry.add(self)
        self._log.debug("= connected to %s", self.get_extra_info("peername"))
        self._name_origin()
        problem = self._check_alpn()
        if problem:
            self._fail_handshake(problem)
            return
        self._conn.initiate(self._initial_settings(), window_size=self._window.size)
        if self.config.open_timeout is not None:
            self._open_timer = self._loop.call_later(self.config.open_timeout, self._open_expired)
        self._watchdog.start(ages=not self.client_side)
        self._flush()
        if self._callback is not None:
            self._handler.call(self._callback, self)
        if self._early:
            early, self._early = self._early, b""
            self.data_received(early)

    def data_received(self, data: bytes) -> None:
        """Take bytes; nothing in them makes an exception leave from here."""
        if self._over:
            self._drop(len(data))
            return
        if self._pings is None:
            # start_tls() hands on what comes before its caller can give its transport to us
            self._early += data
            return
        self._conn.guards.now = self._pings.received()
        self._bytes_received += len(data)
        if self._work_handle is None:
            self._work_off(data)
        else:
            self._backlog.append(data)
            self._pace_reading()

    def _work_off(self, data: bytes) -> None:
        """Work off a share of what has come; the rest in the next tick, after others' shares."""
        held = self._conn.pending if self.client_side and not self._sender.writable else None
        received = self._conn.receive(data)
        if held is not None:
            # requests do not count: a server may write before it reads them
            self._unread += self._conn.pending - held
        self._dispatching = True
        try:
            for event in received:
                self.event_received(event)
                if self._over:
                    return
        except Exception:
            self._log.exception("event_received failed")
            self.close_connection(ErrorCodes.INTERNAL_ERROR)
            return
        finally:
            self._dispatching = False
        if self._conn.failure is not None:
            self._fail_connection()
            return
        mid_frame = self._conn.mid_frame and self._reading
        self._watchdog.received(self._conn.units_received, mid_frame)
        self._settle()
        if self._conn.has_more or self._backlog or not self._reading or self._unread:
            self._go_on_soon()

    def _go_on_soon(self) -> None:
        if not self._over and (self._conn.has_more or self._backlog):
            assert self._loop is not None
            self._work_handle = self._loop.call_soon(self._go_on)
        self._pace_reading()

    def _go_on(self) -> None:
        self._work_handle = None
        data = b"" if self._conn.has_more else self._backlog.pop(0)
        self._work_off(data)
        if self._ended_in_backlog and self._work_handle is None and self._transport is not None:
            self._transport.close()

    def _pace_reading(self) -> None:
        """Read on, unless a whole read waits to be worked off, or replies to be read."""
        reading = not self._backlog and self._unread <= self.UNREAD
        transport = self._transport
        if reading is self._reading or transport is None or transport.is_closing():
            return
        self._reading = reading
        try:
            if reading:
                self._watchdog.received(self._conn.units_received, self._conn.mid_frame)
                transport.resume_reading()
            else:
                self._watchdog.paused()
                transport.pause_reading()
        except (AttributeError, NotImplementedError):
            # a transport of somebody's own that cannot: input waits in the backlog
            pass

    def _drop(self, count: int) -> None:
        """Input has come after the end."""
        if self._lingering:
            self._lingering -= count
            if self._lingering <= 0:
                self._stop_lingering()

    def eof_received(self) -> bool:
        """The peer has closed its side: what came before counts, then everything ends.

        At the latest after ``close_timeout``, where what was written before is not taken.
        """
        if self._transport is not None:
            self._bound_closing()
        # with TLS there is no way to stay half open
        plain = self.get_extra_info("ssl_object") is None
        self._ended_in_backlog = self._work_handle is not None and plain
        return self._ended_in_backlog

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone: everybody who waits is told."""
        for _ in range(self.LAST_SHARES):
            if self._work_handle is not None:
                self._work_handle.cancel()
                self._go_on()
        reason: AIOH2Exception
        if self._goaway is not None:
            reason = self._goaway.for_stream(retryable=False)
        elif not self._peer_ready and self.client_side:
            reason = HandshakeError(f"the peer closed the connection before its SETTINGS{_of(exc)}")
        elif self._going_away and not self._streams and exc is None:
            # it closes a little earlier than this side would have
            reason = ConnectionClosed(ErrorCodes.NO_ERROR, initiator="local")
        else:
            reason = ConnectionClosed(reason=str(exc) if exc else "")
        reason.__cause__ = exc
        self._log.debug("= lost: %s", exc or "closed")
        self._end(reason)
        self._lost = True
        self._transport = None
        for timer in (self._grace_timer, self._abort_timer, self._linger_timer):
            if timer is not None:
                timer.cancel()
        if self._registry is not None:
            self._registry.discard(self)
        self._handler.cancel()
        _wake(self._lost_waiters)

    def pause_writing(self) -> None:
        """The transport's buffer is full: bodies wait."""
        self._sender.writable = False

    def resume_writing(self) -> None:
        """The transport takes writes again."""
        self._sender.writable = True
        self._sender.written()
        self._unread = 0
        self._pace_reading()
        self._flush_soon()

    # --- events ------------------------------------------------------------------------

    def event_received(self, event: events.Event) -> None:
        """Handle one of h2's events; override it to watch them, and call ``super()``."""
        handler = self._HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event)

    def _request_received(self, event: events.RequestReceived) -> None:
        stream = self._add_stream(event.stream_id, self._decode(event.headers))
        self._inbound[stream.id] = stream
        field = self._conn.priority_field(stream.id)
        if field is not None:
            self.by_urgency().prioritize(stream.id, Priority.parse(field), initial=True)
        if self._accepting:
            _wake_one(self._accepting)

    def _response_received(self, event: events.ResponseReceived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            stream.feed_response(self._decode(event.headers))

    def _informational_received(self, event: events.InformationalResponseReceived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            stream.feed_informational(self._decode(event.headers))

    def _trailers_received(self, event: events.TrailersReceived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            stream.feed_trailers(self._decode(event.headers))

    def _data_received(self, event: events.DataReceived) -> None:
        length = event.flow_controlled_length
        self._credit_connection(length)
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            stream.feed_data(event.data, length)

    def _stream_ended(self, event: events.StreamEnded) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            stream.feed_end()

    def _stream_reset(self, event: events.StreamReset) -> None:
        stream = self._streams.get(event.stream_id)
        if event.remote_reset:
            self._resets_received += 1
        else:
            self._resets_sent += 1
        if stream is None:
            return
        initiator: Any = "peer" if event.remote_reset else "local"
        reason = event.reason if isinstance(event, StreamFailed) else ""
        code = describe_code(event.error_code)
        self._log.info("stream %d was reset by %s: %s %s", stream.id, initiator, code, reason)
        self._fail_stream(
            stream, StreamReset(stream.id, int(event.error_code), initiator, reason=reason)
        )

    def _push_received(self, event: events.PushedStreamReceived) -> None:
        headers = self._decode(event.headers)
        stream = self._add_stream(event.pushed_stream_id or 0, headers, local_ended=True)
        parent = self._streams.get(event.parent_stream_id or 0)
        if parent is None or parent.failure is not None:
            stream.reset()
        else:
            parent.feed_push(stream)

    def _window_updated(self, event: events.WindowUpdated) -> None:
        if event.stream_id:
            self._sender.window_opened(event.stream_id)

    def _priority_updated(self, event: events.PriorityUpdated) -> None:
        if self._urgencies is not None:
            # RFC 9218 decides: signals of RFC 7540 are ignored
            return
        parent = event.depends_on or 0
        self._tree.reprioritize(
            event.stream_id or 0,
            parent,
            event.weight or 16,
            bool(event.exclusive),
            parent_open=parent in self._streams,
        )

    def _priority_update_received(self, event: PriorityUpdateReceived) -> None:
        self.by_urgency().prioritize(event.stream_id, Priority.parse(event.field))

    def by_urgency(self) -> UrgencyScheduler:
        """From now on, RFC 9218 decides who sends next."""
        if self._urgencies is None:
            self._urgencies = UrgencyScheduler(self._streams)
            self._sender.order_by(self._urgencies)
        return self._urgencies

    def _settings_changed(self, event: events.RemoteSettingsChanged) -> None:
        if SettingCodes.INITIAL_WINDOW_SIZE in event.changed_settings:
            self._sender.windows_changed()
        if self._conn.remote_settings.get(NO_RFC7540_PRIORITIES):
            self.by_urgency()
        if self._peer_ready:
            return
        self._peer_ready = True
        if self._growth is not None and self._pings is not None:
            # before bodies come: the ACK would queue behind them, and the path seem longer
            self._pings.path_rtt()
        if self._open_timer is not None:
            self._open_timer.cancel()
        if self._opened is not None and not self._opened.done():
            self._opened.set_result(None)

    def _settings_acked(self, event: events.SettingsAcknowledged) -> None:
        self._watchdog.settings_acked()
        change = event.changed_settings.get(SettingCodes.INITIAL_WINDOW_SIZE)
        if change is not None:
            for stream in self._streams.values():
                stream.resize_window(change.new_value)

    def _ping_acked(self, event: events.PingAckReceived) -> None:
        assert self._pings is not None
        self._pings.acked(event.ping_data)
        if event.ping_data == self._shutdown_ping:
            self._shutdown_ping = None
            self._drain()

    def _goaway_received(self, event: events.ConnectionTerminated) -> None:
        last = event.last_stream_id or 0
        goaway = ConnectionClosed(int(event.error_code or 0), last, event.additional_data, "peer")
        self._log.info("%s", goaway)
        self._goaway = goaway
        self._draining = True
        self._begin_closing()
        self._slots.fail(goaway.for_stream(retryable=True))
        for stream in list(self._streams.values()):
            if stream.id > last and self._is_ours(stream.id):
                self._fail_stream(stream, goaway.for_stream(retryable=True))
                self._conn.forget(stream.id)

    _HANDLERS: ClassVar[dict[type[events.Event], Callable[[Any, Any], None]]] = {
        events.RequestReceived: _request_received,
        events.ResponseReceived: _response_received,
        events.InformationalResponseReceived: _informational_received,
        events.TrailersReceived: _trailers_received,
        events.DataReceived: _data_received,
        events.StreamEnded: _stream_ended,
        events.StreamReset: _stream_reset,
        StreamFailed: _stream_reset,
        events.PushedStreamReceived: _push_received,
        events.WindowUpdated: _window_updated,
        events.PriorityUpdated: _priority_updated,
        PriorityUpdateReceived: _priority_update_received,
        events.RemoteSettingsChanged: _settings_changed,
        events.SettingsAcknowledged: _settings_acked,
        events.PingAckReceived: _ping_acked,
        events.ConnectionTerminated: _goaway_received,
    }

    def stream(self, stream_id: int) -> H2Stream:
        """Return the handle of a stream that is open, or that has ended not long ago.

        Raises :class:`StreamClosed` for any other.
        """
        stream = (
            self._streams.get(stream_id)
            or self._ended.get(stream_id)
            or self._inbound.get(stream_id)
        )
        if stream is None:
            raise StreamClosed(stream_id, self._why_unknown(stream_id))
        return stream

    # --- the connection ----------------------------------------------------------------

    def register(self, live: set[Any], is_open: Callable[[], bool]) -> None:
        """Be in ``live`` from connection_made to connection_lost.

        ``is_open``: whether its owner still wants the connection when it is made.
        """
        self._registry = live
        self._is_wanted = is_open

    def close_connection(
        self, error_code: int = ErrorCodes.NO_ERROR, debug_data: bytes | None = None
    ) -> None:
        """Close at once: GOAWAY, and everything that is in flight fails (RFC 9113 section 5.4.1).

        What was framed is still written, for at most ``close_timeout``. :meth:`wait_closed`
        waits for the end.
        """
        if not 0 <= operator.index(error_code) < 2**32:
            raise ValueError(f"error_code must be from 0 to 2**32 - 1, not {error_code}")
        if debug_data is not None and not isinstance(debug_data, bytes):
            raise TypeError(f"debug_data must be bytes or None, not {debug_data!r}")
        if self._over:
            return
        if self._transport is None:
            self._end(ConnectionClosed(error_code, None, debug_data, "local"))
            return
        last = self._conn.go_away(error_code, debug_data or b"")
        reason = ConnectionClosed(error_code, last, debug_data, "local")
        self._close(reason, linger=error_code != ErrorCodes.NO_ERROR)

    def abort(self) -> None:
        """End at once and write nothing more, not even what was framed."""
        if not self._over:
            self._abort(ConnectionClosed(initiator="local", reason="it was aborted"))

    async def wait_closing(self) -> None:
        """Wait until :attr:`is_closing`: no new stream can start, open ones go on to their end.

        For handlers that would go on for as long as the connection does, such as event streams:
        they end by themselves when it drains. Cancelling it changes nothing.
        """
        if not self.is_closing:
            await _until_woken(self._closing_waiters)

    async def wait_closed(self) -> None:
        """Wait until the transport is gone. Cancelling it changes nothing."""
        if not self._lost and not (self._over and self._transport is None):
            await _until_woken(self._lost_waiters)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the transport's information ``name``: see ``asyncio.BaseTransport``."""
        if self._transport is None:
            return default
        return self._transport.get_extra_info(name, default)

    @property
    def is_closing(self) -> bool:
        """Whether no new stream can start: GOAWAY sent or received, or the transport closing."""
        if self._over or self._going_away:
            return True
        return self._transport is not None and self._transport.is_closing()

    # --- for streams (see stream.Owner) ------------------------------------------------

    def check_size(self, size: int) -> None:
        """Raise for a header list that the peer has said it does not take (section 6.5.2).

        It would answer by ending the whole connection, as its decoder stops half way.
        """
        limit = self._conn.max_list_size
        if limit is not None and size > limit:
            raise NotSupported(
                f"the headers are {size} bytes, where the peer takes {limit} "
                "(SETTINGS_MAX_HEADER_LIST_SIZE)"
            )

    def send_headers(self, stream_id: int, fields: Fields, end_stream: bool) -> None:
        """Frame a header section now."""
        self._conn.send_headers(stream_id, fields, end_stream)
        if end_stream:
            self._settle()
        else:
            self._flush_soon()

    def send_body(
        self, stream_id: int, data: memoryview, end_stream: bool
    ) -> asyncio.Future[None] | None:
        """Frame ``data``, or queue it and return what to wait for."""
        future = self._sender.send(stream_id, data, end_stream)
        if future is not None:
            self._watchdog.queued(stream_id)
        if end_stream:
            self._settle()
        else:
            self._flush_soon()
        return future

    def send_last(self, stream_id: int, trailers: Fields) -> asyncio.Future[None] | None:
        """Frame the end of the stream after all queued data."""
        future = self._sender.send_last(stream_id, trailers)
        self._settle()
        return future

    def withdraw(self, stream_id: int, future: asyncio.Future[None]) -> bool:
        """Take back what is not framed."""
        taken = self._sender.withdraw(stream_id, future)
        self._watchdog.queued(stream_id)
        self._settle()
        return taken

    def has_queued(self, stream_id: int) -> bool:
        """Whether anything waits to be framed."""
        return self._sender.has_queued(stream_id)

    def credit(self, stream_id: int, count: int, window: ReceiveWindow) -> None:
        """Give window back to the peer, and more where it is to grow."""
        if self._growth is not None:
            count += self._grow(self._growth, window)
        self._conn.credit(count, stream_id)
        self._flush_soon()

    def _grow(self, growth: Growth, window: ReceiveWindow) -> int:
        assert self._pings is not None
        rtt = self._pings.path_rtt() if growth.may_grow(window) else None
        return growth.credited(window, self._now(), rtt)

    def body_waits(self, stream_id: int, waits: bool) -> None:
        """A reader begins, or ends, to wait for body bytes."""
        if self.client_side:
            return
        if waits:
            self._watchdog.reader_waits(stream_id)
        else:
            self._watchdog.reader_done(stream_id)

    def send_reset(self, error: StreamReset) -> None:
        """Frame RST_STREAM; who waits to send gets ``error``."""
        self._resets_sent += 1
        self._sender.drop(error.stream_id, error)
        if self._conn.is_alive(error.stream_id):
            self._conn.reset_stream(error.stream_id, error.error_code)
        self._settle()

    def set_priority(self, stream_id: int, priority: Priority) -> None:
        """Give a stream another place; see :meth:`H2Stream.set_priority`."""
        field = _field_of(priority)
        if self.stream(stream_id).is_over:
            return
        self._check_usable()
        if self.client_side:
            self._conn.update_priority(stream_id, field.encode("ascii"))
        self.by_urgency().prioritize(stream_id, priority)
        self._flush_soon()

    def blocked_on(self, stream_id: int) -> BlockedOn | None:
        """Why queued data waits."""
        return self._sender.blocked_on(stream_id)

    def open_streams(self, stream: H2Stream) -> ReaderWriter:
        """Return asyncio streams over the bytes of a stream."""
        return open_streams(stream)

    async def promise(self, stream_id: int, headers: HeaderInput) -> H2Stream:
        """Promise a push on a stream of the client's."""
        parent = self.stream(stream_id)
        encoding = self.config.header_encoding
        asked = dict(encode(parent.request_headers, encoding))
        authority = asked.get(b":authority", asked.get(b"host", b""))
        origin = (
            asked.get(b":scheme", b"http").decode("ascii"),
            authority.decode("utf-8", "surrogateescape"),
        )
        fields, facts = prepare(headers, Kind.REQUEST, encoding, origin=origin)
        if facts.method not in (b"GET", b"HEAD"):
            raise ValueError(f"only GET and HEAD can be pushed, not {facts.method!r}")
        if self.client_side:
            raise NotSupported("a client cannot push")
        await self._slots.acquire(functools.partial(self._check_pushes, parent))
        try:
            promised = self._next_stream_id()
            self._conn.push_stream(stream_id, promised, fields)
            stream = self._add_stream(promised, self._decode(fields), remote_ended=True)
        finally:
            self._settle()
        return stream

    def _check_pushes(self, parent: H2Stream) -> None:
        self._check_opens()
        if not self._conn.remote_settings.enable_push:
            raise NotSupported("the peer does not want pushes (SETTINGS_ENABLE_PUSH is 0)")
        if parent.id % 2 == 0:
            raise StreamClosed(parent.id, "it was pushed, and pushes promise none")
        if parent.failure is not None:
            raise parent.failure.fresh()
        if parent.has_ended:
            raise StreamClosed(parent.id, "this side has ended it already")

    # --- streams -----------------------------------------------------------------------

    async def _open_stream(
        self, headers: HeaderInput, end_stream: bool, priority: Priority | None
    ) -> H2Stream:
        if not self.client_side:
            raise NotSupported("a server cannot start requests; push_stream promises them")
        if priority is not None:
            headers = with_field(headers, "priority", _field_of(priority))
        origin = (self.scheme, self.authority)
        fields, facts = prepare(headers, Kind.REQUEST, self.config.header_encoding, origin=origin)
        await self._slots.acquire(self._check_opens)
        try:
            if facts.protocol and not self._conn.remote_settings.enable_connect_protocol:
                raise NotSupported("the peer does not offer extended CONNECT (RFC 8441)")
            self.check_size(facts.size)
            stream_id = self._next_stream_id()
            self._conn.send_headers(stream_id, fields, end_stream)
            stream = self._add_stream(stream_id, self._decode(fields), local_ended=end_stream)
            self._unwritten.append(stream)
            if priority is not None:
                self.by_urgency().prioritize(stream_id, priority, initial=True)
        finally:
            # a slot that was not taken goes to the next
            self._settle()
        return stream

    def _next_stream_id(self) -> int:
        if self._conn.highest_outbound_stream_id >= self._conn.HIGHEST_ALLOWED_STREAM_ID - 1:
            raise ConnectionClosed(
                ErrorCodes.NO_ERROR,
                initiator="local",
                reason="its stream ids are used up",
                retryable=True,
            )
        return self._conn.get_next_available_stream_id()

    def _add_stream(self, stream_id: int, headers: HeaderList, **ended: bool) -> H2Stream:
        stream = H2Stream(
            stream_id,
            self,
            headers,
            window_size=self._conn.receive_window_size,
            encoding=self.config.header_encoding,
            **ended,
        )
        self._streams[stream_id] = stream
        self._streams_opened += 1
        self._watchdog.busy()
        return stream

    def _open_ids(self) -> KeysView[int]:
        return self._streams.keys()

    def _decode(self, fields: Any) -> HeaderList:
        return decode(fields, self.config.header_encoding)

    def _is_ours(self, stream_id: int) -> bool:
        return stream_id % 2 == self.client_side

    def _why_unknown(self, stream_id: int) -> str:
        newest = (
            self._conn.highest_outbound_stream_id
            if self._is_ours(stream_id)
            else self._conn.highest_inbound_stream_id
        )
        if not 0 < stream_id <= newest:
            return "there has never been such a stream"
        return f"it has ended, and {self.config.concurrency} newer streams have ended since"

    async def _accept(self) -> H2Stream:
        while not self._inbound:
            if self._over:
                assert self._close_reason is not None
                raise self._close_reason.fresh()
            future = asyncio.get_running_loop().create_future()
            self._accepting.append(future)
            try:
                await future
            except asyncio.CancelledError:
                if future in self._accepting:
                    self._accepting.remove(future)
                elif self._inbound:
                    _wake_one(self._accepting)
                raise
        stream = self.take_inbound()
        assert stream is not None
        return stream

    def take_inbound(self) -> H2Stream | None:
        """Return the next inbound stream that nobody has taken, None when there is none."""
        if not self._inbound:
            return None
        _, stream = self._inbound.popitem(last=False)
        if stream.id not in self._streams:
            self._release(stream)
            self._remember(stream)
        return stream

    def _fail_stream(self, stream: H2Stream, error: AIOH2Exception) -> None:
        self._sender.drop(stream.id, error)
        stream.fail(error)
        self._stream_handlers.cancel(stream)

    def _settle(self) -> None:
        """Draw the consequences of what has just been received or sent."""
        if self._dispatching:
            # an end must not be settled before the events that go before it
            return
        self._credit_connection(self._conn.take_discarded())
        closed = self._conn.take_closed()
        if closed:
            self._retire_all(closed)
        if self._slots.waiting:
            if not self.client_side:
                # pushes, whose parents may have ended
                self._slots.recheck()
            self._slots.grant()
        if self._draining and not self._streams and not self._over:
            self._close_drained()
        elif self._flush_handle is None and (self._conn.pending or self._sender.has_work):
            self._flush_soon()

    def _retire_all(self, closed: list[int]) -> None:
        for stream_id in closed:
            stream = self._streams.pop(stream_id, None)
            if stream is not None:
                self._retire(stream, aborted=False)
        if not self._streams:
            self._watchdog.idle()

    def _retire(self, stream: H2Stream, *, aborted: bool) -> None:
        self._sender.drop(stream.id, stream.failure)
        self._watchdog.forget(stream.id)
        if self._growth is not None:
            self._growth.ended(stream.window)
        for tally in self._tallies:
            tally.ended(stream.id, aborted=aborted)
        if stream.id in self._inbound:
            self._hold(stream)
        else:
            if stream.failure is not None and stream in self._stream_handlers:
                self._hold(stream)
            self._remember(stream)

    def _remember(self, stream: H2Stream) -> None:
        self._ended[stream.id] = stream
        crowded = len(self._ended) > self.config.concurrency
        if crowded and not self._forgetting and self._loop is not None:
            # not at once: who was woken by the end of the oldest gets to it first
            self._forgetting = True
            self._loop.call_soon(self._forget_oldest)

    def _forget_oldest(self) -> None:
        self._forgetting = False
        while len(self._ended) > self.config.concurrency:
            stream = self._ended.pop(next(iter(self._ended)))
            if self._growth is not None:
                self._growth.forgotten(stream.window)

    def _hold(self, stream: H2Stream) -> None:
        """Keep the stream's place under our limit while somebody works for it."""
        self._held.add(stream)
        self._conn.held_streams = len(self._held)

    def _release(self, stream: H2Stream) -> None:
        self._held.discard(stream)
        self._conn.held_streams = len(self._held)

    def _credit_connection(self, count: int) -> None:
        if count:
            credit = self._window.passed(count)
            if credit:
                self._conn.credit(credit)

    def _free_slots(self) -> int:
        if not self._peer_ready or self.is_closing:
            return 0
        return self._conn.remote_settings.max_concurrent_streams - self._conn.outbound_streams

    # --- writing -----------------------------------------------------------------------

    def _body_framed(self, stream_id: int) -> None:
        self._watchdog.framed(stream_id)

    def _flush_soon(self) -> None:
        if self._flush_handle is None and self._loop is not None and not self._over:
            self._flush_handle = self._loop.call_soon(self._end_tick)

    def _end_tick(self) -> None:
        """Frame what may go, write it, and see what has changed by that."""
        self._flush_handle = None
        if self._over:
            return
        self._sender.run()
        self._sender.written()
        self._settle()

    def _flush(self) -> None:
        """Write what was framed: the only place that does, once in a tick, and for a full share."""
        assert self._transport is not None
        data = self._conn.data_to_send()
        if data and not self._transport.is_closing():
            self._bytes_sent += len(data)
            self._transport.write(data)
            self._unwritten.clear()
            self._watchdog.written()
            if not self._sender.writable and not self.client_side:
                self._unread += len(data)
                self._pace_reading()

    # --- health ------------------------------------------------------------------------

    def _now(self) -> float:
        assert self._loop is not None
        return self._loop.time()

    def _send_ping(self, payload: bytes) -> None:
        self._conn.ping(payload)
        self._flush_soon()

    def _keepalive_failed(self) -> None:
        limit = self.config.keepalive_timeout
        self._abort(ConnectionClosed(reason=f"no sign of life for {limit} s after a PING"))

    def _log_frame(self, direction: str, frame: Frame) -> None:
        self._log.debug("%s %r", direction, frame)

    # --- for the watchdog (see watchdog.Watched) ---------------------------------------

    def bytes_taken(self) -> tuple[int, int]:
        """Return how many bytes the transport has been given, and how many it still holds."""
        assert self._transport is not None
        try:
            unsent = self._transport.get_write_buffer_size()
        except (AttributeError, NotImplementedError):
            # a transport of somebody's own that does not count: pause_writing tells enough
            unsent = 0 if self._sender.writable else 1
        return self._bytes_sent, unsent

    def close_for(self, error_code: ErrorCodes, reason: str) -> None:
        """Close with GOAWAY."""
        self._log.info("closing: %s", reason)
        last = self._conn.go_away(error_code)
        self._close(ConnectionClosed(error_code, last, None, "local", reason=reason), linger=True)

    def reset_for(self, stream_id: int, reason: str) -> None:
        """Reset one stream."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        self._log.info("stream %d is reset: %s", stream_id, reason)
        error = StreamReset(stream_id, ErrorCodes.CANCEL, "local", reason=reason)
        stream.fail(error)
        self.send_reset(error)

    def abort_for(self, reason: str) -> None:
        """Abort the transport."""
        self._abort(ConnectionClosed(reason=reason))

    # --- opening -----------------------------------------------------------------------

    def _initial_settings(self) -> dict[SettingCodes, int]:
        config = self.config
        settings = {
            SettingCodes.HEADER_TABLE_SIZE: config.header_table_size,
            SettingCodes.MAX_CONCURRENT_STREAMS: config.concurrency,
            SettingCodes.INITIAL_WINDOW_SIZE: config.initial_window_size,
            SettingCodes.MAX_FRAME_SIZE: config.max_frame_size,
            SettingCodes.MAX_HEADER_LIST_SIZE: config.max_header_list_size,
        }
        if self.client_side:
            settings[SettingCodes.ENABLE_PUSH] = int(config.enable_push)
        elif config.enable_connect_protocol:
            settings[SettingCodes.ENABLE_CONNECT_PROTOCOL] = 1
        return settings

    def _name_origin(self) -> None:
        """Learn ``:scheme`` and ``:authority`` from the transport, where nobody has set them."""
        if self.get_extra_info("ssl_object") is not None:
            self.scheme = "https"
        peer = self.get_extra_info("peername")
        if self.authority is not None:
            return
        if isinstance(peer, tuple) and len(peer) >= 2:
            host = f"[{peer[0]}]" if ":" in str(peer[0]) else str(peer[0])
            self.authority = f"{host}:{peer[1]}"
        else:
            self.authority = "localhost"

    def _check_alpn(self) -> str | None:
        """Say what is wrong with the protocol that TLS has chosen (RFC 9113 section 3.2)."""
        tls = self.get_extra_info("ssl_object")
        if tls is None:
            return None
        chosen = tls.selected_alpn_protocol()
        if chosen == "h2" or not isinstance(chosen, str | None):
            # agreed, or a transport of somebody's own that answers any question
            return None
        side = "server" if self.client_side else "client"
        if chosen is None:
            return f"the {side} has not agreed on ALPN 'h2': it chose no protocol"
        return f"TLS has agreed on ALPN {chosen!r}, not 'h2'"

    def _open_expired(self) -> None:
        came = "no SETTINGS" if self._bytes_received else "nothing"
        self._conn.go_away(ErrorCodes.SETTINGS_TIMEOUT)
        self._fail_handshake(f"the peer sent {came} for {self.config.open_timeout} s")

    def _fail_handshake(self, problem: str) -> None:
        self._log.info("no HTTP/2: %s", problem)
        self._close_deadline = self._now()
        self._close(HandshakeError(problem))

    def _handler_returned(self) -> None:
        self.begin_shutdown(self.config.close_timeout)

    def _handler_failed(self) -> None:
        self.close_connection(ErrorCodes.INTERNAL_ERROR)

    # --- ending ------------------------------------------------------------------------

    def _check_opens(self) -> None:
        self._check_usable(new_stream=True)

    def _check_usable(self, *, new_stream: bool = False) -> None:
        """Raise why nothing can be sent; with ``new_stream``, why no stream can start."""
        if self._transport is None and self._close_reason is None:
            raise ConnectionClosed(reason="there is no connection yet", retryable=True)
        reason = self._close_reason or (self._goaway if new_stream else None)
        if reason is None and new_stream and self.is_closing:
            reason = ConnectionClosed(ErrorCodes.NO_ERROR, initiator="local", reason="it closes")
        if isinstance(reason, ConnectionClosed):
            raise reason.for_stream(retryable=new_stream)
        if reason is not None:
            raise reason.fresh()

    def _fail_connection(self) -> None:
        """What the peer sent has broken a rule of the connection: GOAWAY is queued already."""
        failure = self._conn.failure
        assert failure is not None
        self._log.info("the peer broke the protocol: %s", failure)
        if isinstance(failure, PrefaceError):
            self._close(HandshakeError(str(failure)), linger=True)
            return
        code, last = int(failure.error_code), self._conn.highest_inbound_stream_id
        debug = failure.budget.encode() if isinstance(failure, BudgetExceeded) else None
        reason = ConnectionClosed(code, last, debug, "local", reason=str(failure))
        self._close(reason, linger=True)

    def begin_shutdown(self, grace: float) -> None:
        """Begin to close gracefully: see :meth:`shutdown`."""
        if self._over:
            return
        if self._transport is None:
            self._end(ConnectionClosed(ErrorCodes.NO_ERROR, initiator="local"))
            return
        now, loop = self._now(), self._loop
        assert loop is not None
        if self._close_deadline is None:
            self._close_deadline = now + max(grace, self.config.close_timeout)
        if self._grace_timer is None or self._grace_end > now + grace:
            if self._grace_timer is not None:
                self._grace_timer.cancel()
            self._grace_end = now + grace
            self._grace_timer = loop.call_at(self._grace_end, self._grace_over)
        if not self._draining and self._shutdown_ping is None:
            self._announce_end()

    def _begin_closing(self) -> None:
        self._going_away = True
        _wake(self._closing_waiters)

    def _announce_end(self) -> None:
        self._begin_closing()
        self._slots.fail(ConnectionClosed(ErrorCodes.NO_ERROR, initiator="local", retryable=True))
        if self.client_side and not self.config.enable_push:
            # nothing of the server's can be on its way
            self._drain()
            return
        self._conn.go_away(ErrorCodes.NO_ERROR, final=False)
        assert self._pings is not None
        self._shutdown_ping = self._pings.start()

    def _drain(self) -> None:
        self._draining = True
        self._conn.go_away(ErrorCodes.NO_ERROR)
        self._settle()

    def _grace_over(self) -> None:
        last = self._conn.go_away(ErrorCodes.NO_ERROR)
        self._close(
            ConnectionClosed(
                ErrorCodes.NO_ERROR, last, None, "local", reason="the grace time is over"
            )
        )

    def _close_drained(self) -> None:
        if self._goaway is not None:
            reason = self._goaway
            self._conn.go_away(ErrorCodes.NO_ERROR)
        else:
            last = self._conn.highest_inbound_stream_id
            reason = ConnectionClosed(ErrorCodes.NO_ERROR, last, None, "local")
        self._close(reason, linger=not self.client_side)

    def _close(self, reason: AIOH2Exception, *, linger: bool = False) -> None:
        """End everything, write what was framed, and close the transport.

        ``linger``: only once the peer has, or ``LINGER_SECONDS`` later, so that it can read why.
        """
        self._flush()
        self._end(reason)
        transport, loop = self._transport, self._loop
        assert transport is not None
        assert loop is not None
        deadline = self._bound_closing()
        if linger and not self._ended_in_backlog and _write_eof(transport):
            self._lingering = self.LINGER_BYTES
            end = min(deadline, self._now() + self.LINGER_SECONDS)
            self._linger_timer = loop.call_at(end, self._stop_lingering)
        else:
            transport.close()

    def _bound_closing(self) -> float:
        """Return when the transport is aborted: closing it takes no longer, from the first call."""
        if self._abort_timer is None:
            assert self._transport is not None
            assert self._loop is not None
            self._abort_time = self._now() + self.config.close_timeout
            if self._close_deadline is not None:
                self._abort_time = min(self._abort_time, self._close_deadline)
            self._abort_timer = self._loop.call_at(self._abort_time, self._transport.abort)
        return self._abort_time

    def _stop_lingering(self) -> None:
        self._lingering = 0
        if self._transport is not None:
            self._transport.close()

    def _abort(self, reason: AIOH2Exception) -> None:
        self._end(reason)
        if self._transport is not None:
            self._transport.abort()

    def _end(self, reason: AIOH2Exception) -> None:
        """Nothing more is sent or received: tell everybody who waits. Once."""
        if self._over:
            return
        self._over = True
        self._close_reason = reason
        self._begin_closing()
        self._watchdog.stop()
        if self._work_handle is not None:
            self._work_handle.cancel()
            self._work_handle = None
        self._backlog.clear()
        self._unread = 0
        self._pace_reading()
        for timer in (self._open_timer, self._grace_timer):
            if timer is not None:
                timer.cancel()
        self._slots.fail(_for_stream(reason, retryable=True))
        streams, self._streams = list(self._streams.values()), {}
        for stream in streams:
            self._fail_stream(stream, _for_stream(reason, retryable=stream in self._unwritten))
            self._retire(stream, aborted=True)
        self._sender.end(reason)
        if self._pings is not None:
            self._pings.end(reason)
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(reason.fresh())
            self._opened.exception()
        _wake(self._accepting)


def _write_eof(transport: asyncio.Transport) -> bool:
    """End this side of the transport, where it can stay open for the other side."""
    try:
        if transport.is_closing() or not transport.can_write_eof():
            return False
        transport.write_eof()
    except (AttributeError, NotImplementedError, OSError):
        # one of somebody's own that knows no such thing, or one that is lost
        return False
    return True


def _field_of(priority: Priority) -> str:
    """Return the text of a ``priority`` field, which says something also for the defaults."""
    if not isinstance(priority, Priority):
        raise TypeError(f"priority must be a Priority or None, not {priority!r}")
    return str(priority) or f"u={priority.urgency}"


def _of(exc: Exception | None) -> str:
    return f": {exc}" if exc is not None else ""


def _for_stream(reason: AIOH2Exception, *, retryable: bool) -> AIOH2Exception:
    if isinstance(reason, ConnectionClosed):
        return reason.for_stream(retryable=retryable)
    return reason.fresh()


async def _until_woken(waiters: list[asyncio.Future[None]]) -> None:
    future = asyncio.get_running_loop().create_future()
    waiters.append(future)
    try:
        await future
    finally:
        if future in waiters:
            waiters.remove(future)


def _wake(futures: Any) -> None:
    waiting = list(futures)
    futures.clear()
    for future in waiting:
        if not future.done():
            future.set_result(None)


def _wake_one(futures: deque[asyncio.Future[None]]) -> None:
    while futures:
        future = futures.popleft()
        if not future.done():
            future.set_result(None)
            return
