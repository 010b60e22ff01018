"""What a connection must not leave behind."""

from __future__ import annotations

from ..protocol import H2Protocol

__all__ = ["assert_no_leaks"]


def assert_no_leaks(*protocols: H2Protocol) -> None:
    """Raise AssertionError where a connection still holds what belongs to streams that are over.

    To be called when nothing should be going on: every stream was ended, reset or left, and every
    call on it has returned. Then no stream is open, nobody waits (for a slot, a window, a response,
    bytes, a PING), no body waits to go out, no handler runs, and the connection window has all its
    credit, whether the connection is open or closed. The message names what is left.
    """
    found = [f"{protocol!r}: {what}" for protocol in protocols for what in protocol.left_behind()]
    if found:
        raise AssertionError("\n".join(["left behind:", *found]))
