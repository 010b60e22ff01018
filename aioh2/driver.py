"""What happens on one connection: transport callbacks, events, what streams ask, writing.

No algorithms: what has come and waits is in ``intake``, which streams there are in ``table``, how
they are opened in ``opener``, how it ends in ``closing``, what a stream does in ``stream``, who
sends when in ``sender``, what HTTP/2 allows in ``connection``. Only :meth:`Driver.flush` writes to
the transport.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar, Final, Protocol

import h2.events as events
from h2.config import H2Configuration
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from .closing import Closing, for_stream
from .config import Config
from .connection import NO_RFC7540_PRIORITIES, Connection, PriorityUpdateReceived, StreamFailed
from .exceptions import (
    AIOH2Exception,
    ConnectionClosed,
    NotSupported,
    SendException,
    StreamReset,
    code_name,
    describe_code,
)
from .flow import Growth, ReceiveWindow
from .greeting import Greeting
from .handlers import ConnectionHandler, StreamHandlers
from .headers import Fields, HeaderInput, HeaderList, decode
from .intake import Intake
from .opener import Opener
from .pings import Pings
from .priorities import Priorities, field_of
from .scheduler import Priority, TreeScheduler
from .sender import Sender
from .stream import BlockedOn, H2Stream
from .table import StreamTable
from .tap import FrameEvent, FrameLog, TapCallback, Taps, describe
from .tunnel import ReaderWriter, open_streams
from .watchdog import Watchdog

__all__ = ["Driver"]

_connection_ids: Final = itertools.count(1)


class _Log(logging.LoggerAdapter[logging.Logger]):
    """Begins each line with the connection's id."""

    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        return f"[{(self.extra or {})['connection']}] {msg}", kwargs


class Driven(Protocol):
    """The protocol that asyncio and users know, as far as its driver needs it."""

    def event_received(self, event: events.Event) -> None:
        """Handle one of h2's events: at last, with what is in :attr:`Driver.HANDLERS`."""


