"""Ends of drivers, workers, node managers and nodes: everything ends in an error or a retry, and nothing is left."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.commands import Machine
from tests.programs import WAITS_FOR_EVER
from tests.quick import first_of
from tests.victims import alive

import ray
from ray.runtime.process.session_dirs import survivor_of
from ray.testing import eventually
from ray.testing.cluster import Cluster, ClusterNode

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


@pytest.mark.parametrize("how", first_of(["killed", "ends"]))
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


@pytest.mark.parametrize("how", first_of(["kill", "remove_node"]))
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
    with pytest.raises(
        ray.exceptions.ActorDiedError, match=r"is dead: its node \S+ \(at 127\.0\.0\.1, NodeID \w+\) died: "
    ):
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


def test_all_nodes_see_a_death_at_once(cluster: Cluster) -> None:
    """A node manager that is killed is dead to all others before a second is over; the test is patient."""
    victim = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    eventually(lambda: survivor_of(victim.started.session_dir), LIMIT_S, "there is a process that cleans up")
    killed = time.monotonic()
    cluster.kill(victim)
    cluster.wait_for_nodes()
    assert time.monotonic() - killed < 5


def of_session(node: ClusterNode) -> list[int]:
    """Pids of a node's manager and of what it has started."""
    mine = psutil.Process(node.pid)
    return [mine.pid, *(child.pid for child in mine.children(recursive=True))]


@pytest.mark.slow
def test_a_node_that_stands_still(cluster: Cluster, joined: ray.RayContext) -> None:
    """For a moment: nothing happens. For long: it and its workers end, before others take it for dead."""
    ref = where.options(resources={"far": 1}).remote()
    with cluster.pause(cluster.nodes[1]):
        time.sleep(2)
    assert ray.get(ref, timeout=LIMIT_S) == cluster.nodes[1].node_id
    lost = forever.remote()
    eventually(lambda: cluster.nodes[1].workers(), LIMIT_S, "it runs")
    processes = of_session(cluster.nodes[1])
    with cluster.pause(cluster.nodes[1]):
        began = time.monotonic()
        with pytest.raises(ray.exceptions.NodeDiedError):
            ray.get(lost, timeout=LIMIT_S)
        assert 6 < time.monotonic() - began < 12
        eventually(lambda: not any(map(alive, processes)), LIMIT_S, "nothing of it is left")
    eventually(lambda: [row["Alive"] for row in ray.nodes()] == [True, False], LIMIT_S, "it is known to be dead")


@pytest.mark.slow
def test_an_actor_of_a_node_that_stands_still_is_never_there_twice(
    cluster: Cluster, joined: ray.RayContext, tmp_path: Path
) -> None:
    """The zygote ends the node, and the actor with it; only then another one takes its place."""
    third = cluster.add_node(num_cpus=1, resources={"far": 1})
    cluster.wait_for_nodes()

    @ray.remote(max_restarts=1, max_task_retries=-1, resources={"far": 1})
    class Only:
        """Says at each moment that it is there: the kernel takes the lock away at its end."""

        def __init__(self, path: str) -> None:
            self.file = os.open(path, os.O_WRONLY | os.O_CREAT)
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)

        def where(self) -> str:
            return ray.get_runtime_context().node_id

    only = Only.remote(str(tmp_path / "lock"))
    first = ray.get(only.where.remote(), timeout=LIMIT_S)
    victim = next(node for node in cluster.nodes if node.node_id == first)
    with cluster.pause(victim):
        began = time.monotonic()
        second = eventually(lambda: elsewhere(only, first), LIMIT_S, "it runs elsewhere")
        assert time.monotonic() - began > 6
    assert second in {third.node_id, cluster.nodes[1].node_id}


def elsewhere(actor: ray.actor.ActorHandle, first: str) -> str:
    found = ray.get(actor.where.remote(), timeout=LIMIT_S)
    return "" if found == first else found


def begun(machine: Machine, node: dict[str, Any]) -> subprocess.Popen[str]:
    """A program at that node, which waits, and prints why it waits no more."""
    program = machine.program(f'ray.init("unix:{node["session_dir"]}")\n{WAITS_FOR_EVER}')
    assert program.stdout is not None
    assert program.stdout.readline() == "begun\n"
    return program


def two(machine: Machine) -> tuple[dict[str, Any], subprocess.Popen[str]]:
    """A cluster whose second node is in the foreground: what the status says of it, and the command."""
    machine.done("start", "--head", "--num-cpus", "1", "--node-name", "first")
    block = machine.start("start", "--address", "auto", "--num-cpus", "1", "--node-name", "second", "--block")
    assert block.stdout is not None
    assert block.stdout.readline() == "Node 'second' of cluster 'default' runs, at 127.0.0.1.\n"
    (node,) = [each for each in machine.status()["nodes"] if each["node_name"] == "second"]
    return node, block


CUT_OFF = re.compile(r"this machine was cut off from the cluster for [78]\.\d s")


@pytest.mark.slow
def test_a_node_that_stood_still_says_for_how_long(machine: Machine) -> None:
    """To who has started it; the program whose node it was does not wait for that."""
    node, block = two(machine)
    driver = begun(machine, node)
    os.kill(node["pid"], signal.SIGSTOP)
    began = time.monotonic()
    said, _ = driver.communicate(timeout=LIMIT_S)
    assert said.startswith(f"The node {node['node_id']} died: ")
    _, err = block.communicate(timeout=LIMIT_S)
    assert time.monotonic() - began < 12
    assert block.returncode == 1
    assert CUT_OFF.search(err), err
    eventually(
        lambda: [each["state"] for each in machine.status()["nodes"]] == ["alive", "dead"], LIMIT_S, "it is dead"
    )


@pytest.mark.slow
def test_a_node_that_nobody_hears_says_for_how_long(machine: Machine) -> None:
    """All of the head stands still, with the control server: the other node ends by itself. There is a head again."""
    node, block = two(machine)
    driver = begun(machine, node)
    (head,) = [each for each in machine.status()["nodes"] if each["is_head"]]
    keeper = psutil.Process(head["pid"]).parent()
    assert keeper is not None
    still = [keeper, *keeper.children(recursive=True)]
    for process in still:
        process.suspend()
    try:
        began = time.monotonic()
        said, _ = driver.communicate(timeout=LIMIT_S)
        _, err = block.communicate(timeout=LIMIT_S)
        assert 6 < time.monotonic() - began < 12
    finally:
        for process in still:
            process.resume()
    assert block.returncode == 1
    assert CUT_OFF.search(said), said
    assert CUT_OFF.search(err), err

    def is_whole() -> bool:
        finished = machine.ray("status", "--format", "json")
        found = json.loads(finished.stdout or "{}").get("nodes", [])
        return [each.get("is_head") for each in found if each["state"] == "alive"] == [True]

    eventually(is_whole, LIMIT_S, "there is a head, and nothing else")
    assert machine.run('ray.init(address="auto"); print(ray.get(ray.remote(len).remote("four")))') == ["4"]
