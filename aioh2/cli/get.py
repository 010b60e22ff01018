"""``get URL...``: many requests at once on one connection for each origin."""

from __future__ import annotations

import argparse
import asyncio
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

from ..headers import HeaderList
from . import connecting, exchange
from .connecting import Connector
from .exchange import Exchange, Request, Sink, Tossed
from .exits import Exit, Failure, explain
from .terminal import Notes, progress
from .urls import URL
from .watching import traced

__all__ = ["add", "run"]

_EPILOG = """\
Redirects are not followed, bodies are not decompressed, nothing is tried again. Bodies go to
standard output in the order of the URLs, or to the files of -o and -O; with --json they are only
counted.
"""


def add(parsers: Any) -> None:
    """Add the command."""
    parser = parsers.add_parser(
        "get", help="make requests, many at once on one connection", epilog=_EPILOG
    )
    parser.set_defaults(run=run)
    exchange.add_options(parser)
    group = parser.add_argument_group("output")
    group.add_argument(
        *("-o", "--output"),
        action="append",
        metavar="FILE",
        help="write the body here; once for each URL; -: standard output",
    )
    group.add_argument(
        *("-O", "--remote-name"), action="store_true", help="write it to a file named as in the URL"
    )
    group.add_argument("-i", "--include", action="store_true", help="write the headers as well")
    group.add_argument(
        "-v", "--verbose", action="store_true", help="write every frame to standard error"
    )
    group.add_argument(
        "--json", action="store_true", help="write what came of each request, as one JSON array"
    )
    connecting.add_options(parser)


async def run(options: argparse.Namespace) -> Exit:
    """Make the requests; return the exit code."""
    urls = [URL.parse(text) for text in options.urls]
    request, connector = Request(options, urls), Connector(options, urls)
    sinks = _sinks(options, urls)
    exchanges = [Exchange(url, sink) for url, sink in zip(urls, sinks, strict=True)]
    notes = Notes()
    if options.verbose:
        await exchange.run(connector, request, exchanges, traced(notes))
    elif sys.stdout.isatty() and any(isinstance(sink, Printed) for sink in sinks):
        # what is printed would run through the bars
        await exchange.run(connector, request, exchanges)
    else:
        async with progress(exchanges):
            await exchange.run(connector, request, exchanges)
    if options.json:
        print(json.dumps([describe(done) for done in exchanges], indent=2))
    _tell(notes, exchanges)
    return max(done.code for done in exchanges)


def _tell(notes: Notes, exchanges: Sequence[Exchange]) -> None:
    """Say what did not go well, or not on; what went wrong for many alike only once."""
    said = set[str]()
    for done in exchanges:
        if done.error is not None:
            line = done.error if done.code is Exit.CONNECTION else f"{done.url}: {done.error}"
        elif done.code is Exit.STATUS:
            line = f"{done.url}: {done.status}"
        elif 300 <= (done.status or 0) < 400 and "location" in (fields := dict(done.headers)):
            target: Any = fields
            line = f"{done.url}: {done.status} to {target['location']!r}, which is not followed"
        else:
            continue
        if line not in said:
            notes.say(line)
            said.add(line)


# --- where bodies go -----------------------------------------------------------------------


def _sinks(options: argparse.Namespace, urls: Sequence[URL]) -> list[Sink]:
    names = _names(options, urls)
    files = [name for name in names if name not in (None, "-")]
    if len({*files}) < len(files):
        raise Failure(Exit.USAGE, "two bodies would go to the same file; give each its own with -o")
    sinks = list[Sink]()
    turn = None
    for name in names:
        if name is None:
            sinks.append(Tossed())
        elif name == "-":
            sinks.append(printed := Printed(options.include, after=turn))
            turn = printed.over
        else:
            sinks.append(Saved(name, options.include))
    return sinks


def _names(options: argparse.Namespace, urls: Sequence[URL]) -> list[str | None]:
    """Return the file of each body; "-" for standard output, None for nothing at all."""
    if options.output and options.remote_name:
        raise Failure(Exit.USAGE, "-o and -O do not go together")
    if options.remote_name:
        for url in urls:
            if not url.file_name:
                raise Failure(Exit.USAGE, f"{url} does not end with a file's name; use -o")
        return [url.file_name for url in urls]
    if options.output:
        if len(options.output) != len(urls):
            given = f"{len(options.output)} for {len(urls)} URLs"
            raise Failure(Exit.USAGE, f"-o is given once for each URL, not {given}")
        if options.json and "-" in options.output:
            raise Failure(Exit.USAGE, "--json has standard output for itself")
        return list(options.output)
    return [None if options.json else "-"] * len(urls)


def _head(done: Exchange) -> bytes:
    """Return the headers of a response as text."""
    sections = (*done.interim, done.headers)
    lines = [f"{name!s}: {value!s}\n" for fields in sections for name, value in fields]
    return "".join([*lines, "\n"]).encode("utf-8", "surrogateescape")


class Printed:
    """Standard output, after the bodies before; flow control holds what has to wait."""

    def __init__(self, include: bool, after: asyncio.Event | None) -> None:
        # Whether the headers are written.
        self._include = include
        # What is set when it is its turn; None: it is the first.
        self._after = after
        #: Set when the next one may begin.
        self.over = asyncio.Event()

    async def begin(self, exchange: Exchange) -> None:
        """Wait for the turn."""
        if self._after is not None:
            await self._after.wait()
        if self._include:
            self.write(_head(exchange))

    def write(self, data: bytes) -> None:
        """Write bytes; raises OSError where nobody reads them."""
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def end(self) -> None:
        """Let the next one write."""
        self.over.set()


class Saved:
    """A file, which is made when the response is there."""

    def __init__(self, name: str, include: bool) -> None:
        self._path = pathlib.Path(name)
        # Whether the headers are written.
        self._include = include
        # The file, once it is open.
        self._file: BinaryIO | None = None

    async def begin(self, exchange: Exchange) -> None:
        """Open the file."""
        try:
            # without a buffer, so that no error is left for the end
            self._file = self._path.open("wb", buffering=0)
        except (OSError, ValueError) as error:
            raise self._failure(error) from None
        if self._include:
            self.write(_head(exchange))

    def write(self, data: bytes) -> None:
        """Write bytes."""
        assert self._file is not None
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise self._failure(error) from None

    def end(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _failure(self, error: OSError | ValueError) -> Failure:
        return Failure(Exit.USAGE, f"{self._path}: {explain(error)}")


# --- JSON ----------------------------------------------------------------------------------


def describe(done: Exchange) -> dict[str, Any]:
    """Return what came of a request, for JSON; times are seconds since it began."""
    began = done.began or 0

    def after(moment: float | None) -> float | None:
        return None if moment is None else round(moment - began, 6)

    def pairs(fields: HeaderList) -> list[list[Any]]:
        return [[name, value] for name, value in fields]

    return {
        "url": str(done.url),
        "stream": None if done.stream is None else done.stream.id,
        "status": done.status,
        "headers": pairs(done.headers),
        "informational": [pairs(fields) for fields in done.interim],
        "trailers": pairs(done.trailers),
        "bytes": done.received,
        "seconds": {
            "opened": after(done.opened),
            "answered": after(done.answered),
            "ended": after(done.ended),
        },
        "error": done.error,
        "exit": int(done.code),
    }
