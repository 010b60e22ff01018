"""``curl`` with HTTP/1.1 and HTTP/2 on the one port of ``examples/alpn.py``."""

from __future__ import annotations

import json

from .cases import PeerCase, within
from .programs import Example, require, run


class TestCurlAlpn(PeerCase):
    peer = "curl"
    side = "server"
    program = "curl"

    async def check(self, url: str, version: str, *arguments: str) -> None:
        """Run curl, and check the version of HTTP that it has spoken."""
        output = await run(
            *("curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "50"),
            *("--write-out", "%{stderr}%{json}", *arguments, url),
        )
        self.assertEqual(output.code, 0, output.stderr)
        told = json.loads(output.stderr)
        self.assertEqual((told["http_version"], told["http_code"]), (version, 200))
        spoken = "HTTP/2" if version == "2" else "HTTP/1.1"
        self.assertEqual(output.text, f"this is {spoken}\n")

    @within(60)
    async def test_tls(self) -> None:
        """HTTP/1.1 and HTTP/2 on one TLS port, by ALPN."""
        require("curl")
        files = self.issue_certificates()
        async with Example("alpn.py", "--cert", files.cert, "--key", files.key) as server:
            url, trust = server.url(scheme="https"), ("--cacert", files.authority)
            await self.check(url, "2", *trust, "--http2")
            await self.check(url, "1.1", *trust, "--http1.1")
            await self.check(url, "1.1", *trust, "--no-alpn")
            # and again, the other way round
            await self.check(url, "2", *trust, "--http2")

    @within(60)
    async def test_plain(self) -> None:
        """HTTP/1.1 and HTTP/2 on one port without TLS, by the preface."""
        require("curl")
        async with Example("alpn.py") as server:
            await self.check(server.url(), "2", "--http2-prior-knowledge")
            await self.check(server.url(), "1.1", "--http1.1")
            # an Upgrade that is not taken up
            await self.check(server.url(), "1.1", "--http2")
