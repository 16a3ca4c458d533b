"""What it costs to be told which of many refs are ready, by number of refs, with the selector of the session.

    RAY_SELECTOR=epoll python object_selectors.py > epoll.jsonl
    RAY_SELECTOR=poll python object_selectors.py > poll.jsonl
    python plot.py epoll=epoll.jsonl poll=poll.jsonl --out selectors.svg

``drain@COUNT`` is the time a ref when so many are ready and are taken one at a time. ``look@COUNT`` is a ``select(0)``
over so many pending refs. With ``--only loop``: how late a 1 ms timer fires on the event loop of the async API while
10,000 refs are awaited and become ready (99th percentile), and what a loop that waits for one ref costs, in percent of
a processor.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import time
from collections.abc import Coroutine
from typing import Any

from adapter import ray, remote
from harness import Budget, Line, main, register

COUNTS = (1, 10, 100, 1_000, 10_000)
MANY = 10_000

LINES: list[Line] = []


@remote
def nothing(after: Any = None) -> None:
    return None


@remote
def pause(seconds: float) -> None:
    time.sleep(seconds)


class _Gate:
    def __init__(self) -> None:
        self._open = asyncio.Event()

    async def passed(self) -> None:
        await self._open.wait()

    async def open(self) -> None:
        self._open.set()

    async def shut(self) -> None:
        self._open.clear()


Gate = remote(num_cpus=0)(_Gate)


def pending_refs(gate: Any, count: int) -> list[Any]:
    """Refs that become ready when the gate is opened, however long that takes."""
    ray.get(gate.shut.remote())
    passed = gate.passed.remote()
    return [nothing.remote(passed) for _ in range(count)]


def selector_over(refs: list[Any]) -> Any:
    from ray.runtime.completion import make_selector

    selector = make_selector()
    for ref in refs:
        selector.register(ref)
    return selector


def drain(count: int, budget: Budget) -> list[float]:
    gate = Gate.remote()
    samples: list[float] = []
    end = time.perf_counter() + budget.seconds
    while len(samples) < budget.samples or time.perf_counter() < end:
        refs = pending_refs(gate, count)
        selector = selector_over(refs)
        gate.open.remote()
        ray.wait(refs, num_returns=count)
        start = time.perf_counter()
        for _ in range(count):
            (key,) = selector.select(None, 1)
            selector.unregister(key.fileobj)
        samples.append((time.perf_counter() - start) / count * 1e6)
        selector.close()
    return samples


def look(count: int, budget: Budget) -> list[float]:
    gate = Gate.remote()
    samples: list[float] = []
    end = time.perf_counter() + budget.seconds
    while len(samples) < budget.samples or time.perf_counter() < end:
        refs = pending_refs(gate, count)
        selector = selector_over(refs)
        looks = 0
        start = time.perf_counter()
        while time.perf_counter() - start < 0.05 or not looks:
            assert selector.select(0) == []
            looks += 1
        samples.append((time.perf_counter() - start) / looks * 1e6)
        selector.close()
        gate.open.remote()
        ray.wait(refs, num_returns=count)
    return samples


for _count in COUNTS:
    register(LINES, f"drain@{_count}", "µs")(functools.partial(drain, _count))
for _count in COUNTS:
    register(LINES, f"look@{_count}", "µs")(functools.partial(look, _count))


def on_the_loop(measure: Coroutine[Any, Any, float]) -> float:
    from ray.experimental import async_api

    value: float = async_api.run_until_complete(measure)
    async_api.cleanup()
    return value


@register(LINES, "loop_lag_p99", "ms")
def loop_lag_p99(budget: Budget) -> list[float]:
    from ray.experimental import async_api

    async def watch(lags: list[float]) -> None:
        while True:
            start = time.perf_counter()
            await asyncio.sleep(0.001)
            lags.append(time.perf_counter() - start - 0.001)

    async def measure() -> float:
        gate = Gate.remote()
        passed = gate.passed.remote()
        waiting = [asyncio.ensure_future(async_api.get(nothing.remote(passed))) for _ in range(MANY)]
        await asyncio.sleep(0)  # each of them has begun to wait
        lags: list[float] = []
        watching = asyncio.ensure_future(watch(lags))
        await asyncio.sleep(1)
        gate.open.remote()
        await asyncio.wait(waiting)
        watching.cancel()
        return sorted(lags)[len(lags) * 99 // 100] * 1e3

    return [on_the_loop(measure()) for _ in range(budget.samples)]


@register(LINES, "loop_idle_cpu", "%")
def loop_idle_cpu(budget: Budget) -> list[float]:
    from ray.experimental import async_api

    async def measure() -> float:
        waiting = asyncio.ensure_future(async_api.get(pause.remote(1.5)))
        await asyncio.sleep(0.2)
        start, used = time.perf_counter(), time.thread_time()
        await asyncio.sleep(1)
        share = (time.thread_time() - used) / (time.perf_counter() - start)
        await waiting
        return share * 100

    return [on_the_loop(measure()) for _ in range(budget.samples)]


if __name__ == "__main__":
    sys.exit(main(LINES, __doc__))
