"""Whole sessions over the portable way of the shm store, which systems other than Linux have to take."""

from __future__ import annotations

import os
import signal
import sys

import pytest
from tests import victims

import ray
from ray.exceptions import NodeDiedError, WorkerCrashedError
from ray.testing import eventually, inside

np = pytest.importorskip("numpy")
pytest.importorskip("ray_store_shm")

STORE = "tests.faults.portable_store"
TIMEOUT_S = 60

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform != "linux", reason="it is there to try elsewhere what is proven here"),
]


@ray.remote
def make(number):
    return np.full(100_000, number)


@ray.remote
def total(*arrays):
    return int(sum(int(array.sum()) for array in arrays))


@ray.remote(max_retries=0)
def die_with(array):
    assert array.sum() == 100_000
    os.kill(os.getpid(), signal.SIGKILL)


def test_arrays_are_shared_between_processes(start):
    start(num_cpus=2, store=STORE, object_store_memory=64 << 20, log_to_driver=False)
    for _ in range(20):  # more than there is room for at a time
        refs = [make.remote(number) for number in range(10)]
        mine = ray.put(np.ones(200_000))
        assert ray.get(total.remote(mine, *refs), timeout=TIMEOUT_S) == 200_000 + 45 * 100_000
        assert not ray.get(refs[3]).flags.writeable


@pytest.mark.slow
def test_a_worker_that_dies_costs_nothing(start):
    start(num_cpus=2, store=STORE, object_store_memory=64 << 20, log_to_driver=False)
    ones = ray.put(np.ones(100_000))
    for _ in range(5):
        with pytest.raises(WorkerCrashedError):
            ray.get(die_with.remote(ones), timeout=TIMEOUT_S)
    assert ray.get(total.remote(ones), timeout=TIMEOUT_S) == 100_000
    store = inside.store()
    eventually(lambda: store.list()[0].holders in ((), (os.getpid(),)), 5, "the dead hold it")


@pytest.mark.parametrize("kind", ["store", "node manager"])
def test_the_broker_and_its_node_manager_end_together(start, kind):
    start(num_cpus=1, store=STORE, object_store_memory=64 << 20, log_to_driver=False)
    array = ray.get(ray.put(np.ones(100_000)), timeout=TIMEOUT_S)
    (broker,) = victims.store_processes()
    node_manager = victims.node_manager()
    os.kill(broker if kind == "store" else node_manager, signal.SIGKILL)
    with pytest.raises(NodeDiedError):
        ray.get(make.remote(1), timeout=TIMEOUT_S)
    assert array.sum() == 100_000
    eventually(lambda: not victims.alive(broker) and not victims.alive(node_manager))
    ray.shutdown()
