"""``Body``: what has arrived of a stream's body and was not read, and the credit for it.

Plain chunks and integers: who waits for more is not known here.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from .flow import ReceiveWindow

__all__ = ["Body"]

# Unread frames from which on small ones are joined, and what is small, in bytes.
_CROWD: Final = 64
_SMALL: Final = 1_024


class Body:
    """The unread bytes of one stream, from the first DATA frame on."""

    __slots__ = ("_chunks", "_claimed", "_head", "buffered", "window")

    def __init__(self, window_size: int) -> None:
        # A chunk for each DATA frame, and how many bytes of the first are taken already.
        self._chunks: deque[bytes | bytearray] = deque()
        self._head = 0
        #: How many bytes there are.
        self.buffered = 0
        # How many of them are spoken for by a read that waits for more: their credit is given.
        self._claimed = 0
        #: The peer's credit.
        self.window = ReceiveWindow(window_size)

    def received(self, data: bytes, flow_controlled_length: int) -> int:
        """Keep a frame's bytes; return the credit that is due for its padding."""
        self.window.received(flow_controlled_length)
        size = len(data)
        if size:
            self._keep(data)
            self.buffered += size
        padding = flow_controlled_length - size
        return self.window.consumed(padding) if padding else 0

    def _keep(self, data: bytes) -> None:
        """Keep a frame's bytes; small ones that nobody reads are joined, as an object costs more.

        So what is unread takes little more memory than its bytes.
        """
        chunks = self._chunks
        if len(chunks) < _CROWD or len(chunks[-1]) >= _SMALL:
            chunks.append(data)
            return
        tail = chunks[-1]
        if not isinstance(tail, bytearray):
            tail = chunks[-1] = bytearray(tail)
        tail += data

    def claim(self, wanted: int) -> int:
        """Say that a read holds on to up to ``wanted`` bytes; return the credit that is due.

        Without it, a read of more than the window would wait for ever.
        """
        more = min(self.buffered, wanted) - self._claimed
        if more <= 0:
            return 0
        self._claimed += more
        return self.window.consumed(more)

    def take_chunk(self) -> tuple[bytes, int]:
        """Take what is left of the oldest unread DATA frame; there must be one."""
        chunk = self._chunks[0]
        if self._head or self._claimed or type(chunk) is not bytes:
            return self.take(len(chunk) - self._head)
        self._chunks.popleft()
        size = len(chunk)
        self.buffered -= size
        return chunk, self.window.consumed(size)

    def take(self, count: int) -> tuple[bytes, int]:
        """Take the first ``count`` bytes, which must be there; return them, and the credit due."""
        claimed = min(count, self._claimed)
        self._claimed -= claimed
        self.buffered -= count
        credit = self.window.consumed(count - claimed)
        taken: list[bytes | bytearray] = []
        while count:
            chunk = self._chunks[0]
            end = self._head + count
            if end < len(chunk):
                taken.append(chunk[self._head : end])
                self._head = end
                break
            taken.append(chunk[self._head :] if self._head else chunk)
            count = end - len(chunk)
            self._head = 0
            self._chunks.popleft()
        # one chunk of its own kind is not copied
        whole = taken[0] if len(taken) == 1 else None
        return whole if isinstance(whole, bytes) else b"".join(taken), credit
