"""``trace URL... -o FILE``: a page that shows what happened on every stream, and when."""

from __future__ import annotations

import argparse
import importlib.resources
import json
import pathlib
from typing import Any

from . import connecting, exchange
from .connecting import Connector
from .exchange import Exchange, Request, Tossed
from .exits import Exit, Failure, explain
from .recording import Recorder
from .terminal import Notes, progress
from .urls import URL
from .watching import watched

__all__ = ["add", "run"]

_MOST = 1_000
# What the page has in the place of the data.
_PLACE = "__TRACE__"


def add(parsers: Any) -> None:
    """Add the command."""
    parser = parsers.add_parser(
        "trace",
        help="write a page with a waterfall of streams and frames",
        epilog="The page is one file, and needs nothing else. Bodies, and the values of "
        "authorization and cookie fields, are not in it.",
    )
    parser.set_defaults(run=run)
    exchange.add_options(parser)
    group = parser.add_argument_group("output")
    group.add_argument(
        *("-o", "--output"), default="trace.html", metavar="FILE", help="default: trace.html"
    )
    group.add_argument(
        *("-n", "--repeat"),
        type=_repeat,
        default=1,
        metavar="N",
        help="request every URL so many times, at once; default: 1",
    )
    connecting.add_options(parser)


def _repeat(text: str) -> int:
    value = int(text)
    if not 1 <= value <= _MOST:
        raise argparse.ArgumentTypeError(f"{text} is not from 1 to {_MOST}")
    return value


async def run(options: argparse.Namespace) -> Exit:
    """Make the requests, and write the page; return the exit code."""
    urls = [URL.parse(text) for text in options.urls] * options.repeat
    request, connector = Request(options, urls), Connector(options, urls)
    path = pathlib.Path(options.output)
    exchanges = [Exchange(url, Tossed()) for url in urls]
    recorder = Recorder(exchanges)
    is_new = _check(path)
    async with progress(exchanges), recorder.sampling():
        await exchange.run(connector, request, exchanges, watched(recorder.frame))
    notes = Notes()
    failed = {done.error for done in exchanges if done.error is not None}
    for error in sorted(failed):
        notes.say(error)
    if recorder.connections:
        _write(path, page(recorder.told(request.method)))
        frames = recorder.kept + recorder.dropped
        print(f"{path}: {len(exchanges)} streams, {frames} frames")
    elif is_new:
        _remove(path)
    return max(done.code for done in exchanges)


def _check(path: pathlib.Path) -> bool:
    """Make sure that the file can be written, before anything is asked for; tell if it is new."""
    try:
        is_new = not path.exists()
        path.open("ab").close()
    except (OSError, ValueError) as error:
        raise _failure(path, error) from None
    return is_new


def _failure(path: pathlib.Path, error: OSError | ValueError) -> Failure:
    return Failure(Exit.USAGE, f"{path}: {explain(error)}")


def _write(path: pathlib.Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise _failure(path, error) from None


def _remove(path: pathlib.Path) -> None:
    path.unlink()


def page(told: dict[str, Any]) -> str:
    """Return the page for what was recorded."""
    template = importlib.resources.files("aioh2.cli").joinpath("trace.html")
    # "<" could end the element that the data is in
    data = json.dumps(told, separators=(",", ":")).replace("<", "\\u003c")
    return template.read_text(encoding="utf-8").replace(_PLACE, data)
