"""The fuzzer of ``tests/fuzz``, shortened: its corpus, mutations of it, and what it would find."""

from __future__ import annotations

import contextlib
import io
import pathlib
import tempfile
import unittest
from typing import Any
from unittest import mock

import aioh2
from aioh2.driver import Driver
from aioh2.table import StreamTable

from .fuzz import data_received, mutate
from .fuzz.target import Broken, How, Target
from .octets import UNKNOWN, headers, opening, raw, rst_stream


class TestFuzz(unittest.TestCase):
    def fuzz(self, *arguments: str) -> tuple[int, str]:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            code = data_received.main(arguments)
        return code, output.getvalue()

    def test_corpus_and_mutations(self) -> None:
        code, output = self.fuzz("--inputs", "1500", "--seed", "7")
        self.assertEqual(code, 0, output)

    def test_what_is_found_is_written_and_runs_again(self) -> None:
        receive = aioh2.H2Protocol.data_received

        def broken(protocol: Any, data: bytes) -> None:
            receive(protocol, data)
            if bytes([UNKNOWN]) in data:
                raise KeyError("no such frame")

        self.enterContext(mock.patch.object(aioh2.H2Protocol, "data_received", broken))
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        code, output = self.fuzz("--inputs", "1000", "--artifacts", str(folder))
        self.assertEqual(code, 1)
        self.assertIn("no such frame", output)
        (found,) = folder.iterdir()
        # made shorter: that frame, and at most a preface
        self.assertLessEqual(len(mutate.cut(found.read_bytes()[2:])), 2)
        self.assertEqual(self.fuzz(str(found))[0], 1)


class TestTarget(unittest.TestCase):
    """Each check fails when what it looks at is wrong."""

    def setUp(self) -> None:
        self.target = Target()
        self.addCleanup(self.target.close)

    def run_with(
        self, owner: type, name: str, broken: Any, octets: bytes = headers(1), how: int = 0
    ) -> None:
        self.target.run(bytes([how, 0]) + octets)
        with mock.patch.object(owner, name, broken), self.assertRaises(Broken):
            self.target.run(bytes([how, 0]) + octets)

    def test_waiters_that_nobody_wakes(self) -> None:
        end = Driver.end

        def forgetful(driver: Any, reason: Any) -> None:
            with mock.patch.object(aioh2.H2Stream, "fail", lambda *_: None):
                end(driver, reason)

        self.run_with(Driver, "end", forgetful, how=How.CLIENT | How.LOST)

    def test_what_is_left(self) -> None:
        self.run_with(StreamTable, "release", lambda *_: None, opening(1) + rst_stream(1))

    def test_frames_out_of_order(self) -> None:
        flush = Driver.flush

        def doubled(driver: Any) -> None:
            flush(driver)
            if driver.connection.highest_inbound_stream_id:
                driver._transport.write(headers(1))

        self.run_with(Driver, "flush", doubled)

    def test_replies_without_end(self) -> None:
        received = aioh2.H2Protocol.event_received

        def chatty(protocol: Any, event: Any) -> None:
            received(protocol, event)
            for _ in range(100):
                protocol._driver._transport.write(raw(UNKNOWN, 0, 0, bytes(5_000)))

        self.run_with(aioh2.H2Protocol, "event_received", chatty)


if __name__ == "__main__":
    unittest.main()
