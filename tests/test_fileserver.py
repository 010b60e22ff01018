"""``examples/fileserver.py``: what it answers, what it never gives out, and what it holds."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import io
import os
import pathlib
import runpy
import signal
import socket
import sys
import tempfile
import threading
import tracemalloc
import unittest
from collections.abc import AsyncIterator
from email.utils import formatdate
from typing import Any, NamedTuple
from unittest import mock

from hyperframe.frame import DataFrame, Frame, HeadersFrame

import aioh2
from aioh2.testing import connected_pair

from .wire import REQUEST, Case, Peer, settle

ROOT = pathlib.Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
EXAMPLE = runpy.run_path(str(EXAMPLES / "fileserver.py"), run_name="fileserver")
GALLERY = runpy.run_path(str(EXAMPLES / "gallery.py"), run_name="gallery")
# Seconds for what a program does at once.
PATIENCE = 20

TEXT = b"0123456789" * 100
# Saturday, 7 February 2015, 13:28:29 and a little more.
MODIFIED = 1_423_315_709
NANOSECONDS = MODIFIED * 10**9 + 250


class Answer(NamedTuple):
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes


class FileServerCase(Case):
    """A client of the example's handler, over memory; ``root`` is what it serves."""

    def setUp(self) -> None:
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.outside = pathlib.Path(directory).resolve()
        self.root = self.outside / "root"
        self.root.mkdir()
        self.write("file.txt", TEXT)

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.client, self.server = await connected_pair()
        # stopped by the end of the connection
        self.server.set_handler(lambda p: p.serve(functools.partial(EXAMPLE["handle"], self.root)))
        self.addAsyncCleanup(self.client.wait_closed)
        self.addAsyncCleanup(self.client.shutdown)

    def write(self, name: str, data: bytes) -> pathlib.Path:
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        os.utime(path, ns=(NANOSECONDS, NANOSECONDS))
        return path

    async def get(self, path: str = "/file.txt", method: str = "GET", **fields: str) -> Answer:
        """Make a request; in the names of ``fields``, "_" stands for "-"."""
        headers = {":method": method, ":path": path}
        headers |= {name.replace("_", "-"): value for name, value in fields.items()}
        async with (
            asyncio.timeout(PATIENCE),
            self.client.open_stream(headers, end_stream=True) as stream,
        ):
            answer = dict(await stream.recv_response())
            return Answer(int(answer.pop(":status")), answer, await stream.read(-1))

    async def queued(self, protocol: aioh2.H2Protocol, *stream_ids: int) -> bool:
        """Wait until these streams have something that waits for the connection's window."""
        async with asyncio.timeout(PATIENCE):
            while any(
                protocol.stream(stream_id).blocked_on != "connection window"
                for stream_id in stream_ids
            ):
                await settle()
        return True


