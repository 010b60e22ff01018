"""``python -m aioh2``: HTTP/2 looked at in practice, from the command line."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from . import get, info, ping, serve, trace
from .exits import Exit, Failure, explain

__all__ = ["main"]

_EPILOG = """\
exit codes: 0: all went well; 1: a response with a status of 400 or more; 2: bad input (an option,
a URL, a file); 3: no connection; 4: the connection was there, but an answer did not come, or not
whole; 130: Ctrl-C; 141: nobody read the output. Of 1 to 4, the highest that applies.
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """End with the exit code for bad input."""
        raise Failure(Exit.USAGE, f"{message} ({self.prog} --help tells more)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code. ``arguments``: None for those of the process."""
    _open_closed()
    try:
        try:
            options = _parser().parse_args(arguments)
            code = asyncio.run(options.run(options))
        finally:
            # what cannot be written any more shows here, and not when Python ends
            sys.stdout.flush()
    except Failure as failure:
        return _fail(failure.code, str(failure))
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except (BrokenPipeError, ConnectionResetError):
        # the latter where it is a socket, as of a parent on uvloop
        _close_stdout()
        return Exit.PIPE
    except OSError as error:
        _close_stdout()
        return _fail(Exit.USAGE, f"standard output: {explain(error)}")
    return int(code)


def _open_closed() -> None:
    """Give the process the standard streams that it was started without, as with ``>&-``."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m aioh2",
        description="Look at HTTP/2 in practice.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in (get, ping, info, trace, serve):
        command.add(parsers)
    return parser


def _fail(code: Exit, text: str) -> int:
    # one line, whatever is in it
    print(f"aioh2: {' '.join(text.split())}", file=sys.stderr)
    return int(code)


def _close_stdout() -> None:
    """Let what is left in the buffer go nowhere, or Python complains of it in the end."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
