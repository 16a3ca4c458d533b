"""Draws the curves that ``curves.py`` measured: ``python benchmarks/plot.py FILE.json`` writes FILE.svg.

One panel a series, both axes logarithmic; medians, and a band from the 10th to the 90th percentile. A series named in
``reference`` has no panel of its own: it is drawn dashed in all of them. Needs matplotlib.
"""

from __future__ import annotations

import importlib
import json
import pathlib
import sys
from typing import Any

Points = dict[int, tuple[float, float, float]]
"""{count: (median, 10th, 90th percentile)}"""

COLUMNS = 4
#: The y axis covers at least this factor, so that what is flat looks flat.
SPAN = 100.0
PREFIXES = {1 << 30: "GiB", 1 << 20: "MiB", 1 << 10: "KiB"}


def size(nbytes: float) -> str:
    """As in ``4 MiB``."""
    for unit, prefix in PREFIXES.items():
        if nbytes >= unit:
            return f"{nbytes / unit:g} {prefix}"
    return f"{nbytes:g} B"


def runs(document: dict[str, Any]) -> dict[str, dict[str, Points]]:
    """{series: {contestant: points}}, in the order of measuring."""
    found: dict[str, dict[str, Points]] = {}
    for contestant, entry in document["contestants"].items():
        for name, line in entry["lines"].items():
            if "median" in line:
                series, _, count = name.partition("@")
                of_series = found.setdefault(series, {})
                of_series.setdefault(contestant, {})[int(count)] = (line["median"], line["low"], line["high"])
    return found


def unit(document: dict[str, Any], series: str) -> str:
    names = (
        line["unit"]
        for entry in document["contestants"].values()
        for name, line in entry["lines"].items()
        if name.partition("@")[0] == series and "unit" in line
    )
    return next(names, "")


def _curve(panel: Any, points: Points, label: str, **style: Any) -> None:
    counts = sorted(points)
    lines = panel.plot(counts, [points[count][0] for count in counts], markersize=3, label=label, **style)
    low, high = ([points[count][side] for count in counts] for side in (1, 2))
    panel.fill_between(counts, low, high, alpha=0.15, color=lines[0].get_color(), linewidth=0)


def draw(document: dict[str, Any], out: pathlib.Path) -> None:
    """Write the SVG; ImportError without matplotlib."""
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": out.stem, "font.size": 9})
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    found = runs(document)
    reference = found.pop(document["reference"], {})
    across = min(COLUMNS, len(found))
    down = -(-len(found) // across)
    figure, panels = pyplot.subplots(down, across, figsize=(3.1 * across, 2.9 * down), squeeze=False)
    figure.set_layout_engine("constrained")
    colours = {name: f"C{number}" for number, name in enumerate(document["contestants"])}
    for panel, (series, by_contestant) in zip(panels.flat, found.items(), strict=False):
        for contestant, points in by_contestant.items():
            _curve(panel, points, contestant, marker="o", color=colours[contestant])
        for points in reference.values():
            _curve(panel, points, document["reference"], linestyle="--", color="black")
        panel.set(title=series, xscale="log", yscale="log", xlabel=document["x"])
        panel.set_ylabel(f"{document['y']} ({unit(document, series)})")
        low, high = panel.get_ylim()
        margin = max(1.0, (SPAN * low / high) ** 0.5)
        panel.set_ylim(low / margin, high * margin)
        panel.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        if document["binary"]:
            ticks = sorted({count for points in by_contestant.values() for count in points})[::5]
            panel.set_xticks(ticks, [size(tick) for tick in ticks])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    for panel in panels.flat[len(found) :]:
        panel.set_axis_off()
    if len(colours) > 1:
        panels[0][0].legend()
    figure.savefig(out, metadata={"Date": None})
    pyplot.close(figure)


def main() -> int:
    for argument in sys.argv[1:]:
        path = pathlib.Path(argument)
        draw(json.loads(path.read_text()), path.with_suffix(".svg"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
