"""``ray.testing.Cluster`` over hosts of their own, and what it does to their cables."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time

import pytest
from tests.quick import first_of
from tests.redis_servers import server_binary

import ray
from ray.testing import eventually
from ray.testing.namespaces import Host, Network, lack
from ray.testing.slow_cable import bytes_per_s


@pytest.fixture
def hosts():
    why = lack()
    if why:
        pytest.skip(why)
    with contextlib.closing(Network()) as network:
        yield network.add_host(), network.add_host()


@contextlib.contextmanager
def connected(first: Host, second: Host):
    """The two ends of a connection."""
    with second.entered():
        listener = socket.create_server((second.address, 7000))
    with listener, first.entered(), socket.create_connection((second.address, 7000), 10) as here:
        here.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        there, _ = listener.accept()
        with there:
            there.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for end in (here, there):
                end.settimeout(20)
            yield here, there


def round_trip_s(here: socket.socket, there: socket.socket) -> float:
    start = time.monotonic()
    here.sendall(b"x")
    there.sendall(there.recv(1))
    here.recv(1)
    return time.monotonic() - start


def pass_all(here: socket.socket, there: socket.socket, data: bytes) -> float:
    """Send it from one end to the other; returns how long that took."""
    start = time.monotonic()
    thread = threading.Thread(target=here.sendall, args=[data])
    thread.start()
    got = bytearray()
    while len(got) < len(data):
        got += there.recv(1 << 16)
    thread.join()
    assert got == data
    return time.monotonic() - start


def test_a_delay_there_and_back(hosts):
    with connected(*hosts) as ends:
        round_trip_s(*ends)
        assert round_trip_s(*ends) < 0.1
        with hosts[1].slowed(delay_s=0.15):
            assert 0.3 <= round_trip_s(*ends) < 1
        assert round_trip_s(*ends) < 0.1


@pytest.mark.slow
def test_a_rate(hosts):
    data = bytes(range(256)) * 4096
    with connected(*hosts) as ends, hosts[0].slowed(bytes_per_s=bytes_per_s("20mbit")):
        assert 0.3 < pass_all(*ends, data) < 4  # 0.42 s and what TCP has to send again
    with connected(*hosts) as ends:
        assert pass_all(*ends, data) < 0.3


@pytest.mark.slow
def test_losses_are_sent_again(hosts):
    data = bytes(range(256)) * 8192
    with connected(*hosts) as ends, hosts[0].slowed(loss=0.02):
        pass_all(*ends, data)
    with hosts[0].slowed(loss=1.0), pytest.raises(OSError), connected(*hosts):
        pass


@pytest.mark.slow
def test_blocks_within_each_other(hosts):
    with connected(*hosts) as ends, hosts[1].slowed(delay_s=0.1):
        with hosts[1].slowed(delay_s=0.0, loss=0.0):
            assert round_trip_s(*ends) < 0.1
        assert round_trip_s(*ends) >= 0.2


@pytest.mark.parametrize("rate", ["", "10", "0mbit", "10 mbit", "-1mbit", "10Mb", "1e3mbit"])
def test_no_rates(rate):
    with pytest.raises(ValueError, match="give one such as"):
        bytes_per_s(rate)


@pytest.fixture
def cluster(ray_cluster):
    why = lack()
    if why:
        pytest.skip(why)
    pytest.importorskip("ray_transport_zmq")
    server_binary()
    made = ray_cluster(initialize_head=True, isolation="netns")
    made.add_node(resources={"far": 2})
    made.wait_for_nodes()
    return made


@ray.remote(num_cpus=0, resources={"far": 1})
def address():
    return ray.util.get_node_ip_address()


def test_each_node_on_a_host(cluster):
    ray.init(cluster.address)
    assert ray.get(address.remote()) == cluster.nodes[1].host.address
    assert ray.util.get_node_ip_address() == cluster.head_node.host.address
    with cluster.delay(cluster.nodes[1], 0.1):
        start = time.monotonic()
        assert ray.get(address.remote(), timeout=20) == cluster.nodes[1].host.address
        assert time.monotonic() - start >= 0.2


@pytest.mark.slow
def test_a_program_at_another_node(cluster):
    with cluster.on(cluster.nodes[1]):
        ray.init(cluster.nodes[1].address)
        assert ray.get(address.remote()) == ray.util.get_node_ip_address() == cluster.nodes[1].host.address
        ray.shutdown()


@pytest.mark.parametrize("direction", first_of(["both", "in", "out"]))
def test_a_short_partition(cluster, direction):
    ray.init(cluster.address)
    ray.get(address.remote())
    with cluster.partition([cluster.nodes[1]], direction):
        ref = address.remote()
        with pytest.raises(ray.exceptions.GetTimeoutError):
            ray.get(ref, timeout=1)
    assert ray.get(ref, timeout=20) == cluster.nodes[1].host.address
    assert [node["Alive"] for node in ray.nodes()] == [True, True]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_long_partition(cluster):
    """The node ends by itself, and then the others take it for dead."""
    far = cluster.nodes[1]
    ray.init(cluster.address)
    assert ray.get(address.remote()) == far.host.address
    with cluster.partition([far]):
        eventually(lambda: [row["Alive"] for row in ray.nodes()] == [True, False], 30, "it is dead")
        assert not os.path.exists(f"/proc/{far.pid}") or far.started.ended
    cluster.add_node(resources={"far": 1})
    assert ray.get(address.remote(), timeout=30) == cluster.nodes[2].host.address


@pytest.mark.slow
def test_bad_calls(cluster):
    with pytest.raises(ValueError, match="direction='up'"), cluster.partition([], "up"):
        pass
    with pytest.raises(ValueError, match="'10'"), cluster.rate(cluster.nodes[1], "10"):
        pass


@pytest.mark.slow
def test_a_node_that_comes(cluster):
    ray.init(cluster.address)
    assert len(ray.wait_for_nodes(2, resources={"far": 2})) == 2
    with cluster.on(cluster.head_node):  # a thread that is started here has the network of the head
        thread = threading.Timer(0.3, cluster.add_node, kwargs={"resources": {"late": 1}})
        thread.start()
    found = ray.wait_for_nodes(3, resources={"late": 1}, timeout_s=30)
    thread.join()
    assert {row["NodeManagerAddress"] for row in found} == {node.host.address for node in cluster.nodes}
