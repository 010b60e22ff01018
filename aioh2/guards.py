"""What a peer may ask for that costs it little: token buckets, one for each kind of abuse.

Nothing here runs by itself. Time is an argument, in seconds of any monotonic clock.
"""

from __future__ import annotations

import math
from typing import Final

from h2.exceptions import DenialOfServiceError
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    HeadersFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from .config import Config

__all__ = ["BULK", "Budget", "BudgetExceeded", "Guards"]

#: Bytes from which on a DATA frame is worth something.
BULK: Final = 1_024

_ENDS: Final = 0x01
_PADDED: Final = 0x08
_PRIORITY: Final = 0x20
# Bytes of an entry of SETTINGS (RFC 9113 section 6.5.1).
_ENTRY: Final = 6


class BudgetExceeded(DenialOfServiceError):
    """A peer has asked for more than it may: ENHANCE_YOUR_CALM (RFC 9113 section 10.5)."""

    def __init__(self, budget: str, reason: str) -> None:
        super().__init__(f"{budget} was exceeded: {reason}")
        #: The option that says how much it may.
        self.budget = budget


class Budget:
    """A token bucket: ``burst`` at once, then ``rate`` a second.

    What is earned comes on top, and is kept until it is spent: it pays for frames that honest
    traffic brings with it, however fast that is.
    """

    __slots__ = ("_level", "_since", "_used", "burst", "name", "rate")

    def __init__(self, name: str, size: tuple[int, float] | None) -> None:
        #: The option that sets it.
        self.name = name
        #: How much may be spent at once, and how much more a second; no end where it is off.
        self.burst: float
        self.rate: float
        self.burst, self.rate = (math.inf, 0) if size is None else size
        # What of the burst is there, and since when.
        self._level: float = self.burst
        self._since = -math.inf
        # What was spent of all that was ever earned.
        self._used = 0

    def spend(self, now: float, earned: float = 0) -> None:
        """Spend one; raises :class:`BudgetExceeded` where there is none.

        ``earned``: all that was ever earned.
        """
        if now > self._since:
            if self._level < self.burst:
                gained = (now - self._since) * self.rate
                self._level = min(self.burst, self._level + gained)
            self._since = now
        if self._level >= 1:
            self._level -= 1
        elif earned - self._used >= 1:
            self._used += 1
        else:
            raise BudgetExceeded(self.name, f"{self.burst} at once, then {self.rate} a second")

    def left(self, now: float) -> float:
        """Return the share of the burst that is there, from 0 to 1; 1 where it is off.

        What was earned is not in it.
        """
        if math.isinf(self.burst):
            return 1.0
        gained = max(now - self._since, 0) * self.rate if self._level < self.burst else 0
        return min(self.burst, self._level + gained) / self.burst if self.burst else 0.0


class Guards:
    """The budgets of one connection. A frame is charged before anything is done for it.

    Requests, DATA with content, and the first header block of anything are charged to none:
    what bounds them is the number of streams, flow control, and the share of a tick.
    """

    __slots__ = (
        "_max_settings",
        "begun_or_reset",
        "bulk_received",
        "completed",
        "content_received",
        "control",
        "data_sent",
        "empty",
        "now",
        "resets",
        "to_be_acked",
        "windows",
    )

    #: Control frames that a DATA frame of :data:`BULK` bytes earns, or any that this side sends:
    #: peers probe the path with a PING for each (RFC 9113 section 6.7 sets no limit).
    CONTROL_EARNED: Final = 2
    #: WINDOW_UPDATE frames that a DATA frame which this side sends earns: two for its stream and
    #: two for the connection.
    WINDOWS_EARNED: Final = 4
    #: What of a reset a stream that both sides end cleanly earns: a client may cancel one request
    #: in five for ever, as one that types ahead does.
    RESETS_EARNED: Final = 0.25

    def __init__(self, config: Config) -> None:
        #: The time of what is being received, in seconds.
        self.now = 0.0
        # What earns. Who sees it happen adds to it: calls would cost more than all else here.
        #: DATA frames with content that have come, and those of at least :data:`BULK` bytes.
        self.content_received = 0
        self.bulk_received = 0
        #: DATA frames that were sent.
        self.data_sent = 0
        #: Streams that both sides have ended cleanly.
        self.completed = 0
        #: Streams that this side has opened, which the peer may reset, and those that it has
        #: reset as its application wants, where the peer's own may cross it.
        self.begun_or_reset = 0
        #: Frames that were sent which the peer has to acknowledge.
        self.to_be_acked = 0
        #: RST_STREAM frames of the peer, and those that it makes this side send.
        self.resets = Budget("reset_budget", config.reset_budget)
        #: Frames that carry no content and open no window.
        self.control = Budget("control_budget", config.control_budget)
        #: WINDOW_UPDATE frames.
        self.windows = Budget("window_update_budget", config.window_update_budget)
        #: DATA, HEADERS and CONTINUATION frames with nothing in them.
        self.empty = Budget("empty_frame_budget", config.empty_frame_budget)
        self._max_settings = config.max_settings_entries

    def received(self, kind: int, length: int, flags: int) -> None:
        """Charge for a frame, by its header; raises :class:`BudgetExceeded`.

        DATA with content need not come here: who counts it has done enough.
        """
        if kind == WindowUpdateFrame.type:
            self.windows.spend(self.now, self.WINDOWS_EARNED * self.data_sent)
        elif kind == RstStreamFrame.type:
            self.charge_reset()
        elif kind == DataFrame.type:
            if length <= bool(flags & _PADDED) and not flags & _ENDS:
                self._charge_empty()
        elif kind in (HeadersFrame.type, ContinuationFrame.type):
            if length <= _overhead(kind, flags):
                self._charge_empty()
        elif kind != PushPromiseFrame.type:
            if kind == SettingsFrame.type and length > _ENTRY * self._max_settings:
                raise BudgetExceeded(
                    "max_settings_entries", f"SETTINGS with {length // _ENTRY} entries came"
                )
            data = self.bulk_received + self.data_sent
            self.control.spend(self.now, self.CONTROL_EARNED * data + self.to_be_acked)

    def left(self, now: float) -> dict[str, float]:
        """Return the share that is left of each budget, by the option that sets it."""
        budgets = (self.resets, self.control, self.windows, self.empty)
        return {budget.name: budget.left(now) for budget in budgets}

    def charge_reset(self) -> None:
        """Charge for a reset that the peer has sent, or that it makes this side send."""
        earned = self.begun_or_reset + self.RESETS_EARNED * self.completed
        self.resets.spend(self.now, earned)

    def _charge_empty(self) -> None:
        self.empty.spend(self.now, self.content_received)


def _overhead(kind: int, flags: int) -> int:
    """Return the bytes of HEADERS that are not of the block (RFC 9113 section 6.2)."""
    if kind != HeadersFrame.type:
        return 0
    return bool(flags & _PADDED) + 5 * bool(flags & _PRIORITY)
