"""Runs the benchmark programs under several interpreters in turn and prints the lines side by side.

    python benchmarks/compare.py ours=.venv/bin/python ray=.venv-ray/bin/python

The first contestant is the one judged against the targets, with the heap store and the unix transport; its other
stores, transports and selectors are measured as variants of it. The others are what its ratios refer to. Every round
runs each group under each contestant before the next group, so that a slow minute of the machine hits all alike. Writes
``comparison.json`` with every sample and ``comparison.md`` with the table.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable

import chart
import contestants
from contestants import Contestant
from report import Comparison, markdown, misses
from targets import DEFAULTS, GROUPS, ONCE, VARIANTS

QUICK_TASKS = "20000"

Measure = Callable[[Contestant, str, list[str]], None]
Field = dict[str, tuple[Contestant, tuple[str, ...]]]
"""Each contestant by name, with its groups."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    contestants.add_arguments(parser)
    parser.add_argument("--rounds", type=int, default=3, help="at most (default %(default)s)")
    parser.add_argument("--minutes", type=float, default=20, help="begin no round that would end later")
    parser.add_argument("--seconds", type=float, default=1.0, help="time per line and round (default %(default)s)")
    parser.add_argument("--groups", default=",".join((*GROUPS, *ONCE)), help="default %(default)s")
    parser.add_argument("--only", default="", metavar="REGEX", help="only lines whose name matches")
    parser.add_argument("--peers", metavar="PYTHON", help="interpreter with loky and dask (default: the first one's)")
    parser.add_argument("--no-peers", action="store_true", help="leave ProcessPoolExecutor, loky and Dask out")
    parser.add_argument("--no-variants", action="store_true", help="leave the other parts out")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 0.1
        options.note = f"{options.note} a quick try, with {QUICK_TASKS} tasks for the million".strip()
    return options


def line_up(options: argparse.Namespace) -> Field:
    """Those named on the command line, then the variants of the first, each with its groups."""
    named = contestants.named(options.contestants)
    found: Field = {name: (Contestant(name, python), (*GROUPS, "memory", "many")) for name, python in named}
    first, python = named[0]
    found[first][0].environment.update(DEFAULTS)
    if not options.no_variants:
        for variant, (environment, groups) in VARIANTS.items():
            found[f"{first}+{variant}"] = Contestant(f"{first}+{variant}", python, DEFAULTS | environment), groups
    return found


def rounds(options: argparse.Namespace, field: Field, measure: Measure) -> int:
    """Run what is to run, in turn; returns the number of rounds that fitted into the time."""
    chosen = options.groups.split(",")
    each = ["--seconds", str(options.seconds), "--samples", "1" if options.quick else "2", "--only", options.only]
    rounds_in_all: int = options.rounds
    begin = time.monotonic()
    longest = 0.0
    for number in range(rounds_in_all):
        start = time.monotonic()
        if number and start - begin + longest > options.minutes * 60:
            return number
        for group in [group for group in GROUPS if group in chosen]:
            for contestant, groups in field.values():
                if group in groups:
                    print(f"round {number + 1}: {group}: {contestant.name}", file=sys.stderr)
                    measure(contestant, group, each)
        longest = max(longest, time.monotonic() - start)
        if number == 0:
            for group in [group for group in ONCE if group in chosen]:
                for contestant, groups in field.values():
                    if group in groups:
                        print(f"once: {group}: {contestant.name}", file=sys.stderr)
                        measure(contestant, group, [*each, "--only", options.only or ONCE[group]])
    return rounds_in_all


def main() -> int:
    options = arguments()
    begin = time.monotonic()
    document = contestants.circumstances(options.note)
    contestants.adopt_orphans()
    field = line_up(options)
    for contestant, _ in field.values():
        contestant.probe()
        if options.quick:
            contestant.environment["BENCH_TASKS"] = QUICK_TASKS

    def measure(contestant: Contestant, group: str, program_arguments: list[str]) -> None:
        if not contestant.unavailable:
            # No program starts or goes on when twice the time is over, whatever hangs.
            left = begin + 2 * options.minutes * 60 - time.monotonic()
            contestant.measure(group, program_arguments, min(options.timeout, left))

    peers = Contestant("peers", options.peers or next(iter(field.values()))[0].python)
    if not options.no_peers:
        print("once: peers", file=sys.stderr)
        measure(peers, "peers", ["--seconds", str(options.seconds), "--only", options.only])
    document |= {
        "rounds": rounds(options, field, measure),
        "judged": next(iter(field)),
        "contestants": {name: contestant.summary() for name, (contestant, _) in field.items()},
        "peers": peers.summary(),
        "minutes": round((time.monotonic() - begin) / 60, 1),
    }
    text = markdown(document)
    print(text)
    folder = contestants.out(options)
    (folder / "comparison.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    (folder / "comparison.md").write_text(text)
    if Comparison(document).rivals:
        (folder / "comparison.svg").write_text(chart.draw(document))
    return 1 if options.check and misses(document) else 0


if __name__ == "__main__":
    sys.exit(main())
