"""A server of static files: GET and HEAD, byte ranges, 304 for what a client has already.

    python examples/fileserver.py --port 8000 DIR
    curl --http2-prior-knowledge --range 0-99 http://127.0.0.1:8000/FILE

Browsers speak HTTP/2 over TLS only: give them --cert and --key, and with --demo a page of 100
images (gallery.py). SIGTERM and SIGINT let the downloads in flight end, and then the server.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import html
import io
import mimetypes
import os
import pathlib
import re
import signal
import socket
import ssl
import tempfile
from email.utils import formatdate, parsedate_to_datetime
from typing import BinaryIO, NamedTuple
from urllib.parse import quote, unquote

import aioh2

# Bytes. Of a download the server holds two pieces: one on its way, and the next one.
PIECE = 131_072
# Bytes that the kernel may hold of a connection before they are on the network.
UNSENT = 16_384


class Response(NamedTuple):
    """What goes out: so many bytes of the body, from where it stands."""

    status: int
    headers: list[tuple[str, str]]
    body: BinaryIO
    length: int


async def handle(root: pathlib.Path, stream: aioh2.H2Stream) -> None:
    """Answer one request with what is in ``root``, which has no symbolic links in it."""
    request = {str(name): str(value) for name, value in stream.request_headers}
    # a disk may be slow, so whatever touches it runs in a thread
    looking = asyncio.get_running_loop().run_in_executor(None, respond, root, request)
    try:
        response = await asyncio.shield(looking)
    except asyncio.CancelledError:
        # the client has gone, and the file may be open only after that
        looking.add_done_callback(lambda done: done.result().body.close())
        raise
    with response.body as body:
        headers = [
            (":status", str(response.status)),
            ("date", formatdate(usegmt=True)),
            *response.headers,
        ]
        is_empty = request[":method"] == "HEAD" or not response.length
        await stream.start_response(headers, end_stream=is_empty)
        if not is_empty:
            await send(stream, body, response.length)


async def send(stream: aioh2.H2Stream, body: BinaryIO, length: int) -> None:
    """Send so many bytes, no faster than the client takes them.

    The next piece is read while one waits to be sent. So a stream has something to send
    whenever it is its turn, and turns go by the priorities that the client has signalled.
    """
    loop = asyncio.get_running_loop()
    reading = loop.run_in_executor(None, body.read, min(length, PIECE))
    try:
        while length:
            piece = await reading
            if not piece:
                raise EOFError(f"a file has got shorter by {length} bytes while it was sent")
            length -= len(piece)
            reading = loop.run_in_executor(None, body.read, min(length, PIECE))
            await stream.send_data(piece, end_stream=not length)
    finally:
        reading.cancel()


def respond(root: pathlib.Path, request: dict[str, str]) -> Response:
    """Find out what to answer."""
    if request[":method"] not in ("GET", "HEAD"):
        return text(405, "GET and HEAD only", ("allow", "GET, HEAD"))
    try:
        return look_up(root, request[":path"].partition("?")[0], request)
    except OSError:
        return text(403, "it cannot be read")


def look_up(root: pathlib.Path, target: str, request: dict[str, str]) -> Response:
    """Return the file or directory that a path names."""
    path = find(root, target)
    if path is None:
        return text(404, "there is no such file")
    if not path.is_dir():
        return text(404, "not a directory") if target.endswith("/") else open_file(path, request)
    if not target.endswith("/"):
        # relative links in it would lead astray; made of the path, for "//host" leads elsewhere
        place = quote(os.fsencode(path.relative_to(root)))
        return text(301, "a directory", ("location", f"/{place}/"))
    index = find(root, target + "index.html")
    return open_file(index, request) if index and index.is_file() else list_directory(path)


def find(root: pathlib.Path, target: str) -> pathlib.Path | None:
    """Return the path of what is asked for; None: it does not exist, or not in ``root``."""
    name = unquote(target, errors="surrogateescape")
    try:
        # with every ".." and symbolic link followed, so that it shows where it is
        path = pathlib.Path(os.path.realpath(f"{root}/{name}", strict=True))
    except (OSError, ValueError):  # ValueError: a NUL, and what no file name can hold
        return None
    return path if path.is_relative_to(root) else None


def text(status: int, words: str, *headers: tuple[str, str], kind: str = "plain") -> Response:
    """Return a response of a few words."""
    body = f"{words}\n".encode(errors="replace")
    described = [
        ("content-type", f"text/{kind}; charset=utf-8"),
        ("content-length", str(len(body))),
    ]
    return Response(status, [*described, *headers], io.BytesIO(body), len(body))


def list_directory(path: pathlib.Path) -> Response:
    """Return links to what a directory holds."""
    names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in path.iterdir())
    links = (f'<li><a href="{quote(os.fsencode(n))}">{html.escape(n)}</a>' for n in names)
    page = ["<!doctype html>", f"<title>{html.escape(path.name)}</title>", "<ul>", *links, "</ul>"]
    return text(200, "\n".join(page), kind="html")


def open_file(path: pathlib.Path, request: dict[str, str]) -> Response:
    """Return a file, or the part of it that is asked for (RFC 9110 sections 13 and 14)."""
    if not path.is_file():  # a pipe, say, which would never open
        return text(404, "no regular file")
    body = path.open("rb")
    status = os.fstat(body.fileno())
    size, modified = status.st_size, int(status.st_mtime)
    etag = f'"{status.st_mtime_ns:x}-{size:x}"'
    validators = [("etag", etag), ("last-modified", formatdate(modified, usegmt=True))]
    code = precondition(request, etag, modified)
    if code is not None:
        return Response(code, validators, body, 0)

    headers = [*validators, ("accept-ranges", "bytes"), ("content-type", kind_of(path))]
    part = None
    if request[":method"] == "GET" and request.get("if-range", etag) in dict(validators).values():
        part = part_of(request.get("range", ""), size)
    if part is None:
        return Response(200, [*headers, ("content-length", str(size))], body, size)
    start, end = part
    if start >= end:
        return Response(416, [("content-range", f"bytes */{size}")], body, 0)
    body.seek(start)
    headers.append(("content-range", f"bytes {start}-{end - 1}/{size}"))
    return Response(206, [*headers, ("content-length", str(end - start))], body, end - start)


def kind_of(path: pathlib.Path) -> str:
    """Return the content-type that a file's name stands for."""
    kind, encoding = mimetypes.guess_type(path.name)
    if kind is None or encoding is not None:
        return "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


