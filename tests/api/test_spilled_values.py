"""Values that have gone to the disk, awaited: a coroutine waits for the disk, and no event loop does."""

import asyncio
import functools
import threading
import time

import pytest
from tests.quick import crossed, first_of

import ray
from ray.exceptions import ObjectLostError, RayConnectionError, TaskCancelledError
from ray.testing import eventually, inside

pytest.importorskip("ray_store_plasma")
pytest.importorskip("ray_async")

from ray.experimental import async_api
from ray_async import TaskGroup

LIMIT_S = 20
CHUNK = 4_000_000
COUNT = 12


class SlowDisk:
    """A store whose ``get`` waits, on whatever thread it is called, until the test says ``go``."""

    def __init__(self, store):
        self.store, self.get, store.get = store, store.get, self.slow_get
        self.go = threading.Event()
        #: Threads in ``get``, and the most there were.
        self.inside = self.most = self.count = 0
        self.lock = threading.Lock()

    def slow_get(self, object_id):
        with self.lock:
            self.inside, self.count = self.inside + 1, self.count + 1
            self.most = max(self.most, self.inside)
        try:
            assert self.go.wait(15), "the thread that would say so has to wait"
            return self.get(object_id)
        finally:
            with self.lock:
                self.inside -= 1

    def end(self):
        self.go.set()
        self.store.get = self.get


