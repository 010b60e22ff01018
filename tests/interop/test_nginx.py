"""nginx: in front of an aioh2 server, by ``grpc_pass``, and as the server of an aioh2 client."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import ClassVar

import aioh2

from . import fronts
from .cases import within

MAIN = """\
@user
daemon off;
worker_processes 1;
pid @directory/nginx.pid;
error_log stderr notice;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path @directory/body;
    proxy_temp_path @directory/proxy;
    fastcgi_temp_path @directory/fastcgi;
    scgi_temp_path @directory/scgi;
    uwsgi_temp_path @directory/uwsgi;
    client_max_body_size 0;
    ssl_certificate_key @directory/key.pem;
"""


class Nginx(fronts.FrontCase):
    peer = "nginx"
    program = "nginx"
    ready = "start worker process "
    wrong = r"\[(warn|error|crit|alert|emerg)\]"

    def command(self, path: str) -> list[str]:
        return ["-e", "stderr", "-c", path]

    def configure(self, template: str, **values: object) -> str:
        # the test's directory is nobody else's
        user = "user root;" if os.geteuid() == 0 else ""
        return super().configure(template, user=user, **values)


class TestNginxInFront(Nginx, fronts.InFront):
    # it speaks HTTP/2 to no other backend
    headers: ClassVar[Mapping[str, str]] = {"content-type": "application/grpc", "te": "trailers"}
    plain = (
        MAIN
        + """
    upstream aioh2 {
        server 127.0.0.1:@backend;
        keepalive 32;
    }
    server {
        listen 127.0.0.1:@port http2;
        location / { grpc_pass grpc://aioh2; }
    }
}
"""
    )
    tls = (
        MAIN
        + """
    upstream aioh2 {
        server 127.0.0.1:@backend;
        keepalive 32;
    }
    server {
        listen 127.0.0.1:@port ssl http2;
        ssl_certificate @directory/cert.pem;
        location / {
            grpc_pass grpcs://aioh2;
            grpc_ssl_name localhost;
            grpc_ssl_server_name on;
            grpc_ssl_verify on;
            grpc_ssl_trusted_certificate @directory/authority.pem;
        }
    }
}
"""
    )

    @within(60)
    async def test_trailers_of_a_request(self) -> None:
        """trailers of a request

        nginx 1.22 closes the connection over them, with PROTOCOL_ERROR, though a request may end
        with trailers (RFC 9113 section 8.1). The request fails, and is not sent again.
        """
        async with self.both() as (front, _):
            client = await front.connect()
            with self.assertRaises(aioh2.ConnectionClosed) as caught:
                await client.fetch(
                    "/trailers", b"abc", headers=self.headers, trailers=[("checksum", "abc")]
                )
            self.assertEqual(caught.exception.error_code, aioh2.ErrorCodes.PROTOCOL_ERROR)
            self.assertFalse(caught.exception.retryable)
            await client.wait_closed()

    @within(60)
    async def test_client_goes_away(self) -> None:
        """client goes away half way: the handler is cancelled

        nginx sends one request at a time over a connection, and closes that without GOAWAY or
        RST_STREAM, which it should send (RFC 9113 section 6.8).
        """
        await super().test_client_goes_away()


SERVER = """
    log_format requests "$request_method $uri $status";
    server {
        listen 127.0.0.1:@port @http2;
        keepalive_timeout @idle;
        root @directory/files;
        add_header generation @generation;
        location / {
            dav_methods PUT;
            add_trailer checksum abc;
        }
        location /count/ {
            access_log @directory/requests requests;
            return 200 "word";
        }
    }
}
"""


class TestNginxAsServer(Nginx, fronts.AsServer):
    plain = MAIN + SERVER.replace("@http2", "http2")
    tls = (
        MAIN + "    ssl_certificate @directory/cert.pem;\n" + SERVER.replace("@http2", "ssl http2")
    )

    async def reload(self, front: fronts.Front, generation: int) -> None:
        self.reconfigure(front, generation)
        await front.signal(signal.SIGHUP, "gracefully shutting down")

    @within(60)
    async def test_trailers(self) -> None:
        """trailers"""
        async with self.serve() as front, await front.connect() as client:
            answer = await client.fetch("/word")
            self.assertEqual((answer.body, answer.trailers), (b"word", [("checksum", "abc")]))

    @within(60)
    async def test_goaway(self) -> None:
        """2,500 requests across a GOAWAY after every 1,000"""
        async with self.serve() as front, fronts.Resender(front) as resender:
            await self.check_requests(resender, 2500)
            self.assertEqual(len(resender.clients), 3)
            for client in resender.clients[:2]:
                self.assertTrue(client.goaway.is_set())
                self.assertGreaterEqual(client.stats.streams_opened, 1000)
        self.check_done(2500)
