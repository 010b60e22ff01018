"""The types: the programs in ``tests/typing`` pass ``mypy --strict``, the wrong ones do not.

``wrong.py`` has a ``type: ignore`` for each error that has to be there; one that mypy does not
need is an error by itself. CI has pyright check the same files.
"""

from __future__ import annotations

import asyncio
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

import aioh2

ROOT = pathlib.Path(__file__).parent.parent
PROGRAMS = ROOT / "tests" / "typing"


class TestTypes(unittest.TestCase):
    def test_mypy(self) -> None:
        with tempfile.TemporaryDirectory() as cache:
            mypy = subprocess.run(
                [sys.executable, "-m", "mypy", "--strict", "--cache-dir", cache, str(PROGRAMS)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=120,
                check=False,
            )
        self.assertEqual(mypy.returncode, 0, mypy.stdout)

    def test_the_package_says_that_it_is_typed(self) -> None:
        self.assertTrue((pathlib.Path(aioh2.__file__).parent / "py.typed").is_file())

    def test_the_programs_use_all_that_is_public(self) -> None:
        source = "".join(
            (PROGRAMS / name).read_text(encoding="utf-8") for name in ("client.py", "server.py")
        )
        for name in aioh2.__all__:
            with self.subTest(name):
                self.assertRegex(source, rf"\baioh2\.{re.escape(name)}\b")
        for kind in (aioh2.H2Protocol, aioh2.Server):
            for name in vars(kind).keys() - {*dir(asyncio.Protocol)}:
                if not name.startswith("_"):
                    with self.subTest(f"{kind.__name__}.{name}"):
                        self.assertRegex(source, rf"\.{name}\b")
