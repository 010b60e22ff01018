"""The soak of ``tests/soak/requests.py``, shortened: nothing is left of requests that are done."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).parent.parent


class TestSoak(unittest.TestCase):
    def test_nothing_stays(self) -> None:
        """In a process of its own, whose caches no other test has filled."""
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        soak = subprocess.run(
            [sys.executable, "-W", "error", "-m", "tests.soak.requests", "--requests", "10000"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        self.assertEqual(soak.returncode, 0, soak.stdout)
