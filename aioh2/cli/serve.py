"""``serve DIR``: the files of a directory over HTTP/2, for trying things out."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import html
import mimetypes
import os
import pathlib
import signal
import ssl
import sys
from email.utils import formatdate
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote, unquote

from ..protocol import H2Protocol
from ..server import start_server
from ..stream import H2Stream
from .connecting import load_certificate
from .exits import Exit, Failure, explain
from .terminal import Notes
from .watching import traced

__all__ = ["add", "run"]

# Bytes of a file that are read at once.
_PIECE = 131_072


def add(parsers: Any) -> None:
    """Add the command."""
    parser = parsers.add_parser(
        "serve",
        help="serve the files of a directory",
        epilog="Everybody who can connect can read them. Ctrl-C or SIGTERM ends it, after what is "
        "under way.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("directory", nargs="?", default=".", metavar="DIR", help="default: this")
    parser.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1")
    parser.add_argument(
        "--port", type=_port, default=8000, help="0: one that is free; default: 8000"
    )
    parser.add_argument(
        "--cert", metavar="FILE", help="certificate chain (PEM), for https; browsers need that"
    )
    parser.add_argument("--key", metavar="FILE", help="its key (PEM); default: in the same file")
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="write every frame to standard error"
    )


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value < 65_536:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 65535")
    return value


async def run(options: argparse.Namespace) -> Exit:
    """Serve until SIGTERM; return the exit code."""
    if options.key and not options.cert:
        raise Failure(Exit.USAGE, "--key goes with --cert")
    root = _root(options.directory)
    context = None
    if options.cert:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        load_certificate(context, options.cert, options.key)
    files = Files(root, Notes())
    try:
        server = await start_server(
            lambda protocol: protocol.serve(files.handle),
            options.host,
            options.port,
            cls=traced(files.notes) if options.verbose else H2Protocol,
            ssl=context,
            # a client that takes nothing does not keep its files open
            window_timeout=60,
        )
    except OSError as error:
        place = f"{options.host} port {options.port}"
        raise Failure(Exit.USAGE, f"cannot listen on {place}: {explain(error)}") from None
    stop = asyncio.Event()
    with contextlib.suppress(NotImplementedError, RuntimeError):
        # not on Windows, nor beside the main thread
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    name = f"[{options.host}]" if ":" in options.host else options.host
    port = server.sockets[0].getsockname()[1]
    print(f"serving {root} at {'https' if context else 'http'}://{name}:{port}/")
    sys.stdout.flush()
    try:
        await stop.wait()
    finally:
        await server.shutdown()
    return Exit.OK


def _root(name: str) -> pathlib.Path:
    try:
        root = pathlib.Path(name).resolve(strict=True)
        os.scandir(root).close()
    except (OSError, ValueError) as error:
        raise Failure(Exit.USAGE, f"{name}: {explain(error)}") from None
    return root


class Answer(NamedTuple):
    """What goes out: a few words, or so many bytes of a file."""

    status: int
    headers: list[tuple[str, str]]
    words: bytes
    file: BinaryIO | None
    length: int


class Files:
    """Answers requests with what is in ``root``, which has no symbolic links in it."""

    def __init__(self, root: pathlib.Path, notes: Notes) -> None:
        self._root = root
        #: Where a line about each request is written.
        self.notes = notes

    async def handle(self, stream: H2Stream) -> None:
        """Answer a request."""
        request = dict[Any, Any](stream.request_headers)
        # a disk may be slow, so whatever touches it runs in a thread
        looking = asyncio.get_running_loop().run_in_executor(None, self._answer, request)
        try:
            answer = await asyncio.shield(looking)
        except asyncio.CancelledError:
            # the client has gone, and the file may be open only after that
            looking.add_done_callback(_close)
            raise
        with answer.file or contextlib.nullcontext():
            told = f"{request[':method']} {request.get(':path', '')} {answer.status}"
            self.notes.write(ascii(told)[1:-1])
            headers = [
                (":status", str(answer.status)),
                ("date", formatdate(usegmt=True)),
                ("content-length", str(answer.length)),
                *answer.headers,
            ]
            has_body = request[":method"] != "HEAD" and answer.length > 0
            await stream.start_response(headers, end_stream=not has_body)
            if has_body:
                await _send(stream, answer)

    def _answer(self, request: dict[str, str]) -> Answer:
        if request[":method"] not in ("GET", "HEAD"):
            return _say(405, "GET and HEAD only", ("allow", "GET, HEAD"))
        target = request[":path"].partition("?")[0]
        try:
            return self._find(target)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            # ValueError: a NUL, and what no file name can hold
            return _say(404, "there is no such file")
        except OSError:
            return _say(403, "it cannot be read")

    def _find(self, target: str) -> Answer:
        name = unquote(target, errors="surrogateescape")
        # with every ".." and symbolic link followed, so that it shows where it is
        path = pathlib.Path(os.path.realpath(f"{self._root}/{name}", strict=True))
        if not path.is_relative_to(self._root):
            raise FileNotFoundError
        if path.is_dir():
            if not target.endswith("/"):
                # relative links in it would lead astray
                place = quote(os.fsencode(path.relative_to(self._root)))
                return _say(301, "a directory", ("location", f"/{place}/"))
            index = path / "index.html"
            if not (index.is_file() and index.resolve().is_relative_to(self._root)):
                return _list(path)
            path = index
        elif target.endswith("/"):
            raise NotADirectoryError
        if not path.is_file():  # a pipe, say, which would never open
            raise FileNotFoundError
        return _open(path)


def _close(looking: asyncio.Future[Answer]) -> None:
    file = looking.result().file
    if file is not None:
        file.close()


def _say(status: int, words: str, *headers: tuple[str, str], kind: str = "plain") -> Answer:
    octets = f"{words}\n".encode(errors="replace")
    described = [("content-type", f"text/{kind}; charset=utf-8"), *headers]
    return Answer(status, described, octets, None, len(octets))


def _list(path: pathlib.Path) -> Answer:
    names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in path.iterdir())
    links = (f'<li><a href="./{quote(os.fsencode(n))}">{html.escape(n)}</a>' for n in names)
    page = ["<!doctype html>", f"<title>{html.escape(path.name)}</title>", "<ul>", *links, "</ul>"]
    return _say(200, "\n".join(page), kind="html")


def _open(path: pathlib.Path) -> Answer:
    kind, encoding = mimetypes.guess_type(path.name)
    if kind is None or encoding is not None:
        kind = "application/octet-stream"
    elif kind.startswith("text/"):
        kind += "; charset=utf-8"
    file = path.open("rb")
    status = os.fstat(file.fileno())
    headers = [
        ("content-type", kind),
        ("last-modified", formatdate(int(status.st_mtime), usegmt=True)),
    ]
    return Answer(200, headers, b"", file, status.st_size)


async def _send(stream: H2Stream, answer: Answer) -> None:
    if answer.file is None:
        await stream.send_data(answer.words, end_stream=True)
        return
    left = answer.length
    while left:
        piece = await asyncio.to_thread(answer.file.read, min(left, _PIECE))
        if not piece:
            raise EOFError(f"a file has got shorter by {left} bytes while it was sent")
        left -= len(piece)
        await stream.send_data(piece, end_stream=not left)
