"""Tasks that wait for tasks: they give back their CPU, and processes stay bounded."""

from __future__ import annotations

import threading
import time

import pytest

import ray
from ray.testing import inside

#: Node manager and zygote are no workers; two idle workers may wait to be ended.
SPARE = 8


@ray.remote
def add_one(x):
    return x + 1


@ray.remote
def nest(depth):
    return 0 if depth == 0 else ray.get(nest.remote(depth - 1)) + 1


@ray.remote
def nest_by_wait(depth):
    if depth == 0:
        return 0
    ([ready], []) = ray.wait([nest_by_wait.remote(depth - 1)])  # with assert each worker would import pytest
    return ray.get(ready) + 1


@ray.remote
class Link:
    """Each makes the next one, which it waits for."""

    def depth(self, left):
        return 0 if left == 0 else ray.get(Link.remote().depth.remote(left - 1)) + 1


@ray.remote
def through_handles(handles):
    """A task that waits for an actor that waits for a task …"""
    if not handles:
        return 0
    return ray.get(handles[0].run.remote(handles[1:])) + 1


@ray.remote
class Relay:
    def run(self, handles):
        return ray.get(through_handles.remote(handles)) + 1


@ray.remote
def fan(width):
    return sum(ray.get([add_one.remote(i) for i in range(width)]))


@ray.remote
def fan_by_wait(width):
    left = [add_one.remote(i) for i in range(width)]
    total = 0
    while left:
        ready, left = ray.wait(left)
        total += ray.get(ready[0])
    return total


@ray.remote
def fib(n):
    return n if n < 2 else sum(ray.get([fib.remote(n - 1), fib.remote(n - 2)]))


@ray.remote
class FanActor:
    def run(self, width):
        return sum(ray.get([add_one.remote(i) for i in range(width)]))


class MostWorkers:
    """The highest number of live workers while it is open."""

    def __init__(self):
        self.most = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self):
        while not self._stop.wait(0.02):
            self.most = max(self.most, inside.ask_node("workers")["workers"])

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


def timed(what, ref, timeout):
    started = time.monotonic()
    value = ray.get(ref, timeout=timeout)
    print(f"{what}: {time.monotonic() - started:.2f} s")
    return value


@pytest.mark.timeout(120)
@pytest.mark.parametrize("function", [nest, pytest.param(nest_by_wait, marks=pytest.mark.slow)], ids=["get", "wait"])
def test_depth_100_on_one_cpu(start, function):
    start(num_cpus=1)
    with MostWorkers() as workers:
        assert timed("depth 100", function.remote(100), 100) == 100
    assert 100 < workers.most <= 1 + 100 + SPARE


@pytest.mark.timeout(120)
def test_depth_of_actors_on_one_cpu(start):
    start(num_cpus=1)
    with MostWorkers() as workers:
        link = Link.remote()
        assert timed("50 actors deep", link.depth.remote(50), 100) == 50
    assert workers.most <= 1 + 51 + SPARE


@pytest.mark.timeout(120)
def test_depth_through_tasks_and_handles_on_one_cpu(start):
    start(num_cpus=1)
    relays = [Relay.remote() for _ in range(20)]
    with MostWorkers() as workers:
        assert timed("20 tasks and 20 actors deep", through_handles.remote(relays), 100) == 40
    assert workers.most <= 1 + 41 + SPARE


@pytest.mark.timeout(180)
@pytest.mark.parametrize("function", [fan, fan_by_wait], ids=["get", "wait"])
def test_fan(start, rounds, function):
    start(num_cpus=2)
    width = rounds(200, 1000)
    with MostWorkers() as workers:
        refs = [function.remote(10) for _ in range(width)]
        assert timed(f"fan of {width} x 10", refs, 120) == [55] * width
    print("workers:", workers.most)
    assert workers.most <= 2 + 16


@pytest.mark.timeout(120)
def test_fan_of_actors(start, rounds):
    start(num_cpus=2)
    actors = [FanActor.remote() for _ in range(8)]
    width = rounds(25, 125)
    with MostWorkers() as workers:
        refs = [actor.run.remote(10) for _ in range(width) for actor in actors]
        assert timed(f"fan of {width} x 10 from each of 8 actors", refs, 100) == [55] * len(refs)
    assert workers.most <= 2 + 8 + 16


@pytest.mark.timeout(300)
def test_recursive_fib(start, rounds):
    start(num_cpus=2)
    n, value = rounds(13, 16), rounds(233, 987)
    with MostWorkers() as workers:
        assert timed(f"fib({n})", fib.remote(n), 240) == value
    print("workers:", workers.most)
    assert workers.most <= 2 + n + SPARE


def test_blocked_workers_take_no_more_than_there_is(start):
    """After the children have ended the CPUs are as before, and new work runs."""
    start(num_cpus=1)
    for _ in range(20):
        assert ray.get(nest.remote(3), timeout=30) == 3
        assert ray.get(add_one.remote(1), timeout=30) == 2
