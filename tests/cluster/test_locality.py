"""Tasks run where their arguments are, if there is room soon."""

from __future__ import annotations

import datetime
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from tests.clusters import cluster_of
from tests.moved_values import received

import ray
from ray.testing import eventually, inside
from ray.testing.cluster import Cluster

MiB = 1 << 20
LIMIT_S = 40
LIMIT = datetime.timedelta(seconds=LIMIT_S)
#: How long blockers hold the CPUs of a node.
HELD_S = 30.0


@pytest.fixture(scope="module", params=["unix", pytest.param("routed", marks=pytest.mark.slow)])
def nodes(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Four of two processors, for all tests."""
    with cluster_of(*[{"num_cpus": 2}] * 4, store="plasma", transport=request.param) as made:
        yield made


@pytest.fixture
def cluster(nodes: Cluster) -> Iterator[Cluster]:
    """The program is a driver at the head; in the end nothing is taken on any node."""
    with ray.init(nodes.address):
        yield nodes
        inside.settled()


@ray.remote
def make(nbytes: int) -> bytes:
    return bytes(nbytes)


@ray.remote
def where(*values: bytes) -> str:
    return ray.get_runtime_context().node_id


@ray.remote
def hold(seconds: float) -> None:
    time.sleep(seconds)


def spread(cluster: Cluster, count: int, nbytes: int) -> list[tuple[str, ray.ObjectRef[bytes]]]:
    """Values on all nodes, in turn, with the nodes' ids."""
    ids = [cluster.nodes[number % len(cluster.nodes)].node_id for number in range(count)]
    made = [(id, make.options(node=id).remote(nbytes)) for id in ids]
    ray.wait([ref for _, ref in made], num_returns=count, timeout=LIMIT)
    return made


@pytest.mark.parametrize(("count", "nbytes"), [(40, 2 * MiB), pytest.param(100, 2 * MiB, marks=pytest.mark.slow)])
def test_tasks_run_where_their_arguments_are(cluster: Cluster, count: int, nbytes: int) -> None:
    made, before = spread(cluster, count, nbytes), received(*cluster.nodes)
    refs = [where.remote(ref) for _, ref in made]
    found = ray.get(refs, timeout=LIMIT_S)
    right = sum(node == id for (id, _), node in zip(made, found, strict=True))
    assert right >= 0.95 * count, Counter(zip([id for id, _ in made], found, strict=True))
    assert received(*cluster.nodes) - before <= 0.05 * count * nbytes + 4096


def test_tasks_go_elsewhere_where_that_node_is_busy(cluster: Cluster) -> None:
    far = cluster.nodes[1].node_id
    made = [make.options(node=far).remote(2 * MiB) for _ in range(4)]
    ray.wait(made, num_returns=4, timeout=LIMIT)
    received_before = received(*cluster.nodes)
    holds = [hold.options(node=far).remote(HELD_S) for _ in range(2)]
    eventually(lambda: not ray_free(far), 10, "the node is busy")
    began = time.monotonic()
    found = ray.get([where.remote(ref) for ref in made], timeout=LIMIT_S)
    assert far not in found
    assert received(*cluster.nodes) > received_before
    assert time.monotonic() - began < HELD_S - 1
    for held in holds:
        ray.cancel(held, force=True)
    ray.wait(holds, num_returns=2, timeout=LIMIT)


def ray_free(node_id: str) -> bool:
    """Whether a CPU of that node is free."""
    probe = where.options(node=node_id).remote()
    ready, _ = ray.wait([probe], timeout=200)
    if not ready:
        ray.cancel(probe)
    return bool(ready)


def test_what_is_small_or_at_home_as_well_decides_nothing(cluster: Cluster) -> None:
    far, home = cluster.nodes[1].node_id, cluster.head_node.node_id
    small, large = make.options(node=far).remote(MiB // 2), make.options(node=far).remote(2 * MiB)
    mine = ray.put(bytes(2 * MiB))
    ray.wait([small, large], num_returns=2, timeout=LIMIT)
    assert ray.get(where.remote(small), timeout=LIMIT_S) == home
    assert ray.get(where.remote(large, mine), timeout=LIMIT_S) == home
    assert ray.get(where.remote(large), timeout=LIMIT_S) == far
    ray.wait([large], timeout=LIMIT, fetch_local=True)  # now there is a copy here
    assert ray.get(where.remote(large), timeout=LIMIT_S) == home


def test_the_program_has_the_last_word(cluster: Cluster) -> None:
    far, other = cluster.nodes[1].node_id, cluster.nodes[2].node_id
    large = make.options(node=far).remote(2 * MiB)
    ray.wait([large], timeout=LIMIT)
    assert ray.get(where.options(node=other).remote(large), timeout=LIMIT_S) == other
    assert ray.get(where.options(node=far, soft=True).remote(large), timeout=LIMIT_S) == far


def test_a_task_of_another_node_has_its_own_home(cluster: Cluster) -> None:
    far, other = cluster.nodes[1].node_id, cluster.nodes[2].node_id

    @ray.remote
    def nested(refs: list[ray.ObjectRef[bytes]]) -> str:
        found: str = ray.get(where.remote(refs[0]))
        return found

    large = make.options(node=far).remote(2 * MiB)
    assert ray.get(nested.options(node=other).remote([large]), timeout=LIMIT_S) == far


def test_a_node_that_dies_is_not_waited_for(cluster: Cluster) -> None:
    far = cluster.add_node(num_cpus=2)
    large = make.options(node=far.node_id).remote(2 * MiB)
    assert len(ray.get(large, timeout=LIMIT_S)) == 2 * MiB
    cluster.kill(far)
    eventually(lambda: sum(row["Alive"] for row in ray.nodes()) == 4, 10, "the node is known to be dead")
    assert ray.get(where.remote(large), timeout=LIMIT_S) != far.node_id
