"""Apache httpd: in front of an aioh2 server, by mod_proxy_http2, and as a client's server."""

from __future__ import annotations

import os
import signal

import aioh2

from . import fronts
from .cases import within

MAIN = """\
ServerRoot @directory
ServerName localhost
DefaultRuntimeDir @directory
PidFile @directory/apache.pid
Mutex file:@directory
ErrorLog /dev/stderr
LogLevel notice
Listen 127.0.0.1:@port
@user
StartServers 1
ServerLimit 4
ThreadsPerChild 25
MaxRequestWorkers 100
LoadModule mpm_event_module @modules/mod_mpm_event.so
LoadModule authz_core_module @modules/mod_authz_core.so
LoadModule http2_module @modules/mod_http2.so
"""
TLS = """\
LoadModule ssl_module @modules/mod_ssl.so
SSLSessionCache none
SSLEngine on
SSLCertificateFile @directory/cert.pem
SSLCertificateKeyFile @directory/key.pem
Protocols h2
"""
PROXY = """\
LoadModule proxy_module @modules/mod_proxy.so
LoadModule proxy_http2_module @modules/mod_proxy_http2.so
"""
FILES = """\
LoadModule alias_module @modules/mod_alias.so
LoadModule dav_module @modules/mod_dav.so
LoadModule dav_fs_module @modules/mod_dav_fs.so
LoadModule headers_module @modules/mod_headers.so
LoadModule setenvif_module @modules/mod_setenvif.so
Header set generation @generation
KeepAliveTimeout @idle
DocumentRoot @directory/files
DavLockDB @directory/files/locks
AliasMatch ^/count/ @directory/files/word
<Directory @directory/files>
    Dav On
</Directory>
SetEnvIf Request_URI ^/count/ counted
CustomLog @directory/requests "%m %U %>s" env=counted
"""


class Apache(fronts.FrontCase):
    peer = "Apache httpd"
    program = "apache2"
    ready = "resuming normal operations"
    wrong = r":(error|crit|alert|emerg)\]"

    def command(self, path: str) -> list[str]:
        return ["-DFOREGROUND", "-f", path, "-E", "/dev/stderr"]

    def configure(self, template: str, **values: object) -> str:
        user = ""
        if os.geteuid() == 0:
            # it does not serve as root
            user = "User nobody\nGroup nogroup"
            self.directory.chmod(0o755)
        modules = "/usr/lib/apache2/modules"
        return super().configure(template, user=user, modules=modules, **values)


class TestApacheInFront(Apache, fronts.InFront):
    # longer than ttl
    idle_timeout = 1.5
    plain = (
        MAIN
        + PROXY
        + """\
Protocols h2c
ProxyPass / h2c://127.0.0.1:@backend/ ttl=1
"""
    )
    tls = (
        MAIN
        + TLS
        + PROXY
        + """\
SSLProxyEngine on
SSLProxyCACertificateFile @directory/authority.pem
ProxyPass / h2://localhost:@backend/ ttl=1
"""
    )

    @within(60)
    async def test_backend_ends_idle_connections(self) -> None:
        """connections that the backend ends when they are idle (``idle_timeout``)

        Apache does not read from a connection that it does not use: no PING is answered there, for
        which aioh2 waits no longer than ``close_timeout``, and GOAWAY is seen when a request has
        been sent, which Apache then answers with 502. Its ``ttl`` has to be the shorter time.
        """
        await super().test_backend_ends_idle_connections()

    @within(60)
    async def test_backend_ends_old_connections(self) -> None:
        """500 requests over connections that the backend ends by age (``max_connection_age``)

        Apache answers 502 to requests that it has meant for a connection that ends, though none
        of them was processed, and they may be sent again (RFC 9113 section 6.8). Leave that option
        off.
        """
        statuses: dict[str, int] = {}
        async with self.both(max_connection_age=0.1) as (front, backend):
            async with await front.connect() as client:

                async def one(index: int) -> None:
                    answer = await client.fetch(f"/{index}")
                    statuses[f"GET /{index} {answer.status}"] = index

                await fronts.side_by_side(one, 500)
            self.assertGreater(len(backend.connections), 1)
        done = [line for line in statuses if line.endswith(" 200")]
        self.assertEqual(sorted(backend.requests), sorted(done))
        failed = [line for line in statuses if line.endswith(" 502")]
        self.assertEqual(len(done) + len(failed), 500)


class TestApacheAsServer(Apache, fronts.AsServer):
    method = "PUT"
    plain = MAIN + "Protocols h2c\n" + FILES
    tls = MAIN + TLS + FILES

    async def reload(self, front: fronts.Front, generation: int) -> None:
        self.reconfigure(front, generation)
        await front.signal(signal.SIGUSR1, self.ready)

    @within(60)
    async def test_reloads(self) -> None:
        """1,000 requests over TLS across two reloads

        A request that comes after Apache's GOAWAY has left makes it break off the connection, with
        a code that is nghttp2's own (-902), though those that it has begun are to be completed
        (RFC 9113 section 6.8). They are lost; aioh2 tells so, as errors that are not ``retryable``.
        """
        # of requests that are broken off
        self.wrong = r":(crit|alert|emerg)\]"
        lost = []
        async with (
            self.serve(self.issue_certificates()) as front,
            fronts.Resender(front) as resender,
        ):

            async def one(index: int) -> None:
                if index in (300, 600):
                    await self.reload(front, index)
                try:
                    answer = await resender.fetch(f"/count/{index}")
                except aioh2.ConnectionClosed as error:
                    self.assertFalse(error.retryable)
                    lost.append(index)
                else:
                    self.assertEqual((answer.status, answer.body), ("200", b"word"))

            await fronts.side_by_side(one, 1000)
            # one more where a connection was opened while it restarted
            self.assertGreaterEqual(len(resender.clients), 3)
        done = [line for line in self.done() if line.endswith(" 200")]
        self.assertEqual(len(set(done)), len(done))
        answered = {f"GET /count/{index} 200" for index in range(1000) if index not in lost}
        self.assertLessEqual(answered, set(done))
