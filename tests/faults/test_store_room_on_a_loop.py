"""The event loop of an async actor does not stop because the node's store is full."""

from __future__ import annotations

import asyncio
import importlib.util
import time

import pytest

import ray
from ray.exceptions import BlockingCallError, ObjectStoreFullError
from ray.testing import eventually, inside

np = pytest.importorskip("numpy")

STORES = [name for name in ("shm", "plasma") if importlib.util.find_spec(f"ray_store_{name}")]
MB = 1 << 20
CAPACITY = 64 * MB
#: How long a full store lets its clients wait.
PATIENCE_S = 10.0


@ray.remote
def length(array):
    return len(array)


@ray.remote
class Maker:
    async def try_all(self, nbytes):
        """What each way to need room on the loop raises, and the longest time between two turns of it."""
        stops = asyncio.create_task(longest_stop())
        await asyncio.sleep(0.01)
        array = np.ones(nbytes, np.uint8)
        raised = []
        for call in (lambda: ray.put(array), lambda: ray.put([array]), lambda: length.remote(array)):
            try:
                call()
            except BlockingCallError as error:
                raised.append(str(error))
        await asyncio.sleep(0.01)
        stops.cancel()
        return raised, await stops

    async def on_a_thread(self, nbytes):
        ref = await asyncio.to_thread(ray.put, np.ones(nbytes, np.uint8))
        return await length.remote(ref)

    async def put(self, nbytes):
        return len(await ray.put(np.ones(nbytes, np.uint8)))

    def entries(self):
        return len(inside.entries())


async def longest_stop():
    longest, last = 0.0, time.monotonic()
    while True:
        try:
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            return longest
        now = time.monotonic()
        longest, last = max(longest, now - last), now


@pytest.mark.slow
@pytest.mark.parametrize("store", STORES)
def test_a_full_store_does_not_stop_the_loop(start, store):
    options = {"store": {"full_timeout_s": PATIENCE_S}}
    start(num_cpus=2, store=store, object_store_memory=CAPACITY, options=options, log_to_driver=False)
    maker = Maker.remote()
    assert ray.get(maker.put.remote(MB), timeout=30) == MB
    before = ray.get(maker.entries.remote(), timeout=30)
    ref = ray.put(np.zeros(CAPACITY - 8 * MB, np.uint8))
    view = ray.get(ref)  # so that it cannot go to the disk
    raised, stopped = ray.get(maker.try_all.remote(16 * MB), timeout=60)
    assert len(raised) == 3
    assert all("asyncio.to_thread(ray.put, value)" in text for text in raised)
    assert stopped < PATIENCE_S / 2, "no call waits for room"
    eventually(lambda: ray.get(maker.entries.remote(), timeout=30) <= before, why="something of it is left")
    assert ray.get(maker.put.remote(2 * MB), timeout=30) == 2 * MB, "what fits is stored"
    waiting = maker.on_a_thread.remote(16 * MB)
    ray.get(maker.entries.remote(), timeout=5)  # the loop goes on while a thread waits
    del view, ref
    assert ray.get(waiting, timeout=60) == 16 * MB


@pytest.mark.parametrize("store", STORES)
def test_what_never_fits_is_full_on_a_loop_too(start, store):
    start(num_cpus=2, store=store, object_store_memory=CAPACITY, log_to_driver=False)
    maker = Maker.remote()
    with pytest.raises(ObjectStoreFullError):
        ray.get(maker.put.remote(2 * CAPACITY), timeout=30)


@pytest.mark.skipif("plasma" not in STORES, reason="ray-store-plasma is not installed")
def test_room_on_the_disk_is_made_meanwhile(start, tmp_path):
    """The refused call has the store begin, so that one of the next succeeds without a thread."""
    options = {"store": {"spill_dir": str(tmp_path)}}
    start(num_cpus=2, store="plasma", object_store_memory=CAPACITY, options=options, log_to_driver=False)
    maker = Maker.remote()
    refs = [ray.put(np.full(14 * MB, number, np.uint8)) for number in range(4)]

    def fits():
        try:
            return ray.get(maker.put.remote(16 * MB), timeout=30) == 16 * MB
        except BlockingCallError:
            return False

    assert not fits()
    eventually(fits)
    assert all((ray.get(ref) == number).all() for number, ref in enumerate(refs))
