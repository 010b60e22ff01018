"""Who sends next: the order of the streams that have something to send, and nothing else.

``TreeScheduler`` follows RFC 7540 section 5.3 on the tree of the ``priority`` package,
``UrgencyScheduler`` RFC 9218 on the ``Priority`` of each stream.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Container
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol, Self

import priority

__all__ = ["Priority", "Scheduler", "TreeScheduler", "UrgencyScheduler"]


class Scheduler(Protocol):
    """What the send loop asks of either."""

    def __bool__(self) -> bool:
        """Whether any stream is ready."""

    @property
    def has_one(self) -> bool:
        """Whether the next turns are all of one stream, unless something changes."""

    def ready(self, stream_id: int) -> None:
        """The stream has something that it may send now."""

    def blocked(self, stream_id: int) -> None:
        """The stream has nothing to send, or may not send it now."""

    def remove(self, stream_id: int) -> None:
        """The stream is closed: forget it."""

    def next(self) -> int | None:
        """Return the stream whose turn it is, or None; it stays ready."""


# --- RFC 7540 ------------------------------------------------------------------------------


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


# --- RFC 9218 ------------------------------------------------------------------------------


def _member() -> re.Pattern[str]:
    """Return what matches a member of a dictionary (RFC 8941 section 3.2), and the comma after it.

    No text matches in two ways, so a failure is found in linear time.
    """
    key = r"[a-z*][a-z0-9_.*-]*"
    # as in sections 3.3.1 to 3.3.6: numbers, strings, tokens, byte sequences, booleans
    bare_item = "|".join(
        (
            r"-?(?:[0-9]{1,12}\.[0-9]{1,3}|[0-9]{1,15})",
            r'"[ !#-\[\]-~]*(?:\\["\\][ !#-\[\]-~]*)*"',
            r"[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*",
            r":[A-Za-z0-9+/=]*:",
            r"\?[01]",
        )
    )
    parameters = rf"(?:; *{key}(?:=(?:{bare_item}))?)*"
    item = rf"(?:{bare_item}){parameters}"
    inner_list = rf"\( *(?:{item}(?: +{item})*)? *\)"
    value = rf"(?:=(?:{bare_item}|{inner_list}))?"
    return re.compile(rf"(?P<key>{key})(?P<value>{value}){parameters}[ \t]*(?:\Z|,[ \t]*(?!\Z))")


_MEMBER: Final = _member()
_INTEGER: Final = re.compile("=-?[0-9]+")


@dataclass(frozen=True, slots=True)
class Priority:
    """How urgent a response is, and whether it is of use in parts (RFC 9218 section 4).

    Immutable, checked when it is made: a wrong type raises ``TypeError``, a wrong value
    ``ValueError``. ``str()`` of it is the text of the ``priority`` field: ``"u=1, i"``, without
    what is the default, so ``""`` where both are.
    """

    #: From 0, the most urgent, to 7, which is for what may wait for everything else.
    urgency: int = 3
    #: Whether the response is worth something before all of it is there, so that it may share
    #: the connection with others of its urgency. The default is one after another.
    incremental: bool = False

    #: Characters that a field may have; a longer one is treated as not valid. RFC 8941 asks for
    #: more of a general parser, and no signal needs a tenth of this. It keeps the worst one to
    #: a quarter of a millisecond, which by HPACK would cost a peer next to nothing to send.
    MAX_FIELD: ClassVar = 1_024

    def __post_init__(self) -> None:
        if isinstance(self.urgency, bool) or not isinstance(self.urgency, int):
            raise TypeError(f"urgency must be an int from 0 to 7, not {self.urgency!r}")
        if not 0 <= self.urgency <= 7:
            raise ValueError(f"urgency must be from 0 to 7, not {self.urgency}")
        if not isinstance(self.incremental, bool):
            raise TypeError(f"incremental must be True or False, not {self.incremental!r}")

    def __str__(self) -> str:
        members = [f"u={self.urgency}"] if self.urgency != 3 else []
        if self.incremental:
            members.append("i")
        return ", ".join(members)

    @classmethod
    def parse(cls, field: bytes | str) -> Self:
        """Read the value of a ``priority`` field or of a PRIORITY_UPDATE frame.

        Nothing that a peer sends raises (RFC 9218 section 4): other members and all parameters
        are ignored; ``u`` and ``i`` are as if they were not there where the type or the range is
        wrong, and both where the field is no dictionary of RFC 8941. Of several members of one
        name the last counts. Several field lines are to be joined by ``", "`` first.
        """
        if len(field) > cls.MAX_FIELD:
            return cls()
        text = field.decode("latin-1") if isinstance(field, bytes) else field
        members = _members(text.strip(" "))
        u = members.get("u", "")
        urgency = int(u[1:]) if _INTEGER.fullmatch(u) else 3
        # a name alone is true (RFC 8941 section 3.2)
        incremental = members.get("i") in ("", "=?1")
        return cls(urgency if 0 <= urgency <= 7 else 3, incremental)


def _members(text: str) -> dict[str, str]:
    """Return each key of the dictionary, with "=" and its value if it has one; {}: not valid."""
    members: dict[str, str] = {}
    place = 0
    while place < len(text):
        found = _MEMBER.match(text, place)
        if found is None:
            return {}
        members[found["key"]] = found["value"]
        place = found.end()
    return members


_DEFAULT: Final = Priority()


class _InOrder:
    """Stream ids of which the lowest is at hand: a binary heap that knows where each one is.

    So one that is not the lowest can leave it, too, in steps that grow with the logarithm of
    the number of streams, and nothing of it stays.
    """

    __slots__ = ("_ids", "_places")

    def __init__(self) -> None:
        # Each is lower than the two at twice its place, plus one and plus two.
        self._ids: list[int] = []
        # Where each is in that list.
        self._places: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._ids)

    @property
    def lowest(self) -> int:
        return self._ids[0]

    def add(self, stream_id: int) -> None:
        self._ids.append(stream_id)
        self._rise(stream_id, len(self._ids) - 1)

    def discard(self, stream_id: int) -> None:
        place = self._places.pop(stream_id)
        last = self._ids.pop()
        if place < len(self._ids):
            # the last one fills the gap, and may belong above it or below it
            self._rise(last, place)
            self._sink(last, self._places[last])

    def _rise(self, stream_id: int, place: int) -> None:
        while place and self._ids[above := (place - 1) // 2] > stream_id:
            self._put(self._ids[above], place)
            place = above
        self._put(stream_id, place)

    def _sink(self, stream_id: int, place: int) -> None:
        ids = self._ids
        while (below := 2 * place + 1) < len(ids):
            if below + 1 < len(ids) and ids[below + 1] < ids[below]:
                below += 1
            if ids[below] > stream_id:
                break
            self._put(ids[below], place)
            place = below
        self._put(stream_id, place)

    def _put(self, stream_id: int, place: int) -> None:
        self._ids[place] = stream_id
        self._places[stream_id] = place


class _Level:
    """The streams of one urgency that are ready, and whose turn it is among them."""

    __slots__ = ("_in_order", "turns")

    #: Who takes a turn for the streams that are not incremental: no stream has this id.
    IN_ORDER = 0

    def __init__(self) -> None:
        # Those that are not incremental, which go one after another.
        self._in_order = _InOrder()
        # Incremental ones, and the place of the others if there are any; the next one first.
        self.turns: OrderedDict[int, None] = OrderedDict()

    def add(self, stream_id: int, incremental: bool) -> None:
        if incremental:
            self.turns[stream_id] = None
        else:
            self._in_order.add(stream_id)
            self.turns[self.IN_ORDER] = None

    def discard(self, stream_id: int, incremental: bool) -> None:
        if incremental:
            del self.turns[stream_id]
        else:
            self._in_order.discard(stream_id)
            if not self._in_order:
                del self.turns[self.IN_ORDER]

    def next(self) -> int:
        stream_id = next(iter(self.turns))
        self.turns.move_to_end(stream_id)
        return self._in_order.lowest if stream_id == self.IN_ORDER else stream_id


class UrgencyScheduler:
    """Streams in the order of RFC 9218 section 10.

    A stream has a turn when none with a lower urgency, which is the more urgent, is ready. Within
    one urgency, streams that are not incremental go one after another, in the order of their ids
    and so of the requests; incremental ones take turns, frame by frame. Where there are both, the
    first of the former takes its turn as if it were one of the latter: it and each of them are
    served once a round, so neither kind starves the other, and nobody gets more by calling itself
    the one or the other.

    No step costs time in proportion to the number of streams: finding a place among those that
    are not incremental takes its logarithm, everything else is constant.
    """

    #: Signals that are kept for streams that are not open yet, of which the oldest is forgotten.
    SIGNALS = 100

    def __init__(self, open_streams: Container[int]) -> None:
        """``open_streams``: the ids that are open now, asked when a signal comes.

        It tells the streams that the bound is not for: what was signalled for one that is open
        stays until :meth:`remove`.
        """
        self._open_streams = open_streams
        # What was signalled, by stream.
        self._priorities: dict[int, Priority] = {}
        # Those of them that were not open when it was (the oldest first).
        self._early: dict[int, None] = {}
        # Who is ready, and as what it has its place in a level.
        self._ready: dict[int, Priority] = {}
        # By urgency, where anybody is ready.
        self._levels: dict[int, _Level] = {}

    def __len__(self) -> int:
        """Count the streams that this scheduler holds anything about."""
        return len(self._priorities.keys() | self._ready.keys())

    def __bool__(self) -> bool:
        """Whether any stream is ready."""
        return bool(self._ready)

    @property
    def has_one(self) -> bool:
        """Whether the next turns are all of one stream, unless something changes.

        Others may be ready: less urgent ones, or later ones where none is incremental.
        """
        return bool(self._levels) and len(self._levels[min(self._levels)].turns) == 1

    def ready(self, stream_id: int) -> None:
        """The stream has something that it may send now."""
        if stream_id not in self._ready:
            self._enter(stream_id, self._priorities.get(stream_id, _DEFAULT))

    def blocked(self, stream_id: int) -> None:
        """The stream has nothing to send, or may not send it now."""
        if stream_id in self._ready:
            self._leave(stream_id)

    def remove(self, stream_id: int) -> None:
        """The stream is closed: forget it."""
        self.blocked(stream_id)
        self._priorities.pop(stream_id, None)
        self._early.pop(stream_id, None)

    def next(self) -> int | None:
        """Return the stream whose turn it is, or None; it stays ready."""
        return self._levels[min(self._levels)].next() if self._levels else None

    def prioritize(self, stream_id: int, priority: Priority, *, initial: bool = False) -> None:
        """Take a signal of RFC 9218; a stream that is ready moves at once.

        ``initial``: it is the ``priority`` field of the request that opens the stream (section
        5), which says nothing new where another signal has come before it. Of all others the
        last counts; section 7 lets them come before the stream is open.
        """
        if initial or stream_id in self._open_streams:
            self._early.pop(stream_id, None)
        elif stream_id not in self._priorities or stream_id in self._early:
            self._came_early(stream_id)
        if initial and stream_id in self._priorities:
            return
        self._priorities[stream_id] = priority
        if self._ready.get(stream_id, priority) != priority:
            self._leave(stream_id)
            self._enter(stream_id, priority)

    def _came_early(self, stream_id: int) -> None:
        """Make the stream's signal the newest of those that are bounded."""
        self._early.pop(stream_id, None)
        self._early[stream_id] = None
        if len(self._early) > self.SIGNALS:
            oldest = next(iter(self._early))
            del self._early[oldest]
            if oldest not in self._open_streams:
                del self._priorities[oldest]

    def _enter(self, stream_id: int, priority: Priority) -> None:
        level = self._levels.get(priority.urgency)
        if level is None:
            level = self._levels[priority.urgency] = _Level()
        level.add(stream_id, priority.incremental)
        self._ready[stream_id] = priority

    def _leave(self, stream_id: int) -> None:
        priority = self._ready.pop(stream_id)
        level = self._levels[priority.urgency]
        level.discard(stream_id, priority.incremental)
        if not level.turns:
            del self._levels[priority.urgency]
