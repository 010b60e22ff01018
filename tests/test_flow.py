"""``flow``: no credit is lost, none is given twice, and a peer that is read from never starves."""

from __future__ import annotations

import gc
import unittest

from hypothesis import given, settings
from hypothesis import strategies as st

from aioh2.flow import Growth, ReceiveWindow

BOUNDED = settings(derandomize=True, database=None, deadline=None, max_examples=200)
#: Small sizes, where one byte decides, and real ones.
SIZES = st.one_of(st.integers(0, 9), st.integers(0, 300_000), st.just(2**31 - 1))


class Model:
    """A window as both ends see it; every step holds what has to hold at any time."""

    #: Seconds, which a reader waits for each byte that it takes.
    now = 0.0

    def __init__(self, case: unittest.TestCase, size: int, growth: Growth | None = None) -> None:
        self.case = case
        self.window = ReceiveWindow(size)
        # How the window grows; what SETTINGS say.
        self.growth = growth
        self.initial = size
        # What the peer may still send; below 0 after SETTINGS have made the window smaller.
        self.peer = size
        self.received = self.consumed = self.credited = 0

    def receive(self, count: int) -> None:
        """The peer sends ``count`` bytes, or as many as it may."""
        count = max(0, min(count, self.peer))
        self.peer -= count
        self.received += count
        self.window.received(count)
        self.check()

    def consume(self, count: int) -> None:
        """The reader takes ``count`` bytes, or as many as there are."""
        count = min(count, self.window.unread)
        self.consumed += count
        self.credit(self.window.consumed(count))

    def resize(self, size: int) -> None:
        """SETTINGS change the window, by which the peer's changes as much."""
        self.peer += size - self.initial
        self.initial = size
        self.credit(self.window.resize(size))

    def credit(self, count: int) -> None:
        self.case.assertGreaterEqual(count, 0)
        self.peer += count
        self.credited += count
        if count and self.growth is not None:
            self.grow(self.growth)
        self.check()

    def grow(self, growth: Growth) -> None:
        self.window.starved = True
        self.now += 1
        size = self.window.size
        more = growth.credited(self.window, self.now, 1)
        self.case.assertIn(more, range(size + 1), "more than its double")
        self.peer += more

    def check(self) -> None:
        window = self.window
        self.case.assertLessEqual(self.credited, self.consumed, "credit for what nobody used")
        self.case.assertGreaterEqual(window.owed, 0)
        self.case.assertGreaterEqual(window.unread, 0)
        self.case.assertEqual(self.received, window.unread + window.owed + self.credited)
        self.case.assertEqual(self.peer, window.size - window.unread - window.owed)
        self.case.assertEqual(window.size, self.initial + window.grown)


STEPS = st.lists(
    st.tuples(st.sampled_from(["receive", "consume", "resize"]), SIZES), min_size=1, max_size=40
)


