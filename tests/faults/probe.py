"""An honest client that asks again and again, and says how long each answer took.

    python -m tests.faults.probe PORT PROCESS

It asks until its standard input ends, and then prints a line of JSON. What the machine itself
held up is measured, and taken off: by a control timer in this process, and by the time for which
the server's process was ready to run and was not let (/proc/PROCESS/schedstat).
"""

from __future__ import annotations

import json
import select
import socket
import sys
import threading
import time
from typing import Final

from .. import octets

#: Seconds in which an answer has to come.
LIMIT: Final = 0.25
#: Seconds between an answer and the next question.
PAUSE: Final = 0.02
_TICK: Final = 0.01
# Seconds after which there is no answer.
_PATIENCE: Final = 10
# Each so many questions a new connection asks.
_FRESH: Final = 10


class Control(threading.Thread):
    """A timer that should fire each hundredth of a second, and notes how late it does."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        #: Seconds that it was late, over all its time.
        self.late = 0.0

    def run(self) -> None:
        while True:
            began = time.monotonic()
            time.sleep(_TICK)
            self.late += max(0.0, time.monotonic() - began - 2 * _TICK)


def waited(process: int) -> float:
    """Return the seconds for which a process was ready to run, and others ran; 0: not known."""
    try:
        with open(f"/proc/{process}/schedstat") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


class Connection:
    """An HTTP/2 client of the smallest size."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(octets.PREFACE + octets.setting())
        self._received = b""
        self._stream_id = -1

    def close(self) -> None:
        self._socket.close()

    def ask(self) -> None:
        """Send a request, and wait for the end of its response."""
        self._stream_id += 2
        self._socket.sendall(octets.headers(self._stream_id))
        while True:
            kind, flags, stream_id, payload = self._frame()
            if kind == octets.SETTINGS and not flags & octets.ACK:
                self._socket.sendall(octets.raw(octets.SETTINGS, octets.ACK))
            elif kind == octets.PING and not flags & octets.ACK:
                self._socket.sendall(octets.raw(octets.PING, octets.ACK, 0, payload))
            elif kind in (octets.RST_STREAM, octets.GOAWAY):
                raise ConnectionError(f"the server sent frame {kind}: {payload!r}")
            elif flags & octets.END_STREAM and stream_id == self._stream_id:
                return

    def _frame(self) -> tuple[int, int, int, bytes]:
        header = self._take(9)
        payload = self._take(int.from_bytes(header[:3], "big"))
        return header[3], header[4], int.from_bytes(header[5:9], "big"), payload

    def _take(self, size: int) -> bytes:
        while len(self._received) < size:
            piece = self._socket.recv(65_536)
            if not piece:
                raise ConnectionError("the server has closed the connection")
            self._received += piece
        taken, self._received = self._received[:size], self._received[size:]
        return taken


class Probe:
    """Asks a server, and keeps what it takes."""

    def __init__(self, port: int, process: int) -> None:
        self._port = port
        self._process = process
        self._control = Control()
        self._control.start()
        self._connection = Connection(port)
        self._connection.ask()
        self.asked = 0
        #: The longest that an answer took, in seconds, and without what the machine held up.
        self.longest = 0.0
        self.longest_fair = 0.0
        #: Answers that were late, while the machine was.
        self.excused = 0
        #: Those that were late, and the server alone.
        self.late: list[str] = []

    def ask(self) -> None:
        """Ask; once more where the answer was late, and the machine was."""
        took, held_up = self._measure()
        if took > LIMIT >= took - held_up:
            self.excused += 1
            again, held_up = self._measure()
            if again <= LIMIT:
                took, held_up = again, 0.0
        self.longest_fair = max(self.longest_fair, took - held_up)
        if took - held_up > LIMIT:
            self.late.append(f"{took:.3f} s, of which the machine held up {held_up:.3f} s")

    def _measure(self) -> tuple[float, float]:
        """Return how long an answer took, and for how much of that the machine stood still."""
        self.asked += 1
        late, ready = self._control.late, waited(self._process)
        began = time.monotonic()
        if self.asked % _FRESH:
            self._connection.ask()
        else:
            fresh = Connection(self._port)
            fresh.ask()
            fresh.close()
        took = time.monotonic() - began
        self.longest = max(self.longest, took)
        held_up = max(self._control.late - late, waited(self._process) - ready)
        return took, min(took, held_up)


def main() -> None:
    """Ask until standard input ends."""
    probe = Probe(int(sys.argv[1]), int(sys.argv[2]))
    print("asking", flush=True)
    while not select.select([sys.stdin], [], [], PAUSE)[0]:
        probe.ask()
    kept = ("asked", "longest", "longest_fair", "excused", "late")
    print(f"asked {json.dumps({name: getattr(probe, name) for name in kept})}", flush=True)


if __name__ == "__main__":
    main()
