"""Headless Chromium as the client of ``examples/fileserver.py``, and of streams both ways.

With ``AIOH2_SCREENSHOT=FILE`` in the environment, the page of 100 images leaves its picture there.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import os
import runpy
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from h2.events import Event, RequestReceived, StreamReset

import aioh2

from . import browser
from .cases import PeerCase, within
from .programs import HERE, EchoServer, Example

if TYPE_CHECKING:
    from playwright.async_api import Page

EXAMPLES = HERE.parent.parent / "examples"

# Of each image, whether it has come; and of each resource, what it came over.
LOADED = "[...document.images].filter(image => image.complete && image.naturalWidth == 64).length"
PROTOCOLS = """
[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
  .map(entry => entry.nextHopProtocol)
"""

# The page and the server take turns, so each piece has to get through before there is another.
# /next makes the server send one; /came is answered when it has got one.
READ_IN_TURNS = """
async () => {
  const reader = (await fetch("/pieces")).body.getReader();
  const pieces = [];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return pieces;
    pieces.push(new TextDecoder().decode(value));
    await fetch("/next");
  }
}
"""
SEND_IN_TURNS = """
async () => {
  let sent = 0;
  const body = new ReadableStream({
    async pull(controller) {
      if (sent) await fetch("/came");
      if (sent == 10) controller.close();
      else controller.enqueue(new TextEncoder().encode(`piece ${sent++}`));
    },
  }, { highWaterMark: 0 });
  const response = await fetch("/upload", { method: "POST", body, duplex: "half" });
  return response.text();
}
"""
# 4 MiB, in pieces of 64 KiB that are all different, and the checksum of what comes back. More than
# the 6 MiB that Chromium has a window for would not: it reads no response before the request is
# sent, and the echo reads no more before it is read. That is what "half" means.
ECHO = """
async () => {
  let number = 0;
  const body = new ReadableStream({
    pull(controller) {
      if (number == 64) controller.close();
      else controller.enqueue(new Uint8Array(65536).fill(number++));
    },
  });
  const response = await fetch("/", { method: "POST", body, duplex: "half" });
  const reader = response.body.getReader();
  const parts = [];
  for (let next; !(next = await reader.read()).done;) parts.push(next.value);
  const whole = await new Blob(parts).arrayBuffer();
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", whole));
  return [whole.byteLength, [...digest].map(byte => byte.toString(16).padStart(2, "0")).join("")];
}
"""
ABORT_READING = """
async () => {
  const abort = new AbortController();
  const response = await fetch("/endless", { signal: abort.signal });
  const reader = response.body.getReader();
  let received = 0;
  while (received < 1000000) received += (await reader.read()).value.length;
  abort.abort();
  try {
    for (;;) await reader.read();
  } catch (error) {
    return error.name;
  }
}
"""
# With more to send than the server's window takes, or after five pieces that have all come.
ABORT_SENDING = """
async () => {
  const abort = new AbortController();
  const body = new ReadableStream({
    start(controller) {
      for (let piece = 0; piece < 20; piece++) controller.enqueue(new Uint8Array(65536));
    },
  });
  const asked = { method: "POST", body, duplex: "half", signal: abort.signal };
  const sending = fetch("/held", asked).catch(error => error.name);
  await fetch("/came");
  abort.abort();
  return sending;
}
"""
ABORT_BETWEEN_PIECES = """
async () => {
  const abort = new AbortController();
  let sent = 0;
  const body = new ReadableStream({
    async pull(controller) {
      if (sent) await fetch("/came");
      if (sent == 5) abort.abort();
      else controller.enqueue(new TextEncoder().encode(`piece ${sent++}`));
    },
  }, { highWaterMark: 0 });
  const asked = { method: "POST", body, duplex: "half", signal: abort.signal };
  return fetch("/upload", asked).catch(error => error.name);
}
"""
# Eight that may wait, and then one that is urgent.
FETCH_BY_PRIORITY = """
async () => {
  const get = async (name, priority) => (await fetch(`/${name}`, { priority })).arrayBuffer();
  const all = [...Array(8).keys()].map(number => get(`large?low-${number}`, "low"));
  await Promise.all([...all, get("large?high", "high")]);
}
"""

Handler = Callable[[aioh2.H2Stream], Awaitable[None]]


def is_distrust(error: BaseException | None) -> bool:
    """Tell whether a client has only said that it does not know the certificate's issuer."""
    return isinstance(error, ssl.SSLError) and "CERTIFICATE_UNKNOWN" in str(error)


