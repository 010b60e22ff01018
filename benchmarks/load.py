"""One measured run: a fresh server on one core, h2load on the other."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import re
import statistics
import subprocess
import time
from typing import Final

from .processes import LOAD_CORE, Server, confine, cpu_seconds, running
from .scenarios import Scenario
from .tables import ratio, table

__all__ = ["LoadError", "Run", "Runs", "calibrate", "measure", "report"]

# Seconds that one h2load may take, and those in which a server sees its connections end.
_LIMIT: Final = 120.0
_SETTLE: Final = 0.05


class LoadError(Exception):
    """A run in which not every request succeeded, or that took too long."""


@dataclasses.dataclass(frozen=True)
class Run:
    """What one run took."""

    requests: int
    #: Seconds, of the clock and of the server's CPU.
    wall: float
    cpu: float

    @property
    def cpu_each(self) -> float:
        """CPU microseconds per request."""
        return self.cpu / self.requests * 1e6

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.wall


# By server, one entry a round; None where the run failed.
Runs = dict[str, list[Run | None]]


def measure(
    server: Server, scenario: Scenario, requests: int, folder: pathlib.Path, tls: tuple[str, ...]
) -> Run:
    """Start the server, warm it up, and measure ``requests``; raises :class:`LoadError`."""
    arguments = ("--files", str(folder), *(tls if scenario.tls else ()))
    try:
        with running(server, *arguments, lifetime=3 * _LIMIT) as (pid, port):
            _h2load(scenario.arguments(port, scenario.warm_up, folder), scenario.warm_up)
            command = scenario.arguments(port, requests, folder)
            before = cpu_seconds(pid)
            wall = _h2load(command, requests)
            time.sleep(_SETTLE)
            return Run(requests, wall, cpu_seconds(pid) - before)
    except RuntimeError as error:
        raise LoadError(str(error)) from error


def calibrate(
    server: Server,
    scenario: Scenario,
    seconds: float,
    folder: pathlib.Path,
    tls: tuple[str, ...],
) -> int:
    """How many requests the server answers in so many seconds, as a round number."""
    run = measure(server, scenario, scenario.warm_up, folder, tls)
    least = max(scenario.warm_up, 2 * scenario.connections * scenario.streams)
    wanted = max(least, round(run.rate * seconds))
    step: int = 10 ** max(0, len(str(wanted)) - 2)
    return -(-wanted // step) * step


def _h2load(arguments: list[str], requests: int) -> float:
    """Run h2load; return the seconds that it took from first to last request."""
    try:
        done = subprocess.run(
            ["h2load", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LIMIT,
            check=False,
            preexec_fn=functools.partial(confine, LOAD_CORE, _LIMIT + 10),
        )
    except subprocess.TimeoutExpired:
        raise LoadError(f"{requests} requests took more than {_LIMIT:g} s") from None
    finished = re.search(r"finished in ([\d.]+)(us|ms|s)", done.stdout)
    succeeded = re.search(r"(\d+) succeeded", done.stdout)
    answered = re.search(r"status codes: (\d+) 2xx", done.stdout)
    if finished is None or succeeded is None or answered is None:
        raise LoadError(f"h2load failed: {(done.stderr or done.stdout).strip()[-200:]}")
    good = min(int(succeeded[1]), int(answered[1]))
    if good < requests:
        raise LoadError(f"{requests - good} of {requests} requests failed")
    return float(finished[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[finished[2]]


def report(scenario: Scenario, runs: Runs, against: list[str]) -> str:
    """The table of medians, and of ratios of CPU per request within rounds."""
    against = [label for label in against if any(runs.get(label, ()))]
    head = ["server", "CPU us/request", "requests/s"]
    if scenario.size:
        head.append("MB/CPU second")
    rows = [[*head, *(f"x {label}" for label in against)]]
    for label, all_runs in runs.items():
        good = [run for run in all_runs if run is not None]
        if not good:
            continue
        each = statistics.median(run.cpu_each for run in good)
        cells = [label, f"{each:,.1f}", f"{statistics.median(run.rate for run in good):,.0f}"]
        if scenario.size:
            cells.append(f"{scenario.size / each:,.0f}")
        for other in against:
            pairs = zip(runs[other], all_runs, strict=True)
            cells.append(ratio([a.cpu_each / b.cpu_each for a, b in pairs if a and b]))
        rows.append(cells)
    return table(rows)