def precondition(request: dict[str, str], etag: str, modified: int) -> int | None:
    """Return the status of a request that the file's state settles (RFC 9110 section 13.2.2)."""
    since = date_in(request, "if-unmodified-since")
    if (tags := request.get("if-match")) is not None:
        if not is_among(etag, tags):
            return 412
    elif since is not None and modified > since:
        return 412
    since = date_in(request, "if-modified-since")
    if (tags := request.get("if-none-match")) is not None:
        return 304 if is_among(etag, tags, weak=True) else None
    return 304 if since is not None and modified <= since else None


def is_among(etag: str, tags: str, weak: bool = False) -> bool:
    """Tell whether a list of entity tags has this one, or, ``weak``, one as good as it."""
    listed = [tag.strip() for tag in tags.split(",")]
    return listed == ["*"] or etag in listed or (weak and f"W/{etag}" in listed)


def date_in(request: dict[str, str], name: str) -> float | None:
    """Return the time that a field names, in seconds; None: it is not there, or no date."""
    try:
        return parsedate_to_datetime(request[name]).timestamp()
    except (KeyError, ValueError, OverflowError):
        return None


def part_of(field: str, size: int) -> tuple[int, int] | None:
    """Return where a part begins, and where it ends; None: the field is to be ignored.

    Several parts at once are ignored, too, which a server may do (RFC 9110 section 14.2).
    """
    match = re.fullmatch("bytes=([0-9]{0,18})-([0-9]{0,18})", field.strip(), re.IGNORECASE)
    if match is None or not size:
        return None
    first, last = match.groups()
    if first and last:
        return (int(first), min(int(last) + 1, size)) if int(first) <= int(last) else None
    if first:
        return int(first), size
    return (max(0, size - int(last)), size) if last else None


async def serve(root: pathlib.Path, port: int, context: ssl.SSLContext | None) -> None:
    """Serve until a signal says stop."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    handler = functools.partial(handle, root)
    # a client that takes nothing for so many seconds does not keep its files open
    server = await aioh2.start_server(
        lambda p: p.serve(handler), "127.0.0.1", port, ssl=context, window_timeout=60
    )
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        for listening in server.sockets:
            # or the kernel takes megabytes at once, and what is urgent comes behind them
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
    print(f"listening on port {server.sockets[0].getsockname()[1]}", flush=True)
    await stop.wait()
    print("shutting down", flush=True)
    print(await server.shutdown(), flush=True)


def main() -> None:
    """Read the options, and serve."""
    parser = argparse.ArgumentParser(description="HTTP/2 server of static files")
    parser.add_argument("directory", nargs="?", default=".", metavar="DIR", help="default: this")
    parser.add_argument("--port", type=int, default=0, help="TCP port; 0: one that is free")
    parser.add_argument("--cert", metavar="FILE", help="certificate chain (PEM); needs --key")
    parser.add_argument("--key", metavar="FILE", help="private key (PEM)")
    parser.add_argument("--demo", action="store_true", help="serve a page of 100 images instead")
    options = parser.parse_args()
    if bool(options.cert) != bool(options.key):
        parser.error("--cert and --key go together")
    context = None
    if options.cert:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options.cert, options.key)
    with tempfile.TemporaryDirectory() as demo:
        if options.demo:
            import gallery

            gallery.write(pathlib.Path(demo))
        root = pathlib.Path(demo if options.demo else options.directory).resolve(strict=True)
        asyncio.run(serve(root, options.port, context))


if __name__ == "__main__":
    main()
