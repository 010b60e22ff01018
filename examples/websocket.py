"""WebSockets over HTTP/2 (RFC 8441), with the frames of wsproto, and a page that opens one.

    python -m pip install wsproto
    python examples/websocket.py --port 8443 --cert cert.pem --key key.pem

Then open https://localhost:8443/ in a browser; browsers speak HTTP/2 over TLS only. Every message
comes back. SIGTERM and SIGINT close each WebSocket with code 1001, and then the connections.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import signal
import ssl
from collections.abc import Callable
from typing import Any, Self, TypeAlias

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Message, Ping, Pong, TextMessage
from wsproto.extensions import Extension, PerMessageDeflate
from wsproto.frame_protocol import CloseReason

import aioh2

#: Prints what happens on a stream.
Say: TypeAlias = Callable[..., None]

# Bytes of the longest message that is taken; of text, in UTF-8.
LONGEST = 4 * 1024 * 1024
# Bytes that are read at once; compressed, they may become a thousand times as many.
READ = 4096
# Seconds for a client to answer a Close, and to end its side after ours.
PATIENCE = 5

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>WebSocket over HTTP/2</title>
<link rel="icon" href="data:,">
<style>body { font: 16px/1.5 sans-serif; max-width: 40em; margin: 2em auto }</style>
<h1>WebSocket over HTTP/2</h1>
<ol id="log"></ol>
<script>
const say = (line) => {
  const item = document.createElement("li");
  item.textContent = line;
  document.getElementById("log").append(item);
};
const socket = new WebSocket(`wss://${location.host}/echo`, ["echo"]);
socket.binaryType = "arraybuffer";
const exchange = (message) => new Promise((resolve) => {
  socket.onmessage = (event) => resolve(event.data);
  socket.send(message);
});
const same = (bytes, buffer) => {
  const others = new Uint8Array(buffer);
  return bytes.length === others.length && bytes.every((byte, i) => byte === others[i]);
};
const told = (kept) => kept ? "came back" : "CHANGED ON ITS WAY";
socket.onopen = async () => {
  const { nextHopProtocol } = performance.getEntriesByType("navigation")[0];
  say(`open, from a page over ${nextHopProtocol}; subprotocol: ${socket.protocol}`);
  const text = "grüße, 世界";
  say(`text: ${told(await exchange(text) === text)}`);
  const bytes = Uint8Array.from({ length: 256 }, (_, i) => i);
  say(`binary: ${told(same(bytes, await exchange(bytes)))}`);
  const large = Uint8Array.from({ length: 1 << 20 }, (_, i) => i * i >> 8);
  say(`1 MiB: ${told(same(large, await exchange(large)))}`);
  socket.close(1000, "that was all");
};
socket.onclose = ({ code, reason, wasClean }) =>
  say(`closed with ${code} (${reason}), ${wasClean ? "cleanly" : "not cleanly"}`);
</script>
</html>
""".encode()


