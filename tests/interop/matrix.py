"""The page of the matrix, from the results of a run: peer, version, case, result.

    python -m tests.interop --json docs/interop.json
    python -m tests.interop.matrix docs/interop.json docs/interop.txt
    python -m tests.interop.matrix --compare docs/interop.json RESULTS

The last tells whether the page's results name the same cases as those of another run.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from itertools import groupby
from typing import Any

Cases = list[dict[str, Any]]
_SIDES = {"server": "aioh2 as the server", "client": "aioh2 as the client"}


def read(path: str) -> Cases:
    """Return the cases of a run."""
    cases: Cases = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    return cases


def summary(cases: Cases) -> list[str]:
    """Return a table of the peers: how many cases have passed, of how many."""
    lines = [
        ".. list-table::",
        "   :header-rows: 1",
        "",
        "   * - Peer",
        "     - Version",
        *(f"     - {title}" for title in _SIDES.values()),
    ]
    for peer in sorted({case["peer"] for case in cases}, key=str.lower):
        of_peer = [case for case in cases if case["peer"] == peer]
        lines += [f"   * - {peer}", f"     - {of_peer[0]['version']}"]
        for side in _SIDES:
            results = [case["result"] == "passed" for case in of_peer if case["side"] == side]
            lines.append(f"     - {sum(results)} of {len(results)}" if results else "     -")
    return [*lines, ""]


def page(cases: Cases) -> str:
    """Return the matrix in reStructuredText: a summary, and a table for each peer and side."""
    lines = summary(cases)
    ordered = sorted(cases, key=lambda c: (c["peer"].lower(), c["side"], c["case"]))
    for peer, of_peer in groupby(ordered, key=lambda case: case["peer"]):
        lines += [peer, "-" * len(peer), ""]
        for side, group in groupby(of_peer, key=lambda case: case["side"]):
            of_side = list(group)
            lines += [
                f".. list-table:: {_SIDES[side]}; {peer} {of_side[0]['version']}",
                "   :widths: 85 15",
                "",
            ]
            for case in of_side:
                lines += [f"   * - {case['case']}"]
                if case["note"]:
                    lines += ["", f"       {case['note']}", ""]
                lines += [f"     - {case['result']}"]
            lines.append("")
    return "\n".join(lines)


def names(cases: Cases) -> set[tuple[str, str, str]]:
    """Return what tells the cases apart."""
    return {(case["peer"], case["side"], case["case"]) for case in cases}


def compare(ours: Cases, theirs: Cases) -> list[str]:
    """Return the cases that only one of two runs has."""
    only = names(ours) ^ names(theirs)
    return [f"{peer}, aioh2 as {side}: {case}" for peer, side, case in sorted(only)]


def main() -> int:
    """Read the options, and write the page or compare."""
    parser = argparse.ArgumentParser(prog="python -m tests.interop.matrix")
    parser.add_argument("--compare", action="store_true", help="compare the cases of two runs")
    parser.add_argument("results", help="what a run has written with --json")
    parser.add_argument("other", help="the page to write, or the other run's results")
    options = parser.parse_args()
    if options.compare:
        different = compare(read(options.results), read(options.other))
        print("\n".join(["in one of the two runs only:", *different] if different else ["same"]))
        return int(bool(different))
    pathlib.Path(options.other).write_text(page(read(options.results)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
