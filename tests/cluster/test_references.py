"""Refs that travel between three nodes: nothing is freed in use, and all is freed on each of them soon after."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
from tests import moved_values
from tests.clusters import cluster_of

import ray
from ray.testing import eventually, inside
from ray.testing.cluster import Cluster

LIMIT_S = 60
NBYTES = 2_000_000
#: An object is freed everywhere in this time; tests are patient.
FREED_S = 5 * 0.2


@pytest.fixture(params=["unix", pytest.param("routed", marks=pytest.mark.slow)])
def three(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Three nodes; this program is a driver at the first one."""
    pytest.importorskip("ray_store_plasma")
    if request.param == "routed":
        pytest.importorskip("ray_transport_zmq")
    others = [{"num_cpus": 2, "resources": {f"n{number}": 4}} for number in (2, 3)]
    with cluster_of({"num_cpus": 1}, *others, store="plasma", transport=request.param) as made, ray.init(made.address):
        yield made
        inside.settled()


@ray.remote(num_cpus=0)
class Holder:
    def __init__(self) -> None:
        self.refs: list[ray.ObjectRef[bytes]] = []

    def hold(self, refs: list[ray.ObjectRef[bytes]]) -> int:
        self.refs = refs
        return os.getpid()

    def hand_to(self, other: ray.actor.ActorHandle) -> None:
        ray.get(other.hold.remote(self.refs))

    def length(self) -> int:
        return len(ray.get(self.refs[0]))

    def drop(self) -> None:
        self.refs = []


def at(number: int) -> ray.actor.ActorHandle:
    return Holder.options(resources={f"n{number}": 1}).remote()


def stored(cluster: Cluster) -> list[int]:
    """How many objects each node has."""
    return [moved_values.stored(cluster, node) for node in cluster.nodes]


def freed(cluster: Cluster) -> None:
    began = time.monotonic()
    eventually(lambda: stored(cluster) == [0, 0, 0], LIMIT_S, lambda: f"objects are left: {stored(cluster)}")
    assert time.monotonic() - began < FREED_S


def test_a_giver_that_is_killed(three: Cluster) -> None:
    """It has handed a ref on, from one node to another: what it has held goes, and not what it has given."""
    giver, receiver = at(2), at(3)
    ref = ray.put(bytes(NBYTES))
    pid = ray.get(giver.hold.remote([ref]), timeout=LIMIT_S)
    ray.get(giver.hand_to.remote(receiver), timeout=LIMIT_S)
    del ref
    os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 3.5
    while time.monotonic() < end:
        assert ray.get(receiver.length.remote(), timeout=LIMIT_S) == NBYTES
        time.sleep(0.1)
    ray.get(receiver.drop.remote(), timeout=LIMIT_S)
    freed(three)


def test_what_only_a_killed_process_held_is_freed(three: Cluster) -> None:
    holder = at(2)
    ref = ray.put(bytes(NBYTES))
    pid = ray.get(holder.hold.remote([ref]), timeout=LIMIT_S)
    del ref
    os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    eventually(lambda: stored(three) == [0, 0, 0], LIMIT_S, "it is freed")
    assert time.monotonic() - began > 1, "others may have it from that process"


def test_a_ref_that_goes_round_is_freed_at_once(three: Cluster) -> None:
    """While connections are lost on its way."""
    holders = [at(2), at(3)]
    for _ in range(5):
        ref = ray.put(bytes(NBYTES))
        ray.get(holders[0].hold.remote([ref]), timeout=LIMIT_S)
        inside.cut_far()
        ray.get(holders[0].hand_to.remote(holders[1]), timeout=LIMIT_S)
        assert ray.get(holders[1].length.remote(), timeout=LIMIT_S) == NBYTES
        del ref
        inside.cut_far()
        ray.get([holder.drop.remote() for holder in holders], timeout=LIMIT_S)
        freed(three)
