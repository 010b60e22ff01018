"""gRPC by hand, server and client: what it puts on HTTP/2, with bytes as messages.

    python examples/grpc_echo.py serve --port 50051
    python examples/grpc_echo.py call 127.0.0.1:50051 Echo hello --timeout 5
    python examples/grpc_echo.py call 127.0.0.1:50051 Chat one two three --metadata user=me

A call is a request: POST to /SERVICE/METHOD, its metadata header fields, its messages DATA, and
its outcome the trailers of the response. What gRPC calls cancellation is RST_STREAM, and its
back-pressure is HTTP/2's flow control. SIGTERM lets the server's calls in flight end.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import enum
import math
import re
import signal
import ssl
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Self
from urllib.parse import quote, unquote

import aioh2
from aioh2 import ErrorCodes

SERVICE = "echo.Echo"
#: Bytes of the largest message that is taken; what gRPC's libraries start from, too.
MAX_MESSAGE = 4 * 1024 * 1024

# --- what both sides put on the wire -------------------------------------------------------


class Status(enum.IntEnum):
    """How a call ends."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


#: What RST_STREAM means to a client; every other code is INTERNAL.
RESETS: dict[int, Status] = {
    ErrorCodes.REFUSED_STREAM: Status.UNAVAILABLE,
    ErrorCodes.CANCEL: Status.CANCELLED,
    ErrorCodes.ENHANCE_YOUR_CALM: Status.RESOURCE_EXHAUSTED,
    ErrorCodes.INADEQUATE_SECURITY: Status.PERMISSION_DENIED,
}
#: What a response means that does not come from a gRPC server; every other status is UNKNOWN.
RESPONSES = {
    "400": Status.INTERNAL,
    "401": Status.UNAUTHENTICATED,
    "403": Status.PERMISSION_DENIED,
    "404": Status.UNIMPLEMENTED,
    **dict.fromkeys(("429", "502", "503", "504"), Status.UNAVAILABLE),
}

#: Names and values; a value is bytes where its name ends in -bin.
Metadata = Sequence[tuple[str, str | bytes]]


class RpcError(Exception):
    """A call that has not ended with OK. ``retryable``: the server has not processed it."""

    def __init__(
        self,
        status: Status,
        message: str = "",
        metadata: Metadata = (),
        *,
        retryable: bool = False,
    ) -> None:
        super().__init__(f"{status.name}: {message}" if message else status.name)
        self.status = status
        self.message = message
        self.metadata = metadata
        self.retryable = retryable


#: Before each message: whether it is compressed, and its length.
PREFIX = struct.Struct(">BI")

# Seconds of the units of grpc-timeout, the finest first. At most 8 digits go before one.
UNITS = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "S": 1, "M": 60, "H": 3600}


def format_timeout(seconds: float) -> str:
    """Write a number of seconds in the finest unit that takes it."""
    for unit, size in UNITS.items():
        if (count := math.ceil(seconds / size)) < 10**8:
            return f"{max(count, 1)}{unit}"
    raise ValueError(f"{seconds} s are too long for a timeout")


def parse_timeout(value: str | None) -> float | None:
    """Read grpc-timeout, in seconds; None: the call has no deadline."""
    if value is None:
        return None
    if not (match := re.fullmatch("([0-9]{1,8})([HMSmun])", value)):
        raise RpcError(Status.INTERNAL, "grpc-timeout is malformed")
    return int(match[1]) * UNITS[match[2]]


def quote_message(message: str) -> str:
    """Write grpc-message: printable ASCII stays as it is, all else is %XX of its UTF-8."""
    return quote(message, safe="".join(map(chr, range(32, 127))).replace("%", ""), errors="replace")


# Header fields that are no metadata, beside those that begin with ":" or "grpc-".
RESERVED = {"te", "host", "content-type", "content-length", "user-agent"}


def encode_metadata(metadata: Metadata) -> Iterator[tuple[str, str]]:
    """Make header fields of metadata."""
    for name, value in metadata:
        if isinstance(value, bytes):
            value = base64.b64encode(value).rstrip(b"=").decode()
        yield name, value


def decode_metadata(fields: aioh2.HeaderList) -> Metadata:
    """Return what of header fields is the application's metadata."""
    metadata: list[tuple[str, str | bytes]] = []
    for name, value in fields:
        if name.startswith((":", "grpc-")) or name in RESERVED:
            continue
        if not name.endswith("-bin"):
            metadata.append((name, value))
            continue
        try:
            # several may have been joined on their way; padding is optional
            for part in value.split(","):
                metadata.append((name, base64.b64decode(part + "=" * (-len(part) % 4))))
        except ValueError:
            raise RpcError(Status.INTERNAL, f"{name} is not base64") from None
    return metadata


