"""``examples/proxy.py`` over TLS, between real clients and a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aioh2

from . import browser
from .cases import Certificates, PeerCase, within
from .programs import LARGE, Example, require, run, sha256
from .test_node_server import NodeServer

GREETING = b"hello, this is node\n"


class ProxyCase(PeerCase):
    """Tests that reach Node through the proxy, with TLS to the proxy, and again in the tunnel."""

    def setUp(self) -> None:
        super().setUp()
        require(self.program)
        self.files = self.issue_certificates()

    def node(self) -> NodeServer:
        """Return the server at the far end."""
        return NodeServer(self.files)

    def proxy(self) -> Example:
        """Return the proxy, which may connect to this machine."""
        tls = ("--cert", self.files.cert, "--key", self.files.key)
        return Example("proxy.py", "--allow", "localhost:*", *tls)


@asynccontextmanager
async def tunnelled(
    through: aioh2.H2Protocol, port: int, files: Certificates
) -> AsyncIterator[aioh2.H2Protocol]:
    """Give a client whose connection is a stream of ``through``, with TLS in it."""
    authority = f"localhost:{port}"
    async with through.open_stream({":method": "CONNECT", ":authority": authority}) as stream:
        assert await stream.recv_response() == [(":status", "200")]
        _, writer = stream.as_reader_writer()
        context = files.client_context()
        context.set_alpn_protocols(["h2"])
        inner = aioh2.H2Protocol(client_side=True)
        inner.authority = authority
        transport = await asyncio.get_running_loop().start_tls(
            writer.transport, inner, context, server_hostname="localhost"
        )
        assert transport is not None
        inner.connection_made(transport)
        async with inner:
            yield inner


async def check_get(client: aioh2.H2Protocol) -> None:
    async with client.open_stream({}, end_stream=True) as stream:
        headers = dict(await stream.recv_response())
        body = await stream.read(-1)
        assert (headers[":status"], body) == ("200", GREETING), (headers, body)


class TestNodeThroughProxy(ProxyCase):
    peer = "Node http2"
    side = "client"
    program = "node"

    @within(60)
    async def test_tunnel(self) -> None:
        """HTTP/2 over TLS, through a CONNECT proxy."""
        async with (
            self.node() as node,
            self.proxy() as proxy,
            aioh2.open_connection(
                "localhost", proxy.port, ssl=self.files.client_context()
            ) as outer,
            tunnelled(outer, node.port, self.files) as client,
        ):
            await check_get(client)
            async with client.open_stream({":method": "POST"}) as stream:
                async with asyncio.TaskGroup() as both:
                    both.create_task(stream.send_data(LARGE, end_stream=True))
                    echoed = both.create_task(stream.read(-1))
                self.assertEqual(sha256(echoed.result()), sha256(LARGE))
            # a second one on the same connection
            async with tunnelled(outer, node.port, self.files) as another:
                await check_get(another)
                await check_get(client)
            self.assertEqual(outer.stats.streams_opened, 2)


class TestCurlThroughProxy(ProxyCase):
    peer = "curl"
    side = "server"
    program = "curl"

    @within(60)
    async def test_proxy(self) -> None:
        """HTTPS through a CONNECT proxy

        Before 8.1 curl speaks HTTP/1.1 to every proxy: then it is shown the door, and a client
        of aioh2 does what is asked of curl.
        """
        options = await run("curl", "--help", "all")
        able = "--proxy-http2" in options.text
        async with self.node() as node, self.proxy() as proxy:
            output = await run(
                "curl",
                *(
                    "--silent",
                    "--show-error",
                    "--max-time",
                    "50",
                    "--write-out",
                    "%{stderr}%{json}",
                ),
                *("--cacert", self.files.authority, "--proxy-cacert", self.files.authority),
                *("--noproxy", "", "--proxy", proxy.url("", "https"), "--http2"),
                *(["--proxy-http2"] if able else []),
                f"https://localhost:{node.port}/",
            )
            if able:
                self.assertEqual((output.code, output.stdout), (0, GREETING))
                told = json.loads(output.stderr)
                self.assertEqual((told["http_version"], told["http_code"]), ("2", 200))
                return
            self.assertNotEqual(output.code, 0)
            async with (
                aioh2.open_connection(
                    "localhost", proxy.port, ssl=self.files.client_context()
                ) as outer,
                tunnelled(outer, node.port, self.files) as client,
            ):
                await check_get(client)


class TestChromiumThroughProxy(ProxyCase):
    peer = "Chromium"
    side = "server"
    program = "chromium"

    @within(60)
    async def test_proxy(self) -> None:
        """A page through a CONNECT proxy."""
        async with (
            self.node() as node,
            self.proxy() as proxy,
            browser.chromium(proxy=proxy.url("", "https")) as page,
        ):
            await page.goto(f"https://localhost:{node.port}/")
            self.assertIn("hello, this is node", await page.inner_text("body"))
            entry = "performance.getEntriesByType('navigation')[0].nextHopProtocol"
            self.assertEqual(await page.evaluate(entry), "h2")
            # it does ask the proxy
            with self.assertRaisesRegex(Exception, "ERR_TUNNEL_CONNECTION_FAILED"):
                await page.goto(f"https://127.0.0.1:{node.port}/")
