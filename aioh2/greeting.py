"""``Greeting``: what the two sides agree on before the first stream (RFC 9113 section 3).

What TLS has chosen, the SETTINGS that this side begins with, and the wait for the peer's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from h2.settings import SettingCodes

from .config import Config
from .connection import NO_RFC7540_PRIORITIES
from .exceptions import AIOH2Exception

__all__ = ["Greeting"]


class Greeting:
    """The opening of one connection, from the transport to the peer's first SETTINGS."""

    def __init__(self, config: Config, *, client_side: bool) -> None:
        self._config = config
        self._client_side = client_side
        #: Whether the peer's SETTINGS have come.
        self.has_come = False
        # How long they may take, who waits for them, and why they do not come.
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._reason: AIOH2Exception | None = None

    def problem_with(self, tls: Any) -> str | None:
        """Say what is wrong with the protocol that TLS has chosen (RFC 9113 section 3.2).

        ``tls``: the transport's ``ssl_object``.
        """
        if tls is None:
            return None
        chosen = tls.selected_alpn_protocol()
        if chosen == "h2" or not isinstance(chosen, str | None):
            # agreed, or a transport of somebody's own that answers any question
            return None
        side = "server" if self._client_side else "client"
        if chosen is None:
            return f"the {side} has not agreed on ALPN 'h2': it chose no protocol"
        return f"TLS has agreed on ALPN {chosen!r}, not 'h2'"

    def settings(self) -> dict[SettingCodes | int, int]:
        """Return the SETTINGS that this side begins with."""
        config = self._config
        settings: dict[SettingCodes | int, int] = {
            SettingCodes.HEADER_TABLE_SIZE: config.header_table_size,
            SettingCodes.MAX_CONCURRENT_STREAMS: config.concurrency,
            SettingCodes.INITIAL_WINDOW_SIZE: config.initial_window_size,
            SettingCodes.MAX_FRAME_SIZE: config.max_frame_size,
            SettingCodes.MAX_HEADER_LIST_SIZE: config.max_header_list_size,
        }
        if self._client_side:
            settings[SettingCodes.ENABLE_PUSH] = int(config.enable_push)
        elif config.enable_connect_protocol:
            settings[SettingCodes.ENABLE_CONNECT_PROTOCOL] = 1
        if config.no_rfc7540_priorities:
            settings[NO_RFC7540_PRIORITIES] = 1
        return settings

    def begin(self, loop: asyncio.AbstractEventLoop, expired: Callable[[], None]) -> None:
        """Wait for the peer's SETTINGS; ``expired`` is called after ``open_timeout``."""
        if self._config.open_timeout is not None:
            self._timer = loop.call_later(self._config.open_timeout, expired)

    def settings_came(self) -> None:
        """The peer's first SETTINGS are there."""
        self.has_come = True
        if self._timer is not None:
            self._timer.cancel()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def wait(self) -> None:
        """Wait for the peer's SETTINGS; raise why the connection is over."""
        if self._reason is not None:
            raise self._reason.fresh()
        if self.has_come:
            return
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._waiting)

    def end(self, reason: AIOH2Exception) -> None:
        """The connection is over: nothing is late any more, and who waits gets ``reason``."""
        self._reason = reason
        if self._timer is not None:
            self._timer.cancel()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(reason.fresh())
            # nobody may be waiting any more
            self._waiting.exception()
