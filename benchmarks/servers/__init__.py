"""The servers that are measured, each in a module of its own, and what all of them answer.

GET of any path gets a few bytes, GET of /download?size=N gets N bytes, and POST gets the number
of bytes that came.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import shutil
import ssl
from typing import Final

__all__ = ["CHUNK", "MODULES", "PROGRAMS", "SMALL", "Options", "download_size", "missing", "zeros"]

#: The body of a small GET.
SMALL: Final = b"Hello, HTTP/2!\n"
#: Bytes of a download that are handed over in one call.
CHUNK: Final = 65_536
#: The Python servers: the name of the module for each.
MODULES: Final = {
    "aioh2-serve": "aioh2_serve",
    "aioh2-ids": "aioh2_ids",
    "bare-h2": "bare_h2",
    "bare-h2-wide": "bare_h2",
    "hypercorn": "hypercorn_app",
}
#: The others, each by the program that it needs.
PROGRAMS: Final = ("node", "go", "nghttpd")
# What else a Python server needs.
_PACKAGES: Final = {"hypercorn": "hypercorn"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Where and how a server listens; always on 127.0.0.1."""

    port: int
    #: PEM files; without them it speaks cleartext HTTP/2 with prior knowledge.
    cert: str | None = None
    key: str | None = None
    #: SETTINGS_MAX_CONCURRENT_STREAMS.
    concurrency: int = 100
    #: bare-h2 only: receive windows as large as those of aioh2, in place of h2's 64 KiB.
    wide: bool = False

    def context(self) -> ssl.SSLContext | None:
        """The TLS context; None for cleartext."""
        if self.cert is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.cert, self.key)
        context.set_alpn_protocols(["h2"])
        return context


def missing(name: str) -> str | None:
    """Say what has to be installed for the server ``name`` to run; None: nothing."""
    package = _PACKAGES.get(name)
    if package and importlib.util.find_spec(package) is None:
        return f"the Python package {package!r}"
    if name in PROGRAMS and shutil.which(name) is None:
        return f"the program {name!r}"
    return None


def download_size(path: str) -> int | None:
    """The N of ``/download?size=N``; None for any other path."""
    if not path.startswith("/download"):
        return None
    return int(path.partition("size=")[2])


@functools.lru_cache(1)
@functools.cache
def zeros(size: int) -> memoryview:
    """The body of a download, made once: what it takes to make it is not measured."""
    return memoryview(bytes(size))
