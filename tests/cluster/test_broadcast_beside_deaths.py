"""Eight nodes want one value; two of them, and a node that has it, are killed while it goes round."""

from __future__ import annotations

import contextlib
import datetime
import random
import threading
import zlib
from collections.abc import Iterator

import pytest
from tests.data_ways import DataWays, cluster_with_ways
from tests.moved_values import kill, mover_of, transfers

import ray
from ray.testing import eventually, inside
from ray.testing.cluster import Cluster, ClusterNode

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

MiB = 1 << 20
RECEIVERS, NBYTES = 8, 64 * MiB
STORE_BYTES = NBYTES + 64 * MiB
LIMIT_S = 120


@pytest.fixture
def cluster() -> Iterator[tuple[Cluster, DataWays]]:
    """A head, with a driver that has no value itself."""
    with cluster_with_ways(num_cpus=1, object_store_memory=STORE_BYTES) as (made, ways), ray.init(made.address):
        yield made, ways
        inside.settled()


@ray.remote(num_cpus=0)
def make(seed: int) -> bytes:
    return random.Random(seed).randbytes(NBYTES)


@ray.remote(num_cpus=0, max_retries=0)
def read(refs: list[ray.ObjectRef[bytes]]) -> int:
    return hash_of(ray.get(refs[0]))


@ray.remote(num_cpus=0)
class Keeper:
    def keep(self, refs: list[ray.ObjectRef[bytes]]) -> int:
        self.kept = refs  # as long as it has the ref, its node has a copy
        return hash_of(ray.get(refs[0]))


def hash_of(value: bytes) -> int:
    return zlib.crc32(value)


def pids(nodes: list[ClusterNode]) -> list[int]:
    """Of their object managers, and of their node managers."""
    return [pid for node in nodes for pid in (mover_of(node), node.pid)]


@pytest.mark.parametrize("dies", ["origin", "copy"])
@pytest.mark.parametrize("seed", range(2))
def test_the_others_finish(cluster: tuple[Cluster, DataWays], dies: str, seed: int) -> None:
    """The node that has made the value dies, or one that has had a copy before: the receivers know both by then."""
    chance = random.Random(f"{dies}{seed}")
    made, ways = cluster
    settings = {"num_cpus": 1, "object_store_memory": STORE_BYTES}
    origin, copy = made.add_node(**settings), made.add_node(**settings)
    receivers = [made.add_node(**settings) for _ in range(RECEIVERS)]
    made.wait_for_nodes()
    ref = make.options(node=origin.node_id).remote(seed)
    keeper = Keeper.options(node=copy.node_id).remote()
    expected = ray.get(keeper.keep.remote([ref]), timeout=LIMIT_S)
    way, before = ways.to(origin), transfers(origin)["sent_bytes"]
    victims = [{"origin": origin, "copy": copy}[dies], *chance.sample(receivers, 2)]
    dying, told = pids(victims), way.told + RECEIVERS
    struck = threading.Event()

    def strike() -> None:
        with contextlib.suppress(TimeoutError, AssertionError):
            eventually(lambda: way.told >= told, LIMIT_S)
        kill(*dying)
        struck.set()

    way.after(chance.randrange(NBYTES // 8, 3 * NBYTES // 4), strike)  # the origin sends one value at least
    reads = {node.name: read.options(node=node.node_id).remote([ref]) for node in receivers}
    for node in receivers:
        try:
            assert ray.get(reads[node.name], timeout=LIMIT_S) == expected
        except ray.exceptions.RayError:
            assert node in victims
    assert struck.is_set()
    left = [node for node in receivers if node not in victims]
    assert max(transfers(node)["received_bytes"] for node in left) <= 1.02 * NBYTES
    if dies == "copy":
        # Those that have died may have been sent all of it as well.
        assert transfers(origin)["sent_bytes"] - before <= (2.05 + 2) * NBYTES
    for node in victims:
        made.kill(node)


def test_a_node_that_asks_after_the_death_finds_the_copy_of_another(cluster: tuple[Cluster, DataWays]) -> None:
    """Only the node that has died knew who has one. What nobody has is lost."""
    made, _ = cluster
    settings = {"num_cpus": 1, "object_store_memory": 3 * STORE_BYTES}
    origin, copy, reader = (made.add_node(**settings) for _ in range(3))
    made.wait_for_nodes()
    ref, lost = (make.options(node=origin.node_id).remote(seed) for seed in range(2))
    ray.wait([ref, lost], num_returns=2, timeout=datetime.timedelta(seconds=LIMIT_S))
    keeper = Keeper.options(node=copy.node_id).remote()
    expected = ray.get(keeper.keep.remote([ref]), timeout=LIMIT_S)
    made.kill(origin)
    eventually(lambda: [row["Alive"] for row in ray.nodes()].count(False) == 1, LIMIT_S, "it is known to be dead")
    assert ray.get(read.options(node=reader.node_id).remote([ref]), timeout=LIMIT_S) == expected
    assert hash_of(ray.get(ref, timeout=LIMIT_S)) == expected
    with pytest.raises(ray.exceptions.ObjectLostError, match=rf"it was on the node {origin.name} .*, which is dead"):
        ray.get(read.options(node=reader.node_id).remote([lost]), timeout=LIMIT_S)
    made.kill(copy)
    made.kill(reader)
