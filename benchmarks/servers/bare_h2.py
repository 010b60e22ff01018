"""What h2 itself costs: an ``asyncio.Protocol`` around it, with no streams, queues or tasks.

It keeps to flow control both ways and to the transport's high-water mark, and does nothing else:
no timeouts, no limits, no handler, no end of a connection that is more than a closed socket.
"""

from __future__ import annotations

import asyncio
from typing import cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from . import CHUNK, SMALL, Options, download_size, zeros

_SMALL_HEADERS = [
    (":status", "200"),
    ("content-type", "text/plain"),
    ("content-length", str(len(SMALL))),
]
_SMALL_BODY = memoryview(SMALL)
# As aioh2's defaults.
_WIDE_STREAM = 262_144
_WIDE_CONNECTION = 16_777_216


class BareServer(asyncio.Protocol):
    """One connection."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._connection = H2Connection(H2Configuration(client_side=False))
        self._transport: asyncio.Transport | None = None
        # False while the transport wants no more.
        self._writable = True
        # Bytes that came of each upload, by stream id.
        self._uploads: dict[int, int] = {}
        # What is left to send of each response, by stream id.
        self._bodies: dict[int, memoryview] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        connection = self._connection
        values = {SettingCodes.MAX_CONCURRENT_STREAMS: self._options.concurrency}
        if self._options.wide:
            values[SettingCodes.INITIAL_WINDOW_SIZE] = _WIDE_STREAM
        connection.local_settings = Settings(client=False, initial_values=values)
        connection.initiate_connection()
        if self._options.wide:
            connection.increment_flow_control_window(_WIDE_CONNECTION - 65_535)
        self._flush()

    def data_received(self, data: bytes) -> None:
        try:
            events = self._connection.receive_data(data)
        except ProtocolError:
            self._flush()
            assert self._transport is not None
            self._transport.close()
            return
        for event in events:
            self._handle(event)
        self._send_bodies()
        self._flush()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._send_bodies()
        self._flush()

    def _handle(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            self._request(event)
        elif isinstance(event, DataReceived):
            self._uploads[event.stream_id] += len(event.data)
            self._connection.acknowledge_received_data(
                event.flow_controlled_length, event.stream_id
            )
        elif isinstance(event, StreamEnded):
            received = self._uploads.pop(event.stream_id, None)
            if received is not None:
                answer = str(received).encode()
                headers = [(":status", "200"), ("content-length", str(len(answer)))]
                self._respond(event.stream_id, headers, memoryview(answer))
        elif isinstance(event, StreamReset):
            self._uploads.pop(event.stream_id, None)
            self._bodies.pop(event.stream_id, None)
        elif isinstance(event, ConnectionTerminated):
            assert self._transport is not None
            self._transport.close()

    def _request(self, event: RequestReceived) -> None:
        headers = dict(event.headers)
        if headers[b":method"] == b"POST":
            self._uploads[event.stream_id] = 0
            return
        size = download_size(headers[b":path"].decode())
        if size is None:
            self._respond(event.stream_id, _SMALL_HEADERS, _SMALL_BODY)
        else:
            fields = [(":status", "200"), ("content-length", str(size))]
            self._respond(event.stream_id, fields, zeros(size))

    def _respond(self, stream_id: int, headers: list[tuple[str, str]], body: memoryview) -> None:
        self._connection.send_headers(stream_id, headers)
        self._bodies[stream_id] = body

    def _send_bodies(self) -> None:
        for stream_id in list(self._bodies):
            self._send_body(stream_id)

    def _send_body(self, stream_id: int) -> None:
        """Send what windows and transport take, in writes of about 64 KiB."""
        connection, body = self._connection, self._bodies[stream_id]
        framed = 0
        while self._writable and body:
            size = min(
                connection.local_flow_control_window(stream_id),
                connection.max_outbound_frame_size,
            )
            if size <= 0:
                break
            piece, body = body[:size], body[size:]
            connection.send_data(stream_id, bytes(piece), end_stream=not body)
            framed += len(piece)
            if framed >= CHUNK:
                self._flush()
                framed = 0
        if body:
            self._bodies[stream_id] = body
        else:
            del self._bodies[stream_id]

    def _flush(self) -> None:
        data = self._connection.data_to_send()
        if data:
            assert self._transport is not None
            self._transport.write(data)


async def serve(options: Options, stop: asyncio.Event) -> None:
    """Serve until ``stop``."""
    server = await asyncio.get_running_loop().create_server(
        lambda: BareServer(options), "127.0.0.1", options.port, ssl=options.context()
    )
    await stop.wait()
    server.close()
