"""A cluster of two nodes of two processors each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.kept_clusters import KeptCluster, kept_cluster
from tests.redis_servers import server_binary

import ray
from ray.testing import inside, leaks
from ray.testing.cluster import Cluster

__all__ = ["kept_cluster"]


@pytest.fixture(params=["heap unix", pytest.param("plasma routed", marks=pytest.mark.slow)])
def cluster(request: pytest.FixtureRequest, kept_cluster: KeptCluster) -> Iterator[Cluster]:
    """Nothing is left of it, on any node. Tests of a file with ``KEEPS_CLUSTERS`` have the same one."""
    server_binary()
    store, _, transport = request.param.partition(" ")
    for name, package in (("plasma", "ray_store_plasma"), ("routed", "ray_transport_zmq")):
        if name in (store, transport):
            pytest.importorskip(package)

    def make() -> Cluster:
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2}, store=store, transport=transport or "unix")
        made.add_node(num_cpus=2, resources={"far": 4})
        made.wait_for_nodes()
        return made

    if getattr(request.module, "KEEPS_CLUSTERS", False):
        yield kept_cluster.take(request.param, make)
        kept_cluster.give_back()
    else:
        before = leaks.snapshot()
        with make() as made:
            yield made
        leaks.assert_clean(before)


@pytest.fixture
def joined(cluster: Cluster) -> Iterator[ray.RayContext]:
    """This program is a driver at the head; in the end nothing is taken on any node."""
    with ray.init(cluster.address) as context:
        yield context
        inside.settled()
