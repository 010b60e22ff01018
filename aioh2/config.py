"""Every option of a connection, validated once and frozen, each default with its reason.

An option is a keyword of ``start_server``, ``open_connection`` and ``H2Protocol``; one that only
the other side uses is allowed and unused.
"""

from __future__ import annotations

import codecs
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final

__all__ = ["Config"]

_MAX_31: Final = 2**31 - 1
_MAX_32: Final = 2**32 - 1
_GIBI: Final = 2**30
_CENTURY: Final = 100 * 365 * 86_400
_ENCODINGS: Final = {"utf-8", "ascii", "iso8859-1"}


def _wrong_type(name: str, value: object, wanted: str) -> TypeError:
    return TypeError(f"{name} must be {wanted}, not {value!r}")


def _integer(low: int, high: int, *, optional: bool = False) -> Callable[[str, object], None]:
    wanted = f"from {low} to {high}" + (", or None" if optional else "")

    def check(name: str, value: object) -> None:
        if value is None and optional:
            return
        if isinstance(value, bool) or not isinstance(value, int):
            raise _wrong_type(name, value, f"an int {wanted}")
        if not low <= value <= high:
            raise ValueError(f"{name} must be {wanted}, not {value}")

    return check


def _seconds(*, optional: bool, zero: bool = False) -> Callable[[str, object], None]:
    bound = f"{'at least' if zero else 'more than'} 0 and at most {_CENTURY}"
    wanted = f"a number of seconds, {bound}" + (", or None" if optional else "")

    def check(name: str, value: object) -> None:
        if value is None and optional:
            return
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _wrong_type(name, value, wanted)
        # a century is longer than any connection, and within what clocks can add
        if not 0 <= value <= _CENTURY or (value == 0 and not zero):
            raise ValueError(f"{name} must be {wanted}, not {value}")

    return check


def _budget(name: str, value: object) -> None:
    wanted = f"a tuple (burst, rate), an int and a number from 0 to {_MAX_31}, or None"
    if value is None:
        return
    if not isinstance(value, tuple) or len(value) != 2:
        raise _wrong_type(name, value, wanted)
    burst, rate = value
    if isinstance(burst, bool) or not isinstance(burst, int):
        raise _wrong_type(name, value, wanted)
    if isinstance(rate, bool) or not isinstance(rate, (int, float)):
        raise _wrong_type(name, value, wanted)
    if not (0 <= burst <= _MAX_31 and 0 <= rate <= _MAX_31):
        raise ValueError(f"{name} must be {wanted}, not {value}")


