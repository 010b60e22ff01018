"""``Priorities``: which of the two schedulers decides, and what is signalled to it.

The tree of RFC 7540 does, until anything says that it is RFC 9218.
"""

from __future__ import annotations

from collections.abc import Container

from .scheduler import Priority, TreeScheduler, UrgencyScheduler
from .sender import Sender

__all__ = ["Priorities", "field_of"]


class Priorities:
    """Who sends next on one connection, as signals of either RFC have it."""

    def __init__(self, tree: TreeScheduler, sender: Sender, open_streams: Container[int]) -> None:
        # That of RFC 7540, by which the sender goes at first.
        self._tree = tree
        self._sender = sender
        # The ids that are open.
        self._open = open_streams
        #: That of RFC 9218, once it decides.
        self.urgencies: UrgencyScheduler | None = None

    def by_urgency(self) -> UrgencyScheduler:
        """From now on, RFC 9218 decides who sends next."""
        if self.urgencies is None:
            self.urgencies = UrgencyScheduler(self._open)
            self._sender.order_by(self.urgencies)
        return self.urgencies

    def field_received(self, stream_id: int, field: bytes, *, initial: bool = False) -> None:
        """The peer has sent a ``priority`` field; ``initial``: in a request."""
        self.by_urgency().prioritize(stream_id, Priority.parse(field), initial=initial)

    def reprioritize(self, stream_id: int, parent: int, weight: int, exclusive: bool) -> None:
        """Give a stream its place in the tree; in vain once RFC 9218 decides."""
        if self.urgencies is None:
            self._tree.reprioritize(
                stream_id, parent, weight, exclusive, parent_open=parent in self._open
            )


def field_of(priority: Priority) -> str:
    """Return the text of a ``priority`` field, which says something also for the defaults."""
    if not isinstance(priority, Priority):
        raise TypeError(f"priority must be a Priority or None, not {priority!r}")
    return str(priority) or f"u={priority.urgency}"
