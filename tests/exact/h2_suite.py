"""Run h2's own tests with ``Connection`` in the place of ``H2Connection``.

They come from the source distribution of the h2 that is installed, which is downloaded and not
kept. ``differences.toml`` lists the tests that fail on purpose. The run fails when another test
does, and when one on that list passes.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from typing import Any, Final

import aioh2

HERE: Final = pathlib.Path(__file__).resolve().parent
LISTED: Final = HERE / "differences.toml"


def download(version: str, folder: pathlib.Path) -> pathlib.Path:
    """Fetch h2's source distribution, unpack it, and return its folder."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "h2"]
    subprocess.run([*command, "-d", str(folder), f"h2=={version}"], check=True)
    (archive,) = folder.glob("h2-*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / f"h2-{version}"


def run_tests(suite: pathlib.Path, outcomes: pathlib.Path, *, frame_log: bool) -> dict[str, str]:
    """Run the tests, which may fail, and return the outcome of each."""
    # made absolute, since the tests run elsewhere
    path = [str(HERE), str(pathlib.Path(aioh2.__file__).resolve().parents[1])]
    changed = {
        "PYTHONPATH": os.pathsep.join(path),
        "AIOH2_OUTCOMES": str(outcomes),
        "AIOH2_FRAME_LOG": str(int(frame_log)),
    }
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "--tb=no", "--no-summary"]
    command += ["-p", "no:cacheprovider", "-p", "in_place", "--hypothesis-seed=0", "tests"]
    outcomes.unlink(missing_ok=True)
    done = subprocess.run(
        command, cwd=suite, env=os.environ | changed, capture_output=True, text=True, check=False
    )
    # 1: tests have failed; more: pytest itself has
    if done.returncode > 1 or not outcomes.exists():
        sys.exit(f"pytest did not run:\n{done.stdout}{done.stderr}")
    found: dict[str, str] = json.loads(outcomes.read_text(encoding="utf-8"))
    return {name.removeprefix("tests/"): outcome for name, outcome in found.items()}


def is_of(test: str, listed: str) -> bool:
    """Whether ``listed`` names a test, or all parameters of it."""
    return test == listed or test.startswith(f"{listed}[")


def judge(outcomes: dict[str, str], differences: list[dict[str, Any]]) -> list[str]:
    """Return what is wrong: tests that fail and are not listed, or are listed and do not fail."""
    wrong = []
    expected: set[str] = set()
    for difference in differences:
        for listed in difference["tests"]:
            tests = {test for test in outcomes if is_of(test, listed)}
            if not tests:
                wrong.append(f"listed, but there is no such test: {listed}")
            if again := tests & expected:
                wrong.append(f"listed twice: {sorted(again)}")
            expected |= tests
    for test, outcome in outcomes.items():
        if outcome == "failed" and test not in expected:
            wrong.append(f"fails, and is not listed: {test}")
        elif outcome != "failed" and test in expected:
            wrong.append(f"is listed, and does not fail ({outcome}): {test}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", type=pathlib.Path, help="an unpacked source distribution of h2")
    suite: pathlib.Path | None = parser.parse_args().suite
    version = importlib.metadata.version("h2")
    differences = tomllib.loads(LISTED.read_text(encoding="utf-8"))["difference"]
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        suite = suite or download(version, folder)
        for frame_log in (False, True):
            outcomes = run_tests(suite, folder / "outcomes.json", frame_log=frame_log)
            wrong = judge(outcomes, differences)
            bad += len(wrong)
            failed = sum(outcome == "failed" for outcome in outcomes.values())
            for line in wrong:
                print(line)
            print(
                f"h2 {version}, frame log {'on' if frame_log else 'off'}: {len(outcomes)} tests, "
                f"{failed} differ, by {len(differences)} listed differences; {len(wrong)} wrong"
            )
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