class WebSocket:
    """One WebSocket (RFC 6455) over the bytes of a stream; ``async for`` gives its messages."""

    def __init__(self, stream: aioh2.H2Stream, extensions: list[Extension], silence: float) -> None:
        self.stream = stream
        # Pings that the client has answered.
        self.pongs = 0
        # What the client has closed it with; until then, and where it never does: 1006.
        self.code: int = CloseReason.ABNORMAL_CLOSURE
        # END_STREAM is its end of file, RST_STREAM a reset (RFC 8441 section 5).
        self._reader, self._writer = stream.as_reader_writer()
        # Bytes to events, events to bytes.
        self._frames = Connection(ConnectionType.SERVER, extensions)
        # What has come of a message, in UTF-8 where it is text.
        self._message = bytearray()
        # Seconds for which a client may say nothing; it is pinged then, and has as long again.
        self._silence = silence
        # When that time is over, and whether a ping went out in it.
        self._deadline = asyncio.get_running_loop().time() + silence
        self._pinged = False

    async def send(self, message: str | bytes) -> None:
        """Send a message, and wait until the client has room for more.

        Dropped after a Close, which nothing may follow (RFC 6455 section 5.5.1).
        """
        if isinstance(message, str):
            await self._send(TextMessage(message))
        else:
            await self._send(BytesMessage(message))

    def ping(self) -> None:
        """Send a ping; browsers answer by themselves, and have none for pages to send."""
        self._write(Ping())

    def close(self, code: int, reason: str = "") -> None:
        """Begin to close it; iterating goes on to the client's answer, and drops the rest."""
        self._deadline = asyncio.get_running_loop().time() + PATIENCE
        self._write(CloseConnection(code, reason))

    async def close_at_drain(self) -> None:
        """Close it with 1001 when the connection drains; who does not answer is cut off."""
        await self.stream.protocol.wait_closing()
        self.close(CloseReason.GOING_AWAY, "the server is going away")
        await asyncio.sleep(PATIENCE)
        self._writer.transport.abort()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str | bytes:
        while True:
            for event in self._frames.events():
                match event:
                    case Message() if self._add(event):
                        return self._take(event)
                    case Ping():
                        await self._send(event.response())
                    case Pong():
                        self.pongs += 1
                    case CloseConnection():
                        self._answer(event)
                        raise StopAsyncIteration
            await self._receive()

    async def finish(self) -> None:
        """End our side of the stream, then wait a moment for the client to end its own.

        The server is the first to do so, once both have sent a Close (RFC 6455 section 7.1.1).
        """
        self._writer.write_eof()
        try:
            async with asyncio.timeout(PATIENCE):
                while await self._reader.read(READ):
                    pass
        except TimeoutError:
            self._writer.transport.abort()
        finally:
            self._writer.close()

    async def _receive(self) -> None:
        """Wait for bytes; ping a client that is silent, and give up one that stays so."""
        try:
            async with asyncio.timeout_at(self._deadline):
                data = await self._reader.read(READ)
        except TimeoutError:
            self._time_is_up()
            return
        if self._frames.state is ConnectionState.OPEN:
            self._pinged = False
            self._deadline = asyncio.get_running_loop().time() + self._silence
        # None: the end without a Close
        self._frames.receive_data(data or None)

    def _time_is_up(self) -> None:
        if self._frames.state is ConnectionState.OPEN and not self._pinged:
            self._pinged = True
            self._deadline += self._silence
            self.ping()
        elif self._deadline <= asyncio.get_running_loop().time():
            self._writer.transport.abort()
            self._frames.receive_data(None)

    def _add(self, event: Message[Any]) -> bool:
        """Add a part of a message; return whether that makes it whole."""
        if self._frames.state is not ConnectionState.OPEN:
            return False
        data = event.data
        self._message += data.encode() if isinstance(data, str) else data
        if len(self._message) <= LONGEST:
            return event.message_finished
        self._message.clear()
        self.close(CloseReason.MESSAGE_TOO_BIG)
        return False

    def _take(self, event: Message[Any]) -> str | bytes:
        """Take the message that an event has made whole."""
        message = bytes(self._message)
        self._message.clear()
        return message.decode() if isinstance(event, TextMessage) else message

    def _answer(self, event: CloseConnection) -> None:
        """The client has sent a Close, has broken a rule, or is gone."""
        if self._frames.state is ConnectionState.OPEN:
            # a broken rule, for which wsproto names the code
            self.close(event.code, event.reason or "")
            return
        self.code = event.code
        if self._frames.state is ConnectionState.REMOTE_CLOSING:
            self._writer.write(self._frames.send(event.response()))

    def _write(self, event: Event) -> None:
        if self._frames.state is ConnectionState.OPEN:
            self._writer.write(self._frames.send(event))

    async def _send(self, event: Event) -> None:
        self._write(event)
        await self._writer.drain()


async def echo(socket: WebSocket) -> None:
    """Send every message back, until the client has closed the WebSocket or the server drains.

    Nothing piles up: the next message is read when the client has room for this one.
    """
    async with asyncio.TaskGroup() as tasks:
        goodbye = tasks.create_task(socket.close_at_drain())
        socket.ping()
        async for message in socket:
            await socket.send(message)
        goodbye.cancel()


def listed(stream: aioh2.H2Stream, name: str) -> list[str]:
    """Return the members of a list, in however many fields it came (RFC 9110 section 5.6.1)."""
    values = [value for field, value in stream.request_headers if field == name]
    return [member.strip() for value in values for member in value.split(",")]


