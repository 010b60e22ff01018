"""Servers: listen, make a protocol for each connection, and end them all together."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl as tls
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, cast, overload

from .config import Config
from .protocol import (
    ConnectedCallback,
    Drained,
    H2Protocol,
    ProtocolT,
    check_debug_data,
    check_grace,
)

if TYPE_CHECKING:
    # the module typing has defaults from Python 3.13 on; with one, ``Server`` by itself is a type
    from typing_extensions import TypeVar

    ProtocolT_co = TypeVar("ProtocolT_co", bound=H2Protocol, default=H2Protocol, covariant=True)
else:
    from typing import TypeVar

    ProtocolT_co = TypeVar("ProtocolT_co", bound=H2Protocol, covariant=True)

__all__ = ["Server", "start_server", "start_unix_server"]

_PORT_ATTEMPTS = 20


class Server(Generic[ProtocolT_co]):
    """A listening server: what ``asyncio.Server`` has, its connections, and their shutdown.

    ``async with server`` shuts it down gracefully on leaving, or closes it at once when an
    exception leaves with it.
    """

    def __init__(self, server: asyncio.Server, factory: _Factory[ProtocolT_co]) -> None:
        # What listens.
        self._server = server
        # What makes the connections.
        self._factory = factory
        # They, from connection_made to connection_lost.
        self._live = factory.live
        # Who waits in serve_forever.
        self._forever: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} sockets={self.sockets!r} connections={len(self._live)}>"

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening sockets; empty once closed."""
        return tuple(self._server.sockets)

    @property
    def connections(self) -> frozenset[ProtocolT_co]:
        """The connections that are alive now."""
        return frozenset(self._live)

    def is_serving(self) -> bool:
        """Whether new connections are accepted."""
        return self._server.is_serving()

    async def start_serving(self) -> None:
        """Begin to accept, after ``start_serving=False``."""
        await self._server.start_serving()

    async def serve_forever(self) -> None:
        """Accept connections until cancelled, or closed; connections live on then.

        Raises ``RuntimeError`` where it is closed already, or is being waited for.
        """
        if self._forever is not None:
            raise RuntimeError(f"{self!r} is already being waited for")
        await self.start_serving()
        self._forever = asyncio.get_running_loop().create_future()
        try:
            await self._forever
        finally:
            self._forever = None
            self.close()

    def close(self) -> None:
        """Stop listening; connections live on."""
        self._server.close()
        if self._forever is not None:
            self._forever.cancel()

    async def wait_closed(self) -> None:
        """Wait as ``asyncio.Server.wait_closed`` does."""
        await self._server.wait_closed()

    async def shutdown(
        self, grace: float | None = None, *, debug_data: bytes | None = None
    ) -> Drained:
        """Stop listening, then shut all connections down: see :meth:`H2Protocol.shutdown`.

        Returns what became of the streams that were in flight, over all connections. Takes,
        raises and cancels as that.
        """
        check_grace(grace)
        check_debug_data(debug_data)
        self.close()
        self._factory.is_open = False
        drained = await asyncio.gather(
            *(protocol.shutdown(grace, debug_data=debug_data) for protocol in self._live)
        )
        return Drained(sum(d.completed for d in drained), sum(d.aborted for d in drained))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            await self.shutdown()
            return
        self.close()
        self._factory.is_open = False
        live = list(self._live)
        for protocol in live:
            protocol.close_connection()
        await asyncio.gather(*(protocol.wait_closed() for protocol in live))


class _Factory(Generic[ProtocolT]):
    """Makes the protocol of each connection that is accepted."""

    def __init__(
        self, callback: ConnectedCallback[ProtocolT], cls: type[ProtocolT], config: Config
    ) -> None:
        if not callable(callback):
            raise TypeError(f"client_connected_cb must be callable, not {callback!r}")
        self._callback = callback
        self._cls = cls
        self._config = config
        self.live: set[ProtocolT] = set()
        # False from a shutdown on: who was accepted before, and comes later, is turned away.
        self.is_open = True

    def __call__(self) -> ProtocolT:
        protocol = self._cls(client_side=False, config=self._config)
        protocol._driver.register(self.live, lambda: self.is_open)
        protocol.set_handler(self._callback)
        return protocol


