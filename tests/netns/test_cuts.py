"""A network that is gone for a while: a short cut is no error, and nothing runs twice."""

from __future__ import annotations

import contextlib
import time

import pytest
from tests.netns.test_hosts import start_cluster

from ray.testing import eventually

PROGRAM = """
    ray.init({address!r})

    @ray.remote(resources={{"far": 1}}, num_cpus=0)
    def tick(number):
        with open({path!r}, "a") as file:
            file.write(f"{{number}}\\n")
        time.sleep(0.02)
        return number

    @ray.remote(resources={{"far": 1}}, num_cpus=0)
    class Counter:
        def __init__(self):
            self.count = 0

        def add(self):
            self.count += 1
            return self.count

    counter = Counter.remote()
    assert ray.get(counter.add.remote()) == 1
    print("ready", flush=True)
    end = time.monotonic() + {seconds}
    number = calls = 0
    while time.monotonic() < end:
        assert ray.get([tick.remote(number + i) for i in range(4)]) == list(range(number, number + 4))
        number += 4
        calls += 1
        assert ray.get(counter.add.remote()) == calls + 1
    print(number)
"""


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("seconds", [1.0, 3.0, 5.0])
@pytest.mark.parametrize("way", ["both", "out", "in"])
def test_a_short_cut_is_no_error(network, tmp_path, way, seconds):
    head, second, _ = start_cluster(network)
    path = tmp_path / "ran"
    program = head.program(PROGRAM.format(address=f"{head.address_of_host}:6379", path=str(path), seconds=seconds + 9))
    assert program.stdout.readline() == "ready\n"
    time.sleep(0.5)
    host = head if way == "in" else second
    with contextlib.ExitStack() as stack:
        if way == "both":
            second.net.cut()
            stack.callback(second.net.cut, False)
        else:
            stack.enter_context(host.net.dropping(f"ip daddr {(second if way == 'in' else head).address_of_host}"))
        time.sleep(seconds)
    out, err = program.communicate(timeout=60)
    assert program.returncode == 0, err
    ran = path.read_text().split()
    assert sorted(map(int, ran)) == list(range(int(out)))
    assert [node["state"] for node in head.status()["nodes"]] == ["alive"] * 3


LOST = """
    ray.init({address!r})

    @ray.remote(resources={{"far": 1}}, num_cpus=0, max_retries=0)
    def sleeper():
        time.sleep(1000)

    ref = sleeper.remote()
    time.sleep(1)
    print("ready", flush=True)
    began = time.monotonic()
    try:
        ray.get(ref)
    except ray.exceptions.NodeDiedError as error:
        print(type(error).__name__, time.monotonic() - began, error, sep="\\n", flush=True)
"""


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_long_cut_is_the_end_of_a_node(network):
    """The others learn of it within ten seconds. It has ended by itself before, with all that ran there."""
    head, second, _ = start_cluster(network)
    address = f"{head.address_of_host}:6379"
    far, near = second.program(LOST.format(address=address)), head.program(LOST.format(address=address))
    for program in (far, near):
        assert program.stdout.readline() == "ready\n"
    second.net.cut()
    began = time.monotonic()
    eventually(lambda: set(second.net.processes()) <= {far.pid}, 30, "nothing of the node is left")
    assert 6 < time.monotonic() - began < 9.5
    out, err = near.communicate(timeout=30)
    assert out.startswith("NodeDiedError\n"), err
    assert 6 < float(out.splitlines()[1]) < 12
    out, err = far.communicate(timeout=30)
    assert "this machine was cut off from the cluster for 7." in out + err, out + err
    second.net.cut(False)
    assert [node["state"] for node in head.status()["nodes"]].count("alive") == 2
    second.done("start", "--address", address, "--num-cpus", "1")
    assert [node["state"] for node in head.status()["nodes"]].count("alive") == 3
