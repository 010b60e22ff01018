"""Measure servers, clients and memory; print medians, and ratios taken within rounds.

Every round runs all servers one after another (A B C, A B C, ...), each freshly started on one
core with h2load on another, so that what else the machine does falls on all of them alike.

python -m benchmarks
python -m benchmarks --rounds 3 --only get-c10-m10 download --servers aioh2-serve bare-h2
python -m benchmarks --before ../main --json benchmarks.json
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, Final

from . import clients, memory, streams, urgent
from .load import LoadError, Runs, calibrate, measure, report
from .processes import LOAD_CORE, ROOT, SERVER_CORE, Server
from .scenarios import SCENARIOS, Scenario
from .servers import MODULES, PROGRAMS, optimisations
from .servers import missing as missing_server
from .servers.programs import BuildError, build_go

_SERVERS: Final = (*MODULES, *PROGRAMS)
_PARTS: Final = ("clients", "memory", "streams", "urgent")
# bare-h2 with wide windows differs from bare-h2 in uploads only, so it is shown only there.
_ONLY_UPLOADS: Final = "bare-h2-wide"
_REFERENCE: Final = "bare-h2"
# Whose memory is of interest.
_PYTHON: Final = ("aioh2-serve", "aioh2-ids", "bare-h2", "hypercorn")


def say(text: str) -> None:
    """Tell how it goes, apart from the tables."""
    print(text, file=sys.stderr, flush=True)


def parse() -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"Scenarios: {', '.join([*SCENARIOS, *_PARTS])}.\nServers: {', '.join(_SERVERS)}.",
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="about how long a run takes the reference"
    )
    parser.add_argument(
        "--requests", type=int, metavar="N", help="requests per run, in place of --seconds"
    )
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", choices=[*SCENARIOS, *_PARTS], help="scenarios"
    )
    parser.add_argument(
        "--servers", nargs="+", metavar="NAME", choices=_SERVERS, default=list(_SERVERS)
    )
    parser.add_argument(
        "--clients",
        nargs="+",
        metavar="NAME",
        choices=clients.CLIENTS,
        default=list(clients.CLIENTS),
        help=f"of {', '.join(clients.CLIENTS)}",
    )
    parser.add_argument(
        "--against",
        nargs="+",
        metavar="NAME",
        default=[_REFERENCE, "hypercorn", "httpx"],
        help="what the ratios are against (default: %(default)s)",
    )
    parser.add_argument(
        "--uvloop",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="rows on uvloop, too (where it is installed)",
    )
    parser.add_argument(
        "--before", metavar="DIR", help="rows for the aioh2 in another checkout, too"
    )
    parser.add_argument(
        "--without",
        nargs="+",
        metavar="NAME",
        default=[],
        help="for each of these optimisations of aioh2, a row without it; 'each' is all of them",
    )
    parser.add_argument("--json", metavar="FILE", help="write every run to this file")
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds <= 0 or (options.requests or 1) < 1:
        parser.error("--rounds, --seconds and --requests must be positive")
    if options.before and not pathlib.Path(options.before, "aioh2").is_dir():
        parser.error(f"there is no aioh2 in {options.before}")
    return options


def variants(name: str, options: argparse.Namespace) -> list[tuple[str, tuple[str, ...]]]:
    """The rows of one server or client: a label and arguments for each."""
    rows: list[tuple[str, tuple[str, ...]]] = [(name, ())]
    if options.before and name.startswith("aioh2"):
        rows.append((f"{name} before", ("--path", str(pathlib.Path(options.before).resolve()))))
    if options.uvloop and name in ("aioh2", "aioh2-serve", "bare-h2"):
        rows.append((f"{name} uvloop", ("--uvloop",)))
    if name == "aioh2-serve":
        rows += [(f"{name} without {off}", ("--without", off)) for off in options.without]
    return rows


def choose_optimisations(wanted: list[str]) -> list[str]:
    """Those that rows are to do without; says when there are none."""
    known = optimisations.names()
    if wanted and not known:
        say("rows without an optimisation are left out: this aioh2 has no switches for them")
        return []
    chosen = [name for one in wanted for name in (known if one == "each" else (one,))]
    for name in chosen:
        if name not in known:
            sys.exit(f"no optimisation is called {name!r}: there are {', '.join(known)}")
    return list(dict.fromkeys(chosen))


def choose_servers(options: argparse.Namespace, folder: pathlib.Path) -> list[Server]:
    """The servers that can run, in their order; says which cannot."""
    servers = []
    for name in options.servers:
        needed = missing_server(name)
        if needed:
            say(f"{name} is left out: {needed} is not installed")
            continue
        if name == "go":
            try:
                build_go(folder)
            except BuildError as error:
                say(f"go is left out: {error}")
                continue
        for label, arguments in variants(name, options):
            servers.append(Server(label=label, name=name, arguments=arguments))
    return servers


def choose_clients(options: argparse.Namespace) -> list[clients.Client]:
    """The clients that can run, in their order; says which cannot."""
    chosen = []
    for name in options.clients:
        needed = clients.missing(name)
        if needed:
            say(f"client {name} is left out: {needed} is not installed")
            continue
        for label, arguments in variants(name, options):
            chosen.append(clients.Client(label=label, name=name, arguments=arguments))
    return chosen


def certificate(folder: pathlib.Path) -> tuple[str, ...] | None:
    """Make a certificate; return the servers' arguments for TLS, None without trustme."""
    try:
        import trustme
    except ImportError:
        return None
    issued = trustme.CA().issue_cert("127.0.0.1", "localhost")
    cert, key = folder / "cert.pem", folder / "key.pem"
    issued.private_key_pem.write_to_path(str(key))
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(str(cert), append=number > 0)
    return "--cert", str(cert), "--key", str(key)


