"""HAProxy: in front of an aioh2 server, and as the server of an aioh2 client."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from unittest import mock

from . import fronts
from .cases import Certificates
from .programs import LARGE, sha256

MAIN = """\
global
    log stdout format raw daemon
    hard-stop-after 10s
defaults
    mode http
    log global
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    timeout http-keep-alive @idle
"""


class Haproxy(fronts.FrontCase):
    peer = "HAProxy"
    program = "haproxy"
    ready = "Loading success"
    # that old workers end after a reload is a warning, too
    wrong = r"\[ALERT\]|\[WARNING\](?!.*( stopped |Former worker .* code 0 ))"
    plain = (
        MAIN
        + """
frontend front
    bind 127.0.0.1:@port proto h2
    http-response set-header generation @generation
    default_backend aioh2
backend aioh2
    server aioh2 127.0.0.1:@backend proto h2
"""
    )
    tls = (
        MAIN
        + """
frontend front
    bind 127.0.0.1:@port ssl crt @directory/both.pem alpn h2
    http-response set-header generation @generation
    default_backend aioh2
backend aioh2
    default-server ssl verify required ca-file @directory/authority.pem sni str(localhost) alpn h2
    server aioh2 127.0.0.1:@backend
"""
    )

    def setUp(self) -> None:
        super().setUp()
        # where it tells what systemd wants to know (sd_notify(3))
        path = str(self.directory / "notices")
        self.notices = self.enterContext(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        self.notices.setblocking(False)
        self.notices.bind(path)
        self.enterContext(mock.patch.dict(os.environ, {"NOTIFY_SOCKET": path}))

    def command(self, path: str) -> list[str]:
        return ["-Ws", "-f", path]

    def configure(self, template: str, **values: object) -> str:
        return super().configure(template, **{"generation": 1, "idle": "60s", **values})

    @asynccontextmanager
    async def run_front(
        self, files: Certificates | None = None, **values: object
    ) -> AsyncIterator[fronts.Front]:
        async with super().run_front(files, **values) as front:
            await self.until_signals_count()
            yield front

    async def until_signals_count(self) -> None:
        """Wait until the master process takes signals: it starts anew once all is loaded."""
        loop = asyncio.get_running_loop()
        while b"READY=1" not in await loop.sock_recv(self.notices, 4096):
            pass

    def issue_certificates(self) -> Certificates:
        files = super().issue_certificates()
        self.write("both.pem", self.read("cert.pem") + self.read("key.pem"))
        return files


class TestHaproxyInFront(Haproxy, fronts.InFront):
    pass


class TestHaproxyAsServer(Haproxy, fronts.AsServer):
    @asynccontextmanager
    async def serve(
        self, files: Certificates | None = None, *, idle: str = "60s"
    ) -> AsyncIterator[fronts.Front]:
        # it serves no files of its own
        async with (
            fronts.Backend(files) as self.backend,
            self.run_front(files, backend=self.backend.port, idle=idle) as front,
        ):
            yield front

    async def reload(self, front: fronts.Front, generation: int) -> None:
        self.reconfigure(front, generation)
        await front.signal(signal.SIGUSR2, self.ready)
        await self.until_signals_count()

    def done(self) -> list[str]:
        return self.backend.requests

    async def check_upload(self, client: fronts.Client) -> None:
        answer = await client.fetch("/upload", LARGE)
        self.assertEqual((answer.status, sha256(answer.body)), ("200", sha256(LARGE)))
