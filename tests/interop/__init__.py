"""Tests against other programs: ``python -m tests.interop``.

A test whose program is missing is skipped; with AIOH2_REQUIRE_PEERS=1 in the environment it
fails.
"""