@pytest.fixture
def spilled(start):
    """Refs of objects that are on the disk, content by place; with more of them there is not room for all at once."""
    start(num_cpus=2, store="plasma", object_store_memory=COUNT // 2 * (CHUNK + 100_000), log_to_driver=False)
    refs = [ray.put(bytes([i]) * CHUNK) for i in range(COUNT)]
    assert set(states(refs[:4])) == {"spilled"}
    yield refs
    refs.clear()


def states(refs):
    known = {row.object_id: row.state for row in inside.store().list()}
    return [known[ref.binary()] for ref in refs]


@pytest.fixture
def disk(spilled):
    slow = SlowDisk(inside.store())
    yield slow
    slow.end()


def restorers():
    return [thread for thread in threading.enumerate() if thread.name == "ray-restore"]


async def awaits(ref):
    return await ref


async def awaits_in_a_group(ref):
    async with TaskGroup() as group:
        task = group.create_task(ref)
    return task.result()


async def is_awaited_by_many(ref):
    first, second = await asyncio.gather(ref, ref)
    assert first == second
    return first


async def gets_a_future(ref):
    return await ref.as_future()


async def gets(ref):
    return await async_api.get(ref)


async def gets_a_list(ref):
    return (await async_api.get([ref]))[0]


async def converts(ref):
    return await async_api.as_future(ref)


async def gathers(ref):
    group = async_api.create_group()
    group.append(ref)
    return (await group)[0]


def run_poll(main):
    async_api._init_eventloop("poll")
    return async_api.run_until_complete(main)


def run_epoll(main):
    async_api._init_eventloop("epoll")
    return async_api.run_until_complete(main)


RUNS = [asyncio.run, run_poll, run_epoll]
WAYS = [awaits, awaits_in_a_group, is_awaited_by_many, gets_a_future, gets, gets_a_list, converts, gathers]


@pytest.mark.parametrize(("run", "way"), crossed(RUNS, WAYS))
def test_the_loop_goes_on_while_the_disk_is_read(spilled, disk, run, way):
    async def main():
        waiting = asyncio.ensure_future(way(spilled[0]))
        while not disk.count:  # noqa: ASYNC110 - another thread counts
            await asyncio.sleep(0.001)
        assert not waiting.done()
        disk.go.set()
        assert await asyncio.wait_for(waiting, LIMIT_S) == bytes([0]) * CHUNK

    try:
        run(main())
    finally:
        async_api.cleanup()


def test_trio_goes_on_while_the_disk_is_read(spilled, disk):
    trio = pytest.importorskip("trio")
    got = []

    async def one(ref, scope):
        with scope:
            got.append(await ref)

    async def main():
        scopes = [trio.CancelScope(), trio.CancelScope()]
        async with trio.open_nursery() as nursery:
            for ref, scope in zip(spilled, scopes, strict=False):
                nursery.start_soon(one, ref, scope)
            while disk.count < 2:
                await trio.sleep(0.001)
            scopes[1].cancel()
            await trio.sleep(0)
            assert not got
            disk.go.set()
        assert [scope.cancelled_caught for scope in scopes] == [False, True]

    trio.run(main)
    assert got == [bytes([0]) * CHUNK]


def test_a_few_threads_read_for_all_and_none_for_what_is_in_memory(spilled, disk):
    small = [ray.put(i) for i in range(100)]
    large = ray.put(b"new" * CHUNK)
    disk.go.set()

    async def main():
        before = set(threading.enumerate())
        assert await asyncio.gather(*small) == [*range(100)]
        assert await large == b"new" * CHUNK
        assert set(threading.enumerate()) == before
        disk.go.clear()
        waiting = asyncio.gather(*spilled[:COUNT])
        while disk.inside < 4:  # noqa: ASYNC110 - other threads count
            await asyncio.sleep(0.001)
        disk.go.set()
        assert [value[0] for value in await asyncio.wait_for(waiting, LIMIT_S)] == [*range(COUNT)]

    asyncio.run(main())
    assert disk.most == 4
    eventually(lambda: not restorers(), 5, "threads stay though there is nothing to read")


def test_what_nobody_awaits_any_more_is_not_read(spilled, disk):
    async def main():
        tasks = [asyncio.ensure_future(awaits(ref)) for ref in spilled[:4]]
        late = [asyncio.ensure_future(way(ref)) for way in (awaits, gets_a_future) for ref in states_spilled(spilled)]
        while disk.inside < 4:  # noqa: ASYNC110 - other threads count
            await asyncio.sleep(0.001)
        for task in [tasks[0], *late]:
            task.cancel()
        await asyncio.wait(late)
        disk.go.set()
        assert [value[0] for value in await asyncio.gather(*tasks[1:])] == [1, 2, 3]
        assert tasks[0].cancelled()

    asyncio.run(main())
    while restorers():
        time.sleep(0.001)
    assert disk.count == 4


def states_spilled(refs):
    return [ref for ref, state in zip(refs[4:], states(refs[4:]), strict=True) if state == "spilled"]


@pytest.mark.parametrize("way", first_of([awaits, gets, gets_a_future, converts], 2), ids=lambda way: way.__name__)
def test_what_cannot_be_read_is_an_error(spilled, disk, way):
    def lost(object_id):
        raise ObjectLostError(object_id, "its copy is damaged")

    disk.get, get = lost, disk.get
    disk.go.set()
    try:
        with pytest.raises(ObjectLostError, match="damaged"):
            asyncio.run(way(spilled[0]))
    finally:
        disk.get = get
    assert asyncio.run(way(spilled[0])) == bytes([0]) * CHUNK


@pytest.mark.parametrize("way", first_of([awaits, gets, gets_a_future, converts], 2), ids=lambda way: way.__name__)
def test_the_session_ends_while_the_disk_is_read(spilled, disk, way):
    async def main():
        waiting = asyncio.ensure_future(way(spilled[0]))
        while not disk.count:  # noqa: ASYNC110 - another thread counts
            await asyncio.sleep(0.001)
        await asyncio.to_thread(ray.shutdown)
        disk.go.set()
        with pytest.raises(RayConnectionError):
            await asyncio.wait_for(waiting, LIMIT_S)

    asyncio.run(main())


def test_the_loop_is_closed_while_the_disk_is_read(spilled, disk):
    async def main():
        waiting = asyncio.ensure_future(awaits(spilled[0]))
        while not disk.count:  # noqa: ASYNC110 - another thread counts
            await asyncio.sleep(0.001)
        waiting.cancel()

    asyncio.run(main())
    disk.go.set()
    assert ray.get(spilled[0]) == bytes([0]) * CHUNK


@ray.remote(concurrency_groups={"control": 1})
class Reads:
    def __init__(self):
        self.disk = SlowDisk(inside.store())
        self.started = []

    async def takes(self, name, *values):
        self.started.append(name)
        return [len(value) for value in values]

    async def reads(self, refs):
        return len(await refs[0])

    @ray.method(concurrency_group="control")
    async def is_reading(self):
        while not self.disk.count:  # noqa: ASYNC110 - another thread counts
            await asyncio.sleep(0.001)
        return self.started

    @ray.method(concurrency_group="control")
    async def lets_go(self):
        self.disk.go.set()

    @ray.method(concurrency_group="control")
    async def order(self):
        return self.started


get = functools.partial(ray.get, timeout=LIMIT_S)


def test_the_loop_of_an_actor_goes_on_and_calls_start_in_order(spilled):
    actor = Reads.remote()
    refs = [actor.takes.remote("a"), actor.takes.remote("b", spilled[0]), actor.takes.remote("c")]
    refs += [actor.takes.remote("d", spilled[1], spilled[2]), actor.takes.remote("e")]
    assert get(actor.is_reading.remote()) == ["a"]
    get(actor.lets_go.remote())
    assert get(refs) == [[], [CHUNK], [], [CHUNK] * 2, []]
    assert get(actor.order.remote()) == ["a", "b", "c", "d", "e"]
    assert get(actor.takes.remote("f", spilled[3])) == [CHUNK]


def test_an_actor_awaits_what_is_on_the_disk(spilled):
    actor = Reads.remote()
    reading = actor.reads.remote([spilled[0]])
    assert get(actor.is_reading.remote()) == []
    get(actor.lets_go.remote())
    assert get(reading) == CHUNK


def test_a_call_is_cancelled_while_its_argument_is_read(spilled):
    actor = Reads.remote()
    first, second = actor.takes.remote("first", spilled[0]), actor.takes.remote("second")
    assert get(actor.is_reading.remote()) == []
    ray.cancel(first)
    with pytest.raises(TaskCancelledError):
        get(first)
    assert get(second) == []
    assert get(actor.order.remote()) == ["second"]
    get(actor.lets_go.remote())
