"""What stands in for executors of the standard library, beside these, in one run: ratios of their times and rates.

A ratio of times below 1, and one of rates above 1, says that this package is quicker.
"""

from __future__ import annotations

import concurrent.futures
import sys
import time
from collections.abc import Callable
from typing import Any

from harness import Budget, Line, main, register

import ray
from ray.util import RayExecutor

LINES: list[Line] = []
ITEMS = 10_000
WORKERS = 2


def nothing(item: int) -> None:
    return None


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_turn(here: Callable[[], object], there: Callable[[], object], budget: Budget) -> list[float]:
    """``here``'s time by ``there``'s, one sample for each pair of runs; the first, unmeasured pair warms up."""
    here(), there()
    samples: list[float] = []
    end = time.perf_counter() + budget.seconds
    while len(samples) < budget.samples or time.perf_counter() < end:
        samples.append(seconds(here) / seconds(there))
    return samples


def beside(use: Callable[[Any], Callable[[], object]], budget: Budget, **options: Any) -> list[float]:
    """The ratio of times of the same use of both executors."""
    with RayExecutor(**options) as ours, concurrent.futures.ProcessPoolExecutor(WORKERS) as theirs:
        return in_turn(use(ours), use(theirs), budget)


@register(LINES, "executor_submit_result", "x time")
def executor_submit_result(budget: Budget) -> list[float]:
    return beside(lambda executor: lambda: [executor.submit(nothing, 1).result() for _ in range(100)], budget)


@register(LINES, "executor_submit_1000", "x time")
def executor_submit_1000(budget: Budget) -> list[float]:
    def use(executor: Any) -> Callable[[], object]:
        return lambda: [future.result() for future in [executor.submit(nothing, i) for i in range(1_000)]]

    return beside(use, budget)


def map_rate(chunksize: int, budget: Budget) -> list[float]:
    def use(executor: Any) -> Callable[[], object]:
        return lambda: list(executor.map(nothing, range(ITEMS), chunksize=chunksize))

    return [1 / ratio for ratio in beside(use, budget)]


@register(LINES, "executor_map_chunksize_1", "x rate")
def executor_map_chunksize_1(budget: Budget) -> list[float]:
    return map_rate(1, budget)


@register(LINES, "executor_map_chunksize_64", "x rate")
def executor_map_chunksize_64(budget: Budget) -> list[float]:
    return map_rate(64, budget)


@register(LINES, "map_10000", "/s")
def map_10000(budget: Budget) -> list[float]:
    """``ray.map`` of calls that do nothing, alone: the standard library has nothing like it."""
    list(ray.map(nothing, range(ITEMS)))
    times: list[float] = []
    end = time.perf_counter() + budget.seconds
    while len(times) < budget.samples or time.perf_counter() < end:
        times.append(seconds(lambda: list(ray.map(nothing, range(ITEMS)))))
    return [ITEMS / each for each in times]


if __name__ == "__main__":
    sys.exit(main(LINES, __doc__, num_cpus=WORKERS))
