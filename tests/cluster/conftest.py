"""A cluster of two nodes of two processors each."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.commands import Machine
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


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Callable[[], Machine]]:
    """Places where ``ray`` runs, each with key files and sessions of its own; nothing is left in any of them."""
    server_binary()
    before = leaks.snapshot()
    made: list[Machine] = []
    with contextlib.ExitStack() as stack:

        def make() -> Machine:
            runtime = stack.enter_context(tempfile.TemporaryDirectory(prefix="r", dir="/tmp"))
            made.append(Machine(tmp_path / str(len(made)), Path(runtime)))
            return made[-1]

        yield make
        left = []
        for machine in made:
            while machine.ray("stop").returncode == 2:  # several clusters
                for name in machine.names():
                    machine.ray("stop", "--name", name.removesuffix(".json"))
            left += machine.names()
            left += [str(path) for path in machine.runtime.glob("ray-*/*")]
        leaks.assert_clean(before)
        assert left == []


@pytest.fixture
def machine(machines: Callable[[], Machine]) -> Machine:
    return machines()
