"""Other programs, run for a test: started, watched and ended, with a limit on each wait.

Only what was started here is ever signalled, by its own process id. Servers listen on 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import importlib
import os
import pathlib
import random
import re
import shutil
import socket
import subprocess
import sys
import unittest
from types import ModuleType, TracebackType
from typing import NamedTuple, NoReturn, Self

#: Where the scripts of this folder are.
HERE = pathlib.Path(__file__).parent
_ROOT = HERE.parent.parent
# With it examples find aioh2, installed or not.
_PYTHON_PATH = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))

#: What is sent where a body has to be larger than every window and buffer on its way.
LARGE = random.Random(9113).randbytes(8 * 1024 * 1024)

# Seconds: for a program to say that it is ready, and to end when told to.
_START_LIMIT = 20
_END_LIMIT = 15
# Where servers are kept that are not on every user's PATH.
_MORE_PATH = "/usr/local/sbin:/usr/sbin"


def missing(what: str) -> NoReturn:
    """Skip the test, which needs ``what``; in CI, fail it."""
    if os.environ.get("AIOH2_REQUIRE_PEERS") == "1":
        raise AssertionError(f"{what} is not installed, and AIOH2_REQUIRE_PEERS is 1")
    raise unittest.SkipTest(f"{what} is not installed")


def require(program: str) -> str:
    """Return the path of ``program``; skip the test where it is missing, or fail in CI."""
    path = shutil.which(program) or shutil.which(program, path=_MORE_PATH)
    return path or missing(program)


def require_module(name: str, package: str | None = None) -> ModuleType:
    """Return a module of a package that only these tests use; without it as ``require``."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        missing(package or name)


@functools.cache
def version_of(program: str, *arguments: str) -> str:
    """Return the first version number in what ``program`` prints of itself."""
    command = [require(program), *(arguments or ["--version"])]
    told = subprocess.run(command, capture_output=True, text=True, timeout=_START_LIMIT)
    found = re.search(r"\d+(\.\d+)+", told.stdout + told.stderr)
    return found[0] if found else "unknown"


def sha256(data: bytes) -> str:
    """Return the checksum that bodies are compared by: 8 MiB are no message to print."""
    return hashlib.sha256(data).hexdigest()


def free_port() -> int:
    """Return a port of 127.0.0.1 that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


class Output(NamedTuple):
    """What a program that has ended has left."""

    code: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        """Its standard output, as text."""
        return self.stdout.decode(errors="replace")


async def run(program: str, *arguments: str, limit: float = 50) -> Output:
    """Run a program to its end, for at most ``limit`` seconds."""
    process = await asyncio.create_subprocess_exec(
        require(program),
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    ending = asyncio.create_task(process.communicate())
    try:
        await asyncio.wait([ending], timeout=limit)
        in_time = ending.done()
    finally:
        _kill(process)
        stdout, stderr = await ending
    error = stderr.decode(errors="replace")
    if not in_time:
        raise AssertionError(f"{program} was not done in {limit} s; it said: {error or stdout!r}")
    assert process.returncode is not None
    return Output(process.returncode, stdout, error)


def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


class Ended(AssertionError):
    """A program has ended where it should have gone on."""


class Program:
    """A program that runs while a test does; ``async with`` starts and ends it.

    It is ready when it writes a line that matches ``ready``; None: at once.
    """

    def __init__(self, *command: str, ready: str | None = None, stdin: bool = False) -> None:
        self._command = command
        self._ready = ready
        # Whether the test writes to it.
        self._stdin = stdin
        #: The line that said that it was ready.
        self.greeting: re.Match[str]
        #: Every line that it has written to standard output and standard error.
        self.lines: list[str] = []
        #: What it has ended with; negative: the signal that ended it. None while it runs.
        self.code: int | None = None
        self._process: asyncio.subprocess.Process
        self._reading: asyncio.Task[None]
        # Set when a line has come, and when no more will.
        self._news = asyncio.Event()
        self._silent = False

    def __str__(self) -> str:
        return " ".join(pathlib.Path(part).name for part in self._command)

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE if self._stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": _PYTHON_PATH},
        )
        self._reading = asyncio.create_task(self._read())
        try:
            if self._ready is not None:
                self.greeting = await self.line(self._ready)
        except BaseException as error:
            await self.__aexit__(type(error), error, None)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        in_time = await self.end()
        if error is not None:
            error.add_note("\n".join([f"{self} wrote:", *self.lines[-50:]]))
        elif not in_time:
            raise AssertionError(f"{self} was not gone {_END_LIMIT} s after SIGTERM")

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.lines.append(line.decode(errors="replace").rstrip("\r\n"))
            self._news.set()
        self._silent = True
        self._news.set()

    async def line(self, pattern: str, *, seen: int = 0) -> re.Match[str]:
        """Wait for a line that matches, those that have come included, but for ``seen``."""
        try:
            async with asyncio.timeout(_START_LIMIT):
                while True:
                    self._news.clear()
                    for line in self.lines[seen:]:
                        if match := re.search(pattern, line):
                            return match
                    seen = len(self.lines)
                    if self._silent:
                        raise Ended(f"{self} has ended, and not written {pattern!r}")
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{self} has not written {pattern!r}") from None

    async def write(self, data: bytes) -> None:
        """Write to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        await self._process.stdin.drain()

    def write_eof(self) -> None:
        """End its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def terminate(self) -> None:
        """Tell it to end (SIGTERM)."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()

    async def wait(self, limit: float = _END_LIMIT) -> bool:
        """Wait until it has ended; kill it when that takes too long, and return False."""
        ending = asyncio.create_task(self._process.wait())
        try:
            await asyncio.wait([ending], timeout=limit)
            in_time = ending.done()
        finally:
            _kill(self._process)
            if self._stdin:
                self.write_eof()
            self.code = await ending
            await self._reading
        return in_time

    async def end(self) -> bool:
        """Tell it to end, and wait until it has."""
        self.terminate()
        return await self.wait()


class Example(Program):
    """A server among the examples, which has to end well when it is told to (SIGTERM)."""

    def __init__(self, name: str, *arguments: str) -> None:
        super().__init__(
            *(sys.executable, "-W", "error", str(_ROOT / "examples" / name)),
            *arguments,
            ready=r"^listening on (?:port (\d+)$)?",
        )

    @property
    def port(self) -> int:
        """Its TCP port."""
        return int(self.greeting[1])

    def url(self, path: str = "/", scheme: str = "http") -> str:
        """Return the address of ``path``."""
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await super().__aexit__(kind, error, traceback)
        if error is None and not self.ended_well():
            raise AssertionError("\n".join([f"{self} ended with {self.code}:", *self.lines]))

    def ended_well(self) -> bool:
        """Tell whether all went well, as far as it has told."""
        return self.code == 0 and not any("Traceback" in line for line in self.lines)


class EchoServer(Example):
    """``examples/echo.py``, which writes nothing but what it should."""

    def __init__(self, *arguments: str) -> None:
        super().__init__("echo.py", *arguments)

    def ended_well(self) -> bool:
        """Tell whether it has completed every stream, and said nothing else."""
        return (
            super().ended_well()
            and len(self.lines) == 3
            and re.search("^streams completed: .*, aborted: 0$", self.lines[-1]) is not None
        )
