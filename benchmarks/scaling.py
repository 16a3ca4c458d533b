"""Cost of one item with 1, 10, 100, 1,000 and 10,000 of them pending (actors: up to 100). It has to stay flat.

python benchmarks/scaling.py > ours.jsonl          # in each environment that is to be shown
python benchmarks/plot.py ours=ours.jsonl ray=ray.jsonl --out docs/images/scaling.svg
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from adapter import ray, remote, wait
from harness import Budget, Line, main

COUNTS = (1, 10, 100, 1_000, 10_000)
MOST_ACTORS = 100


@remote
def nothing() -> None:
    return None


class _Server:
    def ping(self) -> None:
        return None


Server = remote(num_cpus=0)(_Server)


def tasks(count: int) -> None:
    """So many tasks pending, then all results fetched."""
    ray.get([nothing.remote() for _ in range(count)])


def waits(count: int) -> None:
    """So many refs pending, taken out one ``wait`` at a time."""
    refs = [nothing.remote() for _ in range(count)]
    while refs:
        _, refs = wait(refs)


def puts(count: int) -> None:
    """So many objects alive at once, then fetched together."""
    ray.get([ray.put(number) for number in range(count)])


def calls() -> Callable[[int], None]:
    """So many calls of one actor pending."""
    actor: Any = None

    def run(count: int) -> None:
        nonlocal actor
        actor = actor or Server.remote()
        ray.get([actor.ping.remote() for _ in range(count)])

    return run


def actors(count: int) -> None:
    """So many actors, born, called once, killed."""
    servers = [Server.remote() for _ in range(count)]
    ray.get([server.ping.remote() for server in servers])
    for server in servers:
        ray.kill(server)


def _line(name: str, count: int, run: Callable[[int], None]) -> Line:
    def measure(budget: Budget) -> list[float]:
        run(count)
        samples: list[float] = []
        end = time.perf_counter() + budget.seconds
        # Slow runtimes get one sample of the large counts, and no more than 2,000 are needed of the small ones.
        while not samples or (time.perf_counter() < end and len(samples) < 2_000):
            start = time.perf_counter()
            run(count)
            samples.append((time.perf_counter() - start) / count * 1e6)
        return samples

    return Line(f"{name}@{count}", "µs an item", measure)


SERIES: dict[str, Callable[[int], None]] = {
    "tasks": tasks,
    "waits": waits,
    "puts": puts,
    "actor calls": calls(),
    "actors": actors,
}
LINES = [
    _line(name, count, run)
    for name, run in SERIES.items()
    for count in COUNTS
    if run is not actors or count <= MOST_ACTORS
]

if __name__ == "__main__":
    sys.exit(main(LINES, __doc__))
