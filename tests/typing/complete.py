"""Whether pyright knows the type of all that ``aioh2`` exports, without inferring any.

    python tests/typing/complete.py

For an environment in which pyright and aioh2 are installed, not from its sources: then this is
also whether ``py.typed`` is. What types pyright has to infer, other checkers may infer otherwise.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from typing import TypedDict

import aioh2


class Symbol(TypedDict):
    """As pyright reports it."""

    name: str
    isTypeKnown: bool
    isTypeAmbiguous: bool


def is_public(symbol: str) -> bool:
    """Whether it is what ``aioh2`` exports, or part of that, by the names of where it is."""
    for name in aioh2.__all__:
        exported = getattr(aioh2, name)
        homes = {"aioh2"}
        if (module := inspect.getmodule(exported)) is not None:
            homes.add(module.__name__)
        if any(f"{symbol}.".startswith(f"{home}.{name}.") for home in homes):
            return True
    return False


def main() -> int:
    """Ask pyright, and print what it does not know."""
    # for --verifytypes, pyright looks at the packages of the first Python in PATH only
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])
    options = ["--verifytypes", "aioh2", "--ignoreexternal", "--outputjson"]
    pyright = subprocess.run(
        [sys.executable, "-m", "pyright", *options],
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        check=False,
    )
    report = json.loads(pyright.stdout)["typeCompleteness"]
    symbols: list[Symbol] = [symbol for symbol in report["symbols"] if is_public(symbol["name"])]
    bad = [s["name"] for s in symbols if s["isTypeAmbiguous"] or not s["isTypeKnown"]]
    print(*bad, sep="\n", end="\n" if bad else "")
    known = f"{len(symbols) - len(bad)} of {len(symbols)} public types are known"
    print(f"{known}; with the modules' own, {report['completenessScore']:.1%}")
    return int(bool(bad) or not symbols)


if __name__ == "__main__":
    sys.exit(main())
