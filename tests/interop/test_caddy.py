"""Caddy, which is Go's HTTP/2: in front of an aioh2 server, and as an aioh2 client's server."""

from __future__ import annotations

import json
import os
import signal
from unittest import mock

from . import fronts
from .cases import within
from .programs import LARGE, run, sha256

MAIN = """\
{
    admin unix/@directory/admin
    auto_https off
    grace_period 10s
    servers {
        protocols h1 h2 h2c
        timeouts {
            idle @idle
        }
    }
}
"""
FILES = """
    bind 127.0.0.1
    root * @directory/files
    header generation @generation
    file_server
    respond /echo "{http.request.body}"
    respond /count/* "word"
    log {
        output file @directory/requests
    }
}
"""


class Caddy(fronts.FrontCase):
    peer = "Caddy"
    program = "caddy"
    version_option = "version"
    ready = "serving initial configuration"
    # that a client goes away half way, or a connection outlives a reload, is an error, too
    wrong = r'"level":"(error|fatal|panic)"(?!.*(CANCEL|context canceled|closed|disconnected)"[,}])'

    def setUp(self) -> None:
        super().setUp()
        # where it keeps what it wants to find again
        names = ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")
        self.enterContext(mock.patch.dict(os.environ, dict.fromkeys(names, str(self.directory))))

    def command(self, path: str) -> list[str]:
        return ["run", "--config", path, "--adapter", "caddyfile"]

    def configure(self, template: str, **values: object) -> str:
        return super().configure(template, **{"idle": "60s", **values})


class TestCaddyInFront(Caddy, fronts.InFront):
    plain = (
        MAIN
        + """
http://127.0.0.1:@port {
    bind 127.0.0.1
    reverse_proxy h2c://127.0.0.1:@backend {
        flush_interval -1
    }
}
"""
    )
    tls = (
        MAIN
        + """
https://127.0.0.1:@port {
    bind 127.0.0.1
    tls @directory/cert.pem @directory/key.pem
    reverse_proxy https://127.0.0.1:@backend {
        flush_interval -1
        transport http {
            versions 2
            tls_trusted_ca_certs @directory/authority.pem
            tls_server_name localhost
        }
    }
}
"""
    )

    @within(60)
    async def test_trailers_of_a_request(self) -> None:
        """trailers of a request

        Caddy drops them, as it may (RFC 9110 section 6.5.1).
        """
        async with self.both() as (front, _), await front.connect() as client:
            answer = await client.fetch(
                "/trailers", b"abc", headers={"trailer": "checksum"}, trailers=[("checksum", "abc")]
            )
        self.assertEqual(answer.trailers, [("length", "3")])


class TestCaddyAsServer(Caddy, fronts.AsServer):
    plain = MAIN + "http://127.0.0.1:@port {" + FILES
    tls = MAIN + "https://127.0.0.1:@port {\n    tls @directory/cert.pem @directory/key.pem" + FILES

    async def reload(self, front: fronts.Front, generation: int) -> None:
        path = self.reconfigure(front, generation)
        address = f"unix/{self.directory}/admin"
        output = await run(
            *("caddy", "reload", "--config", path, "--adapter", "caddyfile"),
            *("--address", address),
        )
        self.assertEqual(output.code, 0, output.stderr)

    def done(self) -> list[str]:
        told = map(json.loads, super().done())
        return [
            f"{line['request']['method']} {line['request']['uri']} {line['status']}"
            for line in told
            if line["request"]["uri"].startswith("/count/")
        ]

    async def check_upload(self, client: fronts.Client) -> None:
        answer = await client.fetch("/echo", LARGE)
        self.assertEqual((answer.status, sha256(answer.body)), ("200", sha256(LARGE)))

    @within(60)
    async def test_shutdown(self) -> None:
        """shutdown (SIGTERM) during a download"""
        async with self.serve(self.issue_certificates()) as front:
            client = await front.connect()
            await self.check_end(client, front.signal(signal.SIGTERM, "shutting down"))
            self.assertTrue(await front.wait())
