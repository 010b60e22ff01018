"""``Tunnel``: an asyncio transport over one stream's bytes, and the asyncio streams on it.

For CONNECT (RFC 9113 section 8.5), extended CONNECT (RFC 8441), and whatever else carries bytes
both ways. No task: what comes and what was sent wakes it by a future of the stream.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

from h2.errors import ErrorCodes

from .exceptions import AIOH2Exception, ConnectionClosed, StreamClosed, StreamReset
from .stream import H2Stream, retrieve

__all__ = ["ReaderWriter", "Tunnel", "open_streams"]

#: What ``open_connection`` of asyncio returns, too.
ReaderWriter: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]

# Bytes that wait to be framed before the writer has to: the limit of asyncio's own transports.
_HIGH: Final = 65_536


class TunnelReset(StreamReset, ConnectionResetError):
    """``StreamReset`` for those who use asyncio streams, and expect an ``OSError``."""


class TunnelClosed(ConnectionClosed, ConnectionResetError):
    """``ConnectionClosed`` for the same."""


class TunnelEnded(StreamClosed, RuntimeError):
    """``StreamClosed`` for a write after ``write_eof``: a ``RuntimeError`` of asyncio's own."""


_AS_OS_ERROR: Final[dict[type[AIOH2Exception], type[AIOH2Exception]]] = {
    StreamReset: TunnelReset,
    ConnectionClosed: TunnelClosed,
}


def _as_os_error(error: AIOH2Exception) -> AIOH2Exception:
    """Return a copy of ``error`` that is an ``OSError``, too."""
    kind = _AS_OS_ERROR.get(type(error))
    if kind is None:
        # an OSError already, as HandshakeError is
        return error.fresh()
    copy = kind.__new__(kind)
    copy.args = error.args
    copy.__dict__.update(error.__dict__)
    copy.__cause__ = error.__cause__
    return copy


class _Reader(asyncio.StreamReader):
    """asyncio's, which stays readable when all has come and the stream fails after that.

    A server that has sent all it wants to resets a request that goes on (RFC 9113 section 8.1).
    """

    # Whether the peer has ended its side.
    _ended = False

    def feed_eof(self) -> None:
        self._ended = True
        super().feed_eof()

    def set_exception(self, exc: Exception) -> None:
        if not self._ended:
            super().set_exception(exc)


