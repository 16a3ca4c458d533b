"""Which processes listen for other nodes."""

from __future__ import annotations

import pytest
from tests.clusters import cluster_of

import ray
from ray.testing import inside

pytestmark = pytest.mark.slow


@ray.remote(num_cpus=0)
class Addressed:
    def addresses(self) -> tuple[str, str]:
        return inside.listen_far()


def test_workers_of_a_program_of_another_node_listen_from_the_start() -> None:
    """Nobody has to ask where they are; those of a node that its own programs use are asked, if ever."""
    pytest.importorskip("ray_transport_zmq")
    far = {"num_cpus": 1, "resources": {"far": 1}}
    with cluster_of({"num_cpus": 1}, far, store="heap", transport="routed") as made, ray.init(made.address):
        before, after = ray.get(Addressed.options(resources={"far": 1}).remote().addresses.remote())
        assert before == after
        assert "|tcp://" in before
        before, after = ray.get(Addressed.remote().addresses.remote())
        assert after.startswith(f"{before}|tcp://")
        inside.settled()
