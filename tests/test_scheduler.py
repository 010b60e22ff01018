"""``scheduler``: turns, shares by RFC 7540, the order of RFC 9218, the ``priority`` field.

And that no signal of a peer can do harm.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import inspect
import signal
import sys
import types
import unittest
from collections import Counter
from collections.abc import Iterable, Iterator
from fractions import Fraction
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from aioh2.scheduler import Priority, Scheduler, TreeScheduler, UrgencyScheduler

BOUNDED = settings(derandomize=True, database=None, deadline=None, max_examples=200)


class Small(TreeScheduler):
    """A scheduler with limits that a test can reach in a few steps."""

    SIGNALS = 3
    NODES = 6  # the root of the tree is one of them


@contextlib.contextmanager
def cpu_time(seconds: float) -> Iterator[None]:
    """Fail what does not come to an end, where the platform can tell."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def expired(*_: object) -> None:
        raise AssertionError(f"still running after {seconds} s of CPU time")

    before = signal.signal(signal.SIGVTALRM, expired)
    # again and again: an exception is lost where it hits a callback of the interpreter
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds, 0.01)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def turns(scheduler: Scheduler, count: int) -> list[int | None]:
    """The next ``count`` streams."""
    return [scheduler.next() for _ in range(count)]


def drain(scheduler: Scheduler, most: int) -> list[int]:
    """Block each stream when it has had its turn; the streams in the order of their turns."""
    order: list[int] = []
    while len(order) <= most and (stream_id := scheduler.next()) is not None:
        scheduler.blocked(stream_id)
        order.append(stream_id)
    return order


def nodes_held(scheduler: TreeScheduler) -> int:
    """Count the nodes of the tree that can be reached from ``scheduler``, but for its root."""
    seen, todo, found = set[int](), [*vars(scheduler).values()], 0
    shared = (type, types.ModuleType, types.FunctionType)
    while todo:
        thing: Any = todo.pop()
        if id(thing) in seen or isinstance(thing, shared):
            continue
        seen.add(id(thing))
        found += type(thing).__module__.startswith("priority") and hasattr(thing, "weight")
        todo += gc.get_referents(thing)
    return found - 1


# --- without signals -----------------------------------------------------------------------


class TestTurns(unittest.TestCase):
    def setUp(self) -> None:
        self.scheduler = TreeScheduler()

    def test_nothing_is_ready(self) -> None:
        self.assertIsNone(self.scheduler.next())
        self.assertFalse(self.scheduler)
        self.assertEqual(len(self.scheduler), 0)

    def test_each_in_turn_from_who_has_waited_longest(self) -> None:
        for stream_id in (5, 1, 3):
            self.scheduler.ready(stream_id)
        self.assertTrue(self.scheduler)
        self.assertEqual(turns(self.scheduler, 7), [5, 1, 3, 5, 1, 3, 5])
        self.assertEqual(len(self.scheduler), 3)

    def test_ready_twice_is_one_turn(self) -> None:
        for stream_id in (1, 3, 1, 1):
            self.scheduler.ready(stream_id)
        self.assertEqual(turns(self.scheduler, 4), [1, 3, 1, 3])

    def test_a_new_one_waits_for_those_before_it(self) -> None:
        for stream_id in (1, 3):
            self.scheduler.ready(stream_id)
        self.assertEqual(self.scheduler.next(), 1)
        self.scheduler.ready(5)
        self.assertEqual(turns(self.scheduler, 3), [3, 1, 5])

    def test_a_blocked_one_has_no_turn(self) -> None:
        for stream_id in (1, 3, 5):
            self.scheduler.ready(stream_id)
        self.scheduler.blocked(3)
        self.assertEqual(turns(self.scheduler, 4), [1, 5, 1, 5])
        self.scheduler.ready(3)
        self.assertEqual(turns(self.scheduler, 3), [1, 5, 3])

    def test_only_blocked_ones(self) -> None:
        self.scheduler.ready(1)
        self.scheduler.blocked(1)
        self.assertFalse(self.scheduler)
        self.assertIsNone(self.scheduler.next())

    def test_a_removed_one_has_no_turn(self) -> None:
        for stream_id in (1, 3):
            self.scheduler.ready(stream_id)
        self.scheduler.remove(1)
        self.assertEqual(turns(self.scheduler, 2), [3, 3])

    def test_has_one(self) -> None:
        self.assertFalse(self.scheduler.has_one)
        for stream_id, expected in [(1, True), (3, False)]:
            self.scheduler.ready(stream_id)
            self.assertIs(self.scheduler.has_one, expected)
        self.scheduler.reprioritize(1)
        self.assertFalse(self.scheduler.has_one)
        self.scheduler.blocked(1)
        self.assertTrue(self.scheduler.has_one)

    def test_an_unknown_one_is_blocked_and_removed_in_peace(self) -> None:
        self.scheduler.blocked(1)
        self.scheduler.remove(1)
        self.assertEqual(len(self.scheduler), 0)


# --- shares --------------------------------------------------------------------------------

Signal = tuple[int, int, int, bool]
N, X = False, True  # not exclusive, exclusive

#: The tree of RFC 7540 section 5.3.3: A=1, B=3, C=5, D=7, E=9, F=11.
FIGURE_5: list[Signal] = [
    (1, 0, 16, N),
    (3, 1, 16, N),
    (5, 1, 16, N),
    (7, 5, 16, N),
    (9, 5, 16, N),
    (11, 7, 16, N),
]