def agree_on_deflate(offers: list[str]) -> tuple[PerMessageDeflate, str] | None:
    """Return permessage-deflate (RFC 7692) as far as it can be agreed on, and the answer."""
    for offer in offers:
        deflate = PerMessageDeflate()
        if offer.partition(";")[0].strip() != deflate.name:
            continue
        try:
            accepted = deflate.accept(offer)
        except ValueError:  # a number that is none
            continue
        if isinstance(accepted, str):
            return deflate, "; ".join(filter(None, [deflate.name, accepted]))
    return None


def why_not(request: dict[str, str]) -> dict[str, str] | None:
    """Return the response to an extended CONNECT that cannot be served; None: it can."""
    if request.get(":protocol") != "websocket":
        return {":status": "501"}
    if request[":path"] != "/echo":
        return {":status": "404"}
    if request.get("sec-websocket-version") != "13":
        return {":status": "400", "sec-websocket-version": "13"}
    # a page of any site can open a WebSocket, with the cookies of this one
    own = f"{request[':scheme']}://{request[':authority']}"
    if request.get("origin", own) != own:
        return {":status": "403"}
    return None


async def serve_websocket(stream: aioh2.H2Stream, silence: float, say: Say) -> None:
    """Answer the CONNECT (RFC 8441 section 5), and serve the WebSocket."""
    refusal = why_not(dict(stream.request_headers))
    if refusal is not None:
        await stream.start_response(refusal, end_stream=True)
        return
    headers = {":status": "200"}
    if "echo" in listed(stream, "sec-websocket-protocol"):
        headers["sec-websocket-protocol"] = "echo"
    extensions: list[Extension] = []
    if agreed := agree_on_deflate(listed(stream, "sec-websocket-extensions")):
        extensions.append(agreed[0])
        headers["sec-websocket-extensions"] = agreed[1]
    await stream.start_response(headers)
    socket = WebSocket(stream, extensions, silence)
    try:
        await echo(socket)
    finally:
        say(f"closed with {socket.code}; pongs: {socket.pongs}")
    await socket.finish()


async def handle(stream: aioh2.H2Stream, silence: float) -> None:
    """Answer one request: the page, or a WebSocket."""
    request = dict(stream.request_headers)
    method, path = request[":method"], request.get(":path", "")
    _, port = stream.protocol.get_extra_info("peername")
    say = functools.partial(print, f"client at port {port}, stream {stream.id}:", flush=True)
    say(*filter(None, [method, path, request.get(":protocol")]))
    if method == "CONNECT":
        await serve_websocket(stream, silence, say)
    elif (method, path) == ("GET", "/"):
        await stream.start_response(
            {":status": "200", "content-type": "text/html", "content-length": str(len(PAGE))}
        )
        await stream.send_data(PAGE, end_stream=True)
    else:
        await stream.start_response({":status": "404"}, end_stream=True)


async def run(options: argparse.Namespace, context: ssl.SSLContext | None) -> None:
    """Serve until a signal says stop."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    handler = functools.partial(handle, silence=options.silence)
    server = await aioh2.start_server(
        lambda protocol: protocol.serve(handler),
        "127.0.0.1",
        options.port,
        ssl=context,
        enable_connect_protocol=True,
    )
    print(f"listening on port {server.sockets[0].getsockname()[1]}", flush=True)
    await stop.wait()
    print("shutting down", flush=True)
    drained = await server.shutdown()
    print(f"streams completed: {drained.completed}, aborted: {drained.aborted}", flush=True)


def main() -> None:
    """Read the options, and run."""
    parser = argparse.ArgumentParser(description="WebSockets over HTTP/2")
    parser.add_argument("--port", type=int, default=0, help="TCP port; 0: one that is free")
    parser.add_argument("--cert", metavar="FILE", help="certificate chain (PEM); needs --key")
    parser.add_argument("--key", metavar="FILE", help="private key (PEM)")
    parser.add_argument(
        "--silence",
        metavar="SECONDS",
        type=float,
        default=20,
        help="until a silent client is pinged, and again until it is given up",
    )
    options = parser.parse_args()
    if bool(options.cert) != bool(options.key):
        parser.error("--cert and --key go together")
    context = None
    if options.cert:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options.cert, options.key)
    asyncio.run(run(options, context))


if __name__ == "__main__":
    main()
