"""A page whose bodies begin all at once: what comes first is the scheduler's doing."""

from __future__ import annotations

import asyncio

import aioh2


class Page:
    """A page, and bodies of one size that begin together once so many are asked for."""

    #: Bytes of each body.
    SIZE = 512 * 1024
    HTML = b"""<html><head><img src="/image.png"/><link rel="stylesheet" href="/style.css"/>
        <script src="/script.js"></script></head></html>"""

    def __init__(self, bodies: int) -> None:
        # How many are still to be asked for.
        self._missing = bodies
        # Set when none is.
        self._all = asyncio.Event()

    async def handle(self, stream: aioh2.H2Stream) -> None:
        """Answer a request: for ``/`` with the page."""
        await stream.start_response({":status": "200", "content-type": "text/html"})
        if (":path", "/") in stream.request_headers:
            await stream.send_data(self.HTML, end_stream=True)
            return
        self._missing -= 1
        if not self._missing:
            # in the next tick, when all wait
            asyncio.get_running_loop().call_soon(self._all.set)
        await self._all.wait()
        await stream.send_data(bytes(self.SIZE), end_stream=True)
