"""``num_returns="streaming"`` and async generators: refs of what a task yields, while it runs."""

import asyncio
import contextlib
import gc
import os
import pickle
import time
from importlib.util import find_spec

import pytest

import ray
from ray.exceptions import (
    BlockingCallError,
    RayActorError,
    RayConnectionError,
    RayTaskError,
    TaskCancelledError,
    TaskTimeoutError,
    WorkerCrashedError,
)
from ray.runtime.worker.yielding import MAX_AHEAD
from ray.testing import eventually, inside

LIMIT_S = 20


@ray.remote(num_returns="streaming", max_retries=0)
def count(number, seconds=0.0, error=None):
    for i in range(number):
        time.sleep(seconds)
        yield i
    if error is not None:
        raise error


@ray.remote(num_returns="streaming", max_retries=0)
def forever(path=""):
    i = 0
    try:
        while True:
            yield i
            i += 1
    finally:
        if path:
            with open(path, "w") as file:
                file.write(str(i))


@ray.remote
def echo(x):
    return x


@ray.remote
class Counter:
    def __init__(self):
        self.ended = []

    async def count(self, number, seconds=0.0, error=None):
        for i in range(number):
            await asyncio.sleep(seconds)
            yield i
        if error is not None:
            raise error

    async def forever(self, word=""):
        i = 0
        try:
            while True:
                yield i
                i += 1
        finally:
            self.ended.append((word, i))

    @ray.method(num_returns="streaming")
    def plain(self, number):
        yield from range(number)

    @ray.method(num_returns="streaming")
    async def listed(self):
        return [1, 2, 3]

    async def ends(self):
        return self.ended


needs_loop = pytest.mark.skipif(find_spec("ray_async") is None, reason="needs ray-async")


def values(refs):
    return [ray.get(ref, timeout=LIMIT_S) for ref in refs]


# --- what comes out -----------------------------------------------------------------------------


def test_tasks(ray_session):
    refs = count.remote(5)
    assert isinstance(refs, ray.ObjectRefGenerator)
    assert iter(refs) is refs
    assert values(refs) == [0, 1, 2, 3, 4]
    assert list(refs) == []
    assert list(count.remote(0)) == []
    assert values(count.options(num_returns="streaming").remote(1000)) == [*range(1000)]
    assert len({ref.hex() for ref in count.remote(100)}) == 100


@needs_loop
def test_actors(ray_session):
    counter = Counter.remote()
    assert values(counter.count.remote(5)) == [0, 1, 2, 3, 4]
    assert values(counter.plain.remote(3)) == [0, 1, 2]
    assert values(counter.listed.remote()) == [1, 2, 3]
    assert values(counter.count.options(num_returns=2).remote(2)) == [0, 1]
    with pytest.raises(ValueError, match=r"returned 1 objects"):
        values(counter.count.options(num_returns=2).remote(1))


def test_threaded_and_plain_actors(start):
    start(num_cpus=1)

    class Plain:
        @ray.method(num_returns="streaming")
        def count(self, number):
            for i in range(number):
                time.sleep(0.001)
                yield i

    for options in ({}, {"max_concurrency": 3}):
        actor = ray.remote(Plain).options(**options).remote()
        streams = [actor.count.remote(20) for _ in range(3)]
        assert [values(stream) for stream in streams] == [[*range(20)]] * 3


def test_each_comes_when_it_is_yielded(start):
    start(num_cpus=1)
    started = time.monotonic()
    arrived = []
    for ref in count.remote(4, 0.25):
        ray.get(ref)
        arrived.append(time.monotonic() - started)
    assert arrived[-1] >= 1.0
    assert arrived[0] <= arrived[-1] - 0.5


@needs_loop
def test_async_iteration(start):
    start(num_cpus=1)
    counter = Counter.remote()

    async def main():
        got = [await ref async for ref in counter.count.remote(20, 0.005)]
        tasks = [ref async for ref in count.remote(20, 0.005)]
        assert await asyncio.gather(*tasks) == got == [*range(20)]
        streams = [counter.count.remote(10, 0.01) for _ in range(20)]

        async def drain(stream):
            return [await ref async for ref in stream]

        assert await asyncio.gather(*map(drain, streams)) == [[*range(10)]] * 20
        with pytest.raises(StopAsyncIteration):
            await anext(streams[0])
        slow = counter.count.remote(2, 0.2)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(slow), 0.01)
        assert [await ref async for ref in slow] == [0, 1]  # nothing is lost by that

    asyncio.run(main())


