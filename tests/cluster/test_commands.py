"""``ray start``, ``ray stop``, ``ray status`` and ``ray wait``, with programs that join what they start."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from tests.commands import LIMIT_S
from tests.programs import REMOTE_PARTS
from tests.quick import first_of
from tests.redis_servers import RedisUnderTest
from tests.victims import alive

from ray.testing import eventually

TASK = """
@ray.remote
def double(number):
    return 2 * number
print(ray.get(double.remote(4)))
"""


ASK = """
try:
    ray.init(address={0!r})
except ray.exceptions.RayError as error:
    print(error)
"""


def pids(machine) -> list[int]:
    """Of all that has its session directory there: node managers and keepers."""
    found = []
    for path in machine.runtime.glob("ray-*/*/node.pid"):
        with contextlib.suppress(FileNotFoundError, IndexError):  # it goes, or comes, at this moment
            found.append(int(path.read_text().split()[0]))
    return found


def test_one_machine(machine):
    said = machine.done("start", "--head", "--num-cpus", "2", "--resources", "disk=3", "--labels", "zone=a")
    address = machine.address()
    assert f"Cluster 'default' runs at {address}; its key file is {machine.key_path()}." in said
    assert f'ray.init(address="{address}")' in said
    assert "ray stop --name default" in said
    assert f"ray start --address={address}" in said
    assert said.endswith("for a cluster of several, start it with --host ADDRESS.\n")
    assert "Whoever has the key file can run programs on all nodes; on this one as user " in said
    key = machine.key()
    for secret in (key["password"], key["hmac_key"], key["curve"]["server_secret"], key["curve"]["client_secret"]):
        assert secret not in said
        for pid in pids(machine):
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
    before = pids(machine)
    for given in (address, f"localhost:{address.split(':')[1]}", "default", "auto"):
        assert machine.run(f"ray.init(address={given!r})" + TASK) == ["8"]
    machine.environ["RAY_ADDRESS"] = address
    assert machine.run("ray.init()" + TASK) == ["8"]
    del machine.environ["RAY_ADDRESS"]
    assert pids(machine) == before

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


@pytest.mark.slow
def test_an_interrupted_start_leaves_nothing(machine):
    for after_s in (0.3, 0.8, 1.3):
        start = machine.start("start", "--head", "--num-cpus", "1", "--block")
        time.sleep(after_s)
        start.send_signal(signal.SIGINT)
        start.communicate(timeout=LIMIT_S)
        assert start.returncode in (130, 1, -signal.SIGINT)
        eventually(lambda: machine.names() == [], LIMIT_S, "the key file is gone")
        eventually(lambda: pids(machine) == [], LIMIT_S, "the processes are gone")


@pytest.mark.parametrize("how", first_of(["SIGTERM", "SIGINT", "SIGKILL"]))
def test_in_the_foreground(machine, how):
    code = {"SIGTERM": 0, "SIGINT": 130, "SIGKILL": -9}[how]
    start = machine.start("start", "--head", "--num-cpus", "1", "--block")
    assert start.stdout.readline().startswith("Cluster 'default' runs at ")
    machine.done("wait", "--timeout", "30")
    start.send_signal(getattr(signal, how))
    start.communicate(timeout=LIMIT_S)
    assert start.returncode == code
    eventually(lambda: machine.names() == [], LIMIT_S, "the key file is gone")
    eventually(lambda: pids(machine) == [], LIMIT_S, "the processes are gone")


@pytest.mark.slow
def test_in_the_foreground_until_it_is_stopped(machine):
    start = machine.start("start", "--head", "--num-cpus", "1", "--block")
    assert start.stdout.readline()
    join = machine.start("start", "--address", "default", "--num-cpus", "1", "--node-name", "second", "--block")
    assert join.stdout.readline() == "Node 'second' of cluster 'default' runs, at 127.0.0.1.\n"
    assert machine.done("stop", "--node", "second") == "Stopped 1 node of cluster 'default'.\n"
    join.communicate(timeout=LIMIT_S)
    assert join.returncode == 0
    assert [node["is_head"] for node in machine.status()["nodes"] if node["state"] == "alive"] == [True]
    assert "no node 'second'" in machine.refused(3, "stop", "--node", "second")
    machine.done("stop")
    start.communicate(timeout=LIMIT_S)
    assert start.returncode == 0


@pytest.mark.slow
def test_what_stands_still_is_killed(machine):
    machine.done("start", "--head", "--num-cpus", "1")
    stopped = pids(machine)
    assert len(stopped) == 2
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    finished = machine.ray("stop")
    assert finished.returncode == 0
    assert re.fullmatch(r"What did not end within 5 s was killed: \d+(, \d+)?\.\n", finished.stderr)
    assert not any(map(alive, stopped))
    assert machine.names() == []


def test_a_keeper_that_is_killed(machine):
    """Its Redis ends with it, and so do the nodes. The next cluster of that name begins as if nothing had been."""
    machine.done("start", "--head", "--num-cpus", "1")
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


@pytest.mark.parametrize("whole", [(), ("--cluster",)], ids=["nodes", "cluster"])
def test_what_a_killed_keeper_has_left_is_ended(machine, whole):
    """And until then nobody is told that its head is alive."""
    machine.done("start", "--head", "--num-cpus", "1", "--node-name", "first")
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


@pytest.mark.parametrize("way", first_of(["stop", "start", "init"], 2))
def test_what_was_killed_at_its_start_is_taken_away(machine, way):
    """By the next command or program: nobody else is there who would."""
    machine.done("start", "--head", "--num-cpus", "1")
    before, there = pids(machine), set(machine.runtime.glob("ray-*/*"))
    join = machine.start("start", "--address", "auto", "--num-cpus", "1")

    def begun() -> list[int]:
        return [pid for pid in pids(machine) if pid not in (*before, join.pid)]

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


@pytest.mark.parametrize("wait_s", first_of([0.3, 0.1, 0.5, 0.8]))
@pytest.mark.parametrize("block", [(), ("--block",)], ids=["leaves", "stays"])
def test_sigterm_while_a_node_starts(machine, block, wait_s):
    """Nothing of it is left, at whatever moment; and no file with the password."""
    machine.done("start", "--head", "--num-cpus", "1")
    before = set(pids(machine))
    join = machine.start("start", "--address", "auto", "--num-cpus", "1", *block)
    time.sleep(wait_s)
    join.send_signal(signal.SIGTERM)
    said, _ = join.communicate(timeout=LIMIT_S)
    assert join.returncode in (0, 130, -signal.SIGTERM)  # the last: Python itself was still starting
    left = set(pids(machine)) - before
    if block or "runs, at" not in said:
        assert not left
    elif join.returncode == 0:  # it was faster
        assert len(left) == 1
    assert list(machine.runtime.rglob("access.json")) == list(machine.runtime.rglob("redis/access.json"))


def test_the_end_of_the_head_is_that_of_the_others(machine):
    machine.done("start", "--head", "--num-cpus", "1", "--node-name", "first")
    machine.done("start", "--address", "auto", "--num-cpus", "1", "--node-name", "second")
    said = machine.done("stop", "--node", "first")
    assert said == "Stopped 2 nodes of cluster 'default', and the cluster has ended.\n"
    assert pids(machine) == []
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


def test_a_reader_that_hears_the_first_line_only(machine):
    """The node runs, whoever listens."""
    for what in (["--head"], ["--address", "auto", "--node-name", "second"]):
        start = machine.start("start", *what, "--num-cpus", "1", stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        start.stdout.close()
        assert start.wait(LIMIT_S) == 0
    assert [node["state"] for node in machine.status()["nodes"]] == ["alive"] * 2


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
    other.key_path().parent.mkdir(parents=True, mode=0o700)
    other.key_path().write_bytes(head.key_path().read_bytes())
    os.chmod(other.key_path(), 0o600)
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
    other.key_path().parent.mkdir(parents=True, mode=0o700)
    other.key_path().write_bytes(head.key_path().read_bytes())
    os.chmod(other.key_path(), 0o600)
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


def test_the_example_of_the_page_runs(machine):
    """``docs/cluster.md``."""
    text = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text()
    example = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[0]
    said = machine.done("start", "--head")
    for line in re.findall(r"^```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[0].splitlines():
        shown = line.replace("/home/me/.ray/clusters/default.json", str(machine.key_path()))
        assert shown.replace("127.0.0.1:6379", machine.address()) in said
    assert machine.run(example.replace("127.0.0.1:6379", machine.address())) == ["[0, 1, 4, 9]"]


def _listens(address: str) -> bool:
    host, _, port = address.partition(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except OSError:
        return False
    return True


def _keys(server: RedisUnderTest) -> list[bytes]:
    """What is to stay there: without that which goes by itself."""
    with server.administrator() as client:
        return [key for key in client.keys("*") if client.pttl(key) < 0]
