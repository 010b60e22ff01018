"""Headless Chromium as the client: pages over TLS and HTTP/2, and what they open."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from . import browser
from .cases import PeerCase, within
from .programs import EchoServer, Example, require_module

if TYPE_CHECKING:
    from playwright.async_api import Page

# Opens a WebSocket, gives it to the function, and returns what has closed it.
WEBSOCKET = """async () => {
  const socket = new WebSocket(`wss://${location.host}/echo`);
  const closed = new Promise((resolve) => {
    socket.onclose = ({ code, reason, wasClean }) => resolve([code, reason, wasClean]);
  });
  await new Promise((resolve) => { socket.onopen = resolve });
  window.socket = socket;
  (%s)(socket);
  return await closed;
}"""


class ChromiumCase(PeerCase):
    peer = "Chromium"
    side = "server"
    program = "chromium"

    def tls(self) -> tuple[str, ...]:
        """Return a server's arguments for TLS."""
        files = self.issue_certificates()
        return "--cert", files.cert, "--key", files.key

    @contextlib.asynccontextmanager
    async def page_of(self, server: Example) -> AsyncIterator[Page]:
        """Start the server, and open its page."""
        async with server, browser.chromium() as page:
            await page.goto(server.url(scheme="https"))
            yield page


class TestChromium(ChromiumCase):
    @within(60)
    async def test_get(self) -> None:
        """GET over TLS."""
        async with self.page_of(EchoServer(*self.tls())) as page:
            self.assertIn("hello, this is aioh2", await page.inner_text("body"))
            entry = "performance.getEntriesByType('navigation')[0].nextHopProtocol"
            self.assertEqual(await page.evaluate(entry), "h2")


class TestWebSocket(ChromiumCase):
    """``examples/websocket.py``"""

    def setUp(self) -> None:
        super().setUp()
        require_module("wsproto")

    def requests(self, server: Example) -> list[tuple[str, str]]:
        """Return the port of the client and the request, of each that the server has printed."""
        pattern = r"client at port (\d+), stream \d+: ([A-Z].*)"
        return re.findall(pattern, "\n".join(server.lines))

    @within(60)
    async def test_page(self) -> None:
        """WebSocket: text, binary, 1 MiB, ping, close"""
        server = Example("websocket.py", *self.tls())
        async with self.page_of(server) as page:
            await page.wait_for_selector("li:has-text('closed')")
            self.assertEqual(
                await page.locator("li").all_inner_texts(),
                [
                    "open, from a page over h2; subprotocol: echo",
                    "text: came back",
                    "binary: came back",
                    "1 MiB: came back",
                    "closed with 1000 (that was all), cleanly",
                ],
            )
            await server.line("closed with 1000; pongs: 1$")
            # an extended CONNECT, on the connection that the page came over
            (port, first), *others = self.requests(server)
            self.assertEqual(first, "GET /")
            self.assertEqual(others, [(port, "CONNECT /echo websocket")])

    @within(60)
    async def test_side_by_side(self) -> None:
        """WebSocket: 20 at once, on one connection"""
        server = Example("websocket.py", *self.tls())
        async with self.page_of(server) as page:
            await page.wait_for_selector("li:has-text('closed')")
            script = (
                "async (socket) => {"
                + """
              socket.onmessage = ({ data }) => {
                if (data.length === 1 << 16) socket.close(1000);
                else socket.send(data + data);
              };
              socket.send("x");
            }"""
            )
            call = WEBSOCKET % script
            closed = await page.evaluate(
                f"() => Promise.all(Array.from({{ length: 20 }}, () => ({call})()))"
            )
            self.assertEqual(closed, [[1000, "", True]] * 20)
            ports = {port for port, _ in self.requests(server)}
            self.assertEqual((len(ports), len(self.requests(server))), (1, 22))

    @within(60)
    async def test_close_codes(self) -> None:
        """WebSocket: close codes both ways, permessage-deflate, a page that leaves"""
        server = Example("websocket.py", *self.tls())
        async with self.page_of(server) as page:
            await page.wait_for_selector("li:has-text('closed')")
            closed = await page.evaluate(WEBSOCKET % "(socket) => socket.close(4001, 'grüße')")
            self.assertEqual(closed, [4001, "grüße", True])
            await server.line("closed with 4001; ")
            closed = await page.evaluate(WEBSOCKET % "(socket) => socket.close()")
            self.assertEqual(closed, [1005, "", True])
            await server.line("closed with 1005; ")
            # more than the server takes
            script = "(socket) => socket.send(new Uint8Array(1 << 23))"
            self.assertEqual(await page.evaluate(WEBSOCKET % script), [1009, "", True])
            await server.line("closed with 1009; ")
            extensions = await page.evaluate("socket.extensions")
            self.assertTrue(extensions.startswith("permessage-deflate"), extensions)
            # a page that goes without a word
            before = len(server.lines)
            await page.evaluate(
                "new Promise((resolve) => { new WebSocket("
                "`wss://${location.host}/echo`).onopen = resolve })"
            )
            await page.goto("about:blank")
            (stream,) = re.findall(r"stream \d+: CONNECT", "\n".join(server.lines[before:]))
            await server.line(f"{stream.removesuffix('CONNECT')}closed with 100[16]; ")

    @within(60)
    async def test_idle(self) -> None:
        """WebSocket: pings while nothing else happens"""
        server = Example("websocket.py", "--silence", "0.5", *self.tls())
        async with self.page_of(server) as page:
            await page.wait_for_selector("li:has-text('closed')")
            # two rounds and more, in which a client that answered no ping would be given up
            script = "(socket) => setTimeout(() => socket.close(4002), 2000)"
            self.assertEqual(await page.evaluate(WEBSOCKET % script), [4002, "", True])
            pongs = await server.line(r"closed with 4002; pongs: (\d+)$")
            self.assertIn(int(pongs[1]), range(2, 5))

    @within(60)
    async def test_server_drains(self) -> None:
        """WebSocket: 1001 when the server drains"""
        server = Example("websocket.py", *self.tls())
        async with self.page_of(server) as page:
            await page.wait_for_selector("li:has-text('closed')")
            script = "(socket) => { document.body.id = 'open' }"
            closed = asyncio.create_task(page.evaluate(WEBSOCKET % script))
            await page.wait_for_selector("#open")
            server.terminate()
            self.assertEqual(await closed, [1001, "the server is going away", True])
            self.assertTrue(await server.wait())
        self.assertIn("streams completed: 1, aborted: 0", server.lines)


