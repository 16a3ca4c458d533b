"""Memory and idling of all processes of a session (driver, supervisors, workers) as proportional set size.

Idle first, then one more actor, then the lines of the other groups in the same session, briefly, and what is left.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from typing import Any

import actors
import objects
import processes
import tasks
from adapter import ray, remote
from harness import Budget, Line, main, measure, register

LINES: list[Line] = []
SETTLE_S = 5.0
IDLE_S = 10.0


class _Idle:
    def pid(self) -> int:
        return os.getpid()


Idle = remote(num_cpus=0)(_Idle)


@remote
def nothing() -> None:
    return None


@register(LINES, "idle_pss", "MB")
def idle_pss(budget: Budget) -> list[float]:
    ray.get(nothing.remote())
    time.sleep(SETTLE_S)
    return [processes.pss(processes.session()) / 1e6]


@register(LINES, "idle_cpu", "% of a core")
def idle_cpu(budget: Budget) -> list[float]:
    ray.get(nothing.remote())
    time.sleep(SETTLE_S)
    pids = processes.session()
    before = processes.cpu_seconds(pids)
    start = time.perf_counter()
    time.sleep(IDLE_S)
    elapsed = time.perf_counter() - start
    return [100 * (processes.cpu_seconds(pids) - before) / elapsed]


@register(LINES, "actor_private", "MB")
def actor_private(budget: Budget) -> list[float]:
    idle: list[Any] = [Idle.remote() for _ in range(4)]
    pids = ray.get([actor.pid.remote() for actor in idle])
    time.sleep(1)
    sizes = [processes.private(pid) / 1e6 for pid in pids]
    for actor in idle:
        ray.kill(actor)
    return [statistics.median(sizes)]


@register(LINES, "pss_after_lines", "MiB")
def pss_after_lines(budget: Budget) -> list[float]:
    brief = Budget(seconds=0.3, samples=1, limit=30)
    chosen = [line for line in (*tasks.LINES, *objects.LINES, *actors.LINES) if line.name != "drain_10000"]
    records = [measure(line, brief) for line in chosen]
    if failed := [f"{record['name']}: {record['failed']}" for record in records if "failed" in record]:
        raise RuntimeError("; ".join(failed))
    objects.array.cache_clear()  # the programs' own arrays are no cost of the runtime
    time.sleep(1)
    return [processes.pss(processes.session()) / (1 << 20)]


if __name__ == "__main__":
    sys.exit(main(LINES, __doc__))
