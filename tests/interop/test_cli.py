"""``python -m aioh2 trace`` of a server, and its page in headless Chromium."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

import aioh2

from . import browser
from .cases import PeerCase, within
from .programs import run

if TYPE_CHECKING:
    from playwright.async_api import Page

#: The environment's name for a file that the picture of the documentation is written to.
_PICTURE = "AIOH2_TRACE_PICTURE"
# The stream of every row that is shown.
_SHOWN = """() => [...document.querySelectorAll(".row")]
    .filter((row) => row.offsetHeight > 0)
    .map((row) => row.dataset.stream)"""


async def answer(stream: aioh2.H2Stream) -> None:
    """Answer by the path: late, with much, with an error, or not at all."""
    request = {str(name): str(value) for name, value in stream.request_headers}
    name = request[":path"].rpartition("/")[2]
    if name == "late":
        await asyncio.sleep(0.05)
    elif name == "reset":
        stream.reset(aioh2.ErrorCodes.INTERNAL_ERROR)
        return
    await stream.read(-1)
    await stream.start_response({":status": "404" if name == "missing" else "200"})
    await stream.send_data(bytes(400_000 if name == "large" else 1_000), end_stream=True)


class TestTrace(PeerCase):
    peer = "Chromium"
    side = "client"
    program = "chromium"

    async def trace(self, path: str, **options: int) -> None:
        """Write the page of 100 requests."""
        server = await aioh2.start_server(
            lambda protocol: protocol.serve(answer), "127.0.0.1", 0, **options
        )
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            urls = [f"{url}/{name}" for name in ("large", "late", "missing", "small", "reset")]
            upload = "@" + self.write("upload", bytes(100_000))
            done = await run(
                *(sys.executable, "-m", "aioh2", "trace", *urls),
                *("--repeat", "20", "--data", upload, "--output", path),
            )
        self.assertEqual(done.code, 4, done.stderr)
        self.assertIn("100 streams", done.text)

    @within(60)
    async def test_trace_page(self) -> None:
        """page of aioh2's trace: 100 streams, mouse and keys, light and dark"""
        path = str(self.directory / "trace.html")
        await self.trace(path, concurrency=30, initial_window_size=65_535)
        async with browser.chromium() as page:
            said: list[str] = []
            page.on("console", lambda message: said.append(message.text))
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            await page.goto(f"file://{path}")
            await page.wait_for_selector("html[data-ready]")
            shown = await page.evaluate(_SHOWN)
            self.assertEqual(sorted(map(int, shown)), [0, *range(1, 200, 2)])
            legend = await page.inner_text("#legend")
            for reason in ("stream slot", "peer", "stream window"):
                self.assertIn(reason, legend)

            # one that is reset, by the keys, and its frames
            await page.focus("#rows")
            for _ in range(4):
                await page.keyboard.press("ArrowDown")
            self.assertIn("/reset", await page.inner_text("#facts h2"))
            self.assertIn("INTERNAL_ERROR", await page.inner_text("#facts .bad"))
            await page.keyboard.press("End")
            last = await page.inner_text("tr.picked")
            self.assertIn("RST_STREAM", last)
            await page.keyboard.press("+")
            await page.keyboard.press("0")

            # what the mouse is over
            bars = await page.locator("#row-1 canvas").bounding_box()
            assert bars is not None
            await page.mouse.move(bars["x"] + bars["width"] / 4, bars["y"] + 12)
            self.assertRegex(await page.inner_text("#tip"), r"waits for|received|sent|ms")

            await page.fill("#filter", "404")
            self.assertEqual(len(await page.evaluate(_SHOWN)), 21)
            await page.fill("#filter", "")
            lightness = "getComputedStyle(document.body).backgroundColor"
            light = await page.evaluate(lightness)
            await page.emulate_media(color_scheme="dark")
            self.assertNotEqual(await page.evaluate(lightness), light)
            if picture := os.environ.get(_PICTURE):
                await self.paint(page, picture)
            self.assertEqual((said, asked), ([], [f"file://{path}"]))

    async def paint(self, page: Page, picture: str) -> None:
        """Write the picture of the documentation."""
        await page.emulate_media(color_scheme="light")
        await page.set_viewport_size({"width": 1080, "height": 600})
        await page.click("#row-31 .label")
        await page.evaluate("main.scrollTop = 24 * 24")
        await page.mouse.move(5, 5)
        await page.screenshot(path=picture)
