"""A hundred values of 50 MB on four nodes, and a task for each: they run where the bytes are, if there is room soon."""

from __future__ import annotations

import datetime
import statistics
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from tests.clusters import cluster_of
from tests.moved_values import received

import ray
from ray.testing import eventually, inside
from ray.testing.cluster import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

COUNT, NBYTES = 100, 50_000_000
NODES = 4
STORE_BYTES = (COUNT // NODES + 4) * (NBYTES + (1 << 20))
LIMIT_S = 120
LIMIT = datetime.timedelta(seconds=LIMIT_S)
HELD_S = 100.0


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """The program is a driver at the head; in the end nothing is taken on any node."""
    settings = {"num_cpus": 2, "object_store_memory": STORE_BYTES}
    with cluster_of(*[settings] * NODES, store="plasma") as made, ray.init(made.address):
        yield made
        inside.settled()


@ray.remote
def make(seed: int) -> bytes:
    return bytes((seed,)) * NBYTES


@ray.remote
def look(value: bytes) -> tuple[str, float, bool]:
    """Where it runs, since when, and whether the value is whole."""
    began = time.time()
    right = len(value) == NBYTES and value.count(value[:1]) == NBYTES
    return ray.get_runtime_context().node_id, began, right


@ray.remote
def hold(seconds: float) -> None:
    time.sleep(seconds)


def spread(cluster: Cluster) -> list[tuple[str, ray.ObjectRef[bytes]]]:
    ids = [cluster.nodes[number % NODES].node_id for number in range(COUNT)]
    made = [(id, make.options(node=id).remote(number)) for number, id in enumerate(ids)]
    ray.wait([ref for _, ref in made], num_returns=COUNT, timeout=LIMIT)
    return made


def is_free(node_id: str) -> bool:
    """Whether a processor of that node is free."""
    probe = hold.options(node=node_id).remote(0.0)
    ready, _ = ray.wait([probe], timeout=500)
    if not ready:
        ray.cancel(probe)
    return bool(ready)


def test_they_run_where_the_bytes_are(cluster: Cluster) -> None:
    made, before = spread(cluster), received(*cluster.nodes)
    found = ray.get([look.remote(ref) for _, ref in made], timeout=LIMIT_S)
    assert all(right for _, _, right in found)
    there = sum(node == id for (id, _), (node, _, _) in zip(made, found, strict=True))
    assert there >= 0.95 * COUNT, Counter((id, node) for (id, _), (node, _, _) in zip(made, found, strict=True))
    assert received(*cluster.nodes) - before <= 0.05 * COUNT * (NBYTES + 4096)


def test_what_is_on_busy_nodes_moves(cluster: Cluster) -> None:
    """Two nodes have no processor to spare: their tasks wait for these for 0.2 s, and then run on the other two."""
    made = spread(cluster)
    busy = {node.node_id for node in cluster.nodes[2:]}
    holds = [hold.options(node=id).remote(HELD_S) for id in busy for _ in range(2)]
    for id in busy:
        eventually(lambda id=id: not is_free(id), 20, "the node is not busy")
    waits = []
    for _, ref in [each for each in made if each[0] in busy][:10]:
        asked = time.time()
        node, began, right = ray.get(look.remote(ref), timeout=LIMIT_S)
        assert right
        assert node not in busy
        waits.append(began - asked)
    print("waited for", [round(wait, 3) for wait in sorted(waits)])
    assert statistics.median(waits) < 1.0, waits  # most of it the way of 50 MB, beside all else that runs here
    found = ray.get([look.remote(ref) for _, ref in made], timeout=LIMIT_S)
    assert all(right for _, _, right in found)
    assert busy.isdisjoint(node for node, _, _ in found)
    for held in holds:
        ray.cancel(held, force=True)
    ray.wait(holds, num_returns=len(holds), timeout=LIMIT)
