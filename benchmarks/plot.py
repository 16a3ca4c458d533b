"""Draws what ``scaling.py`` printed: ``python benchmarks/plot.py ours=ours.jsonl ray=ray.jsonl --out FILE.svg``.

One panel a series; medians, and a band from the 10th to the 90th percentile. The suffix of FILE chooses the format.
Needs matplotlib; without it the numbers are printed as a table and nothing is drawn.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pathlib
import sys
from typing import Any

Series = dict[str, dict[int, tuple[float, float, float]]]
"""{name of the series: {count: (median, least, greatest) microseconds an item}}"""


def load(path: pathlib.Path) -> Series:
    found: Series = {}
    for text in path.read_text().splitlines():
        record: dict[str, Any] = json.loads(text) if text.startswith("{") else {}
        if record.get("value") is not None:
            name, _, count = record["name"].partition("@")
            samples = sorted(record["samples"])
            tenth = len(samples) // 10
            found.setdefault(name, {})[int(count)] = (record["value"], samples[tenth], samples[-1 - tenth])
    return found


def print_table(runs: dict[str, Series]) -> None:
    for run, series in runs.items():
        for name, points in series.items():
            shown = "  ".join(f"{count:,}: {points[count][0]:,.1f}" for count in sorted(points))
            print(f"{run}  {name}  µs an item at  {shown}")


def draw(runs: dict[str, Series], out: pathlib.Path) -> None:
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("svg" if out.suffix == ".svg" else "agg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "scaling", "font.size": 9})
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    names = list(dict.fromkeys(name for series in runs.values() for name in series))
    figure, panels = pyplot.subplots(1, len(names), figsize=(2.6 * len(names), 3), squeeze=False, layout="constrained")
    for panel, name in zip(panels[0], names, strict=True):
        for run, series in runs.items():
            points = sorted(series.get(name, {}).items())
            counts = [count for count, _ in points]
            panel.plot(counts, [middle for _, (middle, _, _) in points], marker="o", markersize=3, label=run)
            panel.fill_between(
                counts, [low for _, (_, low, _) in points], [high for *_, (*_, high) in points], alpha=0.2
            )
        panel.set(title=name, xscale="log", yscale="log", xlabel="pending")
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("µs an item")
    panels[0][0].legend()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="FILE")
    options = parser.parse_args()
    runs = {name: load(pathlib.Path(path)) for name, _, path in (text.partition("=") for text in options.runs)}
    print_table(runs)
    try:
        draw(runs, options.out)
    except ModuleNotFoundError as error:
        print(f"plot.py: {error}; nothing drawn. Install it with: pip install matplotlib", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
