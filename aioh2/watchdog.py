"""The one timer of a connection's timeouts, and what is done when one is over.

What the waits are is in ``timeouts``. The timer is armed when a wait begins, at the earliest
deadline, and looks again when it fires: a wait that ends in time costs no timer of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from .config import Config
from .timeouts import Limit, Timeouts

__all__ = ["Watchdog"]


class Watchdog:
    """Calls ``actions[kind](stream_id)`` for each wait that has taken too long."""

    def __init__(self, config: Config, actions: Mapping[Limit, Callable[[int], None]]) -> None:
        self._timeouts = Timeouts.of(config)
        # The kinds that have a limit: the others cost nothing.
        self._limited = {kind for kind in Limit if getattr(config, kind.value) is not None}
        self._actions = actions
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, kind: Limit, stream_id: int = 0) -> None:
        """A wait begins, if it has not begun."""
        if kind not in self._limited:
            return
        self._timeouts.begin(kind, self._loop.time(), stream_id)
        if self._timer is None:
            self._arm()
        else:
            deadline = self._timeouts.deadline
            if deadline is not None and deadline < self._timer.when():
                self._timer.cancel()
                self._arm()

    def restart(self, kind: Limit, stream_id: int = 0) -> None:
        """There was progress in a wait, if it has begun."""
        self._timeouts.restart(kind, self._loop.time(), stream_id)

    def end(self, kind: Limit, stream_id: int = 0) -> None:
        """A wait is over, if it has begun."""
        self._timeouts.end(kind, stream_id)

    def forget(self, stream_id: int) -> None:
        """A stream is over."""
        self._timeouts.forget(stream_id)

    def stop(self) -> None:
        """The connection is over."""
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        deadline = self._timeouts.deadline
        self._timer = None if deadline is None else self._loop.call_at(deadline, self._fire)

    def _fire(self) -> None:
        self._timer = None
        for kind, stream_id in self._timeouts.expired(self._loop.time()):
            self._actions[kind](stream_id)
        if self._timer is None:
            self._arm()
