"""One port for HTTP/1.1 and HTTP/2: ALPN decides who gets the connection.

    python examples/alpn.py --port 8443 --cert FILE --key FILE
    curl --http1.1 https://localhost:8443/
    curl --http2 https://localhost:8443/

A client that does not know ALPN gets HTTP/1.1. Without --cert and --key, the first bytes decide:
HTTP/2 begins with a preface that no other protocol has (RFC 9113 section 3.4). SIGTERM and SIGINT
shut it down once the streams in flight have ended.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import ssl

import aioh2

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# The HTTP/2 connections, which are told when all is to end.
connections: set[aioh2.H2Protocol] = set()


async def serve_http2(protocol: aioh2.H2Protocol) -> None:
    """Serve an HTTP/2 connection."""
    connections.add(protocol)
    try:
        await protocol.serve(answer)
    finally:
        connections.discard(protocol)


async def answer(stream: aioh2.H2Stream) -> None:
    """Answer one request of HTTP/2."""
    await stream.start_response({":status": "200", "content-type": "text/plain"})
    await stream.send_data(b"this is HTTP/2\n", end_stream=True)


async def serve_http1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request of HTTP/1.1; your server for it would take the place of this."""
    body = b"this is HTTP/1.1\n"
    try:
        await reader.readuntil(b"\r\n\r\n")
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
    except (OSError, EOFError, asyncio.LimitOverrunError):
        pass
    finally:
        writer.close()


def http2() -> asyncio.Protocol:
    """Make the protocol of an HTTP/2 connection."""
    protocol = aioh2.H2Protocol(client_side=False)
    protocol.set_handler(serve_http2)
    return protocol


def http1() -> asyncio.Protocol:
    """Make the protocol of an HTTP/1.1 connection: it may be any of asyncio's kind."""
    return asyncio.StreamReaderProtocol(asyncio.StreamReader(), serve_http1)


class Chooser(asyncio.Protocol):
    """Has a connection until it knows whose it is, and hands it over."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        # What has come before that, for a protocol that does not begin with TLS.
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """With TLS it is known already: asyncio calls this when the handshake is done."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self.hand_over(http2() if tls.selected_alpn_protocol() == "h2" else http1())

    def data_received(self, data: bytes) -> None:
        """Without TLS: wait for as many bytes as make the difference."""
        self.received += data
        if self.received.startswith(PREFACE):
            self.hand_over(http2())
        elif not PREFACE.startswith(self.received):
            self.hand_over(http1())

    def hand_over(self, protocol: asyncio.Protocol) -> None:
        """Give the transport, and what has come, to ``protocol``."""
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        if self.received:
            protocol.data_received(self.received)


async def run(options: argparse.Namespace, context: ssl.SSLContext | None) -> None:
    """Serve until a signal says stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(Chooser, "127.0.0.1", options.port, ssl=context)
    print(f"listening on port {server.sockets[0].getsockname()[1]}", flush=True)
    await stop.wait()
    print("shutting down", flush=True)
    server.close()
    await asyncio.gather(*(protocol.shutdown() for protocol in connections))


def main() -> None:
    """Read the options, and run."""
    parser = argparse.ArgumentParser(description="HTTP/1.1 and HTTP/2 on one port")
    parser.add_argument("--port", type=int, default=0, help="TCP port; 0: one that is free")
    parser.add_argument("--cert", metavar="FILE", help="certificate chain (PEM); needs --key")
    parser.add_argument("--key", metavar="FILE", help="private key (PEM)")
    options = parser.parse_args()
    if bool(options.cert) != bool(options.key):
        parser.error("--cert and --key go together")
    context = None
    if options.cert:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options.cert, options.key)
        context.set_alpn_protocols(["h2", "http/1.1"])
    asyncio.run(run(options, context))


if __name__ == "__main__":
    main()