class TestWhole(FileServerCase):
    async def test_get(self) -> None:
        status, headers, body = await self.get("/file.txt?query=../x")
        self.assertEqual((status, body), (200, TEXT))
        self.assertRegex(headers.pop("date"), r"^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$")
        self.assertEqual(
            headers,
            {
                "etag": f'"{NANOSECONDS:x}-3e8"',
                "last-modified": "Sat, 07 Feb 2015 13:28:29 GMT",
                "accept-ranges": "bytes",
                "content-type": "text/plain; charset=utf-8",
                "content-length": "1000",
            },
        )

    async def test_head(self) -> None:
        self.write("empty", b"")
        for path in "/file.txt", "/empty", "/missing", "/":
            _, headers, _ = got = await self.get(path)
            head = await self.get(path, "HEAD")
            headers.pop("date"), head.headers.pop("date")
            self.assertEqual(head, got._replace(body=b""), path)

    async def test_empty(self) -> None:
        self.write("empty", b"")
        status, headers, body = await self.get("/empty", range="bytes=0-")
        self.assertEqual((status, headers["content-length"], body), (200, "0", b""))

    async def test_larger_than_its_pieces(self) -> None:
        data = os.urandom(3 * EXAMPLE["PIECE"] + 17)
        self.write("large.bin", data)
        status, headers, body = await self.get("/large.bin")
        self.assertEqual((status, headers["content-length"]), (200, str(len(data))))
        self.assertTrue(body == data)
        start = EXAMPLE["PIECE"] - 1
        status, headers, body = await self.get("/large.bin", range=f"bytes={start}-")
        self.assertEqual((status, headers["content-length"]), (206, str(len(data) - start)))
        self.assertTrue(body == data[start:])

    async def test_kinds(self) -> None:
        for name, kind in {
            "a.html": "text/html; charset=utf-8",
            "a.css": "text/css; charset=utf-8",
            "a.png": "image/png",
            "a.unheardof": "application/octet-stream",
            "a.html.gz": "application/octet-stream",  # not HTML before somebody unpacks it
        }.items():
            self.write(name, b"x")
            self.assertEqual((await self.get(f"/{name}")).headers["content-type"], kind, name)

    async def test_other_methods(self) -> None:
        for method in "POST", "PUT", "DELETE", "OPTIONS":
            status, headers, _ = await self.get("/file.txt", method)
            self.assertEqual((status, headers["allow"]), (405, "GET, HEAD"))
        async with self.client.open_stream({":method": "CONNECT", ":authority": "a"}) as stream:
            self.assertEqual(dict(await stream.recv_response())[":status"], "405")
        # an upload is stopped, as nobody reads it
        async with self.client.open_stream({":method": "POST"}) as stream:
            self.assertEqual(dict(await stream.recv_response())[":status"], "405")
            with self.assertRaises(aioh2.SendException) as caught:
                for _ in range(100):
                    await stream.send_data(bytes(100_000))
        assert isinstance(caught.exception.__cause__, aioh2.StreamReset)
        self.assertEqual(caught.exception.__cause__.error_code, aioh2.ErrorCodes.NO_ERROR)


class TestPaths(FileServerCase):
    async def test_nothing_from_outside(self) -> None:
        (self.outside / "secret").write_bytes(b"secret")
        (self.outside / "root-secret").write_bytes(b"secret")
        (self.root / "out").symlink_to(self.outside / "secret")
        (self.root / "up").symlink_to(self.outside)
        (self.root / "loop").symlink_to(self.root / "loop")
        (self.root / "directory").mkdir()
        (self.root / "directory" / "index.html").symlink_to(self.outside / "secret")
        whole = str(self.outside / "secret")
        for path in (
            "/../secret",
            "/%2e%2e/secret",
            "/.%2E%2fsecret",
            "/..%2fsecret",
            "/directory/../../secret",
            "/../root-secret",
            "/..",
            "/out",
            "/up/secret",
            "/up/",
            "/loop",
            whole,
            f"/{whole}",
            f"/%2F{whole}",
            "/file.txt%00",
            "/%00/../secret",
            "/file.txt/",
            "/file.txt/../../secret",
            f"/{'a' * 5000}",
            "/%ff%fe",
            "/missing",
        ):
            status, _, body = await self.get(path)
            self.assertEqual(status, 404, path)
            self.assertNotIn(b"secret", body, path)
        # a link out of it is not followed as an index, either
        status, _, body = await self.get("/directory/")
        self.assertEqual(status, 200)
        self.assertNotIn(b"secret", body)

    async def test_all_that_is_inside(self) -> None:
        self.write("directory/a b&c.txt", b"1")
        self.write("\N{SNOWMAN}", b"2")
        self.write(os.fsdecode(b"\xff"), b"3")
        self.write("%2e%2e", b"4")
        (self.root / "link").symlink_to(self.root / "directory")
        for path, body in {
            "/directory/a%20b&c.txt": b"1",
            "/directory/../link/a%20b%26c.txt": b"1",
            "//directory//./a%20b&c.txt": b"1",
            "/%E2%98%83": b"2",
            "/%ff": b"3",
            "/%252e%252e": b"4",
        }.items():
            self.assertEqual((await self.get(path))[::2], (200, body), path)

    async def test_directories(self) -> None:
        self.write("directory/a&b <i>.txt", b"1")
        self.write("directory/" + os.fsdecode(b"\xff"), b"1")
        (self.root / "directory" / "inner").mkdir()
        status, headers, body = await self.get("/directory/")
        self.assertEqual((status, headers["content-type"]), (200, "text/html; charset=utf-8"))
        page = body.decode()
        self.assertIn('<a href="a%26b%20%3Ci%3E.txt">a&amp;b &lt;i&gt;.txt</a>', page)
        self.assertIn('<a href="%FF">?</a>', page)
        self.assertIn('<a href="inner/">inner/</a>', page)
        self.write("directory/index.html", b"<p>index</p>")
        (self.root / "directory" / "inner" / "index.html").mkdir()
        status, _, body = await self.get("/directory/inner/")
        self.assertEqual(status, 200)
        self.assertIn(b"index.html/</a>", body)
        self.assertEqual((await self.get("/directory/"))[::2], (200, b"<p>index</p>"))

    async def test_a_directory_has_a_slash_at_its_end(self) -> None:
        (self.root / "a b").mkdir()
        (self.root / "elsewhere.test").mkdir()
        for path, place in {
            "/a%20b": "/a%20b/",
            "/a%20b?c": "/a%20b/",
            # as it stands, this would be another host
            "//elsewhere.test": "/elsewhere.test/",
            "//elsewhere.test/%2e": "/elsewhere.test/",
        }.items():
            status, headers, _ = await self.get(path)
            self.assertEqual((status, headers["location"]), (301, place), path)

    async def test_what_cannot_be_read(self) -> None:
        os.mkfifo(self.root / "pipe")
        self.assertEqual((await self.get("/pipe")).status, 404)
        with mock.patch.object(pathlib.Path, "open", side_effect=PermissionError):
            self.assertEqual((await self.get()).status, 403)
        with mock.patch.object(pathlib.Path, "iterdir", side_effect=PermissionError):
            self.assertEqual((await self.get("/")).status, 403)


