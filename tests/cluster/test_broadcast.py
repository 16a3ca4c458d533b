"""One value for many nodes: it goes on from node to node."""

from __future__ import annotations

import datetime
import os
import threading
from collections.abc import Iterator

import pytest
from tests.clusters import cluster_of
from tests.moved_values import kill, mover_of, transfers

import ray
from ray.testing import inside
from ray.testing.cluster import Cluster

MiB = 1 << 20
LIMIT_S = 60
LIMIT = datetime.timedelta(seconds=LIMIT_S)


@pytest.fixture(scope="module", params=["unix", pytest.param("routed", marks=pytest.mark.slow)])
def nodes(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A head, and eight nodes of one processor each (four, where that is not slow)."""
    far = [{"num_cpus": 1, "resources": {"far": 1}}] * (8 if request.param == "routed" else 4)
    with cluster_of({"num_cpus": 1}, *far, store="plasma", transport=request.param) as made:
        yield made


@pytest.fixture
def cluster(nodes: Cluster) -> Iterator[Cluster]:
    with ray.init(nodes.address):
        yield nodes
        inside.settled()


@ray.remote(resources={"far": 1}, max_retries=5)
def read(refs: list[ray.ObjectRef[bytes]]) -> int:
    return sum(ray.get(refs[0])[::4096])


def pattern(nbytes: int) -> bytes:
    block = os.urandom(4099)
    return (block * (nbytes // len(block) + 1))[:nbytes]


def test_the_source_sends_a_value_twice(cluster: Cluster) -> None:
    far = cluster.nodes[1:]
    value = pattern(24 * MiB)
    ref = ray.put(value)
    before = [transfers(node) for node in cluster.nodes]
    tasks = [read.options(node=node.node_id).remote([ref]) for node in far]
    assert set(ray.get(tasks, timeout=LIMIT_S)) == {sum(value[::4096])}
    after = [transfers(node) for node in cluster.nodes]
    sent, received = (
        [new[what] - old[what] for new, old in zip(after, before, strict=True)]
        for what in ("sent_bytes", "received_bytes")
    )
    assert max(received) <= 1.02 * len(value)
    assert min(received[1:]) >= len(value)
    assert sent[0] <= 2.05 * len(value), (sent, received)


def test_others_finish_while_movers_are_killed(cluster: Cluster) -> None:
    far = cluster.nodes[1:]
    value = pattern(30 * MiB)
    ref = ray.put(value)
    movers = [mover_of(node) for node in far[:3]]
    tasks = [read.options(node=node.node_id).remote([ref]) for node in far]
    timers = [threading.Timer(0.02 * index, kill, (pid,)) for index, pid in enumerate(movers)]
    for timer in timers:
        timer.start()
    assert set(ray.get(tasks, timeout=LIMIT_S)) == {sum(value[::4096])}
    for timer in timers:
        timer.join()


@pytest.mark.slow
def test_others_finish_while_nodes_are_killed(cluster: Cluster) -> None:
    extra = [cluster.add_node(num_cpus=1, resources={"far": 1, "extra": 1}) for _ in range(2)]
    cluster.wait_for_nodes()
    value = pattern(30 * MiB)
    ref = ray.put(value)
    tasks = [read.options(resources={"far": 1, "extra": 1}).remote([ref]) for _ in extra]
    tasks = [*tasks, *(read.options(node=node.node_id).remote([ref]) for node in cluster.nodes[1:4])]
    cluster.kill(extra[0])
    assert set(ray.get(tasks, timeout=LIMIT_S)) == {sum(value[::4096])}
    cluster.remove_node(extra[1])
