"""An async actor's large results while the store is full: as they were when returned, and the loop goes on."""

from __future__ import annotations

import asyncio
import importlib.util

import pytest

import ray
from ray.exceptions import ObjectStoreFullError, RayTaskError
from ray.testing import eventually

np = pytest.importorskip("numpy")
pytest.importorskip("ray_async")

STORES = [name for name in ("shm", "plasma") if importlib.util.find_spec(f"ray_store_{name}")]
MB = 1 << 20
CAPACITY = 64 * MB
NBYTES = 16 * MB
#: How long a full store lets its clients wait: longer than any wait here.
PATIENCE_S = 30.0
LIMIT_S = 20


@ray.remote
class Holder:
    def __init__(self):
        self.array = np.zeros(NBYTES, np.uint8)
        self.small = np.zeros(1000, np.uint8)
        self.data = bytearray(NBYTES)
        self.ended = []

    async def result(self):
        return self.array

    async def data_of(self):
        return self.data

    @ray.method(num_returns=3)
    async def three(self):
        return self.array, self.small, [self.array]

    @ray.method(num_returns=2)
    async def one_too_large(self):
        return self.array, np.zeros(2 * CAPACITY, np.uint8)

    async def stream(self):
        try:
            for _ in range(3):
                self.array += 1
                yield self.array
        finally:
            self.ended.append("stream")

    def plain_stream(self):
        for _ in range(3):
            self.array += 1
            yield self.array

    async def cancelled_by_the_actor(self):
        """The task that yields is cancelled by other code than ``ray.cancel``."""
        self.task = asyncio.current_task()
        try:
            yield self.array
            yield self.array
        finally:
            self.ended.append("cancelled")

    async def cancel_it(self):
        self.task.cancel()

    async def change(self):
        """Change all that has been returned; ends when the loop has had some turns."""
        self.array[:] = 100
        self.small[:] = 100
        self.data.append(100)
        await asyncio.sleep(0.01)
        return len(self.data)

    async def ends(self):
        return self.ended


def full_store(start, store):
    """A session whose store is full until the list that is returned is cleared, and an actor."""
    options = {"store": {"full_timeout_s": PATIENCE_S}}
    start(num_cpus=2, store=store, object_store_memory=CAPACITY, options=options, log_to_driver=False)
    holder = Holder.remote()
    assert ray.get(holder.ends.remote(), timeout=LIMIT_S) == []
    held = [ray.put(np.zeros(CAPACITY - 8 * MB, np.uint8))]
    held.append(ray.get(held[0]))  # so that it cannot go to the disk
    return holder, held


def change(holder):
    return ray.get(holder.change.remote(), timeout=LIMIT_S)


def all_are(array, number):
    return bool((np.frombuffer(array, np.uint8) == number).all())


@pytest.mark.parametrize("store", STORES)
def test_results_that_wait_for_room(start, store):
    holder, held = full_store(start, store)
    plain, data, three = holder.result.remote(), holder.data_of.remote(), holder.three.remote()
    assert change(holder) == NBYTES + 1, "the loop goes on, and nothing keeps a view of what was returned"
    assert not ray.wait([plain, data, *three], num_returns=5, timeout=0)[0]
    held.clear()
    assert all_are(ray.get(plain, timeout=LIMIT_S), 0)
    del plain
    assert all_are(ray.get(data, timeout=LIMIT_S), 0)
    del data
    first, small, (last,) = ray.get(three, timeout=LIMIT_S)
    assert [all_are(value, 0) for value in (first, small, last)] == [True] * 3


@pytest.mark.parametrize("method", ["stream", "plain_stream"])
@pytest.mark.parametrize("store", STORES)
def test_yields_that_wait_for_room(start, store, method):
    holder, held = full_store(start, store)
    stream = getattr(holder, method).options(num_returns="streaming").remote()
    change(holder)
    held.clear()
    for number in (1, 101, 102):
        ref = next(stream)
        assert all_are(ray.get(ref, timeout=LIMIT_S), number)
        del ref
    with pytest.raises(StopIteration):
        next(stream)


@pytest.mark.parametrize("store", STORES)
def test_a_cancelled_stream_that_waits_for_room(start, store):
    holder, held = full_store(start, store)
    stream = holder.stream.remote()
    change(holder)
    stream.close()
    change(holder)
    held.clear()
    eventually(lambda: ray.get(holder.ends.remote(), timeout=LIMIT_S) == ["stream"])


@pytest.mark.parametrize("store", STORES)
def test_a_stream_whose_task_the_actor_cancels(start, store):
    holder, held = full_store(start, store)
    stream = holder.cancelled_by_the_actor.remote()
    change(holder)
    ray.get(holder.cancel_it.remote(), timeout=LIMIT_S)
    held.clear()
    eventually(lambda: ray.get(holder.ends.remote(), timeout=LIMIT_S) == ["cancelled"])
    with pytest.raises(RayTaskError, match="CancelledError"):
        ray.get(next(stream), timeout=LIMIT_S)


@pytest.mark.parametrize("store", STORES)
def test_a_result_is_there_for_who_cancels_too_late(start, store):
    holder, held = full_store(start, store)
    ref = holder.result.remote()
    change(holder)
    ray.cancel(ref)
    change(holder)
    held.clear()
    assert all_are(ray.get(ref, timeout=LIMIT_S), 0)


@ray.remote(num_returns=2)
def one_too_large():
    return np.zeros(NBYTES, np.uint8), np.zeros(2 * CAPACITY, np.uint8)


@pytest.mark.parametrize("store", STORES)
def test_no_result_stays_where_another_one_has_no_room(start, store):
    options = {"store": {"full_timeout_s": 0.2}}
    start(num_cpus=2, store=store, object_store_memory=CAPACITY, options=options, log_to_driver=False)
    holder = Holder.remote()
    refs = [*holder.one_too_large.remote(), *one_too_large.remote()]
    for ref in refs:
        with pytest.raises(ObjectStoreFullError):
            ray.get(ref, timeout=LIMIT_S)
    assert len(ray.get(holder.result.remote(), timeout=LIMIT_S)) == NBYTES, "there is room for the next"
