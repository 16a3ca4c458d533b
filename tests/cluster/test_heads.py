"""The node manager of the head dies, and a cluster goes on without it until there is another one."""

from __future__ import annotations

import os
import signal
import time

import pytest
from tests.commands import LIMIT_S, Machine
from tests.victims import alive

import ray
from ray.testing import eventually

#: A bound of tests, not the promise.
SEEN_S = 10.0


def start(machine: Machine, *names: str) -> dict[str, dict]:
    """Start a cluster whose head offers nothing, and these nodes of two CPUs; returns what the status says of each."""
    machine.done("start", "--head", "--num-cpus", "1", "--node-name", "head", "--resources", "head=1")
    for name in names:
        machine.done("start", "--address", "auto", "--num-cpus", "2", "--node-name", name, "--resources", f"{name}=8")
    return nodes(machine)


def nodes(machine: Machine) -> dict[str, dict]:
    found = machine.status()["nodes"]
    return {each["node_name"]: each for each in found if each["state"] == "alive" and "node_name" in each}


@ray.remote
def work(number: int, seconds: float) -> tuple[int, str]:
    time.sleep(seconds)
    return number, ray.get_runtime_context().node_id


@ray.remote(max_restarts=1, max_task_retries=-1)
class Counter:
    def __init__(self) -> None:
        self.count = 0

    def add(self) -> tuple[int, int]:
        self.count += 1
        return self.count, os.getpid()


def test_others_outlive_the_node_manager_of_the_head(machine: Machine) -> None:
    """What runs between them goes on; what the head had runs again elsewhere; the next head knows them all."""
    before = start(machine, "a", "b")
    head = before["head"]["pid"]
    with ray.init(f"unix:{before['a']['session_dir']}"):
        counter = Counter.options(resources={"b": 1}).remote()
        _, pid = ray.get(counter.add.remote(), timeout=LIMIT_S)
        long = [work.options(resources={name: 1}, max_retries=0, num_cpus=0).remote(0, 8) for name in "ab"]
        many = [work.options(num_cpus=1).remote(number, 0.05) for number in range(100)]
        time.sleep(0.5)
        os.kill(head, signal.SIGKILL)
        killed = time.monotonic()
        assert [number for number, _ in ray.get(many, timeout=LIMIT_S)] == list(range(100))
        while time.monotonic() < killed + 8:  # longer than a node lives that nobody hears
            began = time.monotonic()
            assert ray.get(counter.add.remote(), timeout=LIMIT_S)[1] == pid
            assert time.monotonic() - began < 3
            time.sleep(0.05)
        assert [node for _, node in ray.get(long, timeout=LIMIT_S)] == [before[name]["node_id"] for name in "ab"]

        def is_whole() -> bool:
            rows = {row["NodeID"]: row["Alive"] for row in ray.nodes()}
            return list(rows.values()).count(True) == 3 and rows[before["head"]["node_id"]] is False

        eventually(is_whole, LIMIT_S, "the next head is known")
        after = nodes(machine)
        assert {name: after[name]["pid"] for name in "ab"} == {name: before[name]["pid"] for name in "ab"}
        assert {name: after[name]["node_id"] for name in "ab"} == {name: before[name]["node_id"] for name in "ab"}
        assert after["head"]["pid"] != head
        assert after["head"]["is_head"]
        again = work.options(resources={"head": 1}).remote(1, 0)
        assert ray.get(again, timeout=LIMIT_S) == (1, after["head"]["node_id"])
        machine.done("start", "--address", "auto", "--num-cpus", "1", "--node-name", "c")
        eventually(lambda: sum(row["Alive"] for row in ray.nodes()) == 4, LIMIT_S, "one more is known")


def test_a_driver_at_the_head_is_told(machine: Machine) -> None:
    """Its node was lost, and it may join another one."""
    before = start(machine, "a")
    with machine.program(
        f"""
        ray.init("unix:{before["head"]["session_dir"]}")

        @ray.remote(resources={{"a": 1}})
        def forever():
            time.sleep(600)

        ref = forever.remote()
        print("begun", flush=True)
        for what in (lambda: ray.get(ref), lambda: ray.put(1), lambda: forever.remote()):
            try:
                what()
            except ray.exceptions.NodeDiedError as error:
                print(error, flush=True)
        ray.shutdown()
        ray.init("unix:{before["a"]["session_dir"]}")
        print(ray.get(ray.put(8)), flush=True)
        """
    ) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "begun\n"
        time.sleep(0.5)
        os.kill(before["head"]["pid"], signal.SIGKILL)
        killed = time.monotonic()
        for _ in range(3):
            assert driver.stdout.readline().startswith(f"The node {before['head']['node_id']} died: ")
        assert time.monotonic() - killed < SEEN_S
        assert driver.stdout.readline() == "8\n"
        assert driver.wait(LIMIT_S) == 0


