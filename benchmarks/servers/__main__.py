"""Run one server on a port of 127.0.0.1 until SIGTERM or SIGINT.

python -m benchmarks.servers aioh2-serve --port 8000
python -m benchmarks.servers aioh2-serve --port 8000 --profile /tmp/serve.prof
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import importlib
import os
import pathlib
import signal
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from . import MODULES, SMALL, Options, missing

_NODE_SCRIPT = pathlib.Path(__file__).with_name("node_server.js")
# What nghttpd, which only has files, can be asked to download.
_DOWNLOAD = 16 * 1024 * 1024


def main() -> None:
    """Read the options, and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.servers", description=__doc__)
    parser.add_argument("name", choices=[*MODULES, "node", "nghttpd"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--cert", metavar="FILE", help="certificate (PEM); needs --key")
    parser.add_argument("--key", metavar="FILE", help="private key (PEM)")
    parser.add_argument("--concurrency", type=int, default=100, help="streams per connection")
    parser.add_argument("--uvloop", action="store_true", help="run on uvloop")
    parser.add_argument("--files", metavar="DIR", help="nghttpd: a folder for what it serves")
    parser.add_argument("--path", metavar="DIR", help="take aioh2 from this folder")
    parser.add_argument("--profile", metavar="FILE", help="write a cProfile when told to stop")
    options = parser.parse_args()
    if bool(options.cert) != bool(options.key):
        parser.error("--cert and --key go together")
    needed = missing(options.name)
    if needed:
        parser.error(f"{options.name} needs {needed}")
    if options.name not in MODULES:
        _become(_node(options) if options.name == "node" else _nghttpd(options))
    if options.path:
        sys.path.insert(0, options.path)
    run_python(options)


def run_python(options: argparse.Namespace) -> None:
    """Run a Python server in this process."""
    module = importlib.import_module(f"{__package__}.{MODULES[options.name]}")
    serve: Callable[[Options, asyncio.Event], Any] = module.serve
    settings = Options(
        port=options.port,
        cert=options.cert,
        key=options.key,
        concurrency=options.concurrency,
        wide=options.name == "bare-h2-wide",
    )

    async def until_signal() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await serve(settings, stop)

    factory = importlib.import_module("uvloop").new_event_loop if options.uvloop else None
    profile = cProfile.Profile() if options.profile else None
    # what start-up left is not what the requests cost
    gc.collect()
    with asyncio.Runner(loop_factory=factory) as runner:
        if profile:
            profile.enable()
        runner.run(until_signal())
        if profile:
            profile.disable()
            profile.dump_stats(options.profile)


def _become(command: list[str]) -> None:
    """Turn this process into another program, so that its id stays."""
    os.execvp(command[0], command)


def _node(options: argparse.Namespace) -> list[str]:
    arguments = [str(options.port), str(options.concurrency)]
    if options.cert:
        arguments += [options.cert, options.key]
    return ["node", str(_NODE_SCRIPT), *arguments]


def _nghttpd(options: argparse.Namespace) -> list[str]:
    folder = pathlib.Path(options.files or tempfile.mkdtemp(prefix="nghttpd-"))
    (folder / "index.html").write_bytes(SMALL)
    (folder / "download").write_bytes(bytes(_DOWNLOAD))
    command = ["nghttpd", "-a", "127.0.0.1", "-d", str(folder), "-m", str(options.concurrency)]
    if options.cert:
        return [*command, str(options.port), options.key, options.cert]
    return [*command, "--no-tls", str(options.port)]


if __name__ == "__main__":
    main()
