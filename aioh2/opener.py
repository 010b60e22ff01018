"""``Opener``: opens the streams of this side, a client's requests and a server's promises.

Who opens the next one is in ``slots``. From the slot on, a stream's id, the encoding of its
headers and their framing are one step.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

from h2.errors import ErrorCodes

from .closing import Closing
from .config import Config
from .connection import Connection
from .exceptions import ConnectionClosed, NotSupported, StreamClosed
from .greeting import Greeting
from .headers import Fields, HeaderInput, Kind, encode, prepare, with_field
from .priorities import Priorities, field_of
from .scheduler import Priority
from .slots import Slots
from .stream import H2Stream

__all__ = ["Opener"]


class Opening(Protocol):
    """What opening a stream asks of the connection."""

    def check_size(self, size: int) -> None:
        """Raise for a header list that the peer does not take."""

    def add_stream(
        self,
        stream_id: int,
        fields: Fields,
        *,
        local_ended: bool = False,
        remote_ended: bool = False,
    ) -> H2Stream:
        """Return a new stream, which is in the table."""

    def settle(self) -> None:
        """Draw the consequences of what has just been framed."""


class Opener:
    """Opens streams on one connection (RFC 9113 section 5.1.1)."""

    def __init__(
        self,
        config: Config,
        connection: Connection,
        greeting: Greeting,
        closing: Closing,
        priorities: Priorities,
        opening: Opening,
        *,
        client_side: bool,
    ) -> None:
        self._config = config
        self._connection = connection
        # Before the peer's SETTINGS have come, nothing is opened.
        self._greeting = greeting
        # Knows whether any stream can start.
        self._closing = closing
        self._priorities = priorities
        # Where the streams come into being.
        self._opening = opening
        self._client_side = client_side
        #: ``:scheme`` and ``:authority`` of requests that have none.
        self.scheme = "http"
        self.authority: str | None = None
        #: Who waits to open a stream.
        self.slots = Slots(self._free_slots)
        #: Requests whose HEADERS were not handed to the transport yet.
        self.unwritten: list[H2Stream] = []

    def name_origin(self, get_extra_info: Callable[[str], Any]) -> None:
        """Learn ``:scheme`` and ``:authority`` from the transport, where nobody has set them."""
        if get_extra_info("ssl_object") is not None:
            self.scheme = "https"
        peer = get_extra_info("peername")
        if self.authority is not None:
            return
        if isinstance(peer, tuple) and len(peer) >= 2:
            host = f"[{peer[0]}]" if ":" in str(peer[0]) else str(peer[0])
            self.authority = f"{host}:{peer[1]}"
        else:
            self.authority = "localhost"

    def _free_slots(self) -> int:
        if not self._greeting.has_come or self._closing.is_closing:
            return 0
        limit = self._connection.remote_settings.max_concurrent_streams
        return limit - self._connection.outbound_streams

    def grant(self) -> None:
        """Something has ended, or the peer's limit has changed: whoever can goes on."""
        if not self._client_side:
            # pushes, whose parents may have ended
            self.slots.recheck()
        self.slots.grant()

    async def request(
        self, headers: HeaderInput, end_stream: bool, priority: Priority | None
    ) -> H2Stream:
        """Open a stream with a request: see :meth:`H2Protocol.start_request`."""
        if not self._client_side:
            raise NotSupported("a server cannot start requests; push_stream promises them")
        if priority is not None:
            headers = with_field(headers, "priority", field_of(priority))
        origin = (self.scheme, self.authority)
        fields, facts = prepare(headers, Kind.REQUEST, self._config.header_encoding, origin=origin)
        await self.slots.acquire(self._closing.check_opens)
        try:
            if facts.protocol and not self._connection.remote_settings.enable_connect_protocol:
                raise NotSupported(
                    "the peer does not offer extended CONNECT (RFC 8441: "
                    "SETTINGS_ENABLE_CONNECT_PROTOCOL is 0)"
                )
            self._opening.check_size(facts.size)
            stream_id = self._next_stream_id()
            self._connection.send_headers(stream_id, fields, end_stream)
            stream = self._opening.add_stream(stream_id, fields, local_ended=end_stream)
            self.unwritten.append(stream)
            if priority is not None:
                self._priorities.by_urgency().prioritize(stream_id, priority, initial=True)
        finally:
            # a slot that was not taken goes to the next
            self._opening.settle()
        return stream

    async def promise(self, parent: H2Stream, headers: HeaderInput) -> H2Stream:
        """Promise a push on a stream of the client's: see :meth:`H2Stream.push`."""
        encoding = self._config.header_encoding
        asked = dict(encode(parent.request_headers, encoding))
        authority = asked.get(b":authority", asked.get(b"host", b""))
        origin = (
            asked.get(b":scheme", b"http").decode("ascii"),
            authority.decode("utf-8", "surrogateescape"),
        )
        fields, facts = prepare(headers, Kind.REQUEST, encoding, origin=origin)
        if facts.method not in (b"GET", b"HEAD"):
            raise ValueError(f"only GET and HEAD can be pushed, not {facts.method!r}")
        if facts.content_length:
            raise ValueError("a push has no request body, and so no content-length")
        if self._client_side:
            raise NotSupported("a client cannot push")
        await self.slots.acquire(functools.partial(self._check_pushes, parent))
        try:
            self._opening.check_size(facts.size)
            promised = self._next_stream_id()
            self._connection.push_stream(parent.id, promised, fields)
            stream = self._opening.add_stream(promised, fields, remote_ended=True)
        finally:
            self._opening.settle()
        return stream

    def _check_pushes(self, parent: H2Stream) -> None:
        self._closing.check_opens()
        if not self._connection.remote_settings.enable_push:
            raise NotSupported("the peer does not want pushes (SETTINGS_ENABLE_PUSH is 0)")
        if parent.id % 2 == 0:
            raise StreamClosed(parent.id, "it was pushed, and pushes promise none")
        if parent.failure is not None:
            raise parent.failure.fresh()
        if parent.has_ended:
            raise StreamClosed(parent.id, "this side has ended it already")
        if self._connection.is_tunnel(parent.id):
            raise StreamClosed(parent.id, "a tunnel has no pushes (RFC 9113 section 8.5)")

    def _next_stream_id(self) -> int:
        connection = self._connection
        if connection.highest_outbound_stream_id >= connection.HIGHEST_ALLOWED_STREAM_ID - 1:
            raise ConnectionClosed(
                ErrorCodes.NO_ERROR,
                initiator="local",
                reason="its stream ids are used up",
                retryable=True,
            )
        return connection.get_next_available_stream_id()