class TestConditions(FileServerCase):
    async def test_parts(self) -> None:
        for asked, start, end in (
            ("bytes=0-0", 0, 1),
            ("bytes=10-19", 10, 20),
            ("bytes=990-", 990, 1000),
            ("bytes=990-5000", 990, 1000),
            ("bytes=-7", 993, 1000),
            ("bytes=-5000", 0, 1000),
            ("BYTES=5-6", 5, 7),
        ):
            status, headers, body = await self.get(range=asked)
            self.assertEqual((status, body), (206, TEXT[start:end]), asked)
            self.assertEqual(headers["content-range"], f"bytes {start}-{end - 1}/1000")
            self.assertEqual(headers["content-length"], str(end - start))
            self.assertIn("etag", headers)

    async def test_parts_that_are_not_there(self) -> None:
        for asked in "bytes=1000-", "bytes=1000-2000", "bytes=-0", f"bytes={'9' * 18}-":
            status, headers, body = await self.get(range=asked)
            self.assertEqual((status, body), (416, b""), asked)
            self.assertEqual(headers["content-range"], "bytes */1000")

    async def test_parts_that_are_ignored(self) -> None:
        for asked in (
            "bytes=2-1",
            "bytes=-",
            "bytes=a-b",
            "bytes=0-1,5-6",
            "lines=0-1",
            "bytes=+1-2",
            "bytes=\N{ARABIC-INDIC DIGIT ONE}-",
            f"bytes={'9' * 5000}-",
        ):
            self.assertEqual((await self.get(range=asked))[::2], (200, TEXT), asked)
        status, headers, _ = await self.get(method="HEAD", range="bytes=0-1")
        self.assertEqual((status, headers["content-length"]), (200, "1000"))

    async def test_a_part_if_it_is_of_the_same_file(self) -> None:
        headers = (await self.get()).headers
        for same in headers["etag"], headers["last-modified"]:
            answer = await self.get(range="bytes=0-1", if_range=same)
            self.assertEqual(answer[::2], (206, TEXT[:2]))
        for other in '"other"', f"W/{headers['etag']}", formatdate(MODIFIED + 1, usegmt=True):
            answer = await self.get(range="bytes=0-1", if_range=other)
            self.assertEqual(answer[::2], (200, TEXT))
        # what is a condition for all comes first
        answer = await self.get(range="bytes=0-1", if_none_match=headers["etag"])
        self.assertEqual(answer.status, 304)

    async def test_not_modified(self) -> None:
        etag = (await self.get()).headers["etag"]
        date, before = (formatdate(when, usegmt=True) for when in (MODIFIED, MODIFIED - 1))
        for fields in (
            {"if_none_match": etag},
            {"if_none_match": f"W/{etag}"},
            {"if_none_match": f'"other" ,{etag}'},
            {"if_none_match": "*"},
            {"if_modified_since": date},
            {"if_modified_since": formatdate(MODIFIED + 9, usegmt=True)},
            {"if_modified_since": "Saturday, 07-Feb-15 13:28:29 GMT"},
            # a tag is the better one to ask by
            {"if_none_match": etag, "if_modified_since": before},
        ):
            for method in "GET", "HEAD":
                status, headers, body = await self.get(method=method, **fields)
                self.assertEqual((status, body), (304, b""), fields)
                self.assertEqual(headers["etag"], etag)
                self.assertNotIn("content-length", headers)
        for fields in (
            {"if_none_match": '"other"'},
            {"if_none_match": etag.strip('"')},
            {"if_modified_since": before},
            {"if_modified_since": "yesterday"},
            {"if_modified_since": "Sat, 07 Feb 99999 13:28:29 GMT"},
            {"if_modified_since": "Mon, 01 Jan 0001 00:00:00 -0000"},
            {"if_none_match": '"other"', "if_modified_since": date},
        ):
            self.assertEqual((await self.get(**fields)).status, 200, fields)

    async def test_precondition_failed(self) -> None:
        etag = (await self.get()).headers["etag"]
        date, before = (formatdate(when, usegmt=True) for when in (MODIFIED, MODIFIED - 1))
        for fields, expected in (
            ({"if_match": '"other"'}, 412),
            ({"if_match": f"W/{etag}"}, 412),
            ({"if_match": etag}, 200),
            ({"if_match": "*"}, 200),
            ({"if_unmodified_since": before}, 412),
            ({"if_unmodified_since": date}, 200),
            ({"if_match": etag, "if_unmodified_since": before}, 200),
            ({"if_match": '"other"', "if_none_match": etag}, 412),
        ):
            self.assertEqual((await self.get(**fields)).status, expected, fields)

    async def test_a_change_is_seen(self) -> None:
        headers = (await self.get()).headers
        self.write("file.txt", b"other")
        fields = {"if_none_match": headers["etag"]}
        self.assertEqual((await self.get(**fields))[::2], (200, b"other"))


