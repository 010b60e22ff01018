"""``ping HOST``: round-trip times of HTTP/2 PING frames (RFC 9113 section 6.7)."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import Any

from ..exceptions import AIOH2Exception
from ..protocol import H2Protocol
from . import connecting
from .connecting import Connector, seconds
from .exits import Exit, Failure
from .terminal import Notes
from .urls import URL, Origin
from .watching import traced

__all__ = ["add", "run"]


def add(parsers: Any) -> None:
    """Add the command."""
    parser = parsers.add_parser("ping", help="measure the round-trip time of a connection")
    parser.set_defaults(run=run)
    parser.add_argument("host", metavar="HOST", help="HOST, HOST:PORT (over TLS), or a URL")
    parser.add_argument(
        *("-c", "--count"), type=_count, default=4, help="how many; 0: until Ctrl-C; default: 4"
    )
    parser.add_argument(
        *("-i", "--interval"),
        type=seconds,
        default=1,
        metavar="SECONDS",
        help="from one to the next; default: 1",
    )
    parser.add_argument(
        *("-W", "--timeout"),
        type=seconds,
        default=10,
        metavar="SECONDS",
        help="for each answer; default: 10",
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="write every frame to standard error"
    )
    parser.add_argument("--json", action="store_true", help="write the times as one JSON object")
    connecting.add_options(parser)


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is less than 0")
    return value


async def run(options: argparse.Namespace) -> Exit:
    """Send PINGs; return the exit code."""
    url = URL.parse(options.host, bare=True)
    origin, connector = url.origin, Connector(options, [url])
    cls = traced(Notes()) if options.verbose else H2Protocol
    async with await connector.connect(origin, cls) as protocol:
        pings = Pings(origin, options)
        pings.say(f"PING {connector.place(origin)}")
        try:
            await pings.run(protocol)
        finally:
            # after Ctrl-C as well
            pings.sum_up()
    return Exit.OK


class Pings:
    """Times of PINGs, in milliseconds."""

    def __init__(self, origin: Origin, options: argparse.Namespace) -> None:
        self._origin = origin
        self._options = options
        # How many were sent, and the times of those that were answered.
        self._sent = 0
        self._times: list[float] = []

    def say(self, line: str) -> None:
        """Write a line for people."""
        if not self._options.json:
            print(line)
            sys.stdout.flush()

    async def run(self, protocol: H2Protocol) -> None:
        """Send as many as are asked for."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not self._options.count or self._sent < self._options.count:
            await asyncio.sleep(due - loop.time())
            due = loop.time() + self._options.interval
            self._sent += 1
            try:
                async with asyncio.timeout(self._options.timeout):
                    rtt = await protocol.ping()
            except TimeoutError:
                limit = f"within {self._options.timeout:g} s"
                raise Failure(Exit.STREAM, f"{self._origin}: no answer {limit}") from None
            except AIOH2Exception as error:
                raise Failure(Exit.STREAM, f"{self._origin}: {error}") from None
            self._times.append(rtt * 1000)
            self.say(f"{self._sent}: {rtt * 1000:.3f} ms")

    def sum_up(self) -> None:
        """Write what came of all of them."""
        times = self._times
        least, mean, most = (
            (min(times), sum(times) / len(times), max(times)) if times else (None, None, None)
        )
        if self._options.json:
            summary = {
                "origin": str(self._origin),
                "sent": self._sent,
                "answered": len(times),
                "ms": {"min": least, "avg": mean, "max": most, "each": times},
            }
            print(json.dumps(summary, indent=2))
            return
        self.say(f"{self._sent} sent, {len(times)} answered")
        if times:
            self.say(f"min/avg/max: {least:.3f}/{mean:.3f}/{most:.3f} ms")
