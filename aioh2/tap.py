"""Frames as they pass, for who watches a connection: each with its time and decoded headers.

And what is made of them: lines of a log, lines of JSON. Values that give access to something are
left out of both.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import time as clocks
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, TextIO, TypeAlias

from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import (
    AltSvcFrame,
    DataFrame,
    ExtensionFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from .headers import SECRET, HeaderList

__all__ = ["FrameEvent", "FrameLog", "TapCallback", "Taps", "describe", "frame_name", "json_lines"]

_Logger: TypeAlias = "logging.LoggerAdapter[logging.Logger]"

# Names of fields whose values are not shown, and what stands for such a value.
_SECRET: Final = frozenset(name.decode("ascii") for name in SECRET)
_HIDDEN: Final = "..."

# RFC 9113 section 6, RFC 7838 section 4, RFC 8336 section 2, RFC 9218 section 7.1.
_NAMES: Final = {
    0x00: "DATA",
    0x01: "HEADERS",
    0x02: "PRIORITY",
    0x03: "RST_STREAM",
    0x04: "SETTINGS",
    0x05: "PUSH_PROMISE",
    0x06: "PING",
    0x07: "GOAWAY",
    0x08: "WINDOW_UPDATE",
    0x09: "CONTINUATION",
    0x0A: "ALTSVC",
    0x0C: "ORIGIN",
    0x10: "PRIORITY_UPDATE",
}
_ORIGIN: Final = 0x0C
_PRIORITY_UPDATE: Final = 0x10
_SETTINGS: Final = {
    **{int(code): code.name for code in SettingCodes},
    # RFC 9218 section 2.1
    0x9: "NO_RFC7540_PRIORITIES",
}
_CODES: Final = {int(code): code.name for code in ErrorCodes}
# Flags that a line of the log does not name: they say how the frame is written.
_HOW: Final = frozenset(["END_HEADERS", "PADDED", "PRIORITY"])
# Characters of a value that a line of the log shows.
_SHOWN: Final = 200


@dataclasses.dataclass(frozen=True, slots=True)
class FrameEvent:
    """A frame that was received or is sent, as :meth:`~aioh2.H2Protocol.tap` tells of it."""

    #: Seconds of the event loop's clock; ``time.time() + event.time - loop.time()`` is the time
    #: of day.
    time: float
    #: Which way it goes.
    direction: Literal["received", "sent"]
    #: The connection, by the name that it has in the log: ``c1``, ``s2``.
    connection: str
    #: The frame, hyperframe's. A received header block comes as one frame, whatever it came in;
    #: one that is sent as HEADERS or PUSH_PROMISE, and CONTINUATION where it takes more.
    frame: Frame
    #: The header list of HEADERS and PUSH_PROMISE as it was sent, in pairs of what
    #: ``header_encoding`` says; None where it cannot be decoded, and for all other frames.
    headers: HeaderList | None


#: What is called with each frame.
TapCallback: TypeAlias = Callable[[FrameEvent], object]
#: What :class:`Taps` calls them from: direction, frame, decoded fields.
FrameLog: TypeAlias = Callable[[str, Frame, Any], None]


class Taps:
    """Who watches the frames of one connection.

    ``watch``: called with what has to be called with each frame, its direction (``<`` or ``>``)
    and its decoded fields; with None when nobody watches any more.
    """

    __slots__ = ("_callbacks", "_decode", "_log", "_name", "_now", "_watch")

    def __init__(
        self,
        name: str,
        *,
        watch: Callable[[FrameLog | None], None],
        decode: Callable[[Any], Any],
        now: Callable[[], float],
        log: _Logger,
    ) -> None:
        # The connection, as events name it.
        self._name = name
        self._watch = watch
        # Makes of a header list what an application gets.
        self._decode = decode
        # The loop's clock.
        self._now = now
        # Told of callbacks that fail.
        self._log = log
        # Who is called, in order, each under a key of its own: one may be there twice.
        self._callbacks: dict[object, TapCallback] = {}

    def add(self, callback: TapCallback) -> Callable[[], None]:
        """Call ``callback`` with each frame from now on; return what removes it."""
        key = object()
        self._callbacks[key] = callback
        self._watch(self._passed)
        return functools.partial(self._remove, key)

    def _remove(self, key: object) -> None:
        self._callbacks.pop(key, None)
        if not self._callbacks:
            # frames need no objects any more
            self._watch(None)

    def _passed(self, direction: str, frame: Frame, fields: Any) -> None:
        event = FrameEvent(
            self._now(),
            "received" if direction == "<" else "sent",
            self._name,
            frame,
            None if fields is None else self._decode(fields),
        )
        for key, callback in list(self._callbacks.items()):
            try:
                callback(event)
            except Exception:
                self._remove(key)
                self._log.exception("the tap %r failed and is removed", callback)


def json_lines(file: TextIO, *, secrets: bool = False) -> TapCallback:
    """Return a callback of :meth:`~aioh2.H2Protocol.tap` that writes each frame as a line of JSON.

    ``file``: open for text. It may be that of several connections, and is neither flushed nor
    closed. ``secrets``: whether the values of authorization, proxy-authorization, cookie and
    set-cookie are written, and not ``...``. Bytes of DATA are not written in any case.

    Every line is an object with ``time`` (as of the event), ``wall`` (seconds since 1970, UTC),
    ``connection``, ``direction``, ``type`` (of an unknown frame ``"0xfa"``), ``stream_id``,
    ``flags`` (names) and ``length`` (bytes of the payload), and for

    * HEADERS, PUSH_PROMISE: ``headers`` (pairs; null where they cannot be decoded), with the
      former ``priority`` where it has one, with the latter ``promised_stream_id``;
    * PRIORITY: ``priority`` (``depends_on``, ``weight`` from 1 to 256, ``exclusive``);
    * RST_STREAM: ``error_code`` (its name, of an unknown one ``"0x1f"``);
    * SETTINGS: ``settings`` (values by name, of an unknown one ``"0x1f"``);
    * PING: ``opaque`` (hexadecimal);
    * GOAWAY: ``last_stream_id``, ``error_code``, ``debug_data`` (text);
    * WINDOW_UPDATE: ``increment``;
    * PRIORITY_UPDATE: ``prioritized_stream_id``, ``field``; ALTSVC: ``origin``, ``field``;
      ORIGIN: ``origins``.
    """
    started: list[float] = []

    def write(event: FrameEvent) -> None:
        if not started:
            # one difference for all lines: their distances stay true when the day's clock is set
            started.append(clocks.time() - event.time)
        line = {
            "time": event.time,
            "wall": started[0] + event.time,
            "connection": event.connection,
            "direction": event.direction,
            "type": frame_name(event.frame.type or 0),
            "stream_id": event.frame.stream_id,
            "flags": _flags(event.frame),
            "length": event.frame.body_len,
            **_details(event.frame, event.headers, secrets),
        }
        file.write(json.dumps(line) + "\n")

    return write


def frame_name(kind: int) -> str:
    """Return a frame type as the RFCs name it; an unknown one in hexadecimal."""
    return _NAMES.get(kind) or f"{kind:#x}"


def _flags(frame: Frame) -> list[str]:
    if isinstance(frame, ExtensionFrame):
        return [f"{frame.flag_byte:#x}"] if frame.flag_byte else []
    return sorted(frame.flags)


# --- what frames say -----------------------------------------------------------------------


def _details(frame: Frame, headers: HeaderList | None, secrets: bool) -> dict[str, Any]:
    """Return what is of one type of frame only, as JSON has it."""
    read = _READ.get(frame.type or 0)
    details = {} if read is None else read(frame)
    if isinstance(frame, (HeadersFrame, PushPromiseFrame)):
        details["headers"] = None if headers is None else _shown(headers, secrets)
    return details


def _shown(headers: HeaderList, secrets: bool) -> list[list[str]]:
    fields = ((_text(name), _text(value)) for name, value in headers)
    return [
        [name, value if secrets or name.lower() not in _SECRET else _HIDDEN]
        for name, value in fields
    ]


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "surrogateescape")


def _code(error_code: int) -> str:
    return _CODES.get(error_code) or f"{error_code:#x}"


def _read_headers(frame: Any) -> dict[str, Any]:
    return _read_priority(frame) if "PRIORITY" in frame.flags else {}


def _read_priority(frame: Any) -> dict[str, Any]:
    return {
        "priority": {
            "depends_on": frame.depends_on,
            "weight": frame.stream_weight + 1,
            "exclusive": bool(frame.exclusive),
        }
    }


def _read_settings(frame: Any) -> dict[str, Any]:
    # those that come are kept in order; of a repeated one the last holds
    entries = getattr(frame, "entries", None) or frame.settings.items()
    return {"settings": {_SETTINGS.get(code) or f"{code:#x}": value for code, value in entries}}


def _read_goaway(frame: Any) -> dict[str, Any]:
    return {
        "last_stream_id": frame.last_stream_id,
        "error_code": _code(frame.error_code),
        "debug_data": frame.additional_data.decode("utf-8", "backslashreplace"),
    }


def _read_alternative(frame: Any) -> dict[str, Any]:
    return {"origin": _text(frame.origin), "field": _text(frame.field)}


def _read_priority_update(frame: Any) -> dict[str, Any]:
    return {
        "prioritized_stream_id": int.from_bytes(frame.body[:4]) & 0x7FFF_FFFF,
        "field": _text(bytes(frame.body[4:])),
    }


def _read_origins(frame: Any) -> dict[str, Any]:
    origins, left = [], bytes(frame.body)
    while left:
        end = 2 + int.from_bytes(left[:2])
        origins.append(_text(left[2:end]))
        left = left[end:]
    return {"origins": origins}


_READ: Final[dict[int, Callable[[Any], dict[str, Any]]]] = {
    HeadersFrame.type: _read_headers,
    PriorityFrame.type: _read_priority,
    RstStreamFrame.type: lambda frame: {"error_code": _code(frame.error_code)},
    SettingsFrame.type: _read_settings,
    PushPromiseFrame.type: lambda frame: {"promised_stream_id": frame.promised_stream_id},
    PingFrame.type: lambda frame: {"opaque": bytes(frame.opaque_data).hex()},
    GoAwayFrame.type: _read_goaway,
    WindowUpdateFrame.type: lambda frame: {"increment": frame.window_increment},
    AltSvcFrame.type: _read_alternative,
    _PRIORITY_UPDATE: _read_priority_update,
    _ORIGIN: _read_origins,
}


# --- as a line of the log ------------------------------------------------------------------


def describe(frame: Frame, headers: HeaderList | None = None, *, secrets: bool = False) -> str:
    """Return a frame as a line of the log: ``HEADERS stream 1, END_STREAM, :method GET``.

    ``secrets``: as of :func:`json_lines`. Long values are cut, and what cannot be printed is
    escaped: a peer cannot begin a new line.
    """
    return f"{frame_name(frame.type or 0)} {', '.join(_parts(frame, headers, secrets))}".rstrip()


def _parts(frame: Frame, headers: HeaderList | None, secrets: bool) -> Iterator[str]:
    if frame.stream_id:
        yield f"stream {frame.stream_id}"
    elif frame.type == WindowUpdateFrame.type:
        yield "connection"
    if frame.type == DataFrame.type or frame.type not in _NAMES:
        yield f"{frame.body_len} bytes"
    for flag in _flags(frame):
        if flag not in _HOW:
            yield flag
    for key, value in _details(frame, headers, secrets).items():
        yield from _WORDS[key](value)


def _printable(text: str) -> str:
    if len(text) > _SHOWN:
        text = f"{text[:_SHOWN]}... ({len(text)} characters)"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _say_headers(headers: list[list[str]] | None) -> list[str]:
    if headers is None:
        return ["not decoded"]
    return [f"{_printable(name)} {_printable(value)}".rstrip() for name, value in headers]


def _say_priority(priority: dict[str, Any]) -> list[str]:
    said = [f"depends on {priority['depends_on']}", f"weight {priority['weight']}"]
    return [*said, "exclusive"] if priority["exclusive"] else said


def _say_text(text: str) -> list[str]:
    return [_printable(text)] if text else []


_WORDS: Final[dict[str, Callable[[Any], list[str]]]] = {
    "headers": _say_headers,
    "priority": _say_priority,
    "promised_stream_id": lambda stream_id: [f"promises stream {stream_id}"],
    "error_code": lambda code: [code],
    "settings": lambda settings: [f"{name} {value}" for name, value in settings.items()],
    "opaque": lambda opaque: [opaque],
    "last_stream_id": lambda stream_id: [f"last stream {stream_id}"],
    "debug_data": _say_text,
    "increment": lambda increment: [f"{increment} bytes"],
    "prioritized_stream_id": lambda stream_id: [f"of stream {stream_id}"],
    "field": _say_text,
    "origin": _say_text,
    "origins": lambda origins: [_printable(origin) for origin in origins],
}
