"""A large value that comes over a slow and lossy link, and small work meanwhile."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tests.redis_servers import server_binary

import ray
from ray.testing.namespaces import lack


@ray.remote(num_cpus=0, resources={"far": 1})
def make(nbytes):
    return np.arange(nbytes // 8)


@ray.remote(num_cpus=0, resources={"far": 1})
def small(number):
    return number


def seconds_of_each(count: int) -> list[float]:
    found = []
    for number in range(count):
        start = time.monotonic()
        assert ray.get(small.remote(number), timeout=60) == number
        found.append(time.monotonic() - start)
    return sorted(found)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("store", ["shm", "plasma"])
def test_small_tasks_pass_a_large_value(ray_cluster, store):
    why = lack()
    if why:
        pytest.skip(why)
    for package in ("ray_transport_zmq", f"ray_store_{store}"):
        pytest.importorskip(package)
    server_binary()
    cluster = ray_cluster(initialize_head=True, isolation="netns", store=store)
    far = cluster.add_node(resources={"far": 2})
    cluster.wait_for_nodes()
    ray.init(cluster.address)
    nbytes = 20 << 20
    large = make.remote(nbytes)
    ray.get(small.remote(0))
    with cluster.rate(far, "10mbit"), cluster.loss(far, 0.01):
        idle = seconds_of_each(200)
        start = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(ray.get, large, timeout=200)
            busy = seconds_of_each(200)
            assert not coming.done()
            value = coming.result()
        took = time.monotonic() - start
    print(f"p99 idle {idle[-3]:.3f} s, busy {busy[-3]:.3f} s; the value took {took:.1f} s")
    assert np.array_equal(value, np.arange(nbytes // 8))
    assert took > nbytes / (10e6 / 8)
    assert busy[-3] <= 3 * max(idle[-3], 0.5)  # a lost frame is sent again after 0.2 s at the earliest
