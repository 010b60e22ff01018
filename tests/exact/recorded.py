"""Sessions of other programs with a server of plain h2."""

from __future__ import annotations

from collections.abc import Iterator

from traffic import Session


def load() -> Iterator[tuple[str, Session]]:
    yield from ()
