"""Tests against other programs: ``python -m unittest discover -s tests/peers -t .``.

A test whose program is missing is skipped; with AIOH2_REQUIRE_PEERS=1 in the environment it
fails.
"""