#: Name: the signals, the streams that are ready, and their shares of the turns.
SHARES: dict[str, tuple[list[Signal], set[int], dict[int, Fraction | int]]] = {
    "by weight": (
        [(1, 0, 16, N), (3, 0, 32, N), (5, 0, 64, N)],
        {1, 3, 5},
        {1: Fraction(1, 7), 3: Fraction(2, 7), 5: Fraction(4, 7)},
    ),
    "the least and the most": (
        [(1, 0, 1, N), (3, 0, 256, N)],
        {1, 3},
        {1: Fraction(1, 257), 3: Fraction(256, 257)},
    ),
    "weights that do not divide": (
        [(1, 0, 7, N), (3, 0, 11, N), (5, 0, 201, N)],
        {1, 3, 5},
        {1: Fraction(7, 219), 3: Fraction(11, 219), 5: Fraction(201, 219)},
    ),
    "among those that are ready": (
        [(1, 0, 16, N), (3, 0, 32, N), (5, 0, 64, N)],
        {1, 5},
        {1: Fraction(1, 5), 5: Fraction(4, 5)},
    ),
    "without a signal: 16": (
        [(1, 0, 48, N)],
        {1, 3, 5},
        {1: Fraction(3, 5), 3: Fraction(1, 5), 5: Fraction(1, 5)},
    ),
    "the last signal counts": (
        [(1, 0, 256, N), (3, 0, 16, N), (1, 0, 48, N)],
        {1, 3},
        {1: Fraction(3, 4), 3: Fraction(1, 4)},
    ),
    "nothing for who depends on a ready one": (
        [(1, 0, 1, N), (3, 1, 256, N), (5, 3, 256, N)],
        {1, 3, 5},
        {1: 1},
    ),
    "its share goes to its dependents": (
        [(1, 0, 32, N), (3, 1, 10, N), (5, 1, 30, N), (7, 0, 32, N)],
        {3, 5, 7},
        {3: Fraction(1, 8), 5: Fraction(3, 8), 7: Fraction(1, 2)},
    ),
    "and to theirs": (
        [(1, 0, 16, N), (3, 1, 16, N), (5, 3, 16, N), (7, 0, 16, N)],
        {5, 7},
        {5: Fraction(1, 2), 7: Fraction(1, 2)},
    ),
    "exclusive: the others depend on it": (
        [(1, 0, 16, N), (3, 1, 16, N), (5, 1, 48, N), (7, 1, 16, X)],
        {3, 5, 7},
        {7: 1},
    ),
    "exclusive: the others keep their weights": (
        [(1, 0, 16, N), (3, 1, 16, N), (5, 1, 48, N), (7, 1, 16, X)],
        {3, 5},
        {3: Fraction(1, 4), 5: Fraction(3, 4)},
    ),
    "exclusive under the root": (
        [(1, 0, 16, N), (3, 0, 16, N), (5, 0, 16, X)],
        {1, 3, 5},
        {5: 1},
    ),
    "exclusive where it depends already": (
        [(1, 0, 16, N), (3, 1, 16, N), (5, 1, 48, N), (3, 1, 16, X)],
        {3, 5},
        {3: 1},
    ),
    "an unknown parent: the default priority": (
        [(1, 0, 48, N), (3, 99, 256, X)],
        {1, 3},
        {1: Fraction(3, 4), 3: Fraction(1, 4)},
    ),
    "an unknown parent: it is not made one": (
        [(1, 0, 32, N), (3, 99, 48, N), (5, 99, 16, N)],
        {1, 3, 5},
        {1: Fraction(1, 2), 3: Fraction(1, 4), 5: Fraction(1, 4)},
    ),
    "on itself: it keeps its place": (
        [(1, 0, 48, N), (3, 0, 16, N), (3, 3, 256, N)],
        {1, 3},
        {1: Fraction(3, 4), 3: Fraction(1, 4)},
    ),
    # A is made to depend on D, which takes its place first
    "on its own dependent": ([*FIGURE_5, (1, 7, 16, N)], {1, 3, 5, 7, 9, 11}, {7: 1}),
    "on its own dependent: beside that one's": (
        [*FIGURE_5, (1, 7, 16, N)],
        {1, 11},
        {1: Fraction(1, 2), 11: Fraction(1, 2)},
    ),
    "on its own dependent: what was moved has left its place": (
        [*FIGURE_5, (1, 7, 16, N)],
        {9, 11},
        {9: Fraction(1, 2), 11: Fraction(1, 2)},
    ),
    "on its own dependent: the rest stays below": (
        [*FIGURE_5, (1, 7, 16, N)],
        {3, 9, 11},
        {3: Fraction(1, 4), 9: Fraction(1, 4), 11: Fraction(1, 2)},
    ),
    "exclusive on its own dependent": (
        [*FIGURE_5, (1, 7, 16, X)],
        {3, 9, 11},
        {3: Fraction(1, 3), 9: Fraction(1, 3), 11: Fraction(1, 3)},
    ),
    "exclusive on its own dependent: nobody beside it": (
        [*FIGURE_5, (1, 7, 16, X)],
        {1, 11},
        {1: 1},
    ),
}


