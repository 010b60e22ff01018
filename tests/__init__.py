"""Tests of aioh2: ``python -m unittest tests`` runs all that need no other programs."""

from __future__ import annotations

import pathlib
import unittest


def load_tests(
    loader: unittest.TestLoader, standard_tests: unittest.TestSuite, pattern: str | None
) -> unittest.TestSuite:
    """Find every test module of this folder; without this ``unittest tests`` finds none."""
    for path in sorted(pathlib.Path(__file__).parent.glob("test_*.py")):
        standard_tests.addTests(loader.loadTestsFromName(f"{__name__}.{path.stem}"))
    return standard_tests