class TestAnySequence(unittest.TestCase):
    @BOUNDED
    @given(SIZES, STEPS)
    def test_nothing_leaks(self, size: int, steps: list[tuple[str, int]]) -> None:
        model = Model(self, size)
        for name, count in steps:
            getattr(model, name)(count)

    @BOUNDED
    @given(SIZES, STEPS)
    def test_who_reads_all_leaves_the_peer_at_least_half_the_window(
        self, size: int, steps: list[tuple[str, int]]
    ) -> None:
        model = Model(self, size)
        for name, count in steps:
            getattr(model, name)(count)
            model.consume(model.window.unread)
            self.assertEqual(model.window.unread, 0)
            self.assertGreaterEqual(2 * model.peer, model.window.size)
            self.assertGreaterEqual(model.peer, min(1, model.window.size), "the peer is stuck")

    @BOUNDED
    @given(st.integers(1, 9_000), st.lists(st.integers(1, 9_000), min_size=1, max_size=40))
    def test_who_keeps_up_costs_two_updates_a_window(self, size: int, frames: list[int]) -> None:
        model, updates = Model(self, size), 0
        for count in frames:
            before = model.credited
            model.receive(count)
            model.consume(model.window.unread)
            updates += model.credited > before
        self.assertLessEqual(updates * size, 2 * model.received)

    @BOUNDED
    @given(
        st.lists(SIZES, min_size=1, max_size=4),
        SIZES,
        SIZES,
        st.lists(
            st.tuples(st.sampled_from(["receive", "consume", "resize", "end"]), st.integers(0, 3)),
            max_size=60,
        ),
    )
    def test_windows_that_grow_keep_to_their_bounds(
        self, sizes: list[int], limit: int, budget: int, steps: list[tuple[str, int]]
    ) -> None:
        growth = Growth(limit, budget)
        models = [Model(self, size, growth) for size in sizes]
        for name, at in steps:
            model = models[at % len(models)]
            if name == "end":
                growth.ended(model.window)
                growth.forgotten(model.window)
                models[at % len(models)] = Model(self, model.initial, growth)
            else:
                # a full window, all of it, or its half
                getattr(model, name)({"resize": model.initial // 2}.get(name, 2**31))
            grown = [model.window.grown for model in models]
            self.assertLessEqual(sum(grown), budget)
            for model in models:
                if model.window.grown:
                    self.assertLessEqual(model.window.size, limit)
        for model in models:
            growth.forgotten(model.window)
        more = grown_by(growth, ReceiveWindow(budget))
        self.assertEqual(more, max(0, min(budget, limit - budget)), "some of the budget is lost")


class TestSizes(unittest.TestCase):
    def test_nothing_fits_into_a_window_of_0(self) -> None:
        window = ReceiveWindow(0)
        self.assertEqual(window.consumed(0), 0)
        self.assertEqual(window.resize(0), 0)

    def test_what_came_before_a_window_became_0_is_credited(self) -> None:
        window = ReceiveWindow(10)
        window.received(10)
        self.assertEqual(window.consumed(4), 0)
        self.assertEqual(window.resize(0), 4)
        self.assertEqual(window.consumed(6), 6)

    def test_a_window_of_1_gives_its_byte_back_at_once(self) -> None:
        window = ReceiveWindow(1)
        for _ in range(3):
            window.received(1)
            self.assertEqual(window.consumed(1), 1)


class TestCredit(unittest.TestCase):
    def setUp(self) -> None:
        self.window = ReceiveWindow(1000)

    def test_receiving_alone_gives_none(self) -> None:
        self.window.received(1000)
        self.assertEqual((self.window.unread, self.window.owed), (1000, 0))
        self.assertEqual(self.window.consumed(0), 0)

    def test_it_is_held_back_until_it_is_half_the_window(self) -> None:
        self.window.received(1000)
        self.assertEqual(self.window.consumed(499), 0)
        self.assertEqual((self.window.unread, self.window.owed), (501, 499))
        self.assertEqual(self.window.consumed(1), 500)
        self.assertEqual((self.window.unread, self.window.owed), (500, 0))

    def test_it_goes_back_in_one_piece(self) -> None:
        self.window.received(1000)
        self.assertEqual(self.window.consumed(1000), 1000)

    def test_an_odd_window_is_halved_upwards(self) -> None:
        window = ReceiveWindow(5)
        window.received(5)
        self.assertEqual([window.consumed(1) for _ in range(5)], [0, 0, 3, 0, 0])

    def test_a_smaller_window_is_due_earlier(self) -> None:
        self.window.received(300)
        self.assertEqual(self.window.consumed(300), 0)
        self.assertEqual(self.window.resize(601), 0)
        self.assertEqual(self.window.resize(600), 300)
        self.assertEqual((self.window.size, self.window.owed), (600, 0))

    def test_a_larger_window_is_due_later(self) -> None:
        self.window.received(600)
        self.assertEqual(self.window.resize(2000), 0)
        self.assertEqual(self.window.consumed(600), 0)
        self.window.received(400)
        self.assertEqual(self.window.consumed(400), 1000)

    def test_what_it_has_grown_by_stays(self) -> None:
        self.assertEqual(grown_by(Growth(2000, 500), self.window), 500)
        self.assertEqual(self.window.resize(100), 0)
        self.assertEqual((self.window.size, self.window.grown), (600, 500))
        self.window.received(300)
        self.assertEqual(self.window.consumed(300), 300)


def grown_by(
    growth: Growth,
    window: ReceiveWindow,
    *,
    after: float = 0,
    rtt: float | None = 1,
    starved: bool = True,
) -> int:
    """Credit is given twice, with so many seconds between; return what the window grows by."""
    growth.credited(window, 1000, rtt)
    window.starved = starved
    return growth.credited(window, 1000 + after, rtt)


class TestGrowth(unittest.TestCase):
    def setUp(self) -> None:
        self.growth = Growth(8000, 9000)
        self.window = ReceiveWindow(1000)

    def grow(self) -> int:
        return grown_by(self.growth, self.window)

    def test_it_doubles_up_to_the_limit(self) -> None:
        self.assertEqual([self.grow() for _ in range(5)], [1000, 2000, 4000, 0, 0])
        self.assertEqual((self.window.size, self.window.grown), (8000, 7000))

    def test_what_is_left_to_the_limit(self) -> None:
        growth = Growth(1500, 9000)
        self.assertEqual([grown_by(growth, self.window) for _ in range(2)], [500, 0])

    def test_a_window_beyond_the_limit(self) -> None:
        self.assertEqual(grown_by(self.growth, ReceiveWindow(8001)), 0)

    def test_a_window_of_0(self) -> None:
        self.assertEqual(grown_by(self.growth, ReceiveWindow(0)), 0)

    def test_the_first_credit_says_nothing(self) -> None:
        self.window.starved = True
        self.assertEqual(self.growth.credited(self.window, 0, 1), 0)

    def test_less_than_two_round_trips(self) -> None:
        for after, rtt, more in [(0.49, 0.25, 1000), (0.5, 0.25, 0), (0, 1e-9, 1000), (0, 0, 0)]:
            with self.subTest(after=after, rtt=rtt):
                window = ReceiveWindow(1000)
                self.assertEqual(grown_by(self.growth, window, after=after, rtt=rtt), more)

    def test_a_path_that_is_unknown(self) -> None:
        self.assertEqual(grown_by(self.growth, self.window, rtt=None), 0)

    def test_a_reader_that_did_not_wait(self) -> None:
        self.assertEqual(grown_by(self.growth, self.window, starved=False), 0)

    def test_a_wait_counts_once(self) -> None:
        self.grow()
        self.assertEqual(self.growth.credited(self.window, 1000, 1), 0)

    def test_whether_it_may(self) -> None:
        for starved, size, may in [(True, 7999, True), (True, 8000, False), (False, 1000, False)]:
            with self.subTest(starved=starved, size=size):
                window = ReceiveWindow(size)
                window.starved = starved
                self.assertIs(self.growth.may_grow(window), may)


class TestBudget(unittest.TestCase):
    def setUp(self) -> None:
        self.growth = Growth(8000, 1500)
        self.window, self.other = ReceiveWindow(1000), ReceiveWindow(1000)
        self.assertEqual(grown_by(self.growth, self.window), 1000)

    def spare(self) -> int:
        """Return what another window can grow by, which may be less than it wants to."""
        return grown_by(self.growth, self.other)

    def test_all_together(self) -> None:
        self.assertEqual([self.spare(), self.spare()], [500, 0])
        self.assertEqual(grown_by(self.growth, self.window), 0)

    def test_what_has_ended_gives_back(self) -> None:
        self.growth.ended(self.window)
        self.assertEqual(self.spare(), 1000)

    def test_once(self) -> None:
        self.growth.ended(self.window)
        self.growth.forgotten(self.window)
        self.assertEqual([self.spare(), self.spare()], [1000, 500])

    def test_what_is_unread_does_not(self) -> None:
        self.window.received(1)
        self.growth.ended(self.window)
        self.assertEqual([self.spare(), self.spare()], [500, 0])
        self.window.consumed(1)
        self.assertEqual(self.spare(), 1000)

    def test_what_is_forgotten_does(self) -> None:
        self.window.received(1)
        self.growth.ended(self.window)
        self.growth.forgotten(self.window)
        self.assertEqual(self.spare(), 1000)

    def test_what_has_not_grown(self) -> None:
        self.growth.ended(self.other)
        self.growth.forgotten(self.other)
        self.assertEqual([self.spare(), self.spare()], [500, 0])

    def test_nothing_is_kept(self) -> None:
        for read in (True, False):
            window = ReceiveWindow(100)
            self.assertEqual(grown_by(self.growth, window), 100)
            window.received(1)
            self.growth.ended(window)
            if read:
                window.consumed(1)
            self.growth.forgotten(window)
            self.assertNotIn(window, gc.get_referents(*gc.get_referents(self.growth)))


if __name__ == "__main__":
    unittest.main()
