"""What takes minutes in slow runtimes: 1,000,000 tasks queued, then run, and 100,000 refs drained one at a time.

Set BENCH_TASKS for another number of tasks; the time is scaled to a million. The original gets 100,000.
"""

from __future__ import annotations

import os
import sys
import time
from functools import cache

import processes
import tasks
from adapter import ORIGINAL, ray, remote
from harness import Budget, Line, UnavailableError, main, register

LINES: list[Line] = []
TASKS = int(os.environ.get("BENCH_TASKS", "100000" if ORIGINAL else "1000000"))


@remote
def nothing() -> None:
    return None


@cache
def run() -> tuple[float, float]:
    """Seconds for all tasks, and the growth of the driver's peak resident bytes per task."""
    ray.get([nothing.remote() for _ in range(100)])
    processes.reset_peak(os.getpid())
    before = processes.resident(os.getpid())
    start = time.perf_counter()
    refs = [nothing.remote() for _ in range(TASKS)]
    ray.get(refs)
    seconds = time.perf_counter() - start
    return seconds, (processes.resident(os.getpid(), peak=True) - before) / TASKS


@register(LINES, "million_tasks", "s")
def million_tasks(budget: Budget) -> list[float]:
    return [run()[0] * 1_000_000 / TASKS]


@register(LINES, "million_bytes", "B a task")
def million_bytes(budget: Budget) -> list[float]:
    return [run()[1]]


@register(LINES, "drain_100000", "/s")
def drain_100000(budget: Budget) -> list[float]:
    if ORIGINAL:
        raise UnavailableError("one sample takes minutes under the original; drain_10000 shows the trend")
    return [tasks.drain(100_000)]


if __name__ == "__main__":
    sys.exit(main(LINES, __doc__))
