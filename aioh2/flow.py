"""Flow control of what is received: integers in, credit out (RFC 9113 section 6.9).

Plain arithmetic: who sends the WINDOW_UPDATE, and when it is written, is not known here.
"""

from __future__ import annotations

__all__ = ["ReceiveWindow"]


class ReceiveWindow:
    """One receive window, of a stream or of the connection.

    Bytes that arrive take from the peer's window; bytes that were consumed are owed to it. What
    is owed goes back in one piece once it is half the window, so that a reader who keeps up
    costs two WINDOW_UPDATE frames a window, and a peer is never left waiting for credit that
    nobody uses: what is neither unread nor owed is more than half the window.
    """

    __slots__ = ("_owed", "_unread", "size")

    def __init__(self, size: int) -> None:
        #: What the peer may have in flight when nothing is unread, in bytes.
        self.size = size
        # Arrived, and still held for a reader.
        self._unread = 0
        # Consumed, and not yet given back.
        self._owed = 0

    @property
    def unread(self) -> int:
        """Bytes that have arrived and were not consumed."""
        return self._unread

    @property
    def owed(self) -> int:
        """Bytes that were consumed and not yet given back."""
        return self._owed

    def received(self, count: int) -> None:
        """Take ``count`` flow-controlled bytes, padding included, out of the window."""
        self._unread += count

    def consumed(self, count: int) -> int:
        """Say that ``count`` of the unread bytes are used; return the credit to send now, or 0."""
        self._unread -= count
        self._owed += count
        return self._due()

    def resize(self, size: int) -> int:
        """Change the size, which SETTINGS has told the peer already; return credit due, or 0."""
        self.size = size
        return self._due()

    def _due(self) -> int:
        if not self._owed or 2 * self._owed < self.size:
            return 0
        credit, self._owed = self._owed, 0
        return credit
