"""Compares what a task costs in the tree at a revision and in the tree as it is now, and refuses what is worse.

    python benchmarks/gate.py REV [--pairs 15] [--lines task_sync,actor_sync] [--quick]

Both trees are installed into temporary folders and run under this interpreter with the packages that it has. Each pair
starts a session of either tree, takes line after line, and measures it in both by turns, in short slices, so that a
slow moment of the machine hits both alike. Synchronous lines are judged by their latency, the others by the processor
time that the whole session (driver, workers, node manager, store) spends on an item; so other programs on the machine
disturb little.

A line is refused when its median ratio, now to before, is above 1.02 beyond doubt: when the whole 95 % interval is.
Exit codes: 0 no line is refused, 1 one is, 2 wrong usage, or a tree that cannot be measured.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
#: {line: what it is judged by}
LINES = {
    "task_sync": "latency",
    "actor_sync": "latency",
    "async_actor_sync": "latency",
    "tasks_pipelined": "cpu",
    "tasks_nested": "cpu",
    "chain_100": "cpu",
    "await_gather_1000": "cpu",
    "actor_pipelined": "cpu",
    "async_actor_pipelined": "cpu",
    "actors_2x2": "cpu",
    "get_small": "cpu",
    "put_small": "cpu",
    "put_1mib": "cpu",
}
ALLOWED = 1.02
FEWEST_PAIRS = 6
"""With fewer there is no interval that holds the median in 95 % of all cases."""
CONFIDENCE = 0.95
#: Whose turn it is (0: the tree before, 1: the tree now): neither is first, or next to a slow moment, more often.
TURNS = (0, 1, 1, 0, 1, 0, 0, 1)


class UnusableTreeError(Exception):
    """A tree that cannot be installed or measured; the text says why."""


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """What holds the median in at least 95 % of all cases, from the order of the samples alone.

    The k smallest and the k largest are left out, with the largest k that the binomial distribution allows.
    """
    ordered, count = sorted(ratios), len(ratios)
    outside, left_out = 0.0, 0
    for k in range(count // 2):
        outside += 2 * math.comb(count, k) / 2**count
        if outside > 1 - CONFIDENCE:
            break
        left_out = k
    return ordered[left_out], ordered[-1 - left_out]


def refused(ratios: Sequence[float]) -> bool:
    """Whether the costs have risen by more than is allowed, beyond doubt."""
    return interval(ratios)[0] > ALLOWED


def cost(line: str, record: dict[str, Any]) -> float | None:
    """Microseconds for an item; None where the line has no value."""
    if record["value"] is None:
        return None
    # A rate is of items per second of the session's processor time.
    return float(record["value"]) if LINES[line] == "latency" else 1e6 / float(record["value"])


def table(found: dict[str, list[tuple[float, float]]], problems: dict[str, str]) -> tuple[str, bool]:
    """The lines with their costs before and now, and whether one of them is refused."""
    rows: list[tuple[str, ...]] = [("line", "µs of", "before", "now", "ratio", "95 % interval", "")]
    worse = False
    for line, pairs in found.items():
        if line in problems or not pairs:
            rows.append((line, LINES[line], "-", "-", "-", "-", problems.get(line, "not measured")))
            worse |= problems.get(line, "").startswith("REFUSED")
            continue
        ratios = [now / before for before, now in pairs]
        low, high = interval(ratios)
        verdict = "REFUSED" if refused(ratios) else ""
        worse |= bool(verdict)
        medians = [statistics.median(costs) for costs in zip(*pairs, strict=True)]
        middle = statistics.median(ratios)
        costs = [f"{median:.3g}" for median in medians]
        rows.append((line, LINES[line], *costs, f"{middle:.3f}", f"{low:.3f} to {high:.3f}", verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    text = "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
    return text, worse


class Session:
    """A tree's program beside this one, which measures one line at a time."""

    def __init__(self, tree: pathlib.Path, seconds: float) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "gate_lines.py"), "--seconds", str(seconds)],
            env=environment | {"PYTHONPATH": str(tree)},
            cwd=tree,  # no ray.toml, and no other package of the name
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        files = self._answer()["files"]
        strangers = [file for file in files if tree not in pathlib.Path(file).parents]
        if strangers or not files:
            self.close()
            raise UnusableTreeError(f"{tree}: these are of another tree: {', '.join(strangers)}")

    def measure(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the answer that does not come tells of it
            self._process.stdin.write(f"{line} {LINES[line]}\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        text = self._process.stdout.readline()
        if not text:
            raise UnusableTreeError(f"the program has ended with exit code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(text)
        return answer

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.wait(60)


@contextlib.contextmanager
def installed(revision: str) -> Iterator[tuple[pathlib.Path, pathlib.Path]]:
    """Folders with the packages as they were at the revision, and as they are now."""
    with tempfile.TemporaryDirectory(prefix="ray-gate-") as name:
        folder = pathlib.Path(name)
        checkout = folder / "checkout"
        run("git", "-C", str(ROOT), "worktree", "add", "--quiet", "--detach", str(checkout), revision)
        try:
            yield install(checkout, folder / "before"), install(ROOT, folder / "now")
        finally:
            run("git", "-C", str(ROOT), "worktree", "remove", "--force", str(checkout))


def install(root: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    """Install the packages of a tree, with their metadata, so that its own entry points are found."""
    packages = [str(path.parent) for path in sorted(root.glob("packages/*/pyproject.toml"))]
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--target", str(target)]
    run(sys.executable, "-m", "pip", "install", *options, *packages)
    return target


def run(*command: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise UnusableTreeError(f"{' '.join(command)}:\n{done.stdout}")


def measure(trees: tuple[pathlib.Path, pathlib.Path], chosen: Sequence[str], options: argparse.Namespace) -> int:
    found: dict[str, list[tuple[float, float]]] = {line: [] for line in chosen}
    problems: dict[str, str] = {}
    for number in range(options.pairs):
        print(f"pair {number + 1} of {options.pairs}", file=sys.stderr)
        order = (0, 1) if number % 2 else (1, 0)
        sessions = {which: Session(trees[which], 2 * options.seconds / len(TURNS)) for which in order}
        for line in chosen:
            records = alternately(sessions, line, order)
            before, now = cost(line, records[0]), cost(line, records[1])
            if before is not None and now is not None:
                found[line].append((before, now))
                continue
            reason = next(records[which].get(key) for which in (1, 0) for key in ("failed", "unavailable")
                          if records[which].get(key))  # fmt: skip
            problems[line] = f"REFUSED: {reason}" if now is None and before is not None else str(reason)
        for session in sessions.values():
            session.close()
    text, worse = table(found, problems)
    print(text)
    return int(worse)


def alternately(sessions: dict[int, Session], line: str, order: Sequence[int]) -> dict[int, dict[str, Any]]:
    """A record of the line in either tree, with the median of its turns."""
    values: dict[int, list[float]] = {0: [], 1: []}
    records: dict[int, dict[str, Any]] = {}
    for turn in TURNS:
        which = order[turn]
        if which in records and records[which]["value"] is None:
            continue  # it cannot be measured there; the other tree tells whether it could be before
        records[which] = sessions[which].measure(line)
        if records[which]["value"] is not None:
            values[which].append(records[which]["value"])
            records[which]["value"] = statistics.median(values[which])
    return records


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", metavar="REV", help="what git knows the tree by that is compared with")
    parser.add_argument("--pairs", type=int, default=15, help="default %(default)s")
    parser.add_argument("--seconds", type=float, default=0.4, help="time per line, tree and pair (default %(default)s)")
    parser.add_argument("--lines", default=",".join(LINES), help="default %(default)s")
    parser.add_argument("--quick", action="store_true", help=f"{FEWEST_PAIRS} pairs of 0.1 s: a try, no judgement")
    options = parser.parse_args(argv)
    if options.quick:
        options.pairs, options.seconds = FEWEST_PAIRS, 0.1
    if options.pairs < FEWEST_PAIRS:
        parser.error(f"at least {FEWEST_PAIRS} pairs are needed to tell a difference from chance")
    if unknown := sorted(set(options.lines.split(",")) - set(LINES)):
        parser.error(f"there is no line {', '.join(unknown)}; there are {', '.join(LINES)}")
    return options


def main() -> int:
    options = arguments()
    try:
        with installed(options.revision) as trees:
            return measure(trees, options.lines.split(","), options)
    except UnusableTreeError as error:
        print(f"gate: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
