"""Clients: connect, and hand out a protocol that the peer has greeted."""

from __future__ import annotations

import asyncio
import ssl as tls
from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, Generic, TypeVar, cast, overload

from .config import Config
from .exceptions import HandshakeError
from .protocol import H2Protocol, ProtocolT

__all__ = ["open_connection", "open_unix_connection"]

# What hands out a protocol of a subclass hands out an H2Protocol.
ProtocolT_co = TypeVar("ProtocolT_co", bound=H2Protocol, covariant=True)

_DEFAULT_PORT = {"http": 80, "https": 443}


class Connecting(Generic[ProtocolT_co]):
    """What ``open_connection`` returns: await it, or ``async with`` it."""

    def __init__(self, connect: Callable[[], Awaitable[ProtocolT_co]]) -> None:
        self._connect = connect
        # The protocol, while inside ``async with``.
        self._protocol: ProtocolT_co | None = None

    def __await__(self) -> Generator[Any, None, ProtocolT_co]:
        return self._connect().__await__()

    async def __aenter__(self) -> ProtocolT_co:
        self._protocol = await self._connect()
        return self._protocol

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._protocol is not None
        await self._protocol.__aexit__(kind, error, traceback)


@overload
def open_connection(
    host: str | None = None,
    port: int | None = None,
    *,
    cls: type[ProtocolT],
    config: Config | None = None,
    ssl: bool | tls.SSLContext | None = None,
    **options: Any,
) -> Connecting[ProtocolT]: ...
@overload
def open_connection(
    host: str | None = None,
    port: int | None = None,
    *,
    cls: type[H2Protocol] = ...,
    config: Config | None = None,
    ssl: bool | tls.SSLContext | None = None,
    **options: Any,
) -> Connecting[H2Protocol]: ...
def open_connection(
    host: str | None = None,
    port: int | None = None,
    *,
    cls: type[H2Protocol] = H2Protocol,
    config: Config | None = None,
    ssl: bool | tls.SSLContext | None = None,
    **options: Any,
) -> Connecting[H2Protocol]:
    """Connect to a server over TCP; ``await`` it, or ``async with`` it.

    ``host``, ``port``: as of asyncio, None where a ``sock`` is given. ``cls``: the class of the
    protocol. ``ssl``: True for a default context, or a context, on
    which ALPN ``h2`` is set. ``options``: those of :class:`Config`, and those of
    ``loop.create_connection``, ``sock`` included.

    Returns once TLS is done and the peer's SETTINGS have come, within ``open_timeout`` seconds.
    Raises :class:`HandshakeError` when the peer does not speak HTTP/2 or takes too long,
    ``OSError`` and ``ssl.SSLError`` as asyncio does. Cancelling it closes what was opened.
    """
    own, others = Config.split(options)
    config = Config.of(config, own)
    context = _context(ssl)

    async def connect() -> H2Protocol:
        protocol = cls(client_side=True, config=config)
        if host is not None:
            name = f"[{host}]" if ":" in host else host
            default = _DEFAULT_PORT["https" if context else "http"]
            protocol.authority = name if port in (None, default) else f"{name}:{port}"
        elif others.get("server_hostname"):
            protocol.authority = others["server_hostname"]
        loop = asyncio.get_running_loop()
        return await _open(
            protocol,
            lambda: loop.create_connection(
                lambda: protocol, cast(Any, host), cast(Any, port), ssl=context, **others
            ),
        )

    return Connecting(connect)


@overload
def open_unix_connection(
    path: str | None = None,
    *,
    cls: type[ProtocolT],
    config: Config | None = None,
    ssl: bool | tls.SSLContext | None = None,
    **options: Any,
) -> Connecting[ProtocolT]: ...
@overload
def open_unix_connection(
    path: str | None = None,
    *,
    cls: type[H2Protocol] = ...,
    config: Config | None = None,
    ssl: bool | tls.SSLContext | None = None,
    **options: Any,
) -> Connecting[H2Protocol]: ...
def open_unix_connection(
    path: str | None = None,
    *,
    cls: type[H2Protocol] = H2Protocol,
    config: Config | None = None,
    ssl: bool | tls.SSLContext | None = None,
    **options: Any,
) -> Connecting[H2Protocol]:
    """Connect to a server on a Unix socket: as :func:`open_connection`.

    ``path``: where the socket is, None where a ``sock`` is given. ``options``: those of
    :class:`Config`, and those of ``loop.create_unix_connection``. ``:authority`` is
    ``localhost``.
    """
    own, others = Config.split(options)
    config = Config.of(config, own)
    context = _context(ssl)

    async def connect() -> H2Protocol:
        protocol = cls(client_side=True, config=config)
        protocol.authority = "localhost"
        if context is not None:
            others.setdefault("server_hostname", "localhost")
        loop = asyncio.get_running_loop()
        return await _open(
            protocol,
            lambda: loop.create_unix_connection(lambda: protocol, path, ssl=context, **others),
        )

    return Connecting(connect)


def _context(ssl: bool | tls.SSLContext | None) -> tls.SSLContext | None:
    if ssl is None or ssl is False:
        return None
    if ssl is True:
        ssl = tls.create_default_context()
    if not isinstance(ssl, tls.SSLContext):
        raise TypeError(f"ssl must be True, an SSLContext or None, not {ssl!r}")
    ssl.set_alpn_protocols(["h2"])
    return ssl


async def _open(protocol: ProtocolT, create: Callable[[], Awaitable[Any]]) -> ProtocolT:
    limit = protocol.config.open_timeout
    deadline = asyncio.timeout(limit)
    try:
        async with deadline:
            await create()
            await protocol.wait_open()
    except BaseException as error:
        protocol.abort()
        if isinstance(error, TimeoutError) and deadline.expired():
            raise HandshakeError(
                f"no HTTP/2 connection within {limit} s: blocked on {_what_is_missing(protocol)}"
            ) from error
        if isinstance(error, tls.SSLError) and "no application protocol" in str(error):
            raise HandshakeError("the server does not offer ALPN 'h2'") from error
        raise
    return protocol


def _what_is_missing(protocol: H2Protocol) -> str:
    if protocol.stats.bytes_received:
        return "peer: the server sent no SETTINGS"
    if protocol.stats.bytes_sent:
        return "peer: the server sent nothing"
    return "transport: TCP or TLS was not established"
