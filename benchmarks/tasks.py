"""Tasks: latency, throughput, nesting, waiting, chains, awaiting."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from adapter import ray, remote, wait
from harness import Budget, Line, UnavailableError, latencies, main, rates, register

LINES: list[Line] = []
PIPELINED = 5_000
DRAIN_LIMIT_S = 60.0


@remote
def nothing() -> None:
    return None


@remote
def increment(value: int) -> int:
    return value + 1


@remote
def submit_and_get(count: int) -> int:
    return len(ray.get([nothing.remote() for _ in range(count)]))


@register(LINES, "task_sync", "µs")
def task_sync(budget: Budget) -> list[float]:
    return latencies(lambda: ray.get(nothing.remote()), budget)


@register(LINES, "tasks_pipelined", "/s")
def tasks_pipelined(budget: Budget) -> list[float]:
    return rates(lambda: ray.get([nothing.remote() for _ in range(PIPELINED)]), PIPELINED, budget)


@register(LINES, "tasks_nested", "/s")
def tasks_nested(budget: Budget) -> list[float]:
    outer, inner = 4, 500
    return rates(lambda: ray.get([submit_and_get.remote(inner) for _ in range(outer)]), outer * (inner + 1), budget)


@register(LINES, "chain_100", "/s")
def chain_100(budget: Budget) -> list[float]:
    def chain() -> None:
        ref: Any = 0
        for _ in range(100):
            ref = increment.remote(ref)
        assert ray.get(ref) == 100

    return rates(chain, 100, budget)


def drain(count: int) -> float:
    """Submit ``count`` tasks, then take them out one ``wait`` at a time; refs per second.

    Stops after `DRAIN_LIMIT_S`. As the waits on the longest lists come first, the rate is then a lower bound.
    """
    start = time.perf_counter()
    refs = [nothing.remote() for _ in range(count)]
    while refs and time.perf_counter() - start < DRAIN_LIMIT_S:
        _, refs = wait(refs)
    return (count - len(refs)) / (time.perf_counter() - start)


@register(LINES, "drain_1000", "/s")
def drain_1000(budget: Budget) -> list[float]:
    return [drain(1_000) for _ in range(budget.samples + 1)][1:]


@register(LINES, "drain_10000", "/s")
def drain_10000(budget: Budget) -> list[float]:
    return [drain(10_000)]


@register(LINES, "await_gather_1000", "/s")
def await_gather_1000(budget: Budget) -> list[float]:
    if not hasattr(nothing.remote(), "__await__"):
        raise UnavailableError("the refs of this package cannot be awaited")

    async def gather() -> None:
        await asyncio.gather(*[nothing.remote() for _ in range(1_000)])

    return rates(lambda: asyncio.run(gather()), 1_000, budget)


if __name__ == "__main__":
    sys.exit(main(LINES, __doc__))
