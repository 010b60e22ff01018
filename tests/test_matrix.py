"""The page of ``tests/interop``'s results."""

from __future__ import annotations

import pathlib
import unittest
from typing import Any

from .interop import matrix

DOCS = pathlib.Path(__file__).parent.parent / "docs"


def case(name: str, **more: Any) -> dict[str, Any]:
    told = {"peer": "curl", "version": "8", "side": "server", "note": "", "result": "passed"}
    return {**told, "module": "test_curl", "case": name, "seconds": 1.0, **more}


class TestMatrix(unittest.TestCase):
    def test_summary(self) -> None:
        cases = [case("GET"), case("POST", result="failed"), case("GET", side="client")]
        lines = "\n".join(matrix.summary(cases))
        self.assertIn("* - curl\n     - 8\n     - 1 of 2\n     - 1 of 1", lines)

    def test_one_side_only(self) -> None:
        self.assertEqual(matrix.summary([case("GET")])[-3:], ["     - 1 of 1", "     -", ""])

    def test_page(self) -> None:
        page = matrix.page([case("POST", note="It breaks a rule."), case("GET", peer="Go")])
        self.assertLess(page.index("   * - POST"), page.index("Go\n--"))
        self.assertIn("   * - POST\n\n       It breaks a rule.\n\n     - passed", page)

    def test_compare(self) -> None:
        self.assertEqual(matrix.compare([case("GET")], [case("GET", result="failed")]), [])
        different = matrix.compare([case("GET"), case("PUT")], [case("GET"), case("POST")])
        self.assertEqual(different, ["curl, aioh2 as server: POST", "curl, aioh2 as server: PUT"])

    def test_what_the_documentation_shows(self) -> None:
        cases = matrix.read(str(DOCS / "interop.json"))
        self.assertEqual((DOCS / "interop.txt").read_text(encoding="utf-8"), matrix.page(cases))
        self.assertEqual(len(matrix.names(cases)), len(cases), "two cases of one name")
