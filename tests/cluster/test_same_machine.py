"""Nodes of one machine: large values go from store to store, and by data connections when a store does not answer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import psutil
import pytest
from tests.clusters import cluster_of
from tests.moved_values import transfers

import ray
from ray.testing import inside
from ray.testing.cluster import Cluster

LIMIT_S = 40
NBYTES = 5 << 20


@pytest.fixture(params=["plasma", pytest.param("shm", marks=pytest.mark.slow)])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    pytest.importorskip(f"ray_store_{request.param}")
    far = {"num_cpus": 1, "resources": {"far": 4}}
    with cluster_of({"num_cpus": 1}, far, store=request.param, same_host=True) as made, ray.init(made.address):
        yield made
        inside.settled()


@ray.remote(num_cpus=0, resources={"far": 1})
def made_there(seed: int) -> bytes:
    return bytes([seed]) * NBYTES


@ray.remote(num_cpus=0, resources={"far": 1})
def length(value: bytes) -> int:
    return len(value)


def moved(cluster: Cluster) -> list[tuple[int, int]]:
    """What each node has copied and received of values."""
    counts = [transfers(node) for node in cluster.nodes]
    return [(each["copied_bytes"] // NBYTES, each["received_bytes"] // NBYTES) for each in counts]


def test_values_are_copied_both_ways(cluster: Cluster) -> None:
    values = ray.get([made_there.remote(seed) for seed in range(3)], timeout=LIMIT_S)
    assert values == [bytes([seed]) * NBYTES for seed in range(3)]
    assert moved(cluster) == [(3, 0), (0, 0)]
    assert ray.get(length.remote(ray.put(bytes(NBYTES))), timeout=LIMIT_S) == NBYTES
    assert moved(cluster) == [(3, 0), (1, 0)]


def test_values_of_a_node_that_stands_still_or_dies_are_not_waited_for(cluster: Cluster) -> None:
    known, unread = made_there.remote(1), made_there.remote(2)
    assert ray.get(known, timeout=LIMIT_S) == bytes([1]) * NBYTES  # so the store has been opened
    assert ray.wait([unread], timeout=LIMIT_S)[0]
    of_node = psutil.Process(cluster.nodes[1].pid)
    stopped = [of_node, *of_node.children(recursive=True)]
    for process in stopped:
        process.suspend()
    began = time.monotonic()
    with pytest.raises(ray.exceptions.ObjectLostError):
        ray.get(unread, timeout=LIMIT_S)
    # Its store is given 3 s, and the node is dead after 9 s; else this would end with the limit of ``get``.
    assert time.monotonic() - began < LIMIT_S / 2
    for process in stopped:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()
    cluster.kill(cluster.nodes[1])