class Call:
    """One call, as either side sees it: the messages of a stream.

    Nothing piles up. Reading a message is what gives the other side credit for the next one, and
    ``send`` waits until the other side has room.
    """

    def __init__(self, stream: aioh2.H2Stream, max_message: int) -> None:
        self.stream = stream
        self._max_message = max_message

    async def send(self, message: bytes) -> None:
        """Send a message."""
        await self.stream.send_data(PREFIX.pack(False, len(message)) + message)

    async def receive(self) -> bytes | None:
        """Wait for the next message; None: there are no more."""
        prefix = b""
        try:
            prefix = await self.stream.read_exactly(PREFIX.size)
            compressed, size = PREFIX.unpack(prefix)
            if compressed:
                raise RpcError(Status.UNIMPLEMENTED, "a message is compressed")
            if size > self._max_message:
                why = f"a message has {size} bytes; at most {self._max_message} are taken"
                raise RpcError(Status.RESOURCE_EXHAUSTED, why)
            return await self.stream.read_exactly(size)
        except asyncio.IncompleteReadError as error:
            await self._check_outcome()
            if prefix or error.partial:
                raise RpcError(Status.INTERNAL, "the last message is cut short") from None
            return None

    async def _check_outcome(self) -> None:
        """Raise what the other side says of how the call went: a server's does."""

    async def receive_one(self) -> bytes:
        """Wait for the end, before which there has to be exactly one message."""
        message = await self.receive()
        if message is None or await self.receive() is not None:
            raise RpcError(Status.UNIMPLEMENTED, "one message is sent here, no more and no less")
        return message

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if (message := await self.receive()) is None:
            raise StopAsyncIteration
        return message


# --- the server ----------------------------------------------------------------------------


class ServerCall(Call):
    """A call, as its handler sees it."""

    def __init__(self, stream: aioh2.H2Stream, max_message: int) -> None:
        super().__init__(stream, max_message)
        #: The client's metadata.
        self.metadata: Metadata = ()
        #: The server's: what goes out before the first message, and what at the end.
        self.initial: Metadata = ()
        self.trailing: Metadata = ()
        self._started = False

    async def send(self, message: bytes) -> None:
        """Send a message; the response begins with the first one."""
        if not self._started:
            self._started = True
            await self.stream.start_response([*self._headers(), *encode_metadata(self.initial)])
        await super().send(message)

    async def finish(self, status: Status, message: str, metadata: Metadata) -> None:
        """Send the status: in trailers, or in headers that are all there is (Trailers-Only)."""
        fields = [("grpc-status", str(status.value)), *encode_metadata(metadata)]
        if message:
            fields.append(("grpc-message", quote_message(message)))
        if self._started:
            await self.stream.send_trailers(fields)
        else:
            await self.stream.start_response([*self._headers(), *fields], end_stream=True)

    def _headers(self) -> list[tuple[str, str]]:
        return [(":status", "200"), ("content-type", "application/grpc")]


async def echo(call: ServerCall) -> None:
    """Unary: the message comes back, and the metadata."""
    call.initial = call.metadata
    await call.send(await call.receive_one())


async def split(call: ServerCall) -> None:
    """Server streaming: each line of the message comes back as one."""
    for line in (await call.receive_one()).splitlines():
        await call.send(line)


async def count(call: ServerCall) -> None:
    """Client streaming: what comes back says how many messages came, of how many bytes."""
    sizes = [len(message) async for message in call]
    await call.send(b"%d messages, %d bytes" % (len(sizes), sum(sizes)))


async def chat(call: ServerCall) -> None:
    """Bidirectional: each message comes back before the next one is read."""
    messages = 0
    async for message in call:
        await call.send(message)
        messages += 1
    call.trailing = [("messages", str(messages))]


async def fail(call: ServerCall) -> None:
    """Unary: ends with the status whose number the message begins with, and the rest of it."""
    number, _, why = (await call.receive_one()).decode(errors="replace").partition(" ")
    if number not in set(map(str, range(1, 17))):
        raise RpcError(Status.INVALID_ARGUMENT, "the message begins with no number from 1 to 16")
    raise RpcError(Status(int(number)), why, [("message-bin", why.encode())])


METHODS: dict[str, Callable[[ServerCall], Awaitable[None]]] = {
    f"/{SERVICE}/Echo": echo,
    f"/{SERVICE}/Split": split,
    f"/{SERVICE}/Count": count,
    f"/{SERVICE}/Chat": chat,
    f"/{SERVICE}/Fail": fail,
}


