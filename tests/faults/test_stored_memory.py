"""Memory of the node's store: what is dropped comes back, what is held is safe, more than fits goes to the disk."""

from __future__ import annotations

import asyncio
import ctypes
import importlib.util
import os
import random
import signal
import sys
import time

import pytest
from tests.quick import first_of
from tests.soak import SOAK

import ray
from ray.exceptions import ObjectStoreFullError, WorkerCrashedError
from ray.testing import eventually, inside

np = pytest.importorskip("numpy")

STORES = [name for name in ("shm", "plasma") if importlib.util.find_spec(f"ray_store_{name}")]
MB = 1 << 20
TIMEOUT_S = 100
#: What a killed client had is back after at most this long.
RECLAIM_S = 2.0

pytestmark = [
    pytest.mark.timeout(1800 if SOAK else 180),
    pytest.mark.skipif(sys.platform != "linux", reason="the stores need Linux"),
]
each_store = pytest.mark.parametrize("store", STORES)
mostly_plasma = pytest.mark.parametrize("store", first_of(reversed(STORES)))
plasma_only = pytest.mark.skipif("plasma" not in STORES, reason="ray-store-plasma is not installed")


def used():
    return inside.stored_bytes()


def spilled():
    return inside.spilled_bytes()


def content(number, size):
    return np.full(size // 8, number, np.int64)


def is_right(value, number, size):
    return value.nbytes == size // 8 * 8 and int(value[0]) == number and bool((value == number).all())


@ray.remote
def make(number, size):
    return content(number, size)


@ray.remote
def next_of(value):
    return value + 1


@ray.remote
def sum_of(*values):
    return sum(values[1:], values[0].copy())


# --- what is dropped comes back ---------------------------------------------------------------------------------------


@pytest.mark.slow
@each_store
def test_a_loop_needs_room_for_what_lives_and_one_more(start, store, rounds):
    """200 objects of 100 MB through a store of 400 MB (fewer where each needs fresh pages); none goes to the disk."""
    size = 100 * 10**6
    start(num_cpus=1, store=store, object_store_memory=4 * size, log_to_driver=False)
    data = np.arange(size // 8)
    most = 0
    for number in range(rounds(200 if store == "plasma" else 40, 200)):
        data[0] = number
        ref = ray.put(data)
        most = max(most, used())
        value = ray.get(ref)
        assert int(value[0]) == number
        assert int(value[-1]) == len(data) - 1
        del value
    assert most < 2.01 * size
    assert not spilled()
    del ref
    eventually(lambda: not used(), 0.5)


@mostly_plasma
def test_a_loop_over_refs_of_results_keeps_one(start, store):
    size = 10 * MB
    start(num_cpus=2, store=store, object_store_memory=8 * size, log_to_driver=False)
    for ref in (make.remote(number, size) for number in range(100)):
        assert int(ray.get(ref, timeout=TIMEOUT_S)[0]) >= 0
        assert used() < 4 * size
    assert not spilled()


@pytest.mark.slow
@each_store
def test_awaiting_in_a_loop_fills_nothing(start, store, rounds):
    """Results of 1 MB, awaited one after the other and some at a time."""
    start(num_cpus=2, store=store, object_store_memory=64 * MB, log_to_driver=False)
    count = rounds(2_000, 100_000)
    most = 0

    async def drain():
        nonlocal most
        for base in range(0, count, 10):
            if base % 500:
                values = await asyncio.gather(*(make.remote(base + i, MB) for i in range(10)))
            else:
                values = [await make.remote(base + i, MB) for i in range(10)]
            assert [int(value[-1]) for value in values] == list(range(base, base + 10))
            most = max(most, used())

    asyncio.run(drain())
    assert most <= 40 * MB
    assert not spilled()
    eventually(lambda: not used(), 0.5)


# --- what is held is safe ---------------------------------------------------------------------------------------------


@ray.remote
class Viewer:
    """Looks at arrays, or parts of them, whose refs nobody has any more."""

    def __init__(self):
        self.views = {}

    def look_at(self, number, value, start):
        self.views[number] = value[start:]

    def look_away(self, number):
        self.views.pop(number, None)

    def changed(self):
        return changed(self.views)


def changed(views):
    """Which are not as they were."""
    return [number for number, view in views.items() if not (view == number).all()]


@mostly_plasma
def test_memory_in_use_is_given_to_nobody_else(start, store, rounds):
    """All that is free is overwritten again and again; what a process looks at keeps its content."""
    capacity = 64 * MB
    start(num_cpus=2, store=store, object_store_memory=capacity, log_to_driver=False)
    chance = random.Random(5)
    poison = np.full(4 * MB // 8, -1, np.int64)
    views, viewer, looks = {}, Viewer.remote(), 0
    for number in range(rounds(60, 3_000)):
        size = chance.randrange(1 * MB, 3 * MB)
        ref = ray.put(content(number, size))
        start_at = chance.randrange(size // 8 - 1)
        if chance.random() < 0.5:
            views[number] = ray.get(ref)[start_at:]
        else:
            ray.get(viewer.look_at.remote(number, ref, start_at), timeout=TIMEOUT_S)
        del ref
        if number >= 8:
            forgotten = chance.randrange(number - 8, number)
            views.pop(forgotten, None)
            ray.get([viewer.look_away.remote(forgotten), viewer.look_away.remote(number - 8)], timeout=TIMEOUT_S)
            views.pop(number - 8, None)
        written = []
        while used() + 2 * poison.nbytes < capacity and not spilled():  # free memory may lie in pieces
            written.append(ray.put(poison))
        assert len(written) >= 4
        del written
        looks += len(views)
        assert changed(views) == []
        assert ray.get(viewer.changed.remote(), timeout=TIMEOUT_S) == []
    assert looks > 60
    views.clear()
    ray.kill(viewer)
    eventually(lambda: not used() and not spilled(), 2.0)


# --- clients that are killed ------------------------------------------------------------------------------------------


@ray.remote(max_retries=0)
def die_between_create_and_seal(object_id, size):
    inside.store().create(object_id, size)[:1] = b"x"
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


@ray.remote(max_retries=0)
def die_while_putting(after_s, size):
    import threading

    threading.Timer(after_s, os.kill, (os.getpid(), signal.SIGKILL)).start()
    data = np.ones(size, np.uint8)
    while True:
        ray.put(data)


@ray.remote(max_retries=0)
def die_holding(refs):
    views = ray.get(refs)
    assert len(views) == len(refs)
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


@mostly_plasma
def test_workers_killed_while_they_write_or_read(start, store, rounds):
    start(num_cpus=2, store=store, object_store_memory=256 * MB, log_to_driver=False)
    refs = [ray.put(content(number, 150_000)) for number in range(1000)]
    before = used()
    for number in range(rounds(8, 1000)):
        object_id = number.to_bytes(20, "big")
        doomed = [
            die_between_create_and_seal.remote(object_id, MB),
            die_while_putting.remote(0.001 * (number % 10), 30 * MB),
        ]
        if not number % 4:
            doomed.append(die_holding.remote(refs))
        for ref in doomed:
            with pytest.raises(WorkerCrashedError, match="SIGKILL"):
                ray.get(ref, timeout=TIMEOUT_S)
        eventually(lambda: used() == before, RECLAIM_S, "what the killed had does not come back")
        own = inside.store()
        own.put(object_id, [b"again"], 5)
        assert bytes(own.get(object_id)) == b"again"
        own.release(object_id)
        own.delete(object_id)
    assert all(is_right(ray.get(ref), number, 150_000) for number, ref in enumerate(refs))


# --- more than fits ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@plasma_only
def test_ten_times_half_the_store_is_read_twice(start, tmp_path):
    size = 50 * 10**6
    options = {"store": {"spill_dir": str(tmp_path)}}
    start(num_cpus=2, store="plasma", object_store_memory=100 * MB, options=options, log_to_driver=False)
    refs = [ray.put(content(number, size)) for number in range(10)]
    for _ in range(2):
        for number, ref in enumerate(refs):
            assert is_right(ray.get(ref), number, size)
    assert spilled() >= 8 * size
    assert used() <= 100 * MB
    assert is_right(ray.get(next_of.remote(refs[1]), timeout=TIMEOUT_S), 2, size), "for tasks they come back too"
    del ref, refs
    eventually(lambda: not used() and not spilled())


@plasma_only
@pytest.mark.parametrize("shape", first_of(["net", "chain", "fan"]))
def test_half_as_much_again_as_the_store(start, tmp_path, shape):
    """100 objects, each made of earlier ones by a task, all kept and read twice."""
    size = 3 * MB // 2
    options = {"store": {"spill_dir": str(tmp_path)}}
    start(num_cpus=2, store="plasma", object_store_memory=100 * MB, options=options, log_to_driver=False)
    refs = [ray.put(content(1, size))]
    wanted = [1]
    for number in range(1, 100):
        if shape == "net":  # of several
            of = sorted({0, number // 2, number - 1})
            refs.append(sum_of.remote(*(refs[i] for i in of)))
            wanted.append(int(np.array([wanted[i] for i in of]).sum()) % 2**62)
            if wanted[-1] > 2**55:  # stay far from overflow
                refs[-1], wanted[-1] = make.remote(number, size), number
        else:
            source = number - 1 if shape == "chain" else 0
            refs.append(next_of.remote(refs[source]))
            wanted.append(wanted[source] + 1)
    for _ in range(2):
        for number, ref in enumerate(refs):
            assert is_right(ray.get(ref, timeout=TIMEOUT_S), wanted[number], size), number
    assert spilled() >= 30 * size
    for number in np.random.default_rng(1).permutation(100)[:10]:
        assert is_right(ray.get(refs[number]), wanted[number], size)


@pytest.mark.skipif("shm" not in STORES, reason="ray-store-shm is not installed")
def test_without_a_disk_a_full_store_says_who_fills_it(start):
    options = {"store": {"full_timeout_s": 0.2}}
    start(num_cpus=1, store="shm", object_store_memory=100 * MB, options=options, log_to_driver=False)
    refs = [ray.put(content(number, 45 * MB)) for number in range(2)]
    with pytest.raises(ObjectStoreFullError, match=r"2 objects, the biggest: .* use store='plasma'"):
        ray.put(content(2, 45 * MB))
    with pytest.raises(ObjectStoreFullError):
        ray.get(make.remote(2, 45 * MB), timeout=TIMEOUT_S)
    assert all(is_right(ray.get(ref), number, 45 * MB) for number, ref in enumerate(refs))
    del refs[0]
    assert is_right(ray.get(make.remote(2, 45 * MB), timeout=TIMEOUT_S), 2, 45 * MB)


# --- writers in C -----------------------------------------------------------------------------------------------------


@ray.remote(max_retries=0)
def write_in_c(array):
    ctypes.memset(array.ctypes.data, 255, 8)
    return "written"


@ray.remote
def make_writable_in_c(array):
    """Whether the kernel lets a reader have its pages for writing, and why not."""
    libc = ctypes.CDLL(None, use_errno=True)
    page = array.ctypes.data & ~4095
    return libc.mprotect(ctypes.c_void_p(page), 4096, 3), os.strerror(ctypes.get_errno())


@mostly_plasma
def test_writers_in_c_end_with_a_fault_and_change_nothing(start, store):
    start(num_cpus=1, store=store, log_to_driver=False)
    put, result = ray.put(np.arange(100_000)), make.remote(7, MB)
    before = ray.get(put).copy(), ray.get(result, timeout=TIMEOUT_S).copy()
    for ref in (put, result):
        with pytest.raises(WorkerCrashedError, match="SIGSEGV"):
            ray.get(write_in_c.remote(ref), timeout=TIMEOUT_S)
    assert (ray.get(put) == before[0]).all()
    assert (ray.get(result) == before[1]).all()
    if store == "shm":
        assert ray.get(make_writable_in_c.remote(put), timeout=TIMEOUT_S) == (-1, "Permission denied")
