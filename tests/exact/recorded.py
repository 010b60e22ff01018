"""Sessions of other programs with a server of plain h2, as ``record.py`` wrote them down."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from typing import Any

from traffic import Call, Session, Step

SESSIONS = pathlib.Path(__file__).resolve().parent / "sessions"


def load() -> Iterator[tuple[str, Session]]:
    """Return the sessions, by name."""
    paths = sorted(SESSIONS.glob("*.json"))
    if not paths:
        raise FileNotFoundError(f"no recorded sessions in {SESSIONS}")
    for path in paths:
        steps = [_step(entry) for entry in json.loads(path.read_text(encoding="ascii"))]
        yield path.stem, Session(False, {}, steps)


def _step(entry: Any) -> Step:
    if isinstance(entry, str):
        return bytes.fromhex(entry)
    name, arguments, options = entry
    return Call(name, tuple(_argument(argument) for argument in arguments), options)


def _argument(value: Any) -> Any:
    if isinstance(value, list):
        return [tuple(pair) for pair in value]
    return value.encode() if isinstance(value, str) else value