class TestShares(unittest.TestCase):
    TURNS = 2_000

    def assert_shares(
        self, scheduler: TreeScheduler, shares: dict[int, Fraction | int], within: int = 3
    ) -> None:
        """What a stream gets in many turns is what its weight gives, but for a few turns."""
        counts = Counter(turns(scheduler, self.TURNS))
        self.assertLessEqual(counts.keys(), shares.keys())
        for stream_id, share in shares.items():
            self.assertAlmostEqual(counts[stream_id], float(share * self.TURNS), delta=within)

    def test_shares(self) -> None:
        for name, (signals, ready, shares) in SHARES.items():
            with self.subTest(name):
                scheduler = TreeScheduler()
                for signal_ in signals:
                    scheduler.reprioritize(*signal_)
                for stream_id in sorted(ready):
                    scheduler.ready(stream_id)
                self.assert_shares(scheduler, shares)

    def test_signals_may_come_when_the_streams_are_ready(self) -> None:
        for name, (signals, ready, shares) in SHARES.items():
            with self.subTest(name):
                scheduler = TreeScheduler()
                for stream_id in sorted(ready):
                    scheduler.ready(stream_id)
                for signal_ in signals:
                    scheduler.reprioritize(*signal_)
                self.assert_shares(scheduler, shares)

    def test_a_parent_that_is_open_need_not_be_known(self) -> None:
        scheduler = TreeScheduler()
        for stream_id, weight in [(3, 30), (5, 10)]:
            scheduler.reprioritize(stream_id, 1, weight, parent_open=True)
        for stream_id in (3, 5, 7):
            scheduler.ready(stream_id)
        self.assert_shares(
            scheduler, {3: Fraction(3, 8), 5: Fraction(1, 8), 7: Fraction(1, 2)}, within=5
        )

    def test_when_the_parent_closes_its_dependents_take_its_place(self) -> None:
        scheduler = TreeScheduler()
        for signal_ in [(1, 0, 16, N), (3, 1, 16, N), (5, 3, 16, N), (7, 0, 16, N)]:
            scheduler.reprioritize(*signal_)
        for stream_id in (5, 7):
            scheduler.ready(stream_id)
        scheduler.remove(1)
        scheduler.remove(3)
        self.assert_shares(scheduler, {5: Fraction(1, 2), 7: Fraction(1, 2)})

    def test_who_blocks_and_is_ready_again_does_not_overtake(self) -> None:
        """A stream with a small window, or an application that sends bit by bit."""
        for signalled in (1, 3, 99):
            with self.subTest(signalled=signalled):
                scheduler = TreeScheduler()
                scheduler.reprioritize(signalled)
                scheduler.ready(1)
                scheduler.ready(3)
                counts = Counter[int | None]()
                for _ in range(self.TURNS):
                    counts[stream_id := scheduler.next()] += 1
                    if stream_id == 1:
                        scheduler.blocked(1)
                        scheduler.ready(1)
                self.assertAlmostEqual(counts[3], self.TURNS / 2, delta=3)

    def test_who_waited_goes_first_when_the_first_signal_comes(self) -> None:
        scheduler = TreeScheduler()
        for stream_id in (1, 3, 5):
            scheduler.ready(stream_id)
        scheduler.reprioritize(99)
        self.assertEqual(sorted(turns(scheduler, 3), key=str), [1, 3, 5])

    @BOUNDED
    @given(
        st.lists(st.sampled_from([4, 7, 16, 32]), min_size=2, max_size=5), st.lists(st.booleans())
    )
    def test_nobody_starves(self, weights: list[int], toggles: list[bool]) -> None:
        """Whoever stays ready is served in time, whatever those who had a turn do then."""
        scheduler = TreeScheduler()
        scheduler.reprioritize(99)
        ids = range(1, 2 * len(weights), 2)
        for stream_id, weight in zip(ids, weights, strict=True):
            if weight != 16:
                scheduler.reprioritize(stream_id, 0, weight)
            scheduler.ready(stream_id)
        # others have their weight's worth of turns, and what rounding adds
        bound = sum(-(-weight // min(weights)) + 1 for weight in weights)
        waiting = dict.fromkeys(ids, 0)
        for turn in range(6 * bound):
            served = scheduler.next()
            assert served is not None
            for stream_id in ids:
                waiting[stream_id] = 0 if stream_id == served else waiting[stream_id] + 1
            self.assertLessEqual(max(waiting.values()), bound, waiting)
            if toggles and toggles[turn % len(toggles)]:
                scheduler.blocked(served)
                scheduler.ready(served)


# --- bounds --------------------------------------------------------------------------------


class TestForgottenSignals(unittest.TestCase):
    def test_the_oldest_is_forgotten(self) -> None:
        scheduler = Small()
        for stream_id in (1, 3, 5, 7):
            scheduler.reprioritize(stream_id, 0, 256)
        self.assertEqual(len(scheduler), Small.SIGNALS)
        for stream_id in (1, 7):
            scheduler.ready(stream_id)
        counts = Counter(turns(scheduler, 17 * 20))
        self.assertAlmostEqual(counts[1], 20, delta=2)

    def test_a_second_signal_makes_it_the_newest(self) -> None:
        scheduler = Small()
        for stream_id in (1, 3, 5, 1, 7):
            scheduler.reprioritize(stream_id, 0, 256)
        for stream_id in (1, 7):
            scheduler.ready(stream_id)
        counts = Counter(turns(scheduler, 200))
        self.assertAlmostEqual(counts[1], 100, delta=2)

    def test_who_is_ready_stays_so(self) -> None:
        scheduler = Small()
        for stream_id in (1, 3, 5, 7, 9):
            scheduler.ready(stream_id)
            scheduler.reprioritize(stream_id)
        self.assertEqual({*turns(scheduler, 20)}, {1, 3, 5, 7, 9})

    def test_its_dependents_are_served(self) -> None:
        scheduler = Small()
        for stream_id in (1, 3, 5, 7, 9, 11):
            scheduler.ready(stream_id)
            scheduler.reprioritize(stream_id, stream_id - 2, parent_open=True)
        self.assertEqual(sorted(drain(scheduler, 6)), [1, 3, 5, 7, 9, 11])

    def test_the_parent_may_be_the_oldest(self) -> None:
        """The signal that names it must not be the one that makes it forgotten."""
        for kind in (Small, TreeScheduler):
            with self.subTest(kind=kind.__name__):
                scheduler = kind()
                ids = range(1, 2 * kind.SIGNALS, 2)
                for stream_id in ids:
                    scheduler.reprioritize(stream_id)
                scheduler.reprioritize(1001, 1)
                scheduler.ready(1)
                scheduler.ready(1001)
                self.assertEqual(drain(scheduler, 2), [1, 1001])
                for stream_id in (*ids, 1001):
                    scheduler.remove(stream_id)
                self.assertEqual((len(scheduler), nodes_held(scheduler)), (0, 0))

    def test_who_depends_on_the_oldest_gets_no_more_than_its_share(self) -> None:
        """Below that one, or with the default priority, as for any parent that is unknown."""
        scheduler = Small()
        for stream_id in (1, 3, 5):
            scheduler.reprioritize(stream_id)
        scheduler.reprioritize(7, 1, 256, X)
        for stream_id in (5, 7):
            scheduler.ready(stream_id)
        counts = Counter(turns(scheduler, 200))
        self.assertAlmostEqual(counts[5], 100, delta=2)

    def test_signals_about_idle_streams_do_not_pile_up(self) -> None:
        scheduler = TreeScheduler()
        for stream_id in range(1, 2_001, 2):
            scheduler.reprioritize(stream_id, max(0, stream_id - 2), 16, stream_id % 3 == 0)
        self.assertLessEqual(len(scheduler), TreeScheduler.SIGNALS)
        self.assertLessEqual(nodes_held(scheduler), TreeScheduler.SIGNALS)


class TestFullTree(unittest.TestCase):
    def full(self) -> Small:
        """A scheduler with no room in its tree: 1 to 9 are in it, and ready."""
        scheduler = Small()
        scheduler.reprioritize(1)
        for stream_id in (1, 3, 5, 7, 9):
            scheduler.ready(stream_id)
        return scheduler

    def test_further_streams_take_turns_with_it(self) -> None:
        scheduler = self.full()
        for stream_id in (11, 13):
            scheduler.ready(stream_id)
        counts = Counter(turns(scheduler, 200))
        self.assertEqual(counts[11] + counts[13], 100)
        self.assertEqual(counts[11], counts[13])
        self.assertEqual({*counts}, {1, 3, 5, 7, 9, 11, 13})

    def test_further_streams_alone_have_all_turns(self) -> None:
        scheduler = self.full()
        scheduler.ready(11)
        for stream_id in (1, 3, 5, 7, 9):
            scheduler.remove(stream_id)
        self.assertEqual(turns(scheduler, 3), [11, 11, 11])

    def test_the_tree_alone_has_all_turns(self) -> None:
        scheduler = self.full()
        scheduler.ready(11)
        scheduler.blocked(11)
        self.assertEqual({*turns(scheduler, 20)}, {1, 3, 5, 7, 9})

    def test_streams_that_waited_when_the_first_signal_came(self) -> None:
        scheduler = Small()
        ids = {*range(1, 21, 2)}
        for stream_id in sorted(ids):
            scheduler.ready(stream_id)
        scheduler.reprioritize(1, 0, 32)
        self.assertEqual(len(scheduler), 10)
        self.assertEqual({*turns(scheduler, 40)}, ids)

    def test_a_signal_for_which_there_is_no_room_is_ignored(self) -> None:
        scheduler = self.full()
        scheduler.ready(11)
        scheduler.reprioritize(11, 0, 256)
        scheduler.reprioritize(13, 1, 256)
        scheduler.reprioritize(15, 17, 256, parent_open=True)
        self.assertEqual(len(scheduler), 6)
        counts = Counter(turns(scheduler, 200))
        self.assertEqual(counts[11], 100)

    def test_a_parent_for_which_there_is_no_room_is_an_unknown_one(self) -> None:
        scheduler = self.full()
        scheduler.reprioritize(3, 17, 256, X, parent_open=True)
        counts = Counter(turns(scheduler, 200))
        for stream_id in (1, 3, 5, 7, 9):
            self.assertAlmostEqual(counts[stream_id], 40, delta=2)

    def test_when_there_is_room_again_it_is_used(self) -> None:
        scheduler = self.full()
        scheduler.ready(11)
        scheduler.remove(9)
        scheduler.reprioritize(11, 0, 64)
        self.assertEqual(len(scheduler), 5)
        counts = Counter(turns(scheduler, 160))
        self.assertAlmostEqual(counts[11], 80, delta=3)
        self.assertAlmostEqual(counts[1], 20, delta=3)

    def test_nobody_has_two_places(self) -> None:
        scheduler = self.full()
        scheduler.ready(11)
        scheduler.remove(9)
        scheduler.ready(11)
        self.assertEqual(len(scheduler), 5)
        scheduler.blocked(11)
        self.assertNotIn(11, turns(scheduler, 20))


# --- what a hostile peer can do ------------------------------------------------------------

#: Signals that move streams below their own dependents until a tree that is not kept whole holds
#: a stream in two places, in a ring, or not at all; then the streams are closed in the order given.
KNOTS: dict[str, tuple[list[Signal], list[int]]] = {
    "a stream in two places": (
        [(1, 0, 16, N), (3, 1, 16, N), (5, 3, 16, N), (1, 3, 16, N)],
        [1, 3, 5],
    ),
    "a ring": (
        [
            (1, 0, 16, N),
            (7, 1, 16, N),
            (5, 7, 16, N),
            (3, 5, 16, X),
            (7, 5, 16, N),
            (5, 3, 16, N),
            (3, 5, 16, N),
        ],
        [3, 5, 7, 1],
    ),
    "a ring of exclusive ones": (
        [
            (5, 0, 16, N),
            (3, 5, 16, N),
            (1, 0, 16, X),
            (1, 5, 16, N),
            (7, 0, 16, X),
            (3, 7, 16, N),
            (3, 7, 16, X),
        ],
        [5, 3, 1, 7],
    ),
}


class TestHostilePeer(unittest.TestCase):
    def test_knots(self) -> None:
        for name, (signals, closed) in KNOTS.items():
            with self.subTest(name), cpu_time(1):
                scheduler = TreeScheduler()
                for signal_ in signals:
                    scheduler.reprioritize(*signal_)
                for stream_id in closed:
                    scheduler.ready(stream_id)
                for count, stream_id in enumerate(closed):
                    self.assertEqual(sorted(drain(scheduler, 4)), sorted(closed[count:]))
                    for left in closed[count:]:
                        scheduler.ready(left)
                    scheduler.remove(stream_id)
                self.assertEqual((len(scheduler), nodes_held(scheduler)), (0, 0))

    def test_a_long_chain_is_neither_followed_nor_an_error(self) -> None:
        for name, ready_first, exclusive in [
            ("idle", False, N),
            ("idle, from its end", False, X),
            ("ready", True, N),
            ("ready, from its end", True, X),
        ]:
            with self.subTest(name), cpu_time(5):
                scheduler, ids = TreeScheduler(), range(1, 6_001, 2)
                end = ids[0] if exclusive else ids[-1]
                with self.recursion_bounded():
                    for stream_id in ids:
                        if ready_first:
                            scheduler.ready(stream_id)
                        parent = 0 if exclusive else max(0, stream_id - 2)
                        scheduler.reprioritize(stream_id, parent, 16, exclusive, parent_open=True)
                    scheduler.ready(end)
                    self.assertIn(scheduler.next(), ids)
                    for stream_id in ids:
                        if stream_id != end:
                            scheduler.blocked(stream_id)
                    self.assertEqual(turns(scheduler, 3), [end] * 3)

    def test_the_top_of_a_long_chain_under_its_end(self) -> None:
        scheduler, ids = TreeScheduler(), range(1, 2 * TreeScheduler.SIGNALS + 1, 2)
        with self.recursion_bounded(), cpu_time(1):
            for stream_id in ids:
                scheduler.reprioritize(stream_id, max(0, stream_id - 2))
            for _ in range(3):
                for top, end in [(ids[0], ids[-1]), (ids[-1], ids[0]), (ids[0], ids[50])]:
                    scheduler.reprioritize(top, end)
                    scheduler.ready(ids[50])
                    self.assertEqual(scheduler.next(), ids[50])
        for stream_id in ids:
            scheduler.remove(stream_id)
        self.assertEqual((len(scheduler), nodes_held(scheduler)), (0, 0))

    @contextlib.contextmanager
    def recursion_bounded(self) -> Iterator[None]:
        """Allow what the tree may be deep, and not what the interpreter does."""
        before = sys.getrecursionlimit()
        sys.setrecursionlimit(len(inspect.stack(0)) + TreeScheduler.NODES + 30)
        try:
            yield
        finally:
            sys.setrecursionlimit(before)


# --- any sequence --------------------------------------------------------------------------

IDS = st.integers(1, 6)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["ready", "blocked", "remove"]), st.tuples(IDS)),
        st.tuples(
            st.just("reprioritize"),
            st.tuples(IDS, st.integers(0, 6), st.sampled_from([1, 16, 256]), st.booleans()),
        ),
    ),
    max_size=40,
)