@pytest.mark.slow
def test_what_dies_while_nobody_directs_is_found_dead(machine: Machine) -> None:
    """And one that wants to join meanwhile is let in by the next head."""
    before = start(machine, "a", "b")
    for name in ("head", "b"):
        os.kill(before[name]["pid"], signal.SIGKILL)
    joining = machine.start("start", "--address", "auto", "--num-cpus", "1", "--node-name", "c")
    out, err = joining.communicate(timeout=LIMIT_S)
    assert joining.returncode == 0, out + err

    def is_whole() -> bool:
        found = nodes(machine)
        return found.keys() == {"head", "a", "c"} and found["head"]["pid"] != before["head"]["pid"]

    eventually(is_whole, LIMIT_S, "the dead one is known to be dead, the new one to be alive")
    assert nodes(machine)["a"]["pid"] == before["a"]["pid"]
    assert alive(before["a"]["pid"])


@pytest.mark.slow
def test_heads_that_die_again_and_again(machine: Machine) -> None:
    before = start(machine, "a", "b")
    with ray.init(f"unix:{before['a']['session_dir']}"):
        counter = Counter.options(resources={"b": 1}).remote()
        _, pid = ray.get(counter.add.remote(), timeout=LIMIT_S)
        for _ in range(4):
            head = nodes(machine)["head"]
            os.kill(head["pid"], signal.SIGKILL)
            eventually(lambda head=head: not alive(head["pid"]), LIMIT_S, "it is gone")
            eventually(lambda: "head" in nodes(machine), LIMIT_S, "there is another one")
            assert ray.get(counter.add.remote(), timeout=LIMIT_S)[1] == pid
        assert sum(row["Alive"] for row in ray.nodes()) == 3
        assert len({row["NodeID"] for row in ray.nodes()}) == 7


@pytest.mark.slow
def test_a_head_that_stands_still_is_replaced(machine: Machine) -> None:
    """Its zygote ends it. Meanwhile the others show in the control store that they live."""
    before = start(machine, "a", "b")
    with ray.init(f"unix:{before['a']['session_dir']}"):
        counter = Counter.options(resources={"b": 1}).remote()
        _, pid = ray.get(counter.add.remote(), timeout=LIMIT_S)
        os.kill(before["head"]["pid"], signal.SIGSTOP)
        stopped = time.monotonic()
        eventually(lambda: not alive(before["head"]["pid"]), LIMIT_S, "it is ended")
        assert time.monotonic() - stopped > 6
        eventually(lambda: sum(row["Alive"] for row in ray.nodes()) == 3, LIMIT_S, "there is another head")
        time.sleep(max(0.0, stopped + 12 - time.monotonic()))
        assert ray.get(counter.add.remote(), timeout=LIMIT_S) == (2, pid)
    after = nodes(machine)
    assert {name: after[name]["pid"] for name in "ab"} == {name: before[name]["pid"] for name in "ab"}


def test_nodes_of_other_machines_are_told_that_the_head_was_stopped(machines) -> None:
    """They neither wait for it nor take themselves for cut off."""
    head, other = machines(), machines()
    head.done("start", "--head", "--num-cpus", "1")
    other.take_key(head)
    other.done("start", "--address", head.address(), "--num-cpus", "1")
    [own] = other.runtime.glob("ray-*/*")

    def works_on() -> None:
        while True:
            ray.get(work.remote(1, 0.1), timeout=SEEN_S)

    with ray.init(f"unix:{own}"):
        head.done("stop")
        stopped = time.monotonic()
        with pytest.raises(ray.exceptions.RayError, match="the cluster was stopped where its head is"):
            works_on()
        assert time.monotonic() < stopped + 5.0, "before it could have taken itself for cut off"
    other.key_path().unlink()
