"""``docs/compliance``: what its tables name exists, and they have every section the code names."""

from __future__ import annotations

import ast
import csv
import functools
import importlib
import pathlib
import re
import unittest
from collections.abc import Iterator
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parent.parent
TABLES = ROOT / "docs" / "compliance"
# "RFC 9113 section 6.9", "RFC 9113 sections 5.2 and 6.9.1"
CITED = re.compile(r"RFC (\d+),?\s+sections? ((?:\d+(?:\.\d+)*(?:,? and |, )?)+)")


class Row(NamedTuple):
    """A line of a table."""

    rfc: str
    section: str
    what: str
    code: list[str]
    tests: list[str]


def rows() -> Iterator[Row]:
    for path in sorted(TABLES.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            for section, what, code, tests in csv.reader(file):
                names = [re.findall("``(.+?)``", cell) for cell in (code, tests)]
                yield Row(path.stem.removeprefix("rfc"), section, what, *names)


@functools.cache
def tests_of(module: str) -> dict[str, set[str]]:
    """Return the classes of a test module, each with its methods, without importing it."""
    path = ROOT.joinpath("tests", *module.split(".")).with_suffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        node.name: {method.name for method in node.body if isinstance(method, functions)}
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }


def exists(test: str) -> bool:
    """Tell whether a test module, or a class or method in it, is there."""
    found = re.fullmatch(r"((?:interop\.)?test_\w+)(?:\.([A-Z]\w+))?(?:\.(test_\w+))?", test)
    if found is None:
        return False
    try:
        classes = tests_of(found[1])
    except FileNotFoundError:
        return False
    if found[2] is None:
        return True
    return found[2] in classes and (found[3] is None or found[3] in classes[found[2]])


class TestCompliance(unittest.TestCase):
    def test_rows(self) -> None:
        for row in rows():
            with self.subTest(rfc=row.rfc, section=row.section):
                self.assertRegex(row.section, r"^\d+(\.\d+)*$")
                self.assertTrue(row.what)
                self.assertTrue(row.code)
                self.assertTrue(row.tests)

    def test_sections_are_in_order(self) -> None:
        places: dict[str, list[tuple[int, ...]]] = {}
        for row in rows():
            numbers = tuple(map(int, row.section.split(".")))
            places.setdefault(row.rfc, []).append(numbers)
        for rfc, sections in places.items():
            self.assertEqual(sections, sorted(set(sections)), rfc)

    def test_code_exists(self) -> None:
        for row in rows():
            for name in row.code:
                with self.subTest(rfc=row.rfc, section=row.section, name=name):
                    module, *attributes = name.split(".")
                    found = importlib.import_module(f"aioh2.{module}")
                    for attribute in attributes:
                        found = getattr(found, attribute)

    def test_tests_exist(self) -> None:
        for row in rows():
            for name in row.tests:
                with self.subTest(rfc=row.rfc, section=row.section):
                    self.assertTrue(exists(name), name)

    def test_every_table_is_on_the_page(self) -> None:
        page = (ROOT / "docs" / "compliance.rst").read_text(encoding="utf-8")
        shown = re.findall(r":file: compliance/(.*)", page)
        self.assertEqual(sorted(shown), sorted(path.name for path in TABLES.glob("*.csv")))

    def test_every_section_that_the_code_names_has_its_line(self) -> None:
        lines = {(row.rfc, row.section) for row in rows()}
        for path in sorted((ROOT / "aioh2").glob("*.py")):
            text = re.sub(r"\n *#?:? *", " ", path.read_text(encoding="utf-8"))
            for rfc, sections in CITED.findall(text):
                for section in re.findall(r"\d+(?:\.\d+)*", sections):
                    with self.subTest(module=path.name, rfc=rfc, section=section):
                        self.assertTrue(self.has_line(lines, rfc, section))

    def has_line(self, lines: set[tuple[str, str]], rfc: str, section: str) -> bool:
        """A chapter has its line where one of its sections has."""
        return any(
            rfc == of and (number == section or number.startswith(f"{section}."))
            for of, number in lines
        )
