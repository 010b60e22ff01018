"""``curl`` and its ``Expect: 100-continue``, to ``examples/upload.py``."""

from __future__ import annotations

import json

from .cases import PeerCase, within
from .programs import LARGE, Example, Output, require, run, sha256


class TestCurlUpload(PeerCase):
    peer = "curl"
    side = "server"
    program = "curl"

    def setUp(self) -> None:
        super().setUp()
        require("curl")

    async def upload(self, server: Example, *headers: str) -> Output:
        """Upload; its standard error is what ``--write-out`` tells of the transfer, as JSON."""
        return await run(
            "curl",
            *("--silent", "--noproxy", "*", "--max-time", "50", "--http2-prior-knowledge"),
            *("--write-out", "%{stderr}%{json}", "--dump-header", str(self.directory / "headers")),
            *(part for header in headers for part in ("--header", header)),
            *("--upload-file", self.write("upload", LARGE), server.url()),
        )

    @within(60)
    async def test_expect_100_continue(self) -> None:
        """8 MiB upload with Expect: 100-continue

        curl 7.88 asks on HTTP/2, too, and does not wait for the answer.
        """
        async with Example("upload.py", "--limit", str(len(LARGE))) as server:
            output = await self.upload(server, "Expect: 100-continue")
            self.assertEqual(output.text, f"{len(LARGE)} {sha256(LARGE)}\n")
            statuses = [
                line.split()[1].decode()
                for line in self.read("headers").splitlines()
                if line.startswith(b"HTTP/2")
            ]
            self.assertEqual(statuses, ["100", "200"])

    @within(60)
    async def test_refused(self) -> None:
        """Upload that is refused by its headers

        Some versions of curl drop the response when the RST_STREAM with NO_ERROR comes before
        all of the body is out (against RFC 9113 section 8.1, and with every server): they stop,
        with exit code 92.
        """
        async with Example("upload.py", "--limit", "1000000") as server:
            for header, status in (
                ("Expect: 100-continue", 413),
                ("Expect:", 413),
                ("Expect: payment", 417),
            ):
                output = await self.upload(server, header)
                told = json.loads(output.stderr)
                self.assertIn((output.code, told["http_code"]), [(0, status), (92, 0)], header)
                self.assertLess(told["size_upload"], len(LARGE), header)
