"""Who sends next: the order of the streams that have something to send, and nothing else.

``TreeScheduler`` follows RFC 7540 section 5.3 on the tree of the ``priority`` package.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import priority

__all__ = ["TreeScheduler"]


class TreeScheduler:
    """Streams in the order of the RFC 7540 dependency tree.

    The tree of ``priority`` costs time in proportion to its size, so a stream is in it only
    while the peer's signals matter: as long as nobody has signalled anything all streams are
    equal siblings, and the next one is simply the one that has waited longest.
    """

    #: Streams that signals may keep in the tree, of which the oldest is forgotten.
    SIGNALS = 100
    #: Streams that may be in the tree at once; further ones take turns beside it. It bounds how
    #: deep the tree can get, and so the recursion of ``priority``.
    NODES = 200

    def __init__(self) -> None:
        self._tree = priority.PriorityTree(maximum_streams=self.NODES)
        # What is in the tree because of a signal (the oldest first).
        self._signalled: dict[int, None] = {}
        # What is in the tree, and whether it is ready there.
        self._nodes: dict[int, bool] = {}
        # How many of them are ready.
        self._ready_nodes = 0
        # Ready, and not in the tree, the next one first.
        self._queue: OrderedDict[int, None] = OrderedDict()
        # Whether the tree had the last turn, for when both have something.
        self._tree_was_last = False

    def __len__(self) -> int:
        """Count the streams that this scheduler holds anything about."""
        return len(self._nodes) + len(self._queue)

    def __bool__(self) -> bool:
        """Whether any stream is ready."""
        return bool(self._ready_nodes or self._queue)

    @property
    def has_one(self) -> bool:
        """Whether exactly one stream is ready."""
        return self._ready_nodes + len(self._queue) == 1

    def ready(self, stream_id: int) -> None:
        """The stream has something that it may send now."""
        if stream_id in self._queue:
            return
        if stream_id in self._nodes or (self._signalled and self._insert(stream_id)):
            self._activate(stream_id, True)
        else:
            self._queue[stream_id] = None

    def blocked(self, stream_id: int) -> None:
        """The stream has nothing to send, or may not send it now."""
        self._queue.pop(stream_id, None)
        if stream_id in self._nodes:
            # it keeps its place: who enters the tree anew comes before all who wait in it
            self._activate(stream_id, False)

    def remove(self, stream_id: int) -> None:
        """The stream is closed: forget it."""
        self._queue.pop(stream_id, None)
        self._signalled.pop(stream_id, None)
        self._drop(stream_id)

    def next(self) -> int | None:
        """Return the stream whose turn it is, or None; it stays ready."""
        if self._ready_nodes and not (self._queue and self._tree_was_last):
            self._tree_was_last = True
            return next(self._tree)
        self._tree_was_last = False
        if not self._queue:
            return None
        stream_id = next(iter(self._queue))
        self._queue.move_to_end(stream_id)
        return stream_id

    def reprioritize(
        self,
        stream_id: int,
        depends_on: int = 0,
        weight: int = 16,
        exclusive: bool = False,
        *,
        parent_open: bool = False,
    ) -> None:
        """Take a signal of RFC 7540 section 5.3.

        ``parent_open``: whether ``depends_on`` is an open stream. One that is not, and that
        nobody has signalled anything about, is not in the tree, and the stream gets the default
        priority (section 5.3.1).
        """
        if (
            depends_on
            and depends_on not in self._nodes
            and not (parent_open and self._signal(depends_on))
        ):
            depends_on, weight, exclusive = 0, 16, False
        if not self._signal(stream_id):
            return
        if depends_on and depends_on not in self._nodes:
            # it was the oldest, and has made room for this one
            depends_on, weight, exclusive = 0, 16, False
        try:
            self._make_way(stream_id, depends_on)
            self._tree.reprioritize(stream_id, depends_on, weight, exclusive)
        except priority.PriorityLoop:
            # deeper than the package follows: the stream keeps the place it has
            return

    def _make_way(self, stream_id: int, depends_on: int) -> None:
        """Move a descendant that the stream is to depend on above it (RFC 7540 section 5.3.3).

        The package does that itself, and leaves the descendant's children in two places.
        Relies on ``PriorityTree._streams``: the nodes by id, with their parent and weight.
        """
        nodes: Any = self._tree._streams
        ancestor = nodes[depends_on]
        while ancestor.stream_id not in (0, stream_id):
            ancestor = ancestor.parent
        if ancestor.stream_id and depends_on != stream_id:
            above = nodes[stream_id].parent.stream_id
            self._tree.reprioritize(depends_on, above, nodes[depends_on].weight)

    def _signal(self, stream_id: int) -> bool:
        """Keep the stream in the tree for a signal's sake; False: there is no room."""
        if not self._signalled:
            self._move_queue_into_tree()
        if stream_id not in self._nodes and not self._insert(stream_id):
            return False
        self._signalled.pop(stream_id, None)
        self._signalled[stream_id] = None
        if stream_id in self._queue:
            del self._queue[stream_id]
            self._activate(stream_id, True)
        if len(self._signalled) > self.SIGNALS:
            oldest = next(iter(self._signalled))
            del self._signalled[oldest]
            if not self._nodes[oldest]:
                self._drop(oldest)
        return True

    def _move_queue_into_tree(self) -> None:
        for stream_id in list(self._queue):
            if not self._insert(stream_id):
                return
            del self._queue[stream_id]
            self._activate(stream_id, True)

    def _insert(self, stream_id: int) -> bool:
        try:
            self._tree.insert_stream(stream_id)
        except priority.TooManyStreamsError:
            return False
        self._tree.block(stream_id)
        self._nodes[stream_id] = False
        return True

    def _drop(self, stream_id: int) -> None:
        if stream_id in self._nodes:
            self._activate(stream_id, False)
            self._tree.remove_stream(stream_id)
            del self._nodes[stream_id]

    def _activate(self, stream_id: int, active: bool) -> None:
        if self._nodes[stream_id] == active:
            return
        self._nodes[stream_id] = active
        self._ready_nodes += 1 if active else -1
        (self._tree.unblock if active else self._tree.block)(stream_id)
