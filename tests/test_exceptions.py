"""``exceptions``: what each error says, whether a retry is safe, and that each can be copied."""

from __future__ import annotations

import copy
import inspect
import pickle
import unittest
from collections.abc import Callable

from h2.errors import ErrorCodes

from aioh2 import exceptions
from aioh2.exceptions import (
    AIOH2Exception,
    ConnectionClosed,
    HandshakeError,
    NotSupported,
    SendException,
    StreamClosed,
    StreamReset,
    describe_code,
)

SAFE = "it was not processed, a retry is safe"
REFUSED = StreamReset(5, ErrorCodes.REFUSED_STREAM)
TURNED_AWAY = ConnectionClosed(ErrorCodes.NO_ERROR, 3, b"bye", "peer", retryable=True)

#: One error of each kind and shape: the error, its whole message, whether a retry is safe.
ERRORS: list[tuple[AIOH2Exception, str, bool]] = [
    (AIOH2Exception("something"), "something", False),
    (REFUSED, f"stream 5 was reset by the peer: REFUSED_STREAM (0x7); {SAFE}", True),
    (StreamReset(7, 8), "stream 7 was reset by the peer: CANCEL (0x8)", False),
    (
        StreamReset(7, ErrorCodes.REFUSED_STREAM, "local"),
        "stream 7 was reset by this side: REFUSED_STREAM (0x7)",
        False,
    ),
    (
        StreamReset(9, 1, "local", reason="no ':path'"),
        "stream 9 was reset by this side: PROTOCOL_ERROR (0x1): no ':path'",
        False,
    ),
    (
        StreamReset(9, 0xBAD, "peer", retryable=True),
        f"stream 9 was reset by the peer: unknown code (0xbad); {SAFE}",
        True,
    ),
    (
        StreamReset(9, ErrorCodes.REFUSED_STREAM, retryable=False),
        "stream 9 was reset by the peer: REFUSED_STREAM (0x7)",
        False,
    ),
    (ConnectionClosed(), "the connection was lost", False),
    (
        ConnectionClosed(reason="[Errno 104] reset"),
        "the connection was lost: [Errno 104] reset",
        False,
    ),
    (ConnectionClosed(initiator="local"), "the connection was closed by this side", False),
    (
        ConnectionClosed(ErrorCodes.PROTOCOL_ERROR, 0, None, "local", reason="DATA on stream 0"),
        "the connection was closed by this side: PROTOCOL_ERROR (0x1), last stream 0: "
        "DATA on stream 0",
        False,
    ),
    (
        TURNED_AWAY,
        f"the connection was closed by the peer: NO_ERROR (0x0), last stream 3, b'bye'; {SAFE}",
        True,
    ),
    (
        SendException(b"abc", StreamReset(7, 8)),
        "3 bytes were not sent: stream 7 was reset by the peer: CANCEL (0x8)",
        False,
    ),
    (SendException(b"", REFUSED), f"0 bytes were not sent: {REFUSED}", True),
    (SendException(b"ab"), "2 bytes were not sent", False),
    (HandshakeError("the server chose no protocol"), "the server chose no protocol", True),
    (StreamClosed(5, "it was reset"), "stream 5 cannot be used: it was reset", False),
    (NotSupported("the client takes no push"), "the client takes no push", False),
]

