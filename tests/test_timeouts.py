"""``timeouts``: what has begun, what is over when; time is passed in."""

from __future__ import annotations

import unittest

from aioh2.config import Config
from aioh2.timeouts import Limit, Timeouts


class TestTimeouts(unittest.TestCase):
    def setUp(self) -> None:
        self.timeouts = Timeouts({Limit.FRAME: 10, Limit.WINDOW: 3, Limit.BODY: None})

    def test_nothing_has_begun(self) -> None:
        self.assertIsNone(self.timeouts.deadline)
        self.assertEqual(self.timeouts.expired(1e9), [])
        self.assertEqual(len(self.timeouts), 0)

    def test_over_at_the_limit_and_once(self) -> None:
        self.timeouts.begin(Limit.FRAME, 5)
        self.assertEqual(self.timeouts.deadline, 15)
        self.assertEqual(self.timeouts.expired(14.9), [])
        self.assertEqual(self.timeouts.expired(15), [(Limit.FRAME, 0)])
        self.assertEqual(self.timeouts.expired(100), [])
        self.assertIsNone(self.timeouts.deadline)

    def test_beginning_again_changes_nothing(self) -> None:
        self.timeouts.begin(Limit.FRAME, 5)
        self.timeouts.begin(Limit.FRAME, 9)
        self.assertEqual((self.timeouts.deadline, len(self.timeouts)), (15, 1))

    def test_ended_in_time(self) -> None:
        self.timeouts.begin(Limit.FRAME, 5)
        self.timeouts.end(Limit.FRAME)
        self.timeouts.end(Limit.FRAME)
        self.assertIsNone(self.timeouts.deadline)

    def test_without_a_limit_nothing_begins(self) -> None:
        self.timeouts.begin(Limit.BODY, 5, 1)
        self.timeouts.end(Limit.BODY, 1)
        self.timeouts.begin(Limit.IDLE, 5)
        self.assertEqual(len(self.timeouts), 0)

    def test_streams_have_their_own_time(self) -> None:
        for stream_id, now in ((1, 0), (3, 1), (5, 2)):
            self.timeouts.begin(Limit.WINDOW, now, stream_id)
        self.timeouts.end(Limit.WINDOW, 3)
        self.assertEqual(self.timeouts.deadline, 3)
        self.assertEqual(self.timeouts.expired(4), [(Limit.WINDOW, 1)])
        self.assertEqual(self.timeouts.deadline, 5)

    def test_the_earliest_of_all_kinds(self) -> None:
        self.timeouts.begin(Limit.FRAME, 0)
        self.timeouts.begin(Limit.WINDOW, 4, 1)
        self.assertEqual(self.timeouts.deadline, 7)
        self.assertEqual(
            sorted(self.timeouts.expired(10), key=str), [(Limit.FRAME, 0), (Limit.WINDOW, 1)]
        )

    def test_forgotten_stream(self) -> None:
        self.timeouts.begin(Limit.WINDOW, 0, 1)
        self.timeouts.begin(Limit.FRAME, 0)
        self.timeouts.forget(1)
        self.assertEqual(self.timeouts.expired(100), [(Limit.FRAME, 0)])

    def test_from_options(self) -> None:
        timeouts = Timeouts.of(Config(idle_timeout=7, frame_timeout=None))
        timeouts.begin(Limit.FRAME, 0)
        timeouts.begin(Limit.IDLE, 0)
        self.assertEqual((len(timeouts), timeouts.deadline), (1, 7))
