"""Refs and actors on event loops: latency, throughput, and how responsive the loop stays."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from adapter import ray, remote
from harness import Budget, Line, main, register

LINES: list[Line] = []
MANY = 10_000


class _AsyncServer:
    async def ping(self) -> None:
        return None

    async def call(self, server: Any, count: int) -> int:
        return len(await asyncio.gather(*[server.ping.remote() for _ in range(count)]))


AsyncServer = remote(num_cpus=0)(_AsyncServer)


@remote
def nothing(after: Any = None) -> None:
    return None


@remote
def pause(seconds: float) -> None:
    time.sleep(seconds)


@contextlib.asynccontextmanager
async def servers(count: int) -> AsyncIterator[list[Any]]:
    """Async actors that have answered once, and are killed afterwards."""
    actors = [AsyncServer.remote() for _ in range(count)]
    try:
        for actor in actors:
            await actor.ping.remote()
        yield actors
    finally:
        for actor in actors:
            ray.kill(actor)


async def rates(batch: Callable[[], Awaitable[object]], items: int, budget: Budget) -> list[float]:
    """As ``harness.rates``, on a loop."""
    await batch()
    samples: list[float] = []
    end = time.perf_counter() + budget.seconds
    while len(samples) < budget.samples or time.perf_counter() < end:
        start = time.perf_counter()
        await batch()
        samples.append(items / (time.perf_counter() - start))
    return samples


async def latencies(call: Callable[[], Awaitable[object]], budget: Budget) -> list[float]:
    """As ``harness.latencies``, on a loop."""
    for _ in range(100):
        await call()
    samples = []
    for _ in range(budget.samples):
        times: list[float] = []
        end = time.perf_counter() + budget.seconds / budget.samples
        while not times or time.perf_counter() < end:
            start = time.perf_counter()
            await call()
            times.append(time.perf_counter() - start)
        samples.append(statistics.median(times) * 1e6)
    return samples


@register(LINES, "await_task", "µs")
def await_task(budget: Budget) -> list[float]:
    async def one() -> None:
        await nothing.remote()

    return asyncio.run(latencies(one, budget))


@register(LINES, "await_async_actor", "µs")
def await_async_actor(budget: Budget) -> list[float]:
    async def measure() -> list[float]:
        async with servers(1) as [server]:

            async def one() -> None:
                await server.ping.remote()

            return await latencies(one, budget)

    return asyncio.run(measure())


@register(LINES, "await_gather_calls", "/s")
def await_gather_calls(budget: Budget) -> list[float]:
    async def measure() -> list[float]:
        async with servers(1) as [server]:
            return await rates(lambda: asyncio.gather(*[server.ping.remote() for _ in range(1_000)]), 1_000, budget)

    return asyncio.run(measure())


@register(LINES, "async_actor_to_actor", "/s")
def async_actor_to_actor(budget: Budget) -> list[float]:
    async def measure() -> list[float]:
        async with servers(2) as [client, server]:

            async def calls() -> None:
                assert await client.call.remote(server, 1_000) == 1_000

            return await rates(calls, 1_000, budget)

    return asyncio.run(measure())


async def lags_of(work: Callable[[], Awaitable[object]]) -> list[float]:
    """How late a 1 ms timer fires while ``work`` is awaited: the 99th percentile, in ms."""
    lags: list[float] = []

    async def watch() -> None:
        while True:
            start = time.perf_counter()
            await asyncio.sleep(0.001)
            lags.append(time.perf_counter() - start - 0.001)

    watcher = asyncio.create_task(watch())
    await work()
    watcher.cancel()
    return [sorted(lags)[len(lags) * 99 // 100] * 1e3]


@register(LINES, "await_10000_lag_p99", "ms")
def await_10000_lag_p99(budget: Budget) -> list[float]:
    async def measure() -> list[float]:
        samples: list[float] = []
        for _ in range(budget.samples):
            gate = pause.remote(1.0)
            tasks = [asyncio.ensure_future(nothing.remote(gate)) for _ in range(MANY)]
            await asyncio.sleep(0.2)  # each of them has begun to wait
            samples += await lags_of(lambda tasks=tasks: asyncio.wait(tasks))  # type: ignore[misc]
        return samples

    return asyncio.run(measure())


@register(LINES, "await_10000", "/s")
def await_10000(budget: Budget) -> list[float]:
    return asyncio.run(rates(lambda: asyncio.gather(*[nothing.remote() for _ in range(MANY)]), MANY, budget))


if __name__ == "__main__":
    sys.exit(main(LINES, __doc__))
