"""Connections that are watched from their first frame on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..protocol import H2Protocol
from ..tap import FrameEvent, describe
from .terminal import Notes

__all__ = ["traced", "watched"]

# Received and sent, as the log has them, and in rich's words for colours.
_SIGNS = {"received": ("<", "cyan"), "sent": (">", "green")}


def watched(callback: Callable[[H2Protocol, FrameEvent], object]) -> type[H2Protocol]:
    """Return a class of connections that tell ``callback`` of each frame."""

    class Watched(H2Protocol):
        def __init__(self, client_side: bool, **options: Any) -> None:
            super().__init__(client_side, **options)
            # before the preface, so that the SETTINGS are seen
            self.tap(lambda event: callback(self, event))

    return Watched


def traced(notes: Notes) -> type[H2Protocol]:
    """Return a class of connections that write each frame as a line."""
    began: float | None = None

    def write(protocol: H2Protocol, event: FrameEvent) -> None:
        nonlocal began
        if began is None:
            began = event.time
        sign, style = _SIGNS[event.direction]
        milliseconds = (event.time - began) * 1000
        line = f"{milliseconds:10.3f} {event.connection} {sign} "
        notes.write(line + describe(event.frame, event.headers), style)

    return watched(write)
