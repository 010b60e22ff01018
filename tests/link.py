"""A link of a given bandwidth and round-trip time, in virtual time.

The clock of ``VirtualLoop`` stands still while anything is ready, and jumps to the next timer when
nothing is. So a transfer takes as long as the link makes it, to the byte, on any machine, and a
test of ten seconds takes as long as its own work.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import aioh2

from .wire import MemoryTransport, settle

P = TypeVar("P", bound=aioh2.H2Protocol)

# What TCP takes in one piece; the bytes arrive in such pieces.
_PIECE = 16_384


class _Jump(selectors.DefaultSelector):
    """Waits by moving its loop's clock."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everybody waits, and nothing will ever happen")
            self.loop.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in whose time nothing takes time but waiting."""

    def __init__(self) -> None:
        # a number that its clock adds to without much rounding, and not 0, which hides mistakes
        self.now = 1000.0
        selector = _Jump()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


def in_virtual_time(test: Callable[[Any], Awaitable[None]]) -> Callable[[Any], None]:
    """Run a test in virtual time; what reaches the loop's exception handler fails it."""

    @functools.wraps(test)
    def run(case: Any) -> None:
        errors: list[dict[str, Any]] = []

        async def watched() -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: errors.append(context))
            await test(case)
            await settle()

        with asyncio.Runner(debug=True, loop_factory=VirtualLoop) as runner:
            runner.run(watched())
        case.assertEqual(errors, [])

    return run


class LinkTransport(MemoryTransport):
    """One end of a link: what is written leaves at ``bandwidth``, and is there ``delay`` later."""

    #: Bytes in the buffer from which on writing is paused, and at which it goes on.
    HIGH, LOW = 65_536, 16_384

    def __init__(self, protocol: asyncio.Protocol, *, bandwidth: float, delay: float) -> None:
        super().__init__(protocol)
        # In bytes a second, and in seconds.
        self.bandwidth = bandwidth
        self.delay = delay
        # Where what is written arrives.
        self.far_end: LinkTransport | None = None
        # Bytes that have not left, the pieces that they are, and whether one is leaving.
        self.buffered = 0
        self.pieces: deque[bytes] = deque()
        self.leaving = False
        self.paused = False

    def write(self, data: bytes) -> None:
        assert not self.closed, "write after close"
        data = bytes(data)
        self.buffered += len(data)
        self.pieces.extend(data[at : at + _PIECE] for at in range(0, len(data), _PIECE))
        if not self.leaving:
            self._leave()
        if self.buffered > self.HIGH and not self.paused:
            self.paused = True
            self.protocol.pause_writing()

    def _leave(self) -> None:
        self.leaving = bool(self.pieces)
        if self.pieces:
            piece = self.pieces.popleft()
            loop = asyncio.get_running_loop()
            loop.call_later(len(piece) / self.bandwidth, self._left, piece)

    def _left(self, piece: bytes) -> None:
        assert self.far_end is not None
        asyncio.get_running_loop().call_later(self.delay, self.far_end.arrived, piece)
        self.buffered -= len(piece)
        self._leave()
        if self.paused and self.buffered <= self.LOW:
            self.paused = False
            self.protocol.resume_writing()

    def arrived(self, piece: bytes) -> None:
        if not self.closed:
            self.protocol.data_received(piece)

    def get_write_buffer_size(self) -> int:
        return self.buffered


async def linked_pair(
    *,
    bandwidth: float,
    rtt: float,
    kind: type[P],
    client: dict[str, Any] | None = None,
    server: dict[str, Any] | None = None,
) -> tuple[P, P]:
    """Return a client and a server over a link, past their greetings.

    ``bandwidth``: bytes a second, each way; ``rtt``: seconds.
    """
    ends = (kind(True, **(client or {})), kind(False, **(server or {})))
    near, far = (LinkTransport(end, bandwidth=bandwidth, delay=rtt / 2) for end in ends)
    near.far_end, far.far_end = far, near
    for end, transport in zip(ends, (near, far), strict=True):
        end.connection_made(transport)
    # SETTINGS and their ACK are small, but they take time to leave too
    await asyncio.sleep(2 * rtt + 2_000 / bandwidth)
    return ends