@dataclasses.dataclass(frozen=True)
class Bench:
    """What all scenarios of one invocation share."""

    options: argparse.Namespace
    folder: pathlib.Path
    tls: tuple[str, ...] | None

    def run(self, scenario: Scenario, servers: list[Server]) -> Runs:
        """Run one scenario in interleaved rounds."""
        servers = [s for s in servers if s.name != _ONLY_UPLOADS or scenario.upload]
        tls = self.tls or ()
        requests = self.options.requests
        if requests is None:
            names = [server.label for server in servers]
            reference = servers[names.index(_REFERENCE) if _REFERENCE in names else 0]
            requests = calibrate(reference, scenario, self.options.seconds, self.folder, tls)
        requests = max(requests, scenario.connections)
        runs: Runs = {server.label: [] for server in servers}
        for number in range(self.options.rounds):
            say(
                f"{scenario.name}: round {number + 1} of {self.options.rounds}, {requests} requests"
            )
            for server in servers:
                run = None
                try:
                    run = measure(server, scenario, requests, self.folder, tls)
                except LoadError as error:
                    say(f"{scenario.name}: {server.label}: {error}")
                runs[server.label].append(run)
        return runs


def environment() -> dict[str, str]:
    """What the figures depend on."""
    found = {
        "date": time.strftime("%Y-%m-%d"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "cores": f"{os.cpu_count()} (server on {SERVER_CORE}, load on {LOAD_CORE})",
    }
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        if models:
            found["cpu"] = models[0].partition(":")[2].strip()
    for package in ("h2", "hpack", "hyperframe", "hypercorn", "httpx", "uvloop"):
        if importlib.util.find_spec(package):
            found[package] = importlib.metadata.version(package)
    for program in ("h2load", "nghttpd", "node", "go"):
        # "h2load nghttp2/1.52.0", "v20.20.2", "go version go1.24.1 linux/amd64"
        version = _output([program, "version" if program == "go" else "--version"])
        number = re.search(r"\d+(\.\d+)+", version.removeprefix("h2load nghttp2"))
        if number:
            found[program] = number[0]
    commit = _output(["git", "-C", str(ROOT), "describe", "--always", "--dirty"])
    if commit:
        found["aioh2"] = commit
    return found


def _output(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    return done.stdout.strip()


def main() -> None:
    """Measure what the options say."""
    options = parse()
    # as Ctrl-C does: on the way out, what was started is ended
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    if options.uvloop and importlib.util.find_spec("uvloop") is None:
        say("rows on uvloop are left out: the Python package 'uvloop' is not installed")
        options.uvloop = False
    if SERVER_CORE is None:
        say("server and load share their cores: there is only one, or none can be chosen")
    selected = options.only or [*SCENARIOS, *_PARTS]
    options.without = choose_optimisations(options.without)
    result: dict[str, Any] = {
        "command": shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]),
        "rounds": options.rounds,
        "against": options.against,
        "environment": environment(),
    }
    print(", ".join(f"{name}: {value}" for name, value in result["environment"].items()), "\n")

    def save() -> None:
        if options.json:
            text = json.dumps(result, indent=1, default=dataclasses.asdict)
            pathlib.Path(options.json).write_text(f"{text}\n")

    with tempfile.TemporaryDirectory(prefix="benchmarks-") as name:
        bench = Bench(options, pathlib.Path(name), certificate(pathlib.Path(name)))
        servers = choose_servers(options, bench.folder)
        if not servers:
            sys.exit("none of these servers can run")
        result["servers"] = {}
        for scenario in scenarios(selected, bench):
            try:
                runs = bench.run(scenario, servers)
            except LoadError as error:
                say(f"{scenario.name} is left out: {error}")
                continue
            result["servers"][scenario.name] = runs
            print(f"{scenario.title}\n\n{report(scenario, runs, options.against)}\n", flush=True)
            save()
        for part in (part for part in _PARTS if part in selected):
            text = _PART[part](bench, servers, result)
            if text:
                print(f"{text}\n", flush=True)
            save()


