"""Ends of drivers, workers, node managers and nodes: everything ends in an error or a retry, and nothing is left."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time

import pytest

import ray
from ray.testing import eventually
from ray.testing.cluster import Cluster

LIMIT_S = 40
PROGRAM = """
import os, sys, time
import ray
ray.init(sys.argv[1])

@ray.remote(resources={"far": 1})
class Actor:
    def pid(self):
        return os.getpid()

@ray.remote(num_cpus=0, resources={"far": 1})
def forever():
    time.sleep(600)

actor = Actor.remote()
refs = [forever.remote() for _ in range(2)]
print(ray.get(actor.pid.remote()), flush=True)
time.sleep(0.3)
if sys.argv[2] == "wait":
    sys.stdin.readline()
"""


def program(cluster: Cluster, how: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), cluster.address, how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("how", ["killed", "ends"])
def test_a_driver_takes_its_own_along_on_all_nodes(cluster: Cluster, how: str) -> None:
    with program(cluster, "wait" if how == "killed" else "go") as driver:
        assert driver.stdout is not None
        pid = int(driver.stdout.readline())
        if how == "killed":
            assert os.path.exists(f"/proc/{pid}")
            driver.kill()
        driver.wait(LIMIT_S)
        began = time.monotonic()
        for node in cluster.nodes:
            eventually(lambda node=node: not node.workers(), LIMIT_S, "no worker is left")
            eventually(lambda node=node: node.ask("resources") == node.ask("available"), LIMIT_S, "all is free")
        assert time.monotonic() - began < 10


@ray.remote(max_retries=0, resources={"far": 1})
def forever():
    time.sleep(600)


@ray.remote
def where():
    time.sleep(0.05)
    return ray.get_runtime_context().node_id


@pytest.mark.parametrize("how", ["kill", "remove_node"])
def test_a_node_that_ends(cluster: Cluster, joined: ray.RayContext, how: str) -> None:
    """What ran there fails, or is done again elsewhere; the next node takes its place."""

    @ray.remote(resources={"far": 1})
    class Actor:
        def ping(self):
            return 1

    actor = Actor.remote()
    assert ray.get(actor.ping.remote(), timeout=LIMIT_S) == 1
    ref = forever.remote()
    many = [where.remote() for _ in range(200)]
    time.sleep(0.3)
    getattr(cluster, how)(cluster.nodes[1])
    began = time.monotonic()
    with pytest.raises(ray.exceptions.NodeDiedError, match=f"The node {cluster.name}-1 "):
        ray.get(ref, timeout=LIMIT_S)
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(actor.ping.remote(), timeout=LIMIT_S)
    assert time.monotonic() - began < 10
    assert len(ray.get(many, timeout=LIMIT_S)) == 200
    eventually(lambda: [row["Alive"] for row in ray.nodes()] == [True, False], LIMIT_S, "it is known to be dead")
    assert ray.cluster_resources()["CPU"] == 2
    again = where.options(resources={"far": 1}).remote()
    node = cluster.add_node(num_cpus=1, resources={"far": 1})
    assert ray.get(again, timeout=LIMIT_S) == node.node_id


def test_a_node_of_the_same_name_is_refused(cluster: Cluster) -> None:
    with pytest.raises(ray.exceptions.RaySystemError, match="there is a node of the name"):
        cluster.add_node(node_name=cluster.nodes[1].name)
    cluster.wait_for_nodes(2)


@pytest.mark.slow
def test_a_head_that_ends(cluster: Cluster) -> None:
    """Others end by themselves."""
    cluster.kill(cluster.head_node)
    eventually(lambda: cluster.nodes[0].started._process.poll() is not None, LIMIT_S, "the other node has ended")


@pytest.mark.slow
def test_a_node_that_stands_still(cluster: Cluster, joined: ray.RayContext) -> None:
    """For a moment: nothing happens. For long: it is dead to the others, and ends when it goes on."""
    ref = where.options(resources={"far": 1}).remote()
    with cluster.pause(cluster.nodes[1]):
        time.sleep(2)
    assert ray.get(ref, timeout=LIMIT_S) == cluster.nodes[1].node_id
    lost = forever.remote()
    time.sleep(0.3)
    with cluster.pause(cluster.nodes[1]), pytest.raises(ray.exceptions.NodeDiedError):
        ray.get(lost, timeout=LIMIT_S)
    eventually(lambda: cluster.nodes[1].started._process.poll() is not None, LIMIT_S, "it has ended")
