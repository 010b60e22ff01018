"""Requests, many at once on one connection for each origin, and what came of each."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import pathlib
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from ..exceptions import AIOH2Exception
from ..headers import HeaderList, Kind, prepare
from ..protocol import H2Protocol
from ..stream import H2Stream
from .connecting import Connector, seconds
from .exits import Exit, Failure, explain
from .urls import URL, Origin

__all__ = ["Exchange", "Request", "Sink", "Tossed", "add_options", "run"]

_FIELD = re.compile(r"(?P<name>:?[^:\s]+)\s*:(?P<value>.*)", re.DOTALL)
_USER_AGENT = "aioh2"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is requested."""
    parser.add_argument("urls", nargs="+", metavar="URL", help="http:// or https://")
    group = parser.add_argument_group("request")
    group.add_argument("-X", "--method", help="default: GET, or POST with --data")
    group.add_argument(
        "-d", "--data", metavar="DATA", help="body; @FILE: what a file holds, @-: standard input"
    )
    group.add_argument(
        *("-H", "--header"), action="append", default=[], metavar="'NAME: VALUE'", dest="headers"
    )
    group.add_argument(
        "--timeout", type=seconds, metavar="SECONDS", help="for each whole exchange; default: none"
    )


class Request:
    """What is asked of every URL; raises :class:`Failure` for options that make no request."""

    def __init__(self, options: argparse.Namespace, urls: Iterable[URL]) -> None:
        #: The body; None: there is none.
        self.body = None if options.data is None else _body(options.data)
        #: The method.
        self.method: str = options.method or ("GET" if self.body is None else "POST")
        #: Seconds for each exchange.
        self.timeout: float | None = options.timeout
        # Fields beside those that go by the URL.
        self._fields = [_field(text) for text in options.headers]
        for url in urls:
            try:
                prepare(self.headers(url), Kind.REQUEST, "utf-8")
            except ValueError as error:
                raise Failure(Exit.USAGE, f"the request is malformed: {error}") from None

    def headers(self, url: URL) -> list[tuple[str, str]]:
        """Return the headers for a URL; those that were given replace those made here."""
        own = {
            ":method": self.method,
            ":scheme": url.origin.scheme,
            ":authority": url.origin.authority,
            ":path": url.path,
            "user-agent": _USER_AGENT,
            "accept": "*/*",
        }
        if self.body is not None:
            own["content-length"] = str(len(self.body))
        given = {name for name, _ in self._fields}
        return [*((name, own[name]) for name in own if name not in given), *self._fields]


def _field(text: str) -> tuple[str, str]:
    match = _FIELD.fullmatch(text)
    if match is None:
        raise Failure(Exit.USAGE, f"a header is 'NAME: VALUE', not {text.split(' ')[0]!r} ...")
    name = match["name"].lower()
    return ":authority" if name == "host" else name, match["value"].strip(" \t")


def _body(text: str) -> bytes:
    if not text.startswith("@"):
        return text.encode("utf-8", "surrogateescape")
    try:
        return sys.stdin.buffer.read() if text == "@-" else pathlib.Path(text[1:]).read_bytes()
    except (OSError, ValueError) as error:
        raise Failure(Exit.USAGE, f"{text[1:]}: {explain(error)}") from None


class Sink(Protocol):
    """Where the body of a response goes."""

    async def begin(self, exchange: Exchange) -> None:
        """Wait until bytes can be taken; the response's headers are there."""

    def write(self, data: bytes) -> None:
        """Take bytes of the body."""

    def end(self) -> None:
        """Take note that there is no more, however that came; called in any case."""


class Tossed:
    """Takes a body and drops it."""

    async def begin(self, exchange: Exchange) -> None:
        """Drop all of what follows."""

    def write(self, data: bytes) -> None:
        """Drop."""

    def end(self) -> None:
        """Nothing is left to do."""


