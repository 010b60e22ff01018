"""How many bytes a late urgent response has to let pass, while downloads fill the connection.

One process holds both sides of a TCP connection, the client in a thread, so that one moment can
be looked at from both. When an urgent body is handed to ``send_data``, the bytes that go before
its first one are in three places: framed by aioh2 and not written, in the transport's buffer, or
with the kernel. The first two are what aioh2 bounds: a share of one write, which goes to a
transport below its high-water mark. The third is the size of the socket buffers.

``python -m benchmarks.urgent --reader slow`` measures one kind of reader and prints JSON;
``python -m benchmarks --only urgent`` runs all.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import functools
import importlib
import json
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final, cast

from .processes import ROOT, SERVER_CORE, confine
from .tables import table
from .wire import END_HEADERS, END_STREAM, GET, HEADERS, PREFACE, SETTINGS, WINDOW_UPDATE, frame

__all__ = ["READERS", "SCHEMES", "TITLE", "report", "run"]

TITLE: Final = "KiB that go before a late urgent body"
#: Bytes that the reader takes at a time, and the seconds that it then waits.
READERS: Final = {"fast": (262_144, 0.0), "slow": (65_536, 0.001)}
#: Who says that a stream is urgent: the server by ``reprioritize`` (RFC 7540), or the request by
#: its ``priority`` field (RFC 9218).
SCHEMES: Final = ("RFC 7540", "RFC 9218")
_DOWNLOADS: Final = 4
# Bytes of one send_data of a download, and of the urgent body: three frames.
_LARGE: Final = 8 * 1024 * 1024
_URGENT: Final = 3 * 16_384
_SAMPLES: Final = 40
_LIFETIME: Final = 120
_LARGEST_WINDOW: Final = 2**31 - 1
_NO_RFC7540_PRIORITIES: Final = 0x9
_DATA: Final = 0x0
# A literal field, not indexed, with a new name (RFC 7541 section 6.2.2): "priority: u=0".
_URGENT_FIELD: Final = b"\x00\x08priority\x03u=0"


@dataclasses.dataclass(frozen=True)
class Sample:
    """Bytes that went before the first byte of one urgent body, by where they were."""

    #: Framed by aioh2, or yet to be framed.
    library: int
    #: In the buffer of the asyncio transport.
    transport: int
    #: In the socket buffers of both sides.
    kernel: int
    #: Bytes of other streams between the body's first byte and its last.
    between: int


@dataclasses.dataclass
class _Moment:
    """One urgent body, as the server hands it over."""

    written: int
    buffered: int
    received: int


class Reader(threading.Thread):
    """A client that reads at a pace of its own, and knows where in the bytes each stream is."""

    def __init__(self, connection: socket.socket, size: int, pause: float) -> None:
        super().__init__(daemon=True)
        self._socket = connection
        self._size = size
        self._pause = pause
        self._loop = asyncio.get_running_loop()
        #: Bytes read so far.
        self.received = 0
        # The start of a frame whose header has not come whole, and the bytes of payload to skip.
        self._header = bytearray()
        self._skip = 0
        # Who waits until so many bytes have come.
        self._wanted: tuple[int, asyncio.Event] | None = None
        # By urgent stream: where its DATA frames began, and who waits for the last one.
        self._watched: dict[int, tuple[asyncio.Future[tuple[int, int]], list[int]]] = {}

    async def reach(self, count: int) -> None:
        """Wait for so many more bytes."""
        event = asyncio.Event()
        self._wanted = self.received + count, event
        await event.wait()

    def watch(self, stream_id: int) -> asyncio.Future[tuple[int, int]]:
        """Return what gets the places where the stream's body begins and ends."""
        future: asyncio.Future[tuple[int, int]] = self._loop.create_future()
        self._watched[stream_id] = future, []
        return future

    def run(self) -> None:
        """Read until the connection is closed."""
        while data := self._socket.recv(self._size):
            self._walk(data)
            self.received += len(data)
            if self._wanted is not None and self.received >= self._wanted[0]:
                self._loop.call_soon_threadsafe(self._wanted[1].set)
                self._wanted = None
            if self._pause:
                time.sleep(self._pause)

    def _walk(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            skipped = min(self._skip, len(data) - at)
            self._skip -= skipped
            at += skipped
            missing = 9 - len(self._header)
            self._header += data[at : at + missing]
            at += min(missing, len(data) - at)
            if len(self._header) == 9:
                self._begin(bytes(self._header), self.received + at)
                self._header.clear()

    def _begin(self, header: bytes, place: int) -> None:
        self._skip = int.from_bytes(header[:3], "big")
        watched = self._watched.get(int.from_bytes(header[5:9], "big"))
        if watched is None or header[3] != _DATA:
            return
        future, places = watched
        places.append(place)
        if header[4] & END_STREAM:
            ends = place + self._skip
            self._loop.call_soon_threadsafe(future.set_result, (places[0], ends))


class Bench:
    """One connection with downloads on it, and urgent requests one after another."""

    def __init__(self, aioh2: Any, scheme: str) -> None:
        self._aioh2 = aioh2
        self._scheme = scheme
        # How a moment looks from the client, and what becomes of the next moment.
        self._received: Callable[[], int] = lambda: 0
        self._moment: asyncio.Future[_Moment] | None = None
        #: The bound in bytes: what aioh2 holds, and the transport's high-water mark.
        self.bound: dict[str, int] = {}

    async def handle(self, stream: Any) -> None:
        """Answer a request: as urgent, or with a download that does not end."""
        await stream.start_response({":status": "200"})
        if dict(stream.request_headers)[":path"] != "/":
            await self._urgent(stream)
            return
        body = bytes(_LARGE)
        while True:
            await stream.send_data(body)

    async def _urgent(self, stream: Any) -> None:
        protocol, moment = stream.protocol, self._moment
        assert moment is not None
        if self._scheme == "RFC 7540":
            protocol.reprioritize(stream.id, weight=256, exclusive=True)
        written = protocol.stats.bytes_sent
        buffered = protocol.transport.get_write_buffer_size()
        moment.set_result(_Moment(written, buffered, self._received()))
        await stream.send_data(bytes(_URGENT), end_stream=True)

    def protocol_class(self) -> Any:
        """H2Protocol, with the transport where it can be looked at."""
        bench = self
        base: Any = self._aioh2.H2Protocol
        sender = importlib.import_module("aioh2.sender").Sender

        class Watched(base):  # type: ignore[misc] # which aioh2 it is, is known at run time only
            def connection_made(self, transport: asyncio.Transport) -> None:
                self.transport = transport
                _, high = transport.get_write_buffer_limits()
                bench.bound = {"library": sender.SHARE, "transport": high}
                super().connection_made(transport)

        return Watched

    async def run(self, size: int, pause: float, samples: int) -> list[Sample]:
        """Measure with a reader of that kind."""
        server = await self._aioh2.start_server(
            lambda protocol: protocol.serve(self.handle),
            "127.0.0.1",
            cls=self.protocol_class(),
        )
        connection = socket.create_connection(server.sockets[0].getsockname())
        reader = Reader(connection, size, pause)
        self._received = lambda: reader.received
        connection.sendall(self._greeting())
        reader.start()
        taken = [await self._sample(reader, connection, number) for number in range(samples)]
        connection.shutdown(socket.SHUT_RDWR)
        await server.shutdown(0)
        reader.join()
        connection.close()
        return taken

    def _greeting(self) -> bytes:
        settings = [(0x4, _LARGEST_WINDOW)]
        if self._scheme == "RFC 9218":
            settings.append((_NO_RFC7540_PRIORITIES, 1))
        values = b"".join(k.to_bytes(2, "big") + v.to_bytes(4, "big") for k, v in settings)
        window = (_LARGEST_WINDOW - 65_535).to_bytes(4, "big")
        downloads = (
            frame(HEADERS, END_STREAM | END_HEADERS, 1 + 2 * number, GET)
            for number in range(_DOWNLOADS)
        )
        opened = frame(SETTINGS, 0, 0, values) + frame(WINDOW_UPDATE, 0, 0, window)
        return PREFACE + opened + b"".join(downloads)

    async def _sample(self, reader: Reader, connection: socket.socket, number: int) -> Sample:
        # not always at the same point of the server's rhythm
        await reader.reach(random.Random(number).randrange(200_000, 1_200_000))
        self._moment = asyncio.get_running_loop().create_future()
        stream_id = 1 + 2 * (_DOWNLOADS + number)
        places = reader.watch(stream_id)
        # :path /index.html of the static table, in place of /
        block = GET.replace(b"\x84", b"\x85")
        if self._scheme == "RFC 9218":
            block += _URGENT_FIELD
        connection.sendall(frame(HEADERS, END_STREAM | END_HEADERS, stream_id, block))
        moment = await self._moment
        first, last = await places
        return Sample(
            library=first - moment.written,
            transport=moment.buffered,
            kernel=moment.written - moment.buffered - moment.received,
            between=last - first - _URGENT,
        )


def run(rounds: int, say: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Measure each scheme and reader, ``rounds`` times; return bounds and samples of each."""
    figures: dict[str, dict[str, Any]] = {}
    for scheme in SCHEMES:
        for reader in READERS:
            label = f"{scheme}, {reader} reader"
            for number in range(rounds):
                say(f"urgent: {label}: round {number + 1} of {rounds}")
                try:
                    found = _run_one(scheme, reader)
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    say(f"urgent: {label}: {error}")
                    break
                known = figures.setdefault(label, {"bound": found["bound"], "samples": []})
                known["samples"] += found["samples"]
    return figures


def _run_one(scheme: str, reader: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.urgent", "--scheme", scheme, "--reader", reader]
    done = subprocess.run(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_LIFETIME,
        check=False,
        preexec_fn=functools.partial(confine, SERVER_CORE, _LIFETIME),
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().rpartition("\n")[2] or str(done.returncode))
    return cast(dict[str, Any], json.loads(done.stdout))


def report(figures: dict[str, dict[str, Any]]) -> str:
    """The table: medians and maxima in KiB, beside the bound."""
    rows = [
        [
            "signal, reader",
            "aioh2 and transport",
            "maximum",
            "bound",
            "kernel",
            "its maximum",
            "between",
        ]
    ]
    for label, found in figures.items():
        samples = [Sample(**sample) for sample in found["samples"]]
        both = [sample.library + sample.transport for sample in samples]
        kernel = [sample.kernel for sample in samples]
        kibs = [
            statistics.median(both),
            max(both),
            sum(found["bound"].values()),
            statistics.median(kernel),
            max(kernel),
            max(sample.between for sample in samples),
        ]
        rows.append([label, *(f"{value / 1024:,.1f}" for value in kibs)])
    return table(rows)


def main() -> None:
    """Measure one scheme and reader."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.urgent", description=__doc__)
    parser.add_argument("--scheme", choices=SCHEMES, default=SCHEMES[0])
    parser.add_argument("--reader", choices=READERS, default="fast")
    parser.add_argument("--samples", type=int, default=_SAMPLES)
    parser.add_argument("--path", metavar="DIR", help="take aioh2 from this folder")
    options = parser.parse_args()
    if options.path:
        sys.path.insert(0, options.path)
    aioh2 = importlib.import_module("aioh2")
    if options.scheme == "RFC 9218" and not hasattr(aioh2, "Priority"):
        sys.exit("this aioh2 does not have RFC 9218 priorities")
    bench = Bench(aioh2, options.scheme)
    samples = asyncio.run(bench.run(*READERS[options.reader], options.samples))
    found = {"bound": bench.bound, "samples": [dataclasses.asdict(one) for one in samples]}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
