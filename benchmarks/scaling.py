"""Cost of one item with 1, 10, 100, 1,000 and 10,000 tasks, refs and actors pending. It has to stay flat.

Actors that run are processes, so there are at most 1,000 of them (100 under the original, which takes a minute for
those); actors that wait for a processor are not. ``curves.py`` runs it under every contestant and draws it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from adapter import ORIGINAL, ray, remote, wait
from harness import Budget, Line, main

COUNTS = (1, 10, 100, 1_000, 10_000)
CORES = len(os.sched_getaffinity(0))
#: From here on one run is warm enough by itself.
MANY = 100


@remote
def nothing() -> None:
    return None


class _Server:
    def ping(self) -> None:
        return None


Server = remote(num_cpus=0)(_Server)
Greedy = remote(num_cpus=CORES)(_Server)


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


@functools.cache
def server() -> Any:
    return Server.remote()


def calls(count: int) -> None:
    """So many calls of one actor pending."""
    actor = server()
    ray.get([actor.ping.remote() for _ in range(count)])


def actors(count: int) -> None:
    """So many actors, born, called once, killed."""
    servers = [Server.remote() for _ in range(count)]
    ray.get([actor.ping.remote() for actor in servers])
    for actor in servers:
        ray.kill(actor)


@functools.cache
def greedy() -> Any:
    """An actor that has all processors, so that no other of its class can start."""
    actor = Greedy.remote()
    ray.get(actor.ping.remote())
    return actor


def pending_actors(count: int) -> None:
    """So many actors that cannot start yet, each with a call; then killed, which fails the calls."""
    greedy()
    waiting = [Greedy.remote() for _ in range(count)]
    refs = [actor.ping.remote() for actor in waiting]
    for actor in waiting:
        ray.kill(actor)
    for ref in refs:
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(ref)


def repeated(count: int, run: Callable[[int], None], budget: Budget) -> list[float]:
    if count < MANY:
        run(count)
    samples: list[float] = []
    end = time.perf_counter() + budget.seconds
    # Slow runtimes get one sample of the large counts, and no more than 2,000 are needed of the small ones.
    while not samples or (time.perf_counter() < end and len(samples) < 2_000):
        start = time.perf_counter()
        run(count)
        samples.append((time.perf_counter() - start) / count * 1e6)
    return samples


#: {series: (what to run, the largest count, that under the original)}. Actors that hold the processors come last.
SERIES: dict[str, tuple[Callable[[int], None], int, int]] = {
    "tasks": (tasks, 10_000, 10_000),
    "refs, one wait each": (waits, 10_000, 10_000),
    "objects": (puts, 10_000, 10_000),
    "calls of an actor": (calls, 10_000, 10_000),
    "running actors": (actors, 1_000, 100),
    "waiting actors": (pending_actors, 10_000, 1_000),
}
LINES = [
    Line(f"{name}@{count}", "µs", functools.partial(repeated, count, run))
    for name, (run, most, most_original) in SERIES.items()
    for count in COUNTS
    if count <= (most_original if ORIGINAL else most)
]

if __name__ == "__main__":
    sys.exit(main(LINES, __doc__))
