"""A loop that is driven by hand, and frames cut from bytes."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Iterator
from typing import Any, NamedTuple

from .octets import PREFACE


class _Idle(selectors.DefaultSelector):
    """Stops its loop where that would wait."""

    loop: ManualLoop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and (timeout is None or timeout > 0):
            self.loop.stop()
        return ready


class ManualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock only moves when it is told to; ``run_forever`` ends when idle."""

    def __init__(self) -> None:
        self.now = 1000.0
        selector = _Idle()
        selector.loop = self
        super().__init__(selector)
        # it would take a traceback of every callback, of which there are a great many here
        self.set_debug(False)

    def time(self) -> float:
        return self.now

    def tick(self) -> None:
        """Run what is ready, and not what becomes ready by that."""
        self.stop()
        self.run_forever()

    def pass_time(self, seconds: float) -> None:
        """Run until nothing more happens within this time."""
        end = self.now + seconds
        self.run_forever()
        while self.deadlines and self.deadlines[0] <= end:
            self.now = max(self.now, self.deadlines[0])
            self.run_forever()
        self.now = end

    @property
    def deadlines(self) -> list[float]:
        """When the timers are due that were not cancelled."""
        # asyncio has no other way to ask
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        return sorted(timer.when() for timer in scheduled if not timer.cancelled())


class Frame(NamedTuple):
    """A frame as it is on the wire."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes


class Cutter:
    """Cuts what one side writes into frames, as it comes."""

    def __init__(self, *, client: bool) -> None:
        self._left = bytearray()
        self._preface = PREFACE if client else b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Return the frames that these bytes end."""
        self._left += data
        if self._preface and len(self._left) >= len(self._preface):
            assert self._left.startswith(self._preface), "not the preface of a client"
            del self._left[: len(self._preface)]
            self._preface = b""
        while not self._preface and len(self._left) >= 9:
            end = 9 + int.from_bytes(self._left[:3], "big")
            if len(self._left) < end:
                return
            head, payload = self._left[:9], bytes(self._left[9:end])
            del self._left[:end]
            yield Frame(head[3], head[4], int.from_bytes(head[5:9], "big"), payload)

    @property
    def is_whole(self) -> bool:
        """Whether no frame has begun that has not ended."""
        return not self._left