class Watched(aioh2.H2Protocol):
    """A server's connection that keeps what Chromium asks for, how, and what it resets."""

    def __init__(self, client_side: bool, **options: Any) -> None:
        super().__init__(client_side, **options)
        #: The ``priority`` field of each request, by path; None: there was none.
        self.priorities: dict[str, str | None] = {}
        #: The code of each reset, in their order.
        self.resets: asyncio.Queue[int] = asyncio.Queue()

    def event_received(self, event: Event) -> None:
        super().event_received(event)
        if isinstance(event, RequestReceived):
            headers = dict(self.stream(event.stream_id).request_headers)
            self.priorities[headers[":path"]] = headers.get("priority")
        elif isinstance(event, StreamReset) and event.remote_reset:
            self.resets.put_nowait(event.error_code)


class Turns:
    """Streams both ways, a piece at a time."""

    def __init__(self) -> None:
        #: Pieces of an upload, as they have come.
        self.received: list[bytes] = []
        #: How uploads, and the response without end, have ended: as "complete" or "cancelled".
        self.ends: asyncio.Queue[str] = asyncio.Queue()
        # A turn that has been given, and not taken.
        self._turns: asyncio.Queue[None] = asyncio.Queue()

    async def __call__(self, stream: aioh2.H2Stream) -> None:
        match dict(stream.request_headers)[":path"]:
            case "/pieces":
                await self.send_pieces(stream)
            case "/next":
                self._turns.put_nowait(None)
                await stream.start_response({":status": "204"}, end_stream=True)
            case "/upload":
                await self.receive_pieces(stream)
            case "/held":
                await self.receive_one_piece(stream)
            case "/came":
                await self._turns.get()
                await stream.start_response({":status": "204"}, end_stream=True)
            case "/endless":
                await self.send_without_end(stream)
            case _:
                await stream.start_response({":status": "200", "content-type": "text/html"})
                await stream.send_data(b"<!doctype html><title>streams</title>", end_stream=True)

    async def send_pieces(self, stream: aioh2.H2Stream) -> None:
        await stream.start_response({":status": "200", "content-type": "text/plain"})
        for number in range(10):
            await stream.send_data(b"piece %d" % number)
            await self._turns.get()

    async def receive_pieces(self, stream: aioh2.H2Stream) -> None:
        try:
            async for piece in stream:
                self.received.append(piece)
                self._turns.put_nowait(None)
        except asyncio.CancelledError:
            self.ends.put_nowait("cancelled")
            raise
        self.ends.put_nowait("complete")
        await stream.start_response({":status": "200", "content-type": "text/plain"})
        await stream.send_data(b"thank you", end_stream=True)

    async def receive_one_piece(self, stream: aioh2.H2Stream) -> None:
        await stream.read()
        self._turns.put_nowait(None)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.ends.put_nowait("cancelled")
            raise

    async def send_without_end(self, stream: aioh2.H2Stream) -> None:
        await stream.start_response({":status": "200", "content-type": "text/plain"})
        try:
            while True:
                await stream.send_data(bytes(10_000))
        except (asyncio.CancelledError, aioh2.SendException):
            self.ends.put_nowait("cancelled")
            raise


