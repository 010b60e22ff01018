"""Two protocols joined over memory, as a TCP connection would join them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any, Final

__all__ = ["MemoryTransport", "connect"]

# What TCP takes in one piece: with a bandwidth, bytes arrive in such pieces.
_PIECE: Final = 16_384
# What asyncio's transports pause writing at, and go on at.
_HIGH_WATER: Final = 65_536

Buffer = bytes | bytearray | memoryview


class MemoryTransport(asyncio.Transport):
    """One end of a connection over memory; :func:`connect` makes both.

    Bytes leave in order, at ``bandwidth``, and arrive ``latency`` later; without either they arrive
    in the next tick. Both ends may pause reading: then what the other end writes stays in its
    buffer, and its protocol's writing is paused beyond the high-water mark.
    """

    def __init__(
        self,
        protocol: asyncio.BaseProtocol,
        *,
        latency: float = 0,
        bandwidth: float | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(extra)
        self._loop = asyncio.get_running_loop()
        self._protocol: Any = protocol
        # Seconds one way, and bytes a second; None: as fast as the loop turns.
        self._latency = latency
        self._bandwidth = bandwidth
        # Where what is written arrives; None once it is gone.
        self._far_end: MemoryTransport | None = None
        # Pieces that have not left; None stands for the end of what this side writes.
        self._pieces: deque[bytes | None] = deque()
        # Bytes in those pieces, and in what the far end does not read at present; without latency
        # also in what it has not got yet.
        self._buffered = 0
        # Whether a piece is leaving.
        self._leaving = False
        # Pieces on their way here: timers of one instant may fire in any order.
        self._coming: deque[bytes | None] = deque()
        # Pieces that have arrived while reading was paused.
        self._arrived: deque[bytes | None] = deque()
        self._reading = True
        # Whether writing is paused, and the marks for that, in bytes.
        self._paused = False
        self._high, self._low = _HIGH_WATER, _HIGH_WATER // 4
        # Whether write_eof() was called, and close() or abort().
        self._ended = False
        self._closing = False
        # Whether the protocol was told, or will be.
        self._lost = False

    # --- writing -----------------------------------------------------------------------

    def write(self, data: Buffer) -> None:
        """Write bytes; after ``close`` they are dropped, as asyncio's transports do."""
        if self._closing or not data:
            return
        if self._ended:
            raise RuntimeError("write() after write_eof()")
        data = bytes(data)
        self._buffered += len(data)
        if self._bandwidth is None:
            self._pieces.append(data)
        else:
            self._pieces.extend(data[at : at + _PIECE] for at in range(0, len(data), _PIECE))
        self._leave()
        self._pause_or_resume()

    def writelines(self, list_of_data: Iterable[Buffer]) -> None:
        """Write several pieces."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """Return True: half-closing works."""
        return True

    def write_eof(self) -> None:
        """End this side, behind what was written."""
        if not self._ended:
            self._ended = True
            self._pieces.append(None)
            self._leave()

    def get_write_buffer_size(self) -> int:
        """Return the bytes that have not arrived at a far end that reads."""
        return self._buffered

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks at which writing is paused and goes on, in bytes."""
        self._high = _HIGH_WATER if high is None else high
        self._low = self._high // 4 if low is None else low
        self._pause_or_resume()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return both marks, the low one first."""
        return self._low, self._high

    def _leave(self) -> None:
        """Let the next piece leave, unless one is leaving."""
        if self._leaving or not self._pieces:
            return
        piece = self._pieces.popleft()
        self._leaving = True
        if self._bandwidth is None:
            self._has_left(piece)
        else:
            self._loop.call_later(len(piece or b"") / self._bandwidth, self._has_left, piece)

    def _has_left(self, piece: bytes | None) -> None:
        self._leaving = False
        if self._far_end is not None:
            self._far_end._coming.append(piece)
            if self._latency:
                # what is on its way is in nobody's buffer
                self._taken(len(piece or b""))
                self._loop.call_later(self._latency, self._far_end._arrive)
            else:
                self._loop.call_soon(self._far_end._arrive)
        self._leave()
        self._close_if_done()

    def _taken(self, count: int) -> None:
        """The far end has read this many bytes."""
        self._buffered -= count
        self._pause_or_resume()

    def _pause_or_resume(self) -> None:
        if self._lost:
            return
        if not self._paused and self._buffered > self._high:
            self._paused = True
            self._protocol.pause_writing()
        elif self._paused and self._buffered <= self._low:
            self._paused = False
            self._protocol.resume_writing()

    # --- reading -----------------------------------------------------------------------

    def is_reading(self) -> bool:
        """Tell whether what arrives is handed to the protocol."""
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        """Keep what arrives, and what the far end writes in its buffer."""
        self._reading = False

    def resume_reading(self) -> None:
        """Hand out what has arrived, from the next tick on."""
        if not self._reading:
            self._reading = True
            self._loop.call_soon(self._hand_out)

    def _arrive(self) -> None:
        piece = self._coming.popleft()
        far_end = self._far_end
        if far_end is None:
            return
        if not self._lost:
            if self._latency:
                far_end._buffered += len(piece or b"")
            self._arrived.append(piece)
            self._hand_out()
            far_end._pause_or_resume()
        elif piece is not None:
            far_end._tell(ConnectionResetError("the peer has closed the connection"))

    def _hand_out(self) -> None:
        while self._arrived and (self._reading or self._closing) and not self._lost:
            piece = self._arrived.popleft()
            if piece is None:
                self._hand_out_end()
            else:
                assert self._far_end is not None
                self._far_end._taken(len(piece))
                if not self._closing:
                    self._protocol.data_received(piece)

    def _hand_out_end(self) -> None:
        if not self._closing and not self._protocol.eof_received():
            self.close()

    # --- the end -----------------------------------------------------------------------

    def is_closing(self) -> bool:
        """Tell whether ``close`` or ``abort`` was called, or the connection is lost."""
        return self._closing

    def close(self) -> None:
        """Close behind what was written; the far end reads it, and then the end."""
        if not self._closing:
            self._closing = True
            if not self._ended:
                self._ended = True
                self._pieces.append(None)
                self._leave()
            self._close_if_done()

    def abort(self) -> None:
        """Close at once: what has not left is lost, and the far end gets ConnectionResetError."""
        self.lose(None)

    def lose(self, error: Exception | None, far: Exception | None = None) -> None:
        """Lose the connection at both ends, in the next tick.

        ``error`` is what this end's protocol is told, ``far`` what the other's is: by default
        ConnectionResetError.
        """
        far_end, self._far_end = self._far_end, None
        self._pieces.clear()
        self._tell(error)
        if far_end is not None:
            far_end._far_end = None
            far_end._tell(far or ConnectionResetError("the connection was reset by the peer"))

    def _close_if_done(self) -> None:
        if self._closing and not self._pieces and not self._leaving:
            self._tell(None)

    def _tell(self, error: Exception | None) -> None:
        if not self._lost:
            self._lost = self._closing = True
            self._loop.call_soon(self._protocol.connection_lost, error)

    # --- the rest ----------------------------------------------------------------------

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand what arrives to another protocol."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol."""
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol


def connect(
    near: asyncio.BaseProtocol,
    far: asyncio.BaseProtocol,
    *,
    latency: float = 0,
    bandwidth: float | None = None,
) -> tuple[MemoryTransport, MemoryTransport]:
    """Join two protocols over memory: both get ``connection_made``, ``near`` first.

    ``latency``: seconds from one end to the other, at least 0. ``bandwidth``: bytes a second each
    way, above 0; None: no limit. Both take up the running loop's time, which may be virtual.
    """
    if not latency >= 0:
        raise ValueError(f"latency must be at least 0 seconds, not {latency!r}")
    if bandwidth is not None and not bandwidth > 0:
        raise ValueError(f"bandwidth must be above 0 bytes a second, or None, not {bandwidth!r}")
    ends = [
        MemoryTransport(protocol, latency=latency, bandwidth=bandwidth, extra={"peername": name})
        for protocol, name in ((near, "memory, far end"), (far, "memory, near end"))
    ]
    ends[0]._far_end, ends[1]._far_end = ends[1], ends[0]
    near.connection_made(ends[0])
    far.connection_made(ends[1])
    return ends[0], ends[1]