async def handle(stream: aioh2.H2Stream, max_message: int = MAX_MESSAGE) -> None:
    """Answer one call, and print how it ended.

    Where the client cancels, with RST_STREAM, ``serve`` cancels this. Any other exception is a
    bug: ``serve`` logs it and resets the stream with INTERNAL_ERROR, the client reads INTERNAL.
    """
    request = dict(stream.request_headers)
    if not request.get("content-type", "").startswith("application/grpc"):
        await stream.start_response({":status": "415"}, end_stream=True)
        return
    call = ServerCall(stream, max_message)
    outcome = "failed"
    try:
        await run_method(call, request)
        await call.finish(Status.OK, "", call.trailing)
        outcome = "OK"
    except RpcError as error:
        await call.finish(error.status, error.message, error.metadata)
        outcome = str(error)
    except asyncio.CancelledError:
        outcome = "CANCELLED"
        raise
    finally:
        print(ascii(f"{request[':path']}: {outcome}")[1:-1], flush=True)


async def run_method(call: ServerCall, request: dict[str, str]) -> None:
    """Run the method; at the deadline, cancel it.

    What it waited to send is withdrawn then, so the status goes out at once.
    """
    if (method := METHODS.get(request[":path"])) is None:
        raise RpcError(Status.UNIMPLEMENTED, f"there is no method {request[':path']}")
    call.metadata = decode_metadata(call.stream.request_headers)
    deadline = asyncio.timeout(parse_timeout(request.get("grpc-timeout")))
    try:
        async with deadline:
            await method(call)
    except TimeoutError:
        if not deadline.expired():
            raise
        raise RpcError(Status.DEADLINE_EXCEEDED, "the deadline has passed") from None


# --- the client ----------------------------------------------------------------------------


@contextlib.contextmanager
def as_rpc_error() -> Iterator[None]:
    """Give what ends a stream or connection its place among gRPC's statuses."""
    try:
        yield
    except aioh2.StreamReset as error:
        status = RESETS.get(error.error_code, Status.INTERNAL)
        raise RpcError(status, str(error), retryable=error.retryable) from error
    except aioh2.ConnectionClosed as error:
        raise RpcError(Status.UNAVAILABLE, str(error), retryable=error.retryable) from error


class ClientCall(Call):
    """A call, as who makes it sees it. How it ended is told by reading, not by sending."""

    #: The server's metadata: once a message or the end has come, and once the end has.
    initial: Metadata | None = None
    trailing: Metadata | None = None

    async def send(self, message: bytes) -> None:
        """Send a message; it is dropped where the call has ended already."""
        with contextlib.suppress(aioh2.SendException):
            await super().send(message)

    async def end(self) -> None:
        """Tell the server that there are no more messages."""
        with contextlib.suppress(aioh2.StreamReset, aioh2.ConnectionClosed):
            await self.stream.end()

    async def receive(self) -> bytes | None:
        """Wait for the next message; None: the call has ended with OK. Else raises RpcError."""
        with as_rpc_error():
            if self.initial is None:
                self.initial = decode_metadata(await self._receive_headers())
            return await super().receive()

    async def _receive_headers(self) -> aioh2.HeaderList:
        """Wait for the response's headers; a proxy's own response ends here."""
        headers = await self.stream.recv_response()
        fields = dict(headers)
        is_grpc = fields.get("content-type", "").startswith("application/grpc")
        if "grpc-status" not in fields and not (is_grpc and fields[":status"] == "200"):
            status = RESPONSES.get(fields[":status"], Status.UNKNOWN)
            raise RpcError(status, f"not gRPC, but a response with status {fields[':status']}")
        return headers

    async def _check_outcome(self) -> None:
        trailers = await self.stream.recv_trailers() or await self.stream.recv_response()
        self.trailing = decode_metadata(trailers)
        fields = dict(trailers)
        try:
            status = Status(int(fields["grpc-status"]))
        except (KeyError, ValueError):
            raise RpcError(Status.UNKNOWN, "the server tells no status that is known") from None
        if status is not Status.OK:
            raise RpcError(status, unquote(fields.get("grpc-message", "")), self.trailing)