COPIES: dict[str, Callable[[AIOH2Exception], AIOH2Exception]] = {
    "fresh": AIOH2Exception.fresh,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{
        f"pickle protocol {number}": lambda error, number=number: pickle.loads(
            pickle.dumps(error, number)
        )
        for number in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}


def raised(error: AIOH2Exception) -> AIOH2Exception:
    """Raise ``error`` while another is handled, so that it has a traceback and a context."""
    try:
        try:
            raise KeyError("context")
        except KeyError:
            raise error  # noqa: B904 - it is the context that is wanted
    except AIOH2Exception as caught:
        return caught


class TestHierarchy(unittest.TestCase):
    def test_direct_bases(self) -> None:
        bases = {
            AIOH2Exception: (Exception,),
            SendException: (AIOH2Exception,),
            HandshakeError: (AIOH2Exception, ConnectionError),
            ConnectionClosed: (AIOH2Exception,),
            StreamReset: (AIOH2Exception,),
            StreamClosed: (AIOH2Exception,),
            NotSupported: (AIOH2Exception,),
        }
        for kind, expected in bases.items():
            with self.subTest(kind=kind.__name__):
                self.assertEqual(kind.__bases__, expected)

    def test_it_is_closed(self) -> None:
        """Every error of the module is public, and has a row in the table above."""
        errors = {
            name
            for name, value in inspect.getmembers(exceptions, inspect.isclass)
            if issubclass(value, Exception)
        }
        self.assertEqual({type(error).__name__ for error, _, _ in ERRORS}, errors)
        self.assertEqual({*exceptions.__all__} - {"Initiator"}, errors)

    def test_a_failed_handshake_is_a_connection_error(self) -> None:
        with self.assertRaises(ConnectionError):
            raise HandshakeError("the peer speaks HTTP/1")


class TestMessages(unittest.TestCase):
    def test_message(self) -> None:
        for error, message, _ in ERRORS:
            with self.subTest(error=repr(error)):
                self.assertEqual(str(error), message)

    def test_the_promised_wording(self) -> None:
        self.assertEqual(
            str(StreamReset(5, 7)),
            "stream 5 was reset by the peer: REFUSED_STREAM (0x7); "
            "it was not processed, a retry is safe",
        )

    def test_a_code_has_its_name_and_its_number(self) -> None:
        for code, text in [
            (ErrorCodes.HTTP_1_1_REQUIRED, "HTTP_1_1_REQUIRED (0xd)"),
            (0, "NO_ERROR (0x0)"),
            (14, "unknown code (0xe)"),
            (2**32 - 1, "unknown code (0xffffffff)"),
        ]:
            with self.subTest(code=code):
                self.assertEqual(describe_code(code), text)


class TestRetryable(unittest.TestCase):
    def test_only_where_the_peer_has_not_processed_the_stream(self) -> None:
        for error, _, retryable in ERRORS:
            with self.subTest(error=repr(error)):
                self.assertIs(error.retryable, retryable)

    def test_the_message_says_so(self) -> None:
        for error, message, retryable in ERRORS:
            if not isinstance(error, HandshakeError):
                with self.subTest(error=repr(error)):
                    self.assertEqual(message.endswith(SAFE), retryable)


class TestAttributes(unittest.TestCase):
    def test_send_exception(self) -> None:
        error = SendException(b"rest", REFUSED)
        self.assertEqual(error.data, b"rest")
        self.assertIs(error.__cause__, REFUSED)
        self.assertIsNone(SendException(b"rest").__cause__)

    def test_connection_closed(self) -> None:
        error = ConnectionClosed(2, 9, b"why", "peer")
        self.assertEqual(
            (error.error_code, error.last_stream_id, error.debug_data, error.initiator),
            (2, 9, b"why", "peer"),
        )

    def test_connection_closed_without_goaway(self) -> None:
        error = ConnectionClosed()
        self.assertEqual(
            (error.error_code, error.last_stream_id, error.debug_data, error.initiator),
            (None, None, b"", "transport"),
        )

    def test_stream_reset(self) -> None:
        error = StreamReset(9, 2, "local")
        self.assertEqual((error.stream_id, error.error_code, error.initiator), (9, 2, "local"))
        self.assertEqual(StreamReset(9, 2).initiator, "peer")

    def test_the_reason_that_is_in_the_message(self) -> None:
        for error in (StreamReset(9, 2, reason="why"), ConnectionClosed(reason="why")):
            with self.subTest(error=repr(error)):
                self.assertEqual(error.reason, "why")
        for error in (StreamReset(9, 2), ConnectionClosed()):
            with self.subTest(error=repr(error)):
                self.assertEqual(error.reason, "")

    def test_stream_closed(self) -> None:
        self.assertEqual(StreamClosed(9, "it has ended").stream_id, 9)


class TestForStream(unittest.TestCase):
    def test_all_but_the_retry_is_kept(self) -> None:
        cause = OSError("broken pipe")
        error = ConnectionClosed(2, 9, b"why", "peer", reason="it broke")
        error.__cause__ = cause
        for retryable in (True, False):
            with self.subTest(retryable=retryable):
                one = error.for_stream(retryable=retryable)
                self.assertEqual(vars(one), {**vars(error), "retryable": retryable})
                self.assertIs(one.__cause__, cause)
                self.assertEqual(str(one), f"{error}; {SAFE}" if retryable else str(error))

    def test_the_original_is_left_alone(self) -> None:
        error = ConnectionClosed(2, 9)
        self.assertIsNot(error.for_stream(retryable=True), error)
        self.assertFalse(error.retryable)


class TestCopies(unittest.TestCase):
    def test_a_copy_is_another_object_that_says_the_same(self) -> None:
        for how, duplicate in COPIES.items():
            for error, message, retryable in ERRORS:
                with self.subTest(how=how, error=repr(error)):
                    other = duplicate(error)
                    self.assertIsNot(other, error)
                    self.assertIs(type(other), type(error))
                    self.assertEqual(other.args, error.args)
                    self.assertEqual(str(other), message)
                    self.assertIs(other.retryable, retryable)
                    self.assertEqual(vars(other), vars(error))

    def test_a_fresh_one_has_the_cause_but_neither_traceback_nor_context(self) -> None:
        for error, _, _ in ERRORS:
            with self.subTest(error=repr(error)):
                used = raised(error.fresh())
                self.assertIsNotNone(used.__traceback__)
                self.assertIsNotNone(used.__context__)
                fresh = used.fresh()
                self.assertIsNone(fresh.__traceback__)
                self.assertIsNone(fresh.__context__)
                self.assertIs(fresh.__cause__, error.__cause__)

    def test_what_one_waiter_adds_the_others_do_not_have(self) -> None:
        error = StreamReset(5, 8)
        mine = error.fresh()
        mine.add_note("while reading the index")
        self.assertEqual(vars(error).get("__notes__", []), [])

    def test_a_subclass_of_the_application_too(self) -> None:
        other = copy.copy(Custom(3, "three"))
        self.assertIs(type(other), Custom)
        self.assertEqual((str(other), other.stream_id, other.extra), (str(Custom(3)), 3, "three"))


class Custom(StreamClosed):
    """An error with a signature of its own, as an application may derive one."""

    def __init__(self, stream_id: int, extra: str = "") -> None:
        super().__init__(stream_id, "custom")
        self.extra = extra


if __name__ == "__main__":
    unittest.main()
