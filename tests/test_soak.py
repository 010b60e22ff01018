"""The soak of ``tests/soak/requests.py``, shortened: nothing is left of requests that are done."""

from __future__ import annotations

import contextlib
import io
import unittest

from .soak import requests


class TestSoak(unittest.TestCase):
    def test_nothing_stays(self) -> None:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            code = requests.main(["--requests", "10000"])
        self.assertEqual(code, 0, output.getvalue())
