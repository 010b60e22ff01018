"""Server-sent events to any number of listeners, and a page that shows them.

    python examples/events.py --port 8443 --cert cert.pem --key key.pem
    curl --insecure --data "hello" https://localhost:8443/events

Then open https://localhost:8443/ in a browser. What is posted to /events goes to all who listen
there. On SIGTERM and SIGINT their streams end by themselves, and listeners come back to the next
server, or with --max-age the next connection, and say what they have seen last.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import re
import signal
import ssl
import time
from collections import deque

import aioh2

# Events that are kept, for those who are slow or were away; and bytes that one may have.
KEPT = 1000
LONGEST = 16 * 1024
# Milliseconds that a listener waits before it comes back.
RETRY = 500

PAGE = b"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Server-sent events</title>
<link rel="icon" href="data:,">
<style>body { font: 16px/1.5 sans-serif; max-width: 40em; margin: 2em auto }</style>
<h1>Server-sent events</h1>
<form><input name="text" autofocus> <button>Send</button></form>
<p>State: <span id="state">connecting</span></p>
<ol id="log"></ol>
<script>
const say = (line) => {
  const item = document.createElement("li");
  item.textContent = line;
  document.getElementById("log").append(item);
};
const tell = (state) => { document.getElementById("state").textContent = state };
const source = new EventSource("/events");
source.onopen = () => tell("listening");
source.onerror = () => tell("coming back");
source.onmessage = (event) => say(event.data);
source.addEventListener("missed", () => say("(some were missed)"));
document.forms[0].onsubmit = (event) => {
  event.preventDefault();
  const { text } = event.target.elements;
  fetch("/events", { method: "POST", body: text.value });
  text.value = "";
};
</script>
</html>
"""


class Feed:
    """Events in their order; it keeps the last ones, and nothing for any single listener."""

    def __init__(self, kept: int) -> None:
        # As they go out. The id of the last one; ids are consecutive.
        self._events: deque[bytes] = deque(maxlen=kept)
        # They begin with the time, and so those of an earlier server are smaller.
        self.last = time.time_ns() // 1000
        # Set, and replaced, by the next event.
        self._news = asyncio.Event()

    def publish(self, text: str) -> None:
        """Add an event; of those that are kept, the oldest goes."""
        self.last += 1
        lines = "".join(f"data: {line}\n" for line in re.split("\r\n|\r|\n", text))
        self._events.append(f"id: {self.last}\n{lines}\n".encode())
        self._news.set()
        self._news = asyncio.Event()

    async def after(self, position: int) -> tuple[int, bytes]:
        """Wait for what comes after the event of that id; return its own, and the event.

        That is a later one where the next is not kept any more.
        """
        while position >= self.last or not self._events:
            await self._news.wait()
        position = max(position + 1, self.last - len(self._events) + 1)
        return position, self._events[position - self.last - 1]


def position_of(request: dict[str, str], feed: Feed) -> int:
    """Return the id that the listener has seen last; that of now where it has seen none."""
    try:
        return min(int(request["last-event-id"]), feed.last)
    except (KeyError, ValueError):
        return feed.last


async def tell(stream: aioh2.H2Stream, feed: Feed, position: int, heartbeat: float) -> None:
    """Send events for ever, one after the other, as fast as the listener takes them."""
    while True:
        try:
            async with asyncio.timeout(heartbeat):
                found, event = await feed.after(position)
        except TimeoutError:
            # a comment: it finds out whether there is still somebody, and proxies see life
            await stream.send_data(b":\n\n")
            continue
        if found > position + 1:
            await stream.send_data(b"event: missed\ndata\n\n")
        await stream.send_data(event)
        position = found


async def listen(stream: aioh2.H2Stream, feed: Feed, heartbeat: float) -> None:
    """Send events until the connection drains, or the listener goes."""
    position = position_of(dict(stream.request_headers), feed)
    await stream.start_response(
        {":status": "200", "content-type": "text/event-stream", "cache-control": "no-store"}
    )
    # the id holds from now on, for one that is cut off before the first event, too
    await stream.send_data(b"retry: %d\nid: %d\n\n" % (RETRY, position))
    async with asyncio.TaskGroup() as tasks:
        telling = tasks.create_task(tell(stream, feed, position, heartbeat))
        await stream.protocol.wait_closing()
        # where it waits for a slow listener, it takes back what is not out yet; half an event
        # is none for the listener, who will ask for it when it comes back
        telling.cancel()


async def publish(stream: aioh2.H2Stream, feed: Feed) -> None:
    """Publish what is posted."""
    body = await stream.read(LONGEST + 1)
    if len(body) > LONGEST:
        await stream.start_response({":status": "413"}, end_stream=True)
        return
    feed.publish(body.decode(errors="replace"))
    await stream.start_response({":status": "204"}, end_stream=True)


async def handle(stream: aioh2.H2Stream, feed: Feed, heartbeat: float) -> None:
    """Answer one request."""
    request = dict(stream.request_headers)
    match request[":method"], request.get(":path"):
        case "GET", "/":
            await stream.start_response(
                {":status": "200", "content-type": "text/html", "content-length": str(len(PAGE))}
            )
            await stream.send_data(PAGE, end_stream=True)
        case "GET", "/events":
            await listen(stream, feed, heartbeat)
        case "POST", "/events":
            await publish(stream, feed)
        case _:
            await stream.start_response({":status": "404"}, end_stream=True)


async def run(options: argparse.Namespace, context: ssl.SSLContext | None) -> None:
    """Serve until a signal says stop."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    handler = functools.partial(handle, feed=Feed(KEPT), heartbeat=options.heartbeat)
    server = await aioh2.start_server(
        lambda protocol: protocol.serve(handler),
        "127.0.0.1",
        options.port,
        ssl=context,
        max_connection_age=options.max_age,
    )
    print(f"listening on port {server.sockets[0].getsockname()[1]}", flush=True)
    await stop.wait()
    print("shutting down", flush=True)
    drained = await server.shutdown()
    print(f"streams completed: {drained.completed}, aborted: {drained.aborted}", flush=True)


def main() -> None:
    """Read the options, and run."""
    parser = argparse.ArgumentParser(description="server-sent events over HTTP/2")
    parser.add_argument("--port", type=int, default=0, help="TCP port; 0: one that is free")
    parser.add_argument("--cert", metavar="FILE", help="certificate chain (PEM); needs --key")
    parser.add_argument("--key", metavar="FILE", help="private key (PEM)")
    seconds = functools.partial(parser.add_argument, metavar="SECONDS", type=float)
    seconds("--heartbeat", default=15, help="until a comment, where there is no event")
    seconds("--max-age", help="until a connection drains, about; default: never")
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
