"""Tests of aioh2: ``python -m unittest tests`` runs all that need no other programs.

With ``AIOH2_TEST_LOOP=uvloop`` in the environment they run on uvloop, but for those that skip time
or need of a loop what uvloop has not: these name a loop of their own.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import pathlib
import unittest

_LOOP = os.environ.get("AIOH2_TEST_LOOP", "")
if _LOOP == "uvloop":
    # where it is not installed this fails: nothing is to pass for having run on another loop
    uvloop = importlib.import_module("uvloop")
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
elif _LOOP:
    raise ValueError(f"AIOH2_TEST_LOOP is not uvloop, or nothing, but {_LOOP!r}")


def load_tests(
    loader: unittest.TestLoader, standard_tests: unittest.TestSuite, pattern: str | None
) -> unittest.TestSuite:
    """Find every test module of this folder; without this ``unittest tests`` finds none."""
    for path in sorted(pathlib.Path(__file__).parent.glob("test_*.py")):
        standard_tests.addTests(loader.loadTestsFromName(f"{__name__}.{path.stem}"))
    return standard_tests
