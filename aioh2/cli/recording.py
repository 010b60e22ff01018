"""What ``trace`` keeps of connections: frames, windows over time, and what streams waited for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from h2.settings import SettingCodes
from hyperframe.frame import DataFrame, Frame, SettingsFrame, WindowUpdateFrame

from ..protocol import H2Protocol
from ..tap import FrameEvent, describe, frame_name
from .exchange import Exchange

__all__ = ["Recorder"]

#: Frames that are kept: a page of more is slow to look at. Of others only the windows are.
MAX_FRAMES: Final = 100_000
# Turns of the loop after a frame until whoever it wakes waits again.
_TURNS = 4
# Seconds between samples where nothing is on its way.
_EVERY = 0.005
# RFC 9113 section 6.9.2
_DEFAULT_WINDOW = 65_535

#: A moment, in microseconds since the recording began.
Moment = int


class Windows:
    """The windows of one connection in one direction of DATA, over time (RFC 9113 section 5.2)."""

    def __init__(self) -> None:
        # What a new stream has.
        self._initial = _DEFAULT_WINDOW
        #: The size at each change, by stream; 0 is the connection.
        self.series: dict[int, list[tuple[Moment, int]]] = {0: [(0, _DEFAULT_WINDOW)]}

    def change(self, now: Moment, stream_id: int, by: int) -> None:
        """A window has grown, or shrunk."""
        if stream_id:
            self.open(now, stream_id)
        points = self.series[stream_id]
        points.append((now, points[-1][1] + by))

    def open(self, now: Moment, stream_id: int) -> None:
        """A stream has begun, if it is new."""
        self.series.setdefault(stream_id, [(now, self._initial)])

    def begin_with(self, now: Moment, size: int) -> None:
        """INITIAL_WINDOW_SIZE holds: of all streams, those that are open too (section 6.9.2)."""
        by, self._initial = size - self._initial, size
        for stream_id in self.series.keys() - {0}:
            self.change(now, stream_id, by)


class Connection:
    """What is kept of one connection."""

    def __init__(self, name: str) -> None:
        #: As the log calls it.
        self.name = name
        #: Frames by stream, as the page takes them: when, whether sent, name, payload, words.
        self.frames: dict[int, list[tuple[Moment, int, str, int, str]]] = {}
        #: What the server may send, and what it lets this side send.
        self.receiving = Windows()
        self.sending = Windows()
        # Window sizes that this side has announced, which hold from their ACK on (section 6.5.3).
        self._announced: list[int | None] = []

    def measure(self, now: Moment, sent: bool, frame: Frame) -> None:
        """Take note of what a frame does to windows."""
        theirs, ours = self.receiving, self.sending
        if isinstance(frame, DataFrame):
            windows = ours if sent else theirs
            for stream_id in (0, frame.stream_id):
                windows.change(now, stream_id, -frame.flow_controlled_length)
        elif isinstance(frame, WindowUpdateFrame):
            (theirs if sent else ours).change(now, frame.stream_id, frame.window_increment)
        elif isinstance(frame, SettingsFrame):
            self._measure_settings(now, sent, frame)
        elif frame.stream_id:
            theirs.open(now, frame.stream_id)
            ours.open(now, frame.stream_id)

    def _measure_settings(self, now: Moment, sent: bool, frame: SettingsFrame) -> None:
        size = frame.settings.get(SettingCodes.INITIAL_WINDOW_SIZE)
        if sent and "ACK" not in frame.flags:
            self._announced.append(size)
            return
        if not sent and "ACK" in frame.flags and self._announced:
            size, windows = self._announced.pop(0), self.receiving
        else:
            windows = self.sending
        if size is not None:
            windows.begin_with(now, size)


class Recorder:
    """Keeps what happens; :meth:`frame` is what :func:`watched` calls."""

    def __init__(self, exchanges: Sequence[Exchange]) -> None:
        self._exchanges = exchanges
        # Those that are not over.
        self._running = list(exchanges)
        self._loop = asyncio.get_running_loop()
        # The loop's time at moment 0.
        self._began = self._loop.time()
        #: The connections in the order of their first frames.
        self.connections: dict[H2Protocol, Connection] = {}
        #: Frames that were kept, and those that were not.
        self.kept = 0
        self.dropped = 0
        # The spans in which each exchange waited, and what it waits for since when.
        self._waits: dict[Exchange, list[tuple[Moment, Moment, str]]] = {
            exchange: [] for exchange in exchanges
        }
        self._since: dict[Exchange, tuple[Moment, str | None]] = {}
        # Whether a sample is due.
        self._is_due = False

    def moment(self, time: float) -> Moment:
        """Return a time of the loop's clock as a moment."""
        return round((time - self._began) * 1e6)

    def frame(self, protocol: H2Protocol, event: FrameEvent) -> None:
        """Keep a frame."""
        connection = self.connections.get(protocol)
        if connection is None:
            connection = self.connections[protocol] = Connection(event.connection)
        now, frame, sent = self.moment(event.time), event.frame, event.direction == "sent"
        connection.measure(now, sent, frame)
        if self.kept == MAX_FRAMES:
            self.dropped += 1
        else:
            self.kept += 1
            # thousands of DATA frames say no more than how long they are
            says = "END_STREAM" if "END_STREAM" in frame.flags else ""
            words = says if isinstance(frame, DataFrame) else describe(frame, event.headers)
            record = (now, int(sent), frame_name(frame.type or 0), frame.body_len, words)
            connection.frames.setdefault(frame.stream_id, []).append(record)
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._sample_soon, _TURNS)

    def _sample_soon(self, turns: int) -> None:
        if turns:
            self._loop.call_soon(self._sample_soon, turns - 1)
            return
        self._is_due = False
        self.sample()

    def sample(self) -> None:
        """Take note of what each exchange waits for now."""
        now = self.moment(self._loop.time())
        for exchange in self._running:
            reason = exchange.waits_for
            since, before = self._since.get(exchange, (0, None))
            if reason == before:
                continue
            changed = now
            # where many are opened at once, this sample comes late
            if reason == "stream slot" and exchange.began is not None:
                changed = self.moment(exchange.began)
            elif before == "stream slot" and exchange.opened is not None:
                changed = self.moment(exchange.opened)
            if before is not None:
                self._waits[exchange].append((since, changed, before))
            self._since[exchange] = (changed, reason)
        self._running = [exchange for exchange in self._running if exchange.ended is None]

    @contextlib.asynccontextmanager
    async def sampling(self) -> AsyncIterator[None]:
        """Take samples at intervals, while inside and once more at the end."""
        task = self._loop.create_task(self._keep_sampling())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            self.sample()

    async def _keep_sampling(self) -> None:
        while True:
            self.sample()
            await asyncio.sleep(_EVERY)

    # --- for the page ----------------------------------------------------------------------

    def told(self, method: str) -> dict[str, Any]:
        """Return all that was kept, for JSON."""
        return {
            "span": self.moment(self._loop.time()),
            "dropped": self.dropped,
            "connections": [self._connection(of) for of in self.connections.items()],
            "streams": [self._stream(exchange, method) for exchange in self._exchanges],
        }

    def _connection(self, of: tuple[H2Protocol, Connection]) -> dict[str, Any]:
        protocol, connection = of
        return {
            "name": connection.name,
            "authority": f"{protocol.scheme}://{protocol.authority}",
            "bytes": [protocol.stats.bytes_received, protocol.stats.bytes_sent],
            "frames": connection.frames.get(0, []),
            "windows": _series(connection, 0),
        }

    def _stream(self, exchange: Exchange, method: str) -> dict[str, Any]:
        def moment(time: float | None) -> Moment | None:
            return None if time is None else self.moment(time)

        stream_id, connection = 0, Connection("")
        if exchange.stream is not None:
            stream_id = exchange.stream.id
            connection = self.connections[exchange.stream.protocol]
        began = moment(exchange.began)
        waits = self._waits[exchange]
        if began is not None:
            waits = [(0, began, "connection"), *waits]
        return {
            "url": str(exchange.url),
            "method": method,
            "stream": stream_id or None,
            "connection": connection.name or None,
            "status": exchange.status,
            "error": exchange.error,
            "bytes": exchange.received,
            "began": began,
            "opened": moment(exchange.opened),
            "answered": moment(exchange.answered),
            "ended": moment(exchange.ended),
            "waits": waits,
            "frames": connection.frames.get(stream_id, []),
            "windows": _series(connection, stream_id),
        }


def _series(connection: Connection, stream_id: int) -> dict[str, Any]:
    return {
        "receive": connection.receiving.series.get(stream_id, []),
        "send": connection.sending.series.get(stream_id, []),
    }
