"""``flow``: no credit is lost, none is given twice, and a peer that is read from never starves."""

from __future__ import annotations

import unittest

from hypothesis import given, settings
from hypothesis import strategies as st

from aioh2.flow import ReceiveWindow

BOUNDED = settings(derandomize=True, database=None, deadline=None, max_examples=200)
#: Small sizes, where one byte decides, and real ones.
SIZES = st.one_of(st.integers(0, 9), st.integers(0, 300_000), st.just(2**31 - 1))


class Model:
    """A window as both ends see it; every step holds what has to hold at any time."""

    def __init__(self, case: unittest.TestCase, size: int) -> None:
        self.case = case
        self.window = ReceiveWindow(size)
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
        self.peer += size - self.window.size
        self.credit(self.window.resize(size))

    def credit(self, count: int) -> None:
        self.case.assertGreaterEqual(count, 0)
        self.peer += count
        self.credited += count
        self.check()

    def check(self) -> None:
        window = self.window
        self.case.assertLessEqual(self.credited, self.consumed, "credit for what nobody used")
        self.case.assertGreaterEqual(window.owed, 0)
        self.case.assertGreaterEqual(window.unread, 0)
        self.case.assertEqual(self.received, window.unread + window.owed + self.credited)
        self.case.assertEqual(self.peer, window.size - window.unread - window.owed)


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


if __name__ == "__main__":
    unittest.main()
