"""A long day in short: many tasks, calls, objects and actors; no process grows, nothing stays open or stored."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import os
import sys
import time

import psutil
import pytest
from tests import victims
from tests.soak import SOAK

import ray
from ray.testing import eventually, inside

STORES = ["heap", *(name for name in ("shm", "plasma") if importlib.util.find_spec(f"ray_store_{name}"))]
MAY_GROW_BYTES = 20 << 20
LARGE = bytes(200_000)

pytestmark = [
    pytest.mark.timeout(1800 if SOAK else 180),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]


@ray.remote
def nothing():
    pass


@ray.remote
def large():
    return LARGE


@ray.remote
def first_bytes(data):
    return data[:4]


@ray.remote
class Counter:
    def __init__(self):
        self.count = 0

    def add(self, *_):
        self.count += 1
        return self.count


def run_tasks(tasks, objects):
    """Nothing of it is left when this returns."""
    for _ in range(0, tasks, 10_000):
        ray.get([nothing.remote() for _ in range(min(tasks, 10_000))], timeout=120)
    for number in range(objects):
        ref = ray.put(number.to_bytes(4, "big") + LARGE)
        assert ray.get(ref)[:4] == number.to_bytes(4, "big")
        if not number % 20:
            assert ray.get([large.remote(), first_bytes.remote(ref)], timeout=120)[1] == number.to_bytes(4, "big")


def run_actors(calls, actors):
    """Nothing of it is left when this returns. Workers become actors, so none that was idle before is there after."""
    counter = Counter.remote()
    for _ in range(0, calls, 5_000):
        ray.get([counter.add.remote() for _ in range(min(calls, 5_000))], timeout=120)
    for _ in range(0, actors, 5):
        group = [Counter.remote() for _ in range(5)]
        assert ray.get([actor.add.remote(ray.put(LARGE)) for actor in group], timeout=120) == [1] * 5
        ray.kill(group[0])
        del group
    ray.kill(counter)


def processes():
    """{what it is: pid}."""
    parts = {"driver": os.getpid(), "node manager": victims.node_manager(), "zygote": victims.zygote()}
    parts.update((f"worker {pid}", pid) for pid in victims.workers())
    for number, pid in enumerate(victims.store_processes()):
        parts[f"store {number}"] = pid
    return parts


def settled():
    """``{part: (bytes of memory, open descriptors)}`` when nobody is busy with what was."""
    gc.collect()
    eventually(lambda: ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"])
    eventually(lambda: not inside.stored_bytes(), why="the store is not empty")
    seen = {}
    for name, pid in processes().items():
        # An idle worker may end just now.
        with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            seen[name] = memory(pid), descriptors(pid)
    return seen


def memory(pid):
    """Bytes of its own, pages included that a forked child shares; of the store's only what it has written itself."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        lines = dict(line.split(":") for line in file if ":" in line.split(" ")[0])
    return int(lines["Anonymous"].split()[0]) * 1024


def descriptors(pid):
    return psutil.Process(pid).num_fds()


def grown(before, after):
    """What has grown, in bytes: ``{part: bytes}``, for parts that are in both."""
    return {name: nbytes - before[name][0] for name, (nbytes, _) in after.items() if name in before}


@pytest.mark.parametrize(
    "store", [pytest.param(name, marks=[] if name == STORES[-1] else [pytest.mark.slow]) for name in STORES]
)
def test_nothing_grows(start, store, rounds):
    start(num_cpus=2, store=store, object_store_memory=64 << 20, log_to_driver=False)
    run_actors(5_000, 10)
    run_tasks(10_000, 400)
    before = settled()
    began = time.monotonic()
    # The stores differ in the objects; tasks, calls and actors are the same with each.
    many = SOAK or store == STORES[0]
    for _ in range(rounds(1, 10)):
        run_tasks(100_000 if many else 10_000, 2_000)
    of_tasks = grown(before, settled())
    assert any("worker" in name for name in of_tasks), "the tasks ran where tasks had run before"
    for _ in range(rounds(1, 10)):
        run_actors(10_000, 100 if many else 20)
    took = time.monotonic() - began
    # Connections to workers that were needed for a while may still be there.
    eventually(lambda: all(count <= before[name][1] for name, (_, count) in settled().items() if name in before))
    at_all = grown(before, settled())
    print(f"{store}: {took:.1f} s, { ({name: f'{nbytes / 2**20:.1f} MiB' for name, nbytes in at_all.items()}) }")
    assert {name for name in before if "worker" not in name} <= set(at_all)
    assert max(*of_tasks.values(), *at_all.values()) <= MAY_GROW_BYTES, (of_tasks, at_all)
    assert not inside.entries()