class TestAnySequence(unittest.TestCase):
    def run_steps(self, scheduler: TreeScheduler, steps: Iterable[tuple[str, Any]]) -> None:
        ready = set[int]()
        for name, arguments in steps:
            if name == "reprioritize":
                # of six streams, the lower half are open whatever has happened to them
                scheduler.reprioritize(*arguments, parent_open=arguments[1] <= 3)
            else:
                getattr(scheduler, name)(*arguments)
                (ready.add if name == "ready" else ready.discard)(arguments[0])
            served = scheduler.next()
            self.assertIs(bool(scheduler), bool(ready))
            if ready:
                self.assertIn(served, ready)
            else:
                self.assertIsNone(served)
        self.assertEqual(sorted(drain(scheduler, 6)), sorted(ready))
        for stream_id in range(1, 7):
            scheduler.remove(stream_id)
        self.assertEqual((len(scheduler), nodes_held(scheduler)), (0, 0))
        self.assertIsNone(scheduler.next())

    @BOUNDED
    @given(STEPS)
    def test_who_is_ready_is_served_and_nothing_is_left(self, steps: list[Any]) -> None:
        with cpu_time(0.5):
            self.run_steps(TreeScheduler(), steps)

    @BOUNDED
    @given(STEPS)
    def test_with_little_room_too(self, steps: list[Any]) -> None:
        with cpu_time(0.5):
            self.run_steps(Small(), steps)


# --- the priority field --------------------------------------------------------------------

