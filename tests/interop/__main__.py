"""Runs the tests against other programs, some modules at a time, and keeps their results.

    python -m tests.interop [--jobs N] [--json FILE] [NAME...]

A NAME is a module without its ``test_``: curl, node. With --json, each case's result goes to FILE,
which ``python -m tests.interop.matrix`` makes the page of. A module fails that leaves a process
behind; what is left is killed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import json
import os
import pathlib
import re
import signal
import sys
import tempfile
import time
from typing import NamedTuple

from .cases import RESULTS

_HERE = pathlib.Path(__file__).parent
_ROOT = _HERE.parent.parent
# Seconds that a module may take in all.
_LIMIT = 300
# In the environment of all that a module starts: the module's name.
_MODULE = "AIOH2_INTEROP_MODULE"
# Of prctl(2): whoever loses its parent becomes a child of ours.
_PR_SET_CHILD_SUBREAPER = 36


class Outcome(NamedTuple):
    """What came of a module's tests."""

    ran: int
    bad: int
    skipped: int


def modules(names: list[str]) -> list[str]:
    """Return the modules to run, those that take long first."""
    found = {path.stem.removeprefix("test_") for path in _HERE.glob("test_*.py")}
    if unknown := set(names) - found:
        told = ", ".join(sorted(found))
        raise SystemExit(f"no tests named {', '.join(sorted(unknown))}; there are: {told}")
    seconds: dict[str, float] = {}
    with contextlib.suppress(OSError):
        for case in json.loads((_ROOT / "docs" / "interop.json").read_text()):
            name = case["module"].removeprefix("test_")
            seconds[name] = seconds.get(name, 0) + case["seconds"]
    return sorted(names or found, key=lambda name: (-seconds.get(name, 0), name))


async def run_module(name: str, results: str, running: set[int]) -> Outcome:
    """Run one module's tests, and print what they say in one piece."""
    began = time.monotonic()
    # not a pipe, which whoever is left behind would keep open
    with tempfile.TemporaryFile() as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-m", "unittest", "-v", f"tests.interop.test_{name}"),
            cwd=_ROOT,
            env={**os.environ, RESULTS: results, _MODULE: name},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
        )
        running.add(process.pid)
        in_time = await _wait(process)
        output.seek(0)
        told = output.read().decode(errors="replace")
    if not in_time:
        told += f"tests.interop.test_{name} was not done in {_LIMIT} s\n"
    running.discard(process.pid)
    outcome = _read(told, process.returncode or 0)
    if left := left_behind(name, running):
        told += f"left behind: {', '.join(left)}\n"
        outcome = outcome._replace(bad=outcome.bad + 1)
    print(f"\n=== {name}, {time.monotonic() - began:.1f} s\n{told}", flush=True)
    return outcome


async def _wait(process: asyncio.subprocess.Process) -> bool:
    """Wait until a module has ended; kill it when that takes too long, and return False."""
    try:
        async with asyncio.timeout(_LIMIT):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        return False
    return True


def _read(told: str, code: int) -> Outcome:
    """Read unittest's last lines."""
    ran = re.search(r"^Ran (\d+) tests?", told, re.MULTILINE)
    counts = dict(re.findall(r"(failures|errors|skipped)=(\d+)", told.rpartition("\n\n")[2]))
    skipped = int(counts.get("skipped", 0))
    bad = int(counts.get("failures", 0)) + int(counts.get("errors", 0))
    return Outcome(int(ran[1]) if ran else 0, bad or int(code != 0), skipped)


def adopt() -> None:
    """Become the parent of every process whose own has ended (Linux; elsewhere none is seen)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def left_behind(name: str, modules: set[int]) -> list[str]:
    """End the processes that a module has started and left, and return their commands.

    Those of a module that still runs are let be: Chromium starts some that leave their parent.
    """
    commands = []
    for path in pathlib.Path("/proc/self/task").glob("*/children"):
        for pid in set(map(int, path.read_text().split())) - modules:
            environment = b""
            with contextlib.suppress(ProcessLookupError):  # it has ended
                environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
            started_by = re.search(rf"\b{_MODULE}=(\w+)".encode(), environment)
            if started_by and started_by[1].decode() != name:
                continue
            command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            if command:  # else it had ended, and nobody had asked how
                commands.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return commands


async def run_all(names: list[str], jobs: int, results: str) -> list[Outcome]:
    """Run all modules, ``jobs`` at a time."""
    waiting = iter(names)
    running: set[int] = set()
    outcomes = []

    async def work() -> None:
        for name in waiting:
            outcomes.append(await run_module(name, results, running))

    async with asyncio.TaskGroup() as workers:
        for _ in range(jobs):
            workers.create_task(work())
    return outcomes


def main() -> int:
    """Read the options, run, and add up as unittest does."""
    parser = argparse.ArgumentParser(prog="python -m tests.interop")
    parser.add_argument("names", nargs="*", metavar="NAME", help="modules; default: all")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="how many at a time")
    parser.add_argument("--json", metavar="FILE", help="where the results go")
    options = parser.parse_args()
    if options.jobs < 1:
        parser.error("--jobs: at least 1")
    names = modules(options.names)
    adopt()
    began = time.monotonic()
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as results:
        outcomes = asyncio.run(run_all(names, options.jobs, results.name))
        cases = sorted(map(json.loads, results), key=lambda case: sorted(case.items()))
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(cases, indent=1) + "\n")
    ran, bad, skipped = (sum(column) for column in zip(*outcomes, strict=True))
    print(f"Ran {ran} tests in {time.monotonic() - began:.3f}s\n")
    print(f"FAILED (errors={bad}, skipped={skipped})" if bad else f"OK (skipped={skipped})")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