class TestChromium(PeerCase):
    peer = "Chromium"
    side = "server"
    program = "chromium"

    @contextlib.asynccontextmanager
    async def served(self, handler: Handler) -> AsyncIterator[tuple[Watched, Page]]:
        """Serve in this process; give the one connection that the page at "/" has made."""
        made: list[Watched] = []

        def connected(protocol: Watched) -> Awaitable[None]:
            made.append(protocol)
            return protocol.serve(handler)

        server = await aioh2.start_server(
            connected, "127.0.0.1", 0, cls=Watched, ssl=self.issue_certificates().server_context()
        )
        async with server, browser.chromium() as page:
            await page.goto(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
            yield made[0], page
            self.assertEqual(len(made), 1)
        # Chromium tries without the certificate being excused, and then again
        told = [error for error in self.loop_errors if not is_distrust(error.get("exception"))]
        self.loop_errors[:] = told

    @within(60)
    async def test_images(self) -> None:
        """A page of 100 images"""
        files = self.issue_certificates()
        answers: list[dict[str, Any]] = []
        async with (
            Example("fileserver.py", "--demo", "--cert", files.cert, "--key", files.key) as server,
            browser.chromium() as page,
        ):
            network = await page.context.new_cdp_session(page)
            network.on("Network.responseReceived", lambda event: answers.append(event["response"]))
            await network.send("Network.enable")
            await page.set_viewport_size({"width": 760, "height": 820})
            async with asyncio.timeout(20):
                await page.goto(server.url(scheme="https"), wait_until="load")
            self.assertEqual(await page.evaluate(LOADED), 100)
            protocols = await page.evaluate(PROTOCOLS)
            self.assertEqual((len(protocols), set(protocols)), (103, {"h2"}))
            self.assertEqual({answer["status"] for answer in answers}, {200})
            self.assertEqual(len({answer["connectionId"] for answer in answers}), 1)
            summary = await page.inner_text("#summary")
            self.assertRegex(summary, "^103 responses, [0-9]+ KiB, all over h2$")
            if picture := os.environ.get("AIOH2_SCREENSHOT"):
                # the last one has faded in
                shown = "[...document.images].every(i => getComputedStyle(i).opacity == 1)"
                await page.wait_for_function(shown)
                await page.screenshot(path=picture)

    @within(60)
    async def test_images_that_it_has(self) -> None:
        """A page of 100 images, again: 304"""
        files = self.issue_certificates()
        async with (
            Example("fileserver.py", "--demo", "--cert", files.cert, "--key", files.key) as server,
            browser.chromium() as page,
        ):
            await page.goto(server.url(scheme="https"), wait_until="load")
            codes = []
            network = await page.context.new_cdp_session(page)

            def note(event: dict[str, Any]) -> None:
                codes.append(event["statusCode"])

            network.on("Network.responseReceivedExtraInfo", note)
            await network.send("Network.enable")
            await page.reload(wait_until="load")
            self.assertEqual(await page.evaluate(LOADED), 100)
            self.assertEqual(set(codes), {200, 304})
            # the images, the style sheet and the script
            self.assertGreaterEqual(codes.count(304), 102)

    @within(60)
    async def test_priorities(self) -> None:
        """Priorities of a page's parts"""
        runpy.run_path(str(EXAMPLES / "gallery.py"))["write"](self.directory)
        handle = runpy.run_path(str(EXAMPLES / "fileserver.py"))["handle"]
        async with self.served(functools.partial(handle, self.directory.resolve())) as (
            connection,
            page,
        ):
            await page.wait_for_load_state("load")
            fields = connection.priorities
            self.assertEqual(len(fields), 103)
            priorities = {path: aioh2.Priority.parse(field or "") for path, field in fields.items()}
            images = [priorities[f"/image-{number:02}.png"] for number in range(100)]
            least = min(image.urgency for image in images)
            self.assertLess(priorities["/"].urgency, least)
            self.assertLess(priorities["/style.css"].urgency, least)
            # what is of use in parts, and what is none before it is whole
            self.assertTrue(all(image.incremental for image in images))
            self.assertFalse(priorities["/script.js"].incremental)

    @within(60)
    async def test_urgent_fetch(self) -> None:
        """An urgent fetch overtakes eight others"""
        order: list[str] = []
        all_there = asyncio.Barrier(9)

        async def handle(stream: aioh2.H2Stream) -> None:
            path = dict(stream.request_headers)[":path"]
            await stream.start_response({":status": "200", "content-type": "text/html"})
            if "large" not in path:
                await stream.send_data(b"<!doctype html>", end_stream=True)
                return
            await all_there.wait()
            # taken in turns, the largest would be the last one
            size = 4_000_000 if "high" in path else 1_000_000
            await stream.send_data(bytes(size), end_stream=True)
            order.append(path)

        async with self.served(handle) as (connection, page):
            await page.evaluate(FETCH_BY_PRIORITY)
            urgent = aioh2.Priority.parse(connection.priorities["/large?high"] or "")
            other = aioh2.Priority.parse(connection.priorities["/large?low-7"] or "")
            self.assertLess(urgent.urgency, other.urgency)
            self.assertEqual((len(order), order[0]), (9, "/large?high"))

    @within(60)
    async def test_read_in_turns(self) -> None:
        """fetch reads a response that is still being sent"""
        async with self.served(Turns()) as (_, page):
            pieces = await page.evaluate(READ_IN_TURNS)
            self.assertEqual(pieces, [f"piece {number}" for number in range(10)])

    @within(60)
    async def test_send_in_turns(self) -> None:
        """fetch sends a request that is still being made"""
        turns = Turns()
        async with self.served(turns) as (_, page):
            self.assertEqual(await page.evaluate(SEND_IN_TURNS), "thank you")
            self.assertEqual(turns.received, [b"piece %d" % number for number in range(10)])

    @within(60)
    async def test_echo(self) -> None:
        """fetch streams 4 MiB, and reads them back"""
        files = self.issue_certificates()
        sent = hashlib.sha256(b"".join(bytes([number]) * 65_536 for number in range(64)))
        async with (
            EchoServer("--cert", files.cert, "--key", files.key) as server,
            browser.chromium() as page,
        ):
            await page.goto(server.url(scheme="https"))
            self.assertEqual(await page.evaluate(ECHO), [4 * 1024 * 1024, sent.hexdigest()])

    @within(60)
    async def test_abort_reading(self) -> None:
        """AbortController ends a response half way"""
        await self.check_abort(ABORT_READING)

    @within(60)
    async def test_abort_sending(self) -> None:
        """AbortController ends a request half way"""
        await self.check_abort(ABORT_SENDING)

    async def check_abort(self, script: str) -> None:
        """Check that the server hears of it, and that the connection is as good as before."""
        turns = Turns()
        async with self.served(turns) as (connection, page):
            self.assertEqual(await page.evaluate(script), "AbortError")
            self.assertEqual(await connection.resets.get(), aioh2.ErrorCodes.CANCEL)
            self.assertEqual(await turns.ends.get(), "cancelled")
            self.assertEqual(len(await page.evaluate(READ_IN_TURNS)), 10)

    @within(60)
    async def test_abort_between_pieces(self) -> None:
        """AbortController ends a request of which all is sent so far

        Chromium sends END_STREAM and no RST_STREAM, so that the request looks complete, which it
        is not (RFC 9113 section 8.1). No server can tell; nothing is lost of what had come. An
        application that has to know puts a length or a last piece into its uploads.
        """
        turns = Turns()
        async with self.served(turns) as (_, page):
            self.assertEqual(await page.evaluate(ABORT_BETWEEN_PIECES), "AbortError")
            # cancelled, once Chromium keeps the rule
            self.assertIn(await turns.ends.get(), ("complete", "cancelled"))
            self.assertEqual(turns.received, [b"piece %d" % number for number in range(5)])
            self.assertEqual(len(await page.evaluate(READ_IN_TURNS)), 10)