#: Field values and what they say, with the reason where it does not show.
FIELDS: list[tuple[str, int, bool]] = [
    ("", 3, False),
    ("   ", 3, False),
    ("u=0", 0, False),
    ("u=7", 7, False),
    ("i", 3, True),
    ("i=?1", 3, True),
    ("i=?0", 3, False),
    ("u=1, i", 1, True),
    ("i,u=1", 1, True),
    ("  u=1 \t,\t i\t ", 1, True),
    # integers may have a sign and zeros (RFC 8941 section 4.2.4)
    ("u=007", 7, False),
    ("u=-0", 0, False),
    # out of range, or of another type
    ("u=8, i", 3, True),
    ("u=-1, i", 3, True),
    ("u=999999999999999, i", 3, True),
    ("u=1.0, i", 3, True),
    ("u, i", 3, True),
    ("u=?1, i", 3, True),
    ('u="1", i', 3, True),
    ("u=one, i", 3, True),
    ("u=:MQ==:, i", 3, True),
    ("u=(1), i", 3, True),
    ("u=1, i=1", 1, False),
    ("u=1, i=true", 1, False),
    ('u=1, i="?1"', 1, False),
    ("u=1, i=(?1)", 1, False),
    # the last one of a name, whatever it is
    ("u=1, u=5", 5, False),
    ("u=1, i, i=?0", 1, False),
    ("u=1, u=8", 3, False),
    ("u=1, u", 3, False),
    ("i=?0, i", 3, True),
    # parameters, and members of other names
    ("u=1;u=5;i, i;q=0.5;x", 1, True),
    ("u=1; a=b;c=?0;  d", 1, False),
    ("ui=2, iu, u1=2, *u=2, a-b_c.d*e=2, u=1", 1, False),
    ('a="u=2, \\"i\\" \\\\", u=1', 1, False),
    ("a=b/c:d!~, u=1", 1, False),
    ("a=-1.5, b=123456789012.123, u=1", 1, False),
    ("a=(), b=( ), c=( u=2;i ), u=1", 3, False),
    ('a=(), b=( ), c=( 1   "i";x;y=2  z ), d=(1);e, u=1', 1, False),
    ("a=::, u=1", 1, False),
]

#: What is no dictionary, beside the valid ``u=1``.
NO_DICTIONARIES = [
    *["u=1,", "u=1, ", ",u=1", "u=1,,i", "u=1 i", "u=1;", "u=1 ;a", "u=1\ti", "\tu=1", "u=1\n"],
    *["U=1", "u=1, I", "u =1", "u= 1", "u==1", "=1", "1, u=1", "-a, u=1", "u=1, a=", "u=1;a="],
    *["u=1, a=1.", "u=1, a=.5", "u=1, a=-", "u=1, a=1.1234", "u=1, a=1234567890123.1"],
    *["u=1, a=" + "0" * 16, "u=1, a=--1", "u=1, a=+1", "u=1, a=?2", "u=1, a=?", "u=1, a=1e3"],
    *['u=1, a="', 'u=1, a="\\a"', 'u=1, a="\x7f"', 'u=1, a="\xe9"', 'u=1, a="b"c', "u=1, a='b'"],
    *["u=1, a=:b", "u=1, a=:b c:", "u=1, a=:b-:", "u=1, a=b\xe9", "u=1, a=@1", "u=1, \x00"],
    *["u=1, a=(", "u=1, a=)", "u=1, a=(1", "u=1, a=(1,2)", "u=1, a=((1))", "u=1, a=(1\t2)"],
    *["u=1, a=(\t1)", "u=1, a=(1\t)", "u=1, a=(1);\tb", "u=1, a=(1 ;b)"],
    *['u=1, a=("b""c")', "u=1, a=(1;)", "u=1, a=(1) 2", "u=1, a;b=(1)", "u=1, a=\ud800"],
]

OTHER_MEMBERS = [
    "a",
    "u2=7",
    "i-",
    "*=()",
    'x="u=0, i"',
    "y=(u i);u=0",
    "z=?0;i",
    "t=i/u",
    "b=:aQ:",
]
U_MEMBERS: list[tuple[str, int]] = [(f"u={n}", n) for n in range(8)]
U_MEMBERS += [("u", 3), ("u=9", 3), ("u=2.0", 3), ("u=x", 3)]
I_MEMBERS = [("i", True), ("i=?1", True), ("i=?0", False), ("i=1", False)]
MEMBERS = st.lists(
    st.tuples(
        st.one_of(
            st.sampled_from([(text, "", None) for text in OTHER_MEMBERS]),
            st.sampled_from([(text, "u", value) for text, value in U_MEMBERS]),
            st.sampled_from([(text, "i", value) for text, value in I_MEMBERS]),
        ),
        st.sampled_from(["", ";u=0", "; i", ";a=b;c"]),
        st.sampled_from([",", ", ", "\t, ", " ,\t"]),
    ),
    max_size=12,
)


class TestPriority(unittest.TestCase):
    def test_the_default_is_that_of_the_rfc(self) -> None:
        self.assertEqual(Priority(), Priority(urgency=3, incremental=False))

    def test_a_wrong_value_is_named(self) -> None:
        for arguments, error, message in [
            ({"urgency": 8}, ValueError, "urgency must be from 0 to 7, not 8"),
            ({"urgency": -1}, ValueError, "urgency must be from 0 to 7, not -1"),
            ({"urgency": True}, TypeError, "urgency must be an int from 0 to 7, not True"),
            ({"urgency": "1"}, TypeError, "urgency must be an int from 0 to 7, not '1'"),
            ({"urgency": 1.0}, TypeError, "urgency must be an int from 0 to 7, not 1.0"),
            ({"incremental": 1}, TypeError, "incremental must be True or False, not 1"),
            ({"incremental": None}, TypeError, "incremental must be True or False, not None"),
        ]:
            with self.subTest(arguments), self.assertRaises(error) as caught:
                Priority(**arguments)  # type: ignore[arg-type]  # that is the point
            self.assertEqual(str(caught.exception), message)

    def test_it_cannot_be_changed(self) -> None:
        with self.assertRaises(dataclasses.FrozenInstanceError):
            Priority().urgency = 1  # type: ignore[misc]  # that is the point

    def test_equal_ones_are_one_key(self) -> None:
        self.assertEqual(len({Priority(1, True), Priority(1, True), Priority(1), Priority()}), 3)

    def test_the_field_out(self) -> None:
        for priority, field in [
            (Priority(), ""),
            (Priority(1), "u=1"),
            (Priority(0), "u=0"),
            (Priority(incremental=True), "i"),
            (Priority(7, True), "u=7, i"),
        ]:
            with self.subTest(field):
                self.assertEqual(str(priority), field)

    def test_what_goes_out_comes_in(self) -> None:
        for urgency in range(8):
            for incremental in (False, True):
                priority = Priority(urgency, incremental)
                self.assertEqual(Priority.parse(str(priority)), priority)

    def test_the_field_in(self) -> None:
        for field, urgency, incremental in FIELDS:
            with self.subTest(field):
                self.assertEqual(Priority.parse(field), Priority(urgency, incremental))
                self.assertEqual(Priority.parse(field.encode()), Priority(urgency, incremental))

    def test_what_is_no_dictionary_says_nothing(self) -> None:
        self.assertEqual(Priority.parse("u=1"), Priority(1))
        for field in NO_DICTIONARIES:
            with self.subTest(field):
                self.assertEqual(Priority.parse(field), Priority())
                octets = field.encode("utf-8", "surrogatepass")
                self.assertEqual(Priority.parse(octets), Priority())

    @BOUNDED
    @given(MEMBERS, st.booleans())
    def test_any_dictionary(self, members: list[Any], trailing_comma: bool) -> None:
        field, said = "", dict[str, Any]()
        for (text, name, value), parameters, separator in members:
            field += (field and separator) + text + ("" if name == "" else parameters)
            said[name] = value
        self.assertEqual(
            Priority.parse(field), Priority(said.get("u", 3), said.get("i", False)), field
        )
        if trailing_comma:
            self.assertEqual(Priority.parse(field + ","), Priority(), field)

    @BOUNDED
    @given(st.one_of(st.binary(max_size=40), st.text(max_size=40)))
    def test_nothing_raises(self, field: bytes | str) -> None:
        self.assertIsInstance(Priority.parse(field), Priority)

    def test_a_long_field_costs_little(self) -> None:
        """The worst of each kind of repetition, with an end that fits and one that does not."""
        for unit in ["a,", "u,i,", "u=1, ", ";a", " ", "a=1.5,", 'a="",', "a=(1 2),", "1 ", "a"]:
            for start in ["", "u=", "a=(", 'a="', "a=:", "a=b;"]:
                for end in ["", "b", ")", "!", '"']:
                    with self.subTest((start, unit, end)), cpu_time(0.1):
                        room = Priority.MAX_FIELD - len(start + end)
                        Priority.parse(start + (unit * room)[:room] + end)

    def test_how_long_a_field_may_be(self) -> None:
        field = "u=1, a" + "a" * (Priority.MAX_FIELD - 6)
        self.assertEqual(Priority.parse(field), Priority(1))
        self.assertEqual(Priority.parse(field + "a"), Priority())
        with cpu_time(1):
            for _ in range(100):
                Priority.parse(b"a," * 500_000)


