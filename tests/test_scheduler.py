"""``scheduler``: turns, shares by RFC 7540, and that no signal of a peer can do harm."""

from __future__ import annotations

import contextlib
import gc
import inspect
import signal
import sys
import types
import unittest
from collections import Counter
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from aioh2.scheduler import TreeScheduler

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


def turns(scheduler: TreeScheduler, count: int) -> list[int | None]:
    """The next ``count`` streams."""
    return [scheduler.next() for _ in range(count)]


def drain(scheduler: TreeScheduler, most: int) -> list[int]:
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


if __name__ == "__main__":
    unittest.main()