def test_values_of_every_kind(ray_session):
    @ray.remote(num_returns="streaming")
    def kinds():
        yield None
        yield bytes(500_000)
        yield [ray.put("inner"), echo.remote(1)]
        yield (i for i in ())  # cannot be pickled

    refs = list(kinds.remote())
    assert len(refs) == 4
    assert ray.get(refs[0]) is None
    assert ray.get(refs[1]) == bytes(500_000)
    assert ray.get(ray.get(refs[2])) == ["inner", 1]
    with pytest.raises(TypeError, match="pickle"):
        ray.get(refs[3])


def test_refs_are_refs(start):
    start(num_cpus=2)
    stream = count.remote(3)
    first = next(stream)
    assert ray.get(echo.remote(first)) == 0
    assert ray.get(ray.get(ray.put([first]))) == [0]
    assert ray.wait([next(stream)])[1] == []
    with pytest.raises(TypeError, match="pass on the refs"):
        pickle.dumps(stream)
    with pytest.raises(TypeError, match="pass on the refs"):
        echo.remote(stream)


# --- errors -------------------------------------------------------------------------------------


def test_an_error_comes_last(ray_session):
    refs = list(count.remote(2, error=KeyError("k")))
    assert values(refs[:2]) == [0, 1]
    assert len(refs) == 3
    with pytest.raises(KeyError) as caught:
        ray.get(refs[2])
    assert isinstance(caught.value, RayTaskError)


@needs_loop
def test_an_error_of_an_actor_comes_last(ray_session):
    refs = list(Counter.remote().count.remote(2, error=KeyError("k")))
    assert values(refs[:2]) == [0, 1]
    with pytest.raises(KeyError):
        ray.get(refs[2])


def test_what_is_no_generator(ray_session):
    @ray.remote(num_returns="streaming")
    def one():
        return 1

    [ref] = one.remote()
    with pytest.raises(TypeError, match="needs a generator, not int"):
        ray.get(ref)


@pytest.mark.parametrize("wrong", ["stream", -1, 1.5])
def test_options_are_checked(wrong):
    with pytest.raises((ValueError, TypeError)):
        ray.remote(num_returns=wrong)(lambda: None)


def test_time_limit(start):
    start(num_cpus=1)
    refs = list(count.options(timeout_s=0.3).remote(1000, 0.05))
    assert 1 <= len(refs) < 20
    assert values(refs[:-1]) == [*range(len(refs) - 1)]
    with pytest.raises(TaskTimeoutError):
        ray.get(refs[-1])


def test_a_worker_dies(start, tmp_path):
    """Without retries that is the error; with one the stream goes on where it was."""
    start(num_cpus=1)

    @ray.remote(num_returns="streaming")
    def dies(path):
        for i in range(10):
            if i == 5 and not os.path.exists(path):
                time.sleep(0.1)
                open(path, "w").close()
                os._exit(1)
            yield i

    refs = list(dies.options(max_retries=0).remote(str(tmp_path / "a")))
    assert values(refs[:-1]) == [0, 1, 2, 3, 4]
    with pytest.raises(WorkerCrashedError):
        ray.get(refs[-1])
    assert values(dies.options(max_retries=1).remote(str(tmp_path / "b"))) == [*range(10)]


@needs_loop
def test_an_actor_dies(start):
    start(num_cpus=1)
    counter = Counter.remote()
    stream = counter.forever.remote()
    assert values([next(stream), next(stream)]) == [0, 1]
    ray.kill(counter)
    refs = list(stream)
    with pytest.raises(RayActorError):
        ray.get(refs[-1])


def test_the_session_ends(mode):
    with ray.init(num_cpus=1, local_mode=mode == "local_mode"):
        stream = count.remote(3)
        ray.get(next(stream))
    with pytest.raises(RayConnectionError):
        next(stream)