class TestEvents(ChromiumCase):
    """``examples/events.py``"""

    async def shown(self, page: Page, *expected: str) -> None:
        """Wait for as many events, and check that these are all that the page shows."""
        await page.wait_for_selector(f"li:nth-child({len(expected)})")
        self.assertEqual(await page.locator("li").all_inner_texts(), list(expected))

    async def state(self, page: Page, state: str) -> None:
        await page.wait_for_selector(f"#state:text-is('{state}')")

    async def publish(self, page: Page, text: str) -> None:
        await page.fill("input", text)
        await page.click("button")

    @within(60)
    async def test_events(self) -> None:
        """EventSource: events, for two pages"""
        server = Example("events.py", *self.tls())
        async with self.page_of(server) as page:
            await self.state(page, "listening")
            other = await page.context.new_page()
            await other.goto(server.url(scheme="https"))
            await self.state(other, "listening")
            expected = []
            for text in ("one", "grüße", "id: 7"):
                await self.publish(page, text)
                expected.append(text)
                await self.shown(page, *expected)
                await self.shown(other, *expected)

    @within(60)
    async def test_coming_back(self) -> None:
        """EventSource: comes back with Last-Event-ID, and misses nothing"""
        server = Example("events.py", "--max-age", "1.5", *self.tls())
        async with self.page_of(server) as page:
            await self.state(page, "listening")
            await self.publish(page, "before")
            await self.shown(page, "before")
            # at once: it comes back half a second later
            away = """source.addEventListener("error", () => {
                fetch("/events", { method: "POST", body: "meanwhile" });
            }, { once: true })"""
            await page.evaluate(away)
            await self.state(page, "coming back")
            await self.shown(page, "before", "meanwhile")
            await self.state(page, "listening")
            await self.publish(page, "after")
            await self.shown(page, "before", "meanwhile", "after")

    @within(60)
    async def test_server_drains(self) -> None:
        """EventSource: ends when the server drains, and comes back to the next one"""
        files = self.tls()
        server = Example("events.py", *files)
        async with self.page_of(server) as page:
            await self.state(page, "listening")
            await self.publish(page, "before")
            await self.shown(page, "before")
            server.terminate()
            await self.state(page, "coming back")
            self.assertTrue(await server.wait())
            self.assertEqual(
                server.lines[1:], ["shutting down", "streams completed: 1, aborted: 0"]
            )
            async with Example("events.py", "--port", str(server.port), *files):
                await self.state(page, "listening")
                await self.publish(page, "after")
                # the new one has kept nothing, and says so
                await self.shown(page, "before", "(some were missed)", "after")
