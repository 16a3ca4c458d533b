"""A cluster of several hosts: nodes join by address, programs run over all of them, and nothing listens elsewhere."""

from __future__ import annotations

import re
import time

import pytest
from tests.programs import REMOTE_PARTS

from ray.testing import eventually

WORK = """
@ray.remote(resources={"far": 1})
def relay_far(refs):
    return ray.get(where.options(num_cpus=0.5).remote()), len(ray.get(refs[0]))

nodes = set(ray.get([where.remote() for _ in range(60)]))
print(len(nodes), sum(node["Alive"] for node in ray.nodes()))
mine = ray.put(b"x" * 3_000_000)
counter = Counter.options(resources={"far": 1}).remote([mine])
print(*ray.get(counter.add.remote(7)))
print(ray.get(relay_far.remote([mine]))[1])
"""


def joined(address, program):
    """A program of that cluster."""
    return f"ray.init({address!r})\n{REMOTE_PARTS}{program}"


def start_cluster(network):
    head, second, third = network.hosts
    said = head.done("start", "--head", "--host", head.address_of_host, "--num-cpus", "1")
    assert f"Cluster 'default' runs at {head.address_of_host}:6379" in said
    assert f"scp {head.address_of_host}:{head.key_path()} ~/.ray/clusters/" in said
    for host, more in ((second, ("--resources", "far=4")), (third, ())):
        host.take_key(head)
        said = host.done("start", "--address", f"{head.address_of_host}:6379", "--num-cpus", "2", *more)
        assert f"at {host.address_of_host}." in said
    return head, second, third


def test_three_hosts(network):
    hosts = start_cluster(network)
    address = f"{hosts[0].address_of_host}:6379"
    for host in hosts:
        assert host.run(joined(address, WORK)) == ["3 3", "3000000 7", "3000000"]
    assert [node["state"] for node in hosts[1].status()["nodes"]] == ["alive"] * 3
    for host in hosts:
        assert {address for address, _ in host.net.listeners()} == {host.address_of_host}
    hosts[2].done("stop")
    assert [node["state"] for node in hosts[1].status()["nodes"]].count("alive") == 2
    hosts[1].done("stop")
    hosts[0].done("stop")


@pytest.mark.slow
def test_the_ports_that_were_given_are_kept(network):
    head, second, _ = network.hosts
    head.done("start", "--head", "--host", "eth0", "--num-cpus", "1", "--port-range", "21000-21010", "--port", "7000")
    second.take_key(head)
    second.done(
        "start", "--address", f"{head.address_of_host}:7000", "--num-cpus", "2", "--resources", "far=4",
        "--port-range", "22000-22010",
    )  # fmt: skip
    assert head.run(joined(f"{head.address_of_host}:7000", WORK))[1:] == ["3000000 7", "3000000"]
    assert {port for _, port in head.net.listeners()} - {7000} <= set(range(21000, 21011))
    assert {port for _, port in second.net.listeners()} <= set(range(22000, 22011))


@pytest.mark.slow
def test_a_port_that_is_blocked_is_named(network):
    """The director cannot call the node back: the command says which address, and what to do; nothing is left."""
    head, second, _ = network.hosts
    head.done("start", "--head", "--host", head.address_of_host, "--num-cpus", "1")
    second.take_key(head)
    with head.net.dropping(f"ip daddr {second.address_of_host} tcp sport != 6379 ct state new"):
        said = second.refused(
            3, "start", "--address", f"{head.address_of_host}:6379", "--num-cpus", "1", "--port-range", "22000-22010"
        )
    assert re.search(
        rf"{second.address_of_host}:220\d\d .*cannot be reached from the director at {head.address_of_host}:\d+: ", said
    )
    assert "--port-range" in said
    assert "--host" in said
    with second.net.dropping("tcp dport 6379"):
        said = second.refused(3, "start", "--address", f"{head.address_of_host}:6379", "--num-cpus", "1")
    assert f"No cluster answers at {head.address_of_host}:6379" in said
    assert second.net.processes() == []
    second.done("start", "--address", f"{head.address_of_host}:6379", "--num-cpus", "1")


