"""``ray start``, ``ray stop``, ``ray status`` and ``ray wait``, with programs that join what they start."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from pathlib import Path

import pytest
from tests.commands import LIMIT_S
from tests.programs import ASK, TASK
from tests.victims import alive


def test_one_machine(machine):
    said = machine.done("start", "--head", "--num-cpus", "2", "--resources", "disk=3", "--labels", "zone=a")
    address = machine.address()
    assert f"Cluster 'default' runs at {address}; its key file is {machine.key_path()}." in said
    assert f'ray.init(address="{address}")' in said
    assert "ray stop --name default" in said
    assert f"ray start --address={address}" in said
    assert said.endswith("for a cluster of several, start it with --host ADDRESS.\n")
    assert "Anyone who has the key file can run programs on all nodes; on this one as user " in said
    key = machine.key()
    for secret in (key["password"], key["hmac_key"], key["curve"]["server_secret"], key["curve"]["client_secret"]):
        assert secret not in said
        for pid in machine.pids():
            assert secret.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
            assert secret.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
    assert os.stat(machine.key_path()).st_mode & 0o777 == 0o600
    assert machine.names() == ["default.json"]

    status = machine.status()
    assert (status["name"], status["address"]) == ("default", address)
    [node] = status["nodes"]
    assert (node["is_head"], node["state"], node["host"], node["labels"]) == (True, "alive", "127.0.0.1", {"zone": "a"})
    assert (node["resources"]["CPU"], node["resources"]["disk"]) == (2, 3)
    assert re.search(r" alive \(head\)  zone=a  CPU 2, disk 3, ", machine.done("status"))
    machine.done("wait", "--nodes", "1", "--cpus", "2", "--resources", "disk=3")

    lines = machine.run(
        f"context = ray.init(redis_address={address!r})\n"
        'print(context["redis_address"], context["node_ip_address"])\n' + TASK
    )
    assert lines == [f"{address} 127.0.0.1", "8"]
    before = machine.pids()
    for given in (address, f"localhost:{address.split(':')[1]}", "default", "auto"):
        assert machine.run(f"ray.init(address={given!r})" + TASK) == ["8"]
    machine.environ["RAY_ADDRESS"] = address
    assert machine.run("ray.init()" + TASK) == ["8"]
    del machine.environ["RAY_ADDRESS"]
    assert machine.pids() == before

    assert machine.done("stop") == "Stopped 1 node of cluster 'default', and the cluster has ended.\n"
    assert machine.names() == []
    assert not any(map(alive, before))
    assert "no node of a cluster runs here" in machine.refused(3, "stop")
    said = machine.run(ASK.format(address))[0]  # unless another one has taken the port meanwhile
    assert "No cluster answers at" in said or "There is no key file for the cluster at" in said


@pytest.mark.slow
def test_two_clusters_at_once(machine):
    """Started at the same moment, with further nodes; the end of one is none of the other's business."""
    starts = [machine.start("start", "--head", "--name", name, "--num-cpus", "1") for name in "ab"]
    for start in starts:
        out, err = start.communicate(timeout=LIMIT_S)
        assert start.returncode == 0, err + out
    assert machine.address("a") != machine.address("b")
    joins = [machine.start("start", "--address", machine.address("a"), "--num-cpus", "1") for _ in range(2)]
    for join in joins:
        out, err = join.communicate(timeout=LIMIT_S)
        assert join.returncode == 0, err + out
    assert len(machine.status("a")["nodes"]) == 3
    assert len(machine.status("b")["nodes"]) == 1
    said = machine.refused(2, "stop")
    assert f"nodes of several clusters run here: a ({machine.address('a')}), b ({machine.address('b')})" in said
    [line] = machine.run(ASK.format("auto"))
    assert f"for a ({machine.address('a')}) and b ({machine.address('b')})" in line
    assert machine.done("stop", "--name", "a").startswith("Stopped 3 nodes of cluster 'a'")
    assert machine.names() == ["b.json"]
    assert machine.run(f"ray.init(address={machine.address('b')!r})" + TASK) == ["8"]
    assert machine.done("stop", "--cluster") == "Stopped 1 node of cluster 'b', and the cluster has ended.\n"


def test_a_cluster_that_is_there_is_not_overwritten(machine):
    machine.done("start", "--head", "--num-cpus", "1")
    key = machine.key_path().read_bytes()
    said = machine.refused(1, "start", "--head", "--num-cpus", "1")
    assert f"A cluster 'default' is there already, at {machine.address()} (key file {machine.key_path()})" in said
    assert machine.key_path().read_bytes() == key
    assert machine.run(f"ray.init(address={machine.address()!r})" + TASK) == ["8"]


