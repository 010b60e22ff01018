"""``examples/core.py``: what it prints, and that the README shows it as it is."""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import runpy
import subprocess
import sys
import textwrap
import unittest

ROOT = pathlib.Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "core.py"


class TestExample(unittest.TestCase):
    def check(self, output: str) -> None:
        lines = output.splitlines()
        self.assertEqual(len(lines), 4, output)
        self.assertRegex(lines[0], r"(?i)round-trip time: \d+\.\d+ ms$")
        self.assertRegex(lines[1], r"\[\(':status', '200'\)\]$")
        self.assertRegex(lines[2], r"hello, world\b")
        self.assertRegex(lines[3], r"\[\('len', '\d+'\)\]$")

    def test_in_process(self) -> None:
        output = io.StringIO()
        with contextlib.redirect_stdout(output), self.assertNoLogs(level="WARNING"):
            runpy.run_path(str(EXAMPLE), run_name="__main__")
        self.check(output.getvalue())

    def test_as_a_program(self) -> None:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        run = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", str(EXAMPLE)],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        self.check(run.stdout)

    def test_import_runs_nothing(self) -> None:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            names = runpy.run_path(str(EXAMPLE), run_name="core")
        self.assertIn("main", names)
        self.assertEqual(output.getvalue(), "")

    def test_readme_shows_it(self) -> None:
        readme = (ROOT / "README.rst").read_text(encoding="utf-8")
        between = readme.split(".. begin core.py\n")[1].split(".. end core.py\n")[0]
        directive, code = between.strip("\n").split("\n", 1)
        self.assertEqual(directive, ".. code-block:: python")
        shown = textwrap.dedent(code).strip("\n")
        self.assertEqual(shown, EXAMPLE.read_text(encoding="utf-8").strip("\n"))
