"""Who has the key file: other machines, programs without a node, and clusters on a server that exists."""

from __future__ import annotations

import json
import os
import re
import signal
import socket

import psutil
import pytest
from tests.commands import LIMIT_S
from tests.programs import ASK, REMOTE_PARTS, TASK
from tests.redis_servers import RedisUnderTest
from tests.victims import alive

from ray.testing import eventually


@pytest.mark.slow
def test_a_key_file_that_is_left_is_overwritten(machine):
    """As nobody answers where it leads."""
    machine.done("start", "--head", "--num-cpus", "1")
    left = machine.key_path().read_bytes()
    machine.done("stop")
    machine.key_path().write_bytes(left)
    os.chmod(machine.key_path(), 0o600)
    tried = machine.ray("start", "--address", "auto")
    assert tried.returncode in (1, 3)
    assert "No cluster answers at" in tried.stderr or "has another certificate" in tried.stderr
    machine.done("start", "--head", "--num-cpus", "1")
    assert machine.key_path().read_bytes() != left


@pytest.mark.slow
def test_a_key_file_of_an_earlier_life(machines):
    """Who has it is told so; and one that others can read is not used."""
    head, other = machines(), machines()
    head.done("start", "--head", "--num-cpus", "1")
    port, old = str(head.key()["port"]), head.key_path().read_text()
    head.done("stop")
    head.done("start", "--head", "--num-cpus", "1", "--port", port)
    other.key_path().parent.mkdir(parents=True, mode=0o700)
    other.key_path().write_text(old)
    os.chmod(other.key_path(), 0o600)
    said = other.refused(1, "start", "--address", f"127.0.0.1:{port}")
    assert f"The key file {other.key_path()} is that of session {json.loads(old)['session']}" in said
    assert f"what answers at 127.0.0.1:{port} has another certificate" in said
    assert "copy its key file again" in said
    text = ASK.format(f"127.0.0.1:{port}")
    assert "has another certificate" in other.run(text)[0]
    os.chmod(other.key_path(), 0o644)
    assert "its mode is 0644" in other.refused(2, "start", "--address", f"127.0.0.1:{port}")
    assert "its mode is 0644" in other.run(text)[0]
    other.key_path().unlink()


@pytest.mark.slow
def test_a_copy_of_the_key_file_lets_a_machine_in(machines):
    """A second place on this machine, with sessions of its own, as another machine has them."""
    head, other = machines(), machines()
    head.done("start", "--head", "--num-cpus", "1")
    address = head.address()
    text = ASK.format(address)
    [said] = other.run(text)
    assert f"There is no key file for the cluster at {address}" in said
    assert f"scp '127.0.0.1:.ray/clusters/NAME.json' {other.home}/clusters/" in said
    other.take_key(head)
    [said] = other.run(text)
    assert f"Cluster 'default' answers at {address}" in said
    assert (
        f"none of them is found here: start one with `ray start --address={address}`, or the head with --host" in said
    )
    other.key_path().unlink()
    said = other.done("start", "--key-file", "-", "--num-cpus", "1", given=json.dumps(head.key()))
    assert "of cluster 'default' runs, at 127.0.0.1." in said
    assert other.run(f"ray.init(address={address!r})" + TASK) == ["8"]
    assert "The head of cluster 'default' is not on this machine" in other.refused(1, "stop", "--cluster")
    assert other.done("stop") == "Stopped 1 node of cluster 'default'.\n"
    other.key_path().unlink()


def test_a_program_on_a_machine_without_a_node(machines):
    """It starts no process; its values, those of its tasks and its actors go between two machines."""
    pytest.importorskip("ray_transport_zmq")
    head, other = machines(), machines()
    head.environ["RAY_TRANSPORT"] = "routed"
    head.done("start", "--head", "--num-cpus", "2")
    other.take_key(head)
    guest = f"ray.init({head.address()!r})\n{REMOTE_PARTS}{GUEST}"
    program = other.program(guest)
    assert program.stdout.readline() == "1\n"
    assert psutil.Process(program.pid).children() == []
    out, err = program.communicate(timeout=LIMIT_S)
    assert out.splitlines() == ["1000000 1000000 1000000", "1000000 7", "[0, 1, 2]", "ZeroDivisionError"], err
    assert re.search(r"^\(fails pid=\d+, node=\S+\) heard here$", err, re.MULTILINE)
    assert list(other.runtime.glob("ray-*/*")) == []
    killed = other.program(guest + "time.sleep(100)")
    while killed.stdout.readline() != "ZeroDivisionError\n":
        pass
    killed.kill()
    killed.communicate()
    eventually(lambda: head.status()["available"] == head.status()["resources"], LIMIT_S, "its job has ended")
    assert other.run(f"ray.init({head.address()!r}); print(ray.get(ray.put(1)))") == ["1"]
    assert list(other.runtime.glob("ray-*/*")) == []  # what the killed one has left
    head.done("stop")
    other.key_path().unlink()


GUEST = """
print(len(ray.nodes()), flush=True)
mine = ray.put(bytes(1_000_000))
theirs = large.remote(1_000_000)
print(ray.get(size.remote(mine)), ray.get(relay.remote([mine])), ray.get(relay.remote([theirs])))
print(*ray.get(Counter.options(num_cpus=0).remote([mine]).add.remote(7)))
print([ray.get(ref) for ref in some.remote()])
try:
    ray.get(fails.remote())
except ZeroDivisionError:
    print("ZeroDivisionError", flush=True)
"""


def test_a_server_that_exists(machines, tmp_path):
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisUnderTest(folder)
    try:
        machine, other = machines(), machines()
        url = f"redis://127.0.0.1:{server.port}"
        said = machine.done("start", "--head", "--num-cpus", "1", "--control", url)
        assert f"Cluster 'default' runs at 127.0.0.1:{server.port};" in said
        assert machine.key()["control"] == [url]
        said = other.refused(1, "start", "--head", "--num-cpus", "1", "--control-file", "-", given=url + "\n")
        assert f"The control server at 127.0.0.1:{server.port} has a cluster 'default' already" in said
        assert other.names() == []
        other.done("start", "--head", "--num-cpus", "1", "--name", "other", "--control-file", "-", given=url + "\n")
        for each, name in ((machine, "default"), (other, "other")):
            assert each.run(f"ray.init(address={name!r})" + TASK) == ["8"]
            each.done("stop")
        assert _keys(server) == []

        machine.done("start", "--head", "--num-cpus", "1", "--control", url)
        folder = next(machine.runtime.glob("ray-*/*/keeper.json")).parent
        [node] = machine.status()["nodes"]
        os.kill(int((folder / "node.pid").read_text().split()[0]), signal.SIGKILL)
        eventually(lambda: not alive(node["pid"]), LIMIT_S, "the node ends with its keeper")
        assert machine.names() == []
        machine.done("start", "--head", "--num-cpus", "1", "--control", url)  # the name is free
        machine.done("stop")
    finally:
        server.close()


@pytest.mark.slow
def test_a_server_that_does_not_answer(machine):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    said = machine.refused(1, "start", "--head", "--control", f"redis://127.0.0.1:{port}")
    assert f"redis://127.0.0.1:{port}" in said
    assert machine.names() == []


def _keys(server: RedisUnderTest) -> list[bytes]:
    """What is to stay there: without that which goes by itself."""
    with server.administrator() as client:
        return [key for key in client.keys("*") if client.pttl(key) < 0]