class Channel:
    """A connection to a server, made when it is needed, and anew after it has ended."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        max_message: int = MAX_MESSAGE,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._address = (host, port)
        self._max_message = max_message
        self._context = context
        self._connection: aioh2.H2Protocol | None = None
        # Calls that begin together share one connection.
        self._connecting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._connection is not None:
            await self._connection.shutdown()

    async def _connect(self) -> aioh2.H2Protocol:
        async with self._connecting:
            if self._connection is None or self._connection.is_closing:
                try:
                    self._connection = await aioh2.open_connection(
                        *self._address, ssl=self._context
                    )
                except OSError as error:
                    raise RpcError(Status.UNAVAILABLE, str(error), retryable=True) from error
            return self._connection

    @contextlib.asynccontextmanager
    async def call(
        self, method: str, *, limit: float = math.inf, metadata: Metadata = ()
    ) -> AsyncIterator[ClientCall]:
        """Make a call that may take ``limit`` seconds.

        Leaving it before its end cancels it, and so does its deadline.
        """
        headers = [
            (":method", "POST"),
            (":path", f"/{SERVICE}/{method}"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *encode_metadata(metadata),
        ]
        if limit < math.inf:
            headers.append(("grpc-timeout", format_timeout(limit)))
        deadline = asyncio.timeout(None if limit == math.inf else limit)
        try:
            async with deadline:
                connection = await self._connect()
                with as_rpc_error():
                    stream = await connection.open_stream(headers)
                async with stream:  # RST_STREAM(CANCEL) where it is left early
                    yield ClientCall(stream, self._max_message)
        except TimeoutError:
            if not deadline.expired():
                raise
            raise RpcError(Status.DEADLINE_EXCEEDED, "the deadline has passed") from None

    async def unary(
        self, method: str, message: bytes, *, limit: float = math.inf, metadata: Metadata = ()
    ) -> bytes:
        """Send one message and return the one that comes back.

        It is sent once more where the server has surely not processed it, and never otherwise:
        what the method does may not be meant to be done twice.
        """
        deadline = asyncio.get_running_loop().time() + limit
        try:
            return await self._unary(method, message, deadline, metadata)
        except RpcError as error:
            if not error.retryable:
                raise
        return await self._unary(method, message, deadline, metadata)

    async def _unary(
        self, method: str, message: bytes, deadline: float, metadata: Metadata
    ) -> bytes:
        limit = deadline - asyncio.get_running_loop().time()
        async with self.call(method, limit=limit, metadata=metadata) as call:
            await call.send(message)
            await call.end()
            return await call.receive_one()


# --- the command line ----------------------------------------------------------------------


async def serve(options: argparse.Namespace) -> None:
    """Serve until a signal says stop."""
    context = None
    if options.cert:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options.cert, options.key)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = await aioh2.start_server(
        lambda p: p.serve(lambda stream: handle(stream, options.max_message)),
        *("127.0.0.1", options.port),
        ssl=context,
    )
    print(f"listening on port {server.sockets[0].getsockname()[1]}", flush=True)
    await stop.wait()
    print("shutting down", flush=True)
    drained = await server.shutdown()
    print(f"calls completed: {drained.completed}, aborted: {drained.aborted}", flush=True)


async def make_call(options: argparse.Namespace) -> None:
    """Send the messages, and print those that come back meanwhile."""
    host, _, port = options.address.rpartition(":")
    context = ssl.create_default_context(cafile=options.ca) if options.ca else None
    metadata = [(name, value) for name, _, value in (f.partition("=") for f in options.metadata)]
    async with (
        Channel(host, int(port), max_message=options.max_message, context=context) as channel,
        channel.call(options.method, limit=options.timeout, metadata=metadata) as call,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(send_all(call, [message.encode() for message in options.messages]))
        async for reply in call:
            print(reply.decode())


async def send_all(call: ClientCall, messages: Iterable[bytes]) -> None:
    """Send messages, each as soon as the server has room for it."""
    for message in messages:
        await call.send(message)
    await call.end()


def main() -> None:
    """Read the options, and run."""
    parser = argparse.ArgumentParser(description="gRPC echo server and client")
    commands = parser.add_subparsers(required=True)
    serving = commands.add_parser("serve")
    serving.set_defaults(run=serve)
    serving.add_argument("--port", type=int, default=0, help="TCP port; 0: one that is free")
    serving.add_argument("--cert", metavar="FILE", help="certificate chain (PEM); needs --key")
    serving.add_argument("--key", metavar="FILE", help="private key (PEM)")
    calling = commands.add_parser("call")
    calling.set_defaults(run=make_call)
    calling.add_argument("address", metavar="HOST:PORT")
    calling.add_argument("method", metavar="METHOD", help="Echo, Split, Count, Chat or Fail")
    calling.add_argument("messages", metavar="MESSAGE", nargs="*")
    calling.add_argument("--timeout", type=float, default=math.inf, metavar="SECONDS")
    calling.add_argument("--metadata", action="append", default=[], metavar="NAME=VALUE")
    calling.add_argument("--ca", metavar="FILE", help="speak TLS, and trust this authority (PEM)")
    for command in (serving, calling):
        command.add_argument("--max-message", type=int, default=MAX_MESSAGE, metavar="BYTES")
    options = parser.parse_args()
    try:
        asyncio.run(options.run(options))
    except* RpcError as errors:
        sys.exit("\n".join(map(str, errors.exceptions)))


if __name__ == "__main__":
    main()
