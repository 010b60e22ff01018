"""A peer that does what a test says: when, in which order, and whether it is legal or not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar, cast

import hpack
from h2.errors import ErrorCodes
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from ..protocol import H2Protocol
from .transports import connect

__all__ = ["ScriptedPeer"]

ProtocolT = TypeVar("ProtocolT", bound=H2Protocol)
FrameT = TypeVar("FrameT", bound=Frame)

Fields = Mapping[str, str] | Iterable[tuple[str, str]]

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class ScriptedPeer(asyncio.Protocol):
    """The other side of one connection, frame by frame; nothing that it sends is checked.

    It greets, and acknowledges SETTINGS and PINGs unless told otherwise; all else is up to the
    test: what it sends at once (``send_...``), what it waits for (:meth:`next`), and what it
    does whenever a frame has come (:meth:`on`)::

        peer = ScriptedPeer(settings={SettingCodes.INITIAL_WINDOW_SIZE: 1})
        peer.on(HeadersFrame, lambda frame: peer.send_goaway(1), nth=2)
        client = await peer.connect()

    It is an ``asyncio.Protocol``, so it works on a real socket, too: ``loop.create_server(lambda:
    peer, "127.0.0.1", 0)`` listens for one connection.

    ``client_side``: whether it plays the client. ``settings``: those it announces. ``ack_settings``
    and ``ack_pings``: whether it acknowledges these by itself; both may be changed at any time.
    """

    def __init__(
        self,
        client_side: bool = False,
        *,
        settings: Mapping[int, int] | None = None,
        ack_settings: bool = True,
        ack_pings: bool = True,
    ) -> None:
        #: Whether it plays the client.
        self.client_side = client_side
        #: Whether it acknowledges SETTINGS, and PINGs, by itself.
        self.ack_settings = ack_settings
        self.ack_pings = ack_pings
        #: Every frame that has come, in order. HEADERS and PUSH_PROMISE have the decoded list in
        #: their attribute ``headers``, once the last frame of their block has come.
        self.received: list[Frame] = []
        #: Whether the other side has ended what it sends, and whether the connection is gone.
        self.ended = False
        self.lost = False
        #: What compresses what it sends, and reads what comes: hpack's own.
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        #: The transport, from ``connection_made`` on.
        self.transport: asyncio.Transport
        # What it announces.
        self._settings = dict(settings or {})
        # Bytes of a frame that is not whole, and whether the client's preface is still to come.
        self._buffer = b""
        self._preface_missing = not client_side
        # HEADERS or PUSH_PROMISE whose block goes on.
        self._block: Any = None
        # Frames that next() has not returned, and who waits for more.
        self._untaken: list[Frame] = []
        self._waiting: list[asyncio.Future[None]] = []
        # What happens when a frame has come: its kind, which of them (None: each), the action.
        self._actions: list[tuple[type[Frame], int | None, Callable[[Any], object]]] = []
        # How many of each kind have come.
        self._counts: dict[type[Frame], int] = {}

    # --- the connection ----------------------------------------------------------------

    async def connect(
        self,
        cls: type[ProtocolT] | None = None,
        *,
        latency: float = 0,
        bandwidth: float | None = None,
        **options: Any,
    ) -> ProtocolT:
        """Return a protocol, made of ``cls`` and ``options`` and joined to this peer over memory.

        A client is returned once it has this peer's SETTINGS, as by ``open_connection``; a
        server at once. ``latency`` and ``bandwidth`` are those of
        :func:`aioh2.testing.connect`.
        """
        make = cast("type[ProtocolT]", cls or H2Protocol)
        protocol = make(not self.client_side, **options)
        connect(protocol, self, latency=latency, bandwidth=bandwidth)
        if protocol.client_side:
            await protocol.wait_open()
        return protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self.transport = cast(asyncio.Transport, transport)
        if self.client_side:
            self.send_bytes(_PREFACE)
        self.send_settings(self._settings)

    def data_received(self, data: bytes) -> None:
        """Cut bytes into frames, and work each off."""
        self._buffer += data
        if self._preface_missing and len(self._buffer) >= len(_PREFACE):
            if not self._buffer.startswith(_PREFACE):
                raise AssertionError(f"the client began with {self._buffer[:24]!r}")
            self._buffer = self._buffer[len(_PREFACE) :]
            self._preface_missing = False
        while not self._preface_missing and (frame := self._cut()) is not None:
            self._work_off(frame)

    def eof_received(self) -> bool:
        """Keep this side open: what closes when is up to the test."""
        self.ended = True
        self._wake()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits for a frame."""
        self.lost = True
        self._wake()

    def close(self) -> None:
        """Close the connection, without a word."""
        self.transport.close()

    def abort(self) -> None:
        """Reset the connection: the other side gets ConnectionResetError."""
        self.transport.abort()

    # --- what comes --------------------------------------------------------------------

    def on(
        self, kind: type[FrameT], action: Callable[[FrameT], object], *, nth: int | None = None
    ) -> None:
        """Call ``action(frame)`` for each frame of this kind that comes, or for the ``nth`` only.

        ``kind``: a class of ``hyperframe.frame``; ``Frame``: any. ``nth`` counts from 1 and
        from the connection's beginning. HEADERS and PUSH_PROMISE count when their block is
        complete.
        """
        if nth is not None and nth < 1:
            raise ValueError(f"nth counts from 1, not {nth!r}")
        self._actions.append((kind, nth, action))

    async def next(self, kind: type[FrameT], *, stream_id: int | None = None) -> FrameT:
        """Wait for the next frame of this kind (on this stream), and return it.

        Each is returned once; those of other kinds stay for other calls. Raises
        ConnectionError when the connection ends without one. It can be cancelled without
        loss.
        """
        while True:
            for frame in self._untaken:
                if isinstance(frame, kind) and stream_id in (None, frame.stream_id):
                    self._untaken.remove(frame)
                    return frame
            if self.ended or self.lost:
                raise ConnectionError(f"the connection has ended without another {kind.__name__}")
            news = asyncio.get_running_loop().create_future()
            self._waiting.append(news)
            await news

    def take(self, *kinds: type[Frame]) -> list[Any]:
        """Return the frames of these kinds that nobody has taken; drop the others."""
        taken, self._untaken = self._untaken, []
        return [frame for frame in taken if not kinds or isinstance(frame, kinds)]

    def _cut(self) -> Frame | None:
        """Return the next frame, if it is whole."""
        if len(self._buffer) < 9:
            return None
        frame, length = Frame.parse_frame_header(memoryview(self._buffer[:9]))
        if len(self._buffer) < 9 + length:
            return None
        frame.parse_body(memoryview(self._buffer[9 : 9 + length]))
        self._buffer = self._buffer[9 + length :]
        return frame

    def _work_off(self, frame: Frame) -> None:
        self.received.append(frame)
        self._untaken.append(frame)
        complete = self._read_block(frame)
        if isinstance(frame, SettingsFrame) and "ACK" not in frame.flags and self.ack_settings:
            self.send(SettingsFrame(flags=["ACK"]))
        elif isinstance(frame, PingFrame) and "ACK" not in frame.flags and self.ack_pings:
            self.send(PingFrame(opaque_data=frame.opaque_data, flags=["ACK"]))
        if complete is not None:
            self._act(complete)
        self._wake()

    def _read_block(self, frame: Frame) -> Frame | None:
        """Decode a header block at its end; return what is complete by this frame."""
        if isinstance(frame, (HeadersFrame, PushPromiseFrame)):
            self._block = frame
        elif isinstance(frame, ContinuationFrame):
            self._block.data += frame.data
        else:
            return frame
        if "END_HEADERS" not in frame.flags:
            return None
        self._block.headers = list(self.decoder.decode(self._block.data))
        complete, self._block = self._block, None
        return cast(Frame, complete)

    def _act(self, frame: Frame) -> None:
        for kind in (type(frame), Frame):
            self._counts[kind] = self._counts.get(kind, 0) + 1
        for kind, nth, action in list(self._actions):
            if isinstance(frame, kind) and nth in (None, self._counts.get(kind)):
                action(frame)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    # --- what goes ---------------------------------------------------------------------

    def send_bytes(self, data: bytes) -> None:
        """Send these bytes, whatever they are."""
        self.transport.write(data)

    def send(self, *frames: Frame) -> None:
        """Send frames of hyperframe's, in one write."""
        self.send_bytes(b"".join(frame.serialize() for frame in frames))

    def send_frame(
        self, kind: int, flags: int = 0, stream_id: int = 0, payload: bytes = b""
    ) -> None:
        """Send any frame, by its numbers: unknown kinds, wrong streams, wrong lengths."""
        header = len(payload).to_bytes(3, "big") + bytes([kind, flags])
        self.send_bytes(header + stream_id.to_bytes(4, "big") + payload)

    def send_headers(self, stream_id: int, headers: Fields, *, end_stream: bool = False) -> None:
        """Send HEADERS: a request, a response (interim, too) or trailers."""
        flags = ["END_HEADERS", *(["END_STREAM"] if end_stream else [])]
        self.send(HeadersFrame(stream_id, self.encode(headers), flags=flags))

    def send_data(self, stream_id: int, data: bytes = b"", *, end_stream: bool = False) -> None:
        """Send DATA, as one frame whatever its size; windows are the test's own business."""
        self.send(DataFrame(stream_id, data, flags=["END_STREAM"] if end_stream else []))

    def send_reset(self, stream_id: int, error_code: int = ErrorCodes.CANCEL) -> None:
        """Send RST_STREAM."""
        self.send(RstStreamFrame(stream_id, error_code))

    def send_window_update(self, stream_id: int, increment: int) -> None:
        """Send WINDOW_UPDATE; stream 0 is the connection."""
        self.send(WindowUpdateFrame(stream_id, increment))

    def send_settings(self, settings: Mapping[int, int]) -> None:
        """Send SETTINGS."""
        self.send(SettingsFrame(settings=dict(settings)))

    def send_ping(self, opaque_data: bytes = bytes(8), *, ack: bool = False) -> None:
        """Send PING, or the acknowledgement of one."""
        self.send(PingFrame(opaque_data=opaque_data, flags=["ACK"] if ack else []))

    def send_goaway(
        self, last_stream_id: int, error_code: int = 0, additional_data: bytes = b""
    ) -> None:
        """Send GOAWAY."""
        self.send(GoAwayFrame(0, last_stream_id, error_code, additional_data))

    def send_push_promise(self, stream_id: int, promised: int, headers: Fields) -> None:
        """Send PUSH_PROMISE."""
        block = self.encode(headers)
        self.send(PushPromiseFrame(stream_id, promised, block, flags=["END_HEADERS"]))

    def encode(self, headers: Fields) -> bytes:
        """Return a field block, which has to be sent in its turn."""
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        return self.encoder.encode(list(pairs))
