"""A cluster of two nodes of two processors each."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

import ray
from ray.testing import inside, leaks
from ray.testing.cluster import Cluster


@pytest.fixture(params=["heap"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Nothing is left of it, on any node."""
    if not (shutil.which("redis-server") or shutil.which("valkey-server")):
        pytest.skip("redis-server is missing: apt-get install redis-server")
    before = leaks.snapshot()
    with Cluster(initialize_head=True, head_node_args={"num_cpus": 2}, store=request.param) as made:
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