# --- slow consumers, and none -------------------------------------------------------------------


def test_a_task_waits_for_its_consumer(start):
    start(num_cpus=1)
    stream = forever.remote()
    assert ray.get(next(stream)) == 0
    time.sleep(0.3)
    ahead = len(stream._stream.refs)
    assert ahead <= MAX_AHEAD + 1
    assert values([next(stream) for _ in range(2000)]) == [*range(1, 2001)]
    # While it waits its CPU is free.
    time.sleep(0.1)
    assert ray.get(echo.remote(1), timeout=LIMIT_S) == 1
    stream.close()


@needs_loop
def test_a_coroutine_waits_for_its_consumer(start):
    start(num_cpus=1)
    counter = Counter.remote()
    stream = counter.forever.remote("w")
    assert ray.get(next(stream)) == 0
    time.sleep(0.3)
    assert len(stream._stream.refs) <= MAX_AHEAD + 1
    assert ray.get(counter.ends.remote(), timeout=LIMIT_S) == []  # the loop is free
    assert values([next(stream) for _ in range(2000)]) == [*range(1, 2001)]
    del stream
    eventually(lambda: ray.get(counter.ends.remote()) != [], LIMIT_S)
    [(_, reached)] = ray.get(counter.ends.remote())
    assert 2000 <= reached <= 2000 + 2 * MAX_AHEAD


def test_large_values_count_more(start):
    start(num_cpus=1)

    @ray.remote(num_returns="streaming", max_retries=0)
    def large():
        while True:
            yield bytes(4_000_000)

    stream = large.remote()
    ray.get(next(stream))
    time.sleep(0.5)
    assert len(stream._stream.refs) <= 8
    for _ in range(20):
        ray.get(next(stream))
    stream.close()
    del stream


@pytest.mark.parametrize("how", ["close", "drop"])
def test_without_a_consumer_the_task_ends(start, tmp_path, how):
    start(num_cpus=1)
    path = tmp_path / "reached"
    stream = forever.remote(str(path))
    kept = next(stream)
    if how == "close":
        stream.close()
        assert list(stream) == []
        stream.close()
    else:
        del stream
        gc.collect()
        ray.put(0)
    eventually(path.exists, LIMIT_S)
    assert ray.get(kept) == 0
    assert ray.get(echo.remote(1), timeout=LIMIT_S) == 1
    eventually(lambda: len(inside.entries()) <= 2, LIMIT_S)


@needs_loop
def test_a_consumer_that_dies(start, tmp_path):
    start(num_cpus=2)
    counter = Counter.remote()

    @ray.remote(max_retries=0)
    def consume(counter):
        stream = counter.forever.remote("orphan")
        next(stream)
        time.sleep(0.2)
        os._exit(1)

    with pytest.raises(WorkerCrashedError):
        ray.get(consume.remote(counter), timeout=LIMIT_S)
    eventually(lambda: [word for word, _ in ray.get(counter.ends.remote())] == ["orphan"], LIMIT_S)


def test_cancel_of_a_ref_that_is_to_come(start):
    start(num_cpus=1)
    stream = count.remote(1000, 0.05)
    next(stream)
    ray.cancel(stream._stream.refs[-1])
    refs = list(stream)
    with pytest.raises(TaskCancelledError):
        ray.get(refs[-1])


@needs_loop
def test_blocking_iteration_in_async_actors(start):
    start(num_cpus=2)

    @ray.remote
    class Consumer:
        async def blocks(self):
            with contextlib.suppress(BlockingCallError):
                list(count.remote(3, 0.1))
                return "went through"
            return "refused"

        async def awaits(self):
            return [await ref async for ref in count.remote(3, 0.05)]

    consumer = Consumer.remote()
    assert ray.get(consumer.blocks.remote(), timeout=LIMIT_S) == "refused"
    assert ray.get(consumer.awaits.remote(), timeout=LIMIT_S) == [0, 1, 2]


def test_all_is_freed(start):
    start(num_cpus=1)
    for ref in count.remote(3000):
        assert ray.get(ref) >= 0
    del ref
    eventually(lambda: (ray.put(0), len(inside.entries()) <= 2)[1], LIMIT_S)