class Tunnel(asyncio.Transport):
    """The bytes of one stream as an asyncio transport.

    END_STREAM is the end of file, both ways, and RST_STREAM what RST is to TCP.
    """

    # What loop.start_tls() asks for.
    _start_tls_compatible = True

    def __init__(
        self, stream: H2Stream, protocol: asyncio.BaseProtocol, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__()
        # Whose bytes these are.
        self._stream = stream
        # Who reads them, and is told what becomes of the rest.
        self._protocol = protocol
        self._loop = loop

        # Whether that one wants no bytes now: they stay in the stream, and hold its window.
        self._paused = False
        # Whether a call of _look is due, now or when more has come.
        self._watching = False
        # Whether the peer's END_STREAM was handed on.
        self._eof_received = False

        # Bytes that were written and wait to be framed.
        self._buffered = 0
        # From how many on the writer has to wait, and down to how many it goes on.
        self._high, self._low = _HIGH, _HIGH // 4
        # Whether it was told to wait.
        self._writing_paused = False
        # Whether any of them will not be.
        self._cut = False
        # Whether END_STREAM was written, and what that waits for.
        self._eof_written = stream.has_ended
        self._last: asyncio.Future[None] | None = None

        # Whether nothing is to be read or written any more.
        self._closing = False
        # Whether connection_lost was called, or is due.
        self._lost = False
        # How long the peer may take to end its side, after that.
        self._timer: asyncio.TimerHandle | None = None

        self._look_soon()

    def __repr__(self) -> str:
        state = "closed" if self._lost else "closing" if self._closing else "open"
        return f"<{type(self).__name__} {state} over {self._stream!r}>"

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the :class:`H2Stream` for ``"stream"``, else what the connection below knows."""
        if name == "stream":
            return self._stream
        if name == "sslcontext":
            # asyncio takes it for TLS in the tunnel, where no side can end without the other
            return default
        return self._stream.protocol.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand what comes from now on to another protocol."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol in use."""
        return self._protocol

    # --- reading -----------------------------------------------------------------------

    def is_reading(self) -> bool:
        """Whether bytes are handed on as they come."""
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        """Leave what comes in the stream, whose window is held by it."""
        self._paused = True

    def resume_reading(self) -> None:
        """Hand on what has come meanwhile, and what comes."""
        self._paused = False
        if not self._watching:
            self._look_soon()

    def _look_soon(self) -> None:
        self._watching = True
        self._loop.call_soon(self._look)

    def _watch(self) -> None:
        if not self._watching:
            self._watching = True
            self._stream.until_more().add_done_callback(self._look)

    def _look(self, _: object = None) -> None:
        """See what has come: bytes, then the end, or what ended the stream otherwise."""
        self._watching = False
        stream = self._stream
        if self._timer is not None:
            self._wait_for_end(self._timer)
            return
        try:
            while self.is_reading() and stream.unread:
                self._feed(stream.take_chunk())
            if self.is_reading() and stream.has_peer_ended and not self._eof_received:
                self._feed_eof()
        except Exception as error:
            self._fail(error)
        if not self.is_reading():
            return
        if stream.failure is not None:
            self._lose(stream.failure)
        else:
            self._watch()

    def _feed(self, data: bytes) -> None:
        protocol: Any = self._protocol
        if not isinstance(protocol, asyncio.BufferedProtocol):
            protocol.data_received(data)
            return
        left = memoryview(data)
        while left:
            room = memoryview(protocol.get_buffer(len(left)))
            count = min(len(room), len(left))
            if not count:
                raise BufferError("get_buffer() has returned no room")
            room[:count] = left[:count]
            left = left[count:]
            protocol.buffer_updated(count)

    def _feed_eof(self) -> None:
        self._eof_received = True
        protocol: Any = self._protocol
        if not protocol.eof_received():
            self.close()

    def _fail(self, error: Exception) -> None:
        """The protocol has failed to take what it was given."""
        self._loop.call_exception_handler(
            {
                "message": "a protocol in a tunnel has failed",
                "exception": error,
                "transport": self,
                "protocol": self._protocol,
            }
        )
        self.abort()

    # --- writing -----------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send ``data`` after all that was written; what becomes of it is for drain() to tell.

        Dropped where the tunnel is closing or lost, as every transport does. After
        ``write_eof`` it raises a :class:`StreamClosed` that is a ``RuntimeError``, too.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data must be bytes-like, not {type(data).__name__}")
        if self._closing or not len(data):
            return
        stream = self._stream
        if stream.failure is not None:
            self._failed()
            return
        if self._eof_written:
            raise TunnelEnded(stream.id, "this side has ended it already, by write_eof()")
        if stream.has_ended:
            self._lose(None)
            return
        data = bytes(data)
        future = stream.begin_sending(memoryview(data))
        if future is not None:
            self._buffered += len(data)
            future.add_done_callback(functools.partial(self._sent, len(data)))
            self._pause_or_resume()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Write them all, as one."""
        self.write(b"".join(list_of_data))

    def _sent(self, size: int, future: asyncio.Future[None]) -> None:
        retrieve(future)
        self._buffered -= size
        if self._stream.failure is not None:
            self._failed()
        self._pause_or_resume()

    def _failed(self) -> None:
        """The stream takes no more; what came before the peer's END_STREAM is read first."""
        self._cut = True
        if self._eof_received or not self._stream.has_peer_ended:
            self._lose(self._stream.failure)

    def _pause_or_resume(self) -> None:
        protocol: Any = self._protocol
        if self._lost:
            return
        if self._buffered > self._high and not self._writing_paused:
            self._writing_paused = True
            protocol.pause_writing()
        elif self._buffered <= self._low and self._writing_paused:
            self._writing_paused = False
            protocol.resume_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set how many bytes may wait before the writer has to: see ``asyncio.WriteTransport``."""
        if high is None:
            high = _HIGH if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high}) must be at least low ({low}), and low at least 0")
        self._high, self._low = high, low
        self._pause_or_resume()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the limits, the low one first."""
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait; a write counts as a whole until its last byte is framed."""
        return self._buffered

    def can_write_eof(self) -> bool:
        """Each side ends by itself."""
        return True

    def write_eof(self) -> None:
        """End this side with END_STREAM, after all that was written; the other goes on."""
        if self._eof_written or self._closing:
            return
        self._eof_written = True
        stream = self._stream
        if stream.failure is None and not stream.has_ended:
            self._last = stream.begin_ending()
            if self._last is not None:
                self._last.add_done_callback(retrieve)

    # --- the end -----------------------------------------------------------------------

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._closing

    def close(self) -> None:
        """Read nothing more; end this side, with END_STREAM, when all that was written is out.

        Then the peer has ``close_timeout`` to end its own. Where that runs out, or where bytes
        come that nobody reads, or have come, the stream is reset with CANCEL; on a server with
        NO_ERROR where it is no CONNECT.
        """
        if self._closing:
            return
        self.write_eof()
        self._closing = True
        if self._last is None:
            self._flushed()
        else:
            self._last.add_done_callback(self._flushed)

    def _flushed(self, _: object = None) -> None:
        stream = self._stream
        self._lose(stream.failure)
        if stream.is_over:
            return
        if stream.unread:
            self._stop()
            return
        self._timer = self._loop.call_later(stream.protocol.config.close_timeout, self._stop)
        self._watch()

    def _wait_for_end(self, timer: asyncio.TimerHandle) -> None:
        stream = self._stream
        if stream.is_over:
            timer.cancel()
        elif stream.unread:
            timer.cancel()
            self._stop()
        else:
            self._watch()

    def _stop(self) -> None:
        """The peer goes on, and nobody reads it: NO_ERROR for an upload (RFC 9113 section 8.1)."""
        if self._is_connect() or not self._stream.stop_upload():
            self._stream.reset(ErrorCodes.CANCEL)

    def abort(self) -> None:
        """Reset the stream at once, with CANCEL; what waits is dropped.

        The server's side of a plain CONNECT says CONNECT_ERROR: that is what its peer is told of
        a connection that was reset (RFC 9113 section 8.5).
        """
        self._force_close(None)

    # What asyncio's TLS calls where it has failed.
    def _force_close(self, exc: BaseException | None) -> None:
        self._lose(exc)
        broken = self._is_connect(plain=True) and not self._stream.protocol.client_side
        self._stream.reset(ErrorCodes.CONNECT_ERROR if broken else ErrorCodes.CANCEL)

    def _is_connect(self, *, plain: bool = False) -> bool:
        """Whether the request is a CONNECT; ``plain``: and not an extended one."""
        fields: dict[Any, Any] = dict(self._stream.request_headers)
        method = fields.get(":method", fields.get(b":method"))
        extended = ":protocol" in fields or b":protocol" in fields
        return method in ("CONNECT", b"CONNECT") and not (plain and extended)

    def _lose(self, error: BaseException | None) -> None:
        """Nothing goes in or out any more: tell the protocol, once."""
        self._closing = True
        if not self._lost:
            self._lost = True
            self._loop.call_soon(self._tell, error)

    def _tell(self, error: Any) -> None:
        if (
            isinstance(error, StreamReset)
            and error.error_code == ErrorCodes.NO_ERROR
            and self._stream.has_peer_ended
            and not self._cut
        ):
            # it wants no more, and lacks nothing (RFC 9113 section 8.1)
            error = None
        if isinstance(error, AIOH2Exception):
            error = _as_os_error(error)
        self._protocol.connection_lost(error)


def open_streams(stream: H2Stream) -> ReaderWriter:
    """Return asyncio streams over the bytes of ``stream``: see ``H2Stream.as_reader_writer``."""
    loop = asyncio.get_running_loop()
    reader = _Reader(loop=loop)
    made: list[asyncio.StreamWriter] = []
    # with a callback, asyncio takes this side for the server's in a TLS handshake
    protocol = asyncio.StreamReaderProtocol(
        reader,
        None if stream.protocol.client_side else lambda _, writer: made.append(writer),
        loop=loop,
    )
    transport = Tunnel(stream, protocol, loop)
    protocol.connection_made(transport)
    if not made:
        made.append(asyncio.StreamWriter(transport, protocol, reader, loop))
    return reader, made[0]
