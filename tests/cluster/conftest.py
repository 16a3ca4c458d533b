"""A cluster of two nodes of two processors each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.redis_servers import server_binary

import ray
from ray.testing import inside, leaks
from ray.testing.cluster import Cluster


@pytest.fixture(params=["heap unix", pytest.param("plasma routed", marks=pytest.mark.slow)])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Nothing is left of it, on any node."""
    server_binary()
    store, _, transport = request.param.partition(" ")
    store, _, transport = request.param.partition(" ")
    for name, package in (("plasma", "ray_store_plasma"), ("routed", "ray_transport_zmq")):
        if name in (store, transport):
            pytest.importorskip(package)
    before = leaks.snapshot()
    parts = {"store": store, "transport": transport or "unix"}
    with Cluster(initialize_head=True, head_node_args={"num_cpus": 2}, **parts) as made:
        made.add_node(num_cpus=2, resources={"far": 4})
        made.wait_for_nodes()
        yield made
    leaks.assert_clean(before)


@pytest.fixture
def joined(cluster: Cluster) -> Iterator[ray.RayContext]:
    """This program is a driver at the head; in the end nothing is taken on any node."""
    with ray.init(cluster.address) as context:
        yield context
        inside.settled()
