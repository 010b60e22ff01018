"""Other programs while they are measured: pinned to a core, bounded in time, ended by their id."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Final

__all__ = ["LOAD_CORE", "SERVER_CORE", "Server", "confine", "cpu_seconds", "rss", "running"]

ROOT: Final = pathlib.Path(__file__).resolve().parent.parent
# Seconds for a server to listen, and to end when it is told to.
_START: Final = 15.0
_END: Final = 5.0


def _cores() -> tuple[int | None, int | None]:
    """A core for what is measured and another one for the load; None where there is no choice."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    cores = sorted(os.sched_getaffinity(0))
    return (cores[0], cores[-1]) if len(cores) > 1 else (None, None)


SERVER_CORE, LOAD_CORE = _cores()


def confine(core: int | None, lifetime: float) -> None:
    """Bind the calling process to ``core`` and have SIGALRM end it after ``lifetime`` seconds.

    Both outlive ``exec``. So nothing is left behind, even if this program is killed.
    """
    if core is not None:
        os.sched_setaffinity(0, {core})
    signal.alarm(max(1, round(lifetime)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Server:
    """A server to start: a name for the table, and the arguments of ``benchmarks.servers``."""

    label: str
    name: str
    arguments: tuple[str, ...] = ()

    def command(self, port: int, more: tuple[str, ...]) -> list[str]:
        """The command that runs it."""
        own = [self.name, "--port", str(port), *self.arguments, *more]
        return [sys.executable, "-m", "benchmarks.servers", *own]


@contextlib.contextmanager
def running(server: Server, *arguments: str, lifetime: float) -> Iterator[tuple[int, int]]:
    """Start a server on the servers' core; yield its process id and port; end it on leaving.

    What it writes to stderr is shown, its last line, where an exception leaves. Raises
    ``RuntimeError`` when it does not listen in time.
    """
    port = _free_port()
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            server.command(port, arguments),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            preexec_fn=functools.partial(confine, SERVER_CORE, lifetime),
        )
        try:
            _wait_until_listening(process, port)
            yield process.pid, port
        except Exception:
            stderr.seek(0)
            lines = stderr.read().decode(errors="replace").strip().splitlines()
            if lines:
                print(f"{server.label} said: {lines[-1]}", file=sys.stderr, flush=True)
            raise
        finally:
            _end(process)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def _wait_until_listening(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with status {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"the server does not listen after {_START:g} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def cpu_seconds(pid: int) -> float:
    """CPU time, user and system, that a process has used with all its threads."""
    try:
        # what clock_getcpuclockid(3) gives on Linux: to the nanosecond, where /proc counts in 10 ms
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        pass
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        command = ["ps", "-o", "time=", "-p", str(pid)]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        seconds = 0.0
        for part in shown.stdout.strip().split(":"):
            seconds = 60 * seconds + float(part)
        return seconds
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def rss(pid: int) -> int:
    """Resident memory of a process, in bytes (Linux)."""
    pages = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
