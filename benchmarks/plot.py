"""From the results of a run: a table for each part, and a plot, for the documentation.

python -m benchmarks --json docs/performance.json
python -m benchmarks.plot docs/performance.json docs

writes ``performance.txt``, reStructuredText that a page includes, and ``performance.svg``. The
same results give the same files, byte for byte.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import pathlib
import statistics
import sys
import textwrap
from typing import Any, Final

from . import clients, load, memory, streams, urgent
from .scenarios import SCENARIOS
from .tables import table

__all__: list[str] = []

_REFERENCE: Final = "bare-h2"
# Who is in the plot, in this order, with a colour that stays apart from the others in grey, too.
_COLOURS: Final = {
    "aioh2-serve": "#08519c",
    "aioh2-ids": "#6baed6",
    "hypercorn": "#fdae6b",
    "node": "#74c476",
    "go": "#238b45",
    "nghttpd": "#bdbdbd",
}
_COLUMNS: Final = 3
_LEGEND: Final = "times as many requests per CPU second as a bare h2 server"

Runs = dict[str, list[load.Run | None]]


def scenarios(result: dict[str, Any]) -> dict[str, Runs]:
    """The runs of each scenario, by server."""
    return {
        name: {
            label: [None if run is None else load.Run(**run) for run in runs]
            for label, runs in servers.items()
        }
        for name, servers in result["servers"].items()
    }


def times(runs: Runs, label: str) -> float | None:
    """How many times the reference's requests per CPU second, as the median of the rounds."""
    pairs = zip(runs.get(_REFERENCE, ()), runs.get(label, ()), strict=False)
    values = [one.cpu_each / other.cpu_each for one, other in pairs if one and other]
    return statistics.median(values) if values else None


# --- text ------------------------------------------------------------------------------


def text(result: dict[str, Any]) -> str:
    """All the tables, each with its title, after what they depend on."""
    against = result["against"]
    measured = scenarios(result)
    parts = [_made_by(result)]
    if measured:
        parts.append(_titled(f"overview: {_LEGEND}", _overview(measured)))
    parts += [
        _titled(SCENARIOS[name].title, load.report(SCENARIOS[name], runs, against))
        for name, runs in measured.items()
    ]
    if result.get("clients"):
        figures = {
            label: [None if run is None else clients.Figures(**run) for run in runs]
            for label, runs in result["clients"].items()
        }
        parts.append(_titled(clients.TITLE, clients.report(figures, against)))
    if result.get("memory"):
        parts.append(_titled(memory.TITLE, memory.report(result["memory"])))
    if result.get("streams"):
        pairs = {
            label: [(few, many) for few, many in found]
            for label, found in result["streams"].items()
        }
        parts.append(_titled(streams.TITLE, streams.report(pairs)))
    if result.get("urgent"):
        parts.append(_titled(urgent.TITLE, urgent.report(result["urgent"])))
    return "\n".join([".. Made by benchmarks/plot.py: not to be edited.", "", *parts])


def _titled(title: str, content: str) -> str:
    body = textwrap.indent(content, "   ")
    return f".. table:: {title[0].upper()}{title[1:]}\n   :align: left\n\n{body}\n"


def _made_by(result: dict[str, Any]) -> str:
    environment = ", ".join(f"{name} {value}" for name, value in result["environment"].items())
    said = f"Rounds: {result['rounds']}. With {environment}."
    return f"Made by::\n\n    {result['command']}\n\n{textwrap.fill(said, 98)}\n"


def _overview(measured: dict[str, Runs]) -> str:
    labels = [label for label in _COLOURS if any(runs.get(label) for runs in measured.values())]
    rows = [["scenario", *labels]]
    for name, runs in measured.items():
        ratios = [times(runs, label) for label in labels]
        rows.append([name, *("n/a" if value is None else f"{value:.2f}" for value in ratios)])
    return table(rows)


# --- plot ------------------------------------------------------------------------------


def draw(measured: dict[str, Runs], file: pathlib.Path) -> None:
    """Bars for each scenario, beside the line of the reference; one scale for all."""
    matplotlib = importlib.import_module("matplotlib")
    matplotlib.use("svg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    # else the names of clip paths differ from run to run; text stays text
    matplotlib.rcParams.update({"svg.hashsalt": "aioh2", "svg.fonttype": "none", "font.size": 9})
    matplotlib.rcParams["font.sans-serif"] = ["DejaVu Sans", "Verdana"]
    bars = {name: _bars(runs) for name, runs in measured.items()}
    bars = {name: found for name, found in bars.items() if found}
    most = max(value for found in bars.values() for value in found.values())
    rows = -(-len(bars) // _COLUMNS)
    figure, grid = pyplot.subplots(
        rows, _COLUMNS, figsize=(10.5, 0.7 + 1.9 * rows), squeeze=False, layout="constrained"
    )
    axes = list(grid.flat)
    for ax, (name, found) in zip(axes, bars.items(), strict=False):
        _draw_one(ax, name, found, most)
    for ax in axes[len(bars) :]:
        ax.set_axis_off()
    figure.supxlabel(f"{_LEGEND} (the line; the scale is logarithmic)", fontsize=9)
    figure.savefig(file, metadata={"Date": None, "Creator": None}, facecolor="white")
    pyplot.close(figure)
    # matplotlib ends some lines with a blank
    lines = file.read_text().splitlines()
    file.write_text("".join(f"{line.rstrip()}\n" for line in lines))


def _bars(runs: Runs) -> dict[str, float]:
    found = {label: times(runs, label) for label in _COLOURS}
    return {label: value for label, value in found.items() if value is not None}


def _draw_one(ax: Any, name: str, found: dict[str, float], most: float) -> None:
    labels = list(found)
    # bars of a logarithmic scale begin at the reference, at 1
    ax.barh(
        labels,
        [value - 1 for value in found.values()],
        left=1,
        color=[_COLOURS[label] for label in labels],
        height=0.75,
    )
    ax.set_xscale("log")
    ax.set_xlim(0.1, most * 2.5)
    ax.set_xticks([0.2, 0.5, 1, 2, 5, 10, 20, 50], minor=False)
    ax.set_xticks([], minor=True)
    ax.set_xticklabels(["0.2", "0.5", "1", "2", "5", "10", "20", "50"])
    ax.set_xlim(0.1, most * 2.5)
    ax.invert_yaxis()
    ax.axvline(1, color="black", linewidth=1)
    ax.set_title(name, fontsize=10, loc="left", fontweight="bold")
    ax.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    for label, value in found.items():
        ax.annotate(
            f"{value:.1f}" if value >= 10 else f"{value:.2f}",
            (value, label),
            xytext=(4 if value >= 1 else -4, 0),
            textcoords="offset points",
            va="center",
            ha="left" if value >= 1 else "right",
            fontsize=8,
        )


def main() -> None:
    """Write the text and the plot of one file of results."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.plot",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", type=pathlib.Path, help="the file of --json")
    parser.add_argument("folder", type=pathlib.Path, help="where the two files go")
    options = parser.parse_args()
    result = json.loads(options.results.read_text())
    name = options.results.stem
    (options.folder / f"{name}.txt").write_text(text(result))
    measured = scenarios(result)
    if importlib.util.find_spec("matplotlib") is None:
        sys.exit("the plot is left out: the Python package 'matplotlib' is not installed")
    if any(_bars(runs) for runs in measured.values()):
        draw(measured, options.folder / f"{name}.svg")


if __name__ == "__main__":
    main()
