"""Keepers, nodes and node managers that are killed, and the commands after that."""

from __future__ import annotations

import os
import re
import signal
import socket

import psutil
import pytest
from tests.commands import LIMIT_S
from tests.programs import TASK
from tests.quick import first_of
from tests.redis_servers import free_port
from tests.victims import alive

import ray
from ray.testing import eventually


@pytest.mark.slow
def test_a_keeper_that_is_killed(machine):
    """Its Redis ends with it, and so do the nodes. The next cluster of that name begins as if nothing had been."""
    machine.done("start", "--head", "--port", str(free_port()), "--num-cpus", "1")
    machine.done("start", "--address", "auto", "--num-cpus", "1")
    folder = next(machine.runtime.glob("ray-*/*/keeper.json")).parent
    nodes = [node["pid"] for node in machine.status()["nodes"]]
    address = machine.address()
    os.kill(int((folder / "node.pid").read_text().split()[0]), signal.SIGKILL)
    eventually(lambda: not _listens(address), LIMIT_S, "the server is gone")
    eventually(lambda: not alive(nodes[0]), LIMIT_S, "the first node is gone")
    eventually(lambda: not any(map(alive, nodes)), LIMIT_S, "the nodes are gone")
    assert "no node of a cluster runs here" in machine.refused(3, "status")
    machine.done("start", "--head", "--num-cpus", "1")
    assert len(machine.status()["nodes"]) == 1
    machine.done("stop")
    assert machine.names() == []


@pytest.mark.parametrize("whole", first_of([(), ("--cluster",)]), ids=["nodes", "cluster"])
def test_what_a_killed_keeper_has_left_is_ended(machine, whole):
    """And until then nobody is told that its head is alive."""
    machine.done("start", "--head", "--port", str(free_port()), "--num-cpus", "1", "--node-name", "first")
    machine.done("start", "--address", "auto", "--num-cpus", "1", "--node-name", "second")
    address = machine.address()
    first, second = (node["pid"] for node in machine.status()["nodes"])
    folder = next(machine.runtime.glob("ray-*/*/keeper.json")).parent
    os.kill(int((folder / "node.pid").read_text().split()[0]), signal.SIGKILL)
    eventually(lambda: not alive(first), LIMIT_S, "the node of the head ends with it")
    if not whole:
        shown = machine.ray("status")
        if shown.returncode == 0:  # beside others' load the second node may have ended by itself, after 7 s
            assert "1 node.\n" in shown.stdout
            assert re.search(r" first +\S+ +silent \(head\) ", shown.stdout)
            assert "The node manager of the head does not answer this machine" in shown.stdout
    stopped = machine.ray("stop", *whole)
    if stopped.returncode == 0:
        assert stopped.stdout == (
            f"Stopped 1 node of cluster 'default'; its head at {address} had died before, and the cluster has ended "
            "with it.\n"
        )
    else:
        assert (stopped.returncode, alive(second)) == (3, False), stopped.stderr
    assert not alive(second)
    assert not _listens(address)
    assert machine.names() == []
    assert list(machine.runtime.glob("ray-*/*")) == []


def test_a_control_server_that_is_killed(machine):
    """Programs are told what has ended: nobody has stopped their node."""
    machine.done("start", "--head", "--port", str(free_port()), "--num-cpus", "1")
    parts = [part for pid in machine.pids() for part in psutil.Process(pid).children()]
    [server] = {part.pid for part in parts if part.name() == "ray::redis"}
    with ray.init(f"unix:{machine.status()['nodes'][0]['session_dir']}"):
        os.kill(server, signal.SIGKILL)
        lost = ray.remote(lambda: None)

        def works_on() -> None:
            while True:
                ray.get(lost.remote(), timeout=LIMIT_S)

        with pytest.raises(ray.exceptions.RayError, match="the control server has ended, and with it the cluster"):
            works_on()
    eventually(lambda: machine.pids() == [], LIMIT_S)


@pytest.mark.parametrize("way", first_of(["stop", "start", "init"]))
def test_what_was_killed_at_its_start_is_taken_away(machine, way):
    """By the next command or program: nobody else is there who would."""
    machine.done("start", "--head", "--num-cpus", "1")
    before, there = machine.pids(), set(machine.runtime.glob("ray-*/*"))
    join = machine.start("start", "--address", "auto", "--num-cpus", "1")

    def begun() -> list[int]:
        return [pid for pid in machine.pids() if pid not in (*before, join.pid)]

    [node] = eventually(begun, LIMIT_S, "a node begins")
    join.kill()
    os.kill(node, signal.SIGKILL)
    join.communicate()
    left = set(machine.runtime.glob("ray-*/*")) - there
    if way == "stop":
        machine.done("stop")
    elif way == "start":
        machine.done("start", "--address", "auto", "--num-cpus", "1", "--node-name", "third")
    else:
        assert machine.run('ray.init("auto")' + TASK) == ["8"]
    eventually(lambda: not any(path.exists() for path in left), LIMIT_S, "it is taken away")
    assert list(machine.runtime.glob("ray-start-*")) == []


@pytest.mark.parametrize("transport", first_of(["unix", "routed"]))
def test_a_node_manager_of_the_head_that_is_killed(machine, transport):
    """There is another one, which is the head, and the old one keeps its name."""
    if transport == "routed":
        pytest.importorskip("ray_transport_zmq")
    machine.environ["RAY_TRANSPORT"] = transport
    machine.done("start", "--head", "--num-cpus", "1", "--node-name", "first")
    assert "Traceback" not in "".join(path.read_text() for path in machine.runtime.rglob("node.log"))
    [node] = machine.status()["nodes"]
    os.kill(node["pid"], signal.SIGKILL)

    assert machine.run(f"ray.init({machine.address()!r})" + TASK) == ["8"]  # which waits for it

    def states() -> list[tuple[str, str, bool]]:
        return sorted((each["state"], each["node_name"], each["is_head"]) for each in machine.status()["nodes"])

    wanted = [("alive", "first", True), ("dead", "first", False)]
    eventually(lambda: states() == wanted, LIMIT_S, "there is another one")


def _listens(address: str) -> bool:
    host, _, port = address.partition(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except OSError:
        return False
    return True