# --- the order of RFC 9218 -----------------------------------------------------------------

ONE, INCREMENTAL = Priority(), Priority(incremental=True)
URGENT, LATE = Priority(0), Priority(7)


class Few(UrgencyScheduler):
    """A scheduler with a limit that a test can reach in a few steps."""

    SIGNALS = 3


def ready_as(priorities: dict[int, Priority]) -> UrgencyScheduler:
    """A scheduler with these streams, ready in that order."""
    scheduler = UrgencyScheduler(priorities.keys())
    for stream_id, priority in priorities.items():
        scheduler.prioritize(stream_id, priority)
        scheduler.ready(stream_id)
    return scheduler


class TestUrgency(unittest.TestCase):
    def test_nothing_is_ready(self) -> None:
        scheduler = UrgencyScheduler({1})
        self.assertIsNone(scheduler.next())
        self.assertFalse(scheduler)
        self.assertFalse(scheduler.has_one)
        self.assertEqual(len(scheduler), 0)

    def test_the_more_urgent_first(self) -> None:
        ids = {15 - 2 * urgency: Priority(urgency, urgency % 2 == 0) for urgency in range(8)}
        scheduler = ready_as(ids)
        self.assertEqual(turns(scheduler, 3), [15, 15, 15])
        self.assertEqual(drain(scheduler, 8), [15, 13, 11, 9, 7, 5, 3, 1])
        self.assertFalse(scheduler)

    def test_a_late_urgent_one_goes_next(self) -> None:
        scheduler = ready_as({1: ONE, 3: INCREMENTAL})
        scheduler.next()
        scheduler.prioritize(5, Priority(2), initial=True)
        scheduler.ready(5)
        self.assertEqual(turns(scheduler, 2), [5, 5])

    def test_one_after_another_in_the_order_of_requests(self) -> None:
        scheduler = ready_as({7: ONE, 3: ONE, 5: ONE, 1: ONE})
        self.assertEqual(turns(scheduler, 3), [1, 1, 1])
        self.assertEqual(drain(scheduler, 4), [1, 3, 5, 7])

    def test_an_earlier_request_goes_on_when_it_is_ready_again(self) -> None:
        scheduler = ready_as({1: ONE, 3: ONE})
        scheduler.blocked(1)
        self.assertEqual(turns(scheduler, 2), [3, 3])
        scheduler.ready(1)
        self.assertEqual(turns(scheduler, 2), [1, 1])

    def test_incremental_ones_in_turn(self) -> None:
        scheduler = ready_as({5: INCREMENTAL, 1: INCREMENTAL, 3: INCREMENTAL})
        self.assertEqual(turns(scheduler, 7), [5, 1, 3, 5, 1, 3, 5])

    def test_who_blocks_and_is_ready_again_does_not_overtake(self) -> None:
        scheduler = ready_as({1: INCREMENTAL, 3: INCREMENTAL, 5: INCREMENTAL})
        counts = Counter[int | None]()
        for _ in range(300):
            counts[stream_id := scheduler.next()] += 1
            if stream_id == 1:
                scheduler.blocked(1)
                scheduler.ready(1)
        self.assertEqual(counts, {1: 100, 3: 100, 5: 100})

    def test_ready_twice_is_one_turn(self) -> None:
        scheduler = ready_as({1: INCREMENTAL, 3: INCREMENTAL, 5: LATE})
        for stream_id in (1, 5):
            scheduler.ready(stream_id)
        self.assertEqual(turns(scheduler, 4), [1, 3, 1, 3])
        self.assertEqual(drain(scheduler, 4), [1, 3, 5])

    def test_one_of_the_others_takes_its_turn_among_incremental_ones(self) -> None:
        scheduler = ready_as({1: ONE, 3: INCREMENTAL, 5: ONE, 7: INCREMENTAL})
        self.assertEqual(turns(scheduler, 6), [1, 3, 7, 1, 3, 7])
        scheduler.blocked(1)
        self.assertEqual(turns(scheduler, 6), [5, 3, 7, 5, 3, 7])
        scheduler.blocked(5)
        self.assertEqual(turns(scheduler, 4), [3, 7, 3, 7])
        scheduler.ready(1)
        self.assertEqual(turns(scheduler, 3), [3, 7, 1])

    def test_without_a_signal_it_is_the_default(self) -> None:
        scheduler = ready_as({3: Priority(2), 5: Priority(4)})
        scheduler.ready(7)
        scheduler.ready(1)
        self.assertEqual(drain(scheduler, 4), [3, 1, 7, 5])

    def test_has_one(self) -> None:
        for priorities, expected in [
            ({1: ONE}, True),
            ({1: INCREMENTAL}, True),
            ({1: ONE, 3: ONE}, True),
            ({1: URGENT, 3: INCREMENTAL, 5: INCREMENTAL}, True),
            ({1: INCREMENTAL, 3: INCREMENTAL}, False),
            ({1: ONE, 3: INCREMENTAL}, False),
        ]:
            with self.subTest(priorities):
                scheduler = ready_as(priorities)
                self.assertIs(scheduler.has_one, expected)
                self.assertIs(len({*turns(scheduler, 4)}) == 1, expected)

    def test_an_unknown_one_is_blocked_and_removed_in_peace(self) -> None:
        scheduler = UrgencyScheduler(())
        scheduler.blocked(1)
        scheduler.remove(1)
        self.assertEqual(len(scheduler), 0)

    def test_a_removed_one_is_forgotten(self) -> None:
        scheduler = ready_as({1: URGENT, 3: LATE})
        scheduler.remove(1)
        self.assertEqual(len(scheduler), 1)
        scheduler.ready(1)
        scheduler.prioritize(5, Priority(2))
        scheduler.ready(5)
        self.assertEqual(drain(scheduler, 3), [5, 1, 3])


