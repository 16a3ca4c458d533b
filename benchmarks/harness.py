"""Registers the lines of a group, times them and prints each as one line of JSON.

A line is a function that takes a `Budget` and returns samples in the line's unit; its value is their median. A line
that raises `UnavailableError` (or cannot import what it needs) is printed with the reason instead of a value, so that
nothing is skipped in silence. Before the first one comes a record ``{"lines": [names]}``, so that the reader knows what
is missing when a program is stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

START_LIMIT_S = 60


class UnavailableError(Exception):
    """This line cannot run here; the text says why."""


@dataclasses.dataclass(frozen=True)
class Budget:
    """What a line may cost: at least ``samples`` samples and ``seconds`` in all; it fails after ``limit`` seconds.

    Rates are by ``clock``, in seconds.
    """

    seconds: float = 1.5
    samples: int = 3
    limit: float = 120.0
    clock: Callable[[], float] = time.perf_counter


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    name: str
    unit: str
    run: Callable[[Budget], list[float]]


Runner = Callable[[Budget], list[float]]


def register(lines: list[Line], name: str, unit: str) -> Callable[[Runner], Runner]:
    """Decorator: adds the function to ``lines``."""

    def add(run: Runner) -> Runner:
        lines.append(Line(name, unit, run))
        return run

    return add


def rates(batch: Callable[[], object], items: int, budget: Budget) -> list[float]:
    """Items per second of ``batch``, which handles ``items`` of them; the first, unmeasured call warms up."""
    batch()
    samples: list[float] = []
    end = time.perf_counter() + budget.seconds
    while len(samples) < budget.samples or time.perf_counter() < end:
        start = budget.clock()
        batch()
        samples.append(items / (budget.clock() - start))
    return samples


def repeat(call: Callable[[], object], count: int) -> None:
    """``call`` so many times, dropping each result at once (keeping them would hide what a release costs)."""
    for _ in range(count):
        call()


def latencies(call: Callable[[], object], budget: Budget, warm_up: int = 100) -> list[float]:
    """Median microseconds of one ``call``, one sample per ``1 / budget.samples`` of the time."""
    for _ in range(warm_up):
        call()
    samples = []
    clock = time.perf_counter
    for _ in range(budget.samples):
        times: list[float] = []
        end = clock() + budget.seconds / budget.samples
        while not times or clock() < end:
            start = clock()
            call()
            times.append(clock() - start)
        samples.append(statistics.median(times) * 1e6)
    return samples


def measure(line: Line, budget: Budget) -> dict[str, Any]:
    """Run one line and give its record; never raises, except for an interrupt."""
    record: dict[str, Any] = {"name": line.name, "value": None, "unit": line.unit, "samples": []}
    limit = f"stopped after {budget.limit:g} s"

    def stop(_signal: int, _frame: object) -> None:
        raise TimeoutError(limit)

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, budget.limit)
    try:
        samples = line.run(budget)
    except (UnavailableError, ImportError) as error:
        return record | {"unavailable": str(error)}
    except Exception as error:
        text = " ".join(str(error).split())
        _, missing, reason = text.rpartition("PluginNotInstalledError: ")
        if missing:  # the worker found out, and its last words say so
            return record | {"unavailable": reason[:300]}
        return record | {"failed": f"{type(error).__name__}: {text}"[:300]}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    return record | {"value": statistics.median(samples), "samples": samples}


def parse(lines: Sequence[Line], description: str | None, argv: list[str] | None = None) -> tuple[list[Line], Budget]:
    """Read the options every program has; returns the chosen lines, which it announces, and the budget."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="REGEX", help="run only the lines whose name matches")
    parser.add_argument("--seconds", type=float, default=Budget.seconds, help="time per line (default %(default)s)")
    parser.add_argument("--samples", type=int, default=Budget.samples, help="samples per line at least")
    parser.add_argument("--limit", type=float, default=Budget.limit, help="a line fails after so many seconds")
    options = parser.parse_args(argv)
    chosen = [line for line in lines if re.search(options.only, line.name)]
    print(json.dumps({"lines": [line.name for line in chosen]}), flush=True)
    return chosen, Budget(options.seconds, max(1, options.samples), options.limit)


def report(lines: Sequence[Line], budget: Budget, versions: dict[str, str]) -> int:
    """Run the lines in order and print a record each; returns 1 when one failed (not when one is unavailable)."""
    failed = False
    for line in lines:
        record = measure(line, budget) | {"versions": versions}
        failed |= "failed" in record
        print(json.dumps(record), flush=True)
    return int(failed)


def main(lines: Sequence[Line], description: str | None, **options: Any) -> int:
    """A whole group: start the runtime with ``options``, measure, shut down. Ends by a signal when either end hangs."""
    import adapter

    chosen, budget = parse(lines, description)
    signal.alarm(START_LIMIT_S)
    adapter.init(**options)
    signal.alarm(0)
    try:
        return report(chosen, budget, adapter.versions())
    finally:
        signal.alarm(START_LIMIT_S)
        adapter.ray.shutdown()
        signal.alarm(0)
