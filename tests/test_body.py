"""``Body``: every byte comes out once and in order, and its credit is given once."""

from __future__ import annotations

import itertools
import sys
import unittest

from hypothesis import given, settings
from hypothesis import strategies as st

from aioh2.body import Body

BOUNDED = settings(derandomize=True, database=None, deadline=None, max_examples=300)
#: Small ones, where one byte decides, and some that are not joined with others.
COUNTS = st.one_of(st.integers(0, 5), st.integers(0, 3_000))
STEPS = st.lists(
    st.tuples(st.sampled_from(["receive", "receive", "pad", "claim", "take", "chunk"]), COUNTS),
    max_size=60,
)


class Model:
    """A body as its reader and its peer see it."""

    def __init__(self, case: unittest.TestCase, size: int) -> None:
        self.case = case
        self.body = Body(size)
        self.size = size
        # What is to come out, what the peer may send, and what is used and not given back.
        self.unread = b""
        self.peer = size
        self.owed = 0
        self.claimed = 0
        self.octets = itertools.cycle(range(251))

    def receive(self, count: int, padding: int = 0) -> None:
        count = min(count, max(0, self.peer - padding))
        padding = min(padding, self.peer - count)
        data = bytes(itertools.islice(self.octets, count))
        self.unread += data
        self.peer -= count + padding
        self.credit(self.body.received(data, count + padding), padding)

    def pad(self, count: int) -> None:
        self.receive(count // 2, count)

    def claim(self, wanted: int) -> None:
        more = max(0, min(wanted, len(self.unread)) - self.claimed)
        self.claimed += more
        self.credit(self.body.claim(wanted), more)

    def take(self, count: int) -> None:
        self.taken(*self.body.take(min(count, len(self.unread))))

    def taken(self, data: bytes, credit: int) -> None:
        count = len(data)
        expected, self.unread = self.unread[:count], self.unread[count:]
        used = max(0, count - self.claimed)
        self.claimed -= count - used
        self.case.assertEqual(data, expected)
        self.case.assertIs(type(data), bytes)
        self.credit(credit, used)

    def chunk(self, _: int) -> None:
        if self.unread:
            data, credit = self.body.take_chunk()
            self.case.assertGreater(len(data), 0)
            self.taken(data, credit)

    def credit(self, count: int, used: int) -> None:
        """Check that what is used comes back, once it is half the window."""
        self.owed += used
        self.case.assertIn(count, (0, self.owed))
        self.owed -= count
        self.peer += count
        self.case.assertEqual(self.body.buffered, len(self.unread))
        self.case.assertEqual(self.body.window.owed, self.owed)
        self.case.assertEqual(self.peer + self.owed + len(self.unread) - self.claimed, self.size)
        self.case.assertTrue(2 * self.owed < self.size or not self.owed)


class TestAnySequence(unittest.TestCase):
    @BOUNDED
    @given(st.sampled_from([0, 1, 2, 1_000, 65_535]), STEPS)
    def test_bytes_and_credit(self, size: int, steps: list[tuple[str, int]]) -> None:
        model = Model(self, size)
        for name, count in steps:
            getattr(model, name)(count)
        model.take(sys.maxsize)
        self.assertEqual(model.peer + model.owed, size)

    @BOUNDED
    @given(st.lists(st.integers(1, 1_500), max_size=200), st.lists(st.integers(1, 4_000)))
    def test_many_frames(self, frames: list[int], reads: list[int]) -> None:
        """So many that they are joined."""
        model = Model(self, 2**31 - 1)
        for size in frames:
            model.receive(size)
        for size in reads:
            model.take(size)
        model.take(sys.maxsize)


class TestBody(unittest.TestCase):
    def test_nothing(self) -> None:
        body = Body(10)
        self.assertEqual((body.buffered, body.take(0), body.claim(5)), (0, (b"", 0), 0))

    def test_empty_frames_keep_nothing(self) -> None:
        body = Body(10)
        for _ in range(1_000):
            self.assertEqual(body.received(b"", 0), 0)
        self.assertEqual((body.buffered, len(body._chunks)), (0, 0))

    def test_padding_is_credited_at_once(self) -> None:
        body = Body(10)
        self.assertEqual(body.received(b"ab", 6), 0)
        self.assertEqual(body.window.owed, 4)
        self.assertEqual(body.received(b"", 1), 5)
        self.assertEqual(body.buffered, 2)

    def test_a_frame_is_not_copied(self) -> None:
        body = Body(100)
        data = b"any bytes"
        body.received(data, len(data))
        self.assertIs(body.take(9)[0], data)
        body.received(data, len(data))
        self.assertIs(body.take_chunk()[0], data)

    def test_frame_by_frame(self) -> None:
        body = Body(100)
        for data in (b"abc", b"de", b"f"):
            body.received(data, len(data))
        self.assertEqual(body.take(2)[0], b"ab")
        self.assertEqual(body.take_chunk()[0], b"c")
        self.assertEqual(body.take_chunk()[0], b"de")
        self.assertEqual(body.take(1)[0], b"f")

    def test_a_frame_whose_credit_is_given(self) -> None:
        body = Body(10)
        body.received(b"abcdef", 6)
        self.assertEqual(body.claim(10), 6)
        self.assertEqual(body.take_chunk(), (b"abcdef", 0))

    def test_a_frame_in_parts(self) -> None:
        body = Body(100)
        body.received(b"abcdef", 6)
        self.assertEqual([body.take(2)[0] for _ in range(3)], [b"ab", b"cd", b"ef"])
        self.assertEqual(body.buffered, 0)

    def test_claim(self) -> None:
        body = Body(10)
        body.received(b"x" * 10, 10)
        self.assertEqual(body.claim(4), 0)
        self.assertEqual(body.claim(4), 0)
        self.assertEqual(body.claim(5), 5)
        # its credit is given already
        self.assertEqual(body.take(5), (b"x" * 5, 0))
        self.assertEqual(body.window.owed, 0)
        self.assertEqual(body.take(5), (b"x" * 5, 5))

    def test_claim_lets_a_read_of_more_than_the_window_go_on(self) -> None:
        body, came = Body(10), 0
        while came < 100:
            body.received(b"x" * 10, 10)
            came += 10
            self.assertEqual(body.claim(100), 10)
        self.assertEqual(body.take(100), (b"x" * 100, 0))

    def test_part_of_what_is_claimed(self) -> None:
        body = Body(100)
        body.received(b"x" * 60, 60)
        self.assertEqual(body.claim(50), 50)
        self.assertEqual(body.take(20)[1], 0)
        self.assertEqual(body.claim(50), 0)
        self.assertEqual(body.take(40)[1], 0)
        self.assertEqual(body.window.owed, 10)

    def test_window_may_change(self) -> None:
        body = Body(100)
        body.received(b"x" * 10, 10)
        self.assertEqual(body.take(10)[1], 0)
        self.assertEqual(body.window.resize(20), 10)


class TestManySmallFrames(unittest.TestCase):
    """What is unread takes little more memory than its bytes, in frames of any size."""

    def test_single_bytes_are_joined(self) -> None:
        body = Body(2**20)
        for number in range(50_000):
            body.received(bytes([number % 251]), 1)
        self.assertLess(len(body._chunks), 150)
        self.assertEqual(body.take(50_000)[0], bytes(n % 251 for n in range(50_000)))

    def test_as_long_as_there_are_few_each_is_its_own(self) -> None:
        body = Body(2**20)
        for _ in range(64):
            body.received(b"x", 1)
        for _ in range(64):
            self.assertEqual(body.take_chunk()[0], b"x")
        self.assertEqual(body.buffered, 0)

    def test_large_ones_are_not_joined(self) -> None:
        body = Body(2**20)
        for _ in range(100):
            body.received(bytes(1_024), 1_024)
        for _ in range(100):
            self.assertEqual(len(body.take_chunk()[0]), 1_024)

    def test_joined_ones_come_out_as_bytes(self) -> None:
        body = Body(2**20)
        for _ in range(64):
            body.received(b"x", 1)
        body.received(b"y", 1)
        body.take(63)
        data, _ = body.take_chunk()
        self.assertEqual(data, b"xy")
        self.assertIs(type(data), bytes)
        for _ in range(65):
            body.received(b"z", 1)
        body.take(63)
        for part in (body.take(1)[0], body.take(1)[0]):
            self.assertEqual(part, b"z")
            self.assertIs(type(part), bytes)


if __name__ == "__main__":
    unittest.main()
