"""A server to be treated badly; it says how it is when asked on standard input.

    python -m tests.faults.server --options '{"write_timeout": 1}'

``count 6`` gives the number of connections, ``blocked 7`` that of responses without end that wait
for their peers, ``resident 8`` the memory, ``mark 9`` all that a connection might leave behind. An
answer begins with the question's number. SIGTERM ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import resource
import signal
import ssl
import sys
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from h2.stream import H2Stream as ConnectionStream

import aioh2

from ..soak.requests import give_back, resident_bytes

_PIECE = bytes(256 * 1024)
_RESPONSE = {":status": "200"}
# Seconds in which tasks end that were cancelled.
_TURN = 0.1


# The streams of responses without end.
_endless: WeakSet[aioh2.H2Stream] = WeakSet()


async def handle(stream: aioh2.H2Stream) -> None:
    """Answer as the path says: without end, never, or with the length of the body."""
    path = dict(stream.request_headers)[":path"]
    if path == "/endless":
        _endless.add(stream)
        await stream.start_response(_RESPONSE)
        while True:
            await stream.send_data(_PIECE)
    if path == "/never":
        await asyncio.get_running_loop().create_future()
    length = 0
    async for chunk in stream:
        length += len(chunk)
    await stream.start_response(_RESPONSE)
    await stream.send_data(b"%d" % length, end_stream=True)


class Errors(logging.Handler):
    """Counts and prints what is worse than INFO."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1
        print(f"{record.levelname} {record.name}: {self.format(record)}", flush=True)


def _timers() -> int:
    # relies on BaseEventLoop._scheduled, the heap of its timers
    scheduled: list[asyncio.TimerHandle] = getattr(asyncio.get_running_loop(), "_scheduled", [])
    return sum(not timer.cancelled() for timer in scheduled)


def mark(server: aioh2.Server, errors: Errors) -> dict[str, Any]:
    """Look at everything."""
    # some of it is kept in cycles of asyncio's transports
    give_back()
    kinds = [type(thing) for thing in gc.get_objects()]
    return {
        "connections": len(server.connections),
        "protocols": sum(issubclass(kind, aioh2.H2Protocol) for kind in kinds),
        "streams": sum(issubclass(kind, (aioh2.H2Stream, ConnectionStream)) for kind in kinds),
        "tasks": len(asyncio.all_tasks()),
        "timers": _timers(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "resident": resident_bytes(),
        "errors": errors.count,
    }


async def run(options: dict[str, Any], context: ssl.SSLContext | None) -> None:
    """Serve, and answer questions, until SIGTERM."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    errors = Errors()
    logging.getLogger().addHandler(errors)
    server = await aioh2.start_server(
        lambda p: p.serve(handle), "127.0.0.1", 0, ssl=context, **options
    )

    answers: dict[str, Callable[[], object]] = {
        "count": lambda: len(server.connections),
        "blocked": lambda: sum(stream.blocked_on is not None for stream in _endless),
        "resident": resident_bytes,
        "mark": lambda: json.dumps(mark(server, errors)),
    }

    def answer(question: str, number: str) -> None:
        print(f"{number}: {answers[question]()}", flush=True)

    def asked() -> None:
        question, _, number = sys.stdin.readline().strip().partition(" ")
        if not question:
            loop.remove_reader(sys.stdin)
        elif question == "mark":
            # who has just been told of an end has a turn first
            loop.call_later(_TURN, answer, question, number)
        else:
            answer(question, number)

    loop.add_reader(sys.stdin, asked)
    print(f"listening on {server.sockets[0].getsockname()[1]}, process {os.getpid()}", flush=True)
    await stop.wait()
    await server.shutdown(0)


def main() -> None:
    """Read the options, and run."""
    parser = argparse.ArgumentParser(description="a server to be treated badly")
    parser.add_argument("--options", type=json.loads, default={}, help="those of Config, in JSON")
    parser.add_argument("--cert", metavar="FILE", help="certificate chain (PEM); needs --key")
    parser.add_argument("--key", metavar="FILE", help="private key (PEM)")
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    context = None
    if arguments.cert:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(arguments.cert, arguments.key)
    asyncio.run(run(arguments.options, context))


if __name__ == "__main__":
    main()
