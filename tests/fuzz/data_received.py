"""Feed ``data_received`` of both sides with what no peer should send.

    python tests/fuzz/data_received.py --seconds 30 [--seed S]      # mutations of the corpus
    python tests/fuzz/data_received.py --seconds 600 --atheris      # guided by coverage
    python tests/fuzz/data_received.py FILE...                      # what was found, once more

What breaks is written to a file, as short as it could be made. Coverage guides where ``atheris``
is installed; inputs that reach something new are added to the directory ``--corpus``.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import pathlib
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from typing import Any, Final

ROOT: Final = pathlib.Path(__file__).resolve().parents[2]
PACKAGES: Final = ["aioh2", "h2", "hpack", "hyperframe", "priority"]


def load(name: str) -> Any:
    """Import a module of the tests, from wherever this file is run."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    return importlib.import_module(f"tests.fuzz.{name}")


def breaks(target: Any, data: bytes) -> bool:
    """Whether an input breaks anything."""
    try:
        target.run(data)
    except Exception:
        return True
    return False


def shortened(target: Any, data: bytes) -> bytes:
    """Leave out the frames that a failure does not need."""
    mutate = load("mutate")
    head, frames = data[:2], mutate.cut(data[2:])
    for at in reversed(range(len(frames))):
        less = frames[:at] + frames[at + 1 :]
        if breaks(target, head + b"".join(less)):
            frames = less
    shorter: bytes = head + b"".join(frames)
    return shorter if breaks(target, shorter) else data


def replay(target: Any, paths: Sequence[pathlib.Path]) -> int:
    """Run files; print what each breaks."""
    broken = 0
    for path in paths:
        try:
            target.run(path.read_bytes())
        except Exception:
            broken += 1
            print(f"{path}:")
            traceback.print_exc(file=sys.stdout)
    print(f"{len(paths)} files, {broken} break something")
    return 1 if broken else 0


def keep(artifacts: pathlib.Path, data: bytes) -> pathlib.Path:
    """Write down what was found."""
    path = artifacts / f"crash-{hashlib.sha256(data).hexdigest()[:16]}"
    path.write_bytes(data)
    return path


def by_chance(target: Any, options: argparse.Namespace) -> int:
    """Run the corpus, then mutations of it."""
    mutate = load("mutate")
    inputs = list(mutate.corpus().values())
    seed, most = options.seed, options.inputs
    r = random.Random(seed)
    started = time.monotonic()
    count = 0
    while count < max(most, len(inputs)) if most else time.monotonic() - started < options.seconds:
        if count < len(inputs):
            data = inputs[count]
        else:
            data = mutate.mutate(r.choice(inputs), r.choice(inputs), r)
        count += 1
        if breaks(target, data):
            path = keep(options.artifacts, shortened(target, data))
            print(f"input {count} of seed {seed} breaks something")
            return replay(target, [path])
    seconds = time.monotonic() - started
    print(f"{count} inputs of seed {seed} in {seconds:.0f} s: nothing was found")
    return 0


def by_coverage(seconds: float, seed: int, corpus: str | None, artifacts: pathlib.Path) -> int:
    """Let atheris choose."""
    import atheris

    with atheris.instrument_imports(include=PACKAGES):
        target = load("target").Target()
    mutate = load("mutate")
    inputs = list(mutate.corpus().values())

    def mutated(data: bytes, size: int, number: int) -> bytes:
        r = random.Random(number)
        if r.random() < 0.5:
            return bytes(atheris.Mutate(data, size))
        new: bytes = mutate.mutate(data, r.choice(inputs), r)
        return new[:size]

    with tempfile.TemporaryDirectory() as start:
        for name, data in mutate.corpus().items():
            (pathlib.Path(start) / name).write_bytes(data)
        arguments = [
            f"-max_total_time={seconds:g}",
            f"-seed={seed or 1}",
            f"-dict={mutate.HERE / 'http2.dict'}",
            f"-artifact_prefix={artifacts}/",
            "-max_len=16384",
            "-timeout=10",
            "-rss_limit_mb=1024",
            "-print_final_stats=1",
        ]
        directories = [corpus] if corpus else []
        atheris.Setup(
            [sys.argv[0], *arguments, *directories, start], target.run, custom_mutator=mutated
        )
        # it ends the process
        atheris.Fuzz()
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run; return 1 where something was found."""
    parser = argparse.ArgumentParser(description="fuzz data_received of both sides")
    parser.add_argument("files", nargs="*", type=pathlib.Path, help="inputs to run once")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--inputs", type=int, help="so many, in place of --seconds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--atheris", action="store_true", help="be guided by coverage")
    parser.add_argument("--corpus", help="where atheris keeps what reaches something new")
    parser.add_argument("--artifacts", type=pathlib.Path, default=pathlib.Path())
    options = parser.parse_args(argv)
    if options.atheris and not options.files:
        return by_coverage(options.seconds, options.seed, options.corpus, options.artifacts)
    with contextlib.closing(load("target").Target()) as target:
        if options.files:
            return replay(target, options.files)
        return by_chance(target, options)


if __name__ == "__main__":
    sys.exit(main())
