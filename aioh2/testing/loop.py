"""Virtual time: an event loop whose clock passes only where everybody waits."""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

__all__ = ["VirtualTimeLoop", "virtual_time"]

P = ParamSpec("P")
T = TypeVar("T")


class _Jump(selectors.DefaultSelector):
    """Waits by moving its loop's clock."""

    loop: VirtualTimeLoop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everybody waits, and nothing will ever happen")
            self.loop.now += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop in whose time nothing takes time but waiting.

    Its clock stands still while anything is ready, and jumps to the next timer when nothing is. So
    ``asyncio.sleep(3600)`` takes no time, and a transfer over a pair with ``latency`` and
    ``bandwidth`` as long as those make it, on any machine. Where nothing is ready and no timer
    runs, it raises RuntimeError: the program would wait for ever.

    Use it as a ``loop_factory``, of ``asyncio.Runner`` for one, or by :func:`virtual_time`. It
    is for connections over memory: other sockets, threads and processes do not wait for its
    clock.
    """

    def __init__(self) -> None:
        #: The time, in seconds; it begins at 1000, since 0 hides mistakes.
        self.now = 1000.0
        selector = _Jump()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        """Return the time, in seconds."""
        return self.now


def virtual_time(function: Callable[P, Awaitable[T]]) -> Callable[P, T]:
    """Make a plain function of a coroutine function: each call is run in a loop of its own.

    It suits test methods and functions. The loop is in debug mode, as in unittest's own tests of
    coroutines, and what reaches its exception handler raises an ExceptionGroup at the end.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        errors: list[Exception] = []

        def note(_: object, context: dict[str, Any]) -> None:
            error = context.get("exception") or RuntimeError(context["message"])
            errors.append(error)

        async def watched() -> T:
            asyncio.get_running_loop().set_exception_handler(note)
            result = await function(*args, **kwargs)
            await asyncio.sleep(0)
            return result

        with asyncio.Runner(debug=True, loop_factory=VirtualTimeLoop) as runner:
            result = runner.run(watched())
        if errors:
            raise ExceptionGroup("the event loop's exception handler was told of errors", errors)
        return result

    return run