@overload
async def start_server(
    client_connected_cb: ConnectedCallback[ProtocolT],
    host: str | Sequence[str] | None = None,
    port: int | None = None,
    *,
    cls: type[ProtocolT],
    config: Config | None = None,
    ssl: tls.SSLContext | None = None,
    **options: Any,
) -> Server[ProtocolT]: ...
@overload
async def start_server(
    client_connected_cb: ConnectedCallback[H2Protocol],
    host: str | Sequence[str] | None = None,
    port: int | None = None,
    *,
    cls: type[H2Protocol] = ...,
    config: Config | None = None,
    ssl: tls.SSLContext | None = None,
    **options: Any,
) -> Server[H2Protocol]: ...
async def start_server(
    client_connected_cb: ConnectedCallback[Any],
    host: str | Sequence[str] | None = None,
    port: int | None = None,
    *,
    cls: type[Any] = H2Protocol,
    config: Config | None = None,
    ssl: tls.SSLContext | None = None,
    **options: Any,
) -> Server[Any]:
    """Listen on TCP; call ``client_connected_cb(protocol)`` for each connection when it is ready.

    What the callback may return is said at :meth:`H2Protocol.set_handler`. ``port`` 0 gives all
    address families one and the same free port. ``ssl``: a context, on which ALPN ``h2`` is set.
    ``options``: those of :class:`Config`, and those of ``loop.create_server``.
    """
    own, others = Config.split(options)
    config = Config.of(config, own)
    factory = _Factory(client_connected_cb, cls, config)
    _prepare_tls(ssl, config, others)
    loop = asyncio.get_running_loop()
    if port or "sock" in others:
        server = await loop.create_server(factory, host, cast(Any, port), ssl=ssl, **others)
    else:
        server = await _listen_on_one_port(factory, host, ssl, others)
    return Server(server, factory)


@overload
async def start_unix_server(
    client_connected_cb: ConnectedCallback[ProtocolT],
    path: str | None = None,
    *,
    cls: type[ProtocolT],
    config: Config | None = None,
    ssl: tls.SSLContext | None = None,
    **options: Any,
) -> Server[ProtocolT]: ...
@overload
async def start_unix_server(
    client_connected_cb: ConnectedCallback[H2Protocol],
    path: str | None = None,
    *,
    cls: type[H2Protocol] = ...,
    config: Config | None = None,
    ssl: tls.SSLContext | None = None,
    **options: Any,
) -> Server[H2Protocol]: ...
async def start_unix_server(
    client_connected_cb: ConnectedCallback[Any],
    path: str | None = None,
    *,
    cls: type[Any] = H2Protocol,
    config: Config | None = None,
    ssl: tls.SSLContext | None = None,
    **options: Any,
) -> Server[Any]:
    """Listen on a Unix socket: as :func:`start_server`, with ``loop.create_unix_server``."""
    own, others = Config.split(options)
    config = Config.of(config, own)
    factory = _Factory(client_connected_cb, cls, config)
    _prepare_tls(ssl, config, others)
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(factory, path, ssl=ssl, **others)
    return Server(server, factory)


def _prepare_tls(ssl: Any, config: Config, options: dict[str, Any]) -> None:
    if ssl is None:
        return
    if not isinstance(ssl, tls.SSLContext):
        raise TypeError(f"ssl must be an SSLContext or None, not {ssl!r}")
    ssl.set_alpn_protocols(["h2"])
    if config.open_timeout is not None:
        options.setdefault("ssl_handshake_timeout", config.open_timeout)


async def _listen_on_one_port(
    factory: _Factory[Any],
    host: str | Sequence[str] | None,
    ssl: tls.SSLContext | None,
    options: dict[str, Any],
) -> asyncio.Server:
    """Listen on a port that is free in every address family of ``host``.

    asyncio would choose one for each family. A port that is free in the first may be taken in
    another: then the next one is tried.
    """
    loop = asyncio.get_running_loop()
    attempts = 0
    while True:
        server = await loop.create_server(
            factory, host, 0, ssl=ssl, **{**options, "start_serving": False}
        )
        ports = [sock.getsockname()[1] for sock in server.sockets]
        if len(set(ports)) == 1:
            break
        server.close()
        try:
            return await loop.create_server(factory, host, ports[0], ssl=ssl, **options)
        except OSError as error:
            attempts += 1
            if error.errno != errno.EADDRINUSE or attempts == _PORT_ATTEMPTS:
                raise
    if options.get("start_serving", True):
        await server.start_serving()
    return server
