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

from . import MODULES, PROGRAMS, Options, missing
from .optimisations import UnknownOptimisation, switch_off
from .programs import BuildError, command


def main() -> None:
    """Read the options, and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.servers", description=__doc__)
    parser.add_argument("name", choices=[*MODULES, *PROGRAMS])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--cert", metavar="FILE", help="certificate (PEM); needs --key")
    parser.add_argument("--key", metavar="FILE", help="private key (PEM)")
    parser.add_argument("--concurrency", type=int, default=100, help="streams per connection")
    parser.add_argument("--uvloop", action="store_true", help="run on uvloop")
    parser.add_argument("--files", metavar="DIR", help="nghttpd, go: a folder for their files")
    parser.add_argument("--path", metavar="DIR", help="take aioh2 from this folder")
    parser.add_argument(
        "--without",
        metavar="NAME",
        nargs="+",
        default=[],
        help="aioh2's optimisations to do without",
    )
    parser.add_argument("--profile", metavar="FILE", help="write a cProfile when told to stop")
    options = parser.parse_args()
    if bool(options.cert) != bool(options.key):
        parser.error("--cert and --key go together")
    needed = missing(options.name)
    if needed:
        parser.error(f"{options.name} needs {needed}")
    settings = Options(
        port=options.port,
        cert=options.cert,
        key=options.key,
        concurrency=options.concurrency,
        wide=options.name == "bare-h2-wide",
    )
    if options.name in PROGRAMS:
        folder = pathlib.Path(options.files or tempfile.mkdtemp(prefix="benchmarks-"))
        try:
            arguments = command(options.name, settings, folder)
        except BuildError as error:
            sys.exit(str(error))
        # in place of this process, so that its id stays
        os.execvp(arguments[0], arguments)
    if options.path:
        sys.path.insert(0, options.path)
    try:
        switch_off(options.without)
    except UnknownOptimisation as error:
        sys.exit(str(error))
    run_python(options, settings)


def run_python(options: argparse.Namespace, settings: Options) -> None:
    """Run a Python server in this process."""
    module = importlib.import_module(f"{__package__}.{MODULES[options.name]}")
    serve: Callable[[Options, asyncio.Event], Any] = module.serve

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


if __name__ == "__main__":
    main()