def test_a_port_that_is_taken(machine):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = machine.refused(1, "start", "--head", "--port", str(port))
        assert said == (f"ray: 127.0.0.1:{port} cannot be had for the control server: another program listens there\n")
    assert machine.names() == []
    machine.done("start", "--head", "--redis-port", str(port), "--num-cpus", "1")
    assert machine.address() == f"127.0.0.1:{port}"


def test_the_end_of_the_head_is_that_of_the_others(machine):
    machine.done("start", "--head", "--num-cpus", "1", "--node-name", "first")
    machine.done("start", "--address", "auto", "--num-cpus", "1", "--node-name", "second")
    said = machine.done("stop", "--node", "first")
    assert said == "Stopped 2 nodes of cluster 'default', and the cluster has ended.\n"
    assert machine.pids() == []
    machine.done("start", "--head", "--num-cpus", "1")
    assert "1 node." in machine.done("status")


def test_a_node_with_other_parts_is_told_in_what_they_differ(machine):
    machine.done("start", "--head", "--num-cpus", "1")
    machine.environ["RAY_SCHEDULER"] = "spread"
    said = machine.refused(1, "start", "--address", "auto", "--num-cpus", "1")
    assert re.search(r"have other parts than this one: scheduler: hybrid \S+ there, spread \S+ here\.", said), said


HOLD = """
ref = ray.put(bytearray(1_000_000))
import subprocess, sys
found = subprocess.run([sys.executable, "-m", "ray.cli", "memory", "--format", "json"], stdout=subprocess.PIPE)
print(found.stdout.decode().replace("\\n", ""))
"""


@pytest.mark.slow
@pytest.mark.parametrize("store", ["plasma", *(pytest.param(each, marks=pytest.mark.slow) for each in ("shm", "heap"))])
def test_memory_of_several_nodes(machine, store):
    machine.environ["RAY_STORE"] = store
    machine.done("start", "--head", "--num-cpus", "1", "--node-name", "first")
    machine.done("start", "--address", "auto", "--num-cpus", "1", "--node-name", "second")
    [line] = machine.run('ray.init(address="auto")' + HOLD)
    found = {node["node_name"]: node["objects"] for node in json.loads(line)}
    assert sorted(found) == ["first", "second"]
    if store != "heap":
        [held] = [entry for objects in found.values() for entry in objects]
        assert held["bytes"] >= 1_000_000
        assert held["holders"] == [held["owner"]]


ELSEWHERE = """
@ray.remote(num_cpus=0, resources={"far": 1})
def make():
    return bytearray(2_000_000)
made = make.remote()
ray.wait([made])
"""


@pytest.mark.slow
def test_memory_of_a_value_that_another_node_holds(machine):
    """Its owner there has it freed as soon as nobody holds it, so it is held."""
    machine.environ["RAY_STORE"] = "plasma"
    machine.done("start", "--head", "--num-cpus", "1", "--node-name", "first")
    machine.done("start", "--address", "auto", "--num-cpus", "1", "--node-name", "second", "--resources", "far=1")
    (head,) = [node for node in machine.status()["nodes"] if node["is_head"]]
    [line] = machine.run(f'ray.init("unix:{head["session_dir"]}")' + ELSEWHERE + HOLD.replace("ref =", "unused ="))
    [held] = [entry for node in json.loads(line) if node["node_name"] == "second" for entry in node["objects"]]
    assert held["holders"] == [held["owner"]] == [f"process of node {head['node_id']}"]


@pytest.mark.parametrize("name", ["auto", "local"])
def test_words_that_mean_something_as_addresses_are_no_names(machine, name):
    assert "as an address it means something else" in machine.refused(2, "start", "--head", "--name", name)


def test_a_reader_that_hears_the_first_line_only(machine):
    """The node runs, no matter who listens."""
    for what in (["--head"], ["--address", "auto", "--node-name", "second"]):
        start = machine.start("start", *what, "--num-cpus", "1", stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        start.stdout.close()
        assert start.wait(LIMIT_S) == 0
    assert [node["state"] for node in machine.status()["nodes"]] == ["alive"] * 2


def test_the_example_of_the_page_runs(machine):
    """``docs/cluster.md``."""
    text = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text()
    example = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[0]
    said = machine.done("start", "--head")
    for line in re.findall(r"^```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[0].splitlines():
        shown = line.replace("/home/me/.ray/clusters/default.json", str(machine.key_path()))
        assert shown.replace("127.0.0.1:6379", machine.address()) in said
    assert machine.run(example.replace("127.0.0.1:6379", machine.address())) == ["[0, 1, 4, 9]"]