class Driver:
    """Drives an h2 connection over a transport.

    :class:`~aioh2.H2Protocol` is what a user sees of it. It is an object of its own so that no
    name here can meet one in a subclass of that.
    """

    #: Streams that an error names, of those that it was about.
    NAMED: Final = 3

    def __init__(self, protocol: Driven, config: Config, *, client_side: bool) -> None:
        #: What users know; and what a stream calls its protocol.
        self.protocol = protocol
        #: The options of this connection.
        self.config = config
        #: Whether this is the client's end.
        self.client_side = client_side
        side = "client" if client_side else "server"
        name = f"{side[0]}{next(_connection_ids)}"
        self._log = _Log(logging.getLogger(f"aioh2.{side}"), {"connection": name})

        #: What HTTP/2 knows of the connection.
        self.connection = Connection(
            H2Configuration(
                client_side=client_side,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            ),
            config,
        )
        # Its id, as the log has it.
        self._name = name
        # Who watches the frames, from the first on; the log does, where it shows them.
        self._taps: Taps | None = None
        if self._log.isEnabledFor(logging.DEBUG):
            self.tap(self._log_frame)
        # Credit for the connection goes back on receipt.
        self._window = ReceiveWindow(config.connection_window_size)
        # How windows of streams grow; None: they do not.
        self._growth: Growth | None = None
        if config.max_window_size is not None:
            self._growth = Growth(config.max_window_size, config.connection_window_size)

        #: The streams.
        self.table = StreamTable(
            self.connection,
            client_side=client_side,
            limit=config.concurrency,
            forgotten=self._stream_forgotten,
        )
        # Those that are open, and the search in all: a call less for each event and each use.
        self._streams = self.table.open
        self.find = self.table.find
        #: What may not take too long.
        self.watchdog = Watchdog(config, self)
        #: What is agreed on before the first stream.
        self.greeting = Greeting(config, client_side=client_side)
        # Who sends next, until RFC 9218 decides.
        tree = TreeScheduler()
        #: What waits to go out.
        self.sender = Sender(self.connection, tree, self.flush, self.watchdog.framed)
        #: Who sends next, as is signalled.
        self.priorities = Priorities(tree, self.sender, self.table.open)
        if config.no_rfc7540_priorities:
            self.priorities.by_urgency()
        #: How far the connection is on its way to the end.
        self.closing = Closing(
            config, self.connection, self, client_side=client_side, log=self._log
        )
        #: What opens streams.
        self.opener = Opener(
            config,
            self.connection,
            self.greeting,
            self.closing,
            self.priorities,
            self,
            client_side=client_side,
        )
        #: What has come and waits.
        self.intake = Intake(
            self.connection,
            client_side=client_side,
            sender=self.sender,
            watchdog=self.watchdog,
            work=self._work,
        )
        #: Signs of life, from connection_made on.
        self.pings: Pings | None = None

        # The transport, between connection_made and connection_lost; the clock stays.
        self._transport: asyncio.Transport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        # What the transport is called in: it calls back in the context of a write, which without
        # this would be that of any handler that sends.
        self._context: contextvars.Context | None = None
        self._flush_handle: asyncio.Handle | None = None
        # The events of one share, while they are being handled.
        self._dispatching: list[events.Event] = []

        # What serves the connection.
        self._callback: Callable[[Any], Any] | None = None
        # What runs the application's handler of the connection,
        self._handler = ConnectionHandler(
            self._log, returned=self._handler_returned, failed=self._handler_failed
        )
        #: and those of its streams.
        self.handlers = StreamHandlers(self._log, self.table.release)
        # Where a server keeps its live connections.
        self._registry: set[Any] | None = None
        self._is_wanted: Callable[[], bool] = lambda: True

        #: Counters for stats.
        self.bytes_received = 0
        self.bytes_sent = 0
        self.resets_received: Counter[str] = Counter()
        self.resets_sent: Counter[str] = Counter()

    # --- transport callbacks -----------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin: check ALPN, send preface and SETTINGS, call the handler."""
        if self.closing.over or not self._is_wanted():
            # it was closed before it was connected, or its server meanwhile
            self.abort()
            transport.abort()
            return
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self.closing.begin(transport, self._loop)
        self.table.begin(self._loop)
        early = self.intake.begin(transport, self._loop)
        self.pings = Pings(self.config, send=self._send_ping, dead=self._keepalive_failed)
        if self._registry is not None:
            self._registry.add(self.protocol)
        self._log.debug("= connected to %s", self.get_extra_info("peername"))
        self.opener.name_origin(self.get_extra_info)
        problem = self.greeting.problem_with(self.get_extra_info("ssl_object"))
        if problem:
            self.closing.fail_handshake(problem)
            return
        self.connection.initiate(self.greeting.settings(), window_size=self._window.size)
        self.greeting.begin(self._loop, self._open_expired)
        self.watchdog.start(ages=not self.client_side)
        self.flush()
        if self._callback is not None:
            self._handler.call(self._callback, self.protocol)
        if early:
            self.data_received(early)

    def data_received(self, data: bytes) -> None:
        """Take bytes; nothing in them makes an exception leave from here."""
        if self.closing.over:
            self.intake.drop(len(data))
            return
        if self.pings is None:
            # start_tls() hands on what comes before its caller can give its transport to us
            self.intake.keep(data)
            return
        self.connection.guards.now = self.pings.received()
        self.bytes_received += len(data)
        self.intake.take(data)

    def _work(self, received: list[events.Event]) -> None:
        """Handle the events of one share."""
        closing, handle = self.closing, self.protocol.event_received
        self._dispatching = received
        try:
            for event in received:
                handle(event)
                if closing.over:
                    return
        except Exception:
            self._log.exception("event_received failed")
            closing.close(ErrorCodes.INTERNAL_ERROR)
            return
        finally:
            self._dispatching = []
        if self.connection.failure is not None:
            closing.close_broken(self.connection.failure)
        else:
            self.settle()

    def eof_received(self) -> bool:
        """The peer has closed its side: what came before counts, then everything ends.

        At the latest after ``close_timeout``, where what was written before is not taken.
        """
        if self._transport is not None:
            self.closing.bound()
        # with TLS there is no way to stay half open
        return self.intake.peer_ended(half_open=self.get_extra_info("ssl_object") is None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone: everybody who waits is told."""
        self.intake.finish()
        self.closing.lose(exc, greeted=self.greeting.has_come, drained=not self._streams)
        self._transport = None
        self.intake.lost()
        if self._registry is not None:
            self._registry.discard(self.protocol)
        self._handler.cancel()
        self.closing.lost()

    def pause_writing(self) -> None:
        """The transport's buffer is full: bodies wait."""
        self.sender.writable = False

    def resume_writing(self) -> None:
        """The transport takes writes again."""
        self.sender.writable = True
        self.sender.written()
        self.intake.replies_taken()
        self.flush_soon()

    # --- events ------------------------------------------------------------------------

    def _request_received(self, event: events.RequestReceived) -> None:
        stream_id = event.stream_id
        self.add_stream(stream_id, event.headers, True)
        field = self.connection.priority_field(stream_id)
        if field is not None:
            self.priorities.field_received(stream_id, field, initial=True)

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
        resets = self.resets_received if event.remote_reset else self.resets_sent
        resets[code_name(event.error_code)] += 1
        if stream is None:
            return
        error = _reset_by(event)
        who, code = error.initiator, describe_code(error.error_code)
        self._log.info("stream %d was reset by %s: %s %s", stream.id, who, code, error.reason)
        self._fail_stream(stream, error)

    def _push_received(self, event: events.PushedStreamReceived) -> None:
        stream = self.add_stream(event.pushed_stream_id or 0, event.headers, local_ended=True)
        parent = self._streams.get(event.parent_stream_id or 0)
        if parent is None or parent.failure is not None:
            stream.reset()
        else:
            parent.feed_push(stream)

    def _window_updated(self, event: events.WindowUpdated) -> None:
        if event.stream_id:
            self.sender.window_opened(event.stream_id)

    def _priority_updated(self, event: events.PriorityUpdated) -> None:
        self.priorities.reprioritize(
            event.stream_id or 0,
            event.depends_on or 0,
            event.weight or 16,
            bool(event.exclusive),
        )

    def _priority_update_received(self, event: PriorityUpdateReceived) -> None:
        self.priorities.field_received(event.stream_id, event.field)

    def _settings_changed(self, event: events.RemoteSettingsChanged) -> None:
        if SettingCodes.INITIAL_WINDOW_SIZE in event.changed_settings:
            self.sender.windows_changed()
        if self.connection.remote_settings.get(NO_RFC7540_PRIORITIES):
            self.priorities.by_urgency()
        if self.greeting.has_come:
            return
        self.greeting.settings_came()
        if self._growth is not None and self.pings is not None:
            # before bodies come: the ACK would queue behind them, and the path seem longer
            self.pings.path_rtt()

    def _settings_acked(self, event: events.SettingsAcknowledged) -> None:
        self.watchdog.settings_acked()
        change = event.changed_settings.get(SettingCodes.INITIAL_WINDOW_SIZE)
        if change is not None:
            for stream in self._streams.values():
                stream.resize_window(change.new_value)

    def _ping_acked(self, event: events.PingAckReceived) -> None:
        assert self.pings is not None
        self.pings.acked(event.ping_data)
        self.closing.ping_acked(event.ping_data)

    def _goaway_received(self, event: events.ConnectionTerminated) -> None:
        last = event.last_stream_id or 0
        goaway = ConnectionClosed(int(event.error_code or 0), last, event.additional_data, "peer")
        self._log.info("%s", goaway)
        self.closing.goaway_received(goaway)
        for stream in list(self._streams.values()):
            if stream.id > last and self.table.is_ours(stream.id):
                self._fail_stream(stream, goaway.for_stream(retryable=True))
                self.connection.forget(stream.id)

    #: What handles each of h2's events.
    HANDLERS: ClassVar[dict[type[events.Event], Callable[[Any, Any], None]]] = {
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

    # --- for streams (see stream.Owner) ------------------------------------------------

    def check_ahead(self, stream_id: int) -> None:
        """Raise what ends a stream further on in the segment whose events are being handled.

        h2 knows of it already. Only what ``event_received`` calls at once can come before it.
        """
        if not self._dispatching:
            return
        resets = (event for event in self._dispatching if isinstance(event, events.StreamReset))
        ahead = (event for event in resets if event.stream_id == stream_id)
        reset = None if self.connection.is_alive(stream_id) else next(ahead, None)
        if reset is not None:
            raise _reset_by(reset)

    def check_size(self, size: int) -> None:
        """Raise for a header list that the peer has said it does not take (section 6.5.2).

        It would answer by ending the whole connection, as its decoder stops half way.
        """
        limit = self.connection.max_list_size
        if limit is not None and size > limit:
            raise NotSupported(
                f"the headers are {size} bytes, where the peer takes {limit} "
                "(SETTINGS_MAX_HEADER_LIST_SIZE)"
            )

    def send_headers(self, stream_id: int, fields: Fields, end_stream: bool) -> None:
        """Frame a header section now."""
        self.check_ahead(stream_id)
        self.connection.send_headers(stream_id, fields, end_stream)
        if end_stream:
            self.settle()
        else:
            self.flush_soon()

    def send_body(
        self, stream_id: int, data: memoryview, end_stream: bool
    ) -> asyncio.Future[None] | None:
        """Frame ``data``, or queue it and return what to wait for."""
        try:
            self.check_ahead(stream_id)
        except StreamReset as error:
            raise SendException(bytes(data), error) from error
        future = self.sender.send(stream_id, data, end_stream)
        if future is not None:
            self.watchdog.queued(stream_id)
        if end_stream:
            self.settle()
        else:
            self.flush_soon()
        return future

    def send_last(self, stream_id: int, trailers: Fields) -> asyncio.Future[None] | None:
        """Frame the end of the stream after all queued data."""
        self.check_ahead(stream_id)
        future = self.sender.send_last(stream_id, trailers)
        self.settle()
        return future

    def withdraw(self, stream_id: int, future: asyncio.Future[None]) -> bool:
        """Take back what is not framed."""
        taken = self.sender.withdraw(stream_id, future)
        self.watchdog.queued(stream_id)
        self.settle()
        return taken

    def is_tunnel(self, stream_id: int) -> bool:
        """Whether it is a CONNECT that was accepted."""
        return self.connection.is_tunnel(stream_id)

    def has_queued(self, stream_id: int) -> bool:
        """Whether anything waits to be framed."""
        return self.sender.has_queued(stream_id)

    def blocked_on(self, stream_id: int) -> BlockedOn | None:
        """Why queued data waits."""
        return self.sender.blocked_on(stream_id)

    def credit(self, stream_id: int, count: int, window: ReceiveWindow) -> None:
        """Give window back to the peer, and more where it is to grow."""
        if self._growth is not None:
            count += self._grow(self._growth, window)
        self.connection.credit(count, stream_id)
        self.flush_soon()

    def _grow(self, growth: Growth, window: ReceiveWindow) -> int:
        assert self.pings is not None
        rtt = self.pings.path_rtt() if growth.may_grow(window) else None
        return growth.credited(window, self._now(), rtt)

    def body_waits(self, stream_id: int, waits: bool) -> None:
        """A reader begins, or ends, to wait for body bytes."""
        if self.client_side:
            return
        if waits:
            self.watchdog.reader_waits(stream_id)
        else:
            self.watchdog.reader_done(stream_id)

    def send_reset(self, error: StreamReset) -> None:
        """Frame RST_STREAM; who waits to send gets ``error``."""
        self.resets_sent[code_name(error.error_code)] += 1
        self.sender.drop(error.stream_id, error)
        if self.connection.is_alive(error.stream_id):
            self.connection.reset_stream(error.stream_id, error.error_code)
        self.settle()

    def set_priority(self, stream_id: int, priority: Priority) -> None:
        """Give a stream another place; see :meth:`H2Stream.set_priority`."""
        field = field_of(priority)
        if self.find(stream_id).is_over:
            return
        self.closing.check_usable()
        if self.client_side:
            self.connection.update_priority(stream_id, field.encode("ascii"))
        self.priorities.by_urgency().prioritize(stream_id, priority)
        self.flush_soon()

    def open_streams(self, stream: H2Stream) -> ReaderWriter:
        """Return asyncio streams over the bytes of a stream."""
        return open_streams(stream)

    async def promise(self, stream_id: int, headers: HeaderInput) -> H2Stream:
        """Promise a push on a stream of the client's."""
        self.check_ahead(stream_id)
        return await self.opener.promise(self.find(stream_id), headers)

    # --- streams -----------------------------------------------------------------------

    def add_stream(
        self, stream_id: int, fields: Any, inbound: bool = False, **ended: bool
    ) -> H2Stream:
        """Return a new stream, whose request has these fields; ``inbound``: for who takes it."""
        stream = H2Stream(
            stream_id,
            self,
            self._decode(fields),
            window_size=self.connection.receive_window_size,
            encoding=self.config.header_encoding,
            **ended,
        )
        self.table.add(stream, inbound)
        self.watchdog.busy()
        return stream

    def _decode(self, fields: Any) -> HeaderList:
        return decode(fields, self.config.header_encoding)

    def _fail_stream(self, stream: H2Stream, error: AIOH2Exception) -> None:
        self.sender.drop(stream.id, error)
        stream.fail(error)
        self.handlers.cancel(stream)

    def settle(self) -> None:
        """Draw the consequences of what has just been received or sent."""
        if self._dispatching:
            # an end must not be settled before the events that go before it
            return
        self._credit_connection(self.connection.take_discarded())
        closed = self.connection.take_closed()
        if closed:
            self._retire_all(closed)
        if self.opener.slots.waiting:
            self.opener.grant()
        closing = self.closing
        if closing.draining and not self._streams and not closing.over:
            closing.drained()
        elif self._flush_handle is None and (self.connection.pending or self.sender.has_work):
            self.flush_soon()

    def _retire_all(self, closed: list[int]) -> None:
        streams = self._streams
        for stream_id in closed:
            stream = streams.pop(stream_id, None)
            if stream is not None:
                self._retire(stream, aborted=False)
        if not streams:
            self.watchdog.idle()

    def _retire(self, stream: H2Stream, *, aborted: bool) -> None:
        self.sender.drop(stream.id, stream.failure)
        self.watchdog.forget(stream.id)
        if self._growth is not None:
            self._growth.ended(stream.window)
        if self.closing.tallies:
            self.closing.stream_ended(stream.id, aborted=aborted)
        self.table.retire(stream, in_use=stream.failure is not None and stream in self.handlers)

    def _stream_forgotten(self, stream: H2Stream) -> None:
        if self._growth is not None:
            self._growth.forgotten(stream.window)

    def _credit_connection(self, count: int) -> None:
        if count:
            credit = self._window.passed(count)
            if credit:
                self.connection.credit(credit)

    # --- writing -----------------------------------------------------------------------

    @property
    def missing_credit(self) -> int:
        """Bytes of the connection's window that nobody holds and the peer does not have."""
        given = self.connection.inbound_flow_control_window
        return 0 if self.closing.over else self._window.size - self._window.owed - given

    def flush_soon(self) -> None:
        """Write what was framed when the tick ends."""
        if self._flush_handle is None and self._loop is not None and not self.closing.over:
            self._flush_handle = self._loop.call_soon(self._end_tick, context=self._context)

    def _end_tick(self) -> None:
        """Frame what may go, write it, and see what has changed by that."""
        self._flush_handle = None
        if self.closing.over:
            return
        self.sender.run()
        self.sender.written()
        self.settle()

    def flush(self) -> None:
        """Write what was framed: the only place that does, once in a tick, and for a full share."""
        assert self._transport is not None
        assert self._context is not None
        data = self.connection.data_to_send()
        if data and not self._transport.is_closing():
            self.bytes_sent += len(data)
            # a copy: a transport in memory may come back here before it returns
            self._context.copy().run(self._transport.write, data)
            self.opener.unwritten.clear()
            self.watchdog.written()
            if not self.sender.writable:
                self.intake.replied(len(data))

    # --- health ------------------------------------------------------------------------

    def _now(self) -> float:
        assert self._loop is not None
        return self._loop.time()

    def budgets_left(self) -> dict[str, float]:
        """Return the share that is left of each budget, by the option that sets it."""
        guards = self.connection.guards
        return guards.left(guards.now if self._loop is None else self._loop.time())

    def _send_ping(self, payload: bytes) -> None:
        self.connection.ping(payload)
        self.flush_soon()

    def _keepalive_failed(self) -> None:
        limit = self.config.keepalive_timeout
        self.abort_for(f"blocked on peer: no sign of life for {limit} s after a PING")

    def _log_frame(self, event: FrameEvent) -> None:
        way = "<" if event.direction == "received" else ">"
        self._log.debug("%s %s", way, describe(event.frame, event.headers))

    # --- for the watchdog (see watchdog.Watched) ---------------------------------------

    def bytes_taken(self) -> tuple[int, int]:
        """Return how many bytes the transport has been given, and how many it still holds."""
        assert self._transport is not None
        try:
            unsent = self._transport.get_write_buffer_size()
        except (AttributeError, NotImplementedError):
            # a transport of somebody's own that does not count: pause_writing tells enough
            unsent = 0 if self.sender.writable else 1
        return self.bytes_sent, unsent

    def begin_shutdown(self, grace: float, reason: str) -> None:
        """Begin to close gracefully."""
        self.closing.begin_shutdown(grace, reason=reason)

    def close_for(self, error_code: ErrorCodes, reason: str) -> None:
        """Close with GOAWAY."""
        if error_code == ErrorCodes.SETTINGS_TIMEOUT and not self.greeting.has_come:
            # both limits are of one option, and on a coarse clock this one may be over first
            self._open_expired()
        else:
            self.closing.close_for(error_code, reason)

    def reset_for(self, stream_id: int, reason: str) -> None:
        """Reset one stream."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        self._log.info("stream %d is reset: %s", stream_id, reason)
        error = StreamReset(stream_id, ErrorCodes.CANCEL, "local", reason=reason)
        self._fail_stream(stream, error)
        self.send_reset(error)

    def abort_for(self, reason: str) -> None:
        """Abort the transport."""
        self.closing.abort(ConnectionClosed(reason=reason))

    # --- for the protocol --------------------------------------------------------------

    def register(self, live: set[Any], is_open: Callable[[], bool]) -> None:
        """Have the protocol in ``live`` from connection_made to connection_lost.

        ``is_open``: whether its owner still wants the connection when it is made.
        """
        self._registry = live
        self._is_wanted = is_open

    def set_handler(self, handler: Callable[[Any], Any]) -> None:
        """Set what serves the connection: see :meth:`H2Protocol.set_handler`."""
        if self._callback is not None:
            raise ValueError("a handler is set already, and there can be only one")
        self._callback = handler
        if self._transport is not None and not self.closing.over:
            self._handler.call(handler, self.protocol)

    def tap(self, callback: TapCallback) -> Callable[[], None]:
        """Call ``callback`` with each frame: see :meth:`H2Protocol.tap`."""
        if self._taps is None:
            self._taps = Taps(
                self._name, watch=self._watch, decode=self._decode, now=self._now, log=self._log
            )
        return self._taps.add(callback)

    def _watch(self, frame_log: FrameLog | None) -> None:
        self.connection.frame_log = frame_log

    def abort(self) -> None:
        """End at once and write nothing more, not even what was framed."""
        self.closing.abort(ConnectionClosed(initiator="local", reason="it was aborted"))

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the transport's information ``name``: see ``asyncio.BaseTransport``."""
        if self._transport is None:
            return default
        return self._transport.get_extra_info(name, default)

    # --- inside ------------------------------------------------------------------------

    def _open_expired(self) -> None:
        came = "no SETTINGS" if self.bytes_received else "nothing"
        self.connection.go_away(ErrorCodes.SETTINGS_TIMEOUT)
        limit = self.config.open_timeout
        self.closing.fail_handshake(f"blocked on peer: the peer sent {came} for {limit} s")

    def _handler_returned(self) -> None:
        self.closing.begin_shutdown(self.config.close_timeout)

    def _handler_failed(self) -> None:
        self.closing.close(ErrorCodes.INTERNAL_ERROR)

    # --- for closing (see closing.Closable) --------------------------------------------

    def start_ping(self) -> bytes:
        """Send a PING and return its payload."""
        assert self.pings is not None
        return self.pings.start()

    def waits_for(self) -> str:
        """Name some of the streams that are open, and what those wait for."""
        named = [
            f"{stream.id} ({stream.blocked_on})" if stream.blocked_on else f"{stream.id}"
            for stream in itertools.islice(self._streams.values(), self.NAMED)
        ]
        more = len(self._streams) - len(named)
        said = f"stream{'s' * (len(self._streams) > 1)} {', '.join(named)}"
        return f"{said} and {more} more" if more else said

    def refuse(self, error: ConnectionClosed) -> None:
        """No stream can be opened any more."""
        self.opener.slots.fail(error)

    def linger(self, deadline: float) -> bool:
        """Close the transport once the peer has ended its side; False where that cannot be.

        TLS can say goodbye only to both sides at once: there the peer has GOAWAY to go by.
        """
        transport = self._transport
        assert transport is not None
        if not self.intake.can_linger or transport.is_closing():
            return False
        if not _write_eof(transport) and self.get_extra_info("ssl_object") is None:
            return False
        self.intake.linger(deadline)
        return True

    def end(self, reason: AIOH2Exception) -> None:
        """Nothing more is sent or received: tell everybody who waits. Once."""
        self.watchdog.stop()
        self.intake.end()
        self.opener.slots.fail(for_stream(reason, retryable=True))
        for stream in self.table.take_open():
            # it may have ended just before, in the same segment
            aborted = not stream.is_over
            if aborted:
                unwritten = stream in self.opener.unwritten
                self._fail_stream(stream, for_stream(reason, retryable=unwritten))
            self._retire(stream, aborted=aborted)
        self.sender.end(reason)
        if self.pings is not None:
            self.pings.end(reason)
        self.greeting.end(reason)
        self.table.end(reason)


def _reset_by(event: events.StreamReset) -> StreamReset:
    """Return the error that h2's event stands for."""
    reason = event.reason if isinstance(event, StreamFailed) else ""
    initiator: Any = "peer" if event.remote_reset else "local"
    return StreamReset(event.stream_id, int(event.error_code), initiator, reason=reason)


def _write_eof(transport: asyncio.Transport) -> bool:
    """End this side of the transport, where it can stay open for the other side."""
    try:
        if not transport.can_write_eof():
            return False
        transport.write_eof()
    except (AttributeError, NotImplementedError, OSError):
        # one of somebody's own that knows no such thing, or one that is lost
        return False
    return True
