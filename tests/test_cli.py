"""``python -m aioh2``: what it writes, what it ends with, and what it says of bad input.

Commands run in process, in a thread beside the loop of the server; a few in a process of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import json
import logging
import os
import pathlib
import re
import runpy
import signal
import socket
import ssl
import sys
import tempfile
import threading
import unittest
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple
from unittest import mock

import trustme
from hyperframe.frame import (
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

import aioh2
import aioh2.cli
from aioh2.cli import exchange, exits, recording, serve, terminal, trace
from aioh2.cli.exits import Exit, Failure
from aioh2.cli.get import Printed
from aioh2.cli.urls import URL, Origin

from .wire import Case, settle

ROOT = pathlib.Path(__file__).parent.parent
# Seconds for what a command does at once.
PATIENCE = 30
AUTHORITY = trustme.CA()


class Done(NamedTuple):
    """What a command has left."""

    code: int
    out: str
    err: str


class Terminal(io.StringIO):
    """Standard error of a terminal, which has no file behind it."""

    def isatty(self) -> bool:
        return True


class Output(io.TextIOWrapper):
    """Standard output, kept in memory."""

    def __init__(self) -> None:
        self.octets = io.BytesIO()
        super().__init__(self.octets, encoding="utf-8", errors="surrogateescape")

    @property
    def text(self) -> str:
        self.flush()
        return self.octets.getvalue().decode("utf-8", "surrogateescape")


def run(
    *arguments: str,
    out: Any = None,
    err: io.StringIO | None = None,
    stdin: bytes = b"",
) -> Done:
    """Run a command to its end."""
    output, errors = out or Output(), err or io.StringIO()
    with (
        mock.patch.object(sys, "stdout", output),
        mock.patch.object(sys, "stderr", errors),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin))),
    ):
        code = aioh2.cli.main(arguments)
    return Done(code, getattr(output, "text", ""), errors.getvalue())


class CommandCase(Case):
    """A server whose streams a method of the case handles, and a directory."""

    #: The names of ways to answer, by the last part of the path.
    WAYS: dict[str, Callable[[CommandCase, aioh2.H2Stream], Any]]

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.directory = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        # of a command in asyncio's debug mode, it tells of callbacks that took long
        self.enterContext(mock.patch.object(logging.getLogger("asyncio"), "disabled", True))
        self.requests: list[dict[str, str]] = []
        self.asked = asyncio.Event()

    async def command(self, *arguments: str, **more: Any) -> Done:
        """Run a command in a thread, beside this loop."""
        async with asyncio.timeout(PATIENCE):
            return await asyncio.to_thread(run, *arguments, **more)

    async def fails(self, text: str, *arguments: str, code: int = 2, **more: Any) -> Done:
        """Run a command that fails, with one line that has this in it."""
        done = await self.command(*arguments, **more)
        self.assertEqual(done.code, code, done.err)
        self.assertRegex(done.err, text)
        self.assertRegex(done.err, r"\Aaioh2: [^\n]*\n\Z")
        return done

    @contextlib.asynccontextmanager
    async def serving(self, **options: Any) -> AsyncIterator[str]:
        """Serve with the ways of this file; give the URL without the last slash."""
        secure = "ssl" in options
        server = await aioh2.start_server(
            lambda p: p.serve(self.handle), "127.0.0.1", 0, **{"close_timeout": 1} | options
        )
        port = server.sockets[0].getsockname()[1]
        try:
            yield f"{'https' if secure else 'http'}://127.0.0.1:{port}"
        finally:
            await server.shutdown(1)

    async def handle(self, stream: aioh2.H2Stream) -> None:
        request = {str(name): str(value) for name, value in stream.request_headers}
        self.requests.append(request)
        self.asked.set()
        way = request[":path"].partition("?")[0].rpartition("/")[2]
        await WAYS.get(way, hello)(stream)

    def contexts(self) -> tuple[ssl.SSLContext, pathlib.Path, pathlib.Path]:
        """Return a server's context, the authority's file, and a file of certificate and key."""
        issued = AUTHORITY.issue_cert("127.0.0.1", "localhost")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        issued.configure_cert(context)
        authority, both = self.directory / "ca.pem", self.directory / "both.pem"
        authority.write_bytes(AUTHORITY.cert_pem.bytes())
        both.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
        return context, authority, both


async def hello(stream: aioh2.H2Stream) -> None:
    is_head = (":method", "HEAD") in stream.request_headers
    await stream.start_response({":status": "200", "x-note": "grüße"}, end_stream=is_head)
    if not is_head:
        await stream.send_data(b"hello", end_stream=True)


async def missing(stream: aioh2.H2Stream) -> None:
    await stream.start_response({":status": "404", "content-length": "5"})
    await stream.send_data(b"none\n", end_stream=True)


async def moved(stream: aioh2.H2Stream) -> None:
    await stream.start_response({":status": "301", "location": "/else"}, end_stream=True)


async def unmodified(stream: aioh2.H2Stream) -> None:
    await stream.start_response({":status": "304"}, end_stream=True)


async def reset(stream: aioh2.H2Stream) -> None:
    await stream.start_response({":status": "200"})
    stream.reset(aioh2.ErrorCodes.INTERNAL_ERROR)


async def echo(stream: aioh2.H2Stream) -> None:
    body = await stream.read(-1)
    await stream.start_response({":status": "103", "link": "</a>"})
    await stream.start_response({":status": "200", "content-length": str(len(body))})
    await stream.send_data(body)
    await stream.send_trailers({"x-sum": "1"})


async def late(stream: aioh2.H2Stream) -> None:
    """Reads only when the client has sent all that it may."""
    for _ in range(2):
        await stream.protocol.ping()
    # long enough to be seen on a loop that counts whole milliseconds
    await asyncio.sleep(0.02)
    await echo(stream)


async def stop(stream: aioh2.H2Stream) -> None:
    """Answers, and wants no more of the request."""
    await stream.start_response({":status": "200"})
    await stream.send_data(b"enough", end_stream=True)


async def silent(stream: aioh2.H2Stream) -> None:
    await asyncio.Event().wait()


async def large(stream: aioh2.H2Stream) -> None:
    await stream.start_response({":status": "200"})
    await stream.send_data(bytes(600_000), end_stream=True)


async def halting(stream: aioh2.H2Stream) -> None:
    await stream.start_response({":status": "200", "content-length": "10"})
    await stream.send_data(b"half-")
    await asyncio.sleep(0.4)
    await stream.send_data(b"whole", end_stream=True)


async def leave(stream: aioh2.H2Stream) -> None:
    stream.protocol.abort()


WAYS = {
    "missing": missing,
    "moved": moved,
    "unmodified": unmodified,
    "reset": reset,
    "echo": echo,
    "late": late,
    "stop": stop,
    "silent": silent,
    "large": large,
    "halting": halting,
    "leave": leave,
}


class TestURLs(unittest.TestCase):
    def test_good_ones(self) -> None:
        for text, expected in (
            ("http://a.test", "http://a.test/"),
            ("HTTPS://A.Test:443/x", "https://a.test/x"),
            ("http://a.test:443/", "http://a.test:443/"),
            ("http://a.test:/", "http://a.test/"),
            ("http://a.test?q=1", "http://a.test/?q=1"),
            ("http://a.test/?", "http://a.test/?"),
            ("http://a.test/a b/ü?q=<x>#part", "http://a.test/a%20b/%C3%BC?q=%3Cx%3E"),
            ("http://a.test/%20%zz%", "http://a.test/%20%25zz%25"),
            ("http://a.test/a/../b;c=d,e!~", "http://a.test/a/../b;c=d,e!~"),
            ('http://a.test/[x]{"}|\\^`', "http://a.test/%5Bx%5D%7B%22%7D%7C%5C%5E%60"),
            ("http://a.test/\udcff", "http://a.test/%FF"),
            ("http://[::1]:8000/", "http://[::1]:8000/"),
            ("http://[fe80::1%25eth0]/", "http://[fe80::1]/"),
            ("http://bücher.test/", "http://xn--bcher-kva.test/"),
            ("http://127.0.0.1:65535/", "http://127.0.0.1:65535/"),
        ):
            with self.subTest(text):
                self.assertEqual(str(URL.parse(text)), expected)

    def test_zone_is_kept_for_the_connection(self) -> None:
        self.assertEqual(URL.parse("http://[fe80::1%25eth0]/").origin.host, "fe80::1%eth0")

    def test_bare(self) -> None:
        for text, origin in (
            ("a.test", Origin("https", "a.test", 443)),
            ("localhost:8443", Origin("https", "localhost", 8443)),
            ("http://a.test", Origin("http", "a.test", 80)),
        ):
            with self.subTest(text):
                self.assertEqual(URL.parse(text, bare=True).origin, origin)

    def test_bad_ones(self) -> None:
        for text, why in (
            ("", "begin with http"),
            ("a.test/", "begin with http"),
            ("/path", "begin with http"),
            ("ftp://a.test/", "begin with http"),
            ("://a.test/", "begin with http"),
            ("http://", "no host"),
            ("http://:80/", "no host"),
            ("http://user:secret@a.test/", "user name is not sent"),
            ("http://a.test:0/", "from 1 to 65535"),
            ("http://a.test:65536/", "from 1 to 65535"),
            ("http://a.test:x/", "malformed"),
            ("http://::1/", "brackets"),
            ("http://[::1/", "malformed"),
            ("http://[1.2.3.4]/", "no IPv6 address"),
            ("http://a b/", "malformed"),
            ("http://a..b/", "malformed"),
            ("http://a.test/x\ny", "control character"),
            ("http://a.test/\0", "control character"),
        ):
            with self.subTest(text), self.assertRaisesRegex(Failure, why) as caught:
                URL.parse(text)
            self.assertEqual(caught.exception.code, Exit.USAGE)

    def test_a_password_is_not_repeated(self) -> None:
        with self.assertRaises(Failure) as caught:
            URL.parse("http://user:secret@a.test/x")
        self.assertIn("'http://...@a.test/x'", str(caught.exception))
        self.assertNotIn("secret", str(caught.exception))

    def test_file_names(self) -> None:
        for path, name in (
            ("/", ""),
            ("/a/b.txt?q=/c", "b.txt"),
            ("/a%20b", "a b"),
            ("/..", ""),
            ("/%2e", ""),
            ("/a%2Fb", ""),
            ("/a%00b", ""),
        ):
            with self.subTest(path):
                self.assertEqual(URL.parse(f"http://a.test{path}").file_name, name)


class TestExplain(unittest.TestCase):
    def test_words(self) -> None:
        refused = os.strerror(111)
        for error, words in (
            (OSError(111, "Connect call failed ('::1', 1)"), refused),
            (OSError("Multiple exceptions: [Errno 111] a, [Errno 111] b"), refused),
            (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
            (ConnectionResetError(), "ConnectionResetError"),
            (ConnectionResetError("lost"), "lost"),
            (ValueError("embedded null byte"), "embedded null byte"),
        ):
            with self.subTest(error):
                self.assertEqual(exits.explain(error), words)


class TestBadInput(CommandCase):
    async def test_options(self) -> None:
        url = "http://a.test/f"
        for arguments, why in (
            ([], "required: COMMAND"),
            (["fetch"], "invalid choice"),
            (["get"], "required: URL"),
            (["get", "--jsn", url], "unrecognized arguments: --jsn"),
            (["get", "a.test"], "begin with http"),
            (["get", url, "--timeout", "0"], "not between"),
            (["get", url, "--timeout", "soon"], "invalid seconds value"),
            (["get", url, "--key", "k"], "--key goes with --cert"),
            (["get", url, "--cert", "/nowhere"], "/nowhere: No such file"),
            (["get", url, "--cert", "/nowhere", "--key", "k"], "/nowhere or k: No such file"),
            (["get", url, "--cacert", "/nowhere"], "/nowhere: No such file"),
            (["get", url, "-H", "no-colon"], "a header is 'NAME: VALUE'"),
            (["get", url, "-H", "connection: close"], "malformed"),
            (["get", url, "-X", "GE T"], "malformed"),
            (["get", url, "-d", "@/nowhere"], "/nowhere: No such file"),
            (["get", url, "-d", "@a\0b"], "null "),
            (["get", url, "-o", "a", "-O"], "do not go together"),
            (["get", url, url, "-o", "a"], "not 1 for 2 URLs"),
            (["get", url, url, "-o", "a", "-o", "a"], "the same file"),
            (["get", url, "--json", "-o", "-"], "standard output for itself"),
            (["get", "http://a.test/", "-O"], "does not end with a file's name"),
            (["ping", "a.test", "-c", "-1"], "less than 0"),
            (["trace", url, "-n", "0"], "not from 1 to"),
            (["trace", url, "-o", "/nowhere/x.html"], "/nowhere/x.html: No such file"),
            (["trace", url, "-o", "a\0b"], "null "),
            (["serve", "/nowhere"], "/nowhere: No such file"),
            (["serve", __file__], "Not a directory"),
            (["serve", "a\0b"], "null "),
            (["serve", "--port", "65536"], "not from 0 to 65535"),
            (["serve", "--key", "k"], "--key goes with --cert"),
            (["serve", "--cert", __file__], "test_cli.py: "),
            (["serve", "--host", "192.0.2.1", "--port", "0"], "cannot listen on 192.0.2.1"),
        ):
            with self.subTest(" ".join(arguments)):
                done = await self.fails(re.escape(why), *arguments)
                self.assertEqual(done.out, "")

    async def test_no_certificates(self) -> None:
        await self.fails("no certificates", "get", "https://a.test/", "--cacert", __file__)

    def test_help(self) -> None:
        output = Output()
        with self.assertRaises(SystemExit) as caught:
            run("get", "--help", out=output)
        self.assertEqual(caught.exception.code, 0)
        self.assertIn("Redirects are not followed", output.text)


class TestGet(CommandCase):
    async def test_bodies_in_order(self) -> None:
        async with self.serving() as url:
            done = await self.command("get", f"{url}/halting", f"{url}/", f"{url}/large", f"{url}/")
        self.assertEqual((done.code, done.err), (0, ""))
        self.assertEqual(done.out, "half-whole" + "hello" + "\0" * 600_000 + "hello")

    async def test_request(self) -> None:
        async with self.serving() as url:
            target = f"{url}/a%20ü?q=<x>"
            options = (
                "-X",
                "PUT",
                "-H",
                "X-Thing:  a: b ",
                "-H",
                "Host: b.test",
                "-d",
                "some data",
            )
            await self.command("get", target, *options)
        self.assertEqual(
            self.requests,
            [
                {
                    ":method": "PUT",
                    ":scheme": "http",
                    ":path": "/a%20%C3%BC?q=%3Cx%3E",
                    ":authority": "b.test",
                    "user-agent": "aioh2",
                    "accept": "*/*",
                    "content-length": "9",
                    "x-thing": "a: b",
                }
            ],
        )

    async def test_data(self) -> None:
        file = self.directory / "data"
        file.write_bytes(bytes(range(256)) * 2000)
        async with self.serving() as url:
            output = Output()
            done = await self.command("get", f"{url}/echo", "-d", f"@{file}", out=output)
            self.assertEqual(done.code, 0)
            self.assertEqual(output.octets.getvalue(), file.read_bytes())
            done = await self.command("get", f"{url}/echo", "-d", "@-", stdin=b"typed")
            self.assertEqual(done.out, "typed")
            done = await self.command("get", f"{url}/echo", "-d", "grüße")
            self.assertEqual(done.out, "grüße")
        self.assertEqual([r[":method"] for r in self.requests], ["POST"] * 3)

    async def test_a_server_that_wants_no_more(self) -> None:
        file = self.directory / "data"
        file.write_bytes(bytes(1_000_000))
        async with self.serving() as url:
            done = await self.command("get", f"{url}/stop", "-d", f"@{file}")
        self.assertEqual(done, Done(0, "enough", ""))

    async def test_status(self) -> None:
        async with self.serving() as url:
            done = await self.command("get", f"{url}/missing", f"{url}/", f"{url}/missing")
            self.assertEqual(done, Done(1, "none\nhellonone\n", f"aioh2: {url}/missing: 404\n"))
            done = await self.command("get", f"{url}/moved", f"{url}/unmodified")
            words = f"aioh2: {url}/moved: 301 to '/else', which is not followed\n"
            self.assertEqual(done, Done(0, "", words))

    async def test_failed_streams(self) -> None:
        async with self.serving() as url:
            # the highest code of all
            done = await self.command("get", f"{url}/reset", f"{url}/missing", f"{url}/")
        self.assertEqual((done.code, done.out), (4, "none\nhello"))
        self.assertIn(f"aioh2: {url}/reset: stream 1 was reset by the peer: INTERNAL_ERR", done.err)

    async def test_lost_connection(self) -> None:
        async with self.serving() as url:
            await self.fails("the connection was lost", "get", f"{url}/leave", code=4)

    async def test_no_connection(self) -> None:
        async with self.serving() as url:
            pass
        refused = os.strerror(111)
        done = await self.fails(refused, "get", f"{url}/a", f"{url}/b", code=3)
        self.assertEqual(done.err, f"aioh2: no connection to {url}: {refused}\n")
        path = str(self.directory / "none.sock")
        await self.fails(f"{path}: No such file", "get", f"{url}/", "--unix", path, code=3)

    async def test_not_http2(self) -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await reader.read()
            writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            await self.fails("no connection", "get", f"http://127.0.0.1:{port}/", code=3)
            why = "TLS: wrong version number; a server without TLS is at http://"
            await self.fails(why, "get", f"https://127.0.0.1:{port}/", code=3)
            server.close()
        await settle()

    async def test_tls_that_is_refused(self) -> None:
        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # the alert handshake_failure (RFC 8446 section 6.2)
            writer.write(b"\x15\x03\x01\x00\x02\x02\x28")
            writer.close()

        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        async with server:
            url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            await self.fails(r"TLS: [^;]*handshake failure\n", "get", url, code=3)
            server.close()
        await settle()

    async def test_connect_timeout(self) -> None:
        async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        async with await asyncio.start_server(wait, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            target = f"http://127.0.0.1:{port}/"
            limit = ("--connect-timeout", "0.1")
            await self.fails("within 0.1 s", "get", target, *limit, code=3)
        await settle()

    async def test_timeout(self) -> None:
        for concurrency, reason in ((1, "peer"), (0, "stream slot")):
            async with self.serving(concurrency=concurrency) as url:
                words = f"/silent: not done within 0.2 s, waiting for: {reason}$"
                await self.fails(words, "get", f"{url}/silent", "--timeout", "0.2", code=4)

    async def test_files(self) -> None:
        one, two = self.directory / "one", self.directory / "two"
        async with self.serving() as url:
            names = ("-o", str(one), "-o", "-", "-o", str(two))
            done = await self.command("get", f"{url}/large", f"{url}/", f"{url}/echo", *names, "-i")
        self.assertEqual(done.code, 0)
        self.assertTrue(one.read_bytes().endswith(bytes(600_000)))
        self.assertEqual(
            two.read_text(), ":status: 103\nlink: </a>\n:status: 200\ncontent-length: 0\n\n"
        )
        self.assertEqual(done.out, ":status: 200\nx-note: grüße\n\nhello")

    async def test_remote_names(self) -> None:
        with contextlib.chdir(self.directory):
            async with self.serving() as url:
                done = await self.command("get", f"{url}/x/a%20b.txt?q", f"{url}/large", "-O")
        self.assertEqual((done.code, done.out), (0, ""))
        self.assertEqual((self.directory / "a b.txt").read_bytes(), b"hello")
        self.assertEqual((self.directory / "large").stat().st_size, 600_000)

    async def test_files_that_cannot_be_written(self) -> None:
        async with self.serving() as url:
            await self.fails("/nowhere/x: No such", "get", f"{url}/", "-o", "/nowhere/x")
            await self.fails("/dev/full: No space", "get", f"{url}/", "-o", "/dev/full")

    async def test_json(self) -> None:
        async with self.serving() as url:
            file = self.directory / "file"
            done = await self.command("get", f"{url}/echo", "-d", "12345", "--json")
            saved = await self.command("get", f"{url}/", "--json", "-o", str(file))
            failed = await self.command("get", f"{url}/reset", f"{url}/missing", "--json")
        (told,) = json.loads(done.out)
        times = told.pop("seconds")
        self.assertTrue(0 <= times["opened"] <= times["answered"] <= times["ended"])
        self.assertEqual(
            told,
            {
                "url": f"{url}/echo",
                "stream": 1,
                "status": 200,
                "headers": [[":status", "200"], ["content-length", "5"]],
                "informational": [[[":status", "103"], ["link", "</a>"]]],
                "trailers": [["x-sum", "1"]],
                "bytes": 5,
                "error": None,
                "exit": 0,
            },
        )
        self.assertEqual((json.loads(saved.out)[0]["bytes"], file.read_bytes()), (5, b"hello"))
        told = json.loads(failed.out)
        self.assertEqual([(one["status"], one["exit"]) for one in told], [(200, 4), (404, 1)])
        self.assertIn("INTERNAL_ERROR", told[0]["error"])
        refused = await self.command("get", f"{url}/", "--json")
        (told,) = json.loads(refused.out)
        self.assertEqual((told["stream"], told["status"], told["exit"]), (None, None, 3))
        self.assertIsNone(told["seconds"]["ended"])

    async def test_verbose(self) -> None:
        async with self.serving() as url:
            done = await self.command("get", f"{url}/x", "-v", "-H", "authorization: secret")
        self.assertEqual((done.code, done.out), (0, "hello"))
        lines = done.err.splitlines()
        self.assertRegex(lines[0], r"^ +0\.000 c\d+ > SETTINGS ")
        self.assertRegex(done.err, r"\d > HEADERS stream 1, END_STREAM, :method GET, .*:path /x,")
        self.assertRegex(done.err, r"\d < DATA stream 1, 5 bytes, END_STREAM\n")
        self.assertIn("authorization ...", done.err)
        self.assertNotIn("secret", done.err)

    async def test_tls(self) -> None:
        context, authority, both = self.contexts()
        AUTHORITY.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
        async with self.serving(ssl=context) as url:
            mine = ("--cert", str(both))
            trusting = ("get", f"{url}/", "--cacert", str(authority))
            self.assertEqual(await self.command(*trusting, *mine), Done(0, "hello", ""))
            insecure = await self.command("get", f"{url}/", "--insecure", *mine)
            self.assertEqual(insecure, Done(0, "hello", ""))
            await self.fails("self-signed.*--cacert", "get", f"{url}/", *mine, code=3)
            # TLS 1.3 tells of a missing certificate after the handshake
            await self.fails("no connection", *trusting, code=3)
        # asyncio tells the server's loop of handshakes that the client ends
        self.loop_errors.clear()

    async def test_unix_socket(self) -> None:
        context, authority, _ = self.contexts()
        path = str(self.directory / "socket")
        for tls, scheme in ((None, "http"), (context, "https")):
            server = await aioh2.start_unix_server(
                lambda p: p.serve(self.handle), path, ssl=tls, close_timeout=1
            )
            async with server:
                target = f"{scheme}://localhost/x"
                options = ("--unix", path, "--cacert", str(authority))
                done = await self.command("get", target, *options)
            self.assertEqual(done, Done(0, "hello", ""))
            self.assertEqual(self.requests[-1][":authority"], "localhost")
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    async def test_several_origins(self) -> None:
        async with self.serving() as one, self.serving() as two:
            done = await self.command("get", f"{one}/", f"{two}/missing", f"{one}/")
        self.assertEqual((done.code, done.out), (1, "hellonone\nhello"))

    async def test_unwritable_standard_output(self) -> None:
        full = os.fdopen(os.open("/dev/full", os.O_WRONLY), "w")
        async with self.serving() as url:
            await self.fails("standard output: No space", "get", f"{url}/", out=full)
        # which goes nowhere by now, and without an error
        full.close()

    async def test_nobody_reads(self) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        pipe = os.fdopen(writing, "w")
        async with self.serving() as url:
            done = await self.command("get", f"{url}/large", f"{url}/silent", out=pipe)
        pipe.close()
        self.assertEqual((done.code, done.err), (141, ""))

    async def test_nobody_reads_a_socket(self) -> None:
        """Where standard output is one, as with a parent on uvloop, its end may be a reset."""
        async with self.serving() as url:
            with mock.patch.object(Printed, "write", side_effect=ConnectionResetError):
                done = await self.command("get", f"{url}/large")
        self.assertEqual((done.code, done.err), (141, ""))


class TestProgress(CommandCase):
    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.enterContext(mock.patch.object(terminal, "_PATIENCE", 0.05))
        self.enterContext(mock.patch.object(terminal, "_EVERY", 0.05))
        # whatever the tests run in
        environment = {"TERM": "xterm", "COLUMNS": "100", "NO_COLOR": ""}
        self.enterContext(mock.patch.dict(os.environ, environment))

    async def saved(self, url: str, err: io.StringIO) -> Done:
        targets = [f"{url}/halting", f"{url}/large", f"{url}/halting?2"]
        files = [str(self.directory / str(number)) for number in range(3)]
        options = [part for file in files for part in ("-o", file)]
        return await self.command("get", *targets, *options, err=err)

    async def test_bars(self) -> None:
        err = Terminal()
        async with self.serving() as url:
            done = await self.saved(url, err)
        self.assertEqual(done.code, 0)
        self.assertIn("/halting?2", done.err)
        self.assertRegex(done.err, "1 of 3 done")
        self.assertIn("━", done.err)

    async def test_a_bar_ends_with_its_transfer(self) -> None:
        err = Terminal()
        with mock.patch.object(sys, "stderr", err):
            one = exchange.Exchange(URL.parse("http://a.test/one"), exchange.Tossed())
            one.answered, one.received = 1.0, 2048
            bars = terminal._Bars(terminal._rich())
            bars.show([one], 1)
            self.assertIn("2.0 KiB", err.getvalue())
            one.ended = 2.0
            before = len(err.getvalue())
            bars.show([one], 1)
            self.assertNotIn("/one", err.getvalue()[before:])
            bars.clear()

    async def test_plain(self) -> None:
        for hidden in ({"rich": None, "rich.console": None}, {}):
            err = Terminal()
            with (
                mock.patch.dict(sys.modules, hidden),
                mock.patch.dict(os.environ, {} if hidden else {"TERM": "dumb"}),
            ):
                async with self.serving() as url:
                    done = await self.saved(url, err)
            self.assertEqual(done.code, 0)
            self.assertRegex(done.err, r"\r\x1b\[K1 of 3 done, 585\.9 KiB, [0-9.]+ [KM]iB/s")
            self.assertTrue(done.err.endswith("\r\x1b[K"))

    async def test_none_where_bodies_are_shown(self) -> None:
        class Screen(Output):
            def isatty(self) -> bool:
                return True

        async with self.serving() as url:
            done = await self.command("get", f"{url}/halting", out=Screen(), err=Terminal())
        self.assertEqual(done, Done(0, "half-whole", ""))

    async def test_colours(self) -> None:
        err = Terminal()
        async with self.serving() as url:
            await self.command("get", f"{url}/", "-v", err=err)
        self.assertRegex(err.getvalue(), r"\x1b\[32m.* > SETTINGS")

    def test_sizes(self) -> None:
        for count, words in (
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1024**2 * 1.5, "1.5 MiB"),
            (1024**3 * 2000, "2000.0 GiB"),
        ):
            self.assertEqual(terminal.size(count), words)


class TestPing(CommandCase):
    async def test_times(self) -> None:
        async with self.serving() as url:
            done = await self.command("ping", url, "-c", "3", "-i", "0.01")
        lines = done.out.splitlines()
        self.assertEqual((done.code, done.err, len(lines)), (0, "", 6))
        self.assertEqual(lines[0], f"PING {url}")
        self.assertRegex(lines[3], r"^3: \d+\.\d{3} ms$")
        self.assertEqual(lines[4], "3 sent, 3 answered")
        self.assertRegex(lines[5], r"^min/avg/max: [\d.]+/[\d.]+/[\d.]+ ms$")

    async def test_json(self) -> None:
        async with self.serving() as url:
            done = await self.command("ping", url, "-c", "2", "-i", "0.01", "--json", "-v")
        told = json.loads(done.out)
        self.assertEqual((told["origin"], told["sent"], told["answered"]), (url, 2, 2))
        # a loop may count whole milliseconds
        self.assertTrue(0 <= told["ms"]["min"] <= told["ms"]["avg"] <= told["ms"]["max"])
        self.assertEqual(len(told["ms"]["each"]), 2)
        self.assertEqual(done.err.count("> PING"), 2)

    async def test_no_answer(self) -> None:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(SettingsFrame().serialize())
            await reader.read()
            writer.close()

        async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
            target = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            done = await self.fails("no answer within 0.1 s", "ping", target, "-W", "0.1", code=4)
        self.assertEqual(done.out, f"PING {target}\n1 sent, 0 answered\n")
        await settle()

    async def test_a_server_that_goes(self) -> None:
        async def go(protocol: aioh2.H2Protocol) -> None:
            await asyncio.sleep(0.2)
            protocol.abort()

        async with await aioh2.start_server(go, "127.0.0.1", 0) as server:
            target = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            arguments = ("ping", target, "-c", "0", "-i", "0.05")
            done = await self.fails("the connection was lost", *arguments, code=4)
        self.assertIn("min/avg/max", done.out)


class TestInfo(CommandCase):
    async def test_tls(self) -> None:
        context, authority, _ = self.contexts()
        async with self.serving(ssl=context, enable_connect_protocol=True) as url:
            done = await self.command("info", url, "--cacert", str(authority))
        self.assertEqual((done.code, done.err), (0, ""))
        for line in (
            r"^TLS +TLSv1\.3, TLS_\w+ \(\d+ bits\)$",
            r"^ALPN +h2$",
            r"^certificate +checked$",
            r"^  subject +.*organizationName=",
            r"^  names +127\.0\.0\.1, localhost$|^  names +localhost, 127\.0\.0\.1$",
            r"^  not after +\w+",
            r"^  sha256 +[0-9a-f]{64}$",
            r"^round trip +[\d.]+ ms, the least of 3$",
            r"^HEAD +200$",
            r"^  MAX_CONCURRENT_STREAMS +100$",
            r"^  NO_RFC7540_PRIORITIES +0 \(default\)$",
            r"^extended CONNECT +yes \(RFC 8441\)$",
            r"^ALTSVC +none$",
        ):
            self.assertRegex(done.out, re.compile(line, re.MULTILINE))

    async def test_insecure(self) -> None:
        context, _, _ = self.contexts()
        async with self.serving(ssl=context) as url:
            done = await self.command("info", url, "--insecure", "--json")
        certificate = json.loads(done.out)["tls"]["certificate"]
        self.assertFalse(certificate["checked"])
        self.assertRegex(certificate["sha256"], "^[0-9a-f]{64}$")
        # a leaf cannot be read without being checked
        self.assertIsNone(certificate["subject"])

    async def test_insecure_with_its_own_authority(self) -> None:
        issued = trustme.CA(organization_name="Own")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        file = self.directory / "own.pem"
        file.write_bytes(issued.cert_pem.bytes() + issued.private_key_pem.bytes())
        context.load_cert_chain(file)
        async with self.serving(ssl=context) as url:
            done = await self.command("info", url.removeprefix("https://"), "--insecure")
        self.assertRegex(done.out, "certificate +NOT checked")
        self.assertRegex(done.out, "  subject +organizationName=Own")

    async def test_announcements(self) -> None:
        async def announce(protocol: aioh2.H2Protocol) -> None:
            protocol.update_settings({0xFACE: 7})
            protocol.advertise_alternative_service('h2="b.test:443"', origin="https://a.test")
            protocol.send_origins(["https://a.test", "https://b.test"])
            async for stream in protocol:
                protocol.advertise_alternative_service("clear", stream_id=stream.id)
                headers = {":status": "204", "server": "here", "alt-svc": 'h3=":443"'}
                await stream.start_response(headers, end_stream=True)

        context, authority, _ = self.contexts()
        async with await aioh2.start_server(
            announce, "127.0.0.1", 0, ssl=context, no_rfc7540_priorities=True
        ) as server:
            url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            done = await self.command("info", url, "--cacert", str(authority))
        self.assertEqual(done.code, 0, done.err)
        for line in (
            r"^priorities +RFC 9218 only$",
            r"^  0xface +7$",
            r"^  NO_RFC7540_PRIORITIES +1$",
            r'^ALTSVC +h2="b\.test:443" \(of https://a\.test\)$',
            rf"^ALTSVC +clear \(of {url[8:]}\)$",
            r"^ORIGIN +https://a\.test, https://b\.test$",
            r"^  server +here$",
            r'^  alt-svc +h3=":443"$',
            r"^HEAD +204$",
        ):
            self.assertRegex(done.out, re.compile(line, re.MULTILINE))

    async def test_no_answer(self) -> None:
        async with self.serving() as url:
            done = await self.command("info", f"{url}/silent", "--timeout", "0.2")
            self.assertEqual(
                (done.code, done.err), (4, f"aioh2: {url}/silent: no answer within 0.2 s\n")
            )
            self.assertIn("round trip", done.out)
            self.assertRegex(done.out, "TLS +none")
            done = await self.command("info", f"{url}/leave", "--json")
            self.assertEqual(done.code, 4)
            self.assertIn("lost", json.loads(done.out)["error"])

    async def test_unix_socket_and_no_pings(self) -> None:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # the client's setting, of a server: it must be 0 if it is there at all
            writer.write(SettingsFrame(settings={2: 0}).serialize())
            await reader.read()
            writer.close()

        path = str(self.directory / "socket")
        async with await asyncio.start_unix_server(greet, path):
            options = ("--unix", path, "--timeout", "0.1")
            done = await self.command("info", "http://a.test/", *options)
        self.assertEqual(done.code, 4)
        self.assertRegex(done.out, rf"address +{path}\n")
        self.assertRegex(done.out, "  ENABLE_PUSH +0\n")
        self.assertRegex(done.out, r"  MAX_CONCURRENT_STREAMS +no limit \(default\)\n")
        self.assertNotIn("round trip", done.out)
        await settle()

    def test_addresses(self) -> None:
        protocol = mock.Mock()
        protocol.get_extra_info.return_value = ("::1", 443, 0, 0)
        self.assertEqual(aioh2.cli.info._address(protocol), "[::1]:443")


def traced(page: str) -> Any:
    """Return the data of a page."""
    found = re.search(r'id="trace">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


class TestTrace(CommandCase):
    async def trace(self, *arguments: str, code: int = 0) -> Any:
        file = self.directory / "trace.html"
        done = await self.command("trace", *arguments, "-o", str(file))
        self.assertEqual(done.code, code, done.err)
        self.assertIn(str(file), done.out)
        return traced(file.read_text(encoding="utf-8"))

    async def test_streams(self) -> None:
        async with self.serving(concurrency=2) as url:
            told = await self.trace(f"{url}/large", f"{url}/</script>", "-n", "3")
        (connection,) = told["connections"]
        self.assertEqual(connection["authority"], url)
        self.assertEqual(connection["frames"][0][2], "SETTINGS")
        streams = told["streams"]
        self.assertEqual([s["stream"] for s in streams], [1, 3, 5, 7, 9, 11])
        self.assertEqual([s["bytes"] for s in streams], [600_000, 5] * 3)
        for stream in streams:
            data = [frame for frame in stream["frames"] if frame[2] == "DATA"]
            self.assertEqual(sum(frame[3] for frame in data), stream["bytes"])
            self.assertEqual(data[-1][4], "END_STREAM")
            self.assertTrue(
                0 < stream["began"] <= stream["opened"] <= stream["answered"] <= stream["ended"]
            )
            self.assertLessEqual(stream["ended"], told["span"])
            # until the server has acknowledged the setting, a window has the size of RFC 9113
            self.assertIn(262_144, [size for _, size in stream["windows"]["receive"][:2]])
            waits = stream["waits"]
            self.assertEqual(waits[0], [0, stream["began"], "connection"])
            for (_, end, _), (start, _, _) in itertools.pairwise(waits):
                self.assertLessEqual(end, start)
        last = {reason: end for _, end, reason in streams[-1]["waits"]}
        self.assertEqual(last["stream slot"], streams[-1]["opened"])

    async def test_what_an_upload_waits_for(self) -> None:
        file = self.directory / "data"
        file.write_bytes(bytes(300_000))
        async with self.serving(initial_window_size=65_535) as url:
            told = await self.trace(f"{url}/late", "-d", f"@{file}")
        (stream,) = told["streams"]
        self.assertEqual(stream["method"], "POST")
        sizes = [size for _, size in stream["windows"]["send"]]
        self.assertEqual((sizes[0], min(sizes)), (65_535, 0))
        self.assertIn("stream window", {reason for _, _, reason in stream["waits"]})

    async def test_failures(self) -> None:
        async with self.serving() as url:
            nowhere = "http://127.0.0.1:1/"
            file = self.directory / "trace.html"
            targets = (f"{url}/reset", f"{url}/missing", nowhere)
            done = await self.command("trace", *targets, "-o", str(file))
        self.assertEqual(done.code, 4)
        self.assertEqual(len(done.err.splitlines()), 2)
        told = traced(file.read_text(encoding="utf-8"))
        reset, missing, refused = told["streams"]
        self.assertIn("INTERNAL_ERROR", reset["error"])
        self.assertEqual((missing["error"], missing["status"]), (None, 404))
        self.assertEqual((refused["stream"], refused["connection"]), (None, None))
        self.assertEqual((refused["waits"], refused["frames"]), ([], []))

    async def test_no_connection_leaves_no_page(self) -> None:
        file = self.directory / "trace.html"
        arguments = ("trace", "http://127.0.0.1:1/", "-o", str(file))
        await self.fails("no connection", *arguments, code=3)
        self.assertFalse(file.exists())
        file.write_text("an older one")
        await self.fails("no connection", *arguments, code=3)
        self.assertEqual(file.read_text(), "an older one")

    async def test_a_full_disk(self) -> None:
        async with self.serving() as url:
            await self.fails("/dev/full: No space", "trace", f"{url}/", "-o", "/dev/full")

    async def test_no_more_frames_than_a_page_takes(self) -> None:
        with mock.patch.object(recording, "MAX_FRAMES", 10):
            async with self.serving() as url:
                told = await self.trace(f"{url}/large")
        (stream,), (connection,) = told["streams"], told["connections"]
        self.assertEqual(len(stream["frames"]) + len(connection["frames"]), 10)
        self.assertGreater(told["dropped"], 20)
        # the windows go on
        self.assertGreater(len(stream["windows"]["receive"]), 20)

    def test_page_needs_nothing_else(self) -> None:
        page = trace.page({"a": "</script><!--"})
        self.assertEqual(traced(page), {"a": "</script><!--"})
        self.assertEqual(page.count("</script>"), 2)
        self.assertNotRegex(page, r"(?i)(src|href)=.?(?!data:|\"data:)[^>]*//|https?://(?!/)[a-z]")
        self.assertIn("default-src 'none'", page)


class TestWindows(unittest.TestCase):
    def setUp(self) -> None:
        self.connection = recording.Connection("c1")
        self.now = 0

    def pass_by(self, sent: bool, *frames: Frame) -> None:
        for frame in frames:
            self.now += 1
            self.connection.measure(self.now, sent, frame)

    def sizes(self, stream_id: int, *, sending: bool = False) -> list[int]:
        windows = self.connection.sending if sending else self.connection.receiving
        return [size for _, size in windows.series[stream_id]]

    def test_data_and_credit(self) -> None:
        self.pass_by(True, HeadersFrame(1), DataFrame(1, b"12345"))
        padded = DataFrame(1, b"123", pad_length=4, flags=["PADDED"])
        self.pass_by(False, padded, WindowUpdateFrame(0, 10), WindowUpdateFrame(1, 20))
        self.pass_by(True, WindowUpdateFrame(1, 30), PingFrame())
        self.assertEqual(self.sizes(0), [65_535, 65_527])
        self.assertEqual(self.sizes(1), [65_535, 65_527, 65_557])
        self.assertEqual(self.sizes(0, sending=True), [65_535, 65_530, 65_540])
        self.assertEqual(self.sizes(1, sending=True), [65_535, 65_530, 65_550])

    def test_settings_hold_from_their_ack_on(self) -> None:
        ack = SettingsFrame(flags=["ACK"])
        self.pass_by(True, HeadersFrame(1), SettingsFrame(settings={4: 100}), SettingsFrame())
        self.assertEqual(self.sizes(1), [65_535])
        self.pass_by(False, ack, ack, ack)
        self.pass_by(True, HeadersFrame(3))
        self.assertEqual((self.sizes(1), self.sizes(3)), ([65_535, 100], [100]))

    def test_settings_of_the_peer_hold_at_once(self) -> None:
        self.pass_by(True, HeadersFrame(1), DataFrame(1, bytes(65_535)))
        self.pass_by(False, SettingsFrame(settings={4: 1}), SettingsFrame(settings={3: 1}))
        self.assertEqual(self.sizes(1, sending=True), [65_535, 0, -65_534])
        # what it announces for streams says nothing of the connection (RFC 9113 section 6.9.2)
        self.assertEqual(self.sizes(0, sending=True), [65_535, 0])
        self.pass_by(True, SettingsFrame(flags=["ACK"]))
        self.assertEqual(self.sizes(1, sending=True), [65_535, 0, -65_534])


class TestServe(CommandCase):
    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.root = self.directory / "root"
        (self.root / "sub").mkdir(parents=True)
        (self.root / "with-index").mkdir()
        self.write("file.txt", b"0123456789")
        self.write("large.bin", bytes(400_000))
        self.write("packed.txt.gz", b"gz")
        self.write("empty", b"")
        self.write("sub/<b> ü.html", b"<p>")
        self.write("with-index/index.html", b"<h1>")
        (self.directory / "secret").write_bytes(b"secret")
        (self.root / "link").symlink_to(self.directory / "secret")
        os.mkfifo(self.root / "pipe")

    def write(self, name: str, data: bytes) -> None:
        (self.root / name).write_bytes(data)

    @contextlib.asynccontextmanager
    async def server(self, *arguments: str) -> AsyncIterator[str]:
        """Run ``serve`` in this loop, which takes its signal; give its URL."""
        self.out, self.err = Output(), io.StringIO()
        options = aioh2.cli._parser().parse_args(["serve", str(self.root), "--port=0", *arguments])
        ready = asyncio.Event()
        with (
            mock.patch.object(sys, "stdout", self.out),
            mock.patch.object(sys, "stderr", self.err),
            mock.patch.object(self.out, "flush", ready.set),
        ):
            running = asyncio.create_task(serve.run(options))
            async with asyncio.timeout(PATIENCE):
                waiting = asyncio.create_task(ready.wait())
                await asyncio.wait([running, waiting], return_when="FIRST_COMPLETED")
        written = self.out.text
        with mock.patch.object(sys, "stderr", self.err):
            yield written.rpartition(" ")[2].rstrip("/\n")
            signal.raise_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE):
                self.assertEqual(await running, Exit.OK)

    async def ask(self, url: str, path: str, method: str = "GET") -> tuple[dict[str, str], bytes]:
        port = int(url.rpartition(":")[2])
        async with (
            asyncio.timeout(PATIENCE),
            aioh2.open_connection("127.0.0.1", port) as client,
            client.open_stream({":method": method, ":path": path}, end_stream=True) as stream,
        ):
            headers = {str(name): str(value) for name, value in await stream.recv_response()}
            return headers, await stream.read(-1)

    async def test_files(self) -> None:
        async with self.server() as url:
            self.assertRegex(url, r"^http://127\.0\.0\.1:\d+$")
            for path, status, body in (
                ("/file.txt", "200", b"0123456789"),
                ("/file.txt?query", "200", b"0123456789"),
                ("/large.bin", "200", bytes(400_000)),
                ("/empty", "200", b""),
                ("/sub/%3Cb%3E%20%C3%BC.html", "200", b"<p>"),
                ("/with-index/", "200", b"<h1>"),
                ("/sub", "301", b"a directory\n"),
                ("/file.txt/", "404", b"there is no such file\n"),
                ("/none", "404", b"there is no such file\n"),
                ("/../secret", "404", b"there is no such file\n"),
                ("/%2e%2e/secret", "404", b"there is no such file\n"),
                ("/link", "404", b"there is no such file\n"),
                ("/pipe", "404", b"there is no such file\n"),
                ("/%00", "404", b"there is no such file\n"),
                (f"/{'x' * 300}", "403", b"it cannot be read\n"),
            ):
                with self.subTest(path):
                    headers, found = await self.ask(url, path)
                    self.assertEqual((headers[":status"], found), (status, body))
                    self.assertEqual(headers["content-length"], str(len(body)))
        self.assertIn("GET /file.txt 200\n", self.err.getvalue())

    async def test_headers(self) -> None:
        async with self.server() as url:
            headers, body = await self.ask(url, "/file.txt", "HEAD")
            self.assertEqual((headers["content-length"], body), ("10", b""))
            self.assertEqual(headers["content-type"], "text/plain; charset=utf-8")
            self.assertIn("last-modified", headers)
            headers, _ = await self.ask(url, "/packed.txt.gz")
            self.assertEqual(headers["content-type"], "application/octet-stream")
            headers, _ = await self.ask(url, "/sub")
            self.assertEqual(headers["location"], "/sub/")
            headers, _ = await self.ask(url, "/file.txt", "POST")
            self.assertEqual((headers[":status"], headers["allow"]), ("405", "GET, HEAD"))

    async def test_listing(self) -> None:
        async with self.server() as url:
            _, body = await self.ask(url, "/sub/")
            link = '<li><a href="./%3Cb%3E%20%C3%BC.html">&lt;b&gt; ü.html</a>'
            self.assertIn(link, body.decode())
            _, body = await self.ask(url, "/")
            self.assertIn('<a href="./sub/">sub/</a>', body.decode())

    async def test_tls_and_verbose(self) -> None:
        _, authority, both = self.contexts()
        async with self.server("--cert", str(both), "-v") as url:
            self.assertRegex(url, "^https://")
            port = int(url.rpartition(":")[2])
            trusting = ssl.create_default_context(cafile=authority)
            async with (
                aioh2.open_connection("127.0.0.1", port, ssl=trusting) as client,
                client.open_stream({":path": "/file.txt"}, end_stream=True) as stream,
            ):
                self.assertEqual(await stream.read(-1), b"0123456789")
        self.assertRegex(self.err.getvalue(), r" s\d+ < HEADERS stream 1, END_STREAM")

    async def test_ipv6(self) -> None:
        async with self.server("--host", "::1") as url:
            self.assertRegex(url, r"^http://\[::1\]:\d+$")

    async def test_a_file_that_gets_shorter(self) -> None:
        async with self.server() as url:
            with (
                mock.patch.object(serve, "_open", shortened),
                self.assertLogs("aioh2.server"),
                self.assertRaises(aioh2.StreamReset),
            ):
                await self.ask(url, "/file.txt")

    async def test_a_client_that_goes_while_a_file_is_looked_up(self) -> None:
        looking, going_on = threading.Event(), threading.Event()
        opened = list[Any]()
        real = serve._open

        def slow(path: pathlib.Path) -> serve.Answer:
            looking.set()
            going_on.wait(PATIENCE)
            if path.name == "none":
                raise FileNotFoundError
            answer = real(path)
            opened.append(answer)
            return answer

        self.write("none", b"")
        async with self.server() as url:
            with mock.patch.object(serve, "_open", slow):
                for name in ("file.txt", "none"):
                    looking.clear()
                    going_on.clear()
                    asking = asyncio.create_task(self.ask(url, f"/{name}"))
                    await asyncio.to_thread(looking.wait, PATIENCE)
                    asking.cancel()
                    await asyncio.wait([asking])
                    going_on.set()
                    # the executor's queue is behind it
                    await self.ask(url, "/sub/")
        self.assertTrue(opened[0].file.closed)


def shortened(path: pathlib.Path) -> serve.Answer:
    return serve.Answer(200, [], b"", path.open("rb"), 20)


class TestProcess(CommandCase):
    """As users run it."""

    @contextlib.asynccontextmanager
    async def process(self, *arguments: str, **more: Any) -> AsyncIterator[Any]:
        pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE} | more
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-m", "aioh2"),
            *arguments,
            env={**os.environ, "PYTHONPATH": path},
            **pipes,
        )
        try:
            async with asyncio.timeout(PATIENCE):
                yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def test_get(self) -> None:
        async with (
            self.serving() as url,
            self.process("get", f"{url}/", f"{url}/missing") as process,
        ):
            out, err = await process.communicate()
        self.assertEqual((process.returncode, out), (1, b"hellonone\n"))
        self.assertEqual(err.decode(), f"aioh2: {url}/missing: 404\n")

    async def test_bad_input(self) -> None:
        async with self.process("get", "ftp://a.test/") as process:
            out, err = await process.communicate()
        self.assertEqual((process.returncode, out, err.count(b"\n")), (2, b"", 1))

    async def test_ctrl_c(self) -> None:
        async with self.serving() as url, self.process("get", f"{url}/silent") as process:
            await self.asked.wait()
            process.send_signal(signal.SIGINT)
            out, err = await process.communicate()
        self.assertEqual((process.returncode, out, err), (130, b"", b""))

    async def test_ctrl_c_of_ping(self) -> None:
        async with self.serving() as url, self.process("ping", url, "-c", "0") as process:
            while not (await process.stdout.readline()).startswith(b"1:"):
                pass
            process.send_signal(signal.SIGINT)
            out, err = await process.communicate()
        self.assertEqual((process.returncode, err), (130, b""))
        self.assertTrue(out.startswith(b"1 sent, 1 answered\nmin/avg/max: "), out)

    async def test_nobody_reads(self) -> None:
        async with self.serving() as url, self.process("get", f"{url}/large") as process:
            await process.stdout.readexactly(5)
            process.stdout._transport.close()
            self.assertEqual(await process.wait(), 141)
            self.assertEqual(await process.stderr.read(), b"")

    async def test_serve(self) -> None:
        for number, code in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
            arguments = ("serve", str(self.directory), "--port", "0")
            async with self.process(*arguments) as process:
                line = (await process.stdout.readline()).decode()
                self.assertRegex(line, r"^serving .* at http://127\.0\.0\.1:\d+/\n$")
                process.send_signal(number)
                out, err = await process.communicate()
            self.assertEqual((process.returncode, out, err), (code, b"", b""))

    def test_module(self) -> None:
        self.assertIs(runpy.run_module("aioh2")["main"], aioh2.cli.main)
        with (
            mock.patch.object(sys, "argv", ["aioh2", "get"]),
            self.assertRaises(SystemExit) as ended,
            contextlib.redirect_stderr(io.StringIO()),
        ):
            runpy.run_module("aioh2", run_name="__main__")
        self.assertEqual(ended.exception.code, 2)

    async def test_closed_streams(self) -> None:
        async with self.serving() as url:
            with contextlib.ExitStack() as stack:
                for name in ("stdin", "stdout", "stderr"):
                    stack.enter_context(mock.patch.object(sys, name, None))
                arguments = ("get", f"{url}/echo", "-d", "@-")
                code = await asyncio.to_thread(aioh2.cli.main, arguments)
                for stream in (sys.stdin, sys.stdout, sys.stderr):
                    stream.close()
        self.assertEqual((code, self.requests[0]["content-length"]), (0, "0"))

    def test_interrupted(self) -> None:
        def interrupt(coroutine: Any) -> None:
            coroutine.close()
            raise KeyboardInterrupt

        with mock.patch.object(asyncio, "run", interrupt):
            self.assertEqual(run("ping", "a.test"), Done(130, "", ""))


if __name__ == "__main__":
    unittest.main()