class TestDownloads(FileServerCase):
    async def test_a_large_file_is_never_in_memory(self) -> None:
        size = 24 * 1024 * 1024
        os.truncate(self.write("large", b""), size)
        await self.get()
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        received = 0
        async with self.client.open_stream({":path": "/large"}, end_stream=True) as stream:
            async for chunk in stream:
                received += len(chunk)
        _, peak = tracemalloc.get_traced_memory()
        self.assertEqual(received, size)
        # the pieces of the server, the client's window, and the frames in between
        self.assertLess(peak, 3_000_000)

    async def test_no_faster_than_it_is_read(self) -> None:
        size = 8 * 1024 * 1024
        os.truncate(self.write("large", b""), size)
        # with one thread, whatever was to be read before is read when it has done anything else
        loop = asyncio.get_running_loop()
        loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
        read = 0

        class Counted(NamedTuple):
            file: Any

            def read(self, count: int) -> bytes:
                nonlocal read
                data: bytes = self.file.read(count)
                read += len(data)
                return data

            def __enter__(self) -> Counted:
                return self

            def __exit__(self, *_: object) -> None:
                self.file.close()

        def look_up(*arguments: Any) -> Any:
            response = EXAMPLE["look_up"](*arguments)
            return response._replace(body=Counted(response.body))

        with mock.patch.dict(EXAMPLE["handle"].__globals__, look_up=look_up):
            stream = await self.client.open_stream({":path": "/large"}, end_stream=True)
            self.assertEqual(dict(await stream.recv_response())[":status"], "200")
            most = self.client.config.initial_window_size + 2 * EXAMPLE["PIECE"]
            taken = 0
            while taken < size:
                # it does all that it can without being read
                for _ in range(8):
                    await loop.run_in_executor(None, lambda: None)
                    await settle()
                if not taken:
                    # a window, a piece that waits for the next one, and another that is at hand
                    self.assertEqual(read, most)
                self.assertLessEqual(read, taken + most)
                taken += len(await stream.read(65_536))
            self.assertEqual(await stream.read(), b"")
        self.assertEqual(read, size)

    async def test_what_is_urgent_goes_first(self) -> None:
        # more than the connection's window, and less than a piece
        self.write("body", bytes(100_000))
        peer = await Peer.of_server(
            handler=lambda p: p.serve(functools.partial(EXAMPLE["handle"], self.root)),
            settings={aioh2.SettingCodes.INITIAL_WINDOW_SIZE: 1_000_000},
        )
        order: list[int] = []

        async def until(count: int, kind: type[Frame]) -> None:
            """Wait for so many frames of a kind; keep the order of the streams."""
            async with asyncio.timeout(PATIENCE):
                while count > 0:
                    frames = await peer.frames(kind)
                    order.extend(frame.stream_id for frame in frames)
                    count -= sum(len(frame.data) if kind is DataFrame else 1 for frame in frames)

        for stream_id, field in (1, "u=5"), (3, "u=0"), (5, "u=3"):
            peer.request(stream_id, [*REQUEST[:3], (":path", "/body"), ("priority", field)])
            # the first one has taken the whole window when the others come
            await until(
                65_535 if stream_id == 1 else 1, DataFrame if stream_id == 1 else HeadersFrame
            )
        self.assertEqual(order, [1, 1, 1, 1, 3, 5])
        order.clear()
        # their bodies wait for a window by now
        self.assertTrue(await self.queued(peer.protocol, 3, 5))
        peer.window(0, 1_000_000)
        await until(300_000 - 65_535, DataFrame)
        self.assertEqual(list(dict.fromkeys(order)), [3, 5, 1])
        self.assertEqual(order, sorted(order, key=[3, 5, 1].index))
        peer.lose()

    async def test_got_shorter(self) -> None:
        path = self.write("large", bytes(4_000_000))
        stream = await self.client.open_stream({":path": "/large"}, end_stream=True)
        await stream.read(1)
        os.truncate(path, 2_000_000)
        with (
            self.assertLogs("aioh2.server", "ERROR") as logs,
            self.assertRaises(aioh2.StreamReset) as caught,
        ):
            await stream.read(-1)
        self.assertEqual(caught.exception.error_code, aioh2.ErrorCodes.INTERNAL_ERROR)
        self.assertIn("EOFError", logs.output[0])
        self.assertEqual((await self.get()).status, 200)

    async def test_a_file_is_closed_when_the_client_has_gone(self) -> None:
        self.write("large", bytes(4_000_000))
        found: list[Any] = []
        found_one, go_on = asyncio.Event(), threading.Event()
        self.addCleanup(go_on.set)
        loop = asyncio.get_running_loop()

        def look_up(*arguments: Any) -> Any:
            response = EXAMPLE["look_up"](*arguments)
            found.append(response.body)
            loop.call_soon_threadsafe(found_one.set)
            go_on.wait()
            return response

        with mock.patch.dict(EXAMPLE["handle"].__globals__, look_up=look_up):
            # before it is open, as far as the handler knows
            stream = await self.client.open_stream({":path": "/large"}, end_stream=True)
            await found_one.wait()
            stream.reset()
            await self.client.ping()
            self.assertFalse(found[0].closed)
            go_on.set()
            # and while it is being sent
            stream = await self.client.open_stream({":path": "/large"}, end_stream=True)
            await stream.read(1)
            self.assertFalse(found[1].closed)
            stream.reset()
            async with asyncio.timeout(PATIENCE):
                while not all(file.closed for file in found):
                    await self.client.ping()


