"""A client in the manner of a push notification service's: many small requests, none lost.

    python examples/push_client.py --count 2000
    python examples/push_client.py --count 2000 --host api.push.example --port 443 --tls

Without --host it talks to a service in the same process that makes trouble: it changes how many
requests may be open, refuses some, goes away with a reason, and cuts a connection. SIGTERM and
SIGINT end it; what has become of the notifications is reported in any case.

What makes it safe: a request is sent again only where ``retryable`` says that the service has not
processed it. Whatever else goes wrong is reported, for somebody to decide who knows whether twice
is better than never.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import dataclasses
import functools
import json
import random
import signal
import uuid
import weakref
from collections.abc import Awaitable, Callable, Iterable

import aioh2

#: Makes a connection: each call a new one.
Connect = Callable[[], Awaitable[aioh2.H2Protocol]]


@dataclasses.dataclass
class Notification:
    """One small request."""

    device: str
    payload: bytes
    # How the service, and a log, tells it from others.
    id: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))
    # How often it was refused, or not processed for another reason.
    refused: int = 0


@dataclasses.dataclass
class Report:
    """What has become of the notifications."""

    sent: int = 0
    # Those that were not: the id, and why.
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    # Those that it did not come to.
    unsent: int = 0
    # How many requests were made again.
    resent: int = 0
    # Connections, and attempts that led to none.
    connections: int = 0
    unconnected: int = 0
    # How connections ended that this side has not ended.
    ends: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def __str__(self) -> str:
        lines = [
            f"sent: {self.sent}, failed: {len(self.failed)}, unsent: {self.unsent}",
            f"resent: {self.resent}, connections: {self.connections} "
            f"and {self.unconnected} attempts that failed",
        ]
        lines += [f"ended: {end} ({count} times)" for end, count in sorted(self.ends.items())]
        why = collections.Counter(self.failed.values())
        return "\n".join(lines + [f"failed: {reason} ({count})" for reason, count in why.items()])


def reason_of(data: bytes) -> str | None:
    """Return the reason in a JSON object, ``{"reason": "..."}``; None where there is none."""
    try:
        told = json.loads(data)
    except ValueError:
        return None
    return str(told["reason"]) if isinstance(told, dict) and "reason" in told else None


class PushClient:
    """Sends notifications over a few connections, each replaced when it ends."""

    # Seconds before the second attempt to connect, or to send what was refused; it doubles each
    # time, and varies, so that clients that were sent away together do not come back together.
    FIRST_PAUSE = 0.05
    LONGEST_PAUSE = 30.0
    # How often a notification is sent at most.
    ATTEMPTS = 10
    # Seconds for a request, once it is on its way.
    LIMIT = 30.0

    def __init__(self, connect: Connect, *, connections: int = 2) -> None:
        self.report = Report()
        self._connect = connect
        self._lanes = connections
        self._queue: asyncio.Queue[Notification] = asyncio.Queue()
        # Those that are alive.
        self._connections: set[aioh2.H2Protocol] = set()
        # Those that have answered something, alive or not.
        self._proven: weakref.WeakSet[aioh2.H2Protocol] = weakref.WeakSet()

    async def send(self, notifications: Iterable[Notification]) -> None:
        """Send them all; return when there is nothing left to be done for any.

        Cancelled, it gives up: what is in flight fails, and what has not been sent stays so.
        """
        for notification in notifications:
            self._queue.put_nowait(notification)
        try:
            async with asyncio.TaskGroup() as tasks:
                lanes = [tasks.create_task(self._lane(tasks)) for _ in range(self._lanes)]
                await self._queue.join()
                for lane in lanes:
                    lane.cancel()
                for connection in list(self._connections):
                    tasks.create_task(connection.shutdown())
        finally:
            self.report.unsent = self._queue.qsize()

    # --- connections ---------------------------------------------------------------------

    async def _lane(self, tasks: asyncio.TaskGroup) -> None:
        """Have one connection that takes requests, and a new one whenever it takes no more."""
        attempt = 0
        while True:
            try:
                connection = await self._connect()
            except OSError as error:  # aioh2.HandshakeError and ssl.SSLError are, too
                self.report.unconnected += 1
                self.report.ends[f"not connected: {error}"] += 1
            else:
                self.report.connections += 1
                self._connections.add(connection)
                tasks.create_task(self._follow(connection))
                await self._use(connection, tasks)
                if connection in self._proven:
                    attempt = 0
            await asyncio.sleep(self._pause(attempt))
            attempt += 1

    def _pause(self, attempt: int) -> float:
        if attempt == 0:
            return 0
        return random.random() * min(self.FIRST_PAUSE * 2.0**attempt, self.LONGEST_PAUSE)

    async def _use(self, connection: aioh2.H2Protocol, tasks: asyncio.TaskGroup) -> None:
        """Give it requests for as long as it takes any.

        ``open_stream`` waits for a free slot, however many there are at the time: no more
        requests are started than the service wants.
        """
        while True:
            notification = await self._queue.get()
            headers = {
                ":method": "POST",
                ":path": f"/3/device/{notification.device}",
                "apns-id": notification.id,
                "content-length": str(len(notification.payload)),
            }
            try:
                stream = await connection.open_stream(headers)
            except BaseException as error:
                # nothing was written
                self._put_back(notification)
                if isinstance(error, aioh2.ConnectionClosed):
                    # what is in flight goes on to its end meanwhile
                    return
                raise
            tasks.create_task(self._deliver(stream, notification))

    async def _follow(self, connection: aioh2.H2Protocol) -> None:
        """Note how a connection ends: the reason is in the debug data of GOAWAY."""
        try:
            await connection.wait_closed()
        finally:
            self._connections.discard(connection)
            connection.abort()
        # GOAWAY, or the end of the transport without one
        end = connection.close_reason
        if isinstance(end, aioh2.ConnectionClosed) and end.initiator != "local":
            other = "lost" if end.error_code is None else f"error code {end.error_code:#x}"
            self.report.ends[reason_of(end.debug_data) or other] += 1

    # --- notifications -------------------------------------------------------------------

    async def _deliver(self, stream: aioh2.H2Stream, notification: Notification) -> None:
        """Send one, and see what the service says."""
        try:
            async with asyncio.timeout(self.LIMIT), stream:
                with contextlib.suppress(aioh2.SendException):
                    # a service may answer before it has read all; recv_response says what it was
                    await stream.send_data(notification.payload, end_stream=True)
                status = dict(await stream.recv_response())[":status"]
                self._proven.add(stream.protocol)
                answer = await stream.read(-1)
        except aioh2.AIOH2Exception as error:
            if error.retryable and notification.refused < self.ATTEMPTS:
                await self._resend(notification)
                return
            why = f"unknown whether it was processed: {type(error).__name__}"
            self._settle(notification, "refused too often" if error.retryable else why)
        except TimeoutError:
            self._settle(notification, f"no answer within {self.LIMIT} s")
        except asyncio.CancelledError:
            self._settle(notification, "given up while it was on its way")
            raise
        else:
            refusal = f"status {status}: {reason_of(answer)}"
            self._settle(notification, None if status == "200" else refusal)

    async def _resend(self, notification: Notification) -> None:
        try:
            await asyncio.sleep(self._pause(notification.refused))
        finally:
            notification.refused += 1
            self.report.resent += 1
            self._put_back(notification)

    def _put_back(self, notification: Notification) -> None:
        self._queue.put_nowait(notification)
        self._queue.task_done()

    def _settle(self, notification: Notification, why_not: str | None) -> None:
        if why_not is None:
            self.report.sent += 1
        else:
            self.report.failed[notification.id] = why_not
        self._queue.task_done()


class TroublesomeService:
    """A service that does all that a client has to cope with, in turn."""

    def __init__(self) -> None:
        self._requests = 0

    async def handle(self, stream: aioh2.H2Stream) -> None:
        """Answer a request, or make trouble."""
        protocol = stream.protocol
        self._requests += 1
        match self._requests % 500:
            case 50:
                protocol.max_concurrent_streams = 1
            case 60:
                protocol.max_concurrent_streams = 0
                asyncio.get_running_loop().call_later(0.05, self._raise_limit, protocol)
            case 100 | 101 | 102:
                stream.reset(aioh2.ErrorCodes.REFUSED_STREAM)
                return
            case 200:
                # it lets those in flight end first
                await protocol.shutdown(1)
            case 300:
                # whoever was not answered yet does not learn what has become of it
                reason = json.dumps({"reason": "Shutdown"}).encode()
                protocol.close_connection(debug_data=reason)
            case 400:
                protocol.abort()
        await stream.read(-1)
        await stream.start_response({":status": "200"}, end_stream=True)

    def _raise_limit(self, protocol: aioh2.H2Protocol) -> None:
        if not protocol.is_closing:
            protocol.max_concurrent_streams = 10


async def run(options: argparse.Namespace) -> None:
    """Send as many notifications as the options say, and report."""
    host, port = options.host, options.port
    async with contextlib.AsyncExitStack() as stack:
        if host is None:
            service = TroublesomeService()
            server = await aioh2.start_server(
                lambda p: p.serve(service.handle), "127.0.0.1", 0, concurrency=10
            )
            await stack.enter_async_context(server)
            host, port = server.sockets[0].getsockname()[:2]
        connect = functools.partial(
            aioh2.open_connection,
            *(host, port),
            ssl=options.tls,
            keepalive_interval=options.keepalive,
        )
        client = PushClient(connect, connections=options.connections)
        notifications = [Notification(f"{n:08x}", b'{"aps":{}}') for n in range(options.count)]
        sending = asyncio.ensure_future(client.send(notifications))
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, sending.cancel)
        await asyncio.wait([sending])
        print(client.report)
        if not sending.cancelled():
            sending.result()


def main() -> None:
    """Read the options, and run."""
    parser = argparse.ArgumentParser(description="many small requests, none lost")
    parser.add_argument("--host", help="of the service; default: one in this process")
    parser.add_argument("--port", type=int, default=443, help="of the service")
    parser.add_argument("--tls", action="store_true", help="use TLS")
    parser.add_argument("--count", type=int, default=1000, help="how many to send")
    parser.add_argument("--connections", type=int, default=2, help="how many to have open")
    parser.add_argument(
        "--keepalive", type=float, default=60, help="seconds of silence before a PING"
    )
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