def _boolean(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise _wrong_type(name, value, "True or False")


def _encoding(name: str, value: object) -> None:
    wanted = '"utf-8", "ascii", "latin-1" or None (bytes)'
    if value is None:
        return
    if not isinstance(value, str):
        raise _wrong_type(name, value, wanted)
    try:
        known = codecs.lookup(value).name in _ENCODINGS
    except (LookupError, ValueError):
        known = False
    if not known:
        raise ValueError(f"{name} must be {wanted}, not {value!r}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """The options of one connection; immutable, checked when it is made.

    A wrong type raises ``TypeError``, a wrong value ``ValueError``; both name the option, the
    value and what is allowed.
    """

    # Streams

    #: SETTINGS_MAX_CONCURRENT_STREAMS that we announce. 100 is the least that RFC 9113 section
    #: 6.5.2 recommends, and what most servers announce.
    concurrency: int = 100
    #: SETTINGS_ENABLE_PUSH of a client. Off: browsers have removed it, and a promise costs memory.
    enable_push: bool = False
    #: SETTINGS_ENABLE_CONNECT_PROTOCOL of a server (RFC 8441). Off: a handler has to know it.
    enable_connect_protocol: bool = False
    #: SETTINGS_NO_RFC7540_PRIORITIES (RFC 9218 section 2.1): RFC 9218 decides who sends next from
    #: the beginning, and RFC 7540's signals are ignored. Off: whichever the peer signals decides.
    no_rfc7540_priorities: bool = False

    # Sizes

    #: Receive window of a stream, in bytes. 256 KiB keeps 20 ms round trips at 100 Mbit/s busy.
    initial_window_size: int = 262_144
    #: What a stream's receive window may grow to, in bytes, where its reader waits for the peer
    #: and the round trip is too long for it; None: it does not grow. All streams together grow by
    #: at most ``connection_window_size``. Off: most paths are shorter, and unread data costs
    #: memory. At most 1 GiB, the largest window of TCP.
    max_window_size: int | None = None
    #: Receive window of the connection, in bytes. Credit for it goes back on receipt, so it only
    #: bounds what is in flight: 16 MiB lets 64 streams fill their own windows at once.
    connection_window_size: int = 16_777_216
    #: Largest frame payload that we accept, in bytes. The least allowed: larger frames delay
    #: other streams and save nothing.
    max_frame_size: int = 16_384
    #: SETTINGS_MAX_HEADER_LIST_SIZE, in bytes as RFC 9113 section 6.5.2 counts them. Four times
    #: what common HTTP/1.1 servers accept.
    max_header_list_size: int = 65_536
    #: SETTINGS_HEADER_TABLE_SIZE, in bytes: the default of RFC 7541.
    header_table_size: int = 4_096

    # Headers

    #: How headers are decoded (with surrogateescape, so nothing is lost); None hands out bytes.
    header_encoding: str | None = "utf-8"

    # Health

    #: Seconds without a received byte after which ``wait_functional`` asks with a PING.
    functional_timeout: float = 2
    #: Seconds without a received byte after which a PING is sent unasked; None: never.
    keepalive_interval: float | None = None
    #: Seconds that such a PING may stay without any received byte; then the transport is aborted.
    keepalive_timeout: float = 20

    # Timeouts

    #: Seconds for TLS, preface, SETTINGS, and for the ACK of ours. More than two lost SYNs, less
    #: than a user's patience.
    open_timeout: float | None = 10
    #: Seconds for everything after the decision to close, the TLS goodbye included; that gets a
    #: second where nothing else is left to be done.
    close_timeout: float = 10
    #: Seconds without an open stream after which the connection shuts down; None: never.
    idle_timeout: float | None = None
    #: Seconds from a frame's or header block's first byte to its last. A frame fits into a few
    #: packets: who needs longer is not sending it.
    frame_timeout: float | None = 10
    #: Seconds that the transport may take nothing while bytes wait; then it is aborted. A minute,
    #: as TCP itself would try for longer than anybody waits.
    write_timeout: float | None = 60
    #: Seconds that data may wait for the peer's window; then the stream is reset. None: for ever,
    #: since a peer that pauses a download does just that.
    window_timeout: float | None = None
    #: Server: seconds that a request body which a reader waits for may make no progress; then
    #: the stream is reset. None: for ever, since a long poll or a tunnel does just that.
    body_timeout: float | None = None
    #: Server: seconds, give or take a tenth, after which a connection shuts down; None: never.
    max_connection_age: float | None = None
    #: Seconds that its streams have left then.
    max_connection_age_grace: float = 10

    # Abuse budgets. One is (burst, rate): so many at once, then so many a second; None: no limit.
    # Who exceeds one is sent GOAWAY with ENHANCE_YOUR_CALM and the option's name as debug data.

    #: RST_STREAM frames of the peer, and those that it makes us send, refusals included (rapid
    #: reset and its kin). Four cleanly ended streams earn one more, each stream that we open or
    #: reset ourselves another: a client that cancels one request in five stays within it.
    reset_budget: tuple[int, float] | None = (200, 20)
    #: PING, SETTINGS, PRIORITY, GOAWAY and other frames without content. A DATA frame of at least
    #: 1 KiB, or any that we send, earns two more, since peers probe the path as they transfer;
    #: so does one for each acknowledgement that we ask for.
    control_budget: tuple[int, float] | None = (500, 50)
    #: WINDOW_UPDATE frames. A DATA frame that we send earns four more: two for its stream and two
    #: for the connection.
    window_update_budget: tuple[int, float] | None = (2_000, 500)
    #: DATA with neither content nor END_STREAM, and HEADERS and CONTINUATION with no part of a
    #: block. A DATA frame with content earns one more: some peers flush with an empty one.
    empty_frame_budget: tuple[int, float] | None = (100, 10)

    # Limits of what one frame or header block may hold. Exceeding one ends the connection so too.

    #: CONTINUATION frames of a header block. Eight times what 64 KiB in full frames take.
    max_continuations: int = 32
    #: Bytes of a header block over all its frames; ``max_header_list_size`` where that is larger.
    #: No list of that size takes more, unless to hide how long it is.
    max_header_block_size: int = 65_536
    #: Fields of a header list, each crumb of a cookie counted. Browsers keep at most 180 cookies
    #: a site, and send a dozen other fields.
    max_header_fields: int = 256
    #: Entries of a SETTINGS frame. Fewer than ten are defined, each needed once.
    max_settings_entries: int = 32

    # The share of one tick of the event loop

    #: Frames of one connection that are worked off before the others have their turn: about two
    #: milliseconds.
    frames_per_tick: int = 64
    #: Bytes, not counting DATA, worked off likewise: about two milliseconds of header blocks in
    #: Huffman code, the dearest there is. The content of DATA costs next to nothing.
    bytes_per_tick: int = 8_192

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            check(name, getattr(self, name))
        if self.max_window_size is not None and self.max_window_size < self.initial_window_size:
            raise ValueError(
                f"max_window_size must be at least initial_window_size "
                f"({self.initial_window_size}), not {self.max_window_size}"
            )

    @classmethod
    def of(cls, config: Config | None, options: Mapping[str, Any]) -> Config:
        """Return ``config`` (default: all defaults) with ``options`` in place of its own.

        Raises ``TypeError`` for an unknown option or a ``config`` that is not a ``Config``.
        """
        if config is not None and not isinstance(config, Config):
            raise _wrong_type("config", config, "a Config or None")
        for name in options:
            if name not in _CHECKS:
                raise TypeError(f"unknown option {name!r}; known are: {', '.join(_CHECKS)}")
        if not options:
            # immutable, and so shared
            return config or _DEFAULT
        return dataclasses.replace(config or cls(), **options)

    @classmethod
    def split(cls, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return ``options`` in two parts: those of ``Config``, and the others (asyncio's)."""
        own = {name: value for name, value in options.items() if name in _CHECKS}
        return own, {name: value for name, value in options.items() if name not in own}


_CHECKS: Final[dict[str, Callable[[str, object], None]]] = {
    "concurrency": _integer(0, _MAX_32),
    "enable_push": _boolean,
    "enable_connect_protocol": _boolean,
    "no_rfc7540_priorities": _boolean,
    "initial_window_size": _integer(0, _MAX_31),
    "max_window_size": _integer(0, _GIBI, optional=True),
    "connection_window_size": _integer(65_535, _MAX_31),
    "max_frame_size": _integer(16_384, 2**24 - 1),
    "max_header_list_size": _integer(0, _MAX_32),
    "header_table_size": _integer(0, _MAX_32),
    "header_encoding": _encoding,
    "functional_timeout": _seconds(optional=False),
    "keepalive_interval": _seconds(optional=True),
    "keepalive_timeout": _seconds(optional=False),
    "open_timeout": _seconds(optional=True),
    "close_timeout": _seconds(optional=False, zero=True),
    "idle_timeout": _seconds(optional=True),
    "frame_timeout": _seconds(optional=True),
    "write_timeout": _seconds(optional=True),
    "window_timeout": _seconds(optional=True),
    "body_timeout": _seconds(optional=True),
    "max_connection_age": _seconds(optional=True),
    "max_connection_age_grace": _seconds(optional=False, zero=True),
    "reset_budget": _budget,
    "control_budget": _budget,
    "window_update_budget": _budget,
    "empty_frame_budget": _budget,
    "max_continuations": _integer(0, _MAX_31),
    "max_header_block_size": _integer(0, _MAX_32),
    "max_header_fields": _integer(0, _MAX_31),
    "max_settings_entries": _integer(0, _MAX_31),
    "frames_per_tick": _integer(1, _MAX_31),
    "bytes_per_tick": _integer(1, _MAX_31),
}

_DEFAULT: Final = Config()
