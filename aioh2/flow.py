"""Flow control of what is received: integers in, credit out (RFC 9113 section 6.9).

Plain arithmetic: who sends the WINDOW_UPDATE, and when it is written, is not known here. Time is
an argument, in seconds of any monotonic clock.
"""

from __future__ import annotations

__all__ = ["Growth", "ReceiveWindow"]


class ReceiveWindow:
    """One receive window, of a stream or of the connection.

    Bytes that arrive take from the peer's window; bytes that were consumed are owed to it. What
    is owed goes back in one piece once it is half the window, so that a reader who keeps up
    costs two WINDOW_UPDATE frames a window, and a peer is never left waiting for credit that
    nobody uses: what is neither unread nor owed is more than half the window.
    """

    __slots__ = ("_owed", "_unread", "credited_at", "grown", "size", "starved")

    def __init__(self, size: int) -> None:
        #: What the peer may have in flight when nothing is unread, in bytes.
        self.size: int = size
        # Arrived, and still held for a reader.
        self._unread = 0
        # Consumed, and not yet given back.
        self._owed = 0
        #: What of the size was given beyond what SETTINGS say, in bytes; Growth counts it.
        self.grown: int = 0
        #: Whether a reader has waited for the peer since the latest credit; Growth asks and clears.
        self.starved: bool = False
        #: When that credit was given; None: not yet, or windows do not grow.
        self.credited_at: float | None = None

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
        return self.passed(count)

    def passed(self, count: int) -> int:
        """Take ``count`` bytes that are used as they arrive; return the credit to send, or 0."""
        self._owed = owed = self._owed + count
        return self._due() if 2 * owed >= self.size else 0

    def resize(self, size: int) -> int:
        """Change the size, which SETTINGS has told the peer already; return credit due, or 0.

        The peer's window changes by the difference, so what it has grown by stays (RFC 9113
        section 6.9.2).
        """
        self.size = size + self.grown
        return self._due()

    def _due(self) -> int:
        if not self._owed or 2 * self._owed < self.size:
            return 0
        credit, self._owed = self._owed, 0
        return credit


class Growth:
    """How far the stream windows of one connection grow beyond what SETTINGS say.

    A window grows, to its double, where it is what limits the peer: its reader has emptied it and
    waited, and half of it has gone by in less than two round trips. One would be the exact bound
    (half the window is on its way, the other half owed): the second is for what a round trip
    varies by. A reader who does not keep up, or a peer who has no more to send, changes nothing.

    ``limit``: what a window may grow to; ``budget``: what all may grow by, together; in bytes.
    """

    def __init__(self, limit: int, budget: int) -> None:
        self._limit = limit
        # What is left of the budget.
        self._spare = budget
        # Windows that have grown, of streams that have ended and were not read to the end.
        self._left: set[ReceiveWindow] = set()

    def credited(self, window: ReceiveWindow, now: float, rtt: float | None) -> int:
        """Say that credit of ``window`` is given now; return what it grows by beside, or 0.

        ``rtt``: the path's round-trip time in seconds; None: not known yet.
        """
        before, starved = window.credited_at, window.starved
        window.credited_at, window.starved = now, False
        if before is None or rtt is None or not starved or now - before >= 2 * rtt:
            return 0
        wanted = min(window.size, self._limit - window.size)
        if wanted > self._spare:
            self._sweep()
        more = max(0, min(wanted, self._spare))
        self._spare -= more
        window.grown += more
        window.size += more
        return more

    def may_grow(self, window: ReceiveWindow) -> bool:
        """Whether there is anything to know a round-trip time for."""
        return window.starved and window.size < self._limit

    def ended(self, window: ReceiveWindow) -> None:
        """The peer has no use for ``window`` any more; what is unread still takes its room."""
        if window.grown:
            self._left.add(window)
            if not window.unread:
                self.forgotten(window)

    def forgotten(self, window: ReceiveWindow) -> None:
        """What was unread is dropped."""
        self._left.discard(window)
        self._spare += window.grown
        window.grown = 0

    def _sweep(self) -> None:
        for window in [window for window in self._left if not window.unread]:
            self.forgotten(window)
