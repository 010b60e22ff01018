"""Headless Chromium as the client: a page over TLS and HTTP/2."""

from __future__ import annotations

from . import browser
from .cases import PeerCase, within
from .programs import EchoServer


class TestChromium(PeerCase):
    peer = "Chromium"
    side = "server"
    program = "chromium"

    @within(60)
    async def test_get(self) -> None:
        files = self.issue_certificates()
        async with (
            EchoServer("--cert", files.cert, "--key", files.key) as server,
            browser.chromium() as page,
        ):
            await page.goto(server.url(scheme="https"))
            self.assertIn("hello, this is aioh2", await page.inner_text("body"))
            entry = "performance.getEntriesByType('navigation')[0].nextHopProtocol"
            self.assertEqual(await page.evaluate(entry), "h2")