class TestUrgencySignals(unittest.TestCase):
    def test_a_ready_one_moves_at_once(self) -> None:
        scheduler = ready_as({1: ONE, 3: ONE, 5: INCREMENTAL})
        scheduler.prioritize(3, URGENT)
        self.assertEqual(turns(scheduler, 2), [3, 3])
        scheduler.prioritize(3, LATE)
        self.assertEqual(turns(scheduler, 2), [1, 5])
        scheduler.prioritize(1, INCREMENTAL)
        self.assertEqual(turns(scheduler, 3), [5, 1, 5])
        self.assertEqual(sorted(drain(scheduler, 3)), [1, 3, 5])

    def test_the_same_again_changes_no_turn(self) -> None:
        scheduler = ready_as({1: INCREMENTAL, 3: INCREMENTAL, 5: INCREMENTAL})
        scheduler.next()
        scheduler.prioritize(3, INCREMENTAL)
        self.assertEqual(turns(scheduler, 3), [3, 5, 1])

    def test_a_blocked_one_is_ready_with_the_last_signal(self) -> None:
        scheduler = ready_as({1: ONE, 3: ONE})
        scheduler.blocked(3)
        scheduler.prioritize(3, LATE)
        scheduler.prioritize(3, URGENT)
        self.assertEqual(scheduler.next(), 1)
        scheduler.ready(3)
        self.assertEqual(scheduler.next(), 3)

    def test_the_request_does_not_undo_what_came_before_it(self) -> None:
        """Section 7: a PRIORITY_UPDATE that overtook the request is the newer of the two."""
        for before in (URGENT, ONE):
            with self.subTest(before):
                scheduler = UrgencyScheduler(())
                scheduler.prioritize(1, before)
                scheduler.prioritize(1, LATE, initial=True)
                scheduler.prioritize(3, Priority(4), initial=True)
                for stream_id in (1, 3):
                    scheduler.ready(stream_id)
                self.assertEqual(scheduler.next(), 1)

    def test_what_comes_after_the_request_counts(self) -> None:
        scheduler = UrgencyScheduler({1, 3})
        scheduler.prioritize(1, URGENT, initial=True)
        scheduler.prioritize(1, LATE)
        for stream_id in (1, 3):
            scheduler.ready(stream_id)
        self.assertEqual(scheduler.next(), 3)


class TestEarlySignals(unittest.TestCase):
    """Signals for streams that are not open (section 7): of use, and bounded."""

    def urgent(self, scheduler: UrgencyScheduler, ids: Iterable[int]) -> list[int]:
        """Which of these streams are known to be urgent."""
        for stream_id in ids:
            scheduler.ready(stream_id)
        scheduler.prioritize(99, Priority(1), initial=True)
        scheduler.ready(99)
        order = drain(scheduler, 20)
        return order[: order.index(99)]

    def test_the_oldest_is_forgotten(self) -> None:
        scheduler = Few(())
        for stream_id in (1, 3, 5, 7, 9):
            scheduler.prioritize(stream_id, URGENT)
        self.assertEqual(len(scheduler), Few.SIGNALS)
        self.assertEqual(self.urgent(scheduler, (1, 3, 5, 7, 9)), [5, 7, 9])

    def test_a_second_signal_makes_it_the_newest(self) -> None:
        scheduler = Few(())
        for stream_id in (1, 3, 5, 1, 7):
            scheduler.prioritize(stream_id, URGENT)
        self.assertEqual(self.urgent(scheduler, (1, 3, 5, 7)), [1, 5, 7])

    def test_those_of_open_streams_are_not_counted(self) -> None:
        open_streams = {1, 3, 5, 7, 9, 11}
        scheduler = Few(open_streams)
        for stream_id in (101, 103, 105, *sorted(open_streams)):
            scheduler.prioritize(stream_id, URGENT)
        self.assertEqual(self.urgent(scheduler, (101, *open_streams)), [1, 3, 5, 7, 9, 11, 101])

    def test_a_stream_that_has_opened_keeps_its_signal(self) -> None:
        """Whether or not its request had a field, and before it has anything to send."""
        open_streams = set[int]()
        scheduler = Few(open_streams)
        scheduler.prioritize(1, URGENT)
        scheduler.prioritize(3, URGENT)
        open_streams |= {1, 3}
        scheduler.prioritize(3, LATE, initial=True)
        for stream_id in range(101, 201, 2):
            scheduler.prioritize(stream_id, LATE)
        self.assertEqual(len(scheduler), 2 + Few.SIGNALS)
        self.assertEqual(self.urgent(scheduler, (1, 3)), [1, 3])

    def test_a_request_with_a_field_opens_its_stream(self) -> None:
        scheduler = Few(())
        scheduler.prioritize(1, URGENT, initial=True)
        for stream_id in range(101, 201, 2):
            scheduler.prioritize(stream_id, LATE)
        scheduler.prioritize(1, Priority(0, True))
        self.assertEqual(len(scheduler), 1 + Few.SIGNALS)
        self.assertEqual(self.urgent(scheduler, (1, 101)), [1])

    def test_an_early_one_that_is_confirmed_is_not_counted_any_more(self) -> None:
        open_streams = set[int]()
        scheduler = Few(open_streams)
        for stream_id in (3, 1):
            scheduler.prioritize(stream_id, URGENT)
        open_streams.add(1)
        scheduler.prioritize(1, URGENT)
        for stream_id in (5, 7):
            scheduler.prioritize(stream_id, URGENT)
        self.assertEqual(self.urgent(scheduler, (1, 3, 5, 7)), [1, 3, 5, 7])

    def test_who_closes_makes_room(self) -> None:
        open_streams = {1}
        scheduler = Few(open_streams)
        for stream_id in (1, 3, 5):
            scheduler.prioritize(stream_id, URGENT)
        for stream_id in (1, 3):
            scheduler.remove(stream_id)
        for stream_id in (7, 9):
            scheduler.prioritize(stream_id, URGENT)
        self.assertEqual(self.urgent(scheduler, (1, 3, 5, 7, 9)), [5, 7, 9])

    def test_ten_thousand_do_not_pile_up(self) -> None:
        open_streams = {*range(1, 101, 2)}
        scheduler = UrgencyScheduler(open_streams)
        for stream_id in open_streams:
            scheduler.prioritize(stream_id, URGENT, initial=True)
        for stream_id in range(1_001, 21_001, 2):
            scheduler.prioritize(stream_id, Priority(stream_id % 8, stream_id % 3 == 0))
            scheduler.prioritize(stream_id - 2, LATE)
            held = [len(thing) for thing in vars(scheduler).values() if hasattr(thing, "__len__")]
            self.assertLessEqual(max(held), 50 + 100)
        self.assertEqual(self.urgent(scheduler, range(1, 21, 2)), [*range(1, 21, 2)])
        for stream_id in (99, *range(1, 21_001, 2)):
            scheduler.remove(stream_id)
        open_streams.clear()
        self.assertEqual([*filter(None, vars(scheduler).values())], [])


