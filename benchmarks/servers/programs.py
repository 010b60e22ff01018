"""The servers that are programs of their own: how each is started."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
from typing import Final

from . import SMALL, Options

__all__ = ["BuildError", "build_go", "command"]

_HERE: Final = pathlib.Path(__file__).parent
# What nghttpd, which only has files, can be asked to download.
_DOWNLOAD: Final = 16 * 1024 * 1024
# Seconds for Go to compile its own library, which it does once.
_BUILD_LIMIT: Final = 300


class BuildError(Exception):
    """A server that has to be compiled could not be."""


def command(name: str, options: Options, folder: pathlib.Path) -> list[str]:
    """The command that runs the server ``name``; ``folder`` is for files that it needs."""
    if name == "nghttpd":
        return _nghttpd(options, folder)
    program = ["node", str(_HERE / "node_server.js")] if name == "node" else [str(build_go(folder))]
    arguments = [*program, str(options.port), str(options.concurrency)]
    if options.cert and options.key:
        arguments += [options.cert, options.key]
    return arguments


def _nghttpd(options: Options, folder: pathlib.Path) -> list[str]:
    (folder / "index.html").write_bytes(SMALL)
    (folder / "download").write_bytes(bytes(_DOWNLOAD))
    arguments = ["nghttpd", "-a", "127.0.0.1", "-d", str(folder), "-m", str(options.concurrency)]
    if options.cert and options.key:
        return [*arguments, str(options.port), options.key, options.cert]
    return [*arguments, "--no-tls", str(options.port)]


def build_go(folder: pathlib.Path) -> pathlib.Path:
    """Compile the Go server into ``folder``, once, with Go's own library only.

    ``go run`` would be a process beside the one that is to be measured. Raises
    :class:`BuildError`, where Go is older than 1.24, for one.
    """
    program = folder / "go_server"
    if program.exists():
        return program
    if shutil.which("go") is None:
        raise BuildError("the program 'go' is not installed")
    try:
        done = subprocess.run(
            ["go", "build", "-o", str(program), "."],
            cwd=_HERE / "go_server",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_BUILD_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BuildError(f"go build took more than {_BUILD_LIMIT} s") from None
    if done.returncode:
        raise BuildError(f"go build failed: {done.stderr.strip()[-200:]}")
    return program
