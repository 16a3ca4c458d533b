"""Runs the programs that vary one number, and draws what they say.

    python benchmarks/curves.py ours=.venv/bin/python ray=.venv-ray/bin/python [--curve bandwidth]

- ``bandwidth``: ``put`` and ``get`` by size, of each store, beside memcpy,
- ``scaling``: the cost of one of many tasks, refs, objects, calls and actors,
- ``selectors``: what ``epoll`` and ``poll`` cost by number of refs,
- ``simulation``: the pure machines alone, up to 10,000 nodes and 1,000,000 tasks.

For each it writes ``NAME.json`` with the numbers, ``NAME.md`` with a table and ``NAME.svg``. The drawing needs
matplotlib in the interpreter that runs this. The first contestant has variants; the others run where they can.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import sys
import time
from typing import Any

import contestants
import plot
from contestants import Contestant
from report import notes, number, pipe_table, troubles
from targets import DEFAULTS


@dataclasses.dataclass(frozen=True, slots=True)
class Curve:
    """``variants`` of the first contestant by the name in the plot; ``rivals`` says whether the others run it too."""

    program: str
    x: str
    y: str
    variants: dict[str, dict[str, str]]
    rivals: bool = True
    only: str = ""
    seconds: float = 0.5
    reference: str = ""
    """A series of the first variant that is drawn beside all others."""
    binary: bool = False
    """The counts are bytes."""


CURVES = {
    "bandwidth": Curve(
        "store_bandwidth",
        "size of the object",
        "bandwidth",
        {store: {"RAY_STORE": store} for store in ("heap", "shm", "plasma")},
        seconds=0.3,
        reference="memcpy",
        binary=True,
    ),
    "scaling": Curve("scaling", "number pending", "cost of each", {"": {}}),
    "selectors": Curve(
        "object_selectors",
        "number of refs",
        "cost of each",
        {selector: {"RAY_SELECTOR": selector} for selector in ("epoll", "poll")},
        rivals=False,
        only="@",
    ),
    "simulation": Curve("simulation", "number", "cost of one", {"": {}}, rivals=False),
}
BASE = 100
"""Growth counts from here: below, what a single item costs is shared by few."""
QUICK = {"BENCH_TASKS": "100000", "BENCH_LARGEST": str(64 << 20)}


def percentile(samples: list[float], percent: int) -> float:
    return sorted(samples)[(len(samples) - 1) * percent // 100]


def measure(curve: Curve, options: argparse.Namespace) -> dict[str, Any]:
    """Run one program under everybody in turn; the document with the numbers."""
    document = contestants.circumstances(options.note)
    begin = time.monotonic()
    (first, python), *others = contestants.named(options.contestants)
    field = [
        Contestant(variant or first, python, DEFAULTS | environment) for variant, environment in curve.variants.items()
    ]
    field += [Contestant(name, rival) for name, rival in others] * curve.rivals
    seconds = 0.05 if options.quick else curve.seconds
    for contestant in field:
        print(f"{curve.program}: {contestant.name}", file=sys.stderr)
        contestant.probe()
        if options.quick:
            contestant.environment |= QUICK
        if not contestant.unavailable:
            arguments = ["--seconds", str(seconds), "--only", curve.only]
            contestant.measure(curve.program, arguments, options.timeout)
        if contestant is not field[0]:
            contestant.results = {
                name: result for name, result in contestant.results.items() if not of(name, curve.reference)
            }
    document |= {"x": curve.x, "y": curve.y, "reference": curve.reference, "binary": curve.binary}
    document["contestants"] = {contestant.name: contestant.summary() for contestant in field}
    for entry in document["contestants"].values():
        for line in entry["lines"].values():
            samples = line.pop("samples", [])
            line.pop("rounds", None)
            if samples:
                line |= {"low": percentile(samples, 10), "high": percentile(samples, 90)}
    document["minutes"] = round((time.monotonic() - begin) / 60, 1)
    return document


def of(name: str, series: str) -> bool:
    return name.partition("@")[0] == series


def table(document: dict[str, Any]) -> list[list[str]]:
    """A row for each series and contestant; the last column says how much dearer than at `BASE` it gets beyond."""
    found = plot.runs(document)
    counts = sorted({count for runs in found.values() for points in runs.values() for count in points})
    if document["binary"]:
        counts = counts[:: -(-len(counts) // 6)]
    names = [plot.size(count) if document["binary"] else f"{count:,}" for count in counts]
    rows = [["series", "", "unit", *names] + [f"growth from {BASE}"] * (not document["binary"])]
    for series, runs in found.items():
        for contestant, points in runs.items():
            cells = [number(points[count][0]) if count in points else "" for count in counts]
            large = [points[count][0] for count in sorted(points) if count >= BASE]
            growth = [f"{max(large) / large[0]:.3g}" if large else ""] * (not document["binary"])
            rows.append([series, contestant, plot.unit(document, series), *cells, *growth])
    return rows


def markdown(document: dict[str, Any]) -> str:
    """The table, then the circumstances and everything that did not go as planned."""
    found = [*notes(document), f"took {document['minutes']} minutes"]
    seen: list[dict[str, str]] = []
    for name, entry in document["contestants"].items():
        # The variants of one contestant differ in their name only.
        parts = {part: version for part, version in entry["versions"].items() if not part.startswith("RAY_")}
        found += troubles(name, entry | {"versions": parts}, with_versions=parts not in seen)
        seen.append(parts)
    return "\n".join([pipe_table(table(document)), *(f"- {note}" for note in found)]) + "\n"


def write(document: dict[str, Any], stem: pathlib.Path) -> None:
    stem.with_suffix(".json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    stem.with_suffix(".md").write_text(markdown(document))
    try:
        plot.draw(document, stem.with_suffix(".svg"))
    except ImportError as error:
        print(f"{stem.name} is not drawn: {error}. Install it with: pip install matplotlib", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    contestants.add_arguments(parser)
    parser.add_argument("--curve", action="append", choices=CURVES, help="as often as needed (default: all)")
    parser.set_defaults(timeout=900)
    options = parser.parse_args()
    contestants.adopt_orphans()
    for name in options.curve or CURVES:
        document = measure(CURVES[name], options)
        write(document, contestants.out(options) / name)
        print(f"## {name}\n\n{markdown(document)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