@pytest.mark.slow
def test_a_data_port_that_is_blocked_is_named(network):
    """The director reaches the node's manager, and not what moves values: the first of its calls gets through."""
    head, second, _ = network.hosts
    head.done("start", "--head", "--host", head.address_of_host, "--num-cpus", "1")
    second.take_key(head)
    later = "ct state new limit rate over 1/day burst 1 packets"
    with head.net.dropping(f"ip daddr {second.address_of_host} tcp dport 22000-22010 {later}"):
        began = time.monotonic()
        said = second.refused(
            3, "start", "--address", f"{head.address_of_host}:6379", "--num-cpus", "1", "--port-range", "22000-22010"
        )
        assert time.monotonic() - began < 25
    assert re.search(
        rf"{second.address_of_host}:220\d\d \(data\) of this node cannot be reached from the director at "
        rf"{head.address_of_host}:\d+: no answer within 2 s",
        said,
    )
    assert "--port-range" in said
    assert second.net.processes() == []
    second.done("start", "--address", f"{head.address_of_host}:6379", "--num-cpus", "1")


def test_a_program_on_a_machine_without_a_node(network):
    """It starts no process. Its home is any node; all goes as it does there, and ends with the program."""
    head, second, third = network.hosts
    head.done("start", "--head", "--host", head.address_of_host, "--num-cpus", "2")
    second.take_key(head)
    third.take_key(head)
    address = f"{head.address_of_host}:6379"
    second.done("start", "--address", address, "--num-cpus", "2", "--resources", "far=4")
    program = third.program(joined(address, GUEST))
    assert program.stdout.readline() == "joined\n"
    assert third.net.processes() == [program.pid]
    out, err = program.communicate(timeout=60)
    assert program.returncode == 0, err
    shown = ["2 2", "3000000 7", "3000000", "6000000", "5000000 True", "ZeroDivisionError", "[0, 1, 2]"]
    assert out.splitlines() == shown
    assert "heard here" in err
    killed = third.program(joined(address, GUEST) + "ray.get([where.remote() for _ in range(10000)])")
    assert killed.stdout.readline() == "joined\n"
    time.sleep(1)
    killed.kill()
    killed.communicate()
    eventually(lambda: is_idle(second), 20, "its job has ended everywhere")
    third.run(f"ray.init({address!r})")  # removes the directory that the killed one has left


def is_idle(host):
    found = host.status()
    return found["resources"] == found["available"]


GUEST = """
print("joined", flush=True)
nodes = set(ray.get([where.remote() for _ in range(60)]))
print(len(nodes), sum(node["Alive"] for node in ray.nodes()))
mine = ray.put(b"x" * 3_000_000)
counter = Counter.options(resources={"far": 1}).remote([mine])
print(*ray.get(counter.add.remote(7)))
print(ray.get(relay.remote([mine])))
print(sum(ray.get([size.remote(mine), relay.remote([mine])])))
refs = [large.remote(5_000_000) for _ in range(4)]
print(ray.get(relay.remote([refs[0]])), all(len(value) == 5_000_000 for value in ray.get(refs)))
try:
    ray.get(fails.remote())
except ZeroDivisionError:
    print("ZeroDivisionError")
print([ray.get(ref) for ref in some.remote()])
"""


GIB = """
import numpy as np

@ray.remote(resources={"far": 1})
def turned(array):
    return array[::-1].copy()

value = np.arange(1 << 27)  # 1 GiB
found = ray.get(turned.remote(ray.put(value)), timeout=120)
print(np.array_equal(found, value[::-1]))
"""


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_gibibyte_of_a_program_without_a_node(network):
    """There and back: values travel in messages."""
    head, second, third = network.hosts
    head.done("start", "--head", "--host", head.address_of_host, "--num-cpus", "1")
    for other in (second, third):
        other.take_key(head)
    address = f"{head.address_of_host}:6379"
    second.done("start", "--address", address, "--num-cpus", "1", "--resources", "far=1")
    start = time.monotonic()
    program = third.program(f"ray.init({address!r})\n" + GIB)
    out, err = program.communicate(timeout=200)
    print(f"{time.monotonic() - start:.1f} s")
    assert program.returncode == 0, err
    assert out == "True\n"
    eventually(lambda: is_idle(second), 20, "its job has ended everywhere")
