"""``guards``: what is charged and earned, when a budget is exceeded; time is passed in."""

from __future__ import annotations

import contextlib
import unittest
from typing import Any, ClassVar

from h2.errors import ErrorCodes
from hyperframe.frame import (
    AltSvcFrame,
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from aioh2.config import Config
from aioh2.guards import Budget, BudgetExceeded, Guards

END_STREAM, PADDED, PRIORITY = 0x01, 0x08, 0x20


MOST = 10_000


def spent(budget: Budget, now: float, earned: float = 0) -> int:
    """Spend until nothing is left; return how much there was."""
    for count in range(MOST):
        try:
            budget.spend(now, earned)
        except BudgetExceeded:
            return count
    return MOST


class TestBudget(unittest.TestCase):
    def setUp(self) -> None:
        self.budget = Budget("reset_budget", (10, 2))

    def test_the_burst_at_once(self) -> None:
        self.assertEqual(spent(self.budget, 5), 10)
        self.assertEqual(spent(self.budget, 5), 0)

    def test_the_rate_after_it(self) -> None:
        spent(self.budget, 5)
        self.assertEqual(spent(self.budget, 5.4), 0)
        self.assertEqual(spent(self.budget, 5.5), 1)
        self.assertEqual(spent(self.budget, 8), 5)

    def test_parts_add_up(self) -> None:
        spent(self.budget, 0)
        self.assertEqual(sum(spent(self.budget, at / 8) for at in range(1, 81)), 20)

    def test_a_rest_gives_no_more_than_the_burst(self) -> None:
        spent(self.budget, 5)
        self.assertEqual(spent(self.budget, 1e6), 10)

    def test_a_rest_before_it_is_used_gives_nothing(self) -> None:
        self.budget.spend(5)
        self.assertEqual(spent(self.budget, 1e6), 10)

    def test_time_that_goes_back_gives_nothing_and_takes_nothing(self) -> None:
        spent(self.budget, 5)
        self.assertEqual(spent(self.budget, 4), 0)
        self.assertEqual(spent(self.budget, 5.5), 1)

    def test_what_is_earned_comes_on_top_and_stays(self) -> None:
        self.assertEqual(spent(self.budget, 5, earned=3), 13)
        self.assertEqual(spent(self.budget, 5, earned=4), 1)
        self.assertEqual(spent(self.budget, 1e6, earned=24), 30)

    def test_parts_of_one_are_earned(self) -> None:
        spent(self.budget, 5)
        self.assertEqual(spent(self.budget, 5, earned=0.75), 0)
        self.assertEqual(spent(self.budget, 5, earned=1), 1)
        self.assertEqual(spent(self.budget, 5, earned=1.75), 0)

    def test_what_is_earned_is_spent_last(self) -> None:
        for _ in range(10):
            self.budget.spend(5, 1)
        self.assertEqual(spent(self.budget, 5.5, earned=1), 2)

    def test_no_rate(self) -> None:
        budget = Budget("reset_budget", (3, 0))
        self.assertEqual(spent(budget, 0), 3)
        self.assertEqual(spent(budget, 1e9), 0)

    def test_nothing_at_all(self) -> None:
        self.assertEqual(spent(Budget("reset_budget", (0, 0)), 0), 0)

    def test_left(self) -> None:
        self.assertEqual(self.budget.left(5), 1)
        for _ in range(4):
            self.budget.spend(5)
        self.assertEqual(self.budget.left(5), 0.6)
        self.assertEqual(self.budget.left(5.5), 0.7)
        # asking changes nothing, and time does not go back
        self.assertEqual(self.budget.left(4), 0.6)
        self.assertEqual(self.budget.left(100), 1)
        spent(self.budget, 5)
        self.assertEqual(self.budget.left(5), 0)
        self.budget.spend(5, earned=1)
        self.assertEqual(self.budget.left(5), 0)

    def test_left_of_nothing_and_of_no_end(self) -> None:
        self.assertEqual(Budget("reset_budget", (0, 0)).left(5), 0)
        self.assertEqual(Budget("reset_budget", (0, 5)).left(5), 0)
        self.assertEqual(Budget("reset_budget", None).left(5), 1)

    def test_off(self) -> None:
        self.assertEqual(spent(Budget("reset_budget", None), 0), 10_000)

    def test_the_error(self) -> None:
        spent(self.budget, 0)
        with self.assertRaises(BudgetExceeded) as caught:
            self.budget.spend(0)
        self.assertEqual(
            str(caught.exception), "reset_budget was exceeded: 10 at once, then 2 a second"
        )
        self.assertEqual(caught.exception.budget, "reset_budget")
        self.assertEqual(caught.exception.error_code, ErrorCodes.ENHANCE_YOUR_CALM)


class TestGuards(unittest.TestCase):
    #: A frame that is charged to each.
    CHEAPEST: ClassVar[dict[str, tuple[type[Frame], int, int]]] = {
        "resets": (RstStreamFrame, 4, 0),
        "control": (PingFrame, 8, 0),
        "windows": (WindowUpdateFrame, 4, 0),
        "empty": (DataFrame, 0, 0),
    }

    def setUp(self) -> None:
        self.guards = self.made()

    def test_left(self) -> None:
        everything = {
            "reset_budget": 1,
            "control_budget": 1,
            "window_update_budget": 1,
            "empty_frame_budget": 1,
        }
        self.assertEqual(self.guards.left(0), everything)
        self.guards.charge_reset()
        self.assertEqual(self.guards.left(0), everything | {"reset_budget": 0})

    def made(self, **options: Any) -> Guards:
        size = (1, 0)
        return Guards(
            Config(
                reset_budget=size,
                control_budget=size,
                window_update_budget=size,
                empty_frame_budget=size,
                **options,
            )
        )

    def left(self, guards: Guards) -> dict[str, int]:
        """Return what is left of each budget, where that is not what there was."""
        left = {}
        for name, (kind, length, flags) in self.CHEAPEST.items():
            count = 0
            with contextlib.suppress(BudgetExceeded):
                while True:
                    guards.received(kind.type, length, flags)
                    count += 1
            left[name] = count
        return {name: count for name, count in left.items() if count != 1}

    def test_the_options(self) -> None:
        guards = Guards(Config())
        for name, option, size in [
            ("resets", "reset_budget", (200, 20)),
            ("control", "control_budget", (500, 50)),
            ("windows", "window_update_budget", (2_000, 500)),
            ("empty", "empty_frame_budget", (100, 10)),
        ]:
            with self.subTest(name):
                budget = getattr(guards, name)
                self.assertEqual((budget.name, budget.burst, budget.rate), (option, *size))

    def test_what_a_frame_is_charged_to(self) -> None:
        for kind, length, flags, budget in [
            (WindowUpdateFrame, 4, 0, "windows"),
            (RstStreamFrame, 4, 0, "resets"),
            (PingFrame, 8, 0, "control"),
            (PingFrame, 8, 1, "control"),
            (SettingsFrame, 0, 0, "control"),
            (SettingsFrame, 0, 1, "control"),
            (PriorityFrame, 5, 0, "control"),
            (GoAwayFrame, 8, 0, "control"),
            (AltSvcFrame, 8, 0, "control"),
            (DataFrame, 0, 0, "empty"),
            (DataFrame, 1, PADDED, "empty"),
            (HeadersFrame, 0, 0, "empty"),
            (HeadersFrame, 1, PADDED, "empty"),
            (HeadersFrame, 5, PRIORITY, "empty"),
            (HeadersFrame, 6, PRIORITY | PADDED, "empty"),
            (ContinuationFrame, 0, 4, "empty"),
        ]:
            with self.subTest(kind.__name__, length=length, flags=flags):
                guards = self.made()
                guards.received(kind.type, length, flags)
                self.assertEqual(self.left(guards), {budget: 0})

    def test_unknown_frames(self) -> None:
        for kind in (0x10, 0xB, 0xFF):
            guards = self.made()
            guards.received(kind, 0, 0)
            self.assertEqual(self.left(guards), {"control": 0})

    def test_what_is_charged_to_none(self) -> None:
        for kind, length, flags in [
            (DataFrame, 1, 0),
            (DataFrame, 2, PADDED),
            (DataFrame, 0, END_STREAM),
            (DataFrame, 1, END_STREAM | PADDED),
            (HeadersFrame, 1, 0),
            (HeadersFrame, 6, PRIORITY),
            (HeadersFrame, 2, PADDED),
            (ContinuationFrame, 1, 0),
            (ContinuationFrame, 1, PADDED | PRIORITY),
            (PushPromiseFrame, 4, 0),
        ]:
            with self.subTest(kind.__name__, length=length, flags=flags):
                guards = self.made()
                guards.received(kind.type, length, flags)
                self.assertEqual(self.left(guards), {})

    def test_what_is_earned(self) -> None:
        for name, left in [
            ("content_received", {"empty": 5}),
            ("bulk_received", {"control": 9}),
            ("data_sent", {"control": 9, "windows": 17}),
            ("completed", {"resets": 2}),
            ("begun_or_reset", {"resets": 5}),
            ("to_be_acked", {"control": 5}),
        ]:
            with self.subTest(name):
                guards = self.made()
                setattr(guards, name, 4)
                self.assertEqual(self.left(guards), left)

    def test_what_is_earned_adds_up(self) -> None:
        guards = self.made()
        guards.bulk_received, guards.data_sent, guards.to_be_acked = 1, 2, 3
        guards.completed, guards.begun_or_reset = 7, 1
        self.assertEqual(self.left(guards), {"control": 10, "windows": 9, "resets": 3})

    def test_resets_of_both_kinds_are_counted_together(self) -> None:
        self.guards.charge_reset()
        with self.assertRaises(BudgetExceeded) as caught:
            self.guards.received(RstStreamFrame.type, 4, 0)
        self.assertEqual(caught.exception.budget, "reset_budget")

    def test_time(self) -> None:
        guards = Guards(Config(reset_budget=(1, 1)))
        for now in (0.0, 1.0, 2.0):
            guards.now = now
            guards.charge_reset()
        with self.assertRaises(BudgetExceeded):
            guards.charge_reset()

    def test_settings_entries(self) -> None:
        guards = self.made(max_settings_entries=2)
        guards.received(SettingsFrame.type, 12, 0)
        with self.assertRaises(BudgetExceeded) as caught:
            guards.received(SettingsFrame.type, 18, 0)
        self.assertEqual(caught.exception.budget, "max_settings_entries")
        self.assertIn("SETTINGS with 3 entries came", str(caught.exception))


if __name__ == "__main__":
    unittest.main()
