"""What the tests against other programs are: cases of a peer, each with a time limit.

A case's class names the ``peer`` and what aioh2 is to it (``side``); the first line of a test's
docstring, or else its name, is what the matrix calls it, and the lines after it are a note there:
which rule the peer breaks, and how aioh2 copes. ``matrix.py`` makes the page.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import pathlib
import ssl
import tempfile
import time
import unittest
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Literal, NamedTuple

import trustme

from ..wire import Case
from .programs import version_of

#: The environment's name for the file that each case's result is added to, as a line of JSON.
RESULTS = "AIOH2_INTEROP_RESULTS"

Test = Callable[..., Coroutine[Any, Any, None]]


def within(seconds: float) -> Callable[[Callable[..., Awaitable[None]]], Test]:
    """Give a test method a time limit; no case goes without."""

    def decorate(test: Callable[..., Awaitable[None]]) -> Test:
        @functools.wraps(test)
        async def limited(case: unittest.TestCase) -> None:
            async with asyncio.timeout(seconds):
                await test(case)

        limited.limit = seconds  # type: ignore[attr-defined] # a function takes any attribute
        return limited

    return decorate


class Certificates(NamedTuple):
    """Files of a certificate for 127.0.0.1 and localhost, and of the authority behind it."""

    authority: str
    cert: str
    key: str

    def client_context(self) -> ssl.SSLContext:
        """Return a client's context that trusts the authority and nobody else."""
        return ssl.create_default_context(cafile=self.authority)

    def server_context(self) -> ssl.SSLContext:
        """Return a server's context with the certificate."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.cert, self.key)
        return context


class PeerCase(Case):
    """A test with a directory of its own for what it shares with another program."""

    #: The program, as the matrix calls it.
    peer: str
    #: What aioh2 is to it.
    side: Literal["server", "client"]
    #: The command that tells its version with ``--version``.
    program: str

    @classmethod
    def version(cls) -> str:
        """Return the peer's version, as it says itself."""
        return version_of(cls.program)

    def setUp(self) -> None:
        super().setUp()
        test = getattr(self, self._testMethodName)
        self.assertTrue(hasattr(test, "limit"), "a case has a time limit: within() gives it one")
        self.directory = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
        """Run the test, and add its result to the file that the environment names."""
        path = os.environ.get(RESULTS)
        if result is None or path is None:
            return super().run(result)
        bad = len(result.failures) + len(result.errors)
        skipped = len(result.skipped)
        began = time.monotonic()
        try:
            return super().run(result)
        finally:
            failed = len(result.failures) + len(result.errors) > bad
            outcome = "failed" if failed else "passed"
            if len(result.skipped) > skipped:
                outcome = "skipped"
            self._record(path, outcome, time.monotonic() - began)

    def _record(self, path: str, outcome: str, seconds: float) -> None:
        lines = (self._testMethodDoc or "").strip().partition("\n")
        name = self._testMethodName.removeprefix("test_").replace("_", " ")
        told = {
            "module": type(self).__module__.rpartition(".")[2],
            "peer": self.peer,
            "version": "" if outcome == "skipped" else self.version(),
            "side": self.side,
            "case": lines[0].rstrip(".") or name,
            "note": " ".join(lines[2].split()),
            "result": outcome,
            "seconds": round(seconds, 2),
        }
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(told) + "\n")

    def write(self, name: str, data: bytes) -> str:
        """Write a file, and return its path."""
        path = self.directory / name
        path.write_bytes(data)
        return str(path)

    def read(self, name: str) -> bytes:
        """Return what a file holds."""
        return (self.directory / name).read_bytes()

    def files(self) -> list[str]:
        """Return the names of the files that there are."""
        return sorted(path.name for path in self.directory.iterdir())

    def issue_certificates(self) -> Certificates:
        """Write a certificate authority and a certificate."""
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1", "localhost")
        return Certificates(
            self.write("authority.pem", authority.cert_pem.bytes()),
            self.write("cert.pem", b"".join(blob.bytes() for blob in issued.cert_chain_pems)),
            self.write("key.pem", issued.private_key_pem.bytes()),
        )
