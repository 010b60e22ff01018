"""A client and a server over memory."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from types import TracebackType
from typing import Any, Generic, TypeVar, overload

from ..protocol import ConnectedCallback, H2Protocol
from .transports import connect

__all__ = ["connected_pair"]

ProtocolT = TypeVar("ProtocolT", bound=H2Protocol)
Options = Mapping[str, Any]


class Pair(Generic[ProtocolT]):
    """What :func:`connected_pair` returns: await it, or ``async with`` it."""

    def __init__(
        self, client: ProtocolT, server: ProtocolT, latency: float, bandwidth: float | None
    ) -> None:
        #: Both ends.
        self.client = client
        self.server = server
        # The way between them.
        self._latency = latency
        self._bandwidth = bandwidth

    async def _connect(self) -> tuple[ProtocolT, ProtocolT]:
        connect(self.client, self.server, latency=self._latency, bandwidth=self._bandwidth)
        await self.client.wait_open()
        await self.server.wait_open()
        return self.client, self.server

    def __await__(self) -> Generator[Any, None, tuple[ProtocolT, ProtocolT]]:
        return self._connect().__await__()

    async def __aenter__(self) -> tuple[ProtocolT, ProtocolT]:
        return await self._connect()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.client.__aexit__(kind, error, traceback)
        await self.server.__aexit__(kind, error, traceback)


@overload
def connected_pair(
    client_connected_cb: ConnectedCallback[ProtocolT] | None = None,
    *,
    cls: type[ProtocolT],
    client: Options | None = None,
    server: Options | None = None,
    latency: float = 0,
    bandwidth: float | None = None,
) -> Pair[ProtocolT]: ...
@overload
def connected_pair(
    client_connected_cb: ConnectedCallback[H2Protocol] | None = None,
    *,
    client: Options | None = None,
    server: Options | None = None,
    latency: float = 0,
    bandwidth: float | None = None,
) -> Pair[H2Protocol]: ...
def connected_pair(
    client_connected_cb: ConnectedCallback[Any] | None = None,
    *,
    cls: type[Any] = H2Protocol,
    client: Options | None = None,
    server: Options | None = None,
    latency: float = 0,
    bandwidth: float | None = None,
) -> Pair[Any]:
    """Join a client and a server over memory; await the pair of them, or ``async with`` it.

    It waits until both have the other's SETTINGS. Leaving the block shuts both down gracefully, or
    closes them at once where an exception leaves with it.

    ``client_connected_cb``: what serves the connection, as of ``start_server``. ``cls``: the
    class of both. ``client``, ``server``: the options of each (those of :class:`aioh2.Config`,
    or ``config``). ``latency``: seconds one way. ``bandwidth``: bytes a second each way; None:
    no limit. With the last two, run it in virtual time (:func:`aioh2.testing.virtual_time`).
    """
    ends = cls(True, **(client or {})), cls(False, **(server or {}))
    if client_connected_cb is not None:
        ends[1].set_handler(client_connected_cb)
    return Pair(*ends, latency, bandwidth)
