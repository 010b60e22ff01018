"""What may not take longer than its limit: when each wait began, and which are over.

Nothing here runs by itself. Time is an argument, in seconds of any monotonic clock.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from enum import Enum

from .config import Config

__all__ = ["Limit", "Timeouts"]


class Limit(Enum):
    """The waits that have a limit, by the option that sets it."""

    SETTINGS_ACK = "open_timeout"
    IDLE = "idle_timeout"
    FRAME = "frame_timeout"
    WRITE = "write_timeout"
    WINDOW = "window_timeout"
    BODY = "body_timeout"

    # Enum's own is a Python function
    __hash__ = object.__hash__


class Timeouts:
    """The waits of one connection, of it or of its streams.

    All waits of a kind have the same limit, so the one that began first ends first, and no
    step looks at more than the waits that are over.
    """

    def __init__(self, limits: Mapping[Limit, float | None]) -> None:
        self._limits = limits
        # When each wait began, by kind and stream (0 and below: the connection), oldest first.
        self._began: dict[Limit, OrderedDict[int, float]] = {
            kind: OrderedDict() for kind, limit in limits.items() if limit is not None
        }

    @classmethod
    def of(cls, config: Config) -> Timeouts:
        """Return those that ``config`` sets."""
        return cls({kind: getattr(config, kind.value) for kind in Limit})

    def __len__(self) -> int:
        """Count the waits."""
        return sum(len(waits) for waits in self._began.values())

    def begin(self, kind: Limit, now: float, stream_id: int = 0) -> None:
        """A wait begins, if it has not begun."""
        waits = self._began.get(kind)
        if waits is not None:
            waits.setdefault(stream_id, now)

    def end(self, kind: Limit, stream_id: int = 0) -> None:
        """A wait is over, if it has begun."""
        waits = self._began.get(kind)
        if waits is not None:
            waits.pop(stream_id, None)

    def forget(self, stream_id: int) -> None:
        """A stream is over."""
        for waits in self._began.values():
            waits.pop(stream_id, None)

    @property
    def deadline(self) -> float | None:
        """When the next wait has taken too long; None: there is none."""
        return min(
            (
                next(iter(waits.values())) + (self._limits[kind] or 0)
                for kind, waits in self._began.items()
                if waits
            ),
            default=None,
        )

    def expired(self, now: float) -> list[tuple[Limit, int]]:
        """Take out and return the waits that have taken too long, with their streams."""
        over = []
        for kind, waits in self._began.items():
            limit = self._limits[kind] or 0
            while waits and next(iter(waits.values())) + limit <= now:
                over.append((kind, waits.popitem(last=False)[0]))
        return over