class TestProgram(Case):
    @contextlib.asynccontextmanager
    async def start(self, *arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
        """Run the example, and end it with SIGTERM; give its process, and its port."""
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-X", "dev", "-W", "error", str(EXAMPLES / "fileserver.py")),
            *arguments,
            env={**os.environ, "PYTHONPATH": path},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(PATIENCE):
                line = (await process.stdout.readline()).decode()
            self.assertRegex(line, r"^listening on port \d+\n$")
            yield process, int(line.split()[-1])
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE):
                self.told, _ = await process.communicate()
            self.assertEqual(process.returncode, 0, self.told)
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()

    async def test_demo(self) -> None:
        async with (
            self.start("--demo") as (_, port),
            aioh2.open_connection("127.0.0.1", port) as client,
        ):
            for path, beginning in {
                "/": b"<!doctype html>",
                "/style.css": b"body",
                "/script.js": b"for",
                "/image-99.png": b"\x89PNG",
            }.items():
                stream = await client.open_stream({":path": path}, end_stream=True)
                self.assertTrue((await stream.read(-1)).startswith(beginning), path)
        self.assertEqual(
            self.told.decode().splitlines(),
            ["shutting down", str(aioh2.Drained(completed=0, aborted=0))],
        )

    async def test_a_download_in_flight_is_completed(self) -> None:
        file = self.enterContext(tempfile.NamedTemporaryFile())
        file.truncate(4_000_000)
        directory, name = os.path.split(file.name)
        async with self.start(directory) as (process, port):
            client = await aioh2.open_connection("127.0.0.1", port)
            stream = await client.open_stream({":path": f"/{name}"}, end_stream=True)
            received = len(await stream.read())
            process.send_signal(signal.SIGTERM)
            assert process.stdout is not None
            self.assertEqual(await process.stdout.readline(), b"shutting down\n")
            received += len(await stream.read(-1))
            self.assertEqual(received, 4_000_000)
            await client.wait_closed()
            await process.wait()
        self.assertEqual(self.told.decode(), f"{aioh2.Drained(completed=1, aborted=0)}\n")

    @unittest.skipUnless(hasattr(socket, "TCP_NOTSENT_LOWAT"), "needs TCP_NOTSENT_LOWAT")
    async def test_the_kernel_takes_little_ahead(self) -> None:
        servers: asyncio.Queue[aioh2.Server] = asyncio.Queue()

        async def start_server(*arguments: Any, **options: Any) -> aioh2.Server:
            server = await aioh2.start_server(*arguments, **options)
            servers.put_nowait(server)
            return server

        example = EXAMPLE["serve"]
        namespace = mock.Mock(start_server=start_server)
        with (
            mock.patch.dict(example.__globals__, aioh2=namespace),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            serving = asyncio.create_task(example(ROOT, 0, None))
            server = await servers.get()
            port = server.sockets[0].getsockname()[1]
            async with aioh2.open_connection("127.0.0.1", port) as client:
                await client.ping()
                (connection,) = server.connections
                sock = connection.get_extra_info("socket")
                option = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)
                self.assertEqual(option, EXAMPLE["UNSENT"])
            signal.raise_signal(signal.SIGTERM)
            await serving


class TestGallery(unittest.TestCase):
    def test_images(self) -> None:
        images = [GALLERY["rings"](number) for number in range(GALLERY["IMAGES"])]
        self.assertEqual(len(set(images)), 100)
        for image in images:
            self.assertTrue(image.startswith(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x40\0\0\0\x40"))
