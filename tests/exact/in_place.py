"""A pytest plugin: ``Connection`` in the place of h2's ``H2Connection``, for h2's own tests.

It is loaded before the tests are, and notes each test's outcome in the file that
``AIOH2_OUTCOMES`` names. With ``AIOH2_FRAME_LOG=1``, each connection logs its frames, which takes
it from the fast lanes to those of h2.
"""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import h2.connection

from aioh2.connection import Connection


class InPlace(Connection):
    """``Connection`` for peers that do not start with SETTINGS, as those of h2's tests."""

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        # one rule is switched off (RFC 9113 section 3.4), or hardly any test could begin
        without_first_settings(self)
        if os.environ.get("AIOH2_FRAME_LOG") == "1":
            self.frame_log = lambda direction, frame, fields: None


def without_first_settings(connection: Connection) -> None:
    """Let a peer begin with any frame."""
    buffer = connection.incoming_buffer
    if not hasattr(buffer, "_check_first"):
        raise AttributeError("the rule that SETTINGS come first is not where it was")
    vars(buffer)["_check_first"] = lambda *header: None


h2.connection.H2Connection = InPlace

_outcomes: dict[str, str] = {}


def pytest_runtest_logreport(report: Any) -> None:
    """A test has failed where any of its phases has, and is skipped where any is."""
    if report.outcome != "passed" or report.nodeid not in _outcomes:
        _outcomes[report.nodeid] = report.outcome


def pytest_sessionfinish() -> None:
    pathlib.Path(os.environ["AIOH2_OUTCOMES"]).write_text(json.dumps(_outcomes), encoding="utf-8")
