"""What of aioh2's speed can be switched off, so that each optimisation can earn its place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["UnknownOptimisation", "names", "switch_off"]


class UnknownOptimisation(ValueError):
    """There is nothing of that name to switch off."""


def _fast() -> Any:
    # Imported late: which aioh2 it is depends on an option. The attribute is a NamedTuple of bools.
    from aioh2.connection import Connection

    return getattr(Connection, "fast", None)


def names() -> tuple[str, ...]:
    """What can be switched off; nothing where this aioh2 has no switches."""
    fast = _fast()
    return () if fast is None else tuple(fast._fields)


def switch_off(unwanted: Iterable[str]) -> None:
    """Do without these optimisations in all connections to come, in this process.

    Raises :class:`UnknownOptimisation`.
    """
    unwanted = list(unwanted)
    known = names()
    for name in unwanted:
        if name not in known:
            which = f"there are {', '.join(known)}" if known else "this aioh2 has no switches"
            raise UnknownOptimisation(f"no optimisation is called {name!r}: {which}")
    if unwanted:
        from aioh2.connection import Connection

        switched: Any = Connection
        switched.fast = switched.fast._replace(**dict.fromkeys(unwanted, False))
