"""Calls that go together, since many are under way: nothing holds them up but a moment, and none is lost."""

from __future__ import annotations

import asyncio
import os
import pathlib
import threading
import time

import pytest
from tests import sessions

import ray
from ray.testing.interruption import interrupted

MANY = 600


def touch(path):
    pathlib.Path(path).touch()


session = sessions.shared(num_cpus=4)
nothing_left = sessions.unchecked()


@ray.remote
class Loop:
    def __init__(self):
        self.opened = asyncio.Event()
        self.order = []

    async def wait(self, number):
        self.order.append(number)
        await self.opened.wait()
        return number

    async def open(self, path=None):
        self.opened.set()
        if path:
            touch(path)

    async def seen(self):
        return self.order

    async def pid(self):
        return os.getpid()


@ray.remote(max_concurrency=700)
class Threads:
    def __init__(self):
        self.opened = threading.Event()
        self.order = []

    def wait(self, number):
        self.order.append(number)
        self.opened.wait()
        return number

    def open(self, path=None):
        self.opened.set()
        if path:
            touch(path)

    def seen(self):
        return self.order


KINDS = [Loop, Threads]


@ray.remote
def from_a_task(kind):
    actor = kind.remote()
    refs = [actor.wait.remote(number) for number in range(MANY)]
    actor.open.remote()
    return ray.get(refs, timeout=30)


@ray.remote
class FromALoop:
    async def run(self, kind):
        actor = kind.remote()
        refs = [actor.wait.remote(number) for number in range(MANY)]
        actor.open.remote()
        return await asyncio.gather(*refs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("more", range(3))
def test_those_under_way_may_wait_for_what_follows_them(kind, more):
    actor = kind.remote()
    refs = [actor.wait.remote(number) for number in range(MANY + more)]
    actor.open.remote()
    assert ray.get(refs, timeout=30) == list(range(MANY + more))


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_needs_to_ask_for_them(kind, tmp_path):
    actor = kind.remote()
    ray.get(actor.seen.remote())
    refs = [actor.wait.remote(number) for number in range(MANY)]
    refs.append(actor.open.remote(str(tmp_path / "opened")))
    end = time.monotonic() + 30
    while not (tmp_path / "opened").exists() and time.monotonic() < end:
        sum(range(10_000))  # the program computes
    assert (tmp_path / "opened").exists()
    assert ray.get(refs, timeout=30)[:-1] == list(range(MANY))


@pytest.mark.parametrize("kind", KINDS)
def test_they_start_in_order(kind):
    actor = kind.remote()
    refs = [actor.wait.remote(number) for number in range(MANY)]
    actor.open.remote()
    ray.get(refs, timeout=30)
    seen = ray.get(actor.seen.remote())
    assert seen == list(range(MANY)) if kind is Loop else sorted(seen) == list(range(MANY))


@pytest.mark.parametrize("kind", KINDS)
def test_tasks_and_loops_send_them_too(kind):
    assert ray.get(from_a_task.remote(kind), timeout=30) == list(range(MANY))
    assert ray.get(FromALoop.remote().run.remote(kind), timeout=30) == list(range(MANY))


def gathers(path):
    return path.endswith((os.path.join("protocol", "gathering.py"), os.path.join("process", "timers.py")))


@pytest.mark.slow
def test_finalisers_that_wait_come_anywhere():
    actor = Loop.remote()
    ray.get(actor.seen.remote())

    def flood():
        refs = [flooded.wait.remote(number) for number in range(MANY)]
        flooded.open.remote()
        return refs

    def inside():
        time.sleep(0.003)  # longer than a call waits for others
        assert ray.get(actor.seen.remote(), timeout=30) == []

    points = 1
    point = 0
    while point <= points:
        flooded = Loop.remote()
        ray.get(flooded.seen.remote())
        refs, points = interrupted(flood, point, inside, gathers)
        assert ray.get(refs, timeout=30) == list(range(MANY)), f"interrupted at point {point}"
        point += 1
    assert points > 2


def test_several_actors_at_a_time():
    actors = [Loop.remote() for _ in range(3)]
    refs = [actor.wait.remote(number) for number in range(MANY) for actor in actors]
    for actor in actors:
        actor.open.remote()
    assert ray.get(refs, timeout=30) == [number for number in range(MANY) for _ in actors]


def test_one_that_is_cancelled_before_it_leaves():
    actor = Loop.remote()
    refs = [actor.wait.remote(number) for number in range(MANY)]
    ray.cancel(refs[-1])
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(refs[-1], timeout=30)
    actor.open.remote()
    assert ray.get(refs[:-1], timeout=30) == list(range(MANY - 1))


@pytest.mark.parametrize("kind", KINDS)
def test_those_of_an_actor_that_is_killed_fail(kind):
    actor = kind.remote()
    refs = [actor.wait.remote(number) for number in range(MANY)]
    ray.kill(actor)
    assert len(ray.wait(refs, num_returns=MANY, timeout=30)[0]) == MANY
    for ref in refs:
        with pytest.raises(ray.exceptions.RayActorError):
            ray.get(ref)


def test_those_of_an_actor_that_dies_run_in_its_next_process():
    actor = Loop.options(max_restarts=1, max_task_retries=1).remote()
    pid = ray.get(actor.pid.remote())
    refs = [actor.wait.remote(number) for number in range(MANY)]
    os.kill(pid, 9)
    refs += [actor.wait.remote(number) for number in range(MANY, MANY + 200)]  # it runs a thousand at a time
    actor.open.remote()
    assert ray.get(refs, timeout=30) == list(range(MANY + 200))


def test_the_last_ones_of_a_handle_that_is_dropped_run(tmp_path):
    actor = Loop.remote()
    refs = [actor.wait.remote(number) for number in range(MANY)]
    last = actor.open.remote(str(tmp_path / "opened"))
    del actor
    assert ray.get(refs, timeout=30) == list(range(MANY))
    ray.get(last, timeout=30)
    assert (tmp_path / "opened").exists()
