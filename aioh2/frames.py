"""Frames in and out (RFC 9113 section 4): ``FrameBuffer`` cuts, ``Output`` gathers.

What is wrong with a frame is refused as soon as it can be seen, by its nine header bytes where
those tell. Most frames need no object: they come out as a tuple, the others as hyperframe's.
"""

from __future__ import annotations

import struct
from typing import Any, Final, Self, TypeAlias

from h2.errors import ErrorCodes
from h2.exceptions import (
    FrameDataMissingError,
    FrameTooLargeError,
    ProtocolError,
)
from hyperframe.exceptions import InvalidDataError, InvalidFrameError, InvalidPaddingError
from hyperframe.frame import (
    AltSvcFrame,
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from .config import Config
from .guards import BULK, BudgetExceeded, Guards

__all__ = ["COUNTED", "FrameBuffer", "Output", "PlainFrame", "PrefaceError", "StreamError"]

#: Types that are counted each by itself; all others count as the last, together.
COUNTED: Final = 0x11
#: DATA without padding, or HEADERS in one piece: type, END_STREAM, stream id, payload.
PlainFrame: TypeAlias = tuple[int, bool, int, bytes]

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADER: Final = 9
# length (in two parts), type, flags and stream id (section 4.1)
_unpack_header: Final = struct.Struct(">HBBBL").unpack_from
_pack_header: Final = struct.Struct(">HBBBL").pack
_DATA: Final = DataFrame.type
_HEADERS: Final = HeadersFrame.type
_ACK: Final = 0x01
_END_STREAM: Final = 0x01
_END_HEADERS: Final = 0x04
_PADDED: Final = 0x08
_PRIORITY: Final = 0x20
# HEADERS with such a flag may be empty and still have bytes (RFC 9113 section 6.2).
_PREFIXED: Final = _PADDED | _PRIORITY
_BUT_END_STREAM: Final = 0xFE
# The flags of a frame that needs no parsing, but for END_STREAM, by type.
_PLAIN_FLAGS: Final = {DataFrame.type: 0, HeadersFrame.type: _END_HEADERS}
# Frames of one length only (RFC 9113 sections 6.4, 6.7 and 6.9), by type.
_FIXED_LENGTH: Final = {RstStreamFrame.type: 4, PingFrame.type: 8, WindowUpdateFrame.type: 4}


class PrefaceError(ProtocolError):
    """The peer's first bytes are not those of HTTP/2 (RFC 9113 section 3.4)."""


class StreamError(Exception):
    """What ends one stream and leaves the connection alone (RFC 9113 section 5.4.2)."""

    def __init__(self, stream_id: int, error_code: ErrorCodes, reason: str) -> None:
        super().__init__(reason)
        self.stream_id = stream_id
        self.error_code = error_code


class Output:
    """What waits to be written, in pieces that are joined, and so copied, once.

    ``+=`` takes bytes, as the bytearray does for which it stands in.
    """

    __slots__ = ("_pieces", "_size", "counts")

    def __init__(self) -> None:
        #: Frames that were added, by type.
        self.counts = [0] * (COUNTED + 1)
        self._pieces: list[bytes | memoryview] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iadd__(self, data: bytes) -> Self:
        self._pieces.append(data)
        self._size += len(data)
        return self

    def add_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Add a frame."""
        self.counts[kind] += 1
        size = len(payload)
        self._pieces += (_pack_header(size >> 8, size & 0xFF, kind, flags, stream_id), payload)
        self._size += _HEADER + size

    def add_data(self, stream_id: int, data: memoryview, limit: int, ends: bool) -> None:
        """Add DATA in frames of ``limit`` bytes; what may change of it is copied now."""
        if type(data.obj) is not bytes:
            data = memoryview(bytes(data))
        size, pieces, at = len(data), self._pieces, 0
        if size > limit:
            full = _pack_header(limit >> 8, limit & 0xFF, DataFrame.type, 0, stream_id)
            while size - at > limit:
                pieces += (full, data[at : at + limit])
                at += limit
            full_ones = at // limit
            self.counts[_DATA] += full_ones
            self._size += full_ones * _HEADER
        self.counts[_DATA] += 1
        rest = size - at
        last = _pack_header(rest >> 8, rest & 0xFF, DataFrame.type, ends, stream_id)
        pieces += (last, data[at:])
        self._size += _HEADER + size

    def take(self) -> bytes:
        """Return all of it, and begin anew."""
        pieces, self._pieces, self._size = self._pieces, [], 0
        return b"".join(pieces)


class FrameBuffer:
    """Cuts what arrives into frames, and has each charged before it is parsed."""

    def __init__(
        self, server: bool, *, limits: Config | None = None, guards: Guards | None = None
    ) -> None:
        self._server = server
        limits = limits or Config()
        # What frames are charged to.
        self._guards = guards or Guards(limits)
        #: SETTINGS_MAX_FRAME_SIZE of this side.
        self.max_frame_size = 16_384
        #: Bytes that a header block may have over all its frames.
        self.max_block_size = limits.max_header_block_size
        # And how many CONTINUATION frames.
        self._max_continuations = limits.max_continuations
        #: Whether plain frames are handed out as such, and not as hyperframe's.
        self.plainly = True
        #: Frames that have come, by type.
        self.counts = [0] * (COUNTED + 1)
        #: Frames and header blocks that have come completely.
        self.units = 0
        #: Bytes of the frames that have come out, but for DATA; set to 0 by who counts them.
        self.weight = 0
        # What is left of the client's preface (RFC 9113 section 3.4).
        self._preface = _PREFACE if server else b""
        # Whether the SETTINGS frame that every peer starts with has come (the same section).
        self._settings_came = False
        # What is being cut, and up to where.
        self._data = b""
        self._at = 0
        # What came after it, and up to where it is used.
        self._later = b""
        self._later_at = 0
        # The beginning of a frame whose rest has not come, and how many bytes it needs.
        self._rest = bytearray()
        self._needed = 0
        # The frames of a header block that has begun and not ended.
        self._block: list[Any] = []

    @property
    def mid_frame(self) -> bool:
        """Whether a frame or a header block has begun and not ended."""
        return bool(self._rest or self._block)

    @property
    def has_more(self) -> bool:
        """Whether there are bytes of which no frame was cut."""
        return self._at < len(self._data) or self._later_at < len(self._later)

    def add_data(self, data: bytes) -> None:
        """Add received bytes, when those before are used up; raises ``PrefaceError``."""
        if self._preface:
            data = self._check_preface(bytes(data))
        self._later, self._later_at = bytes(data), 0
        self._go_on(_HEADER)

    def _check_preface(self, data: bytes) -> bytes:
        size = len(self._preface)
        if not data.startswith(self._preface[: len(data)]):
            what = "HTTP/1" if b"HTTP/1" in data[:4096] else "something else"
            raise PrefaceError(
                f"the client speaks {what}: it began with {data[:24]!r}, not the HTTP/2 preface"
            )
        self._preface = self._preface[len(data) :]
        return data[size:]

    def next_frame(self) -> PlainFrame | Frame | None:
        """Return the next frame, None when no whole one is there.

        Raises ``ProtocolError`` with what is wrong for the connection, ``StreamError`` where it
        is wrong for one stream; then the frames after it follow.
        """
        while True:
            data, start = self._data, self._at
            body = start + _HEADER
            if len(data) < body:
                if self._go_on(_HEADER):
                    continue
                return None
            high, low, kind, flags, stream_id = _unpack_header(data, start)
            length = high << 8 | low
            stream_id &= 0x7FFF_FFFF
            self._check_header(length, kind, flags, stream_id)
            end = body + length
            if len(data) < end:
                if self._go_on(_HEADER + length):
                    continue
                return None
            self._at = end
            try:
                self.counts[kind] += 1
            except IndexError:
                self.counts[COUNTED] += 1
            if kind == _DATA and length > 1:
                self._guards.content_received += 1
                if length >= BULK:
                    self._guards.bulk_received += 1
            else:
                self.weight += _HEADER + length
                if kind != _HEADERS or not length or flags & _PREFIXED:
                    self._guards.received(kind, length, flags)
            if stream_id and self.plainly and _PLAIN_FLAGS.get(kind) == flags & _BUT_END_STREAM:
                if length > self.max_block_size and kind == _HEADERS:
                    raise self._too_large()
                self.units += 1
                return kind, bool(flags & _END_STREAM), stream_id, data[body:end]
            if kind == AltSvcFrame.type and (self._server or not _holds_origin(data[body:end])):
                # for clients only, and what cannot be read is ignored (RFC 7838 section 4)
                continue
            frame = self._join(_parse(data[start:end], length, kind, flags, stream_id))
            if frame is not None:
                self.units += 1
                return frame

    def _go_on(self, needed: int) -> bool:
        """Go on with what came later; whether there is enough for the next step.

        A frame that is there in part is kept until the ``needed`` bytes are. So only such frames
        are copied before they are cut, and a frame that comes byte by byte is copied once.
        """
        if self._at < len(self._data):
            self._rest += memoryview(self._data)[self._at :]
            self._needed = needed
        if not self._rest:
            self._data, self._at = self._later, self._later_at
            self._later, self._later_at = b"", 0
            return self._at < len(self._data)
        end = self._later_at + self._needed - len(self._rest)
        self._rest += memoryview(self._later)[self._later_at : end]
        self._later_at = end
        self._data, self._at = b"", 0
        if len(self._rest) < self._needed:
            self._later, self._later_at = b"", 0
            return False
        self._data = bytes(self._rest)
        self._rest.clear()
        return True

    def _check_header(self, length: int, kind: int, flags: int, stream_id: int) -> None:
        if not self._settings_came:
            self._check_first(kind, flags, stream_id)
        if self._block and (
            kind != ContinuationFrame.type or stream_id != self._block[0].stream_id
        ):
            # RFC 9113 section 4.3
            raise ProtocolError("invalid frame between HEADERS and their CONTINUATION")
        if length > self.max_frame_size:
            raise FrameTooLargeError(
                f"a frame of {length} bytes came, where {self.max_frame_size} are allowed"
            )
        if length != _FIXED_LENGTH.get(kind, length):
            raise FrameDataMissingError(f"a frame of type {kind} has {length} bytes")
        if kind == SettingsFrame.type and length and (length % 6 or flags & _ACK):
            raise FrameDataMissingError(f"a SETTINGS frame has {length} bytes")
        self._settings_came = True

    def _too_large(self) -> BudgetExceeded:
        return BudgetExceeded(
            "max_header_block_size", f"a header block exceeds {self.max_block_size} bytes"
        )

    def _check_first(self, kind: int, flags: int, stream_id: int) -> None:
        if kind == SettingsFrame.type and not flags & _ACK and not stream_id:
            return
        start = self._data[:24]
        if start.startswith(b"HTTP/"):
            raise PrefaceError(f"the server speaks HTTP/1: it began with {start!r}")
        raise PrefaceError(f"the peer's first frame is not SETTINGS; it began with {start!r}")

    def _join(self, frame: Frame) -> Frame | None:
        """Return ``frame``; for header blocks, the first frame with the data of all, at the end."""
        block = self._block
        if isinstance(frame, (HeadersFrame, PushPromiseFrame)):
            block.append(frame)
        elif isinstance(frame, ContinuationFrame) and block:
            block.append(frame)
            most = self._max_continuations
            if len(block) > 1 + most:
                raise BudgetExceeded(
                    "max_continuations", f"a header block has more than {most} CONTINUATION frames"
                )
        else:
            return frame
        if sum(len(part.data) for part in block) > self.max_block_size:
            raise self._too_large()
        if "END_HEADERS" not in frame.flags:
            return None
        first: Frame = block[0]
        block[0].data = b"".join(part.data for part in block)
        first.body_len = sum(part.body_len for part in block)
        first.flags.add("END_HEADERS")
        block.clear()
        return first


def _holds_origin(payload: bytes) -> bool:
    """Whether an ALTSVC frame has its Origin-Len, and as much as that says (RFC 7838 section 4)."""
    return len(payload) >= 2 + int.from_bytes(payload[:2])


def _parse(raw: bytes, length: int, kind: int, flags: int, stream_id: int) -> Frame:
    if kind == PriorityFrame.type and length != 5 and stream_id:
        # RFC 9113 section 6.3
        raise StreamError(stream_id, ErrorCodes.FRAME_SIZE_ERROR, "PRIORITY of wrong length")
    if kind == WindowUpdateFrame.type and stream_id and not int.from_bytes(raw[9:]) & 0x7FFF_FFFF:
        # RFC 9113 section 6.9
        raise StreamError(stream_id, ErrorCodes.PROTOCOL_ERROR, "WINDOW_UPDATE of zero")
    if flags & _PADDED:
        raw = _without_padding(raw, length, kind, flags)
    if kind in (PushPromiseFrame.type, WindowUpdateFrame.type) and length >= 4:
        # a reserved bit, which is ignored (RFC 9113 sections 6.6 and 6.9)
        raw = raw[:_HEADER] + bytes([raw[_HEADER] & 0x7F]) + raw[_HEADER + 1 :]
    try:
        frame, _ = Frame.parse_frame_header(memoryview(raw)[:_HEADER])
    except InvalidDataError as error:
        raise ProtocolError(f"Received frame with invalid header: {error}") from error
    try:
        frame.parse_body(memoryview(raw)[_HEADER:])
    except InvalidFrameError as error:
        raise FrameDataMissingError(str(error)) from error
    except (InvalidDataError, InvalidPaddingError) as error:
        raise ProtocolError(str(error)) from error
    # with the padding that was taken off
    frame.body_len = length
    if kind == SettingsFrame.type:
        # in order and with repetitions, which a dict does not keep (RFC 9113 section 6.5.3)
        settings: Any = frame
        settings.entries = [
            (int.from_bytes(raw[at : at + 2]), int.from_bytes(raw[at + 2 : at + 6]))
            for at in range(_HEADER, len(raw), 6)
        ]
    return frame


def _without_padding(raw: bytes, length: int, kind: int, flags: int) -> bytes:
    """Check the padding (RFC 9113 sections 6.1, 6.2, 6.6); take it off a frame with headers.

    That of DATA stays, since it counts for flow control. hyperframe refuses padding that fills
    a frame, which is legal.
    """
    needed = {DataFrame.type: 1, HeadersFrame.type: 1, PushPromiseFrame.type: 5}.get(kind)
    if needed is None:
        return raw
    if kind == HeadersFrame.type and flags & _PRIORITY:
        needed += 5
    if length < needed:
        raise FrameDataMissingError(f"a padded frame of type {kind} has {length} bytes")
    padding = raw[_HEADER]
    if padding + needed > length:
        raise ProtocolError(f"{padding} bytes of padding in a frame of {length}")
    if kind == DataFrame.type:
        return raw
    header = raw[:4] + bytes([flags & ~_PADDED]) + raw[5:_HEADER]
    return header + raw[_HEADER + 1 : len(raw) - padding]
