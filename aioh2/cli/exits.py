"""What the commands end with: the exit codes, and the failure that carries one."""

from __future__ import annotations

import enum
import os
import re
import socket

__all__ = ["Exit", "Failure", "explain"]


_NUMBERS = re.compile(r"\[Errno (\d+)\]")


class Exit(enum.IntEnum):
    """The exit codes; where several would do, the command ends with the highest below 128."""

    #: All went well.
    OK = 0
    #: A response came whole, with a status of 400 or more.
    STATUS = 1
    #: Bad input: an option, a URL, or a file that cannot be read or written.
    USAGE = 2
    #: No connection: the name, TCP, TLS, ALPN, or a peer that does not speak HTTP/2.
    CONNECTION = 3
    #: The connection was there, but an answer did not come, or not whole.
    STREAM = 4
    #: Ctrl-C.
    INTERRUPTED = 130
    #: Nobody reads what is written, as with ``| head``.
    PIPE = 141


class Failure(Exception):
    """Ends a command with one line on standard error and an exit code."""

    def __init__(self, code: Exit, text: str) -> None:
        super().__init__(text)
        #: What the command ends with.
        self.code = code


def explain(error: OSError | ValueError) -> str:
    """Return what went wrong, in words and without the number."""
    if isinstance(error, OSError):
        # asyncio has words of its own, and joins those of several addresses
        number = error.errno or 0
        numbers = [number] if number > 0 else _NUMBERS.findall(str(error))
        words = dict.fromkeys(os.strerror(int(each)) for each in numbers)
        if words and not isinstance(error, socket.gaierror):
            return ", ".join(words)
        if error.strerror:
            return error.strerror
    return str(error) or type(error).__name__
