"""Lines and progress bars on standard error, with colours where rich is installed.

rich comes with the extra ``cli``; without it, and where standard error is no terminal, lines are
plain.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from types import ModuleType
from typing import Any, Protocol

from .exchange import Exchange

__all__ = ["Notes", "progress", "size"]

# Seconds: what is over sooner shows no progress, and how often it is shown.
_PATIENCE = 1.0
_EVERY = 0.2
# Transfers that have a bar of their own.
_BARS = 8
_CLEAR = "\r\x1b[K"


def _rich() -> ModuleType | None:
    """Return rich, where it is installed and of use."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        return None
    try:
        import rich.console
        import rich.progress
        import rich.text
    except ImportError:
        return None
    return rich


def size(count: float) -> str:
    """Return a number of bytes for people."""
    if count < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB"):
        count /= 1024
        if count < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} GiB"


class Notes:
    """Lines on standard error."""

    def __init__(self) -> None:
        rich = _rich()
        # What colours them; None: nothing.
        self._console: Any = rich and rich.console.Console(stderr=True, highlight=False)
        self._text: Any = rich and rich.text.Text

    def write(self, line: str, style: str = "") -> None:
        """Write a line; ``style`` is one of rich's."""
        if self._console is None:
            print(line, file=sys.stderr)
        else:
            self._console.print(self._text(line, style=style), soft_wrap=True)

    def say(self, line: str) -> None:
        """Write what the user has to know."""
        self.write(f"aioh2: {line}")


class _Display(Protocol):
    def show(self, exchanges: Sequence[Exchange], seconds: float) -> None:
        """Show how far they are, so many seconds after they began."""

    def clear(self) -> None:
        """Leave nothing of it on the screen."""


class _Line:
    """All in one line."""

    def show(self, exchanges: Sequence[Exchange], seconds: float) -> None:
        """Write the line anew."""
        done = sum(exchange.ended is not None for exchange in exchanges)
        received = sum(exchange.received for exchange in exchanges)
        text = f"{done} of {len(exchanges)} done, {size(received)}, {size(received / seconds)}/s"
        print(_CLEAR + text, end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the line away."""
        print(_CLEAR, end="", file=sys.stderr, flush=True)


class _Bars:
    """A bar for each transfer that is under way, up to so many, and one for all."""

    def __init__(self, rich: Any) -> None:
        columns = rich.progress
        self._progress = columns.Progress(
            columns.TextColumn("{task.description}", markup=False),
            columns.BarColumn(),
            columns.TextColumn("{task.fields[amount]}"),
            console=rich.console.Console(stderr=True),
            auto_refresh=False,
            transient=True,
        )
        self._progress.start()
        self._whole = self._progress.add_task("", amount="")
        # The bar of each exchange that has one.
        self._bars: dict[Exchange, Any] = {}

    def show(self, exchanges: Sequence[Exchange], seconds: float) -> None:
        """Draw all bars anew."""
        running = [e for e in exchanges if e.answered is not None and e.ended is None][:_BARS]
        for exchange in self._bars.keys() - {*running}:
            self._progress.remove_task(self._bars.pop(exchange))
        for exchange in running:
            if exchange not in self._bars:
                self._bars[exchange] = self._progress.add_task(exchange.url.path[-40:], amount="")
            self._progress.update(
                self._bars[exchange],
                total=exchange.expected,
                completed=exchange.received,
                amount=size(exchange.received),
            )
        done = sum(exchange.ended is not None for exchange in exchanges)
        received = sum(exchange.received for exchange in exchanges)
        self._progress.update(
            self._whole,
            description=f"{done} of {len(exchanges)} done",
            total=len(exchanges),
            completed=done,
            amount=f"{size(received)}, {size(received / seconds)}/s",
        )
        self._progress.refresh()

    def clear(self) -> None:
        """Take the bars away."""
        self._progress.stop()


@contextlib.asynccontextmanager
async def progress(exchanges: Sequence[Exchange]) -> AsyncIterator[None]:
    """Show progress while inside, where that takes long and standard error is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    showing = asyncio.create_task(_show(exchanges))
    try:
        yield
    finally:
        showing.cancel()
        await asyncio.wait([showing])


async def _show(exchanges: Sequence[Exchange]) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.sleep(_PATIENCE)
    rich = _rich()
    display: _Display = _Bars(rich) if rich is not None else _Line()
    try:
        while True:
            display.show(exchanges, loop.time() - began)
            await asyncio.sleep(_EVERY)
    finally:
        display.clear()
