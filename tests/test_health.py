"""``health``: signs of life, round-trip times and keepalive, with the time passed in."""

from __future__ import annotations

import unittest

from aioh2.health import Health, Verdict

WAIT, PING, DEAD = Verdict.WAIT, Verdict.PING, Verdict.DEAD
START = 1000.0


def watched(interval: float | None = 30, timeout: float = 5) -> Health:
    """A connection of which the last byte came at ``START``."""
    return Health(START, keepalive_interval=interval, keepalive_timeout=timeout)


class TestFunctional(unittest.TestCase):
    def test_as_long_as_bytes_came_within_the_timeout(self) -> None:
        health = watched()
        for after, functional in [(0, True), (2, True), (2.001, False), (100, False)]:
            with self.subTest(after=after):
                self.assertIs(health.is_functional(START + after, 2), functional)

    def test_any_byte_starts_the_timeout_again(self) -> None:
        health = watched()
        health.received(START + 60)
        self.assertTrue(health.is_functional(START + 62, 2))
        self.assertFalse(health.is_functional(START + 62.001, 2))

    def test_an_ack_alone_is_no_sign_of_life(self) -> None:
        """The bytes that it came in are: the caller has said ``received`` before."""
        health = watched()
        health.ping_acked(health.ping_sent(START + 10), START + 11)
        self.assertFalse(health.is_functional(START + 11, 2))


class TestPings(unittest.TestCase):
    def test_there_is_no_time_before_the_first(self) -> None:
        self.assertIsNone(watched().rtt)

    def test_eight_bytes_that_name_the_ping(self) -> None:
        health = watched()
        payloads = [health.ping_sent(START) for _ in range(300)]
        self.assertEqual({len(payload) for payload in payloads}, {8})
        self.assertEqual(len(set(payloads)), 300)

    def test_the_ack_gives_the_round_trip_time(self) -> None:
        health = watched()
        payload = health.ping_sent(START + 1)
        self.assertEqual(health.ping_acked(payload, START + 1.25), 0.25)
        self.assertEqual(health.rtt, 0.25)

    def test_an_ack_out_of_order_is_measured_from_its_own_ping(self) -> None:
        health = watched()
        first, second = health.ping_sent(START), health.ping_sent(START + 1)
        self.assertEqual(health.ping_acked(second, START + 1.5), 0.5)
        self.assertEqual(health.ping_acked(first, START + 2), 2)
        self.assertEqual(health.rtt, 2)

    def test_an_unknown_ack_changes_nothing(self) -> None:
        health = watched()
        health.ping_acked(health.ping_sent(START), START + 1)
        for payload in (b"\0" * 8, b"\xff" * 8, b""):
            with self.subTest(payload=payload):
                self.assertIsNone(health.ping_acked(payload, START + 9))
                self.assertEqual(health.rtt, 1)

    def test_a_second_ack_of_the_same_ping_is_unknown(self) -> None:
        health = watched()
        payload = health.ping_sent(START)
        health.ping_acked(payload, START + 1)
        self.assertIsNone(health.ping_acked(payload, START + 2))
        self.assertEqual(health.rtt, 1)

    def test_the_shortest(self) -> None:
        health = watched()
        self.assertIsNone(health.shortest_rtt)
        for rtt, shortest in [(0.5, 0.5), (0.25, 0.25), (2, 0.25)]:
            health.ping_acked(health.ping_sent(START), START + rtt)
            self.assertEqual((health.rtt, health.shortest_rtt), (rtt, shortest))

    def test_the_path_is_measured_where_it_is_unknown_or_was_long_ago(self) -> None:
        health = watched()
        self.assertTrue(health.is_measure_due(START))
        health.ping_acked(health.ping_sent(START), START + 1)
        self.assertFalse(health.is_measure_due(START + 10.99))
        self.assertTrue(health.is_measure_due(START + 11))

    def test_the_path_is_not_measured_twice_at_once(self) -> None:
        health = watched()
        payload = health.ping_sent(START)
        self.assertFalse(health.is_measure_due(START + 1000))
        health.ping_forgotten(payload)
        self.assertTrue(health.is_measure_due(START + 1000))

    def test_a_forgotten_ping_is_unknown(self) -> None:
        health = watched()
        payload = health.ping_sent(START)
        health.ping_forgotten(payload)
        self.assertIsNone(health.ping_acked(payload, START + 1))
        self.assertIsNone(health.rtt)

    def test_forgetting_twice_or_after_the_ack_is_harmless(self) -> None:
        health = watched()
        payload = health.ping_sent(START)
        health.ping_acked(payload, START + 1)
        health.ping_forgotten(payload)
        health.ping_forgotten(payload)
        self.assertEqual(health.rtt, 1)


#: What happens to a connection with an interval of 30 s and a timeout of 5 s: each step is when
#: (in seconds since the last byte), what the timer finds, or None where bytes come, and when it
#: has to look again.
KEEPALIVE: dict[str, list[tuple[float, Verdict | None, float]]] = {
    "nothing ever comes": [(0, WAIT, 30), (29.9, WAIT, 30), (30, PING, 35), (35, DEAD, 35)],
    "the ping is answered": [(30, PING, 35), (31, None, 61), (35, WAIT, 61), (61, PING, 66)],
    "answered, then dead": [
        (30, PING, 35),
        (34.9, None, 64.9),
        (64.9, PING, 69.9),
        (70, DEAD, 69.9),
    ],
    "bytes keep coming": [(20, None, 50), (30, WAIT, 50), (45, None, 75), (50, WAIT, 75)],
    "the timer is late": [(90, PING, 95), (94.9, WAIT, 95), (300, DEAD, 95)],
    "it looks too often": [(30, PING, 35), (30, WAIT, 35), (31, WAIT, 35), (35, DEAD, 35)],
    "bytes at the last moment": [(30, PING, 35), (35, None, 65), (35, WAIT, 65)],
}


class TestKeepalive(unittest.TestCase):
    def test_verdicts(self) -> None:
        for name, steps in KEEPALIVE.items():
            health = watched()
            for after, verdict, deadline in steps:
                with self.subTest(name, after=after):
                    if verdict is None:
                        health.received(START + after)
                    else:
                        self.assertIs(health.keepalive(START + after), verdict)
                    self.assertEqual(health.deadline, START + deadline)

    def test_without_an_interval_there_is_nothing_to_do(self) -> None:
        health = watched(interval=None)
        self.assertIsNone(health.deadline)
        self.assertIs(health.keepalive(START + 1e9), WAIT)

    def test_the_first_deadline_is_an_interval_away(self) -> None:
        self.assertEqual(watched(interval=7).deadline, START + 7)

    def test_only_the_first_bytes_after_a_ping_answer_it(self) -> None:
        health = watched()
        self.assertFalse(health.received(START + 1))
        self.assertIs(health.keepalive(START + 31), PING)
        self.assertTrue(health.received(START + 32))
        self.assertFalse(health.received(START + 33))

    def test_a_ping_that_the_application_sent_is_no_probe(self) -> None:
        health = watched()
        health.ping_sent(START + 29)
        self.assertIs(health.keepalive(START + 30), PING)


if __name__ == "__main__":
    unittest.main()
