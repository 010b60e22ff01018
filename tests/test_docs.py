"""The documentation: every block of Python in it runs, in the order of its page.

The blocks of a page share their names, and may await at the top level, as in ``python -m asyncio``.
What a page does not show but needs is in a comment that begins with ``.. run:``. A block of text
with ``:class: output`` is what has been printed since the one before.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import pathlib
import re
import textwrap
import unittest
from collections.abc import Iterator
from typing import Any, NamedTuple

import aioh2

from .wire import Case, settle

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / "docs"
# Seconds for all blocks of a page.
_LIMIT = 30
_BLOCK = re.compile(
    r"^(?P<indent> *)\.\. (?P<kind>run:|code-block:: \w+)\n"
    r"(?P<options>(?:(?P=indent) +:.*\n)*)"
    r"(?P<body>(?:(?:(?P=indent) {2,}.*)?\n)+)",
    re.MULTILINE,
)


class Block(NamedTuple):
    """A block of a page: code to run, or what it has printed."""

    text: str
    line: int
    is_output: bool


def blocks(text: str) -> Iterator[Block]:
    """Return the blocks of a page that are run or compared."""
    for found in _BLOCK.finditer(text):
        body = textwrap.dedent(found["body"]).strip("\n")
        line = text.count("\n", 0, found.start("body")) + 1
        if found["kind"] in ("run:", "code-block:: python"):
            yield Block(body, line, is_output=False)
        elif ":class: output" in found["options"]:
            yield Block(body, line, is_output=True)


async def run(block: Block, path: str, names: dict[str, Any]) -> None:
    """Run a block of code."""
    source = "\n" * (block.line - 1) + block.text
    code = compile(source, path, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, names)
    if inspect.iscoroutine(result):
        await result


class PageCase(Case):
    # some start TLS inside of a stream, which uvloop does not, and one runs a uvloop of its own
    loop_factory = asyncio.SelectorEventLoop

    async def run_page(self, text: str, path: str = "page.rst") -> None:
        names: dict[str, Any] = {"__name__": "page"}
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            async with asyncio.timeout(_LIMIT):
                for block in blocks(text):
                    if block.is_output:
                        told = printed.getvalue().strip("\n")
                        printed.seek(0)
                        printed.truncate()
                        self.assertEqual(told, block.text, f"{path}, line {block.line}")
                    else:
                        await run(block, path, names)
        await settle()

    async def run_pages(self, paths: set[pathlib.Path]) -> None:
        for path in sorted(paths):
            with self.subTest(page=str(path.relative_to(ROOT))):
                await self.run_page(path.read_text(encoding="utf-8"), str(path))


class TestPages(PageCase):
    async def test_pages(self) -> None:
        await self.run_pages({ROOT / "README.rst", *DOCS.rglob("*.rst")})

    async def test_what_is_run(self) -> None:
        page = """
        .. run:

            import asyncio

        Text.

        .. code-block:: python
            :caption: with an option

            await asyncio.sleep(0)
            print("one")

            print()
            print("two")

        .. code-block:: console

            $ not run

        .. code-block:: text
            :class: output

            one

            two

        .. code-block:: text

            not compared
        """
        await self.run_page(textwrap.dedent(page))
        with self.assertRaises(AssertionError):
            await self.run_page(textwrap.dedent(page).replace('"two"', '"three"'))
        with self.assertRaises(NameError):
            await self.run_page(textwrap.dedent(page).replace("import asyncio", "import ast"))


_DESCRIBES = re.compile(r"^ *\.\. (?:auto\w+|type|attribute):: ([\w.]+)", re.MULTILINE)
#: What is public by its name, and there for the rest of aioh2 only.
INSIDE = {
    "Config": {"of", "split"},
    "H2Stream": {
        *("INTERIM", "PROMISES", "begin_ending", "begin_sending", "fail", "failure", "feed_data"),
        *("feed_end", "feed_informational", "feed_push", "feed_response", "feed_trailers"),
        *("has_ended", "has_peer_ended", "has_started", "is_complete", "is_over", "is_waited_for"),
        *("resize_window", "stop_upload", "take_chunk", "unread", "until_more", "window"),
    },
}


def documented() -> set[str]:
    """Return the names that the pages of the reference describe."""
    pages = (DOCS / "reference").glob("*.rst")
    return {name for page in pages for name in _DESCRIBES.findall(page.read_text("utf-8"))}


def public(cls: type) -> set[str]:
    """Return the public names that a class itself has."""
    return {name for name in vars(cls) if not name.startswith("_")}


class TestReference(unittest.TestCase):
    def test_every_public_name_is_documented(self) -> None:
        self.assertEqual(set(aioh2.__all__) - documented(), set())

    def test_so_is_what_they_have(self) -> None:
        for cls in (aioh2.H2Protocol, aioh2.H2Stream, aioh2.Server, aioh2.Config, aioh2.Priority):
            with self.subTest(cls.__name__):
                described = {
                    name.removeprefix(f"{cls.__name__}.")
                    for name in documented()
                    if name.startswith(f"{cls.__name__}.")
                }
                inside = INSIDE.get(cls.__name__, set())
                self.assertEqual(public(cls) - described - inside, set())
                self.assertEqual(described & inside, set())

    def test_whatever_can_be_called_has_a_docstring(self) -> None:
        for cls in (aioh2.H2Protocol, aioh2.H2Stream, aioh2.Server):
            for name in dir(cls):
                thing = inspect.getattr_static(cls, name)
                if name.startswith("_") or not (callable(thing) or isinstance(thing, property)):
                    continue
                with self.subTest(f"{cls.__name__}.{name}"):
                    self.assertTrue(inspect.getdoc(thing))
