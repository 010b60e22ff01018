"""What a connection must not leave behind."""

from __future__ import annotations

import asyncio
from typing import Final

from ..protocol import H2Protocol

__all__ = ["assert_no_leaks", "left_behind"]

# What is about to end has as many turns of the loop for that.
_TURNS: Final = 50


async def assert_no_leaks(*protocols: H2Protocol) -> None:
    """Raise AssertionError where a connection still holds what belongs to streams that are over.

    To be awaited when nothing should be going on: every stream was ended, reset or left, and every
    call on it has returned. What is about to end may do so first: the loop gets a few turns, and
    no time. The message names what is left, as :func:`left_behind` does.
    """
    for _ in range(_TURNS):
        found = [f"{each!r}: {what}" for each in protocols for what in left_behind(each)]
        if not found:
            return
        await asyncio.sleep(0)
    raise AssertionError("\n".join(["left behind:", *found]))


def left_behind(protocol: H2Protocol) -> list[str]:
    """Say what a connection holds at this moment that belongs to no stream or call at rest.

    Nothing, where no stream is open, nobody waits (for a slot, a window, a response, bytes, a
    PING), no body waits to go out, no handler runs, the connection's window has all its credit,
    and no more ended streams are kept than ``concurrency``. Whoever waits for the next stream
    of an open connection, or for its end, may.
    """
    found = []
    driver = protocol._driver
    over = driver.closing.over
    table = driver.table
    nobodys = [stream for stream in table.held if stream.id not in table.inbound]
    for count, what in (
        (len(table.open), "open streams"),
        (len(driver.opener.slots), "requests that wait for a slot"),
        (len(driver.sender), "bodies to send"),
        (len(driver.pings) if driver.pings else 0, "calls that wait for a PING or any bytes"),
        (len(table.accepting) if over else 0, "calls that wait for a stream"),
        (len(driver.closing.lost_waiters) if over else 0, "calls that wait for the end"),
        (len(driver.closing.tallies), "shutdowns"),
        (len(driver.handlers), "handlers"),
        (len(nobodys), "streams that count though nobody works for them"),
        (max(len(table.ended) - protocol.config.concurrency, 0), "ended streams too many"),
        (driver.missing_credit, "bytes of the connection's window"),
    ):
        if count:
            found.append(f"{count} {what}")
    waited_for = [stream for stream in table.ended.values() if stream.is_waited_for]
    return [*found, *(f"calls that wait on {stream!r}" for stream in waited_for)]