def scenarios(selected: list[str], bench: Bench) -> list[Scenario]:
    """The scenarios that can run; says which cannot."""
    chosen = [SCENARIOS[name] for name in selected if name in SCENARIOS]
    if chosen and shutil.which("h2load") is None:
        say("the servers are left out: the program 'h2load' is not installed")
        return []
    if bench.tls is None and any(scenario.tls for scenario in chosen):
        say("TLS is left out: the Python package 'trustme' is not installed")
        chosen = [scenario for scenario in chosen if not scenario.tls]
    return chosen


def _clients(bench: Bench, servers: list[Server], result: dict[str, Any]) -> str:
    if missing_server("nghttpd"):
        say("the clients are left out: the program 'nghttpd' is not installed")
        return ""
    requests = bench.options.requests or round(2500 * bench.options.seconds)
    chosen = choose_clients(bench.options)
    figures = clients.run(chosen, bench.options.rounds, requests, bench.folder, say)
    result["clients"] = figures
    return f"{clients.TITLE}\n\n{clients.report(figures, bench.options.against)}"


def _memory(bench: Bench, servers: list[Server], result: dict[str, Any]) -> str:
    chosen = [server for server in servers if server.name in _PYTHON]
    figures = memory.run(chosen, bench.options.rounds, bench.tls, say)
    result["memory"] = figures
    return f"{memory.TITLE}\n\n{memory.report(figures)}"


def _streams(bench: Bench, servers: list[Server], result: dict[str, Any]) -> str:
    chosen = [s for s in servers if s.name in ("aioh2-serve", "bare-h2")]
    figures = streams.run(chosen, bench.options.rounds, say)
    result["streams"] = figures
    return f"{streams.TITLE}\n\n{streams.report(figures)}"


def _urgent(bench: Bench, servers: list[Server], result: dict[str, Any]) -> str:
    figures = urgent.run(bench.options.rounds, say)
    result["urgent"] = figures
    return f"{urgent.TITLE}\n\n{urgent.report(figures)}" if figures else ""


_PART: Final[dict[str, Callable[[Bench, list[Server], dict[str, Any]], str]]] = {
    "clients": _clients,
    "memory": _memory,
    "streams": _streams,
    "urgent": _urgent,
}


if __name__ == "__main__":
    main()