class Counted(int):
    """A stream id that counts how often it is compared or looked up."""

    count = 0

    def __hash__(self) -> int:
        Counted.count += 1
        return int.__hash__(self)

    def __lt__(self, other: int) -> bool:
        Counted.count += 1
        return int.__lt__(self, other)

    def __gt__(self, other: int) -> bool:
        Counted.count += 1
        return int.__gt__(self, other)


class TestCost(unittest.TestCase):
    def most(self, streams: int, priorities: list[Priority]) -> int:
        """The most that any step takes while ``streams`` come, are served, and go."""
        ids = [Counted(2 * n + 1) for n in range(streams)]
        scheduler, most = UrgencyScheduler({*ids}), 0

        def step(call: Any, *arguments: Any) -> Any:
            nonlocal most
            before = Counted.count
            result = call(*arguments)
            most = max(most, Counted.count - before)
            return result

        for n, stream_id in enumerate(ids):
            step(scheduler.prioritize, stream_id, priorities[n % len(priorities)])
        # from the last to the first is the order that costs most
        for stream_id in reversed(ids):
            step(scheduler.ready, stream_id)
        for stream_id in ids[::7]:
            step(scheduler.blocked, stream_id)
            step(scheduler.prioritize, stream_id, priorities[-1])
            step(scheduler.ready, stream_id)
        for stream_id in ids[1::7]:
            step(scheduler.prioritize, stream_id, Priority(1, priorities[0].incremental))
        for stream_id in ids[2::7]:
            step(scheduler.remove, stream_id)
        while (served := step(scheduler.next)) is not None:
            self.assertIn(step(lambda: scheduler.has_one), (False, True))
            step(scheduler.blocked, served)
        return most

    def test_of_a_step_with_many_streams(self) -> None:
        for name, priorities in {
            "one after another": [ONE],
            "in turn": [INCREMENTAL],
            "of every kind": [Priority(n % 8, n % 3 == 0) for n in range(24)],
        }.items():
            with self.subTest(name):
                few, many = self.most(100, priorities), self.most(10_000, priorities)
                # a hundred times as many are seven levels more in the heap of those in order,
                # with two comparisons and one look-up a level
                levels = 0 if name == "in turn" else 7
                self.assertLessEqual(many, few + 3 * levels + 5)


# --- any sequence --------------------------------------------------------------------------

PRIORITIES = st.builds(Priority, st.sampled_from([0, 3, 4]), st.booleans())
URGENCY_STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["ready", "blocked", "remove", "next"]), IDS),
        st.tuples(PRIORITIES, IDS),
    ),
    max_size=60,
)


class Model:
    """The order of RFC 9218, by looking at everything each time."""

    def __init__(self) -> None:
        self.priorities: dict[int, Priority] = {}
        # Who waits for a turn, with the time of the last one; 0 is for those that go in order.
        self.waiting: dict[int, dict[int, int]] = {}
        self.ready = dict[int, Priority]()
        self.time = 0

    def key(self, stream_id: int) -> int:
        return stream_id if self.ready[stream_id].incremental else 0

    def apply(self, name: str, stream_id: int) -> None:
        if name == "ready":
            self.place(stream_id, self.priorities.get(stream_id, ONE))
        else:
            self.place(stream_id, None)
            if name == "remove":
                self.priorities.pop(stream_id, None)

    def place(self, stream_id: int, priority: Priority | None) -> None:
        if self.ready.get(stream_id) == priority:
            return
        self.ready.pop(stream_id, None)
        if priority is not None:
            self.ready[stream_id] = priority
        for urgency in range(8):
            keys = {self.key(n) for n, p in self.ready.items() if p.urgency == urgency}
            before = self.waiting.get(urgency, {})
            self.waiting[urgency] = {key: before.get(key, self.time) for key in keys}
        self.time += 1

    def prioritize(self, stream_id: int, priority: Priority) -> None:
        self.priorities[stream_id] = priority
        if stream_id in self.ready:
            self.place(stream_id, priority)

    def next(self) -> int | None:
        if not self.ready:
            return None
        urgency = min(priority.urgency for priority in self.ready.values())
        level = self.waiting[urgency]
        key = min(level, key=level.__getitem__)
        level[key] = self.time
        self.time += 1
        return key or min(
            stream_id
            for stream_id, priority in self.ready.items()
            if priority == Priority(urgency, False)
        )


class TestAnyOrder(unittest.TestCase):
    @BOUNDED
    @given(URGENCY_STEPS)
    def test_as_the_model_says_and_nothing_is_left(self, steps: list[Any]) -> None:
        scheduler, model = UrgencyScheduler(range(1, 4)), Model()
        for what, stream_id in steps:
            if isinstance(what, Priority):
                scheduler.prioritize(stream_id, what)
                model.prioritize(stream_id, what)
            elif what == "next":
                self.assertEqual(scheduler.next(), model.next())
            else:
                getattr(scheduler, what)(stream_id)
                model.apply(what, stream_id)
            self.assertIs(bool(scheduler), bool(model.ready))
            self.assertEqual(len(scheduler), len({*model.ready, *model.priorities}))
        for stream_id in drain(scheduler, 6):
            self.assertEqual(stream_id, model.next())
            model.apply("blocked", stream_id)
        self.assertEqual(model.ready, {})
        for stream_id in range(1, 7):
            scheduler.remove(stream_id)
        self.assertEqual([*filter(None, vars(scheduler).values())], [range(1, 4)])

    @BOUNDED
    @given(st.lists(st.tuples(st.booleans(), st.integers(1, 40)), max_size=150))
    def test_the_lowest_of_many_wherever_they_leave(self, steps: list[tuple[bool, int]]) -> None:
        scheduler, ready = UrgencyScheduler(()), set[int]()
        for comes, stream_id in steps:
            (scheduler.ready if comes else scheduler.blocked)(stream_id)
            (ready.add if comes else ready.discard)(stream_id)
            self.assertEqual(scheduler.next(), min(ready, default=None))
        self.assertEqual(drain(scheduler, 40), sorted(ready))

    def test_the_lowest_of_a_thousand(self) -> None:
        """Enough for who fills a gap to belong above it, below it, and in it."""
        random, ids = Random(9218), [*range(1, 2_001, 2)]
        for _ in range(5):
            scheduler = UrgencyScheduler(())
            for stream_id in random.sample(ids, len(ids)):
                scheduler.ready(stream_id)
            gone = {*random.sample(ids, 700)}
            for stream_id in gone:
                scheduler.blocked(stream_id)
            self.assertEqual(drain(scheduler, 1_000), [n for n in ids if n not in gone])


if __name__ == "__main__":
    unittest.main()
