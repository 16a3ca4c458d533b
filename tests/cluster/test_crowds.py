"""Many nodes and several clusters that come at the same moment."""

from __future__ import annotations

import time

import pytest
from tests.commands import LIMIT_S, Machine
from tests.victims import alive

TASK = """
@ray.remote
def double(number):
    return 2 * number
print(ray.get(double.remote(4)))
"""


def started(starts: list) -> None:
    for start in starts:
        out, err = start.communicate(timeout=LIMIT_S * 2)
        assert start.returncode == 0, err + out


@pytest.mark.parametrize("transport", ["unix", pytest.param("routed", marks=pytest.mark.slow)])
@pytest.mark.parametrize("count", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_nodes_that_join_at_once(machine: Machine, count: int, transport: str) -> None:
    """All are let in, each has a name and a number of its own, and each runs tasks."""
    if transport == "routed":
        pytest.importorskip("ray_transport_zmq")
    machine.environ |= {"RAY_TRANSPORT": transport, "RAY_STORE": "heap"}
    machine.done("start", "--head", "--num-cpus", "1")
    started([machine.start("start", "--address", "auto", "--num-cpus", "1") for _ in range(count)])
    machine.done("wait", "--nodes", str(count + 1), "--cpus", str(count + 1), "--timeout", "60")
    nodes = machine.status()["nodes"]
    assert [node["state"] for node in nodes] == ["alive"] * (count + 1)
    assert len({node["node_name"] for node in nodes}) == len({node["node_id"] for node in nodes}) == count + 1
    lines = machine.run(
        'ray.init("auto")\n'
        "names = [node['NodeName'] for node in ray.nodes()]\n"
        "@ray.remote\n"
        "def where():\n"
        "    return ray.get_runtime_context().node_id\n"
        "print(len(set(ray.get([where.options(node=name).remote() for name in names], timeout=60))))\n"
    )
    assert lines == [str(count + 1)]
    said = machine.done("stop")
    assert said == f"Stopped {count + 1} nodes of cluster 'default', and the cluster has ended.\n"


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_two_clusters_and_their_nodes_in_one_second(machine: Machine, count: int) -> None:
    """The end of one leaves the other as it is: its processes, its files, and the program that works there."""
    begun = time.monotonic()
    heads = [machine.start("start", "--head", "--name", name, "--num-cpus", "1") for name in "ab"]
    assert time.monotonic() - begun < 5
    started(heads)
    started([machine.start("start", "--address", name, "--num-cpus", "1") for name in "ab" for _ in range(count - 1)])
    before = machine.status("b")
    other = [node["pid"] for node in machine.status("a")["nodes"]]
    mine = [node["pid"] for node in before["nodes"]]
    assert (len(mine), len(other)) == (count, count)
    program = machine.program('ray.init("b")' + TASK + "sys.stdout.flush()\ninput()" + TASK)
    assert program.stdout is not None
    assert program.stdout.readline() == "8\n"
    key = machine.key_path("b").read_bytes()
    said = machine.done("stop", "--name", "a")
    assert said == f"Stopped {count} nodes of cluster 'a', and the cluster has ended.\n"
    assert not any(map(alive, other))
    assert all(map(alive, mine))
    assert machine.names() == ["b.json"]
    assert machine.key_path("b").read_bytes() == key
    out, err = program.communicate("\n", timeout=LIMIT_S)
    assert (program.returncode, out) == (0, "8\n"), err
    after = machine.status("b")
    assert after["nodes"] == before["nodes"]
    assert after["session"] == before["session"]