class Exchange:
    """A request, and what came of it."""

    def __init__(self, url: URL, sink: Sink) -> None:
        #: What was asked for.
        self.url = url
        # Where the body goes.
        self._sink = sink
        #: Its stream, from when its headers went out.
        self.stream: H2Stream | None = None
        #: The interim responses, the final one's headers, and the trailers.
        self.interim: list[HeaderList] = []
        self.headers: HeaderList = []
        self.trailers: HeaderList = []
        #: Bytes of the body that were read.
        self.received = 0
        #: When it began to wait for a stream, had one, had the response's headers, and was over:
        #: by the loop's clock; None: not yet, or never.
        self.began: float | None = None
        self.opened: float | None = None
        self.answered: float | None = None
        self.ended: float | None = None
        #: What went wrong, and what the command ends with for that.
        self.error: str | None = None
        self._error_code = Exit.OK

    @property
    def status(self) -> int | None:
        """The response's status; None: there was none."""
        return int(self.headers[0][1]) if self.headers else None

    @property
    def expected(self) -> int | None:
        """How long the body is by its content-length; None: that is not known."""
        length: Any = dict(self.headers).get("content-length")
        return None if length is None else int(length)

    @property
    def code(self) -> Exit:
        """What the command ends with, as far as this goes."""
        if self.error is not None:
            return self._error_code
        return Exit.STATUS if (self.status or 0) >= 400 else Exit.OK

    @property
    def waits_for(self) -> str | None:
        """What it waits for now; None: for nothing, or not any more."""
        if self.began is None or self.ended is not None:
            return None
        return "stream slot" if self.stream is None else self.stream.blocked_on

    def fail(self, code: Exit, text: str) -> None:
        """Take note of what went wrong."""
        self.error, self._error_code = text, code

    def skip(self, failure: Failure) -> None:
        """Take note that there is no connection for it."""
        self.fail(failure.code, str(failure))
        self._sink.end()

    async def run(self, protocol: H2Protocol, request: Request) -> None:
        """Make the request, and take what comes until all is there or the time is over."""
        loop = asyncio.get_running_loop()
        self.began = loop.time()
        task = loop.create_task(self._run(protocol, request))
        try:
            await asyncio.wait([task], timeout=request.timeout)
            if not task.done():
                waits = self.waits_for or "nothing"
                self.fail(
                    Exit.STREAM, f"not done within {request.timeout:g} s, waiting for: {waits}"
                )
        finally:
            self.ended = loop.time()
            task.cancel()
            await asyncio.wait([task])
            self._sink.end()
        if not task.cancelled():
            # a sink that takes no more ends everything
            task.result()

    async def _run(self, protocol: H2Protocol, request: Request) -> None:
        loop = asyncio.get_running_loop()
        headers, ends = request.headers(self.url), request.body is None
        try:
            async with protocol.open_stream(headers, end_stream=ends) as stream:
                self.stream, self.opened = stream, loop.time()
                sending = loop.create_task(_send(stream, request.body))
                try:
                    await self._receive(stream)
                    # a server that wants no more of the body says so (RFC 9113 section 8.1)
                    await sending
                finally:
                    sending.cancel()
        except AIOH2Exception as error:
            self.fail(Exit.STREAM, str(error))

    async def _receive(self, stream: H2Stream) -> None:
        while (interim := await stream.recv_informational()) is not None:
            self.interim.append(interim)
        self.headers = await stream.recv_response()
        self.answered = asyncio.get_running_loop().time()
        await self._sink.begin(self)
        async for data in stream:
            self.received += len(data)
            self._sink.write(data)
        self.trailers = await stream.recv_trailers()


async def _send(stream: H2Stream, body: bytes | None) -> None:
    if body is not None:
        # what ends the stream early, the reader is told as well
        with contextlib.suppress(AIOH2Exception):
            await stream.send_data(body, end_stream=True)


async def run(
    connector: Connector,
    request: Request,
    exchanges: Sequence[Exchange],
    cls: type[H2Protocol] = H2Protocol,
) -> None:
    """Make all requests at once, on one connection of ``cls`` for each origin."""
    by_origin: dict[Origin, list[Exchange]] = {}
    for exchange in exchanges:
        by_origin.setdefault(exchange.url.origin, []).append(exchange)

    async def visit(origin: Origin, of_origin: list[Exchange]) -> None:
        try:
            protocol = await connector.connect(origin, cls)
        except Failure as failure:
            for exchange in of_origin:
                exchange.skip(failure)
            return
        async with protocol:
            await _all(exchange.run(protocol, request) for exchange in of_origin)

    await _all(visit(origin, of_origin) for origin, of_origin in by_origin.items())


async def _all(coroutines: Iterable[Any]) -> None:
    """Run all of them; the first that fails ends the others."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
