"""The page "AsyncIO / Concurrency for Actors": its parts without futures and asyncio, as printed."""

import threading
import time

import pytest
from tests.stopwatch import Stopwatch

import ray


def test_some_task(ray_session):
    @ray.remote
    def some_task():
        return 1

    assert ray.get(some_task.remote()) == 1
    ready, rest = ray.wait([some_task.remote()])
    assert len(ready) == 1
    assert rest == []


def test_threaded_actor(ray_session):
    @ray.remote
    class ThreadedActor:
        def task_1(self): print("I'm running in a thread!")  # fmt: skip

        def task_2(self): print("I'm running in another thread!")  # fmt: skip

    a = ThreadedActor.options(max_concurrency=2).remote()
    assert ray.get([a.task_1.remote(), a.task_2.remote()]) == [None, None]


def test_threaded_actors_run_in_parallel(ray_session, mode):
    if mode == "local_mode":
        return

    @ray.remote
    class Sleeper:
        def nap(self):
            time.sleep(0.3)
            return threading.get_ident()

    sleeper = Sleeper.options(max_concurrency=4).remote()
    ray.get(sleeper.nap.remote())
    started = Stopwatch()
    threads = ray.get([sleeper.nap.remote() for _ in range(8)])
    assert started.undisturbed_s() < 2.0  # 2.4 s one after the other
    assert len(set(threads)) == 4


def test_one_call_at_a_time_by_default(ray_session):
    """ "max_concurrency of the actor, which defaults to 1 if no async methods are defined in the class" """

    @ray.remote
    class Alone:
        def __init__(self):
            self.inside = 0

        def enter(self):
            self.inside += 1
            time.sleep(0.01)
            seen, self.inside = self.inside, self.inside - 1
            return seen

    alone = Alone.remote()
    assert ray.get([alone.enter.remote() for _ in range(5)]) == [1] * 5


def test_async_functions_are_refused():
    with pytest.raises(ValueError, match="async def") as caught:

        @ray.remote
        async def f():
            pass

    assert "wrapper" in str(caught.value)


def test_the_wrapper(ray_session):
    async def f():
        pass

    @ray.remote
    def wrapper():
        import asyncio

        asyncio.run(f())
        # For python < 3.7:
        # asyncio.get_event_loop().run_until_complete(f())

    assert ray.get(wrapper.remote()) is None
