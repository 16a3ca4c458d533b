"""A node whose store is full, or too small for all that its tasks take: what a program waits for comes first."""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.data_ways import DataWay, cluster_with_ways
from tests.moved_values import transfers
from tests.quick import first_of

import ray
from ray.testing import eventually, inside
from ray.testing.cluster import Cluster

MiB = 1 << 20
LIMIT_S = 50
LIMIT = datetime.timedelta(seconds=LIMIT_S)
STORE_BYTES = 96 * MiB
#: Of an argument: four of ten fit into a store.
NBYTES = 20 * MiB
TASKS = 10


@pytest.fixture(scope="module", params=first_of(["plasma", "shm"]))
def nodes(request: pytest.FixtureRequest) -> Iterator[tuple[Cluster, DataWay]]:
    """The head; "far" has values, and there is a way to it; "full" reads them."""
    with cluster_with_ways(store=request.param, num_cpus=1, object_store_memory=STORE_BYTES) as (made, ways):
        far = made.add_node(num_cpus=1, resources={"far": 4}, object_store_memory=400 * MiB)
        made.add_node(num_cpus=2, resources={"full": TASKS + 2}, object_store_memory=STORE_BYTES)
        made.wait_for_nodes()
        yield made, ways.to(far)


@pytest.fixture
def cluster(nodes: tuple[Cluster, DataWay]) -> Iterator[Cluster]:
    with ray.init(nodes[0].address):
        yield nodes[0]
        inside.settled()


@pytest.fixture
def way(nodes: tuple[Cluster, DataWay]) -> DataWay:
    return nodes[1]


@ray.remote(resources={"far": 1})
def make(seed: int) -> bytes:
    return bytes((seed,)) * NBYTES


@ray.remote(num_cpus=0, resources={"full": 1})
def look(value: bytes) -> tuple[int, float]:
    assert len(value) == NBYTES
    return value[0], time.time()


@ray.remote(num_cpus=0, resources={"full": 1})
class Reader:
    def fill(self, nbytes: int) -> None:
        self.kept = ray.put(bytes(nbytes))

    def make_room(self) -> None:
        del self.kept

    def read(self, refs: list[ray.ObjectRef[bytes]], asks: Path) -> tuple[int, float]:
        asks.touch()
        value = ray.get(refs[0])
        assert len(value) == NBYTES
        return value[0], time.time()


def made(count: int) -> list[ray.ObjectRef[bytes]]:
    refs = [make.remote(seed) for seed in range(count)]
    ray.wait(refs, num_returns=count, timeout=LIMIT)
    return refs


def test_what_is_waited_for_comes_before_arguments(cluster: Cluster, way: DataWay, tmp_path: Path) -> None:
    """It comes behind what is on its way already, and before all that waits."""
    *_, full = cluster.nodes
    *refs, mine = made(TASKS + 1)
    reader, asks, go_on = Reader.remote(), tmp_path / "asks", threading.Event()
    way.after(NBYTES // 2, lambda: go_on.wait(LIMIT_S))
    looks = [look.remote(ref) for ref in refs]
    reading = reader.read.remote([mine], asks)
    # One is on its way; the others wait, and so does mine.
    eventually(lambda: asks.exists() and transfers(full)["queued"] == TASKS, LIMIT_S, "not all are asked for")
    go_on.set()
    seed, read_at = ray.get(reading, timeout=LIMIT_S)
    assert seed == TASKS
    found = ray.get(looks, timeout=LIMIT_S)
    assert [seed for seed, _ in found] == list(range(TASKS))
    assert sum(at < read_at for _, at in found) <= 2


@pytest.mark.slow
def test_a_store_that_is_full(cluster: Cluster, tmp_path: Path) -> None:
    """Where nothing goes to the disk somebody hears of it; when there is room again, all is as it was."""
    spills = cluster.plan.store.name == "plasma"
    refs, keeper, reader = made(TASKS), Reader.remote(), Reader.remote()
    ray.get(keeper.fill.remote(STORE_BYTES - NBYTES), timeout=LIMIT_S)
    looks = [look.remote(ref) for ref in refs]
    reading = reader.read.remote(refs[:1], tmp_path / "asks")
    outcomes = [outcome(ref) for ref in (reading, *looks)]
    expected = [0, *range(TASKS)]
    for seed, found in zip(expected, outcomes, strict=True):
        assert found == seed or (not spills and found is ray.exceptions.ObjectStoreFullError), outcomes
    ray.get(keeper.make_room.remote(), timeout=LIMIT_S)
    assert [outcome(look.remote(ref)) for ref in refs] == list(range(TASKS))


@ray.remote(resources={"far": 1})
def make_large(nbytes: int) -> bytes:
    return bytes(nbytes)


def test_a_value_larger_than_the_whole_store_of_its_reader(cluster: Cluster) -> None:
    """The error names the node whose store that is: it is seldom the one that has made the value."""
    large = make_large.remote(STORE_BYTES + MiB)
    with pytest.raises(ray.exceptions.ObjectStoreFullError, match="larger than the store") as caught:
        ray.get(large, timeout=LIMIT_S)
    assert f"it is the store of the node {cluster.head_node.name} " in str(caught.value)
    assert "ray start --object-store-memory" in str(caught.value)


def outcome(ref: ray.ObjectRef[tuple[int, float]]) -> object:
    try:
        return ray.get(ref, timeout=LIMIT_S)[0]
    except ray.exceptions.ObjectStoreFullError:
        return ray.exceptions.ObjectStoreFullError
