"""The errors of aioh2: every one knows its code, who caused it, and whether a retry is safe.

A closed hierarchy under :class:`AIOH2Exception`. Bad arguments are ``TypeError`` and
``ValueError``.
"""

from __future__ import annotations

from typing import Any, Literal, Self, TypeAlias

from h2.errors import ErrorCodes

__all__ = [
    "AIOH2Exception",
    "ConnectionClosed",
    "HandshakeError",
    "Initiator",
    "NotSupported",
    "SendException",
    "StreamClosed",
    "StreamReset",
]

#: Who ended something: this side, the other side, or the transport below (no GOAWAY was seen).
Initiator: TypeAlias = Literal["local", "peer", "transport"]

_ACTOR = {"local": "this side", "peer": "the peer", "transport": "the transport"}
_SAFE = "it was not processed, a retry is safe"


def code_name(error_code: int) -> str:
    """Return the name of an RFC 9113 section 7 error code; all others have one in common."""
    try:
        return ErrorCodes(error_code).name
    except ValueError:
        return "unknown code"


def describe_code(error_code: int) -> str:
    """Return an RFC 9113 section 7 error code as text, ``CANCEL (0x8)``."""
    return f"{code_name(error_code)} ({error_code:#x})"


def _rebuild(
    kind: type[AIOH2Exception], args: tuple[Any, ...], state: dict[str, Any]
) -> AIOH2Exception:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class AIOH2Exception(Exception):
    """The base of every error that aioh2 raises about a connection or a stream."""

    #: True only when the peer guarantees that it did not process the stream: it refused it, said
    #: GOAWAY with a lower last-stream-id, or the HEADERS were never written.
    retryable: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, dict(self.__dict__))

    def fresh(self) -> Self:
        """Return a copy without traceback and context, so that each waiter raises its own."""
        copy = _rebuild(type(self), self.args, dict(self.__dict__))
        assert isinstance(copy, type(self))
        if self.__cause__ is not None:
            copy.__cause__ = self.__cause__
        return copy


class SendException(AIOH2Exception):
    """The peer or the connection ended the stream before all bytes could be sent.

    ``__cause__`` is the :class:`StreamReset` or :class:`ConnectionClosed` that says why.
    """

    #: The bytes that :meth:`~aioh2.H2Protocol.send_data` could not send.
    data: bytes

    def __init__(self, data: bytes, cause: AIOH2Exception | None = None) -> None:
        why = f": {cause}" if cause is not None else ""
        super().__init__(f"{len(data)} bytes were not sent{why}")
        self.data = data
        self.retryable: bool = cause.retryable if cause is not None else False
        if cause is not None:
            self.__cause__: BaseException | None = cause


class HandshakeError(AIOH2Exception, ConnectionError):
    """The peer does not speak HTTP/2: wrong ALPN, wrong preface, or silent for ``open_timeout``.

    No request was written, so a retry is safe (RFC 9113 sections 3.2 to 3.4).
    """

    retryable = True


class ConnectionClosed(AIOH2Exception):
    """The connection has ended, or takes no new streams (RFC 9113 section 6.8)."""

    #: The code of the GOAWAY that ended it; None where there was none.
    error_code: int | None
    #: The last-stream-id of that GOAWAY; None where there was none.
    last_stream_id: int | None
    #: The debug data of that GOAWAY.
    debug_data: bytes
    #: Who ended it: ``"local"`` is this side; ``"transport"``, that no GOAWAY was seen.
    initiator: Initiator

    def __init__(
        self,
        error_code: int | None = None,
        last_stream_id: int | None = None,
        debug_data: bytes | None = None,
        initiator: Initiator = "transport",
        *,
        reason: str = "",
        retryable: bool = False,
    ) -> None:
        self.error_code = error_code
        self.last_stream_id = last_stream_id
        self.debug_data = debug_data or b""
        self.initiator = initiator
        #: What there is to say beside that: of a time limit, what it waited for; ``""``: nothing.
        self.reason = reason
        self.retryable = retryable
        super().__init__(self._message())

    def _message(self) -> str:
        if self.initiator == "transport":
            text = "the connection was lost"
        else:
            text = f"the connection was closed by {_ACTOR[self.initiator]}"
        if self.error_code is not None:
            text += f": {describe_code(self.error_code)}"
        if self.last_stream_id is not None:
            text += f", last stream {self.last_stream_id}"
        if self.debug_data:
            text += f", {self.debug_data!r}"
        if self.reason:
            text += f": {self.reason}"
        return f"{text}; {_SAFE}" if self.retryable else text

    def for_stream(self, *, retryable: bool) -> ConnectionClosed:
        """Return the same error for one stream, with what is known about a retry of it."""
        error = ConnectionClosed(
            self.error_code,
            self.last_stream_id,
            self.debug_data,
            self.initiator,
            reason=self.reason,
            retryable=retryable,
        )
        if self.__cause__ is not None:
            error.__cause__ = self.__cause__
        return error


class StreamReset(AIOH2Exception):
    """The stream was ended early with RST_STREAM (RFC 9113 section 6.4)."""

    #: The stream.
    stream_id: int
    #: The code of that RST_STREAM: one of :class:`ErrorCodes`, or any other number.
    error_code: int
    #: ``"peer"``, or ``"local"`` where this side reset it: the application, or aioh2 because
    #: the peer broke a rule.
    initiator: Initiator

    def __init__(
        self,
        stream_id: int,
        error_code: int,
        initiator: Initiator = "peer",
        *,
        reason: str = "",
        retryable: bool | None = None,
    ) -> None:
        self.stream_id = stream_id
        self.error_code = error_code
        self.initiator = initiator
        #: Which rule the peer broke, or which time limit is over, where aioh2 reset the stream
        #: for that; else ``""``.
        self.reason = reason
        if retryable is None:
            retryable = initiator == "peer" and error_code == ErrorCodes.REFUSED_STREAM
        self.retryable = retryable
        text = f"stream {stream_id} was reset by {_ACTOR[initiator]}: {describe_code(error_code)}"
        if reason:
            text += f": {reason}"
        super().__init__(f"{text}; {_SAFE}" if retryable else text)


class StreamClosed(AIOH2Exception):
    """The application used a stream that it has ended, or one that is unknown."""

    #: The stream.
    stream_id: int

    def __init__(self, stream_id: int, reason: str) -> None:
        super().__init__(f"stream {stream_id} cannot be used: {reason}")
        self.stream_id = stream_id


class NotSupported(AIOH2Exception):
    """Something was asked of a peer that has not offered it.

    Push, extended CONNECT, or a header list larger than its SETTINGS_MAX_HEADER_LIST_SIZE.
    """
